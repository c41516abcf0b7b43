"""What the worker answers to a request: a forecast, a day-ahead book, a real-time book, each with
why it is so. Pure; plain data in and out.

Requests have `kind` (forecast, dam, rtm, load), `day`, `best`, `forecast` (settings) and `prices`
by product; the books also `setting`, `strategy`, `hurdle_rs_per_mwh`, `margin_rs_per_mwh` and
`repair_only` (why, or nothing). Of a load `prices` has the series `load` (net, as metered, kW) and
perhaps `solar`, and there are `days`, `quantile_pct` and `solar_peak_kw`. See
`vppd.market.solving.worker_words`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta

import numpy as np

from vppd.core.settings_forecast import ForecastSettings
from vppd.market.blocks import BLOCK_H, BLOCKS_A_DAY, Block, blocks_of
from vppd.market.book import Bid, Book, Pair
from vppd.market.fitting import Setting
from vppd.market.prices import PriceHistory
from vppd.market.solving.day_book import day_book, day_plan
from vppd.market.solving.forecast.accuracy import Accuracy, accuracy
from vppd.market.solving.forecast.ladder import DAYS, Forecast, Forecaster, Rung
from vppd.market.solving.forecast.load import LoadForecaster, gross_of, net_of
from vppd.market.solving.forecast.models import naive
from vppd.market.solving.forecast.real_time import RealTime, real_time
from vppd.market.solving.forecast.series import series_of
from vppd.market.solving.lp import NotSolved
from vppd.market.solving.plan import Plan
from vppd.market.solving.session_book import Session, prices_ahead, repair_hurdle, session_book
from vppd.market.solving.worker_words import Json, block_text, book_json, prices_of, setting_of

ACCURACY_DAYS = 14
LOW_SHARE, HIGH_SHARE = 0.1, 0.9  # the band told of a price
NEAR = 1e-4  # MW or MWh: at a limit
DIGITS = 6


_NONSENSE = (
    *(LookupError, TypeError, ValueError, AttributeError, ArithmeticError),
    np.linalg.LinAlgError,
)


class Impossible(Exception):  # noqa: N818 - what came of it
    """No answer can be made; the text says why."""


def answer(request: Json) -> Json:
    """The answer to one request; `error` when there is none. Never raises for its content."""
    kinds: dict[str, Callable[[_Asked], Json]] = {
        "forecast": _forecast,
        "dam": _dam,
        "rtm": _rtm,
        "load": _load,
    }
    try:
        made = kinds[request["kind"]](_Asked(request))
    except (Impossible, NotSolved) as error:
        return {"error": str(error)}
    except _NONSENSE as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"error": "", **made}


class _Asked:
    """A request, read."""

    def __init__(self, request: Json) -> None:
        self.request = request
        self.day = date.fromisoformat(request["day"])
        self.best = Rung(request["best"])
        given = request["forecast"] | {"rest_weekdays": tuple(request["forecast"]["rest_weekdays"])}
        self.settings = ForecastSettings(**given)
        self.prices: Mapping[str, PriceHistory] = {
            product: prices_of(rows) for product, rows in request["prices"].items()
        }
        self.forecaster = Forecaster(self.settings)

    @property
    def dam(self) -> PriceHistory:
        """Day-ahead prices."""
        return self.prices["dam"]

    def forecast(self, day: date) -> Forecast:
        """By the best rung that is allowed and possible."""
        return self.forecaster.forecast(self.dam, day, best=self.best)


def _forecast(asked: _Asked) -> Json:
    """Prices of a day and the next, their band, the rung, and how good forecasts lately were."""
    found = asked.forecast(asked.day)
    if found.rung is Rung.NONE:
        raise Impossible(f"no price can be foreseen: {found.why}")
    return {
        "rung": found.rung.value,
        "why": found.why,
        "forecast": _band(found),
        "paths_rs_per_mwh": _rounded(found.paths_rs_per_mwh),
        "accuracy": _accuracy(asked, asked.day),
    }


def _dam(asked: _Asked) -> Json:
    """The day-ahead book, and why it is so."""
    foreseen = _forecast(asked)
    found, setting = asked.forecast(asked.day), setting_of(asked.request["setting"])
    if setting.blocks[:BLOCKS_A_DAY] != blocks_of(asked.day):
        raise Impossible(f"the setting does not begin with the blocks of {asked.day}")
    made = day_book(
        setting,
        found,
        asked.settings.curve_spread_ratio,
        hurdle_rs_per_mwh=asked.request["margin_rs_per_mwh"],
    )
    if made.how.startswith("empty"):
        raise Impossible(made.how)
    plan = day_plan(setting, found)
    del foreseen["paths_rs_per_mwh"]
    return foreseen | {
        "book": book_json(made.book),
        "expected_rs": round(made.expected_rs, 2),
        "cut": [str(each) for each in made.fitted.cut],
        "blocks": _explained(setting, plan, foreseen["forecast"]),
        "bound": _bound(setting, plan),
    }


def _rtm(asked: _Asked) -> Json:
    """A real-time session's book, and why it is so."""
    request, settings = asked.request, asked.settings
    setting = setting_of(request["setting"])
    days = [asked.day + timedelta(days=ahead) for ahead in range(DAYS + 2)]
    unknown = next((day for day in days if ahead_of(asked.dam, day)), days[-1])
    found = asked.forecast(unknown)
    seen = None if found.rung is Rung.NONE else found
    prices, known = prices_ahead(asked.dam, seen)
    near = real_time(asked.dam, asked.prices["rtm"], asked.day, settings.rtm_days)
    hurdle, told = _hurdle(request, near, settings, setting.terms.cap_rs_per_mwh)
    session = Session(setting, prices, known, near, hurdle)
    try:
        dealt = session_book(session)
    except ValueError as error:
        raise Impossible(f"{error}: {found.why}") from error
    if dealt.answer.how.startswith("empty"):
        raise Impossible(dealt.answer.how)
    paths = near.paths(session.blocks, prices)
    band = {
        block_text(block): _prices(
            prices[block] + near.bias(block),
            np.quantile(paths[:, n], (LOW_SHARE, HIGH_SHARE)).tolist(),
        )
        for n, block in enumerate(session.blocks)
    }
    all_known = all(block in known for block in session.blocks)
    limits = {block: binding(setting, dealt.answer.book, block) for block in session.blocks}
    return {
        "rung": (Rung.COMBINED if all_known else found.rung).value,
        "why": f"{'day-ahead prices' if all_known else found.why}; {told}",
        "forecast": band,
        "accuracy": {"days": near.days, "error_rs_per_mwh": round(near.error_rs_per_mwh, DIGITS)},
        "book": book_json(dealt.answer.book),
        "expected_rs": round(dealt.answer.expected_rs, 2),
        "cut": [str(each) for each in dealt.answer.fitted.cut],
        "blocks": {
            text: each
            | {
                "held_mw": round(setting.held_mw.get(block, 0.0), DIGITS),
                "stored_after_session_mwh": round(dealt.end_mwh, DIGITS),
                "energy_rs_per_mwh": round(dealt.energy_rs_per_mwh, 2),
                "bound": limits[block],
            }
            for block, (text, each) in zip(session.blocks, band.items(), strict=True)
        },
        "bound": sorted({limit for each in limits.values() for limit in each}),
    }


def _load(asked: _Asked) -> Json:
    """Load less solar of some days, kW, with its band and how good it lately was."""
    request, settings = asked.request, asked.settings
    net, share = asked.prices["load"], request["quantile_pct"] / 100.0
    solar, said = None, {}
    if "solar" in asked.prices:
        limits_kw = (0.0, request["solar_peak_kw"])
        solar = LoadForecaster(settings, asked.prices["solar"], share, limits_kw)
        said["solar_accuracy"] = _accuracy_json(solar.accuracy(asked.day), "kw")
        net = gross_of(net, asked.prices["solar"])
    load = LoadForecaster(settings, net, share)
    days = [asked.day + timedelta(days=ahead) for ahead in range(request["days"])]
    found = [net_of(load.foreseen(day), solar.foreseen(day) if solar else None) for day in days]
    if found[0].rung is Rung.NONE:
        raise Impossible(found[0].why)
    blocks = {
        block_text(block): [round(kw, 3) for kw in band_kw]
        for each in found
        for block, *band_kw in zip(
            blocks_of(each.day), each.low_kw, each.mean_kw, each.high_kw, strict=False
        )
    }
    accuracy = _accuracy_json(load.accuracy(asked.day), "kw")
    return said | {
        "rung": found[0].rung.value,
        "why": found[0].why,
        "blocks": blocks,
        "accuracy": accuracy,
    }


def ahead_of(dam: PriceHistory, day: date) -> bool:
    """Whether any day-ahead price of this day is still unknown."""
    prices = dam.days.get(day)
    return prices is None or not all(math.isfinite(price) for price in prices)


def _hurdle(
    request: Json, near: RealTime, settings: ForecastSettings, cap_rs_per_mwh: float
) -> tuple[float, str]:
    """What a real-time trade must promise, Rs/MWh, and why so much.

    adaptive: the mean error of what real time was foreseen as; conservative: that or the configured
    hurdle, the larger; aggressive: nothing.
    """
    why = request["repair_only"]
    if not why and near.days < settings.rtm_least_days:
        why = f"real-time prices of {near.days} days are known, {settings.rtm_least_days} needed"
    if why:
        return repair_hurdle(cap_rs_per_mwh), f"only repairs: {why}"
    learned, given = near.error_rs_per_mwh, request["hurdle_rs_per_mwh"]
    chosen = {"adaptive": learned, "conservative": max(learned, given), "aggressive": 0.0}
    hurdle = max(chosen[request["strategy"]], request["margin_rs_per_mwh"])
    return hurdle, f"hurdle {hurdle:.0f} Rs/MWh over {near.days} days of real time"


def _accuracy(asked: _Asked, day: date) -> Json:
    """Of the last days, each foreseen again with what was known before it."""
    rows = []
    for back in range(1, ACCURACY_DAYS + 1):
        each = day - timedelta(days=back)
        series = series_of(asked.dam.before(each), asked.settings.oldest_days + 7)
        if each not in asked.dam.days or series is None:
            continue
        found = asked.forecast(each)
        if found.rung is not Rung.NONE:
            foreseen = np.array(found.price_rs_per_mwh[:BLOCKS_A_DAY])
            plain = naive(series, series.row(each))
            rows.append((foreseen, plain, np.array(asked.dam.days[each])))
    return _accuracy_json(accuracy(rows))


def _accuracy_json(seen: Accuracy, unit: str = "rs_per_mwh") -> Json:
    return {
        "days": seen.days,
        f"error_{unit}": _number(seen.error_rs_per_mwh),
        "naive_ratio": _number(seen.naive_ratio),
        "kendall_ratio": _number(seen.kendall_ratio),
    }


def _band(found: Forecast) -> Json:
    """Of the first day: expected, and what one path in ten is below and above."""
    bands = zip(found.quantile(LOW_SHARE), found.quantile(HIGH_SHARE), strict=True)
    return {
        block_text(block): _prices(price, band)
        for block, price, band in zip(
            blocks_of(found.day), found.price_rs_per_mwh[:BLOCKS_A_DAY], bands, strict=True
        )
    }


def _prices(price_rs_per_mwh: float, band_rs_per_mwh: Sequence[float]) -> Json:
    return {
        "forecast_rs_per_mwh": round(float(price_rs_per_mwh), 2),
        "low_rs_per_mwh": round(float(band_rs_per_mwh[0]), 2),
        "high_rs_per_mwh": round(float(band_rs_per_mwh[1]), 2),
    }


def _explained(setting: Setting, plan: Plan, band: Json) -> Json:
    """Block by block: price and band, what the plan does, what it stores, what that is worth."""
    found = {}
    limits = _limits(setting, plan)
    for n, block in enumerate(setting.blocks[:BLOCKS_A_DAY]):
        text = block_text(block)
        found[text] = band[text] | {
            "plan_mw": round(plan.power_mw[n], DIGITS),
            "plan_stored_mwh": round(plan.stored_mwh[n], DIGITS),
            "energy_rs_per_mwh": round(plan.energy_rs_per_mwh[n], 2),
            "bound": limits[block],
        }
    return found


def _limits(setting: Setting, plan: Plan) -> dict[Block, list[str]]:
    """What stopped the plan from doing more in each block."""
    storage = setting.storage
    blocks = setting.blocks[:BLOCKS_A_DAY]
    sold_mwh = sum(max(power, 0.0) for power in plan.power_mw[:BLOCKS_A_DAY]) * BLOCK_H
    spent_mwh = sold_mwh + setting.start.discharged_mwh.get(blocks[0].day, 0.0)
    worn = spent_mwh >= storage.day_discharge_mwh - NEAR
    found = {}
    for n, block in enumerate(blocks):
        power_mw, stored_mwh = plan.power_mw[n], plan.stored_mwh[n]
        tests = {
            "power": power_mw >= storage.discharge_at_mw(block) - NEAR
            or power_mw <= NEAR - storage.charge_at_mw(block),
            "energy_high": stored_mwh >= storage.high_mwh - NEAR,
            "energy_low": stored_mwh <= storage.low_mwh + NEAR,
            "cycles": worn and power_mw > NEAR,
        }
        found[block] = [name for name, true in tests.items() if true]
    return found


def _bound(setting: Setting, plan: Plan) -> list[str]:
    """The same for the whole day, in words; and soft limits that had to bend."""
    limits = _limits(setting, plan)
    said = {
        "power": "power",
        "energy_high": "full",
        "energy_low": "empty, or at what reserve keeps",
        "cycles": "cycles of the day",
    }
    words = []
    for name, text in said.items():
        count = sum(name in each for each in limits.values())
        if count:
            words.append(f"{text} ({count} blocks)")
    words += [
        f"{bent.limit} bent by {bent.excess_mwh:.3f} MWh at {bent.price_rs_per_mwh:.0f} Rs/MWh"
        for bent in plan.bent
    ]
    return words


def binding(setting: Setting, book: Book, block: Block) -> list[str]:
    """The limits that one step more of either side of this block would break."""
    terms, bid = setting.terms, book.bids.get(block, Bid())
    more_mw = terms.step_mw
    sells = (*bid.sells, Pair(terms.cap_rs_per_mwh, bid.most_sold_mw + more_mw))
    buys = (*bid.buys, Pair(terms.floor_rs_per_mwh, bid.most_bought_mw + more_mw))
    before = {(each.block, each.limit): each.value for each in setting.breaches(book)}
    found = set()
    for larger in (Bid(sells, bid.buys), Bid(bid.sells, buys)):
        for each in setting.breaches(Book({**book.bids, block: larger})):
            if each.value > before.get((each.block, each.limit), 0.0):
                found.add(each.limit)
    return sorted(found)


def _number(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)


def _rounded(paths_rs_per_mwh: Sequence[Sequence[float]]) -> list[list[float]]:
    return [[round(price, 2) for price in path] for path in paths_rs_per_mwh]
