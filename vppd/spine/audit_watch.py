"""Every five minutes: are the newest rows still chained as they were written; and the anchor is
told, when there are new ones, once an hour when there are none, and when vppd ends.

The anchor, `seq:hash` of the newest entry of the chain, goes to the log, and so out of the reach of
who can change the journal. What was before this start is looked at by `vppd audit verify`.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import structlog

from vppd.core.ports import Clock
from vppd.spine.chain import ChainBroken
from vppd.spine.chain_walk import ORIGIN, Anchor, Walked, anchors_in, walk
from vppd.spine.store import connect

EVERY_S = 300.0
TELL_S = 3600.0

log = structlog.get_logger(source="audit")


def tell(anchor: str | None) -> None:
    """The anchor to the log; a journal without chained rows has none."""
    if anchor is not None:
        log.info("audit_anchor", text=anchor)


class AuditWatch:
    """The task; `run()` it. `head()` is the anchor as the journal knows it, `on_broken` is told
    when the chain does not hold, and an empty text when it does."""

    def __init__(
        self,
        path: Path,
        clock: Clock,
        head: Callable[[], str | None],
        on_broken: Callable[[str], None],
        every_s: float = EVERY_S,
    ) -> None:
        self._path = path
        self._clock = clock
        self._on_broken = on_broken
        self._every_s = every_s
        found = anchors_in(head() or "")
        self._verified: Anchor = found[0] if found else ORIGIN
        self._last_ids: Mapping[str, int] | None = None  # looked for once, in all of the chain
        self._told: Anchor = ORIGIN
        self._told_s = clock.now_s()

    async def run(self) -> None:
        """For ever."""
        while True:
            await self.look()
            await self._clock.sleep_until(self._clock.now_s() + self._every_s)

    async def look(self) -> None:
        """Verify what is new, and tell."""
        try:
            walked = await asyncio.to_thread(self._walked)
        except ChainBroken as broken:
            log.critical("audit_broken", text=str(broken))
            self._on_broken(str(broken))
        except (OSError, sqlite3.Error) as error:
            log.warning("audit_unread", text=f"{self._path}: {error}")
        else:
            self._verified, self._last_ids = walked.head, walked.last_ids
            self._tell(walked.head)
            self._on_broken("")

    def _tell(self, head: Anchor) -> None:
        now_s = self._clock.now_s()
        if head.seq and (head != self._told or now_s - self._told_s >= TELL_S):
            tell(str(head))
            self._told, self._told_s = head, now_s

    def _walked(self) -> Walked:
        """What holds after what held. Raises ChainBroken, OSError, sqlite3.Error."""
        with closing(connect(self._path, "ro")) as journal:
            *_, last = walk(journal, self._verified, last_ids=self._last_ids)
        return last
