"""The meter at the point of connection: what other load it shows, and what its silence costs."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rig import B1, B2, asset, snapshot
from vppd.config import shipped_profiles
from vppd.core.alarms import Code
from vppd.core.measured import power_kw
from vppd.core.model import METER, SITE, Limit, Point, Quality, Reading, Snapshot, UnitId
from vppd.core.settings import MeterSettings
from vppd.field.build import multiplied
from vppd.field.feeders import Feeder, Feeders
from vppd.field.meter import STILL_S, LoadWatch

PAIR = asset(B1), asset(B2)
MAX_AGE_S = 2.5


class Board:
    """The last values, and every load that was worked out."""

    def __init__(self) -> None:
        self.readings: dict[tuple[UnitId, Point], Reading] = {}
        self.loads_kw: list[float] = []
        self.watch = LoadWatch(PAIR, self, self.snapshot)
        self.now_s = 10.0

    def publish(self, message: object) -> None:
        assert isinstance(message, Reading)
        self.readings[message.unit, message.point] = message
        if message.point is Point.LOAD_KW:
            assert message.unit == SITE
            self.loads_kw.append(message.value)
        self.watch.take(message)

    def snapshot(self) -> Snapshot:
        return replace(snapshot(self.now_s, {}), readings=dict(self.readings))

    def say(self, unit: UnitId, power_kw: float, quality: Quality = Quality.GOOD) -> None:
        self.publish(Reading(unit, Point.POWER_KW, power_kw, self.now_s, MAX_AGE_S, quality))

    def load_kw(self) -> float:
        return self.loads_kw[-1]


def test_load_is_what_the_units_give_and_the_grid_does_not_get() -> None:
    board = Board()
    board.say(B1, 60.0)
    board.say(B2, -10.0)
    board.say(METER, 20.0)
    assert board.load_kw() == pytest.approx(30.0)
    assert board.readings[SITE, Point.LOAD_KW].max_age_s == MAX_AGE_S


def test_other_generation_is_a_negative_load() -> None:
    board = Board()
    board.say(METER, 45.0)
    assert board.load_kw() == pytest.approx(-45.0)


def test_a_meter_that_is_not_believed_says_nothing() -> None:
    board = Board()
    board.say(METER, 45.0, Quality.IMPLAUSIBLE)
    board.say(METER, math.nan)
    board.say(B1, 45.0)
    assert board.loads_kw == []


@given(st.floats(-500.0, 500.0), st.floats(-100.0, 100.0), st.floats(-100.0, 100.0), st.booleans())
def test_a_step_of_a_unit_is_no_step_of_the_load(
    load_kw: float, before_kw: float, after_kw: float, meter_first: bool
) -> None:
    """Whoever shows it first, and a poll late: the load stays what it is."""
    board = Board()
    late_polls = [(before_kw, after_kw)] if meter_first else [(after_kw, before_kw)]
    rounds = [*[(before_kw, before_kw)] * 5, *late_polls, *[(after_kw, after_kw)] * 5]
    for unit_kw, meter_kw in rounds:
        board.now_s += 0.25
        board.say(B1, unit_kw)
        board.now_s += 0.25
        board.say(METER, meter_kw - load_kw)
    assert all(each == pytest.approx(load_kw, abs=1e-6) for each in board.loads_kw)


@given(st.floats(-500.0, 500.0), st.floats(-500.0, 500.0))
def test_a_step_of_the_load_counts_at_the_third_poll(before_kw: float, after_kw: float) -> None:
    board = Board()
    for load_kw in (*[before_kw] * 5, *[after_kw] * 3):
        board.say(METER, -load_kw)
    assert board.load_kw() == pytest.approx(after_kw)


def test_the_inverter_knows_best_what_a_unit_gives() -> None:
    both = replace(PAIR[0], declared=PAIR[0].declared | {Point.INVERTER_KW})
    values = {Point.POWER_KW: 12.0, Point.INVERTER_KW: 11.5}
    now = snapshot(10.0, values, B1)
    assert power_kw(now, both) == 11.5
    assert power_kw(now, PAIR[0]) == 12.0
    assert power_kw(snapshot(10.0, {Point.POWER_KW: 12.0}, B1), both) == 12.0
    assert power_kw(snapshot(10.0, {}), both) is None


def test_a_stop_that_the_meter_shows_before_the_units_is_no_stuck_meter() -> None:
    board = Board()
    board.say(B1, 60.0)
    board.say(METER, 60.0)
    board.now_s += 1.0
    board.say(METER, 0.0)  # it is polled first
    board.now_s += 0.3
    board.say(B1, 0.0)
    for _ in range(60):
        board.now_s += 0.5
        before = len(board.loads_kw)
        board.say(METER, 0.0)
        assert len(board.loads_kw) == before + 1, "it stays a meter"
    assert board.load_kw() == pytest.approx(0.0)


def test_after_a_long_rest_the_units_may_show_a_step_before_the_meter() -> None:
    board = Board()
    board.say(B1, 0.0)
    for _ in range(200):
        board.now_s += 0.5
        board.say(METER, 0.0)
    board.say(B1, 60.0)
    for shown_kw in (0.0, 0.0, 60.0, 60.0, 60.0):  # its own averaging is a second behind
        board.now_s += 0.5
        before = len(board.loads_kw)
        board.say(METER, shown_kw)
        assert len(board.loads_kw) == before + 1, "it stays a meter"


def test_a_meter_that_stands_still_long_after_the_units_moved_says_nothing_until_it_changes() -> (
    None
):
    board = Board()
    board.say(B1, 0.0)
    board.say(METER, 0.0)
    board.now_s += 60.0
    board.say(METER, 0.0)
    board.say(B1, 60.0)
    while board.now_s < 70.0 + STILL_S:
        board.now_s += 0.5
        board.say(METER, 0.0)
    told = len(board.loads_kw)
    board.now_s += 0.5
    board.say(METER, 0.0)
    assert len(board.loads_kw) == told, "as good as silent"
    board.say(METER, 60.0)
    assert len(board.loads_kw) == told + 1


# --- its silence ---


ROOT = Feeder((B1, B2), Limit(-100.0, 90.0, Code.CONNECTION, "site"))


def _range(
    meter: MeterSettings, load_kw: float | None, age_s: float = 0.0
) -> tuple[tuple[float, float], dict[Code, bool]]:
    told: dict[Code, bool] = {}

    def tell(code: Code, unit: UnitId, active: bool, text: str) -> None:
        assert text
        assert unit == (METER if code is Code.METER_SILENT else SITE)
        told[code] = active

    values = {} if load_kw is None else {Point.LOAD_KW: load_kw}
    now = snapshot(10.0, values, SITE, age_s)
    (made,) = Feeders((ROOT,), meter).limits(now, {}, tell)
    return (made.limit.low_kw, made.limit.high_kw), told


METERED = MeterSettings(profile="eastron-sdm630", host="127.0.0.1")


def test_a_meter_that_speaks_shifts_the_connection() -> None:
    limits, told = _range(METERED, 30.0)
    assert limits == (-70.0, 120.0)
    assert told == {Code.METER_SILENT: False, Code.CONNECTION_CLIPPED: False}


@pytest.mark.parametrize(("load_kw", "age_s"), [(None, 0.0), (5.0, 9.0), (math.nan, 0.0)])
def test_while_a_required_meter_is_silent_nothing_is_known_and_nothing_flows(
    load_kw: float | None, age_s: float
) -> None:
    limits, told = _range(METERED, load_kw, age_s)
    assert limits == (0.0, 0.0)
    assert told == {Code.METER_SILENT: True, Code.CONNECTION_CLIPPED: True}


def test_the_worst_case_may_be_known() -> None:
    known = replace(METERED, load_max_kw=40.0, generation_max_kw=15.0)
    assert _range(known, None)[0] == (-60.0, 75.0)
    assert _range(replace(known, load_max_kw=None), None)[0] == (0.0, 75.0)
    assert _range(replace(known, generation_max_kw=None), None)[0] == (-60.0, 0.0)
    assert _range(replace(known, load_max_kw=400.0), None)[0] == (0.0, 75.0)
    assert _range(known, 30.0)[0] == (-70.0, 120.0)


def test_an_optional_meter_only_alarms() -> None:
    limits, told = _range(replace(METERED, required=False), None)
    assert limits == (-100.0, 90.0)
    assert told == {Code.METER_SILENT: True, Code.CONNECTION_CLIPPED: False}


@given(
    st.floats(-300.0, 300.0),
    st.one_of(st.none(), st.floats(0.0, 300.0)),
    st.one_of(st.none(), st.floats(0.0, 300.0)),
)
def test_silence_never_leaves_more_than_any_load_it_may_be(
    load_kw: float, load_max_kw: float | None, generation_max_kw: float | None
) -> None:
    """Whatever the load truly is within the stated bounds, the silent limits fit inside."""
    meter = replace(METERED, load_max_kw=load_max_kw, generation_max_kw=generation_max_kw)
    if load_max_kw is not None and load_kw > load_max_kw:
        load_kw = load_max_kw
    if generation_max_kw is not None and load_kw < -generation_max_kw:
        load_kw = -generation_max_kw
    (low_kw, high_kw), _ = _range(meter, None)
    (true_low_kw, true_high_kw), _ = _range(meter, load_kw)
    assert true_low_kw <= low_kw <= 0.0 <= high_kw <= true_high_kw


# --- its transformers ---


def test_outside_transformers_multiply_powers_and_energies_and_their_ranges() -> None:
    plain = shipped_profiles()["eastron-sdm630"]
    behind = multiplied(plain, 40.0)
    for point in (Point.POWER_KW, Point.ENERGY_IMPORT_KWH):
        one, other = plain.points[point], behind.points[point]
        assert other.scale == pytest.approx(40.0 * one.scale)
        assert one.high is not None
        assert other.high == pytest.approx(40.0 * one.high)
        assert other.sign == one.sign
    assert behind.points[Point.FREQUENCY_HZ] == plain.points[Point.FREQUENCY_HZ]
    assert behind.read_only
