"""Faults of a unit's SunSpec inverter; the target is the unit, or "UNIT/inverter" all the same.

How its wire misbehaves stands in `faults_wire`.
"""

from typing import TYPE_CHECKING, Any

from vppd.sim.faults.kind import Kind, Undo, UnknownFaultError, put
from vppd.sim.sunspec.device import SimSunSpec
from vppd.sim.sunspec.image import scaled
from vppd.sim.unit import word

if TYPE_CHECKING:
    from vppd.sim.plant import Plant

ENABLED, WATTS, DISCHARGE_RATE = 1, 1, 1 << 1
INT32 = 1 << 32


def _fault(plant: "Plant", target: str, how: dict[str, Any]) -> Undo:
    """Set while injected; with `latched` they stay until the alarms are reset."""
    inverter, bits = plant.inverter(target), how["bits"] & 0xFFFF_FFFF
    if how["latched"]:
        inverter.latched_bits |= bits
    return put(inverter, "fault_bits", on=bits, off=0)


def _alarm(plant: "Plant", target: str, how: dict[str, Any]) -> Undo:
    return put(plant.inverter(target), "alarm_bits", on=how["bits"] & 0xFFFF_FFFF, off=0)


def _frozen(plant: "Plant", target: str, _: dict[str, Any]) -> Undo:
    return put(plant.inverter(target), "is_frozen", on=True, off=False)


def _deaf(plant: "Plant", target: str, _: dict[str, Any]) -> Undo:
    return put(plant.inverter(target), "ignores_writes", on=True, off=False)


def _local(plant: "Plant", target: str, _: dict[str, Any]) -> Undo:
    return put(plant.inverter(target), "is_local", on=True, off=False)


def _no_timer(plant: "Plant", target: str, _: dict[str, Any]) -> Undo:
    return put(plant.inverter(target), "timer_broken", on=True, off=False)


def _hidden(plant: "Plant", target: str, how: dict[str, Any]) -> Undo:
    inverter, model, point = plant.inverter(target), how["model"], str(how["point"])
    if point not in inverter.image.names(model, point):
        raise UnknownFaultError(f"{target} has no point {point!r} in model {model}")
    inverter.hidden.add((model, point))
    return lambda: inverter.hidden.discard((model, point))


def _reset(plant: "Plant", target: str, _: dict[str, Any]) -> None:
    inverter = plant.inverter(target)
    inverter.reset()
    plant.line(f"{inverter.id}/inverter").drop()


def _rival(plant: "Plant", target: str, how: dict[str, Any]) -> Undo:
    inverter, power_kw = plant.inverter(target), how["power_kw"]

    def write() -> None:
        inverter.advance(plant.clock.now_s())
        for address, words in rival_writes(inverter, power_kw):
            inverter.write_registers(address, words, source="rival")

    return plant.repeat(write, max(how["period_s"], 0.01))


def rival_writes(inverter: SimSunSpec, power_kw: float) -> list[tuple[int, list[int]]]:
    """What another controller writes for this power, positive = discharge: WSetEna, WSetMod and
    WSet of 704, or OutWRte in percent of WChaMax and StorCtl_Mod of 124."""
    image = inverter.image
    if image.names(704, "WSetEna"):
        raw = round(1000.0 * power_kw / scaled(1, image.exponents.get((704, "WSet_SF"), 0)))
        high, low = divmod(raw % INT32, 1 << 16)
        return [(image.address(704, "WSetEna"), [ENABLED, WATTS, high, low])]
    rate_pct = 100_000.0 * power_kw / image.given(124, "WChaMax")
    step_pct = scaled(1, image.exponents.get((124, "InOutWRte_SF"), 0))
    return [
        (image.address(124, "OutWRte"), [word(rate_pct, step_pct, signed=True)]),
        (image.address(124, "StorCtl_Mod"), [DISCHARGE_RATE]),
    ]


KINDS: dict[str, Kind] = {
    "inverter_fault": Kind("inverter", {"bits": 1, "latched": False}, _fault),
    "inverter_alarm": Kind("inverter", {"bits": 1}, _alarm),
    "inverter_frozen": Kind("inverter", {}, _frozen),
    "inverter_deaf": Kind("inverter", {}, _deaf),
    "inverter_local": Kind("inverter", {}, _local),
    "inverter_no_timer": Kind("inverter", {}, _no_timer),
    "inverter_hidden": Kind("inverter", {"model": 701, "point": "W"}, _hidden),
    "inverter_reset": Kind("inverter", {}, _reset),
    "inverter_rival": Kind("inverter", {"power_kw": 50.0, "period_s": 1.0}, _rival),
}
