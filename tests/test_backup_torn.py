"""`vppd backup`: no file that looks whole and is not, whoever else is at work."""

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.journal_site import AT, reading, rows_of, trip
from vppd.cli import export as sheets
from vppd.cli.last_rows import open_read_only, unmoved_since_now
from vppd.cli.vppd import main
from vppd.core.records import Row
from vppd.spine import backup as copying
from vppd.spine.backup import BackupFailed, backup
from vppd.spine.schema import TABLES, bind, number_words
from vppd.spine.store import connect, prepare

TRIPS = 3000


def written(path: Path, some: list[Row]) -> None:
    """As a daemon that is started, writes and is stopped."""
    prepare(path, AT, time.monotonic, 60.0, may_move_aside=True)
    with contextlib.closing(connect(path, "rw")) as connection:
        known = dict(connection.execute("SELECT text, id FROM word"))
        connection.execute("BEGIN")
        for row in some:
            table, fresh = TABLES[type(row)], dict[str, int]()
            (values,) = number_words(table, [bind(row)], known, fresh)
            connection.executemany(
                "INSERT INTO word VALUES (?, ?)", [(b, a) for a, b in fresh.items()]
            )
            connection.execute(table.insert, values)
        connection.execute("COMMIT")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "state" / "journal.db"
    path.parent.mkdir()
    written(path, [trip(n) for n in range(TRIPS)])
    return path


@pytest.fixture(autouse=True)
def _many_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "STEP_PAGES", 16)
    monkeypatch.setattr(copying, "PAUSE_S", 0.0)


def once(do: Callable[[], None]) -> Callable[[int, int], None]:
    """A progress that does this in the middle of the copy."""
    waiting = [do]

    def progress(done: int, pages: int) -> None:
        if waiting and 0 < done < pages:
            waiting.pop()()

    return progress


def verb(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def test_two_backups_to_one_target_never_mix(path: Path, tmp_path: Path) -> None:
    target, refused = tmp_path / "copy.db", []

    def second() -> None:
        with contextlib.closing(open_read_only(path)) as other:
            with pytest.raises(BackupFailed, match="another backup") as told:
                backup(other, target, lambda *_: None)
            refused.append(told)

    with contextlib.closing(open_read_only(path)) as source:
        size = backup(source, target, once(second))
    assert refused
    assert target.stat().st_size == size
    assert rows_of(target, "SELECT count(*) FROM trip") == [(TRIPS,)]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["copy.db", "state"]


def test_what_a_killed_backup_left_does_no_harm(path: Path, tmp_path: Path) -> None:
    for suffix in ("", "-journal", "-wal"):
        (tmp_path / f"copy.db.part{suffix}").write_bytes(b"\xd9\xd5\x05\xf9 \xa1c\xd7" * 700)
    done = verb("backup", tmp_path / "copy.db", "--state", path.parent)
    assert done.exit_code == 0, done.output
    assert rows_of(tmp_path / "copy.db", "SELECT count(*) FROM trip") == [(TRIPS,)]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["copy.db", "state"]


def test_a_log_beside_the_target_is_never_played_into_the_new_copy(
    path: Path, tmp_path: Path
) -> None:
    """As a restored copy that a vppd was killed on: its write-ahead log says other pages."""
    target = tmp_path / "copy.db"
    written(target, [trip(1)])
    with contextlib.closing(sqlite3.connect(target)) as other:
        other.execute("UPDATE word SET text = 'other' WHERE id = 0")
        other.commit()
        log = (tmp_path / "copy.db-wal").read_bytes()
    (tmp_path / "copy.db-wal").write_bytes(log)
    done = verb("backup", target, "--state", path.parent)
    assert done.exit_code == 1
    assert "copy.db-wal" in done.stderr
    assert "another name" in done.stderr
    (tmp_path / "copy.db-wal").unlink()
    assert verb("backup", target, "--state", path.parent).exit_code == 0
    assert rows_of(target, "SELECT count(*) FROM trip") == [(TRIPS,)]


def test_a_daemon_that_starts_in_the_middle_leaves_no_mixed_copy(
    path: Path, tmp_path: Path
) -> None:
    """A journal that was closed well is read without locks: who begins to write it then changes
    pages under the copy."""
    target = tmp_path / "copy.db"
    unmoved = unmoved_since_now(path)
    assert not path.with_name("journal.db-wal").exists()
    with contextlib.closing(open_read_only(path)) as source:
        begin = once(lambda: written(path, [reading(n) for n in range(200)]))
        with pytest.raises(BackupFailed, match="started meanwhile"):
            backup(source, target, begin, unmoved)
    assert [each.name for each in tmp_path.iterdir()] == ["state"]
    assert verb("backup", target, "--state", path.parent).exit_code == 0
    assert rows_of(target, "SELECT count(*) FROM reading_row") == [(200,)]


def test_the_next_backup_is_not_hurt_by_the_end_of_this_one(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the part has its name the next one may make its own, before this one has ended."""
    target, part = tmp_path / "copy.db", tmp_path / "copy.db.part"
    sync, synced = copying._sync, list[Path]()

    def noted(where: Path) -> None:
        sync(where)
        synced.append(where)
        if where == target.parent:
            part.write_text("the next one's")

    monkeypatch.setattr(copying, "_sync", noted)
    with contextlib.closing(open_read_only(path)) as source:
        backup(source, target, lambda *_: None)
    assert synced == [part, target.parent]
    assert part.read_text() == "the next one's"


def test_two_exports_into_one_directory_never_mix(path: Path, tmp_path: Path) -> None:
    """Each writes a part of its own, and the last that ends gives the file."""
    parts: list[Path] = []

    class Noted(sheets.CsvSheet):
        def __init__(self, where: Path, source: sheets.Source) -> None:
            parts.append(where)
            super().__init__(where, source)

    out = tmp_path / "out"
    sheets.export(path.parent, Noted, "csv", ["trip"], None, None, out, lambda *_: None)
    assert str(os.getpid()) in parts[0].name
    assert [each.name for each in out.iterdir()] == ["trip.csv"]
