"""How far a read value may be believed. Pure: what it remembers comes from its calls alone.

Missing: the device says not available. Implausible: not finite, or outside the profile's range.
Frozen: unchanged through a window of `frozen_s` in which the point it moves with has moved by
`moves_by`. The movement is the width of the band that point went through, so noise around one
place is none, and windows follow one another, so a slow drift is none. State of charge moves with
energy, not with power: for `soc_pct` with `moves_with: power_kw` it is the energy that passed since
the last change, in percent of the unit's capacity, summed with its sign.

A frozen point is good again when it changes. One that stood still for a reason no profile knows
would then be shut out for good, so it is also tried again once its related point has rested for
`REST_S`, twice as long each time; state of charge is not, because it must have changed by then.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from vppd.core.model import Point, Quality
from vppd.core.profile import PointSpec

REST_S = 300.0
REST_MAX_S = 14400.0
ENERGY_GAP_S = 5.0  # power is not carried over a longer silence


@dataclass(slots=True)
class _Watch:
    """One point beside the point it moves with."""

    value: float
    begun_s: float  # of the window
    low: float = math.inf  # the band of the related point in the window
    high: float = -math.inf
    frozen: bool = False
    still_s: float = 0.0  # since when the related point rests
    rest_s: float = REST_S

    def begin(self, at_s: float) -> None:
        """A new window; its band begins with the next value."""
        self.begun_s, self.low, self.high = at_s, math.inf, -math.inf

    def see(self, value: float) -> float:
        """Take a value of the related point; gives the width of the band."""
        self.low, self.high = min(self.low, value), max(self.high, value)
        return self.high - self.low


class Judge:
    """The judge of one device."""

    def __init__(self, points: Mapping[Point, PointSpec], energy_kwh: float) -> None:
        self._points = points
        self._energy_kwh = energy_kwh
        self._seen: dict[Point, float] = {}
        self._watches: dict[Point, _Watch] = {}
        self._passed_pct = 0.0
        self._power_s: float | None = None

    def judge(
        self, values: Mapping[Point, float | None], at_s: float
    ) -> Mapping[Point, tuple[float, Quality]]:
        """Judge the values of one reply together; None stands for not available."""
        judged = {point: self._plain(point, value) for point, value in values.items()}
        for point, (value, quality) in judged.items():
            if quality is Quality.GOOD:
                self._note(point, value, at_s)
        for point, (value, quality) in judged.items():
            if quality is Quality.GOOD and self._is_frozen(point, value, at_s):
                judged[point] = (value, Quality.FROZEN)
        return judged

    def _plain(self, point: Point, value: float | None) -> tuple[float, Quality]:
        if value is None:
            return math.nan, Quality.MISSING
        spec = self._points[point]
        if (
            not math.isfinite(value)
            or (spec.low is not None and value < spec.low)
            or (spec.high is not None and value > spec.high)
        ):
            return value, Quality.IMPLAUSIBLE
        return value, Quality.GOOD

    def _note(self, point: Point, value: float, at_s: float) -> None:
        if point is Point.POWER_KW:
            if self._power_s is not None and 0.0 < at_s - self._power_s <= ENERGY_GAP_S:
                passed_kwh = self._seen[point] * (at_s - self._power_s) / 3600.0
                self._passed_pct += 100.0 * passed_kwh / self._energy_kwh
            self._power_s = at_s
        self._seen[point] = value

    def _is_frozen(self, point: Point, value: float, at_s: float) -> bool:
        spec = self._points[point]
        if spec.frozen_s is None or spec.moves_with is None or spec.moves_by is None:
            return False
        watch = self._watches.get(point)
        if watch is None or watch.value != value:
            self._watches[point] = _Watch(value, at_s)
            return False
        by_energy = point is Point.SOC_PCT and spec.moves_with is Point.POWER_KW
        related = self._passed_pct if by_energy else self._seen.get(spec.moves_with)
        if related is None:
            return watch.frozen
        moved = watch.see(related) >= spec.moves_by
        if at_s - watch.begun_s < spec.frozen_s:
            return watch.frozen
        if moved:
            watch.frozen, watch.still_s = True, at_s
        elif watch.frozen and not by_energy and at_s - watch.still_s >= watch.rest_s:
            watch.frozen = False
            watch.rest_s = min(2.0 * watch.rest_s, REST_MAX_S)
        if not by_energy:
            watch.begin(at_s)
            watch.see(related)
        return watch.frozen
