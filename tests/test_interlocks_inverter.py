"""What only an inverter can say: its faults, what it can do, whether it agrees with the battery."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rig import B1, MAX_AGE_S, Rig, asset, snapshot
from vppd.core.alarms import Action, Code, Level
from vppd.core.model import Limit, Point, Quality, Reading, Snapshot
from vppd.field.interlocks_inverter import (
    LIMITS,
    POWER_DISAGREES_S,
    device_limit,
    inverter_fault,
    power_disagrees,
)
from vppd.field.rule import Look, Notes, Verdict

KW, STATE, FAULTS = Point.INVERTER_KW, Point.INVERTER_STATE, Point.INVERTER_FAULT_BITS
HAS = frozenset({KW, STATE, FAULTS, Point.POWER_KW, *LIMITS})
UNIT = asset(declared=HAS)


def look(values: dict[Point, float], now_s: float = 10.0, age_s: float = 0.0) -> Look:
    return Look(snapshot(now_s, values, B1, age_s), UNIT)


def limit_of(verdict: Verdict | None) -> Limit:
    assert verdict is not None
    assert verdict.limit is not None
    return verdict.limit


# ---- faults -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({STATE: 4.0, FAULTS: 1.0}, "inverter_fault_bits 0x0001"),
        ({STATE: 4.0, FAULTS: float(1 << 31)}, "inverter_fault_bits 0x80000000"),
        ({STATE: 7.0, FAULTS: 0.0}, "its state is fault"),
        ({STATE: 7.0, FAULTS: 6.0}, "inverter_fault_bits 0x0006"),
    ],
)
def test_a_fault_event_or_the_state_fault_shuts_down_and_latches(
    values: dict[Point, float], text: str
) -> None:
    verdict, _ = inverter_fault(look(values), ())
    assert verdict is not None
    assert (verdict.rule, verdict.level, verdict.action, verdict.trips, verdict.text) == (
        *(Code.INVERTER_FAULT, Level.EMERGENCY, Action.SHUTDOWN),
        *(True, text),
    )
    assert limit_of(verdict) == replace(limit_of(verdict), low_kw=0.0, high_kw=0.0)


@pytest.mark.parametrize("state", [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0])
def test_every_other_state_without_events_is_fine(state: float) -> None:
    assert inverter_fault(look({STATE: state, FAULTS: 0.0}), ()) == (None, ())


@pytest.mark.parametrize("gone", [STATE, FAULTS])
def test_either_unknown_leaves_nothing_and_latches_nothing(gone: Point) -> None:
    values = {STATE: 4.0, FAULTS: 0.0}
    del values[gone]
    verdict, _ = inverter_fault(look(values), ())
    assert verdict is not None
    assert not verdict.trips
    assert (limit_of(verdict).low_kw, limit_of(verdict).high_kw) == (0.0, 0.0)
    stale, _ = inverter_fault(look({STATE: 4.0, FAULTS: 0.0}, age_s=MAX_AGE_S + 1.0), ())
    assert limit_of(stale).why is Code.READING_STALE


def test_the_state_alone_counts_where_there_are_no_events() -> None:
    unit = asset(declared=HAS - {FAULTS})
    verdict, _ = inverter_fault(Look(snapshot(10.0, {STATE: 7.0}), unit), ())
    assert verdict is not None
    assert verdict.trips
    assert inverter_fault(Look(snapshot(10.0, {STATE: 4.0}), unit), ()) == (None, ())
    verdict, _ = inverter_fault(look({STATE: 7.0}), ())  # its events unknown
    assert verdict is not None
    assert verdict.trips


# ---- what the device can do -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "low_kw", "high_kw", "kva"),
    [
        ({LIMITS[0]: 30.0}, -100.0, 30.0, math.inf),
        ({LIMITS[1]: 30.0}, -30.0, 100.0, math.inf),
        ({LIMITS[2]: 30.0}, -100.0, 100.0, 30.0),
        ({LIMITS[0]: 0.0, LIMITS[1]: 0.0, LIMITS[2]: 0.0}, 0.0, 0.0, 0.0),
        ({LIMITS[0]: -5.0}, -100.0, 0.0, math.inf),  # a limit never forces the other direction
        ({LIMITS[0]: 500.0, LIMITS[1]: 20.0}, -20.0, 100.0, math.inf),
    ],
)
def test_what_the_device_says_it_can_do(
    values: dict[Point, float], low_kw: float, high_kw: float, kva: float
) -> None:
    verdict, _ = device_limit(look(values), ())
    limit = limit_of(verdict)
    assert (limit.low_kw, limit.high_kw, limit.apparent_kva) == (low_kw, high_kw, kva)
    assert limit.why is Code.DEVICE_LIMIT


@pytest.mark.parametrize(
    "values", [{}, {LIMITS[0]: 100.0, LIMITS[1]: 100.0, LIMITS[2]: 110.0}, {LIMITS[0]: 200.0}]
)
def test_no_limit_where_it_never_said_one_or_can_do_all(values: dict[Point, float]) -> None:
    assert device_limit(look(values), ())[0] is None


@pytest.mark.parametrize("quality", [Quality.STALE, Quality.IMPLAUSIBLE, Quality.MISSING])
@pytest.mark.parametrize(
    ("point", "left"),
    [(LIMITS[0], (-100.0, 0.0)), (LIMITS[1], (0.0, 100.0)), (LIMITS[2], (-100.0, 100.0))],
)
def test_what_it_said_before_and_is_not_believed_now_leaves_nothing(
    point: Point, left: tuple[float, float], quality: Quality
) -> None:
    verdict, notes = device_limit(look({point: 500.0}), ())
    assert verdict is None
    reading = Reading(B1, point, 500.0, 11.0, MAX_AGE_S, quality)
    now = Snapshot(11.0, look({}).now.utc, {(B1, point): reading})
    verdict, notes = device_limit(Look(now, UNIT), notes)
    limit = limit_of(verdict)
    assert (limit.low_kw, limit.high_kw) == left
    assert limit.apparent_kva == (0.0 if point is LIMITS[2] else math.inf)
    verdict, _ = device_limit(look({point: 500.0}, 12.0), notes)
    assert verdict is None, "said again, it counts again"


saids = st.dictionaries(
    st.sampled_from(LIMITS), st.floats(allow_nan=True, allow_infinity=True), max_size=3
)


@given(st.lists(saids, min_size=1, max_size=4))
def test_a_device_limit_always_contains_zero_and_never_widens(
    said: list[dict[Point, float]],
) -> None:
    notes: Notes = ()
    for values in said:
        verdict, notes = device_limit(look(values), notes)
        if verdict is not None:
            limit = limit_of(verdict)
            assert -100.0 <= limit.low_kw <= 0.0 <= limit.high_kw <= 100.0
            for value, has_kw in ((values.get(LIMITS[0]), limit.high_kw),):
                if value is not None and math.isfinite(value):
                    assert has_kw <= max(value, 0.0)
    assert len(notes) == 3


# ---- whether it agrees ------------------------------------------------------------------------


def test_powers_apart_for_long_are_an_alarm_only() -> None:
    apart = {KW: 50.0, Point.POWER_KW: 44.0}  # five percent of 100 kW, and a little
    verdict, notes = power_disagrees(look(apart, 10.0), ())
    assert (verdict, notes) == (None, (10.0,))
    verdict, notes = power_disagrees(look(apart, 10.0 + POWER_DISAGREES_S - 0.1), notes)
    assert verdict is None
    verdict, notes = power_disagrees(look(apart, 10.0 + POWER_DISAGREES_S), notes)
    assert verdict is not None
    assert (verdict.rule, verdict.level, verdict.limit) == (
        *(Code.POWER_DISAGREES, Level.WARNING),
        None,
    )
    assert "inverter 50 kW, controller 44 kW" in verdict.text
    again, notes = power_disagrees(look({KW: 50.0, Point.POWER_KW: 45.0}, 16.0), notes)
    assert (again, notes) == (None, ())


def test_a_step_that_one_shows_later_is_no_disagreement() -> None:
    notes: Notes = ()
    for at_s in range(20):
        both = {KW: 50.0 * (at_s % 2), Point.POWER_KW: 50.0 * (at_s % 4 // 2)}
        verdict, notes = power_disagrees(look(both, 10.0 + at_s), notes)
        assert verdict is None


def test_one_unknown_power_says_nothing() -> None:
    assert power_disagrees(look({KW: 50.0}), (1.0,)) == (None, ())
    assert power_disagrees(look({Point.POWER_KW: 50.0}), (1.0,)) == (None, ())


# ---- at the gate ------------------------------------------------------------------------------


def _rig() -> Rig:
    rig = Rig(UNIT)
    well = {KW: 0.0, STATE: 4.0, FAULTS: 0.0, Point.POWER_KW: 0.0}
    for _ in range(3):
        for point, value in well.items():
            rig.say(B1, point, value)
        rig.submit()
        rig.answer()
        rig.clock.t_s += 0.1
    return rig


def test_a_fault_trips_and_a_limit_clamps_by_its_name() -> None:
    rig = _rig()
    rig.say(B1, LIMITS[0], 30.0)
    got = rig.ask(50.0)
    assert (got.power_kw, got.bound_by) == (30.0, (Code.DEVICE_LIMIT,))
    rig.say(B1, STATE, 7.0)
    got = rig.ask(50.0)
    assert (got.power_kw, rig.state()) == (0.0, "tripped")
    assert rig.alarmed(Code.INVERTER_FAULT, B1)
    rig.say(B1, STATE, 4.0)
    assert rig.ask(50.0).power_kw == 0.0, "latched"
    rig.gate.reset(B1, "ann")
    rig.clock.t_s += 0.1
    assert rig.ask(20.0).power_kw == 20.0


def test_the_devices_own_circle_bounds_both_powers() -> None:
    rig = _rig()
    rig.say(B1, LIMITS[2], 50.0)
    got = rig.ask(30.0, 60.0)
    assert got.power_kw == 30.0
    assert got.reactive_kvar == pytest.approx(40.0)
    assert Code.APPARENT_POWER in got.bound_by
