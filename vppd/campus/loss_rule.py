"""The rule of the strategy `losses`: members as the parts and trunks that least_loss.py adds up."""

import math
from collections.abc import Sequence

from vppd.campus.least_loss import cost_kw, least_loss
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
        self._sign = sign = 1 if power_kw >= 0.0 else -1
        ids = [each.id for each in members]
        self._order = sorted(range(len(ids)), key=ids.__getitem__)  # of equal parts the first run
        self._whole_kw = min(
            [most for most, behind in held if len(behind) == len(ids)] or [math.inf]
        )
        self._trunks: list[Trunk] = []
        trunk_of = self._joined(members, held)
        self._parts = [
            Part(
                gap_kw if (gap_kw := each.curve.no_load_kw - each.curve.standby_kw) > 0.0 else 0.0,
                each.curve.linear_share,
                each.curve.quadratic_per_kw,
                max(0.0, cap_kw),
                trunk,
                sign * each.pull_share,
            )
            for each, cap_kw, trunk in zip(members, caps_kw, trunk_of, strict=True)
        ]

    def __call__(self, size_kw: float, of: Sequence[int], caps_kw: Sequence[float]) -> list[float]:
        """As pour.Rule; the caps are those that it was made with, or less."""
        some = frozenset(of)
        chosen = [at for at in self._order if at in some]
        parts = [
            part if part.most_kw <= caps_kw[at] else part._replace(most_kw=caps_kw[at])
            for at in chosen
            for part in (self._parts[at],)
        ]
        sizes_kw = least_loss(min(size_kw, self._whole_kw), parts, self._trunks)
        found_kw = dict(zip(chosen, sizes_kw, strict=True))
        return [found_kw[at] for at in of]

    def cost_kw(self, sizes_kw: Sequence[float]) -> float:
        """What sizes of all members cost, the second aim included."""
        return cost_kw(sizes_kw, self._parts, self._trunks)[0]

    def _joined(self, members: Sequence[Member], held: Sequence[Held]) -> list[int]:
        """The trunk of each member."""
        leaf = [-1] * len(members)
        for number in reversed(range(len(held))):
            behind = held[number][1]
            if len(behind) < len(members):
                for at in behind:
                    leaf[at] = number
        known: dict[tuple[str, int], int] = {}
        trunk_of: list[int] = []
        for each, number in zip(members, leaf, strict=True):
            key = each.wires.id, number
            if key not in known:
                known[key] = len(self._trunks)
                most_kw = held[number][0] if number >= 0 else math.inf
                offset_kw = -self._sign * each.wires.auxiliary_kw
                self._trunks.append(Trunk(each.wires.quadratic_per_kw, offset_kw, most_kw))
            trunk_of.append(known[key])
        return trunk_of
