"""What other load and solar will do behind the connection, block by block, by the models of prices.

The models know numbers by block of the day and nothing of their unit: here kW, scaled so that they
vary about as much as prices do. Load is consumption, solar is what it gives, both positive; net is
load less solar. The band of a block is a quantile on each side, and of the net the two worst
together. Every rung of the ladder has its word: combined, profile, yesterday (its band is all that
day saw), and `none`, where only a constant is left. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np

from vppd.core.settings_forecast import ForecastSettings
from vppd.market.blocks import BLOCKS_A_DAY
from vppd.market.prices import PriceHistory
from vppd.market.solving.forecast.accuracy import Accuracy, accuracy
from vppd.market.solving.forecast.ladder import Forecaster, Rung
from vppd.market.solving.forecast.models import naive
from vppd.market.solving.forecast.series import series_of
from vppd.market.solving.lp import Numbers

ACCURACY_DAYS = 14
VARIES = 1000.0  # standard deviation that a series is scaled to
LEAST_KW = 1e-3
LIMITS_KW = (-1e6, 1e6)
ORDER = tuple(Rung)


@dataclass(frozen=True, slots=True)
class Foreseen:
    """One day: expected, and the two ends of the band, kW. Empty on the rung `none`."""

    day: date
    mean_kw: tuple[float, ...]
    low_kw: tuple[float, ...]
    high_kw: tuple[float, ...]
    rung: Rung
    why: str


class LoadForecaster:
    """Of one series. `share` (0.5 to 1): the upper end of the band is above it so often, the lower
    end below. `limits_kw`: what it can be at all."""

    def __init__(
        self,
        settings: ForecastSettings,
        history: PriceHistory,
        share: float,
        limits_kw: tuple[float, float] = LIMITS_KW,
    ) -> None:
        self._share, self._history = share, history
        self._scale = _scale(history)
        low_kw, high_kw = limits_kw
        self._settings = replace(
            settings,
            floor_rs_per_mwh=low_kw * self._scale,
            cap_rs_per_mwh=high_kw * self._scale,
        )
        self._scaled = PriceHistory(
            {day: tuple(kw * self._scale for kw in row) for day, row in history.days.items()}
        )
        self._forecaster = Forecaster(self._settings)

    def foreseen(self, day: date) -> Foreseen:
        """A day, by what is known of the days before it."""
        if series_of(self._history.before(day), 1) is None:
            return Foreseen(day, (), (), (), Rung.NONE, "no whole day is known")
        found = self._forecaster.forecast(self._scaled, day)
        if found.rung is Rung.NONE:
            return Foreseen(day, (), (), (), found.rung, found.why)
        mean = np.array(found.price_rs_per_mwh[:BLOCKS_A_DAY])
        if found.rung is Rung.YESTERDAY:  # of one day nobody knows how far the next lies from it
            low, high = np.full_like(mean, mean.min()), np.full_like(mean, mean.max())
        else:
            ends = np.quantile(
                np.array(found.paths_rs_per_mwh), (1.0 - self._share, self._share), axis=0
            )
            low, high = np.minimum(ends[0], mean), np.maximum(ends[1], mean)
        return Foreseen(day, self._kw(mean), self._kw(low), self._kw(high), found.rung, found.why)

    def accuracy(self, day: date) -> Accuracy:
        """Of the days before this one, each foreseen again with what was known before it; in kW,
        and against the seasonal naive."""
        rows = []
        for back in range(1, ACCURACY_DAYS + 1):
            each = day - timedelta(days=back)
            known = self._history.before(each)
            series = series_of(known, self._settings.history_days)
            if each not in self._history.days or series is None:
                continue
            found = self.foreseen(each)
            if found.rung is not Rung.NONE:
                plain = naive(series, series.row(each))
                actual = np.array(self._history.days[each])
                rows.append((np.array(found.mean_kw), plain, actual))
        return accuracy(rows)

    def _kw(self, scaled: Numbers) -> tuple[float, ...]:
        return tuple((scaled / self._scale).tolist())


def net_of(load: Foreseen, solar: Foreseen | None) -> Foreseen:
    """Load less solar; without solar the load as it is. Solar that cannot be foreseen leaves
    nothing to say."""
    if solar is None or load.rung is Rung.NONE:
        return load
    if solar.rung is Rung.NONE:
        return replace(solar, why=f"solar: {solar.why}")
    parts = (
        (load.mean_kw, solar.mean_kw),
        (load.low_kw, solar.high_kw),
        (load.high_kw, solar.low_kw),
    )
    mean, low, high = (
        tuple(taken - given for taken, given in zip(*each, strict=True)) for each in parts
    )
    worse = max(load.rung, solar.rung, key=ORDER.index)
    why = load.why if load.why == solar.why else f"load: {load.why}; solar: {solar.why}"
    return Foreseen(load.day, mean, low, high, worse, why)


def gross_of(net: PriceHistory, solar: PriceHistory) -> PriceHistory:
    """What the load alone was: the meter's, and what solar gave at the time; unknown where either
    is."""
    days: Mapping[date, tuple[float, ...]] = {
        day: tuple(a + b for a, b in zip(row, solar.days[day], strict=True))
        for day, row in net.days.items()
        if day in solar.days
    }
    return PriceHistory(dict(days))


def _scale(history: PriceHistory) -> float:
    """By what a series is multiplied so that it varies as much as prices do."""
    known = np.array([kw for row in history.days.values() for kw in row if np.isfinite(kw)])
    return VARIES / max(float(known.std()) if known.size else 0.0, LEAST_KW)
