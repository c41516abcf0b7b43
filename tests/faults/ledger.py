"""What the daemon has acknowledged, kept by those whom it told, and compared with its journal.

An answer that says `"journaled": true` and a 202 for a book are promises; the rows must be there
afterwards, whatever happened. What the exchange took is `bids`.
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from tests.process_site import NAMES
from vppd.cli.wire import DaemonAbsent, ask
from vppd.market.dealing.own_books import PREFIX as OWN
from vppd.market.dealing.own_books import SLOTS
from vppd.market.exchange import Auction

CAP_RS_PER_MWH = 10_000.0


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

    def bid(self, auction: Auction) -> bool:
        """A book of our own for a session whose gate is still shut: one block is sold at any price
        and the other bought back, so that every session can be delivered."""
        first, second = (block.number for block in auction.blocks)
        answer = self.post(
            "/v1/market/bids",
            product=auction.product,
            day=auction.day.isoformat(),
            session=auction.session,
            sells=[[first, 0.0, 0.1]],
            buys=[[second, CAP_RS_PER_MWH, 0.1]],
        )
        if answer is not None:
            name = f"{OWN}{auction.day.toordinal() % SLOTS}-rtm-{auction.session:02}"
            query = "SELECT count(*) > 0 FROM kept WHERE name = ? AND value_json LIKE ?"
            self._add(Entry("bid", f"own book {auction}", query, (name, f"%{auction.day}%")))
        return answer is not None

    def _keep(self, kind: str, text: str, like: str) -> None:
        query = "SELECT count(*) > 0 FROM command WHERE replace(body_json, ' ', '') LIKE ?"
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
        self._open = list(self.entries)
        return self.missing()
