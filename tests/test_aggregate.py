"""One record for every level of the tree, and it adds up."""

from dataclasses import replace

import pytest

from tests.api_site import settings_of
from tests.test_hierarchy import configured_country
from vppd.campus.aggregate import NodeFacts, Telemetry, World, Worst, telemetry
from vppd.campus.hierarchy import Capacity, capacities, tree_of
from vppd.campus.hierarchy import Level as Rung
from vppd.campus.losses import Curve, LossModel, Wires
from vppd.core.alarms import Code, Level
from vppd.core.model import Limit, UnitId

TOP = tree_of(settings_of(country=configured_country()))
WIDE = Limit(-1e6, 1e6, Code.CONNECTION)
CAN = Capacity(100.0, 200.0, 80.0, 90.0, 50.0, 60.0)
FACTS = {
    UnitId("B1"): NodeFacts(40.0, 5.0, 41.0, 80.0, "running", CAN),
    UnitId("B2"): NodeFacts(20.0, 0.0, 20.0, 40.0, "running", CAN),
    UnitId("B3"): NodeFacts(-10.0, 1.0, -10.0, 50.0, "limited", CAN),
    UnitId("B4"): NodeFacts(0.0, 0.0, 0.0, 50.0, "lost", CAN),
}
LOSSES = LossModel(
    {id_: Curve(0.5, 0.01, 0.0) for id_ in FACTS}, {"D1": Wires("D1", 1.0, 1e-3, 10.0)}
)
ALARMS = {
    "B4": [Worst(Level.CRITICAL, Code.LINK_LOST, "B4")],
    "B1": [Worst(Level.WARNING, Code.SOC_LOW, "B1")],
    "site": [Worst(Level.EMERGENCY, Code.TRIPPED, "site")],
}


def world(facts: dict[UnitId, NodeFacts]) -> World:
    can = {id_: each.capacity for id_, each in facts.items()}
    return World(
        facts, LOSSES, capacities(TOP, can, WIDE), WIDE, lambda scope: ALARMS.get(scope, [])
    )


def records(record: Telemetry) -> list[Telemetry]:
    return [record, *(each for child in record.children for each in records(child))]


def test_every_level_has_the_same_record() -> None:
    found = records(telemetry(TOP, world(FACTS)))
    assert [each.level for each in found[:5]] == ["country", "state", "city", "campus", "building"]
    by_id = {each.id: each for each in found}
    assert by_id["IN"].power_kw == by_id["MUM"].power_kw == by_id["ANDHERI"].power_kw == 50.0
    assert by_id["IN"].nodes == 4
    assert by_id["IN"].states == {"limited": 1, "lost": 1, "running": 2}
    assert by_id["B3"].level is Rung.NODE
    assert by_id["B3"].states == {"limited": 1}


def test_sums_by_hand() -> None:
    by_id = {each.id: each for each in records(telemetry(TOP, world(FACTS)))}
    d1 = by_id["D1"]
    names = {each.id for each in d1.children}
    assert names == {"B1", "B2"}
    assert (d1.power_kw, d1.reactive_kvar, d1.setpoint_kw) == (60.0, 5.0, 61.0)
    assert (d1.energy_kwh, d1.stored_kwh, d1.soc_pct) == (400.0, 240.0, 60.0)
    # 0.5 + 0.4, 0.5 + 0.2, iron 1, (60 - 10)^2 x 1e-3
    assert d1.losses_kw == pytest.approx(0.9 + 0.7 + 1.0 + 2.5)
    assert d1.auxiliary_kw == 10.0
    assert d1.available_discharge_kw == 110.0  # its feeder, not 160, less what it takes itself
    assert (d1.available_up_kw, d1.available_down_kw) == (60.0, 240.0)
    assert by_id["IN"].losses_kw == pytest.approx(5.1 + 0.6 + 0.0)
    assert by_id["B1"].losses_kw == pytest.approx(0.9)


def test_the_worst_alarm_climbs() -> None:
    by_id = {each.id: each for each in records(telemetry(TOP, world(FACTS)))}
    worst = {id_: each.worst_alarm.code for id_, each in by_id.items() if each.worst_alarm}
    assert worst == {
        "B1": Code.SOC_LOW,
        "D1": Code.SOC_LOW,
        "B4": Code.LINK_LOST,
        "D2": Code.LINK_LOST,
        "ANDHERI": Code.LINK_LOST,
        "MUM": Code.LINK_LOST,
        "MH": Code.LINK_LOST,
        "IN": Code.TRIPPED,
    }


def test_what_is_unknown_below_is_unknown_above_and_named() -> None:
    blind = FACTS | {UnitId("B2"): replace(FACTS[UnitId("B2")], power_kw=None, soc_pct=None)}
    by_id = {each.id: each for each in records(telemetry(TOP, world(blind)))}
    for name in ("B2", "D1", "MUM", "IN"):
        assert by_id[name].power_kw is None
        assert by_id[name].soc_pct is None
        assert by_id[name].losses_kw is None
        assert by_id[name].available_up_kw is None
        assert by_id[name].unknown == ("B2",)
    assert by_id["D2"].power_kw == -10.0
    assert by_id["D2"].unknown == ()
