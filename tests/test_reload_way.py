"""Making way when several things change at once: the others take over from who leaves, and nobody
steps when the new configuration rules."""

from dataclasses import replace

import pytest

from tests.reload_rig import ReloadRig, plant_settings, used
from tests.site_rig import RESOLUTION_KW
from tests.virtual_time import run_virtual
from vppd.core.settings import ConnectionSettings

RAMP_KW_PER_S = 20.0
PLANT = plant_settings(safety={"ramp_max_kw_per_s": RAMP_KW_PER_S})
FOUR = used(PLANT, "A", "B", "C", "D")


@pytest.mark.parametrize("base_kw", [190.0, -190.0])
def test_units_leave_while_the_connection_gets_tighter_and_the_rest_goes_there_by_its_ramps(
    base_kw: float,
) -> None:
    async def main() -> None:
        async with ReloadRig(PLANT, FOUR) as rig:
            rig.plan(base_kw)
            await rig.run(8.0)
            since_s = rig.now_s
            tight = ConnectionSettings(export_max_kw=120.0, import_max_kw=120.0)
            await rig.reloaded(replace(used(FOUR, "A", "B"), connection=tight))
            await rig.run(1.0)
            assert abs(rig.sum_kw()) == pytest.approx(120.0, abs=0.5)
            for name in "ABCD":
                steepest = rig.steepest_kw_per_s(name, since_s)
                assert steepest <= RAMP_KW_PER_S + 3 * RESOLUTION_KW, name
            away = [abs(each.power_kw) for name in "AB" for each in rig.told(name, since_s)]
            assert max(away) <= 60.0 + RESOLUTION_KW, "nobody takes over what it may not keep"

    run_virtual(main())
