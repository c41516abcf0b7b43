"""Frequency bands, their alarms with hysteresis, and what the last minutes looked like. Pure."""

import math
from array import array
from dataclasses import dataclass, field
from enum import StrEnum

from vppd.core.alarms import Code
from vppd.core.settings import BandSettings


class Band(StrEnum):
    """Where the frequency is."""

    CRITICAL_LOW = "critical_low"
    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    CRITICAL_HIGH = "critical_high"


ALARMS: dict[Band, Code] = {
    Band.CRITICAL_LOW: Code.FREQUENCY_CRITICAL_LOW,
    Band.LOW: Code.FREQUENCY_LOW,
    Band.HIGH: Code.FREQUENCY_HIGH,
    Band.CRITICAL_HIGH: Code.FREQUENCY_CRITICAL_HIGH,
}


def band_of(frequency_hz: float, bands: BandSettings) -> Band:
    """The band of a frequency; an edge belongs to the band nearer to normal."""
    if frequency_hz < bands.critical_low_hz:
        return Band.CRITICAL_LOW
    if frequency_hz < bands.low_hz:
        return Band.LOW
    if frequency_hz > bands.critical_high_hz:
        return Band.CRITICAL_HIGH
    if frequency_hz > bands.high_hz:
        return Band.HIGH
    return Band.NORMAL


_ORDER = list(Band)  # from low to high
_NORMAL = _ORDER.index(Band.NORMAL)


def alarmed(frequency_hz: float, bands: BandSettings, before: Band) -> Band:
    """The band that alarms: it worsens at once, and eases only the hysteresis inside its edge."""
    now, then = _ORDER.index(band_of(frequency_hz, bands)), _ORDER.index(before)
    if then < _NORMAL and now <= _NORMAL:
        still = _ORDER.index(band_of(frequency_hz - bands.hysteresis_hz, bands))
        return _ORDER[min(now, max(then, still))]
    if then > _NORMAL and now >= _NORMAL:
        still = _ORDER.index(band_of(frequency_hz + bands.hysteresis_hz, bands))
        return _ORDER[max(now, min(then, still))]
    return _ORDER[now]


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of the frequencies of the last minute, Hz."""

    mean_hz: float
    min_hz: float
    max_hz: float
    std_hz: float


@dataclass(slots=True)
class History:
    """Five minutes at 10 Hz in two rings of numbers; one row each tick with a new frequency."""

    length: int = 3000
    minute_s: float = 60.0
    _at_s: "array[float]" = field(default_factory=lambda: array("d"))
    _hz: "array[float]" = field(default_factory=lambda: array("d"))
    _next: int = 0

    def add(self, at_s: float, frequency_hz: float) -> None:
        """One more sample; at most ten a second are kept."""
        if self._hz and at_s - self._at_s[self._next - 1] < 0.1 - 0.02:
            return
        if len(self._hz) < self.length:
            self._at_s.append(at_s)
            self._hz.append(frequency_hz)
            self._next = len(self._hz) % self.length
        else:
            self._at_s[self._next] = at_s
            self._hz[self._next] = frequency_hz
            self._next = (self._next + 1) % self.length

    def since(self, from_s: float) -> list[tuple[float, float]]:
        """Samples (at_s, Hz) not older than `from_s`, oldest first."""
        count = len(self._hz)
        start = self._next if count == self.length else 0
        order = [(start + index) % count for index in range(count)]
        return [(self._at_s[i], self._hz[i]) for i in order if self._at_s[i] >= from_s]

    def statistics(self, now_s: float) -> Statistics | None:
        """Of the last minute, or None when nothing was seen in it."""
        values = [hz for _, hz in self.since(now_s - self.minute_s)]
        if not values:
            return None
        mean_hz = math.fsum(values) / len(values)
        variance = math.fsum((hz - mean_hz) ** 2 for hz in values) / len(values)
        return Statistics(mean_hz, min(values), max(values), math.sqrt(variance))
