"""C37.118.2 frames as a PMU sends them, and the commands it understands. Pure.

Typed from the wire facts of IEEE C37.118.2-2011: all numbers big-endian; SYNC 0xAA and a type byte,
FRAMESIZE, IDCODE, SOC, FRACSEC, payload, CHK = CRC-CCITT (0x1021, start 0xFFFF) over all before it.
"""

import binascii
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

VERSION = 2  # 2011
DATA, HEADER_FRAME, CFG1, CFG2, COMMAND, CFG3 = range(6)
TURN_OFF, TURN_ON, SEND_HEADER, SEND_CFG1, SEND_CFG2, SEND_CFG3 = range(1, 7)
TIME_BASE = 1_000_000
SYNC = 0xAA
LONGEST_COMMAND = 4096
CHECK_BYTES = 2
HEAD = struct.Struct(">BBHHLL")
FORMAT_POLAR, FORMAT_PHASOR_FLOAT, FORMAT_ANALOG_FLOAT, FORMAT_FREQ_FLOAT = 1, 2, 4, 8
NOMINAL_50 = 1
VOLT_PER_COUNT, AMPERE_PER_COUNT = 0.5, 0.1  # of integer phasors
PHUNIT_STEP = 1e-5
TQ_CLOCK_FAILURE = 0xF
STAT_GOOD = 1 << 6  # time error below 100 ns
STAT_DATA_ERROR_SHIFT = 14  # 1: PMU error, no data; 2: test mode or absent; 3: PMU error
ABSENT = -0x8000  # an integer that stands for no value; a float is NaN
STAT_CLOCK_FAILURE = 1 << 13 | 7 << 6 | 3 << 4  # sync lost, quality unknown, unlocked for long


@dataclass(frozen=True, slots=True)
class Channel:
    """One phasor: name, whether it is a current, and its phase 0 A, 1 B, 2 C."""

    name: str
    is_current: bool
    phase: int


CHANNELS = (
    *(Channel(f"V{'ABC'[phase]}", is_current=False, phase=phase) for phase in range(3)),
    *(Channel(f"I{'ABC'[phase]}", is_current=True, phase=phase) for phase in range(3)),
)


@dataclass(frozen=True, slots=True)
class Layout:
    """What a stream is made of."""

    stream_id: int
    pmu_id: int
    station: str = "VPPD SIM"
    fps: int = 10
    floats: bool = True
    polar: bool = True

    @property
    def format_bits(self) -> int:
        """The FORMAT word."""
        floats = FORMAT_PHASOR_FLOAT | FORMAT_ANALOG_FLOAT | FORMAT_FREQ_FLOAT
        return (FORMAT_POLAR if self.polar else 0) | (floats if self.floats else 0)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One instant: phasors as (RMS magnitude in V or A, angle in radians)."""

    frequency_hz: float
    rocof_hz_per_s: float
    phasors: Sequence[tuple[float, float]]
    stat: int = STAT_GOOD


def crc_ccitt(data: bytes) -> int:
    """CHK; of b"123456789" it is 0x29B1. binascii calls the same polynomial `hqx`."""
    return binascii.crc_hqx(data, 0xFFFF)


def frame(kind: int, idcode: int, at_us: int, payload: bytes, time_quality: int = 0) -> bytes:
    """Any frame; `at_us` is UTC in microseconds since 1970."""
    soc, fraction = divmod(at_us, TIME_BASE)
    size = HEAD.size + len(payload) + 2
    head = HEAD.pack(
        SYNC, kind << 4 | VERSION, size, idcode, soc & 0xFFFFFFFF, time_quality << 24 | fraction
    )
    body = head + payload
    return body + crc_ccitt(body).to_bytes(2, "big")


def data_frame(layout: Layout, at_us: int, seen: Measurement, time_quality: int = 0) -> bytes:
    """Float FREQ is hertz, integer FREQ the deviation in mHz; DFREQ Hz/s, or Hz/s x 100."""
    parts = [seen.stat.to_bytes(2, "big")]
    for channel, (magnitude, angle_rad) in zip(CHANNELS, seen.phasors, strict=True):
        parts.append(_phasor(layout, channel, magnitude, angle_rad))
    if layout.floats:
        parts.append(struct.pack(">ff", seen.frequency_hz, seen.rocof_hz_per_s))
    else:
        known = math.isfinite(seen.frequency_hz)
        deviation_mhz = _i16(1000.0 * (seen.frequency_hz - 50.0)) if known else ABSENT
        parts.append(struct.pack(">hh", deviation_mhz, _i16(100.0 * seen.rocof_hz_per_s)))
    return frame(DATA, layout.stream_id, at_us, b"".join(parts), time_quality)


def _phasor(layout: Layout, channel: Channel, magnitude: float, angle_rad: float) -> bytes:
    angle_rad = math.remainder(angle_rad, 2.0 * math.pi)
    real, imaginary = magnitude * math.cos(angle_rad), magnitude * math.sin(angle_rad)
    if layout.floats:
        return struct.pack(">ff", *((magnitude, angle_rad) if layout.polar else (real, imaginary)))
    count = AMPERE_PER_COUNT if channel.is_current else VOLT_PER_COUNT
    if layout.polar:
        return struct.pack(">Hh", min(round(magnitude / count), 65535), _i16(1e4 * angle_rad))
    return struct.pack(">hh", _i16(real / count), _i16(imaginary / count))


def _i16(value: float) -> int:
    return min(max(round(value), -32768), 32767)


def cfg2_frame(layout: Layout, at_us: int) -> bytes:
    """Configuration frame 2: one PMU, six phasors."""
    units = [
        int(channel.is_current) << 24 | round(_per_count(channel) / PHUNIT_STEP)
        for channel in CHANNELS
    ]
    payload = struct.pack(">LH", TIME_BASE, 1) + _padded(layout.station)
    payload += struct.pack(">HHHHH", layout.pmu_id, layout.format_bits, len(CHANNELS), 0, 0)
    payload += b"".join(_padded(channel.name) for channel in CHANNELS)
    payload += struct.pack(f">{len(units)}L", *units)
    payload += struct.pack(">HHh", NOMINAL_50, 1, layout.fps)
    return frame(CFG2, layout.stream_id, at_us, payload)


def cfg3_frame(layout: Layout, at_us: int, latitude: float, longitude: float) -> bytes:
    """Configuration frame 3, in one piece. `latitude` and `longitude` in degrees."""
    payload = struct.pack(">HLH", 0, TIME_BASE, 1) + _counted(layout.station)
    payload += struct.pack(">H", layout.pmu_id) + layout.pmu_id.to_bytes(16, "big")
    payload += struct.pack(">HHHH", layout.format_bits, len(CHANNELS), 0, 0)
    payload += b"".join(_counted(channel.name) for channel in CHANNELS)
    for channel in CHANNELS:
        kind = int(channel.is_current) << 3 | 4 + channel.phase
        payload += struct.pack(">HBBff", 0, kind, 0, _per_count(channel), 0.0)
    payload += struct.pack(">fffcii", latitude, longitude, math.inf, b"M", 0, 0)
    payload += struct.pack(">HHh", NOMINAL_50, 1, layout.fps)
    return frame(CFG3, layout.stream_id, at_us, payload)


def header_frame(layout: Layout, at_us: int) -> bytes:
    """Words for people."""
    text = f"{layout.station}: a simulated PMU".encode("ascii")
    return frame(HEADER_FRAME, layout.stream_id, at_us, text)


def _per_count(channel: Channel) -> float:
    return AMPERE_PER_COUNT if channel.is_current else VOLT_PER_COUNT


def _padded(name: str) -> bytes:
    return name.encode("ascii")[:16].ljust(16)


def _counted(name: str) -> bytes:
    encoded = name.encode()
    return bytes([len(encoded)]) + encoded


def take_command(buffer: bytearray, idcode: int) -> int | None:
    """Take the next command word for this stream off the front; None: no whole one yet.

    Bytes that are no valid frame are skipped one by one, frames of other kinds and streams whole.
    """
    while len(buffer) >= HEAD.size:
        size = int.from_bytes(buffer[2:4], "big")
        if buffer[0] != SYNC or not HEAD.size + 2 <= size <= LONGEST_COMMAND:
            del buffer[0]
            continue
        if len(buffer) < size:
            return None
        taken = bytes(buffer[:size])
        if crc_ccitt(taken[:-2]) != int.from_bytes(taken[-2:], "big"):
            del buffer[0]
            continue
        del buffer[:size]
        is_command = taken[1] >> 4 & 7 == COMMAND and size >= HEAD.size + 4
        if is_command and int.from_bytes(taken[4:6], "big") == idcode:
            return int.from_bytes(taken[14:16], "big")
    return None
