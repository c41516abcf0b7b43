"""A station on a real loopback socket, with masters to command it: hat-drivers' own client, and
bytes by hand."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from hat.drivers import net
from hat.drivers.iec60870 import apci

from vppd.core.model import Cells, Plan, Reading, Synchro
from vppd.core.settings_scada import (
    MasterSettings,
    OrderSettings,
    ScadaSettings,
    StationPointSettings,
)
from vppd.grid.order_desk import OrderDesk
from vppd.grid.orders import Offer, OrderEvent, OrderKind, Verb, source_of
from vppd.grid.scada import Station
from vppd.spine.clock import SystemClock

HOST = "127.0.0.1"
OTHER_HOST = "127.0.0.2"
CA = 7
POINTS = (
    StationPointSettings(
        address=1001, kind="measured", value="power_kw", scale=1e-3, moves_by=5.0, cyclic=True
    ),
    StationPointSettings(address=1002, kind="measured", value="soc_pct", moves_by=0.5),
    StationPointSettings(address=1003, kind="measured", value="order_kw", scale=1e-3),
    StationPointSettings(address=1012, kind="measured", value="soc_pct", time_tag=False),
    StationPointSettings(
        address=1013, kind="measured", value="order_kw", scale=1e-3, time_tag=False
    ),
    StationPointSettings(address=1101, kind="single", value="alarm"),
    StationPointSettings(address=1111, kind="single", value="alarm", time_tag=False),
    StationPointSettings(address=1112, kind="single", value="orders_enabled", time_tag=False),
    StationPointSettings(address=1102, kind="single", value="orders_enabled"),
    StationPointSettings(address=1109, kind="double", value="breaker_closed"),
    StationPointSettings(address=3001, kind="setpoint", value="order_kw", scale=1e-3),
    StationPointSettings(address=3002, kind="setpoint", value="order_delta_kw", scale=1e-3),
    StationPointSettings(
        address=3003, kind="setpoint", value="order_kw", scale=1e-3, select="select"
    ),
    StationPointSettings(address=3101, kind="switch", value="orders_enabled"),
    StationPointSettings(address=3102, kind="switch", value="droop_enabled", select="select"),
)
ACT, ACT_CON, DEACT, DEACT_CON, ACT_TERM = 6, 7, 8, 9, 10
SPONTANEOUS, INTERROGATED = 3, 20
NEGATIVE = 0x40
STARTDT, STARTED = bytes((0x68, 4, 7, 0, 0, 0)), bytes((0x68, 4, 0x0B, 0, 0, 0))
STOPDT, STOPPED = bytes((0x68, 4, 0x13, 0, 0, 0)), bytes((0x68, 4, 0x23, 0, 0, 0))
WAIT_S = 5.0


class MovableClock(SystemClock):
    """Real time, put forward by hand; wall time by itself too."""

    ahead_s = off_s = 0.0

    def now_s(self) -> float:
        return super().now_s() + self.ahead_s

    def utc(self) -> datetime:
        return super().utc() + timedelta(seconds=self.off_s)


@dataclass
class Site:
    """The station and all that it stands on."""

    settings: ScadaSettings
    orders: OrderSettings = field(default_factory=OrderSettings)
    clock: MovableClock = field(default_factory=MovableClock)
    values: dict[str, float | None] = field(default_factory=dict)
    told: list[OrderEvent] = field(default_factory=list)
    plans: list[Plan] = field(default_factory=list)
    droop: list[bool] = field(default_factory=list)
    offer: Offer = field(default_factory=lambda: Offer(1000.0, 800.0, 300.0, 200.0))

    def __post_init__(self) -> None:
        self.values |= {"power_kw": 120.0, "soc_pct": 55.0, "alarm": 0.0, "breaker_closed": 1.0}
        self.desk = OrderDesk(self.orders, lambda: self.offer, self, self.clock, self.note)
        switches = {"droop_enabled": self.switch_droop}
        self.station = Station(
            self.settings, lambda: self.values, self.desk, self.clock, switches=switches
        )
        self.news = asyncio.Event()

    def publish(self, message: Reading | Synchro | Plan | Cells) -> None:
        assert isinstance(message, Plan)
        self.plans.append(message)
        self.news.set()

    def note(self, event: OrderEvent) -> None:
        self.told.append(event)
        self.news.set()

    def switch_droop(self, on: bool) -> str | None:
        self.droop.append(on)
        return None

    def verbs(self) -> list[Verb]:
        return [event.verb for event in self.told]

    def refusals(self) -> list[str]:
        return [event.reason for event in self.told if event.verb is Verb.REFUSED]

    def accepted(self) -> list[float | None]:
        return [event.power_kw for event in self.told if event.verb is Verb.ACCEPTED]

    def in_force(self, kind: OrderKind = OrderKind.ABSOLUTE) -> Plan | None:
        mine = [plan for plan in self.plans if plan.source == source_of(kind)]
        return mine[-1] if mine and mine[-1].valid_until_s > self.clock.now_s() else None

    async def until(self, found: Callable[[], bool]) -> None:
        """Wait for something that is told or published."""
        async with asyncio.timeout(WAIT_S):
            while not found():
                self.news.clear()
                await self.news.wait()


def settings(**changes: Any) -> ScadaSettings:
    masters = (MasterSettings(host=HOST, links=2), MasterSettings(host=OTHER_HOST))
    base = ScadaSettings(
        enabled=True,
        host=HOST,
        port=0,
        common_address=CA,
        masters=masters,
        points=POINTS,
        timezone="Asia/Kolkata",
        scan_s=0.05,
        cyclic_s=None,
        t2_s=0.2,
    )
    return replace(base, **changes)


@asynccontextmanager
async def serving(
    changes: dict[str, Any] | None = None, orders: OrderSettings | None = None
) -> AsyncIterator[Site]:
    site = Site(settings(**changes or {}), orders or OrderSettings())
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(site.station.run())
        renewing = tasks.create_task(site.desk.run())
        async with asyncio.timeout(WAIT_S):
            await site.station.listening.wait()
        try:
            yield site
        finally:
            running.cancel()
            renewing.cancel()


class Master:
    """hat-drivers' client: it starts data transfer as soon as it is connected."""

    def __init__(self, connection: apci.Connection) -> None:
        self.connection = connection
        self.heard: list[bytes] = []

    async def send(self, asdu: bytes) -> None:
        await self.connection.send(asdu)

    async def until(self, *wanted: Callable[[bytes], bool]) -> list[bytes]:
        """The ASDUs that answer each of `wanted`, in that order; others are put in `heard`."""
        found = []
        async with asyncio.timeout(WAIT_S):
            for each in wanted:
                while True:
                    asdu = bytes(await self.connection.receive())
                    self.heard.append(asdu)
                    if each(asdu):
                        found.append(asdu)
                        break
        return found

    async def command(self, asdu: bytes) -> bool:
        """Send it; whether it was confirmed positively."""
        await self.send(asdu)
        (answer,) = await self.until(lambda got: got[0] == asdu[0] and got[2] & 0x3F in {7, 9})
        return not answer[2] & NEGATIVE


@asynccontextmanager
async def master(site: Site, host: str = HOST, **kwargs: Any) -> AsyncIterator[Master]:
    connection = await apci.connect(
        net.TcpAddress(HOST, site.station.port), local_addr=(host, 0), **kwargs
    )
    try:
        yield Master(connection)
    finally:
        await connection.async_close()


def asdu(
    type_: int, cause: int, address: int, body: bytes, common_address: int = CA, count: int = 1
) -> bytes:
    head = bytes((type_, count, cause, 0))
    return head + common_address.to_bytes(2, "little") + address.to_bytes(3, "little") + body


def setpoint(
    value_mw: float, address: int = 3001, cause: int = ACT, *, select: bool = False, **where: Any
) -> bytes:
    return asdu(50, cause, address, struct.pack("<fB", value_mw, 0x80 * select), **where)


def switch(on: bool, address: int = 3101, *, select: bool = False) -> bytes:
    return asdu(45, ACT, address, bytes((on | 0x80 * select,)))


def interrogation(common_address: int = CA, qualifier: int = 20) -> bytes:
    return asdu(100, ACT, 0, bytes((qualifier,)), common_address)


def is_(type_: int, cause: int, address: int | None = None) -> Callable[[bytes], bool]:
    def fits(got: bytes) -> bool:
        where = int.from_bytes(got[6:9], "little")
        return got[0] == type_ and got[2] & 0x3F == cause and address in {None, where}

    return fits


def objects(got: bytes) -> dict[int, bytes]:
    """Address and value bytes of every object of a monitoring ASDU without a time tag."""
    size = {13: 5, 1: 1, 3: 1}[got[0]]
    step = 3 + size
    parts = [got[6 + n * step : 6 + (n + 1) * step] for n in range(got[1])]
    return {int.from_bytes(part[:3], "little"): part[3:] for part in parts}


class Wire:
    """A master that is only a socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.sent = 0

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def asdu(self, data: bytes) -> None:
        """As an I frame, with the next number and no acknowledgment."""
        number = self.sent << 1
        self.sent += 1
        self.send(bytes((0x68, 4 + len(data), number & 0xFF, number >> 8, 0, 0)) + data)

    async def frame(self) -> bytes:
        async with asyncio.timeout(WAIT_S):
            head = await self.reader.readexactly(2)
            return head + await self.reader.readexactly(head[1])

    async def start(self) -> None:
        self.send(STARTDT)
        while await self.frame() != STARTED:
            pass

    async def closed(self) -> bool:
        async with asyncio.timeout(WAIT_S):
            try:
                while await self.reader.read(4096):
                    pass
            except ConnectionError:
                pass
            return True


@asynccontextmanager
async def wire(site: Site, host: str = HOST) -> AsyncIterator[Wire]:
    streams = await asyncio.open_connection(HOST, site.station.port, local_addr=(host, 0))
    try:
        yield Wire(*streams)
    finally:
        streams[1].close()
