"""The other load is believed as it is while the units move: a fleet that is polled at any phases,
ramps and steps in any order, and a meter that may show the mean of its last second."""

import random
from bisect import bisect_right
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from tests.rig import asset, snapshot
from vppd.core.model import METER, Point, Quality, Reading, Snapshot, UnitId
from vppd.field.meter import HOLD_S, LoadWatch
from vppd.field.traces import KEPT_S, SKEW_S, Trace, UnitTrace, line_kw

MAX_AGE_S, POLL_S = 2.5, 0.5
RATED_KW, RAMP_KW_PER_S, STEP_KW = 100.0, 10.0, 20.0
REST_S, MOVES_S = 5.0, 30.0
FEW_KW, RESTED_KW, RESTED_S = 5.0, 1.0, 3.0
KNOWN_S = 3 * POLL_S  # a step of the load is believed at the third poll
A, B = UnitId("a"), UnitId("b")


@dataclass(frozen=True)
class Way:
    """What one unit gives over time: even between its knots."""

    knots_s: list[float]
    knots_kw: list[float]

    def power_kw(self, at_s: float) -> float:
        after = bisect_right(self.knots_s, at_s)
        if after in (0, len(self.knots_s)):
            return self.knots_kw[max(after - 1, 0)]
        (begun_s, ended_s), (from_kw, to_kw) = (
            each[after - 1 : after + 1] for each in (self.knots_s, self.knots_kw)
        )
        return from_kw + (at_s - begun_s) / (ended_s - begun_s) * (to_kw - from_kw)


def way(dice: random.Random, moves_s: float = MOVES_S) -> Way:
    """At rest for REST_S, then from target to target by ramps and steps, then at rest."""
    knots_s, knots_kw = [0.0, REST_S], [dice.uniform(-RATED_KW, RATED_KW)] * 2
    while knots_s[-1] < REST_S + moves_s:
        steps = dice.random() < 0.3
        by_kw = dice.uniform(-STEP_KW, STEP_KW) if steps else dice.uniform(-RATED_KW, RATED_KW)
        to_kw = min(max(knots_kw[-1] + by_kw, -RATED_KW), RATED_KW)
        takes_s = 0.05 if steps else abs(to_kw - knots_kw[-1]) / RAMP_KW_PER_S + 0.05
        there_s = knots_s[-1] + takes_s
        knots_s += [there_s, there_s + 0.01 + dice.choice((0.0, dice.uniform(0.0, 3.0)))]
        knots_kw += [to_kw, to_kw]
    return Way(knots_s, knots_kw)


class Site:
    """A fleet, a load and a meter on one time line, and what is believed of the load."""

    def __init__(self, ways: dict[UnitId, Way], meter_poll_s: float, mean_s: float) -> None:
        self.ways, self.meter_poll_s, self.mean_s = ways, meter_poll_s, mean_s
        self.steps_kw: list[tuple[float, float]] = []  # of the load, from these instants on
        self.now_s = 0.0
        self.readings: dict[tuple[UnitId, Point], Reading] = {}
        self.believed: list[tuple[float, float]] = []
        self.watch = LoadWatch([asset(unit) for unit in ways], self, self.snapshot)

    def publish(self, message: object) -> None:
        assert isinstance(message, Reading)
        if message.point is Point.LOAD_KW:
            self.believed.append((message.at_s, message.value))

    def snapshot(self) -> Snapshot:
        return replace(snapshot(self.now_s, {}), readings=dict(self.readings))

    def load_kw(self, at_s: float) -> float:
        return next((kw for from_s, kw in reversed(self.steps_kw) if from_s <= at_s), 0.0)

    def run(self, dice: random.Random, end_s: float) -> None:
        """Poll everything, each at a phase of its own."""
        periods_s = dict.fromkeys(self.ways, POLL_S) | {METER: self.meter_poll_s}
        polls = sorted(
            (first_s + period_s * count, unit)
            for unit, period_s in periods_s.items()
            for first_s in [dice.uniform(0.0, period_s)]
            for count in range(int(end_s / period_s))
        )
        for at_s, unit in polls:
            self.now_s = at_s
            kw = self.through_kw(at_s) if unit == METER else self.ways[unit].power_kw(at_s)
            reading = Reading(unit, Point.POWER_KW, round(kw, 1), at_s, MAX_AGE_S)
            self.readings[unit, Point.POWER_KW] = reading
            self.watch.take(reading)

    def through_kw(self, at_s: float) -> float:
        """What the meter shows: the mean over its own time, by its middle points."""
        parts = 20
        times_s = [at_s - self.mean_s * (part + 0.5) / parts for part in range(parts)]
        return sum(
            sum(each.power_kw(time_s) for each in self.ways.values()) - self.load_kw(time_s)
            for time_s in times_s
        ) / len(times_s)

    def wrong_kw(self, from_s: float, to_s: float) -> float:
        """The most that the load was wrong by."""
        return max(
            abs(kw - self.load_kw(at_s)) for at_s, kw in self.believed if from_s <= at_s < to_s
        )


METERS = st.sampled_from([(0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0)])


@profile(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6), METERS)
def test_a_fleet_that_moves_is_no_load(seed: int, count: int, meter: tuple[float, float]) -> None:
    dice = random.Random(seed)
    site = Site({UnitId(f"u{at}"): way(dice) for at in range(count)}, *meter)
    site.steps_kw = [(0.0, dice.uniform(-100.0, 100.0))]
    end_s = max(each.knots_s[-1] for each in site.ways.values())
    site.run(dice, end_s + RESTED_S + 5.0)
    assert site.wrong_kw(REST_S - 1.0, end_s) <= FEW_KW
    assert site.wrong_kw(end_s + RESTED_S, end_s + RESTED_S + 5.0) <= RESTED_KW


@profile(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6), st.floats(-100.0, 100.0))
def test_a_step_of_the_load_beside_units_at_rest_counts_at_the_third_poll(
    seed: int, count: int, to_kw: float
) -> None:
    dice = random.Random(seed)
    site = Site({UnitId(f"u{at}"): Way([0.0], [10.0 * at]) for at in range(count)}, POLL_S, 0.0)
    site.steps_kw = [(0.0, 20.0), (4.0, to_kw)]
    site.run(dice, 12.0)
    assert site.wrong_kw(4.0 + KNOWN_S, 11.0) <= RESTED_KW


@profile(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6), METERS)
def test_a_load_that_steps_while_the_units_move_is_known_soon_after_they_rest(
    seed: int, count: int, meter: tuple[float, float]
) -> None:
    """And meanwhile what is believed is no further off than the step."""
    dice = random.Random(seed)
    site = Site({UnitId(f"u{at}"): way(dice, 10.0) for at in range(count)}, *meter)
    site.steps_kw = [(0.0, 0.0), (REST_S + 3.0, dice.uniform(-80.0, 80.0))]
    end_s = max(each.knots_s[-1] for each in site.ways.values())
    known_s = end_s + SKEW_S + POLL_S + 3 * meter[0] + meter[1]
    site.run(dice, known_s + 5.0)
    assert site.wrong_kw(REST_S - 1.0, end_s) <= abs(site.load_kw(end_s)) + FEW_KW
    assert site.wrong_kw(known_s, known_s + 4.0) <= RESTED_KW


def test_a_load_that_every_reading_speaks_against_is_not_kept_though_a_unit_never_rests() -> None:
    site = Site({A: Way([0.0, 5.0, 25.0], [-100.0, -100.0, 100.0])}, POLL_S, 0.0)
    site.steps_kw = [(0.0, 0.0), (8.0, 30.0)]
    site.run(random.Random(3), 24.0)
    behind_kw = 2.0 * SKEW_S * RAMP_KW_PER_S
    assert site.wrong_kw(8.0 + HOLD_S + 2.5, 23.0) <= behind_kw


# --- what a unit gave ---


def _trace(*rows: tuple[float, float], quality: Quality = Quality.GOOD) -> Trace:
    made = Trace()
    for at_s, kw in rows:
        made.add(Reading(A, Point.POWER_KW, kw, at_s, MAX_AGE_S, quality))
    return made


def test_between_two_readings_power_is_on_their_line() -> None:
    near = _trace((1.0, 10.0), (1.5, 20.0), (2.0, 0.0)).near(1.5)
    assert [line_kw(near, at_s) for at_s in (0.5, 1.0, 1.25, 1.5, 1.75, 2.0, 9.0)] == [
        *(10.0, 10.0, 15.0, 20.0, 10.0, 0.0, 0.0)
    ]


def test_near_an_instant_is_what_was_read_about_it_and_just_outside() -> None:
    trace = _trace(*((each / 4.0, float(each)) for each in range(41)))
    assert [each.value for each in trace.near(5.1)] == [*range(18, 24)]
    assert [each.value for each in trace.near(5.0)] == [*range(18, 23)]
    assert [each.value for each in trace.near(10.0)] == [38.0, 39.0, 40.0]
    assert [each.value for each in trace.near(0.1)] == [0.0, 1.0, 2.0, 3.0]


def test_a_unit_is_heard_until_its_last_value_is_stale_or_a_worse_one_came() -> None:
    trace = _trace((1.0, 10.0))
    assert [trace.is_heard(at_s) for at_s in (0.9, 1.0, 3.5, 3.6)] == [False, True, True, False]
    trace.add(Reading(A, Point.POWER_KW, 99.0, 2.0, MAX_AGE_S, Quality.IMPLAUSIBLE))
    assert trace.is_heard(1.9)
    assert not trace.is_heard(2.1)
    assert [each.value for each in trace.near(1.9)] == [10.0], "nor is it of any range"


def test_a_reading_is_awaited_until_its_poll_is_missed() -> None:
    trace = _trace((1.0, 10.0))
    assert trace.awaits(1.2, 1.7)
    assert trace.awaits(1.2, 2.25)
    assert not trace.awaits(1.2, 2.3)
    assert not trace.awaits(1.0, 1.7)
    assert not Trace().awaits(1.2, 1.7)


def test_what_is_long_past_is_forgotten() -> None:
    trace = _trace(*((float(each), 0.0) for each in range(200)))
    assert not trace.is_heard(199.0 - KEPT_S - 5.0)
    assert trace.is_heard(199.0 - KEPT_S)
    assert _trace((0.0, 1.0), (KEPT_S + 1.0, 2.0)).near(0.5)[0].value == 1.0


def test_the_inverter_is_believed_before_the_controller_and_only_while_it_speaks() -> None:
    both = replace(asset(A), declared=asset(A).declared | {Point.INVERTER_KW})
    unit = UnitTrace(both)
    assert unit.heard(1.0) is None
    unit.traces[Point.POWER_KW].add(Reading(A, Point.POWER_KW, 12.0, 1.0, MAX_AGE_S))
    assert unit.heard(1.0) is unit.traces[Point.POWER_KW]
    unit.traces[Point.INVERTER_KW].add(Reading(A, Point.INVERTER_KW, 11.0, 1.0, 1.0))
    assert unit.heard(1.0) is unit.traces[Point.INVERTER_KW]
    assert unit.heard(2.5) is unit.traces[Point.POWER_KW]
    assert Point.INVERTER_KW not in UnitTrace(asset(A)).traces


# --- who is not heard ---


class Said:
    """A watch over two units, told reading by reading."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.readings: dict[tuple[UnitId, Point], Reading] = {}
        self.loads_kw: list[float] = []
        self.watch = LoadWatch([asset(A), asset(B)], self, self.snapshot)

    def publish(self, message: object) -> None:
        assert isinstance(message, Reading)
        if message.point is Point.LOAD_KW:
            self.loads_kw.append(message.value)

    def snapshot(self) -> Snapshot:
        return replace(snapshot(self.now_s, {}), readings=dict(self.readings))

    def poll(self, a_kw: float | None, b_kw: float | None, meter_kw: float | None) -> None:
        """One round of polls; None: no answer."""
        for unit, kw in ((A, a_kw), (B, b_kw), (METER, meter_kw)):
            self.now_s += POLL_S / 3.0
            if kw is not None:
                reading = Reading(unit, Point.POWER_KW, kw, self.now_s, MAX_AGE_S)
                self.readings[unit, Point.POWER_KW] = reading
                self.watch.take(reading)


def rested() -> Said:
    said = Said()
    for _ in range(6):
        said.poll(50.0, 20.0, 60.0)
    assert said.loads_kw[-1] == pytest.approx(10.0)
    return said


def test_a_unit_that_missed_its_poll_is_not_waited_for_and_becomes_a_source_when_stale() -> None:
    said = rested()
    for _ in range(4):
        said.poll(None, 20.0, 60.0)
        assert said.loads_kw[-1] == pytest.approx(10.0)
    said = rested()
    for _ in range(5):
        said.poll(None, 20.0, 30.0)
    assert said.loads_kw[-1] == pytest.approx(40.0), "a step of the load counts meanwhile"
    for _ in range(4):
        said.poll(None, 20.0, 30.0)
    assert said.loads_kw[-1] == pytest.approx(-10.0)


def test_a_unit_that_vanishes_and_returns_is_a_unit_again_at_the_third_poll() -> None:
    said = rested()
    for _ in range(10):
        said.poll(None, 20.0, 60.0)
    assert said.loads_kw[-1] == pytest.approx(-40.0)
    for _ in range(3):
        said.poll(50.0, 20.0, 60.0)
    assert said.loads_kw[-1] == pytest.approx(10.0)


def test_a_step_that_the_meter_shows_twice_before_a_slower_unit_is_read_is_no_load() -> None:
    said = rested()
    for a_kw, meter_kw in ((50.0, 100.0), (None, 100.0), (90.0, 100.0), *[(90.0, 100.0)] * 4):
        said.poll(a_kw, 20.0, meter_kw)
        assert said.loads_kw[-1] == pytest.approx(10.0)


def test_a_unit_that_returns_while_another_moves_is_no_load_any_more() -> None:
    said = rested()
    for _ in range(10):
        said.poll(None, 20.0, 60.0)
    for b_kw in (60.0, -60.0, 60.0, -60.0, 60.0):
        said.poll(50.0, b_kw, 40.0 + b_kw)
    assert said.loads_kw[-3:] == pytest.approx([10.0] * 3)


def test_a_value_that_may_not_be_believed_is_outvoted_too() -> None:
    said = rested()
    bad = Reading(A, Point.POWER_KW, 999.0, said.now_s + 0.1, MAX_AGE_S, Quality.IMPLAUSIBLE)
    said.watch.take(bad)
    said.poll(None, 20.0, 60.0)
    for _ in range(5):
        said.poll(50.0, 20.0, 60.0)
    assert said.loads_kw == pytest.approx([10.0] * len(said.loads_kw))


def test_one_stray_reading_of_the_meter_or_of_a_unit_is_outvoted() -> None:
    said = rested()
    for a_kw, meter_kw in ((50.0, 600.0), *[(50.0, 60.0)] * 4, (90.0, 60.0), *[(50.0, 60.0)] * 4):
        said.poll(a_kw, 20.0, meter_kw)
        assert said.loads_kw[-1] == pytest.approx(10.0)


def test_after_a_silence_of_the_meter_its_first_reading_counts() -> None:
    said = rested()
    for _ in range(10):
        said.poll(50.0, 20.0, None)
    said.poll(50.0, 20.0, 30.0)
    assert said.loads_kw[-1] == pytest.approx(40.0)
