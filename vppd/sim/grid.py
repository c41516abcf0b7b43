"""The grid's frequency: a recorded trace, or a stochastic grid fitted to a real one. Pure sums on
monotonic time; the same seed gives the same grid.

The stochastic grid is the sum of three parts around 50 Hz, and rare events:

* a mean-reverting swing, the second-order Ornstein-Uhlenbeck process (a damped oscillator driven
  by white noise) of standard deviation SWING_HZ, angular frequency SWING_RAD_PER_S and damping
  SWING_DAMPING;
* a slow wander, the first-order process: WANDER_HZ with time constant WANDER_S;
* jitter of each tenth of a second, JITTER_HZ;
* events, a loss of load or generation: none was in the recording, their rate and size are typical.

Provenance: fitted to 65 recordings of 11 to 16 minutes (11.7 hours, 421 100 samples at 10 Hz) of a
50 Hz grid, the ENF-WHU-Dataset of ghuawhu (MIT), demodulated at 50 Hz. Recorder glitches outside
49.75 to 50.24 Hz were left out (0.05 % of samples). Measured, and what this grid gives:

| statistic                                | measured | fitted |
|------------------------------------------|----------|--------|
| mean, Hz                                 | 49.9990  | 50.0   |
| standard deviation, mHz                  | 22.1     | 22.9   |
| autocorrelation at 1 s                   | 0.996    | 0.997  |
| autocorrelation at 10 s                  | 0.906    | 0.914  |
| autocorrelation at 60 s                  | 0.242    | 0.260  |
| deviation of the change in 0.1 s, mHz    | 0.62     | 0.73   |
| in 1 s                                   | 1.93     | 1.74   |
| in 10 s                                  | 9.47     | 9.50   |
| in 60 s                                  | 27.0     | 27.8   |
"""

import math
import random
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

NOMINAL_HZ = 50.0
STEP_S = 0.1
SWING_HZ = 0.01552
SWING_RAD_PER_S = 0.0582
SWING_DAMPING = 0.278
WANDER_HZ = 0.01678
WANDER_S = 300.0
JITTER_HZ = 0.00041
EVENTS_EVERY_S = 12 * 3600.0
EVENT_LOW_HZ, EVENT_HIGH_HZ = 0.05, 0.20
EVENT_FALL_S, EVENT_RECOVERY_S = 2.5, 60.0
KEPT_STEPS = 64
ROCOF_S = 0.2
TRACE_COLUMNS = ("t_s", "freq_hz")
TRACE_LOW_HZ, TRACE_HIGH_HZ = 1.0, 100.0


class Source(Protocol):
    """Frequency over seconds since the plant began."""

    def frequency_hz(self, at_s: float) -> float:
        """Hertz at that instant."""


class Trace:
    """A recorded trace: interpolated, held at both ends."""

    def __init__(self, times_s: Sequence[float], values_hz: Sequence[float]) -> None:
        self._times_s, self._values_hz = times_s, values_hz

    def frequency_hz(self, at_s: float) -> float:
        """Hertz at that instant."""
        times_s, values_hz = self._times_s, self._values_hz
        upper = bisect_right(times_s, at_s)
        if upper == 0:
            return values_hz[0]
        if upper == len(times_s):
            return values_hz[-1]
        share = (at_s - times_s[upper - 1]) / (times_s[upper] - times_s[upper - 1])
        return values_hz[upper - 1] + share * (values_hz[upper] - values_hz[upper - 1])


def read_trace(path: Path) -> Trace:
    """A CSV of `t_s,freq_hz`, with or without that header.

    Raises ValueError as `file:line: what is wrong`, OSError when it cannot be read.
    """
    times_s: list[float] = []
    values_hz: list[float] = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        if not line.strip() or (number == 1 and line.replace(" ", "") == ",".join(TRACE_COLUMNS)):
            continue
        try:
            at_s, value_hz = _trace_row(line, times_s[-1] if times_s else -math.inf)
        except ValueError as error:
            raise ValueError(f"{path}:{number}: {error}") from None
        times_s.append(at_s)
        values_hz.append(value_hz)
    if not times_s:
        raise ValueError(f"{path}:1: no rows; wanted t_s,freq_hz")
    return Trace(times_s, values_hz)


def _trace_row(line: str, after_s: float) -> tuple[float, float]:
    fields = line.split(",")
    if len(fields) != len(TRACE_COLUMNS):
        raise ValueError(f"wanted {','.join(TRACE_COLUMNS)}, found {len(fields)} fields")
    at_s, value_hz = (float(field) for field in fields)
    if not math.isfinite(at_s) or at_s <= after_s:
        raise ValueError(f"time {fields[0]} s does not follow {after_s} s")
    if not TRACE_LOW_HZ <= value_hz <= TRACE_HIGH_HZ:
        raise ValueError(f"frequency {fields[1]} Hz is not in {TRACE_LOW_HZ} to {TRACE_HIGH_HZ}")
    return at_s, value_hz


class StochasticGrid:
    """See the module. Asked forward in time, or back by a few seconds."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)  # noqa: S311  (a simulation, not a secret)
        self._swing_hz = self._draw.gauss(0.0, SWING_HZ)
        self._swing_hz_per_s = self._draw.gauss(0.0, SWING_HZ * SWING_RAD_PER_S)
        self._wander_hz = self._draw.gauss(0.0, WANDER_HZ)
        self._event_hz = self._event_target_hz = 0.0
        self._next_event_s = self._draw.expovariate(1.0 / EVENTS_EVERY_S)
        self._steps: deque[float] = deque([self._value_hz()], maxlen=KEPT_STEPS)
        self._last = 0  # the number of the newest step

    def frequency_hz(self, at_s: float) -> float:
        """Hertz at that instant."""
        position = max(at_s, 0.0) / STEP_S
        lower = math.floor(position)
        while self._last <= lower:
            self._step()
        oldest = self._last - len(self._steps) + 1
        index = max(lower - oldest, 0)
        share = position - lower
        return self._steps[index] + share * (self._steps[index + 1] - self._steps[index])

    def _step(self) -> None:
        gauss = self._draw.gauss
        kick = math.sqrt(4.0 * SWING_DAMPING * SWING_RAD_PER_S**3 * STEP_S) * SWING_HZ
        pull = SWING_RAD_PER_S**2 * self._swing_hz
        drag = 2.0 * SWING_DAMPING * SWING_RAD_PER_S * self._swing_hz_per_s
        self._swing_hz_per_s += -(pull + drag) * STEP_S + kick * gauss(0.0, 1.0)
        self._swing_hz += self._swing_hz_per_s * STEP_S
        keep = math.exp(-STEP_S / WANDER_S)
        self._wander_hz *= keep
        self._wander_hz += WANDER_HZ * math.sqrt(1.0 - keep * keep) * gauss(0.0, 1.0)
        self._last += 1
        self._events()
        self._steps.append(self._value_hz())

    def _events(self) -> None:
        if self._last * STEP_S >= self._next_event_s:
            size_hz = self._draw.uniform(EVENT_LOW_HZ, EVENT_HIGH_HZ)
            self._event_target_hz = self._draw.choice((-1.0, -1.0, 1.0)) * size_hz
            self._next_event_s += self._draw.expovariate(1.0 / EVENTS_EVERY_S)
        self._event_target_hz *= math.exp(-STEP_S / EVENT_RECOVERY_S)
        self._event_hz += (self._event_target_hz - self._event_hz) * STEP_S / EVENT_FALL_S

    def _value_hz(self) -> float:
        moving_hz = self._swing_hz + self._wander_hz + self._event_hz
        return NOMINAL_HZ + moving_hz + self._draw.gauss(0.0, JITTER_HZ)


class Grid:
    """A source with what faults do to it. Time is the clock's, the source's starts at `start_s`."""

    def __init__(self, source: Source, start_s: float) -> None:
        self._source, self._start_s = source, start_s
        self._offset_hz = 0.0
        self._from_s = math.inf  # from here on the frequency is steered
        self._from_hz = self._to_hz = NOMINAL_HZ
        self._rate_hz_per_s = math.inf

    def frequency_hz(self, at_s: float) -> float:
        """Hertz at an instant of the clock."""
        natural_hz = self._source.frequency_hz(at_s - self._start_s) + self._offset_hz
        if at_s < self._from_s:
            return natural_hz
        if math.isinf(self._rate_hz_per_s):
            return self._to_hz
        travel_hz = self._rate_hz_per_s * (at_s - self._from_s)
        gap_hz = self._to_hz - self._from_hz
        return self._from_hz + min(max(gap_hz, -travel_hz), travel_hz)

    def rocof_hz_per_s(self, at_s: float) -> float:
        """Rate of change over the last fifth of a second."""
        return (self.frequency_hz(at_s) - self.frequency_hz(at_s - ROCOF_S)) / ROCOF_S

    def steer(self, at_s: float, to_hz: float, rate_hz_per_s: float = math.inf) -> None:
        """From this instant go to a frequency and stay there."""
        self._from_hz = self.frequency_hz(at_s)
        self._from_s, self._to_hz, self._rate_hz_per_s = at_s, to_hz, rate_hz_per_s

    def shift(self, offset_hz: float) -> None:
        """Add this to the natural frequency."""
        self._offset_hz = offset_hz

    def release(self) -> None:
        """Back to the natural frequency."""
        self._from_s, self._offset_hz = math.inf, 0.0
