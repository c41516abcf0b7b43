"""The audit of the gate: every violation of a rule and what was done, from first to last.

One cause is one alarm. Rules that have no value to judge are told as the device that lacks it, and
while the link to that device is lost, that is the alarm and these are not.
"""

import math
from collections import deque
from collections.abc import Iterable, Sequence
from datetime import datetime

from vppd.core.alarms import Code, Level
from vppd.core.model import UnitId
from vppd.core.ports import Clock, Journal
from vppd.core.records import ViolationRow
from vppd.field.rule import Verdict
from vppd.spine.alarms import AlarmBoard

KEPT = 500
RETURN_S = 5.0  # a link that came back brings the slowest of its values within so long
SILENT = frozenset({Code.READING_STALE, Code.READING_MISSING})
POINTS_SHOWN = 3

Key = tuple[Code, UnitId]


class Audit:
    """Turns verdicts into violations with a beginning and an end, and into alarms."""

    def __init__(self, clock: Clock, journal: Journal, alarms: AlarmBoard) -> None:
        self._clock, self._journal, self._alarms = clock, journal, alarms
        self._open: dict[UnitId, dict[Key, ViolationRow]] = {}
        self._alarmed: set[Key] = set()
        self._back_s: dict[UnitId, float] = {}  # when the link to a device came back
        self._closed: deque[ViolationRow] = deque(maxlen=KEPT)

    def alarm(self, code: Code, unit: UnitId, active: bool, text: str) -> None:
        """Raise or clear one alarm."""
        if code is Code.LINK_LOST and not active:
            self._back_s[unit] = self._clock.now_s()
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
        said = {(each.rule, told_of(unit, each)): each for each in verdicts}
        for key in [key for key in standing if key not in said]:
            self._end(key, standing.pop(key))
        for key, verdict in said.items():
            row = standing.get(key)
            level, action = verdict.level.name.lower(), verdict.action.name.lower()
            if row is None or (row.level, row.action) != (level, action):
                if row is not None:
                    self._end(key, row)
                row = ViolationRow(
                    self._clock.utc(),
                    key[1],
                    verdict.rule,
                    level,
                    action,
                    verdict.value,
                    verdict.bound,
                    verdict.text,
                )
                standing[key] = row
                self._journal.append(row)
            self._raise(key, verdict)

    def rows(self) -> tuple[ViolationRow, ...]:
        """Standing violations first, then those that ended, newest first."""
        standing = [row for rules in self._open.values() for row in rules.values()]
        standing.sort(key=lambda row: row.at, reverse=True)
        return (*standing, *reversed(self._closed))

    def _raise(self, key: Key, verdict: Verdict) -> None:
        """The alarm of a verdict, while nothing else tells of its cause."""
        wanted = verdict.level >= Level.WARNING and not verdict.trips and not self._covered(verdict)
        if wanted and key not in self._alarmed:
            self._alarmed.add(key)
            self._alarms.set(*key, True, verdict.text, verdict.level)
        elif not wanted and key in self._alarmed:
            self._alarmed.discard(key)
            self._alarms.set(*key, False, "the link is lost")

    def _covered(self, verdict: Verdict) -> bool:
        """Whether it only tells that a device is silent whose link is lost, or was just now."""
        blind = verdict.blind
        if blind is None or blind.why not in SILENT or verdict.rule is Code.LINK_LOST:
            return False
        back_s = self._back_s.get(blind.device, -math.inf)
        lost = self._alarms.stands(Code.LINK_LOST, blind.device)
        return lost or self._clock.now_s() - back_s < RETURN_S

    def _end(self, key: Key, row: ViolationRow) -> None:
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
        if key in self._alarmed:
            self._alarmed.discard(key)
            self._alarms.set(*key, False)


def told_of(unit: UnitId, verdict: Verdict) -> UnitId:
    """Of whom a verdict of a unit tells: of the device that lacks a value, else of the unit."""
    return verdict.blind.device if verdict.blind is not None else unit


def is_silence(verdict: Verdict) -> bool:
    """Whether a device is silent, rather than its words not believed."""
    quiet = verdict.limit is not None and verdict.limit.why is Code.READING_STALE
    return verdict.rule is Code.LINK_LOST and quiet


def told(verdicts: Sequence[Verdict], *, starting: bool) -> Sequence[Verdict]:
    """What is worth telling: values not read yet while starting are no violation, nor is a unit
    that is on its way back."""
    if not verdicts:
        return verdicts
    return folded(
        verdict
        for verdict in verdicts
        if verdict.rule is not Code.RETURNING and not (starting and verdict.blind is not None)
    )


def folded(verdicts: Iterable[Verdict]) -> Sequence[Verdict]:
    """Each cause once: the rules that have no value to judge as one verdict of each device and
    reason, and none where the device is silent, which makes all its values stale."""
    seeing: list[Verdict] = []
    groups: dict[Key, list[Verdict]] = {}
    silent: set[UnitId] = set()
    for verdict in verdicts:
        if verdict.blind is None or verdict.rule is Code.LINK_LOST:
            seeing.append(verdict)
            if verdict.blind is not None and is_silence(verdict):
                silent.add(verdict.blind.device)
        else:
            groups.setdefault((verdict.blind.why, verdict.blind.device), []).append(verdict)
    blind = (_one(why, group) for (why, of), group in groups.items() if of not in silent)
    return [*seeing, *blind]


def _one(why: Code, group: Sequence[Verdict]) -> Verdict:
    points = list(dict.fromkeys(each.blind.point for each in group if each.blind is not None))
    names = ", ".join(points[:POINTS_SHOWN])
    if len(points) > POINTS_SHOWN:
        names += f" and {len(points) - POINTS_SHOWN} more"
    text = f"{names} {why.removeprefix('reading_')}"
    level, action = max(each.level for each in group), max(each.action for each in group)
    return Verdict(why, level, action, text, blind=group[0].blind)
