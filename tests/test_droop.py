"""Droop: numbers by hand, then everything that adapts them, one named clamp after another."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.rig import HEALTHY, about, asset, snapshot, words
from vppd.core.alarms import Code
from vppd.core.asset import Asset
from vppd.core.model import Clamp, Limit, Point, UnitId
from vppd.core.settings import DroopSettings
from vppd.grid.droop import DroopAnswer, DroopMemory, answer
from vppd.grid.droop_curve import curve_kw, side_of
from vppd.grid.droop_fitness import Fitness, adapted, fade, fitness
from vppd.grid.frequency import Frequency

PMU, PMU2 = UnitId("pmu"), UnitId("pmu2")
PLAIN = DroopSettings(rocof_gain_pu_per_hz_per_s=0.0, reversal_hold_s=0.0, ramp_kw_per_s=400.0)
EDGE = replace(PLAIN, reference="deadband_edge")
ANY_ROOM = Limit(-math.inf, math.inf, Code.DROOP_LOAD)
FULL_KW = 400.0
hertz = st.floats(45.0, 55.0)
references = st.sampled_from(["nominal", "deadband_edge"])


class Grid:
    """Droop from tick to tick."""

    def __init__(self, droop: DroopSettings = PLAIN, max_kw: float = FULL_KW) -> None:
        self.droop, self.max_kw = droop, max_kw
        self.memory, self.now_s = DroopMemory(), 1000.0
        self.fits: Sequence[Fitness] = ()
        self.room = ANY_ROOM
        self.last: DroopAnswer

    def tick(self, hz: float | None, after_s: float = 0.1, source: UnitId = PMU) -> DroopAnswer:
        self.now_s += after_s
        seen = None if hz is None else Frequency(hz, self.now_s, source, "good")
        self.last = answer(
            seen, self.droop, self.max_kw, lambda: self.fits, self.room, self.now_s, self.memory
        )
        self.memory = self.last.memory
        return self.last

    def settle(self, hz: float | None, for_s: float = 2.0) -> DroopAnswer:
        end_s = self.now_s + for_s
        while self.now_s < end_s - 1e-9:
            self.tick(hz)
        return self.last


def linked(made: DroopAnswer) -> bool:
    """Whether asked follows from owed by the named clamps alone."""
    at_kw = made.owed_kw
    for clamp in made.clamps:
        if abs(clamp.before_kw - at_kw) > 1e-5:
            return False
        at_kw = clamp.after_kw
    return abs(made.asked_kw - at_kw) <= 1e-5


# ---- the curve ---------------------------------------------------------------

# 5 %, 400 kW, 50 Hz: 400 / 0.05 / 50 = 160 kW a hertz
BY_HAND = [
    (49.70, "nominal", 48.0),
    (49.89, "nominal", 17.6),
    (49.90, "nominal", 0.0),
    (50.00, "nominal", 0.0),
    (50.05, "nominal", 0.0),
    (50.06, "nominal", -9.6),
    (50.50, "nominal", -80.0),
    (49.00, "nominal", 160.0),
    (47.50, "nominal", 400.0),
    (46.00, "nominal", 400.0),
    (52.50, "nominal", -400.0),
    (54.00, "nominal", -400.0),
    (49.70, "deadband_edge", 32.0),
    (49.90, "deadband_edge", 0.0),
    (50.05, "deadband_edge", 0.0),
    (50.30, "deadband_edge", -40.0),
    (47.40, "deadband_edge", 400.0),
]


@pytest.mark.parametrize(("hz", "reference", "kw"), BY_HAND)
def test_the_curve_by_hand(hz: float, reference: str, kw: float) -> None:
    grid = Grid(replace(PLAIN, reference=reference))  # type: ignore[arg-type]
    made = grid.settle(hz)
    assert made.owed_kw == about(kw, abs=1e-9)
    assert made.asked_kw == about(kw, abs=1e-6)
    assert words(made.clamps) == ([Code.DROOP_SATURATED] if abs(kw) == FULL_KW else [])


def test_droop_scales_with_its_settings() -> None:
    assert curve_kw(49.7, 1, replace(PLAIN, droop_pct=2.5), 400.0) == about(96.0)
    assert curve_kw(49.7, 1, PLAIN, 100.0) == about(12.0)
    sixty = replace(PLAIN, nominal_hz=60.0, deadband_low_hz=59.9, deadband_high_hz=60.1)
    assert curve_kw(59.7, 1, sixty, 600.0) == about(60.0)


@given(hertz, hertz, references)
def test_the_curve_is_bounded_signed_and_monotone(one: float, other: float, ref: str) -> None:
    droop = replace(PLAIN, reference=ref)  # type: ignore[arg-type]
    low_hz, high_hz = min(one, other), max(one, other)
    low_kw, high_kw = (
        curve_kw(hz, side_of(hz, droop, 0), droop, FULL_KW) for hz in (low_hz, high_hz)
    )
    assert FULL_KW >= low_kw >= high_kw >= -FULL_KW
    for hz, kw in ((low_hz, low_kw), (high_hz, high_kw)):
        if 49.90 <= hz <= 50.05:
            assert kw == 0.0
        else:
            assert kw * (50.0 - hz) >= 0.0


@given(st.floats(-0.001, 0.001), st.sampled_from([49.90, 50.05]))
def test_from_the_edge_the_curve_does_not_step(off_hz: float, edge_hz: float) -> None:
    here = curve_kw(edge_hz + off_hz, side_of(edge_hz + off_hz, EDGE, 0), EDGE, FULL_KW)
    assert abs(here) <= 160.0 * abs(off_hz) + 1e-6


def test_no_side_no_power() -> None:
    assert curve_kw(49.0, 0, PLAIN, FULL_KW) == 0.0


# ---- the edge of the deadband ------------------------------------------------


def test_a_side_once_answered_is_left_only_inside_the_deadband() -> None:
    grid = Grid()
    assert grid.tick(49.90).owed_kw == 0.0
    assert grid.tick(49.899).owed_kw == about(16.16)
    assert grid.tick(49.905).owed_kw == about(15.2)
    assert grid.tick(49.9099).owed_kw > 0.0
    assert grid.tick(49.91).owed_kw == 0.0
    assert grid.tick(49.905).owed_kw == 0.0
    assert grid.tick(50.06).owed_kw == about(-9.6)
    assert grid.tick(50.045).owed_kw == about(-7.2)
    assert grid.tick(50.04).owed_kw == 0.0


def test_no_hysteresis_where_nothing_steps() -> None:
    grid = Grid(EDGE)
    assert grid.tick(49.899).owed_kw > 0.0
    assert grid.tick(49.9001).owed_kw == 0.0
    assert side_of(49.905, EDGE, 1) == 0
    assert side_of(50.045, EDGE, -1) == 0


def test_no_answer_the_other_way_so_soon() -> None:
    grid = Grid(replace(PLAIN, reversal_hold_s=1.0))
    assert grid.settle(49.7).asked_kw == about(48.0)
    made = grid.tick(50.3)
    assert made.owed_kw == about(-48.0)
    assert Code.DROOP_DEADBAND_HOLD in words(made.clamps)
    for _ in range(8):
        made = grid.tick(50.3)
        assert made.asked_kw >= -1e-9
    for _ in range(5):
        made = grid.tick(50.3)
    assert made.asked_kw == about(-48.0)
    grid = Grid(replace(PLAIN, reversal_hold_s=0.5))
    grid.tick(49.7, after_s=0.25)
    grid.tick(50.3, after_s=0.25)
    assert Code.DROOP_DEADBAND_HOLD in words(grid.tick(50.3, after_s=0.25).clamps)
    assert Code.DROOP_DEADBAND_HOLD not in words(grid.tick(50.3, after_s=0.25).clamps)
    # the same way again is answered at once, and passing through the deadband does not help
    grid.tick(50.0)
    assert grid.tick(50.3).asked_kw < 0.0
    grid.settle(50.3)
    grid.tick(50.0)
    assert Code.DROOP_DEADBAND_HOLD in words(grid.tick(49.7).clamps)
    assert grid.settle(49.7).asked_kw == about(48.0)


# ---- ROCOF -------------------------------------------------------------------

DAMPED = replace(PLAIN, rocof_gain_pu_per_hz_per_s=0.1, ramp_kw_per_s=1e9)


def test_damping_by_hand() -> None:
    grid = Grid(DAMPED)
    for step in range(60):
        grid.tick(49.8 - 0.05 * step * 0.1)  # falling by 0.05 Hz/s
    made = grid.last
    assert made.rocof_hz_per_s == about(-0.05, rel=1e-3)
    assert made.asked_kw - made.owed_kw == about(0.1 * 400.0 * 0.05, rel=1e-3)
    assert words(made.clamps) == [Code.DROOP_DAMPING]
    assert grid.settle(49.5, 5.0).asked_kw == about(80.0, abs=0.01)


def test_a_small_answer_that_nothing_damps_stays() -> None:
    for hz, kw in ((49.898, 0.32), (50.052, -0.32)):
        grid = Grid(replace(DAMPED, reference="deadband_edge"))
        assert grid.settle(hz).asked_kw == about(kw)


@pytest.mark.parametrize("off_hz", [0.003, -0.003])
def test_damping_does_not_turn_a_small_answer(off_hz: float) -> None:
    grid = Grid(replace(DAMPED, reference="deadband_edge", rocof_gain_pu_per_hz_per_s=10.0))
    edge_hz = 49.9 if off_hz < 0.0 else 50.05
    grid.tick(edge_hz + 10.0 * off_hz)
    made = grid.tick(edge_hz + off_hz)  # coming home fast
    assert 0.0 < abs(made.owed_kw) < 1.0
    assert made.asked_kw == 0.0


def test_the_filter_is_of_first_order() -> None:
    grid = Grid(DAMPED)
    grid.tick(49.8)
    rocof = [grid.tick(49.8 - 0.1 * 0.1 * n).rocof_hz_per_s for n in range(1, 4)]
    expected = [-0.1 * (1.0 - math.exp(-0.1 * n / 0.3)) for n in range(1, 4)]
    assert rocof == about(expected, rel=1e-6)


@given(st.lists(hertz, min_size=2, max_size=30), st.floats(0.0, 10.0), references)
@settings(max_examples=150)
def test_damping_never_turns_the_sign_and_leaves_the_deadband_alone(
    seen: list[float], gain: float, reference: str
) -> None:
    grid = Grid(replace(DAMPED, rocof_gain_pu_per_hz_per_s=gain, reference=reference))  # type: ignore[arg-type]
    for hz in seen:
        made = grid.tick(hz)
        assert made.asked_kw * made.owed_kw >= 0.0
        assert abs(made.asked_kw) <= FULL_KW
        assert made.owed_kw != 0.0 or made.asked_kw == 0.0
        assert linked(made)


def test_a_new_source_starts_rocof_anew() -> None:
    grid = Grid(DAMPED)
    grid.settle(49.80)
    made = grid.tick(49.83, source=PMU2)
    assert made.rocof_hz_per_s == 0.0
    assert grid.tick(49.83, source=PMU2).rocof_hz_per_s == 0.0
    grid.settle(49.80)
    assert grid.tick(49.90, after_s=1.1).rocof_hz_per_s == 0.0, "nor is there one over a gap"


def test_one_frame_is_counted_once() -> None:
    memory = DroopMemory(now_s=10.0)
    first = Frequency(49.8, 10.0, PMU, "good")
    second = Frequency(49.7, 10.1, PMU, "good")
    memory = answer(first, DAMPED, FULL_KW, tuple, ANY_ROOM, 10.0, memory).memory
    once = answer(second, DAMPED, FULL_KW, tuple, ANY_ROOM, 10.1, memory)
    twice = answer(second, DAMPED, FULL_KW, tuple, ANY_ROOM, 10.2, once.memory)
    assert twice.rocof_hz_per_s == once.rocof_hz_per_s
    late = Frequency(49.6, 11.0, PMU, "good")
    first_memory = answer(first, DAMPED, FULL_KW, tuple, ANY_ROOM, 10.0, DroopMemory()).memory
    assert answer(late, DAMPED, FULL_KW, tuple, ANY_ROOM, 11.0, first_memory).rocof_hz_per_s < 0.0
    older = answer(first, DAMPED, FULL_KW, tuple, ANY_ROOM, 10.3, twice.memory)
    assert older.rocof_hz_per_s == once.rocof_hz_per_s


# ---- ramp --------------------------------------------------------------------


def test_the_ramp_is_as_set() -> None:
    grid = Grid()
    made = grid.tick(47.0)
    assert made.asked_kw == about(80.0), "the first tick counts 0.2 s at most"
    assert grid.tick(47.0).asked_kw == about(120.0)
    assert grid.tick(47.0, after_s=5.0).asked_kw == about(200.0)
    assert words(grid.last.clamps) == [Code.DROOP_SATURATED, Code.DROOP_RAMP]
    assert grid.last.owed_kw == 400.0
    assert grid.tick(47.0, after_s=0.0).asked_kw == about(200.0), "the same instant"
    assert grid.tick(47.0, after_s=-5.0).asked_kw == about(200.0)


def test_unless_set_the_ramp_leaves_a_frame_and_an_inverter_their_part_of_a_second() -> None:
    for over_kw, a_tick_kw in ((None, 100.0), (200.0, 100.0), (800.0, 200.0)):
        grid = Grid(replace(PLAIN, ramp_kw_per_s=None, over_max_power_kw=over_kw))
        grid.tick(50.0)
        assert grid.tick(47.0).asked_kw == about(a_tick_kw), "full power in 0.4 s"


def test_the_ramp_set_low_is_kept() -> None:
    slow = Grid(replace(PLAIN, ramp_kw_per_s=10.0))
    assert slow.settle(47.0, 1.0).asked_kw == about(11.0)


@given(st.lists(st.tuples(st.one_of(st.none(), hertz), st.floats(0.0, 3.0)), max_size=25))
@settings(max_examples=150)
def test_droop_never_steps_faster_than_its_ramp(
    seen: list[tuple[float | None, float]],
) -> None:
    grid = Grid(replace(PLAIN, rocof_gain_pu_per_hz_per_s=0.5, reversal_hold_s=1.0))
    before_kw = grid.tick(50.0).asked_kw
    for hz, after_s in seen:
        made = grid.tick(hz, after_s)
        assert abs(made.asked_kw - before_kw) <= 400.0 * min(after_s, 0.2) + 1e-6
        assert abs(made.asked_kw) <= FULL_KW + 1e-9
        assert made.owed_kw == 0.0 or hz is not None
        assert hz is None or linked(made)
        before_kw = made.asked_kw


# ---- loss --------------------------------------------------------------------


def test_a_lost_frequency_holds_then_fades() -> None:
    grid = Grid()
    assert grid.settle(49.7).asked_kw == about(48.0)
    lost_s = grid.now_s + 0.1
    for _ in range(80):
        made = grid.tick(None)
        fading_s = grid.now_s - lost_s - 0.5
        share = min(max(1.0 - fading_s / 5.0, 0.0), 1.0)
        assert made.asked_kw == about(48.0 * share, abs=1e-6)
        assert made.owed_kw == 0.0
        assert words(made.clamps) == [Code.FREQUENCY_LOST]
        assert (made.clamps[0].before_kw, made.clamps[0].after_kw) == (
            about(48.0),
            made.asked_kw,
        )
    assert made.asked_kw == 0.0
    assert made.memory.active == 0


def test_what_returns_is_answered_by_the_ramp() -> None:
    grid = Grid()
    grid.settle(49.7)
    grid.settle(None, 3.0)
    before_kw = grid.last.asked_kw
    made = grid.tick(50.3)
    assert made.owed_kw == about(-48.0)
    assert abs(made.asked_kw - before_kw) <= 40.0 + 1e-9
    assert grid.settle(50.3).asked_kw == about(-48.0)
    # and a second loss holds what was asked then
    assert grid.tick(None).asked_kw == about(-48.0)


def test_nothing_is_held_when_nothing_was_asked() -> None:
    grid = Grid()
    grid.settle(50.0)
    made = grid.tick(None)
    assert (made.asked_kw, made.clamps) == (0.0, ())
    assert Grid().tick(None).asked_kw == 0.0


def test_a_blink_goes_on_with_the_side_that_was_answered() -> None:
    grid = Grid()
    grid.settle(49.7)
    grid.tick(None)
    assert grid.tick(49.905).owed_kw == about(15.2)


def test_switched_off_it_gives_nothing_and_says_so() -> None:
    grid = Grid(replace(PLAIN, enabled=False))
    made = grid.settle(49.7)
    assert (made.asked_kw, made.owed_kw) == (0.0, about(48.0))
    assert words(made.clamps) == [Code.DROOP_OFF]
    grid = Grid()
    grid.settle(49.7)
    grid.droop = replace(PLAIN, enabled=False)
    assert grid.settle(None, 0.3).asked_kw == 0.0
    assert grid.settle(49.7, 0.3).asked_kw == 0.0


# ---- what adapts it ----------------------------------------------------------


def test_the_connection_narrows_droop_by_name() -> None:
    grid = Grid()
    grid.room = Limit(-5.0, 20.0, Code.DROOP_LOAD)
    made = grid.settle(49.7)
    assert (made.asked_kw, made.owed_kw) == (about(20.0), about(48.0))
    assert words(made.clamps) == [Code.DROOP_LOAD]
    assert grid.settle(50.3).asked_kw == about(-5.0)
    grid.settle(None, 0.2)
    assert grid.last.asked_kw == about(-5.0)
    grid.room = Limit(-1.0, 0.0, Code.DROOP_LOAD)
    assert grid.settle(None, 0.2).asked_kw == about(-1.0)


FIT = Fitness(100.0)


def test_adaptation_by_hand() -> None:
    def left(asked_kw: float, *fits: Fitness) -> tuple[float, list[Code]]:
        clamps: list[Clamp] = []
        return adapted(asked_kw, fits, clamps), words(clamps)

    assert left(48.0) == (48.0, [])
    assert left(48.0, FIT, FIT) == (48.0, [])
    assert left(48.0, FIT._replace(soc_out_share=0.5)) == (24.0, [Code.DROOP_SOC])
    assert left(-48.0, FIT._replace(soc_out_share=0.5)) == (-48.0, [])
    assert left(-48.0, FIT._replace(soc_in_share=0.25)) == (-12.0, [Code.DROOP_SOC])
    assert left(48.0, FIT._replace(temperature_share=0.5)) == (24.0, [Code.DROOP_TEMPERATURE])
    both = FIT._replace(soc_out_share=0.5, temperature_share=0.5)
    assert left(48.0, both) == (12.0, [Code.DROOP_SOC, Code.DROOP_TEMPERATURE])
    # a fit unit takes over, up to its rating
    assert left(90.0, FIT, FIT._replace(soc_out_share=0.0)) == (90.0, [])
    assert left(150.0, FIT, FIT._replace(soc_out_share=0.0)) == (100.0, [Code.DROOP_SOC])
    assert left(150.0, FIT, FIT._replace(temperature_share=0.2)) == (
        120.0,
        [Code.DROOP_TEMPERATURE],
    )
    assert left(1.0, FIT._replace(soc_out_share=0.5)) == (0.5, [Code.DROOP_SOC])
    assert left(0.0, FIT._replace(soc_out_share=0.0, soc_in_share=0.0)) == (0.0, [])


shares = st.floats(0.0, 1.0)
fleets = st.lists(st.builds(Fitness, st.floats(1.0, 500.0), shares, shares, shares), max_size=5)


@given(st.floats(-1000.0, 1000.0), fleets)
def test_adaptation_only_shrinks_and_never_beyond_what_is_fit(
    asked_kw: float, fits: list[Fitness]
) -> None:
    clamps: list[Clamp] = []
    left_kw = adapted(asked_kw, fits, clamps)
    assert abs(left_kw) <= abs(asked_kw)
    assert left_kw * asked_kw >= 0.0
    if fits and asked_kw:
        can_kw = sum(fit.rated_kw * fit.share(asked_kw) for fit in fits)
        assert abs(left_kw) <= can_kw + 1e-6
    at_kw = asked_kw
    for cut in clamps:
        assert cut.before_kw == about(at_kw, abs=1e-5)
        at_kw = cut.after_kw
    assert at_kw == about(left_kw, abs=1e-5)


@given(st.floats(1.0, 400.0), fleets, st.floats(0.0, 1.0), st.integers(0, 4))
def test_adaptation_is_continuous(
    asked_kw: float, fits: list[Fitness], soc_out: float, which: int
) -> None:
    assume(len(fits) > which)
    here = [*fits]
    here[which] = here[which]._replace(soc_out_share=soc_out)
    there = [*fits]
    there[which] = there[which]._replace(soc_out_share=min(soc_out + 1e-6, 1.0))
    moved_kw = abs(adapted(asked_kw, here, []) - adapted(asked_kw, there, []))
    assert moved_kw <= 1e-6 * (asked_kw + 500.0) * 2.0 + 1e-9


def _fit(unit: Asset | None = None, droop: DroopSettings = PLAIN, **values: float) -> Fitness:
    seen = dict(HEALTHY) | {Point(name): value for name, value in values.items()}
    return fitness(snapshot(10.0, seen), unit or asset(), droop)


@pytest.mark.parametrize(
    ("soc_pct", "out", "in_"),
    [
        (0.0, 0.0, 1.0),
        (10.0, 0.0, 1.0),
        (15.0, 0.5, 1.0),
        (20.0, 1.0, 1.0),
        (85.0, 1.0, 1.0),
        (90.0, 1.0, 0.5),
        (95.0, 1.0, 0.0),
        (100.0, 1.0, 0.0),
    ],
)
def test_fitness_by_state_of_charge(soc_pct: float, out: float, in_: float) -> None:
    made = _fit(soc_pct=soc_pct)
    assert (made.soc_out_share, made.soc_in_share) == (about(out), about(in_))
    assert made.rated_kw == 100.0
    assert (made.share(1.0), made.share(-1.0)) == (made.soc_out_share, made.soc_in_share)
    off = _fit(droop=replace(PLAIN, soc_adaptive=False), soc_pct=soc_pct)
    assert (off.soc_out_share, off.soc_in_share) == (1.0, 1.0)


@pytest.mark.parametrize(("hot_c", "share"), [(45.0, 1.0), (50.0, 0.5), (55.0, 0.0), (60.0, 0.0)])
def test_fitness_by_temperature(hot_c: float, share: float) -> None:
    made = _fit(temperature_c=hot_c)
    assert (made.temperature_share, made.share(1.0), made.share(-1.0)) == (share, share, share)
    assert _fit(droop=replace(PLAIN, temperature_adaptive=False), temperature_c=hot_c) == FIT


def test_what_may_not_be_believed_is_not_fit() -> None:
    late = snapshot(10.0, HEALTHY, age_s=9.0)
    made = fitness(late, asset(), PLAIN)
    assert (made.soc_out_share, made.soc_in_share, made.temperature_share) == (0.0, 0.0, 0.0)
    assert fitness(late, asset(declared=frozenset({Point.POWER_KW})), PLAIN) == FIT


@given(st.floats(-100.0, 200.0), st.floats(0.01, 50.0))
def test_fades_are_straight_lines(inside: float, span: float) -> None:
    assert fade(inside, span) == about(min(max(inside / span, 0.0), 1.0))


def test_every_adaptation_is_named_in_one_chain() -> None:
    grid = Grid(replace(PLAIN, rocof_gain_pu_per_hz_per_s=0.2, ramp_kw_per_s=20.0))
    grid.fits = [Fitness(100.0, 0.8, 0.5, 0.9), Fitness(100.0, 0.3, 0.5, 0.4)]
    grid.room = Limit(-10.0, 10.0, Code.DROOP_LOAD)
    grid.tick(49.8)
    made = grid.tick(49.7)
    assert words(made.clamps) == [
        Code.DROOP_DAMPING,
        Code.DROOP_SOC,
        Code.DROOP_TEMPERATURE,
        Code.DROOP_LOAD,
        Code.DROOP_RAMP,
    ]
    assert linked(made)
    assert made.owed_kw == about(48.0)


def test_saturation_is_named() -> None:
    made = Grid(replace(PLAIN, ramp_kw_per_s=1e9)).tick(47.0)
    assert (made.owed_kw, made.asked_kw) == (400.0, 400.0)
    assert words(made.clamps) == [Code.DROOP_SATURATED]
    assert linked(made)
