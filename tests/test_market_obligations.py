"""What was traded against what can be done: shortfalls, bids that close them, bids still out."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from vppd.market.blocks import BLOCK_H, Block, blocks_of
from vppd.market.book import Bid, Book, Pair
from vppd.market.corridor import State
from vppd.market.dealing.obligations import (
    Held,
    added,
    blocks_through,
    closing,
    open_ranges,
    shorts_of,
    state_at,
)
from vppd.market.fitting import Setting, fitted
from vppd.market.storage import Storage, Terms

STORAGE = Storage(0.2, 1.9, 1.0, 1.0, 0.92, 0.9, 2.0, 1000.0)
TERMS = Terms()
DAY = date(2026, 11, 20)
BLOCKS = blocks_of(DAY)[20:32]
POWERS = st.lists(st.integers(-20, 20).map(lambda steps: steps / 10), min_size=12, max_size=12)
ENERGY = st.floats(0.0, 2.0)


def delivered(energy_mwh: float, traded_mw: dict[Block, float]) -> list[float]:
    """Stored energy after each block when what is short is left out."""
    shorts = {s.block: s.short_mw for s in shorts_of(STORAGE, energy_mwh, BLOCKS, traded_mw)}
    path = []
    for block in BLOCKS:
        energy_mwh += STORAGE.stored_mwh(traded_mw.get(block, 0.0) - shorts.get(block, 0.0))
        path.append(energy_mwh)
    return path


@given(ENERGY, POWERS)
def test_what_is_left_of_the_trades_can_be_delivered(start_mwh: float, mw: list[float]) -> None:
    traded_mw = dict(zip(BLOCKS, mw, strict=True))
    for energy_mwh in delivered(start_mwh, traded_mw):
        assert min(STORAGE.low_mwh, start_mwh) - 1e-9 <= energy_mwh
        assert energy_mwh <= max(STORAGE.high_mwh, start_mwh) + 1e-9
    for short in shorts_of(STORAGE, start_mwh, BLOCKS, traded_mw):
        wanted_mw = traded_mw[short.block]
        assert 0.0 < short.short_mw / wanted_mw <= 1.0 + 1e-9, "never more than was traded"


@given(ENERGY, POWERS)
def test_bids_that_close_leave_less_than_a_step_short(start_mwh: float, mw: list[float]) -> None:
    """Rounding buys back a little too much, which a full battery cannot take: under a step."""
    traded_mw = dict(zip(BLOCKS, mw, strict=True))
    book = closing(shorts_of(STORAGE, start_mwh, BLOCKS, traded_mw), TERMS)
    left = shorts_of(STORAGE, start_mwh, BLOCKS, added(traded_mw, book, TERMS))
    assert all(abs(short.short_mw) < TERMS.step_mw for short in left)


def test_the_limit_that_binds_is_named() -> None:
    weak = replace(STORAGE, discharge_mw=0.25)
    (power,) = shorts_of(weak, 1.0, BLOCKS, {BLOCKS[3]: 0.7})
    assert (power.limit, round(power.short_mw, 9)) == ("power", 0.45)
    (energy,) = shorts_of(STORAGE, 0.2, BLOCKS, {BLOCKS[3]: 0.7})
    assert (energy.limit, energy.short_mwh) == ("energy", 0.7 * BLOCK_H)
    assert closing([power, energy], TERMS).bids[BLOCKS[3]].buys[0].power_mw == 0.7


@given(ENERGY, POWERS, POWERS, st.integers(0, 11), st.floats(0.0, 0.99))
def test_a_book_begins_where_what_is_held_leads(
    start_mwh: float, mw: list[float], more_mw: list[float], index: int, share: float
) -> None:
    traded_mw = dict(zip(BLOCKS, mw, strict=True))
    open_mw = {
        block: (min(power, 0.0), max(power, 0.0))
        for block, power in zip(BLOCKS, more_mw, strict=True)
    }
    utc = BLOCKS[0].start + share * timedelta(minutes=15)
    state = state_at(BLOCKS[index], utc, (start_mwh, start_mwh), STORAGE, Held(traded_mw, open_mw))
    floor, ceiling = min(STORAGE.low_mwh, start_mwh), max(STORAGE.high_mwh, start_mwh)
    assert floor <= state.low_mwh <= state.high_mwh + 1e-9 <= ceiling + 2e-9
    for side in (0, 1):
        energy_mwh, left = start_mwh, 1.0 - share
        for block in BLOCKS[:index]:
            sold_mw = traded_mw[block] + open_mw[block][side]
            energy_mwh += left * STORAGE.stored_mwh(sold_mw)
            energy_mwh = min(max(energy_mwh, floor), ceiling)
            left = 1.0
        assert state.low_mwh - 1e-9 <= energy_mwh <= state.high_mwh + 1e-9


@given(ENERGY, POWERS, POWERS, st.booleans())
def test_a_book_is_feasible_however_bids_still_out_end(
    start_mwh: float, wished_mw: list[float], out_mw: list[float], firm: bool
) -> None:
    out = Book({b: _bid(mw / 4, 4000.0) for b, mw in zip(BLOCKS, out_mw, strict=True) if mw})
    setting = Setting(
        STORAGE,
        TERMS,
        State(start_mwh, start_mwh, {}),
        BLOCKS,
        {},
        firm=firm,
        open_mw=open_ranges([(out, TERMS)], firm=firm),
    )
    wish = Book({b: _bid(mw, 3000.0) for b, mw in zip(BLOCKS, wished_mw, strict=True) if mw})
    book = fitted(wish, setting).book
    for price in (0.0, 3500.0, 10_000.0):  # whatever becomes of those, this one makes it no worse
        held_mw = {block: bid.cleared_mw(price) for block, bid in out}
        ended = replace(setting, held_mw=held_mw, open_mw={})
        before = {(each.block, each.limit): each.value for each in setting.breaches(Book({}))}
        for each in ended.breaches(book):
            assert each.value <= before.get((each.block, each.limit), 0.0) + 1e-9


def _bid(power_mw: float, price: float) -> Bid:
    if power_mw > 0.0:
        return Bid((Pair(price, power_mw),))
    return Bid(buys=(Pair(price, -power_mw),))


def test_blocks_through_goes_over_midnight() -> None:
    first, last = Block(DAY, 95), Block(DAY, 95).after(3)
    assert [block.number for block in blocks_through(first, last)] == [95, 96, 1, 2]
    assert blocks_through(last, first) == (last,)


def test_a_day_counts_what_it_sold_before() -> None:
    held = Held({BLOCKS[0]: 1.0, BLOCKS[1]: -1.0, BLOCKS[5]: 1.0}, {BLOCKS[2]: (0.0, 0.4)})
    utc = datetime(2026, 11, 19, 12, 0, tzinfo=UTC)
    state = state_at(BLOCKS[4], utc, (1.0, 1.0), STORAGE, held)
    assert state.discharged_mwh == {DAY: 1.4 * BLOCK_H}
