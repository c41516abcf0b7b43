"""An answer that costs something is made once in a while, however many ask for it."""

import asyncio
from collections.abc import Awaitable, Callable

from vppd.core.ports import Clock


class Once:
    """Keeps what was made last."""

    def __init__(self, clock: Clock, again_s: float) -> None:
        self._clock, self._again_s = clock, again_s
        self._made: tuple[float, bytes] | None = None
        self._turn = asyncio.Lock()

    async def given(self, make: Callable[[], Awaitable[bytes]]) -> bytes:
        """What was made less than `again_s` ago, else what is made now."""
        async with self._turn:
            now_s = self._clock.now_s()
            if self._made is None or now_s - self._made[0] >= self._again_s:
                self._made = now_s, await make()
            return self._made[1]
