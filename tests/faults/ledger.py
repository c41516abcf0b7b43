"""What the daemon has acknowledged, kept by those whom it told, and compared with its journal.

An answer that says `"journaled": true`, a 202 for a book, and a bid in the exchange's own book are
promises; the rows must be there afterwards, whatever happened.
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from tests.process_site import NAMES
from vppd.cli.wire import DaemonAbsent, ask
from vppd.market.blocks import block_at

OPENS_MIN = 16.0  # before delivery, as the site is configured


@dataclass(frozen=True, slots=True)
class Entry:
    """One acknowledged act, and the query that finds its row."""

    kind: str  # command, trip, bid, audit
    text: str
    query: str
    values: tuple[object, ...]


class Ledger:
    """Acts and their acknowledgements."""

    def __init__(self, socket: Callable[[], Path], state: Path, chance: Random) -> None:
        self._socket, self._state, self._chance = socket, state, chance
        self.entries: list[Entry] = []
        self._open: list[Entry] = []
        self._count = 0
        self.lost: list[Entry] = []
        self.refused = 0

    def post(self, route: str, **body: object) -> dict[str, Any] | None:
        """The answer; None when there was none or it was no."""
        with suppress(DaemonAbsent):
            reply = ask(str(self._socket()), "POST", route, body)
            if reply.fine:
                return reply.body
        self.refused += 1
        return None

    def dispatch(self, power_kw: float) -> bool:
        """A base point for the site; its last digits make it known among all."""
        self._count += 1
        marked_kw = round(power_kw + self._count * 1e-5, 5)
        answer = self.post("/v1/dispatch", power_kw=marked_kw, duration_s=3600)
        if answer is not None and answer.get("journaled"):
            self._keep("command", f"dispatch {marked_kw}", f'%"power_kw":{marked_kw}%')
        return answer is not None

    def trip(self) -> None:
        """A unit is stopped by an operator, and reset."""
        unit = self._chance.choice(NAMES)
        for command, action in (("emergency_stop", "trip"), ("reset", "reset")):
            before = self._trips(unit, action)
            answer = self.post(f"/v1/units/{unit}/control", command=command)
            if answer is not None and answer.get("journaled") and before is not None:
                query = "SELECT count(*) > ? FROM trip WHERE scope = ? AND action = ?"
                entry = Entry("trip", f"{command} {unit}", query, (before, unit, action))
                self._add(entry)

    def bid(self) -> None:
        """A book of our own for a session whose gate is still shut."""
        self._count += 1
        now = datetime.now(UTC)
        begins = now.replace(minute=0, second=0, microsecond=0)
        while begins - timedelta(minutes=OPENS_MIN) <= now + timedelta(seconds=5.0):
            begins += timedelta(minutes=30.0)
        block = block_at(begins)
        price = 1000 + self._count % 8000
        answer = self.post(
            "/v1/market/bids",
            product="rtm",
            day=block.day.isoformat(),
            session=(block.number + 1) // 2,
            sells=[[block.number, price, 0.1]],
        )
        if answer is not None:
            # it has taken the place of the one before, whose row may go
            self._open = [each for each in self._open if each.kind != "bid"]
            self._keep("bid", f"book at {price}", f"%{price}%", "kept")

    def _keep(self, kind: str, text: str, like: str, table: str = "command") -> None:
        column = "body_json" if table == "command" else "value_json"
        query = f"SELECT count(*) > 0 FROM {table} WHERE replace({column}, ' ', '') LIKE ?"  # noqa: S608
        self._add(Entry(kind, text, query, (like,)))

    def _add(self, entry: Entry) -> None:
        self.entries.append(entry)
        self._open.append(entry)

    def _trips(self, unit: str, action: str) -> int | None:
        with suppress(sqlite3.Error):
            query = "SELECT count(*) FROM trip WHERE scope = ? AND action = ?"
            return int(self._ask(query, (unit, action)))
        return None

    def _ask(self, query: str, values: tuple[object, ...]) -> int:
        path = self._state / "journal.db"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5.0)) as own:
            return int(own.execute(query, values).fetchone()[0])

    def missing(self) -> list[Entry]:
        """Look for all that is new since the last look, while the daemon runs; what is gone."""
        gone = [entry for entry in self._open if not self._ask(entry.query, entry.values)]
        self._open = []
        self.lost += gone
        return gone

    def again(self) -> list[Entry]:
        """Look for everything once more."""
        self._open = [entry for entry in self.entries if entry.kind != "bid"]
        return self.missing()
