"""The gateway on which the daemon runs, as the campaign needs it: plain processes, or see
`gateway_booted`.

Plain: the daemon is a process, and what systemd would do for it is done by a thread that hears its
notifications: a death is followed by a start, silence beyond the watchdog by SIGABRT.
"""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tests.process_site import Systemd

TOP = Path(__file__).parents[2]
MISCHIEF = TOP / "tests/faults/mischief.py"
WATCHDOG_S = 10.0  # as the unit says
ABORT_S = 5.0
RESTART_S = 1.0
LOOK_S = 0.05
LIMITS = {"nofile": resource.RLIMIT_NOFILE, "as": resource.RLIMIT_AS}


class Gateway(ABC):
    """Where the daemon lives. `socket` and `state` are seen from here."""

    booted = False
    socket: Path
    state: Path

    @abstractmethod
    def pid(self) -> int | None:
        """Of the daemon, as seen from here; None while there is none."""

    @abstractmethod
    def start(self) -> None:
        """Start it, and start it again whenever it dies."""

    @abstractmethod
    def stop(self) -> None:
        """SIGTERM, and wait; it stays down."""

    @abstractmethod
    def close(self) -> None:
        """All is gone."""

    @abstractmethod
    def told(self, environment: Mapping[str, str]) -> None:
        """From the next start on it has these in its environment too."""

    @abstractmethod
    def squeeze(self, what: str, soft: int) -> None:
        """Lower, or give back, a soft limit of the running daemon: `nofile` or `as`."""

    @abstractmethod
    def words(self) -> str:
        """What it said last."""

    def soft(self, what: str) -> int:
        """What that limit is now."""
        pid = self.pid()
        return resource.RLIM_INFINITY if pid is None else resource.prlimit(pid, LIMITS[what])[0]

    def send(self, number: int) -> None:
        """A signal to the daemon, if there is one."""
        if (pid := self.pid()) is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, number)


class PlainGateway(Gateway):
    """See the module."""

    def __init__(self, directory: Path, config: Path) -> None:
        self.socket, self.state = directory / "vppd.sock", directory / "state"
        self.state.mkdir(exist_ok=True)
        self._config, self._said = config, directory / "daemon.txt"
        self._systemd = Systemd(directory / "notify")
        self._process: subprocess.Popen[bytes] | None = None
        self._wanted, self._over = False, threading.Event()
        self._lock, self._more = threading.RLock(), dict[str, str]()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def pid(self) -> int | None:
        with self._lock:
            running = self._process is not None and self._process.poll() is None
            return self._process.pid if self._process is not None and running else None

    def start(self) -> None:
        with self._lock:
            self._wanted = True
            if self.pid() is None:
                self._spawn()

    def stop(self) -> None:
        with self._lock:
            self._wanted = False
        self.send(signal.SIGTERM)
        if self._process is not None:
            self._process.wait(20.0)

    def close(self) -> None:
        self._over.set()
        self._thread.join(5.0)
        self._wanted = False
        self.send(signal.SIGCONT)
        self.send(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(20.0)
        self._systemd.close()

    def told(self, environment: Mapping[str, str]) -> None:
        self._more = dict(environment)

    def squeeze(self, what: str, soft: int) -> None:
        if (pid := self.pid()) is not None:
            limit = LIMITS[what]
            resource.prlimit(pid, limit, (soft, resource.prlimit(pid, limit)[1]))

    def words(self) -> str:
        return self._said.read_text(errors="replace")[-3000:]

    def _spawn(self) -> None:
        told = {
            **os.environ,
            "PYTHONPATH": str(TOP),
            "PYTHONFAULTHANDLER": "1",
            "NOTIFY_SOCKET": str(self._systemd.path),
            "WATCHDOG_USEC": str(round(WATCHDOG_S * 1e6)),
            **self._more,
        }
        state, at = ("--state", str(self.state)), ("--socket", str(self.socket))
        with self._said.open("a") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-P", MISCHIEF, "run", "--config", self._config, *state, *at],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=told,
                start_new_session=True,
            )
        self._begun_s = time.monotonic()

    def _watch(self) -> None:
        died_s = aborted_s = 0.0
        while not self._over.wait(LOOK_S):
            now_s = time.monotonic()
            with self._lock:
                if self.pid() is None:
                    died_s, aborted_s = died_s or now_s, 0.0
                    if self._wanted and now_s - died_s >= RESTART_S:
                        self._spawn()
                        died_s = 0.0
                    continue
                died_s = 0.0
            ready = self._systemd.lines("READY", self._begun_s)
            fed_s = max([self._begun_s, *self._systemd.fed(self._begun_s)[-1:]])
            if aborted_s and now_s - aborted_s > ABORT_S:
                self.send(signal.SIGKILL)
            elif ready and not aborted_s and now_s - fed_s > WATCHDOG_S:
                self.send(signal.SIGABRT)
                aborted_s = now_s
