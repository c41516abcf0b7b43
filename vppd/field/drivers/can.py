"""A CAN interface by python-can, and its one owner: it reads, it sends, it opens again.

python-can's own Notifier is not used: a listener that raises vanishes in it, and an interface that
is gone keeps its file readable for ever, which turns the loop into a storm. Here the file only
wakes the owner; it takes at most `TAKE_MOST` frames in a turn of the loop, then rests a moment, so
that frames come in handfuls and not one wake-up each. Interfaces without a file are asked at that
pace. Opening and closing may block and are done in a thread.
"""

import asyncio
import math
import os
import select
import socket
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import can

from vppd.core.alarms import Code
from vppd.core.ports import Clock
from vppd.field.bms import CanCounters, FrameId
from vppd.field.drivers.slcan import ReadAhead
from vppd.field.hear import Bms

REOPEN_S, REOPEN_MAX_S = 0.1, 10.0
PROVEN_S = 1.0  # open for so long without an error, an interface works
GATHER_S = 0.01  # frames are gathered so long
TEND_S = 0.05  # a silent bus is looked after so often
TAKE_MOST = 64
ERRORS_MOST = 32  # in a row, without a frame between them: the interface is gone
STATE_EVERY_S = 1.0
ERROR_BUS_OFF = 0x40  # in the identifier of an error frame, linux/can/error.h
ID_MASK = 0x1FFFFFFF
IP_MULTICAST_ALL, IPV6_MULTICAST_ALL = 49, 29  # linux/in.h, linux/in6.h
UDP_PORT = 43113  # python-can's own

UNREADABLE = (ValueError, LookupError, TypeError, struct.error)  # of one frame, by its parser
NOT_OPENED = (can.CanError, OSError, *UNREADABLE, ImportError, NameError, AttributeError)


class CanDownError(Exception):
    """The interface cannot be used, and which alarm that is."""

    def __init__(self, text: str, code: Code = Code.CAN_LOST) -> None:
        super().__init__(text)
        self.code = code


@dataclass(slots=True)
class Opened:
    """An open interface. `waiting` says whether a frame may be had; None: read until none comes."""

    bus: can.BusABC
    file: int | None
    waiting: Callable[[], bool] | None = None
    errors: int = 0  # in a row


def arguments(
    interface: str, channel: str, bitrate: int, serial_baudrate: int, *, listen_only: bool = False
) -> dict[str, Any]:
    """What python-can wants to know to open an interface of this kind.

    The channel of udp_multicast is a group, or GROUP:PORT ([GROUP]:PORT for IPv6). Raises
    ValueError for a channel that the interface cannot have.
    """
    wanted: dict[str, Any] = {"interface": interface, "channel": channel, "ignore_config": True}
    if interface == "slcan":
        wanted |= {"bitrate": bitrate, "tty_baudrate": serial_baudrate, "listen_only": listen_only}
        wanted |= {"sleep_after_open": 0.0}
    elif interface == "serial":
        wanted |= {"baudrate": serial_baudrate, "timeout": GATHER_S}
    elif interface == "udp_multicast":
        group, port = channel, ""
        if channel.startswith("[") or channel.count(":") == 1:
            group, _, port = channel.rpartition(":")
        wanted |= {"channel": group.strip("[]"), "port": int(port or UDP_PORT), "fd": False}
    elif interface == "kvaser":
        wanted |= {"channel": int(channel), "bitrate": bitrate}
    elif interface == "pcan":
        wanted |= {"bitrate": bitrate}
    return wanted  # socketcan: `ip link` sets the bitrate; virtual has none


def open_interface(wanted: Mapping[str, Any]) -> Opened:
    """Open it; may block. Raises CanDownError."""
    try:
        bus = can.Bus(**wanted)
    except NOT_OPENED as error:
        raise CanDownError(f"{wanted['interface']} {wanted['channel']}: {error}") from error
    try:
        return _opened(bus, str(wanted["interface"]))
    except NOT_OPENED as error:
        close_interface(bus)
        raise CanDownError(f"{wanted['interface']} {wanted['channel']}: {error}") from error


def _opened(bus: can.BusABC, interface: str) -> Opened:
    file = None
    with suppress(NotImplementedError):
        file = bus.fileno()
    if file is None or file < 0:
        return Opened(bus, None)
    if interface == "slcan" and hasattr(bus, "serialPortOrig"):
        ahead = bus.serialPortOrig = ReadAhead(bus.serialPortOrig)
        return Opened(bus, file, lambda: ahead.in_waiting > 0)
    if interface == "serial":  # it waits for a byte in spite of any time-out given
        return Opened(bus, file, lambda: bool(select.select([file], [], [], 0.0)[0]))
    if interface == "udp_multicast":
        _hear_own_group(file)
    return Opened(bus, file)


def _hear_own_group(file: int) -> None:
    """Linux gives a socket the frames of every group that anyone on the machine has joined."""
    with socket.socket(fileno=os.dup(file)) as own:
        if own.family == socket.AF_INET6:
            own.setsockopt(socket.IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0)
        else:
            own.setsockopt(socket.IPPROTO_IP, IP_MULTICAST_ALL, 0)


async def _open(wanted: Mapping[str, Any]) -> Opened:
    """In a thread; one that nobody awaits any more closes what it opened."""
    opening = asyncio.get_running_loop().run_in_executor(None, open_interface, wanted)
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_not_wanted)
        raise


def _not_wanted(opening: "asyncio.Future[Opened]") -> None:
    if not opening.cancelled() and opening.exception() is None:
        close_interface(opening.result().bus)


def close_interface(bus: can.BusABC) -> None:
    """Close it; may block. What goes wrong is of no use to anyone: it is given up anyway."""
    with suppress(can.CanError, OSError, *UNREADABLE):
        bus.shutdown()
    ahead = getattr(bus, "serialPortOrig", None)
    if isinstance(ahead, ReadAhead):  # slcan keeps its file when saying goodbye fails
        with suppress(OSError):
            ahead.close()


def drain(opened: Opened, counters: CanCounters) -> tuple[list[can.Message], bool]:
    """The frames that wait, at most `TAKE_MOST`, and whether there may be more.

    A frame that its parser cannot read is counted. Raises CanDownError.
    """
    messages: list[can.Message] = []
    bus, waiting = opened.bus, opened.waiting
    for _ in range(TAKE_MOST):
        try:
            if waiting is not None and not waiting():
                return messages, False
            message = bus.recv(0.0)
        except OSError as error:
            raise CanDownError(str(error)) from error
        except can.CanError as error:
            if error.error_code is not None or isinstance(error.__cause__, OSError):
                raise CanDownError(str(error)) from error
            _unreadable(opened, counters, error)
            continue
        except UNREADABLE as error:
            _unreadable(opened, counters, error)
            continue
        if message is not None:
            opened.errors = 0
            messages.append(message)
        elif waiting is None:
            return messages, False
    return messages, True


def _unreadable(opened: Opened, counters: CanCounters, error: Exception) -> None:
    counters.bad += 1
    opened.errors += 1
    if opened.errors >= ERRORS_MOST:
        raise CanDownError(f"{opened.errors} errors in a row: {error}") from error


class CanBus:
    """One interface and the BMSs on it."""

    def __init__(
        self, interface: str, channel: str, bitrate: int, serial_baudrate: int, clock: Clock
    ) -> None:
        self.interface, self.channel = interface, channel
        self.bitrate, self.serial_baudrate = bitrate, serial_baudrate
        self.members: list[Bms] = []
        self.counters = CanCounters()
        self.up: bool | None = None
        self._clock = clock
        self._wake = asyncio.Event()
        self._stopping = False
        self._delay_s = 0.0
        self._listeners: dict[FrameId, list[Bms]] = {}
        self._state_s, self._proven_s = 0.0, math.inf
        self._heard = False  # since it was last judged
        self._troubles: frozenset[Code] = frozenset()

    def join(self, member: Bms) -> None:
        """One more BMS here."""
        self.members.append(member)
        self._listen()

    def leave(self, member: Bms) -> None:
        """One BMS less."""
        self.members.remove(member)
        self._listen()

    def _listen(self) -> None:
        self._listeners = {}
        for member in self.members:
            for frame_id in member.frames:
                self._listeners.setdefault(frame_id, []).append(member)

    def stop(self) -> None:
        """Let `run` close the interface and return."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Own the interface until `stop` or cancellation. Raises nothing a bus can cause."""
        self._listen()
        while not self._stopping:
            try:
                wanted = arguments(self.interface, self.channel, self.bitrate, self.serial_baudrate)
                await self._once(wanted)
            except ValueError as error:
                self._lost(CanDownError(f"{self.interface} {self.channel}: {error}"))
            except CanDownError as down:
                self._lost(down)
            if not self._stopping:
                self._delay_s = min(max(2.0 * self._delay_s, REOPEN_S), REOPEN_MAX_S)
                await self._rest_until(self._clock.now_s() + self._delay_s)

    # ---- inside -------------------------------------------------------------------------------

    async def _once(self, wanted: Mapping[str, Any]) -> None:
        """From opening to closing. Raises CanDownError."""
        opened = await _open(wanted)
        self.counters.reopened += self.up is not None
        self._proven_s, self._heard = self._clock.now_s() + PROVEN_S, False
        try:
            while not self._stopping:
                await self._turn(opened)
        finally:
            await asyncio.to_thread(close_interface, opened.bus)

    async def _turn(self, opened: Opened) -> None:
        """Take what waits, look after the members, wait for more. Raises CanDownError."""
        messages, more = drain(opened, self.counters)
        now_s = self._clock.now_s()
        for message in messages:
            self._take(message, now_s)
        self._look_after(opened, now_s)
        if more:
            await asyncio.sleep(0)  # the rest of the house has its turn
            return
        if opened.file is not None:
            await self._readable(opened.file)
        await self._clock.sleep_until(self._clock.now_s() + GATHER_S)

    async def _readable(self, file: int) -> None:
        loop = asyncio.get_running_loop()
        self._wake.clear()
        if self._stopping:
            return
        loop.add_reader(file, self._wake.set)
        try:
            await self._rest_until(self._clock.now_s() + TEND_S)
        finally:
            loop.remove_reader(file)

    async def _rest_until(self, deadline_s: float) -> None:
        """Until then, or until something wakes."""
        loop = asyncio.get_running_loop()
        timer = loop.call_later(max(deadline_s - self._clock.now_s(), 0.0), self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()
            if not self._stopping:
                self._wake.clear()

    def _take(self, message: can.Message, at_s: float) -> None:
        counters = self.counters
        if message.is_error_frame:
            counters.bus_errors += 1
            if message.arbitration_id & ERROR_BUS_OFF:
                raise CanDownError("the controller left the bus", Code.BUS_OFF)
            return
        counters.frames += 1
        self._heard = True
        number = message.arbitration_id & ID_MASK
        listeners = self._listeners.get((number, message.is_extended_id))
        if listeners is None or message.is_remote_frame:
            counters.unknown += 1
            return
        data = bytes(message.data)
        for member in listeners:
            member.take(number, message.is_extended_id, data, at_s)

    def _look_after(self, opened: Opened, now_s: float) -> None:
        if now_s >= self._state_s:
            self._state_s = now_s + STATE_EVERY_S
            self._check_state(opened.bus)
        if self._heard or now_s >= self._proven_s:
            self._works(now_s)
        for member in self.members:
            member.tend(now_s)
            self._keep_alive(member, opened.bus, now_s)

    def _check_state(self, bus: can.BusABC) -> None:
        with suppress(NotImplementedError):
            if bus.state is can.BusState.ERROR:
                raise CanDownError("the controller left the bus", Code.BUS_OFF)

    def _keep_alive(self, member: Bms, bus: can.BusABC, now_s: float) -> None:
        wanted = member.due(now_s)
        if wanted is None:
            return
        message = can.Message(
            arbitration_id=wanted.id,
            is_extended_id=wanted.extended,
            data=bytes.fromhex(wanted.data),
        )
        try:
            bus.send(message, timeout=0.0)
        except (can.CanError, OSError, ValueError):
            self.counters.bus_errors += 1  # tried again next time; reading tells a dead interface
        else:
            self.counters.sent += 1
            member.counters.sent += 1

    def _works(self, now_s: float) -> None:
        """A frame was heard, or it is open without an error for a while; a controller that left
        the bus is back only when it hears something."""
        self._proven_s, self._delay_s, self.up = math.inf, 0.0, True
        over = self._troubles if self._heard else self._troubles & {Code.CAN_LOST}
        self._troubles -= over
        self._heard = False
        for code in over:
            for member in self.members:
                member.bus_works(code, now_s, f"{self.channel} works")

    def _lost(self, down: CanDownError) -> None:
        self.up = False
        self._troubles |= {down.code}
        for member in self.members:
            member.bus_lost(down.code, self._clock.now_s(), str(down))


@dataclass(frozen=True, slots=True)
class Heard:
    """One identifier on a bus. `period_s` is the mean between its frames, 0 for a single one."""

    count: int
    period_s: float
    length: int
    data: bytes


async def overhear(
    interface: str, channel: str, bitrate: int, serial_baudrate: int, listen_s: float, clock: Clock
) -> Mapping[FrameId, Heard]:
    """Every identifier heard on a bus in so many seconds; nothing is sent. Raises CanDownError."""
    try:
        wanted = arguments(interface, channel, bitrate, serial_baudrate, listen_only=True)
    except ValueError as error:
        raise CanDownError(f"{interface} {channel}: {error}") from error
    opened = await _open(wanted)
    heard: dict[FrameId, tuple[int, float, float, bytes]] = {}
    until_s = clock.now_s() + listen_s
    try:
        while (now_s := clock.now_s()) < until_s:
            messages, more = drain(opened, CanCounters())
            for message in messages:
                if not (message.is_error_frame or message.is_remote_frame):
                    frame_id = message.arbitration_id & ID_MASK, message.is_extended_id
                    count, first_s, _, _ = heard.get(frame_id, (0, now_s, now_s, b""))
                    heard[frame_id] = (count + 1, first_s, now_s, bytes(message.data))
            await clock.sleep_until(now_s if more else now_s + GATHER_S)
    finally:
        await asyncio.to_thread(close_interface, opened.bus)
    return {
        frame_id: Heard(count, (last_s - first_s) / max(count - 1, 1), len(data), data)
        for frame_id, (count, first_s, last_s, data) in heard.items()
    }
