"""The figures of an event: by hand, against an auditor's own sums and against the published SQL."""

import dataclasses
import json
from datetime import date, timedelta
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evidence_site import (
    AT,
    ZONE,
    assert_same,
    evidence,
    figures_by_sql,
    journal_on_disk,
    recomputed,
)
from vppd.cli.report.event import judged
from vppd.cli.report.journal import event_named, journal_in, rows_of
from vppd.core.records import EventRow, EvidenceRow
from vppd.core.response_rules import TABLES, rules_at
from vppd.core.settings_evidence import EvidenceSettings
from vppd.grid.band_time import BandClock, BandTime
from vppd.grid.compliance import Figures, figures
from vppd.grid.verdicts import grade, verdicts

RULES = TABLES[-1]
SECOND = 1_000_000
CURVE_KW_PER_HZ = 80.0


def step_event(
    *,
    delay_s: float = 0.4,
    length_s: float = 330.0,
    share: float = 1.0,
    asked_share: float = 1.0,
    change_hz: float = -0.5,
    falls_at_s: float = 1e9,
) -> list[EvidenceRow]:
    """A minute at 50 Hz, then a step: owed at once, `share` of it delivered after a delay, and
    nothing any more from `falls_at_s` on."""
    rows = []
    for n in range(-600, round(length_s * 10) + 1):
        at_s, owed_kw = n / 10, -CURVE_KW_PER_HZ * change_hz if n >= 0 else 0.0
        given_kw = share * owed_kw if delay_s <= at_s < falls_at_s else 0.0
        hz = 50.0 + (change_hz if n >= 0 else 0.0)
        rows.append(evidence(at_s, hz, owed_kw, given_kw, asked_kw=asked_share * owed_kw))
    return rows


def of(rows: list[EvidenceRow], fro: float | None = None) -> Figures:
    return figures(rows, AT, rows[-1].at, RULES, fro)


def passed(seen: Figures) -> list[bool | None]:
    return [each.passed for each in verdicts(seen, RULES)]


def test_a_good_answer_by_hand() -> None:
    seen = of(step_event())
    assert (seen.duration_s, seen.rows, seen.side) == (330.0, 3301, 1)
    assert (seen.pre_hz, seen.nadir_hz, seen.settled_hz) == (50.0, 49.5, 49.5)
    assert (seen.owed_max_kw, seen.delivered_max_kw) == (40.0, 40.0)
    assert (seen.start_s, seen.full_s) == (0.4, 0.4)
    assert seen.sustained_s == pytest.approx(329.6)
    assert seen.sustain_due_s == 300.0
    assert seen.owed_kwh == pytest.approx(40.0 * 330.0 / 3600.0)
    assert seen.shortfall_kwh == pytest.approx(40.0 * 0.4 / 3600.0)
    assert (seen.excess_kwh, seen.adaptation_kwh) == (0.0, 0.0)
    assert seen.droop_error_pct == 0.0
    assert seen.frc_kw_per_hz == pytest.approx(CURVE_KW_PER_HZ)
    assert seen.frp_ratio == pytest.approx(1.0)
    assert passed(seen) == [True, True, True, True]


@pytest.mark.parametrize("change_hz", [-0.5, 0.4])
def test_half_an_answer_fails_both_ways_and_counts_what_was_not_asked(change_hz: float) -> None:
    """The units were asked for 70 % and gave half: 30 points of the shortfall are adaptation."""
    seen = of(step_event(share=0.5, asked_share=0.7, delay_s=0.0, change_hz=change_hz))
    assert seen.side == (1 if change_hz < 0 else -1)
    assert seen.shortfall_kwh == pytest.approx(0.5 * seen.owed_kwh)
    assert seen.adaptation_kwh == pytest.approx(0.3 * seen.owed_kwh)
    assert seen.delivered_kwh == pytest.approx(0.5 * seen.owed_kwh)
    assert seen.droop_error_pct == pytest.approx(50.0)
    assert seen.frp_ratio == pytest.approx(0.5)
    assert seen.beta_ratio == pytest.approx(0.5)
    assert grade(seen.frp_ratio, RULES) in {"below average", "poor"}
    assert passed(seen) == [True, False, False, False]


def test_too_late_is_told() -> None:
    assert passed(of(step_event(delay_s=6.0)))[0] is False
    assert passed(of(step_event(delay_s=46.0)))[:2] == [False, False]


def test_an_answer_that_gives_up_is_not_sustained() -> None:
    seen = of(step_event(falls_at_s=200.0))
    assert seen.sustained_s == pytest.approx(199.6)
    assert passed(seen)[2] is False
    short = of(step_event(falls_at_s=200.0, length_s=100.0))
    assert short.sustain_due_s == pytest.approx(99.6)
    assert passed(short)[2] is True


def test_the_other_way_is_shortfall_beyond_what_is_owed() -> None:
    seen = of(step_event(share=-1.0, delay_s=0.0))
    assert seen.shortfall_kwh == pytest.approx(2.0 * seen.owed_kwh)
    assert seen.delivered_kwh == pytest.approx(-seen.owed_kwh)
    assert seen.beta_ratio == 0.0


def test_what_nobody_measured_was_not_delivered() -> None:
    rows = [dataclasses.replace(row, measured_kw=None, unmeasured=4) for row in step_event()]
    seen = of(rows)
    assert (seen.unmeasured_pct, seen.delivered_kwh) == (100.0, 0.0)
    assert seen.shortfall_kwh == seen.owed_kwh
    assert passed(seen) == [False, False, False, False]


def test_a_schedule_that_moves_is_not_response() -> None:
    rows = [
        dataclasses.replace(row, base_kw=n / 100, measured_kw=(row.measured_kw or 0.0) + n / 100)
        for n, row in enumerate(step_event())
    ]
    assert of(rows).frc_kw_per_hz == pytest.approx(CURVE_KW_PER_HZ)


def test_a_configured_obligation_rules() -> None:
    assert of(step_event(), 100.0).frp_ratio == pytest.approx(0.8)


def test_nothing_owed_nothing_judged_and_no_rows_nothing_said() -> None:
    quiet = of([evidence(n / 10) for n in range(-600, 600)])
    assert (quiet.side, quiet.start_s, quiet.frc_kw_per_hz) == (0, None, None)
    assert verdicts(quiet, RULES) == ()
    empty = figures([], AT, AT + timedelta(seconds=9), RULES)
    assert (empty.rows, empty.owed_kwh, empty.pre_hz, empty.nadir_hz) == (0, 0.0, None, None)


def test_fast_response_is_owed_beside_the_curve() -> None:
    rows = [dataclasses.replace(row, ffr_kw=10.0 * (row.at >= AT)) for row in step_event()]
    assert of(rows).owed_max_kw == 50.0


def test_rules_are_dated_and_every_number_says_where_it_is_from() -> None:
    assert rules_at(date(2026, 11, 22)) is RULES
    assert rules_at(date(1999, 1, 1)) is TABLES[0]
    assert [each.effective_from for each in TABLES] == sorted(
        each.effective_from for each in TABLES
    )
    assert all(each.source and each.unit for each in RULES.numbers().values())
    assert not RULES.full_max.verified


@pytest.mark.parametrize(
    ("frp", "word"),
    [(1.2, "excellent"), (1.0, "excellent"), (0.9, "good"), (0.5, "below average"), (-1.0, "poor")],
)
def test_grades(frp: float, word: str) -> None:
    assert grade(frp, RULES) == word


# ---- recomputed --------------------------------------------------------------------------------

PACE_S = (0.08, 0.09, 0.11, 1.7)
LEVEL = st.sampled_from([49.6, 49.75, 49.85, 49.93, 50.0, 50.12, 50.3])


@st.composite
def lives(draw: st.DrawFn) -> list[EvidenceRow]:
    """An event of levels and noise, answered with a lag and a bound, with rows and values lost."""
    random = Random(draw(st.integers(0, 2**32)))
    bound_kw, lag = draw(st.sampled_from([5.0, 20.0, 400.0])), draw(st.sampled_from([0.2, 0.6]))
    noise_hz = draw(st.sampled_from([0.0, 0.0003, 0.005]))
    levels = draw(st.lists(st.tuples(st.sampled_from([4.0, 22.0, 50.0]), LEVEL), max_size=4))
    rows, at_s, given_kw = [], -60.0, 0.0
    for length_s, level_hz in [(60.0, draw(st.sampled_from([50.0, 49.97]))), *levels]:
        until_s = at_s + length_s
        while at_s < until_s:
            hz = round(level_hz + random.gauss(0.0, noise_hz), 4)
            owed_kw = round(CURVE_KW_PER_HZ * (50.0 - hz), 4) if abs(hz - 50.0) > 0.03 else 0.0
            asked_kw = min(max(owed_kw, -bound_kw), bound_kw)
            given_kw += lag * (asked_kw - given_kw)
            lost = random.random() < 0.01
            seen_kw = None if lost else round(given_kw, 1)
            hz_seen = None if random.random() < 0.01 else hz
            row = evidence(
                round(at_s, 2), hz_seen, owed_kw, seen_kw, asked_kw=asked_kw, base_kw=12.5
            )
            rows.append(dataclasses.replace(row, unmeasured=int(lost or random.random() < 0.05)))
            at_s += 0.1 if random.random() < 0.98 else random.choice(PACE_S)
    return rows


@given(lives(), st.sampled_from([None, 75.0]), st.floats(3.0, 90.0))
@settings(max_examples=25, deadline=None)
def test_no_figure_differs_from_an_auditor_s(
    rows: list[EvidenceRow], fro: float | None, length_s: float
) -> None:
    rule = dataclasses.asdict(EvidenceSettings(obligation_kw_per_hz=fro))
    begin_at = round(AT.timestamp() * SECOND)
    end_at = begin_at + round(length_s * 10) * SECOND // 10
    if not any(AT <= row.at <= AT + timedelta(seconds=length_s) for row in rows):
        rows = [*rows, evidence(0.0)]
    said = {"id": "e", "trigger": "low", "begin_at": begin_at, "end_at": end_at}
    said |= {"ending": "inside", "rule": rule}
    notes = [
        EventRow(AT, code, "site", 1, "", json.dumps(said))
        for code in ("frequency_event_begun", "frequency_event")
    ]
    with TemporaryDirectory() as directory:
        journal_on_disk(Path(directory) / "journal.db", [*rows, *notes])
        with journal_in(Path(directory)) as journal:
            one = event_named(journal, "e")
            told = judged(one, rows_of(journal, one), ZONE)
            by_sql = figures_by_sql(journal, one)
        theirs = recomputed(Path(directory) / "journal.db", "e")
    ours = dataclasses.asdict(told.figures)
    assert_same(ours, theirs)
    assert_same(ours, by_sql)


# ---- time in the band --------------------------------------------------------------------------


def band(samples: list[tuple[float, float | None]], length_s: float) -> BandTime:
    clock = BandClock(49.9, 50.05, 0, round(length_s * SECOND))
    for at_s, frequency_hz in samples:
        clock.take(round(at_s * SECOND), frequency_hz)
    return clock.day()


def test_time_in_the_band_by_hand() -> None:
    hz = [50.0] * 10 + [49.8] * 20 + [50.0] * 5 + [50.2] * 15 + [49.9, 50.05] * 5
    day = band([(float(at), value) for at, value in enumerate(hz)], 60.0)
    assert (day.inside_s, day.below_s, day.above_s) == (25.0, 20.0, 15.0)
    assert (day.longest_s, day.longest_from_us) == (20.0, 10 * SECOND)
    assert (day.min_hz, day.max_hz, day.available_pct) == (49.8, 50.2, 100.0)
    assert day.mean_hz == pytest.approx(sum(hz) / 60)


def test_a_gap_is_nobody_s_time_and_breaks_an_excursion() -> None:
    day = band([(0.0, 49.8), (1.0, 49.8), (10.0, 49.8), (11.0, None), (12.0, 50.0)], 100.0)
    assert (day.below_s, day.inside_s, day.longest_s) == (4.0, 2.0, 3.0)
    assert day.available_pct == pytest.approx(6.0)
    nothing = band([], 10.0)
    assert (nothing.mean_hz, nothing.available_pct, nothing.longest_from_us) == (None, 0.0, None)


def test_low_and_high_are_two_excursions() -> None:
    day = band([(0.0, 49.8), (1.0, 49.8), (2.0, 50.2), (3.0, 50.0), (3.0, 50.0)], 4.0)
    assert (day.longest_s, day.below_s, day.above_s, day.inside_s) == (2.0, 2.0, 1.0, 1.0)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.1, 1.0, 1.9, 2.0, 5.0]),
            st.sampled_from([49.8, 49.9, 50.0, 50.05, 50.2, None]),
        ),
        max_size=40,
    )
)
def test_every_instant_is_counted_once(steps: list[tuple[float, float | None]]) -> None:
    samples, at_s = [], 0.0
    for step_s, frequency_hz in steps:
        at_s += step_s
        samples.append((at_s, frequency_hz))
    day = band(samples, at_s + 3.0)
    # the same by looking at every tenth of a second
    tenths = round((at_s + 3.0) * 10)
    seen: list[float | None] = [None] * tenths
    for place, (begin_s, frequency_hz) in enumerate(samples):
        until_s = samples[place + 1][0] if place + 1 < len(samples) else at_s + 3.0
        for tenth in range(round(begin_s * 10), round(min(until_s, begin_s + 2.0) * 10)):
            seen[tenth] = frequency_hz
    known = [value for value in seen if value is not None]
    assert day.below_s == pytest.approx(sum(value < 49.9 for value in known) / 10)
    assert day.above_s == pytest.approx(sum(value > 50.05 for value in known) / 10)
    assert day.inside_s == pytest.approx(sum(49.9 <= value <= 50.05 for value in known) / 10)
    assert day.available_pct == pytest.approx(100 * len(known) / tenths)
    if known:
        assert (day.min_hz, day.max_hz) == (min(known), max(known))
    longest = current = 0
    before = 0
    for value in seen:
        side = 0 if value is None else (value > 50.05) - (value < 49.9)
        current = (current + 1 if side == before else 1) if side else 0
        longest, before = max(longest, current), side
    assert day.longest_s == pytest.approx(longest / 10)


@pytest.mark.parametrize(("share", "full"), [(0.96, True), (0.94, False)])
def test_full_is_within_the_tolerance_of_what_is_owed(share: float, full: bool) -> None:
    assert (of(step_event(share=share)).full_s is not None) is full


def test_the_recovery_at_the_end_is_not_the_settled_point() -> None:
    rows = step_event(length_s=40.0)
    rows[-10:] = [dataclasses.replace(row, frequency_hz=50.0) for row in rows[-10:]]
    assert of(rows).settled_hz == 49.5
