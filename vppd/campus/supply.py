"""What parts give at a marginal cost, alone and together behind one trunk: a polyline. Pure."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Part(NamedTuple):
    """One unit in the direction of the power: all its figures are of magnitudes."""

    fixed_kw: float
    slope_share: float
    quadratic_per_kw: float
    most_kw: float
    trunk: int
    pull_share: float  # a second aim, added to the slope; may be negative
    knee_kw: float  # where a kW costs least: there the line from idle touches the curve


@dataclass(frozen=True, slots=True)
class Trunk:
    """What some parts share: losses by the square of their sum, and a limit on it."""

    quadratic_per_kw: float = 0.0
    offset_kw: float = 0.0
    most_kw: float = math.inf


Supply = tuple[float, float, float, float, float]
"""What one part gives at a marginal cost (kW a kW): nothing below the first figure, there a jump to
the second (kW); from there a straight rise to the fourth (its most, kW), which is reached at the
third; the fifth is that rise in kW a unit of marginal cost, 0 where the jump goes to the most."""


@dataclass(frozen=True, slots=True)
class Line:
    """What one trunk's parts give: corners in order of their own marginal cost, of the marginal
    cost with the trunk's, and of power. A jump has two, before and after it."""

    own_share: list[float]
    whole_share: list[float]
    sums_kw: list[float]

    def before_kw(self, marginal_share: float) -> float:
        """At this marginal cost, the least."""
        return self._at(marginal_share, bisect_left(self.whole_share, marginal_share))

    def after_kw(self, marginal_share: float) -> float:
        """At this marginal cost, the most."""
        return self._at(marginal_share, bisect_right(self.whole_share, marginal_share))

    def _at(self, marginal_share: float, at: int) -> float:
        """Between the corner before this one and this one."""
        if at == 0 or at == len(self.whole_share):
            return self.sums_kw[-1] if at else 0.0
        low, high = self.whole_share[at - 1], self.whole_share[at]
        low_kw = self.sums_kw[at - 1]
        return low_kw + (self.sums_kw[at] - low_kw) * (marginal_share - low) / (high - low)

    def own_at(self, sum_kw: float) -> float:
        """The parts' own marginal cost where they give this."""
        at = bisect_left(self.sums_kw, sum_kw)
        if at == 0 or at == len(self.own_share):
            return self.own_share[min(at, len(self.own_share) - 1)]
        low_kw, high_kw = self.sums_kw[at - 1], self.sums_kw[at]
        if high_kw <= low_kw:
            return self.own_share[at]
        share = (sum_kw - low_kw) / (high_kw - low_kw)
        found = self.own_share[at - 1] + (self.own_share[at] - self.own_share[at - 1]) * share
        return min(max(found, self.own_share[at - 1]), self.own_share[at])


NOTHING = Line([0.0], [0.0], [0.0])


def line_of(supplies: Sequence[Supply], trunk: Trunk) -> Line:
    """Add up the parts of a trunk, up to what it lets through."""
    events: list[tuple[float, float, float]] = []  # marginal cost, jump, change of the rise
    for jump_share, jump_kw, full_share, _, rise_kw in supplies:
        events.append((jump_share, jump_kw, rise_kw))
        if rise_kw > 0.0:
            events.append((full_share, 0.0, -rise_kw))
    if not events:
        return NOTHING
    events.sort()
    own_share: list[float] = []
    sums_kw: list[float] = []
    sum_kw = rises_kw = 0.0
    before_share = events[0][0]
    for mark_share, jump_kw, change_kw in events:
        sum_kw += rises_kw * (mark_share - before_share)
        own_share.append(mark_share)
        sums_kw.append(sum_kw)
        if jump_kw > 0.0:
            sum_kw += jump_kw
            own_share.append(mark_share)
            sums_kw.append(sum_kw)
        rises_kw += change_kw
        before_share = mark_share
    if sum_kw > trunk.most_kw:
        _ended(own_share, sums_kw, trunk.most_kw)
    double = 2.0 * trunk.quadratic_per_kw
    whole_share = own_share
    if double > 0.0:
        at_0 = double * trunk.offset_kw
        whole_share = [own + at_0 + double * kw for own, kw in zip(own_share, sums_kw, strict=True)]
    return Line(own_share, whole_share, sums_kw)


def _ended(own_share: list[float], sums_kw: list[float], most_kw: float) -> None:
    """End a line, in place, where the trunk is full."""
    at = bisect_left(sums_kw, most_kw)
    if at > 0:
        share = (most_kw - sums_kw[at - 1]) / (sums_kw[at] - sums_kw[at - 1])
        own_share[at] = own_share[at - 1] + (own_share[at] - own_share[at - 1]) * share
    sums_kw[at] = most_kw
    del own_share[at + 1 :], sums_kw[at + 1 :]
