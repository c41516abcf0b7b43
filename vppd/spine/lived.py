"""By which time rows grow old: one that a wrong wall clock cannot hurry. Pure.

Wall time may be wrong by years for a day, and whoever keeps it in step may swear to it. What is
deleted for its age does not come back, so age is counted by a time of its own: never later than
the wall clock, and at most `FASTER` as fast as the clock that cannot jump. A site that was off for
a week catches up within a week, and keeps its rows a little longer meanwhile; a clock that is years
ahead for a day ages the journal by two days.
"""

from datetime import datetime, timedelta

FASTER = 2.0
"""How much of wall time may be believed in a second."""


class LivedTime:
    """Ask `until` now and then; `known` is how far it came, at first in the run before."""

    def __init__(self, known: datetime) -> None:
        self.known = known
        self._asked_s: float | None = None

    def until(self, utc: datetime, now_s: float) -> datetime:
        """The time by which rows are aged now: never after `utc`."""
        lived = self.known
        since_s = now_s - self._asked_s if self._asked_s is not None else 0.0
        self._asked_s = now_s
        step = timedelta(seconds=FASTER * since_s)
        self.known = min(max(utc, lived - step), lived + step)
        return min(utc, self.known)
