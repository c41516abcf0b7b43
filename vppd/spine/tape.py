"""What the recorder keeps, event by event in the order the gate saw them, as columns of numbers.

`TapeWriter` and `TapeReader` are each other's inverse. A snapshot is written as what changed since
the one before. All comes back bit for bit, but for two things that no decision reads closer: when
the outcome of a write came (kept to a millisecond; where the setpoint stood as it was, to its tick)
and the single cells, which are for people.
"""

import math
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any

from vppd.core.model import DeviceReport, Plan, Snapshot, UnitId, WriteResult
from vppd.core.model import Outcome as Written
from vppd.spine.board_tape import BoardReader, BoardWriter
from vppd.spine.columns import DamagedError, Reader, Writer
from vppd.spine.outcome import Outcome, UnitOutcome
from vppd.spine.plain import Plain, UnreadableError

MILLI_S = 0.001
AT_ONCE_S = 0.05
_NONSENSE = (
    *(TypeError, ValueError, LookupError, ArithmeticError, AttributeError, RecursionError),
)
TICKS_BACK = 12  # so long ago may be the setpoint that an outcome is of, and be named by its tick


class Kind(IntEnum):
    """The head of an event."""

    SNAPSHOT = 1
    LOOK = 2
    TICK = 3
    OUTCOME = 4
    SAME_OUTCOME = 5
    ACT = 6
    DUTY = 7
    REPORT = 8
    WRITE = 9
    HELD = 10
    PLANS = 11


@dataclass(frozen=True, slots=True)
class Begin:
    """The first chunk of a file, in words: settings, duty, and what everybody remembered."""

    version: str
    settings_hash: str
    settings: Any
    duty: Any
    memory: Any
    gate: Any
    releases: Mapping[UnitId, bool]  # of each unit that is commanded, whether it can be given back


@dataclass(frozen=True, slots=True)
class Look:
    """Somebody had every rule judge this snapshot, beside the tick."""

    now: Snapshot


@dataclass(frozen=True, slots=True)
class Tick:
    """A tick began."""

    now: Snapshot
    plans: tuple[Plan, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """What came of the tick that began last."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Act:
    """Somebody did something with the gate: trip, reset, disable, release, enable, watch, stop.
    `now` is the snapshot that it was done on, where there is one."""

    at_s: float
    utc: datetime
    name: str
    words: tuple[Any, ...]
    now: Snapshot | None = None


@dataclass(frozen=True, slots=True)
class Exchanged:
    """From the next tick on another duty rules; `settings` are new ones, where they changed."""

    duty: Any
    settings_hash: str
    settings: Any


Event = Look | Tick | Ended | Act | Exchanged | DeviceReport


_NOTHING = UnitOutcome(0, 0, 0, 0, "", 0)


def _alike(one_kw: float | None, other_kw: float | None) -> bool:
    """The same number, or none both; 0 and -0 are two."""
    if one_kw is None or other_kw is None:
        return one_kw is other_kw
    return one_kw == other_kw and math.copysign(1.0, one_kw) == math.copysign(1.0, other_kw)


class TapeWriter:
    """Turns events into bytes, the chunks of one file after its `Begin`."""

    def __init__(self, words: Plain) -> None:
        self._words = words
        self._out = Writer()
        self._board = BoardWriter(words, self._out)
        self._now: Snapshot | None = None
        self._plans: tuple[Plan, ...] = ()
        self._units: tuple[UnitOutcome, ...] = ()
        self._crc = -1
        self._ticks: deque[float] = deque(maxlen=TICKS_BACK)
        self._held: dict[UnitId, tuple[float | None, float | None]] = {}

    @property
    def size_bytes(self) -> int:
        """How much waits to be taken."""
        return self._out.size_bytes

    def take(self) -> bytes:
        """The bytes since the last time."""
        return self._out.take()

    def look(self, now: Snapshot) -> None:
        """A `Look`."""
        self._see(now)
        self._out.head(Kind.LOOK)

    def tick(self, now: Snapshot, plans: tuple[Plan, ...]) -> None:
        """A `Tick`."""
        self._see(now)
        if plans != self._plans:
            self._plans = plans
            self._out.head(Kind.PLANS)
            self._board.record(plans)
        self._out.head(Kind.TICK)
        self._ticks.append(now.now_s)

    def ended(self, outcome: Outcome) -> None:
        """An `Ended`."""
        if outcome.crc == self._crc and outcome.units == self._units:
            self._out.head(Kind.SAME_OUTCOME)
            return
        out, before = self._out, self._units
        out.head(Kind.OUTCOME)
        out.whole(outcome.crc ^ max(self._crc, 0))
        out.whole(len(outcome.units))
        if len(before) != len(outcome.units):
            before = (_NOTHING,) * len(outcome.units)
        pairs = list(zip(outcome.units, before, strict=True))
        for now, old in pairs:
            out.signed(now.base - old.base)
        for now, old in pairs:
            out.signed(now.frequency - old.frequency)
        for now, _ in pairs:
            out.signed(now.power - now.base - now.frequency)
        for now, old in pairs:
            out.signed(now.reactive - old.reactive)
        for now, _ in pairs:
            out.text(now.why)
        for now, _ in pairs:
            out.head(now.mark)
        self._units, self._crc = outcome.units, outcome.crc

    def act(self, act: Act) -> None:
        """An `Act`."""
        if act.now is not None:
            self._see(act.now)
        self._out.head(Kind.ACT)
        self._out.whole(int(act.now is not None))
        self._out.instant(act.at_s)
        self._out.text(self._words.text([act.utc, act.name, act.words]))

    def exchanged(self, change: Exchanged) -> None:
        """An `Exchanged`."""
        self._out.head(Kind.DUTY)
        self._out.text(self._words.text(change))

    def report(self, report: DeviceReport) -> None:
        """What a device's writer told the gate."""
        if not isinstance(report, WriteResult):
            self._out.head(Kind.REPORT)
            self._board.record(report)
            return
        out, held = self._out, (report.power_kw, report.reactive_kvar)
        before = self._held.get(report.unit, (None, None))
        same = all(map(_alike, before, held))
        now_s = self._ticks[-1] if self._ticks else 0.0
        plain = (report.outcome, report.text, report.cleared_at_s) == (Written.HELD, "", now_s)
        if same and plain and 0.0 <= report.at_s - now_s < AT_ONCE_S:
            out.head(Kind.HELD)
            out.text(report.unit)
            return
        out.head(Kind.WRITE)
        out.text(report.unit)
        out.text(f"{report.outcome} {report.text}")
        out.signed(round((report.at_s - now_s) / MILLI_S))
        back = self._back(report.cleared_at_s)
        out.whole((back << 1 | int(not same)) if back is not None else int(not same))
        if back is None:
            out.real(report.cleared_at_s)
        if not same:
            out.head((held[0] is not None) | (held[1] is not None) << 1)
            for each in held:
                if each is not None:
                    out.real(each)
            self._held[report.unit] = held

    def _back(self, cleared_at_s: float) -> int | None:
        """Which of the last ticks, counted back from 1."""
        for back, at_s in enumerate(reversed(self._ticks), start=1):
            if at_s == cleared_at_s:
                return back
        return None

    def _see(self, now: Snapshot) -> None:
        if now is not self._now:
            self._out.head(Kind.SNAPSHOT)
            self._board.snapshot(now, self._now)
            self._now = now


class TapeReader:
    """Turns the chunks of one file back into events."""

    def __init__(self, words: Plain) -> None:
        self._words = words
        self._in = Reader()
        self._board = BoardReader(words, self._in)
        self._now: Snapshot | None = None
        self._plans: tuple[Plan, ...] = ()
        self._outcome = Outcome(0, ())
        self._ticks: deque[float] = deque(maxlen=TICKS_BACK)
        self._held: dict[UnitId, tuple[float | None, float | None]] = {}

    def events(self, chunk: bytes) -> Iterator[Event]:
        """The events of the next chunk. Raises DamagedError and UnreadableError."""
        self._in.feed(chunk)
        while self._in.more:
            try:
                event = self._event(self._in.head())
            except (DamagedError, UnreadableError):
                raise
            except _NONSENSE as error:  # a word that no enumeration here has, a sum beyond all
                raise UnreadableError(f"not to be read by this version: {error}") from error
            if event is not None:
                yield event

    def _event(self, head: int) -> Event | None:
        match head:
            case Kind.SNAPSHOT:
                self._now = self._board.snapshot(self._now)
                return None
            case Kind.PLANS:
                self._plans = self._board.record()
                return None
            case Kind.TICK:
                now = self._known()
                self._ticks.append(now.now_s)
                return Tick(now, self._plans)
            case Kind.LOOK:
                return Look(self._known())
            case Kind.OUTCOME:
                self._outcome = self._read_outcome()
                return Ended(self._outcome)
            case Kind.SAME_OUTCOME:
                return Ended(self._outcome)
            case Kind.HELD:
                return self._read_held()
            case Kind.WRITE:
                return self._read_write()
            case Kind.REPORT:
                report: DeviceReport = self._board.record()
                return report
            case Kind.ACT:
                return self._read_act()
            case Kind.DUTY:
                change: Exchanged = self._words.value(self._in.text())
                return change
        raise DamagedError(f"no event begins with {head}")

    def _known(self) -> Snapshot:
        if self._now is None:
            raise DamagedError("an event before the first snapshot")
        return self._now

    def _read_outcome(self) -> Outcome:
        source, before = self._in, self._outcome.units
        crc = source.whole() ^ self._outcome.crc
        count = source.whole()
        if count > source.left:  # each has a byte of its own
            raise DamagedError("an outcome of more units than there are")
        if len(before) != count:
            before = (_NOTHING,) * count
        bases = [each.base + source.signed() for each in before]
        frequencies = [each.frequency + source.signed() for each in before]
        powers = [
            base + frequency + source.signed()
            for base, frequency in zip(bases, frequencies, strict=True)
        ]
        reactives = [each.reactive + source.signed() for each in before]
        whys = [source.text() for _ in before]
        marks = [source.head() for _ in before]
        parts = zip(bases, frequencies, powers, reactives, whys, marks, strict=True)
        return Outcome(crc, tuple(UnitOutcome(*each) for each in parts))

    def _read_held(self) -> WriteResult:
        unit = UnitId(self._in.text())
        now_s = self._ticks[-1] if self._ticks else 0.0
        held = self._held.get(unit, (None, None))
        return WriteResult(unit, Written.HELD, *held, now_s, "", now_s)

    def _read_write(self) -> WriteResult:
        source = self._in
        unit = UnitId(source.text())
        outcome, _, text = source.text().partition(" ")
        now_s = self._ticks[-1] if self._ticks else 0.0
        at_s = now_s + source.signed() * MILLI_S
        back, changed = divmod(source.whole(), 2)
        if back > len(self._ticks):
            raise DamagedError("an outcome of a tick that never was")
        cleared_at_s = self._ticks[-back] if back else source.real()
        if changed:
            known = source.head()
            power_kw = source.real() if known & 1 else None
            self._held[unit] = power_kw, source.real() if known & 2 else None
        held = self._held.get(unit, (None, None))
        return WriteResult(unit, Written(outcome), *held, at_s, text, cleared_at_s)

    def _read_act(self) -> Act:
        seen, at_s = self._in.whole(), self._in.instant()
        utc, name, words = self._words.value(self._in.text())
        return Act(at_s, utc, name, words, self._known() if seen else None)
