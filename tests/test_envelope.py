"""Limits as sums: whatever comes in, what goes out is nearer to zero and inside every limit."""

import math
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.rig import about
from vppd.core.alarms import MEANINGS, Code
from vppd.core.envelope import (
    circle,
    clamp,
    fit,
    fit_each_way,
    intersect,
    kvar_at,
    ramp,
    slew,
    within_circle,
)
from vppd.core.model import Limit

TINY, HUGE = sys.float_info.min * sys.float_info.epsilon, sys.float_info.max
anything = st.floats(allow_nan=True, allow_infinity=True)
finite = st.floats(allow_nan=False, allow_infinity=False)
powers = st.one_of(st.floats(-1e6, 1e6), st.sampled_from([0.0, -0.0, TINY, -TINY]))
steps = st.one_of(st.floats(0.0, 1e4), st.just(TINY))
codes = st.sampled_from(list(Code))
limits = st.builds(
    Limit,
    st.one_of(st.floats(-1e6, 0.0), st.sampled_from([-math.inf, -HUGE, -TINY, -0.0])),
    st.one_of(st.floats(0.0, 1e6), st.sampled_from([math.inf, HUGE, TINY, -0.0])),
    codes,
    st.just(""),
    st.one_of(st.just(math.inf), st.floats(0.0, 1e6)),
)


@given(anything, anything, anything)
@example(math.nan, 1.0, 1.0)
@example(-1.0, math.nan, 1.0)
@example(-1.0, 1.0, math.nan)
def test_a_limit_holds_zero_or_is_refused(low_kw: float, high_kw: float, kva: float) -> None:
    if low_kw <= 0.0 <= high_kw and kva >= 0.0:
        assert Limit(low_kw, high_kw, Code.ROOM, "", kva).low_kw == low_kw
    else:
        with pytest.raises(ValueError, match="contain 0"):
            Limit(low_kw, high_kw, Code.ROOM, "", kva)


@given(st.lists(limits, min_size=1, max_size=5), anything)
def test_the_intersection_is_where_all_agree(given_: list[Limit], power_kw: float) -> None:
    both = intersect(given_, Code.ROOM)
    inside = all(each.low_kw <= power_kw <= each.high_kw for each in given_)
    assert (both.low_kw <= power_kw <= both.high_kw) == inside
    assert both.apparent_kva == min(each.apparent_kva for each in given_)
    assert both.why is Code.ROOM


def test_no_limit_leaves_nothing() -> None:
    nothing = intersect([])
    assert (nothing.low_kw, nothing.high_kw) == (0.0, 0.0)
    power_kw, (cut,) = clamp(5.0, [])
    assert (power_kw, cut.why, cut.before_kw, cut.after_kw) == (0.0, Code.ROOM, 5.0, 0.0)
    assert "no limit" in cut.detail


@given(anything, st.lists(limits, min_size=1, max_size=5))
@settings(max_examples=300)
def test_clamped_power_is_inside_every_limit_and_says_who_cut(
    asked_kw: float, given_: list[Limit]
) -> None:
    got_kw, clamps = clamp(asked_kw, given_)
    assert all(each.low_kw <= got_kw <= each.high_kw for each in given_)
    if not math.isfinite(asked_kw):
        assert got_kw == 0.0
        assert clamps[0].why is Code.NOT_FINITE
        assert str(asked_kw) in clamps[0].detail
        return
    assert abs(got_kw) <= abs(asked_kw)
    assert got_kw * asked_kw >= 0.0
    assert bool(clamps) == (got_kw != asked_kw)
    assert clamp(got_kw, given_) == (got_kw, ())
    at_kw = asked_kw
    for cut in clamps:  # a chain, each link nearer to zero
        assert cut.before_kw == at_kw
        assert abs(cut.after_kw) <= abs(cut.before_kw)
        at_kw = cut.after_kw
    assert at_kw == got_kw
    cutters = [each for each in given_ if not each.low_kw <= asked_kw <= each.high_kw]
    assert sorted(cut.why for cut in clamps) == sorted(each.why for each in cutters)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_every_limit_that_cuts_is_named_the_tightest_last(sign: float) -> None:
    two = [
        Limit(-30.0, 30.0, Code.SOC_LOW, "tight"),
        Limit(-50.0, 50.0, Code.RATING, "wide"),
        Limit(-90.0, 90.0, Code.RAMP, "no cut"),
    ]
    got_kw, clamps = clamp(sign * 80.0, two)
    assert got_kw == sign * 30.0
    assert [(c.why, c.before_kw, c.after_kw, c.detail) for c in clamps] == [
        (Code.RATING, sign * 80.0, sign * 50.0, "wide"),
        (Code.SOC_LOW, sign * 50.0, sign * 30.0, "tight"),
    ]
    assert clamp(sign * 30.0, two) == (sign * 30.0, ())


@given(powers, powers, steps)
@example(-TINY, TINY, 0.0)
@example(10.0, 10.0, 0.0)
def test_ramp_moves_away_from_zero_by_a_step_and_home_at_once(
    before_kw: float, target_kw: float, step_kw: float
) -> None:
    got_kw = ramp(before_kw, target_kw, step_kw)
    start_kw = before_kw if before_kw * target_kw > 0.0 else 0.0
    assert abs(got_kw) <= abs(target_kw)
    assert got_kw * target_kw >= 0.0
    if abs(target_kw) <= abs(start_kw):
        assert got_kw == target_kw
    else:
        assert abs(got_kw) == pytest.approx(min(abs(target_kw), abs(start_kw) + step_kw))


@pytest.mark.parametrize(
    ("before_kw", "target_kw", "step_kw", "got_kw"),
    [
        (0.0, 50.0, 10.0, 10.0),
        (0.0, -50.0, 10.0, -10.0),
        (45.0, 50.0, 10.0, 50.0),
        (50.0, 20.0, 10.0, 20.0),
        (50.0, 0.0, 0.0, 0.0),
        (50.0, -50.0, 10.0, -10.0),  # through zero: home at once, then a step
        (-50.0, -60.0, 10.0, -60.0),
        (-50.0, -61.0, 10.0, -60.0),
        (-50.0, 5.0, 10.0, 5.0),
    ],
)
def test_ramp_by_hand(before_kw: float, target_kw: float, step_kw: float, got_kw: float) -> None:
    assert ramp(before_kw, target_kw, step_kw) == got_kw


@given(powers, powers, steps)
def test_slew_moves_by_a_step_either_way(
    before_kw: float, target_kw: float, step_kw: float
) -> None:
    got_kw = slew(before_kw, target_kw, step_kw)
    assert min(before_kw, target_kw) <= got_kw <= max(before_kw, target_kw)
    assert abs(got_kw - before_kw) <= step_kw * (1.0 + 1e-9) + 1e-9
    if abs(target_kw - before_kw) <= step_kw:
        assert got_kw == pytest.approx(target_kw, abs=1e-9)
    else:
        assert abs(got_kw - before_kw) == pytest.approx(step_kw, abs=1e-6)


@given(
    st.lists(st.one_of(st.floats(-1e4, 1e4), st.sampled_from([TINY, -TINY, 0.0])), max_size=6),
    st.floats(-2e4, 0.0),
    st.floats(0.0, 2e4),
)
@settings(max_examples=300)
def test_fit_keeps_the_sum_and_every_direction(
    before_kw: list[float], low_kw: float, high_kw: float
) -> None:
    after_kw = fit(before_kw, Limit(low_kw, high_kw, Code.CONNECTION))
    assert low_kw - 1e-6 <= sum(after_kw) <= high_kw + 1e-6
    for before, after in zip(before_kw, after_kw, strict=True):
        assert abs(after) <= abs(before)
        assert after * before >= 0.0
    if low_kw <= math.fsum(before_kw) <= high_kw:
        assert after_kw == pytest.approx(before_kw, rel=1e-9)


@given(st.lists(st.floats(-1e4, 1e4), max_size=6), st.floats(-2e4, 0.0), st.floats(0.0, 2e4))
def test_fit_each_way_leaves_nothing_to_the_other_way(
    before_kw: list[float], low_kw: float, high_kw: float
) -> None:
    after_kw = fit_each_way(before_kw, Limit(low_kw, high_kw, Code.CONNECTION))
    assert sum(each for each in after_kw if each > 0.0) <= high_kw + 1e-6
    assert sum(each for each in after_kw if each < 0.0) >= low_kw - 1e-6
    for before, after in zip(before_kw, after_kw, strict=True):
        assert abs(after) <= abs(before)
        assert after * before >= 0.0
    assert fit_each_way([80.0, -30.0, 20.0], Limit(-15.0, 50.0, Code.CONNECTION)) == about(
        [40.0, -15.0, 10.0]
    )


def test_fit_shrinks_only_those_who_push_the_sum_out() -> None:
    site = Limit(-40.0, 60.0, Code.CONNECTION)
    assert fit([100.0, 50.0, -30.0], site) == pytest.approx([60.0, 30.0, -30.0])
    assert fit([10.0, -100.0, -20.0], site) == pytest.approx([10.0, -250.0 / 6.0, -50.0 / 6.0])
    assert fit([90.0, -30.0], site) == [90.0, -30.0]
    assert fit([30.0, -70.0], site) == [30.0, -70.0]
    assert fit([90.0], Limit(0.0, 0.0, Code.CONNECTION)) == [0.0]
    assert fit([], site) == []


@given(anything, anything, st.floats(0.0, 1e6))
def test_reactive_power_stays_in_the_circle(power_kw: float, kvar: float, kva: float) -> None:
    power_kw = min(max(power_kw, -kva), kva) if math.isfinite(power_kw) else 0.0
    got_kvar = within_circle(power_kw, kvar, kva)
    assert math.hypot(power_kw, got_kvar) <= kva * (1.0 + 1e-9) + 1e-6
    if not math.isfinite(kvar):
        assert got_kvar == 0.0
    else:
        assert abs(got_kvar) <= abs(kvar)
        assert got_kvar * kvar >= 0.0
        if math.hypot(power_kw, kvar) <= kva * (1.0 - 1e-9):
            assert got_kvar == pytest.approx(kvar, abs=1e-6)


def test_reactive_power_by_hand() -> None:
    assert within_circle(60.0, 100.0, 100.0) == pytest.approx(80.0)
    assert within_circle(-60.0, -100.0, 100.0) == pytest.approx(-80.0)
    assert within_circle(100.0, 5.0, 100.0) == 0.0
    assert within_circle(200.0, 5.0, 100.0) == 0.0


def test_every_code_has_a_meaning() -> None:
    assert set(MEANINGS) == set(Code)
    assert all(meaning.text for meaning in MEANINGS.values())


@given(anything, anything, st.floats(0.0, 1e6), st.booleans())
@settings(max_examples=300)
def test_both_powers_stay_in_the_circle_whichever_goes_first(
    power_kw: float, kvar: float, kva: float, reactive_first: bool
) -> None:
    got_kw, got_kvar = circle(power_kw, kvar, kva, reactive_first=reactive_first)
    assert math.hypot(got_kw, got_kvar) <= kva * (1.0 + 1e-9) + 1e-6
    for asked, got in ((power_kw, got_kw), (kvar, got_kvar)):
        if not math.isfinite(asked):
            assert got == 0.0
        else:
            assert abs(got) <= abs(asked)
            assert got * asked >= 0.0
    first, kept = (kvar, got_kvar) if reactive_first else (power_kw, got_kw)
    if math.isfinite(first):
        assert abs(kept) == pytest.approx(min(abs(first), kva))
    again = circle(got_kw, got_kvar, kva, reactive_first=reactive_first)
    assert again == pytest.approx((got_kw, got_kvar), abs=1e-3, rel=1e-6)


def test_the_circle_by_hand() -> None:
    assert circle(80.0, 80.0, 100.0, reactive_first=False) == about((80.0, 60.0))
    assert circle(80.0, -80.0, 100.0, reactive_first=True) == about((60.0, -80.0))
    assert circle(-80.0, 120.0, 100.0, reactive_first=True) == about((0.0, 100.0))
    assert circle(30.0, 40.0, 50.0, reactive_first=True) == about((30.0, 40.0))
    assert circle(10.0, 10.0, math.inf, reactive_first=True) == (10.0, 10.0)


@given(st.floats(-1e4, 1e4), st.floats(0.01, 1.0), st.booleans())
def test_a_power_factor_is_kvar_of_its_sense(
    power_kw: float, power_factor: float, lagging: bool
) -> None:
    kvar = kvar_at(power_kw, power_factor, lagging=lagging)
    assert (kvar >= 0.0) if lagging else (kvar <= 0.0)
    apparent_kva = math.hypot(power_kw, kvar)
    assert abs(power_kw) == pytest.approx(power_factor * apparent_kva, rel=1e-6, abs=1e-9)


def test_a_power_factor_by_hand() -> None:
    for power_kw in (80.0, -80.0):  # whichever way the active power flows
        assert kvar_at(power_kw, 0.8, lagging=True) == pytest.approx(60.0)
        assert kvar_at(power_kw, 0.8, lagging=False) == pytest.approx(-60.0)
    assert kvar_at(50.0, 1.0, lagging=True) == 0.0
