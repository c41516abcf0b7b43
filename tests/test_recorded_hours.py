"""Recordings through the site, end to end, as one day: every event found, no figure differs.

The recordings are chained, the way from one to the next lasting JOIN_S; when they are through they
begin again upside down, so that what pulled down pushes up. Middle of the run is midnight in India
and the turn of the month. Without more words the run is a few minutes of this file's own making; a
whole day of real ones, about half an hour of one core:

    VPPD_RECORDINGS=DIRECTORY pytest -s --timeout 0 tests/test_recorded_hours.py

with every `*.csv` and `*.csv.gz` there of columns `t_s,freq_hz`, and `segment` when a file holds
several. VPPD_RECORDED_HOURS says how long, else 24.
"""

import contextlib
import csv
import gzip
import io
import itertools
import math
import os
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from tests import recompute_report as auditor
from tests.evidence_site import ZONE, assert_same, figures_by_sql, journal_on_disk, recomputed
from tests.site_rig import PLAIN_DROOP, TICK_S, SiteRig, site_settings
from tests.virtual_time import run_virtual
from vppd.cli.report.command import days_bounds, days_of, event_report, frequency_report
from vppd.cli.report.event import judged
from vppd.cli.report.journal import event_named, journal_in, rows_of
from vppd.core.records import ReadingRow, Row
from vppd.core.settings_evidence import EvidenceSettings
from vppd.sim.grid import StochasticGrid
from vppd.spine.schema import micros

MIDNIGHT = datetime(2026, 1, 31, 18, 30, tzinfo=UTC)  # February begins in India
MONTHS = (date(2026, 1, 1), date(2026, 2, 1))
OWN_S, OWN_PIECE_S = 290.0, 70.0
WHOLE_DAY_H = 24.0
STEP_S, JOIN_S = 0.1, 5.0
TURN_S = 3600.0  # base point out and in by turns, so that the battery lives through the day
BASE_KW = 10.0
RULE = EvidenceSettings(  # narrow: a recorded grid is seldom further off for a second
    low_hz=49.96, high_hz=50.04, hysteresis_hz=0.005, merge_s=6.0, before_s=30.0
)
DROOP = replace(PLAIN_DROOP, deadband_low_hz=49.97, deadband_high_hz=50.03)
SURELY_S = 1.5  # beyond an edge for longer than the rule asks

Piece = list[float]  # one recording, Hz every STEP_S


# ---- the recordings ----------------------------------------------------------------------------


def own_recordings(directory: Path) -> Path:
    """Two files as others write them: one packed with two segments, one plain, a glitch in each."""
    directory.mkdir()
    made: list[Piece] = []
    for seed in (3, 7, 4):
        grid = StochasticGrid(seed)
        count = round(OWN_PIECE_S / STEP_S)
        piece = [50.0 + 0.5 * (grid.frequency_hz(at * STEP_S) - 50.0) for at in range(count)]
        piece = [hz - 0.08 * math.sin(2.0 * math.pi * at / count) for at, hz in enumerate(piece)]
        piece[count // 3] = 54.9
        made.append(piece)
    packed = ["segment,t_s,freq_hz"]
    for name, piece in (("001", made[0]), ("002", made[1])):
        packed += [f"{name},{at * STEP_S + 0.4:.1f},{hz:.4f}" for at, hz in enumerate(piece)]
    (directory / "a.csv.gz").write_bytes(gzip.compress("\n".join(packed).encode()))
    plain = ["t_s,freq_hz", *(f"{at * STEP_S:.1f},{hz:.4f}" for at, hz in enumerate(made[2]))]
    (directory / "b.csv").write_text("\n".join(plain), encoding="utf-8")
    return directory


def pieces_in(directory: Path) -> list[Piece]:
    """Every recording of every file, in the order of their names; holes in one are bridged."""
    found: list[Piece] = []
    for path in sorted([*directory.glob("*.csv"), *directory.glob("*.csv.gz")]):
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
        rows = csv.DictReader(io.StringIO(text))
        for _, lines in itertools.groupby(rows, key=lambda row: row.get("segment", "")):
            found.append(resampled([(float(row["t_s"]), float(row["freq_hz"])) for row in lines]))
    assert found, f"no *.csv or *.csv.gz in {directory}"
    return found


def resampled(rows: Sequence[tuple[float, float]]) -> Piece:
    """At even steps; the newest sample holds."""
    first, made = rows[0][0], Piece()
    for at_s, hz in rows:
        steps = round((at_s - first) / STEP_S) + 1
        made += [made[-1] if made else hz] * (steps - len(made) - 1)
        made += [hz] * (steps - len(made))
    return made


def chained(pieces: Sequence[Piece], for_s: float) -> Piece:
    """As many of them as this long needs."""
    wanted, made = round(for_s / STEP_S), Piece()
    join = round(JOIN_S / STEP_S)
    for turn, piece in ((turn, piece) for turn in itertools.count() for piece in pieces):
        facing = piece if turn % 2 == 0 else [100.0 - hz for hz in piece]
        if made:
            last = made[-1]
            made += [last + (facing[0] - last) * step / join for step in range(1, join)]
        made += facing
        if len(made) >= wanted:
            return made[:wanted]
    raise AssertionError("no recording")


# ---- the life ----------------------------------------------------------------------------------


async def lived(trace: Path, for_s: float) -> list[Row]:
    """Every row that the site wrote, readings aside."""
    settings = site_settings(("A",), droop=DROOP, evidence=RULE)
    start, kept = MIDNIGHT - timedelta(seconds=for_s / 2), list[Row]()
    async with SiteRig(settings, grid_hz=None, trace=trace, start=start) as rig:
        begun_s = rig.now_s
        for turn in range(math.ceil(for_s / TURN_S)):
            rig.plan(BASE_KW if turn % 2 == 0 else -BASE_KW, for_s=2 * TURN_S)
            await rig.clock.sleep_until(begun_s + min((turn + 1) * TURN_S, for_s - 10.0))
            kept += [row for row in rig.memory.rows if not isinstance(row, ReadingRow)]
            rig.memory.rows.clear()
        await rig.stop()
        kept += [row for row in rig.memory.rows if not isinstance(row, ReadingRow)]
    return kept


@pytest.fixture(scope="module")
def hertz(tmp_path_factory: pytest.TempPathFactory) -> Piece:
    """The frequency of the whole run."""
    if given := os.environ.get("VPPD_RECORDINGS"):
        hours = float(os.environ.get("VPPD_RECORDED_HOURS", WHOLE_DAY_H))
        return chained(pieces_in(Path(given)), 3600.0 * hours)
    made = own_recordings(tmp_path_factory.mktemp("own") / "recordings")
    return chained(pieces_in(made), OWN_S)


@pytest.fixture(scope="module")
def state(hertz: Piece, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("hours")
    trace = directory / "trace.csv"
    lines = (f"{at * STEP_S:.1f},{hz:.4f}" for at, hz in enumerate(hertz))
    trace.write_text("\n".join(("t_s,freq_hz", *lines)), encoding="utf-8")
    rows = run_virtual(lived(trace, len(hertz) * STEP_S))
    journal_on_disk(directory / "journal.db", rows)
    return directory


@pytest.fixture
def journal(state: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(auditor.opened(state / "journal.db")) as opened:
        yield opened


def ids(journal: sqlite3.Connection) -> list[str]:
    return [name for (name,) in journal.execute("SELECT id FROM frequency_event ORDER BY begin_at")]


# ---- what must hold ----------------------------------------------------------------------------


def test_the_way_between_two_recordings_is_no_step() -> None:
    made = chained([[50.0, 50.02], [49.9]], 3 * JOIN_S)
    assert len(made) == round(3 * JOIN_S / STEP_S)
    assert max(abs(b - a) for a, b in itertools.pairwise(made)) <= 0.0201
    assert made[1] == 50.02
    assert min(made) == pytest.approx(49.9)
    assert made[-1] == pytest.approx(100.0 - 49.9, abs=0.2)
    assert resampled([(0.4, 50.0), (0.5, 50.1), (0.8, 50.2)]) == [50.0, 50.1, 50.1, 50.1, 50.2]


def test_the_day_was_lived_whole(hertz: Piece, journal: sqlite3.Connection) -> None:
    """A row a second, or a tick more, but for the moments in which the site starts and ends."""
    (rows,) = journal.execute("SELECT count(*) FROM site WHERE frequency_hz IS NOT NULL").fetchone()
    assert rows >= len(hertz) * STEP_S / (1.0 + TICK_S) - 20.0
    print(f"\n{len(hertz) * STEP_S / 3600:.2f} h, {rows} rows of a second")


def test_every_event_is_found_and_nothing_else_is(
    hertz: Piece, journal: sqlite3.Connection
) -> None:
    """By the rows' own definition, by the rows of a second, and by what was played."""
    told = auditor.journaled(journal)
    assert told, "a day without an event proves nothing: narrow the rule"
    rule = auditor.event_of(journal, ids(journal)[0])["rule"]
    assert auditor.events_in(auditor.frequencies(journal), rule) == told
    assert auditor.missed(journal, rule) == []
    start = micros(MIDNIGHT) - round(len(hertz) * STEP_S / 2 * 1e6)
    spans = [(begin - start, (end or 1 << 62) - start) for begin, end, _, _ in told]
    lost = [
        span
        for span in beyond(hertz)
        if span[1] - span[0] >= RULE.duration_s + SURELY_S
        and not any(begin <= 1e6 * span[1] and 1e6 * span[0] <= end for begin, end in spans)
    ]
    assert not lost
    print(f"\n{len(told)} events, {sum(1 for each in told if each[2] == 'rocof')} by ROCOF")


def beyond(hertz: Piece) -> list[tuple[float, float]]:
    """Seconds from and to of each run beyond an edge; a sample of a glitch breaks none."""
    found: list[tuple[float, float]] = []
    for inside, run in itertools.groupby(
        enumerate(hertz), key=lambda each: RULE.low_hz <= each[1] <= RULE.high_hz
    ):
        steps = [at for at, _ in run]
        if not inside and steps[-1] * STEP_S < len(hertz) * STEP_S - 12.0 and steps[0] > 50:
            found.append((steps[0] * STEP_S, steps[-1] * STEP_S))
    return found


def test_no_figure_of_any_event_differs(state: Path, journal: sqlite3.Connection) -> None:
    names, figures = ids(journal), 0
    assert len(set(names)) == len(names)
    for name in names:
        text = event_report(state, name, ZONE, "md")
        assert auditor.event_differences(journal, text) == []
        with journal_in(state) as ours:
            event = event_named(ours, name)
            told = judged(event, rows_of(ours, event), ZONE)
            by_sql = figures_by_sql(ours, event)
        exact = recomputed(state / "journal.db", name)
        seen = {key: getattr(told.figures, key) for key in exact}
        assert_same(seen, exact)
        assert_same(seen, by_sql)
        figures += len(exact)
    print(f"\n{len(names)} events, {figures} figures, by three ways: no difference")


@pytest.mark.parametrize("month", MONTHS)
def test_no_figure_of_any_month_differs(
    state: Path, journal: sqlite3.Connection, month: date
) -> None:
    text = frequency_report(state, month, ZONE, "md")
    assert auditor.month_differences(journal, text, ZONE) == []
    begin, end = (micros(each) for each in days_bounds(month, ZONE))
    shown = [row[0] for row in auditor.table_headed(text, "id", "begun")]
    assert shown == [
        name for name in ids(journal) if begin <= auditor.event_of(journal, name)["begin"] < end
    ]
    rule = auditor.rule_in(text)
    bounds = {day: (micros(since), micros(until)) for day, since, until in days_of(month, ZONE)}
    lived_days = 0
    for row in csv.DictReader(io.StringIO(frequency_report(state, month, ZONE, "csv"))):
        since, until = bounds[date.fromisoformat(row.pop("day"))]
        exact = auditor.day_of(journal, since, until, rule["band_low"], rule["band_high"])
        told = {key: float(value) if value else None for key, value in row.items()}
        assert_same(told, {key: None if v is None else float(v) for key, v in exact.items()})
        lived_days += told["mean_hz"] is not None
    assert lived_days == 1
    print(f"\n{month:%B}: {len(shown)} events, {lived_days} day lived")
