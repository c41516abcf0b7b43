"""Books that an operator gives for auctions to come: they go the way of every other book, through
the same limits and the same submission, in place of what the maker would have made.

A book is kept in the journal until its auction is over, so that a restart does not forget it.
"""

import json
from collections.abc import Mapping
from datetime import date
from typing import Any

from vppd.core.alarms import Code, Level
from vppd.core.model import SITE
from vppd.core.ports import Clock, Journal
from vppd.core.records import EventRow, KeptRow
from vppd.market.blocks import Block
from vppd.market.book import Bid, Book, Pair
from vppd.market.dealing.making import Made, Maker, Wanted
from vppd.market.dealing.tickets import plain_wholes, wholes_of
from vppd.market.exchange import Auction, Product

PREFIX = "own book/"
SLOTS = 8  # names come round again, by day


class OwnBooks:
    """A maker that looks for an operator's book first."""

    def __init__(self, maker: Maker, journal: Journal, clock: Clock) -> None:
        self._maker, self._journal, self._clock = maker, journal, clock
        self._books: dict[Auction, tuple[Book, str]] | None = None  # None: not read yet

    async def give(self, auction: Auction, book: Book, by: str) -> bool:
        """Keep a book for an auction, in place of an older one; an empty book withdraws it. True
        when it is on disk. Raises OSError when older ones cannot be read."""
        books = await self._read()
        if not book.empty:
            books[auction] = book, by
        else:
            books.pop(auction, None)
        row = KeptRow(self._clock.utc(), _name(auction), json.dumps(_plain(auction, book, by)))
        return await self._journal.commit(row)

    async def book_for(self, wanted: Wanted, within_s: float) -> Made:
        """The operator's book, else the maker's. Raises NotMade."""
        try:
            books = await self._read()
        except OSError:
            books = {}
        if (own := books.get(wanted.auction)) is not None:
            book, by = own
            return Made(book, "fresh", f"a book given by {by}")
        return await self._maker.book_for(wanted, within_s)

    async def given(self) -> Mapping[Auction, str]:
        """Auctions to come that have one, and by whom. Raises OSError."""
        now = self._clock.utc()
        books = await self._read()
        return {each: by for each, (_, by) in books.items() if each.blocks[-1].end > now}

    async def _read(self) -> dict[Auction, tuple[Book, str]]:
        if self._books is None:
            sql = "SELECT value_json FROM kept WHERE name LIKE ?"
            rows = await self._journal.select(sql, (f"{PREFIX}%",))
            found = [given for (text,) in rows if (given := self._given(str(text))) is not None]
            self._books = {auction: (book, by) for auction, book, by in found if not book.empty}
        return self._books

    def _given(self, text: str) -> tuple[Auction, Book, str] | None:
        """One of them; what cannot be read is told and does not count."""
        try:
            return _given(json.loads(text))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            said = f"a book given by an operator cannot be read: {type(error).__name__}: {error}"
            row = (self._clock.utc(), Code.MARKET_FORECAST, SITE, Level.WARNING, said)
            self._journal.append(EventRow(*row))
            return None


def _name(auction: Auction) -> str:
    return f"{PREFIX}{auction.day.toordinal() % SLOTS}-{auction.product}-{auction.session:02}"


def _plain(auction: Auction, book: Book, by: str) -> dict[str, Any]:
    return {
        "product": auction.product,
        "day": auction.day.isoformat(),
        "session": auction.session,
        "by": by,
        "book": {
            block.number: [[[p.price_rs_per_mwh, p.power_mw] for p in side] for side in sides]
            for block, bid in book
            for sides in [(bid.sells, bid.buys)]
        },
        "wholes": plain_wholes(book),
    }


def _given(plain: Mapping[str, Any]) -> tuple[Auction, Book, str]:
    day = date.fromisoformat(plain["day"])
    product: Product = plain["product"]
    auction = Auction(day, int(plain["session"]), product)
    bids = {
        Block(day, int(number)): Bid(*(tuple(Pair(*pair) for pair in side) for side in sides))
        for number, sides in plain["book"].items()
    }
    return auction, Book(bids, wholes_of(day, plain.get("wholes", ()))), plain["by"]
