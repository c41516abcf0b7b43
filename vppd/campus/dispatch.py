"""Who does how much: sharing a site power over the units' room and the tree's limits. Pure.

Invariants, whatever the fleet: no unit beyond its room, no unit against the direction of the sum,
no branch of the tree beyond its limit; the shares add up to what was asked or to all the room there
is, whichever is smaller.
"""

from collections.abc import Sequence
from typing import Protocol

from vppd.campus.loss_rule import LossRule
from vppd.campus.member import Bound, Branch, Member, bounds_of, member
from vppd.campus.pour import Rule, by_weight, fill, in_order, in_tree, is_over, places
from vppd.core.model import UnitId

__all__ = [
    "STRATEGIES",
    "Bound",
    "Branch",
    "Member",
    "Strategy",
    "balanced",
    "bounds_of",
    "fill",
    "losses",
    "member",
    "priority",
    "proportional",
]


class Strategy(Protocol):
    """Shares a power over members; `bounds` are the tree's in its direction, leaves first."""

    def __call__(
        self, power_kw: float, members: Sequence[Member], bounds: Sequence[Bound] = ()
    ) -> dict[UnitId, float]: ...


def proportional(
    power_kw: float, members: Sequence[Member], bounds: Sequence[Bound] = ()
) -> dict[UnitId, float]:
    """In proportion to room: every unit is used alike for what it can do."""
    return _shared(_by_room(power_kw, members), power_kw, members, bounds)


def balanced(
    power_kw: float, members: Sequence[Member], bounds: Sequence[Bound] = ()
) -> dict[UnitId, float]:
    """By energy left in that direction, so that states of charge converge."""
    return _shared(_by_energy(power_kw, members), power_kw, members, bounds)


def priority(
    power_kw: float, members: Sequence[Member], bounds: Sequence[Bound] = ()
) -> dict[UnitId, float]:
    """The unit with the lowest priority number first, up to its room; equals in order of id."""
    return _shared(_by_priority(members), power_kw, members, bounds)


def losses(
    power_kw: float, members: Sequence[Member], bounds: Sequence[Bound] = ()
) -> dict[UnitId, float]:
    """So that inverters, transformers and feeders lose least, with each unit's pull (how far its
    SoC stands from the others') as a weighted second aim. Units that would lose more running than
    they save stay idle. Exact to least_loss.TOLERANCE_SHARE, and never worse than another strategy:
    where one of them happens to be better inside that tolerance, it is taken."""
    size_kw, caps_kw = abs(power_kw), _caps_kw(power_kw, members)
    held = places([each.id for each in members], bounds)
    rule = LossRule(power_kw, members, caps_kw, held)
    found = rule(size_kw, range(len(members)), caps_kw)
    if any(is_over(found, *each) for each in held):  # a tree of other shape than buildings
        found = in_tree(rule, size_kw, caps_kw, held)
    least = rule.cost_kw(found)
    rivals = _by_priority(members), _by_room(power_kw, members), _by_energy(power_kw, members)
    for rival in rivals:
        shares_kw = in_tree(rival, size_kw, caps_kw, held)
        if (cost := rule.cost_kw(shares_kw)) < least:
            least, found = cost, shares_kw
    return _signed(power_kw, members, found)


STRATEGIES: dict[str, Strategy] = {
    "proportional": proportional,
    "balanced": balanced,
    "priority": priority,
    "losses": losses,
}


def _shared(
    rule: Rule, power_kw: float, members: Sequence[Member], bounds: Sequence[Bound]
) -> dict[UnitId, float]:
    held = places([each.id for each in members], bounds) if bounds else ()
    found = in_tree(rule, abs(power_kw), _caps_kw(power_kw, members), held)
    return _signed(power_kw, members, found)


def _signed(
    power_kw: float, members: Sequence[Member], sizes_kw: Sequence[float]
) -> dict[UnitId, float]:
    sign = 1 if power_kw >= 0.0 else -1
    return {each.id: sign * size_kw for each, size_kw in zip(members, sizes_kw, strict=True)}


def _caps_kw(power_kw: float, members: Sequence[Member]) -> list[float]:
    return [each.reach_kw(power_kw) for each in members]


def _by_room(power_kw: float, members: Sequence[Member]) -> Rule:
    return by_weight([each.room_kw(power_kw) for each in members])


def _by_energy(power_kw: float, members: Sequence[Member]) -> Rule:
    return by_weight([_energy_kwh(power_kw, each) for each in members])


def _by_priority(members: Sequence[Member]) -> Rule:
    keys = [(each.priority, each.id) for each in members]
    return in_order(sorted(range(len(members)), key=keys.__getitem__))


def _energy_kwh(power_kw: float, each: Member) -> float:
    if each.soc_pct is None:
        return 0.0
    inside_pct = (
        each.soc_pct - each.soc_min_pct if power_kw >= 0.0 else each.soc_max_pct - each.soc_pct
    )
    return max(inside_pct, 0.0) / 100.0 * each.energy_kwh
