"""What the journal keeps of a frequency event, from the tick to the file; and older files."""

import contextlib
import dataclasses
import hashlib
import json
import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from tests.evidence_site import (
    AT,
    ZONE,
    assert_same,
    evidence,
    figures_by_sql,
    journal_on_disk,
    recomputed,
)
from tests.journal_site import ONE_OF_EACH, event, reading, trip
from tests.site_rig import SiteRig, site_settings
from tests.virtual_time import virtual
from vppd.cli.report.event import judged
from vppd.cli.report.journal import events_in, journal_in, rows_of
from vppd.core.alarms import Code
from vppd.core.records import EventRow, EvidenceRow, Row
from vppd.core.settings_evidence import EvidenceSettings
from vppd.grid.events import found
from vppd.grid.evidence import EvidenceKeeper, NotNamed
from vppd.spine.schema import STEPS, TABLES, TRIM_GROUPS, micros
from vppd.spine.store import prepare

PLAIN = EvidenceSettings()
V1 = "c20a6e438886b932d28a95411ca6099e2150d5ec670d20e917d0fd5d4d03b7b5"
FIRST_TABLES = ("event", "command", "trip", "violation", "reading", "setpoint", "site")


# ---- the whole site ----------------------------------------------------------------------------


@virtual
async def test_a_site_s_event_is_recomputed_from_its_journal_with_no_difference(
    tmp_path: Path,
) -> None:
    async with SiteRig(site_settings(("A", "B"))) as rig:
        rig.plan(30.0)
        await rig.run(20.0)
        rig.step(49.75)
        await rig.run(12.0)
        rig.step(49.65)
        await rig.run(25.0)
        rig.step(50.0)
        await rig.run(11.0)
        rows = [*rig.memory.rows]
    path = tmp_path / "journal.db"
    journal_on_disk(path, rows)
    with journal_in(tmp_path) as journal:
        (one,) = events_in(journal, AT - timedelta(days=9999), AT + timedelta(days=9999))
        kept = rows_of(journal, one)
        told = judged(one, kept, ZONE)
        by_sql = figures_by_sql(journal, one)
    assert kept == [row for row in rows if isinstance(row, EvidenceRow)]
    assert {round((b.at - a.at).total_seconds(), 3) for a, b in pairwise(kept)} <= {0.1, 0.11}
    seen = told.figures
    # 2 units of 100 kW at 5 % droop: 80 kW for 1 Hz
    assert seen.owed_max_kw == pytest.approx(200.0 / 0.05 * 0.35 / 50.0, rel=1e-3)
    assert seen.frc_kw_per_hz == pytest.approx(80.0, rel=0.02)
    assert seen.start_s is not None
    assert 0.0 < seen.start_s < 1.1
    assert seen.pre_power_kw == pytest.approx(30.0, abs=0.2)
    assert seen.nadir_hz == pytest.approx(49.65, abs=1e-3)
    assert 0.0 < seen.shortfall_kwh < 0.05 * seen.owed_kwh
    assert_same(dataclasses.asdict(seen), recomputed(path, one.id))
    assert_same(dataclasses.asdict(seen), by_sql)
    # and the event itself is found again in its own rows
    samples = [(micros(row.at), row.frequency_hz, row.rocof_hz_per_s) for row in kept]
    (again,) = found(samples, one.rule)
    assert (again.begin_us, again.end_us) == (micros(one.begin), micros(one.end))


# ---- the ring ----------------------------------------------------------------------------------


def played(keeper: EvidenceKeeper, rows: Iterator[EvidenceRow] | list[EvidenceRow]) -> list[Row]:
    return [kept for row in rows for kept in keeper.take(row)]


def stretch(from_s: float, to_s: float, frequency_hz: float | None) -> list[EvidenceRow]:
    count = round((to_s - from_s) * 10)
    return [evidence(round(from_s + n / 10, 1), frequency_hz) for n in range(count)]


def only_rows(kept: list[Row]) -> list[EvidenceRow]:
    return [row for row in kept if isinstance(row, EvidenceRow)]


def at_s(row: Row) -> float:
    return (row.at - AT).total_seconds()


def test_an_ordinary_grid_leaves_no_rows() -> None:
    assert played(EvidenceKeeper(PLAIN), stretch(0, 300, 49.95)) == []


def test_rows_go_back_a_minute_and_on_to_the_end_each_once() -> None:
    rows = [*stretch(0, 100, 50.0), *stretch(100, 110, 49.8), *stretch(110, 200, 50.0)]
    kept = played(EvidenceKeeper(PLAIN), rows)
    times = [at_s(row) for row in only_rows(kept)]
    assert times[0] == 40.0
    assert times[-1] == 120.0  # the row that tells its end: inside for 10 s
    assert times == [round(40 + n / 10, 1) for n in range(801)]
    begun, ended = (row for row in kept if isinstance(row, EventRow))
    assert (begun.code, at_s(begun)) == (Code.FREQUENCY_EVENT_BEGUN, 100.0)
    assert (ended.code, at_s(ended)) == (Code.FREQUENCY_EVENT, 110.0)
    said = json.loads(ended.data_json)
    assert said["id"] == "F20261122T060140Z"
    assert said["rule"]["low_hz"] == PLAIN.low_hz


def test_a_second_event_soon_after_writes_no_row_again() -> None:
    rows = [*stretch(0, 70, 50.0), *stretch(70, 75, 49.8), *stretch(75, 100, 50.0)]
    rows += [*stretch(100, 105, 50.2), *stretch(105, 130, 50.0)]
    times = [at_s(row) for row in only_rows(played(EvidenceKeeper(PLAIN), rows))]
    assert times == sorted(set(times))
    assert times[0] == 10.0
    assert times[-1] == 115.0
    assert len(times) == 1051


def test_memory_is_bounded_whatever_comes() -> None:
    keeper = EvidenceKeeper(dataclasses.replace(PLAIN, before_s=5.0))
    for n in range(5000):  # a clock that stands still never lets a row grow old
        keeper.take(evidence(0.0 if n % 2 else n / 1000, 50.0))
    assert len(keeper._ring) <= 150


def test_at_most_one_row_in_100_ms() -> None:
    keeper = EvidenceKeeper(PLAIN)
    due = [keeper.due(n * 0.04) for n in range(250)]
    assert 100 <= sum(due) <= 125
    assert all(EvidenceKeeper(PLAIN).due(float(n)) for n in range(3))


def test_an_operator_names_a_window() -> None:
    keeper = EvidenceKeeper(PLAIN)
    kept = played(keeper, stretch(0, 70, 50.0))
    begin, end = AT + timedelta(seconds=65), AT + timedelta(seconds=90)
    (begun,) = keeper.name("step-test-1", begin, end, AT + timedelta(seconds=70))
    kept += played(keeper, stretch(70, 120, 50.0))
    times = [at_s(row) for row in only_rows(kept)]
    assert (times[0], times[-1]) == (5.0, 90.0)
    assert keeper.rows_from(begin, AT + timedelta(seconds=70)) == AT + timedelta(seconds=5)
    ended = next(row for row in kept if isinstance(row, EventRow))
    assert isinstance(begun, EventRow)
    assert json.loads(begun.data_json)["trigger"] == json.loads(ended.data_json)["trigger"]
    assert json.loads(ended.data_json)["end_at"] == micros(end)


@pytest.mark.parametrize(
    ("name", "begin_s", "end_s", "why"),
    [
        ("", 10, 20, "letters"),
        ("two words", 10, 20, "letters"),
        ("a", 20, 20, "lasts"),
        ("a", 0, 4000, "lasts"),
        ("a", 90_000, 90_020, "within a day"),
        ("F20261122T060000Z", 10, 20, "by rule"),
        ("taken", 10, 20, "already"),
    ],
)
def test_a_window_that_cannot_be_kept_is_refused(
    name: str, begin_s: float, end_s: float, why: str
) -> None:
    keeper = EvidenceKeeper(PLAIN)
    keeper.name("taken", AT, AT + timedelta(seconds=5), AT)
    with pytest.raises(NotNamed, match=why):
        keeper.name(name, AT + timedelta(seconds=begin_s), AT + timedelta(seconds=end_s), AT)


def test_a_named_window_that_is_over_gets_what_is_still_there() -> None:
    """Two minutes are in memory: what began a minute ago has its minute before it, what is older
    has less, and what is much older nothing."""
    keeper = EvidenceKeeper(PLAIN)
    kept = played(keeper, stretch(0, 400, 50.0))
    now = AT + timedelta(seconds=400)
    ago = {"new": 60.0, "older": 100.0, "lost": 300.0}
    for name, began_s in ago.items():
        begin = now - timedelta(seconds=began_s)
        kept += keeper.name(name, begin, begin + timedelta(seconds=20), now)
    told = {name: keeper.rows_from(now - timedelta(seconds=s), now) for name, s in ago.items()}
    assert {name: (at - AT).total_seconds() for name, at in told.items()} == {
        "new": 280.0,
        "older": 278.9,
        "lost": 278.9,
    }
    kept += played(keeper, stretch(400, 401, 50.0))
    times = [at_s(row) for row in only_rows(kept)]
    assert times == [round(278.9 + n / 10, 1) for n in range(1212)]
    notes = (row for row in kept if isinstance(row, EventRow) and row.code == Code.FREQUENCY_EVENT)
    ended = [json.loads(row.data_json)["id"] for row in notes]
    assert ended == ["new", "older", "lost"]
    assert keeper.close() == []


def test_a_named_window_ends_when_vppd_stops() -> None:
    """Also while its rows leave the ring as soon as they come."""
    keeper = EvidenceKeeper(PLAIN)
    played(keeper, stretch(0, 70, 50.0))
    at = AT + timedelta(seconds=65)
    keeper.name("long", at, at + timedelta(seconds=100), AT + timedelta(seconds=70))
    keeper.name("later", at + timedelta(seconds=90), at + timedelta(seconds=99), at)
    played(keeper, stretch(70, 80, 50.0))
    (ended,) = keeper.close()
    assert isinstance(ended, EventRow)
    said = json.loads(ended.data_json)
    assert (said["id"], said["ending"]) == ("long", "last")
    assert said["end_at"] == micros(AT + timedelta(seconds=79.9))


def test_at_most_sixteen_windows_wait() -> None:
    keeper = EvidenceKeeper(PLAIN)
    for n in range(16):
        keeper.name(f"n{n}", AT, AT + timedelta(seconds=5), AT)
    with pytest.raises(NotNamed, match="16"):
        keeper.name("one-more", AT, AT + timedelta(seconds=5), AT)


def test_what_goes_on_ends_when_vppd_stops(tmp_path: Path) -> None:
    keeper = EvidenceKeeper(PLAIN)
    kept = played(keeper, [*stretch(0, 70, 50.0), *stretch(70, 80, 49.8)])
    closed = keeper.close()
    assert [json.loads(row.data_json)["ending"] for row in closed if isinstance(row, EventRow)] == [
        "last"
    ]
    journal_on_disk(tmp_path / "journal.db", kept)  # killed instead: no end in the journal
    with journal_in(tmp_path) as journal:
        (cut,) = events_in(journal, AT, AT + timedelta(days=1))
    assert cut.ending is None
    assert (cut.begin - AT).total_seconds() == 70.0
    assert (cut.end - AT).total_seconds() == pytest.approx(79.9)


# ---- the file ----------------------------------------------------------------------------------


def test_a_file_of_the_previous_version_keeps_everything(tmp_path: Path) -> None:
    """Version 1 as it was released: its step must never change."""
    assert hashlib.sha256("\n".join(STEPS[0]).encode()).hexdigest() == V1
    path = tmp_path / "journal.db"
    old = [row for row in ONE_OF_EACH if TABLES[type(row)].name in FIRST_TABLES]
    journal_on_disk(path, [*old, *map(event, range(50)), *map(reading, range(50))], STEPS[:1])
    assert version(path) == 1
    before = contents(path)
    with pytest.raises(OSError, match="start this vppd once"), journal_in(tmp_path):
        pass
    opened = prepare(path, AT, lambda: 0.0, 60.0, may_move_aside=True)
    assert f"schema 1 became {len(STEPS)}" in (opened.migrated or "")
    assert opened.broken is None
    assert opened.trips == (trip(0),) or len(opened.trips or ()) == 1
    assert version(path) == len(STEPS)
    assert contents(path) == before
    assert len([*tmp_path.glob("journal.db.v1-*")]) == 1
    journal_on_disk(path, played(EvidenceKeeper(PLAIN), stretch(0, 5, 49.8)))
    with journal_in(tmp_path) as journal:
        assert len(events_in(journal, AT, AT + timedelta(days=1))) == 1


def test_evidence_is_given_up_after_setpoints_and_before_events() -> None:
    place = {table.name: number for number, group in enumerate(TRIM_GROUPS) for table in group}
    assert place["setpoint"] == place["site"] < place["evidence"] < place["event"]


def test_a_row_takes_about_forty_bytes(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    rows = [
        evidence(n / 10, 49.7 + n % 90 / 1e4, 48.1 + n % 17, 47.3 + n % 13, rocof_hz_per_s=-0.0123)
        for n in range(5000)
    ]
    journal_on_disk(path, rows)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (size,) = connection.execute(
            "SELECT sum(pgsize) FROM dbstat WHERE name = 'evidence_row'"
        ).fetchone()
    assert size / len(rows) < 50


def version(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def contents(path: Path) -> list[list[tuple[object, ...]]]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return [connection.execute(f"SELECT * FROM {name}").fetchall() for name in FIRST_TABLES]  # noqa: S608
