"""Accounts on virtual time and a real journal: a result that comes late, in part, otherwise or is
taken back restates the account and the money of every block it touches, and nothing else."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest

from tests.desk_rig import Plant
from tests.journal_site import rows_of
from tests.virtual_time import VirtualClock, virtual
from tests.week_rig import decided
from vppd.core.alarms import Code
from vppd.core.model import Snapshot
from vppd.core.records_market import MarketPriceRow, MarketResultRow
from vppd.core.settings_market import MarketSettings
from vppd.market.blocks import BLOCK_H, Block, block_at, blocks_of
from vppd.market.exchange import Auction
from vppd.market.settling.accounts import Accounts, Eyes
from vppd.market.settling.ledger import Cause
from vppd.spine.journal import Bounds, SqliteJournal

DAY = date(2026, 1, 2)
DAM, RTM = Auction(DAY, 0, "dam"), Auction(DAY, 5, "rtm")  # the session delivers blocks 9 and 10
FIRST, SECOND = RTM.blocks
START = FIRST.start - timedelta(minutes=20)
CALM = Bounds(batch_s=5.0, commit_s=5.0, keep_house_s=1e9)
PRICE_RS = 4000.0
SOLD_MW = 0.4


class Site:
    """It delivers `SOLD_MW` in both blocks, whatever its results say meanwhile."""

    def __init__(self, path: Path) -> None:
        self.path, self.clock, self.plant = path, VirtualClock(START), Plant()
        self.troubles: list[str] = []
        self.settings = MarketSettings()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Site"]:
        self.clock.now_s()
        self.journal = SqliteJournal(self.path, self.clock, lambda *_: None, bounds=CALM)
        await self.journal.open()
        eyes = Eyes(
            scheduled_kw=lambda block: SOLD_MW * 1000.0 if block in RTM.blocks else 0.0,
            delta_kw=lambda: 0.0,
            short_of=lambda _: Cause.LIMITS,
            connection_kw=lambda _: None,
            units_kw=lambda _: self.power_kw(),
            stock=self.plant.stock,
            metered=False,
        )
        self.accounts = Accounts(
            self.settings, self.journal, self.clock, eyes, self._tell, step_max_s=10.0
        )
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(each)
                for each in (self.journal.run(), self.accounts.run(), self._ticks())
            ]
            try:
                yield self
            finally:
                for task in running[1:]:
                    task.cancel()
                await self.journal.close()

    def power_kw(self) -> float:
        return SOLD_MW * 1000.0 if block_at(self.clock.utc()) in RTM.blocks else 0.0

    async def _ticks(self) -> None:
        while True:
            made = decided(self.clock, "market", self.power_kw(), 0.0, self.power_kw())
            self.accounts.note(made, Snapshot(made.now_s, made.utc, {}))
            await self.clock.sleep_until(self.clock.now_s() + 10.0)

    def _tell(self, code: Code, active: bool, text: str) -> None:
        if active:
            self.troubles.append(text)

    async def until(self, utc: datetime) -> None:
        left_s = (utc - self.clock.utc()).total_seconds()
        await self.clock.sleep_until(self.clock.now_s() + left_s)

    def result(self, auction: Auction, state: str, cleared_mw: dict[Block, float]) -> None:
        """As the desk writes it down: all of it at one time; of a retracted one every block."""
        at = self.clock.utc()
        for block in auction.blocks if state == "retracted" else cleared_mw:
            price = math.nan if state == "retracted" else PRICE_RS
            who = (at, block.start, "simulated", auction.product, str(auction.session))
            self.journal.append(MarketResultRow(*who, cleared_mw.get(block, 0.0), price, state))

    def prices(self) -> None:
        for block in blocks_of(DAY):
            row = (self.clock.utc(), block.start, "dam", "S1", "cleared", PRICE_RS, "x")
            self.journal.append(MarketPriceRow(*row))

    def account(self, block: Block) -> dict[str, float]:
        """Its newest account, MWh."""
        ((rtm, scheduled, metered, deviation, dam),) = rows_of(
            self.path,
            "SELECT rtm_mwh, scheduled_mwh, metered_mwh, deviation_mwh, dam_mwh "  # noqa: S608
            f"FROM market_ledger WHERE day = '{DAY}' AND block = {block.number}",
        )
        named = {"rtm": rtm, "scheduled": scheduled, "metered": metered, "deviation": deviation}
        return {name: float(str(value)) for name, value in (named | {"dam": dam}).items()}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "journal.db")


def sold(mw: float = SOLD_MW, *blocks: Block) -> dict[Block, float]:
    return dict.fromkeys(blocks or RTM.blocks, mw)


AFTER = SECOND.end + timedelta(minutes=3)


def assert_owed(site: Site, block: Block, rtm_mw: float, dam_mw: float = 0.0) -> None:
    """The account says what counts, its sums add up, and the money is of the same energy."""
    seen = site.account(block)
    assert seen["rtm"] == pytest.approx(rtm_mw * BLOCK_H, abs=1e-6), block
    assert seen["dam"] == pytest.approx(dam_mw * BLOCK_H, abs=1e-6), block
    assert seen["scheduled"] == pytest.approx((rtm_mw + dam_mw) * BLOCK_H, abs=1e-6)
    assert seen["deviation"] == pytest.approx(seen["metered"] - seen["scheduled"], abs=1e-6)
    kinds = rows_of(
        site.path,
        "SELECT coalesce(sum(amount_paise), 0) FROM settlement WHERE kind = 'rtm' "  # noqa: S608
        f"AND block = {block.number}",
    )
    assert kinds == [(round(rtm_mw * BLOCK_H * PRICE_RS * 100),)], block


@virtual
async def test_a_result_in_time_is_settled_with_its_block(site: Site) -> None:
    async with site.running():
        site.prices()
        site.result(RTM, "final", sold())
        await site.until(AFTER)
        assert not site.troubles
    for block in RTM.blocks:
        assert_owed(site, block, SOLD_MW)
        assert abs(site.account(block)["deviation"]) < 0.002


@virtual
@pytest.mark.parametrize(
    ("given", "rate", "told"), [(None, 400.0, "mean of the day"), (250.0, 250.0, "configured")]
)
async def test_what_stands_in_for_the_reference_rate_is_told_and_unverified(
    site: Site, given: float | None, rate: float, told: str
) -> None:
    site.settings = MarketSettings(reference_rate_p_per_kwh=given)
    async with site.running():
        site.prices()
        site.result(RTM, "final", sold(SOLD_MW - 0.1))
        await site.until(AFTER)
    sql = "SELECT source, rate_p_per_kwh, verified FROM settlement WHERE kind = 'dsm'"
    lines = rows_of(site.path, f"{sql} AND rule <> 'none'")
    assert len(lines) >= 2
    assert all(f"reference rate: {told}" in str(source) for source, _, _ in lines)
    assert {verified for _, _, verified in lines} == {0}
    assert max(float(str(each)) for _, each, _ in lines) == pytest.approx(rate)  # beyond 10 %: none


@virtual
async def test_a_result_after_delivery_restates_its_blocks(site: Site) -> None:
    async with site.running():
        site.prices()
        await site.until(AFTER)
        await site.until(AFTER + timedelta(minutes=1))
        site.result(RTM, "final", sold())
        await site.until(AFTER + timedelta(minutes=5))
        assert not site.troubles
    for block in RTM.blocks:
        assert_owed(site, block, SOLD_MW)


@virtual
async def test_a_missing_result_settles_nothing_but_deviation(site: Site) -> None:
    async with site.running():
        site.prices()
        await site.until(AFTER)
        assert not site.troubles
    for block in RTM.blocks:
        assert_owed(site, block, 0.0)
        assert site.account(block)["deviation"] == pytest.approx(SOLD_MW * BLOCK_H, abs=0.002)


@virtual
@pytest.mark.parametrize("late", [False, True])
async def test_of_a_final_result_that_lacks_a_block_nothing_counts_for_it(
    site: Site, late: bool
) -> None:
    """The provisional one had it: the desk counts nothing there, so must the account."""
    async with site.running():
        site.prices()
        site.result(RTM, "provisional", sold())
        await site.until(AFTER if late else START + timedelta(minutes=5))
        site.result(RTM, "final", sold(SOLD_MW, FIRST))
        await site.until(AFTER + timedelta(minutes=5))
        assert not site.troubles
    assert_owed(site, FIRST, SOLD_MW)
    assert_owed(site, SECOND, 0.0)


@virtual
@pytest.mark.parametrize("late", [False, True])
async def test_of_contradictory_results_the_newer_is_settled(site: Site, late: bool) -> None:
    async with site.running():
        site.prices()
        site.result(RTM, "final", sold())
        await site.until(AFTER if late else START + timedelta(minutes=5))
        site.result(RTM, "final", sold(0.1))
        await site.until(AFTER + timedelta(minutes=5))
        assert not site.troubles
    for block in RTM.blocks:
        assert_owed(site, block, 0.1)


@virtual
@pytest.mark.parametrize("late", [False, True])
async def test_a_retracted_result_is_taken_out_and_put_back(site: Site, late: bool) -> None:
    async with site.running():
        site.prices()
        site.result(DAM, "final", dict.fromkeys(DAM.blocks, 0.2))
        site.result(RTM, "final", sold())
        await site.until(AFTER if late else START + timedelta(minutes=5))
        site.result(RTM, "retracted", {})
        await site.until(AFTER + timedelta(minutes=5))
        assert not site.troubles
        for block in RTM.blocks:
            assert_owed(site, block, 0.0, dam_mw=0.2)
        site.result(RTM, "final", sold(0.3))
        await site.until(AFTER + timedelta(minutes=10))
        assert not site.troubles
    for block in RTM.blocks:
        assert_owed(site, block, 0.3, dam_mw=0.2)


@virtual
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("wrong_mw", [1e300, 1e25, -1e300])
async def test_a_block_that_cannot_be_accounted_is_marked_and_the_next_goes_on(
    site: Site, late: bool, wrong_mw: float
) -> None:
    """Decimals overflow on what nobody can have cleared; a right result mends it."""
    async with site.running():
        site.prices()
        if late:
            await site.until(AFTER)
        site.result(RTM, "provisional", {FIRST: wrong_mw, SECOND: SOLD_MW})
        await site.until(AFTER + timedelta(minutes=5))
        assert any(str(FIRST) in text and "not accounted" in text for text in site.troubles)
        assert not any(str(SECOND) in text for text in site.troubles)
        marked = "SELECT text, amount_paise, verified FROM settlement WHERE block = "
        ((text, paise, verified),) = rows_of(site.path, f"{marked}{FIRST.number}")
        assert str(text).startswith("not accounted: ")
        assert (paise, verified) == (0, 0)
        assert_owed(site, SECOND, SOLD_MW)
        site.result(RTM, "final", sold())
        site.troubles.clear()
        await site.until(AFTER + timedelta(minutes=10))
        assert not site.troubles
    for block in RTM.blocks:
        assert_owed(site, block, SOLD_MW)
