"""Recorded files: one after the other in a folder that never grows beyond its bound.

A file is a magic word, then chunks: length, check sum, bytes. The bytes of all chunks are one
compressed stream, flushed at the end of each, so that what was written before a power cut can be
read; what comes after damage cannot, and the next file begins afresh.
"""

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from vppd.spine.columns import DamagedError

MAGIC = b"VPPDREC1"  # another form of the bytes gets another
SUFFIX = ".rec"
LEVEL = 6
CHUNK_MAX_BYTES = 32 * 2**20  # four times what may wait for the disk: a longer one is damage
_HEAD = struct.Struct("<II")
_STAMP = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, slots=True)
class Segment:
    """One recorded file, by its name."""

    path: Path
    begun: datetime
    number: int


class CutOffError(DamagedError):
    """A file that was not finished, as a power cut leaves it."""


class SegmentFile:
    """One file being written. Every method raises OSError when the disk refuses."""

    def __init__(self, folder: Path, begun: datetime) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        number = max((each.number for each in segments(folder)), default=0) + 1
        self.path = folder / f"{begun.astimezone(UTC):{_STAMP}}-{number:06d}{SUFFIX}"
        self._press = zlib.compressobj(LEVEL)
        self._file: BinaryIO = self.path.open("xb", buffering=0)
        self.size_bytes = len(MAGIC)
        try:
            self._file.write(MAGIC)
        except BaseException:
            self.close()
            raise

    def write(self, chunk: bytes) -> None:
        """Append one chunk, and return when it is on the disk: of what only the kernel has, a power
        cut leaves nothing."""
        raw = self._press.compress(chunk) + self._press.flush(zlib.Z_SYNC_FLUSH)
        packed = _HEAD.pack(len(raw), zlib.crc32(raw)) + raw
        done = 0
        while done < len(packed):  # a disk that fills may take a part
            done += self._file.write(packed[done:])
        os.fdatasync(self._file.fileno())
        self.size_bytes += len(packed)

    def close(self) -> None:
        """No more is written. A file without a whole chunk says nothing and goes, as a full disk
        would get another with each try."""
        self._file.close()
        if self.size_bytes == len(MAGIC):
            self.path.unlink(missing_ok=True)


def segments(folder: Path) -> Sequence[Segment]:
    """The recorded files of a folder, oldest first. Raises OSError."""
    if not folder.is_dir():
        return ()
    named = (_named(path) for path in folder.iterdir() if path.suffix == SUFFIX)
    return sorted((each for each in named if each is not None), key=lambda each: each.number)


def trim(folder: Path, most_bytes: int, spared: Path | None) -> int:
    """Delete the oldest files until so much is left; `spared` stays. What is left, bytes."""
    sizes = [(each.path, each.path.stat().st_size) for each in segments(folder)]
    left = sum(size for _, size in sizes)
    for path, size in sizes:
        if left <= most_bytes:
            break
        if path != spared:
            path.unlink(missing_ok=True)
            left -= size
    return left


def chunks(path: Path) -> Iterator[bytes]:
    """The chunks of one file. Raises DamagedError where it is damaged or ends too soon, OSError."""
    press = zlib.decompressobj()
    with path.open("rb") as file:
        if (word := file.read(len(MAGIC))) != MAGIC:
            if MAGIC.startswith(word.rstrip(b"\0")) and not file.read().strip(b"\0"):
                raise CutOffError("the file was cut off before anything was written")
            raise DamagedError("not a recorded file of this version")
        while head := file.read(_HEAD.size):
            if len(head) < _HEAD.size:
                raise CutOffError("the file was cut off")
            length, crc = _HEAD.unpack(head)
            raw = file.read(length) if length <= CHUNK_MAX_BYTES else b""
            if len(raw) < length:
                raise CutOffError("the file was cut off")
            if not raw or zlib.crc32(raw) != crc:
                # no chunk ends with a zero: where all that follows is zeros, it never was there
                if not (raw[-1:] + file.read()).strip(b"\0"):
                    raise CutOffError("the file was cut off, its end never reached the disk")
                raise DamagedError("bytes were changed")
            try:
                chunk = press.decompress(raw, CHUNK_MAX_BYTES)
            except zlib.error as error:
                raise DamagedError(f"not compressed as it should be: {error}") from error
            if press.unconsumed_tail:
                raise DamagedError("a chunk is larger than any that is written")
            yield chunk


def _named(path: Path) -> Segment | None:
    stamp, _, number = path.stem.partition("-")
    try:
        begun = datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC)
        return Segment(path, begun, int(number))
    except ValueError:
        return None
