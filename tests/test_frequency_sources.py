"""Sources judged, compared and chosen: frozen values, jumps, dead buses, votes, and easing."""

import math
import random
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vppd.core.alarms import Code
from vppd.core.model import METER, Phasor, Point, Quality, Reading, Snapshot, Synchro, UnitId
from vppd.core.settings import BandSettings, DroopSettings
from vppd.core.settings_sources import SourceSettings
from vppd.grid.agreement import NOMINAL, Voice, against, apart, cautious, majority
from vppd.grid.frequency import Frequency, Heard, Trust, eased, select
from vppd.grid.source_quality import (
    FLOAT_STEP_HZ,
    INTEGER_STEP_HZ,
    BusWatch,
    FrozenWatch,
    LiveWatch,
    Track,
    followed,
)

SOURCES = SourceSettings(devices_count=True)
P1, P2, P3, B1, B2 = (UnitId(name) for name in ("p1", "p2", "p3", "b1", "b2"))
TRUST = Trust((P1, P2, P3), (B1, B2), BandSettings(), DroopSettings(), SOURCES)
FULL_HZ = 2.5  # full power at this deviation
UTC_AT = datetime(2026, 1, 1, tzinfo=UTC)
GRID_HZ = st.floats(49.0, 51.0)


# ---- frozen ------------------------------------------------------------------


def _frozen_after(course: list[float], step_hz: float, dt_s: float = 0.1) -> float | None:
    watch = FrozenWatch(SOURCES)
    for step, hz in enumerate(course):
        if watch.frozen(hz, step * dt_s, step_hz):
            return step * dt_s
    return None


@pytest.mark.parametrize("step_hz", [FLOAT_STEP_HZ, INTEGER_STEP_HZ])
def test_a_value_that_never_moves_is_frozen_after_the_window(step_hz: float) -> None:
    course = [50.0 + 0.001 * (step % 7) for step in range(100)] + [49.987] * 400
    assert _frozen_after(course, step_hz) == pytest.approx(10.0 + SOURCES.frozen_s)


def test_integer_values_that_repeat_as_a_real_grid_does_are_alive() -> None:
    """Forty equal millihertz in a row were the longest run of twelve recorded hours."""
    course = [50.0 + 0.001 * (step // 40) for step in range(2000)]
    assert _frozen_after(course, INTEGER_STEP_HZ) is None


def test_the_window_follows_the_least_change_ever_seen() -> None:
    """A device that computes in steps of 10 mHz and sends floats stands still ten times longer."""
    course = [50.0, 50.01] + [50.0] * 1400
    assert _frozen_after(course, FLOAT_STEP_HZ) is None
    assert _frozen_after([*course, *course[2:]], FLOAT_STEP_HZ) == pytest.approx(150.2, abs=0.15)


def test_a_frozen_value_that_moves_is_alive_at_once() -> None:
    watch = FrozenWatch(SOURCES)
    assert [watch.frozen(50.0, float(at), INTEGER_STEP_HZ) for at in range(20)][-1]
    assert not watch.frozen(50.001, 20.0, INTEGER_STEP_HZ)


def test_few_frames_say_nothing() -> None:
    watch = FrozenWatch(SOURCES)
    assert not any(watch.frozen(50.0, 10.0 * at, INTEGER_STEP_HZ) for at in range(9))
    assert watch.frozen(50.0, 90.0, INTEGER_STEP_HZ)


# ---- dead bus ----------------------------------------------------------------


def _volts(*magnitudes: float) -> tuple[Phasor, ...]:
    volts = (Phasor("V", each, 0.0, "V") for each in magnitudes)
    return (*volts, Phasor("I", 9e9, 0.0, "A"))


@pytest.mark.parametrize("known", [True, False])
def test_a_bus_is_dead_below_its_share_of_normal(known: bool) -> None:
    phase_v = 11_000.0 / math.sqrt(3.0)
    watch = BusWatch(replace(SOURCES, nominal_v=phase_v if known else None))
    assert not any(watch.dead(_volts(phase_v, phase_v), 0.1 * at) for at in range(50))
    assert not watch.dead(_volts(0.0, 0.0, 0.52 * phase_v), 5.1)  # one phase is enough
    assert watch.dead(_volts(0.48 * phase_v, 0.1 * phase_v), 5.2)
    assert watch.dead(_volts(0.53 * phase_v), 5.3)  # hysteresis
    assert not watch.dead(_volts(0.57 * phase_v), 5.4)


def test_a_dead_bus_teaches_nothing() -> None:
    watch = BusWatch(SOURCES)
    watch.dead(_volts(6000.0), 0.0)
    for at in range(100_000):
        assert watch.dead(_volts(100.0), 1.0 + at)
    assert not watch.dead(_volts(5000.0), 200_000.0)


def test_a_wild_magnitude_does_not_become_normal() -> None:
    watch = BusWatch(SOURCES)
    watch.dead(_volts(6000.0), 0.0)
    watch.dead(_volts(1e9), 0.1)
    assert not watch.dead(_volts(6000.0), 0.2)


def test_known_voltage_sees_a_bus_that_was_dead_from_the_start() -> None:
    assert BusWatch(replace(SOURCES, nominal_v=6351.0)).dead(_volts(50.0), 0.0)
    assert BusWatch(SOURCES).dead(_volts(0.5), 0.0)
    assert not BusWatch(SOURCES).dead((), 0.0)


@pytest.mark.parametrize("tau_s", [0.1, 0.3, 0.8])
def test_the_frequency_of_a_bus_that_runs_down_is_not_believed_before_it_is_dead(
    tau_s: float,
) -> None:
    watch = LiveWatch(SOURCES)
    for step in range(30):
        volts = 6000.0 * math.exp(-max(step - 10, 0) * 0.1 / tau_s)
        quality, text, _ = watch.judge(50.0 - step / 100, _volts(volts), step * 0.1, FLOAT_STEP_HZ)
        assert (quality is Quality.GOOD) == (volts > 0.9 * 6000.0)
        assert bool(text) == (quality is not Quality.GOOD)
        if volts < 3000.0:
            break
    assert quality is Quality.DEAD_BUS


def test_in_a_dip_that_stays_the_frequency_is_believed_again() -> None:
    watch = LiveWatch(SOURCES)
    course = [6000.0] * 10 + [4000.0] * 10 + [6000.0] * 10
    made = [
        watch.judge(50.0 - step / 100, _volts(volts), step * 0.1, FLOAT_STEP_HZ)[0]
        for step, volts in enumerate(course)
    ]
    assert [step for step, quality in enumerate(made) if quality is not Quality.GOOD] == [10]
    slow = LiveWatch(SOURCES)  # a collapse of the grid itself: 4 % a second
    for step in range(100):
        seen = slow.judge(50.0 - step / 100, _volts(6000.0 - 24.0 * step), step * 0.1, 1e-5)
        assert seen[0] is Quality.GOOD


def test_alarms_begin_and_end_once() -> None:
    watch, told = LiveWatch(SOURCES), []
    for step, (hz, volt) in enumerate(
        [(50.0, 6000.0)] * 200
        + [(50.1, 6000.0)]
        + [(50.2 + at / 100, 9.0) for at in range(5)]
        + [(50.0, 6000.0)]
    ):
        quality, text, news = watch.judge(hz, _volts(volt), step * 0.1, FLOAT_STEP_HZ)
        assert (quality is Quality.GOOD) == (text == "")
        told += [(code, active) for code, active, _ in news]
    frozen, dead = Code.PMU_FROZEN, Code.DEAD_BUS
    assert told == [(frozen, True), (frozen, False), (dead, True), (dead, False)]


# ---- jumps -------------------------------------------------------------------


def _follow(course: list[float], seconds: list[float] | None = None) -> list[float]:
    track: Track | None = None
    for step, hz in enumerate(course):
        track = followed(track, hz, step * 0.1, SOURCES, seconds or [])
        course[step] = track.frequency_hz
    return course


def test_a_spike_is_never_believed() -> None:
    assert _follow([50.0, 45.2, 50.0, 54.9, 45.1, 50.01]) == [50.0] * 5 + [50.01]


def test_a_jump_is_believed_once_frames_repeat_it() -> None:
    assert _follow([50.0, 48.0, 48.0, 48.01, 48.0]) == [50.0, 50.0, 50.0, 48.01, 48.0]


def test_a_jump_that_another_source_shows_is_believed_at_once() -> None:
    assert _follow([50.0, 48.0], [48.01]) == [50.0, 48.0]
    assert _follow([50.0, 48.0], [50.0]) == [50.0, 50.0]


def test_only_a_jump_that_nobody_seconded_is_remembered_as_alone() -> None:
    track = followed(None, 50.0, 0.0, SOURCES)
    for at in (1, 2, 3):
        track = followed(track, 48.0, 0.1 * at, SOURCES)
    assert track.alone_s == pytest.approx(0.3)
    assert followed(followed(None, 50.0, 0.0, SOURCES), 48.0, 0.1, SOURCES, [48.0]).alone_s < 0.0


@given(st.lists(GRID_HZ, min_size=2, max_size=30))
def test_what_is_believed_never_moves_faster_than_a_grid_unless_repeated(seen: list[float]) -> None:
    """Each step of the believed course is plausible, or the last frames agree on it."""
    got = _follow(list(seen))
    for step in range(1, len(seen)):
        quick = abs(got[step] - got[step - 1]) > SOURCES.jump_hz_per_s * 0.1 + 1e-9
        if quick:
            last = seen[step - 2 : step + 1]
            assert step >= SOURCES.jump_frames
            assert max(map(lambda a, b: abs(a - b), last, last[1:])) <= 0.5 + 1e-9


def test_a_real_ramp_of_the_fastest_grid_is_followed_frame_by_frame() -> None:
    course = [50.0 - 0.25 * step for step in range(12)]
    assert _follow(list(course)) == course


# ---- votes -------------------------------------------------------------------


@given(GRID_HZ, GRID_HZ)
def test_of_two_that_disagree_neither_is_outbid(one_hz: float, other_hz: float) -> None:
    """The input asks for no more than either, and for nothing that neither asks for."""
    made = cautious(Voice(P1, one_hz, 0.0), Voice(P2, other_hz, 0.0), 50.0)
    offs = [one_hz - 50.0, other_hz - 50.0]
    off_hz = made.frequency_hz - 50.0
    assert abs(off_hz) <= min(map(abs, offs)) + 1e-12
    assert off_hz == 0.0 or any(off_hz == each for each in offs)
    if offs[0] * offs[1] < 0.0:
        assert made.source == NOMINAL


@given(st.lists(GRID_HZ, min_size=3, max_size=6))
def test_a_majority_stands_and_nobody_in_it_is_alone(seen: list[float]) -> None:
    voices = [Voice(UnitId(f"v{at}"), hz, 0.0) for at, hz in enumerate(seen)]
    kept = majority(voices, SOURCES)
    assert kept
    if len(kept) < len(voices):
        for each in kept:
            near = [other for other in voices if not apart(each, other, SOURCES)]
            assert 2 * len(near) > len(voices)


def test_the_odd_one_of_three_is_outvoted_whoever_it_is() -> None:
    for odd in range(3):
        voices = [Voice(UnitId(f"v{at}"), 49.0 if at == odd else 49.9, 0.0) for at in range(3)]
        assert {each.frequency_hz for each in majority(voices, SOURCES)} == {49.9}
    voices = [Voice(UnitId(f"v{at}"), 49.0 + 0.3 * at, 0.0) for at in range(3)]
    assert len(majority(voices, SOURCES)) == 3  # no majority: the order of trust
    assert len(majority(voices[:2], SOURCES)) == 2


def test_an_older_value_may_be_further_apart() -> None:
    young, old = Voice(P1, 49.9, 10.0), Voice(P2, 49.85, 9.0)
    assert not apart(young, old, SOURCES)
    assert apart(young, replace(old, at_s=10.0), SOURCES)
    near = replace(old, frequency_hz=49.88, at_s=10.0)
    assert not apart(young, near, SOURCES)
    assert apart(young, near, SOURCES, before=True)
    assert against(young, [young, near], SOURCES, before=False) is None


# ---- the choice --------------------------------------------------------------


class Desk:
    """Ticks of 0.1 s; sources say what they are told to say, anew in each."""

    def __init__(self, trust: Trust = TRUST) -> None:
        self.trust, self.heard, self.now_s = trust, Heard(), 1000.0

    def tick(
        self, pmus: dict[UnitId, float | Quality], devices: dict[UnitId, float] | None = None
    ) -> Frequency | None:
        self.now_s += 0.1
        now = Snapshot(
            self.now_s,
            UTC_AT,
            {
                (id_, Point.FREQUENCY_HZ): Reading(id_, Point.FREQUENCY_HZ, hz, self.now_s, 2.5)
                for id_, hz in (devices or {}).items()
            },
            {
                id_: Synchro(id_, 50.0, self.now_s, 0.5, said, "bad")
                if isinstance(said, Quality)
                else Synchro(id_, said, self.now_s, 0.5)
                for id_, said in pmus.items()
            },
        )
        frequency, self.heard = select(now, self.trust, self.heard)
        return frequency

    def ticks(
        self,
        count: int,
        pmus: dict[UnitId, float | Quality],
        devices: dict[UnitId, float] | None = None,
    ) -> list[Frequency | None]:
        return [self.tick(pmus, devices) for _ in range(count)]


BAD = Quality.IMPLAUSIBLE


def _sources(made: list[Frequency | None]) -> list[str]:
    return [each.source if each is not None else "" for each in made]


def test_the_meter_and_the_devices_come_last_in_that_order() -> None:
    said = {METER: 49.9, B1: 49.9, B2: 49.9}
    assert _sources(Desk().ticks(1, {P1: 49.9}, said)) == [P1]
    assert _sources(Desk().ticks(1, {P1: BAD}, said)) == [METER]
    assert _sources(Desk().ticks(1, {P1: BAD}, {B2: 49.9})) == [B2]
    assert _sources(Desk().ticks(1, {P1: BAD})) == [""]


def test_a_source_is_left_at_once_and_gone_back_to_late() -> None:
    desk = Desk()
    desk.ticks(5, {P1: 49.9, P2: 49.9})
    made = desk.ticks(3, {P1: BAD, P2: 49.9})
    assert _sources(made) == [P2] * 3
    assert made[0] is not None
    assert made[0].why == "p1: bad"
    made = desk.ticks(40, {P1: 49.9, P2: 49.9})
    rest = round(SOURCES.return_s / 0.1)
    assert _sources(made) == [P2] * rest + [P1] * (40 - rest)
    assert made[-1] is not None
    assert made[-1].why == ""


def test_a_source_that_was_never_in_use_needs_no_rest() -> None:
    desk = Desk()
    assert _sources(desk.ticks(2, {}, {B1: 50.0})) == [B1, B1]
    assert _sources(desk.ticks(1, {P1: 50.0}, {B1: 50.0})) == [P1]


def test_a_change_of_source_is_eased_for_a_while() -> None:
    desk = Desk()
    made = desk.ticks(10, {P1: 49.70, P2: 49.72})
    assert not any(each is not None and each.eased for each in made)  # a start is no change
    made = desk.ticks(20, {P1: BAD, P2: 49.72})
    count = sum(each is not None and each.eased for each in made)
    assert count == pytest.approx(SOURCES.switch_s / 0.1, abs=2)
    assert made[0] is not None
    assert made[0].eased


def test_easing_ends_when_the_grid_itself_moves() -> None:
    desk = Desk()
    desk.ticks(10, {P1: 49.9, P2: 49.9})
    desk.ticks(2, {P1: BAD, P2: 49.9})
    made = desk.tick({P1: BAD, P2: 49.8})
    assert made is not None
    assert not made.eased


def test_coming_back_from_nothing_is_eased_too() -> None:
    desk = Desk()
    desk.ticks(10, {P1: 49.7})
    assert _sources(desk.ticks(3, {P1: BAD})) == [""] * 3
    made = desk.tick({P1: 49.5})
    assert made is not None
    assert made.eased


@given(st.floats(1.0, 1e5), st.floats(0.1, 50.0), st.floats(0.01, 0.2))
def test_an_eased_ramp_never_passes_its_step(max_kw: float, pct: float, dt_s: float) -> None:
    frequency = Frequency(49.9, 0.0, P1, "good", eased=True)
    for ramp_kw_per_s in (None, 3.0, 1e9):
        droop = DroopSettings(ramp_kw_per_s=ramp_kw_per_s)
        ramp = eased(droop, frequency, max_kw, pct).ramp_kw_per_s
        assert ramp is not None
        assert ramp * dt_s <= max_kw * pct / 100.0 * (1.0 + 1e-9)
        assert ramp <= (ramp_kw_per_s or math.inf)
        assert eased(droop, replace(frequency, eased=False), max_kw, pct) is droop
        assert eased(droop, None, max_kw, pct) is droop


def test_a_dead_bus_silences_the_devices_that_hang_on_it() -> None:
    desk = Desk()
    dead = Quality.DEAD_BUS
    assert _sources(desk.ticks(2, {P1: dead}, {METER: 49.0, B1: 49.0})) == ["", ""]
    assert _sources(desk.ticks(1, {P1: dead, P2: 49.9}, {B1: 49.9})) == [P2]


def test_a_disagreement_is_told_once_it_lasts() -> None:
    desk = Desk()
    made = desk.ticks(30, {P1: 49.5, P2: 49.8})
    assert {each.frequency_hz for each in made if each is not None} == {49.8}
    assert set(_sources(made)) == {P1}
    told = [bool(each is not None and each.disagrees) for each in made]
    assert told == [False] * 10 + [True] * 20
    assert made[-1] is not None
    assert made[-1].disagrees == "p1 49.500 Hz, p2 49.800 Hz"


def test_the_devices_count_late_or_not_at_all() -> None:
    said: dict[UnitId, float | Quality] = {P1: 49.5}
    made = Desk().ticks(30, said, {B1: 49.8})
    assert made[5] is not None
    assert made[-1] is not None
    assert (made[5].frequency_hz, made[-1].frequency_hz) == (49.5, 49.8)
    deaf = replace(TRUST, sources=replace(SOURCES, devices_count=False))
    last = Desk(deaf).ticks(30, said, {B1: 49.8})[-1]
    assert last is not None
    assert last.frequency_hz == 49.5


@given(st.integers(0, 1000))
def test_whatever_one_source_says_two_that_agree_rule(seed: int) -> None:
    """Three PMUs, one of which says anything: the input stays with the other two."""
    dice = random.Random(seed)
    mad = dice.choice((P1, P2, P3))
    desk = Desk()
    for _ in range(60):
        said: dict[UnitId, float | Quality] = dict.fromkeys((P1, P2, P3), 49.8)
        said[mad] = dice.choice((dice.uniform(45.0, 55.0), 49.8, 47.0, BAD, Quality.DEAD_BUS))
        made = desk.tick(said)
        assert made is not None
        # what it said before its jump may be half a second old, and so much further apart
        within_hz = SOURCES.agree_hz + 0.5 * SOURCES.agree_hz_per_s
        assert made.frequency_hz == pytest.approx(49.8, abs=within_hz)
