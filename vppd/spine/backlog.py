"""Rows that wait for the disk: bounded memory, the dispensable given up first. Pure."""

import asyncio
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass

from vppd.core.records import Row
from vppd.spine.schema import TABLES, Table, Values, bind, weight

_TAKE_BYTES = 256 * 1024  # a transaction is short, and smaller than the room the file keeps free


@dataclass(frozen=True, slots=True)
class Entry:
    """One row on its way to the disk, and who awaits it."""

    table: Table
    values: Values
    weight_bytes: int
    awaited: asyncio.Future[bool] | None = None

    def settle(self, *, on_disk: bool) -> None:
        """Answer whoever still waits."""
        if self.awaited is not None and not self.awaited.done():
            self.awaited.set_result(on_disk)


class Backlog:
    """One queue a table, all together within `max_bytes`.

    When there is no room the oldest row of the most dispensable table goes, and is counted:
    readings first, trips last. A batch taken for writing is outside the bound (it is short): what
    is on its way must not push out what comes meanwhile and matters more.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._queues: dict[str, deque[Entry]] = {table.name: deque() for table in TABLES.values()}
        self._bytes = 0
        self._taken = 0
        self._awaited: set[asyncio.Future[bool]] = set()
        self.dropped: Counter[str] = Counter()  # by table, since the last `forget_drops`
        self.dropped_total = 0
        self.refused_text = ""  # why the last row that no column takes was refused

    def __len__(self) -> int:
        """Rows that wait; those taken for writing are in `unwritten` too."""
        return sum(len(queue) for queue in self._queues.values())

    @property
    def unwritten(self) -> int:
        """Rows that are not on disk yet."""
        return len(self) + self._taken

    @property
    def weight_bytes(self) -> int:
        """About how much memory the waiting rows take."""
        return self._bytes

    def add(self, row: Row, awaited: asyncio.Future[bool] | None = None) -> None:
        """Queue a row; never raises. One that no column takes counts as dropped."""
        try:
            values = bind(row)
            table = TABLES[type(row)]
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            self.refused_text = f"{type(row).__name__}: {error}"
            self._count(type(row).__name__)
            if awaited is not None and not awaited.done():
                awaited.set_result(False)
            return
        if awaited is not None:
            self._awaited.add(awaited)
            awaited.add_done_callback(self._awaited.discard)
        entry = Entry(table, values, weight(values), awaited)
        self._queues[table.name].append(entry)
        self._bytes += entry.weight_bytes
        self._make_room()

    def take(self, max_rows: int, max_bytes: int = _TAKE_BYTES) -> list[Entry]:
        """The next rows to write, the least dispensable tables first, each in its order."""
        batch: list[Entry] = []
        for queue in reversed(self._queues.values()):
            while queue and len(batch) < max_rows and max_bytes > 0:
                entry = queue.popleft()
                self._bytes -= entry.weight_bytes
                max_bytes -= entry.weight_bytes
                batch.append(entry)
        self._taken += len(batch)
        return batch

    def written(self, batch: Iterable[Entry]) -> None:
        """The batch is on disk."""
        for entry in batch:
            self._taken -= 1
            entry.settle(on_disk=True)

    def failed(self, batch: list[Entry]) -> None:
        """The disk did not take the batch: it waits again, and whoever awaits a row is told."""
        self.put_back(batch)
        for awaited in [*self._awaited]:
            if not awaited.done():
                awaited.set_result(False)

    def put_back(self, batch: Iterable[Entry]) -> None:
        """The batch was not written: it waits again, in its old order."""
        for entry in reversed(list(batch)):
            self._taken -= 1
            self._bytes += entry.weight_bytes
            self._queues[entry.table.name].appendleft(entry)
        self._make_room()

    def refuse(self, entry: Entry, why: str) -> None:
        """A row taken for writing that the database will never take."""
        self.refused_text = f"{entry.table.name}: {why}"
        self._taken -= 1
        entry.settle(on_disk=False)
        self._count(entry.table.name)

    def forget_drops(self) -> Counter[str]:
        """What was dropped since the last call, by table."""
        dropped, self.dropped = self.dropped, Counter()
        self.refused_text = ""
        return dropped

    def _make_room(self) -> None:
        while self._bytes > self._max_bytes:
            queue = next(queue for queue in self._queues.values() if queue)
            entry = queue.popleft()
            self._bytes -= entry.weight_bytes
            entry.settle(on_disk=False)
            self._count(entry.table.name)

    def _count(self, name: str) -> None:
        self.dropped[name] += 1
        self.dropped_total += 1
