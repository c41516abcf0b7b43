"""A SunSpec inverter on its link: found out first, then an ordinary device with a profile.

Until its models are known, and while they are looked at again, it is asked nothing else and written
nothing; its actuator says so. They are looked at cheaply after every new connection, and thoroughly
when the device restarted or an exponent that the writes rely on is another.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from vppd.core.alarms import Code
from vppd.core.asset import SOLE
from vppd.core.model import DeviceNotice, DeviceReport, Outcome, Point, UnitId
from vppd.core.ports import Board, Clock, Report
from vppd.core.profile import DeviceProfile, Table
from vppd.core.settings import InverterSettings, UnitSettings
from vppd.field.drivers.actuator import ModbusActuator
from vppd.field.drivers.modbus import (
    WRITE_SEVERAL,
    DeviceRefused,
    Line,
    ModbusError,
    NoReply,
)
from vppd.field.poll import NOT_THERE, Device, asked
from vppd.field.presence import Presence
from vppd.field.sunspec.curves import Curve, CurveError, CurveKind, read_curve, write_curve
from vppd.field.sunspec.efficiency import EfficiencyBoard
from vppd.field.sunspec.models import (
    BASES,
    CURVES,
    MARKER,
    USED,
    Ask,
    Found,
    Models,
    Pause,
    Read,
    Turns,
    definition,
    discover,
    unchanged,
)
from vppd.field.sunspec.points import AC_MODELS
from vppd.field.sunspec.profile import Rendering, render

T = TypeVar("T")

LOOK_PATIENCE_S = 1.0
KNOWN_WITHIN_S = 30.0  # of its first answer its models are found, on a slow line too
SEARCH_AGAIN_S = 5.0  # a device that was no SunSpec inverter is looked at again
SILENT_AT_BASE = 2  # so often unanswered, and the marker is looked for elsewhere
BUSY_TRIES = 3  # an exception that says "not now" is asked again so often

_NOTHING = DeviceProfile(name="sunspec", maker="", model="", source="", points={}, read_only=True)


class SunSpecActuator(ModbusActuator):
    """core.ports.Actuator of a SunSpec inverter: present before its device is known."""

    def __init__(self, unit: UnitId, clock: Clock, report: Report, presence: Presence) -> None:
        super().__init__(unit, _NOTHING, clock, report, presence)
        self.looked_at_s = math.inf  # since when its models are looked at, and it is not written
        self._silent_s = clock.now_s()  # when it had not answered yet
        self.idle = (Outcome.WAITING, "its SunSpec models are not known yet")

    def _idled(self) -> tuple[Outcome, str]:
        """It is starting until there is a profile, but not for ever."""
        now_s = self._clock.now_s()
        if self.presence.up is not True:
            self._silent_s = now_s
        elif self.idle[0] is Outcome.WAITING and now_s - self._silent_s > KNOWN_WITHIN_S:
            self.idle = (Outcome.LOST, self.idle[1])
        return self.idle

    def _kept_from_writing(self, now_s: float) -> str:
        long = now_s - self.looked_at_s > LOOK_PATIENCE_S
        return "its models are looked at again" if long else ""

    @property
    def _has_setpoints(self) -> bool:
        return super()._has_setpoints or self.looked_at_s < math.inf

    def adopt(self, profile: DeviceProfile, idle: tuple[Outcome, str]) -> None:
        """Write by this profile from now on; `idle` is told where it has nothing to write. What was
        wanted stays wanted, what was told to the device counts no more."""
        on, given, giving, newest = self._on, self._given, self._giving, self._newest
        wake, hurry, told = self.wake, self.hurry, self._echo.told()
        finishing, finished = self._finishing or self._leaving, self._finished
        super().__init__(self.unit, profile, self._clock, self._report, self.presence)
        self._finished, self._finishing = finished, finishing and bool(self._setpoints)
        if not self._finishing:
            finished.set()
        self.wake, self.hurry, self.idle = wake, hurry, idle
        self._echo.go_on_from(told)
        self._on, self._given, self._newest = on, given, newest
        if newest is not None:  # a setpoint of 0 goes before the enable sequence
            for each in self._setpoints:
                each.aim(newest)
                if each.wanted:
                    self._judge_need(each, self._clock.now_s())
        if giving:
            self.release()
        elif on is not None and not given:
            self._begin(self._sequence())


class Walk(Generic[T]):
    """A search on its way over the line: what it asks next, and who is told what it found."""

    def __init__(
        self,
        turns: Turns[T],
        done: Callable[[T], None],
        at_s: float,
        failed: Callable[[Exception], None] | None = None,
    ) -> None:
        self.due_s = at_s
        self.tries = 0  # of the request it asks for now
        self.ask: Ask | None = None  # None: it has ended
        self._turns, self._done, self._failed = turns, done, failed
        self._go(None)

    def feed(self, reply: Sequence[int] | None, at_s: float) -> None:
        """Go on with the answer to what it asked."""
        self.tries, self.due_s = 0, at_s
        self._go(reply)
        if isinstance(self.ask, Pause):
            self.due_s = at_s + self.ask.wait_s

    def fail(self, error: Exception) -> None:
        """Give up."""
        self.ask = None
        self._turns.close()
        if self._failed is not None:
            self._failed(error)

    def _go(self, reply: Sequence[int] | None) -> None:
        try:
            self.ask = self._turns.send(reply)
        except StopIteration as end:
            self.ask = None
            self._done(end.value)
        except (CurveError, ValueError) as error:
            self.fail(error)


class SunSpecDevice:
    """One SunSpec inverter: a member of its link, the readings and the actuator of its unit."""

    def __init__(
        self,
        unit: UnitSettings,
        board: Board,
        clock: Clock,
        report: Report,
        presence: Presence,
        phase_share: float,
    ) -> None:
        """Readings are of the unit; what is told of the device itself is of `presence.unit`.

        Raises ValueError for a unit without an inverter.
        """
        if unit.inverter is None:
            raise ValueError(f"{unit.id} has no inverter")
        for number in USED | CURVES:
            definition(number)  # from the disk, now and not while the loop runs
        at: InverterSettings = unit.inverter
        self.unit, self.presence = unit.unit, presence
        self.timeout_s, self.patience_s = at.timeout_s, at.poll_s
        self.found = Found(None)
        self.rendering: Rendering | None = None
        self._settings, self._at, self._clock = unit, at, clock
        self._report_out, self._phase_share = report, phase_share
        power = SOLE[Point.INVERTER_KW] if unit.modbus is None else Point.INVERTER_KW
        self._board = EfficiencyBoard(board, unit.unit, unit.rated_power_kw, power)
        self.actuator = SunSpecActuator(unit.unit, clock, self._report, presence)
        self._device: Device | None = None
        self._search: Walk[Any] | None = None
        self._seeking = False  # for everything
        self._again_s = math.inf  # when nothing was found, or something must be looked at again
        self._jobs: deque[Walk[Curve]] = deque()
        self._job_turn = False
        self._told = ""

    @property
    def models(self) -> Models:
        """The models found, by number; empty before discovery."""
        return self.found.models

    @property
    def ready(self) -> bool:
        """Whether its models are known and it is an ordinary device."""
        return self._device is not None and self._search is None and self._again_s == math.inf

    # ---- curves -------------------------------------------------------------------------------

    async def curve(self, kind: CurveKind) -> Curve:
        """The curve in force. Raises CurveError where the device has or shows none."""
        return await self._do(read_curve(self.models, kind))

    async def set_curve(self, kind: CurveKind, curve: Curve) -> Curve:
        """Write a curve, have the device adopt it, and give what it then shows.

        Raises ValueError for a curve that is wrong in itself or outside the device's ratings,
        CurveError where the device does not take it.
        """
        return await self._do(write_curve(self.models, kind, curve))

    async def _do(self, turns: Turns[Curve]) -> Curve:
        if not self.ready:
            turns.close()
            raise CurveError("the device is not known yet")
        answer: asyncio.Future[Curve] = asyncio.get_running_loop().create_future()

        def done(curve: Curve) -> None:
            if not answer.done():
                answer.set_result(curve)

        def failed(error: Exception) -> None:
            if not answer.done():
                answer.set_exception(error)

        walk = Walk(turns, done, self._clock.now_s(), failed)
        if walk.ask is not None:
            self._jobs.append(walk)
            self.actuator.wake()
        return await answer

    # ---- what the link asks -------------------------------------------------------------------

    def write_due_s(self) -> float:
        """As its profile's device; nothing is written before it is known."""
        return self._device.write_due_s() if self._device is not None and self.ready else math.inf

    def read_due_s(self) -> float:
        """The search for its models, else its polls and what was asked of its curves."""
        if self._search is not None:
            return max(self._search.due_s, self.presence.retry_s)
        job_s = self._jobs[0].due_s if self._jobs else math.inf
        poll_s = self._device.read_due_s() if self._device is not None else math.inf
        return min(max(min(job_s, self._again_s), self.presence.retry_s), poll_s)

    async def write(self, line: Line) -> bool:
        """Send the most urgent write, if one is still due."""
        return await self._device.write(line) if self._device is not None and self.ready else False

    async def read(self, line: Line) -> bool:
        """Send one request: of the search, of a curve, or of the polls."""
        now_s = self._clock.now_s()
        if self._search is None and now_s >= self._again_s:
            self._seek()
        if self._search is not None:
            return await self._step(line, self._search)
        job = self._jobs[0] if self._jobs and self._jobs[0].due_s <= now_s else None
        device = self._device
        polls = device is not None and device.read_due_s() <= now_s
        self._job_turn = job is not None and not (polls and self._job_turn)
        if job is not None and self._job_turn:
            answered = await self._step(line, job)
            if job.ask is None:
                self._jobs.remove(job)
            return answered
        return await device.read(line) if device is not None else False

    def opened(self) -> None:
        """A new connection: is it still the same device?"""
        if self._device is None:
            self.presence.counters.reconnects += 1
            self._seek()
            return
        self._device.opened()
        if self._seeking or self._again_s < math.inf or self.rendering is None:
            self._seek()  # what made it be looked at thoroughly still holds
            return
        walk = Walk(unchanged(self.found, self.rendering.relied), self._looked, self._clock.now_s())
        self._look(walk)

    def lost(self, at_s: float, text: str) -> None:
        """Its connection cannot be opened."""
        self._drop_jobs(text)
        if self._device is not None:
            self._device.lost(at_s, text)
        else:
            self.presence.lost(at_s, text)

    # ---- searches -----------------------------------------------------------------------------

    def _seek(self) -> None:
        """Find out everything."""
        bases = BASES if self._at.base is None else (self._at.base,)
        self._again_s = math.inf
        self._drop_jobs("the device is looked at again")
        self._look(Walk(discover(bases), self._discovered, self._clock.now_s()))
        self._seeking = True

    def _look(self, walk: Walk[Any] | None) -> None:
        """Begin a search, or end it."""
        self._search, self._seeking = walk, False
        self.actuator.looked_at_s = self._clock.now_s() if walk is not None else math.inf

    def _seek_soon(self) -> None:
        self._again_s = self._clock.now_s()
        self.actuator.wake()

    async def _step(self, line: Line, walk: Walk[Any]) -> bool:
        """Send what a walk asks."""
        ask, now_s = walk.ask, self._clock.now_s()
        if ask is None or isinstance(ask, Pause):
            walk.feed(None, now_s)
            return True
        unit, timeout_s = self._at.unit_id, self.timeout_s
        if isinstance(ask, Read):
            reading = line.read(unit, Table.HOLDING, ask.address, ask.count, timeout_s)
            reply: Any = await asked(self.presence, self._clock, reading)
        else:
            writing = line.write(unit, ask.address, ask.registers, WRITE_SEVERAL, timeout_s)
            reply = await asked(self.presence, self._clock, writing)
            self.presence.counters.writes += 1
            reply = () if reply is None else reply
        now_s = self._clock.now_s()
        walk.tries += 1
        if isinstance(reply, DeviceRefused):
            if reply.code in NOT_THERE or walk.tries >= BUSY_TRIES:
                walk.feed(None, now_s)
        elif isinstance(reply, ModbusError):
            self._silent(walk, ask, reply, now_s)
            return False
        else:
            walk.feed(reply, now_s)
        return True

    def _silent(self, walk: Walk[Any], ask: Ask, error: ModbusError, now_s: float) -> None:
        """A request without an answer is asked again; a curve is given up, and a marker looked for
        elsewhere."""
        if walk is not self._search:
            walk.fail(CurveError(str(error)))
        elif isinstance(error, NoReply) and walk.tries >= SILENT_AT_BASE and _at_marker(ask):
            walk.feed(None, now_s)
        if self._device is not None and self.presence.up is False:
            self.actuator.lost()

    def _looked(self, same: bool) -> None:
        self._look(None)
        if not same:
            self._again_s = self._clock.now_s()

    def _discovered(self, found: Found) -> None:
        self._look(None)
        if not any(number in found.models for number in AC_MODELS):
            words = found.notes or ("no inverter among its models",)
            self._nothing("; ".join(words))
            return
        self.found = found
        rendering, before = render(found, self._settings, self._seek_soon), self.rendering
        if self._device is not None and before is not None:
            if (rendering.profile, rendering.relied) == (before.profile, before.relied):
                return
            self._tell(Code.DEVICE_RESET, True, "its models or scales are other than they were")
        try:
            self._install(rendering)
        except ValueError as error:
            self._nothing(f"its models cannot be used: {error}")

    def _nothing(self, text: str) -> None:
        """It is no SunSpec inverter, now: look again later."""
        self._device, self.rendering, self.found = None, None, Found(None)
        self._again_s = self._clock.now_s() + SEARCH_AGAIN_S
        self.actuator.adopt(_NOTHING, (Outcome.LOST, text))
        if text != self._told:
            self._told = text
            self._tell(Code.READING_MISSING, True, text)

    def _install(self, rendering: Rendering) -> None:
        """From now on it is an ordinary device."""
        again, self.rendering = self._device is not None, rendering
        idle = (Outcome.REFUSED, rendering.refusal)
        self.actuator.adopt(rendering.profile, idle)
        self._device = Device(
            self.unit,
            self._at,
            rendering.profile,
            self._board,
            self._clock,
            self._report,
            self.presence,
            None if rendering.refusal else self.actuator,
            self._phase_share,
            energy_kwh=self._settings.energy_kwh,
            modules=self._settings.modules_parallel,
            sources=rendering.sources,
        )
        reconnects = self.presence.counters.reconnects
        self._device.opened()
        self.presence.counters.reconnects = reconnects  # the connection is the one it was
        if self._told:
            self._told = ""
            self._tell(Code.READING_MISSING, False, "found")
        if again:
            self._tell(Code.DEVICE_RESET, False, "programmed again")

    def _drop_jobs(self, text: str) -> None:
        while self._jobs:
            self._jobs.popleft().fail(CurveError(text))

    # ---- what is told -------------------------------------------------------------------------

    def _report(self, report: DeviceReport) -> None:
        """Pass on what the device told; after a restart its models are looked at again."""
        self._report_out(report)
        if isinstance(report, DeviceNotice):
            reset = report.active and report.code is Code.DEVICE_RESET
            if reset and self._device is not None:
                self._seek_soon()

    def _tell(self, code: Code, active: bool, text: str) -> None:
        now_s = self._clock.now_s()
        self._report_out(DeviceNotice(self.presence.unit, code, active, now_s, text))


def _at_marker(ask: Ask) -> bool:
    return isinstance(ask, Read) and ask.address in BASES and ask.count == len(MARKER)
