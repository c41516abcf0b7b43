"""Are the values that a device shows believable, and if not, what would make them so? Pure.

A value outside what its profile allows is tried in the other word and byte orders, and with other
powers of ten; what fits is named, because that is the likely mistake in the profile.
"""

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from vppd.core.model import Point
from vppd.core.profile import DeviceProfile, Kind, PointSpec
from vppd.field.decode import decoder, register_count
from vppd.field.survey.remarks import Remark, fine, odd, wrong
from vppd.field.survey.wire import Shown, place

Order = Literal["big", "little"]
Values = Mapping[Point, float]

FACTORS = (0.1, 10.0, 0.01, 100.0, 0.001, 1000.0)
TINY = 1e-6  # a single float below it, but not 0, is the bits of something else
SHARE = 0.05  # of rated power: less is no power to judge a sign by
SIMILAR = (0.6, 1.6)  # power over V x I: losses, and not read at one instant
NAMEPLATE_SHARE = 0.05
ENERGY_SHARE = 0.3  # the capacity a device tells shrinks with its health
UNBOUNDED = (-math.inf, math.inf)
# What no such device shows, whatever its profile allows.
ANYWHERE: dict[Point, tuple[float, float]] = {
    Point.SOC_PCT: (0.0, 100.0),
    Point.BMS_SOC_PCT: (0.0, 100.0),
    Point.INVERTER_SOC_PCT: (0.0, 100.0),
    Point.SOH_PCT: (0.0, 120.0),
    Point.VOLTAGE_V: (0.0, 2000.0),
    Point.TEMPERATURE_C: (-50.0, 150.0),
    Point.POWER_FACTOR: (-1.0, 1.0),
    Point.ENERGY_CAPACITY_KWH: (0.0, 1e6),
    Point.RATED_POWER_KW: (0.0, 1e5),
}
POWERS = {Point.POWER_KW, Point.REACTIVE_KVAR, Point.INVERTER_KW, Point.INVERTER_KVAR}
FREQUENCIES = {Point.FREQUENCY_HZ, Point.INVERTER_HZ}
# Raw values that makers use for `no value`, by type.
SENTINELS: dict[Kind, frozenset[int]] = {
    Kind.U16: frozenset({0xFFFF, 0x8000}),
    Kind.I16: frozenset({0x8000, 0x7FFF}),
    Kind.U32: frozenset({0xFFFFFFFF, 0x80000000}),
    Kind.I32: frozenset({0x80000000, 0x7FFFFFFF}),
    Kind.U64: frozenset({0xFFFFFFFFFFFFFFFF, 0x8000000000000000}),
    Kind.I64: frozenset({0x8000000000000000, 0x7FFFFFFFFFFFFFFF}),
}
COUNTED = {Point.HEARTBEAT, Point.CYCLES, Point.COMMAND_TIMEOUT_S}  # may hold any count


@dataclass(frozen=True, slots=True)
class Expected:
    """What the configuration says of the place a device stands in. kW, kWh; inf: not known."""

    power_max_kw: float = math.inf  # more than this is no power of this place
    rated_kw: float = math.inf
    energy_kwh: float = math.inf
    modules: int = 1
    low_hz: float = 45.0
    high_hz: float = 55.0
    ratio: float = 1.0  # of a meter's outer transformers


def values_of(profile: DeviceProfile, shown: Shown, expected: Expected) -> dict[Point, float]:
    """Every value that is a number, per module where the profile gives the whole unit's current."""
    found: dict[Point, float] = {}
    for point, registers in shown.registers.items():
        value = decoder(profile.points[point])(registers)
        if value is not None and math.isfinite(value):
            whole = point is Point.CURRENT_A and profile.dc_total
            found[point] = value / expected.modules if whole else value
            if point in POWERS:
                found[point] *= expected.ratio
    return found


def believable(point: Point, spec: PointSpec, value: float | None, expected: Expected) -> bool:
    """Whether the value is within the profile's range and what such a place can show."""
    if value is None or not math.isfinite(value):
        return False
    if spec.type is Kind.F32 and 0.0 < abs(value) < TINY:
        return False
    low, high = ANYWHERE.get(point, UNBOUNDED)
    if point in POWERS:
        low, high = -expected.power_max_kw, expected.power_max_kw
    elif point in FREQUENCIES:
        low, high = expected.low_hz, expected.high_hz
    low = max(low, spec.low if spec.low is not None else -math.inf)
    high = min(high, spec.high if spec.high is not None else math.inf)
    return low <= value <= high


def doubts(profile: DeviceProfile, shown: Shown, expected: Expected) -> Iterator[Remark]:
    """What is not believable, with the order or the scale that would make it so."""
    bad: dict[Point, float] = {}
    missing: list[Point] = []
    hidden: dict[Point, str] = {}
    for point, registers in shown.registers.items():
        spec = profile.points[point]
        value = decoder(spec)(registers)
        if value is None:
            missing.append(point)
        elif _like_sentinel(point, spec, registers):
            hidden[point] = "".join(f"{word:04X}" for word in registers)
        elif not believable(point, spec, value, expected) or _shifted(spec, registers):
            bad[point] = value
    yield from _sentinels(missing, hidden)
    reordered = _reordered(profile, shown, expected, bad)
    yield from _order_remarks(reordered, bad, profile, shown)
    left = {point: value for point, value in bad.items() if point not in reordered}
    for point, value in left.items():
        yield _out_of_range(point, profile.points[point], value, expected)
    if not bad and not hidden:
        yield fine("values", f"{len(shown.registers) - len(missing)} values, all plausible")


def sign_and_size(values: Values, expected: Expected) -> Iterator[Remark]:
    """Power against V x I of the DC side, and against the setpoint the device holds."""
    power_kw = values.get(Point.POWER_KW)
    volts, amperes = values.get(Point.VOLTAGE_V), values.get(Point.CURRENT_A)
    least_kw = SHARE * expected.rated_kw
    if power_kw is None:
        return
    if volts is not None and amperes is not None:
        dc_kw = volts * amperes * expected.modules / 1000.0
        if max(abs(power_kw), abs(dc_kw)) < least_kw:
            text = f"{power_kw:+.1f} kW now: too little to see the sign; `vppd commission` will"
            yield fine("sign", text)
        else:
            yield _compared(power_kw, dc_kw, expected)
    setpoint_kw = values.get(Point.SETPOINT_KW)
    if setpoint_kw is not None and min(abs(setpoint_kw), abs(power_kw)) >= least_kw:
        told = f"power {power_kw:+.1f} kW, setpoint in the device {setpoint_kw:+.1f} kW"
        if setpoint_kw * power_kw < 0.0:
            yield odd("sign", f"{told}: the signs differ", "look at both signs in the profile")
        else:
            yield fine("sign", told)


def nameplate(values: Values, expected: Expected) -> Iterator[Remark]:
    """What the device says it is, against field.yaml."""
    rated_kw = values.get(Point.RATED_POWER_KW)
    if rated_kw is not None and rated_kw > 0.0 and math.isfinite(expected.rated_kw):
        yield _nameplate("rated_power_kw", rated_kw, expected.rated_kw, "kW", NAMEPLATE_SHARE)
    energy_kwh = values.get(Point.ENERGY_CAPACITY_KWH)
    if energy_kwh is not None and energy_kwh > 0.0 and math.isfinite(expected.energy_kwh):
        yield _nameplate("energy_kwh", energy_kwh, expected.energy_kwh, "kWh", ENERGY_SHARE)


def power_of_ten(ratio: float, tolerance_share: float) -> float | None:
    """10, 100, 1000, 0.1 ... where the ratio is near one of them, else None."""
    for factor in FACTORS:
        if abs(ratio / factor - 1.0) <= tolerance_share:
            return factor
    return None


# ---- inside ----------------------------------------------------------------------------------


def _whole(spec: PointSpec, registers: tuple[int, ...]) -> int:
    start = spec.address - place(spec).address
    own = registers[start : start + register_count(spec)]
    words = own if spec.word_order == "big" else own[::-1]
    end = "<" if spec.byte_order == "little" else ">"
    return int.from_bytes(struct.pack(f"{end}{len(words)}H", *words))


def _like_sentinel(point: Point, spec: PointSpec, registers: tuple[int, ...]) -> bool:
    if point in COUNTED or spec.type is Kind.STRING:
        return False
    return _whole(spec, registers) in SENTINELS.get(spec.type, frozenset())


def _shifted(spec: PointSpec, registers: tuple[int, ...]) -> bool:
    """Two words whose lower is 0 and upper is not: with no range to say so, likely swapped."""
    ranged = spec.low is not None and spec.high is not None
    wide = spec.type in (Kind.U32, Kind.I32) and not ranged
    return wide and not _whole(spec, registers) & 0xFFFF and any(registers)


def _sentinels(missing: list[Point], hidden: Mapping[Point, str]) -> Iterator[Remark]:
    if missing:
        text = f"{', '.join(missing)}: the device says `not available`"
        yield odd("sentinel", text, "find out on the device why, or leave the points out")
    for point, raw in hidden.items():
        remedy = f"if it means `no value`: not_available: [0x{raw}] in the profile"
        yield odd("sentinel", f"{point}: raw 0x{raw} is how makers say `no value`", remedy)


def _reordered(
    profile: DeviceProfile, shown: Shown, expected: Expected, bad: Mapping[Point, float]
) -> dict[Point, tuple[Order, Order]]:
    """The points that another order of words and bytes makes believable, with that order.

    One register reads plausibly in many ways, so its bytes are only blamed with all its fellows.
    """
    found: dict[Point, tuple[Order, Order]] = {}
    for word, byte in ((True, False), (False, True), (True, True)):
        fits = {
            point: order
            for point in bad
            if point not in found
            and (order := _fits(profile.points[point], point, shown, expected, word, byte))
        }
        narrow = {point for point in fits if register_count(profile.points[point]) == 1}
        if len(narrow) < max(2, len(bad)):
            fits = {point: order for point, order in fits.items() if point not in narrow}
        found |= fits
    return found


def _fits(
    spec: PointSpec, point: Point, shown: Shown, expected: Expected, word: bool, byte: bool
) -> tuple[Order, Order] | None:
    if spec.type is Kind.STRING or (word and register_count(spec) == 1):
        return None
    order = (_other(spec.word_order, word), _other(spec.byte_order, byte))
    turned = replace(spec, word_order=order[0], byte_order=order[1])
    registers = shown.registers[point]
    value = decoder(turned)(registers)
    good = believable(point, turned, value, expected) and not _shifted(turned, registers)
    return order if good else None


def _other(order: Order, turn: bool) -> Order:
    if not turn:
        return order
    return "little" if order == "big" else "big"


def _order_remarks(
    reordered: Mapping[Point, tuple[Order, Order]],
    bad: Mapping[Point, float],
    profile: DeviceProfile,
    shown: Shown,
) -> Iterator[Remark]:
    for order in dict.fromkeys(reordered.values()):
        word, byte = order
        points = [point for point, each in reordered.items() if each == order]
        first = points[0]
        spec = profile.points[first]
        turned = replace(spec, word_order=word, byte_order=byte)
        would = decoder(turned)(shown.registers[first])
        changed = [f"word_order: {word}"] if word != spec.word_order else []
        changed += [f"byte_order: {byte}"] if byte != spec.byte_order else []
        what = "word order" if word != spec.word_order else "byte order"
        text = f"{', '.join(points)}: {first} reads {bad[first]:g}; {' and '.join(changed)}"
        yield wrong(what, f"{text} makes it {would:g}", f"{', '.join(changed)} in the profile")


def _out_of_range(point: Point, spec: PointSpec, value: float, expected: Expected) -> Remark:
    for factor in FACTORS:
        if value and believable(point, spec, value * factor, expected):
            text = f"{point} reads {value:g}; {value * factor:g} would be plausible"
            return wrong("scale", text, f"is its scale {_times(1.0 / factor)}? look at the profile")
    text = f"{point} reads {value:g}, which no such device shows"
    return wrong("value", text, "wrong register, wrong type, or the wrong device")


def _times(factor: float) -> str:
    return f"{factor:g} times too large" if factor > 1.0 else f"{1.0 / factor:g} times too small"


def _compared(power_kw: float, dc_kw: float, expected: Expected) -> Remark:
    told = f"power {power_kw:+.1f} kW, V x I x {expected.modules} modules {dc_kw:+.1f} kW"
    if min(abs(power_kw), abs(dc_kw)) < SHARE * max(abs(power_kw), abs(dc_kw)):
        ratio = math.inf
    else:
        ratio = power_kw / dc_kw
    if ratio < 0.0:
        return wrong("sign", told, "power_kw.sign or current_a.sign in the profile is inverted")
    if SIMILAR[0] <= ratio <= SIMILAR[1]:
        return fine("sign", told)
    if (factor := power_of_ten(ratio, 0.5)) is not None:
        remedy = f"power_kw seems {_times(factor)}, or current_a or voltage_v the reverse"
        return wrong("scale", told, remedy)
    return odd("scale", told, "is modules_parallel right, or dc_total in the profile?")


def _nameplate(key: str, value: float, bound: float, unit: str, tolerance_share: float) -> Remark:
    text = f"the device says {value:g} {unit}, field.yaml {bound:g} {unit}"
    ratio = value / bound
    if abs(ratio - 1.0) <= tolerance_share:
        return fine(key, text)
    if (factor := power_of_ten(ratio, tolerance_share)) is not None:
        remedy = f"the device's value is {_times(factor)}: its scale in the profile, or {key}"
        return wrong("scale", f"{key}: {text}", remedy)
    if ratio < 1.0:
        return wrong(key, text, f"{key} in field.yaml is more than the device has")
    return odd(key, text, f"meant? then leave it; else correct {key} in field.yaml")
