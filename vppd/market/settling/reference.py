"""What stands in for the reference rate of deviation settlement, which the grid operator knows and
nobody here: a rate that is configured, or the mean of the day's day-ahead prices. Pure.

Either is unverified, and every line that rests on it says which it was: reports show its source.
"""

from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal

from vppd.market.settling.account_rows import DayMean
from vppd.market.settling.ledger import Rated
from vppd.market.settling.money import Kind, MoneyLine


def rated_by(
    given_p_per_kwh: float | None, mean: DayMean | None, frequency_hz: float | None
) -> Rated | None:
    """Rate and frequency of a block; None where either is not known."""
    if frequency_hz is None:
        return None
    if given_p_per_kwh is not None:
        return Rated(Decimal(repr(frequency_hz)), Decimal(repr(given_p_per_kwh)), verified=False)
    if mean is None:
        return None
    return Rated(Decimal(repr(frequency_hz)), mean.rate_p_per_kwh, verified=False, rows=mean.rows)


def sourced(lines: Iterable[MoneyLine], given_p_per_kwh: float | None) -> tuple[MoneyLine, ...]:
    """The same lines; those of deviation say what stood in for the published rate."""
    rate = "configured" if given_p_per_kwh is not None else "mean of the day's day-ahead prices"
    told = f"reference rate: {rate}, unverified"
    return tuple(
        replace(each, source=f"{each.source}; {told}") if each.kind is Kind.DSM else each
        for each in lines
    )
