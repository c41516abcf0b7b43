"""The heartbeat of the site. Ten times a second: what is known, what is owed, who does it, is it
safe.

One snapshot at one instant is shared by everyone; nothing here awaits a device. `duty.owe` is the
whole decision before the gate, as a pure sum.
"""

import asyncio
from collections.abc import Callable

from vppd.core.decision import Decision
from vppd.core.model import Snapshot
from vppd.duty import Duty, Memory, owe
from vppd.field.gate import Gate
from vppd.grid.frequency import Frequency
from vppd.spine.bus import Bus
from vppd.spine.heartbeat import Heartbeat
from vppd.spine.recorder import UNRECORDED, Unrecorded

Told = Callable[[Decision, Frequency | None, Snapshot], None]


class Tick:
    """Runs for ever; `duty` may be exchanged between two beats."""

    def __init__(
        self,
        duty: Duty,
        bus: Bus,
        gate: Gate,
        heartbeat: Heartbeat,
        told: Told,
        tape: Unrecorded = UNRECORDED,
    ) -> None:
        self.duty = duty
        self.memory = Memory()
        self._bus, self._gate, self._heartbeat, self._told = bus, gate, heartbeat, told
        self._tape = tape

    async def run(self) -> None:
        """Snapshot, owed, shared, gate; then tell what was decided, once the writers had a turn."""
        async for _ in self._heartbeat.beats():
            decided = self.once()
            try:
                await asyncio.sleep(0)
            finally:
                self._told(*decided)

    def once(self) -> tuple[Decision, Frequency | None, Snapshot]:
        """One beat: what was decided, on which frequency and what else was known."""
        now, plans = self._bus.snapshot(), self._bus.plans()
        self._tape.begun(now, plans, self.duty, self.memory)
        rooms = self._gate.room(now)
        reaches_kw, tree = self._gate.reaches(now), self._gate.tree(now)
        owed, self.memory = owe(now, plans, rooms, self.duty, self.memory, reaches_kw, tree)
        cleared = {each.unit: each for each in self._gate.submit(now, owed.requests)}
        self._tape.ended(owed.requests, cleared)
        frequency, droop = owed.frequency, owed.droop
        base_kw = sum(request.base_kw for request in owed.requests)
        decision = Decision(
            now.now_s,
            now.utc,
            owed.base.source,
            owed.base.power_kw,
            base_kw,
            droop.owed_kw,
            droop.asked_kw,
            owed.base_kw + droop.owed_kw,
            sum(each.power_kw for each in cleared.values()),
            frequency.frequency_hz if frequency is not None else None,
            now.now_s - frequency.at_s if frequency is not None else None,
            frequency.source if frequency is not None else "",
            droop.rocof_hz_per_s,
            owed.clamps,
            {request.unit: request for request in owed.requests},
            cleared,
            droop.curve_kw,
            droop.ffr_kw,
            owed.promise,
            owed.riding,
        )
        return decision, frequency, now
