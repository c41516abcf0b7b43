"""The faults that can be injected into a running plant: their registry.

Each kind says what it acts on and its parameters with their defaults; the kinds stand by subject in
the files beside this one. Kinds without an undo happen once.
"""

import math
from collections.abc import Mapping
from typing import Any

from vppd.sim.faults import bms as faults_bms
from vppd.sim.faults import exchange as faults_exchange
from vppd.sim.faults import grid as faults_grid
from vppd.sim.faults import inverter as faults_inverter
from vppd.sim.faults import meter as faults_meter
from vppd.sim.faults import unit as faults_unit
from vppd.sim.faults import wire as faults_wire
from vppd.sim.faults.kind import Kind, Undo, UnknownFaultError

__all__ = ["KINDS", "Kind", "Undo", "UnknownFaultError", "fits", "parameters_of"]

KINDS: dict[str, Kind] = {
    **faults_unit.KINDS,
    **faults_wire.KINDS,
    **faults_bms.KINDS,
    **faults_inverter.KINDS,
    **faults_meter.KINDS,
    **faults_grid.KINDS,
    **faults_exchange.KINDS,
}


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
