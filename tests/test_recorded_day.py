"""A day of frequency through the site: every event found, every figure of every report recomputed.

The grid is the stochastic one that was fitted to recordings, with disturbances at known times; the
calm hours of the day are skipped, midnight and the turn of the month are not. What the journal kept
is then given to an auditor's own script, which shares no code with the report.
"""

import contextlib
import csv
import io
import itertools
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests import recompute_report as auditor
from tests.evidence_site import (
    NUMBERS,
    ZONE,
    assert_same,
    figures_by_sql,
    journal_on_disk,
    recomputed,
)
from tests.site_rig import SiteRig, site_settings
from tests.virtual_time import run_virtual
from vppd.cli.report.command import days_bounds, days_of, event_report, frequency_report
from vppd.cli.report.event import judged
from vppd.cli.report.journal import event_named, journal_in, rows_of
from vppd.cli.report.sql import BAND_SQL
from vppd.core.records import ReadingRow, Row
from vppd.core.settings import DroopSettings
from vppd.core.settings_evidence import EvidenceSettings
from vppd.sim.grid import StochasticGrid
from vppd.spine.schema import micros

START = datetime(2026, 1, 31, 18, 25, tzinfo=UTC)  # five minutes before February in India
LONG_S = 430.0
MONTHS = (date(2026, 1, 1), date(2026, 2, 1))
RULE = EvidenceSettings(merge_s=6.0, before_s=30.0)


@dataclass(frozen=True, slots=True)
class Disturbance:
    """A change of frequency on top of the grid: there `over_s` after it begins, then as long."""

    at_s: float
    change_hz: float
    over_s: float
    stays_s: float
    back_s: float

    def shift_hz(self, at_s: float) -> float:
        since_s = at_s - self.at_s
        if since_s < 0.0:
            return 0.0
        there = min(since_s / self.over_s, 1.0)
        back = max(since_s - self.over_s - self.stays_s, 0.0) / self.back_s
        return self.change_hz * there * max(1.0 - back, 0.0)


LOSS = Disturbance(40.0, -0.22, 2.5, 45.0, 12.0)
OFF = Disturbance(130.0, 0.20, 2.0, 25.0, 8.0)  # nobody answers: droop is switched off
STEEP = Disturbance(200.0, 0.30, 0.7, 0.0, 4.0)
SHORT = Disturbance(235.0, -0.15, 0.2, 0.3, 0.2)  # too short to be one by its edge
MIDNIGHT = Disturbance(270.0, -0.25, 2.5, 60.0, 10.0)
GLITCHES_S = (245.0, 380.0)  # of the recorder: one sample far off
FOUND = (LOSS, OFF, STEEP, MIDNIGHT)
NAMED = "step-test"


def trace(path: Path) -> Path:
    """The day as a recording."""
    grid, lines = StochasticGrid(seed=3), ["t_s,freq_hz"]
    for tenth in range(round(LONG_S * 10) + 100):
        at_s = tenth / 10
        hz = 50.0 + 0.5 * (grid.frequency_hz(at_s) - 50.0)
        hz += sum(each.shift_hz(at_s) for each in (*FOUND, SHORT))
        lines.append(f"{at_s:.1f},{54.9 if at_s in GLITCHES_S else hz:.4f}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


async def lived(directory: Path) -> list[Row]:
    """Every row that the site wrote, from its start to its stop."""
    droop = DroopSettings(deadband_high_hz=50.05, deadband_low_hz=49.95)
    settings = site_settings(("A",), droop=droop, evidence=RULE)
    made = trace(directory / "trace.csv")
    async with SiteRig(settings, grid_hz=None, trace=made, start=START) as rig:
        begun_s = rig.now_s
        rig.plan(20.0, for_s=2 * LONG_S)
        await rig.run(OFF.at_s - 10.0 - (rig.now_s - begun_s))
        rig.house.tick.duty = rig.house.tick.duty.switched(False, "operator")
        await rig.run(50.0)
        rig.house.tick.duty = rig.house.tick.duty.switched(True, "operator")
        now = rig.clock.utc()
        rig.house.log.name_event(
            NAMED, now - timedelta(seconds=20), now + timedelta(seconds=30), now
        )
        await rig.run(LONG_S - (rig.now_s - begun_s))
        await rig.stop()
        return [row for row in rig.memory.rows if not isinstance(row, ReadingRow)]


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("day")
    journal_on_disk(directory / "journal.db", run_virtual(lived(directory)))
    return directory


@pytest.fixture
def journal(state: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(auditor.opened(state / "journal.db")) as opened:
        yield opened


def ids(journal: sqlite3.Connection) -> list[str]:
    return [name for (name,) in journal.execute("SELECT id FROM frequency_event ORDER BY begin_at")]


# ---- every event found -------------------------------------------------------------------------


def test_every_disturbance_is_an_event_and_nothing_else_is(journal: sqlite3.Connection) -> None:
    told = auditor.journaled(journal)
    begun_s = [begin / 1e6 - START.timestamp() for begin, _, _, _ in told]
    assert len(told) == len(FOUND), begun_s
    for each_s, cause in zip(begun_s, FOUND, strict=True):
        assert cause.at_s <= each_s <= cause.at_s + 3.0
    assert [trigger for _, _, trigger, _ in told] == ["low", "high", "rocof", "low"]
    assert {ending for _, _, _, ending in told} == {"inside"}


def test_a_search_of_the_rows_by_definition_finds_the_same(journal: sqlite3.Connection) -> None:
    rule = auditor.event_of(journal, ids(journal)[0])["rule"]
    assert auditor.events_in(auditor.frequencies(journal), rule) == auditor.journaled(journal)
    assert auditor.missed(journal, rule) == []


def test_rows_reach_from_before_each_event_to_its_end(journal: sqlite3.Connection) -> None:
    for name in ids(journal):
        event = auditor.event_of(journal, name)
        rows = auditor.samples_of(journal, event)
        assert abs(rows[0].t + RULE.before_s * 1e6) <= 110_000, name
        assert 0 <= event["end"] - event["begin"] - rows[-1].t <= 110_000, name
        assert max(b.t - a.t for a, b in itertools.pairwise(rows)) <= 110_000, name


# ---- every figure recomputed -------------------------------------------------------------------


def test_no_figure_of_any_event_differs(state: Path, journal: sqlite3.Connection) -> None:
    for name in ids(journal):
        text = event_report(state, name, ZONE, "md")
        assert auditor.rule_in(text) == {
            key: value for key, value in NUMBERS.items() if key != "grades_source"
        }
        assert auditor.event_differences(journal, text) == []
        with journal_in(state) as ours:
            event = event_named(ours, name)
            told = judged(event, rows_of(ours, event), ZONE)
            by_sql = figures_by_sql(ours, event)
        exact = recomputed(state / "journal.db", name)
        seen = {key: getattr(told.figures, key) for key in exact}
        assert_same(seen, exact)
        assert_same(seen, by_sql)


@pytest.mark.parametrize("month", MONTHS)
def test_no_figure_of_any_month_differs(
    state: Path, journal: sqlite3.Connection, month: date
) -> None:
    text = frequency_report(state, month, ZONE, "md")
    assert auditor.month_differences(journal, text, ZONE) == []
    shown = [row[0] for row in auditor.table_headed(text, "id", "begun")]
    begin, end = (micros(each) for each in days_bounds(month, ZONE))
    assert shown == [
        name for name in ids(journal) if begin <= auditor.event_of(journal, name)["begin"] < end
    ]
    assert bool(shown) is (month == MONTHS[0])
    days = [*csv.DictReader(io.StringIO(frequency_report(state, month, ZONE, "csv")))]
    bounds = {day: (micros(since), micros(until)) for day, since, until in days_of(month, ZONE)}
    low, high = NUMBERS["band_low"], NUMBERS["band_high"]
    lived_days = 0
    for row in days:
        since, until = bounds[date.fromisoformat(row.pop("day"))]
        exact = auditor.day_of(journal, since, until, low, high)
        told = {key: float(value) if value else None for key, value in row.items()}
        given = {"from_at": since, "to_at": until, "band_low": 49.9, "band_high": 50.05}
        cursor = journal.execute(BAND_SQL, given)
        names = [column[0] for column in cursor.description]
        by_sql = dict(zip(names, cursor.fetchone(), strict=True))
        assert_same(told, {key: None if v is None else float(v) for key, v in exact.items()})
        assert_same(told, by_sql)
        lived_days += told["mean_hz"] is not None
    assert lived_days == 1


def test_no_instant_is_lost_at_midnight(state: Path) -> None:
    """The row before it holds on into the new day."""
    midnight = START + timedelta(minutes=5)
    last = [*csv.DictReader(io.StringIO(frequency_report(state, MONTHS[0], ZONE, "csv")))][-1]
    first = next(csv.DictReader(io.StringIO(frequency_report(state, MONTHS[1], ZONE, "csv"))))
    assert int(first["longest_from_us"]) == micros(midnight)
    total_s = sum(
        float(day[key]) for day in (last, first) for key in ("inside_s", "below_s", "above_s")
    )
    assert total_s == pytest.approx(LONG_S, abs=5.0)
    assert float(last["below_s"]) > 60.0


class Tables(HTMLParser):
    """The tables of a page as rows of cells."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self._in_cell = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in {"td", "th"}:
            self.tables[-1][-1].append("")
        self._in_cell = tag in {"td", "th"}

    def handle_endtag(self, tag: str) -> None:
        self._in_cell = False

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self.tables[-1][-1][-1] += data


def test_the_page_says_what_the_text_says(state: Path, journal: sqlite3.Connection) -> None:
    pairs = [
        [event_report(state, name, ZONE, form) for form in ("md", "html")] for name in ids(journal)
    ]
    pairs += [
        [frequency_report(state, month, ZONE, form) for form in ("md", "html")] for month in MONTHS
    ]
    for text, page in pairs:
        read = Tables()
        read.feed(page)
        assert read.tables == auditor.tables(text)


def test_the_rows_as_csv_are_the_rows_of_the_journal(
    state: Path, journal: sqlite3.Connection
) -> None:
    names = "frequency_hz, rocof_hz_per_s, base_kw, droop_curve_kw, ffr_kw, droop_kw, cleared_kw"
    for name in ids(journal):
        event = auditor.event_of(journal, name)
        shown = [*csv.DictReader(io.StringIO(event_report(state, name, ZONE, "csv")))]
        rows = journal.execute(
            f"SELECT at, {names}, measured_kw, unmeasured FROM evidence"  # noqa: S608
            " WHERE at BETWEEN ? AND ? ORDER BY at",
            (event["begin"] - RULE.before_s * 1e6, event["end"] + RULE.merge_s * 1e6),
        ).fetchall()
        assert len(shown) == len(rows)
        for row, (at, *values) in zip(shown, rows, strict=True):
            assert round(float(row["t_s"]) * 1000) == round((at - event["begin"]) / 1000)
            keys = (*names.split(", "), "measured_kw", "unmeasured")
            assert [row[key] for key in keys] == ["" if v is None else str(v) for v in values]


# ---- what counts -------------------------------------------------------------------------------


def test_what_was_switched_off_is_owed_all_the_same(journal: sqlite3.Connection) -> None:
    seen = auditor.figures(journal, auditor.event_of(journal, ids(journal)[1]), NUMBERS)
    assert seen["side"] == -1
    assert Fraction(seen["owed_kwh"] or 0) > 0
    assert seen["adaptation_kwh"] == seen["owed_kwh"]
    assert float(seen["shortfall_kwh"] or 0) == pytest.approx(
        float(seen["owed_kwh"] or 0), rel=0.02
    )
    assert seen["full_s"] is None


def test_the_answer_that_was_given_passes(state: Path, journal: sqlite3.Connection) -> None:
    for place, words in ((0, {"pass"}), (1, {"FAIL"}), (-1, {"pass"})):
        name = [each for each in ids(journal) if each != NAMED][place]
        text = event_report(state, name, ZONE, "md")
        rows = auditor.table_headed(text, "requirement", "value")
        assert {row[3].split(":")[0] for row in (rows[0], rows[-1])} == words, rows


def test_one_row_that_was_changed_shows(state: Path, tmp_path: Path) -> None:
    """The recomputation can fail."""
    path = tmp_path / "journal.db"
    path.write_bytes((state / "journal.db").read_bytes())
    with contextlib.closing(auditor.opened(state / "journal.db")) as journal:
        name = ids(journal)[0]
        at = auditor.event_of(journal, name)["begin"] + 30_000_000
    text = event_report(state, name, ZONE, "md")
    month = frequency_report(state, MONTHS[0], ZONE, "md")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as changed:
        changed.execute(
            "UPDATE evidence_row SET measured_kw = measured_kw - 500000, frequency_hz = 493210"
            " WHERE at = (SELECT min(at) FROM evidence_row WHERE at >= ?)",
            (at,),
        )
        wrong = auditor.event_differences(changed, text)
        assert any("nadir" in each for each in wrong)
        assert any("shortfall" in each for each in wrong)
        assert auditor.month_differences(changed, month, ZONE)
