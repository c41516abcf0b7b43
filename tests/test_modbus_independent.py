"""The driver against Modbus servers that other people wrote: the same behaviour on each.

libmodbus (C) needs gcc, pkg-config and libmodbus-dev; the two of npm need node, with their modules
in VPPD_NODE_MODULES or `.venv/node_modules` (npm install --prefix .venv modbus-serial jsmodbus).
"""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from pyModbusTCP.server import DataBank, ModbusServer

from tests.modbus_device import Rig, shipped, unit_settings, until
from vppd.cli.scene import free_ports
from vppd.core.model import (
    DeviceNotice,
    LinkChange,
    Outcome,
    Point,
    Quality,
    ReadBack,
    ReadBackResult,
    UnitId,
    WriteResult,
)
from vppd.spine.clock import SystemClock

SOURCES = Path(__file__).parent / "data" / "modbus"
TOP = Path(__file__).parents[1]
NODE_MODULES = Path(os.environ.get("VPPD_NODE_MODULES", TOP / ".venv" / "node_modules"))
At = dict[str, Any]  # where a device is reached
U1 = UnitId("U1")


@contextmanager
def program(*words: str, **environment: str) -> Iterator[str]:
    """A server as a child process; gives the first line it prints."""
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
    ) as child:
        try:
            assert child.stdout is not None
            line = child.stdout.readline().strip()
            assert line, f"{words[0]} did not start"
            yield line
        finally:
            child.kill()


def needs(*programs: str) -> None:
    for each in programs:
        if shutil.which(each) is None:
            pytest.skip(f"{each} is not installed")


@pytest.fixture(scope="session")
def libmodbus_device(tmp_path_factory: pytest.TempPathFactory) -> str:
    needs("gcc", "pkg-config")
    if subprocess.run(["pkg-config", "--exists", "libmodbus"], check=False).returncode:
        pytest.skip("libmodbus-dev is not installed")
    flags = subprocess.check_output(["pkg-config", "--cflags", "--libs", "libmodbus"], text=True)
    target = tmp_path_factory.mktemp("libmodbus") / "device"
    source = str(SOURCES / "libmodbus_device.c")
    subprocess.run(["gcc", "-O1", source, "-o", str(target), *flags.split()], check=True)
    return str(target)


@contextmanager
def libmodbus_tcp(device: str, *words: str) -> Iterator[At]:
    with program(device, "tcp", *words) as port:
        yield {"port": int(port)}


@contextmanager
def libmodbus_rtu(device: str, where: Path) -> Iterator[At]:
    ours, theirs = where / "ours", where / "theirs"
    pair = [f"pty,raw,echo=0,link={end}" for end in (ours, theirs)]
    with subprocess.Popen(["socat", "-d", "-d", *pair], stderr=subprocess.PIPE, text=True) as cable:
        try:
            assert cable.stderr is not None
            while "starting data transfer" not in cable.stderr.readline():
                assert cable.poll() is None, "socat did not start"
            with program(device, "rtu", str(theirs), "1"):
                yield {"serial": str(ours), "host": None, "baudrate": 115200}
        finally:
            cable.kill()


@contextmanager
def on_node(script: str, module: str, *words: str) -> Iterator[At]:
    needs("node")
    if not (NODE_MODULES / module).is_dir():
        pytest.skip(f"npm {module} is not installed in {NODE_MODULES}")
    source = str(SOURCES / script)
    with program("node", source, *words, NODE_PATH=str(NODE_MODULES)) as port:
        yield {"port": int(port)}


class Bank(DataBank):
    """pyModbusTCP's registers, following the setpoint while mode is 3 and enable is 1."""

    def __init__(self) -> None:
        super().__init__()
        self.set_input_registers(0x1000, [553, 990, 560, 0, 251, 0, 0, 4998])
        self.set_input_registers(0x1010, [1])
        self.set_input_registers(0x1020, [2500, 1000, 17])

    def on_holding_registers_change(self, *_: Any, **__: Any) -> None:
        power, reactive, mode, enabled = self.get_holding_registers(0x2000, 4) or [0] * 4
        on = mode == 3 and enabled == 1
        self.set_input_registers(0x1005, [power, reactive] if on else [0, 0])


@contextmanager
def py_modbus_tcp() -> Iterator[At]:
    (port,) = free_ports(1)
    server = ModbusServer("127.0.0.1", port, no_block=True, data_bank=Bank())
    server.start()
    try:
        yield {"port": port}
    finally:
        server.stop()


@pytest.fixture(
    params=["pyModbusTCP", "libmodbus tcp", "libmodbus rtu", "modbus-serial", "jsmodbus"]
)
def served_at(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[At]:
    if request.param == "pyModbusTCP":
        server = py_modbus_tcp()
    elif request.param == "libmodbus tcp":
        server = libmodbus_tcp(request.getfixturevalue("libmodbus_device"))
    elif request.param == "libmodbus rtu":
        needs("socat")
        server = libmodbus_rtu(request.getfixturevalue("libmodbus_device"), tmp_path)
    elif request.param == "modbus-serial":
        server = on_node("modbus_serial_device.js", "modbus-serial")
    else:
        server = on_node("jsmodbus_device.js", "jsmodbus")
    with server as at:
        yield at


def rig_at(at: At, **modbus: Any) -> Rig:
    where = {"host": "127.0.0.1", "port": 502, "poll_s": 0.1, "timeout_s": 1.0, **at, **modbus}
    host, port = where.pop("host"), where.pop("port")
    return Rig(SystemClock(), [unit_settings("U1", host, port, **where)], shipped())


async def reads(rig: Rig, point: Point, value: float) -> None:
    await until(lambda: rig.value(point) == value, rig.clock)


async def is_of(rig: Rig, point: Point, quality: Quality) -> None:
    await until(lambda: rig.bus.snapshot().quality(U1, point) is quality, rig.clock)


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_polled_driven_read_back_and_stopped(served_at: At, factory: Callable[[], Any]) -> None:
    async def main() -> None:
        rig = rig_at(served_at)
        rig.actuators[U1].enable(on=True)
        async with rig.running():
            await reads(rig, Point.CYCLES, 17.0)
            assert rig.value(Point.SOC_PCT) == 55.3
            assert rig.value(Point.TEMPERATURE_C) == 25.1
            assert rig.value(Point.FREQUENCY_HZ) == 49.98
            for power_kw, told_kw in ((12.34, 12.3), (-45.0, -45.0)):
                rig.offer(power_kw, 3.0)
                await reads(rig, Point.POWER_KW, told_kw)
                await reads(rig, Point.REACTIVE_KVAR, 3.0)
            rig.offer(0.0)
            async with asyncio.timeout(5.0):
                await rig.actuators[U1].finish()
            await reads(rig, Point.POWER_KW, 0.0)
        assert {each.verdict for each in rig.of(ReadBackResult)} == {ReadBack.SAME}
        assert {each.outcome for each in rig.of(WriteResult)} <= {Outcome.WRITTEN, Outcome.HELD}
        assert [each.up for each in rig.of(LinkChange)] == [True]
        assert rig.of(DeviceNotice) == []
        counted = rig.counters()[U1]
        assert counted.no_reply == counted.bad_reply == counted.link_down == 0

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


def test_no_registers_is_how_jsmodbus_says_that_there_are_none() -> None:
    async def main(at: At) -> None:
        rig = rig_at(at)
        lacking = {Point.ENERGY_CAPACITY_KWH, Point.RATED_POWER_KW, Point.CYCLES}
        async with rig.running():
            await until(lambda: "cycles" in str(rig.of(DeviceNotice)), rig.clock)
            await until(lambda: rig.value(Point.SOC_PCT) == 55.3, rig.clock)
            for point in shipped().points:
                expected = Quality.MISSING if point in lacking else Quality.GOOD
                await is_of(rig, point, expected)
        assert rig.counters()[U1].bad_reply == 0

    with on_node("jsmodbus_device.js", "jsmodbus", "short") as at:
        asyncio.run(main(at))


def test_a_server_that_is_killed_and_comes_back(libmodbus_device: str) -> None:
    async def main() -> None:
        with libmodbus_tcp(libmodbus_device) as at:
            rig = rig_at(at)
            begun = rig.running()
            await begun.__aenter__()
            await until(lambda: rig.value(Point.SOC_PCT) is not None, rig.clock)
        await until(lambda: not rig.of(LinkChange)[-1].up, rig.clock)
        assert "Connection refused" in rig.of(LinkChange)[-1].text
        await begun.__aexit__(None, None, None)

    asyncio.run(main())
