"""The maker of books: the journal's prices and the desk's wishes go to a short-lived worker, a book
comes back.

What the worker cannot do is told as `NotMade`, and the desk asks for less: that is the ladder.
"""

import dataclasses
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

from vppd.core.alarms import Code, Level
from vppd.core.model import SITE
from vppd.core.ports import Clock, Journal
from vppd.core.records import EventRow
from vppd.core.records_market import MarketPriceRow
from vppd.core.settings_market import MarketSettings
from vppd.market.blocks import BLOCK_H, Block
from vppd.market.dealing.making import Made, NotMade, Rung, Wanted
from vppd.market.dealing.worker_call import Worker
from vppd.market.exchange import Auction, Product
from vppd.market.solving.worker_words import Json, book_from, by_block, setting_json
from vppd.spine.schema import micros

DAYS_AHEAD = 3  # tomorrow's prices may be cleared already

_RUNG_ASKED: Mapping[str, str] = {"fresh": "combined", "mean": "profile", "yesterday": "yesterday"}
_RUNG_GOT: Mapping[str, Rung] = {"combined": "fresh", "profile": "mean", "yesterday": "yesterday"}

# One row a day, so that no loop over single prices runs here; a cleared price outranks a seed.
_PRICES = """SELECT day, group_concat(block || ':' || price_rs_per_mwh) FROM (
    SELECT day, block, price_rs_per_mwh, max((kind = 'cleared') * 1125899906842624 + id)
    FROM market_price WHERE product = ? AND area = ? AND kind IN ('cleared', 'imported')
    AND block_at >= ? AND block_at < ? GROUP BY block_at) GROUP BY day ORDER BY day"""
# What real time brought, without purchases at the cap: these only repaired what was held.
_REAL_TIME = """SELECT sum(cleared_mw * price_rs_per_mwh), sum(abs(cleared_mw)), sum(cleared_mw)
    FROM market_result AS r WHERE product = 'rtm' AND block_at >= ? AND block_at < ?
    AND id = (SELECT max(n.id) FROM market_result AS n WHERE n.block_at = r.block_at
        AND n.product = 'rtm')
    AND state <> 'retracted' AND NOT EXISTS (SELECT 1 FROM market_bid AS b
        WHERE b.block_at = r.block_at AND b.book = r.book AND b.side = 'buy'
        AND b.price_rs_per_mwh >= ?)"""
_MEAN_PRICE = """SELECT avg(price_rs_per_mwh) FROM price WHERE product = 'dam' AND area = ?
    AND kind IN ('cleared', 'imported') AND block_at >= ? AND block_at < ?"""


class BookMaker:
    """`vppd.market.dealing.making.Maker`, and forecasts for whoever shows them."""

    def __init__(
        self,
        settings: MarketSettings,
        journal: Journal,
        clock: Clock,
        worker: Worker,
    ) -> None:
        self._settings, self._journal, self._clock = settings, journal, clock
        self._worker = worker
        self._accuracy: dict[Product, Json] = {}
        self._off = False

    @property
    def accuracy(self) -> Mapping[Product, Json]:
        """How good forecasts lately were, by product, as the last book's worker measured it:
        `days`, `error_rs_per_mwh`, and of the day ahead `naive_ratio` (below 1 is better than the
        seasonal naive) and `kendall_ratio`."""
        return self._accuracy

    async def book_for(self, wanted: Wanted, within_s: float) -> Made:
        """The best book for what is known. Raises NotMade; never blocks the loop."""
        auction, settings = wanted.auction, self._settings
        request = await self._request(auction.product, auction.day, _RUNG_ASKED[wanted.best])
        request |= {
            "setting": setting_json(wanted.setting),
            "strategy": settings.strategy,
            "hurdle_rs_per_mwh": settings.rtm_hurdle_rs_per_mwh,
            "margin_rs_per_mwh": settings.risk.margin_rs_per_mwh,
            "repair_only": await self._repair_only(auction),
        }
        said = await self._worker.asked(request, within_s)
        try:
            made = _made(said)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise NotMade(f"the worker's answer cannot be read: {error!r}") from error
        self._tell_forecast(auction, made)
        self._accuracy[auction.product] = said.get("accuracy", {})
        return made

    async def forecast(self, day: date, within_s: float) -> Json:
        """Day-ahead prices of a day with their band, the rung, and how good forecasts lately were;
        plain data (see `vppd.market.solving.answers`). Raises NotMade."""
        return await self._worker.asked(await self._request("forecast", day, "combined"), within_s)

    async def _request(self, kind: str, day: date, best: str) -> Json:
        """What every request has. Raises NotMade when the journal cannot be read."""
        terms = self._settings.rtm_terms if kind == "rtm" else self._settings.dam_terms
        forecast = dataclasses.replace(
            self._settings.forecast,
            floor_rs_per_mwh=terms.floor_rs_per_mwh,
            cap_rs_per_mwh=terms.cap_rs_per_mwh,
            load=None,
            solar=None,
        )
        area = self._settings.exchange.area
        products: tuple[Product, ...] = ("dam", "rtm") if kind == "rtm" else ("dam",)
        spans = {"dam": forecast.history_days, "rtm": forecast.rtm_days}
        prices = {}
        for product in products:
            since = _midnight(day - timedelta(days=spans[product]))
            until = _midnight(day + timedelta(days=DAYS_AHEAD))
            prices[product] = await self._select(_PRICES, product, area, since, until)
        return {
            "kind": kind,
            "day": str(day),
            "best": best,
            "forecast": dataclasses.asdict(forecast),
            "prices": prices,
        }

    async def _repair_only(self, auction: Auction) -> str:
        """Why real time may only repair what is held: it lost money lately. Empty: it may trade.
        Told when it changes."""
        if auction.product != "rtm":
            return ""
        why = await self._loss(auction)
        if bool(why) != self._off:
            self._off = bool(why)
            text = f"real time only repairs: {why}" if why else "real time is traded again"
            row = (self._clock.utc(), Code.MARKET_FORECAST, SITE, Level.WARNING, text)
            self._journal.append(EventRow(*row))
        return why

    async def _loss(self, auction: Auction) -> str:
        """What real time lost over the last days, or nothing.

        Gain: what was sold less what was bought and fees, the energy that is left or missing at
        the mean day-ahead price; repairs do not count. Before wear.
        """
        days = self._settings.forecast.rtm_days
        span = _midnight(auction.day - timedelta(days=days)), micros(auction.blocks[0].start)
        cap = self._settings.rtm_terms.cap_rs_per_mwh
        area = self._settings.exchange.area
        ((cash, traded_mw, net_mw),) = await self._select(_REAL_TIME, *span, cap) or [(None,) * 3]
        ((mean,),) = await self._select(_MEAN_PRICE, area, *span) or [(None,)]
        if not traded_mw or mean is None:
            return ""
        fees = self._settings.rtm_terms.fee_rs_per_mwh * traded_mw
        gain_rs = BLOCK_H * (cash - net_mw * mean - fees)
        return f"it lost {-gain_rs:.0f} Rs in {days} days" if gain_rs < 0.0 else ""

    async def _select(self, sql: str, *parameters: object) -> list[Any]:
        try:
            return await self._journal.select(sql, parameters)
        except OSError as error:
            raise NotMade(f"the journal cannot be read: {error}") from error

    def _tell_forecast(self, auction: Auction, made: Made) -> None:
        """What was foreseen goes into the journal, so that its error can be reported."""
        now = self._clock.utc()
        for block, price in sorted(made.forecast_rs_per_mwh.items()):
            row = (now, block.start, auction.product, self._settings.exchange.area, "forecast")
            self._journal.append(MarketPriceRow(*row, price, f"vppd {made.rung}"))


def _made(said: Json) -> Made:
    """An answer as a book. Raises KeyError, TypeError, ValueError, AttributeError."""
    foreseen = dict(sorted(by_block(said["forecast"]).items()))
    return Made(
        book_from(said["book"]),
        _RUNG_GOT[said["rung"]],
        f"{said['why']}; {_error_text(said['accuracy'])}",
        float(said["expected_rs"]),
        {block: float(band["forecast_rs_per_mwh"]) for block, band in foreseen.items()},
        tuple(str(each) for each in (*said["bound"], *said["cut"])),
        by_block(said["blocks"]),
    )


def _error_text(accuracy: Json) -> str:
    """How good forecasts lately were, in words."""
    error, ratio = accuracy.get("error_rs_per_mwh"), accuracy.get("naive_ratio")
    if not accuracy.get("days") or error is None:
        return "its error is not known yet"
    beside = "" if ratio is None else f", {ratio:.2f} of the naive's"
    return f"mean error {error:.0f} Rs/MWh over {accuracy['days']} days{beside}"


def _midnight(day: date) -> int:
    """When an IST day begins, as the journal counts."""
    return micros(Block(day, 1).start)
