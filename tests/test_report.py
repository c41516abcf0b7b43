"""`vppd report`: from the journal's file alone, for people, auditors and spreadsheets."""

import csv
import io
import re
import sqlite3
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner, Result

from tests.evidence_site import AT, evidence, journal_on_disk
from tests.test_compliance import step_event
from vppd.cli.report.event import thinned
from vppd.cli.report.sql import published
from vppd.cli.vppd import main
from vppd.core.records import EvidenceRow, Row, SiteRow
from vppd.core.response_rules import TABLES
from vppd.core.settings_evidence import EvidenceSettings
from vppd.field.step_response import Sample
from vppd.grid.evidence import EvidenceKeeper

ID = "F20261122T060000Z"


def report(state: Path, *words: str) -> Result:
    return CliRunner().invoke(main, ["report", *words, "--state", str(state)])


def site_row(at_s: float, frequency_hz: float | None) -> SiteRow:
    at = AT + timedelta(seconds=at_s)
    return SiteRow(at, frequency_hz, None, "PMU1", 0.0, 0.0, 0.0, 0.0, 0.0, "[]")


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal with one event of 49.5 Hz for 330 s, and its day at one row a second."""
    directory = tmp_path_factory.mktemp("state")
    keeper = EvidenceKeeper(EvidenceSettings())
    lived = step_event()
    after = [evidence(330 + n / 10) for n in range(1, 120)]
    rows: list[Row] = [row for each in [*lived, *after] for row in keeper.take(each)]
    rows += [
        site_row(at_s + 0.05, 50.0 if not 0 <= at_s < 330 else 49.5) for at_s in range(-60, 600)
    ]
    journal_on_disk(directory / "journal.db", rows)
    return directory


def test_events_are_listed(state: Path) -> None:
    shown = report(state, "events")
    assert shown.exit_code == 0
    assert shown.output == f"{ID}  2026-11-22 11:30:00.0 IST  330.1 s  low  inside\n"


def test_an_event_as_markdown(state: Path) -> None:
    shown = report(state, "event", ID).output
    assert shown.startswith(f"# Frequency event {ID}\n")
    for line in (
        "| nadir | 49.5000 Hz at 0.0 s |",
        "| energy owed | 3.668 kWh |",
        "| shortfall | 0.004 kWh |",
        "| FRC | 80.0 kW/Hz |",
        "| FRP | 1.000 (excellent) |",
    ):
        assert line in shown
    assert re.search(r"\| response starts within \| 0\.4 s \| 5\.0 s \| pass \|.*\| NO \|", shown)


@pytest.mark.parametrize("words", [("event", ID), ("frequency", "--month", "2026-11")])
@pytest.mark.parametrize("form", ["md", "html"])
def test_every_report_marks_what_is_not_verified(
    state: Path, words: tuple[str, ...], form: str
) -> None:
    shown = report(state, *words, "--format", form).output
    assert "UNVERIFIED" in shown
    assert "full_max" in shown


class Page(HTMLParser):
    """What a page opens, and what it wants from outside."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str | None] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [value for name, value in attrs if name in {"src", "href"}]


def test_an_event_as_one_html_file_with_plots_inside(state: Path, tmp_path: Path) -> None:
    target = tmp_path / "event.html"
    shown = report(state, "event", ID, "--format", "html", "--output", str(target))
    assert (shown.exit_code, shown.output) == (0, "")
    text = target.read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert page.fetched == []
    assert not {"script", "link", "img", "iframe"} & {*page.tags}
    pictures = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(pictures) == 2
    for picture in pictures:
        lines = ET.fromstring(picture).iter("{http://www.w3.org/2000/svg}polyline")  # noqa: S314
        assert all(len(line.attrib["points"].split()) > 100 for line in lines)


def test_the_rows_as_csv(state: Path) -> None:
    rows = [*csv.DictReader(io.StringIO(report(state, "event", ID, "--format", "csv").output))]
    assert len(rows) == 600 + 3301 + 101  # from a minute before to the row that tells its end
    assert (rows[0]["utc"], rows[0]["t_s"]) == ("2026-11-22T05:59:00.000Z", "-60.000")
    full = next(row for row in rows if row["t_s"] == "100.000")
    assert (full["frequency_hz"], full["droop_curve_kw"], full["response_kw"]) == (
        *("49.5", "40.0", "40.0"),
    )


def test_a_month_of_frequency(state: Path) -> None:
    shown = report(state, "frequency", "--month", "2026-11")
    assert shown.exit_code == 0, shown.output
    days = [*csv.DictReader(io.StringIO(report_csv(state)))]
    assert [day["day"] for day in days] == [f"2026-11-{n:02}" for n in range(1, 31)]
    day = days[21]
    assert float(day["below_s"]) == pytest.approx(330.05, abs=0.11)
    assert float(day["inside_s"]) == pytest.approx(60 + 599.05 + 2 - 330.05, abs=0.11)
    assert float(day["longest_s"]) == pytest.approx(330.05, abs=0.11)
    assert (day["min_hz"], day["max_hz"]) == ("49.5", "50.0")
    assert float(day["available_pct"]) == pytest.approx(100 * 661 / 86400, abs=0.01)
    assert days[0]["mean_hz"] == ""
    assert f"| {ID} | 2026-11-22 11:30:00.0 IST | 330.1 | 49.5000 |" in shown.output
    assert "Mean beta of 1 events: 1.000." in shown.output


def report_csv(state: Path) -> str:
    return report(state, "frequency", "--month", "2026-11", "--format", "csv").output


def test_days_are_the_site_s_own(state: Path) -> None:
    """11:30 in India is still the evening before in Honolulu."""
    words = ("frequency", "--month", "2026-11", "--format", "csv", "--timezone", "Pacific/Honolulu")
    days = [*csv.DictReader(io.StringIO(report(state, *words).output))]
    assert [day["day"] for day in days if day["mean_hz"]] == ["2026-11-21"]
    assert report(state, "events", "--timezone", "Mars/Base").exit_code == 2


def test_an_event_without_an_end_says_so(tmp_path: Path) -> None:
    keeper = EvidenceKeeper(EvidenceSettings())
    rows = [row for each in step_event(length_s=30.0) for row in keeper.take(each)]
    journal_on_disk(tmp_path / "journal.db", rows)
    assert "no end in the journal" in report(tmp_path, "event", ID).output
    assert "30.0 s  low  no end" in report(tmp_path, "events").output


def test_what_is_missing_is_said_in_one_line(state: Path, tmp_path: Path) -> None:
    absent = report(state, "event", "F19990101T000000Z")
    assert (absent.exit_code, absent.output) == (
        1,
        "Error: no event F19990101T000000Z; `vppd report events` lists them\n",
    )
    nowhere = report(tmp_path / "nowhere", "events")
    assert nowhere.exit_code == 1
    assert "there is no" in nowhere.output
    journal_on_disk(tmp_path / "journal.db", [])
    assert report(tmp_path, "events").output == "no frequency events\n"


def test_the_file_is_only_read_also_while_somebody_writes(state: Path) -> None:
    path = state / "journal.db"
    before = path.read_bytes()
    assert report(state, "event", ID).exit_code == 0
    assert path.read_bytes() == before
    assert [each.name for each in state.iterdir()] == ["journal.db"]
    writer = sqlite3.connect(path, isolation_level=None)
    try:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO word (text) VALUES ('x')")
        assert report(state, "event", ID).exit_code == 0
        writer.execute("ROLLBACK")
    finally:
        writer.close()


def test_the_published_queries_run_as_they_are_printed(state: Path) -> None:
    shown = CliRunner().invoke(main, ["report", "--sql"]).output
    assert shown == published(TABLES[-1]) + "\n"
    given = dict(re.findall(r"^-- :(\w+) = ([\d.]+)$", shown, re.MULTILINE))
    event = re.search(
        r"begin_at \| (\d+).*end_at \| (\d+)", report(state, "event", ID).output, re.DOTALL
    )
    assert event is not None
    begin_at, end_at = (int(each) for each in event.groups())
    bounds: dict[str, float | None] = {name: float(value) for name, value in given.items()}
    bounds |= {"begin_at": begin_at, "end_at": end_at, "from_at": begin_at - 60_000_000}
    bounds |= {"to_at": end_at + 10_000_000, "obligation_kw_per_hz": None}
    queries = [each.strip() for each in shown.split(";\n") if each.strip()]
    with sqlite3.connect(state / "journal.db") as journal:
        results = [journal.execute(query, bounds).fetchall() for query in queries]
    events, rows, figures, frequency, band = results
    assert events[0][0] == ID
    assert len(rows) == 600 + 3301 + 101  # from a minute before to the row that tells its end
    assert figures[0][:2] == (330.1, 3302)
    assert len(frequency) > 3000
    assert band[0][1] > 300.0


def test_help_without_a_subcommand() -> None:
    assert "frequency" in CliRunner().invoke(main, ["report"]).output


def test_a_plot_keeps_its_extremes() -> None:
    samples = [Sample(n / 10, 0.0) for n in range(20_000)]
    samples[12_345] = Sample(1234.5, -7.0)
    samples[777] = Sample(77.7, 9.0)
    kept = thinned(samples)
    assert len(kept) <= 1502
    values = [each.value for each in kept]
    assert (min(values), max(values)) == (-7.0, 9.0)
    assert [each.at_s for each in kept] == sorted(each.at_s for each in kept)


def test_a_pipe_in_a_cell_breaks_no_table(state: Path) -> None:
    for line in report(state, "event", ID).output.splitlines():
        if line.startswith("| ") and "what" not in line:
            assert line.count("|") in {3, 5, 7}


def test_rows_of_events_are_of_the_journal(state: Path) -> None:
    with sqlite3.connect(state / "journal.db") as journal:
        (count,) = journal.execute("SELECT count(*) FROM evidence").fetchone()
    assert count == 600 + 3301 + 101  # from a minute before to the row that tells its end
    assert set(EvidenceRow.__dataclass_fields__) <= {
        column[1] for column in journal.execute("PRAGMA table_info(evidence)")
    }
