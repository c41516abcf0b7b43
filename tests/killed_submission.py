"""Submissions in processes of their own, killed at every step, against an exchange that lives on.

    python -c 'from tests.killed_submission import main; main()'

Each life opens the journal the last one left, carries every ticket that is not at rest, then hands
in new ones, until it is killed: at a step it counts itself, or at any instant. The exchange takes
whatever arrives, twice if it comes twice; now and then it hangs up before or after it took a
ticket, or refuses. It serves one connection after the other, so that what a dead process sent is
dealt with before what the next one asks.
"""

import asyncio
import contextlib
import json
import multiprocessing
import os
import random
import signal
import socketserver
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.journal_site import rows_of
from vppd.core.records import Row
from vppd.market.blocks import Block
from vppd.market.book import Bid, Book, Pair
from vppd.market.dealing.submission import Pace, Submission
from vppd.market.dealing.tickets import PREFIX, Kept, kept_of, ticket_id
from vppd.market.exchange import Auction, Refused, Result, Status, Ticket, Unsure
from vppd.spine.clock import SystemClock
from vppd.spine.journal import Bounds, SqliteJournal

KILLS = 200  # the promise
STEPS = 20  # a ticket that meets a fault takes about so many
AT_A_STEP = 0.75  # of all kills; the others come at any instant
LIFE_S = 0.25
QUICK = Bounds(batch_s=0.005, commit_s=10.0, retry_min_s=0.02)
PACE = Pace(ask_s=0.03, ask_max_s=0.05, settle_s=0.02, retry_s=0.01)
FIRST_DAY = date(2030, 1, 1)
SESSIONS = 48


class Death:
    """Dies by SIGKILL at the step it was told; never when told 0."""

    def __init__(self, at_step: int) -> None:
        self._left = at_step

    def step(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class SteppedJournal:
    """The journal, with a step before and after each commit."""

    def __init__(self, journal: SqliteJournal, death: Death) -> None:
        self._journal, self._death = journal, death

    def append(self, row: Row) -> None:
        self._journal.append(row)

    async def commit(self, row: Row) -> bool:
        self._death.step()
        on_disk = await self._journal.commit(row)
        self._death.step()
        return on_disk

    async def select(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        return await self._journal.select(sql, parameters)


class DistantExchange:
    """The port, spoken as JSON lines over a Unix socket, with a step between all that it does."""

    name = "distant"
    verified = True
    malformed: tuple[str, ...] = ()

    def __init__(self, address: str, death: Death) -> None:
        self._address, self._death = address, death

    async def _ask(self, words: Mapping[str, str]) -> dict[str, str]:
        self._death.step()
        try:
            reader, writer = await asyncio.open_unix_connection(self._address)
            async with _closing(writer):
                self._death.step()
                writer.write(json.dumps(words).encode() + b"\n")
                await writer.drain()
                self._death.step()
                line = await reader.readline()
        except OSError as error:
            raise Unsure(str(error)) from error
        self._death.step()
        if not line:
            raise Unsure("hung up")
        return dict(json.loads(line))

    async def submit(self, ticket: Ticket) -> None:
        answer = await self._ask({"verb": "submit", "id": ticket.id, "book": _words(ticket)})
        if answer["standing"] == "refused":
            raise Refused("no margin")

    async def status(self, ticket: Ticket) -> Status:
        answer = await self._ask({"verb": "status", "id": ticket.id})
        return Status(answer["standing"])  # type: ignore[arg-type]

    async def results(self, auction: Auction) -> Result | None:
        return None

    async def prices(self, auction: Auction) -> Mapping[Block, float]:
        return {}

    async def portfolio(self, day: date) -> Mapping[Block, float]:
        return {}


@contextlib.asynccontextmanager
async def _closing(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    try:
        yield
    finally:
        writer.close()


def _words(ticket: Ticket) -> str:
    return repr(sorted(ticket.book.bids.items()))


def _ticket(number: int, clock: SystemClock) -> Ticket:
    """The number-th auction's; its gate closes long after."""
    day, session = divmod(number, SESSIONS)
    auction = Auction(FIRST_DAY + timedelta(days=day), session + 1, "rtm")
    pairs = Pair(3000.0 + number, 0.5), Pair(6000.0, 1.0)
    book = Book({auction.blocks[0]: Bid(pairs, (Pair(1000.0, 0.1 * (number % 9 + 1)),))})
    return Ticket(ticket_id(auction), auction, book, clock.utc() + timedelta(hours=1))


async def _live(path: Path, address: str, at_step: int, new: int) -> None:
    """One life: what is not at rest, then so many new tickets."""
    clock, death = SystemClock(), Death(at_step)
    journal = SqliteJournal(path, clock, lambda *_: None, bounds=QUICK)
    await journal.open()
    stepped = SteppedJournal(journal, death)
    submission = Submission(
        DistantExchange(address, death),
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
        for kept in found:
            await submission.carry(kept)
        for number in range(len(found), len(found) + new):
            await submission.carry(Kept(_ticket(number, clock), "planned"))
        await journal.close()


def live(path: Path, address: str, at_step: int, new: int) -> None:
    """A life as a process."""
    asyncio.run(_live(path, address, at_step, new))


class Hall(socketserver.UnixStreamServer):
    """The exchange's own book."""

    def __init__(self, address: str, seed: int) -> None:
        self.taken: list[tuple[str, str]] = []
        self.refused: set[str] = set()
        self.asked: Counter[str] = Counter()
        self.random = random.Random(seed)
        super().__init__(address, _Visit)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # a visitor who died is nothing new
            super().handle_error(request, client_address)


class _Visit(socketserver.StreamRequestHandler):
    server: Hall

    def handle(self) -> None:
        line = self.rfile.readline()
        if not line.endswith(b"\n"):
            return
        words, hall = json.loads(line), self.server
        hall.asked[words["verb"]] += 1
        fate = hall.random.random()
        if words["verb"] == "submit":
            if fate < 0.1:
                return  # lost on the way
            if fate < 0.15:
                hall.refused.add(words["id"])
            else:
                hall.taken.append((words["id"], words["book"]))
        if fate > 0.85:
            return  # the answer is lost
        standing = "unknown"
        if words["id"] in hall.refused:
            standing = "refused"
        elif any(words["id"] == each for each, _ in hall.taken):
            standing = "accepted"
        self.wfile.write(json.dumps({"standing": standing}).encode() + b"\n")


class Lives:
    """Life after life on one journal."""

    def __init__(self, directory: Path, seed: int) -> None:
        self._path = directory / "journal.db"
        self._address = str(directory / "hall")
        self._random = random.Random(seed)
        self.hall = Hall(self._address, seed)
        self.killed = 0
        self.lived = 0
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tests.killed_submission"])

    def kill(self, times: int) -> None:
        """So many lives that end by SIGKILL, then one that ends by itself."""
        thread = threading.Thread(target=self.hall.serve_forever, args=(0.02,))
        thread.start()
        try:
            while self.killed < times:
                self._life(new=3)
            self._life(new=0, spared=True)
        finally:
            self.hall.shutdown()
            thread.join()
            self.hall.server_close()

    def _life(self, new: int, *, spared: bool = False) -> None:
        self.lived += 1
        by_step = self._random.random() < AT_A_STEP
        step = self._random.randint(1, STEPS) if by_step and not spared else 0
        arguments = (self._path, self._address, step, new)
        process = self._context.Process(target=live, args=arguments)
        process.start()
        if not by_step and not spared:
            process.join(self._random.uniform(0.0, LIFE_S))
            process.kill()
        process.join(60.0)
        if process.exitcode is None:
            process.kill()
            raise AssertionError("a life did not end")
        assert process.exitcode in ({0} if spared else {0, -signal.SIGKILL})
        self.killed += process.exitcode == -signal.SIGKILL

    def assert_agrees(self) -> None:
        """Every ticket that was begun is accepted and stands once in the exchange's book as it was
        written down, or refused and stands there not at all; and nothing else stands there."""
        sql = f"SELECT value_json FROM kept WHERE name LIKE '{PREFIX}%'"  # noqa: S608
        tickets = [kept_of(str(value)) for (value,) in rows_of(self._path, sql)]
        assert {kept.state for kept in tickets} <= {"accepted", "refused"}
        accepted = {k.ticket.id: _words(k.ticket) for k in tickets if k.state == "accepted"}
        assert sorted(self.hall.taken) == sorted(accepted.items())
        assert self.hall.refused == {k.ticket.id for k in tickets if k.state == "refused"}
        rows = rows_of(self._path, "SELECT book, state FROM market_bid ORDER BY id")
        newest = {str(book): str(state) for book, state in rows}
        assert newest == {kept.ticket.id: kept.state for kept in tickets}
        assert self.hall.taken


def main(kills: int = KILLS, seed: int = 0) -> None:
    with tempfile.TemporaryDirectory() as directory:
        began = datetime.now(UTC)
        lives = Lives(Path(directory), seed)
        lives.kill(kills)
        lives.assert_agrees()
        took_s = (datetime.now(UTC) - began).total_seconds()
        print(
            f"{lives.killed} of {lives.lived} lives killed, {len(lives.hall.taken)} tickets taken, "
            f"{len(lives.hall.refused)} refused, {dict(lives.hall.asked)}, {took_s:.0f} s"
        )
