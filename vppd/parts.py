"""The parts of a running site that can be exchanged while it controls: each stands beside the path
from reading to setpoint, and is made of some of the settings.

What is wanted is said by functions of the settings; what runs and is still wanted as it is stays.
All or nothing: everything new is made first, then those with a port take it, with the old one back
in place where that fails, and only then the rest is exchanged.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vppd.core.settings import Settings
from vppd.spine.supervise import Factory, Supervisor


def nothing() -> None:
    """Nothing is looked at."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part, of which nothing runs yet: its tasks by name, and what others see of it. `open`
    takes a port before any task runs, raising OSError; a task takes it by itself where that was not
    done. `close` gives it back. `check` raises ValueError or OSError where a file or a word that it
    needs is wrong: an exchange is refused then; a start is not, for it may come later. `gone` is
    called when it has ended and none of its name follows."""

    tasks: Mapping[str, Factory]
    thing: Any = None
    check: Callable[[], None] = nothing
    gone: Callable[[], None] = nothing
    open: Callable[[], Awaitable[None]] | None = None
    close: Callable[[], Awaitable[None]] | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A part that the settings ask for. While `made_of` is equal the running one is as good."""

    name: str
    made_of: object
    make: Callable[[], Part]  # raises ValueError or OSError where it cannot be
    port: object = None  # of this machine: two parts cannot have one


Wants = Callable[[Settings], Iterable[Wanted]]


class Parts:
    """What runs of some families of parts, and one exchange of them at a time: `prepare`, `open`,
    then `finish` or `undo`."""

    def __init__(self, *wants: Wants) -> None:
        self.wants: list[Wants] = list(wants)
        self._running: dict[str, tuple[Wanted, Part]] = {}
        self._old: dict[str, tuple[Wanted, Part]] = {}
        self._new: dict[str, tuple[Wanted, Part]] = {}
        self._serving: set[str] = set()  # of the new ones
        self._ended: set[str] = set()  # of the old ones
        self._supervisor: Supervisor | None = None

    def make(self, settings: Settings) -> None:
        """Make all that is wanted at the start. Raises ValueError or OSError."""
        for wanted in self.wanted(settings):
            self._running[wanted.name] = wanted, wanted.make()

    def employ(self, supervisor: Supervisor) -> None:
        """Give all of them their tasks. What listens restarts."""
        self._supervisor = supervisor
        for _, part in self._running.values():
            self._begin(part)

    def thing(self, name: str) -> Any:
        """What others see of a part; None where there is none."""
        found = self._running.get(name)
        return found[1].thing if found is not None else None

    def wanted(self, settings: Settings) -> list[Wanted]:
        """All that these settings ask for."""
        return [each for want in self.wants for each in want(settings)]

    def prepare(self, settings: Settings) -> list[str]:
        """Make what these settings ask for and what does not run so. Every reason why not."""
        wanted = {each.name: each for each in self.wanted(settings)}
        self._new, wrong = {}, list[str]()
        for name, each in wanted.items():
            running = self._running.get(name)
            if running is not None and running[0].made_of == each.made_of:
                continue
            try:
                self._new[name] = each, each.make()
                self._new[name][1].check()
            except (ValueError, OSError) as error:
                wrong.append(f"{name}: {getattr(error, 'strerror', None) or error}")
        gone = (name for name in self._running if name not in wanted or name in self._new)
        self._old = {name: self._running[name] for name in gone}
        return wrong

    @property
    def changing(self) -> list[str]:
        """Whom the exchange concerns."""
        return sorted({*self._old, *self._new})

    async def open(self) -> list[str]:
        """Exchange those with a port; why it cannot be, and then all is as it was."""
        held = {wanted.port for wanted, _ in self._old.values() if wanted.port is not None}
        ported = {name: each for name, each in self._new.items() if each[1].open is not None}
        free = [name for name, (wanted, _) in ported.items() if wanted.port not in held]
        wrong = [why for name in free if (why := await self._open(name)) is not None]
        if not wrong:
            for name, (wanted, _) in self._old.items():
                if wanted.port is not None:
                    await self._end(name)
            taken = (name for name in ported if name not in free)
            wrong = [why for name in taken if (why := await self._open(name)) is not None]
        if wrong:
            await self.undo()
            return wrong
        for name, (_, part) in ported.items():
            self._begin(part)
            self._serving.add(name)
        return []

    async def undo(self) -> None:
        """The old ones again; of the new ones nothing is left."""
        for name, (_, part) in self._new.items():
            if name in self._serving:
                await self._cancel(part)
            if part.close is not None:
                await part.close()
        for name in self._ended:
            self._begin(self._old[name][1])
        self._clear()

    async def finish(self, settled: Callable[[], Awaitable[None]] | None = None) -> None:
        """The new ones run, the old ones are gone. `settled` returns when what they wrote down last
        can be read by those that follow."""
        for name in self._old:
            if name not in self._ended:
                await self._end(name)
            del self._running[name]
        if self._old and settled is not None:
            await settled()
        for name, (_, part) in self._old.items():
            if name not in self._new:
                part.gone()
        for name, (_, part) in self._new.items():
            if name not in self._serving:
                self._begin(part)
        self._running |= self._new
        self._clear()

    def _clear(self) -> None:
        self._old, self._new, self._serving, self._ended = {}, {}, set(), set()

    async def _open(self, name: str) -> str | None:
        take = self._new[name][1].open
        try:
            if take is not None:
                await take()
        except OSError as error:
            return f"{name}: {error.strerror or error}"
        return None

    def _begin(self, part: Part) -> None:
        if self._supervisor is not None:
            for name, run in part.tasks.items():
                self._supervisor.restarting(name, run)

    async def _end(self, name: str) -> None:
        self._ended.add(name)
        await self._cancel(self._old[name][1])

    async def _cancel(self, part: Part) -> None:
        if self._supervisor is not None:
            for name in part.tasks:
                await self._supervisor.end(name)
