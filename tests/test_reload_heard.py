"""What takes the place of an interlock or of the meter is heard apart first: while it is not taken
over, nothing that it says reaches the site."""

from dataclasses import replace

import pytest

from tests.reload_rig import ReloadRig, at_device_of, plant_settings, used, with_unit
from tests.site_rig import METER_AT, fire_input
from tests.virtual_time import virtual
from vppd.core.alarms import Code
from vppd.core.model import METER, SITE, Point
from vppd.core.settings import ConnectionSettings, Settings

FIRE = fire_input()
OTHER_AT = replace(FIRE.modbus, host="10.0.1.98")
GAS = replace(FIRE, id="gas", modbus=OTHER_AT)
PLANT = plant_settings(
    interlock_inputs=(FIRE, GAS), meter=METER_AT, connection=ConnectionSettings(export_max_kw=400.0)
)
FOUR = replace(used(PLANT, "A", "B", "C", "D"), interlock_inputs=(FIRE,))


def moved(at: str) -> Settings:
    """The fire contact is behind another address."""
    fire = replace(FIRE, modbus=replace(FIRE.modbus, host=at))
    return replace(FOUR, interlock_inputs=(fire,))


def told_kw(rig: ReloadRig, since_s: float) -> list[float]:
    return [each.power_kw for name in rig.names for each in rig.told(name, since_s)]


@virtual
async def test_an_interlock_moved_to_where_nobody_answers_stops_nobody() -> None:
    async with ReloadRig(PLANT, FOUR) as rig:
        rig.plan(60.0)
        await rig.run(4.0)
        since_s, rows = rig.now_s, len(rig.rows())
        verdict = await rig.reload(moved("10.0.9.9"))
        assert [each.split(": ")[:3] for each in verdict.errors] == [
            ["field.yaml", "interlock_inputs.fire", "does not answer"]
        ]
        await rig.run(3.0)
        assert min(told_kw(rig, since_s)) > 14.0, "nobody was stopped"
        assert not rig.journaled("input:fire", Code.INTERLOCK_SILENT, rows)
        assert not rig.journaled("input:fire", Code.LINK_LOST, rows)
        rig.plant.inject("interlock", "fire")
        await rig.until(lambda: rig.sum_kw() == 0.0, within_s=3.0)


@virtual
async def test_an_interlock_moved_to_what_is_not_healthy_trips_nobody() -> None:
    async with ReloadRig(PLANT, FOUR) as rig:
        rig.plan(60.0)
        await rig.run(4.0)
        since_s = rig.now_s
        rig.plant.inject("interlock", "gas")
        verdict = await rig.reload(moved(OTHER_AT.host or ""))
        assert "not healthy" in str(verdict.errors)
        await rig.run(3.0)
        assert rig.latched() == set()
        assert min(told_kw(rig, since_s)) > 14.0, "nobody was stopped"


@virtual
async def test_an_interlock_that_moved_counts_from_then_on_and_the_old_one_no_more() -> None:
    async with ReloadRig(PLANT, FOUR) as rig:
        rig.plan(60.0)
        await rig.run(4.0)
        since_s = rig.now_s
        await rig.reloaded(moved(OTHER_AT.host or ""))
        rig.plant.inject("interlock", "fire")
        await rig.run(3.0)
        assert min(told_kw(rig, since_s)) > 14.0, "nobody was stopped"
        rig.plant.inject("interlock", "gas")
        await rig.until(lambda: rig.sum_kw() == 0.0, within_s=3.0)
        assert rig.latched() == {(SITE, Code.INTERLOCK_INPUT)}


@virtual
async def test_a_meter_moved_to_where_nobody_answers_changes_nothing() -> None:
    async with ReloadRig(PLANT, FOUR) as rig:
        rig.plan(60.0)
        await rig.run(4.0)
        since_s, rows = rig.now_s, len(rig.rows())
        verdict = await rig.reload(replace(FOUR, meter=replace(METER_AT, host="10.0.9.9")))
        assert [each.split(": ")[:2] for each in verdict.errors] == [["field.yaml", "meter"]]
        await rig.run(3.0)
        assert min(told_kw(rig, since_s)) > 14.0, "nobody was held back"
        assert not rig.journaled(METER, Code.LINK_LOST, rows)
        assert rig.house.bus.snapshot().fresh(SITE, Point.LOAD_KW) is not None


@virtual
async def test_a_meter_of_another_ratio_is_not_believed_before_it_is_taken_over() -> None:
    """Nothing of it is on the board while something else refuses the configuration."""
    async with ReloadRig(PLANT, FOUR) as rig:
        rig.plan(100.0)
        await rig.run(5.0)
        seen: list[float] = []
        rig.house.bus.tap(
            lambda each: (
                seen.append(getattr(each, "value", 0.0))
                if getattr(each, "unit", "") == METER
                and getattr(each, "point", "") is Point.POWER_KW
                else None
            )
        )
        silent = replace(FIRE, id="silent", modbus=replace(FIRE.modbus, host="10.0.9.9"))
        wrong = replace(FOUR, meter=replace(METER_AT, ratio=3.0), interlock_inputs=(FIRE, silent))
        assert (await rig.reload(wrong)).errors
        assert seen
        assert max(seen) < 150.0, "100 kW, not three times that"
        await rig.reloaded(replace(FOUR, meter=replace(METER_AT, ratio=3.0)))
        await rig.run(1.0)
        assert rig.house.bus.snapshot().fresh(METER, Point.POWER_KW) == pytest.approx(
            300.0, abs=9.0
        )


@virtual
async def test_a_unit_of_another_name_on_the_same_device_goes_through_0() -> None:
    async with ReloadRig(PLANT, FOUR) as rig:
        rig.plan(80.0)
        await rig.run(6.0)
        since_s = rig.now_s
        await rig.reloaded(with_unit(FOUR, "D", id="Z"))
        assert rig.held_kw("D") == 0.0
        await rig.until(lambda: rig.held_kw("D") > 19.0, within_s=12.0)
        assert rig.steepest_kw_per_s("D", since_s) <= 10.0 + 0.4
        assert {str(each) for each in rig.house.gate.decisions} == {"A", "B", "C", "Z"}
        assert not [each for each in rig.house.alarms.standing() if each.unit == "D"]


@virtual
async def test_two_units_exchange_their_devices_and_both_go_through_0() -> None:
    async with ReloadRig(PLANT, FOUR) as rig:
        rig.plan(20.0, "C")
        rig.plan(40.0, "D")
        await rig.run(8.0)
        since_s = rig.now_s
        await rig.reloaded(at_device_of(at_device_of(FOUR, "C", "D"), "D", "C"))
        await rig.run(1.0)
        assert rig.held_kw("C") <= 10.0
        assert any(each.power_kw == 0.0 for each in rig.told("D", since_s))
        await rig.until(
            lambda: abs(rig.held_kw("C") - 40.0) < 0.2 and abs(rig.held_kw("D") - 20.0) < 0.2,
            within_s=12.0,
        )
