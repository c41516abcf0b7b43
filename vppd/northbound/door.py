"""The path of the socket: one daemon has it, proven by a lock before the path is touched.

bind() on a Unix path silently takes it over from a living daemon, so the lock file beside it comes
first, and a stale socket is removed only by its holder. The kernel frees the lock of a dead one.
"""

import fcntl
import os
import socket
import stat
from pathlib import Path

from vppd.northbound.peers import peer_of

# The group is the one the daemon runs in, which systemd/vppd.service makes vppd-viewers: the kernel
# refuses everybody else. Who was let in is judged by credentials before a byte of theirs is read.
MODE = 0o660
BACKLOG = 64
PROBE_S = 1.0
PATH_MAX_BYTES = 107


class DoorTakenError(RuntimeError):
    """The path cannot be ours; the text says whose it is and what to do."""


class Door:
    """`claim`, `listen`, at last `close`. No call waits longer than a second."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None
        self._inode: int | None = None

    def claim(self) -> None:
        """Take the lock. Raises DoorTakenError when another daemon lives here, or nobody can."""
        if self._lock is not None:
            return
        if len(os.fsencode(self.path)) > PATH_MAX_BYTES:
            raise DoorTakenError(f"{self.path}: longer than {PATH_MAX_BYTES} bytes, choose another")
        lock_path = self.path.with_name(self.path.name + ".lock")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(lock_path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise DoorTakenError(f"{self.path}: {error}; use another --socket") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pid = os.pread(lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(lock)
            raise DoorTakenError(
                f"vppd with pid {pid} already serves {self.path}: stop it or use another --socket"
            ) from None
        try:
            self._sweep()
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        except BaseException:
            os.close(lock)
            raise
        self._lock = lock

    def listen(self) -> socket.socket:
        """The listening socket, not blocking. Raises OSError, DoorTakenError."""
        self.claim()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            listener.bind(str(self.path))
            self.path.chmod(MODE)
            self._inode = self.path.stat().st_ino
            listener.listen(BACKLOG)
            listener.setblocking(False)
        except BaseException:
            listener.close()
            raise
        return listener

    def close(self) -> None:
        """Remove the path if it is still ours, then free the lock."""
        if self._lock is None:
            return
        try:
            if self._inode is not None and self.path.stat().st_ino == self._inode:
                self.path.unlink()
        except OSError:
            pass  # gone already, or with its directory
        os.close(self._lock)
        self._lock = self._inode = None

    def _sweep(self) -> None:
        """Remove what a dead daemon left, under the lock."""
        try:
            mode = self.path.lstat().st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(mode):
            raise DoorTakenError(
                f"{self.path} exists and is not a socket: remove it or use another"
            )
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(PROBE_S)
            try:
                probe.connect(str(self.path))
            except (ConnectionRefusedError, FileNotFoundError):
                self.path.unlink(missing_ok=True)
                return
            except OSError as error:
                raise DoorTakenError(f"{self.path} cannot be tried: {error}") from None
            pid = peer_of(probe).pid
        raise DoorTakenError(f"pid {pid} listens on {self.path}: stop it or use another --socket")
