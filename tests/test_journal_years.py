"""Roll-ups, retention by table, wear: what old days say is what their rows said."""

import dataclasses
import random
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.journal_site import QUICK, event, reading, running, setpoint, trip, until
from vppd.cli.report.command import frequency_report
from vppd.core.model import UnitId
from vppd.core.records import ReadingRow, Row, SiteRow
from vppd.core.settings import JournalSettings
from vppd.core.settings_journal import KeepSettings
from vppd.northbound.rolled_up import rolled_up
from vppd.northbound.site import Site
from vppd.spine.chain import teach
from vppd.spine.clock import SystemClock
from vppd.spine.disk_writes import DiskWrites
from vppd.spine.rollup import MINUTE, MINUTE_SQL, Pace, Rollup
from vppd.spine.schema import STEPS, TABLES, bind, micros, number_words
from vppd.spine.store import connect

QUICK_PACE = Pace(settle_s=0.0, step_s=0.0, look_s=0.0)
BEGIN = datetime(2026, 11, 22, 5, 45, tzinfo=UTC)


class Standing(SystemClock):
    """A clock that shows what it was set to."""

    def __init__(self, at: datetime) -> None:
        super().__init__()
        self.at = at

    def now_s(self) -> float:
        return (self.at - BEGIN).total_seconds()

    def utc(self) -> datetime:
        return self.at


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


# --- the sum --------------------------------------------------------------------------------------

Sample = tuple[float, float, bool]  # seconds from the begin of the minute, value, good


def expected(samples: Sequence[Sample]) -> tuple[float, ...] | None:
    """Low, mean, high, last and seconds known, the slow way: each value until the next one came."""
    ordered = sorted({at_s: (value, good) for at_s, value, good in samples}.items())
    ends = [*(at_s for at_s, _ in ordered[1:]), 60.0][: len(ordered)]
    low, high, last, energy, known_s = [], [], None, 0.0, 0.0
    for (at_s, (value, good)), following in zip(ordered, ends, strict=True):
        span_s = min(following, at_s + 90.0, 60.0) - max(at_s, 0.0)
        if good and span_s > 0:
            low.append(value)
            high.append(value)
            energy += value * span_s
            known_s += span_s
            last = value
    if last is None:
        return None
    return min(low), energy / known_s, max(high), last, known_s


@pytest.fixture(scope="module")
def memory() -> Iterator[sqlite3.Connection]:
    """An empty journal in memory."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    teach(connection)
    for statement in (statement for step in STEPS for statement in step):
        connection.execute(statement)
    yield connection
    connection.close()


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(-95_000, 70_000).map(lambda ms: ms / 1000),
            st.integers(-9_999_999, 9_999_999).map(lambda whole: whole / 10_000),
            st.sampled_from([True, True, True, False]),
        ),
        max_size=12,
    )
)
def test_a_minute_is_what_its_readings_say(
    memory: sqlite3.Connection, samples: list[Sample]
) -> None:
    memory.execute("DELETE FROM reading_row")
    memory.execute("DELETE FROM word WHERE id > 1")
    rows: list[Row] = [
        ReadingRow(BEGIN + timedelta(seconds=at_s), "B1", "soc_pct", value, "good" if ok else "bad")
        for at_s, value, ok in samples
    ]
    fresh: dict[str, int] = {}
    table = TABLES[ReadingRow]
    words = {"good": 0, "site": 1}
    bound = number_words(table, [bind(row) for row in rows], words, fresh)
    memory.executemany(table.insert, bound)
    memory.executemany("INSERT INTO word (text, id) VALUES (?, ?)", fresh.items())
    begin = micros(BEGIN)
    found = memory.execute(MINUTE_SQL, (begin, begin + MINUTE)).fetchall()
    wanted = expected([each for each in samples if -90 < each[0] < 60])
    if wanted is None:
        assert found == []
        return
    ((unit, point, low, mean, high, last, known_us),) = found
    assert (unit, point) == ("B1", "soc_pct")
    assert (low, high, last) == (wanted[0], wanted[2], wanted[3])
    assert known_us / 1e6 == pytest.approx(wanted[4])
    assert mean == pytest.approx(wanted[1], abs=1e-6)
    assert low - 1e-9 <= mean <= high + 1e-9


# --- the task -------------------------------------------------------------------------------------


def site_row(at: datetime, hz: float) -> SiteRow:
    return SiteRow(at, hz, None, "PMU1", 10.0, 0.0, 0.0, 10.0, 9.5, "[]")


def quiet_half_hour(chance: random.Random) -> list[Row]:
    """Rows of 31 minutes with a hole of five minutes in it."""
    rows: list[Row] = []
    for second in range(31 * 60):
        if not 600 <= second < 900:
            at = BEGIN + timedelta(seconds=second)
            rows.append(site_row(at, 50 + chance.uniform(-0.1, 0.1)))
            rows.append(dataclasses.replace(setpoint(0), at=at, got_kw=float(second // 60)))
    return rows


async def test_years_stay_readable_when_the_rows_of_a_second_are_gone(path: Path) -> None:
    clock = Standing(BEGIN + timedelta(minutes=40))
    async with running(path) as site:
        for row in quiet_half_hour(random.Random(1)):
            site.journal.append(row)
        await until(lambda: not site.journal.status().queued_rows)
        first = Rollup(site.journal, clock, QUICK_PACE)
        while await first.step():
            pass
        again = Rollup(site.journal, clock, QUICK_PACE)  # after a restart
        while await again.step():
            pass
        got = await site.journal.select(
            "SELECT (at - ?) / 60000000, low, mean, high, last, known_s FROM minute "
            "WHERE unit = 'B1' AND point = 'setpoint.got_kw' ORDER BY at",
            (micros(BEGIN),),
        )
        assert [n for n, *_ in got] == [n for n in range(31) if not 10 <= n < 15]
        for n, low, mean, high, last, known_s in got:
            assert (low, mean, high, last, known_s) == (n, n, n, n, 60)
        quarters = await site.journal.select(
            "SELECT at_utc, low, round(mean, 3), high, last, known_s FROM quarter "
            "WHERE unit = 'B1' AND point = 'setpoint.got_kw' ORDER BY at"
        )
        assert quarters == [
            ("2026-11-22T05:45:00.000Z", 0.0, 4.5, 9.0, 9.0, 600),
            ("2026-11-22T06:00:00.000Z", 15.0, 22.0, 29.0, 29.0, 900),
        ]
        assert await site.journal.select(
            "SELECT count(DISTINCT at) FROM minute WHERE point = 'site.frequency_hz'"
        ) == [(26,)]


async def test_reports_say_when_only_roll_ups_are_left(path: Path) -> None:
    zone = ZoneInfo("UTC")
    async with running(path) as site:
        for row in quiet_half_hour(random.Random(1)):
            site.journal.append(row)
        rollup = Rollup(site.journal, Standing(BEGIN + timedelta(hours=2)), QUICK_PACE)
        await until(lambda: not site.journal.status().queued_rows)
        while await rollup.step():
            pass
    month = BEGIN.date()
    assert "only roll-ups" not in frequency_report(path.parent, month, zone, "md")
    with connect(path, "rw") as connection:
        connection.execute("DELETE FROM site_row WHERE at < ?", (micros(BEGIN) + 20 * MINUTE,))
    told = frequency_report(path.parent, month, zone, "md")
    assert "Before 2026-11-22 06:05 only roll-ups are left: 49.9" in told
    with connect(path, "rw") as connection:
        connection.execute("DELETE FROM site_row")
    told = frequency_report(path.parent, month, zone, "html")
    assert "Before 2026-12-01 00:00 only roll-ups are left" in told


async def test_why_says_when_only_roll_ups_are_left(path: Path) -> None:
    async with running(path) as site:
        for row in quiet_half_hour(random.Random(1)):
            site.journal.append(row)
        rollup = Rollup(site.journal, Standing(BEGIN + timedelta(hours=2)), QUICK_PACE)
        await until(lambda: not site.journal.status().queued_rows)
        while await rollup.step():
            pass
        shown = cast("Site", SimpleNamespace(journal=site.journal))
        unit, at = UnitId("B1"), BEGIN + timedelta(minutes=3, seconds=30)
        told = await rolled_up(shown, unit, at)
        assert told == (
            "only roll-ups are left; the minute from 2026-11-22T05:48:00.000Z: "
            "asked 23.5 kW (23.5 to 23.5), got 3.0 kW (3.0 to 3.0)"
        )
        with connect(path, "rw") as connection:
            connection.execute("DELETE FROM minute_row")
        assert "the quarter from 2026-11-22T05:45" in str(await rolled_up(shown, unit, at))
        assert await rolled_up(shown, unit, at - timedelta(days=2)) is None


async def test_rows_of_a_second_wait_for_their_roll_up_and_then_go(path: Path) -> None:
    """Each table has its own age; roll-ups, commands and trips are kept the longest."""
    now = datetime.now(UTC)
    old, older = now - timedelta(days=40), now - timedelta(days=100)
    rows: list[Row] = [
        *(dataclasses.replace(reading(0), at=old + timedelta(seconds=n)) for n in range(120)),
        dataclasses.replace(event(1), at=older),
        dataclasses.replace(trip(1), at=older),
        dataclasses.replace(trip(2), at=older),
        dataclasses.replace(reading(0), at=now),
    ]
    bounds = dataclasses.replace(QUICK, keep_house_s=0.0)
    age, keep = JournalSettings(retain_days=90), KeepSettings(readings_days=30, records_days=1000)
    counts = "SELECT (SELECT count(*) FROM reading), (SELECT count(*) FROM event)"
    async with running(path, bounds, age, keep=keep) as site:
        for row in rows:
            assert await site.journal.commit(row)
        await until(lambda: not site.journal.status().queued_rows)
        while await site.journal.select(counts) != [(121, 0)]:
            assert await site.journal.commit(trip(3))
        rollup = Rollup(site.journal, Standing(now), Pace(step_s=0.0, look_s=0.0))
        while await rollup.step():
            pass
        while (await site.journal.select(counts))[0][0] != 1:
            assert await site.journal.commit(trip(3))
        minutes = await site.journal.select("SELECT count(*) >= 2, sum(known_s) FROM minute")
        assert minutes[0][0] == 1
        assert (await site.journal.select("SELECT count(*) >= 2 FROM trip")) == [(1,)]


async def test_a_clock_that_was_set_back_does_not_stop_the_roll_ups(path: Path) -> None:
    clock = Standing(BEGIN + timedelta(minutes=5))
    async with running(path) as site:
        rollup = Rollup(site.journal, clock, Pace(settle_s=0.0))
        for day in (300, 0):  # it ran ahead once
            assert await site.journal.commit(site_row(BEGIN + timedelta(days=day), 50.0))
        clock.at += timedelta(days=300)
        while await rollup.step():
            pass
        clock.at -= timedelta(days=300)
        assert await site.journal.commit(site_row(BEGIN + timedelta(minutes=2), 49.9))
        while await rollup.step():
            pass
        found = await site.journal.select(
            "SELECT low FROM minute WHERE point = 'site.frequency_hz' ORDER BY at"
        )
        assert found == [(50.0,), (49.9,), (50.0,)]


# --- wear -----------------------------------------------------------------------------------------


def test_what_the_disk_is_given_a_day_is_known_after_half_an_hour(tmp_path: Path) -> None:
    counters = tmp_path / "io"

    clock = Standing(BEGIN)
    writes = DiskWrites(clock, budget_mb_per_day=100, counters=counters)
    assert writes.status().written_mb is None  # no Linux
    for hour in range(70):
        clock.at = BEGIN + timedelta(hours=hour)
        a_day_mb = 48 if hour <= 30 else 480
        mb = hour * 2 if hour <= 30 else 60 + (hour - 30) * 20
        counters.write_text(f"rchar: 1\nwrite_bytes: {mb * 1_000_000}\ncancelled_write_bytes: 0\n")
        status = writes.status()
        assert status.written_mb == mb
        if 1 <= hour <= 30 or hour > 56:
            assert status.mb_per_day == pytest.approx(a_day_mb, rel=0.01)
            assert status.over_budget is (a_day_mb > 100)


def test_who_asks_seldom_is_told_what_is_written_a_day(tmp_path: Path) -> None:
    counters, clock = tmp_path / "io", Standing(BEGIN)
    writes = DiskWrites(clock, budget_mb_per_day=100, counters=counters)
    for week in range(4):
        clock.at = BEGIN + timedelta(weeks=week)
        counters.write_text(f"write_bytes: {week * 7 * 200 * 1_000_000}\n")
        status = writes.status()
        if week:
            assert status.mb_per_day == pytest.approx(200.0)
            assert status.over_budget
