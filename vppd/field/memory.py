"""What a gate remembers from one call to the next, copied: another gate that is given it decides
the same bit for bit."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from vppd.core.model import Point, UnitId
from vppd.field.closing import Closing
from vppd.field.latches import Latch
from vppd.field.standing import Standing
from vppd.field.ward import Ward

# What a gate builds by itself, or what is only told; everything else is remembered.
_OF_WARD = frozenset(
    {"asset", "actuator", "rules", "rating", "standing", "verdicts", "limits", "room"}
)
_OF_STANDING = frozenset({"unit", "tell", "trip", "power", "counts", "read_back"})


@dataclass(frozen=True, slots=True)
class WardMemory:
    """One unit at the gate."""

    declared: frozenset[Point]
    may_show: frozenset[Point]
    ward: Mapping[str, Any]
    standing: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class GateMemory:
    """The whole gate."""

    started_s: float
    asked_s: float
    stopping: bool
    dead: bool
    latches: tuple[Latch, ...]
    given: frozenset[UnitId]
    units: Mapping[UnitId, WardMemory]
    closings: tuple[Closing, ...] = ()


def remembered(ward: Ward) -> WardMemory:
    """Copy what one unit remembers."""
    asset = ward.asset
    return WardMemory(
        asset.declared,
        asset.may_show,
        _copied(ward, _OF_WARD),
        _copied(ward.standing, _OF_STANDING),
    )


def remind(ward: Ward, memory: WardMemory) -> None:
    """Give one unit what another of the same name remembered; its rules the caller chooses."""
    ward.asset = replace(ward.asset, declared=memory.declared, may_show=memory.may_show)
    _give(ward, memory.ward)
    _give(ward.standing, memory.standing)


def _copied(of: Ward | Standing, but: Iterable[str]) -> dict[str, Any]:
    names = (each.name for each in fields(of) if each.name not in but)
    return {name: _still(getattr(of, name)) for name in names}


def _still(value: Any) -> Any:
    """A copy that does not change with the original."""
    if isinstance(value, deque):
        return tuple(value)
    if isinstance(value, dict):
        return dict(value)
    return frozenset(value) if isinstance(value, set) else value


def _give(to: Ward | Standing, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        old = getattr(to, name, None)
        if isinstance(old, deque):
            old.clear()
            old.extend(value)
        elif isinstance(old, dict | set):
            setattr(to, name, type(old)(value))
        elif hasattr(to, name):
            setattr(to, name, value)
