"""How much of the loop one PMU may take. Pure.

What it sends is weighed in bytes and bounded by the second, over all its connections together: a
tenth of one core with the costliest bytes that are known, short frames that are all read (0.25 us a
byte of weight on a 2-core gateway).
"""

from dataclasses import dataclass

LOAD_BYTES_PER_S = 400_000.0  # 100 frames a second of 3.7 kB: forty PMUs in one stream
BURST_S = 2.0  # what a stalled network delivers at once counts for so long
FRAME_BYTES = 256  # a frame costs as much as so many bytes besides its own
CALM_S = 30.0  # without a flood for so long it is over


@dataclass(slots=True)
class Load:
    """A bucket that time empties. What does not fit is a flood: its sender is left alone."""

    per_s: float = LOAD_BYTES_PER_S
    calm_s: float = CALM_S
    floods: int = 0
    flooding: bool = False
    _held_bytes: float = 0.0
    _seen_s: float = 0.0
    _flooded_s: float = 0.0

    @property
    def burst_bytes(self) -> float:
        """What may come at once."""
        return BURST_S * self.per_s

    def fits(self, read_bytes: int, frames: int, now_s: float) -> bool:
        """Whether so much more may still be read; what is over its measure counts as a flood."""
        kept_bytes = max(self._held_bytes - self.per_s * max(now_s - self._seen_s, 0.0), 0.0)
        self._held_bytes = kept_bytes + read_bytes + FRAME_BYTES * frames
        self._seen_s = now_s
        if self._held_bytes <= self.burst_bytes:
            return True
        self.floods += 1
        self.flooding, self._flooded_s = True, now_s
        return False

    def calmed(self, now_s: float) -> bool:
        """Whether a flood has just become a thing of the past."""
        over = self.flooding and now_s - self._flooded_s >= self.calm_s
        self.flooding = self.flooding and not over
        return over
