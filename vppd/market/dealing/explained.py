"""Why a block is traded as it is: forecast, bids, what bound, vetoes, clearing. Pure.

Plain data, as `vppctl market why BLOCK` shows it and JSON carries it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from vppd.market.blocks import Block
from vppd.market.book import Bid, Pair
from vppd.market.dealing.obligations import Short
from vppd.market.dealing.positions import Trade
from vppd.market.dealing.tickets import Kept
from vppd.market.exchange import Auction


class Offered(TypedDict):
    """One auction's part. Pairs are (Rs/MWh, MW in all); prices Rs/MWh; positive is sold. `wholes`
    are bids for several blocks, all or none, that this block is of. `maker` is what the maker has
    to say of the block."""

    auction: str
    product: str
    session: int
    ticket: str
    state: str
    text: str
    rung: str
    why: str
    expected_rs: float
    forecast_rs_per_mwh: float | None
    maker: dict[str, Any]
    sells: list[tuple[float, float]]
    buys: list[tuple[float, float]]
    wholes: list[str]
    bound: list[str]
    vetoes: list[str]
    cleared_mw: float | None
    price_rs_per_mwh: float | None
    final: bool
    faults: list[str]


class Explained(TypedDict):
    """A block: what is traded in all, what of it cannot be delivered, and each auction's part."""

    day: str
    block: int
    position_mw: float
    short_mwh: float
    auctions: list[Offered]


def explained(
    block: Block,
    kept: Mapping[Auction, Kept],
    trades: Mapping[Auction, Trade],
    short: Short | None,
) -> Explained:
    """Everything that is known of a block."""
    auctions = sorted(each for each in kept.keys() | trades.keys() if block in each.blocks)
    return Explained(
        day=block.day.isoformat(),
        block=block.number,
        position_mw=sum(each.cleared_mw.get(block, 0.0) for each in trades.values()),
        short_mwh=short.short_mwh if short is not None else 0.0,
        auctions=[_offered(block, each, kept.get(each), trades.get(each)) for each in auctions],
    )


def _offered(block: Block, auction: Auction, kept: Kept | None, trade: Trade | None) -> Offered:
    trade = trade if trade is not None else Trade(auction)
    bid = kept.ticket.book.bids.get(block, Bid()) if kept is not None else Bid()
    wholes = kept.ticket.book.wholes if kept is not None else ()
    story = kept.story if kept is not None else None
    return Offered(
        auction=str(auction),
        product=auction.product,
        session=auction.session,
        ticket=kept.ticket.id if kept is not None else "",
        state=kept.state if kept is not None else "",
        text=kept.text if kept is not None else "",
        rung=story.rung if story is not None else "",
        why=story.why if story is not None else "",
        expected_rs=story.expected_rs if story is not None else 0.0,
        forecast_rs_per_mwh=story.forecast_rs_per_mwh.get(block) if story is not None else None,
        maker=dict(story.explained.get(block, {})) if story is not None else {},
        sells=_pairs(bid.sells),
        buys=_pairs(bid.buys),
        wholes=[str(each) for each in wholes if block in each.blocks],
        bound=[*story.bound] if story is not None else [],
        vetoes=[*story.vetoes] if story is not None else [],
        cleared_mw=trade.cleared_mw.get(block),
        price_rs_per_mwh=trade.price_rs_per_mwh.get(block),
        final=trade.final,
        faults=sorted(trade.faults),
    )


def _pairs(pairs: Sequence[Pair]) -> list[tuple[float, float]]:
    return [(pair.price_rs_per_mwh, pair.power_mw) for pair in pairs]
