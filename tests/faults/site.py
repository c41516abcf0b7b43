"""A site under the campaign: the gateway, its ground, and the acts that every kind shares."""

import functools
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

from tests.faults.bids import Bids
from tests.faults.gates import Gates
from tests.faults.gateway import Gateway
from tests.faults.ground import CONNECTION_KW, Clock, Ground
from tests.faults.ledger import Ledger
from tests.faults.wall_clock import WallClock
from tests.process_site import NAMES
from vppd.cli.wire import DaemonAbsent, ask

TOLERANCE_KW = 1.5
TURN_KW, TURN_S = 10.0, 1.0  # a step of the ramp; and while a unit comes back by it
STILL_S = 0.5  # a sum may pass through what is owed while units still change places
LOOK_S = 0.05
READY_S = 60.0


class Broken(AssertionError):  # noqa: N818 - a promise, as said
    """A promise was not kept: which."""


class FaultSite:
    """See the module."""

    def __init__(
        self, directory: Path, make: Callable[[Path, Path], Gateway], seed: int, *, named: bool
    ) -> None:
        self.chance = Random(seed)
        self.ground = Ground(directory, named=named)
        self.gateway = make(directory, self.ground.config)
        self.ledger = Ledger(lambda: self.gateway.socket, self.gateway.state, self.chance)
        self.bids = Bids(self.ground.exchange.placed, self.gateway.state / "journal.db")
        self.gates = Gates()
        self.wanted_kw = 0.0
        self.unit = NAMES[0]  # that the present fault hurts
        self.gateway.start()

    @functools.cache  # noqa: B019 - one site lives as long as its process
    def wall_clock(self) -> WallClock:
        """The daemon's, built when it is first wanted."""
        config = self.ground.config
        return WallClock(config, Path("/etc/vppd") if self.gateway.booted else config)

    def close(self) -> None:
        try:
            self.gateway.close()
        finally:
            self.ground.close()

    # looking
    def get(self, route: str) -> dict[str, Any] | None:
        """What a GET shows; None when nobody answers, or only with a problem."""
        with suppress(DaemonAbsent):
            reply = ask(str(self.gateway.socket), "GET", route)
            return reply.body if reply.fine else None
        return None

    def ticks(self) -> int:
        status = self.get("/v1/status")
        return int(status["ticks"]["count"]) if status is not None else 0

    def alarms(self) -> set[str]:
        status = self.get("/v1/status") or {"alarms": []}
        return {each["code"] for each in status["alarms"]}

    def until(self, condition: Callable[[], bool], within_s: float, what: str) -> float:
        """Seconds until it was so. Raises Broken."""
        clock = Clock()
        while not condition():
            if clock.s > within_s:
                raise Broken(f"not within {within_s:g} s: {what}")
            time.sleep(LOOK_S)
        return clock.s

    # the site as a whole
    def ready(self) -> None:
        """Every unit takes part."""

        def open_() -> bool:
            status = self.get("/v1/status")
            if status is None:
                return False
            return all(each["state"] in ("ready", "running", "limited") for each in status["units"])

        self.until(open_, READY_S, "every unit takes part")

    def told(self, power_kw: float, within_s: float) -> float:
        """A new base point, and the seconds until the devices hold it."""
        clock = Clock()
        self.until(lambda: self.ledger.dispatch(power_kw), within_s, "a dispatch is acknowledged")
        self.wanted_kw = max(min(power_kw, CONNECTION_KW), -CONNECTION_KW)
        before_s = clock.s
        return before_s + self.owed(max(within_s - before_s, 1.0))

    def settled(self) -> None:
        """The site does what it is told, with power at every device."""
        self.unit = self.chance.choice(NAMES)
        power_kw = self.chance.choice((-1, 1)) * self.chance.uniform(60.0, 180.0)
        if self.chance.random() < 0.1:
            power_kw = 380.0  # beyond the connection: it must be cut there
        self.mended()
        self.ready()
        self.told(power_kw, READY_S)

    def mended(self) -> None:
        """What is latched is reset, as an operator does when the cause is gone."""
        status = self.get("/v1/status") or {"units": []}
        for each in status["units"]:
            if each["state"] == "tripped":
                self.ledger.post(f"/v1/units/{each['id']}/control", command="reset")

    def offers(self) -> bool:
        """An operator gives a book, and its gate opens: the daemon sends it now. False when it did
        not take the book, or no session is left."""
        auction = self.gates.shut()
        if auction is None or not self.ledger.bid(auction):
            return False
        self.gates.open()
        self.ground.trades("rtm", self.gates.open_min)
        self.gateway.send(signal.SIGHUP)
        return True

    # states
    def zero(self, within_s: float) -> float:
        """Every device holds 0 kW."""
        return self.until(
            lambda: all(kw == 0.0 for kw in self.ground.held_kw().values()),
            within_s,
            f"every device holds 0 kW, they hold {self.ground.held_kw()}",
        )

    def unit_zero(self, within_s: float) -> float:
        """The hurt unit holds 0 kW, and the others carry its share as far as they can."""
        took_s = self.until(
            lambda: self.ground.held_kw()[self.unit] == 0.0, within_s, f"{self.unit} holds 0 kW"
        )
        self.owed(AFTER_S)  # the others carry it
        return took_s

    def owed(self, within_s: float) -> float:
        """Seconds until the devices hold what is owed, and none of them moved any more for
        `STILL_S`. Raises Broken when that did not begin in time."""
        clock, since_s, before = Clock(), 0.0, self.ground.held_kw()
        while True:
            now_s, held = clock.s, self.ground.held_kw()
            off_kw = abs(sum(held.values()) - self.wanted_kw)
            moved_kw = max(abs(held[unit] - before[unit]) for unit in held)
            if off_kw >= TOLERANCE_KW or moved_kw >= TOLERANCE_KW:
                since_s, before = now_s, held
            if since_s > within_s:
                raise Broken(
                    f"not within {within_s:g} s: the devices hold {self.wanted_kw:.0f} kW,"
                    f" they hold {held}"
                )
            if now_s - since_s >= STILL_S:
                return since_s
            time.sleep(LOOK_S)

    def held(self, for_s: float, tolerance_kw: float = TOLERANCE_KW, *, asks: bool = True) -> float:
        """Every look shows the power that is owed, and ticks go on (`asks`: so it says). While a
        unit comes back at the connection's limit it goes up when the others are known to have gone
        down, so that a step of its ramp may be missing for a moment."""
        clock, before, whole_s = Clock(), self.ticks() if asks else 0, 0.0
        while clock.s < for_s:
            off_kw = self.ground.sum_kw() - self.wanted_kw
            if abs(off_kw) <= tolerance_kw:
                whole_s = clock.s
            missing = self.wanted_kw > 0.0 and -TURN_KW <= off_kw < 0.0
            if abs(off_kw) > tolerance_kw and not (missing and clock.s - whole_s < TURN_S):
                raise Broken(f"the devices hold {off_kw:+.1f} kW more than is owed")
            time.sleep(LOOK_S)
        if asks:
            self.until(lambda: self.ticks() > before, 3.0, "ticks go on")
        return 0.0

    @contextmanager
    def hurt(self, begin: Callable[[], object], end: Callable[[], object]) -> Iterator[None]:
        """Whatever happens in between, the fault ends."""
        begin()
        try:
            yield
        finally:
            end()

    def cont(self) -> None:
        self.gateway.send(signal.SIGCONT)


AFTER_S = 8.0  # the room kept for a unit that is not heard, then the others' ramp
