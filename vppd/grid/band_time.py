"""How long the frequency was inside, below and above the band in a day. Pure.

A sample holds until the next, at most `HOLD_MAX_S`, also over midnight; what no sample covers is
not available and counts nowhere. Means are over time.
"""

import math
from dataclasses import dataclass, field

HOLD_MAX_S = 2.0
_MICROS = 1000 * 1000


@dataclass(frozen=True, slots=True)
class BandTime:
    """One day. `longest_*` is the longest unbroken time outside, its beginning in microseconds."""

    inside_s: float
    below_s: float
    above_s: float
    longest_s: float
    longest_from_us: int | None
    min_hz: float | None
    max_hz: float | None
    mean_hz: float | None
    available_pct: float


@dataclass(slots=True)
class BandClock:
    """Told every sample of a day in order, and those of the last moments before it. An edge belongs
    to the band."""

    low_hz: float
    high_hz: float
    from_us: int
    to_us: int
    hold_max_s: float = 2.0
    _inside_us: int = 0
    _below_us: int = 0
    _above_us: int = 0
    _run_us: int = 0  # outside without a break up to now
    _run_from_us: int = 0
    _run_side: int = 0
    _longest_us: int = 0
    _longest_from_us: int | None = None
    _min_hz: float = math.inf
    _max_hz: float = -math.inf
    _weighted_hz_s: list[float] = field(default_factory=list)
    _before_hz: tuple[int, float | None] | None = None

    def take(self, at_us: int, frequency_hz: float | None) -> None:
        """The next sample; None where the frequency was not known."""
        self._count(at_us)
        self._before_hz = (at_us, frequency_hz)

    def day(self) -> BandTime:
        """All of it, once every sample was told."""
        self._count(self.to_us)
        self._before_hz = None
        seen_us = self._inside_us + self._below_us + self._above_us
        any_seen = seen_us > 0
        return BandTime(
            self._inside_us / _MICROS,
            self._below_us / _MICROS,
            self._above_us / _MICROS,
            self._longest_us / _MICROS,
            self._longest_from_us,
            self._min_hz if any_seen else None,
            self._max_hz if any_seen else None,
            math.fsum(self._weighted_hz_s) / seen_us if any_seen else None,
            100 * seen_us / (self.to_us - self.from_us),
        )

    def _count(self, until_us: int) -> None:
        """The sample before held until now, as far as a sample does."""
        if self._before_hz is None:
            return
        told_us, frequency_hz = self._before_hz
        over_us = told_us + round(HOLD_MAX_S * _MICROS)
        at_us = max(told_us, self.from_us)
        held_us = min(until_us, over_us) - at_us
        if held_us <= 0:
            return
        if frequency_hz is None:
            self._run_us = self._run_side = 0
            return
        self._min_hz = min(self._min_hz, frequency_hz)
        self._max_hz = max(self._max_hz, frequency_hz)
        self._weighted_hz_s.append(frequency_hz * held_us)
        side = (frequency_hz > self.high_hz) - (frequency_hz < self.low_hz)
        if side == 0:
            self._inside_us += held_us
        elif side < 0:
            self._below_us += held_us
        else:
            self._above_us += held_us
        self._outside(side, at_us, held_us)
        if until_us > over_us:  # a gap: nobody knows what was in it
            self._run_us = self._run_side = 0

    def _outside(self, side: int, at_us: int, held_us: int) -> None:
        if side != self._run_side or side == 0:
            self._run_us, self._run_from_us, self._run_side = 0, at_us, side
        if side == 0:
            return
        self._run_us += held_us
        if self._run_us > self._longest_us:
            self._longest_us, self._longest_from_us = self._run_us, self._run_from_us
