"""The soak in real time: the daemon and its plant as processes, looked at from outside."""

import time
from contextlib import suppress
from pathlib import Path

from tests.process_site import Daemon, Plant, Process, Site, write_config
from tests.soak_trend import Rule, Sample
from vppd.cli.scene import free_ports

TOP = Path(__file__).parents[1]
READY_S = 60.0
LATE_PER_HOUR = 36.0  # one tick of a thousand; DESIGN's 0 is of a machine with nothing else to do
RULES = (
    # rings of minutes and hours fill for some hours; that they end is judged on virtual days
    Rule("memory", "MB", 2.0, 120.0),
    Rule("descriptors", "", 0.9),
    Rule("threads", "", 0.9),
    Rule("tasks", "", 0.9),
    Rule("children_memory", "MB", 1.0),
    Rule("journal", "MB", 1.0, per_day=60.0),  # it goes in steps, from checkpoint to checkpoint
    Rule("recorder", "MB", 1.0, per_day=150.0),
    Rule("late_ticks", "", LATE_PER_HOUR / 2.0),
    Rule("lag_p99", "ms", 5.0),
)
DISPATCHES_KW = (60.0, 120.0, -80.0, 40.0, 0.0)
MARKET = (
    "enabled: true\ndry_run: false\nproducts: [rtm]\n"
    "gates: {{rtm_open_min: 10, rtm_close_min: 4, rtm_result_min: 2}}\n"
    "exchange: {{kind: simulated, url: 'http://127.0.0.1:{port}', user: U1, participant: P1}}\n"
)


class FarField(Plant):
    """The plant with its exchange."""

    def __init__(self, directory: Path, port: int) -> None:
        self._socket = directory / "plant.sock"
        Process.__init__(
            self,
            [directory / "etc", self._socket, port, directory / "books.json"],
            directory / "plant.txt",
            {"PYTHONPATH": str(TOP)},
            program=("-m", "tests.far_field"),
        )


def trading_site(directory: Path, more: str = "") -> Site:
    """A site that trades at an exchange beside its plant."""
    (port,) = free_ports(1)

    def written(directory: Path) -> Path:
        made = write_config(directory, more=more)
        (made / "market.yaml").write_text(MARKET.format(port=port))
        return made

    return Site(directory, written, lambda directory: FarField(directory, port))


def lived(directory: Path, seconds_s: float, every_s: float) -> list[tuple[float, Sample]]:
    """Samples of a daemon that answers frequency, trades, is commanded and looked at."""
    site = trading_site(directory)
    try:
        daemon = site.start().ready(READY_S)
        site.plant.clear("frequency_step", "grid")  # it moves as a grid does
        samples: list[tuple[float, Sample]] = []
        begun_s = time.monotonic()
        while (at_s := time.monotonic() - begun_s) < seconds_s:
            samples.append((at_s, sample(daemon, directory / "state")))
            wanted_kw = DISPATCHES_KW[len(samples) // 6 % len(DISPATCHES_KW)]
            daemon.post("/v1/dispatch", power_kw=wanted_kw, duration_s=900)
            daemon.get("/v1/market/portfolio")
            time.sleep(max(begun_s + len(samples) * every_s - time.monotonic(), 0.0))
        return samples
    finally:
        site.close()


def sample(daemon: Daemon, state: Path) -> Sample:
    """One look, from outside where that is possible."""
    status = daemon.get("/v1/status")
    ticks = status["ticks"]
    return {
        "memory": resident_mb(daemon.pid),
        "descriptors": entries(f"/proc/{daemon.pid}/fd"),
        "threads": entries(f"/proc/{daemon.pid}/task"),
        "tasks": float(len(status["diagnostics"]["tasks"])),
        "children_memory": sum(map(resident_mb, daemon.children())),
        "journal": megabytes(state, "journal.db*"),
        "recorder": megabytes(state, "recorder/*"),
        "late_ticks": float(ticks["late"]),
        "lag_p99": float(ticks["lag_p99_ms"]),
    }


def entries(directory: str) -> float:
    """How many there are."""
    return float(sum(1 for _ in Path(directory).iterdir()))


def resident_mb(pid: int) -> float:
    """What a process holds of memory; 0 when it has just ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return float(line.split()[1]) / 1024.0
    return 0.0


def megabytes(directory: Path, pattern: str) -> float:
    """The size of the files of this name."""
    total = 0
    for path in directory.glob(pattern):
        with suppress(OSError):
            total += path.stat().st_size
    return total / 1e6
