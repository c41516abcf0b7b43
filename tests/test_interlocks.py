"""Each row of the safety table, both directions, at its exact edges; and for every input what is
left when it may not be believed."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.rig import B1, HEALTHY, HEALTHY_BMS, MAX_AGE_S, asset, asset_with_bms
from vppd.core.alarms import Action, Code, Level
from vppd.core.asset import Asset
from vppd.core.envelope import intersect
from vppd.core.model import Limit, Point, Quality, Reading, Snapshot
from vppd.field.interlocks import ALARM_ONLY, RULES, needs
from vppd.field.interlocks_bms import DISAGREES_S, WIDENS_S
from vppd.field.interlocks_ramp import power_ramp
from vppd.field.rule import Look, Notes, Verdict

UTC_NOW = datetime(2026, 1, 1, tzinfo=UTC)
BAD = [Quality.MISSING, Quality.STALE, Quality.FROZEN, Quality.IMPLAUSIBLE]
OPEN = (-100.0, 100.0)
NO_OUT, NO_IN, NOTHING = (-100.0, 0.0), (0.0, 100.0), (0.0, 0.0)


class Eyes:
    """All rules on one unit, with what they remember, from one instant to the next."""

    def __init__(self, unit: Asset | None = None) -> None:
        self.unit = unit or asset()
        self.values = {p: v for p, v in (HEALTHY | HEALTHY_BMS).items() if p in self.unit.declared}
        self.quality: dict[Point, Quality] = {}
        self.age_s: dict[Point, float] = {}
        self.now_s = 1000.0
        self.told_kw = 0.0
        self.notes: dict[Code, Notes] = {}
        self.verdicts: Mapping[Code, Verdict] = {}

    def snapshot(self) -> Snapshot:
        readings = {}
        for point, value in self.values.items():
            quality = self.quality.get(point, Quality.GOOD)
            age_s = self.age_s.get(point, 0.0)
            if quality is Quality.STALE:
                quality, age_s = Quality.GOOD, MAX_AGE_S + 0.001
            if quality is not Quality.MISSING:
                at_s = self.now_s - age_s
                readings[B1, point] = Reading(B1, point, value, at_s, MAX_AGE_S, quality)
        return Snapshot(self.now_s, UTC_NOW, readings)

    def look(self, after_s: float = 0.1, **values: float) -> "Eyes":
        """One more instant, these values changed; the rest stay as they were."""
        self.now_s += after_s
        self.values.update({Point(name): value for name, value in values.items()})
        look = Look(self.snapshot(), self.unit, self.told_kw)
        said = {}
        for rule in RULES:
            if rule.applies(self.unit):
                verdict, self.notes[rule.code] = rule.judge(look, self.notes.get(rule.code, ()))
                if verdict is not None:
                    said[rule.code] = verdict
        self.verdicts = said
        return self

    def blind(self, point: Point, quality: Quality) -> "Eyes":
        self.quality[point] = quality
        return self

    @property
    def room(self) -> tuple[float, float]:
        rating = Limit(-self.unit.rated_kw, self.unit.rated_kw, Code.RATING)
        limits = [each.limit for each in self.verdicts.values() if each.limit is not None]
        both = intersect([rating, *limits])
        return both.low_kw, both.high_kw

    def said(self, code: Code) -> tuple[Level, Action, bool]:
        verdict = self.verdicts[code]
        return verdict.level, verdict.action, verdict.trips


def test_healthy_says_nothing() -> None:
    for unit in (asset(), asset_with_bms()):
        eyes = Eyes(unit).look()
        assert eyes.verdicts == {}
        assert eyes.room == OPEN


def test_only_declared_points_are_needed() -> None:
    assert needs(asset(declared=frozenset({Point.POWER_KW}))) == {Point.POWER_KW}
    assert Eyes(asset(declared=frozenset({Point.POWER_KW}))).look().room == OPEN
    wanted = needs(asset_with_bms())
    assert wanted.isdisjoint(ALARM_ONLY)
    assert {Point.SOC_PCT, Point.VOLTAGE_V, Point.FAULT_BITS, Point.CELL_MIN_V} <= wanted
    assert Point.CELL_MIN_V not in needs(asset())
    assert Point.REACTIVE_KVAR not in wanted
    for half in (Point.CELL_MAX_V, Point.CELL_MIN_V, Point.BMS_CHARGE_MAX_A):
        assert Eyes(asset(declared=frozenset({Point.POWER_KW, half}))).look().room == OPEN
    one_way = frozenset({Point.BMS_CHARGE_MAX_A})  # a BMS may tell one direction only
    assert needs(asset(declared=one_way)) == one_way


# ---- voltage, temperature and state of charge: value, what is left -----------

EDGES: list[tuple[dict[str, float], tuple[float, float], Code | None]] = [
    ({"cell_min_v": 2.8, "cell_max_v": 2.85}, NO_OUT, Code.CELL_UNDER_VOLTAGE),
    ({"cell_min_v": 2.801, "cell_max_v": 2.85}, OPEN, None),
    ({"cell_max_v": 4.2, "cell_min_v": 4.15}, NO_IN, Code.CELL_OVER_VOLTAGE),
    ({"cell_max_v": 4.199, "cell_min_v": 4.15}, OPEN, None),
    ({"voltage_v": 44.8, "pack_v": 45.0}, NO_OUT, Code.PACK_UNDER_VOLTAGE),
    ({"voltage_v": 45.0, "pack_v": 44.8}, NO_OUT, Code.PACK_UNDER_VOLTAGE),
    ({"voltage_v": 44.9, "pack_v": 44.9}, OPEN, None),
    ({"voltage_v": 67.2, "pack_v": 67.0}, NO_IN, Code.PACK_OVER_VOLTAGE),
    ({"voltage_v": 67.0, "pack_v": 67.2}, NO_IN, Code.PACK_OVER_VOLTAGE),
    ({"voltage_v": 67.1, "pack_v": 67.1}, OPEN, None),
    ({"temperature_c": 45.0}, OPEN, None),
    ({"temperature_c": 50.0}, (-50.0, 50.0), Code.TEMPERATURE_HIGH),
    ({"cell_max_c": 50.0}, (-50.0, 50.0), Code.TEMPERATURE_HIGH),
    ({"temperature_c": 54.0}, (-10.0, 10.0), Code.TEMPERATURE_HIGH),
    ({"temperature_c": 55.0}, NOTHING, Code.TEMPERATURE_HIGH),
    ({"cell_max_c": 55.0}, NOTHING, Code.TEMPERATURE_HIGH),
    ({"temperature_c": 5.0, "cell_min_c": 5.0}, OPEN, None),
    ({"temperature_c": 2.0, "cell_min_c": 2.5}, (-40.0, 100.0), Code.CHARGE_COLD),
    ({"temperature_c": 2.5, "cell_min_c": 2.0}, (-40.0, 100.0), Code.CHARGE_COLD),
    ({"temperature_c": 0.0}, NO_IN, Code.CHARGE_COLD),
    ({"cell_min_c": -10.0}, NO_IN, Code.CHARGE_COLD),
    ({"cell_min_c": -10.1}, NOTHING, Code.TEMPERATURE_LOW),
    ({"temperature_c": -10.1}, NOTHING, Code.TEMPERATURE_LOW),
    ({"soc_pct": 13.0, "bms_soc_pct": 13.0}, OPEN, None),
    ({"soc_pct": 11.5, "bms_soc_pct": 12.0}, (-100.0, 50.0), Code.SOC_LOW),
    ({"soc_pct": 12.0, "bms_soc_pct": 11.5}, (-100.0, 50.0), Code.SOC_LOW),
    ({"soc_pct": 10.0, "bms_soc_pct": 12.0}, NO_OUT, Code.SOC_LOW),
    ({"soc_pct": 0.0, "bms_soc_pct": 0.0}, NO_OUT, Code.SOC_LOW),
    ({"soc_pct": 92.0, "bms_soc_pct": 92.0}, OPEN, None),
    ({"soc_pct": 93.5, "bms_soc_pct": 93.0}, (-50.0, 100.0), Code.SOC_HIGH),
    ({"soc_pct": 93.0, "bms_soc_pct": 93.5}, (-50.0, 100.0), Code.SOC_HIGH),
    ({"soc_pct": 95.0, "bms_soc_pct": 93.0}, NO_IN, Code.SOC_HIGH),
    ({"soc_pct": 100.0, "bms_soc_pct": 100.0}, NO_IN, Code.SOC_HIGH),
]


@pytest.mark.parametrize(("values", "room", "code"), EDGES)
def test_edges(values: dict[str, float], room: tuple[float, float], code: Code | None) -> None:
    eyes = Eyes(asset_with_bms()).look(**values)
    assert eyes.room == pytest.approx(room)
    assert (code in eyes.verdicts) == (code is not None)
    limiting = {each.rule for each in eyes.verdicts.values() if each.limit is not None}
    assert limiting <= {code, Code.CHARGE_COLD if code is Code.TEMPERATURE_LOW else code}
    if code is not None:
        verdict = eyes.verdicts[code]
        limit = verdict.limit
        assert not verdict.trips
        assert limit is not None
        assert limit.why is code
        assert (limit.low_kw, limit.high_kw) == pytest.approx(room), "this rule by itself"
        assert limit.detail == verdict.text
        stopped = 0.0 in (limit.low_kw, limit.high_kw)
        assert verdict.action is (Action.STOP if stopped else Action.REDUCE)
        assert verdict.value is not None
        assert verdict.value in values.values()
        assert str(round(verdict.value, 1)) in verdict.text


LEVELS = [
    ({"cell_min_v": 2.7}, Code.CELL_UNDER_VOLTAGE, Level.CRITICAL, 2.8),
    ({"cell_max_v": 4.3}, Code.CELL_OVER_VOLTAGE, Level.CRITICAL, 4.2),
    ({"voltage_v": 40.0}, Code.PACK_UNDER_VOLTAGE, Level.CRITICAL, 44.8),
    ({"voltage_v": 70.0}, Code.PACK_OVER_VOLTAGE, Level.CRITICAL, 67.2),
    ({"temperature_c": 50.0}, Code.TEMPERATURE_HIGH, Level.WARNING, 55.0),
    ({"temperature_c": 56.0}, Code.TEMPERATURE_HIGH, Level.CRITICAL, 55.0),
    ({"temperature_c": -20.0}, Code.TEMPERATURE_LOW, Level.CRITICAL, -10.0),
    ({"temperature_c": 2.0}, Code.CHARGE_COLD, Level.INFO, 0.0),
    ({"temperature_c": -2.0}, Code.CHARGE_COLD, Level.WARNING, 0.0),
    ({"soc_pct": 11.0}, Code.SOC_LOW, Level.INFO, 10.0),
    ({"soc_pct": 9.0}, Code.SOC_LOW, Level.WARNING, 10.0),
    ({"soc_pct": 94.0}, Code.SOC_HIGH, Level.INFO, 95.0),
    ({"soc_pct": 96.0}, Code.SOC_HIGH, Level.WARNING, 95.0),
]


@pytest.mark.parametrize(("values", "code", "level", "bound"), LEVELS)
def test_how_bad_it_is_and_what_the_bound_is(
    values: dict[str, float], code: Code, level: Level, bound: float
) -> None:
    verdict = Eyes(asset_with_bms()).look(**values).verdicts[code]
    assert (verdict.level, verdict.bound) == (level, bound)


# a stopped direction opens again only the hysteresis inside: (stops, still, open)
HYSTERESIS = [
    ("cell_min_v", 2.80, 2.849, 2.85, Code.CELL_UNDER_VOLTAGE),
    ("cell_max_v", 4.20, 4.151, 4.15, Code.CELL_OVER_VOLTAGE),
    ("voltage_v", 44.8, 45.59, 45.6, Code.PACK_UNDER_VOLTAGE),
    ("voltage_v", 67.2, 66.41, 66.4, Code.PACK_OVER_VOLTAGE),
    ("temperature_c", 55.0, 54.01, 54.0, Code.TEMPERATURE_HIGH),
    ("temperature_c", -10.1, -9.01, -9.0, Code.TEMPERATURE_LOW),
    ("temperature_c", 0.0, 0.99, 1.0, Code.CHARGE_COLD),
    ("soc_pct", 10.0, 10.49, 10.5, Code.SOC_LOW),
    ("soc_pct", 95.0, 94.51, 94.5, Code.SOC_HIGH),
]


@pytest.mark.parametrize(("point", "stops", "still", "opens", "code"), HYSTERESIS)
def test_hysteresis(point: str, stops: float, still: float, opens: float, code: Code) -> None:
    def stopped() -> bool:
        verdict = eyes.verdicts.get(code)
        return verdict is not None and verdict.action is Action.STOP

    eyes = Eyes(asset_with_bms())
    eyes.look(**{point: still})
    assert not stopped()
    eyes.look(**{point: stops})
    assert stopped()
    for _ in range(3):  # it is not time that opens it
        eyes.look(**{point: still})
        assert stopped()
    eyes.look(**{point: opens})
    assert not stopped()
    eyes.look(**{point: still})
    assert not stopped()


@pytest.mark.parametrize(("point", "stops", "still", "opens", "code"), HYSTERESIS)
def test_blindness_does_not_forget_that_it_was_stopped(
    point: str, stops: float, still: float, opens: float, code: Code
) -> None:
    eyes = Eyes(asset_with_bms()).look(**{point: stops})
    eyes.blind(Point(point), Quality.STALE).look()
    eyes.quality.clear()
    eyes.look(**{point: still})
    assert eyes.verdicts[code].action is Action.STOP


@given(st.one_of(st.just(0.0), st.floats(0.01, 10.0)), st.floats(0.0, 50.0))
def test_fades_are_monotone_continuous_and_end_at_the_limit(fade: float, at_pct: float) -> None:
    unit = asset(soc_fade_pct=fade, temperature_fade_c=fade, charge_temperature_fade_c=fade)
    cases = [
        ("soc_pct", 10.0, 1.0, 1),
        ("soc_pct", 95.0, -1.0, 0),
        ("temperature_c", 55.0, -1.0, 0),
        ("temperature_c", 55.0, -1.0, 1),
        ("temperature_c", 0.0, 1.0, 0),
    ]
    for point, bound, inward, side in cases:

        def share(inside: float) -> float:
            value = bound + inward * inside  # noqa: B023
            return abs(Eyes(unit).look(**{point: value}).room[side])  # noqa: B023

        assert share(0.0) == 0.0
        assert share(fade) == pytest.approx(100.0 if fade else 0.0)
        assert share(fade + 1e-6) == pytest.approx(100.0)
        here, there = share(at_pct * fade / 50.0), share(at_pct * fade / 50.0 + 0.01 * fade)
        assert here <= there + 1e-9
        assert there - here <= 1.0 + 1e-6
        if fade:
            assert here == pytest.approx(100.0 * at_pct / 50.0, abs=1e-6)


# ---- blindness: exactly the directions that depend on the input stop ---------

LEFT_WHEN_BLIND = {
    Point.POWER_KW: NOTHING,
    Point.SOC_PCT: NOTHING,
    Point.BMS_SOC_PCT: NOTHING,
    Point.VOLTAGE_V: NOTHING,
    Point.PACK_V: NOTHING,
    Point.CURRENT_A: NOTHING,
    Point.PACK_A: NOTHING,
    Point.TEMPERATURE_C: NOTHING,
    Point.CELL_MAX_C: NOTHING,
    Point.CELL_MIN_C: NOTHING,
    Point.CELL_MIN_V: NO_OUT,
    Point.CELL_MAX_V: NO_IN,
    Point.FAULT_BITS: NOTHING,
    Point.BMS_FAULT_BITS: NOTHING,
    Point.BMS_CHARGE_MAX_A: NOTHING,
    Point.BMS_DISCHARGE_MAX_A: NOTHING,
    Point.SOH_PCT: OPEN,
    Point.ALARM_BITS: OPEN,
    Point.STATUS_BITS: OPEN,
    Point.REACTIVE_KVAR: OPEN,
    Point.SETPOINT_KW: OPEN,
}
BLIND_RULES = {
    Code.LINK_LOST: NOTHING,
    Code.SOC_LOW: NO_OUT,
    Code.SOC_HIGH: NO_IN,
    Code.CELL_UNDER_VOLTAGE: NO_OUT,
    Code.CELL_OVER_VOLTAGE: NO_IN,
    Code.PACK_UNDER_VOLTAGE: NO_OUT,
    Code.PACK_OVER_VOLTAGE: NO_IN,
    Code.OVER_CURRENT: NOTHING,
    Code.TEMPERATURE_HIGH: NOTHING,
    Code.TEMPERATURE_LOW: NOTHING,
    Code.CHARGE_COLD: NO_IN,
    Code.DEVICE_FAULT: NOTHING,
    Code.BMS_FAULT: NOTHING,
    Code.BMS_LIMIT: NOTHING,
}
WHY = {
    Quality.MISSING: Code.READING_MISSING,
    Quality.STALE: Code.READING_STALE,
    Quality.FROZEN: Code.READING_FROZEN,
    Quality.IMPLAUSIBLE: Code.READING_IMPLAUSIBLE,
}


def test_every_point_has_its_row() -> None:
    assert set(LEFT_WHEN_BLIND) == asset_with_bms().declared


@pytest.mark.parametrize("quality", BAD)
@pytest.mark.parametrize("point", LEFT_WHEN_BLIND)
def test_blind_stops_exactly_what_depends_on_it(point: Point, quality: Quality) -> None:
    eyes = Eyes(asset_with_bms()).look().blind(point, quality).look()
    assert eyes.room == LEFT_WHEN_BLIND[point]
    for verdict in eyes.verdicts.values():
        assert verdict.limit is not None
        assert verdict.limit.why is WHY[quality]
        assert (verdict.limit.low_kw, verdict.limit.high_kw) == BLIND_RULES[verdict.rule]
        assert (verdict.level, verdict.action) == (Level.CRITICAL, Action.STOP)
        assert not verdict.trips
        assert point in verdict.text
    assert bool(eyes.verdicts) == (LEFT_WHEN_BLIND[point] != OPEN)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("point", LEFT_WHEN_BLIND)
def test_what_is_not_a_number_is_not_believed(point: Point, number: float) -> None:
    eyes = Eyes(asset_with_bms()).look().look(**{point: number})
    assert eyes.room == LEFT_WHEN_BLIND[point]
    eyes.values[point] = (HEALTHY | HEALTHY_BMS)[point]
    for _ in range(5):
        eyes.look()
    assert eyes.room == OPEN, "and it is forgotten"


@given(st.sampled_from(sorted(LEFT_WHEN_BLIND)), st.floats(-1e3, 1e3))
def test_the_edge_of_age(point: Point, age_s: float) -> None:
    eyes = Eyes(asset_with_bms()).look()
    eyes.age_s[point] = age_s
    eyes.look()
    fresh = 0.0 <= eyes.now_s - (eyes.now_s - age_s) <= MAX_AGE_S
    assert eyes.room == (OPEN if fresh else LEFT_WHEN_BLIND[point])


def test_an_empty_battery_may_always_be_charged() -> None:
    eyes = Eyes(asset_with_bms())
    low = {"soc_pct": 0.0, "bms_soc_pct": 0.0, "cell_min_v": 2.5, "cell_max_v": 2.55}
    low |= {"voltage_v": 40.5, "pack_v": 40.5, "bms_charge_max_a": 200.0}
    assert eyes.look(**low).room == NO_OUT
    eyes.blind(Point.CELL_MIN_V, Quality.MISSING)
    assert eyes.look().room == NO_OUT


# ---- link --------------------------------------------------------------------


def test_a_silent_link_returns_after_three_good_reads() -> None:
    eyes = Eyes().look().blind(Point.POWER_KW, Quality.STALE).look()
    assert eyes.room == NOTHING
    assert eyes.verdicts[Code.LINK_LOST].limit is not None
    eyes.quality.clear()
    for good in ("1", "2"):
        eyes.look(0.5)
        assert eyes.room == NOTHING
        assert f"{good} of 3" in eyes.verdicts[Code.LINK_LOST].text
        limit = eyes.verdicts[Code.LINK_LOST].limit
        assert limit is not None
        assert limit.why is Code.RETURNING
        at_s = eyes.now_s
        for _ in range(4):  # ticks without a new reading count for nothing
            eyes.age_s[Point.POWER_KW] = eyes.now_s + 0.1 - at_s
            eyes.look(0.1)
            assert eyes.room == NOTHING
        eyes.age_s.clear()
    assert eyes.look(0.5).room == OPEN


def test_returning_starts_anew_when_the_link_fails_again() -> None:
    eyes = Eyes().look().blind(Point.POWER_KW, Quality.MISSING).look()
    for _ in range(2):
        eyes.quality.clear()
        eyes.look(0.5).look(0.5)
        assert eyes.room == NOTHING
        eyes.blind(Point.POWER_KW, Quality.FROZEN).look(0.5)
    eyes.quality.clear()
    rooms = [eyes.look(0.5).room for _ in range(3)]
    assert rooms == [NOTHING, NOTHING, OPEN]


# ---- over-current ------------------------------------------------------------


@pytest.mark.parametrize(("sign", "side"), [(1.0, 1), (-1.0, 0)])
@pytest.mark.parametrize("point", ["current_a", "pack_a"])
def test_over_current_scales_at_once_by_what_was_measured(
    sign: float, side: int, point: str
) -> None:
    eyes = Eyes(asset_with_bms()).look(power_kw=sign * 80.0, **{point: sign * 100.0})
    assert eyes.room == OPEN, "at the limit is not over it"
    eyes.look(**{point: sign * 125.0})
    assert abs(eyes.room[side]) == pytest.approx(80.0 * 0.95 * 100.0 / 125.0)
    assert abs(eyes.room[1 - side]) == 100.0
    verdict = eyes.verdicts[Code.OVER_CURRENT]
    assert (verdict.level, verdict.action) == (Level.CRITICAL, Action.REDUCE)
    assert (verdict.value, verdict.bound) == (sign * 125.0, sign * 100.0)
    assert verdict.limit is not None
    assert (verdict.limit.low_kw, verdict.limit.high_kw) == eyes.room


def test_over_current_while_power_is_unknown_is_scaled_from_full_power() -> None:
    for sign, side in ((1.0, 1), (-1.0, 0)):
        eyes = Eyes().blind(Point.POWER_KW, Quality.MISSING).look(current_a=sign * 125.0)
        eyes.quality.clear()
        for _ in range(4):
            eyes.look(0.1, current_a=0.0)
        assert abs(eyes.room[side]) == pytest.approx(76.0 + 0.4)


def test_over_current_gives_back_one_percent_a_second() -> None:
    eyes = Eyes().look(power_kw=80.0, current_a=160.0)
    cap_kw = eyes.room[1]
    assert cap_kw == pytest.approx(80.0 * 0.95 / 1.6)
    eyes.told_kw = 47.5
    eyes.look(0.1, current_a=95.0, power_kw=47.5)
    assert eyes.room[1] == pytest.approx(cap_kw + 0.1)
    for _ in range(49):
        eyes.look(0.1)
    assert eyes.room[1] == pytest.approx(cap_kw + 5.0)
    eyes.look(60.0)  # a long gap counts for no more than 0.2 s
    assert eyes.room[1] == pytest.approx(cap_kw + 5.2)
    eyes.look(-5.0)  # nor does time run backwards
    assert eyes.room[1] == pytest.approx(cap_kw + 5.2)
    for _ in range(490):
        eyes.look(0.1)
    assert eyes.room[1] == 100.0
    assert eyes.verdicts == {}


def test_over_current_for_two_seconds_stops() -> None:
    eyes = Eyes().look(power_kw=100.0, current_a=101.0)
    for _ in range(19):
        eyes.look(0.1)
        assert eyes.room[1] == pytest.approx(95.0 / 1.01)
    eyes.look(0.101)
    assert eyes.room == NO_OUT
    assert eyes.verdicts[Code.OVER_CURRENT].action is Action.STOP
    eyes.look(0.1, current_a=50.0)
    assert eyes.room[1] == pytest.approx(0.1), "and comes back slowly"


def test_a_dip_below_the_limit_starts_the_two_seconds_anew() -> None:
    eyes = Eyes().look(power_kw=90.0, current_a=101.0)
    for _ in range(4):
        eyes.look(1.0, current_a=101.0).look(0.5, current_a=100.0)
        assert eyes.room[1] > 80.0


@pytest.mark.parametrize("power_kw", [100.0, 108.0, 200.0, 1e9])
def test_more_power_than_the_rating_does_not_excuse_too_much_current(power_kw: float) -> None:
    eyes = Eyes().look(power_kw=power_kw, current_a=101.0)
    assert eyes.room[1] <= 95.0 / 1.01 + 1e-9
    for _ in range(21):
        eyes.look(0.1)
    assert eyes.room == NO_OUT


@given(
    st.floats(-100.0, 100.0), st.floats(100.001, 1e4), st.sampled_from([1.0, -1.0]), st.floats(0, 3)
)
def test_over_current_never_gives_more_than_it_should(
    power_kw: float, amps: float, sign: float, for_s: float
) -> None:
    eyes = Eyes()
    start_s = eyes.now_s
    side = 1 if sign > 0 else 0
    while eyes.now_s - start_s < for_s:
        eyes.look(0.1, power_kw=power_kw, current_a=sign * amps)
        share_kw = max(sign * power_kw, 0.0) * 0.95 * 100.0 / amps
        assert abs(eyes.room[side]) <= share_kw + 1e-9
    if for_s > 2.2:
        assert eyes.room[side] == 0.0


# ---- temperature: critical and runaway ---------------------------------------


@pytest.mark.parametrize("point", ["temperature_c", "cell_max_c"])
def test_critical_temperature_shuts_down(point: str) -> None:
    eyes = Eyes(asset_with_bms())
    assert Code.OVER_TEMPERATURE not in eyes.look(**{point: 59.999}).verdicts
    eyes.look(**{point: 60.0})
    assert eyes.said(Code.OVER_TEMPERATURE) == (Level.EMERGENCY, Action.SHUTDOWN, True)
    verdict = eyes.verdicts[Code.OVER_TEMPERATURE]
    assert (verdict.value, verdict.bound, eyes.room) == (60.0, 60.0, NOTHING)


@pytest.mark.parametrize("quality", BAD)
def test_one_believed_sensor_is_enough_for_the_shutdown(quality: Quality) -> None:
    eyes = Eyes(asset_with_bms()).blind(Point.TEMPERATURE_C, quality).look(cell_max_c=60.0)
    assert eyes.verdicts[Code.OVER_TEMPERATURE].trips
    eyes = Eyes(asset_with_bms()).blind(Point.TEMPERATURE_C, quality).look(temperature_c=80.0)
    assert Code.OVER_TEMPERATURE not in eyes.verdicts, "what is not believed shuts nothing down"


def _heat(eyes: Eyes, from_c: float, c_per_min: float, for_s: float, point: str) -> bool:
    """Whether it trips on the way."""
    begin_s = eyes.now_s
    while eyes.now_s - begin_s < for_s:
        eyes.look(0.5, **{point: from_c + c_per_min * (eyes.now_s + 0.5 - begin_s) / 60.0})
        if Code.THERMAL_RUNAWAY in eyes.verdicts:
            return True
    return False


@pytest.mark.parametrize("point", ["temperature_c", "cell_max_c"])
def test_thermal_runaway_while_hot(point: str) -> None:
    eyes = Eyes(asset_with_bms()).look(**{point: 51.0})
    assert _heat(eyes, 51.0, 6.0, 25.0, point)
    assert eyes.said(Code.THERMAL_RUNAWAY) == (Level.EMERGENCY, Action.SHUTDOWN, True)
    verdict = eyes.verdicts[Code.THERMAL_RUNAWAY]
    assert verdict.value == pytest.approx(6.0, rel=0.05)
    assert (verdict.bound, eyes.room) == (5.0, NOTHING)


def test_the_edges_of_runaway() -> None:
    eyes = Eyes().look(1.0, temperature_c=44.0).look(20.0, temperature_c=50.0)
    assert eyes.verdicts[Code.THERMAL_RUNAWAY].value == 18.0
    eyes = Eyes().look(1.0, temperature_c=44.0).look(20.0, temperature_c=49.9)
    assert Code.THERMAL_RUNAWAY not in eyes.verdicts
    eyes = Eyes().look(1.0, temperature_c=44.0).look(19.9, temperature_c=50.0)
    assert Code.THERMAL_RUNAWAY not in eyes.verdicts
    eyes = Eyes(asset(runaway_rate_max_c_per_min=18.0))
    eyes.look(1.0, temperature_c=44.0).look(20.0, temperature_c=50.0)
    assert Code.THERMAL_RUNAWAY not in eyes.verdicts


def test_no_runaway_when_cool_slow_or_short() -> None:
    assert not _heat(Eyes(), 20.0, 40.0, 40.0, "temperature_c"), "warming up in the cold"
    assert not _heat(Eyes(), 51.0, 4.9, 60.0, "temperature_c")
    assert not _heat(Eyes(), 51.0, 30.0, 19.4, "temperature_c"), "20 s at least"
    assert _heat(Eyes().look(temperature_c=51.0), 51.0, 30.0, 21.0, "temperature_c")


def test_a_silent_hotter_sensor_does_not_hide_a_runaway() -> None:
    eyes = Eyes(asset_with_bms()).look(cell_max_c=54.0)
    eyes.age_s[Point.CELL_MAX_C] = 0.0
    silent_s = eyes.now_s
    begin_s = eyes.now_s
    tripped = False
    while eyes.now_s - begin_s < 40.0 and not tripped:
        eyes.age_s[Point.CELL_MAX_C] = eyes.now_s + 0.5 - silent_s
        eyes.look(0.5, temperature_c=50.0 + 6.0 * (eyes.now_s - begin_s) / 60.0)
        tripped = Code.THERMAL_RUNAWAY in eyes.verdicts
    assert tripped


def test_two_sensors_that_take_turns_do_not_hide_a_runaway() -> None:
    eyes = Eyes(asset_with_bms())
    begin_s, tripped = eyes.now_s, False
    while eyes.now_s - begin_s < 40.0 and not tripped:
        c = 51.0 + 6.0 * (eyes.now_s - begin_s) / 60.0
        wiggle = 0.01 if int((eyes.now_s - begin_s) * 2) % 2 else -0.01
        eyes.age_s[Point.CELL_MAX_C] = 0.4
        eyes.look(0.5, temperature_c=c, cell_max_c=c + wiggle)
        tripped = Code.THERMAL_RUNAWAY in eyes.verdicts
    assert tripped


def test_a_sensor_that_drops_out_now_and_then_does_not_hide_a_runaway() -> None:
    eyes = Eyes()
    begin_s, tripped = eyes.now_s, False
    while eyes.now_s - begin_s < 60.0 and not tripped:
        passed_s = eyes.now_s - begin_s
        bad = int(passed_s) % 10 == 9
        eyes.quality = {Point.TEMPERATURE_C: Quality.MISSING} if bad else {}
        eyes.look(0.5, temperature_c=51.0 + 6.0 * passed_s / 60.0)
        tripped = Code.THERMAL_RUNAWAY in eyes.verdicts
    assert tripped


def test_ticks_between_two_readings_change_nothing_and_samples_stay_few() -> None:
    eyes = Eyes()
    begin_s, tripped = eyes.now_s, False
    for tick in range(400):
        since_s = tick % 5 * 0.1  # polled twice a second, looked at ten times
        eyes.age_s[Point.TEMPERATURE_C] = since_s
        read_s = eyes.now_s + 0.1 - since_s - begin_s
        eyes.look(0.1, temperature_c=51.0 + 6.0 * read_s / 60.0)
        tripped = tripped or Code.THERMAL_RUNAWAY in eyes.verdicts
    assert tripped
    for notes in eyes.notes.values():
        assert len(notes) <= 2 * 12 + 3


# ---- state of charge rate, cells apart, ramp, health -------------------------


def _drain(eyes: Eyes, pct_per_min: float, for_s: float, every_s: float = 1.0) -> list[bool]:
    begin_s, from_pct, held = eyes.now_s, eyes.values[Point.SOC_PCT], []
    while eyes.now_s - begin_s < for_s - 1e-9:
        passed_s = eyes.now_s + every_s - begin_s
        eyes.look(every_s, soc_pct=from_pct - pct_per_min * passed_s / 60.0)
        held.append(Code.SOC_RATE in eyes.verdicts)
    return held


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_soc_that_moves_too_fast_halves_power_after_sixty_seconds(sign: float) -> None:
    eyes = Eyes().look()
    held = _drain(eyes, sign * 1.2, 70.0)
    assert held.index(True) in (59, 60)
    assert all(held[60:])
    assert eyes.room == (-50.0, 50.0)
    assert eyes.said(Code.SOC_RATE) == (Level.WARNING, Action.REDUCE, False)
    assert eyes.verdicts[Code.SOC_RATE].value == pytest.approx(1.2, rel=0.01)


def test_soc_rate_at_its_limit_and_its_hysteresis() -> None:
    eyes = Eyes().look()
    assert not any(_drain(eyes, 0.99, 200.0))
    _drain(eyes, 1.3, 70.0)
    assert all(_drain(eyes, 0.85, 100.0)), "above 80 % of the limit it holds"
    assert not any(_drain(eyes, 0.75, 140.0)[70:])


def test_soc_rate_needs_two_steps_of_the_resolution() -> None:
    coarse = asset(soc_resolution_pct=1.0, soc_rate_max_pct_per_min=0.5)
    eyes = Eyes(coarse).look(soc_pct=50.0)
    held = [Code.SOC_RATE in eyes.look(1.0, soc_pct=49.0).verdicts for _ in range(120)]
    assert not any(held), "one step of a coarse register is no rate"
    eyes = Eyes(coarse).look(soc_pct=50.0)
    held = [Code.SOC_RATE in eyes.look(1.0, soc_pct=48.0).verdicts for _ in range(61)]
    assert any(held)


def test_the_edges_of_soc_rate() -> None:
    eyes = Eyes().look(1.0).look(60.0, soc_pct=49.0)
    assert Code.SOC_RATE not in eyes.verdicts, "at the limit is not over it"
    eyes = Eyes().look(1.0).look(59.9, soc_pct=48.0)
    assert Code.SOC_RATE not in eyes.verdicts
    eyes = Eyes(asset(soc_rate_max_pct_per_min=1.25)).look(1.0).look(60.0, soc_pct=48.0)
    assert eyes.verdicts[Code.SOC_RATE].value == 2.0
    assert Code.SOC_RATE not in eyes.look(60.0, soc_pct=47.0).verdicts, "80 % of it is enough"


def test_a_gap_in_soc_does_not_forgive_its_rate() -> None:
    eyes = Eyes().look()
    _drain(eyes, 1.3, 70.0)
    eyes.blind(Point.SOC_PCT, Quality.MISSING).look()
    eyes.quality.clear()
    assert all(_drain(eyes, 1.3, 5.0))


def test_cells_apart_halve_power_with_hysteresis() -> None:
    eyes = Eyes(asset_with_bms()).look(cell_min_v=3.0, cell_max_v=3.1 - 1e-6)
    assert eyes.room == OPEN
    eyes.look(cell_max_v=3.11)
    assert eyes.room == (-50.0, 50.0)
    assert eyes.said(Code.CELL_SPREAD) == (Level.WARNING, Action.REDUCE, False)
    assert eyes.verdicts[Code.CELL_SPREAD].value == pytest.approx(0.11)
    assert "110 mV" in eyes.verdicts[Code.CELL_SPREAD].text
    wide = Eyes(asset_with_bms(cell_delta_max_v=1.25)).look(cell_min_v=2.85, cell_max_v=4.15)
    assert Code.CELL_SPREAD in wide.verdicts
    assert Code.CELL_SPREAD not in wide.look(cell_min_v=2.9, cell_max_v=3.9).verdicts
    assert eyes.look(cell_max_v=3.081).room == (-50.0, 50.0)
    assert eyes.look(cell_max_v=3.079).room == OPEN
    assert eyes.look(cell_max_v=3.081).room == OPEN


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_power_that_moves_too_fast_is_told_about(sign: float) -> None:
    eyes = Eyes()
    for _ in range(6):
        eyes.look(0.5)
    for _ in range(4):
        eyes.look(0.5, power_kw=sign * 40.0)
        assert eyes.said(Code.POWER_RAMP) == (Level.WARNING, Action.LOG, False)
        assert eyes.verdicts[Code.POWER_RAMP].value == 20.0
        assert eyes.room == OPEN
    assert eyes.look(0.5).verdicts == {}


@pytest.mark.parametrize("lag_s", [0.1, 0.5, 2.5])
@pytest.mark.parametrize("power_kw", [60.0, -60.0])
def test_power_that_follows_what_it_was_told_is_no_ramp(power_kw: float, lag_s: float) -> None:
    """Up by droop, and down by a stop: at once, as the gate may, but seen later."""
    eyes = Eyes()
    for _ in range(6):
        eyes.look(0.5)
    for told_kw in (power_kw, 0.0):
        eyes.told_kw = told_kw
        for _ in range(round(lag_s / 0.1)):
            assert eyes.look().verdicts == {}
        eyes.look(power_kw=told_kw)
        for _ in range(40):
            assert eyes.look().verdicts == {}


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_power_beyond_what_it_was_told_is_told_about(sign: float) -> None:
    eyes = Eyes()
    for _ in range(6):
        eyes.look(0.5)
    eyes.told_kw = sign * 20.0
    eyes.look(0.5, power_kw=sign * 70.0)
    assert eyes.verdicts[Code.POWER_RAMP].value == pytest.approx(25.0)
    for _ in range(20):
        eyes.look(0.5)
    assert eyes.look(0.5, power_kw=-sign * 40.0).said(Code.POWER_RAMP), "and the other way"
    for _ in range(20):
        eyes.look(0.5)
    assert eyes.look(0.5, power_kw=sign * 20.0).verdicts == {}, "back to where it should be"


@given(st.lists(st.floats(-100.0, 100.0), min_size=1, max_size=30), st.integers(0, 24))
@settings(deadline=None)
def test_who_only_follows_what_it_was_told_never_ramps(
    steps_kw: list[float], lag_ticks: int
) -> None:
    """Whatever it is told, each for 0.3 s, seen by a poll every 0.5 s and up to 2.4 s late."""
    unit = asset()
    notes: Notes = ()
    told_kw = [0.0] * 30 + [each for each in steps_kw for _ in range(3)] + [0.0] * 30
    for tick in range(30, len(told_kw)):
        polled = tick - tick % 5
        at_s, now_s = 1000.0 + polled / 10.0, 1000.0 + tick / 10.0
        power = Reading(B1, Point.POWER_KW, told_kw[polled - lag_ticks], at_s, MAX_AGE_S)
        now = Snapshot(now_s, UTC_NOW, {(B1, Point.POWER_KW): power})
        verdict, notes = power_ramp(Look(now, unit, told_kw[tick]), notes)
        assert verdict is None


@pytest.mark.parametrize("rated_kw", [100.0, 1000.0])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_power_may_move_by_the_ramp_and_a_twentieth_of_the_rating(
    rated_kw: float, sign: float
) -> None:
    most_kw = 10.0 * 2.0 + 0.05 * rated_kw
    for moved_kw, told in ((most_kw, False), (most_kw + 0.1, True)):
        eyes = Eyes(asset(rated_kw=rated_kw))
        for _ in range(6):
            eyes.look(0.5)
        said = eyes.look(0.5, power_kw=sign * moved_kw).verdicts
        assert (Code.POWER_RAMP in said) is told


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_what_was_told_long_ago_explains_no_power(sign: float) -> None:
    """It is remembered in spans of 3 s, of which two count: the last look that knows of it is
    number 17, where spans begin at looks 0, 6, 12 and 18."""
    for last, told in ((17, False), (18, True)):
        eyes = Eyes()
        for number in range(last + 1):
            old = number < 12
            eyes.told_kw = sign * 60.0 if old else 0.0
            eyes.look(0.5, power_kw=sign * 60.0 if old or number == last else 0.0)
            assert (Code.POWER_RAMP in eyes.verdicts) is (told and number == last)


def test_notes_of_an_older_power_ramp_are_left() -> None:
    eyes = Eyes()
    eyes.notes[Code.POWER_RAMP] = (999.0, 0.0, 999.5, 0.0)
    assert eyes.look(power_kw=50.0).verdicts == {}


def test_an_allowed_ramp_is_not_told_about() -> None:
    eyes = Eyes()
    for step in range(20):
        assert eyes.look(0.5, power_kw=5.0 * step).verdicts == {}


def test_soh_and_alarm_bits_only_alarm() -> None:
    eyes = Eyes().look(soh_pct=69.9, alarm_bits=4.0)
    assert eyes.room == OPEN
    assert eyes.said(Code.SOH_LOW) == (Level.WARNING, Action.LOG, False)
    assert eyes.said(Code.DEVICE_ALARM) == (Level.WARNING, Action.LOG, False)
    assert "0x0004" in eyes.verdicts[Code.DEVICE_ALARM].text
    assert Code.SOH_LOW in eyes.look(soh_pct=70.9).verdicts
    assert Code.SOH_LOW not in eyes.look(soh_pct=71.0).verdicts
    assert Code.SOH_LOW not in eyes.look(soh_pct=70.0).verdicts
    assert Code.DEVICE_ALARM not in Eyes(asset(alarm_mask=0xFFFB)).look(alarm_bits=4.0).verdicts


# ---- faults and the BMS's own word -------------------------------------------


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
def test_device_fault_bits_that_count_shut_down(bits: int, mask: int) -> None:
    eyes = Eyes(asset(fault_mask=mask)).look(fault_bits=float(bits))
    if bits & mask:
        assert eyes.said(Code.DEVICE_FAULT) == (Level.EMERGENCY, Action.SHUTDOWN, True)
        assert eyes.verdicts[Code.DEVICE_FAULT].text == f"fault_bits 0x{bits & mask:04x}"
        assert eyes.room == NOTHING
    else:
        assert eyes.verdicts == {}


@given(st.integers(0, 0xFFFF))
def test_bms_fault_bits_shut_down(bits: int) -> None:
    eyes = Eyes(asset_with_bms()).look(bms_fault_bits=float(bits))
    assert (Code.BMS_FAULT in eyes.verdicts) == (bits != 0)
    assert eyes.room == (NOTHING if bits else OPEN)
    assert all(each.trips for each in eyes.verdicts.values())


def test_bms_limits_are_amperes_of_one_module_at_the_lower_voltage() -> None:
    eyes = Eyes(asset_with_bms())
    eyes.look(bms_discharge_max_a=40.0, bms_charge_max_a=20.0, voltage_v=50.0, pack_v=50.5)
    assert eyes.room == pytest.approx((-20.0 * 50.0 * 23 / 1000.0, 40.0 * 50.0 * 23 / 1000.0))
    assert eyes.verdicts[Code.BMS_LIMIT].value == 20.0
    assert eyes.look(bms_discharge_max_a=0.0, bms_charge_max_a=-5.0).room == NOTHING
    full = eyes.look(WIDENS_S, bms_discharge_max_a=500.0, bms_charge_max_a=1.0)
    assert full.room == pytest.approx((-1.15, 100.0))
    one_way = eyes.look(WIDENS_S, bms_discharge_max_a=1.0, bms_charge_max_a=500.0)
    assert one_way.room == pytest.approx((-100.0, 1.15))
    upside_down = eyes.look(voltage_v=-1.0).verdicts[Code.BMS_LIMIT].limit
    assert upside_down is not None
    assert (upside_down.low_kw, upside_down.high_kw) == NOTHING
    no_volts = {Point.POWER_KW, Point.BMS_CHARGE_MAX_A, Point.BMS_DISCHARGE_MAX_A}
    estimated = Eyes(asset(declared=frozenset(no_volts)))  # at 44.8 V, the lowest it may have
    estimated.look(bms_discharge_max_a=40.0, bms_charge_max_a=20.0)
    assert estimated.room == pytest.approx((-20.0 * 44.8 * 23 / 1000.0, 40.0 * 44.8 * 23 / 1000.0))
    # 23 modules x 53 V x 82.04 A is 100 kW
    at_53_v = {"voltage_v": 53.0, "pack_v": 53.0}
    rich = eyes.look(WIDENS_S, bms_discharge_max_a=82.1, bms_charge_max_a=82.1, **at_53_v)
    assert rich.room == OPEN
    assert Code.BMS_LIMIT not in rich.verdicts


@pytest.mark.parametrize(
    ("values", "apart"),
    [
        ({"soc_pct": 50.0, "bms_soc_pct": 55.1}, True),
        ({"soc_pct": 50.0, "bms_soc_pct": 55.0}, False),
        ({"voltage_v": 53.0, "pack_v": 54.1}, True),
        ({"voltage_v": 53.0, "pack_v": 54.0}, False),
        ({"current_a": 5.0, "pack_a": -5.1}, True),
        ({"current_a": 5.0, "pack_a": -5.0}, False),
    ],
)
def test_bms_and_modbus_apart_is_told_about(values: dict[str, float], apart: bool) -> None:
    eyes = Eyes(asset_with_bms()).look(**values)
    at_once = apart and "soc_pct" in values
    assert (Code.BMS_DISAGREES in eyes.verdicts) == at_once, "the rest moves, and is read apart"
    assert (Code.BMS_DISAGREES in eyes.look(DISAGREES_S - 0.1).verdicts) == at_once
    assert (Code.BMS_DISAGREES in eyes.look(0.1).verdicts) == apart
    assert eyes.room == OPEN
    if apart:
        assert eyes.said(Code.BMS_DISAGREES) == (Level.WARNING, Action.LOG, False)


# ---- whatever is read --------------------------------------------------------

LIMITS_OF: dict[Point, tuple[float, float]] = {
    Point.SOC_PCT: (0.0, 100.0),
    Point.BMS_SOC_PCT: (0.0, 100.0),
    Point.VOLTAGE_V: (40.0, 70.0),
    Point.PACK_V: (40.0, 70.0),
    Point.CELL_MIN_V: (2.5, 4.3),
    Point.CELL_MAX_V: (2.5, 4.3),
    Point.TEMPERATURE_C: (-20.0, 70.0),
    Point.CELL_MIN_C: (-20.0, 70.0),
    Point.CELL_MAX_C: (-20.0, 70.0),
    Point.CURRENT_A: (-150.0, 150.0),
    Point.PACK_A: (-150.0, 150.0),
    Point.POWER_KW: (-150.0, 150.0),
    Point.FAULT_BITS: (0.0, 1.4),
}
wild = st.fixed_dictionaries(
    {},
    optional={
        point: st.one_of(st.floats(*span), st.floats(allow_nan=True))
        for point, span in LIMITS_OF.items()
    },
)
blinded = st.dictionaries(st.sampled_from(sorted(LEFT_WHEN_BLIND)), st.sampled_from(BAD))


@given(st.lists(st.tuples(wild, blinded, st.floats(0.0, 5.0)), min_size=1, max_size=4))
@settings(max_examples=150, deadline=None)
def test_no_reading_opens_a_direction_that_the_table_shuts(
    seen: list[tuple[dict[Point, float], dict[Point, Quality], float]],
) -> None:
    eyes = Eyes(asset_with_bms())
    for values, bad, after_s in seen:
        eyes.quality = bad
        eyes.look(after_s, **values)
        low_kw, high_kw = eyes.room
        assert -100.0 <= low_kw <= 0.0 <= high_kw <= 100.0
        may_charge, may_discharge = _table(eyes)
        assert low_kw == 0.0 or may_charge
        assert high_kw == 0.0 or may_discharge


def _table(eyes: Eyes) -> tuple[bool, bool]:
    """The stops of the table, typed again from the document: (may charge, may discharge)."""
    now = eyes.snapshot()
    charge = discharge = True
    seen: dict[Point, float] = {}
    for point, (low_kw, high_kw) in LEFT_WHEN_BLIND.items():
        value = now.fresh(B1, point)
        if value is None or not math.isfinite(value):
            charge, discharge = charge and low_kw < 0.0, discharge and high_kw > 0.0
        else:
            seen[point] = value

    def least(*points: Point) -> float:
        return min((seen[p] for p in points if p in seen), default=25.0)

    def most(*points: Point) -> float:
        return max((seen[p] for p in points if p in seen), default=25.0)

    hot = most(Point.TEMPERATURE_C, Point.CELL_MAX_C) >= 55.0
    icy = least(Point.TEMPERATURE_C, Point.CELL_MIN_C) < -10.0
    fault = int(seen.get(Point.FAULT_BITS, 0.0)) & 0xFFFF != 0
    if hot or icy or fault:
        return False, False
    cold = least(Point.TEMPERATURE_C, Point.CELL_MIN_C) <= 0.0
    full = most(Point.SOC_PCT, Point.BMS_SOC_PCT) >= 95.0
    high = (
        seen.get(Point.CELL_MAX_V, 3.0) >= 4.2
        or max((seen[p] for p in (Point.VOLTAGE_V, Point.PACK_V) if p in seen), default=50.0)
        >= 67.2
    )
    empty = least(Point.SOC_PCT, Point.BMS_SOC_PCT) <= 10.0
    low = (
        seen.get(Point.CELL_MIN_V, 3.0) <= 2.8
        or min((seen[p] for p in (Point.VOLTAGE_V, Point.PACK_V) if p in seen), default=50.0)
        <= 44.8
    )
    return charge and not (cold or full or high), discharge and not (empty or low)


def test_notes_are_plain_numbers() -> None:
    eyes = Eyes(asset_with_bms())
    eyes.look(soc_pct=5.0, current_a=120.0, temperature_c=53.0).blind(
        Point.POWER_KW, Quality.STALE
    ).look()
    for notes in eyes.notes.values():
        assert all(type(each) is float for each in notes)
