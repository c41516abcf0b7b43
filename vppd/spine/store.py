"""The journal's file before it is written: lock, check, move aside, migrate, read the trips.

Plain blocking SQLite; `journal.py` calls it in a thread. A file that is broken is moved aside whole
(`journal.db.broken-<utc>`, with its `-wal`), never deleted and never repaired.
"""

import fcntl
import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from vppd.core.alarms import Code
from vppd.core.records import TripRow
from vppd.spine.chain import teach
from vppd.spine.schema import (
    APPLICATION_ID,
    NEWEST_TRIPS,
    STEPS,
    TABLES,
    Step,
    bind,
    from_micros,
)

_BROKEN_CODES = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_TRIPS = (
    'SELECT at, scope, code, action, "by", text FROM trip '  # noqa: S608  (our own text)
    f"WHERE id IN ({NEWEST_TRIPS}) ORDER BY id"
)
_CHECK_EVERY_STEPS = 20_000  # SQLite's virtual machine steps between two looks at the clock


class JournalRefused(RuntimeError):  # noqa: N818  (named for what became of the journal)
    """This process must not write the file. The message names the remedy."""


class JournalNewer(JournalRefused):
    """The file was written by a newer vppd."""


class JournalLocked(JournalRefused):
    """Another vppd writes this journal."""


class JournalBroken(OSError):  # noqa: N818
    """The file is malformed, or is no journal of ours."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What was found at start.

    `trips` is the newest row per (scope, code); None means that they could not be read: what was
    latched is unknown. The others are sentences for a person, None when there is nothing to tell:
    `broken` a file that was moved aside, `migrated` an older schema that was brought up to date,
    `unchecked` a check that did not end in its time, `failed` why nothing can be written now.
    """

    trips: tuple[TripRow, ...] | None
    broken: str | None = None
    migrated: str | None = None
    unchecked: str | None = None
    failed: str | None = None


class Lock:
    """A flock on `journal.lock` beside the journal, held as long as the object is not closed."""

    def __init__(self, journal: Path) -> None:
        """Raises JournalLocked when another process holds it, OSError when there is no writing."""
        self._fd = os.open(journal.with_name("journal.lock"), os.O_RDWR | os.O_CREAT, 0o640)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            raise JournalLocked(
                f"another vppd writes {journal}: stop it, or give this one its own --state"
            ) from None

    def close(self) -> None:
        """Let the next one in."""
        os.close(self._fd)


def connect(path: Path, mode: str, *, busy_s: float = 5.0) -> sqlite3.Connection:
    """A connection in autocommit mode; `mode` is ro, rw or rwc. Raises sqlite3.Error."""
    connection = _open(path, mode, busy_s)
    try:
        connection.execute("PRAGMA synchronous = FULL")
        teach(connection)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _open(path: Path, mode: str, busy_s: float) -> sqlite3.Connection:
    return sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}", uri=True, isolation_level=None, timeout=busy_s
    )


def prepare(
    path: Path,
    utc: datetime,
    now_s: Callable[[], float],
    check_s: float,
    *,
    may_move_aside: bool,
    steps: Sequence[Step] = STEPS,
) -> Opened:
    """Make `path` a sound journal of this schema. The caller holds the lock.

    Raises JournalNewer; JournalBroken when it must not be moved aside (the daemon is running);
    OSError or sqlite3.Error when the disk does not let it (full, read-only, failing).
    """
    stamp = utc.strftime("%Y%m%dT%H%M%SZ")
    if not path.exists():
        return _begin(path, stamp, utc, steps)
    try:
        return _check(path, stamp, now_s() + check_s, now_s, steps)
    except JournalBroken as broken:
        if not may_move_aside:
            raise
        trips = _salvaged_trips(path)
        aside = _free_name(path, f"broken-{stamp}")
        _move_aside(path, aside)
        _create(path, (_unreadable(utc),) if trips is None else trips, steps)
        known = "the trips in it could be read" if trips is not None else "its trips are unknown"
        return Opened(trips, broken=f"{path}: {broken}; moved to {aside.name}, {known}")


def read_trips(path: Path) -> tuple[TripRow, ...] | None:
    """The newest trip rows of a journal that cannot be written now, or None.

    In exclusive mode SQLite needs no `-shm` file, so this works on a full disk; a read-only disk
    can be read only when no `-wal` is left.
    """
    with suppress(sqlite3.Error), closing(_open(path, "rw", 5.0)) as connection:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # before anything looks at the file
        return _trips(connection)
    wal = _beside(path, "-wal")
    if wal.exists() and wal.stat().st_size:
        return None
    with suppress(sqlite3.Error), closing(connect(path, "ro&immutable=1")) as connection:
        return _trips(connection)
    return None


def _check(
    path: Path, stamp: str, until_s: float, now_s: Callable[[], float], steps: Sequence[Step]
) -> Opened:
    try:
        with closing(connect(path, "rw")) as connection:
            version = _version(connection, path, len(steps))
            unchecked = _quick_check(connection, until_s, now_s)
            migrated = None
            if version < len(steps):
                backup = _backup(connection, _free_name(path, f"v{version}-{stamp}"))
                _migrate(connection, version, steps)
                migrated = f"{path}: schema {version} became {len(steps)}; backup {backup.name}"
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
            return Opened(_trips(connection), migrated=migrated, unchecked=unchecked)
    except sqlite3.DatabaseError as error:
        if _primary_code(error) in _BROKEN_CODES:
            raise JournalBroken(str(error)) from error
        raise


def _version(connection: sqlite3.Connection, path: Path, newest: int) -> int:
    application_id = int(connection.execute("PRAGMA application_id").fetchone()[0])
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if application_id != APPLICATION_ID:
        raise JournalBroken("not a journal of vppd")
    if version > newest:
        raise JournalNewer(
            f"{path} has schema {version}, this vppd knows {newest}: install the newer vppd again, "
            f"or put back the backup {path.name}.v{newest}-*, or move the file away"
        )
    return version


def _quick_check(
    connection: sqlite3.Connection, until_s: float, now_s: Callable[[], float]
) -> str | None:
    """Check table by table, those that matter most first, for a bounded time."""
    late = False

    def look() -> bool:
        nonlocal late
        late = now_s() >= until_s
        return late

    tables = [table.stored_in for table in reversed([*TABLES.values()])]
    present = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema")}
    connection.set_progress_handler(look, _CHECK_EVERY_STEPS)
    try:
        for table in ["trip", "word", "forgotten", "chain", *tables]:
            if table in present:
                found = connection.execute(f"PRAGMA quick_check({table})").fetchone()[0]
                if found != "ok":
                    raise JournalBroken(f"{table}: {found}")
    except sqlite3.OperationalError:
        if late:
            return f"{table} and larger tables were not checked: no time left"
        raise
    finally:
        connection.set_progress_handler(None, 0)
    return None


def _backup(connection: sqlite3.Connection, target: Path) -> Path:
    part = target.with_name(f"{target.name}.part")
    part.unlink(missing_ok=True)
    try:
        connection.execute("VACUUM INTO ?", (str(part),))
        _sync(part)
        part.rename(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    _sync(target.parent)
    return target


def _migrate(connection: sqlite3.Connection, version: int, steps: Sequence[Step]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for step in steps[version:]:
            for statement in step:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(steps)}")
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _begin(path: Path, stamp: str, utc: datetime, steps: Sequence[Step]) -> Opened:
    """A fresh file. Remains of an older one mean that what it had latched is unknown."""
    remains = list(path.parent.glob(f"{path.name}.broken-*"))
    if wal_left := _beside(path, "-wal").exists():
        _move_aside(path, _free_name(path, f"broken-{stamp}"))
    if remains or wal_left:
        _create(path, (_unreadable(utc),), steps)
        return Opened(None, broken=f"{path} is missing, its trips are unknown")
    _create(path, (), steps)
    return Opened(())


def _create(path: Path, trips: Sequence[TripRow], steps: Sequence[Step]) -> None:
    """Build the file under another name, so that a file called `path` is always whole."""
    new = path.with_name(f"{path.name}.new")
    for old in (new, _beside(new, "-wal"), _beside(new, "-shm")):
        old.unlink(missing_ok=True)
    with closing(connect(new, "rwc")) as connection:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        _migrate(connection, 0, steps)
        connection.executemany(TABLES[TripRow].insert, [bind(trip) for trip in trips])
        connection.execute("PRAGMA journal_mode = WAL").fetchone()
    _sync(new)
    new.rename(path)
    _sync(path.parent)


def _move_aside(path: Path, aside: Path) -> None:
    # the file before its -wal: a crash in between must not leave the file to be read without it
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            _beside(path, suffix).rename(_beside(aside, suffix))
    _sync(path.parent)


def _salvaged_trips(path: Path) -> tuple[TripRow, ...] | None:
    with suppress(sqlite3.Error), closing(connect(path, "rw")) as connection:
        if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            return None
        if connection.execute("PRAGMA quick_check(trip)").fetchone()[0] == "ok":
            return _trips(connection)
    return None


def _trips(connection: sqlite3.Connection) -> tuple[TripRow, ...]:
    return tuple(TripRow(from_micros(at), *rest) for at, *rest in connection.execute(_TRIPS))


def _unreadable(utc: datetime) -> TripRow:
    """Latched in the fresh file, so that a second restart does not forget what the first knew."""
    code = Code.TRIP_STATE_UNREADABLE
    return TripRow(utc, "site", code, "trip", "vppd", "the journal was broken or missing")


def _free_name(path: Path, suffix: str) -> Path:
    names = (f"{path.name}.{suffix}{extra}" for extra in ("", *(f"-{n}" for n in range(1, 1000))))
    return next(free for name in names if not (free := path.with_name(name)).exists())


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _primary_code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
