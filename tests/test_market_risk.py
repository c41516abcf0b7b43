"""Limits with a veto: each alone stops a book, and what they cut never grows."""

import math
from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vppd.core.settings_market import RiskSettings
from vppd.market.blocks import blocks_of
from vppd.market.book import Bid, Book, Pair
from vppd.market.corridor import State
from vppd.market.fitting import Setting
from vppd.market.risk import Known, bounded, vetoes, worst_cash_rs
from vppd.market.storage import Storage, Terms

BLOCKS = blocks_of(date(2026, 3, 2))
ROOT = math.sqrt(0.85)
STORAGE = Storage(0.0, 2.0, 1.0, 1.0, ROOT, ROOT, 1.5, 1000.0)
SETTING = Setting(STORAGE, Terms(), State(1.0, 1.0, {}), BLOCKS, {})
KNOWN = Known(soc_pct=50.0, soc_age_s=2.0, synchronised=True, before_gate_s=600.0)
RISK = RiskSettings()
BOOK = Book(
    {
        BLOCKS[10]: Bid(buys=(Pair(3000.0, 0.4), Pair(2000.0, 1.0))),
        BLOCKS[11]: Bid(buys=(Pair(2500.0, 1.0),)),
        BLOCKS[70]: Bid(sells=(Pair(6000.0, 0.5), Pair(8000.0, 1.0))),
        BLOCKS[71]: Bid(sells=(Pair(7000.0, 0.9),)),
    }
)


def test_a_sound_book_passes() -> None:
    assert vetoes(BOOK, SETTING, RISK, KNOWN) == []
    assert bounded(BOOK, RISK, KNOWN, real_time=True) == BOOK


@pytest.mark.parametrize(
    ("risk", "known", "told"),
    [
        (RISK, replace(KNOWN, stopped="by an operator"), "trading is stopped: by an operator"),
        (RISK, replace(KNOWN, synchronised=False), "the clock is not synchronised"),
        (RISK, replace(KNOWN, before_gate_s=0.0), "the gate is closed or too near"),
        (RISK, replace(KNOWN, soc_pct=None), "no unit shows its state of charge"),
        (RISK, replace(KNOWN, soc_age_s=901.0), "901 s old; 900 s allowed"),
        (replace(RISK, day_max_mwh=0.4), KNOWN, "sells up to 0.47 MWh; 0.4 MWh allowed"),
        (replace(RISK, spread_max_pct=40.0), KNOWN, "53% of what is sold lies in one block"),
        (replace(RISK, day_exposure_max_rs=1000.0), KNOWN, "1000 Rs allowed"),
    ],
)
def test_one_reason_is_enough(risk: RiskSettings, known: Known, told: str) -> None:
    assert told in "; ".join(vetoes(BOOK, SETTING, risk, known))


def test_what_the_optimiser_called_feasible_is_looked_at_again() -> None:
    empty = replace(SETTING, start=State(0.0, 0.0, {}))
    (first, *_) = vetoes(BOOK, empty, RISK, KNOWN)
    assert first == "infeasible: 2026-03-02 block 71: energy_low by 0.2712 MWh"


def test_what_is_held_already_is_no_fault_of_the_book() -> None:
    held = replace(SETTING, start=State(0.0, 0.0, {}), held_mw={BLOCKS[5]: 1.0})
    buys = Book({BLOCKS[4]: Bid(buys=(Pair(9000.0, 0.5),))})
    assert vetoes(buys, held, RISK, KNOWN) == []


def test_real_time_looks_at_the_charge() -> None:
    low = bounded(BOOK, RISK, replace(KNOWN, soc_pct=14.9), real_time=True)
    assert set(low.bids) == {BLOCKS[10], BLOCKS[11]}
    high = bounded(BOOK, RISK, replace(KNOWN, soc_pct=90.1), real_time=True)
    assert set(high.bids) == {BLOCKS[70], BLOCKS[71]}
    assert bounded(BOOK, RISK, replace(KNOWN, soc_pct=14.9), real_time=False) == BOOK


def test_the_worst_cash_is_every_purchase_at_its_limit() -> None:
    one = Book({BLOCKS[10]: BOOK.bids[BLOCKS[10]]})
    assert worst_cash_rs(one, Terms()) == pytest.approx(0.1 * 3020 + 0.15 * 2020)
    at_any = Book({BLOCKS[10]: Bid(buys=(Pair(10_000.0, 1.0),))})
    assert worst_cash_rs(at_any, Terms()) == pytest.approx(0.25 * 10_020)


quantities = st.floats(0.0, 3.0)
limits = st.integers(0, 10_000).map(float)


@given(
    st.lists(st.tuples(limits, quantities), max_size=8),
    st.lists(st.tuples(limits, quantities), max_size=8),
    st.builds(
        RiskSettings,
        block_max_mw=st.one_of(st.none(), st.floats(0.1, 2.0)),
        block_min_mw=st.floats(0.0, 0.5),
        sell_min_rs_per_mwh=limits,
        buy_max_rs_per_mwh=limits,
    ),
    st.booleans(),
    limits,
)
def test_limits_only_take_away(
    sells: list[tuple[float, float]],
    buys: list[tuple[float, float]],
    risk: RiskSettings,
    real_time: bool,
    price: float,
) -> None:
    """At no price more is traded than before, none beyond a limit, and curves stay curves."""
    rising = sorted(quantity for _, quantity in sells)
    up = tuple(Pair(p, q) for p, q in zip(sorted(p for p, _ in sells), rising, strict=True))
    falling = sorted((p for p, _ in buys), reverse=True)
    down = tuple(Pair(p, q) for p, q in zip(falling, sorted(q for _, q in buys), strict=True))
    for bid, sign in ((Bid(sells=up), 1), (Bid(buys=down), -1)):
        made = bounded(Book({BLOCKS[0]: bid}), risk, KNOWN, real_time=real_time)
        after = made.bids.get(BLOCKS[0], Bid())
        assert 0.0 <= sign * after.cleared_mw(price) <= sign * bid.cleared_mw(price) + 1e-9
        for pair in (*after.sells, *after.buys):
            assert risk.block_max_mw is None or pair.power_mw <= risk.block_max_mw
            assert pair.power_mw >= risk.block_min_mw
        assert all(pair.price_rs_per_mwh >= risk.sell_min_rs_per_mwh for pair in after.sells)
        assert all(pair.price_rs_per_mwh <= risk.buy_max_rs_per_mwh for pair in after.buys)
        powers = [pair.power_mw for pair in (*after.sells, *after.buys)]
        assert powers == sorted(set(powers))
