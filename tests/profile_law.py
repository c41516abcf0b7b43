"""The law for device profiles: what each has to say, and an encoder that knows nothing of ours.

Used for the shipped library and for anybody's own files alike. A device is played by registers made
here from values, with struct and fractions; what the driver says of them must be those values.
"""

import math
import random
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from tests.modbus_device import FakeDevice, Rig, Server, unit_settings, until
from vppd.core.asset import read_backs
from vppd.core.model import Point, Quality
from vppd.core.ports import Clock
from vppd.core.profile import DeviceProfile, Group, Kind, PointSpec, Table, WriteSpec
from vppd.field.blocks import plan, source
from vppd.field.decode import decoder, encode

OURS = {"vpp-bess", "vpp-bess-v2"}  # driven, and proven: the only ones that may be written
MODULES = 23  # of the unit in the rig
FORMATS = dict(
    zip(
        (Kind.U16, Kind.I16, Kind.BITS, Kind.U32, Kind.I32, Kind.U64, Kind.I64),
        "HhHIiQq",
        strict=True,
    )
) | {Kind.F32: "f"}
SIGNED = {Kind.I16, Kind.I32, Kind.I64, Kind.F32}
BOUNDED = {"kw", "kvar", "kva", "kwh", "a", "v", "pct", "c", "hz"}
DIRECTED = {
    *(Point.POWER_KW, Point.REACTIVE_KVAR, Point.CURRENT_A, Point.PACK_A, Point.INVERTER_KW),
    *(Point.INVERTER_KVAR, Point.INVERTER_DC_KW, Point.INVERTER_DC_A),
}
POWERS = ("kw", "kvar", "kva")
# by the last word of a name: the finest and the coarsest step of an integer register
STEPS = dict.fromkeys(("a", "v", "pct", "c"), (1e-3, 1.0)) | dict.fromkeys(POWERS, (1e-6, 0.1))
STEPS |= {"kwh": (1e-5, 100.0), "hz": (1e-4, 0.1)}
# and the widest range that a device of the field can mean
WIDEST = dict.fromkeys(("a", "v"), (-1e5, 1e5)) | dict.fromkeys(POWERS, (-1e6, 1e6))
WIDEST |= {"kwh": (0.0, 1e12), "pct": (0.0, 100.0), "c": (-60.0, 200.0), "hz": (40.0, 75.0)}
REVISION = re.compile(r"\brev(\.|ision)|\bversion\b|\bV\d|\bdocument [A-Z]?\d|\d\d/\d{4}")
URL = re.compile(r"https?://\S+\.\S+/")
DIRECTION = re.compile(r"positive|is drawn")


def breaches(profile: DeviceProfile, text: str) -> list[str]:
    """All that the profile, of this YAML text, breaks; empty where it keeps the law."""
    library = profile.name not in OURS
    found = [*_bounds(profile), *_steps(profile), *_reads(profile), *_writes(profile)]
    found += [*_examples(profile), *_overlaps(profile)]
    return found + (list(_papers(profile, text)) if library else [])


def _papers(profile: DeviceProfile, text: str) -> Iterator[str]:
    if not profile.read_only:
        yield "read_only: true until it is proven on a site"
    if not REVISION.search(profile.source):
        yield "source: no revision, version or date of the document"
    if not URL.search(profile.source):
        yield "source: not where it was read"
    if not re.search(r"\b(page|pages|section|sections|registers|lines)\b", profile.source):
        yield "source: no page or section"
    if not profile.firmware:
        yield "firmware: nothing of what the document documents"
    if not profile.examples:
        yield "examples: none typed from the document"
    yield from (f"{point}: no page" for point, spec in profile.points.items() if not spec.page)
    yield from (f"writes {name}: no page" for name, spec in profile.writes.items() if not spec.page)
    yield from (f"example of {each.point}: no page" for each in profile.examples if not each.page)
    if DIRECTED & profile.points.keys() and not DIRECTION.search(re.sub(r"[\s#]+", " ", text)):
        yield "nothing says which way the device counts as positive"


def _bounds(profile: DeviceProfile) -> Iterator[str]:
    shown = read_backs(profile)  # these are bounded by what is written
    for point, spec in profile.points.items():
        unit = point.rsplit("_", 1)[-1]
        if unit not in BOUNDED or point in shown:
            continue
        if spec.low is None or spec.high is None:
            yield f"{point}: low and high must be declared"
            continue
        least, most = WIDEST[unit]
        if not least <= spec.low < spec.high <= most:
            yield f"{point}: {spec.low:g} to {spec.high:g} is not within {least:g} to {most:g}"
        if point in DIRECTED and not (spec.type in SIGNED and spec.low < 0.0 < spec.high):
            yield f"{point}: it has two directions, so a signed type and a range around 0"


def _steps(profile: DeviceProfile) -> Iterator[str]:
    for point, spec in profile.points.items():
        unit = point.rsplit("_", 1)[-1]
        if unit not in BOUNDED or spec.scale_register is not None:
            continue
        finest, coarsest = STEPS[unit]
        if spec.type is Kind.F32:
            if spec.scale not in {0.001, 1.0, 1000.0}:
                yield f"{point}: a float is in the unit, a thousandth or a thousand of it"
        elif not finest <= abs(spec.scale) <= coarsest:
            yield f"{point}: steps of {spec.scale:g}, expected {finest:g} to {coarsest:g}"
        elif spec.type in FORMATS and spec.high is not None and spec.high > _reach(spec):
            yield f"{point}: high is beyond the {_reach(spec):g} that the register can say"


def _reach(spec: PointSpec) -> float:
    bits = 8 * struct.calcsize(f">{FORMATS[spec.type]}") - (spec.type in SIGNED)
    return abs(spec.scale) * 2.0**bits + abs(spec.offset)


def _reads(profile: DeviceProfile) -> Iterator[str]:
    for group in Group:
        wanted = [source(spec).block for spec in profile.points.values() if spec.group is group]
        try:
            blocks = plan(wanted, profile.max_block, profile.max_gap)
        except ValueError as error:
            yield f"{group}: {error}"
            continue
        if any(block.count > profile.max_block or block.end > 0x10000 for block in blocks):
            yield f"{group}: {blocks} does not fit"
        if not all(any(block.holds(each) for block in blocks) for each in wanted):
            yield f"{group}: not every point is read"


def _writes(profile: DeviceProfile) -> Iterator[str]:
    for name, spec in profile.writes.items():
        for value in (spec.low, spec.high):
            step = abs(spec.scale)
            told = _told(spec, encode(spec, value))
            if not (abs(told) <= abs(value) * (1 + 1e-6) and abs(told - value) < step * (1 + 1e-6)):
                yield f"writes {name}: {value:g} would be told as {told:g}"


def _told(spec: WriteSpec, registers: tuple[int, ...]) -> float:
    """What these registers say to the device, in our unit and sign."""
    words = registers if spec.word_order == "big" else registers[::-1]
    octets = b"".join(word.to_bytes(2, spec.byte_order) for word in words)
    return float(spec.sign * struct.unpack(f">{FORMATS[spec.type]}", octets)[0] * spec.scale)


def _examples(profile: DeviceProfile) -> Iterator[str]:
    for each in profile.examples:
        spec = profile.points.get(each.point)
        if spec is None:
            yield f"example of {each.point}: no such point"
            continue
        block, registers = source(spec).block, each.registers
        if spec.scale_register is not None:
            held = dict(zip(range(spec.address, 0x10000), registers, strict=False))
            held[spec.scale_register] = each.exponent & 0xFFFF
            registers = tuple(held.get(at, 0) for at in range(block.address, block.end))
        value = decoder(spec)(registers) if len(registers) == block.count else None
        if value is None or not math.isclose(value, each.value, rel_tol=1e-6, abs_tol=1e-9):
            yield f"example of {each.point}: {value}, the document says {each.value:g}"


def _overlaps(profile: DeviceProfile) -> Iterator[str]:
    taken: dict[tuple[Table, int], Point] = {}
    for point, spec in profile.points.items():
        for at in range(spec.address, spec.address + size_of(spec)):
            other = taken.setdefault((spec.table, at), point)
            if other is not point:
                yield f"{point}: register {at} is also {other}"


# ---- the encoder ------------------------------------------------------------------------------


def size_of(spec: PointSpec) -> int:
    """The registers of one number, counted from its format."""
    return spec.length if spec.type is Kind.STRING else struct.calcsize(FORMATS[spec.type]) // 2


def words_of(spec: PointSpec, raw: float) -> list[int]:
    """The registers as the device sends a raw count, in order of address."""
    octets = struct.pack(f">{FORMATS[spec.type]}", raw)
    words = [
        int.from_bytes(octets[at : at + 2], spec.byte_order) for at in range(0, len(octets), 2)
    ]
    return words if spec.word_order == "big" else words[::-1]


def meaning(spec: PointSpec, raw: float, exponent: int = 0) -> float | None:
    """What a raw count means in our unit and sign, or None where it means: no value."""
    bits = int.from_bytes(struct.pack(f">{FORMATS[spec.type]}", raw))
    if any((bits - missing) % 2 ** (16 * size_of(spec)) == 0 for missing in spec.not_available):
        return None
    factor = Fraction(str(spec.scale)) * Fraction(10) ** exponent
    return float(spec.sign * (Fraction(raw) * factor + Fraction(str(spec.offset))))


def near(spec: PointSpec, seen: float, told: float) -> bool:
    """Equal but for the rounding of a float, of which an offset may leave more."""
    return math.isclose(seen, told, rel_tol=1e-9, abs_tol=1e-9 * (abs(spec.offset) + 1e-3))


@dataclass(slots=True)
class Image:
    """The registers of one device, and what each point of them means."""

    words: dict[tuple[Table, int], int] = field(default_factory=dict)
    meanings: dict[Point, float | None] = field(default_factory=dict)

    def put(self, point: Point, spec: PointSpec, raw: float, exponent: int = 0) -> None:
        """A device that counts `raw` for this point."""
        for at, word in enumerate(words_of(spec, raw), spec.address):
            self.words[spec.table, at] = word
        if spec.scale_register is not None:
            self.words[spec.table, spec.scale_register] = exponent & 0xFFFF
            between = sorted((spec.address, spec.scale_register))
            for at in range(*between):  # a device has what lies between a value and its exponent
                self.words.setdefault((spec.table, at), 0xA5A5)
        self.meanings[point] = meaning(spec, raw, exponent)

    def device(self, *, zeros: bool) -> FakeDevice:
        """It answers holes with zeros, or refuses them."""
        inputs, holding, bits = (
            {at: word for (table, at), word in self.words.items() if table in tables}
            for tables in (
                {Table.INPUT},
                {Table.HOLDING},
                {Table.COIL, Table.DISCRETE_INPUT},
            )
        )
        return FakeDevice(inputs=inputs, holding=holding, bits=bits, zeros=zeros)


def image_of(profile: DeviceProfile, chance: random.Random) -> Image:
    """A device of this model with plausible values that somebody rolled."""
    image = Image()
    exponents: dict[int, int] = {}
    for point, spec in profile.points.items():
        exponent = 0
        if spec.scale_register is not None:
            exponent = exponents.setdefault(spec.scale_register, chance.randint(-3, 3))
        raw = _rolled(spec, exponent, chance)
        while meaning(spec, raw, exponent) is None:
            raw = _rolled(spec, exponent, chance)
        image.put(point, spec, raw, exponent)
    return image


def _rolled(spec: PointSpec, exponent: int, chance: random.Random) -> float:
    """A raw count whose value lies inside the plausible range."""
    if spec.table in {Table.COIL, Table.DISCRETE_INPUT}:
        return chance.randint(0, 1)
    factor = spec.scale * 10.0**exponent
    low, high = spec.low, spec.high
    if low is None or high is None:
        low, high = (-100.0, 100.0) if spec.type in SIGNED else (0.0, 100.0 * factor)
    value = chance.uniform(low, high)
    number = (spec.sign * value - spec.offset) / factor
    if spec.type is Kind.F32:
        return float(struct.unpack(">f", struct.pack(">f", number * (1.0 - 1e-6)))[0])
    bits = 8 * struct.calcsize(f">{FORMATS[spec.type]}")
    least = -(1 << bits - 1) if spec.type in SIGNED else 0
    return min(max(math.trunc(number), least), least + (1 << bits) - 1)


# ---- over the wire ------------------------------------------------------------------------------


async def read_over_the_wire(
    profile: DeviceProfile, image: Image, clock: Clock, *, zeros: bool
) -> Mapping[Point, tuple[float, Quality]]:
    """What the real link and poller publish of a device of this image, behind a real server."""
    device = image.device(zeros=zeros)
    server = Server(clock, {1: device})
    await server.start()
    rig = Rig(clock, [unit_settings("U1", server.host, server.port)], profile)
    async with rig.running():
        await until(_all_seen(rig, set(profile.points)), clock)
    server.stop()
    assert all(asked.size <= profile.max_block for asked in device.reads())
    assert not device.writes()
    return {each.point: (each.value, each.quality) for each in rig.readings}


def _all_seen(rig: Rig, points: set[Point]) -> Callable[[], bool]:
    return lambda: points <= {each.point for each in rig.readings}


def disagreements(
    profile: DeviceProfile, image: Image, seen: Mapping[Point, tuple[float, Quality]]
) -> list[str]:
    """Every point that says anything but what its registers mean."""
    found = []
    for point, spec in profile.points.items():
        told, (value, quality) = image.meanings[point], seen[point]
        if told is None:
            right = quality is Quality.MISSING
        else:
            share = MODULES if point is Point.CURRENT_A and profile.dc_total else 1
            right = quality is Quality.GOOD and near(spec, value, told / share)
        if not right:
            found.append(f"{point}: {value!r} ({quality}), but its registers mean {told!r}")
    return found
