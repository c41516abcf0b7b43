"""A PMU: a C37.118.2 server over TCP or UDP whose frames are locked to UTC.

It answers the commands on, off, header, CFG-2 and CFG-3. Its phasors are those of the site's
connection: an 11 kV line carrying the sum of the units' power, angles turning with the frequency's
distance from 50 Hz.
"""

import asyncio
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from vppd.core.ports import Clock
from vppd.core.settings import LocationSettings, PmuSettings
from vppd.sim import c37118_frames as wire
from vppd.sim.grid import NOMINAL_HZ, Grid
from vppd.sim.tcp import Listener, reset

PHASE_V = 11_000.0 / math.sqrt(3.0)
TURN = 2.0 * math.pi
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
BACKLOG_BYTES = 65536  # a client this far behind is dropped
SIXTY_HZ = 60.0
NOISE_HZ = 2e-5  # no measurement of a live grid repeats itself for long
LATE_FRAMES = 8
WAITING_FRAMES = 1024

Power = Callable[[], tuple[float, float]]  # kW and kvar of the site, positive = out


@dataclass(slots=True)
class Faults:
    """How it misbehaves."""

    silent: bool = False
    closed: bool = False
    clock_failure: bool = False
    frozen: wire.Measurement | None = None
    sixty_hertz: bool = False
    garbage_bytes: int = 0
    offset_hz: float = 0.0  # of what it says: a jump that the grid did not make
    ahead_s: float = 0.0  # its clock is so much ahead of UTC, and claims to be locked
    double: bool = False  # every frame twice
    late: int = 0  # after every frame one that is so many frames older
    delay_s: float = 0.0  # every frame arrives so much later
    spike_hz: float = 0.0  # what one frame in `spike_every` says is off by so much
    spike_every: int = 10
    data_error: int = 0  # the two upper bits of STAT
    no_frequency: bool = False  # frames without a value where the frequency stands
    corrupt: bool = False  # one bit of every frame is not what the check word was made of
    cut_bytes: int = 0  # so many bytes are missing at the end of every frame
    dead_bus_s: float | None = None  # since when its bus is without a source
    dead_bus_decay_s: float = 1.0
    dead_bus_hz_per_s: float = 0.0


class Pmu:
    """One configured PMU."""

    def __init__(
        self,
        settings: PmuSettings,
        grid: Grid,
        power: Power,
        clock: Clock,
        *,
        layout: wire.Layout,
        location: LocationSettings | None,
        seed: int,
    ) -> None:
        self.settings, self.id, self.layout = settings, settings.id, layout
        self.faults = Faults()
        self.sent = 0
        self._grid, self._power, self._clock = grid, power, clock
        self._location = location or LocationSettings(latitude=19.0760, longitude=72.8777)
        self._noise = random.Random(seed)  # noqa: S311  (a simulation, not a secret)
        self._past: deque[bytes] = deque(maxlen=LATE_FRAMES + 1)
        self._waiting: deque[tuple[float, bytes]] = deque(maxlen=WAITING_FRAMES)
        self._angle_rad = 0.0
        self._angle_at_s = clock.now_s()
        self._slot = 0
        self._changed = asyncio.Event()
        self.clients: dict[_Client, None] = {}
        self._listener = Listener(settings.host, settings.port, lambda: _Client(self))
        self._datagrams: asyncio.DatagramTransport | None = None
        self._listeners: dict[tuple[str, int], None] = {}  # UDP addresses that turned data on

    @property
    def port(self) -> int:
        """The TCP port, or the UDP command port."""
        if self._datagrams is not None:
            port: int = self._datagrams.get_extra_info("sockname")[1]
            return port
        return self._listener.port

    async def start(self) -> None:
        """Listen. Raises OSError."""
        if self.settings.transport == "tcp":
            await self._listener.open()
            return
        self._datagrams, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _Datagrams(self), local_addr=(self.settings.host, self.settings.port)
        )

    def close(self) -> None:
        """Stop listening and reset every connection."""
        self._listener.close()
        self._drop()
        if self._datagrams is not None:
            self._datagrams.close()

    def _drop(self) -> None:
        for client in tuple(self.clients):
            client.abort()
        self._listeners.clear()

    def refuse(self, *, on: bool) -> None:
        """On: no listener and no connection; over UDP, silence."""
        self.faults.closed = on
        self._listener.refuse(on=on)
        if on:
            self._drop()

    async def tend(self) -> None:
        """Listen again after `refuse` ends; runs until cancelled."""
        await self._listener.tend()

    async def run(self) -> None:
        """Send a frame at each slot of UTC; runs until cancelled."""
        while True:
            at_us = self._next_slot_us()
            utc_us = self._utc_us()
            await self._clock.sleep_until(self._clock.now_s() + (at_us - utc_us) / 1e6)
            if any(client.is_on for client in self.clients) or self._listeners:
                self._send(at_us)

    def _utc_us(self) -> int:
        return (self._clock.utc() - EPOCH) // MICROSECOND

    def _next_slot_us(self) -> int:
        """The next instant of the grid of frames; a wall clock set back starts over."""
        fps = self.layout.fps
        slot = self._utc_us() * fps // 1_000_000 + 1
        if slot <= self._slot <= slot + fps:
            slot = self._slot + 1
        self._slot = slot
        return -(-slot * 1_000_000 // fps)

    def _send(self, at_us: int) -> None:
        faults = self.faults
        if faults.silent or faults.closed:
            self._waiting.clear()
            return
        quality = wire.TQ_CLOCK_FAILURE if faults.clock_failure else 0
        stamp_us = at_us + round(faults.ahead_s * 1e6)
        data = wire.data_frame(self.layout, stamp_us, self._said(), quality)
        self.sent += 1
        self._later(self._noise.randbytes(faults.garbage_bytes) + self._damaged(data))
        if faults.double:
            self._later(data)
        self._past.append(data)
        if faults.late and len(self._past) > faults.late:
            self._later(self._past[-1 - faults.late])
        now_s = self._clock.now_s()
        while self._waiting and (not faults.delay_s or self._waiting[0][0] <= now_s):
            self._give(self._waiting.popleft()[1])

    def _said(self) -> wire.Measurement:
        """What it says of the instant, which is not always what it sees."""
        faults = self.faults
        seen = faults.frozen or self.measure()
        if faults.sixty_hertz:
            seen = replace(seen, frequency_hz=SIXTY_HZ)
        if faults.spike_hz and self.sent % faults.spike_every == 0:
            seen = replace(seen, frequency_hz=seen.frequency_hz + faults.spike_hz)
        if faults.no_frequency:
            seen = replace(seen, frequency_hz=math.nan)
        stat = wire.STAT_CLOCK_FAILURE if faults.clock_failure else seen.stat
        return replace(seen, stat=stat | faults.data_error << wire.STAT_DATA_ERROR_SHIFT)

    def _damaged(self, data: bytes) -> bytes:
        """The frame as the line leaves it."""
        if self.faults.corrupt:
            at = self._noise.randrange(len(data) - wire.CHECK_BYTES)
            data = data[:at] + bytes((data[at] ^ 1 << self._noise.randrange(8),)) + data[at + 1 :]
        return data[: len(data) - self.faults.cut_bytes]

    def _later(self, data: bytes) -> None:
        self._waiting.append((self._clock.now_s() + self.faults.delay_s, data))

    def _give(self, data: bytes) -> None:
        for client in tuple(self.clients):
            client.send(data)
        for address in tuple(self._listeners):
            self._send_datagram(data, address)

    def measure(self) -> wire.Measurement:
        """What it sees now."""
        now_s = self._clock.now_s()
        frequency_hz = self._grid.frequency_hz(now_s)
        turned = (frequency_hz - NOMINAL_HZ) * (now_s - self._angle_at_s)
        self._angle_rad = math.remainder(self._angle_rad + TURN * turned, TURN)
        self._angle_at_s = now_s
        power_kw, reactive_kvar = self._power()
        phase_a = 1000.0 * math.hypot(power_kw, reactive_kvar) / (3.0 * PHASE_V)
        lag_rad = math.atan2(reactive_kvar, power_kw)
        phasors = [
            (phase_a, self._angle_rad - lag_rad - channel.phase * TURN / 3.0)
            if channel.is_current
            else (PHASE_V, self._angle_rad - channel.phase * TURN / 3.0)
            for channel in wire.CHANNELS
        ]
        seen_hz = frequency_hz + self._noise.uniform(-NOISE_HZ, NOISE_HZ) + self.faults.offset_hz
        rocof_hz_per_s = self._grid.rocof_hz_per_s(now_s)
        if self.faults.dead_bus_s is None:
            return wire.Measurement(seen_hz, rocof_hz_per_s, phasors)
        return self._dying(seen_hz, phasors, now_s - self.faults.dead_bus_s)

    def _dying(
        self, seen_hz: float, phasors: list[tuple[float, float]], since_s: float
    ) -> wire.Measurement:
        """What is left on a bus that nothing feeds: voltage, current and frequency run down."""
        left = math.exp(-since_s / self.faults.dead_bus_decay_s)
        fall_hz_per_s = self.faults.dead_bus_hz_per_s
        fading = [(magnitude * left, angle_rad) for magnitude, angle_rad in phasors]
        return wire.Measurement(seen_hz - fall_hz_per_s * since_s, -fall_hz_per_s, fading)

    def freeze(self, *, on: bool) -> None:
        """Repeat one measurement under advancing time stamps."""
        self.faults.frozen = self.measure() if on else None

    def answer(self, command: int) -> bytes | None:
        """The frame that a command asks for, if it asks for one and the PMU speaks."""
        if self.faults.silent:
            return None
        at_us = self._utc_us()
        if command == wire.SEND_HEADER:
            return wire.header_frame(self.layout, at_us)
        if command == wire.SEND_CFG2:
            return wire.cfg2_frame(self.layout, at_us)
        if command == wire.SEND_CFG3:
            where = self._location
            return wire.cfg3_frame(self.layout, at_us, where.latitude, where.longitude)
        return None

    def datagram(self, data: bytes, address: tuple[str, int]) -> None:
        """One UDP datagram with a command. Data goes to `udp_port` where that is configured."""
        target = (address[0], self.settings.udp_port or address[1])
        command = wire.take_command(bytearray(data), self.settings.idcode)
        if command is None or self.faults.closed:
            return
        if command == wire.TURN_ON:
            self._listeners[target] = None
        elif command == wire.TURN_OFF:
            self._listeners.pop(target, None)
        elif (reply := self.answer(command)) is not None:
            self._send_datagram(reply, target)

    def _send_datagram(self, data: bytes, address: tuple[str, int]) -> None:
        if self._datagrams is not None:
            self._datagrams.sendto(data, address)


class _Client(asyncio.Protocol):
    """One TCP client."""

    def __init__(self, pmu: Pmu) -> None:
        self._pmu = pmu
        self._buffer = bytearray()
        self.is_on = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._pmu.clients[self] = None

    def connection_lost(self, _: Exception | None) -> None:
        self._pmu.clients.pop(self, None)

    def abort(self) -> None:
        """Reset."""
        self._pmu.clients.pop(self, None)
        reset(self._transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (command := wire.take_command(self._buffer, self._pmu.settings.idcode)) is not None:
            if command in (wire.TURN_ON, wire.TURN_OFF):
                self.is_on = command == wire.TURN_ON
            elif (reply := self._pmu.answer(command)) is not None:
                self._transport.write(reply)

    def send(self, data: bytes) -> None:
        """A data frame, where they are turned on."""
        if not self.is_on:
            return
        self._transport.write(data)
        if self._transport.get_write_buffer_size() > BACKLOG_BYTES:
            self.abort()


class _Datagrams(asyncio.DatagramProtocol):
    """The UDP socket."""

    def __init__(self, pmu: Pmu) -> None:
        self._pmu = pmu

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._pmu.datagram(data, addr)
