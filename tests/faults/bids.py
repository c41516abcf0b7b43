"""The exchange's own book beside the journal's tickets: none missing on either side, none twice.

A ticket is on disk as `sending` before its request leaves. So at any instant what the exchange took
is in the journal, as something that may have arrived; and once all is at rest, both say the same,
price by price.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from vppd.market.dealing.tickets import PREFIX, Kept, kept_of

Placed = Callable[[], Sequence[Mapping[str, Any]]]
Pairs = frozenset[tuple[int, bool, int, int]]  # block, sold, paise per MWh, lots of 0.01 MW
ARRIVED = frozenset({"sending", "unsure", "accepted"})
PAISE_A_RUPEE, LOTS_A_MW = 100, 100


class Bids:
    """What was acknowledged by the exchange, and whether the journal has it."""

    def __init__(self, placed: Placed, journal: Path) -> None:
        self._placed, self._journal = placed, journal
        self._counted = 0

    def new(self) -> int:
        """How many the exchange took since the last call."""
        before, self._counted = self._counted, len(self._placed())
        return self._counted - before

    def wrong(self) -> list[str]:
        """What is lost or doubled now, whatever is still under way. Raises sqlite3.Error."""
        taken = Counter(str(each["ticket"]) for each in self._placed())
        kept = self.kept()  # read after the exchange: what it took was on disk before
        lost = [
            f"lost: bid {name}: the exchange took it, the journal says"
            f" {kept[name].state if name in kept else 'nothing'}"
            for name in taken
            if name not in kept or kept[name].state not in ARRIVED
        ]
        return lost + [
            f"bid {name}: taken {times} times" for name, times in taken.items() if times > 1
        ]

    def at_rest(self) -> bool:
        """Whether every ticket came to its end."""
        return all(kept.at_rest for kept in self.kept().values())

    def account(self) -> list[str]:
        """What does not agree once all is at rest, both ways and pair by pair."""
        placed = {str(each["ticket"]): _taken(each) for each in self._placed()}
        kept = {name: each for name, each in self.kept().items() if each.state == "accepted"}
        rows = self._rows("SELECT book, state FROM market_bid ORDER BY id")
        newest = {str(book): str(state) for book, state in rows}
        wrong = self.wrong()
        wrong += [f"lost: bid {name}: not at the exchange" for name in kept if name not in placed]
        for name in placed.keys() & kept.keys():
            if placed[name] != _meant(kept[name]):
                wrong.append(f"bid {name}: the exchange holds it otherwise than the journal")
            if newest.get(name) != "accepted":
                wrong.append(f"lost: bid {name}: its rows say {newest.get(name)}")
        return wrong

    def kept(self) -> dict[str, Kept]:
        """The journal's tickets that had something to send, by their id."""
        rows = self._rows(f"SELECT value_json FROM kept WHERE name LIKE '{PREFIX}%'")  # noqa: S608
        found = [kept_of(str(value)) for (value,) in rows]
        return {each.ticket.id: each for each in found if not each.ticket.book.empty}

    def _rows(self, sql: str) -> Iterable[tuple[object, ...]]:
        uri = f"file:{self._journal}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=5.0)) as own:
            return own.execute(sql).fetchall()


def _taken(placed: Mapping[str, Any]) -> Pairs:
    return frozenset(
        (curve["block"], curve["sells"], paise, lots)
        for curve in placed["curves"]
        for paise, lots in curve["pairs"]
    )


def _meant(kept: Kept) -> Pairs:
    return frozenset(
        (
            block.number,
            sold,
            round(pair.price_rs_per_mwh * PAISE_A_RUPEE),
            round(pair.power_mw * LOTS_A_MW),
        )
        for block, bid in kept.ticket.book
        for sold, pairs in ((True, bid.sells), (False, bid.buys))
        for pair in pairs
    )
