"""A market report's blocks as CSV: energies, prices, money by kind, the rows they rest on."""

import csv
import io
from collections.abc import Sequence

from vppd.cli.report.market_figures import FORECAST, of_kind, totals, true_prices, whole
from vppd.cli.report.market_rows import Kept, Period, causes
from vppd.core.records_market import SettlementLineRow
from vppd.market.settling.ledger import Cause
from vppd.market.settling.money import Kind, rupees

_ACCOUNT = (
    *("bid_sell_mwh", "bid_buy_mwh", "dam_mwh", "rtm_mwh", "scheduled_mwh", "droop_mwh"),
    *("order_mwh", "sras_mwh", "metered_mwh", "deviation_mwh", "frequency_hz"),
    *("soc_plan_pct", "soc_pct", "discharged_mwh", "wear_rs"),
)
_PRODUCTS = (Kind.DAM, Kind.RTM)
HEAD = (
    *("day", "block", *_ACCOUNT),
    *(f"{cause}_mwh" for cause in Cause),
    *(f"{product}_rs_per_mwh" for product in _PRODUCTS),
    *(f"{product}_forecast_rs_per_mwh" for product in _PRODUCTS),
    *(f"{kind}_rs" for kind in Kind),
    *("total_rs", "unverified_rs", "verified"),
    *("market_block_id", "settlement_line_ids", "market_price_ids"),
)


def blocks_csv(seen: Period) -> str:
    """A row for every block that has an account or money."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEAD)
    accounts = {each.block: each for each in seen.blocks}
    money: dict[object, list[Kept[SettlementLineRow]]] = {}
    for line in seen.lines:
        money.setdefault(line.block, []).append(line)
    true = [true_prices(seen.prices, product) for product in _PRODUCTS]
    told = [of_kind(seen.prices, product, FORECAST) for product in _PRODUCTS]
    for block in sorted({*accounts, *(each.block for each in seen.lines)}):
        account, lines = accounts.get(block), money.get(block, [])
        prices = [found.get(block.start) for found in (*true, *told)]
        parts = causes(account.row) if account is not None else {}
        writer.writerow(
            (
                *(block.day, block.number),
                *(_cell(getattr(account.row, name)) if account else "" for name in _ACCOUNT),
                *(_cell(parts.get(cause, 0.0 if parts else None)) for cause in Cause),
                *(_cell(each.row.price_rs_per_mwh if each else None) for each in prices),
                *_money_cells(lines),
                account.id if account else "",
                " ".join(str(each.id) for each in lines),
                " ".join(str(each.id) for each in prices if each),
            )
        )
    return text.getvalue()


def _money_cells(lines: Sequence[Kept[SettlementLineRow]]) -> tuple[str, ...]:
    kinds, everything = totals(lines), whole(lines)
    return (
        *(rupees(kinds[kind].amount_paise) if kind in kinds else "" for kind in Kind),
        rupees(everything.amount_paise),
        rupees(everything.unverified_paise),
        ("true" if everything.verified else "false") if lines else "",
    )


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.10g}"
