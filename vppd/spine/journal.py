"""The journal: everything that was done and why, in one SQLite file.

One connection writes, in batches of at most a second, each on disk when its transaction ends (WAL
with synchronous=FULL); another only reads. Rows wait in memory within a bound while the disk does
not take them; control never waits for it. What the file holds is told in `vppd.spine.schema`.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import aiosqlite

from vppd.core.alarms import Code, Level
from vppd.core.ports import Clock
from vppd.core.records import EventRow, Row
from vppd.core.settings import JournalSettings
from vppd.core.settings_journal import DiskSettings, KeepSettings
from vppd.spine.backlog import Backlog, Entry
from vppd.spine.chain import CHAINED, HEAD
from vppd.spine.query import Query, named, own, start
from vppd.spine.retention import Ages, Retention
from vppd.spine.schema import Table, number_words
from vppd.spine.store import (
    JournalBroken,
    JournalNewer,
    JournalRefused,
    Lock,
    Opened,
    prepare,
    read_trips,
)

OnTrouble = Callable[[Code, bool, str], None]
_DEFAULTS = JournalSettings()
_KEEP = KeepSettings()

_MB = 1024 * 1024
_DATA_ERRORS = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    OverflowError,
    UnicodeError,
)
_DISK_ERRORS = (sqlite3.Error, OSError, JournalRefused)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How long and how much, in seconds, rows and bytes."""

    batch_s: float = 1.0
    batch_rows: int = 2000
    commit_s: float = 2.0
    select_s: float = 5.0
    stuck_s: float = 5.0
    busy_s: float = 5.0
    check_s: float = 2.0
    backlog_bytes: int = 16 * _MB
    retry_min_s: float = 1.0
    retry_max_s: float = 30.0
    keep_house_s: float = 10.0
    trim_rows: int = 5000


@dataclass(frozen=True, slots=True)
class JournalStatus:
    """How the journal is, for status and metrics."""

    failed: str | None
    queued_rows: int
    queued_bytes: int
    written_rows: int
    dropped_rows: int
    file_mb: float
    anchor: str | None  # `seq:hash` of the newest entry of the chain


class SqliteJournal:
    """`core.ports.Journal` over one file. `open()`, then `run()` in a task, at last `close()`."""

    def __init__(
        self,
        path: Path,
        clock: Clock,
        on_trouble: OnTrouble,
        settings: JournalSettings = _DEFAULTS,
        *,
        time_is_trusted: Callable[[], bool] = lambda: True,
        bounds: Bounds = Bounds(),
        keep: KeepSettings = _KEEP,
        disk: DiskSettings | None = None,
    ) -> None:
        """`on_trouble(code, active, text)` is called on the loop, for JOURNAL_FAILED and
        JOURNAL_DROPPED. Nothing is deleted for its age while `time_is_trusted()` is False.
        `disk` says how long rows wait that nobody awaits, instead of `bounds`."""
        self._path = path
        self._clock = clock
        self._on_trouble = on_trouble
        self._batch_s = bounds.batch_s if disk is None else disk.write_every_s
        self._time_is_trusted = time_is_trusted
        self._bounds = bounds
        self._backlog = Backlog(bounds.backlog_bytes)
        self._batch_rows = bounds.batch_rows
        self._lock: Lock | None = None
        self._prepared = False
        self._writer: aiosqlite.Connection | None = None
        self._query = Query(path, bounds.select_s)
        ages = Ages(keep, settings.retain_days)
        self._retention = Retention(settings.max_mb, bounds.trim_rows, ages)
        self._anchor: str | None = None
        self._words: dict[str, int] = {}
        self._turn = asyncio.Lock()  # held while the writing connection is used
        self._wake = asyncio.Event()
        self._stop = False
        self._stuck = False
        self._steps = 0  # counts up while the disk answers
        self._failed: str | None = None
        self._retry_s = 0.0
        self._told: dict[Code, str] = {}
        self._drops_seen = 0
        self._lost_since: datetime | None = None
        self._written_rows = 0
        self._rows_since_house = 0
        self._house_due_s = 0.0

    # --- the port ---------------------------------------------------------------------------

    def append(self, row: Row) -> None:
        """Queue a row; never blocks, never raises. May be lost in the last two seconds."""
        self._backlog.add(row)
        if self._failed is None and self._backlog.weight_bytes > self._bounds.backlog_bytes // 2:
            self._wake.set()

    async def commit(self, row: Row) -> bool:
        """Write a row to disk. True: it survives a power cut. False: not within `commit_s`, or the
        disk refused; it stays queued and is written as soon as that is possible."""
        on_disk: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._backlog.add(row, on_disk)
        self._wake.set()
        if self._stuck or self._stop:
            return False
        try:
            async with asyncio.timeout(self._bounds.commit_s):
                return await on_disk
        except TimeoutError:
            return False

    async def select(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        """Read rows, read-only, off the loop, within `select_s`. Raises OSError when the file
        cannot be read or the query fails. See `vppd.spine.schema` for what can be asked."""
        return await self._query.select(sql, parameters)

    def status(self) -> JournalStatus:
        """How the journal is now."""
        return JournalStatus(
            self._failed,
            self._backlog.unwritten,
            self._backlog.weight_bytes,
            self._written_rows,
            self._backlog.dropped_total,
            self._retention.file_mb,
            self._anchor,
        )

    def adopt(self, settings: JournalSettings) -> None:
        """Rows are kept so long from now on."""
        self._retention.keep(Ages(settings.keep, settings.retain_days))

    # --- its life ---------------------------------------------------------------------------

    async def open(self) -> Opened:
        """Lock, check, migrate and open the file.

        Raises JournalNewer and JournalLocked: the start must stop. A disk that does not let it be
        opened stops nothing: `failed` says why, and `run` keeps trying.
        """
        opened = await own(asyncio.to_thread(self._prepare_at_start))
        if opened.failed is None:
            try:
                await self._connect()
            except _DISK_ERRORS as error:
                await self._fail([], error)
        else:
            self._tell_failed(opened.failed)
        for sentence in (opened.broken, opened.migrated, opened.unchecked, opened.failed):
            if sentence is not None:
                self._note(Code.JOURNAL_FAILED, sentence)
        return opened

    async def run(self) -> None:
        """Write until `close()`. Raises only for a programming error."""
        while not self._stop:
            await self._until_due()
            # owned, not awaited directly: aiosqlite runs a cancelled call on to its end, and the
            # rows of that call must still be counted as written
            cycle = own(self._cycle())
            while not cycle.done():
                steps = self._steps
                await asyncio.wait({cycle}, timeout=self._bounds.stuck_s)
                self._stuck = not cycle.done() and self._steps == steps
                if self._stuck:
                    self._tell_failed(f"{self._path}: the disk does not answer")
            cycle.result()

    async def close(self, timeout_s: float = 2.0) -> bool:
        """Write what is queued and close. Call it when `run` is no longer needed; it then returns.

        False: not everything was written in `timeout_s`.
        """
        self._stop = True
        self._wake.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await own(self._finish())
        return not self._backlog.unwritten and self._writer is None

    async def _finish(self) -> None:
        await self._cycle()
        await self._query.close()  # before the writer: the last one out clears the -wal away
        async with self._turn:
            await self._disconnect()
            if self._lock is not None:
                self._lock.close()
                self._lock = None

    async def _until_due(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._retry_s or self._batch_s):
                await self._wake.wait()
        self._wake.clear()

    # --- writing ----------------------------------------------------------------------------

    async def _cycle(self) -> None:
        """Write all that is queued, as far as the disk lets."""
        async with self._turn:
            while (len(self._backlog) or self._failed is not None) and await self._write():
                await self._keep_house_if_due()
            if self._failed is None:
                await self._keep_house_if_due()
        self._tell_drops()

    async def _write(self) -> bool:
        """One batch, one transaction. False when the disk did not take it."""
        batch: list[Entry] = []
        self._steps += 1
        try:
            connection = self._writer or await self._connect()
            batch = self._backlog.take(self._batch_rows)
            await self._transact(connection, batch)
        except (*_DISK_ERRORS, *_DATA_ERRORS) as error:
            if batch and isinstance(error, _DATA_ERRORS):
                self._narrow(batch, error)
                return True
            if await self._made_room(error):
                self._backlog.put_back(batch)
                return True
            await self._fail(batch, error)
            return False
        self._backlog.written(batch)
        self._written_rows += len(batch)
        self._rows_since_house += len(batch)
        self._batch_rows = min(2 * self._batch_rows, self._bounds.batch_rows)
        if self._failed is not None:
            self._failed = None
            self._retry_s = 0.0
            self._tell(Code.JOURNAL_FAILED, "")
        return True

    async def _transact(self, connection: aiosqlite.Connection, batch: Sequence[Entry]) -> None:
        by_table: dict[str, tuple[Table, list[Entry]]] = {}
        for entry in batch:
            by_table.setdefault(entry.table.name, (entry.table, []))[1].append(entry)
        fresh: dict[str, int] = {}
        try:
            await connection.execute("BEGIN IMMEDIATE")
            for table, entries in by_table.values():
                rows = number_words(table, (entry.values for entry in entries), self._words, fresh)
                await connection.executemany(table.insert, rows)
            chained = any(table in CHAINED for table in by_table)
            anchor = await _head(connection) if chained else self._anchor
            if fresh:
                words = [(number, word) for word, number in fresh.items()]
                await connection.executemany("INSERT INTO word (id, text) VALUES (?, ?)", words)
            await connection.execute("COMMIT")
            self._anchor = anchor
        except (sqlite3.Error, OverflowError, UnicodeError):
            for word in fresh:
                del self._words[word]
            with suppress(sqlite3.Error):
                await connection.rollback()
            raise

    def _narrow(self, batch: list[Entry], error: Exception) -> None:
        """A row of the batch will never be taken: try halves, give up the one when it is alone."""
        if len(batch) == 1:
            self._backlog.refuse(batch[0], str(error))
        else:
            self._backlog.put_back(batch)
            self._batch_rows = len(batch) // 2

    async def _made_room(self, error: Exception) -> bool:
        """When it was our own bound that was reached, not the disk's."""
        if self._writer is None or _code(error) != sqlite3.SQLITE_FULL:
            return False
        try:
            return await self._retention.make_room(self._writer, self._clock.utc())
        except sqlite3.Error:
            return False

    async def _fail(self, batch: list[Entry], error: Exception) -> None:
        self._backlog.failed(batch)
        self._retry_s = min(
            max(2 * self._retry_s, self._bounds.retry_min_s), self._bounds.retry_max_s
        )
        self._tell_failed(f"{self._path}: {named(error)}")
        if _code(error) != sqlite3.SQLITE_FULL:  # on a full disk there is no opening it again
            with suppress(sqlite3.Error):
                await self._disconnect()  # a fresh connection sees a disk that was remounted

    # --- the file ---------------------------------------------------------------------------

    def _prepare_at_start(self) -> Opened:
        try:
            return self._prepare(may_move_aside=True)
        except (sqlite3.Error, OSError) as error:
            trips = read_trips(self._path) if self._path.exists() else None
            return Opened(trips, failed=f"{self._path}: {named(error)}")

    def _prepare(self, *, may_move_aside: bool) -> Opened:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._lock is None:
            self._lock = Lock(self._path)
        clock, check_s = self._clock, self._bounds.check_s
        try:
            opened = prepare(
                self._path, clock.utc(), clock.now_s, check_s, may_move_aside=may_move_aside
            )
        except JournalNewer:
            self._lock.close()
            self._lock = None
            raise
        self._prepared = True
        return opened

    async def _connect(self) -> aiosqlite.Connection:
        """Open the file for writing; it is never created here. Raises sqlite3.Error, OSError."""
        if not self._prepared:
            await asyncio.to_thread(self._prepare, may_move_aside=False)
        connection = await start(self._path, "rw", self._bounds.busy_s)
        try:
            await self._retention.bound(connection)
            words = await connection.execute_fetchall("SELECT text, id FROM word")
            self._anchor = await _head(connection)
        except sqlite3.Error:
            await connection.close()
            raise
        self._words = {str(text): int(number) for text, number in words}
        self._writer = connection
        return connection

    async def _disconnect(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            await writer.close()

    async def _keep_house_if_due(self) -> None:
        due = self._clock.now_s() >= self._house_due_s
        if self._writer is None or not (due or self._rows_since_house >= self._bounds.trim_rows):
            return
        self._house_due_s = self._clock.now_s() + self._bounds.keep_house_s
        self._rows_since_house = 0
        now = self._clock.utc()
        try:
            if not await asyncio.to_thread(self._path.exists):
                raise JournalBroken("the file was removed while in use: restart vppd")
            if self._time_is_trusted():
                await self._retention.forget_aged(self._writer, now, self._clock.now_s())
            urgent = self._rows_wait
            if not await self._retention.fit(self._writer, now, urgent):
                self._house_due_s = self._clock.now_s()  # rows wait; go on after them
        except _DISK_ERRORS as error:
            await self._fail([], error)

    def _rows_wait(self) -> bool:
        return len(self._backlog) > 0

    # --- telling ----------------------------------------------------------------------------

    def _tell_failed(self, text: str) -> None:
        self._failed = text
        self._tell(Code.JOURNAL_FAILED, text)

    def _tell(self, code: Code, text: str) -> None:
        """Once each time that it changes; an empty text ends it."""
        if text != self._told.get(code, ""):
            self._told[code] = text
            self._on_trouble(code, bool(text), text)

    def _tell_drops(self) -> None:
        """While rows are dropped it is an alarm; when that ended, a row says how many."""
        seen, self._drops_seen = self._drops_seen, self._backlog.dropped_total
        if self._drops_seen != seen:
            self._lost_since = self._lost_since or self._clock.utc()
            self._tell(Code.JOURNAL_DROPPED, f"rows are lost, {self._lost()}")
        elif self._backlog.dropped and self._failed is None:
            self._note(Code.JOURNAL_DROPPED, f"rows were lost, {self._lost()}")
            self._backlog.forget_drops()
            self._lost_since = None
            self._tell(Code.JOURNAL_DROPPED, "")

    def _lost(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in self._backlog.dropped.items())
        refused = f"; {self._backlog.refused_text}" if self._backlog.refused_text else ""
        return f"since {self._lost_since:%Y-%m-%dT%H:%M:%SZ}: {counts}{refused}"

    def _note(self, code: Code, text: str) -> None:
        self.append(EventRow(self._clock.utc(), code, "site", Level.WARNING, text))


def _code(error: Exception) -> int:
    return getattr(error, "sqlite_errorcode", 0)


async def _head(connection: aiosqlite.Connection) -> str | None:
    """The newest entry of the chain, `seq:hash`. Raises sqlite3.Error."""
    found = [*await connection.execute_fetchall(HEAD)]
    return f"{found[0][0]}:{found[0][1]}" if found else None
