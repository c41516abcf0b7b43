"""Whether the exchange's own book says what the ledger says: compared once a day and after a start.

Only what is settled is compared: a block of which a result is still to come is not. Where they
differ it is told, and the auctions concerned are asked for again: a result that was changed after
its delivery is found so.
"""

from collections.abc import Callable, Mapping
from datetime import date, timedelta

from vppd.core.alarms import Code
from vppd.core.ports import Clock
from vppd.market.blocks import Block, block_at, blocks_of
from vppd.market.dealing.positions import AGREE_MW, Trade, position_of
from vppd.market.dealing.submission import Tell
from vppd.market.dealing.tickets import Kept
from vppd.market.exchange import Auction, Exchange, Unsure

FIRST_S = 60.0  # after a start the results that are due are read first
AGAIN_S = 900.0  # after silence or a difference
AFTER_MIDNIGHT = timedelta(hours=1)  # by then the day before is settled
NEAR = (-1, 0, 1)  # days from today
SHOWN = 4


class Portfolio:
    """`run` compares."""

    def __init__(
        self,
        exchange: Exchange,
        clock: Clock,
        tell: Tell,
        kept: Mapping[Auction, Kept],
        trades: Mapping[Auction, Trade],
        ask_again: Callable[[Auction], None],
    ) -> None:
        """`ask_again` is called for each auction that may explain a difference."""
        self._exchange, self._clock, self._tell = exchange, clock, tell
        self._kept, self._trades, self._ask_again = kept, trades, ask_again

    async def run(self) -> None:
        """Until cancelled."""
        agreed: date | None = None
        await self._clock.sleep_until(self._clock.now_s() + FIRST_S)
        while True:
            today = block_at(self._clock.utc() - AFTER_MIDNIGHT).day
            if agreed != today and await self._agrees(today):
                agreed = today
            await self._clock.sleep_until(self._clock.now_s() + AGAIN_S)

    async def _agrees(self, today: date) -> bool:
        """Compare the days around today, and tell; False too when the exchange is silent."""
        found: list[str] = []
        try:
            for offset in NEAR:
                day = today + timedelta(days=offset)
                found += self._differences(day, await self._exchange.portfolio(day))
        except Unsure:
            return False
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        self._tell(Code.MARKET_PORTFOLIO, bool(found), "; ".join(found[:SHOWN]) + more)
        return not found

    def _differences(self, day: date, theirs_mw: Mapping[Block, float]) -> list[str]:
        """In words, block by block."""
        ours_mw = position_of(self._trades.values())
        found = []
        for block in blocks_of(day):
            auctions = Auction(day, 0, "dam"), Auction(day, (block.number + 1) // 2, "rtm")
            if not all(self._is_settled(auction) for auction in auctions):
                continue
            ours, theirs = ours_mw.get(block, 0.0), theirs_mw.get(block, 0.0)
            if not abs(ours - theirs) <= AGREE_MW:
                found.append(f"{block}: {ours:g} MW in the ledger, {theirs:g} MW there")
                for auction in auctions:
                    self._ask_again(auction)
        return found

    def _is_settled(self, auction: Auction) -> bool:
        """Nothing was sent, or what came of it is final."""
        kept, trade = self._kept.get(auction), self._trades.get(auction)
        return kept is None or not kept.may_clear or (trade is not None and trade.final)
