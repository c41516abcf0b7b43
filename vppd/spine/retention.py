"""How the journal's file stays within its size and age: bounded steps, the dispensable first.

The write-ahead log goes into the file (a checkpoint) each 500 pages, 2 MB, and is cut back to 4 MB.
Rows of a second go when they are old enough and rolled up; rows that are chained leave their ids in
`forgotten`, a whole day of them at a time. How old they are is told by `vppd.spine.lived`.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import aiosqlite

from vppd.core.records import KeptRow, ReadingRow, SetpointRow, SiteRow, TelemetryRow
from vppd.core.records_years import MinuteRow, QuarterRow
from vppd.core.settings_journal import KeepSettings
from vppd.spine.chain import CHAINED
from vppd.spine.lived import LivedTime
from vppd.spine.schema import TABLES, TRIM_GROUPS, Table, bind, delete_oldest, from_micros, micros

CHECKPOINT_PAGES = 500
_MB = 1024 * 1024
PAGE_BYTES = 4096
_WAL_MB = 4  # of the size, left to the write-ahead log
_FULL_FROM = 0.9  # of the pages; the rest is for what comes while old rows go
_ANY_AGE = 2**62
_MINUTE_US = 60_000_000
LIVED = "journal lived"
"""The name under which `kept` has the time that rows are aged by."""
_LIVED_EACH = timedelta(hours=1)
_NEVER = from_micros(0)
_LIVED_SQL = """SELECT (SELECT json_extract(value_json, '$.until') FROM kept
        WHERE name = ? AND json_valid(value_json)),
    (SELECT max(at) FROM site_row)"""


@dataclasses.dataclass(frozen=True, slots=True)
class Ages:
    """How old each kind of row may become, days."""

    keep: KeepSettings
    retain_days: int

    def before(self, table: Table, now: datetime) -> datetime:
        """Rows of this table from before then may go."""
        keep = self.keep
        fine = {
            TABLES[ReadingRow]: keep.readings_days,
            TABLES[SetpointRow]: keep.setpoints_days,
            TABLES[SiteRow]: keep.setpoints_days,
            TABLES[TelemetryRow]: keep.telemetry_days,
        }
        if table in fine:
            return now - timedelta(days=min(fine[table], self.retain_days))
        rolled = {TABLES[MinuteRow]: keep.minutes_days, TABLES[QuarterRow]: keep.quarters_days}
        return now - timedelta(days=rolled.get(table, self.retain_days))

    def records_before(self, now: datetime) -> datetime:
        """Chained rows from before this midnight may go."""
        midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return midnight - timedelta(days=self.keep.records_days)


_ROLLED = (TABLES[ReadingRow], TABLES[SetpointRow], TABLES[SiteRow])


class Retention:
    """Deletes on a connection that the caller lends. All calls raise sqlite3.Error."""

    def __init__(self, max_mb: int, step_rows: int, ages: Ages) -> None:
        self._max_pages = (max_mb - _WAL_MB) * _MB // PAGE_BYTES
        self._step_rows = step_rows
        self._ages = ages
        self._pages = 0
        self._found: datetime | None = None  # in the file when it was opened
        self._lived: LivedTime | None = None
        self._lived_kept = _NEVER

    def keep(self, ages: Ages) -> None:
        """So long from now on."""
        self._ages = ages

    @property
    def file_mb(self) -> float:
        """Size of the file when it was last looked at."""
        return self._pages * PAGE_BYTES / _MB

    async def bound(self, connection: aiosqlite.Connection) -> None:
        """Let SQLite itself refuse to grow the file beyond its size. Also looks how old it is."""
        await self._find_lived(connection)
        for setting in (
            f"wal_autocheckpoint = {CHECKPOINT_PAGES}",
            f"journal_size_limit = {_WAL_MB * _MB}",
            f"max_page_count = {self._max_pages}",
        ):
            await connection.execute_fetchall(f"PRAGMA {setting}")

    async def forget_aged(
        self, connection: aiosqlite.Connection, utc: datetime, now_s: float
    ) -> None:
        """One step a table. What rules still (the newest trips) stays, and so do for a while rows
        of a second that nobody has rolled up yet."""
        now = await self._aged_by(connection, utc, now_s)
        mark = await self._rolled_until(connection, now)
        oldest = micros(now - timedelta(days=self._ages.retain_days))
        for table in TABLES.values():
            before = micros(self._ages.before(table, now))
            if table in _ROLLED:
                before = min(before, max(mark, oldest))
            chained = CHAINED.get(table.name)
            if chained is None:
                await self._delete(connection, table, before)
                continue
            if chained.where != "1":
                await self._delete(connection, table, before, f"NOT ({chained.where})")
            before = micros(self._ages.records_before(now))
            await self._forget(connection, table, before, utc)

    async def fit(
        self, connection: aiosqlite.Connection, now: datetime, urgent: Callable[[], bool]
    ) -> bool:
        """Delete until there is room again; False: stopped after a step because rows wait."""
        while await self._used_pages(connection) > _FULL_FROM * self._max_pages:
            if not await self._delete_oldest(connection, now):
                break
            if urgent():
                return False
        if self._pages > self._max_pages:  # the size was set lower
            # as a script: execute() would step this pragma once, which is one page
            await connection.executescript("PRAGMA incremental_vacuum(500)")
        return True

    async def make_room(self, connection: aiosqlite.Connection, now: datetime) -> bool:
        """When SQLite found no room: one step, if it was our own bound. False: it was the disk."""
        near = await self._used_pages(connection) > _FULL_FROM * self._max_pages
        return near and await self._delete_oldest(connection, now)

    async def _delete_oldest(self, connection: aiosqlite.Connection, now: datetime) -> bool:
        """One step in the first group that has rows, in its table with the oldest."""
        for group in TRIM_GROUPS:
            oldest: list[tuple[int, Table]] = []
            for table in group:
                sql = f"SELECT min(at) FROM {table.stored_in}"  # noqa: S608  (our own name)
                ((at,),) = await connection.execute_fetchall(sql)
                if at is not None:
                    oldest.append((at, table))
            for _, table in sorted(oldest, key=lambda each: each[0]):
                if await self._forget(connection, table, _ANY_AGE, now):
                    return True
        return False

    async def _forget(
        self, connection: aiosqlite.Connection, table: Table, before: int, now: datetime
    ) -> int:
        """One step; of chained rows the ids are written down in the same transaction."""
        chained = CHAINED.get(table.name)
        if chained is None:
            return await self._delete(connection, table, before)
        gone = 0
        await connection.execute("BEGIN IMMEDIATE")
        try:
            gone = await self._forget_chained(connection, table, before, now)
            await connection.execute("COMMIT")
        except BaseException:
            await connection.rollback()
            raise
        return gone

    async def _forget_chained(
        self, connection: aiosqlite.Connection, table: Table, before: int, now: datetime
    ) -> int:
        where = CHAINED[table.name].where
        sql = f"{delete_oldest(table)} RETURNING id, {where}"
        bounds = {"before": before, "rows": self._step_rows}
        found = [*await connection.execute_fetchall(sql, bounds)]
        if ids := sorted(int(id_) for id_, in_chain in found if in_chain):
            row = micros(now), table.name, spans(ids)
            await connection.execute("INSERT INTO forgotten (at, kind, ids) VALUES (?, ?, ?)", row)
        return len(found)

    async def _delete(
        self, connection: aiosqlite.Connection, table: Table, before: int, only: str = ""
    ) -> int:
        bounds = {"before": before, "rows": self._step_rows}
        return (await connection.execute(delete_oldest(table, only), bounds)).rowcount

    async def _find_lived(self, connection: aiosqlite.Connection) -> None:
        """A file of before this was kept has come as far as its newest row, and is told at once; a
        fresh one has nothing to lose yet."""
        ((kept, newest),) = await connection.execute_fetchall(_LIVED_SQL, (LIVED,))
        at = kept if kept is not None else newest
        self._found = from_micros(int(at)) if at is not None else None
        if kept is not None and self._found is not None:
            self._lived_kept = self._found

    async def _aged_by(
        self, connection: aiosqlite.Connection, utc: datetime, now_s: float
    ) -> datetime:
        """The time by which rows are aged, which outlives this run."""
        if self._lived is None:
            self._lived = LivedTime(self._found or utc)
            self._lived_kept = self._lived_kept if self._found is not None else utc
        aged_by, lived = self._lived.until(utc, now_s), self._lived.known
        if abs(lived - self._lived_kept) >= _LIVED_EACH:
            row = KeptRow(utc, LIVED, json.dumps({"until": micros(lived)}))
            await connection.execute(TABLES[KeptRow].insert, bind(row))
            self._lived_kept = lived
        return aged_by

    async def _rolled_until(self, connection: aiosqlite.Connection, now: datetime) -> int:
        """Rows of a second from before then have their roll-up."""
        sql = "SELECT max(at) FROM minute_row WHERE at <= ?"
        ((at,),) = await connection.execute_fetchall(sql, (micros(now),))
        return int(at) + _MINUTE_US if at is not None else 0

    async def _used_pages(self, connection: aiosqlite.Connection) -> int:
        ((pages,),) = await connection.execute_fetchall("PRAGMA page_count")
        ((free,),) = await connection.execute_fetchall("PRAGMA freelist_count")
        self._pages = int(pages)
        return self._pages - int(free)


def spans(ids: Sequence[int]) -> str:
    """`3-8,11` of ascending ids."""
    runs: list[list[int]] = []
    for id_ in ids:
        if runs and id_ == runs[-1][1] + 1:
            runs[-1][1] = id_
        else:
            runs.append([id_, id_])
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs)


def ranges(text: str) -> Iterator[tuple[int, int]]:
    """First and last id of each span. Raises ValueError."""
    for span in text.split(","):
        first, _, last = span.partition("-")
        yield int(first), int(last or first)
