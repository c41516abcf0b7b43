"""What a simulated inverter measures of its unit at one instant, and how its state is called.

Volts and amperes of the grid side are of a balanced three-phase connection; the DC side is the
battery behind the inverter's efficiency. Temperatures follow the load without lag.
"""

import math
from dataclasses import dataclass
from enum import IntEnum

from vppd.sim.inverter import dc_kw
from vppd.sim.unit import SimUnit

LINE_V = 400.0
BUSY_KW = 0.05
CABINET_RISE_C, SINK_RISE_C = 10.0, 30.0  # above ambient at full load
UNDECIDED_KVA = 0.01  # below it the power factor is told as 1


class State(IntEnum):
    """Operating state, numbered as model 103 does; model 701 counts from 0."""

    OFF = 1
    SLEEPING = 2
    STARTING = 3
    RUNNING = 4
    THROTTLED = 5
    SHUTTING_DOWN = 6
    FAULT = 7
    STANDBY = 8


@dataclass(frozen=True, slots=True)
class Ac:
    """The grid side; positive = out."""

    power_kw: float
    apparent_kva: float
    reactive_kvar: float
    power_factor: float  # sign of the active power
    current_a: float
    line_v: float
    frequency_hz: float

    @property
    def phase_v(self) -> float:
        """Line to neutral."""
        return self.line_v / math.sqrt(3.0)


@dataclass(frozen=True, slots=True)
class Dc:
    """The battery side; positive = out of the battery."""

    power_w: float
    voltage_v: float
    current_a: float
    temperature_c: float


class Meter:
    """Reads one unit, and counts its energy."""

    def __init__(self, unit: SimUnit, line_v: float = LINE_V) -> None:
        self._unit = unit
        self.line_v = line_v
        self.injected_wh = self.absorbed_wh = 0.0
        self.injected_varh = self.absorbed_varh = 0.0
        self.dc_out_wh = self.dc_in_wh = 0.0

    def count(self, duration_s: float) -> None:
        """Add what flowed in the step that has just ended."""
        inverter, hours = self._unit.inverter, duration_s / 3600.0
        mean_dc_kw = dc_kw(inverter.mean_kw)
        self.injected_wh += max(inverter.mean_kw, 0.0) * 1000.0 * hours
        self.absorbed_wh += max(-inverter.mean_kw, 0.0) * 1000.0 * hours
        self.injected_varh += max(inverter.reactive_kvar, 0.0) * 1000.0 * hours
        self.absorbed_varh += max(-inverter.reactive_kvar, 0.0) * 1000.0 * hours
        self.dc_out_wh += max(mean_dc_kw, 0.0) * 1000.0 * hours
        self.dc_in_wh += max(-mean_dc_kw, 0.0) * 1000.0 * hours

    def ac(self) -> Ac:
        """The grid side now."""
        power_kw, reactive_kvar = self._unit.power_kw, self._unit.reactive_kvar
        apparent_kva = math.hypot(power_kw, reactive_kvar)
        factor = power_kw / apparent_kva if apparent_kva > UNDECIDED_KVA else 1.0
        return Ac(
            power_kw,
            apparent_kva,
            reactive_kvar,
            factor,
            1000.0 * apparent_kva / (math.sqrt(3.0) * self.line_v),
            self.line_v,
            self._unit.frequency_hz,
        )

    def dc(self) -> Dc:
        """The battery side now; amperes of all its modules."""
        battery = self._unit.battery
        return Dc(
            1000.0 * self._unit.inverter.dc_kw,
            battery.voltage_v,
            battery.measured_a * battery.modules_parallel,
            battery.hottest_c,
        )

    def warmth_c(self) -> dict[str, float]:
        """Ambient, cabinet and heat sink."""
        load = abs(self._unit.power_kw) / self._unit.settings.rated_power_kw
        ambient_c = self._unit.battery.ambient_c
        return {
            "TmpAmb": ambient_c,
            "TmpCab": ambient_c + CABINET_RISE_C * load,
            "TmpSnk": ambient_c + SINK_RISE_C * load,
        }


@dataclass(frozen=True, slots=True)
class Look:
    """How the device is at the instant somebody reads it."""

    now_s: float
    state: State
    alarm_bits: int  # numbered as 701 Alrm and 103 Evt1 do
    battery_faulted: bool
    dc_alarm_bits: int
    is_local: bool
    is_limited: bool
    is_connected: bool


def fitting(magnitude: float, room: int = 32767) -> int:
    """The finest power of ten in which so much fits a register with some to spare."""
    return max(math.ceil(math.log10(1.5 * magnitude / room)), -3) if magnitude > 0.0 else 0
