"""A disk that is full, read-only, hung or gone stops nothing, and is resumed."""

import contextlib
import dataclasses
import random
import resource
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journal_site import (
    AT,
    QUICK,
    Troubles,
    drops,
    opened_trips,
    reading,
    rows_of,
    running,
    trip,
    until,
    writing,
)
from vppd.core.alarms import Code
from vppd.core.records import (
    TripRow,
)
from vppd.spine.clock import SystemClock
from vppd.spine.journal import Bounds, SqliteJournal
from vppd.spine.schema import TABLES, bind
from vppd.spine.store import (
    connect,
    prepare,
    read_trips,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


# --- the disk does not take it --------------------------------------------------------------------


def mount(options: str, target: Path) -> None:
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no right to mount a small disk: {done.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount("size=1m", disk)
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 512)
    return filler


async def test_a_full_disk_stops_nothing_and_is_resumed(small_disk: Path) -> None:
    path = small_disk / "journal.db"
    bounds = dataclasses.replace(QUICK, backlog_bytes=200_000, commit_s=60.0)
    async with running(path, bounds) as site:
        assert await site.journal.commit(trip(1))
        filler = fill(small_disk)
        await until(lambda: flood(site.journal, bounds) and bool(site.troubles.standing()))
        assert not await site.journal.commit(trip(2, action="reset"))
        assert "full" in (site.journal.status().failed or "")
        assert await site.journal.select("SELECT count(*) FROM trip") == [(1,)]
        await until(lambda: flood(site.journal, bounds) and drops(site) > 0)
        filler.unlink()
        await until(lambda: not site.troubles.standing())
        await until(lambda: not site.journal.status().queued_rows)
        assert await site.journal.select("SELECT action FROM trip ORDER BY id DESC LIMIT 1") == [
            ("reset",)
        ]
        ((gap,),) = await site.journal.select(
            "SELECT text FROM event WHERE code = 'journal_dropped' ORDER BY id LIMIT 1"
        )
        assert "reading" in str(gap)
        # the words of a transaction that failed are written with the next
        units = await site.journal.select("SELECT DISTINCT unit, point FROM reading")
        assert units == [("B1", "power_kw")]


def flood(journal: SqliteJournal, bounds: Bounds) -> bool:
    """Many readings; memory stays within its bound, always."""
    for n in range(2000):
        journal.append(reading(n + random.randrange(10**9)))
        assert journal.status().queued_bytes <= bounds.backlog_bytes
    return True


async def test_a_restart_on_a_full_disk_still_knows_what_was_latched(small_disk: Path) -> None:
    path = small_disk / "journal.db"
    with writing(path, 0) as process:
        assert process.stdout is not None
        last = max(int(process.stdout.readline()) for _ in range(8))
    Path(f"{path}-shm").unlink(missing_ok=True)
    fill(small_disk)
    async with running(path) as site:
        assert site.trips is not None
        assert int(site.trips[0].text) >= last - 8
        # a few rows may still fit into what the file had before the disk was full
        more = iter(range(10**6, 10**6 + 5000))
        while await site.journal.commit(trip(next(more))):
            pass
        assert site.troubles.standing() == {Code.JOURNAL_FAILED}


async def test_a_file_that_may_not_grow_stops_nothing(path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    async with running(path, dataclasses.replace(QUICK, commit_s=60.0)) as site:
        assert await site.journal.commit(trip(1))
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
        try:
            verdicts = [await site.journal.commit(trip(n)) for n in range(2, 30)]
            assert not verdicts[-1]
            assert site.troubles.standing() == {Code.JOURNAL_FAILED}
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert await site.journal.commit(trip(30))
        assert site.troubles.standing() == set()
    assert rows_of(path, "SELECT text FROM trip ORDER BY id") == [(str(n),) for n in range(1, 31)]


async def test_a_read_only_disk_stops_nothing_and_is_resumed(small_disk: Path) -> None:
    path = small_disk / "state" / "journal.db"
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    async with running(path) as site:
        assert site.trips is None  # what was latched cannot be known
        assert not await site.journal.commit(trip(1))
        assert site.troubles.standing() == {Code.JOURNAL_FAILED}
        with pytest.raises(OSError, match=r"journal\.db"):
            await site.journal.select("SELECT 1 FROM trip")
        subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
        await until(lambda: not site.troubles.standing())
        assert await site.journal.commit(trip(2))
    assert rows_of(path, "SELECT text FROM trip ORDER BY id") == [("1",), ("2",)]


async def test_a_directory_we_may_not_write_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file is in the way of the directory")
    async with running(tmp_path / "state" / "journal.db") as site:
        assert site.trips is None
        site.journal.append(reading(1))
        assert not await site.journal.commit(trip(1))
        assert site.troubles.standing() == {Code.JOURNAL_FAILED}


def test_trips_are_read_from_a_clean_file_that_cannot_be_written(small_disk: Path) -> None:
    path = small_disk / "journal.db"
    prepare(path, AT, time.monotonic, 60.0, may_move_aside=True)
    with contextlib.closing(connect(path, "rw")) as connection:
        connection.execute(TABLES[TripRow].insert, bind(trip(1)))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert read_trips(path) == (trip(1),)


def test_trips_are_unknown_when_the_newest_may_be_in_a_log_that_cannot_be_read(
    small_disk: Path,
) -> None:
    path = small_disk / "journal.db"
    with writing(path, 0) as process:
        assert process.stdout is not None
        process.stdout.readline()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert read_trips(path) is None


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program holds the database, so the writer's call does not come back."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


async def test_while_the_writer_is_stuck_others_are_answered(path: Path) -> None:
    bounds = dataclasses.replace(QUICK, busy_s=60.0, commit_s=1.0)
    async with running(path, bounds) as site:
        assert await site.journal.commit(trip(1))
        with locked(path):
            assert not await site.journal.commit(trip(2))
            await until(lambda: site.troubles.standing() == {Code.JOURNAL_FAILED})
            with pytest.raises(StopIteration) as answered:  # known to be stuck: no waiting
                site.journal.commit(trip(3)).send(None)
            assert answered.value.value is False
            assert await site.journal.select("SELECT count(*) FROM trip") == [(1,)]
        await until(lambda: not site.troubles.standing())
        await until(lambda: site.journal.status().written_rows == 3)
    assert await opened_trips(path) == (trip(3),)


async def test_close_does_not_wait_for_a_stuck_disk(path: Path) -> None:
    bounds = dataclasses.replace(QUICK, busy_s=3.0)
    journal = SqliteJournal(path, SystemClock(), Troubles(), bounds=bounds)
    await journal.open()
    with locked(path):
        journal.append(reading(1))
        assert not await journal.close(timeout_s=0.2)
    assert await journal.close(timeout_s=20.0)


async def test_a_file_removed_while_in_use_is_an_alarm(path: Path) -> None:
    async with running(path, dataclasses.replace(QUICK, keep_house_s=0.0)) as site:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{path}{suffix}").unlink()
        await until(lambda: site.troubles.standing() == {Code.JOURNAL_FAILED})
        assert "removed" in site.troubles[0][2]
        assert not await site.journal.commit(trip(1))
