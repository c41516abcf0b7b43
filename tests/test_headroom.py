"""Headroom: what is promised is there for its whole time, and the base sees only the rest."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.rig import HEALTHY, MAX_AGE_S, Rig, about, asset, snapshot, words
from tests.test_duty import plan
from vppd.core.alarms import Code
from vppd.core.asset import Asset
from vppd.core.decision import Promise
from vppd.core.model import Limit, Plan, Point, Reading, Snapshot, Synchro, UnitId
from vppd.core.settings import BandSettings, DroopSettings
from vppd.core.settings_response import HeadroomSettings
from vppd.duty import Duty, Memory, Owed, owe
from vppd.grid.headroom import Reach, Spare, Times, kept, promised, reach, times
from vppd.sim.battery import Battery
from vppd.sim.inverter import dc_kw

PMU = UnitId("pmu")
DROOP = DroopSettings(rocof_gain_pu_per_hz_per_s=0.0)
HALF = HeadroomSettings(up_pct=50.0, down_pct=50.0, efficiency_pct=90.0)
WHOLE = Times(300.0, 300.0)
RATED_KW, ENERGY_KWH = 100.0, 250.0
WIDE = Limit(-RATED_KW, RATED_KW, Code.ROOM)


def unit(name: str = "b1", energy_kwh: float = ENERGY_KWH) -> Asset:
    fast = replace(asset().safety, ramp_max_kw_per_s=1000.0)
    return replace(asset(UnitId(name)), energy_kwh=energy_kwh, safety=fast)


def reach_at(
    soc_pct: float,
    one: Asset | None = None,
    last: Times = WHOLE,
    droop: DroopSettings = DROOP,
    room: Limit = WIDE,
    **more: float,
) -> Reach:
    seen = HEALTHY | {Point.SOC_PCT: soc_pct} | {Point(name): each for name, each in more.items()}
    return reach(snapshot(10.0, seen), one or unit(), room, droop, HALF, last)


# ---- one unit ----------------------------------------------------------------

# 10 % above the limit is where droop fades, and 0.1 % is the resolution: 20.1 to 84.9 % is used.
# One percent of 250 kWh is 2.5 kWh; over 300 s that is 30 kW, out through 90 % it is 27 kW.
BY_HAND = [
    (20.1, 0.0, 100.0),
    (21.1, 27.0, 100.0),
    (22.1, 54.0, 100.0),
    (50.0, 100.0, 100.0),
    (83.9, 100.0, 30.0),
    (84.9, 100.0, 0.0),
    (99.0, 100.0, 0.0),
    (5.0, 0.0, 100.0),
]


@pytest.mark.parametrize(("soc_pct", "out_kw", "in_kw"), BY_HAND)
def test_what_a_charge_holds_by_hand(soc_pct: float, out_kw: float, in_kw: float) -> None:
    made = reach_at(soc_pct)
    assert (made.out_kw, made.in_kw) == (about(out_kw, abs=1e-6), about(in_kw, abs=1e-6))


def test_less_time_needs_less_energy() -> None:
    assert reach_at(21.1, last=Times(600.0, 600.0)).out_kw == about(13.5)
    assert reach_at(21.1, last=Times(0.0, 0.0)).out_kw == 100.0
    assert reach_at(20.5, last=Times(100.0, 300.0)).out_kw == about(0.4 * 27.0 * 3.0)


def test_without_adaptive_droop_the_gates_own_fade_is_the_floor() -> None:
    fixed = replace(DROOP, soc_adaptive=False)
    assert reach_at(13.1, droop=fixed).out_kw == about(0.0, abs=1e-6)
    assert reach_at(14.1, droop=fixed).out_kw == about(27.0)


def test_what_may_not_be_believed_promises_nothing() -> None:
    late = snapshot(10.0, HEALTHY, age_s=9.0)
    assert reach(late, unit(), WIDE, DROOP, HALF, WHOLE) == Reach()
    bare = replace(unit(), declared=frozenset({Point.POWER_KW}))
    assert reach(snapshot(10.0, HEALTHY), bare, WIDE, DROOP, HALF, WHOLE) == Reach()


def test_heat_that_would_fade_the_response_promises_nothing() -> None:
    assert reach_at(50.0, temperature_c=42.0).out_kw == 100.0
    assert reach_at(50.0, temperature_c=42.1) == Reach()


def test_a_small_battery_is_bounded_by_how_fast_its_charge_may_move() -> None:
    made = reach_at(50.0, unit(energy_kwh=100.0))
    assert (made.out_kw, made.in_kw) == (about(54.0), about(60.0))


def test_the_room_bounds_both_ways() -> None:
    made = reach_at(50.0, room=Limit(-30.0, 20.0, Code.ROOM))
    assert (made.out_kw, made.in_kw) == (20.0, 30.0)


def test_the_time_that_is_left_counts_on_the_side_that_answers() -> None:
    assert times(HALF, 0, -math.inf, 50.0) == WHOLE
    assert times(HALF, 1, 10.0, 110.0) == Times(200.0, 300.0)
    assert times(HALF, -1, 10.0, 110.0) == Times(300.0, 200.0)
    assert times(HALF, 1, 10.0, 900.0) == Times(0.0, 300.0)


# ---- what the base sees ------------------------------------------------------

powers = st.floats(0.0, 1000.0)
reaches = st.builds(Reach, powers, powers)


@given(st.floats(-1500.0, 1500.0), reaches, reaches)
def test_the_base_keeps_off_the_promise_and_only_shrinks(
    target_kw: float, site: Reach, wish: Reach
) -> None:
    spare = Spare({}, site, wish)
    left_kw = kept(target_kw, 0.0, spare)
    assert abs(left_kw) <= abs(target_kw)
    assert left_kw * target_kw >= 0.0
    made = promised(spare, {UnitId("b1"): left_kw})
    assert 0.0 <= made.up_kw <= wish.out_kw
    assert 0.0 <= made.down_kw <= wish.in_kw
    if left_kw > 0.0:
        assert made.short_up_kw <= 1e-6
    if left_kw < 0.0:
        assert made.short_down_kw <= 1e-6
    again_kw = kept(target_kw, 0.0, spare, 50.0, 1)
    assert again_kw >= min(target_kw, 50.0) - 1e-6, "an event cuts no base that stands"
    if site.out_kw >= wish.out_kw and left_kw != target_kw and target_kw > 0.0:
        assert made.up_kw == about(wish.out_kw, abs=1e-6), "no more is cut than is needed"
    assert min(made.up_kw, made.down_kw, made.short_up_kw, made.short_down_kw) >= -1e-9


def test_by_hand_with_a_pin() -> None:
    spare = Spare({}, Reach(100.0, 80.0), Reach(40.0, 60.0))
    assert kept(90.0, 0.0, spare) == 60.0
    assert kept(-90.0, 0.0, spare) == -20.0
    assert kept(90.0, 20.0, spare) == about(80.0)
    assert kept(10.0, 50.0, spare) == 10.0
    assert kept(90.0, 0.0, None) == 90.0


# ---- the site ----------------------------------------------------------------


@dataclass
class Plant:
    """Units that hold energy, on a grid; every figure by the plainest sums."""

    duty: Duty
    socs_pct: dict[UnitId, float]
    efficiency_share: float = 0.95
    hz: float = 50.0
    now_s: float = 1000.0
    hot_c: float = 25.0
    memory: Memory = field(default_factory=Memory)

    def tick(self, *plans: Plan, after_s: float = 1.0) -> Owed:
        readings = {
            (each.id, point): Reading(each.id, point, value, self.now_s, MAX_AGE_S)
            for each in self.duty.assets
            for point, value in self.shows(each).items()
        }
        synchros = {PMU: Synchro(PMU, self.hz, self.now_s, 0.5)}
        now = Snapshot(self.now_s, Rig().clock.utc(), readings, synchros)
        rooms = {each.id: self.room(each) for each in self.duty.assets}
        owed, self.memory = owe(now, plans, rooms, self.duty, self.memory)
        for request in owed.requests:
            self.drain(request.unit, request.base_kw + request.frequency_kw, after_s)
        self.now_s += after_s
        return owed

    def shows(self, each: Asset) -> Mapping[Point, float]:
        soc_pct = round(self.socs_pct[each.id], 1)  # as its register does
        return HEALTHY | {Point.SOC_PCT: soc_pct, Point.TEMPERATURE_C: self.hot_c}

    def room(self, each: Asset) -> Limit:
        """What the gate leaves: fading over the last percent."""
        soc_pct, safety = self.socs_pct[each.id], each.safety
        out = min(max((soc_pct - safety.soc_min_pct) / safety.soc_fade_pct, 0.0), 1.0)
        in_ = min(max((safety.soc_max_pct - soc_pct) / safety.soc_fade_pct, 0.0), 1.0)
        return Limit(-each.rated_kw * in_, each.rated_kw * out, Code.ROOM)

    def drain(self, id_: UnitId, power_kw: float, for_s: float) -> None:
        share = self.efficiency_share
        stored_kw = power_kw / share if power_kw > 0.0 else power_kw * share
        energy_kwh = next(each.energy_kwh for each in self.duty.assets if each.id == id_)
        self.socs_pct[id_] -= 100.0 * stored_kw * for_s / 3600.0 / energy_kwh


def site(
    socs_pct: list[float],
    headroom: HeadroomSettings = HALF,
    droop: DroopSettings = DROOP,
    limit_kw: float = 1e6,
) -> Plant:
    units = [unit(f"b{number}") for number in range(1, len(socs_pct) + 1)]
    wide = Limit(-limit_kw, limit_kw, Code.CONNECTION)
    duty = Duty(
        tuple(units), (PMU,), BandSettings(), droop, wide, "proportional", headroom=headroom
    )
    return Plant(duty, {one.id: soc for one, soc in zip(units, socs_pct, strict=True)})


def settle(plant: Plant, *plans: Plan, ticks: int = 5) -> Owed:
    made = plant.tick(*plans)
    for _ in range(ticks):
        made = plant.tick(*plans, after_s=0.2)
    return made


def test_schedule_and_dispatch_see_only_the_rest_and_are_told_why() -> None:
    plant = site([50.0, 50.0])
    made = settle(plant, plan(180.0))
    assert made.base_kw == about(100.0)
    assert words(made.clamps) == [Code.HEADROOM]
    assert made.promise is not None
    assert (made.promise.up_kw, made.promise.down_kw) == (about(100.0), about(100.0))
    assert settle(site([50.0, 50.0]), plan(-180.0)).base_kw == about(-100.0)
    off = settle(site([50.0, 50.0], HeadroomSettings()), plan(180.0))
    assert (off.base_kw, off.clamps, off.promise) == (about(180.0), (), None)


def test_a_shortfall_is_known_before_the_event() -> None:
    made = settle(site([21.0, 21.0]), ticks=1)
    assert made.promise is not None
    assert made.promise.up_kw == about(2 * 0.9 * 27.0)
    assert made.promise.short_up_kw == about(100.0 - 2 * 0.9 * 27.0)
    assert made.promise.short_down_kw == 0.0
    assert made.promise.units_kw[UnitId("b1")] == (about(0.9 * 27.0), 100.0)


def test_a_pinned_unit_promises_nothing_unless_its_plan_takes_droop() -> None:
    id_ = UnitId("b1")
    made = settle(site([50.0, 50.0]), plan(60.0, id_))
    assert made.promise is not None
    assert set(made.promise.units_kw) == {UnitId("b2")}
    assert made.promise.up_kw == about(100.0)
    made = settle(site([50.0, 50.0]), plan(60.0, id_, droop=True))
    assert made.promise is not None
    assert made.promise.units_kw[id_] == (about(40.0), about(160.0))


def test_the_connection_bounds_the_promise() -> None:
    made = settle(site([50.0, 50.0], limit_kw=70.0))
    assert made.promise == replace(
        made.promise or Promise(), up_kw=70.0, down_kw=70.0, short_up_kw=30.0, short_down_kw=30.0
    )


def hz_for(owed_kw: float, rated_kw: float) -> float:
    return 50.0 - owed_kw * 0.05 * 50.0 / rated_kw


@given(
    st.lists(st.floats(0.0, 100.0), min_size=1, max_size=4),
    st.floats(5.0, 100.0),
    st.floats(-1.0, 1.0),
    st.booleans(),
    st.floats(0.9, 1.0),
)
@settings(max_examples=20, deadline=None)
def test_from_every_charge_that_is_admitted_the_promise_is_kept_five_minutes(
    socs_pct: list[float], pct: float, base: float, up: bool, efficiency: float
) -> None:
    """The response alone is the promise, within 5 %. The sum moves further only as the promise lets
    the base move, and that is the way the grid asks. A base against the response ends early: a
    battery that goes on charging at low frequency fills up, and the promise for high frequency,
    which stands all the while, takes that base back. A base that was cut for the promise grows
    towards its plan: the less time the response still has to last, the less energy it needs."""
    headroom = replace(HALF, up_pct=pct, down_pct=pct)
    plant = site(socs_pct, headroom)
    plant.efficiency_share = efficiency
    rated_kw = RATED_KW * len(socs_pct)
    scheduled = plan(base * rated_kw)
    before = settle(plant, scheduled)
    assert before.promise is not None
    promise_kw = before.promise.up_kw if up else before.promise.down_kw
    if promise_kw < 0.05 * rated_kw:
        return  # the edge of the deadband is at 4 %
    sign = 1.0 if up else -1.0
    plant.hz = hz_for(sign * promise_kw, rated_kw)
    for _ in range(10):
        plant.tick(scheduled, after_s=0.2)
    for _ in range(99):
        made = plant.tick(scheduled, after_s=3.0)
        owed_kw = sign * promise_kw
        assert made.droop.curve_kw == about(owed_kw, abs=1e-6)
        given_kw = sum(each.base_kw + each.frequency_kw for each in made.requests)
        moved_kw, spread_kw = sign * (given_kw - before.base_kw), 0.05 * promise_kw + 0.01
        assert moved_kw >= promise_kw - spread_kw, made.clamps
        freed_kw = sign * (made.base_kw - before.base_kw)
        assert moved_kw - freed_kw == about(promise_kw, abs=spread_kw), (
            "the response is the promise"
        )
        assert freed_kw >= -0.01, "the base never moves against the response"
        if freed_kw > 0.01:
            cutting = [clamp.why for clamp in (*before.clamps, *made.clamps)]
            assert Code.HEADROOM in cutting, "and with it only where the promise bounds it"
        each_kw = [each.base_kw + each.frequency_kw for each in made.requests]
        assert min(each_kw) >= -1e-6 or max(each_kw) <= 1e-6


@given(st.floats(10.0, 95.0), st.floats(-5.0, 44.0), st.booleans())
@settings(max_examples=8, deadline=None)
def test_the_promise_holds_against_the_batterys_physics(
    soc_pct: float, ambient_c: float, up: bool
) -> None:
    headroom = HeadroomSettings(up_pct=100.0, down_pct=100.0)
    plant = site([soc_pct], headroom)
    battery = Battery(RATED_KW, ENERGY_KWH, 23, soc_pct=soc_pct, ambient_c=ambient_c)
    id_ = plant.duty.assets[0].id
    plant.hot_c = battery.hottest_c
    before = settle(plant, ticks=2)
    assert before.promise is not None
    promise_kw = before.promise.up_kw if up else before.promise.down_kw
    if promise_kw < 0.05 * RATED_KW:
        return
    plant.hz = hz_for(promise_kw if up else -promise_kw, RATED_KW)
    for _ in range(6):
        plant.tick(after_s=0.2)
    for _ in range(149):
        plant.socs_pct[id_], plant.hot_c = battery.soc_pct, battery.hottest_c
        made = plant.tick(after_s=2.0)
        given_kw = made.requests[0].frequency_kw
        battery.advance(dc_kw(given_kw), 2.0)
        assert abs(given_kw) >= 0.95 * promise_kw, made.clamps


def test_an_event_uses_its_reserve_without_moving_the_base() -> None:
    plant = site([23.5, 23.5])
    scheduled = plan(180.0)
    before = settle(plant, scheduled)
    assert 10.0 < before.base_kw < 100.0
    plant.hz = hz_for(100.0, 200.0)
    for _ in range(96):
        made = plant.tick(scheduled, after_s=3.0)
        assert made.base_kw >= before.base_kw - 1.0
    plant.hz = 50.0
    assert settle(plant, scheduled).base_kw == 0.0, "after it the reserve is wanted anew"
