"""The alarm board: which alarms stand, since when; their coming and going goes to the journal.

In the log too the event is the code, once when it comes and once when it goes; `alarm` says which:
raised, over, or stands (from before this start).
"""

import logging
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import structlog

from vppd.core.alarms import MEANINGS, Code, Level
from vppd.core.model import UnitId
from vppd.core.ports import Clock, Journal
from vppd.core.records import EventRow

log = structlog.get_logger(source="alarms")

PRIORITIES = {
    Level.NORMAL: logging.INFO,
    Level.INFO: logging.INFO,
    Level.WARNING: logging.WARNING,
    Level.CRITICAL: logging.ERROR,
    Level.EMERGENCY: logging.CRITICAL,
}


@dataclass(frozen=True, slots=True)
class Alarm:
    """One standing alarm; `unit` is "site" for the whole site."""

    code: Code
    unit: UnitId
    since: datetime
    level: Level
    text: str


class AlarmBoard:
    """Told on every change, writes a row on the first and the last only."""

    def __init__(self, clock: Clock, journal: Journal) -> None:
        self._clock, self._journal = clock, journal
        self._standing: dict[tuple[Code, UnitId], Alarm] = {}

    def set(
        self, code: Code, unit: UnitId, active: bool, text: str = "", level: Level | None = None
    ) -> None:
        """Raise or clear; a standing alarm keeps its first text and time, and may rise in level."""
        key = (code, unit)
        standing = self._standing.get(key)
        meaning = MEANINGS[code]
        level = meaning.level if level is None else level
        if active and (standing is None or level > standing.level):
            now = self._clock.utc()
            since = standing.since if standing is not None else now
            self._standing[key] = Alarm(code, unit, since, level, text or meaning.text)
            self._journal.append(EventRow(now, code, unit, level, text or meaning.text))
            _tell(level, code, unit, text or meaning.text, alarm="raised")
        elif not active and standing is not None:
            del self._standing[key]
            said = f"over: {text or standing.text}"
            self._journal.append(EventRow(self._clock.utc(), code, unit, Level.NORMAL, said))
            _tell(Level.INFO, code, unit, said, alarm="over")

    def resume(self, code: Code, unit: UnitId, text: str, since: datetime) -> None:
        """Raise what stood before this start, with its own time; the journal has its row."""
        self._standing[code, unit] = Alarm(code, unit, since, MEANINGS[code].level, text)
        _tell(MEANINGS[code].level, code, unit, text, alarm="stands", since=since.isoformat())

    def forget(self, unit: UnitId, text: str, but: Collection[Code] = ()) -> None:
        """Nothing but these stands any more of a unit or source that is gone."""
        for code, of in tuple(self._standing):
            if code not in but and (of == unit or of.startswith(f"{unit}/")):
                self.set(code, of, False, text)

    def stands(self, code: Code, unit: UnitId) -> bool:
        """Whether this alarm stands now."""
        return (code, unit) in self._standing

    def units(self, code: Code) -> frozenset[UnitId]:
        """Of whom this alarm stands now."""
        return frozenset(unit for each, unit in self._standing if each is code)

    def standing(self) -> tuple[Alarm, ...]:
        """All standing alarms, worst first, then oldest."""
        return tuple(sorted(self._standing.values(), key=lambda each: (-each.level, each.since)))


def _tell(level: Level, code: Code, unit: UnitId, text: str, **more: str) -> None:
    log.log(PRIORITIES[level], str(code), unit=unit, text=text, **more)
