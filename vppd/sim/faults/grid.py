"""Faults of PMUs, and what the grid does."""

from typing import TYPE_CHECKING, Any

from vppd.sim.faults.kind import Kind, Undo, put
from vppd.sim.pmu_server import LATE_FRAMES

if TYPE_CHECKING:
    from vppd.sim.plant import Plant


def _pmu_loss(plant: "Plant", target: str, how: dict[str, Any]) -> Undo:
    pmu = plant.pmu(target)
    if not how["close"]:
        return put(pmu.faults, "silent", on=True, off=False)
    pmu.refuse(on=True)
    return lambda: pmu.refuse(on=False)


def _pmu_time_quality(plant: "Plant", target: str, _: dict[str, Any]) -> Undo:
    return put(plant.pmu(target).faults, "clock_failure", on=True, off=False)


def _pmu_frozen(plant: "Plant", target: str, _: dict[str, Any]) -> Undo:
    pmu = plant.pmu(target)
    pmu.freeze(on=True)
    return lambda: pmu.freeze(on=False)


def _pmu_sixty_hertz(plant: "Plant", target: str, _: dict[str, Any]) -> Undo:
    return put(plant.pmu(target).faults, "sixty_hertz", on=True, off=False)


def _pmu_garbage(plant: "Plant", target: str, how: dict[str, Any]) -> Undo:
    count = min(max(how["count"], 0), 4096)
    return put(plant.pmu(target).faults, "garbage_bytes", on=count, off=0)


def _pmu_jump(plant: "Plant", target: str, how: dict[str, Any]) -> Undo:
    return put(plant.pmu(target).faults, "offset_hz", on=how["offset_hz"], off=0.0)


def _pmu_wrong_time(plant: "Plant", target: str, how: dict[str, Any]) -> Undo:
    return put(plant.pmu(target).faults, "ahead_s", on=how["ahead_s"], off=0.0)


def _pmu_double(plant: "Plant", target: str, _: dict[str, Any]) -> Undo:
    return put(plant.pmu(target).faults, "double", on=True, off=False)


def _pmu_late(plant: "Plant", target: str, how: dict[str, Any]) -> Undo:
    frames = min(max(how["frames"], 1), LATE_FRAMES)
    return put(plant.pmu(target).faults, "late", on=frames, off=0)


def _pmu_delay(plant: "Plant", target: str, how: dict[str, Any]) -> Undo:
    return put(plant.pmu(target).faults, "delay_s", on=max(how["delay_s"], 0.0), off=0.0)


def _pmu_spikes(plant: "Plant", target: str, how: dict[str, Any]) -> Undo:
    faults = plant.pmu(target).faults
    faults.spike_every = max(how["every"], 2)
    return put(faults, "spike_hz", on=how["offset_hz"], off=0.0)


def _pmu_data_error(plant: "Plant", target: str, how: dict[str, Any]) -> Undo:
    return put(plant.pmu(target).faults, "data_error", on=how["code"] & 3, off=0)


def _pmu_no_frequency(plant: "Plant", target: str, _: dict[str, Any]) -> Undo:
    return put(plant.pmu(target).faults, "no_frequency", on=True, off=False)


def _pmu_corrupt(plant: "Plant", target: str, _: dict[str, Any]) -> Undo:
    return put(plant.pmu(target).faults, "corrupt", on=True, off=False)


def _pmu_cut(plant: "Plant", target: str, how: dict[str, Any]) -> Undo:
    count = min(max(how["count"], 0), 4096)
    return put(plant.pmu(target).faults, "cut_bytes", on=count, off=0)


def _pmu_dead_bus(plant: "Plant", target: str, how: dict[str, Any]) -> Undo:
    faults = plant.pmu(target).faults
    faults.dead_bus_decay_s = max(how["decay_s"], 0.001)
    faults.dead_bus_hz_per_s = how["fall_hz_per_s"]
    return put(faults, "dead_bus_s", on=plant.clock.now_s(), off=None)


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
    "pmu_loss": Kind("pmu", {"close": False}, _pmu_loss),
    "pmu_time_quality": Kind("pmu", {}, _pmu_time_quality),
    "pmu_frozen": Kind("pmu", {}, _pmu_frozen),
    "pmu_sixty_hertz": Kind("pmu", {}, _pmu_sixty_hertz),
    "pmu_garbage": Kind("pmu", {"count": 37}, _pmu_garbage),
    "pmu_jump": Kind("pmu", {"offset_hz": 1.0}, _pmu_jump),
    "pmu_wrong_time": Kind("pmu", {"ahead_s": 3600.0}, _pmu_wrong_time),
    "pmu_double": Kind("pmu", {}, _pmu_double),
    "pmu_late": Kind("pmu", {"frames": 2}, _pmu_late),
    "pmu_delay": Kind("pmu", {"delay_s": 1.0}, _pmu_delay),
    "pmu_spikes": Kind("pmu", {"offset_hz": -1.0, "every": 10}, _pmu_spikes),
    "pmu_data_error": Kind("pmu", {"code": 3}, _pmu_data_error),
    "pmu_no_frequency": Kind("pmu", {}, _pmu_no_frequency),
    "pmu_corrupt": Kind("pmu", {}, _pmu_corrupt),
    "pmu_cut": Kind("pmu", {"count": 9}, _pmu_cut),
    "pmu_dead_bus": Kind("pmu", {"decay_s": 0.3, "fall_hz_per_s": 0.5}, _pmu_dead_bus),
    "frequency_step": Kind("grid", {"frequency_hz": 0.0, "offset_hz": 0.0}, _frequency_step),
    "frequency_ramp": Kind("grid", {"frequency_hz": 49.5, "rate_hz_per_s": 0.1}, _frequency_ramp),
}
