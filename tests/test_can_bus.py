"""The owner of a CAN interface over real ones: UDP multicast inside this machine, a serial adapter
on a pty, python-can's virtual bus; and interfaces that fail, vanish and come back."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import can
import pytest

from tests.bms_rig import Ear, Lawicel, shipped, until
from vppd.core.model import Point, UnitId
from vppd.field.bms import CanCounters
from vppd.field.drivers import can_port as driver
from vppd.field.drivers.can import CanBus, overhear
from vppd.field.drivers.can_port import CanDownError, arguments, drain, open_interface
from vppd.spine.clock import SystemClock

CLOCK = SystemClock()
PYLON, VPP = shipped("pylontech"), shipped("vpp-bms")
SOC_88 = (0x355, bytes.fromhex("58005E00"))
PACK = (0x120, bytes.fromhex("021200C8326450"))


def frame(number: int, data: bytes, *, extended: bool = False) -> can.Message:
    return can.Message(arbitration_id=number, data=data, is_extended_id=extended)


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


@contextmanager
def peer(interface: str, channel: str) -> Iterator[can.BusABC]:
    """Another node on the bus; what it sends by UDP stays on this machine."""
    wanted = arguments(interface, channel, 500_000, 115_200)
    if interface == "udp_multicast":
        wanted["hop_limit"] = 0
    try:
        bus = can.Bus(**wanted)
    except (can.CanError, OSError) as error:
        pytest.skip(f"{interface} cannot be had here: {error}")
    try:
        yield bus
    finally:
        bus.shutdown()


@asynccontextmanager
async def running(interface: str, channel: str, *ears: Ear) -> AsyncIterator[CanBus]:
    bus = CanBus(interface, channel, 500_000, 115_200, CLOCK)
    bus.members.extend(ear.bms for ear in ears)
    async with asyncio.timeout(30.0), asyncio.TaskGroup() as group:
        group.create_task(bus.run())
        try:
            yield bus
        finally:
            bus.stop()


async def send_until(node: can.BusABC, message: can.Message, ear: Ear, point: Point) -> None:
    """A node repeats itself until it was understood."""
    async with asyncio.timeout(10.0):
        while ear.value(point) is None:
            node.send(message)
            await asyncio.sleep(0.01)


CHANNELS = ["239.74.163.11", "[ff11::4a:7]"]


@pytest.mark.parametrize("group", CHANNELS)
async def test_udp_multicast(group: str) -> None:
    channel = f"{group}:{free_udp_port()}"
    ear = Ear(PYLON, CLOCK)
    with peer("udp_multicast", channel) as node:
        async with running("udp_multicast", channel, ear) as bus:
            await send_until(node, frame(*SOC_88), ear, Point.BMS_SOC_PCT)
            assert ear.value(Point.BMS_SOC_PCT) == 88.0
            await until(lambda: ear.links == [("b1/bms", True)])
            while (heard := node.recv(5.0)) is not None and heard.arbitration_id != 0x305:
                pass
            assert heard is not None
            assert (bytes(heard.data), heard.is_extended_id) == (bytes(8), False)
            assert bus.up
            assert ear.bms.counters.sent >= 1
    assert ("can_lost", True) not in ear.notices


async def test_groups_on_one_port_are_different_buses() -> None:
    """Linux would give each socket the frames of every group that is joined on the machine."""
    port = free_udp_port()
    first, second = Ear(PYLON, CLOCK), Ear(PYLON, CLOCK, unit=UnitId("b2"))
    one, other = f"239.74.163.21:{port}", f"239.74.163.22:{port}"
    with peer("udp_multicast", one) as node, peer("udp_multicast", other) as far:
        async with (
            running("udp_multicast", one, first) as bus,
            running("udp_multicast", other, second),
        ):
            await send_until(far, frame(0x355, b"\x0a\0\x5e\0"), second, Point.BMS_SOC_PCT)
            await send_until(node, frame(*SOC_88), first, Point.BMS_SOC_PCT)
            before = bus.counters.frames
            await send_until(far, frame(0x356, bytes(6)), second, Point.CELL_MIN_C)
            assert (first.value(Point.BMS_SOC_PCT), second.value(Point.BMS_SOC_PCT)) == (88.0, 10.0)
            assert first.value(Point.CELL_MIN_C) is None
            assert bus.counters.frames >= before


async def test_a_stranger_on_the_group_is_counted() -> None:
    port = free_udp_port()
    channel = f"239.74.163.23:{port}"
    ear = Ear(PYLON, CLOCK)
    with peer("udp_multicast", channel) as node:
        async with running("udp_multicast", channel, ear) as bus:
            await send_until(node, frame(*SOC_88), ear, Point.BMS_SOC_PCT)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                stranger.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 0)
                for _ in range(10):
                    stranger.sendto(b"\xc1not a frame", ("239.74.163.23", port))
            await until(lambda: bus.counters.bad >= 10)
            node.send(frame(0x356, bytes.fromhex("7A13F2FE6B01")))
            await until(lambda: ear.value(Point.PACK_V) == 49.86)
    assert ("can_lost", True) not in ear.notices


async def test_a_serial_adapter(tmp_path: Path) -> None:
    """Standard and extended frames, remote frames, acknowledgements and nonsense between them."""
    ear = Ear(PYLON, CLOCK)
    with Lawicel(tmp_path / "adapter") as adapter:
        async with running("slcan", str(adapter.path), ear) as bus:
            await until(lambda: adapter.open)
            assert "S6" in adapter.lines  # 500 kbit/s
            assert not any(line.startswith("t") for line in adapter.lines)
            adapter.say(b"\r\r\at355458005E00\rT0000035540A005E00\rr3554\rz\r")
            await until(lambda: bus.counters.frames == 3)
            await until(lambda: ear.value(Point.BMS_SOC_PCT) == 88.0)
            assert bus.counters.unknown == 2  # the extended one and the remote one
            await until(lambda: "t30580000000000000000" in adapter.lines)
            adapter.say(b"t35\rtZZZ4\rt35695\r\xff\xfe\r\0\rt3568\r")
            await until(lambda: bus.counters.bad >= 3)
            adapter.say(b"t3566")
            await asyncio.sleep(0)
            adapter.say(b"7A13F2FE6B01\r")  # a line in two pieces
            await until(lambda: ear.value(Point.PACK_V) == 49.86)
            assert ear.bms.counters.short >= 1  # it promised eight bytes and brought none
        await until(lambda: not adapter.open)
        assert adapter.lines[-1] == "C"


async def test_two_thousand_lines_at_once(tmp_path: Path) -> None:
    ear = Ear(VPP, CLOCK)
    with Lawicel(tmp_path / "adapter") as adapter:
        async with running("slcan", str(adapter.path), ear) as bus:
            await until(lambda: adapter.open)
            for _ in range(100):
                adapter.say(b"t1207021200C8326450\r" * 20)
                before = bus.counters.frames
                await until(lambda before=before: bus.counters.frames == before + 20)  # type: ignore[misc]
    assert ear.bms.counters.frames == 2000
    assert ear.value(Point.PACK_A) == -20.0


async def test_an_adapter_that_is_pulled_and_plugged_again(tmp_path: Path) -> None:
    ear = Ear(PYLON, CLOCK)
    adapter = Lawicel(tmp_path / "adapter")
    async with running("slcan", str(adapter.path), ear) as bus:
        await until(lambda: ear.notices == [("can_lost", True)])  # not there yet
        assert ear.links == [("b1/bms", False)]
        adapter.plug()
        await until(lambda: adapter.open)
        adapter.say(b"t355458005E00\r")
        await until(lambda: ear.links[-1] == ("b1/bms", True))
        await until(lambda: ear.notices[-1] == ("can_lost", False))
        adapter.unplug()
        await until(lambda: ear.notices[-1] == ("can_lost", True))
        assert ear.links[-1] == ("b1/bms", False)
        adapter.plug()
        await until(lambda: adapter.open)
        adapter.say(b"t35540A005E00\r")
        await until(lambda: ear.value(Point.BMS_SOC_PCT) == 10.0)
        await until(lambda: ear.notices[-1] == ("can_lost", False))
        assert bus.counters.reopened >= 1
    adapter.unplug()
    told = [active for code, active in ear.notices if code == "can_lost"]
    assert told[-4:] == [True, False, True, False]


async def test_python_cans_own_serial_frames(tmp_path: Path) -> None:
    """Start byte, time stamp, length, identifier (all little-endian), data, end byte; also cut."""
    ear = Ear(PYLON, CLOCK)
    whole = bytes.fromhex("AA 00000000 04 55030000 58005E00 BB")
    with Lawicel(tmp_path / "line") as line:
        async with running("serial", str(line.path), ear) as bus:
            await until(lambda: bus.up is True)
            line.say(whole[:7])  # half a frame, and the rest never
            await until(lambda: bus.counters.bad == 1)
            line.say(b"\0\0" + whole)
            await until(lambda: ear.value(Point.BMS_SOC_PCT) == 88.0)
    assert ("can_lost", True) not in ear.notices


async def test_two_batteries_on_one_bus_are_told_apart_by_their_offset() -> None:
    first = Ear(PYLON, CLOCK)
    second = Ear(PYLON, CLOCK, unit=UnitId("b2"), id_offset=0x20)
    with peer("virtual", "two-batteries") as node:
        async with running("virtual", "two-batteries", first, second) as bus:
            await send_until(node, frame(0x375, b"\x0a\0\x5e\0"), second, Point.BMS_SOC_PCT)
            await send_until(node, frame(*SOC_88), first, Point.BMS_SOC_PCT)
            assert (first.value(Point.BMS_SOC_PCT), second.value(Point.BMS_SOC_PCT)) == (88.0, 10.0)
            node.send(frame(0x355, b"\x01\0\x5e\0", extended=True))
            await until(lambda: bus.counters.unknown == 1)
            assert first.bms.counters.unknown == second.bms.counters.unknown == 0
            heard: set[int] = set()
            while {0x305, 0x325} - heard:
                await asyncio.sleep(0.005)
                while (message := node.recv(0.0)) is not None:
                    heard.add(message.arbitration_id)


async def test_nothing_is_sent_to_a_battery_that_is_not_heard() -> None:
    ear = Ear(PYLON, CLOCK)
    with peer("virtual", "shy") as node:
        async with running("virtual", "shy", ear) as bus:
            while not bus.counters.unknown:
                node.send(frame(0x7FF, b""))
                await asyncio.sleep(0.01)
            assert bus.counters.sent == 0
            node.send(frame(*SOC_88))
            await until(lambda: bus.counters.sent == 1)
            message = node.recv(0.0)
            assert message is not None
            assert (message.arbitration_id, bytes(message.data)) == (0x305, bytes(8))
    quiet = Ear(PYLON, CLOCK, keep_alive=False)
    with peer("virtual", "shy") as node:
        async with running("virtual", "shy", quiet) as bus:
            await send_until(node, frame(*SOC_88), quiet, Point.BMS_SOC_PCT)
            await until(lambda: quiet.links == [("b1/bms", True)])
            assert bus.counters.sent == 0


async def test_a_controller_that_leaves_the_bus() -> None:
    """An error frame as Linux shows it: identifier 0x40 is bus-off."""
    ear = Ear(VPP, CLOCK)
    with peer("virtual", "bus-off") as node:
        async with running("virtual", "bus-off", ear) as bus:
            await send_until(node, frame(*PACK), ear, Point.PACK_V)
            node.send(can.Message(arbitration_id=0x04, is_error_frame=True, data=bytes(8)))
            await until(lambda: bus.counters.bus_errors == 1)
            assert ear.notices == []
            node.send(can.Message(arbitration_id=0x40, is_error_frame=True, data=bytes(8)))
            await until(lambda: ear.notices == [("bus_off", True)])
            assert ear.links[-1] == ("b1/bms", False)
            async with asyncio.timeout(10.0):
                while ear.links[-1][1] is False:
                    node.send(frame(*PACK))
                    await asyncio.sleep(0.01)
            await until(lambda: ear.notices == [("bus_off", True), ("bus_off", False)])
            assert bus.counters.reopened == 1


class Broken(can.BusABC):
    """An interface whose file is readable for ever while every read fails."""

    reads = 0

    def __init__(self, error: Exception) -> None:
        self._error = error
        self._pair = socket.socketpair()
        self._pair[1].send(b"x")
        super().__init__(channel="broken")

    def send(self, msg: can.Message, timeout: float | None = None) -> None:
        raise self._error

    def _recv_internal(self, timeout: float | None) -> tuple[can.Message | None, bool]:
        self.reads += 1
        raise self._error

    def fileno(self) -> int:
        return self._pair[0].fileno()

    def shutdown(self) -> None:
        super().shutdown()
        for each in self._pair:
            each.close()


@pytest.mark.parametrize(
    ("error", "reads"),
    [
        (can.CanOperationError("network is down", error_code=100), 1),
        (OSError(19, "no such device"), 1),
        (can.CanOperationError("not a frame"), driver.ERRORS_MOST),
        (ValueError("not hexadecimal"), driver.ERRORS_MOST),
    ],
)
def test_an_interface_that_only_fails_is_given_up(error: Exception, reads: int) -> None:
    bus = Broken(error)
    try:
        with pytest.raises(CanDownError):
            drain(driver.Opened(bus, bus.fileno()), CanCounters())
        assert bus.reads == reads
    finally:
        bus.shutdown()


async def test_an_interface_that_fails_for_ever_is_no_storm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[Broken] = []

    def open_broken(**_: Any) -> can.BusABC:
        opened.append(Broken(can.CanOperationError("network is down", error_code=100)))
        return opened[-1]

    monkeypatch.setattr(can, "Bus", open_broken)
    ear = Ear(PYLON, CLOCK)
    async with running("socketcan", "can0", ear):
        await until(lambda: len(opened) == 3 and opened[2].reads == 1)
    assert [each.reads for each in opened] == [1, 1, 1]
    assert ear.notices == [("can_lost", True)]
    assert ear.links == [("b1/bms", False)]


@pytest.mark.parametrize(
    ("interface", "channel"),
    [
        ("slcan", "/dev/no-such-adapter"),
        ("slcan", "/dev/null"),
        ("serial", "/dev/no-such-adapter"),
        ("udp_multicast", "127.0.0.1"),
        ("socketcan", "no-such-interface"),
        ("kvaser", "first"),
    ],
)
async def test_an_interface_that_cannot_be_had_is_said(interface: str, channel: str) -> None:
    with pytest.raises(CanDownError):
        await overhear(interface, channel, 500_000, 115_200, 0.1, CLOCK)
    ear = Ear(PYLON, CLOCK)
    async with running(interface, channel, ear):
        await until(lambda: ear.notices == [("can_lost", True)])


def test_what_each_interface_is_told() -> None:
    told = {
        interface: arguments(interface, channel, 250_000, 1_000_000)
        for interface, channel in (
            ("socketcan", "can0"),
            ("slcan", "/dev/ttyACM0"),
            ("udp_multicast", "239.1.2.3"),
            ("pcan", "PCAN_USBBUS1"),
            ("kvaser", "1"),
        )
    }
    assert "bitrate" not in told["socketcan"]  # ip link sets it
    slcan = told["slcan"]
    assert (slcan["bitrate"], slcan["tty_baudrate"]) == (250_000, 1_000_000)
    assert (slcan["sleep_after_open"], slcan["listen_only"]) == (0.0, False)
    assert told["udp_multicast"]["port"] == 43113
    assert told["kvaser"]["channel"] == 1
    assert told["pcan"]["bitrate"] == 250_000
    assert all(each["ignore_config"] for each in told.values())
    both = arguments("udp_multicast", "[ff11::7]:5000", 1, 1)
    assert (both["channel"], both["port"]) == ("ff11::7", 5000)
    assert arguments("udp_multicast", "ff11::7", 1, 1)["channel"] == "ff11::7"


async def test_overhearing_sends_nothing(tmp_path: Path) -> None:
    with Lawicel(tmp_path / "adapter") as adapter:
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(
                overhear("slcan", str(adapter.path), 500_000, 115_200, 0.5, CLOCK)
            )
            await until(lambda: adapter.open)
            for _ in range(5):
                adapter.say(b"t1207021200C8326450\r")
                await asyncio.sleep(0.05)
            adapter.say(b"T18FEF17E201FF\r")
        heard = listening.result()
    assert set(heard) == {(0x120, False), (0x18FEF17E, True)}
    pack = heard[0x120, False]
    assert (pack.count, pack.length, pack.data) == (5, 7, PACK[1])
    assert 0.01 < pack.period_s < 0.3
    assert heard[0x18FEF17E, True].period_s == 0.0
    assert {line[:1] for line in adapter.lines if line} <= {"C", "S", "L"}


async def test_acknowledgements_do_not_end_a_turn(tmp_path: Path) -> None:
    with Lawicel(tmp_path / "adapter") as adapter:
        wanted = arguments("slcan", str(adapter.path), 500_000, 115_200)
        opened = await asyncio.to_thread(open_interface, wanted)
        await until(lambda: adapter.open)
        adapter.say(b"z\r" * 20 + b"t1207021200C8326450\r")
        messages: list[can.Message] = []
        while not messages:
            messages, more = drain(opened, CanCounters())
            assert more is False
            await asyncio.sleep(0.005)
        assert [bytes(each.data) for each in messages] == [PACK[1]]
        await asyncio.to_thread(driver.close_interface, opened)


async def test_a_closed_interface_is_given_back(tmp_path: Path) -> None:
    """Also where the adapter died before, and saying goodbye fails."""
    with Lawicel(tmp_path / "adapter") as adapter:
        opened = await asyncio.to_thread(
            open_interface, arguments("slcan", str(adapter.path), 500_000, 115_200)
        )
        adapter.unplug()
        await asyncio.to_thread(driver.close_interface, opened)
        with pytest.raises(CanDownError):
            drain(opened, CanCounters())
