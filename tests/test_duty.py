"""One tick as a sum: who rules, how fast, what is left for droop; and a tick of the real parts."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.rig import B1, B2, HEALTHY, MAX_AGE_S, Rig, about, asset, words
from vppd.campus.plans import base_of, pins_of
from vppd.core.alarms import Code
from vppd.core.decision import Decision
from vppd.core.model import (
    SITE,
    Limit,
    Phasor,
    Plan,
    Point,
    Priority,
    Quality,
    Reading,
    Snapshot,
    Synchro,
    UnitId,
)
from vppd.core.settings import BandSettings, DroopSettings
from vppd.core.settings_response import RideThroughRow, RideThroughSettings
from vppd.core.settings_sources import SourceSettings
from vppd.duty import Duty, Memory, Owed, owe
from vppd.spine.heartbeat import Heartbeat
from vppd.tick import Tick

PMU = UnitId("pmu")
WIDE = Limit(-1e6, 1e6, Code.CONNECTION)
DROOP = DroopSettings(
    rocof_gain_pu_per_hz_per_s=0.0, soc_adaptive=False, temperature_adaptive=False
)
FLEET = tuple(asset(id_) for id_ in (B1, B2))
DUTY = Duty(FLEET, (PMU,), BandSettings(), DROOP, WIDE, "proportional")
ROOMS = {each.id: Limit(-100.0, 100.0, Code.ROOM) for each in FLEET}


def plan(
    power_kw: float, unit: UnitId = SITE, priority: Priority = Priority.SCHEDULE, **more: Any
) -> Plan:
    made = Plan(unit, power_kw, math.inf, str(more.pop("source", "test")), priority, 0.0)
    return replace(made, **more)


class Site:
    """`owe` from tick to tick."""

    def __init__(self, duty: Duty = DUTY) -> None:
        self.duty, self.memory, self.now_s = duty, Memory(), 1000.0
        self.rooms, self.hz = dict(ROOMS), 50.0
        self.load_kw: float | None = None

    def tick(self, *plans: Plan, after_s: float = 0.1) -> Owed:
        self.now_s += after_s
        readings = {
            (each.id, point): Reading(each.id, point, value, self.now_s, MAX_AGE_S)
            for each in self.duty.assets
            for point, value in HEALTHY.items()
        }
        if self.load_kw is not None:
            at = Reading(SITE, Point.LOAD_KW, self.load_kw, self.now_s, MAX_AGE_S)
            readings[SITE, Point.LOAD_KW] = at
        now = Snapshot(self.now_s, Rig().clock.utc(), readings, self.synchros())
        owed, self.memory = owe(now, plans, self.rooms, self.duty, self.memory)
        return owed

    def synchros(self) -> dict[UnitId, Synchro]:
        return {PMU: Synchro(PMU, self.hz, self.now_s, 0.5)}

    def settle(self, *plans: Plan, ticks: int = 60) -> Owed:
        for _ in range(ticks - 1):
            self.tick(*plans)
        return self.tick(*plans)


def base_kw(owed: Owed) -> dict[str, float]:
    return {each.unit: each.base_kw for each in owed.requests}


# ---- who rules ---------------------------------------------------------------


def test_the_highest_priority_rules_then_the_newest() -> None:
    schedule = plan(10.0, source="schedule")
    order = plan(20.0, priority=Priority.ORDER, source="agc")
    operator = plan(
        30.0, priority=Priority.OPERATOR, source="ann", issued_s=5.0, strategy="balanced"
    )
    newer = plan(40.0, priority=Priority.OPERATOR, source="bob", issued_s=6.0, reactive_kvar=3.0)
    for several in ([schedule, order, operator, newer], [newer, operator, order, schedule]):
        base = base_of(several)
        assert (base.power_kw, base.source, base.reactive_kvar) == (40.0, "bob", 3.0)
        assert base.planned
    assert base_of([schedule, order, operator]).strategy == "balanced"
    assert base_of([schedule, order]).source == "agc"
    idle = base_of([])
    assert (idle.power_kw, idle.source, idle.planned) == (0.0, "idle", False)


def test_deltas_come_on_top_of_whoever_rules() -> None:
    up, down = plan(15.0, adds=True, source="r1"), plan(-5.0, adds=True, source="r2")
    assert base_of([plan(100.0), up, down]).power_kw == 110.0
    alone = base_of([up])
    assert (alone.power_kw, alone.planned) == (15.0, True)
    pin = plan(50.0, B1)
    assert base_of([pin]).planned is False


def test_pins_by_the_same_rank() -> None:
    low, high = plan(1.0, B1, issued_s=9.0), plan(2.0, B1, Priority.OPERATOR)
    other = plan(3.0, B2)
    assert pins_of([high, low, other, plan(4.0)]) == {B1: high, B2: other}
    assert pins_of([low, high]) == {B1: high}
    assert pins_of([high, replace(high, issued_s=1.0, power_kw=7.0)])[B1].power_kw == 7.0


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_is_not_a_number_is_no_plan(number: float) -> None:
    with pytest.raises(ValueError, match="not a plan"):
        plan(number)
    with pytest.raises(ValueError, match="not a plan"):
        plan(1.0, reactive_kvar=number)
    if math.isnan(number):
        with pytest.raises(ValueError, match="not a plan"):
            plan(1.0, valid_until_s=number)
        with pytest.raises(ValueError, match="not a plan"):
            plan(1.0, issued_s=number)


# ---- ramps -------------------------------------------------------------------


def test_the_base_ramps_up_and_down_alike_and_an_expired_plan_ramps_out() -> None:
    site = Site()
    up = [sum(base_kw(site.tick(plan(50.0))).values()) for _ in range(4)]
    assert up == about([4.0, 6.0, 8.0, 10.0]), "two units at 10 kW/s, 0.2 s at first"
    assert sum(base_kw(site.settle(plan(50.0))).values()) == about(50.0)
    down = [sum(base_kw(site.tick()).values()) for _ in range(3)]
    assert down == about([48.0, 46.0, 44.0])
    assert sum(base_kw(site.settle()).values()) == 0.0
    assert sum(base_kw(site.tick(plan(-50.0))).values()) == about(-2.0)
    assert sum(base_kw(site.tick(plan(-50.0), after_s=9.0)).values()) == about(-6.0)
    assert sum(base_kw(site.tick(plan(-50.0), after_s=0.0)).values()) == about(-6.0)
    assert sum(base_kw(site.tick(plan(-50.0), after_s=-9.0)).values()) == about(-6.0)


def test_a_plan_beyond_the_ratings_does_not_wind_up() -> None:
    site = Site()
    owed = site.settle(plan(1e9), ticks=400)
    assert sum(base_kw(owed).values()) == about(200.0)
    assert Code.ROOM in words(owed.clamps)
    assert owed.base.power_kw == 1e9
    assert sum(base_kw(site.tick()).values()) == about(198.0), "and fades at once"
    site.settle(plan(-1e300), ticks=400)
    assert sum(base_kw(site.tick()).values()) == about(-198.0)
    site = Site()
    site.settle(plan(1e9, B1), ticks=400)
    assert base_kw(site.tick())[B1] == about(99.0)


def test_a_pin_ramps_from_what_the_unit_gives_and_out_again() -> None:
    site = Site()
    site.settle(plan(100.0))
    owed = site.tick(plan(100.0), plan(80.0, B1))
    assert base_kw(owed) == about({B1: 51.0, B2: 49.0})
    owed = site.settle(plan(100.0), plan(80.0, B1))
    assert base_kw(owed) == about({B1: 80.0, B2: 20.0})
    owed = site.tick(plan(100.0))
    assert base_kw(owed) == about({B1: 79.0, B2: 21.0})
    assert base_kw(site.settle(plan(100.0), ticks=90)) == about({B1: 50.0, B2: 50.0})


def test_a_pin_alone_moves_nobody_else() -> None:
    site = Site()
    owed = site.settle(plan(40.0, B1, reactive_kvar=9.0))
    assert base_kw(owed) == {B1: 40.0, B2: 0.0}
    assert owed.base_kw == 40.0
    assert [each.reactive_kvar for each in owed.requests] == [9.0, 0.0]


def test_reactive_power_of_the_site_goes_by_rating() -> None:
    owed = Site().settle(plan(0.0, reactive_kvar=30.0))
    assert [each.reactive_kvar for each in owed.requests] == [15.0, 15.0]


# ---- droop and room ----------------------------------------------------------


def test_droop_comes_on_top_and_is_shared() -> None:
    site = Site()
    site.settle(plan(40.0))
    site.hz = 49.7
    owed = site.settle(plan(40.0), ticks=20)
    assert [(each.base_kw, each.frequency_kw) for each in owed.requests] == [
        (about(20.0), about(12.0))
    ] * 2
    assert owed.droop.owed_kw == about(24.0)
    site.rooms[B1] = Limit(0.0, 0.0, Code.TRIPPED)
    owed = site.tick(plan(40.0))
    assert owed.requests[1].frequency_kw == about(24.0), "in the same tick"
    assert owed.requests[1].base_kw == about(40.0)


def test_what_no_unit_has_room_for_is_named() -> None:
    site = Site()
    site.settle(plan(150.0), ticks=100)
    site.rooms[B1] = Limit(0.0, 0.0, Code.TRIPPED)
    owed = site.tick(plan(150.0))
    (cut,) = [each for each in owed.clamps if each.why is Code.ROOM]
    assert (cut.before_kw, cut.after_kw) == (about(150.0), about(100.0))
    site.hz = 49.7
    owed = site.settle(plan(150.0), ticks=20)
    cuts = [(each.before_kw, each.after_kw) for each in owed.clamps if each.why is Code.ROOM]
    assert cuts == [
        (about(24.0), about(0.0)),
        (about(150.0), about(100.0)),
    ]


def test_the_connection_leaves_droop_what_base_does_not_use() -> None:
    site = Site(replace(DUTY, connection=Limit(-20.0, 50.0, Code.CONNECTION)))
    site.settle(plan(40.0))
    site.hz = 49.7
    owed = site.settle(plan(40.0), ticks=20)
    assert owed.droop.asked_kw == about(10.0)
    assert Code.DROOP_LOAD in words(owed.clamps)
    site.load_kw = 5.0  # other load takes in what would go out
    assert site.settle(plan(40.0), ticks=20).droop.asked_kw == about(15.0)
    site.load_kw = -6.0
    assert site.settle(plan(40.0), ticks=20).droop.asked_kw == about(4.0)
    site.load_kw = None
    site.duty = replace(site.duty, droop=replace(DROOP, load_adaptive=False))
    assert site.settle(plan(40.0), ticks=20).droop.asked_kw == about(24.0)


def test_p_max_is_the_sum_of_ratings_unless_set() -> None:
    assert DUTY.droop_max_kw == 200.0
    assert replace(DUTY, droop=replace(DROOP, max_power_kw=50.0)).droop_max_kw == 50.0


def test_only_units_with_room_count_for_fitness() -> None:
    duty = replace(DUTY, droop=replace(DROOP, soc_adaptive=True))
    site = Site(duty)
    site.hz = 49.7
    assert site.settle(ticks=20).droop.asked_kw == about(24.0)
    site.rooms = {each.id: Limit(0.0, 0.0, Code.TRIPPED) for each in FLEET}
    owed = site.tick()
    assert Code.ROOM in words(owed.clamps)
    assert all(each.frequency_kw == 0.0 for each in owed.requests)


def test_a_strategy_nobody_knows_falls_back() -> None:
    owed = Site().settle(plan(100.0, strategy="astrology"))
    assert base_kw(owed) == about({B1: 50.0, B2: 50.0})


def test_the_plan_chooses_the_strategy() -> None:
    owed = Site().settle(plan(100.0, strategy="priority"))
    assert base_kw(owed) == about({B1: 100.0, B2: 0.0})


@given(
    st.lists(
        st.tuples(
            st.lists(
                st.tuples(st.floats(-500.0, 500.0), st.sampled_from([SITE, B1, B2]), st.booleans()),
                max_size=3,
            ),
            st.floats(48.0, 52.0),
            st.floats(0.0, 100.0),
            st.floats(0.0, 100.0),
        ),
        max_size=8,
    )
)
@settings(max_examples=100, deadline=None)
def test_every_request_keeps_within_room_or_pin(
    seen: list[tuple[list[tuple[float, UnitId, bool]], float, float, float]],
) -> None:
    site = Site()
    for asked, hz, out_kw, in_kw in seen:
        site.hz = hz
        site.rooms[B1] = Limit(-in_kw, out_kw, Code.ROOM)
        plans = [
            plan(kw, unit, droop=droop, source=f"{n}") for n, (kw, unit, droop) in enumerate(asked)
        ]
        owed = site.tick(*plans)
        again, _ = owed, site.memory
        assert again is owed
        assert [each.unit for each in owed.requests] == [B1, B2]
        for each in owed.requests:
            if each.unit in site.memory.pins_kw:
                assert each.base_kw == site.memory.pins_kw[each.unit]
                assert abs(each.base_kw) <= 100.0
            else:
                room = site.rooms[each.unit]
                total_kw = each.base_kw + each.frequency_kw
                assert room.low_kw - 1e-6 <= total_kw <= room.high_kw + 1e-6


# ---- the tick itself ---------------------------------------------------------


def _ticking(rig: Rig, hz: float = 50.0) -> Tick:
    def told(*_: object) -> None:
        raise AssertionError("only run() tells")

    tick = Tick(
        replace(DUTY, assets=rig.assets), rig.bus, rig.gate, Heartbeat(rig.bus, rig.clock), told
    )
    rig.bus.publish(Synchro(PMU, hz, rig.clock.t_s, 0.5))
    return tick


def _beat(rig: Rig, tick: Tick, hz: float, beats: int) -> Decision:
    for _ in range(beats):
        rig.clock.t_s += 0.1
        rig.tell()
        rig.bus.publish(Synchro(PMU, hz, rig.clock.t_s, 0.5))
        decision, frequency, now = tick.once()
        assert frequency is not None
        assert now.now_s == decision.now_s == rig.clock.t_s
        rig.answer()
    return decision


def test_forty_eight_kilowatts_at_49_70_hz() -> None:
    four = tuple(asset(UnitId(f"b{n}")) for n in range(1, 5))
    rig = Rig(*four).open()
    tick = _ticking(rig)
    _beat(rig, tick, 50.0, 5)
    decision = _beat(rig, tick, 49.7, 10)
    assert decision.cleared_kw == about(48.0)
    assert decision.droop_owed_kw == about(48.0)
    assert (decision.frequency_hz, decision.frequency_source) == (49.7, "pmu")
    assert decision.frequency_age_s == about(0.0)
    assert all(wire.last.power_kw == about(12.0) for wire in rig.wires.values())
    assert all(wire.last.bound_by == () for wire in rig.wires.values())


def test_a_plan_rules_until_it_expires_and_then_ramps_out() -> None:
    rig = Rig(*FLEET).open()
    tick = _ticking(rig)
    until_s = rig.clock.t_s + 2.05
    rig.bus.publish(Plan(SITE, 20.0, until_s, "ann", Priority.OPERATOR, rig.clock.t_s))
    decision = _beat(rig, tick, 50.0, 20)
    assert (decision.base_source, decision.base_target_kw) == ("ann", 20.0)
    assert decision.cleared_kw == about(20.0)
    assert decision.owed_kw == about(20.0)
    decision = _beat(rig, tick, 50.0, 1)
    assert (decision.base_source, decision.base_target_kw) == ("idle", 0.0)
    assert decision.cleared_kw == about(18.0)
    assert _beat(rig, tick, 50.0, 12).cleared_kw == 0.0


def test_a_decision_is_the_same_sum_again() -> None:
    def run() -> list[Decision]:
        rig = Rig(*FLEET).open()
        tick = _ticking(rig)
        rig.bus.publish(Plan(SITE, 60.0, math.inf, "ann", Priority.OPERATOR, 0.0))
        return [_beat(rig, tick, 50.0 - 0.02 * n, 1) for n in range(30)]

    assert run() == run()


def test_a_withdrawn_plan_is_gone() -> None:
    rig = Rig(*FLEET)
    rig.bus.publish(plan(10.0, source="a"))
    rig.bus.publish(plan(20.0, source="a"))
    rig.bus.publish(plan(30.0, source="b"))
    assert sorted(each.power_kw for each in rig.bus.plans()) == [20.0, 30.0]
    rig.bus.withdraw(SITE, "a")
    rig.bus.withdraw(SITE, "nobody")
    assert [each.power_kw for each in rig.bus.plans()] == [30.0]
    rig.bus.publish(plan(40.0, source="c", valid_until_s=rig.clock.t_s))
    assert [each.power_kw for each in rig.bus.plans()] == [30.0]


# ---- outside the windows, and on a dead bus ----------------------------------

DIPS = RideThroughSettings(
    profile="distribution",
    nominal_v=1000.0,
    stable_s=2.0,
    rows=(RideThroughRow(when="voltage_below", bound=0.8, within_s=0.6),),
)


class Grid(Site):
    """A site whose PMU shows a voltage."""

    def __init__(self, duty: Duty) -> None:
        super().__init__(duty)
        self.volts, self.quality = 1000.0, Quality.GOOD

    def synchros(self) -> dict[UnitId, Synchro]:
        phasors = (Phasor("V", self.volts, 0.0, "V"),)
        seen = Synchro(PMU, self.hz, self.now_s, 0.5, self.quality, phasors=phasors)
        return {PMU: seen}


def powers_kw(owed: Owed) -> list[float]:
    return [each.base_kw + each.frequency_kw for each in owed.requests]


def test_outside_its_window_nothing_is_asked_at_once_and_back_by_the_ramp() -> None:
    site = Grid(replace(DUTY, ride_through=DIPS))
    site.hz = 49.7
    assert sum(powers_kw(site.settle(plan(50.0)))) == about(74.0)
    site.volts = 700.0
    assert sum(powers_kw(site.tick(plan(50.0)))) == about(74.0), "it rides through for its time"
    owed = site.tick(plan(50.0))
    assert powers_kw(owed) == [0.0, 0.0]
    assert set(words(owed.clamps)) == {Code.RIDE_THROUGH}
    assert (owed.droop.owed_kw, owed.droop.curve_kw) == (about(24.0), about(24.0))
    assert owed.riding.ceased
    site.volts = 1000.0
    assert powers_kw(site.settle(plan(50.0), ticks=20)) == [0.0, 0.0]
    owed = site.tick(plan(50.0))
    assert 0.0 < sum(powers_kw(owed)) <= 24.0 + 4.0
    assert sum(powers_kw(site.settle(plan(50.0)))) == about(74.0)


@pytest.mark.parametrize("by", ["voltage", "quality"])
def test_the_frequency_of_a_dead_bus_drives_nothing_and_nothing_is_held(by: str) -> None:
    rules = replace(DIPS, profile="none", nominal_v=1000.0 if by == "voltage" else None)
    site = Grid(replace(DUTY, ride_through=rules))
    site.hz = 49.0
    assert site.settle().droop.asked_kw == about(80.0)
    if by == "voltage":
        site.volts = 100.0
    else:
        site.quality = Quality.DEAD_BUS
    step_kw = SourceSettings().switch_step_pct / 100.0 * site.duty.droop_max_kw
    for step, hz in enumerate((48.0, 46.0, 50.0) * 5, start=1):
        site.hz = hz
        owed = site.tick()
        left_kw = max(80.0 - step * step_kw, 0.0)
        assert owed.droop.asked_kw == about(left_kw), "in steps as after a change of source"
        assert (owed.droop.owed_kw, owed.frequency) == (0.0, None)
        assert sum(powers_kw(owed)) == about(left_kw)
        assert words(owed.clamps) == [Code.DEAD_BUS]
    assert owed.droop.asked_kw == 0.0
    site.volts, site.quality, site.hz = 1000.0, Quality.GOOD, 50.0
    assert site.tick().droop.asked_kw == 0.0
    site.hz = 49.5
    assert site.settle().droop.asked_kw == about(40.0)


def test_a_lost_frequency_on_a_live_bus_is_still_held() -> None:
    site = Grid(replace(DUTY, ride_through=DIPS))
    site.hz = 49.0
    site.settle()
    site.quality = Quality.IMPLAUSIBLE
    assert site.tick().droop.asked_kw == about(80.0)
