"""IEEE C37.118.2 configuration frames 1, 2 and 3: what the data frames of a stream mean. Pure."""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from vppd.grid.c37118 import (
    VERSION_2005,
    VERSION_2011,
    Frame,
    FrameError,
    FrameType,
    Stamp,
    pack,
    text,
    write_frame,
)

NAME_BYTES = 16
WORD_BITS = 16
GLOBAL_ID_BYTES = 16
PHASOR_UNIT_STEP = 1e-5  # CFG-1/2: PHUNIT counts 10^-5 V or A
FRAGMENTS_MAX_BYTES = 1 << 20

_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_FRONT = struct.Struct(">IH")  # TIME_BASE, NUM_PMU
_NUMBERS = struct.Struct(">HHHHH")  # IDCODE, FORMAT, PHNMR, ANNMR, DGNMR
_NUMBERS3 = struct.Struct(">H16sHHHH")  # G_PMU_ID after IDCODE
_MASKS = struct.Struct(">HH")
_PHASOR3 = struct.Struct(">HBBff")  # flags, type, user, scale, angle
_ANALOG3 = struct.Struct(">ff")  # scale, offset
_PLACE3 = struct.Struct(">fff1sii")  # lat, lon, elev, class, window, group delay
_END = struct.Struct(">HH")  # FNOM, CFGCNT
_RATE = struct.Struct(">h")
_LAST_FRAGMENT = 0xFFFF
_CURRENT_BIT = 0x08  # of the CFG-3 phasor type
_CONFIG_TYPES = (FrameType.CFG1, FrameType.CFG2, FrameType.CFG3)


@dataclass(frozen=True, slots=True)
class Format:
    """FORMAT: how the data frames write their numbers."""

    polar: bool
    float_phasors: bool
    float_analogs: bool
    float_frequency: bool

    @classmethod
    def of(cls, bits: int) -> "Format":
        """From the word on the wire; the upper twelve bits are not used."""
        return cls(bool(bits & 1), bool(bits & 2), bool(bits & 4), bool(bits & 8))

    @property
    def bits(self) -> int:
        """The word on the wire."""
        flags = (self.polar, self.float_phasors, self.float_analogs, self.float_frequency)
        return sum(flag << place for place, flag in enumerate(flags))

    def __str__(self) -> str:
        phasors = "float" if self.float_phasors else "integer"
        frequency = "float" if self.float_frequency else "integer"
        shape = "polar" if self.polar else "rectangular"
        return f"{phasors} {shape} phasors, {frequency} frequency"


@dataclass(frozen=True, slots=True)
class PhasorChannel:
    """`unit` is V or A. An integer count is `scale` of it, its angle is less `angle_rad`; floats
    need neither. Angle, component, flags and the user byte exist in CFG-3 only."""

    name: str
    unit: str
    scale: float = 1.0
    angle_rad: float = 0.0
    component: int = 0
    flags: int = 0
    user: int = 0


@dataclass(frozen=True, slots=True)
class AnalogChannel:
    """An integer count is `scale` times the count plus `offset`. `kind` is the type byte of CFG-2:
    0 point on wave, 1 RMS, 2 peak; others occur."""

    name: str
    scale: float = 1.0
    offset: float = 0.0
    kind: int = 0


@dataclass(frozen=True, slots=True)
class DigitalWord:
    """Sixteen labels from the lowest bit up, the normal state, and which bits are in use."""

    names: tuple[str, ...]
    normal: int = 0
    valid: int = 0


@dataclass(frozen=True, slots=True)
class Place:
    """What CFG-3 adds of a PMU: degrees (WGS 84) and metres, infinite when not stated; class M or
    P; the measurement window and the group delay in microseconds."""

    global_id: bytes = bytes(GLOBAL_ID_BYTES)
    latitude: float = math.inf
    longitude: float = math.inf
    elevation_m: float = math.inf
    service_class: str = "M"
    window_us: int = 0
    group_delay_us: int = 0


@dataclass(frozen=True, slots=True)
class Station:
    """One PMU of a stream."""

    name: str
    idcode: int
    format: Format
    phasors: tuple[PhasorChannel, ...] = ()
    analogs: tuple[AnalogChannel, ...] = ()
    digitals: tuple[DigitalWord, ...] = ()
    nominal_hz: float = 50.0
    change_count: int = 0
    place: Place | None = None  # CFG-3 only


@dataclass(frozen=True, slots=True)
class Config:
    """A configuration frame. `data_rate` > 0 is frames a second, < 0 seconds a frame."""

    kind: FrameType
    idcode: int
    stamp: Stamp
    time_base: int
    stations: tuple[Station, ...]
    data_rate: int

    @property
    def period_s(self) -> float:
        """Seconds between data frames; 0 when the frame does not say."""
        if self.data_rate == 0:
            return 0.0
        return 1.0 / self.data_rate if self.data_rate > 0 else float(-self.data_rate)


class Fragments:
    """CFG-3 may come in several frames: CONT_IDX 0 is the only one, 1 the first, 65535 the last."""

    def __init__(self) -> None:
        self._body = b""
        self._next = 1

    def add(self, frame: Frame) -> Frame | None:
        """The whole configuration frame once all is there, else None. Other frames pass as they
        are. Raises FrameError when a part is missing or all would be too long."""
        if frame.type is not FrameType.CFG3 or len(frame.payload) < _U16.size:
            return frame
        (index,) = _U16.unpack_from(frame.payload)
        if index == 0:
            return frame
        if index == 1:
            self._body, self._next = b"", 1
        body = self._body + frame.payload[_U16.size :]
        expected, last = self._next, index == _LAST_FRAGMENT
        self._body, self._next = b"", 1
        if (expected == 1 or not last) and index != expected:
            raise FrameError(f"fragment {index} of a configuration came instead of {expected}")
        if len(body) > FRAGMENTS_MAX_BYTES:
            raise FrameError("configuration over a megabyte")
        if last:
            return replace(frame, payload=_U16.pack(0) + body)
        self._body, self._next = body, index + 1
        return None


class _Cursor:
    """Reads on through a payload; raises FrameError where it ends too soon."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, layout: struct.Struct) -> tuple[Any, ...]:
        return layout.unpack(self.bytes(layout.size))

    def bytes(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        if len(taken) < count:
            raise FrameError("configuration ends too soon")
        self._at += count
        return taken

    def names(self, count: int, *, counted: bool) -> Iterator[str]:
        for _ in range(count):
            yield text(self.bytes(self.bytes(1)[0] if counted else NAME_BYTES))

    @property
    def left(self) -> int:
        return len(self._data) - self._at


def read_config(frame: Frame) -> Config:
    """Read CFG-1, CFG-2 or a whole CFG-3. Raises FrameError."""
    if frame.type not in _CONFIG_TYPES:
        raise FrameError(f"not a configuration frame: {frame.type.name}")
    cursor = _Cursor(frame.payload)
    third = frame.type is FrameType.CFG3
    if third and cursor.take(_U16) != (0,):
        raise FrameError("part of a configuration")
    time_base, count = cursor.take(_FRONT)
    time_base &= 0xFFFFFF
    if time_base == 0 or count == 0:
        raise FrameError(f"TIME_BASE {time_base}, {count} PMUs")
    read = _read_station3 if third else _read_station
    stations = tuple(read(cursor) for _ in range(count))
    (data_rate,) = cursor.take(_RATE)
    if cursor.left:
        raise FrameError(f"{cursor.left} bytes more than the configuration describes")
    return Config(frame.type, frame.idcode, frame.stamp, time_base, stations, data_rate)


def write_config(config: Config) -> bytes:
    """The frame of `config.kind`. Raises FrameError when a value does not fit."""
    third = config.kind is FrameType.CFG3
    write = _write_station3 if third else _write_station
    parts = [_U16.pack(0)] if third else []
    parts.append(pack(_FRONT, config.time_base, len(config.stations)))
    parts += [write(station) for station in config.stations]
    parts.append(pack(_RATE, config.data_rate))
    version = VERSION_2011 if third else VERSION_2005
    return write_frame(Frame(config.kind, config.idcode, config.stamp, b"".join(parts), version))


def _read_station(cursor: _Cursor) -> Station:
    (name,) = cursor.names(1, counted=False)
    idcode, bits, phasors, analogs, words = cursor.take(_NUMBERS)
    phasor_names = tuple(cursor.names(phasors, counted=False))
    analog_names = tuple(cursor.names(analogs, counted=False))
    labels = [tuple(cursor.names(WORD_BITS, counted=False)) for _ in range(words)]
    return Station(
        name,
        idcode,
        Format.of(bits),
        tuple(_phasor_unit(each, *cursor.take(_U32)) for each in phasor_names),
        tuple(_analog_unit(each, *cursor.take(_U32)) for each in analog_names),
        tuple(DigitalWord(each, *cursor.take(_MASKS)) for each in labels),
        *_nominal(cursor),
    )


def _read_station3(cursor: _Cursor) -> Station:
    (name,) = cursor.names(1, counted=True)
    idcode, global_id, bits, phasors, analogs, words = cursor.take(_NUMBERS3)
    phasor_names = tuple(cursor.names(phasors, counted=True))
    analog_names = tuple(cursor.names(analogs, counted=True))
    labels = [tuple(cursor.names(WORD_BITS, counted=True)) for _ in range(words)]
    channels = tuple(_phasor_scale(each, *cursor.take(_PHASOR3)) for each in phasor_names)
    values = tuple(AnalogChannel(each, *cursor.take(_ANALOG3)) for each in analog_names)
    digitals = tuple(DigitalWord(each, *cursor.take(_MASKS)) for each in labels)
    latitude, longitude, elevation_m, letter, window_us, delay_us = cursor.take(_PLACE3)
    place = Place(global_id, latitude, longitude, elevation_m, text(letter), window_us, delay_us)
    nominal_hz, changes = _nominal(cursor)
    return Station(
        name, idcode, Format.of(bits), channels, values, digitals, nominal_hz, changes, place
    )


def _phasor_unit(name: str, word: int) -> PhasorChannel:
    return PhasorChannel(
        name, "A" if word >> 24 == 1 else "V", (word & 0xFFFFFF) * PHASOR_UNIT_STEP
    )


def _phasor_scale(
    name: str, flags: int, kind: int, user: int, scale: float, angle_rad: float
) -> PhasorChannel:
    unit = "A" if kind & _CURRENT_BIT else "V"
    return PhasorChannel(name, unit, scale, angle_rad, kind & ~_CURRENT_BIT, flags, user)


def _analog_unit(name: str, word: int) -> AnalogChannel:
    factor = word & 0xFFFFFF
    signed = factor - (1 << 24) if factor & 0x800000 else factor
    return AnalogChannel(name, float(signed), 0.0, word >> 24)


def _nominal(cursor: _Cursor) -> tuple[float, int]:
    nominal, change_count = cursor.take(_END)
    return (50.0 if nominal & 1 else 60.0), change_count


def _write_station(station: Station) -> bytes:
    return b"".join(
        [
            _fixed(station.name),
            pack(_NUMBERS, station.idcode, *_numbers(station)),
            *(_fixed(name) for name in _names(station)),
            *(_phasor_word(channel) for channel in station.phasors),
            *(_analog_word(channel) for channel in station.analogs),
            *(pack(_MASKS, word.normal, word.valid) for word in station.digitals),
            _end(station),
        ]
    )


def _write_station3(station: Station) -> bytes:
    place = station.place or Place()
    return b"".join(
        [
            _counted(station.name),
            pack(_NUMBERS3, station.idcode, place.global_id, *_numbers(station)),
            *(_counted(name) for name in _names(station)),
            *(_phasor_words3(channel) for channel in station.phasors),
            *(pack(_ANALOG3, channel.scale, channel.offset) for channel in station.analogs),
            *(pack(_MASKS, word.normal, word.valid) for word in station.digitals),
            pack(
                _PLACE3,
                place.latitude,
                place.longitude,
                place.elevation_m,
                place.service_class.encode(),
                place.window_us,
                place.group_delay_us,
            ),
            _end(station),
        ]
    )


def _names(station: Station) -> list[str]:
    return [
        *(channel.name for channel in station.phasors),
        *(channel.name for channel in station.analogs),
        *(label for word in station.digitals for label in word.names),
    ]


def _numbers(station: Station) -> tuple[int, int, int, int]:
    if any(len(word.names) != WORD_BITS for word in station.digitals):
        raise FrameError("a digital word has sixteen labels")
    return (
        station.format.bits,
        len(station.phasors),
        len(station.analogs),
        len(station.digitals),
    )


def _phasor_word(channel: PhasorChannel) -> bytes:
    factor = _whole(channel.scale / PHASOR_UNIT_STEP, 0, 0xFFFFFF)
    return _U32.pack((channel.unit == "A") << 24 | factor)


def _phasor_words3(channel: PhasorChannel) -> bytes:
    kind = channel.component | (_CURRENT_BIT if channel.unit == "A" else 0)
    return pack(_PHASOR3, channel.flags, kind, channel.user, channel.scale, channel.angle_rad)


def _analog_word(channel: AnalogChannel) -> bytes:
    factor = _whole(channel.scale, -0x800000, 0x7FFFFF)
    return pack(_U32, channel.kind << 24 | factor & 0xFFFFFF)


def _end(station: Station) -> bytes:
    return pack(_END, 1 if station.nominal_hz == 50.0 else 0, station.change_count)  # noqa: PLR2004


def _whole(value: float, low: int, high: int) -> int:
    if not low <= value <= high:
        raise FrameError(f"{value} is outside {low}..{high}")
    return round(value)


def _fixed(name: str) -> bytes:
    data = name.encode("utf-8", "replace")
    if len(data) > NAME_BYTES:
        raise FrameError(f"name over {NAME_BYTES} bytes: {name}")
    return data.ljust(NAME_BYTES)


def _counted(name: str) -> bytes:
    data = name.encode("utf-8", "replace")
    if len(data) > 0xFF:  # noqa: PLR2004  (the length is one byte)
        raise FrameError("name over 255 bytes")
    return bytes([len(data)]) + data
