"""Units without a battery controller: what their inverter or their BMS knows is judged like any."""

from typing import Any

import pytest

from tests.rig import B1, Rig, asset
from vppd.core.alarms import Code
from vppd.core.asset import BATTERY_POINTS, asset_of
from vppd.core.bms import BmsProfile, FrameSpec, SignalSpec
from vppd.core.model import Point, Quality
from vppd.core.settings import BmsSettings, InverterSettings, UnitSettings

SEEN = {
    Point.POWER_KW: 0.0,
    Point.SETPOINT_KW: 0.0,
    Point.SOC_PCT: 50.0,
    Point.INVERTER_STATE: 4.0,
    Point.INVERTER_FAULT_BITS: 0.0,
}
BATTERY = {
    Point.SOH_PCT: 98.0,
    Point.CELL_MIN_V: 3.30,
    Point.CELL_MAX_V: 3.32,
    Point.CELL_MIN_C: 24.0,
    Point.CELL_MAX_C: 26.0,
}


def unit(**more: Any) -> UnitSettings:
    at = InverterSettings(host="h")
    return UnitSettings(
        id=B1, building="north", rated_power_kw=100.0, energy_kwh=250.0, inverter=at, **more
    )


def alone(**battery: float) -> Rig:
    """Its gate, when all that the inverter shows was read."""
    rig = Rig(asset_of(unit(), None))
    show(rig, **battery)
    return rig


def show(rig: Rig, **values: float) -> None:
    for point, value in (SEEN | ({} if not values else BATTERY)).items():
        rig.say(B1, point, values.get(point, value))
    rig.submit()


def test_without_battery_models_it_works_by_what_every_inverter_shows() -> None:
    rig = alone()
    assert rig.ask(50.0).power_kw == 50.0


@pytest.mark.parametrize(
    ("point", "value", "out_kw", "in_kw"),
    [
        ("cell_max_c", 26.0, 100.0, -100.0),
        ("cell_max_c", 56.0, 0.0, 0.0),
        ("cell_min_c", -5.0, 100.0, 0.0),
        ("cell_min_v", 2.7, 0.0, -100.0),
        ("cell_max_v", 4.25, 0.0, 0.0),
    ],
)
def test_what_it_shows_of_its_battery_is_judged(
    point: str, value: float, out_kw: float, in_kw: float
) -> None:
    rig = alone(**{point: value})
    if point == "cell_max_v":  # and the cells are far apart: the discharge is halved
        out_kw = 50.0
    if point == "cell_min_v":
        in_kw = -50.0
    assert (rig.ask(100.0).power_kw, rig.ask(-100.0).power_kw) == (out_kw, in_kw)


def test_a_battery_that_burns_is_shut_down_for_good() -> None:
    rig = alone(cell_max_c=61.0)
    assert {latch.code for latch in rig.latches.all()} == {Code.OVER_TEMPERATURE}
    show(rig, cell_max_c=30.0)
    assert rig.ask(50.0).power_kw == 0.0


def test_what_it_showed_once_and_is_not_believed_now_leaves_nothing() -> None:
    rig = alone(cell_max_c=30.0)
    assert rig.ask(50.0).power_kw == 50.0
    rig.say(B1, Point.CELL_MAX_C, 30.0, quality=Quality.MISSING)
    assert rig.ask(50.0).power_kw == 0.0
    assert rig.ask(-50.0).power_kw == 0.0


def test_only_a_unit_that_has_nobody_else_to_ask_believes_its_inverter() -> None:
    frames = {"F": FrameSpec(period_s=1.0)}
    signal = SignalSpec(signals=("SOC",))
    bms = BmsProfile(
        name="b", maker="", model="", source="", frames=frames, points={Point.BMS_SOC_PCT: signal}
    )
    assert asset_of(unit(), None).may_show == BATTERY_POINTS
    with_bms = asset_of(unit(bms=BmsSettings(dbc="b", channel="c")), None, bms)
    assert not with_bms.may_show
    assert with_bms.soc_resolution_pct == 1.0


def test_a_charge_that_only_a_bms_knows_is_watched_for_its_speed() -> None:
    declared = frozenset({Point.POWER_KW, Point.BMS_SOC_PCT})
    rig = Rig(asset(declared=declared, soc_resolution_pct=1.0))
    for second in range(150):
        rig.clock.t_s += 1.0
        rig.say(B1, Point.POWER_KW, 0.0)
        rig.say(B1, Point.BMS_SOC_PCT, 80.0 - second // 20)  # 3 % a minute
        got = rig.ask(100.0)
    assert got.power_kw == 50.0
    assert Code.SOC_RATE in got.bound_by
