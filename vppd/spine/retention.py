"""How the journal's file stays within its size and age: bounded steps, the dispensable first."""

from collections.abc import Callable
from datetime import datetime

import aiosqlite

from vppd.spine.schema import TABLES, TRIM_GROUPS, Table, delete_oldest, micros

_MB = 1024 * 1024
_PAGE_BYTES = 4096
_WAL_MB = 4  # of the size, left to the write-ahead log
_FULL_FROM = 0.9  # of the pages; the rest is for what comes while old rows go
_ANY_AGE = 2**62


class Retention:
    """Deletes on a connection that the caller lends. All calls raise sqlite3.Error."""

    def __init__(self, max_mb: int, step_rows: int) -> None:
        self._max_pages = (max_mb - _WAL_MB) * _MB // _PAGE_BYTES
        self._step_rows = step_rows
        self._pages = 0

    @property
    def file_mb(self) -> float:
        """Size of the file when it was last looked at."""
        return self._pages * _PAGE_BYTES / _MB

    async def bound(self, connection: aiosqlite.Connection) -> None:
        """Let SQLite itself refuse to grow the file beyond its size."""
        for setting in (
            "wal_autocheckpoint = 500",
            f"journal_size_limit = {_WAL_MB * _MB}",
            f"max_page_count = {self._max_pages}",
        ):
            await connection.execute_fetchall(f"PRAGMA {setting}")

    async def forget_aged(self, connection: aiosqlite.Connection, before: datetime) -> None:
        """One step a table. What rules still (the newest trips) stays."""
        for table in TABLES.values():
            await self._delete(connection, table, micros(before))

    async def fit(self, connection: aiosqlite.Connection, urgent: Callable[[], bool]) -> bool:
        """Delete until there is room again; False: stopped after a step because rows wait."""
        while await self._used_pages(connection) > _FULL_FROM * self._max_pages:
            if not await self._delete_oldest(connection):
                break
            if urgent():
                return False
        if self._pages > self._max_pages:  # the size was set lower
            # as a script: execute() would step this pragma once, which is one page
            await connection.executescript("PRAGMA incremental_vacuum(500)")
        return True

    async def make_room(self, connection: aiosqlite.Connection) -> bool:
        """When SQLite found no room: one step, if it was our own bound. False: it was the disk."""
        near = await self._used_pages(connection) > _FULL_FROM * self._max_pages
        return near and await self._delete_oldest(connection)

    async def _delete_oldest(self, connection: aiosqlite.Connection) -> bool:
        """One step in the first group that has rows, in its table with the oldest."""
        for group in TRIM_GROUPS:
            oldest: list[tuple[int, Table]] = []
            for table in group:
                sql = f"SELECT min(at) FROM {table.stored_in}"  # noqa: S608  (our own name)
                ((at,),) = await connection.execute_fetchall(sql)
                if at is not None:
                    oldest.append((at, table))
            for _, table in sorted(oldest, key=lambda each: each[0]):
                if await self._delete(connection, table, _ANY_AGE):
                    return True
        return False

    async def _delete(self, connection: aiosqlite.Connection, table: Table, before: int) -> int:
        bounds = {"before": before, "rows": self._step_rows}
        return (await connection.execute(delete_oldest(table), bounds)).rowcount

    async def _used_pages(self, connection: aiosqlite.Connection) -> int:
        ((pages,),) = await connection.execute_fetchall("PRAGMA page_count")
        ((free,),) = await connection.execute_fetchall("PRAGMA freelist_count")
        self._pages = int(pages)
        return self._pages - int(free)
