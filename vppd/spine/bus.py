"""The in-process bus: a board with the last value of everything, not a mailbox.

Every layer samples it on its own tick, so there is no queue to fill and nothing to drop. Publish is
a plain call: no await, so no other task runs between a read and its publish.
"""

import asyncio
from collections.abc import Callable

from vppd.core.model import Cells, Plan, Point, Reading, Snapshot, Synchro, UnitId
from vppd.core.ports import Clock

Message = Reading | Synchro | Plan | Cells
Tap = Callable[[Message], None]


class Bus:
    """One board for the whole process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._taps: list[Tap] = []
        self._readings: dict[tuple[UnitId, Point], Reading] = {}
        self._synchros: dict[UnitId, Synchro] = {}
        self._cells: dict[UnitId, Cells] = {}
        self._plans: dict[tuple[UnitId, str], Plan] = {}
        self._frequency = asyncio.Event()

    def tap(self, tap: Tap) -> None:
        """Show every later message to `tap` too: the journal, a stream, a test."""
        self._taps.append(tap)

    def untap(self, tap: Tap) -> None:
        """Show it nothing more."""
        self._taps.remove(tap)

    def publish(self, message: Message) -> None:
        """Put a value on the board. A new frequency wakes whoever awaits one."""
        if isinstance(message, Reading):
            self._readings[message.unit, message.point] = message
        elif isinstance(message, Synchro):
            self._synchros[message.source] = message
            self._frequency.set()
        elif isinstance(message, Cells):
            self._cells[message.unit] = message
        else:
            self._plans[message.unit, message.source] = message
        for tap in self._taps:
            tap(message)

    def withdraw(self, unit: UnitId, source: str) -> None:
        """Take a plan back entirely."""
        self._plans.pop((unit, source), None)

    def forget(self, source: UnitId, *, plans: bool = False) -> None:
        """What a device or a frequency source said, for it is gone or another now; with `plans`
        what was asked of it too."""
        for key in [key for key in self._readings if key[0] == source]:
            del self._readings[key]
        self._synchros.pop(source, None)
        self._cells.pop(source, None)
        for asked in [key for key in self._plans if plans and key[0] == source]:
            del self._plans[asked]

    def snapshot(self) -> Snapshot:
        """All that is known now, frozen."""
        return Snapshot(
            self._clock.now_s(),
            self._clock.utc(),
            dict(self._readings),
            dict(self._synchros),
            dict(self._cells),
        )

    def plans(self) -> tuple[Plan, ...]:
        """The plans alive now; the expired are forgotten."""
        now_s = self._clock.now_s()
        dead = [key for key, plan in self._plans.items() if now_s >= plan.valid_until_s]
        for key in dead:
            del self._plans[key]
        return tuple(self._plans.values())

    async def frequency(self) -> None:
        """Return when a frequency was published since the last call returned."""
        await self._frequency.wait()
        self._frequency.clear()
