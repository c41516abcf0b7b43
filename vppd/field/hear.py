"""One BMS as it is heard on its bus: its frames become readings, its silence a lost link, its wish
to be charged a plan.

Frames come far more often than anyone decides on them, so what they changed is shown at most every
`SHOW_EVERY_S`; bits that were set meanwhile are shown even if they are gone again.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

import cantools
from cantools.database.can import Database
from cantools.database.errors import Error as DatabaseError

from vppd.core.alarms import Code
from vppd.core.bms import BmsProfile, KeepAlive
from vppd.core.model import Cells, DeviceNotice, Plan, Point, Priority, Quality, Reading
from vppd.core.ports import Board, Clock, Report
from vppd.core.settings import UnitSettings
from vppd.field.bms import CanCounters, Frame, FrameId, Picture, Value, frames_of
from vppd.field.presence import Presence

SHOW_EVERY_S = 0.05
PLAN_EVERY_S, PLAN_LASTS_S = 1.0, 3.0
SOURCE = "bms"


def read_dbc(profile: BmsProfile) -> Database:
    """The DBC of a model. Raises ValueError when it cannot be read."""
    try:
        dbc = cantools.database.load_file(profile.dbc_path, database_format="dbc")
    except (DatabaseError, OSError, ValueError) as error:
        raise ValueError(f"{profile.dbc_path}: {error}") from error
    if not isinstance(dbc, Database):
        raise ValueError(f"{profile.dbc_path}: not a CAN database")  # noqa: TRY004  of the file
    return dbc


class Bms:
    """One BMS. Readings are of its unit; what is told of itself is of `presence.unit`.

    `id_offset` moves every identifier of its model, that of the keep-alive too. Raises ValueError
    where the model and its DBC do not fit.
    """

    def __init__(
        self,
        unit: UnitSettings,
        profile: BmsProfile,
        board: Board,
        clock: Clock,
        report: Report,
        presence: Presence,
    ) -> None:
        at = unit.bms
        if at is None:
            raise ValueError(f"{unit.id}: has no bms")
        self.unit, self.presence, self.profile = unit.unit, presence, profile
        known = frames_of(profile, read_dbc(profile))
        self._picture = Picture(profile, known, unit.modules_parallel)
        self.frames: Mapping[FrameId, Frame] = {
            (number + at.id_offset, extended): frame for (number, extended), frame in known.items()
        }
        wanted = profile.keep_alive if at.keep_alive else None
        self.keep_alive: KeepAlive | None = (
            replace(wanted, id=wanted.id + at.id_offset) if wanted is not None else None
        )
        self._board, self._report = board, report
        self._force_charge_kw = at.force_charge_kw
        self.quiet_s = max(frame.max_age_s for frame in known.values())  # then it is lost
        self._heard_s = clock.now_s()
        self._news = False  # heard since it was last told present
        self._show_s = self._keep_s = self._plan_s = -math.inf
        self._force_until_s = -math.inf
        self._force_since_s: float | None = None
        self._told: dict[Code, str] = {}

    @property
    def counters(self) -> CanCounters:
        """What became of its frames."""
        return self._picture.counters

    def take(self, arbitration_id: int, is_extended: bool, data: bytes, at_s: float) -> None:
        """Take one frame as it came. What says nothing is counted; nothing is raised."""
        frame = self.frames.get((arbitration_id, is_extended))
        if frame is None:
            self.counters.unknown += 1
        elif self._picture.take(frame, data, at_s):
            self._heard_s, self._news = at_s, True

    def tend(self, now_s: float) -> None:
        """Show what changed, tell what ended; cheap when there is nothing."""
        if self._picture.changed and now_s - self._show_s >= SHOW_EVERY_S:
            self._show(now_s)
        if not self._news and now_s - self._heard_s > self.quiet_s:
            self.presence.lost(now_s, f"silent for {now_s - self._heard_s:.1f} s")
        standing = ", ".join(sorted(self._picture.standing))
        trouble = f"the alive counter of {standing} stands still" if standing else ""
        self._tell(Code.READING_FROZEN, trouble, now_s, "its alive counters move")
        self._force(now_s)

    def due(self, now_s: float) -> KeepAlive | None:
        """The keep-alive, where it is time for one: never to a BMS that is not heard."""
        keep_alive = self.keep_alive
        if keep_alive is None or not self.presence.up:
            return None
        if now_s - self._keep_s < keep_alive.period_s:
            return None
        self._keep_s = now_s
        return keep_alive

    def bus_lost(self, code: Code, at_s: float, text: str) -> None:
        """Its bus cannot be used: told once a text."""
        self._tell(code, text, at_s)
        self._news = False
        self.presence.lost(at_s, text)

    def bus_works(self, code: Code, at_s: float, text: str) -> None:
        """This trouble of its bus is over."""
        self._tell(code, "", at_s, text)

    # ---- inside -------------------------------------------------------------------------------

    def _tell(self, code: Code, trouble: str, at_s: float, over: str = "") -> None:
        if self._told.get(code, "") == trouble:
            return
        self._told[code] = trouble
        notice = DeviceNotice(self.presence.unit, code, bool(trouble), at_s, trouble or over)
        self._report(notice)

    def _show(self, now_s: float) -> None:
        if self._news:
            self._news = False
            self.presence.answered(now_s)
        for value in self._picture.values(now_s):
            self._board.publish(
                Reading(
                    self.unit, value.point, value.value, value.at_s, value.max_age_s, value.quality
                )
            )
            if value.point is Point.BMS_FORCE_CHARGE:
                self._force_until_s = _wanted_until_s(value)
        if cells := self._picture.cells(now_s):
            volts, degrees, balancing = cells
            known = tuple(each is not None and each != 0.0 for each in balancing)
            self._board.publish(Cells(self.unit, now_s, volts, degrees, known))
        self._picture.looked()
        self._show_s = now_s

    def _force(self, now_s: float) -> None:
        wanted = now_s <= self._force_until_s
        if wanted and self._force_since_s is None:
            self._force_since_s = now_s
        elif not wanted:
            self._force_since_s = None
        trouble = "asks to be charged" if wanted else ""
        self._tell(Code.BMS_FORCE_CHARGE, trouble, now_s, "asks no more")
        charge_kw, since_s = self._force_charge_kw, self._force_since_s
        if charge_kw is None or since_s is None or now_s - self._plan_s < PLAN_EVERY_S:
            return
        self._plan_s = now_s
        until_s = now_s + PLAN_LASTS_S
        self._board.publish(
            Plan(self.unit, -charge_kw, until_s, SOURCE, Priority.SCHEDULE, since_s)
        )


def _wanted_until_s(value: Value) -> float:
    good = value.quality is Quality.GOOD and value.value > 0.0
    return value.at_s + value.max_age_s if good else -math.inf
