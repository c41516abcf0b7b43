"""What a device model is: its registers, their meaning, and how it behaves when nobody speaks.

One YAML file a model, in `vppd/field/profiles/` or `/etc/vppd/devices/`, loaded by
`vppd/config` into these classes. The profile is the only place where a device's own sign,
scale and word order are turned into ours.
"""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field
from enum import StrEnum
from typing import Any, Literal

from vppd.core.model import Point


def key(doc: str, default: Any = MISSING, **bounds: Any) -> Any:
    """A documented setting; bounds are gt, ge, lt, le, min_length, pattern."""
    metadata = {"doc": doc, **bounds}
    if default is MISSING:
        return field(metadata=metadata)
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


ALL_BITS = 2**64 - 1  # a word may be as wide as that


class Table(StrEnum):
    """Which Modbus table, and so which function reads it."""

    COIL = "coil"
    DISCRETE_INPUT = "discrete_input"
    INPUT = "input"
    HOLDING = "holding"


class Kind(StrEnum):
    """How registers make a number."""

    U16 = "u16"
    I16 = "i16"
    U32 = "u32"
    I32 = "i32"
    F32 = "f32"
    U64 = "u64"
    I64 = "i64"
    STRING = "string"
    BITS = "bits"


class Group(StrEnum):
    """How often a point is polled."""

    FAST = "fast"  # every poll_s of the unit
    SLOW = "slow"  # every 10 s
    ONCE = "once"  # when the link comes up


@dataclass(frozen=True, slots=True, kw_only=True)
class PointSpec:
    """One readable point: value = sign x (raw x scale + offset), in the unit of its name."""

    table: Table = key("input, holding, coil or discrete_input")
    address: int = key("zero-based register address", ge=0, le=65535)
    type: Kind = key("u16 i16 u32 i32 f32 u64 i64 string bits")
    length: int = key("string: registers", 1, ge=1, le=125)
    word_order: Literal["big", "little"] = key("of the registers of one value", "big")
    byte_order: Literal["big", "little"] = key("of the bytes of one register", "big")
    scale: float = key("factor", 1.0)
    offset: float = key("added after the factor, before the sign", 0.0)
    scale_register: int | None = key(
        "i16 register n of the same table, read in the same block: the factor is scale x 10^n",
        None,
        ge=0,
        le=65535,
    )
    sign: Literal[1, -1] = key("-1 where the device counts the other way", 1)
    not_available: tuple[int, ...] = key("raw values that mean: no value", ())
    low: float | None = key("below, in our unit: implausible", None)
    high: float | None = key("above, in our unit: implausible", None)
    group: Group = key("fast, slow or once", Group.FAST)
    max_age_s: float = key("older than this is stale", 2.5, gt=0)
    frozen_s: float | None = key(
        "unchanged through so long while `moves_with` moved: frozen (null: never judged)",
        None,
        gt=0,
    )
    moves_with: Point | None = key("the point whose movement should move this one", None)
    moves_by: float | None = key(
        "the band moves_with went through in that time (for soc_pct: percent of energy passed)",
        None,
        gt=0,
    )
    page: str = key("where in the profile's source it stands", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteSpec:
    """One writable register, in the unit of the point that reads it back."""

    address: int = key("zero-based holding register", ge=0, le=65535)
    type: Kind = key("u16 i16 u32 i32 f32")
    word_order: Literal["big", "little"] = key("of the registers of one value", "big")
    byte_order: Literal["big", "little"] = key("of the bytes of one register", "big")
    scale: float = key("factor: raw = sign x value / scale", 1.0)
    sign: Literal[1, -1] = key("-1 where the device counts the other way", 1)
    low: float = key("lowest value the device takes, in our unit and sign")
    high: float = key("highest value the device takes, in our unit and sign")
    function: Literal[6, 16] = key("Modbus function that writes it", 16)
    mirror: bool = key("the register after it is written with the same in the other sign", False)
    before: tuple[int, ...] = key("registers written right before it, always in the same frame", ())
    after: tuple[int, ...] = key("registers written right after it, always in the same frame", ())
    when_asked: bool = key(
        "not written until a value other than 0 is asked for: until then the device has its own",
        False,
    )
    period_s: float = key("not written more often than this", 0.0, ge=0)
    volatile: bool = key("false: non-volatile memory, never written cyclically", True)
    read_back: Point = key("the readable point that shows what was taken")
    page: str = key("where in the profile's source it stands", "")


class Writable(StrEnum):
    """What a device may offer to be written."""

    POWER_KW = "power_kw"
    REACTIVE_KVAR = "reactive_kvar"
    MODE = "mode"
    ENABLED = "enabled"
    RESET_ALARMS = "reset_alarms"
    COMMAND_TIMEOUT_S = "command_timeout_s"
    HEARTBEAT = "heartbeat"
    REACTIVE_ENABLED = "reactive_enabled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One write of a sequence."""

    write: Writable = key("which register")
    value: float = key("what, in our unit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Revert:
    """What the device does by itself when it hears nothing."""

    kind: Literal["none", "timeout"] = key("none: it keeps its last setpoint for ever", "none")
    timeout_s: float = key("programmed into command_timeout_s", 5.0, gt=0, le=3600)
    heartbeat_s: float = key("the heartbeat counter is written at least this often", 2.0, gt=0)
    power_kw: float = key("the setpoint it falls back to", 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """Golden registers, typed from the document: what is on the wire and what it means."""

    point: Point = key("which point")
    registers: tuple[int, ...] = key("the registers as they come, in order of address")
    value: float = key("in our unit and sign")
    exponent: int = key("in the scale_register, where there is one", 0, ge=-32768, le=32767)
    page: str = key("where in the profile's source it stands", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceProfile:
    """One device model."""

    name: str = key("as units name it")
    maker: str = key("who makes it")
    model: str = key("models it is for")
    source: str = key("the document, revision and page it was typed from")
    firmware: tuple[str, ...] = key("versions it was seen with, or that its source documents", ())
    device: Literal["bess", "inverter", "meter"] = key("what it is", "bess")
    serial_only: bool = key("the device has a serial line and no TCP of its own", False)
    read_only: bool = key("true: never written, the unit gives nothing", False)
    one_client: bool = key("the device serves one connection only", False)
    dc_total: bool = key("current_a is of the whole unit, not of one module", False)
    max_block: int = key("largest block of registers in one read", 125, ge=1, le=125)
    max_gap: int = key("read over holes up to this many registers", 16, ge=0, le=124)
    fault_mask: int = key("bits of fault_bits that trip", ALL_BITS, ge=0)
    alarm_mask: int = key("bits of alarm_bits that alarm", ALL_BITS, ge=0)
    points: Mapping[Point, PointSpec] = key("what can be read")
    writes: Mapping[Writable, WriteSpec] = key("what can be written", dict)
    enable: tuple[Step, ...] = key("written when the unit is enabled", ())
    disable: tuple[Step, ...] = key("written when the unit is disabled", ())
    on_stop: tuple[Step, ...] = key("written after 0 kW when vppd stops", ())
    release: tuple[Step, ...] = key(
        "written when an operator gives the device back to its own control; not a limit of 100 %",
        (),
    )
    nvm_writes_per_day: int = key(
        "budget of writes to non-volatile registers; beyond it they are refused", 48, ge=0
    )
    examples: tuple[Example, ...] = key("golden registers, typed from the source", ())
    revert: Revert = key("what it does by itself", Revert)
