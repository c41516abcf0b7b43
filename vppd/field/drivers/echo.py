"""What the read-backs of one unit say of what was written to it: taken, fallen back, overwritten by
somebody else, revert timer lost, disabled, restarted. A poll that began before a write was answered
says nothing about that write.
"""

import math
from collections.abc import Iterable, Iterator, Mapping

from vppd.core.alarms import Code
from vppd.core.model import DeviceNotice, Point, ReadBack, ReadBackResult, UnitId
from vppd.core.ports import Report
from vppd.core.profile import DeviceProfile, Step, Writable
from vppd.field.decode import encode, written

FELL_AGAIN_S = 60.0

Seen = Mapping[Point, float]  # what one poll showed of the registers we write

_NO_STATE = {Writable.POWER_KW, Writable.REACTIVE_KVAR, Writable.RESET_ALARMS}


class Echo:
    """The memory of what a unit should show."""

    def __init__(self, unit: UnitId, profile: DeviceProfile, report: Report) -> None:
        self._unit, self._profile, self._report = unit, profile, report
        self._held: Mapping[Writable, float] = {}
        self._held_s = math.inf
        self._judged = False  # a dispute is told once for each write
        self._timer_s = self._beat_s = math.inf
        self._reopened = self._beat_refused = False
        self._fell_s = -math.inf
        self._active: dict[Code, bool] = {}
        self._seen: dict[Point, float] = {}
        self.disputed = False  # the device shows another setpoint than it answered
        self.beat = 0  # the heartbeat count that the device holds, as far as known

    # ---- what was told to the device ----------------------------------------------------------

    def setpoint_written(self, values: Mapping[Writable, float], at_s: float) -> None:
        """The device answered to hold these setpoints."""
        self._held, self._held_s = values, at_s
        self.disputed = self._judged = False

    def timer_written(self, at_s: float) -> None:
        """The revert timer was programmed."""
        self._timer_s = at_s
        if self._profile.writes[Writable.COMMAND_TIMEOUT_S].read_back not in self._profile.points:
            self.tell(Code.REVERT_NOT_SET, False, at_s, "programmed")

    def beat_written(self, count: int, at_s: float) -> None:
        """The heartbeat counter was written."""
        self.beat, self._beat_s = count, at_s
        self._beat_refused = False

    def beat_refused(self, text: str, at_s: float) -> None:
        """The heartbeat cannot be written: the device will revert by itself."""
        self._beat_refused = True
        self.tell(Code.REVERT_NOT_SET, True, at_s, text)

    def setpoint_unknown(self) -> None:
        """What setpoint the device holds is not known until it answers the next write."""
        self._held, self._held_s = {}, math.inf

    def told_nothing(self, *, reopened: bool) -> None:
        """Nothing that was told counts any more. After a new connection (`reopened`) a device that
        is no longer enabled has restarted."""
        self.setpoint_unknown()
        self._timer_s = math.inf
        self._reopened = reopened

    # ---- what the device shows ----------------------------------------------------------------

    def take(self, seen: Seen) -> None:
        """Remember what a poll showed."""
        self._seen.update(seen)
        count = self._shown(Writable.HEARTBEAT, seen)
        if count is not None and self._beat_s == math.inf:
            self.beat = int(count)

    def shows(self, point: Point) -> float | None:
        """What the device showed last."""
        return self._seen.get(point)

    def restarted(self, seen: Seen, begun_s: float, asserted: Iterable[Step]) -> str:
        """Why the device must have restarted, or nothing.

        Its heartbeat fell, or after a new connection it is not in the state it was put into, or all
        of that state fell at once. A second fall soon after is somebody's will, and no restart.
        """
        count = self._shown(Writable.HEARTBEAT, seen)
        if count is not None and begun_s >= self._beat_s and count < self.beat:
            before, self.beat = self.beat, int(count)
            return f"heartbeat fell from {before} to {self.beat}"
        states = list(self._states(seen, asserted))
        wrong = [text for text in states if text]
        reopened, self._reopened = self._reopened, self._reopened and not states
        at_once = len(wrong) == len(states) > 1
        if wrong and (reopened or at_once) and begun_s - self._fell_s > FELL_AGAIN_S:
            self._fell_s = begun_s
            return ("after reconnecting " if reopened else "") + ", ".join(wrong)
        return ""

    def check_enabled(self, seen: Seen, begun_s: float, asserted: Iterable[Step]) -> None:
        """Tell when the device is not in the state its enable sequence asserted."""
        states = list(self._states(seen, asserted))
        if states:
            wrong = [text for text in states if text]
            self.tell(Code.DEVICE_DISABLED, bool(wrong), begun_s, ", ".join(wrong) or "enabled")

    def check_timer(self, seen: Seen, begun_s: float) -> bool:
        """False when the revert timer was programmed and is not what it was set to."""
        shown_s = self._shown(Writable.COMMAND_TIMEOUT_S, seen)
        if shown_s is None or begun_s < self._timer_s:
            return True
        spec = self._profile.writes[Writable.COMMAND_TIMEOUT_S]
        set_s = written(spec, encode(spec, self._profile.revert.timeout_s))
        wrong = self._differs(Writable.COMMAND_TIMEOUT_S, (shown_s, set_s))
        if wrong:
            self._timer_s = math.inf
        if not self._beat_refused:
            self.tell(Code.REVERT_NOT_SET, bool(wrong), begun_s, wrong or "set again")
        return not wrong

    def check_setpoint(self, seen: Seen, begun_s: float) -> bool:
        """Report the verdict on the last answered setpoint. True: the device holds it."""
        shown_kw = self._shown(Writable.POWER_KW, seen)
        expected_kw = self._held.get(Writable.POWER_KW)
        if shown_kw is None or expected_kw is None or begun_s < self._held_s or self._judged:
            return False
        compared = {
            write: self._differs(write, (shown, value))
            for write, value in self._held.items()
            if (shown := self._shown(write, seen)) is not None
        }
        wrong = [text for text in compared.values() if text]
        verdict = ReadBack.SAME
        if wrong:
            power = Writable.POWER_KW
            fallen = not self._differs(power, (shown_kw, self._profile.revert.power_kw))
            verdict = ReadBack.REVERTED if fallen and compared[power] else ReadBack.CHANGED
            self.disputed = self._judged = True
        self._report(
            ReadBackResult(self._unit, verdict, expected_kw, shown_kw, begun_s, ", ".join(wrong))
        )
        return verdict is ReadBack.SAME

    def tell(self, code: Code, active: bool, at_s: float, text: str) -> None:
        """Report a notice when it begins or ends."""
        if self._active.get(code, False) is not active:
            self._active[code] = active
            self._report(DeviceNotice(self._unit, code, active, at_s, text))

    # ---- inside -------------------------------------------------------------------------------

    def _shown(self, write: Writable, seen: Seen) -> float | None:
        spec = self._profile.writes.get(write)
        return seen.get(spec.read_back) if spec is not None else None

    def _states(self, seen: Seen, asserted: Iterable[Step]) -> Iterator[str]:
        """For each asserted state that was read: nothing, or what it reads instead."""
        for step in asserted:
            shown = self._shown(step.write, seen)
            if step.write not in _NO_STATE and shown is not None:
                yield self._differs(step.write, (shown, step.value))

    def _differs(self, write: Writable, values: tuple[float, float]) -> str:
        """Nothing when shown and told are within half a count of the coarser register."""
        shown, told = values
        spec = self._profile.writes[write]
        scale = max(abs(spec.scale), abs(self._profile.points[spec.read_back].scale))
        if abs(shown - told) <= 0.5 * scale:
            return ""
        return f"{spec.read_back} reads {shown:g}, not {told:g}"
