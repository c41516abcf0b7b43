"""One child process: bytes in, bytes out, bounded in time and in size, killed when it must be.

Blocking; a thread runs it. `kill` may be called from any other thread, before or after the start.
"""

import os
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
PASSED_ON = ("PATH", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV")


class ChildFailed(Exception):  # noqa: N818 - what came of it
    """No usable output: the text says why."""


class Child:
    """One run of one command."""

    def __init__(self, command: Sequence[str], most_bytes: int) -> None:
        self._command, self._most_bytes = tuple(command), most_bytes
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._killed = ""

    def run(self, given: bytes, limit_s: float) -> bytes:
        """All it writes, when it ended well within the limit. Raises ChildFailed."""
        with self._start() as process:
            timer = threading.Timer(limit_s, self.kill, (f"took longer than {limit_s:g} s",))
            timer.daemon = True
            timer.start()
            try:
                written = self._exchanged(process, given)
            finally:
                timer.cancel()
            code = process.wait()
        if self._killed:
            raise ChildFailed(self._killed)
        if code:
            raise ChildFailed(f"ended with {code}")
        return written

    def kill(self, why: str) -> None:
        """End it, or never start it."""
        with self._lock:
            self._killed = self._killed or why
            if self._process is not None and self._process.returncode is None:
                self._process.kill()

    def _start(self) -> "subprocess.Popen[bytes]":
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        with self._lock:
            if self._killed:
                raise ChildFailed(self._killed)
            try:
                self._process = subprocess.Popen(  # noqa: S603 - our own interpreter
                    self._command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env=environment | ONE_THREAD,
                    start_new_session=True,
                )
            except OSError as error:
                raise ChildFailed(f"did not start: {error}") from error
            return self._process

    def _exchanged(self, process: "subprocess.Popen[bytes]", given: bytes) -> bytes:
        """What it writes after it was given everything; it must read all before it writes."""
        assert process.stdin is not None  # noqa: S101 - asked for above
        assert process.stdout is not None  # noqa: S101
        with suppress(BrokenPipeError):  # it ended, or was killed, before it had read all
            process.stdin.write(given)
        with suppress(BrokenPipeError):
            process.stdin.close()
        written = process.stdout.read(self._most_bytes + 1)
        if len(written) > self._most_bytes:
            self.kill(f"wrote more than {self._most_bytes} bytes")
        return written
