"""What must hold for a site that trades, and what is odd about it. Errors only while `enabled`."""

from collections.abc import Callable, Iterator

from vppd.config.document import KeyPath
from vppd.config.rules import Breach, broken
from vppd.core.model import SITE
from vppd.core.settings import Settings

ENABLED: KeyPath = ("market", "enabled")
MEMBER = ("user", "participant", "token")
WHOLE = 1e-6  # so far from a whole number is rounding


def _reachable(settings: Settings) -> Iterator[Breach]:
    """A real exchange needs to be named, and a member to be known there."""
    market, exchange = settings.market, settings.market.exchange
    if not market.enabled:
        return
    at: KeyPath = ("market", "exchange")
    if exchange.kind == "simulated" and settings.mode == "hardware" and exchange.url is None:
        text = (
            "mode hardware has no exchange of its own: give a kind, or the url of a simulated one"
        )
        yield broken((*at, "kind"), text, ENABLED, (*at, "url"))
    if exchange.kind in ("iex", "pxil"):
        if exchange.url is None:
            text = f"{exchange.kind} is traded at, but exchange.url does not say where it is"
            yield broken((*at, "url"), text, (*at, "kind"), ENABLED)
        for name in MEMBER:
            if not getattr(exchange, name):
                text = f"{exchange.kind} asks for exchange.{name}"
                yield broken((*at, name), text, (*at, "kind"), ENABLED)


def _window(settings: Settings) -> Iterator[Breach]:
    battery = settings.market.battery
    if settings.market.enabled and battery.soc_min_pct >= battery.soc_max_pct:
        at: KeyPath = ("market", "battery")
        text = f"{battery.soc_min_pct:g} is not below soc_max_pct {battery.soc_max_pct:g}"
        yield broken((*at, "soc_min_pct"), text, ENABLED, (*at, "soc_max_pct"))


def _sendable(settings: Settings) -> Iterator[Breach]:
    """What is bid must be a whole number by the words of the exchange, or no bid ever leaves."""
    market, exchange = settings.market, settings.market.exchange
    if not market.enabled or exchange.kind == "sheet":
        return
    factors = {
        "min_mw": "quantity_out_factor",
        "step_mw": "quantity_out_factor",
        "tick_rs_per_mwh": "price_out_factor",
    }
    for product in market.products:
        for name, factor_name in factors.items():
            value = getattr(getattr(market, f"{product}_terms"), name)
            factor = getattr(exchange, factor_name)
            if abs(value * factor - round(value * factor)) > WHOLE:
                at: KeyPath = ("market", f"{product}_terms", name)
                text = (
                    f"{value:g} times exchange.{factor_name} {factor:g} is no whole number:"
                    " the exchange could not be told"
                )
                yield broken(at, text, ("market", "exchange", factor_name), ENABLED)


def _odd_trading(settings: Settings) -> Iterator[Breach]:
    """Trading that is allowed and may not be meant."""
    market, exchange = settings.market, settings.market.exchange
    if not market.enabled:
        return
    at: KeyPath = ("market", "exchange")
    if settings.mode == "hardware" and not market.dry_run and not exchange.verified:
        text = "real bids by words that nobody has compared with the exchange's papers"
        yield Breach("warning", text, ((*at, "verified"), ("market", "dry_run"), ENABLED))
    if exchange.kind != "sheet" and not exchange.portfolio.startswith(exchange.area):
        text = f"{exchange.portfolio} is not a portfolio of the area {exchange.area}"
        yield Breach("warning", text, ((*at, "portfolio"), (*at, "area")))
    if settings.mode == "hardware" and settings.meter is None:
        text = "no site meter: blocks are accounted by what units measure of themselves"
        yield Breach("warning", text, (ENABLED, ("meter",), ("mode",)))
    forecast = market.forecast
    if forecast.load and forecast.load.unit == SITE and settings.meter is None:
        text = "no site meter tells the load: constant_kw is all that is foreseen"
        yield Breach("warning", text, (("market", "forecast", "load"), ENABLED, ("meter",)))
    least_mw = min(market.dam_terms.min_mw, market.rtm_terms.min_mw)
    rated_mw = sum(unit.rated_power_kw for unit in settings.units) / 1000.0
    if rated_mw < least_mw:
        text = f"the units' {rated_mw:g} MW are less than the least bid of {least_mw:g} MW"
        yield Breach("warning", text, (ENABLED, ("units",)))


def _foreseen(settings: Settings) -> Iterator[Breach]:
    """Solar is taken out of the load, so there must be one."""
    at: KeyPath = ("market", "forecast", "solar")
    forecast = settings.market.forecast
    if settings.market.enabled and forecast.solar and not forecast.load:
        yield broken(at, "solar is foreseen beside the load: give forecast.load too", ENABLED)


MARKET_RULES: tuple[Callable[[Settings], Iterator[Breach]], ...] = (
    _reachable,
    _window,
    _sendable,
    _foreseen,
    _odd_trading,
)
