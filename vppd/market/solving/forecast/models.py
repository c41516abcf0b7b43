"""The three models of tomorrow's prices, each from the same matrix of days. Pure.

*Seasonal naive* (the naive of the electricity price forecasting literature): yesterday, on Monday,
Saturday and Sunday the same day last week. *Profile*: each block's mean over past days, each
further day counting less, days of the other kind (working or rest) less again, then averaged with
the neighbouring blocks. *Regression* in the manner of LEAR (autoregression with exogenous calendar
terms, regularised), here ridge instead of lasso and pooled over the blocks: what a block will
differ from its profile, from how it and its part of the day lately differed.

Lagos, Marcjasz, De Schutter, Weron: Forecasting day-ahead electricity prices, Applied Energy 293
(2021), for the naive and LEAR.
"""

import numpy as np

from vppd.core.settings_forecast import ForecastSettings
from vppd.market.blocks import BLOCKS_A_DAY
from vppd.market.solving.forecast.series import Series
from vppd.market.solving.lp import Numbers

LAGS = (1, 2, 7)
PARTS = 12  # parts of the day, of two hours
EVENING_BLOCKS = 16
WEEKLY = (1, 6, 7)  # Monday, Saturday, Sunday repeat last week
_PENALTY_BLOCKS = BLOCKS_A_DAY
_SCALE_RS_PER_MWH = 1000.0


def naive(series: Series, row: int) -> Numbers:
    """The seasonal naive of the day at this row, from the rows the series has."""
    weekly = series.weekday(row) in WEEKLY
    back = 7 if weekly else 1
    known = len(series.price_rs_per_mwh)
    while row - back >= known:
        back += 7 if weekly else 1
    return np.asarray(series.price_rs_per_mwh[max(row - back, 0)])


def profile(
    series: Series, row: int, settings: ForecastSettings, upto: int | None = None
) -> Numbers:
    """The weighted mean of the rows before `upto` (default: all) for the day at `row`."""
    upto = len(series.whole) if upto is None else upto
    past = np.arange(max(upto - settings.profile_days, 0), upto)
    weights = settings.profile_decay_ratio ** (upto - 1.0 - past) * series.whole[past]
    rest = np.array([series.weekday(each) in settings.rest_weekdays for each in past.tolist()])
    resting = series.weekday(row) in settings.rest_weekdays
    weights = np.where(rest == resting, weights, weights * settings.rest_day_ratio)
    if weights.sum() <= 0.0:
        return np.asarray(series.price_rs_per_mwh[upto - 1])
    mean = weights @ series.price_rs_per_mwh[past] / weights.sum()
    return smoothed(mean, settings.smooth_blocks)


def smoothed(prices_rs_per_mwh: Numbers, blocks: int) -> Numbers:
    """Each block averaged with so many on each side; the ends repeat."""
    if blocks == 0:
        return prices_rs_per_mwh
    width = 2 * blocks + 1
    padded = np.pad(prices_rs_per_mwh, blocks, mode="edge")
    return np.convolve(padded, np.full(width, 1.0 / width), "valid")


class Regression:
    """Ridge over all blocks of many days. Features of a day do not change once it is past, so they
    are kept: tomorrow costs one new day and one small solve."""

    def __init__(self, settings: ForecastSettings) -> None:
        self._settings = settings
        self._days: dict[tuple[int, int], tuple[Numbers, Numbers]] = {}

    def predicted(self, series: Series) -> Numbers:
        """Prices of the day after the last. The rows behind it must reach back over the lags."""
        settings, count = self._settings, len(series.whole)
        first = max(count - settings.regression_days, max(LAGS) + 1)
        past = [row for row in range(first, count) if series.whole[row] > 0.0]
        features, base = self._features(series, count)
        gram = np.eye(features.shape[1]) * settings.regression_penalty_ratio * _PENALTY_BLOCKS
        moment = np.zeros(features.shape[1])
        for row in past:
            known, expected = self._features(series, row)
            weight = settings.regression_decay_ratio ** (count - 1.0 - row)
            off = (series.price_rs_per_mwh[row] - expected) / _SCALE_RS_PER_MWH
            gram += weight * known.T @ known
            moment += weight * known.T @ off
        return base + _SCALE_RS_PER_MWH * (features @ np.linalg.solve(gram, moment))

    def _features(self, series: Series, row: int) -> tuple[Numbers, Numbers]:
        """What is known of a day the evening before (block x feature), and its profile."""
        back = max(self._settings.profile_days, *LAGS)
        seen = slice(max(row - back, 0), row)
        known = series.price_rs_per_mwh[seen].tobytes() + series.whole[seen].tobytes()
        key = (series.first.toordinal() + row, hash(known))
        if key not in self._days:
            self._days[key] = self._made(series, row)
            oldest = key[0] - self._settings.regression_days - 1
            self._days = {each: kept for each, kept in self._days.items() if each[0] >= oldest}
        return self._days[key]

    def _made(self, series: Series, row: int) -> tuple[Numbers, Numbers]:
        base = profile(series, row, self._settings, upto=row)
        columns = []
        for lag in LAGS:
            off = series.price_rs_per_mwh[row - lag] - base
            parts = off.reshape(PARTS, -1).mean(axis=1)
            columns += [off, np.full(BLOCKS_A_DAY, off.mean()), parts.repeat(BLOCKS_A_DAY // PARTS)]
        yesterday = series.price_rs_per_mwh[row - 1] - base
        columns.append(np.full(BLOCKS_A_DAY, yesterday[-EVENING_BLOCKS:].mean()))
        columns.append(smoothed(yesterday, 2))
        weekday = series.weekday(row)
        flags = [np.full(BLOCKS_A_DAY, float(weekday == day)) for day in WEEKLY]
        scaled = np.array(columns) / _SCALE_RS_PER_MWH
        return np.vstack([scaled, *flags]).T, base
