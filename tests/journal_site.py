"""A running journal, its rows, and a program that writes one: what the journal's tests share."""

import asyncio
import contextlib
import dataclasses
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from vppd.core.alarms import Code
from vppd.core.records import (
    CommandRow,
    EventRow,
    EvidenceRow,
    KeptRow,
    ReadingRow,
    Row,
    SetpointRow,
    SiteRow,
    TelemetryRow,
    TripRow,
    ViolationRow,
)
from vppd.core.records_market import (
    MarketBidRow,
    MarketBlockRow,
    MarketPriceRow,
    MarketResultRow,
    SettlementLineRow,
)
from vppd.core.records_years import MinuteRow, QuarterRow
from vppd.core.settings import JournalSettings
from vppd.core.settings_journal import KeepSettings
from vppd.spine.clock import SystemClock
from vppd.spine.journal import Bounds, SqliteJournal

AT = datetime(2026, 11, 22, 5, 45, 0, 123456, tzinfo=UTC)
QUICK = Bounds(
    batch_s=0.02, commit_s=1.0, stuck_s=0.2, busy_s=0.1, retry_min_s=0.05, retry_max_s=0.1
)


def trip(n: int, scope: str = "B1", code: str = "soc_low", action: str = "trip") -> TripRow:
    return TripRow(AT + timedelta(seconds=n), scope, code, action, "gate", str(n))


def reading(n: int, unit: str = "B1") -> ReadingRow:
    return ReadingRow(AT + timedelta(milliseconds=n), unit, "power_kw", float(n), "good")


def event(n: int, text: str = "x") -> EventRow:
    return EventRow(AT + timedelta(seconds=n), "link_lost", "B1", 2, text)


def setpoint(n: int, clamps_json: str = "[]") -> SetpointRow:
    at = AT + timedelta(milliseconds=n)
    return SetpointRow(
        at, "B1", "running", 30.0, -6.5, 23.5, 20.0, 0.0, 0.0, clamps_json, "written", 20.0, None
    )


ONE_OF_EACH: tuple[Row, ...] = (
    reading(7),
    setpoint(8, '[{"why": "ramp"}]'),
    SiteRow(AT, 49.9712345, None, "PMU1", 120.0, -24.1234, -24.0, 96.0, 95.5, "[]"),
    EventRow(AT, "link_lost", "B1", 2, "no answer\nsince 3 s: Größe", '{"n": 3}'),
    ViolationRow(AT, "B1", "soc_low", "warning", "reduce", 9.8, None, "SoC 9.8 %"),
    CommandRow(AT, 1000, "asha", "dispatch", "site", "{}", "accepted", "40 kW"),
    TripRow(AT, "B1", "soc_low", "trip", "gate", "x"),
    EvidenceRow(AT, 49.9712, None, 120.0, -24.1234, 0.0, -24.0, 95.5, 95.4, 0),
    TelemetryRow(AT, '{"site": [1.5, null]}'),
    KeptRow(AT, "mqtt telemetry", '{"seq": 7}'),
    MarketBidRow(AT, AT, "iex", "dam", "d", "sell", "single", 4999.0, 1.5, "b1", "sent"),
    MarketResultRow(AT, AT, "iex", "dam", "d", -0.5, 3210.25, "final", "b1"),
    MarketPriceRow(AT, AT, "dam", "W2", "cleared", 3210.25, "iex"),
    MarketBlockRow(
        *(AT, AT, 1.5, 0.0, -0.125, 0.0, -0.125, 0.001, 0.0, 0.0, -0.12, 0.004),
        *('{"limits": 0.004}', 49.98, 51.0, None, 0.0, 2.0, 0.0),
    ),
    MinuteRow(AT, "B1", "soc_pct", 49.5, 50.0, 50.5, 50.5, 60),
    QuarterRow(AT, "site", "site.frequency_hz", 49.9, 50.0123, 50.1, 50.0, 900),
    SettlementLineRow(AT, AT, "dsm", -1.5, 166.65, -249975, "dsm-2024", "x", verified=False),
)


class Troubles(list[tuple[Code, bool, str]]):
    def __call__(self, code: Code, active: bool, text: str) -> None:
        self.append((code, active, text))

    def standing(self) -> set[Code]:
        codes: set[Code] = set()
        for code, active, _ in self:
            (codes.add if active else codes.discard)(code)
        return codes


@dataclasses.dataclass
class Site:
    journal: SqliteJournal
    troubles: Troubles
    trips: tuple[TripRow, ...] | None


@contextlib.asynccontextmanager
async def running(
    path: Path,
    bounds: Bounds = QUICK,
    settings: JournalSettings = JournalSettings(),  # noqa: B008
    time_is_trusted: Callable[[], bool] = lambda: True,
    keep: KeepSettings = KeepSettings(),  # noqa: B008
) -> AsyncIterator[Site]:
    troubles = Troubles()
    journal = SqliteJournal(
        *(path, SystemClock(), troubles, settings),
        time_is_trusted=time_is_trusted,
        bounds=bounds,
        keep=keep,
    )
    opened = await journal.open()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(journal.run())
        try:
            yield Site(journal, troubles, opened.trips)
        finally:
            await journal.close()


async def until(true: Callable[[], bool], within_s: float = 20.0) -> None:
    async with asyncio.timeout(within_s):
        while not true():
            await asyncio.sleep(0.01)


def rows_of(path: Path, sql: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return connection.execute(sql).fetchall()


async def opened_trips(path: Path) -> tuple[TripRow, ...] | None:
    async with running(path) as site:
        return site.trips


def drops(site: Site) -> int:
    return site.journal.status().dropped_rows


WRITER = """
import asyncio, sys
from pathlib import Path
from tests.journal_site import QUICK, reading, trip
from vppd.spine.clock import SystemClock
from vppd.spine.journal import SqliteJournal

async def main(path, first):
    journal = SqliteJournal(Path(path), SystemClock(), print, bounds=QUICK)
    await journal.open()
    async def commit(lane):
        n = first + lane
        while True:
            journal.append(reading(n))
            if await journal.commit(trip(n)):
                sys.stdout.write(f"{n}\\n")
                sys.stdout.flush()
            n += 4
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(journal.run())
        for lane in range(4):
            tasks.create_task(commit(lane))

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


@contextlib.contextmanager
def writing(path: Path, first: int) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(first)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
