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

    __hash__ = str.__hash__  # Enum's own is slow, and rules look their notes up by it

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
    BMS_FORBIDS = "bms_forbids"
    BMS_WARNING = "bms_warning"
    BMS_FORCE_CHARGE = "bms_force_charge"
    INVERTER_FAULT = "inverter_fault"
    INVERTER_ALARM = "inverter_alarm"
    DEVICE_LIMIT = "device_limit"
    POWER_DISAGREES = "power_disagrees"
    NOT_FOLLOWING = "not_following"
    WRONG_WAY = "wrong_way"
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
    RELEASED = "released"
    WRITE_BUDGET = "write_budget"
    CAN_LOST = "can_lost"
    BUS_OFF = "bus_off"
    METER_SILENT = "meter_silent"
    DEVICE_DISABLED = "device_disabled"
    NOT_OURS = "not_ours"
    DELIVERED = "delivered"
    RELOADING = "reloading"
    LEFT_BEHIND = "left_behind"
    # campus and frequency
    SHARE = "share"
    ROOM = "room"
    DROOP_RAMP = "droop_ramp"
    DROOP_DEADBAND_HOLD = "droop_deadband_hold"
    DROOP_SATURATED = "droop_saturated"
    DROOP_DAMPING = "droop_damping"
    DROOP_SOC = "droop_soc"
    DROOP_TEMPERATURE = "droop_temperature"
    DROOP_LOAD = "droop_load"
    DROOP_OFF = "droop_off"
    DROOP_HANDBACK = "droop_handback"
    FFR = "ffr"
    HEADROOM = "headroom"
    HEADROOM_SHORT = "headroom_short"
    RIDE_THROUGH = "ride_through"
    VOLTAGE_LOST = "voltage_lost"
    FREQUENCY_LOST = "frequency_lost"
    FREQUENCY_CRITICAL_LOW = "frequency_critical_low"
    FREQUENCY_LOW = "frequency_low"
    FREQUENCY_HIGH = "frequency_high"
    FREQUENCY_CRITICAL_HIGH = "frequency_critical_high"
    FREQUENCY_IMPLAUSIBLE = "frequency_implausible"
    FREQUENCY_SOURCE = "frequency_source"
    FREQUENCY_DISAGREES = "frequency_disagrees"
    FREQUENCY_JUMP = "frequency_jump"
    DEAD_BUS = "dead_bus"
    FREQUENCY_EVENT_BEGUN = "frequency_event_begun"
    FREQUENCY_EVENT = "frequency_event"
    PMU_LOST = "pmu_lost"
    PMU_TIME = "pmu_time"
    PMU_FROZEN = "pmu_frozen"
    PMU_FLOOD = "pmu_flood"
    RESERVE = "reserve"
    AUXILIARY = "auxiliary"
    RESERVE_LOW = "reserve_low"
    IMBALANCE = "imbalance"
    N_MINUS_ONE = "n_minus_one"
    NODE_REGISTERED = "node_registered"
    NODE_MISMATCH = "node_mismatch"
    NODE_ANNOUNCED = "node_announced"
    NODE_FORGOTTEN = "node_forgotten"
    # the daemon itself
    JOURNAL_FAILED = "journal_failed"
    JOURNAL_DROPPED = "journal_dropped"
    AUDIT_BROKEN = "audit_broken"
    RECORDER_FAILED = "recorder_failed"
    TRIP_STATE_UNREADABLE = "trip_state_unreadable"
    CLOCK_NOT_SYNCHRONISED = "clock_not_synchronised"
    CLOCK_JUMPED = "clock_jumped"
    SCHEDULE_FAILED = "schedule_failed"
    ORDER = "order"
    MARKET_SUBMISSION = "market_submission"
    MARKET_RESULT = "market_result"
    MARKET_PORTFOLIO = "market_portfolio"
    MARKET_FORECAST = "market_forecast"
    MARKET_SHORTFALL = "market_shortfall"
    MARKET_ACCOUNT = "market_account"
    TASK_RESTARTED = "task_restarted"
    BYSTANDER_FAILED = "bystander_failed"
    TICK_LATE = "tick_late"
    CONNECTION_CLIPPED = "connection_clipped"
    STOPPING = "stopping"
    MQTT_LOST = "mqtt_lost"
    TELEMETRY_GAP = "telemetry_gap"
    COMMISSIONED = "commissioned"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a code says to a person and what to do about it."""

    level: Level
    text: str
    remedy: str = ""


_W, _C, _E, _I = Level.WARNING, Level.CRITICAL, Level.EMERGENCY, Level.INFO

MEANINGS: dict[Code, Meaning] = {
    Code.RATING: Meaning(_I, "the unit's rated power"),
    Code.APPARENT_POWER: Meaning(_I, "the unit's apparent-power circle"),
    Code.STARTING: Meaning(_I, "not every point its rules need has been read good yet"),
    Code.DISABLED: Meaning(_I, "disabled by an operator", "vppctl enable UNIT"),
    Code.SHUT: Meaning(_W, "the gate is shut"),
    Code.TRIPPED: Meaning(_E, "tripped and latched", "mend the cause, then vppctl reset UNIT"),
    Code.EMERGENCY_STOP: Meaning(_E, "emergency stop pressed", "vppctl reset UNIT"),
    Code.DEAD_MAN: Meaning(_C, "the tick stopped asking"),
    Code.RAMP: Meaning(_I, "base power moves no faster than safety.ramp_max_kw_per_s"),
    Code.DEVICE_RAMP: Meaning(_I, "the device moves no faster than safety.device_ramp_kw_per_s"),
    Code.CONNECTION: Meaning(_I, "the connection limit of the site or a feeder"),
    Code.NOT_FINITE: Meaning(_C, "what was asked is not a number"),
    Code.READ_ONLY: Meaning(_I, "the device's profile is read_only"),
    Code.SOC_LOW: Meaning(_W, "state of charge at its lower limit: discharge fades or stops"),
    Code.SOC_HIGH: Meaning(_W, "state of charge at its upper limit: charge fades or stops"),
    Code.SOC_RATE: Meaning(_W, "state of charge moves too fast: half power"),
    Code.CELL_UNDER_VOLTAGE: Meaning(_C, "a cell is too low: no discharge"),
    Code.CELL_OVER_VOLTAGE: Meaning(_C, "a cell is too high: no charge"),
    Code.PACK_UNDER_VOLTAGE: Meaning(_C, "pack voltage too low: no discharge"),
    Code.PACK_OVER_VOLTAGE: Meaning(_C, "pack voltage too high: no charge"),
    Code.OVER_CURRENT: Meaning(_C, "module current over its limit: power scaled down"),
    Code.TEMPERATURE_HIGH: Meaning(_W, "hot: power fades"),
    Code.TEMPERATURE_LOW: Meaning(_W, "too cold to work"),
    Code.CHARGE_COLD: Meaning(_W, "too cold to charge: charge fades"),
    Code.OVER_TEMPERATURE: Meaning(_E, "critical temperature: shut down", "inspect, then reset"),
    Code.THERMAL_RUNAWAY: Meaning(_E, "temperature runs away: shut down", "inspect, then reset"),
    Code.CELL_SPREAD: Meaning(_W, "cells too far apart: half power", "let the BMS balance"),
    Code.POWER_RAMP: Meaning(_W, "power moves faster than the ramp limit, and was not told to"),
    Code.SOH_LOW: Meaning(_W, "state of health below its limit"),
    Code.DEVICE_FAULT: Meaning(_E, "the device reports a fault", "mend it, then reset"),
    Code.DEVICE_ALARM: Meaning(_W, "the device reports an alarm"),
    Code.BMS_FAULT: Meaning(_E, "the BMS reports a fault", "mend it, then reset"),
    Code.BMS_LIMIT: Meaning(_I, "the BMS's own current limit"),
    Code.BMS_DISAGREES: Meaning(_W, "BMS and Modbus disagree; the worse value rules"),
    Code.BMS_FORBIDS: Meaning(_W, "the BMS forbids this direction"),
    Code.BMS_WARNING: Meaning(_W, "the BMS reports a warning"),
    Code.BMS_FORCE_CHARGE: Meaning(_W, "the BMS asks to be charged"),
    Code.INVERTER_FAULT: Meaning(_E, "the inverter reports a fault", "mend it, then reset"),
    Code.INVERTER_ALARM: Meaning(_W, "the inverter reports an alarm"),
    Code.DEVICE_LIMIT: Meaning(_I, "what the device itself says it can do now"),
    Code.POWER_DISAGREES: Meaning(
        _W, "inverter and controller measure different powers", "look at CTs, signs and scales"
    ),
    Code.NOT_FOLLOWING: Meaning(
        _W, "power is not what its device was told", "local mode? look at inverter and battery"
    ),
    Code.WRONG_WAY: Meaning(
        _E,
        "power flows the other way than its device was told: shut down",
        "look at signs and CTs, then reset",
    ),
    Code.INTERLOCK_INPUT: Meaning(_E, "a hardware interlock is not healthy", "mend it, then reset"),
    Code.INTERLOCK_SILENT: Meaning(_C, "a hardware interlock is not answering"),
    Code.READING_MISSING: Meaning(_W, "a value the rules need is missing"),
    Code.READING_STALE: Meaning(_W, "a value the rules need is too old"),
    Code.READING_FROZEN: Meaning(_W, "a value the rules need does not move"),
    Code.READING_IMPLAUSIBLE: Meaning(_W, "a value the rules need is outside its range"),
    Code.RULE_ERROR: Meaning(_E, "a safety rule failed: the unit is tripped", "report a bug"),
    Code.LINK_LOST: Meaning(_C, "the device does not answer", "look at its power and its link"),
    Code.RETURNING: Meaning(_I, "answers again; waiting for good read-backs"),
    Code.WRITE_FAILED: Meaning(_C, "a setpoint was refused or not answered"),
    Code.WRITE_REFUSED: Meaning(_C, "the device refuses setpoints", "local mode? then reset"),
    Code.READ_BACK_REVERTED: Meaning(_W, "the device fell back to its own setpoint"),
    Code.READ_BACK_CHANGED: Meaning(_W, "someone else changed the setpoint"),
    Code.RIVAL: Meaning(_E, "another controller commands this device", "remove it, then reset"),
    Code.NO_REVERT: Meaning(_W, "the device keeps its last setpoint if vppd dies (accepted)"),
    Code.REVERT_NOT_SET: Meaning(_C, "the device's command timeout is not what was programmed"),
    Code.DEVICE_RESET: Meaning(_W, "the device restarted"),
    Code.RELEASED: Meaning(
        _I, "given back to its own control by an operator", "vppctl enable UNIT takes it again"
    ),
    Code.WRITE_BUDGET: Meaning(
        _C, "the day's budget of writes to non-volatile memory is used up", "find out who writes"
    ),
    Code.CAN_LOST: Meaning(_C, "the CAN interface cannot be used", "look at adapter and cable"),
    Code.BUS_OFF: Meaning(_C, "the CAN controller left the bus", "look at bitrate and termination"),
    Code.METER_SILENT: Meaning(_C, "the meter at the point of connection does not answer"),
    Code.DEVICE_DISABLED: Meaning(
        _C, "the device says it is off though told on", "local mode? vppctl disable, enable UNIT"
    ),
    Code.NOT_OURS: Meaning(_I, "another aggregator of the group commands this site"),
    Code.DELIVERED: Meaning(_I, "what a site was ordered over some time, and what it delivered"),
    Code.RELOADING: Meaning(_I, "moves by its ramp into what a new configuration allows"),
    Code.LEFT_BEHIND: Meaning(
        _C,
        "a device without a timer was left without 0 kW and is not configured any more",
        "set it to 0 kW at the device",
    ),
    Code.SHARE: Meaning(_I, "the unit's share of the site"),
    Code.ROOM: Meaning(_W, "the units together cannot give what is owed"),
    Code.DROOP_RAMP: Meaning(_I, "droop moves no faster than droop.ramp_kw_per_s"),
    Code.DROOP_DEADBAND_HOLD: Meaning(_I, "no droop the other way so soon"),
    Code.DROOP_SATURATED: Meaning(_I, "droop is at its full power"),
    Code.DROOP_DAMPING: Meaning(_I, "damped by how fast the frequency moves"),
    Code.DROOP_SOC: Meaning(_I, "droop fades with state of charge"),
    Code.DROOP_TEMPERATURE: Meaning(_I, "droop fades with temperature"),
    Code.DROOP_LOAD: Meaning(_I, "the connection leaves less room for droop"),
    Code.DROOP_OFF: Meaning(_I, "droop is switched off", "vppctl droop on"),
    Code.DROOP_HANDBACK: Meaning(_I, "sustained long enough: droop is handed back"),
    Code.FFR: Meaning(_I, "fast frequency response gives its block"),
    Code.HEADROOM: Meaning(_I, "the base is kept off what the response may need"),
    Code.HEADROOM_SHORT: Meaning(
        _W,
        "the promised response cannot be given for its time",
        "charge or discharge towards the middle",
    ),
    Code.RIDE_THROUGH: Meaning(_C, "voltage or frequency outside the site's ride-through window"),
    Code.VOLTAGE_LOST: Meaning(_W, "no PMU shows the voltage that ride-through watches"),
    Code.FREQUENCY_LOST: Meaning(_C, "no believable frequency: droop holds, then fades"),
    Code.FREQUENCY_CRITICAL_LOW: Meaning(_C, "frequency critically low"),
    Code.FREQUENCY_LOW: Meaning(_W, "frequency low"),
    Code.FREQUENCY_HIGH: Meaning(_W, "frequency high"),
    Code.FREQUENCY_CRITICAL_HIGH: Meaning(_C, "frequency critically high"),
    Code.FREQUENCY_IMPLAUSIBLE: Meaning(_W, "a source's frequency is not of this grid"),
    Code.FREQUENCY_SOURCE: Meaning(_W, "not the most trusted frequency source is in use"),
    Code.FREQUENCY_DISAGREES: Meaning(
        _C, "frequency sources disagree; the one that asks for less power rules", "look at both"
    ),
    Code.FREQUENCY_JUMP: Meaning(_W, "a frequency jumped and waits to be confirmed"),
    Code.DEAD_BUS: Meaning(_C, "no voltage where a source measures: its frequency is not believed"),
    Code.FREQUENCY_EVENT_BEGUN: Meaning(_I, "a frequency event began; its rows are kept"),
    Code.FREQUENCY_EVENT: Meaning(_I, "a frequency event ended", "vppd report event ID"),
    Code.PMU_LOST: Meaning(_C, "a frequency source does not answer"),
    Code.PMU_TIME: Meaning(_W, "a frequency source's time is off"),
    Code.PMU_FLOOD: Meaning(_W, "a frequency source sends more than may be read, and is left"),
    Code.PMU_FROZEN: Meaning(_C, "a frequency source repeats one value under new time stamps"),
    Code.AUXILIARY: Meaning(_I, "what the buildings take for themselves"),
    Code.RESERVE: Meaning(_I, "the minimum reserve margin is kept back"),
    Code.RESERVE_LOW: Meaning(
        _W, "less in reserve than reserve.margin_min_pct", "ask for less, or bring units back"
    ),
    Code.IMBALANCE: Meaning(
        _W, "units are further apart than imbalance.max_pct", "vppctl dispatch --strategy balanced"
    ),
    Code.N_MINUS_ONE: Meaning(_I, "the loss of the largest unit would not be carried"),
    Code.NODE_REGISTERED: Meaning(_I, "a configured node's device answered for the first time"),
    Code.NODE_MISMATCH: Meaning(_I, "the device's nameplate is not what field.yaml says"),
    Code.NODE_ANNOUNCED: Meaning(_I, "a node was announced; it is not commanded"),
    Code.NODE_FORGOTTEN: Meaning(_I, "an announced node was taken off the list"),
    Code.JOURNAL_FAILED: Meaning(_C, "the journal cannot be written", "look at disk and space"),
    Code.JOURNAL_DROPPED: Meaning(_W, "journal rows were dropped"),
    Code.AUDIT_BROKEN: Meaning(
        _C, "rows of the journal are not as they were written", "run vppd audit verify"
    ),
    Code.RECORDER_FAILED: Meaning(
        _W, "decisions are not recorded for replay", "look at disk and space"
    ),
    Code.TRIP_STATE_UNREADABLE: Meaning(
        _E, "the trips of the last run cannot be read", "inspect the site, then vppctl reset"
    ),
    Code.CLOCK_NOT_SYNCHRONISED: Meaning(_W, "wall time is not synchronised: schedules wait"),
    Code.CLOCK_JUMPED: Meaning(_W, "wall time jumped"),
    Code.ORDER: Meaning(_I, "an order from the grid, or what became of it"),
    Code.SCHEDULE_FAILED: Meaning(
        _C,
        "the schedule cannot be used",
        "mend the file (vppd check shows every wrong line): it is read again within a second",
    ),
    Code.MARKET_SUBMISSION: Meaning(
        _C, "a book was refused, missed its gate or may not have arrived", "vppctl market"
    ),
    Code.MARKET_RESULT: Meaning(
        _W, "an auction's result is late, partial, contradictory or retracted", "vppctl market"
    ),
    Code.MARKET_PORTFOLIO: Meaning(
        _W, "the exchange says that something else is held than the ledger", "vppctl market"
    ),
    Code.MARKET_FORECAST: Meaning(
        _W, "books are made from less than the full forecast", "vppctl market why BLOCK"
    ),
    Code.MARKET_SHORTFALL: Meaning(
        _C, "what was sold or bought cannot be delivered in full", "bring units back"
    ),
    Code.MARKET_ACCOUNT: Meaning(
        _W, "the account of a block cannot be written", "look at the journal"
    ),
    Code.TASK_RESTARTED: Meaning(_W, "a task failed and was restarted"),
    Code.BYSTANDER_FAILED: Meaning(
        _W, "accounts or the watch over reserves failed on a tick; control goes on"
    ),
    Code.TICK_LATE: Meaning(_W, "the tick was late"),
    Code.CONNECTION_CLIPPED: Meaning(_W, "measured load exceeds the connection limit"),
    Code.STOPPING: Meaning(_I, "vppd is stopping"),
    Code.MQTT_LOST: Meaning(
        _W, "no link to the fleet's broker: telemetry waits in the journal", "look at mqtt.url"
    ),
    Code.TELEMETRY_GAP: Meaning(_W, "telemetry was deleted before it could be sent"),
    Code.COMMISSIONED: Meaning(_I, "a bump test was made; its report and hash are named"),
}
