"""The least and the most that other load may be by what the units were told. Pure.

The believed load waits for the units' next readings and for a third poll of the meter; this needs
one reading of the meter and waits for nobody. Between their last readings and what they were told
since, the units gave at least and at most so much, so the load was at least and at most so much.
Either bound moves no further than a reading demands, and both meet as soon as the units rest.

A connection that is measured over its limit is a fact that needs no estimate: then the bound that
binds is the worst that the reading allows, and stays until another reading demands better. So the
connection is over its limit no longer than one poll of the meter, one tick and the devices' own
reaction take, from when it came to be over or the load moved last: physics permits no less.
"""

from vppd.core.model import Limit

TIMES = 10.0  # of a small excess: it comes of a load that is wrong by little, and costs no more


class LoadRange:
    """From reading to reading of the meter."""

    def __init__(self, limit: Limit, over_kw: float) -> None:
        """`limit` is the connection's; up to `over_kw` beyond it is nothing."""
        self._limit, self._over_kw = limit, over_kw
        self._range_kw: tuple[float, float] | None = None

    def forget(self) -> None:
        """The meter was silent, or as good as that."""
        self._range_kw = None

    def see(self, meter_kw: float, least_kw: float, most_kw: float) -> tuple[float, float]:
        """The bounds of the load, kW, by a reading of the meter (+ is export) and between what
        the units together were giving then."""
        least_kw, most_kw = least_kw - meter_kw, most_kw - meter_kw
        middle_kw = (least_kw + most_kw) / 2.0
        low_kw, high_kw = self._range_kw or (middle_kw, middle_kw)
        low_kw, high_kw = (min(max(each, least_kw), most_kw) for each in (low_kw, high_kw))
        out_kw, in_kw = meter_kw - self._limit.high_kw, self._limit.low_kw - meter_kw
        if out_kw > self._over_kw:
            low_kw = max(least_kw, low_kw - TIMES * out_kw)
        if in_kw > self._over_kw:
            high_kw = min(most_kw, high_kw + TIMES * in_kw)
        self._range_kw = low_kw, high_kw
        return self._range_kw
