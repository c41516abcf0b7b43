"""ROCOF by least squares over a window: its delay and its error, as stated."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vppd.grid.rocof import Rocof

DT_S = 0.1


def _fed(window_s: float, course: list[float], dt_s: float = DT_S) -> list[float | None]:
    rocof = Rocof(window_s)
    return [rocof.add(step * dt_s, hz, "pmu") for step, hz in enumerate(course)]


@given(
    st.floats(-5.0, 5.0),
    st.floats(49.0, 51.0),
    st.sampled_from([0.3, 0.5, 1.0, 2.0]),
    st.sampled_from([0.02, 0.05, 0.1]),
)
def test_of_a_ramp_it_is_the_rate(rate: float, start: float, window_s: float, dt_s: float) -> None:
    course = [start + rate * step * dt_s for step in range(120)]
    for slope in _fed(window_s, course, dt_s)[round(window_s / dt_s) :]:
        assert slope == pytest.approx(rate, abs=1e-6)


@pytest.mark.parametrize("window_s", [0.5, 1.0, 2.0])
def test_it_is_late_by_half_a_window(window_s: float) -> None:
    """Of a parabola the slope is that at the middle of the window, exactly; of a rate that steps it
    has half at half a window and the whole after one."""
    assert Rocof(window_s).delay_s == window_s / 2
    course = [50.0 - 0.1 * (step * DT_S) ** 2 for step in range(60)]
    slopes = _fed(window_s, course)
    for step in range(30, 60):
        wanted = -0.2 * (step * DT_S - window_s / 2)
        assert slopes[step] == pytest.approx(wanted, abs=1e-6)
    corner = [50.0 - max(step * 0.02 - 2.0, 0.0) for step in range(400)]
    slopes = _fed(window_s, corner, 0.02)
    begun, frames = 100, round(window_s / 0.02)
    assert slopes[begun] == pytest.approx(0.0, abs=1e-9)
    assert slopes[begun + frames // 2] == pytest.approx(-0.5, abs=0.03)
    assert slopes[begun + frames] == pytest.approx(-1.0, abs=1e-9)


@pytest.mark.parametrize(("window_s", "noise_hz"), [(0.5, 0.001), (1.0, 0.001), (0.5, 0.0004)])
def test_noise_comes_out_as_stated(window_s: float, noise_hz: float) -> None:
    dice = random.Random(4)
    course = [49.9 - 0.2 * step * DT_S + dice.gauss(0.0, noise_hz) for step in range(20_000)]
    errors = [slope + 0.2 for slope in _fed(window_s, course) if slope is not None]
    count = round(window_s / DT_S) + 1
    stated = noise_hz * math.sqrt(12.0 / (count * (count**2 - 1))) / DT_S
    rms = math.sqrt(math.fsum(each**2 for each in errors) / len(errors))
    assert rms == pytest.approx(stated, rel=0.05)
    assert max(map(abs, errors)) < 5.0 * stated


def test_it_begins_anew_with_another_source_and_after_a_gap() -> None:
    rocof = Rocof(0.5)
    for step in range(10):
        rocof.add(step * DT_S, 50.0, "pmu")
    assert rocof.slope_hz_per_s == pytest.approx(0.0)
    assert rocof.add(1.0, 49.0, "pmu2") is None
    for step in range(1, 6):
        seen = rocof.add(1.0 + step * DT_S, 49.0, "pmu2")
    assert seen == pytest.approx(0.0)
    assert rocof.add(9.0, 51.0, "pmu2") is None


def test_older_and_equal_times_are_dropped() -> None:
    rocof = Rocof(0.5)
    for step in range(10):
        rocof.add(step * DT_S, 50.0 + 0.1 * step * DT_S)
    before = rocof.slope_hz_per_s
    assert before == pytest.approx(0.1)
    assert rocof.add(0.9, 45.0) == before
    assert rocof.add(0.2, 45.0) == before
    assert rocof.slope_hz_per_s == before


def test_less_than_a_window_is_no_slope() -> None:
    slopes = _fed(1.0, [50.0] * 12)
    assert [slope is None for slope in slopes] == [True] * 8 + [False] * 4
    assert Rocof(1.0).slope_hz_per_s is None
