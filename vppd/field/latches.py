"""What stays until an operator undoes it: trips by scope, units an operator disabled or released.

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
RELEASE, GIVEN = "release", "given"  # asked for; and done, so that no start writes to the device
RELOAD = "reload"  # it releases who leaves a configuration: for its own while, not over a restart
HELD = (Code.DISABLED, Code.RELEASED)  # an operator's own, which no reset undoes


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
        self._given: set[UnitId] = set()
        if rows is None:
            text = "the trips of the last run cannot be read"
            self.trip(SITE, Code.TRIP_STATE_UNREADABLE, text, now, "vppd")
            return
        for row in rows:
            if row.action not in (RESET, ENABLE) and not _of_reload(row):
                # a code of another version still latches: never forget a trip for its spelling
                code = Code(row.code) if row.code in set(Code) else Code.TRIPPED
                self._set[row.scope, code] = Latch(row.scope, code, row.text, row.at)
                if row.action == GIVEN:
                    self._given.add(UnitId(row.scope))

    def trip(self, scope: str, code: Code, text: str, now: datetime, by: str) -> bool:
        """Latch; the first text of a reason stays. True when it is new."""
        if (scope, code) in self._set:
            return False
        self._set[scope, code] = Latch(scope, code, text, now)
        self._keep(TripRow(now, scope, code, TRIP, by, text))
        return True

    def reset(self, scope: str, now: datetime, by: str) -> tuple[Latch, ...]:
        """Undo every trip of this scope; what was disabled or released stays so."""
        gone = tuple(
            latch for latch in self._set.values() if latch.scope == scope and latch.code not in HELD
        )
        for latch in gone:
            del self._set[latch.scope, latch.code]
            self._keep(TripRow(now, scope, latch.code, RESET, by, latch.text))
        return gone

    def disable(self, unit: UnitId, now: datetime, by: str) -> None:
        """An operator's disable, kept over restarts; a released unit is taken back."""
        self._let_go(unit, Code.RELEASED, now, by)
        self._put_by(unit, Code.DISABLED, DISABLE, now, by)

    def release(self, unit: UnitId, now: datetime, by: str) -> None:
        """An operator gives the device back to its own control, kept over restarts."""
        self._let_go(unit, Code.DISABLED, now, by)
        self._put_by(unit, Code.RELEASED, RELEASE, now, by)

    def give(self, unit: UnitId, now: datetime, *, given: bool) -> None:
        """A released device was told so, or had to be taken back until its trips are reset."""
        latch = self._set.get((unit, Code.RELEASED))
        if latch is not None and given is not (unit in self._given):
            (self._given.add if given else self._given.discard)(unit)
            action = GIVEN if given else RELEASE
            self._keep(TripRow(now, unit, Code.RELEASED, action, "vppd", latch.text))

    def enable(self, unit: UnitId, now: datetime, by: str) -> None:
        """An operator's enable."""
        for code in HELD:
            self._let_go(unit, code, now, by)

    def disabled(self, unit: UnitId) -> bool:
        """Whether an operator disabled it."""
        return (unit, Code.DISABLED) in self._set

    def released(self, unit: UnitId) -> Latch | None:
        """An operator's release, if it stands."""
        return self._set.get((unit, Code.RELEASED))

    def given(self, unit: UnitId) -> bool:
        """Whether a released device was told so: it is its own now."""
        return unit in self._given

    def trips(self, asset: Asset) -> tuple[Latch, ...]:
        """Every trip that holds this unit: its own, its building's, the site's."""
        if not self._set:
            return ()
        scopes = (SITE, asset.building, asset.id)
        return tuple(
            latch
            for latch in self._set.values()
            if latch.scope in scopes and latch.code not in HELD
        )

    def all(self) -> tuple[Latch, ...]:
        """Everything latched."""
        return tuple(self._set.values())

    def all_given(self) -> frozenset[UnitId]:
        """Every released device that was told so."""
        return frozenset(self._given)

    def remember(self, latches: Iterable[Latch], given: Iterable[UnitId]) -> None:
        """Take over what other latches held; nothing is written down."""
        self._set = {(latch.scope, latch.code): latch for latch in latches}
        self._given = set(given)

    def _put_by(self, unit: UnitId, code: Code, action: str, now: datetime, by: str) -> None:
        if (unit, code) not in self._set:
            self._set[unit, code] = Latch(unit, code, f"by {by}", now)
            self._keep(TripRow(now, unit, code, action, by, f"by {by}"))

    def _let_go(self, unit: UnitId, code: Code, now: datetime, by: str) -> None:
        if self._set.pop((unit, code), None) is not None:
            if code is Code.RELEASED:
                self._given.discard(unit)
            self._keep(TripRow(now, unit, code, ENABLE, by, ""))


def _of_reload(row: TripRow) -> bool:
    """Whether a reload gave the unit back that did not live to take it over."""
    return row.code == Code.RELEASED and row.text == f"by {RELOAD}"
