"""The bid book of a day or of a session: for every block what is offered at which prices. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from vppd.market.blocks import Block


@dataclass(frozen=True, slots=True, order=True)
class Pair:
    """A step of a curve: this much is wanted in all when the price reaches this limit."""

    price_rs_per_mwh: float
    power_mw: float  # cumulated, at least 0


@dataclass(frozen=True, slots=True)
class Bid:
    """The two curves of one block.

    `sells`: prices rise and power does not fall: all pairs at or below the clearing price are
    wanted, so the last of these is the quantity. `buys`: prices fall and power does not fall: all
    pairs at or above the clearing price. Every buy price is below every sell price, so that no
    clearing takes both. At a price that equals a limit the exchange may take any part of that
    step (the margin).
    """

    sells: tuple[Pair, ...] = ()
    buys: tuple[Pair, ...] = ()

    def cleared_mw(self, price_rs_per_mwh: float) -> float:
        """What the exchange takes in full at this price, positive is sold."""
        sold_mw = max(
            (pair.power_mw for pair in self.sells if pair.price_rs_per_mwh <= price_rs_per_mwh),
            default=0.0,
        )
        bought_mw = max(
            (pair.power_mw for pair in self.buys if pair.price_rs_per_mwh >= price_rs_per_mwh),
            default=0.0,
        )
        return sold_mw - bought_mw

    @property
    def most_sold_mw(self) -> float:
        """At the highest price."""
        return self.sells[-1].power_mw if self.sells else 0.0

    @property
    def most_bought_mw(self) -> float:
        """At the lowest price."""
        return self.buys[-1].power_mw if self.buys else 0.0


@dataclass(frozen=True, slots=True, order=True)
class Whole:
    """A block bid: so much power over `count` blocks from `first` on, all of it or none.

    Positive sells, when the mean price of these blocks is at or above the limit; negative buys, at
    or below. Even then it may be left out: whole bids can contradict one another.
    """

    first: Block
    count: int
    price_rs_per_mwh: float
    power_mw: float

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Those it is delivered in."""
        return tuple(self.first.after(offset) for offset in range(self.count))

    @property
    def range_mw(self) -> tuple[float, float]:
        """What it may come to in each of them."""
        return min(self.power_mw, 0.0), max(self.power_mw, 0.0)

    def __str__(self) -> str:
        last = self.first.after(self.count - 1)
        return f"{self.first} to {last.number}, {self.power_mw:+g} MW at {self.price_rs_per_mwh:g}"


@dataclass(frozen=True, slots=True)
class Book:
    """Bids by block, in the order of time, and bids for several blocks as a whole."""

    bids: Mapping[Block, Bid]
    wholes: tuple[Whole, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to send."""
        return not (self.bids or self.wholes)

    def whole_range_mw(self, block: Block) -> tuple[float, float]:
        """What its whole bids may come to in a block, together: any of them, or none."""
        ranges = [each.range_mw for each in self.wholes if block in each.blocks]
        return sum(low for low, _ in ranges), sum(high for _, high in ranges)

    def __iter__(self) -> Iterator[tuple[Block, Bid]]:
        return iter(sorted(self.bids.items()))
