"""The price file: everything is used or told, with its line."""

import math
import pickle
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.market_prices import FIRST, as_csv, invented
from vppd.market.blocks import Block
from vppd.market.prices import PriceHistory, PricesError, history_of, parse

DAY = date(2024, 3, 1)


def file_of(*rows: str, header: str = "datetime,price") -> str:
    return "\n".join([header, *rows])


def test_a_good_file_gives_every_block_and_no_fault() -> None:
    history = invented(3)
    read = parse(as_csv(history), "p.csv")
    assert read.faults == ()
    assert read.history == history
    assert read.history.whole() == tuple(history.days)


@pytest.mark.parametrize(
    "cell",
    ["2024-03-01 00:15", "2024-03-01T00:15:00", "2024-02-29T18:45:00Z", "2024-03-01T00:15+05:30"],
)
def test_times_are_ist_unless_they_say_so(cell: str) -> None:
    assert parse(file_of(f"{cell},5"), "p").history.days[DAY][1] == 5


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("2024-03-01 00:20,5", "quarter of an hour"),
        ("01/03/2024 00:15,5", "not a time"),
        ("2024-03-01 00:15,nan", "not a number"),
        ("2024-03-01 00:15,inf", "not a number"),
        ("2024-03-01 00:15,", "not a number"),
        ("2024-03-01 00:15", "too few"),
        ("0001-01-01 00:00,5", "2000"),
        ("2024-03-01 00:00,5", "already in line 2: the same price"),
        ("2024-03-01 00:00,6", "5 there, which is kept"),
        ("2024-02-29 23:45,6", "out of order"),
        ("2024-03-01 00:45,6", "2 missing before this: 2024-03-01 block 2 to 2024-03-01 block 3"),
    ],
)
def test_an_odd_row_is_told_with_its_line_and_the_rest_is_used(row: str, words: str) -> None:
    read = parse(file_of("2024-03-01 00:00,5", row), "p")
    assert [line for line, _ in read.faults] == [3]
    assert words in read.faults[0][1]
    assert read.history.days[DAY][0] == 5


@pytest.mark.parametrize(
    "text", ["", "a,b\n1,2", "datetime,price,price\n", "datetime,price\n", "datetime,price\nx,y"]
)
def test_a_file_that_gives_nothing_is_refused(text: str) -> None:
    with pytest.raises(PricesError, match=r"p\.csv:1"):
        parse(text, "p.csv")


@given(st.lists(st.tuples(st.integers(0, 200), st.one_of(st.floats(), st.just("x"))), min_size=1))
def test_no_row_is_lost_in_silence(rows: list[tuple[int, object]]) -> None:
    start = Block(DAY, 1)
    cells = [f"{start.after(number).start.isoformat()},{value}" for number, value in rows]
    try:
        read = parse(file_of(*cells), "p")
    except PricesError as error:
        told = error.faults
        used = 0
    else:
        told = read.faults
        used = sum(not math.isnan(price) for day in read.history.days.values() for price in day)
    refused = {
        line for line, text in told if "missing before" not in text and "out of order" not in text
    }
    assert used + len(refused - {1}) == len(rows)


def test_only_days_before_the_gate_are_known_and_holes_stay_holes() -> None:
    history = invented(4)
    days = tuple(history.days)
    assert tuple(history.before(days[2]).days) == days[:2]
    holed = history_of({Block(FIRST, 3): 7.0, Block(FIRST, 4): math.nan})
    assert holed.days[FIRST][2] == 7.0
    assert math.isnan(holed.days[FIRST][3])
    assert holed.whole() == ()
    assert holed.last == FIRST
    assert PriceHistory().last is None


def test_a_child_process_gets_the_same_history() -> None:
    history = invented(2)
    assert pickle.loads(pickle.dumps(history)) == history  # noqa: S301
