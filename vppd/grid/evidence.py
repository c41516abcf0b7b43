"""What the journal keeps of a frequency event: its 100 ms rows and the event itself. Pure.

Rows wait in a ring; when an event begins those of the last minute go to the journal and every row
after them, until the event is known to be over. Each row goes there once. An operator may name a
window of time as an event too, also one that is over: the ring is twice as long as what is kept
before an event, so one that began within that time still gets all of it. Of what is older only
those rows are there that another event had kept.
"""

import json
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from vppd.core.alarms import Code, Level
from vppd.core.model import SITE
from vppd.core.records import EventRow, EvidenceRow, Row
from vppd.core.settings_evidence import EvidenceSettings
from vppd.grid.events import Begun, Detector, Ended, Ending, Trigger
from vppd.spine.schema import from_micros, micros

ROW_S = 0.1
SLACK_S = 0.02  # a tick is no clockwork
NAMED_MAX = 16
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
FOUND = re.compile(r"F\d{8}T\d{6}Z")  # the names of those found by rule
AHEAD_MAX = timedelta(days=1)


class NotNamed(ValueError):  # noqa: N818  (told to the operator as it is)
    """This window cannot be kept; the message says why."""


@dataclass(frozen=True, slots=True)
class _Window:
    """An operator's event."""

    name: str
    begin: datetime
    end: datetime


class EvidenceKeeper:
    """Told a row every 100 ms; gives back what goes to the journal now."""

    def __init__(self, settings: EvidenceSettings) -> None:
        self._settings = settings
        self._detector = Detector(settings)
        self._before = timedelta(seconds=settings.before_s)
        ripe_s = max(settings.duration_s, settings.rocof_duration_s)
        self._depth = 2 * self._before + timedelta(seconds=ripe_s + ROW_S)
        rows_max = round((2 * settings.before_s + ripe_s) / (ROW_S - SLACK_S)) + 2
        self._ring: deque[EvidenceRow] = deque(maxlen=rows_max)
        self._windows: list[_Window] = []
        self._row_s = float("-inf")
        self._first: datetime | None = None  # the oldest row of this run, and the newest
        self._last: datetime | None = None

    def due(self, now_s: float) -> bool:
        """Whether a row is wanted at this instant of the site clock; at most one in 100 ms."""
        if now_s - self._row_s < ROW_S - SLACK_S:
            return False
        self._row_s = now_s
        return True

    def take(self, row: EvidenceRow) -> list[Row]:
        """Rows to write now, oldest first; an event's beginning and end among them."""
        sample = (micros(row.at), row.frequency_hz, row.rocof_hz_per_s)
        was_running = self._detector.running is not None
        told = self._detector.take(sample)
        self._first, self._last = self._first or row.at, row.at
        self._ring.append(row)
        while self._ring and row.at - self._ring[0].at > self._depth:
            self._ring.popleft()
        notes = [self._note(each) for each in told]
        wanted_from = [*self._wanted_from(row.at)]
        if was_running:  # the row that tells its end belongs to it too
            wanted_from.append(row.at)
        kept = self._drawn(min(wanted_from)) if wanted_from else []
        return [*kept, *notes, *self._windows_over(row.at)]

    def name(self, name: str, begin: datetime, end: datetime, now: datetime) -> list[Row]:
        """Keep this window as an event. Raises NotNamed."""
        if not NAME.fullmatch(name):
            raise NotNamed(f"{name!r}: letters, digits, _ . - only, at most 64")
        if FOUND.fullmatch(name):
            raise NotNamed(f"{name}: so are those named that are found by rule")
        if any(window.name == name for window in self._windows):
            raise NotNamed(f"{name} is being recorded already")
        if len(self._windows) >= NAMED_MAX:
            raise NotNamed(f"{NAMED_MAX} events are waiting already")
        longest = timedelta(seconds=self._settings.longest_s)
        if not begin < end <= begin + longest:
            raise NotNamed(f"an event lasts up to {self._settings.longest_s:g} s")
        if begin > now + AHEAD_MAX:
            raise NotNamed("an event begins within a day from now")
        self._windows.append(_Window(name, begin, end))
        return [self._row(Code.FREQUENCY_EVENT_BEGUN, name, begin, None, Trigger.NAMED, None)]

    def rows_from(self, begin: datetime, now: datetime) -> datetime:
        """From when on an event that began then has every 100 ms row, if it is named now."""
        oldest = max(self._first or now, now - self._depth)
        return max(begin - self._before, oldest)

    def close(self) -> list[Row]:
        """vppd stops: what goes on ends here."""
        notes = [self._note(each) for each in self._detector.close()]
        if (last := self._last) is not None:
            notes += [
                self._ended(window, last, Ending.LAST)
                for window in self._windows
                if window.begin < last < window.end
            ]
            notes += self._windows_over(last)
        self._windows.clear()
        return [*notes]

    def _wanted_from(self, at: datetime) -> Iterator[datetime]:
        """From when on rows are wanted, for each event that goes on now."""
        if (begun := self._detector.running) is not None:
            yield from_micros(begun.begin_us) - self._before
        for window in self._windows:
            if at >= window.begin - self._before:
                yield window.begin - self._before

    def _drawn(self, since: datetime) -> list[EvidenceRow]:
        """Those of the ring, which then does not have them any more."""
        drawn = [row for row in self._ring if row.at >= since]
        older = [row for row in self._ring if row.at < since]
        self._ring.clear()
        self._ring.extend(older)
        return drawn

    def _windows_over(self, at: datetime) -> list[EventRow]:
        over = [window for window in self._windows if at >= window.end]
        self._windows = [window for window in self._windows if at < window.end]
        return [self._ended(window, window.end, Ending.NAMED) for window in over]

    def _ended(self, window: _Window, end: datetime, ending: Ending) -> EventRow:
        name, begin = window.name, window.begin
        return self._row(Code.FREQUENCY_EVENT, name, begin, end, Trigger.NAMED, ending)

    def _note(self, told: Begun | Ended) -> EventRow:
        begin = from_micros(told.begin_us)
        name = f"F{begin:%Y%m%dT%H%M%S}Z"
        if isinstance(told, Begun):
            return self._row(Code.FREQUENCY_EVENT_BEGUN, name, begin, None, told.trigger, None)
        end = from_micros(told.end_us)
        return self._row(Code.FREQUENCY_EVENT, name, begin, end, told.trigger, told.ending)

    def _row(
        self,
        code: Code,
        name: str,
        begin: datetime,
        end: datetime | None,
        trigger: Trigger,
        ending: Ending | None,
    ) -> EventRow:
        """Everything that says what the event is, so that the journal alone is enough."""
        said = {
            "id": name,
            "trigger": trigger,
            "begin_at": micros(begin),
            "end_at": micros(end) if end is not None else None,
            "ending": ending,
            "rule": asdict(self._settings),
        }
        lasted = f", {(end - begin).total_seconds():.1f} s" if end is not None else ""
        text = f"{name}: {trigger}{lasted}"
        data_json = json.dumps(said, separators=(",", ":"))
        return EventRow(end or begin, code, SITE, Level.INFO, text, data_json)
