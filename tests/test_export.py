"""`vppd export` and `vppd backup`: whole files, exact values, while the daemon writes."""

import asyncio
import csv
import dataclasses
import importlib
import sqlite3
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.journal_site import AT, ONE_OF_EACH, reading, rows_of, running, trip, until, writing
from tests.test_journal_faults import small_disk
from vppd.cli import export as sheets
from vppd.cli.vppd import main
from vppd.core.records import KeptRow, Row
from vppd.spine.chain_walk import walk
from vppd.spine.schema import TABLES
from vppd.spine.store import connect

__all__ = ["small_disk"]  # a fixture
DAYS = 4


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "journal.db"


def vppd(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


async def filled(path: Path, some: list[Row]) -> None:
    async with running(path) as site:
        for row in some:
            site.journal.append(row)
        await until(lambda: site.journal.status().written_rows == len(some))


def readings(count: int) -> list[Row]:
    """Readings over some days."""
    step = timedelta(days=DAYS) / count
    return [dataclasses.replace(reading(n), at=AT + n * step) for n in range(count)]


# --- export ---------------------------------------------------------------------------------------


async def test_csv_has_every_field_of_every_row(path: Path, tmp_path: Path) -> None:
    await filled(path, [*ONE_OF_EACH])
    result = vppd("export", "--state", path.parent, "--csv", tmp_path / "out")
    assert result.exit_code == 0, result.output
    for row in ONE_OF_EACH:
        if isinstance(row, KeptRow):
            continue
        name = TABLES[type(row)].name
        (line,) = csv.DictReader((tmp_path / "out" / f"{name}.csv").open(encoding="utf-8"))
        for field in dataclasses.fields(row):
            value, text = getattr(row, field.name), line[field.name]
            if isinstance(value, datetime):
                assert datetime.fromisoformat(text) == value
            elif isinstance(value, float):
                assert float(text) == value
            else:
                assert text == ("" if value is None else str(value))
    assert sorted(file.suffix for file in (tmp_path / "out").iterdir()) == [".csv"] * len(
        sheets.SOURCES
    )


async def test_a_text_that_a_spreadsheet_would_compute_is_a_text(
    path: Path, tmp_path: Path
) -> None:
    """Whoever sends a command chooses its words, and somebody opens the file in an office."""
    texts = ["=HYPERLINK(0)", "+1", "-1+2", "@SUM(A1)", "\tx", "plain = text", "'quoted", "", "-"]
    await filled(path, [dataclasses.replace(trip(n), text=each) for n, each in enumerate(texts)])
    result = vppd("export", "--state", path.parent, "--csv", tmp_path, "--table", "trip")
    assert result.exit_code == 0, result.output
    with (tmp_path / "trip.csv").open(encoding="utf-8", newline="") as file:
        shown = [line["text"] for line in csv.DictReader(file)]
    expected = [f"'{each}" if each[:1] in {"=", "+", "-", "@", "\t"} else each for each in texts]
    assert shown == expected


async def test_parquet_has_the_same_rows_with_their_types(path: Path, tmp_path: Path) -> None:
    parquet = importlib.import_module("pyarrow.parquet")
    await filled(path, [*ONE_OF_EACH, *readings(500)])
    out = tmp_path / "out"
    result = vppd("export", "--state", path.parent, "--parquet", out)
    assert result.exit_code == 0, result.output
    for row in ONE_OF_EACH:
        if isinstance(row, KeptRow):
            continue
        rows = parquet.read_table(out / f"{TABLES[type(row)].name}.parquet").to_pylist()
        assert dataclasses.asdict(row) in rows
    table = parquet.read_table(out / "reading.parquet")
    assert table.num_rows == 501
    assert str(table.schema.field("at").type) == "timestamp[us, tz=UTC]"
    assert table.column("at").to_pylist() == sorted(table.column("at").to_pylist())


async def test_a_span_of_time_and_a_table_are_chosen_exactly(path: Path, tmp_path: Path) -> None:
    some = readings(2000)
    await filled(path, some)
    words = ("--from", "2026-11-23", "--to", "2026-11-24T12:30", "--table", "reading")
    result = vppd("export", "--state", path.parent, *words, "--csv", tmp_path / "out")
    assert result.exit_code == 0, result.output
    begin, end = (datetime(2026, 11, 23, tzinfo=UTC), datetime(2026, 11, 24, 12, 30, tzinfo=UTC))
    wanted = sum(begin <= row.at < end for row in some)
    assert f"{wanted} rows" in result.output
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["reading.csv"]
    lines = (tmp_path / "out" / "reading.csv").read_text().splitlines()
    assert len(lines) == wanted + 1


async def test_rows_come_some_at_a_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await filled(path, readings(2000))
    monkeypatch.setattr(sheets, "SOME_ROWS", 100)
    with sqlite3.connect(path) as journal:
        found = [*sheets.rows_of(journal, sheets.SOURCES["reading"], None, None)]
    assert max(len(some) for _, some in found) == 100
    assert sum(len(some) for _, some in found) == 2000
    assert len({day for day, _ in found}) == DAYS


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "either --csv DIR or --parquet DIR"),
        (("--csv", "a", "--parquet", "b"), "either --csv DIR or --parquet DIR"),
        (("--csv", "a", "--table", "secrets"), "one of command, event, evidence"),
    ],
)
def test_wrong_words_are_told(words: tuple[str, ...], told: str) -> None:
    result = vppd("export", *words)
    assert result.exit_code == 2
    assert told in result.stderr.replace("\n", " ")


async def test_without_pyarrow_the_remedy_is_told_and_nothing_is_left(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(path, [trip(1)])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = vppd("export", "--state", path.parent, "--parquet", tmp_path / "out")
    assert result.exit_code == 1
    assert "vppd[parquet]" in result.stderr
    assert [*(tmp_path / "out").iterdir()] == []


def test_where_there_is_no_journal_it_says_so(tmp_path: Path) -> None:
    for words in (["export", "--csv", tmp_path / "out"], ["backup", tmp_path / "copy"]):
        result = vppd(*words, "--state", tmp_path)
        assert result.exit_code == 1
        assert "there is no" in result.stderr


# --- backup ---------------------------------------------------------------------------------------


def test_a_backup_while_it_is_written_is_whole_and_of_one_instant(
    path: Path, tmp_path: Path
) -> None:
    path.parent.mkdir()
    copy = tmp_path / "copy.db"
    with writing(path, 0) as process:
        assert process.stdout is not None
        for _ in range(3):
            known = max(int(process.stdout.readline()) for _ in range(20))
            result = vppd("backup", copy, "--state", path.parent)
            assert result.exit_code == 0, result.output
            texts = {int(str(text)) for (text,) in rows_of(copy, "SELECT text FROM trip")}
            assert known in texts
            with connect(copy, "ro") as connection:
                *_, last = walk(connection)
            assert last.entries["trip"] == len(texts)
        assert process.poll() is None
        int(process.stdout.readline())  # and it goes on
    assert sorted(file.name for file in tmp_path.iterdir()) == ["copy.db", "state"]


async def test_a_backup_that_fails_leaves_the_one_before(path: Path, tmp_path: Path) -> None:
    await filled(path, [trip(1)])
    copy = tmp_path / "copy.db"
    copy.write_text("the one before")
    with path.open("r+b") as file:  # a page that is broken, found only by the check
        file.seek(4096 * 9)
        file.write(b"\xa5" * 4096)
    result = vppd("backup", copy, "--state", path.parent)
    assert result.exit_code == 1
    assert "copy" in result.stderr
    assert copy.read_text() == "the one before"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["copy.db", "state"]


async def test_a_backup_without_room_is_not_begun(path: Path, small_disk: Path) -> None:
    await filled(path, readings(20_000))
    assert path.stat().st_size > 300_000
    (small_disk / "filler").write_bytes(b"x" * 900_000)
    result = vppd("backup", small_disk / "copy.db", "--state", path.parent)
    assert result.exit_code == 1
    assert "MB are free" in result.stderr
    assert [file.name for file in small_disk.iterdir()] == ["filler"]


async def test_the_journal_is_never_its_own_backup(path: Path) -> None:
    await filled(path, [trip(1)])
    before = path.read_bytes()
    assert vppd("backup", path, "--state", path.parent).exit_code == 2
    assert path.read_bytes() == before


async def test_the_writer_goes_on_while_a_slow_copy_is_made(path: Path, tmp_path: Path) -> None:
    """The copy holds one instant; what is written meanwhile is acknowledged all the same."""
    async with running(path) as site:
        for row in readings(20_000):
            site.journal.append(row)
        await until(lambda: not site.journal.status().queued_rows)
        state, copy = path.parent, tmp_path / "copy.db"
        copying = asyncio.to_thread(vppd, "backup", copy, "--state", state)
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(copying)
            committed = 0
            while not task.done():
                assert await site.journal.commit(trip(committed))
                committed += 1
        assert task.result().exit_code == 0
        assert committed
