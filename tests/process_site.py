"""The daemon and the plant as the processes they are: systemd is a socket of ours that listens.

The plant is a process of its own, on loopback addresses that the daemon, in mode hardware, takes
for the field: it outlives the daemon and tells what the devices hold when that is gone.
"""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from vppd.cli.scene import free_ports
from vppd.cli.wire import DaemonAbsent, ask, fetch

Json = dict[str, Any]
NAMES = ("A", "B", "C", "D")
LOOK_S = 0.02
WATCHDOG_S = 3.0
REVERT_S = 5.0  # of vpp-bess-v2, as its profile programs it
KVAR_REGISTER = "0x2001"


def until(condition: Callable[[], object], within_s: float, account: Callable[[], object]) -> float:
    """Wait for a condition; the seconds it took. Fails with the account when it does not come."""
    begun_s = time.monotonic()
    while not condition():
        assert time.monotonic() - begun_s <= within_s, f"not within {within_s:g} s: {account()}"
        time.sleep(LOOK_S)
    return time.monotonic() - begun_s


class Systemd:
    """The notify socket, and when each datagram came."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard: list[tuple[float, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        with suppress(OSError):
            while data := self._socket.recv(4096):
                self.heard.append((time.monotonic(), data.decode()))

    def close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def lines(self, key: str, since_s: float = 0.0) -> list[tuple[float, str]]:
        """When and what was said under this key."""
        return [
            (at_s, line.partition("=")[2])
            for at_s, text in list(self.heard)
            for line in text.splitlines()
            if at_s >= since_s and line.startswith(f"{key}=")
        ]

    def fed(self, since_s: float = 0.0) -> list[float]:
        return [at_s for at_s, _ in self.lines("WATCHDOG", since_s)]


class Process:
    """One of ours, with its words kept."""

    def __init__(
        self,
        arguments: Sequence[object],
        words: Path,
        environment: Mapping[str, str] | None = None,
        program: Sequence[str] = ("-m", "vppd"),
    ) -> None:
        self._words = words
        with words.open("a") as file:
            self.popen = subprocess.Popen(
                [sys.executable, "-P", *program, *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def words(self) -> str:
        return self._words.read_text()

    def alive(self) -> bool:
        return self.popen.poll() is None

    def send(self, number: int) -> None:
        self.popen.send_signal(number)

    def exit_code(self, within_s: float) -> int:
        until(lambda: not self.alive(), within_s, lambda: f"it runs on: {self.words[-2000:]}")
        return int(self.popen.returncode)

    def end(self) -> None:
        """Whatever it does, it is gone."""
        if self.alive():
            self.popen.kill()
        self.popen.wait(10.0)


class Plant(Process):
    """`vppd sim` over a configuration, with its fault socket."""

    def __init__(self, directory: Path) -> None:
        self._socket = directory / "plant.sock"
        words = directory / "plant.txt"
        super().__init__(["sim", "--config", directory / "etc", "--faults", self._socket], words)

    def serves(self) -> bool:
        assert self.alive(), self.words
        return "serving" in self.words

    def ask(self, **asked: object) -> Json:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.settimeout(5.0)
            link.connect(str(self._socket))
            link.sendall(json.dumps(asked).encode() + b"\n")
            with link.makefile() as lines:
                answer: Json = json.loads(lines.readline())
        assert "error" not in answer, answer
        return answer

    def inject(self, name: str, target: str, **parameters: object) -> None:
        self.ask(inject=name, target=target, **parameters)

    def clear(self, name: str, target: str = "") -> None:
        self.ask(clear=name, target=target)

    def state(self, unit: str) -> Json:
        state: Json = self.ask(state=unit)["state"]
        return state

    def gives_kw(self, *units: str) -> list[float]:
        return [float(self.state(unit)["power_kw"]) for unit in units]

    def held_kw(self, *units: str) -> list[float]:
        return [float(self.state(unit)["setpoint_kw"]) for unit in units]

    def told_zero(self, unit: str) -> bool:
        """Whether vppd, not a timer, wrote 0 kW last, and the device holds 0 kvar too."""
        state = self.state(unit)
        last = state["setpoints"][-1]
        zero_kw = state["setpoint_kw"] == 0.0 and last["power_kw"] == 0.0
        zero_kvar = state["holding"][KVAR_REGISTER] == 0
        return zero_kw and zero_kvar and last["source"] == "modbus" and not state["timed_out"]


class Daemon(Process):
    """`vppd run`, told where systemd listens."""

    def __init__(
        self,
        directory: Path,
        systemd: Systemd | None,
        *,
        config: Path | None = None,
        state: Path | None = None,
        socket: Path | None = None,
        program: Sequence[str] = ("-m", "vppd"),
        watchdog_s: float = WATCHDOG_S,
    ) -> None:
        self.socket = socket or directory / "vppd.sock"
        told = {"NOTIFY_SOCKET": "", "WATCHDOG_USEC": "", "WATCHDOG_PID": ""}
        if systemd is not None:
            told["NOTIFY_SOCKET"] = str(systemd.path)
            told["WATCHDOG_USEC"] = str(round(watchdog_s * 1e6))
            del told["WATCHDOG_PID"]
        self.begun_s = time.monotonic()
        super().__init__(
            [
                *("run", "--config", config or directory / "etc"),
                *("--state", state or directory / "state", "--socket", self.socket),
            ],
            directory / "daemon.txt",
            told,
            program,
        )

    def ready(self, within_s: float = 15.0) -> Self:
        """Wait until no unit starts any more."""

        def open_() -> bool:
            assert self.alive(), self.words[-3000:]
            with suppress(DaemonAbsent, KeyError):
                units = self.get("/v1/status")["units"]
                return all(each["state"] not in ("starting", "none") for each in units)
            return False

        until(open_, within_s, lambda: self.words[-3000:])
        return self

    def answers(self) -> bool:
        with suppress(DaemonAbsent):
            return "units" in self.get("/v1/status")
        return False

    def get(self, route: str) -> Json:
        return fetch(str(self.socket), route)

    def post(self, route: str, **body: object) -> Json:
        reply = ask(str(self.socket), "POST", route, body)
        assert reply.fine, reply.body
        return reply.body

    def control(self, unit: str, command: str) -> None:
        self.post(f"/v1/units/{unit}/control", command=command)

    def dispatch(self, power_kw: float) -> None:
        self.post("/v1/dispatch", power_kw=power_kw, duration_s=900)

    def ticks(self) -> int:
        return int(self.get("/v1/status")["ticks"]["count"])

    def states(self) -> dict[str, str]:
        return {each["id"]: each["state"] for each in self.get("/v1/status")["units"]}

    def alarms(self) -> set[str]:
        return {each["code"] for each in self.get("/v1/status")["alarms"]}

    def children(self) -> list[int]:
        text = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(each) for each in text.split()]


def write_config(directory: Path, *, mode: str = "hardware", more: str = "") -> Path:
    """A site of four v2 units of 100 kW, two buildings, a door contact and a PMU, on loopback."""
    config = directory / "etc"
    config.mkdir(exist_ok=True)
    *ports, input_port, pmu_port = free_ports(len(NAMES) + 2)
    (config / "vppd.yaml").write_text(
        f"site: {{id: lab}}\nmode: {mode}\nclock: {{sync: assume}}\n{more}"
    )
    rows = [
        f"  - {{id: {name}, building: {'NORTH' if name in 'AB' else 'SOUTH'}, rated_power_kw: 100,"
        " energy_kwh: 250, modules_parallel: 23, safety: {ramp_max_kw_per_s: 100},"
        f" modbus: {{profile: vpp-bess-v2, host: 127.0.0.1, port: {port}, unit_id: {number}}}}}"
        for number, (name, port) in enumerate(zip(NAMES, ports, strict=True), start=1)
    ]
    (config / "field.yaml").write_text(
        "\n".join(["units:", *rows])
        + "\ninterlock_inputs:\n  - {id: door, scope: A,"
        + f" modbus: {{host: 127.0.0.1, port: {input_port}, unit_id: 9, discrete_input: 3}}}}\n"
    )
    write_grid(config, pmu_port, 5.0)
    return config


def write_grid(config: Path, pmu_port: int, droop_pct: float) -> None:
    """grid.yaml, whole, with this droop."""
    (config / "grid.yaml").write_text(
        f"pmu: {{host: 127.0.0.1, port: {pmu_port}}}\n"
        f"droop: {{droop_pct: {droop_pct}, rocof_gain_pu_per_hz_per_s: 0}}\n"
    )


class Site:
    """A plant, one daemon after another, and the systemd that watches them."""

    def __init__(
        self,
        directory: Path,
        write: Callable[[Path], Path] = write_config,
        plant: Callable[[Path], Plant] = Plant,
    ) -> None:
        self.directory = directory
        self.systemd = Systemd(directory / "notify")
        self.config = write(directory)
        self.plant = plant(directory)
        until(self.plant.serves, 15.0, lambda: self.plant.words)
        self.plant.inject("frequency_step", "grid", frequency_hz=50.0)
        self._daemon: Daemon | None = None

    @property
    def daemon(self) -> Daemon:
        """The one started last."""
        assert self._daemon is not None
        return self._daemon

    def start(self, **options: Any) -> Daemon:
        """A new daemon, in place of the last."""
        if self._daemon is not None:
            self._daemon.end()
        self._daemon = Daemon(self.directory, self.systemd, **options)
        return self._daemon

    def controlled(self) -> Daemon:
        """The daemon, ready; a new one when the last has ended."""
        if self._daemon is None or not self._daemon.alive():
            self.start()
        return self.daemon.ready()

    def close(self) -> None:
        if self._daemon is not None:
            self._daemon.end()
        self.plant.end()
        self.systemd.close()

    def running(self, power_kw: float) -> Daemon:
        """The daemon, with the site at this power and every unit taking part."""
        daemon = self.controlled()
        daemon.dispatch(power_kw)
        share_kw = power_kw / len(NAMES)

        def there() -> bool:
            return all(abs(kw - share_kw) < 1.0 for kw in self.plant.gives_kw(*NAMES))

        until(there, 10.0, lambda: (self.plant.gives_kw(*NAMES), daemon.get("/v1/status")))
        return daemon


def gone(pid: int) -> bool:
    """Whether a process that is not our child has ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
