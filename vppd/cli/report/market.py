"""`vppd report market` and `vppd report cerc`: what was sold, what it earned, and how sure that is.

Every figure is computed from journal rows, and every table names them.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path

from vppd.cli.report.document import Document, Heading, Picture, Rows, Sentence, markdown
from vppd.cli.report.event import number
from vppd.cli.report.html import html
from vppd.cli.report.market_csv import blocks_csv
from vppd.cli.report.market_figures import (
    Optimum,
    applied,
    battery,
    deviation_by_cause,
    forecast_error,
    gain,
    products,
    totals,
    true_prices,
    whole,
)
from vppd.cli.report.market_plots import pictures
from vppd.cli.report.market_rows import Period, market_journal, named, period
from vppd.market.blocks import Block
from vppd.market.settling.money import Total, rupees

Group = Callable[[Block], str]
Parts = Iterator[Heading | Sentence | Rows | Picture]


def day_report(
    state: Path, day: date, form: str, *, area: str | None = None, optimum: Optimum | None = None
) -> str:
    """One IST day, block by block, as md, html or csv. Raises OSError, LookupError."""
    begin, end = Block(day, 1), Block(day + timedelta(days=1), 1)
    seen = _seen(state, begin, end, area)
    return _report(
        f"Market on {day}", seen, form, optimum, ("block", lambda at: f"{at.number:02d}")
    )


def month_report(
    state: Path, month: date, form: str, *, area: str | None = None, optimum: Optimum | None = None
) -> str:
    """One month, day by day. Raises OSError, LookupError."""
    first = month.replace(day=1)
    seen = _seen(state, Block(first, 1), Block(_later(first, 1), 1), area)
    return _report(f"Market in {first:%Y-%m}", seen, form, optimum, ("day", lambda at: f"{at.day}"))


def quarter_report(
    state: Path,
    quarter: date,
    form: str,
    *,
    area: str | None = None,
    optimum: Optimum | None = None,
) -> str:
    """Three months from `quarter`, the first day of them, month by month, for the regulator. Raises
    OSError, LookupError."""
    seen = _seen(state, Block(quarter, 1), Block(_later(quarter, 3), 1), area)
    title = f"Statement of {quarter.year}-Q{(quarter.month + 2) // 3}"
    return _report(title, seen, form, optimum, ("month", lambda at: f"{at.day:%Y-%m}"))


def quarter_of(text: str) -> date:
    """The first day of YYYY-Qn, quarters of the calendar year. Raises ValueError."""
    year, mark, number_ = text.partition("-Q")
    if not (mark and len(year) == len("2000") and year.isdecimal() and number_ in {*"1234"}):
        raise ValueError(f"{text} is no quarter: YYYY-Q1 (January to March) to YYYY-Q4")
    return date(int(year), 3 * int(number_) - 2, 1)


def _later(first: date, months: int) -> date:
    years, month = divmod(first.month - 1 + months, 12)
    return date(first.year + years, month + 1, 1)


def _seen(state: Path, begin: Block, end: Block, area: str | None) -> Period:
    with market_journal(state) as journal:
        return period(journal, begin, end, area)


def _report(
    title: str, seen: Period, form: str, optimum: Optimum | None, group: tuple[str, Group]
) -> str:
    if form == "csv":
        return blocks_csv(seen)
    document = Document(title, [*_parts(seen, optimum, *group)])
    return html(document) if form == "html" else markdown(document)


def _parts(seen: Period, optimum: Optimum | None, word: str, group: Group) -> Parts:
    yield from _doubt(seen)
    yield Sentence(
        "Money in Rs, positive received; energy in MWh at the connection, positive sold; blocks "
        "and days of IST. Rows are those of the journal's tables, by their id; the same report as "
        "CSV names them block by block."
    )
    yield from _money(seen)
    yield from _gain(seen, optimum)
    yield from _prices(seen)
    yield from _bids(seen)
    yield from _deviation(seen)
    yield from _battery(seen)
    yield from pictures(seen)
    yield from _grouped(seen, word, group)


def _doubt(seen: Period) -> Parts:
    """What a reader must know first."""
    found = whole(seen.lines)
    if not found.lines:
        yield Sentence("Nothing is settled in this time: the journal has no settlement line.", True)
    elif not found.verified:
        yield Sentence(
            f"UNVERIFIED: {found.unverified} of {found.lines} lines, "
            f"{rupees(found.unverified_paise)} Rs by magnitude, rest on rules or rates that nobody "
            "checked against the original; they are estimates, not settled money.",
            loud=True,
        )


def _money(seen: Period) -> Parts:
    yield Heading("Money")
    kinds = {
        kind: [each.id for each in seen.lines if each.row.kind == kind]
        for kind in totals(seen.lines)
    }
    rows = [
        (kind, *_sum_cells(found), named("settlement_line", kinds[kind]))
        for kind, found in totals(seen.lines).items()
    ]
    everything = whole(seen.lines)
    yield Rows(
        ("for", "Rs", "lines", "unverified Rs", "verified", "rows"),
        [*rows, ("total", *_sum_cells(everything), "")],
        "lrrrll",
    )
    yield Heading("Rules applied")
    yield Rows(
        ("for", "rule", "verified", "Rs", "source", "rows"),
        [
            (
                *(each.kind, each.rule, _mark(verified=each.verified)),
                *(rupees(each.amount_paise), each.source),
                named("settlement_line", each.ids),
            )
            for each in applied(seen.lines)
        ],
        "lllrll",
    )


def _gain(seen: Period, optimum: Optimum | None) -> Parts:
    found = gain(seen, optimum)
    yield Heading("What it was worth")
    yield Rows(
        ("", "Rs"),
        [
            ("revenue", number(found.revenue_rs, 2)),
            ("wear of the battery", number(-found.wear_rs, 2)),
            ("left after wear", number(found.net_rs, 2)),
            ("doing nothing", number(0.0, 2)),
            ("perfect foresight, day-ahead prices", number(found.optimum_rs, 2)),
            ("share of perfect foresight, %", number(found.captured_pct, 2)),
        ],
        "lr",
    )
    if found.optimum_rs is None:
        yield Sentence("Perfect foresight needs every day-ahead price and a battery: not computed.")


def _prices(seen: Period) -> Parts:
    yield Heading("Prices and forecast")
    rows = []
    for product in products(seen):
        true = {
            at: each
            for at, each in true_prices(seen.prices, product).items()
            if at >= seen.begin.start
        }
        values = [each.row.price_rs_per_mwh for each in true.values()]
        error = forecast_error(seen, product)
        rows.append(
            (
                *(product, f"{len(values)}"),
                *(number(min(values, default=None), 2), number(_mean(values), 2)),
                number(max(values, default=None), 2),
                *(
                    (
                        number(error.mae_rs_per_mwh, 2),
                        number(error.bias_rs_per_mwh, 2),
                        number(error.naive_rs_per_mwh, 2),
                        number(error.against_naive_ratio, 3),
                    )
                    if error is not None
                    else ("-",) * 4
                ),
                named("market_price", (each.id for each in true.values())),
            )
        )
    yield Rows(
        (
            *("product", "blocks", "min Rs/MWh", "mean", "max"),
            *("forecast MAE", "bias", "yesterday's MAE", "ratio", "rows"),
        ),
        rows,
        "lrrrrrrrrl",
    )


def _bids(seen: Period) -> Parts:
    yield Heading("Bids and results")
    rows = []
    bid_on = {each.row.product for each in seen.bids}
    for product in sorted(bid_on | {each.row.product for each in seen.results}):
        bids = [each for each in seen.bids if each.row.product == product]
        results = [each for each in seen.results if each.row.product == product]
        final = [each for each in results if each.row.state == "final"]
        rows.append(
            (
                product,
                ", ".join(
                    f"{sum(each.row.state == state for each in bids)} {state}"
                    for state in sorted({each.row.state for each in bids})
                ),
                f"{len(final)} of {len(results)}",
                named("market_bid", (each.id for each in bids)),
                named("market_result", (each.id for each in results)),
            )
        )
    yield Rows(("product", "bid steps", "final results", "bids", "results"), rows, "llrll")


def _deviation(seen: Period) -> Parts:
    yield Heading("Deviation by cause")
    known = [each for each in seen.blocks if each.row.deviation_mwh is not None]
    net_mwh = sum(each.row.deviation_mwh or 0.0 for each in known)
    gross_mwh = sum(abs(each.row.deviation_mwh or 0.0) for each in known)
    yield Sentence(
        f"{len(known)} of {len(seen.blocks)} blocks are metered; deviation {number(net_mwh, 6)} "
        f"MWh net, {number(gross_mwh, 6)} MWh by magnitude; rows "
        f"{named('market_block', (each.id for each in seen.blocks))}."
    )
    yield Rows(
        ("cause", "MWh"),
        [(cause, number(mwh, 6)) for cause, mwh in deviation_by_cause(seen).items()],
        "lr",
    )


def _battery(seen: Period) -> Parts:
    found = battery(seen)
    yield Heading("Battery")
    yield Rows(
        ("", ""),
        [
            ("discharged MWh", number(found.discharged_mwh, 6)),
            ("full cycles a day", number(found.cycles_per_day, 3)),
            ("wear Rs", number(found.wear_rs, 2)),
            ("mean distance of SoC from its plan, %", number(found.soc_error_pct, 2)),
        ],
        "lr",
    )


def _grouped(seen: Period, word: str, group: Group) -> Parts:
    """The table at the end: block by block, day by day, or month by month."""
    yield Heading(f"By {word}")
    found = {each.block for each in seen.blocks} | {each.block for each in seen.lines}
    names = [*dict.fromkeys(group(block) for block in sorted(found))]
    head = (word, "offered", "asked for", "DAM", "RTM", "scheduled", "droop", "orders", "metered")
    yield Rows(
        (*head, "deviation", "SoC plan %", "SoC %", "Rs", "verified", "rows"),
        [_group_row(seen, name, group) for name in names],
        "l" + "r" * 12 + "ll",
    )


def _group_row(seen: Period, name: str, group: Group) -> tuple[str, ...]:
    blocks = [each for each in seen.blocks if group(each.block) == name]
    lines = [each for each in seen.lines if group(each.block) == name]
    rows = [each.row for each in blocks]
    money = whole(lines)
    ids = named("market_block", (each.id for each in blocks))
    money_ids = named("settlement_line", (each.id for each in lines))
    return (
        name,
        *(
            number(sum(values), 4)
            for values in (
                [row.bid_sell_mwh for row in rows],
                [row.bid_buy_mwh for row in rows],
                [row.dam_mwh for row in rows],
                [row.rtm_mwh for row in rows],
                [row.scheduled_mwh for row in rows],
                [row.droop_mwh for row in rows],
                [row.order_mwh for row in rows],
            )
        ),
        number(_sum_known([row.metered_mwh for row in rows]), 4),
        number(_sum_known([row.deviation_mwh for row in rows]), 6),
        number(rows[-1].soc_plan_pct if rows else None, 1),
        number(rows[-1].soc_pct if rows else None, 1),
        rupees(money.amount_paise),
        _mark(verified=money.verified) if lines else "-",
        f"{ids}; {money_ids}",
    )


def _sum_known(values: Sequence[float | None]) -> float | None:
    """None where a part is unknown: half a sum is no sum."""
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None


def _sum_cells(found: Total) -> tuple[str, str, str, str]:
    doubt = rupees(found.unverified_paise)
    return rupees(found.amount_paise), f"{found.lines}", doubt, _mark(verified=found.verified)


def _mark(*, verified: bool) -> str:
    return "yes" if verified else "NO"


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
