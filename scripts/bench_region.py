"""One aggregator over many sites on one broker of this machine: what it takes of the CPU, how late
samples come in, how long an order takes to reach every site, how much memory.

The sites are light (`tests/light_sites.py`): real records in the real messages at the configured
rate, orders judged by the real rules and answered, a connection with a last will each; all of them
in this process. Mosquitto and the aggregator are processes of their own, without TLS.

    scripts/bench region
"""

import asyncio
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import uvloop

from tests.api_site import until
from tests.light_sites import LightSite, living, settings_of
from tests.mqtt_rig import free_port
from vppd.cli.wire import DaemonAbsent, Json, ask, fetch

MOSQUITTO = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
EVERY_S, RATED_KW = 10.0, 1000.0
SETTLE_S, WITHIN_S, SPREAD_S = 12.0, 120.0, 10.0
FILES = 8192
DAY_S = 86_400.0


@dataclass(frozen=True)
class Costs:
    """What was measured while the sites sampled and were ordered. CPU is of one core."""

    sites: int
    for_s: float
    samples_per_s: float
    orders_per_s: float
    daemon_pct: float
    broker_pct: float
    sites_pct: float
    lag_p50_ms: float
    lag_p99_ms: float
    reached_half_s: float
    reached_all_s: float
    tick_late_p99_ms: float
    daemon_mb: float
    broker_mb: float
    rows_per_s: float
    written_mb_per_day: float


class Watched:
    """A process and what it takes."""

    def __init__(self, words: Sequence[object], log: Path) -> None:
        with log.open("w") as file:
            self.popen = subprocess.Popen([str(word) for word in words], stdout=file, stderr=file)

    def cpu_s(self) -> float:
        """CPU time since its start, with its children's that ended."""
        fields = Path(f"/proc/{self.popen.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mb(self) -> float:
        """Resident now."""
        pages = int(Path(f"/proc/{self.popen.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def end(self) -> None:
        """Whatever it does."""
        if self.popen.poll() is None:
            self.popen.terminate()
            self.popen.wait(20.0)


def write(directory: Path, port: int, names: Sequence[str]) -> None:
    """Broker and aggregator of these sites."""
    (directory / "mosquitto.conf").write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n"
        f"user {'root' if os.getuid() == 0 else 'nobody'}\n"
    )
    config = directory / "etc"
    config.mkdir()
    vppd = {
        "site": {"id": "region"},
        "mode": "hardware",
        "role": "aggregator",
        "clock": {"sync": "assume"},
        "mqtt": {"url": f"mqtt://127.0.0.1:{port}", "detail": "site"},
        "recorder": {"enabled": False},
    }
    units = [
        {
            "id": name,
            "building": f"CITY_{number % 20:02}",
            "rated_power_kw": RATED_KW,
            "energy_kwh": 2.0 * RATED_KW,
        }
        for number, name in enumerate(names)
    ]
    for file, told in (
        ("vppd.yaml", vppd),
        ("field.yaml", {"units": units}),
        ("grid.yaml", {"droop": {"enabled": False}}),
    ):
        (config / file).write_text(json.dumps(told))


def run(count: int, for_s: float) -> Costs:
    """Measure. Raises OSError or TimeoutError when something does not start."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, FILES), hard), hard))
    with tempfile.TemporaryDirectory() as name:
        directory, port = Path(name), free_port()
        names = [f"site-{number:05}" for number in range(count)]
        write(directory, port, names)
        broker = Watched([MOSQUITTO, "-c", directory / "mosquitto.conf"], directory / "broker.log")
        places = ("--config", directory / "etc", "--state", directory / "state")
        socket = directory / "vppd.sock"
        words = (sys.executable, "-P", "-m", "vppd", "run", *places, "--socket", socket)
        daemon = Watched(words, directory / "vppd.log")
        try:
            told = settings_of(f"mqtt://127.0.0.1:{port}", telemetry_every_s=EVERY_S)
            sites = [LightSite(each, told, RATED_KW, RATED_KW) for each in names]
            return uvloop.run(_measured(sites, for_s, broker, daemon, str(socket)))
        finally:
            daemon.end()
            broker.end()


async def _measured(
    sites: Sequence[LightSite], for_s: float, broker: Watched, daemon: Watched, socket: str
) -> Costs:
    async def seen(holds: Callable[[Json], object], route: str = "/v1/region") -> Json:
        async with asyncio.timeout(WITHIN_S):
            while True:
                try:
                    view = await asyncio.to_thread(fetch, socket, route)
                    if holds(view):
                        return view
                except (DaemonAbsent, KeyError):
                    pass
                await asyncio.sleep(1.0)

    async with living(sites, spread_s=SPREAD_S):
        await seen(lambda view: sum(x["age_s"] is not None for x in view["lines"]) == len(sites))
        await asyncio.sleep(SETTLE_S)
        reached_s = await _ordered(sites, socket, 0.3)
        before, first = await seen(bool), await seen(bool, "/v1/status")
        cpu_s = [daemon.cpu_s(), broker.cpu_s(), time.process_time()]
        begun_s = time.monotonic()
        turns = max(int(for_s // 20.0), 1)
        for turn in range(turns):  # every 20 s another order, as an economic dispatch gives them
            reached_s = max(reached_s, await _ordered(sites, socket, 0.3 + 0.1 * (turn % 5)))
            await asyncio.sleep(max(begun_s + 20.0 * (turn + 1) - time.monotonic(), 0.0))
        took_s = time.monotonic() - begun_s
        ended_s = [daemon.cpu_s(), broker.cpu_s(), time.process_time()]
        after, status = await seen(bool), await seen(bool, "/v1/status")
    ends, begins = (each["diagnostics"]["journal"] for each in (status, first))
    rows_per_s = (ends["written_rows"] - begins["written_rows"]) / took_s
    writes_mb = (ends["disk"]["written_mb"] or 0.0) - (begins["disk"]["written_mb"] or 0.0)
    daemon_pct, broker_pct, sites_pct = (
        100.0 * (end_s - at_s) / took_s for at_s, end_s in zip(cpu_s, ended_s, strict=True)
    )
    half_s, all_s = reached_s
    return Costs(
        len(sites),
        took_s,
        (after["samples"] - before["samples"]) / took_s,
        (after["orders"] - before["orders"]) / took_s,
        daemon_pct,
        broker_pct,
        sites_pct,
        after["lag_p50_s"] * 1e3,
        after["lag_p99_s"] * 1e3,
        half_s,
        all_s,
        status["ticks"]["lag_p99_ms"],
        daemon.memory_mb(),
        broker.memory_mb(),
        rows_per_s,
        writes_mb * DAY_S / took_s,
    )


async def _ordered(sites: Sequence[LightSite], socket: str, share: float) -> tuple[float, float]:
    """Order this share of the region; after how long half and all of the sites gave theirs, s."""
    wanted_kw = share * RATED_KW
    body = {"kind": "absolute", "power_kw": wanted_kw * len(sites), "duration_s": 900.0}
    begun_s = time.monotonic()
    reply = await asyncio.to_thread(ask, socket, "POST", "/v1/orders", body)
    if not reply.fine:
        raise OSError(f"refused: {reply.body}")

    def give(count: int) -> bool:
        return sum(abs(each.power_kw - wanted_kw) < 0.01 * RATED_KW for each in sites) >= count

    took_s = []
    for count in (len(sites) // 2, len(sites)):
        await until(partial(give, count), WITHIN_S)
        took_s.append(time.monotonic() - begun_s)
    return took_s[0], took_s[1]


if __name__ == "__main__":
    print(run(int(sys.argv[1]), float(sys.argv[2])))
