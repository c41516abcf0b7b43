"""What stays until an operator undoes it: trips by scope, and units an operator disabled.

Latches outlive the daemon: every change is a journal row that is written to disk at once, and the
newest row of each (scope, code) is what a start begins with. Unreadable rows mean tripped.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from vppd.core.alarms import Code
from vppd.core.asset import Asset
from vppd.core.model import SITE, UnitId
from vppd.core.records import TripRow

TRIP, RESET, DISABLE, ENABLE = "trip", "reset", "disable", "enable"


@dataclass(frozen=True, slots=True)
class Latch:
    """One latched reason. `scope` is "site", a building id or a unit id."""

    scope: str
    code: Code
    text: str
    since: datetime


class Latches:
    """The latched reasons of the whole site. `keep` is handed every change, to be written down."""

    def __init__(
        self, rows: Iterable[TripRow] | None, keep: Callable[[TripRow], None], now: datetime
    ) -> None:
        self._keep = keep
        self._set: dict[tuple[str, Code], Latch] = {}
        if rows is None:
            text = "the trips of the last run cannot be read"
            self.trip(SITE, Code.TRIP_STATE_UNREADABLE, text, now, "vppd")
            return
        for row in rows:
            if row.action not in (RESET, ENABLE):
                # a code of another version still latches: never forget a trip for its spelling
                code = Code(row.code) if row.code in set(Code) else Code.TRIPPED
                self._set[row.scope, code] = Latch(row.scope, code, row.text, row.at)

    def trip(self, scope: str, code: Code, text: str, now: datetime, by: str) -> bool:
        """Latch; the first text of a reason stays. True when it is new."""
        if (scope, code) in self._set:
            return False
        self._set[scope, code] = Latch(scope, code, text, now)
        self._keep(TripRow(now, scope, code, TRIP, by, text))
        return True

    def reset(self, scope: str, now: datetime, by: str) -> tuple[Latch, ...]:
        """Undo every trip of this scope; what was disabled stays disabled."""
        gone = tuple(
            latch
            for latch in self._set.values()
            if latch.scope == scope and latch.code is not Code.DISABLED
        )
        for latch in gone:
            del self._set[latch.scope, latch.code]
            self._keep(TripRow(now, scope, latch.code, RESET, by, latch.text))
        return gone

    def disable(self, unit: UnitId, now: datetime, by: str) -> None:
        """An operator's disable, kept over restarts."""
        if (unit, Code.DISABLED) not in self._set:
            self._set[unit, Code.DISABLED] = Latch(unit, Code.DISABLED, f"by {by}", now)
            self._keep(TripRow(now, unit, Code.DISABLED, DISABLE, by, ""))

    def enable(self, unit: UnitId, now: datetime, by: str) -> None:
        """An operator's enable."""
        if self._set.pop((unit, Code.DISABLED), None) is not None:
            self._keep(TripRow(now, unit, Code.DISABLED, ENABLE, by, ""))

    def disabled(self, unit: UnitId) -> bool:
        """Whether an operator disabled it."""
        return (unit, Code.DISABLED) in self._set

    def trips(self, asset: Asset) -> tuple[Latch, ...]:
        """Every trip that holds this unit: its own, its building's, the site's."""
        if not self._set:
            return ()
        scopes = (SITE, asset.building, asset.id)
        return tuple(
            latch
            for latch in self._set.values()
            if latch.scope in scopes and latch.code is not Code.DISABLED
        )

    def all(self) -> tuple[Latch, ...]:
        """Everything latched."""
        return tuple(self._set.values())
