"""What came of one tick, short enough to be kept for every tick: enough to name what differs, and a
check sum over every bit. Pure."""

import functools
import math
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from vppd.core.model import Cleared, Limit, Request, UnitId

CENTS = 100.0  # a power is kept to 0.01 kW beside the check sum
NOT_FINITE = 10**12
_PARTS = struct.Struct("<7d")
_NOTHING = Request(UnitId(""), 0.0, 0.0)


class UnitOutcome(NamedTuple):
    """One unit, in hundredths of a kW or kvar. `mark` is of all its bits."""

    base: int
    frequency: int
    power: int
    reactive: int
    why: str  # the codes of all that cut, in order
    mark: int

    @property
    def power_kw(self) -> float:
        """What was cleared."""
        return self.power / CENTS


@dataclass(frozen=True, slots=True)
class Outcome:
    """All units of one tick. `crc` is over every bit of every request and setpoint."""

    crc: int
    units: tuple[UnitOutcome, ...]


def outcome_of(requests: Iterable[Request], cleared: Mapping[UnitId, Cleared]) -> Outcome:
    """Boil one tick down."""
    asked = {each.unit: each for each in requests}
    crc, units = 0, []
    for id_, got in cleared.items():
        raw = _bits(asked.get(id_, _NOTHING), got)
        crc = zlib.crc32(raw, crc)
        units.append(_unit(raw, " ".join(got.bound_by) if got.clamps else ""))
    return Outcome(crc, tuple(units))


@functools.lru_cache(maxsize=1024)
def _unit(raw: bytes, why: str) -> UnitOutcome:
    """Cached, because a unit mostly gets what it got before."""
    base_kw, frequency_kw, _, power_kw, kvar, _, _ = _PARTS.unpack_from(raw)
    asked, got = (_cents(base_kw), _cents(frequency_kw)), (_cents(power_kw), _cents(kvar))
    return UnitOutcome(*asked, *got, why, zlib.crc32(raw) & 0xFF)


def _bits(request: Request, got: Cleared) -> bytes:
    raw = _PARTS.pack(
        request.base_kw,
        request.frequency_kw,
        request.reactive_kvar,
        got.power_kw,
        got.reactive_kvar,
        got.asked_kw,
        got.asked_kvar,
    )
    if not got.clamps and not request.held_by:
        return raw
    words = [
        f"{each.why} {each.before_kw!r} {each.after_kw!r} {each.detail}" for each in got.clamps
    ]
    words += map(_limit_words, request.held_by)
    return raw + "\n".join(words).encode("utf-8", "surrogatepass")


def _limit_words(limit: Limit) -> str:
    bounds = f"{limit.low_kw!r} {limit.high_kw!r} {limit.apparent_kva!r}"
    return f"{limit.why} {bounds} {limit.detail}"


def _cents(power_kw: float) -> int:
    return round(power_kw * CENTS) if math.isfinite(power_kw) else NOT_FINITE
