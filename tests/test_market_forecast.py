"""The forecast: what it may know, what it falls back to, and that nothing bad gets through."""

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.market_prices import FIRST, invented
from vppd.core.settings_forecast import ForecastSettings
from vppd.market.prices import PriceHistory
from vppd.market.solving.forecast.accuracy import accuracy, kendall
from vppd.market.solving.forecast.ladder import Forecast, Forecaster, Rung, drawn_in
from vppd.market.solving.forecast.models import naive, profile
from vppd.market.solving.forecast.series import series_of

FORECAST = ForecastSettings()
HISTORY = invented(60)
DAYS = tuple(HISTORY.days)
TARGET = DAYS[-1] + timedelta(days=1)


def made(history: PriceHistory, day: date = TARGET, best: Rung = Rung.COMBINED) -> Forecast:
    return Forecaster(FORECAST).forecast(history, day, best=best)


def but(changes: Mapping[date, tuple[float, ...] | None]) -> PriceHistory:
    """HISTORY with days changed or taken out."""
    days = {**HISTORY.days, **changes}
    return PriceHistory({day: prices for day, prices in days.items() if prices is not None})


def usable(forecast: Forecast) -> None:
    assert len(forecast.price_rs_per_mwh) == 192
    for prices in (forecast.price_rs_per_mwh, *forecast.paths_rs_per_mwh):
        assert all(
            FORECAST.floor_rs_per_mwh <= price <= FORECAST.cap_rs_per_mwh for price in prices
        )


def test_with_enough_days_all_models_speak() -> None:
    forecast = made(HISTORY)
    assert forecast.rung is Rung.COMBINED
    assert forecast.why == "all models"
    usable(forecast)
    assert len(forecast.paths_rs_per_mwh) == FORECAST.scenarios
    expected = np.array(forecast.price_rs_per_mwh[:96])
    low, high = np.array(forecast.quantile(0.1)), np.array(forecast.quantile(0.9))
    assert (low < high).all()
    assert ((low < expected) & (expected < high)).mean() > 0.9


def test_it_knows_nothing_of_the_day_or_later() -> None:
    day = DAYS[-5]
    later = {each: tuple([9_999.0] * 96) for each in DAYS if each >= day}
    assert made(HISTORY, day) == made(but(later), day)
    assert made(HISTORY, day) != made(but({DAYS[-6]: tuple([9_999.0] * 96)}), day)


def test_what_a_forecaster_did_before_changes_nothing() -> None:
    walked = Forecaster(FORECAST)
    for day in DAYS[-6:]:
        walked.forecast(HISTORY, day)
    assert walked.forecast(HISTORY, TARGET) == made(HISTORY)
    other = but({DAYS[-2]: tuple([1.0] * 96)})
    assert walked.forecast(other, TARGET) == made(other)


def gone(count: int) -> dict[date, tuple[float, ...] | None]:
    return dict.fromkeys(DAYS[-count:])


@pytest.mark.parametrize(
    ("history", "rung", "why"),
    [
        (PriceHistory(dict(list(HISTORY.days.items())[-20:])), Rung.PROFILE, "20 whole days"),
        (PriceHistory(dict(list(HISTORY.days.items())[-2:])), Rung.YESTERDAY, "profile: 2 whole"),
        (but(gone(1)), Rung.COMBINED, "all models"),
        (but(gone(2)), Rung.PROFILE, "3 days before the day, 2 is the most"),
        (but(gone(7)), Rung.NONE, "8 days before the day, 7 is the most"),
        (PriceHistory(), Rung.NONE, "no price is known"),
        (PriceHistory({DAYS[0]: tuple([math.nan] * 96)}), Rung.NONE, "no price is known"),
    ],
)
def test_the_ladder_says_which_rung_and_why(history: PriceHistory, rung: Rung, why: str) -> None:
    forecast = made(history)
    assert forecast.rung is rung
    assert why in forecast.why
    if rung is Rung.NONE:
        assert forecast.price_rs_per_mwh == ()
        assert forecast.quantile(0.5) == ()
    else:
        usable(forecast)


def test_a_lower_rung_can_be_asked_for() -> None:
    assert made(HISTORY, best=Rung.PROFILE).rung is Rung.PROFILE
    plain = made(HISTORY, best=Rung.YESTERDAY)
    assert plain.price_rs_per_mwh == HISTORY.days[DAYS[-1]] * 2


holes = st.dictionaries(
    st.sampled_from(DAYS[-30:]),
    st.one_of(
        st.none(),
        st.sampled_from([math.nan, 0.0, 10_000.0, 1e300, -1e300, -500.0]).map(lambda v: (v,) * 96),
        st.lists(st.one_of(st.floats(-1e4, 1e5), st.just(math.nan)), min_size=12, max_size=12).map(
            lambda cells: tuple(cells * 8)
        ),
    ),
    max_size=30,
)


@settings(max_examples=30, deadline=None)
@given(holes)
def test_bad_history_never_raises_and_never_gets_through(
    changes: dict[date, tuple[float, ...] | None],
) -> None:
    with np.errstate(all="ignore"):
        forecast = made(but(changes))
    if forecast.rung is not Rung.NONE:
        usable(forecast)
    assert forecast.why


def test_constant_prices_are_forecast_as_they_are() -> None:
    flat = PriceHistory(dict.fromkeys(DAYS, tuple([4000.0] * 96)))
    forecast = made(flat)
    assert forecast.rung is Rung.COMBINED
    assert forecast.price_rs_per_mwh == pytest.approx([4000.0] * 192)
    assert kendall(np.array(forecast.price_rs_per_mwh), np.arange(192.0)) is None


def test_the_profile_weighs_recent_days_and_its_own_kind_of_day() -> None:
    days = {FIRST + timedelta(days=n): tuple([100.0 * n] * 96) for n in range(14)}
    series = series_of(PriceHistory(days), 100)
    assert series is not None
    monday, sunday = profile(series, 14, FORECAST), profile(series, 13, FORECAST, upto=13)
    weights = [0.75 ** (13 - n) * (0.3 if n in {6, 13} else 1.0) for n in range(14)]
    mean = sum(100.0 * n * w for n, w in enumerate(weights)) / sum(weights)
    assert monday == pytest.approx([mean] * 96)
    assert sunday[0] < 1200  # the Sunday before counts more than its age says


def test_the_naive_repeats_yesterday_and_on_three_days_last_week() -> None:
    series = series_of(HISTORY, 100)
    assert series is not None
    for row in range(20, 27):
        weekday = DAYS[row].isoweekday()
        source = DAYS[row - 7] if weekday in {1, 6, 7} else DAYS[row - 1]
        assert tuple(naive(series.before(DAYS[row]), row)) == HISTORY.days[source]


def test_the_regression_learns_what_the_profile_cannot() -> None:
    """Levels that alternate from day to day: yesterday high means today low."""
    days = {
        FIRST + timedelta(days=n): tuple(
            (5000.0 if n % 2 else 2000.0) + 10 * index for index in range(96)
        )
        for n in range(120)
    }
    alone = replace(FORECAST, naive_weight=0.0, profile_weight=0.0, regression_weight=1.0)
    target = FIRST + timedelta(days=120)
    learned = Forecaster(alone).forecast(PriceHistory(days), target)
    assert learned.price_rs_per_mwh[48] == pytest.approx(2480, abs=250)
    plain = made(PriceHistory(days), target, best=Rung.PROFILE)
    assert abs(plain.price_rs_per_mwh[48] - 2480) > 800


def test_paths_are_drawn_toward_the_mean() -> None:
    forecast = made(HISTORY)
    mean = np.array(forecast.price_rs_per_mwh[:96])
    assert drawn_in(forecast, 0.0) == pytest.approx(np.array([mean] * FORECAST.scenarios))
    half = drawn_in(forecast, 0.5) - mean
    assert half == pytest.approx(0.5 * (np.array(forecast.paths_rs_per_mwh) - mean))


def test_error_is_held_against_the_naive_and_ranks_are_counted() -> None:
    actual = np.array([1.0, 2.0, 3.0, math.nan])
    seen = accuracy([(actual + 1.0, actual + 2.0, actual), (actual, actual, actual * math.nan)])
    assert (seen.days, seen.error_rs_per_mwh, seen.naive_ratio) == (1, 1.0, 0.5)
    assert seen.kendall_ratio == pytest.approx(1.0)
    assert accuracy([]).error_rs_per_mwh is None
    assert kendall(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0])) == pytest.approx(1 / 3)
    tied = kendall(np.array([1.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0]))
    assert tied == pytest.approx(2 / math.sqrt(6))
