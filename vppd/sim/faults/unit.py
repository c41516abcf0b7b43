"""Faults of a unit: its battery, its controller's registers, and a rival who writes them."""

from typing import TYPE_CHECKING, Any

from vppd.sim.battery import CELLS
from vppd.sim.faults.kind import Kind, Undo, UnknownFaultError
from vppd.sim.unit import ADDRESSES, SETPOINT, SimUnit, word

if TYPE_CHECKING:
    from vppd.sim.plant import Plant


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
    unit, line = plant.unit(target), plant.line(target)
    unit.reset()
    line.drop()


def _rival(plant: "Plant", target: str, how: dict[str, Any]) -> Undo:
    unit, every_s = plant.unit(target), max(how["period_s"], 0.01)

    def write() -> None:
        unit.advance(plant.clock.now_s())
        raw = word(-how["power_kw"], 0.1, signed=True)
        unit.write_registers(SETPOINT, [raw], source="rival")

    return plant.repeat(write, every_s)


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
}
