"""`vppd report day`: a day on one page, from the journal alone."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from tests.evidence_site import journal_on_disk
from tests.market_site import DAY, market_day
from vppd.cli.report.day_rows import outages
from vppd.cli.vppd import main
from vppd.core.records import CommandRow, EventRow, ReadingRow, Row, SetpointRow, SiteRow, TripRow

MIDNIGHT = datetime(2026, 11, 21, 18, 30, tzinfo=UTC)  # of the 22nd in IST
HOUR_S = 3600
UNITS = ("B1", "B2")


def at(hour: float) -> datetime:
    return MIDNIGHT + timedelta(hours=hour)


def lived() -> Iterator[Row]:
    """From 06:00 to 12:00 100 kW are owed; from 09:00 one of two units is cut to 30 kW by its SoC,
    and from 10:00 for half an hour it does not answer. At 07:30 the frequency dips for 2 s."""
    for second in range(0, 6 * HOUR_S, 2):
        hour = 6.0 + second / HOUR_S
        given_kw = 80.0 if hour >= 9.0 else 100.0
        hz = 49.5 if second == 5400 else 50.0
        yield SiteRow(at(hour), hz, 0.0, "pmu", 100.0, 0.0, 0.0, 100.0, given_kw, "[]")
        if second % 10 == 0:
            for unit in UNITS:
                cut = unit == "B1" and hour >= 9.0
                kw = 30.0 if cut else 50.0
                named = '["soc_low",50.0,30.0,"soc 10 %"],["soc_low",50.0,40.0,"bms"]'
                clamps = f"[{named}]" if cut else "[]"
                yield SetpointRow(
                    at(hour), unit, "running", 50.0, 0.0, 50.0, kw, 0.0, 0.0, clamps, "", kw, kw
                )
                yield ReadingRow(at(hour), unit, "soc_pct", 60.0 - 5.0 * (hour - 6.0), "good")
    yield EventRow(at(5.9), "started", "site", 1, "lab")
    yield EventRow(at(10.0), "link_lost", "B1", 3, "no reply <b>at all</b>")
    yield EventRow(at(10.5), "link_lost", "B1", 0, "over: answers")
    yield EventRow(at(11.5), "pmu_lost", "pmu", 3, "silent")
    yield TripRow(at(11.0), "B2", "over_temperature", "trip", "gate", "61 C")
    yield CommandRow(at(11.2), 0, "asha", "dispatch", "site", "{}", "accepted", "expected 100 kW")
    yield EventRow(at(12.0), "stopped", "site", 1, "SIGTERM")
    yield SiteRow(at(30.0), 48.0, 0.0, "pmu", 0.0, 0.0, 0.0, 999.0, 0.0, "[]")  # the day after


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("day")
    journal_on_disk(directory / "journal.db", lived())
    return directory


def report(state: Path, *words: str) -> Result:
    return CliRunner().invoke(main, ["report", "day", *words, "--state", str(state)])


def test_the_figures_are_those_of_the_rows(state: Path) -> None:
    text = report(state, "--date", "2026-11-22", "--format", "md").output
    for line in (
        "| owed | 600.0 | 0.0 | +600.0 |",
        "| setpoints | 540.0 | 0.0 | +540.0 |",
        "| measured | 540.0 | 0.0 | +540.0 |",
        "| B1 | 59.9 | 30.1 | 59.9 | 30.1 | 11:57 |",
        "| soc_low | B1 | 3 h | 09:00:00 | 12:00:00 | 20.0 |",
        "| 12:00:00 | stopped | site | SIGTERM |",
        "| B1 | link_lost | 1 | 30 min | 30 min | 95.83 |  |",
        "| pmu | pmu_lost | 1 | 30 min | 30 min | 95.83 | lost at the end |",
        "| 11:00:00 | trip over_temperature | B2 | gate: 61 C |",
        "| 11:12:00 | dispatch accepted | site | asha expected 100 kW |",
    ):
        assert line in text, f"{line}\n{text}"
    assert "least 49.5000 Hz about 07:30" in text
    assert "**25.0 % of the day has rows; the rest is not known.**" in text
    assert "Nothing was traded." in text
    assert "48.0" not in text, "the day after"


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [str(value) for name, value in attrs if name in {"src", "href"}]


def test_the_page_is_one_file_with_plots(state: Path, tmp_path: Path) -> None:
    out = tmp_path / "day.html"
    assert report(state, "--date", "2026-11-22", "--output", str(out)).exit_code == 0
    page = Page()
    text = out.read_text(encoding="utf-8")
    page.feed(text)
    assert page.tags.count("svg") == 3
    assert page.fetched == []
    assert "script" not in page.tags
    assert "b" not in page.tags, "what stands in the journal is text"
    for title in ("Frequency", "Power owed, set and measured", "State of charge"):
        assert f"<title>{title}</title>" in text
    dip = re.search(r"<title>Frequency</title>.*?</svg>", text, re.DOTALL)
    assert dip is not None
    assert "49.5" in dip[0], "two seconds of a day are seen on its plot"


def test_the_market_of_the_day_is_told(tmp_path: Path) -> None:
    state = market_day(tmp_path)
    day = str(DAY)
    shown = report(state, "--date", day, "--format", "md")
    assert shown.exit_code == 0, shown.output
    assert re.search(r"\| blocks with an account \| \d+ of 96 \|", shown.output)
    assert re.search(r"\| settled \| [+-][\d.]+ Rs \|", shown.output)
    pictures = report(state, "--date", day).output.count("<svg")
    assert pictures >= 3


def test_a_day_the_journal_does_not_know_is_refused(state: Path, tmp_path: Path) -> None:
    shown = report(state, "--date", "2020-01-01")
    assert (shown.exit_code, shown.stdout) == (1, "")
    assert "the journal has nothing of 2020-01-01" in shown.stderr
    assert report(tmp_path, "--date", "2026-11-22").exit_code == 1
    assert report(state, "--date", "2026-11-22", "--timezone", "Mars/Base").exit_code == 2


# ---- outages --------------------------------------------------------------------------------

S = 1_000_000


def test_a_start_ends_what_stood_before() -> None:
    turns = [("link_lost", "A", 10 * S, 1), ("started", "site", 20 * S, 1)]
    (outage,) = outages(turns, 0, 100 * S)
    assert (outage.total_s, outage.ongoing) == (10.0, False)


def test_what_began_before_counts_from_the_begin() -> None:
    (outage,) = outages([("link_lost", "A", 10 * S, 1)], 50 * S, 100 * S)
    assert (outage.times, outage.total_s, outage.ongoing) == (1, 50.0, True)
    over = [("link_lost", "A", 10 * S, 1), ("link_lost", "A", 20 * S, 0)]
    assert list(outages(over, 50 * S, 100 * S)) == []


@given(st.lists(st.tuples(st.sampled_from("AB"), st.integers(0, 200), st.booleans()), max_size=30))
def test_no_link_is_lost_longer_than_the_day(turns: list[tuple[str, int, bool]]) -> None:
    told = [
        ("link_lost", unit, at_s * S, int(lost))
        for unit, at_s, lost in sorted(turns, key=lambda turn: turn[1])
    ]
    for outage in outages(told, 50 * S, 150 * S):
        assert 0.0 < outage.longest_s <= outage.total_s <= 100.0
        assert outage.times >= 1
        assert outage.unit in "AB"
