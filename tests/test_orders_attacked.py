"""Orders under attack: what a hostile or careless hour does to those in force, to their ramps, and
to a response whose units come and go. The site on virtual time, and the pure book."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.api_site import make_rig, open_directory, serving
from tests.site_rig import PLAIN_DROOP, SiteRig, site_settings
from tests.test_droop_ffr import FFR
from tests.virtual_time import virtual
from vppd.core.alarms import Code
from vppd.core.model import SITE, Priority
from vppd.core.settings_scada import OrderSettings
from vppd.grid import orders
from vppd.grid.droop_curve import curve_kw, side_of, stepped_now
from vppd.grid.droop_ffr import FfrMemory, respond
from vppd.grid.order_desk import OrderDesk
from vppd.grid.orders import Book, Ending, Offer, Order, OrderKind
from vppd.orders import SiteBoard
from vppd.spine.clock import SystemClock

PAIR = ("A", "B")
OFFER = Offer(1000.0, 800.0, 300.0, 200.0)
DELTA, ABSOLUTE = OrderKind.DELTA, OrderKind.ABSOLUTE


def sent(rig: SiteRig, kind: OrderKind, power_kw: float, ramp: float | None = None) -> None:
    order = Order(kind, power_kw, "iec104", rig.now_s, ramp_kw_per_s=ramp)
    assert rig.house.desk.order(order) is None


# ---- regulation ---------------------------------------------------------------------------------


@virtual
@pytest.mark.parametrize("sign", [1.0, -1.0])
async def test_a_delta_order_is_not_bounded_by_what_it_gives_itself(sign: float) -> None:
    """150 of 200 kW: once 100 are given only 100 more can be, and yet 150 are what was offered."""
    made = site_settings(PAIR, orders=OrderSettings(expiry_s=600.0))
    async with SiteRig(made) as rig:
        rig.plan(sign * 20.0, priority=Priority.SCHEDULE, source="schedule")
        await rig.run(3.0)
        sent(rig, DELTA, sign * 150.0)
        for _ in range(15):
            await rig.run(1.0)
            limits = rig.house.desk.regulation()
            along, against = limits.up_kw, limits.down_kw
            if sign < 0.0:
                along, against = against, along
            assert along == pytest.approx(180.0, abs=0.5)
            assert against == pytest.approx(220.0, abs=0.5)
        assert rig.sum_kw() == pytest.approx(sign * 170.0, abs=0.3)


@virtual
async def test_a_delta_leaves_droop_what_it_gives_and_comes_when_that_is_over() -> None:
    made = site_settings(PAIR, orders=OrderSettings(expiry_s=600.0))
    async with SiteRig(made) as rig:
        rig.step(49.0)  # 80 kW
        await rig.until(lambda: rig.sum_kw() > 79.0, 3.0)
        sent(rig, DELTA, 190.0)
        await rig.run(15.0)
        assert rig.house.desk.regulation().up_kw == pytest.approx(120.0, abs=0.5)
        assert rig.sum_kw() == pytest.approx(200.0, abs=0.3)
        rig.step(50.0)
        await rig.until(lambda: abs(rig.sum_kw() - 190.0) < 0.3, 15.0)


@virtual
async def test_an_absolute_order_does_not_count_the_delta_twice() -> None:
    """Its ramp begins at the base without the delta, which goes on top."""
    made = site_settings(PAIR, orders=OrderSettings(expiry_s=600.0, ramp_kw_per_s=1.0))
    async with SiteRig(made) as rig:
        sent(rig, DELTA, 40.0)
        await rig.run(45.0)
        assert rig.sum_kw() == pytest.approx(40.0, abs=0.3)
        sent(rig, ABSOLUTE, 60.0)
        for second in range(1, 11):
            await rig.run(1.0)
            assert rig.sum_kw() <= 40.0 + second + 0.3
        assert rig.sum_kw() == pytest.approx(50.0, abs=1.3)


# ---- ramps --------------------------------------------------------------------------------------


@virtual
async def test_no_order_moves_faster_than_the_settings_and_none_has_a_start() -> None:
    made = site_settings(PAIR, orders=OrderSettings(expiry_s=600.0, ramp_kw_per_s=1.0))
    async with SiteRig(made) as rig:
        await rig.run(0.95)  # the desk has slept for most of a second
        sent(rig, ABSOLUTE, 100.0, ramp=1000.0)
        assert rig.house.desk.book.standing[ABSOLUTE].at_kw == 0.0
        await rig.run(5.0)
        assert rig.sum_kw() == pytest.approx(5.0, abs=0.6)


@given(
    own=st.none() | st.floats(0.01, 1000.0),
    most=st.none() | st.floats(0.01, 1000.0),
    passed_s=st.floats(0.0, 10.0),
)
def test_the_slower_of_both_ramps_counts(
    own: float | None, most: float | None, passed_s: float
) -> None:
    settings = OrderSettings(ramp_kw_per_s=most)
    book = orders.advance(Book(), settings, OFFER, 1.0)[0]
    order = Order(ABSOLUTE, 900.0, "ems", 1.0, ramp_kw_per_s=own)
    book = orders.accept(book, order, settings, 0.0)
    book = orders.advance(book, settings, OFFER, 1.0 + passed_s)[0]
    at_kw, given = book.standing[ABSOLUTE].at_kw, [each for each in (own, most) if each is not None]
    assert at_kw == pytest.approx(min(min(given) * passed_s, 900.0) if given else 900.0)


# ---- links --------------------------------------------------------------------------------------


@given(
    aways=st.lists(st.tuples(st.floats(0.1, 70.0), st.floats(0.1, 300.0)), min_size=1, max_size=40),
    valid_s=st.floats(1.0, 100.0),
)
def test_a_link_that_comes_and_goes_keeps_no_order_for_ever(
    aways: list[tuple[float, float]], valid_s: float
) -> None:
    """An order that is never repeated is over by its time and one hold, however the link flaps."""
    settings = OrderSettings(expiry_s=valid_s, hold_s=300.0, on_link_loss="hold")
    book, now_s = orders.accept(Book(), Order(ABSOLUTE, 9.0, "ems", 1.0), settings, 0.0), 1.0
    for there_s, away_s in aways * 3:
        now_s += there_s
        book = orders.lose(orders.advance(book, settings, OFFER, now_s)[0], "ems", now_s)
        now_s += away_s
        book = orders.find(orders.advance(book, settings, OFFER, now_s)[0], "ems", settings, now_s)
        if now_s >= 1.0 + valid_s + 300.0:
            assert not orders.advance(book, settings, OFFER, now_s)[0].standing


def test_a_link_lost_at_the_last_moment_still_holds_the_whole_time() -> None:
    settings = OrderSettings(expiry_s=60.0, hold_s=300.0, on_link_loss="hold")
    book = orders.accept(Book(), Order(ABSOLUTE, 9.0, "ems", 0.0), settings, 0.0)
    book = orders.lose(book, "ems", 59.9)
    assert orders.advance(book, settings, OFFER, 359.8)[0].standing
    _, ended = orders.advance(book, settings, OFFER, 359.91)
    assert [why for _, why in ended] == [Ending.LINK_LOST]


# ---- stops --------------------------------------------------------------------------------------


async def test_an_emergency_stop_gives_up_what_was_ordered() -> None:
    """Or it would come back with the reset."""
    with open_directory() as directory:
        made = make_rig(Path(directory) / "sock", clock=SystemClock())
        site = made.site
        site.desk = OrderDesk(OrderSettings(), lambda: OFFER, site.bus, site.clock, lambda _: None)
        async with serving(made) as rig:
            await rig.post("/v1/orders", {"kind": "absolute", "power_kw": 50})
            unit = site.assets[0].id
            await rig.post(f"/v1/units/{unit}/control", {"command": "emergency_stop"})
            assert site.desk.book.power_kw(ABSOLUTE) == 50.0  # the others go on
            await rig.post("/v1/units/site/control", {"command": "emergency_stop"})
            assert not site.desk.book.standing
            assert not [plan for plan in site.bus.plans() if plan.source == "order"]


# ---- a response whose units come and go ---------------------------------------------------------


@virtual
async def test_a_response_that_nobody_could_give_is_not_handed_back() -> None:
    droop = replace(PLAIN_DROOP, sustain_s=4.0, handback_s=2.0)
    async with SiteRig(site_settings(PAIR, droop=droop)) as rig:
        for name in PAIR:
            rig.plant.inject("silence", name)
        await rig.until(lambda: all(rig.state(name) == "lost" for name in PAIR), 5.0)
        rig.step(49.5)
        await rig.run(10.0)
        for name in PAIR:
            rig.plant.clear("silence", name)
        await rig.until(lambda: abs(rig.sum_kw() - 40.0) < 0.5, 15.0)
        await rig.until(lambda: rig.sum_kw() == 0.0, 15.0)  # and then its own time passes


@given(
    seen=st.lists(st.floats(49.0, 51.0), min_size=1, max_size=12),
    half_hz=st.floats(0.001, 0.2),
    inside_hz=st.floats(0.0, 2.0),
    step_hz=st.none() | st.floats(0.001, 0.5),
)
def test_no_hysteresis_answers_the_wrong_side(
    seen: list[float], half_hz: float, inside_hz: float, step_hz: float | None
) -> None:
    """A hysteresis wider than the deadband would hold one side past nominal, and its step with it:
    discharge into a high frequency."""
    droop = replace(
        PLAIN_DROOP,
        deadband_low_hz=50.0 - half_hz,
        deadband_high_hz=50.0 + half_hz,
        reentry_hysteresis_hz=inside_hz,
        step_deviation_hz=step_hz,
        step_power_kw=50.0,
    )
    side = stepped = 0
    for hz in seen:
        side = side_of(hz, droop, side)
        stepped = stepped_now(hz, side, droop, stepped)
        given_kw = curve_kw(hz, side, droop, 100.0, stepped=stepped != 0)
        assert given_kw * (50.0 - hz) >= 0.0
        assert abs(hz - 50.0) <= half_hz + 1e-9 or given_kw * (50.0 - hz) > 0.0


@given(hz=st.floats(49.86, 49.99), for_s=st.integers(1, 400))
def test_a_trigger_that_still_stands_does_not_fire_again(hz: float, for_s: int) -> None:
    """A trigger inside the deadband of droop: one block, however long it stands."""
    ffr = replace(FFR, trigger_low_hz=49.99, duration_s=10.0, recovery_s=10.0, rearm_s=30.0)
    memory, blocks, before_kw = FfrMemory(), 0, 0.0
    for second in range(for_s):
        kw, memory = respond(hz, 0, 0.0, ffr, 200.0, float(second), memory)
        blocks += before_kw == 0.0 and kw != 0.0
        before_kw = kw
    assert blocks == 1


# ---- what the station shows ---------------------------------------------------------------------


@virtual
async def test_a_critical_alarm_is_shown_to_those_above() -> None:
    """That of a broken journal tells a master that its orders are not written down."""
    async with SiteRig(site_settings(PAIR)) as rig:
        house = rig.house
        limit = house.tick.duty.connection
        board = SiteBoard(
            house.assets,
            limit,
            house.bus,
            house.gate,
            lambda: house.decision,
            lambda: True,
            house.alarms,
        )
        assert board.values()["alarm"] == 0.0
        house.alarms.set(Code.JOURNAL_DROPPED, SITE, True)  # a warning
        assert board.values()["alarm"] == 0.0
        house.alarms.set(Code.JOURNAL_FAILED, SITE, True, "disk full")
        assert board.values()["alarm"] == 1.0
        house.alarms.set(Code.JOURNAL_FAILED, SITE, False)
        assert board.values()["alarm"] == 0.0
