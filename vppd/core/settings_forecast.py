"""Settings of the price forecast: what it learns from, how each model learns, what is too old.

A site may give the documented keys. The rest was chosen by measurement (see
market/solving/forecast) and is no key: whoever changes it should measure again.
"""

from dataclasses import dataclass

from vppd.core.model import Point
from vppd.core.profile import key


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSettings:
    """Other load and sources behind the connection: foreseen from the journal's quarters of an
    hour, so that bids leave room for them beside the connection's limits."""

    unit: str = key("whose rows tell it: the site, by its meter, or a device's id", "site")
    point: Point = key("which of its points, + is consumption", Point.LOAD_KW)
    constant_kw: float = key("taken instead where no row tells it; + is consumption", 0.0)
    quantile_pct: float = key(
        "bids leave room for all but so rare: on each side 95 is one in twenty", 95.0, ge=50, lt=100
    )
    history_days: int = key("so many days of rows are learned from", 60, ge=3, le=400)
    fresh_days: int = key(
        "all models are trusted while the newest whole day lies so near before", 4, ge=1, le=14
    )
    oldest_days: int = key("older rows than this are no forecast at all", 7, ge=1, le=60)
    renew_min: float = key("it is made again so often", 60.0, ge=1, le=1440)


@dataclass(frozen=True, slots=True, kw_only=True)
class SolarSettings:
    """Solar behind the same connection with a meter or an inverter of its own: foreseen apart from
    the load, which then counts without it."""

    unit: str = key("whose rows tell it: a device's id")
    point: Point = key("which of its points, + is what it gives", Point.POWER_KW)
    peak_kw: float = key("it never gives more", gt=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastSettings:
    """How prices are foreseen. Defaults were chosen by five months of Indian day-ahead prices."""

    history_days: int = key("so much of the journal's prices is learned from", 200, ge=14, le=1500)
    train_max_s: float = key(
        "a model that takes longer is stopped; the ladder falls back", 60.0, gt=0, le=900
    )
    fresh_days: int = key(
        "all models are trusted while the newest prices lie so near before the day", 2, ge=1, le=14
    )
    oldest_days: int = key("older prices than this are no forecast at all", 7, ge=1, le=60)
    rest_weekdays: tuple[int, ...] = key("days of rest: 1 is Monday, 7 Sunday", (7,))
    profile_days: int = key("the weighted profile looks back so far", 28, ge=1, le=365)
    profile_decay_ratio: float = key("each day further back counts so much less", 0.75, gt=0, le=1)
    scenarios: int = key("price paths given with the forecast", 16, ge=2, le=60)
    curve_spread_ratio: float = key(
        "bid curves are drawn for paths this far from the mean (1: as they are)", 0.5, ge=0, le=1
    )
    rtm_days: int = key(
        "real-time prices are compared with the day ahead over so many", 14, ge=2, le=60
    )
    rtm_least_days: int = key(
        "with fewer days of them real time only repairs what is held", 7, ge=1, le=60
    )
    load: LoadSettings | None = key(
        "other load behind the connection is foreseen (null: it is not, and there is none)", None
    )
    solar: SolarSettings | None = key(
        "and solar apart from it (null: where there is any, it is in the load)", None
    )

    rest_day_ratio: float = 0.3  # a working day counts so much for a rest day and the reverse
    smooth_blocks: int = 1  # profile averaged over so many blocks each side
    profile_least_days: int = 3  # whole days the profile needs
    regression_days: int = 150  # the regression learns from so many
    regression_least_days: int = 35  # whole days all models need
    regression_decay_ratio: float = 0.99  # each day further back counts so much less in it
    regression_penalty_ratio: float = 10.0  # ridge, in days of unit-variance features
    naive_weight: float = 0.1  # share of the seasonal naive in the mix
    profile_weight: float = 0.8
    regression_weight: float = 0.1
    carry_ratio: float = 0.8  # what the mix sees beside the profile counts so much a day later
    floor_rs_per_mwh: float = 0.0  # no forecast is below the exchange's floor
    cap_rs_per_mwh: float = 10_000.0  # or above its cap
