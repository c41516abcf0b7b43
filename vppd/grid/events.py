"""Frequency events found by rule, one sample at a time. Pure.

The rule stands in `EvidenceSettings`. Times are whole microseconds since 1970 UTC, as the journal
keeps them, so that the same rows always give the same events. Events never overlap.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from vppd.core.settings_evidence import EvidenceSettings

Sample = tuple[int, float | None, float | None]
"""When (microseconds), frequency (Hz), rate of change (Hz/s); None where it was not known."""

_MICROS = 1000 * 1000


class Trigger(StrEnum):
    """What made it an event."""

    LOW = "low"
    HIGH = "high"
    ROCOF = "rocof"
    NAMED = "named"  # by an operator


class Ending(StrEnum):
    """What ended it."""

    INSIDE = "inside"  # back inside the edges
    LONGEST = "longest"  # cut at its greatest length
    GAP = "gap"  # the frequency was not known any more, or the clock was set back
    LAST = "last"  # the data ended, or vppd stopped
    NAMED = "named"  # as the operator said


@dataclass(frozen=True, slots=True)
class Begun:
    """An event is known; it began at the first sample of the run that made it one."""

    begin_us: int
    trigger: Trigger


@dataclass(frozen=True, slots=True)
class Ended:
    """A whole event."""

    begin_us: int
    end_us: int
    trigger: Trigger
    ending: Ending


class Detector:
    """Told every sample in order; bounded memory, whatever comes."""

    def __init__(self, rule: EvidenceSettings) -> None:
        self._rule = rule
        self._running: Begun | None = None
        self._spent = False  # cut: no other one before it was inside again
        self._since_us: dict[Trigger, int] = {}  # since when each trigger holds without a break
        self._inside_us: int | None = None  # since when it is inside, hysteresis and all
        self._seen_us: int | None = None  # the last sample with a frequency

    @property
    def running(self) -> Begun | None:
        """The event that goes on now."""
        return self._running

    def take(self, sample: Sample) -> tuple[Begun | Ended, ...]:
        """What this sample made known: nothing, an end, a beginning, or an end and then one."""
        at_us, frequency_hz, rocof_hz_per_s = sample
        told: list[Begun | Ended] = []
        seen_us = self._seen_us
        if seen_us is not None and self._broken(seen_us, at_us, frequency_hz):
            told += self._end(seen_us, Ending.GAP)
            self._since_us.clear()
            self._inside_us = self._seen_us = None
        if frequency_hz is None or at_us == self._seen_us:
            return tuple(told)
        self._seen_us = at_us
        self._look(at_us, frequency_hz, rocof_hz_per_s or 0.0)
        if self._running is not None or self._spent:
            told += self._over(at_us)
        elif (begun := self._begun(at_us)) is not None:
            self._running = begun
            told.append(begun)
        return tuple(told)

    def close(self) -> tuple[Ended, ...]:
        """The data ends here; an event that goes on ends at its last sample."""
        return self._end(self._seen_us, Ending.LAST) if self._seen_us is not None else ()

    def _broken(self, seen_us: int, at_us: int, frequency_hz: float | None) -> bool:
        set_back = frequency_hz is not None and at_us < seen_us
        return set_back or at_us - seen_us > self._rule.gap_s * _MICROS

    def _look(self, at_us: int, frequency_hz: float, rocof_hz_per_s: float) -> None:
        """Since when each trigger holds, and since when none does by its hysteresis."""
        rule = self._rule
        steep = rule.rocof_hz_per_s is not None and abs(rocof_hz_per_s) >= rule.rocof_hz_per_s
        for trigger, holds in (
            (Trigger.LOW, frequency_hz < rule.low_hz),
            (Trigger.HIGH, frequency_hz > rule.high_hz),
            (Trigger.ROCOF, steep),
        ):
            if not holds:
                self._since_us.pop(trigger, None)
            else:
                self._since_us.setdefault(trigger, at_us)
        low_hz, high_hz = rule.low_hz + rule.hysteresis_hz, rule.high_hz - rule.hysteresis_hz
        if steep or not low_hz <= frequency_hz <= high_hz:
            self._inside_us = None
        elif self._inside_us is None:
            self._inside_us = at_us

    def _begun(self, at_us: int) -> Begun | None:
        """The trigger that has held long enough; of several the one that holds the longest."""
        long_us = {
            Trigger.LOW: self._rule.duration_s * _MICROS,
            Trigger.HIGH: self._rule.duration_s * _MICROS,
            Trigger.ROCOF: self._rule.rocof_duration_s * _MICROS,
        }
        ripe = [
            (since_us, trigger)
            for trigger, since_us in self._since_us.items()
            if at_us - since_us >= long_us[trigger]
        ]
        return Begun(*min(ripe)) if ripe else None

    def _over(self, at_us: int) -> tuple[Ended, ...]:
        """Whether the event that goes on, or one that was cut, is over at this sample."""
        rule = self._rule
        if self._inside_us is not None and at_us - self._inside_us >= rule.merge_s * _MICROS:
            return self._end(self._inside_us, Ending.INSIDE)
        begun = self._running
        if begun is not None and at_us - begun.begin_us >= rule.longest_s * _MICROS:
            ended = self._end(at_us, Ending.LONGEST)
            self._spent = True
            return ended
        return ()

    def _end(self, end_us: int, ending: Ending) -> tuple[Ended, ...]:
        begun, self._running, self._spent = self._running, None, False
        if begun is None:
            return ()
        self._since_us.clear()
        return (Ended(begun.begin_us, end_us, begun.trigger, ending),)


def found(samples: Iterable[Sample], rule: EvidenceSettings) -> list[Ended]:
    """Every event in a record."""
    detector = Detector(rule)
    told = [each for sample in samples for each in detector.take(sample)]
    return [each for each in (*told, *detector.close()) if isinstance(each, Ended)]
