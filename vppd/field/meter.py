"""What other load and other sources do behind the connection, by the meter there. Pure but for the
board it publishes to.

The meter measures all: export = the units' sum - other load. Meter and units are polled at
different moments, so while power moves the difference is wrong for a poll or two, and a limit
made of it would cut what is well, then cut what it cut itself. The median of the last few
differences leaves such strays out; a real step of the load counts after three polls of the meter.
"""

from collections import deque
from collections.abc import Callable, Sequence
from statistics import median

from vppd.core.asset import Asset
from vppd.core.measured import power_kw
from vppd.core.model import METER, SITE, Point, Quality, Reading, Snapshot
from vppd.core.ports import Board

STRAYS_LEFT_OUT = 2  # a step of a unit is over within two polls of the meter
SAMPLES = 2 * STRAYS_LEFT_OUT + 1


class LoadWatch:
    """Publishes LOAD_KW of the site whenever the meter was read."""

    def __init__(
        self, assets: Sequence[Asset], board: Board, snapshot: Callable[[], Snapshot]
    ) -> None:
        self._assets, self._board, self._snapshot = assets, board, snapshot
        self._differences_kw: deque[float] = deque(maxlen=SAMPLES)

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
        self._differences_kw.append(units_kw - message.value)
        load_kw = median(self._differences_kw)
        age_s = message.max_age_s
        self._board.publish(Reading(SITE, Point.LOAD_KW, load_kw, message.at_s, age_s))
