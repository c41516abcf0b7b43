"""A site whose devices and PMUs are other people's, run by the real daemon process.

Every unit is a Modbus server of another make on a port of its own; the frequency comes from
captures of real PMUs. What a device holds is asked of the device, by a client that is not ours.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pyModbusTCP.client import ModbusClient

from tests.replayed_pmu import ReplayedPmu
from tests.sim_site import signed
from vppd.cli.wire import DaemonAbsent, ask

PROFILES = Path(__file__).parents[1] / "vppd" / "field" / "profiles"
SHIPPED, PLAIN = "vpp-bess-v2", "plain-registers"
PATIENCE_S = 15.0  # for anything that must come
LOOK_S = 0.02
STOP_S = 10.0
POLL_S = 0.2
SETPOINT = 0x2000
AUTO, ON = 3, 1
COUNT_KW = 0.1  # of the setpoint registers

T = TypeVar("T")


def until(what: str, look: Callable[..., T], *given: Any) -> T:
    """The first true thing that `look` gives. Raises AssertionError when none comes in time."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not (found := look(*given)):
        assert time.monotonic() < deadline_s, f"not within {PATIENCE_S:g} s: {what}"
        time.sleep(LOOK_S)
    return found


Serve = Callable[[int], AbstractContextManager[Any]]  # at a port (0: a free one) until left


class Server:
    """One device: a server process of somebody else's making, and what it holds."""

    def __init__(self, name: str, serve: Serve, profile: str = SHIPPED) -> None:
        self.name, self.profile, self.port = name, profile, 0
        self._serve, self._stack = serve, ExitStack()

    def start(self) -> None:
        """Serve; the second time at the same port as the first."""
        self.port = int(self._stack.enter_context(self._serve(self.port))["port"])
        self._client = ModbusClient("127.0.0.1", self.port, unit_id=1, timeout=2.0)

    def kill(self) -> None:
        """As by kill -9."""
        self._stack.close()

    def holds(self, address: int, count: int) -> Sequence[int]:
        """Holding registers, read by pyModbusTCP's client."""
        words = self._client.read_holding_registers(address, count)
        assert words is not None, f"{self.name}: {self._client.last_error_as_txt}"
        return list(words)

    @property
    def setpoint_kw(self) -> float:
        """What the device was told: its register counts 0.1 kW, plus is charging."""
        return -COUNT_KW * signed(self.holds(SETPOINT, 1)[0])


def mbtcp_server() -> str | None:
    """The program of PyPI's pymodbustcp-cli, beside our Python or on the path."""
    where = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return shutil.which("mbtcp-server", path=where)


@contextmanager
def plain_registers(program: str, port: int, log: Path) -> Iterator[dict[str, int]]:
    """mbtcp-server, whose registers only hold what is written, and a client that plays the device:
    it follows the setpoint while mode and enable allow. `log` gets what the server says."""
    stop = threading.Event()

    def play() -> None:
        client = ModbusClient("127.0.0.1", port, unit_id=1, timeout=2.0)
        while not stop.wait(LOOK_S):
            held = client.read_holding_registers(SETPOINT, 4)
            if held is None:
                continue
            power, kvar = held[:2] if held[2:] == [AUTO, ON] else (0, 0)
            measured = [553, 990, 560, power, 251, power, kvar, 4998]
            client.write_multiple_registers(0x1000, measured)
            client.write_multiple_registers(0x1010, [1, 0, 0])
            client.write_multiple_registers(0x1020, [2500, 1000, 17])
        client.close()

    words = [program, "-H", "127.0.0.1", "-p", str(port), "--log-changes"]
    player = threading.Thread(target=play, daemon=True)
    with log.open("w") as said, subprocess.Popen(words, stderr=said) as child:
        try:
            until("mbtcp-server listens", lambda: "Listening on" in log.read_text())
            player.start()
            yield {"port": port}
        finally:
            stop.set()
            child.kill()
    player.join()


@dataclass
class Daemon:
    """`vppd run` as a process, asked through its socket."""

    process: subprocess.Popen[bytes]
    socket: Path
    log: Path

    def answers(self) -> bool:
        """Whether anybody answers on the socket yet."""
        try:
            self.get("/v1/health")
        except DaemonAbsent:
            return False
        return True

    def get(self, path: str) -> dict[str, Any]:
        return ask(str(self.socket), "GET", path).body

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        reply = ask(str(self.socket), "POST", path, body)
        assert reply.fine, reply
        return reply.body

    def units(self) -> dict[str, dict[str, Any]]:
        return {each["id"]: each for each in self.get("/v1/units")["units"]}

    def alarms(self) -> set[tuple[str, str]]:
        return {(each["code"], each["unit"]) for each in self.get("/v1/alarms")["alarms"]}

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_S)

    def words(self) -> str:
        """The last of its log, for a failure."""
        return "\n".join(self.log.read_text().splitlines()[-20:])


@contextmanager
def running_daemon(config: Path, where: Path) -> Iterator[Daemon]:
    """The real process, from its first answer to its end."""
    socket, log = where / "vppd.sock", where / "vppd.log"
    words = [sys.executable, "-P", "-m", "vppd", "run", "--config", str(config)]
    words += ["--state", str(where / "state"), "--socket", str(socket)]
    with log.open("w") as said, subprocess.Popen(words, stderr=said) as process:
        daemon = Daemon(process, socket, log)
        try:
            until("an answer, or an end", lambda: daemon.answers() or process.poll() is not None)
            assert process.poll() is None, daemon.words()
            yield daemon
        finally:
            process.kill()


@dataclass
class ForeignSite:
    """The devices, the PMUs and the daemon between them."""

    servers: dict[str, Server]
    pmus: dict[str, ReplayedPmu]
    daemon: Daemon

    told_kw: float = 0.0  # what the devices together should hold

    def until(self, what: str, look: Callable[..., T], *given: Any) -> T:
        """As above; a failure shows the daemon's view and its last words."""
        try:
            return until(what, look, *given)
        except AssertionError as error:
            error.add_note(f"{self.daemon.units()}\n{self.daemon.words()}")
            raise

    def setpoints_kw(self) -> dict[str, float]:
        """What every device was told, asked of the devices."""
        return {name: server.setpoint_kw for name, server in self.servers.items()}

    def moves(self, to_kw: float, cause: Callable[..., None], *given: Any) -> float:
        """Let something happen; the seconds until all devices together were told that much. On the
        way their sum never lies outside what it was and what it shall be."""
        slack_kw = COUNT_KW * len(self.servers)
        low_kw = min(self.told_kw, to_kw) - slack_kw
        high_kw = max(self.told_kw, to_kw) + slack_kw
        begun_s = time.monotonic()
        cause(*given)

        def arrived() -> bool:
            sum_kw = sum(self.setpoints_kw().values())
            assert low_kw <= sum_kw <= high_kw
            return abs(sum_kw - to_kw) <= slack_kw

        self.until(f"{to_kw:.1f} kW", arrived)
        self.told_kw = to_kw
        return time.monotonic() - begun_s

    def measures(self, name: str, frequency_hz: float) -> None:
        """What a PMU sends from now on in place of what was captured."""
        self.pmus[name].frequency_hz = frequency_hz

    def silence(self, name: str, silent: bool = True) -> None:
        """A PMU sends nothing, its connection open."""
        self.pmus[name].silent = silent

    def states(self) -> dict[str, str]:
        return {name: unit["state"] for name, unit in self.daemon.units().items()}

    def links(self) -> dict[str, dict[str, int]]:
        """What became of the requests to each device."""
        found: dict[str, dict[str, int]] = self.daemon.get("/v1/status")["diagnostics"]["links"]
        return found


def write_site(config: Path, servers: dict[str, Server], pmus: dict[str, ReplayedPmu]) -> None:
    """A configuration of these devices; the PMUs in their order of trust."""
    (config / "devices").mkdir(parents=True)
    (config / "vppd.yaml").write_text(
        "site: {id: foreign, name: A site of strangers}\nmode: hardware\nclock: {sync: assume}\n"
    )
    units = [
        f"  - {{id: {each.name}, building: NORTH, rated_power_kw: 100, energy_kwh: 250,"
        f" modules_parallel: 23, safety: {{ramp_max_kw_per_s: 100}}, modbus: {{host: 127.0.0.1,"
        f" port: {each.port}, profile: {each.profile}, poll_s: {POLL_S}}}}}\n"
        for each in servers.values()
    ]
    (config / "field.yaml").write_text("units:\n" + "".join(units))
    sources = [
        f"  - {{id: {name}, host: 127.0.0.1, port: {pmu.port}, idcode: {pmu.idcode}}}\n"
        for name, pmu in pmus.items()
    ]
    (config / "grid.yaml").write_text(
        "pmu:\n"
        + "".join(sources)
        + "sources: {agree_hz: 1.0, frozen_s: 3600}\n"  # recorded apart, one frame for ever
        + "droop: {rocof_gain_pu_per_hz_per_s: 0, max_power_kw: 400}\n"
    )
    shipped = (PROFILES / f"{SHIPPED}.yaml").read_text()
    own = shipped.replace("table: input", "table: holding").replace(
        f"name: {SHIPPED}", f"name: {PLAIN}"
    )
    (config / "devices" / f"{PLAIN}.yaml").write_text(own)
