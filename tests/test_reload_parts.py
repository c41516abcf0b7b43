"""Parts exchanged by a reload while they are at work: what follows knows what went before, and of
what is not wanted any more nothing stays behind.

A whole site on virtual time, its journal on disk where that matters.
"""

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.journal_site import rows_of
from tests.reload_rig import ReloadRig
from tests.site_rig import site_settings
from tests.test_market_site import GATES, RTM, EveryOther
from tests.virtual_time import VirtualClock, virtual
from vppd.core.alarms import Code
from vppd.core.records import KeptRow
from vppd.core.settings import Settings
from vppd.core.settings_market import MarketSettings
from vppd.market.dealing.making import Made, Wanted
from vppd.market.exchanges import exchange_of
from vppd.parts import Part, Parts
from vppd.parts import Wanted as WantedPart
from vppd.reload.change import Reload
from vppd.sim.exchange import SimulatedExchange
from vppd.sim.exchange_hall import Rules
from vppd.spine.journal import Bounds, SqliteJournal
from vppd.spine.supervise import Supervisor
from vppd.trading import Means

SLOW_DISK = Bounds(batch_s=5.0, commit_s=5.0, keep_house_s=1e9)
START = datetime(2026, 1, 1, 3, 56, 50, tzinfo=UTC)  # ten seconds before a gate opens
DELIVERED = datetime(2026, 1, 1, 4, 1, tzinfo=UTC)  # in the first block that is sold
EVERY_S = 11.0  # a reload
MAKING_S = 3.0
SOLD_KW = 100.0
BLOCK = 39  # it begins at 09:30 IST, which is 04:00 UTC


class Slow(EveryOther):
    """Takes its time over a book."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock

    async def book_for(self, wanted: Wanted, within_s: float) -> Made:
        await self._clock.sleep_until(self._clock.now_s() + MAKING_S)
        return await super().book_for(wanted, within_s)


@virtual
async def _traded(directory: Path) -> None:
    settings = site_settings(("A",), market=RTM, pmus=())
    clock = VirtualClock(START)
    clock.now_s()
    journal = SqliteJournal(directory / "journal.db", clock, lambda *_: None, bounds=SLOW_DISK)
    await journal.open()
    socket = directory / "exchange.sock"
    rig = ReloadRig(settings, settings, journal=journal, start=START)
    rig.clock = clock
    means: Any = lambda new: Means(  # noqa: E731
        exchange_of(new.market, clock, socket=socket), Slow(clock)
    )
    rig.means = means
    exchange = SimulatedExchange(
        clock, rules=Rules(gates=GATES, rtm_final_min=0.5), path=socket, rate_per_s=1e6
    )
    count, bases_kw = 0, list[float]()
    async with exchange, rig:
        rig.employ("journal", journal.run)
        while clock.utc() < DELIVERED:
            count += 1
            horizon_s = 60.0 - count % 2
            await rig.reloaded(replace(settings, market=replace(RTM, horizon_s=horizon_s)))
            await rig.run(EVERY_S)
            if clock.utc() > DELIVERED - timedelta(seconds=40.0):
                assert rig.house.decision is not None
                bases_kw.append(rig.house.decision.base_kw)
        placed = exchange.hall.placed
        assert [len(exchange.hall.of_ticket(each.ticket)) for each in placed] == [1]
        assert [BLOCK in each.sitting.blocks for each in placed] == [True]
        assert bases_kw == pytest.approx([SOLD_KW] * len(bases_kw), abs=0.1)
        assert len(bases_kw) >= 3
        await rig.reloaded(replace(settings, market=replace(RTM, enabled=False)))
        await rig.run(1.0)
        assert rig.house.trading is None
        assert "market" not in {plan.source for plan in rig.house.bus.plans()}
    await journal.close()
    assert count >= 20


def test_a_book_under_way_is_sent_once_whenever_the_market_is_exchanged(tmp_path: Path) -> None:
    _traded(tmp_path)
    select = "SELECT value_json FROM kept WHERE name LIKE 'ticket%'"
    states = [
        json.loads(str(row[0])).get("state") for row in rows_of(tmp_path / "journal.db", select)
    ]
    assert states, "the ticket is on disk"


@virtual
async def _followed(directory: Path) -> list[str]:
    """What parts read that each leave a word for the next."""
    clock, read = VirtualClock(), list[str]()
    clock.now_s()
    journal = SqliteJournal(directory / "journal.db", clock, lambda *_: None, bounds=SLOW_DISK)
    await journal.open()

    def wants(settings: Settings) -> Iterable[WantedPart]:
        name = settings.site.name

        async def run() -> None:
            for row in await journal.select("SELECT value_json FROM kept WHERE name = 'word'"):
                read.append(str(row[0]))
            try:
                await clock.sleep_until(1e9)
            finally:
                journal.append(KeptRow(clock.utc(), "word", name))

        yield WantedPart("reader", name, lambda: Part({"reader": run}))

    first = site_settings(("A",), pmus=())
    rig = ReloadRig(first, first, journal=journal)
    rig.clock = clock
    async with rig:
        rig.employ("journal", journal.run)
        parts = Parts(wants)
        supervisor = Supervisor(clock, lambda *_: None)
        parts.employ(supervisor)
        rig.employ("parts", lambda: _supervised(supervisor))
        rig.reloads = Reload(rig.house, [parts])
        for name in ("one", "two", "three"):
            await rig.reloaded(replace(first, site=replace(first.site, name=name)))
            await rig.run(0.5)
    await journal.close()
    return read


async def _supervised(supervisor: Supervisor) -> None:
    await supervisor.run()


def test_what_a_part_wrote_down_last_is_read_by_the_one_that_follows(tmp_path: Path) -> None:
    assert _followed(tmp_path) == ["one", "two"]


@virtual
async def test_of_a_schedule_that_is_not_configured_any_more_nothing_stays(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    directory = tmp_path_factory.mktemp("config")
    rows = [f"2026-01-01,{block},60" for block in range(1, 97)]
    (directory / "schedule.csv").write_text("\n".join(["date,block,power_kw", *rows]) + "\n")
    plain = site_settings(config_dir=str(directory))
    planned = replace(plain, market=MarketSettings(schedule="schedule.csv"))
    async with ReloadRig(plain, plain) as rig:
        await rig.run(2.0)
        await rig.reloaded(planned)
        await rig.until(lambda: rig.sum_kw() > 59.0, within_s=8.0)
        since_s = rig.now_s
        await rig.reloaded(plain)
        await rig.until(lambda: rig.sum_kw() == 0.0, within_s=8.0)
        assert rig.steepest_kw_per_s("A", since_s) < 11.0, "by the ramp"
        await rig.reloaded(planned)
        await rig.until(lambda: rig.sum_kw() > 59.0, within_s=8.0)
        (directory / "schedule.csv").write_text("nonsense\n")
        await rig.until(lambda: rig.alarmed(Code.SCHEDULE_FAILED), within_s=3.0)
        await rig.reloaded(plain)
        assert not rig.alarmed(Code.SCHEDULE_FAILED)
