"""Reactive orders and the droop switch by order, in the whole site on virtual time."""

import pytest

from tests.site_rig import SiteRig, site_settings
from tests.virtual_time import virtual
from vppd.app import site_of
from vppd.campus.plans import base_of
from vppd.core.alarms import Code
from vppd.core.model import Plan, Priority, UnitId
from vppd.core.records import EventRow
from vppd.core.settings_scada import OrderSettings
from vppd.grid.orders import Order, OrderKind, Refusal
from vppd.grid.points import DEFAULT, DROOP_SWITCH, ORDERS_SWITCH, SETPOINTS, wrong
from vppd.northbound.grid_views import frequency
from vppd.orders import droop_switch

PAIR = ("A", "B")


def reactive(rig: SiteRig, kvar: float) -> Order:
    return Order(OrderKind.REACTIVE, kvar, "iec104", rig.now_s)


def held_kvar(rig: SiteRig) -> float:
    return sum(rig.held_kvar(name) for name in rig.names)


def texts(rig: SiteRig) -> list[str]:
    return [row.text for row in rig.rows() if isinstance(row, EventRow) and row.code is Code.ORDER]


@virtual
async def test_a_reactive_order_is_followed_beside_the_power_and_expires() -> None:
    made = site_settings(PAIR, orders=OrderSettings(expiry_s=5.0))
    async with SiteRig(made) as rig:
        rig.plan(40.0, priority=Priority.SCHEDULE, source="schedule")
        assert rig.house.desk.order(reactive(rig, -30.0)) is None
        await rig.until(lambda: abs(held_kvar(rig) + 30.0) < 0.3, 2.0)
        await rig.run(2.5)
        assert rig.sum_kw() == pytest.approx(40.0, abs=0.3)
        await rig.run(3.0)
        assert held_kvar(rig) == 0.0
        assert rig.sum_kw() == pytest.approx(40.0, abs=0.3)
        assert "accepted reactive -30 kvar from iec104" in texts(rig)
        assert "ended reactive -30 kvar from iec104: expired" in texts(rig)


@virtual
async def test_reactive_power_beyond_the_rating_is_refused_and_no_number_is_none() -> None:
    async with SiteRig(site_settings(PAIR)) as rig:
        for kvar, why in (
            (221.0, Refusal.OUT_OF_RANGE),
            (-221.0, Refusal.OUT_OF_RANGE),
            (float("nan"), Refusal.NOT_A_NUMBER),
        ):
            refused = rig.house.desk.order(reactive(rig, kvar))
            assert refused is not None
            assert refused[0] is why
        assert rig.house.desk.order(reactive(rig, 220.0)) is None


def test_an_operators_plan_brings_its_own_reactive_power() -> None:
    site = UnitId("site")
    ordered = Plan(site, 0.0, 9.0, "order reactive", Priority.ORDER, 1.0, 50.0, adds=True)
    schedule = Plan(site, 70.0, 9.0, "schedule", Priority.SCHEDULE, 1.0, 5.0)
    operator = Plan(site, 80.0, 9.0, "operator", Priority.OPERATOR, 1.0, 7.0)
    assert base_of([ordered]).reactive_kvar == 50.0
    assert not base_of([ordered]).planned
    assert base_of([ordered, schedule]).reactive_kvar == 50.0
    assert base_of([ordered, schedule]).power_kw == 70.0
    assert base_of([ordered, schedule, operator]).reactive_kvar == 7.0
    assert base_of([schedule]).reactive_kvar == 5.0


@virtual
async def test_an_order_switches_droop_but_not_against_an_operator() -> None:
    async with SiteRig(site_settings(PAIR)) as rig:
        tick = rig.house.tick
        switch = droop_switch(tick)
        rig.step(49.7)
        await rig.until(lambda: abs(rig.sum_kw() - 24.0) < 0.3, 2.0)
        assert switch(False) is None
        await rig.until(lambda: rig.sum_kw() == 0.0, 2.0)
        assert seen(rig) == {"enabled": False, "by": "order"}
        assert switch(True) is None
        await rig.until(lambda: abs(rig.sum_kw() - 24.0) < 0.3, 2.0)
        tick.duty = tick.duty.switched(False, "operator")
        assert switch(True) == "an operator has switched it off"
        await rig.run(1.0)
        assert rig.sum_kw() == 0.0
        assert seen(rig) == {"enabled": False, "by": "operator"}


def seen(rig: SiteRig) -> object:
    return frequency(site_of(rig.house, dict, None))["droop"]


def test_the_shipped_list_orders_and_switches_what_the_site_knows() -> None:
    assert not list(wrong(DEFAULT))
    assert {each.value for each in DEFAULT if each.kind == "setpoint"} == set(SETPOINTS)
    switches = {each.value for each in DEFAULT if each.kind == "switch"}
    assert switches == {ORDERS_SWITCH, DROOP_SWITCH}
    shown = {each.value for each in DEFAULT if each.kind in {"measured", "single"}}
    assert {*SETPOINTS, *switches} <= shown
