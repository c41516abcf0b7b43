"""The figures of a stretch of market blocks, from its journal rows alone. Pure.

Money in rupees from whole paise, positive received; energies MWh, positive sold.
"""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from vppd.cli.report.market_rows import Kept, Period, causes
from vppd.core.records_market import MarketPriceRow, SettlementLineRow
from vppd.market.settling.money import PAISE, Total

DAY = timedelta(days=1)
TRUE_KINDS = ("cleared", "imported")  # the first that there is
FORECAST = "forecast"

Optimum = Callable[[Sequence[tuple[datetime, float]]], float]
"""From (beginning of block UTC, price Rs/MWh) of consecutive blocks the most, in Rs, that the
battery could have earned with the prices known, after fees and wear."""


@dataclass(frozen=True, slots=True)
class Applied:
    """One rule as it was used: its lines and their amount."""

    kind: str
    rule: str
    source: str
    verified: bool
    amount_paise: int
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ForecastError:
    """Of one product: mean absolute error, bias (forecast - true), and the error of yesterday's
    price where it is known for the same blocks."""

    product: str
    blocks: int
    mae_rs_per_mwh: float
    bias_rs_per_mwh: float
    naive_rs_per_mwh: float | None

    @property
    def against_naive_ratio(self) -> float | None:
        """Below 1 is better than yesterday's price."""
        return self.mae_rs_per_mwh / self.naive_rs_per_mwh if self.naive_rs_per_mwh else None


@dataclass(frozen=True, slots=True)
class Battery:
    """What the period took of the battery."""

    discharged_mwh: float
    cycles_per_day: float  # discharged energy in usable energies, of days with an account
    wear_rs: float
    soc_error_pct: float | None  # mean distance of SoC from its plan


@dataclass(frozen=True, slots=True)
class Gain:
    """What was earned beside what could have been. Doing nothing earns and wears nothing."""

    revenue_rs: float
    wear_rs: float
    optimum_rs: float | None

    @property
    def net_rs(self) -> float:
        """After wear; what doing nothing would have left is 0."""
        return self.revenue_rs - self.wear_rs

    @property
    def captured_pct(self) -> float | None:
        """Of perfect foresight."""
        return 100 * self.net_rs / self.optimum_rs if self.optimum_rs else None


def totals(lines: Iterable[Kept[SettlementLineRow]]) -> dict[str, Total]:
    """By kind, in the order of their first lines."""
    found: dict[str, Total] = {}
    for each in lines:
        found[each.row.kind] = found.get(each.row.kind, Total()) + line_total(each.row)
    return found


def whole(lines: Iterable[Kept[SettlementLineRow]]) -> Total:
    """All lines, with the mark of any that is unverified."""
    found = Total()
    for each in lines:
        found += line_total(each.row)
    return found


def line_total(row: SettlementLineRow) -> Total:
    """One line as a sum."""
    doubt = 0 if row.verified else 1
    return Total(row.amount_paise, 1, doubt, doubt * abs(row.amount_paise))


def applied(lines: Iterable[Kept[SettlementLineRow]]) -> list[Applied]:
    """Every rule with its source and mark, and what it came to."""
    found: dict[tuple[str, str, str, bool], list[Kept[SettlementLineRow]]] = {}
    for each in lines:
        row = each.row
        found.setdefault((row.kind, row.rule, row.source, row.verified), []).append(each)
    return [
        Applied(*key, sum(each.row.amount_paise for each in used), tuple(each.id for each in used))
        for key, used in sorted(found.items())
    ]


def true_prices(
    prices: Iterable[Kept[MarketPriceRow]], product: str
) -> dict[datetime, Kept[MarketPriceRow]]:
    """By block, what the exchange said; where it did not, what was imported."""
    found: dict[datetime, Kept[MarketPriceRow]] = {}
    for kind in reversed(TRUE_KINDS):
        found |= of_kind(prices, product, kind)
    return dict(sorted(found.items()))


def of_kind(
    prices: Iterable[Kept[MarketPriceRow]], product: str, kind: str
) -> dict[datetime, Kept[MarketPriceRow]]:
    """By block, the newest price of one product and kind."""
    return {
        each.row.block_at: each
        for each in prices
        if each.row.product == product and each.row.kind == kind
    }


def products(seen: Period) -> list[str]:
    """Those that have a price, in alphabetical order: dam before rtm."""
    return sorted({each.row.product for each in seen.prices})


def forecast_error(seen: Period, product: str) -> ForecastError | None:
    """None where no block has both a forecast and a true price."""
    true = {at: each.row.price_rs_per_mwh for at, each in true_prices(seen.prices, product).items()}
    told = of_kind(seen.prices, product, FORECAST)
    errors = [
        told[at].row.price_rs_per_mwh - true[at]
        for at in sorted(told.keys() & true.keys())
        if at >= seen.begin.start
    ]
    if not errors:
        return None
    naive = [
        abs(true[at - DAY] - true[at])
        for at in sorted(told.keys() & true.keys())
        if at >= seen.begin.start and at - DAY in true
    ]
    return ForecastError(
        product,
        len(errors),
        statistics.fmean(abs(error) for error in errors),
        statistics.fmean(errors),
        statistics.fmean(naive) if len(naive) == len(errors) else None,
    )


def battery(seen: Period) -> Battery:
    """Cycles and wear, as the blocks were written down."""
    rows = [each.row for each in seen.blocks]
    apart = [
        abs(row.soc_pct - row.soc_plan_pct)
        for row in rows
        if row.soc_pct is not None and row.soc_plan_pct is not None
    ]
    days = {each.block.day for each in seen.blocks}
    cycles = sum(row.discharged_mwh / row.usable_mwh for row in rows if row.usable_mwh > 0)
    return Battery(
        sum(row.discharged_mwh for row in rows),
        cycles / max(len(days), 1),
        sum(row.wear_rs for row in rows),
        statistics.fmean(apart) if apart else None,
    )


def gain(seen: Period, optimum: Optimum | None) -> Gain:
    """Revenue beside the best possible on the day-ahead prices, where a planner is given and every
    block has a price."""
    prices = [
        (at, each.row.price_rs_per_mwh)
        for at, each in true_prices(seen.prices, "dam").items()
        if at >= seen.begin.start
    ]
    complete = len(prices) * timedelta(minutes=15) == seen.end.start - seen.begin.start
    best = optimum(prices) if optimum is not None and complete else None
    revenue_rs = whole(seen.lines).amount_paise / PAISE
    return Gain(revenue_rs, battery(seen).wear_rs, best)


def deviation_by_cause(seen: Period) -> Mapping[str, float]:
    """MWh, signed, over all blocks with a known deviation."""
    found: dict[str, float] = {}
    for each in seen.blocks:
        for cause, mwh in causes(each.row).items():
            found[cause] = found.get(cause, 0.0) + mwh
    return dict(sorted(found.items()))
