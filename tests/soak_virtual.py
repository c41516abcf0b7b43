"""The soak on virtual time: a whole site that trades, days in hours.

The house, its journal on disk, the plant and the exchange live in this process; what is measured is
all of them together. A slower heart (`beat_s` up to 0.4, below the dead man's half second) makes
days cheaper: then the frequency is the devices' own, for a PMU would beat ten times a second.
"""

import asyncio
import gc
import os
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.site_rig import NAMES, PMU, SiteRig, site_settings
from tests.soak_lived import entries, megabytes, resident_mb
from tests.soak_trend import Rule, Sample
from tests.virtual_time import run_virtual
from vppd.core.settings import JournalSettings, Settings
from vppd.core.settings_market import ExchangeSettings, GateSettings, MarketSettings
from vppd.market.blocks import Block
from vppd.market.book import Bid, Book, Pair
from vppd.market.dealing.making import Made, Wanted
from vppd.market.exchanges import exchange_of
from vppd.sim.exchange import SimulatedExchange
from vppd.sim.exchange_hall import FIRST_ORDER, Rules
from vppd.spine import log
from vppd.spine.clock import SystemClock
from vppd.spine.heartbeat import PERIOD_S
from vppd.spine.journal import Bounds, SqliteJournal
from vppd.trading import Means

MAX_MB = 8  # the journal's bound, less than may be configured: reached within a day
EVERY_S, SAMPLES_LEAST = 600.0, 20.0
START = datetime(2026, 1, 1, 3, 48, tzinfo=UTC)  # soon before a gate closes
CALM = Bounds(batch_s=5.0, commit_s=5.0, keep_house_s=60.0)
POLL_S = 1.0
EXCHANGE_KEEPS = timedelta(days=1)  # it lives here too: weeks of its books would look like a leak
LOT_MW = 0.1
LOSSES_TAKE = 10  # of so many blocks one sale
RULES = (
    Rule("memory", "MB", 3.0),
    Rule("objects", "thousand", 10.0),
    Rule("descriptors", "", 0.9),
    Rule("tasks", "", 0.9),
    Rule("journal", "MB", 0.5, MAX_MB * 1.048576 + 4.2, per_day=60.0),  # with write-ahead log
    Rule("late_ticks", "", 0.0, 0.0),
)


class Cycling:
    """Sells a lot in odd blocks at any price, buys one in even ones, and a little more of these."""

    async def book_for(self, wanted: Wanted, within_s: float) -> Made:
        cap = wanted.setting.terms.cap_rs_per_mwh
        sale, purchase = Bid(sells=(Pair(0.0, LOT_MW),)), Bid(buys=(Pair(cap, LOT_MW),))
        bids: dict[Block, Bid] = {
            block: sale if block.number % 2 else purchase
            for block in wanted.auction.blocks
            if block.number % LOSSES_TAKE != 1
        }
        return Made(Book(bids), "fresh", "every other block")


def _settings(beat_s: float, units: int) -> Settings:
    market = MarketSettings(
        enabled=True,
        dry_run=False,
        products=("rtm",),
        gates=GateSettings(rtm_open_min=10.0, rtm_close_min=5.0, rtm_result_min=2.0),
        exchange=ExchangeSettings(user="U1", participant="P1", requests_per_s=100.0),
    )
    pmus = (PMU,) if beat_s <= PERIOD_S else ()
    settings = site_settings(NAMES[:units], market=market, pmus=pmus)
    calm = tuple(
        replace(unit, modbus=replace(unit.modbus, poll_s=POLL_S))
        for unit in settings.units
        if unit.modbus is not None
    )
    return replace(settings, units=calm)


async def _live(
    directory: Path, seconds_s: float, beat_s: float, wall_s: float, units: int
) -> list[tuple[float, Sample]]:
    end_s = time.monotonic() + wall_s
    settings = _settings(beat_s, units)
    rig = SiteRig(settings, grid_hz=None, seed=7, start=START)
    path = directory / "journal.db"
    journal = SqliteJournal(
        path, rig.clock, lambda *_: None, JournalSettings(max_mb=MAX_MB), bounds=CALM
    )
    rig.clock.now_s()
    await journal.open()
    rig.journal, rig.beat_s = journal, beat_s
    socket = directory / "exchange.sock"
    rig.means = Means(exchange_of(settings.market, rig.clock, socket=socket), Cycling())
    gates = settings.market.gates
    rules = Rules(gates=gates, rtm_final_min=0.5, kept=EXCHANGE_KEEPS)
    samples: list[tuple[float, Sample]] = []
    exchange = SimulatedExchange(rig.clock, rules=rules, path=socket, rate_per_s=1e6)
    async with exchange, rig:
        rig.employ("journal", journal.run)
        begun_s = rig.now_s
        while rig.now_s < begun_s + seconds_s and time.monotonic() < end_s:
            await rig.run(min(EVERY_S, seconds_s / SAMPLES_LEAST))
            rig.proofs_s.clear()
            traded = max((int(each.order) for each in exchange.hall.placed), default=FIRST_ORDER)
            bids = {"bids": float(traded - FIRST_ORDER)}
            samples.append((rig.now_s - begun_s, {**_sample(rig, directory), **bids}))
    await journal.close()
    return samples


def _sample(rig: SiteRig, directory: Path) -> Sample:
    gc.collect()
    return {
        "memory": resident_mb(os.getpid()),
        "objects": len(gc.get_objects()) / 1000.0,
        "descriptors": entries("/proc/self/fd"),
        "tasks": float(len(asyncio.all_tasks())),
        "journal": megabytes(directory, "journal.db*"),
        "ticks": float(rig.house.heartbeat.lag().count),
        "late_ticks": float(rig.house.heartbeat.lag().late),
    }


def lived(
    directory: Path, seconds_s: float, beat_s: float, wall_s: float, units: int = len(NAMES)
) -> list[tuple[float, Sample]]:
    """Samples of so many simulated seconds, or of what `wall_s` of real time allow."""
    log.configure("error", SystemClock())
    return run_virtual(_live(directory, seconds_s, beat_s, wall_s, units))
