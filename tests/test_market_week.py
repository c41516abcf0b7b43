"""Days of trading on virtual time: gates kept, every block reconciled from bid to meter, deviations
explained by cause.

The suite trades `DAYS` whole days; `MARKET_DAYS=7 pytest -s tests/test_market_week.py` a week, with
its 7 day-ahead and 336 real-time gates. What stands in for 10 Hz ticks is told in `week_rig`.
"""

import json
import os
import time
from collections import Counter
from datetime import date, timedelta
from pathlib import Path

import pytest

from tests.virtual_time import virtual
from tests.week_rig import FIRST, WHOLE, WeekRig
from vppd.core.alarms import Code
from vppd.core.model import Priority
from vppd.market.blocks import BLOCK_H, Block

DAYS = int(os.environ.get("MARKET_DAYS", "1"))
SEEN_MWH = 1e-4
KEPT_STATES = {"accepted", "none"}
TOUCHED = {"operator", "order", "unit_lost"}


@virtual
async def _traded(rig: WeekRig) -> None:
    first, last = Block(FIRST, 1), Block(FIRST + timedelta(days=DAYS), 1)
    async with rig.trading():
        await rig.until(first.start + timedelta(hours=6, minutes=7))
        rig.plant.droop_kw = 40.0
        await rig.until(first.start + timedelta(hours=7))
        rig.plant.droop_kw = 0.0
        rig.ask("operator:asha", Priority.OPERATOR, 100.0, 1800.0)
        await rig.until(first.start + timedelta(hours=9))
        rig.ask("order delta", Priority.ORDER, 60.0, 900.0, adds=True)
        await rig.until(Block(FIRST, 77).start)
        rig.plant.whole = False  # in the dear hours, when it is sold out
        await rig.until(Block(FIRST, 81).start)
        rig.plant.whole = True
        await rig.until(last.start + timedelta(minutes=5))


def test_days_of_trading_are_reconciled_block_by_block(tmp_path: Path) -> None:
    begun_s, rig = time.perf_counter(), WeekRig(tmp_path, late=DAYS == 1)
    _traded(rig)
    print(f"{DAYS} days took {time.perf_counter() - begun_s:.1f} s")
    _gates_kept(rig)
    _reconciled(rig)
    _explained(rig)
    _settled(rig)
    assert rig.plant.lowest_mwh >= WHOLE.low_mwh - 0.05, "more than the reserve was sold"
    assert rig.plant.highest_mwh <= WHOLE.high_mwh + 0.05
    assert not [text for code, text in rig.troubles if code is Code.MARKET_ACCOUNT and text]


def _gates_kept(rig: WeekRig) -> None:
    """One ticket for every auction of every day that was delivered, none missed or refused."""
    desk = rig.desk
    kept = Counter(
        (kept.auction.product, kept.state)
        for kept in desk.tickets.values()
        if FIRST <= kept.auction.day < FIRST + timedelta(days=DAYS)
    )
    remembered = min(DAYS, 3)  # days; the journal has the bids of all
    by_product = Counter(product for product, _ in kept.elements())
    assert by_product["dam"] >= remembered
    assert by_product["rtm"] >= 48 * remembered - 1
    assert {state for _, state in kept} <= KEPT_STATES
    said = rig.rows("SELECT state, count(*) FROM market_bid GROUP BY state")
    assert {str(state) for state, _ in said} <= {"planned", "accepted"}
    (dams,) = rig.rows("SELECT count(DISTINCT day) FROM market_bid WHERE product = 'dam'")[0]
    assert dams == DAYS + 1 or dams == DAYS, dams
    (priced,) = rig.rows(
        "SELECT count(DISTINCT block_at) FROM market_price WHERE product = 'rtm' "
        "AND kind = 'cleared' AND day IN (SELECT DISTINCT day FROM market_price WHERE "
        "product = 'dam' AND kind = 'cleared')"
    )[0]
    assert _f(priced) >= 96 * DAYS, "a session's price was not written down"
    assert not [text for code, text in rig.troubles if code is Code.MARKET_SUBMISSION]


def _reconciled(rig: WeekRig) -> None:
    """Every block: what cleared is what the exchange's book says, and is what was scheduled."""
    rows = rig.rows(
        "SELECT day, block, bid_sell_mwh, bid_buy_mwh, dam_mwh, rtm_mwh, scheduled_mwh, "
        "metered_mwh, metered_by FROM market_ledger ORDER BY block_at"
    )
    whole = [row for row in rows if str(row[0]) >= f"{FIRST}"]
    assert len(whole) == 96 * DAYS
    sold = 0
    for day, number, sell, buy, dam, rtm, scheduled, metered, by in whole:
        held_mwh = _held_mwh(rig, Block(_day(day), int(str(number))))
        assert _f(dam) + _f(rtm) == pytest.approx(held_mwh, abs=SEEN_MWH), (day, number)
        assert _f(scheduled) == pytest.approx(_f(dam) + _f(rtm), abs=SEEN_MWH)
        assert -_f(buy) - SEEN_MWH <= held_mwh <= _f(sell) + SEEN_MWH
        assert metered is not None
        assert by == "units"
        sold += held_mwh > 0.0
    assert sold, "nothing was sold: nothing was tried"


def _held_mwh(rig: WeekRig, block: Block) -> float:
    """What the exchange's own book says of a block, over all its auctions."""
    book = rig.exchange.hall
    lots = 0
    for product, number in (("dam", 0), ("rtm", (block.number + 1) // 2)):
        sitting = next(
            (
                each.sitting
                for each in book.placed
                if (each.sitting.product, each.sitting.day, each.sitting.number)
                == (product, block.day, number)
            ),
            None,
        )
        if sitting is not None:
            lots += book.traded_lots("S1-VPPD", sitting).get(block.number, 0)
    return lots / 100.0 * BLOCK_H


def _explained(rig: WeekRig) -> None:
    """Deviations have a cause; the parts add up; nothing is left over in a block of one battery."""
    touched: Counter[str] = Counter()
    for number, day, deviation, causes_json in rig.rows(
        "SELECT block, day, deviation_mwh, causes_json FROM market_ledger"
    ):
        causes = json.loads(str(causes_json))
        assert sum(causes.values()) == pytest.approx(_f(deviation), abs=1e-6), (day, number)
        assert abs(causes.get("unexplained", 0.0)) < SEEN_MWH, (day, number, causes)
        touched.update(cause for cause, mwh in causes.items() if abs(mwh) > SEEN_MWH)
    assert touched["droop"] >= 4
    assert touched["operator"] == 2
    (sras,) = rig.rows("SELECT sum(sras_mwh) FROM market_ledger")[0]
    assert _f(sras) == pytest.approx(0.015, abs=0.002)
    assert touched["unit_lost"], "the lost unit was never missed"


def _settled(rig: WeekRig) -> None:
    """Every block has money at one time; DSM rests on a rate that is not the published one."""
    rows = rig.rows(
        "SELECT kind, count(*), min(verified), sum(amount_paise) FROM settlement GROUP BY kind"
    )
    kinds = {str(kind): (count, verified, paise) for kind, count, verified, paise in rows}
    assert {"dam", "fee", "dsm"} <= kinds.keys()
    assert kinds["dsm"][1] == 0
    assert kinds["fee"][1] == 0
    blocks = rig.rows("SELECT count(DISTINCT block_at) FROM settlement")[0][0]
    assert blocks == rig.rows("SELECT count(DISTINCT block_at) FROM market_ledger")[0][0]
    dangling = rig.rows(
        "SELECT count(*) FROM settlement AS s, json_each(s.rows_json) AS j "
        "WHERE j.value LIKE 'market_result:%' AND NOT EXISTS (SELECT 1 FROM market_result AS r "
        "WHERE r.id = substr(j.value, 15) AND r.block_at = s.block_at)"
    )[0][0]
    assert dangling == 0, "a line names a row that is not of its block"


def _f(value: object) -> float:
    return float(str(value))


def _day(text: object) -> date:
    return date.fromisoformat(str(text))
