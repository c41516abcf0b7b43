"""What market reports read of a journal: each row with its id, so that a figure can name it."""

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Generic, TypeVar

from vppd.cli.last_rows import open_read_only
from vppd.core.records_market import (
    MarketBidRow,
    MarketBlockRow,
    MarketPriceRow,
    MarketResultRow,
    SettlementLineRow,
)
from vppd.market.blocks import BLOCKS_A_DAY, Block, block_at
from vppd.spine.schema import from_micros, micros

FIRST_SCHEMA = 4  # with a market
RUNS_SHOWN = 6
RowT = TypeVar(
    "RowT", MarketBidRow, MarketResultRow, MarketPriceRow, MarketBlockRow, SettlementLineRow
)
_VIEWS: dict[type, str] = {
    MarketBidRow: "market_bid",
    MarketResultRow: "market_result",
    MarketPriceRow: "price",
    MarketBlockRow: "market_ledger",
    SettlementLineRow: "settlement",
}


@dataclass(frozen=True, slots=True)
class Kept(Generic[RowT]):
    """A row and the id it has in its table."""

    id: int
    row: RowT

    @property
    def block(self) -> Block:
        """Of which block it is."""
        return block_at(self.row.block_at)


@dataclass(frozen=True, slots=True)
class Period:
    """All that the journal has of the blocks from `begin` until before `end`, by block. `prices`
    begin a day earlier: the naive forecast is yesterday's price."""

    begin: Block
    end: Block
    bids: tuple[Kept[MarketBidRow], ...]
    results: tuple[Kept[MarketResultRow], ...]
    prices: tuple[Kept[MarketPriceRow], ...]
    blocks: tuple[Kept[MarketBlockRow], ...]
    lines: tuple[Kept[SettlementLineRow], ...]


@contextlib.contextmanager
def market_journal(state: Path) -> Iterator[sqlite3.Connection]:
    """The journal of this state directory. Raises OSError, also for what goes wrong in it."""
    path = state / "journal.db"
    try:
        with contextlib.closing(open_read_only(path)) as journal:
            (version,) = journal.execute("PRAGMA user_version").fetchone()
            if version < FIRST_SCHEMA:
                raise OSError(f"{path} has schema {version}: start this vppd once, it migrates it")
            yield journal
    except sqlite3.Error as error:
        raise OSError(f"{path}: {error}") from error


def period(journal: sqlite3.Connection, begin: Block, end: Block, area: str | None) -> Period:
    """Everything of these blocks. Raises LookupError when prices are of several areas and none is
    named."""
    prices = rows_of(journal, MarketPriceRow, begin.after(-BLOCKS_A_DAY), end)
    return Period(
        begin,
        end,
        rows_of(journal, MarketBidRow, begin, end),
        rows_of(journal, MarketResultRow, begin, end),
        of_area(prices, area),
        rows_of(journal, MarketBlockRow, begin, end),
        rows_of(journal, SettlementLineRow, begin, end),
    )


def rows_of(
    journal: sqlite3.Connection, kind: type[RowT], begin: Block, end: Block
) -> tuple[Kept[RowT], ...]:
    """The rows of one class that rule now, in the order of blocks, then of writing."""
    names = [field.name for field in fields(kind)]
    sql = (
        f"SELECT id, {', '.join(names)} FROM {_VIEWS[kind]} "  # noqa: S608 - our own names
        "WHERE block_at >= ? AND block_at < ? ORDER BY block_at, id"
    )
    found = journal.execute(sql, (micros(begin.start), micros(end.start)))
    return tuple(Kept(int(id_), kind(*_values(names, values))) for id_, *values in found)


def of_area(
    prices: Sequence[Kept[MarketPriceRow]], area: str | None
) -> tuple[Kept[MarketPriceRow], ...]:
    """The prices of one bid area. Raises LookupError when there are several and none is named."""
    areas = sorted({each.row.area for each in prices})
    if area is None and len(areas) > 1:
        raise LookupError(f"prices of the areas {', '.join(areas)}: name one by --area")
    return tuple(each for each in prices if area is None or each.row.area == area)


def named(table: str, ids: Iterable[int]) -> str:
    """`settlement_line 3-8, 11`: the rows a figure rests on. Many runs are told by their ends and
    their number; the CSV has every one."""
    runs: list[list[int]] = []
    for id_ in sorted(set(ids)):
        if runs and id_ == runs[-1][1] + 1:
            runs[-1][1] = id_
        else:
            runs.append([id_, id_])
    if len(runs) > RUNS_SHOWN:
        count = sum(last - first + 1 for first, last in runs)
        return f"{table} {count} rows of {runs[0][0]}-{runs[-1][1]}"
    words = [f"{first}" if first == last else f"{first}-{last}" for first, last in runs]
    return f"{table} {', '.join(words)}" if words else "-"


def causes(row: MarketBlockRow) -> dict[str, float]:
    """The deviation of a block by cause, MWh."""
    return {str(cause): float(mwh) for cause, mwh in json.loads(row.causes_json).items()}


def _values(names: Sequence[str], values: Sequence[Any]) -> list[Any]:
    return [
        _CONVERT[name](value) if name in _CONVERT else value
        for name, value in zip(names, values, strict=True)
    ]


_CONVERT: dict[str, Callable[[Any], Any]] = {
    "at": from_micros,
    "block_at": from_micros,
    "verified": bool,
}
