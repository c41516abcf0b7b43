"""The words every layer speaks.

Sign: kW, kvar and A are positive out of the unit towards the grid (discharge, export).
Time: `*_s` is monotonic seconds of the site clock; wall time is an aware UTC `datetime`.
Unit: the last word of a name is its unit: `power_kw`, `soc_pct`, `frequency_hz`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import NamedTuple, NewType

from vppd.core.alarms import Code

UnitId = NewType("UnitId", str)
SITE = UnitId("site")
SEEN_KW = 0.05  # power is shown with one decimal
METER = UnitId("meter")  # the site meter at the point of connection; + is export


class Point(StrEnum):
    """What can be known of a unit. The name ends in its unit; words of bits end in `_bits`."""

    __hash__ = str.__hash__  # Enum's own is slow, and points are looked up a thousand times a tick

    SOC_PCT = "soc_pct"
    SOH_PCT = "soh_pct"
    VOLTAGE_V = "voltage_v"  # DC, of one module
    CURRENT_A = "current_a"  # DC, of one module unless the profile says dc_total
    TEMPERATURE_C = "temperature_c"
    POWER_KW = "power_kw"
    REACTIVE_KVAR = "reactive_kvar"
    FREQUENCY_HZ = "frequency_hz"
    STATUS_BITS = "status_bits"
    ALARM_BITS = "alarm_bits"
    FAULT_BITS = "fault_bits"
    ENERGY_CAPACITY_KWH = "energy_capacity_kwh"
    RATED_POWER_KW = "rated_power_kw"
    CYCLES = "cycles"
    # what the device says its setpoints and settings are: the read-back
    SETPOINT_KW = "setpoint_kw"
    SETPOINT_KVAR = "setpoint_kvar"
    MODE = "mode"
    ENABLED = "enabled"
    REACTIVE_ENABLED = "reactive_enabled"
    COMMAND_TIMEOUT_S = "command_timeout_s"
    HEARTBEAT = "heartbeat"
    # what a BMS measures; the rules take these when a configured source declares them
    CELL_MIN_V = "cell_min_v"
    CELL_MAX_V = "cell_max_v"
    CELL_MIN_C = "cell_min_c"
    CELL_MAX_C = "cell_max_c"
    PACK_V = "pack_v"
    PACK_A = "pack_a"
    BMS_SOC_PCT = "bms_soc_pct"
    BMS_SOH_PCT = "bms_soh_pct"
    BMS_FAULT_BITS = "bms_fault_bits"
    BMS_WARNING_BITS = "bms_warning_bits"
    BMS_CHARGE_MAX_A = "bms_charge_max_a"
    BMS_DISCHARGE_MAX_A = "bms_discharge_max_a"
    BMS_CHARGE_ALLOWED = "bms_charge_allowed"  # 1 the BMS lets charge flow, 0 not
    BMS_DISCHARGE_ALLOWED = "bms_discharge_allowed"
    BMS_FORCE_CHARGE = "bms_force_charge"  # 1 the BMS asks to be charged
    BMS_CHARGE_MAX_V = "bms_charge_max_v"
    BMS_DISCHARGE_MIN_V = "bms_discharge_min_v"
    BMS_CYCLES = "bms_cycles"
    BALANCING = "balancing"
    # what an inverter beside the battery's own controller measures and allows; where the inverter
    # is the unit's only Modbus device it publishes the plain points above instead
    INVERTER_KW = "inverter_kw"
    INVERTER_KVAR = "inverter_kvar"
    INVERTER_KVA = "inverter_kva"
    INVERTER_POWER_FACTOR = "inverter_power_factor"
    INVERTER_HZ = "inverter_hz"
    INVERTER_C = "inverter_c"
    INVERTER_DC_KW = "inverter_dc_kw"
    INVERTER_DC_V = "inverter_dc_v"
    INVERTER_DC_A = "inverter_dc_a"
    INVERTER_EFFICIENCY_PCT = "inverter_efficiency_pct"
    INVERTER_STATE = "inverter_state"  # of SunSpec model 103 St: 1 off to 8 standby
    INVERTER_SOC_PCT = "inverter_soc_pct"
    INVERTER_FAULT_BITS = "inverter_fault_bits"
    INVERTER_ALARM_BITS = "inverter_alarm_bits"
    INVERTER_HEARTBEAT = "inverter_heartbeat"  # counted up by the device itself
    # what the device that takes the setpoints says it can do, both as positive numbers
    DISCHARGE_MAX_KW = "discharge_max_kw"
    CHARGE_MAX_KW = "charge_max_kw"
    APPARENT_MAX_KVA = "apparent_max_kva"
    # what a meter measures besides power: energy counts up
    ENERGY_EXPORT_KWH = "energy_export_kwh"
    ENERGY_IMPORT_KWH = "energy_import_kwh"
    POWER_FACTOR = "power_factor"
    # of a site that is a unit of an aggregator: 1 yes, 0 no; and its energy within its own limits
    SITE_ONLINE = "site_online"
    SITE_OURS = "site_ours"  # whether this aggregator commands it
    AVAILABLE_DISCHARGE_KWH = "available_discharge_kwh"
    AVAILABLE_CHARGE_KWH = "available_charge_kwh"
    # of the site, or of one hardware interlock input (1 healthy, 0 not)
    LOAD_KW = "load_kw"  # other load behind the connection; consumption is positive here
    LOAD_LOW_KW = "load_low_kw"  # the least that it may be, for what limits export
    LOAD_HIGH_KW = "load_high_kw"  # the most, for what limits import
    HEALTHY = "healthy"


class Quality(StrEnum):
    """How far a value may be believed. Only GOOD is a value; the rest are reasons for none."""

    GOOD = "good"
    MISSING = "missing"  # never seen, or the device says not available
    STALE = "stale"  # older than the point's own limit
    FROZEN = "frozen"  # unchanged while related values moved
    IMPLAUSIBLE = "implausible"  # outside the range the profile declares
    DEAD_BUS = "dead_bus"  # measured where there is no voltage


_GOOD = Quality.GOOD  # looked at thousands of times a tick; a member of an enum is slow to find


@dataclass(frozen=True, slots=True)
class Reading:
    """One value of one point, how good it is, and until what age it may be believed."""

    unit: UnitId
    point: Point
    value: float
    at_s: float
    max_age_s: float
    quality: Quality = Quality.GOOD


@dataclass(frozen=True, slots=True)
class Cells:
    """Every cell of one unit's BMS as last heard: for people, not for rules, which take the lowest
    and the highest. None: not heard of late. Cells and sensors count from the first."""

    unit: UnitId
    at_s: float
    cells_v: tuple[float | None, ...] = ()
    sensors_c: tuple[float | None, ...] = ()
    balancing: tuple[bool, ...] = ()  # of each cell, where the BMS tells


@dataclass(frozen=True, slots=True)
class Phasor:
    """One synchrophasor: RMS magnitude in `unit` (V or A), angle in degrees."""

    name: str
    magnitude: float
    angle_deg: float
    unit: str


@dataclass(frozen=True, slots=True)
class Synchro:
    """What one frequency source said last.

    `at_s` is when it arrived, `delay_s` how much later than the fastest frame of late, so that
    `age = now - at_s + delay_s` needs no common clock. `utc` is the source's own time stamp.
    """

    source: UnitId
    frequency_hz: float
    at_s: float
    max_age_s: float
    quality: Quality = Quality.GOOD
    quality_text: str = ""
    rocof_hz_per_s: float | None = None
    delay_s: float = 0.0
    utc: datetime | None = None
    time_quality_s: float | None = None  # stated worst time error; None: not stated or no lock
    stat_bits: int = 0
    phasors: tuple[Phasor, ...] = ()

    def age_s(self, now_s: float) -> float:
        """Seconds since the measurement, as far as arrival times can tell."""
        return now_s - self.at_s + self.delay_s


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that is known at one instant. It does not change while a decision is made on it."""

    now_s: float
    utc: datetime
    readings: Mapping[tuple[UnitId, Point], Reading]
    synchros: Mapping[UnitId, Synchro] = field(default_factory=dict)
    cells: Mapping[UnitId, Cells] = field(default_factory=dict)

    def fresh(self, unit: UnitId, point: Point) -> float | None:
        """The value if it may be believed now, else None: the caller must say what then."""
        reading = self.readings.get((unit, point))
        if (
            reading is None
            or reading.quality is not _GOOD
            or not 0.0 <= self.now_s - reading.at_s <= reading.max_age_s
            or not math.isfinite(reading.value)
        ):
            return None
        return reading.value

    def quality(self, unit: UnitId, point: Point) -> Quality:
        """Why `fresh` gives a value, or why it does not."""
        reading = self.readings.get((unit, point))
        if reading is None:
            return Quality.MISSING
        if reading.quality is not Quality.GOOD:
            return reading.quality
        if not 0.0 <= self.now_s - reading.at_s <= reading.max_age_s:
            return Quality.STALE
        return Quality.GOOD if math.isfinite(reading.value) else Quality.IMPLAUSIBLE


class Priority(IntEnum):
    """Who outranks whom for the base point; at equal priority the newest plan wins."""

    IDLE = 0
    SCHEDULE = 10
    ORDER = 20
    OPERATOR = 30


@dataclass(frozen=True, slots=True)
class Plan:
    """What a slower party asks for, until it expires. A dead source fades out by itself.

    For `SITE` it is the site's base point; for a unit it pins that unit's share. A pinned unit
    takes no droop unless `droop` says so. `adds` makes it a delta on top (regulation orders).
    Raises ValueError when its power or its times are not numbers.
    """

    unit: UnitId
    power_kw: float
    valid_until_s: float
    source: str
    priority: Priority
    issued_s: float
    reactive_kvar: float = 0.0
    strategy: str | None = None
    droop: bool = False
    adds: bool = False
    id: str = ""

    def __post_init__(self) -> None:
        times_known = self.valid_until_s == self.valid_until_s and self.issued_s == self.issued_s
        if not (math.isfinite(self.power_kw) and math.isfinite(self.reactive_kvar) and times_known):
            raise ValueError(f"not a plan: {self.power_kw} kW until {self.valid_until_s}")


@dataclass(frozen=True, slots=True)
class Limit:
    """A range of kW and a circle of kVA that always contain 0, and who says so.

    Raises ValueError when 0 is outside or a bound is not a number.
    """

    low_kw: float
    high_kw: float
    why: Code
    detail: str = ""
    apparent_kva: float = math.inf

    def __post_init__(self) -> None:
        if not (self.low_kw <= 0.0 <= self.high_kw and self.apparent_kva >= 0.0):
            raise ValueError(f"a limit must contain 0: {self.why} {self.low_kw}..{self.high_kw}")


class Request(NamedTuple):
    """What the tick wants of a unit now. The parts are ramped by different rules at the gate.
    `held_by` are limits on several units that the share kept to already, for the gate to name."""

    unit: UnitId
    base_kw: float
    frequency_kw: float
    reactive_kvar: float = 0.0
    held_by: tuple[Limit, ...] = ()


@dataclass(frozen=True, slots=True)
class Clamp:
    """One cut: power before and after, who cut, and the words for a person."""

    why: Code
    before_kw: float
    after_kw: float
    detail: str = ""

    @property
    def counts(self) -> bool:
        """Whether it is told: not where it cut less than is seen. One that cuts nothing at all
        names who bounds."""
        cut_kw = abs(self.before_kw - self.after_kw)
        return not 0.0 < cut_kw < SEEN_KW  # what was asked and is no number is told too


@dataclass(frozen=True, slots=True)
class Cleared:
    """A setpoint that went through the gate; only field/gate.py makes one.

    The device may hold it until `valid_until_s`; the writer sends nothing older than that.
    """

    unit: UnitId
    power_kw: float
    reactive_kvar: float
    asked_kw: float
    asked_kvar: float
    clamps: tuple[Clamp, ...]
    at_s: float
    valid_until_s: float

    @property
    def bound_by(self) -> tuple[Code, ...]:
        """The codes of all that cut, in order, each once."""
        return tuple(dict.fromkeys(clamp.why for clamp in self.clamps))


class UnitState(StrEnum):
    """What an operator sees of a unit."""

    STARTING = "starting"  # the points its rules need have not all been read good yet
    READY = "ready"  # commandable, asked for nothing
    RUNNING = "running"
    LIMITED = "limited"  # gives less than asked
    STOPPED = "stopped"  # a limit leaves nothing in the direction asked, or in either
    TRIPPED = "tripped"  # latched until an operator resets
    LOST = "lost"  # no answer
    DISABLED = "disabled"  # by an operator


class Outcome(StrEnum):
    """What became of a setpoint at the device."""

    WRITTEN = "written"  # the device answered the write
    HELD = "held"  # unchanged and not due; the last answered write still stands
    REFUSED = "refused"  # the device answered with an exception, or the profile may not write
    LOST = "lost"  # no answer: what the device holds is unknown
    WAITING = "waiting"  # nothing is sent yet: how to write to the device is being found out


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What a writer reports to the gate after each attempt."""

    unit: UnitId
    outcome: Outcome
    power_kw: float | None  # as rounded to the device's resolution; when lost, what was sent;
    # None when it was refused or nothing was sent
    reactive_kvar: float | None
    at_s: float
    text: str = ""
    cleared_at_s: float = 0.0  # `at_s` of the Cleared it is about


class ReadBack(StrEnum):
    """What a read-back says of the last answered write."""

    SAME = "same"
    REVERTED = "reverted"  # the device fell back to its own default
    CHANGED = "changed"  # another controller wrote something else


@dataclass(frozen=True, slots=True)
class ReadBackResult:
    """What one fast poll showed of the setpoint, after the last answered write."""

    unit: UnitId
    verdict: ReadBack
    expected_kw: float
    seen_kw: float
    at_s: float
    text: str = ""
    expected_kvar: float | None = None  # None: the device takes or shows no reactive setpoint
    seen_kvar: float | None = None


@dataclass(frozen=True, slots=True)
class LinkChange:
    """A device began or ceased to answer; told once each."""

    unit: UnitId
    up: bool
    at_s: float
    text: str = ""


@dataclass(frozen=True, slots=True)
class DeviceNotice:
    """Anything else a driver saw that a person should know: revert timer found unset, device
    restarted, hole learned. `active` False ends the alarm of that code."""

    unit: UnitId
    code: Code
    active: bool
    at_s: float
    text: str = ""


DeviceReport = WriteResult | ReadBackResult | LinkChange | DeviceNotice
