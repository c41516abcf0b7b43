"""One forecast, by the best model that may be trusted: the ladder. Pure.

combined (all three models) -> profile (too few days for the rest) -> yesterday (the newest known
day as it was) -> none. The rung and the reason stand in the forecast, for the ledger. Nothing here
raises for want of data: a hole, a constant price or a model that fails only leads one rung down.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

import numpy as np

from vppd.core.settings_forecast import ForecastSettings
from vppd.market.prices import PriceHistory
from vppd.market.solving.forecast.models import Regression, naive, profile
from vppd.market.solving.forecast.series import Series, series_of
from vppd.market.solving.lp import Numbers

DAYS = 2  # planned ahead: the second says what the first should leave


class Rung(StrEnum):
    """From what a forecast was made, best first."""

    COMBINED = "combined"
    PROFILE = "profile"
    YESTERDAY = "yesterday"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Forecast:
    """Expected prices from the first block of `day` on (two days, Rs/MWh), equally likely paths of
    the first day, and how this came about. On the rung `none` there are no prices."""

    day: date
    price_rs_per_mwh: tuple[float, ...]
    paths_rs_per_mwh: tuple[tuple[float, ...], ...]
    rung: Rung
    why: str

    def quantile(self, share: float) -> tuple[float, ...]:
        """The price of each block of the first day that this share (0 to 1) of paths is below."""
        if not self.paths_rs_per_mwh:
            return ()
        return tuple(np.quantile(np.array(self.paths_rs_per_mwh), share, axis=0).tolist())


class Forecaster:
    """Forecasts from a history. It keeps only what saves time: the same history gives the same
    forecast, asked first or last. Work is bounded by the settings' days, not by the history."""

    def __init__(self, settings: ForecastSettings) -> None:
        self._settings = settings
        self._regression = Regression(settings)

    def forecast(self, history: PriceHistory, day: date, *, best: Rung = Rung.COMBINED) -> Forecast:
        """Prices of a day and the next with what was cleared for the days before it. `best` is the
        highest rung to try."""
        settings = self._settings
        span = settings.regression_days + settings.profile_days + settings.scenarios
        series = series_of(history.before(day), span)
        fallen: list[str] = []
        for rung, found in self._rungs(series, day, best, fallen):
            if np.isfinite(found).all() and series is not None:
                days = np.clip(found, settings.floor_rs_per_mwh, settings.cap_rs_per_mwh)
                paths = self._paths(series, days[0], rung)
                why = "; ".join(fallen) or "all models"
                return Forecast(day, tuple(days.ravel().tolist()), paths, rung, why)
            fallen.append(f"{rung}: not a number")
        return Forecast(day, (), (), Rung.NONE, "; ".join(fallen))

    def _rungs(
        self, series: Series | None, day: date, best: Rung, fallen: list[str]
    ) -> Iterator[tuple[Rung, Numbers]]:
        """Each rung that may be tried with its prices; why others may not goes to `fallen`."""
        settings = self._settings
        if series is None:
            fallen.append("no price is known")
            return
        age = (day - series.last).days
        whole = int(series.whole.sum())
        recent = int(series.whole[-settings.profile_days :].sum())
        wanted: dict[Rung, tuple[str, Callable[[Series, int], Numbers]]] = {
            Rung.COMBINED: (
                _lack(whole, settings.regression_least_days, age, settings.fresh_days),
                self._combined,
            ),
            Rung.PROFILE: (
                _lack(recent, settings.profile_least_days, age, settings.oldest_days),
                self._profiles,
            ),
            Rung.YESTERDAY: (_lack(1, 1, age, settings.oldest_days), _newest),
        }
        order = list(wanted)
        for rung in order[order.index(best) :]:
            lack, model = wanted[rung]
            if lack:
                fallen.append(f"{rung}: {lack}")
                continue
            try:
                prices = model(series, series.row(day))
            except np.linalg.LinAlgError as error:
                fallen.append(f"{rung}: {error}")
                continue
            yield rung, prices

    def _profiles(self, series: Series, row: int) -> Numbers:
        return np.array([profile(series, row + ahead, self._settings) for ahead in range(DAYS)])

    def _combined(self, series: Series, row: int) -> Numbers:
        """The weighted mean of the models; what it adds to the profile fades over the days."""
        settings = self._settings
        days = self._profiles(series, row)
        total = settings.profile_weight + settings.naive_weight + settings.regression_weight
        if total <= 0.0:
            return days
        mix = settings.profile_weight * days[0] + settings.naive_weight * naive(series, row)
        if settings.regression_weight > 0.0:
            mix = mix + settings.regression_weight * (days[0] + self._regressed(series, row))
        more = mix / total - days[0]
        fading = settings.carry_ratio ** np.arange(DAYS)
        return np.asarray(days + fading[:, None] * more)

    def _regressed(self, series: Series, row: int) -> Numbers:
        """What the regression adds to the profile: it predicts the first unknown day, and of that
        less is left with every day between it and the one asked for."""
        settings, first = self._settings, len(series.whole)
        predicted = self._regression.predicted(series)
        low, high = settings.floor_rs_per_mwh, settings.cap_rs_per_mwh
        more = np.clip(predicted, low, high) - profile(series, first, settings)
        return np.asarray(more * settings.carry_ratio ** (row - first))

    def _paths(self, series: Series, mean: Numbers, rung: Rung) -> tuple[tuple[float, ...], ...]:
        """The mean plus how past days differed from their profile, less the mean of that."""
        settings = self._settings
        count = len(series.whole)
        rows = [row for row in range(count - 1, 0, -1) if series.whole[row] > 0.0]
        rows = rows[: settings.scenarios]
        if rung is Rung.YESTERDAY or not rows:
            return (tuple(mean.tolist()),)
        off = np.array(
            [
                series.price_rs_per_mwh[row] - profile(series, row, settings, upto=row)
                for row in rows
            ]
        )
        off -= off.mean(axis=0)
        paths = np.clip(mean + off, settings.floor_rs_per_mwh, settings.cap_rs_per_mwh)
        return tuple(tuple(path) for path in paths.tolist())


def drawn_in(forecast: Forecast, ratio: float) -> Numbers:
    """The paths drawn toward the expected prices: 1 leaves them, 0 makes them all the mean."""
    paths = np.array(forecast.paths_rs_per_mwh)
    mean = np.array(forecast.price_rs_per_mwh[: paths.shape[1]])
    return np.asarray(mean + ratio * (paths - mean))


def _newest(series: Series, row: int) -> Numbers:
    """The newest day, again and again."""
    del row
    return np.array([series.price_rs_per_mwh[-1]] * DAYS)


def _lack(days: int, least: int, age: int, oldest: int) -> str:
    """Why a rung may not be tried, or nothing."""
    if age > oldest:
        return f"the newest known day is {age} days before the day, {oldest} is the most"
    if days < least:
        return f"{days} whole days are known, {least} are needed"
    return ""
