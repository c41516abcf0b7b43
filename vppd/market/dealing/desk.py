"""The trading desk: gate after gate from one clock, a book in time, sent once, results, positions.

For every auction: what is held and still open becomes a setting, the maker wishes a book for it,
risk cuts it, feasibility fits it, risk looks at it again, and one ticket takes it to the exchange.
What cannot be had is gone without: a maker that fails is asked for less by the declared ladder, a
gate that cannot be kept is missed and told, and the next session starts from what is really held.
Nothing counts as traded before the exchange says so.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from vppd.core.alarms import MEANINGS, Code, Level
from vppd.core.model import SITE
from vppd.core.ports import Clock, Journal
from vppd.core.records import EventRow, KeptRow
from vppd.core.settings_market import MarketSettings
from vppd.market.blocks import Block
from vppd.market.book import Bid, Book
from vppd.market.dealing.books import Books
from vppd.market.dealing.explained import Explained, explained
from vppd.market.dealing.holdings import Holdings
from vppd.market.dealing.making import Maker
from vppd.market.dealing.obligations import Short
from vppd.market.dealing.portfolio import Portfolio
from vppd.market.dealing.positions import Trade
from vppd.market.dealing.results import Asking, Results
from vppd.market.dealing.submission import Pace, Submission, Tell
from vppd.market.dealing.tickets import PREFIX, Kept, auction_named, kept_of, ticket_id
from vppd.market.exchange import Auction, Exchange, Ticket
from vppd.market.gates import Gate, gate_of, gates_between
from vppd.market.site_storage import Stock
from vppd.spine.schema import from_micros

LOOK_S = 5.0
SHORT_LOOK_S = 60.0
SHORT_STEP_MW = 0.05  # a shortfall is told again when it grew by so much
LACKING_S, LACKING_MAX_S = 10.0, 120.0  # a book is tried again while what it lacks may come
AGAIN_S = 10.0  # a journal that cannot be read is tried again so soon
REMEMBERED = timedelta(days=3)
CATCH_UP = timedelta(days=2)  # older gates than this are not even told as missed
GATES_AHEAD = timedelta(hours=6)
STATUS_TICKETS = 8
STOPPED = "market stopped"
MISSED = "the gate went by while the clock was not right, another book was made, or vppd was down"


@dataclass(frozen=True, slots=True)
class Manners:
    """How often the exchange is asked."""

    pace: Pace = field(default_factory=Pace)
    asking: Asking = field(default_factory=Asking)


class Desk:
    """One site's trading at one exchange."""

    def __init__(
        self,
        settings: MarketSettings,
        exchange: Exchange,
        maker: Maker,
        journal: Journal,
        clock: Clock,
        site: Callable[[], Stock],
        synchronised: Callable[[], bool],
        tell: Tell,
        manners: Manners = Manners(),
    ) -> None:
        """`site()` is what can be traded with now; `synchronised()` whether the clock is right."""
        self._settings, self._journal, self._clock = settings, journal, clock
        self._exchange, self._tell, self._synchronised = exchange, tell, synchronised
        self._stopped = ""
        self._submission = Submission(
            exchange,
            journal,
            clock,
            tell,
            safety_s=settings.gates.safety_s,
            may_not_send=self._may_not_send,
            pace=manners.pace,
        )
        self._results = Results(
            exchange,
            journal,
            clock,
            tell,
            self._submission.kept,
            area=settings.exchange.area,
            asking=manners.asking,
        )
        self._holdings = Holdings(
            settings, clock, site, self._submission.kept, self._results.trades
        )
        self._portfolio = Portfolio(
            exchange, clock, tell, self._submission.kept, self._results.trades, self._ask_again
        )
        self._books = Books(settings, maker, self._holdings, clock, synchronised, tell)
        self._making = asyncio.Lock()  # one book at a time: each stands on what the others left
        self._started: set[Auction] = set()
        self._began_s = 0.0
        self._since: datetime | None = None
        self._gates: tuple[datetime, list[Gate]] | None = None
        self._short: dict[Block, Short] = {}
        self._unread: set[Auction] = set()  # whose ticket is lost: it may have been sent
        self.ready = False

    # --- what it shows ------------------------------------------------------------------------

    @property
    def trades(self) -> Mapping[Auction, Trade]:
        """What each auction brought, of the last days and of all to come."""
        return self._results.trades

    @property
    def tickets(self) -> Mapping[Auction, Kept]:
        """What was offered in each auction and what became of it."""
        return self._submission.kept

    def position_mw(self, block: Block) -> float:
        """Net power traded in a block over all auctions, positive sold. Known once `ready`."""
        return sum(trade.cleared_mw.get(block, 0.0) for trade in self.trades.values())

    def book_of(self, block: Block) -> Mapping[Auction, Bid]:
        """What was offered for a block, by auction."""
        return {
            auction: kept.ticket.book.bids[block]
            for auction, kept in sorted(self.tickets.items())
            if block in kept.ticket.book.bids
        }

    def explain(self, block: Block) -> Explained:
        """Why a block is traded as it is, as plain data."""
        return explained(block, self.tickets, self.trades, self._short.get(block))

    def status(self) -> dict[str, Any]:
        """How trading is, as plain data."""
        now = self._clock.utc()
        coming = next((gate for gate in self._gates_from(now, now) if gate.closes_at > now), None)
        newest = sorted(self.tickets.values(), key=lambda kept: kept.ticket.closes_at)
        return {
            "ready": self.ready,
            "stopped": self._stopped,
            "dry_run": self._settings.dry_run,
            "exchange": self._exchange.name,
            "exchange_verified": self._exchange.verified,
            "synchronised": self._synchronised(),
            "next_gate": str(coming.auction) if coming is not None else None,
            "next_gate_closes_at": coming.closes_at.isoformat() if coming is not None else None,
            "tickets": [
                {"auction": str(kept.auction), "state": kept.state, "text": kept.text}
                for kept in newest[-STATUS_TICKETS:]
            ],
            "faults": {
                str(auction): sorted(trade.faults)
                for auction, trade in sorted(self.trades.items())
                if trade.faults
            },
            "malformed": list(self._exchange.malformed),
            "shortfalls": [str(each) for _, each in sorted(self._short.items())],
        }

    # --- what an operator does ----------------------------------------------------------------

    async def stop(self, why: str) -> bool:
        """Nothing more is sent, at once and after a restart too. True when it is on disk."""
        return await self._switch(why or "by an operator")

    async def resume(self) -> bool:
        """Trade again, from the next gate on. True when it is on disk."""
        return await self._switch("")

    async def _switch(self, stopped: str) -> bool:
        self._stopped = stopped
        row = KeptRow(self._clock.utc(), STOPPED, json.dumps({"why": stopped}))
        return await self._journal.commit(row)

    def _may_not_send(self) -> str:
        if self._stopped:
            return f"trading is stopped: {self._stopped}"
        return "" if self._synchronised() else "the clock is not synchronised"

    # --- its life -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled: rebuild what is known from the journal, then trade."""
        while not await self._restored():
            await self._clock.sleep_until(self._clock.now_s() + AGAIN_S)
        # what came to nothing was never sent: while its gate is open it may be tried again
        self._started = {each for each, kept in self.tickets.items() if kept.state != "none"}
        self._began_s = self._clock.now_s()
        async with asyncio.TaskGroup() as tasks:
            for kept in list(self.tickets.values()):
                self._results.follow(gate_of(kept.auction, self._settings.gates))
                if kept.auction not in self._unread:
                    tasks.create_task(self._submission.carry(kept))
            self.ready = True
            tasks.create_task(self._results.run())
            tasks.create_task(self._watch_shortfalls())
            if not self._settings.dry_run:
                tasks.create_task(self._portfolio.run())
            while True:
                for gate in self._due():
                    self._started.add(gate.auction)
                    tasks.create_task(self._trade(gate))
                await self._clock.sleep_until(self._clock.now_s() + LOOK_S)

    async def _restored(self) -> bool:
        """Tickets, results and the switch as the journal has them. Without them nothing is traded,
        for nobody would know what is held."""
        now = self._clock.utc()
        before = now - REMEMBERED
        sql = "SELECT name, value_json, at FROM kept WHERE name = ? OR name LIKE ?"
        try:
            for name, value_json, at in await self._journal.select(sql, (STOPPED, f"{PREFIX}%")):
                if name == STOPPED:
                    self._stopped = _why_stopped(str(value_json))
                else:
                    written_at = from_micros(int(str(at)))
                    self._take(str(name), str(value_json), written_at, before)
            await self._results.restore(before)
        except (OSError, ValueError) as error:
            text = f"what was traded cannot be read, so nothing is traded: {error}"
            self._tell(Code.MARKET_SUBMISSION, True, text)
            return False
        closed = [kept.ticket.closes_at for kept in self.tickets.values()]
        self._since = max((each for each in closed if each <= now), default=None)
        return True

    def _take(self, name: str, value_json: str, written_at: datetime, before: datetime) -> None:
        """A ticket of the journal; one that cannot be read is told and kept aside. Its auction is
        not bid in again, for it may have been, and what comes of it is asked for."""
        try:
            kept = kept_of(value_json)
        except ValueError as error:
            auction = auction_named(name, written_at)
            text = f"{auction or name}: its ticket cannot be read: {error}"
            now, level = self._clock.utc(), MEANINGS[Code.MARKET_SUBMISSION].level
            self._journal.append(KeptRow(now, f"unread {name}", value_json))
            self._journal.append(EventRow(now, Code.MARKET_SUBMISSION, SITE, level, text))
            self._tell(Code.MARKET_SUBMISSION, True, text)
            if auction is None:
                return
            closes_at = gate_of(auction, self._settings.gates).closes_at
            ticket = Ticket(ticket_id(auction), auction, Book({}), closes_at)
            self._submission.kept[auction] = Kept(ticket, "unsure", text)
            self._unread.add(auction)
            return
        if kept.auction.blocks[-1].end > before:
            self._submission.restore(kept)

    def _ask_again(self, auction: Auction) -> None:
        if auction in self.tickets:
            self._results.follow(gate_of(auction, self._settings.gates))

    def _due(self) -> list[Gate]:
        """Gates that opened since the last look, those too that have closed meanwhile: a clock that
        jumped or was not right, or a daemon that was down, missed them."""
        if not self._synchronised():
            return []
        now = self._clock.utc()
        running = timedelta(seconds=self._clock.now_s() - self._began_s)
        since = min(max(self._since or now - running, now - CATCH_UP), now)
        self._since = now
        return [
            gate
            for gate in self._gates_from(since, now)
            if gate.opens_at <= now and gate.closes_at > since and gate.auction not in self._started
        ]

    def _gates_from(self, since: datetime, now: datetime) -> list[Gate]:
        """Gates that close after `since`, some hours ahead; they are laid out once in a while."""
        if self._gates is None or not self._gates[0] <= since <= now < self._gates[0] + GATES_AHEAD:
            until = now + 2 * GATES_AHEAD
            try:
                found = gates_between(since, until, self._settings.products, self._settings.gates)
            except ValueError as error:  # a clock before the calendar's first day
                self._tell(Code.MARKET_SUBMISSION, True, str(error))
                return []
            self._gates = since, found
            self._forget(now - REMEMBERED)
        return self._gates[1]

    def _forget(self, before: datetime) -> None:
        self._results.forget(before)
        self._submission.forget(before)
        self._started = {each for each in self._started if each.blocks[-1].end > before}

    # --- one gate -----------------------------------------------------------------------------

    async def _trade(self, gate: Gate) -> None:
        """One auction from its gate to its ticket's end."""
        self._results.follow(gate)
        kept, attempt, wait_s = await self._made(gate), 1, LACKING_S
        while kept.story.may_come and kept.state == "none":
            text = f"attempt {attempt}, tried again in {wait_s:.0f} s: {kept.text}"
            await self._submission.note(replace(kept, text=text))
            left_s = max(self._submission.before_cutoff_s(gate.closes_at), 0.0)
            await self._clock.sleep_until(self._clock.now_s() + min(wait_s, left_s + 1.0))
            wait_s, attempt = min(2.0 * wait_s, LACKING_MAX_S), attempt + 1
            if self._submission.before_cutoff_s(gate.closes_at) <= 0.0:
                kept = replace(kept, text=f"{attempt - 1} attempts: {kept.text}")
                break
            kept = await self._made(gate)
        if kept.state == "planned":
            await self._submission.carry(kept)
        else:
            await self._submission.note(kept)

    async def _made(self, gate: Gate) -> Kept:
        """A book, made while no other is; from here on it counts as open."""
        async with self._making:
            kept = await self._prepared(gate)
            self._submission.kept[gate.auction] = kept
        return kept

    async def _prepared(self, gate: Gate) -> Kept:
        """The ticket with its book, or without one and why."""

        def before_cutoff_s() -> float:
            return self._submission.before_cutoff_s(gate.closes_at)

        ticket = Ticket(ticket_id(gate.auction), gate.auction, Book({}), gate.closes_at)
        if before_cutoff_s() <= 0.0:
            return Kept(ticket, "missed", MISSED)
        if self._stopped:
            return Kept(ticket, "none", f"trading is stopped: {self._stopped}")
        book, story = await self._books.book_for(gate.auction, before_cutoff_s)
        if story.vetoes:
            text = f"{gate.auction}: {story.rung} is left of it; vetoed: {'; '.join(story.vetoes)}"
            row = (self._clock.utc(), Code.MARKET_SUBMISSION, SITE, Level.WARNING, text)
            self._journal.append(EventRow(*row))
        if book.empty:
            return Kept(ticket, "none", "; ".join(story.vetoes) or story.why, story)
        ticket = Ticket(ticket.id, ticket.auction, book, ticket.closes_at)
        return Kept(ticket, "dry_run" if self._settings.dry_run else "planned", "", story)

    # --- what cannot be delivered -------------------------------------------------------------

    async def _watch_shortfalls(self) -> None:
        """Name what can no longer be bought back: once each, and as an alarm while it stands."""
        while True:
            await self._clock.sleep_until(self._clock.now_s() + SHORT_LOOK_S)
            if not self._synchronised():
                continue
            found = self._holdings.shortfalls()
            for block, short in sorted(found.items()):
                known = self._short.get(block)
                if known is None or abs(short.short_mw) > abs(known.short_mw) + SHORT_STEP_MW:
                    self._short[block] = short
                    self._journal.append(_short_row(self._clock.utc(), short))
            before = self._clock.utc() - REMEMBERED
            self._short = {k: v for k, v in self._short.items() if k.start > before}
            total_mwh = sum(abs(each.short_mwh) for each in found.values())
            first = "; ".join(str(each) for _, each in sorted(found.items())[:4])
            text = f"{total_mwh:.3f} MWh cannot be delivered: {first}" if found else ""
            self._tell(Code.MARKET_SHORTFALL, bool(found), text)


def _why_stopped(value_json: str) -> str:
    """Why an operator stopped trading, or nothing; what cannot be read counts as a stop."""
    try:
        return str(json.loads(value_json)["why"])
    except (ValueError, LookupError, TypeError) as error:
        return f"whether it is stopped cannot be read: {type(error).__name__}: {error}"


def _short_row(at: datetime, short: Short) -> EventRow:
    data = {
        "block_at": short.block.start.isoformat(),
        "short_mwh": round(short.short_mwh, 6),
        "limit": short.limit,
    }
    level = MEANINGS[Code.MARKET_SHORTFALL].level
    text = f"cannot be delivered: {short}"
    return EventRow(at, Code.MARKET_SHORTFALL, SITE, level, text, json.dumps(data))
