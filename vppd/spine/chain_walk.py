"""Walks the chain of hashes over a journal and names the first thing that is broken. Blocking.

It reads entries and rows side by side in the order of writing, in bounded memory, and can begin
after any entry that was verified before: entries are counted up, and so are the ids of each table.
"""

import bisect
import re
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from vppd.spine.chain import CHAINED, START, ChainBroken, Chained, digest, link
from vppd.spine.retention import ranges

_ENTRIES = "SELECT seq, kind, row, digest, hash FROM chain WHERE seq > ? ORDER BY seq"
_BEFORE_ALL = float("-inf")  # an id may be below 0, where nobody would look for one
_NO_TYPE = (TypeError, AttributeError, OverflowError)  # what only another hand puts in a column
_ANCHOR = re.compile(r"\b(\d{1,18}):([0-9a-f]{64})\b")


@dataclass(frozen=True, slots=True)
class Anchor:
    """The newest entry at some time, as it is kept outside of the journal."""

    seq: int
    hash: str

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash}"


ORIGIN = Anchor(0, START)
"""Before the first entry."""


@dataclass(frozen=True, slots=True)
class Walked:
    """What holds: the newest entry, and how many entries of each kind were looked at; `forgotten`
    of them are of rows that were deleted for their age or for room, as the chain says. `odd` names
    those of them that went though older rows are still there: by a clock that was wrong when they
    were written, or by another hand than vppd's."""

    head: Anchor
    entries: Mapping[str, int]
    forgotten: int
    last_ids: Mapping[str, int]  # of each kind, up to the head
    odd: tuple[str, ...] = ()


def anchors_in(text: str) -> list[Anchor]:
    """Every anchor that a text names, such as lines of the system's journal."""
    return [Anchor(int(seq), hash_) for seq, hash_ in _ANCHOR.findall(text)]


def walk(
    connection: sqlite3.Connection,
    after: Anchor = ORIGIN,
    anchors: Collection[Anchor] = (),
    *,
    some: int = 10_000,
    last_ids: Mapping[str, int] | None = None,
) -> Iterator[Walked]:
    """Verify every entry after `after`, whose hash must still be there; what holds so far comes
    after each `some` entries and at the end. `anchors` are what was seen elsewhere, `last_ids` what
    held before came to, where that is known: to look for it takes all entries.

    Raises ChainBroken at the first row or entry that is not as it was written; sqlite3.Error.
    """
    connection.execute("BEGIN")  # one state of the file: the daemon may be writing
    decoded, connection.text_factory = connection.text_factory, _any_text
    try:
        yield from _Walk(connection, after, anchors, last_ids).run(some)
    finally:
        connection.text_factory = decoded
        connection.rollback()


def _any_text(raw: bytes) -> str:
    """What is no UTF-8 is no reason to stop: it differs from what was written."""
    return raw.decode("utf-8", "surrogateescape")


class _Rows:
    """The rows of one table in the order of their ids, each taken once."""

    def __init__(self, connection: sqlite3.Connection, chained: Chained, after: int | None) -> None:
        self._chained = chained
        since = _BEFORE_ALL if after is None else after
        self._cursor = connection.execute(chained.select, (since,))
        self._row = self._cursor.fetchone()

    def take(self, id_: int) -> str | None:
        """The digest of this row; None: it is not there. Raises ChainBroken for a row before it,
        which has no entry."""
        row = self._row
        if row is None or row[0] > id_:
            return None
        if row[0] < id_:
            raise self._inserted(int(row[0]))
        self._row = self._cursor.fetchone()
        try:
            return digest(self._chained.kind, self._chained.columns, row)
        except TypeError:
            return "no column holds such a value"

    def end(self) -> None:
        """Raises ChainBroken when rows are left."""
        if self._row is not None:
            raise self._inserted(int(self._row[0]))

    def _inserted(self, id_: int) -> ChainBroken:
        return ChainBroken(f"{self._chained.kind} {id_} was inserted: the chain has no entry of it")


class _Forgotten:
    """Which ids of which table went for their age or for room."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._ranges: dict[str, list[tuple[int, int]]] = {}
        for kind, ids in connection.execute("SELECT kind, ids FROM forgotten"):
            try:
                self._ranges.setdefault(kind, []).extend(ranges(ids))
            except (ValueError, *_NO_TYPE):
                raise ChainBroken(f"forgotten: {ids!r} are no ids") from None
        for found in self._ranges.values():
            found.sort()

    def has(self, kind: str, id_: int) -> bool:
        """Whether this row was deleted by vppd itself."""
        found = self._ranges.get(kind, [])
        place = bisect.bisect_right(found, (id_, 2**63)) - 1
        return place >= 0 and found[place][0] <= id_ <= found[place][1]

    def after(self, kind: str, id_: int) -> list[tuple[int, int]]:
        """Those from this id on, first and last."""
        return [each for each in self._ranges.get(kind, []) if each[0] > id_]


class _Walk:
    """One pass; its parts are asked in the order of the entries."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        after: Anchor,
        anchors: Collection[Anchor],
        last_ids: Mapping[str, int] | None,
    ) -> None:
        self._connection = connection
        self._anchors: dict[int, set[str]] = {}
        for anchor in anchors:
            self._anchors.setdefault(anchor.seq, set()).add(anchor.hash)
        self._head = after
        self._count: Counter[str] = Counter()
        self._gone = 0
        self._forgotten = _Forgotten(connection)
        if after.seq:
            self._still_there(after)
            self._looked_for(after)
        self._last = self._last_ids(after.seq) if last_ids is None else dict(last_ids)
        self._rows = {
            kind: _Rows(connection, each, self._last.get(kind)) for kind, each in CHAINED.items()
        }

    def run(self, some: int) -> Iterator[Walked]:
        """See `walk`."""
        for number, entry in enumerate(self._connection.execute(_ENTRIES, (self._head.seq,)), 1):
            try:
                self._take(*entry)
            except _NO_TYPE as error:
                raise ChainBroken(f"entry {entry[0]} was changed: {error}") from error
            if number % some == 0:
                yield self._walked()
        for rows in self._rows.values():
            rows.end()
        self._whole()
        yield replace(self._walked(), odd=tuple(self._odd()))

    def _take(self, seq: int, kind: str, id_: int, row_digest: bytes, hash_: bytes) -> None:
        place = f"entry {seq} ({kind} {id_})"
        if seq != self._head.seq + 1:
            raise ChainBroken(f"entry {self._head.seq + 1} was deleted: {place} comes next")
        if link(self._head.hash, row_digest.hex()) != hash_.hex():
            raise ChainBroken(f"{place} does not follow from the one before: changed or moved")
        self._head = Anchor(seq, hash_.hex())
        if self._anchors.get(seq, {self._head.hash}) != {self._head.hash}:
            raise ChainBroken(f"{place} is not what was anchored: the chain was made anew")
        self._row(place, kind, id_, row_digest.hex())
        self._count[kind] += 1

    def _row(self, place: str, kind: str, id_: int, row_digest: str) -> None:
        rows = self._rows.get(kind)
        if rows is None or id_ <= self._last.get(kind, 0):
            raise ChainBroken(f"{place} was moved: it is not in the order of writing")
        self._last[kind] = id_
        found = rows.take(id_)
        if found is None and self._forgotten.has(kind, id_):
            self._gone += 1
        elif found is None:
            raise ChainBroken(f"{kind} {id_} was deleted (entry {self._head.seq})")
        elif found != row_digest:
            raise ChainBroken(f"{kind} {id_} was changed (entry {self._head.seq})")

    def _whole(self) -> None:
        """The end was not cut: SQLite counts the entries ever made, and anchors name some."""
        sql = "SELECT seq FROM sqlite_sequence WHERE name = 'chain'"
        (ever,) = self._connection.execute(sql).fetchone() or (0,)
        newest = max([int(ever), *self._anchors])
        if newest > self._head.seq:
            raise ChainBroken(
                f"the end was cut off: the chain ends with entry {self._head.seq}, there was "
                f"one numbered {newest}"
            )

    def _odd(self) -> Iterator[str]:
        """What went before its turn. Trips that rule stay for ever, so theirs is no order."""
        for kind in CHAINED.keys() - {"trip", "forgotten"}:
            sql = f"SELECT min(id) FROM {kind} WHERE {CHAINED[kind].where}"  # noqa: S608
            (oldest,) = self._connection.execute(sql).fetchone()
            for span in self._forgotten.after(kind, oldest) if oldest is not None else ():
                yield f"{kind} {span[0]}" + (f"-{span[1]}" if span[1] > span[0] else "")

    def _looked_for(self, after: Anchor) -> None:
        """Anchors of before the walk begins."""
        sql = "SELECT lower(hex(hash)) FROM chain WHERE seq = ?"
        for seq, hashes in self._anchors.items():
            if seq <= after.seq:
                found = self._connection.execute(sql, (seq,)).fetchone()
                if found is None or {found[0]} != hashes:
                    raise ChainBroken(f"entry {seq} is not what was anchored")

    def _still_there(self, after: Anchor) -> None:
        sql = "SELECT lower(hex(hash)) FROM chain WHERE seq = ?"
        found = self._connection.execute(sql, (after.seq,)).fetchone()
        if found != (after.hash,):
            raise ChainBroken(f"entry {after.seq} is not what it was when it was verified")

    def _last_ids(self, seq: int) -> dict[str, int]:
        sql = "SELECT kind, max(row) FROM chain WHERE seq <= ? GROUP BY kind"
        return {str(kind): int(id_) for kind, id_ in self._connection.execute(sql, (seq,))}

    def _walked(self) -> Walked:
        return Walked(self._head, dict(self._count), self._gone, dict(self._last))
