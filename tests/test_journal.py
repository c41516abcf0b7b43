"""The journal: every row is kept whole, acknowledged is on disk, memory and file stay bounded."""

import asyncio
import contextlib
import dataclasses
import json
import math
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.journal_site import (
    AT,
    ONE_OF_EACH,
    QUICK,
    Troubles,
    drops,
    event,
    opened_trips,
    reading,
    rows_of,
    running,
    setpoint,
    trip,
    until,
    writing,
)
from vppd.core.alarms import Code
from vppd.core.records import (
    ReadingRow,
    Row,
    SetpointRow,
    SiteRow,
    ViolationRow,
)
from vppd.core.settings import JournalSettings
from vppd.core.settings_journal import KeepSettings
from vppd.spine.backlog import Backlog, Entry
from vppd.spine.clock import SystemClock
from vppd.spine.journal import SqliteJournal
from vppd.spine.schema import TABLES, bind, from_micros, micros, weight
from vppd.spine.store import (
    prepare,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


# --- rows -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", ONE_OF_EACH, ids=lambda row: type(row).__name__)
async def test_every_field_of_every_row_is_a_column(path: Path, row: Row) -> None:
    async with running(path) as site:
        site.journal.append(row)
        await until(lambda: site.journal.status().written_rows == 1)
        table = TABLES[type(row)]
        names = ", ".join(f'"{field.name}"' for field in dataclasses.fields(row))
        (stored,) = await site.journal.select(f"SELECT {names} FROM {table.name}")  # noqa: S608
    expected = [getattr(row, field.name) for field in dataclasses.fields(row)]
    assert list(stored) == [micros(v) if isinstance(v, datetime) else v for v in expected]


async def test_a_reader_sees_the_time_as_text_too(path: Path) -> None:
    async with running(path) as site:
        for row in ONE_OF_EACH:
            site.journal.append(row)
        await until(lambda: site.journal.status().written_rows == len(ONE_OF_EACH))
        for table in TABLES.values():
            sql = f"SELECT at_utc, at FROM {table.name}"  # noqa: S608
            ((text, at),) = await site.journal.select(sql)
            exact = from_micros(cast("int", at))
            assert abs(datetime.fromisoformat(str(text)) - exact) <= timedelta(milliseconds=1)
            assert str(text).endswith("Z")


async def test_a_violation_that_clears_stays_one_row(path: Path) -> None:
    violation = cast("ViolationRow", ONE_OF_EACH[4])
    async with running(path) as site:
        site.journal.append(violation)
        site.journal.append(dataclasses.replace(violation, cleared_at=AT + timedelta(seconds=5)))
        await until(lambda: site.journal.status().written_rows == 2)
        rows = await site.journal.select("SELECT unit, cleared_at FROM violation")
    assert rows == [("B1", micros(AT) + 5_000_000)]


async def test_values_that_no_column_takes_harm_no_other_row(path: Path) -> None:
    wrong = ReadingRow(AT.replace(tzinfo=None), "B1", "soc_pct", 1.0, "good")
    no_number = dataclasses.replace(reading(1), value=math.nan)
    huge = dataclasses.replace(reading(2), value=1e300)
    infinite = dataclasses.replace(reading(3), value=math.inf)
    async with running(path) as site:
        site.journal.append(wrong)
        site.journal.append(no_number)
        site.journal.append(huge)
        site.journal.append(infinite)
        site.journal.append(event(1, "lone surrogate \ud800"))
        assert await site.journal.commit(trip(1))
        await until(lambda: site.journal.status().written_rows >= 5)
        await until(lambda: any(code is Code.JOURNAL_DROPPED for code, _, _ in site.troubles))
        rows = await site.journal.select("SELECT value FROM reading ORDER BY at")
        assert rows == [(None,), (pytest.approx(1e300),), (math.inf,)]
        assert await site.journal.select("SELECT text FROM event WHERE code = 'link_lost'") == [
            ("lone surrogate \\ud800",)
        ]
    assert "needs a zone" in next(t for code, _, t in site.troubles if code == Code.JOURNAL_DROPPED)


async def test_a_row_the_database_refuses_is_found_and_left_out(path: Path) -> None:
    poison = dataclasses.replace(reading(500), unit=cast("str", None), point=cast("str", None))
    keyless = ViolationRow(AT, cast("str", None), "r", "l", "a", 1.0, 1.0, "")
    async with running(path) as site:
        for n in range(1000):
            site.journal.append(reading(n))
        site.journal.append(poison)  # its words are stored as text, so it is taken
        site.journal.append(keyless)
        assert await site.journal.commit(trip(1))
        await until(lambda: not site.journal.status().queued_rows)
        assert await site.journal.select("SELECT count(*) FROM reading") == [(1001,)]
        assert await site.journal.select("SELECT count(*) FROM violation") == [(0,)]
        await until(lambda: any(code is Code.JOURNAL_DROPPED for code, _, _ in site.troubles))


@given(at=st.datetimes(timezones=st.timezones()))
def test_times_are_exact(at: datetime) -> None:
    assert from_micros(micros(at)) == at.astimezone(UTC)


@given(
    value=st.floats(min_value=-1e9, max_value=1e9),
    text=st.text(),
)
def test_bound_values_keep_four_decimals(value: float, text: str) -> None:
    row = dataclasses.replace(setpoint(1, text), got_kw=value)
    bound = bind(row)
    got = bound[TABLES[SetpointRow].columns.index("got_kw")]
    assert isinstance(got, int)
    assert abs(got / 10_000 - value) <= 0.00005 + 1e-15 * abs(value)
    assert weight(bound) >= len(text)


# --- trips ----------------------------------------------------------------------------------------


async def test_the_newest_trip_row_rules_whatever_the_clock_did(path: Path) -> None:
    async with running(path) as site:
        assert site.trips == ()
        for row in (trip(9), trip(3, code="rival"), trip(1, action="reset")):  # the clock jumped
            assert await site.journal.commit(row)
    assert await opened_trips(path) == (trip(3, code="rival"), trip(1, action="reset"))


async def test_many_commits_share_transactions(path: Path) -> None:
    async with running(path) as site:
        async with asyncio.TaskGroup() as tasks:
            waiting = [tasks.create_task(site.journal.commit(trip(n))) for n in range(300)]
        assert all(task.result() for task in waiting)
        frames = Path(f"{path}-wal").stat().st_size // 4120
    assert frames < 300


# --- the process dies -----------------------------------------------------------------------------


def test_kill_9_loses_no_acknowledged_row(path: Path) -> None:
    acknowledged: set[int] = set()
    chance = random.Random(4)
    for round_ in range(5):
        with writing(path, 100_000 * round_) as process:
            assert process.stdout is not None
            for _ in range(chance.randrange(20, 200)):
                acknowledged.add(int(process.stdout.readline()))
            process.kill()
            acknowledged |= {int(line) for line in process.stdout if line.endswith("\n")}
        stored = {int(str(text)) for (text,) in rows_of(path, "SELECT text FROM trip")}
        assert acknowledged <= stored
    assert len(acknowledged) > 100


def test_a_copy_at_any_moment_opens_clean(path: Path, tmp_path: Path) -> None:
    """The process is stopped, not asked: what lies on disk then is what a cut would leave."""
    acknowledged: set[int] = set()
    chance = random.Random(5)
    with writing(path, 0) as process:
        assert process.stdout is not None
        for round_ in range(8):
            for _ in range(chance.randrange(1, 40)):
                acknowledged.add(int(process.stdout.readline()))
            process.send_signal(signal.SIGSTOP)
            copy = tmp_path / f"cut{round_}" / "journal.db"
            copy.parent.mkdir()
            for suffix in ("", "-wal"):
                shutil.copy(f"{path}{suffix}", f"{copy}{suffix}")
            process.send_signal(signal.SIGCONT)
            torn = tmp_path / f"torn{round_}" / "journal.db"
            shutil.copytree(copy.parent, torn.parent)
            wal = Path(f"{torn}-wal")
            os.truncate(wal, chance.randrange(wal.stat().st_size))
            opened = prepare(copy, AT, time.monotonic, 60.0, may_move_aside=True)
            assert opened.broken is None
            stored = {int(str(text)) for (text,) in rows_of(copy, "SELECT text FROM trip")}
            assert acknowledged <= stored
            # a tail that was checkpointed already may be torn too: then the file is set aside
            prepare(torn, AT, time.monotonic, 60.0, may_move_aside=True)
            assert rows_of(torn, "PRAGMA integrity_check") == [("ok",)]


async def test_cancelled_in_mid_write_nothing_is_written_twice_or_lost(path: Path) -> None:
    journal = SqliteJournal(path, SystemClock(), Troubles(), bounds=QUICK)
    await journal.open()
    for n in range(3000):
        journal.append(event(n, str(n)))
    for _ in range(20):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.025):
                await journal.run()
    assert await journal.close()
    assert rows_of(path, "SELECT count(*), count(DISTINCT text) FROM event") == [(3000, 3000)]


# --- reading --------------------------------------------------------------------------------------

FOREVER = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"


async def test_a_query_that_does_not_end_is_given_up(path: Path) -> None:
    async with running(path, dataclasses.replace(QUICK, select_s=0.3)) as site:
        with pytest.raises(TimeoutError):
            await site.journal.select(FOREVER)
        assert await site.journal.select("SELECT count(*) FROM trip") == [(0,)]


async def test_a_query_whose_asker_left_does_not_block_the_next(path: Path) -> None:
    async with running(path, dataclasses.replace(QUICK, select_s=0.5)) as site:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await site.journal.select(FOREVER)
        with pytest.raises(TimeoutError):
            await site.journal.select("SELECT 1")
        assert await site.journal.select("SELECT 1") == [(1,)]
    assert [*path.parent.glob("journal.db-*")] == []  # a clean end leaves one file


async def test_a_reader_cannot_write(path: Path) -> None:
    async with running(path) as site:
        with pytest.raises(OSError, match="readonly"):
            await site.journal.select("DELETE FROM trip")
        with pytest.raises(OSError, match="no such table"):
            await site.journal.select("SELECT * FROM nowhere")


# --- bounds ---------------------------------------------------------------------------------------

ANY_ROW = st.sampled_from(ONE_OF_EACH)
STEPS_OF_A_BACKLOG = st.lists(
    ANY_ROW | st.tuples(st.just("take"), st.integers(1, 9)) | st.sampled_from(["ok", "failed"])
)


@given(STEPS_OF_A_BACKLOG, st.integers(0, 5000))
def test_the_backlog_stays_within_its_bound_and_loses_no_count(
    steps: Sequence[object], max_bytes: int
) -> None:
    backlog = Backlog(max_bytes)
    batch: list[Entry] = []
    added = written = 0
    for step in steps:
        if isinstance(step, tuple):
            batch += backlog.take(step[1])
        elif step == "ok":
            backlog.written(batch)
            written += len(batch)
            batch = []
        elif step == "failed":
            backlog.failed(batch)
            batch = []
        else:
            backlog.add(cast("Row", step))
            added += 1
        assert backlog.weight_bytes <= max_bytes
        assert backlog.unwritten == len(backlog) + len(batch)
        assert added == written + backlog.unwritten + backlog.dropped_total


@given(st.lists(ANY_ROW | st.sampled_from(["take", "failed"]), min_size=1), st.integers(400, 3000))
def test_the_dispensable_goes_first(steps: list[Row | str], max_bytes: int) -> None:
    """Nothing is lost while something more dispensable waits, also when a write fails."""
    order = [table.name for table in TABLES.values()]
    backlog = Backlog(max_bytes)
    batch: list[Entry] = []
    for step in steps:
        before = dict(backlog.dropped)
        if step == "take":
            batch += backlog.take(3)
        elif step == "failed":
            backlog.failed(batch)
            batch = []
        else:
            backlog.add(cast("Row", step))
        lost = {name for name, count in backlog.dropped.items() if count > before.get(name, 0)}
        waiting = backlog.take(10**6)
        backlog.put_back(waiting)
        if lost and waiting:
            kept = min(order.index(entry.table.name) for entry in waiting)
            assert max(order.index(name) for name in lost) <= kept


def test_rows_keep_their_order_when_put_back() -> None:
    backlog = Backlog(10**6)
    for n in range(20):
        backlog.add(trip(n))
        backlog.add(reading(n))
    backlog.put_back(backlog.take(30))
    texts = [entry.values[5] for entry in backlog.take(40) if entry.table.name == "trip"]
    assert texts == [str(n) for n in range(20)]


async def test_the_file_stays_within_its_size_and_keeps_what_matters(path: Path) -> None:
    bounds = dataclasses.replace(QUICK, keep_house_s=0.0, trim_rows=500)
    async with running(path, bounds, JournalSettings(max_mb=16)) as site:
        assert await site.journal.commit(trip(1))
        for n in range(2000):
            site.journal.append(reading(n))
        clamps = json.dumps(["x" * 600])
        for batch in range(30):
            for n in range(1000):
                site.journal.append(setpoint(1000 * batch + n, clamps))
            await until(lambda: not site.journal.status().queued_rows)
            size = sum(Path(f"{path}{suffix}").stat().st_size for suffix in ("", "-wal"))
            assert size <= 16 * 1024 * 1024
        assert not site.troubles
        assert await site.journal.select("SELECT count(*) FROM reading") == [(0,)]
        ((kept, oldest),) = await site.journal.select("SELECT count(*), min(at) FROM setpoint")
        assert 10_000 < cast("int", kept) < 25_000
        assert cast("int", oldest) > micros(AT)
        assert await site.journal.select("SELECT count(*) FROM trip") == [(1,)]


async def test_large_rows_never_fill_the_file_for_good(path: Path) -> None:
    bounds = dataclasses.replace(QUICK, keep_house_s=3600.0)
    async with running(path, bounds, JournalSettings(max_mb=16)) as site:
        for n in range(1000):
            site.journal.append(event(n, "ü" * 10_000))
            if n % 50 == 0:
                await until(lambda: not site.journal.status().queued_rows)
        await until(lambda: not site.journal.status().queued_rows)
        assert not site.troubles
        ((newest,),) = await site.journal.select("SELECT max(at) FROM event")
        assert newest == micros(event(999).at)


async def test_a_size_that_was_set_lower_is_reached(path: Path) -> None:
    async with running(path) as site:
        for n in range(700):
            site.journal.append(event(n, "x" * 20_000))
            if n % 50 == 0:
                await until(lambda: not site.journal.status().queued_rows)
        await until(lambda: not site.journal.status().queued_rows)
    assert path.stat().st_size > 13_000_000
    bounds = dataclasses.replace(QUICK, keep_house_s=3600.0, trim_rows=20)
    async with running(path, bounds, JournalSettings(max_mb=16)) as site:
        await until(lambda: site.journal.status().file_mb > 0)
    assert path.stat().st_size <= 12 * 1024 * 1024


@pytest.mark.parametrize("trusted", [True, False])
async def test_old_rows_go_but_never_the_trip_that_rules(path: Path, trusted: bool) -> None:
    old = datetime.now(UTC) - timedelta(days=40)
    rows: list[Row] = [
        dataclasses.replace(trip(1), at=old, action="trip"),
        dataclasses.replace(trip(1), at=old, action="reset"),
        dataclasses.replace(event(1), at=old),
        dataclasses.replace(reading(1), at=old),
        dataclasses.replace(reading(1), at=datetime.now(UTC)),
    ]
    bounds = dataclasses.replace(QUICK, keep_house_s=0.0)
    count = "SELECT (SELECT count(*) FROM reading), (SELECT count(*) FROM event)"
    settings, keep = JournalSettings(retain_days=30), KeepSettings(records_days=30)
    async with running(path, bounds, settings, lambda: trusted, keep) as site:
        for row in rows:
            assert await site.journal.commit(row)
        if trusted:
            async with asyncio.timeout(10):
                while await site.journal.select(count) != [(1, 0)]:
                    await asyncio.sleep(0.01)
        actions = await site.journal.select("SELECT action FROM trip")
        assert actions == [("reset",)] if trusted else [("trip",), ("reset",)]
        if not trusted:
            assert await site.journal.select(count) == [(2, 1)]


async def test_an_hour_of_four_units_takes_its_share_of_60_mb_a_day(path: Path) -> None:
    chance = random.Random(1)
    async with running(path) as site:
        empty = path.stat().st_size
        for row in hour(chance, units=4):
            site.journal.append(row)
            if site.journal.status().queued_rows > 5000:
                await until(lambda: not site.journal.status().queued_rows)
        await until(lambda: not site.journal.status().queued_rows)
        assert drops(site) == 0
    assert (path.stat().st_size - empty) * 24 < 60e6 - empty


def hour(chance: random.Random, units: int) -> Iterator[Row]:
    """A setpoint a unit and a site row each second; every third reading moved enough to be kept."""
    cut = json.dumps([{"why": "ramp", "before_kw": 30.1, "after_kw": 25.0, "detail": "10 kW/s"}])
    points = "power_kw current_a setpoint_kw voltage_v frequency_hz temperature_c soc_pct mode"
    for second in range(3600):
        at = AT + timedelta(seconds=second, microseconds=chance.randrange(10**6))
        kw = [chance.uniform(-100, 100) for _ in range(8)]
        hz, rocof = 50 + kw[0] / 1e3, kw[1] / 1e4
        yield SiteRow(at, hz, rocof, "PMU1", 120.0, kw[2], kw[3], kw[4], kw[5], "[]")
        for number in range(units):
            unit = f"BESS_DC01_{number:02}"
            got_kw, why = round(kw[6], 1), cut if chance.random() < 0.2 else "[]"
            asked = (unit, "running", kw[0], kw[1], kw[2], got_kw, 0.0, 0.0)
            yield SetpointRow(at, *asked, why, "written", got_kw, round(kw[7], 1))
            for point in points.split():
                if chance.random() < 1 / 3:
                    yield ReadingRow(at, unit, point, round(chance.uniform(0, 800), 2), "good")
