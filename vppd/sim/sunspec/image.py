"""The registers of one SunSpec device: the marker, its models in their order, and the end.

Every point begins as not implemented. `show` gives points a value that is only read, `hold` one
that may be written too. Numbers are stored as the wire has them, by the exponent that stands in the
point's scale factor register; one that does not fit is held at the end of its type, short of the
number that means not implemented. A scale factor that no implemented point uses reads as not
implemented. Big-endian words.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vppd.sim.modbus_pdu import ILLEGAL_ADDRESS, ILLEGAL_VALUE, RefusedError
from vppd.sim.sunspec.table import Point

MARKER = (0x5375, 0x6E53)  # "SunS"
END = (0xFFFF, 0)
ROUNDING = 1e-9  # of an exponent's power: what binary fractions leave over

Value = float | str | None


@dataclass(frozen=True, slots=True)
class Model:
    """One model in the chain."""

    id: int
    points: tuple[Point, ...]

    @property
    def registers(self) -> int:
        """Its registers with ID and L."""
        return self.points[-1].end


@dataclass(frozen=True, slots=True)
class Slot:
    """One point where it stands."""

    model: int
    address: int
    point: Point


@dataclass(frozen=True, slots=True)
class Written:
    """One point that a write touched, with the number it had."""

    model: int
    name: str
    before: int | None


def missing(point: Point) -> tuple[int, ...]:
    """The words of a point that is not implemented."""
    return _words(point, point.type.missing)


def _words(point: Point, number: int) -> tuple[int, ...]:
    count = point.type.registers
    return tuple(number >> (16 * shift) & 0xFFFF for shift in reversed(range(count)))


def number(point: Point, words: Iterable[int]) -> int | None:
    """What the words say, unscaled; None for not implemented."""
    raw = 0
    for word in words:
        raw = raw << 16 | word
    if raw == point.type.missing:
        return None
    top = 1 << (16 * point.type.registers - 1)
    return (raw ^ top) - top if point.type.signed else raw


def scaled(raw: int, exponent: int) -> float:
    """raw x 10^exponent."""
    power: int = 10 ** abs(exponent)
    return float(raw * power) if exponent >= 0 else raw / power


def unscaled(value: float, exponent: int, point: Point) -> int:
    """The number of a value under this exponent, held at the ends of the point's type."""
    power: int = 10 ** abs(exponent)
    raw = round(value / power if exponent >= 0 else value * power)
    return min(max(raw, point.type.lowest), point.type.highest)


class Image:
    """All registers of one device from its base address on."""

    def __init__(
        self, base: int, chain: Sequence[Model], exponents: Mapping[tuple[int, str], int]
    ) -> None:
        self.base = base
        self.exponents = dict(exponents)
        self.words: list[int] = [*MARKER]
        self._slots: dict[tuple[int, str], Slot] = {}
        self._owners: list[Slot | None] = [None, None]
        self._held: set[tuple[int, str]] = set()
        for model in chain:
            self._append(model)
        self.words += END
        self._owners += [None, None]

    def _append(self, model: Model) -> None:
        for point in model.points:
            slot = Slot(model.id, self.base + len(self.words), point)
            self._slots[model.id, point.name] = slot
            self._owners += [slot] * point.type.registers
            self.words += missing(point)
        self.show(model.id, {"ID": model.id, "L": model.registers - 2})

    # what the device puts in
    def show(self, model: int, values: Mapping[str, Value]) -> None:
        """Give points values, in their units; None makes one not implemented."""
        for name, value in values.items():
            self._put(self._slots[model, name], value)

    def hold(self, model: int, values: Mapping[str, Value]) -> None:
        """The same for points that the device lets others write."""
        self.show(model, values)
        self._held.update((model, name) for name in values)

    def _put(self, slot: Slot, value: Value) -> None:
        point = slot.point
        if value is None:
            self._store(slot, missing(point))
        elif isinstance(value, str):
            size = 2 * point.type.registers
            text = value.encode()[:size].ljust(size, b"\0")
            self._store(slot, [text[at] << 8 | text[at + 1] for at in range(0, size, 2)])
        else:
            exponent = self._exponent(slot)
            if point.scale is not None:
                factor = self._slots[slot.model, point.scale]
                self._store(factor, _words(factor.point, exponent))
            self._store(slot, _words(point, unscaled(value, exponent, point)))

    def _exponent(self, slot: Slot) -> int:
        scale = slot.point.scale
        return 0 if scale is None else self.exponents.get((slot.model, scale), 0)

    def _store(self, slot: Slot, words: Sequence[int]) -> None:
        at = slot.address - self.base
        self.words[at : at + len(words)] = words

    def rescale(self, model: int, scale: str, exponent: int) -> None:
        """Another exponent for a scale factor; what is shown and held keeps its value, as far as
        the new step lets it."""
        users = [
            slot
            for slot in self._slots.values()
            if slot.model == model and slot.point.scale == scale
        ]
        values = [(slot, self.value(model, slot.point.name)) for slot in users]
        self.exponents[model, scale] = exponent
        for slot, value in values:
            if value is not None:
                self._put(slot, value)

    # what the device reads of it
    def raw(self, model: int, name: str) -> int | None:
        """The number of a point, unscaled; None for not implemented."""
        slot = self._slots[model, name]
        at = slot.address - self.base
        return number(slot.point, self.words[at : at + slot.point.type.registers])

    def value(self, model: int, name: str) -> float | None:
        """The value of a point in its unit."""
        raw = self.raw(model, name)
        return None if raw is None else scaled(raw, self._exponent(self._slots[model, name]))

    def given(self, model: int, name: str) -> float:
        """The value of a point that this device implements. Raises LookupError when it does not."""
        value = self.value(model, name)
        if value is None:
            raise LookupError(f"{model}.{name} is not implemented")
        return value

    def address(self, model: int, name: str) -> int:
        """The Modbus address of a point. Raises KeyError."""
        return self._slots[model, name].address

    def names(self, model: int, prefix: str) -> list[str]:
        """The points of a model whose names begin so, in their order."""
        return [name for of, name in self._slots if of == model and name.startswith(prefix)]

    def places(self, registers: int) -> frozenset[int]:
        """Where the points of so many registers begin."""
        slots = self._slots.values()
        return frozenset(slot.address for slot in slots if slot.point.type.registers == registers)

    # the wire
    def _span(self, address: int, count: int) -> slice:
        first = address - self.base
        if first < 0 or first + count > len(self.words):
            raise RefusedError(ILLEGAL_ADDRESS)
        return slice(first, first + count)

    def models(self, address: int, count: int) -> set[int]:
        """The models that these registers touch. Raises RefusedError."""
        owners = self._owners[self._span(address, count)]
        return {slot.model for slot in owners if slot is not None}

    def read(
        self, address: int, count: int, hidden: Iterable[tuple[int, str]] = ()
    ) -> Sequence[int]:
        """Registers; `hidden` points read as not implemented. Raises RefusedError."""
        span = self._span(address, count)
        words = self.words[span]
        for model, name in hidden:
            slot = self._slots[model, name]
            for index, word in enumerate(missing(slot.point), slot.address):
                if address <= index < address + count:
                    words[index - address] = word
        return words

    def write(self, address: int, words: Sequence[int]) -> list[Written]:
        """All or nothing: exception 2 for a register that is not there, is only read or is part of
        a point; exception 3 for a number the point may not take. A point the device does not
        implement takes the number that says so, and keeps it. Raises RefusedError."""
        span = self._span(address, len(words))
        touched = dict.fromkeys(self._owners[span])
        accepted: list[tuple[Slot, Sequence[int]]] = []
        for slot in touched:
            if slot is None or not slot.point.writable:
                raise RefusedError(ILLEGAL_ADDRESS)
            first = slot.address - address
            accepted.append((slot, self._acceptable(slot, first, words)))
        written = []
        for slot, new in accepted:
            name = slot.point.name
            written.append(Written(slot.model, name, self.raw(slot.model, name)))
            self._store(slot, new)
        return written

    def _acceptable(self, slot: Slot, first: int, words: Sequence[int]) -> Sequence[int]:
        point = slot.point
        if first < 0 or first + point.type.registers > len(words):
            raise RefusedError(ILLEGAL_ADDRESS)
        new = words[first : first + point.type.registers]
        raw = number(point, new)
        held = (slot.model, point.name) in self._held
        # a curve's unused points are held and not implemented at once: they take either
        if raw is None:
            if held and self.raw(slot.model, point.name) is not None and "[" not in point.name:
                raise RefusedError(ILLEGAL_VALUE)
            return new
        value = scaled(raw, self._exponent(slot))
        low, high = point.low, point.high
        if not held or (low is not None and value < low - ROUNDING):
            raise RefusedError(ILLEGAL_VALUE)
        if high is not None and value > high + ROUNDING:
            raise RefusedError(ILLEGAL_VALUE)
        return new
