"""The schedule file: what the site owes in each quarter of an hour, as an operator writes it down.

Pure: text in, blocks out. A day has 96 blocks of 15 minutes in Indian Standard Time (UTC+5:30, no
summer time); block 1 begins at midnight. Columns: `date,block,power_kw[,reactive_kvar]`, positive
towards the grid; lines that are empty or begin with # are skipped.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from types import MappingProxyType

from vppd.market.blocks import BLOCKS_A_DAY, Block, block_at

FIRST_YEAR, LAST_YEAR = 2000, 2199
COLUMNS = ("date", "block", "power_kw", "reactive_kvar")

_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Entry:
    """What is scheduled in one block, positive towards the grid."""

    day: date
    block: int
    power_kw: float
    reactive_kvar: float = 0.0

    @property
    def start(self) -> datetime:
        """When the block begins, UTC."""
        return Block(self.day, self.block).start

    @property
    def end(self) -> datetime:
        """When the block ends, UTC."""
        return Block(self.day, self.block).end


class ScheduleError(ValueError):
    """A schedule file that may not be used: `faults` are (line, what is wrong), all of them."""

    def __init__(self, name: str, faults: Sequence[tuple[int, str]]) -> None:
        self.faults = tuple(faults)
        self.errors = tuple(f"{name}:{line}: {text}" for line, text in faults)
        super().__init__("\n".join(self.errors))


@dataclass(frozen=True, slots=True)
class Schedule:
    """Every scheduled block of a file."""

    entries: Mapping[Block, Entry]

    def power_at(self, utc: datetime) -> Entry | None:
        """The block in force at an aware instant, None when nothing is scheduled then."""
        return self.entries.get(block_at(utc))


def parse(text: str, name: str) -> Schedule:
    """Read a schedule; `name` is the file's, for messages.

    Raises ScheduleError with every wrong line as `name:line: column: what is wrong`.
    """
    faults: list[tuple[int, str]] = []
    entries: dict[Block, Entry] = {}
    lines: dict[Block, int] = {}
    rows = _rows(text)
    line, columns = next(rows, (1, ()))
    if columns not in {COLUMNS[:3], COLUMNS}:
        wanted = f"{','.join(COLUMNS[:3])}[,{COLUMNS[3]}], separated by commas"
        raise ScheduleError(name, [(line, f"header {','.join(columns)!r}; it is {wanted}")])
    for line, cells in rows:
        entry, wrong = _entry(columns, cells)
        faults += ((line, text) for text in wrong)
        if entry is None:
            continue
        key = Block(entry.day, entry.block)
        first = lines.setdefault(key, line)
        if first != line:
            faults.append((line, f"block: {key} is already in line {first}"))
        entries[key] = entry
    if faults:
        raise ScheduleError(name, faults)
    return Schedule(MappingProxyType(entries))


def _rows(text: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Line numbers and cells of every line that says something."""
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, tuple(cell.strip() for cell in line.split(","))


def _entry(columns: tuple[str, ...], cells: tuple[str, ...]) -> tuple[Entry | None, list[str]]:
    """One line's block, or None and `column: what is wrong` for each bad cell."""
    if len(cells) != len(columns):
        return None, [f"{len(cells)} cells; the header has {len(columns)}"]
    errors: list[str] = []
    values = dict(zip(columns, cells, strict=True))
    day = _day(values["date"], errors)
    block = _block(values["block"], errors)
    power_kw = _number("power_kw", values["power_kw"], errors)
    reactive_kvar = _number("reactive_kvar", values.get("reactive_kvar", "0"), errors)
    return (None if errors else Entry(day, block, power_kw, reactive_kvar)), errors


def _day(cell: str, errors: list[str]) -> date:
    try:
        day = date.fromisoformat(cell) if re.fullmatch(r"\d{4}-\d{2}-\d{2}", cell) else date.min
    except ValueError:
        day = date.min
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        errors.append(f"date: {cell!r} is not a day YYYY-MM-DD from {FIRST_YEAR} to {LAST_YEAR}")
    return day


def _block(cell: str, errors: list[str]) -> int:
    block = int(cell) if re.fullmatch(r"[0-9]{1,2}", cell) else 0
    if not 1 <= block <= BLOCKS_A_DAY:
        errors.append(f"block: {cell!r} is not a whole number from 1 to {BLOCKS_A_DAY}")
    return block


def _number(column: str, cell: str, errors: list[str]) -> float:
    value = float(cell) if _NUMBER.fullmatch(cell) else math.nan
    if not math.isfinite(value):
        errors.append(f"{column}: {cell!r} is not a number like -40 or 12.5")
    return value
