"""The audit of the gate: every violation of a rule and what was done, from first to last."""

from collections import deque
from collections.abc import Sequence
from datetime import datetime

from vppd.core.alarms import Code, Level
from vppd.core.model import UnitId
from vppd.core.ports import Clock, Journal
from vppd.core.records import ViolationRow
from vppd.field.rule import BLIND, Verdict
from vppd.spine.alarms import AlarmBoard

KEPT = 500


class Audit:
    """Turns verdicts into violations with a beginning and an end, and into alarms."""

    def __init__(self, clock: Clock, journal: Journal, alarms: AlarmBoard) -> None:
        self._clock, self._journal, self._alarms = clock, journal, alarms
        self._open: dict[UnitId, dict[Code, ViolationRow]] = {}
        self._alarmed: dict[tuple[UnitId, Code], Code] = {}
        self._closed: deque[ViolationRow] = deque(maxlen=KEPT)

    def alarm(self, code: Code, unit: UnitId, active: bool, text: str) -> None:
        """Raise or clear one alarm."""
        self._alarms.set(code, unit, active, text)

    def resume(self, code: Code, unit: UnitId, text: str, since: datetime) -> None:
        """An alarm that stands since before this start."""
        self._alarms.resume(code, unit, text, since)

    def violations(self, unit: UnitId, verdicts: Sequence[Verdict]) -> None:
        """All that the rules say of a unit now; what is no longer said has ended."""
        standing = self._open.get(unit)
        if not verdicts and not standing:
            return
        standing = self._open.setdefault(unit, {})
        said = {verdict.rule for verdict in verdicts}
        for rule in [rule for rule in standing if rule not in said]:
            self._end(unit, standing.pop(rule))
        for verdict in verdicts:
            row = standing.get(verdict.rule)
            level, action = verdict.level.name.lower(), verdict.action.name.lower()
            if row is not None and (row.level, row.action) == (level, action):
                continue
            if row is not None:
                self._end(unit, row)
            row = ViolationRow(
                self._clock.utc(),
                unit,
                verdict.rule,
                level,
                action,
                verdict.value,
                verdict.bound,
                verdict.text,
            )
            standing[verdict.rule] = row
            self._journal.append(row)
            if verdict.level >= Level.WARNING and not verdict.trips:
                code = _alarm_of(verdict)
                self._alarmed[unit, verdict.rule] = code
                self._alarms.set(code, unit, True, verdict.text, verdict.level)

    def rows(self) -> tuple[ViolationRow, ...]:
        """Standing violations first, then those that ended, newest first."""
        standing = [row for rules in self._open.values() for row in rules.values()]
        standing.sort(key=lambda row: row.at, reverse=True)
        return (*standing, *reversed(self._closed))

    def _end(self, unit: UnitId, row: ViolationRow) -> None:
        ended = ViolationRow(
            row.at,
            row.unit,
            row.rule,
            row.level,
            row.action,
            row.value,
            row.limit_value,
            row.text,
            self._clock.utc(),
        )
        self._closed.append(ended)
        self._journal.append(ended)
        code = self._alarmed.pop((unit, Code(row.rule)), None)
        if code is not None:
            self._alarms.set(code, unit, False)


def _alarm_of(verdict: Verdict) -> Code:
    """What a verdict alarms as. The codes of a shutdown are the latch's, which stay until reset: a
    rule that only cannot see alarms as that, so that it ends with its cause."""
    if verdict.rule in _LATCHED and verdict.limit is not None:
        return verdict.limit.why
    return verdict.rule


def is_silence(verdict: Verdict) -> bool:
    """Whether a device is silent, rather than its words not believed."""
    quiet = verdict.limit is not None and verdict.limit.why is Code.READING_STALE
    return verdict.rule is Code.LINK_LOST and quiet


def told(verdicts: Sequence[Verdict], *, starting: bool) -> Sequence[Verdict]:
    """What is worth telling: a silent link makes every value stale, and that is one violation;
    values not read yet while starting are none, nor is a unit that is on its way back."""
    verdicts = [verdict for verdict in verdicts if verdict.rule is not Code.RETURNING]
    if not starting and not any(is_silence(verdict) for verdict in verdicts):
        return verdicts
    return [
        verdict
        for verdict in verdicts
        if verdict.limit is None
        or verdict.limit.why not in BLIND.values()
        or (verdict.rule is Code.LINK_LOST and not starting)
    ]


_LATCHED = frozenset(
    {Code.OVER_TEMPERATURE, Code.THERMAL_RUNAWAY, Code.DEVICE_FAULT, Code.BMS_FAULT}
)
