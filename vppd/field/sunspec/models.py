"""SunSpec model chains and the definitions of their models. Pure but for reading the definitions,
which pysunspec2 ships as JSON.

A search is a generator: it yields the one request it wants next and is sent the registers, or None
where the device refused. So the same search runs over a line, over an image, or over garbage; it
ends after a bounded number of requests whatever it is sent, and raises nothing.
"""

import json
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from typing import Any, TypeVar

from vppd.core.profile import Kind, PointSpec, Table
from vppd.field.decode import decoder, exponent, register_count

T = TypeVar("T")

BASES = (40000, 0, 50000)  # where the marker may stand; the commonest first
MARKER = (0x5375, 0x6E53)  # "SunS"
END = 0xFFFF
COMMON = 1
REGISTERS = 0x10000
READ_MAX = 120  # registers in one read of a search
MODELS_MAX = 200
# Models whose values are used; any other is passed over by its length.
USED = frozenset(
    {COMMON, 101, 102, 103, 111, 112, 113, 120, 121, 122, 123, 124, 160}
    | {701, 702, 703, 704, 713, 714, 715, 802, 803, 804, 805}
)
CURVES = frozenset({705, 706, 711, 712})  # read when asked for
KNOWN = USED | CURVES

NOTHING: Mapping[int, int] = {}
_NAN = (0x7FC00000,)  # and with it every other
# SunSpec type: ours, and the raw values that mean "not implemented".
_TYPES: Mapping[str, tuple[Kind, tuple[int, ...]]] = {
    "int16": (Kind.I16, (0x8000,)),
    "sunssf": (Kind.I16, (0x8000,)),
    **dict.fromkeys(("uint16", "enum16", "bitfield16", "count"), (Kind.U16, (0xFFFF,))),
    "acc16": (Kind.U16, (0,)),
    "int32": (Kind.I32, (0x80000000,)),
    **dict.fromkeys(("uint32", "enum32", "bitfield32"), (Kind.U32, (0xFFFFFFFF,))),
    "acc32": (Kind.U32, (0,)),
    "int64": (Kind.I64, (0x8000000000000000,)),
    "uint64": (Kind.U64, (0xFFFFFFFFFFFFFFFF,)),
    "acc64": (Kind.U64, (0,)),
    "float32": (Kind.F32, _NAN),
}


# ---- what a search asks -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Read:
    """Holding registers to be read in one request."""

    address: int
    count: int


@dataclass(frozen=True, slots=True)
class Write:
    """Holding registers to be written in one request."""

    address: int
    registers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Pause:
    """Go on after so long."""

    wait_s: float


Ask = Read | Write | Pause
Turns = Generator[Ask, Sequence[int] | None, T]


# ---- definitions ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Field:
    """One point of a model: its place from the start of its group, and its type."""

    name: str
    offset: int
    size: int
    type: str
    scale: str | int | None = None  # the point that holds its exponent, or the exponent itself


@dataclass(frozen=True, slots=True)
class Definition:
    """A model, or a group of points in it that repeats."""

    name: str
    fields: Mapping[str, Field]
    size: int  # without the groups that repeat
    groups: tuple["Definition", ...] = ()


@lru_cache
def definition(model: int) -> Definition:
    """The definition of a model. Raises LookupError for one that SunSpec does not know."""
    path = files("sunspec2") / "models" / "json" / f"model_{model}.json"
    if not path.is_file():
        raise LookupError(f"no SunSpec model {model}")
    return _group(json.loads(path.read_text(encoding="utf-8"))["group"])


def _group(raw: Mapping[str, Any]) -> Definition:
    fields: dict[str, Field] = {}
    groups: list[Definition] = []
    size = 0
    for point in raw["points"]:
        fields[point["name"]] = Field(
            point["name"], size, point["size"], point["type"], point.get("sf")
        )
        size += point["size"]
    for inner in raw.get("groups", ()):
        part = _group(inner)
        if inner.get("count") is not None:
            groups.append(part)
            continue
        for each in part.fields.values():  # a group that stands once is part of the model
            name = f"{part.name}.{each.name}"
            fields[name] = Field(name, size + each.offset, each.size, each.type, each.scale)
        size += part.size
    return Definition(raw["name"], fields, size, tuple(groups))


# ---- a model of a device ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Heading:
    """Where a model stands. `address` is that of its id; `length` counts from after the length."""

    id: int
    address: int
    length: int


@dataclass(frozen=True, slots=True)
class Model:
    """One model as it was read: the registers from its id on, as many as are used."""

    id: int
    address: int
    length: int
    registers: tuple[int, ...]

    def has(self, name: str, group: str = "") -> bool:
        """Whether the device implements a point, its exponent included."""
        return self.value(name, group) is not None

    def value(self, name: str, group: str = "") -> float | None:
        """What a point says in the unit of its definition, or None."""
        spec = self.spec(name, group=group)
        if spec is None:
            return None
        first, last = spec.address, spec.address + register_count(spec)
        if spec.scale_register is not None:
            first, last = min(first, spec.scale_register), max(last, spec.scale_register + 1)
        words = self.registers[first - self.address : last - self.address]
        return decoder(spec)(words) if len(words) == last - first else None

    def raw(self, name: str) -> tuple[int, ...]:
        """The registers of a point of the fixed part, as they were read."""
        point = definition(self.id).fields[name]
        return self.registers[point.offset : point.offset + point.size]

    def text(self, name: str) -> str:
        """A string, without what cannot be printed."""
        octets = b"".join(word.to_bytes(2) for word in self.raw(name)).split(b"\0", 1)[0]
        return "".join(each for each in octets.decode("utf-8", "replace") if each.isprintable())

    def tens(self, name: str) -> int | None:
        """The exponent that a point is scaled by; 0 where it has none, None where it is invalid."""
        scale = definition(self.id).fields[name].scale
        if isinstance(scale, str):
            return exponent(self.raw(scale)[0]) if self.raw(scale) else None
        return scale or 0

    def at(self, name: str) -> int:
        """The address of a point of the fixed part."""
        return self.address + definition(self.id).fields[name].offset

    def spec(self, name: str, scale: float = 1.0, group: str = "", **more: Any) -> PointSpec | None:
        """How a point is read, in its unit times `scale`; of the first of a `group` that repeats.
        None where the model has no such number."""
        fixed = definition(self.id)
        start, points = self.address, fixed.fields
        if group:
            part = next((each for each in fixed.groups if each.name == group), None)
            start, points = self.address + fixed.size, part.fields if part is not None else {}
        point = points.get(name)
        if point is None or point.type not in _TYPES or start + point.offset >= REGISTERS:
            return None
        kind, missing = _TYPES[point.type]
        factor, register = scale, None
        if isinstance(point.scale, str):
            register = self.address + fixed.fields[point.scale].offset
        elif point.scale:
            factor = float(f"{scale}e{point.scale}")
        return PointSpec(
            table=Table.HOLDING,
            address=start + point.offset,
            type=kind,
            scale=factor,
            scale_register=register,
            not_available=missing,
            page=f"model {self.id} {name}",
            **more,
        )


Models = Mapping[int, Model]


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found; `base` None: no SunSpec device. `notes` are for a person."""

    base: int | None
    headings: tuple[Heading, ...] = ()
    models: Models = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def identity(self) -> tuple[int, ...]:
        """What tells this device from another: the registers of its common model."""
        common = self.models.get(COMMON)
        return common.registers if common is not None else ()


# ---- searches ---------------------------------------------------------------------------------


def discover(bases: Iterable[int] = BASES) -> Turns[Found]:
    """Find the marker, walk the chain, read the models that are used."""
    bases = tuple(bases)
    for base in bases:
        if tuple((yield Read(base, len(MARKER))) or ()) == MARKER:
            break
    else:
        return Found(None, notes=(f"no SunSpec marker at {', '.join(map(str, bases))}",))
    notes: list[str] = []
    headings = yield from chain(base, notes)
    models: dict[int, Model] = {}
    for heading in headings:
        if heading.id in KNOWN and heading.id not in models:
            model = yield from _image(heading, notes)
            if model is not None:
                models[heading.id] = model
    return Found(base, headings, models, tuple(notes))


def unchanged(found: Found, relied: Mapping[int, int] = NOTHING) -> Turns[bool]:
    """A cheap look whether the device is still what it was: marker, common model, headings, and
    the registers that its writes rely on, by address."""
    if found.base is None:
        return False
    words = MARKER + found.identity
    if tuple((yield Read(found.base, len(words))) or ()) != words:
        return False
    for heading in found.headings:
        if heading.id in found.models and heading.id != COMMON:
            here = yield Read(heading.address, 2)
            if here is None or tuple(here) != (heading.id, heading.length):
                return False
    for address, word in relied.items():
        if tuple((yield Read(address, 1)) or ()) != (word,):
            return False
    return True


def chain(base: int, notes: list[str]) -> Turns[tuple[Heading, ...]]:
    """Every model after the marker; why the chain ended otherwise than by its end goes to notes."""
    headings: list[Heading] = []
    address = base + len(MARKER)
    while len(headings) < MODELS_MAX:
        if address + 2 > REGISTERS:
            notes.append("the chain has no end before the last register")
            return tuple(headings)
        words = yield Read(address, 2)
        if words is None:  # the end may be the last register there is
            words = (*((yield Read(address, 1)) or (0,)), 0)
        number, length = words[0], words[1]
        if number == END:
            return tuple(headings)
        if number == 0 or address + 2 + length > REGISTERS:
            notes.append(f"at {address}: no model and no end of the chain")
            return tuple(headings)
        headings.append(Heading(number, address, length))
        address += 2 + length
    notes.append(f"more than {MODELS_MAX} models")
    return tuple(headings)


def _image(heading: Heading, notes: list[str]) -> Turns[Model | None]:
    """The fixed part of a model and the first of each group in it."""
    known = definition(heading.id)
    least = known.size - 1 if heading.id == COMMON else known.size  # model 1 may lack its pad
    if heading.length + 2 < least:
        notes.append(f"model {heading.id} at {heading.address}: too short, {heading.length}")
        return None
    size = min(heading.length + 2, known.size + sum(group.size for group in known.groups))
    registers: list[int] = []
    while len(registers) < size:
        count = min(size - len(registers), READ_MAX)
        words = yield Read(heading.address + len(registers), count)
        if words is None or len(words) != count:
            notes.append(f"model {heading.id} at {heading.address}: cannot be read")
            return None
        registers.extend(words)
    return Model(heading.id, heading.address, heading.length, tuple(registers))
