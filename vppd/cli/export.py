"""`vppd export`: the journal's tables as CSV or Parquet, a day at a time, in bounded memory.

A file is written under another name and gets its own when it is whole. Each day is asked for by
itself, so that a running daemon's write-ahead log is not held up for long.
"""

import csv
import dataclasses
import importlib
import os
import sqlite3
import typing
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import NoneType
from typing import Any, Protocol

from vppd.cli.last_rows import open_read_only
from vppd.core.records import KeptRow
from vppd.spine.schema import TABLES, from_micros, micros

SOME_ROWS = 20_000
DAY = timedelta(days=1)
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # with which a cell begins that is computed
PARQUET_MISSING = (
    "Parquet needs pyarrow: pip install 'vppd[parquet]' into vppd's environment, or use --csv"
)

Values = tuple[Any, ...]
Progress = Callable[[str, datetime, int], None]


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """One column and what it holds: datetime, int, float, bool or str."""

    name: str
    kind: type


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """What is exported under one name: a table or view of the journal."""

    name: str
    columns: tuple[Column, ...]


class Sheet(Protocol):
    """One file being written."""

    def write(self, rows: Sequence[Values]) -> None:
        """Add rows, their times aware UTC. Raises OSError."""

    def close(self) -> None:
        """No more rows."""


def _sources() -> Iterator[Source]:
    for row, table in TABLES.items():
        if row is not KeptRow:  # what the daemon keeps for itself
            kinds = typing.get_type_hints(row)
            names = (field.name for field in dataclasses.fields(row))
            yield Source(table.name, tuple(Column(name, _kind(kinds[name])) for name in names))


def _kind(hint: Any) -> type:
    """`float | None` is a float."""
    found = [each for each in typing.get_args(hint) if each is not NoneType] or [hint]
    return typing.cast("type", found[0])


SOURCES = {source.name: source for source in _sources()}


def export(
    state: Path,
    sheet: Callable[[Path, Source], Sheet],
    suffix: str,
    names: Sequence[str],
    begin: datetime | None,
    end: datetime | None,
    directory: Path,
    progress: Progress,
) -> dict[str, int]:
    """Write each named table to a file of its own in `directory`; rows by name. Raises OSError."""
    path = state / "journal.db"
    directory.mkdir(parents=True, exist_ok=True)
    counts = {}
    try:
        with closing(open_read_only(path)) as journal:
            for name in names:
                target = directory / f"{name}.{suffix}"
                # of this process alone: two that wrote one would rename each other's half
                part = target.with_name(f"{target.name}.{os.getpid()}.part")
                try:
                    rows = rows_of(journal, SOURCES[name], begin, end)
                    counts[name] = _written(sheet(part, SOURCES[name]), name, rows, progress)
                    part.replace(target)
                finally:
                    with suppress(OSError):
                        part.unlink(missing_ok=True)
    except sqlite3.Error as error:
        raise OSError(f"{path}: {error}") from error
    return counts


def rows_of(
    journal: sqlite3.Connection, source: Source, begin: datetime | None, end: datetime | None
) -> Iterator[tuple[datetime, list[Values]]]:
    """Some rows at a time in the order of `at`, with the day they are of. Raises sqlite3.Error."""
    first, last = _extent(journal, source, begin, end)
    columns = ", ".join(f'"{column.name}"' for column in source.columns)
    sql = f"SELECT {columns} FROM {source.name} WHERE at >= ? AND at < ? ORDER BY at"  # noqa: S608
    turn = _turning(source)
    while first < last:
        until = min(first + DAY, last)
        found = journal.execute(sql, (micros(first), micros(until)))
        while some := found.fetchmany(SOME_ROWS):
            yield first, [turn(row) for row in some]
        first = until


def _extent(
    journal: sqlite3.Connection, source: Source, begin: datetime | None, end: datetime | None
) -> tuple[datetime, datetime]:
    """What to ask for: no more than there is."""
    stored = next(table for table in TABLES.values() if table.name == source.name).stored_in
    oldest, newest = journal.execute(f"SELECT min(at), max(at) FROM {stored}").fetchone()  # noqa: S608
    if oldest is None:
        now = datetime.fromtimestamp(0, UTC)
        return now, now
    first, last = from_micros(oldest), from_micros(newest + 1)
    return max(first, begin or first), min(last, end or last)


def _turning(source: Source) -> Callable[[Values], Values]:
    times = [place for place, column in enumerate(source.columns) if column.kind is datetime]
    truths = [place for place, column in enumerate(source.columns) if column.kind is bool]

    def turned(row: Values) -> Values:
        values = list(row)
        for place in times:
            values[place] = from_micros(values[place]) if values[place] is not None else None
        for place in truths:
            values[place] = bool(values[place]) if values[place] is not None else None
        return tuple(values)

    return turned


def _written(
    sheet: Sheet, name: str, rows: Iterator[tuple[datetime, list[Values]]], progress: Progress
) -> int:
    count = 0
    with closing(sheet):
        for day, some in rows:
            sheet.write(some)
            count += len(some)
            progress(name, day, count)
    return count


class CsvSheet:
    """A head line with the names, then a line a row; times as ISO 8601 with Z, exact. A text that a
    spreadsheet would take for a formula gets an apostrophe before it, as others may have chosen it:
    `'=1+1`. Parquet has every text as it was."""

    def __init__(self, path: Path, source: Source) -> None:
        self._file = path.open("w", encoding="utf-8", newline="")
        self._lines = csv.writer(self._file, lineterminator="\n")
        self._lines.writerow([column.name for column in source.columns])

    def write(self, rows: Sequence[Values]) -> None:
        """Add rows. Raises OSError."""
        self._lines.writerows([_text(value) for value in row] for row in rows)

    def close(self) -> None:
        """No more rows. Raises OSError."""
        self._file.close()


def _text(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat(timespec="microseconds").replace("+00:00", "Z")
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return value


class ParquetSheet:
    """One Parquet file, a group of rows at each write; times are UTC to the microsecond."""

    def __init__(self, path: Path, source: Source) -> None:
        """Raises OSError when pyarrow is not there; the message says what to do."""
        try:
            self._arrow = importlib.import_module("pyarrow")
            parquet = importlib.import_module("pyarrow.parquet")
        except ImportError:
            raise OSError(PARQUET_MISSING) from None
        kinds = {
            datetime: self._arrow.timestamp("us", tz="UTC"),
            int: self._arrow.int64(),
            float: self._arrow.float64(),
            bool: self._arrow.bool_(),
            str: self._arrow.string(),
        }
        self._columns = source.columns
        self._schema = self._arrow.schema([(each.name, kinds[each.kind]) for each in self._columns])
        self._file = parquet.ParquetWriter(path, self._schema, compression="zstd")

    def write(self, rows: Sequence[Values]) -> None:
        """Add rows. Raises OSError."""
        arrays = [
            self._arrow.array(values, field.type)
            for values, field in zip(zip(*rows, strict=True), self._schema, strict=True)
        ]
        self._file.write_table(self._arrow.Table.from_arrays(arrays, schema=self._schema))

    def close(self) -> None:
        """No more rows. Raises OSError."""
        self._file.close()
