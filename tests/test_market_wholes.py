"""Bids for several blocks, all or none: no outcome breaks the storage, they arrive as meant, and
the simulated exchange takes all of one or nothing."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.exchange_site import DAM, DAY, HandClock, exchange_site, market, ticket
from tests.market_outcomes import BLOCKS, TERMS, Numbers, a_setting, broken, outcomes, wild_book
from vppd.core.settings_exchange import WireSettings
from vppd.core.settings_market import ExchangeSettings, RiskSettings
from vppd.market.blocks import BLOCK_H, Block
from vppd.market.book import Bid, Book, Pair, Whole
from vppd.market.corridor import State
from vppd.market.dealing.obligations import open_ranges
from vppd.market.dealing.tickets import Kept, bid_rows, kept_of, kept_row
from vppd.market.exchange import Ticket
from vppd.market.exchanges import SheetExchange, exchange_of
from vppd.market.exchanges.wire import Wire
from vppd.market.fitting import Setting, fitted
from vppd.market.risk import Known, bounded, vetoes, worst_cash_rs
from vppd.market.storage import Storage
from vppd.sim.exchange_hall import Sitting
from vppd.sim.exchange_words import bid_in

TAKEN = replace(TERMS, whole_bids=12)
OUTCOMES, BOOKS = 2000, 60
STORAGE = Storage(0.2, 2.0, 1.0, 1.0, 0.92, 0.92, 1.5, 1000.0)
KNOWN = Known(50.0, 1.0, True, 600.0)


def wild_wholes(random: np.random.Generator, setting: Setting) -> tuple[Whole, ...]:
    """Whatever an operator may type: long, large, off the grid, over the end of the day."""
    made = []
    for _ in range(random.integers(1, 9)):
        first = BLOCKS[int(random.integers(0, 96))]
        power_mw = float(random.uniform(-1.0, 1.0) * setting.storage.discharge_mw)
        made.append(
            Whole(first, int(random.integers(1, 12)), float(random.uniform(0, 10_500)), power_mw)
        )
    return tuple(made)


def with_subsets(net_mw: Numbers, wholes: Sequence[Whole], random: np.random.Generator) -> Numbers:
    """The same clearings, with any of the whole bids taken on top of each."""
    total = net_mw.copy()
    for whole in wholes:
        taken = random.random(len(total)) < random.choice([0.1, 0.5, 0.9])
        for block in whole.blocks:
            total[taken, BLOCKS.index(block)] += whole.power_mw
    return total


def test_no_subset_of_whole_bids_on_any_clearing_breaks_anything() -> None:
    random = np.random.default_rng(96)
    kept = 0
    for number in range(BOOKS):
        setting = replace(a_setting(random, firm=bool(number % 4)), terms=TAKEN)
        few = wild_book(random, setting).bids if number % 3 else {}
        wish = Book(few, wild_wholes(random, setting))
        book = fitted(wish, setting).book
        singles = outcomes(Book(book.bids), BLOCKS, OUTCOMES, random)
        assert not broken(with_subsets(singles, book.wholes, random), setting), f"book {number}"
        for whole in book.wholes:
            assert abs(whole.power_mw) / TERMS.step_mw == pytest.approx(
                round(abs(whole.power_mw) / TERMS.step_mw)
            )
            assert TERMS.floor_rs_per_mwh <= whole.price_rs_per_mwh <= TERMS.cap_rs_per_mwh
            assert set(whole.blocks) <= set(BLOCKS)
        kept += len(book.wholes)
    assert kept > BOOKS / 3, "books without whole bids prove nothing"


def test_without_the_envelope_whole_bids_would_break_it() -> None:
    random = np.random.default_rng(5)
    setting = replace(a_setting(random), terms=TAKEN)
    wholes = tuple(Whole(BLOCKS[8 * n], 8, 2000.0, -setting.storage.charge_mw) for n in range(11))
    assert broken(with_subsets(np.zeros((500, 96)), wholes, random), setting)


def test_whole_bids_go_before_curves_and_nobody_counts_on_one() -> None:
    """A sale as a whole at the floor may still be left out, so what is bought must find room."""
    setting = Setting(STORAGE, TAKEN, State(2.0, 2.0, {}), BLOCKS, {})
    sale = Whole(BLOCKS[0], 4, 0.0, 1.0)
    buy = {BLOCKS[10]: Bid(buys=(Pair(10_000.0, 0.5),))}
    assert fitted(Book(buy, (sale,)), setting).book == Book({}, (sale,))
    sold = {BLOCKS[2]: Bid(sells=(Pair(5000.0, 0.6),))}
    fit = fitted(Book(sold, (sale,)), setting)
    assert fit.book == Book(sold)
    assert fit.cut[0].limit == "discharge"


def test_a_product_without_block_bids_sends_none() -> None:
    wish = Book({}, (Whole(BLOCKS[0], 4, 3000.0, 0.5),))
    setting = Setting(STORAGE, TERMS, State(1.5, 1.5, {}), BLOCKS, {})
    assert fitted(wish, setting).book.empty
    longer = replace(TAKEN, whole_blocks=(5, 96))
    assert fitted(wish, replace(setting, terms=longer)).book.empty
    assert not fitted(wish, replace(setting, terms=TAKEN)).book.empty


def test_risk_limits_hold_for_whole_bids() -> None:
    wholes = (Whole(BLOCKS[0], 4, 9000.0, -1.0), Whole(BLOCKS[70], 8, 100.0, 0.9))
    risk = RiskSettings(block_max_mw=0.5, sell_min_rs_per_mwh=2000.0, buy_max_rs_per_mwh=3000.0)
    book = bounded(Book({}, wholes), risk, KNOWN, real_time=False)
    assert book.wholes == (Whole(BLOCKS[0], 4, 3000.0, -0.5), Whole(BLOCKS[70], 8, 2000.0, 0.5))
    assert bounded(Book({}, wholes), RiskSettings(block_min_mw=2.0), KNOWN, real_time=False).empty
    low = replace(KNOWN, soc_pct=5.0)
    assert bounded(Book({}, wholes), risk, low, real_time=True).wholes[0].power_mw < 0.0
    assert len(bounded(Book({}, wholes), risk, low, real_time=True).wholes) == 1
    setting = Setting(STORAGE, TAKEN, State(1.5, 1.5, {}), BLOCKS, {})
    cost_rs = worst_cash_rs(book, TAKEN)
    assert cost_rs == pytest.approx(0.5 * 4 * BLOCK_H * 3020.0 + 0.5 * 8 * BLOCK_H * 20.0)
    tight = RiskSettings(day_exposure_max_rs=cost_rs - 1.0, day_max_mwh=0.9)
    said = "; ".join(vetoes(book, setting, tight, KNOWN))
    assert "may cost" in said
    assert "sells up to 1.00 MWh" in said
    assert not vetoes(book, setting, RiskSettings(), KNOWN)


def test_open_whole_bids_are_left_room_for() -> None:
    book = Book({BLOCKS[1]: Bid(sells=(Pair(4000.0, 0.2),))}, (Whole(BLOCKS[0], 2, 4000.0, -0.5),))
    found = open_ranges([(book, TAKEN)], firm=True)
    assert found == {BLOCKS[0]: (-0.5, 0.0), BLOCKS[1]: (-0.5, 0.2)}


# --- on paper and on the wire ---

WHOLES = (Whole(Block(DAY, 5), 8, 3500.0, -1.2), Whole(Block(DAY, 89), 8, 6000.0, 0.7))


def sent(wholes: tuple[Whole, ...] = WHOLES, name: str = "t1") -> Ticket:
    made = ticket(name)
    return replace(made, book=Book(made.book.bids, wholes))


def test_a_ticket_outlives_a_restart_with_its_whole_bids() -> None:
    kept = Kept(sent(), "accepted")
    at = kept.ticket.closes_at
    assert kept_of(kept_row(kept, at).value_json) == kept
    rows = [row for row in bid_rows(kept, "iex", at) if row.kind != "single"]
    assert len(rows) == 16
    assert {(row.kind, row.side) for row in rows} == {("block 1", "buy"), ("block 2", "sell")}


@given(
    st.integers(1, 96),
    st.integers(1, 96),
    st.integers(0, 10_000),
    st.integers(1, 300),
    st.booleans(),
)
def test_a_whole_bid_arrives_as_meant(
    first: int, count: int, price: int, tenths: int, sells: bool
) -> None:
    count = min(count, 97 - first)
    whole = Whole(Block(DAY, first), count, float(price), tenths / 10 * (1 if sells else -1))
    exchange = ExchangeSettings(user="U1", participant="P1")
    _, _, sitting, _, (there,) = bid_in(
        "dam", Wire(exchange, WireSettings()).bid_out(sent((whole,)))
    )
    assert sitting == Sitting("dam", DAY, 0)
    assert (there.first, there.last, there.sells) == (first, first + count - 1, sells)
    assert (there.limit_paise, there.lots) == (price * 100, tenths * 10)


def test_all_of_a_whole_bid_is_taken_or_none_of_it() -> None:
    """One that the mean price favours, one that it speaks against, and what the exchange shows."""
    cheap, dear = Block(DAY, 41), Block(DAY, 77)
    wholes = (
        Whole(cheap, 8, 9000.0, -1.5),
        Whole(cheap, 4, 1.0, -0.9),
        Whole(dear, 4, 9999.0, 1.1),
        Whole(dear, 8, 500.0, 0.6),
    )

    async def main() -> None:
        async with exchange_site() as site:
            book = sent(wholes)
            await site.side.submit(book)
            assert (await site.side.status(book)).as_sent
            other = await site.side.status(sent(wholes[:3]))
            assert not other.as_sent
            assert "4 block bids, not the 3 sent" in other.text
            again = site.server.hall  # an exchange that is started again knows them
            assert again.placed[0].wholes
            site.close(DAM, 95)
            result = await site.side.results(DAM)
            assert result is not None
            got_mw, prices = result.cleared_mw, result.price_rs_per_mwh
            for offset in range(8):
                assert got_mw[cheap.after(offset)] == pytest.approx(-1.5)
                assert got_mw[dear.after(offset)] == pytest.approx(0.6)
            mean = sum(prices[dear.after(n)] for n in range(4)) / 4
            assert mean < 9999.0

    asyncio.run(main())


def test_the_exchange_refuses_whole_bids_that_it_does_not_take() -> None:
    async def main() -> None:
        async with exchange_site() as site:
            many = tuple(Whole(Block(DAY, 1 + n), 1, 3000.0, 0.1) for n in range(21))
            with pytest.raises(Exception, match="Number of block bids"):
                await site.side.submit(sent(many))
            with pytest.raises(Exception, match="whole number"):
                await site.side.submit(sent((Whole(Block(DAY, 1), 2, 3000.5, 0.1),)))

    asyncio.run(main())


def test_whole_bids_have_a_sheet_of_their_own(tmp_path: Path) -> None:
    clock = HandClock(ticket().closes_at.replace(hour=4))
    side = exchange_of(market(None, kind="sheet", directory=str(tmp_path)), clock)
    assert isinstance(side, SheetExchange)
    asyncio.run(side.submit(sent()))
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {"t1.csv", "t1.json", "t1.block.json"}
    said = json.loads((out / "t1.block.json").read_text())
    assert (said["bidType"], json.loads((out / "t1.json").read_text())["bidType"]) == (
        "Block",
        "Single",
    )
    assert said["bid"][0] == {
        "fromtime": "01:00",
        "totime": "03:00",
        "type": "B",
        "bidvalue": [{"price": 3.5, "value": 1.2}],
    }
    rows = (out / "t1.csv").read_text().splitlines()
    assert [row.split(",")[8] for row in rows[-2:]] == ["block B", "block S"]
    assert asyncio.run(side.status(sent())).standing == "accepted"
    assert not asyncio.run(side.status(sent(WHOLES[:1]))).as_sent
