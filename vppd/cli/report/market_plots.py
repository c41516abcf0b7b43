"""The pictures of a market report: prices, energies, state of charge, money. Pure."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

from vppd.cli.line_plot import Line, plot
from vppd.cli.report.document import Heading, Picture
from vppd.cli.report.market_figures import FORECAST, of_kind, products, true_prices
from vppd.cli.report.market_rows import Kept, Period
from vppd.core.records_market import MarketBlockRow
from vppd.field.step_response import Sample
from vppd.market.blocks import BLOCK_H
from vppd.market.settling.money import PAISE

HOUR_S = 3600


def pictures(seen: Period) -> Iterator[Heading | Picture]:
    """Those that have something to show, over hours since the period began."""
    found = [
        Picture(name, _picture(title, lines, seen, unit))
        for name, title, lines, unit in (
            ("prices", "Prices and forecasts", _prices(seen), "Rs/MWh"),
            ("power", "Cleared, scheduled and metered", _powers(seen), "MW"),
            ("soc", "State of charge", _socs(seen), "%"),
            ("money", "Money since the beginning", _money(seen), "Rs"),
        )
        if any(line.samples for line in lines)
    ]
    if found:
        yield Heading("Pictures")
        yield from found


def _picture(title: str, lines: Sequence[Line], seen: Period, unit: str) -> str:
    hours = (seen.end.start - seen.begin.start).total_seconds() / HOUR_S
    along = f"hours since {seen.begin.day} 00:00 IST"
    shown = [line for line in lines if line.samples]
    return plot(title, shown, from_s=0.0, to_s=hours, unit=unit, signed=False, along=along)


def _prices(seen: Period) -> list[Line]:
    lines: list[Line] = []
    for product in products(seen):
        for name, prices, dashed in (
            (product, true_prices(seen.prices, product), False),
            (f"{product} forecast", of_kind(seen.prices, product, FORECAST), True),
        ):
            samples = [
                Sample(_hours(seen, at), each.row.price_rs_per_mwh)
                for at, each in prices.items()
                if at >= seen.begin.start
            ]
            lines.append(Line(name, samples, held=True, dashed=dashed))
    return lines


def _powers(seen: Period) -> list[Line]:
    """Energies of a block as its mean power."""
    return [
        Line("DAM", _values(seen, lambda row: row.dam_mwh / BLOCK_H), held=True, dashed=True),
        Line("RTM", _values(seen, lambda row: row.rtm_mwh / BLOCK_H), held=True, dashed=True),
        Line("scheduled", _values(seen, lambda row: row.scheduled_mwh / BLOCK_H), held=True),
        Line("metered", _values(seen, _metered_mw), held=True),
    ]


def _socs(seen: Period) -> list[Line]:
    return [
        Line("plan", _values(seen, lambda row: row.soc_plan_pct), dashed=True),
        Line("actual", _values(seen, lambda row: row.soc_pct)),
    ]


def _money(seen: Period) -> list[Line]:
    earned: dict[datetime, int] = {}
    for each in seen.lines:
        at = each.row.block_at
        earned[at] = earned.get(at, 0) + each.row.amount_paise
    samples, sum_paise = [Sample(0.0, 0.0)] if earned else [], 0
    for at in sorted(earned):
        sum_paise += earned[at]
        samples.append(Sample(_hours(seen, at) + BLOCK_H, sum_paise / PAISE))
    return [Line("revenue", samples)]


def _values(seen: Period, of: Callable[[MarketBlockRow], float | None]) -> list[Sample]:
    found = ((each, of(each.row)) for each in seen.blocks)
    return [Sample(_hours(seen, _at(each)), value) for each, value in found if value is not None]


def _metered_mw(row: MarketBlockRow) -> float | None:
    return None if row.metered_mwh is None else row.metered_mwh / BLOCK_H


def _at(each: Kept[MarketBlockRow]) -> datetime:
    return each.row.block_at


def _hours(seen: Period, at: datetime) -> float:  # since the period began
    return (at - seen.begin.start).total_seconds() / HOUR_S
