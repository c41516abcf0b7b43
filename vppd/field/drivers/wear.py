"""Writes that wear a device's non-volatile memory: counted, and bounded by a budget a day.

A write that makes the device safe is counted and never held back: a setpoint of 0, and every step
that switches the device off.
"""

from collections import deque

from vppd.core.profile import DeviceProfile
from vppd.field.drivers.setpoint import Frame, Purpose, is_volatile
from vppd.field.presence import Counters

DAY_S = 86_400.0


class Budget:
    """So many writes in any 24 hours."""

    def __init__(self, per_day: int) -> None:
        self._per_day = per_day
        self._spent: deque[float] = deque()

    def spend(self, now_s: float) -> None:
        """One more write."""
        self._spent.append(now_s)

    def left(self, now_s: float) -> int:
        """How many more writes the day has, never less than 0."""
        while self._spent and now_s - self._spent[0] >= DAY_S:
            self._spent.popleft()
        return max(self._per_day - len(self._spent), 0)


class Wear:
    """The books on one device's memory, in its counters."""

    def __init__(self, profile: DeviceProfile, counters: Counters) -> None:
        self._profile, self._counters = profile, counters
        self._budget = Budget(profile.nvm_writes_per_day)
        self._any = not is_volatile(profile.writes.values())

    def affords(self, frame: Frame, now_s: float, *, off: bool, zero: bool) -> bool:
        """Whether a write may be sent. `off`: steps now make the device safe; `zero`: it is a
        setpoint of 0."""
        safe = zero or (off and frame.purpose is Purpose.STEP)
        return safe or not self._wears(frame) or bool(self._budget.left(now_s))

    def sent(self, frame: Frame, at_s: float) -> None:
        """Count a write, whatever became of it: what was not answered may have worn too."""
        if self._wears(frame):
            self._counters.nvm_writes += 1
            self._budget.spend(at_s)
            self.room(at_s)

    def room(self, now_s: float) -> bool:
        """Whether the day has any write left, and show how many."""
        left = self._budget.left(now_s)
        self._counters.nvm_budget_left = left if self._any else None
        return left > 0

    def _wears(self, frame: Frame) -> bool:
        return not is_volatile(self._profile.writes[write] for write in frame.writes)
