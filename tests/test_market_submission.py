"""One ticket exactly once in effect: over lost requests, lost answers, refusals, silence, a disk
that fails, a clock that is not right, and kill -9 at every step."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.killed_submission import Lives
from tests.scripted_exchange import Fault, PaperJournal, ScriptedExchange
from tests.virtual_time import VirtualClock, run_virtual
from vppd.core.alarms import Code
from vppd.core.records import EventRow, KeptRow, Row
from vppd.core.records_market import MarketBidRow
from vppd.market.blocks import Block
from vppd.market.book import Bid, Book, Pair
from vppd.market.dealing.submission import Pace, Submission
from vppd.market.dealing.tickets import Kept, Story, kept_of, kept_row, ticket_id
from vppd.market.exchange import Auction, Ticket

KILLS_HERE = 30  # of killed_submission.KILLS, which are for a run by hand
START = datetime(2026, 1, 1, 6, 0, tzinfo=UTC)
AUCTION = Auction(date(2026, 1, 1), 27, "rtm")  # delivers from 13:00 IST, 07:30 UTC
GATE_S, SAFETY_S = 900.0, 20.0
CLOSES_AT = START + timedelta(seconds=GATE_S)
CUTOFF = CLOSES_AT - timedelta(seconds=SAFETY_S)
BLOCK = AUCTION.blocks[0]
BLOCK7 = Block(date(2026, 1, 2), 7)
BOOK = Book({BLOCK: Bid((Pair(3999.0, 0.5), Pair(6000.0, 1.0)), (Pair(1200.0, 0.3),))})
TICKET = Ticket(ticket_id(AUCTION), AUCTION, BOOK, CLOSES_AT)
PLANNED = Kept(TICKET, "planned", story=Story("fresh", "all models", 12.5, {BLOCK: 4100.0}))


class Rig:
    """A submission on virtual time that can be ended and begun again on the same journal."""

    def __init__(
        self,
        faults: Sequence[Fault] = (),
        silences: Sequence[bool] = (),
        fails: Sequence[bool] = (),
    ) -> None:
        self.clock = VirtualClock(START)
        self.journal = PaperJournal(fails)
        self.exchange = ScriptedExchange(self.clock, faults, silences, self.check_durable)
        self.reason = ""
        self.pace = Pace()
        self.told: list[tuple[Code, bool, str]] = []
        self.submission = self.begin()

    def begin(self) -> Submission:
        return Submission(
            self.exchange,
            self.journal,
            self.clock,
            lambda *said: self.told.append(said),
            safety_s=SAFETY_S,
            may_not_send=lambda: self.reason,
            pace=self.pace,
        )

    def check_durable(self, ticket: Ticket) -> None:
        """Whenever a request leaves, the whole ticket is on disk as being sent."""
        (value,) = self.journal.kept().values()
        kept = kept_of(str(value))
        assert (kept.state, kept.ticket) == ("sending", ticket)

    def kept(self) -> Kept | None:
        values = list(self.journal.kept().values())
        return kept_of(str(values[0])) if values else None

    async def carry(self) -> Kept:
        """As the desk does: what the journal has, or anew while the gate is open."""
        kept = self.kept()
        if kept is not None:
            self.submission.restore(kept)
        return await self.submission.carry(kept or PLANNED)

    async def crash_after(self, seconds_s: float) -> None:
        """Go on for so long, at rest or not, then lose all that is not on disk."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds_s):
                await self.carry()
        self.journal.crash()
        self.submission = self.begin()

    def assert_once(self) -> None:
        assert self.exchange.count(TICKET.id) <= 1, "bid twice"
        assert all(at < CUTOFF for _, at in self.exchange.sent), "sent after the gate"


def test_a_ticket_is_kept_whole() -> None:
    day = Auction(date(2026, 1, 2), 0, "dam")
    curves = Bid((Pair(3999.0, 0.5), Pair(6000.0, 1.0)), (Pair(1200.0, 0.30000000000000004),))
    book = Book(dict.fromkeys(day.blocks, curves))
    story = Story("mean", "x", 1.25, {BLOCK7: 4100.5}, ("a",), ("b",), {BLOCK7: {"x": [1.5]}})
    kept = Kept(Ticket("dam-1", day, book, CLOSES_AT), "unsure", "why", story)
    assert kept_of(kept_row(kept, START).value_json) == kept


def test_accepted_is_sent_once_and_written_down_at_each_step() -> None:
    async def main() -> None:
        rig = Rig()
        assert (await rig.carry()).state == "accepted"
        assert rig.exchange.count(TICKET.id) == 1
        states = [row.state for row in rig.journal.rows if isinstance(row, MarketBidRow)]
        assert Counter(states) == {"planned": 3, "accepted": 3}
        assert rig.kept() == replace(PLANNED, state="accepted")

    run_virtual(main())


@pytest.mark.parametrize(
    ("fault", "state", "sends"),
    [
        ("lost", "accepted", 2),
        ("cut", "accepted", 1),
        ("late", "accepted", 1),
        ("slow", "accepted", 1),
        ("hang", "missed", 1),
        ("refuse", "refused", 1),
    ],
)
def test_each_fault_has_its_end(fault: Fault, state: str, sends: int) -> None:
    async def main() -> None:
        rig = Rig([fault])
        kept = await rig.carry()
        assert (kept.state, len(rig.exchange.sent)) == (state, sends)
        assert rig.exchange.count(TICKET.id) == (state == "accepted")
        rig.assert_once()
        bad = state != "accepted"
        assert rig.told[-1][:2] == (Code.MARKET_SUBMISSION, bad)
        assert bad == any(isinstance(row, EventRow) and state in row.text for row in _written(rig))

    run_virtual(main())


def _written(rig: Rig) -> list[object]:
    return [*rig.journal.rows, *rig.journal.waiting]


def test_nothing_is_sent_while_the_journal_cannot_be_written() -> None:
    async def main() -> None:
        rig = Rig(fails=[True] * 5000)
        assert (await rig.carry()).state == "missed"
        assert rig.exchange.sent == []
        assert rig.told[0][:2] == (Code.MARKET_SUBMISSION, True)

    async def mended() -> None:
        rig = Rig(fails=[True] * 7 + [False, True, True])
        assert (await rig.carry()).state == "accepted"
        rig.assert_once()

    run_virtual(main())
    run_virtual(mended())


def test_nothing_is_sent_while_there_is_a_reason_not_to() -> None:
    async def main() -> None:
        rig = Rig()
        rig.reason = "the clock is not synchronised"
        asyncio.get_running_loop().call_later(300.0, lambda: setattr(rig, "reason", ""))
        assert (await rig.carry()).state == "accepted"
        assert rig.exchange.sent[0][1] >= START + timedelta(seconds=300)

    async def never() -> None:
        rig = Rig()
        rig.reason = "trading is stopped: test"
        kept = await rig.carry()
        assert (kept.state, kept.text, rig.exchange.sent) == ("missed", rig.reason, [])
        assert rig.clock.utc() >= CUTOFF

    run_virtual(main())
    run_virtual(never())


def test_a_clock_that_jumps_over_the_gate_misses_it() -> None:
    async def main() -> None:
        rig = Rig(["lost"])
        loop = asyncio.get_running_loop()
        loop.call_later(3.0, lambda: rig.clock.step_utc(3600.0))
        assert (await rig.carry()).state == "missed"
        assert len(rig.exchange.sent) == 1
        assert rig.told[-1][:2] == (Code.MARKET_SUBMISSION, True)

    run_virtual(main())


def test_between_the_margin_and_the_gate_nothing_is_sent_and_nothing_given_up() -> None:
    """It may still arrive: only after the gate is it known to be missed."""

    async def main() -> None:
        rig = Rig()
        rig.pace = Pace(ask_max_s=5.0)
        rig.submission = rig.begin()
        rig.exchange.down = True
        loop = asyncio.get_running_loop()
        back_s = GATE_S - SAFETY_S + 3.0
        loop.call_later(back_s, lambda: setattr(rig.exchange, "down", False))
        assert (await rig.carry()).state == "missed"
        assert rig.clock.utc() >= CLOSES_AT
        assert len(rig.exchange.sent) == 1

    async def restarted() -> None:
        rig = Rig()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                rig.reason = "stopped"
                await rig.carry()
        rig.reason = ""
        rig.clock.step_utc(GATE_S - SAFETY_S - 0.5)
        rig.submission = rig.begin()
        assert (await rig.carry()).state == "missed"
        assert rig.exchange.sent == []

    run_virtual(main())
    run_virtual(restarted())


class SlowDisk(PaperJournal):
    """Something happens while it writes that a ticket is being sent."""

    meanwhile: Callable[[], None]

    async def commit(self, row: Row) -> bool:
        if isinstance(row, KeptRow) and kept_of(row.value_json).state == "sending":
            self.meanwhile()
        return await super().commit(row)


def test_what_came_up_while_the_disk_was_slow_is_seen_before_anything_leaves() -> None:
    async def main(*, jump: bool) -> None:
        rig = Rig()
        rig.journal = journal = SlowDisk()
        rig.submission = rig.begin()

        def meanwhile() -> None:
            if jump:
                rig.clock.step_utc(GATE_S - SAFETY_S)
            rig.reason = "" if jump else "trading is stopped: test"

        journal.meanwhile = meanwhile
        assert (await rig.carry()).state == "missed"
        assert rig.exchange.sent == []

    run_virtual(main(jump=True))
    run_virtual(main(jump=False))


def test_an_exchange_that_never_says_leaves_it_unsure_and_told() -> None:
    async def main() -> None:
        rig = Rig(["cut"], silences=[True] * 10_000)
        kept = await rig.carry()
        assert kept.state == "unsure"
        assert rig.clock.utc() >= AUCTION.blocks[-1].end
        assert rig.told[-1][:2] == (Code.MARKET_SUBMISSION, True)
        rig.assert_once()

    run_virtual(main())


FAULTS = st.lists(
    st.sampled_from(["take", "lost", "cut", "late", "slow", "hang", "refuse"]), max_size=6
)
BOOLS = st.lists(st.booleans(), max_size=12)


@settings(max_examples=150, deadline=None)
@given(FAULTS, BOOLS, BOOLS, st.lists(st.floats(0.001, 400.0), max_size=6), st.integers(0, 700))
def test_never_two_never_lost_nothing_after_the_gate(
    faults: list[Fault],
    silences: list[bool],
    fails: list[bool],
    lives_s: list[float],
    unsynchronised_s: int,
) -> None:
    async def main() -> None:
        rig = Rig(faults, silences, fails)
        if unsynchronised_s % 3 == 0:
            rig.reason = "the clock is not synchronised"
            loop = asyncio.get_running_loop()
            loop.call_later(unsynchronised_s, lambda: setattr(rig, "reason", ""))
        for life_s in lives_s:
            await rig.crash_after(life_s)
        kept = await rig.carry()
        rig.assert_once()
        held = rig.exchange.count(TICKET.id)
        assert kept.state == ("accepted" if held else kept.state)
        assert kept.state in ({"accepted"} if held else {"refused", "missed"})
        rig.journal.flush()
        assert rig.kept() == kept, "the ledger says what the exchange's book says"
        if kept.state == "missed":  # not lost for nothing: the gate went by
            assert rig.clock.utc() >= CUTOFF

    run_virtual(main())


def test_killed_at_every_step_no_bid_is_lost_and_none_is_twice(tmp_path: Path) -> None:
    lives = Lives(tmp_path, seed=1)
    lives.kill(KILLS_HERE)
    lives.assert_agrees()
