"""Devices that answer well and are wrong, at a whole site: power that goes another way than was
told, devices that are read apart, devices that say "later"."""

from dataclasses import replace

import pytest

from tests.site_rig import PLAIN_DROOP, Gear, SiteRig, site_settings
from tests.virtual_time import virtual
from vppd.core.alarms import Code
from vppd.field.interlocks_follow import FOLLOWS_S, WRONG_S
from vppd.field.interlocks_ramp import TOLD_S

TICK_S = 0.1
LATEST_S = 2.0 * TOLD_S + FOLLOWS_S + 1.0  # from a wrong power to its alarm
SHUT_S = 2.0 * TOLD_S + WRONG_S + 1.0  # from the wrong way to the shutdown


@virtual
async def test_a_site_stops_a_unit_whose_sign_is_turned() -> None:
    async with SiteRig(site_settings(("A", "B"), interlock_inputs=())) as rig:
        rig.plan(60.0)
        await rig.run(8.0)
        assert not rig.alarmed(Code.NOT_FOLLOWING, "A")
        rig.plant.inject("inverted_sign", "A")
        await rig.until(lambda: rig.alarmed(Code.NOT_FOLLOWING, "A"), within_s=LATEST_S + 2.0)
        await rig.until(lambda: ("A", Code.WRONG_WAY) in rig.latched(), within_s=SHUT_S + 2.0)
        await rig.until(lambda: rig.held_kw("A") == 0.0, within_s=2.0)
        assert rig.alarmed(Code.WRONG_WAY, "A")
        assert not rig.alarmed(Code.NOT_FOLLOWING, "A"), "it is off"
        assert ("B", Code.WRONG_WAY) not in rig.latched()


@virtual
async def test_a_power_register_that_stands_still_is_frozen_and_shuts_nothing_down() -> None:
    async with SiteRig(site_settings(("A",), interlock_inputs=())) as rig:
        rig.plan(40.0)
        await rig.run(8.0)
        rig.plant.inject("stuck_register", "A", point="power_kw")
        rig.plan(-40.0)
        await rig.run(60.0)
        assert rig.journaled("A", Code.READING_FROZEN)
        rig.plant.clear()
        rig.plan(-40.0)
        await rig.run(30.0)
        assert not rig.latched()
        assert rig.held_kw("A") == -40.0


@virtual
async def test_two_devices_that_are_read_apart_do_not_disagree_by_that() -> None:
    steep = replace(PLAIN_DROOP, droop_pct=1.0)
    gear = {"A": Gear(bms="vpp-bms")}
    settings = site_settings(("A",), droop=steep, gear=gear, interlock_inputs=())
    async with SiteRig(settings) as rig:
        for frequency_hz in (49.5, 50.0, 50.5, 50.0):
            rig.step(frequency_hz)
            await rig.run(3.0)
        assert abs(rig.gives_kw("A")) < 1.0
        assert not rig.journaled("A", Code.BMS_DISAGREES)


@pytest.mark.parametrize(("code", "trips"), [(5, False), (6, False), (4, True)])
def test_a_device_that_is_busy_for_a_second_is_not_tripped(code: int, trips: bool) -> None:
    """In an event of the grid a setpoint goes out with every tick: three of them are soon refused.
    Busy is no refusal; a failure is one."""

    @virtual
    async def happens() -> None:
        steep = replace(PLAIN_DROOP, droop_pct=1.0)
        async with SiteRig(site_settings(("A",), droop=steep, interlock_inputs=())) as rig:
            rig.step(49.9)
            await rig.run(2.0)
            rig.plant.inject("refuse_writes", "A", code=code)
            for tick in range(10):
                rig.step(49.89 - 0.02 * tick)
                await rig.run(TICK_S)
            assert rig.alarmed(Code.WRITE_FAILED, "A")
            assert (("A", Code.WRITE_REFUSED) in rig.latched()) is trips
            rig.plant.clear()
            rig.step(49.7)
            if not trips:
                await rig.until(lambda: rig.held_kw("A") > 50.0, within_s=5.0)
                await rig.until(lambda: not rig.alarmed(Code.WRITE_FAILED, "A"), within_s=5.0)

    happens()


@virtual
async def test_a_stop_of_a_busy_device_asks_it_now_and_then_and_ends() -> None:
    async with SiteRig(site_settings(("A",), interlock_inputs=())) as rig:
        rig.plan(40.0)
        await rig.run(5.0)
        rig.plant.inject("refuse_writes", "A", code=6)
        counters = rig.house.field.presences[0].counters
        before = counters.refused
        await rig.stop()
        assert 5 < counters.refused - before < 100
