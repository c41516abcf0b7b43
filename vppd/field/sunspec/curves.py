"""Autonomous curves of a SunSpec inverter: read, and written when an operator commands it. Pure:
both are searches (see `sunspec_models`) that yield one request at a time.

A new curve goes into a slot that may be written, is adopted by AdptCrvReq, and counts when the
device says COMPLETED and shows it in slot 1, where it keeps the curve in force.

Signs: V in percent of nominal, W in percent of WMax (+ out), var in percent of what the curve's
reference names (+ injected). Frequency droop (711) has two points: the deadband edge from nominal
in Hz, below negative, and K there, per unit of frequency for one per unit of power.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from vppd.field.decode import exponent
from vppd.field.sunspec.models import (
    READ_MAX,
    Definition,
    Field,
    Model,
    Models,
    Pause,
    Read,
    Turns,
    Write,
    definition,
)

IN_FORCE = 1  # the slot that shows the curve in force
COMPLETED, FAILED = 1, 2
ADOPT_TRIES, ADOPT_WAIT_S = 25, 0.2
WHOLE_PCT = 100.0
VOLTS_PCT = (50.0, 150.0)  # of nominal, where the device does not rate its voltages
DROOP_POINTS = 2
_SIGNED = {"int16", "int32"}


class CurveKind(StrEnum):
    """The curves that can be read and written."""

    VOLT_VAR = "volt_var"
    VOLT_WATT = "volt_watt"
    FREQUENCY_DROOP = "frequency_droop"
    WATT_VAR = "watt_var"


class CurveError(Exception):
    """The device cannot take or show the curve."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One curve: x and y of each point, x rising, and the units of both."""

    kind: CurveKind
    points: tuple[tuple[float, float], ...]
    units: tuple[str, str] = ("", "")
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class _Shape:
    """Where a kind of curve stands in its model."""

    model: int
    x: str
    y: str
    x_unit: str
    y_units: tuple[str, ...]  # by DeptRef
    slots: str = "NCrv"
    request: str = "AdptCrvReq"
    result: str = "AdptCrvRslt"


_VAR_UNITS = ("w_max_pct", "var_max_pct", "var_aval_pct", "va_max_pct")
_SHAPES: Mapping[CurveKind, _Shape] = {
    CurveKind.VOLT_VAR: _Shape(705, "V", "Var", "v_nom_pct", _VAR_UNITS),
    CurveKind.VOLT_WATT: _Shape(706, "V", "W", "v_nom_pct", ("w_max_pct", "w_aval_pct")),
    CurveKind.WATT_VAR: _Shape(712, "W", "Var", "w_max_pct", _VAR_UNITS),
    CurveKind.FREQUENCY_DROOP: _Shape(
        711, "Db", "K", "hz", ("pu_per_pu",), "NCtl", "AdptCtlReq", "AdptCtlRslt"
    ),
}


# ---- searches ---------------------------------------------------------------------------------


def read_curve(models: Models, kind: CurveKind) -> Turns[Curve]:
    """The curve in force. Raises CurveError."""
    bank = _Bank.of(models, kind)
    return (yield from _in_force(bank))


def write_curve(models: Models, kind: CurveKind, curve: Curve) -> Turns[Curve]:
    """Write a curve into a free slot, adopt it, and give what the device then shows.

    Raises ValueError for a curve that is wrong in itself or outside the ratings, CurveError where
    the device refuses it.
    """
    bank = _Bank.of(models, kind)
    check(models, kind, curve)
    slot = yield from _free_slot(bank)
    for write in bank.writes(slot, curve):
        yield from _write(write)
    yield from _write(Write(bank.at(bank.shape.request), (slot,)))
    yield from _adopted(bank, curve)
    on = yield from _words(Read(bank.at("Ena"), 1))
    if on[0] != int(curve.enabled):
        yield from _write(Write(bank.at("Ena"), (int(curve.enabled),)))
    return (yield from _in_force(bank))


def _in_force(bank: "_Bank") -> Turns[Curve]:
    on = yield from _words(Read(bank.at("Ena"), 1))
    words = yield from _words(Read(bank.slot(IN_FORCE), bank.stride))
    return bank.curve(words, enabled=on[0] == 1)


def _free_slot(bank: "_Bank") -> Turns[int]:
    """The first slot that may be written, the one in force only where there is no other."""
    count = bank.count(bank.shape.slots)
    for slot in (*range(IN_FORCE + 1, count + 1), IN_FORCE):
        words = yield from _words(Read(bank.slot(slot), bank.stride))
        if bank.of_slot(words, "ReadOnly") == 0:
            return int(slot)
    raise CurveError(f"model {bank.model.id}: no slot may be written")


def _adopted(bank: "_Bank", curve: Curve) -> Turns[None]:
    """Wait until the device says that it adopted the curve and shows it."""
    result = FAILED
    for _ in range(ADOPT_TRIES):
        result = (yield from _words(Read(bank.at(bank.shape.result), 1)))[0]
        if result == FAILED:
            raise CurveError(f"model {bank.model.id}: the device does not adopt the curve")
        if result == COMPLETED:
            words = yield from _words(Read(bank.slot(IN_FORCE), bank.stride))
            if bank.same(words, curve):
                return
        yield Pause(ADOPT_WAIT_S)
    told = "shows another curve" if result == COMPLETED else "is not done with it"
    raise CurveError(f"model {bank.model.id}: after {ADOPT_TRIES * ADOPT_WAIT_S:g} s it {told}")


def _words(read: Read) -> Turns[tuple[int, ...]]:
    """Read, in as many requests as it takes. Raises CurveError."""
    words: list[int] = []
    while len(words) < read.count:
        count = min(read.count - len(words), READ_MAX)
        reply = yield Read(read.address + len(words), count)
        if reply is None or len(reply) != count:
            raise CurveError(f"registers from {read.address + len(words)} cannot be read")
        words.extend(reply)
    return tuple(words)


def _write(write: Write) -> Turns[None]:
    if (yield write) is None:
        raise CurveError(f"registers from {write.address} cannot be written")


# ---- what a curve may be ----------------------------------------------------------------------


def check(models: Models, kind: CurveKind, curve: Curve) -> None:
    """Raise ValueError with what is wrong with a curve for this device."""
    bank = _Bank.of(models, kind)
    shape = bank.shape
    if curve.kind is not kind:
        raise ValueError(f"a {curve.kind} curve is no {kind} curve")
    units = curve.units
    if units != ("", "") and (units[0] != shape.x_unit or units[1] not in shape.y_units):
        raise ValueError(f"units are {shape.x_unit} and one of {', '.join(shape.y_units)}")
    if not all(math.isfinite(number) for point in curve.points for number in point):
        raise ValueError("a point is not a number")
    if any(later[0] <= sooner[0] for sooner, later in pairwise(curve.points)):
        raise ValueError("x must rise from point to point")
    if kind is CurveKind.FREQUENCY_DROOP:
        _check_droop(curve)
    else:
        most = bank.count("NPt")
        if not 1 < len(curve.points) <= most:
            raise ValueError(f"{len(curve.points)} points; the device takes 2 to {most}")
        _check_range("y", [y for _, y in curve.points], (-WHOLE_PCT, WHOLE_PCT))
        volts = shape.x_unit == "v_nom_pct"
        span_pct = _rated_volts_pct(models) if volts else (-WHOLE_PCT, WHOLE_PCT)
        _check_range("x", [x for x, _ in curve.points], span_pct)
    for at in bank.writes(IN_FORCE, curve):
        del at  # raises where a value does not fit its register


def _check_droop(curve: Curve) -> None:
    if len(curve.points) != DROOP_POINTS or not curve.points[0][0] <= 0.0 <= curve.points[1][0]:
        raise ValueError("frequency droop has two points: the edge below 0 Hz and the one above")
    if min(k for _, k in curve.points) <= 0.0:
        raise ValueError("K must be above 0")


def _check_range(name: str, values: Sequence[float], span_pct: tuple[float, float]) -> None:
    low, high = span_pct
    outside = [value for value in values if not low <= value <= high]
    if outside:
        raise ValueError(f"{name} {outside[0]:g} % is outside {low:g} to {high:g} %")


def _rated_volts_pct(models: Models) -> tuple[float, float]:
    rated = models.get(702)
    nominal = rated.value("VNomRtg") if rated is not None else None
    if rated is None or not nominal:
        return VOLTS_PCT
    low, high = rated.value("VMinRtg"), rated.value("VMaxRtg")
    return (
        WHOLE_PCT * low / nominal if low else VOLTS_PCT[0],
        WHOLE_PCT * high / nominal if high else VOLTS_PCT[1],
    )


# ---- the registers ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Bank:
    """The curves of one model."""

    model: Model
    shape: _Shape
    curves: Definition

    @classmethod
    def of(cls, models: Models, kind: CurveKind) -> "_Bank":
        shape = _SHAPES[kind]
        model = models.get(shape.model)
        if model is None:
            raise CurveError(f"the device has no {kind} curve (model {shape.model})")
        bank = cls(model, shape, definition(shape.model).groups[0])
        end = model.address + 2 + model.length
        if not bank.count(shape.slots) or bank.slot(bank.count(shape.slots) + 1) > end:
            raise CurveError(f"model {shape.model}: its curves do not fit its length")
        return bank

    def at(self, name: str) -> int:
        return self.model.at(name)

    def count(self, name: str) -> int:
        """A count of the model's own: slots or points."""
        return int(self.model.value(name) or 0)

    @property
    def stride(self) -> int:
        points = self.curves.groups
        return self.curves.size + (self.count("NPt") * points[0].size if points else 0)

    def slot(self, number: int) -> int:
        return self.model.address + definition(self.model.id).size + (number - 1) * self.stride

    def of_slot(self, words: Sequence[int], name: str) -> int:
        """A point of a slot, as it stands in its registers."""
        return _unsigned(words, self.curves.fields[name])

    def tens(self, point: Field) -> int:
        """The exponent of a curve's point. Raises CurveError."""
        if point.scale is None:
            return 0
        raw = self.model.raw(str(point.scale)) if isinstance(point.scale, str) else ()
        tens = exponent(raw[0]) if raw else None
        if tens is None:
            raise CurveError(f"model {self.model.id}: {point.scale} is no exponent")
        return tens

    def curve(self, words: Sequence[int], *, enabled: bool) -> Curve:
        shape = self.shape
        if not self.curves.groups:
            below = (0.0 - self._get(words, "DbUf"), self._get(words, "KUf"))
            above = (self._get(words, "DbOf"), self._get(words, "KOf"))
            units = shape.x_unit, shape.y_units[0]
            return Curve(CurveKind.FREQUENCY_DROOP, (below, above), units, enabled)
        active = min(self.of_slot(words, "ActPt"), self.count("NPt"))
        part = self.curves.groups[0]
        rows = [words[self.curves.size + part.size * n :] for n in range(active)]
        reference = self.of_slot(words, "DeptRef")
        unit = shape.y_units[reference] if reference < len(shape.y_units) else f"ref {reference}"
        kind = next(kind for kind, each in _SHAPES.items() if each is shape)
        points = tuple(
            (self._value(row, part.fields[shape.x]), self._value(row, part.fields[shape.y]))
            for row in rows
        )
        return Curve(kind, points, (shape.x_unit, unit), enabled)

    def same(self, words: Sequence[int], curve: Curve) -> bool:
        """Whether a slot holds this curve, to the last count."""
        start = self.slot(IN_FORCE)
        return all(
            tuple(words[write.address - start :][: len(write.registers)]) == write.registers
            for write in self.writes(IN_FORCE, curve)
        )

    def writes(self, slot: int, curve: Curve) -> list[Write]:
        """The requests that put a curve into a slot. Raises ValueError where a value does not fit
        its register."""
        start = self.slot(slot)
        if not self.curves.groups:
            (below_hz, below), (above_hz, above) = curve.points
            values = {"DbOf": above_hz, "DbUf": -below_hz, "KOf": above, "KUf": below}
            words = [self._words(self.curves.fields[name], values[name]) for name in values]
            return [Write(start, tuple(word for each in words for word in each))]
        head: tuple[int, ...] = (len(curve.points),)
        if curve.units[1]:
            head = (*head, self.shape.y_units.index(curve.units[1]))
        part = self.curves.groups[0].fields
        words = [
            self._words(part[name], value)
            for point in curve.points
            for name, value in zip((self.shape.x, self.shape.y), point, strict=True)
        ]
        flat = tuple(word for each in words for word in each)
        first = start + self.curves.size
        blocks = range(0, len(flat), READ_MAX)
        return [
            Write(start, head),
            *(Write(first + at, flat[at : at + READ_MAX]) for at in blocks),
        ]

    def _get(self, words: Sequence[int], name: str) -> float:
        return self._value(words, self.curves.fields[name])

    def _value(self, words: Sequence[int], point: Field) -> float:
        count, tens = _unsigned(words, point), self.tens(point)
        if point.type in _SIGNED and count >= 1 << 16 * point.size - 1:
            count -= 1 << 16 * point.size
        return float(count * 10 ** max(tens, 0) / 10 ** max(-tens, 0))

    def _words(self, point: Field, value: float) -> tuple[int, ...]:
        tens = self.tens(point)
        count = round(value * 10 ** max(-tens, 0) / 10 ** max(tens, 0))
        span = 1 << 16 * point.size
        low, high = (1 - span // 2, span // 2 - 1) if point.type in _SIGNED else (0, span - 2)
        if not low <= count <= high:
            raise ValueError(f"{point.name} {value:g} does not fit its register")
        octets = (count % span).to_bytes(2 * point.size)
        return tuple(int.from_bytes(octets[at : at + 2]) for at in range(0, len(octets), 2))


def _unsigned(words: Sequence[int], point: Field) -> int:
    count = 0
    for word in words[point.offset : point.offset + point.size]:
        count = count << 16 | word
    return count
