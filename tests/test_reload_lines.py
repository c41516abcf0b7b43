"""Reloads of what devices are reached by: a BMS on CAN, and ports that one connection alone can
have."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest

from tests.reload_rig import ReloadRig, plant_settings, used, with_unit
from tests.site_rig import FULL, METER_AT, fire_input, site_settings
from tests.virtual_time import VirtualClock, run_virtual, virtual
from vppd.core.settings import ModbusSettings, Settings
from vppd.field.build import Field, build
from vppd.field.refit import Refit, refit
from vppd.reload.rules import refusals
from vppd.spine.bus import Bus

PLANT = plant_settings(gear={"B": FULL, "C": FULL})
THREE = used(PLANT, "A", "B", "C")
LEASE_S = 2.6  # of controllers, by when it is renewed
TTY = "/dev/ttyS9"


@virtual
async def test_a_bms_on_can_is_exchanged_and_the_units_beside_it_keep_their_leases() -> None:
    async with ReloadRig(PLANT, THREE) as rig:
        rig.plan(30.0, "A")
        rig.plan(30.0, "B")
        rig.plan(30.0, "C")
        await rig.run(6.0)
        since_s = rig.now_s
        bms = next(unit.bms for unit in THREE.units if unit.id == "B")
        assert bms is not None
        count = len(rig.tasks())
        await rig.reloaded(with_unit(THREE, "B", bms=replace(bms, bitrate=250_000)))
        assert gives_kw(rig, "B") == 0.0
        assert len(rig.tasks()) == count, "each line is one task, as before"
        assert gives_kw(rig, "C") == pytest.approx(30.0, abs=0.2)
        await rig.until(lambda: gives_kw(rig, "B") > 29.0, within_s=25.0)
        assert gives_kw(rig, "C") == pytest.approx(30.0, abs=0.2)
        told = rig.told("A", since_s)
        assert {each.power_kw for each in told} == {30.0}
        leased = [since_s, *(each.at_s for each in told), rig.now_s]
        assert max(late - early for early, late in pairwise(leased)) <= LEASE_S
        assert rig.latched() == set()


def gives_kw(rig: ReloadRig, name: str) -> float:
    if name in rig.plant.inverters:
        return rig.plant.inverter(name).setpoint_kw
    return rig.held_kw(name)


def on_serial(settings: Settings, name: str, baudrate: int) -> Settings:
    """The same site with one unit on the serial line."""
    at = next(unit.modbus for unit in settings.units if unit.id == name)
    assert at is not None
    serial = ModbusSettings(
        profile=at.profile, serial=TTY, baudrate=baudrate, unit_id=at.unit_id, poll_s=at.poll_s
    )
    return with_unit(settings, name, modbus=serial)


FOUR = site_settings()
SLOW_A = on_serial(FOUR, "A", 9600)


def refitted(old: Settings, new: Settings) -> tuple[Field, Refit]:
    """The devices of the old one, and what becomes of them."""

    async def main() -> tuple[Field, Refit]:
        clock = VirtualClock()
        bus = Bus(clock)
        field = build(old, bus, clock, lambda _: None)
        return field, refit(field, old, new, bus, clock, lambda _: None)

    return run_virtual(main())


def renamed(settings: Settings) -> Settings:
    return with_unit(settings, "A", id="Z")


@pytest.mark.parametrize(
    ("new", "waits", "shares"),
    [
        (renamed(SLOW_A), False, True),  # the line as it is: both are on it for a while
        (renamed(on_serial(FOUR, "A", 19200)), True, False),
        (renamed(FOUR), False, False),
    ],
)
def test_a_unit_that_joins_waits_for_a_port_that_another_has_to_leave(
    new: Settings, waits: bool, shares: bool
) -> None:
    field, found = refitted(SLOW_A, new)
    (joins,) = [each for each in found.made.berths if each.owner == "Z"]
    assert [joins in found.first, joins in found.last] == [not waits, waits]
    held = {berth.line for berth in field.berths}
    assert (joins.line in held) is shares


def metered_at(baudrate: int) -> Callable[[Settings], Settings]:
    at = replace(METER_AT, host=None, serial=TTY, baudrate=baudrate)
    return lambda settings: replace(settings, meter=at)


def fire_at(baudrate: int) -> Callable[[Settings], Settings]:
    at = replace(fire_input().modbus, host=None, serial=TTY, baudrate=baudrate)
    return lambda settings: replace(settings, interlock_inputs=(replace(fire_input(), modbus=at),))


@pytest.mark.parametrize("heard", [metered_at, fire_at])
def test_a_line_by_which_meter_or_interlock_is_heard_keeps_its_settings(
    heard: Callable[[int], Callable[[Settings], Settings]],
) -> None:
    slow, fast = heard(9600), heard(19200)
    for old, new, refused in (
        (slow(FOUR), fast(FOUR), True),
        (SLOW_A, fast(FOUR), True),  # a unit has the line until it was left
        (slow(FOUR), on_serial(FOUR, "A", 19200), True),
        (slow(FOUR), slow(SLOW_A), False),
        (SLOW_A, slow(FOUR), False),
        (SLOW_A, on_serial(FOUR, "A", 19200), False),
    ):
        assert any(TTY in why or "baudrate" in why for why in refusals(old, new)) is refused
