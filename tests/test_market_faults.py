"""What others do wrong to a desk: rows that cannot be read, a maker that breaks, an exchange whose
own book differs, too many questions."""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from tests.desk_rig import DAM, DAY, SETTINGS, START, DeskRig, flat, scaled
from tests.journal_site import rows_of
from tests.virtual_time import virtual
from vppd.core.alarms import Code
from vppd.core.records import KeptRow
from vppd.market.blocks import Block
from vppd.market.book import Bid, Book, Pair
from vppd.market.dealing.desk import STOPPED
from vppd.market.dealing.making import Wanted
from vppd.market.dealing.tickets import kept_row
from vppd.market.exchange import Auction, Unsure
from vppd.spine.journal import SqliteJournal

NIGHT = Block(DAY, 8)
MINUTE = timedelta(minutes=1)
NAN, INF = math.nan, math.inf


@pytest.fixture
def rig(tmp_path: Path) -> DeskRig:
    return DeskRig(tmp_path / "journal.db")


async def overwritten(rig: DeskRig, name: str, text: str) -> None:
    """A row of the journal as a disk or another version may leave it."""
    rig.clock.now_s()
    journal = SqliteJournal(rig.path, rig.clock, lambda *_: None)
    await journal.open()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(journal.run())
        assert await journal.commit(KeptRow(rig.clock.utc(), name, text))
        await journal.close()


@virtual
@pytest.mark.parametrize("text", ["{}", "no json", "[]", '{"day": "2026-01-02"}', "null"])
async def test_a_ticket_that_cannot_be_read_is_told_kept_aside_and_not_sent_again(
    rig: DeskRig, text: str
) -> None:
    rig.maker.wish = flat(NIGHT, 0.5)
    async with rig.trading() as desk:
        await rig.until(rig.gate(DAM).opens_at + MINUTE)
        name = kept_row(desk.tickets[DAM], START).name
        assert desk.tickets[DAM].state == "accepted"
    await overwritten(rig, name, text)
    async with rig.trading() as desk:
        await rig.pass_by(minutes=1)
        assert desk.ready
        assert desk.tickets[DAM].state == "unsure", "it may have been sent"
        assert "cannot be read" in rig.standing()[Code.MARKET_SUBMISSION]
        await rig.until(rig.gate(DAM).late_at + 2 * MINUTE)
        assert rig.exchange.count(desk.tickets[DAM].ticket.id) == 1
        assert desk.position_mw(NIGHT) == 0.5, "what it cleared counts all the same"
        others = [kept.state for auction, kept in desk.tickets.items() if auction != DAM]
        assert others
        assert set(others) <= {"accepted", "none"}
    aside = rows_of(rig.path, "SELECT name, value_json FROM kept WHERE name LIKE 'unread%'")
    assert text in [value for _, value in aside]


@virtual
async def test_rows_of_no_auction_at_all_and_a_switch_that_cannot_be_read(rig: DeskRig) -> None:
    await overwritten(rig, "ticket/nonsense", "{")
    await overwritten(rig, STOPPED, "[]")
    async with rig.trading() as desk:
        await rig.pass_by(minutes=30)
        assert desk.ready
        assert "cannot be read" in desk.status()["stopped"], "what is not known is not traded"
        assert rig.exchange.sent == []
        assert await desk.resume()
        await rig.pass_by(hours=2)
        assert rig.exchange.sent


# --- the maker ---


def broken(*_: object) -> Book:
    raise ZeroDivisionError("a maker's own fault")


@virtual
async def test_a_maker_that_raises_is_a_rung_that_failed(rig: DeskRig) -> None:
    rig.maker.wish = broken
    async with rig.trading() as desk:
        await rig.until(rig.gate(DAM).opens_at + MINUTE)
        kept = desk.tickets[DAM]
        assert (kept.state, kept.story.rung) == ("none", "hold")
        assert "fresh: ZeroDivisionError: a maker's own fault" in kept.story.why
        assert Code.MARKET_FORECAST in rig.standing()
        rig.maker.wish = flat(NIGHT, 0.5)
        await rig.pass_by(hours=1)
        assert Code.MARKET_FORECAST not in rig.standing()


WRONG = [Pair(NAN, 0.5), Pair(3000.0, NAN), Pair(3000.0, INF), Pair(-INF, 0.5), Pair(INF, 0.5)]
WRONG += [Pair(3000.0, -0.5), Pair(-5000.0, 0.5), Pair(1e300, 0.5), Pair(3000.0, 1e300)]


@virtual
@pytest.mark.parametrize("pair", WRONG, ids=str)
async def test_no_wish_whatever_stops_the_desk_or_gets_through(rig: DeskRig, pair: Pair) -> None:
    def wish(wanted: Wanted) -> Book:
        sale, purchase = Bid(sells=(pair,)), Bid(buys=(pair,))
        return Book({b: sale if b.number % 2 else purchase for b in wanted.auction.blocks})

    rig.maker.wish = wish
    async with rig.trading() as desk:
        await rig.until(rig.gate(DAM).opens_at + MINUTE)
        assert desk.tickets[DAM].state in {"none", "accepted"}
    bids = [bid for ticket, _ in rig.exchange.sent for _, bid in ticket.book]
    sent = [each for bid in bids for each in (*bid.sells, *bid.buys)]
    assert all(0.0 <= each.price_rs_per_mwh <= 10_000.0 for each in sent)
    assert all(0.0 < each.power_mw <= 5.0 for each in sent)


# --- questions ---


class Counting:
    """Counts what the exchange is asked."""

    def __init__(self, rig: DeskRig) -> None:
        self.asked: Counter[str] = Counter()
        self.portfolio_days: list[date] = []
        for name in ("prices", "results", "portfolio"):
            setattr(rig.exchange, name, self._counted(name, getattr(rig.exchange, name)))

    def _counted(self, name: str, ask: Callable[..., object]) -> Callable[..., object]:
        def counted(of: object) -> object:
            self.asked[name] += 1
            if name == "portfolio":
                assert isinstance(of, date)
                self.portfolio_days.append(of)
            return ask(of)

        return counted


@virtual
async def test_prices_are_asked_for_once_a_result_is_out(rig: DeskRig) -> None:
    counting = Counting(rig)
    async with rig.trading():
        await rig.until(START + timedelta(hours=6))
        auctions = sum(gate.closes_at < rig.clock.utc() for gate in rig.gates)
        assert counting.asked["prices"] <= 3 * auctions
    priced = rows_of(rig.path, "SELECT count(*) FROM price WHERE kind = 'cleared'")
    assert priced[0][0] >= 96 + 2 * 8  # type: ignore[operator]


@virtual
async def test_a_doubtful_result_is_asked_for_again_soon(rig: DeskRig) -> None:
    rig.maker.wish = flat(NIGHT, 0.5)
    rig.edits[DAM] = {
        -10.0: lambda result: replace(result, cleared_mw={}),
        +1.0: lambda result: result,
    }
    async with rig.trading() as desk:
        await rig.until(rig.gate(DAM).late_at + 5 * MINUTE)
        assert desk.position_mw(NIGHT) == 0.5


# --- the exchange's own book ---


ONE = timedelta(hours=1)
NIGHTLY = Block(DAY, 5).start + 20 * MINUTE  # by then the day that is over was compared
EVENING = Auction(DAY - timedelta(days=1), 45, "rtm")
SOLD = EVENING.blocks[0]


@virtual
async def test_what_the_exchange_says_is_held_is_compared_once_a_day_and_after_a_start(
    rig: DeskRig,
) -> None:
    counting = Counting(rig)
    async with rig.trading() as desk:
        await rig.pass_by(minutes=20)
        assert counting.asked["portfolio"] == 3
        await rig.until(NIGHTLY)
        assert desk.ready
        assert Code.MARKET_PORTFOLIO not in rig.standing()
        assert counting.asked["portfolio"] == 6
        assert set(counting.portfolio_days) == {DAY + n * 24 * ONE for n in (-2, -1, 0, 1)}
    async with rig.trading():
        await rig.pass_by(minutes=20)
        assert counting.asked["portfolio"] == 9


@virtual
async def test_a_difference_is_told_looked_into_and_over_when_it_is(rig: DeskRig) -> None:
    """The result was changed after its blocks were delivered and nobody asked for it any more."""

    def wish(wanted: Wanted) -> Book:
        return Book({SOLD: Bid((Pair(0.0, 0.5),))} if wanted.auction == EVENING else {})

    rig.maker.wish = wish
    async with rig.trading() as desk:
        await rig.until(SOLD.end + ONE)
        assert desk.position_mw(SOLD) == 0.5
        rig.exchange.published[EVENING] = scaled(rig.exchange.published[EVENING], 0.4)
        await rig.until(NIGHTLY + ONE)
        assert desk.position_mw(SOLD) == pytest.approx(0.2), "it was asked for again"
        assert Code.MARKET_PORTFOLIO not in rig.standing()
    told = rows_of(rig.path, "SELECT text FROM event WHERE code = 'market_portfolio'")
    assert f"{SOLD}: 0.5 MW in the ledger, 0.2 MW there" in str(told)


@virtual
async def test_somebody_else_bids_for_this_portfolio(rig: DeskRig) -> None:
    honest = rig.exchange.portfolio

    async def portfolio(day: date) -> Mapping[Block, float]:
        return {**await honest(day), SOLD: 3.0}

    rig.maker.wish = flat(Block(DAY, 20), 0.5)
    rig.exchange.portfolio = portfolio  # type: ignore[method-assign]
    async with rig.trading():
        await rig.until(NIGHTLY)
        said = rig.standing()[Code.MARKET_PORTFOLIO]
        assert said.startswith(f"{SOLD}: 0 MW in the ledger, 3 MW there")


@virtual
async def test_an_exchange_that_shows_no_portfolio_is_no_alarm(rig: DeskRig) -> None:
    async def portfolio(day: date) -> Mapping[Block, float]:
        raise Unsure(f"nothing shown of {day}")

    rig.exchange.portfolio = portfolio  # type: ignore[method-assign]
    async with rig.trading() as desk:
        await rig.pass_by(hours=1)
        assert desk.ready
        assert Code.MARKET_PORTFOLIO not in rig.standing()


# --- a clock, a dry run ---


@virtual
async def test_a_jump_over_a_gate_leaves_no_bid_without_a_ticket_and_no_ticket_without_an_end(
    rig: DeskRig,
) -> None:
    after = Auction(DAY, 1, "rtm")
    async with rig.trading() as desk:
        await rig.until(rig.gate(after).opens_at - MINUTE)
        rig.clock.step_utc(45 * 60.0)
        await rig.pass_by(minutes=20)
        assert desk.tickets[after].state == "missed"
        assert after not in desk.trades
        taken = {ticket.id: ticket for ticket in rig.exchange.taken}
        held = {k.ticket.id: k.ticket for k in desk.tickets.values() if k.state == "accepted"}
        assert taken == held


@virtual
async def test_a_dry_run_asks_nothing_of_its_own_tickets(tmp_path: Path) -> None:
    """Not one request that could hand something in, ask for it, or ask for what was traded."""
    rig = DeskRig(tmp_path / "journal.db", replace(SETTINGS, dry_run=True))

    async def forbidden(what: object) -> None:
        raise AssertionError(f"a dry run asked for {what}")

    for name in ("submit", "status", "results", "portfolio"):
        setattr(rig.exchange, name, forbidden)
    async with rig.trading() as desk:
        await rig.until(START + timedelta(hours=4))
        assert {kept.state for kept in desk.tickets.values()} <= {"dry_run", "none"}
    async with rig.trading() as desk:
        await rig.pass_by(hours=1)
        assert "dry_run" in {kept.state for kept in desk.tickets.values()}
