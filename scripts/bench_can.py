"""What taking CAN frames costs: a sender process, a receiver process with a tick of 10 Hz beside.

The receiver is the product's own bus owner with one BMS of the shipped model `vpp-bms` on a bus
board; the sender packs frames by hand. Interfaces are those that need no kernel CAN.
"""

import asyncio
import multiprocessing
import os
import pty
import socket
import struct
import time
import tty
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import can
import uvloop

from vppd.config import shipped_bms
from vppd.core.model import Reading
from vppd.core.settings import BmsSettings, UnitSettings
from vppd.field.drivers.can import CanBus
from vppd.field.hear import Bms
from vppd.field.presence import Presence
from vppd.spine.bus import Bus
from vppd.spine.clock import SystemClock

TICK_S = 0.1
BURST_S = 0.005  # frames are sent in bursts so far apart
SETTLE_S = 1.0
GROUP = "ff11:7079:7468:6f6e:6465:6d6f:6d63:6173"
IDS = (0x100, 0x101, 0x102, 0x103, 0x110, 0x111, 0x120, 0x120, 0x120, 0x120)


@dataclass(frozen=True)
class Heard:
    """What one run showed. Lateness is of the 10 Hz tick in the receiver."""

    sent: int
    taken: int
    readings: int
    cpu_pct: float
    late_p99_ms: float
    late_max_ms: float


def payload(number: int, count: int) -> bytes:
    """A plausible frame that differs from the one before."""
    if number == 0x120:
        return struct.pack(">HhBBBx", 560 + count % 3, -100 + count % 7, 50, 100, 100)
    if number >= 0x110:
        return struct.pack(">4h", 250, 251, 252, 250 + count % 5)
    return struct.pack(">4H", 3500, 3501, 3502, 3500 + count % 9)


def be_sender(pipe: Connection, interface: str, channel: str, fps: int, for_s: float) -> None:
    """Send so many frames a second, evenly in bursts; tells how many."""
    bus: can.BusABC | None = None
    file = -1
    if interface == "slcan":
        file, side = pty.openpty()
        tty.setraw(file)
        tty.setraw(side)
        Path(channel).symlink_to(os.ttyname(side))
    else:
        bus = can.Bus(interface=interface, channel=channel, hop_limit=0, ignore_config=True)
    pipe.send("ready")
    pipe.recv()
    sent, begun_s = 0, time.monotonic()
    while (now_s := time.monotonic() - begun_s) < for_s:
        due = int(now_s * fps)
        if file >= 0 and due > sent:
            batch = range(sent, due)
            text = b"".join(_lawicel(IDS[each % len(IDS)], each) for each in batch)
            with suppress(OSError):
                os.write(file, text)
            sent = due
        while bus is not None and sent < due:
            number = IDS[sent % len(IDS)]
            data = payload(number, sent)
            bus.send(can.Message(arbitration_id=number, data=data, is_extended_id=False))
            sent += 1
        time.sleep(BURST_S)
    pipe.send(sent)
    pipe.recv()
    if bus is not None:
        bus.shutdown()


def _lawicel(number: int, count: int) -> bytes:
    data = payload(number, count)
    return f"t{number:03X}{len(data)}{data.hex().upper()}\r".encode()


def be_receiver(pipe: Connection, interface: str, channel: str, for_s: float) -> None:
    """Take frames beside a tick; tells what it cost. No frames are sent before it is ready."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_receive(pipe, interface, channel, for_s))


async def _receive(pipe: Connection, interface: str, channel: str, for_s: float) -> None:
    clock = SystemClock()
    board = Bus(clock)
    readings = 0

    def tap(message: object) -> None:
        nonlocal readings
        readings += isinstance(message, Reading)

    board.tap(tap)
    profile = shipped_bms()["vpp-bms"]
    unit = UnitSettings(
        id="B1",
        building="N",
        rated_power_kw=100.0,
        energy_kwh=250.0,
        bms=BmsSettings(dbc="vpp-bms", channel=channel),
    )
    bus = CanBus(interface, channel, 500_000, 115_200, clock)
    presence = Presence(unit.unit, lambda _: None)
    bus.members.append(Bms(unit, profile, board, clock, lambda _: None, presence))
    late_s: list[float] = []

    async def tick() -> None:
        due_s = clock.now_s()
        while True:
            due_s += TICK_S
            await clock.sleep_until(due_s)
            late_s.append(clock.now_s() - due_s)
            board.snapshot()

    async with asyncio.TaskGroup() as tasks:
        owner = tasks.create_task(bus.run())
        await clock.sleep_until(clock.now_s() + SETTLE_S)
        pipe.send("ready")
        await asyncio.to_thread(pipe.recv)
        ticking = tasks.create_task(tick())
        cpu_s, begun_s = time.process_time(), clock.now_s()
        await clock.sleep_until(begun_s + for_s)
        cpu_pct = 100.0 * (time.process_time() - cpu_s) / (clock.now_s() - begun_s)
        await clock.sleep_until(clock.now_s() + SETTLE_S)
        pipe.send((bus.counters.frames, readings, cpu_pct, sorted(late_s)))
        ticking.cancel()
        bus.stop()
        await owner


def run(interface: str, channel: str, fps: int, for_s: float) -> Heard:
    """One measurement. Raises OSError where the interface cannot be had on this machine."""
    if interface == "udp_multicast":
        _probe(channel)
    context = multiprocessing.get_context("spawn")
    sender, theirs = context.Pipe()
    receiver, other = context.Pipe()
    sending = context.Process(target=be_sender, args=(theirs, interface, channel, fps, for_s))
    receiving = context.Process(target=be_receiver, args=(other, interface, channel, for_s))
    try:
        sending.start()
        sender.recv()
        receiving.start()
        receiver.recv()
        receiver.send("go")
        sender.send("go")
        taken, readings, cpu_pct, late_s = receiver.recv()
        sent = sender.recv()
        sender.send("end")
    finally:
        for process in (sending, receiving):
            process.join(5.0)
            if process.is_alive():
                process.kill()
    p99 = late_s[min(int(0.99 * len(late_s)), len(late_s) - 1)]
    return Heard(sent, taken, readings, cpu_pct, 1e3 * p99, 1e3 * late_s[-1])


def _probe(group: str) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as own:
        own.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 0)
        own.sendto(b"", (group, 9))
