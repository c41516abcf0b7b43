"""Settings of the price forecast: how each model learns, how they are combined, what is too old."""

from dataclasses import dataclass

from vppd.core.profile import key


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastSettings:
    """The defaults were chosen by five months of Indian day-ahead prices (see market/forecast)."""

    profile_days: int = key("the weighted profile looks back so far", 28, ge=1, le=365)
    profile_decay_ratio: float = key("each day further back counts so much less", 0.75, gt=0, le=1)
    rest_day_ratio: float = key(
        "a working day counts so much for a rest day and the reverse", 0.3, gt=0, le=1
    )
    rest_weekdays: tuple[int, ...] = key("1 is Monday, 7 Sunday", (7,))
    smooth_blocks: int = key("profile averaged over so many blocks each side", 1, ge=0, le=8)
    regression_days: int = key("the regression learns from so many", 150, ge=14, le=730)
    regression_decay_ratio: float = key(
        "each day further back counts so much less in it", 0.99, gt=0, le=1
    )
    regression_penalty_ratio: float = key(
        "ridge penalty, in days of unit-variance features", 10.0, gt=0
    )
    naive_weight: float = key("share of the seasonal naive in the mix", 0.1, ge=0, le=1)
    profile_weight: float = key("share of the weighted profile", 0.8, ge=0, le=1)
    regression_weight: float = key("share of the regression", 0.1, ge=0, le=1)
    carry_ratio: float = key(
        "what the mix sees beside the profile counts so much a day later", 0.8, ge=0, le=1
    )
    floor_rs_per_mwh: float = key("no forecast is below", 0.0)
    cap_rs_per_mwh: float = key("or above: the exchange's cap", 10_000.0)
    scenarios: int = key("price paths given with the forecast", 16, ge=2, le=60)
    curve_spread_ratio: float = key(
        "bid curves are drawn for paths this far from the mean (1: as they are)", 0.5, ge=0, le=1
    )
    fresh_days: int = key("newest prices may lie so far before the day", 2, ge=1, le=14)
    oldest_days: int = key("older prices than this are no forecast at all", 7, ge=1, le=60)
    profile_least_days: int = key("whole days the profile needs", 3, ge=1, le=60)
    regression_least_days: int = key("whole days the models need", 35, ge=15, le=365)
