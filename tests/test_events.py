"""Frequency events found by rule: the stream and a definition over the whole record agree."""

import dataclasses
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vppd.core.settings_evidence import EvidenceSettings
from vppd.grid.events import Begun, Detector, Ended, Ending, Sample, Trigger, found

SECOND = 1_000_000
RULE = EvidenceSettings(
    duration_s=1.0, merge_s=5.0, longest_s=120.0, rocof_hz_per_s=0.2, rocof_duration_s=0.5
)


def record(*stretches: tuple[float, float | None], rocof_hz_per_s: float = 0.0) -> list[Sample]:
    """(seconds, Hz) one after the other, ten samples a second."""
    samples: list[Sample] = []
    for length_s, frequency_hz in stretches:
        for _ in range(round(length_s * 10)):
            samples.append((len(samples) * SECOND // 10, frequency_hz, rocof_hz_per_s))
    return samples


def told(samples: list[Sample], rule: EvidenceSettings = RULE) -> list[tuple[float, float, str]]:
    """(begin s, end s, why)."""
    return [
        (each.begin_us / SECOND, each.end_us / SECOND, f"{each.trigger} {each.ending}")
        for each in found(samples, rule)
    ]


@pytest.mark.parametrize(
    ("stretches", "expected"),
    [
        ([(60, 50.0)], []),
        ([(60, 49.90)], []),  # an edge is inside
        ([(10, 50.0), (0.9, 49.8), (20, 50.0)], []),  # too short
        ([(10, 50.0), (1.1, 49.8), (20, 50.0)], [(10.0, 11.1, "low inside")]),
        ([(10, 50.0), (8, 50.2), (20, 50.0)], [(10.0, 18.0, "high inside")]),
        # inside the edge but not by its hysteresis: still the same event
        ([(5, 50.0), (3, 49.8), (30, 49.91), (9, 50.0)], [(5.0, 38.0, "low inside")]),
        # close: merged; not close: two
        (
            [(5, 50.0), (3, 49.8), (4.8, 50.0), (3, 50.2), (9, 50.0)],
            [(5.0, 15.8, "low inside")],
        ),
        (
            [(5, 50.0), (3, 49.8), (6, 50.0), (3, 50.2), (9, 50.0)],
            [(5.0, 8.0, "low inside"), (14.0, 17.0, "high inside")],
        ),
        # cut at its longest, and no second one out of the same excursion
        ([(5, 50.0), (300, 49.8), (9, 50.0)], [(5.0, 125.0, "low longest")]),
        (
            [(5, 50.0), (300, 49.8), (9, 50.0), (4, 49.8), (9, 50.0)],
            [(5.0, 125.0, "low longest"), (314.0, 318.0, "low inside")],
        ),
        # the frequency is lost in it: it ends where it was last seen; a blink is nothing
        ([(5, 50.0), (5, 49.8), (10, None), (9, 50.0)], [(5.0, 9.9, "low gap")]),
        ([(5, 50.0), (5, 49.8), (1, None), (5, 49.8), (9, 50.0)], [(5.0, 16.0, "low inside")]),
        # the record ends in it
        ([(5, 50.0), (5, 49.8)], [(5.0, 9.9, "low last")]),
        ([(3, None), (3, 49.8), (9, 50.0)], [(3.0, 6.0, "low inside")]),
    ],
)
def test_the_rule_by_example(
    stretches: list[tuple[float, float | None]], expected: list[tuple[float, float, str]]
) -> None:
    assert told(record(*stretches)) == expected


def test_steepness_makes_an_event_before_an_edge_is_reached() -> None:
    steep = [(at_us, 50.0, -0.3) for at_us in range(0, SECOND, SECOND // 10)]
    calm = [(at_us, 49.95, 0.0) for at_us in range(SECOND, 8 * SECOND, SECOND // 10)]
    assert told([*steep, *calm]) == [(0.0, 1.0, "rocof inside")]
    off = dataclasses.replace(RULE, rocof_hz_per_s=None)
    assert told([*steep, *calm], off) == []
    assert told([*steep[:5], *calm]) == []  # steep for 0.4 s only


def test_it_is_known_as_soon_as_it_has_lasted() -> None:
    detector = Detector(RULE)
    seen = [detector.take(sample) for sample in record((5, 50.0), (3, 49.8))]
    at = next(place for place, each in enumerate(seen) if each)
    assert at == 60
    assert seen[at] == (Begun(5 * SECOND, Trigger.LOW),)
    assert detector.running == Begun(5 * SECOND, Trigger.LOW)


def test_a_clock_that_is_set_back_ends_it() -> None:
    before = record((5, 50.0), (5, 49.8))
    after = [(at_us - 60 * SECOND, hz, rocof) for at_us, hz, rocof in record((9, 49.8))]
    ended = found([*before, *after], RULE)
    assert [(each.begin_us, each.ending) for each in ended] == [
        (5 * SECOND, Ending.GAP),
        (-60 * SECOND, Ending.LAST),
    ]


def test_a_sample_told_twice_changes_nothing() -> None:
    samples = record((5, 50.0), (3, 49.8), (9, 50.0))
    assert found([each for each in samples for _ in range(2)], RULE) == found(samples, RULE)


# ---- the stream against the whole record -------------------------------------------------------

LEVELS = st.sampled_from([49.7, 49.89, 49.91, 49.93, 50.0, 50.07, 50.09, 50.11, 50.3, None])
STRETCHES = st.lists(st.tuples(st.sampled_from([0.3, 1.0, 1.2, 2.5, 5.2, 30.0]), LEVELS))
STEEP = st.sampled_from([0.0, 0.0, 0.3])


@st.composite
def records(draw: st.DrawFn) -> list[Sample]:
    samples: list[Sample] = []
    for length_s, frequency_hz in draw(STRETCHES):
        rocof_hz_per_s = draw(STEEP)
        for _ in range(round(length_s * 10)):
            samples.append((len(samples) * SECOND // 10, frequency_hz, rocof_hz_per_s))
    return samples


def by_definition(samples: list[Sample], rule: EvidenceSettings) -> list[tuple[int, int]]:
    """(begin, end) of every event, by looking at the whole record again and again."""
    known = [each for each in samples if each[1] is not None]
    pieces: list[list[Sample]] = []
    for each in known:
        if pieces and each[0] - pieces[-1][-1][0] <= rule.gap_s * SECOND:
            pieces[-1].append(each)
        else:
            pieces.append([each])
    return [event for piece in pieces for event in in_piece(piece, rule)]


def in_piece(piece: list[Sample], rule: EvidenceSettings) -> list[tuple[int, int]]:
    times = [at_us for at_us, _, _ in piece]
    triggers = [
        ([hz is not None and hz < rule.low_hz for _, hz, _ in piece], rule.duration_s),
        ([hz is not None and hz > rule.high_hz for _, hz, _ in piece], rule.duration_s),
        (
            [
                rule.rocof_hz_per_s is not None and abs(rocof or 0.0) >= rule.rocof_hz_per_s
                for _, _, rocof in piece
            ],
            rule.rocof_duration_s,
        ),
    ]
    calm = [
        hz is not None
        and rule.low_hz + rule.hysteresis_hz <= hz <= rule.high_hz - rule.hysteresis_hz
        and not steep
        for (_, hz, _), steep in zip(piece, triggers[2][0], strict=True)
    ]
    events: list[tuple[int, int]] = []
    free = 0  # first sample that may belong to the next event
    while free < len(piece):
        ripe = [
            found_at for holds, long_s in triggers if (found_at := run(holds, times, free, long_s))
        ]
        if not ripe:
            break
        known_at = min(at for at, _ in ripe)
        first = min(begin for at, begin in ripe if at == known_at)
        back = returned(calm, times, known_at, rule)
        cut = next(
            (
                i
                for i in range(known_at + 1, len(piece))
                if times[i] - times[first] >= rule.longest_s * SECOND
            ),
            None,
        )
        if cut is not None and (back is None or cut < back[1]):
            events.append((times[first], times[cut]))
        elif back is not None:
            events.append((times[first], times[back[0]]))
        else:
            events.append((times[first], times[-1]))
        if back is None:
            break
        free = back[1] + 1
    return events


def run(holds: list[bool], times: list[int], free: int, long_s: float) -> tuple[int, int] | None:
    """(sample at which a run has lasted, its first sample) of the first run that does."""
    begin: int | None = None
    for i in range(free, len(holds)):
        if not holds[i]:
            begin = None
            continue
        begin = i if begin is None else begin
        if times[i] - times[begin] >= long_s * SECOND:
            return i, begin
    return None


def returned(
    calm: list[bool], times: list[int], known_at: int, rule: EvidenceSettings
) -> tuple[int, int] | None:
    """(first sample of the calm that ends it, sample at which that is known)."""
    lasted = run(calm, times, known_at, rule.merge_s)
    return (lasted[1], lasted[0]) if lasted is not None else None


@given(records())
@settings(max_examples=200, deadline=None)
def test_the_stream_finds_what_the_definition_says(samples: list[Sample]) -> None:
    rule = dataclasses.replace(RULE, longest_s=20.0)
    assert [(each.begin_us, each.end_us) for each in found(samples, rule)] == by_definition(
        samples, rule
    )


@given(records())
@settings(max_examples=100, deadline=None)
def test_events_never_overlap_and_are_never_longer_than_the_longest(
    samples: list[Sample],
) -> None:
    rule = dataclasses.replace(RULE, longest_s=20.0)
    events: list[Ended] = found(samples, rule)
    assert all(before.end_us <= after.begin_us for before, after in pairwise(events))
    assert all(each.begin_us <= each.end_us for each in events)
    assert all(each.end_us - each.begin_us <= 20.0 * SECOND + SECOND // 10 for each in events)
