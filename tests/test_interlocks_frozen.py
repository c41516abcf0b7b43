"""Devices whose values stand still while power moves, and the same of a meter."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rig import B1, asset, snapshot
from vppd.core.alarms import Action, Code, Level
from vppd.core.model import Point
from vppd.field.interlocks_frozen import MOVED_SHARE, REST_S, STILL_S, reading_frozen
from vppd.field.interlocks_inverter import inverter_alarm
from vppd.field.rule import Look, Notes, Verdict

BMS = {Point.PACK_A, Point.PACK_V, Point.CELL_MIN_V, Point.POWER_KW}
INVERTER = {Point.INVERTER_KW, Point.INVERTER_HZ, Point.INVERTER_STATE, Point.POWER_KW}
SOLE = {Point.POWER_KW, Point.FREQUENCY_HZ, Point.INVERTER_STATE, Point.SETPOINT_KW}
SHOWN = {
    Point.PACK_A: 8.0,
    Point.PACK_V: 59.0,
    Point.CELL_MIN_V: 3.7,
    Point.INVERTER_KW: 10.0,
    Point.INVERTER_HZ: 50.0,
    Point.FREQUENCY_HZ: 50.0,
    Point.INVERTER_STATE: 4.0,
}
EVERY_S = 0.5


class Played:
    """The rule over time, as the gate asks it."""

    def __init__(self, declared: set[Point]) -> None:
        self.unit = asset(declared=frozenset(declared))
        self.values = {point: value for point, value in SHOWN.items() if point in declared}
        self.moves = Point.SETPOINT_KW if Point.SETPOINT_KW in declared else Point.POWER_KW
        self.values |= {Point.POWER_KW: 10.0, self.moves: 10.0}
        self.notes: Notes = ()
        self.now_s = 100.0

    def after(self, seconds_s: float, power_kw: float | None = None) -> Verdict | None:
        if power_kw is not None:
            self.values[self.moves] = power_kw
        end_s, verdict = self.now_s + seconds_s, None
        while self.now_s < end_s:
            self.now_s += EVERY_S
            now = snapshot(self.now_s, self.values, B1)
            verdict, self.notes = reading_frozen(Look(now, self.unit), self.notes)
        return verdict


@pytest.mark.parametrize(
    ("declared", "changes", "named"),
    [
        (BMS, Point.CELL_MIN_V, "pack_a"),
        (INVERTER, Point.INVERTER_HZ, "inverter_kw"),
        (SOLE, Point.FREQUENCY_HZ, "power_kw"),
    ],
)
def test_what_stands_still_while_power_moves_leaves_nothing_until_it_changes(
    declared: set[Point], changes: Point, named: str
) -> None:
    played = Played(declared)
    assert played.after(60.0) is None, "nothing moves"
    assert played.after(STILL_S - EVERY_S, 25.0) is None
    assert played.after(2 * EVERY_S) is not None
    verdict = played.after(30.0, 0.0)
    assert verdict is not None
    assert (verdict.rule, verdict.level, verdict.action, verdict.trips) == (
        *(Code.READING_FROZEN, Level.CRITICAL, Action.STOP, False),
    )
    assert verdict.text == f"{named} frozen"
    assert verdict.limit is not None
    assert (verdict.limit.low_kw, verdict.limit.high_kw) == (0.0, 0.0)
    played.values[changes] += 0.001
    assert played.after(EVERY_S) is None


@pytest.mark.parametrize("declared", [BMS, INVERTER])
def test_a_step_that_one_device_shows_before_the_other_is_no_standstill(
    declared: set[Point],
) -> None:
    """Told 0: the one shows it at once, the other is polled half a second later; both then rest."""
    played = Played(declared)
    played.after(30.0, 50.0)
    first = Point.PACK_A if declared is BMS else Point.INVERTER_KW
    played.values[first] = 0.0
    assert played.after(2 * EVERY_S) is None
    assert played.after(60.0, 0.0) is None


@pytest.mark.parametrize(
    ("declared", "first"), [(BMS, Point.PACK_A), (INVERTER, Point.INVERTER_KW)]
)
@pytest.mark.parametrize("rest_s", [0.5, 30.0, 600.0])
def test_a_step_after_a_long_rest_is_seen_elsewhere_first(
    declared: set[Point], first: Point, rest_s: float
) -> None:
    """The controller shows the step half a second before the device that is watched."""
    played = Played(declared)
    played.after(rest_s)
    assert played.after(EVERY_S, 60.0) is None
    played.values[first] = 55.0
    assert played.after(REST_S) is None


def test_a_device_that_was_silent_is_judged_anew() -> None:
    played = Played(INVERTER)
    played.after(30.0)
    shown = played.values.pop(Point.INVERTER_KW)
    assert played.after(20.0, 60.0) is None, "silent: other rules hold it"
    played.values[Point.INVERTER_KW] = shown
    assert played.after(30.0) is None, "back with what it showed, and power does not move"
    played.after(STILL_S, 0.0)
    assert played.after(2 * EVERY_S) is not None, "power moves and it does not: frozen"
    del played.values[Point.INVERTER_KW]
    played.after(EVERY_S)
    played.values[Point.INVERTER_KW] = shown
    assert played.after(REST_S) is None


def test_it_takes_time_and_movement() -> None:
    played = Played(BMS)
    assert played.after(STILL_S - EVERY_S, 60.0) is None
    small_kw = MOVED_SHARE * Played(BMS).unit.rated_kw - 0.1
    played = Played(BMS)
    played.after(EVERY_S)
    assert played.after(60.0, 10.0 + small_kw) is None


def test_a_battery_that_rests_is_tried_again() -> None:
    played = Played(BMS)
    played.after(10.0)
    assert played.after(STILL_S + EVERY_S, 40.0) is not None
    assert played.after(10.0, 0.0) is not None
    assert played.after(REST_S - 20.0) is not None
    assert played.after(20.0) is None


def test_an_inverter_that_shows_nothing_and_follows_nothing_is_not_frozen() -> None:
    played = Played(SOLE)
    played.values[Point.POWER_KW] = 0.0
    played.after(10.0)
    assert played.after(30.0, 80.0) is None


@given(st.lists(st.floats(-100.0, 100.0), min_size=2, max_size=60))
def test_what_moves_with_its_power_is_never_frozen(powers_kw: list[float]) -> None:
    played = Played(BMS)
    for power_kw in powers_kw:
        played.values[Point.PACK_A] = round(power_kw / 1.3, 1)
        assert played.after(EVERY_S, power_kw) is None


@given(st.lists(st.sampled_from([None, 0.0, 30.0, 90.0]), max_size=40))
def test_what_may_not_be_believed_is_left_to_the_rules_that_need_it(
    powers_kw: list[float | None],
) -> None:
    played = Played(BMS)
    del played.values[Point.PACK_A]
    for power_kw in powers_kw:
        if power_kw is None:
            played.values.pop(Point.POWER_KW, None)
        else:
            played.values[Point.POWER_KW] = power_kw
        assert played.after(3.0) is None


@pytest.mark.parametrize(("bits", "told"), [(0.0, False), (256.0, True), (None, False)])
def test_alarm_bits_of_an_inverter_are_only_told(bits: float | None, told: bool) -> None:
    values = {} if bits is None else {Point.INVERTER_ALARM_BITS: bits}
    unit = asset(declared=frozenset({Point.INVERTER_ALARM_BITS}))
    verdict, _ = inverter_alarm(Look(snapshot(10.0, values, B1), unit), ())
    assert (verdict is not None) == told
    if verdict is not None:
        assert (verdict.rule, verdict.action, verdict.limit) == (
            *(Code.INVERTER_ALARM, Action.LOG, None),
        )
        assert verdict.text == "inverter_alarm_bits 0x00000100"
