"""The site clock: the only place that asks the machine what time it is."""

import asyncio
import time
from datetime import UTC, datetime


class SystemClock:
    """Monotonic time for ages and leases, wall time for schedules and people.

    uvloop caches its own time and fires timers up to a millisecond early, so deadlines are judged
    by the monotonic clock here, never by the loop's.
    """

    def now_s(self) -> float:
        return time.monotonic()

    def utc(self) -> datetime:
        return datetime.now(UTC)

    async def sleep_until(self, deadline_s: float) -> None:
        while (left_s := deadline_s - self.now_s()) > 0.0:
            await asyncio.sleep(left_s)
