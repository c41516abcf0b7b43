"""What the read-backs of one unit say of what was written to it: taken, fallen back, overwritten by
somebody else, revert timer lost, disabled, restarted. A poll that began before a write was answered
says nothing about that write.
"""

import math
from collections.abc import Iterable, Iterator, Mapping

from vppd.core.alarms import Code
from vppd.core.model import DeviceNotice, Point, ReadBack, ReadBackResult, UnitId
from vppd.core.ports import Report
from vppd.core.profile import DeviceProfile, Kind, Step, Writable
from vppd.field.decode import encode, written

WORD_MAX, LONG_MAX = 0xFFFF, 0xFFFFFFFF
FELL_AGAIN_S = 60.0
WARY_S = 60.0  # after a dispute
DOUBT_S = 0.5  # after a look that showed something strange: until a poll has judged it

Seen = Mapping[Point, float]  # what one poll showed of the registers we write

_NO_STATE = {Writable.POWER_KW, Writable.REACTIVE_KVAR, Writable.RESET_ALARMS}


def finite(values: Mapping[Point, float | None]) -> Seen:
    """What of a reply is a value at all."""
    return {
        point: value
        for point, value in values.items()
        if value is not None and math.isfinite(value)
    }


class Echo:
    """The memory of what a unit should show."""

    def __init__(self, unit: UnitId, profile: DeviceProfile, report: Report) -> None:
        self._unit, self._profile, self._report = unit, profile, report
        self._held: Mapping[Writable, float] = {}
        self._held_s = math.inf
        self._judged = False  # a dispute is told once for each write
        self._timer_s = self._beat_s = math.inf
        self._reopened = self._beat_refused = False
        self._fell_s = self._reverted_s = -math.inf
        self._active: dict[Code, bool] = {}
        self._seen: dict[Point, float] = {}
        self._wrote_s, self._lapsed = math.inf, False  # its timer ran out between two setpoints
        self.disputed = False  # the device shows another setpoint than it answered
        self.looked_s = -math.inf  # when the poll began that showed the setpoint last
        self._wary_s = -math.inf  # until then every write is preceded by a look
        self.beat = 0  # the heartbeat count that the device holds, as far as known

    @property
    def next_beat(self) -> int:
        """The heartbeat count to write next: never 0, which is what a restart shows."""
        wide = self._profile.writes[Writable.HEARTBEAT].type is Kind.U32
        return self.beat % (LONG_MAX if wide else WORD_MAX) + 1

    # ---- what was told to the device ----------------------------------------------------------

    def setpoint_written(self, values: Mapping[Writable, float], at_s: float) -> None:
        """The device answered to hold these setpoints."""
        if at_s - self._wrote_s >= self._profile.revert.timeout_s:
            self._lapsed = self._profile.revert.kind == "timeout"
        self._wrote_s = at_s
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
        lapsed, self._lapsed = self._lapsed, self._lapsed and not states
        lone = len(states) == 1 and (lapsed or self._timer_fell(seen, begun_s))
        at_once = len(wrong) == len(states) and (len(states) > 1 or lone)
        if wrong and lapsed and lone:
            return "after silence " + ", ".join(wrong)
        if wrong and (reopened or at_once) and begun_s - self._fell_s > FELL_AGAIN_S:
            self._fell_s = begun_s
            return ("after reconnecting " if reopened else "") + ", ".join(wrong)
        return ""

    def wary(self, now_s: float) -> bool:
        """Whether the setpoint was disputed of late: a rival's write that is overwritten before it
        was read would not be seen."""
        return now_s < self._wary_s

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
        if shown_kw is not None:
            self.looked_s = begun_s
        expected_kw = self._held.get(Writable.POWER_KW)
        if shown_kw is None or expected_kw is None or begun_s < self._held_s or self._judged:
            return False
        wrong = self._wrong(seen)
        verdict = ReadBack.SAME
        if wrong:
            fallen = self._fallen(wrong, seen, begun_s)
            verdict = ReadBack.REVERTED if fallen else ReadBack.CHANGED
            self.disputed = self._judged = True
            self._wary_s = begun_s + WARY_S
        self._report(
            ReadBackResult(
                self._unit,
                verdict,
                expected_kw,
                shown_kw,
                begun_s,
                ", ".join(wrong.values()),
                self._held.get(Writable.REACTIVE_KVAR),
                self._shown(Writable.REACTIVE_KVAR, seen),
            )
        )
        return verdict is ReadBack.SAME

    def doubts(self, seen: Seen, begun_s: float) -> bool:
        """Whether a look between two polls shows another setpoint than the last one answered. Then
        the next write waits for a poll: what it writes over would not be seen any more."""
        if begun_s < self._held_s or self._judged or not self._wrong(seen):
            return False
        self._wary_s = max(self._wary_s, begun_s + DOUBT_S)
        return True

    def told(self) -> Mapping[Code, bool]:
        """The notices told so far, and whether they stand."""
        return self._active

    def go_on_from(self, told: Mapping[Code, bool]) -> None:
        """Another memory told these notices before: end them as one's own."""
        self._active = dict(told)

    def tell(self, code: Code, active: bool, at_s: float, text: str) -> None:
        """Report a notice when it begins or ends."""
        if self._active.get(code, False) is not active:
            self._active[code] = active
            self._report(DeviceNotice(self._unit, code, active, at_s, text))

    # ---- inside -------------------------------------------------------------------------------

    def _wrong(self, seen: Seen) -> Mapping[Writable, str]:
        """What of the setpoint reads otherwise than it was answered, and how."""
        compared = {
            write: self._differs(write, (shown, value))
            for write, value in self._held.items()
            if (shown := self._shown(write, seen)) is not None
        }
        if self._profile.writes[Writable.POWER_KW].before:  # its frame also switches the device on
            compared.update(self._switched_off(seen))
        return {write: text for write, text in compared.items() if text}

    def _fallen(self, wrong: Iterable[Writable], seen: Seen, begun_s: float) -> bool:
        """Whether the device fell back by itself: it can, and all that is wrong reads what it falls
        back to. Twice within a minute, and each time sooner than its timer runs out, is somebody
        who writes just that."""
        revert = self._profile.revert
        homes = {Writable.POWER_KW: revert.power_kw, Writable.REACTIVE_KVAR: 0.0}
        if self._let_go(seen):
            shown_now = {write: self._shown(write, seen) for write in wrong}
            homes = {write: value for write, value in shown_now.items() if value is not None}
        shown = [(write, self._shown(write, seen)) for write in wrong]
        if revert.kind == "none" or any(
            value is None or write not in homes or self._differs(write, (value, homes[write]))
            for write, value in shown
        ):
            return False
        beat_s = self._beat_s if self._beat_s < math.inf else -math.inf
        early = begun_s - max(self._held_s, beat_s) < revert.timeout_s
        again = begun_s - self._reverted_s <= FELL_AGAIN_S
        self._reverted_s = begun_s
        return not (early and again)

    def _shown(self, write: Writable, seen: Seen) -> float | None:
        spec = self._profile.writes.get(write)
        return seen.get(spec.read_back) if spec is not None else None

    def _let_go(self, seen: Seen) -> bool:
        """Whether a device that has no setpoint to fall back to went to its own mode instead."""
        spec = self._profile.writes[Writable.POWER_KW]
        shown = self._shown(Writable.ENABLED, seen)
        home = [step.value for step in self._profile.release if step.write is Writable.ENABLED]
        return spec.mirror and shown is not None and shown in home

    def _timer_fell(self, seen: Seen, begun_s: float) -> bool:
        """Whether the revert timer was programmed and reads 0."""
        return begun_s >= self._timer_s and self._shown(Writable.COMMAND_TIMEOUT_S, seen) == 0.0

    def _states(self, seen: Seen, asserted: Iterable[Step]) -> Iterator[str]:
        """For each asserted state that was read: nothing, or what it reads instead."""
        for step in asserted:
            shown = self._shown(step.write, seen)
            if step.write not in _NO_STATE and shown is not None:
                yield self._differs(step.write, (shown, step.value))

    def _switched_off(self, seen: Seen) -> Mapping[Writable, str]:
        """That the device is not in the state its setpoint was written with."""
        switch = Writable.ENABLED
        shown = self._shown(switch, seen)
        on = [step.value for step in self._profile.enable if step.write is switch]
        if shown is None or not on:
            return {}
        return {switch: self._differs(switch, (shown, on[0]))}

    def _differs(self, write: Writable, values: tuple[float, float]) -> str:
        """Nothing when shown and told are within half a count of the coarser register."""
        shown, told = values
        spec = self._profile.writes[write]
        shown_by = self._profile.points[spec.read_back]
        scale = abs(spec.scale)
        if shown_by.scale_register is None:  # else it shows the register written, by its exponent
            scale = max(scale, abs(shown_by.scale))
        if abs(shown - told) <= 0.5 * scale:
            return ""
        return f"{spec.read_back} reads {shown:g}, not {told:g}"
