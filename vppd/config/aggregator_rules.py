"""What must hold where the units are sites: an aggregator has no device of its own."""

from collections.abc import Callable, Iterator

from vppd.config.document import KeyPath
from vppd.config.rules import Breach, broken
from vppd.core.settings import Settings

ROLE: KeyPath = ("role",)
NODE = "{node_id}"


def _sites_alone(settings: Settings) -> Iterator[Breach]:
    for index, unit in enumerate(settings.units):
        for name in ("modbus", "inverter", "bms"):
            if getattr(unit, name) is not None:
                text = (
                    f"a unit of an aggregator is a site, which has no {name} here;"
                    " batteries at this place need a daemon of their own, with role: site"
                )
                yield broken(("units", index, name), text, ROLE)
        if unit.id == settings.site.id:
            text = f"{unit.id} is this aggregator itself"
            yield broken(("units", index, "id"), text, ROLE, ("site", "id"))
    if settings.interlock_inputs:
        yield broken(("interlock_inputs",), "an aggregator has no devices", ROLE)
    if settings.meter is not None:
        yield broken(("meter",), "an aggregator has no devices", ROLE)


def _not_here(settings: Settings) -> Iterator[Breach]:
    if settings.mqtt is None:
        text = "an aggregator reaches its sites over a broker: give mqtt.url"
        yield broken(ROLE, text, ("mqtt",))
    elif settings.mqtt.detail != "site":
        text = "sites tell of themselves, on the same topics. Write detail: site"
        yield broken(("mqtt", "detail"), text, ROLE)
    if settings.mode != "hardware":
        text = f"{settings.mode}: sites are never simulated here; an aggregator has mode: hardware"
        yield broken(("mode",), text, ROLE)
    if settings.droop.enabled:
        text = (
            "sites answer frequency themselves, in a tenth of a second; an order takes seconds."
            " Write enabled: false"
        )
        yield broken(("droop", "enabled"), text, ROLE)
    if settings.dispatch.strategy == "losses":
        text = "the losses inside a site are not known here; sites share theirs by it themselves"
        yield broken(("dispatch", "strategy"), text, ROLE)
    if settings.market.enabled:
        text = "sites trade; an aggregator orders and adds up. Write enabled: false"
        yield broken(("market", "enabled"), text, ROLE)


def _orders_last(settings: Settings) -> Iterator[Breach]:
    own = settings.aggregator
    if own.order_valid_s < 2.0 * own.period_s:
        text = f"{own.order_valid_s:g} s is less than two periods: orders would end before the next"
        yield broken(("aggregator", "order_valid_s"), text, ("aggregator", "period_s"), ROLE)
    for name in ("telemetry", "commands", "status", "registration", "events", "members"):
        if NODE not in getattr(own.topics, name):
            text = f"{NODE} must stand in it: it says whose topic it is"
            yield broken(("aggregator", "topics", name), text, ROLE)


def aggregating(settings: Settings) -> Iterator[Breach]:
    """Every rule of an aggregator; none of a site."""
    rules: tuple[Callable[[Settings], Iterator[Breach]], ...]
    rules = (_sites_alone, _not_here, _orders_last)
    for rule in rules if settings.role == "aggregator" else ():
        yield from rule(settings)
