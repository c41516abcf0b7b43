"""Every setting of the house as frozen dataclasses: one source for the loader, the checker and
`vppd explain`.

`key()` carries the sentence that documents a key and its bounds; `vppd/config` builds the strict
validation from these fields and gives back these classes. A default of None says what it means.
"""

from dataclasses import dataclass, field
from typing import Literal

from vppd.core.bms import BmsProfile
from vppd.core.model import UnitId
from vppd.core.profile import DeviceProfile, key
from vppd.core.settings_aggregator import AggregatorSettings
from vppd.core.settings_campus import CampusRulesSettings
from vppd.core.settings_evidence import EvidenceSettings
from vppd.core.settings_journal import DiskSettings, KeepSettings
from vppd.core.settings_market import MarketSettings
from vppd.core.settings_mqtt import MqttSettings
from vppd.core.settings_recorder import RecorderSettings
from vppd.core.settings_response import FfrSettings, HeadroomSettings, RideThroughSettings
from vppd.core.settings_scada import OrderSettings, ScadaSettings
from vppd.core.settings_sources import SourceSettings
from vppd.core.settings_web import MetricsSettings, WebSettings

SITE_ROW_S = 900.0
ID = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteSettings:
    """Who this site is."""

    id: str = key("stable id, used in topics, reports and rows", pattern=ID)
    name: str = key("what people call it", "")
    timezone: str = key(
        "IANA zone for times shown to people; blocks are IST anyway", "Asia/Kolkata"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalSettings:
    """How much is remembered, in the state directory."""

    retain_days: int = key("rows older than this are deleted", 365, ge=1, le=3660)
    max_mb: int = key("the file never grows beyond this; the oldest readings go first", 2048, ge=16)
    reading_row_s: float = key("one row a point at most this often", 1.0, ge=0.1, le=3600)
    keep: KeepSettings = key("how long each kind of row is kept", KeepSettings)
    disk: DiskSettings = key("how the disk is spared", DiskSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSettings:
    """Who may ask and who may command, by Unix group on the socket."""

    viewers: str | None = key("group that may look; null: only root and vppd itself", None)
    operators: str | None = key("group that may command; null: only root and vppd itself", None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockSettings:
    """Whether wall time may be trusted for schedules; ages and leases never depend on it."""

    sync: Literal["auto", "assume"] | None = key(
        "auto: look for a synchronised clock; assume: trust it (null: auto, in simulation assume)",
        None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationSettings:
    """What the simulated plant plays, in the modes simulation and hil."""

    trace: str | None = key(
        "frequency to play: CSV t_s,freq_hz, relative to the configuration (null: random)", None
    )
    seed: int = key("of everything random", 1, ge=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModbusSettings:
    """How to reach one device: TCP by host, RTU by serial port."""

    profile: str = key("name of a file in the shipped profiles or in devices/")
    host: str | None = key("TCP: address or name", None)
    port: int = key("TCP port", 502, ge=1, le=65535)
    serial: str | None = key("RTU: device path", None)
    baudrate: int = key("RTU", 9600, ge=300, le=1_000_000)
    parity: Literal["N", "E", "O"] = key("RTU", "N")
    stopbits: int = key("RTU", 1, ge=1, le=2)
    unit_id: int = key("Modbus unit id", 1, ge=0, le=255)
    poll_s: float = key("period of the fast poll group", 0.5, ge=0.05, le=60)
    timeout_s: float = key(
        "wait this long for a reply; no longer, for control is proven by answers", 1.0, gt=0, le=5
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BmsSettings:
    """How to hear one BMS on CAN."""

    dbc: str = key("BMS model: name of a DBC with its YAML, shipped or in devices/")
    interface: Literal[
        "socketcan", "slcan", "udp_multicast", "virtual", "serial", "pcan", "kvaser"
    ] = key("python-can interface", "socketcan")
    channel: str = key("can0; a serial device for slcan; a group for udp_multicast", min_length=1)
    bitrate: int | None = key(
        "of the bus, where the interface sets it (null: as the BMS model says)",
        None,
        ge=10_000,
        le=1_000_000,
    )
    serial_baudrate: int = key("slcan: of the serial line", 115_200, ge=9600, le=4_000_000)
    id_offset: int = key(
        "added to every identifier of the DBC: several BMSs on one bus", 0, ge=0, le=0x1FFFFFFF
    )
    keep_alive: bool = key("send the keep-alive frame where the model asks for one", True)
    force_charge_kw: float | None = key(
        "charge with so much when the BMS asks for it (null: an alarm only)", None, gt=0
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class InverterSettings:
    """How to reach a SunSpec inverter: TCP by host, RTU by serial port. It takes the setpoints."""

    protocol: Literal["sunspec"] = key("what it speaks", "sunspec")
    host: str | None = key("TCP: address or name", None)
    port: int = key("TCP port", 502, ge=1, le=65535)
    serial: str | None = key("RTU: device path", None)
    baudrate: int = key("RTU", 9600, ge=300, le=1_000_000)
    parity: Literal["N", "E", "O"] = key("RTU", "N")
    stopbits: int = key("RTU", 1, ge=1, le=2)
    unit_id: int = key("Modbus unit id", 1, ge=0, le=255)
    poll_s: float = key("period of the fast poll group", 0.5, ge=0.05, le=60)
    timeout_s: float = key(
        "wait this long for a reply; no longer, for control is proven by answers", 1.0, gt=0, le=5
    )
    base: int | None = key(
        "address of the SunSpec marker (null: looked for at 0, 40000 and 50000)",
        None,
        ge=0,
        le=65535,
    )
    drive: Literal["auto", "der", "storage"] = key(
        "der: models 704/715; storage: 123/124; auto: der where the device has it", "auto"
    )
    revert_s: int = key(
        "the device's own timer: it gives 0 after so long in silence", 10, ge=2, le=600
    )
    on_stop: Literal["stay", "release"] = key(
        "after 0 kW at a graceful stop: stay at 0, or go back to the device's own normal mode",
        "release",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterSettings:
    """The meter at the point of connection: TCP by host, RTU by serial port."""

    profile: str = key("name of a file in the shipped profiles or in devices/")
    required: bool = key("true: while it is silent the worst is assumed", True)
    simulate: bool = key("in mode hil: it is simulated", False)
    ratio: float = key(
        "its powers and energies are multiplied by it (CT and VT outside of it)", 1.0, gt=0
    )
    host: str | None = key("TCP: address or name", None)
    port: int = key("TCP port", 502, ge=1, le=65535)
    serial: str | None = key("RTU: device path", None)
    baudrate: int = key("RTU", 9600, ge=300, le=1_000_000)
    parity: Literal["N", "E", "O"] = key("RTU", "N")
    stopbits: int = key("RTU", 1, ge=1, le=2)
    unit_id: int = key("Modbus unit id", 1, ge=0, le=255)
    poll_s: float = key("period of the fast poll group", 0.5, ge=0.05, le=60)
    timeout_s: float = key(
        "wait this long for a reply; no longer, for control is proven by answers", 1.0, gt=0, le=5
    )
    load_max_kw: float | None = key(
        "the most that other load takes, for when the meter is silent (null: no charge then)",
        None,
        ge=0,
    )
    generation_max_kw: float | None = key(
        "the most that other sources give, for when the meter is silent (null: no discharge then)",
        None,
        ge=0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SafetySettings:
    """Limits of a unit. Volts and amperes are of one 16-cell module."""

    soc_min_pct: float = key("no discharge at or below", 10.0, ge=0, le=100)
    soc_max_pct: float = key("no charge at or above", 95.0, ge=0, le=100)
    soc_fade_pct: float = key("power fades to 0 over the last so many percent", 3.0, ge=0, le=50)
    soc_hysteresis_pct: float = key("a stopped direction opens again after", 0.5, ge=0, le=20)
    soc_rate_max_pct_per_min: float = key("faster: half power", 1.0, gt=0, le=100)
    soh_min_pct: float = key("below: alarm only", 70.0, ge=0, le=100)
    cell_min_v: float = key("no discharge at or below", 2.8, gt=0, le=10)
    cell_max_v: float = key("no charge at or above", 4.2, gt=0, le=10)
    cell_hysteresis_v: float = key("a stopped direction opens again after", 0.05, ge=0, le=1)
    cell_delta_max_v: float = key("wider spread: half power", 0.1, gt=0, le=2)
    pack_min_v: float = key("no discharge at or below", 44.8, gt=0, le=2000)
    pack_max_v: float = key("no charge at or above", 67.2, gt=0, le=2000)
    pack_hysteresis_v: float = key("a stopped direction opens again after", 0.8, ge=0, le=50)
    charge_max_a: float = key("of one module", 100.0, gt=0, le=10_000)
    discharge_max_a: float = key("of one module", 100.0, gt=0, le=10_000)
    over_current_stop_s: float = key("over the limit for so long: stop", 2.0, gt=0, le=60)
    temperature_min_c: float = key("nothing below", -10.0, ge=-60, le=60)
    charge_temperature_min_c: float = key("no charge at or below", 0.0, ge=-60, le=60)
    charge_temperature_fade_c: float = key("charge fades over so many degrees above", 5.0, ge=0)
    temperature_max_c: float = key("nothing at or above", 55.0, ge=0, le=120)
    temperature_fade_c: float = key("power fades over so many degrees below it", 10.0, ge=0)
    temperature_hysteresis_c: float = key("a stopped direction opens again after", 1.0, ge=0, le=20)
    temperature_critical_c: float = key("at or above: shutdown, latched", 60.0, ge=0, le=150)
    runaway_temperature_c: float = key("above it the rate of rise is watched", 50.0, ge=0, le=150)
    runaway_rate_max_c_per_min: float = key("faster while hot: shutdown, latched", 5.0, gt=0)
    ramp_max_kw_per_s: float = key("base power moves no faster", 10.0, gt=0, le=1e6)
    device_ramp_kw_per_s: float | None = key(
        "the device itself moves no faster away from 0 (null: no such limit)", None, gt=0
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitSettings:
    """One battery with its inverter."""

    id: str = key("stable id of the unit", pattern=ID)
    building: str = key("id of the building it stands in", pattern=ID)
    rated_power_kw: float = key("never more than this, either way", gt=0, le=100_000)
    rated_apparent_kva: float | None = key("null: the rated power", None, gt=0, le=100_000)
    energy_kwh: float = key("usable energy from 0 to 100 % SoC", gt=0, le=1_000_000)
    modules_parallel: int = key("16-cell modules sharing the current", 1, ge=1, le=100_000)
    priority: int = key("strategy `priority`: lower goes first", 100, ge=0, le=10_000)
    accept_no_revert: bool = key(
        "true accepts a device that keeps its last setpoint when vppd dies (profile: revert none)",
        False,
    )
    simulate: bool = key("in mode hil: this unit is simulated", False)
    reactive_first: bool = key(
        "in the apparent-power circle reactive power goes first (false: active power)", False
    )
    modbus: ModbusSettings | None = key(
        "the battery's own controller (null: an inverter is all there is)", None
    )
    bms: BmsSettings | None = key("its BMS on CAN (null: none)", None)
    inverter: InverterSettings | None = key(
        "its SunSpec inverter, which then takes the setpoints (null: the controller takes them)",
        None,
    )
    safety: SafetySettings = key("its limits", SafetySettings)

    @property
    def unit(self) -> UnitId:
        return UnitId(self.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class InputModbusSettings:
    """Where one hardware interlock input is read."""

    host: str | None = key("TCP: address or name", None)
    port: int = key("TCP port", 502, ge=1, le=65535)
    serial: str | None = key("RTU: device path", None)
    baudrate: int = key("RTU", 9600, ge=300, le=1_000_000)
    parity: Literal["N", "E", "O"] = key("RTU", "N")
    stopbits: int = key("RTU", 1, ge=1, le=2)
    unit_id: int = key("Modbus unit id", 1, ge=0, le=255)
    discrete_input: int | None = key("address, function 2", None, ge=0, le=65535)
    coil: int | None = key("address, function 1", None, ge=0, le=65535)
    poll_s: float = key("period", 0.5, ge=0.05, le=10)
    timeout_s: float = key(
        "wait this long for a reply; no longer, for control is proven by answers", 1.0, gt=0, le=5
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class InterlockInputSettings:
    """A hardware interlock: fire, e-stop, door, breaker. Not healthy: latched shutdown."""

    id: str = key("its name in alarms", pattern=ID)
    scope: str = key("site, a building id or a unit id")
    modbus: InputModbusSettings = key("where it is read")
    healthy: Literal[0, 1] = key("the state that lets power flow", 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocationSettings:
    """Where it is, WGS 84."""

    latitude: float = key("degrees", ge=-90, le=90)
    longitude: float = key("degrees", ge=-180, le=180)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildingSettings:
    """A building; units name it in field.yaml."""

    id: str = key("id", pattern=ID)
    name: str = key("name", "")
    location: LocationSettings | None = key("null: the campus's", None)
    export_max_kw: float | None = key("feeder limit of its units, out (null: none)", None, ge=0)
    import_max_kw: float | None = key("feeder limit of its units, in (null: none)", None, ge=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CampusSettings:
    """A campus of buildings."""

    id: str = key("id", pattern=ID)
    name: str = key("name", "")
    location: LocationSettings | None = key("null: unknown", None)
    buildings: tuple[BuildingSettings, ...] = key("its buildings", ())


@dataclass(frozen=True, slots=True, kw_only=True)
class CitySettings:
    """A city of campuses."""

    id: str = key("id", pattern=ID)
    name: str = key("name", "")
    campuses: tuple[CampusSettings, ...] = key("its campuses", ())


@dataclass(frozen=True, slots=True, kw_only=True)
class StateSettings:
    """A state of cities."""

    id: str = key("id", pattern=ID)
    name: str = key("name", "")
    cities: tuple[CitySettings, ...] = key("its cities", ())


@dataclass(frozen=True, slots=True, kw_only=True)
class CountrySettings:
    """The top of the hierarchy."""

    id: str = key("id", "IN", pattern=ID)
    name: str = key("name", "India")
    states: tuple[StateSettings, ...] = key("its states", ())


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchSettings:
    """How the site's base is shared."""

    strategy: Literal["proportional", "balanced", "priority", "losses"] = key(
        "proportional to room; balanced: SoC converges; priority: first unit first; losses: least",
        "proportional",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionSettings:
    """What the site may exchange with the grid; null: the sum of the units' ratings."""

    export_max_kw: float | None = key("out, at the point of connection", None, ge=0)
    import_max_kw: float | None = key("in, at the point of connection", None, ge=0)
    apparent_max_kva: float | None = key("the circle of both", None, gt=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PmuSettings:
    """One C37.118.2 source. Several are tried in the order given."""

    id: str = key("its name as a frequency source", "pmu", pattern=ID)
    host: str = key("address or name of the PMU")
    port: int = key("TCP port, or UDP command port", 4712, ge=1, le=65535)
    idcode: int = key("id code of the stream", 1, ge=1, le=65534)
    pmu_idcode: int | None = key("which PMU of the stream gives the frequency (null: first)", None)
    transport: Literal["tcp", "udp"] = key("tcp, or udp with commands to port", "tcp")
    udp_port: int | None = key("udp: local port for data (null: same socket)", None, ge=1, le=65535)
    max_age_s: float = key("a frame older than this is not a reading", 0.5, ge=0.05, le=5)
    clock_error_max_s: float = key("stated time error above it: quality bad", 0.01, gt=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class BandSettings:
    """Edges of the frequency bands, Hz, and what clears an alarm."""

    critical_low_hz: float = key("below: critical low", 49.50, gt=0)
    low_hz: float = key("below: low", 49.90, gt=0)
    high_hz: float = key("above: high", 50.05, gt=0)
    critical_high_hz: float = key("above: critical high", 50.50, gt=0)
    hysteresis_hz: float = key("an alarm clears this far inside", 0.02, ge=0, le=0.5)
    plausible_low_hz: float = key("below: not a frequency of this grid", 45.0, gt=0)
    plausible_high_hz: float = key("above: not a frequency of this grid", 55.0, gt=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class DroopSettings:
    """Answer to frequency: dP = -(P_max / droop) x (df / f_nominal)."""

    enabled: bool = key("false: no answer", True)
    droop_pct: float = key("full power at this deviation of nominal", 5.0, ge=0.5, le=20)
    nominal_hz: float = key("nominal frequency", 50.0, gt=0)
    deadband_low_hz: float = key("no answer above it", 49.90, gt=0)
    deadband_high_hz: float = key("no answer below it", 50.05, gt=0)
    reference: Literal["nominal", "deadband_edge"] = key(
        "deviation counts from nominal (steps at the edge) or from the edge", "nominal"
    )
    reentry_hysteresis_hz: float = key("nominal: ends this far inside the deadband", 0.01, ge=0)
    reversal_hold_s: float = key("no answer the other way sooner than this", 1.0, ge=0, le=60)
    max_power_kw: float | None = key("P_max (null: the sum of rated power)", None, gt=0)
    ramp_kw_per_s: float | None = key("null: full power in 0.4 s", None, gt=0)
    over_droop_pct: float | None = key(
        "droop at high frequency (null: droop_pct)", None, ge=0.5, le=20
    )
    over_max_power_kw: float | None = key("P_max at high frequency (null: P_max)", None, gt=0)
    step_deviation_hz: float | None = key(
        "a deviation of nominal beyond it gets at least step_power_kw (null: no step)", None, gt=0
    )
    step_power_kw: float | None = key("power of the step, either way (null: none)", None, gt=0)
    sustain_s: float | None = key(
        "after so long in full the answer is handed back (null: never)", None, gt=0
    )
    handback_s: float = key("handed back over this time", 60.0, gt=0, le=3600)
    handback_within_hz: float | None = key(
        "not handed back while the deviation of nominal is larger (null: whatever it is)",
        None,
        gt=0,
    )
    rocof_gain_pu_per_hz_per_s: float = key("damping, of P_max per Hz/s; 0: none", 0.1, ge=0, le=10)
    rocof_filter_s: float = key("time constant of the ROCOF filter", 0.3, gt=0, le=5)
    soc_adaptive: bool = key("fade with SoC near its limits", True)
    soc_adaptive_span_pct: float = key("over so many percent from the limit", 10.0, gt=0, le=50)
    temperature_adaptive: bool = key("fade with temperature near its limit", True)
    temperature_adaptive_span_c: float = key("over so many degrees", 10.0, gt=0, le=50)
    load_adaptive: bool = key("the measured site load narrows what may be exported", True)
    hold_s: float = key("frequency lost: hold the droop power so long", 0.5, ge=0, le=60)
    fade_s: float = key("then fade it to 0 over", 5.0, gt=0, le=600)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The whole site, checked. `profiles` and `bms_profiles` hold every model the units name."""

    site: SiteSettings = key("who this site is")
    mode: Literal["simulation", "hil", "hardware"] = key(
        "simulation: vppd starts its own plant; hil: only the units marked simulate; hardware: none"
    )
    role: Literal["site", "aggregator"] = key(
        "aggregator: the units are sites, which are heard and ordered over a broker", "site"
    )
    aggregator: AggregatorSettings = key("how sites are heard and ordered", AggregatorSettings)
    journal: JournalSettings = key("what is remembered", JournalSettings)
    recorder: RecorderSettings = key("what is kept for replay", RecorderSettings)
    api: ApiSettings = key("who may ask on the socket", ApiSettings)
    clock: ClockSettings = key("whether wall time is trusted", ClockSettings)
    simulation: SimulationSettings = key("what the simulated plant plays", SimulationSettings)
    mqtt: MqttSettings | None = key("the link to the fleet by MQTT 5 (null: none)", None)
    metrics: MetricsSettings = key("metrics for Prometheus", MetricsSettings)
    web: WebSettings = key("the live page for a browser", WebSettings)
    units: tuple[UnitSettings, ...] = key("the batteries with their inverters", min_length=1)
    interlock_inputs: tuple[InterlockInputSettings, ...] = key("hardware interlocks", ())
    meter: MeterSettings | None = key(
        "the meter at the point of connection (null: none, and no other load)", None
    )
    country: CountrySettings = key(
        "where everything stands; no buildings listed: those that units name", CountrySettings
    )
    dispatch: DispatchSettings = key("how power is shared over the units", DispatchSettings)
    rules: CampusRulesSettings = key(
        "losses, imbalance, reserve, and who goes first", CampusRulesSettings
    )
    connection: ConnectionSettings = key("the point of connection", ConnectionSettings)
    pmu: tuple[PmuSettings, ...] = key(
        "frequency sources: one mapping, or a list in order of trust; a device's own comes last", ()
    )
    bands: BandSettings = key("frequency bands and their alarms", BandSettings)
    droop: DroopSettings = key("the answer to frequency", DroopSettings)
    sources: SourceSettings = key("how frequency sources are judged", SourceSettings)
    ffr: FfrSettings = key("fast frequency response", FfrSettings)
    headroom: HeadroomSettings = key("what is kept free for the response", HeadroomSettings)
    ride_through: RideThroughSettings = key(
        "outside the windows of voltage and frequency", RideThroughSettings
    )
    orders: OrderSettings = key("orders from the grid, whoever brings them", OrderSettings)
    scada: ScadaSettings = key("the IEC 60870-5-104 station", ScadaSettings)
    evidence: EvidenceSettings = key("what is a frequency event", EvidenceSettings)
    market: MarketSettings = key("what is sold", MarketSettings)
    profiles: dict[str, DeviceProfile]
    bms_profiles: dict[str, BmsProfile] = field(default_factory=dict)
    config_dir: str = ""

    @property
    def reading_row_s(self) -> float:
        """How often at most a value is written down: seldom where the units are sites, which keep
        every second of their own."""
        row_s = self.journal.reading_row_s
        return row_s if self.role == "site" else max(row_s, SITE_ROW_S)

    def profile_of(self, unit: UnitSettings) -> DeviceProfile | None:
        """The register map of a unit's own controller, where it has one."""
        return self.profiles.get(unit.modbus.profile) if unit.modbus is not None else None

    def bms_of(self, unit: UnitSettings) -> BmsProfile | None:
        """The model of a unit's BMS, where it has one."""
        return self.bms_profiles.get(unit.bms.dbc) if unit.bms is not None else None
