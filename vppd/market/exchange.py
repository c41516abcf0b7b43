"""The port to an exchange: prices, submit, status, results, portfolio. Four sides speak it.

A `Ticket` is one submission: a book for one auction under an id that is made before it leaves.
Sending the same id twice must have the effect of sending it once; where an exchange cannot promise
that, the side asks for its status before it sends again. What happened to a request that was cut
off is not known: `Unsure`, never a guess.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal, Protocol

from vppd.market.blocks import Block, blocks_of
from vppd.market.book import Book

Product = Literal["dam", "rtm"]


@dataclass(frozen=True, slots=True, order=True)
class Auction:
    """One auction: the day-ahead of a delivery day, or a real-time session (1 to 48) of it.
    Session 0 is the whole day."""

    day: date
    session: int
    product: Product

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks that are delivered."""
        if self.product == "dam":
            return blocks_of(self.day)
        return Block(self.day, 2 * self.session - 1), Block(self.day, 2 * self.session)

    def __str__(self) -> str:
        return f"{self.product} {self.day}" + (f" session {self.session}" if self.session else "")


@dataclass(frozen=True, slots=True)
class Ticket:
    """One submission. `id` is stable over restarts; `closes_at` is the gate, UTC."""

    id: str
    auction: Auction
    book: Book
    closes_at: datetime


Standing = Literal["unknown", "accepted", "refused"]


@dataclass(frozen=True, slots=True)
class Status:
    """What the exchange holds of a ticket: `unknown` when it never arrived. `as_sent` False: it is
    held, but otherwise than in our book or more than once, and the text says how."""

    standing: Standing
    text: str = ""
    as_sent: bool = True


@dataclass(frozen=True, slots=True)
class Result:
    """What an auction cleared of ours, positive sold, and the price of every block. `state` is
    provisional, final or retracted; a block that is missing was not said."""

    auction: Auction
    cleared_mw: Mapping[Block, float]
    price_rs_per_mwh: Mapping[Block, float]
    state: Literal["provisional", "final", "retracted"]


class Refused(Exception):  # noqa: N818 - a word of the field
    """The exchange said no; sending it again would not help. The text is the exchange's."""


class Unsure(Exception):  # noqa: N818 - a word of the field
    """No answer, or none that can be understood: it may or may not have arrived."""


class NotUnderstood(Unsure):
    """There was an answer, and it cannot be: other questions may fare better."""


class Exchange(Protocol):
    """One exchange. Every call may raise Unsure; nothing retries by itself. `verified`: somebody
    tried this side against the exchange itself. `malformed`: what it was given and could not read,
    in words."""

    name: str
    verified: bool
    malformed: tuple[str, ...]

    async def submit(self, ticket: Ticket) -> None:
        """Hand in a book. Returns when the exchange has it; raises Refused."""

    async def status(self, ticket: Ticket) -> Status:
        """What the exchange holds of this ticket, compared with its book."""

    async def results(self, auction: Auction) -> Result | None:
        """What it cleared; None while nothing is published."""

    async def prices(self, auction: Auction) -> Mapping[Block, float]:
        """Cleared prices of the area, Rs/MWh; empty while nothing is published."""

    async def portfolio(self, day: date) -> Mapping[Block, float]:
        """All that is traded for a day over its auctions, MW, positive sold."""
