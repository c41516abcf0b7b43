"""The gate, against any wish, any reading, any device."""

import math
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.rig import (
    B1,
    B2,
    B3,
    HEALTHY,
    MAX_AGE_S,
    MODBUS,
    START_S,
    TICK_S,
    Rig,
    about,
    asset,
    asset_with_bms,
    chained,
    connection,
    words,
)
from vppd.core.alarms import Action, Code, Level
from vppd.core.model import (
    SITE,
    Cleared,
    DeviceNotice,
    Limit,
    Outcome,
    Point,
    Quality,
    ReadBack,
    Request,
    UnitId,
    WriteResult,
)
from vppd.core.records import TripRow
from vppd.field.feeders import Feeder, Feeders
from vppd.field.gate import DEADMAN_S
from vppd.field.rule import Look, Notes, Rule, Ruling, Verdict
from vppd.field.standing import OUTCOME_DUE_S

TINY, HUGE = sys.float_info.min * sys.float_info.epsilon, sys.float_info.max
wishes = st.one_of(
    st.floats(-300.0, 300.0), st.floats(allow_nan=True, allow_infinity=True), st.just(TINY)
)
qualities = st.sampled_from(list(Quality))
ages = st.sampled_from([0.0, 1.0, MAX_AGE_S, MAX_AGE_S + 0.01, 60.0, -0.1])


# ---- any wish, any reading ---------------------------------------------------


@given(wishes, wishes, wishes)
@settings(max_examples=200, deadline=None)
def test_no_wish_leaves_the_rating_and_the_circle(base_kw: float, freq_kw: float, q: float) -> None:
    rig = Rig(asset(apparent_kva=80.0)).open()
    got = rig.submit(Request(B1, base_kw, freq_kw, q))[B1]
    assert rig.wires[B1].last is got
    assert math.hypot(got.power_kw, got.reactive_kvar) <= 80.0 + 1e-9
    assert chained(got)
    if math.isfinite(got.asked_kw):
        assert abs(got.power_kw) <= abs(got.asked_kw)
        assert got.power_kw * got.asked_kw >= 0.0
    else:
        assert got.power_kw == 0.0
        assert Code.NOT_FINITE in got.bound_by
    assert got.power_kw == got.asked_kw or got.bound_by
    assert got.reactive_kvar == q or got.bound_by


values = st.one_of(st.floats(-50.0, 120.0), st.floats(allow_nan=True))


@given(st.dictionaries(st.sampled_from(sorted(MODBUS)), st.tuples(values, ages, qualities)), wishes)
@settings(max_examples=250, deadline=None)
def test_what_the_rules_leave_is_what_passes(
    seen: dict[Point, tuple[float, float, Quality]], wish_kw: float
) -> None:
    rig = Rig().open()
    for point, (value, age_s, quality) in seen.items():
        rig.say(B1, point, value, age_s, quality)
    now = rig.bus.snapshot()
    room = rig.gate.room(now)[B1]
    (got,) = rig.gate.submit(now, [Request(B1, 0.0, wish_kw)])
    assert room.low_kw <= got.power_kw <= room.high_kw
    assert chained(got)
    for verdict in rig.gate.decisions[B1].verdicts:
        if verdict.limit is not None:
            assert verdict.limit.low_kw <= got.power_kw <= verdict.limit.high_kw
            assert verdict.limit.low_kw <= room.low_kw <= room.high_kw <= verdict.limit.high_kw
    for point in (Point.POWER_KW, Point.SOC_PCT, Point.TEMPERATURE_C, Point.FAULT_BITS):
        if now.fresh(B1, point) is None:
            assert got.power_kw == 0.0
            assert got.reactive_kvar == 0.0


@pytest.mark.parametrize("wish_kw", [-100.0, -1.0, 0.0, 0.1, 100.0])
def test_healthy_means_obedient(wish_kw: float) -> None:
    rig = Rig(asset_with_bms(modules=30)).open()
    got = rig.ask(wish_kw, 20.0)
    assert (got.power_kw, got.reactive_kvar, got.bound_by) == (wish_kw, 20.0, ())
    assert (got.asked_kw, got.asked_kvar) == (wish_kw, 20.0)
    assert (got.at_s, got.valid_until_s) == (rig.clock.t_s, rig.clock.t_s + 1.0)
    assert rig.state() == ("running" if wish_kw else "ready")


def test_who_cut_is_named_in_order() -> None:
    rig = Rig(feeders=connection(asset(), high_kw=30.0)).open(soc_pct=11.5)
    got = rig.ask(200.0)
    assert got.power_kw == 30.0
    assert words(got.clamps) == [Code.RATING, Code.SOC_LOW, Code.CONNECTION]
    assert [c.after_kw for c in got.clamps] == [100.0, 50.0, 30.0]
    assert rig.state() == "limited"


def test_who_is_spared_by_the_shares_is_told_by_whom() -> None:
    def bound_by(base_kw: float, **asked: tuple[float, float]) -> list[Code]:
        rig = Rig(asset(B1), asset(B2)).open()
        rig.tell(B1, **seen)
        for other, (base, frequency) in asked.items():
            got = rig.submit(Request(B1, 0.0, base_kw), Request(UnitId(other), base, frequency))
        assert got[B1].power_kw == base_kw
        return words(got[B1].clamps)

    seen = {"soc_pct": 11.5}  # half of its discharge is left
    assert bound_by(50.0, b2=(0.0, 50.0)) == [Code.SOC_LOW]
    assert bound_by(49.9, b2=(0.0, 50.0)) == []
    seen = {"soc_pct": 93.5}
    assert bound_by(-50.0, b2=(0.0, 90.0)) == [Code.SOC_HIGH], "its own direction counts"
    seen = {"soc_pct": 5.0}
    assert bound_by(0.0, b2=(1.0, 40.0)) == [Code.SOC_LOW]
    assert bound_by(0.0, b2=(0.0, 0.5)) == [Code.SOC_LOW]
    assert bound_by(0.0, b2=(0.0, -40.0)) == []
    assert bound_by(0.0, b2=(0.0, 0.0)) == []


def test_a_unit_that_nobody_asks_for_is_asked_zero() -> None:
    rig = Rig(asset(B1), asset(B2)).open()
    rig.ask(50.0, 10.0)
    got = rig.submit(Request(B2, 0.0, 20.0))
    assert (got[B1].power_kw, got[B1].reactive_kvar) == (0.0, 0.0)
    assert rig.wires[B1].last is got[B1]
    assert got[B2].power_kw == 20.0


def test_unknown_units_and_duplicates_command_nobody_else() -> None:
    rig = Rig().open()
    got = rig.submit(
        Request(UnitId("ghost"), 50.0, 50.0),
        Request(B1, 0.0, 90.0),
        Request(B1, 0.0, 20.0),
    )
    assert list(got) == [B1]
    assert got[B1].power_kw == 20.0, "the last word counts"
    assert len(rig.wires[B1].offers) == 4
    ghost = WriteResult(UnitId("ghost"), Outcome.REFUSED, None, None, 0.0)
    for _ in range(5):
        rig.report(ghost)
    assert rig.latches.all() == ()


# ---- reactive power ----------------------------------------------------------


def test_reactive_power_yields_to_active_power_and_says_so() -> None:
    rig = Rig(asset(apparent_kva=100.0)).open()
    got = rig.ask(60.0, 90.0)
    assert (got.power_kw, got.reactive_kvar) == (60.0, about(80.0))
    assert got.bound_by == (Code.APPARENT_POWER,)
    assert "90" in got.clamps[0].detail
    assert got.clamps[0].before_kw == got.clamps[0].after_kw == 60.0
    got = rig.ask(100.0, -90.0)
    assert (got.power_kw, got.reactive_kvar) == (100.0, 0.0)
    assert rig.ask(0.0, math.nan).reactive_kvar == 0.0


def test_active_power_beyond_the_circle_is_cut() -> None:
    rig = Rig(asset(apparent_kva=60.0)).open()
    for sign in (1.0, -1.0):
        got = rig.ask(sign * 90.0, 10.0)
        assert (got.power_kw, got.reactive_kvar) == (sign * 60.0, 0.0)
        assert got.bound_by == (Code.APPARENT_POWER,)
        assert chained(got)


def test_a_shut_unit_gives_no_reactive_power_and_says_why() -> None:
    rig = Rig().open()
    rig.gate.trip(B1, Code.EMERGENCY_STOP, "pressed", "ann")
    got = rig.ask(0.0, 30.0)
    assert got.reactive_kvar == 0.0
    assert got.bound_by == (Code.EMERGENCY_STOP,)
    rig.tell(soc_pct=5.0)
    assert rig.ask(0.0, 30.0).bound_by == (Code.EMERGENCY_STOP,), "not who shuts one way only"
    # one direction shut is not shut, two are
    for seen in ({"soc_pct": 5.0}, {"temperature_c": -1.0}):
        rig = Rig().open(**seen)
        assert rig.ask(0.0, 30.0).reactive_kvar == 30.0
    rig = Rig().open(soc_pct=5.0, temperature_c=-1.0)
    got = rig.ask(0.0, 30.0)
    assert (got.reactive_kvar, rig.state()) == (0.0, "stopped")
    assert set(got.bound_by) & {Code.SOC_LOW, Code.CHARGE_COLD}
    assert (rig.ask(0.0).bound_by, rig.state()) == ((), "stopped")


def test_the_circle_of_the_connection_holds_all_reactive_power() -> None:
    pair = asset(B1), asset(B2)
    limit = Limit(-100.0, 100.0, Code.CONNECTION, "site", 100.0)
    rig = Rig(*pair, feeders=Feeders((Feeder((B1, B2), limit),))).open()
    asks = [Request(B1, 0.0, 30.0, 60.0), Request(B2, 0.0, 30.0, 100.0)]
    got = rig.submit(*asks)
    total_kvar = sum(each.reactive_kvar for each in got.values())
    assert sum(each.power_kw for each in got.values()) == 60.0
    assert total_kvar == about(80.0)
    assert got[B1].reactive_kvar == about(30.0)
    assert got[B1].bound_by == (Code.CONNECTION,)
    assert all(chained(each) for each in got.values())


# ---- opening by itself -------------------------------------------------------


def test_shut_until_every_needed_point_was_read_good_once() -> None:
    rig = Rig()
    rig.submit()
    assert rig.shut_by() == Code.STARTING
    rig.tell()
    rig.say(B1, Point.SOC_PCT, 50.0, 0.0, Quality.MISSING)
    got = rig.ask(50.0)
    assert (got.power_kw, rig.state()) == (0.0, "starting")
    assert Code.STARTING in got.bound_by
    assert any("soc_pct" in cut.detail for cut in got.clamps if cut.why is Code.STARTING)
    for _ in range(3):  # and the link has proven itself
        rig.clock.t_s += 0.5
        rig.tell()
        rig.submit()
    got = rig.ask(50.0)
    assert (got.power_kw, rig.shut_by()) == (50.0, None)
    # later blindness is the rule's matter, and not told as starting
    rig.say(B1, Point.CURRENT_A, 0.0, 0.0, Quality.FROZEN)
    got = rig.ask(50.0)
    assert got.bound_by == (Code.READING_FROZEN,)


def test_points_may_be_read_one_after_the_other() -> None:
    rig = Rig()
    for point, value in HEALTHY.items():
        rig.clock.t_s += 1.0
        rig.say(B1, point, value)
        assert rig.ask(50.0).power_kw == 0.0
    assert rig.open().ask(50.0).power_kw == 50.0


def test_nothing_is_told_of_values_not_read_yet() -> None:
    rig = Rig()
    rig.submit()
    assert rig.audit.rows() == ()
    assert [each.code for each in rig.alarms.standing()] == []


def test_one_starting_unit_does_not_shut_the_other() -> None:
    rig = Rig(asset(B1), asset(B2))
    rig.tell(B2)
    got = rig.submit(Request(B1, 0.0, 10.0), Request(B2, 0.0, 10.0))
    assert (got[B1].power_kw, got[B2].power_kw) == (0.0, 10.0)
    assert rig.shut_by() is None


# ---- trips -------------------------------------------------------------------


def test_a_trip_latches_until_reset_and_trips_again_while_its_cause_is_there() -> None:
    rig = Rig().open()
    rig.say(B1, Point.TEMPERATURE_C, 61.0)
    assert rig.ask(50.0).power_kw == 0.0
    assert (rig.state(), rig.alarmed(Code.OVER_TEMPERATURE, B1)) == ("tripped", True)
    rig.tell()
    got = rig.ask(50.0)
    assert (got.power_kw, got.bound_by) == (0.0, (Code.OVER_TEMPERATURE,))
    rig.say(B1, Point.TEMPERATURE_C, 61.0)
    assert [latch.code for latch in rig.gate.reset(B1, "ann")] == [Code.OVER_TEMPERATURE]
    assert not rig.alarmed(Code.OVER_TEMPERATURE, B1)
    assert rig.ask(50.0).power_kw == 0.0
    assert (rig.state(), rig.alarmed(Code.OVER_TEMPERATURE, B1)) == ("tripped", True)
    rig.tell()
    rig.gate.reset(B1, "ann")
    assert rig.ask(50.0).power_kw == 50.0
    assert [row.action for row in rig.kept] == ["trip", "reset", "trip", "reset"]
    assert rig.kept[1].by == "ann"


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"temperature_c": 60.0}, Code.OVER_TEMPERATURE),
        ({"fault_bits": 1.0}, Code.DEVICE_FAULT),
        ({"bms_fault_bits": 16.0}, Code.BMS_FAULT),
        ({"cell_max_c": 60.0}, Code.OVER_TEMPERATURE),
    ],
)
def test_emergencies_latch_and_switch_the_unit_off(values: dict[str, float], code: Code) -> None:
    rig = Rig(asset_with_bms()).open()
    assert rig.wires[B1].acts == ["enable"]
    rig.tell(**values)
    rig.submit()
    rig.tell()
    rig.submit()
    assert [latch.code for latch in rig.latches.all()] == [code]
    assert rig.wires[B1].acts == ["enable", "disable"]
    rig.gate.reset(B1, "ann")
    rig.submit()
    assert rig.wires[B1].acts == ["enable", "disable", "reset_alarms", "enable"]


@pytest.mark.parametrize(("scope", "shut"), [(SITE, {B1, B2, B3}), ("north", {B1, B2}), (B2, {B2})])
def test_a_trip_holds_its_scope(scope: str, shut: set[UnitId]) -> None:
    trio = asset(B1), asset(B2), asset(B3, building="south")
    rig = Rig(*trio).open()
    rig.gate.trip(scope, Code.EMERGENCY_STOP, "pressed", "ann")
    got = rig.submit(*(Request(each.id, 0.0, 10.0) for each in trio))
    assert {id_ for id_, each in got.items() if each.power_kw == 0.0} == shut
    assert rig.shut_by() == ("emergency_stop: pressed" if scope == SITE else None)
    assert rig.gate.reset("nowhere", "ann") == ()
    if scope != SITE:
        rig.gate.reset(SITE, "ann")
        assert rig.submit(Request(B2, 0.0, 10.0))[B2].power_kw == 0.0
        for wire in rig.wires.values():
            wire.acts.clear()
    rig.gate.reset(scope, "ann")
    assert {id_ for id_, wire in rig.wires.items() if "reset_alarms" in wire.acts} == shut
    got = rig.submit(*(Request(each.id, 0.0, 10.0) for each in trio))
    assert all(each.power_kw == 10.0 for each in got.values())


def test_a_trip_counts_at_once_even_within_one_instant() -> None:
    rig = Rig().open()
    now = rig.bus.snapshot()
    assert rig.gate.room(now)[B1].high_kw == 100.0
    rig.gate.trip(SITE, Code.EMERGENCY_STOP, "pressed", "ann")
    (got,) = rig.gate.submit(now, [Request(B1, 0.0, 50.0)])
    assert got.power_kw == 0.0
    rig.gate.reset(SITE, "ann")
    now = rig.bus.snapshot()
    assert rig.gate.room(now)[B1].high_kw == 100.0
    rig.gate.disable(B1, "ann")
    (got,) = rig.gate.submit(now, [Request(B1, 0.0, 50.0)])
    assert got.power_kw == 0.0


def test_trips_survive_a_restart_and_unreadable_ones_mean_tripped() -> None:
    first = Rig().open()
    first.tell(fault_bits=1.0)
    first.submit()
    again = Rig(rows=first.kept).open()
    assert again.ask(50.0).power_kw == 0.0
    assert (again.state(), again.alarmed(Code.DEVICE_FAULT, B1)) == ("tripped", True)
    assert again.wires[B1].acts == ["disable"]
    (alarm,) = [each for each in again.alarms.standing() if each.code is Code.DEVICE_FAULT]
    assert alarm.since == first.kept[0].at, "an alarm is as old as its trip"
    again.gate.reset(B1, "ann")
    assert again.ask(50.0).power_kw == 50.0
    blind = Rig(rows=None).open()
    assert blind.ask(50.0).power_kw == 0.0
    assert blind.alarmed(Code.TRIP_STATE_UNREADABLE)
    assert str(blind.shut_by()).startswith("trip_state_unreadable")
    blind.gate.reset(SITE, "ann")
    assert blind.ask(50.0).power_kw == 50.0


def test_disabled_is_kept_over_restarts_and_is_no_trip() -> None:
    rig = Rig().open()
    rig.gate.disable(B1, "ann")
    got = rig.ask(50.0)
    assert (got.power_kw, got.bound_by, rig.state()) == (0.0, (Code.DISABLED,), "disabled")
    assert rig.wires[B1].acts == ["enable", "disable"]
    rig.gate.reset(B1, "ann")
    assert rig.ask(50.0).power_kw == 0.0
    again = Rig(rows=[row for row in rig.kept if row.action == "disable"]).open()
    assert again.ask(50.0).power_kw == 0.0
    assert not again.alarmed(Code.DISABLED, B1)
    again.gate.enable(B1, "ann")
    assert again.ask(50.0).power_kw == 50.0
    assert again.wires[B1].acts == ["disable", "enable"]


def test_a_fault_latched_by_the_device_has_time_to_go_and_gives_nothing_meanwhile() -> None:
    rig = Rig().open(fault_bits=1.0)
    rig.submit()
    assert [latch.code for latch in rig.latches.all()] == [Code.DEVICE_FAULT]
    rig.gate.reset(B1, "ann")
    reset_s = rig.clock.t_s
    for after_s in (0.0, 0.5, 0.99):
        rig.clock.t_s = reset_s + after_s
        rig.tell(fault_bits=1.0)
        assert rig.ask(50.0).power_kw == 0.0
        assert rig.latches.all() == ()
        assert rig.wires[B1].acts[-1] == "reset_alarms", "not switched on while it faults"
    rig.clock.t_s = reset_s + 1.0
    rig.tell(fault_bits=1.0)
    assert rig.ask(50.0).power_kw == 0.0
    assert [latch.code for latch in rig.latches.all()] == [Code.DEVICE_FAULT], "it did not go"
    rig.gate.reset(B1, "ann")
    rig.clock.t_s += TICK_S
    rig.tell()
    assert rig.ask(50.0).power_kw == 50.0
    assert rig.wires[B1].acts[-1] == "enable"


def test_what_rules_remember_lasts_from_tick_to_tick() -> None:
    rig = Rig().open(soc_pct=10.0)
    rig.submit()
    rig.tell(soc_pct=10.2)
    assert rig.ask(50.0).power_kw == 0.0
    rig.tell(soc_pct=10.5)
    assert rig.ask(50.0).power_kw > 0.0


def _failing(look: Look, notes: Notes) -> Ruling:
    if look.value(Point.SOC_PCT) == 13.0:
        raise ZeroDivisionError("of all things")
    return None, notes


def test_a_rule_that_raises_trips_its_unit_alone() -> None:
    rules = [Rule(Code.SOC_RATE, (Point.SOC_PCT,), _failing)]
    rig = Rig(asset(B1), asset(B2), rules=rules).open()
    rig.tell(B1, soc_pct=13.0)
    got = rig.submit(Request(B1, 0.0, 50.0), Request(B2, 0.0, 50.0))
    assert (got[B1].power_kw, got[B2].power_kw) == (0.0, 50.0)
    assert got[B1].bound_by == (Code.RULE_ERROR,)
    assert "ZeroDivisionError" in got[B1].clamps[0].detail
    rig.gate.reset(B1, "ann")
    assert rig.submit(Request(B1, 0.0, 50.0))[B1].power_kw == 0.0
    rig.tell(B1)
    rig.gate.reset(B1, "ann")
    assert rig.submit(Request(B1, 0.0, 50.0))[B1].power_kw == 50.0


# ---- hardware interlock inputs -----------------------------------------------


def _inputs(scope: str) -> Rig:
    trio = asset(B1), asset(B2), asset(B3, building="south")
    rig = Rig(*trio, inputs={UnitId("input:fire"): scope})
    rig.input("fire")
    return rig.open()


def _all(rig: Rig) -> set[UnitId]:
    """The units that get nothing."""
    got = rig.submit(*(Request(each.id, 0.0, 10.0) for each in rig.assets))
    return {id_ for id_, each in got.items() if each.power_kw == 0.0}


SCOPES = pytest.mark.parametrize(
    ("scope", "shut"), [(SITE, {B1, B2, B3}), ("south", {B3}), (B1, {B1})]
)


@SCOPES
def test_an_unhealthy_input_trips_its_scope(scope: str, shut: set[UnitId]) -> None:
    rig = _inputs(scope)
    assert _all(rig) == set()
    rig.input("fire", 0.0)
    assert _all(rig) == shut
    rig.input("fire", 1.0)
    assert _all(rig) == shut, "latched"
    assert rig.alarmed(Code.INTERLOCK_INPUT, UnitId(scope))
    rig.input("fire", 0.0)
    rig.gate.reset(scope, "ann")
    assert _all(rig) == shut, "the cause is still there"
    rig.input("fire", 1.0)
    rig.gate.reset(scope, "ann")
    assert _all(rig) == set()


@SCOPES
def test_a_silent_input_is_a_limit_that_ends_by_itself(scope: str, shut: set[UnitId]) -> None:
    rig = _inputs(scope)
    rig.clock.t_s += 2.0
    rig.tell()
    assert _all(rig) == set()
    rig.clock.t_s += 1.0
    rig.tell()
    assert _all(rig) == shut
    assert rig.alarmed(Code.INTERLOCK_SILENT, UnitId("input:fire"))
    assert rig.latches.all() == ()
    silent = "interlock_silent: fire does not answer"
    assert rig.shut_by() == (silent if scope == SITE else None)
    rig.input("fire")
    assert _all(rig) == set()
    assert not rig.alarmed(Code.INTERLOCK_SILENT, UnitId("input:fire"))


@pytest.mark.parametrize("value", [0.0, 2.0, -1.0, 0.5])
def test_anything_but_healthy_is_unhealthy(value: float) -> None:
    rig = _inputs(SITE)
    rig.input("fire", value)
    assert _all(rig) == {B1, B2, B3}
    assert [latch.code for latch in rig.latches.all()] == [Code.INTERLOCK_INPUT]


def test_an_input_never_read_shuts_and_is_told_after_a_grace() -> None:
    rig = Rig(inputs={UnitId("input:door"): B1})
    rig.open()
    assert rig.ask(50.0).power_kw == 0.0
    assert not rig.alarmed(Code.INTERLOCK_SILENT, UnitId("input:door"))
    rig.clock.t_s = START_S + 3.0
    rig.submit()
    assert not rig.alarmed(Code.INTERLOCK_SILENT, UnitId("input:door"))
    rig.clock.t_s += 0.1
    rig.tell()
    rig.submit()
    assert rig.alarmed(Code.INTERLOCK_SILENT, UnitId("input:door"))
    rig.input("door", math.nan)
    assert rig.ask(50.0).power_kw == 0.0


# ---- ramps -------------------------------------------------------------------


def _climb(rig: Rig, ask: Request, ticks: int, every_s: float = TICK_S) -> list[float]:
    got = []
    for _ in range(ticks):
        rig.tell(setpoint_kw=rig.wires[B1].last.power_kw, power_kw=rig.wires[B1].last.power_kw)
        got.append(rig.submit(ask)[B1].power_kw)
        rig.answer()
        rig.clock.t_s += every_s
    return got


def test_base_climbs_by_the_safety_ramp_and_comes_home_at_once() -> None:
    rig = Rig().open()
    up = _climb(rig, Request(B1, 50.0, 0.0), 4)
    assert up == about([1.0, 2.0, 3.0, 4.0])
    assert rig.wires[B1].last.bound_by == (Code.RAMP,)
    assert rig.state() == "running", "a ramp is no limit worth a state"
    assert _climb(rig, Request(B1, 2.0, 0.0), 1) == [2.0]
    down = _climb(rig, Request(B1, -50.0, 0.0), 3)
    assert down == about([-1.0, -2.0, -3.0])
    assert _climb(rig, Request(B1, 0.0, 0.0), 1) == [0.0]


def test_no_more_than_a_fifth_of_a_second_counts() -> None:
    rig = Rig().open()
    assert _climb(rig, Request(B1, 50.0, 0.0), 3, 5.0) == about([1.0, 3.0, 5.0])


def test_droop_does_not_wait_for_the_safety_ramp() -> None:
    rig = Rig().open()
    assert _climb(rig, Request(B1, 0.0, 48.0), 1) == [48.0]
    assert _climb(rig, Request(B1, 50.0, 48.0), 2) == about([49.0, 50.0])
    assert _climb(rig, Request(B1, 50.0, -48.0), 1) == [0.0], "3 of base has been reached"


def test_droop_against_base_does_not_hide_an_unramped_base() -> None:
    rig = Rig().open()
    assert _climb(rig, Request(B1, -90.0, 95.0), 1) == [5.0]
    (got,) = _climb(rig, Request(B1, -90.0, 0.0), 1)
    assert got == about(-2.0)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_base_climbs_behind_the_droop_that_is_against_it(sign: float) -> None:
    rig = Rig().open()
    got = _climb(rig, Request(B1, sign * 30.0, sign * -5.0), 40)
    assert got[:5] == about([0.0] * 5, abs=1e-9)
    assert got[5:8] == about([sign * 1.0, sign * 2.0, sign * 3.0])
    assert got[-1] == about(sign * 25.0)


def test_a_stop_forgets_what_climbed_behind_the_droop() -> None:
    rig = Rig().open()
    _climb(rig, Request(B1, 30.0, -25.0), 10)
    rig.gate.trip(B1, Code.EMERGENCY_STOP, "pressed", "anna")
    _climb(rig, Request(B1, 30.0, -25.0), 1)
    rig.gate.reset(B1, "anna")
    assert _climb(rig, Request(B1, 30.0, 0.0), 2) == about([1.0, 2.0])


def test_two_ramps_at_once_are_no_limit_worth_a_state() -> None:
    rig = Rig(asset(device_ramp_kw_per_s=5.0)).open()
    _climb(rig, Request(B1, 50.0, 0.0), 1)
    assert set(rig.wires[B1].last.bound_by) == {Code.RAMP, Code.DEVICE_RAMP}
    assert rig.state() == "running"


def test_a_device_ramp_holds_droop_too() -> None:
    rig = Rig(asset(device_ramp_kw_per_s=20.0)).open()
    assert _climb(rig, Request(B1, 0.0, 48.0), 3) == about([2.0, 4.0, 6.0])
    assert rig.wires[B1].last.bound_by == (Code.DEVICE_RAMP,)
    assert _climb(rig, Request(B1, 0.0, 0.0), 1) == [0.0]
    assert _climb(rig, Request(B1, 50.0, 0.0), 3) == about([1.0, 2.0, 3.0])


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, None])
def test_the_ramp_does_not_climb_on_what_was_not_acknowledged(outcome: Outcome | None) -> None:
    rig = Rig().open()
    got = []
    for _ in range(2):
        rig.tell()
        got.append(rig.submit(Request(B1, 50.0, 0.0))[B1].power_kw)
        if outcome is not None:
            rig.answer(outcome)
        rig.clock.t_s += TICK_S
    for _ in range(5):
        rig.tell()
        got.append(rig.submit(Request(B1, 50.0, 0.0))[B1].power_kw)
        rig.clock.t_s += TICK_S
    assert max(got) == about(2.0), "0.2 s beyond the last acknowledged 0"


def test_an_acknowledgement_is_of_what_was_sent_not_of_what_was_offered_since() -> None:
    rig = Rig().open()
    rig.tell()
    sent = rig.submit(Request(B1, 50.0, 0.0))[B1]
    for _ in range(3):
        rig.clock.t_s += TICK_S
        rig.tell()
        rig.submit(Request(B1, 50.0, 0.0))
    rig.report(WriteResult(B1, Outcome.WRITTEN, 1.0, 0.0, rig.clock.t_s, "", sent.at_s))
    rig.clock.t_s += TICK_S
    assert rig.submit(Request(B1, 50.0, 0.0))[B1].power_kw == about(1.0 + 2.0)
    late = WriteResult(B1, Outcome.WRITTEN, 1.0, 0.0, rig.clock.t_s, "", sent.at_s - 50.0)
    rig.report(late)
    rig.clock.t_s += TICK_S
    assert rig.submit(Request(B1, 50.0, 0.0))[B1].power_kw == about(1.0 + 2.0)


def test_a_held_setpoint_counts_as_acknowledged() -> None:
    rig = Rig().open()
    for expected_kw in (1.0, 2.0, 3.0):
        rig.tell()
        assert rig.submit(Request(B1, 50.0, 0.0))[B1].power_kw == about(expected_kw)
        rig.answer(Outcome.HELD)
        rig.clock.t_s += TICK_S


@pytest.mark.parametrize(
    ("setpoint_kw", "measured_kw", "from_kw"),
    [
        (40.0, 30.0, 30.0),
        (20.0, 30.0, 20.0),
        (-40.0, -30.0, -30.0),
        (40.0, -30.0, 0.0),
        (0.0, 30.0, 0.0),
    ],
)
def test_who_returns_climbs_from_the_smaller_of_setpoint_and_measured(
    setpoint_kw: float, measured_kw: float, from_kw: float
) -> None:
    rig = Rig().open()
    seen = {"setpoint_kw": setpoint_kw, "power_kw": measured_kw}
    rig.link(up=False)
    rig.clock.t_s += 30.0
    rig.link(up=True)
    for _ in range(3):
        rig.clock.t_s += 0.5
        rig.tell(**seen)
        rig.submit()
    rig.link(up=True)
    rig.tell(**seen)
    wish_kw = math.copysign(90.0, measured_kw)
    assert rig.submit(Request(B1, wish_kw, 0.0))[B1].power_kw == from_kw
    rig.clock.t_s += TICK_S
    rig.tell(**seen)
    got = rig.submit(Request(B1, wish_kw, 0.0))[B1].power_kw
    assert got == about(from_kw + math.copysign(1.0, wish_kw))


def test_who_returns_without_a_setpoint_read_back_climbs_from_zero() -> None:
    rig = Rig(asset(declared=MODBUS - {Point.SETPOINT_KW})).open(power_kw=30.0)
    rig.link(up=True)
    assert rig.submit(Request(B1, 90.0, 0.0))[B1].power_kw == 0.0


def test_how_far_the_ramp_reaches_is_known_before_it_is_asked() -> None:
    rig = Rig().open()
    _climb(rig, Request(B1, 50.0, 7.0), 3)
    assert rig.gate.reaches(rig.bus.snapshot())[B1] == (about(1.0), about(4.0))
    rig.clock.t_s += 5.0
    rig.tell()
    assert rig.gate.reaches(rig.bus.snapshot())[B1] == (about(2.0), about(5.0))
    assert rig.submit(Request(B1, 5.0, 0.0))[B1].bound_by == ()
    _climb(rig, Request(B1, -50.0, 0.0), 2)
    assert rig.gate.reaches(rig.bus.snapshot())[B1] == (about(4.0), about(1.0))


def test_two_ticks_at_one_instant_do_not_climb_twice() -> None:
    rig = Rig().open()
    for _ in range(5):
        got = rig.submit(Request(B1, 50.0, 0.0))[B1]
        assert got.power_kw == about(1.0)
        rig.answer()
    rig.clock.t_s += TICK_S
    rig.tell()
    assert rig.submit(Request(B1, 50.0, 0.0))[B1].power_kw == about(2.0)


@given(
    st.lists(
        st.tuples(
            st.floats(-150.0, 150.0),
            st.floats(-50.0, 50.0),
            st.floats(0.0, 1.0),
            st.sampled_from([Outcome.WRITTEN, Outcome.HELD, Outcome.REFUSED, None]),
        ),
        max_size=12,
    )
)
@settings(max_examples=100, deadline=None)
def test_whatever_is_asked_the_base_never_outruns_its_ramp(
    asks: Sequence[tuple[float, float, float, Outcome | None]],
) -> None:
    rig = Rig().open()
    acked_s, reached_kw = rig.clock.t_s, 0.0  # a bound: every acknowledged tick at full ramp
    for base_kw, freq_kw, after_s, outcome in asks:
        rig.clock.t_s += after_s
        rig.tell()
        got = rig.submit(Request(B1, base_kw, freq_kw))[B1]
        may_kw = reached_kw + 10.0 * min(rig.clock.t_s - acked_s + TICK_S, 0.2)
        beyond_kw = abs(got.power_kw) - max(math.copysign(1.0, got.power_kw) * freq_kw, 0.0)
        assert beyond_kw <= may_kw + 1e-6
        assert chained(got)
        if outcome is not None and outcome is not Outcome.REFUSED:
            rig.answer(outcome)
            acked_s, reached_kw = rig.clock.t_s, may_kw


# ---- the connection ----------------------------------------------------------


@given(
    st.lists(st.tuples(wishes, wishes, wishes), min_size=1, max_size=5),
    st.floats(0.0, 250.0),
    st.floats(0.0, 250.0),
    st.floats(-400.0, 400.0),
)
@settings(max_examples=150, deadline=None)
def test_the_sum_fits_the_connection_and_the_feeder(
    asks: list[tuple[float, float, float]], export_kw: float, import_kw: float, load_kw: float
) -> None:
    trio = asset(B1), asset(B2), asset(B3, building="south")
    tree = Feeders(
        (
            Feeder((B1, B2), Limit(-70.0, 60.0, Code.CONNECTION, "north")),
            Feeder((B1, B2, B3), Limit(-import_kw, export_kw, Code.CONNECTION, "site")),
        )
    )
    rig = Rig(*trio, feeders=tree).open()
    rig.say(SITE, Point.LOAD_KW, load_kw)
    high_kw, low_kw = max(export_kw + load_kw, 0.0), min(-import_kw + load_kw, 0.0)
    for ask in asks:
        rig.tell()
        got = rig.submit(*(Request(each.id, 0.0, kw) for each, kw in zip(trio, ask, strict=True)))
        total_kw = sum(each.power_kw for each in got.values())
        assert low_kw - 1e-6 <= total_kw <= high_kw + 1e-6
        assert -70.0 - 1e-6 <= got[B1].power_kw + got[B2].power_kw <= 60.0 + 1e-6
        assert all(chained(each) for each in got.values())
        for each in got.values():
            assert abs(each.power_kw) <= 100.0
            assert not math.isfinite(each.asked_kw) or each.power_kw * each.asked_kw >= 0.0
        clipped = export_kw + load_kw < 0.0 or -import_kw + load_kw > 0.0
        assert rig.alarmed(Code.CONNECTION_CLIPPED) == clipped


def test_a_cut_at_the_root_does_not_break_a_leaf() -> None:
    trio = asset(B1), asset(B2), asset(B3, building="south")
    leaf = Feeder((B1, B2), Limit(-70.0, 60.0, Code.CONNECTION, "north"))
    root = Feeder((B1, B2, B3), Limit(-1.0, 0.0, Code.CONNECTION, "site"))
    rig = Rig(*trio, feeders=Feeders((leaf, root))).open()
    wishes_kw = {B1: 10.0, B2: -80.0, B3: 90.0}
    got = rig.submit(*(Request(id_, 0.0, kw) for id_, kw in wishes_kw.items()))
    powers_kw = {id_: each.power_kw for id_, each in got.items()}
    assert powers_kw[B1] + powers_kw[B2] >= -70.0 - 1e-9
    assert -1.0 - 1e-9 <= sum(powers_kw.values()) <= 1e-9
    assert all(chained(each) for each in got.values())


def test_load_shifts_the_connection() -> None:
    rig = Rig(
        asset(rated_kw=400.0, apparent_kva=400.0),
        feeders=connection(asset(), low_kw=-50.0, high_kw=50.0),
    ).open()
    rig.say(SITE, Point.LOAD_KW, 30.0)
    assert rig.ask(400.0).power_kw == about(80.0)
    assert rig.ask(-400.0).power_kw == about(-20.0)
    rig.say(SITE, Point.LOAD_KW, -70.0)
    assert rig.ask(400.0).power_kw == 0.0
    assert rig.alarmed(Code.CONNECTION_CLIPPED)
    rig.say(SITE, Point.LOAD_KW, 0.0)
    assert rig.ask(400.0).power_kw == 50.0
    assert not rig.alarmed(Code.CONNECTION_CLIPPED)


@pytest.mark.parametrize("age_s", [MAX_AGE_S + 0.1, -1.0])
def test_a_meter_gone_silent_leaves_nothing(age_s: float) -> None:
    rig = Rig(feeders=connection(asset(), low_kw=-50.0, high_kw=50.0)).open()
    rig.say(SITE, Point.LOAD_KW, 10.0, age_s)
    assert rig.ask(40.0).power_kw == 0.0
    assert rig.ask(-40.0).power_kw == 0.0
    rig.say(SITE, Point.LOAD_KW, 10.0)
    assert rig.ask(40.0).power_kw == 40.0


def _silent_pair(high_kw: float = 100.0, **changes: Any) -> Rig:
    pair = asset(B1, **changes), asset(B2, **changes)
    return Rig(*pair, feeders=connection(*pair, low_kw=-100.0, high_kw=high_kw)).open()


def test_what_a_silent_unit_may_still_give_counts_against_the_others() -> None:
    rig = _silent_pair()
    rig.submit(Request(B1, 0.0, 70.0))
    rig.answer()
    rig.clock.t_s += TICK_S
    rig.tell(B2)
    rig.link(up=False, unit=B1)
    got = rig.submit(Request(B2, 0.0, 90.0))
    assert got[B2].power_kw == about(30.0)
    assert got[B2].bound_by == (Code.CONNECTION,)
    rig.clock.t_s += 5.0
    rig.tell(B2)
    assert rig.submit(Request(B2, 0.0, 90.0))[B2].power_kw == about(30.0)
    rig.clock.t_s += 1.5  # its own revert timer has ended it
    rig.tell(B2)
    assert rig.submit(Request(B2, 0.0, 90.0))[B2].power_kw == 90.0


def test_a_silent_unit_without_a_revert_timer_counts_for_ever() -> None:
    rig = _silent_pair(reverts=False)
    rig.submit(Request(B1, 0.0, 70.0))
    rig.answer()
    rig.link(up=False, unit=B1)
    rig.clock.t_s += 3600.0
    rig.tell(B2)
    assert rig.submit(Request(B2, 0.0, 90.0))[B2].power_kw == about(30.0)
    rig.submit(Request(B2, 0.0, -100.0))
    assert rig.gate.decisions[B2].cleared.power_kw == -100.0, "it does not widen the other way"


def test_units_that_answer_do_not_count_twice() -> None:
    rig = _silent_pair()
    for _ in range(3):
        rig.tell()
        got = rig.submit(Request(B1, 0.0, 60.0), Request(B2, 0.0, 40.0))
        assert (got[B1].power_kw, got[B2].power_kw) == (60.0, 40.0)
        rig.answer()
        rig.clock.t_s += TICK_S


def test_a_unit_that_was_still_moving_when_it_went_silent_counts_whole() -> None:
    rig = _silent_pair()
    rig.submit(Request(B1, 0.0, 70.0))
    rig.answer()
    rig.clock.t_s += TICK_S
    rig.tell(B1, setpoint_kw=70.0, power_kw=5.0)
    rig.tell(B2)
    rig.link(up=False, unit=B1)
    assert rig.submit(Request(B2, 0.0, 90.0))[B2].power_kw == about(30.0)
    rig.clock.t_s += TICK_S
    rig.tell(B2)
    assert rig.submit(Request(B2, 0.0, 90.0))[B2].power_kw == about(30.0)


def test_a_lost_write_may_have_arrived() -> None:
    rig = _silent_pair()
    rig.submit(Request(B1, 0.0, 70.0))
    rig.wires[B1].answer(Outcome.LOST, rig.clock.t_s)
    rig.link(up=False, unit=B1)
    rig.clock.t_s += TICK_S
    rig.tell(B2)
    assert rig.submit(Request(B2, 0.0, 90.0))[B2].power_kw == about(30.0)


def test_silent_units_that_pull_against_each_other_do_not_cancel() -> None:
    trio = asset(B1), asset(B2), asset(B3)
    rig = Rig(*trio, feeders=connection(*trio, low_kw=-100.0, high_kw=100.0)).open()
    rig.submit(Request(B1, 0.0, 70.0), Request(B2, 0.0, -60.0))
    rig.answer()
    rig.link(up=False, unit=B1)
    rig.link(up=False, unit=B2)
    rig.clock.t_s += TICK_S
    rig.tell(B3)
    assert rig.submit(Request(B3, 0.0, 90.0))[B3].power_kw == about(30.0)
    assert rig.submit(Request(B3, 0.0, -90.0))[B3].power_kw == about(-40.0)


def test_a_unit_whose_values_went_stale_counts_before_its_link_is_called_lost() -> None:
    rig = _silent_pair(reverts=False)
    rig.submit(Request(B1, 0.0, 70.0))
    rig.answer()
    rig.clock.t_s += MAX_AGE_S + 0.1
    rig.tell(B2)
    got = rig.submit(Request(B2, 0.0, 90.0))
    assert rig.state(B1) == "lost"
    assert got[B2].power_kw == about(30.0)


# ---- devices that do not do as told ------------------------------------------


def test_three_refusals_trip() -> None:
    rig = Rig().open()
    for count in range(3):
        assert rig.ask(20.0).power_kw == 20.0, count
        rig.answer(Outcome.REFUSED)
    got = rig.ask(20.0)
    assert (got.power_kw, got.bound_by) == (0.0, (Code.WRITE_REFUSED,))
    rig.gate.reset(B1, "ann")
    rig.answer(Outcome.REFUSED)
    assert rig.ask(20.0).power_kw == 20.0, "a reset forgives"


def test_a_lost_link_is_a_limit_at_once_and_moves_the_share() -> None:
    rig = Rig(asset(B1), asset(B2)).open()
    rig.link(up=False)
    now = rig.bus.snapshot()
    room = rig.gate.room(now)
    assert (room[B1].low_kw, room[B1].high_kw) == (0.0, 0.0)
    assert room[B2].high_kw == 100.0
    got = rig.ask(20.0)
    assert (got.power_kw, got.bound_by, rig.latches.all()) == (0.0, (Code.LINK_LOST,), ())
    rig.link(up=True)
    rig.clock.t_s += TICK_S
    rig.tell()
    assert rig.ask(20.0).power_kw == 20.0


def test_a_device_that_refuses_while_it_is_told_trips_all_the_same() -> None:
    rig = Rig().open()
    wire = rig.wires[B1]
    plain = wire.offer

    def refusing(cleared: Cleared) -> None:
        plain(cleared)
        wire.answer(Outcome.REFUSED, rig.clock.t_s)

    wire.offer = refusing  # type: ignore[method-assign]
    for _ in range(3):
        assert rig.ask(20.0).power_kw == 20.0
    assert rig.ask(20.0).bound_by == (Code.WRITE_REFUSED,)


def test_three_changed_read_backs_trip_and_reverted_ones_alone_only_alarm() -> None:
    rig = Rig().open()
    for _ in range(10):
        rig.read_back(ReadBack.REVERTED)
    assert rig.alarmed(Code.READ_BACK_REVERTED, B1)
    assert rig.ask(20.0).power_kw == 20.0
    rig = Rig().open()
    rig.read_back(ReadBack.CHANGED)
    rig.read_back(ReadBack.CHANGED)
    assert rig.ask(20.0).power_kw == 20.0
    rig.read_back(ReadBack.CHANGED)
    assert rig.ask(20.0).bound_by == (Code.RIVAL,)


def test_a_fall_before_the_changes_was_the_rivals_too() -> None:
    rig = Rig().open()
    rig.read_back(ReadBack.REVERTED)
    rig.read_back(ReadBack.CHANGED)
    assert rig.ask(20.0).power_kw == 20.0
    rig.read_back(ReadBack.CHANGED)
    assert rig.ask(20.0).bound_by == (Code.RIVAL,)


def test_a_rival_that_won_is_told_zero_once_and_not_competed_with() -> None:
    rig = Rig(asset(B1), asset(B2)).open()
    for _ in range(3):
        rig.read_back(ReadBack.CHANGED)
    count = len(rig.wires[B1].offers)
    for told in (1, 2):
        assert rig.ask(20.0).power_kw == 0.0
        assert len(rig.wires[B1].offers) == count + told, "until a 0 was answered"
    rig.answer()
    rig.ask(20.0)
    assert len(rig.wires[B1].offers) == count + 2
    rig.clock.t_s += 60.0
    rig.wires[B2].answer(Outcome.HELD, rig.clock.t_s)
    assert rig.gate.proven(rig.clock.t_s), "who is not asked owes no outcome"
    rig.gate.reset(B1, "ann")
    rig.submit()
    assert len(rig.wires[B1].offers) == count + 3


def test_a_stop_is_for_all_even_where_a_rival_won() -> None:
    rig = Rig().open()
    for _ in range(3):
        rig.read_back(ReadBack.CHANGED)
    rig.submit()
    rig.answer()
    count = len(rig.wires[B1].offers)
    rig.submit()
    assert len(rig.wires[B1].offers) == count
    rig.gate.stop(rig.bus.snapshot())
    assert len(rig.wires[B1].offers) == count + 1


def test_an_emergency_stop_is_told_even_where_a_rival_won() -> None:
    rig = Rig().open()
    for _ in range(3):
        rig.read_back(ReadBack.CHANGED)
    rig.submit()
    rig.answer()
    count = len(rig.wires[B1].offers)
    rig.gate.trip(SITE, Code.EMERGENCY_STOP, "pressed", "ann")
    rig.submit()
    assert len(rig.wires[B1].offers) == count + 1
    assert rig.wires[B1].last.power_kw == 0.0


def test_a_broken_actuator_is_fatal_but_the_others_are_told_first() -> None:
    rig = Rig(asset(B1), asset(B2), asset(B3)).open()
    rig.wires[B1].breaks = True
    with pytest.raises(ExceptionGroup) as told:
        rig.submit(Request(B2, 0.0, 30.0))
    assert "the wire of b1 broke" in repr(told.value.exceptions)
    assert rig.wires[B2].last.power_kw == 30.0
    count = len(rig.wires[B3].offers)
    with pytest.raises(ExceptionGroup):
        rig.gate.stop(rig.bus.snapshot())
    assert rig.wires[B2].last.power_kw == 0.0
    assert len(rig.wires[B3].offers) == count + 1


# ---- dead man, stop, read-only, watchdog -------------------------------------


def test_the_dead_man_asks_zero_for_all() -> None:
    rig = Rig().open()
    rig.ask(50.0, 20.0)
    rig.clock.t_s += 0.5
    rig.gate.watch(rig.bus.snapshot)
    assert rig.wires[B1].last.power_kw == 50.0
    assert rig.shut_by() is None
    rig.clock.t_s += 0.001
    rig.tell()
    rig.gate.watch(rig.bus.snapshot)
    assert (rig.wires[B1].last.power_kw, rig.wires[B1].last.reactive_kvar) == (0.0, 0.0)
    assert rig.shut_by() == Code.DEAD_MAN
    assert rig.wires[B1].last.bound_by == (Code.DEAD_MAN,)
    assert rig.alarmed(Code.DEAD_MAN)
    rig.gate.watch(rig.bus.snapshot)
    assert len(rig.journal.events(Code.DEAD_MAN)) == 1
    got = rig.ask(50.0)
    assert got.power_kw == 50.0
    rig.gate.watch(rig.bus.snapshot)
    assert not rig.alarmed(Code.DEAD_MAN)
    assert rig.shut_by() is None


def test_the_dead_man_wakes_before_the_first_tick_too() -> None:
    rig = Rig()
    rig.clock.t_s += DEADMAN_S + 0.1
    rig.gate.watch(rig.bus.snapshot)
    assert rig.wires[B1].last.power_kw == 0.0


def test_stop_is_zero_and_stays_zero() -> None:
    rig = Rig(asset(B1), asset(B2, read_only=True)).open()
    rig.ask(50.0)
    now = rig.bus.snapshot()
    rig.gate.room(now)
    waiting = rig.gate.stop(now)
    assert list(waiting) == [B1]
    assert (rig.wires[B1].last.power_kw, rig.shut_by()) == (0.0, Code.STOPPING)
    assert rig.wires[B1].last.bound_by == (Code.STOPPING,)
    got = rig.ask(50.0, 10.0)
    assert (got.power_kw, got.reactive_kvar) == (0.0, 0.0)
    assert Code.STOPPING in got.bound_by


def test_a_read_only_unit_is_never_written() -> None:
    rig = Rig(asset(read_only=True)).open()
    got = rig.ask(50.0)
    assert (got.power_kw, got.bound_by) == (0.0, (Code.READ_ONLY,))
    assert rig.wires[B1].offers == []
    assert rig.wires[B1].acts == []
    rig.gate.reset(B1, "ann")
    assert rig.wires[B1].acts == []
    rig.clock.t_s += 100.0
    assert rig.gate.proven(rig.clock.t_s)


def test_a_unit_without_a_revert_timer_alarms_for_ever() -> None:
    assert Rig(asset(reverts=False)).alarmed(Code.NO_REVERT, B1)
    assert not Rig().alarmed(Code.NO_REVERT, B1)


def test_silence_counts_from_when_the_tick_and_the_writers_begin() -> None:
    rig = Rig(inputs={UnitId("input:fire"): SITE})
    rig.clock.t_s += 60.0
    rig.gate.begin()
    rig.gate.watch(rig.bus.snapshot)
    assert rig.wires[B1].offers == []
    assert rig.gate.proven(rig.clock.t_s + OUTCOME_DUE_S)
    assert not rig.gate.proven(rig.clock.t_s + OUTCOME_DUE_S + 0.1)
    rig.submit()
    assert not rig.alarmed(Code.INTERLOCK_SILENT, UnitId("input:fire"))


def test_control_is_proven_by_an_outcome_of_every_unit() -> None:
    rig = Rig(asset(B1), asset(B2))
    assert rig.gate.proven(rig.clock.t_s)
    rig.open()
    rig.clock.t_s += OUTCOME_DUE_S - 1.0
    rig.wires[B1].answer(Outcome.LOST, rig.clock.t_s)
    assert rig.gate.proven(rig.clock.t_s)
    rig.clock.t_s += 2.0
    assert not rig.gate.proven(rig.clock.t_s), "the writer of b2 says nothing"
    rig.link(up=False, unit=B2)
    assert rig.gate.proven(rig.clock.t_s), "a lost link is an outcome"


def test_a_device_that_says_it_is_off_gives_nothing_and_the_gate_says_so() -> None:
    rig = Rig().open()
    assert rig.ask(50.0).power_kw == 50.0
    rig.report(DeviceNotice(B1, Code.DEVICE_DISABLED, True, rig.clock.t_s, "mode reads 0, not 3"))
    cleared = rig.ask(50.0)
    assert (cleared.power_kw, cleared.bound_by) == (0.0, (Code.DEVICE_DISABLED,))
    assert (rig.state(), rig.alarmed(Code.DEVICE_DISABLED, B1)) == ("stopped", True)
    rig.report(DeviceNotice(B1, Code.DEVICE_DISABLED, False, rig.clock.t_s, "enabled"))
    assert rig.ask(50.0).power_kw > 0.0


# ---- what users see ----------------------------------------------------------


def test_states() -> None:
    rig = Rig(asset(B1)).open()
    rig.ask(0.0)
    assert rig.state() == "ready"
    rig.ask(10.0)
    assert rig.state() == "running"
    rig.ask(500.0)
    assert rig.state() == "limited"
    rig.tell(soc_pct=5.0)
    rig.ask(10.0)
    assert rig.state() == "stopped"
    rig.ask(-10.0)
    assert rig.state() == "running"
    rig.tell(temperature_c=-20.0)
    rig.ask(0.0)
    assert rig.state() == "stopped"
    rig.link(up=False)
    rig.submit()
    assert rig.state() == "lost"
    rig.gate.disable(B1, "ann")
    rig.submit()
    assert rig.state() == "disabled"
    rig.gate.trip(B1, Code.EMERGENCY_STOP, "pressed", "ann")
    rig.submit()
    assert rig.state() == "tripped"


def test_a_silent_link_is_one_violation_not_ten() -> None:
    rig = Rig().open()
    rig.clock.t_s += MAX_AGE_S + 1.0
    assert rig.ask(50.0).power_kw == 0.0
    assert rig.state() == "lost"
    assert [row.rule for row in rig.audit.rows()] == [Code.LINK_LOST]


def test_a_violation_has_a_beginning_and_an_end() -> None:
    rig = Rig().open(soc_pct=11.0)
    rig.submit()
    (row,) = rig.audit.rows()
    assert (row.rule, row.level, row.action) == (Code.SOC_LOW, "info", "reduce")
    assert (row.value, row.limit_value, row.cleared_at) == (11.0, 10.0, None)
    assert not rig.alarmed(Code.SOC_LOW, B1)
    begun = row.at
    rig.clock.t_s += TICK_S
    rig.tell(soc_pct=10.0)
    rig.submit()
    standing, ended = rig.audit.rows()
    assert (standing.action, standing.cleared_at, ended.cleared_at) == ("stop", None, standing.at)
    assert ended.at == begun
    assert rig.alarmed(Code.SOC_LOW, B1)
    rig.clock.t_s += TICK_S
    rig.tell()
    rig.submit()
    assert all(each.cleared_at is not None for each in rig.audit.rows())
    assert not rig.alarmed(Code.SOC_LOW, B1)
    written = rig.journal.violations(Code.SOC_LOW)
    assert len(written) == 4
    assert [each.cleared_at is None for each in written] == [True, False, True, False]


def test_the_alarm_of_a_trip_stays_until_its_reset() -> None:
    rig = Rig().open(fault_bits=2.0)
    rig.submit()
    rig.tell()
    rig.submit()
    assert rig.alarmed(Code.DEVICE_FAULT, B1)
    assert rig.audit.rows()[0].cleared_at is not None
    rig.gate.reset(B1, "ann")
    assert not rig.alarmed(Code.DEVICE_FAULT, B1)


def test_a_rule_of_the_house_may_only_narrow() -> None:
    def generous(look: Look, notes: Notes) -> Ruling:
        limit = Limit(-HUGE, HUGE, Code.SOC_RATE, "take all you want")
        verdict = Verdict(Code.SOC_RATE, Level.INFO, Action.NONE, "wide", limit=limit)
        return verdict, notes

    rig = Rig(rules=[Rule(Code.SOC_RATE, (Point.POWER_KW,), generous)]).open()
    assert rig.ask(HUGE).power_kw == 100.0


def test_unknown_rows_of_a_later_version_still_latch() -> None:
    at = Rig().clock.utc()
    rows = [TripRow(at, B1, "flux_capacitor", "trip", "vppd", "out of plutonium")]
    rig = Rig(rows=rows).open()
    got: Cleared = rig.ask(50.0)
    assert (got.power_kw, got.bound_by) == (0.0, (Code.TRIPPED,))


def test_a_clock_that_jumps_leaves_nothing_or_waits() -> None:
    rig = Rig().open()
    rig.ask(50.0)
    rig.clock.t_s += 1e6
    assert rig.ask(50.0).power_kw == 0.0
    rig = Rig().open()
    rig.clock.t_s -= 500.0
    assert rig.ask(50.0).power_kw == 0.0, "readings from the future"
    rig.tell()
    for _ in range(5):
        rig.tell()
        rig.submit(Request(B1, 50.0, 0.0))
        rig.answer()
        rig.clock.t_s += TICK_S
    assert rig.wires[B1].last.power_kw == 0.0, "no ramp until the clock is back"
