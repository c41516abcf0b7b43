"""What a kind of fault is: what it acts on, its parameters, and how it begins and ends."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vppd.sim.plant import Plant

Undo = Callable[[], None]
Apply = Callable[["Plant", str, dict[str, Any]], Undo | None]


class UnknownFaultError(ValueError):
    """No such fault, target or parameter; the text lists what there is."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault; applying it returns how to undo it, or None when it happens once.

    The target is a unit, a bms or an inverter (of a unit), a slave (a unit's controller,
    "UNIT/inverter", an input or "meter"), an input, a pmu, the meter, the exchange or the grid.
    """

    target: str
    parameters: Mapping[str, Any]  # defaults; their type is the type asked for
    apply: Apply


def put(subject: object, name: str, *, on: object, off: object) -> Undo:
    """Set an attribute while the fault lasts."""
    setattr(subject, name, on)
    return lambda: setattr(subject, name, off)
