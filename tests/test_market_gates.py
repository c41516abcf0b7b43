"""Every gate at its minute, over midnight too."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vppd.core.settings_market import GateSettings
from vppd.market.blocks import Block
from vppd.market.exchange import Auction
from vppd.market.gates import SESSIONS_A_DAY, auctions_of, gate_of, gates_between

GATES = GateSettings()
days = st.dates(date(2024, 1, 1), date(2100, 1, 1))
instants = st.integers(0, 2_000_000_000).map(
    lambda second: datetime(2024, 1, 2, tzinfo=UTC) + timedelta(seconds=second)
)


def test_the_day_ahead_gate_is_between_ten_and_eleven_on_the_day_before() -> None:
    gate = gate_of(Auction(date(2026, 3, 2), 0, "dam"), GATES)
    assert gate.opens_at == datetime(2026, 3, 1, 4, 30, tzinfo=UTC)
    assert gate.closes_at == datetime(2026, 3, 1, 5, 30, tzinfo=UTC)
    assert gate.late_at == datetime(2026, 3, 1, 7, 30, tzinfo=UTC)
    assert gate.open_at(gate.opens_at)
    assert not gate.open_at(gate.closes_at)


def test_the_first_session_of_a_day_closes_an_hour_before_midnight() -> None:
    """Bids from 22:45 to 23:00 IST for 00:00 to 00:30."""
    gate = gate_of(Auction(date(2026, 3, 2), 1, "rtm"), GATES)
    assert gate.opens_at == datetime(2026, 3, 1, 17, 15, tzinfo=UTC)
    assert gate.closes_at == datetime(2026, 3, 1, 17, 30, tzinfo=UTC)
    assert gate.auction.blocks == (Block(date(2026, 3, 2), 1), Block(date(2026, 3, 2), 2))


@given(days, st.integers(1, SESSIONS_A_DAY))
def test_sessions_are_two_blocks_and_close_an_hour_ahead(day: date, session: int) -> None:
    gate = gate_of(Auction(day, session, "rtm"), GATES)
    first, second = gate.auction.blocks
    assert second == first.after(1)
    assert gate.closes_at == first.start - timedelta(hours=1)
    assert gate.opens_at < gate.closes_at < gate.late_at < first.start


@given(days)
def test_a_day_is_one_auction_ahead_and_48_in_real_time(day: date) -> None:
    auctions = list(auctions_of(day, ("dam", "rtm")))
    assert len(auctions) == 49
    delivered = [block for auction in auctions[1:] for block in auction.blocks]
    assert tuple(delivered) == auctions[0].blocks


@given(instants, st.integers(1, 3 * 86_400))
def test_no_gate_is_missed_and_none_told_twice(since: datetime, for_s: int) -> None:
    until = since + timedelta(seconds=for_s)
    found = gates_between(since, until, ("dam", "rtm"), GATES)
    assert len(set(found)) == len(found)
    assert [gate.closes_at for gate in found] == sorted(gate.closes_at for gate in found)
    day = since.date() - timedelta(days=3)
    every = [
        gate_of(auction, GATES)
        for offset in range(for_s // 86_400 + 9)
        for auction in auctions_of(day + timedelta(days=offset), ("dam", "rtm"))
    ]
    assert set(found) == {
        gate for gate in every if gate.closes_at > since and gate.opens_at < until
    }


def test_gates_before_their_rule_are_not_guessed() -> None:
    with pytest.raises(ValueError, match="only known from 2023-10-01"):
        gate_of(Auction(date(2023, 9, 30), 0, "dam"), GATES)
