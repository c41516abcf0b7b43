"""Droop in full: two sides of their own, the step, the hand-back; each off unless asked for."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.rig import about, words
from tests.test_droop import FULL_KW, PLAIN, Grid, linked
from vppd.core.alarms import Code
from vppd.core.settings import DroopSettings
from vppd.grid.droop_curve import curve_kw, max_of, side_of, stepped_now

hertz = st.floats(45.0, 55.0)
sides = st.builds(
    replace,
    st.just(PLAIN),
    reference=st.sampled_from(["nominal", "deadband_edge"]),
    droop_pct=st.floats(0.5, 20.0),
    over_droop_pct=st.none() | st.floats(0.5, 20.0),
    over_max_power_kw=st.none() | st.floats(1.0, 1000.0),
    step_deviation_hz=st.none() | st.floats(0.01, 3.0),
    step_power_kw=st.none() | st.floats(1.0, 1000.0),
)
STEP = replace(PLAIN, step_deviation_hz=0.3, step_power_kw=60.0)
SUSTAIN = replace(PLAIN, sustain_s=30.0, handback_s=20.0)


def owed_kw(hz: float, droop: DroopSettings) -> float:
    side = side_of(hz, droop, 0)
    stepped = stepped_now(hz, side, droop, 0) != 0
    return curve_kw(hz, side, droop, FULL_KW, stepped=stepped)


# ---- two sides ---------------------------------------------------------------


@given(hertz, st.sampled_from(["nominal", "deadband_edge"]), st.floats(0.5, 20.0))
def test_not_asked_for_it_is_the_same_sum_bit_for_bit(hz: float, ref: str, pct: float) -> None:
    droop = replace(PLAIN, reference=ref, droop_pct=pct)  # type: ignore[arg-type]
    side = side_of(hz, droop, 0)
    edge_hz = droop.deadband_low_hz if side > 0 else droop.deadband_high_hz
    from_hz = droop.nominal_hz if ref == "nominal" else edge_hz
    plain_kw = -FULL_KW / (pct / 100.0) * (hz - from_hz) / droop.nominal_hz
    expected_kw = min(max(plain_kw, -FULL_KW), FULL_KW) if side else 0.0
    assert owed_kw(hz, droop) == expected_kw


@pytest.mark.parametrize(
    ("hz", "kw"),
    [
        (49.7, 48.0),
        (47.0, 400.0),
        (50.3, -75.0 / 2),
        (51.0, -125.0),
        (51.6, -200.0),
        (54.0, -200.0),
    ],
)
def test_high_frequency_by_its_own_slope_and_power(hz: float, kw: float) -> None:
    # 200 kW over 3.2 % of 50 Hz: 125 kW a hertz
    grid = Grid(replace(PLAIN, over_droop_pct=3.2, over_max_power_kw=200.0))
    made = grid.settle(hz)
    assert (made.owed_kw, made.asked_kw) == (about(kw), about(kw))
    assert (Code.DROOP_SATURATED in words(made.clamps)) == (abs(kw) in {200.0, 400.0})
    assert made.curve_kw == made.owed_kw


def test_a_larger_power_at_high_frequency_is_reached_in_a_second_too() -> None:
    droop = replace(PLAIN, over_max_power_kw=800.0, over_droop_pct=1.0, ramp_kw_per_s=None)
    grid = Grid(droop)
    grid.tick(50.0)
    assert grid.settle(52.0, 1.05).asked_kw == about(-800.0)


def test_damping_is_bounded_by_the_power_of_its_side() -> None:
    droop = replace(
        PLAIN,
        over_max_power_kw=50.0,
        rocof_gain_pu_per_hz_per_s=10.0,
        ramp_kw_per_s=1e9,
    )
    grid = Grid(droop)
    grid.tick(50.2)
    for step in range(20):
        assert grid.tick(50.2 + 0.05 * step).asked_kw >= -50.0


@given(hertz, hertz, sides)
def test_every_curve_is_bounded_signed_and_monotone(
    one: float, other: float, droop: DroopSettings
) -> None:
    low_hz, high_hz = min(one, other), max(one, other)
    low_kw, high_kw = owed_kw(low_hz, droop), owed_kw(high_hz, droop)
    assert low_kw >= high_kw
    assert max_of(1, droop, FULL_KW) >= low_kw
    assert high_kw >= -max_of(-1, droop, FULL_KW)
    for hz, kw in ((low_hz, low_kw), (high_hz, high_kw)):
        assert kw * (droop.nominal_hz - hz) >= 0.0
        if droop.deadband_low_hz <= hz <= droop.deadband_high_hz:
            assert kw == 0.0


@given(sides, st.floats(45.0, 54.99))
def test_a_curve_steps_only_where_it_is_told_to(droop: DroopSettings, hz: float) -> None:
    droop = replace(droop, reference="deadband_edge", step_deviation_hz=None)
    most_kw_per_hz = max(
        max_of(side, droop, FULL_KW) / (pct / 100.0 * droop.nominal_hz)
        for side, pct in ((1, droop.droop_pct), (-1, droop.over_droop_pct or droop.droop_pct))
    )
    assert abs(owed_kw(hz + 0.01, droop) - owed_kw(hz, droop)) <= most_kw_per_hz * 0.01 + 1e-6


# ---- the step ----------------------------------------------------------------


def test_the_step_is_the_least_that_a_large_deviation_gets() -> None:
    assert owed_kw(49.71, STEP) == about(46.4)
    assert owed_kw(49.69, STEP) == 60.0
    assert owed_kw(50.31, STEP) == -60.0
    assert owed_kw(49.5, STEP) == about(80.0)  # the curve is above it by then
    assert owed_kw(49.0, replace(STEP, step_power_kw=1e6)) == FULL_KW
    assert owed_kw(49.0, replace(STEP, step_power_kw=None)) == about(160.0)


def test_the_step_does_not_chatter_at_its_edge() -> None:
    grid = Grid(STEP)
    assert grid.tick(49.701).owed_kw == about(47.84)
    assert grid.tick(49.699).owed_kw == 60.0
    assert grid.tick(49.705).owed_kw == 60.0
    assert grid.tick(49.711).owed_kw == about(46.24)
    assert grid.tick(49.705).owed_kw == about(47.2)
    grid.tick(49.6)
    assert grid.tick(50.295).owed_kw == about(-47.2), "the other side has its own edge"


# ---- the hand-back -----------------------------------------------------------


def test_a_response_is_handed_back_after_its_time() -> None:
    grid = Grid(SUSTAIN)
    grid.tick(50.0)
    assert grid.settle(49.7, 30.0).asked_kw == about(48.0)
    assert Code.DROOP_HANDBACK not in words(grid.last.clamps)
    half = grid.settle(49.7, 10.0)
    assert half.asked_kw == about(24.0, abs=1.0)
    assert half.owed_kw == half.curve_kw == about(48.0)
    assert Code.DROOP_HANDBACK in words(half.clamps)
    assert grid.settle(49.7, 11.0).asked_kw == 0.0
    # the next response is a whole one
    grid.tick(50.0)
    assert grid.settle(49.7, 5.0).asked_kw == about(48.0)


def test_nothing_is_handed_back_while_the_deviation_still_demands() -> None:
    grid = Grid(replace(SUSTAIN, handback_within_hz=0.2))
    assert grid.settle(49.7, 100.0).asked_kw == about(48.0)
    grid.settle(49.85, 29.0)
    assert grid.last.asked_kw == about(24.0)
    assert grid.settle(49.85, 22.0).asked_kw == 0.0
    assert grid.settle(49.7, 2.0).asked_kw == about(48.0), "and it demands again"


def test_a_slow_ramp_does_not_eat_the_sustain_time() -> None:
    grid = Grid(replace(SUSTAIN, ramp_kw_per_s=2.0))
    grid.tick(50.0)
    grid.settle(49.7, 24.1)
    assert grid.last.asked_kw == about(48.0, abs=0.5)
    assert grid.settle(49.7, 29.0).asked_kw == about(48.0)
    assert grid.settle(49.7, 15.0).asked_kw < 40.0


def test_not_asked_for_nothing_is_handed_back() -> None:
    assert Grid().settle(49.7, 600.0).asked_kw == about(48.0)


@given(
    st.lists(st.tuples(hertz, st.floats(0.0, 40.0)), max_size=20),
    sides,
    st.none() | st.floats(0.1, 20.0),
    st.none() | st.floats(0.05, 1.0),
)
@settings(max_examples=100)
def test_whatever_is_asked_for_every_difference_is_named(
    seen: list[tuple[float, float]],
    droop: DroopSettings,
    sustain_s: float | None,
    within_hz: float | None,
) -> None:
    grid = Grid(replace(droop, sustain_s=sustain_s, handback_within_hz=within_hz))
    grid.tick(50.0)
    for hz, after_s in seen:
        before_kw = grid.last.asked_kw
        made = grid.tick(hz, after_s)
        most_kw = max(FULL_KW, droop.over_max_power_kw or 0.0)
        assert abs(made.asked_kw - before_kw) <= most_kw * min(after_s, 0.2) + 1e-6
        assert linked(made)
