"""The meter at the point of connection: an Eastron SDM630Modbus V2.

Typed from its "SDM630Modbus Smart Meter Modbus Protocol Implementation V1.0", sections 1.1 and
1.2.1: input registers (function 4), each value an IEEE 754 float in two registers, the high word
first. Odd addresses and counts are refused, so are more than 80 registers; parameters that the
table leaves out read 0. **Power positive = import from the grid**; the power factor's sign tells
the direction of the current.

It measures what the units give, less other load and plus other generation, three equal phases.
Holding registers, its set-up, are not played.
"""

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vppd.core.settings import MeterSettings
from vppd.sim.modbus_pdu import (
    ILLEGAL_ADDRESS,
    ILLEGAL_FUNCTION,
    ILLEGAL_VALUE,
    READ_INPUT,
    RefusedError,
)
from vppd.sim.slave import Layout

MODEL = "eastron-sdm630"
MOST_REGISTERS = 80
LAST = 0x017D
PHASE_V = 230.0
PHASES = range(3)
LAYOUT = Layout(
    function=READ_INPUT,
    powers=frozenset({0x000C, 0x000E, 0x0010, 0x0034}),  # of the phases, and total
    floats=True,
    pairs=frozenset(range(0, LAST, 2)),
)


@dataclass(frozen=True, slots=True)
class SitePower:
    """What the units give together, positive = out; `exported_kwh` counts both ways since start."""

    power_kw: float
    reactive_kvar: float
    exported_kwh: float


class SimMeter:
    """Its counters move when it is looked at: call `advance` first.

    Raises ValueError for a profile it does not know.
    """

    def __init__(
        self,
        settings: MeterSettings,
        units: Callable[[], SitePower],
        frequency_hz: Callable[[], float],
        now_s: float,
    ) -> None:
        if settings.profile != MODEL:
            raise ValueError(f"meter: the plant knows {MODEL}, not {settings.profile}")
        self.settings = settings
        self.load_kw = self.generation_kw = 0.0
        self.is_ct_reversed = False
        self.import_kwh = self.export_kwh = 0.0
        self.import_kvarh = self.export_kvarh = 0.0
        self._units, self._frequency_hz = units, frequency_hz
        self._at_s, self._exported_kwh = now_s, 0.0
        self._stuck: Mapping[int, float] | None = None

    # what it measures
    @property
    def power_kw(self) -> float:
        """At its terminals, positive = import, as its transformers are wired; before `ratio`."""
        return self._turned * (self.load_kw - self.generation_kw - self._units().power_kw) + 0.0

    @property
    def reactive_kvar(self) -> float:
        """In the same sense."""
        return self._turned * -self._units().reactive_kvar + 0.0  # a float of 0 has no sign

    @property
    def _turned(self) -> float:
        return (-1.0 if self.is_ct_reversed else 1.0) / self.settings.ratio

    def advance(self, now_s: float) -> None:
        """Count energy until now; exact while the direction does not change in between."""
        units, hours = self._units(), (now_s - self._at_s) / 3600.0
        gone_kwh = units.exported_kwh - self._exported_kwh
        energy_kwh = self._turned * ((self.load_kw - self.generation_kw) * hours - gone_kwh)
        self.import_kwh += max(energy_kwh, 0.0)
        self.export_kwh += max(-energy_kwh, 0.0)
        energy_kvarh = self._turned * -units.reactive_kvar * hours
        self.import_kvarh += max(energy_kvarh, 0.0)
        self.export_kvarh += max(-energy_kvarh, 0.0)
        self._at_s, self._exported_kwh = now_s, units.exported_kwh

    def stick(self, *, on: bool) -> None:
        """On: every register stays as it is now."""
        self._stuck = self.values() if on else None

    def values(self) -> Mapping[int, float]:
        """Every parameter by its address."""
        if self._stuck is not None:
            return self._stuck
        power_w, reactive_var = 1000.0 * self.power_kw, 1000.0 * self.reactive_kvar
        apparent_va = math.hypot(power_w, reactive_var)
        current_a = apparent_va / 3.0 / PHASE_V
        factor = power_w / apparent_va if apparent_va else 1.0
        angle_deg = math.degrees(math.atan2(reactive_var, power_w)) if apparent_va else 0.0
        line_v = PHASE_V * math.sqrt(3.0)
        phase = (
            *((0x0000, PHASE_V), (0x0006, current_a), (0x000C, power_w / 3.0)),
            *((0x0012, apparent_va / 3.0), (0x0018, reactive_var / 3.0), (0x001E, factor)),
            *((0x0024, angle_deg), (0x00C8, line_v)),
        )
        return {address + 2 * number: value for address, value in phase for number in PHASES} | {
            0x002A: PHASE_V,
            0x002E: current_a,
            0x0030: 3.0 * current_a,
            0x0034: power_w,
            0x0038: apparent_va,
            0x003C: reactive_var,
            0x003E: factor,
            0x0042: angle_deg,
            0x0046: self._frequency_hz(),
            0x0048: self.import_kwh,
            0x004A: self.export_kwh,
            0x004C: self.import_kvarh,
            0x004E: self.export_kvarh,
            0x00CE: line_v,
            0x0156: self.import_kwh + self.export_kwh,
            0x0158: self.import_kvarh + self.export_kvarh,
        }

    # what the wire sees
    def read_registers(self, function: int, address: int, count: int) -> Sequence[int]:
        """Function 4. Raises RefusedError."""
        if function != READ_INPUT:
            raise RefusedError(ILLEGAL_FUNCTION)
        if count % 2 or count > MOST_REGISTERS:
            raise RefusedError(ILLEGAL_VALUE)
        if address % 2 or address + count - 1 > LAST:
            raise RefusedError(ILLEGAL_ADDRESS)
        values = self.values()
        floats = [values.get(at, 0.0) for at in range(address, address + count, 2)]
        return struct.unpack(f">{count}H", struct.pack(f">{len(floats)}f", *floats))

    def write_registers(self, _address: int, _words: Sequence[int]) -> None:
        """Nothing can be written. Raises RefusedError."""
        raise RefusedError(ILLEGAL_FUNCTION)

    def state(self) -> dict[str, Any]:
        """What it measures, in plain values: power positive = import."""
        values = self.values()
        return {
            "power_w": values[0x0034],
            "reactive_var": values[0x003C],
            "frequency_hz": values[0x0046],
            "import_kwh": values[0x0048],
            "export_kwh": values[0x004A],
            "load_kw": self.load_kw,
            "generation_kw": self.generation_kw,
        }
