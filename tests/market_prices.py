"""Invented prices for tests: two peaks, a solar valley, a cheap rest day, and chance."""

import random
from datetime import date, timedelta

from vppd.market.blocks import BLOCKS_A_DAY
from vppd.market.prices import PriceHistory

FIRST = date(2023, 1, 2)  # a Monday
CAP_RS_PER_MWH = 10_000.0


def shape(hour: float, level: float) -> float:
    """Rs/MWh: a morning peak, cheap noon, a dear evening."""
    morning = 2500 * max(0.0, 1 - abs(hour - 7.5) / 2)
    noon = -1800 * max(0.0, 1 - abs(hour - 12.5) / 4)
    evening = 5500 * max(0.0, 1 - abs(hour - 20) / 3)
    return (3500 + morning + noon + evening) * level


def invented(days: int, seed: int = 1, noise: float = 0.1) -> PriceHistory:
    """So many days from FIRST; `noise` 0 makes all but the rest day alike."""
    chance = random.Random(seed)
    found = {}
    for number in range(days):
        day = FIRST + timedelta(days=number)
        level = (0.8 if day.weekday() == 6 else 1.0) * (1 + noise * chance.gauss(0, 1))
        found[day] = tuple(
            min(
                max(shape(index / 4, level) * (1 + noise * chance.gauss(0, 0.5)), 0), CAP_RS_PER_MWH
            )
            for index in range(BLOCKS_A_DAY)
        )
    return PriceHistory(found)


def as_csv(history: PriceHistory) -> str:
    """The file of a history."""
    rows = ["datetime,volume,price"]
    for day, prices in history.days.items():
        rows += (
            f"{day} {index // 4:02}:{index % 4 * 15:02}:00,1,{price!r}"
            for index, price in enumerate(prices)
        )
    return "\n".join(rows) + "\n"
