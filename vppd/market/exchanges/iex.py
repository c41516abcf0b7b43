"""The member interface of an exchange in the manner of IEX, and of vppd's own simulated one.

Nobody tried it against the exchange itself. An id that was sent before is looked for in the
exchange's bid book first, as nothing says that the exchange knows it again.
"""

import ssl
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from vppd.core.ports import Clock
from vppd.core.settings_exchange import WireSettings
from vppd.core.settings_market import MarketSettings, TermsSettings
from vppd.market.blocks import Block
from vppd.market.exchange import (
    Auction,
    NotUnderstood,
    Product,
    Refused,
    Result,
    Status,
    Ticket,
    Unsure,
)
from vppd.market.exchanges.asking import Asking, Pace
from vppd.market.exchanges.wire import Garbled, Wire
from vppd.market.gates import SESSIONS_A_DAY

P = ParamSpec("P")
T = TypeVar("T")


class MemberExchange:
    """See the module and market.exchange. Raises ValueError for settings that cannot work."""

    def __init__(
        self,
        market: MarketSettings,
        clock: Clock,
        words: WireSettings,
        *,
        socket: Path | None = None,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        settings = market.exchange
        self.name: str = settings.kind
        self.verified = False
        self.malformed: tuple[str, ...] = ()
        self._market, self._settings, self._clock, self._words = market, settings, clock, words
        self._wire = Wire(settings, words)
        self._compared: set[Product] = set()
        headers = {words.user: settings.user, words.participant: settings.participant}
        if settings.token is not None:
            headers["Authorization"] = f"Bearer {settings.token}"
        pace = Pace(clock, settings.requests_per_s)
        self._asking = Asking(
            settings.url, headers, pace, settings.timeout_s, socket=socket, trust=trust
        )

    async def submit(self, ticket: Ticket) -> None:
        """Hand in a book, unless the exchange already holds this ticket; Unsure when it holds it
        otherwise. Who may not even look (a token, an address) is Refused: nothing was sent."""
        try:
            body = self._wire.bid_out(ticket)
        except Garbled as error:
            raise Refused(f"not sent: {error}") from None
        await self._compare_scales(ticket.auction)
        held = await self._held(ticket)
        if held.standing == "accepted":
            if not held.as_sent:
                raise Unsure(held.text)
            return
        if held.standing == "refused":
            raise Refused(held.text)
        await self._asking.turn()
        if self._clock.utc() >= ticket.closes_at:
            raise Refused("not sent: the gate closed before its turn came")
        await self._asking.post(self._wire.path(self._settings.submit_path, ticket.auction), body)

    async def status(self, ticket: Ticket) -> Status:
        """What the exchange holds of this ticket. `accepted` with a text: held, but not as sent."""
        try:
            return await self._held(ticket)
        except Refused as error:
            raise Unsure(f"nothing shown: {error}") from None

    async def results(self, auction: Auction) -> Result | None:
        """What it cleared; None while nothing is published."""
        said = await self._read(self._words.publish_path, auction)
        state = _understood(self._wire.published_in, said, auction)
        if state == "retracted":
            return Result(auction, {}, {}, "retracted")
        if not state:
            return None
        said = await self._read(self._words.results_path, auction)
        got_mw, prices = _understood(self._wire.results_in, said, auction, self._terms(auction))
        return Result(auction, got_mw, prices, "final" if state == "final" else "provisional")

    async def prices(self, auction: Auction) -> Mapping[Block, float]:
        """Cleared prices of the area, Rs/MWh; empty while nothing is published."""
        said = await self._read(self._words.prices_path, auction)
        return _understood(self._wire.prices_in, said, auction, self._terms(auction))

    async def portfolio(self, day: date) -> Mapping[Block, float]:
        """All that is traded for a day over its auctions, MW, positive sold."""
        total_mw: dict[Block, float] = {}
        for product in self._market.products:
            numbers = range(1) if product == "dam" else range(1, SESSIONS_A_DAY + 1)
            said = await self._read(self._words.results_path, Auction(day, numbers[0], product))
            for number in numbers:
                auction = Auction(day, number, product)
                got_mw, _ = _understood(self._wire.results_in, said, auction, self._terms(auction))
                for block, power_mw in got_mw.items():
                    total_mw[block] = total_mw.get(block, 0.0) + power_mw
        return total_mw

    async def _held(self, ticket: Ticket) -> Status:
        said = await self._asking.get(self._wire.path(self._words.bids_path, ticket.auction))
        return _understood(self._wire.status_in, said, ticket)

    async def _compare_scales(self, auction: Auction) -> None:
        """Once for each product: a bid ten times too large is worse than none."""
        if auction.product in self._compared or not self._words.assets_path:
            return
        said = await self._asking.get(self._wire.path(self._words.assets_path, auction))
        try:
            self._wire.check_scales(said)
        except Garbled as error:
            raise Refused(f"not sent: {error}") from None
        self._compared.add(auction.product)

    async def _read(self, path: str, auction: Auction) -> Any:
        """A refusal to show something tells nothing about a bid: Unsure."""
        try:
            return await self._asking.get(self._wire.path(path, auction))
        except Refused as error:
            raise Unsure(f"nothing shown: {error}") from None

    def _terms(self, auction: Auction) -> TermsSettings:
        return self._market.dam_terms if auction.product == "dam" else self._market.rtm_terms


def _understood(read: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
    try:
        return read(*args, **more)
    except Garbled as error:
        raise NotUnderstood(f"not understood: {error}") from None
