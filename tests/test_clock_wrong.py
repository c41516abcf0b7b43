"""A wall clock that is years off for a day: what it costs the journal, and what it must not."""

import asyncio
import contextlib
import dataclasses
import sqlite3
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.journal_site import QUICK, event, reading, running, setpoint, trip
from vppd.cli import bundle
from vppd.cli.last_rows import last_rows
from vppd.cli.report.command import frequency_report
from vppd.core.records import ReadingRow, SiteRow
from vppd.core.settings import JournalSettings
from vppd.core.settings_journal import KeepSettings
from vppd.spine.clock import SystemClock
from vppd.spine.journal import SqliteJournal
from vppd.spine.lived import FASTER, LivedTime
from vppd.spine.retention import LIVED
from vppd.spine.rollup import Pace, Rollup
from vppd.spine.schema import micros

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
KEPT_DAYS = 30
YEARS = timedelta(days=5 * 365)


class WrongClock(SystemClock):
    """Its wall clock stands where it was put."""

    def __init__(self) -> None:
        self.wall = NOW

    def utc(self) -> datetime:
        return self.wall


@contextlib.asynccontextmanager
async def journal_on(path: Path, clock: WrongClock) -> AsyncIterator[SqliteJournal]:
    """A journal that keeps house with each row, on a clock whose word is trusted."""
    journal = SqliteJournal(
        *(path, clock, lambda *_: None, JournalSettings(retain_days=KEPT_DAYS)),
        bounds=dataclasses.replace(QUICK, keep_house_s=0.0),
        keep=KeepSettings(readings_days=KEPT_DAYS, records_days=KEPT_DAYS),
    )
    await journal.open()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(journal.run())
        try:
            yield journal
        finally:
            await journal.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


def old_reading(days: float) -> ReadingRow:
    return dataclasses.replace(reading(0), at=NOW - timedelta(days=days))


def site_row(at: datetime) -> SiteRow:
    return SiteRow(at, 50.0, 0.0, "PMU1", 40.0, 0.0, 0.0, 40.0, 40.0, "[]")


async def count(journal: SqliteJournal, table: str) -> int:
    ((found,),) = await journal.select(f"SELECT count(*) FROM {table}")  # noqa: S608
    return int(str(found))


async def kept_house(journal: SqliteJournal, times: int = 3) -> None:
    for _ in range(times):
        assert await journal.commit(trip(1))


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_clock_years_ahead_deletes_nothing(path: Path, *, restarted: bool) -> None:
    clock = WrongClock()
    async with journal_on(path, clock) as journal:
        assert await journal.commit(site_row(NOW))
        for days in range(KEPT_DAYS - 2):
            assert await journal.commit(old_reading(days))
        await kept_house(journal)
        if not restarted:
            clock.wall += YEARS
        await kept_house(journal)
        assert await count(journal, "reading") == KEPT_DAYS - 2
    if restarted:
        clock.wall += YEARS
        async with journal_on(path, clock) as journal:
            await kept_house(journal)
            assert await count(journal, "reading") == KEPT_DAYS - 2
            assert await count(journal, "trip") > 1


async def test_a_file_of_before_is_aged_by_its_newest_row(path: Path) -> None:
    """The first start of a version that counts: the rows say how far the site had come."""
    clock = WrongClock()
    async with journal_on(path, clock) as journal:
        assert await journal.commit(site_row(NOW))
        assert await journal.commit(old_reading(1))
        await kept_house(journal)
    async with journal_on(path, clock) as journal:
        await kept_house(journal)
        ((kept,),) = await journal.select("SELECT count(*) FROM kept WHERE name = ?", (LIVED,))
        assert kept == 1
    with contextlib.closing(sqlite3.connect(path)) as file:
        file.execute("DELETE FROM kept")
        file.commit()
    clock.wall += YEARS
    async with journal_on(path, clock) as journal:
        await kept_house(journal)
        assert await count(journal, "reading") == 1
    async with journal_on(path, clock) as journal:  # and once more, with rows of a wrong time
        assert await journal.commit(site_row(clock.wall))
    async with journal_on(path, clock) as journal:
        await kept_house(journal)
        assert await count(journal, "reading") == 1


async def test_what_is_old_by_a_right_clock_goes(path: Path) -> None:
    clock = WrongClock()
    async with journal_on(path, clock) as journal:
        for days in (KEPT_DAYS + 40, KEPT_DAYS + 39, 1):
            assert await journal.commit(old_reading(days))
        async with asyncio.timeout(60):
            while await count(journal, "reading") != 1:
                await kept_house(journal, 1)


Steps = st.lists(st.tuples(st.floats(0.0, 90_000.0), st.floats(-2e8, 2e8)), min_size=1, max_size=60)


@settings(deadline=None)
@given(steps=Steps)
def test_no_wall_clock_hurries_age(steps: list[tuple[float, float]]) -> None:
    """However it jumps: never later than it says, and never faster than twice the true time."""
    lived, now_s, began = LivedTime(NOW), 0.0, NOW
    for since_s, off_s in steps:
        now_s += since_s
        utc = began + timedelta(seconds=now_s + off_s)
        until_ = lived.until(utc, now_s)
        assert until_ <= utc
        assert until_ <= began + timedelta(seconds=FASTER * now_s + 0.001)


def test_who_was_off_catches_up_as_long_as_that() -> None:
    lived = LivedTime(NOW)
    off, day_s = timedelta(days=7), 86_400.0
    for day in range(8):
        now = NOW + off + timedelta(days=day)
        until_ = lived.until(now, 1000.0 + day * day_s)
        assert now - until_ == timedelta(days=7 - day)
    behind = lived.until(now - YEARS, 1000.0 + 8 * day_s)  # a day in the past costs two
    assert behind == now - YEARS
    for day, lags in ((9, 2), (10, 1), (11, 0)):
        then = now + timedelta(days=day - 7)
        assert then - lived.until(then, 1000.0 + day * day_s) == timedelta(days=lags)


# --- roll-ups -------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def rolled(path: Path, clock: WrongClock) -> AsyncIterator[tuple[SqliteJournal, Rollup]]:
    async with running(path) as site:
        yield site.journal, Rollup(site.journal, clock, Pace(settle_s=0.0))


async def all_rolled(rollup: Rollup) -> int:
    steps = 0
    while await rollup.step():
        steps += 1
    return steps


MINUTES = "SELECT at, low, high, known_s FROM minute WHERE point = 'site.frequency_hz' ORDER BY at"


async def test_a_clock_that_was_behind_for_a_day_spoils_no_roll_up(path: Path) -> None:
    """Rows of old minutes are partly gone by then: they are not made again of what is left."""
    clock, begin = WrongClock(), NOW - timedelta(days=3)
    async with rolled(path, clock) as (journal, rollup):
        for second in range(300):
            journal.append(site_row(begin + timedelta(seconds=second)))
        assert await journal.commit(site_row(NOW - timedelta(minutes=5)))
        assert await all_rolled(rollup) == 6
        before = await journal.select(MINUTES)
        clock.wall -= YEARS
        assert await journal.commit(site_row(clock.wall - timedelta(minutes=5)))
        assert await all_rolled(rollup) == 1
        clock.wall += YEARS
        with contextlib.closing(sqlite3.connect(path)) as file:
            file.execute("DELETE FROM site_row WHERE at < ?", (micros(begin) + 30_000_000,))
            file.commit()
        assert await journal.commit(site_row(NOW - timedelta(minutes=3)))
        assert await all_rolled(rollup) == 2  # the newest again, and the new one
        assert (await journal.select(MINUTES))[1:-1] == before


async def test_a_clock_that_was_set_back_a_little_loses_no_minute(path: Path) -> None:
    clock = WrongClock()
    async with rolled(path, clock) as (journal, rollup):
        assert await journal.commit(site_row(NOW - timedelta(minutes=1)))
        assert await all_rolled(rollup) == 1
        clock.wall -= timedelta(minutes=10)
        assert await journal.commit(site_row(NOW - timedelta(minutes=12)))
        assert await all_rolled(rollup) == 1
        minutes = [at for at, *_ in await journal.select(MINUTES)]
        assert minutes == [micros(NOW - timedelta(minutes=each)) for each in (12, 1)]


# --- reports --------------------------------------------------------------------------------------


async def test_rows_of_a_wrong_time_hide_no_gap_in_a_report(path: Path) -> None:
    """The oldest row of all may be of a day when the clock was years behind."""
    clock = WrongClock()
    async with rolled(path, clock) as (journal, rollup):
        for minute in range(120):
            journal.append(site_row(NOW - timedelta(minutes=130 - minute)))
        assert await journal.commit(site_row(NOW))
        clock.wall += timedelta(hours=1)
        await all_rolled(rollup)
        assert await journal.commit(site_row(NOW - YEARS))
    month = NOW.date()
    told = frequency_report(path.parent, month, ZoneInfo("UTC"), "md")
    assert "only roll-ups" not in told
    with contextlib.closing(sqlite3.connect(path)) as file:
        file.execute("DELETE FROM site_row WHERE at >= ? AND at < ?", (0, micros(NOW)))
        file.execute("INSERT INTO site_row (at) VALUES (?)", (micros(NOW - YEARS),))
        file.commit()
    told = frequency_report(path.parent, month, ZoneInfo("UTC"), "md")
    assert "Before 2026-11-22 12:00 only roll-ups are left: 50.0" in told


# --- what is shown of such a journal --------------------------------------------------------------


async def test_rows_of_a_time_to_come_hide_none_of_now(
    path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Once the clock ran years ahead for a day; its rows stay the newest for years."""
    now = datetime.now(UTC)
    monkeypatch.setattr(bundle, "ROWS_MAX", 5)
    monkeypatch.setattr(bundle, "ROWS_AHEAD_MAX", 3)
    async with running(path) as site:
        for second in range(10):
            ahead = now + YEARS + timedelta(seconds=second)
            site.journal.append(dataclasses.replace(setpoint(1), at=ahead, got_kw=-9.0))
            site.journal.append(dataclasses.replace(event(1), at=ahead, text="ahead"))
            assert await site.journal.commit(site_row(ahead))
        recent = now - timedelta(seconds=30)
        site.journal.append(dataclasses.replace(setpoint(1), at=recent, got_kw=7.0))
        site.journal.append(dataclasses.replace(event(1), at=recent, text="now"))
        assert await site.journal.commit(site_row(recent))
    shown = last_rows(tmp_path)
    assert 0.0 < shown["site"]["age_s"] < 3600.0
    assert [each["setpoint_kw"] for each in shown["units"]] == [7.0]
    assert shown["events"][-1]["text"] == "now"
    kept = dict(bundle.journal(path, now - timedelta(days=1), now + timedelta(hours=1)))
    assert kept["event"].count("now") == 1
    assert kept["event"].count("ahead") == 0
    assert kept["event-of-a-time-to-come"].count("ahead") == 3
    assert kept["site"].count("\n") == 1
