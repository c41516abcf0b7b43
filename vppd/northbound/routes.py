"""The route table: method, path, who may, what it does. Whoever is allowed what stands here and
nowhere else. A route with a verb changes something: it is logged and journaled."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from vppd.northbound import (
    acts,
    campus_views,
    capability,
    commission,
    curves,
    grid_views,
    market_acts,
    market_views,
    metrics,
    named_events,
    order_acts,
    pages,
    views,
)
from vppd.northbound.alarm_views import alarms
from vppd.northbound.ask import Answer, Ask, Text
from vppd.northbound.history import LAST_MAX, recent
from vppd.northbound.peers import Role
from vppd.northbound.problems import Problem
from vppd.northbound.reasons import moment, why_at, why_now

Run = Callable[[Ask], Awaitable[Answer | Text]]
LAST = 50


@dataclass(frozen=True, slots=True)
class Route:
    """One row of the table."""

    method: str
    path: str
    role: Role
    run: Run
    verb: str = ""
    query: frozenset[str] = frozenset()
    stream: bool = False


def shows(view: Callable[[Ask], views.View]) -> Run:
    """A route that only shows something known now."""

    async def run(ask: Ask) -> Answer:
        return Answer(view(ask))

    return run


async def health(ask: Ask) -> Answer:
    """200 while ticks come, be the gate shut or not. Raises Problem 503."""
    age_s = views.tick_age_s(ask.site)
    if age_s is None or age_s >= views.FRESH_TICK_S:
        said = "no tick yet" if age_s is None else f"the last tick was {age_s:.1f} s ago"
        raise Problem(503, "not-controlling", said, tick_age_s=age_s)
    word = views.state(ask.site, ask.site.decision())
    return Answer({"status": "controlling", "state": word, "tick_age_s": age_s})


def status(ask: Ask) -> views.View:
    """The whole site on one page, with its market."""
    market = market_views.state(ask.site) if ask.site.trading is not None else None
    return {**views.status(ask.site), "market": market}


async def why(ask: Ask) -> Answer:
    """The live decision on a unit, or the journal's with `at`."""
    asset, at = ask.asset(), ask.query.get("at")
    if at is None:
        return Answer(why_now(ask.site, asset))
    zone = ask.site.settings.site.timezone
    return Answer(await why_at(ask.site, asset.id, moment(at, ask.site.clock.utc(), zone)))


async def frequency(ask: Ask) -> Answer:
    """With `history` the samples of so many seconds too."""
    history = ask.query.get("history")
    span_s = _count("history", history, int(grid_views.HISTORY_MAX_S)) if history else None
    return Answer(grid_views.frequency(ask.site, span_s))


def region(ask: Ask) -> views.View:
    """The sites of an aggregator. Raises Problem 404."""
    if ask.site.region is None:
        raise Problem(404, "no-region", "this daemon is a site's own; see role in vppd.yaml")
    return dict(ask.site.region())


async def recent_events(ask: Ask) -> Answer:
    """The newest rows of the journal."""
    last = ask.query.get("last")
    return Answer(await recent(ask.site, _count("last", last, LAST_MAX) if last else LAST))


async def stream(_: Ask) -> Answer:
    """Served by `server.py`: a stream has no one answer. Raises Problem 500."""
    raise Problem(500, "internal-error", "a stream was asked like a page")


_V, _O, _A = Role.VIEWER, Role.OPERATOR, Role.ADMIN

METRICS = Route("GET", "/metrics", _V, metrics.scrape)
ROUTES = (
    Route("GET", "/", _V, pages.show),
    METRICS,
    Route("GET", "/v1/health", _V, health),
    Route("GET", "/v1/status", _V, shows(status)),
    Route("GET", "/v1/trail", _V, shows(lambda ask: ask.site.trail.view(ask.site.clock.now_s()))),
    Route("GET", "/v1/alarms", _V, shows(lambda ask: alarms(ask.site))),
    Route("GET", "/v1/events", _V, stream, stream=True),
    Route("GET", "/v1/events/recent", _V, recent_events, query=frozenset({"last"})),
    Route("POST", "/v1/events", _O, named_events.name_event, "event"),
    Route("POST", "/v1/reload", _A, acts.reload, "reload"),
    # the field
    Route("GET", "/v1/units", _V, shows(lambda ask: views.units(ask.site))),
    Route("GET", "/v1/units/{id}", _V, shows(lambda ask: views.unit(ask.site, ask.asset()))),
    Route(
        "GET",
        "/v1/units/{id}/telemetry",
        _V,
        shows(lambda ask: views.whole_telemetry(ask.site.bus.snapshot(), ask.asset())),
    ),
    Route("GET", "/v1/units/{id}/why", _V, why, query=frozenset({"at"})),
    Route("GET", "/v1/units/{id}/samples", _V, shows(commission.samples)),
    Route("GET", "/v1/units/{id}/commission", _V, shows(commission.basis)),
    Route("POST", "/v1/units/{id}/commission", _O, commission.commissioned, "commission"),
    Route("GET", "/v1/units/{id}/curves", _V, curves.show),
    Route("POST", "/v1/units/{id}/curves", _O, curves.change, "curve"),
    Route("POST", "/v1/units/{id}/power", _O, acts.power, "power"),
    Route("DELETE", "/v1/units/{id}/power", _O, acts.release_power, "release"),
    Route("POST", "/v1/units/{id}/control", _O, acts.control, "control"),
    Route("GET", "/v1/safety/violations", _V, shows(lambda ask: views.violations(ask.site))),
    # the campus
    Route("GET", "/v1/campus", _V, shows(lambda ask: campus_views.campus(ask.site))),
    Route("GET", "/v1/campus/telemetry", _V, shows(lambda ask: campus_views.telemetry(ask.site))),
    Route("GET", "/v1/capacity", _V, shows(lambda ask: campus_views.capacity(ask.site))),
    Route("GET", "/v1/capability", _V, shows(lambda ask: capability.capable(ask.site))),
    Route("GET", "/v1/region", _V, shows(region)),
    Route("GET", "/v1/nodes", _V, shows(lambda ask: campus_views.nodes(ask.site))),
    Route("GET", "/v1/nodes/{id}", _V, shows(lambda ask: campus_views.node(ask.site, ask.unit))),
    Route("POST", "/v1/nodes", _O, acts.announce, "announce"),
    Route("DELETE", "/v1/nodes/{id}", _O, acts.forget, "forget"),
    Route("POST", "/v1/dispatch", _O, acts.dispatch, "dispatch"),
    Route("DELETE", "/v1/dispatch", _O, acts.release_dispatch, "release"),
    # the grid
    Route("GET", "/v1/frequency", _V, frequency, query=frozenset({"history"})),
    Route("GET", "/v1/droop", _V, shows(lambda ask: grid_views.droop(ask.site))),
    Route("POST", "/v1/droop", _O, acts.droop, "droop"),
    Route("GET", "/v1/orders", _V, shows(lambda ask: order_acts.orders(ask.site))),
    Route("POST", "/v1/orders", _O, order_acts.order, "order"),
    Route("POST", "/v1/orders/switch", _O, order_acts.switch, "orders"),
    Route("DELETE", "/v1/orders", _O, order_acts.withdraw, "withdraw"),
    # the market
    Route("GET", "/v1/market", _V, market_views.whole_state),
    Route("GET", "/v1/market/prices", _V, market_views.prices, query=frozenset({"day"})),
    Route("GET", "/v1/market/bids", _V, market_views.bids, query=frozenset({"day"})),
    Route("GET", "/v1/market/portfolio", _V, market_views.portfolio, query=frozenset({"day"})),
    Route("GET", "/v1/market/why/{block}", _V, market_views.why),
    Route("POST", "/v1/market/prices", _O, market_acts.seed, "prices"),
    Route("POST", "/v1/market/bids", _O, market_acts.bid, "bid"),
    Route("POST", "/v1/market/control", _O, market_acts.control, "market"),
    Route("GET", "/v1/compliance/report", _V, market_views.compliance, query=frozenset({"month"})),
)


def find(
    method: str, path: str, routes: Sequence[Route] = ROUTES
) -> tuple[Route, Mapping[str, str]]:
    """The row for a request and the words in its path. Raises Problem 404 or 405."""
    allowed: list[str] = []
    for route in routes:
        words = _match(route.path, path)
        if words is not None and route.method == method:
            return route, words
        if words is not None:
            allowed.append(route.method)
    if allowed:
        text = f"{path} does not take {method[:16]}; it takes {', '.join(allowed)}"
        raise Problem(405, "method-not-allowed", text, allowed=allowed)
    raise Problem(404, "unknown-path", f"there is no {path[:128]}; see vppctl --help")


def _match(pattern: str, path: str) -> dict[str, str] | None:
    ours, theirs = pattern.split("/"), path.split("/")
    if len(ours) != len(theirs):
        return None
    words: dict[str, str] = {}
    for our, their in zip(ours, theirs, strict=True):
        if our.startswith("{") and their:
            words[our.strip("{}")] = their
        elif our != their:
            return None
    return words


def _count(name: str, text: str, most: int) -> int:
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:9]) <= most:
        said = f"{name} must be a whole number from 1 to {most}, is {text[:32]}"
        raise Problem(422, "unusable-value", said, field=name)
    return int(text)
