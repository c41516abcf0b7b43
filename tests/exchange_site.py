"""A simulated exchange over real loopback HTTP and the side that talks to it, with wall time in the
test's hand."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from vppd.core.settings_market import ExchangeSettings, GateSettings, MarketSettings
from vppd.market.blocks import Block
from vppd.market.book import Bid, Book, Pair
from vppd.market.exchange import Auction, Product, Ticket
from vppd.market.exchanges import MemberExchange, exchange_of
from vppd.market.gates import gate_of
from vppd.sim.exchange import SimulatedExchange

DAY = date(2026, 1, 6)
TOKEN = "very-secret-token"  # noqa: S105
PORTFOLIO = "S1-VPPD"
FAST_PER_S = 1e6
DAM = Auction(DAY, 0, "dam")
SURE_SALE = Bid(sells=(Pair(0.0, 1.0),))
SURE_BUY = Bid(buys=(Pair(10_000.0, 2.0),))


class HandClock:
    """Monotonic time of the loop; wall time as the test sets it."""

    def __init__(self, utc: datetime) -> None:
        self.wall = utc

    def now_s(self) -> float:
        return asyncio.get_running_loop().time()

    def utc(self) -> datetime:
        return self.wall

    async def sleep_until(self, deadline_s: float) -> None:
        while self.now_s() < deadline_s:
            await asyncio.sleep(deadline_s - self.now_s())


@dataclass
class Site:
    """Both ends of the wire."""

    clock: HandClock
    server: SimulatedExchange
    side: MemberExchange
    settings: MarketSettings

    def other_side(self, **changes: Any) -> MemberExchange:
        """Another client with other settings."""
        exchange = replace(self.settings.exchange, **changes)
        made = exchange_of(replace(self.settings, exchange=exchange), self.clock)
        assert isinstance(made, MemberExchange)
        return made

    def open(self, auction: Auction) -> None:
        """A minute after the gate opened."""
        self.clock.wall = gate_of(auction, GateSettings()).opens_at + timedelta(minutes=1)

    def close(self, auction: Auction, minutes: float = 1.0) -> None:
        """So long after the gate closed."""
        closes_at = gate_of(auction, GateSettings()).closes_at
        self.clock.wall = closes_at + timedelta(minutes=minutes)


def market(url: str | None, **changes: Any) -> MarketSettings:
    """Settings of a member at this address."""
    settings = {
        "kind": "iex",
        "user": "U1",
        "participant": "P1",
        "token": TOKEN,
        "requests_per_s": 100.0,
        "timeout_s": 5.0,
        "url": url,
        **changes,
    }
    return MarketSettings(exchange=ExchangeSettings(**settings))


@asynccontextmanager
async def exchange_site(
    *, rate_per_s: float = FAST_PER_S, changes: Mapping[str, Any] | None = None, **server: Any
) -> AsyncIterator[Site]:
    """Open at the day-ahead gate of DAY."""
    clock = HandClock(datetime(2026, 1, 5, tzinfo=UTC))
    options = {"token": TOKEN, "users": {"U1": "P1"}, "seed": 5, **server}
    async with SimulatedExchange(clock, rate_per_s=rate_per_s, **options) as served:
        settings = market(served.url, **(changes or {}))
        side = exchange_of(settings, clock)
        assert isinstance(side, MemberExchange)
        site = Site(clock, served, side, settings)
        site.open(DAM)
        yield site


def ticket(
    name: str = "t1", bids: Mapping[int, Bid] | None = None, auction: Auction = DAM
) -> Ticket:
    """A submission: by default one sure sale and one sure purchase."""
    first = auction.blocks[0].number
    chosen = bids if bids is not None else {first: SURE_SALE, first + 1: SURE_BUY}
    book = Book({Block(auction.day, number): bid for number, bid in chosen.items()})
    return Ticket(name, auction, book, gate_of(auction, GateSettings()).closes_at)


def rtm(session: int, day: date = DAY) -> Auction:
    """A real-time auction."""
    product: Product = "rtm"
    return Auction(day, session, product)
