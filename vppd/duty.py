"""One tick as a sum: what is owed, who does how much. Pure; `tick.py` gives it time and the gate.

plans -> base point (ramped) --+
                               +--> shares over the units' room -> requests
frequency -> droop ------------+
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from vppd.campus.dispatch import STRATEGIES, member
from vppd.campus.plans import Base, base_of, pins_of
from vppd.campus.share import Ask, rest_kw, share, with_reactive
from vppd.core.alarms import Code
from vppd.core.asset import Asset
from vppd.core.envelope import slew
from vppd.core.model import SITE, Clamp, Limit, Plan, Point, Request, Snapshot, UnitId
from vppd.core.settings import BandSettings, DroopSettings
from vppd.grid.droop import DroopAnswer, DroopMemory, answer, fitness
from vppd.grid.frequency import Frequency, choose

TICK_MAX_S = 0.2  # no ramp counts more elapsed time than this in one tick
SHORT_KW = 0.05
UNBOUND = (math.inf, math.inf)


@dataclass(frozen=True, slots=True)
class Duty:
    """The settings of a tick."""

    assets: tuple[Asset, ...]
    pmus: tuple[UnitId, ...]
    bands: BandSettings
    droop: DroopSettings
    connection: Limit
    strategy: str

    @property
    def droop_max_kw(self) -> float:
        """P_max: as configured, else the sum of the ratings."""
        return self.droop.max_power_kw or sum(asset.rated_kw for asset in self.assets)


@dataclass(frozen=True, slots=True)
class Memory:
    """What one tick hands to the next."""

    now_s: float = 0.0
    base_kw: float = 0.0
    pins_kw: Mapping[UnitId, float] = field(default_factory=dict)
    bases_kw: Mapping[UnitId, float] = field(default_factory=dict)  # base part of each unit
    droop: DroopMemory = field(default_factory=DroopMemory)


@dataclass(frozen=True, slots=True)
class Owed:
    """What is owed at this instant and how it is shared."""

    base: Base
    base_kw: float
    frequency: Frequency | None
    droop: DroopAnswer
    requests: tuple[Request, ...]
    clamps: tuple[Clamp, ...]


def owe(
    now: Snapshot,
    plans: Sequence[Plan],
    rooms: Mapping[UnitId, Limit],
    duty: Duty,
    memory: Memory,
    reaches_kw: Mapping[UnitId, tuple[float, float]] = MappingProxyType({}),
) -> tuple[Owed, Memory]:
    """Base point plus droop, shared over the room each unit has now.

    `reaches_kw` is how far each unit's ramp can take its base now, in and out; a unit without one
    is not bounded by a ramp.
    """
    dt_s = min(max(now.now_s - memory.now_s, 0.0), TICK_MAX_S)
    base, pins = base_of(plans), pins_of(plans)
    steps_kw = {asset.id: asset.safety.ramp_max_kw_per_s * dt_s for asset in duty.assets}
    target_kw = _within(base.power_kw, sum(asset.rated_kw for asset in duty.assets))
    able = [id_ for id_, room in rooms.items() if room.low_kw < 0.0 or room.high_kw > 0.0]
    given = {id_: _given(room, reaches_kw.get(id_, UNBOUND)) for id_, room in rooms.items()}
    low_kw, high_kw = (sum(each) for each in zip(*given.values(), strict=True))
    from_kw = _unwound(memory.base_kw, target_kw, (low_kw, high_kw))
    base_kw = slew(from_kw, target_kw, sum(steps_kw[id_] for id_ in able or steps_kw))
    pins_kw = _pinned(memory, pins, duty.assets, steps_kw, given)
    frequency = choose(now, duty.pmus, tuple(steps_kw), duty.bands)
    fits = {asset.id: fitness(now, asset, duty.droop) for asset in duty.assets}
    droop = answer(
        frequency,
        duty.droop,
        duty.droop_max_kw,
        [fits[id_] for id_ in able],
        _beside(duty, base_kw, now.fresh(SITE, Point.LOAD_KW) or 0.0),
        now.now_s,
        memory.droop,
    )
    ask = Ask(
        base_kw,
        pins_kw,
        droop.asked_kw,
        {id_: fit.share(droop.asked_kw) for id_, fit in fits.items()},
        frozenset(id_ for id_, plan in pins.items() if plan.droop),
        base.planned or base_kw != 0.0,
    )
    members = [
        member(now, asset, rooms[asset.id], reaches_kw.get(asset.id, UNBOUND))
        for asset in duty.assets
    ]
    strategy = STRATEGIES.get(base.strategy or "", STRATEGIES[duty.strategy])
    shares = share(ask, members, strategy)
    requests = with_reactive(
        shares.requests,
        base.reactive_kvar,
        {id_: pins[id_].reactive_kvar if id_ in pins else 0.0 for id_ in pins_kw},
        {asset.id: asset.apparent_kva for asset in duty.assets},
    )
    clamps = list(droop.clamps)
    room_kw = sum(each.room_kw(base_kw) for each in members)
    short = Code.RAMP if room_kw >= abs(base_kw) else Code.ROOM
    for why, short_kw, asked_kw in (
        (Code.ROOM, shares.short_droop_kw, droop.asked_kw),
        (short, shares.short_base_kw, base_kw),
    ):
        if abs(short_kw) > SHORT_KW:
            clamps.append(Clamp(why, asked_kw, asked_kw - short_kw))
    if target_kw != base.power_kw:
        clamps.append(Clamp(Code.ROOM, base.power_kw, target_kw, "the sum of the ratings"))
    planned_kw = rest_kw(ask) + sum(pins_kw.values())
    owed = Owed(base, planned_kw, frequency, droop, requests, tuple(clamps))
    bases_kw = {request.unit: request.base_kw for request in requests}
    return owed, Memory(now.now_s, base_kw, pins_kw, bases_kw, droop.memory)


def _within(power_kw: float, rated_kw: float) -> float:
    """No target is beyond the ratings: a ramp that ran ahead of them would be long in returning."""
    return min(max(power_kw, -rated_kw), rated_kw)


def _given(room: Limit, reach_kw: tuple[float, float]) -> tuple[float, float]:
    """The most that a unit can be giving now each way, kW: within its room and its ramp."""
    return max(room.low_kw, -reach_kw[0]), min(room.high_kw, reach_kw[1])


def _unwound(from_kw: float, target_kw: float, given: tuple[float, float]) -> float:
    """Where a ramp starts that ran ahead of what could be given: on its way back it does not unwind
    what nobody gave, or a unit that is freed meanwhile would move the wrong way."""
    low_kw, high_kw = given
    if target_kw < from_kw:
        return min(from_kw, max(high_kw, target_kw))
    return max(from_kw, min(low_kw, target_kw))


def _pinned(
    memory: Memory,
    pins: Mapping[UnitId, Plan],
    assets: Sequence[Asset],
    steps_kw: Mapping[UnitId, float],
    given: Mapping[UnitId, tuple[float, float]],
) -> dict[UnitId, float]:
    """Each pin ramped from what its unit gave; one whose plan is gone ramps out and then joins the
    others again."""
    pinned: dict[UnitId, float] = {}
    for asset in assets:
        id_ = asset.id
        if id_ in pins or id_ in memory.pins_kw:
            target_kw = _within(pins[id_].power_kw, asset.rated_kw) if id_ in pins else 0.0
            from_kw = _unwound(memory.bases_kw.get(id_, 0.0), target_kw, given[id_])
            at_kw = slew(from_kw, target_kw, steps_kw[id_])
            if id_ in pins or at_kw != 0.0:
                pinned[id_] = at_kw
    return pinned


def _beside(duty: Duty, base_kw: float, load_kw: float) -> Limit:
    """What the connection leaves for droop beside the base and the other measured load."""
    if not duty.droop.load_adaptive:
        return Limit(-float("inf"), float("inf"), Code.DROOP_LOAD)
    left_kw = load_kw - base_kw
    low_kw, high_kw = duty.connection.low_kw + left_kw, duty.connection.high_kw + left_kw
    return Limit(min(low_kw, 0.0), max(high_kw, 0.0), Code.DROOP_LOAD)
