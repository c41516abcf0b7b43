"""Faults of the meter at the point of connection, and the load behind it."""

from typing import TYPE_CHECKING, Any

from vppd.sim.faults.kind import Kind, Undo, put

if TYPE_CHECKING:
    from vppd.sim.plant import Plant


def _site_load(plant: "Plant", _: str, how: dict[str, Any]) -> Undo:
    """What else stands behind the meter: magnitudes of load and generation."""
    load_kw, generation_kw = abs(how["load_kw"]), abs(how["generation_kw"])

    def draw(load_kw: float, generation_kw: float) -> None:
        meter = plant.site_meter()  # as it is now: its counters stand
        meter.load_kw, meter.generation_kw = load_kw, generation_kw

    draw(load_kw, generation_kw)
    return lambda: draw(0.0, 0.0)


def _silence(plant: "Plant", target: str, _: dict[str, Any]) -> Undo:
    plant.site_meter()
    return put(plant.slave(target).behaviour, "silent", on=True, off=False)


def _stuck(plant: "Plant", _: str, __: dict[str, Any]) -> Undo:
    meter = plant.site_meter()
    meter.stick(on=True)
    return lambda: meter.stick(on=False)


def _ct_reversed(plant: "Plant", _: str, __: dict[str, Any]) -> Undo:
    def turn(*, reversed_now: bool) -> None:
        plant.site_meter().is_ct_reversed = reversed_now

    turn(reversed_now=True)
    return lambda: turn(reversed_now=False)


KINDS: dict[str, Kind] = {
    "site_load": Kind("meter", {"load_kw": 0.0, "generation_kw": 0.0}, _site_load),
    "meter_silence": Kind("meter", {}, _silence),
    "meter_stuck": Kind("meter", {}, _stuck),
    "ct_reversed": Kind("meter", {}, _ct_reversed),
}
