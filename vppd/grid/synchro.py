"""What a PMU's frame is worth: its quality, its place in the sequence, its delay. Pure.

Age needs no common clock. The offset (arrival minus the PMU's own time stamp) of the fastest frame
of the last minute is taken as no delay at all; what a frame is later than that is its delay.
"""

import math
from collections import deque
from dataclasses import dataclass

from vppd.core.model import Quality
from vppd.core.settings import BandSettings
from vppd.grid.c37118 import Stamp
from vppd.grid.c37118_data import Stat

WINDOW_S = 60.0
WINDOW_SLOTS = 12
STEP_BACK_S = 0.15
GAP_PERIODS = 1.5
_DATA_ERROR = (
    "",
    "PMU error, no data",
    "PMU in test mode or data absent",
    "PMU error",
)


def clock_fault(stat: Stat, stamp: Stamp, error_max_s: float) -> str:
    """Why the time of this frame is not to be trusted by its own word; empty when it is."""
    if stamp.clock_failed:
        return "clock failure"
    if stat.sync_lost:
        return "clock not synchronised"
    if stamp.error_s is None or stamp.error_s > error_max_s:
        return f"stated time error above {error_max_s:g} s"
    if stat.time_error_s is not None and stat.time_error_s > error_max_s:
        return f"PMU time error above {error_max_s:g} s"
    return ""


def judge(frequency_hz: float, stat: Stat, fault: str, bands: BandSettings) -> tuple[Quality, str]:
    """Whether the frequency may be believed, and every reason why not. `fault` is what
    `clock_fault` says. The words hold no changing numbers, so that they can be compared."""
    if stat.data_error:
        return Quality.MISSING, _DATA_ERROR[stat.data_error]
    if not math.isfinite(frequency_hz):
        return Quality.MISSING, "no frequency in the frame"
    low_hz, high_hz = bands.plausible_low_hz, bands.plausible_high_hz
    if low_hz <= frequency_hz <= high_hz:
        return (Quality.IMPLAUSIBLE, fault) if fault else (Quality.GOOD, "")
    outside = f"frequency outside {low_hz:g} to {high_hz:g} Hz"
    return Quality.IMPLAUSIBLE, f"{outside}; {fault}" if fault else outside


class _WindowMinimum:
    """The least value of the last minute, in slots of five seconds: bounded, and what is a minute
    old is forgotten."""

    _SLOT_S = WINDOW_S / WINDOW_SLOTS

    def __init__(self) -> None:
        self._least: deque[float] = deque(maxlen=WINDOW_SLOTS)
        self._slot = 0

    def add(self, value: float, at_s: float) -> float:
        """Take a value, give the least of the window."""
        slot = int(at_s // self._SLOT_S)
        passed = slot - self._slot if self._least else 1
        self._least.extend([math.inf] * min(passed, WINDOW_SLOTS))
        self._slot = slot
        self._least[-1] = min(self._least[-1], value)
        return min(self._least)

    def clear(self) -> None:
        self._least.clear()


@dataclass(frozen=True, slots=True)
class SequenceCounts:
    """What was wrong with the order of frames so far."""

    duplicates: int = 0
    late: int = 0  # older than a frame before them
    gaps: int = 0  # times that frames are missing in between
    clock_steps: int = 0  # times that the PMU's clock went back


class Sequence:
    """Puts the frames of one PMU in order by its own time stamps.

    Duplicates and older frames are refused. A PMU whose clock steps back sends nothing but older
    frames: after 0.15 s of them the new time is accepted, so such a step (or an inserted leap
    second, which repeats a second) costs two frames at ten a second. A step forward shows as a gap.
    A step back by less than that counts as delay until the window has passed, 60 s at most.
    """

    def __init__(self) -> None:
        self._offsets = _WindowMinimum()
        self._newest_s = -math.inf
        self._older_since_s: float | None = None
        self._duplicates = self._late = self._gaps = self._steps = 0

    def place(self, stamp_s: float, arrived_s: float, period_s: float) -> float | None:
        """Delay of the frame above the fastest of the last minute, seconds; None: refused.

        `stamp_s` is the PMU's time, `arrived_s` monotonic, `period_s` between frames (0: unknown).
        """
        if stamp_s == self._newest_s:
            self._duplicates += 1
            return None
        if stamp_s < self._newest_s:
            if not self._stepped_back(arrived_s):
                self._late += 1
                return None
            self._steps += 1
            self._offsets.clear()
        elif period_s and stamp_s - self._newest_s > GAP_PERIODS * period_s:
            self._gaps += self._newest_s > -math.inf
        self._newest_s, self._older_since_s = stamp_s, None
        offset_s = arrived_s - stamp_s
        return offset_s - self._offsets.add(offset_s, arrived_s)

    @property
    def counts(self) -> SequenceCounts:
        """So far."""
        return SequenceCounts(self._duplicates, self._late, self._gaps, self._steps)

    def _stepped_back(self, arrived_s: float) -> bool:
        if self._older_since_s is None:
            self._older_since_s = arrived_s
        return arrived_s - self._older_since_s >= STEP_BACK_S
