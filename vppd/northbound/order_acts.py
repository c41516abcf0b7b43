"""Orders by an operator: over the same desk and by the same rules as those of the load despatch
centre. An order is not a dispatch: it stands where the grid's orders stand, above the schedule and
below an operator's own base point, and a newer order of its kind takes its place."""

from vppd.grid.order_desk import OrderDesk
from vppd.grid.orders import Order, OrderKind, Standing
from vppd.northbound.acts import DURATION_MAX_S, DURATION_S, HUGE
from vppd.northbound.ask import Answer, Ask
from vppd.northbound.problems import Problem
from vppd.northbound.site import Site
from vppd.northbound.views import View


def orders(site: Site) -> View:
    """What is ordered and in force, and what a delta order may ask for now."""
    return _shown(_desk(site), site.clock.now_s())


async def order(ask: Ask) -> Answer:
    """Take an order. Raises Problem 422 with the desk's reason when it refuses."""
    desk, body = _desk(ask.site), ask.body
    kind = OrderKind(body.choice("kind", tuple(OrderKind)))
    power_kw = body.number("power_kw", low=-HUGE, high=HUGE)
    # nobody's link ends it, so it always has an end of its own
    valid_s = ask.site.settings.orders.expiry_s or DURATION_S
    valid_s = body.number("duration_s", valid_s, low=1.0, high=DURATION_MAX_S)
    ramp = "ramp_kw_per_s"
    ramp_kw_per_s = body.number(ramp, low=0.001, high=HUGE) if body.has(ramp) else None
    body.done()
    now_s = ask.site.clock.now_s()
    refused = desk.order(Order(kind, power_kw, ask.source, now_s, valid_s, ramp_kw_per_s))
    if refused is not None:
        reason, text = refused
        raise Problem(422, "order-refused", text, reason=reason.value, field="power_kw")
    return Answer(_shown(desk, now_s), 202)


async def withdraw(ask: Ask) -> Answer:
    """Give up every order in force, whoever gave it."""
    ask.body.done()
    desk, now_s = _desk(ask.site), ask.site.clock.now_s()
    gone = [_standing(each, now_s) for each in desk.book.standing.values()]
    desk.withdraw(ask.source)
    return Answer({"withdrawn": gone, **_shown(desk, now_s)})


async def switch(ask: Ask) -> Answer:
    """Take orders or take none, until the next start: an operator's word goes over a master's."""
    enabled = ask.body.flag("enabled")
    ask.body.done()
    desk = _desk(ask.site)
    desk.enable("operator", ask.source, enabled=enabled)
    return Answer({**_shown(desk, ask.site.clock.now_s()), "note": "until the next start"})


def _desk(site: Site) -> OrderDesk:
    if site.desk is None:
        raise Problem(404, "not-available", "this daemon takes no orders")
    return site.desk


def _shown(desk: OrderDesk, now_s: float) -> View:
    limits = desk.regulation()
    return {
        "enabled": desk.book.enabled,
        "switched_by": desk.book.switched_by or None,
        "orders": [_standing(each, now_s) for each in desk.book.standing.values()],
        "regulation_up_kw": limits.up_kw,
        "regulation_down_kw": limits.down_kw,
    }


def _standing(standing: Standing, now_s: float) -> View:
    given = standing.order
    left_s = standing.ends_s - now_s
    return {
        "kind": given.kind.value,
        "power_kw": given.power_kw,
        "at_kw": standing.at_kw,
        "source": given.source,
        "id": given.id or None,
        "ends_in_s": left_s if left_s < HUGE else None,
        "link_lost": standing.lost_s is not None,
    }
