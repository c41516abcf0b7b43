"""Who does how much: sharing a site power over the units' room. Pure.

Invariants, whatever the fleet: no unit beyond its room, no unit against the direction of the sum,
the shares add up to what was asked or to all the room there is, whichever is smaller.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from vppd.core.asset import Asset
from vppd.core.measured import soc_pct
from vppd.core.model import Limit, Snapshot, UnitId

ENOUGH_KW = 1e-9


@dataclass(frozen=True, slots=True)
class Member:
    """One unit as a share sees it: its room each way, and how full it is."""

    id: UnitId
    out_kw: float  # what it can give, not negative
    in_kw: float  # what it can take, not negative
    soc_pct: float | None
    soc_min_pct: float
    soc_max_pct: float
    energy_kwh: float
    priority: int
    reach_out_kw: float = math.inf  # what its ramp can reach now; the others carry the rest
    reach_in_kw: float = math.inf

    def room_kw(self, power_kw: float) -> float:
        """Its room in the direction of this power."""
        return self.out_kw if power_kw >= 0.0 else self.in_kw

    def reach_kw(self, power_kw: float) -> float:
        """What it can be at now in the direction of this power: in its room, within its ramp."""
        reach_kw = self.reach_out_kw if power_kw >= 0.0 else self.reach_in_kw
        return min(reach_kw, self.room_kw(power_kw))


Strategy = Callable[[float, Sequence[Member]], dict[UnitId, float]]


def member(
    now: Snapshot, asset: Asset, room: Limit, reach_kw: tuple[float, float] = (math.inf, math.inf)
) -> Member:
    """A unit with the room the gate leaves it now, and what its ramp can reach in and out."""
    safety = asset.safety
    return Member(
        asset.id,
        room.high_kw,
        -room.low_kw,
        soc_pct(now, asset),
        safety.soc_min_pct,
        safety.soc_max_pct,
        asset.energy_kwh,
        asset.priority,
        reach_kw[1],
        reach_kw[0],
    )


def fill(
    power_kw: float, weights: Mapping[UnitId, float], caps_kw: Mapping[UnitId, float]
) -> dict[UnitId, float]:
    """Share power by weight, none above its cap; what one cannot take moves to the others.

    Units without weight share what the weighted ones leave. Exact after at most one round a unit.
    """
    sign = 1.0 if power_kw >= 0.0 else -1.0
    left_kw = min(abs(power_kw), sum(caps_kw.values()))
    given = dict.fromkeys(caps_kw, 0.0)
    for chosen in (weights, caps_kw):
        open_ = [id_ for id_ in caps_kw if chosen[id_] > 0.0 and given[id_] < caps_kw[id_]]
        while left_kw > ENOUGH_KW and open_:
            level = left_kw / sum(chosen[id_] for id_ in open_)
            full = [id_ for id_ in open_ if given[id_] + chosen[id_] * level >= caps_kw[id_]]
            for id_ in full or open_:
                more_kw = caps_kw[id_] - given[id_] if full else chosen[id_] * level
                more_kw = min(more_kw, left_kw)  # weights may be too small for their sum
                given[id_] += more_kw
                left_kw -= more_kw
            done = set(full or open_)
            open_ = [id_ for id_ in open_ if id_ not in done]
    return {id_: sign * each for id_, each in given.items()}


def proportional(power_kw: float, members: Sequence[Member]) -> dict[UnitId, float]:
    """In proportion to room: every unit is used alike for what it can do."""
    rooms_kw = {each.id: each.room_kw(power_kw) for each in members}
    return fill(power_kw, rooms_kw, {each.id: each.reach_kw(power_kw) for each in members})


def balanced(power_kw: float, members: Sequence[Member]) -> dict[UnitId, float]:
    """By energy left in that direction, so that states of charge converge."""
    caps_kw = {each.id: each.reach_kw(power_kw) for each in members}
    return fill(power_kw, {each.id: _energy_kwh(power_kw, each) for each in members}, caps_kw)


def priority(power_kw: float, members: Sequence[Member]) -> dict[UnitId, float]:
    """The unit with the lowest priority number first, up to its room; equals in order of id."""
    sign = 1.0 if power_kw >= 0.0 else -1.0
    left_kw = abs(power_kw)
    shares: dict[UnitId, float] = {}
    for each in sorted(members, key=lambda one: (one.priority, one.id)):
        given_kw = min(left_kw, each.reach_kw(power_kw))
        shares[each.id] = sign * given_kw
        left_kw -= given_kw
    return shares


STRATEGIES: dict[str, Strategy] = {
    "proportional": proportional,
    "balanced": balanced,
    "priority": priority,
}


def _energy_kwh(power_kw: float, each: Member) -> float:
    if each.soc_pct is None:
        return 0.0
    inside_pct = (
        each.soc_pct - each.soc_min_pct if power_kw >= 0.0 else each.soc_max_pct - each.soc_pct
    )
    return max(inside_pct, 0.0) / 100.0 * each.energy_kwh
