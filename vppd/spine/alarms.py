"""The alarm board: which alarms stand, since when; their coming and going goes to the journal."""

from dataclasses import dataclass
from datetime import datetime

import structlog

from vppd.core.alarms import MEANINGS, Code, Level
from vppd.core.model import UnitId
from vppd.core.ports import Clock, Journal
from vppd.core.records import EventRow

log = structlog.get_logger()


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
            tell = log.error if level >= Level.CRITICAL else log.warning
            tell("alarm", code=code, unit=unit, text=text or meaning.text)
        elif not active and standing is not None:
            del self._standing[key]
            said = f"over: {text or standing.text}"
            self._journal.append(EventRow(self._clock.utc(), code, unit, Level.NORMAL, said))
            log.info("alarm_over", code=code, unit=unit, text=said)

    def resume(self, code: Code, unit: UnitId, text: str, since: datetime) -> None:
        """Raise what stood before this start, with its own time; the journal has its row."""
        self._standing[code, unit] = Alarm(code, unit, since, MEANINGS[code].level, text)
        log.error("alarm_stands", code=code, unit=unit, text=text, since=since.isoformat())

    def standing(self) -> tuple[Alarm, ...]:
        """All standing alarms, worst first, then oldest."""
        return tuple(sorted(self._standing.values(), key=lambda each: (-each.level, each.since)))
