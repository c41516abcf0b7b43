"""`vppd run`: what the operating system sees. Configuration, journal, signals, systemd, the plant.

Exit codes: 0 stopped when asked, 70 a part died, 75 another daemon runs here, 78 the configuration
or the journal's schema does not allow a start (systemd does not try again for it).
"""

import asyncio
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import structlog

from vppd import config
from vppd.app import House, build, shown, site_of
from vppd.core.alarms import Code
from vppd.core.model import SITE
from vppd.core.records import EventRow
from vppd.core.settings import Settings
from vppd.left_behind import LeftBehind
from vppd.northbound.door import DoorTakenError
from vppd.northbound.sentence import sentence
from vppd.northbound.server import Server
from vppd.northbound.site import Site
from vppd.parts import Parts
from vppd.reload.asking import Reloader, configured
from vppd.reload.change import Reload
from vppd.spine import log as logging
from vppd.spine.audit_watch import tell as tell_anchor
from vppd.spine.clock import SystemClock
from vppd.spine.fingerprint import fingerprints
from vppd.spine.journal import SqliteJournal
from vppd.spine.notify import Notifier, watchdog_period_s
from vppd.spine.store import JournalLocked, JournalNewer, Opened
from vppd.spine.supervise import ExitReason, Supervisor
from vppd.spine.upkeep import Upkeep
from vppd.spine.watchdog import GcMeter, Watchdog, freeze
from vppd.trading import Means, means_of, own_exchange

EX_SOFTWARE, EX_TEMPFAIL, EX_CONFIG = 70, 75, 78
PLANT_READY_S = 15.0
READY_S = 10.0
HOUSEKEEPING_S = 1.0
SETTLED_TICKS = 300
LATE_MS = 50.0

log = structlog.get_logger(source="daemon")


class Plant:
    """The simulated plant as a child process: it ends when we do, however we end, because it reads
    the end of a pipe that only we hold."""

    def __init__(self, config_dir: Path, extra: tuple[str, ...] = ()) -> None:
        self._arguments = ("-P", "-m", "vppd", "sim", "--config", str(config_dir), *extra)
        self._served = asyncio.Event()

    async def run(self) -> None:
        """Start it and wait for its end, which is an error. Raises RuntimeError."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *self._arguments,
            "--with-parent",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for us: it must live until it was told 0 kW
        )
        try:
            assert process.stdout is not None  # noqa: S101  asked for above
            async with asyncio.timeout(PLANT_READY_S):
                line = await process.stdout.readline()
            if line:
                log.info("plant_serves", text=line.decode(errors="replace").strip())
                self._served.set()
            code = await process.wait()
        finally:
            self._served.clear()
            if process.returncode is None:
                process.terminate()
                await process.wait()
        raise RuntimeError(f"the simulated plant ended with {code}; its words are above")

    async def served(self) -> None:
        """Return when its addresses are open."""
        await self._served.wait()


class Daemon:
    """One run of the daemon."""

    def __init__(self, settings: Settings, config_dir: Path, state_dir: Path, socket: Path) -> None:
        self._settings, self._config_dir, self._socket = settings, config_dir, socket
        self._clock = SystemClock()
        self._notifier = Notifier()
        self._watchdog = Watchdog(self._clock, self._notifier, watchdog_period_s())
        self._gc = GcMeter(self._clock)
        self._house: House | None = None
        self._left: LeftBehind | None = None
        self._shown = Parts()
        self._upkeep: Upkeep | None = None
        self._journal_path = state_dir / "journal.db"
        self._journal = SqliteJournal(
            self._journal_path,
            self._clock,
            self._journal_trouble,
            settings.journal,
            time_is_trusted=self._time_is_trusted,
            keep=settings.journal.keep,
            disk=settings.journal.disk,
        )
        self._disk = settings.journal.disk
        self._supervisor = Supervisor(self._clock, self._task_trouble, self._before_exit)
        faults: tuple[str, ...] = ("--faults", str(socket.with_name("plant.sock")))
        simulated = settings.mode in {"simulation", "hil"}
        self._exchange_at = socket.with_name("exchange.sock")
        if settings.market.enabled and own_exchange(settings):
            faults = (*faults, "--exchange", str(self._exchange_at))
        self._plant = Plant(config_dir, faults) if simulated else None

    async def run(self) -> ExitReason:
        """Control the site until told to stop or a part dies.

        Raises JournalNewer, JournalLocked and DoorTakenError: no device was touched.
        """
        opened = await self._journal.open()
        try:
            self._assemble(opened)
            return await self._supervisor.run()
        finally:
            await self._journal.close()
            tell_anchor(self._journal.status().anchor)

    def _assemble(self, opened: Opened) -> None:
        """Give every part of the process its task; devices are touched only from `_start` on."""
        trips, proved = opened.trips, self._watchdog.proved
        state = self._journal_path.parent
        house = build(self._settings, self._clock, self._journal, trips, proved, self._means, state)
        self._house, house.ticked = house, asyncio.Event()
        if (failed := self._journal.status().failed) is not None:  # there was no alarm board yet
            house.alarms.set(Code.JOURNAL_FAILED, SITE, True, failed)
        site = site_of(house, self._diagnostics, None)
        server = Server(site, self._socket)
        server.claim()
        text = f"{self._settings.site.id}: {self._settings.mode}, {len(house.assets)} units"
        self._journal.append(EventRow(self._clock.utc(), "started", SITE, 1, text))
        files = fingerprints(self._config_dir)
        self._journal.append(configured(self._clock, self._config_dir, None, files))
        supervisor = self._supervisor
        supervisor.fatal("journal", self._journal.run)
        self._upkeep = Upkeep(
            self._journal, self._journal_path, self._clock, self._audit_trouble, self._disk
        )
        self._upkeep.employ(supervisor)
        supervisor.restarting("api", server.run)
        self._shown = shown(site)
        self._shown.employ(supervisor)
        if self._plant is not None:
            supervisor.restarting("plant", self._plant.run)
        supervisor.restarting("housekeeping", self._keep_house)
        self._left = LeftBehind(self._journal, self._clock, house.alarms)
        reloader = self._reloader(house, site, self._left)
        site.reload = reloader.ask
        supervisor.fatal("reload", reloader.run)
        supervisor.fatal("start", self._start)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, supervisor.stop, signal.Signals(number).name)
        loop.add_signal_handler(signal.SIGHUP, reloader.hang_up)

    def _reloader(self, house: House, site: Site, left: LeftBehind) -> Reloader:
        def adopted() -> None:
            self._journal.adopt(house.settings.journal)
            site.adopt(house.settings, house.assets, house.trading)
            left.adopt(house.settings)

        reload = Reload(house, (self._shown,), adopted)
        return Reloader(
            reload, self._config_dir, self._notifier, self._clock, self._journal, self._controls
        )

    def _controls(self) -> bool:
        house = self._known_house()
        return house.ticked is not None and house.ticked.is_set()

    def _means(self, settings: Settings) -> Means | None:
        return means_of(settings, self._clock, self._journal, self._exchange_at)

    async def _start(self) -> None:
        """Employ the parts once there is a plant to talk to; tell systemd; then sleep for ever."""
        house = self._known_house()
        if self._left is not None:
            await self._left.begin(self._settings)
        if self._plant is not None:
            async with asyncio.timeout(PLANT_READY_S):
                await self._plant.served()
        freeze()  # it takes some tenths of a second: not while ticks are due
        self._gc.start()
        house.employ(self._supervisor)
        if house.ticked is not None:
            async with asyncio.timeout(READY_S):
                await house.ticked.wait()
        self._watchdog.arm()
        self._notifier.ready(f"{self._settings.site.id} is controlled")
        log.info("ready", site=self._settings.site.id, mode=self._settings.mode)
        await asyncio.get_running_loop().create_future()

    async def _before_exit(self, reason: ExitReason) -> None:
        """Every unit to 0 first, then the words."""
        self._notifier.stopping(reason.text)
        self._watchdog.disarm()
        if self._house is None:
            return
        if any(each.name == "tick" for each in self._supervisor.status()):
            await self._supervisor.end("tick")
            moving = await self._house.rest()
            if self._left is not None:
                self._left.rested(moving)
        log.info("stopped", text=reason.text)
        self._journal.append(EventRow(self._clock.utc(), "stopped", SITE, 1, reason.text))

    async def _keep_house(self) -> None:
        """The sentence for `systemctl status`, once a second."""
        while True:
            house = self._known_house()
            if house.decision is not None:
                gate = house.gate
                lost = house.alarms.units(Code.LINK_LOST)
                told = sentence(house.decision, gate.decisions, gate.shut_by, lost)
                self._notifier.status(told)
                late = house.heartbeat.lag()
                text = f"{late.late} of {late.count} ticks late"
                settled = late.count > SETTLED_TICKS  # a start is not judged
                lagging = settled and late.lag_p99_ms > LATE_MS
                house.alarms.set(Code.TICK_LATE, SITE, lagging, text)
            await self._clock.sleep_until(self._clock.now_s() + HOUSEKEEPING_S)

    def _diagnostics(self) -> dict[str, object]:
        house = self._known_house()
        return {
            "tasks": [asdict(each) for each in self._supervisor.status()],
            "journal": self._upkeep.status() if self._upkeep is not None else None,
            "gc": {
                "count": self._gc.count,
                "last_ms": self._gc.last_ms,
                "max_ms": self._gc.max_ms,
                "total_ms": self._gc.total_ms,
            },
            "mqtt": fleet.status() if (fleet := self._shown.thing("mqtt")) is not None else None,
            "links": {unit: asdict(each) for unit, each in house.field.counters().items()},
            "pmus": {name: asdict(pmu.counters()) for name, pmu in house.sources.items()},
        }

    def _audit_trouble(self, text: str) -> None:
        self._known_house().alarms.set(Code.AUDIT_BROKEN, SITE, bool(text), text)

    def _journal_trouble(self, code: Code, active: bool, text: str) -> None:
        if self._house is not None:
            self._house.alarms.set(code, SITE, active, text)
        elif active:
            log.error("journal", code=code, text=text)

    def _task_trouble(self, code: Code, active: bool, text: str) -> None:
        self._known_house().alarms.set(code, SITE, active, text)

    def _time_is_trusted(self) -> bool:
        return self._house is not None and self._house.time_watch.trusted()

    def _known_house(self) -> House:
        if self._house is None:
            raise RuntimeError("asked before the site was built")
        return self._house


def run_daemon(config_dir: Path, state_dir: Path, socket: Path) -> int:
    """Run until stopped; the exit code."""
    loaded = config.load(config_dir)
    if loaded.settings is None:
        said = [str(finding) for finding in loaded.errors]
        count = "1 error" if len(said) == 1 else f"{len(said)} errors"
        said.append(f"{config_dir}: {count}; not started")
        sys.stderr.write("\n".join(said) + "\n")
        return EX_CONFIG
    logging.configure("info", SystemClock())
    for finding in loaded.warnings:
        log.warning("configuration", text=str(finding))
    settings = loaded.settings

    async def serve() -> ExitReason:
        return await Daemon(settings, config_dir, state_dir, socket).run()

    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            reason = runner.run(serve())
    except JournalNewer as error:
        log.critical("not_started", text=str(error))
        return EX_CONFIG
    except (JournalLocked, DoorTakenError) as error:
        log.critical("not_started", text=str(error))
        return EX_TEMPFAIL
    if reason.clean:
        return 0
    log.critical("died", text=reason.text, stuck=list(reason.stuck) or None)
    return EX_SOFTWARE


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop on 64-bit machines; it saves about a third of the work of sockets."""
    if sys.maxsize > 2**32:
        import uvloop  # noqa: PLC0415  not built for 32-bit machines

        return uvloop.new_event_loop
    return asyncio.new_event_loop
