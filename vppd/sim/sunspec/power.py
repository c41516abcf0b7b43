"""What an inverter makes of what it is told: limits, the apparent-power circle, droop. Pure sums.

Sign: positive is out towards the grid, for kW and kvar.
"""

import math
from dataclasses import dataclass

CUT_KW = 1e-6


@dataclass(frozen=True, slots=True)
class Room:
    """What the inverter may do at most."""

    discharge_kw: float
    charge_kw: float
    apparent_kva: float
    inject_kvar: float
    absorb_kvar: float


@dataclass(frozen=True, slots=True)
class Target:
    """What the inverter will do, and whether that is less than it was told."""

    power_kw: float
    reactive_kvar: float
    is_limited: bool


IDLE = Target(0.0, 0.0, False)


def within(value: float, low: float, high: float) -> float:
    """The nearest value inside; `low` wins where they cross."""
    return max(min(value, high), low)


def left_of(apparent_kva: float, used_kw: float) -> float:
    """What a circle of kVA leaves beside one axis."""
    return math.sqrt(max(apparent_kva**2 - used_kw**2, 0.0))


def fit(wish_kw: float, wish_kvar: float, room: Room, *, reactive_first: bool) -> Target:
    """Clamp to the room, then to the circle: the axis with priority keeps its value."""
    power_kw = within(wish_kw, -room.charge_kw, room.discharge_kw)
    reactive_kvar = within(wish_kvar, -room.absorb_kvar, room.inject_kvar)
    if reactive_first:
        reactive_kvar = within(reactive_kvar, -room.apparent_kva, room.apparent_kva)
        most_kw = left_of(room.apparent_kva, reactive_kvar)
        power_kw = within(power_kw, -most_kw, most_kw)
    else:
        power_kw = within(power_kw, -room.apparent_kva, room.apparent_kva)
        most_kvar = left_of(room.apparent_kva, power_kw)
        reactive_kvar = within(reactive_kvar, -most_kvar, most_kvar)
    cut = abs(power_kw - wish_kw) > CUT_KW or abs(reactive_kvar - wish_kvar) > CUT_KW
    return Target(power_kw, reactive_kvar, cut)


def constant_factor_kvar(power_kw: float, factor: float) -> float:
    """kvar that go with this power at this power factor; sign of the factor: sign of the kvar."""
    share = within(abs(factor), 0.01, 1.0)
    return math.copysign(abs(power_kw) * math.sqrt(1.0 - share**2) / share, factor)


@dataclass(frozen=True, slots=True)
class Droop:
    """The adopted control of model 711: dead bands, and the frequency change in per unit that goes
    with one per unit of power."""

    over_hz: float
    under_hz: float
    over_droop_pu: float
    under_droop_pu: float


def droop_kw(droop: Droop, frequency_hz: float, nominal_hz: float, rated_kw: float) -> float:
    """What droop adds: less output above the dead band, more below (IEEE 1547-2018, 6.5.2.7)."""
    above_hz = frequency_hz - nominal_hz - droop.over_hz
    below_hz = nominal_hz - droop.under_hz - frequency_hz
    if above_hz > 0.0:
        return -above_hz / (nominal_hz * droop.over_droop_pu) * rated_kw
    if below_hz > 0.0:
        return below_hz / (nominal_hz * droop.under_droop_pu) * rated_kw
    return 0.0
