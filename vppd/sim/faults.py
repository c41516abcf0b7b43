"""The faults that can be injected into a running plant, and their registry.

Each kind says what it acts on and its parameters with their defaults; applying it returns how to
undo it. Kinds without an undo happen once.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vppd.sim.battery import CELLS
from vppd.sim.pmu_server import Pmu
from vppd.sim.slave import SimInput
from vppd.sim.unit import ADDRESSES, SETPOINT, SimUnit, word

if TYPE_CHECKING:
    from vppd.sim.plant import Plant

Undo = Callable[[], None]
Apply = Callable[["Plant", str, dict[str, Any]], Undo | None]


class UnknownFaultError(ValueError):
    """No such fault, target or parameter; the text lists what there is."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault."""

    target: str  # unit, slave (a unit or an input), input, pmu or grid
    parameters: Mapping[str, Any]  # defaults; their type is the type asked for
    apply: Apply


def parameters_of(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The kind's defaults with what was given. Raises UnknownFaultError."""
    if name not in KINDS:
        raise UnknownFaultError(f"no fault {name!r}; there are: {', '.join(sorted(KINDS))}")
    defaults = KINDS[name].parameters
    for key, value in given.items():
        if key not in defaults:
            known = ", ".join(defaults) or "none"
            raise UnknownFaultError(f"{name} has no parameter {key!r}; it has: {known}")
        if not fits(value, defaults[key]):
            raise UnknownFaultError(f"{name}: {key} is {value!r}, wanted like {defaults[key]!r}")
    return {**defaults, **given}


def fits(value: Any, default: Any) -> bool:
    """Whether a value is of the kind of this default."""
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, str):
        return isinstance(value, (str, int))
    if isinstance(default, int):
        return isinstance(value, int)
    return isinstance(value, (int, float)) and math.isfinite(value)


# of a unit's battery and registers


def _over_temperature(plant: "Plant", target: str, how: dict[str, Any]) -> Undo:
    battery = plant.unit(target).battery
    battery.excess_rate_c_per_s = abs(how["rate_c_per_s"])
    battery.excess_target_c = how["temperature_c"] - battery.temperature_c

    def undo() -> None:
        battery.excess_target_c = 0.0

    return undo


def _cell_drift(plant: "Plant", target: str, how: dict[str, Any]) -> Undo:
    if not 1 <= how["cell"] <= CELLS:
        raise UnknownFaultError(f"cell_drift: cell is 1 to {CELLS}")
    drift_v, index = plant.unit(target).battery.cell_drift_v, how["cell"] - 1
    drift_v[index] = how["drift_v"]

    def undo() -> None:
        drift_v[index] = 0.0

    return undo


def _stuck_register(plant: "Plant", target: str, how: dict[str, Any]) -> Undo:
    unit, point = plant.unit(target), how["point"]
    if isinstance(point, str) and point not in ADDRESSES:
        raise UnknownFaultError(f"no point {point!r}; there are: {', '.join(ADDRESSES)}")
    address = ADDRESSES[point] if isinstance(point, str) else point
    image = unit.inputs() | unit.holding
    if address not in image:
        raise UnknownFaultError(f"{target} has no register {address:#06x}")
    unit.stuck[address] = image[address]

    def undo() -> None:
        unit.stuck.pop(address, None)

    return undo


def _soc(plant: "Plant", target: str, how: dict[str, Any]) -> None:
    plant.unit(target).battery.soc_pct = how["soc_pct"]


def _current_surge(plant: "Plant", target: str, how: dict[str, Any]) -> Undo:
    battery = plant.unit(target).battery
    battery.surge_a = how["current_a"]

    def undo() -> None:
        battery.surge_a = None

    return undo


def _voltage(plant: "Plant", target: str, how: dict[str, Any]) -> Undo:
    battery = plant.unit(target).battery
    battery.forced_pack_v = how["pack_v"]

    def undo() -> None:
        battery.forced_pack_v = None

    return undo


def _fault_bits(plant: "Plant", target: str, how: dict[str, Any]) -> Undo:
    return _bits(plant.unit(target), "fault_bits", how)


def _alarm_bits(plant: "Plant", target: str, how: dict[str, Any]) -> Undo:
    return _bits(plant.unit(target), "alarm_bits", how)


def _bits(unit: SimUnit, register: str, how: dict[str, Any]) -> Undo:
    """Set while injected; with `latched` they stay until the alarms are reset."""
    bits = how["bits"] & 0xFFFF
    setattr(unit, register, getattr(unit, register) | bits)
    if how["latched"]:
        latched = f"latched_{register}"
        setattr(unit, latched, getattr(unit, latched) | bits)

    def undo() -> None:
        setattr(unit, register, getattr(unit, register) & ~bits)

    return undo


def _device_reset(plant: "Plant", target: str, _: dict[str, Any]) -> None:
    plant.unit(target).reset()
    plant.line(target).drop()


def _rival(plant: "Plant", target: str, how: dict[str, Any]) -> Undo:
    unit, every_s = plant.unit(target), max(how["period_s"], 0.01)

    def write() -> None:
        unit.advance(plant.clock.now_s())
        raw = word(-how["power_kw"], 0.1, signed=True)
        unit.write_registers(SETPOINT, [raw], source="rival")

    return plant.repeat(write, every_s)


# of the wire


def _silence(plant: "Plant", target: str, _: dict[str, Any]) -> Undo:
    return _behave(plant, target, silent=True)


def _exception(plant: "Plant", target: str, how: dict[str, Any]) -> Undo:
    return _behave(plant, target, exception_code=how["code"], exception_function=how["function"])


def _slow(plant: "Plant", target: str, how: dict[str, Any]) -> Undo:
    return _behave(plant, target, delay_s=max(how["delay_s"], 0.0))


def _wrong_unit_id(plant: "Plant", target: str, how: dict[str, Any]) -> Undo:
    return _behave(plant, target, unit_id_offset=how["offset"])


def _refuse_writes(plant: "Plant", target: str, how: dict[str, Any]) -> Undo:
    return _behave(plant, target, refuse_writes_code=how["code"])


def _behave(plant: "Plant", target: str, **changes: Any) -> Undo:
    behaviour = plant.slave(target).behaviour
    before = {name: getattr(behaviour, name) for name in changes}
    for name, value in changes.items():
        setattr(behaviour, name, value)

    def undo() -> None:
        for name, value in before.items():
            setattr(behaviour, name, value)

    return undo


def _drop(plant: "Plant", target: str, _: dict[str, Any]) -> None:
    plant.line(target).drop()


def _connection_refused(plant: "Plant", target: str, _: dict[str, Any]) -> Undo:
    line = plant.line(target)
    line.refuse(on=True)
    return lambda: line.refuse(on=False)


# of an interlock input


def _interlock(plant: "Plant", target: str, _: dict[str, Any]) -> Undo:
    return _input(plant.input(target), "healthy", on=False)


def _interlock_silent(plant: "Plant", target: str, _: dict[str, Any]) -> Undo:
    return _input(plant.input(target), "silent", on=True)


def _input(entry: SimInput, name: str, *, on: bool) -> Undo:
    setattr(entry, name, on)
    return lambda: setattr(entry, name, not on)


# of a PMU


def _pmu_loss(plant: "Plant", target: str, how: dict[str, Any]) -> Undo:
    pmu = plant.pmu(target)
    if not how["close"]:
        return _pmu_fault(pmu, "silent", on=True, off=False)
    pmu.refuse(on=True)
    return lambda: pmu.refuse(on=False)


def _pmu_time_quality(plant: "Plant", target: str, _: dict[str, Any]) -> Undo:
    return _pmu_fault(plant.pmu(target), "clock_failure", on=True, off=False)


def _pmu_frozen(plant: "Plant", target: str, _: dict[str, Any]) -> Undo:
    pmu = plant.pmu(target)
    pmu.freeze(on=True)
    return lambda: pmu.freeze(on=False)


def _pmu_sixty_hertz(plant: "Plant", target: str, _: dict[str, Any]) -> Undo:
    return _pmu_fault(plant.pmu(target), "sixty_hertz", on=True, off=False)


def _pmu_garbage(plant: "Plant", target: str, how: dict[str, Any]) -> Undo:
    count = min(max(how["count"], 0), 4096)
    return _pmu_fault(plant.pmu(target), "garbage_bytes", on=count, off=0)


def _pmu_fault(pmu: Pmu, name: str, *, on: object, off: object) -> Undo:
    setattr(pmu.faults, name, on)
    return lambda: setattr(pmu.faults, name, off)


# of the grid


def _frequency_step(plant: "Plant", _: str, how: dict[str, Any]) -> Undo:
    if how["frequency_hz"]:
        plant.grid.steer(plant.clock.now_s(), how["frequency_hz"])
    else:
        plant.grid.shift(how["offset_hz"])
    return plant.grid.release


def _frequency_ramp(plant: "Plant", _: str, how: dict[str, Any]) -> Undo:
    rate_hz_per_s = abs(how["rate_hz_per_s"])
    plant.grid.steer(plant.clock.now_s(), how["frequency_hz"], rate_hz_per_s)
    return plant.grid.release


KINDS: dict[str, Kind] = {
    "over_temperature": Kind(
        "unit", {"temperature_c": 65.0, "rate_c_per_s": 1.0}, _over_temperature
    ),
    "cell_drift": Kind("unit", {"cell": 7, "drift_v": -0.15}, _cell_drift),
    "stuck_register": Kind("unit", {"point": "soc_pct"}, _stuck_register),
    "soc": Kind("unit", {"soc_pct": 50.0}, _soc),
    "current_surge": Kind("unit", {"current_a": 130.0}, _current_surge),
    "voltage": Kind("unit", {"pack_v": 44.0}, _voltage),
    "fault_bits": Kind("unit", {"bits": 1, "latched": False}, _fault_bits),
    "alarm_bits": Kind("unit", {"bits": 1, "latched": False}, _alarm_bits),
    "device_reset": Kind("unit", {}, _device_reset),
    "rival": Kind("unit", {"power_kw": 50.0, "period_s": 1.0}, _rival),
    "silence": Kind("slave", {}, _silence),
    "exception": Kind("slave", {"code": 4, "function": 0}, _exception),
    "slow": Kind("slave", {"delay_s": 0.8}, _slow),
    "wrong_unit_id": Kind("slave", {"offset": 1}, _wrong_unit_id),
    "refuse_writes": Kind("slave", {"code": 4}, _refuse_writes),
    "drop": Kind("slave", {}, _drop),
    "connection_refused": Kind("slave", {}, _connection_refused),
    "interlock": Kind("input", {}, _interlock),
    "interlock_silent": Kind("input", {}, _interlock_silent),
    "pmu_loss": Kind("pmu", {"close": False}, _pmu_loss),
    "pmu_time_quality": Kind("pmu", {}, _pmu_time_quality),
    "pmu_frozen": Kind("pmu", {}, _pmu_frozen),
    "pmu_sixty_hertz": Kind("pmu", {}, _pmu_sixty_hertz),
    "pmu_garbage": Kind("pmu", {"count": 37}, _pmu_garbage),
    "frequency_step": Kind("grid", {"frequency_hz": 0.0, "offset_hz": 0.0}, _frequency_step),
    "frequency_ramp": Kind("grid", {"frequency_hz": 49.5, "rate_hz_per_s": 0.1}, _frequency_ramp),
}
