"""The schedule file: blocks of Indian time, and every wrong line told."""

import contextlib
from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vppd.market.blocks import BLOCK, IST, Block, block_at, blocks_of
from vppd.market.schedule import Entry, ScheduleError, parse

days = st.dates(date(2000, 1, 1), date(2199, 12, 31))
blocks = st.integers(1, 96)
powers = st.floats(-1e6, 1e6).map(lambda power: round(power, 3))
instants = st.integers(0, 6_000_000_000).map(
    lambda second: datetime(2000, 1, 2, tzinfo=UTC) + timedelta(seconds=second)
)


# --- blocks and time ---


@pytest.mark.parametrize(
    ("day", "block", "utc"),
    [
        (date(2026, 3, 1), 1, datetime(2026, 2, 28, 18, 30, tzinfo=UTC)),
        (date(2026, 3, 1), 22, datetime(2026, 2, 28, 23, 45, tzinfo=UTC)),
        (date(2026, 3, 1), 23, datetime(2026, 3, 1, 0, 0, tzinfo=UTC)),
        (date(2026, 3, 1), 49, datetime(2026, 3, 1, 6, 30, tzinfo=UTC)),
        (date(2026, 3, 1), 96, datetime(2026, 3, 1, 18, 15, tzinfo=UTC)),
        (date(2024, 2, 29), 96, datetime(2024, 2, 29, 18, 15, tzinfo=UTC)),
    ],
)
def test_blocks_begin_at_these_instants(day: date, block: int, utc: datetime) -> None:
    assert Block(day, block).start == utc
    assert block_at(utc) == Block(day, block)
    assert block_at(utc + BLOCK - timedelta(microseconds=1)) == Block(day, block)
    assert block_at(utc - timedelta(microseconds=1)) == Block(day, block).after(-1)


@given(days, blocks)
def test_a_block_begins_where_it_says(day: date, block: int) -> None:
    assert block_at(Block(day, block).start) == Block(day, block)
    assert Block(day, block).start.tzinfo is UTC


@given(instants)
def test_every_instant_lies_in_its_block(utc: datetime) -> None:
    begin = block_at(utc).start
    assert begin <= utc < begin + BLOCK


@given(instants)
def test_the_fixed_offset_is_that_of_the_zone(utc: datetime) -> None:
    assert utc.astimezone(IST).replace(tzinfo=None) == utc.astimezone(
        ZoneInfo("Asia/Kolkata")
    ).replace(tzinfo=None)


@given(instants, st.integers(-14 * 60, 14 * 60))
def test_the_zone_of_the_question_does_not_matter(utc: datetime, offset_min: int) -> None:
    elsewhere = utc.astimezone(timezone(timedelta(minutes=offset_min)))
    assert block_at(elsewhere) == block_at(utc)


@given(instants, st.integers(-1000, 1000))
def test_blocks_are_counted_over_midnight(utc: datetime, blocks: int) -> None:
    assert block_at(utc).after(blocks) == block_at(block_at(utc).start + blocks * BLOCK)


def test_a_day_is_a_row_of_blocks() -> None:
    day = blocks_of(date(2026, 1, 1))
    assert [each.end for each in day[:-1]] == [each.start for each in day[1:]]
    assert day[-1].end == Block(date(2026, 1, 2), 1).start
    assert len(day) == 96


@pytest.mark.parametrize("block", [0, 97, -1])
def test_there_are_96_blocks(block: int) -> None:
    with pytest.raises(ValueError, match="1 to 96"):
        Block(date(2026, 1, 1), block)


def test_a_naive_instant_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        block_at(datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None))


# --- the file ---


@given(
    st.dictionaries(st.tuples(days, blocks), st.tuples(powers, powers), max_size=20),
    st.booleans(),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["", "\ufeff", "# a note\n\n"]),
)
def test_what_is_written_is_what_is_read(
    drawn: dict[tuple[date, int], tuple[float, float]], reactive: bool, end: str, head: str
) -> None:
    columns = "date,block,power_kw" + (",reactive_kvar" if reactive else "")
    lines = [columns]
    for (day, block), (power_kw, kvar) in drawn.items():
        lines.append(f"{day},{block},{power_kw:.3f}" + (f",{kvar:.3f}" if reactive else ""))
    schedule = parse(head + end.join(lines) + end, "s.csv")
    assert schedule.entries == {
        Block(*key): Entry(*key, power_kw, kvar if reactive else 0.0)
        for key, (power_kw, kvar) in drawn.items()
    }


def test_power_at_finds_the_block_in_force() -> None:
    schedule = parse("date,block,power_kw\n2026-03-01,23,-40\n2026-03-01,24,12.5\n", "s.csv")
    first = schedule.power_at(datetime(2026, 3, 1, 0, 14, 59, tzinfo=UTC))
    assert first == Entry(date(2026, 3, 1), 23, -40.0)
    assert first.start == datetime(2026, 3, 1, tzinfo=UTC)
    assert first.end == datetime(2026, 3, 1, 0, 15, tzinfo=UTC)
    second = schedule.power_at(first.end)
    assert second is not None
    assert second.power_kw == 12.5
    assert schedule.power_at(second.end) is None
    assert schedule.power_at(first.start - timedelta(microseconds=1)) is None


def test_every_wrong_line_is_told() -> None:
    text = (
        "# a note\n"
        "date,block,power_kw,reactive_kvar\n"
        "2026-03-01,1,5,0\n"
        "2026-02-30,1,5,0\n"
        "2026-3-1,2,5,0\n"
        "01-03-2026,2,5,0\n"
        "1999-12-31,2,5,0\n"
        "\n"
        "2026-03-01,0,5,0\n"
        "2026-03-01,97,5,0\n"
        "2026-03-01,1.0,5,0\n"
        "2026-03-01,1,6,0\n"
        "2026-03-01,3,nan,0\n"
        "2026-03-01,4,1_0,inf\n"
        "2026-03-01,5,,0\n"
        "2026-03-01,6,5\n"
        "2026-03-01,7,5 kW,0\n"
        f"2026-03-01,8,{'9' * 400},0\n"
        "٢٠٢٦-03-01,9,5,0\n"
    )
    with pytest.raises(ScheduleError) as caught:
        parse(text, "plan.csv")
    lines = [line for line, _ in caught.value.faults]
    assert lines == [4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 14, 15, 16, 17, 18, 19]
    errors = caught.value.errors
    assert errors[0] == "plan.csv:4: date: '2026-02-30' is not a day YYYY-MM-DD from 2000 to 2199"
    assert errors[4] == "plan.csv:9: block: '0' is not a whole number from 1 to 96"
    assert errors[7] == "plan.csv:12: block: 2026-03-01 block 1 is already in line 3"
    assert errors[8] == "plan.csv:13: power_kw: 'nan' is not a number like -40 or 12.5"
    assert errors[12] == "plan.csv:16: 3 cells; the header has 4"
    assert str(caught.value) == "\n".join(errors)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", 1),
        ("# only a note\n", 1),
        ("2026-03-01,1,5\n", 1),
        ("\ndate;block;power_kw\n", 2),
        ("block,date,power_kw\n", 1),
        ("date,block,power_kw,price\n", 1),
    ],
)
def test_the_header_must_be_there(text: str, line: int) -> None:
    with pytest.raises(ScheduleError, match=f"^s.csv:{line}: header .*date,block,power_kw"):
        parse(text, "s.csv")


def test_a_header_alone_schedules_nothing() -> None:
    assert parse("date,block,power_kw\n", "s.csv").entries == {}


@given(st.text(max_size=100) | st.text("0123456789-,.\n #", max_size=100))
def test_any_text_is_read_or_refused(text: str) -> None:
    for whole in (text, "date,block,power_kw\n" + text):
        with contextlib.suppress(ScheduleError):
            entries = parse(whole, "s.csv").entries
            assert all(1 <= entry.block <= 96 for entry in entries.values())
