"""A tighter envelope closes in by the ramp before it holds, so that a new configuration is no step.

It closes from where it was, not from what the unit gives: shares follow the room there is, and so
no unit moves faster than its ramp. The old envelope holds meanwhile too: a closing only tightens.
"""

from dataclasses import dataclass, replace

from vppd.core.alarms import Code
from vppd.core.asset import Asset
from vppd.core.model import Limit, UnitId


@dataclass(frozen=True, slots=True)
class Closing:
    """What one unit may give, on its way from one span to another; both contain 0."""

    unit: UnitId
    since_s: float
    from_kw: tuple[float, float]
    to_kw: tuple[float, float]
    ramp_kw_per_s: float
    text: str = ""

    @property
    def lasts_s(self) -> float:
        """The whole way takes so long."""
        way_kw = max(self.to_kw[0] - self.from_kw[0], self.from_kw[1] - self.to_kw[1])
        return way_kw / self.ramp_kw_per_s

    @property
    def closed(self) -> "Closing":
        """At the end of its way."""
        return replace(self, from_kw=self.to_kw)

    def limit(self, now_s: float) -> Limit:
        """What holds at that moment."""
        moved_kw = self.ramp_kw_per_s * max(now_s - self.since_s, 0.0)
        low_kw = min(self.to_kw[0], self.from_kw[0] + moved_kw)
        high_kw = max(self.to_kw[1], self.from_kw[1] - moved_kw)
        return Limit(min(low_kw, 0.0), max(high_kw, 0.0), Code.RELOADING, self.text)


def closing(
    asset: Asset, now_s: float, room: Limit, to_kw: tuple[float, float], text: str
) -> Closing:
    """From the room that there is to `to_kw`, by its ramp."""
    from_kw = min(room.low_kw, to_kw[0]), max(room.high_kw, to_kw[1])
    return Closing(asset.id, now_s, from_kw, to_kw, asset.safety.ramp_max_kw_per_s, text)
