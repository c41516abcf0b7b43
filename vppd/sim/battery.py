"""A battery of 16-cell modules in parallel: charge, voltage, current and heat. Pure sums.

Sign: positive current and power discharge. Volts and amperes are of one module; kW and kWh are of
the whole battery. Energy is conserved exactly: what leaves the store is what the terminals give
plus heat.
"""

import math
import random
from bisect import bisect_right
from enum import StrEnum

CELLS = 16
SENSORS = 8


class Chemistry(StrEnum):
    """Which cells."""

    NMC = "nmc"
    LFP = "lfp"


# Open-circuit volts of one cell over SoC in percent; typical curves, 48.0 to 66.4 V a pack for NMC
# and 44.8 to 56.0 V for LFP.
OPEN_CIRCUIT_V: dict[Chemistry, tuple[tuple[float, float], ...]] = {
    Chemistry.NMC: (
        *((0.0, 3.00), (5.0, 3.30), (10.0, 3.45), (20.0, 3.55), (30.0, 3.61), (40.0, 3.66)),
        *((50.0, 3.72), (60.0, 3.80), (70.0, 3.89), (80.0, 3.97), (90.0, 4.05), (100.0, 4.15)),
    ),
    Chemistry.LFP: (
        *((0.0, 2.80), (5.0, 3.10), (10.0, 3.20), (20.0, 3.25), (50.0, 3.29), (80.0, 3.33)),
        *((90.0, 3.35), (95.0, 3.38), (100.0, 3.50)),
    ),
}

CHARGE_EFFICIENCY = 0.985  # of the cells, besides the resistance
DISCHARGE_EFFICIENCY = 0.985
SAG = 0.02  # of the voltage at rated power: sets the resistance
SPREAD_V = 0.004  # standard deviation between new cells
SENSOR_SPREAD_C = 0.3
KWH_PER_C_PER_KWH = 1.85e-3  # heat capacity: 150 Wh/kg, 1 kJ/kg/K
FULL_POWER_RISE_C = 15.0  # above ambient, after hours at rated power
FULL_POWER_LOSS = 0.035  # of rated power, what the cooling is built for


def open_circuit_v(chemistry: Chemistry, soc_pct: float) -> float:
    """Volts of one resting cell; held at the ends of the curve."""
    curve = OPEN_CIRCUIT_V[chemistry]
    upper = bisect_right(curve, (soc_pct, math.inf))
    if upper == 0:
        return curve[0][1]
    if upper == len(curve):
        return curve[-1][1]
    (low_pct, low_v), (high_pct, high_v) = curve[upper - 1], curve[upper]
    return low_v + (high_v - low_v) * (soc_pct - low_pct) / (high_pct - low_pct)


class Battery:
    """The store behind one inverter.

    `excess_c`, `cell_drift_v`, `forced_pack_v` and `surge_a` are where faults act.
    """

    def __init__(
        self,
        rated_power_kw: float,
        energy_kwh: float,
        modules_parallel: int,
        *,
        seed: int = 0,
        chemistry: Chemistry = Chemistry.NMC,
        soc_pct: float = 50.0,
        ambient_c: float = 25.0,
    ) -> None:
        draw = random.Random(seed)  # noqa: S311  (a simulation, not a secret)
        self.energy_kwh, self.modules_parallel = energy_kwh, modules_parallel
        self.chemistry, self.ambient_c = chemistry, ambient_c
        self.stored_kwh = energy_kwh * soc_pct / 100.0
        self.soh_pct, self.cycles_before = 98.0, 120
        self.temperature_c = ambient_c
        self.heat_kwh = self.throughput_kwh = 0.0
        self.dc_kw = 0.0  # what the terminals carry now
        nominal_v = CELLS * open_circuit_v(chemistry, 50.0)
        module_w = 1000.0 * rated_power_kw / modules_parallel
        self._resistance_ohm = SAG * nominal_v * nominal_v / module_w
        self._kwh_per_c = KWH_PER_C_PER_KWH * energy_kwh
        self._cooling_kw_per_c = FULL_POWER_LOSS * rated_power_kw / FULL_POWER_RISE_C
        self._cell_offset_v = _centred([draw.gauss(0.0, SPREAD_V) for _ in range(CELLS)])
        self._sensor_offset_c = _centred([draw.gauss(0.0, SENSOR_SPREAD_C) for _ in range(SENSORS)])
        self.cell_drift_v = [0.0] * CELLS
        self.excess_c = 0.0  # what a fault adds to the cells' temperature
        self.excess_target_c, self.excess_rate_c_per_s = 0.0, 1.0
        self.forced_pack_v: float | None = None
        self.surge_a: float | None = None

    @property
    def soc_pct(self) -> float:
        """Energy left, percent; a hair beyond 0 or 100 is possible."""
        return 100.0 * self.stored_kwh / self.energy_kwh

    @soc_pct.setter
    def soc_pct(self, soc_pct: float) -> None:
        self.stored_kwh = self.energy_kwh * soc_pct / 100.0

    @property
    def cycles(self) -> int:
        """Full equivalent cycles."""
        return self.cycles_before + int(self.throughput_kwh / (2.0 * self.energy_kwh))

    @property
    def rest_v(self) -> float:
        """Open-circuit volts of the module."""
        return CELLS * open_circuit_v(self.chemistry, self.soc_pct) + sum(self.cell_drift_v)

    def advance(self, dc_kw: float, duration_s: float) -> None:
        """Give (positive) or take this DC power for so long."""
        if dc_kw == 0.0:
            self._warm(0.0, duration_s)
            return
        rest_v = self.rest_v
        cells_kw = rest_v * self._current_a(dc_kw, rest_v) * self.modules_parallel / 1000.0
        if cells_kw > 0.0:
            drain_kw = cells_kw / DISCHARGE_EFFICIENCY
        else:
            drain_kw = cells_kw * CHARGE_EFFICIENCY
        hours = duration_s / 3600.0
        self.stored_kwh -= drain_kw * hours
        self.throughput_kwh += abs(dc_kw) * hours
        self._warm(drain_kw - dc_kw, duration_s)

    @property
    def current_a(self) -> float:
        """Module current now."""
        return self._current_a(self.dc_kw, self.rest_v)

    def _current_a(self, dc_kw: float, rest_v: float) -> float:
        """The module current I that gives P = (V0 - I R) I; the most it can give beyond that."""
        module_w = 1000.0 * dc_kw / self.modules_parallel
        root = rest_v * rest_v - 4.0 * self._resistance_ohm * module_w
        return (rest_v - math.sqrt(max(root, 0.0))) / (2.0 * self._resistance_ohm)

    def _warm(self, heat_kw: float, duration_s: float) -> None:
        """One thermal mass, cooled towards ambient: exact for constant heat."""
        self.heat_kwh += heat_kw * duration_s / 3600.0
        settles_c = self.ambient_c + heat_kw / self._cooling_kw_per_c
        tau_s = 3600.0 * self._kwh_per_c / self._cooling_kw_per_c
        decay = math.exp(-duration_s / tau_s)
        self.temperature_c = settles_c + (self.temperature_c - settles_c) * decay
        step_c = self.excess_rate_c_per_s * duration_s
        gap_c = self.excess_target_c - self.excess_c
        self.excess_c += min(max(gap_c, -step_c), step_c)

    @property
    def voltage_v(self) -> float:
        """Terminal volts of one module."""
        return sum(self.cells_v())

    @property
    def measured_a(self) -> float:
        """Module current as the device measures it."""
        return self.current_a if self.surge_a is None else self.surge_a

    def cells_v(self) -> list[float]:
        """Volts of the 16 cells of one module."""
        sag_v = self.current_a * self._resistance_ohm / CELLS
        base_v = open_circuit_v(self.chemistry, self.soc_pct) - sag_v
        if self.forced_pack_v is not None:
            base_v = (self.forced_pack_v - sum(self.cell_drift_v)) / CELLS
        return [
            base_v + offset_v + drift_v
            for offset_v, drift_v in zip(self._cell_offset_v, self.cell_drift_v, strict=True)
        ]

    def sensors_c(self) -> list[float]:
        """The 8 temperature sensors; sensor k lies between cells 2k-1 and 2k."""
        return [self.temperature_c + self.excess_c + offset_c for offset_c in self._sensor_offset_c]

    @property
    def hottest_c(self) -> float:
        """What the device reports as its temperature."""
        return max(self.sensors_c())


def _centred(values: list[float]) -> list[float]:
    mean = sum(values) / len(values)
    return [value - mean for value in values]
