"""Price history as a matrix to learn from: one row a calendar day, without a hole. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from vppd.market.blocks import BLOCKS_A_DAY
from vppd.market.prices import PriceHistory, days_between
from vppd.market.solving.lp import Numbers

HOLE_BLOCKS = 8  # unknown blocks of a day that may be bridged from their neighbours


@dataclass(frozen=True, slots=True)
class Series:
    """Every day from the first to the last known one. A day with few unknown blocks is bridged; a
    day with many repeats the day before it and is not `whole`: models may not learn from it."""

    first: date
    price_rs_per_mwh: Numbers  # day x block
    whole: Numbers  # 1.0 or 0.0 a day

    @property
    def last(self) -> date:
        """The newest day."""
        return self.first + timedelta(days=len(self.whole) - 1)

    def row(self, day: date) -> int:
        """The row of a day, also behind the last."""
        return (day - self.first).days

    def before(self, day: date) -> "Series":
        """Only what is older than a day."""
        count = max(self.row(day), 0)
        return Series(self.first, self.price_rs_per_mwh[:count], self.whole[:count])

    def weekday(self, row: int) -> int:
        """1 (Monday) to 7."""
        return (row + self.first.weekday()) % 7 + 1


def series_of(history: PriceHistory, most_days: int) -> Series | None:
    """The newest `most_days` calendar days; None without any usable day."""
    usable = {
        day: row for day, prices in history.days.items() if (row := bridged(prices)) is not None
    }
    if not usable:
        return None
    last = max(usable)
    first = min(day for day in usable if (last - day).days < most_days)
    rows: list[Numbers] = []
    for day in days_between(first, last):
        rows.append(usable.get(day, rows[-1] if rows else usable[first]))
    whole = np.array([float(day in usable) for day in days_between(first, last)])
    return Series(first, np.array(rows), whole)


def bridged(prices_rs_per_mwh: Sequence[float]) -> Numbers | None:
    """A day's prices with few holes closed in a straight line; None when too many are unknown."""
    prices = np.asarray(prices_rs_per_mwh, float)
    known = np.isfinite(prices)
    if known.sum() < BLOCKS_A_DAY - HOLE_BLOCKS:
        return None
    places = np.arange(BLOCKS_A_DAY)
    return np.asarray(np.interp(places, places[known], prices[known]))
