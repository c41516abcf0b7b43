"""Reserve margin, spare capacity, N-1, imbalance, and the queue of plans."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.api_site import MemoryJournal
from tests.rig import HandClock, asset
from vppd.campus.dispatch import Member
from vppd.campus.plans import base_of, pins_of
from vppd.campus.queue import line, place_of
from vppd.campus.reserve import (
    able_kw,
    compared_pct,
    imbalance_pct,
    imbalanced,
    pulled,
    reserve_low,
    spare,
    within_reserve,
)
from vppd.campus.watch import CampusWatch
from vppd.core.alarms import Code
from vppd.core.model import SITE, Limit, Plan, Priority, UnitId
from vppd.core.settings_campus import (
    CampusRulesSettings,
    ImbalanceSettings,
    LossSettings,
    ReserveSettings,
)
from vppd.spine.alarms import AlarmBoard

PLAIN = Member(UnitId("a"), 100.0, 100.0, 50.0, 10.0, 95.0, 250.0, 100)
A, B, C = UnitId("a"), UnitId("b"), UnitId("c")
TRIO = [PLAIN, PLAIN._replace(id=B), PLAIN._replace(id=C, out_kw=60.0)]


@dataclass(frozen=True)
class Feeder:
    """A limit on some units."""

    units: tuple[UnitId, ...]
    limit: Limit


def feeder(units: Sequence[UnitId], in_kw: float, out_kw: float) -> Feeder:
    return Feeder(tuple(units), Limit(-in_kw, out_kw, Code.CONNECTION))


TREE = [feeder([A, B], 150.0, 120.0), feeder([A, B, C], 1000.0, 170.0)]


def test_what_units_could_give_goes_through_every_limit() -> None:
    assert able_kw(1.0, TRIO, []) == 260.0
    assert able_kw(1.0, TRIO, TREE[:1]) == 180.0
    assert able_kw(1.0, TRIO, TREE) == 170.0
    assert able_kw(-1.0, TRIO, TREE) == 250.0


def test_spare_and_the_loss_of_the_largest() -> None:
    found = spare(100.0, TRIO)
    assert (found.up_kw, found.down_kw) == (160.0, 400.0)
    assert found.margin_pct == pytest.approx(100.0 * 160.0 / 260.0)
    assert (found.largest, found.without_kw, found.short_kw) == (A, 160.0, 0.0)
    assert spare(200.0, TRIO).short_kw == pytest.approx(40.0)
    assert spare(-250.0, TRIO).short_kw == pytest.approx(50.0)
    # behind a narrow feeder the loss of a takes less than the loss of c
    found = spare(150.0, TRIO, TREE[:1])
    assert (found.largest, found.without_kw, found.short_kw) == (A, 160.0, 0.0) or (
        found.largest == C and found.without_kw == 120.0
    )
    assert spare(150.0, TRIO, TREE[:1]).without_kw == 120.0
    assert spare(0.0, []).largest is None
    assert spare(0.0, []).margin_pct is None


@given(
    st.lists(st.tuples(st.floats(0.0, 200.0), st.floats(0.0, 200.0)), min_size=1, max_size=6),
    st.floats(-500.0, 500.0),
    st.floats(0.0, 300.0),
    st.integers(0, 6),
)
def test_no_other_loss_is_worse(
    rooms: list[tuple[float, float]], given_kw: float, most_kw: float, cut: int
) -> None:
    fleet = [
        PLAIN._replace(id=UnitId(f"u{n}"), out_kw=out, in_kw=in_)
        for n, (out, in_) in enumerate(rooms)
    ]
    tree = [feeder([each.id for each in fleet[:cut]], most_kw, most_kw)]
    found = spare(given_kw, fleet, tree)
    each_lost = [
        able_kw(given_kw, [one for one in fleet if one is not lost], tree) for lost in fleet
    ]
    assert found.without_kw == pytest.approx(min(each_lost))


def test_the_margin_alarm_has_hysteresis() -> None:
    rules = ReserveSettings()
    assert reserve_low(19.9, rules, was=False)
    assert not reserve_low(20.0, rules, was=False)
    assert reserve_low(20.5, rules, was=True)
    assert not reserve_low(21.0, rules, was=True)
    assert reserve_low(None, rules, was=False)


@given(st.floats(-500.0, 500.0), st.floats(0.0, 300.0), st.floats(0.0, 300.0), st.floats(0.0, 90.0))
def test_a_bounded_base_keeps_the_margin(
    base_kw: float, out_kw: float, in_kw: float, kept_pct: float
) -> None:
    cut_kw = within_reserve(base_kw, out_kw, in_kw, kept_pct)
    assert -in_kw * (1.0 - kept_pct / 100.0) - 1e-9 <= cut_kw
    assert cut_kw <= out_kw * (1.0 - kept_pct / 100.0) + 1e-9
    assert abs(cut_kw) <= abs(base_kw)
    assert cut_kw * base_kw >= 0.0


def test_imbalance_of_soc_and_of_loading() -> None:
    fleet = [PLAIN._replace(soc_pct=80.0), PLAIN._replace(id=B, soc_pct=55.0)]
    fleet += [
        PLAIN._replace(id=C, soc_pct=None),
        PLAIN._replace(id=UnitId("off"), out_kw=0.0, in_kw=0.0),
    ]
    rules = ImbalanceSettings()
    rated = {each.id: 100.0 for each in fleet}
    assert imbalance_pct(compared_pct(fleet, {}, rated, rules)) == 25.0
    loads = {A: -30.0, B: 10.0, C: 0.0}
    loading = ImbalanceSettings(of="loading")
    assert imbalance_pct(compared_pct(fleet, loads, rated, loading)) == 30.0
    assert imbalanced(20.1, rules, was=False)
    assert not imbalanced(19.0, rules, was=False)
    assert imbalanced(19.0, rules, was=True)
    assert not imbalanced(18.0, rules, was=True)
    assert imbalance_pct([]) == 0.0


def test_a_full_unit_is_pulled_to_discharge_and_nothing_steps() -> None:
    fleet = [PLAIN._replace(soc_pct=70.0), PLAIN._replace(id=B, soc_pct=30.0)]
    weak = pulled(fleet, LossSettings(balance_weight=0.1), ImbalanceSettings(weight=0.0))
    assert [each.pull_share for each in weak] == pytest.approx([-0.02, 0.02])
    strong = pulled(fleet, LossSettings(), ImbalanceSettings(weight=1.0))
    assert [each.pull_share for each in strong] == pytest.approx([-0.1, 0.1])  # 10 % beyond 10 %
    near = [PLAIN._replace(soc_pct=60.0), PLAIN._replace(id=B, soc_pct=40.0)]
    assert pulled(near, LossSettings(), ImbalanceSettings()) == near
    assert pulled([], LossSettings(), ImbalanceSettings()) == []


def test_the_watch_tells() -> None:
    board = AlarmBoard(HandClock(), MemoryJournal())
    fleet = [PLAIN._replace(soc_pct=80.0), PLAIN._replace(id=B)]
    units = [replace(asset(), id=A), replace(asset(), id=B)]
    watch = CampusWatch(CampusRulesSettings(), units, board)

    def standing() -> set[Code]:
        return {each.code for each in board.standing()}

    watch.note(fleet, {A: 90.0, B: 90.0})
    assert standing() == {Code.RESERVE_LOW, Code.N_MINUS_ONE, Code.IMBALANCE}
    watch.note([PLAIN, fleet[1]], {A: 20.0, B: 20.0})
    assert standing() == set()
    watch.note([each._replace(out_kw=0.0, in_kw=0.0) for each in fleet], {A: 0.0, B: 0.0})
    assert standing() == set()
    assert watch.spare is not None
    assert watch.spare.margin_pct is None


def plan(
    source: str, issued_s: float, power_kw: float, unit: UnitId = SITE, **more: Priority
) -> Plan:
    return Plan(unit, power_kw, 1e9, source, more.get("priority", Priority.ORDER), issued_s)


ORDER = ("emergency*", "backup")


def test_the_declared_order_preempts_and_the_other_goes_on() -> None:
    agc, backup = plan("agc", 30.0, 1.0), plan("backup", 20.0, 2.0)
    emergency = plan("emergency:fire", 10.0, 3.0)
    assert base_of([agc, backup, emergency], ORDER).power_kw == 3.0
    assert base_of([agc, backup], ORDER).power_kw == 2.0
    assert base_of([agc], ORDER).power_kw == 1.0
    assert base_of([agc, backup, emergency]).power_kw == 1.0, "without an order the newest"
    operator = plan("op", 1.0, 9.0, priority=Priority.OPERATOR)
    assert base_of([agc, operator, emergency], ORDER).power_kw == 9.0
    assert [each.plan.power_kw for each in line([agc, backup, emergency], ORDER)] == [3.0, 2.0, 1.0]
    assert [each.runs for each in line([agc, backup], ORDER)] == [True, False]
    assert [place_of(source, ORDER) for source in ("emergency", "backup", "agc")] == [0, 1, 2]


def test_pins_follow_the_same_order() -> None:
    pins = pins_of([plan("agc", 30.0, 1.0, A), plan("backup", 20.0, 2.0, A)], ORDER)
    assert pins[A].power_kw == 2.0


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["emergency:a", "backup", "agc", "market"]),
            st.floats(0.0, 100.0),
            st.sampled_from(list(Priority)),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_who_runs_outranks_all_that_wait(found: list[tuple[str, float, Priority]]) -> None:
    plans = [plan(source, at, 1.0, priority=first) for source, at, first in found]
    queue = line(plans, ORDER)
    first = queue[0].plan
    for waiting in queue[1:]:
        other = waiting.plan
        assert first.priority >= other.priority
        if first.priority == other.priority:
            assert queue[0].place <= waiting.place
            if queue[0].place == waiting.place:
                assert first.issued_s >= other.issued_s
    assert base_of(plans, ORDER).source == first.source
