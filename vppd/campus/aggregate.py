"""One record for every level: node, building, campus, city, state and country alike. Pure.

A record of a place is the sum of the records below it; nothing is measured twice. A sum with an
unknown part is unknown (None), and the nodes that make it so are named. Of many sites one is always
unknown: an aggregator leaves it out of the sum, and names it all the same.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from vppd.campus.hierarchy import Capacity, Level, Place
from vppd.campus.losses import LossModel
from vppd.core.alarms import Level as Severity
from vppd.core.model import Limit, UnitId


@dataclass(frozen=True, slots=True)
class Worst:
    """The worst standing alarm."""

    level: Severity
    code: str
    unit: str


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What one place does. Powers are kW and kvar, positive towards the grid; `power_kw` is of the
    units alone, `auxiliary_kw` what the buildings take besides, which is counted off
    `available_discharge_kw`: it never reaches the grid. `stored_kwh` is SoC x energy."""

    level: Level
    id: str
    name: str = ""
    power_kw: float | None = 0.0
    reactive_kvar: float | None = 0.0
    setpoint_kw: float | None = 0.0
    rated_kw: float = 0.0
    energy_kwh: float = 0.0
    stored_kwh: float | None = 0.0
    soc_pct: float | None = None  # weighted by energy
    available_up_kw: float | None = 0.0  # more out than now; limits of this level counted
    available_down_kw: float | None = 0.0
    available_discharge_kw: float | None = 0.0
    available_charge_kw: float | None = 0.0
    available_discharge_kwh: float | None = 0.0
    available_charge_kwh: float | None = 0.0
    losses_kw: float | None = 0.0  # modelled, at the measured power
    auxiliary_kw: float = 0.0
    nodes: int = 0
    states: Mapping[str, int] = field(default_factory=dict)
    worst_alarm: Worst | None = None
    unknown: tuple[UnitId, ...] = ()
    children: tuple["Telemetry", ...] = ()


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What is known of one node."""

    power_kw: float | None
    reactive_kvar: float | None
    setpoint_kw: float | None
    soc_pct: float | None
    state: str
    capacity: Capacity


@dataclass(frozen=True, slots=True)
class World:
    """All that the records are made of. `alarms` gives the standing ones of a scope."""

    nodes: Mapping[UnitId, NodeFacts]
    losses: LossModel
    capacities: Mapping[tuple[Level, str], Capacity]
    connection: Limit
    alarms: Callable[[str], Sequence[Worst]]
    partial: bool = False  # what is not known is left out of a sum
    left_out: frozenset[UnitId] = frozenset()  # wholly: named, but of no state and no rating


def telemetry(place: Place, world: World) -> Telemetry:
    """The record of a place with those of all below it."""
    below = [telemetry(child, world) for child in place.children]
    below += [node_record(id_, world) for id_ in place.nodes if id_ in world.nodes]
    summed = _sum(place, below, world)
    wires = world.losses.behind(place.id) if place.level is Level.BUILDING else None
    if wires is not None:
        through_kw = summed.power_kw
        lost = None
        if summed.losses_kw is not None and through_kw is not None:
            lost = summed.losses_kw + wires.loss_kw(through_kw)
        summed = replace(summed, losses_kw=lost, auxiliary_kw=wires.auxiliary_kw)
    capacity = world.capacities[place.level, place.id]
    own = () if place.level is Level.COUNTRY else world.alarms(place.id)
    site = world.alarms("site") if place.level is Level.COUNTRY else ()
    return replace(
        _available(summed, capacity),
        worst_alarm=_worst([summed.worst_alarm, *own, *site]),
    )


def node_record(id_: UnitId, world: World) -> Telemetry:
    """The record of one node."""
    facts = world.nodes[id_]
    capacity = facts.capacity
    stored_kwh = None
    if facts.soc_pct is not None:
        stored_kwh = facts.soc_pct / 100.0 * capacity.energy_kwh
    lost_kw = None
    if facts.power_kw is not None:
        lost_kw = world.losses.curve(id_).loss_kw(facts.power_kw)
    made = Telemetry(
        Level.NODE,
        id_,
        "",
        facts.power_kw,
        facts.reactive_kvar,
        facts.setpoint_kw,
        capacity.rated_power_kw,
        capacity.energy_kwh,
        stored_kwh,
        facts.soc_pct,
        losses_kw=lost_kw,
        nodes=1,
        states={facts.state: 1},
        worst_alarm=_worst(world.alarms(id_)),
        unknown=(id_,) if facts.power_kw is None or facts.soc_pct is None else (),
    )
    return _available(made, capacity)


def _sum(place: Place, below: Sequence[Telemetry], world: World) -> Telemetry:
    def added(values: Iterable[float | None]) -> float | None:
        known = [each for each in values if each is not None]
        return sum(known) if world.partial else _all(list(values))

    stored_kwh = added([each.stored_kwh for each in below])
    known_kwh = sum(
        each.energy_kwh for each in below if each.soc_pct is not None or not world.partial
    )
    states: Counter[str] = Counter()
    for each in below:
        states.update(each.states)
    return Telemetry(
        place.level,
        place.id,
        place.name,
        added([each.power_kw for each in below]),
        added([each.reactive_kvar for each in below]),
        added([each.setpoint_kw for each in below]),
        sum(each.rated_kw for each in below),
        sum(each.energy_kwh for each in below),
        stored_kwh,
        100.0 * stored_kwh / known_kwh if stored_kwh is not None and known_kwh > 0.0 else None,
        losses_kw=added([each.losses_kw for each in below]),
        auxiliary_kw=sum(each.auxiliary_kw for each in below),
        nodes=sum(each.nodes for each in below),
        states=dict(sorted(states.items())),
        worst_alarm=_worst([each.worst_alarm for each in below]),
        unknown=(
            *(id_ for each in below for id_ in each.unknown),
            *(id_ for id_ in place.nodes if id_ in world.left_out),
        ),
        children=tuple(below),
    )


def _available(made: Telemetry, capacity: Capacity) -> Telemetry:
    out_kw, in_kw = capacity.available_discharge_kw, capacity.available_charge_kw
    at_kw = made.power_kw
    return replace(
        made,
        available_up_kw=_left(out_kw, at_kw, 1),
        available_down_kw=_left(in_kw, at_kw, -1),
        available_discharge_kw=None if out_kw is None else max(out_kw - made.auxiliary_kw, 0.0),
        available_charge_kw=in_kw,
        available_discharge_kwh=capacity.available_discharge_kwh,
        available_charge_kwh=capacity.available_charge_kwh,
    )


def _left(able_kw: float | None, at_kw: float | None, sign: int) -> float | None:
    if able_kw is None or at_kw is None:
        return None
    return max(able_kw - sign * at_kw, 0.0)


def _all(values: Sequence[float | None]) -> float | None:
    known = [each for each in values if each is not None]
    return sum(known) if len(known) == len(values) else None


def _worst(alarms: Sequence[Worst | None]) -> Worst | None:
    known = [each for each in alarms if each is not None]
    return max(known, key=lambda each: each.level, default=None)
