"""Whether a storage can do whatever a book may become: the widest path of energy. Pure.

A book leaves a range of net power open in every block. Stored energy falls as net power rises, so
the highest path of energy takes the low end of every range and the lowest path the high end; every
other outcome, a partial fill at the margin too, runs between the two. A book is feasible when both
stay in the window: not in some scenarios, but at all prices.

What is bought at the cap or sold at the floor is taken at every price and so counts as sure
(`firm`). An exchange may still cut it when the price is at that very end (scarcity), and an area
may be split off: no price envelope covers that; what is then missing is bought back in a real-time
session or named as a shortfall. With `firm=False` nothing counts as sure: the book is feasible
whatever part of it is taken, and earns less.

A whole bid (all or none over several blocks) counts as it may come out worst: taken at one end of
the range, left out at the other. Nobody can be sure of one, not even at the cap or the floor. As
each has one sign, every subset of such bids runs between the two paths as well.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from vppd.market.blocks import BLOCK_H, Block
from vppd.market.book import Bid, Book
from vppd.market.storage import Storage, Terms

TOLERANCE_MWH = 1e-6  # a watt-hour

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class State:
    """Where a book begins: energy stored, known to lie between two values (MWh), and what is
    already discharged or sold of each day's allowance (MWh at the connection)."""

    low_mwh: float
    high_mwh: float
    discharged_mwh: Mapping[date, float]


@dataclass(frozen=True, slots=True)
class Breach:
    """A limit that some outcome would break, in which block, and by how much (MWh or MW)."""

    block: Block
    limit: str  # energy_high, energy_low, charge, discharge, cycles
    value: float

    def __str__(self) -> str:
        unit = "MW" if self.limit in {"charge", "discharge"} else "MWh"
        return f"{self.block}: {self.limit} by {self.value:.4f} {unit}"


def range_of(bid: Bid, terms: Terms, *, firm: bool = True) -> Range:
    """The net power a bid may become, MW: from the lowest price to the highest."""
    if not firm:
        return -bid.most_bought_mw, bid.most_sold_mw
    return bid.cleared_mw(terms.floor_rs_per_mwh), bid.cleared_mw(terms.cap_rs_per_mwh)


def breaches(
    storage: Storage, start: State, blocks: Sequence[Block], ranges: Sequence[Range]
) -> list[Breach]:
    """Every limit that some outcome of these ranges would break; empty when it is feasible.

    A start outside the window is no breach, as long as no outcome leads further out.
    """
    found = []
    low_mwh, high_mwh = start.low_mwh, start.high_mwh
    spent_mwh = dict(start.discharged_mwh)
    for block, (least_mw, most_mw) in zip(blocks, ranges, strict=True):
        floor_mwh, ceiling_mwh = min(storage.low_mwh, low_mwh), max(storage.high_mwh, high_mwh)
        low_mwh += storage.stored_mwh(most_mw)
        high_mwh += storage.stored_mwh(least_mw)
        before_mwh = spent_mwh.get(block.day, 0.0)
        spent_mwh[block.day] = before_mwh + max(most_mw, 0.0) * BLOCK_H
        excesses = {
            "energy_low": floor_mwh - low_mwh,
            "energy_high": high_mwh - ceiling_mwh,
            "charge": -least_mw - storage.charge_at_mw(block),
            "discharge": most_mw - storage.discharge_at_mw(block),
            "cycles": spent_mwh[block.day] - max(storage.day_discharge_mwh, before_mwh),
        }
        found += [Breach(block, k, v) for k, v in excesses.items() if v > TOLERANCE_MWH]
    return found


def ranges_of(
    book: Book,
    blocks: Sequence[Block],
    terms: Terms,
    held_mw: Mapping[Block, float],
    *,
    firm: bool = True,
) -> list[Range]:
    """The net power of each block over all clearings, MW, on top of what is already held there."""
    found = []
    for block in blocks:
        least_mw, most_mw = range_of(book.bids.get(block, Bid()), terms, firm=firm)
        whole_least_mw, whole_most_mw = book.whole_range_mw(block)
        sure_mw = held_mw.get(block, 0.0)
        found.append((sure_mw + least_mw + whole_least_mw, sure_mw + most_mw + whole_most_mw))
    return found
