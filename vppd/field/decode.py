"""Registers to values and back. Pure.

Reading: value = sign x (raw x scale + offset). Writing: raw = sign x value / scale, rounded towards
zero, so that what a device is told is never more than what was cleared. A scale is taken as the
decimal it was typed as (0.1 is one tenth), so 672 x 0.1 is 67.2 and compares as such. Where the
device keeps an exponent n in a register of its own, the factor is scale x 10^n.
"""

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache

from vppd.core.profile import Kind, PointSpec, WriteSpec

Decoder = Callable[[Sequence[int]], float | None]

_WORDS = {Kind.U32: 2, Kind.I32: 2, Kind.F32: 2, Kind.U64: 4, Kind.I64: 4}
_FORMAT = {Kind.U32: ">I", Kind.I32: ">i", Kind.F32: ">f", Kind.U64: ">Q", Kind.I64: ">q"}
_RANGE = {
    Kind.U16: (0, 0xFFFF),
    Kind.I16: (-0x8000, 0x7FFF),
    Kind.BITS: (0, 0xFFFF),
    Kind.U32: (0, 0xFFFFFFFF),
    Kind.I32: (-0x80000000, 0x7FFFFFFF),
}
# Closer to a whole count than this is that count: 0.3 / 0.1 is 3.
_WHOLE_SHARE = 1e-9
EXPONENTS = range(-10, 11)  # what SunSpec allows; anything else is no exponent
_LARGEST_SINGLE = (2.0 - 2.0**-23) * 2.0**127


def register_count(spec: PointSpec | WriteSpec) -> int:
    """How many registers (or bits of a bit table) the value takes."""
    if isinstance(spec, PointSpec) and spec.type is Kind.STRING:
        return spec.length
    return _WORDS.get(spec.type, 1)


def decoder(spec: PointSpec) -> Decoder:
    """A function from the registers of one point to its value.

    With a `scale_register` it takes all registers from the lower of both to the end of the higher.
    None is what the device calls not available, or an exponent that is none. A value that is no
    number comes back as it is, NaN or infinite: it is for the caller to call implausible. A string
    counts as the number it spells.
    """
    if spec.scale_register is not None:
        return _scaled_by_register(spec, spec.scale_register)
    missing = _not_available(spec)
    scaled = _scaling(spec.scale, spec.offset, spec.sign)
    if spec.type is Kind.STRING:
        return lambda registers: _spelt(_bytes(spec, registers), scaled)
    if register_count(spec) == 1:
        return _word_decoder(spec, missing, scaled)
    packing = _FORMAT[spec.type]
    no_nan = spec.type is Kind.F32 and any(math.isnan(_of_bits(raw)) for raw in missing)

    def wide(registers: Sequence[int]) -> float | None:
        raw = _bytes(spec, registers)
        if int.from_bytes(raw) in missing:
            return None
        number = struct.unpack(packing, raw)[0]
        if no_nan and math.isnan(number):  # one NaN that is listed stands for all
            return None
        return scaled(number)

    return wide


def exponent(register: int) -> int | None:
    """The power of ten in an i16 register, or None where it holds none."""
    count = register - 0x10000 if register & 0x8000 else register
    return count if count in EXPONENTS else None


def written(spec: WriteSpec, registers: Sequence[int]) -> float:
    """The value that these registers tell the device, in our unit and sign."""
    raw = _bytes(spec, registers[: register_count(spec)])
    signed = spec.type in {Kind.I16, Kind.I32}
    value = float(int.from_bytes(raw, signed=signed))
    if spec.type is Kind.F32:
        value = struct.unpack(">f", raw)[0]
    times, over = _ratio(spec.scale)
    return spec.sign * (value * times / over) + 0.0


def encode(spec: WriteSpec, value: float) -> tuple[int, ...]:
    """The registers for a value, never of greater magnitude than it; a mirror follows its value.

    Cut to the range of the profile and of the register; what is not finite is written as 0.
    Raises nothing: a cleared setpoint must always have something to write.
    """
    if not math.isfinite(value):
        value = 0.0
    value = min(max(value, spec.low), spec.high)
    times, over = _ratio(spec.scale)
    number = spec.sign * value * over / times
    if spec.type is Kind.F32:
        single = _single(number)
        registers = _ordered(spec, struct.pack(">f", single))
        return registers + _ordered(spec, struct.pack(">f", -single)) if spec.mirror else registers
    least, most = _RANGE[spec.type]
    if spec.mirror:
        least = -most  # so that its negative fits as well
    count = min(max(_towards_zero(number), least), most)
    size = 2 * register_count(spec)
    registers = _ordered(spec, count.to_bytes(size, signed=least < 0))
    if spec.mirror:
        registers += _ordered(spec, (-count).to_bytes(size, signed=True))
    return registers


def framed(spec: WriteSpec, value: float) -> tuple[int, tuple[int, ...]]:
    """Where a write of this value begins, and all registers of its one frame."""
    return spec.address - len(spec.before), (*spec.before, *encode(spec, value), *spec.after)


def framed_value(spec: WriteSpec, registers: Sequence[int]) -> float:
    """The value in the registers of such a frame, in our unit and sign."""
    return written(spec, registers[len(spec.before) :])


def check_writable(spec: WriteSpec) -> None:
    """Raise ValueError for what cannot be written."""
    if spec.type not in _RANGE and spec.type is not Kind.F32:
        raise ValueError(f"type {spec.type} cannot be written; use u16, i16, u32, i32 or f32")
    if spec.mirror and spec.type not in {Kind.I16, Kind.I32, Kind.F32}:
        raise ValueError(f"type {spec.type} has no other sign: mirror needs i16, i32 or f32")
    if spec.address < len(spec.before):
        raise ValueError(f"register {spec.address} has no {len(spec.before)} registers before it")


@lru_cache
def _ratio(scale: float) -> tuple[int, int]:
    """A scale as the fraction that was typed."""
    return Fraction(str(scale)).as_integer_ratio()


def _scaling(scale: float, offset: float, sign: int) -> Callable[[float], float]:
    times, over = _ratio(scale)
    return lambda raw: sign * (raw * times / over + offset) + 0.0  # + 0.0: no minus zero


def _scaled_by_register(spec: PointSpec, at: int) -> Decoder:
    """The value and its exponent, from the registers that hold both."""
    first, size = min(spec.address, at), register_count(spec)
    start, power = spec.address - first, at - first
    count_of = decoder(replace(spec, scale_register=None, scale=1.0, offset=0.0, sign=1))
    times, over = _ratio(spec.scale)

    def decode(registers: Sequence[int]) -> float | None:
        tens, count = exponent(registers[power]), count_of(registers[start : start + size])
        if tens is None or count is None:
            return None
        if not math.isfinite(count):
            return count
        scaled = count * times * 10 ** max(tens, 0) / (over * 10 ** max(-tens, 0))
        return float(spec.sign * (scaled + spec.offset) + 0.0)

    return decode


def _word_decoder(
    spec: PointSpec, missing: frozenset[int], scaled: Callable[[float], float]
) -> Decoder:
    signed, swapped = spec.type is Kind.I16, spec.byte_order == "little"

    def word(registers: Sequence[int]) -> float | None:
        raw = registers[0]
        if swapped:
            raw = (raw >> 8) | (raw & 0xFF) << 8
        if raw in missing:
            return None
        return scaled(raw - 0x10000 if signed and raw & 0x8000 else raw)

    return word


def _not_available(spec: PointSpec) -> frozenset[int]:
    """The listed raw values as bit patterns, whether they were typed signed or not."""
    span = 1 << 16 * register_count(spec)
    return frozenset(raw % span for raw in spec.not_available)


def _bytes(spec: PointSpec | WriteSpec, registers: Sequence[int]) -> bytes:
    """The bytes of one value, most significant first."""
    words = registers if spec.word_order == "big" else registers[::-1]
    end = "<" if spec.byte_order == "little" else ">"
    return struct.pack(f"{end}{len(words)}H", *words)


def _ordered(spec: WriteSpec, raw: bytes) -> tuple[int, ...]:
    """The registers of a value given as bytes, most significant first."""
    end = "<" if spec.byte_order == "little" else ">"
    words: tuple[int, ...] = struct.unpack(f"{end}{len(raw) // 2}H", raw)
    return words if spec.word_order == "big" else words[::-1]


def _spelt(raw: bytes, scaled: Callable[[float], float]) -> float:
    text = raw.split(b"\0", 1)[0].decode("ascii", "replace").strip()
    try:
        return scaled(float(text))
    except ValueError:
        return math.nan


def _towards_zero(value: float) -> int:
    nearest = round(value)
    if abs(value - nearest) <= _WHOLE_SHARE * max(1.0, abs(value)):
        return nearest
    return math.trunc(value)


def _single(value: float) -> float:
    """The 32-bit float next to a value, on the side of zero."""
    value = min(max(value, -_LARGEST_SINGLE), _LARGEST_SINGLE)
    bits = struct.unpack(">I", struct.pack(">f", value))[0]
    beyond = abs(_of_bits(bits)) > abs(value)
    return _of_bits(bits - 1 if beyond else bits)


def _of_bits(bits: int) -> float:
    return float(struct.unpack(">f", bits.to_bytes(4))[0])
