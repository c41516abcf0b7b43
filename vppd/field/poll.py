"""The devices on a link: what is read of them and when, and what they are written.

A poll group is read every period at its own phase, so that a site's polls do not come in one burst.
Its points are read in blocks, one block a request; a block that the device refuses is parted until
what it does not have is known, and the rest is polled on. What is missing is tried again rarely.
"""

import math
from collections import deque
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from vppd.core.alarms import Code
from vppd.core.model import DeviceNotice, Point, Quality, Reading, UnitId
from vppd.core.ports import Board, Clock, Report
from vppd.core.profile import DeviceProfile, Group, PointSpec, Table, Writable
from vppd.core.settings import (
    InterlockInputSettings,
    InverterSettings,
    MeterSettings,
    ModbusSettings,
)
from vppd.field.blocks import Block, Holes, Source, learn, plan, source
from vppd.field.decode import Decoder
from vppd.field.drivers.actuator import ModbusActuator
from vppd.field.drivers.lookout import Lookout
from vppd.field.drivers.modbus import (
    BadReply,
    DeviceRefused,
    Line,
    LinkDown,
    ModbusError,
    NoReply,
)
from vppd.field.drivers.setpoint import Purpose
from vppd.field.presence import Presence
from vppd.field.quality import Judge

T = TypeVar("T")
Seat = ModbusSettings | InverterSettings | MeterSettings  # where on its link a device is

SLOW_S = 10.0
FIRST_WITHIN_S = 0.5  # a device is first read within this of its connection
REVIVE_S = 30.0  # what a device refused is tried again, twice as rarely each time
REVIVE_MAX_S = 600.0
BUSY = {5, 6}  # exceptions that say: later; what becomes of a setpoint is not known
NOT_THERE = {1, 2, 3}  # exceptions that say: not these registers, not so many
LOOKED_AT = (Writable.POWER_KW, Writable.REACTIVE_KVAR, Writable.ENABLED)  # between two polls


async def asked(
    presence: Presence, clock: Clock, request: Coroutine[Any, Any, T]
) -> T | ModbusError:
    """Await one request and keep the books on its device. Gives a failure back, raises none."""
    counters = presence.counters
    counters.requests += 1
    try:
        reply = await request
    except DeviceRefused as refusal:
        counters.refused += 1
        presence.answered(clock.now_s())
        return refusal
    except ModbusError as error:
        counters.no_reply += isinstance(error, NoReply)
        counters.bad_reply += isinstance(error, BadReply)
        counters.link_down += isinstance(error, LinkDown)
        presence.failed(clock.now_s(), str(error))
        return error
    presence.answered(clock.now_s())
    return reply


@dataclass(slots=True)
class Cycle:
    """One poll group of one device. `due_s` is the next instant of its grid."""

    period_s: float
    origin_s: float
    wanted: tuple[Block, ...]
    blocks: tuple[Block, ...] = ()
    due_s: float = math.inf

    def begin(self, now_s: float) -> None:
        """Due at once."""
        self.due_s = now_s

    def advance(self, now_s: float) -> None:
        """The next grid point; polls that were missed are not caught up."""
        if self.period_s == math.inf:
            self.due_s = math.inf
            return
        passed = math.floor((now_s - self.origin_s) / self.period_s + 1e-9)
        self.due_s = self.origin_s + (passed + 1) * self.period_s


@dataclass(frozen=True, slots=True)
class _Entry:
    """One point inside a block."""

    point: Point
    start: int
    end: int
    decode: Decoder
    max_age_s: float
    share: float


@dataclass(frozen=True, slots=True)
class _Glance:
    """What is read of a setpoint between two polls."""

    block: Block
    entries: tuple[_Entry, ...]


def _decoded(entries: Sequence[_Entry], registers: Sequence[int]) -> dict[Point, float | None]:
    return {entry.point: entry.decode(registers[entry.start : entry.end]) for entry in entries}


@dataclass(slots=True)
class _Trouble:
    """What a device refuses to show, told as one notice."""

    unit: UnitId
    report: Report
    refused: dict[Block, str] = field(default_factory=dict)

    def found(self, block: Block, text: str, at_s: float) -> None:
        if self.refused.get(block) != text:
            self.refused[block] = text
            self._tell(at_s)

    def read(self, block: Block, at_s: float) -> None:
        if gone := [each for each in self.refused if block.holds(each)]:
            for each in gone:
                del self.refused[each]
            self._tell(at_s)

    def _tell(self, at_s: float) -> None:
        text = "; ".join(self.refused.values()) or "all is read again"
        notice = DeviceNotice(self.unit, Code.READING_MISSING, bool(self.refused), at_s, text)
        self.report(notice)


class Device:
    """One device on its link: polled by its profile, written by its actuator."""

    def __init__(
        self,
        unit: UnitId,
        at: Seat,
        profile: DeviceProfile,
        board: Board,
        clock: Clock,
        report: Report,
        presence: Presence,
        actuator: ModbusActuator | None,
        phase_share: float,
        *,
        energy_kwh: float = math.inf,
        modules: int = 1,
        sources: Mapping[Point, Source] | None = None,
    ) -> None:
        """Readings are of `unit`; what is told of the device itself is of `presence.unit`.

        `phase_share` is where in its period it is polled, 0 to 1. `sources` are points that are
        made of more registers than their spec names.
        """
        self.unit, self.presence, self.actuator = unit, presence, actuator
        self.timeout_s, self.patience_s = at.timeout_s, at.poll_s
        self._unit_id, self._board, self._clock = at.unit_id, board, clock
        self._points, self._profile = profile.points, profile
        self._modules = modules
        self._sources = {point: source(spec) for point, spec in profile.points.items()}
        self._sources.update(sources or {})
        self._judge = Judge(profile.points, energy_kwh)
        self._trouble = _Trouble(presence.unit, report)
        self._watched = {spec.read_back for spec in profile.writes.values()}
        self._holes = Holes()
        self._revive_s, self._revive_wait_s = math.inf, REVIVE_S
        self._entries: dict[Block, tuple[_Entry, ...]] = {}
        self._first_s = phase_share * min(at.poll_s, FIRST_WITHIN_S)
        origin_s = clock.now_s() + self._first_s
        periods_s = {Group.FAST: at.poll_s, Group.SLOW: SLOW_S, Group.ONCE: math.inf}
        self._cycles = [
            Cycle(period_s, origin_s, self._wanted(group)) for group, period_s in periods_s.items()
        ]
        self._fast = self._cycles[0]
        self._current = self._fast
        self._queue: deque[Block] = deque()
        self._queue_s = 0.0
        self._proven = False  # read since the connection was opened
        self._lookout = Lookout(presence.unit, presence.fellows)
        self._glance: _Glance | None = None  # what is read of it between two polls
        self._replan()
        if actuator is not None:
            actuator.hurry = self._poll_now

    # ---- what the link asks -------------------------------------------------------------------

    def write_due_s(self) -> float:
        """A device is read before it is written."""
        if self.actuator is None or not self._proven:
            return math.inf
        return max(self.actuator.due_s(), self.presence.retry_s)

    def read_due_s(self) -> float:
        """The oldest poll that waits, or the next; later for a device that does not answer."""
        fast, slow, once = self._cycles
        due_s = self._queue_s if self._queue else min(fast.due_s, slow.due_s, once.due_s)
        return max(min(due_s, self._lookout.due_s), self.presence.retry_s)

    async def write(self, line: Line) -> bool:
        """Send the most urgent write, if one is still due; or look at what it would write over."""
        actuator, begun_s = self.actuator, self._clock.now_s()
        frame = actuator.next_frame(begun_s) if actuator is not None else None
        if actuator is None or frame is None:
            return False
        if self._glance is not None and self._lookout.holds and actuator.may_wait(frame):
            return await self._look_at(line, self._glance, begun_s)
        actuator.sending(frame)
        request = line.write(
            self._unit_id, frame.address, frame.registers, frame.function, self.timeout_s
        )
        reply = await asked(self.presence, self._clock, request)
        now_s = self._clock.now_s()
        if isinstance(reply, DeviceRefused):
            not_now = reply.code in BUSY and frame.purpose is Purpose.SETPOINT
            (actuator.unanswered if not_now else actuator.refused)(frame, str(reply), now_s)
        elif isinstance(reply, ModbusError):
            actuator.unanswered(frame, str(reply), now_s)
            self._unanswered(now_s)
            return False
        else:
            actuator.written(frame, now_s)
            if self._glance is not None and Writable.POWER_KW in frame.writes:
                self._lookout.written(now_s, now_s - begun_s)
        return True

    async def read(self, line: Line) -> bool:
        """Read the next block of the oldest poll, or look at the setpoint when that is due."""
        begun_s = self._clock.now_s()
        if self._glance is not None and self._lookout.due_s <= begun_s:
            return await self._look_at(line, self._glance, begun_s)
        if not self._queue:
            self._begin_cycle(begun_s)
        if not self._queue:
            return False
        block = self._queue[0]
        request = line.read(self._unit_id, block.table, block.address, block.count, self.timeout_s)
        reply = await asked(self.presence, self._clock, request)
        now_s = self._clock.now_s()
        if isinstance(reply, DeviceRefused):
            self._queue.popleft()
            self._proven = True
            self._refused(block, reply, now_s)
        elif isinstance(reply, ModbusError):
            self._unanswered(now_s)
            return False
        else:
            self._queue.popleft()
            self._proven = True
            self._publish(block, reply, begun_s)
        return True

    def opened(self) -> None:
        """A new connection: everything is read again, and first of all."""
        self.presence.counters.reconnects += 1
        self._proven = False
        self._lookout.forget()
        self._queue.clear()
        self._revive()
        self._revive_wait_s = REVIVE_S
        for cycle in self._cycles:
            cycle.begin(self._clock.now_s() + self._first_s)
        self._first_s = 0.0
        if self.actuator is not None:
            self.actuator.reopened()

    def lost(self, at_s: float, text: str) -> None:
        """Its connection cannot be opened."""
        self.presence.lost(at_s, text)
        self._unanswered(at_s)

    # ---- inside -------------------------------------------------------------------------------

    def _poll_now(self) -> None:
        self._fast.begin(self._clock.now_s())

    async def _look_at(self, line: Line, glance: _Glance, begun_s: float) -> bool:
        """Read what the device holds of the setpoint. A poll is to judge what is strange in it."""
        block = glance.block
        self._lookout.looked(begun_s)
        request = line.read(self._unit_id, block.table, block.address, block.count, self.timeout_s)
        reply = await asked(self.presence, self._clock, request)
        if isinstance(reply, DeviceRefused):
            self._glance = None  # until its blocks are planned anew
            self._lookout.forget()
        elif isinstance(reply, ModbusError):
            self._unanswered(self._clock.now_s())
            return False
        elif self.actuator is not None:
            self.actuator.glimpse(_decoded(glance.entries, reply), begun_s)
        return True

    def _unanswered(self, at_s: float) -> None:
        """Begin anew with the fast group; once lost, read before the next write."""
        self._lookout.forget()
        if self._queue:
            self._current.begin(at_s)
        self._queue.clear()
        self._fast.begin(at_s)
        if self.presence.up is False:
            self._proven = False
            if self.actuator is not None:
                self.actuator.lost()

    def _begin_cycle(self, now_s: float) -> None:
        if now_s >= self._revive_s:
            self._revive()
        cycle = min(self._cycles, key=lambda each: each.due_s)
        self._current, self._queue_s = cycle, cycle.due_s
        self._queue.extend(cycle.blocks)
        cycle.advance(now_s)

    def _publish(self, block: Block, registers: Sequence[int], begun_s: float) -> None:
        entries = self._entries[block]
        values = _decoded(entries, registers)
        judged = self._judge.judge(values, begun_s)
        for entry in entries:
            value, quality = judged[entry.point]
            self._board.publish(
                Reading(
                    self.unit, entry.point, value / entry.share, begun_s, entry.max_age_s, quality
                )
            )
        if self._trouble.refused:
            self._trouble.read(block, begun_s)
        if self.actuator is not None and not self._watched.isdisjoint(values):
            self.actuator.observe(values, begun_s)

    def _refused(self, block: Block, refusal: DeviceRefused, at_s: float) -> None:
        """Learn what is not there; read the rest of the block at once."""
        where = f"{block.table} 0x{block.address:04X} to 0x{block.end - 1:04X}"
        if refusal.code not in NOT_THERE:
            self._trouble.found(block, f"{where}: {refusal}", at_s)
            return
        wanted = [each for each in self._current.wanted if block.holds(each)]
        self._holes = learn(block, wanted, self._holes)
        self.presence.counters.holes += 1
        self._replan()
        rest = self._plan(tuple(wanted))
        self._queue.extendleft(reversed(rest))
        if not rest:
            points = [point for point in self._points if block.holds(self._place(point))]
            self._trouble.found(block, f"{', '.join(points)}: {where} {refusal}", at_s)
            if self._revive_s == math.inf:
                self._revive_s = at_s + self._revive_wait_s
                self._revive_wait_s = min(2.0 * self._revive_wait_s, REVIVE_MAX_S)
            for point in points:
                age_s = self._points[point].max_age_s
                self._board.publish(
                    Reading(self.unit, point, math.nan, at_s, age_s, Quality.MISSING)
                )

    def _revive(self) -> None:
        """Try again what the device did not have."""
        self._revive_s = math.inf
        if self._holes.dead:
            self._holes = self._holes.revived()
            self._replan()

    def _wanted(self, group: Group) -> tuple[Block, ...]:
        return tuple(
            self._place(point) for point, spec in self._points.items() if spec.group is group
        )

    def _place(self, point: Point) -> Block:
        return self._sources[point].block

    def _plan(self, wanted: tuple[Block, ...]) -> tuple[Block, ...]:
        return plan(wanted, self._profile.max_block, self._profile.max_gap, self._holes)

    def _replan(self) -> None:
        for cycle in self._cycles:
            cycle.blocks = self._plan(cycle.wanted)
            for block in cycle.blocks:
                self._index(block, cycle.wanted)
        for block in self._queue:
            self._index(block, self._current.wanted)
        self._glance = self._setpoint_glance()

    def _setpoint_glance(self) -> _Glance | None:
        """The request that shows the power setpoint, and beside it whether it is in force."""
        writes = self._profile.writes
        shown = [spec.read_back for write in LOOKED_AT if (spec := writes.get(write)) is not None]
        points = [point for point in shown if point in self._points]
        if Writable.POWER_KW not in writes or shown[0] not in points:
            return None
        power = self._place(shown[0])
        for block in self._plan(tuple(self._place(point) for point in points)):
            if block.holds(power):
                inside = (each for each in points if block.holds(self._place(each)))
                entries = (self._entry(block, each, self._points[each]) for each in inside)
                return _Glance(block, tuple(entries))
        return None

    def _index(self, block: Block, wanted: Sequence[Block]) -> None:
        inside = {place for place in wanted if block.holds(place)}
        self._entries[block] = tuple(
            self._entry(block, point, spec)
            for point, spec in self._points.items()
            if self._place(point) in inside
        )

    def _entry(self, block: Block, point: Point, spec: PointSpec) -> _Entry:
        place = self._place(point)
        start = place.address - block.address
        divided = point is Point.CURRENT_A and self._profile.dc_total
        return _Entry(
            point,
            start,
            start + place.count,
            self._sources[point].decode,
            spec.max_age_s,
            float(self._modules) if divided else 1.0,
        )


class InterlockInput:
    """One hardware interlock input on its link: 1 healthy, 0 not."""

    def __init__(
        self,
        settings: InterlockInputSettings,
        board: Board,
        clock: Clock,
        report: Report,
        phase_share: float,
    ) -> None:
        at = settings.modbus
        self.unit = UnitId(f"input:{settings.id}")
        self.presence = Presence(self.unit, report)
        self.timeout_s, self.patience_s = at.timeout_s, at.poll_s
        self._unit_id, self._healthy = at.unit_id, settings.healthy
        self._board, self._clock = board, clock
        address = at.discrete_input if at.discrete_input is not None else at.coil
        table = Table.DISCRETE_INPUT if at.discrete_input is not None else Table.COIL
        self._block = Block(table, address or 0, 1)
        self._max_age_s = 2.0 * at.poll_s + at.timeout_s
        first_s = phase_share * min(at.poll_s, FIRST_WITHIN_S)
        self._cycle = Cycle(at.poll_s, clock.now_s() + first_s, (self._block,))
        self._trouble = _Trouble(self.unit, report)

    def write_due_s(self) -> float:
        """Never: it is only read."""
        return math.inf

    def read_due_s(self) -> float:
        """The next poll; later when it does not answer."""
        return max(self._cycle.due_s, self.presence.retry_s)

    async def write(self, line: Line) -> bool:  # noqa: ARG002
        """Nothing to write."""
        return False

    async def read(self, line: Line) -> bool:
        """Read the input."""
        begun_s = self._clock.now_s()
        self._cycle.advance(begun_s)
        block = self._block
        request = line.read(self._unit_id, block.table, block.address, 1, self.timeout_s)
        reply = await asked(self.presence, self._clock, request)
        if isinstance(reply, DeviceRefused):
            text = f"{block.table} {block.address}: {reply}"
            self._trouble.found(block, text, self._clock.now_s())
        elif isinstance(reply, ModbusError):
            self._cycle.begin(self._clock.now_s())
            return False
        else:
            self._trouble.read(block, begun_s)
            value = float(reply[0] == self._healthy)
            self._board.publish(Reading(self.unit, Point.HEALTHY, value, begun_s, self._max_age_s))
        return True

    def opened(self) -> None:
        """A new connection: read at once."""
        self.presence.counters.reconnects += 1
        self._cycle.begin(self._clock.now_s())

    def lost(self, at_s: float, text: str) -> None:
        """Its connection cannot be opened."""
        self.presence.lost(at_s, text)
