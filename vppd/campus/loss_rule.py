"""The rule of the strategy `losses`: members as the parts and trunks that least_loss.py adds up."""

import math
from collections.abc import Sequence
from functools import lru_cache

from vppd.campus.least_loss import Pool
from vppd.campus.member import Member
from vppd.campus.pour import Held
from vppd.campus.supply import Part, Trunk


class LossRule:
    """Shares a size so that least is lost. Members of one building behind the same first bound are
    one trunk; a bound of all members is one on their sum."""

    def __init__(
        self,
        power_kw: float,
        members: Sequence[Member],
        caps_kw: Sequence[float],
        held: Sequence[Held],
    ) -> None:
        sign = 1.0 if power_kw >= 0.0 else -1.0
        self._order = _order(tuple([each.id for each in members]))
        self._whole_kw = min(
            [most for most, behind in held if len(behind) == len(members)] or [math.inf]
        )
        trunk_of, firsts = _joined(
            tuple([each.wires.id for each in members]),
            tuple([tuple(behind) for _, behind in held]),
        )
        self._trunks = [
            Trunk(
                wires.quadratic_per_kw,
                -sign * wires.auxiliary_kw,
                held[branch][0] if branch >= 0 else math.inf,
            )
            for at, branch in firsts
            for wires in (members[at].wires,)
        ]
        self._parts = [
            Part(
                curve.run_kw,
                curve.linear_share,
                curve.quadratic_per_kw,
                max(0.0, cap_kw),
                trunk,
                sign * each.pull_share,
                curve.knee_kw,
            )
            for each, cap_kw, trunk in zip(members, caps_kw, trunk_of, strict=True)
            for curve in (each.curve,)
        ]

        self._groups: list[list[int]] = [[] for _ in self._trunks]
        for at, trunk in enumerate(trunk_of):
            self._groups[trunk].append(at)
        self._all = Pool([self._parts[at] for at in self._order], self._trunks)

    def least_kw(self, size_kw: float) -> tuple[list[float], bool]:
        """The size shared over all members, with the caps that this was made with; and whether no
        other sharing can cost less."""
        return self._spread(size_kw, self._order, self._all), self._all.exact

    def __call__(self, size_kw: float, of: Sequence[int], caps_kw: Sequence[float]) -> list[float]:
        """As pour.Rule; the caps are those that it was made with, or less."""
        some = frozenset(of)
        chosen = [at for at in self._order if at in some]
        parts = [
            part if part.most_kw <= caps_kw[at] else part._replace(most_kw=caps_kw[at])
            for at in chosen
            for part in (self._parts[at],)
        ]
        found_kw = self._spread(size_kw, chosen, Pool(parts, self._trunks))
        return [found_kw[at] for at in of]

    def cost_kw(self, sizes_kw: Sequence[float]) -> float:
        """What sizes of all members cost, the second aim included."""
        cost = 0.0
        for group, trunk in zip(self._groups, self._trunks, strict=True):
            sum_kw = sum(map(sizes_kw.__getitem__, group))
            cost += trunk.quadratic_per_kw * (sum_kw + trunk.offset_kw) ** 2
        return cost + sum(
            [
                fixed_kw + kw * (slope_share + pull_share + quadratic_per_kw * kw)
                for kw, (fixed_kw, slope_share, quadratic_per_kw, _, _, pull_share, _) in zip(
                    sizes_kw, self._parts, strict=True
                )
                if kw > 0.0
            ]
        )

    def _spread(self, size_kw: float, chosen: Sequence[int], pool: Pool) -> list[float]:
        """By place of all what the chosen give."""
        found_kw = [0.0] * len(self._parts)
        sizes_kw = pool.least_loss(min(size_kw, self._whole_kw))
        for at, each_kw in zip(chosen, sizes_kw, strict=True):
            found_kw[at] = each_kw
        return found_kw


@lru_cache(maxsize=8)
def _order(ids: tuple[str, ...]) -> list[int]:
    """Of equal parts the first run, whatever the order of the members."""
    return sorted(range(len(ids)), key=ids.__getitem__)


@lru_cache(maxsize=8)  # buildings and branches stand where they stood a tick ago
def _joined(
    wires: tuple[str, ...], branches: tuple[tuple[int, ...], ...]
) -> tuple[list[int], list[tuple[int, int]]]:
    """The trunk of each member; the first member of each trunk, and its branch (-1: none)."""
    leaf = [-1] * len(wires)
    for number in reversed(range(len(branches))):
        behind = branches[number]
        if len(behind) < len(wires):
            for at in behind:
                leaf[at] = number
    known: dict[tuple[str, int], int] = {}
    trunk_of: list[int] = []
    firsts: list[tuple[int, int]] = []
    for at, key in enumerate(zip(wires, leaf, strict=True)):
        if key not in known:
            known[key] = len(firsts)
            firsts.append((at, key[1]))
        trunk_of.append(known[key])
    return trunk_of, firsts
