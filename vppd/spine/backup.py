"""A copy of the journal while it is written: in steps, checked, on disk before it has its name.

Blocking; the daemon is not asked and notices nothing. The copy is of one instant: the state of the
file is held meanwhile, so that what the daemon writes waits in the write-ahead log.
"""

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from vppd.spine.schema import APPLICATION_ID

STEP_PAGES = 1024
PAUSE_S = 0.01  # between steps, so that a slow disk is not only ours
_ROOM = 1.2  # of the journal's size must be free

Progress = Callable[[int, int], None]


class BackupFailed(OSError):  # noqa: N818 - named for what became of it
    """There is no backup; the message says why. Files there before are as they were."""


def _always() -> bool:
    return True


def backup(
    source: sqlite3.Connection,
    target: Path,
    progress: Progress,
    unmoved: Callable[[], bool] = _always,
) -> int:
    """Copy the journal that `source` reads to `target`, whole or not at all; its bytes.
    `progress(pages done, of pages)` is called after each step. `unmoved()` False: the journal was
    opened as one that nobody writes, and was written since. Raises BackupFailed."""
    try:
        _check_room(source, target)
        _check_target(target)
        with _part(target) as part:
            with closing(sqlite3.connect(part, isolation_level=None)) as copy:
                _copy(source, copy, progress)
                _check(copy)
            if not unmoved():
                raise BackupFailed("vppd was started meanwhile, so this copy is none: once more")
            _sync(part)
            size = part.stat().st_size
            part.replace(target)
            _sync(target.parent)
    except sqlite3.Error as error:
        raise BackupFailed(f"{target}: {error}") from error
    return size


@contextmanager
def _part(target: Path) -> Iterator[Path]:
    """The file that becomes the target, this process's alone; what was not renamed is not left."""
    part = target.with_name(f"{target.name}.part")
    fd = os.open(part, os.O_CREAT | os.O_RDWR, 0o640)  # as private as the source
    try:
        _own(fd, part)
        try:
            for suffix in ("-journal", "-wal", "-shm"):  # what one that was killed has left
                _beside(part, suffix).unlink(missing_ok=True)
            os.ftruncate(fd, 0)
            yield part
        finally:
            if _is(fd, part):  # and not the next one's, once this was renamed
                with suppress(OSError):
                    for suffix in ("-journal", "-wal", "-shm", ""):
                        _beside(part, suffix).unlink(missing_ok=True)
    finally:
        os.close(fd)  # last: to close any handle of a file ends SQLite's own locks on it


def _own(fd: int, part: Path) -> None:
    """Or two copies to one target would write the same part, and one would rename what the other
    has half written."""
    busy = BackupFailed(f"{part}: another backup is writing it")
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise busy from None
    if not _is(fd, part):  # it was renamed or removed before it was ours
        raise busy


def _is(fd: int, part: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(fd), part.stat())
    return False


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _copy(source: sqlite3.Connection, copy: sqlite3.Connection, progress: Progress) -> None:
    source.execute("BEGIN")
    try:
        source.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # from here on one instant
        source.backup(
            copy,
            pages=STEP_PAGES,
            progress=lambda _, left, pages: progress(pages - left, pages),
            sleep=PAUSE_S,
        )
    finally:
        source.rollback()
    copy.execute("PRAGMA journal_mode = DELETE").fetchone()  # one file, without a log beside it


def _check(copy: sqlite3.Connection) -> None:
    if copy.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise BackupFailed("what was copied is not a journal of vppd")
    found = copy.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if found != "ok":
        raise BackupFailed(f"the copy does not pass the integrity check: {found}")


def _check_room(source: sqlite3.Connection, target: Path) -> None:
    (pages,) = source.execute("PRAGMA page_count").fetchone()
    (page_bytes,) = source.execute("PRAGMA page_size").fetchone()
    needed, free = int(_ROOM * pages * page_bytes), shutil.disk_usage(target.parent).free
    if free < needed:
        raise BackupFailed(
            f"{target.parent}: needs {needed / 1e6:.0f} MB, {free / 1e6:.0f} MB are free"
        )


def _check_target(target: Path) -> None:
    """What lies beside an older target would be read as the newest pages of the new one."""
    for suffix in ("-wal", "-journal"):
        left = _beside(target, suffix)
        if left.exists() and left.stat().st_size:
            raise BackupFailed(
                f"{left}: {target.name} is being written, or was not closed well: choose another"
                " name, or move both away"
            )


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
