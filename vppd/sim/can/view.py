"""What a BMS makes of its battery: measured values, limits, faults and warnings. Pure.

Current is of one module and as the BMS counts it: **positive = charging**. The limits of its cells
are those of the module's data sheet: 2.8 to 4.2 V, 100 A, -10 to 55 C, no charge below 0 C.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from vppd.sim.battery import Battery

MODULE_MAX_A = 100.0
BALANCED_SPREAD_V = 0.050
OVER_VOLTAGE, UNDER_VOLTAGE, OVER_CURRENT, OVER_TEMPERATURE, SHORT_CIRCUIT = (
    1 << bit for bit in range(5)
)
HIGH_VOLTAGE, LOW_VOLTAGE, HIGH_CURRENT, HIGH_TEMPERATURE, IMBALANCE = (
    1 << bit for bit in range(5)
)

# A fault opens the contactors, so it lies beyond the limits that stop a direction.
FAULT_HIGH_V, FAULT_LOW_V, FAULT_A, SHORT_A, FAULT_C = 4.25, 2.70, 150.0, 300.0, 60.0
WARN_HIGH_V, WARN_LOW_V, WARN_A, WARN_C, WARN_SPREAD_V = 4.18, 2.90, 100.0, 50.0, 0.100

FULL_PCT, NEARLY_FULL_PCT, EMPTY_PCT, NEARLY_EMPTY_PCT = 100.0, 97.0, 0.0, 3.0
FULL_CELL_V, NEARLY_FULL_CELL_V, EMPTY_CELL_V, NEARLY_EMPTY_CELL_V = 4.20, 4.17, 2.80, 2.90
COLDEST_C, COLD_C, NO_CHARGE_C, COOL_C, WARM_C, HOTTEST_C = -10.0, -5.0, 0.0, 5.0, 45.0, 55.0


@dataclass(slots=True)
class BmsFaults:
    """How a BMS misbehaves or what it is made to see; the default is well."""

    is_silent: bool = False
    is_frozen: bool = False
    cells_v: dict[int, float] = field(default_factory=dict)  # by index
    sensors_c: dict[int, float] = field(default_factory=dict)
    fault_bits: int = 0
    warning_bits: int = 0
    soc_pct: float | None = None
    charge_max_a: float | None = None
    discharge_max_a: float | None = None
    missing_bytes: int = 0
    garbage_per_s: float = 0.0
    forbids_charge: bool = False
    forbids_discharge: bool = False
    forces_charge: bool = False


@dataclass(frozen=True, slots=True)
class BmsView:
    """One look. Amperes of one module, positive = charging; limits are magnitudes."""

    cells_v: Sequence[float]
    sensors_c: Sequence[float]
    pack_v: float
    current_a: float
    soc_pct: float
    soh_pct: float
    cycles: int
    charge_max_a: float
    discharge_max_a: float
    fault_bits: int
    warning_bits: int
    modules_parallel: int
    may_charge: bool
    may_discharge: bool
    wants_charge: bool

    @property
    def spread_v(self) -> float:
        """Between the highest and the lowest cell."""
        return max(self.cells_v) - min(self.cells_v)

    @property
    def is_balancing(self) -> bool:
        """From a spread of 50 mV on."""
        return self.spread_v >= BALANCED_SPREAD_V


def share(value: float, low: float, high: float) -> float:
    """0 at `low`, 1 at `high`, straight between them, whichever is the greater number."""
    return min(max((value - low) / (high - low), 0.0), 1.0)


def look(battery: Battery, faults: BmsFaults) -> BmsView:
    """What the BMS sees and allows now."""
    cells_v = [faults.cells_v.get(at, volts) for at, volts in enumerate(battery.cells_v())]
    sensors_c = [faults.sensors_c.get(at, each) for at, each in enumerate(battery.sensors_c())]
    soc_pct = battery.soc_pct if faults.soc_pct is None else faults.soc_pct
    current_a = -battery.measured_a
    fault_bits = _fault_bits(cells_v, current_a, sensors_c) | faults.fault_bits
    warning_bits = _warning_bits(cells_v, current_a, sensors_c) | faults.warning_bits
    charge_max_a = faults.charge_max_a
    if charge_max_a is None:
        charge_max_a = 0.0 if fault_bits else _charge_max_a(soc_pct, cells_v, sensors_c)
    discharge_max_a = faults.discharge_max_a
    if discharge_max_a is None:
        discharge_max_a = 0.0 if fault_bits else _discharge_max_a(soc_pct, cells_v, sensors_c)
    return BmsView(
        cells_v=cells_v,
        sensors_c=sensors_c,
        pack_v=battery.voltage_v,
        current_a=current_a,
        soc_pct=min(max(soc_pct, EMPTY_PCT), FULL_PCT),
        soh_pct=battery.soh_pct,
        cycles=battery.cycles,
        charge_max_a=charge_max_a,
        discharge_max_a=discharge_max_a,
        fault_bits=fault_bits,
        warning_bits=warning_bits,
        modules_parallel=battery.modules_parallel,
        may_charge=charge_max_a > 0.0 and not faults.forbids_charge,
        may_discharge=discharge_max_a > 0.0 and not faults.forbids_discharge,
        wants_charge=faults.forces_charge,
    )


def _charge_max_a(soc_pct: float, cells_v: Sequence[float], sensors_c: Sequence[float]) -> float:
    return MODULE_MAX_A * min(
        share(soc_pct, FULL_PCT, NEARLY_FULL_PCT),
        share(max(cells_v), FULL_CELL_V, NEARLY_FULL_CELL_V),
        share(min(sensors_c), NO_CHARGE_C, COOL_C),
        share(max(sensors_c), HOTTEST_C, WARM_C),
    )


def _discharge_max_a(soc_pct: float, cells_v: Sequence[float], sensors_c: Sequence[float]) -> float:
    return MODULE_MAX_A * min(
        share(soc_pct, EMPTY_PCT, NEARLY_EMPTY_PCT),
        share(min(cells_v), EMPTY_CELL_V, NEARLY_EMPTY_CELL_V),
        share(min(sensors_c), COLDEST_C, COLD_C),
        share(max(sensors_c), HOTTEST_C, WARM_C),
    )


def _bits(*flags: tuple[int, bool]) -> int:
    return sum(bit for bit, is_set in flags if is_set)


def _fault_bits(cells_v: Sequence[float], current_a: float, sensors_c: Sequence[float]) -> int:
    return _bits(
        (OVER_VOLTAGE, max(cells_v) >= FAULT_HIGH_V),
        (UNDER_VOLTAGE, min(cells_v) <= FAULT_LOW_V),
        (OVER_CURRENT, abs(current_a) >= FAULT_A),
        (OVER_TEMPERATURE, max(sensors_c) >= FAULT_C),
        (SHORT_CIRCUIT, abs(current_a) >= SHORT_A),
    )


def _warning_bits(cells_v: Sequence[float], current_a: float, sensors_c: Sequence[float]) -> int:
    return _bits(
        (HIGH_VOLTAGE, max(cells_v) >= WARN_HIGH_V),
        (LOW_VOLTAGE, min(cells_v) <= WARN_LOW_V),
        (HIGH_CURRENT, abs(current_a) > WARN_A),
        (HIGH_TEMPERATURE, max(sensors_c) >= WARN_C),
        (IMBALANCE, max(cells_v) - min(cells_v) >= WARN_SPREAD_V),
    )
