"""Fast frequency response: triggered, held, handed back, armed anew; beside droop as configured."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.rig import about, words
from tests.test_droop import ANY_ROOM, FULL_KW, PLAIN, PMU, linked
from vppd.core.alarms import Code
from vppd.core.settings_response import FfrSettings
from vppd.grid.droop import DroopAnswer, DroopMemory, answer
from vppd.grid.droop_ffr import combined, triggered
from vppd.grid.frequency import Frequency

FFR = FfrSettings(
    enabled=True,
    trigger_low_hz=49.5,
    trigger_high_hz=50.5,
    power_kw=200.0,
    duration_s=10.0,
    recovery_s=5.0,
    rearm_s=4.0,
)


class Grid:
    """Droop with the product, from tick to tick."""

    def __init__(self, ffr: FfrSettings = FFR, **droop: object) -> None:
        self.ffr = ffr
        self.droop = replace(PLAIN, **droop)  # type: ignore[arg-type]
        self.memory, self.now_s = DroopMemory(), 1000.0
        self.last: DroopAnswer
        self.tick(50.0)

    def tick(self, hz: float | None) -> DroopAnswer:
        self.now_s += 0.1
        seen = None if hz is None else Frequency(hz, self.now_s, PMU, "good")
        self.last = answer(
            seen, self.droop, FULL_KW, tuple, ANY_ROOM, self.now_s, self.memory, self.ffr
        )
        self.memory = self.last.memory
        return self.last

    def settle(self, hz: float | None, for_s: float) -> DroopAnswer:
        for _ in range(round(for_s / 0.1)):
            self.tick(hz)
        return self.last


@pytest.mark.parametrize(("hz", "kw"), [(49.5, 200.0), (50.5, -200.0)])
def test_the_block_is_asked_in_full_at_once_and_held(hz: float, kw: float) -> None:
    grid = Grid()
    assert grid.tick(hz).asked_kw == about(kw, abs=60.0)
    assert grid.settle(hz, 0.2).asked_kw == about(kw)
    assert (grid.last.ffr_kw, grid.last.owed_kw) == (kw, about(kw))
    assert abs(grid.last.curve_kw) == about(80.0)
    assert Code.FFR in words(grid.last.clamps)
    back = 49.8 if kw > 0 else 50.2  # better, not well: the block stays for its time
    assert grid.settle(back, 9.0).asked_kw == about(kw)


def test_after_its_time_it_ramps_to_what_droop_owes() -> None:
    grid = Grid()
    grid.settle(49.5, 10.0)
    assert grid.settle(49.8, 2.6).ffr_kw == about(100.0, abs=4.1)
    assert grid.settle(49.8, 2.6).asked_kw == about(32.0)
    assert grid.last.ffr_kw == 0.0
    assert Code.FFR not in words(grid.last.clamps)


def test_it_is_armed_anew_only_after_rest_in_the_deadband() -> None:
    grid = Grid()
    grid.settle(49.5, 16.0)
    assert grid.last.ffr_kw == 0.0, "it does not trigger again while the frequency stays low"
    grid.settle(50.0, 3.0)
    assert grid.tick(49.4).ffr_kw == 0.0
    grid.settle(50.0, 4.2)
    assert grid.tick(49.4).ffr_kw == 200.0


def test_the_other_side_ends_it_and_may_trigger_its_own() -> None:
    grid = Grid()
    grid.settle(49.5, 2.0)
    assert grid.tick(50.2).ffr_kw == 0.0
    assert grid.settle(50.2, 2.0).asked_kw == about(-32.0)
    assert grid.tick(50.6).ffr_kw == -200.0


def test_rocof_triggers_outside_the_deadband_only() -> None:
    grid = Grid(replace(FFR, trigger_low_hz=None, trigger_rocof_hz_per_s=0.5))
    for step in range(12):
        hz = 50.0 - 0.1 * step
        made = grid.tick(hz)
        if hz >= 49.9:
            assert made.ffr_kw == 0.0
    assert made.ffr_kw == 200.0
    assert triggered(49.8, 1, 0.6, grid.ffr) == 0, "coming home fast"
    assert triggered(50.2, -1, 0.6, grid.ffr) == -1


@pytest.mark.parametrize(("mode", "kw"), [("larger", 200.0), ("sum", 280.0)])
def test_beside_droop_as_configured(mode: str, kw: float) -> None:
    grid = Grid(replace(FFR, with_droop=mode))  # type: ignore[arg-type]
    made = grid.settle(49.5, 3.0)
    assert (made.owed_kw, made.asked_kw) == (about(kw), about(kw))
    assert grid.settle(48.0, 3.0).asked_kw == about(520.0 if mode == "sum" else 320.0)


def test_its_switch_is_its_own() -> None:
    assert Grid(enabled=False).settle(49.5, 2.0).asked_kw == about(200.0)
    made = Grid(replace(FFR, enabled=False)).settle(49.5, 2.0)
    assert (made.asked_kw, made.ffr_kw) == (about(80.0), 0.0)
    assert Grid(FfrSettings(enabled=True)).settle(47.0, 2.0).ffr_kw == 0.0, "no trigger, no product"


def test_without_a_power_of_its_own_it_gives_all() -> None:
    grid = Grid(replace(FFR, power_kw=None), over_max_power_kw=100.0)
    assert grid.settle(49.5, 2.0).ffr_kw == FULL_KW
    assert grid.settle(50.6, 2.0).ffr_kw == -100.0


def test_a_lost_frequency_holds_the_block_and_fades_it() -> None:
    grid = Grid()
    grid.settle(49.5, 2.0)
    assert grid.settle(None, 0.4).asked_kw == about(200.0)
    assert grid.settle(None, 6.0).asked_kw == 0.0


@given(st.floats(-500.0, 500.0), st.floats(-500.0, 500.0))
def test_the_larger_is_never_less_than_either_in_its_direction(one: float, block: float) -> None:
    both_kw = combined(one, block, FFR)
    assert both_kw in (one, block)
    if block > 0.0:
        assert both_kw == max(one, block)
    if block < 0.0:
        assert both_kw == min(one, block)


@given(
    st.lists(st.tuples(st.none() | st.floats(48.0, 52.0), st.integers(1, 60)), max_size=10),
    st.sampled_from(["larger", "sum"]),
    st.floats(0.1, 1.0),
)
@settings(max_examples=60)
def test_every_difference_is_named_and_the_block_has_its_bounds(
    seen: list[tuple[float | None, int]], mode: str, full_s: float
) -> None:
    grid = Grid(replace(FFR, with_droop=mode, full_s=full_s))  # type: ignore[arg-type]
    given_s = 0.0
    for hz, ticks in seen:
        for _ in range(ticks):
            before_kw = grid.last.asked_kw
            made = grid.tick(hz)
            assert abs(made.asked_kw - before_kw) <= (FULL_KW + 200.0 / full_s) * 0.1 + 1e-6
            assert made.ffr_kw in (0.0, 200.0, -200.0) or abs(made.ffr_kw) < 200.0
            given_s = given_s + 0.1 if made.ffr_kw != 0.0 else 0.0
            assert hz is None or linked(made)
