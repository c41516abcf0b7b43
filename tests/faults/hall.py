"""The campaign's exchange as a process of its own: it can be killed, frozen, cut off, and be wrong.

    python -m tests.faults.hall PORT BOOKS_FILE

Its gates are open for ever, so that only the site's own settings say when a book is sent. What it
took stands in the file before it says so. Troubles come as JSON lines on standard input:
`{"down": true}`, `{"kind": "cut_after", "on": "submit", "count": 3}`, `{}` for none any more.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.process_site import until
from vppd.core.settings_market import GateSettings
from vppd.sim.exchange import SimulatedExchange
from vppd.sim.exchange_hall import Rules
from vppd.sim.exchange_trouble import Trouble
from vppd.spine.clock import SystemClock

TOP = Path(__file__).parents[2]
READY_S = 20.0
ALWAYS_OPEN = GateSettings(rtm_open_min=1e7, rtm_close_min=3.0, rtm_result_min=2.0)


class Exchange:
    """That process, from outside; what it took outlives it."""

    def __init__(self, directory: Path, port: int) -> None:
        self._port, self._words = port, directory / "exchange.txt"
        self._books = directory / "books.json"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Serve, with all that was ever taken."""
        with self._words.open("w") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "tests.faults.hall", str(self._port), self._books],
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=file,
                cwd=TOP,
                env={"PYTHONPATH": str(TOP)},
            )
        until(lambda: "serving" in self._words.read_text(), READY_S, self._words.read_text)

    def send(self, number: int) -> None:
        """A signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10.0)
            self._process = None

    def trouble(self, **words: object) -> None:
        """From the next request on; no words end it."""
        if self._process is not None and self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.write(json.dumps(words).encode() + b"\n")
                self._process.stdin.flush()

    def placed(self) -> Sequence[dict[str, Any]]:
        """Every bid that it took, whether or not it runs."""
        if not self._books.exists():
            return []
        placed: list[dict[str, Any]] = json.loads(self._books.read_text())["placed"]
        return placed


def _troubled(exchange: SimulatedExchange, words: dict[str, Any]) -> None:
    if not words:
        exchange.trouble = Trouble()
    elif "down" in words:
        exchange.trouble.down = bool(words["down"])
    else:
        exchange.trouble.next(str(words.pop("kind")), **words)


async def _run(port: int, books: Path) -> None:
    rules = Rules(ALWAYS_OPEN, rtm_final_min=0.5)
    clock, lines = SystemClock(), asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with SimulatedExchange(
        clock, seed=3, rules=rules, port=port, file=books, rate_per_s=1e3
    ) as exchange:
        print("serving", flush=True)
        while line := await lines.readline():
            _troubled(exchange, json.loads(line))


if __name__ == "__main__":
    asyncio.run(_run(int(sys.argv[1]), Path(sys.argv[2])))
