"""What is held at an exchange now, trades and bids still out, and what that leaves of the site."""

from collections.abc import Callable, Mapping
from datetime import datetime

from vppd.core.ports import Clock
from vppd.core.settings_market import MarketSettings
from vppd.market.blocks import BLOCK, Block, block_at
from vppd.market.book import Book
from vppd.market.dealing.making import terms_of
from vppd.market.dealing.obligations import (
    Held,
    Short,
    blocks_through,
    closing,
    open_ranges,
    shorts_of,
    state_at,
)
from vppd.market.dealing.positions import Trade, position_of
from vppd.market.dealing.tickets import Kept
from vppd.market.exchange import Auction
from vppd.market.fitting import Setting
from vppd.market.gates import gate_of
from vppd.market.site_storage import Stock

LEAST_MWH = 0.0005  # a shortfall below it would be told as 0.000 MWh: what was measured is no truer


class Holdings:
    """Asked anew before each book: a result or a lost unit changes it."""

    def __init__(
        self,
        settings: MarketSettings,
        clock: Clock,
        site: Callable[[], Stock],
        kept: Mapping[Auction, Kept],
        trades: Mapping[Auction, Trade],
    ) -> None:
        """`kept` and `trades` are read each time; who owns them changes them."""
        self._settings, self._clock, self.site = settings, clock, site
        self._kept, self._trades = kept, trades
        self._terms = {"dam": terms_of(settings.dam_terms), "rtm": terms_of(settings.rtm_terms)}
        self._firm = settings.strategy != "conservative"

    def held(self, besides: Auction | None = None) -> Held:
        """Trades, and what tickets without a result may still bring."""
        answered = {auction for auction, trade in self._trades.items() if trade.cleared_mw}
        out = [
            (kept.ticket.book, self._terms[auction.product])
            for auction, kept in self._kept.items()
            if kept.may_clear and auction not in answered and auction != besides
        ]
        return Held(position_of(self._trades.values()), open_ranges(out, firm=self._firm))

    def setting(self, auction: Auction) -> tuple[Setting, Book]:
        """What a book of this auction has to fit, and in real time what it has to close."""
        stock, now, first = self.site(), self._clock.utc(), auction.blocks[0]
        held, terms = self.held(auction), self._terms[auction.product]
        blocks = blocks_through(first, max(auction.blocks[-1], held.last or first))
        setting = Setting(
            stock.storage,
            terms,
            state_at(first, now, (stock.low_mwh, stock.high_mwh), stock.storage, held),
            blocks,
            {block: held.traded_mw[block] for block in blocks if block in held.traded_mw},
            firm=self._firm,
            open_mw={block: held.open_mw[block] for block in blocks if block in held.open_mw},
        )
        if auction.product != "rtm":
            return setting, Book({})
        shorts = _shorts(now, stock, held, auction.blocks[-1])
        return setting, closing([each for each in shorts if each.block in auction.blocks], terms)

    def shortfalls(self) -> dict[Block, Short]:
        """What can neither be delivered nor be bought back any more, from now on; not what is less
        than `LEAST_MWH`."""
        held, now = self.held(), self._clock.utc()
        last = max(held.traded_mw, default=None)
        if last is None or last < block_at(now):
            return {}
        shorts = _shorts(now, self.site(), held, last)
        return {
            each.block: each
            for each in shorts
            if abs(each.short_mwh) >= LEAST_MWH and self._is_past_mending(each.block)
        }

    def _is_past_mending(self, block: Block) -> bool:
        """No session can correct this block any more, and none that tried has its result to come.
        What may have been bought back is no comfort once its result is late."""
        if "rtm" not in self._settings.products:
            return True
        session = Auction(block.day, (block.number + 1) // 2, "rtm")
        gate, now = gate_of(session, self._settings.gates), self._clock.utc()
        kept, trade = self._kept.get(session), self._trades.get(session)
        if kept is None:
            return (gate.closes_at - now).total_seconds() <= self._settings.gates.safety_s
        return not kept.may_clear or now >= gate.late_at or bool(trade and trade.cleared_mw)


def _shorts(now: datetime, stock: Stock, held: Held, last: Block) -> list[Short]:
    """What of the trades cannot be delivered from now through a block."""
    running = block_at(now)
    energy_mwh = 0.5 * (stock.low_mwh + stock.high_mwh)
    blocks, share = blocks_through(running, last), (running.end - now) / BLOCK
    return shorts_of(stock.storage, energy_mwh, blocks, held.traded_mw, share)
