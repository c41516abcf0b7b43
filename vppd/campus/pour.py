"""Pouring a power over units: by weight or in an order, none above its cap, every limit kept. Pure.

The sums of one share are done on lists in the order of its units, sizes without a sign: copies of
units, or maps of them, would cost a large fleet more than the sums themselves.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from operator import le

from vppd.campus.member import Bound
from vppd.core.model import UnitId

ENOUGH_KW = 1e-9

Rule = Callable[[float, Sequence[int], Sequence[float]], list[float]]
"""Shares a size over the units at some places; none above its cap, which is by place of all."""
Held = tuple[float, Sequence[int]]
"""The most that the units at these places may give together."""


def places(ids: Sequence[UnitId], bounds: Sequence[Bound]) -> list[Held]:
    """The bounds by place, in the order of the units."""
    behind = _behind(tuple(ids), tuple([tuple(bound.units) for bound in bounds]))
    return [(bound.most_kw, at) for bound, at in zip(bounds, behind, strict=True)]


@lru_cache(maxsize=8)  # a site's units and its tree are the same from tick to tick
def _behind(
    ids: tuple[UnitId, ...], branches: tuple[tuple[UnitId, ...], ...]
) -> tuple[tuple[int, ...], ...]:
    at = {id_: number for number, id_ in enumerate(ids)}
    return tuple(tuple(sorted([at[id_] for id_ in units if id_ in at])) for units in branches)


def in_tree(
    rule: Rule, size_kw: float, caps_kw: Sequence[float], held: Sequence[Held]
) -> list[float]:
    """A rule that keeps to every bound: where the units behind one would be over it, they share
    what it lets through by the same rule, and the others carry the rest."""
    every = range(len(caps_kw))
    found = rule(size_kw, every, caps_kw)
    closed: set[int] = set()  # what stands behind a full bound
    for _ in held:
        fixed: set[int] = set()
        for most_kw, behind in held:
            if is_over(found, most_kw, behind) and fixed.isdisjoint(behind):
                caps_kw = list(caps_kw)
                for at, each_kw in zip(behind, rule(most_kw, behind, caps_kw), strict=True):
                    found[at] = caps_kw[at] = min(caps_kw[at], each_kw)
                fixed.update(behind)
        if not fixed:
            break
        closed |= fixed
        open_ = [at for at in every if at not in closed]
        left_kw = max(size_kw - sum(map(found.__getitem__, closed)), 0.0)
        for at, each_kw in zip(open_, rule(left_kw, open_, caps_kw), strict=True):
            found[at] = each_kw
    return found


def is_over(sizes_kw: Sequence[float], most_kw: float, behind: Sequence[int]) -> bool:
    """Whether units are together over what they may give."""
    return sum(map(sizes_kw.__getitem__, behind)) > most_kw + ENOUGH_KW


def by_weight(weights: Sequence[float]) -> Rule:
    """The rule that fills by weight."""

    def rule(size_kw: float, of: Sequence[int], caps_kw: Sequence[float]) -> list[float]:
        if len(of) == len(weights):
            return filled(size_kw, weights, caps_kw)
        return filled(size_kw, [weights[at] for at in of], [caps_kw[at] for at in of])

    return rule


def in_order(order: Sequence[int]) -> Rule:
    """The rule that fills one after the other, in this order of places."""

    def rule(size_kw: float, of: Sequence[int], caps_kw: Sequence[float]) -> list[float]:
        some = frozenset(of)
        chosen = order if len(of) == len(order) else [at for at in order if at in some]
        given_kw = [0.0] * len(order)
        left_kw = size_kw
        for at in chosen:
            given_kw[at] = each_kw = min(left_kw, caps_kw[at])
            left_kw -= each_kw
            if left_kw <= 0.0:
                break
        return given_kw if len(of) == len(order) else [given_kw[at] for at in of]

    return rule


def fill(
    power_kw: float, weights: Mapping[UnitId, float], caps_kw: Mapping[UnitId, float]
) -> dict[UnitId, float]:
    """Share power by weight, none above its cap; what one cannot take moves to the others.

    Units without weight share what the weighted ones leave.
    """
    sign = 1 if power_kw >= 0.0 else -1
    sizes_kw = filled(abs(power_kw), [weights[id_] for id_ in caps_kw], list(caps_kw.values()))
    return {id_: sign * each for id_, each in zip(caps_kw, sizes_kw, strict=True)}


def filled(size_kw: float, weights: Sequence[float], caps_kw: Sequence[float]) -> list[float]:
    """The same on lists. Exact after at most one round a unit, of those left open by the last."""
    level = size_kw / weight if (weight := sum(weights)) > 0.0 else 0.0
    given_kw = [each * level for each in weights]
    if all(map(le, given_kw, caps_kw)) and abs(sum(given_kw) - size_kw) <= ENOUGH_KW:
        return given_kw  # nobody is full
    given_kw = [0.0] * len(caps_kw)
    left_kw = _poured(min(size_kw, sum(caps_kw)), weights, caps_kw, given_kw)
    if left_kw > ENOUGH_KW:
        rest = [0.0 if weight > 0.0 else cap for weight, cap in zip(weights, caps_kw, strict=True)]
        _poured(left_kw, rest, caps_kw, given_kw)
    return given_kw


def _poured(
    left_kw: float, weights: Sequence[float], caps_kw: Sequence[float], given_kw: list[float]
) -> float:
    """Pour by weight, in place; what is left. Whoever is full drops out, the others get more."""
    open_ = [at for at, weight in enumerate(weights) if weight > 0.0 and caps_kw[at] > 0.0]
    while left_kw > ENOUGH_KW and open_:
        level = left_kw / sum([weights[at] for at in open_])
        full = [at for at in open_ if weights[at] * level >= caps_kw[at]]
        for at in full or open_:  # weights may be too small for their sum: never more than is left
            given_kw[at] = more_kw = min(caps_kw[at] if full else weights[at] * level, left_kw)
            left_kw -= more_kw
        if not full:
            break
        open_ = [at for at in open_ if weights[at] * level < caps_kw[at]]
    return left_kw
