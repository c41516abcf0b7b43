"""Following of the secondary-control signal: energies by block, performance, slabs."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vppd.grid.following import (
    RULES,
    Sample,
    blocks,
    disqualified,
    incentive_rs,
    performance_pct,
    rules_of,
)

START = datetime(2026, 3, 1, 4, 57, tzinfo=UTC)
RULE = RULES[0]
numbers = st.floats(-1000.0, 1000.0)


def signal(pairs: list[tuple[float, float | None]], step_s: float = 4.0) -> list[Sample]:
    return [
        Sample(START + timedelta(seconds=step_s * n), ordered_kw, given_kw)
        for n, (ordered_kw, given_kw) in enumerate(pairs)
    ]


def end_of(pairs: list[tuple[float, float | None]], step_s: float = 4.0) -> datetime:
    return START + timedelta(seconds=step_s * len(pairs))


def test_energies_of_a_known_case() -> None:
    """3 minutes of +600 kW answered by 300, then 5 of -120 answered by -150."""
    pairs: list[tuple[float, float | None]] = [(600.0, 300.0)] * 45
    pairs += [(-120.0, -150.0)] * 75
    first, second = blocks(signal(pairs), end_of(pairs), RULE)
    assert (first.start, second.start) == (
        datetime(2026, 3, 1, 4, 55, tzinfo=UTC),
        datetime(2026, 3, 1, 5, 0, tzinfo=UTC),
    )
    assert first.up_mwh == pytest.approx(0.03)
    assert first.followed_up_mwh == pytest.approx(0.015)
    assert first.performance_pct == pytest.approx(50.0)
    assert first.known_pct == pytest.approx(60.0)
    assert second.down_mwh == pytest.approx(0.01)
    assert second.followed_down_mwh == pytest.approx(0.01)
    assert second.delivered_mwh == pytest.approx(-0.0125)
    assert second.performance_pct == pytest.approx(100.0)  # more than ordered counts no more
    assert performance_pct([first, second]) == pytest.approx(100 * 0.025 / 0.04)


@given(
    st.lists(st.tuples(numbers, st.none() | numbers), min_size=1, max_size=200), st.floats(1, 90)
)
def test_energy_is_kept_over_the_edges_of_blocks(
    pairs: list[tuple[float, float | None]], step_s: float
) -> None:
    found = blocks(signal(pairs, step_s), end_of(pairs, step_s), RULE)
    hours = step_s / 3600 / 1000
    assert sum(each.up_mwh - each.down_mwh for each in found) == pytest.approx(
        sum(ordered_kw for ordered_kw, _ in pairs) * hours, abs=1e-6
    )
    assert sum(each.delivered_mwh for each in found) == pytest.approx(
        sum(given_kw or 0.0 for _, given_kw in pairs) * hours, abs=1e-6
    )
    for each in found:
        assert each.start.timestamp() % RULE.block_s == 0.0
        assert each.known_s <= RULE.block_s + 1e-6
        assert each.performance_pct is None or 0.0 <= each.performance_pct <= 100.0


@given(st.lists(numbers.filter(lambda power_kw: abs(power_kw) > 1e-3), min_size=1, max_size=100))
def test_exact_following_is_100_and_the_wrong_way_is_0(ordered: list[float]) -> None:
    for factor, expected in ((1.0, 100.0), (-1.0, 0.0)):
        pairs: list[tuple[float, float | None]] = [(each, factor * each) for each in ordered]
        found = blocks(signal(pairs), end_of(pairs), RULE)
        assert performance_pct(found) == pytest.approx(expected)


def test_an_unknown_delivery_is_none_and_a_silent_signal_asks_nothing() -> None:
    (unknown,) = blocks(signal([(100.0, None)]), START + timedelta(seconds=4), RULE)
    assert (unknown.performance_pct, unknown.known_s) == (0.0, 0.0)
    (silent,) = blocks(signal([(0.0, 70.0)]), START + timedelta(seconds=4), RULE)
    assert silent.performance_pct is None
    assert incentive_rs([silent], RULE) == 0.0


def test_samples_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="earlier"):
        blocks(signal([(1.0, 1.0)] * 3)[::-1], START + timedelta(hours=1), RULE)


@pytest.mark.parametrize(
    ("given_kw", "rate"), [(1000.0, 0.5), (951.0, 0.5), (950.0, 0.4), (740.0, 0.3), (500.0, 0.0)]
)
def test_slabs(given_kw: float, rate: float) -> None:
    pairs: list[tuple[float, float | None]] = [(1000.0, given_kw)] * 900
    found = blocks(signal(pairs), end_of(pairs), RULE)
    assert incentive_rs(found, RULE) == pytest.approx(given_kw * rate)  # of an hour


def test_two_bad_days_running_disqualify() -> None:
    def days(*values: float | None) -> dict[date, float | None]:
        return {date(2026, 3, n + 1): value for n, value in enumerate(values)}

    assert disqualified(days(10.0, 30.0, 10.0), RULE) is None
    assert disqualified(days(10.0, None, 10.0, 90.0), RULE) == date(2026, 3, 3)
    assert disqualified(days(90.0, 20.0, 19.0), RULE) is None


def test_rules_are_dated_and_say_how_sure_they_are() -> None:
    assert rules_of(date(2022, 1, 1)) is None
    assert rules_of(date(2026, 1, 1)) is RULE
    assert RULE.source
    assert not RULE.verified
