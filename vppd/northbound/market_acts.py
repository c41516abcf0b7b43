"""What an operator may do in the market: stop, resume, and give a book of his own for an auction to
come, which goes through the same limits and the same submission as every other."""

from datetime import UTC, date, datetime
from itertools import pairwise

from vppd.core.records_market import MarketPriceRow
from vppd.core.settings_market import TermsSettings
from vppd.market.blocks import Block, block_at
from vppd.market.book import Bid, Book, Pair, Whole
from vppd.market.exchange import Auction
from vppd.market.gates import SESSIONS_A_DAY, gate_of
from vppd.market.prices import MOST_RS_PER_MWH
from vppd.northbound.ask import Answer, Ask
from vppd.northbound.market_views import needed, state, unreadable
from vppd.northbound.problems import Problem

COMMANDS = ("stop", "resume")
PAIR, TRIPLE, FOUR = 2, 3, 4
SIDES = ("sells", "buys")

_Rows = tuple[tuple[float, ...], ...]


async def control(ask: Ask) -> Answer:
    """stop: nothing more is sent, after a restart too; what was traded is still delivered.
    resume: from the next gate on."""
    trading, body = needed(ask.site), ask.body
    command = body.choice("command", COMMANDS)
    text = body.text("text", "")
    body.done()
    if command == "stop":
        why = f"by {ask.user}" + (f": {text}" if text else "")
        kept = await trading.desk.stop(why)
    else:
        kept = await trading.desk.resume()
    return Answer({"command": command, "journaled_state": kept, **state(ask.site)})


async def bid(ask: Ask) -> Answer:
    """Keep a book for an auction: `sells` and `buys` are lists of [block, price in Rs/MWh, power in
    MW], power cumulated along each curve; `wholes` of [first block, how many, price, power], all or
    none at the mean price, power negative to buy. No bids at all withdraw it. Raises Problem 409,
    422."""
    trading, body = needed(ask.site), ask.body
    auction = _auction(ask)
    curves = {side: body.rows(side, TRIPLE) if body.has(side) else () for side in SIDES}
    whole_rows = body.rows("wholes", FOUR) if body.has("wholes") else ()
    body.done()
    terms = ask.site.settings.market.rtm_terms
    if auction.product == "dam":
        terms = ask.site.settings.market.dam_terms
    wholes = _wholes(auction, whole_rows, terms)
    book = Book(_book(auction, curves["sells"], curves["buys"]).bids, wholes)
    gate = gate_of(auction, ask.site.settings.market.gates)
    now = ask.site.clock.utc()
    if now >= gate.opens_at:
        said = f"the gate of {auction} opened at {gate.opens_at:%H:%M}Z: its book is made already"
        raise Problem(409, "gate-open", said, opens_at=gate.opens_at)
    try:
        kept = await trading.own.give(auction, book, ask.user)
    except OSError as error:
        raise unreadable(error) from None
    if not kept:
        raise Problem(
            503, "journal-unwritable", "the book could not be written down: give it again"
        )
    note = "goes through risk limits and feasibility when the gate opens: see vppctl market why"
    times = {"opens_at": gate.opens_at, "closes_at": gate.closes_at}
    return Answer(
        {
            "auction": str(auction),
            "blocks": len(book.bids),
            "wholes": len(wholes),
            **times,
            "note": note,
        },
        202,
    )


async def seed(ask: Ask) -> Answer:
    """Take cleared prices from elsewhere: `prices` is a list of [block's start in seconds since
    1970 UTC, Rs/MWh]. Raises Problem 422, 503."""
    body, journal = ask.body, ask.site.journal
    product = body.choice("product", ("dam", "rtm"))
    area, source = body.text("area"), body.text("source")
    prices = body.rows("prices", PAIR)
    body.done()
    at = ask.site.clock.utc()
    rows = [
        MarketPriceRow(at, _block(begins_s).start, product, area, "imported", price, source)
        for begins_s, price in prices
    ]
    if not rows:
        raise Problem(422, "unusable-value", "prices must not be empty", field="prices")
    for begins_s, price in prices:
        if abs(price) > MOST_RS_PER_MWH:
            said = f"prices: {price:g} of {begins_s:.0f} is no price in Rs/MWh"
            raise Problem(422, "unusable-value", said, field="prices")
    for row in rows[:-1]:
        journal.append(row)
    if not await journal.commit(rows[-1]):
        raise Problem(503, "journal-unwritable", "the prices are not on disk: give them again")
    return Answer({"prices": len(rows), "product": product, "area": area})


def _block(begins_s: float) -> Block:  # at this time exactly
    try:
        at = datetime.fromtimestamp(begins_s, UTC)
        block = block_at(at)
    except (ValueError, OverflowError, OSError):
        block, at = None, None
    if block is None or block.start != at:
        said = f"prices: {begins_s:g} is not the start of a block"
        raise Problem(422, "unusable-value", said, field="prices")
    return block


def _auction(ask: Ask) -> Auction:
    body, products = ask.body, ask.site.settings.market.products
    product = body.choice("product", products)
    text = body.text("day")
    try:
        day = date.fromisoformat(text)
    except ValueError:
        said = f"day must be like 2026-11-23, is {text[:32]}"
        raise Problem(422, "unusable-value", said, field="day") from None
    if product == "dam":
        return Auction(day, 0, "dam")
    return Auction(day, round(body.number("session", low=1, high=SESSIONS_A_DAY)), "rtm")


def _book(auction: Auction, sells: _Rows, buys: _Rows) -> Book:
    """Curves by block, each in its order. Raises Problem 422 for what is no curve."""
    inside = {block.number: block for block in auction.blocks}
    curves: dict[Block, dict[str, list[Pair]]] = {}
    for side, rows in (("sells", sells), ("buys", buys)):
        for number, price, power_mw in rows:
            block = inside.get(round(number)) if number == round(number) else None
            if block is None:
                said = f"{side}: {auction} has no block {number:g}"
                raise Problem(422, "unusable-value", said, field=side)
            if price < 0.0 or power_mw <= 0.0:
                said = f"{side}: a price is at least 0 and a power above 0"
                raise Problem(422, "unusable-value", said, field=side)
            pair = Pair(price, power_mw)
            curves.setdefault(block, {"sells": [], "buys": []})[side].append(pair)
    return Book({block: _bid(each["sells"], each["buys"], block) for block, each in curves.items()})


def _wholes(auction: Auction, rows: _Rows, terms: TermsSettings) -> tuple[Whole, ...]:
    """Bids for several blocks. Raises Problem 422 for what the product does not take."""
    made = []
    least, most = terms.block_bid_min_blocks, terms.block_bid_max_blocks
    first, last = auction.blocks[0].number, auction.blocks[-1].number
    for number, count, price, power_mw in rows:
        inside = first <= number and number + count - 1 <= last
        if number != round(number) or count != round(count) or not inside:
            said = f"wholes: {auction} has no {count:g} blocks from {number:g} on"
            raise Problem(422, "unusable-value", said, field="wholes")
        if not least <= count <= most or price < 0.0 or not power_mw:
            said = f"wholes: {least} to {most} blocks, a price of at least 0, and some power"
            raise Problem(422, "unusable-value", said, field="wholes")
        made.append(Whole(Block(auction.day, round(number)), round(count), price, power_mw))
    if len(made) > terms.block_bids:
        said = f"wholes: {auction.product} takes {terms.block_bids} of them in one book"
        raise Problem(422, "unusable-value", said, field="wholes")
    return tuple(sorted(made))


def _bid(sells: list[Pair], buys: list[Pair], block: Block) -> Bid:
    sold = tuple(sorted(sells))
    bought = tuple(sorted(buys, key=lambda pair: (-pair.price_rs_per_mwh, pair.power_mw)))
    for side, pairs in (("sells", sold), ("buys", bought)):
        powers = [pair.power_mw for pair in pairs]
        if any(later <= earlier for earlier, later in pairwise(powers)):
            said = f"{side} of {block}: power must rise along the curve, it is cumulated"
            raise Problem(422, "unusable-value", said, field=side)
    if sold and bought and bought[0].price_rs_per_mwh >= sold[0].price_rs_per_mwh:
        said = f"{block}: every buy must be below every sell"
        raise Problem(422, "unusable-value", said, field="buys")
    return Bid(sold, bought)
