"""The one place where the parts meet: who is fatal, who restarts, start, reload, stop.

`build` puts a site together from settings, a clock and a journal; it opens nothing and starts
nothing, so that a test can run the same site on virtual time. `Daemon` is what the operating system
sees of it: signals, systemd, the state directory, the simulated plant.
"""

import asyncio
import importlib.metadata
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from vppd.campus.losses import loss_model
from vppd.campus.watch import CampusWatch
from vppd.core.alarms import Code, Level
from vppd.core.asset import Asset, asset_of
from vppd.core.decision import Decision
from vppd.core.model import (
    SITE,
    DeviceNotice,
    DeviceReport,
    LinkChange,
    Reading,
    Snapshot,
    UnitId,
)
from vppd.core.ports import Clock, Journal
from vppd.core.records import EventRow, TripRow
from vppd.core.settings import Settings
from vppd.duty import Duty
from vppd.field.audit import Audit
from vppd.field.build import Field
from vppd.field.build import build as build_field
from vppd.field.feeders import feeders_of
from vppd.field.gate import Gate
from vppd.field.latches import Latches
from vppd.field.meter import LoadWatch
from vppd.grid.droop_watch import ResponseWatch
from vppd.grid.frequency import Frequency
from vppd.grid.order_desk import OrderDesk
from vppd.grid.pmu import PmuClient
from vppd.grid.points import DROOP_SWITCH
from vppd.grid.scada import Station
from vppd.grid.watch import FrequencyWatch
from vppd.market.task import ScheduleTask
from vppd.market.trading import Trading
from vppd.northbound.mqtt import FleetLink
from vppd.northbound.routes import METRICS, ROUTES
from vppd.northbound.site import Site
from vppd.northbound.telemetry import Sampler
from vppd.northbound.window import Window
from vppd.orders import SiteBoard, droop_switch, journaled
from vppd.record import DecisionLog
from vppd.recording import kept_of, recorder_of
from vppd.spine.alarms import AlarmBoard
from vppd.spine.bus import Bus, Message
from vppd.spine.heartbeat import Heartbeat
from vppd.spine.recorder import UNRECORDED, Recorder
from vppd.spine.supervise import Supervisor
from vppd.spine.thinner import ReadingThinner
from vppd.spine.timesync import LOOK_S, TimeWatch, synchronised
from vppd.tick import Tick
from vppd.trading import Means, SiteEyes, trading_of

WATCH_S = 0.1
STOP_S = 3.0
RELOADABLE = ("dispatch", "bands", "droop", "ffr", "headroom", "ride_through")

Proved = Callable[[float], None]


@dataclass
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
    pmus: list[PmuClient]
    heartbeat: Heartbeat
    tick: Tick
    watch: FrequencyWatch
    response: ResponseWatch
    schedule: ScheduleTask
    time_watch: TimeWatch
    log: DecisionLog
    latches_kept: asyncio.Queue[TripRow]
    started_s: float
    proved: Proved
    desk: OrderDesk
    station: Station | None
    campus: CampusWatch
    trading: Trading | None = None  # where the market is enabled
    recorder: Recorder | None = None  # where decisions are kept for replay
    decision: Decision | None = None
    ticked: asyncio.Event | None = None

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
        for number, link in enumerate(self.field.links):
            supervisor.fatal(f"link {number}", link.run)
        for number, can_bus in enumerate(self.field.buses):
            supervisor.fatal(f"can {number}", can_bus.run)
        if self.recorder is not None:
            supervisor.restarting("recorder", self.recorder.run)
        supervisor.fatal("tick", self.tick.run)
        supervisor.fatal("guard", self.guard)
        supervisor.fatal("latches", self.keep_latches)
        for source, pmu in zip(self.settings.pmu, self.pmus, strict=True):
            supervisor.restarting(f"pmu {source.id}", pmu.run)
        if self.trading is not None:
            self.trading.employ(supervisor)
        elif self.settings.market.schedule:
            supervisor.restarting("schedule", self.schedule.run)
        supervisor.restarting("time", self.look_at_time)
        supervisor.fatal("orders", self.desk.run)
        if self.station is not None:
            supervisor.restarting("scada", self.station.run)

    async def rest(self) -> None:
        """0 kW and 0 kvar to every unit, read back, then each profile's on_stop. Bounded."""
        self.log.close()
        waiting = self.gate.stop(self.bus.snapshot())
        try:
            async with asyncio.timeout(STOP_S), asyncio.TaskGroup() as tasks:
                for actuator in waiting:
                    tasks.create_task(actuator.finish())
        except TimeoutError:
            text = f"not every unit read back 0 kW within {STOP_S:g} s"
            self.journal.append(EventRow(self.clock.utc(), Code.STOPPING, SITE, 3, text))
        if self.recorder is not None:
            await self.recorder.close()

    def adopt(self, new: Settings) -> list[str]:
        """Take over what may change while running, whole or not at all; the errors if not."""
        old = self.settings
        same = replace(new, **{key: getattr(old, key) for key in RELOADABLE})
        if same != old:
            keys = [key for key in asdict(old) if getattr(same, key) != getattr(old, key)]
            return [f"{', '.join(keys)}: this change needs a restart; nothing was applied"]
        self.settings = new
        self.tick.duty = duty_of(new, self.assets)
        self.watch.bands = new.bands
        return []


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


def build(
    settings: Settings,
    clock: Clock,
    journal: Journal,
    trips: Sequence[TripRow] | None,
    proved: Proved = lambda _: None,
    means: Means | None = None,
    state_dir: Path | None = None,
) -> House:
    """Put a site together; nothing runs yet. `trips` None: the last run's cannot be read. `means`:
    what it trades with; without them a schedule is the plan. `state_dir`: where it is recorded."""
    assets = tuple(
        asset_of(each, settings.profile_of(each), settings.bms_of(each)) for each in settings.units
    )
    bus = Bus(clock)
    alarms = AlarmBoard(clock, journal)
    audit = Audit(clock, journal, alarms)
    kept: asyncio.Queue[TripRow] = asyncio.Queue()
    latches = Latches(trips, kept.put_nowait, clock.utc())

    commanded = {asset.id for asset in assets}

    def reported(report: DeviceReport) -> None:
        gate.report(report)
        if report.unit not in commanded and not report.unit.startswith("input:"):
            _tell_of_companion(audit, report)

    field = build_field(settings, bus, clock, reported)
    inputs = {UnitId(f"input:{each.id}"): each.scope for each in settings.interlock_inputs}
    feeders = feeders_of(settings, assets)
    recorder = recorder_of(settings, state_dir, clock, _teller(alarms, SITE))
    tape = recorder or UNRECORDED
    gate = Gate(assets, field.actuators, inputs, feeders, latches, audit, clock, tape=tape)
    pmus = [
        PmuClient(
            source,
            settings.bands,
            bus,
            clock,
            _teller(alarms, UnitId(source.id)),
            sources=settings.sources,
        )
        for source in settings.pmu
    ]
    watch = FrequencyWatch(settings.bands, alarms, settings.sources)
    heartbeat = Heartbeat(bus, clock)
    sync = settings.clock.sync or ("assume" if settings.mode == "simulation" else "auto")
    time_watch = TimeWatch(sync, clock, alarms)
    schedule = ScheduleTask(
        settings.market,
        Path(settings.config_dir),
        bus,
        clock,
        time_watch.trusted,
        _teller(alarms, SITE),
    )
    log = DecisionLog(journal, gate, assets, settings.evidence)

    def told(decision: Decision, frequency: Frequency | None, now: Snapshot) -> None:
        house.decided(decision, frequency, now)

    tick = Tick(duty_of(settings, assets), bus, gate, heartbeat, told, tape)
    board = SiteBoard(
        assets,
        feeders.tree[-1].limit,
        bus,
        gate,
        lambda: house.decision,
        lambda: tick.duty.droop.enabled,
        alarms,
    )
    desk = OrderDesk(settings.orders, board.able, bus, clock, journaled(journal))
    station = None
    if settings.scada.enabled:
        station = Station(
            settings.scada,
            board.values,
            desk,
            clock,
            switches={DROOP_SWITCH: droop_switch(tick)},
            synchronised=time_watch.trusted,
        )

    house = House(
        settings,
        assets,
        clock,
        bus,
        journal,
        alarms,
        audit,
        gate,
        field,
        pmus,
        heartbeat,
        tick,
        watch,
        ResponseWatch(alarms),
        schedule,
        time_watch,
        log,
        kept,
        clock.now_s(),
        proved,
        desk,
        station,
        CampusWatch(settings.rules, assets, alarms),
    )
    if recorder is not None:
        house.recorder = recorder
        recorder.kept = kept_of(lambda: house.settings, gate, field.actuators)
    if means is not None:
        eyes = SiteEyes(settings, assets, feeders.tree[-1].limit, bus, gate)
        trusted, tell = time_watch.trusted, _teller(alarms, SITE)
        house.trading = trading_of(
            settings, means, eyes, assets, journal, clock, bus, trusted, tell
        )
    if settings.meter is not None:
        bus.tap(LoadWatch(_metered(settings, assets), bus, bus.snapshot).take)
    bus.tap(_reading_rows(journal, clock, ReadingThinner(settings.journal.reading_row_s)))
    return house


def _metered(settings: Settings, assets: Sequence[Asset]) -> list[Asset]:
    """The units that the meter sees: in mode hil a real meter sees real units alone."""
    if settings.mode != "hil" or settings.meter is None:
        return list(assets)
    alike = {each.unit for each in settings.units if each.simulate is settings.meter.simulate}
    return [asset for asset in assets if asset.id in alike]


def _tell_of_companion(audit: Audit, report: DeviceReport) -> None:
    """A device that takes no setpoints: a controller beside an inverter, a BMS, the meter."""
    if isinstance(report, LinkChange):
        audit.alarm(Code.LINK_LOST, report.unit, not report.up, report.text)
    elif isinstance(report, DeviceNotice):
        audit.alarm(report.code, report.unit, report.active, report.text)


def _teller(alarms: AlarmBoard, unit: UnitId) -> Callable[[Code, bool, str], None]:
    return lambda code, active, text: alarms.set(code, unit, active, text)


def _reading_rows(
    journal: Journal, clock: Clock, thinner: ReadingThinner
) -> Callable[[Message], None]:
    def tap(message: Message) -> None:
        if isinstance(message, Reading):
            row = thinner.offer(message, clock.utc())
            if row is not None:
                journal.append(row)

    return tap


def site_of(
    house: House,
    diagnostics: Callable[[], dict[str, object]],
    reload: Callable[[], Awaitable[list[str]]],
) -> Site:
    """What the northbound side sees of a house."""
    return Site(
        settings=house.settings,
        assets=house.assets,
        clock=house.clock,
        bus=house.bus,
        gate=house.gate,
        tick=house.tick,
        alarms=house.alarms,
        audit=house.audit,
        journal=house.journal,
        heartbeat=house.heartbeat,
        watch=house.watch,
        decision=lambda: house.decision,
        diagnostics=diagnostics,
        started_s=house.started_s,
        reload=reload,
        version=importlib.metadata.version("vppd"),
        devices=house.field.known,
        inverters=house.field.inverters,
        rules=house.settings.rules,
        desk=house.desk,
        clock_trusted=house.time_watch.trusted,
        name_event=house.log.name_event,
        trading=house.trading,
    )


def link_fleet(site: Site, supervisor: Supervisor) -> FleetLink | None:
    """The tasks of the link to the fleet, where one is configured. Samples are taken whether the
    broker is there or not."""
    settings = site.settings.mqtt
    if settings is None:
        return None
    link, detailed = FleetLink(site, settings), settings.detail == "nodes"
    sampler = Sampler(site, settings.telemetry_every_s, nodes=detailed)
    supervisor.restarting("telemetry", sampler.run)
    supervisor.restarting("mqtt", link.run)
    return link


def open_windows(site: Site, supervisor: Supervisor) -> None:
    """The ports on which the site is shown, where they are configured."""
    metrics, page = site.settings.metrics, site.settings.web
    if metrics.port is not None:
        supervisor.restarting("metrics", Window(site, "metrics", metrics.port, [METRICS]).run)
    if page.enabled and page.port is not None:
        supervisor.restarting("web", Window(site, "web", page.port, ROUTES).run)
