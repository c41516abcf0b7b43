"""A desk on virtual time: a battery that does what was traded, a maker by script, and an exchange
that clears by a given price when its time has come. The day-ahead gate lies in the evening here, so
that a day is delivered soon after it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from tests.journal_site import rows_of
from tests.scripted_exchange import ScriptedExchange
from tests.virtual_time import VirtualClock
from vppd.core.alarms import Code
from vppd.core.model import UnitId
from vppd.core.settings_market import GateSettings, MarketSettings
from vppd.market.blocks import Block, block_at
from vppd.market.book import Bid, Book, Pair
from vppd.market.dealing.desk import Desk
from vppd.market.dealing.making import Made, NotMade, Rung, Wanted
from vppd.market.dealing.own_books import OwnBooks
from vppd.market.exchange import Auction, Result
from vppd.market.gates import Gate, gates_between
from vppd.market.site_storage import Stock
from vppd.market.storage import Storage
from vppd.spine.alarms import AlarmBoard
from vppd.spine.journal import Bounds, SqliteJournal

START = datetime(2026, 1, 1, 14, 15, tzinfo=UTC)  # 19:45 IST, before the day-ahead gate opens
LATE_GATES = GateSettings(dam_open="20:00", dam_close="20:40", dam_result="21:30")
DAY = date(2026, 1, 2)
DAM = Auction(DAY, 0, "dam")
STORAGE = Storage(0.2, 1.9, 1.0, 1.0, 0.922, 0.922, 1.5, 1000.0)
SETTINGS = MarketSettings(enabled=True, dry_run=False, gates=LATE_GATES)
CALM = Bounds(batch_s=30.0, commit_s=5.0, keep_house_s=1e9)
Result_ = Callable[[Result], Result | None]


def price(block: Block) -> float:
    """Rs/MWh: cheap at night and at noon, dear in the evening; never twice the same."""
    evening, noon = 72 <= block.number < 88, 40 <= block.number < 60
    base = 8000.0 if evening else 2500.0 if noon or block.number < 24 else 4500.0
    return base + block.number * 7 % 100


class Plant:
    """The battery: what is sold leaves it, as far as it can."""

    def __init__(self) -> None:
        self.storage = STORAGE
        self.energy_mwh = 1.0
        self.soc_known = True
        self.lowest_mwh = self.highest_mwh = 1.0

    def stock(self) -> Stock:
        energy_mwh = self.energy_mwh
        soc_pct = 100.0 * energy_mwh / 2.0 if self.soc_known else None
        return Stock(self.storage, energy_mwh, energy_mwh, soc_pct, 1.0, frozenset({UnitId("B1")}))

    async def follow(self, clock: VirtualClock, position_mw: Callable[[Block], float]) -> None:
        """Minute by minute."""
        while True:
            await clock.sleep_until(clock.now_s() + 60.0)
            sold_mw = position_mw(block_at(clock.utc() - timedelta(seconds=30)))
            sold_mw = max(min(sold_mw, self.storage.discharge_mw), -self.storage.charge_mw)
            self.energy_mwh += self.storage.stored_mwh(sold_mw) / 15.0
            self.lowest_mwh = min(self.lowest_mwh, self.energy_mwh)
            self.highest_mwh = max(self.highest_mwh, self.energy_mwh)


class ScriptedMaker:
    """Wishes far too much in every block, at the price to come and around it."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self.asked: list[Wanted] = []
        self.fails: dict[Rung, str] = {}  # a rung and why, or "hang"
        self.wish: Callable[[Wanted], Book] = greedy

    async def book_for(self, wanted: Wanted, within_s: float) -> Made:
        self.asked.append(wanted)
        await self._clock.sleep_until(self._clock.now_s() + 2.0)
        if self.fails.get(wanted.best) == "hang":
            await asyncio.sleep(1e6)
        if wanted.best in self.fails:
            raise NotMade(self.fails[wanted.best])
        forecast = {block: price(block) + 50.0 for block in wanted.auction.blocks}
        said = {block: {"plan_mw": 0.5} for block in wanted.auction.blocks}
        book = self.wish(wanted)
        return Made(book, wanted.best, "by script", 100.0, forecast, ("cycles",), said)


def greedy(wanted: Wanted) -> Book:
    real_time = wanted.auction.product == "rtm"
    return Book(
        {
            block: Bid(
                (Pair(price(block) - 300.0 + block.number % 7 * 100, 0.3), Pair(9000.0, 1.7)),
                (Pair(2550.0 - block.number % 5 * 10, 0.4), Pair(1000.0, 1.5)),
            )
            for block in wanted.auction.blocks
            if not real_time or block.number % 3
        }
    )


def flat(block: Block, power_mw: float) -> Callable[[Wanted], Book]:
    """A sale at any price in one block of the day-ahead market; nothing else."""

    def wish(wanted: Wanted) -> Book:
        if wanted.auction.product == "dam" and block in wanted.auction.blocks:
            return Book({block: Bid((Pair(0.0, power_mw),))})
        return Book({})

    return wish


class DeskRig:
    """All of it. `edits` change what the exchange publishes of an auction, by the minutes after its
    result is due; None publishes nothing."""

    def __init__(self, path: Path, settings: MarketSettings = SETTINGS) -> None:
        self.path, self.settings = path, settings
        self.clock = VirtualClock(START)
        self.exchange = ScriptedExchange(self.clock)
        self.exchange.price = {}
        self.plant = Plant()
        self.maker = ScriptedMaker(self.clock)
        self.synchronised = True
        self.edits: dict[Auction, dict[float, Result_]] = {}
        self.gates = gates_between(
            START, START + timedelta(days=2), settings.products, settings.gates
        )

    @contextlib.asynccontextmanager
    async def trading(self) -> AsyncIterator[Desk]:
        """A daemon's life; another may follow on the same journal."""
        self.clock.now_s()  # it takes hold of the loop: the journal asks it from a thread
        journal = SqliteJournal(self.path, self.clock, lambda *_: None, bounds=CALM)
        await journal.open()
        self.alarms = AlarmBoard(self.clock, journal)
        self.journal = journal
        self.own = OwnBooks(self.maker, journal, self.clock)
        desk = Desk(
            self.settings,
            self.exchange,
            self.own,
            journal,
            self.clock,
            self.plant.stock,
            lambda: self.synchronised,
            lambda code, active, text: self.alarms.set(code, UnitId("site"), active, text),
        )
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(each)
                for each in (
                    journal.run(),
                    desk.run(),
                    self.plant.follow(self.clock, desk.position_mw),
                    self._publish(),
                )
            ]
            try:
                yield desk
            finally:
                for task in running[1:]:
                    task.cancel()
                await journal.close()

    async def until(self, utc: datetime) -> None:
        while self.clock.utc() < utc:
            left_s = (utc - self.clock.utc()).total_seconds()
            await self.clock.sleep_until(self.clock.now_s() + left_s)

    async def pass_by(self, hours: float = 0.0, minutes: float = 0.0) -> None:
        await self.until(self.clock.utc() + timedelta(hours=hours, minutes=minutes))

    async def _publish(self) -> None:
        """Ten minutes before a result is late the auction is cleared."""
        acts: list[tuple[datetime, Auction, Result_]] = []
        for gate in self.gates:
            for minutes, edit in self.edits.get(
                gate.auction, {-10.0: lambda result: result}
            ).items():
                acts.append((gate.late_at + timedelta(minutes=minutes), gate.auction, edit))
        began = self.clock.utc()
        for at, auction, edit in sorted(acts, key=lambda act: act[0]):
            if at < began:
                continue
            await self.until(at)
            if (result := edit(self.cleared(auction))) is not None:
                self.exchange.published[auction] = result
                self.exchange.price = {**self.exchange.price, **result.price_rs_per_mwh}

    def cleared(self, auction: Auction) -> Result:
        """What comes of the tickets taken."""
        books = [ticket.book for ticket in self.exchange.taken if ticket.auction == auction]
        assert len(books) <= 1
        bids = books[0].bids if books else {}
        return Result(
            auction,
            {block: bids.get(block, Bid()).cleared_mw(price(block)) for block in auction.blocks},
            {block: price(block) for block in auction.blocks},
            "final",
        )

    def gate(self, auction: Auction) -> Gate:
        return next(gate for gate in self.gates if gate.auction == auction)

    def standing(self) -> dict[Code, str]:
        return {alarm.code: alarm.text for alarm in self.alarms.standing()}

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        return rows_of(self.path, sql)


def scaled(result: Result, factor: float) -> Result:
    """As if so much of it had cleared."""
    return replace(result, cleared_mw={b: factor * mw for b, mw in result.cleared_mw.items()})
