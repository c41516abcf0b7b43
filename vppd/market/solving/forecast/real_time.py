"""Real-time prices foreseen from the day-ahead price of the same block. Pure.

Real time clears near the day ahead, with a bias that depends on the hour and drifts. The bias is
the mean difference over the last days, averaged over each hour; the paths are the differences of
those days around it. Without real-time prices in the history there is no bias and no path.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from vppd.market.blocks import BLOCKS_A_DAY, Block
from vppd.market.prices import PriceHistory
from vppd.market.solving.lp import Numbers

HOUR_BLOCKS = 4


@dataclass(frozen=True, slots=True)
class RealTime:
    """Differences of real time from day ahead, Rs/MWh: `bias` by block of the day, what each day
    was off beside it, and the mean absolute of that. `days` had a real-time price."""

    days: int
    bias_rs_per_mwh: Numbers
    off_rs_per_mwh: Numbers  # day x block
    error_rs_per_mwh: float

    def bias(self, block: Block) -> float:
        """To be added to the day-ahead price of a block, Rs/MWh."""
        return float(self.bias_rs_per_mwh[block.number - 1])

    def paths(self, blocks: Sequence[Block], dam_rs_per_mwh: Mapping[Block, float]) -> Numbers:
        """Equally likely prices of these blocks: one row a past day (at least one row)."""
        places = [block.number - 1 for block in blocks]
        mean = np.array([dam_rs_per_mwh[block] + self.bias(block) for block in blocks])
        if not len(self.off_rs_per_mwh):
            return mean[None, :]
        return np.asarray(mean + self.off_rs_per_mwh[:, places])


def real_time(dam: PriceHistory, rtm: PriceHistory, day: date, days: int) -> RealTime:
    """What is known of real time before a day, over at most so many days."""
    rows = []
    for back in range(1, days + 1):
        each = day - timedelta(days=back)
        if each in dam.days and each in rtm.days:
            off = np.array(rtm.days[each]) - np.array(dam.days[each])
            if np.isfinite(off).any():
                rows.append(off)
    if not rows:
        return RealTime(0, np.zeros(BLOCKS_A_DAY), np.empty((0, BLOCKS_A_DAY)), 0.0)
    known = np.isfinite(np.array(rows))
    off = np.where(known, np.array(rows), 0.0)
    hours = (BLOCKS_A_DAY // HOUR_BLOCKS, HOUR_BLOCKS)
    total = off.sum(axis=0).reshape(hours).sum(axis=1)
    count = known.sum(axis=0).reshape(hours).sum(axis=1)
    bias = (total / np.maximum(count, 1)).repeat(HOUR_BLOCKS)
    beside = np.where(known, off - bias, 0.0)
    return RealTime(len(rows), bias, beside, float(np.abs(beside)[known].mean()))
