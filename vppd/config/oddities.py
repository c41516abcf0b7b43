"""What is odd in a configuration but may be meant: warnings, never a reason not to start."""

from collections.abc import Callable, Iterator
from itertools import pairwise

from vppd.config.document import KeyPath
from vppd.config.rules import Breach, line_of
from vppd.core.model import Point
from vppd.core.profile import DeviceProfile, Table, Writable
from vppd.core.settings import ModbusSettings, Settings, UnitSettings

RULES_OF = {
    Point.POWER_KW: "against a silent device or a frozen measurement",
    Point.SOC_PCT: "state of charge",
    Point.VOLTAGE_V: "pack voltage",
    Point.CURRENT_A: "current",
    Point.TEMPERATURE_C: "temperature",
    Point.FAULT_BITS: "against the device's own faults",
}
SLOW_POLL_S = 1.0
FAST_SERIAL_POLL_S = 0.2
FEW_DAYS = 30
LITTLE_SHARE = 0.01  # of all units: what a limit in MW would look like
FULL_IN_MOST_PER_H = 6.0  # no battery is emptied faster
FEW_MB = 64
LOW_RUNAWAY_RATE_C_PER_MIN = 1.0


def odd(path: KeyPath, text: str, *reads: KeyPath) -> Breach:
    """A warning."""
    return Breach("warning", text, (path, *reads))


def total_rated_kw(settings: Settings) -> float:
    """The sum of the units' rated power."""
    return sum(unit.rated_power_kw for unit in settings.units)


def _ratings(settings: Settings) -> list[KeyPath]:
    at: list[KeyPath] = [("units", each, "rated_power_kw") for each in range(len(settings.units))]
    return at or [("units",)]


# --- units ---


def _units(settings: Settings) -> Iterator[Breach]:
    for index, unit in enumerate(settings.units if settings.role == "site" else ()):
        base = ("units", index)
        yield from _rating(base, unit)
        yield from _charging_cold(base, unit)
        yield from _runaway(base, unit)
        if unit.modbus is None and unit.bms is None:
            text = (
                "no modbus and no bms: nothing guards the battery's cells, voltage, current and"
                " temperature but what its inverter may show of them"
            )
            yield odd((*base, "inverter"), text, (*base, "bms"))
        if unit.modbus is not None:
            yield from _poll(base, unit.modbus)
            yield from _revert(base, unit, unit.modbus, settings.profile_of(unit))


def _rating(base: KeyPath, unit: UnitSettings) -> Iterator[Breach]:
    safety = unit.safety
    middle_v = (safety.pack_min_v + safety.pack_max_v) / 2.0
    name = min("discharge_max_a", "charge_max_a", key=lambda each: float(getattr(safety, each)))
    current_a: float = getattr(safety, name)
    carried_kw = middle_v * current_a * unit.modules_parallel / 1000.0
    if unit.rated_power_kw > carried_kw:
        yield odd(
            (*base, "rated_power_kw"),
            f"{unit.rated_power_kw:g} kW, but modules_parallel {unit.modules_parallel} x"
            f" {middle_v:g} V x {name} {current_a:g} A carry {carried_kw:.4g} kW:"
            " over-current will cut it",
            (*base, "modules_parallel"),
            *((*base, "safety", key) for key in (name, "pack_min_v", "pack_max_v")),
        )
    if unit.rated_power_kw > FULL_IN_MOST_PER_H * unit.energy_kwh:
        yield odd(
            (*base, "rated_power_kw"),
            f"{unit.rated_power_kw:g} kW empties {unit.energy_kwh:g} kWh in"
            f" {60.0 * unit.energy_kwh / unit.rated_power_kw:.2g} min: is it in kW, not in W?",
            (*base, "energy_kwh"),
        )
    full_pct_per_min = unit.rated_power_kw / unit.energy_kwh * 100.0 / 60.0
    if safety.soc_rate_max_pct_per_min < full_pct_per_min:
        yield odd(
            (*base, "safety", "soc_rate_max_pct_per_min"),
            f"{safety.soc_rate_max_pct_per_min:g} %/min, but rated power moves"
            f" {full_pct_per_min:.3g} %/min: full power will be halved",
            (*base, "rated_power_kw"),
            (*base, "energy_kwh"),
        )
    if unit.rated_apparent_kva is not None and unit.rated_apparent_kva < unit.rated_power_kw:
        yield odd(
            (*base, "rated_apparent_kva"),
            f"{unit.rated_apparent_kva:g} kVA is less than rated_power_kw"
            f" {unit.rated_power_kw:g}, which is never reached",
            (*base, "rated_power_kw"),
        )


def _charging_cold(base: KeyPath, unit: UnitSettings) -> Iterator[Breach]:
    cold_c = unit.safety.charge_temperature_min_c
    if cold_c < 0.0:
        yield odd(
            (*base, "safety", "charge_temperature_min_c"),
            f"{cold_c:g} allows charging below 0 °C, which plates lithium on most cells",
        )


def _runaway(base: KeyPath, unit: UnitSettings) -> Iterator[Breach]:
    safety = unit.safety
    path = (*base, "safety", "runaway_temperature_c")
    critical = (*base, "safety", "temperature_critical_c")
    if safety.runaway_temperature_c >= safety.temperature_critical_c:
        yield odd(
            path,
            f"{safety.runaway_temperature_c:g} is not below temperature_critical_c"
            f" {safety.temperature_critical_c:g}: the rate of rise is never judged",
            critical,
        )
    if safety.runaway_rate_max_c_per_min < LOW_RUNAWAY_RATE_C_PER_MIN:
        yield odd(
            (*base, "safety", "runaway_rate_max_c_per_min"),
            f"{safety.runaway_rate_max_c_per_min:g} °C/min: ordinary heating may trip the unit",
        )


def _poll(base: KeyPath, link: ModbusSettings) -> Iterator[Breach]:
    path = (*base, "modbus", "poll_s")
    poll_s = link.poll_s
    if poll_s > SLOW_POLL_S:
        yield odd(path, f"{poll_s:g} s: faults are seen and setpoints read back this late")
    if link.serial is not None and poll_s < FAST_SERIAL_POLL_S:
        yield odd(
            path,
            f"{poll_s:g} s is more than a serial line usually carries",
            (*base, "modbus", "serial"),
        )


def _revert(
    base: KeyPath, unit: UnitSettings, link: ModbusSettings, profile: DeviceProfile | None
) -> Iterator[Breach]:
    if profile is None:
        return
    accept = (*base, "accept_no_revert")
    if unit.accept_no_revert and (profile.read_only or profile.revert.kind != "none"):
        yield odd(accept, f"has no effect: {profile.name} reverts by itself or is never written")
    if profile.revert.kind == "timeout" and link.timeout_s >= profile.revert.timeout_s:
        yield odd(
            (*base, "modbus", "timeout_s"),
            f"{link.timeout_s:g} s: waiting for one lost reply outlasts the"
            f" {profile.revert.timeout_s:g} s after which the device reverts",
        )


# --- site ---


def _shared_bits(settings: Settings) -> Iterator[Breach]:
    seen: dict[object, str] = {}
    for index, each in enumerate(settings.interlock_inputs):
        link = each.modbus
        bit = (line_of(link), link.unit_id, link.discrete_input, link.coil)
        first = seen.setdefault(bit, each.id)
        if first != each.id:
            yield odd(("interlock_inputs", index, "modbus"), f"reads the same bit as {first}")


def _mode(settings: Settings) -> Iterator[Breach]:
    simulated = [index for index, unit in enumerate(settings.units) if unit.simulate]
    if settings.mode == "hil" and not simulated:
        text = "hil, but no unit says simulate: true; this is the same as hardware"
        yield odd(("mode",), text, ("units",))
    if settings.mode != "hil":
        for index in simulated:
            text = f"has no effect in mode {settings.mode}; it counts in mode hil"
            yield odd(("units", index, "simulate"), text, ("mode",))
    if settings.mode != "simulation" and settings.clock.sync == "assume":
        text = "assume trusts a clock that nobody proved; schedules may run at the wrong time"
        yield odd(("clock", "sync"), text, ("mode",))


def _journal(settings: Settings) -> Iterator[Breach]:
    journal = settings.journal
    if journal.retain_days < FEW_DAYS:
        text = f"{journal.retain_days} days are gone before most settlements and reports"
        yield odd(("journal", "retain_days"), text)
    if journal.max_mb < FEW_MB:
        text = f"{journal.max_mb} MB hold about a day of four units"
        yield odd(("journal", "max_mb"), text)


# --- grid ---


def _connection(settings: Settings) -> Iterator[Breach]:
    rated_kw = total_rated_kw(settings)
    for name in ("export_max_kw", "import_max_kw"):
        limit_kw: float | None = getattr(settings.connection, name)
        if limit_kw is not None and limit_kw > rated_kw:
            text = f"{limit_kw:g} kW is more than all units together ({rated_kw:g} kW): never binds"
            yield odd(("connection", name), text, *_ratings(settings))
        elif limit_kw is not None and 0.0 < limit_kw < LITTLE_SHARE * rated_kw:
            text = f"{limit_kw:g} kW beside units of {rated_kw:g} kW: is it in kW, not in MW?"
            yield odd(("connection", name), text, *_ratings(settings))


def _pmu(settings: Settings) -> Iterator[Breach]:
    if not settings.pmu:
        text = "no PMU configured: frequency comes from the units alone, at their poll rate"
        yield odd(("pmu",), text)
    for index, pmu in enumerate(settings.pmu):
        if any((pmu.host, pmu.port) == (other.host, other.port) for other in settings.pmu[:index]):
            text = f"{pmu.port}: a PMU before it is at the same address; simulated, neither starts"
            yield odd(("pmu", index, "port"), text)
        if pmu.transport == "tcp" and pmu.udp_port is not None:
            yield odd(("pmu", index, "udp_port"), "has no effect with transport: tcp")


def _bands(settings: Settings) -> Iterator[Breach]:
    bands, droop = settings.bands, settings.droop
    order = ("plausible_low_hz", "critical_low_hz", "low_hz", "high_hz", "critical_high_hz")
    edges = [(name, getattr(bands, name)) for name in (*order, "plausible_high_hz")]
    for (low, low_hz), (high, high_hz) in pairwise(edges):
        if not low_hz < high_hz:
            text = f"{low} {low_hz:g} is not below {high} {high_hz:g}"
            yield odd(("bands", low), text, ("bands", high))
    if droop.deadband_low_hz < bands.low_hz:
        text = f"{droop.deadband_low_hz:g} Hz: no answer although frequency is below bands.low_hz"
        yield odd(("droop", "deadband_low_hz"), text, ("bands", "low_hz"))
    if droop.deadband_high_hz > bands.high_hz:
        text = f"{droop.deadband_high_hz:g} Hz: no answer although frequency is above bands.high_hz"
        yield odd(("droop", "deadband_high_hz"), text, ("bands", "high_hz"))
    if not bands.plausible_low_hz < droop.nominal_hz < bands.plausible_high_hz:
        text = f"{droop.nominal_hz:g} Hz is outside what bands call plausible: never an answer"
        yield odd(("droop", "nominal_hz"), text, ("bands",))


def _droop(settings: Settings) -> Iterator[Breach]:
    rated_kw = total_rated_kw(settings)
    full_kw = settings.droop.max_power_kw
    if full_kw is not None and full_kw > rated_kw:
        text = f"{full_kw:g} kW is more than all units together ({rated_kw:g} kW)"
        yield odd(("droop", "max_power_kw"), text, *_ratings(settings))


ODDITIES: tuple[Callable[[Settings], Iterator[Breach]], ...] = (
    _units,
    _shared_bits,
    _mode,
    _journal,
    _connection,
    _pmu,
    _bands,
    _droop,
)


def profile_oddities(profile: DeviceProfile) -> Iterator[Breach]:
    """What is odd in one device profile."""
    for point, spec in profile.points.items():
        if spec.low is not None and spec.high is not None and spec.low >= spec.high:
            text = f"{spec.low:g} is not below high {spec.high:g}: every value is implausible"
            yield odd(("points", point, "low"), text, ("points", point, "high"))
        if (spec.frozen_s is None) != (spec.moves_with is None):
            text = "frozen_s and moves_with work only together: never judged frozen"
            yield odd(("points", point, "frozen_s"), text, ("points", point, "moves_with"))
    yield from _commanding(profile)
    yield from _reverting(profile)
    yield from _unseen(profile)
    yield from _read_back(profile)


def _commanding(profile: DeviceProfile) -> Iterator[Breach]:
    power = profile.writes.get(Writable.POWER_KW)
    path = ("writes", "power_kw")
    if power is None:
        if not profile.read_only:
            yield odd(("writes",), "power_kw is not among them: the unit gives nothing")
        return
    if profile.read_only:
        yield odd(("writes",), "have no effect with read_only: true", ("read_only",))
    if not power.low <= 0.0 <= power.high:
        text = f"{power.low:g} to {power.high:g} has no 0: the device cannot be told to rest"
        yield odd((*path, "low"), text, (*path, "high"))


def _unseen(profile: DeviceProfile) -> Iterator[Breach]:
    """A rule needs only the points there are: say which rules a profile leaves out."""
    if profile.read_only or Writable.POWER_KW not in profile.writes:
        return
    for point, lost in RULES_OF.items():
        if point not in profile.points:
            yield odd(("points",), f"{point} is not among them: nothing guards {lost}")


def _read_back(profile: DeviceProfile) -> Iterator[Breach]:
    """A register that is written one way and read back another looks like a rival's doing."""
    for name, write in profile.writes.items():
        point = profile.points.get(write.read_back)
        if point is None or (point.table, point.address) != (Table.HOLDING, write.address):
            continue
        for what in ("sign", "scale", "type", "word_order", "byte_order"):
            if getattr(point, what) != getattr(write, what):
                text = f"{getattr(write, what)}, but {write.read_back} reads the same register with"
                yield odd(("writes", name, what), f"{text} {getattr(point, what)}")


def _reverting(profile: DeviceProfile) -> Iterator[Breach]:
    timed = {Writable.COMMAND_TIMEOUT_S, Writable.HEARTBEAT} & profile.writes.keys()
    if profile.revert.kind == "timeout" and not timed:
        text = "timeout, but neither command_timeout_s nor heartbeat is among the writes"
        yield odd(("revert", "kind"), text, ("writes",))
    if profile.revert.kind == "none" and timed:
        text = f"none, although {', '.join(sorted(timed))} can be written"
        yield odd(("revert", "kind"), text, ("writes",))
