"""The writer of one Modbus unit: what to send, when, and what the answers and read-backs mean.

It does no I/O: its link asks for the next frame and tells what became of it. It has no clock of its
own either: setpoints are renewed and the heartbeat is counted up only when the gate offers, so a
tick that stops ends in the device's own revert. A setpoint of 0 goes before everything else; any
other waits until the revert timer is programmed and the enable sequence was answered.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping

from vppd.core.alarms import Code
from vppd.core.model import Cleared, Outcome, Point, UnitId, WriteResult
from vppd.core.ports import Clock, Report
from vppd.core.profile import DeviceProfile, Step, Writable
from vppd.field.decode import check_writable, framed, framed_value
from vppd.field.drivers.echo import Echo, finite
from vppd.field.drivers.setpoint import Frame, Purpose, Setpoint, held_by, is_volatile, setpoints
from vppd.field.drivers.wear import Wear
from vppd.field.presence import Presence

RENEWAL_MAX_S = 2.5
REFUSED_PAUSE_S, LATER_S = 1.0, 0.1  # before one goes again: refused; lost at a stop
SEQUENCE_PAUSE_S = 2.0
TIMER_PAUSE_MAX_S = 60.0
SEQUENCE_REFUSALS = 3
AGAIN_S, AGAIN_MAX_S = 30.0, 600.0  # a device that refused to be enabled is asked again
LOOK_WAIT_S = 1.0  # a setpoint that waits for a look at the device goes without it then
RELEASE_WAIT_S = 5.0  # a release waits so long for its 0 to be read back, then goes on
Held = Mapping[Writable, float]
ANSWERED = frozenset({Outcome.WRITTEN, Outcome.HELD})


class ModbusActuator:
    """core.ports.Actuator of one Modbus unit."""

    def __init__(
        self, unit: UnitId, profile: DeviceProfile, clock: Clock, report: Report, presence: Presence
    ) -> None:
        """Raises ValueError for a profile with a register type that cannot be written."""
        for spec in profile.writes.values():
            check_writable(spec)
        self.unit, self.presence = unit, presence
        self._profile, self._clock, self._report = profile, clock, report
        self._setpoints = setpoints(profile)
        self._newest: Cleared | None = None
        self._renewal_s = min(profile.revert.timeout_s / 2.0, RENEWAL_MAX_S)
        self._echo = Echo(unit, profile, report)
        self._steps: deque[Step] = deque()
        self._steps_s, self._refusals = 0.0, 0
        self._again_s, self._again_pause_s = math.inf, AGAIN_S  # a refused enable is tried again
        self._on: bool | None = None
        self._timer = profile.revert.kind == "timeout"
        self._timer_set, self._timer_s = not self._timer, 0.0
        self._timer_pause_s = SEQUENCE_PAUSE_S
        self._beat_s, self._beat_waits_s = -math.inf, math.inf
        self._restarted = False
        self._finishing = self._leaving = False  # 0 is awaited; on_stop is being written
        self._finished = asyncio.Event()
        self._giving = False  # the device is to be given back once it holds 0
        self._parting = False  # it does: the `release` steps are being written
        self._given = False  # they were answered: nothing is written to it any more
        self._giving_s = self._due_s = math.inf
        self._wear = Wear(profile, presence.counters)
        self.idle = (Outcome.REFUSED, "its profile writes no setpoint")  # why it cannot write
        # What its link and its poll are told, once it has them.
        self.wake: Callable[[], None] = _nobody  # something is due
        self.hurry: Callable[[], None] = _nobody  # a read-back is awaited

    # ---- the half that the gate holds ---------------------------------------------------------

    def offer(self, cleared: Cleared) -> None:
        """Hand over the newest setpoint; outcomes come as reports."""
        self._newest = cleared
        now_s = self._clock.now_s()
        if not self._setpoints:
            self._tell(*self._idled())
            return
        for each in self._setpoints:
            each.aim(cleared)
            if each.wanted:
                self._judge_need(each, now_s)
        if self._beats and self._beat_is_due(now_s):
            self._beat_waits_s = min(self._beat_waits_s, now_s)
        if all(each.stands for each in self._wanted()):
            self._tell(Outcome.HELD, cleared_at_s=cleared.at_s)
        if text := self._kept_from_writing(now_s):
            self._tell(Outcome.LOST, text)
        self._reschedule(now_s)

    def enable(self, *, on: bool) -> None:
        """Send the enable or disable sequence; it is sent again when the device restarts."""
        if self._given:
            self._forget(reopened=False)
        for code in (Code.RELEASED, Code.WRITE_REFUSED):
            self._echo.tell(code, False, self._clock.now_s(), "taken back")
        self._giving = self._parting = self._given = False
        self._on, self._again_pause_s = on, AGAIN_S
        reset = [each for each in self._steps if on and each.write is Writable.RESET_ALARMS]
        self._begin((*reset[:1], *self._sequence()))

    @property
    def releases(self) -> bool:
        """Whether its profile says how to give the device back to its own control."""
        return bool(self._profile.release)

    def release(self) -> None:
        """Write the `release` steps once the device holds 0, and nothing after them."""
        if not self._given:
            self._giving, self._parting, self._giving_s = True, False, math.inf
            self._steps.clear()
            self.hurry()
            self._reschedule(self._clock.now_s())

    def reset_alarms(self) -> None:
        """Ask the device to reset its own alarms, where its profile can."""
        if Writable.RESET_ALARMS in self._profile.writes:
            self._steps.append(Step(write=Writable.RESET_ALARMS, value=1.0))
            self._reschedule(self._clock.now_s())

    async def finish(self) -> bool:
        """Return when the 0 offered before was read back and `on_stop` was answered, or when the
        device is lost; whether 0 was read back, or nothing of ours is in it."""
        idle = not self._has_setpoints or self._given
        if idle or self.presence.up is not True:
            return idle
        self._finished.clear()  # it may have been lost before
        self._finishing, self._giving = True, False
        self.hurry()
        self.wake()
        await self._finished.wait()
        return self._leaving or self._given

    # ---- the half that the link holds ---------------------------------------------------------

    def due_s(self) -> float:
        """Since when a write waits, or from when one is due; `inf`: none."""
        return self._due_s

    def next_frame(self, now_s: float) -> Frame | None:
        """The write to send at this instant, if any."""
        self._drop_needless_steps()
        for due_s, purpose in self._candidates(now_s):
            if due_s > now_s:
                continue
            frame = self._frame(purpose)
            off = not self._giving and (not self._on or self._leaving)
            if frame is None:
                return None
            zero = purpose is Purpose.SETPOINT and self._setpoint_of(frame).zero
            if self._wear.affords(frame, now_s, off=off, zero=zero):
                return frame
            text = f"not sent: {self._profile.nvm_writes_per_day} such writes a day are spent"
            self._echo.tell(Code.WRITE_BUDGET, True, now_s, f"{', '.join(frame.writes)} {text}")
            self._refused(frame, text, now_s)
        self._reschedule(now_s)
        return None

    def may_wait(self, frame: Frame) -> bool:
        """Whether it is a setpoint that is no stop."""
        return frame.purpose is Purpose.SETPOINT and not self._at_zero()

    def sending(self, frame: Frame) -> None:
        """Until this write is answered nobody knows what the device holds."""
        if frame.purpose is Purpose.SETPOINT:
            self._setpoint_of(frame).flies = True

    def written(self, frame: Frame, at_s: float) -> None:
        """The device answered the write."""
        self.presence.counters.writes += 1
        self._wear.sent(frame, at_s)
        match frame.purpose:
            case Purpose.SETPOINT:
                self._setpoint_written(frame, at_s)
            case Purpose.TIMER:
                self._timer_set, self._timer_pause_s = True, SEQUENCE_PAUSE_S
                self._echo.timer_written(at_s)
            case Purpose.STEP:
                self._step_answered(frame, at_s)
            case Purpose.HEARTBEAT:
                self._beat_s, self._beat_waits_s = at_s, math.inf
                spec = self._profile.writes[Writable.HEARTBEAT]
                self._echo.beat_written(int(framed_value(spec, frame.registers)), at_s)
        if self._restarted and self._timer_set and not self._steps:
            self._restarted = False
            self._echo.tell(Code.DEVICE_RESET, False, at_s, "programmed again")
        self._reschedule(at_s)

    def refused(self, frame: Frame, text: str, at_s: float) -> None:
        """The device answered that it will not."""
        self._wear.sent(frame, at_s)
        self._refused(frame, text, at_s)

    def _refused(self, frame: Frame, text: str, at_s: float) -> None:
        told = f"{', '.join(frame.writes)} {text}"
        match frame.purpose:
            case Purpose.SETPOINT:
                each = self._setpoint_of(frame)
                each.refused, each.refused_s = frame.registers, at_s
                each.forget()
                each.waits_s, each.tried_s = math.inf, at_s
                self._echo.setpoint_unknown()
            case Purpose.TIMER:
                self._timer_s = at_s + self._timer_pause_s
                self._timer_pause_s = min(2.0 * self._timer_pause_s, TIMER_PAUSE_MAX_S)
                self._echo.tell(Code.REVERT_NOT_SET, True, at_s, told)
            case Purpose.STEP:
                if self._is_next(frame):
                    self._step_refused(at_s)
            case Purpose.HEARTBEAT:
                self._beat_s, self._beat_waits_s = at_s, math.inf
                self._echo.beat_refused(told, at_s)
        self._tell(Outcome.REFUSED, told, frame.cleared_at_s)
        self._reschedule(at_s)

    def unanswered(self, frame: Frame, text: str, at_s: float) -> None:
        """No answer: what the device holds is unknown."""
        self._wear.sent(frame, at_s)
        sent = None
        if frame.purpose is Purpose.SETPOINT:
            each = self._setpoint_of(frame)
            sent = each.values_of(frame.registers)
            each.forget()
            each.tried_s = at_s
            each.waits_s = at_s + LATER_S if self._finishing else math.inf  # the gate offers again
            self._echo.setpoint_unknown()
        self._tell(Outcome.LOST, f"{', '.join(frame.writes)}: {text}", frame.cleared_at_s, sent)
        self._reschedule(at_s)

    def reopened(self) -> None:
        """The device may have restarted: nothing that was told to it counts any more."""
        self._forget(reopened=bool(self._on) and not self._steps)

    def lost(self) -> None:
        """The device ceased to answer."""
        self.reopened()
        self._finished.set()

    def observe(self, values: Mapping[Point, float | None], begun_s: float) -> None:
        """Take what a poll that began then read of the registers we write."""
        seen = finite(values)
        self._echo.take(seen)
        if self._wear.room(begun_s):
            self._echo.tell(Code.WRITE_BUDGET, False, begun_s, "there is room again")
        if self._given:
            return
        settled = self._on and not self._steps and begun_s >= self._steps_s
        asserted = self._profile.enable if settled else ()
        if text := self._echo.restarted(seen, begun_s, asserted):
            self._begin_again(text, begun_s)
            return
        self._echo.check_enabled(seen, begun_s, asserted)
        if begun_s >= self._again_s:
            self._again_s = math.inf  # once it is on, who switches it off wants that
            if self._echo.told().get(Code.DEVICE_DISABLED):
                self._begin(self._sequence())
        if not self._echo.check_timer(seen, begun_s) and self._timer_set:
            self._timer_set, self._timer_s = False, begun_s
        same = self._echo.check_setpoint(seen, begun_s)
        if self._giving:
            self._give(begun_s, same=same)
        if self._finishing and same and self._holds_zero():
            self._finishing, self._leaving = False, True
            # a device that is held off, by a trip say, is not given back to what it does by itself
            self._begin(() if self._on is False else self._profile.on_stop)
            self._end_when_left()
        self._reschedule(self._clock.now_s())

    def glimpse(self, values: Mapping[Point, float | None], begun_s: float) -> None:
        """Take what a look between two polls read of the setpoint. Where it is not ours a poll is
        to judge it, and the next setpoint waits for that."""
        if not self._given and self._echo.doubts(finite(values), begun_s):
            self.hurry()
            self._reschedule(self._clock.now_s())

    # ---- what to send -------------------------------------------------------------------------

    def _beat_is_due(self, now_s: float) -> bool:
        """Never while a setpoint is refused: it would keep alive what the device holds instead."""
        refused = any(each.refused is not None for each in self._wanted())
        return not refused and now_s - self._beat_s >= self._profile.revert.heartbeat_s

    def _kept_from_writing(self, _now_s: float) -> str:
        """Why nothing becomes of what was offered, for long; or nothing."""
        return ""

    @property
    def _has_setpoints(self) -> bool:
        """Whether there is, or may soon be, a setpoint to write."""
        return bool(self._setpoints)

    @property
    def _beats(self) -> bool:
        return Writable.HEARTBEAT in self._profile.writes and self._timer

    def _judge_need(self, each: Setpoint, now_s: float) -> None:
        """Whether a setpoint must be sent: it changed, is disputed, or is due for renewal."""
        stale = is_volatile(each.specs) and now_s - each.sent_s >= self._renewal_s
        paused = each.target == each.refused and now_s - each.refused_s < REFUSED_PAUSE_S
        if paused or (each.target == each.sent and not stale and not self._echo.disputed):
            each.waits_s = math.inf
        else:
            if each.waits_s == math.inf and self._echo.wary(now_s):
                self.hurry()
            each.waits_s = min(each.waits_s, now_s)

    def _candidates(self, now_s: float) -> Iterator[tuple[float, Purpose]]:
        """What waits to be sent, most urgent first, each with the time it is due."""
        if self._given:
            return
        newest = self._newest
        live = newest is not None and now_s < newest.valid_until_s
        if self._parting or self._leaving:  # a setpoint may take back what is being given
            live = False
        waiting = self._waiting() if live else None
        if waiting is not None and self._at_zero():
            yield waiting.due_s, Purpose.SETPOINT
        if live and not self._timer_set:
            yield self._timer_s, Purpose.TIMER
        if self._steps:
            yield self._steps_s, Purpose.STEP
        beat = live and self._beat_waits_s < math.inf
        overdue = now_s - self._beat_s >= 1.5 * self._profile.revert.heartbeat_s
        if beat and overdue:
            yield self._beat_waits_s, Purpose.HEARTBEAT
        if waiting is not None and self._timer_set and not self._steps:
            yield self._looked_s(waiting, now_s), Purpose.SETPOINT
        if beat and not overdue:
            yield self._beat_waits_s, Purpose.HEARTBEAT

    def _looked_s(self, waiting: Setpoint, now_s: float) -> float:
        """When a setpoint is due; after a dispute not before the device was looked at."""
        if not self._echo.wary(now_s) or self._echo.looked_s >= waiting.waits_s:
            return waiting.due_s
        return max(waiting.due_s, waiting.waits_s + LOOK_WAIT_S)

    def _frame(self, purpose: Purpose) -> Frame | None:
        match purpose:
            case Purpose.SETPOINT:
                waiting, newest = self._waiting(), self._newest
                return waiting.frame(newest.at_s) if waiting and newest else None
            case Purpose.TIMER:
                timeout_s = self._profile.revert.timeout_s
                return self._one(purpose, Writable.COMMAND_TIMEOUT_S, timeout_s)
            case Purpose.STEP:
                return self._one(purpose, self._steps[0].write, self._steps[0].value)
            case Purpose.HEARTBEAT:
                return self._one(purpose, Writable.HEARTBEAT, self._echo.next_beat)

    def _one(self, purpose: Purpose, write: Writable, value: float) -> Frame:
        spec = self._profile.writes[write]
        return Frame(purpose, *framed(spec, value), spec.function, (write,))

    def _waiting(self) -> Setpoint | None:
        return next((each for each in self._setpoints if each.waits_s < math.inf), None)

    def _reschedule(self, now_s: float) -> None:
        before_s = self._due_s
        self._due_s = min((due_s for due_s, _ in self._candidates(now_s)), default=math.inf)
        if self._due_s < before_s:
            self.wake()

    def _at_zero(self) -> bool:
        return all(each.zero for each in self._wanted())

    def _holds_zero(self) -> bool:
        return all(each.holds_zero for each in self._wanted())

    def _wanted(self) -> Iterator[Setpoint]:
        return (each for each in self._setpoints if each.wanted)

    def _setpoint_of(self, frame: Frame) -> Setpoint:
        return next(each for each in self._setpoints if each.writes == frame.writes)

    # ---- sequences ----------------------------------------------------------------------------

    def _begin(self, steps: tuple[Step, ...]) -> None:
        wanted = {write for each in self._wanted() for write in each.writes}
        self._steps = deque(
            step
            for step in steps
            if step.write is not Writable.REACTIVE_ENABLED or Writable.REACTIVE_KVAR in wanted
        )
        self._steps_s, self._refusals, self._again_s = self._clock.now_s(), 0, math.inf
        self._reschedule(self._steps_s)

    def _begin_again(self, text: str, at_s: float) -> None:
        """The device restarted: tell it everything anew."""
        self._echo.tell(Code.DEVICE_RESET, True, at_s, text)
        self._restarted = True
        self._forget(reopened=False)
        if self._on is not None:
            self._begin(self._sequence())

    def _sequence(self) -> tuple[Step, ...]:
        if self._giving:
            return self._profile.release if self._parting else ()
        return self._profile.enable if self._on else self._profile.disable

    def _drop_needless_steps(self) -> None:
        """Non-volatile memory is not written with what it already holds."""
        while self._steps:
            step = self._steps[0]
            spec = self._profile.writes[step.write]
            if spec.volatile or self._echo.shows(spec.read_back) != step.value:
                return
            self._step_done(self._clock.now_s())

    def _is_next(self, frame: Frame) -> bool:
        """Whether a step is of the sequence that is wanted now: another may have begun since."""
        return bool(self._steps) and self._frame(Purpose.STEP) == frame

    def _step_answered(self, frame: Frame, at_s: float) -> None:
        for each in self._setpoints:
            if frame.writes[0] in each.writes:
                each.forget()
                self._echo.setpoint_unknown()
        if self._is_next(frame):
            self._step_done(at_s)

    def _step_done(self, at_s: float) -> None:
        self._steps.popleft()
        self._steps_s, self._refusals = at_s, 0
        self._end_when_left()
        self._end_when_given(at_s)

    def _step_refused(self, at_s: float) -> None:
        self._refusals += 1
        self._steps_s = at_s + SEQUENCE_PAUSE_S
        if self._refusals >= SEQUENCE_REFUSALS and self._steps[0].write is Writable.RESET_ALARMS:
            self._step_done(at_s)  # what comes after does not wait for it
        elif self._refusals >= SEQUENCE_REFUSALS:
            self._steps.clear()
            self._again_s = at_s + self._again_pause_s
            self._again_pause_s = min(2.0 * self._again_pause_s, AGAIN_MAX_S)
            self._end_when_left()
            if self._parting:
                self._giving = self._parting = False
                text = "it refuses to be released and is held at 0"
                self._echo.tell(Code.WRITE_REFUSED, True, at_s, text)

    def _end_when_left(self) -> None:
        if self._leaving and not self._steps:
            self._finished.set()

    def _give(self, at_s: float, *, same: bool) -> None:
        """Begin the `release` steps when 0 was read back; or was answered, and something else is
        read for long."""
        if self._steps or not self._holds_zero():
            return
        self._giving_s = min(self._giving_s, at_s)
        if same or at_s - self._giving_s >= RELEASE_WAIT_S:
            self._begin(self._profile.release)
            self._parting = True

    def _end_when_given(self, at_s: float) -> None:
        if self._parting and not self._steps:
            self._giving, self._parting, self._given = False, False, True
            self._finished.set()  # a stop has nothing more to wait for
            self._forget(reopened=False)
            for code in (Code.DEVICE_DISABLED, Code.REVERT_NOT_SET):
                self._echo.tell(code, False, at_s, "released")
            self._echo.tell(Code.RELEASED, True, at_s, "given back to its own control")

    def _forget(self, *, reopened: bool) -> None:
        for each in self._setpoints:
            each.forget()
        self._timer_set = not self._timer
        self._echo.told_nothing(reopened=reopened)

    # ---- what to tell -------------------------------------------------------------------------

    def _setpoint_written(self, frame: Frame, at_s: float) -> None:
        each = self._setpoint_of(frame)
        each.hold(frame.registers)
        each.sent_s = each.tried_s = at_s
        if each.target == frame.registers:
            each.waits_s = math.inf
        if self._finishing:
            self.hurry()
        self._echo.setpoint_written(held_by(self._setpoints), at_s)
        if all(other.waits_s == math.inf for other in self._setpoints if other is not each):
            self._tell(Outcome.WRITTEN, cleared_at_s=frame.cleared_at_s)

    def _idled(self) -> tuple[Outcome, str]:
        return self.idle

    def _tell(
        self, outcome: Outcome, text: str = "", cleared_at_s: float = 0.0, sent: Held | None = None
    ) -> None:
        held = held_by(self._setpoints) if outcome in ANSWERED else sent or {}
        power_kw, kvar = held.get(Writable.POWER_KW), held.get(Writable.REACTIVE_KVAR)
        at_s = self._clock.now_s()
        self._report(WriteResult(self.unit, outcome, power_kw, kvar, at_s, text, cleared_at_s))


def _nobody() -> None:
    """Nobody to tell yet."""
