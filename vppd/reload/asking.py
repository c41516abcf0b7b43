"""Asking for a reload: by SIGHUP, as systemd sends it, or over the socket; one after the other,
told to systemd, the log and the journal."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path

import structlog

from vppd import config
from vppd.config import Loaded
from vppd.core.model import SITE
from vppd.core.ports import Clock, Journal
from vppd.core.records import EventRow
from vppd.core.reloading import Verdict
from vppd.reload.change import Reload
from vppd.reload.schedule_file import with_schedule
from vppd.spine.fingerprint import fingerprints
from vppd.spine.notify import Notifier
from vppd.spine.supervise import described

TOLD = 3  # changes in a line; the row has all
READINGS = 5  # of files that somebody is writing just now
log = structlog.get_logger()

Asked = tuple[str, bool, "asyncio.Future[Verdict]"]


class Reloader:
    """The one task that reloads; it may be asked at any time."""

    def __init__(
        self,
        reload: Reload,
        directory: Path,
        notifier: Notifier,
        clock: Clock,
        journal: Journal,
        begun: Callable[[], bool],
    ) -> None:
        """`begun` says whether the site is controlled: before there is nothing to reload."""
        self._reload, self._directory, self._notifier = reload, directory, notifier
        self._clock, self._journal, self._begun = clock, journal, begun
        self._asked: asyncio.Queue[Asked] = asyncio.Queue()

    def hang_up(self) -> None:
        """SIGHUP."""
        self._ask("SIGHUP", dry_run=False)

    async def ask(self, by: str, dry_run: bool) -> Verdict:
        """Read the configuration again, and what came of it."""
        return await asyncio.shield(self._ask(by, dry_run=dry_run))

    async def run(self) -> None:
        """For ever. What fails here after the new settings rule is a fault of ours: it is raised,
        and the daemon ends and begins with them."""
        while True:
            by, dry_run, told = await self._asked.get()
            verdict = await self._once(by, dry_run=dry_run)
            if not told.done():
                told.set_result(verdict)

    def _ask(self, by: str, *, dry_run: bool) -> "asyncio.Future[Verdict]":
        told: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._asked.put_nowait((by, dry_run, told))
        return told

    async def _once(self, by: str, *, dry_run: bool) -> Verdict:
        begun = self._begun()
        if begun and not dry_run:
            self._notifier.reloading(self._clock.now_s())
            self._notifier.status("reads its configuration again")
        files: dict[str, str] = {}
        try:
            loaded, files = await asyncio.to_thread(_read, self._directory)
        except Exception as error:
            log.exception("reload_failed")
            verdict = Verdict((f"it cannot be read: {described(error)}",), dry_run=dry_run)
        else:
            verdict = await self._change(loaded, begun=begun, dry_run=dry_run)
        if not dry_run:
            self._tell(by, verdict, files)
            if begun:  # else systemd would take the start for done
                self._notifier.ready(said(verdict))
        return verdict

    async def _change(self, loaded: Loaded, *, begun: bool, dry_run: bool) -> Verdict:
        if loaded.settings is None or loaded.errors:
            return Verdict(tuple(map(str, loaded.errors)), dry_run=dry_run)
        if not begun:
            return Verdict(("it is still starting: try again",), dry_run=dry_run)
        return await self._reload.change(loaded.settings, dry_run=dry_run)

    def _tell(self, by: str, verdict: Verdict, files: dict[str, str]) -> None:
        text = said(verdict)
        if verdict.errors:
            log.warning("reload_refused", text=text, by=by)
        else:
            log.info("reloaded", text=text, by=by)
        changes = [astuple(each) for each in verdict.changes]
        data = json.dumps({"by": by, "errors": verdict.errors, "changes": changes})
        now, level = self._clock.utc(), 2 if verdict.errors else 1
        self._journal.append(EventRow(now, "reload", SITE, level, f"{text}; by {by}", data))
        self._journal.append(configured(self._clock, self._directory, verdict, files))


def _read(directory: Path) -> tuple[Loaded, dict[str, str]]:
    """The configuration and the files that it was read from: those, not what somebody wrote
    meanwhile."""
    files = fingerprints(directory)
    for _ in range(READINGS):
        loaded, before = with_schedule(directory, config.load(directory)), files
        files = fingerprints(directory)
        if files == before:
            break
    return loaded, before


def configured(
    clock: Clock, directory: Path, verdict: Verdict | None, files: dict[str, str]
) -> EventRow:
    """What the configuration is now, for the audit chain; `verdict` None: at the start."""
    verb = "started with"
    if verdict is not None:
        verb = "refused" if verdict.errors else "reloaded"
    text = f"{verb} {len(files)} files of {directory}"
    return EventRow(clock.utc(), "configuration", SITE, 1, text, json.dumps({"sha256": files}))


def said(verdict: Verdict) -> str:
    """In one line."""
    if verdict.errors:
        return "; ".join(verdict.errors)
    if not verdict.changes:
        return "reloaded: nothing changed"
    some = ", ".join(map(str, verdict.changes[:TOLD]))
    more = len(verdict.changes) - TOLD
    return f"reloaded: {some}" + (f" and {more} more" if more > 0 else "")
