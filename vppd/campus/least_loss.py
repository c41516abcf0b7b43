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
from collections.abc import Sequence
from enum import Enum
from itertools import chain
from typing import NamedTuple

from vppd.campus.supply import Line, Part, Supply, Trunk, line_of

TOLERANCE_SHARE = 5e-4
LOOKS, LOOKS_LEAST = 300, 2  # branches looked at: so many over the number of parts, at least
MANY, DIVES = 24, 6  # from so many parts on: decided together, in so many steps
MORE = (0, 1, -1)
ENOUGH_KW = 1e-9


class Run(Enum):
    """What is decided of a part."""

    OPEN = 0
    ON = 1
    OFF = 2


def least_loss(power_kw: float, parts: Sequence[Part], trunks: Sequence[Trunk]) -> list[float]:
    """What each part gives, not negative; in sum the power, or all that they can."""
    usable = [number for number, part in enumerate(parts) if part.most_kw > ENOUGH_KW]
    chosen = [parts[number] for number in usable]
    can_kw = _most_kw(chosen, trunks)
    shares = [0.0] * len(parts)
    if not power_kw > ENOUGH_KW or not can_kw > ENOUGH_KW:
        return shares
    best = _Search(min(power_kw, can_kw), chosen, trunks).run()
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
    supplies: list[Supply | None]
    lines: list["Line | None"]
    floor_kw: float


class _Search:
    """The search for the cheapest way to add up to one power, and the best found so far."""

    def __init__(self, power_kw: float, parts: Sequence[Part], trunks: Sequence[Trunk]) -> None:
        self.best: list[float] = []
        self.power_kw, self.parts, self.trunks = power_kw, parts, trunks
        self.knees_kw = [_knee_kw(part) for part in parts]
        self.groups: list[list[int]] = [[] for _ in trunks]
        for number, part in enumerate(parts):
            self.groups[part.trunk].append(number)
        self._least = self._spare = math.inf

    def run(self) -> list[float]:
        """The best that is found."""
        runs = [Run.OPEN if part.fixed_kw > 0.0 else Run.ON for part in self.parts]
        supplies: list[Supply | None] = [
            _supply(part, run, knee_kw)
            for part, run, knee_kw in zip(self.parts, runs, self.knees_kw, strict=True)
        ]
        root = _Look(runs, supplies, [None] * len(self.trunks), -math.inf)
        if len(self.parts) > MANY:
            self._dive(root)
        else:
            self._branch_and_bound(root)
        return self.best

    def _branch_and_bound(self, root: _Look) -> None:
        """Depth first, one undecided part after the other."""
        waiting = [root]
        looks = max(LOOKS // len(self.parts), LOOKS_LEAST)
        while waiting and looks:
            look = waiting.pop()
            if look.floor_kw >= self._least - self._spare:
                continue
            looks -= 1
            if not self._reaches(look):
                continue
            shares_kw, cost = self._looked(look)
            undecided, floor = self._floor(cost, look.runs, shares_kw)
            if undecided and floor < self._least - self._spare:
                number = undecided[0]
                likely = shares_kw[number] > 0.5 * self.knees_kw[number]
                branches = self._branched(look, number, floor)
                waiting += branches if likely else branches[::-1]

    def _dive(self, root: _Look) -> None:
        """All undecided parts at once: as many run as their power fills, the fullest first; then
        one more, one less, while that may be worth it."""
        shares_kw, cost = self._looked(root)
        undecided, floor = self._floor(cost, root.runs, shares_kw)
        for more in MORE:
            if not undecided or floor >= self._least - self._spare:
                break
            self._settle(self._rounded(root, undecided, shares_kw, more))

    def _settle(self, look: _Look) -> None:
        """Round what is undecided until nothing is, or it cannot become better."""
        for _ in range(DIVES):
            shares_kw, cost = self._looked(look)
            undecided, floor = self._floor(cost, look.runs, shares_kw)
            if not undecided or floor >= self._least - self._spare:
                break
            look = self._rounded(look, undecided, shares_kw, 0)

    def _rounded(
        self, look: _Look, undecided: Sequence[int], shares_kw: Sequence[float], more: int
    ) -> _Look:
        filled = {at: shares_kw[at] / self.knees_kw[at] for at in undecided}
        fullest = sorted(undecided, key=filled.__getitem__, reverse=True)
        count = max(round(sum(filled.values())) + more, 0)
        idle = [equal for at in fullest[count:] for equal in self._equals(look, at) if equal >= at]
        decided = self._decided(look, fullest[:count], idle)
        return decided if self._reaches(decided) else self._decided(look, fullest, [])

    def _looked(self, look: _Look) -> tuple[list[float], float]:
        """What a look finds, and what that costs; the best is kept."""
        shares_kw = _relaxed(self.power_kw, look, self.groups, self.trunks)
        cost, lost = cost_kw(shares_kw, self.parts, self.trunks)
        if cost < self._least:
            self.best, self._least, self._spare = shares_kw, cost, TOLERANCE_SHARE * abs(lost)
        return shares_kw, cost

    def _equals(self, look: _Look, number: int) -> list[int]:
        """What is as open as this part, and the same in every figure."""
        part, runs, parts = self.parts[number], look.runs, self.parts
        group = self.groups[part.trunk]
        return [at for at in group if runs[at] is Run.OPEN and parts[at] == part]

    def _reaches(self, look: _Look) -> bool:
        """Whether what is not idle can give the power."""
        able = [part for part, each in zip(self.parts, look.supplies, strict=True) if each]
        return _most_kw(able, self.trunks) >= self.power_kw - ENOUGH_KW

    def _decided(self, look: _Look, on: Sequence[int], off: Sequence[int]) -> _Look:
        made = _Look(list(look.runs), list(look.supplies), list(look.lines), look.floor_kw)
        for at in on:
            made.runs[at] = Run.ON
            made.supplies[at] = _supply(self.parts[at], Run.ON, 0.0)
            made.lines[self.parts[at].trunk] = None
        for at in off:
            made.runs[at] = Run.OFF
            made.supplies[at] = made.lines[self.parts[at].trunk] = None
        return made

    def _floor(
        self, found_kw: float, runs: Sequence[Run], shares_kw: Sequence[float]
    ) -> tuple[list[int], float]:
        """Which parts are left between idle and running, and what any decision costs at least."""
        undecided: list[int] = []
        floor = found_kw
        for at, share_kw in enumerate(shares_kw):
            if share_kw > 0.0:
                if runs[at] is Run.OPEN and share_kw < self.knees_kw[at] - ENOUGH_KW:
                    undecided.append(at)
                    floor -= _aboveline_of(self.parts[at], share_kw)
            elif runs[at] is Run.ON:
                floor += self.parts[at].fixed_kw
        return undecided, floor

    def _branched(self, look: _Look, number: int, floor_kw: float) -> list[_Look]:
        """The part idle, and the part running. Of equal parts the first run."""
        equals = self._equals(look, number)
        idle = self._decided(look, [], [at for at in equals if at >= number])
        running = self._decided(look, [at for at in equals if at <= number], [])
        return [each._replace(floor_kw=floor_kw) for each in (idle, running)]


def _knee_kw(part: Part) -> float:
    """Where a kW of the part costs least: there the line from idle touches its curve."""
    if part.quadratic_per_kw * part.most_kw**2 <= part.fixed_kw:
        return part.most_kw
    return math.sqrt(part.fixed_kw / part.quadratic_per_kw)


def _aboveline_of(part: Part, share_kw: float) -> float:
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
    lines: list[Line] = []
    for at, (group, trunk) in enumerate(zip(groups, trunks, strict=True)):
        line = look.lines[at]
        if line is None:
            behind = [each for number in group if (each := supplies[number]) is not None]
            line = look.lines[at] = line_of(behind, trunk)
        lines.append(line)
    shares_kw = [0.0] * len(supplies)
    for group, line, sum_kw in zip(groups, lines, _sums_kw(power_kw, lines), strict=True):
        if sum_kw <= 0.0:
            continue
        own_share = line.own_at(sum_kw)
        left_kw = sum_kw
        jumping: list[tuple[int, Supply]] = []
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


def _sums_kw(power_kw: float, lines: Sequence[Line]) -> list[float]:
    """What each trunk gives where all have the same marginal cost and together give the power."""
    marks = sorted(chain.from_iterable([line.whole_share for line in lines]))
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


def _supply(part: Part, run: Run, knee_kw: float) -> Supply:
    slope = part.slope_share + part.pull_share
    double = 2.0 * part.quadratic_per_kw
    full_share = slope + double * part.most_kw
    if run is Run.ON or part.fixed_kw <= 0.0:
        flat = double * part.most_kw <= 0.0
        return Supply(slope, part.most_kw if flat else 0.0, full_share, part.most_kw)
    if knee_kw < part.most_kw:
        return Supply(slope + double * knee_kw, knee_kw, full_share, part.most_kw)
    jump_share = slope + part.quadratic_per_kw * part.most_kw + part.fixed_kw / part.most_kw
    return Supply(jump_share, part.most_kw, jump_share, part.most_kw)
