"""The faults that are active in a plant: begun, ended by hand or by time, repeated."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vppd.sim.faults.registry import KINDS, Undo, UnknownFaultError, fits, parameters_of

if TYPE_CHECKING:
    from vppd.sim.plant import Plant

WITHOUT_NAME = ("grid", "meter", "exchange")  # there is one of each at most


@dataclass(slots=True)
class Injected:
    """One fault that is active."""

    name: str
    target: str
    parameters: dict[str, Any]
    undo: Undo
    ends: asyncio.TimerHandle | None = None


class Injector:
    """`targets` are the names there are of each kind of target."""

    def __init__(self, plant: "Plant", targets: Mapping[str, Collection[str]]) -> None:
        self._plant, self._targets = plant, targets
        self.active: list[Injected] = []
        self._timers: set[asyncio.TimerHandle] = set()

    def stop(self) -> None:
        """No fault begins or ends by time any more."""
        for injected in self.active:
            if injected.ends is not None:
                injected.ends.cancel()
        for timer in self._timers:
            timer.cancel()

    # faults
    def inject(
        self, name: str, target: str = "", *, for_s: float | None = None, **parameters: Any
    ) -> None:
        """Begin a fault, for ever or for so long. The same fault there before ends first.

        Raises UnknownFaultError (a ValueError) that lists what there is.
        """
        how = parameters_of(name, parameters)
        if for_s is not None and not (fits(for_s, 0.0) and for_s >= 0.0):
            raise ValueError(f"for_s is seconds, not {for_s!r}")
        kind = KINDS[name]
        if kind.target in WITHOUT_NAME:
            target = kind.target
        elif not target:
            target = self._only(kind.target)
        self.clear(name, target)
        undo = kind.apply(self._plant, target, how)
        if undo is None:
            return
        injected = Injected(name, target, how, undo)
        self.active.append(injected)
        if for_s is not None:
            loop = asyncio.get_running_loop()
            injected.ends = loop.call_later(for_s, self._end, injected)

    def _only(self, kind: str) -> str:
        """The one target there is, when none was named."""
        names = list(self._targets.get(kind, self._targets["unit"]))
        if len(names) != 1:
            raise UnknownFaultError(f"name a {kind}; there are: {', '.join(names) or 'none'}")
        return names[0]

    def clear(self, name: str = "all", target: str = "") -> int:
        """End this fault, or all, of this target, or of every one. How many ended."""
        ending = [
            injected
            for injected in self.active
            if name in ("all", injected.name) and target in ("", injected.target)
        ]
        for injected in ending:
            self._end(injected)
        return len(ending)

    def _end(self, injected: Injected) -> None:
        if injected in self.active:
            self.active.remove(injected)
            injected.undo()
        if injected.ends is not None:
            injected.ends.cancel()

    def repeat(self, act: Callable[[], None], every_s: float) -> Undo:
        """Do this now and every so long until undone."""
        loop = asyncio.get_running_loop()
        timer: asyncio.TimerHandle | None = None

        def again() -> None:
            nonlocal timer
            act()
            if timer is not None:
                self._timers.discard(timer)
            timer = loop.call_later(every_s, again)
            self._timers.add(timer)

        def undo() -> None:
            if timer is not None:
                timer.cancel()
                self._timers.discard(timer)

        again()
        return undo
