"""From what the site owes to what each unit is asked: base, pins and droop over the units' room.

Base and droop that pull the same way are shared one after the other, droop by fitness. When they
pull against each other their sum is shared, so that no unit charges while another discharges.
Every limit of the tree (feeders, connection) is kept to at its place, so that the gate has nothing
to cut and units elsewhere make up for it at once; what is pinned counts against it. Whoever is held
back by one is told so. Pure; kW, positive towards the grid.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from operator import is_

from vppd.campus.dispatch import Branch, Member, Strategy, bounds_of
from vppd.campus.pour import by_weight, in_tree, places
from vppd.campus.tree import fitted, held_back
from vppd.core.model import Request, UnitId


@dataclass(frozen=True, slots=True)
class Shares:
    """The requests of one tick, and what could not be shared for want of room."""

    requests: tuple[Request, ...]
    short_base_kw: float
    short_droop_kw: float

    @property
    def held(self) -> bool:
        """Whether a limit of the tree holds somebody back."""
        return any(request.held_by for request in self.requests)


@dataclass(frozen=True, slots=True)
class Ask:
    """What is to be shared: the site's base, what is pinned to units, and droop on top."""

    base_kw: float
    pins_kw: Mapping[UnitId, float]
    droop_kw: float
    fitness: Mapping[UnitId, float]  # 0 to 1, of each unit, in the direction of droop
    droop_on_pins: frozenset[UnitId] = frozenset()
    planned: bool = True


def rest_kw(ask: Ask) -> float:
    """The base that the unpinned units carry: never against the site's own direction."""
    rest = ask.base_kw - sum(ask.pins_kw.values())
    if not ask.planned:
        return 0.0
    return max(rest, 0.0) if ask.base_kw >= 0.0 else min(rest, 0.0)


def share(
    ask: Ask, members: Sequence[Member], strategy: Strategy, branches: Sequence[Branch] = ()
) -> Shares:
    """One tick's requests, one for each member; `branches` are the limits of the tree, leaves
    first."""
    free = [each for each in members if each.id not in ask.pins_kw] if ask.pins_kw else members
    base_kw = rest_kw(ask)
    pinned_kw = _pinned(ask, members, branches)
    if base_kw * ask.droop_kw < 0.0:
        base, droop = _opposed(base_kw, ask.droop_kw, free, strategy, branches, pinned_kw)
    else:
        base = strategy(base_kw, free, bounds_of(branches, base_kw, pinned_kw))
        droop = _spread(ask, members, base, branches, pinned_kw)
    short_base_kw = base_kw - sum(base.values())
    short_droop_kw = ask.droop_kw - sum(droop.values())
    powers_kw = {id_: each_kw + droop.get(id_, 0.0) for id_, each_kw in base.items()}
    for id_, pin_kw in pinned_kw.items():
        powers_kw[id_] = pin_kw + droop.get(id_, 0.0)
    held = held_back(
        powers_kw, free, branches, base_kw + ask.droop_kw, short_base_kw + short_droop_kw
    )
    base.update(ask.pins_kw)
    ids = [each.id for each in members]
    columns = zip(
        ids,
        map(base.get, ids, repeat(0.0)),
        map(droop.get, ids, repeat(0.0)),
        repeat(0.0),
        map(held.get, ids, repeat(())),
    )
    return Shares(tuple(map(Request._make, columns)), short_base_kw, short_droop_kw)


def _pinned(ask: Ask, members: Sequence[Member], branches: Sequence[Branch]) -> dict[UnitId, float]:
    """What the pinned units give, as far as their room and the tree let them."""
    if not ask.pins_kw:
        return {}
    within_kw = {
        each.id: min(max(ask.pins_kw[each.id], -each.in_kw), each.out_kw)
        for each in members
        if each.id in ask.pins_kw
    }
    return fitted(within_kw, branches)


def _spread(
    ask: Ask,
    members: Sequence[Member],
    base_kw: Mapping[UnitId, float],
    branches: Sequence[Branch],
    pinned_kw: Mapping[UnitId, float],
) -> dict[UnitId, float]:
    """Droop over the room that base leaves, by fitness first, then wherever there is room."""
    if ask.droop_kw == 0.0:
        return {}
    sign = 1.0 if ask.droop_kw >= 0.0 else -1.0
    takers: list[UnitId] = []
    left_kw: list[float] = []
    weights: list[float] = []
    for each in members:
        id_ = each.id
        pinned = id_ in ask.pins_kw
        if not pinned or id_ in ask.droop_on_pins:
            used_kw = base_kw.get(id_, 0.0) + (ask.pins_kw[id_] if pinned else 0.0)
            room_kw = max(each.room_kw(ask.droop_kw) - sign * used_kw, 0.0)
            takers.append(id_)
            left_kw.append(room_kw)
            weights.append(room_kw * ask.fitness.get(id_, 1.0))
    bounds = bounds_of(branches, ask.droop_kw, {**base_kw, **pinned_kw}) if branches else ()
    sizes_kw = in_tree(by_weight(weights), abs(ask.droop_kw), left_kw, places(takers, bounds))
    return {id_: sign * size_kw for id_, size_kw in zip(takers, sizes_kw, strict=True)}


def _opposed(
    base_kw: float,
    droop_kw: float,
    members: Sequence[Member],
    strategy: Strategy,
    branches: Sequence[Branch],
    pinned_kw: Mapping[UnitId, float],
) -> tuple[dict[UnitId, float], dict[UnitId, float]]:
    """Share the sum of the base that can be given and droop, and call droop what that moves from
    each unit's own base: so a unit's base stands still while droop comes and goes, and droop that
    pulls against a base without room still moves the site. The ramp is for the base alone."""
    sharing = strategy.sharing(base_kw, members, bounds_of(branches, base_kw, pinned_kw))
    base = sharing(base_kw)
    total_kw = sum(base.values()) + droop_kw
    unramped = [each.unramped() for each in members]
    if base_kw * total_kw > 0.0 and all(map(is_, members, unramped)):
        shares = sharing(total_kw)
    else:
        shares = strategy(total_kw, unramped, bounds_of(branches, total_kw, pinned_kw))
    return base, {id_: shares[id_] - each_kw for id_, each_kw in base.items()}


def with_reactive(
    requests: Sequence[Request],
    site_kvar: float,
    pinned_kvar: Mapping[UnitId, float],
    apparent_kva: Mapping[UnitId, float],
) -> tuple[Request, ...]:
    """The site's reactive power in proportion to apparent rating; a pinned unit has its own."""
    if not pinned_kvar and site_kvar == 0.0:
        return tuple(requests)
    free_kva = sum(kva for id_, kva in apparent_kva.items() if id_ not in pinned_kvar)
    return tuple(
        request._replace(
            reactive_kvar=pinned_kvar[request.unit]
            if request.unit in pinned_kvar
            else site_kvar * apparent_kva[request.unit] / free_kva,
        )
        for request in requests
    )
