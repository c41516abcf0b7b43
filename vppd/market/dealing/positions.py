"""What the site has sold and bought, from all results that came: the declared path for each. Pure.

| what came | what counts |
|---|---|
| provisional, then final | the final one |
| final twice, the same | once |
| final twice, different (contradictory) | the newer one; told |
| a result that lacks blocks (partial) | the blocks it has; 0 for the others; told |
| retracted | nothing of this auction, until it is published again; told |
| nothing by the time it is due (late, missing) | nothing of this auction until it comes; told |

Nothing is ever assumed to be cleared because it was bid.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from vppd.market.blocks import Block
from vppd.market.exchange import Auction, Result

AGREE_MW = 1e-6
Fault = Literal["contradicted", "partial", "retracted", "late", "beyond_bid"]


@dataclass(frozen=True, slots=True)
class Trade:
    """What one auction brought: power per block, MW, positive sold, and what is wrong with it."""

    auction: Auction
    cleared_mw: Mapping[Block, float] = field(default_factory=dict)
    price_rs_per_mwh: Mapping[Block, float] = field(default_factory=dict)
    final: bool = False
    faults: frozenset[Fault] = frozenset()


def trade_of(
    auction: Auction, results: Sequence[Result], *, late: bool = False, bid: bool = True
) -> Trade:
    """One auction's trade from its results in the order they came. `late`: it should be known by
    now. `bid`: something was sent, so that silence is a fault."""
    faults: set[Fault] = set()
    rules: Result | None = None
    for result in results:
        if result.auction != auction:
            raise ValueError(f"{result.auction} is no result of {auction}")
        if result.state == "retracted":
            rules = None
            faults = {"retracted"}
            continue
        if rules is not None and rules.state == "final":
            if result.state == "provisional":
                continue
            if _differ(rules, result):
                faults.add("contradicted")
        rules = result
        faults.discard("retracted")
    if rules is None:
        if late and bid and not faults:
            faults.add("late")
        return Trade(auction, faults=frozenset(faults))
    if any(block not in rules.cleared_mw for block in auction.blocks):
        faults.add("partial")
    inside = set(auction.blocks)
    return Trade(
        auction,
        {block: power for block, power in rules.cleared_mw.items() if block in inside},
        {block: price for block, price in rules.price_rs_per_mwh.items() if block in inside},
        rules.state == "final",
        frozenset(faults),
    )


def _differ(first: Result, second: Result) -> bool:
    blocks = first.cleared_mw.keys() | second.cleared_mw.keys()
    return any(
        abs(first.cleared_mw.get(block, 0.0) - second.cleared_mw.get(block, 0.0)) > AGREE_MW
        for block in blocks
    )


def position_of(trades: Iterable[Trade]) -> dict[Block, float]:
    """Net power of every traded block over all auctions, MW, positive sold."""
    total_mw: dict[Block, float] = {}
    for trade in trades:
        for block, power_mw in trade.cleared_mw.items():
            total_mw[block] = total_mw.get(block, 0.0) + power_mw
    return total_mw


def open_blocks(blocks: Iterable[Block], utc: datetime) -> list[Block]:
    """Those that have not begun: only these can still be planned."""
    return [block for block in blocks if block.start > utc]
