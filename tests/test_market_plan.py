"""The plan: always there, never outside its limits, and worth more the more it may do."""

import math
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.market_prices import FIRST, invented
from vppd.market.blocks import BLOCK_H, blocks_of
from vppd.market.solving.plan import Plan, Reserve, Task, plan_of, worth_of_energy
from vppd.market.storage import Storage, Terms

ONE_WAY = math.sqrt(0.85)
STORAGE = Storage(0.0, 2.0, 1.0, 1.0, ONE_WAY, ONE_WAY, 1.5, 1000.0)
BLOCKS = (*blocks_of(FIRST), *blocks_of(FIRST + timedelta(days=1)))
PRICES = [price for day in invented(2).days.values() for price in day]
EDGE = 1e-6

storages = st.builds(
    Storage,
    low_mwh=st.floats(0, 0.5),
    high_mwh=st.floats(0.6, 4),
    charge_mw=st.floats(0, 2),
    discharge_mw=st.floats(0, 2),
    charge_efficiency=st.floats(0.7, 1),
    discharge_efficiency=st.floats(0.7, 1),
    cycles_per_day=st.floats(0, 3),
    wear_rs_per_mwh=st.floats(0, 3000),
)
price_lists = st.lists(st.floats(-300, 10_000), min_size=24, max_size=24).map(
    lambda hours: [price for price in hours for _ in range(4)]
)


def task(**changes: Any) -> Task:
    return replace(Task(STORAGE, Terms(), BLOCKS, PRICES, 0.0), **changes)


def sold_mwh(plan: Plan) -> float:
    return sum(max(power, 0.0) for power in plan.power_mw) * BLOCK_H


def held_by(job: Task, plan: Plan) -> None:
    """Every limit, counted here again block by block."""
    storage, stored, day_mwh = job.storage, job.start_mwh, dict[date, float]()
    assert len(plan.power_mw) == len(job.blocks)
    for block, power, after in zip(job.blocks, plan.power_mw, plan.stored_mwh, strict=True):
        assert -storage.charge_mw - EDGE <= power <= storage.discharge_mw + EDGE
        stored += storage.stored_mwh(power)
        assert stored == pytest.approx(after, abs=1e-5)
        assert storage.low_mwh - EDGE <= after <= storage.high_mwh + EDGE
        day_mwh[block.day] = day_mwh.get(block.day, 0.0) + max(power, 0.0) * BLOCK_H
    for day, energy in day_mwh.items():
        left = storage.day_discharge_mwh - job.discharged_mwh.get(day, 0.0)
        assert energy <= max(left, 0.0) + EDGE


@settings(max_examples=25, deadline=None)
@given(storages, price_lists, st.floats(0, 1), st.floats(0, 3))
def test_a_plan_from_inside_keeps_every_limit(
    storage: Storage, prices: list[float], share: float, discharged: float
) -> None:
    start = storage.low_mwh + share * storage.usable_mwh
    job = Task(storage, Terms(), BLOCKS[:96], prices, start, discharged_mwh={FIRST: discharged})
    plan = plan_of(job)
    assert plan.bent == ()
    held_by(job, plan)


@settings(max_examples=15, deadline=None)
@given(
    storages,
    st.floats(-1, 6),
    st.floats(0, 6),
    st.dictionaries(st.sampled_from(BLOCKS), st.floats(-3, 3), max_size=6),
    st.builds(Reserve, st.floats(0, 3), st.floats(0, 3), st.floats(0, 4)),
)
def test_there_is_always_a_plan_and_it_says_what_it_bent(
    storage: Storage, start: float, end: float, held: dict[Any, float], reserve: Reserve
) -> None:
    job = Task(storage, Terms(), BLOCKS, PRICES, start, held_mw=held, reserve=reserve, end_mwh=end)
    plan = plan_of(job)
    for power in plan.power_mw:
        assert -storage.charge_mw - EDGE <= power <= storage.discharge_mw + EDGE
    if not plan.bent:
        held_by(job, plan)
        assert plan.stored_mwh[-1] >= end - EDGE
        for block, power in held.items():
            assert plan.power_mw[BLOCKS.index(block)] == pytest.approx(power, abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "limit", "excess"),
    [
        ({"end_mwh": 3.0}, "end", 1.0),
        ({"held_mw": {BLOCKS[0]: 0.8}}, "held", 0.2),
        ({"held_mw": dict.fromkeys(BLOCKS[:96], 0.5), "start_mwh": 2.0}, "held", None),
        ({"reserve": Reserve(0.0, 1.0, 4.0)}, "reserve", None),
    ],
)
def test_the_limit_that_cannot_be_kept_is_named_with_its_price(
    changes: dict[str, Any], limit: str, excess: float | None
) -> None:
    plan = plan_of(task(**changes))
    assert limit in {bent.limit for bent in plan.bent}
    for bent in plan.bent:
        assert bent.price_rs_per_mwh > 10_000.0
        if excess is not None:
            assert bent.excess_mwh == pytest.approx(excess, abs=1e-4)
    assert math.isfinite(plan.gain_rs)


def test_cheaper_limits_bend_first() -> None:
    """Energy wanted at the end gives way before what is sold already."""
    late = dict.fromkeys(BLOCKS[-6:], 1.0)
    plan = plan_of(task(end_mwh=2.0, held_mw=late))
    assert {bent.limit for bent in plan.bent} == {"end"}


@settings(max_examples=20, deadline=None)
@given(price_lists, st.floats(0, 4000), st.floats(0, 4000))
def test_more_wear_never_sells_more(prices: list[float], one: float, other: float) -> None:
    least, most = sorted((one, other))
    sold = [
        sold_mwh(
            plan_of(Task(replace(STORAGE, wear_rs_per_mwh=wear), Terms(), BLOCKS[:96], prices, 1.0))
        )
        for wear in (least, most)
    ]
    assert sold[1] <= sold[0] + 1e-4 or math.isclose(least, most, rel_tol=1e-6, abs_tol=1e-3)


def test_no_block_buys_and_sells_even_when_burning_energy_pays() -> None:
    """Far below zero a relaxed program would do both at once; whole numbers forbid it."""
    plan = plan_of(task(price_rs_per_mwh=[-9000.0] * len(BLOCKS)))
    assert plan.mixed
    held_by(task(), plan)
    assert not plan_of(task()).mixed


def test_the_same_task_gives_the_same_bytes() -> None:
    assert repr(replace(plan_of(task()), solve_s=0.0)) == repr(
        replace(plan_of(task()), solve_s=0.0)
    )


def test_it_buys_low_and_sells_high_and_knows_what_it_earned() -> None:
    plan = plan_of(task())
    storage, fee = STORAGE, Terms().fee_rs_per_mwh
    earned = sum(
        (price - fee - storage.wear_rs_per_mwh) * power if power > 0 else (price + fee) * power
        for price, power in zip(PRICES, plan.power_mw, strict=True)
    )
    assert plan.gain_rs == pytest.approx(earned * BLOCK_H, rel=1e-6)
    assert plan.gain_rs > 0
    bought = [price for price, power in zip(PRICES, plan.power_mw, strict=True) if power < -0.5]
    sold = [price for price, power in zip(PRICES, plan.power_mw, strict=True) if power > 0.5]
    assert max(bought) < min(sold)


def test_reserve_keeps_power_and_energy_free() -> None:
    reserve = Reserve(0.3, 0.2, 1.0)
    plan = plan_of(task(start_mwh=1.0, reserve=reserve))
    assert plan.bent == ()
    assert max(plan.power_mw) <= 0.7 + EDGE
    assert min(plan.power_mw) >= -0.8 - EDGE
    assert min(plan.stored_mwh) >= 0.3 / ONE_WAY - EDGE
    assert max(plan.stored_mwh) <= 2.0 - 0.2 * ONE_WAY + EDGE


def test_what_energy_is_worth_is_what_a_plan_from_there_earns() -> None:
    lines = worth_of_energy(task())
    slopes = [slope for _, slope in lines]
    assert slopes == sorted(slopes, reverse=True)
    for start in (0.0, 0.5, 1.0, 2.0):
        worth = min(rs + slope * start for rs, slope in lines)
        assert worth == pytest.approx(plan_of(task(start_mwh=start)).gain_rs, rel=1e-6)


@pytest.mark.parametrize("prices", [[], [1.0], [math.nan] * 192, [math.inf] * 192])
def test_unusable_prices_are_refused(prices: list[float]) -> None:
    with pytest.raises(ValueError, match="price"):
        plan_of(task(price_rs_per_mwh=prices))
