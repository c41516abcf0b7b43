"""What reports read of a journal: events, their 100 ms rows, days of frequency. Read-only.

The daemon may run or not; everything here is asked of the file alone.
"""

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from pathlib import Path

from vppd.cli.last_rows import open_read_only
from vppd.core.records import EvidenceRow
from vppd.core.settings_evidence import EvidenceSettings
from vppd.grid.events import Ending, Trigger
from vppd.spine.schema import from_micros, micros

EVENTS_SQL = """SELECT id, "trigger", begin_at, end_at, ending, rule_json FROM frequency_event
    WHERE begin_at >= :from_at AND begin_at < :to_at ORDER BY begin_at"""
ROWS_SQL = """SELECT at, frequency_hz, rocof_hz_per_s, base_kw, droop_curve_kw, ffr_kw,
    droop_kw, cleared_kw, measured_kw, unmeasured FROM evidence
    WHERE at >= :from_at AND at <= :to_at ORDER BY at"""
FREQUENCY_SQL = """SELECT at, frequency_hz, 0 AS fine FROM site
    WHERE at > :from_at - 2000000 AND at < :to_at
    UNION ALL SELECT at, frequency_hz, 1 FROM evidence
    WHERE at > :from_at - 2000000 AND at < :to_at
    ORDER BY at, fine"""
ALL = {"from_at": 0, "to_at": 2**62}
RULE_KEYS = frozenset(each.name for each in fields(EvidenceSettings))


@dataclass(frozen=True, slots=True)
class Event:
    """One event as the journal says. `ending` None: it goes on, or vppd was killed in it, and
    `end` is its last row."""

    id: str
    trigger: Trigger
    begin: datetime
    end: datetime
    ending: Ending | None
    rule: EvidenceSettings


@contextlib.contextmanager
def journal_in(state: Path) -> Iterator[sqlite3.Connection]:
    """The journal of this state directory. Raises OSError, also for what goes wrong in it."""
    path = state / "journal.db"
    try:
        with contextlib.closing(open_read_only(path)) as journal:
            (version,) = journal.execute("PRAGMA user_version").fetchone()
            if version < 2:  # noqa: PLR2004 - the first with evidence
                raise OSError(f"{path} has schema {version}: start this vppd once, it migrates it")
            yield journal
    except sqlite3.Error as error:
        raise OSError(f"{path}: {error}") from error


def events_in(journal: sqlite3.Connection, begin: datetime, end: datetime) -> list[Event]:
    """Every event that began in this time, oldest first."""
    return _events(journal, {"from_at": micros(begin), "to_at": micros(end)})


def event_named(journal: sqlite3.Connection, name: str) -> Event:
    """The newest event of this id. Raises LookupError."""
    named = [event for event in _events(journal, ALL) if event.id == name]
    if not named:
        raise LookupError(f"no event {name}; `vppd report events` lists them")
    return named[-1]


def rows_of(journal: sqlite3.Connection, event: Event) -> list[EvidenceRow]:
    """Its 100 ms rows, from `before_s` before it until it was known to be over."""
    before, after = (timedelta(seconds=each) for each in (event.rule.before_s, event.rule.merge_s))
    return _rows(journal, event.begin - before, event.end + after)


def frequency_of(
    journal: sqlite3.Connection, begin: datetime, end: datetime
) -> Iterator[tuple[int, float | None]]:
    """(microseconds, Hz) of every row with the site's frequency: each second, in events 100 ms; and
    of the two seconds before, as they may hold on. Of two rows of one instant the 100 ms row is
    the later, and so the one that holds."""
    bounds = {"from_at": micros(begin), "to_at": micros(end)}
    for at, frequency_hz, _ in journal.execute(FREQUENCY_SQL, bounds):
        yield int(at), frequency_hz


def _events(journal: sqlite3.Connection, bounds: dict[str, int]) -> list[Event]:
    found = journal.execute(EVENTS_SQL, bounds).fetchall()
    return [_event(journal, *row) for row in found]


def _event(
    journal: sqlite3.Connection,
    name: str,
    trigger: str,
    begin_at: int,
    end_at: int | None,
    ending: str | None,
    rule_json: str,
) -> Event:
    known = {key: value for key, value in json.loads(rule_json).items() if key in RULE_KEYS}
    rule = EvidenceSettings(**known)
    begin = from_micros(begin_at)
    end = from_micros(end_at) if end_at is not None else _last(journal, begin, rule)
    return Event(name, Trigger(trigger), begin, end, Ending(ending) if ending else None, rule)


def _last(journal: sqlite3.Connection, begin: datetime, rule: EvidenceSettings) -> datetime:
    """The last row of the unbroken run of rows from the beginning of an event that has no end."""
    last = begin
    for row in _rows(journal, begin, begin + timedelta(seconds=rule.longest_s)):
        if row.at - last > timedelta(seconds=rule.gap_s):
            break
        last = row.at
    return last


def _rows(journal: sqlite3.Connection, begin: datetime, end: datetime) -> list[EvidenceRow]:
    bounds = {"from_at": micros(begin), "to_at": micros(end)}
    found = journal.execute(ROWS_SQL, bounds).fetchall()
    for at, _, _, *always, _, _ in found:
        if None in always:
            at_utc = f"{from_micros(at):%Y-%m-%dT%H:%M:%S.%fZ}"
            raise OSError(f"the evidence row of {at_utc} lacks a value that vppd always writes")
    return [EvidenceRow(from_micros(at), *rest) for at, *rest in found]
