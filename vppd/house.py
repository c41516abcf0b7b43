"""A running site: everything it is made of, its tasks, and how it goes over to other settings.

`vppd/app.py` puts it together; what is exchanged while it runs, and in what order, says
`vppd/reload`.
"""

import asyncio
import dataclasses
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Literal

from vppd.campus.losses import loss_model
from vppd.campus.watch import CampusWatch
from vppd.core.alarms import Code, Level
from vppd.core.asset import Asset
from vppd.core.decision import Decision
from vppd.core.model import SITE, Snapshot, UnitId
from vppd.core.ports import Actuator, Clock, Journal, Report
from vppd.core.records import EventRow, TripRow
from vppd.core.settings import Settings
from vppd.crew import Crew
from vppd.duty import Duty
from vppd.field.audit import Audit
from vppd.field.build import Field
from vppd.field.feeders import Feeders, feeders_of
from vppd.field.gate import Gate
from vppd.field.latches import HELD
from vppd.field.meter import LoadWatch
from vppd.field.refit import Refit
from vppd.grid.droop_watch import ResponseWatch
from vppd.grid.frequency import Frequency
from vppd.grid.order_desk import OrderDesk
from vppd.grid.pmu import PmuClient
from vppd.grid.scada import Station
from vppd.grid.watch import FrequencyWatch
from vppd.market.trading import Trading
from vppd.orders import SiteBoard
from vppd.parts import Parts
from vppd.record import DecisionLog
from vppd.rerun import assets_of
from vppd.site_parts import MARKET, STATION, pmu_name
from vppd.spine.alarms import AlarmBoard
from vppd.spine.bus import Bus
from vppd.spine.heartbeat import Heartbeat
from vppd.spine.recorder import Recorder
from vppd.spine.supervise import Supervisor
from vppd.spine.thinner import ReadingThinner
from vppd.spine.timesync import LOOK_S, TimeWatch, synchronised
from vppd.tick import Tick
from vppd.trading import SiteEyes

WATCH_S = 0.1
STOP_S = 3.0

Proved = Callable[[float], None]


@dataclasses.dataclass
class House:
    """Everything a running site is made of."""

    settings: Settings
    assets: tuple[Asset, ...]
    clock: Clock
    bus: Bus
    journal: Journal
    alarms: AlarmBoard
    audit: Audit
    gate: Gate
    field: Field
    heartbeat: Heartbeat
    tick: Tick
    watch: FrequencyWatch
    response: ResponseWatch
    time_watch: TimeWatch
    log: DecisionLog
    latches_kept: asyncio.Queue[TripRow]
    started_s: float
    proved: Proved
    desk: OrderDesk
    campus: CampusWatch
    feeders: Feeders
    board: SiteBoard
    eyes: SiteEyes
    load: LoadWatch
    thinner: ReadingThinner
    report: Report  # what devices say of themselves
    parts: Parts = dataclasses.field(default_factory=Parts)
    commanded: frozenset[UnitId] = frozenset()  # every unit
    metered: bool = False  # what the meter says is listened to
    crew: Crew = dataclasses.field(default_factory=Crew)
    recorder: Recorder | None = None  # where decisions are kept for replay
    decision: Decision | None = None
    ticked: asyncio.Event | None = None

    def __post_init__(self) -> None:
        self.commanded = frozenset(asset.id for asset in self.assets)

    @property
    def sources(self) -> dict[str, PmuClient]:
        """Frequency sources by name, in order of trust; not one that is being exchanged."""
        found = ((each.id, self.parts.thing(pmu_name(each))) for each in self.settings.pmu)
        return {name: pmu for name, pmu in found if pmu is not None}

    @property
    def pmus(self) -> list[PmuClient]:
        """In order of trust."""
        return list(self.sources.values())

    @property
    def station(self) -> Station | None:
        """Where masters connect."""
        found: Station | None = self.parts.thing(STATION)
        return found

    @property
    def trading(self) -> Trading | None:
        """Where the market is enabled."""
        found: Trading | None = self.parts.thing(MARKET)
        return found

    def decided(self, decision: Decision, frequency: Frequency | None, now: Snapshot) -> None:
        """After every tick: show it, write it down, and prove that control works."""
        self.decision = decision
        self.watch.note(frequency, decision.now_s)
        switched_off = self.settings.droop.enabled and not self.tick.duty.droop.enabled
        self.alarms.set(Code.DROOP_OFF, SITE, switched_off, level=Level.WARNING)
        self.watch.sources(now)
        self.response.note(decision)
        self.log.note(decision, now)
        if self.gate.proven(decision.now_s):
            self.proved(decision.now_s)
        if self.ticked is not None:
            self.ticked.set()
        self._show_bystanders(decision, now)

    def _show_bystanders(self, decision: Decision, now: Snapshot) -> None:
        """Those who only watch. What is wrong with one of them is told, and stops nobody."""
        try:
            if self.campus.due(decision.now_s):
                given_kw = {id_: each.power_kw for id_, each in decision.cleared.items()}
                self.campus.look(now, self.gate.room(now), given_kw, self.gate.tree(now))
            if self.trading is not None:
                self.trading.accounts.note(decision, now)
        except Exception as error:  # noqa: BLE001 - whatever it is, control goes on
            self.alarms.set(Code.BYSTANDER_FAILED, SITE, True, repr(error))
        else:
            self.alarms.set(Code.BYSTANDER_FAILED, SITE, False, "")
        if self.recorder is not None:
            self.recorder.write(decision.now_s)

    async def guard(self) -> None:
        """The dead man's look, apart from the tick."""
        while True:
            self.gate.watch(self.bus.snapshot)
            await self.clock.sleep_until(self.clock.now_s() + WATCH_S)

    async def keep_latches(self) -> None:
        """Trips and resets go to disk as soon as they are decided."""
        while True:
            await self.journal.commit(await self.latches_kept.get())

    async def look_at_time(self) -> None:
        """Whether wall time may be trusted, asked off the loop."""
        while True:
            self.time_watch.heard(await asyncio.to_thread(synchronised))
            await self.clock.sleep_until(self.clock.now_s() + LOOK_S)

    def employ(self, supervisor: Supervisor) -> None:
        """Give every part its task. What writes or decides is fatal, what listens restarts."""
        self.gate.begin()
        self.crew.employ(self.field, supervisor)
        if self.recorder is not None:
            supervisor.restarting("recorder", self.recorder.run)
        supervisor.fatal("tick", self.tick.run)
        supervisor.fatal("guard", self.guard)
        supervisor.fatal("latches", self.keep_latches)
        self.parts.employ(supervisor)
        supervisor.restarting("time", self.look_at_time)
        supervisor.fatal("orders", self.desk.run)

    async def rest(self) -> frozenset[UnitId]:
        """0 kW and 0 kvar to every unit, read back, then each profile's on_stop. Bounded; who did
        not read back 0."""
        self.log.close()
        waiting = self.gate.stop(self.bus.snapshot())
        moving = set(waiting)

        async def finish(unit: UnitId, actuator: Actuator) -> None:
            if await actuator.finish():
                moving.discard(unit)

        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_S), asyncio.TaskGroup() as tasks:
                for unit, actuator in waiting.items():
                    tasks.create_task(finish(unit, actuator))
        if moving:
            text = f"not read back at 0 kW: {', '.join(sorted(moving))}"
            self.journal.append(EventRow(self.clock.utc(), Code.STOPPING, SITE, 3, text))
        if self.recorder is not None:
            await self.recorder.close()
        return frozenset(moving)

    # ---- another configuration ----------------------------------------------------------------

    def adopt(self, new: Settings, refit: Refit | None = None) -> None:
        """These settings rule from the next tick on; `refit` says which devices are others then,
        None: they are as they were. Nothing waits here, and whatever could be wrong with the
        settings was found before: see `vppd.reload.change`."""
        old, self.settings = self.settings, new
        assets = assets_of(new)
        feeders = feeders_of(new, assets)
        envelope = assets, feeders, new.interlock_inputs
        refitted = refit is not None and refit.any
        if refitted or envelope != (self.assets, self.feeders, old.interlock_inputs):
            actuators = self.field.actuators if refit is None else refit.actuators(self.field)
            self.gate.adopt(assets, actuators, inputs_of(new), feeders)
            self.assets, self.feeders = assets, feeders
            self.commanded = frozenset(asset.id for asset in assets)
            if self.recorder is not None:
                self.recorder.renew()
        if refit is not None:
            refit.settle(self.field)
            self._forget(refit)
        self._adopt_load(new)
        self.tick.duty = next_duty(self.tick.duty, old, new, assets)
        self._tell_all(old, new)

    def _tell_all(self, old: Settings, new: Settings) -> None:
        """Those who look on, and those who order."""
        assets, connection = self.assets, self.feeders.tree[-1].limit
        self.watch.adopt(new.bands, new.sources)
        self.campus.adopt(new.rules, assets)
        self.desk.adopt(new.orders)
        self.board.adopt(assets, connection)
        self.eyes.adopt(assets, connection, new.market.battery)
        self.log.adopt(assets, new.evidence if new.evidence != old.evidence else None)
        self.time_watch.adopt(sync_of(new))
        self.thinner.adopt(new.reading_row_s)
        if self.recorder is not None:
            self.recorder.adopt(new.recorder)
        for source in {each.id for each in old.pmu} - {each.id for each in new.pmu}:
            self.bus.forget(UnitId(source))
            self.alarms.forget(UnitId(source), "not configured any more")

    def listen_to_meter(self, *, on: bool) -> None:
        """Have the load behind the connection known by the meter, or not."""
        if on and not self.metered:
            self.bus.tap(self.load.take)
        elif self.metered and not on:
            self.bus.untap(self.load.take)
            self.bus.forget(SITE)
        self.metered = on

    def _adopt_load(self, new: Settings) -> None:
        """What the meter is compared with."""
        self.load.adopt(metered(new, self.assets), self.feeders.tree[-1].limit)
        self.listen_to_meter(on=new.meter is not None)

    def _forget(self, refit: Refit) -> None:
        """What was known of devices that are gone; of a unit on another device, what it was asked
        and what latched it stays."""
        for owner in refit.gone:
            self.bus.forget(owner, plans=True)
            self.alarms.forget(owner, "not configured any more", {Code.LEFT_BEHIND})
        for latch in self.gate.latches.all():
            if latch.scope in refit.added and latch.code not in HELD:
                self.audit.resume(latch.code, UnitId(latch.scope), latch.text, latch.since)
        for owner in refit.moved & self.field.actuators.keys():
            self.bus.forget(owner)
            latched = {each.code for each in self.gate.latches.all() if each.scope == owner}
            self.alarms.forget(owner, "on another device now", latched | {Code.LEFT_BEHIND})


def sync_of(settings: Settings) -> Literal["auto", "assume"]:
    """Whether wall time is looked after."""
    return settings.clock.sync or ("assume" if settings.mode == "simulation" else "auto")


def inputs_of(settings: Settings) -> dict[UnitId, str]:
    """Each hardware interlock with its scope."""
    return {UnitId(f"input:{each.id}"): each.scope for each in settings.interlock_inputs}


def metered(settings: Settings, assets: Sequence[Asset]) -> list[Asset]:
    """The units that the meter sees: in mode hil a real meter sees real units alone."""
    if settings.mode != "hil" or settings.meter is None:
        return list(assets)
    alike = {each.unit for each in settings.units if each.simulate is settings.meter.simulate}
    return [asset for asset in assets if asset.id in alike]


def next_duty(duty: Duty, old: Settings, new: Settings, assets: tuple[Asset, ...]) -> Duty:
    """What the tick needs of new settings; who switched droop holds on while droop stays as it
    was configured."""
    made = duty_of(new, assets)
    if new.droop == old.droop:
        made = dataclasses.replace(made, droop=duty.droop, switch=duty.switch)
    return duty if made == duty else made


def duty_of(settings: Settings, assets: tuple[Asset, ...]) -> Duty:
    """What the tick needs of the settings."""
    return Duty(
        assets=assets,
        pmus=tuple(UnitId(source.id) for source in settings.pmu),
        bands=settings.bands,
        droop=settings.droop,
        connection=feeders_of(settings, assets).tree[-1].limit,
        strategy=settings.dispatch.strategy,
        ffr=settings.ffr,
        headroom=settings.headroom,
        ride_through=settings.ride_through,
        sources=settings.sources,
        rules=settings.rules,
        losses=loss_model(settings.rules.losses, assets),
    )
