"""What a unit gave around an instant at which it was not read: its last readings, in order. Pure.

Between two readings nobody knows what it did. On a ramp it was on the line between them; after a
step it was at one of them. Both are said: the line, and the range of all that was read nearby.
"""

import math
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence

from vppd.core.asset import Asset
from vppd.core.model import Point, Quality, Reading

KEPT_S = 30.0  # of one point's readings
SKEW_S = 0.5  # a meter shows the mean of the last second, or a device its power late


class Trace:
    """The last readings of one point."""

    def __init__(self) -> None:
        self._seen: deque[Reading] = deque()

    def add(self, reading: Reading) -> None:
        """One more, the newest but for one that came late and counts when it was read. One that
        may not be believed says that nobody hears the unit until the next. What is older than
        KEPT_S is forgotten, all but the reading that held then."""
        seen = self._seen
        if seen and reading.at_s < seen[-1].at_s:
            seen.insert(bisect_right(seen, reading.at_s, key=_at_s), reading)
            return
        seen.append(reading)
        while len(seen) > 1 and reading.at_s - seen[1].at_s > KEPT_S:
            seen.popleft()

    def is_heard(self, at_s: float) -> bool:
        """Whether there was a value to believe at this instant."""
        return self.held(at_s) is not None

    def held(self, at_s: float) -> Reading | None:
        """The reading that held at this instant; None: it was silent or may not be believed."""
        held = next((each for each in reversed(self._seen) if each.at_s <= at_s), None)
        return held if held is not None and _is_good(held, at_s) else None

    def awaits(self, at_s: float, now_s: float) -> bool:
        """Whether a reading at or after this instant is still to come. One that is late by half of
        what its values may age has missed its poll, and is not waited for."""
        if not self._seen:
            return False
        newest = self._seen[-1]
        return newest.at_s < at_s and now_s - newest.at_s <= newest.max_age_s / 2.0

    def near(self, at_s: float) -> list[Reading]:
        """What was read within SKEW_S of this instant, and just outside of that, before and after,
        in order; of that what is to be believed. Not empty while the unit is heard."""
        found: list[Reading] = []
        for each in reversed(self._seen):
            if each.at_s >= at_s + SKEW_S:
                found.clear()
            if _is_good(each, at_s):
                found.append(each)
            if each.at_s <= at_s - SKEW_S:
                break
        return found[::-1]

    def last(self) -> Reading | None:
        """The newest that may be believed for as long as its values may age."""
        return next((each for each in reversed(self._seen) if _is_good(each, each.at_s)), None)


def line_kw(readings: Sequence[Reading], at_s: float) -> float:
    """On the line between the readings before and after an instant; beyond them the nearest."""
    after = bisect_left(readings, at_s, key=_at_s)
    if after in (0, len(readings)):
        return readings[min(after, len(readings) - 1)].value
    first, last = readings[after - 1 : after + 1]
    share = (at_s - first.at_s) / (last.at_s - first.at_s)
    return first.value + share * (last.value - first.value)


class UnitTrace:
    """One unit's power, of whichever point knows best at an instant, as in core/measured."""

    def __init__(self, asset: Asset) -> None:
        best = (Point.INVERTER_KW,) if Point.INVERTER_KW in asset.declared else ()
        self.traces = {point: Trace() for point in (*best, Point.POWER_KW)}

    def heard(self, at_s: float) -> Trace | None:
        """The readings to believe at this instant. None: nobody heard the unit."""
        return next((each for each in self.traces.values() if each.is_heard(at_s)), None)

    def last_kw(self) -> float:
        """The newest power that was ever to be believed; 0 before the first."""
        lasts = (each.last() for each in self.traces.values())
        newest = max((each for each in lasts if each is not None), key=_at_s, default=None)
        return newest.value if newest is not None else 0.0

    def awaits(self, at_s: float, now_s: float) -> bool:
        """Whether a reading at or after this instant is still to come."""
        trace = self.heard(at_s)
        return trace is not None and trace.awaits(at_s, now_s)


def _at_s(reading: Reading) -> float:
    return reading.at_s


def _is_good(reading: Reading, at_s: float) -> bool:
    return (
        reading.quality is Quality.GOOD
        and at_s - reading.at_s <= reading.max_age_s
        and math.isfinite(reading.value)
    )
