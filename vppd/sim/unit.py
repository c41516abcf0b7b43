"""One BESS controller: battery and inverter behind the register maps `vpp-bess` and `vpp-bess-v2`.

The addresses, scales and signs are typed from the document of that map: big-endian 16-bit words,
**power and current positive = charging**. Input registers (function 4):

    0x1000 SoC 0.1 %    0x1001 SoH 0.1 %        0x1002 DC voltage 0.1 V   0x1003 DC current 0.1 A
    0x1004 temp 0.1 C   0x1005 power 0.1 kW     0x1006 reactive 0.1 kvar  0x1007 frequency 0.01 Hz
    0x1010 status bits  0x1011 alarm bits       0x1012 fault bits
    0x1020 energy capacity 0.1 kWh              0x1021 rated power 0.1 kW 0x1022 cycles

Holding registers (functions 3, 6, 16):

    0x2000 power setpoint 0.1 kW    0x2001 reactive setpoint 0.1 kvar
    0x2002 mode (0 off, 1 charge, 2 discharge, 3 auto)    0x2003 enable    0x2004 1 resets alarms
    v2: 0x2005 command timeout s (0 never)    0x2006 heartbeat, any change restarts the timeout

Power-up defaults are all 0: off, disabled, no timeout. While the timeout has run out the device
holds its power setpoint at 0: a setpoint written then reads 0 again until the heartbeat changes.
Units with an even Modbus id answer exception 2 to a block that touches a hole, odd ones zeros.
The bits of the status word are this simulator's own: 0 enabled, 1 charging, 2 discharging, 3 fault.

Where the unit has an inverter of its own, that inverter drives the power by `SimUnit.command`; the
registers above then only measure: what is written there is kept and read back, and moves nothing.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vppd.core.settings import UnitSettings
from vppd.sim.battery import Battery
from vppd.sim.inverter import Inverter, dc_kw
from vppd.sim.modbus_pdu import ILLEGAL_ADDRESS, ILLEGAL_VALUE, READ_INPUT, RefusedError
from vppd.sim.slave import Layout

INPUT_FIRST, INPUT_LAST = 0x1000, 0x1022
SETPOINT, SETPOINT_KVAR, MODE, ENABLE, RESET_ALARMS, TIMEOUT, HEARTBEAT = range(0x2000, 0x2007)
OFF, CHARGE_ONLY, DISCHARGE_ONLY, AUTO = 0, 1, 2, 3
LAYOUT = Layout(function=READ_INPUT, powers=frozenset({0x1005}))
LAST_HOLDING = {"vpp-bess": RESET_ALARMS, "vpp-bess-v2": HEARTBEAT}
HIGHEST = {MODE: AUTO, ENABLE: 1, RESET_ALARMS: 1}

ADDRESSES = {
    "soc_pct": 0x1000,
    "soh_pct": 0x1001,
    "voltage_v": 0x1002,
    "current_a": 0x1003,
    "temperature_c": 0x1004,
    "power_kw": 0x1005,
    "reactive_kvar": 0x1006,
    "frequency_hz": 0x1007,
    "status_bits": 0x1010,
    "alarm_bits": 0x1011,
    "fault_bits": 0x1012,
    "energy_capacity_kwh": 0x1020,
    "rated_power_kw": 0x1021,
    "cycles": 0x1022,
    "setpoint_kw": SETPOINT,
    "setpoint_kvar": SETPOINT_KVAR,
    "mode": MODE,
    "enabled": ENABLE,
    "command_timeout_s": TIMEOUT,
    "heartbeat": HEARTBEAT,
}

EMPTY_PCT, FULL_PCT = 0.0, 100.0
IDLE_KW = 0.05
STEP_S = 0.25  # the longest step of the battery's sums
SETPOINTS_KEPT = 8192


@dataclass(frozen=True, slots=True)
class SetpointWrite:
    """What arrived as a setpoint, positive = discharge, and who put it there: `modbus`, `rival`,
    `timeout` or `reset` in the controller's register; `sunspec` and what else its inverter says."""

    at_s: float
    power_kw: float
    source: str


def word(value: float, scale: float, *, signed: bool = False) -> int:
    """A value as one register, held at the ends of its type."""
    low, high = (-32768, 32767) if signed else (0, 65535)
    return min(max(round(value / scale), low), high) & 0xFFFF


def signed(raw: int) -> int:
    """One register as i16."""
    return (raw ^ 0x8000) - 0x8000


class SimUnit:
    """One unit. Its state moves when it is looked at: call `advance` first.

    Raises ValueError for a profile whose map it does not know.
    """

    def __init__(
        self, settings: UnitSettings, now_s: float, frequency_hz: Callable[[], float], seed: int
    ) -> None:
        modbus = settings.modbus
        profile = modbus.profile if modbus is not None else "vpp-bess"
        if profile not in LAST_HOLDING:
            raise ValueError(
                f"{settings.id}: the plant knows the maps {', '.join(LAST_HOLDING)}, not {profile}"
            )
        self.settings, self.id = settings, settings.id
        self.battery = Battery(
            settings.rated_power_kw, settings.energy_kwh, settings.modules_parallel, seed=seed
        )
        self.inverter = Inverter(
            settings.rated_power_kw, settings.rated_apparent_kva or settings.rated_power_kw
        )
        self.setpoints: deque[SetpointWrite] = deque(maxlen=SETPOINTS_KEPT)
        self.stuck: dict[int, int] = {}
        self.fault_bits = self.alarm_bits = 0  # injected
        self.latched_fault_bits = self.latched_alarm_bits = 0  # until alarms are reset
        self._frequency_hz = frequency_hz
        self._holes_refuse = modbus is not None and modbus.unit_id % 2 == 0
        self._last_holding = LAST_HOLDING[profile]
        self._at_s = self._alive_s = now_s
        self.holding = dict.fromkeys(range(SETPOINT, self._last_holding + 1), 0)
        self.has_inverter = settings.inverter is not None
        self.governor: Callable[[float], None] | None = None
        self._commanded_kw = self._commanded_kvar = 0.0
        self.exported_kwh = 0.0  # AC, out less in, since the start

    # what it does
    @property
    def power_kw(self) -> float:
        """AC power, positive = discharge."""
        return self.inverter.power_kw

    @property
    def reactive_kvar(self) -> float:
        """Reactive power, positive = out."""
        return self.inverter.reactive_kvar

    @property
    def frequency_hz(self) -> float:
        """The grid's frequency, which its inverter measures."""
        return self._frequency_hz()

    @property
    def setpoint_kw(self) -> float:
        """The setpoint that drives it, positive = discharge."""
        return self._commanded_kw if self.has_inverter else self._register_kw

    @property
    def _register_kw(self) -> float:
        return -0.1 * signed(self.holding[SETPOINT])

    def command(self, power_kw: float, reactive_kvar: float, source: str = "sunspec") -> None:
        """What the unit's own inverter wants from now on: kW and kvar, positive = out. It holds
        until the next command, past the controller's enable and mode; the battery's own end (empty,
        full, a fault word) still stops it. Kept in `setpoints` under this source, so call it for a
        write, a revert or a rival, not for every step: for what moves by itself set `governor`,
        which is called with the instant before each step of at most STEP_S and may command."""
        self._commanded_kw, self._commanded_kvar = power_kw, reactive_kvar
        self.setpoints.append(SetpointWrite(self._at_s, power_kw, source))

    @property
    def timed_out(self) -> bool:
        """Whether the command timeout has run out."""
        return self._at_s >= self._expires_s()

    def _expires_s(self) -> float:
        timeout_s = self.holding.get(TIMEOUT, 0)
        return self._alive_s + timeout_s if timeout_s else float("inf")

    def advance(self, now_s: float) -> None:
        """Live until now."""
        if now_s <= self._at_s:
            return
        while self._at_s < now_s:
            end_s = min(self._at_s + STEP_S, now_s)
            expires_s = self._expires_s()
            if self._at_s < expires_s < end_s:
                end_s = expires_s
            self._step(end_s - self._at_s)
            self._at_s = end_s
            self._obey_timeout()
        self.battery.dc_kw = self.inverter.dc_kw

    def _step(self, duration_s: float) -> None:
        if self.governor is not None:
            self.governor(self._at_s)
        inverter = self.inverter
        inverter.advance(self._command_kw(), self._command_kvar(), duration_s)
        self.battery.advance(dc_kw(inverter.mean_kw), duration_s)
        self.exported_kwh += inverter.mean_kw * duration_s / 3600.0

    @property
    def _mode(self) -> int:
        """What the controller lets through; an inverter of its own does not ask it."""
        if self.faulted:
            return OFF
        if self.has_inverter:
            return AUTO
        return self.holding[MODE] if self.holding[ENABLE] else OFF

    def _command_kw(self) -> float:
        mode, command_kw = self._mode, self.setpoint_kw
        if mode == OFF:
            return 0.0
        if command_kw > 0.0 and (mode == CHARGE_ONLY or self.battery.soc_pct <= EMPTY_PCT):
            return 0.0
        if command_kw < 0.0 and (mode == DISCHARGE_ONLY or self.battery.soc_pct >= FULL_PCT):
            return 0.0
        return command_kw

    def _command_kvar(self) -> float:
        if self._mode == OFF:
            return 0.0
        if self.has_inverter:
            return self._commanded_kvar
        return -0.1 * signed(self.holding[SETPOINT_KVAR])

    @property
    def faulted(self) -> bool:
        """The device's own fault word is not 0: it gives nothing."""
        return bool(self.fault_bits | self.latched_fault_bits)

    def _obey_timeout(self) -> None:
        if self.timed_out and self.holding[SETPOINT]:
            self.set_setpoint(0, "timeout")

    def set_setpoint(self, raw: int, source: str) -> None:
        """Put a raw word (positive = charging) into the setpoint register."""
        self.holding[SETPOINT] = raw
        self.setpoints.append(SetpointWrite(self._at_s, self._register_kw, source))

    def reset(self) -> None:
        """Power-up of the controller: every holding register to its default."""
        for address in self.holding:
            self.holding[address] = 0
        self.setpoints.append(SetpointWrite(self._at_s, 0.0, "reset"))
        self._alive_s = self._at_s
        if not self.has_inverter:
            self.inverter.power_kw = self.inverter.reactive_kvar = 0.0

    # what the wire sees
    def read_registers(self, function: int, address: int, count: int) -> Sequence[int]:
        """Function 3 or 4. Raises RefusedError."""
        if function == READ_INPUT:
            return self._read_inputs(address, count)
        if address < SETPOINT or address + count - 1 > self._last_holding:
            raise RefusedError(ILLEGAL_ADDRESS)
        return [self.stuck.get(at, self.holding[at]) for at in range(address, address + count)]

    def _read_inputs(self, address: int, count: int) -> Sequence[int]:
        if address < INPUT_FIRST or address + count - 1 > INPUT_LAST:
            raise RefusedError(ILLEGAL_ADDRESS)
        image = self.inputs()
        if self._holes_refuse and any(at not in image for at in range(address, address + count)):
            raise RefusedError(ILLEGAL_ADDRESS)
        return [image.get(at, 0) for at in range(address, address + count)]

    def inputs(self) -> dict[int, int]:
        """Every input register there is, stuck ones as they stuck."""
        battery = self.battery
        image = {
            0x1000: word(min(max(battery.soc_pct, EMPTY_PCT), FULL_PCT), 0.1),
            0x1001: word(battery.soh_pct, 0.1),
            0x1002: word(battery.voltage_v, 0.1),
            0x1003: word(-battery.measured_a, 0.1, signed=True),
            0x1004: word(battery.hottest_c, 0.1, signed=True),
            0x1005: word(-self.power_kw, 0.1, signed=True),
            0x1006: word(-self.reactive_kvar, 0.1, signed=True),
            0x1007: word(self._frequency_hz(), 0.01),
            0x1010: self._status_bits(),
            0x1011: self.alarm_bits | self.latched_alarm_bits,
            0x1012: self.fault_bits | self.latched_fault_bits,
            0x1020: word(battery.energy_kwh, 0.1),
            0x1021: word(self.settings.rated_power_kw, 0.1),
            0x1022: battery.cycles & 0xFFFF,
        }
        for address in self.stuck.keys() & image.keys():
            image[address] = self.stuck[address]
        return image

    def _status_bits(self) -> int:
        charging, discharging = self.power_kw < -IDLE_KW, self.power_kw > IDLE_KW
        flags = (bool(self.holding[ENABLE]), charging, discharging, self.faulted)
        return sum(1 << bit for bit, flag in enumerate(flags) if flag)

    def write_registers(self, address: int, words: Sequence[int], source: str = "modbus") -> None:
        """Functions 6 and 16: all or nothing. Raises RefusedError."""
        if address < SETPOINT or address + len(words) - 1 > self._last_holding:
            raise RefusedError(ILLEGAL_ADDRESS)
        written = dict(enumerate(words, start=address))
        if any(raw > HIGHEST.get(at, 0xFFFF) for at, raw in written.items()):
            raise RefusedError(ILLEGAL_VALUE)
        for at, raw in written.items():
            self._take(at, raw, source)
        self._obey_timeout()

    def _take(self, address: int, raw: int, source: str) -> None:
        if address == SETPOINT:
            self.set_setpoint(raw, source)
        elif address == RESET_ALARMS:
            if raw:
                self.latched_fault_bits = self.latched_alarm_bits = 0
        else:
            if address == TIMEOUT or (address == HEARTBEAT and raw != self.holding[HEARTBEAT]):
                self._alive_s = self._at_s
            self.holding[address] = raw
