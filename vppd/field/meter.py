"""What other load and other sources do behind the connection, by the meter there. Pure but for the
board it publishes to.

The meter measures all: export = the units' sum - other load. Meter and units are read at different
moments, and what a unit gave at the meter's moment is known between two of its readings only. So a
reading of the meter is judged once every unit was read after it, and it says between what bounds
the load was. While the units rest these meet, and are the load. While they move they are far apart,
and the load stays what it was as far as they allow: a wrong load would cut what is well, then cut
what it cut itself. A single stray reading is outvoted: a step counts at the third poll.
"""

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from vppd.core.alarms import Code
from vppd.core.asset import Asset
from vppd.core.measured import power_kw
from vppd.core.model import (
    METER,
    SITE,
    DeviceReport,
    Limit,
    Point,
    Quality,
    Reading,
    Snapshot,
    UnitId,
    WriteResult,
)
from vppd.core.ports import Board
from vppd.field.load_range import LoadRange
from vppd.field.told import NOTHING_KW, Told, may_give_kw
from vppd.field.traces import KEPT_S, SKEW_S, UnitTrace, line_kw

JUDGED = 3  # readings of the meter: one stray among them is left out
HOLD_S = 3.0  # a load that every reading for so long speaks against is not kept
SHIFTS_S = (-SKEW_S, 0.0, SKEW_S)  # which of these moments the meter shows is not known
LAG_S = 2.0
STILL_S = 5.0  # unchanged so long after the units moved: three polls and a meter's own averaging
MOVED_SHARE = 0.02  # of all ratings together: more than a step of a meter behind transformers
OVER_SHARE = 0.001  # of all ratings together: as much as registers that count in tenths are wrong
UNLIMITED = Limit(-math.inf, math.inf, Code.CONNECTION)
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


@dataclass(frozen=True, slots=True)
class Sample:
    """What one reading of the meter says of the load, kW: the bounds of what it may have been, and
    of what it was if every unit moved evenly from reading to reading."""

    at_s: float
    low_kw: float
    high_kw: float
    even_low_kw: float
    even_high_kw: float
    heard: frozenset[UnitId]


def sample(meter: Reading, units: Mapping[UnitId, UnitTrace]) -> Sample:
    """Judge one reading of the meter, which shows a moment within SKEW_S of its own. A unit that
    was not heard then counts as other source or load."""
    at_s = meter.at_s
    low_kw = high_kw = 0.0
    evens_kw = [0.0] * len(SHIFTS_S)
    heard: set[UnitId] = set()
    for id_, unit in units.items():
        if (trace := unit.heard(at_s)) is not None:
            heard.add(id_)
            near = trace.near(at_s)
            low_kw += min(each.value for each in near)
            high_kw += max(each.value for each in near)
            for at, shift_s in enumerate(SHIFTS_S):
                evens_kw[at] += line_kw(near, at_s + shift_s)
    meter_kw = meter.value
    return Sample(
        at_s,
        low_kw - meter_kw,
        high_kw - meter_kw,
        min(evens_kw) - meter_kw,
        max(evens_kw) - meter_kw,
        frozenset(heard),
    )


def alike(samples: Sequence[Sample]) -> list[Sample]:
    """Those at which the same units were heard, as at most of them: the others
    show another load."""
    sets = [each.heard for each in samples]
    most = max(sets, key=sets.count)
    return [each for each in samples if each.heard == most]


class Estimate:
    """The load as believed: moved no further than what is known demands."""

    def __init__(self) -> None:
        self._load_kw: float | None = None
        self._held: deque[Sample] = deque()

    def shift(self, by_kw: float) -> None:
        """A unit is heard again whose power counted as load so far, or the reverse."""
        self._held.clear()
        if self._load_kw is not None:
            self._load_kw += by_kw

    def judge(self, newest: Sequence[Sample]) -> float:
        """The load by these samples, oldest first, kW."""
        low_kw = median(each.low_kw for each in newest)
        high_kw = median(each.high_kw for each in newest)
        if self._load_kw is None:
            self._load_kw = (low_kw + high_kw) / 2.0
        even_kw = self._evenly(self._load_kw, newest[0])
        self._load_kw = min(max(even_kw, low_kw), high_kw)
        return self._load_kw

    def _evenly(self, load_kw: float, settled: Sample) -> float:
        """Within what one of the samples of the last HOLD_S at least says, once there are so many.
        The units were read often enough since `settled`: no more will be known of it."""
        held = self._held
        if not held or held[-1].at_s < settled.at_s:
            held.append(settled)
        while len(held) > 1 and settled.at_s - held[1].at_s >= HOLD_S:
            held.popleft()
        if settled.at_s - held[0].at_s < HOLD_S:
            return load_kw
        low_kw = min(each.even_low_kw for each in held)
        high_kw = max(each.even_high_kw for each in held)
        return min(max(load_kw, low_kw), high_kw)


class LoadWatch:
    """Publishes LOAD_KW of the site and its bounds whenever the meter was read, and not while the
    meter stands still though the units' power moves: such a meter is as good as silent."""

    def __init__(
        self,
        assets: Sequence[Asset],
        board: Board,
        snapshot: Callable[[], Snapshot],
        limit: Limit = UNLIMITED,
        sent: Callable[[UnitId], tuple[float, float]] = lambda _: NOTHING_KW,
    ) -> None:
        """`limit` is the connection's; `sent` is the least and the most that may be on its way to a
        unit now."""
        self._assets, self._board, self._snapshot = assets, board, snapshot
        self._limit, self._sent = limit, sent
        self._units = {asset.id: UnitTrace(asset) for asset in assets}
        self._told = {asset.id: Told() for asset in assets}
        self._range = LoadRange(limit, OVER_SHARE * sum(asset.rated_kw for asset in assets))
        self._meter: deque[Reading] = deque()
        self._moved_kw = MOVED_SHARE * sum(asset.rated_kw for asset in assets)
        self._estimate = Estimate()
        self._heard: frozenset[UnitId] = frozenset()
        self._still: _Still | None = None

    def adopt(self, assets: Sequence[Asset], limit: Limit) -> None:
        """Other units or another connection stand behind it from now on; of units that stay what
        was heard counts on."""
        if list(assets) == list(self._assets) and limit == self._limit:
            return
        self._assets, known, told, self._limit = assets, self._units, self._told, limit
        self._units = {each.id: known.get(each.id) or UnitTrace(each) for each in assets}
        self._told = {each.id: told.get(each.id) or Told() for each in assets}
        self._range = LoadRange(limit, OVER_SHARE * sum(asset.rated_kw for asset in assets))
        self._heard &= self._units.keys()
        self._moved_kw = MOVED_SHARE * sum(asset.rated_kw for asset in assets)
        self._still = None

    def take(self, message: object) -> None:
        """One message of the bus. A unit that shows no power counts as other source or load."""
        if not isinstance(message, Reading):
            return
        if (unit := self._units.get(message.unit)) is not None:
            if (trace := unit.traces.get(message.point)) is not None:
                trace.add(message)
        elif (
            message.unit == METER
            and message.point is Point.POWER_KW
            and message.quality is Quality.GOOD
            and math.isfinite(message.value)
        ):
            self._metered(message)

    def report(self, report: DeviceReport) -> None:
        """What became of a write to a device."""
        if isinstance(report, WriteResult) and (told := self._told.get(report.unit)) is not None:
            told.answered(report)

    def _metered(self, meter: Reading) -> None:
        if self._stands_still(meter):
            self._meter.clear()
            self._range.forget()
            self._estimate = Estimate()
            return
        if self._meter and meter.at_s - self._meter[-1].at_s > meter.max_age_s:
            self._meter.clear()
            self._range.forget()
        self._meter.append(meter)
        newest = alike(self._newest(meter.at_s))
        self._hear(newest[-1].heard)
        load_kw = self._estimate.judge(newest)
        low_kw, high_kw = self._range.see(meter.value, *self._given_kw(meter.at_s))
        for point, value_kw in (
            (Point.LOAD_KW, load_kw),
            (Point.LOAD_LOW_KW, min(load_kw, low_kw)),
            (Point.LOAD_HIGH_KW, max(load_kw, high_kw)),
        ):
            self._board.publish(Reading(SITE, point, value_kw, meter.at_s, meter.max_age_s))

    def _given_kw(self, at_s: float) -> tuple[float, float]:
        """The least and the most that the units were giving together at an instant."""
        units, told = self._units, self._told
        spans_kw = [
            may_give_kw(units[id_].heard(at_s), told[id_], at_s, self._sent(id_)) for id_ in units
        ]
        return sum(low for low, _ in spans_kw), sum(high for _, high in spans_kw)

    def _hear(self, heard: frozenset[UnitId]) -> None:
        came_kw = sum(self._units[unit].last_kw() for unit in heard - self._heard)
        went_kw = sum(self._units[unit].last_kw() for unit in self._heard - heard)
        if heard != self._heard:
            self._estimate.shift(came_kw - went_kw)
            self._heard = heard

    def _stands_still(self, meter: Reading) -> bool:
        now = self._snapshot()
        units_kw = sum(power_kw(now, asset) or 0.0 for asset in self._assets)
        if self._still is None or self._still.value_kw != meter.value:
            self._still = _Still(meter.value, meter.at_s, units_kw, units_kw)
            return False
        return self._still.see(units_kw, meter.at_s, self._moved_kw)

    def _newest(self, now_s: float) -> list[Sample]:
        """The newest readings of the meter that no unit's next reading is awaited for; when there
        is none, the newest as it is."""
        units, found = self._units, list[Sample]()
        while now_s - self._meter[0].at_s > KEPT_S / 2.0:
            self._meter.popleft()
        for each in reversed(self._meter):
            if not any(unit.awaits(each.at_s, now_s) for unit in units.values()):
                found.append(sample(each, units))
                if len(found) == JUDGED:
                    break
        return found[::-1] or [sample(self._meter[-1], units)]
