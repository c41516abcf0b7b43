"""Faults of a BMS on CAN and of its bus; the target is the unit."""

from typing import TYPE_CHECKING, Any

from vppd.sim.battery import CELLS, SENSORS
from vppd.sim.faults.kind import Kind, Undo, UnknownFaultError, put

if TYPE_CHECKING:
    from vppd.sim.plant import Plant

MOST_PER_S = 20_000.0


def _silence(plant: "Plant", target: str, _: dict[str, Any]) -> Undo:
    return put(plant.bms(target).faults, "is_silent", on=True, off=False)


def _frozen(plant: "Plant", target: str, _: dict[str, Any]) -> Undo:
    return put(plant.bms(target).faults, "is_frozen", on=True, off=False)


def _cell(plant: "Plant", target: str, how: dict[str, Any]) -> Undo:
    seen = plant.bms(target).faults.cells_v
    return _reading(seen, how["cell"], CELLS, how["cell_v"], "bms_cell: cell")


def _temperature(plant: "Plant", target: str, how: dict[str, Any]) -> Undo:
    seen = plant.bms(target).faults.sensors_c
    return _reading(seen, how["sensor"], SENSORS, how["temperature_c"], "bms_temperature: sensor")


def _reading(values: dict[int, float], number: int, most: int, value: float, words: str) -> Undo:
    if not 1 <= number <= most:
        raise UnknownFaultError(f"{words} is 1 to {most}")
    values[number - 1] = value

    def undo() -> None:
        values.pop(number - 1, None)

    return undo


def _fault_bits(plant: "Plant", target: str, how: dict[str, Any]) -> Undo:
    return put(plant.bms(target).faults, "fault_bits", on=how["bits"] & 0xFF, off=0)


def _warning_bits(plant: "Plant", target: str, how: dict[str, Any]) -> Undo:
    return put(plant.bms(target).faults, "warning_bits", on=how["bits"] & 0xFF, off=0)


def _limits(plant: "Plant", target: str, how: dict[str, Any]) -> Undo:
    faults = plant.bms(target).faults
    faults.charge_max_a = max(how["charge_max_a"], 0.0)
    faults.discharge_max_a = max(how["discharge_max_a"], 0.0)

    def undo() -> None:
        faults.charge_max_a = faults.discharge_max_a = None

    return undo


def _short_frame(plant: "Plant", target: str, how: dict[str, Any]) -> Undo:
    return put(plant.bms(target).faults, "missing_bytes", on=max(how["missing_bytes"], 0), off=0)


def _garbage(plant: "Plant", target: str, how: dict[str, Any]) -> Undo:
    per_s = min(max(how["frames_per_s"], 0.0), MOST_PER_S)
    return put(plant.bms(target).faults, "garbage_per_s", on=per_s, off=0.0)


def _soc(plant: "Plant", target: str, how: dict[str, Any]) -> Undo:
    return put(plant.bms(target).faults, "soc_pct", on=how["soc_pct"], off=None)


def _forbid(plant: "Plant", target: str, how: dict[str, Any]) -> Undo:
    bms = plant.bms(target)
    if bms.settings.dbc != "pylontech":
        raise UnknownFaultError(
            f"{target}: {bms.settings.dbc} has no request to forbid; pylontech has"
        )
    faults = bms.faults
    faults.forbids_charge, faults.forbids_discharge = how["charge"], how["discharge"]
    faults.forces_charge = how["force_charge"]

    def undo() -> None:
        faults.forbids_charge = faults.forbids_discharge = faults.forces_charge = False

    return undo


def _down(plant: "Plant", target: str, _: dict[str, Any]) -> Undo:
    bus = plant.bus(target)
    bus.refuse(on=True)
    return lambda: bus.refuse(on=False)


KINDS: dict[str, Kind] = {
    "bms_silence": Kind("bms", {}, _silence),
    "bms_frozen": Kind("bms", {}, _frozen),
    "bms_cell": Kind("bms", {"cell": 7, "cell_v": 4.22}, _cell),
    "bms_temperature": Kind("bms", {"sensor": 3, "temperature_c": 57.0}, _temperature),
    "bms_fault_bits": Kind("bms", {"bits": 1}, _fault_bits),
    "bms_warning_bits": Kind("bms", {"bits": 1}, _warning_bits),
    "bms_limits": Kind("bms", {"charge_max_a": 20.0, "discharge_max_a": 20.0}, _limits),
    "bms_short_frame": Kind("bms", {"missing_bytes": 1}, _short_frame),
    "bms_garbage": Kind("bms", {"frames_per_s": 50.0}, _garbage),
    "bms_soc": Kind("bms", {"soc_pct": 20.0}, _soc),
    "bms_forbid": Kind("bms", {"charge": True, "discharge": True, "force_charge": False}, _forbid),
    "can_down": Kind("bms", {}, _down),
}
