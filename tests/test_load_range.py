"""The bounds of the other load that need one reading of the meter and wait for no unit: what a unit
may be giving between what it showed and what it was told, and what follows at the connection."""

import math
import random
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rig import B1, B2, asset, snapshot
from vppd.core.alarms import Code
from vppd.core.model import (
    METER,
    SITE,
    Limit,
    LinkChange,
    Outcome,
    Point,
    Reading,
    Snapshot,
    UnitId,
    WriteResult,
)
from vppd.field.feeders import Feeder, Feeders
from vppd.field.load_range import TIMES, LoadRange
from vppd.field.meter import LoadWatch
from vppd.field.told import KEPT_S, NOTHING_KW, Told, may_give_kw
from vppd.field.traces import Trace, line_kw

LIMIT = Limit(-100.0, 90.0, Code.CONNECTION, "site")
OVER_KW, MAX_AGE_S = 0.5, 2.5


def told(*rows: tuple[float, float | None]) -> Told:
    """Setpoints and when they were answered; None: something else was lost."""
    made = Told()
    for at_s, power_kw in rows:
        outcome = Outcome.LOST if power_kw is None else Outcome.WRITTEN
        made.answered(WriteResult(B1, outcome, power_kw, 0.0, at_s))
    return made


def lost(made: Told, at_s: float, power_kw: float) -> Told:
    """One more setpoint, which nobody acknowledged."""
    made.answered(WriteResult(B1, Outcome.LOST, power_kw, 0.0, at_s))
    return made


def read(*rows: tuple[float, float]) -> Trace:
    made = Trace()
    for at_s, power_kw in rows:
        made.add(Reading(B1, Point.POWER_KW, power_kw, at_s, MAX_AGE_S))
    return made


# ---- what a unit may give ----------------------------------------------------------------------


def test_what_was_told_holds_until_something_else_is() -> None:
    made = told((1.0, 10.0), (2.0, 30.0), (3.0, 20.0))
    assert made.within_kw(0.0, 0.5) == (0.0, 0.0)
    assert made.within_kw(1.5, 1.6) == (10.0, 10.0)
    assert made.within_kw(1.5, 2.5) == (10.0, 30.0)
    assert made.within_kw(2.0, 3.0) == (20.0, 30.0)
    assert made.within_kw(9.0, 9.0) == (20.0, 20.0)


def test_a_write_that_was_lost_may_have_been_heard_or_not() -> None:
    made = told((1.0, 10.0), (2.0, None), (4.0, -5.0))
    assert made.within_kw(3.0, 3.0) == (0.0, 10.0)
    assert made.within_kw(4.0, 4.0) == (-5.0, -5.0)
    made.answered(WriteResult(B1, Outcome.REFUSED, None, None, 5.0))
    made.answered(WriteResult(B1, Outcome.HELD, math.nan, None, 6.0))
    assert made.within_kw(7.0, 7.0) == (-5.0, -5.0)


def test_a_setpoint_that_was_lost_may_be_what_the_unit_is_at() -> None:
    made = lost(told((1.0, 10.0)), 2.0, 40.0)
    assert made.within_kw(1.5, 1.5) == (10.0, 10.0)
    assert made.within_kw(2.0, 2.0) == (0.0, 40.0)
    lost(made, 3.0, -25.0)
    assert made.within_kw(3.0, 3.0) == (-25.0, 40.0), "neither was ever acknowledged"
    assert may_give_kw(read((3.5, 40.0)), made, 3.6) == (-25.0, 40.0), "or its timer ran out"
    made.answered(WriteResult(B1, Outcome.LOST, math.nan, None, 3.6))
    assert made.within_kw(3.7, 3.7) == (-25.0, 40.0)
    made.answered(WriteResult(B1, Outcome.HELD, 5.0, None, 4.0))
    assert made.within_kw(4.0, 4.0) == (5.0, 5.0)
    assert lost(Told(), 1.0, 30.0).within_kw(1.0, 1.0) == (0.0, 30.0)


def test_a_reading_that_comes_late_counts_when_it_was_read() -> None:
    setpoints = told((1.0, 10.0), (2.1, 30.0))
    shown = read((3.0, 30.0), (1.5, 9.0), (2.5, 20.0))
    assert may_give_kw(shown, setpoints, 2.0) == (9.0, 10.0)
    assert may_give_kw(shown, setpoints, 2.6) == (20.0, 30.0)
    assert may_give_kw(shown, setpoints, 3.1) == (30.0, 30.0)
    assert [each.at_s for each in shown.near(2.5)] == [1.5, 2.5, 3.0]
    assert line_kw(shown.near(2.5), 2.75) == 25.0
    assert may_give_kw(read((3.0, 30.0)), setpoints, 2.6) == (0.0, 30.0), "not read until then"


steps = st.tuples(
    st.sampled_from(["acked", "lost", "heard and lost", "refused", "held", "reverts", "read"]),
    st.floats(-100.0, 100.0),
    st.floats(0.01, 0.9),
)


@given(st.lists(steps, max_size=30), st.randoms(use_true_random=False))
def test_a_unit_that_does_what_it_heard_last_is_within_the_bounds(
    rounds: list[tuple[str, float, float]], dice: random.Random
) -> None:
    """Whatever became of its writes, and however late what was read of it comes. Its own timer
    may run out only once it heard nothing."""
    setpoints, shown, now_s = Told(), Trace(), 100.0
    gives_kw = held_kw = 0.0
    alone = False
    late: list[Reading] = []
    for what, power_kw, for_s in rounds:
        now_s += for_s
        match what:
            case "acked":
                gives_kw = held_kw = power_kw
                setpoints.answered(WriteResult(B1, Outcome.WRITTEN, power_kw, 0.0, now_s))
                alone = False
            case "held" if not alone:
                gives_kw = held_kw
                setpoints.answered(WriteResult(B1, Outcome.HELD, held_kw, 0.0, now_s))
            case "refused":
                setpoints.answered(WriteResult(B1, Outcome.REFUSED, None, None, now_s))
            case "lost" | "heard and lost":
                gives_kw = gives_kw if what == "lost" else power_kw
                setpoints.answered(WriteResult(B1, Outcome.LOST, power_kw, 0.0, now_s))
                alone = True
            case "reverts" if alone:
                gives_kw = 0.0
            case "read":
                late.append(Reading(B1, Point.POWER_KW, gives_kw, now_s, MAX_AGE_S))
                dice.shuffle(late)
                while late and dice.random() < 0.7:
                    shown.add(late.pop())
        low_kw, high_kw = may_give_kw(shown, setpoints, now_s)
        assert low_kw <= gives_kw <= high_kw
        assert may_give_kw(None, setpoints, now_s)[0] <= gives_kw


def test_what_was_told_long_ago_is_forgotten_but_for_what_still_holds() -> None:
    made = told((1.0, 10.0), *((2.0 + KEPT_S, 30.0),))
    assert made.within_kw(1.5, 1.5) == (10.0, 10.0)
    made.answered(WriteResult(B1, Outcome.WRITTEN, 40.0, 0.0, 9.0 + 2.0 * KEPT_S))
    assert made.within_kw(1.5, 1.5) == (0.0, 0.0)
    assert made.within_kw(8.0 + 2.0 * KEPT_S, 8.0 + 2.0 * KEPT_S) == (30.0, 30.0)


def test_a_unit_is_between_what_it_showed_last_and_what_it_was_told_since() -> None:
    setpoints = told((1.0, 10.0), (2.1, 30.0), (2.3, 25.0))
    shown = read((1.9, 9.0), (2.4, 99.0))
    assert may_give_kw(shown, setpoints, 2.0) == (9.0, 10.0)
    assert may_give_kw(shown, setpoints, 2.2) == (9.0, 30.0)
    assert may_give_kw(shown, setpoints, 2.4) == (25.0, 99.0)
    assert may_give_kw(None, setpoints, 2.4) == (0.0, 25.0), "nobody hears it"
    assert may_give_kw(shown, setpoints, 2.2, (-5.0, 20.0)) == (-5.0, 30.0), "what is on its way"
    assert may_give_kw(None, setpoints, 2.4, (-5.0, 40.0)) == (-5.0, 40.0)


# ---- what follows for the load -----------------------------------------------------------------


def test_units_at_rest_tell_the_load_and_units_that_move_leave_it_as_it_was() -> None:
    made = LoadRange(LIMIT, OVER_KW)
    assert made.see(20.0, 50.0, 50.0) == (30.0, 30.0)
    assert made.see(40.0, 50.0, 120.0) == (30.0, 30.0)
    assert made.see(40.0, 80.0, 120.0) == (40.0, 40.0), "no further than a reading demands"
    assert made.see(40.0, 50.0, 60.0) == (20.0, 20.0)
    made.forget()
    assert made.see(40.0, 50.0, 60.0) == (15.0, 15.0)


def test_a_connection_over_its_limit_counts_as_the_worst_until_a_reading_allows_better() -> None:
    made = LoadRange(LIMIT, OVER_KW)
    made.see(50.0, 80.0, 80.0)
    assert made.see(90.4, 100.0, 150.0) == (30.0, 30.0), "as much as registers are wrong"
    assert made.see(95.0, 100.0, 150.0) == (5.0, 30.0)
    assert made.see(80.0, 60.0, 100.0) == (5.0, 20.0)
    assert made.see(80.0, 90.0, 100.0) == (10.0, 20.0)
    assert made.see(80.0, 95.0, 95.0) == (15.0, 15.0)
    assert made.see(-105.0, -100.0, -60.0) == (15.0, 45.0)
    assert made.see(91.0, 0.0, 200.0) == (5.0, 45.0), "a small excess costs ten times as much"


@given(
    st.lists(
        st.tuples(st.floats(-200, 200), st.floats(0, 80), st.floats(0, 1), st.floats(-80, 80)),
        min_size=1,
        max_size=20,
    )
)
def test_what_is_over_is_cut_whatever_the_units_were_doing(
    rounds: list[tuple[float, float, float, float]],
) -> None:
    """Told no more than the range leaves, a connection that was read over its limit is within it,
    as long as the load is what it was at that reading."""
    made = LoadRange(LIMIT, OVER_KW)
    for least_kw, width_kw, share, load_kw in rounds:
        meter_kw = least_kw + share * width_kw - load_kw
        low_kw, high_kw = made.see(meter_kw, least_kw, least_kw + width_kw)
        assert low_kw <= high_kw + 1e-9
        if meter_kw > LIMIT.high_kw + max(width_kw / TIMES, OVER_KW):
            assert low_kw <= load_kw + 1e-9
        if meter_kw < LIMIT.low_kw - max(width_kw / TIMES, OVER_KW):
            assert high_kw >= load_kw - 1e-9
        if width_kw == 0.0:
            assert (low_kw, high_kw) == pytest.approx((load_kw, load_kw))


# ---- on the board ------------------------------------------------------------------------------


@dataclass
class Site:
    """Two units, a meter and what is published; units do at once as they are told."""

    given_kw: dict[UnitId, float] = field(default_factory=lambda: {B1: 0.0, B2: 0.0})
    load_kw: float = 0.0
    now_s: float = 10.0
    sent_kw: dict[UnitId, tuple[float, float]] = field(
        default_factory=lambda: {B1: NOTHING_KW, B2: NOTHING_KW}
    )
    readings: dict[tuple[UnitId, Point], Reading] = field(default_factory=dict)

    def __post_init__(self) -> None:
        units = asset(B1), asset(B2)
        self.watch = LoadWatch(units, self, self.snapshot, LIMIT, self.sent_kw.__getitem__)
        self.feeders = Feeders((Feeder((B1, B2), LIMIT),))

    def publish(self, message: object) -> None:
        assert isinstance(message, Reading)
        self.readings[message.unit, message.point] = message
        self.watch.take(message)

    def snapshot(self) -> Snapshot:
        return replace(snapshot(self.now_s, {}), readings=dict(self.readings))

    def tell(self, **power_kw: float) -> None:
        for unit, each_kw in zip((B1, B2), power_kw.values(), strict=True):
            self.given_kw[unit] = each_kw
            result = WriteResult(unit, Outcome.WRITTEN, each_kw, 0.0, self.now_s)
            self.watch.report(result)
        self.watch.report(LinkChange(B1, up=True, at_s=self.now_s))

    def read_units(self) -> None:
        self.now_s += 0.25
        for unit, each_kw in self.given_kw.items():
            self.publish(Reading(unit, Point.POWER_KW, each_kw, self.now_s, MAX_AGE_S))

    def read_meter(self) -> tuple[float, float, float]:
        self.now_s += 0.25
        through_kw = sum(self.given_kw.values()) - self.load_kw
        self.publish(Reading(METER, Point.POWER_KW, through_kw, self.now_s, MAX_AGE_S))
        points = Point.LOAD_LOW_KW, Point.LOAD_KW, Point.LOAD_HIGH_KW
        low_kw, load_kw, high_kw = (self.readings[SITE, point].value for point in points)
        return low_kw, load_kw, high_kw

    def leaves_kw(self) -> tuple[float, float]:
        (made,) = self.feeders.limits(self.snapshot(), {})
        return made.limit.low_kw, made.limit.high_kw


def rested(load_kw: float = 20.0) -> Site:
    site = Site(load_kw=load_kw)
    for _ in range(4):
        site.read_units()
        site.read_meter()
    return site


@pytest.mark.parametrize("to_kw", [-40.0, 55.0])
def test_a_step_of_the_load_binds_at_the_first_poll_where_it_is_for_the_worse(to_kw: float) -> None:
    site = rested()
    assert site.leaves_kw() == pytest.approx((-80.0, 110.0))
    site.load_kw = to_kw
    site.read_units()
    assert site.read_meter() == pytest.approx((min(to_kw, 20.0), 20.0, max(to_kw, 20.0)))
    assert site.leaves_kw() == pytest.approx((-100.0 + max(to_kw, 20.0), 90.0 + min(to_kw, 20.0)))
    for _ in range(2):
        site.read_units()
        site.read_meter()
    assert site.leaves_kw() == pytest.approx((-100.0 + to_kw, 90.0 + to_kw)), "and both, soon"


def test_a_stray_reading_of_the_meter_costs_one_poll() -> None:
    site = rested()
    site.load_kw = -500.0
    site.read_units()
    assert site.read_meter() == pytest.approx((-500.0, 20.0, 20.0))
    site.load_kw = 20.0
    site.read_units()
    assert site.read_meter() == pytest.approx((20.0, 20.0, 20.0))


def test_a_fleet_that_moves_is_no_load_whichever_is_read_first() -> None:
    """Restless units, a load that stays, and the connection never over."""
    site, dice = rested(), random.Random(4)
    for _ in range(200):
        late = dice.random() < 0.5
        if late:
            site.read_units()
        site.tell(one=dice.uniform(-39.0, 54.0), other=dice.uniform(-39.0, 54.0))
        if not late:
            site.read_units()
        low_kw, believed_kw, high_kw = site.read_meter()
        assert low_kw == pytest.approx(min(believed_kw, 20.0)), (
            "it is right where the other is late"
        )
        assert high_kw == pytest.approx(max(believed_kw, 20.0))


def test_a_step_while_the_units_move_is_cut_as_soon_as_the_meter_shows_it() -> None:
    site = rested()
    site.tell(one=50.0, other=55.0)
    site.load_kw = 5.0  # of 110 kW that may be given 105 are, and the connection gets 100
    assert site.read_meter() == pytest.approx((5.0 - TIMES * 10.0, 20.0, 20.0)), "not read since"
    assert site.leaves_kw()[1] == 0.0
    site.read_units()
    assert site.read_meter() == pytest.approx((5.0, 20.0, 20.0))
    assert site.leaves_kw()[1] == pytest.approx(95.0)


def test_what_is_told_and_not_given_counts_both_ways() -> None:
    """A unit that stands at 50 kW whatever it is told: what the others may give is less."""
    site = rested(load_kw=0.0)
    site.tell(one=0.0, other=40.0)
    site.given_kw[B1] = 55.0
    for _ in range(4):
        site.read_units()
        site.read_meter()
    assert site.leaves_kw()[1] <= 90.0 - 55.0 + 1e-6


def test_what_is_on_its_way_may_have_been_heard() -> None:
    """A unit goes down by 40 kW before it answers: that is no load that came."""
    site = rested()
    site.tell(one=60.0, other=40.0)
    for _ in range(3):
        site.read_units()
        site.read_meter()
    assert site.leaves_kw()[1] == pytest.approx(110.0)
    site.sent_kw[B1] = 20.0, 35.0
    site.given_kw[B1] = 20.0
    low_kw, _, high_kw = site.read_meter()
    assert low_kw <= 20.0 + 1e-6
    assert high_kw >= 20.0 - 1e-6
    assert site.leaves_kw()[1] <= 110.0 + 1e-6
    site.sent_kw[B1] = NOTHING_KW
    site.read_units()
    assert site.read_meter() == pytest.approx((20.0, 20.0, 20.0))


def test_after_a_silence_nothing_is_believed_of_what_was() -> None:
    site = rested()
    site.load_kw, site.now_s = -30.0, site.now_s + 2.0 * MAX_AGE_S
    site.read_units()
    assert site.read_meter() == pytest.approx((-30.0, -30.0, -30.0))
