"""Nothing makes the gate pass a setpoint outside what device, BMS and configuration allow together.

What they allow is worked out here once more, in plain sums from the readings alone.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.rig import (
    B1,
    B2,
    B3,
    HEALTHY,
    HEALTHY_BMS,
    MAX_AGE_S,
    Rig,
    asset,
    chained,
    connection,
)
from vppd.core.alarms import Code
from vppd.core.asset import Asset
from vppd.core.model import Limit, Point, Quality, Request
from vppd.core.settings import SafetySettings
from vppd.field.feeders import Feeder, Feeders

INVERTER = {
    Point.INVERTER_KW: 0.0,
    Point.INVERTER_STATE: 4.0,
    Point.INVERTER_FAULT_BITS: 0.0,
    Point.DISCHARGE_MAX_KW: 100.0,
    Point.CHARGE_MAX_KW: 100.0,
    Point.APPARENT_MAX_KVA: 110.0,
}
ALLOWS = {Point.BMS_CHARGE_ALLOWED: 1.0, Point.BMS_DISCHARGE_ALLOWED: 1.0}
WELL = HEALTHY | HEALTHY_BMS | INVERTER | ALLOWS
# near the edges of each point, where a wrong comparison would show
EDGES: dict[Point, tuple[float, ...]] = {
    Point.SOC_PCT: (0.0, 9.9, 10.0, 10.1, 12.9, 50.0, 94.9, 95.0, 100.0),
    Point.BMS_SOC_PCT: (0.0, 10.0, 50.0, 95.0, 100.0),
    Point.VOLTAGE_V: (0.0, 44.7, 44.8, 45.7, 53.0, 66.0, 67.2, 90.0),
    Point.PACK_V: (-5.0, 44.8, 46.0, 53.0, 67.2),
    Point.CELL_MIN_V: (0.0, 2.8, 2.81, 3.3, 4.2),
    Point.CELL_MAX_V: (0.0, 2.8, 3.3, 4.19, 4.2),
    Point.TEMPERATURE_C: (-20.0, -10.0, 0.0, 2.0, 25.0, 50.0, 55.0, 60.0),
    Point.CELL_MAX_C: (-20.0, 25.0, 54.9, 55.0, 60.0),
    Point.CELL_MIN_C: (-20.0, -10.1, 0.0, 25.0),
    Point.BMS_CHARGE_MAX_A: (-10.0, 0.0, 1.0, 40.0, 100.0),
    Point.BMS_DISCHARGE_MAX_A: (-10.0, 0.0, 1.0, 40.0, 100.0),
    Point.BMS_CHARGE_ALLOWED: (0.0, 1.0),
    Point.BMS_DISCHARGE_ALLOWED: (0.0, 1.0),
    Point.BMS_FAULT_BITS: (0.0, 1.0),
    Point.FAULT_BITS: (0.0, 4.0),
    Point.INVERTER_FAULT_BITS: (0.0, 2.0),
    Point.INVERTER_STATE: (4.0, 7.0),
    Point.DISCHARGE_MAX_KW: (-3.0, 0.0, 30.0, 100.0, 500.0),
    Point.CHARGE_MAX_KW: (-3.0, 0.0, 30.0, 100.0, 500.0),
    Point.APPARENT_MAX_KVA: (-1.0, 0.0, 30.0, 110.0, 500.0),
}


class Said(NamedTuple):
    """One value as a device says it."""

    value: float
    age_s: float
    quality: Quality

    @property
    def believed(self) -> bool:
        fresh = self.quality is Quality.GOOD and 0.0 <= self.age_s <= MAX_AGE_S
        return fresh and math.isfinite(self.value)


class Allowed(NamedTuple):
    """What all together allow."""

    charge_kw: float
    discharge_kw: float
    apparent_kva: float


def allowed(unit: Asset, said: Mapping[Point, Said]) -> Allowed:
    """Worked out without a line of the gate's: every source shuts or narrows one direction."""

    def known(point: Point) -> float | None:
        return said[point].value if point in said and said[point].believed else None

    def all_of(*points: Point) -> list[float] | None:
        """None: one of those that the unit has may not be believed."""
        found = [known(point) for point in points if point in unit.declared]
        return None if None in found else [value for value in found if value is not None]

    limits = unit.safety
    out_kw = in_kw = unit.rated_kw
    circle_kva = unit.apparent_kva

    # the device
    device = {point: known(point) for point in INVERTER}
    out_kw = min(out_kw, max(device[Point.DISCHARGE_MAX_KW] or 0.0, 0.0))
    in_kw = min(in_kw, max(device[Point.CHARGE_MAX_KW] or 0.0, 0.0))
    circle_kva = min(circle_kva, max(device[Point.APPARENT_MAX_KVA] or 0.0, 0.0))
    if device[Point.INVERTER_STATE] in (None, 7.0):
        out_kw = in_kw = 0.0
    for point in (Point.INVERTER_FAULT_BITS, Point.FAULT_BITS, Point.BMS_FAULT_BITS):
        if known(point) != 0.0:
            out_kw = in_kw = 0.0
    if known(Point.POWER_KW) is None or known(Point.INVERTER_KW) is None:
        out_kw = in_kw = 0.0

    # the BMS: amperes of one module at the lowest voltage, over all modules
    pack_v = all_of(Point.VOLTAGE_V, Point.PACK_V)
    volts = max(min(pack_v), 0.0) if pack_v else 0.0
    for point, way in ((Point.BMS_DISCHARGE_MAX_A, "out"), (Point.BMS_CHARGE_MAX_A, "in")):
        allowed_kw = max(known(point) or 0.0, 0.0) * volts * unit.modules / 1000.0
        out_kw = min(out_kw, allowed_kw) if way == "out" else out_kw
        in_kw = min(in_kw, allowed_kw) if way == "in" else in_kw
    if not known(Point.BMS_DISCHARGE_ALLOWED):
        out_kw = 0.0
    if not known(Point.BMS_CHARGE_ALLOWED):
        in_kw = 0.0

    # the configuration
    soc = all_of(Point.SOC_PCT, Point.BMS_SOC_PCT)
    cells = all_of(Point.CELL_MIN_V), all_of(Point.CELL_MAX_V)
    hot = all_of(Point.TEMPERATURE_C, Point.CELL_MAX_C)
    cold = all_of(Point.TEMPERATURE_C, Point.CELL_MIN_C)
    if soc is None or min(soc) <= limits.soc_min_pct:
        out_kw = 0.0
    if soc is None or max(soc) >= limits.soc_max_pct:
        in_kw = 0.0
    if cells[0] is None or min(cells[0]) <= limits.cell_min_v:
        out_kw = 0.0
    if cells[1] is None or max(cells[1]) >= limits.cell_max_v:
        in_kw = 0.0
    if pack_v is None or min(pack_v) <= limits.pack_min_v:
        out_kw = 0.0
    if pack_v is None or max(pack_v) >= limits.pack_max_v:
        in_kw = 0.0
    if hot is None or max(hot) >= min(limits.temperature_max_c, limits.temperature_critical_c):
        out_kw = in_kw = 0.0
    if cold is None or min(cold) < limits.temperature_min_c:
        out_kw = in_kw = 0.0
    if cold is None or min(cold) <= limits.charge_temperature_min_c:
        in_kw = 0.0
    return Allowed(in_kw, out_kw, circle_kva)


def _said(point: Point) -> st.SearchStrategy[Said]:
    wild = st.floats(allow_nan=True, allow_infinity=True)
    edges = EDGES.get(point, (-100.0, 0.0, 100.0))
    values = st.one_of(st.sampled_from(edges), st.sampled_from(edges), wild)
    ages = st.one_of(st.just(0.0), st.sampled_from([MAX_AGE_S, MAX_AGE_S + 0.01, 60.0, -1.0]))
    qualities = st.one_of(st.just(Quality.GOOD), st.sampled_from(list(Quality)))
    return st.builds(Said, values, ages, qualities)


# what bounds power by a number is drawn often, all the rest now and then
BOUNDING = (
    *(Point.DISCHARGE_MAX_KW, Point.CHARGE_MAX_KW, Point.APPARENT_MAX_KVA),
    *(Point.BMS_DISCHARGE_MAX_A, Point.BMS_CHARGE_MAX_A, Point.PACK_V),
)


def _few(points: list[Point], most: int) -> st.SearchStrategy[dict[Point, Said]]:
    return st.lists(st.sampled_from(points), max_size=most, unique=True).flatmap(
        lambda chosen: st.fixed_dictionaries({point: _said(point) for point in chosen})
    )


saids = st.builds(
    lambda one, other: one | other,
    _few(sorted(BOUNDING), 3),
    st.one_of(st.just({}), _few(sorted(WELL), 4)),
)


def _safety() -> st.SearchStrategy[dict[str, Any]]:
    """Any limits that the configuration takes: each window ordered."""

    def within(**ranges: tuple[float, float]) -> st.SearchStrategy[dict[str, Any]]:
        return st.fixed_dictionaries({name: st.floats(*each) for name, each in ranges.items()})

    return st.one_of(
        st.just({}),
        within(
            soc_min_pct=(0, 45),
            soc_max_pct=(46, 100),
            soc_fade_pct=(0, 50),
            soc_hysteresis_pct=(0, 20),
            cell_min_v=(2.0, 3.2),
            cell_max_v=(3.35, 5.0),
            cell_delta_max_v=(0.03, 2),
            pack_min_v=(10, 50),
            pack_max_v=(54, 100),
            temperature_min_c=(-60, -5),
            charge_temperature_min_c=(-5, 20),
            charge_temperature_fade_c=(0, 10),
            temperature_max_c=(30, 58),
            temperature_fade_c=(0, 20),
            temperature_critical_c=(40, 150),
        ),
    )


asks = st.one_of(
    st.floats(-300.0, 300.0),
    st.sampled_from([1e300, -1e300, 150.0, -150.0, 100.0, -100.0, 0.0]),
    st.floats(allow_nan=True, allow_infinity=True),
)


def opened(unit: Asset) -> Rig:
    """A rig whose unit has told all it has, all well, and is open."""
    rig = Rig(unit, feeders=connection(unit))
    for _ in range(3):
        for point, value in WELL.items():
            rig.say(B1, point, value)
        rig.submit()
        rig.answer()
        rig.clock.t_s += 0.1
    for point, value in WELL.items():
        rig.say(B1, point, value)
    return rig


@given(saids, saids, _safety(), asks, asks, st.booleans(), st.integers(1, 60))
@settings(max_examples=400, deadline=None)
def test_no_input_passes_what_device_bms_and_configuration_do_not_allow(
    before: dict[Point, Said],
    now: dict[Point, Said],
    limits: dict[str, Any],
    asked_kw: float,
    asked_kvar: float,
    reactive_first: bool,
    modules: int,
) -> None:
    declared = frozenset(WELL)
    unit = asset(declared=declared, reactive_first=reactive_first, modules=modules, **limits)
    rig = opened(unit)
    well = {point: Said(value, 0.0, Quality.GOOD) for point, value in WELL.items()}
    for tick, said in enumerate((before, now)):
        for point, each in (well | said).items():
            rig.say(B1, point, each.value, each.age_s, each.quality)
        got = rig.submit(Request(B1, 0.0, asked_kw, asked_kvar))[B1]
        bound = allowed(unit, well | said)
        assert -bound.charge_kw - 1e-6 <= got.power_kw <= bound.discharge_kw + 1e-6, tick
        circle_kva = math.hypot(got.power_kw, got.reactive_kvar)
        assert circle_kva <= bound.apparent_kva * (1.0 + 1e-9) + 1e-6, tick
        for asked, gave in ((asked_kw, got.power_kw), (asked_kvar, got.reactive_kvar)):
            assert abs(gave) <= (abs(asked) if math.isfinite(asked) else 0.0)
            assert not math.isfinite(asked) or gave * asked >= 0.0
        rig.answer()
        rig.clock.t_s += 0.1


def test_all_of_it_is_passed_when_all_is_well() -> None:
    """Lest the law above hold for a gate that passes nothing."""
    unit = asset(declared=frozenset(WELL))
    for asked_kw in (100.0, -100.0):
        assert opened(unit).ask(asked_kw).power_kw == asked_kw
    assert opened(unit).ask(60.0, 80.0).reactive_kvar == 80.0


@pytest.mark.parametrize(
    ("values", "out_kw", "in_kw"),
    [
        ({Point.DISCHARGE_MAX_KW: 30.0}, 30.0, 100.0),
        ({Point.CHARGE_MAX_KW: 30.0}, 100.0, 30.0),
        ({Point.APPARENT_MAX_KVA: 50.0}, 50.0, 50.0),
        ({Point.BMS_DISCHARGE_MAX_A: 40.0}, 40.0 * 53.0 * 23 / 1000.0, 100.0),
        ({Point.BMS_CHARGE_MAX_A: 40.0, Point.PACK_V: 50.0}, 100.0, 40.0 * 50.0 * 23 / 1000.0),
        ({Point.BMS_CHARGE_ALLOWED: 0.0}, 100.0, 0.0),
        ({Point.SOC_PCT: 10.0}, 0.0, 100.0),
        ({Point.INVERTER_STATE: 7.0}, 0.0, 0.0),
    ],
)
def test_each_source_alone(values: dict[Point, float], out_kw: float, in_kw: float) -> None:
    for asked_kw, bound_kw in ((500.0, out_kw), (-500.0, -in_kw)):
        rig = opened(asset(declared=frozenset(WELL)))
        for point, value in values.items():
            rig.say(B1, point, value)
        assert rig.ask(asked_kw).power_kw == pytest.approx(bound_kw)


def test_the_limits_of_the_strategy_are_those_of_the_settings() -> None:
    """A new window of SafetySettings must be thought of here."""
    named: set[str] = set()
    for field in SafetySettings.__slots__:
        if field.endswith(("_min_pct", "_max_pct", "_min_v", "_max_v", "_min_c", "_max_c")):
            named.add(field)
    thought_of: set[Any] = {
        *("soc_min_pct", "soc_max_pct", "cell_min_v", "cell_max_v", "cell_delta_max_v"),
        *("pack_min_v", "pack_max_v", "temperature_min_c", "temperature_max_c"),
        *("charge_temperature_min_c", "soh_min_pct"),
    }
    assert named <= thought_of


powers = st.floats(-200.0, 200.0)


@given(
    st.lists(st.tuples(powers, powers, st.booleans()), min_size=3, max_size=3),
    st.floats(0.0, 250.0),
    st.floats(0.0, 400.0),
)
@settings(max_examples=200, deadline=None)
def test_no_circle_is_left_neither_a_units_nor_a_feeders(
    asked: list[tuple[float, float, bool]], leaf_kva: float, root_kva: float
) -> None:
    """Whichever power goes first in the units, behind a feeder and behind the connection."""
    ids = (B1, B2, B3)
    units = [
        asset(id_, reactive_first=first, apparent_kva=110.0)
        for id_, (_, _, first) in zip(ids, asked, strict=True)
    ]
    leaf = Limit(-leaf_kva, leaf_kva, Code.CONNECTION, "leaf", leaf_kva)
    root = Limit(-root_kva, root_kva, Code.CONNECTION, "root", root_kva)
    feeders = Feeders((Feeder((B1, B2), leaf), Feeder(ids, root)))
    rig = Rig(*units, feeders=feeders).open()
    got = rig.submit(
        *(Request(id_, 0.0, kw, kvar) for id_, (kw, kvar, _) in zip(ids, asked, strict=True))
    )
    for members, kva in (((B1, B2), leaf_kva), (ids, root_kva), *(((id_,), 110.0) for id_ in ids)):
        sum_kw = sum(got[id_].power_kw for id_ in members)
        sum_kvar = sum(got[id_].reactive_kvar for id_ in members)
        assert math.hypot(sum_kw, sum_kvar) <= kva + 1e-6
    for id_, (kw, kvar, _) in zip(ids, asked, strict=True):
        assert abs(got[id_].power_kw) <= abs(kw)
        assert abs(got[id_].reactive_kvar) <= abs(kvar)
        assert chained(got[id_])
