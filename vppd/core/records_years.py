"""What the journal keeps of old days: roll-ups of a minute and of a quarter of an hour."""

from dataclasses import dataclass
from datetime import datetime

PointValue = float
"""In the unit of its point."""


@dataclass(frozen=True, slots=True)
class MinuteRow:
    """One point of one unit (or of the site) over the minute that begins at `at`.

    `mean` is weighted by time, `last` the newest; `known_s` says for how many seconds the value was
    known and good. See `vppd.spine.schema_years` for the points.
    """

    at: datetime
    unit: str
    point: str
    low: PointValue
    mean: PointValue
    high: PointValue
    last: PointValue
    known_s: int


@dataclass(frozen=True, slots=True)
class QuarterRow:
    """The same over a quarter of an hour, made from its minutes."""

    at: datetime
    unit: str
    point: str
    low: PointValue
    mean: PointValue
    high: PointValue
    last: PointValue
    known_s: int


RollupRow = MinuteRow | QuarterRow
