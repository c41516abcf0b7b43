"""The campaign: faults at random, one after another, each judged at the devices and by the ledger.

After each fault the site is told something new; the devices must hold it in the promised time,
every acknowledged row must be in the journal, and no setpoint that arrived outside its limits.
"""

import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tests.faults import kinds_around, kinds_field, kinds_process
from tests.faults.bids import Bids
from tests.faults.kinds_process import Kind
from tests.faults.promises import BY_KIND, CLOCK, PROMISES, Promise
from tests.faults.site import FaultSite
from tests.faults.wall_clock import can_move

KINDS: Mapping[str, Kind] = {**kinds_process.KINDS, **kinds_field.KINDS, **kinds_around.KINDS}
TRIP_SHARE, BID_SHARE = 0.25, 0.25
BID_EVERY_S = 45.0  # a campaign has some 47 sessions, see gates
AT_REST_S = 240.0  # a ticket that is unsure is asked for every minute


@dataclass(frozen=True, slots=True)
class Injected:
    """One fault, and what became of it."""

    kind: str
    seen_s: float
    back_s: float
    lost: int
    wrong: str = ""
    bids: int = 0  # acknowledged by the exchange
    bids_lost: int = 0  # lost or doubled


def left_out(*, booted: bool) -> dict[str, str]:
    """Kinds that cannot be tried here, and why."""
    gone = {each.kind: "needs a real systemd" for each in PROMISES if each.where == "booted"}
    out = {} if booted else gone
    if why := can_move():
        out |= dict.fromkeys(CLOCK, why)
    return out


class Campaign:
    """See the module."""

    def __init__(
        self, site: FaultSite, say: Callable[[str], None], *, patience: float = 1.0
    ) -> None:
        """`patience`: every promised time is allowed so often, where the machine is shared."""
        self.site, self._say, self._patience = site, say, patience
        self.done: list[Injected] = []
        self._clocked = False
        self._offered_s = -BID_EVERY_S

    def run(self, kinds: Sequence[str], seconds_s: float, most: int) -> None:
        """Round after round until the time is over, or so many faults are done."""
        end_s = time.monotonic() + seconds_s
        while True:
            for kind in self._round(kinds):
                if time.monotonic() >= end_s or len(self.done) >= most:
                    return
                self.inflict(kind)

    def _round(self, kinds: Sequence[str]) -> list[str]:
        """Each by its weight, in any order; those of the clock together, for they need a start."""
        order = [kind for kind in kinds for _ in range(BY_KIND[kind].weight)]
        self.site.chance.shuffle(order)
        return sorted(order, key=lambda kind: kind in CLOCK)

    def inflict(self, kind: str) -> None:
        """One fault of this kind, judged and told."""
        promise, begun_s = self._promise(kind), time.monotonic()
        try:
            self._clock_for(kind)
            self.site.settled()
            self._acknowledged(kind)
            seen_s = KINDS[kind](self.site, promise)
            back_s = self._back(promise)
            injected = self._judged(kind, seen_s, back_s)
        except (AssertionError, OSError, subprocess.SubprocessError, sqlite3.Error) as error:
            injected = Injected(kind, -1.0, -1.0, 0, f"{type(error).__name__}: {error}"[:600])
            self._repair()
        self.done.append(injected)
        verdict = injected.wrong or "kept"
        took_s = time.monotonic() - begun_s
        self._say(
            f"{len(self.done):4} {kind:22} seen {injected.seen_s:5.1f} s  back"
            f" {injected.back_s:5.1f} s  of {took_s:5.1f} s  {verdict}"
        )

    def _promise(self, kind: str) -> Promise:
        promise, times = BY_KIND[kind], self._patience
        return replace(promise, within_s=promise.within_s * times, back_s=promise.back_s * times)

    def _acknowledged(self, kind: str) -> None:
        """Something of each kind is promised just before, some of it at the last moment."""
        ledger, chance = self.site.ledger, self.site.chance
        if chance.random() < TRIP_SHARE:
            ledger.trip()
            self.site.settled()
        if self._may_offer(kind) and chance.random() < BID_SHARE and self.site.offers():
            self._offered_s = time.monotonic()
        self.site.told(self.site.wanted_kw, 10.0 * self._patience)
        time.sleep(chance.uniform(0.0, 0.3))
        ledger.dispatch(self.site.wanted_kw)

    def _may_offer(self, kind: str) -> bool:
        """A book before the fault, unless the fault brings one, or real time is not traded."""
        due = time.monotonic() - self._offered_s > BID_EVERY_S
        return due and kind not in CLOCK and not kind.startswith("exchange_")

    def _back(self, promise: Promise) -> float:
        self.site.unit = ""
        begun_s = time.monotonic()
        if promise.state == "zero" or promise.back_s > 20.0:
            self.site.until(lambda: self.site.ticks() > 0, promise.back_s, "it answers again")
        self.site.mended()
        self.site.ready()
        before_s = time.monotonic() - begun_s
        took_s = before_s + self.site.told(-self.site.wanted_kw / 2.0, promise.back_s)
        if took_s > promise.back_s:
            raise AssertionError(f"back after {took_s:.1f} s, promised in {promise.back_s:g} s")
        return took_s

    def _judged(self, kind: str, seen_s: float, back_s: float) -> Injected:
        lost, wrong = self.site.ledger.missing(), self.site.ground.watch.wrong()
        bids = self.site.bids.wrong()
        said = [*wrong, *(f"lost: {entry.kind} {entry.text}" for entry in lost), *bids]
        text = "; ".join(said)[:600]
        return Injected(kind, seen_s, back_s, len(lost), text, self.site.bids.new(), len(bids))

    def _repair(self) -> None:
        """After a broken promise the next one gets a fair start."""
        self.site.ground.watch.wrong()
        self.site.ground.heal()
        with suppress(Exception):
            self._say(self.site.gateway.words()[-1500:])
        self.site.cont()
        self.site.gateway.stop()
        self.site.gateway.start()
        with suppress(AssertionError, sqlite3.Error):
            self.site.ready()
            self.site.ledger.missing()

    def _clock_for(self, kind: str) -> None:
        """With a clock that can be moved, or with the machine's own."""
        wanted = kind in CLOCK
        if wanted == self._clocked:
            return
        gateway, clock = self.site.gateway, self.site.wall_clock()
        gateway.stop()
        gateway.told(clock.preload if wanted else {})
        # a clock that jumps a day ahead lets every gate of real time go by, and none would be left
        self.site.ground.trades("dam" if wanted else "rtm", self.site.gates.open_min)
        gateway.start()
        self._clocked = wanted

    def account(self) -> list[str]:
        """At the end: every row once more, the exchange's own book, the audit chain, and every
        recorded decision once more."""
        wrong = self._settled()
        with suppress(sqlite3.Error):
            wrong += [f"lost at the end: {e.kind} {e.text}" for e in self.site.ledger.again()]
        self.site.gateway.stop()
        with tempfile.TemporaryDirectory() as copied:
            copy = Path(copied)
            for path in self.site.gateway.state.glob("journal.db*"):
                if path.suffix in (".db", ".db-wal"):
                    shutil.copy(path, copy)
            wrong += self._bids(copy / "journal.db")
            wrong += self._asked("audit", "verify", "--state", str(copy))
        return wrong + self._asked("replay", "--state", str(self.site.gateway.state))

    def _asked(self, *words: str) -> list[str]:
        """What `vppd` says of the site when it is asked like this, when it is not content."""
        done = subprocess.run(
            [sys.executable, "-P", "-m", "vppd", *words],
            capture_output=True,
            text=True,
            check=False,
        )
        self._say(f"{words[0]}: {(done.stdout or done.stderr).strip().splitlines()[-1:]}")
        if not done.returncode:
            return []
        return [f"vppd {words[0]}: {done.stdout[-400:]}{done.stderr[-400:]}"]

    def _settled(self) -> list[str]:
        """With the machine's own clock, until no ticket is under way; what is then still."""
        with suppress(AssertionError, OSError, sqlite3.Error):
            self._clock_for("")
            self.site.until(self.site.bids.at_rest, AT_REST_S * self._patience, "all at rest")
            return []
        return ["not every ticket came to its end"]

    def _bids(self, path: Path) -> list[str]:
        bids = Bids(self.site.ground.exchange.placed, path)
        states = Counter(each.state for each in bids.kept().values())
        held = ", ".join(f"{count} {state}" for state, count in states.most_common())
        self._say(f"exchange: {len(self.site.ground.exchange.placed())} bids; journal: {held}")
        return bids.account()
