"""Which frequency to believe: the first source in the order of trust that has a good one.

Sources are PMUs in the configured order, then the units' own measurement. Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from vppd.core.model import Phasor, Point, Quality, Snapshot, Synchro, UnitId
from vppd.core.settings import BandSettings


@dataclass(frozen=True, slots=True)
class Frequency:
    """One believed frequency. `at_s` is when it was true on the site clock."""

    frequency_hz: float
    at_s: float
    source: UnitId
    quality_text: str
    rocof_hz_per_s: float | None = None
    phasors: tuple[Phasor, ...] = ()


def believable(synchro: Synchro, now_s: float) -> bool:
    """Whether one source's last word may be acted on now."""
    return synchro.quality is Quality.GOOD and 0.0 <= synchro.age_s(now_s) <= synchro.max_age_s


def choose(
    now: Snapshot, pmus: Sequence[UnitId], units: Sequence[UnitId], bands: BandSettings
) -> Frequency | None:
    """The frequency of the most trusted source that has one, or None."""
    for source in pmus:
        synchro = now.synchros.get(source)
        if synchro is None or not believable(synchro, now.now_s):
            continue
        if bands.plausible_low_hz <= synchro.frequency_hz <= bands.plausible_high_hz:
            return Frequency(
                synchro.frequency_hz,
                synchro.at_s - synchro.delay_s,
                source,
                synchro.quality_text or "good",
                synchro.rocof_hz_per_s,
                synchro.phasors,
            )
    for unit in units:
        value_hz = now.fresh(unit, Point.FREQUENCY_HZ)
        if value_hz is not None and bands.plausible_low_hz <= value_hz <= bands.plausible_high_hz:
            reading = now.readings[unit, Point.FREQUENCY_HZ]
            return Frequency(value_hz, reading.at_s, unit, "device measurement")
    return None
