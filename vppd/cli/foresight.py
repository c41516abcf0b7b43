"""What a battery could have earned had all prices been known: the yardstick of market reports."""

from collections.abc import Sequence
from datetime import datetime

from vppd.cli.backtest import battery
from vppd.cli.report.market_figures import Optimum
from vppd.market.blocks import block_at
from vppd.market.solving.plan import Task, plan_of
from vppd.market.storage import Terms


def foresight(text: str) -> Optimum:
    """Of a battery as `vppd backtest --battery` takes it, empty at the start. Raises ValueError."""
    storage, terms = battery(text), Terms()

    def best_rs(by_block_rs_per_mwh: Sequence[tuple[datetime, float]]) -> float:
        blocks = [block_at(at) for at, _ in by_block_rs_per_mwh]
        known = [price for _, price in by_block_rs_per_mwh]
        return plan_of(Task(storage, terms, blocks, known, storage.low_mwh)).gain_rs

    return best_rs
