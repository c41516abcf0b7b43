"""Battery and inverter: energy is conserved, limits hold, and the exact solution is one."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vppd.sim.battery import CELLS, Battery, Chemistry, open_circuit_v
from vppd.sim.inverter import EFFICIENCY, LAG_S, Inverter, dc_kw, follow

POWERS = st.floats(-100.0, 100.0)
LOADS = st.lists(st.tuples(POWERS, st.floats(0.01, 120.0)), min_size=1, max_size=30)


def battery(**how: float) -> Battery:
    return Battery(100.0, 250.0, 23, **how)  # type: ignore[arg-type]


@given(LOADS)
def test_energy_is_conserved(loads: list[tuple[float, float]]) -> None:
    store = battery()
    before_kwh = store.stored_kwh
    delivered_kwh = 0.0
    for power_kw, duration_s in loads:
        store.advance(power_kw, duration_s)
        delivered_kwh += power_kw * duration_s / 3600.0
    assert before_kwh - store.stored_kwh == pytest.approx(delivered_kwh + store.heat_kwh, abs=1e-9)
    assert store.heat_kwh >= -1e-12


@given(st.floats(1.0, 100.0), st.floats(60.0, 1800.0), st.sampled_from(Chemistry))
def test_a_round_trip_loses_but_not_much(
    power_kw: float, duration_s: float, chemistry: Chemistry
) -> None:
    store = Battery(100.0, 250.0, 23, chemistry=chemistry)
    before_kwh = store.stored_kwh
    store.advance(-power_kw, duration_s)
    taken_kwh = power_kw * duration_s / 3600.0
    gained_kwh = store.stored_kwh - before_kwh
    step_s = duration_s / 200.0
    given_kwh = 0.0
    while store.stored_kwh > before_kwh:
        store.advance(power_kw, step_s)
        given_kwh += power_kw * step_s / 3600.0
    assert gained_kwh < taken_kwh
    assert 0.88 < given_kwh / taken_kwh < 1.0


@given(LOADS)
def test_discharge_lowers_and_charge_raises(loads: list[tuple[float, float]]) -> None:
    store = battery()
    for power_kw, duration_s in loads:
        before_kwh = store.stored_kwh
        store.advance(power_kw, duration_s)
        change_kwh = store.stored_kwh - before_kwh
        assert change_kwh <= 0.0 if power_kw > 0.0 else change_kwh >= 0.0


def test_an_hour_at_rated_power_takes_forty_percent_and_the_losses() -> None:
    store = battery(soc_pct=90.0)
    for _ in range(3600):
        store.advance(100.0, 1.0)
    assert 90.0 - store.soc_pct == pytest.approx(40.0 / 0.985 * 1.02, abs=0.25)


@pytest.mark.parametrize("chemistry", Chemistry)
def test_the_pack_fits_its_window(chemistry: Chemistry) -> None:
    volts = [CELLS * open_circuit_v(chemistry, soc / 2.0) for soc in range(201)]
    assert volts == sorted(volts)
    assert volts[0] >= 44.8
    assert volts[-1] <= 67.2


def test_current_is_of_one_module_and_voltage_sags_with_it() -> None:
    store = battery()
    rest_v = store.voltage_v
    store.dc_kw = 100.0
    assert store.current_a * store.voltage_v * 23 / 1000.0 == pytest.approx(100.0, abs=1e-6)
    assert store.voltage_v == pytest.approx(rest_v * 0.98, rel=0.005)
    assert 70.0 < store.current_a < 80.0
    store.dc_kw = -100.0
    assert store.current_a < -70.0
    assert store.voltage_v > rest_v


def test_sixteen_cells_make_the_pack_and_differ_a_little() -> None:
    store = battery(seed=3)
    cells_v = store.cells_v()
    assert len(cells_v) == 16
    assert sum(cells_v) == pytest.approx(store.voltage_v)
    assert 0.001 < max(cells_v) - min(cells_v) < 0.05
    assert cells_v != battery(seed=4).cells_v()
    assert cells_v == battery(seed=3).cells_v()


def test_rated_power_warms_slowly_and_rest_cools() -> None:
    store = battery()
    for second in range(3600):
        store.advance(100.0 if second % 2 else -100.0, 1.0)
    warm_c = store.temperature_c
    assert 26.0 < warm_c < 45.0
    for _ in range(3600):
        store.advance(0.0, 10.0)
    assert 25.0 <= store.temperature_c < 25.5


@given(POWERS, POWERS, st.floats(0.001, 5.0), st.integers(2, 20))
def test_following_in_one_step_or_many_is_the_same(
    start_kw: float, target_kw: float, duration_s: float, pieces: int
) -> None:
    once_kw, mean_kw = follow(start_kw, target_kw, LAG_S, 250.0, duration_s)
    power_kw, area = start_kw, 0.0
    for _ in range(pieces):
        power_kw, piece_kw = follow(power_kw, target_kw, LAG_S, 250.0, duration_s / pieces)
        area += piece_kw * duration_s / pieces
    assert power_kw == pytest.approx(once_kw, abs=1e-6)
    assert area == pytest.approx(mean_kw * duration_s, abs=1e-6)
    low_kw, high_kw = sorted((start_kw, target_kw))
    assert low_kw <= once_kw <= high_kw
    assert abs(once_kw - start_kw) <= 250.0 * duration_s + 1e-9


def test_following_is_ramp_then_lag() -> None:
    assert follow(0.0, 100.0, LAG_S, 250.0, 0.1) == (25.0, 12.5)
    end_kw, _ = follow(0.0, 100.0, LAG_S, 250.0, 0.4 - LAG_S + LAG_S)
    assert end_kw == pytest.approx(100.0 - 30.0 * math.exp(-1.0))


@given(st.floats(-500.0, 500.0), st.floats(-500.0, 500.0))
def test_the_inverter_stays_in_its_circle(power_kw: float, reactive_kvar: float) -> None:
    inverter = Inverter(100.0, 110.0)
    for _ in range(40):
        inverter.advance(power_kw, reactive_kvar, 0.1)
        assert abs(inverter.power_kw) <= 100.0 + 1e-9
        assert math.hypot(inverter.power_kw, inverter.reactive_kvar) <= 110.0 + 1e-6
    assert inverter.power_kw == pytest.approx(min(max(power_kw, -100.0), 100.0), abs=0.1)


def test_efficiency_costs_both_ways() -> None:
    assert dc_kw(97.5) == pytest.approx(97.5 / EFFICIENCY)
    assert dc_kw(-100.0) == pytest.approx(-97.5)
