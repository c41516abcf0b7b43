"""The seams a test or another site may replace. Everything else is called by its own name."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from vppd.core.model import Cells, Cleared, DeviceReport, Plan, Reading, Synchro, UnitId
from vppd.core.records import Row


class Clock(Protocol):
    """The only source of time."""

    def now_s(self) -> float:
        """Monotonic seconds; never jumps."""

    def utc(self) -> datetime:
        """Wall time, aware, for schedules, journal and people only."""

    async def sleep_until(self, deadline_s: float) -> None:
        """Return when `now_s() >= deadline_s`, never earlier."""


class Board(Protocol):
    """The half of the bus that drivers see."""

    def publish(self, message: Reading | Synchro | Plan | Cells) -> None:
        """Put a value on the board; never blocks, never raises."""


Report = Callable[[DeviceReport], None]


class Actuator(Protocol):
    """The half of a device that only the gate holds. No call blocks; outcomes come as reports."""

    unit: UnitId

    @property
    def releases(self) -> bool:
        """Whether it knows how to give its device back to the device's own control."""

    def offer(self, cleared: Cleared) -> None:
        """Hand over the newest setpoint; it replaces any that was not sent yet."""

    def enable(self, *, on: bool) -> None:
        """Send the profile's enable or disable sequence, before any later setpoint."""

    def release(self) -> None:
        """Once the 0 offered before was read back, write the profile's `release` steps; then tell
        `DeviceNotice(Code.RELEASED)` and write nothing until enabled again."""

    def reset_alarms(self) -> None:
        """Ask the device to reset its own alarms, where its profile can."""

    async def finish(self) -> bool:
        """After the gate offered 0: return when 0 was read back and `on_stop` was written, or when
        the link cannot do it; whether nothing of ours is left in the device. Bounded by the
        caller."""


class Journal(Protocol):
    """Where everything is written down."""

    def append(self, row: Row) -> None:
        """Queue a row; never blocks, never raises. May be lost in the last two seconds."""

    async def commit(self, row: Row) -> bool:
        """Write a row to disk. True: it survives a power cut. False: it could not be written."""

    async def select(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        """Read rows, read-only, off the loop. Raises OSError when the file cannot be read."""
