"""Late, missing, partial, contradictory and retracted results: each has its declared path."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vppd.market.dealing.positions import open_blocks, position_of, trade_of
from vppd.market.exchange import Auction, Result

DAY = date(2026, 3, 2)
SESSION = Auction(DAY, 5, "rtm")
FIRST, SECOND = SESSION.blocks


def result(state: str, *cleared_mw: float, auction: Auction = SESSION) -> Result:
    blocks = auction.blocks[: len(cleared_mw)]
    prices = dict.fromkeys(blocks, 3000.0)
    power = dict(zip(blocks, cleared_mw, strict=True))
    return Result(auction, power, prices, state)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("came", "counts", "faults"),
    [
        ([("provisional", 1.0, 2.0)], (1.0, 2.0), set()),
        ([("provisional", 1.0, 2.0), ("final", 1.0, 1.5)], (1.0, 1.5), set()),
        ([("final", 1.0, 1.5), ("provisional", 9.0, 9.0)], (1.0, 1.5), set()),
        ([("final", 1.0, 1.5), ("final", 1.0, 1.5)], (1.0, 1.5), set()),
        ([("final", 1.0, 1.5), ("final", 1.0, -0.5)], (1.0, -0.5), {"contradicted"}),
        ([("final", 1.0)], (1.0, None), {"partial"}),
        ([("final", 1.0), ("final", 1.0, 2.0)], (1.0, 2.0), {"contradicted"}),
        ([("final", 1.0, 2.0), ("retracted",)], (None, None), {"retracted"}),
        ([("final", 1.0, 2.0), ("retracted",), ("final", 3.0, 2.0)], (3.0, 2.0), set()),
        ([], (None, None), {"late"}),
    ],
)
def test_each_has_its_path(
    came: list[tuple[str, float]], counts: tuple[float | None, float | None], faults: set[str]
) -> None:
    trade = trade_of(SESSION, [result(*each) for each in came], late=True)
    assert (trade.cleared_mw.get(FIRST), trade.cleared_mw.get(SECOND)) == counts
    assert trade.faults == faults


def test_silence_is_no_fault_before_it_is_late_or_where_nothing_was_bid() -> None:
    assert not trade_of(SESSION, []).faults
    assert not trade_of(SESSION, [], late=True, bid=False).faults


def test_blocks_of_another_auction_are_left_out() -> None:
    strange = Result(SESSION, {FIRST: 1.0, SECOND: 0.0, SECOND.after(1): 5.0}, {}, "final")
    assert set(trade_of(SESSION, [strange]).cleared_mw) == {FIRST, SECOND}
    with pytest.raises(ValueError, match="no result of"):
        trade_of(Auction(DAY, 6, "rtm"), [strange])


@given(st.lists(st.floats(-5, 5), min_size=96, max_size=96), st.floats(-5, 5), st.floats(-5, 5))
def test_positions_add_up_over_auctions(day_mw: list[float], one_mw: float, two_mw: float) -> None:
    ahead = Auction(DAY, 0, "dam")
    trades = [
        trade_of(ahead, [result("final", *day_mw, auction=ahead)]),
        trade_of(SESSION, [result("final", one_mw, two_mw)]),
    ]
    position = position_of(trades)
    assert sum(position.values()) == pytest.approx(sum(day_mw) + one_mw + two_mw, abs=1e-9)
    assert position[FIRST] == pytest.approx(day_mw[FIRST.number - 1] + one_mw)


def test_only_what_has_not_begun_can_be_planned() -> None:
    assert open_blocks(SESSION.blocks, FIRST.start) == [SECOND]
    assert open_blocks(SESSION.blocks, SECOND.start) == []
