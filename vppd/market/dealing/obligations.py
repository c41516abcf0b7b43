"""What was traded against what the storage can still do: where a book begins, what falls short, and
the bids that close it. Pure.

Positive is sold, at the connection; stored energy is inside the battery.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

from vppd.market.blocks import BLOCK, BLOCK_H, Block, block_at
from vppd.market.book import Bid, Book, Pair
from vppd.market.corridor import Range, State, range_of
from vppd.market.fitting import EDGE
from vppd.market.storage import Storage, Terms

TOLERANCE_MW = 1e-6


@dataclass(frozen=True, slots=True)
class Held:
    """What is traded (MW by block) and what bids without a result may still add."""

    traded_mw: Mapping[Block, float]
    open_mw: Mapping[Block, Range]

    def range_of(self, block: Block) -> Range:
        """The net power a block may come to, MW."""
        sure_mw = self.traded_mw.get(block, 0.0)
        least_mw, most_mw = self.open_mw.get(block, (0.0, 0.0))
        return sure_mw + least_mw, sure_mw + most_mw

    @property
    def last(self) -> Block | None:
        """The last block of which anything is held or open."""
        return max([*self.traded_mw, *self.open_mw], default=None)


@dataclass(frozen=True, slots=True)
class Short:
    """What of a block cannot be delivered, MW, positive is a sale that falls short; and for want of
    what."""

    block: Block
    short_mw: float
    limit: Literal["power", "energy"]

    @property
    def short_mwh(self) -> float:
        """The same as energy of the block."""
        return self.short_mw * BLOCK_H

    def __str__(self) -> str:
        what = "sold" if self.short_mw > 0.0 else "bought"
        return f"{self.block}: {abs(self.short_mwh):.3f} MWh {what} for want of {self.limit}"


def blocks_through(first: Block, last: Block) -> tuple[Block, ...]:
    """From the first to the last, both included; only the first when the last lies before it."""
    count = max((last.start - first.start) // BLOCK, 0)
    return tuple(first.after(offset) for offset in range(count + 1))


def open_ranges(bids: Iterable[tuple[Book, Terms]], *, firm: bool) -> dict[Block, Range]:
    """What books without a result may come to, added up, MW."""
    found: dict[Block, Range] = {}
    for book, terms in bids:
        for block, bid in book:
            least_mw, most_mw = range_of(bid, terms, firm=firm)
            before = found.get(block, (0.0, 0.0))
            found[block] = before[0] + least_mw, before[1] + most_mw
        for whole in book.wholes:
            least_mw, most_mw = whole.range_mw
            for block in whole.blocks:
                before = found.get(block, (0.0, 0.0))
                found[block] = before[0] + least_mw, before[1] + most_mw
    return found


def state_at(first: Block, utc: datetime, energy_mwh: Range, storage: Storage, held: Held) -> State:
    """The energy that can be stored when a block begins, by what is held until then, and what its
    day has sold by then. Of the block that runs only the rest counts."""
    low_mwh, high_mwh = energy_mwh
    floor_mwh, ceiling_mwh = min(storage.low_mwh, low_mwh), max(storage.high_mwh, high_mwh)
    running = block_at(utc)
    if running < first:
        for block in blocks_through(running, first.after(-1)):
            share = min((block.end - utc) / BLOCK, 1.0)
            least_mw, most_mw = held.range_of(block)
            low_mwh += share * storage.stored_mwh(most_mw)
            high_mwh += share * storage.stored_mwh(least_mw)
            low_mwh = min(max(low_mwh, floor_mwh), ceiling_mwh)  # the rest is a shortfall
            high_mwh = min(max(high_mwh, floor_mwh), ceiling_mwh)
    sold_mwh: dict[date, float] = {}
    for block in held.traded_mw.keys() | held.open_mw.keys():
        if block.day == first.day and block < first:
            sold_mw = max(held.range_of(block)[1], 0.0)
            sold_mwh[block.day] = sold_mwh.get(block.day, 0.0) + sold_mw * BLOCK_H
    return State(low_mwh, high_mwh, sold_mwh)


def shorts_of(
    storage: Storage,
    energy_mwh: float,
    blocks: Sequence[Block],
    traded_mw: Mapping[Block, float],
    first_share: float = 1.0,
) -> list[Short]:
    """What cannot be delivered, block by block, when each delivers what it can. `first_share`: so
    much of the first block is still to come."""
    found = []
    share = first_share
    for block in blocks:
        wanted_mw = traded_mw.get(block, 0.0)
        out_mwh = max(energy_mwh - storage.low_mwh, 0.0) * storage.discharge_efficiency
        in_mwh = max(storage.high_mwh - energy_mwh, 0.0) / storage.charge_efficiency
        by_power_mw = min(max(wanted_mw, -storage.charge_mw), storage.discharge_mw)
        hours = max(share * BLOCK_H, EDGE)
        given_mw = min(max(by_power_mw, -in_mwh / hours), out_mwh / hours)
        energy_mwh += share * storage.stored_mwh(given_mw)
        if abs(wanted_mw - given_mw) > TOLERANCE_MW:
            limit: Literal["power", "energy"] = "energy" if given_mw != by_power_mw else "power"
            found.append(Short(block, share * (wanted_mw - given_mw), limit))
        share = 1.0
    return found


def closing(shorts: Iterable[Short], terms: Terms) -> Book:
    """Bids at any price that close what falls short: a sale is bought back, a purchase sold on.
    Rounded away from zero: a little more than needed can be delivered, a little less cannot."""
    bids = {}
    for short in shorts:
        steps = math.ceil(abs(short.short_mw) / terms.step_mw - EDGE)
        power_mw = round(max(steps * terms.step_mw, terms.min_mw), 6)
        if short.short_mw > 0.0:
            bids[short.block] = Bid(buys=(Pair(terms.cap_rs_per_mwh, power_mw),))
        else:
            bids[short.block] = Bid(sells=(Pair(terms.floor_rs_per_mwh, power_mw),))
    return Book(bids)


def added(traded_mw: Mapping[Block, float], book: Book, terms: Terms) -> dict[Block, float]:
    """Positions as they are when all of a book that closes obligations is taken."""
    total_mw = dict(traded_mw)
    for block, bid in book:
        taken_mw, _ = range_of(bid, terms)
        total_mw[block] = total_mw.get(block, 0.0) + taken_mw
    return total_mw
