"""A site that trades on virtual time: the real desk, maker, exchange, base plans, accounts and
journal, and in the place of 10 Hz ticks a plant that is looked at once a minute.

What a minute decides is told to the accounts as a tick would tell it; the battery is one store of
energy. So days pass in seconds, and everything but tick, gate and drivers is what runs on a site.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.journal_site import rows_of
from tests.market_prices import shape
from tests.virtual_time import VirtualClock
from vppd.campus.plans import base_of
from vppd.core.alarms import Code
from vppd.core.decision import Decision
from vppd.core.model import SITE, Plan, Priority, Request, Snapshot, UnitId, UnitState
from vppd.core.ports import Clock
from vppd.core.records_market import MarketPriceRow
from vppd.core.settings_market import ExchangeSettings, GateSettings, MarketSettings
from vppd.market.blocks import blocks_of
from vppd.market.dealing.desk import Desk, Manners
from vppd.market.dealing.maker import BookMaker
from vppd.market.dealing.making import NotMade
from vppd.market.dealing.results import Asking
from vppd.market.dealing.worker_call import Worker
from vppd.market.exchanges import exchange_of
from vppd.market.settling.accounts import Accounts, Eyes, rules_of
from vppd.market.settling.sold import SoldPlans
from vppd.market.settling.tally import short_cause
from vppd.market.site_storage import Stock
from vppd.market.solving.answers import answer
from vppd.market.storage import Storage
from vppd.sim.exchange import SimulatedExchange
from vppd.sim.exchange_hall import Rules
from vppd.spine.bus import Bus
from vppd.spine.journal import Bounds, SqliteJournal

FIRST = date(2026, 1, 2)  # the first day that is delivered
START = datetime(2026, 1, 1, 3, 30, tzinfo=UTC)  # 09:00 IST, before its gate opens
LATE_START = datetime(2026, 1, 1, 13, 45, tzinfo=UTC)  # 19:15 IST
LATE_GATES = GateSettings(dam_open="19:30", dam_close="20:30", dam_result="22:30")
LEARNED_DAYS = 70
WHOLE = Storage(0.2, 1.9, 1.0, 1.0, 0.922, 0.922, 1.5, 1000.0)
UNIT = UnitId("B1")
CALM = Bounds(batch_s=30.0, commit_s=5.0, keep_house_s=1e9)
LOOK_S = 60.0
BEYOND_MWH = 0.04
FEW_QUESTIONS = Manners(asking=Asking(ask_s=300.0, again_s=1800.0))


class InProcess(Worker):
    """The worker's sums called here: a child takes most of a second to start. The first of each
    product is asked of a real child."""

    def __init__(self) -> None:
        super().__init__()
        self.children: set[str] = set()

    async def asked(self, request: dict[str, Any], within_s: float) -> dict[str, Any]:
        if request["kind"] not in self.children:
            self.children.add(request["kind"])
            return await super().asked(request, within_s)
        said = answer(json.loads(json.dumps(request)))
        if said["error"]:
            raise NotMade(said["error"])
        return json.loads(json.dumps(said))  # type: ignore[no-any-return]


class CoarsePlant:
    """One battery that does what the ruling plan asks, minute by minute, and what it is hurt by."""

    def __init__(self) -> None:
        self.energy_mwh = 1.0
        self.whole = True
        self.droop_kw = 0.0
        self.power_kw = 0.0
        self.full = self.empty = False
        self.lowest_mwh = self.highest_mwh = 1.0

    @property
    def storage(self) -> Storage:
        """Half of its power is left while a unit is away."""
        return WHOLE if self.whole else replace(WHOLE, charge_mw=0.5, discharge_mw=0.5)

    def stock(self) -> Stock:
        held_mwh = self.energy_mwh
        return Stock(self.storage, held_mwh, held_mwh, held_mwh / 0.02, 1.0, frozenset({UNIT}))

    def asked(self, wanted_kw: float) -> None:
        """Gives it for a minute, as far as it can."""
        storage = self.storage
        power_mw = min(max(wanted_kw / 1000.0, -storage.charge_mw), storage.discharge_mw)
        moved_mwh = storage.stored_mwh(power_mw) / 15.0
        self.full = self.energy_mwh + moved_mwh > WHOLE.high_mwh + BEYOND_MWH
        self.empty = self.energy_mwh + moved_mwh < WHOLE.low_mwh - BEYOND_MWH
        if self.full or self.empty:
            power_mw, moved_mwh = 0.0, 0.0
        self.power_kw = power_mw * 1000.0
        self.energy_mwh += moved_mwh
        self.lowest_mwh = min(self.lowest_mwh, self.energy_mwh)
        self.highest_mwh = max(self.highest_mwh, self.energy_mwh)

    @property
    def bounds(self) -> Sequence[Code]:
        """Who bounds its room: trading leaves the safety limits `BEYOND_MWH` of room."""
        return [
            code for code, is_ in ((Code.SOC_HIGH, self.full), (Code.SOC_LOW, self.empty)) if is_
        ]

    @property
    def states(self) -> Sequence[UnitState]:
        return (UnitState.RUNNING, UnitState.RUNNING if self.whole else UnitState.LOST)


def decided(
    clock: Clock, source: str, base_kw: float, droop_kw: float, cleared_kw: float
) -> Decision:
    """What a tick would have decided now, of one unit."""
    return Decision(
        clock.now_s(),
        clock.utc(),
        source,
        base_kw,
        base_kw,
        droop_kw,
        droop_kw,
        base_kw + droop_kw,
        cleared_kw,
        49.99,
        0.0,
        "pmu",
        0.0,
        (),
        {UNIT: Request(UNIT, base_kw, droop_kw)},
        {},
    )


class WeekRig:
    """The site, its exchange, and a life that can be ended and begun again."""

    def __init__(self, directory: Path, *, late: bool = False) -> None:
        """`late`: the day-ahead gate lies in the evening, so that its day is sooner over."""
        self.directory = directory
        self.path = directory / "journal.db"
        self.clock = VirtualClock(LATE_START if late else START)
        self.settings = MarketSettings(
            enabled=True,
            dry_run=False,
            gates=LATE_GATES if late else GateSettings(),
            exchange=ExchangeSettings(user="U1", participant="P1", requests_per_s=100.0),
        )
        self.plant = CoarsePlant()
        self.bus = Bus(self.clock)
        self.desk: Desk
        self.exchange: SimulatedExchange
        self.troubles: list[tuple[Code, str]] = []

    @contextlib.asynccontextmanager
    async def trading(self) -> AsyncIterator["WeekRig"]:
        """One life of the daemon; the exchange lives as long."""
        self.clock.now_s()
        market = self.settings
        socket = self.directory / "exchange.sock"
        journal = SqliteJournal(self.path, self.clock, lambda *_: None, bounds=CALM)
        await journal.open()
        self._seed(journal)
        rules = Rules(gates=market.gates, dam=market.dam_terms, rtm=market.rtm_terms)
        self.exchange = SimulatedExchange(
            self.clock, seed=3, rules=rules, path=socket, rate_per_s=1e6
        )
        side = exchange_of(market, self.clock, socket=socket)
        self.maker = BookMaker(market, journal, self.clock, InProcess())
        self.desk = Desk(
            market,
            side,
            self.maker,
            journal,
            self.clock,
            self.plant.stock,
            lambda: True,
            self._tell,
            FEW_QUESTIONS,
        )
        sold = SoldPlans(
            self.desk,
            self.bus,
            self.clock,
            lambda: True,
            ramp_kw_per_s=1e6,
            horizon_s=2 * LOOK_S,
            losses=tuple(rules_of(market).losses),
        )
        eyes = Eyes(
            scheduled_kw=sold.power_kw,
            delta_kw=lambda: sum(each.power_kw for each in self.bus.plans() if each.adds),
            short_of=lambda decision: short_cause(decision, self.plant.states, self.plant.bounds),
            connection_kw=lambda _: None,
            units_kw=lambda _: self.plant.power_kw,
            stock=self.plant.stock,
            metered=False,
        )
        accounts = Accounts(market, journal, self.clock, eyes, self._tell, step_max_s=LOOK_S)
        async with self.exchange, asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(each)
                for each in (
                    journal.run(),
                    self.desk.run(),
                    accounts.run(),
                    self._minutes(sold, accounts),
                )
            ]
            try:
                yield self
            finally:
                for task in running[1:]:
                    task.cancel()
                await asyncio.wait(running[1:])
                await journal.close(30.0)

    async def _minutes(self, sold: SoldPlans, accounts: Accounts) -> None:
        """In the place of the tick."""
        while True:
            sold.step()
            decision = self._decided()
            accounts.note(decision, Snapshot(decision.now_s, decision.utc, {}))
            await self.clock.sleep_until(self.clock.now_s() + LOOK_S)

    def _decided(self) -> Decision:
        base = base_of(self.bus.plans())
        droop_kw = self.plant.droop_kw
        self.plant.asked(base.power_kw + droop_kw)
        return decided(self.clock, base.source, base.power_kw, droop_kw, self.plant.power_kw)

    def ask(
        self, source: str, priority: Priority, power_kw: float, for_s: float, **how: Any
    ) -> None:
        """Somebody above the market asks."""
        now_s = self.clock.now_s()
        self.bus.publish(Plan(SITE, power_kw, now_s + for_s, source, priority, now_s, **how))

    async def until(self, utc: datetime) -> None:
        left_s = (utc - self.clock.utc()).total_seconds()
        await self.clock.sleep_until(self.clock.now_s() + left_s)

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        return rows_of(self.path, sql)

    def _tell(self, code: Code, active: bool, text: str) -> None:
        if active:
            self.troubles.append((code, text))

    def _seed(self, journal: SqliteJournal) -> None:
        """What was imported before the first start."""
        for back in range(LEARNED_DAYS, -1, -1):
            day = FIRST - timedelta(days=back + 1)
            level = 1.0 + 0.1 * ((day.toordinal() * 7) % 11 - 5) / 5
            for block in blocks_of(day):
                price = round(min(shape(block.number / 4, level), 10_000.0), 2)
                later = round(price * (1.0 + 0.1 * ((block.number + back) % 7 - 3) / 3), 2)
                for product, each in (("dam", price), ("rtm", min(later, 10_000.0))):
                    row = (
                        self.clock.utc(),
                        block.start,
                        product,
                        self.settings.exchange.area,
                        "imported",
                    )
                    journal.append(MarketPriceRow(*row, each, "file"))
