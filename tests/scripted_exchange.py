"""An exchange at the port that keeps its own book and fails by script, and a journal in memory."""

import asyncio
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Literal

from vppd.core.ports import Clock
from vppd.core.records import KeptRow, Row
from vppd.core.records_market import MarketResultRow
from vppd.market.blocks import Block
from vppd.market.exchange import Auction, Refused, Result, Status, Ticket, Unsure

Fault = Literal["take", "lost", "cut", "late", "slow", "hang", "refuse"]
"""take: taken and said so; lost: never arrives; cut: taken, the answer is lost; late: cut off, and
arrives some seconds later; slow: taken after a while; hang: never answered; refuse."""
LATE_S, SLOW_S = 4.0, 20.0


class ScriptedExchange:
    """It takes every ticket that arrives before its gate, a second one of the same id too: who
    sends twice has bid twice."""

    name = "scripted"
    verified = True
    malformed: tuple[str, ...] = ()

    def __init__(
        self,
        clock: Clock,
        faults: Iterable[Fault] = (),
        silences: Iterable[bool] = (),
        before_submit: Callable[[Ticket], None] = lambda _: None,
    ) -> None:
        self._clock = clock
        self._faults: Iterator[Fault] = itertools.chain(faults, itertools.repeat("take"))
        self._silences = itertools.chain(silences, itertools.repeat(False))
        self._before_submit = before_submit
        self.down = False
        self.taken: list[Ticket] = []
        self.refused: set[str] = set()
        self.sent: list[tuple[Ticket, datetime]] = []
        self.published: dict[Auction, Result] = {}
        self.price: Mapping[Block, float] = {}

    async def submit(self, ticket: Ticket) -> None:
        self._before_submit(ticket)
        self.sent.append((ticket, self._clock.utc()))
        fault: Fault = "lost" if self.down else next(self._faults)
        if fault == "lost":
            raise Unsure("connection reset")
        if fault == "late":
            asyncio.get_running_loop().call_later(LATE_S, self._take, ticket)
            raise Unsure("connection reset")
        if fault == "hang":
            await asyncio.sleep(86_400.0)
        if fault == "slow":
            await asyncio.sleep(SLOW_S)
        if fault == "refuse":
            self.refused.add(ticket.id)
            raise Refused("no margin")
        self._take(ticket)
        if fault == "cut":
            raise Unsure("connection reset")

    def _take(self, ticket: Ticket) -> None:
        if self._clock.utc() < ticket.closes_at:
            self.taken.append(ticket)

    def count(self, ticket_id: str) -> int:
        return sum(ticket.id == ticket_id for ticket in self.taken)

    async def status(self, ticket: Ticket) -> Status:
        if self.down or next(self._silences):
            raise Unsure("no answer")
        if ticket.id in self.refused:
            return Status("refused", "no margin")
        held = [each for each in self.taken if each.id == ticket.id]
        if not held:
            return Status("unknown")
        assert all(dict(each.book) == dict(ticket.book) for each in held)
        return Status("accepted")

    async def results(self, auction: Auction) -> Result | None:
        if self.down:
            raise Unsure("no answer")
        return self.published.get(auction)

    async def prices(self, auction: Auction) -> Mapping[Block, float]:
        if self.down:
            raise Unsure("no answer")
        return {block: self.price[block] for block in auction.blocks if block in self.price}

    async def portfolio(self, day: date) -> Mapping[Block, float]:
        total: dict[Block, float] = {}
        for auction, result in self.published.items():
            if auction.day == day and result.state != "retracted":
                for block, power_mw in result.cleared_mw.items():
                    total[block] = total.get(block, 0.0) + power_mw
        return total


class PaperJournal:
    """core.ports.Journal in memory: `fails` says of each commit whether the disk refuses it. What
    it refused is written before the next that it takes, as the journal does."""

    def __init__(self, fails: Iterable[bool] = ()) -> None:
        self._fails = itertools.chain(fails, itertools.repeat(False))
        self.waiting: list[Row] = []
        self.rows: list[Row] = []

    def append(self, row: Row) -> None:
        self.waiting.append(row)

    async def commit(self, row: Row) -> bool:
        await asyncio.sleep(0.01)
        self.waiting.append(row)
        if next(self._fails):
            return False
        self.flush()
        return True

    def flush(self) -> None:
        """The disk takes what waits."""
        self.rows += self.waiting
        self.waiting = []

    async def select(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        if "FROM kept" in sql:
            return list(self.kept().items())
        assert not any(isinstance(row, MarketResultRow) for row in self.rows)
        return []

    def kept(self) -> dict[object, object]:
        """The newest of each name."""
        return {row.name: row.value_json for row in self.rows if isinstance(row, KeptRow)}

    def crash(self) -> None:
        """What was not on disk is gone."""
        self.waiting = []
