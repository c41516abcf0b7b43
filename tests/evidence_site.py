"""A site that lived through a frequency event on virtual time, its journal on disk, and rows made
by hand: what the tests of evidence share."""

import contextlib
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from zoneinfo import ZoneInfo

from tests import recompute_report
from vppd.cli.report.journal import Event
from vppd.cli.report.sql import FIGURES_SQL, parameters
from vppd.core.records import EvidenceRow, Row
from vppd.core.response_rules import TABLES as RULES
from vppd.spine.schema import TABLES, Step, bind, number_words
from vppd.spine.store import connect, prepare

ZONE = ZoneInfo("Asia/Kolkata")
NUMBERS = {name: Fraction(str(each.value)) for name, each in RULES[-1].numbers().items()}
DIGITS = 9  # of kW, kWh, Hz and s: as close as the last digits of floating-point sums let one look
AT = datetime(2026, 11, 22, 6, 0, tzinfo=UTC)


def journal_on_disk(path: Path, rows: Iterable[Row], steps: Sequence[Step] | None = None) -> None:
    """A journal file of these rows, as the journal itself writes them."""
    kept = {} if steps is None else {"steps": steps}
    prepare(path, AT, time.monotonic, 60.0, may_move_aside=True, **kept)
    with contextlib.closing(connect(path, "rw")) as connection:
        words = {
            str(text): int(number)
            for text, number in connection.execute("SELECT text, id FROM word")
        }
        connection.execute("BEGIN")
        for row in rows:
            table, fresh = TABLES[type(row)], dict[str, int]()
            (values,) = number_words(table, [bind(row)], words, fresh)
            for word, number in fresh.items():
                connection.execute("INSERT INTO word VALUES (?, ?)", (number, word))
            connection.execute(table.insert, values)
        connection.execute("COMMIT")


def evidence(
    at_s: float,
    frequency_hz: float | None = 50.0,
    owed_kw: float = 0.0,
    response_kw: float | None = 0.0,
    *,
    asked_kw: float | None = None,
    base_kw: float = 0.0,
    unmeasured: int = 0,
    rocof_hz_per_s: float | None = None,
) -> EvidenceRow:
    """One row `at_s` seconds after AT."""
    return EvidenceRow(
        AT + timedelta(seconds=at_s),
        frequency_hz,
        rocof_hz_per_s,
        base_kw,
        owed_kw,
        0.0,
        owed_kw if asked_kw is None else asked_kw,
        base_kw + owed_kw,
        None if response_kw is None else base_kw + response_kw,
        unmeasured,
    )


def figures_by_sql(journal: sqlite3.Connection, event: Event) -> dict[str, float | int | None]:
    """The published query, run as an auditor would."""
    cursor = journal.execute(FIGURES_SQL, parameters(event, RULES[-1]))
    names = [column[0] for column in cursor.description]
    (row,) = cursor.fetchall()
    return dict(zip(names, row, strict=True))


def recomputed(path: Path, name: str) -> dict[str, float | None]:
    """Every figure of an event by the auditor's own script."""
    with contextlib.closing(recompute_report.opened(path)) as journal:
        event = recompute_report.event_of(journal, name)
        exact = recompute_report.figures(journal, event, NUMBERS)
    return {key: None if value is None else float(value) for key, value in exact.items()}


def assert_same(
    ours: Mapping[str, float | int | None], theirs: Mapping[str, float | int | None]
) -> None:
    """No figure differs."""
    assert ours.keys() == theirs.keys()
    differing = {
        name: (ours[name], theirs[name]) for name in ours if _differ(ours[name], theirs[name])
    }
    assert not differing, differing


def _differ(one: float | None, other: float | None) -> bool:
    """By more than the last digit; rounding both would part what lies beside a half."""
    if one is None or other is None:
        return one is not other
    return abs(one - other) > 10.0**-DIGITS
