"""Orders: what is refused, how long they hold, how fast they move, and that nothing adds up."""

import math
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vppd.core.model import Cells, Plan, Priority, Reading, Synchro
from vppd.core.settings_scada import OrderSettings
from vppd.grid import orders
from vppd.grid.order_desk import OrderDesk
from vppd.grid.orders import Book, Ending, Offer, Order, OrderEvent, OrderKind, Refusal, Verb

OFFER = Offer(1000.0, 800.0, 300.0, 200.0, 50.0, 900.0)
RANGES = {
    OrderKind.ABSOLUTE: (-800.0, 1000.0),
    OrderKind.DELTA: (-1800.0, 1800.0),
    OrderKind.REACTIVE: (-900.0, 900.0),
}
SETTINGS = OrderSettings(expiry_s=60.0, hold_s=300.0, lease_s=5.0)
Policy = Literal["hold", "expire", "schedule"]
POLICIES: tuple[Policy, ...] = ("hold", "expire", "schedule")
powers = st.floats(-2000.0, 2000.0)


def order(
    power_kw: float = 100.0, kind: OrderKind = OrderKind.ABSOLUTE, at_s: float = 0.0
) -> Order:
    return Order(kind, power_kw, "ems", at_s)


def taken(*given_orders: Order, settings: OrderSettings = SETTINGS) -> Book:
    book = Book()
    for each in given_orders:
        assert orders.refusal(book, each, settings, OFFER) is None
        book = orders.accept(book, each, settings, OFFER.base_kw)
    return book


def at(book: Book, now_s: float, settings: OrderSettings = SETTINGS, offer: Offer = OFFER) -> Book:
    return orders.advance(book, settings, offer, now_s)[0]


@given(power_kw=st.floats(allow_nan=True, allow_infinity=True), kind=st.sampled_from(OrderKind))
def test_only_powers_of_the_site_are_taken(power_kw: float, kind: OrderKind) -> None:
    refused = orders.refusal(Book(), order(power_kw, kind), SETTINGS, OFFER)
    low_kw, high_kw = RANGES[kind]
    assert (refused is None) == (low_kw <= power_kw <= high_kw)
    if refused is not None:
        number = math.isfinite(power_kw)
        assert refused[0] is (Refusal.OUT_OF_RANGE if number else Refusal.NOT_A_NUMBER)
        assert refused[1]


def test_the_settings_narrow_the_range_and_never_widen_it() -> None:
    narrow = OrderSettings(export_max_kw=500.0, import_max_kw=5000.0)
    for power_kw, fits in ((500.0, True), (501.0, False), (-800.0, True), (-801.0, False)):
        assert (orders.refusal(Book(), order(power_kw), narrow, OFFER) is None) is fits
    narrow = OrderSettings(reactive_max_kvar=300.0)
    for kvar, fits in ((300.0, True), (-300.0, True), (301.0, False), (-301.0, False)):
        asked = order(kvar, OrderKind.REACTIVE)
        assert (orders.refusal(Book(), asked, narrow, OFFER) is None) is fits


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"valid_s": 0.0}, Refusal.BAD_VALIDITY),
        ({"valid_s": math.nan}, Refusal.BAD_VALIDITY),
        ({"ramp_kw_per_s": -1.0}, Refusal.BAD_VALIDITY),
        ({"issued_s": math.inf}, Refusal.BAD_VALIDITY),
        ({"issued_s": -1.0}, Refusal.OUTDATED),
    ],
)
def test_what_has_no_sense_is_refused(change: dict[str, float], why: Refusal) -> None:
    odd = Order(**{**asdict(order()), **change})
    refused = orders.refusal(taken(order()), odd, SETTINGS, OFFER)
    assert refused is not None
    assert refused[0] is why


def test_orders_switched_off_are_refused() -> None:
    refused = orders.refusal(
        orders.switched(Book(), "order", "ems", enabled=False), order(), SETTINGS, OFFER
    )
    assert refused is not None
    assert refused[0] is Refusal.SWITCHED_OFF


@given(st.lists(st.tuples(st.floats(-200.0, 200.0), st.sampled_from(OrderKind)), min_size=1))
def test_the_newest_of_a_kind_rules_and_nothing_adds_up(
    sent: list[tuple[float, OrderKind]],
) -> None:
    book = taken(*(order(power_kw, kind, n) for n, (power_kw, kind) in enumerate(sent)))
    for kind in {kind for _, kind in sent}:
        last = [power_kw for power_kw, each in sent if each is kind][-1]
        assert book.power_kw(kind) == last
        repeated = orders.accept(book, book.standing[kind].order, SETTINGS, 0.0)
        assert repeated.power_kw(kind) == last


@given(
    policy=st.sampled_from(POLICIES),
    lost_s=st.floats(1.0, 59.0),
    look_s=st.floats(60.5, 1000.0),
    endless=st.booleans(),
)
def test_link_loss(policy: Policy, lost_s: float, look_s: float, endless: bool) -> None:
    settings = replace(SETTINGS, on_link_loss=policy, expiry_s=None if endless else 60.0)
    book = orders.lose(taken(order(), settings=settings), "ems", lost_s)
    just_after = at(book, lost_s + 0.5, settings).power_kw(OrderKind.ABSOLUTE)
    assert (just_after is not None) == (policy != "schedule")
    later, ended = orders.advance(book, settings, OFFER, look_s)
    kept = later.power_kw(OrderKind.ABSOLUTE) is not None
    held = look_s < lost_s + settings.hold_s
    assert kept == {"hold": held, "expire": endless and held, "schedule": False}[policy]
    assert len(ended) == (not kept)


def test_another_link_lost_is_nothing_to_an_order() -> None:
    settings = replace(SETTINGS, on_link_loss="schedule")
    book = orders.lose(taken(order(), settings=settings), "mqtt", 1.0)
    assert at(book, 2.0, settings).power_kw(OrderKind.ABSOLUTE) == 100.0


def test_a_link_that_is_back_gives_the_held_order_its_time_anew() -> None:
    book = orders.lose(taken(order()), "ems", 10.0)
    book = orders.find(at(book, 200.0), "ems", SETTINGS, 200.0)
    assert at(book, 259.0).power_kw(OrderKind.ABSOLUTE) == 100.0
    gone, ended = orders.advance(book, SETTINGS, OFFER, 260.0)
    assert not gone.standing
    assert [why for _, why in ended] == [Ending.EXPIRED]


@given(targets=st.lists(st.floats(-800.0, 1000.0), min_size=1, max_size=8), ramp=st.floats(1, 500))
def test_a_ramped_order_starts_at_the_base_and_moves_no_faster(
    targets: list[float], ramp: float
) -> None:
    settings = replace(SETTINGS, ramp_kw_per_s=ramp)
    book, now_s, before_kw = at(Book(), 1.0, settings), 1.0, OFFER.base_kw
    for target_kw in targets:
        book = orders.accept(book, order(target_kw, at_s=now_s), settings, OFFER.base_kw)
        for _ in range(3):
            now_s += 0.5
            book = at(book, now_s, settings)
            at_kw = book.standing[OrderKind.ABSOLUTE].at_kw
            assert abs(at_kw - before_kw) <= ramp * 0.5 + 1e-9
            assert abs(at_kw - target_kw) <= abs(before_kw - target_kw) + 1e-9
            before_kw = at_kw


@given(power_kw=st.floats(-1800.0, 1800.0), up_kw=st.floats(0, 500), down_kw=st.floats(0, 500))
def test_regulation_stays_in_what_is_offered(power_kw: float, up_kw: float, down_kw: float) -> None:
    settings = replace(SETTINGS, regulation_up_max_kw=250.0)
    offer = Offer(1000.0, 800.0, up_kw, down_kw)
    limits = orders.regulation(settings, offer)
    assert (limits.up_kw, limits.down_kw) == (min(up_kw, 250.0), down_kw)
    book = at(taken(order(power_kw, OrderKind.DELTA)), 1.0, settings, offer)
    assert book.standing[OrderKind.DELTA].at_kw == min(max(power_kw, -down_kw), limits.up_kw)
    assert book.power_kw(OrderKind.DELTA) == power_kw  # what was ordered stays known


def test_nothing_known_of_now_offers_nothing() -> None:
    limits = orders.regulation(SETTINGS, Offer(1000.0, 800.0))
    assert (limits.up_kw, limits.down_kw) == (0.0, 0.0)


@given(age_s=st.floats(0.0, 59.0))
def test_a_plan_is_a_lease_within_the_order(age_s: float) -> None:
    sent = (order(), order(-20.0, OrderKind.DELTA), order(30.0, OrderKind.REACTIVE))
    book = at(taken(*sent), max(age_s, 1e-3))
    for kind, standing in book.standing.items():
        plan = orders.plan_of(standing, SETTINGS, age_s)
        assert plan.valid_until_s == min(age_s + 5.0, 60.0)
        assert plan.priority is Priority.ORDER
        assert plan.adds is (kind is not OrderKind.ABSOLUTE)
        reactive = kind is OrderKind.REACTIVE
        assert (plan.power_kw == 0.0, plan.reactive_kvar) == (reactive, 30.0 if reactive else 0.0)


class Board:
    """Keeps what is published, and the time."""

    def __init__(self) -> None:
        self.plans: list[Plan] = []
        self.at_s = 100.0

    def publish(self, message: Reading | Synchro | Plan | Cells) -> None:
        assert isinstance(message, Plan)
        self.plans.append(message)

    def now_s(self) -> float:
        return self.at_s

    def utc(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    async def sleep_until(self, deadline_s: float) -> None:
        self.at_s = deadline_s


def test_the_desk_publishes_renews_ends_and_tells() -> None:
    board, told = Board(), list[OrderEvent]()
    desk = OrderDesk(SETTINGS, lambda: OFFER, board, board, told.append)
    assert desk.order(order(100.0, at_s=100.0)) is None
    assert desk.order(order(100.0, at_s=100.0)) is None  # a repetition renews
    assert [plan.power_kw for plan in board.plans] == [100.0, 100.0]
    published = len(board.plans)
    desk.renew()
    assert len(board.plans) == published  # nothing new, and not due
    board.at_s = 103.0
    desk.renew()
    assert board.plans[-1].valid_until_s == 108.0
    assert desk.order(order(math.nan, at_s=103.0)) is not None
    board.at_s = 160.0
    desk.renew()
    assert board.plans[-1].valid_until_s == 160.0  # over at once
    assert [event.verb for event in told] == [
        Verb.ACCEPTED,
        Verb.ACCEPTED,
        Verb.REFUSED,
        Verb.ENDED,
    ]
    assert [event.reason for event in told] == ["", "", "not_a_number", "expired"]
    published = len(board.plans)
    desk.renew()
    assert len(board.plans) == published


def test_switching_off_gives_up_what_is_in_force() -> None:
    board, told = Board(), list[OrderEvent]()
    desk = OrderDesk(SETTINGS, lambda: OFFER, board, board, told.append)
    desk.order(order(at_s=100.0))
    told.clear()
    assert desk.enable("operator", "operator:a", enabled=False) is None
    assert board.plans[-1].valid_until_s == 100.0
    assert desk.order(order(at_s=100.0)) is not None
    assert desk.enable("order", "iec104 10.0.0.9", enabled=True) == (
        "operator:a has switched them off"
    )
    assert desk.enable("operator", "operator:a", enabled=True) is None
    assert desk.order(order(at_s=100.0)) is None
    assert [(event.verb, event.source, event.text) for event in told] == [
        (Verb.SWITCHED, "operator:a", "orders off"),
        (Verb.ENDED, "operator:a", ""),
        (Verb.REFUSED, "ems", "orders are switched off by operator:a"),
        (Verb.REFUSED, "iec104 10.0.0.9", "orders on: operator:a has switched them off"),
        (Verb.SWITCHED, "operator:a", "orders on"),
        (Verb.ACCEPTED, "ems", ""),
    ]


def test_what_a_master_switched_off_anybody_switches_on() -> None:
    board = Board()
    for party in ("order", "operator"):
        desk = OrderDesk(SETTINGS, lambda: OFFER, board, board, lambda _: None)
        desk.enable("order", "iec104 a", enabled=False)
        assert desk.refusal(order(at_s=100.0)) == (
            Refusal.SWITCHED_OFF,
            "orders are switched off by iec104 a",
        )
        assert desk.enable(party, "b", enabled=True) is None
        assert desk.refusal(order(at_s=100.0)) is None
