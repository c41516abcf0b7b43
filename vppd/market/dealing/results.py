"""What auctions brought: asked for until it is final and its delivery over, written down, and
rebuilt from the journal after a restart. What counts is `positions.trade_of`'s to say.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal, cast

from vppd.core.alarms import MEANINGS, Code
from vppd.core.model import SITE
from vppd.core.ports import Clock, Journal
from vppd.core.records import EventRow
from vppd.core.records_market import MarketPriceRow, MarketResultRow
from vppd.market.blocks import Block, block_at
from vppd.market.book import Bid
from vppd.market.dealing.positions import AGREE_MW, Trade, trade_of
from vppd.market.dealing.submission import Tell
from vppd.market.dealing.tickets import Kept
from vppd.market.exchange import Auction, Exchange, NotUnderstood, Product, Result, Unsure
from vppd.market.gates import Gate

AFTER = timedelta(days=1)  # what was never said is asked for so long after delivery
EPOCH_US = 1_000_000
MOST_MW = 10_000.0  # more than any portfolio of one site

SQL = """SELECT at, block_at, product, session, cleared_mw, price_rs_per_mwh, state
    FROM market_result WHERE exchange = ? AND block_at >= ? ORDER BY id"""


@dataclass(frozen=True, slots=True)
class Asking:
    """How often an exchange is asked for a result, seconds apart: until it is final, and after.

    `doubted_s` is for a final one that is partial or contradicts another: what is put right before
    the next session's book, half an hour on, is still of use, and few auctions are ever so.
    """

    ask_s: float = 30.0
    doubted_s: float = 120.0
    again_s: float = 900.0


@dataclass(slots=True)
class _Watch:
    """One auction that is followed."""

    gate: Gate
    due_s: float
    told: frozenset[str] = frozenset()
    garbled: str = ""  # why the last answer could not be
    priced: set[Block] = field(default_factory=set)

    @property
    def prices_known(self) -> bool:
        """Every block's price is written down."""
        return self.priced.issuperset(self.gate.auction.blocks)


class Results:
    """The results of one exchange. `trades` is what counts now, by auction."""

    def __init__(
        self,
        exchange: Exchange,
        journal: Journal,
        clock: Clock,
        tell: Tell,
        kept: Mapping[Auction, Kept],
        *,
        area: str,
        asking: Asking = Asking(),
    ) -> None:
        self._exchange, self._journal, self._clock, self._tell = exchange, journal, clock, tell
        self._kept, self._area, self._asking = kept, area, asking
        self._came: dict[Auction, list[Result]] = {}
        self._watches: dict[Auction, _Watch] = {}
        self.trades: dict[Auction, Trade] = {}

    async def restore(self, since: datetime) -> None:
        """Every result of blocks since then, in the order they came. Raises OSError."""
        since_us = int(since.timestamp()) * EPOCH_US
        rows = await self._journal.select(SQL, (self._exchange.name, since_us))
        self._came.update(results_of(rows))
        for auction in self._came:
            self._count(auction)

    def follow(self, gate: Gate) -> None:
        """Ask for this auction's result from the closing of its gate on."""
        wait_s = (gate.closes_at - self._clock.utc()).total_seconds()
        due_s = self._clock.now_s() + max(wait_s, 0.0)
        self._watches.setdefault(gate.auction, _Watch(gate, due_s))

    def forget(self, before: datetime) -> None:
        """Let go of what was delivered before."""
        for known in (self._came, self.trades):
            for auction in [each for each in known if each.blocks[-1].end <= before]:
                del known[auction]

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.ask()
            await self._clock.sleep_until(self._clock.now_s() + self._asking.ask_s)

    async def ask(self) -> None:
        """One round over all that is due. When the exchange is silent the rest waits for the next
        round."""
        silent = False
        for auction, watch in sorted(self._watches.items()):
            if self._clock.now_s() < watch.due_s:
                continue
            try:
                watch.garbled = "" if not silent else watch.garbled
                bid = self._may_have_cleared(auction)
                if not silent and bid:
                    await self._ask_result(auction)
                if not silent and not watch.prices_known and (self._is_out(auction) or not bid):
                    await self._ask_prices(auction, watch.priced)
            except NotUnderstood as error:
                watch.garbled = str(error)
            except Unsure:
                silent = True
            self._count(auction)
            self._put_off(auction, watch)
        self._tell_faults()

    def _put_off(self, auction: Auction, watch: _Watch) -> None:
        trade, asking = self.trades.get(auction), self._asking
        bid = self._may_have_cleared(auction)
        final = trade is not None and trade.final
        settled = (final or not bid) and watch.prices_known
        wait_s = asking.ask_s
        if trade is not None and final and trade.faults:
            wait_s = asking.doubted_s
        elif settled or not bid:  # a price alone is no hurry
            wait_s = asking.again_s
        watch.due_s = self._clock.now_s() + wait_s
        end = auction.blocks[-1].end
        if self._clock.utc() >= (end if settled else end + AFTER):
            del self._watches[auction]

    def _may_have_cleared(self, auction: Auction) -> bool:
        kept = self._kept.get(auction)
        return kept is not None and kept.may_clear

    def _is_out(self, auction: Auction) -> bool:
        """Whether a result stands; before that there are no prices either."""
        came = self._came.get(auction)
        return came is not None and bool(came) and came[-1].state != "retracted"

    async def _ask_result(self, auction: Auction) -> None:
        result = await self._exchange.results(auction)
        _check(result)
        came = self._came.setdefault(auction, [])
        if result is None or (came and _same(came[-1], result)):
            return
        if not came and result.state == "retracted" and not result.cleared_mw:
            return  # nothing was published that could be taken back
        came.append(result)
        for row in self._rows(result):
            self._journal.append(row)

    async def _ask_prices(self, auction: Auction, priced: set[Block]) -> None:
        """Prices of the area are written down once, whether or not anything was bid."""
        prices = await self._exchange.prices(auction)
        now = self._clock.utc()
        for block in sorted(prices.keys() - priced):
            if not math.isfinite(prices[block]):
                continue
            priced.add(block)
            self._journal.append(
                MarketPriceRow(
                    at=now,
                    block_at=block.start,
                    product=auction.product,
                    area=self._area,
                    kind="cleared",
                    price_rs_per_mwh=prices[block],
                    source=self._exchange.name,
                )
            )

    def _rows(self, result: Result) -> Iterable[MarketResultRow]:
        """A result as rows: the blocks it names; of one that is retracted, every block."""
        now, auction = self._clock.utc(), result.auction
        kept = self._kept.get(auction)
        retracted = result.state == "retracted"
        for block in auction.blocks:
            if retracted or block in result.cleared_mw:
                yield MarketResultRow(
                    at=now,
                    block_at=block.start,
                    exchange=self._exchange.name,
                    product=auction.product,
                    session=str(auction.session),
                    cleared_mw=0.0 if retracted else result.cleared_mw[block],
                    price_rs_per_mwh=result.price_rs_per_mwh.get(block, math.nan),
                    state=result.state,
                    book=kept.ticket.id if kept is not None else "",
                )

    # --- what counts --------------------------------------------------------------------------

    def _count(self, auction: Auction) -> None:
        """What this auction brought, by all that came of it."""
        watch = self._watches.get(auction)
        late = watch is not None and self._clock.utc() >= watch.gate.late_at
        bid = self._may_have_cleared(auction)
        trade = trade_of(auction, self._came.get(auction, ()), late=late, bid=bid)
        if self._came.get(auction) or trade.faults:
            self.trades[auction] = trade
        faults: set[str] = {*trade.faults, *self._beyond(trade)}
        if watch is not None:
            faults |= {watch.garbled} - {""}
            for fault in sorted(faults - watch.told):
                level = MEANINGS[Code.MARKET_RESULT].level
                row = (self._clock.utc(), Code.MARKET_RESULT, SITE, level, f"{auction}: {fault}")
                self._journal.append(EventRow(*row))
            watch.told = frozenset(faults)

    def _beyond(self, trade: Trade) -> set[str]:
        """Whether more cleared than was bid: it counts, for the exchange rules, but it is told."""
        kept = self._kept.get(trade.auction)
        if kept is None:
            return set()
        for block, cleared_mw in trade.cleared_mw.items():
            bid = kept.ticket.book.bids.get(block, Bid())
            least_mw, most_mw = kept.ticket.book.whole_range_mw(block)
            least_mw, most_mw = least_mw - bid.most_bought_mw, most_mw + bid.most_sold_mw
            if not least_mw - AGREE_MW <= cleared_mw <= most_mw + AGREE_MW:
                return {"beyond_bid"}
        return set()

    def _tell_faults(self) -> None:
        """An alarm while any result that still matters is not as it should be."""
        now = self._clock.utc()
        found = [
            f"{auction}: {', '.join(sorted(watch.told))}"
            for auction, watch in sorted(self._watches.items())
            if watch.told and auction.blocks[-1].end > now
        ]
        self._tell(Code.MARKET_RESULT, bool(found), "; ".join(found))


def _check(result: Result | None) -> None:
    """Raises NotUnderstood for amounts that no portfolio ever had: a wrong scale."""
    for block, power_mw in (result.cleared_mw if result is not None else {}).items():
        if not abs(power_mw) <= MOST_MW:
            raise NotUnderstood(f"not understood: {power_mw:g} MW cleared in {block}")


def results_of(rows: Iterable[tuple[object, ...]]) -> dict[Auction, list[Result]]:
    """Results as they came, from the rows of `SQL`: those with one `at` came together."""
    parts: dict[tuple[Auction, int], dict[Block, tuple[float, float | None, str]]] = {}
    for at, block_at_us, product, session, cleared_mw, price, state in rows:
        start = datetime.fromtimestamp(cast("int", block_at_us) / EPOCH_US, UTC)
        block = block_at(start)
        auction = Auction(block.day, int(cast("str", session)), cast("Product", product))
        part = parts.setdefault((auction, cast("int", at)), {})
        part[block] = cast("float", cleared_mw), cast("float | None", price), cast("str", state)
    found: dict[Auction, list[Result]] = {}
    for (auction, _), blocks in parts.items():
        state = next(iter(blocks.values()))[2]
        found.setdefault(auction, []).append(
            Result(
                auction,
                {} if state == "retracted" else {block: row[0] for block, row in blocks.items()},
                {block: row[1] for block, row in blocks.items() if row[1] is not None},
                cast("Literal['provisional', 'final', 'retracted']", state),
            )
        )
    return found


def _same(first: Result, second: Result) -> bool:
    """Told again, not anew. What a retracted one once held is of no account, nor are prices of
    blocks in which nothing is said to be ours."""
    if first.state != second.state or first.state == "retracted":
        return first.state == second.state
    prices = first.price_rs_per_mwh, second.price_rs_per_mwh
    return first.cleared_mw == second.cleared_mw and all(
        prices[0].get(block) == prices[1].get(block) for block in first.cleared_mw
    )
