"""Reading the journal: one read-only connection, off the loop, whatever the writer does."""

import asyncio
import sqlite3
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import aiosqlite

from vppd.spine.store import connect

_Result = TypeVar("_Result")


class Query:
    """One query at a time, each within `timeout_s`."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._connection: aiosqlite.Connection | None = None
        self._turn = asyncio.Lock()
        self._closed = False

    async def select(self, sql: str, parameters: Sequence[object]) -> list[tuple[object, ...]]:
        """The rows. Raises OSError when the file cannot be read or the query fails; a query that
        is still waiting or running after `timeout_s` is given up with TimeoutError, an OSError."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._turn.acquire()
                return await own(self._fetch(sql, parameters))  # it lets the turn go at its end
        except TimeoutError:
            await self._interrupt()
            raise TimeoutError(f"{self._path} did not answer in time") from None
        except sqlite3.Error as error:
            raise OSError(f"{self._path}: {named(error)}") from error

    async def close(self) -> None:
        """Break off the query that runs, if any; none after it."""
        self._closed = True
        await self._interrupt()
        async with self._turn:
            await self._disconnect()

    async def _fetch(self, sql: str, parameters: Sequence[object]) -> list[tuple[object, ...]]:
        try:
            if self._closed:
                raise OSError(f"{self._path} was closed")
            if self._connection is None:
                self._connection = await start(self._path, "ro", self._timeout_s)
            return [tuple(row) for row in await self._connection.execute_fetchall(sql, parameters)]
        except sqlite3.Error:
            await self._disconnect()
            raise
        finally:
            self._turn.release()

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                await connection.close()

    async def _interrupt(self) -> None:
        with suppress(ValueError, sqlite3.Error):  # it may just have been closed
            if self._connection is not None:
                await self._connection.interrupt()


async def start(path: Path, mode: str, busy_s: float) -> aiosqlite.Connection:
    """A connection with its own thread. Raises sqlite3.Error."""
    connection = aiosqlite.Connection(
        lambda: connect(path, mode, busy_s=busy_s), iter_chunk_size=64
    )
    # a thread that waits for a hung disk must not hold up the end of the process
    connection._thread.daemon = True  # noqa: SLF001
    return await connection


def own(work: Coroutine[object, object, _Result]) -> asyncio.Future[_Result]:
    """Work that runs to its end even when whoever awaits it is cancelled."""
    return asyncio.shield(work)


def named(error: Exception) -> str:
    """What SQLite says, with the name of its code."""
    name = getattr(error, "sqlite_errorname", "")
    return f"{error} ({name})" if name else str(error)
