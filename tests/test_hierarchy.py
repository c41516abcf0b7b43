"""The tree of places, the words for nodes, and capacities that add up."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.api_site import MemoryJournal, asset_of, settings_of
from tests.virtual_time import VirtualClock, run_virtual
from vppd.campus.hierarchy import (
    Announced,
    Capacity,
    Level,
    Status,
    addresses,
    announced_capacity,
    building_ids,
    capacities,
    node_capacity,
    status_of,
    total,
    tree_of,
    within,
)
from vppd.campus.registry import ANNOUNCED_MAX, Registry
from vppd.core.alarms import Code
from vppd.core.asset import Asset
from vppd.core.model import Limit, Point, Quality, Reading, Snapshot, UnitId, UnitState
from vppd.core.records import EventRow
from vppd.core.settings import (
    BuildingSettings,
    CampusSettings,
    CitySettings,
    CountrySettings,
    LocationSettings,
    StateSettings,
)

HERE, THERE = (
    LocationSettings(latitude=19.1, longitude=72.9),
    LocationSettings(latitude=18.5, longitude=73.8),
)
WIDE = Limit(-1e6, 1e6, Code.CONNECTION)


def configured_country() -> CountrySettings:
    campus = CampusSettings(
        id="ANDHERI",
        name="Andheri",
        location=HERE,
        buildings=(
            BuildingSettings(id="D1", export_max_kw=120.0),
            BuildingSettings(id="D2", name="Second", location=THERE),
            BuildingSettings(id="D3"),
        ),
    )
    city = CitySettings(id="MUM", name="Mumbai", campuses=(campus,))
    state = StateSettings(id="MH", name="Maharashtra", cities=(city,))
    return CountrySettings(states=(state,))


def assets() -> list[Asset]:
    return [asset_of(unit) for unit in settings_of().units]


def snapshot(**soc_pct: float) -> Snapshot:
    clock = VirtualClock()
    readings = {
        (UnitId(id_), Point.SOC_PCT): Reading(UnitId(id_), Point.SOC_PCT, soc, 99.0, 2.5)
        for id_, soc in soc_pct.items()
    }
    return Snapshot(100.0, clock._start, readings)


def test_without_a_campus_file_the_tree_is_implied_and_invents_nothing() -> None:
    top = tree_of(settings_of())
    where = addresses(top)[UnitId("B3")]
    assert (where.country, where.state, where.city, where.campus, where.building) == (
        "IN",
        None,
        None,
        "lab",
        "D2",
    )
    assert where.location is None
    assert top.children[0].name == "The Lab"
    assert building_ids(top) == ("D1", "D2")


def test_a_campus_without_buildings_is_no_tree_either() -> None:
    campus = CampusSettings(id="EMPTY")
    country = CountrySettings(
        states=(StateSettings(id="MH", cities=(CitySettings(id="MUM", campuses=(campus,)),)),)
    )
    assert addresses(tree_of(settings_of(country=country)))[UnitId("B1")].campus == "lab"


def test_a_configured_tree_gives_every_node_its_whole_address() -> None:
    found = addresses(tree_of(settings_of(country=configured_country())))
    where = found[UnitId("B1")]
    assert (where.country, where.state, where.city, where.campus, where.building) == (
        "IN",
        "MH",
        "MUM",
        "ANDHERI",
        "D1",
    )
    assert where.location == HERE, "a building takes its campus's place"
    assert found[UnitId("B3")].location == THERE, "unless it has its own"
    assert set(found) == {"B1", "B2", "B3", "B4"}


def test_an_announced_node_stands_in_its_building_and_adds_nothing() -> None:
    node = Announced(UnitId("NEW"), "D3", 50.0, 80.0)
    top = tree_of(settings_of(country=configured_country()), [node])
    assert addresses(top)[UnitId("NEW")].building == "D3"
    found = capacities(top, {UnitId("B1"): Capacity(100.0, 200.0, 1.0, 2.0, 3.0, 4.0)}, WIDE)
    assert found[Level.BUILDING, "D3"].rated_power_kw == 0.0
    assert found[Level.COUNTRY, "IN"].rated_power_kw == 100.0
    assert announced_capacity(node).available_discharge_kw == 0.0
    assert announced_capacity(node).available_discharge_kwh is None


@pytest.mark.parametrize(
    ("state", "answered", "up", "word"),
    [
        (None, False, None, Status.CONFIGURED),
        (UnitState.LOST, False, False, Status.CONFIGURED),
        (UnitState.STARTING, True, True, Status.REGISTERED),
        (UnitState.READY, True, True, Status.REGISTERED),
        (UnitState.LOST, True, False, Status.LOST),
        (UnitState.READY, True, False, Status.LOST),
        (UnitState.LOST, True, True, Status.LOST),
        (UnitState.TRIPPED, True, True, Status.TRIPPED),
        (UnitState.TRIPPED, False, False, Status.TRIPPED),
        (UnitState.DISABLED, True, True, Status.DISABLED),
    ],
)
def test_the_word_for_a_node(
    state: UnitState | None, answered: bool, up: bool | None, word: Status
) -> None:
    assert status_of(state, answered=answered, up=up) is word


def test_capacity_of_a_node_by_hand() -> None:
    # 200 kWh, SoC 35 %, limits 10 to 95 %: 25 % out is 50 kWh, 60 % in is 120 kWh
    room = Limit(-80.0, 30.0, Code.ROOM)
    found = node_capacity(snapshot(B1=35.0), assets()[0], room)
    assert found == Capacity(100.0, 200.0, 30.0, 80.0, 50.0, 120.0)


def test_beyond_a_limit_nothing_is_left_that_way() -> None:
    assert node_capacity(snapshot(B1=9.0), assets()[0], None).available_discharge_kwh == 0.0
    assert node_capacity(snapshot(B1=97.0), assets()[0], None).available_charge_kwh == 0.0


def test_an_unknown_state_of_charge_is_unknown_all_the_way_up() -> None:
    now = snapshot(B1=50.0, B2=50.0, B3=50.0)
    each = {asset.id: node_capacity(now, asset, None) for asset in assets()}
    assert each[UnitId("B4")].available_discharge_kwh is None
    found = capacities(tree_of(settings_of()), each, WIDE)
    assert found[Level.BUILDING, "D1"].available_discharge_kwh == pytest.approx(160.0)
    assert found[Level.BUILDING, "D2"].available_discharge_kwh is None
    assert found[Level.COUNTRY, "IN"].available_charge_kwh is None
    assert found[Level.COUNTRY, "IN"].unknown == ("B4",)
    assert found[Level.COUNTRY, "IN"].energy_kwh == 800.0


def test_feeders_and_the_connection_cut_power_but_not_energy() -> None:
    room = Limit(-100.0, 100.0, Code.ROOM)
    now = snapshot(B1=50.0, B2=50.0, B3=50.0, B4=50.0)
    each = {asset.id: node_capacity(now, asset, room) for asset in assets()}
    top = tree_of(settings_of(country=configured_country()))
    found = capacities(top, each, Limit(-150.0, 250.0, Code.CONNECTION))
    assert found[Level.BUILDING, "D1"].available_discharge_kw == 120.0  # its feeder
    assert found[Level.BUILDING, "D1"].available_charge_kw == 150.0  # the connection
    assert found[Level.CAMPUS, "ANDHERI"].available_discharge_kw == 250.0  # not 320
    assert found[Level.COUNTRY, "IN"].available_charge_kw == 150.0
    assert found[Level.COUNTRY, "IN"].available_discharge_kwh == pytest.approx(320.0)


kw = st.floats(0.0, 1e5)
parts = st.lists(
    st.builds(
        Capacity, kw, kw, kw, kw, st.one_of(st.none(), kw), st.one_of(st.none(), kw), st.just(())
    ),
    max_size=8,
)


@given(parts, parts)
def test_sums_do_not_depend_on_how_parts_are_grouped(a: list[Capacity], b: list[Capacity]) -> None:
    once, twice = total([*a, *b]), total([total(a), total(b)])
    assert once.rated_power_kw == pytest.approx(twice.rated_power_kw)
    assert (once.available_charge_kwh is None) == (twice.available_charge_kwh is None)
    unknown = any(part.available_discharge_kwh is None for part in [*a, *b])
    assert (once.available_discharge_kwh is None) == unknown


@given(parts, kw, kw)
def test_a_limit_only_takes_away(a: list[Capacity], export_kw: float, import_kw: float) -> None:
    whole = total(a)
    cut = within(whole, export_kw, import_kw)
    assert cut.available_discharge_kw is not None
    assert whole.available_discharge_kw is not None
    assert cut.available_discharge_kw <= min(whole.available_discharge_kw, export_kw)
    assert replace(cut, available_discharge_kw=0.0, available_charge_kw=0.0) == replace(
        whole, available_discharge_kw=0.0, available_charge_kw=0.0
    )
    assert within(whole, None, None) == whole


def test_a_node_registers_when_its_device_first_answers_and_only_then() -> None:
    async def main() -> None:
        journal = MemoryJournal()
        registry = Registry(settings_of().units, VirtualClock(), journal)
        unit = UnitId("B1")
        registry.take(Reading(unit, Point.SOC_PCT, 1.0, 0.0, 1.0, Quality.MISSING))
        assert registry.registered_at(unit) is None
        registry.take(Reading(unit, Point.SOC_PCT, 1.0, 0.0, 1.0))
        first = registry.registered_at(unit)
        assert first is not None
        registry.take(Reading(unit, Point.SOC_PCT, 2.0, 9.0, 1.0))
        registry.take(Reading(UnitId("input:fire"), Point.HEALTHY, 1.0, 9.0, 1.0))
        assert registry.registered_at(unit) == first
        assert [row.code for row in journal.rows if isinstance(row, EventRow)] == [
            Code.NODE_REGISTERED
        ]

    run_virtual(main())


def test_a_nameplate_that_differs_is_noted_once_and_forgotten_when_it_agrees() -> None:
    async def main() -> None:
        journal = MemoryJournal()
        registry = Registry(settings_of().units, VirtualClock(), journal)
        unit = UnitId("B1")

        def says(point: Point, value: float) -> None:
            registry.take(Reading(unit, point, value, 0.0, 1.0))

        says(Point.RATED_POWER_KW, 96.0)
        assert registry.mismatches(unit) == [], "within five percent"
        for _ in range(3):
            says(Point.RATED_POWER_KW, 90.0)
            says(Point.ENERGY_CAPACITY_KWH, 250.0)
        assert registry.mismatches(unit) == [
            "the device says rated_power_kw 90, field.yaml 100",
            "the device says energy_capacity_kwh 250, field.yaml 200",
        ]
        told = [row.code for row in journal.rows if isinstance(row, EventRow)]
        assert told.count(Code.NODE_MISMATCH) == 2
        says(Point.RATED_POWER_KW, 100.0)
        assert len(registry.mismatches(unit)) == 1

    run_virtual(main())


def test_announced_nodes_are_bounded() -> None:
    async def main() -> None:
        registry = Registry((), VirtualClock(), MemoryJournal())
        for number in range(ANNOUNCED_MAX):
            assert registry.announce(Announced(UnitId(f"N{number}"), "D1", 1.0, 1.0), "me")
        assert not registry.announce(Announced(UnitId("ONE_MORE"), "D1", 1.0, 1.0), "me")
        assert registry.announce(Announced(UnitId("N0"), "D2", 1.0, 1.0), "me")
        assert registry.forget(UnitId("N1"), "me")
        assert not registry.forget(UnitId("N1"), "me")
        assert len(registry.announced()) == ANNOUNCED_MAX - 1

    run_virtual(main())
