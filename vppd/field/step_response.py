"""How one measurement answered one step of a setpoint: pure sums over samples.

kW positive towards the grid; times are monotonic seconds of the site. A sample stands at the time
at which its reading was true, so that how often somebody looked does not matter, only how often the
device was read. Every time here is no finer than that period, and `Response.period_s` says it.

The words are those of control engineering (IEC 60050-351): dead time, rise time from 10 to 90 % of
the change, settling time into a band round the final value, overshoot in percent of the change.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise
from statistics import fmean, median, pstdev

FACTORS = (1000.0, 100.0, 10.0, 1.0, 0.1, 0.01, 0.001)
NEAR_FACTOR = 0.1  # how near a power of ten counts as a wrong scale
NEAR_DECADE = 0.3  # of a pulse that was cut short: within a factor of two
SURE = 3.0  # standard deviations
LAST = 1.0 / 3.0  # of a hold: there the final value is taken
NOISY = 0.2  # of the step: more uncertainty than this says nothing
MOVED = 0.1  # of the step: the dead time ends
SETTLED = 0.02  # of the change
DRIFT = 0.04  # of the step or the change, inside the last third: it is still on its way
FEWEST = 2
SPREAD_FEWEST = 3


@dataclass(frozen=True, slots=True)
class Sample:
    """One value and when it was true."""

    at_s: float
    value: float


Trace = Sequence[Sample]


@dataclass(frozen=True, slots=True)
class Step:
    """One setpoint held: asked at `begun_s`, held to `ended_s`, after a rest of `rest_s`.

    `cut` where it was broken off: then there is no final value, only a pulse, which is over at
    `ended_s` too.
    """

    name: str
    asked_kw: float
    begun_s: float
    ended_s: float
    rest_s: float
    cut: bool = False

    @property
    def last_s(self) -> float:
        """From when on the final value is taken."""
        return self.ended_s - (self.ended_s - self.begun_s) * LAST


class Shape(StrEnum):
    """What a measurement made of a step."""

    RIGHT = "right"
    REVERSED = "reversed"  # right size, other sign
    SCALED = "scaled"  # a power of ten off, maybe reversed too: see the factor
    NOTHING = "nothing"
    SLOW = "slow"  # still moving at the end
    OFF = "off"  # some other size
    UNKNOWN = "unknown"  # too few readings, or too much noise


@dataclass(frozen=True, slots=True)
class Response:
    """What one measurement showed of one step; None where there is nothing to say."""

    shape: Shape
    expected_kw: float
    text: str = ""
    gain_ratio: float | None = None
    factor: float | None = None
    rest_kw: float | None = None
    noise_kw: float | None = None
    final_kw: float | None = None
    error_kw: float | None = None
    dead_s: float | None = None
    rise_s: float | None = None
    ramp_kw_per_s: float | None = None
    settling_s: float | None = None
    overshoot_pct: float | None = None
    period_s: float | None = None

    @property
    def known(self) -> bool:
        """Whether it says anything."""
        return self.shape is not Shape.UNKNOWN


def between(trace: Trace, from_s: float, to_s: float) -> list[Sample]:
    """The samples after `from_s` and up to `to_s`."""
    return [each for each in trace if from_s < each.at_s <= to_s]


def value_at(trace: Trace, at_s: float) -> float | None:
    """The newest value at or before this time."""
    index = bisect_right(trace, at_s, key=lambda each: each.at_s)
    return trace[index - 1].value if index else None


def typical(samples: Iterable[Sample]) -> float | None:
    """The median of some samples."""
    values = [each.value for each in samples]
    return median(values) if values else None


def spread(samples: Sequence[Sample]) -> float:
    """Standard deviation of some samples, in their unit; 0 where there are too few."""
    if len(samples) < SPREAD_FEWEST:
        return 0.0
    return pstdev(each.value for each in samples)


def respond(
    trace: Trace, told: Trace, step: Step, resolution_kw: float, tolerance_ratio: float
) -> Response:
    """What `trace` shows of a step of `told`, the setpoint as it went out."""
    from_kw = typical(between(told, step.begun_s - step.rest_s * LAST, step.begun_s)) or 0.0
    if step.cut:
        return _pulse(trace, told, step, from_kw, resolution_kw)
    to_kw = typical(between(told, step.last_s, step.ended_s))
    if to_kw is None:
        return Response(Shape.UNKNOWN, 0.0, "the setpoint is not known")
    expected_kw = to_kw - from_kw
    rest = between(trace, step.begun_s - step.rest_s / 2.0, step.begun_s)
    last = between(trace, step.last_s, step.ended_s)
    if min(len(rest), len(last)) < FEWEST:
        text = f"too few readings: {len(rest)} before, {len(last)} at the end"
        return Response(Shape.UNKNOWN, expected_kw, text)
    noise_kw = spread(rest)
    unsure_kw = SURE * noise_kw * math.sqrt(1.0 / len(rest) + 1.0 / len(last))
    rest_kw = fmean(each.value for each in rest)
    final_kw = fmean(each.value for each in last)
    found = Response(
        Shape.UNKNOWN,
        expected_kw,
        rest_kw=rest_kw,
        noise_kw=noise_kw,
        final_kw=final_kw,
        error_kw=final_kw - rest_kw - expected_kw,
        period_s=period_s(between(trace, step.begun_s, step.ended_s)),
    )
    clear = unsure_kw <= NOISY * max(abs(expected_kw), abs(final_kw - rest_kw))
    if not clear or abs(expected_kw) < 2.0 * resolution_kw:
        text = f"a step of {expected_kw:+.2f} kW is lost in {noise_kw:.2f} kW of noise"
        if clear:
            text = f"a step of {expected_kw:+.2f} kW is too small for steps of {resolution_kw:g} kW"
        return replace(found, text=text)
    blur_kw = resolution_kw + unsure_kw
    gain_ratio = (final_kw - rest_kw) / expected_kw
    factor = factor_of(gain_ratio, tolerance_ratio, blur_kw / abs(expected_kw))
    shape = _shape(factor, abs(final_kw - rest_kw), blur_kw)
    if shape is not Shape.NOTHING and _drifts(last, expected_kw, final_kw - rest_kw, blur_kw):
        shape, factor = Shape.SLOW, None
    timed = replace(found, shape=shape, gain_ratio=gain_ratio, factor=factor)
    if shape is Shape.NOTHING:
        return timed
    return _timed(timed, trace, step, resolution_kw)


def factor_of(gain_ratio: float, tolerance_ratio: float, blur_ratio: float) -> float | None:
    """The signed power of ten that a gain is, within the tolerance; None: it is none.

    `blur_ratio` is what resolution and noise leave open; a power smaller than twice that cannot be
    told from nothing.
    """
    for size in FACTORS:
        nearness = tolerance_ratio if size == 1.0 else max(NEAR_FACTOR, tolerance_ratio)
        open_ratio = max(nearness * size, blur_ratio)
        if open_ratio < 0.5 * size and abs(abs(gain_ratio) - size) <= open_ratio:
            return math.copysign(size, gain_ratio)
    return None


def beyond(change_kw: float, bump_kw: float, noise_kw: float, resolution_kw: float) -> str | None:
    """Why a bump has to end at once, judged by how far a measurement is from its rest."""
    doubt_kw = SURE * noise_kw + resolution_kw
    if abs(change_kw) > 2.0 * abs(bump_kw) + doubt_kw:
        return f"moved {change_kw:+.1f} kW, more than twice the bump of {bump_kw:+g} kW"
    wrong_kw = -change_kw * math.copysign(1.0, bump_kw)
    if bump_kw and wrong_kw > max(0.3 * abs(bump_kw), doubt_kw):
        return f"moved {change_kw:+.1f} kW, the wrong way for a bump of {bump_kw:+g} kW"
    return None


def period_s(samples: Sequence[Sample]) -> float | None:
    """Typical time between readings."""
    gaps_s = [later.at_s - earlier.at_s for earlier, later in pairwise(samples)]
    return median(gaps_s) if gaps_s else None


def _shape(factor: float | None, moved_kw: float, blur_kw: float) -> Shape:
    if moved_kw <= blur_kw:
        return Shape.NOTHING
    if factor is None:
        return Shape.OFF
    if abs(factor) != 1.0:
        return Shape.SCALED
    return Shape.RIGHT if factor > 0.0 else Shape.REVERSED


def _drifts(last: Sequence[Sample], expected_kw: float, change_kw: float, blur_kw: float) -> bool:
    """Whether it is still moving away from its rest."""
    half = len(last) // 2
    if half < FEWEST:
        return False
    begun_kw = fmean(each.value for each in last[:half])
    ended_kw = fmean(each.value for each in last[-half:])
    away_kw = (ended_kw - begun_kw) * math.copysign(1.0, change_kw)
    return away_kw > max(DRIFT * max(abs(expected_kw), abs(change_kw)), blur_kw)


def _timed(found: Response, trace: Trace, step: Step, resolution_kw: float) -> Response:
    """With the times: everything as a share of the change that was really made."""
    rest_kw, final_kw, noise_kw = found.rest_kw or 0.0, found.final_kw or 0.0, found.noise_kw or 0.0
    change_kw = final_kw - rest_kw
    held = between(trace, step.begun_s, step.ended_s)
    shares = [
        Sample(step.begun_s, 0.0),
        *(Sample(each.at_s, (each.value - rest_kw) / change_kw) for each in held),
    ]
    blur = (resolution_kw + SURE * noise_kw) / abs(change_kw)
    first_s, last_s = _crossing(shares, 0.1), _crossing(shares, 0.9)
    rise_s = last_s - first_s if first_s is not None and last_s is not None else None
    finest_s = max(rise_s or 0.0, found.period_s or 0.0)
    settled_s = _settled(shares, max(SETTLED, blur))
    peak = max(each.value for each in shares)
    return replace(
        found,
        dead_s=_since(step, next((s.at_s for s in shares if s.value > max(MOVED, blur)), None)),
        rise_s=rise_s,
        ramp_kw_per_s=0.8 * abs(change_kw) / finest_s if finest_s > 0.0 else None,
        settling_s=_since(step, settled_s),
        overshoot_pct=max(peak - 1.0 - blur, 0.0) * 100.0,
    )


def _crossing(shares: Sequence[Sample], level_share: float) -> float | None:
    """When a straight line between samples first reaches a level, s."""
    for earlier, later in pairwise(shares):
        if earlier.value < level_share <= later.value:
            part = (level_share - earlier.value) / (later.value - earlier.value)
            return earlier.at_s + part * (later.at_s - earlier.at_s)
    return None


def _settled(shares: Sequence[Sample], band_share: float) -> float | None:
    """When it came into the band round 1 for good, s; None: it did not."""
    since_s = None
    for each in shares:
        inside = abs(each.value - 1.0) <= band_share
        since_s = (each.at_s if since_s is None else since_s) if inside else None
    return since_s


def _since(step: Step, at_s: float | None) -> float | None:
    return None if at_s is None else at_s - step.begun_s


def _pulse(trace: Trace, told: Trace, step: Step, from_kw: float, resolution_kw: float) -> Response:
    """What a step that was cut short shows: of a linear device the area under its answer, over the
    area under the setpoint, is its gain, however slow it is."""
    rest = between(trace, step.begun_s - step.rest_s / 2.0, step.begun_s)
    answer = between(trace, step.begun_s, step.ended_s)
    asked = _area_held(told, from_kw, step)
    if min(len(rest), len(answer)) < FEWEST or asked == 0.0:
        return Response(Shape.UNKNOWN, step.asked_kw, "broken off before anything was to be seen")
    rest_kw, noise_kw = fmean(each.value for each in rest), spread(rest)
    blur_kw = resolution_kw + SURE * noise_kw
    peak_kw = max((each.value - rest_kw for each in answer), key=abs)
    found = Response(
        Shape.UNKNOWN,
        step.asked_kw,
        rest_kw=rest_kw,
        noise_kw=noise_kw,
        final_kw=rest_kw + peak_kw,
        period_s=period_s(answer),
        text="broken off: judged by the area of the pulse",
    )
    most_kw = max((abs(each.value - from_kw) for each in _during(told, step)), default=0.0)
    if most_kw < 2.0 * blur_kw:
        return replace(found, text="broken off before the setpoint had moved enough")
    if abs(peak_kw) <= blur_kw:
        return replace(found, shape=Shape.NOTHING, gain_ratio=0.0)
    gain_ratio = _area(answer, rest_kw, step.begun_s) / asked
    decade = round(math.log10(abs(gain_ratio))) if gain_ratio else 0
    near = bool(gain_ratio) and abs(math.log10(abs(gain_ratio)) - decade) <= NEAR_DECADE
    factor = math.copysign(10.0**decade, gain_ratio) if near else None
    return replace(
        found, shape=_shape(factor, abs(peak_kw), blur_kw), gain_ratio=gain_ratio, factor=factor
    )


def _during(told: Trace, step: Step) -> list[Sample]:
    return between(told, step.begun_s, step.ended_s)


def _area(answer: Sequence[Sample], rest_kw: float, begun_s: float) -> float:
    """kW seconds under straight lines between samples, from the rest on."""
    points = [Sample(begun_s, rest_kw), *answer]
    return sum(
        (later.at_s - earlier.at_s) * ((earlier.value + later.value) / 2.0 - rest_kw)
        for earlier, later in pairwise(points)
    )


def _area_held(told: Trace, from_kw: float, step: Step) -> float:
    """kW seconds of a setpoint that holds until it changes."""
    points = [Sample(step.begun_s, from_kw), *_during(told, step)]
    points.append(Sample(step.ended_s, points[-1].value))
    return sum(
        (later.at_s - earlier.at_s) * (earlier.value - from_kw)
        for earlier, later in pairwise(points)
    )
