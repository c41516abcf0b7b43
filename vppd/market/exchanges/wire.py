"""A member interface's words: books and auctions to JSON, its answers back to what we know. Pure.

The traps are here: MW go out times one number and come back over another, prices likewise; a
delivery date is the second of its midnight UTC, though the day is Indian; the area's volumes stand
beside our own. Whatever is not as expected raises `Garbled`: a guess would be a trade.
"""

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time
from typing import Any

from vppd.core.settings_exchange import WireSettings
from vppd.core.settings_market import ExchangeSettings, TermsSettings
from vppd.market.blocks import BLOCKS_A_DAY, Block
from vppd.market.book import Bid, Pair, Whole
from vppd.market.exchange import Auction, Status, Ticket

WHOLE = 1e-6
DIGITS = 6  # a sum of tenths is not quite the sum
Curves = dict[tuple[Block, str], tuple[tuple[float, float], ...]]


class Garbled(ValueError):  # noqa: N818 - a word of the line
    """An answer that cannot be understood; the text says what is wrong with it."""


def epoch_of(day: date) -> int:
    """A delivery date: seconds since 1970 at its midnight UTC, not at the Indian one."""
    return int(datetime.combine(day, time(), UTC).timestamp())


def hhmm(minutes: int) -> str:
    """A time of the day; the last block ends at 24:00."""
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def period_of(block: Block) -> tuple[str, str]:
    """When a block begins and ends, IST."""
    return hhmm((block.number - 1) * 15), hhmm(block.number * 15)


PERIODS = {
    period_of(Block(date(2000, 1, 1), number)): number for number in range(1, BLOCKS_A_DAY + 1)
}
STARTS = {since: number for (since, _), number in PERIODS.items()}
ENDS = {until: number for (_, until), number in PERIODS.items()}


class Wire:
    """The words of one exchange with the scales it counts in."""

    def __init__(self, exchange: ExchangeSettings, words: WireSettings) -> None:
        self._exchange, self._words = exchange, words

    # out
    def path(self, path: str, auction: Auction | None = None, **more: object) -> str:
        """A path with its words filled in."""
        exchange = self._exchange
        known = {
            "user": exchange.user,
            "participant": exchange.participant,
            "area": exchange.area,
            "portfolio": exchange.portfolio,
            **more,
        }
        if auction is not None:
            known |= {"product": auction.product, "epoch": epoch_of(auction.day)}
        return path.format_map(known)

    def bid_out(self, ticket: Ticket) -> dict[str, Any]:
        """A submission. Raises Garbled for a price or a quantity that is no whole number there."""
        words, exchange, auction = self._words, self._exchange, ticket.auction
        wholes = [self._whole_out(each) for each in ticket.book.wholes]
        return {
            words.ticket: ticket.id,
            words.user: exchange.user,
            words.participant: exchange.participant,
            words.portfolio: exchange.portfolio,
            words.area: exchange.area,
            words.date: epoch_of(auction.day),
            words.session: auction.session,
            words.orders: [row for block, bid in ticket.book for row in self._rows(block, bid)],
            **({words.whole_orders: wholes} if wholes else {}),
        }

    def _whole_out(self, whole: Whole) -> dict[str, Any]:
        words = self._words
        return {
            words.since: period_of(whole.first)[0],
            words.until: period_of(whole.blocks[-1])[1],
            words.side: words.sell if whole.power_mw > 0.0 else words.buy,
            **self._step(Pair(whole.price_rs_per_mwh, abs(whole.power_mw))),
        }

    def _rows(self, block: Block, bid: Bid) -> Iterable[dict[str, Any]]:
        words = self._words
        since, until = period_of(block)
        for side, pairs in ((words.sell, bid.sells), (words.buy, bid.buys)):
            if pairs:
                steps = [self._step(pair) for pair in pairs]
                yield {
                    words.since: since,
                    words.until: until,
                    words.side: side,
                    words.steps: steps,
                }

    def _step(self, pair: Pair) -> dict[str, int]:
        return {
            self._words.price: _whole(pair.price_rs_per_mwh, self._exchange.price_out_factor),
            self._words.quantity: _whole(pair.power_mw, self._exchange.quantity_out_factor),
        }

    # back
    def check_scales(self, said: object) -> None:
        """Compare the scales the exchange counts in with those configured. Raises Garbled."""
        words, exchange = self._words, self._exchange
        rows = said if isinstance(said, list) else [said]
        for row in rows:
            for name, factor in (
                (words.quantity_scale, exchange.quantity_out_factor),
                (words.price_scale, exchange.price_out_factor),
            ):
                if number(row, name) != factor:
                    raise Garbled(
                        f"{name} is {number(row, name):g} there and {factor:g} configured"
                    )

    def status_in(self, said: object, ticket: Ticket) -> Status:
        """What is held of a ticket. Raises Garbled."""
        words = self._words
        mine = [row for row in rows_in(said, words.bids) if text(row, words.ticket) == ticket.id]
        struck = [row for row in mine if text(row, words.standing) == words.rejected]
        if not mine:
            return Status("unknown")
        held = [row for row in mine if row not in struck]
        if not held:
            return Status("refused", text(struck[0], words.reason))
        if len(held) > 1:
            return Status("accepted", f"held {len(held)} times", as_sent=False)
        sent, there = _curves_out(ticket, words), self._curves_in(held[0], ticket.auction)
        wholes = self._wholes_in(held[0], ticket.auction)
        if sorted(wholes) != sorted(_rounded(each) for each in ticket.book.wholes):
            said = f"holds {len(wholes)} block bids, not the {len(ticket.book.wholes)} sent"
            return Status("accepted", said, as_sent=False)
        if sent != there:
            same = sum(there.get(key) == curve for key, curve in sent.items())
            said = f"holds {same} of {len(sent)} curves as they were sent"
            return Status("accepted", said, as_sent=False)
        return Status("accepted")

    def _curves_in(self, row: Mapping[str, Any], auction: Auction) -> Curves:
        words = self._words
        self._check_date(row, auction)
        return {
            (self._block(each, auction.day), text(each, words.side)): tuple(
                (
                    round(number(step, words.price) / self._exchange.price_in_factor, DIGITS),
                    round(number(step, words.quantity) / self._exchange.quantity_in_factor, DIGITS),
                )
                for step in rows_in(each, words.steps)
            )
            for each in rows_in(row, words.orders)
        }

    def _wholes_in(self, row: Mapping[str, Any], auction: Auction) -> list[Whole]:
        """Block bids as held; an exchange that shows none has none. Raises Garbled."""
        words, exchange, found = self._words, self._exchange, []
        for each in rows_in(row, words.whole_orders) if words.whole_orders in row else ():
            sign = {words.sell: 1.0, words.buy: -1.0}.get(text(each, words.side))
            span = STARTS.get(text(each, words.since)), ENDS.get(text(each, words.until))
            if sign is None or span[0] is None or span[1] is None or span[1] < span[0]:
                raise Garbled(f"no block bid is {each}")
            price = number(each, words.price) / exchange.price_in_factor
            power_mw = sign * number(each, words.quantity) / exchange.quantity_in_factor
            first = Block(auction.day, span[0])
            found.append(_rounded(Whole(first, span[1] - span[0] + 1, price, power_mw)))
        return found

    def published_in(self, said: object, auction: Auction) -> str:
        """final, provisional, retracted, or nothing while not out. Raises Garbled."""
        words = self._words
        for row in self._rows_of(said, words.publish, auction):
            kind = text(row, words.result_type)
            if not kind:
                return ""
            if text(row, words.publish_state) == words.withdrawn:
                return "retracted"
            if kind not in (words.final, words.provisional):
                raise Garbled(f"{words.result_type} is {kind!r}")
            return "final" if kind == words.final else "provisional"
        return ""

    def results_in(
        self, said: object, auction: Auction, terms: TermsSettings
    ) -> tuple[dict[Block, float], dict[Block, float]]:
        """Our own power, MW, positive sold, and the price of every block said. Raises Garbled."""
        words = self._words
        got_mw: dict[Block, float] = {}
        prices: dict[Block, float] = {}
        for row in self._rows_of(said, words.report, auction):
            block = self._block(row, auction.day)
            if block not in auction.blocks or block in got_mw:
                raise Garbled(f"{block} stands there where it should not, or twice")
            details = rows_in(row, words.details)
            whose = [text(each, words.portfolio) for each in details]
            if whose and self._exchange.portfolio not in whose:
                raise Garbled(f"{block} is of {whose[0]}, not of {self._exchange.portfolio}")
            got_mw[block] = sum(
                self._own_mw(each)
                for each, who in zip(details, whose, strict=True)
                if who == self._exchange.portfolio
            )
            prices[block] = self._price(row, words.area_price, terms)
        return got_mw, prices

    def _own_mw(self, row: Mapping[str, Any]) -> float:
        words = self._words
        signs = {words.sell: 1.0, words.buy: -1.0}
        side = text(row, words.side)
        quantity_mw = number(row, words.quantity) / self._exchange.quantity_in_factor
        if side not in signs or quantity_mw < 0.0:
            raise Garbled(f"{words.side} {side!r} with {words.quantity} {quantity_mw:g} MW")
        return signs[side] * quantity_mw

    def prices_in(self, said: object, auction: Auction, terms: TermsSettings) -> dict[Block, float]:
        """Cleared prices of our area, Rs/MWh. Raises Garbled."""
        words = self._words
        return {
            self._block(row, auction.day): self._price(row, words.price, terms)
            for row in self._rows_of(said, words.prices, auction)
            if text(row, words.area) == self._exchange.area
        }

    def _rows_of(self, said: object, name: str, auction: Auction) -> list[Mapping[str, Any]]:
        """Rows of this auction's session; every one must be of its day."""
        session = self._words.session
        rows = [row for row in rows_in(said, name) if number(row, session) == auction.session]
        for row in rows:
            self._check_date(row, auction)
        return rows

    def _check_date(self, row: Mapping[str, Any], auction: Auction) -> None:
        found = number(row, self._words.date)
        if found != epoch_of(auction.day):
            raise Garbled(
                f"{self._words.date} is {found:.0f}; {auction.day} is {epoch_of(auction.day)}"
            )

    def _block(self, row: Mapping[str, Any], day: date) -> Block:
        period = text(row, self._words.since), text(row, self._words.until)
        if period not in PERIODS:
            raise Garbled(f"no block is from {period[0]!r} to {period[1]!r}")
        return Block(day, PERIODS[period])

    def _price(self, row: Mapping[str, Any], name: str, terms: TermsSettings) -> float:
        """A price outside of what the product allows is a wrong scale, not a price."""
        price = number(row, name) / self._exchange.price_in_factor
        if not terms.floor_rs_per_mwh <= price <= terms.cap_rs_per_mwh:
            raise Garbled(
                f"{name} {price:g} Rs/MWh is outside {terms.floor_rs_per_mwh:g} to "
                f"{terms.cap_rs_per_mwh:g}"
            )
        return price


def _curves_out(ticket: Ticket, words: WireSettings) -> Curves:
    return {
        (block, side): tuple(
            (round(pair.price_rs_per_mwh, DIGITS), round(pair.power_mw, DIGITS)) for pair in pairs
        )
        for block, bid in ticket.book
        for side, pairs in ((words.sell, bid.sells), (words.buy, bid.buys))
        if pairs
    }


def _rounded(whole: Whole) -> Whole:
    price, power_mw = round(whole.price_rs_per_mwh, DIGITS), round(whole.power_mw, DIGITS)
    return Whole(whole.first, whole.count, price, power_mw)


def _whole(value: float, factor: float) -> int:
    scaled = value * factor
    if not math.isfinite(scaled) or abs(scaled - round(scaled)) > WHOLE:
        raise Garbled(f"{value:g} times {factor:g} is no whole number")
    return round(scaled)


def rows_in(said: object, name: str) -> list[Mapping[str, Any]]:
    """A list of objects under a name. Raises Garbled."""
    rows = said.get(name) if isinstance(said, Mapping) else None
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise Garbled(f"no list {name!r} in the answer")
    return rows


def text(row: object, name: str) -> str:
    """A word under a name. Raises Garbled."""
    value = row.get(name) if isinstance(row, Mapping) else None
    if not isinstance(value, str):
        raise Garbled(f"{name} is {value!r}, no text")
    return value


def number(row: object, name: str) -> float:
    """A finite number under a name. Raises Garbled."""
    value = row.get(name) if isinstance(row, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Garbled(f"{name} is {value!r}, no number")
    return float(value)
