"""One BMS on CAN: which of its frames are due, and how they go wrong when told to."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vppd.core.settings import BmsSettings
from vppd.sim.can.frames import KEEP_ALIVE, MODELS, FrameKind
from vppd.sim.can.view import BmsFaults, BmsView, look
from vppd.sim.unit import SimUnit

LAST_11_BIT = 0x7FF
WHOLE_FRAME = 8
NOBODYS_ID = 0x1F00_0000  # garbage that nobody knows is 29-bit, from here on
NEVER_S = float("inf")


@dataclass(frozen=True, slots=True)
class CanFrame:
    """One frame."""

    identifier: int
    data: bytes
    extended: bool = False


class SimBms:
    """The BMS of one unit. Raises ValueError for a model it does not know, and for an offset that
    leads out of the 11-bit identifiers."""

    def __init__(self, settings: BmsSettings, unit: SimUnit, now_s: float, seed: int) -> None:
        if settings.dbc not in MODELS:
            known = ", ".join(MODELS)
            raise ValueError(f"{unit.id}: the plant knows the BMSs {known}, not {settings.dbc}")
        self.settings, self.unit, self.faults = settings, unit, BmsFaults()
        self.last: dict[int, bytes] = {}  # sent, by identifier
        self.keep_alives, self.heard_s = 0, -NEVER_S
        self._kinds = MODELS[settings.dbc]
        if max(self.identifiers) > LAST_11_BIT:
            raise ValueError(f"{unit.id}: id_offset leads beyond the 11-bit CAN identifiers")
        self._due_s = {kind.identifier: now_s for kind in self._kinds}
        self._garbage_due_s = NEVER_S
        self._draw = random.Random(seed)  # noqa: S311  (a simulation, not a secret)

    @property
    def identifiers(self) -> set[int]:
        """What it sends under."""
        return {kind.identifier + self.settings.id_offset for kind in self._kinds}

    @property
    def next_s(self) -> float:
        """When something is due."""
        return min(*self._due_s.values(), self._garbage_due_s)

    def hear(self, identifier: int, now_s: float) -> None:
        """A frame of somebody else."""
        if identifier == KEEP_ALIVE + self.settings.id_offset:
            self.keep_alives, self.heard_s = self.keep_alives + 1, now_s

    def view(self, now_s: float) -> BmsView:
        """What it sees now."""
        self.unit.advance(now_s)
        return look(self.unit.battery, self.faults)

    def due(self, now_s: float) -> Iterator[CanFrame]:
        """What is to be sent now; late ones are not made up for."""
        kinds = [kind for kind in self._kinds if self._due_s[kind.identifier] <= now_s]
        for kind in kinds:
            on_time_s = self._due_s[kind.identifier] + kind.period_s
            late_s = now_s + kind.period_s
            self._due_s[kind.identifier] = on_time_s if on_time_s > now_s else late_s
        if self.faults.is_silent:
            self._garbage_due_s = NEVER_S  # what is never sent may not stay due
            return
        view = self.view(now_s) if kinds else None
        if view is not None:
            yield from (self._frame(kind, view) for kind in kinds)
        yield from self._garbage(now_s)

    def _frame(self, kind: FrameKind, view: BmsView) -> CanFrame:
        identifier = kind.identifier + self.settings.id_offset
        if not (self.faults.is_frozen and identifier in self.last):
            data = kind.encode(view)
            self.last[identifier] = data[: max(len(data) - self.faults.missing_bytes, 0)]
        return CanFrame(identifier, self.last[identifier])

    def _garbage(self, now_s: float) -> Iterator[CanFrame]:
        """Unknown frames, and its own too short or too long: no whole one with wrong values."""
        if self.faults.garbage_per_s <= 0.0:
            self._garbage_due_s = NEVER_S
            return
        period_s = 1.0 / self.faults.garbage_per_s
        if self._garbage_due_s > now_s + period_s:
            self._garbage_due_s = now_s
        while self._garbage_due_s <= now_s:
            self._garbage_due_s += period_s
            yield self._scrap()

    def _scrap(self) -> CanFrame:
        draw = self._draw
        known = [(identifier, data) for identifier, data in self.last.items() if data]
        pick = draw.randrange(3)
        if pick == 0 or not known:
            identifier = NOBODYS_ID + draw.randrange(0x1000)
            return CanFrame(identifier, draw.randbytes(draw.randrange(9)), extended=True)
        if pick == 1:
            identifier, data = draw.choice(known)
            return CanFrame(identifier, data[: draw.randrange(len(data))])
        longer = [each for each in known if len(each[1]) < WHOLE_FRAME] or known
        identifier, data = draw.choice(longer)
        return CanFrame(identifier, data.ljust(WHOLE_FRAME, b"\0"))

    def state(self) -> dict[str, Any]:
        """What it said last and heard, in plain values."""
        frames = {f"{identifier:#05x}": data.hex(" ") for identifier, data in self.last.items()}
        return {"model": self.settings.dbc, "frames": frames, "keep_alives": self.keep_alives}
