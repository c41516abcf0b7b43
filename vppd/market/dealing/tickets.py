"""A ticket as the journal keeps it: whole, so that after a restart it can be asked for or sent.

Names of kept rows come round again after `SLOT_DAYS`, so that the journal does not grow by them; a
ticket is long done by then, and its bids and results stand in tables of their own. Pure.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

from vppd.core.records import KeptRow
from vppd.core.records_market import MarketBidRow
from vppd.market.blocks import Block
from vppd.market.book import Bid, Book, Pair, Whole
from vppd.market.exchange import Auction, Ticket

SLOT_DAYS = 8
PREFIX = "ticket/"
NAME = re.compile(PREFIX + r"(?P<slot>\d)-(?P<product>dam|rtm)-(?P<session>\d\d)")
SESSIONS = 48
DELIVERED = timedelta(days=4)  # a ticket is written from two days before delivery to after it

TicketState = Literal[
    "none", "planned", "sending", "accepted", "refused", "unsure", "missed", "dry_run"
]
AT_REST: frozenset[TicketState] = frozenset({"none", "accepted", "refused", "missed", "dry_run"})
MAY_CLEAR: frozenset[TicketState] = frozenset({"planned", "sending", "unsure", "accepted"})


@dataclass(frozen=True, slots=True)
class Story:
    """How a book came about: which rung of the ladder and why, what was foreseen (Rs/MWh), which
    limits bound, what was cut, and why nothing may be sent. `explained` is the maker's plain data
    of each block. `may_come`: what it lacked may come before the gate closes."""

    rung: str = "none"
    why: str = ""
    expected_rs: float = 0.0
    forecast_rs_per_mwh: Mapping[Block, float] = field(default_factory=dict)
    bound: tuple[str, ...] = ()
    vetoes: tuple[str, ...] = ()
    explained: Mapping[Block, Mapping[str, Any]] = field(default_factory=dict)
    may_come: bool = False


@dataclass(frozen=True, slots=True)
class Kept:
    """A ticket and what became of it. `none`: there was nothing to send; `dry_run`: the book was
    only kept; `unsure`: it may have arrived."""

    ticket: Ticket
    state: TicketState
    text: str = ""
    story: Story = Story()

    @property
    def auction(self) -> Auction:
        """Whose ticket it is; there is one for each."""
        return self.ticket.auction

    @property
    def at_rest(self) -> bool:
        """Nothing is to be done any more."""
        return self.state in AT_REST

    @property
    def may_clear(self) -> bool:
        """The exchange has it, or may have or get it."""
        return self.state in MAY_CLEAR


def ticket_id(auction: Auction) -> str:
    """The same after every restart, even of a lost journal."""
    return f"{auction.product}-{auction.day:%Y%m%d}-{auction.session:02}"


def kept_row(kept: Kept, at: datetime) -> KeptRow:
    """The row that holds it all."""
    auction = kept.auction
    slot = auction.day.toordinal() % SLOT_DAYS
    name = f"{PREFIX}{slot}-{auction.product}-{auction.session:02}"
    return KeptRow(at, name, json.dumps(_plain(kept), separators=(",", ":")))


def kept_of(value_json: str) -> Kept:
    """The reverse. Raises ValueError for what `kept_row` did not write."""
    try:
        return _kept(json.loads(value_json))
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def auction_named(name: str, at: datetime) -> Auction | None:
    """Whose ticket a row of this name is, by when it was written; None for no such name."""
    found = NAME.fullmatch(name)
    if found is None:
        return None
    slot, product, session = int(found["slot"]), found["product"], int(found["session"])
    first = (at - DELIVERED).date()
    day = first + timedelta(days=(slot - first.toordinal()) % SLOT_DAYS)
    if product == "dam":
        return Auction(day, 0, "dam") if session == 0 else None
    return Auction(day, session, "rtm") if 1 <= session <= SESSIONS else None


def _kept(plain: Mapping[str, Any]) -> Kept:
    day = date.fromisoformat(plain["day"])
    auction = Auction(day, int(plain["session"]), plain["product"])
    bids = {Block(day, int(number)): _bid(*curves) for number, curves in plain["book"].items()}
    wholes = wholes_of(day, plain.get("wholes", ()))
    closes_at = datetime.fromisoformat(plain["closes_at"]).astimezone(UTC)
    story = plain["story"]
    return Kept(
        Ticket(plain["id"], auction, Book(bids, wholes), closes_at),
        plain["state"],
        plain["text"],
        Story(
            story["rung"],
            story["why"],
            story["expected_rs"],
            {Block(day, int(number)): rs for number, rs in story["forecast"].items()},
            tuple(story["bound"]),
            tuple(story["vetoes"]),
            {Block(day, int(number)): said for number, said in story["explained"].items()},
        ),
    )


def bid_rows(kept: Kept, exchange: str, at: datetime) -> Iterator[MarketBidRow]:
    """Each price-quantity pair, its power cumulated as in the book, with what became of it."""
    states: Mapping[str, str] = {"sending": "sent", "dry_run": "planned"}
    for block, bid in kept.ticket.book:
        for side, pairs in (("sell", bid.sells), ("buy", bid.buys)):
            for pair in pairs:
                yield MarketBidRow(
                    at=at,
                    block_at=block.start,
                    exchange=exchange,
                    product=kept.auction.product,
                    session=str(kept.auction.session),
                    side=side,
                    kind="single",
                    price_rs_per_mwh=pair.price_rs_per_mwh,
                    power_mw=pair.power_mw,
                    book=kept.ticket.id,
                    state=states.get(kept.state, kept.state),
                    text=kept.text,
                )
    for number, whole in enumerate(kept.ticket.book.wholes, 1):
        for block in whole.blocks:
            yield MarketBidRow(
                at=at,
                block_at=block.start,
                exchange=exchange,
                product=kept.auction.product,
                session=str(kept.auction.session),
                side="sell" if whole.power_mw > 0.0 else "buy",
                kind=f"block {number}",
                price_rs_per_mwh=whole.price_rs_per_mwh,
                power_mw=abs(whole.power_mw),
                book=kept.ticket.id,
                state=states.get(kept.state, kept.state),
                text=f"{whole}" + (f": {kept.text}" if kept.text else ""),
            )


def plain_wholes(book: Book) -> list[tuple[int, int, float, float]]:
    """Whole bids of a book of one day as plain data."""
    return [(e.first.number, e.count, e.price_rs_per_mwh, e.power_mw) for e in book.wholes]


def wholes_of(day: date, rows: Iterable[Sequence[Any]]) -> tuple[Whole, ...]:
    """The reverse. Raises ValueError for a block that no day has."""
    return tuple(
        Whole(Block(day, int(number)), int(count), float(price), float(power_mw))
        for number, count, price, power_mw in rows
    )


def _plain(kept: Kept) -> dict[str, Any]:
    story = kept.story
    return {
        "id": kept.ticket.id,
        "product": kept.auction.product,
        "day": kept.auction.day.isoformat(),
        "session": kept.auction.session,
        "closes_at": kept.ticket.closes_at.isoformat(),
        "state": kept.state,
        "text": kept.text,
        "book": {
            block.number: [_plain_pairs(bid.sells), _plain_pairs(bid.buys)]
            for block, bid in kept.ticket.book
        },
        "wholes": plain_wholes(kept.ticket.book),
        "story": {
            "rung": story.rung,
            "why": story.why,
            "expected_rs": round(story.expected_rs, 2),
            "forecast": {
                block.number: round(rs, 2)
                for block, rs in story.forecast_rs_per_mwh.items()
                if block.day == kept.auction.day
            },
            "bound": story.bound,
            "vetoes": story.vetoes,
            "explained": {
                block.number: said
                for block, said in story.explained.items()
                if block.day == kept.auction.day
            },
        },
    }


def _plain_pairs(pairs: Sequence[Pair]) -> list[tuple[float, float]]:
    return [(pair.price_rs_per_mwh, pair.power_mw) for pair in pairs]


def _bid(sells: Sequence[tuple[float, float]], buys: Sequence[tuple[float, float]]) -> Bid:
    return Bid(tuple(Pair(*pair) for pair in sells), tuple(Pair(*pair) for pair in buys))
