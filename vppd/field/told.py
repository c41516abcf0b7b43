"""What one unit was told, and between what bounds its power was at an instant. Pure.

A unit is on its way from where it was read last to what it was told since: between the least and
the most of these, however slow it is. Nothing is assumed of its ramp.
"""

import math
from collections import deque

from vppd.core.model import Outcome, WriteResult
from vppd.field.traces import Trace

KEPT_S = 10.0
NOTHING_KW = math.inf, -math.inf  # between nothing and nothing


class Told:
    """The setpoints that a unit acknowledged, each with the instant of its answer."""

    def __init__(self) -> None:
        self._told: deque[tuple[float, float, float]] = deque()  # when, the least, the most

    def answered(self, result: WriteResult) -> None:
        """What became of a write. One that was lost may have been heard or not: until the next
        answer the unit may be at what was sent, at what it held, or at 0 by its own timer."""
        power_kw = result.power_kw
        known_kw = () if power_kw is None or not math.isfinite(power_kw) else (power_kw,)
        if result.outcome is Outcome.LOST:
            held_kw = self._told[-1][1:] if self._told else (0.0, 0.0)
            self._add(result.at_s, min(0.0, *held_kw, *known_kw), max(0.0, *held_kw, *known_kw))
        elif known_kw:
            self._add(result.at_s, *known_kw, *known_kw)

    def within_kw(self, since_s: float, until_s: float) -> tuple[float, float]:
        """The least and the most it held from one instant to another; 0 before it was told."""
        low_kw, high_kw = math.inf, -math.inf
        for at_s, least_kw, most_kw in reversed(self._told):
            if at_s <= until_s:
                low_kw, high_kw = min(low_kw, least_kw), max(high_kw, most_kw)
            if at_s <= since_s:
                break
        return (low_kw, high_kw) if low_kw <= high_kw else (0.0, 0.0)

    def _add(self, at_s: float, low_kw: float, high_kw: float) -> None:
        told = self._told
        if told and told[-1][1:] == (low_kw, high_kw):
            return
        told.append((at_s, low_kw, high_kw))
        while len(told) > 1 and at_s - told[1][0] > KEPT_S:
            told.popleft()


def may_give_kw(
    trace: Trace | None,
    told: Told,
    at_s: float,
    sent_kw: tuple[float, float] = NOTHING_KW,
) -> tuple[float, float]:
    """The least and the most that a unit gave at an instant, by what was read and told until then,
    and by what may have been on its way, `sent_kw`: it may have been heard and is not answered yet;
    `trace` None, or silent then: nobody hears it, and it is at what it was told, or at 0."""
    read = trace.held(at_s) if trace is not None else None
    if read is None:
        low_kw, high_kw = told.within_kw(at_s, at_s)
        return min(low_kw, sent_kw[0], 0.0), max(high_kw, sent_kw[1], 0.0)
    low_kw, high_kw = told.within_kw(read.at_s, at_s)
    return min(low_kw, sent_kw[0], read.value), max(high_kw, sent_kw[1], read.value)
