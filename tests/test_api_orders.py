"""Orders by an operator over the socket: taken, refused, shown and given up by the desk's rules."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.api_site import Rig, make_rig, open_directory, serving
from vppd.cli.alarm_lines import orders_line
from vppd.cli.order_lines import orders
from vppd.core.settings_scada import OrderSettings
from vppd.grid.order_desk import OrderDesk
from vppd.grid.orders import Offer, OrderKind
from vppd.spine.clock import SystemClock


@pytest.fixture
def directory() -> Iterator[Path]:
    with open_directory() as path:
        yield path


@pytest.fixture
async def rig(directory: Path) -> AsyncIterator[Rig]:
    made = make_rig(directory / "sock", clock=SystemClock())
    offer = Offer(400.0, 400.0, 300.0, 200.0)
    site = made.site
    site.desk = OrderDesk(OrderSettings(), lambda: offer, site.bus, site.clock, lambda _: None)
    async with serving(made) as running:
        yield running


async def test_an_order_is_taken_shown_and_given_up(rig: Rig) -> None:
    body = {"kind": "absolute", "power_kw": -50, "duration_s": 120, "ramp_kw_per_s": 10}
    status, view = await rig.post("/v1/orders", body)
    assert status == 202
    assert view["journaled"] is True
    (order,) = view["orders"]
    assert (order["kind"], order["power_kw"], order["ends_in_s"]) == ("absolute", -50.0, 120.0)
    assert order["source"].startswith("operator:")
    assert (view["regulation_up_kw"], view["regulation_down_kw"]) == (300.0, 200.0)

    status, view = await rig.post("/v1/orders", {"kind": "delta", "power_kw": 20})
    assert status == 202
    assert [each["kind"] for each in view["orders"]] == ["absolute", "delta"]
    assert view["orders"][1]["ends_in_s"] == 60.0  # orders.expiry_s
    assert {plan.adds for plan in rig.site.bus.plans()} == {False, True}

    assert (await rig.get("/v1/orders"))[1]["orders"][0]["power_kw"] == -50.0
    status, view = await rig.call("DELETE", "/v1/orders")
    assert (status, len(view["withdrawn"]), view["orders"]) == (200, 2, [])
    assert rig.site.desk is not None
    assert rig.site.desk.book.power_kw(OrderKind.ABSOLUTE) is None
    verbs = [(row.verb, row.verdict) for row in rig.journal.commands()]
    assert verbs == [("order", "accepted"), ("order", "accepted"), ("withdraw", "accepted")]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"kind": "absolute", "power_kw": 401}, "outside"),
        ({"kind": "delta", "power_kw": -801}, "outside"),
        ({"kind": "more", "power_kw": 1}, "one of absolute, delta"),
        ({"power_kw": 1}, "kind is missing"),
        ({"kind": "delta", "power_kw": 1, "duration_s": 0}, "duration_s must be"),
        ({"kind": "delta", "power_kw": 1, "ramp_kw_per_s": 0}, "ramp_kw_per_s must be"),
        ({"kind": "delta", "power_kw": 1, "for": 5}, "not known here"),
    ],
)
async def test_an_order_that_cannot_be_is_refused(
    rig: Rig, body: dict[str, object], words: str
) -> None:
    status, problem = await rig.post("/v1/orders", body)
    assert status == 422
    assert words in problem["detail"]
    assert list(rig.site.bus.plans()) == []


async def test_orders_switched_off_are_refused_with_the_desks_reason(rig: Rig) -> None:
    assert rig.site.desk is not None
    rig.site.desk.enable("order", "iec104 10.0.0.9", enabled=False)
    status, problem = await rig.post("/v1/orders", {"kind": "absolute", "power_kw": 1})
    assert (status, problem["reason"]) == (422, "switched_off")
    assert "by iec104 10.0.0.9" in problem["detail"]
    view = (await rig.get("/v1/orders"))[1]
    assert (view["enabled"], view["switched_by"]) == (False, "iec104 10.0.0.9")
    assert "vppctl order on" in orders(view)[-2]
    status = (await rig.get("/v1/status"))[1]
    assert status["orders"]["by"] == "iec104 10.0.0.9"
    (line,) = orders_line(status)
    since = status["orders"]["since"]
    assert line == f"orders: off since {since}, by iec104 10.0.0.9; vppctl order on"
    await rig.post("/v1/orders/switch", {"enabled": True})
    back = (await rig.get("/v1/status"))[1]
    assert orders_line(back) == []
    assert back["orders"]["since"] > since


async def test_the_operator_switches_on_what_a_master_switched_off(rig: Rig) -> None:
    desk = rig.site.desk
    assert desk is not None
    desk.enable("order", "iec104 10.0.0.9", enabled=False)
    status, view = await rig.post("/v1/orders/switch", {"enabled": True})
    assert (status, view["enabled"], view["note"]) == (200, True, "until the next start")
    assert view["switched_by"].startswith("operator:")
    assert any("taken" in line for line in orders(view))
    assert (await rig.post("/v1/orders", {"kind": "absolute", "power_kw": 1}))[0] == 202
    first = rig.journal.commands()[0]
    assert (first.verb, first.verdict) == ("orders", "accepted")


async def test_what_the_operator_switched_off_no_master_switches_on(rig: Rig) -> None:
    desk = rig.site.desk
    assert desk is not None
    await rig.post("/v1/orders", {"kind": "absolute", "power_kw": 1})
    status, view = await rig.post("/v1/orders/switch", {"enabled": False})
    assert (status, view["enabled"], view["orders"]) == (200, False, [])
    why = desk.enable("order", "iec104 10.0.0.9", enabled=True)
    assert why is not None
    assert why.startswith("operator:")
    assert (await rig.get("/v1/orders"))[1]["enabled"] is False
    await rig.post("/v1/orders/switch", {"enabled": True})
    assert desk.book.enabled
    for body in ({}, {"enabled": "yes"}, {"enabled": True, "by": "me"}):
        assert (await rig.post("/v1/orders/switch", body))[0] == 422


async def test_without_a_desk_there_is_nothing_to_order(rig: Rig) -> None:
    rig.site.desk = None
    assert (await rig.get("/v1/orders"))[0] == 404
