"""What the gate knows of one device, from its writer's reports alone."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rig import B1, asset, snapshot
from vppd.core.alarms import Code
from vppd.core.model import (
    Cleared,
    DeviceNotice,
    LinkChange,
    Outcome,
    Point,
    ReadBack,
    ReadBackResult,
    Request,
    UnitId,
    WriteResult,
)
from vppd.field.standing import (
    OUTCOME_DUE_S,
    REFUSED_TO_TRIP,
    RIVAL_TO_TRIP,
    Parts,
    Standing,
    heard_since,
    parts_of,
    resumed_kw,
    since_s,
)


class Told:
    """One standing, and what it told."""

    @property
    def up(self) -> bool | None:
        return self.standing.up

    def resumes(self) -> bool:
        return self.standing.resume

    def __init__(self) -> None:
        self.alarms: dict[Code, bool] = {}
        self.trips: list[tuple[Code, str]] = []
        self.standing = Standing(B1, self._tell, self._trip, 100.0)

    def _tell(self, code: Code, unit: UnitId, active: bool, text: str) -> None:
        assert unit == B1
        self.alarms[code] = active

    def _trip(self, unit: UnitId, code: Code, text: str) -> None:
        self.trips.append((code, text))

    def write(self, outcome: Outcome, at_s: float = 100.0, cleared_at_s: float = 0.0) -> None:
        self.standing.report(WriteResult(B1, outcome, 1.0, 0.0, at_s, "no", cleared_at_s))

    def read(self, verdict: ReadBack, at_s: float = 100.0) -> None:
        self.standing.report(ReadBackResult(B1, verdict, 1.0, 2.0, at_s, "seen 2"))

    def link(self, up: bool, at_s: float = 100.0) -> None:
        self.standing.report(LinkChange(B1, up, at_s, "cable"))


def test_refusals_in_a_row_trip() -> None:
    told = Told()
    for _ in range(REFUSED_TO_TRIP - 1):
        told.write(Outcome.REFUSED)
    told.write(Outcome.HELD)
    told.write(Outcome.LOST)
    assert told.trips == []
    told.write(Outcome.REFUSED)
    assert told.trips == [(Code.WRITE_REFUSED, "refused 3 setpoints: no")]
    assert told.standing.counts.refused == REFUSED_TO_TRIP == 3


def test_an_answered_write_forgives_refusals() -> None:
    told = Told()
    for _ in range(10):
        told.write(Outcome.REFUSED)
        told.write(Outcome.REFUSED)
        told.write(Outcome.WRITTEN)
    assert told.trips == []
    assert (told.standing.counts.written, told.standing.counts.refused) == (10, 20)


def test_a_rival_trips_and_is_forgiven_after_a_quiet_minute() -> None:
    told = Told()
    for _ in range(RIVAL_TO_TRIP - 1):
        told.read(ReadBack.CHANGED, 100.0)
    assert told.alarms[Code.READ_BACK_CHANGED]
    told.read(ReadBack.SAME, 160.0)
    assert not told.alarms[Code.READ_BACK_CHANGED]
    told.read(ReadBack.CHANGED, 161.0)
    assert told.trips == [
        (Code.RIVAL, "setpoint overwritten 3 times: 2 kW instead of 1 kW (seen 2)")
    ]
    assert told.standing.counts.changed == RIVAL_TO_TRIP == 3
    told = Told()
    for minute in range(10):
        told.read(ReadBack.CHANGED, 100.0 * minute)
        told.read(ReadBack.SAME, 100.0 * minute + 60.1)
    assert told.trips == []


def test_a_forgiven_rival_starts_from_nothing() -> None:
    told = Told()
    told.read(ReadBack.CHANGED, 100.0)
    told.read(ReadBack.SAME, 161.0)
    told.read(ReadBack.CHANGED, 162.0)
    told.read(ReadBack.CHANGED, 163.0)
    assert told.trips == []


def test_a_rival_that_won_is_yielded_to_once_zero_was_answered() -> None:
    told = Told()

    def written(power_kw: float) -> bool:
        told.standing.report(WriteResult(B1, Outcome.WRITTEN, power_kw, 0.0, 100.0))
        return told.standing.yields

    assert not written(0.0)
    for _ in range(2):
        told.read(ReadBack.CHANGED)
    assert not written(0.0)
    told.read(ReadBack.CHANGED)
    assert not written(5.0)
    assert written(0.0)
    assert told.standing.proven(1e9)
    told.standing.pardon()
    assert not told.standing.yields


def test_a_pardon_starts_the_counts_again() -> None:
    told = Told()
    for _ in range(2):
        told.write(Outcome.REFUSED)
        told.read(ReadBack.CHANGED)
    told.standing.pardon()
    for _ in range(2):
        told.write(Outcome.REFUSED)
        told.read(ReadBack.CHANGED)
    assert told.trips == []


def test_reverted_only_alarms_until_the_same_is_seen() -> None:
    told = Told()
    told.standing.resume = False
    for _ in range(20):
        told.read(ReadBack.REVERTED)
    assert told.alarms == {Code.READ_BACK_REVERTED: True}
    assert (told.trips, told.standing.counts.reverted, told.standing.resume) == ([], 20, True)
    told.read(ReadBack.SAME)
    assert told.alarms[Code.READ_BACK_REVERTED] is False
    assert told.standing.read_back is not None
    assert told.standing.read_back.verdict is ReadBack.SAME


def test_a_lost_write_alarms_until_one_is_answered() -> None:
    told = Told()
    told.write(Outcome.LOST)
    assert told.alarms == {Code.WRITE_FAILED: True}
    assert told.standing.counts.lost == 1
    told.write(Outcome.HELD)
    assert told.alarms == {Code.WRITE_FAILED: True}
    told.write(Outcome.WRITTEN)
    assert told.alarms == {Code.WRITE_FAILED: False}


def test_notices_are_passed_on_and_a_reset_resumes() -> None:
    told = Told()
    told.standing.resume = False
    told.standing.report(DeviceNotice(B1, Code.REVERT_NOT_SET, True, 1.0))
    assert (told.alarms, told.resumes()) == ({Code.REVERT_NOT_SET: True}, False)
    told.standing.report(DeviceNotice(B1, Code.DEVICE_RESET, False, 1.0))
    assert not told.resumes()
    told.standing.report(DeviceNotice(B1, Code.DEVICE_RESET, True, 1.0))
    assert told.resumes()
    assert told.alarms[Code.DEVICE_RESET]


def test_the_link() -> None:
    told = Told()
    assert (told.up, told.resumes()) == (None, True)
    told.standing.acked, told.standing.resume = Parts(50.0, 5.0, 99.0), False
    told.link(up=False, at_s=101.0)
    assert (told.up, told.alarms[Code.LINK_LOST]) == (False, True)
    assert told.standing.acked == Parts(0.0, 0.0, 101.0)
    assert (told.standing.down_s, told.resumes()) == (101.0, True)
    told.link(up=True, at_s=110.0)
    assert (told.up, told.alarms[Code.LINK_LOST]) == (True, False)


# ---- proof -------------------------------------------------------------------


@pytest.mark.parametrize("outcome", list(Outcome))
def test_any_outcome_in_time_is_proof_and_silence_is_not(outcome: Outcome) -> None:
    told = Told()
    assert told.standing.proven(100.0 + OUTCOME_DUE_S)
    assert not told.standing.proven(100.1 + OUTCOME_DUE_S)
    told.write(outcome, 110.0)
    assert told.standing.proven(110.0 + OUTCOME_DUE_S)
    assert not told.standing.proven(110.1 + OUTCOME_DUE_S)


def test_a_lost_link_is_proof_and_who_returns_has_time_to_answer() -> None:
    told = Told()
    told.write(Outcome.WRITTEN, 100.0)
    told.link(up=False, at_s=101.0)
    assert told.standing.proven(1e9)
    told.link(up=True, at_s=1000.0)
    assert told.standing.proven(1000.0 + OUTCOME_DUE_S)
    assert not told.standing.proven(1000.1 + OUTCOME_DUE_S)


# ---- acknowledgements and what may be held -----------------------------------


def _offers(told: Told, *powers_kw: float) -> None:
    for at_s, power_kw in enumerate(powers_kw, start=1):
        told.standing.offered(Parts(power_kw, 0.0, float(at_s)))


@pytest.mark.parametrize("outcome", [Outcome.WRITTEN, Outcome.HELD])
def test_an_acknowledgement_is_of_the_newest_not_younger_than_it(outcome: Outcome) -> None:
    told = Told()
    told.standing.resume = False
    _offers(told, 10.0, 20.0, 30.0)
    told.write(outcome, cleared_at_s=2.5)
    assert told.standing.acked == Parts(20.0, 0.0, 2.0)
    told.write(outcome, cleared_at_s=1.0)
    assert told.standing.acked == Parts(20.0, 0.0, 2.0), "never back"
    told.write(outcome, cleared_at_s=0.5)
    assert told.standing.acked == Parts(20.0, 0.0, 2.0), "of nothing that is known"
    told.write(outcome, cleared_at_s=3.0)
    assert told.standing.acked == Parts(30.0, 0.0, 3.0)


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.LOST])
def test_what_was_not_answered_is_not_acknowledged(outcome: Outcome) -> None:
    told = Told()
    told.standing.resume = False
    _offers(told, 10.0)
    told.write(outcome, cleared_at_s=1.0)
    assert told.standing.acked == Parts(0.0, 0.0, 0.0)
    assert told.standing.resume == (outcome is Outcome.LOST)


def test_nothing_is_acknowledged_before_it_is_known_where_to_resume() -> None:
    told = Told()
    _offers(told, 10.0)
    told.write(Outcome.WRITTEN, cleared_at_s=1.0)
    assert told.standing.acked == Parts(0.0, 0.0, 0.0)


def test_offers_are_remembered_within_bounds() -> None:
    told = Told()
    told.standing.resume = False
    _offers(told, *range(1, 101))
    told.write(Outcome.WRITTEN, cleared_at_s=2.0)
    assert told.standing.acked.base_kw == 0.0
    told.write(Outcome.WRITTEN, cleared_at_s=50.0)
    assert told.standing.acked.base_kw == 50.0


@given(
    st.lists(
        st.tuples(st.floats(-100.0, 100.0), st.sampled_from([Outcome.WRITTEN, Outcome.LOST])),
        min_size=1,
    )
)
def test_what_may_be_held_is_the_last_answered_and_all_lost_since(
    tried: list[tuple[float, Outcome]],
) -> None:
    told = Told()
    may_kw = {0.0}
    for at_s, (power_kw, outcome) in enumerate(tried, start=1):
        told.standing.offered(Parts(power_kw, 0.0, float(at_s)))
        told.write(outcome, cleared_at_s=float(at_s))
        may_kw = {power_kw} if outcome is Outcome.WRITTEN else may_kw | {power_kw}
    assert told.standing.held_kw == (min(may_kw), max(may_kw))
    assert told.standing.held_s == len(tried)


# ---- parts -------------------------------------------------------------------


def _parts(
    base_kw: float, ramped_kw: float, frequency_kw: float, got_kw: float
) -> tuple[float, float]:
    asked_kw = base_kw + frequency_kw
    cleared = Cleared(B1, got_kw, 0.0, asked_kw, 0.0, (), 5.0, 6.0)
    parts = parts_of(Request(B1, base_kw, frequency_kw), ramped_kw, cleared)
    assert parts.at_s == 5.0
    return parts.base_kw, parts.frequency_kw


@pytest.mark.parametrize(
    ("asked", "got_kw", "parts"),
    [
        ((50.0, 50.0, 20.0), 70.0, (50.0, 20.0)),
        ((50.0, 10.0, 20.0), 30.0, (10.0, 20.0)),
        ((50.0, 50.0, 20.0), 30.0, (10.0, 20.0)),
        ((50.0, 50.0, 20.0), 15.0, (0.0, 15.0)),
        ((-50.0, -50.0, -20.0), -15.0, (0.0, -15.0)),
        ((-50.0, -50.0, -20.0), -45.0, (-25.0, -20.0)),
        ((50.0, 50.0, -50.0), 0.0, (50.0, -50.0)),
        ((50.0, 50.0, -20.0), 0.0, (0.0, 0.0)),
        ((-90.0, -1.0, 95.0), 5.0, (-1.0, 6.0)),
        ((90.0, 2.0, -95.0), -5.0, (2.0, -7.0)),
        ((0.0, 0.0, 40.0), 30.0, (0.0, 30.0)),
        ((10.0, 10.0, math.nan), 0.0, (0.0, 0.0)),
    ],
)
def test_parts_by_hand(
    asked: tuple[float, float, float], got_kw: float, parts: tuple[float, float]
) -> None:
    assert _parts(*asked, got_kw) == parts


kw = st.floats(-200.0, 200.0)


@given(kw, st.floats(0.0, 1.0), kw, st.floats(0.0, 1.0))
def test_parts_add_up_and_base_is_never_beyond_its_ramp(
    base_kw: float, reached: float, frequency_kw: float, left: float
) -> None:
    ramped_kw, got_kw = base_kw * reached, (base_kw + frequency_kw) * left
    base, frequency = _parts(base_kw, ramped_kw, frequency_kw, got_kw)
    assert base + frequency == pytest.approx(got_kw, abs=1e-9)
    if frequency:
        assert min(ramped_kw, 0.0) - 1e-9 <= base <= max(ramped_kw, 0.0) + 1e-9


def test_sums_of_the_ramp() -> None:
    now = snapshot(100.0, {Point.POWER_KW: 30.0, Point.SETPOINT_KW: 40.0}, age_s=1.0)
    assert since_s(now, Parts(0.0, 0.0, 99.95)) == pytest.approx(0.05)
    assert since_s(now, Parts(0.0, 0.0, 0.0)) == 0.2
    assert since_s(now, Parts(0.0, 0.0, 101.0)) == 0.0
    assert resumed_kw(now, B1) == 30.0
    small = snapshot(100.0, {Point.POWER_KW: 0.5, Point.SETPOINT_KW: 0.6})
    assert resumed_kw(small, B1) == 0.5
    assert resumed_kw(snapshot(100.0, {Point.SETPOINT_KW: 40.0}), B1) == 0.0
    assert resumed_kw(now, UnitId("other")) == 0.0
    assert heard_since(now, B1, 98.9)
    assert not heard_since(now, B1, 99.0)
    assert not heard_since(now, asset(UnitId("other")).id, 0.0)
    late = snapshot(100.0, {Point.POWER_KW: 30.0}, age_s=60.0)
    assert not heard_since(late, B1, 0.0)


def test_a_refused_setpoint_alarms_and_a_refused_heartbeat_has_its_own() -> None:
    told = Told()
    told.write(Outcome.REFUSED, cleared_at_s=0.0)
    assert Code.WRITE_FAILED not in told.alarms
    told.write(Outcome.REFUSED, cleared_at_s=99.0)
    assert told.alarms[Code.WRITE_FAILED]
    told.write(Outcome.LOST)
    assert told.standing.counts.failed == 3
    told.write(Outcome.WRITTEN)
    assert not told.alarms[Code.WRITE_FAILED]


def test_a_fall_of_the_device_counts_with_the_changes_that_follow() -> None:
    told = Told()
    told.read(ReadBack.REVERTED, 100.0)
    told.read(ReadBack.CHANGED, 110.0)
    assert told.trips == []
    told.read(ReadBack.CHANGED, 120.0)
    assert [code for code, _ in told.trips] == [Code.RIVAL]
    told = Told()
    told.read(ReadBack.REVERTED, 100.0)
    told.read(ReadBack.SAME, 160.1)
    told.read(ReadBack.CHANGED, 161.0)
    told.read(ReadBack.CHANGED, 162.0)
    assert told.trips == [], "a minute later it was another matter"


def test_what_the_other_one_wrote_is_said_in_both_powers() -> None:
    told = Told()
    for _ in range(3):
        told.standing.report(
            ReadBackResult(B1, ReadBack.CHANGED, 40.0, 50.0, 100.0, "x", 10.0, -20.0)
        )
    ((_, text),) = told.trips
    assert "50 kW, -20 kvar instead of 40 kW, 10 kvar" in text


def test_a_released_device_owes_nothing_and_comes_back_from_what_it_does() -> None:
    told = Told()
    told.read(ReadBack.CHANGED)
    told.write(Outcome.LOST)
    told.standing.report(DeviceNotice(B1, Code.DEVICE_DISABLED, True, 100.0, "off"))
    told.standing.report(DeviceNotice(B1, Code.RELEASED, True, 101.0, "given"))
    assert (told.standing.released, told.standing.off) == (True, "")
    assert not told.alarms[Code.READ_BACK_CHANGED]
    assert not told.alarms[Code.WRITE_FAILED]
    assert told.standing.proven(1e9)
    told.standing.take_back(200.0)
    assert told.standing.proven(200.0 + OUTCOME_DUE_S)
    assert not told.standing.proven(200.1 + OUTCOME_DUE_S)
    told.standing.resumed(snapshot(200.0, {Point.POWER_KW: 30.0, Point.SETPOINT_KW: 0.0}))
    assert told.standing.acked == Parts(30.0, 0.0, 200.0)
    told.link(up=False, at_s=300.0)
    told.link(up=True, at_s=301.0)
    told.standing.resumed(snapshot(302.0, {Point.POWER_KW: 30.0, Point.SETPOINT_KW: 20.0}))
    assert told.standing.acked == Parts(20.0, 0.0, 302.0), "only the first time"
