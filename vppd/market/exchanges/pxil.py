"""PXIL: what was traded and at which prices, read from its reports. Bids cannot be handed in.

No interface for orders of its day-ahead and real-time markets is publicly known; a trader's portal
takes a sheet instead (kind: sheet). Paths and names of the reports are notes of others and were
never tried; dates are DD-MM-YYYY, rows come bare or under "data" or "result".
"""

import math
import ssl
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from vppd.core.ports import Clock
from vppd.core.settings_market import MarketSettings
from vppd.market.blocks import Block
from vppd.market.exchange import (
    Auction,
    NotUnderstood,
    Refused,
    Result,
    Status,
    Ticket,
    Unsure,
)
from vppd.market.exchanges.asking import Asking, Pace
from vppd.market.exchanges.wire import Garbled, number, text

NO_ORDERS = "PXIL: no interface for orders is known; use kind: sheet for its bids"
TRADES_PATH = "PXILPublish/api/member-dor?fromDate={day}&toDate={day}&segment={product}"
PRICES_PATH = "PXILPublish/api/market-result?fromDate={day}&toDate={day}&segment={product}"
DATE = "%d-%m-%Y"
ENVELOPES = ("data", "result")


class PxilExchange:
    """See the module. Raises ValueError for settings that cannot work."""

    def __init__(
        self,
        market: MarketSettings,
        clock: Clock,
        *,
        socket: Path | None = None,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        self.name: str = "pxil"
        self.verified = False
        self.malformed: tuple[str, ...] = ()
        self._market, settings = market, market.exchange
        headers = {}
        if settings.token is not None:
            headers["Authorization"] = f"Bearer {settings.token}"
        pace = Pace(clock, settings.requests_per_s)
        self._asking = Asking(
            settings.url, headers, pace, settings.timeout_s, socket=socket, trust=trust
        )

    async def submit(self, ticket: Ticket) -> None:
        """Always Refused."""
        raise Refused(f"{ticket.id}: {NO_ORDERS}")

    async def status(self, ticket: Ticket) -> Status:
        """Nothing was ever handed in."""
        return Status("refused", f"{ticket.id}: {NO_ORDERS}")

    async def results(self, auction: Auction) -> Result | None:
        """What the member's obligation report says of this auction; its rows count as final."""
        rows = await self._rows(TRADES_PATH, auction)
        if not rows:
            return None
        return Result(
            auction,
            {block: self._got_mw(row) for block, row in rows.items()},
            {block: self._price(auction, row) for block, row in rows.items()},
            "final",
        )

    async def prices(self, auction: Auction) -> Mapping[Block, float]:
        """Cleared prices, Rs/MWh; empty while nothing is published."""
        rows = await self._rows(PRICES_PATH, auction)
        return {block: self._price(auction, row) for block, row in rows.items()}

    async def portfolio(self, day: date) -> Mapping[Block, float]:
        """All that is traded for a day over its auctions, MW, positive sold."""
        total_mw: dict[Block, float] = {}
        for product in self._market.products:
            whole_day = Auction(day, 0, product)
            said = await self._said(TRADES_PATH, whole_day)
            for block, row in _by_block(said, day).items():
                total_mw[block] = total_mw.get(block, 0.0) + self._got_mw(row)
        return total_mw

    async def _rows(self, path: str, auction: Auction) -> dict[Block, Mapping[str, Any]]:
        found = _by_block(await self._said(path, auction), auction.day)
        return {block: row for block, row in found.items() if block in auction.blocks}

    async def _said(self, path: str, auction: Auction) -> object:
        filled = path.format(day=auction.day.strftime(DATE), product=auction.product)
        try:
            return await self._asking.get(filled)
        except Refused as error:
            raise Unsure(f"nothing shown: {error}") from None

    def _got_mw(self, row: Mapping[str, Any]) -> float:
        return _number(row, "SellQty") - _number(row, "BuyQty")

    def _price(self, auction: Auction, row: Mapping[str, Any]) -> float:
        terms = self._market.dam_terms if auction.product == "dam" else self._market.rtm_terms
        price = _number(row, "MCP")
        if not terms.floor_rs_per_mwh <= price <= terms.cap_rs_per_mwh:
            raise NotUnderstood(f"not understood: MCP {price:g} Rs/MWh is outside what is allowed")
        return price


def _by_block(said: object, day: date) -> dict[Block, Mapping[str, Any]]:
    """Rows by their block. Raises Unsure for another day's, or one given twice."""
    found: dict[Block, Mapping[str, Any]] = {}
    for row in _unwrapped(said):
        try:
            block = Block(day, int(_number(row, "Period")))
            if text(row, "DeliveryDate") != day.strftime(DATE) or block in found:
                raise Garbled(f"{block} of {row.get('DeliveryDate')} is not expected")
        except ValueError as error:
            raise NotUnderstood(f"not understood: {error}") from None
        found[block] = row
    return found


def _unwrapped(said: object) -> list[Mapping[str, Any]]:
    for name in ENVELOPES:
        if isinstance(said, Mapping) and name in said:
            said = said[name]
    if not isinstance(said, list) or not all(isinstance(row, Mapping) for row in said):
        raise NotUnderstood("not understood: no list of rows")
    return said


def _number(row: Mapping[str, Any], name: str) -> float:
    try:
        return number(row, name)
    except Garbled as error:
        value = row.get(name)
        try:
            found = float(value) if isinstance(value, str) else math.nan
        except ValueError:
            found = math.nan
        if not math.isfinite(found):
            raise NotUnderstood(f"not understood: {error}") from None
        return found
