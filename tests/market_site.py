"""A market day in the journal, made by the ledger itself: what the tests of its reports share."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from tests.evidence_site import journal_on_disk
from vppd.core.records import CommandRow, Row
from vppd.core.records_market import (
    MarketBidRow,
    MarketPriceRow,
    MarketResultRow,
)
from vppd.market.blocks import Block, blocks_of
from vppd.market.settling.ledger import (
    Account,
    Cause,
    Rated,
    Rules,
    account_of,
    block_row,
    line_rows,
    settle,
)
from vppd.market.settling.money import Kind
from vppd.market.settling.settlement import PROFILES
from vppd.market.settling.trades import Trade

D = Decimal
DAY = date(2026, 11, 20)
YESTERDAY = DAY - timedelta(days=1)
WRITTEN = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)
SOLD, BOUGHT = range(73, 81), range(5, 13)
RULES = Rules(PROFILES["dsm-2024"])
RATED = Rated(D("49.99"), D("320.55"), verified=True)


def price(number: int) -> float:
    """Rs/MWh: cheap at night, dear in the evening."""
    return 9000.0 if number in SOLD else 2000.0 if number in BOUGHT else 4000.25


def cleared_mw(number: int) -> float:
    return 1.0 if number in SOLD else -1.0 if number in BOUGHT else 0.0


def trade(block: Block, rows: tuple[str, ...] = (), *, final: bool = True) -> Trade:
    mwh = D(repr(cleared_mw(block.number))) / 4
    return Trade(block, Kind.DAM, "iex", mwh, D(repr(price(block.number))), final, rows)


def account(block: Block, rows: tuple[str, ...] = ()) -> Account:
    """Sold evenings fall 1 kWh short because a unit was limited; droop gave 0.2 kWh."""
    trades = [trade(block, rows)] if cleared_mw(block.number) else []
    owed = account_of(block, trades)
    short = D("-0.001") if block.number in SOLD else D(0)
    return replace(
        owed,
        bid_sell_mwh=D("0.25"),
        bid_buy_mwh=D("0.25"),
        droop_mwh=D("0.0002"),
        metered_mwh=owed.scheduled_mwh + short + D("0.0002"),
        explained={Cause.LIMITS: short},
    )


def day_rows() -> Iterator[Row]:
    """Bids, results, prices, forecasts, accounts and money of DAY; yesterday's prices; an act."""
    for block in blocks_of(YESTERDAY):
        yield MarketPriceRow(WRITTEN, block.start, "dam", "W2", "imported", 3500.0, "file")
    yield CommandRow(
        WRITTEN - timedelta(hours=20), 1000, "asha", "dispatch", "site", "{}", "accepted"
    )
    for block in blocks_of(DAY):
        at, number = block.start, block.number  # which is the id of its bid and result too
        yield MarketPriceRow(WRITTEN, at, "dam", "W2", "forecast", price(number) + 100, "mean")
        yield MarketPriceRow(WRITTEN, at, "dam", "W2", "cleared", price(number), "iex")
        side = "sell" if cleared_mw(number) >= 0 else "buy"
        yield MarketBidRow(
            *(WRITTEN, at, "iex", "dam", f"{DAY}", side, "single", price(number), 1.0, "b1", "sent")
        )
        yield MarketResultRow(
            *(WRITTEN, at, "iex", "dam", f"{DAY}", cleared_mw(number), price(number), "final", "b1")
        )
        trades = [trade(block, (f"market_result:{number}",))] if cleared_mw(number) else []
        done = account(block, (f"market_result:{number}", f"market_bid:{number}"))
        yield block_row(
            done,
            WRITTEN,
            frequency_hz=49.99,
            soc_plan_pct=50.0,
            soc_pct=49.0,
            discharged_mwh=0.25 if number in SOLD else 0.0,
            usable_mwh=2.0,
            wear_rs=250.0 if number in SOLD else 0.0,
        )
        yield from line_rows(settle(done, trades, RATED, RULES), WRITTEN)


def market_day(state: Path) -> Path:
    """A journal of this day in `state`."""
    journal_on_disk(state / "journal.db", day_rows())
    return state
