"""A copy of the journal while it is written: in steps, checked, on disk before it has its name.

Blocking; the daemon is not asked and notices nothing. The copy is of one instant: the state of the
file is held meanwhile, so that what the daemon writes waits in the write-ahead log.
"""

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from vppd.spine.schema import APPLICATION_ID

STEP_PAGES = 1024
PAUSE_S = 0.01  # between steps, so that a slow disk is not only ours
_ROOM = 1.2  # of the journal's size must be free

Progress = Callable[[int, int], None]


class BackupFailed(OSError):  # noqa: N818 - named for what became of it
    """There is no backup; the message says why. Files there before are as they were."""


def backup(source: sqlite3.Connection, target: Path, progress: Progress) -> int:
    """Copy the journal that `source` reads to `target`, whole or not at all; its bytes.
    `progress(pages done, of pages)` is called after each step. Raises BackupFailed."""
    part = target.with_name(f"{target.name}.part")
    try:
        _check_room(source, target)
        part.unlink(missing_ok=True)
        with closing(_made(part)) as copy:
            _copy(source, copy, progress)
            _check(copy)
        _sync(part)
        size = part.stat().st_size
        part.replace(target)
        _sync(target.parent)
    except sqlite3.Error as error:
        raise BackupFailed(f"{target}: {error}") from error
    finally:
        with suppress(OSError):
            for suffix in ("", "-journal", "-wal", "-shm"):
                part.with_name(part.name + suffix).unlink(missing_ok=True)
    return size


def _made(part: Path) -> sqlite3.Connection:
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640))  # as private as the source
    return sqlite3.connect(part, isolation_level=None)


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


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
