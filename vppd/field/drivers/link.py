"""The one owner of a connection: it reads, it writes, it reconnects; nobody else touches the line.

Several devices may share a connection (units behind a gateway or on a serial bus, interlock
inputs). Requests go one at a time: a write that is due goes ahead of every queued read, so a read
that is under way delays it by that one request at most. Reads that have waited longer than their
device's patience go between two writes, or a busy bus would go blind. No request is cut short.
"""

import asyncio
import math
from collections.abc import Sequence
from typing import Protocol

from vppd.core.ports import Clock
from vppd.field.drivers.modbus import Endpoint, Line, LinkDown

RECONNECT_S = 0.1
RECONNECT_MAX_S = 10.0
NAP_S = 60.0
TIMER_STEP_S = 0.001  # some loops fire timers up to a millisecond early


class Member(Protocol):
    """One device on a link. It decides what to ask and when; times are `inf` for never."""

    timeout_s: float
    patience_s: float

    def write_due_s(self) -> float:
        """Since when a write waits, or from when one is due."""

    def read_due_s(self) -> float:
        """Since when a read waits, or from when one is due."""

    async def write(self, line: Line) -> bool:
        """Send one write, if still due. True: the device answered."""

    async def read(self, line: Line) -> bool:
        """Send one read, if there is any. True: the device answered."""

    def opened(self) -> None:
        """A new connection: the device may have restarted, it is read before it is written."""

    def lost(self, at_s: float, text: str) -> None:
        """The connection cannot be opened."""


class Link:
    """One connection and the devices on it."""

    def __init__(self, endpoint: Endpoint, clock: Clock, members: Sequence[Member] = ()) -> None:
        self.endpoint = endpoint
        self.members: list[Member] = list(members)
        self._clock = clock
        self._wake = asyncio.Event()
        self._line = Line(endpoint, clock, self.wake)
        self._stopping = False
        self._kept = False  # the last connection was closed by us, the devices lived on
        self._wrote = False
        self._asked: Member | None = None
        self._delay_s = self._retry_s = 0.0

    def join(self, member: Member) -> None:
        """One more device here; on a connection that is open it is read first, as on a new one."""
        self.members.append(member)
        if self._line.connected:
            member.opened()
        self.wake()

    def leave(self, member: Member) -> None:
        """One device less; the last one's connection has to have ended before."""
        self.members.remove(member)

    def asks(self, member: Member) -> bool:
        """Whether a request to it is under way."""
        return self._asked is member

    def wake(self) -> None:
        """Somebody has something to send."""
        self._wake.set()

    def stop(self) -> None:
        """Let `run` return after the request under way."""
        self._stopping = True
        self.wake()

    async def run(self) -> None:
        """Own the connection until `stop` or cancellation. Raises nothing a device can cause."""
        try:
            while not self._stopped():
                self._wake.clear()
                if self._line.connected:
                    await self._serve()
                elif self._clock.now_s() < self._retry_s:
                    await self._idle(self._retry_s)
                else:
                    await self._open()
        finally:
            self._asked = None
            self._line.close()

    def _stopped(self) -> bool:
        # On Python 3.11 a cancellation that coincides with a reply is swallowed on its way here.
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError
        return self._stopping

    async def _open(self) -> None:
        delay_s = min(max(2.0 * self._delay_s, RECONNECT_S), RECONNECT_MAX_S)
        try:
            await self._line.connect(max(member.timeout_s for member in self.members))
        except LinkDown as down:
            for member in self.members:
                member.lost(self._clock.now_s(), str(down))
            self._kept = False
        else:
            if not self._kept:
                for member in self.members:
                    member.opened()
            self._kept = False
        self._delay_s, self._retry_s = delay_s, self._clock.now_s() + delay_s

    async def _serve(self) -> None:
        now_s = self._clock.now_s()
        if now_s < (ready_s := self._line.ready_s()):
            await self._clock.sleep_until(ready_s)
            return
        write_s = read_s = math.inf
        writer = reader = self.members[0]
        for member in self.members:
            if (due_s := member.write_due_s()) < write_s:
                writer, write_s = member, due_s
            if (due_s := member.read_due_s()) < read_s:
                reader, read_s = member, due_s
        starving = self._wrote and now_s - read_s > reader.patience_s
        if write_s <= now_s and not starving:
            self._wrote, self._asked = True, writer
            self._after(await writer.write(self._line))
        elif read_s <= now_s:
            self._wrote, self._asked = False, reader
            self._after(await reader.read(self._line))
        else:
            await self._idle(min(write_s, read_s))

    def _after(self, answered: bool) -> None:
        self._asked = None
        if answered:
            self._delay_s = self._retry_s = 0.0
        elif not self._line.connected:
            self._kept = self._line.closed_by_us

    async def _idle(self, until_s: float) -> None:
        """Wait for the deadline or for `wake`; the caller looks at the clock again."""
        left_s = min(max(until_s - self._clock.now_s(), 0.0), NAP_S)
        loop = asyncio.get_running_loop()
        timer = loop.call_later(left_s + TIMER_STEP_S, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()
