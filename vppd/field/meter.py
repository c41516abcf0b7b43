"""What other load and other sources do behind the connection, by the meter there. Pure but for the
board it publishes to.

The meter measures all: export = the units' sum - other load. Meter and units are polled at
different moments, so while power moves the difference is wrong for a poll or two, and a limit
made of it would cut what is well, then cut what it cut itself. The median of the last few
differences leaves such strays out; a real step of the load counts after three polls of the meter.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from vppd.core.asset import Asset
from vppd.core.measured import power_kw
from vppd.core.model import METER, SITE, Point, Quality, Reading, Snapshot
from vppd.core.ports import Board

STRAYS_LEFT_OUT = 2  # a step of a unit is over within two polls of the meter
SAMPLES = 2 * STRAYS_LEFT_OUT + 1
LAG_S = 2.0
STILL_S = 5.0  # unchanged so long after the units moved: three polls and a meter's own averaging
MOVED_SHARE = 0.02  # of all ratings together: more than a step of a meter behind transformers
REST_S = 300.0  # after so long without movement a meter that stood still is tried again


@dataclass(slots=True)
class _Still:
    """One value of the meter for as long as it does not change, and what the units did then."""

    value_kw: float
    since_s: float
    low_kw: float
    high_kw: float
    moved_s: float | None = None
    frozen: bool = False

    def see(self, units_kw: float, at_s: float, most_kw: float) -> bool:
        """Whether it is frozen: the units moved by `most_kw` and STILL_S later it did not."""
        if not self.frozen and at_s - self.since_s < LAG_S:
            self.low_kw = self.high_kw = units_kw  # a step that the meter showed before the units
            return False
        low_kw, high_kw = min(self.low_kw, units_kw), max(self.high_kw, units_kw)
        if high_kw - low_kw < most_kw:
            self.moved_s = None
        elif self.moved_s is None:
            self.moved_s = at_s
        if self.moved_s is not None and at_s - self.moved_s >= STILL_S:
            self.frozen, self.moved_s, self.since_s = True, None, at_s
            self.low_kw = self.high_kw = units_kw
        elif self.frozen and at_s - self.since_s >= REST_S:
            self.frozen, self.moved_s, self.since_s = False, None, at_s
            self.low_kw = self.high_kw = units_kw
        else:
            self.low_kw, self.high_kw = low_kw, high_kw
        return self.frozen


class LoadWatch:
    """Publishes LOAD_KW of the site whenever the meter was read, and not while the meter stands
    still though the units' power moves: such a meter is as good as silent."""

    def __init__(
        self, assets: Sequence[Asset], board: Board, snapshot: Callable[[], Snapshot]
    ) -> None:
        self._assets, self._board, self._snapshot = assets, board, snapshot
        self._differences_kw: deque[float] = deque(maxlen=SAMPLES)
        self._still: _Still | None = None
        self._moved_kw = MOVED_SHARE * sum(asset.rated_kw for asset in assets)

    def take(self, message: object) -> None:
        """One message of the bus. A unit that shows no power counts as other source or load."""
        if (
            not isinstance(message, Reading)
            or (message.unit, message.point) != (METER, Point.POWER_KW)
            or message.quality is not Quality.GOOD
        ):
            return
        now = self._snapshot()
        units_kw = sum(power_kw(now, asset) or 0.0 for asset in self._assets)
        if self._still is None or self._still.value_kw != message.value:
            self._still = _Still(message.value, message.at_s, units_kw, units_kw)
        elif self._still.see(units_kw, message.at_s, self._moved_kw):
            self._differences_kw.clear()
            return
        self._differences_kw.append(units_kw - message.value)
        load_kw = median(self._differences_kw)
        age_s = message.max_age_s
        self._board.publish(Reading(SITE, Point.LOAD_KW, load_kw, message.at_s, age_s))
