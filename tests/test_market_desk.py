"""The desk over a day of gates on virtual time, and everything that may go wrong with one."""

import json
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.desk_rig import DAM, DAY, SETTINGS, START, STORAGE, DeskRig, flat, price, scaled
from tests.virtual_time import virtual
from vppd.core.alarms import Code
from vppd.core.settings_market import RiskSettings
from vppd.market.blocks import Block, blocks_of
from vppd.market.dealing.tickets import ticket_id
from vppd.market.exchange import Auction

NIGHT = Block(DAY, 8)
SESSION = Auction(DAY, 4, "rtm")  # it delivers blocks 7 and 8
MINUTE = timedelta(minutes=1)


@pytest.fixture
def rig(tmp_path: Path) -> DeskRig:
    return DeskRig(tmp_path / "journal.db")


@virtual
async def test_a_day_of_49_gates_is_kept(rig: DeskRig) -> None:
    async with rig.trading() as desk:
        await rig.pass_by(hours=26)
        day = [gate for gate in rig.gates if gate.closes_at <= START + timedelta(days=1)]
        assert len(day) == 49
        states = Counter(desk.tickets[gate.auction].state for gate in day)
        assert set(states) == {"accepted", "none"}
        assert states["accepted"] > 25
        for ticket, at in rig.exchange.sent:
            gate = rig.gate(ticket.auction)
            assert gate.opens_at <= at < gate.closes_at - timedelta(seconds=20)
        assert len({ticket.id for ticket in rig.exchange.taken}) == len(rig.exchange.taken)
        portfolio = await rig.exchange.portfolio(DAY)
        delivered = [block for block in blocks_of(DAY) if block.end <= rig.clock.utc()]
        assert all(desk.position_mw(b) == pytest.approx(portfolio[b]) for b in delivered)
        assert any(desk.position_mw(b) > 0 for b in delivered)
        assert any(desk.position_mw(b) < 0 for b in delivered)
        assert STORAGE.low_mwh - 1e-6 <= rig.plant.lowest_mwh
        assert rig.plant.highest_mwh <= STORAGE.high_mwh + 1e-6
        assert rig.standing() == {}
    ahead = f"product = 'dam' AND day = '{DAY}'"
    finals = f"SELECT count(*) FROM market_result WHERE state = 'final' AND {ahead}"  # noqa: S608
    assert rig.rows(finals) == [(96,)]
    priced = f"SELECT count(*) FROM price WHERE kind = 'cleared' AND {ahead}"  # noqa: S608
    assert rig.rows(priced) == [(96,)]


@virtual
async def test_why_a_block_is_traded_as_it_is(rig: DeskRig) -> None:
    async with rig.trading() as desk:
        await rig.until(rig.gate(DAM).late_at)
        block = max(desk.tickets[DAM].ticket.book.bids)
        told = desk.explain(block)
        (offered,) = told["auctions"]
        assert json.loads(json.dumps(told)) is not None
        assert (offered["state"], offered["rung"]) == ("accepted", "fresh")
        assert offered["forecast_rs_per_mwh"] == price(block) + 50.0
        assert offered["bound"][0] == "cycles"
        assert offered["maker"] == {"plan_mw": 0.5}
        assert offered["cleared_mw"] == told["position_mw"] == desk.position_mw(block)
        assert dict(desk.book_of(block)) == {DAM: desk.tickets[DAM].ticket.book.bids[block]}
        assert desk.status()["ready"]


# --- results ---


@virtual
async def test_a_late_result_is_told_and_counts_when_it_comes(rig: DeskRig) -> None:
    rig.maker.wish = flat(NIGHT, 0.5)
    rig.edits[DAM] = {+20.0: lambda result: result}
    async with rig.trading() as desk:
        await rig.until(rig.gate(DAM).late_at + 2 * MINUTE)
        assert "late" in rig.standing()[Code.MARKET_RESULT]
        assert desk.position_mw(NIGHT) == 0.0
        await rig.pass_by(minutes=20)
        assert rig.standing() == {}
        assert desk.position_mw(NIGHT) == 0.5


@virtual
async def test_a_partial_result_counts_as_far_as_it_goes(rig: DeskRig) -> None:
    other = Block(DAY, 9)
    rig.maker.wish = flat(NIGHT, 0.5)
    rig.edits[DAM] = {
        -10.0: lambda result: replace(
            result, cleared_mw={k: v for k, v in result.cleared_mw.items() if k != NIGHT}
        ),
        +20.0: lambda result: result,
    }
    async with rig.trading() as desk:
        await rig.until(rig.gate(DAM).late_at)
        assert "partial" in rig.standing()[Code.MARKET_RESULT]
        assert desk.position_mw(NIGHT) == desk.position_mw(other) == 0.0
        await rig.pass_by(minutes=45)  # a final result is asked for again every quarter of an hour
        assert desk.position_mw(NIGHT) == 0.5


@virtual
async def test_of_contradictory_results_the_newer_counts_and_a_retracted_one_does_not(
    rig: DeskRig,
) -> None:
    rig.maker.wish = flat(NIGHT, 0.5)
    rig.edits[DAM] = {
        -10.0: lambda result: result,
        +15.0: lambda result: scaled(result, 0.4),
        +60.0: lambda result: replace(result, state="retracted"),
        +120.0: lambda result: result,
    }
    late_at = rig.gate(DAM).late_at
    async with rig.trading() as desk:
        await rig.until(late_at)
        assert desk.position_mw(NIGHT) == 0.5
        await rig.until(late_at + 40 * MINUTE)
        assert desk.position_mw(NIGHT) == pytest.approx(0.2)
        assert "contradicted" in rig.standing()[Code.MARKET_RESULT]
        await rig.until(late_at + 80 * MINUTE)
        assert desk.position_mw(NIGHT) == 0.0
        before = desk.trades[DAM]
        assert before.faults == {"retracted"}
    async with rig.trading() as desk:  # all of it is in the journal
        await rig.pass_by(minutes=1)
        assert desk.trades[DAM] == before
        await rig.until(late_at + 140 * MINUTE)
        assert desk.position_mw(NIGHT) == 0.5
        assert rig.standing() == {}
    told = [text for (text,) in rig.rows("SELECT text FROM event WHERE code = 'market_result'")]
    assert f"{DAM}: contradicted" in told
    assert f"{DAM}: retracted" in told


# --- gates ---


@virtual
async def test_an_exchange_down_across_a_gate_misses_it_and_the_next_session_goes_on(
    rig: DeskRig,
) -> None:
    missed = Auction(DAY, 1, "rtm")
    after = Auction(DAY, 2, "rtm")
    async with rig.trading() as desk:
        await rig.until(rig.gate(missed).opens_at - MINUTE)
        rig.exchange.down = True
        await rig.until(rig.gate(missed).closes_at + MINUTE)
        assert desk.tickets[missed].state == "unsure"
        assert Code.MARKET_SUBMISSION in rig.standing()
        rig.exchange.down = False
        await rig.pass_by(minutes=2)
        assert desk.tickets[missed].state == "missed"
        await rig.until(rig.gate(after).closes_at)
        assert desk.tickets[after].state == "accepted"
        assert Code.MARKET_SUBMISSION not in rig.standing()
        await rig.until(rig.gate(after).late_at + MINUTE)
        assert missed not in desk.trades
    assert rig.exchange.count(ticket_id(missed)) == 0


@virtual
async def test_a_clock_that_jumps_over_gates_misses_them(rig: DeskRig) -> None:
    async with rig.trading() as desk:
        await rig.until(START + timedelta(hours=4))
        before = len(desk.tickets)
        rig.clock.step_utc(65 * 60.0)
        await rig.pass_by(minutes=3)
        states = Counter(kept.state for kept in list(desk.tickets.values())[before:])
        assert states["missed"] >= 1
        rig.clock.step_utc(-65 * 60.0)  # what was missed stays missed
        sent = len(rig.exchange.sent)
        await rig.pass_by(minutes=30)
        assert len(rig.exchange.sent) == sent
        await rig.pass_by(hours=2)
        assert len(rig.exchange.sent) > sent
    assert len({ticket.id for ticket, _ in rig.exchange.sent}) == len(rig.exchange.sent)
    told = "SELECT count(*) > 0 FROM event WHERE text LIKE '%: missed: %'"
    assert rig.rows(told) == [(1,)]


@virtual
async def test_nothing_is_sent_by_a_clock_that_is_not_right(rig: DeskRig) -> None:
    rig.synchronised = False
    async with rig.trading() as desk:
        await rig.until(rig.gate(DAM).closes_at + MINUTE)
        assert rig.exchange.sent == []
        rig.synchronised = True
        await rig.pass_by(minutes=1)
        assert desk.tickets[DAM].state == "missed"


@virtual
async def test_a_restart_in_the_middle_knows_what_is_held(rig: DeskRig) -> None:
    async with rig.trading() as desk:
        await rig.until(rig.gate(Auction(DAY, 4, "rtm")).closes_at + MINUTE)
        held = {block: desk.position_mw(block) for block in blocks_of(DAY)}
        tickets, trades = dict(desk.tickets), dict(desk.trades)
    await rig.pass_by(minutes=70)
    rig.exchange.down = True  # what is held is known without it
    async with rig.trading() as desk:
        await rig.pass_by(minutes=1)
        assert {a: desk.tickets[a] for a in tickets} == tickets
        assert {a: desk.trades[a] for a in trades} == trades
        rig.exchange.down = False
        await rig.pass_by(minutes=1)
        news = [block for block in held if desk.position_mw(block) != held[block]]
        assert set(news) <= {b for s in (4, 5) for b in Auction(DAY, s, "rtm").blocks}
        late = [kept.state for auction, kept in desk.tickets.items() if auction not in tickets]
        assert "missed" in late
        sent = len(rig.exchange.sent)
        await rig.pass_by(hours=2)
        assert len(rig.exchange.sent) > sent
    assert len({ticket.id for ticket, _ in rig.exchange.sent}) == len(rig.exchange.sent)


# --- books ---


@virtual
async def test_the_ladder_down_to_nothing(rig: DeskRig) -> None:
    rig.maker.fails = {"fresh": "hang", "mean": "too few days"}
    gates = [gate for gate in rig.gates if gate.auction.product == "rtm"][3:]
    async with rig.trading() as desk:
        await rig.until(gates[0].closes_at)
        kept = desk.tickets[gates[0].auction]
        assert kept.story.rung == "yesterday"
        assert "fresh: not made in" in kept.story.why
        assert "mean: too few days" in kept.story.why
        assert Code.MARKET_FORECAST in rig.standing()
        rig.maker.fails["yesterday"] = "no price is known"
        await rig.until(gates[1].closes_at)
        kept = desk.tickets[gates[1].auction]
        assert (kept.state, kept.story.rung) == ("none", "hold")
        rig.maker.fails = {}
        await rig.until(gates[2].closes_at)
        assert Code.MARKET_FORECAST not in rig.standing()


@virtual
async def test_a_book_that_risk_forbids_is_not_sent_and_told(tmp_path: Path) -> None:
    settings = replace(SETTINGS, risk=RiskSettings(day_exposure_max_rs=1.0))
    rig = DeskRig(tmp_path / "journal.db", settings)
    async with rig.trading() as desk:
        await rig.until(rig.gate(DAM).closes_at)
        assert desk.tickets[DAM].state == "none"
        assert "Rs allowed" in desk.explain(NIGHT)["auctions"][0]["vetoes"][0]
    assert rig.rows("SELECT count(*) FROM event WHERE text LIKE '%vetoed%'")[0] != (0,)
    assert rig.exchange.sent == []


@virtual
async def test_an_operator_stops_trading_over_restarts(rig: DeskRig) -> None:
    async with rig.trading() as desk:
        await rig.pass_by(hours=3)
        assert await desk.stop("test")
        sent = len(rig.exchange.sent)
    async with rig.trading() as desk:
        await rig.pass_by(hours=3)
        assert desk.status()["stopped"] == "test"
        assert len(rig.exchange.sent) == sent
        assert await desk.resume()
        await rig.pass_by(hours=3)
        assert len(rig.exchange.sent) > sent


@virtual
async def test_a_dry_run_keeps_books_and_sends_nothing(tmp_path: Path) -> None:
    rig = DeskRig(tmp_path / "journal.db", replace(SETTINGS, dry_run=True))
    async with rig.trading() as desk:
        await rig.until(rig.gate(DAM).late_at)
        assert desk.tickets[DAM].state == "dry_run"
        assert desk.book_of(max(desk.tickets[DAM].ticket.book.bids))
        assert all(desk.position_mw(block) == 0.0 for block in blocks_of(DAY))
        assert rig.standing() == {}
    assert rig.exchange.sent == []
    assert rig.rows("SELECT DISTINCT state FROM market_bid") == [("planned",)]
    assert rig.rows("SELECT count(*) > 0 FROM price WHERE kind = 'cleared'") == [(1,)]


@virtual
async def test_what_a_book_lacks_at_first_is_waited_for_until_the_gate_closes(
    rig: DeskRig,
) -> None:
    """No unit shows its charge when the gate opens: told as an attempt, and bid when one does."""
    rig.plant.soc_known = False
    gate = rig.gate(DAM)
    async with rig.trading() as desk:
        await rig.until(gate.opens_at + timedelta(minutes=5))
        kept = desk.tickets[DAM]
        assert (kept.state, kept.auction) == ("none", DAM)
        assert "attempt" in kept.text
        assert "no unit shows its state of charge" in kept.text
        assert not [each for each, _ in rig.exchange.sent if each.auction == DAM]
    async with rig.trading() as desk:  # a restart forgets no gate that is open
        await rig.pass_by(minutes=2)
        assert "attempt" in desk.tickets[DAM].text
        rig.plant.soc_known = True
        await rig.pass_by(minutes=4)
        assert desk.tickets[DAM].state == "accepted"
    assert len([each for each, _ in rig.exchange.sent if each.auction == DAM]) == 1
    told = rig.rows("SELECT count(*) FROM event WHERE text LIKE 'dam%no unit shows%'")
    assert int(str(told[0][0])) >= 4


@virtual
async def test_what_a_book_lacks_to_the_end_stays_unbid_with_all_its_attempts(
    rig: DeskRig,
) -> None:
    rig.plant.soc_known = False
    gate = rig.gate(DAM)
    async with rig.trading() as desk:
        await rig.until(gate.closes_at + timedelta(minutes=1))
        kept = desk.tickets[DAM]
        assert kept.state == "none"
        assert " attempts: " in kept.text
    assert not [each for each, _ in rig.exchange.sent if each.auction == DAM]


# --- what cannot be delivered ---


@virtual
async def test_what_a_lost_unit_cannot_deliver_is_bought_back(rig: DeskRig) -> None:
    rig.maker.wish = flat(NIGHT, 0.7)
    async with rig.trading() as desk:
        await rig.until(rig.gate(SESSION).opens_at - MINUTE)
        assert desk.position_mw(NIGHT) == 0.7
        rig.plant.storage = replace(STORAGE, discharge_mw=0.25)
        await rig.until(rig.gate(SESSION).late_at)
        assert desk.position_mw(NIGHT) == pytest.approx(0.2)
        assert Code.MARKET_SHORTFALL not in rig.standing()


@pytest.mark.parametrize(("short_mwh", "told"), [(0.0004, False), (0.0006, True)])
@virtual
async def test_a_shortfall_of_less_than_is_printed_is_none(
    rig: DeskRig, short_mwh: float, told: bool
) -> None:
    rig.maker.wish = flat(NIGHT, 0.8)
    async with rig.trading():
        await rig.until(rig.gate(SESSION).opens_at - MINUTE)
        left_mwh = (0.2 - short_mwh) / STORAGE.discharge_efficiency
        rig.plant.energy_mwh = STORAGE.low_mwh + left_mwh
        rig.exchange.down = True
        await rig.until(NIGHT.start - 5 * MINUTE)
        assert (Code.MARKET_SHORTFALL in rig.standing()) is told
        if told:
            assert "0.001 MWh sold" in rig.standing()[Code.MARKET_SHORTFALL]


@virtual
async def test_what_low_charge_cannot_deliver_and_no_session_took_is_named(rig: DeskRig) -> None:
    rig.maker.wish = flat(NIGHT, 0.8)
    async with rig.trading() as desk:
        await rig.until(rig.gate(SESSION).opens_at - MINUTE)
        rig.plant.energy_mwh = STORAGE.low_mwh
        rig.exchange.down = True
        await rig.until(NIGHT.start - 5 * MINUTE)
        assert "0.200 MWh sold for want of energy" in rig.standing()[Code.MARKET_SHORTFALL]
        assert desk.explain(NIGHT)["short_mwh"] == pytest.approx(0.2)
        await rig.until(NIGHT.end + 2 * MINUTE)
        assert Code.MARKET_SHORTFALL not in rig.standing()
    sql = "SELECT data_json FROM event WHERE code = 'market_shortfall' AND data_json <> '{}'"
    ((data_json,),) = rig.rows(sql)
    assert json.loads(str(data_json))["short_mwh"] == pytest.approx(0.2)
