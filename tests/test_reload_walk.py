"""A walk over random configurations, right and wrong ones, while the site is controlled: devices
see only what the gate permits, nobody is bumped, and what rules is what was accepted last.

The suite walks a few; many: `RELOAD_WALKS=200 pytest --timeout=0 tests/test_reload_walk.py`.
"""

import os
from collections.abc import Callable
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.reload_rig import DEVICES, ReloadRig, at_device_of, plant_settings, used, with_unit
from tests.site_rig import PMU, RESOLUTION_KW, fire_input, with_safety
from tests.virtual_time import run_virtual
from vppd.core.settings import ConnectionSettings, Settings

WALKS = int(os.environ.get("RELOAD_WALKS", "3"))
RAMP_KW_PER_S = 50.0
PLANT = plant_settings(safety={"ramp_max_kw_per_s": RAMP_KW_PER_S})
SILENT = replace(fire_input(), id="gas", modbus=replace(fire_input().modbus, host="10.0.9.9"))
BASES_KW = (-120.0, 0.0, 90.0, 200.0)

Change = Callable[[Settings], Settings]


def _joins_or_leaves(name: str) -> Change:
    def change(now: Settings) -> Settings:
        names = {unit.id for unit in now.units} ^ {name}
        return used(PLANT, *(each for each in DEVICES if each in names or each == "A"))

    return change


def _on(name: str, change: Change) -> Change:
    """Where the site has that unit."""
    return lambda now: change(now) if name in {unit.id for unit in now.units} else now


RIGHT = st.one_of(
    st.sampled_from(DEVICES[1:]).map(_joins_or_leaves),
    st.tuples(st.sampled_from(DEVICES[:4]), st.sampled_from((30.0, 60.0, 100.0))).map(
        lambda each: _on(each[0], lambda now: with_unit(now, each[0], rated_power_kw=each[1]))
    ),
    st.tuples(st.sampled_from(DEVICES[:4]), st.sampled_from((45.0, 80.0, 95.0))).map(
        lambda each: _on(each[0], lambda now: with_safety(now, each[0], soc_max_pct=each[1]))
    ),
    st.sampled_from((None, 60.0, 150.0)).map(
        lambda most_kw: (
            lambda now: replace(
                now, connection=ConnectionSettings(export_max_kw=most_kw, import_max_kw=most_kw)
            )
        )
    ),
    st.sampled_from(("pmu", "north")).map(
        lambda name: lambda now: replace(now, pmu=(replace(PMU, id=name),))
    ),
    st.just(_on("D", lambda now: used(at_device_of(now, "D", "E"), *_without(now, "E")))),
)
WRONG = st.sampled_from(
    (
        lambda now: replace(now, mode="simulation"),
        lambda now: replace(now, site=replace(now.site, id="other")),
        lambda now: replace(now, interlock_inputs=(*now.interlock_inputs, SILENT)),
    )
)


def _without(now: Settings, name: str) -> list[str]:
    return [unit.id for unit in now.units if unit.id != name]


@settings(max_examples=WALKS, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(BASES_KW), RIGHT, st.none() | WRONG), min_size=3, max_size=5
    )
)
def test_walks(steps: list[tuple[float, Change, Change | None]]) -> None:
    async def walk() -> None:
        async with ReloadRig(PLANT, used(PLANT, "A", "B", "C", "D")) as rig:
            for base_kw, right, wrong in steps:
                rig.plan(base_kw)
                await rig.run(1.0)
                new = right(rig.settings)
                verdict = await rig.reload(wrong(new) if wrong is not None else new)
                assert bool(verdict.errors) == (wrong is not None), verdict
                await rig.run(1.0)
                _permitted(rig)
            _unbumped(rig)

    run_virtual(walk())


def _permitted(rig: ReloadRig) -> None:
    """What devices hold is inside of what the settings in force allow."""
    used_devices = {
        unit.modbus.host: unit for unit in rig.settings.units if unit.modbus is not None
    }
    sum_kw = 0.0
    for device in PLANT.units:
        held_kw, host = rig.held_kw(device.id), device.modbus.host if device.modbus else None
        unit = used_devices.get(host or "")
        assert abs(held_kw) <= (unit.rated_power_kw if unit is not None else 0.0), rig.account()
        sum_kw += held_kw
    most_kw = rig.settings.connection.export_max_kw
    if most_kw is not None:
        assert abs(sum_kw) <= most_kw + len(DEVICES) * RESOLUTION_KW, rig.account()


def _unbumped(rig: ReloadRig) -> None:
    """Away from 0 no device went faster than its ramp; towards it none faster than all the others
    that took over from it."""
    for device in DEVICES:
        told = rig.told(device)
        for early, late in zip(told, told[2:], strict=False):
            lasts_s = max(late.at_s - early.at_s, 0.2) + 0.02
            away_kw = abs(late.power_kw) - abs(early.power_kw)
            assert away_kw <= RAMP_KW_PER_S * lasts_s + 2 * RESOLUTION_KW, (device, early, late)
            most_kw = RAMP_KW_PER_S * len(DEVICES) * lasts_s
            assert -away_kw <= most_kw + 2 * RESOLUTION_KW, (device, early, late)
