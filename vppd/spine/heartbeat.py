"""When to tick: at every new frequency, and at the latest every tenth of a second.

Frequencies that come faster than 40 ms are taken together, the newest counts. While frames come,
the latest moment is a little later than their period, so that a frame and the timer do not both
tick. A beat that was missed is never made up for.
"""

import asyncio
import math
from array import array
from collections.abc import AsyncIterator
from dataclasses import dataclass

from vppd.core.ports import Clock
from vppd.spine.bus import Bus

PERIOD_S = 0.1
GRACE_S = 0.01
APART_S = 0.04
LATE_S = 0.05
LIVE_S = 0.3
KEPT = 600


@dataclass(frozen=True, slots=True)
class Lag:
    """How punctual the ticks were: all, those later than 50 ms, and the last minute's lag."""

    count: int
    late: int
    lag_p50_ms: float
    lag_p99_ms: float
    lag_max_ms: float


class Heartbeat:
    """The beats of one daemon, and how late each came."""

    def __init__(self, bus: Bus, clock: Clock, period_s: float = PERIOD_S) -> None:
        """`period_s`: at the latest."""
        self._bus, self._clock, self._period_s = bus, clock, period_s
        self._lags_s = array("d")
        self._count = self._late = 0

    async def beats(self) -> AsyncIterator[float]:
        """Yield the site clock's seconds at every beat."""
        beat_s, frame_s = self._clock.now_s() - self._period_s, -math.inf
        while True:
            live = beat_s - frame_s < LIVE_S
            due_s = beat_s + self._period_s + (GRACE_S if live else 0.0)
            framed = await self._frequency_before(due_s)
            if framed:
                due_s = max(min(self._clock.now_s(), due_s), frame_s + APART_S)
                await self._clock.sleep_until(due_s)
            beat_s = self._clock.now_s()
            frame_s = beat_s if framed else frame_s
            self._note(beat_s - due_s)
            yield beat_s

    def lag(self) -> Lag:
        """Over all ticks, and over the last minute or so."""
        lags_s = sorted(self._lags_s)
        if not lags_s:
            return Lag(0, 0, 0.0, 0.0, 0.0)
        last = len(lags_s) - 1
        p50_s, p99_s = lags_s[last // 2], lags_s[min(int(last * 0.99 + 0.5), last)]
        return Lag(self._count, self._late, p50_s * 1e3, p99_s * 1e3, lags_s[last] * 1e3)

    async def _frequency_before(self, due_s: float) -> bool:
        """Whether one came; one that waits already counts, however late it is."""
        try:
            async with asyncio.timeout(max(due_s - self._clock.now_s(), 0.0)):
                await self._bus.frequency()
        except TimeoutError:
            return False
        return True

    def _note(self, lag_s: float) -> None:
        lag_s = max(lag_s, 0.0)
        if len(self._lags_s) < KEPT:
            self._lags_s.append(lag_s)
        else:
            self._lags_s[self._count % KEPT] = lag_s
        self._count += 1
        self._late += lag_s > LATE_S
