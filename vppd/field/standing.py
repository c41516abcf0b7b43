"""What the gate knows of one device: its link, what it acknowledged, whether a rival is at work.

Reports of the writer come in as they happen; the gate reads the result at its next tick.
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from vppd.core.alarms import Code
from vppd.core.model import (
    Cleared,
    DeviceNotice,
    DeviceReport,
    LinkChange,
    Outcome,
    Point,
    ReadBack,
    ReadBackResult,
    Request,
    Snapshot,
    UnitId,
    WriteResult,
)
from vppd.field.told import NOTHING_KW

Tell = Callable[[Code, UnitId, bool, str], None]
Trip = Callable[[UnitId, Code, str], None]

REFUSED_TO_TRIP = 3
RIVAL_TO_TRIP = 3
RIVAL_FORGIVEN_S = 60.0
OUTCOME_DUE_S = 8.0  # longer than any reply time-out with its quarantine
REMEMBERED = 64
TICK_MAX_S = 0.2  # no ramp counts more elapsed time than this in one tick
CUT_KW = 1e-9


@dataclass(frozen=True, slots=True)
class Parts:
    """A setpoint by its parts, which ramp differently."""

    base_kw: float
    frequency_kw: float
    at_s: float


@dataclass(slots=True)
class Counts:
    """How often each thing happened since the start."""

    written: int = 0
    refused: int = 0
    lost: int = 0
    reverted: int = 0  # the device fell back by itself
    changed: int = 0  # somebody else wrote something else

    @property
    def failed(self) -> int:
        """Writes that were refused or not answered."""
        return self.refused + self.lost


@dataclass(slots=True)
class Standing:
    """One device as its writer reports it."""

    unit: UnitId
    tell: Tell
    trip: Trip
    started_s: float  # or when the link came up last
    power: Point = Point.POWER_KW  # which of its points shows what the setpoint did
    up: bool | None = None  # None: not tried yet
    resume: bool = True  # the next ramp starts from what the device does, not from what we asked
    acked: Parts = Parts(0.0, 0.0, 0.0)
    down_s: float = -math.inf  # when the link was lost last
    held_kw: tuple[float, float] = (0.0, 0.0)  # the least and the most the device may be giving
    held_s: float = -math.inf  # and since when it may have heard nothing
    offered_kw: tuple[float, float] = NOTHING_KW  # the least and the most offered since then
    outcome: Outcome | None = None
    outcome_s: float | None = None
    counts: Counts = field(default_factory=Counts)
    read_back: ReadBackResult | None = None
    off: str = ""  # the device says that it is off though told on: what it reads
    yields: bool = False  # a rival won and it was told 0 since: it is not competed with any more
    released: bool = False  # an operator gave it back, and its writer told it so
    _bumpless: bool = False  # taken back from its own control: its setpoint says nothing of it
    _offered: deque[Parts] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    _refused_in_a_row: int = 0
    _rivals: int = 0
    _rival_s: float = 0.0
    _fell: bool = False  # since the last quiet minute

    def offered(self, parts: Parts) -> None:
        """Remember what was handed to the writer, to know what an acknowledgement is of."""
        self._offered.append(parts)
        self.offered_kw = _with(self.offered_kw, parts.base_kw + parts.frequency_kw)

    @property
    def may_kw(self) -> tuple[float, float]:
        """The least and the most that the device may hold: what it answered, or may have heard, and
        everything that may be on its way since."""
        (held_low_kw, held_high_kw), (low_kw, high_kw) = self.held_kw, self.offered_kw
        return min(held_low_kw, low_kw), max(held_high_kw, high_kw)

    def report(self, report: DeviceReport) -> None:
        """Take one report of the writer."""
        match report:
            case WriteResult():
                self._write(report)
            case ReadBackResult():
                self._read_back(report)
            case LinkChange():
                self.up = report.up
                self.resume = True
                if report.up:
                    self.started_s = report.at_s
                else:
                    self.down_s, self.acked = report.at_s, Parts(0.0, 0.0, report.at_s)
                    self._on_its_way()
                self.tell(Code.LINK_LOST, self.unit, not report.up, report.text)
                if not report.up:  # that is why, and it is told
                    self.tell(Code.WRITE_FAILED, self.unit, False, "the link is lost")
            case DeviceNotice():
                if report.code is Code.DEVICE_RESET and report.active:
                    self.resume = True
                if report.code is Code.DEVICE_DISABLED:
                    self.off = report.text if report.active else ""
                if report.code is Code.RELEASED and report.active:
                    self.give()
                self.tell(report.code, self.unit, report.active, report.text)

    def proven(self, now_s: float) -> bool:
        """Whether the writer has given this unit an outcome in time: an answer, a refusal, or the
        word that the device is lost. A writer that says nothing at all is a fault of ours."""
        if self.up is False or self.yields or self.released:
            return True
        since_s = self.started_s if self.outcome_s is None else max(self.outcome_s, self.started_s)
        return now_s - since_s <= OUTCOME_DUE_S

    def pardon(self) -> None:
        """An operator's reset: the counts that lead to a trip start again."""
        self._refused_in_a_row = self._rivals = 0
        self.yields = False

    def give(self) -> None:
        """The device is its own: what it does is not answered for any more."""
        self.released, self.off = True, ""
        self._refused_in_a_row = self._rivals = 0
        self._quiet()
        self.tell(Code.WRITE_FAILED, self.unit, False, "released")

    def take_back(self, now_s: float) -> None:
        """It is commanded again: its ramp starts from what it measures, and outcomes are due."""
        self.released, self.resume, self._bumpless, self.started_s = False, True, True, now_s

    def resumed(self, now: Snapshot) -> None:
        """Start the ramp from what the device does, as soon as that is known."""
        if self.resume and heard_since(now, self.unit, self.down_s, self.power):
            start_kw = now.fresh(self.unit, self.power) if self._bumpless else None
            start_kw = resumed_kw(now, self.unit, self.power) if start_kw is None else start_kw
            self.resume = self._bumpless = False
            self.acked = Parts(start_kw, 0.0, now.now_s)

    def _quiet(self) -> None:
        """The device holds what it was told, or is not asked to."""
        self.tell(Code.READ_BACK_REVERTED, self.unit, False, "")
        self.tell(Code.READ_BACK_CHANGED, self.unit, False, "")

    def _write(self, result: WriteResult) -> None:
        self.outcome, self.outcome_s = result.outcome, result.at_s
        match result.outcome:
            case Outcome.WRITTEN | Outcome.HELD:
                self._acknowledge(result)
            case Outcome.REFUSED:
                self.counts.refused += 1
                self._refused_in_a_row += 1
                if result.cleared_at_s > 0.0:  # a setpoint; for the rest there are other alarms
                    self.tell(Code.WRITE_FAILED, self.unit, True, result.text)
                if self._refused_in_a_row >= REFUSED_TO_TRIP:
                    text = f"refused {self._refused_in_a_row} setpoints: {result.text}"
                    self.trip(self.unit, Code.WRITE_REFUSED, text)
            case Outcome.LOST:
                self.counts.lost += 1
                self.resume = True
                self._hold(result, sure=False)
                if self.up is not False:
                    self.tell(Code.WRITE_FAILED, self.unit, True, result.text)
            case Outcome.WAITING:
                self.resume = True

    def _acknowledge(self, result: WriteResult) -> None:
        if result.outcome is Outcome.WRITTEN:
            self.counts.written += 1
            self._refused_in_a_row = 0
            self.yields = self._rivals >= RIVAL_TO_TRIP and result.power_kw == 0.0
            self.tell(Code.WRITE_FAILED, self.unit, False, "")
        if result.power_kw is None:
            return
        parts = self._hold(result, sure=True)
        if parts is not None and parts.at_s > self.acked.at_s and not self.resume:
            self.acked = parts

    def _hold(self, result: WriteResult, *, sure: bool) -> Parts | None:
        """What was offered for this result; the device holds it, or `sure` False: may hold it."""
        for parts in reversed(self._offered):
            if parts.at_s <= result.cleared_at_s:
                power_kw = parts.base_kw + parts.frequency_kw
                self.held_kw = (power_kw, power_kw) if sure else _with(self.held_kw, power_kw)
                self.held_s = max(self.held_s, parts.at_s)
                self._on_its_way()
                return parts
        return None

    def _on_its_way(self) -> None:
        """What was offered before an outcome, or before the link was lost, was never sent, or has
        an outcome too."""
        self.offered_kw, since_s = NOTHING_KW, max(self.held_s, self.down_s)
        for parts in reversed(self._offered):
            if parts.at_s <= since_s:
                break
            self.offered_kw = _with(self.offered_kw, parts.base_kw + parts.frequency_kw)

    def _read_back(self, result: ReadBackResult) -> None:
        self.read_back = result
        if result.verdict is not ReadBack.SAME:  # until it is told again
            self.held_kw = _with(self.held_kw, result.seen_kw)
        match result.verdict:
            case ReadBack.SAME:
                self._quiet()
                if result.at_s - self._rival_s > RIVAL_FORGIVEN_S:
                    self._rivals, self._fell = 0, False
            case ReadBack.REVERTED:
                self.counts.reverted += 1
                self.resume, self._fell, self._rival_s = True, True, result.at_s
                self.tell(Code.READ_BACK_REVERTED, self.unit, True, result.text)
            case ReadBack.CHANGED:
                self.counts.changed += 1
                # whoever writes what the device falls back to is taken for the device at first
                self._rivals += 2 if self._fell else 1
                self._rival_s, self._fell = result.at_s, False
                wrote = overwritten(result)
                self.tell(Code.READ_BACK_CHANGED, self.unit, True, wrote)
                if self._rivals >= RIVAL_TO_TRIP:
                    text = f"setpoint overwritten {self._rivals} times: {wrote}"
                    self.trip(self.unit, Code.RIVAL, text)


def _with(span_kw: tuple[float, float], power_kw: float) -> tuple[float, float]:
    low_kw, high_kw = span_kw
    return min(low_kw, power_kw), max(high_kw, power_kw)


def overwritten(result: ReadBackResult) -> str:
    """What somebody else wrote, over what of ours."""
    wrote, ours = f"{result.seen_kw:g} kW", f"{result.expected_kw:g} kW"
    if result.seen_kvar is not None and result.expected_kvar is not None:
        wrote += f", {result.seen_kvar:g} kvar"
        ours += f", {result.expected_kvar:g} kvar"
    return f"{wrote} instead of {ours} ({result.text})"


def since_s(now: Snapshot, acked: Parts) -> float:
    """Elapsed time that a ramp counts."""
    return min(max(now.now_s - acked.at_s, 0.0), TICK_MAX_S)


def parts_of(request: Request, base_kw: float, cleared: Cleared) -> Parts:
    """How much of what was cleared is base: droop is counted first, and base is never more than
    what its ramp had reached, `base_kw`. Where the ramp alone leaves nothing, base that has not yet
    outgrown the droop against it climbs on unseen, or it would begin at 0 for ever."""
    power_kw, frequency_kw = cleared.power_kw, request.frequency_kw
    if power_kw == cleared.asked_kw and base_kw == request.base_kw:
        return Parts(base_kw, frequency_kw, cleared.at_s)
    if not math.isfinite(frequency_kw) or abs(power_kw) <= CUT_KW:
        cutters = {clamp.why for clamp in cleared.clamps if clamp.before_kw != clamp.after_kw}
        climbing = cutters == {Code.RAMP} and base_kw * frequency_kw < 0.0
        kept_kw = base_kw if climbing else power_kw
        return Parts(kept_kw, power_kw - kept_kw, cleared.at_s)
    left_kw = power_kw - frequency_kw
    base_kw = min(max(left_kw, min(base_kw, 0.0)), max(base_kw, 0.0))
    return Parts(base_kw, power_kw - base_kw, cleared.at_s)


def heard_since(now: Snapshot, unit: UnitId, after_s: float, power: Point = Point.POWER_KW) -> bool:
    """Whether a believed power was measured after that moment."""
    return now.fresh(unit, power) is not None and now.readings[unit, power].at_s > after_s


def resumed_kw(now: Snapshot, unit: UnitId, power: Point = Point.POWER_KW) -> float:
    """Where a ramp starts when a unit returns: the smaller of setpoint and measured power."""
    measured_kw = now.fresh(unit, power) or 0.0
    setpoint_kw = now.fresh(unit, Point.SETPOINT_KW)
    if setpoint_kw is None:
        return 0.0
    if measured_kw * setpoint_kw <= 0.0:
        return 0.0
    return min(measured_kw, setpoint_kw, key=abs)
