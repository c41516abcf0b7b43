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
from bisect import bisect_left, bisect_right
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
STEP = 4  # corners from one look's marginal cost to the next's, and how that grows


class Run(Enum):
    """What is decided of a part."""

    OPEN = 0
    ON = 1
    OFF = 2


OPEN, ON, OFF = Run  # found by name on their class, members are slow


class _Look(NamedTuple):
    """One branch to look at: what is decided, what follows from it, and the least it can cost."""

    runs: list[Run]
    supplies: list[Supply | None]
    lines: list[Line | None]
    able_kw: list[float]  # of the parts of each trunk that are not idle
    floor_kw: float


class Pool:
    """Parts behind trunks; what does not depend on the power that they add up to is found once."""

    def __init__(self, parts: Sequence[Part], trunks: Sequence[Trunk]) -> None:
        self._size, self.trunks = len(parts), trunks
        self._usable = [number for number, part in enumerate(parts) if part.most_kw > ENOUGH_KW]
        self.parts = parts = [parts[number] for number in self._usable]
        self.knees_kw = [min(part.knee_kw, part.most_kw) for part in parts]
        self.groups: list[list[int]] = [[] for _ in trunks]
        for number, part in enumerate(parts):
            self.groups[part.trunk].append(number)
        self.root = _Look(
            [OPEN if part.fixed_kw > 0.0 else ON for part in parts],
            [_supply(part, knee_kw) for part, knee_kw in zip(parts, self.knees_kw, strict=True)],
            [None] * len(trunks),
            [sum([parts[number].most_kw for number in group]) for group in self.groups],
            -math.inf,
        )
        self._can_kw = _through_kw(self.root.able_kw, trunks)
        self.exact = False  # whether nothing can cost less than what was found last

    def least_loss(self, power_kw: float) -> list[float]:
        """What each part gives, not negative; in sum the power, or all that they can."""
        shares_kw = [0.0] * self._size
        self.exact = True
        if power_kw > ENOUGH_KW and self._can_kw > ENOUGH_KW:
            search = _Search(min(power_kw, self._can_kw), self)
            for number, share_kw in zip(self._usable, search.run(), strict=True):
                shares_kw[number] = share_kw
            self.exact = search.exact
        return shares_kw

    def cost_kw(self, shares_kw: Sequence[float]) -> tuple[float, float]:
        """What the usable parts cost beyond idling, and what of that is losses (the rest is the
        second aim), kW."""
        sums_kw = [0.0] * len(self.trunks)
        lost = pulled = 0.0
        for share_kw, part in zip(shares_kw, self.parts, strict=True):
            if share_kw > 0.0:
                fixed_kw, slope_share, quadratic_per_kw, _, trunk, pull_share, _ = part
                sums_kw[trunk] += share_kw
                lost += fixed_kw + share_kw * (slope_share + quadratic_per_kw * share_kw)
                pulled += share_kw * pull_share
        for sum_kw, each in zip(sums_kw, self.trunks, strict=True):
            lost += each.quadratic_per_kw * (sum_kw + each.offset_kw) ** 2
        return lost + pulled, lost


class _Search:
    """The search for the cheapest way to add up to one power, and the best found so far."""

    def __init__(self, power_kw: float, pool: Pool) -> None:
        self.best: list[float] = []
        self.power_kw, self.pool = power_kw, pool
        self.parts, self.trunks, self.knees_kw = pool.parts, pool.trunks, pool.knees_kw
        self._least = self._spare = math.inf
        self._near_share = math.inf  # the marginal cost of the look before
        self.exact = False

    def run(self) -> list[float]:
        """The best that is found."""
        if len(self.parts) > MANY:
            self._dive(self.pool.root)
        else:
            self._branch_and_bound(self.pool.root)
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
        """All undecided parts at once: as many run as their power fills, the fullest first. At
        first whatever is idle stays so; one more runs, one less, while that may be worth it; at
        last anything may run again."""
        shares_kw, cost = self._looked(root)
        undecided, floor = self._floor(cost, root.runs, shares_kw)
        self.exact = not undecided and floor >= cost
        idle = [at for at, share_kw in enumerate(shares_kw) if share_kw <= 0.0]
        filled = self._filled(undecided, shares_kw)
        counts = [min(max(filled + more, 0), len(undecided)) for more in MORE]
        for count in dict.fromkeys(counts):
            if not undecided or floor >= self._least - self._spare:
                return
            # if all of them run the others have less to do: what is idle stays so by itself
            kept = idle if count < len(undecided) else ()
            look = self._rounded(root, undecided, shares_kw, count, kept)
            if self._reaches(look):
                self._looked(look)
        if floor < self._least - self._spare:
            self._settle(self._reaching(root, undecided, shares_kw))

    def _settle(self, look: _Look) -> None:
        """Round what is undecided until nothing is, or it cannot become better."""
        for _ in range(DIVES):
            shares_kw, cost = self._looked(look)
            undecided, floor = self._floor(cost, look.runs, shares_kw)
            if not undecided or floor >= self._least - self._spare:
                break
            look = self._reaching(look, undecided, shares_kw)

    def _reaching(self, look: _Look, undecided: Sequence[int], shares_kw: Sequence[float]) -> _Look:
        """What is undecided rounded, or all of it running where the rest cannot give the power."""
        filled = self._filled(undecided, shares_kw)
        rounded = self._rounded(look, undecided, shares_kw, filled)
        return rounded if self._reaches(rounded) else self._decided(look, undecided, [])

    def _filled(self, undecided: Sequence[int], shares_kw: Sequence[float]) -> int:
        """How many of these run where their power fills as many as it can."""
        return round(sum([shares_kw[at] / self.knees_kw[at] for at in undecided]))

    def _rounded(
        self,
        look: _Look,
        undecided: Sequence[int],
        shares_kw: Sequence[float],
        count: int,
        idle: Sequence[int] = (),
    ) -> _Look:
        """So many run, the fullest; the others, and what equals them, are idle."""
        filled = {at: shares_kw[at] / self.knees_kw[at] for at in undecided}
        fullest = sorted(undecided, key=filled.__getitem__, reverse=True)
        rest = [equal for at in fullest[count:] for equal in self._equals(look, at) if equal >= at]
        return self._decided(look, fullest[:count], [*idle, *rest])

    def _looked(self, look: _Look) -> tuple[list[float], float]:
        """What a look finds, and what that costs; the best is kept."""
        shares_kw, self._near_share = _relaxed(
            self.power_kw, look, self.pool.groups, self.trunks, self._near_share
        )
        cost, lost = self.pool.cost_kw(shares_kw)
        if cost < self._least:
            self.best, self._least, self._spare = shares_kw, cost, TOLERANCE_SHARE * abs(lost)
        return shares_kw, cost

    def _equals(self, look: _Look, number: int) -> list[int]:
        """What is as open as this part, and the same in every figure."""
        part, runs, parts = self.parts[number], look.runs, self.parts
        group = self.pool.groups[part.trunk]
        return [at for at in group if runs[at] is OPEN and parts[at] == part]

    def _reaches(self, look: _Look) -> bool:
        """Whether what is not idle can give the power."""
        return _through_kw(look.able_kw, self.trunks) >= self.power_kw - ENOUGH_KW

    def _decided(self, look: _Look, on: Sequence[int], off: Sequence[int]) -> _Look:
        runs, supplies, lines, able_kw, floor_kw = look
        made = _Look(runs[:], supplies[:], lines[:], able_kw[:], floor_kw)
        for at in on:
            part = self.parts[at]
            made.runs[at] = ON
            made.supplies[at] = _supply(part, 0.0)
            made.lines[part.trunk] = None
        for at in off:
            if made.supplies[at] is not None:
                part = self.parts[at]
                made.runs[at] = OFF
                made.supplies[at] = made.lines[part.trunk] = None
                made.able_kw[part.trunk] -= part.most_kw
        return made

    def _floor(
        self, found_kw: float, runs: Sequence[Run], shares_kw: Sequence[float]
    ) -> tuple[list[int], float]:
        """Which parts are left between idle and running, and what any decision costs at least."""
        undecided: list[int] = []
        floor = found_kw
        for at, (share_kw, knee_kw) in enumerate(zip(shares_kw, self.knees_kw, strict=True)):
            if share_kw <= 0.0:
                if runs[at] is ON:
                    floor += self.parts[at].fixed_kw
            elif share_kw < knee_kw - ENOUGH_KW and runs[at] is OPEN:
                undecided.append(at)
                floor -= _above_kw(self.parts[at], knee_kw, share_kw)
        return undecided, floor

    def _branched(self, look: _Look, number: int, floor_kw: float) -> list[_Look]:
        """The part idle, and the part running. Of equal parts the first run."""
        equals = self._equals(look, number)
        idle = self._decided(look, [], [at for at in equals if at >= number])
        running = self._decided(look, [at for at in equals if at <= number], [])
        return [each._replace(floor_kw=floor_kw) for each in (idle, running)]


def _above_kw(part: Part, knee_kw: float, share_kw: float) -> float:
    """How far the part's curve is above the line from idle to its knee."""
    line = (part.fixed_kw / knee_kw + part.quadratic_per_kw * knee_kw) * share_kw
    return part.fixed_kw + part.quadratic_per_kw * share_kw**2 - line


def _through_kw(sums_kw: Sequence[float], trunks: Sequence[Trunk]) -> float:
    """What gets through of what the parts of each trunk can give."""
    return sum([min(sum_kw, trunk.most_kw) for sum_kw, trunk in zip(sums_kw, trunks, strict=True)])


def _relaxed(
    power_kw: float,
    look: _Look,
    groups: Sequence[Sequence[int]],
    trunks: Sequence[Trunk],
    near_share: float,
) -> tuple[list[float], float]:
    """Water-filling with the envelope of what is not decided, and its marginal cost."""
    supplies = look.supplies
    lines: list[Line] = []
    for at, (group, trunk) in enumerate(zip(groups, trunks, strict=True)):
        line = look.lines[at]
        if line is None:
            behind = [each for number in group if (each := supplies[number]) is not None]
            line = look.lines[at] = line_of(behind, trunk)
        lines.append(line)
    shares_kw = [0.0] * len(supplies)
    sums_kw, marginal_share = _sums_kw(power_kw, lines, near_share)
    for group, line, sum_kw in zip(groups, lines, sums_kw, strict=True):
        if sum_kw <= 0.0:
            continue
        own_share = line.own_at(sum_kw)
        left_kw = sum_kw
        jumping: list[tuple[int, float]] = []
        for number in group:
            supply = supplies[number]
            if supply is None:
                continue
            jump_share, jump_kw, full_share, share_kw, rise_kw = supply
            if own_share < jump_share:
                continue
            if own_share == jump_share:
                jumping.append((number, jump_kw))
                continue
            if own_share < full_share:
                share_kw = jump_kw + rise_kw * (own_share - jump_share)
            shares_kw[number] = share_kw
            left_kw -= share_kw
        for number, jump_kw in jumping:  # those that jump exactly here take what is left, in order
            shares_kw[number] = share_kw = max(min(jump_kw, left_kw), 0.0)
            left_kw -= share_kw
    return shares_kw, marginal_share


def _after_kw(
    corners: Sequence[tuple[Sequence[float], Sequence[float]]], marginal_share: float
) -> float:
    """The sum of what lines give at most at this marginal cost: Line.after_kw of each, written out,
    for nothing here is asked as often."""
    sum_kw = 0.0
    for whole_share, sums_kw in corners:
        at = bisect_right(whole_share, marginal_share)
        if at == len(whole_share):
            sum_kw += sums_kw[-1]
        elif at:
            low_share, low_kw = whole_share[at - 1], sums_kw[at - 1]
            rise_share = (marginal_share - low_share) / (whole_share[at] - low_share)
            sum_kw += low_kw + (sums_kw[at] - low_kw) * rise_share
    return sum_kw


def _around(
    power_kw: float,
    corners: Sequence[tuple[Sequence[float], Sequence[float]]],
    marks_share: Sequence[float],
    near_share: float,
) -> tuple[int, int]:
    """Places between which the least marginal cost that gives the power is; it is near this one."""
    last = len(marks_share) - 1
    at, step = min(bisect_left(marks_share, near_share), last), STEP
    if _after_kw(corners, marks_share[at]) >= power_kw:
        low, high = at, at
        while low > 0:
            low = max(low - step, 0)
            if _after_kw(corners, marks_share[low]) < power_kw:
                return low + 1, high
            high, step = low, step * STEP
        return 0, high
    low = high = min(at + 1, last)
    while high < last:
        high = min(high + step, last)
        if _after_kw(corners, marks_share[high]) >= power_kw:
            return low, high
        low, step = min(high + 1, last), step * STEP
    return low, last


def _sums_kw(
    power_kw: float, lines: Sequence[Line], near_share: float
) -> tuple[list[float], float]:
    """What each trunk gives where all have the same marginal cost and together give the power; and
    that marginal cost, which is looked for from `near_share` on."""
    marks = sorted(chain.from_iterable([line.whole_share for line in lines]))
    corners = [(line.whole_share, line.sums_kw) for line in lines]
    low, high = _around(power_kw, corners, marks, near_share)
    while low < high:
        middle = (low + high) // 2
        if _after_kw(corners, marks[middle]) >= power_kw:
            high = middle
        else:
            low = middle + 1
    before = [line.before_kw(marks[low]) for line in lines]
    sum_kw = sum(before)
    if low > 0 and power_kw < sum_kw:
        from_kw = [line.after_kw(marks[low - 1]) for line in lines]
        begun_kw = sum(from_kw)
        rise = (power_kw - begun_kw) / (sum_kw - begun_kw) if sum_kw > begun_kw else 0.0
        return [a + (b - a) * rise for a, b in zip(from_kw, before, strict=True)], marks[low]
    left_kw = power_kw - sum_kw
    found: list[float] = []
    for line, at_kw in zip(lines, before, strict=True):
        more_kw = min(line.after_kw(marks[low]) - at_kw, max(left_kw, 0.0))
        found.append(at_kw + more_kw)
        left_kw -= more_kw
    return found, marks[low]


def _supply(part: Part, knee_kw: float) -> Supply:
    """What the part gives, on a straight line from idle to its knee; with a knee of 0 it runs."""
    fixed_kw, slope_share, quadratic_per_kw, most_kw, _, pull_share, _ = part
    slope_share += pull_share
    rise_share = 2.0 * quadratic_per_kw
    full_share = slope_share + rise_share * most_kw
    if knee_kw < most_kw:
        jump_share = slope_share + rise_share * knee_kw
        if jump_share < full_share:
            rise_kw = (most_kw - knee_kw) / (full_share - jump_share)
            return jump_share, knee_kw, full_share, most_kw, rise_kw
        return full_share, most_kw, full_share, most_kw, 0.0
    jump_share = slope_share + quadratic_per_kw * most_kw + fixed_kw / most_kw
    return jump_share, most_kw, jump_share, most_kw, 0.0
