"""The one registry of reason codes: what binds a unit, what alarms, what trips.

A code is stable: operators search for it, dashboards count it. `bound_by`, alarms, violations and
journal rows carry these words and no others.
"""

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Level(IntEnum):
    """How bad it is."""

    NORMAL = 0
    INFO = 1
    WARNING = 2
    CRITICAL = 3
    EMERGENCY = 4


class Action(IntEnum):
    """What is done about it; the further down wins."""

    NONE = 0
    LOG = 1
    REDUCE = 2
    STOP = 3
    SHUTDOWN = 4


class Code(StrEnum):
    """Why. The value is what users see."""

    # limits of the gate
    RATING = "rating"
    APPARENT_POWER = "apparent_power"
    STARTING = "starting"
    DISABLED = "disabled"
    SHUT = "shut"
    TRIPPED = "tripped"
    EMERGENCY_STOP = "emergency_stop"
    DEAD_MAN = "dead_man"
    RAMP = "ramp"
    DEVICE_RAMP = "device_ramp"
    CONNECTION = "connection"
    NOT_FINITE = "not_finite"
    READ_ONLY = "read_only"
    # interlocks
    SOC_LOW = "soc_low"
    SOC_HIGH = "soc_high"
    SOC_RATE = "soc_rate"
    CELL_UNDER_VOLTAGE = "cell_under_voltage"
    CELL_OVER_VOLTAGE = "cell_over_voltage"
    PACK_UNDER_VOLTAGE = "pack_under_voltage"
    PACK_OVER_VOLTAGE = "pack_over_voltage"
    OVER_CURRENT = "over_current"
    TEMPERATURE_HIGH = "temperature_high"
    TEMPERATURE_LOW = "temperature_low"
    CHARGE_COLD = "charge_cold"
    OVER_TEMPERATURE = "over_temperature"
    THERMAL_RUNAWAY = "thermal_runaway"
    CELL_SPREAD = "cell_spread"
    POWER_RAMP = "power_ramp"
    SOH_LOW = "soh_low"
    DEVICE_FAULT = "device_fault"
    DEVICE_ALARM = "device_alarm"
    BMS_FAULT = "bms_fault"
    BMS_LIMIT = "bms_limit"
    BMS_DISAGREES = "bms_disagrees"
    INTERLOCK_INPUT = "interlock_input"
    INTERLOCK_SILENT = "interlock_silent"
    READING_MISSING = "reading_missing"
    READING_STALE = "reading_stale"
    READING_FROZEN = "reading_frozen"
    READING_IMPLAUSIBLE = "reading_implausible"
    RULE_ERROR = "rule_error"
    # the device and its link
    LINK_LOST = "link_lost"
    RETURNING = "returning"
    WRITE_FAILED = "write_failed"
    WRITE_REFUSED = "write_refused"
    READ_BACK_REVERTED = "read_back_reverted"
    READ_BACK_CHANGED = "read_back_changed"
    RIVAL = "rival"
    NO_REVERT = "no_revert"
    REVERT_NOT_SET = "revert_not_set"
    DEVICE_RESET = "device_reset"
    DEVICE_DISABLED = "device_disabled"
    # campus and frequency
    SHARE = "share"
    ROOM = "room"
    DROOP_RAMP = "droop_ramp"
    DROOP_DEADBAND_HOLD = "droop_deadband_hold"
    DROOP_SATURATED = "droop_saturated"
    DROOP_SOC = "droop_soc"
    DROOP_TEMPERATURE = "droop_temperature"
    DROOP_LOAD = "droop_load"
    DROOP_OFF = "droop_off"
    FREQUENCY_LOST = "frequency_lost"
    FREQUENCY_CRITICAL_LOW = "frequency_critical_low"
    FREQUENCY_LOW = "frequency_low"
    FREQUENCY_HIGH = "frequency_high"
    FREQUENCY_CRITICAL_HIGH = "frequency_critical_high"
    FREQUENCY_IMPLAUSIBLE = "frequency_implausible"
    PMU_LOST = "pmu_lost"
    PMU_TIME = "pmu_time"
    # the daemon itself
    JOURNAL_FAILED = "journal_failed"
    JOURNAL_DROPPED = "journal_dropped"
    TRIP_STATE_UNREADABLE = "trip_state_unreadable"
    CLOCK_NOT_SYNCHRONISED = "clock_not_synchronised"
    CLOCK_JUMPED = "clock_jumped"
    SCHEDULE_FAILED = "schedule_failed"
    TASK_RESTARTED = "task_restarted"
    TICK_LATE = "tick_late"
    CONNECTION_CLIPPED = "connection_clipped"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a code says to a person and what to do about it."""

    level: Level
    text: str
    remedy: str = ""
