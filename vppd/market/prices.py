"""Cleared prices as the market layer keeps them, and the CSV file they are seeded from. Pure.

A file has at least the columns `datetime` (start of the block, IST, or with its own offset) and
`price` (Rs/MWh); other columns are left alone. A row that cannot be used is told with its line and
the others are used: nothing is repaired and nothing is dropped in silence.
"""

import csv
import itertools
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from types import MappingProxyType

from vppd.market.blocks import BLOCK, BLOCKS_A_DAY, IST, Block, block_at

UNKNOWN = math.nan
TIME_COLUMN, PRICE_COLUMN = "datetime", "price"
FIRST_YEAR, LAST_YEAR = 2000, 2199
MOST_RS_PER_MWH = 100_000.0  # several times what any Indian price cap ever was: another unit
DAILY_RS_PER_MWH = (1100.0, 20_000.0)  # where the middle price of whole days lies
FEW_RS_PER_MWH = 30.0

Fault = tuple[int, str]
Days = Mapping[date, tuple[float, ...]]  # Rs/MWh, NaN where unknown
_Row = tuple[int, float]  # line and Rs/MWh


class PricesError(ValueError):
    """A price file of which nothing can be used; `faults` are (line, what is wrong)."""

    def __init__(self, name: str, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(f"{name}:{line}: {text}" for line, text in self.faults))


@dataclass(frozen=True, slots=True)
class PriceHistory:
    """Prices of one product by IST day: 96 of each day, Rs/MWh, NaN where none is known."""

    days: Days = field(default_factory=dict)

    def __post_init__(self) -> None:
        for day, prices in self.days.items():
            if len(prices) != BLOCKS_A_DAY:
                raise ValueError(f"{day}: {len(prices)} prices; a day has {BLOCKS_A_DAY}")
        ordered = dict(sorted(self.days.items()))
        object.__setattr__(self, "days", MappingProxyType(ordered))

    def __reduce__(self) -> tuple[type["PriceHistory"], tuple[dict[date, tuple[float, ...]]]]:
        return PriceHistory, (dict(self.days),)  # a child process gets it as plain data

    def before(self, day: date) -> "PriceHistory":
        """What was cleared for the days before this one: all that is known at its gate, which
        opens on the morning before, when the day in between has been cleared already."""
        return PriceHistory({each: self.days[each] for each in self.days if each < day})

    def whole(self) -> tuple[date, ...]:
        """The days of which every price is known, oldest first."""
        return tuple(day for day, prices in self.days.items() if not any(map(_unknown, prices)))

    @property
    def last(self) -> date | None:
        """The newest day of which any price is known."""
        known = (
            day for day in reversed(tuple(self.days)) if not all(map(_unknown, self.days[day]))
        )
        return next(known, None)


@dataclass(frozen=True, slots=True)
class PriceFile:
    """What a file gave, and every row that gave nothing or was odd, as (line, what is wrong)."""

    history: PriceHistory
    faults: tuple[Fault, ...]


def history_of(prices_rs_per_mwh: Mapping[Block, float]) -> PriceHistory:
    """A history from single blocks; a block without a price stays unknown."""
    days: dict[date, list[float]] = {}
    for block, price in prices_rs_per_mwh.items():
        row = days.setdefault(block.day, [UNKNOWN] * BLOCKS_A_DAY)
        row[block.number - 1] = price if math.isfinite(price) else UNKNOWN
    return PriceHistory({day: tuple(row) for day, row in days.items()})


def parse(text: str, name: str) -> PriceFile:
    """Read a price file; `name` is the file's, for messages.

    Raises PricesError when the columns are not there or no row can be used.
    """
    lines = csv.reader(text.removeprefix("\ufeff").splitlines())
    header = [cell.strip() for cell in next(lines, [])]
    lost = [column for column in (TIME_COLUMN, PRICE_COLUMN) if header.count(column) != 1]
    if lost:
        raise PricesError(name, [(1, f"header {','.join(header)!r} has not one {lost[0]!r}")])
    faults: list[Fault] = []
    rows: dict[Block, _Row] = {}
    places = header.index(TIME_COLUMN), header.index(PRICE_COLUMN)
    newest: Block | None = None
    for cells in lines:
        if not any(cell.strip() for cell in cells):
            continue
        line = lines.line_num
        try:
            block, price = _row(cells, *places)
        except ValueError as wrong:
            faults.append((line, str(wrong)))
            continue
        if block in rows:
            first, kept = rows[block]
            same = "the same price" if kept == price else f"{kept:g} there, which is kept"
            faults.append((line, f"{block} is already in line {first}: {same}"))
            continue
        if newest is not None and block < newest:
            faults.append((line, f"{block} stands after {newest}: used, but out of order"))
        newest = block if newest is None else max(newest, block)
        rows[block] = line, price
    if not rows:
        raise PricesError(name, [*faults, (1, "no row has a price")])
    faults += _gaps(rows)
    history = history_of({block: price for block, (_, price) in rows.items()})
    return PriceFile(history, tuple(sorted(faults)))


def doubt_of(history: PriceHistory) -> str:
    """Why these prices may be in another unit than Rs/MWh, and what to do; or nothing."""
    known = [price for day in history.days.values() for price in day if not _unknown(price)]
    middle = statistics.median(known) if known else DAILY_RS_PER_MWH[0]
    low, high = DAILY_RS_PER_MWH
    if not middle or low <= middle <= high:
        return ""
    unit, remedy = "paise/MWh", "divide it by 100"
    if middle < low:
        unit, remedy = "paise/kWh", "multiply it by 10"
    if middle < FEW_RS_PER_MWH:
        unit, remedy = "Rs/kWh", "multiply it by 1000"
    return (
        f"the middle price is {middle:g} Rs/MWh, as if the column were {unit}: if it is, {remedy} "
        "and import it again, the newest import counts"
    )


def _row(cells: list[str], time_place: int, price_place: int) -> tuple[Block, float]:
    """One row's block and price. Raises ValueError with what is wrong."""
    if len(cells) <= max(time_place, price_place):
        raise ValueError(f"{len(cells)} cells are too few")
    cell = cells[time_place].strip()
    try:
        start = datetime.fromisoformat(cell)
    except ValueError:
        raise ValueError(f"{TIME_COLUMN}: {cell!r} is not a time like 2024-01-31 23:45") from None
    if not FIRST_YEAR <= start.year <= LAST_YEAR:
        raise ValueError(f"{TIME_COLUMN}: {cell!r} is not from {FIRST_YEAR} to {LAST_YEAR}")
    block = block_at((start if start.tzinfo else start.replace(tzinfo=IST)).astimezone(UTC))
    if block.start != (start if start.tzinfo else start.replace(tzinfo=IST)):
        raise ValueError(f"{TIME_COLUMN}: {cell!r} is not the start of a quarter of an hour")
    cell = cells[price_place].strip()
    try:
        price = float(cell)
    except ValueError:
        price = UNKNOWN
    if not math.isfinite(price):
        raise ValueError(f"{PRICE_COLUMN}: {cell!r} of {block} is not a number")
    if abs(price) > MOST_RS_PER_MWH:
        said = f"{PRICE_COLUMN}: {cell!r} of {block} is no price in Rs/MWh"
        raise ValueError(f"{said}; of paise take a hundredth")
    return block, price


def _gaps(rows: Mapping[Block, _Row]) -> Iterator[Fault]:
    """Blocks that no row has, between the first and the last, at the line they should precede."""
    ordered = sorted(rows)
    for earlier, later in itertools.pairwise(ordered):
        missing = (later.start - earlier.end) // BLOCK
        if missing:
            first, last = earlier.after(1), later.after(-1)
            span = str(first) if missing == 1 else f"{first} to {last}"
            yield rows[later][0], f"{missing} missing before this: {span}"


def days_between(first: date, last: date) -> tuple[date, ...]:
    """Every day from the first to the last, both included."""
    return tuple(first + timedelta(days=n) for n in range((last - first).days + 1))


def _unknown(price_rs_per_mwh: float) -> bool:
    return not math.isfinite(price_rs_per_mwh)
