"""No clearing of any book breaks the storage: every price, ties, partial fills, then real time.

The outcomes are drawn here, from the curves as an exchange reads them, not from the code that made
the book.
"""

import math
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.market_outcomes import (
    BLOCKS,
    DAY,
    TERMS,
    a_setting,
    broken,
    outcomes,
    prices,
    well_formed,
    wild_book,
)
from vppd.market.blocks import BLOCK_H
from vppd.market.book import Bid, Book, Pair
from vppd.market.corridor import State
from vppd.market.fitting import NEARLY_STEPS, Setting, fitted, rounded
from vppd.market.solving.bidding import Scenarios, Worth, book_of
from vppd.market.storage import Storage

ROOT = math.sqrt(0.85)
STORAGE = Storage(0.2, 2.0, 1.0, 1.0, ROOT, ROOT, 1.5, 1000.0)
OUTCOMES = 10_000  # of each book
BOOKS = 100  # together a million


def test_a_million_clearings_of_many_books_break_nothing() -> None:
    random = np.random.default_rng(20260302)
    traded = 0
    for number in range(BOOKS):
        setting = a_setting(random, firm=bool(number % 4))
        if number % 5:
            book = fitted(wild_book(random, setting), setting).book
        else:
            worth = Worth(((0.0, float(random.uniform(0.0, 5000.0))),))
            book = book_of(setting, Scenarios(prices(random)), worth).book
        well_formed(book, TERMS)
        net_mw = outcomes(book, BLOCKS, OUTCOMES, random)
        assert not broken(net_mw, setting), f"book {number}"
        traded += len(book.bids)
    assert traded > 20 * BOOKS, "books that offer nothing prove nothing"


def test_a_book_that_counts_on_nothing_survives_any_part_of_it() -> None:
    """`firm=False`: whatever subset is taken, not only what one price would take."""
    random = np.random.default_rng(7)
    for _ in range(20):
        setting = a_setting(random, firm=False)
        book = fitted(wild_book(random, setting), setting).book
        most = np.array([book.bids.get(block, Bid()).most_sold_mw for block in BLOCKS])
        least = np.array([book.bids.get(block, Bid()).most_bought_mw for block in BLOCKS])
        taken = random.random((2000, 96)) * np.where(random.random((2000, 96)) < 0.5, most, -least)
        taken[0], taken[1] = most, -least
        assert not broken(taken, setting)


def test_books_that_only_fit_their_scenarios_would_break() -> None:
    """The check sees what it should see: without the envelope the same outcomes break limits."""
    random = np.random.default_rng(3)
    setting = a_setting(random)
    wish = {block: rounded(bid, TERMS) for block, bid in wild_book(random, setting)}
    assert broken(outcomes(Book(wish), BLOCKS, 1000, random), setting)


NEARLY_MW = NEARLY_STEPS * TERMS.step_mw  # so little less than a step is meant to be one
powers = st.floats(0.0, 5.0)
limits = st.integers(-100_000, 1_200_000).map(lambda hundredths: hundredths / 100)
curves = st.lists(st.tuples(limits, powers), max_size=60)


@given(curves, curves, st.integers(1, 60))
def test_rounding_is_never_worse_than_wished(
    sells: list[tuple[float, float]], buys: list[tuple[float, float]], most: int
) -> None:
    """No limit moves against us, no quantity grows, at any price on the grid."""
    terms = replace(TERMS, max_pairs=most)
    up = sorted(Pair(*each) for each in sells)
    up = [
        Pair(p.price_rs_per_mwh, q) for p, q in zip(up, sorted(p.power_mw for p in up), strict=True)
    ]
    down = sorted((Pair(*each) for each in buys), reverse=True)
    down = [
        Pair(p.price_rs_per_mwh, q)
        for p, q in zip(down, sorted(p.power_mw for p in down), strict=True)
    ]
    sold, bought = Bid(sells=tuple(up)), Bid(buys=tuple(down))
    made_sell, made_buy = rounded(sold, terms), rounded(bought, terms)
    for bid in (made_sell, made_buy, rounded(Bid(tuple(up), tuple(down)), terms)):
        if bid.sells or bid.buys:
            well_formed(Book({BLOCKS[0]: bid}), terms)
    for price in range(0, 10_001, 250):
        assert 0.0 <= made_sell.cleared_mw(price) <= sold.cleared_mw(price) + NEARLY_MW
        assert 0.0 >= made_buy.cleared_mw(price) >= bought.cleared_mw(price) - NEARLY_MW


def test_curves_earn_what_scenarios_allow_and_more_wear_never_trades_more() -> None:
    random = np.random.default_rng(11)
    scenarios = Scenarios(prices(random))
    sold, gains = [], []
    for wear_rs in (0.0, 800.0, 2500.0, 20_000.0):
        storage = replace(STORAGE, wear_rs_per_mwh=wear_rs)
        setting = Setting(storage, TERMS, State(0.2, 0.2, {}), BLOCKS, {})
        answer = book_of(setting, scenarios, Worth())
        sold.append(sum(bid.most_sold_mw for _, bid in answer.book))
        gains.append(answer.expected_rs)
    assert sold == sorted(sold, reverse=True)
    assert gains == sorted(gains, reverse=True)
    assert sold[0] > 4.0
    assert gains[0] > 5000.0
    assert sold[-1] == 0.0


def test_the_same_inputs_make_the_same_book() -> None:
    scenarios = Scenarios(prices(np.random.default_rng(5)))
    setting = Setting(STORAGE, TERMS, State(0.2, 0.6, {}), BLOCKS, {})
    worth = Worth(((0.0, 3000.0), (2000.0, 1500.0)))
    assert book_of(setting, scenarios, worth).book == book_of(setting, scenarios, worth).book


def test_a_book_that_cannot_be_is_empty_and_says_why() -> None:
    setting = Setting(STORAGE, TERMS, State(0.2, 0.2, {}), BLOCKS, {})
    short = book_of(setting, Scenarios(prices(np.random.default_rng(5))), Worth(), time_limit_s=0.0)
    assert short.book == Book({})
    assert short.how.startswith("empty: ")


# --- real time on top of the day ahead ---


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**31))
def test_real_time_sessions_on_top_of_any_day_stay_feasible(seed: int) -> None:
    """48 sessions, each two blocks, each with the position so far: any outcome, then the next."""
    random = np.random.default_rng(seed)
    setting = a_setting(random)
    day = outcomes(fitted(wild_book(random, setting), setting).book, BLOCKS, 1, random)[0]
    position = dict(zip(BLOCKS, (float(each) for each in day), strict=True))
    energy = np.array([setting.start.low_mwh, setting.start.high_mwh])
    sold_mwh = setting.start.discharged_mwh[DAY]
    for session in range(48):
        ahead = BLOCKS[2 * session :]
        start = State(float(energy[0]), float(energy[1]), {DAY: sold_mwh})
        here = replace(setting, start=start, blocks=ahead, held_mw=position)
        wish = Book({block: bid for block, bid in wild_book(random, setting) if block in ahead[:2]})
        book = fitted(wish, here).book
        well_formed(book, TERMS)
        for block, traded_mw in zip(
            ahead[:2], outcomes(book, ahead[:2], 1, random)[0], strict=True
        ):
            net_mw = position[block] + float(traded_mw)
            position[block] = net_mw
            energy = energy + setting.storage.stored_mwh(net_mw)
            sold_mwh += max(net_mw, 0.0) * BLOCK_H
    assert not broken(np.array([[position[block] for block in BLOCKS]]), setting)


def test_what_is_held_already_may_be_impossible_but_never_becomes_worse() -> None:
    """A unit was lost: the day's sales no longer fit. The session buys back, it does not add."""
    storage = replace(STORAGE, discharge_mw=0.4)
    held = dict.fromkeys(BLOCKS[70:80], 1.0)
    setting = Setting(storage, TERMS, State(1.0, 1.0, {}), BLOCKS[68:], held)
    wish = Book(
        {BLOCKS[70]: Bid(sells=(Pair(0.0, 0.5),)), BLOCKS[71]: Bid(buys=(Pair(9000.0, 0.6),))}
    )
    book = fitted(wish, setting).book
    assert BLOCKS[70] not in book.bids
    assert book.bids[BLOCKS[71]].most_bought_mw == 0.6
