"""Who does how much: sharing a site power over the units' room and the tree's limits. Pure.

Invariants, whatever the fleet: no unit beyond its room, no unit against the direction of the sum,
no branch of the tree beyond its limit; the shares add up to what was asked or to all the room there
is, whichever is smaller.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from vppd.campus.least_loss import Part, Trunk, cost_kw, least_loss
from vppd.campus.member import Bound, Branch, Member, bounds_of, member
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
    "in_tree",
    "losses",
    "member",
    "priority",
    "proportional",
]

ENOUGH_KW = 1e-9

Plain = Callable[[float, Sequence[Member]], dict[UnitId, float]]


class Strategy(Protocol):
    """Shares a power over members; `bounds` are the tree's in its direction, leaves first."""

    def __call__(
        self, power_kw: float, members: Sequence[Member], bounds: Sequence[Bound] = ()
    ) -> dict[UnitId, float]: ...


def in_tree(plain: Plain) -> Strategy:
    """A strategy that keeps to every bound: where the units behind one would be over it, they share
    what it lets through by the same strategy, and the others carry the rest."""

    @functools.wraps(plain)
    def shares(
        power_kw: float, members: Sequence[Member], bounds: Sequence[Bound] = ()
    ) -> dict[UnitId, float]:
        found = plain(power_kw, members)
        sign = 1 if power_kw >= 0.0 else -1
        for _ in bounds:
            held_kw: dict[UnitId, float] = {}
            for bound in bounds:
                if _over(found, bound) and held_kw.keys().isdisjoint(bound.units):
                    behind = [each for each in members if each.id in bound.units]
                    held_kw |= plain(sign * bound.most_kw, behind)
            if not held_kw:
                break
            members = [
                _reaching(each, abs(held_kw[each.id])) if each.id in held_kw else each
                for each in members
            ]
            found = plain(power_kw, members)
        return found

    return shares


def fill(
    power_kw: float, weights: Mapping[UnitId, float], caps_kw: Mapping[UnitId, float]
) -> dict[UnitId, float]:
    """Share power by weight, none above its cap; what one cannot take moves to the others.

    Units without weight share what the weighted ones leave. Exact after at most one round a unit.
    """
    sign = 1 if power_kw >= 0.0 else -1
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


@in_tree
def proportional(power_kw: float, members: Sequence[Member]) -> dict[UnitId, float]:
    """In proportion to room: every unit is used alike for what it can do."""
    rooms_kw = {each.id: each.room_kw(power_kw) for each in members}
    return fill(power_kw, rooms_kw, {each.id: each.reach_kw(power_kw) for each in members})


@in_tree
def balanced(power_kw: float, members: Sequence[Member]) -> dict[UnitId, float]:
    """By energy left in that direction, so that states of charge converge."""
    caps_kw = {each.id: each.reach_kw(power_kw) for each in members}
    return fill(power_kw, {each.id: _energy_kwh(power_kw, each) for each in members}, caps_kw)


@in_tree
def priority(power_kw: float, members: Sequence[Member]) -> dict[UnitId, float]:
    """The unit with the lowest priority number first, up to its room; equals in order of id."""
    sign = 1 if power_kw >= 0.0 else -1
    left_kw = abs(power_kw)
    shares: dict[UnitId, float] = {}
    for each in sorted(members, key=lambda one: (one.priority, one.id)):
        given_kw = min(left_kw, each.reach_kw(power_kw))
        shares[each.id] = sign * given_kw
        left_kw -= given_kw
    return shares


def losses(
    power_kw: float, members: Sequence[Member], bounds: Sequence[Bound] = ()
) -> dict[UnitId, float]:
    """So that inverters, transformers and feeders lose least, with each unit's pull (how far its
    SoC stands from the others') as a weighted second aim. Units that would lose more running than
    they save stay idle. Exact to least_loss.TOLERANCE_SHARE, and never worse than another strategy:
    where one of them happens to be better inside that tolerance, it is taken."""
    sign = 1 if power_kw >= 0.0 else -1
    leaves = _leaves(members, bounds)
    ordered = sorted(members, key=lambda each: each.id)
    trunks: dict[tuple[str, int], int] = {}
    parts: list[Part] = []
    for each in ordered:
        trunk = trunks.setdefault((each.wires.id, leaves.get(each.id, -1)), len(trunks))
        parts.append(_part(each, sign, power_kw, trunk))
    wires = {(each.wires.id, leaves.get(each.id, -1)): each.wires for each in ordered}
    made = [
        Trunk(
            wires[key].quadratic_per_kw,
            -sign * wires[key].auxiliary_kw,
            bounds[key[1]].most_kw if key[1] >= 0 else float("inf"),
        )
        for key in trunks
    ]
    whole_kw = [
        bound.most_kw for bound in bounds if all(each.id in bound.units for each in members)
    ]
    sizes_kw = least_loss(min([abs(power_kw), *whole_kw]), parts, made)
    found = {each.id: sign * kw for each, kw in zip(ordered, sizes_kw, strict=True)}
    if any(_over(found, bound) for bound in bounds):
        return in_tree(losses)(power_kw, members, bounds)  # a tree of other shape than buildings
    least, _ = cost_kw(sizes_kw, parts, made)
    for other in (priority, proportional, balanced):
        shares = other(power_kw, ordered, bounds)
        cost, _ = cost_kw([abs(shares[each.id]) for each in ordered], parts, made)
        if cost < least:
            least, found = cost, shares
    return found


STRATEGIES: dict[str, Strategy] = {
    "proportional": proportional,
    "balanced": balanced,
    "priority": priority,
    "losses": losses,
}


def _over(shares: Mapping[UnitId, float], bound: Bound) -> bool:
    sum_kw = math.fsum(shares.get(id_, 0.0) for id_ in bound.units)  # in whatever order
    return abs(sum_kw) > bound.most_kw + ENOUGH_KW


def _reaching(each: Member, most_kw: float) -> Member:
    return replace(
        each,
        reach_out_kw=min(each.reach_out_kw, most_kw),
        reach_in_kw=min(each.reach_in_kw, most_kw),
    )


def _leaves(members: Sequence[Member], bounds: Sequence[Bound]) -> dict[UnitId, int]:
    """The first bound that each member stands behind, if that is not one of all members."""
    found: dict[UnitId, int] = {}
    for number, bound in enumerate(bounds):
        behind = [each.id for each in members if each.id in bound.units]
        if len(behind) < len(members):
            for id_ in behind:
                found.setdefault(id_, number)
    return found


def _part(each: Member, sign: int, power_kw: float, trunk: int) -> Part:
    curve = each.curve
    return Part(
        max(curve.no_load_kw - curve.standby_kw, 0.0),
        curve.linear_share,
        curve.quadratic_per_kw,
        max(each.reach_kw(power_kw), 0.0),
        trunk,
        sign * each.pull_share,
    )


def _energy_kwh(power_kw: float, each: Member) -> float:
    if each.soc_pct is None:
        return 0.0
    inside_pct = (
        each.soc_pct - each.soc_min_pct if power_kw >= 0.0 else each.soc_max_pct - each.soc_pct
    )
    return max(inside_pct, 0.0) / 100.0 * each.energy_kwh
