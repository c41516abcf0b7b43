"""What a site gave in a block, cut into causes: the parts add up whatever was decided; and what is
sold becomes plans whose energy is the position's, but for the ramp."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vppd.core.alarms import Code
from vppd.core.decision import Decision, Riding
from vppd.core.model import Clamp, Plan, Request, UnitId, UnitState
from vppd.core.settings_market import MarketSettings, TermsSettings
from vppd.market.blocks import BLOCK_H, Block
from vppd.market.settling.accounts import rules_of
from vppd.market.settling.ledger import Cause
from vppd.market.settling.sold import LOOK_S, SoldPlans
from vppd.market.settling.tally import FEW_KW, KWS_PER_MWH, Tally, parts_kw, short_cause

UNIT = UnitId("B1")
DAY = date(2026, 1, 2)
FIRST = Block(DAY, 40)
START = datetime(2026, 1, 2, 4, 0, tzinfo=UTC)
POWERS = st.floats(-2000.0, 2000.0).map(lambda kw: round(kw, 3))
SOURCES = st.sampled_from(["market", "operator:asha", "order 7", "schedule", "idle"])


@st.composite
def decisions(draw: st.DrawFn) -> Decision:
    base_kw, droop_kw = draw(POWERS), draw(POWERS)
    kept_back = draw(st.sampled_from(["", "headroom", "ceased"]))
    return Decision(
        0.0,
        START,
        draw(SOURCES),
        draw(POWERS),
        base_kw,
        droop_kw,
        droop_kw,
        draw(POWERS),
        draw(POWERS),
        draw(st.none() | st.floats(48.0, 52.0)),
        0.0,
        "pmu",
        0.0,
        (Clamp(Code.HEADROOM, 1.0, 0.0),) if kept_back == "headroom" else (),
        {UNIT: Request(UNIT, base_kw, droop_kw)},
        {},
        riding=Riding(ceased="voltage") if kept_back == "ceased" else Riding(),
    )


@given(decisions(), POWERS, POWERS, st.sampled_from(list(Cause)))
def test_the_parts_of_a_decision_add_up(
    decision: Decision, scheduled_kw: float, delta_kw: float, why: Cause
) -> None:
    parts = parts_kw(decision, scheduled_kw, delta_kw, lambda: why)
    beside_kw = decision.cleared_kw - scheduled_kw
    assert sum(parts.values()) == pytest.approx(beside_kw, abs=FEW_KW + 1e-6)
    droop_kw = sum(each.frequency_kw for each in decision.requests.values())
    short_kw = decision.cleared_kw - (decision.owed_kw - decision.droop_owed_kw) - droop_kw
    if abs(short_kw) > FEW_KW:
        assert sum(parts.values()) == pytest.approx(beside_kw, abs=1e-6)


@given(
    st.lists(st.tuples(decisions(), POWERS, POWERS, st.floats(0.01, 1.0)), max_size=8),
    st.lists(st.tuples(POWERS, POWERS, POWERS, st.floats(0.01, 5.0)), max_size=8),
)
def test_the_energies_of_a_block_are_the_sum_of_their_causes(
    looks: list[tuple[Decision, float, float, float]],
    seconds: list[tuple[float, float, float, float]],
) -> None:
    """Ticks, and stretches before a restart taken from journal rows."""
    tally = Tally(FIRST)
    dropped_kws = 0.0
    for decision, scheduled_kw, delta_kw, s in looks:
        parts = parts_kw(decision, scheduled_kw, delta_kw, lambda: Cause.LIMITS)
        tally.add(decision, parts, scheduled_kw, delta_kw, s)
        tally.measure(decision.cleared_kw, decision.cleared_kw, s)
        dropped_kws += FEW_KW * s
    for cleared_kw, droop_kw, owed_kw, s in seconds:
        tally.recover(cleared_kw, droop_kw, 50.0, owed_kw, s)
    explained_kws = sum(tally.parts_kws.values())
    assert tally.cleared_kws - tally.scheduled_kws == pytest.approx(
        explained_kws, abs=dropped_kws + 1e-6
    )
    assert tally.metered_kws == pytest.approx(tally.cleared_kws, abs=1e-6)
    total_mwh = sum(tally.mwh(cause) for cause in Cause)
    assert total_mwh == pytest.approx(explained_kws / KWS_PER_MWH, abs=1e-12)


@given(st.floats(0.0, 900.0), st.floats(-500.0, 500.0))
def test_a_block_counts_as_metered_only_when_nearly_all_was_seen(s: float, kw: float) -> None:
    tally = Tally(FIRST)
    tally.measure(kw, kw, s)
    seen = tally.metered_mwh
    assert (seen is None) == (s < 0.98 * 900.0)
    assert seen is None or seen == pytest.approx(kw * s / KWS_PER_MWH)


def still() -> Decision:
    """Nothing is asked and nothing given."""
    return Decision(
        0.0, START, "idle", 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, None, None, "", 0.0, (), {}, {}
    )


def test_who_is_short_and_why() -> None:
    idle = still()
    clamped = replace(idle, clamps=(Clamp(Code.RAMP, 1.0, 0.0),))
    lost, well = [UnitState.LOST, UnitState.RUNNING], [UnitState.RUNNING]
    assert short_cause(idle, lost, [Code.SOC_LOW]) is Cause.UNIT_LOST
    assert short_cause(idle, well, [Code.SOC_LOW]) is Cause.SOC
    assert short_cause(clamped, well, []) is Cause.RAMP
    assert short_cause(idle, well, [Code.CONNECTION]) is Cause.LIMITS


# --- what is sold becomes plans ---


class HandClock:
    def __init__(self, utc: datetime) -> None:
        self.begun, self.at_s = utc, 0.0

    def now_s(self) -> float:
        return self.at_s

    def utc(self) -> datetime:
        return self.begun + timedelta(seconds=self.at_s)

    async def sleep_until(self, deadline_s: float) -> None:
        raise AssertionError("steps are taken by hand")


class Held:
    """Positions by block; `ready` as the desk's."""

    def __init__(self, mw: Mapping[Block, float]) -> None:
        self.mw, self.ready = dict(mw), True

    def position_mw(self, block: Block) -> float:
        return self.mw.get(block, 0.0)


@dataclass
class Site:
    """A base that ramps to the newest plan while it lives, as the tick's does."""

    sold: SoldPlans
    clock: HandClock
    ramp_kw_per_s: float
    plan: Plan | None = None
    base_kw: float = 0.0

    def publish(self, plan: Plan) -> None:
        self.plan = plan

    def pass_by(self, until_s: float) -> dict[Block, float]:
        """Energy by block, kWs."""
        given: dict[Block, float] = {}
        while self.clock.at_s < until_s:
            self.sold.step()
            to_edge_s = 900.0 - self.clock.at_s % 900.0
            pause_s = min(self.sold._pause_s(), until_s - self.clock.at_s, to_edge_s)
            assert pause_s > 0.0
            assert self.plan is None or self.plan.valid_until_s > self.clock.at_s + 0.5 * pause_s
            block = FIRST.after(int(self.clock.at_s // 900.0))
            given[block] = given.get(block, 0.0) + self._moved(pause_s)
            self.clock.at_s += pause_s
        return given

    def _moved(self, s: float) -> float:
        target_kw = self.plan.power_kw if self.plan is not None else 0.0
        ramp_s = min(abs(target_kw - self.base_kw) / self.ramp_kw_per_s, s)
        sign = 1.0 if target_kw > self.base_kw else -1.0
        end_kw = self.base_kw + sign * self.ramp_kw_per_s * ramp_s
        moved_kws = 0.5 * (self.base_kw + end_kw) * ramp_s + end_kw * (s - ramp_s)
        self.base_kw = end_kw
        return moved_kws


def site_of(held: Held, ramp_kw_per_s: float = 20.0, horizon_s: float = 60.0) -> Site:
    clock = HandClock(FIRST.start)
    boards: list[Site] = []

    class Board:
        def publish(self, plan: Plan) -> None:
            boards[0].publish(plan)

    sold = SoldPlans(
        held,
        Board(),  # type: ignore[arg-type]
        clock,
        lambda: True,
        ramp_kw_per_s=ramp_kw_per_s,
        horizon_s=horizon_s,
        losses=tuple(rules_of(MarketSettings()).losses),
    )
    boards.append(Site(sold, clock, ramp_kw_per_s))
    return boards[0]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(-10, 10).map(lambda tenths: tenths / 10), min_size=3, max_size=3),
    st.floats(5.0, 200.0),
    st.sampled_from([5.0, 60.0, 900.0]),
)
def test_the_energy_of_each_blocks_plan_is_what_is_sold_but_for_the_ramp(
    sold_mw: list[float], ramp_kw_per_s: float, horizon_s: float
) -> None:
    """Half of each ramp lies on either side of its edge: what a block lacks is a quarter of what it
    would, began the ramp at the edge."""
    blocks = [FIRST.after(n) for n in range(3)]
    site = site_of(Held(dict(zip(blocks, sold_mw, strict=True))), ramp_kw_per_s, horizon_s)
    site.base_kw = 1000.0 * sold_mw[0]
    given_kws = site.pass_by(2 * 900.0)
    for n, block in enumerate(blocks[:2]):
        owed_kws = sold_mw[n] * 1000.0 * 900.0
        edges = [sold_mw[n + 1] - sold_mw[n], *([sold_mw[n] - sold_mw[n - 1]] if n else [])]
        ramps_kws = sum((1000.0 * each) ** 2 / (8.0 * ramp_kw_per_s) for each in edges)
        assert given_kws[block] == pytest.approx(owed_kws, abs=ramps_kws + 0.01), block


def test_losses_make_the_connection_give_more_than_is_sold() -> None:
    market = MarketSettings(dam_terms=TermsSettings(loss_pct=4.0))
    held = Held({FIRST: 0.48, FIRST.after(1): -0.5})
    sold = SoldPlans(
        held,
        None,  # type: ignore[arg-type]
        HandClock(FIRST.start),
        lambda: True,
        ramp_kw_per_s=20.0,
        horizon_s=60.0,
        losses=tuple(rules_of(market).losses),
    )
    assert sold.power_kw(FIRST) == pytest.approx(500.0)
    assert sold.power_kw(FIRST.after(1)) == pytest.approx(-480.0)


def test_a_result_at_the_very_edge_rules_within_a_look() -> None:
    held = Held({})
    site = site_of(held)
    site.pass_by(900.0 - 1.5)
    assert site.plan is None or site.plan.power_kw == 0.0
    held.mw[FIRST.after(1)] = 0.5
    given_kws = site.pass_by(1700.0)
    assert site.plan is not None
    assert site.plan.power_kw == 500.0
    lost_s = LOOK_S + 500.0 / 20.0
    assert given_kws[FIRST.after(1)] >= 500.0 * (800.0 - lost_s)
    held.mw[FIRST.after(1)] = 0.0  # and it is taken back after its block began
    site.pass_by(1710.0)
    assert site.plan.power_kw == 0.0


def test_what_is_not_known_is_not_planned() -> None:
    held = Held({FIRST: 0.5})
    held.ready = False
    site = site_of(held)
    site.pass_by(10.0)
    assert (site.plan, site.sold.ruling, site.sold.power_kw(FIRST)) == (None, None, 0.0)


def test_what_is_known_is_planned() -> None:
    site = site_of(Held({FIRST: 0.5}))
    site.pass_by(10.0)
    assert site.plan is not None
    assert site.plan.power_kw == pytest.approx(500.0)
    assert site.sold.power_kw(FIRST) * BLOCK_H == pytest.approx(125.0)
