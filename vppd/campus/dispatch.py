"""Who does how much: sharing a site power over the units' room and the tree's limits. Pure.

Invariants, whatever the fleet: no unit beyond its room, no unit against the direction of the sum,
no branch of the tree beyond its limit; the shares add up to what was asked or to all the room there
is, whichever is smaller.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from vppd.campus.loss_rule import LossRule
from vppd.campus.member import Bound, Branch, Member, bounds_of, member
from vppd.campus.pour import Held, Rule, by_weight, fill, in_order, in_tree, is_over, places
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


Sizes = Callable[[float], list[float]]
"""Shares a size, without a sign, over the members that it was made for."""


@dataclass(frozen=True, slots=True)
class Strategy:
    """Shares a power over members; `bounds` are the tree's in its direction, leaves first."""

    made: Callable[[float, Sequence[Member], Sequence[float], Sequence[Held]], Sizes]

    def __call__(
        self, power_kw: float, members: Sequence[Member], bounds: Sequence[Bound] = ()
    ) -> dict[UnitId, float]:
        return self.sharing(power_kw, members, bounds)(power_kw)

    def sharing(
        self, power_kw: float, members: Sequence[Member], bounds: Sequence[Bound] = ()
    ) -> Callable[[float], dict[UnitId, float]]:
        """The same for several powers in the direction of this one."""
        sign = 1 if power_kw >= 0.0 else -1
        held = places([each.id for each in members], bounds) if bounds else []
        sizes = self.made(power_kw, members, _caps_kw(power_kw, members), held)

        def shared(power_kw: float) -> dict[UnitId, float]:
            sizes_kw = sizes(abs(power_kw))
            return {
                each.id: sign * size_kw for each, size_kw in zip(members, sizes_kw, strict=True)
            }

        return shared


def _by_rule(rule: Callable[[float, Sequence[Member]], Rule]) -> Strategy:
    def made(
        power_kw: float, members: Sequence[Member], caps_kw: Sequence[float], held: Sequence[Held]
    ) -> Sizes:
        chosen = rule(power_kw, members)
        return lambda size_kw: in_tree(chosen, size_kw, caps_kw, held)

    return Strategy(made)


def _least(
    power_kw: float, members: Sequence[Member], caps_kw: Sequence[float], held: Sequence[Held]
) -> Sizes:
    rule = LossRule(power_kw, members, caps_kw, held)
    rivals = [rival(power_kw, members) for rival in (_by_priority, _by_room, _by_energy)]

    def sizes(size_kw: float) -> list[float]:
        found, exact = rule.least_kw(size_kw)
        if any(is_over(found, *each) for each in held):  # a tree of other shape than buildings
            found = in_tree(rule, size_kw, caps_kw, held)
        elif exact:
            return found
        least = rule.cost_kw(found)
        for rival in rivals:
            sizes_kw = in_tree(rival, size_kw, caps_kw, held)
            if (cost := rule.cost_kw(sizes_kw)) < least:
                least, found = cost, sizes_kw
        return found

    return sizes


def _caps_kw(power_kw: float, members: Sequence[Member]) -> list[float]:
    if power_kw >= 0.0:
        reaches_kw = [each.reach_out_kw for each in members]
    else:
        reaches_kw = [each.reach_in_kw for each in members]
    return list(map(min, reaches_kw, _rooms_kw(power_kw, members)))


def _rooms_kw(power_kw: float, members: Sequence[Member]) -> list[float]:
    if power_kw >= 0.0:
        return [each.out_kw for each in members]
    return [each.in_kw for each in members]


def _by_room(power_kw: float, members: Sequence[Member]) -> Rule:
    return by_weight(_rooms_kw(power_kw, members))


def _by_energy(power_kw: float, members: Sequence[Member]) -> Rule:
    """Nothing is known to be left in a unit whose state of charge is not known."""
    left_kwh = []
    for each in members:
        soc_pct = each.soc_pct
        if soc_pct is None:
            soc_pct = each.soc_min_pct if power_kw >= 0.0 else each.soc_max_pct
        inside_pct = soc_pct - each.soc_min_pct if power_kw >= 0.0 else each.soc_max_pct - soc_pct
        left_kwh.append(inside_pct / 100.0 * each.energy_kwh if inside_pct > 0.0 else 0.0)
    return by_weight(left_kwh)


def _by_priority(_power_kw: float, members: Sequence[Member]) -> Rule:
    return in_order(_ranked(tuple([(each.priority, each.id) for each in members])))


@lru_cache(maxsize=8)
def _ranked(keys: tuple[tuple[int, UnitId], ...]) -> list[int]:
    return sorted(range(len(keys)), key=keys.__getitem__)


proportional = _by_rule(_by_room)
"""In proportion to room: every unit is used alike for what it can do."""
balanced = _by_rule(_by_energy)
"""By energy left in that direction, so that states of charge converge."""
priority = _by_rule(_by_priority)
"""The unit with the lowest priority number first, up to its room; equals in order of id."""
losses = Strategy(_least)
"""So that inverters, transformers and feeders lose least, with each unit's pull (how far its SoC
stands from the others') as a weighted second aim. Units that would lose more running than they save
stay idle. Exact to least_loss.TOLERANCE_SHARE, and never worse than another strategy: where one of
them happens to be better inside that tolerance, it is taken."""

STRATEGIES: dict[str, Strategy] = {
    "proportional": proportional,
    "balanced": balanced,
    "priority": priority,
    "losses": losses,
}
