"""How a SunSpec model is written down here, and how its registers lie: points, groups, repeats.

A table is text, one point each `offset name type [scale factor] [rw [low..high]]`, points parted by
line ends or semicolons. Offsets count from the model's ID register, as the documents print them;
in a repeating group they are those of its first member. A range is of the value in the point's
unit, for an enumeration of its numbers. Every table is checked when it is read: a point begins
where the one before it ended.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

FIRST_OFFSET = 2  # after ID and L


@dataclass(frozen=True, slots=True)
class Kind:
    """A SunSpec type: how many registers, its range, and the number that means not implemented."""

    registers: int
    signed: bool
    missing: int

    @property
    def lowest(self) -> int:
        """The least number it can carry."""
        return 1 - (1 << (16 * self.registers - 1)) if self.signed else 0

    @property
    def highest(self) -> int:
        """The greatest number it can carry, short of the one that means not implemented."""
        bits = 16 * self.registers
        if self.signed:
            return (1 << (bits - 1)) - 1
        return (1 << bits) - 1 - (1 if self.missing else 0)


KINDS = {
    "int16": Kind(1, True, 0x8000),
    "uint16": Kind(1, False, 0xFFFF),
    "count": Kind(1, False, 0xFFFF),
    "enum16": Kind(1, False, 0xFFFF),
    "bitfield16": Kind(1, False, 0xFFFF),
    "sunssf": Kind(1, True, 0x8000),
    "pad": Kind(1, True, 0x8000),
    "int32": Kind(2, True, 0x8000_0000),
    "uint32": Kind(2, False, 0xFFFF_FFFF),
    "bitfield32": Kind(2, False, 0xFFFF_FFFF),
    "acc32": Kind(2, False, 0),
    "uint64": Kind(4, False, 0xFFFF_FFFF_FFFF_FFFF),
    "acc64": Kind(4, False, 0),
    "string8": Kind(8, False, 0),
    "string16": Kind(16, False, 0),
    "string32": Kind(32, False, 0),
    "string4": Kind(4, False, 0),
}


@dataclass(frozen=True, slots=True)
class Point:
    """One point; `offset` counts from the ID register of its model."""

    offset: int
    name: str
    kind: str
    scale: str | None = None
    writable: bool = False
    low: float | None = None
    high: float | None = None

    @property
    def type(self) -> Kind:
        """Its type's registers and range."""
        return KINDS[self.kind]

    @property
    def is_text(self) -> bool:
        """Characters, not a number."""
        return self.kind.startswith("string")

    @property
    def end(self) -> int:
        """The offset behind it."""
        return self.offset + self.type.registers


@dataclass(frozen=True, slots=True)
class Group:
    """Points that repeat, and a group inside of them that repeats."""

    name: str
    points: tuple[Point, ...]
    inner: "Group | None" = None


@dataclass(frozen=True, slots=True)
class Table:
    """One model as its document prints it."""

    model: int
    points: tuple[Point, ...]
    group: Group | None = None

    def layout(self, count: int = 0, inner_count: int = 0) -> tuple[Point, ...]:
        """Every point of the model with so many groups, `ID` and `L` first; members of a group are
        named `Crv[1].Pt[2].V`, counted from 1."""
        head = (Point(0, "ID", "uint16"), Point(1, "L", "uint16"))
        repeated = _repeat(self.group, "", count, inner_count) if self.group else iter(())
        return _gapless((*head, *self.points), repeated)


def _repeat(group: Group, prefix: str, count: int, inner_count: int) -> Iterator[Point]:
    for index in range(1, count + 1):
        name = f"{prefix}{group.name}[{index}]."
        for point in group.points:
            yield replace(point, name=name + point.name)
        if group.inner is not None:
            yield from _repeat(group.inner, name, inner_count, 0)


def _gapless(fixed: tuple[Point, ...], repeated: Iterator[Point]) -> tuple[Point, ...]:
    laid = list(fixed)
    for point in repeated:
        laid.append(replace(point, offset=laid[-1].end))
    return tuple(laid)


def points(text: str, first: int = FIRST_OFFSET) -> tuple[Point, ...]:
    """Read a table's text. Raises ValueError at a hole, an overlap or a word it does not know."""
    found: list[Point] = []
    for entry in text.replace("\n", ";").split(";"):
        if not entry.strip():
            continue
        point = _point(entry.split())
        due = found[-1].end if found else first
        if point.offset != due:
            raise ValueError(f"{entry.strip()}: offset {due} is due")
        found.append(point)
    return tuple(found)


def _point(words: list[str]) -> Point:
    offset, name, kind, *rest = words
    if kind not in KINDS:
        raise ValueError(f"{name}: no type {kind}")
    scale: str | None = None
    writable, low, high = False, None, None
    for word in rest:
        if word == "rw":
            writable = True
        elif ".." in word:
            low, high = (float(end) for end in word.split(".."))
        else:
            scale = word
    return Point(int(offset), name, kind, scale, writable, low, high)
