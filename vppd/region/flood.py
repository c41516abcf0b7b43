"""What a site may say before it is too much, so that the others are heard and the disk lasts. Pure.

What a site sent while it was cut off comes all at once; the bound of messages is above what its own
`messages_max_per_s` lets through.
"""

from dataclasses import dataclass

MESSAGES_MAX, MESSAGES_PER_S = 3000, 300.0
SHUT_S = 60.0
EPSILON_S = 1e-6


@dataclass(slots=True)
class Allowance:
    """So many at once, and then so many a second."""

    at_once: int
    per_s: float
    _full_s: float = 0.0  # when the last that was taken is made up for

    def take(self, now_s: float) -> bool:
        """Whether one more is within it; what is not costs nothing."""
        full_s = max(self._full_s, now_s) + 1.0 / self.per_s
        if full_s - now_s > self.at_once / self.per_s + EPSILON_S:
            return False
        self._full_s = full_s
        return True


class Floods:
    """Which sites say too much, and are not listened to for a while."""

    def __init__(self, at_once: int = MESSAGES_MAX, per_s: float = MESSAGES_PER_S) -> None:
        self._at_once, self._per_s = at_once, per_s
        self._allowances: dict[str, Allowance] = {}
        self._shut: dict[str, float] = {}

    def begins(self, site: str, now_s: float) -> bool:
        """One more message of a site; whether it is one too many, told once."""
        allowed = self._allowances.setdefault(site, Allowance(self._at_once, self._per_s))
        if allowed.take(now_s) or site in self._shut:
            return False
        self._shut[site] = now_s + SHUT_S
        return True

    def shut(self, now_s: float) -> frozenset[str]:
        """Who is not listened to now."""
        for site in [site for site, until_s in self._shut.items() if now_s >= until_s]:
            del self._shut[site], self._allowances[site]
        return frozenset(self._shut)
