"""`vppd market import`: cleared prices of a file into the journal, so that forecasts can learn.

A running daemon takes them over its socket; of one that is stopped the journal is written itself.
"""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

from vppd.cli.wire import DaemonAbsent, ask
from vppd.core.records_market import MarketPriceRow
from vppd.market.blocks import Block
from vppd.market.prices import PriceFile, PriceHistory, doubt_of, parse
from vppd.spine.clock import SystemClock
from vppd.spine.journal import SqliteJournal
from vppd.spine.schema import micros
from vppd.spine.store import JournalRefused

__all__ = ["doubt_of", "imported", "prices_of", "read"]

A_REQUEST = 2000  # prices
IMPORTED = "imported"

Priced = tuple[Block, float]


class NotImported(Exception):  # noqa: N818 - what became of it
    """The prices are not, or not all, in the journal; the text says why."""


def read(path: Path) -> PriceFile:
    """A price file. Raises OSError, UnicodeDecodeError and PricesError."""
    return parse(path.read_text(encoding="utf-8"), path.name)


def prices_of(history: PriceHistory) -> Iterator[Priced]:
    """Every known price, oldest first."""
    for day, prices in history.days.items():
        for number, price in enumerate(prices, start=1):
            if price == price:  # noqa: PLR0124 - not the unknown one, which is NaN
                yield Block(day, number), price


def imported(
    prices: Sequence[Priced], product: str, area: str, source: str, socket: Path, state: Path
) -> str:
    """Put them into the journal, and say by whom. Raises NotImported and OSError."""
    try:
        return _asked(prices, product, area, source, socket)
    except DaemonAbsent as absent:
        if absent.barred:
            raise NotImported(str(absent)) from absent
    try:
        return asyncio.run(_written(prices, product, area, source, state))
    except JournalRefused as refused:
        raise NotImported(f"no daemon at {socket}, and {refused}") from refused


def _asked(prices: Sequence[Priced], product: str, area: str, source: str, socket: Path) -> str:
    for some in _some(prices):
        body = {
            "product": product,
            "area": area,
            "source": source,
            "prices": [[micros(block.start) // 1_000_000, price] for block, price in some],
        }
        reply = ask(str(socket), "POST", "/v1/market/prices", body)
        if not reply.fine:
            raise NotImported(str(reply.body.get("detail", reply.body)))
    return "the running vppd"


async def _written(
    prices: Sequence[Priced], product: str, area: str, source: str, state: Path
) -> str:
    clock, troubles = SystemClock(), list[str]()
    path = state / "journal.db"
    journal = SqliteJournal(path, clock, lambda *said: troubles.append(said[2]))
    await journal.open()
    at = clock.utc()
    try:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(journal.run())
            for some in _some(prices):
                rows = [
                    MarketPriceRow(at, block.start, product, area, IMPORTED, price, source)
                    for block, price in some
                ]
                for row in rows[:-1]:
                    journal.append(row)
                if not await journal.commit(rows[-1]):
                    raise NotImported(f"{path}: {'; '.join(troubles) or 'it cannot be written'}")
            await journal.close()
            await task
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None
    return str(path)


def _some(prices: Sequence[Priced]) -> Iterator[Sequence[Priced]]:
    return (prices[begin : begin + A_REQUEST] for begin in range(0, len(prices), A_REQUEST))
