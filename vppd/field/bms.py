"""What the frames of a BMS say: from bytes to signals by its DBC, from signals to points by its
model. Pure: what it remembers comes from its calls alone.

A value is as old as the oldest signal it is made of, and good only while all of them are: the
lowest of sixteen cells is not known while four of them are silent. A frame of the wrong length, one
that the DBC cannot decode, and one whose alive counter stands still say nothing.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cantools.database.can import Database, Message
from cantools.database.errors import Error as DatabaseError

from vppd.core.bms import BmsProfile, FrameSpec, SignalSpec, Take, max_age_s, signal_of
from vppd.core.model import Point, Quality

FrameId = tuple[int, bool]  # identifier and whether it is a 29-bit one: two spaces of numbers
Signal = tuple[str, str]  # message and signal

BITS_HOLD_S = 0.5  # a bit that was set is shown at least so long: several ticks
OF_A_MODULE = {
    Point.PACK_A,
    Point.BMS_CHARGE_MAX_A,
    Point.BMS_DISCHARGE_MAX_A,
}
BITS = {Point.BMS_FAULT_BITS, Point.BMS_WARNING_BITS}

TAKES: dict[Take, Callable[[Sequence[float]], float]] = {
    Take.ONE: lambda values: values[0],
    Take.MIN: min,
    Take.MAX: max,
    Take.SUM: math.fsum,
    Take.MEAN: lambda values: math.fsum(values) / len(values),
    Take.BITS: lambda values: sum(2.0**k for k, value in enumerate(values) if value),
}


@dataclass(slots=True)
class CanCounters:
    """What became of the frames of one BMS, or of one bus, since the start."""

    frames: int = 0
    unknown: int = 0  # no model has this identifier
    short: int = 0
    long: int = 0
    bad: int = 0  # cannot be decoded
    frozen: int = 0  # with an alive counter that stands still
    counter_jumps: int = 0  # frames were lost before it
    bus_errors: int = 0
    reopened: int = 0
    sent: int = 0


@dataclass(frozen=True, slots=True)
class Frame:
    """One message of the DBC that the BMS sends."""

    name: str
    message: Message
    lengths: frozenset[int]
    max_age_s: float
    counter: str | None
    modulus: int  # of the counter

    def decode(self, data: bytes) -> Mapping[str, float] | None:
        """The signals that are in these bytes, or None where they make no sense."""
        truncated = len(data) < self.message.length
        try:
            found: Any = self.message.decode(data, decode_choices=False, allow_truncated=truncated)
            return {name: float(value) for name, value in found.items()}
        except (DatabaseError, ValueError, KeyError, IndexError, TypeError):
            return None


def frames_of(profile: BmsProfile, dbc: Database) -> dict[FrameId, Frame]:
    """The frames of a model by their identifiers. Raises ValueError for one the DBC has not."""
    frames = {}
    for name, spec in profile.frames.items():
        try:
            message = dbc.get_message_by_name(name)
        except KeyError:
            raise ValueError(f"{profile.name}: no message {name} in its DBC") from None
        frame_id = (message.frame_id, message.is_extended_frame)
        frames[frame_id] = _frame(spec, message)
    return frames


def _frame(spec: FrameSpec, message: Message) -> Frame:
    modulus = 0
    if spec.counter is not None:
        counter = message.get_signal_by_name(spec.counter)
        modulus = 2**counter.length
        if counter.maximum is not None and 0 < counter.maximum < modulus - 1:
            modulus = int(counter.maximum) + 1
    lengths = frozenset(spec.lengths or (message.length,))
    return Frame(message.name, message, lengths, max_age_s(spec), spec.counter, modulus)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one point is made of signals, and for how long each may be believed."""

    point: Point
    spec: SignalSpec
    signals: tuple[Signal, ...]
    max_ages_s: tuple[float, ...]
    modules: int  # its value is shared among so many


@dataclass(frozen=True, slots=True)
class Value:
    """One point now: believed until `at_s` + `max_age_s`."""

    point: Point
    value: float
    quality: Quality
    at_s: float
    max_age_s: float


@dataclass(slots=True)
class Seen:
    """The last value of one signal."""

    value: float
    at_s: float


@dataclass(slots=True)
class Held:
    """Bits, each shown at least `BITS_HOLD_S` after it was set."""

    shown: int = 0
    until_s: float = -math.inf

    def see(self, bits: int, at_s: float) -> None:
        """What came now."""
        if at_s > self.until_s:
            self.shown = 0
        if bits & ~self.shown:
            self.until_s = at_s + BITS_HOLD_S
        self.shown |= bits

    def over(self, bits: int, at_s: float) -> int:
        """What is shown where `bits` came last."""
        return bits | (self.shown if at_s <= self.until_s else 0)


@dataclass(slots=True)
class _Alive:
    """The alive counter of one frame."""

    count: int
    at_s: float  # when it moved last


@dataclass(slots=True)
class Picture:
    """All that one BMS said, and what changed since it was last looked at."""

    profile: BmsProfile
    frames: Mapping[FrameId, Frame]
    modules: int
    counters: CanCounters = field(default_factory=CanCounters)
    standing: set[str] = field(default_factory=set)  # frames whose alive counter stands still
    _seen: dict[Signal, Seen] = field(default_factory=dict)
    _alive: dict[str, _Alive] = field(default_factory=dict)
    _held: dict[Point, Held] = field(default_factory=dict)
    _recipes: dict[str, tuple[Recipe, ...]] = field(default_factory=dict)
    _changed: set[str] = field(default_factory=set)
    _cells: tuple[tuple[Signal, ...], ...] = ()
    _ages_s: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises ValueError for a signal that no frame has."""
        self._ages_s = {frame.name: frame.max_age_s for frame in self.frames.values()}
        recipes = [self._recipe(*each) for each in self.profile.points.items()]
        self._recipes = {
            name: tuple(
                recipe for recipe in recipes if any(name == each for each, _ in recipe.signals)
            )
            for name in self._ages_s
        }
        self._held = {recipe.point: Held() for recipe in recipes if recipe.point in BITS}
        lists = (self.profile.cells, self.profile.sensors, self.profile.balancing)
        self._cells = tuple(tuple(map(self._signal, names)) for names in lists)

    def take(self, frame: Frame, data: bytes, at_s: float) -> bool:
        """Take one frame. False: it says nothing, and was counted."""
        counters = self.counters
        counters.frames += 1
        if len(data) not in frame.lengths:
            counters.short += len(data) < min(frame.lengths)
            counters.long += len(data) >= min(frame.lengths)
            return False
        signals = frame.decode(data)
        if signals is None:
            counters.bad += 1
            return False
        if frame.counter is not None and not self._is_alive(frame, signals, at_s):
            counters.frozen += 1
            return False
        for name, value in signals.items():
            self._seen[frame.name, name] = Seen(value, at_s)
        self._changed.add(frame.name)
        for recipe in self._recipes[frame.name]:
            if recipe.point in self._held:
                self._hold(recipe, at_s)
        return True

    def values(self, now_s: float) -> Iterator[Value]:
        """The points that frames touched since the last look, each once."""
        touched = {recipe.point: recipe for name in self._changed for recipe in self._recipes[name]}
        for recipe in touched.values():
            value = self._value(recipe, now_s)
            if value.quality is Quality.GOOD and (held := self._held.get(recipe.point)):
                bits = float(held.over(int(value.value), now_s))
                value = Value(value.point, bits, value.quality, value.at_s, value.max_age_s)
            yield value

    def cells(self, now_s: float) -> tuple[tuple[float | None, ...], ...]:
        """Cell voltages, sensor temperatures and balancing, where a frame touched one of them."""
        if not any(name in self._changed for row in self._cells for name, _ in row):
            return ()
        return tuple(tuple(self._fresh(each, now_s) for each in row) for row in self._cells)

    def looked(self) -> None:
        """What changed was shown."""
        self._changed.clear()

    @property
    def changed(self) -> bool:
        """Whether there is anything to show."""
        return bool(self._changed)

    # ---- inside -------------------------------------------------------------------------------

    def _signal(self, name: str) -> Signal:
        known = {
            frame.name: [each.name for each in frame.message.signals]
            for frame in self.frames.values()
        }
        try:
            return signal_of(name, known)
        except ValueError as error:
            raise ValueError(f"{self.profile.name}: {error}") from None

    def _recipe(self, point: Point, spec: SignalSpec) -> Recipe:
        signals = tuple(map(self._signal, spec.signals))
        shared = self.profile.pack_total and point in OF_A_MODULE
        ages_s = tuple(self._ages_s[name] for name, _ in signals)
        return Recipe(point, spec, signals, ages_s, self.modules if shared else 1)

    def _is_alive(self, frame: Frame, values: Mapping[str, float], at_s: float) -> bool:
        count = int(values.get(frame.counter or "", 0.0))
        last = self._alive.get(frame.name)
        if last is not None and count == last.count:
            if at_s - last.at_s > frame.max_age_s:
                self.standing.add(frame.name)
            return False
        if last is not None and count != (last.count + 1) % frame.modulus:
            self.counters.counter_jumps += 1
        self._alive[frame.name] = _Alive(count, at_s)
        self.standing.discard(frame.name)
        return True

    def _hold(self, recipe: Recipe, at_s: float) -> None:
        value = self._value(recipe, at_s)
        if value.quality is Quality.GOOD:
            self._held[recipe.point].see(int(value.value), at_s)

    def _fresh(self, signal: Signal, now_s: float) -> float | None:
        seen = self._seen.get(signal)
        if seen is None or now_s - seen.at_s > self._ages_s[signal[0]]:
            return None
        return seen.value if math.isfinite(seen.value) else None

    def _value(self, recipe: Recipe, now_s: float) -> Value:
        point, spec = recipe.point, recipe.spec
        seen = [self._seen.get(each) for each in recipe.signals]
        found = [each for each in seen if each is not None]
        if len(found) < len(seen):
            return Value(point, math.nan, Quality.MISSING, now_s, min(recipe.max_ages_s))
        at_s = min(each.at_s for each in found)
        until_s = min(
            each.at_s + age_s for each, age_s in zip(found, recipe.max_ages_s, strict=True)
        )
        if now_s > until_s:
            return Value(point, math.nan, Quality.STALE, at_s, until_s - at_s)
        values = [each.value for each in found]
        if any(_is_one_of(value, spec.not_available) for value in values):
            return Value(point, math.nan, Quality.MISSING, at_s, until_s - at_s)
        parts = values if spec.take in (Take.MIN, Take.MAX) else ()
        value = TAKES[spec.take](values)
        in_range = all(_in_range(_ours(part, recipe), spec) for part in (value, *parts))
        quality = Quality.GOOD if in_range else Quality.IMPLAUSIBLE
        return Value(point, _ours(value, recipe), quality, at_s, until_s - at_s)


def _ours(value: float, recipe: Recipe) -> float:
    spec = recipe.spec
    return spec.sign * (value * spec.scale + spec.offset) / recipe.modules


def _in_range(value: float, spec: SignalSpec) -> bool:
    return (
        math.isfinite(value)
        and (spec.low is None or value >= spec.low)
        and (spec.high is None or value <= spec.high)
    )


def _is_one_of(value: float, values: tuple[float, ...]) -> bool:
    return any(math.isclose(value, other, rel_tol=1e-9, abs_tol=1e-9) for other in values)
