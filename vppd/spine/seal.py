"""Seals of frequency events: what their 100 ms rows were, in a row of the audit chain.

Rows of evidence are too many to be chained one by one. Some minutes after an event one row of
`command`, by vppd itself and with the verb `seal`, has their number and the SHA-256 of them all,
and the chain with its anchors holds that row. So whoever reads the event in years can tell whether
a row of it was changed, deleted or added since: `vppd report event` does, and anybody may who has
the file: `ROWS_SQL` from `from_at` to `to_at`, a line a row, the stored whole numbers with commas
between them and nothing for NULL, each line ended by a line feed.
"""

import asyncio
import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path

from vppd.core.ports import Clock, Journal
from vppd.core.records import CommandRow
from vppd.spine.schema import from_micros, micros
from vppd.spine.store import connect

VERB, USER, UNIT = "seal", "vppd", "site"
EVERY_S = 120.0
SETTLE_S = 120.0  # after the last row of an event: rows wait for the disk
LOOK_BACK = timedelta(days=7)

ROWS_SQL = """SELECT at, frequency_hz, rocof_hz_per_s, base_kw, droop_curve_kw, ffr_kw, droop_kw,
    cleared_kw, measured_kw, unmeasured FROM evidence_row WHERE at >= ? AND at <= ? ORDER BY at"""
_EVENTS_SQL = """SELECT data_json FROM event WHERE code = 'frequency_event' AND at > ? AND at < ?
    ORDER BY at"""
_SEALS_SQL = "SELECT at, body_json FROM command WHERE verb = 'seal' AND at >= ? ORDER BY id"


@dataclass(frozen=True, slots=True)
class Seal:
    """What the rows of one event were. All times in microseconds since 1970 UTC."""

    event: str
    begin_at: int
    end_at: int
    from_at: int
    to_at: int
    rows: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Sealed:
    """The seal of an event, and how many rows there are now; `holds`: they are the very same."""

    at: datetime
    seal: Seal
    rows_now: int
    holds: bool


def digest_of(journal: sqlite3.Connection, from_at: int, to_at: int) -> tuple[int, str]:
    """How many rows there are, and their SHA-256. Raises sqlite3.Error."""
    count, digest = 0, hashlib.sha256()
    for row in journal.execute(ROWS_SQL, (from_at, to_at)):
        line = ",".join("" if each is None else str(each) for each in row)
        digest.update(f"{line}\n".encode())
        count += 1
    return count, digest.hexdigest()


def seal_of(journal: sqlite3.Connection, event: str, begin_at: int) -> Sealed | None:
    """The first seal of this event, compared with its rows; None where there is none. Raises
    sqlite3.Error."""
    for at, seal in _seals(journal, begin_at):
        if (seal.event, seal.begin_at) == (event, begin_at):
            now = digest_of(journal, seal.from_at, seal.to_at)
            return Sealed(from_micros(at), seal, now[0], now == (seal.rows, seal.sha256))
    return None


def unsealed(journal: sqlite3.Connection, utc: datetime) -> list[Seal]:
    """Seals for the events of the last days that have none. Raises sqlite3.Error."""
    since, now = micros(utc - LOOK_BACK), micros(utc)
    known = {(seal.event, seal.begin_at) for _, seal in _seals(journal, since)}
    found = []
    for (text,) in journal.execute(_EVENTS_SQL, (since, now)):
        said = json.loads(text)
        from_at = said["begin_at"] - round(said["rule"]["before_s"] * 1e6)
        to_at = said["end_at"] + round(said["rule"]["merge_s"] * 1e6)
        name = said["id"], said["begin_at"]
        if name not in known and to_at + SETTLE_S * 1e6 <= now:
            sealed = digest_of(journal, from_at, to_at)
            found.append(Seal(*name, said["end_at"], from_at, to_at, *sealed))
    return found


def _seals(journal: sqlite3.Connection, since: int) -> Iterator[tuple[int, Seal]]:
    for at, body in journal.execute(_SEALS_SQL, (since,)):
        try:
            yield int(at), Seal(**json.loads(body))
        except (TypeError, ValueError):  # a user's own command may be called so
            continue


class Sealer:
    """The task; `run()` it."""

    def __init__(self, journal: Journal, path: Path, clock: Clock) -> None:
        self._journal, self._path, self._clock = journal, path, clock
        self._given: set[Seal] = set()  # on their way to a disk that does not take them

    async def run(self) -> None:
        """For ever. While the journal cannot be read it waits: that has its own alarm."""
        while True:
            await self.look()
            await self._clock.sleep_until(self._clock.now_s() + EVERY_S)

    async def look(self) -> None:
        """Seal what is over and has no seal."""
        try:
            found = await asyncio.to_thread(self._unsealed)
        except (OSError, sqlite3.Error):
            return
        self._given &= set(found)
        for seal in found:
            if seal not in self._given:
                self._given.add(seal)
                await self._journal.commit(self._row(seal))

    def _unsealed(self) -> list[Seal]:
        with closing(connect(self._path, "ro")) as journal:
            return unsealed(journal, self._clock.utc())

    def _row(self, seal: Seal) -> CommandRow:
        body = json.dumps(asdict(seal), separators=(",", ":"))
        text = f"{seal.event}: {seal.rows} rows, SHA-256 {seal.sha256}"
        return CommandRow(self._clock.utc(), os.getuid(), USER, VERB, UNIT, body, "accepted", text)
