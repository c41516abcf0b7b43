"""How fast a master is heard. hat-drivers reads all that has arrived in one turn of the loop, which
a master that floods can make a second long; here every frame gives the others their turn, and what
comes too fast waits in the network."""

import asyncio
from typing import Any

from hat.drivers.iec60870 import apci
from hat.drivers.iec60870.apci import common

from vppd.core.ports import Clock

FRAMES_PER_S, FRAMES_MAX = 20.0, 60  # commands and tests of a link; an acknowledgment is a tenth
ACKNOWLEDGED_SHARE = 0.1
LINKS_PER_S, LINKS_MAX = 1.0, 60  # new connections of one host


class Pace:
    """A bucket of what may come at once, filled again with time."""

    def __init__(self, clock: Clock, per_s: float, most: int) -> None:
        self._clock, self._per_s, self._most = clock, per_s, float(most)
        self._left, self._at_s = float(most), clock.now_s()

    def allows(self) -> bool:
        """Take one, if there is one."""
        self._fill()
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True

    async def wait(self, share: float = 1.0) -> None:
        """Take one, or a share of one; return when it was there and the others had their turn."""
        self._fill()
        self._left -= share
        if self._left < 0.0:
            await self._clock.sleep_until(self._at_s - self._left / self._per_s)
        else:
            await asyncio.sleep(0)

    def _fill(self) -> None:
        now_s = self._clock.now_s()
        self._left = min(self._left + (now_s - self._at_s) * self._per_s, self._most)
        self._at_s = now_s


def slowed(connection: apci.Connection, clock: Clock) -> None:
    """Have the frames of a new connection read no faster than the pace."""
    transport: Any = connection._transport  # noqa: SLF001  there is no other way in
    read, pace = transport.read, Pace(clock, FRAMES_PER_S, FRAMES_MAX)

    async def paced() -> common.APDU:
        frame = await read()
        await pace.wait(ACKNOWLEDGED_SHARE if isinstance(frame, common.APDUS) else 1.0)
        return frame

    transport.read = paced
