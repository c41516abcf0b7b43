"""The schedule becomes base plans: each expires soon after it is no longer renewed, so a schedule
that dies fades out by itself. Waits for a clock that may be trusted."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from vppd.core.alarms import Code
from vppd.core.model import SITE, Plan, Priority
from vppd.core.ports import Board, Clock
from vppd.core.settings_market import MarketSettings
from vppd.market.schedule import Entry, Schedule, ScheduleError, parse

SOURCE = "schedule"
RENEW_SHARE = 0.25  # of the horizon
LOOK_S = 1.0
NONE_APPLIES = "nothing is scheduled: 0 kW but for orders, operators and droop"
OLD_APPLIES = "the schedule read before stays in force"

Tell = Callable[[Code, bool, str], None]


class ScheduleTask:
    """Reads the file again when it changed; a wrong new file leaves the good old one in force."""

    def __init__(
        self,
        market: MarketSettings,
        directory: Path,
        board: Board,
        clock: Clock,
        synchronised: Callable[[], bool],
        tell: Tell,
    ) -> None:
        self._path = directory / market.schedule if market.schedule else None
        self._horizon_s = market.horizon_s
        self._board, self._clock, self._tell = board, clock, tell
        self._synchronised = synchronised
        self._schedule: Schedule | None = None
        self._stamp: tuple[int, int] | None = None
        self._planned: Entry | None = None
        self._renew_s = 0.0

    @property
    def running(self) -> Entry | None:
        """The block whose plan is in force."""
        return self._planned

    async def run(self) -> None:
        """Look once a second; a new block becomes a plan at once."""
        while self._path is not None:
            await self._read(self._path)
            self.look()
            await self._clock.sleep_until(self._clock.now_s() + LOOK_S)

    def look(self) -> None:
        """One look at the clock: publish what is scheduled now."""
        trusted = self._synchronised()
        entry = None
        if self._schedule is not None and trusted:
            entry = self._schedule.power_at(self._clock.utc())
        now_s = self._clock.now_s()
        if entry is not None and (entry != self._planned or now_s >= self._renew_s):
            self._renew_s = now_s + self._horizon_s * RENEW_SHARE
            self._board.publish(
                Plan(
                    SITE,
                    entry.power_kw,
                    now_s + self._lives_s(entry),
                    SOURCE,
                    Priority.SCHEDULE,
                    now_s,
                    reactive_kvar=entry.reactive_kvar,
                    id=f"{entry.day}/{entry.block}",
                )
            )
        self._planned = entry

    def _lives_s(self, entry: Entry) -> float:
        """A plan outlives neither its block (and one look) nor the horizon."""
        left_s = (entry.end - self._clock.utc()).total_seconds()
        return min(self._horizon_s, max(left_s, 0.0) + LOOK_S)

    async def _read(self, path: Path) -> None:
        try:
            found = await asyncio.to_thread(_newer, path, self._stamp)
        except (OSError, UnicodeDecodeError) as error:
            self._stamp = None  # the same file may come back
            self._failed(f"{path}: {_reason(error)}")
            return
        if found is None:
            return
        self._stamp, text = found
        try:
            self._schedule = parse(text, path.name)
        except ScheduleError as error:
            more = f" and {len(error.errors) - 1} more" if len(error.errors) > 1 else ""
            self._failed(f"{error.errors[0]}{more}")
        else:
            self._tell(Code.SCHEDULE_FAILED, False, f"{path.name} read")

    def _failed(self, why: str) -> None:
        """Say what applies without the file: none that was good is forgotten."""
        applies = NONE_APPLIES if self._schedule is None else OLD_APPLIES
        self._tell(Code.SCHEDULE_FAILED, True, f"{why}; {applies}")


def _reason(error: OSError | UnicodeDecodeError) -> str:
    if isinstance(error, OSError):
        return (error.strerror or str(error)).lower()
    return "not UTF-8 text"


def _newer(path: Path, stamp: tuple[int, int] | None) -> tuple[tuple[int, int], str] | None:
    """The file's text when it is not the one of this stamp; a disk that hangs hangs a thread."""
    status = path.stat()
    now = (status.st_mtime_ns, status.st_size)
    return None if now == stamp else (now, path.read_text("utf-8"))
