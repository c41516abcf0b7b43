"""Devices on a serial line, a pty here, exchanged while others on it are polled: no two requests
ever meet on the line, and who stays is asked on as if nothing happened."""

import asyncio
from dataclasses import replace
from typing import Any

from tests.site_rig import site_settings
from tests.test_modbus_rtu import Bus as Pty
from vppd.core.settings import ModbusSettings, Settings
from vppd.crew import Crew
from vppd.field.build import Field, build
from vppd.field.refit import Refit, refit
from vppd.spine.bus import Bus
from vppd.spine.clock import SystemClock
from vppd.spine.supervise import Supervisor

WITHIN_S = 60.0
ROUNDS = 3


def on(path: str, baudrate: int, **unit_ids: int) -> Settings:
    """Units on one line, by name."""
    plain = site_settings(tuple(unit_ids), pmus=(), interlock_inputs=())
    units = (
        replace(
            unit,
            modbus=ModbusSettings(
                profile=unit.modbus.profile if unit.modbus else "",
                serial=path,
                baudrate=baudrate,
                unit_id=unit_ids[unit.id],
                poll_s=0.5,
            ),
        )
        for unit in plain.units
    )
    return replace(plain, units=tuple(units))


async def asked(pty: Pty, *unit_ids: int) -> None:
    """Each of these is asked some times, from now on; nobody else."""
    pty.frames.clear()
    async with asyncio.timeout(WITHIN_S):
        while any(count(pty, each) < ROUNDS for each in unit_ids):
            await asyncio.sleep(0.02)
    assert {frame[0] for frame in pty.frames} == {*unit_ids}


def count(pty: Pty, unit_id: int) -> int:
    return sum(frame[0] == unit_id for frame in pty.frames)


async def exchange(
    found: Refit, crew: Crew, field: Field, clock: SystemClock, supervisor: Supervisor
) -> None:
    """As a reload does."""
    for berth in found.first:
        crew.join(berth)
    assert len(supervisor.status()) == 1, "nobody else opens the line"
    for berth in found.leaves:
        await crew.leave(berth, clock)
    found.settle(field)
    for berth in found.last:
        crew.join(berth)


async def test_devices_are_exchanged_on_a_serial_line_and_no_two_requests_meet() -> None:
    trouble: list[Any] = []  # a frame with a wrong checksum raises there
    asyncio.get_running_loop().set_exception_handler(lambda _, each: trouble.append(each))
    pty, clock = Pty(), SystemClock()
    board, crew, supervisor = Bus(clock), Crew(), Supervisor(clock, lambda *_: None)
    now = on(pty.path, 19200, A=1, B=2)
    field = build(now, board, clock, lambda _: None)
    crew.employ(field, supervisor)
    steps = (
        on(pty.path, 19200, A=1, Z=2),  # another name for the same device
        on(pty.path, 19200, A=1),
        on(pty.path, 38400, Y=1, C=3),  # all leave, and others come at another speed
        on(pty.path, 9600, Y=1, C=3),
    )
    async with asyncio.TaskGroup() as tasks:
        life = tasks.create_task(supervisor.run())
        await asked(pty, 1, 2)
        for new in steps:
            found = refit(field, now, new, board, clock, lambda _: None)
            await exchange(found, crew, field, clock, supervisor)
            now = new
            await asked(pty, *(unit.modbus.unit_id for unit in new.units if unit.modbus))
            assert [len(field.links), len(supervisor.status())] == [1, 1], "one owner of the line"
            assert all(each.up for each in field.presences)
        supervisor.stop()
        await life
    pty.unplug()
    assert not trouble
