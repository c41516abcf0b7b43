"""A running four-unit site for the tests of the socket: the real gate, bus, tick, audit and server,
with a fake actuator and a journal in memory at the ports."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.virtual_time import VirtualClock
from vppd.core.alarms import Code
from vppd.core.asset import Asset
from vppd.core.decision import Decision
from vppd.core.model import (
    SITE,
    Cleared,
    Limit,
    LinkChange,
    Outcome,
    Point,
    Quality,
    Reading,
    Snapshot,
    Synchro,
    UnitId,
    WriteResult,
)
from vppd.core.ports import Clock, Journal
from vppd.core.records import CommandRow, Row
from vppd.core.settings import (
    ApiSettings,
    DroopSettings,
    ModbusSettings,
    SafetySettings,
    Settings,
    SiteSettings,
    UnitSettings,
)
from vppd.duty import Duty
from vppd.field.audit import Audit
from vppd.field.feeders import feeders_of
from vppd.field.gate import Gate
from vppd.field.latches import Latches
from vppd.grid.frequency import Frequency
from vppd.grid.watch import FrequencyWatch
from vppd.northbound.server import Server
from vppd.northbound.site import Reload, Site
from vppd.spine.alarms import AlarmBoard
from vppd.spine.bus import Bus
from vppd.spine.heartbeat import Heartbeat
from vppd.tick import Tick

PMU = UnitId("pmu")
UNITS = tuple(UnitId(f"B{number}") for number in range(1, 5))
GOOD: Mapping[Point, float] = {
    Point.SOC_PCT: 50.0,
    Point.SOH_PCT: 98.0,
    Point.VOLTAGE_V: 53.0,
    Point.CURRENT_A: 0.0,
    Point.TEMPERATURE_C: 25.0,
    Point.POWER_KW: 0.0,
    Point.REACTIVE_KVAR: 0.0,
    Point.FREQUENCY_HZ: 50.0,
    Point.FAULT_BITS: 0.0,
    Point.ALARM_BITS: 0.0,
    Point.SETPOINT_KW: 0.0,
}


class MemoryJournal:
    """Keeps rows in a list. `broken` makes every commit fail."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.broken = False

    def append(self, row: Row) -> None:
        self.rows.append(row)

    async def commit(self, row: Row) -> bool:
        self.rows.append(row)
        return not self.broken

    async def select(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        raise OSError("a journal in memory answers no SQL")

    def commands(self) -> list[CommandRow]:
        return [row for row in self.rows if isinstance(row, CommandRow)]


@dataclass
class FakeActuator:
    """A device that does at once what it is told, unless `deaf`."""

    unit: UnitId
    clock: Clock
    report: Callable[[WriteResult], None] | None = None
    told: Cleared | None = None
    on: bool | None = None
    resets: int = 0
    releases: bool = False
    given: bool = False

    def offer(self, cleared: Cleared) -> None:
        self.told = cleared
        if self.report is not None:
            self.report(
                WriteResult(
                    self.unit,
                    Outcome.WRITTEN,
                    cleared.power_kw,
                    cleared.reactive_kvar,
                    self.clock.now_s(),
                    cleared_at_s=cleared.at_s,
                )
            )

    def enable(self, *, on: bool) -> None:
        self.on = on

    def release(self) -> None:
        self.given = True

    def reset_alarms(self) -> None:
        self.resets += 1

    async def finish(self) -> bool:
        return True


def settings_of(**rest: Any) -> Settings:
    units = tuple(
        UnitSettings(
            id=id_,
            building="D1" if number < 2 else "D2",
            rated_power_kw=100.0,
            rated_apparent_kva=110.0,
            energy_kwh=200.0,
            modules_parallel=23,
            priority=number,
            modbus=ModbusSettings(profile="vpp-bess-v2", host="192.0.2.1"),
            safety=SafetySettings(ramp_max_kw_per_s=1000.0),
        )
        for number, id_ in enumerate(UNITS)
    )
    droop = DroopSettings(rocof_gain_pu_per_hz_per_s=0.0, soc_adaptive=False)
    made: dict[str, Any] = {
        "site": SiteSettings(id="lab", name="The Lab"),
        "mode": "hardware",
        "units": units,
        "droop": droop,
        "profiles": {},
        **rest,
    }
    return Settings(**made)


def asset_of(unit: UnitSettings) -> Asset:
    return Asset(
        id=unit.unit,
        building=unit.building,
        rated_kw=unit.rated_power_kw,
        apparent_kva=unit.rated_apparent_kva or unit.rated_power_kw,
        energy_kwh=unit.energy_kwh,
        modules=unit.modules_parallel,
        priority=unit.priority,
        safety=unit.safety,
        declared=frozenset(GOOD),
        reactive_first=unit.reactive_first,
    )


@dataclass
class Rig:
    """The site under test, with its levers."""

    site: Site
    path: Path
    journal: MemoryJournal
    actuators: dict[UnitId, FakeActuator]
    decisions: list[Decision] = field(default_factory=list)
    values: dict[tuple[UnitId, Point], float | None] = field(default_factory=dict)
    frequency_hz: float | None = 50.0

    def read(self) -> None:
        """One poll of every unit and one frame of the PMU."""
        now_s = self.site.clock.now_s()
        for asset in self.site.assets:
            for point, good in GOOD.items():
                value = self.values.get((asset.id, point), good)
                told = self.actuators[asset.id].told
                if point in {Point.POWER_KW, Point.SETPOINT_KW} and told is not None:
                    value = self.values.get((asset.id, point), told.power_kw)
                if value is not None:
                    self.site.bus.publish(Reading(asset.id, point, value, now_s, 2.5))
        if self.frequency_hz is not None:
            self.site.bus.publish(Synchro(PMU, self.frequency_hz, now_s, 0.5))

    async def beat(self, count: int = 1) -> None:
        """A tenth of a second passes, poll and tick."""
        for _ in range(count):
            await self.site.clock.sleep_until(self.site.clock.now_s() + 0.1)
            self.read()
            self.tell(*self.site.tick.once())

    def tell(self, decision: Decision, frequency: Frequency | None, _: Snapshot) -> None:
        self.decisions[:] = [decision]
        self.site.watch.note(frequency, self.site.clock.now_s())

    async def live(self) -> None:
        """Tick by the heartbeat, as the daemon does."""
        async for _ in self.site.heartbeat.beats():
            self.tell(*self.site.tick.once())

    async def poll(self) -> None:
        """Values ten times a second."""
        while True:
            self.read()
            await self.site.clock.sleep_until(self.site.clock.now_s() + 0.1)

    def lose(self, unit: UnitId, point: Point) -> None:
        """A value that is not there any more."""
        self.values[unit, point] = None
        self.site.bus.publish(
            Reading(unit, point, 0.0, self.site.clock.now_s(), 2.5, Quality.MISSING)
        )

    async def get(self, path: str, **kwargs: Any) -> tuple[int, Any]:
        return await self.call("GET", path, **kwargs)

    async def post(self, path: str, body: object, **kwargs: Any) -> tuple[int, Any]:
        return await self.call("POST", path, json=body, **kwargs)

    async def call(self, method: str, path: str, **kwargs: Any) -> tuple[int, Any]:
        """One request; status and JSON."""
        connector = aiohttp.UnixConnector(str(self.path))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.request(method, f"http://vppd{path}", **kwargs) as response,
        ):
            assert response.content_type in {"application/json", "application/problem+json"}
            assert (response.content_type == "application/json") == (response.status < 400)
            return response.status, await response.json(content_type=None)


def make_rig(
    path: Path,
    journal: Journal | None = None,
    reload: Reload | None = None,
    clock: Clock | None = None,
    **settings: Any,
) -> Rig:
    """Everything but the server's task, on virtual time unless another clock is given."""
    configured = settings_of(**settings)
    memory = MemoryJournal()
    kept = journal or memory
    clock = clock or VirtualClock()
    assets = tuple(asset_of(unit) for unit in configured.units)
    bus = Bus(clock)
    alarms = AlarmBoard(clock, kept)
    audit = Audit(clock, kept, alarms)
    latches = Latches((), kept.append, clock.utc())
    feeders = feeders_of(configured, assets)
    actuators = {asset.id: FakeActuator(asset.id, clock) for asset in assets}
    gate = Gate(assets, actuators, {}, feeders, latches, audit, clock)
    for actuator in actuators.values():
        actuator.report = gate.report
        gate.report(LinkChange(actuator.unit, True, clock.now_s()))
    total_kw = sum(asset.rated_kw for asset in assets)
    connection = Limit(-total_kw, total_kw, Code.CONNECTION)
    duty = Duty(
        assets, (PMU,), configured.bands, configured.droop, connection, configured.dispatch.strategy
    )
    heartbeat = Heartbeat(bus, clock)
    decisions: list[Decision] = []
    watch = FrequencyWatch(configured.bands, alarms)
    tick = Tick(duty, bus, gate, heartbeat, lambda *_: None)
    site = Site(
        settings=configured,
        assets=assets,
        clock=clock,
        bus=bus,
        gate=gate,
        tick=tick,
        alarms=alarms,
        audit=audit,
        journal=kept,
        heartbeat=heartbeat,
        watch=watch,
        decision=lambda: decisions[0] if decisions else None,
        diagnostics=lambda: {"tasks": {"tick": "running"}},
        started_s=clock.now_s(),
        reload=reload,
        version="0.0.test",
    )
    return Rig(site, path, memory, actuators, decisions)


@contextlib.asynccontextmanager
async def serving(rig: Rig, *, beats: int = 5) -> AsyncIterator[Rig]:
    """The server runs; the site has ticked a few times and goes on only when told."""
    await rig.beat(beats)
    server = Server(rig.site, rig.path)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(server.run())
        await until(rig.path.exists)
        try:
            yield rig
        finally:
            task.cancel()


@contextlib.contextmanager
def open_directory() -> Iterator[Path]:
    """A directory everybody may enter, as /run/vppd is."""
    with tempfile.TemporaryDirectory(prefix="vppd-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


async def until(condition: Callable[[], object], within_s: float = 10.0) -> None:
    """Return as soon as the condition holds; fail when it does not in time."""
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.005)


__all__ = [
    "PMU",
    "SITE",
    "UNITS",
    "ApiSettings",
    "FakeActuator",
    "MemoryJournal",
    "Rig",
    "make_rig",
    "open_directory",
    "serving",
    "until",
]
