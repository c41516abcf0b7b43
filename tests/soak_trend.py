"""When a figure counts as flat: the rule of `scripts/soak`, pure.

Of each figure the second half of the samples is judged, the first is for warming up. Its slope is
the median of the slopes between all pairs of samples (Theil and Sen), so that a few outliers do not
matter; slope times the length of the half is its drift. Flat is a drift of no more than the rule
allows, and no sample of that half beyond the rule's most.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

PAIRS_OF = 150  # samples; more are thinned evenly
Sample = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Rule:
    """What is promised of one figure, in its own unit."""

    name: str
    unit: str
    drift_max: float  # units over the judged half, upwards
    most: float = math.inf
    per_day: float = 0.0  # of what may grow until it is bounded: so much more


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of it."""

    rule: Rule
    first: float
    low: float
    mid: float
    high: float
    last: float
    drift: float
    half_s: float

    @property
    def allowed(self) -> float:
        """The drift that counts as none."""
        return self.rule.drift_max + self.rule.per_day * self.half_s / 86400.0

    @property
    def flat(self) -> bool:
        return self.drift <= self.allowed and self.high <= self.rule.most


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Units per second, by Theil and Sen; 0 of fewer than two samples."""
    if len(points) > PAIRS_OF:
        step = len(points) / PAIRS_OF
        points = [points[int(at * step)] for at in range(PAIRS_OF)]
    slopes = [(y - x) / (s - r) for (r, x), (s, y) in combinations(points, 2) if s > r]
    return median(slopes) if slopes else 0.0


def judged(rule: Rule, samples: Sequence[tuple[float, Sample]]) -> Verdict:
    """Of samples with their time in seconds. Raises ValueError without any."""
    points = [(at_s, each[rule.name]) for at_s, each in samples if rule.name in each]
    if not points:
        raise ValueError(f"nothing was seen of {rule.name}")
    half_s = (points[0][0] + points[-1][0]) / 2.0
    half = [point for point in points if point[0] >= half_s]
    values = sorted(value for _, value in half)
    length_s = half[-1][0] - half[0][0]
    drift = slope(half) * length_s
    return Verdict(
        rule,
        points[0][1],
        values[0],
        values[len(values) // 2],
        values[-1],
        points[-1][1],
        drift,
        length_s,
    )


def table(verdicts: Sequence[Verdict]) -> list[str]:
    """The verdicts as lines."""
    head = ("figure", "first", "lowest", "median", "highest", "last", "drift", "allowed", "")
    rows = [
        (
            f"{each.rule.name}, {each.rule.unit}",
            *(f"{v:.2f}" for v in (each.first, each.low, each.mid, each.high, each.last)),
            f"{each.drift:+.3f}",
            f"{each.allowed:.3g}"
            + (f", most {each.rule.most:g}" if math.isfinite(each.rule.most) else ""),
            "flat" if each.flat else "NOT FLAT",
        )
        for each in verdicts
    ]
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]
    return [
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    ]
