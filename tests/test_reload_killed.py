"""kill -9 in the middle of a reload, at any instant of it: what starts next runs one configuration
whole, and no device is left where nobody looks after it.

The suite kills where something has just been done; all along: `RELOAD_KILLS=200 pytest
--timeout=0 tests/test_reload_killed.py`.
"""

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.reload_rig import ReloadRig, plant_settings, used, with_unit
from tests.site_rig import SOLE_INVERTER, with_safety
from tests.virtual_time import run_virtual
from vppd.core.alarms import Code
from vppd.core.model import UnitId
from vppd.core.settings import ConnectionSettings

KILLS = int(os.environ.get("RELOAD_KILLS", "0"))
REVERT_S = 10.0  # of the inverters; controllers take 5
STOP_S = 4.0
PLANT = plant_settings(
    gear={"D": SOLE_INVERTER, "E": SOLE_INVERTER}, safety={"ramp_max_kw_per_s": 50.0}
)
OLD = used(PLANT, "A", "B", "C", "D")
AT_E = next(unit.inverter for unit in PLANT.units if unit.id == "E")
NEW = replace(
    with_unit(with_safety(used(OLD, "A", "B", "D"), "A", soc_max_pct=80.0), "D", inverter=AT_E),
    connection=ConnectionSettings(export_max_kw=150.0),
)  # one leaves, one that can be given back to its own control leaves its device for another
FILES = {
    "new": (NEW, {"A": "A", "B": "B", "D": "E"}),
    "old": (OLD, {name: name for name in "ABCD"}),
}
GIVEN_BACK = ("D", Code.RELEASED)
MOMENTS: dict[str, Callable[[ReloadRig], bool]] = {
    "on their way": lambda rig: held_kw(rig, "C") < 30.0,
    "one is being let go": lambda rig: GIVEN_BACK in rig.latched(),
    "it was let go": lambda rig: UnitId("D") in rig.house.gate.latches.all_given(),
    "the new ones rule": lambda rig: rig.house.settings == NEW,
}


def held_kw(rig: ReloadRig, device: str) -> float:
    if device in rig.plant.inverters:
        return rig.plant.inverter(device).setpoint_kw
    return rig.held_kw(device)


async def killed(stop: Callable[[ReloadRig, float], bool], files: str) -> float:
    """Kill the reload when `stop` says so; how long it had lasted."""
    async with ReloadRig(PLANT, OLD) as rig:
        rig.plan(200.0)
        rig.house.gate.disable(UnitId("B"), "tester")
        await rig.run(6.0)
        since_s = rig.now_s
        async with asyncio.TaskGroup() as tasks:
            reload = tasks.create_task(rig.reloads.change(NEW))
            while not stop(rig, rig.now_s - since_s) and not reload.done():
                await asyncio.sleep(0.001)
            lasted_s = rig.now_s - since_s
            reload.cancel()
            await rig.kill()
        await begins_again(rig, files)
        return lasted_s


async def begins_again(rig: ReloadRig, files: str) -> None:
    killed_s = rig.now_s
    rig.settings, device = FILES[files]
    rig.names = tuple(unit.id for unit in rig.settings.units)
    await rig.start(rig.trips(), ready=False)
    await rig.run(REVERT_S + 1.0)
    assert [held_kw(rig, name) for name in "ABCDE"] == [0.0] * 5, rig.account()
    for name in "ABC":
        assert all(each.power_kw == 0.0 for each in rig.told(name, killed_s + 0.1))
    assert rig.latched() == {("B", Code.DISABLED)}, "what an operator did stays, and that alone"
    rig.plan(60.0)
    able = [device[name] for name in rig.names if name != "B"]
    share_kw = 60.0 / len(able)
    await rig.until(
        lambda: all(abs(held_kw(rig, name) - share_kw) < 0.5 for name in able), within_s=10.0
    )
    assert all(held_kw(rig, name) == 0.0 for name in "ABCDE" if name not in able)


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_where_something_was_done_it_begins_again_whole(moment: str) -> None:
    files = "old" if moment == "one is being let go" else "new"
    assert run_virtual(killed(lambda rig, _: MOMENTS[moment](rig), files)) > 0.1


@pytest.mark.parametrize("moment", ["on their way", "it was let go"])
def test_told_to_stop_in_the_middle_it_ends_at_0_and_in_order(moment: str) -> None:
    async def main() -> None:
        async with ReloadRig(PLANT, OLD) as rig:
            rig.plan(200.0)
            await rig.run(6.0)

            async def reload() -> None:
                await rig.reloads.change(NEW)
                await asyncio.get_running_loop().create_future()

            rig.employ("reload", reload)
            while not MOMENTS[moment](rig):
                await asyncio.sleep(0.001)
            since_s = rig.now_s
            await rig.stop()
            assert rig.now_s - since_s < STOP_S
            assert [held_kw(rig, name) for name in "ABCDE"] == [0.0] * 5
            assert rig.reason is not None
            assert rig.reason.clean

    run_virtual(main())


@pytest.mark.skipif(not KILLS, reason="long: RELOAD_KILLS says how many")
@pytest.mark.parametrize("files", FILES)
def test_killed_all_along_it_begins_again_whole(files: str) -> None:
    lasts_s = run_virtual(killed(lambda *_: False, "new"))
    for number in range(KILLS):
        at_s = lasts_s * (number + 0.5) / KILLS
        run_virtual(killed(lambda _, now_s, at_s=at_s: now_s >= at_s, files))  # type: ignore[misc]
