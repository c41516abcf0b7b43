"""A reversion timer: a setting falls back by itself when nobody renews it."""

import math


class Timer:
    """Runs down once started; 0 seconds stops it."""

    def __init__(self) -> None:
        self.duration_s = 0.0
        self.expires_s = math.inf

    @property
    def runs(self) -> bool:
        """Whether it is counting."""
        return self.expires_s < math.inf

    def start(self, now_s: float, duration_s: float) -> None:
        """Count from now, anew."""
        self.duration_s = duration_s
        self.expires_s = now_s + duration_s if duration_s > 0.0 else math.inf

    def renew(self, now_s: float) -> None:
        """Count anew, if it still counts."""
        if self.runs:
            self.expires_s = now_s + self.duration_s

    def stop(self) -> None:
        """Count no more."""
        self.expires_s = math.inf

    def left_s(self, now_s: float) -> float:
        """Whole seconds left, the begun one too; 0 when it does not count."""
        return max(math.ceil(self.expires_s - now_s), 0) if self.runs else 0

    def ran_out(self, now_s: float) -> bool:
        """Whether it has just run out; it stops then."""
        if now_s < self.expires_s:
            return False
        self.stop()
        return True
