"""The rules for devices that answer well and are wrong: that hold a setpoint and give something
else, whose BMS takes its limits back and forth, whose sensors come and go."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rig import B1, HEALTHY, HEALTHY_BMS, MAX_AGE_S, Rig, asset, asset_with_bms, connection
from vppd.core.alarms import Action, Code, Level
from vppd.core.asset import Asset
from vppd.core.model import DeviceNotice, Point, Reading, Request, Snapshot, UnitId
from vppd.core.records import TripRow
from vppd.field.interlocks import RULES
from vppd.field.interlocks_bms import WIDENS_S
from vppd.field.interlocks_follow import FOLLOWS_S, WRONG_S
from vppd.field.interlocks_ramp import TOLD_S
from vppd.field.rule import Look, Notes, Verdict

TICK_S = 0.1
UTC_NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATEST_S = 2.0 * TOLD_S + FOLLOWS_S + 1.0  # from a wrong power to its alarm
SHUT_S = 2.0 * TOLD_S + WRONG_S + 1.0  # from the wrong way to the shutdown
B2 = UnitId("b2")


class Eye:
    """One rule on one unit, tick by tick."""

    def __init__(self, code: Code, unit: Asset | None = None) -> None:
        self.unit = unit or asset_with_bms()
        self.rule = next(rule for rule in RULES if rule.code is code)
        self.values = HEALTHY | HEALTHY_BMS
        self.now_s, self.notes = 1000.0, Notes()
        self.verdict: Verdict | None = None
        self.commanded = True

    def look(
        self,
        told_kw: float = 0.0,
        but: Mapping[Point, float | None] | None = None,
        after_s: float = TICK_S,
    ) -> Verdict | None:
        """A tick on; what is None is not read."""
        self.now_s += after_s
        values = {**self.values, **(but or {})}
        readings = {
            (B1, point): Reading(B1, point, value, self.now_s, MAX_AGE_S)
            for point, value in values.items()
            if value is not None
        }
        look = Look(Snapshot(self.now_s, UTC_NOW, readings), self.unit, told_kw, self.commanded)
        self.verdict, self.notes = self.rule.judge(look, self.notes)
        return self.verdict

    def follow(self, told_kw: float, gives_kw: float, for_s: float = LATEST_S) -> Verdict | None:
        """The device shows the setpoint it was told, and gives this; what is said at the end."""
        shown = {Point.SETPOINT_KW: told_kw, Point.POWER_KW: gives_kw}
        for _ in range(round(for_s / TICK_S)):
            self.look(told_kw, shown)
        return self.verdict


# ---- a device that does not do what it says ---------------------------------------------------


@pytest.mark.parametrize("gives_kw", [25.0, 0.0, -0.4])
def test_less_than_told_is_told_about(gives_kw: float) -> None:
    verdict = Eye(Code.NOT_FOLLOWING).follow(50.0, gives_kw)
    assert verdict is not None
    assert (verdict.rule, verdict.level, verdict.action) == (
        *(Code.NOT_FOLLOWING, Level.WARNING),
        Action.LOG,
    )
    assert (verdict.value, verdict.bound, verdict.limit) == (gives_kw, 50.0, None)
    assert not verdict.trips


@pytest.mark.parametrize("told_kw", [0.0, 20.0, -5.0])
def test_more_than_told_is_critical(told_kw: float) -> None:
    verdict = Eye(Code.NOT_FOLLOWING).follow(told_kw, 60.0)
    assert verdict is not None
    assert (verdict.rule, verdict.level) == (Code.NOT_FOLLOWING, Level.CRITICAL)
    assert not verdict.trips, "other power at its terminals is no reason to stop"


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_other_way_shuts_down(sign: float) -> None:
    eye = Eye(Code.NOT_FOLLOWING)
    told = eye.follow(sign * 40.0, sign * -40.0)
    assert told is not None
    assert (told.rule, told.trips) == (Code.NOT_FOLLOWING, False)
    verdict = eye.follow(sign * 40.0, sign * -40.0, SHUT_S - LATEST_S)
    assert verdict is not None
    assert (verdict.rule, verdict.level, verdict.trips) == (Code.WRONG_WAY, Level.EMERGENCY, True)
    limit = verdict.limit
    assert limit is not None
    assert limit.low_kw == limit.high_kw == 0.0


@pytest.mark.parametrize(
    ("told_kw", "gives_kw", "level"),
    [
        (50.0, 25.0, Level.WARNING),
        (0.0, 60.0, Level.CRITICAL),
        (0.0, -60.0, Level.CRITICAL),
        (-50.0, -20.0, Level.WARNING),
        (50.0, -10.0, Level.WARNING),  # no more than a tenth of the rating the other way
        (10.0, -40.0, Level.CRITICAL),  # and asked for no more than that
    ],
)
def test_nothing_but_the_other_way_shuts_down(
    told_kw: float, gives_kw: float, level: Level
) -> None:
    verdict = Eye(Code.NOT_FOLLOWING).follow(told_kw, gives_kw, 120.0)
    assert verdict is not None
    assert (verdict.rule, verdict.level, verdict.trips) == (Code.NOT_FOLLOWING, level, False)


@pytest.mark.parametrize(
    ("told_kw", "gives_kw", "level"),
    [(50.0, -50.0, Level.WARNING), (20.0, -60.0, Level.CRITICAL)],
)
def test_the_other_way_is_told_after_10_s_and_stopped_after_30(
    told_kw: float, gives_kw: float, level: Level
) -> None:
    eye, shown = Eye(Code.NOT_FOLLOWING), {Point.SETPOINT_KW: told_kw, Point.POWER_KW: gives_kw}
    for number in range(61):  # the first look is the beginning
        verdict = eye.look(told_kw, shown, after_s=0.5)
        rule = verdict.rule if verdict is not None else None
        if number < 20:
            assert rule is None
        elif number < 60:
            assert verdict is not None
            assert (rule, verdict.level) == (Code.NOT_FOLLOWING, level)
        else:
            assert rule is Code.WRONG_WAY


@pytest.mark.parametrize(("step_kw", "nearer"), [(0.6, False), (1.0, True)])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_hundredth_of_the_rating_nearer_is_following(
    step_kw: float, nearer: bool, sign: float
) -> None:
    eye = Eye(Code.NOT_FOLLOWING)
    for number in range(21):
        power_kw = sign * (100.0 if number < 10 else 100.0 - step_kw)
        eye.look(0.0, {Point.SETPOINT_KW: 0.0, Point.POWER_KW: power_kw}, after_s=0.5)
    assert (eye.verdict is None) is nearer


def test_beside_it_on_the_one_side_and_then_on_the_other_is_judged_anew() -> None:
    eye = Eye(Code.NOT_FOLLOWING)
    for number in range(24):
        power_kw = 0.0 if number < 12 else 100.0
        eye.look(50.0, {Point.SETPOINT_KW: 50.0, Point.POWER_KW: power_kw}, after_s=0.5)
        assert eye.verdict is None


@pytest.mark.parametrize(("gives_kw", "nearest_kw"), [(0.0, 20.0), (80.0, 50.0), (35.0, None)])
def test_of_all_it_was_told_of_late_the_nearest_counts(
    gives_kw: float, nearest_kw: float | None
) -> None:
    eye = Eye(Code.NOT_FOLLOWING)
    for number in range(60):
        shown = {Point.SETPOINT_KW: 50.0, Point.POWER_KW: gives_kw}
        eye.look(20.0 if number % 2 else 50.0, shown, after_s=0.5)
    assert (eye.verdict.bound if eye.verdict is not None else None) == nearest_kw


def test_the_other_way_is_found_while_what_is_told_moves() -> None:
    """Its sign is turned, and droop moves all the time."""
    eye = Eye(Code.NOT_FOLLOWING)
    for tick in range(600):
        told_kw = 30.0 + 10.0 * math.sin(tick / 20.0)
        eye.follow(told_kw, -told_kw, TICK_S)
        if eye.verdict is not None and eye.verdict.trips:
            break
    assert eye.verdict is not None
    assert eye.verdict.rule is Code.WRONG_WAY


def test_a_small_unit_may_be_wrong_by_what_its_electronics_take() -> None:
    small = asset(rated_kw=5.0, declared=frozenset({Point.POWER_KW, Point.SETPOINT_KW}))
    assert Eye(Code.NOT_FOLLOWING, small).follow(0.0, -0.9) is None
    assert Eye(Code.NOT_FOLLOWING, small).follow(4.0, 2.0) is not None


def test_a_short_time_and_a_small_way_apart_are_nothing() -> None:
    assert Eye(Code.NOT_FOLLOWING).follow(50.0, 0.0, FOLLOWS_S - 0.5) is None
    assert Eye(Code.NOT_FOLLOWING).follow(50.0, 40.0) is None
    assert Eye(Code.NOT_FOLLOWING).follow(9.0, -1.0) is None


@given(
    st.floats(-100.0, 100.0), st.floats(-100.0, 100.0), st.floats(0.15, 20.0), st.floats(0.0, 1.5)
)
def test_a_slow_device_follows(
    from_kw: float, to_kw: float, kw_per_s: float, late_s: float
) -> None:
    eye = Eye(Code.NOT_FOLLOWING)
    power_kw = from_kw
    for tick in range(300):
        eye.look(to_kw, {Point.SETPOINT_KW: to_kw, Point.POWER_KW: power_kw})
        assert eye.verdict is None
        if tick * TICK_S >= late_s:
            step_kw = kw_per_s * TICK_S
            power_kw = min(max(to_kw, power_kw - step_kw), power_kw + step_kw)


def test_what_it_follows_is_what_it_holds() -> None:
    """A write that is refused or lost, or a rival's setpoint, has alarms of its own."""
    eye = Eye(Code.NOT_FOLLOWING)
    for _ in range(300):
        assert eye.look(50.0, {Point.SETPOINT_KW: -50.0, Point.POWER_KW: -50.0}) is None
        assert eye.look(50.0, {Point.SETPOINT_KW: None, Point.POWER_KW: -50.0}) is None


def test_one_that_is_left_to_itself_is_not_judged() -> None:
    for code, gives_kw in ((Code.NOT_FOLLOWING, 0.0), (Code.POWER_RAMP, 90.0)):
        eye = Eye(code)
        eye.commanded = False
        for tick in range(300):
            assert eye.look(0.0, {Point.POWER_KW: 90.0 - gives_kw * (tick % 2)}) is None


@pytest.mark.parametrize("how", ["released", "read only", "commanded"])
def test_the_gate_says_who_is_left_to_itself(how: str) -> None:
    rig = Rig(asset(read_only=how == "read only")).open()
    if how == "released":
        rig.gate.release(B1, "ann")
        rig.report(DeviceNotice(B1, Code.RELEASED, True, rig.clock.t_s, "given back"))
    for _ in range(round(LATEST_S / TICK_S)):
        rig.tell(power_kw=60.0)
        rig.submit()
        rig.answer()
        rig.clock.t_s += TICK_S
    assert rig.alarmed(Code.NOT_FOLLOWING, B1) is (how == "commanded")
    assert bool(rig.journal.violations(Code.POWER_RAMP)) is (how == "commanded")


def test_the_inverter_knows_best() -> None:
    inverter = asset(declared=frozenset({Point.POWER_KW, Point.INVERTER_KW, Point.SETPOINT_KW}))
    eye = Eye(Code.NOT_FOLLOWING, inverter)
    for _ in range(300):
        shown = {Point.SETPOINT_KW: 50.0, Point.POWER_KW: 0.0}
        assert eye.look(50.0, {**shown, Point.INVERTER_KW: 50.0}) is None
    for _ in range(300):
        eye.look(50.0, {**shown, Point.INVERTER_KW: 0.0})
    assert eye.verdict is not None


def test_what_it_gives_beyond_what_it_was_told_counts_at_the_connection() -> None:
    """It answers, shows 0, and gives 60 kW: 40 of the 100 kW are left for the other."""
    assets = asset(B1), asset(B2)
    rig = Rig(*assets, feeders=connection(*assets, high_kw=100.0, low_kw=-100.0)).open()
    for _ in range(round(LATEST_S / TICK_S)):
        rig.tell(B1, power_kw=60.0)
        rig.tell(B2)
        rig.submit(Request(B2, 0.0, 0.0))
        rig.answer()
        rig.clock.t_s += TICK_S
    assert rig.alarmed(Code.NOT_FOLLOWING, B1)
    assert rig.submit(Request(B2, 0.0, 100.0))[B2].power_kw == pytest.approx(40.0)


# ---- a BMS that takes its limits back and forth -----------------------------------------------


def test_a_bms_limit_that_flickers_does_not_shake_the_unit() -> None:
    eye = Eye(Code.BMS_LIMIT)
    most_kw = []
    for tick in range(100):
        verdict = eye.look(but={Point.BMS_DISCHARGE_MAX_A: 100.0 if tick % 2 else 0.0})
        assert verdict is not None
        assert verdict.limit is not None
        most_kw.append(verdict.limit.high_kw)
        assert verdict.limit.low_kw == -100.0, "the other direction has nothing to do with it"
    assert set(most_kw) == {0.0}


def test_a_bms_limit_cuts_at_once_and_widens_when_it_lasts() -> None:
    eye = Eye(Code.BMS_LIMIT)
    assert eye.look() is None
    cut = eye.look(but={Point.BMS_CHARGE_MAX_A: 0.0})
    assert cut is not None
    assert cut.limit is not None
    assert cut.limit.low_kw == 0.0
    since_s = eye.now_s
    while eye.look() is not None:
        assert eye.verdict is not None
        assert "a moment ago" in eye.verdict.text
    assert eye.now_s - since_s == pytest.approx(WIDENS_S, abs=TICK_S + 0.01)


@given(st.lists(st.floats(0.0, 200.0), min_size=1, max_size=60))
def test_no_more_than_the_bms_allows_now(told_a: list[float]) -> None:
    eye = Eye(Code.BMS_LIMIT)
    for allowed_a in told_a:
        verdict = eye.look(but={Point.BMS_DISCHARGE_MAX_A: allowed_a})
        given_kw = 100.0 if verdict is None or verdict.limit is None else verdict.limit.high_kw
        assert given_kw <= min(allowed_a * 53.0 * 23 / 1000.0, 100.0) + 1e-9


def test_a_direction_that_the_bms_forbids_now_and_then_stays_shut() -> None:
    unit = asset(declared=frozenset({Point.BMS_CHARGE_ALLOWED, Point.BMS_DISCHARGE_ALLOWED}))
    eye = Eye(Code.BMS_FORBIDS, unit)
    both = {Point.BMS_CHARGE_ALLOWED: 1.0, Point.BMS_DISCHARGE_ALLOWED: 1.0}
    assert eye.look(but=both) is None
    for tick in range(100):
        verdict = eye.look(but=both | {Point.BMS_CHARGE_ALLOWED: float(tick % 2)})
        assert verdict is not None
        assert verdict.limit is not None
        assert (verdict.limit.low_kw, verdict.limit.high_kw) == (0.0, 100.0)
    since_s = eye.now_s
    while eye.look(but=both) is not None:
        pass
    assert eye.now_s - since_s == pytest.approx(WIDENS_S, abs=2 * TICK_S)
    eye.look(but=both | {Point.BMS_CHARGE_ALLOWED: None})
    assert eye.look(but=both) is None, "a word that was missing was no refusal"


# ---- a sensor that comes and goes -------------------------------------------------------------


def test_a_hotter_sensor_that_is_heard_again_is_no_runaway() -> None:
    """The controller measures 47 C, the cells are at 52 C, and the BMS is silent for a minute."""
    eye = Eye(Code.THERMAL_RUNAWAY)
    for tick in range(1200):
        silent = 300 <= tick < 900
        hot = {Point.TEMPERATURE_C: 47.0, Point.CELL_MAX_C: None if silent else 52.0}
        assert eye.look(but=hot) is None


def test_either_sensor_alone_finds_a_runaway() -> None:
    for point in (Point.TEMPERATURE_C, Point.CELL_MAX_C):
        eye = Eye(Code.THERMAL_RUNAWAY)
        eye.notes = (999.0, 25.0, 999.5, 25.0)  # as an older version left them
        for tick in range(300):
            hot = {Point.TEMPERATURE_C: 48.0, Point.CELL_MAX_C: 48.0}
            eye.look(but=hot | {point: 51.0 + 0.6 * tick / 60.0})
        assert eye.verdict is not None
        assert eye.verdict.trips


# ---- a device that says "later" ---------------------------------------------------------------


# ---- one order after another ------------------------------------------------------------------


def test_a_start_that_takes_a_released_device_back_remembers_it() -> None:
    """Released, given back, and then tripped with the daemon's end: it is switched off now. Should
    this run end before the device is given back again, the next one must not think it is."""
    at = Rig().clock.utc()
    rows = [
        TripRow(at, B1, "released", "release", "ann", "by ann"),
        TripRow(at, B1, "released", "given", "vppd", "by ann"),
        TripRow(at, B1, "emergency_stop", "trip", "ann", "pressed"),
    ]
    rig = Rig(rows=rows).open()
    assert rig.wires[B1].acts == ["disable"]
    rig.gate.reset(B1, "ann")
    newest = {row.code: row for row in [*rows, *rig.kept]}
    rig = Rig(rows=[newest["released"]]).open()
    assert rig.wires[B1].acts == ["release"], "it has to be given back first"
