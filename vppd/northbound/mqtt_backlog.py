"""Store and forward: what of the journal was sent, and what comes next.

A cursor moves when the broker has acknowledged. What is kept over restarts, and gone back to after
a break, is the cursor of `repeat_s` ago: a broker that crashes loses what it had acknowledged and
not yet delivered. The far side knows sequences, so what comes twice counts once. Repeating does not
make a row young again: a link that breaks more often than `repeat_s` must get on too.
"""

import json
from collections import deque
from collections.abc import Callable, Sequence
from uuid import uuid4

from vppd.core.ports import Clock, Journal
from vppd.core.records import KeptRow
from vppd.northbound.mqtt_messages import Stored

KEEP_EVERY_S = 5.0
Make = Callable[[str, int, int, Sequence[object]], Stored]
Gap = Callable[[str, int, int], Stored]


class Cursor:
    """How far a stream was sent, and how far that is safe."""

    def __init__(self, epoch: str, seq: int) -> None:
        self.epoch, self.sent = epoch, seq
        self._safe = seq
        self._acknowledged: deque[tuple[float, int]] = deque()

    def advance(self, seq: int, now_s: float) -> None:
        """The broker has taken all up to `seq`; what it had taken before is no younger for it."""
        self.sent = seq
        if seq > (self._acknowledged[-1][1] if self._acknowledged else self._safe):
            self._acknowledged.append((now_s, seq))

    def safe(self, now_s: float, repeat_s: float) -> int:
        """The last that was acknowledged at least `repeat_s` ago."""
        while self._acknowledged and self._acknowledged[0][0] <= now_s - repeat_s:
            self._safe = self._acknowledged.popleft()[1]
        return self._safe

    def break_off(self, now_s: float, repeat_s: float) -> None:
        """The link is new: send again what was first acknowledged less than `repeat_s` ago."""
        self.sent = min(self.sent, self.safe(now_s, repeat_s))

    def back_to(self, seq: int) -> None:
        """Send again what comes after `seq`, as if for the first time; never skips ahead."""
        self.sent, self._safe = min(self.sent, seq), min(self._safe, seq)
        self._acknowledged.clear()


class Stream:
    """One table of the journal on its way to the broker."""

    def __init__(
        self,
        name: str,
        columns: str,
        journal: Journal,
        clock: Clock,
        make: Make,
        gap: Gap,
        *,
        repeat_s: float,
        most_rows: int,
        from_now: bool,
    ) -> None:
        """`name` is the table, `columns` what `make` gets of it after id and at. `from_now`: at
        the very first start nothing old is sent."""
        self.name = name
        self._journal, self._clock, self._make, self._gap = journal, clock, make, gap
        self._repeat_s, self._most_rows, self._from_now = repeat_s, most_rows, from_now
        self._next = f"SELECT id, at, {columns} FROM {name} WHERE id > ? ORDER BY id LIMIT ?"  # noqa: S608
        # a table that retention emptied still knows where it was
        self._newest = (
            f"SELECT max((SELECT coalesce(max(id), 0) FROM {name}), coalesce((SELECT seq "  # noqa: S608
            f"FROM sqlite_sequence WHERE name = '{name}'), 0))"
        )
        self._cursor: Cursor | None = None
        self._kept: tuple[str, int] | None = None
        self._kept_s = -KEEP_EVERY_S

    @property
    def key(self) -> str:
        """Under which name the cursor is kept."""
        return f"mqtt {self.name}"

    async def recall(self) -> None:
        """Know where the last run was. Raises OSError when the journal cannot be read."""
        if self._cursor is None:
            found = await self._journal.select(
                "SELECT value_json FROM kept WHERE name = ?", [self.key]
            )
            if found:
                value = json.loads(str(found[0][0]))
                self._cursor = Cursor(str(value["epoch"]), int(value["seq"]))
            else:
                last = await self._last()
                self._cursor = Cursor(uuid4().hex, last if self._from_now else 0)
        if await self._last() < self._cursor.sent:  # another journal than the one it counts
            self._cursor = Cursor(uuid4().hex, 0)
        self._keep()

    def begin(self) -> None:
        """A new link: what may have been lost with the last one goes again."""
        self._known().break_off(self._clock.now_s(), self._repeat_s)

    def resend(self, seq: int) -> int:
        """Begin again at `seq`; the sequence that comes next."""
        cursor = self._known()
        cursor.back_to(max(seq - 1, 0))
        return cursor.sent + 1

    async def next(self, count: int) -> list[Stored]:
        """What follows the cursor, a gap among it where rows are gone. Raises OSError."""
        cursor = self._known()
        at_seq, found = cursor.sent, []
        newest = await self._last()
        if newest - at_seq > self._most_rows:
            found.append(self._missing(cursor, at_seq + 1, newest - self._most_rows))
            at_seq = newest - self._most_rows
        for row in await self._journal.select(self._next, [at_seq, count]):
            seq, at = int(str(row[0])), int(str(row[1]))
            if seq != at_seq + 1:
                found.append(self._missing(cursor, at_seq + 1, seq - 1))
            found.append(self._make(cursor.epoch, seq, at, row[2:]))
            at_seq = seq
        return found

    def instead(self, stored: Stored) -> Stored:
        """A gap in the place of what the broker never takes."""
        return self._missing(self._known(), stored.seq, stored.seq)

    def taken(self, stored: Stored, after: int) -> None:
        """The broker has acknowledged it, when the cursor still stands where it was sent from."""
        cursor = self._known()
        if cursor.sent == after:
            cursor.advance(stored.seq, self._clock.now_s())
            self._keep()

    @property
    def sent(self) -> int:
        """The last sequence that the broker acknowledged; 0 before the journal was asked."""
        return self._cursor.sent if self._cursor is not None else 0

    def _missing(self, cursor: Cursor, first: int, last: int) -> Stored:
        return self._gap(cursor.epoch, first, last)

    def _keep(self) -> None:
        """Write the cursor down, seldom: what is sent twice for it does no harm."""
        cursor, now_s = self._known(), self._clock.now_s()
        kept = cursor.epoch, cursor.safe(now_s, self._repeat_s)
        if kept != self._kept and (self._kept is None or now_s - self._kept_s >= KEEP_EVERY_S):
            value = json.dumps({"epoch": kept[0], "seq": kept[1]})
            self._journal.append(KeptRow(self._clock.utc(), self.key, value))
            self._kept, self._kept_s = kept, now_s

    def _known(self) -> Cursor:
        if self._cursor is None:
            raise RuntimeError("asked before it was recalled")
        return self._cursor

    async def _last(self) -> int:
        ((newest,),) = await self._journal.select(self._newest)
        return int(str(newest))
