"""The campus in the tick: feeders made up for elsewhere, a lost unit, the reserve margin, what the
buildings take, and the campus's own alarms."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from tests.rig import B1, B2, B3, HEALTHY, MAX_AGE_S, Rig, about, asset, snapshot, words
from tests.test_duty import DROOP, PMU, plan
from vppd.campus.dispatch import STRATEGIES
from vppd.core.alarms import Code
from vppd.core.model import SITE, Limit, Plan, Point, Reading, Snapshot, UnitId
from vppd.core.settings import BandSettings
from vppd.core.settings_campus import AuxiliarySettings, CampusRulesSettings, ReserveSettings
from vppd.duty import Duty, Memory, Owed, owe
from vppd.field.feeders import Feeder, Feeders

TRIO = tuple(asset(id_, ramp_max_kw_per_s=1000.0) for id_ in (B1, B2, B3))
ROOM = Limit(-100.0, 100.0, Code.ROOM)
ROOMS = {each.id: ROOM for each in TRIO}
NORTH = Feeder((B1, B2), Limit(-70.0, 60.0, Code.CONNECTION, "north"))
ROOT = Feeder((B1, B2, B3), Limit(-150.0, 150.0, Code.CONNECTION, "site"))
DUTY = Duty(TRIO, (PMU,), BandSettings(), DROOP, ROOT.limit, "proportional")


def settled(
    power_kw: float, duty: Duty = DUTY, rooms: Mapping[UnitId, Limit] = ROOMS, *pins: Plan
) -> Owed:
    memory, now_s = Memory(), 1000.0
    for _ in range(10):
        now_s += 0.2
        readings = {
            (each.id, point): Reading(each.id, point, value, now_s, MAX_AGE_S)
            for each in TRIO
            for point, value in HEALTHY.items()
        }
        now = Snapshot(now_s, Rig().clock.utc(), readings)
        made = owe(now, [plan(power_kw), *pins], rooms, duty, memory, branches=(NORTH, ROOT))
        memory = made[1]
    return made[0]


def shares(owed: Owed) -> list[float]:
    return [about(each.base_kw, abs=1e-6) for each in owed.requests]


def held(owed: Owed) -> list[list[str]]:
    return [[limit.detail for limit in each.held_by] for each in owed.requests]


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_what_a_feeder_cuts_others_make_up_and_only_the_cut_are_told(strategy: str) -> None:
    owed = settled(130.0, replace(DUTY, strategy=strategy))
    given_kw = [each.base_kw for each in owed.requests]
    assert sum(given_kw) == about(130.0)
    assert given_kw[0] + given_kw[1] <= 60.0 + 1e-6
    assert owed.clamps == ()
    for each_kw, by in zip(given_kw, held(owed), strict=True):
        assert by in ([], ["north"])
        assert not (by and each_kw > 99.0), "who gives all it can is held by itself"
    assert held(owed)[2] == []


def test_who_bounds_the_site_is_named_room_or_tree() -> None:
    owed = settled(200.0)
    assert sum(each.base_kw for each in owed.requests) == about(150.0)
    assert words(owed.clamps) == [Code.CONNECTION]
    assert shares(owed) == [30.0, 30.0, 90.0]
    assert held(owed) == [["north", "site"], ["north", "site"], ["site"]]
    narrow = {id_: Limit(-10.0, 10.0, Code.ROOM) for id_ in ROOMS}
    owed = settled(200.0, DUTY, narrow)
    assert (words(owed.clamps), held(owed)) == ([Code.ROOM], [[], [], []])
    owed = settled(20.0)
    assert (owed.clamps, held(owed)) == ((), [[], [], []])


def test_a_pin_uses_up_its_feeder_and_the_rest_goes_elsewhere() -> None:
    owed = settled(130.0, DUTY, ROOMS, plan(80.0, B1))
    assert shares(owed) == [80.0, 0.0, 50.0], "the gate cuts the pin to its feeder, and says so"
    assert held(owed) == [[], ["north"], []]


def test_a_ramp_does_not_run_ahead_of_the_tree() -> None:
    """Back from more than the connection lets through, the sum moves at once."""
    slow = tuple(asset(id_, ramp_max_kw_per_s=10.0) for id_ in (B1, B2, B3))
    duty = replace(DUTY, assets=slow)
    memory = Memory(now_s=999.9, base_kw=250.0)
    now = Snapshot(1000.0, Rig().clock.utc(), {})
    owed, _ = owe(now, [plan(0.0)], ROOMS, duty, memory, branches=(NORTH, ROOT))
    assert sum(each.base_kw for each in owed.requests) == about(150.0 - 3.0, abs=1e-6)


def test_a_lost_unit_is_carried_by_the_others_in_the_same_tick() -> None:
    assert shares(settled(90.0)) == [30.0] * 3
    lost = ROOMS | {B3: Limit(0.0, 0.0, Code.LINK_LOST)}
    memory = settled_memory(90.0)
    now = Snapshot(memory.now_s + 0.1, Rig().clock.utc(), {})
    wide = (replace(NORTH, limit=ROOT.limit), ROOT)
    owed, _ = owe(now, [plan(90.0)], lost, DUTY, memory, branches=wide)
    assert shares(owed) == [45.0, 45.0, 0.0]


def settled_memory(power_kw: float) -> Memory:
    return Memory(now_s=1000.0, base_kw=power_kw)


def test_the_base_is_kept_off_the_reserve_margin_where_it_is_told_to() -> None:
    bounded = CampusRulesSettings(reserve=ReserveSettings(margin_min_pct=20.0, bounds_base=True))
    owed = settled(200.0, replace(DUTY, rules=bounded))
    assert sum(each.base_kw for each in owed.requests) == about(120.0)
    assert words(owed.clamps) == [Code.RESERVE]
    assert settled(100.0, replace(DUTY, rules=bounded)).clamps == ()


def test_the_gate_names_who_held_a_share_though_nothing_is_left_to_cut() -> None:
    rig = Rig(*TRIO, feeders=Feeders((NORTH, ROOT))).open()
    now = rig.bus.snapshot()
    owed, _ = owe(
        now,
        [plan(200.0)],
        rig.gate.room(now),
        DUTY,
        Memory(0.0, 200.0),
        branches=rig.gate.tree(now),
    )
    asked = [each._replace(base_kw=0.0, frequency_kw=each.base_kw) for each in owed.requests]
    cleared = rig.gate.submit(now, asked)
    assert all(each.bound_by == (Code.CONNECTION,) for each in cleared)
    assert all(clamp.before_kw == clamp.after_kw for each in cleared for clamp in each.clamps)
    assert rig.state(B1) == "limited"


OWN = AuxiliarySettings(constant_kw=10.0, unit="aux")


def limits(now: Snapshot) -> list[tuple[float, float]]:
    """Of a building and of a connection that nobody measures."""
    tree = Feeders(tuple(replace(each, auxiliaries=(OWN,)) for each in (NORTH, ROOT)))
    return [(each.limit.low_kw, each.limit.high_kw) for each in tree.limits(now, {})]


def test_what_a_building_takes_narrows_charging_and_widens_discharging_only_if_seen() -> None:
    assert limits(snapshot(10.0, {})) == [(-60.0, 60.0), (-140.0, 150.0)]
    seen = snapshot(10.0, {Point.LOAD_KW: 25.0}, UnitId("aux"))
    assert limits(seen) == [(-45.0, 85.0), (-125.0, 175.0)]
    metered = snapshot(10.0, {Point.LOAD_KW: 40.0}, SITE)
    assert limits(metered) == [(-60.0, 60.0), (-110.0, 190.0)], "the meter sees it already"
