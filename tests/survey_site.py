"""Devices for the read-only surveys: they log every function code that comes in, and misbehave as
told. `Threaded` runs them beside a command that has an event loop of its own."""

import asyncio
import os
import struct
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.modbus_device import Asked, FakeDevice, bess_inputs
from tests.test_modbus_rtu import crc
from vppd.core.settings import (
    InterlockInputSettings,
    InverterSettings,
    MeterSettings,
    ModbusSettings,
    Settings,
    SiteSettings,
    UnitSettings,
)

READS = {1, 2, 3, 4}


class Wire:
    """A Modbus TCP listener. `clients`: many, refuse (the second is hung up on), kick (the second
    throws the first out) or ignore (the second gets no answer)."""

    def __init__(self, devices: dict[int, FakeDevice], clients: str = "many") -> None:
        self.devices, self.clients = devices, clients
        self.functions: list[int] = []
        self.answers_as: int | None = None  # the unit id in every reply
        self.deaf_to_ids = False  # every unit id is the first device
        self.garbage: Callable[[bytes], bytes] | None = None
        self.open: list[asyncio.StreamWriter] = []
        self.port = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> "Wire":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self.open:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        live = [each for each in self.open if not each.is_closing()]
        self.open.append(writer)
        mute = bool(live) and self.clients == "ignore"
        if live and self.clients == "refuse":
            writer.close()
            return
        if live and self.clients == "kick":
            for each in live:
                each.close()
        try:
            while True:
                head = await reader.readexactly(6)
                body = await reader.readexactly(struct.unpack(">H", head[4:])[0])
                self.functions.append(body[1])
                if self.garbage is not None:
                    writer.write(self.garbage(head + body))
                elif not mute:
                    await self._answer(writer, head, body)
        except (EOFError, OSError):
            pass
        finally:
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, head: bytes, body: bytes) -> None:
        unit, function, address, size = struct.unpack(">BBHH", body[:6])
        known = self.devices
        device = next(iter(known.values())) if self.deaf_to_ids else known.get(unit)
        if device is None or device.silent:
            return
        pdu = device.answer(Asked(0.0, unit, function, address, size, ()))
        if device.delay_s:
            await asyncio.sleep(device.delay_s)
        shown = unit if self.answers_as is None else self.answers_as
        writer.write(head[:4] + struct.pack(">HB", len(pdu) + 1, shown) + pdu)


class Pty:
    """A serial line with devices on its other end."""

    def __init__(self, devices: dict[int, FakeDevice]) -> None:
        self.devices = devices
        self.functions: list[int] = []
        self.master, self.slave = os.openpty()
        tty.setraw(self.master)
        self.path = os.ttyname(self.slave)
        self._buffer = b""

    async def start(self) -> "Pty":
        asyncio.get_running_loop().add_reader(self.master, self._receive)
        return self

    def stop(self) -> None:
        asyncio.get_running_loop().remove_reader(self.master)
        os.close(self.master)
        os.close(self.slave)

    def _receive(self) -> None:
        self._buffer += os.read(self.master, 512)
        while len(self._buffer) >= 8:
            request, self._buffer = self._buffer[:8], self._buffer[8:]
            self.functions.append(request[1])
            unit, function, address, size = struct.unpack(">BBHH", request[:6])
            device = self.devices.get(unit)
            if device is not None and not device.silent:
                body = bytes((unit,)) + device.answer(Asked(0.0, unit, function, address, size, ()))
                os.write(self.master, body + crc(body))


class Threaded:
    """Wires on an event loop in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._parts: list[Any] = []

    def add(self, part: Any) -> Any:
        self._parts.append(part)
        return asyncio.run_coroutine_threadsafe(part.start(), self._loop).result(5.0)

    def __enter__(self) -> "Threaded":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        async def end() -> None:
            for part in self._parts:
                part.stop()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(5.0)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextmanager
def stopping(*parts: Any) -> Iterator[None]:
    try:
        yield
    finally:
        for part in parts:
            part.stop()


def inputs(**changes: int) -> dict[int, int]:
    """The battery's input registers: 23 modules x 56 V x 40 A = 51.5 kW out, 50 kW measured."""
    names = {"soc": 0x1000, "volts": 0x1002, "amperes": 0x1003, "power": 0x1005, "hertz": 0x1007}
    names |= {"capacity": 0x1020, "rated": 0x1021}
    image = bess_inputs() | {0x1003: 0x10000 - 400}
    return image | {names[name]: word for name, word in changes.items()}


def battery(**changes: int) -> FakeDevice:
    return FakeDevice(inputs=inputs(**changes))


def unit(name: str = "A", **parts: Any) -> UnitSettings:
    return UnitSettings(
        id=name,
        building="B",
        rated_power_kw=100.0,
        energy_kwh=250.0,
        modules_parallel=23,
        **parts,
    )


def seat(port: int, **more: Any) -> ModbusSettings:
    wanted: dict[str, Any] = {"profile": "p", "host": "127.0.0.1", "port": port, "timeout_s": 0.2}
    return ModbusSettings(**(wanted | more))


def inverter_seat(port: int, **more: Any) -> InverterSettings:
    return InverterSettings(host="127.0.0.1", port=port, timeout_s=0.2, **more)


def site(
    *units: UnitSettings,
    profiles: dict[str, Any],
    interlocks: tuple[InterlockInputSettings, ...] = (),
    meter: MeterSettings | None = None,
) -> Settings:
    return Settings(
        site=SiteSettings(id="s"),
        mode="hardware",
        units=units,
        interlock_inputs=interlocks,
        meter=meter,
        profiles=profiles,
    )


def sunspec_inverter(**changes: int) -> FakeDevice:
    """A storage inverter of models 1, 103, 120, 121, 123, 124 at 40000, offsets typed from the
    SunSpec model definitions: 50 kW out, 50 Hz, 60 % SoC, 100 kW and 250 kWh rated."""
    w = {"power": 5000, "power_sf": 1, "hertz": 5000, "soc": 600, "rated": 10000} | changes
    image: list[int] = [0x5375, 0x6E53]

    def model(number: int, length: int, words: dict[int, int]) -> None:
        body = [0xFFFF] * (length + 2)
        body[:2] = [number, length]
        for offset, word in words.items():
            body[offset] = word & 0xFFFF
        image.extend(body)

    def text(offset: int, words: str) -> dict[int, int]:
        octets = words.encode().ljust(32, b"\0")
        return {offset + n: int.from_bytes(octets[2 * n : 2 * n + 2]) for n in range(16)}

    serial = text(50, "S123")
    version = dict(list(text(42, "1.7").items())[:8])
    options = dict.fromkeys(range(34, 42), 0)
    model(
        1, 66, {**text(2, "Acme"), **text(18, "Store 100"), **options, **version, **serial, 66: 1}
    )
    model(
        103,
        50,
        {14: w["power"], 15: w["power_sf"], 16: w["hertz"], 17: -2, 20: 0, 21: 0, 38: 4},
    )
    model(
        120,
        26,
        {2: 82, 3: w["rated"], 4: 1, 5: 11000, 6: 1, 19: 25000, 20: 1}
        | {23: 10000, 24: 1, 25: 10000, 26: 1},
    )
    model(121, 30, {2: 10000, 22: 1, 7: 11000, 26: 1})
    if not changes.get("without_123"):
        model(123, 24, {4: 1, 9: 0, 14: 0, 22: 0, 23: 0, 24: 0, 25: 0})
    model(124, 24, {2: 10000, 5: 0, 8: w["soc"], 18: 1, 19: 0, 21: 0, 22: -1, 25: -2})
    image += [0xFFFF, 0]
    return FakeDevice(inputs={}, holding={40000 + n: word for n, word in enumerate(image)})
