"""A CAN interface and its one owner: it reads, it sends, it opens again.

python-can's own Notifier is not used: a listener that raises vanishes in it, and an interface that
is gone keeps its file readable for ever, which turns the loop into a storm. Here the file only
wakes the owner; it takes at most `TAKE_MOST` frames in a turn of the loop, then rests a moment, so
that frames come in handfuls and not one wake-up each. Interfaces without a file are asked at that
pace. Opening and closing may block and are done in a thread.

An adapter that is opened by a command (slcan) forgets it when it is reset, and anybody can close
it: then it is silent, and in order by all that can be seen. So after as long a silence as loses a
BMS on it, it is closed and opened anew; that is not told, the lost BMS is.
"""

import asyncio
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import can

from vppd.core.alarms import Code
from vppd.core.ports import Clock
from vppd.field.bms import CanCounters, FrameId
from vppd.field.drivers.can_port import (
    GATHER_S,
    SLCAN,
    CanDownError,
    Opened,
    arguments,
    close_interface,
    drain,
    open_interface,
)
from vppd.field.hear import Bms

REOPEN_S, REOPEN_MAX_S = 0.1, 10.0
PROVEN_S = 1.0  # open for so long without an error, an interface works
TEND_S = 0.05  # a silent bus is looked after so often
STATE_EVERY_S = 1.0
ERROR_BUS_OFF = 0x40  # in the identifier of an error frame, linux/can/error.h
ID_MASK = 0x1FFFFFFF


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
        self._looked_s = self._frame_s = 0.0  # at what came, and when the latest frame did
        self._grace_s = 0.0  # of silence, more each time that opening it anew was in vain
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
        self._looked_s = self._frame_s = self._clock.now_s()
        self._proven_s, self._heard = self._frame_s + PROVEN_S, False
        try:
            while not (self._stopping or self._fell_silent()):
                await self._turn(opened)
        finally:
            await asyncio.to_thread(close_interface, opened)

    def _fell_silent(self) -> bool:
        """Whether an adapter may have been reset, or closed by somebody."""
        if self.interface != SLCAN or not self.members:
            return False
        quiet_s = min(member.quiet_s for member in self.members)
        if self._looked_s - self._frame_s <= quiet_s + self._grace_s:
            return False
        self._grace_s = min(2.0 * self._grace_s + quiet_s, REOPEN_MAX_S)
        return True

    async def _turn(self, opened: Opened) -> None:
        """Take what waits, look after the members, wait for more. Raises CanDownError."""
        messages, more = drain(opened, self.counters)
        now_s = self._looked_s = self._clock.now_s()
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
        self._heard, self._frame_s, self._grace_s = True, at_s, 0.0
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
        close_interface(opening.result())


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
        await asyncio.to_thread(close_interface, opened)
    return {
        frame_id: Heard(count, (last_s - first_s) / max(count - 1, 1), len(data), data)
        for frame_id, (count, first_s, last_s, data) in heard.items()
    }
