"""A new configuration taken over while the site is controlled: whole or not at all, and without a
bump. What is said of a unit is what the plant's device was told."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from tests.reload_rig import ReloadRig, at_device_of, plant_settings, used, with_unit
from tests.site_rig import METER_AT, PMU, RESOLUTION_KW, fire_input, with_safety
from tests.virtual_time import run_virtual, virtual
from vppd.cli.replay import Ears, Played, Span, recorded_in, replay
from vppd.core.alarms import Code
from vppd.core.model import SITE, Point, UnitId
from vppd.core.settings import ConnectionSettings, Settings
from vppd.core.settings_recorder import RecorderSettings
from vppd.core.settings_scada import ScadaSettings, StationPointSettings
from vppd.parts import Part, Parts, Wanted
from vppd.reload.change import Reload

RAMP_KW_PER_S = 10.0
PLANT = plant_settings()
FOUR = used(PLANT, "A", "B", "C", "D")
THREE = used(PLANT, "A", "B", "C")
OTHERS = ("A", "B", "C")
FIVE = (*OTHERS, "D", "E")
CHANGES = {
    "its limits": with_safety(FOUR, "D", soc_max_pct=80.0, ramp_max_kw_per_s=5.0),
    "its rating": with_unit(FOUR, "D", rated_power_kw=60.0, rated_apparent_kva=70.0),
    "its building": with_unit(FOUR, "D", building="NORTH"),
    "its device": at_device_of(FOUR, "D", "E"),
    "it leaves": THREE,
    "one joins": PLANT,
    "the recorder": replace(FOUR, recorder=RecorderSettings(file_s=20.0)),
}


def site(settings: Settings = FOUR, plant: Settings = PLANT) -> ReloadRig:
    return ReloadRig(plant, settings)


async def watched(new: Settings | None) -> list[tuple[str, float, float]]:
    """What the others are told while D, which has a share of its own, is changed."""
    async with site() as rig:
        for name in FIVE:  # with a share of their own nobody has to take over from another
            rig.plan(20.0, name)
        await rig.run(8.0)
        since_s = rig.now_s
        if new is not None:
            await rig.reloaded(new)
        await rig.run(since_s + 18.0 - rig.now_s)
        return [each for each in rig.writes(OTHERS, since_s) if each[1] < since_s + 18.0]


@pytest.fixture(scope="module")
def undisturbed() -> list[tuple[str, float, float]]:
    return run_virtual(watched(None))


@pytest.mark.parametrize("what", CHANGES)
def test_units_that_stay_are_told_the_same_at_the_same_times(
    what: str, undisturbed: list[tuple[str, float, float]]
) -> None:
    assert len(undisturbed) > 15, "leases are renewed"
    assert run_virtual(watched(CHANGES[what])) == undisturbed


@virtual
async def test_a_unit_that_leaves_goes_by_its_ramp_and_the_others_take_its_share() -> None:
    async with site() as rig:
        rig.plan(120.0)
        await rig.run(6.0)
        since_s = rig.now_s
        await rig.reloaded(THREE)
        assert rig.held_kw("D") == 0.0
        told = len(rig.told("D"))
        await rig.run(3.0)
        assert [rig.held_kw(name) for name in OTHERS] == pytest.approx([40.0] * 3, abs=0.3)
        assert rig.steepest_kw_per_s("D", since_s) <= RAMP_KW_PER_S + 2 * RESOLUTION_KW
        assert rig.worst_sum_kw(since_s)[1] <= 120.0 + 4 * RESOLUTION_KW
        assert min(rig.sum_kw(*OTHERS), rig.sum_kw()) >= 119.0
        assert len(rig.told("D")) == told, "it is written to no more"
        assert UnitId("D") not in rig.house.gate.decisions
        assert not [each for each in rig.house.alarms.standing() if each.unit == "D"]
        await rig.reloaded(FOUR)
        await rig.until(lambda: rig.held_kw("D") > 29.0, within_s=12.0)


@virtual
async def test_a_unit_on_another_device_leaves_the_old_one_at_0_and_is_admitted_anew() -> None:
    async with site() as rig:
        rig.plan(80.0)
        rig.house.gate.disable(UnitId("C"), "tester")
        await rig.run(6.0)
        await rig.reloaded(at_device_of(FOUR, "D", "E"))
        assert rig.held_kw("D") == 0.0
        await rig.until(lambda: rig.held_kw("E") > 20.0, within_s=8.0)
        assert rig.held_kw("D") == 0.0
        assert rig.state("C") == "disabled"


@virtual
async def test_a_tighter_connection_is_reached_by_the_ramps() -> None:
    async with site() as rig:
        rig.plan(240.0)
        await rig.run(8.0)
        since_s = rig.now_s
        assert rig.sum_kw() == pytest.approx(240.0, abs=1.0)
        await rig.reloaded(replace(FOUR, connection=ConnectionSettings(export_max_kw=150.0)))
        await rig.run(1.0)
        assert rig.sum_kw() == pytest.approx(150.0, abs=0.5)
        for name in rig.names:
            assert rig.steepest_kw_per_s(name, since_s) <= RAMP_KW_PER_S + 3 * RESOLUTION_KW
        await rig.reloaded(FOUR)
        await rig.until(lambda: rig.sum_kw() > 239.0, within_s=6.0)


@virtual
async def test_a_tighter_rating_is_reached_by_the_ramp_and_the_others_give_the_rest() -> None:
    async with site() as rig:
        rig.plan(300.0)
        await rig.run(10.0)
        since_s = rig.now_s
        await rig.reloaded(with_unit(FOUR, "B", rated_power_kw=40.0))
        await rig.run(4.0)
        assert rig.held_kw("B") <= 40.0
        assert rig.sum_kw() == pytest.approx(300.0, abs=1.0)
        assert rig.steepest_kw_per_s("B", since_s) <= RAMP_KW_PER_S + 3 * RESOLUTION_KW


@virtual
async def test_what_is_latched_or_disabled_stays_so() -> None:
    async with site() as rig:
        gate = rig.house.gate
        gate.trip("B", Code.EMERGENCY_STOP, "pressed", "tester")
        gate.trip("D", Code.OVER_TEMPERATURE, "61 degC", "tester")
        gate.disable(UnitId("C"), "tester")
        rig.plan(60.0)
        await rig.run(4.0)
        latched = rig.latched()
        await rig.reloaded(at_device_of(with_safety(FOUR, "B", soc_min_pct=20.0), "D", "E"))
        await rig.run(4.0)
        assert rig.latched() == latched
        assert [rig.state(name) for name in "BCD"] == ["tripped", "disabled", "tripped"]
        assert rig.alarmed(Code.OVER_TEMPERATURE, "D")
        assert rig.sum_kw("B", "C", "D", "E") == 0.0
        rig.reset("D")
        await rig.until(lambda: rig.held_kw("E") > 10.0, within_s=8.0)


@virtual
async def test_an_interlock_that_is_new_is_heard_before_it_counts_and_else_refused() -> None:
    async with site(replace(FOUR, interlock_inputs=())) as rig:
        rig.plan(60.0)
        await rig.run(4.0)
        since_s = rig.now_s
        silent = replace(fire_input(), id="gas")
        silent = replace(silent, modbus=replace(silent.modbus, host="10.0.1.98"))
        verdict = await rig.reload(replace(FOUR, interlock_inputs=(fire_input(), silent)))
        assert [each.split(": ")[:3] for each in verdict.errors] == [
            ["field.yaml", "interlock_inputs.gas", "does not answer"]
        ]
        assert rig.house.gate.shut_by is None
        await rig.reloaded(FOUR)
        await rig.run(2.0)
        told = [each.power_kw for name in rig.names for each in rig.told(name, since_s)]
        assert min(told) > 14.0, "nobody was stopped"
        rig.plant.inject("interlock", "fire")
        await rig.until(lambda: rig.sum_kw() == 0.0, within_s=3.0)


@virtual
async def test_half_broken_is_refused_whole_with_every_reason() -> None:
    async with site() as rig:
        rig.plan(60.0)
        await rig.run(4.0)
        point = StationPointSettings(address=7, kind="measured", value="power_kw")
        new = replace(
            THREE,
            site=replace(FOUR.site, id="other"),
            mode="simulation",
            droop=replace(FOUR.droop, droop_pct=3.0),
            pmu=(replace(PMU, host="10.0.0.77"),),
            scada=ScadaSettings(enabled=True, points=(point, point)),
        )
        tasks = {each.name for each in rig.tasks()}
        verdict = await rig.reload(new)
        words = " / ".join(verdict.errors)
        for part in ("vppd.yaml: site.id: ", "vppd.yaml: mode: ", "grid.yaml: scada: "):
            assert part in words
        assert {each.key for each in verdict.changes} >= {"site.id", "units.D", "droop.droop_pct"}
        assert {each.name for each in rig.tasks()} == tasks
        assert rig.house.tick.duty.droop.droop_pct == FOUR.droop.droop_pct
        await rig.run(3.0)
        assert rig.sum_kw() == pytest.approx(60.0, abs=0.5)


@virtual
async def test_a_dry_run_says_what_would_be_done_and_does_nothing() -> None:
    async with site() as rig:
        rig.plan(60.0)
        await rig.run(4.0)
        tasks = {each.name for each in rig.tasks()}
        verdict = await rig.reload(THREE, dry_run=True)
        assert verdict.errors == ()
        assert verdict.steps == ("D: goes to 0 by its ramp and leaves",)
        await rig.run(2.0)
        assert rig.held_kw("D") == pytest.approx(15.0, abs=0.2)
        assert {each.name for each in rig.tasks()} == tasks


@virtual
async def test_a_frequency_source_is_exchanged_alone_and_droop_follows_the_new_one() -> None:
    async with site() as rig:
        await rig.run(2.0)
        await rig.reloaded(replace(FOUR, pmu=(replace(PMU, id="north"),)))
        await rig.run(2.0)
        rig.step(49.7)
        await rig.run(2.0)
        assert rig.house.decision is not None
        assert rig.house.decision.frequency_source == "north"
        assert rig.sum_kw() > 20.0
        assert "pmu pmu" not in {each.name for each in rig.tasks()}


def test_a_recording_over_reloads_is_replayed_bit_for_bit(tmp_path: Path) -> None:
    first = replace(FOUR, recorder=RecorderSettings(file_s=600.0))

    async def main() -> int:
        rig = site(first)
        rig.state_dir = tmp_path
        async with rig:
            rig.plan(120.0)
            await rig.run(5.0)
            for new in (
                with_safety(first, "B", soc_max_pct=70.0),
                used(first, "A", "B", "C"),
                replace(first, connection=ConnectionSettings(export_max_kw=60.0)),
                at_device_of(first, "D", "E"),
            ):
                await rig.reloaded(new)
                await rig.run(2.0)
                rig.step(49.8)
                await rig.run(2.0)
                rig.step(50.0)
            await rig.stop()
            return len(rig.proofs_s)

    ticks, notes = run_virtual(main()), list[str]()
    with recorded_in(tmp_path) as found:
        assert len(found) == 5, "each configuration has a file of its own"
        played: Played = replay(
            found, Span(), (), Ears(lambda _: None, notes.append, lambda *_: None)
        )
    assert (played.differing, played.damaged, notes) == (0, 0, [])
    assert played.ticks >= ticks - 5
    assert all(early.number < late.number for early, late in pairwise(found))


@virtual
async def test_a_meter_that_is_new_is_believed_before_it_bounds_anything() -> None:
    plant = plant_settings(meter=METER_AT, connection=ConnectionSettings(export_max_kw=400.0))
    metered = used(plant, "A", "B", "C", "D")
    async with site(replace(metered, meter=None), plant) as rig:
        rig.plan(100.0)
        await rig.run(5.0)
        since_s = rig.now_s
        await rig.reloaded(metered)
        await rig.run(3.0)
        told = [each.power_kw for name in rig.names for each in rig.told(name, since_s)]
        assert told
        assert min(told) > 24.5, "nobody was held back"
        assert rig.house.bus.snapshot().fresh(SITE, Point.LOAD_KW) is not None
        await rig.reloaded(replace(metered, meter=None))
        await rig.run(3.0)
        assert rig.house.bus.snapshot().fresh(SITE, Point.LOAD_KW) is None
        assert rig.sum_kw() == pytest.approx(100.0, abs=0.5)


@virtual
async def test_a_reload_that_fails_on_the_way_is_undone() -> None:
    async def breaks() -> None:
        raise RuntimeError("a fault of ours")

    def wants(settings: Settings) -> Iterable[Wanted]:
        if settings != FOUR:
            yield Wanted("port", settings, lambda: Part({}, open=breaks))

    async with site() as rig:
        rig.reloads = Reload(rig.house, [Parts(wants)])
        rig.plan(120.0)
        await rig.run(6.0)
        tasks = {each.name for each in rig.tasks()}
        verdict = await rig.reload(PLANT)
        assert verdict.errors == ("it failed: RuntimeError: a fault of ours",)
        assert {each.name for each in rig.tasks()} == tasks
        await rig.run(3.0)
        assert rig.sum_kw() == pytest.approx(120.0, abs=0.5)
        assert not [each for each in rig.house.bus.snapshot().readings if each[0] == "E"]
        rig.reloads = Reload(rig.house)
        await rig.reloaded(PLANT)


@virtual
async def test_a_switch_of_droop_outlives_a_reload_of_something_else() -> None:
    async with site() as rig:
        rig.house.tick.duty = rig.house.tick.duty.switched(False, "operator")
        await rig.reloaded(with_safety(FOUR, "D", soc_max_pct=80.0))
        assert not rig.house.tick.duty.droop.enabled
        await rig.reloaded(replace(FOUR, droop=replace(FOUR.droop, droop_pct=4.0)))
        assert rig.house.tick.duty.droop.enabled
