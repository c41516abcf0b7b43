"""How much this process writes to disk a day, as the kernel counts it, against a budget.

Of Linux alone (`/proc/self/io`); what goes to a file system in memory does not count, what the
write-ahead log writes and then the checkpoint writes again counts twice, as the flash feels it.
"""

from collections import deque
from dataclasses import dataclass
from pathlib import Path

from vppd.core.ports import Clock

_MB = 1e6
_DAY_S = 86_400.0
_SAMPLE_S = 600.0
_JUDGED_S = 1800.0  # a start writes more than a day has of it


@dataclass(frozen=True, slots=True)
class DiskStatus:
    """`written_mb` since the start; `mb_per_day` at the rate of the last day, or since it was asked
    for the last time before; None where it is not known (yet)."""

    written_mb: float | None
    mb_per_day: float | None
    budget_mb_per_day: int
    over_budget: bool


class DiskWrites:
    """Ask `status()` now and then: it samples what it needs."""

    def __init__(
        self, clock: Clock, budget_mb_per_day: int, counters: Path = Path("/proc/self/io")
    ) -> None:
        self._clock = clock
        self._budget_mb_per_day = budget_mb_per_day
        self._counters = counters
        self._samples: deque[tuple[float, int]] = deque()
        self._first: int | None = None

    def status(self) -> DiskStatus:
        """What is known now."""
        written = self._written_bytes()
        if written is None:
            return DiskStatus(None, None, self._budget_mb_per_day, over_budget=False)
        now_s = self._clock.now_s()
        if self._first is None:
            self._first = written
        if not self._samples or now_s - self._samples[-1][0] >= _SAMPLE_S:
            self._samples.append((now_s, written))
        while len(self._samples) > 1 and now_s - self._samples[1][0] >= _DAY_S:
            self._samples.popleft()  # one from before the day stays: who asks seldom is told too
        begin_s, begin = self._samples[0]
        span_s = now_s - begin_s
        known = span_s >= _JUDGED_S
        mb_per_day = (written - begin) / _MB * _DAY_S / span_s if known else None
        return DiskStatus(
            (written - self._first) / _MB,
            mb_per_day,
            self._budget_mb_per_day,
            over_budget=mb_per_day is not None and mb_per_day > self._budget_mb_per_day,
        )

    def _written_bytes(self) -> int | None:
        """Handed to block devices since the process began; memory, never a disk, is asked."""
        try:
            lines = self._counters.read_text(encoding="ascii").splitlines()
            return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes:"))
        except (OSError, ValueError, StopIteration, IndexError):
            return None
