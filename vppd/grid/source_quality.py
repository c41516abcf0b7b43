"""What makes a frequency source bad although its frames are good: a value that stands still, one
that jumps, a bus without voltage. Pure: what is remembered comes from the calls alone.

Frozen: the value does not change, to its own resolution, through a window in which a live grid must
move it. The resolution is that of the frame (1 mHz in an integer, 0.01 mHz in a float), or the
least change ever seen where a device sends floats of a coarser sum. The window is `frozen_s` up to
1 mHz and in proportion above.

Jump: further from the last accepted value than `jump_hz_per_s` allows since the frame before. It is
accepted once `jump_frames` frames in a row follow one another, or at once when another source
seconds it. Until then the last accepted value stands, as old as it is.

Dead bus: the largest voltage phasor is below a share of normal. Normal is configured, or learned:
the first magnitude seen, following upwards by a tenth a second and downwards by a hundredth a
minute, never while the bus is dead. A source that was first heard on a dead bus has learned nothing
yet, which `nominal_v` prevents; below a volt any bus is dead. Voltages that are not there
say nothing.

Collapse: the voltage is below 0.9 of normal and falls by more than half of normal a second. A bus
that loses its source is on its way to be dead, and its frequency is nobody's already; after the
first frames of a dip that stays, the frequency is believed again.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from vppd.core.alarms import Code
from vppd.core.model import Phasor, Quality
from vppd.core.settings_sources import SourceSettings

FLOAT_STEP_HZ, INTEGER_STEP_HZ = 1e-5, 1e-3
FROZEN_FRAMES = 10  # fewer frames than this say nothing
ALIVE_V = 1.0
DEAD_HYSTERESIS_PU = 0.05
RISE_PU_PER_S = 0.1
FALL_PU_PER_S = 0.01 / 60.0
SAGGED_PU = 0.9
COLLAPSE_PU_PER_S = 0.5
FROZEN_TEXT = "value frozen under new time stamps"
COLLAPSE_TEXT = "voltage collapsing"
_TEXTS = {Quality.FROZEN: FROZEN_TEXT, Quality.DEAD_BUS: "dead bus"}


class FrozenWatch:
    """Told every frame of one source."""

    def __init__(self, sources: SourceSettings) -> None:
        self._sources = sources
        self._value_hz = math.nan
        self._since_s = 0.0
        self._frames = 0
        self._least_hz = math.inf  # the least change ever seen

    def frozen(self, frequency_hz: float, at_s: float, step_hz: float) -> bool:
        """Whether the value stands still for too long. `step_hz` is the frame's resolution."""
        change_hz = abs(frequency_hz - self._value_hz)
        if not change_hz < 0.5 * step_hz:  # the first is no number
            if change_hz > 0.0:
                self._least_hz = min(self._least_hz, change_hz)
            self._value_hz, self._since_s, self._frames = frequency_hz, at_s, 1
            return False
        self._frames += 1
        seen_hz = self._least_hz if math.isfinite(self._least_hz) else 0.0
        window_s = self._sources.frozen_s * max(max(step_hz, seen_hz) / INTEGER_STEP_HZ, 1.0)
        return at_s - self._since_s >= window_s and self._frames >= FROZEN_FRAMES


def voltage_v(phasors: Sequence[Phasor]) -> float | None:
    """The largest voltage magnitude, None without a voltage phasor."""
    return max((each.magnitude for each in phasors if each.unit == "V"), default=None)


def is_dead(seen_v: float, normal_v: float, share_pu: float) -> bool:
    """Whether so little voltage is none: below the share of normal, or below one volt."""
    return seen_v < ALIVE_V or seen_v < share_pu * normal_v


class BusWatch:
    """The voltage where one source measures, and what is normal there."""

    def __init__(self, sources: SourceSettings) -> None:
        self._sources = sources
        self._known_v = sources.nominal_v
        self._normal_v = self._known_v or 0.0
        self._at_s: float | None = None
        self._dead = False
        self._seen = (0.0, -math.inf)  # the last voltage, and when
        self.collapsing = False

    def dead(self, phasors: Sequence[Phasor], at_s: float) -> bool:
        """Whether the bus is dead now; it lives again a little above the share."""
        seen_v = voltage_v(phasors)
        if seen_v is None or not math.isfinite(seen_v):
            return self._dead
        share_pu = self._sources.dead_bus_voltage_pu
        share_pu += DEAD_HYSTERESIS_PU if self._dead else 0.0
        self._dead = is_dead(seen_v, self._normal_v, share_pu)
        self.collapsing = not self._dead and self._collapses(seen_v, at_s)
        self._seen = seen_v, at_s
        if self._known_v is None and not self._dead:
            self._learn(seen_v, at_s)
        return self._dead

    def words(self, phasors: Sequence[Phasor]) -> str:
        """What is seen against what is normal."""
        return f"{voltage_v(phasors) or 0.0:.0f} V where {self._normal_v:.0f} V is normal"

    def _collapses(self, seen_v: float, at_s: float) -> bool:
        before_v, before_s = self._seen
        fallen_v = COLLAPSE_PU_PER_S * self._normal_v * (at_s - before_s)
        return seen_v < SAGGED_PU * self._normal_v and before_v - seen_v > fallen_v

    def _learn(self, seen_v: float, at_s: float) -> None:
        if self._at_s is None:
            self._normal_v = seen_v
        else:
            dt_s = min(max(at_s - self._at_s, 0.0), 1.0)
            low_v = self._normal_v * (1.0 - FALL_PU_PER_S * dt_s)
            high_v = self._normal_v * (1.0 + RISE_PU_PER_S * dt_s)
            self._normal_v = min(max(seen_v, low_v), high_v)
        self._at_s = at_s


class LiveWatch:
    """Whether the good frames of one source measure a live grid."""

    def __init__(self, sources: SourceSettings) -> None:
        self._frozen, self._bus = FrozenWatch(sources), BusWatch(sources)
        self._quality = Quality.GOOD  # of the frame before

    def judge(
        self, frequency_hz: float, phasors: Sequence[Phasor], at_s: float, step_hz: float
    ) -> tuple[Quality, str, list[tuple[Code, bool, str]]]:
        """Quality and its reason, and the alarms that begin or end with this frame."""
        frozen = self._frozen.frozen(frequency_hz, at_s, step_hz)
        before, self._quality = self._quality, Quality.FROZEN if frozen else Quality.GOOD
        if self._bus.dead(phasors, at_s):
            self._quality = Quality.DEAD_BUS
        told = [
            (code, self._quality is bad, text)
            for bad, code, text in (
                (Quality.FROZEN, Code.PMU_FROZEN, FROZEN_TEXT),
                (Quality.DEAD_BUS, Code.DEAD_BUS, self._bus.words(phasors)),
            )
            if (bad is before) != (bad is self._quality)
        ]
        if self._bus.collapsing:
            return Quality.IMPLAUSIBLE, COLLAPSE_TEXT, told
        return self._quality, _TEXTS.get(self._quality, ""), told


@dataclass(frozen=True, slots=True)
class Track:
    """The believed course of one source. `heard_s` is when its newest frame was true, `at_s` and
    `frequency_hz` are of the last accepted one; `jumped_hz` is what waits to be confirmed."""

    heard_s: float
    at_s: float
    frequency_hz: float
    good_s: float  # believed without a break since
    jumped_hz: float | None = None
    frames: int = 0  # that agree on the jump
    alone_s: float = -math.inf  # when a jump was accepted that no other source seconded

    @property
    def waits(self) -> bool:
        """Whether a jump waits to be confirmed."""
        return self.jumped_hz is not None


def plausible_step(change_hz: float, passed_s: float, sources: SourceSettings) -> bool:
    """Whether a grid can have moved so far in that time."""
    bound_hz = max(sources.jump_hz_per_s * passed_s, sources.jump_floor_hz)
    return abs(change_hz) <= bound_hz


def followed(
    track: Track | None,
    frequency_hz: float,
    at_s: float,
    sources: SourceSettings,
    seconds_hz: Iterable[float] = (),
) -> Track:
    """The course with one more frame. `seconds_hz` are what other sources show now: one of them
    beside the jump, and nearer to it than to the last accepted value, confirms it."""
    if track is None:
        return Track(at_s, at_s, frequency_hz, at_s)
    if at_s <= track.heard_s:
        return track
    accepted = Track(at_s, at_s, frequency_hz, track.good_s, alone_s=track.alone_s)
    # a course that waits has not moved since its last frame, so no more time is allowed for
    if plausible_step(frequency_hz - track.frequency_hz, at_s - track.heard_s, sources):
        return accepted
    if any(abs(each - frequency_hz) <= sources.agree_hz for each in seconds_hz):
        return accepted
    before_hz = track.jumped_hz
    follows = before_hz is not None and plausible_step(
        frequency_hz - before_hz, at_s - track.heard_s, sources
    )
    frames = track.frames + 1 if follows else 1
    if frames >= sources.jump_frames:
        return replace(accepted, alone_s=at_s)
    return replace(track, heard_s=at_s, jumped_hz=frequency_hz, frames=frames)
