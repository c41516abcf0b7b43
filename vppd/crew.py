"""Who works the connections of a site: one task a connection, which outlives the devices on it only
as long as there is one."""

from vppd.core.ports import Clock
from vppd.field.build import Berth, Field
from vppd.field.drivers.can import CanBus
from vppd.field.drivers.link import Link
from vppd.spine.supervise import Supervisor

LOOK_S = 0.01


class Crew:
    """The tasks of links and buses. A task that ends by itself is a fault of ours, and fatal."""

    def __init__(self) -> None:
        self._supervisor: Supervisor | None = None
        self._tasks: dict[Link | CanBus, str] = {}
        self._made = 0

    def employ(self, field: Field, supervisor: Supervisor) -> None:
        """Give every connection its task."""
        self._supervisor = supervisor
        lines: list[Link | CanBus] = [*field.links, *field.buses]
        for line in lines:
            self._begin(line)

    def join(self, berth: Berth) -> None:
        """A device takes its place; on a new connection, which then begins."""
        berth.join()
        if berth.line not in self._tasks:
            self._begin(berth.line)

    async def leave(self, berth: Berth, clock: Clock) -> None:
        """A device gives up its place; its connection ends with its last one. When this returns
        nothing is heard of it any more."""
        if len(berth.line.members) == 1 and self._supervisor is not None:
            await self._supervisor.end(self._tasks.pop(berth.line))
        berth.leave()
        line, member = berth.line, berth.member
        while isinstance(line, Link) and line.asks(member):  # type: ignore[arg-type]
            await clock.sleep_until(clock.now_s() + LOOK_S)

    def _begin(self, line: Link | CanBus) -> None:
        kind = "link" if isinstance(line, Link) else "can"
        number = sum(each.startswith(kind) for each in self._tasks.values())
        name = f"{kind} {number}"
        while name in self._tasks.values():
            number += 1
            name = f"{kind} {number}"
        if self._supervisor is not None:
            self._tasks[line] = name
            self._supervisor.fatal(name, line.run)
