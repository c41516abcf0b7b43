"""The market layer over history: each day forecast, planned and bid with only what was known then,
cleared at the prices that came, and held against perfect foresight. Pure.

At the gate of day D (10:00 to 11:00 on D-1) the prices of D-1 are known, for they cleared on D-2;
those of D are not. The battery takes prices as they are (price-taker) and is always available;
real-time and deviation are not part of it. Perfect foresight is one optimum over the whole walked
span; beside it stands the optimum day by day, each day from empty.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Literal

import numpy as np

from vppd.core.settings_forecast import ForecastSettings
from vppd.market.blocks import BLOCK_H, BLOCKS_A_DAY, Block, blocks_of
from vppd.market.book import Bid
from vppd.market.corridor import State
from vppd.market.fitting import Setting
from vppd.market.prices import PriceHistory
from vppd.market.solving.day_book import day_book
from vppd.market.solving.forecast.accuracy import Accuracy, accuracy
from vppd.market.solving.forecast.ladder import Forecast, Forecaster, Rung
from vppd.market.solving.forecast.models import naive
from vppd.market.solving.forecast.series import series_of
from vppd.market.solving.lp import Numbers
from vppd.market.solving.plan import Task, plan_of
from vppd.market.storage import Storage, Terms

TOLERANCE_MWH = 1e-6
WARM_UP_DAYS = 56
SPAN_TIME_LIMIT_S = 600.0  # one optimum over a year of blocks

Bids = Literal["curves", "plan"]


@dataclass(frozen=True, slots=True)
class Case:
    """What is walked: the battery, the exchange, how prices are forecast and how they are bid:
    `curves` (price-quantity pairs) or `plan` (the plan's quantities at any price)."""

    storage: Storage
    terms: Terms = field(default_factory=Terms)
    forecast: ForecastSettings = field(default_factory=ForecastSettings)
    best: Rung = Rung.COMBINED
    bids: Bids = "curves"
    start_mwh: float = 0.0


@dataclass(frozen=True, slots=True)
class Day:
    """What one day came to. Energies in MWh at the connection."""

    day: date
    gain_rs: float  # after wear and fees
    sold_mwh: float
    bought_mwh: float
    stored_mwh: float  # at its end
    infeasible_blocks: int
    rung: Rung
    why: str
    forecast_rs_per_mwh: tuple[float, ...] | None
    actual_rs_per_mwh: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """The whole walk."""

    days: tuple[Day, ...]
    perfect_rs: float
    perfect_daily_rs: float
    accuracy: Accuracy
    storage: Storage

    @property
    def revenue_rs(self) -> float:
        """Earned after wear and fees, in all."""
        return sum(day.gain_rs for day in self.days)

    @property
    def capture_pct(self) -> float | None:
        """Of perfect foresight over the whole span; None when that earns nothing."""
        return _share_pct(self.revenue_rs, self.perfect_rs)

    @property
    def capture_daily_pct(self) -> float | None:
        """Of perfect foresight day by day, each day from empty."""
        return _share_pct(self.revenue_rs, self.perfect_daily_rs)

    @property
    def cycles_per_day(self) -> float:
        """Energy sold over usable energy, a day."""
        sold_mwh = sum(day.sold_mwh for day in self.days)
        return sold_mwh / self.storage.usable_mwh / max(len(self.days), 1)

    @property
    def infeasible_blocks(self) -> int:
        """Blocks in which what cleared could not have been delivered."""
        return sum(day.infeasible_blocks for day in self.days)

    @property
    def worst(self) -> Day | None:
        """The day that earned least."""
        return min(self.days, key=lambda day: day.gain_rs, default=None)


def days_to_walk(
    history: PriceHistory, first: date | None = None, last: date | None = None
) -> tuple[date, ...]:
    """Days whose every price is known, behind the warm-up (counted from the first day of the
    history) and from `first` to `last` where given. A day with a hole is not walked: the battery
    rests."""
    if not history.days:
        return ()
    begin = next(iter(history.days)) + timedelta(days=WARM_UP_DAYS)
    begin = begin if first is None else max(begin, first)
    return tuple(day for day in history.whole() if begin <= day and (last is None or day <= last))


def walk(case: Case, history: PriceHistory, days: tuple[date, ...]) -> Iterator[Day]:
    """Each day in turn, the battery's energy carried from one to the next."""
    forecaster = Forecaster(case.forecast)
    stored_mwh = case.start_mwh
    for day in days:
        forecast = forecaster.forecast(history, day, best=case.best)
        bids = _bids(case, forecast, day, stored_mwh)
        done = _cleared(case, forecast, bids, history.days[day], stored_mwh)
        stored_mwh = done.stored_mwh
        yield done


def result_of(case: Case, history: PriceHistory, days: tuple[Day, ...]) -> Result:
    """Walked days held against perfect foresight and the naive forecast."""
    prices = [np.array(day.actual_rs_per_mwh) for day in days]
    dates = tuple(day.day for day in days)
    whole_rs = perfect_rs(case, prices, dates, case.start_mwh)
    daily_rs = sum(
        perfect_rs(case, [row], (day,), case.storage.low_mwh)
        for row, day in zip(prices, dates, strict=True)
    )
    return Result(days, whole_rs, daily_rs, _accuracy(case, history, days), case.storage)


def perfect_rs(
    case: Case, prices: list[Numbers], days: tuple[date, ...], start_mwh: float
) -> float:
    """The most that these days could have earned, all known before."""
    if not days:
        return 0.0
    blocks = [block for day in days for block in blocks_of(day)]
    task = Task(case.storage, case.terms, blocks, np.concatenate(prices), start_mwh)
    return plan_of(task, time_limit_s=SPAN_TIME_LIMIT_S).gain_rs


def _bids(
    case: Case, forecast: Forecast, day: date, stored_mwh: float
) -> dict[Block, Bid] | Numbers:
    """Curves by block, or the plan's net power of each block, MW."""
    if forecast.rung is Rung.NONE:
        return {}
    prices = np.array(forecast.price_rs_per_mwh)
    today, tomorrow = blocks_of(day), blocks_of(day + timedelta(days=1))
    if case.bids == "plan":
        task = Task(case.storage, case.terms, (*today, *tomorrow), prices, stored_mwh)
        return np.array(plan_of(task).power_mw[:BLOCKS_A_DAY])
    setting = Setting(case.storage, case.terms, State(stored_mwh, stored_mwh, {}), today, {})
    return dict(day_book(setting, forecast, case.forecast.curve_spread_ratio).book)


def _cleared(
    case: Case,
    forecast: Forecast,
    bids: dict[Block, Bid] | Numbers,
    actual_rs_per_mwh: tuple[float, ...],
    stored_mwh: float,
) -> Day:
    """The day at the prices that came. What cannot be delivered is counted and left out."""
    storage, terms = case.storage, case.terms
    prices = np.array(actual_rs_per_mwh)
    wanted_mw = np.zeros(BLOCKS_A_DAY)
    if isinstance(bids, dict):
        for block, bid in bids.items():
            wanted_mw[block.number - 1] = bid.cleared_mw(prices[block.number - 1])
    else:
        wanted_mw = bids
    done_mw = np.zeros(BLOCKS_A_DAY)
    sold_mwh, broken = 0.0, 0
    for index, power_mw in enumerate(wanted_mw):
        next_mwh = stored_mwh + storage.stored_mwh(float(power_mw))
        more_mwh = max(float(power_mw), 0.0) * BLOCK_H
        if not (
            -storage.charge_mw - TOLERANCE_MWH <= power_mw <= storage.discharge_mw + TOLERANCE_MWH
            and storage.low_mwh - TOLERANCE_MWH <= next_mwh <= storage.high_mwh + TOLERANCE_MWH
            and sold_mwh + more_mwh <= storage.day_discharge_mwh + TOLERANCE_MWH
        ):
            broken += 1
            continue
        done_mw[index] = power_mw
        stored_mwh, sold_mwh = next_mwh, sold_mwh + more_mwh
    loss = 1.0 - terms.loss_pct / 100
    out_mw, in_mw = np.maximum(done_mw, 0.0), np.maximum(-done_mw, 0.0)
    earned = out_mw @ (prices * loss - terms.fee_rs_per_mwh - storage.wear_rs_per_mwh)
    paid = in_mw @ (prices / loss + terms.fee_rs_per_mwh)
    expected = forecast.price_rs_per_mwh[:BLOCKS_A_DAY] or None
    return Day(
        forecast.day,
        float(earned - paid) * BLOCK_H,
        sold_mwh,
        float(in_mw.sum()) * BLOCK_H,
        min(max(stored_mwh, storage.low_mwh), storage.high_mwh),
        broken,
        forecast.rung,
        forecast.why,
        expected,
        actual_rs_per_mwh,
    )


def _accuracy(case: Case, history: PriceHistory, days: tuple[Day, ...]) -> Accuracy:
    """Of the days that had a forecast, beside the seasonal naive of each."""
    rows: list[tuple[Numbers, Numbers, Numbers]] = []
    for day in days:
        series = series_of(history.before(day.day), case.forecast.oldest_days + 7)
        if day.forecast_rs_per_mwh is not None and series is not None:
            plain = naive(series, series.row(day.day))
            rows.append((np.array(day.forecast_rs_per_mwh), plain, np.array(day.actual_rs_per_mwh)))
    return accuracy(rows)


def _share_pct(part_rs: float, whole_rs: float) -> float | None:
    return 100.0 * part_rs / whole_rs if whole_rs > 0.0 else None
