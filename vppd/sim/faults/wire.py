"""Faults of the wire: how what answers on Modbus misbehaves, and interlock inputs."""

from typing import TYPE_CHECKING, Any

from vppd.sim.faults.kind import Kind, Undo, UnknownFaultError, put

if TYPE_CHECKING:
    from vppd.sim.plant import Plant


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


def _swapped_words(plant: "Plant", target: str, _: dict[str, Any]) -> Undo:
    if not plant.slave(target).layout.pairs:
        raise UnknownFaultError(f"{target} has no value of two registers to swap")
    return _behave(plant, target, swaps_words=True)


def _inverted_sign(plant: "Plant", target: str, _: dict[str, Any]) -> Undo:
    _has_power(plant, target)
    return _behave(plant, target, inverts_power=True)


def _scale_ten(plant: "Plant", target: str, how: dict[str, Any]) -> Undo:
    _has_power(plant, target)
    return _behave(plant, target, power_factor=how["factor"])


def _has_power(plant: "Plant", target: str) -> None:
    if not plant.slave(target).layout.powers:
        raise UnknownFaultError(f"{target} measures no power")


def _interlock(plant: "Plant", target: str, _: dict[str, Any]) -> Undo:
    return put(plant.input(target), "healthy", on=False, off=True)


def _interlock_silent(plant: "Plant", target: str, _: dict[str, Any]) -> Undo:
    return put(plant.input(target), "silent", on=True, off=False)


KINDS: dict[str, Kind] = {
    "silence": Kind("slave", {}, _silence),
    "exception": Kind("slave", {"code": 4, "function": 0}, _exception),
    "slow": Kind("slave", {"delay_s": 0.8}, _slow),
    "wrong_unit_id": Kind("slave", {"offset": 1}, _wrong_unit_id),
    "refuse_writes": Kind("slave", {"code": 4}, _refuse_writes),
    "drop": Kind("slave", {}, _drop),
    "connection_refused": Kind("slave", {}, _connection_refused),
    "interlock": Kind("input", {}, _interlock),
    "interlock_silent": Kind("input", {}, _interlock_silent),
    "swapped_words": Kind("slave", {}, _swapped_words),
    "inverted_sign": Kind("slave", {}, _inverted_sign),
    "scale_ten": Kind("slave", {"factor": 10.0}, _scale_ten),
}
