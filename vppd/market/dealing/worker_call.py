"""The solving worker, asked: one request at a time, as JSON there and back.

The worker (`vppd.market.solving.worker`) loads numpy and HiGHS, gives way to the daemon, and is
killed when it takes too long. Nothing it does can hold the loop: its pipes are served by a thread.
"""

import asyncio
import json
import sys
from collections.abc import Sequence

from vppd.market.dealing.child import Child, ChildFailed
from vppd.market.dealing.making import NotMade
from vppd.market.solving.worker_words import Json

WORKER = (sys.executable, "-P", "-m", "vppd.market.solving.worker")
MOST_BYTES = 4_000_000
ALARM_S = 5.0  # a worker whose parent died ends itself so long after its limit


class Worker:
    """`command` is what a worker is: another one for tests."""

    def __init__(self, command: Sequence[str] = WORKER) -> None:
        self._command = tuple(command)
        self._turn = asyncio.Lock()

    async def asked(self, request: Json, within_s: float) -> Json:
        """The worker's answer to a request. Raises NotMade."""
        child = Child(self._command, MOST_BYTES)
        request = request | {"alarm_s": within_s + ALARM_S}
        try:
            async with self._turn:
                written = await asyncio.to_thread(_run, child, request, within_s)
            said = json.loads(written)
        except ChildFailed as error:
            raise NotMade(f"the worker {error}") from error
        except ValueError as error:
            raise NotMade(f"the worker's answer is no JSON: {error}") from error
        finally:
            child.kill("was given up")  # when cancelled: the thread then ends at once
        if not isinstance(said, dict) or said.get("error", "nothing said"):
            why = said.get("error", "nothing said") if isinstance(said, dict) else "no object"
            raise NotMade(str(why))
        return said


def _run(child: Child, request: Json, limit_s: float) -> bytes:
    """In a thread: the request as JSON, the worker's bytes. Raises ChildFailed."""
    return child.run(json.dumps(request, allow_nan=False).encode(), limit_s)
