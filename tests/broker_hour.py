"""Telemetry of the real daemon over a real broker that is killed, frozen and cut off at random.

    python -c 'from tests.broker_hour import main; main(3600)'

The daemon, the plant and mosquitto are processes; the cable between the daemon and the broker is
in this one, as is the far side, which keeps what it gets. The journal says what was to arrive.
"""

import asyncio
import contextlib
import random
import signal
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from tests.mqtt_rig import Broker, Cable, FarSide
from tests.process_site import NAMES, Site, write_config
from vppd.spine.schema import micros

EVERY_S = 0.5  # one sample
SITE_TOPIC = "vpp/telemetry/lab"
TOPICS = (SITE_TOPIC, *(f"vpp/telemetry/{name}" for name in NAMES))
KINDS = {"broker killed": 3, "link cut": 4, "link away": 2, "broker frozen": 2, "daemon killed": 1}
REST_S = (0.3, 12.0)  # between two faults
AWAY_S = (0.2, 9.0)  # how long the broker or the link is gone
EMPTIED_S = 60.0  # what waited has arrived by then
TOLD_EVERY_S = 300.0
READY_S = 60.0  # a machine that does much else


@dataclass(slots=True)
class Outcome:
    """What was done, what the journal holds and what the far side has got."""

    done: Counter[str] = field(default_factory=Counter)
    stored: list[tuple[int, int]] = field(default_factory=list)  # id, microseconds
    rows: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    owed: int = 0  # the last sample that had to arrive
    gaps: int = 0
    epochs: int = 0
    repeated: int = 0

    @property
    def wrong(self) -> list[str]:
        """Every topic whose rows are not those of the journal, each once and in order."""
        return [topic for topic in TOPICS if self.rows.get(topic, []) != self.stored]

    @property
    def fine(self) -> bool:
        return bool(self.stored) and not self.wrong and not self.gaps and self.epochs == 1

    def sentence(self) -> str:
        """One line with every figure."""
        got = sum(len(rows) for rows in self.rows.values())
        verdict = "each once and in order" if self.fine else f"WRONG: {self.wrong or 'gaps'}"
        return (
            f"{sum(self.done.values())} faults ({dict(self.done)}): {len(self.stored)} samples, "
            f"{got} messages kept, {self.repeated} came again and were dropped: {verdict}"
        )


class BrokerHour:
    """A site, a broker and whatever befalls them."""

    def __init__(self, directory: Path, seed: int, haste: float = 1.0) -> None:
        """`haste`: every rest between and within faults is so much shorter."""
        self._directory, self._chance = directory, random.Random(seed)
        self._haste = haste
        self.broker = Broker(directory)
        self.cable = Cable(self.broker.port)
        self.far = FarSide(self.broker)
        self.outcome = Outcome()

    async def run(self, seconds_s: float) -> Outcome:
        """Faults for so long, then peace until all has arrived."""
        await self.broker.start()
        try:
            async with self.cable.laid(), self._listening():
                site = await asyncio.to_thread(Site, self._directory, self._written)
                try:
                    await self._suffer(site, seconds_s)
                finally:
                    await asyncio.to_thread(site.close)
        finally:
            await self.broker.kill()
        self._account()
        return self.outcome

    def _written(self, directory: Path) -> Path:
        tls = {name: self.broker.file(f"{name}.pem") for name in ("ca", "lab")}
        return write_config(
            directory,
            more=f"mqtt: {{url: 'mqtts://127.0.0.1:{self.cable.port}', keepalive_s: 5,"
            f" reconnect_max_s: 0.5, telemetry_every_s: {EVERY_S}, messages_max_per_s: 1000,"
            f" tls: {{ca: {tls['ca']}, certificate: {tls['lab']},"
            f" key: {self.broker.file('lab.key')}}}}}\n",
        )

    @contextlib.asynccontextmanager
    async def _listening(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self.far.run())
            async with asyncio.timeout(10.0):
                await self.far.listening.wait()
            try:
                yield
            finally:
                task.cancel()

    async def _suffer(self, site: Site, seconds_s: float) -> None:
        await asyncio.to_thread(lambda: site.start().ready(READY_S))
        await self._until(lambda: len(self._seqs()) > 0)
        end_s = told_s = time.monotonic() + seconds_s
        told_s -= seconds_s
        while time.monotonic() < end_s:
            await self._rest(REST_S)
            kind = self._chance.choices(list(KINDS), list(KINDS.values()))[0]
            await self._inflict(kind, site)
            self.outcome.done[kind] += 1
            if time.monotonic() - told_s >= TOLD_EVERY_S:
                told_s = time.monotonic()
                done = sum(self.outcome.done.values())
                print(f"{done} faults, {len(self._seqs())} samples arrived", flush=True)
        await asyncio.to_thread(_stopped, site)
        self.outcome.owed = self._stored()[-1][0]
        await asyncio.to_thread(
            lambda: site.start().ready(READY_S)
        )  # a last life to send what waited
        await self._until(lambda: self._arrived() >= self.outcome.owed, EMPTIED_S)
        await asyncio.to_thread(_stopped, site)

    async def _inflict(self, kind: str, site: Site) -> None:
        process = self.broker.process
        assert process is not None
        if kind == "broker killed":
            await self.broker.kill()
            await self._rest(AWAY_S)
            await self.broker.start()
        elif kind == "broker frozen":
            process.send_signal(signal.SIGSTOP)
            await self._rest(AWAY_S)
            process.send_signal(signal.SIGCONT)
        elif kind == "link cut":
            self.cable.cut()
        elif kind == "link away":
            self.cable.plugged = False
            self.cable.cut()
            await self._rest(AWAY_S)
            self.cable.plugged = True
        else:
            site.daemon.send(signal.SIGKILL)
            await asyncio.to_thread(lambda: site.start().ready(READY_S))

    async def _rest(self, between_s: tuple[float, float]) -> None:
        await asyncio.sleep(self._chance.uniform(*between_s) / self._haste)

    async def _until(self, condition: Callable[[], bool], within_s: float = 30.0) -> None:
        async with asyncio.timeout(within_s):
            while not condition():
                await asyncio.sleep(0.05)

    def _seqs(self) -> list[int]:
        return self.far.seqs(SITE_TOPIC)

    def _arrived(self) -> int:
        """Up to where every topic has come."""
        return min((self.far.seqs(topic)[-1:] or [0])[0] for topic in TOPICS)

    def _stored(self) -> list[tuple[int, int]]:
        path = self._directory / "state" / "journal.db"
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as own:
            return own.execute("SELECT id, at FROM telemetry ORDER BY id").fetchall()

    def _account(self) -> None:
        """Compare what was owed; the last life wrote on, and is counted as far as it came."""
        outcome, epochs = self.outcome, set()
        last = max(self._arrived(), outcome.owed)
        outcome.stored = [row for row in self._stored() if row[0] <= last]
        for topic in TOPICS:
            views = self.far.rows.get(topic, [])
            outcome.gaps += sum("gap" in view for view in views)
            epochs |= {view["epoch"] for view in views}
            outcome.rows[topic] = [
                (view["seq"], micros(datetime.fromisoformat(view["at"])))
                for view in views
                if "gap" not in view and view["seq"] <= last
            ]
        outcome.epochs, outcome.repeated = len(epochs), self.far.repeated


def _stopped(site: Site) -> None:
    site.daemon.send(signal.SIGTERM)
    assert site.daemon.exit_code(20.0) == 0


def survived(directory: Path, seconds_s: float, seed: int, haste: float = 1.0) -> Outcome:
    """Run it to its end."""
    return asyncio.run(BrokerHour(directory, seed, haste).run(seconds_s))


def main(seconds_s: float = 3600.0, seed: int = 0) -> None:
    with tempfile.TemporaryDirectory() as directory:
        outcome = survived(Path(directory), seconds_s, seed)
        print(outcome.sentence())
        raise SystemExit(0 if outcome.fine else 1)
