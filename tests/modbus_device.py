"""Modbus TCP devices for tests, typed from the protocol and the register map, on any event loop.

Each keeps a log of what was asked, and misbehaves as told. `Rig` puts vppd's links in front.
"""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from vppd.config import load_profile
from vppd.core.model import Cleared, DeviceReport, Point, Reading, UnitId
from vppd.core.ports import Clock
from vppd.core.profile import DeviceProfile
from vppd.core.settings import (
    InterlockInputSettings,
    ModbusSettings,
    SafetySettings,
    Settings,
    SiteSettings,
    UnitSettings,
)
from vppd.field.build import build
from vppd.field.presence import Counters
from vppd.spine.bus import Bus

PROFILES = Path(__file__).parents[1] / "vppd" / "field" / "profiles"
HOLE = set(range(0x1008, 0x1010)) | set(range(0x1013, 0x1020))
WRITES = {6, 16}


class Asked(NamedTuple):
    """One request as it came."""

    at_s: float
    unit: int
    function: int
    address: int
    size: int
    words: tuple[int, ...]


def bess_inputs() -> dict[int, int]:
    """55.3 %, 99 %, 56.0 V, 10 A out, 25.1 C, 50 kW out, 1 kvar in, 49.98 Hz; 250 kWh, 100 kW."""
    first = [553, 990, 560, 0xFF9C, 251, 0xFE0C, 10, 4998]
    return {
        **{0x1000 + n: word for n, word in enumerate(first)},
        **dict.fromkeys((0x1011, 0x1012), 0),
        0x1010: 1,
        0x1020: 2500,
        0x1021: 1000,
        0x1022: 17,
    }


@dataclass
class FakeDevice:
    """One unit id. `missing` input registers are answered with exception 2 (or `zeros`)."""

    inputs: dict[int, int] = field(default_factory=bess_inputs)
    holding: dict[int, int] = field(default_factory=lambda: dict.fromkeys(range(0x2000, 0x2007), 0))
    bits: dict[int, int] = field(default_factory=dict)
    zeros: bool = False
    silent: bool = False
    delay_s: float = 0.0
    fails: int = 0  # an exception to every read
    refuses: dict[int, int] = field(default_factory=dict)  # address written: exception
    log: list[Asked] = field(default_factory=list)
    on_write: Callable[[int, int], None] = lambda _address, _word: None

    def reads(self) -> list[Asked]:
        return [asked for asked in self.log if asked.function not in WRITES]

    def writes(self, address: int | None = None) -> list[Asked]:
        return [
            asked
            for asked in self.log
            if asked.function in WRITES and (address is None or asked.address == address)
        ]

    def restart(self) -> None:
        """Power-up: every holding register 0."""
        self.holding = dict.fromkeys(self.holding, 0)

    def answer(self, asked: Asked) -> bytes:
        """The PDU of the reply."""
        function, span = asked.function, range(asked.address, asked.address + asked.size)
        refusal = bytes((function | 0x80,))
        if function in WRITES:
            for at, word in zip(span, asked.words, strict=True):
                if code := self.refuses.get(at, 0 if at in self.holding else 2):
                    return refusal + bytes((code,))
                self.holding[at] = word
                self.on_write(at, word)
            last = asked.words[0] if function == 6 else asked.size
            return struct.pack(">BHH", function, asked.address, last)
        if self.fails:
            return refusal + bytes((self.fails,))
        table = {1: self.bits, 2: self.bits, 3: self.holding, 4: self.inputs}[function]
        if not self.zeros and any(at not in table for at in span):
            return refusal + b"\x02"
        words = [table.get(at, 0) for at in span]
        if function in (1, 2):
            octet = sum(bit << n for n, bit in enumerate(words))
            return bytes((function, 1, octet))
        return struct.pack(f">BB{asked.size}H", function, 2 * asked.size, *words)


class Server:
    """A listener with devices behind it, as a gateway has."""

    def __init__(self, clock: Clock, devices: dict[int, FakeDevice]) -> None:
        self.clock, self.devices = clock, devices
        self.opened = 0
        self.open: set[Any] = set()
        self.host, self.port = "127.0.0.1", 0
        self._listener: Any = None

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: _Connection(self), self.host, self.port)
        self.host, self.port = self._listener.sockets[0].getsockname()[:2]

    def stop(self) -> None:
        """No listener, and every connection reset."""
        self._listener.close()
        for transport in list(self.open):
            transport.abort()


class _Connection(asyncio.Protocol):
    def __init__(self, server: Server) -> None:
        self.server, self.buffer = server, b""

    def connection_made(self, transport: Any) -> None:
        self.transport: Any = transport
        self.server.opened += 1
        self.server.open.add(transport)

    def connection_lost(self, _: Exception | None) -> None:
        self.server.open.discard(self.transport)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while len(self.buffer) >= 8 and len(self.buffer) >= 6 + self.buffer[5]:
            size = 6 + self.buffer[5]
            request, self.buffer = self.buffer[:size], self.buffer[size:]
            unit, function, address, second = struct.unpack(">BBHH", request[6:12])
            words: tuple[int, ...] = ()
            if function == 6:
                words, second = (second,), 1
            elif function == 16:
                words = struct.unpack(f">{second}H", request[13:])
            asked = Asked(self.server.clock.now_s(), unit, function, address, second, words)
            self.take(request, asked)

    def take(self, request: bytes, asked: Asked) -> None:
        device = self.server.devices.get(asked.unit)
        if device is None:
            return
        device.log.append(asked)
        if device.silent:
            return
        pdu = device.answer(asked)
        frame = request[:4] + struct.pack(">HB", len(pdu) + 1, asked.unit) + pdu
        if device.delay_s:
            asyncio.get_running_loop().call_later(device.delay_s, self.send, frame)
        else:
            self.send(frame)

    def send(self, frame: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(frame)


def shipped(name: str = "vpp-bess-v2", **changes: Any) -> DeviceProfile:
    return replace(load_profile(PROFILES / f"{name}.yaml"), **changes)


def unit_settings(name: str, host: str | None, port: int, **modbus: Any) -> UnitSettings:
    at = {"profile": "p", "host": host, "port": port, "unit_id": 1, **modbus}
    return UnitSettings(
        id=name,
        building="B",
        rated_power_kw=100.0,
        energy_kwh=250.0,
        modules_parallel=23,
        modbus=ModbusSettings(**at),
        safety=SafetySettings(),
    )


class Rig:
    """vppd's links to some servers, and everything they said."""

    def __init__(
        self,
        clock: Clock,
        units: Sequence[UnitSettings],
        profile: DeviceProfile,
        inputs: Sequence[InterlockInputSettings] = (),
    ) -> None:
        self.clock, self.bus = clock, Bus(clock)
        self.reports: list[DeviceReport] = []
        self.readings: list[Reading] = []
        self.bus.tap(lambda each: self.readings.append(each) if isinstance(each, Reading) else None)
        settings = Settings(
            site=SiteSettings(id="s"),
            mode="hardware",
            units=tuple(units),
            interlock_inputs=tuple(inputs),
            profiles={"p": profile},
        )
        self.field = build(settings, self.bus, clock, self.reports.append)
        self.links, self.actuators = self.field.links, self.field.actuators

    def counters(self) -> Mapping[UnitId, Counters]:
        return {each.unit: each.counters for each in self.field.presences}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            for link in self.links:
                group.create_task(link.run())
            try:
                yield
            finally:
                for link in self.links:
                    link.stop()

    def offer(
        self, power_kw: float, kvar: float = 0.0, unit: str = "U1", lasts_s: float = 1.0
    ) -> Cleared:
        now_s = self.clock.now_s()
        cleared = Cleared(UnitId(unit), power_kw, kvar, power_kw, kvar, (), now_s, now_s + lasts_s)
        self.actuators[UnitId(unit)].offer(cleared)
        return cleared

    async def tick(self, seconds: float, power_kw: float | None = None, unit: str = "U1") -> None:
        """Let time pass in ticks of 0.1 s, each offering the power."""
        end_s = self.clock.now_s() + seconds
        while self.clock.now_s() < end_s - 1e-6:
            if power_kw is not None:
                self.offer(power_kw, unit=unit)
            await self.clock.sleep_until(self.clock.now_s() + 0.1)

    def value(self, point: Point, unit: str = "U1") -> float | None:
        return self.bus.snapshot().fresh(UnitId(unit), point)

    def of(self, kind: Any, unit: str = "U1") -> list[Any]:
        return [each for each in self.reports if isinstance(each, kind) and each.unit == unit]


async def until(condition: Callable[[], object], clock: Clock, within_s: float = 5.0) -> None:
    """Wait for a condition, in steps of the site clock."""
    end_s = clock.now_s() + within_s
    while not condition():
        assert clock.now_s() < end_s, "waited too long"
        await clock.sleep_until(clock.now_s() + 0.005)
