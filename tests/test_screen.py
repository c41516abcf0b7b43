"""The screen of `vppctl top`: it fits, it tells what matters first, and it writes what changed and
no more."""

import io
import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from vppd.cli.braille import HIGH, WIDE, dots, joined, scale, signs
from vppd.cli.live import Screen, changed
from vppd.cli.long_lines import laid
from vppd.cli.screen import Sample, history, picture

finite = st.floats(-1e6, 1e6, allow_nan=False)


def view(units: int = 4, alarms: int = 0, **more: Any) -> dict[str, Any]:
    """A status as the daemon gives it."""
    each = {
        "state": "running",
        "power_kw": 10.0,
        "setpoint_kw": 10.0,
        "soc_pct": 50.0,
        "room": {"low_kw": -100.0, "high_kw": 100.0},
        "bound_by": [],
    }
    standing = {"code": "link_lost", "level": "critical", "age_s": 5.0, "text": "no answer"}
    return {
        "site": "lab",
        "name": "The Lab",
        "state": "running",
        "mode": "hardware",
        "at": "2026-11-22T06:00:00.000Z",
        "uptime_s": 600.0,
        "shut_by": None,
        "sentence": "owe +40.0 kW",
        "frequency_hz": 50.0,
        "rocof_hz_per_s": 0.0,
        "frequency_source": "pmu",
        "band": "normal",
        "owed_kw": 40.0,
        "cleared_kw": 40.0,
        "measured_kw": 39.0,
        "base_kw": 40.0,
        "base_source": "schedule",
        "droop_kw": 0.0,
        "droop_owed_kw": 0.0,
        "market": None,
        "units": [{"id": f"B{number}", **each} for number in range(units)],
        "alarms": [{"unit": f"B{number}", **standing} for number in range(alarms)],
        "ticks": {"count": 6000, "late": 0, "lag_p99_ms": 1.0},
        "version": "0.0.test",
        "diagnostics": {},
        **more,
    }


def shown(view: dict[str, Any], width: int = 79, height: int = 24) -> list[str]:
    samples = [Sample(300.0 + n, 50.0 + n / 1e4, 40.0, 39.0) for n in range(300)]
    return [line.plain for line in picture(view, "Asia/Kolkata", samples, width, height)]


@given(st.integers(1, 40), st.integers(0, 30), st.integers(20, 200), st.integers(8, 60))
def test_it_fits_whatever_there_is(units: int, alarms: int, width: int, height: int) -> None:
    lines = shown(view(units, alarms), width, height)
    assert len(lines) <= height
    assert all(len(line) <= width for line in lines)


def test_what_matters_is_on_80_by_24() -> None:
    market = {
        "enabled": True,
        "now": {"block": "2026-11-22:47", "position_mw": 0.25, "next_position_mw": 0.5},
        "next_gate": "2026-11-22 rtm 25",
        "next_gate_closes_at": "2026-11-22T06:15:00+00:00",
    }
    seen = view(16, 3, market=market)
    seen["units"][11] |= {"state": "limited", "bound_by": ["soc_low"], "soc_pct": 9.5}
    lines = shown(seen)
    text = "\n".join(lines)
    for words in (
        *(
            "The Lab (lab): running",
            "11:30:00 IST",
            "owe +40.0 kW",
            "50.000 Hz",
            "owed",
            "measured",
        ),
        *("+0.250 MW, next +0.500", "rtm 25 closes in 15 min", "critical link_lost"),
    ):
        assert words in text, words
    units = [line for line in lines if re.match(r"B\d+ ", line)]
    assert units[0].startswith("B11  limited"), "who has something to tell comes first"
    assert "soc_low" in units[0]
    assert "9.5" in units[0]
    assert "-100..+100" in units[0]
    assert re.search(r"and \d+ more: \d+ running", text)


REASONS = ["soc_low", "reading_stale", "temperature_high", "droop_damping", "interlock_silent"]


def test_what_is_too_long_ends_after_a_word() -> None:
    crowd = view(16, 9)
    crowd["units"][3]["bound_by"] = REASONS
    text = "an answer that is much longer than what a screen can show in one line of it is cut"
    crowd["alarms"] = [{**each, "text": text} for each in crowd["alarms"]]
    crowd["base_source"] = "operator:somebody"
    lines = shown(crowd)
    assert len(lines) == 24
    (unit,) = [line for line in lines if line.startswith("B3 ")]
    assert unit.endswith(" soc_low reading_stale…")
    *alarms, last = [line for line in lines if "link_lost B" in line]
    ends = [re.search(r" (\w+)…$", each) for each in alarms]
    ends.append(re.search(r" (\w+)…  \(and \d more\)$", last))
    assert all(end is not None and end[1] in text.split() for end in ends), [*alarms, last]
    assert any(line.endswith("base +40.0 operator") for line in lines)
    long = shown({**crowd, "sentence": "x" * 99})[1]
    assert long == "x" * 78 + "…", "a word that is longer than that is cut"


def test_what_is_too_long_goes_on_where_a_row_is_free() -> None:
    few = view(2, 1)
    few["units"][1]["bound_by"] = REASONS
    few["sentence"] = "owe +40.0 kW; " + ", ".join(f"B{n} bound by room" for n in range(8))
    few["alarms"][0]["text"] = "no answer within a second, and none in the ten seconds before it"
    lines = shown(few, height=30)
    assert len(lines) <= 30
    assert all(len(line) <= 79 for line in lines)
    assert not [line for line in lines if "…" in line]
    whole = " ".join(" ".join(lines).split())
    for words in (few["sentence"], " ".join(REASONS), few["alarms"][0]["text"]):
        assert words in whole, (words, lines)
    assert lines[2].startswith("    room, B4"), "the second row of the sentence"


@given(
    st.text(st.characters(categories=["L", "N", "P"]) | st.just(" "), max_size=60),
    st.integers(3, 40),
    st.integers(0, 4),
)
def test_no_row_is_too_wide_and_no_word_is_lost_where_there_is_room(
    text: str, width: int, free: int
) -> None:
    rows = laid([Text(text)], width, free)
    assert len(rows) <= 1 + free
    assert all(row.cell_len <= width for row in rows)
    if not any(row.plain.endswith("…") for row in rows):
        assert "".join("".join(row.plain for row in rows).split()) == "".join(text.split())


def test_the_unknown_is_a_question_mark() -> None:
    nothing = view(1, frequency_hz=None, band=None, measured_kw=None, frequency_source=None)
    nothing["units"][0] |= {"power_kw": None, "soc_pct": None, "room": None, "setpoint_kw": None}
    text = "\n".join(shown(nothing))
    assert "? Hz" in text
    assert "unknown, no source" in text
    assert not shown({**nothing, "units": []})[0].startswith("B")


def test_a_value_that_stays_moves_no_sign() -> None:
    def at(uptime_s: float) -> list[str]:
        samples = [Sample(uptime_s - 299 + n, 50.0, 40.0, 39.0) for n in range(300)]
        lines = picture(view(4, uptime_s=600.0), "UTC", samples, 79, 24)
        return [line.plain for line in lines]

    assert at(600.0) == at(601.0) == at(650.0)


def test_the_memory_of_the_daemon_is_taken() -> None:
    trail = {"lines": [[2.0, 50.0, 1.0, 2.0, 3.0], [1.0, None, 4.0, 5.0, None]]}
    assert history(trail, 100.0) == [
        Sample(98.0, 50.0, 1.0, 3.0),
        Sample(99.0, None, 4.0, 5.0),
    ]


# ---- dots -----------------------------------------------------------------------------------


@given(st.lists(finite), st.floats(1e-3, 1e3))
def test_a_scale_holds_every_value(values: list[float], least: float) -> None:
    low, high = scale(values, least)
    slack = 1e-6 * max(1.0, abs(low), abs(high))
    assert all(low - slack <= value <= high + slack for value in values)
    assert high - low >= 0.99 * least


@given(st.lists(st.tuples(st.integers(-5, 50), finite)), st.integers(1, 20), st.integers(1, 6))
def test_every_sample_is_one_dot_inside(
    samples: list[tuple[int, float]], columns: int, rows: int
) -> None:
    lit = dots(samples, columns, rows, (-10.0, 10.0))
    inside = {column for column, _ in samples if 0 <= column < columns * WIDE}
    assert {column for column, _ in lit} == inside
    assert all(0 <= row < rows * HIGH for _, row in lit)
    text = signs(lit, columns, rows)
    assert [len(line) for line in text] == [columns] * rows
    lighted = sum((0 if sign == " " else ord(sign) - 0x2800).bit_count() for sign in "".join(text))
    assert lighted == len(lit)


def test_the_highest_is_above_the_lowest() -> None:
    lit = dots([(0, 10.0), (1, -10.0)], 1, 1, (-10.0, 10.0))
    assert lit == {(0, 0), (1, 3)}
    assert signs(lit, 1, 1) == [chr(0x2800 + 0x01 + 0x80)]


def test_neighbours_are_joined_and_gaps_are_not() -> None:
    assert sorted(joined([(0, 0.0), (2, 2.0), (9, 9.0)], 4)) == [
        (0, 0.0),
        (1, 1.0),
        (2, 2.0),
        (9, 9.0),
    ]


# ---- only what changed ----------------------------------------------------------------------


class Terminal:
    """As much of one as `Screen` uses: places, signs, the rest of a line wiped."""

    def __init__(self, rows: int, columns: int) -> None:
        self.cells = [[" "] * columns for _ in range(rows)]
        self.written = 0

    def take(self, text: str) -> None:
        self.written += len(text)
        row = column = 0
        for word in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|.", text, re.DOTALL):
            if found := re.fullmatch(r"\x1b\[(\d+);(\d+)H", word):
                row, column = int(found[1]) - 1, int(found[2]) - 1
            elif word == "\x1b[H":
                row = column = 0
            elif word == "\x1b[2J":
                self.cells = [[" "] * len(line) for line in self.cells]
            elif word in {"\x1b[0K", "\x1b[K"}:
                self.cells[row][column:] = [" "] * (len(self.cells[row]) - column)
            elif word.startswith("\x1b"):
                assert word.endswith("m"), repr(word)
            else:
                self.cells[row][column] = word
                column += 1

    def lines(self) -> list[str]:
        return ["".join(line).rstrip() for line in self.cells]


words = st.text(st.sampled_from("ab 1"), max_size=12)
pieces = st.lists(st.tuples(words, st.sampled_from(["", "red", "bold"])), max_size=3)
frames = st.lists(st.lists(pieces, max_size=5), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(frames)
def test_what_stands_there_is_what_was_drawn(
    drawn: list[list[list[tuple[str, str]]]],
) -> None:
    file = io.StringIO()
    screen = Screen(Console(file=file, force_terminal=True, width=40, height=10))
    terminal = Terminal(10, 40)
    for frame in drawn:
        lines = [Text.assemble(*line) for line in frame]
        screen.draw(lines)
        terminal.take(file.getvalue())
        file.seek(0)
        file.truncate()
        expected = [line.plain.rstrip() for line in lines]
        assert terminal.lines() == expected + [""] * (10 - len(expected))


def test_what_did_not_change_is_not_written() -> None:
    file = io.StringIO()
    screen = Screen(Console(file=file, force_terminal=True, width=80, height=24))
    lines = picture(view(8), "UTC", [], 79, 24)
    screen.draw(lines)
    file.truncate(0)
    screen.draw(picture(view(8), "UTC", [], 79, 24))
    assert file.getvalue() == ""
    screen.draw(picture(view(8, owed_kw=41.0), "UTC", [], 79, 24))
    assert 1 <= len(file.getvalue().strip("\0")) < 40, repr(file.getvalue())


def test_a_style_alone_is_a_change() -> None:
    assert changed(Text("abc"), Text.assemble("a", ("b", "red"), "c")) == (1, 2)
    assert changed(Text("abcd"), Text("abxd")) == (2, 3)
    assert changed(Text("ab"), Text("abcd")) == (2, 4)
    assert changed(Text("नमस्ते"), Text("नमस्तx")) == (0, len("नमस्तx")), "signs of other widths"
