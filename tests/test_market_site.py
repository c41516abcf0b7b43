"""A whole site that trades, with real ticks on virtual time: gate, clearing, ramped base plans, the
account of each block, and a kill in the middle of one.

Real-time gates lie minutes before delivery here, so that one block passes from its gate to its
account in little time. The suite plays that; `MARKET_SITE_HOURS=2 pytest -s
tests/test_market_site.py` plays longer.
"""

import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.journal_site import rows_of
from tests.site_rig import SiteRig, site_settings
from tests.virtual_time import VirtualClock, virtual
from vppd.core.settings_market import ExchangeSettings, GateSettings, MarketSettings
from vppd.market.book import Bid, Book, Pair
from vppd.market.dealing.making import Made, Wanted
from vppd.market.exchanges import exchange_of
from vppd.sim.exchange import SimulatedExchange
from vppd.sim.exchange_hall import Rules
from vppd.spine.journal import Bounds, SqliteJournal
from vppd.trading import Means

START = datetime(2026, 1, 1, 3, 56, 50, tzinfo=UTC)  # 09:26:50 IST
KILL_AT = datetime(2026, 1, 1, 4, 8, tzinfo=UTC)  # in the first block that is sold
FIRST = 39  # the block that begins at 09:30 IST, the first that can be sold
PLAYED_S = 3600.0 * float(os.environ.get("MARKET_SITE_HOURS", "0.307"))
GATES = GateSettings(rtm_open_min=3.0, rtm_close_min=2.0, rtm_result_min=1.0)
SLOW_DISK = Bounds(batch_s=5.0, commit_s=5.0, keep_house_s=1e9)
RAMP_MWH = 0.002  # half a ramp at an edge is far less than this
KILLED_S = 5.0
SOON_S = 15.0  # after a start the plan is there and ramped


RTM = MarketSettings(
    enabled=True,
    dry_run=False,
    products=("rtm",),
    gates=GATES,
    exchange=ExchangeSettings(user="U1", participant="P1", requests_per_s=100.0),
)


class EveryOther:
    """Sells 100 kW in odd blocks at any price, buys as much in even ones."""

    async def book_for(self, wanted: Wanted, within_s: float) -> Made:
        cap = wanted.setting.terms.cap_rs_per_mwh
        sale, purchase = Bid(sells=(Pair(0.0, 0.1),)), Bid(buys=(Pair(cap, 0.1),))
        blocks = wanted.auction.blocks
        bids = {block: sale if block.number % 2 else purchase for block in blocks}
        return Made(Book(bids), "fresh", "every other block")


@virtual
async def _played(directory: Path) -> None:
    settings = site_settings(("A",), market=RTM, pmus=())
    clock = VirtualClock(START)
    clock.now_s()
    journal = SqliteJournal(directory / "journal.db", clock, lambda *_: None, bounds=SLOW_DISK)
    await journal.open()
    socket = directory / "exchange.sock"
    rules = Rules(gates=GATES, rtm_final_min=0.5)
    rig = SiteRig(settings, journal=journal, start=START)
    rig.clock = clock
    rig.means = Means(exchange_of(RTM, clock, socket=socket), EveryOther())
    async with SimulatedExchange(clock, rules=rules, path=socket, rate_per_s=1e6), rig:
        rig.employ("journal", journal.run)
        await rig.run((KILL_AT - clock.utc()).total_seconds())
        await rig.kill()
        await rig.run(KILLED_S)
        await rig.start()
        rig.employ("journal", journal.run)
        begun_s = clock.now_s()
        edge_kw = []
        while clock.utc() < START + timedelta(seconds=PLAYED_S):
            await rig.run(30.0)
            decision = rig.house.decision
            assert decision is not None
            if clock.now_s() - begun_s > SOON_S:
                assert decision.base_source == "market"
                edge_kw.append(decision.base_kw)
        assert max(edge_kw) == pytest.approx(100.0, abs=0.1)
        lag = rig.house.heartbeat.lag()
        assert lag.late == 0
    await journal.close()


def test_what_is_sold_is_delivered_and_accounted_for(tmp_path: Path) -> None:
    begun_s = time.perf_counter()
    _played(tmp_path)
    print(f"{PLAYED_S / 3600.0:g} h took {time.perf_counter() - begun_s:.1f} s")
    rows = rows_of(
        tmp_path / "journal.db",
        "SELECT block, rtm_mwh, scheduled_mwh, metered_mwh, deviation_mwh, causes_json, "
        "metered_by, soc_plan_pct, soc_pct FROM market_ledger ORDER BY block_at",
    )
    delivered = {int(str(row[0])): row for row in rows if row[1]}
    assert min(delivered) == FIRST
    assert len(delivered) >= PLAYED_S // 900 - 1
    for number, row in delivered.items():
        _, rtm, scheduled, metered, deviation, causes_json, by, planned_pct, soc_pct = row
        causes = json.loads(str(causes_json))
        assert rtm == scheduled == pytest.approx(0.025 if number % 2 else -0.025)
        assert metered is not None, (number, causes)
        assert sum(causes.values()) == pytest.approx(float(str(deviation)), abs=1e-6)
        assert abs(causes.get("ramp", 0.0)) < RAMP_MWH, "the ramp was not laid over the edge"
        assert abs(float(str(deviation))) < 0.1 * 0.025, (number, causes)
        assert float(str(soc_pct)) == pytest.approx(float(str(planned_pct)), abs=1.0)
        assert by == ("setpoints" if number == FIRST else "units"), number
