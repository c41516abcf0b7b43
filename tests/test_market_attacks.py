"""Answers that cannot be, and two who bid for one portfolio: nothing of it counts, nothing of it
stops the rest, all of it is told, and no token gets into words."""

import asyncio
import json
import math
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.desk_rig import DAM as DESK_DAM
from tests.desk_rig import DAY as DESK_DAY
from tests.desk_rig import STORAGE, DeskRig, flat
from tests.exchange_site import DAM, DAY, TOKEN, HandClock, Site, exchange_site, market, ticket
from tests.killed_exchange import Lives
from tests.virtual_time import virtual
from vppd.core.alarms import Code
from vppd.core.settings_exchange import WireSettings
from vppd.core.settings_market import ExchangeSettings, TermsSettings
from vppd.market.blocks import Block
from vppd.market.book import Bid, Pair
from vppd.market.exchange import (
    Auction,
    NotUnderstood,
    Refused,
    Result,
    Status,
    Ticket,
    Unsure,
)
from vppd.market.exchanges import exchange_of
from vppd.market.exchanges.asking import meaning
from vppd.market.exchanges.wire import Garbled, Wire, epoch_of, period_of

KILLS_HERE = 15  # of killed_exchange.KILLS, which are for a run by hand
MEMBER, TERMS = ExchangeSettings(), TermsSettings()
WIRE, WORDS = Wire(MEMBER, WireSettings()), WireSettings()
MINUTE = timedelta(minutes=1)


def row(number: int, power: float = 100, price: float = 400_000, **more: Any) -> dict[str, Any]:
    """One block of a report, in the exchange's own words."""
    since, until = period_of(Block(DAY, number))
    detail = {
        WORDS.portfolio: more.pop("portfolio", MEMBER.portfolio),
        WORDS.side: WORDS.sell,
        WORDS.quantity: power,
    }
    return {
        WORDS.date: epoch_of(DAY),
        WORDS.session: 0,
        WORDS.since: since,
        WORDS.until: until,
        WORDS.area_price: price,
        WORDS.details: [detail],
    } | more


def read(rows: list[dict[str, Any]]) -> dict[Block, float]:
    """As it comes over the line."""
    said = meaning(200, json.dumps({WORDS.report: rows}).encode())
    return WIRE.results_in(said, DAM, TERMS)[0]


DAY_ROWS = [row(number) for number in range(1, 97)]


def test_a_report_as_it_should_be() -> None:
    assert set(read(DAY_ROWS).values()) == {1.0}
    assert len(read(DAY_ROWS)) == 96
    assert len(read(DAY_ROWS[:-1])) == 95, "it is partial, which is told and counted as such"
    assert read([row(1) | {WORDS.details: []}]) == {Block(DAY, 1): 0.0}


CANNOT_BE: list[list[dict[str, Any]]] = [
    [*DAY_ROWS, row(96)],  # 97 blocks
    [row(1, price=-1.0)],
    [row(1, price=math.nan)],
    [row(1, price=math.inf)],
    [row(1, price=4_000_000)],  # above the cap: another scale
    [row(1, power=math.nan)],
    [row(1, power=-100)],
    [row(1, power=True)],
    [row(1, portfolio="S1-OTHER")],
    [row(1) | {WORDS.date: epoch_of(DAY) - 19_800}],
    [row(1) | {WORDS.until: "24:15"}],
]


@pytest.mark.parametrize("rows", CANNOT_BE)
def test_a_report_that_cannot_be_is_not_read(rows: list[dict[str, Any]]) -> None:
    with pytest.raises(Garbled):
        read(rows)


def test_a_name_that_stands_twice_says_nothing() -> None:
    for raw in (b'{"a": 1, "a": 2}', b'{"rows": [{"QTrade": 1, "QTrade": 100}]}'):
        with pytest.raises(Unsure):
            meaning(200, raw)


# --- at the desk ---


@pytest.fixture
def rig(tmp_path: Path) -> DeskRig:
    return DeskRig(tmp_path / "journal.db")


@virtual
@pytest.mark.parametrize("power_mw", [1e300, -1e12, math.nan, math.inf])
async def test_an_absurd_amount_counts_for_nothing_and_does_not_stop_the_others(
    rig: DeskRig, power_mw: float
) -> None:
    """The day-ahead result stays nonsense; sessions after it are read as ever."""
    night = Block(DESK_DAY, 8)
    rig.maker.wish = flat(night, 0.5)
    rig.edits[DESK_DAM] = {
        -10.0: lambda result: replace(
            result, cleared_mw=dict.fromkeys(result.cleared_mw, power_mw)
        ),
        +60.0: lambda result: result,
    }
    async with rig.trading() as desk:
        await rig.until(rig.gate(DESK_DAM).late_at + 2 * MINUTE)
        assert all(desk.position_mw(block) == 0.0 for block in DESK_DAM.blocks)
        assert "not understood" in rig.standing()[Code.MARKET_RESULT]
        assert rig.rows("SELECT count(*) FROM market_result WHERE product = 'dam'") == [(0,)]
        await rig.pass_by(minutes=60)
        assert desk.position_mw(night) == 0.5
        assert Code.MARKET_RESULT not in rig.standing()


@virtual
async def test_one_answer_that_cannot_be_read_starves_no_other_auction(rig: DeskRig) -> None:
    honest = rig.exchange.results

    async def results(auction: Auction) -> Result | None:
        if auction.product == "dam":
            raise NotUnderstood("not understood: a wrong scale")
        return await honest(auction)

    rig.exchange.results = results  # type: ignore[method-assign]
    async with rig.trading() as desk:
        await rig.until(rig.gate(DESK_DAM).late_at + 60 * MINUTE)
        finals = [each for each, trade in desk.trades.items() if trade.final]
        assert finals
        assert all(auction.product == "rtm" for auction in finals)
        assert "not understood: a wrong scale" in rig.standing()[Code.MARKET_RESULT]
    told = str(rig.rows("SELECT text FROM event WHERE code = 'market_result'"))
    assert f"{DESK_DAM}: late" in told


@virtual
async def test_a_unit_lost_just_before_a_gate_and_a_charge_that_jumps(rig: DeskRig) -> None:
    """The book of that very gate is made for what is left."""
    first, second = (Auction(DESK_DAY, session, "rtm") for session in (1, 2))
    async with rig.trading() as desk:
        await rig.until(rig.gate(first).opens_at - timedelta(seconds=1))
        rig.plant.storage = replace(STORAGE, discharge_mw=0.2, charge_mw=0.2)
        await rig.until(rig.gate(first).closes_at)
        held = {block: desk.position_mw(block) for block in first.blocks}
        for block, bid in desk.tickets[first].ticket.book:
            assert held[block] + bid.most_sold_mw <= max(0.2, held[block]) + 1e-6
        rig.plant.storage = STORAGE
        await rig.until(rig.gate(second).opens_at - timedelta(seconds=1))
        rig.plant.energy_mwh = STORAGE.low_mwh  # all of it is gone, or was never there
        await rig.until(rig.gate(second).closes_at)
        sold = sum(bid.most_sold_mw for _, bid in desk.tickets[second].ticket.book)
        assert sold == 0.0


# --- two daemons, one portfolio ---


def on_site(act: Callable[[Site], Awaitable[None]]) -> None:
    async def main() -> None:
        async with exchange_site() as site:
            await act(site)

    asyncio.run(main())


def test_a_second_hand_on_one_portfolio_is_not_taken_for_our_own() -> None:
    """The same auction has the same id at both: the second finds a book that is not its own."""

    async def act(site: Site) -> None:
        await site.side.submit(ticket())
        await site.side.submit(ticket())  # the same again is the same
        other = ticket(bids={1: Bid(sells=(Pair(3000.0, 2.0),))})
        with pytest.raises(Unsure, match="holds 0 of 1 curves"):
            await site.other_side().submit(other)
        status = await site.other_side().status(other)
        assert (status.standing, status.as_sent) == ("accepted", False)
        assert len(site.server.hall.of_ticket("t1")) == 1

    on_site(act)


@virtual
async def test_what_is_held_otherwise_than_sent_is_told(rig: DeskRig) -> None:
    async def submit(ticket: Ticket) -> None:
        raise Unsure("holds 0 of 1 curves as they were sent")

    async def status(ticket: Ticket) -> Status:
        return Status("accepted", "holds 0 of 1 curves as they were sent", as_sent=False)

    rig.exchange.submit = submit  # type: ignore[method-assign]
    rig.exchange.status = status  # type: ignore[method-assign]
    async with rig.trading() as desk:
        await rig.until(rig.gate(DESK_DAM).opens_at + 2 * MINUTE)
        kept = desk.tickets[DESK_DAM]
        assert (kept.state, kept.text) == ("accepted", "holds 0 of 1 curves as they were sent")
        assert "another hand" in rig.standing()[Code.MARKET_SUBMISSION]


# --- the token ---


def test_an_answer_that_repeats_the_token_does_not_carry_it_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def echo(request: web.Request) -> web.Response:
        secret = request.headers["Authorization"]
        return web.Response(status=401, text=f"not known: {secret}")

    async def main() -> None:
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", echo)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            side = exchange_of(market(url), HandClock(ticket().closes_at - timedelta(hours=1)))
            said = []
            for ask in (side.submit(ticket()), side.results(DAM), side.status(ticket())):
                with pytest.raises((Refused, Unsure)) as raised:
                    await ask
                said.append(str(raised.value))
            assert all("not known: Bearer (token)" in each for each in said)
            assert TOKEN not in "".join(said)
        finally:
            await runner.cleanup()

    asyncio.run(main())
    out = capsys.readouterr()
    assert TOKEN not in out.out + out.err


# --- kill -9 ---


def test_killed_at_every_step_of_the_real_wire_the_exchanges_own_book_agrees(
    tmp_path: Path,
) -> None:
    lives = Lives(tmp_path, seed=1)
    lives.kill(KILLS_HERE)
    lives.assert_agrees()
