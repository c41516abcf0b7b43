"""The guard on a serial line: a pty with a device on its other end that answers as it is told."""

import asyncio
import os
import struct
import tty
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from tests.modbus_device import Rig, shipped, unit_settings, until
from vppd.core.model import LinkChange, UnitId
from vppd.core.profile import Table
from vppd.field.drivers.modbus import BadReply, DeviceRefused, Endpoint, Line, LinkDown, NoReply
from vppd.spine.clock import SystemClock

TIMEOUT_S = 0.1
LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]
Plan = Callable[[bytes, bytes], list[tuple[float, bytes]]]  # request, right reply: what, when


def crc(frame: bytes) -> bytes:
    """The checksum as the serial line guide writes it."""
    value = 0xFFFF
    for octet in frame:
        value ^= octet
        for _ in range(8):
            value = value >> 1 ^ (0xA001 if value & 1 else 0)
    return struct.pack("<H", value)


def test_the_checksum_of_the_guides_own_example() -> None:
    assert crc(bytes.fromhex("0207")) == bytes.fromhex("4112")


class Bus:
    """The other end of the pty: answers each request, register n holding n, by a plan."""

    def __init__(self) -> None:
        self.master, self.slave = os.openpty()
        tty.setraw(self.master)
        self.path = os.ttyname(self.slave)
        self.plan: Plan = lambda _, right: [(0.0, right)]
        self.frames: list[bytes] = []
        self.buffer = b""
        asyncio.get_running_loop().add_reader(self.master, self.receive)

    def receive(self) -> None:
        self.buffer += os.read(self.master, 512)
        while len(self.buffer) >= 8:
            size = 9 + self.buffer[6] if self.buffer[1] == 16 else 8
            if len(self.buffer) < size:
                return
            request, self.buffer = self.buffer[:size], self.buffer[size:]
            assert crc(request[:-2]) == request[-2:]
            self.frames.append(request)
            first, count = struct.unpack(">HH", request[2:6])
            body = request[:6]
            if request[1] in (3, 4):
                words = struct.pack(f">{count}H", *range(first, first + count))
                body = request[:2] + bytes((2 * count,)) + words
            for after_s, data in self.plan(request, body + crc(body)):
                asyncio.get_running_loop().call_later(after_s, self.send, data)

    def send(self, data: bytes) -> None:
        if self.master >= 0:
            os.write(self.master, data)

    def unplug(self) -> None:
        asyncio.get_running_loop().remove_reader(self.master)
        os.close(self.master)
        os.close(self.slave)
        self.master = -1


async def read(line: Line, first: int, unit: int = 1) -> list[int]:
    """Read two registers as the line's owner does: not before the line is ready."""
    clock = SystemClock()
    while clock.now_s() < (ready_s := line.ready_s()):
        await clock.sleep_until(ready_s)
    return list(await line.read(unit, Table.HOLDING, first, 2, TIMEOUT_S))


def on_a_bus(body: Callable[[Line, Bus], Any], factory: Callable[[], Any]) -> None:
    trouble: list[Any] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, each: trouble.append(each))
        bus = Bus()
        line = Line(Endpoint(serial=bus.path, baudrate=115200), SystemClock(), lambda: None)
        await line.connect(1.0)
        try:
            await body(line, bus)
        finally:
            line.close()
            if bus.master >= 0:
                bus.unplug()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
    assert not trouble


@pytest.fixture(params=LOOPS, ids=["asyncio", "uvloop"])
def factory(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_reads_and_writes(factory: Any) -> None:
    async def body(line: Line, bus: Bus) -> None:
        assert await read(line, 100) == [100, 101]
        await asyncio.sleep(0.01)
        await line.write(1, 0x2000, [0xFF85, 0], 16, TIMEOUT_S)
        await asyncio.sleep(0.01)
        await line.write(1, 0x2002, [3], 6, TIMEOUT_S)
        assert [frame[:-2].hex() for frame in bus.frames] == [
            "010300640002",
            "01102000000204ff850000",
            "010620020003",
        ]

    on_a_bus(body, factory)


def spoil(frame: bytes) -> bytes:
    return frame[:-1] + bytes((frame[-1] ^ 1,))


def with_crc(text: str) -> bytes:
    return bytes.fromhex(text) + crc(bytes.fromhex(text))


FAULTS: dict[str, tuple[Plan, type[Exception] | None]] = {
    "noise before": (lambda _, right: [(0.0, b"\x00\xff\x01\x03" + right)], None),
    "noise after": (lambda _, right: [(0.0, right + b"\x00\xff")], None),
    "own echo before": (lambda request, right: [(0.0, request), (0.01, right)], None),
    "another unit first": (
        lambda _, right: [(0.0, with_crc("020304000a000b")), (0.01, right)],
        None,
    ),
    "byte by byte": (
        lambda _, right: [(0.002 * n, right[n : n + 1]) for n in range(len(right))],
        None,
    ),
    "exception": (lambda *_: [(0.0, with_crc("018302"))], DeviceRefused),
    "no registers": (lambda *_: [(0.0, with_crc("010300"))], DeviceRefused),
    "silence": (lambda *_: [], NoReply),
    "gateway": (lambda *_: [(0.0, with_crc("01830b"))], NoReply),
    "bad checksum": (lambda _, right: [(0.0, spoil(right))], BadReply),
    "cut short": (lambda _, right: [(0.0, right[:5])], BadReply),
    "too few registers": (lambda *_: [(0.0, with_crc("0103020064"))], BadReply),
    "wrong function": (lambda *_: [(0.0, with_crc("01040400640065"))], BadReply),
    "only noise": (lambda *_: [(0.0, bytes(range(40)))], BadReply),
    "only another unit": (lambda *_: [(0.0, with_crc("020304000a000b"))], BadReply),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_on_the_line(name: str, factory: Any) -> None:
    plan, end = FAULTS[name]

    async def body(line: Line, bus: Bus) -> None:
        bus.plan = plan
        if end is None:
            assert await read(line, 100) == [100, 101]
        else:
            with pytest.raises(end) as caught:
                await read(line, 100)
            assert type(caught.value) is end
        assert len(bus.frames) == 1
        assert line.connected
        bus.plan = lambda _, right: [(0.0, right)]
        assert await read(line, 200) == [200, 201]

    on_a_bus(body, factory)


def test_a_late_reply_never_answers_the_next_request(factory: Any) -> None:
    """The frames carry no number: only waiting keeps them apart."""

    async def body(line: Line, bus: Bus) -> None:
        for turn in range(6):
            bus.plan = lambda _, right, turn=turn: [(TIMEOUT_S * (1.1 + 0.15 * turn), right)]  # type: ignore[misc]
            with pytest.raises(NoReply):
                await read(line, 100)
            failed_s = SystemClock().now_s()
            bus.plan = lambda _, right: [(TIMEOUT_S * 0.6, right)]
            assert await read(line, 200) == [200, 201]
            assert SystemClock().now_s() - failed_s > TIMEOUT_S

    on_a_bus(body, factory)


def test_the_line_is_left_alone_after_a_cancelled_request(factory: Any) -> None:
    async def body(line: Line, bus: Bus) -> None:
        bus.plan = lambda _, right: [(TIMEOUT_S, right)]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(TIMEOUT_S / 2):
                await read(line, 100)
        assert line.ready_s() > SystemClock().now_s() + TIMEOUT_S
        bus.plan = lambda _, right: [(0.0, right)]
        assert await read(line, 200) == [200, 201]

    on_a_bus(body, factory)


def test_a_pause_stands_between_frames(factory: Any) -> None:
    async def body(line: Line, _: Bus) -> None:
        await read(line, 100)
        left_s = line.ready_s() - SystemClock().now_s()
        assert 0.0 < left_s <= 0.00175

    on_a_bus(body, factory)


def test_unplugged_while_waiting(factory: Any) -> None:
    async def body(line: Line, bus: Bus) -> None:
        bus.plan = lambda *_: []
        asyncio.get_running_loop().call_later(0.02, bus.unplug)
        with pytest.raises(LinkDown):
            await line.read(1, Table.HOLDING, 100, 2, 5.0)
        assert not line.connected
        with pytest.raises(LinkDown):
            await line.connect(0.5)

    on_a_bus(body, factory)


def test_a_port_serves_one_owner(factory: Any) -> None:
    async def body(line: Line, bus: Bus) -> None:
        second = Line(Endpoint(serial=bus.path, baudrate=115200), SystemClock(), lambda: None)
        with pytest.raises(LinkDown):
            await second.connect(0.5)
        assert await read(line, 100) == [100, 101]

    on_a_bus(body, factory)


def test_two_units_on_one_line_and_one_is_dead(factory: Any) -> None:
    """The dead one costs the line its time-outs, ever more rarely; its neighbour is polled on."""

    async def main() -> None:
        bus = Bus()
        bus.plan = lambda request, right: [(0.0, right)] if request[0] == 1 else []
        at = {"serial": bus.path, "baudrate": 115200, "poll_s": 0.1, "timeout_s": 0.5}
        units = [unit_settings(f"U{n}", None, 0, unit_id=n, **at) for n in (1, 2)]
        rig = Rig(SystemClock(), units, shipped())
        alive, dead = (rig.counters()[unit] for unit in (UnitId("U1"), UnitId("U2")))
        async with rig.running():
            await until(lambda: alive.replies > 30 and rig.of(LinkChange, "U2"), rig.clock, 60.0)
            assert rig.of(LinkChange, "U2")[-1].up is False
            assert [each.up for each in rig.of(LinkChange)] == [True]
            assert dead.no_reply == dead.requests < 10
            assert (alive.no_reply, alive.bad_reply) == (0, 0)
            for reading in rig.readings:
                if reading.point == "cycles":
                    assert reading.value == 0x1022
        bus.unplug()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
