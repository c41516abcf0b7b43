"""A wished-for book made fit to be sent: on the exchange's grid of prices and quantities, and
feasible in every outcome after rounding. Pure.

Power is rounded toward zero (to nearest earns no more: a grid of 0.1 MW costs a battery of 2 MWh
about 1 % either way); but less sold leaves more stored, so a rounded book is checked again and
shrunk, one step at a time, until nothing breaks. What is shrunk is the far end of a curve, the
part least likely to be taken. The empty book is always left.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vppd.market.blocks import BLOCK_H, Block
from vppd.market.book import Bid, Book, Pair, Whole
from vppd.market.corridor import Breach, Range, State, breaches, ranges_of
from vppd.market.storage import Storage, Terms

EDGE = 1e-9  # what floats lose: 0.3 is 3 steps of 0.1
NEARLY_STEPS = 1e-3  # what a solver leaves: 0.9999 of a step is meant to be one


@dataclass(frozen=True, slots=True)
class Setting:
    """What a book has to fit: the storage, where it begins, over which blocks, and what is already
    held there (earlier sales net of purchases, MW). `firm`: see `corridor`. `open_mw` is what bids
    without a result yet may still add to a block."""

    storage: Storage
    terms: Terms
    start: State
    blocks: tuple[Block, ...]
    held_mw: Mapping[Block, float]
    firm: bool = True
    open_mw: Mapping[Block, Range] = field(default_factory=dict)

    def breaches(self, book: Book) -> list[Breach]:
        """Every limit that some clearing of this book would break."""
        own = ranges_of(book, self.blocks, self.terms, self.held_mw, firm=self.firm)
        others = [self.open_mw.get(block, (0.0, 0.0)) for block in self.blocks]
        ranges = [(a[0] + b[0], a[1] + b[1]) for a, b in zip(own, others, strict=True)]
        return breaches(self.storage, self.start, self.blocks, ranges)


@dataclass(frozen=True, slots=True)
class Fitted:
    """The book to send and what was cut from the wish to make it feasible."""

    book: Book
    cut: tuple[Breach, ...]


def fitted(wish: Book, setting: Setting) -> Fitted:
    """The largest book near the wish, by this order of shrinking, that no outcome can break.

    Limits that what is already held would break without any book are not this book's: they only
    may not become worse.
    """
    terms = setting.terms
    bids = {block: rounded(wish.bids.get(block, Bid()), terms) for block in setting.blocks}
    wholes = rounded_wholes(wish.wholes, setting)
    allowed = {(each.block, each.limit): each.value for each in setting.breaches(Book({}))}
    cut: list[Breach] = []
    while True:
        kept = {block: bid for block, bid in bids.items() if bid.sells or bid.buys}
        book = Book(kept, wholes)
        worst = next(
            (
                each
                for each in setting.breaches(book)
                if each.value > allowed.get((each.block, each.limit), 0.0) + EDGE
            ),
            None,
        )
        if worst is None:
            return Fitted(book, tuple(cut))
        cut.append(worst)
        if (left := _without(worst, wholes)) != wholes:
            wholes = left
            continue
        place = _culprit(worst, bids, setting.blocks)
        if place is None:
            return Fitted(Book({}), tuple(cut))
        excess = worst.value - allowed.get((worst.block, worst.limit), 0.0)
        bids[place] = _shrunk(bids[place], worst, excess, setting)


def rounded_wholes(wishes: Sequence[Whole], setting: Setting) -> tuple[Whole, ...]:
    """Whole bids on the grid and as the product takes them; what it does not take is left out."""
    terms, known, made = setting.terms, set(setting.blocks), []
    fewest, most = terms.whole_blocks
    for wish in wishes:
        sells = wish.power_mw > 0.0
        ticks, tick = wish.price_rs_per_mwh / terms.tick_rs_per_mwh, terms.tick_rs_per_mwh
        price = (math.ceil(ticks - EDGE) if sells else math.floor(ticks + EDGE)) * tick
        price = max(price, terms.floor_rs_per_mwh) if sells else min(price, terms.cap_rs_per_mwh)
        power_mw = floor_mw(abs(wish.power_mw), terms)
        fits = fewest <= wish.count <= most and set(wish.blocks) <= known
        priced = terms.floor_rs_per_mwh <= price <= terms.cap_rs_per_mwh
        if fits and priced and power_mw >= terms.min_mw - EDGE:
            made.append(Whole(wish.first, wish.count, price, power_mw if sells else -power_mw))
    return tuple(sorted(made)[: terms.whole_bids])


def _without(breach: Breach, wholes: tuple[Whole, ...]) -> tuple[Whole, ...]:
    """One whole bid less, the latest that has a part in a breach; they go before any curve is
    shrunk, for a part of one cannot be had."""
    buying = breach.limit in {"energy_high", "charge"}
    here = breach.limit in {"charge", "discharge"}
    for whole in reversed(wholes):
        part = breach.block in whole.blocks if here else whole.first <= breach.block
        day = breach.limit != "cycles" or breach.block.day in {each.day for each in whole.blocks}
        if (whole.power_mw < 0.0) == buying and part and day:
            return tuple(each for each in wholes if each is not whole)
    return wholes


def rounded(bid: Bid, terms: Terms) -> Bid:
    """On the grid: limits never worse than wished, power toward zero, no crossing, no more pairs
    than the exchange takes."""
    floor, cap = terms.floor_rs_per_mwh, terms.cap_rs_per_mwh
    tick = terms.tick_rs_per_mwh
    sells = _stairs(
        [
            Pair(max(math.ceil(pair.price_rs_per_mwh / tick - EDGE) * tick, floor), pair.power_mw)
            for pair in bid.sells
            if pair.price_rs_per_mwh <= cap
        ],
        terms,
    )
    buys = _stairs(
        [
            Pair(min(math.floor(pair.price_rs_per_mwh / tick + EDGE) * tick, cap), pair.power_mw)
            for pair in bid.buys
            if pair.price_rs_per_mwh >= floor
        ],
        terms,
    )
    if sells:
        below = sells[0].price_rs_per_mwh
        buys = tuple(pair for pair in buys if pair.price_rs_per_mwh < below)
    room = terms.max_pairs - min(len(sells), terms.max_pairs)
    return Bid(_thinned(sells, terms.max_pairs), _thinned(buys, room))


def _stairs(pairs: Sequence[Pair], terms: Terms) -> tuple[Pair, ...]:
    """Rounded powers that rise from pair to pair; what is less than the minimum is left out."""
    steps: list[Pair] = []
    for pair in pairs:
        power_mw = floor_mw(pair.power_mw, terms)
        if power_mw < terms.min_mw - EDGE or power_mw <= 0.0:
            continue
        if steps and power_mw <= steps[-1].power_mw:
            continue
        if steps and pair.price_rs_per_mwh == steps[-1].price_rs_per_mwh:
            steps.pop()
        steps.append(Pair(pair.price_rs_per_mwh, power_mw))
    return tuple(steps)


def _thinned(pairs: tuple[Pair, ...], most: int) -> tuple[Pair, ...]:
    """At most so many pairs: the last, whole quantity stays, steps between are left out evenly."""
    if len(pairs) <= most:
        return pairs
    if most <= 0:
        return ()
    kept = sorted({round((index + 1) * len(pairs) / most) - 1 for index in range(most)})
    return tuple(pairs[index] for index in kept)


def floor_mw(power_mw: float, terms: Terms) -> float:
    """Toward zero on the grid of quantities, MW, as the decimal that will be sent."""
    steps = math.floor(power_mw / terms.step_mw + NEARLY_STEPS)
    return round(steps * terms.step_mw, 6)


def _culprit(breach: Breach, bids: Mapping[Block, Bid], blocks: Sequence[Block]) -> Block | None:
    """Whose curve to shrink: the latest before the breach that can help."""
    index = blocks.index(breach.block)
    buying = breach.limit in {"energy_high", "charge"}
    if breach.limit in {"charge", "discharge"}:
        earlier: Sequence[Block] = (breach.block,)
    else:
        earlier = blocks[index::-1]
    for block in earlier:
        if breach.limit == "cycles" and block.day != breach.block.day:
            continue
        if bids[block].buys if buying else bids[block].sells:
            return block
    return None


def _shrunk(bid: Bid, breach: Breach, value: float, setting: Setting) -> Bid:
    """Less of one curve by what the breach needs, at least one step of quantity."""
    storage, terms = setting.storage, setting.terms
    need_mw = {
        "energy_high": value / (BLOCK_H * storage.charge_efficiency),
        "energy_low": value * storage.discharge_efficiency / BLOCK_H,
        "cycles": value / BLOCK_H,
    }.get(breach.limit, value)
    less_mw = max(math.ceil(need_mw / terms.step_mw - EDGE), 1) * terms.step_mw
    if breach.limit in {"energy_high", "charge"}:
        return Bid(bid.sells, _capped(bid.buys, bid.most_bought_mw - less_mw, terms))
    return Bid(_capped(bid.sells, bid.most_sold_mw - less_mw, terms), bid.buys)


def _capped(pairs: tuple[Pair, ...], most_mw: float, terms: Terms) -> tuple[Pair, ...]:
    most_mw = floor_mw(max(most_mw, 0.0), terms)
    return _stairs(
        [Pair(pair.price_rs_per_mwh, min(pair.power_mw, most_mw)) for pair in pairs], terms
    )
