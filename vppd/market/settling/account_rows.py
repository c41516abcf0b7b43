"""What accounts read of the journal: a block's bids, results, prices, each with its row's id."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from typing import Any

from vppd.core.ports import Journal
from vppd.core.records_market import MarketBlockRow
from vppd.market.blocks import BLOCK_H, Block, block_at, blocks_of
from vppd.market.dealing.positions import trade_of
from vppd.market.dealing.results import results_of
from vppd.market.exchange import Auction
from vppd.market.settling.money import Kind, energy, p_per_kwh
from vppd.market.settling.trades import Trade
from vppd.spine.schema import from_micros, micros

_BIDS = (
    "SELECT side, max(power_mw), max(id) FROM market_bid WHERE block_at = ? "
    "AND state IN ('sent', 'accepted', 'unsure') GROUP BY exchange, product, session, side, kind"
)
_RESULTS = (
    "SELECT exchange, product, at, block_at, product, session, cleared_mw, price_rs_per_mwh, "
    "state, id FROM market_result WHERE block_at >= ? AND block_at < ? AND product = ? "
    "ORDER BY exchange, id"
)
_PRICES = (
    "SELECT kind, price_rs_per_mwh, id FROM price WHERE product = 'dam' AND area = ? "
    "AND block_at >= ? AND block_at < ? AND kind IN ('cleared', 'imported')"
)
_LATE = (  # a result that lacks a block has news of it too
    "WITH newest AS (SELECT exchange, product, session, day, max(at) AS at FROM market_result "
    "WHERE block_at >= ?1 AND block_at < ?3 GROUP BY exchange, product, session, day) "
    "SELECT DISTINCT r.block_at FROM market_result AS r JOIN newest AS n "
    "USING (exchange, product, session, day) WHERE r.block_at >= ?1 AND r.block_at < ?2 "
    "AND n.at > coalesce("
    "(SELECT max(b.at) FROM market_block AS b WHERE b.block_at = r.block_at), 0)"
)
_SITE = (
    "SELECT at, frequency_hz, droop_kw, cleared_kw FROM site WHERE at >= ? AND at < ? ORDER BY at"
)
_KEPT = "SELECT * FROM market_ledger WHERE block_at = ?"


@dataclass(frozen=True, slots=True)
class Offered:
    """The most that left this site for a block, MWh, both at least 0."""

    sell_mwh: Decimal
    buy_mwh: Decimal
    rows: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DayMean:
    """The plain mean of a day's day-ahead prices: stands in for the reference rate that the grid's
    operator publishes."""

    rate_p_per_kwh: Decimal
    rows: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Second:
    """One row of the site, and for how long it held."""

    frequency_hz: float | None
    droop_kw: float
    cleared_kw: float
    held_s: float


class AccountRows:
    """Reads for one journal. Every call raises OSError when the file cannot be read."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def offered(self, block: Block) -> Offered:
        """What was bid, over all auctions."""
        found = await self._journal.select(_BIDS, (micros(block.start),))
        sides = {"sell": 0.0, "buy": 0.0}
        for side, power_mw, _ in found:
            sides[str(side)] += _number(power_mw) * BLOCK_H
        rows = tuple(f"market_bid:{row[2]}" for row in found)
        return Offered(energy(sides["sell"]), energy(sides["buy"]), rows)

    async def trades(self, block: Block) -> list[Trade]:
        """What its auctions brought, by the declared path of late and contradictory results: read
        whole, for a result that lacks this block says something of it too. Raises ValueError for
        energy without a price."""
        made = []
        for auction in (Auction(block.day, 0, "dam"), auction_of(block, "rtm")):
            span = micros(auction.blocks[0].start), micros(auction.blocks[-1].end)
            found = await self._journal.select(_RESULTS, (*span, auction.product))
            for exchange, rows in groupby(found, key=lambda row: str(row[0])):
                said = list(rows)
                came = results_of(row[2:9] for row in said).get(auction, [])
                trade = trade_of(auction, came)
                cleared_mw = trade.cleared_mw.get(block)
                if cleared_mw is None:
                    continue
                price = trade.price_rs_per_mwh.get(block)
                if price is None and cleared_mw:
                    raise ValueError(f"{auction}: {cleared_mw:g} MW cleared at no price")
                made.append(
                    Trade(
                        block,
                        Kind(auction.product),
                        exchange,
                        energy(cleared_mw * BLOCK_H),
                        Decimal(repr(price or 0.0)),
                        trade.final,
                        tuple(
                            f"market_result:{row[9]}"
                            for row in said
                            if row[3] == micros(block.start)
                        ),
                    )
                )
        return made

    async def day_mean(self, day: date, area: str) -> DayMean | None:
        """None while no price of the day is known. What the exchange said goes before what was
        imported."""
        blocks = blocks_of(day)
        span = micros(blocks[0].start), micros(blocks[-1].end)
        found = await self._journal.select(_PRICES, (area, *span))
        for kind in ("cleared", "imported"):
            prices = [(_number(price), int(str(id_))) for each, price, id_ in found if each == kind]
            if prices:
                mean = sum((Decimal(repr(price)) for price, _ in prices), Decimal(0)) / len(prices)
                rows = _runs("market_price", (id_ for _, id_ in prices))
                return DayMean(p_per_kwh(mean), rows)
        return None

    async def late(self, since: datetime, until: datetime) -> list[Block]:
        """Blocks that began in this span and have a result newer than their account, or none."""
        days_end = until + timedelta(days=2)  # a day that goes on has blocks to come
        span = micros(since), micros(until), micros(days_end)
        found = await self._journal.select(_LATE, span)
        return sorted(block_at(from_micros(int(str(at)))) for (at,) in found)

    async def seconds(self, since: datetime, until: datetime, gap_max_s: float) -> list[Second]:
        """The site's rows of a span; a row says nothing of what is later than `gap_max_s`."""
        found = await self._journal.select(_SITE, (micros(since), micros(until)))
        ends = [*(int(str(row[0])) for row in found[1:]), micros(until)]
        made = []
        for (at, hz, droop_kw, cleared_kw), end in zip(found, ends, strict=False):
            held_s = (end - int(str(at))) / 1e6
            if held_s <= gap_max_s:
                frequency_hz = _number(hz) if hz is not None else None
                made.append(Second(frequency_hz, _number(droop_kw), _number(cleared_kw), held_s))
        return made

    async def kept(self, block: Block) -> MarketBlockRow | None:
        """The newest account of a block."""
        names = list(MarketBlockRow.__dataclass_fields__)
        sql = _KEPT.replace("*", ", ".join(names), 1)
        found = await self._journal.select(sql, (micros(block.start),))
        if not found:
            return None
        values: dict[str, Any] = dict(zip(names, found[0], strict=True))
        values["at"], values["block_at"] = from_micros(values["at"]), block.start
        return MarketBlockRow(**values)


def auction_of(block: Block, product: str) -> Auction:
    """The auction of this product that delivers a block. Raises ValueError for another word."""
    if product == "dam":
        return Auction(block.day, 0, "dam")
    if product == "rtm":
        return Auction(block.day, (block.number + 1) // 2, "rtm")
    raise ValueError(f"{product!r} is no product")


def causes_of(row: MarketBlockRow) -> dict[str, Decimal]:
    """The deviation of a kept account by cause."""
    return {name: energy(mwh) for name, mwh in json.loads(row.causes_json).items()}


def _runs(table: str, ids: Iterable[int]) -> tuple[str, ...]:
    """`market_price:3-98`: rows that follow one another as one word."""
    runs: list[list[int]] = []
    for id_ in sorted(ids):
        if runs and id_ == runs[-1][1] + 1:
            runs[-1][1] = id_
        else:
            runs.append([id_, id_])
    return tuple(f"{table}:{a}" if a == b else f"{table}:{a}-{b}" for a, b in runs)


def _number(value: object) -> float:
    return float(str(value))


def rows_of(*parts: Sequence[str]) -> tuple[str, ...]:
    """Names of rows put together, each once."""
    return tuple(dict.fromkeys(name for part in parts for name in part))
