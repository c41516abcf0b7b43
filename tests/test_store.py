"""The journal's file at start: locked, checked, moved aside, migrated."""

import contextlib
import random
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.journal_site import AT, Troubles, event, opened_trips, rows_of, running, trip
from vppd.core.alarms import Code
from vppd.core.records import (
    EventRow,
    TripRow,
)
from vppd.spine.clock import SystemClock
from vppd.spine.journal import SqliteJournal
from vppd.spine.schema import STEPS, TABLES, bind
from vppd.spine.store import (
    JournalBroken,
    JournalLocked,
    JournalNewer,
    Lock,
    connect,
    prepare,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


# --- the file at start ----------------------------------------------------------------------------


def test_two_daemons_never_write_one_journal(path: Path) -> None:
    first = Lock(path)
    with pytest.raises(JournalLocked, match="stop it"):
        Lock(path)
    first.close()
    Lock(path).close()


async def test_a_second_daemon_stops_at_its_start(path: Path) -> None:
    async with running(path):
        with pytest.raises(JournalLocked):
            await SqliteJournal(path, SystemClock(), Troubles()).open()


async def test_a_newer_schema_is_refused_and_left_as_it_is(path: Path) -> None:
    assert await opened_trips(path) == ()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    for _ in range(2):  # and the lock was given back
        with pytest.raises(JournalNewer, match=r"schema 99.*install the newer"):
            await SqliteJournal(path, SystemClock(), Troubles()).open()
    assert path.read_bytes() == before


def one_trip(path: Path) -> None:
    prepare(path, AT, time.monotonic, 60.0, may_move_aside=True)
    with contextlib.closing(connect(path, "rw")) as connection:
        connection.execute("BEGIN")
        connection.execute(TABLES[TripRow].insert, bind(trip(1)))
        connection.executemany(TABLES[EventRow].insert, [bind(event(n)) for n in range(5000)])
        connection.execute("COMMIT")


def whole_file(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(50_000))


def empty_file(path: Path) -> None:
    path.write_bytes(b"")


def another_database(path: Path) -> None:
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE event (a)")


def trip_table(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'trip'"
        ).fetchone()
    overwrite(path, page)


def overwrite(path: Path, page: int) -> None:
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xa5" * 4096)


@pytest.mark.parametrize("damage", [whole_file, empty_file, another_database, trip_table])
async def test_a_broken_file_is_moved_aside_and_trips_are_unknown(
    path: Path, damage: Callable[[Path], None]
) -> None:
    one_trip(path)
    damage(path)
    broken = path.read_bytes()
    async with running(path) as site:
        assert site.trips is None
        assert await site.journal.commit(event(1))
    (aside,) = path.parent.glob("journal.db.broken-*Z")
    assert aside.read_bytes() == broken
    (latched,) = await opened_trips(path) or ()
    assert (latched.scope, latched.code) == ("site", Code.TRIP_STATE_UNREADABLE)


async def test_trips_are_saved_from_a_file_broken_elsewhere(path: Path) -> None:
    one_trip(path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute(
            "SELECT pageno FROM dbstat WHERE name = 'event' AND pagetype = 'leaf' LIMIT 1 OFFSET 9"
        ).fetchone()
    overwrite(path, page)
    assert await opened_trips(path) == (trip(1),)
    assert await opened_trips(path) == (trip(1),)
    assert len([*path.parent.glob("journal.db.broken-*")]) == 1


async def test_remains_of_an_older_file_make_the_trips_unknown(path: Path) -> None:
    Path(f"{path}-wal").write_bytes(b"rest of a journal that somebody removed")
    assert await opened_trips(path) is None
    assert len(await opened_trips(path) or ()) == 1
    assert [*path.parent.glob("journal.db.broken-*-wal")]


def test_a_broken_file_is_never_moved_while_running(path: Path) -> None:
    whole_file(path)
    with pytest.raises(JournalBroken):
        prepare(path, AT, time.monotonic, 60.0, may_move_aside=False)
    assert path.exists()


def test_a_check_ends_in_its_time(path: Path) -> None:
    one_trip(path)
    opened = prepare(path, AT, time.monotonic, 0.0, may_move_aside=True)
    assert opened.unchecked is not None
    assert opened.trips == (trip(1),)


NEXT_STEP = ("ALTER TABLE trip ADD COLUMN reason TEXT DEFAULT ''", "CREATE TABLE extra (a INTEGER)")


def test_an_older_schema_is_migrated_after_a_backup(path: Path) -> None:
    one_trip(path)
    opened = prepare(path, AT, time.monotonic, 60.0, may_move_aside=True, steps=(*STEPS, NEXT_STEP))
    assert opened.trips == (trip(1),)
    assert "20261122T054500Z" in (opened.migrated or "")
    assert rows_of(path, "PRAGMA user_version") == [(len(STEPS) + 1,)]
    assert rows_of(path, "SELECT text, reason FROM trip") == [("1", "")]
    (backup,) = path.parent.glob(f"journal.db.v{len(STEPS)}-*")
    assert rows_of(backup, "PRAGMA user_version") == [(len(STEPS),)]
    assert rows_of(backup, "SELECT count(*) FROM event") == [(5000,)]
    with pytest.raises(JournalNewer, match=rf"journal\.db\.v{len(STEPS)}-"):
        prepare(path, AT, time.monotonic, 60.0, may_move_aside=True)  # the older vppd, rolled back


def test_a_migration_that_fails_changes_nothing(path: Path) -> None:
    one_trip(path)
    steps = (*STEPS, (*NEXT_STEP, "CREATE TABLE extra (a INTEGER)"))
    with pytest.raises(sqlite3.OperationalError):
        prepare(path, AT, time.monotonic, 60.0, may_move_aside=True, steps=steps)
    assert rows_of(path, "PRAGMA user_version") == [(len(STEPS),)]
    assert prepare(path, AT, time.monotonic, 60.0, may_move_aside=True).trips == (trip(1),)
