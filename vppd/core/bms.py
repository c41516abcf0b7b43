"""What a BMS on CAN is: which signal of its DBC is which point, how often its frames come, and what
it wants to hear.

A model is two files beside one another, in `vppd/field/profiles/` or `/etc/vppd/devices/`: NAME.dbc
says how bits make numbers, NAME.yaml what the numbers mean, loaded by `vppd/config` into these
classes. The signs of the BMS are turned here and nowhere else: ours is positive for discharge.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from vppd.core.model import Point
from vppd.core.profile import ALL_BITS, key

BMS_POINTS = frozenset(
    {
        Point.CELL_MIN_V,
        Point.CELL_MAX_V,
        Point.CELL_MIN_C,
        Point.CELL_MAX_C,
        Point.PACK_V,
        Point.PACK_A,
        Point.BALANCING,
    }
    | {point for point in Point if point.startswith("bms_")}
)  # the rest of a unit's points are those of its other devices


class Take(StrEnum):
    """How several signals make one value."""

    ONE = "one"  # the only signal
    MIN = "min"
    MAX = "max"
    SUM = "sum"
    MEAN = "mean"
    BITS = "bits"  # signal k is bit k, the first is bit 0: set where the signal is not 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalSpec:
    """One point: value = sign x (taken x scale + offset), in the unit of its name."""

    signals: tuple[str, ...] = key(
        "names in the DBC, as MESSAGE.SIGNAL or SIGNAL alone", min_length=1
    )
    take: Take = key("one, min, max, sum, mean or bits", Take.ONE)
    scale: float = key("factor, after the DBC's own", 1.0)
    offset: float = key("added after the factor, before the sign", 0.0)
    sign: Literal[1, -1] = key("-1 where the BMS counts the other way", 1)
    not_available: tuple[float, ...] = key("signal values (by the DBC) that mean: no value", ())
    low: float | None = key("below, in our unit: implausible", None)
    high: float | None = key("above, in our unit: implausible", None)
    page: str = key("where in the source it stands", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameSpec:
    """One message of the DBC, as it comes on the wire."""

    period_s: float = key("it is sent this often", gt=0, le=60)
    max_age_s: float | None = key(
        "its values are stale after (null: 3 periods and 0.1 s)", None, gt=0
    )
    counter: str | None = key("its alive counter: a signal that counts up and wraps", None)
    lengths: tuple[int, ...] = key(
        "bytes it may come with; signals beyond its end are missing (empty: as the DBC says)", ()
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepAlive:
    """The frame that the BMS wants to hear from its inverter."""

    id: int = key("CAN identifier", ge=0, le=0x1FFFFFFF)
    extended: bool = key("29-bit identifier", False)
    data: str = key("its bytes in hexadecimal", "", pattern=r"^([0-9A-Fa-f]{2}){0,8}$")
    period_s: float = key("sent this often, once the BMS was heard", 1.0, gt=0, le=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class BmsProfile:
    """One BMS model."""

    name: str = key("as units name it")
    maker: str = key("who makes it")
    model: str = key("models it is for")
    source: str = key("the document, revision and page it was typed from")
    firmware: tuple[str, ...] = key("versions it was seen with, or that its source documents", ())
    bitrate: int = key("of the bus", 500_000, ge=10_000, le=1_000_000)
    pack_total: bool = key(
        "current and current limits are of the whole unit, not of one module", False
    )
    fault_mask: int = key("bits of bms_fault_bits that trip", ALL_BITS, ge=0)
    warning_mask: int = key("bits of bms_warning_bits that alarm", ALL_BITS, ge=0)
    frames: Mapping[str, FrameSpec] = key("the messages of the DBC that it sends")
    points: Mapping[Point, SignalSpec] = key("what can be known of it")
    cells: tuple[str, ...] = key("signals of the cell voltages, V, in order", ())
    sensors: tuple[str, ...] = key("signals of the temperature sensors, C, in order", ())
    balancing: tuple[str, ...] = key("signals that say which cell is balanced, in order", ())
    keep_alive: KeepAlive | None = key("what it wants to hear (null: nothing)", None)
    dbc_path: str = ""


def max_age_s(frame: FrameSpec) -> float:
    """For so long may its values be believed."""
    return frame.max_age_s if frame.max_age_s is not None else 3.0 * frame.period_s + 0.1


def signal_of(name: str, frames: Mapping[str, Collection[str]]) -> tuple[str, str]:
    """Which message and which signal a name means; `frames` are the signals of every message.

    Raises ValueError when there is none of that name, or several.
    """
    message, dot, signal = name.rpartition(".")
    found = [
        (each, signal)
        for each, signals in frames.items()
        if signal in signals and (not dot or each == message)
    ]
    if not found:
        raise ValueError(f"no signal {name} in the frames it sends")
    if len(found) > 1:
        raise ValueError(f"{name} is in several frames; write {found[0][0]}.{signal}")
    return found[0]
