"""The one place where the parts meet: who is fatal, who restarts, start, reload, stop.

`build` puts a site together from settings, a clock and a journal; it opens nothing and starts
nothing, so that a test can run the same site on virtual time. `Daemon` is what the operating system
sees of it: signals, systemd, the state directory, the simulated plant.
"""

import asyncio
import importlib.metadata
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from vppd.campus.watch import CampusWatch
from vppd.core.alarms import Code
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
from vppd.core.records import TripRow
from vppd.core.settings import Settings
from vppd.core.settings_mqtt import MqttSettings
from vppd.field.audit import Audit
from vppd.field.build import build as build_field
from vppd.field.feeders import feeders_of
from vppd.field.gate import Gate
from vppd.field.latches import Latches
from vppd.field.meter import LoadWatch
from vppd.grid.droop_watch import ResponseWatch
from vppd.grid.frequency import Frequency
from vppd.grid.order_desk import OrderDesk
from vppd.grid.watch import FrequencyWatch
from vppd.house import House, Proved, duty_of, inputs_of, metered, sync_of
from vppd.northbound.mqtt import FleetLink
from vppd.northbound.mqtt_client import context
from vppd.northbound.mqtt_messages import broker
from vppd.northbound.routes import METRICS, ROUTES, Route
from vppd.northbound.site import Reload, Site
from vppd.northbound.telemetry import Sampler
from vppd.northbound.window import Window
from vppd.orders import SiteBoard, journaled
from vppd.parts import Part, Parts, Wanted, Wants
from vppd.record import DecisionLog
from vppd.recording import kept_of, recorder_of
from vppd.region.house import BEAT_S, REGION, Region, region_of
from vppd.rerun import assets_of
from vppd.site_parts import Ground, MeansOf
from vppd.spine.alarms import AlarmBoard
from vppd.spine.bus import Bus, Message
from vppd.spine.heartbeat import PERIOD_S, Heartbeat
from vppd.spine.recorder import UNRECORDED
from vppd.spine.thinner import ALIVE_S, ReadingThinner
from vppd.spine.timesync import TimeWatch
from vppd.tick import Tick
from vppd.trading import Means, SiteEyes

__all__ = ["House", "build", "shown", "site_of"]


def build(
    settings: Settings,
    clock: Clock,
    journal: Journal,
    trips: Sequence[TripRow] | None,
    proved: Proved = lambda _: None,
    means: Means | MeansOf | None = None,
    state_dir: Path | None = None,
    beat_s: float = PERIOD_S,
) -> House:
    """Put a site together; nothing runs yet. `trips` None: the last run's cannot be read. `means`:
    what it trades with, or how that is made of settings; without them a schedule is the plan.
    `state_dir`: where it is recorded. `beat_s`: between two ticks at the latest; a region has its
    own. Raises ValueError for settings that cannot work."""
    assets = assets_of(settings)
    bus = Bus(clock)
    alarms = AlarmBoard(clock, journal)
    audit = Audit(clock, journal, alarms)
    kept: asyncio.Queue[TripRow] = asyncio.Queue()
    latches = Latches(trips, kept.put_nowait, clock.utc())

    feeders = feeders_of(settings, assets)
    load = LoadWatch(
        *(metered(settings, assets), bus, bus.snapshot, feeders.tree[-1].limit),
        sent=lambda unit: gate.standing(unit).offered_kw,
    )

    def reported(report: DeviceReport) -> None:
        gate.report(report)
        load.report(report)
        if report.unit not in house.commanded and not report.unit.startswith("input:"):
            _tell_of_companion(audit, report)

    time_watch = TimeWatch(sync_of(settings), clock, alarms)
    region = region_of(
        *(settings, bus, clock, journal, alarms, reported),
        plans=bus.plans,
        trusted=time_watch.trusted,
    )
    field = region.field() if region else build_field(settings, bus, clock, reported)
    inputs = inputs_of(settings)
    recorder = recorder_of(settings, state_dir, clock, _teller(alarms, SITE))
    tape = recorder or UNRECORDED
    gate = Gate(assets, field.actuators, inputs, feeders, latches, audit, clock, tape=tape)
    watch = FrequencyWatch(settings.bands, alarms, settings.sources)
    watch.expected = region is None  # sites answer frequency themselves
    heartbeat = Heartbeat(bus, clock, BEAT_S if region else beat_s)
    log = DecisionLog(journal, gate, assets, settings.evidence, seldom=region is not None)

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
    eyes = SiteEyes(settings, assets, feeders.tree[-1].limit, bus, gate)
    ground = Ground(
        bus,
        clock,
        journal,
        tick,
        board,
        desk,
        eyes,
        time_watch,
        lambda unit: _teller(alarms, unit),
        (lambda _: means) if isinstance(means, Means) else means,
    )
    parts = Parts(ground.pmus, ground.market, ground.station, _regional(region))
    parts.make(settings)
    thinner = ReadingThinner(settings.reading_row_s, max(ALIVE_S, settings.reading_row_s))
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
        heartbeat,
        tick,
        watch,
        ResponseWatch(alarms),
        time_watch,
        log,
        kept,
        clock.now_s(),
        proved,
        desk,
        CampusWatch(settings.rules, assets, alarms),
        feeders,
        board,
        eyes,
        load,
        thinner,
        reported,
        parts,
    )
    if recorder is not None:
        house.recorder = recorder
        recorder.kept = kept_of(lambda: house.settings, gate, field.actuators)
    house.listen_to_meter(on=settings.meter is not None)
    bus.tap(_reading_rows(journal, clock, thinner))
    return house


def _regional(region: Region | None) -> Wants:
    """The link to the sites of an aggregator."""

    def wants(_: Settings) -> Iterable[Wanted]:
        if region is not None:
            yield Wanted(REGION, region, lambda: Part({REGION: region.link.run}, region))

    return wants


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
    reload: Reload | None,
) -> Site:
    """What the northbound side sees of a house."""
    region: Region | None = house.parts.thing(REGION)
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
        region=region.view if region is not None else None,
    )


class Fleet:
    """The link to the fleet, made of the site as it is when it begins."""

    def __init__(self, site: Site, settings: MqttSettings) -> None:
        self._site, self._settings = site, settings
        self._link: FleetLink | None = None

    def check(self) -> None:
        """Raises ValueError or OSError for words and files that cannot work."""
        FleetLink(self._site, self._settings)
        if broker(self._settings.url).encrypted:
            context(self._settings.tls)

    async def run(self) -> None:
        """For ever."""
        if self._link is None:
            self._link = FleetLink(self._site, self._settings)
        await self._link.run()

    def gone(self) -> None:
        """It is not configured any more: nobody waits for its broker."""
        self._site.alarms.set(Code.MQTT_LOST, SITE, False, "not configured any more")

    def status(self) -> Mapping[str, object] | None:
        """For /v1/status."""
        return self._link.status() if self._link is not None else None


def fleet_of(site: Site) -> Wants:
    """The link to the fleet, where one is configured. Samples are taken whether the broker is
    there or not; it registers anew what the site is."""

    def wants(settings: Settings) -> Iterable[Wanted]:
        mqtt = settings.mqtt
        if mqtt is None:
            return
        detailed = mqtt.detail == "nodes"

        def make() -> Part:
            fleet = Fleet(site, mqtt)
            sampler = Sampler(site, mqtt.telemetry_every_s, nodes=detailed)
            return Part(
                {"telemetry": sampler.run, "mqtt": fleet.run}, fleet, fleet.check, fleet.gone
            )

        ratings = tuple((each.id, each.rated_power_kw, each.energy_kwh) for each in settings.units)
        yield Wanted("mqtt", (mqtt, settings.site, settings.country, ratings), make)

    return wants


def windows_of(site: Site) -> Wants:
    """The ports on which the site is shown, where they are configured."""

    def wants(settings: Settings) -> Iterable[Wanted]:
        metrics, page = settings.metrics.port, settings.web.port
        if metrics is not None:
            yield _window(site, "metrics", metrics, [METRICS])
        if settings.web.enabled and page is not None:
            yield _window(site, "web", page, ROUTES)

    return wants


def _window(site: Site, name: str, port: int, routes: Sequence[Route]) -> Wanted:
    def make() -> Part:
        window = Window(site, name, port, routes)
        return Part({name: window.run}, window, open=window.open, close=window.close)

    return Wanted(name, port, make, ("127.0.0.1", port))


def shown(site: Site) -> Parts:
    """All by which the site is seen from outside, the socket aside."""
    parts = Parts(fleet_of(site), windows_of(site))
    parts.make(site.settings)
    return parts
