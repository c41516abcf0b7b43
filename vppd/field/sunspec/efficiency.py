"""The efficiency of an inverter from its own two powers: AC over DC out, DC over AC in. Pure.

Both from one read where the device allows that. Where the two stand too far apart for one request,
the DC power counts that was read between two equal AC powers: power stood still around it.
"""

from dataclasses import dataclass, replace

from vppd.core.model import Cells, Plan, Point, Quality, Reading, Synchro, UnitId
from vppd.core.ports import Board

LEAST_SHARE = 0.05  # of the rating; below it the quotient is noise
STILL_SHARE = 0.005  # AC powers no further apart are the same
MOST_PCT = 110.0  # above: the two powers are not of one moment


def efficiency_pct(ac_kw: float, dc_kw: float) -> float | None:
    """AC over DC when discharging, DC over AC when charging; None where they contradict."""
    if ac_kw * dc_kw <= 0.0:
        return None
    over, under = (ac_kw, dc_kw) if ac_kw > 0.0 else (dc_kw, ac_kw)
    share_pct = 100.0 * over / under
    return share_pct if share_pct <= MOST_PCT else None


@dataclass(slots=True)
class EfficiencyBoard:
    """A board that adds the efficiency to what an inverter publishes."""

    board: Board
    unit: UnitId
    rated_kw: float
    ac: Point
    _before: Reading | None = None  # the last AC power
    _between: Reading | None = None  # the DC power read after it

    def publish(self, message: Reading | Synchro | Plan | Cells) -> None:
        """Pass it on, and the efficiency after it."""
        self.board.publish(message)
        if isinstance(message, Reading):
            if message.point is self.ac:
                self._ac(message)
            elif message.point is Point.INVERTER_DC_KW:
                self._dc(message)

    def _ac(self, now: Reading) -> None:
        before, between = self._before, self._between
        self._before, self._between = now, None
        if between is None or before is None:
            return
        still = abs(now.value - before.value) <= STILL_SHARE * self.rated_kw
        if still or between.at_s == now.at_s:
            self._tell(now, between)

    def _dc(self, now: Reading) -> None:
        if self._before is not None and self._before.at_s == now.at_s:
            self._tell(self._before, now)
            self._between = None
        else:
            self._between = now

    def _tell(self, ac: Reading, dc: Reading) -> None:
        good = ac.quality is Quality.GOOD and dc.quality is Quality.GOOD
        if not good or abs(ac.value) < LEAST_SHARE * self.rated_kw:
            return
        share_pct = efficiency_pct(ac.value, dc.value)
        if share_pct is not None:
            point = Point.INVERTER_EFFICIENCY_PCT
            self.board.publish(replace(ac, point=point, value=share_pct))
