"""The cheapest way to add up to a power, where every part costs fixed + slope P + quadratic P^2
while it runs and nothing while idle, and every trunk costs quadratic (sum + offset)^2. Pure.

With the running parts known this is convex, and water-filling on the marginal cost is exact: what
all parts together give at a marginal cost is a polyline, so the cost that gives the wanted power
is looked up, not iterated for. The fixed cost makes it non-convex. Branch and bound takes care of
it: a part that is not decided counts its lower convex envelope (a straight line from idle to the
power where a kW costs least), which bounds the cost from below; a part left on that line is decided
running in one branch and idle in the other. It ends when no branch can be better by more than
TOLERANCE_SHARE of the losses found, or after a bounded number of branches (large fleets, where
one part more or less is far below the tolerance).
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

TOLERANCE_SHARE = 5e-4
LOOKS, LOOKS_LEAST = 300, 2  # branches looked at: so many over the number of parts, at least
ENOUGH_KW = 1e-9


class Part(NamedTuple):
    """One unit in the direction of the power: all its figures are of magnitudes."""

    fixed_kw: float
    slope_share: float
    quadratic_per_kw: float
    most_kw: float
    trunk: int = 0
    pull_share: float = 0.0  # a second aim, added to the slope; may be negative


@dataclass(frozen=True, slots=True)
class Trunk:
    """What some parts share: losses by the square of their sum, and a limit on it."""

    quadratic_per_kw: float = 0.0
    offset_kw: float = 0.0
    most_kw: float = math.inf


class Run(Enum):
    """What is decided of a part."""

    OPEN = 0
    ON = 1
    OFF = 2


class _Supply(NamedTuple):
    """What one part gives at a marginal cost: a jump, then a straight rise to its most."""

    jump_share: float  # marginal cost, kW a kW
    jump_kw: float
    full_share: float
    most_kw: float

    def after_kw(self, marginal_share: float) -> float:
        """At this marginal cost, with a jump that stands exactly there."""
        if marginal_share < self.jump_share:
            return 0.0
        if marginal_share >= self.full_share:
            return self.most_kw
        rise = (marginal_share - self.jump_share) / (self.full_share - self.jump_share)
        return self.jump_kw + (self.most_kw - self.jump_kw) * rise


@dataclass(frozen=True, slots=True)
class _Line:
    """What one trunk's parts give: corners in order of their own marginal cost, of the marginal
    cost with the trunk's, and of power."""

    own_share: list[float]
    whole_share: list[float]
    sums_kw: list[float]

    def before_kw(self, marginal_share: float) -> float:
        """At this marginal cost, the least."""
        return self._at(marginal_share, bisect_left(self.whole_share, marginal_share))

    def after_kw(self, marginal_share: float) -> float:
        """At this marginal cost, the most."""
        at = bisect_left(self.whole_share, marginal_share)
        while at + 1 < len(self.whole_share) and self.whole_share[at + 1] == marginal_share:
            at += 1
        return self._at(marginal_share, at)

    def _at(self, marginal_share: float, at: int) -> float:
        if at == len(self.whole_share):
            return self.sums_kw[-1]
        if self.whole_share[at] <= marginal_share or at == 0:
            return self.sums_kw[at] if self.whole_share[at] <= marginal_share else 0.0
        low, high = self.whole_share[at - 1], self.whole_share[at]
        rise = (marginal_share - low) / (high - low)
        return self.sums_kw[at - 1] + (self.sums_kw[at] - self.sums_kw[at - 1]) * rise

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


def least_loss(power_kw: float, parts: Sequence[Part], trunks: Sequence[Trunk]) -> list[float]:
    """What each part gives, not negative; in sum the power, or all that they can."""
    usable = [number for number, part in enumerate(parts) if part.most_kw > ENOUGH_KW]
    chosen = [parts[number] for number in usable]
    can_kw = _most_kw(chosen, trunks)
    shares = [0.0] * len(parts)
    if not power_kw > ENOUGH_KW or not can_kw > ENOUGH_KW:
        return shares
    best = _search(min(power_kw, can_kw), chosen, trunks)
    for number, share_kw in zip(usable, best, strict=True):
        shares[number] = share_kw
    return shares


def cost_kw(
    shares_kw: Sequence[float], parts: Sequence[Part], trunks: Sequence[Trunk]
) -> tuple[float, float]:
    """What it costs beyond idling, and what of that is losses (the rest is the second aim), kW."""
    sums_kw = [0.0] * len(trunks)
    lost = pulled = 0.0
    for share_kw, part in zip(shares_kw, parts, strict=True):
        if share_kw > 0.0:
            sums_kw[part.trunk] += share_kw
            lost += part.fixed_kw
            lost += share_kw * (part.slope_share + part.quadratic_per_kw * share_kw)
            pulled += share_kw * part.pull_share
    for sum_kw, trunk in zip(sums_kw, trunks, strict=True):
        lost += trunk.quadratic_per_kw * (sum_kw + trunk.offset_kw) ** 2
    return lost + pulled, lost


class _Look(NamedTuple):
    """One branch to look at: what is decided, what follows from it, and the least it can cost."""

    runs: list[Run]
    supplies: list[_Supply | None]
    lines: list["_Line | None"]
    floor_kw: float


def _search(power_kw: float, parts: Sequence[Part], trunks: Sequence[Trunk]) -> list[float]:
    """Branch and bound, depth first."""
    best: list[float] = []
    least = spare = math.inf
    begun = [Run.OPEN if part.fixed_kw > 0.0 else Run.ON for part in parts]
    supplies = [_supply(part, run) for part, run in zip(parts, begun, strict=True)]
    groups: list[list[int]] = [[] for _ in trunks]
    for number, part in enumerate(parts):
        groups[part.trunk].append(number)
    waiting = [_Look(begun, list(supplies), [None] * len(trunks), -math.inf)]
    looks = max(LOOKS // len(parts), LOOKS_LEAST)
    while waiting and looks:
        look = waiting.pop()
        if look.floor_kw >= least - spare:
            continue
        looks -= 1
        able = [part for part, each in zip(parts, look.supplies, strict=True) if each is not None]
        if _most_kw(able, trunks) < power_kw - ENOUGH_KW:
            continue
        shares_kw = _relaxed(power_kw, look, groups, trunks)
        cost, lost = cost_kw(shares_kw, parts, trunks)
        undecided, floor = _floor(cost, look.runs, shares_kw, parts)
        if cost < least:
            best, least, spare = shares_kw, cost, TOLERANCE_SHARE * abs(lost)
        if undecided and floor < least - spare:
            number = undecided[0]
            likely = shares_kw[number] > 0.5 * _knee_kw(parts[number])
            branches = _branched(look, parts, number, floor)
            waiting += branches if likely else branches[::-1]
    return best


def _floor(
    found_kw: float, runs: Sequence[Run], shares_kw: Sequence[float], parts: Sequence[Part]
) -> tuple[list[int], float]:
    """Which parts are left between idle and running, and what any decision costs at least."""
    undecided: list[int] = []
    floor = found_kw
    for number, (part, run, share_kw) in enumerate(zip(parts, runs, shares_kw, strict=True)):
        if run is Run.OPEN and share_kw > 0.0:
            if share_kw < _knee_kw(part) - ENOUGH_KW:
                undecided.append(number)
                floor -= _above_line(part, share_kw)
        elif run is Run.ON and share_kw <= 0.0:
            floor += part.fixed_kw
    return undecided, floor


def _branched(look: _Look, parts: Sequence[Part], number: int, floor_kw: float) -> list[_Look]:
    """The part idle, and the part running. Of equal parts the first run."""
    idle = _Look(list(look.runs), list(look.supplies), list(look.lines), floor_kw)
    running = _Look(list(look.runs), list(look.supplies), list(look.lines), floor_kw)
    for other, part in enumerate(parts):
        if look.runs[other] is Run.OPEN and part == parts[number]:
            if other >= number:
                idle.runs[other], idle.supplies[other] = Run.OFF, None
            if other <= number:
                running.runs[other] = Run.ON
                running.supplies[other] = _supply(part, Run.ON)
    trunk = parts[number].trunk
    idle.lines[trunk] = running.lines[trunk] = None
    return [idle, running]


def _knee_kw(part: Part) -> float:
    """Where a kW of the part costs least: there the line from idle touches its curve."""
    if part.quadratic_per_kw * part.most_kw**2 <= part.fixed_kw:
        return part.most_kw
    return math.sqrt(part.fixed_kw / part.quadratic_per_kw)


def _above_line(part: Part, share_kw: float) -> float:
    """How far the part's curve is above the line from idle."""
    knee_kw = _knee_kw(part)
    line = (part.fixed_kw / knee_kw + part.quadratic_per_kw * knee_kw) * share_kw
    return part.fixed_kw + part.quadratic_per_kw * share_kw**2 - line


def _most_kw(parts: Sequence[Part], trunks: Sequence[Trunk]) -> float:
    sums_kw = [0.0] * len(trunks)
    for part in parts:
        sums_kw[part.trunk] += part.most_kw
    return sum(min(sum_kw, trunk.most_kw) for sum_kw, trunk in zip(sums_kw, trunks, strict=True))


def _relaxed(
    power_kw: float, look: _Look, groups: Sequence[Sequence[int]], trunks: Sequence[Trunk]
) -> list[float]:
    """Water-filling with the envelope of what is not decided."""
    supplies = look.supplies
    lines: list[_Line] = []
    for at, (group, trunk) in enumerate(zip(groups, trunks, strict=True)):
        line = look.lines[at]
        if line is None:
            behind = [each for number in group if (each := supplies[number]) is not None]
            line = look.lines[at] = _line(behind, trunk)
        lines.append(line)
    shares_kw = [0.0] * len(supplies)
    for group, line, sum_kw in zip(groups, lines, _sums_kw(power_kw, lines), strict=True):
        if sum_kw <= 0.0:
            continue
        own_share = line.own_at(sum_kw)
        left_kw = sum_kw
        jumping: list[tuple[int, _Supply]] = []
        for number in group:
            supply = supplies[number]
            if supply is not None and own_share >= supply.jump_share:
                if own_share == supply.jump_share:
                    jumping.append((number, supply))
                else:
                    shares_kw[number] = share_kw = supply.after_kw(own_share)
                    left_kw -= share_kw
        for number, supply in jumping:  # those that jump exactly here take what is left, in order
            shares_kw[number] = more_kw = max(min(supply.jump_kw, left_kw), 0.0)
            left_kw -= more_kw
    return shares_kw


def _sums_kw(power_kw: float, lines: Sequence[_Line]) -> list[float]:
    """What each trunk gives where all have the same marginal cost and together give the power."""
    marks = sorted({mark for line in lines for mark in line.whole_share})
    low, high = 0, len(marks) - 1
    while low < high:
        middle = (low + high) // 2
        if sum(line.after_kw(marks[middle]) for line in lines) >= power_kw:
            high = middle
        else:
            low = middle + 1
    before = [line.before_kw(marks[low]) for line in lines]
    sum_kw = sum(before)
    if low > 0 and power_kw < sum_kw:
        from_kw = [line.after_kw(marks[low - 1]) for line in lines]
        begun_kw = sum(from_kw)
        rise = (power_kw - begun_kw) / (sum_kw - begun_kw) if sum_kw > begun_kw else 0.0
        return [a + (b - a) * rise for a, b in zip(from_kw, before, strict=True)]
    left_kw = power_kw - sum_kw
    found: list[float] = []
    for line, at_kw in zip(lines, before, strict=True):
        more_kw = min(line.after_kw(marks[low]) - at_kw, max(left_kw, 0.0))
        found.append(at_kw + more_kw)
        left_kw -= more_kw
    return found


def _supply(part: Part, run: Run) -> _Supply:
    slope = part.slope_share + part.pull_share
    double = 2.0 * part.quadratic_per_kw
    full_share = slope + double * part.most_kw
    if run is Run.ON or part.fixed_kw <= 0.0:
        flat = double * part.most_kw <= 0.0
        return _Supply(slope, part.most_kw if flat else 0.0, full_share, part.most_kw)
    knee_kw = _knee_kw(part)
    if knee_kw < part.most_kw:
        return _Supply(slope + double * knee_kw, knee_kw, full_share, part.most_kw)
    jump_share = slope + part.quadratic_per_kw * part.most_kw + part.fixed_kw / part.most_kw
    return _Supply(jump_share, part.most_kw, jump_share, part.most_kw)


def _line(supplies: Sequence[_Supply], trunk: Trunk) -> _Line:
    """Add up the parts of a trunk, up to what it lets through."""
    events: list[tuple[float, float, float]] = []  # marginal cost, jump, change of the rise
    for jump_share, jump_kw, full_share, most_kw in supplies:
        rise = 0.0
        if full_share > jump_share:
            rise = (most_kw - jump_kw) / (full_share - jump_share)
            events.append((full_share, 0.0, -rise))
        events.append((jump_share, jump_kw, rise))
    events.sort()
    at = events[0][0] if events else 0.0
    own_share, sums_kw = [at], [0.0]
    sum_kw = rising = 0.0
    for mark, jump_kw, change in events:
        if mark > at:
            sum_kw += max(rising, 0.0) * (mark - at)
            at = mark
            own_share.append(at)
            sums_kw.append(sum_kw)
        rising += change
        if jump_kw > 0.0:
            sum_kw += jump_kw
            own_share.append(at)
            sums_kw.append(sum_kw)
    if sum_kw > trunk.most_kw:
        _cut(own_share, sums_kw, trunk.most_kw)
    double, offset_kw = 2.0 * trunk.quadratic_per_kw, trunk.offset_kw
    whole_share = [
        each + double * (sum_kw + offset_kw)
        for each, sum_kw in zip(own_share, sums_kw, strict=True)
    ]
    return _Line(own_share, whole_share, sums_kw)


def _cut(own_share: list[float], sums_kw: list[float], most_kw: float) -> None:
    """End a line, in place, where the trunk is full."""
    at = bisect_left(sums_kw, most_kw)
    if at > 0:
        share = (most_kw - sums_kw[at - 1]) / (sums_kw[at] - sums_kw[at - 1])
        own_share[at] = own_share[at - 1] + (own_share[at] - own_share[at - 1]) * share
    sums_kw[at] = most_kw
    del own_share[at + 1 :], sums_kw[at + 1 :]
