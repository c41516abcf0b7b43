"""The judgement of a bump test: synthetic answers of known sign, scale, delay and noise are told
for what they are, and the causes that follow."""

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vppd.field.step_response import (
    Sample,
    Shape,
    Step,
    between,
    beyond,
    factor_of,
    period_s,
    respond,
    value_at,
)
from vppd.field.step_verdict import (
    Allowed,
    Judgement,
    Measurement,
    Recording,
    Verdict,
    judge,
)

HOLD_S = 20.0
STEPS = (("rest", 0.0), ("discharge", 5.0), ("back", 0.0), ("charge", -5.0), ("back again", 0.0))
KINDS = ("reversed", "tenfold", "nothing")


def steps(bump_kw: float = 5.0) -> list[Step]:
    return [
        Step(name, kw / 5.0 * bump_kw, place * HOLD_S, (place + 1) * HOLD_S, HOLD_S)
        for place, (name, kw) in enumerate(STEPS)
    ]


def setpoint(bump_kw: float = 5.0, ramp_kw_per_s: float = 10.0) -> list[Sample]:
    """What vppd tells the device, ten times a second."""
    told, at_kw = [], 0.0
    for tick in range(int(len(STEPS) * HOLD_S * 10)):
        at_s = tick / 10
        target_kw = STEPS[int(max(at_s - 0.01, 0.0) / HOLD_S)][1] / 5.0 * bump_kw
        step_kw = ramp_kw_per_s / 10
        at_kw += min(max(target_kw - at_kw, -step_kw), step_kw)
        told.append(Sample(at_s, at_kw))
    return told


def answer(
    told: list[Sample],
    *,
    gain: float = 1.0,
    dead_s: float = 0.0,
    lag_s: float = 0.1,
    every_s: float = 0.5,
    noise_kw: float = 0.0,
    offset_kw: float = 0.0,
    resolution_kw: float = 0.1,
    seed: int = 1,
) -> list[Sample]:
    """A first-order device behind a dead time, read so often, rounded to its resolution."""
    draw, power_kw, seen, read_s = random.Random(seed), 0.0, [], 0.0
    step_s = 0.02
    for tick in range(int(len(STEPS) * HOLD_S / step_s)):
        at_s = tick * step_s
        target_kw = (value_at(told, at_s - dead_s) or 0.0) * gain
        power_kw += (target_kw - power_kw) * (1.0 - math.exp(-step_s / lag_s))
        if at_s >= read_s:
            read_s += every_s
            value_kw = power_kw + offset_kw + draw.gauss(0.0, noise_kw)
            seen.append(Sample(at_s, round(value_kw / resolution_kw) * resolution_kw))
    return seen


def measurement(name: str, trace: list[Sample], *, first: bool = False) -> Measurement:
    return Measurement(name, name, not first, 0.1, 0.05 if first else 0.1, trace)


def recording(
    first: list[Sample], *others: list[Sample], told: list[Sample] | None = None
) -> Recording:
    told = told or setpoint()
    names = ("meter", "bms")
    return Recording(
        steps=steps(),
        told=told,
        measurements=[
            measurement("controller", first, first=True),
            *(measurement(name, trace) for name, trace in zip(names, others, strict=False)),
        ],
        read_back=told,
        kvar=[Sample(at_s / 2, 0.0) for at_s in range(200)],
        soc=[Sample(at_s / 2, 50.0) for at_s in range(200)],
        elsewhere={},
        energy_kwh=250.0,
        soc_resolution_pct=0.1,
    )


def judged(*traces: list[Sample]) -> Judgement:
    return judge(recording(*traces), Allowed())


# ---- one measurement ------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(
    sign=st.sampled_from([1.0, -1.0]),
    factor=st.sampled_from([0.1, 1.0, 10.0, 100.0, 1000.0]),
    dead_s=st.floats(0.0, 3.0),
    lag_s=st.floats(0.05, 1.5),
    every_s=st.floats(0.1, 1.0),
    noise_kw=st.floats(0.0, 0.15),
    offset_kw=st.floats(-300.0, 300.0),
    bump=st.sampled_from([1, 3]),
    seed=st.integers(0, 1000),
)
def test_sign_and_scale_are_told_whatever_delays_and_blurs_them(
    sign: float,
    factor: float,
    dead_s: float,
    lag_s: float,
    every_s: float,
    noise_kw: float,
    offset_kw: float,
    bump: int,
    seed: int,
) -> None:
    told = setpoint()
    trace = answer(
        told,
        gain=sign * factor,
        dead_s=dead_s,
        lag_s=lag_s,
        every_s=every_s,
        noise_kw=noise_kw * min(factor, 1.0),
        offset_kw=offset_kw,
        resolution_kw=0.01,
        seed=seed,
    )
    seen = respond(trace, told, steps()[bump], 0.01, 0.1)
    assert seen.factor == sign * factor, seen
    wanted = {(1.0, 1.0): Shape.RIGHT, (-1.0, 1.0): Shape.REVERSED}
    assert seen.shape is wanted.get((sign, factor), Shape.SCALED)


@settings(max_examples=80, deadline=None)
@given(dead_s=st.floats(0.0, 4.0), lag_s=st.floats(0.05, 1.0), every_s=st.floats(0.1, 0.6))
def test_times_are_right_to_one_reading(dead_s: float, lag_s: float, every_s: float) -> None:
    told = setpoint(ramp_kw_per_s=1000.0)
    trace = answer(told, dead_s=dead_s, lag_s=lag_s, every_s=every_s, resolution_kw=0.001)
    seen = respond(trace, told, steps()[1], 0.001, 0.05)
    assert seen.dead_s is not None
    assert seen.rise_s is not None
    assert seen.settling_s is not None
    slack_s = every_s + 0.15  # and one tick of the setpoint
    moved_s = dead_s + lag_s * math.log(1.0 / 0.9)
    assert moved_s - 0.05 <= seen.dead_s <= moved_s + slack_s
    assert abs(seen.rise_s - 2.197 * lag_s) <= 2.0 * every_s + 0.1
    settled_s = dead_s + lag_s * math.log(50.0)
    assert settled_s - 0.15 <= seen.settling_s <= settled_s + slack_s
    assert seen.overshoot_pct == 0.0


@settings(max_examples=80, deadline=None)
@given(noise_kw=st.floats(0.0, 0.3), offset_kw=st.floats(-50.0, 50.0), seed=st.integers(0, 999))
def test_what_does_not_move_is_nothing(noise_kw: float, offset_kw: float, seed: int) -> None:
    told = setpoint()
    trace = answer(told, gain=0.0, noise_kw=noise_kw, offset_kw=offset_kw, seed=seed)
    seen = respond(trace, told, steps()[1], 0.1, 0.05)
    assert seen.shape in {Shape.NOTHING, Shape.OFF}
    assert seen.factor is None
    assert abs(seen.gain_ratio or 0.0) < 0.2


def test_a_lower_sum_of_noise_is_nothing_and_a_higher_one_says_nothing() -> None:
    told = setpoint()
    calm = respond(answer(told, gain=0.0), told, steps()[1], 0.1, 0.05)
    loud = respond(answer(told, noise_kw=8.0), told, steps()[1], 0.1, 0.05)
    assert calm.shape is Shape.NOTHING
    assert loud.shape is Shape.UNKNOWN
    assert "noise" in loud.text


def test_a_slow_device_is_slow_and_no_wrong_scale() -> None:
    told = setpoint()
    seen = respond(answer(told, lag_s=15.0), told, steps()[1], 0.1, 0.05)
    assert seen.shape is Shape.SLOW
    assert seen.factor is None


def test_a_step_with_too_few_readings_says_nothing() -> None:
    told = setpoint()
    seen = respond(answer(told, every_s=15.0), told, steps()[1], 0.1, 0.05)
    assert seen.shape is Shape.UNKNOWN
    assert "too few" in seen.text


def test_a_bump_below_the_resolution_says_nothing() -> None:
    told = setpoint(bump_kw=0.15)
    seen = respond(answer(told), told, steps(0.15)[1], 0.1, 0.05)
    assert seen.shape is Shape.UNKNOWN
    assert "too small" in seen.text


def test_overshoot_is_measured_from_the_final_value() -> None:
    told = setpoint()
    trace = answer(told, lag_s=0.05)
    trace = [
        Sample(each.at_s, each.value * 1.3) if 20.6 < each.at_s < 22.0 else each for each in trace
    ]
    seen = respond(trace, told, steps()[1], 0.1, 0.05)
    assert seen.overshoot_pct == pytest.approx(28.0, abs=2.5)
    assert seen.shape is Shape.RIGHT


@settings(max_examples=80, deadline=None)
@given(
    sign=st.sampled_from([1.0, -1.0]),
    factor=st.sampled_from([1.0, 10.0, 100.0]),
    lag_s=st.floats(0.05, 1.0),
    dead_s=st.floats(0.0, 1.0),
    cut_s=st.floats(0.6, 4.0),
)
def test_a_pulse_cut_short_still_tells_sign_and_decade(
    sign: float, factor: float, lag_s: float, dead_s: float, cut_s: float
) -> None:
    told = [each if each.at_s < HOLD_S + cut_s else Sample(each.at_s, 0.0) for each in setpoint()]
    told = [each for each in told if each.at_s <= HOLD_S + cut_s + 8.0]
    trace = answer(
        told, gain=sign * factor, lag_s=lag_s, dead_s=dead_s, every_s=0.25, resolution_kw=0.01
    )
    step = replace(steps()[1], ended_s=HOLD_S + cut_s + 8.0, cut=True)
    seen = respond(trace, told, step, 0.01, 0.05)
    assert seen.factor == sign * factor, seen


# ---- small sums -----------------------------------------------------------------------------


@given(
    size=st.sampled_from([1000.0, 100.0, 10.0, 1.0, 0.1, 0.01]),
    sign=st.sampled_from([1.0, -1.0]),
    off=st.floats(-0.045, 0.045),
)
def test_the_powers_of_ten_are_named(size: float, sign: float, off: float) -> None:
    assert factor_of(sign * size * (1.0 + off), 0.05, 0.0) == sign * size


@given(gain=st.floats(1.2, 8.5))
def test_between_the_powers_of_ten_there_is_no_name(gain: float) -> None:
    assert factor_of(gain, 0.05, 0.0) is None


def test_what_blur_hides_has_no_name() -> None:
    assert factor_of(0.1, 0.05, 0.06) is None
    assert factor_of(0.0, 0.05, 0.02) is None


@given(
    bump_kw=st.sampled_from([5.0, -5.0]), share=st.floats(-0.2, 1.9), noise_kw=st.floats(0.0, 2.0)
)
def test_a_bump_that_follows_goes_on(bump_kw: float, share: float, noise_kw: float) -> None:
    assert beyond(share * bump_kw, bump_kw, noise_kw, 0.1) is None


@given(bump_kw=st.sampled_from([5.0, -5.0]), share=st.floats(0.35, 100.0))
def test_the_wrong_way_and_twice_as_much_end_it(bump_kw: float, share: float) -> None:
    assert beyond(-share * bump_kw, bump_kw, 0.0, 0.1) is not None
    assert beyond((2.1 + share) * bump_kw, bump_kw, 0.0, 0.1) is not None


def test_the_edges_of_a_trace() -> None:
    trace = [Sample(1.0, 10.0), Sample(2.0, 20.0), Sample(4.0, 40.0)]
    assert value_at(trace, 0.9) is None
    assert value_at(trace, 1.0) == 10.0
    assert value_at(trace, 3.9) == 20.0
    assert between(trace, 1.0, 4.0) == trace[1:]
    assert period_s(trace) == 1.5
    assert period_s(trace[:1]) is None


# ---- the whole ------------------------------------------------------------------------------


def test_a_healthy_unit_passes() -> None:
    told = setpoint()
    found = judged(answer(told), answer(told, noise_kw=0.1, offset_kw=-80.0, seed=2))
    bad = [c for r in found.results for c in r.checks if c.verdict is Verdict.FAIL]
    assert found.verdict is Verdict.PASS, bad
    assert found.causes == []


def test_a_test_that_was_broken_off_never_passes() -> None:
    told = setpoint()
    seen = replace(recording(answer(told), answer(told)), broken_off="Ctrl-C")
    assert judge(seen, Allowed()).verdict is Verdict.FAIL


def test_without_a_second_measurement_nothing_is_proven() -> None:
    found = judged(answer(setpoint()))
    assert found.verdict is Verdict.NOT_MEASURABLE
    assert judged(answer(setpoint()), answer(setpoint(), noise_kw=9.0)).verdict is (
        Verdict.NOT_MEASURABLE
    )


CAUSES = [
    ((-1.0, -1.0), "sign of the setpoint is inverted"),
    ((-1.0, 1.0), "sign of controller is inverted"),
    ((1.0, -1.0), "meter: CT reversed"),
    ((10.0, 10.0), "scale of the setpoint in the profile (writes.power_kw.scale) is times 10 "),
    ((10.0, 1.0), "scale of controller in the profile is times 10 "),
    ((0.1, 0.1), "times 0.1 "),
    ((1.0, 1000.0), "meter: its scale or CT ratio is times 1000 "),
    ((-10.0, -10.0), "times 10 too much and its sign inverted"),
    ((0.0, 0.0), "takes the setpoint and does nothing"),
    ((0.0, 1.0), "controller does not move"),
    ((1.0, 0.0), "meter does not see this unit"),
    ((0.6, 0.6), "another power than asked"),
    ((1.0, 0.6), "meter is off"),
]


@pytest.mark.parametrize(("gains", "words"), CAUSES)
def test_every_fault_is_named(gains: tuple[float, float], words: str) -> None:
    told = setpoint()
    first, second = (answer(told, gain=gain) for gain in gains)
    found = judged(first, second)
    assert found.verdict is Verdict.FAIL
    assert len(found.causes) == 1
    assert words in found.causes[0]


def test_two_others_that_both_say_the_opposite_blame_the_profile() -> None:
    told = setpoint()
    reversed_ = answer(told, gain=-1.0)
    found = judged(answer(told), reversed_, reversed_)
    assert found.verdict is Verdict.FAIL
    assert "setpoint and controller are both inverted" in found.causes[0]
    found = judged(answer(told), reversed_, answer(told))
    assert found.causes == ["meter: CT reversed, or its sign inverted in its profile"]


def test_power_at_another_unit_is_a_wrong_unit() -> None:
    told = setpoint()
    seen = recording(answer(told, gain=0.0), answer(told, gain=0.0))
    seen = replace(seen, elsewhere={"B2": answer(told), "B3": answer(told, gain=0.0)})
    found = judge(seen, Allowed())
    assert found.verdict is Verdict.FAIL
    assert len(found.causes) == 1
    assert "the power appears at B2." in found.causes[0]


def test_a_device_right_in_one_direction_only_fails() -> None:
    told = setpoint()
    one_way = [Sample(each.at_s, max(each.value, 0.0)) for each in answer(told)]
    found = judged(one_way, one_way)
    assert found.verdict is Verdict.FAIL


def test_a_slow_device_fails_by_its_times() -> None:
    told = setpoint()
    late = answer(told, dead_s=4.0)
    found = judged(late, late)
    assert found.verdict is Verdict.FAIL
    failed = {c.what for r in found.results for c in r.checks if c.verdict is Verdict.FAIL}
    assert failed == {"dead time"}
    slow = answer(told, lag_s=15.0)
    assert any("slow" in cause for cause in judged(slow, slow).causes)


def test_a_read_back_that_differs_and_vars_that_move_fail() -> None:
    told = setpoint()
    fine = recording(answer(told), answer(told))
    off = replace(fine, read_back=[Sample(each.at_s, each.value * 0.9) for each in told])
    assert _failed(off) == {"read-back"}
    vars_ = replace(fine, kvar=[Sample(each.at_s, each.value * 0.5) for each in told])
    assert _failed(vars_) == {"reactive power"}


def test_charge_is_judged_where_it_can_be_seen() -> None:
    told = setpoint()
    fine = replace(recording(answer(told), answer(told)), energy_kwh=2.0)
    assert judge(fine, Allowed()).verdict is Verdict.FAIL, "it does not move at all"
    wrong = [Sample(each.at_s, 50.0 + 0.01 * each.at_s) for each in told]
    assert _failed(replace(fine, soc=wrong)) == {"state of charge"}


def _failed(seen: Recording) -> set[str]:
    found = judge(seen, Allowed())
    return {c.what for r in found.results for c in r.checks if c.verdict is Verdict.FAIL}
