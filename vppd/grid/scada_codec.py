"""ASDUs of the controlled station: bytes to what was asked, and values to bytes.

Layout of IEC 60870-5-101 clause 7 with the sizes of IEC 60870-5-104: cause 2 octets, common
address 2, object address 3. An answer to a command is the command with another cause, so answers
are patched bytes and show the master exactly what it sent.
"""

import math
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any
from zoneinfo import ZoneInfo

from hat.drivers.iec60870.encodings import iec104

from vppd.core.settings_scada import StationPointSettings

HEADER_BYTES = 6
ASDU_MAX_BYTES = 249
BROADCAST = 0xFFFF
NEGATIVE, TEST, CAUSE = 0x40, 0x80, 0x3F
DOUBLE_OFF, DOUBLE_ON = 1, 2
CENTURY = 2000
YEARS = 128  # that a time tag can count; a clock that was never set stands before them
FLOAT_DIGITS = 7  # that a short float tells apart
MAXIMUM: float = struct.unpack("<f", b"\xff\xff\x7f\x7f")[0]


class Type(IntEnum):
    """The commands a master may send here."""

    SWITCH = iec104.AsduType.C_SC_NA.value
    SETPOINT = iec104.AsduType.C_SE_NC.value
    TIMED_SWITCH = iec104.AsduType.C_SC_TA.value
    TIMED_SETPOINT = iec104.AsduType.C_SE_TC.value
    INTERROGATION = iec104.AsduType.C_IC_NA.value
    READ = iec104.AsduType.C_RD_NA.value
    CLOCK = iec104.AsduType.C_CS_NA.value
    TEST = iec104.AsduType.C_TS_TA.value


class Cause(IntEnum):
    """Causes of transmission."""

    PERIODIC = iec104.CauseType.PERIODIC.value
    SPONTANEOUS = iec104.CauseType.SPONTANEOUS.value
    INITIALIZED = iec104.CauseType.INITIALIZED.value
    REQUEST = iec104.CauseType.REQUEST.value
    ACTIVATION = iec104.CauseType.ACTIVATION.value
    ACTIVATION_CON = iec104.CauseType.ACTIVATION_CONFIRMATION.value
    DEACTIVATION = iec104.CauseType.DEACTIVATION.value
    DEACTIVATION_CON = iec104.CauseType.DEACTIVATION_CONFIRMATION.value
    ACTIVATION_TERM = iec104.CauseType.ACTIVATION_TERMINATION.value
    INTERROGATED = iec104.CauseType.INTERROGATED_STATION.value
    UNKNOWN_TYPE = iec104.CauseType.UNKNOWN_TYPE.value
    UNKNOWN_CAUSE = iec104.CauseType.UNKNOWN_CAUSE.value
    UNKNOWN_COMMON_ADDRESS = iec104.CauseType.UNKNOWN_ASDU_ADDRESS.value
    UNKNOWN_OBJECT = iec104.CauseType.UNKNOWN_IO_ADDRESS.value


LENGTHS_BYTES = {
    Type.SWITCH: 10,
    Type.SETPOINT: 14,
    Type.TIMED_SWITCH: 17,
    Type.TIMED_SETPOINT: 21,
    Type.INTERROGATION: 10,
    Type.READ: 9,
    Type.CLOCK: 16,
    Type.TEST: 18,
}
SETPOINTS = {Type.SETPOINT, Type.TIMED_SETPOINT}
COMMANDS = {*SETPOINTS, Type.SWITCH, Type.TIMED_SWITCH}


class MalformedError(ValueError):
    """Bytes that are no ASDU."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One ASDU of a master. `type` None: one this station does not know."""

    raw: bytes
    type: Type | None
    cause: int
    test: bool
    common_address: int
    object_address: int = 0
    value: float | int = 0  # set-point, switch position, qualifier
    select: bool = False
    time: datetime | None = None  # UTC; None also when its tag is marked invalid
    timed: bool = False


@dataclass(frozen=True, slots=True)
class Shown:
    """The value of one point as it goes out. None: not known."""

    point: StationPointSettings
    value: float | None
    utc: datetime | None = None  # with a time tag, as an event


_encoder = iec104.encoder.Encoder()


def read(raw: bytes, zone: ZoneInfo) -> Asked:
    """Decode one ASDU. Raises MalformedError."""
    if len(raw) < HEADER_BYTES or raw[1] == 0:
        raise MalformedError(f"{len(raw)} bytes are no ASDU")
    cause, test = raw[2] & CAUSE, bool(raw[2] & TEST)
    common_address = int.from_bytes(raw[4:6], "little")
    if raw[0] not in set(Type):
        return Asked(raw, None, cause, test, common_address)
    kind = Type(raw[0])
    if len(raw) != LENGTHS_BYTES[kind] or raw[1] != 1:
        raise MalformedError(f"type {kind.value} with {len(raw)} bytes, {raw[1]} objects")
    try:
        asdu, _ = _encoder.decode_asdu(raw)
        thing = asdu.ios[0]
        element = thing.elements[0]
    except Exception as error:  # the decoder raises whatever its own slips raise
        raise MalformedError(f"type {kind.value}: {error}") from error
    tag = thing.time if thing.time is not None else getattr(element, "time", None)
    return Asked(
        raw,
        kind,
        cause,
        test,
        common_address,
        thing.address,
        _number(kind, element),
        bool(getattr(element, "select", False)),
        _utc(tag, zone) if tag is not None else None,
        tag is not None,
    )


def answer(
    asked: Asked,
    cause: Cause,
    *,
    negative: bool = False,
    common_address: int | None = None,
    time: bytes = b"",
) -> bytes:
    """The same ASDU with another cause; `time` takes the place of its last bytes."""
    raw = bytearray(asked.raw)
    raw[2] = (raw[2] & TEST) | (NEGATIVE if negative else 0) | cause
    if common_address is not None:
        raw[4:6] = common_address.to_bytes(2, "little")
    if time:
        raw[-len(time) :] = time
    return bytes(raw)


def show(
    shown: Sequence[Shown], cause: Cause, common_address: int, zone: ZoneInfo, *, sure: bool
) -> Iterator[bytes]:
    """Values as ASDUs, those of one type that follow one another together. `sure`: the time of
    their tags may be trusted."""
    batch: list[Any] = []
    for each in shown:
        tag = _tag(each.utc, zone, sure=sure) if each.utc is not None else None
        thing = iec104.IO(each.point.address, [_element(each)], tag)
        kind = _type(each)
        size_bytes = sum(_SIZES_BYTES[kind] for _ in batch) + _SIZES_BYTES[kind] + HEADER_BYTES
        if batch and (batch[0][0] is not kind or size_bytes > ASDU_MAX_BYTES):
            yield _asdu(batch, cause, common_address)
            batch = []
        batch.append((kind, thing))
    if batch:
        yield _asdu(batch, cause, common_address)


def initialized(common_address: int) -> bytes:
    """M_EI_NA_1: the station has started."""
    head = bytes((_A.M_EI_NA.value, 1, Cause.INITIALIZED, 0))
    return head + common_address.to_bytes(2, "little") + bytes(4)


def clock(utc: datetime, zone: ZoneInfo, *, sure: bool) -> bytes:
    """CP56Time2a."""
    local = utc.astimezone(zone)
    return struct.pack(
        "<HBBBBB",
        local.second * 1000 + local.microsecond // 1000,
        local.minute | (0 if sure else 0x80),
        local.hour | (0x80 if local.dst() else 0),
        local.isoweekday() << 5 | local.day,
        local.month,
        (local.year - CENTURY) % YEARS,
    )


def within_float(value: float) -> float:
    """The nearest number that a short float can carry; an infinite one is not known."""
    return min(max(value, -MAXIMUM), MAXIMUM)


def stated(value: float) -> float:
    """The number that was meant by one that came as a short float: 0.1 MW is 100 kW and not
    100.0000015, which a limit of 100 kW would refuse."""
    return float(f"{value:.{FLOAT_DIGITS}g}")


def _number(kind: Type, element: Any) -> float | int:
    if kind in SETPOINTS:
        return float(element.value.value)
    if kind in COMMANDS:
        return int(element.value.value)
    return int(getattr(element, "qualifier", 0))


def _utc(tag: Any, zone: ZoneInfo) -> datetime | None:
    if tag.invalid:
        return None
    try:
        local = datetime(
            CENTURY + tag.years,
            tag.months,
            tag.day_of_month,
            tag.hours,
            tag.minutes,
            tag.milliseconds // 1000,
            tag.milliseconds % 1000 * 1000,
            zone,
            fold=0 if tag.summer_time else 1,
        )
    except ValueError:
        return None
    return local.astimezone(UTC)


def _tag(utc: datetime, zone: ZoneInfo, *, sure: bool) -> iec104.Time:
    local = utc.astimezone(zone)
    return iec104.Time(
        size=iec104.TimeSize.SEVEN,
        milliseconds=local.second * 1000 + local.microsecond // 1000,
        invalid=not sure,
        substituted=False,
        minutes=local.minute,
        summer_time=bool(local.dst()),
        hours=local.hour,
        day_of_week=local.isoweekday(),
        day_of_month=local.day,
        months=local.month,
        years=(local.year - CENTURY) % YEARS,
    )


_A = iec104.AsduType
_TYPES = {
    ("measured", False): _A.M_ME_NC,
    ("measured", True): _A.M_ME_TF,
    ("single", False): _A.M_SP_NA,
    ("single", True): _A.M_SP_TB,
    ("double", False): _A.M_DP_NA,
    ("double", True): _A.M_DP_TB,
}
_SIZES_BYTES = {
    _A.M_ME_NC: 8,
    _A.M_ME_TF: 15,
    _A.M_SP_NA: 4,
    _A.M_SP_TB: 11,
    _A.M_DP_NA: 4,
    _A.M_DP_TB: 11,
}


def _type(shown: Shown) -> Any:
    return _TYPES[shown.point.kind, shown.utc is not None]


def _element(shown: Shown) -> Any:
    value, kind = shown.value, _type(shown)
    known = value is not None and math.isfinite(value)
    number = value if known and value is not None else 0.0
    quality = {
        "invalid": not known,
        "not_topical": not known,
        "substituted": False,
        "blocked": False,
    }
    element = getattr(iec104, f"IoElement_{kind.name}")
    if shown.point.kind == "measured":
        wire = iec104.FloatingValue(within_float(number * shown.point.scale))
        return element(wire, iec104.MeasurementQuality(**quality, overflow=False))
    on = number != 0.0
    if shown.point.kind == "single":
        return element(iec104.SingleValue(int(on)), iec104.IndicationQuality(**quality))
    state = 0 if not known else DOUBLE_ON if on else DOUBLE_OFF
    return element(iec104.DoubleValue(state), iec104.IndicationQuality(**quality))


def _asdu(batch: Iterable[Any], cause: Cause, common_address: int) -> bytes:
    kinds, things = zip(*batch, strict=True)
    asdu = iec104.ASDU(
        kinds[0],
        iec104.Cause(iec104.CauseType(cause.value), False, False, 0),
        common_address,
        list(things),
    )
    return bytes(_encoder.encode_asdu(asdu))
