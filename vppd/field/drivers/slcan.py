"""A serial port that reads ahead: what python-can's slcan asks byte by byte comes out of memory.

python-can reads a LAWICEL line with two system calls a byte; at 2000 frames a second that alone
is half a core. It also forgets to drop a line that is not ASCII, and then chokes on it for ever; so
such bytes come out as `?`, which no line begins with. Writes never wait: a frame that does not fit
in the port's buffer is an error.
"""

import os
import select
from typing import Any

CHUNK_BYTES = 4096
TO_ASCII = bytes(byte if byte < 0x80 else ord("?") for byte in range(256))  # noqa: PLR2004


class ReadAhead:
    """Stands in for the `serial.Serial` of a slcan bus that was opened."""

    def __init__(self, port: Any) -> None:
        self.write_timeout: float | None = 0.0  # python-can sets it; writes never wait anyway
        self._port = port
        self._fd: int = port.fileno()
        self._ahead = b""
        self._taken = 0

    @property
    def in_waiting(self) -> int:
        """Bytes that can be read at once. Raises OSError when the port is gone."""
        if self._taken >= len(self._ahead):
            self._ahead, self._taken = self._arrived(), 0
        return len(self._ahead) - self._taken

    def read(self, size: int = 1) -> bytes:
        """At most so many bytes, none when none came. Raises OSError when the port is gone."""
        if self._taken >= len(self._ahead) and not self.in_waiting:
            return b""
        taken = self._taken
        self._taken = taken + size
        return self._ahead[taken : taken + size]

    def write(self, data: bytes) -> int:
        """All of it, at once. Raises OSError when that cannot be."""
        sent = os.write(self._fd, data)
        if sent < len(data):
            raise BlockingIOError(f"{sent} of {len(data)} bytes fit in the port's buffer")
        return sent

    def flush(self) -> None:
        """Bytes leave by themselves."""

    def reset_input_buffer(self) -> None:
        """Forget what came."""
        self._ahead, self._taken = b"", 0
        self._port.reset_input_buffer()

    def fileno(self) -> int:
        """Of the port."""
        return self._fd

    def close(self) -> None:
        """Close the port."""
        self._port.close()

    def _arrived(self) -> bytes:
        for _ in range(2):
            try:
                data = os.read(self._fd, CHUNK_BYTES)
            except BlockingIOError:
                return b""
            if data:
                return data.translate(TO_ASCII)
            if not select.select([self._fd], [], [], 0.0)[0]:
                return b""
        raise ConnectionResetError("the serial port is gone")  # ready to be read, but it is not
