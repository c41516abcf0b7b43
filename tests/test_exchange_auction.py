"""The simulated exchange's auction: one price clears, and nobody gets more than he bid."""

from datetime import date, timedelta

from hypothesis import example, given, settings
from hypothesis import strategies as st

from vppd.sim.exchange_auction import Corridor, Step, clear, crossing, shared
from vppd.sim.exchange_crowd import Crowd

FLOOR, CAP = 0, 100
CORRIDOR_AREAS = frozenset({"S1"})
DAY = date(2026, 1, 6)

steps = st.lists(
    st.builds(
        Step,
        owner=st.sampled_from(["a", "b", "c"]),
        area=st.sampled_from(["N1", "S1", "W1"]),
        sells=st.booleans(),
        limit_paise=st.integers(FLOOR, CAP),
        lots=st.integers(1, 50),
    ),
    max_size=24,
)

AT_THE_FLOOR = [  # imports come before those who sell at any price
    Step("a", "N1", True, FLOOR, 20),
    Step("b", "S1", True, FLOOR, 10),
    Step("c", "S1", False, FLOOR, 10),
]


@settings(deadline=None)
@given(steps)
def test_one_price_clears(book: list[Step]) -> None:
    price, taken = crossing(book, FLOOR, CAP)
    assert FLOOR <= price <= CAP
    sold = sum(lots for step, lots in zip(book, taken, strict=True) if step.sells)
    bought = sum(lots for step, lots in zip(book, taken, strict=True) if not step.sells)
    assert sold == bought
    for step, lots in zip(book, taken, strict=True):
        better = step.limit_paise < price if step.sells else step.limit_paise > price
        assert 0 <= lots <= step.lots
        if better:
            assert lots == step.lots, "who bid better than the price is served in full"
        elif step.limit_paise != price:
            assert lots == 0, "nobody trades at a price worse than bid"


@settings(deadline=None)
@given(steps)
def test_no_other_price_would_move_more(book: list[Step]) -> None:
    _, taken = crossing(book, FLOOR, CAP)
    sold = sum(lots for step, lots in zip(book, taken, strict=True) if step.sells)
    assert sold == max(
        min(
            sum(step.lots for step in book if step.sells and step.limit_paise <= price),
            sum(step.lots for step in book if not step.sells and step.limit_paise >= price),
        )
        for price in range(FLOOR, CAP + 1)
    )


@settings(deadline=None)
@given(steps, st.integers(0, 60))
@example(AT_THE_FLOOR, 5)
def test_a_full_corridor_splits_the_price_and_is_used_up(book: list[Step], most: int) -> None:
    hammer = clear(book, FLOOR, CAP, Corridor(CORRIDOR_AREAS, most))
    flow = {True: 0, False: 0}
    for step, lots in zip(book, hammer.taken_lots, strict=True):
        assert 0 <= lots <= step.lots
        flow[step.area in CORRIDOR_AREAS] += -lots if step.sells else lots
        price = hammer.price_paise[step.area]
        assert not lots or (
            step.limit_paise <= price if step.sells else step.limit_paise >= price
        ), "each side's own price is within its bids"
    assert flow[True] == -flow[False], "what one side imports the other sends"
    assert abs(flow[True]) <= most
    free = clear(book, FLOOR, CAP)
    if hammer.taken_lots != free.taken_lots:
        assert abs(flow[True]) == most
        inside = next((hammer.price_paise[a] for a in hammer.price_paise if a == "S1"), None)
        outside = next((hammer.price_paise[a] for a in hammer.price_paise if a != "S1"), None)
        if inside is not None and outside is not None and most:
            assert (inside >= outside) if flow[True] > 0 else (inside <= outside)


@settings(deadline=None)
@given(st.integers(0, 500), st.lists(st.integers(1, 90), max_size=8))
def test_the_margin_is_shared_by_size(lots: int, wishes: list[int]) -> None:
    parts = shared(lots, wishes)
    assert sum(parts) == min(lots, sum(wishes))
    for part, wish in zip(parts, wishes, strict=True):
        assert 0 <= part <= wish
        assert abs(part - min(1.0, lots / sum(wishes)) * wish) < 1.0


def test_at_the_margin_a_step_is_taken_in_part() -> None:
    book = [
        Step("ours", "S1", True, 50, 30),
        Step("other", "S1", True, 50, 10),
        Step("buyer", "S1", False, 80, 20),
        Step("sleeper", "S1", False, 40, 100),
    ]
    assert clear(book, FLOOR, CAP).price_paise == {"S1": 50}
    assert clear(book, FLOOR, CAP).taken_lots == (15, 5, 20, 0)


def test_without_a_seller_the_price_is_between_the_last_buyer_and_the_cap() -> None:
    price, taken = crossing([Step("b", "S1", False, 60, 5)], FLOOR, CAP)
    assert (price, taken) == (80, [0])


def test_a_day_of_the_crowd_is_low_at_noon_high_in_the_evening_and_its_own() -> None:
    crowd, again, other = Crowd(3), Crowd(3), Crowd(4)
    noon, evening, capped = 0.0, 0.0, 0
    for offset in range(30):
        day = DAY + timedelta(days=offset)
        for number in (52, 78):
            book = crowd.steps("dam", day, number, 0, 1_000_000)
            price = clear(book, 0, 1_000_000).price_paise["S1"]
            capped += price == 1_000_000
            if number == 52:
                noon += price / 30
            else:
                evening += price / 30
    assert 150_000 < noon < 400_000
    assert 550_000 < evening < 1_000_000
    assert 0 < capped < 30
    assert crowd.steps("rtm", DAY, 5, 0, 100) == again.steps("rtm", DAY, 5, 0, 100)
    assert crowd.steps("rtm", DAY, 5, 0, 100) != other.steps("rtm", DAY, 5, 0, 100)
