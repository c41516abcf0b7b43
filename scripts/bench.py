#!/usr/bin/env python3
"""The numbers to hold, measured, beside what they should be and beside the machine's noise.

    scripts/bench                     all, about five minutes
    scripts/bench --quick             shorter runs, under two minutes
    scripts/bench field               what the field layer promises: 200 units, CAN frames
    scripts/bench campus              what one decision for 200 units costs
    scripts/bench market              how punctual 16 units are while books and forecasts are made
    scripts/bench region              an aggregator over 1,000 sites on one broker (not in `all`)
    scripts/bench --only two-hundred  one part: sixteen, four, two-hundred, campus, attached, hour,
                                      can, market, region

The site is real but for the batteries: the daemon is a process of its own in mode hardware, the
simulated plant another one behind loopback sockets. Time stamps of the two compare, because the
monotonic clock is the machine's. A third process runs an empty asyncio loop with a deadline every
10 ms all the while: how late that wakes is the noise of the machine, printed beside each number,
with the 1-minute load and the CPU time that adding a million numbers took.
"""

import argparse
import asyncio
import logging
import math
import multiprocessing
import os
import platform
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, Self

import bench_campus
import bench_can
import bench_market
import bench_region
import structlog
import uvloop
from bench_attached import Openings, broker_of, onlookers

from tests.mqtt_rig import Broker
from tests.site_rig import SiteRig
from tests.virtual_time import run_virtual
from vppd import config
from vppd.cli.scene import write_site
from vppd.cli.wire import DaemonAbsent, Json, fetch
from vppd.sim.c37118_frames import Measurement
from vppd.sim.plant import Plant
from vppd.spine.clock import SystemClock

BOOK_S = 120.0
START_S, STOP_S = 30.0, 20.0  # longer than any of these takes: then something is broken
LOOK_S = 0.02
NOISE_S = 0.01
STEP_FRAMES = 3
SETTLE_S = 3.0
CALM_HZ, LOW_HZ = 50.0, 49.7
SWAY_HZ, SWAY_FRAMES = 0.01, 40  # 0.4 kW a frame for each unit of 100 kW: several counts
MOVED_KW = 0.15  # a count of a register, 0.1 kW, is its rounding and no answer
LATE_S = 0.05
DAY_S, HOUR_S = 86400.0, 3600.0
LIGHT_FPS = 2000
MB = 1e6
GROWING = ("reading_row", "setpoint_row", "site_row")  # of the journal, while all is well
DROOP = (
    "droop: {ramp_kw_per_s: 1000000, rocof_gain_pu_per_hz_per_s: 0,"
    " soc_adaptive: false, temperature_adaptive: false}\n"
)

Writes = dict[str, list[tuple[float, float]]]  # of each unit: (arrived_s, power_kw), oldest first
Frames = list[tuple[float, float]]  # (sent_s, frequency_hz)


@dataclass(frozen=True)
class Noise:
    """How late an empty loop woke from its 10 ms deadlines, and how slow the CPU was."""

    p50_ms: float
    p99_ms: float
    max_ms: float
    load: float
    sum_ms: float

    def __str__(self) -> str:
        lates = f"{self.p50_ms:.1f} / {self.p99_ms:.1f} / {self.max_ms:.0f} ms"
        return f"{lates}, load {self.load:.1f}, sum {self.sum_ms:.0f} ms"


@dataclass(frozen=True)
class Row:
    """One measured number. `hold` None: nothing was promised; `least`: it may not be less."""

    what: str
    measured: float
    unit: str
    hold: float | None = None
    least: bool = False
    aside: str = ""
    noise: Noise | None = None

    @property
    def held(self) -> bool:
        if self.hold is None:
            return True
        return self.measured >= self.hold if self.least else self.measured <= self.hold

    def cells(self) -> tuple[str, ...]:
        hold = verdict = ratio = ""
        if self.hold is not None:
            hold = f"{'≥' if self.least else '≤'} {self.hold:g}"
            ratio = f"{self.measured / self.hold:.2f}" if self.hold else "–"
            verdict = "held" if self.held else "NOT HELD"
        measured = f"{self.measured:.4g} {self.unit}".strip()
        noise = str(self.noise) if self.noise else ""
        return self.what, measured, hold, ratio, verdict, noise, self.aside


@dataclass(frozen=True)
class Length:
    """How long each part runs."""

    steps: int
    sway_s: float
    simulated_s: float
    frames_s: float
    decisions: int
    sites: int


LONG, QUICK = Length(100, 60.0, HOUR_S, 30.0, 1000, 1000), Length(40, 12.0, 300.0, 5.0, 200, 200)


class BenchError(Exception):
    """The site did not do what the measurement needs."""


# ---- the processes beside the daemon ----------------------------------------------------------


class Companion:
    """A process of ours that answers questions one by one, and ends with us."""

    def __init__(self, target: Callable[..., None], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=target, args=(theirs, *arguments), daemon=True)
        self._process.start()
        theirs.close()
        self._pipe.recv()  # it is ready

    def ask(self, *order: Any) -> Any:
        """Its answer. Raises EOFError when it has died."""
        self._pipe.send(order)
        return self._pipe.recv()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        self._process.join(STOP_S)


def be_noise(pipe: Connection) -> None:
    """An empty loop: keeps how late each deadline was, and tells it for any span of time."""
    lates: list[tuple[float, float]] = []

    async def beat() -> None:
        due_s = time.monotonic()
        while True:
            due_s = max(due_s + NOISE_S, time.monotonic())
            await asyncio.sleep(due_s - time.monotonic())
            lates.append((due_s, max(time.monotonic() - due_s, 0.0) * 1e3))
            if pipe.poll():
                (since_s,) = pipe.recv()
                seen = sorted(late_ms for at_s, late_ms in lates if at_s >= since_s)
                pipe.send((share(seen, 0.5), share(seen, 0.99), share(seen, 1.0)))

    pipe.send(None)
    with suppress(EOFError, KeyboardInterrupt):
        asyncio.run(beat())


def be_plant(pipe: Connection, directory: Path) -> None:
    """The plant of a configuration, with a frequency that is played frame by frame."""
    with suppress(EOFError, KeyboardInterrupt):
        uvloop.run(_serve_plant(pipe, directory))


async def _serve_plant(pipe: Connection, directory: Path) -> None:
    settings = config.load(directory).settings
    if settings is None:
        raise BenchError("the configuration of the bench is wrong")
    async with Plant(settings, SystemClock(), seed=1) as plant:
        player = Player(plant)
        heard = asyncio.Event()
        asyncio.get_running_loop().add_reader(pipe.fileno(), heard.set)
        os.set_blocking(pipe.fileno(), True)  # long answers are sent whole
        pipe.send(None)
        while True:
            await heard.wait()
            heard.clear()
            word, *rest = pipe.recv()
            pipe.send(getattr(player, word)(*rest))


class Player:
    """Gives each frame its frequency, and remembers when it left."""

    def __init__(self, plant: Plant) -> None:
        self._plant = plant
        (self._pmu,) = plant.pmus.values()
        self._measure = self._pmu.measure
        self._pmu.measure = self._played  # type: ignore[method-assign]
        self._frames: Frames = []
        self._begun = 0
        self._tune: Callable[[int], float] = lambda _: CALM_HZ

    def calm(self) -> None:
        """Nominal frequency."""
        self._play(lambda _: CALM_HZ)

    def low(self) -> None:
        """A frequency that asks every unit for power."""
        self._play(lambda _: LOW_HZ)

    def steps(self) -> None:
        """Down, and up again."""
        self._play(lambda frame: (LOW_HZ, CALM_HZ)[frame // STEP_FRAMES % 2])

    def sway(self) -> None:
        """Slowly down and up, so that every frame asks every unit for another power."""
        half = SWAY_FRAMES // 2
        self._play(lambda frame: LOW_HZ + SWAY_HZ * abs(frame % SWAY_FRAMES - half))

    def frames(self, since_s: float) -> Frames:
        """All since then."""
        return [frame for frame in self._frames if frame[0] >= since_s]

    def writes(self, since_s: float) -> Writes:
        """All setpoints that came over Modbus, of the units that were told one since then."""
        return {
            name: [(each.at_s, each.power_kw) for each in unit.setpoints if each.source == "modbus"]
            for name, unit in self._plant.units.items()
            if unit.setpoints and unit.setpoints[-1].at_s >= since_s
        }

    def held(self) -> list[float]:
        """The setpoint of every unit now, kW."""
        return [unit.setpoint_kw for unit in self._plant.units.values()]

    def _play(self, tune: Callable[[int], float]) -> None:
        self._tune, self._begun = tune, len(self._frames)

    def _played(self) -> Measurement:
        """What the PMU measures; it sends that a few dozen microseconds later."""
        frequency_hz = self._tune(len(self._frames) - self._begun)
        self._plant.grid.steer(time.monotonic(), frequency_hz)
        seen = self._measure()
        self._frames.append((time.monotonic(), frequency_hz))
        return seen


# ---- the daemon -------------------------------------------------------------------------------


def journal_mb_per_day(journal: Path, from_utc: datetime, for_s: float) -> float:
    """How a day like these seconds would let the file grow. An hour of them is written behind one
    another into a copy, because the file grows by whole pages."""
    from_us, for_us = (int(value * 1e6) for value in (from_utc.timestamp(), for_s))
    with (
        closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as original,
        closing(sqlite3.connect(":memory:")) as copy,
    ):
        original.backup(copy)
        pages = _pages(copy)
        for table in GROWING:
            names = [row[1] for row in copy.execute(f"PRAGMA table_info({table})")]
            rest = ", ".join(name for name in names if name not in {"at", "id"})
            again = (
                f"INSERT INTO {table} (at, {rest}) SELECT at + ?, {rest} FROM {table}"
                " WHERE at >= ? AND at < ?"
            )
            for turn in range(1, math.ceil(HOUR_S / for_s) + 1):
                copy.execute(again, (turn * for_us, from_us, from_us + for_us))
        copy.commit()
        (page_bytes,) = copy.execute("PRAGMA page_size").fetchone()
        written_s = math.ceil(HOUR_S / for_s) * for_s
        return int(_pages(copy) - pages) * int(page_bytes) * DAY_S / written_s / MB


def _pages(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA page_count").fetchone()[0])


class Daemon:
    """The daemon as systemd starts it, seen from outside."""

    def __init__(self, directory: Path) -> None:
        self.socket, self._log = directory / "vppd.sock", directory / "vppd.log"
        self.journal = directory / "state/journal.db"
        self.begun_s = time.monotonic()
        with self._log.open("w") as errors:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", "vppd", "run"),
                    *("--config", str(directory / "etc"), "--state", str(directory / "state")),
                    *("--socket", str(self.socket)),
                ],
                stderr=errors,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def ask(self, target: str) -> Json:
        return fetch(str(self.socket), target)

    def until(self, target: str, seen: Callable[[Json], bool]) -> float:
        """Look until this shows; the seconds since the start. Raises BenchError when it never
        does."""
        while (took_s := time.monotonic() - self.begun_s) < START_S:
            if self._process.poll() is not None:
                break
            with suppress(DaemonAbsent):
                if seen(self.ask(target)):
                    return took_s
            time.sleep(LOOK_S)
        raise BenchError(f"the daemon did not come up:\n{self._log.read_text()[-2000:]}")

    def cpu_s(self) -> float:
        """User and system time of all its threads."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_mb(self) -> float:
        """Resident memory."""
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / MB

    def idle(self) -> list[Json]:
        """The units that do not work."""
        return [unit for unit in self.ask("/v1/units")["units"] if unit["state"] != "running"]

    def requests(self) -> int:
        """Modbus requests so far."""
        links = self.ask("/v1/status")["diagnostics"]["links"]
        return sum(each["requests"] for each in links.values())

    def vppctl_s(self) -> float:
        """One whole `vppctl status`."""
        begun_s = time.monotonic()
        command = (str(Path(sys.executable).with_name("vppctl")), "--socket", str(self.socket))
        subprocess.run([*command, "status"], check=True, stdout=subprocess.DEVNULL)
        return time.monotonic() - begun_s

    def stop(self) -> float:
        """SIGTERM; when it was sent. Raises BenchError unless the exit code is 0."""
        sent_s = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        if code := self._process.wait(STOP_S):
            raise BenchError(f"the daemon ended with {code}:\n{self._log.read_text()[-2000:]}")
        return sent_s


def ready(status: Json) -> bool:
    """Whether the site is controlled as a whole."""
    states = {unit["state"] for unit in status["units"]}
    return status["frequency_hz"] is not None and states <= {"ready", "running"}


# ---- one site ---------------------------------------------------------------------------------


class Tally:
    """The rows so far."""

    def __init__(self, noise: Companion) -> None:
        self.rows: list[Row] = []
        self._noise = noise

    @contextmanager
    def beside_noise(self) -> Iterator[list[Row]]:
        """Rows put here get the noise of the time they took."""
        rows: list[Row] = []
        sum_ms, begun_s = million_ms(), time.monotonic()
        yield rows
        p50_ms, p99_ms, max_ms = self._noise.ask(begun_s)
        sum_ms = (sum_ms + million_ms()) / 2.0
        noise = Noise(p50_ms, p99_ms, max_ms, os.getloadavg()[0], sum_ms)
        self.rows += [replace(row, noise=noise) for row in rows]


def million_ms() -> float:
    """CPU time of adding a million numbers."""
    begun_s, total = time.process_time(), 0
    for number in range(1_000_000):
        total += number
    return (time.process_time() - begun_s) * 1e3


class Bench:
    """One site under measurement: its plant and its daemon."""

    def __init__(self, units: int, tally: "Tally", daemon: Daemon, plant: Companion) -> None:
        self.units, self.daemon, self.plant = units, daemon, plant
        self.beside_noise = tally.beside_noise

    def start(self) -> None:
        """From the start of the process to the first reading, and to a whole site."""
        with self.beside_noise() as rows:
            first_s = self.daemon.until(
                "/v1/units",
                lambda seen: any(unit["power_kw"] is not None for unit in seen["units"]),
            )
            whole_s = self.daemon.until("/v1/status", ready)
            aside = f"all units ready after {whole_s:.2f} s"
            rows.append(Row(f"start to first answered poll, {self.units} units", first_s, "s", 2.0))
            rows[-1] = replace(rows[-1], aside=aside)

    def steps(self, count: int) -> list[float]:
        """How long each step of the frequency took to reach the last unit, ms."""
        time.sleep(SETTLE_S)
        begun_s = time.monotonic()
        self.plant.ask("steps")
        time.sleep((count + 1) * STEP_FRAMES * 0.1)
        self.plant.ask("calm")
        time.sleep(1.0)
        writes: Writes = self.plant.ask("writes", begun_s)
        lates_ms = answer_times_ms(self.plant.ask("frames", begun_s), writes)
        if len(writes) != self.units or len(lates_ms) < count:
            raise BenchError(f"{len(lates_ms)} steps reached {len(writes)} units")
        return lates_ms[:count]

    def sway(self, for_s: float) -> "Swayed":
        """What it took to follow a moving frequency for so long."""
        self.plant.ask("sway")
        time.sleep(SETTLE_S)
        before, requests = self.daemon.ask("/v1/status")["ticks"], self.daemon.requests()
        begun_s, cpu_s = time.monotonic(), self.daemon.cpu_s()
        rss_mb, from_utc = self.daemon.rss_mb(), datetime.now(UTC)
        time.sleep(for_s)
        cpu_s, took_s = self.daemon.cpu_s() - cpu_s, time.monotonic() - begun_s
        after, requests = self.daemon.ask("/v1/status")["ticks"], self.daemon.requests() - requests
        ended_s = begun_s + took_s
        frames = [at_s for at_s, _ in self.plant.ask("frames", begun_s) if at_s < ended_s]
        changed = changes(self.plant.ask("writes", begun_s), begun_s, ended_s)
        firsts_s = first_answers_s(frames, changed)
        return Swayed(
            cpu_pct=100.0 * cpu_s / took_s,
            rss_mb=self.daemon.rss_mb(),
            grown_mb=self.daemon.rss_mb() - rss_mb,
            from_utc=from_utc,
            missed=sum(first_s == math.inf for first_s in firsts_s),
            late=sum(LATE_S < first_s < math.inf for first_s in firsts_s),
            own_late=after["late"] - before["late"],
            first_p50_ms=share(firsts_s, 0.5) * 1e3,
            first_p99_ms=share(firsts_s, 0.99) * 1e3,
            hours=took_s / HOUR_S,
            requests_per_s=requests / took_s,
            changes_per_s=len(changed) / took_s / self.units,
        )

    def stop(self) -> None:
        """From SIGTERM to 0 kW at the last device."""
        self.plant.ask("low")
        time.sleep(SETTLE_S)
        if not all(self.plant.ask("held")):
            raise BenchError(f"not every unit works at {LOW_HZ} Hz: {self.daemon.idle()}")
        with self.beside_noise() as rows:
            sent_s = self.daemon.stop()
            exited_s = time.monotonic() - sent_s
            held_kw, writes = self.plant.ask("held"), self.plant.ask("writes", sent_s)
            changed = changes(writes, sent_s, math.inf)
            reached_s = max(at_s for at_s, _ in changed) - sent_s if changed else math.inf
            if any(held_kw) or len(writes) != self.units:
                reached_s = math.inf
            what = f"stop to 0 kW on every unit, {self.units} units"
            rows.append(
                Row(what, reached_s, "s", 0.5, aside=f"process gone after {exited_s:.2f} s")
            )


@dataclass(frozen=True)
class Swayed:
    """What following a moving frequency took."""

    cpu_pct: float
    rss_mb: float
    grown_mb: float
    from_utc: datetime
    missed: int
    late: int
    own_late: int
    first_p50_ms: float
    first_p99_ms: float
    hours: float
    requests_per_s: float
    changes_per_s: float

    @property
    def work(self) -> str:
        changes = f"{self.changes_per_s:.1f} changed writes/s a unit"
        return f"{changes}, {self.requests_per_s:.0f} requests/s"

    def ticks(self, units: int, hold: float | None) -> Row:
        """Frames that no device or the first device only late was told of, scaled to an hour."""
        what = f"ticks missed or late by over 50 ms in an hour, {units} units"
        seen = f"{self.missed} missed, {self.late} late, {self.own_late} by its own count"
        first = f"first write p50 {self.first_p50_ms:.1f}, p99 {self.first_p99_ms:.1f} ms"
        aside = f"{seen}; {first}"
        return Row(what, (self.late + self.missed) / self.hours, "", hold, aside=aside)


def answer_times_ms(frames: Frames, writes: Writes) -> list[float]:
    """For each step: from the frame that brought it to the last changed write at any device. A
    step that did not reach every unit took for ever."""
    edges = [at_s for (_, before_hz), (at_s, now_hz) in pairwise(frames) if before_hz != now_hz]
    times_ms = []
    for from_s, to_s in zip(edges, [*edges[1:], math.inf], strict=True):
        lasts = [
            max((at_s for at_s, _ in changes({name: each}, from_s, to_s)), default=math.inf)
            for name, each in writes.items()
        ]
        times_ms.append((max(lasts, default=math.inf) - from_s) * 1e3)
    return times_ms


def changes(writes: Writes, from_s: float, to_s: float) -> list[tuple[float, float]]:
    """The writes of that time that changed a setpoint."""
    return [
        (at_s, now_kw)
        for each in writes.values()
        for (_, before_kw), (at_s, now_kw) in pairwise(each)
        if from_s <= at_s < to_s and abs(now_kw - before_kw) > MOVED_KW
    ]


def first_answers_s(frames: Sequence[float], changed: Sequence[tuple[float, float]]) -> list[float]:
    """From each frame but the last to the first changed write at any device, shortest first."""
    arrived_s = sorted(at_s for at_s, _ in changed)
    answers_s = []
    for from_s, to_s in pairwise(frames):
        at = bisect_left(arrived_s, from_s)
        told = at < len(arrived_s) and arrived_s[at] < to_s
        answers_s.append(arrived_s[at] - from_s if told else math.inf)
    return sorted(answers_s)


def share(ordered: Sequence[float], part: float) -> float:
    """The value that this part of all does not exceed."""
    return ordered[max(math.ceil(part * len(ordered)) - 1, 0)] if ordered else math.nan


@contextmanager
def site(units: int, tally: Tally, more: str = "") -> Iterator[Bench]:
    """A site on free loopback ports; the daemon starts when everything else is there. `more` are
    lines of its vppd.yaml."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        etc = directory / "etc"
        etc.mkdir()
        names = tuple(f"NORTH_{number:03}" for number in range(1, units + 1))
        write_site(etc, datetime.now(UTC), names, extra_grid=DROOP)
        site_yaml = "site: {id: bench}\nmode: hardware\nclock: {sync: assume}\n"
        (etc / "vppd.yaml").write_text(site_yaml + more)
        (etc / "market.yaml").unlink()
        with Companion(be_plant, etc) as plant, Daemon(directory) as daemon:
            yield Bench(units, tally, daemon, plant)


# ---- the parts --------------------------------------------------------------------------------


def sixteen(length: Length, tally: Tally) -> None:
    """Response, punctuality, cost and memory of 16 units."""
    with site(16, tally) as bench:
        bench.start()
        with bench.beside_noise() as rows:
            times_ms = sorted(bench.steps(length.steps))
            what = f"PMU frame to last changed write, 16 units, {length.steps} steps"
            aside = f"worst {times_ms[-1]:.1f} ms"
            rows.append(Row(f"{what}: p50", share(times_ms, 0.5), "ms", 3.0))
            rows.append(Row(f"{what}: p99", share(times_ms, 0.99), "ms", 15.0, aside=aside))
        with bench.beside_noise() as rows:
            swayed = bench.sway(length.sway_s)
            grown = f"{swayed.grown_mb:+.1f} MB in {length.sway_s:g} s"
            rows.append(swayed.ticks(16, 0.0))
            rows.append(Row("16 units: CPU", swayed.cpu_pct, "% of a core", 12.0))
            rows[-1] = replace(rows[-1], aside=swayed.work)
            rows.append(Row("16 units: memory", swayed.rss_mb, "MB", 120.0, aside=grown))
        bench.stop()


def four(length: Length, tally: Tally) -> None:
    """Response, journal and `vppctl status` of 4 units."""
    with site(4, tally) as bench:
        bench.start()
        with bench.beside_noise() as rows:
            times_ms = sorted(bench.steps(length.steps))
            within = sum(each <= 20.0 for each in times_ms)
            what = "steps answered within 20 ms, 4 units"
            aside = f"p50 {share(times_ms, 0.5):.1f}, p99 {share(times_ms, 0.99):.1f} ms"
            aside += f", worst {times_ms[-1]:.1f} ms, of {length.steps} steps"
            rows.append(Row(what, 100.0 * within / length.steps, "%", 99.0, True, aside))
        with bench.beside_noise() as rows:
            swayed = bench.sway(length.sway_s)
            aside = f"from {length.sway_s:g} s in which every unit's power moves"
            time.sleep(SETTLE_S)  # until the last batch is on disk
            journal = bench.daemon.journal
            daily_mb = journal_mb_per_day(journal, swayed.from_utc, length.sway_s)
            rows.append(
                Row("journal a day, 4 units at 1 s rows", daily_mb, "MB", 60.0, aside=aside)
            )
        with bench.beside_noise() as rows:
            took_s = [bench.daemon.vppctl_s() for _ in range(7)]
            aside = f"median of 7, worst {max(took_s):.2f} s"
            rows.append(Row("vppctl status", statistics.median(took_s), "s", 0.25, aside=aside))
        bench.stop()


def two_hundred(length: Length, tally: Tally) -> None:
    """Cost and punctuality of 200 units."""
    with site(200, tally) as bench:
        bench.start()
        with bench.beside_noise() as rows:
            swayed = bench.sway(length.sway_s)
            aside = f"{swayed.work}; {swayed.rss_mb:.0f} MB"
            rows.append(Row("200 units: CPU", swayed.cpu_pct, "% of a core", 60.0, aside=aside))
            rows.append(swayed.ticks(200, None))
        bench.stop()


def attached(length: Length, tally: Tally) -> None:
    """Punctuality of 16 units while everybody looks: metrics, page, top, MQTT on TLS, reports."""
    if lacking := [each for each in ("mosquitto", "mosquitto_sub") if shutil.which(each) is None]:
        raise BenchError(f"needs {', '.join(lacking)} (Debian: mosquitto, mosquitto-clients)")
    with tempfile.TemporaryDirectory() as name:
        openings, broker = Openings(Path(name)), Broker(Path(name))
        with broker_of(broker), site(16, tally, openings.yaml(broker)) as bench:
            bench.start()
            with bench.beside_noise() as rows:
                alone = bench.sway(length.sway_s)
                what = "16 units, before anybody looks: ticks missed or late in an hour"
                rows.append(replace(alone.ticks(16, 0.0), what=what))
            state, socket = bench.daemon.journal.parent, bench.daemon.socket
            with bench.beside_noise() as rows:
                with onlookers(openings, broker, socket, state) as seen:
                    swayed = bench.sway(length.sway_s)
                what = "16 units, all attached: ticks missed or late in an hour"
                row = replace(swayed.ticks(16, 0.0), what=what)
                rows.append(replace(row, aside=f"{row.aside}; {seen}"))
                aside = f"{alone.cpu_pct:.1f} before"
                rows.append(Row("16 units, all attached: CPU", swayed.cpu_pct, "% of a core"))
                rows[-1] = replace(rows[-1], aside=aside)
            if not seen.whole:
                raise BenchError(f"somebody was not served: {seen}")
            bench.stop()


def hour(length: Length, tally: Tally) -> None:
    """A simulated hour of 4 units under a plan, on virtual time."""

    async def live() -> None:
        async with SiteRig(grid_hz=None) as rig:
            rig.plan(120.0, for_s=2.0 * HOUR_S)
            await rig.run(length.simulated_s)

    scale = HOUR_S / length.simulated_s
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with tally.beside_noise() as rows:
        begun_s, cpu_s = time.monotonic(), time.process_time()
        run_virtual(live())
        took_s, cpu_s = time.monotonic() - begun_s, time.process_time() - cpu_s
        aside = f"{cpu_s * scale:.1f} s of it on the CPU"
        aside += "" if scale == 1.0 else f"; scaled from {length.simulated_s:g} s"
        what = "one simulated hour, 4 units, virtual time"
        rows.append(Row(what, took_s * scale, "s", 20.0, aside=aside))


def can(length: Length, tally: Tally) -> None:
    """Cost and punctuality of taking CAN frames."""
    with tempfile.TemporaryDirectory() as name:
        for interface, channel, fps in (
            ("udp_multicast", bench_can.GROUP, 2000),
            ("udp_multicast", bench_can.GROUP, 8000),
            ("slcan", f"{name}/can0", 2000),
        ):
            try:
                with tally.beside_noise() as rows:
                    heard = bench_can.run(interface, channel, fps, length.frames_s)
                    what = f"{fps} CAN frames/s, {interface}"
                    aside = f"{heard.sent} sent, {heard.readings} readings"
                    hold = 15.0 if fps == LIGHT_FPS else None
                    rows.append(Row(f"{what}: CPU", heard.cpu_pct, "% of a core", hold))
                    lost = float(heard.sent - heard.taken)
                    rows.append(Row(f"{what}: frames lost", lost, "", 0.0, aside=aside))
                    late = f"p99 {heard.late_p99_ms:.1f} ms"
                    rows.append(
                        Row(f"{what}: tick late by", heard.late_max_ms, "ms", 50.0, aside=late)
                    )
            except OSError as error:
                raise BenchError(f"{interface}: {error}") from error


def campus(length: Length, tally: Tally) -> None:
    """What one decision for 200 units costs by the strategy `losses`, in CPU time."""
    for feeders, tree in ((False, "the connection only"), (True, "ten feeders")):
        with tally.beside_noise() as rows:
            costs = bench_campus.run(length.decisions, feeders=feeders)
            for name, took_ms in (
                ("whole, no droop", costs.calm_ms),
                ("whole", costs.owe_ms),
                ("share alone", costs.share_ms),
            ):
                took_ms.sort()
                what = f"decision for 200 units, losses, {tree}: {name}"
                least = f"min {took_ms[0]:.2f} ms"
                most = f"p99 {share(took_ms, 0.99):.1f} ms, worst {took_ms[-1]:.1f} ms"
                for part, aside in ((0.5, least), (0.95, most)):
                    figure = f"{what}, p{100 * part:g}"
                    rows.append(Row(figure, share(took_ms, part), "ms CPU", 3.0, aside=aside))


def market(length: Length, tally: Tally) -> None:
    """Punctuality of 16 units on the daemon's own plant: without trading, and while books and
    forecasts are made back to back."""
    p99s_ms: list[float] = []
    for trades in (False, True):
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            bench_market.write(directory / "etc", trades=trades)
            bench_market.seed(directory / "state")
            with Daemon(directory) as daemon:
                daemon.until("/v1/status", ready)
                state, ends_s = daemon.journal.parent, time.monotonic() + BOOK_S
                while trades and not (bench_market.tickets(state) and bench_market.foreseen(state)):
                    if time.monotonic() > ends_s:
                        raise BenchError(f"no book was made in {BOOK_S:g} s")
                    time.sleep(0.5)
                with tally.beside_noise() as rows:
                    rows.extend(_traded(daemon, length.sway_s, p99s_ms, trades=trades))
                daemon.stop()


def _traded(daemon: Daemon, for_s: float, p99s_ms: list[float], *, trades: bool) -> Iterator[Row]:
    """Watch it for so long. Raises BenchError where no books were made meanwhile."""
    state = daemon.journal.parent
    what = "16 units, books back to back" if trades else "16 units, not trading"
    books, before = bench_market.tickets(state), daemon.ask("/v1/status")["ticks"]
    begun_s, cpu_s = time.monotonic(), daemon.cpu_s()
    time.sleep(for_s)
    cpu_pct = 100.0 * (daemon.cpu_s() - cpu_s) / (time.monotonic() - begun_s)
    after, made = daemon.ask("/v1/status")["ticks"], bench_market.tickets(state) - books
    if trades and not made:
        raise BenchError("no more books were made")
    p99s_ms.append(after["lag_p99_ms"])
    aside = f"{made} books in {for_s:g} s" if trades else f"in {for_s:g} s"
    late = after["late"] - before["late"]
    yield Row(f"{what}: ticks late by over 50 ms", late, "", 0.0, aside=aside)
    times = f"{p99s_ms[-1] / max(p99s_ms[0], 1e-3):.2f} times" if trades else ""
    lag = f"worst {after['lag_max_ms']:.1f} ms of the last minute"
    yield Row(f"{what}: tick late by, p50", after["lag_p50_ms"], "ms", aside=lag)
    beside = f"{times} that without trading" if times else ""
    yield Row(f"{what}: tick late by, p99", after["lag_p99_ms"], "ms", aside=beside)
    yield Row(f"{what}: CPU of the daemon", cpu_pct, "% of a core")


def region(length: Length, tally: Tally) -> None:
    """An aggregator over many sites on one broker; the sites' own process is told beside."""
    with tally.beside_noise() as rows:
        try:
            seen = bench_region.run(length.sites, length.sway_s)
        except (OSError, TimeoutError) as error:
            raise BenchError(f"region: {error!r}") from error
        what = f"{seen.sites} sites on one broker"
        flow = f"{seen.samples_per_s:.0f} samples/s, {seen.orders_per_s:.0f} orders/s"
        rows.append(Row(f"{what}: CPU of the aggregator", seen.daemon_pct, "% of a core", 50.0))
        rows[-1] = replace(rows[-1], aside=flow)
        beside = f"the sites, one process: {seen.sites_pct:.0f} %"
        rows.append(Row(f"{what}: CPU of mosquitto", seen.broker_pct, "% of a core", aside=beside))
        half = f"p50 {seen.lag_p50_ms:.0f} ms"
        rows.append(
            Row(f"{what}: a sample taken in, p99", seen.lag_p99_ms, "ms", 1000.0, aside=half)
        )
        half = f"half of them {seen.reached_half_s:.1f} s"
        rows.append(
            Row(f"{what}: a new order reaches all", seen.reached_all_s, "s", 5.0, aside=half)
        )
        rows.append(Row(f"{what}: tick late by, p99", seen.tick_late_p99_ms, "ms"))
        beside = f"mosquitto {seen.broker_mb:.0f} MB"
        rows.append(Row(f"{what}: memory of the aggregator", seen.daemon_mb, "MB", aside=beside))
        kept = f"{seen.written_mb_per_day:.0f} MB a day written"
        rows.append(Row(f"{what}: rows to the journal", seen.rows_per_s, "a second", aside=kept))


PARTS: dict[str, Callable[[Length, Tally], None]] = {
    "sixteen": sixteen,
    "four": four,
    "two-hundred": two_hundred,
    "campus": campus,
    "attached": attached,
    "hour": hour,
    "can": can,
    "market": market,
    "region": region,
}
GROUPS: dict[str, tuple[str, ...]] = {
    "all": tuple(name for name in PARTS if name != "region"),
    "field": ("two-hundred", "can"),
    "campus": ("campus",),
    "market": ("market",),
    "region": ("region",),
}


# ---- the table --------------------------------------------------------------------------------

HEAD = ("what", "measured", "hold", "ratio", "", "noise p50 / p99 / max", "")


def table(rows: Sequence[Row]) -> str:
    lines = [HEAD, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def measure(names: Sequence[str], length: Length) -> tuple[list[Row], list[str]]:
    """The rows, and what could not be measured."""
    broken: list[str] = []
    with Companion(be_noise) as noise:
        tally = Tally(noise)
        for name in names:
            print(f"bench: {name} ...", file=sys.stderr, flush=True)
            try:
                PARTS[name](length, tally)
            except BenchError as error:
                broken.append(f"{name}: {error}")
    return tally.rows, broken


def ended(_: int, __: FrameType | None) -> NoReturn:
    sys.exit(143)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--quick", action="store_true", help="shorter runs")
    parser.add_argument("--only", choices=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("group", nargs="?", choices=GROUPS, default="all", help=", ".join(GROUPS))
    words = parser.parse_args()
    signal.signal(signal.SIGTERM, ended)  # so that no child outlives us
    begun_s = time.monotonic()
    names = [words.only] if words.only else list(GROUPS[words.group])
    rows, broken = measure(names, QUICK if words.quick else LONG)
    python = f"Python {platform.python_version()}, {os.cpu_count()} cores"
    held = sum(row.held for row in rows if row.hold is not None)
    promised = sum(row.hold is not None for row in rows)
    print(table(rows))
    print(f"{held} of {promised} held; {python}, {time.monotonic() - begun_s:.0f} s")
    print("noise: how late an empty asyncio loop beside it met deadlines 10 ms apart,")
    print("the 1-minute load, and the CPU time of adding a million numbers")
    if broken:
        sys.exit("\n".join(["could not be measured:", *broken]))


if __name__ == "__main__":
    main()
