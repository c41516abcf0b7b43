"""IEEE C37.118.2 data frames: measurements, read with the stream's configuration. Pure.

FREQ: integer is the deviation from nominal in mHz, float the frequency itself in Hz. DFREQ: integer
is Hz/s times 100, float Hz/s unscaled (PSRC H11's reading, which real devices share). What a device
marks as absent (NaN, or 0x8000 in an integer that cannot mean it) comes out as NaN. The scale and
the angle offset of CFG-3 belong to integer phasors: value = scale x count, angle less the offset.
"""

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from vppd.core.model import Phasor
from vppd.grid.c37118 import (
    CHECK_BYTES,
    HEAD_BYTES,
    Frame,
    FrameError,
    FrameType,
    Stamp,
    pack,
    write_frame,
)
from vppd.grid.c37118_config import Config, PhasorChannel, Station

_ABSENT = -0x8000
_ANGLE_STEP_RAD = 1e-4
_FREQUENCY_STEP_HZ = 1e-3
_ROCOF_STEP_HZ_PER_S = 0.01
# PMU_TQ: 0 is not used; else the stated worst time error
_PMU_ERROR_S = (None, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, math.inf)


@dataclass(frozen=True, slots=True)
class Stat:
    """The STAT word of one PMU. `data_error`: 0 good, 1 error and no data, 2 test mode or absent, 3
    error. `time_error_s` is what PMU_TQ states: None when not used, infinite when over 10 ms."""

    bits: int
    data_error: int
    sync_lost: bool
    by_arrival: bool
    trigger: bool
    config_change: bool
    modified: bool
    time_error_s: float | None
    unlocked: int  # 0 under 10 s, 1 under 100 s, 2 under 1000 s, 3 longer
    trigger_reason: int


@lru_cache(maxsize=256)
def stat_of(bits: int) -> Stat:
    """What the word says."""
    return Stat(
        bits,
        bits >> 14 & 3,
        bool(bits & 0x2000),
        bool(bits & 0x1000),
        bool(bits & 0x0800),
        bool(bits & 0x0400),
        bool(bits & 0x0200),
        _PMU_ERROR_S[bits >> 6 & 7],
        bits >> 4 & 3,
        bits & 0xF,
    )


@dataclass(frozen=True, slots=True)
class PmuData:
    """What one PMU measured."""

    stat: Stat
    frequency_hz: float
    rocof_hz_per_s: float
    phasors: tuple[Phasor, ...] = ()
    analogs: tuple[float, ...] = ()
    digitals: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Data:
    """One data frame: every PMU of the stream at one instant."""

    idcode: int
    stamp: Stamp
    pmus: tuple[PmuData, ...]


class _Block:
    """One PMU's part of the payload, its words unpacked by one precompiled struct."""

    def __init__(self, station: Station) -> None:
        form = station.format
        self.station = station
        pairs = len(station.phasors)
        self.phasor_end = 1 + 2 * pairs
        self.convert = _CONVERT[form.float_phasors, form.polar]
        integer_pair = "Hh" if form.polar else "hh"
        self.words = struct.Struct(
            ">H"
            + ("ff" if form.float_phasors else integer_pair) * pairs
            + ("ff" if form.float_frequency else "hh")
            + ("f" if form.float_analogs else "h") * len(station.analogs)
            + "H" * len(station.digitals)
        )
        self.channels = tuple(
            (channel.name, channel.scale, channel.angle_rad, channel.unit)
            for channel in station.phasors
        )

    def read(self, payload: bytes, offset: int) -> PmuData:
        words = self.words.unpack_from(payload, offset)
        form, end = self.station.format, self.phasor_end
        frequency_hz, rocof_hz_per_s = words[end], words[end + 1]
        if not form.float_frequency:
            frequency_hz = self._hertz(frequency_hz)
            rocof_hz_per_s = math.nan if rocof_hz_per_s == _ABSENT else rocof_hz_per_s / 100.0
        analogs = words[end + 2 : end + 2 + len(self.station.analogs)]
        if analogs and not form.float_analogs:
            analogs = tuple(
                math.nan if count == _ABSENT else count * channel.scale + channel.offset
                for count, channel in zip(analogs, self.station.analogs, strict=True)
            )
        return PmuData(
            stat_of(words[0]),
            frequency_hz,
            rocof_hz_per_s,
            self._phasors(words),
            analogs,
            words[end + 2 + len(analogs) :],
        )

    def _hertz(self, deviation_mhz: float) -> float:
        if deviation_mhz == _ABSENT:
            return math.nan
        return (self.station.nominal_hz * 1000.0 + deviation_mhz) / 1000.0

    def _phasors(self, words: tuple[float, ...]) -> tuple[Phasor, ...]:
        end, convert = self.phasor_end, self.convert
        firsts, seconds = words[1:end:2], words[2:end:2]
        return tuple(
            [
                Phasor(name, *convert(first, second, scale, offset_rad), unit)
                for (name, scale, offset_rad, unit), first, second in zip(
                    self.channels, firsts, seconds, strict=True
                )
            ]
        )

    def write(self, data: PmuData) -> bytes:
        station, form = self.station, self.station.format
        if (len(data.phasors), len(data.analogs), len(data.digitals)) != (
            len(station.phasors),
            len(station.analogs),
            len(station.digitals),
        ):
            raise FrameError("the data has other channels than the configuration")
        frequency, rocof = data.frequency_hz, data.rocof_hz_per_s
        if not form.float_frequency:
            frequency = _count(frequency - station.nominal_hz, _FREQUENCY_STEP_HZ)
            rocof = _count(rocof, _ROCOF_STEP_HZ_PER_S)
        return pack(
            self.words,
            data.stat.bits,
            *(
                word
                for phasor, channel in zip(data.phasors, station.phasors, strict=True)
                for word in _phasor_words(phasor, channel, station)
            ),
            frequency,
            rocof,
            *(
                value if form.float_analogs else _count(value - channel.offset, channel.scale)
                for value, channel in zip(data.analogs, station.analogs, strict=True)
            ),
            *data.digitals,
        )


class DataLayout:
    """Reads and writes the data frames of one configuration."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._blocks = [_Block(station) for station in config.stations]
        self._offsets: list[int] = []
        size = 0
        for block in self._blocks:
            self._offsets.append(size)
            size += block.words.size
        self._payload_bytes = size
        self.frame_bytes = HEAD_BYTES + size + CHECK_BYTES

    def fits(self, frame: Frame) -> bool:
        """Whether the frame is a data frame of this stream and of this size."""
        return (
            frame.type is FrameType.DATA
            and frame.idcode == self.config.idcode
            and len(frame.payload) == self._payload_bytes
        )

    def config_change(self, frame: Frame) -> bool:
        """Whether any PMU of a frame that fits says that the configuration changes."""
        payload = frame.payload
        return any(payload[offset] & 0x04 for offset in self._offsets)

    def read_pmu(self, frame: Frame, index: int) -> PmuData:
        """What one PMU of the frame measured. Raises FrameError when the frame does not fit."""
        if not self.fits(frame):
            raise FrameError("the data frame does not fit the configuration")
        return self._blocks[index].read(frame.payload, self._offsets[index])

    def read(self, frame: Frame) -> Data:
        """All PMUs of the frame. Raises FrameError when the frame does not fit."""
        pmus = tuple(self.read_pmu(frame, index) for index in range(len(self._blocks)))
        return Data(frame.idcode, frame.stamp, pmus)

    def write(self, data: Data) -> bytes:
        """The frame. Raises FrameError when the data does not fit the configuration."""
        if len(data.pmus) != len(self._blocks):
            raise FrameError("the data has other PMUs than the configuration")
        payload = b"".join(
            block.write(pmu) for block, pmu in zip(self._blocks, data.pmus, strict=True)
        )
        return write_frame(Frame(FrameType.DATA, data.idcode, data.stamp, payload))


def _turn(angle_rad: float) -> float:
    """Degrees in -180..180; not a number stays one."""
    if not math.isfinite(angle_rad):
        return math.nan
    return math.remainder(math.degrees(angle_rad), 360.0)


def _float_polar(
    magnitude: float, angle_rad: float, _scale: float, _offset_rad: float
) -> tuple[float, float]:
    return magnitude, _turn(angle_rad)


def _float_rectangular(
    real: float, imaginary: float, _scale: float, _offset_rad: float
) -> tuple[float, float]:
    return math.hypot(real, imaginary), _turn(math.atan2(imaginary, real))


def _integer_polar(
    magnitude: float, angle_1e4_rad: float, scale: float, offset_rad: float
) -> tuple[float, float]:
    if angle_1e4_rad == _ABSENT:  # beyond half a turn: no angle
        return math.nan, math.nan
    return magnitude * scale, _turn(angle_1e4_rad * _ANGLE_STEP_RAD - offset_rad)


def _integer_rectangular(
    real: float, imaginary: float, scale: float, offset_rad: float
) -> tuple[float, float]:
    if real == imaginary == _ABSENT:
        return math.nan, math.nan
    return math.hypot(real, imaginary) * scale, _turn(math.atan2(imaginary, real) - offset_rad)


# (magnitude or real, angle or imaginary, scale, offset in radians) -> magnitude, degrees
_CONVERT: dict[tuple[bool, bool], Callable[[float, float, float, float], tuple[float, float]]] = {
    (True, True): _float_polar,
    (True, False): _float_rectangular,
    (False, True): _integer_polar,
    (False, False): _integer_rectangular,
}


def _phasor_words(phasor: Phasor, channel: PhasorChannel, station: Station) -> tuple[float, float]:
    form = station.format
    angle_rad = math.radians(phasor.angle_deg)
    if form.float_phasors:
        if form.polar:
            return phasor.magnitude, angle_rad
        return phasor.magnitude * math.cos(angle_rad), phasor.magnitude * math.sin(angle_rad)
    if not math.isfinite(phasor.magnitude):
        return (0, _ABSENT) if form.polar else (_ABSENT, _ABSENT)
    angle_rad = math.radians(_turn(angle_rad + channel.angle_rad))
    if form.polar:
        return _count(phasor.magnitude, channel.scale), _count(angle_rad, _ANGLE_STEP_RAD)
    return (
        _count(phasor.magnitude * math.cos(angle_rad), channel.scale),
        _count(phasor.magnitude * math.sin(angle_rad), channel.scale),
    )


def _count(value: float, step: float) -> int:
    if not (step and math.isfinite(step)):
        raise FrameError(f"integers cannot count in steps of {step}")
    if not math.isfinite(value):
        return _ABSENT
    if not math.isfinite(counts := value / step):
        raise FrameError(f"{value} is too large")
    return round(counts)
