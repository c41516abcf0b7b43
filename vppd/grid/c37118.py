"""IEEE C37.118.2 frames: bytes in, whole checked frames out, and back. Pure, no I/O.

Every frame: SYNC (0xAA, type and version), FRAMESIZE, IDCODE, SOC, FRACSEC, payload, CHK. All
words are big-endian. Configuration frames are read in c37118_config.py, data frames in
c37118_data.py. Whatever is malformed raises FrameError and nothing else.
"""

import binascii
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Any

SYNC = 0xAA
HEAD_BYTES = 14
CHECK_BYTES = 2
FRAME_MIN_BYTES = HEAD_BYTES + CHECK_BYTES
FRAME_MAX_BYTES = 0xFFFF
VERSION_2005 = 1
VERSION_2011 = 2  # only on what the 2011 edition added: CFG-3 and the command that asks for it

_HEAD = struct.Struct(">BBHHII")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CLOCK_FAILURE = 0xF
# MSG_TQ 1 to 11: the clock is unlocked and off by at most so much
_STATED_ERROR_S = (0.0, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)


class FrameError(ValueError):
    """Bytes that are no frame of this protocol, or values that do not fit into one."""


class FrameType(IntEnum):
    """Bits 6 to 4 of the second byte."""

    DATA = 0
    HEADER = 1
    CFG1 = 2
    CFG2 = 3
    COMMAND = 4
    CFG3 = 5


class CommandWord(IntEnum):
    """What a command asks for; 0x100 to 0xFFF are the user's own."""

    OFF = 1
    ON = 2
    SEND_HEADER = 3
    SEND_CFG1 = 4
    SEND_CFG2 = 5
    SEND_CFG3 = 6
    EXTENDED = 8


@dataclass(frozen=True, slots=True)
class Stamp:
    """SOC and FRACSEC. `count` is a fraction of TIME_BASE, 24 bits; `flags` is the byte above."""

    soc_s: int
    count: int
    flags: int = 0

    @property
    def clock_failed(self) -> bool:
        """The clock says that its time is not reliable."""
        return self.flags & 0xF == _CLOCK_FAILURE

    @property
    def error_s(self) -> float | None:
        """Stated worst time error: 0 when locked, None when failed or not stated."""
        code = self.flags & 0xF
        return _STATED_ERROR_S[code] if code < len(_STATED_ERROR_S) else None

    @property
    def leap_pending(self) -> bool:
        """A leap second comes within the next minute."""
        return bool(self.flags & 0x10)

    @property
    def leap_occurred(self) -> bool:
        """A leap second came within the last day."""
        return bool(self.flags & 0x20)

    @property
    def leap_deletes(self) -> bool:
        """Direction of that leap second: 0 adds one, 1 deletes one."""
        return bool(self.flags & 0x40)

    def seconds(self, time_base: int) -> float:
        """Seconds since 1970, leap seconds not counted."""
        return self.soc_s + self.count / time_base

    def utc(self, time_base: int) -> datetime:
        """The same as wall time; any SOC and count give one (the year 2106 at most)."""
        return _EPOCH + timedelta(
            seconds=self.soc_s, microseconds=round(self.count * 1_000_000 / time_base)
        )


@dataclass(frozen=True, slots=True)
class Frame:
    """One whole frame whose check word was right; `payload` is what stands before CHK."""

    type: FrameType
    idcode: int
    stamp: Stamp
    payload: bytes
    version: int = VERSION_2005


@dataclass(frozen=True, slots=True)
class Command:
    """What one end asks of the other. `idcode` names the stream, not a PMU in it."""

    idcode: int
    stamp: Stamp
    word: int
    extended: bytes = b""


def crc_ccitt(data: bytes | bytearray) -> int:
    """CRC-CCITT: polynomial 0x1021, start 0xFFFF, not reflected. Over a frame with its CHK: 0."""
    return binascii.crc_hqx(data, 0xFFFF)


def pack(layout: struct.Struct, *values: Any) -> bytes:
    """Raises FrameError when a value does not fit its word."""
    try:
        return layout.pack(*values)
    except (struct.error, OverflowError) as error:
        raise FrameError(f"a value does not fit: {error}") from error


def read_frame(data: bytes) -> Frame:
    """Check sync, size and CRC. Raises FrameError."""
    size = len(data)
    if not FRAME_MIN_BYTES <= size <= FRAME_MAX_BYTES:
        raise FrameError(f"{size} bytes are no frame")
    sync, kind, claimed, idcode, soc_s, fracsec = _HEAD.unpack_from(data)
    if sync != SYNC or not _is_kind(kind):
        raise FrameError(f"no sync word: {data[:2].hex()}")
    if claimed != size:
        raise FrameError(f"says {claimed} bytes, has {size}")
    if crc_ccitt(data):
        raise FrameError("check word wrong")
    return Frame(
        FrameType(kind >> 4),
        idcode,
        Stamp(soc_s, fracsec & 0xFFFFFF, fracsec >> 24),
        data[HEAD_BYTES:-CHECK_BYTES],
        kind & 0xF,
    )


def write_frame(frame: Frame) -> bytes:
    """The bytes of a frame, CHK included. Raises FrameError when a value does not fit."""
    size = HEAD_BYTES + len(frame.payload) + CHECK_BYTES
    stamp = frame.stamp
    if stamp.count >> 24 or stamp.flags >> 8 or frame.version >> 4:
        raise FrameError("fraction over 24 bits, flags over 8 or version over 4")
    head = pack(
        _HEAD,
        SYNC,
        frame.type << 4 | frame.version,
        size,
        frame.idcode,
        stamp.soc_s,
        stamp.flags << 24 | stamp.count,
    )
    body = head + frame.payload
    return body + crc_ccitt(body).to_bytes(CHECK_BYTES, "big")


def read_command(frame: Frame) -> Command:
    """Raises FrameError when it is none."""
    payload = frame.payload
    if frame.type is not FrameType.COMMAND or len(payload) < 2:  # noqa: PLR2004  (the word)
        raise FrameError("not a command frame")
    return Command(frame.idcode, frame.stamp, int.from_bytes(payload[:2], "big"), payload[2:])


def write_command(command: Command) -> bytes:
    """Raises FrameError when a value does not fit."""
    if not 0 <= command.word <= 0xFFFF:  # noqa: PLR2004  (16 bits)
        raise FrameError(f"no command word: {command.word}")
    version = VERSION_2011 if command.word == CommandWord.SEND_CFG3 else VERSION_2005
    payload = command.word.to_bytes(2, "big") + command.extended
    return write_frame(Frame(FrameType.COMMAND, command.idcode, command.stamp, payload, version))


def read_header(frame: Frame) -> str:
    """The words of a header frame, for people. Raises FrameError when it is none."""
    if frame.type is not FrameType.HEADER:
        raise FrameError("not a header frame")
    return text(frame.payload)


def write_header(idcode: int, stamp: Stamp, words: str) -> bytes:
    """Raises FrameError when a value does not fit."""
    return write_frame(Frame(FrameType.HEADER, idcode, stamp, words.encode()))


def text(data: bytes) -> str:
    """A name as a person may see it: padding off, nothing that could steer a terminal or a log."""
    words = data.decode("utf-8", "replace").strip("\0 ")
    return "".join(letter if letter.isprintable() else "?" for letter in words)


def _is_kind(second: int) -> bool:
    return second < 0x80 and second >> 4 <= FrameType.CFG3  # noqa: PLR2004  (bit 7 is 0)


class Deframer:
    """Bytes in, whole frames out, split and merged at any boundary.

    FRAMESIZE is believed only after the CRC: a false start costs one byte, and a start that waits
    for bytes to come does not hide whole frames behind it. Keeps at most one frame's bytes.
    """

    # What false starts may cost is bounded, counted in bytes under the CRC: so many a call, and
    # some for each byte given. Looking at a start costs as much as checking so many bytes.
    _WORK_BYTES = 1 << 18
    _WORK_PER_BYTE = 8
    _LOOK_BYTES = 256

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._lost = False
        self.frames = 0
        self.bad_bytes = 0  # skipped, because no frame began there
        self.bad_frames = 0  # looked like a frame, and the check word was wrong
        self.resyncs = 0  # times a frame was found again after bad bytes

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes; give the whole frames they complete, in order."""
        self._buffer += data
        frames, kept = self._search(self._WORK_BYTES + self._WORK_PER_BYTE * len(data))
        del self._buffer[:kept]
        return frames

    def end(self) -> None:
        """Nothing follows (a datagram's end): what is left over is bad."""
        self._skip(len(self._buffer))
        self._buffer.clear()

    def reset(self) -> None:
        """Forget a half frame: the connection it came on is gone."""
        self._buffer.clear()
        self._lost = False

    def _search(self, work: int) -> tuple[list[bytes], int]:
        """The frames found, and the first byte that may still begin one. Beyond `work` no more is
        looked at: what waits for its end is kept, else the rest counts as bad."""
        frames: list[bytes] = []
        done = 0  # all before it is accounted for
        waiting: int | None = None  # a start whose end has not come yet
        for at in self._starts():
            if at < done:
                continue
            if work < 0:
                break
            work -= self._LOOK_BYTES
            if (size := self._claim(at)) == 0:
                continue
            end = at + size
            if end > len(self._buffer):
                waiting = at if waiting is None else waiting
            elif crc_ccitt(self._buffer[at:end]):
                self.bad_frames += waiting is None
                work -= size
            else:
                self.bad_frames += waiting is not None
                self._skip(at - done)
                frames.append(self._found(at, end))
                done, waiting = end, None
        kept = len(self._buffer) if waiting is None else waiting
        self._skip(kept - done)
        return frames, kept

    def _starts(self) -> Iterator[int]:
        at = self._buffer.find(SYNC)
        while at >= 0:
            yield at
            at = self._buffer.find(SYNC, at + 1)

    def _claim(self, at: int) -> int:
        """How many bytes a frame starting here would have; 0 when none can start here."""
        head = self._buffer[at : at + 4]
        if len(head) > 1 and not _is_kind(head[1]):
            return 0
        if len(head) < 4:  # noqa: PLR2004  (FRAMESIZE ends there)
            return FRAME_MIN_BYTES
        size = head[2] << 8 | head[3]
        return size if size >= FRAME_MIN_BYTES else 0

    def _found(self, at: int, end: int) -> bytes:
        self.frames += 1
        self.resyncs += self._lost
        self._lost = False
        return bytes(self._buffer[at:end])

    def _skip(self, count: int) -> None:
        if count:
            self.bad_bytes += count
            self._lost = True
