"""Submissions killed at every step against vppd's own simulated exchange, over HTTP.

    python -c 'from tests.killed_exchange import main; main()'

As `killed_submission`, with the real client, the real words of the wire, and an exchange that
breaks connections before and after it took a bid, answers nonsense, refuses, and is restarted.
"""

import asyncio
import multiprocessing
import random
import signal
import tempfile
import threading
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.journal_site import rows_of
from tests.killed_submission import AT_A_STEP, LIFE_S, QUICK, Death, SteppedJournal, _ticket
from vppd.core.settings_market import ExchangeSettings, GateSettings, MarketSettings
from vppd.market.dealing.submission import Pace, Submission
from vppd.market.dealing.tickets import PREFIX, Kept, kept_of
from vppd.market.exchanges.asking import Asking
from vppd.market.exchanges.iex import MemberExchange
from vppd.sim.exchange import SimulatedExchange
from vppd.sim.exchange_hall import Placed, Rules
from vppd.sim.exchange_trouble import Next, Trouble
from vppd.spine.clock import SystemClock
from vppd.spine.journal import SqliteJournal

KILLS = 200  # the promise
STEPS = 24
PACE = Pace(ask_s=0.03, ask_max_s=0.5, settle_s=0.05, retry_s=0.01)
MEMBER = ExchangeSettings(
    user="U1",
    participant="P1",
    token="t",  # noqa: S106
    requests_per_s=1e6,
    timeout_s=2.0,
)
MARKET = MarketSettings(enabled=True, dry_run=False, exchange=MEMBER)
ALWAYS_OPEN = Rules(GateSettings(rtm_open_min=1e7))
RESTARTS = 0.15  # of all lives


class SteppedAsking:
    """The client, with a step before and after each request."""

    def __init__(self, asking: Asking, death: Death) -> None:
        self._asking, self._death = asking, death

    async def get(self, path: str) -> Any:
        return await self._stepped("get", path)

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        return await self._stepped("post", path, body)

    async def turn(self) -> None:
        await self._asking.turn()

    async def _stepped(self, verb: str, *said: Any) -> Any:
        self._death.step()
        try:
            return await getattr(self._asking, verb)(*said)
        finally:
            self._death.step()


async def _live(path: Path, socket: Path, at_step: int, new: int) -> None:
    clock, death = SystemClock(), Death(at_step)
    journal = SqliteJournal(path, clock, lambda *_: None, bounds=QUICK)
    await journal.open()
    stepped = SteppedJournal(journal, death)
    side = MemberExchange(MARKET, clock, MEMBER.words, socket=socket)
    side._asking = SteppedAsking(side._asking, death)  # type: ignore[assignment]
    submission = Submission(
        side,
        stepped,
        clock,
        lambda *_: None,
        safety_s=20.0,
        may_not_send=lambda: "",
        pace=PACE,
    )
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(journal.run())
        rows = await stepped.select(
            "SELECT value_json FROM kept WHERE name LIKE ?", (f"{PREFIX}%",)
        )
        found = [kept_of(str(value)) for (value,) in rows]
        for kept in found:
            submission.restore(kept)
            await submission.carry(kept)
        for number in range(len(found), len(found) + new):
            await submission.carry(Kept(_ticket(number, clock), "planned"))
        await journal.close()


def live(path: Path, socket: Path, at_step: int, new: int) -> None:
    """A life as a process."""
    asyncio.run(_live(path, socket, at_step, new))


class Chance(Trouble):
    """Any request may suffer."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._random = random.Random(seed)
        self.suffered: Counter[str] = Counter()
        self.calm = False

    def take(self, on: str) -> Next | None:
        fates = {"cut_before": 0.06, "garbage": 0.03, "busy": 0.03}
        if on == "submit":
            fates |= {"refuse": 0.06, "cut_after": 0.08, "garbage_after": 0.05, "error": 0.04}
        fate = 1.0 if self.calm else self._random.random()
        for kind, share in fates.items():
            fate -= share
            if fate < 0.0:
                self.suffered[f"{kind} {on}"] += 1
                return Next(kind, on, "no margin", 0.0)
        return None


class Served:
    """The exchange in a thread of its own; it outlives every life."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.socket, self._file = directory / "exchange.sock", directory / "exchange.json"
        self.chance = Chance(seed)
        self._loop = asyncio.new_event_loop()
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),))

    async def _run(self) -> None:
        self.exchange = SimulatedExchange(
            SystemClock(),
            rules=ALWAYS_OPEN,
            token="t",  # noqa: S106
            path=self.socket,
            file=self._file,
            rate_per_s=1e6,
        )
        self.exchange.trouble = self.chance
        self._over = asyncio.Event()
        async with self.exchange:
            self._up.set()
            await self._over.wait()

    def __enter__(self) -> "Served":
        self._thread.start()
        assert self._up.wait(10.0)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()
        self._loop.close()

    def restart(self) -> None:
        self._loop.call_soon_threadsafe(self.exchange.restart)

    @property
    def book(self) -> list[Placed]:
        return self.exchange.hall.placed


class Lives:
    """Life after life on one journal and one exchange."""

    def __init__(self, directory: Path, seed: int) -> None:
        self._path = directory / "journal.db"
        self._random = random.Random(seed)
        self.served = Served(directory, seed)
        self.killed = self.lived = 0
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tests.killed_exchange"])

    def kill(self, times: int) -> None:
        """So many lives that end by SIGKILL, then two that end by themselves, the last in peace."""
        with self.served:
            while self.killed < times:
                if self._random.random() < RESTARTS:
                    self.served.restart()
                self._life(new=3)
            self._life(new=0, spared=True)
            self.served.chance.calm = True
            self._life(new=1, spared=True)

    def _life(self, new: int, *, spared: bool = False) -> None:
        self.lived += 1
        by_step = self._random.random() < AT_A_STEP
        step = self._random.randint(1, STEPS) if by_step and not spared else 0
        process = self._context.Process(
            target=live, args=(self._path, self.served.socket, step, new)
        )
        process.start()
        if not by_step and not spared:
            process.join(self._random.uniform(0.0, LIFE_S))
            process.kill()
        process.join(60.0)
        assert process.exitcode is not None, "a life did not end"
        assert process.exitcode in ({0} if spared else {0, -signal.SIGKILL})
        self.killed += process.exitcode == -signal.SIGKILL

    def assert_agrees(self) -> None:
        """Every ticket is accepted and stands once in the exchange's own book, pair by pair as it
        was written down, or refused and stands there not at all; nothing else stands there."""
        sql = f"SELECT value_json FROM kept WHERE name LIKE '{PREFIX}%'"  # noqa: S608
        tickets = [kept_of(str(value)) for (value,) in rows_of(self._path, sql)]
        assert {kept.state for kept in tickets} <= {"accepted", "refused"}
        accepted = {k.ticket.id: _pairs(k) for k in tickets if k.state == "accepted"}
        book = self.served.book
        assert sorted(each.ticket for each in book) == sorted(accepted)
        for each in book:
            held = {(c.block, c.sells, pair) for c in each.curves for pair in c.pairs}
            assert held == accepted[each.ticket], each.ticket
        rows = rows_of(self._path, "SELECT book, state FROM market_bid ORDER BY id")
        assert {str(b): str(s) for b, s in rows} == {k.ticket.id: k.state for k in tickets}
        assert accepted


def _pairs(kept: Kept) -> set[tuple[int, bool, tuple[int, int]]]:
    """In the exchange's own units: paise and lots of 0.01 MW."""
    return {
        (
            block.number,
            sells,
            (round(pair.price_rs_per_mwh * 100), round(pair.power_mw * 100)),
        )
        for block, bid in kept.ticket.book
        for sells, pairs in ((True, bid.sells), (False, bid.buys))
        for pair in pairs
    }


def main(kills: int = KILLS, seed: int = 0) -> None:
    with tempfile.TemporaryDirectory() as directory:
        began = datetime.now(UTC)
        lives = Lives(Path(directory), seed)
        lives.kill(kills)
        lives.assert_agrees()
        took_s = (datetime.now(UTC) - began).total_seconds()
        print(
            f"{lives.killed} of {lives.lived} lives killed, {len(lives.served.book)} bids held, "
            f"{dict(lives.served.chance.suffered)}, {took_s:.0f} s"
        )
