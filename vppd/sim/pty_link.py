"""A pseudo-terminal linked at a path, so that a serial device seems to stand there."""

import asyncio
import os
import pty
import termios
import tty
from collections.abc import Callable
from pathlib import Path

PTS = "/dev/pts/"
READ_BYTES = 4096


class PtyLink:
    """The device's end; `received` gets what the other end sends."""

    def __init__(self, path: Path, received: Callable[[bytes], None]) -> None:
        self.path = path
        self._received = received
        self._master = self._slave = -1

    @property
    def is_open(self) -> bool:
        """Whether it stands there."""
        return self._master >= 0

    def open(self) -> None:
        """Make the pty and link it; the link of a plant that was killed is replaced. Raises OSError
        when the path is taken by something else."""
        if not self._is_free():
            raise FileExistsError(f"{self.path} is a real device; the plant will not replace it")
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        os.fchmod(self._slave, 0o600)
        os.set_blocking(self._master, False)
        self.path.unlink(missing_ok=True)
        self.path.symlink_to(os.ttyname(self._slave))
        asyncio.get_running_loop().add_reader(self._master, self._read)

    def _is_free(self) -> bool:
        if self.path.is_symlink():
            return str(self.path.readlink()).startswith(PTS) or not self.path.exists()
        return not self.path.exists()

    def close(self) -> None:
        """Take the link and the pty away."""
        if not self.is_open:
            return
        asyncio.get_running_loop().remove_reader(self._master)
        if self.path.is_symlink() and str(self.path.readlink()) == os.ttyname(self._slave):
            self.path.unlink()
        os.close(self._master)
        os.close(self._slave)
        self._master = self._slave = -1

    def write(self, data: bytes) -> int:
        """Send; how many bytes went, for nobody may be reading."""
        if not self.is_open:
            return 0
        try:
            return os.write(self._master, data)
        except BlockingIOError:
            return 0

    def forget(self) -> None:
        """Drop what was sent and never read."""
        termios.tcflush(self._slave, termios.TCIFLUSH)

    def _read(self) -> None:
        try:
            data = os.read(self._master, READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        self._received(data)
