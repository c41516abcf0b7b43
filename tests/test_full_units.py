"""Units of three devices, on virtual time: whatever one of them hides, the inverter is safe.

What is asserted is what the inverter holds and gives, never what the house believes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from tests.site_rig import POLL_S, TIMEOUT_S, SiteRig, site_settings
from tests.virtual_time import virtual
from vppd.config import shipped_bms
from vppd.core.alarms import Code
from vppd.core.settings import (
    BmsSettings,
    ConnectionSettings,
    InverterSettings,
    Settings,
    UnitSettings,
)

EASY: Mapping[str, Any] = {"ramp_max_kw_per_s": 100.0, "runaway_rate_max_c_per_min": 1000.0}
REVERT_S = 10


def full(unit: UnitSettings, number: int, **inverter: Any) -> UnitSettings:
    """Its controller, with a BMS and an inverter beside it."""
    bms = BmsSettings(dbc="vpp-bms", interface="virtual", channel=f"full-{unit.id}")
    at = InverterSettings(host=f"10.0.2.{number}", poll_s=POLL_S, timeout_s=TIMEOUT_S, **inverter)
    return replace(unit, bms=bms, inverter=at, accept_no_revert=False)


def sole(unit: UnitSettings, number: int, **inverter: Any) -> UnitSettings:
    """Nothing but its inverter."""
    return replace(full(unit, number, **inverter), modbus=None, bms=None)


def full_site(
    names: Sequence[str] = ("A",), *, inverter: Mapping[str, Any] | None = None, **rest: Any
) -> Settings:
    made = site_settings(names, safety=EASY, **rest)
    units = tuple(full(unit, at, **(inverter or {})) for at, unit in enumerate(made.units, 1))
    bms = {"vpp-bms": shipped_bms()["vpp-bms"]}
    return replace(made, units=units, bms_profiles=bms)


class FullRig(SiteRig):
    """A site whose setpoints are those of its inverters."""

    async def start(self, trips: Any = (), *, ready: bool = True) -> None:
        await super().start(trips, ready=False)
        if ready:
            await self.until(lambda: all(self.is_ready(name) for name in self.names), 8.0)

    def is_ready(self, name: str) -> bool:
        return self.state(name) not in ("starting", "none", "lost")

    def held_kw(self, name: str) -> float:
        return self.plant.inverter(name).setpoint_kw

    def released(self, name: str) -> bool:
        return self.plant.inverter(name).released

    async def ask(self, power_kw: float, unit: str = "A") -> None:
        """An operator's order, until the inverter holds it."""
        self.plan(power_kw, unit)
        await self.until(lambda: abs(self.held_kw(unit) - power_kw) < 0.2, 6.0)

    async def stopped(self, unit: str = "A", within_s: float = 6.0) -> None:
        await self.until(lambda: self.held_kw(unit) == 0.0, within_s)


@virtual
async def test_a_full_unit_obeys() -> None:
    async with FullRig(full_site()) as rig:
        await rig.ask(40.0)
        await rig.ask(-40.0)


# --- a stop gives back only what may run ---


@virtual
async def test_a_graceful_stop_gives_the_inverter_back() -> None:
    async with FullRig(full_site()) as rig:
        await rig.ask(40.0)
        await rig.stop()
        assert rig.released("A")
        assert rig.held_kw("A") == 0.0


@virtual
async def test_a_stop_does_not_give_back_what_a_trip_or_an_operator_holds() -> None:
    async with FullRig(full_site(("A", "B"))) as rig:
        await rig.ask(40.0)
        rig.house.gate.trip("A", Code.EMERGENCY_STOP, "button", "tester")
        rig.house.gate.disable(rig.settings.units[1].unit, "tester")
        await rig.stopped()
        await rig.run(1.0)
        await rig.stop()
        assert not rig.released("A")
        assert not rig.released("B")


# --- an operator's reset reaches the inverter ---


@virtual
async def test_one_reset_ends_a_fault_that_the_inverter_latches() -> None:
    async with FullRig(full_site()) as rig:
        await rig.ask(40.0)
        rig.plant.inject("inverter_fault", "A", for_s=1.0, latched=True)
        await rig.stopped()
        await rig.run(3.0)
        assert ("A", Code.INVERTER_FAULT) in rig.latched()
        rig.reset("A")
        await rig.run(5.0)
        assert rig.plant.inverter("A").latched_bits == 0
        assert not rig.latched()


# --- one of several devices hides ---


@pytest.mark.parametrize("target", ["A", "A/inverter"])
@virtual
async def test_whichever_device_is_silent_the_unit_stops_and_returns(target: str) -> None:
    async with FullRig(full_site()) as rig:
        await rig.ask(40.0)
        rig.plant.inject("silence", target)
        await rig.stopped(within_s=REVERT_S + 2.0)
        rig.plant.clear("silence")
        await rig.until(lambda: rig.held_kw("A") > 39.0, 30.0)


@virtual
async def test_what_a_lost_inverter_gives_by_its_controller_counts_at_the_connection() -> None:
    """Its timer does not work, and only the controller still shows what it gives."""
    connection = ConnectionSettings(export_max_kw=100.0, import_max_kw=100.0)
    async with FullRig(full_site(("A", "B"), connection=connection)) as rig:
        await rig.ask(60.0)
        rig.plant.inject("silence", "A/inverter")
        rig.plant.inject("inverter_no_timer", "A")
        await rig.run(REVERT_S + 5.0)
        assert rig.gives_kw("A") > 50.0
        rig.plan(100.0, "B")
        await rig.run(5.0)
        assert rig.held_kw("B") <= 42.0


@virtual
async def test_an_inverter_that_was_never_told_anything_gives_what_its_controller_shows() -> None:
    connection = ConnectionSettings(export_max_kw=100.0, import_max_kw=100.0)
    async with FullRig(full_site(("A", "B"), connection=connection)) as rig:
        await rig.kill()
        rig.plant.inject("exception", "A/inverter", code=2)
        rig.plant.unit("A").governor = None
        rig.plant.unit("A").command(60.0, 0.0, "its own")
        await rig.start(ready=False)
        await rig.until(lambda: rig.state("B") == "ready", 5.0)
        rig.plan(100.0, "B")
        await rig.run(5.0)
        assert rig.gives_kw("A") > 50.0
        assert rig.held_kw("B") <= 42.0


# --- the models are looked at again ---


def rescale(rig: FullRig, exponent: int) -> None:
    rig.plant.inverter("A").rescale(704, "WSet_SF", exponent)


@virtual
async def test_a_stop_while_the_models_are_looked_at_again_still_brings_0() -> None:
    async with FullRig(full_site()) as rig:
        await rig.ask(40.0)
        rig.plant.inject("slow", "A/inverter", delay_s=0.02)
        rescale(rig, 1)
        device = rig.house.field.inverters[rig.settings.units[0].unit]
        await rig.until(lambda: not device.ready, 3.0)
        await rig.run(0.1)
        assert not device.ready
        await rig.stop()
        assert rig.held_kw("A") == 0.0
        assert rig.released("A")


@virtual
async def test_a_slow_look_at_the_models_does_not_starve_the_watchdog() -> None:
    async with FullRig(full_site()) as rig:
        await rig.ask(40.0)
        rig.plant.inject("slow", "A/inverter", delay_s=0.7)
        rescale(rig, 1)
        begun_s = rig.now_s
        await rig.run(40.0)
        proofs_s = [each for each in rig.proofs_s if each >= begun_s]
        assert max(b - a for a, b in pairwise(proofs_s)) < 2.0
        assert rig.now_s - proofs_s[-1] < 2.0


@virtual
async def test_an_exponent_that_changed_while_the_line_was_cut_is_never_written_by() -> None:
    async with FullRig(full_site()) as rig:
        await rig.ask(40.0)
        inverter = rig.plant.inverter("A")
        begun_s = rig.now_s
        for _ in range(3):
            exponent = inverter.image.exponents.get((704, "WSet_SF"), 0)
            rescale(rig, 1 if exponent != 1 else 0)
            rig.plant.inject("drop", "A/inverter")
            await rig.run(0.4)
            rig.plant.inject("drop", "A/inverter")
            await rig.run(4.0)
        told = [each.power_kw for each in rig.told("A", begun_s) if each.source == "sunspec"]
        assert max(map(abs, told)) <= 40.1


# --- a device that was lost once ---


@pytest.mark.parametrize("inverter", [True, False])
@virtual
async def test_a_stop_brings_0_to_a_device_that_was_lost_before(inverter: bool) -> None:
    made = full_site() if inverter else site_settings(("A",), safety=EASY)
    async with (FullRig if inverter else SiteRig)(made) as rig:
        target = "A/inverter" if inverter else "A"
        rig.plant.inject("silence", target, for_s=5.0)
        await rig.run(15.0)
        rig.plan(40.0, "A")
        await rig.until(lambda: rig.held_kw("A") > 39.0, 20.0)
        rig.plant.inject("slow", target, delay_s=0.1)
        await rig.stop()
        assert rig.held_kw("A") == 0.0
        if inverter:
            assert rig.plant.inverter("A").released
