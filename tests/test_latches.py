"""Latched reasons: newest row rules, first text stays, nothing is forgotten for its spelling."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rig import B1, B2, asset
from vppd.core.alarms import Code
from vppd.core.model import SITE, UnitId
from vppd.core.records import TripRow
from vppd.field.latches import Latch, Latches

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def _empty() -> tuple[Latches, list[TripRow]]:
    kept: list[TripRow] = []
    return Latches((), kept.append, NOW), kept


def test_a_trip_is_kept_once_and_its_first_text_stays() -> None:
    latches, kept = _empty()
    assert latches.trip(B1, Code.RIVAL, "first", NOW, "vppd")
    assert not latches.trip(B1, Code.RIVAL, "second", NOW + timedelta(1), "vppd")
    assert latches.all() == (Latch(B1, Code.RIVAL, "first", NOW),)
    assert kept == [TripRow(NOW, B1, "rival", "trip", "vppd", "first")]
    assert latches.trip(B2, Code.RIVAL, "other unit", NOW, "vppd")
    assert latches.trip(B1, Code.DEVICE_FAULT, "other reason", NOW, "vppd")
    assert len(latches.trips(asset(B1))) == 2


@pytest.mark.parametrize("scope", [SITE, "north", B1])
def test_scopes(scope: str) -> None:
    latches, _ = _empty()
    latches.trip(scope, Code.RIVAL, "", NOW, "vppd")
    assert len(latches.trips(asset(B1))) == 1
    other = asset(B2, building="south")
    assert len(latches.trips(other)) == (1 if scope == SITE else 0)
    assert len(latches.trips(asset(UnitId("north"), building="x"))) == (scope in (SITE, "north"))


def test_reset_is_of_one_scope_and_spares_the_disabled() -> None:
    latches, kept = _empty()
    latches.trip(B1, Code.RIVAL, "a", NOW, "vppd")
    latches.trip(B1, Code.DEVICE_FAULT, "b", NOW, "vppd")
    latches.trip(SITE, Code.EMERGENCY_STOP, "c", NOW, "ann")
    latches.disable(B1, NOW, "ann")
    gone = latches.reset(B1, NOW + timedelta(1), "bob")
    assert {latch.code for latch in gone} == {Code.RIVAL, Code.DEVICE_FAULT}
    assert {latch.code for latch in latches.all()} == {Code.EMERGENCY_STOP, Code.DISABLED}
    assert [(row.action, row.by, row.at) for row in kept[-2:]] == [
        ("reset", "bob", NOW + timedelta(1))
    ] * 2
    assert latches.reset(B1, NOW, "bob") == ()
    assert latches.disabled(B1)


def test_disable_and_enable_are_kept_once() -> None:
    latches, kept = _empty()
    latches.enable(B1, NOW, "ann")
    assert kept == []
    latches.disable(B1, NOW, "ann")
    latches.disable(B1, NOW, "ann")
    assert (latches.disabled(B1), latches.disabled(B2)) == (True, False)
    assert latches.trips(asset(B1)) == ()
    latches.enable(B1, NOW, "bob")
    latches.enable(B1, NOW, "bob")
    assert not latches.disabled(B1)
    assert [(row.action, row.by) for row in kept] == [("disable", "ann"), ("enable", "bob")]


def test_a_start_begins_with_the_newest_rows() -> None:
    rows = [
        TripRow(NOW, B1, "rival", "trip", "vppd", "text"),
        TripRow(NOW, B1, "device_fault", "reset", "ann", ""),
        TripRow(NOW, B2, "disabled", "disable", "ann", ""),
        TripRow(NOW, B1, "disabled", "enable", "ann", ""),
        TripRow(NOW, SITE, "of_tomorrow", "trip", "vppd", "new"),
        TripRow(NOW, "north", "rival", "trip_of_tomorrow", "vppd", "newer"),
    ]
    kept: list[TripRow] = []
    latches = Latches(rows, kept.append, NOW)
    assert kept == [], "what was read is not written again"
    assert latches.all() == (
        Latch(B1, Code.RIVAL, "text", NOW),
        Latch(B2, Code.DISABLED, "", NOW),
        Latch(SITE, Code.TRIPPED, "new", NOW),
        Latch("north", Code.RIVAL, "newer", NOW),
    )
    assert not latches.disabled(B1)
    assert latches.disabled(B2)


def test_unreadable_rows_mean_tripped_and_that_is_kept() -> None:
    kept: list[TripRow] = []
    latches = Latches(None, kept.append, NOW)
    (latch,) = latches.trips(asset(B1))
    assert (latch.scope, latch.code) == (SITE, Code.TRIP_STATE_UNREADABLE)
    assert [row.action for row in kept] == ["trip"]


acts = st.lists(
    st.tuples(
        st.sampled_from(["trip", "reset", "disable", "enable", "release", "given", "taken"]),
        st.sampled_from([SITE, "north", B1, B2]),
        st.sampled_from([Code.RIVAL, Code.DEVICE_FAULT]),
    )
)


@given(acts)
def test_a_restart_from_the_newest_rows_knows_the_same(did: list[tuple[str, str, Code]]) -> None:
    latches, kept = _empty()
    for at, (act, scope, code) in enumerate(did):
        now = NOW + timedelta(seconds=at)
        if act == "trip":
            latches.trip(scope, code, f"at {at}", now, "vppd")
        elif act == "reset":
            latches.reset(scope, now, "ann")
        elif act == "disable":
            latches.disable(UnitId(scope), now, "ann")
        elif act == "release":
            latches.release(UnitId(scope), now, "ann")
        elif act in ("given", "taken"):
            latches.give(UnitId(scope), now, given=act == "given")
        else:
            latches.enable(UnitId(scope), now, "ann")
    newest = {(row.scope, row.code): row for row in kept}
    again = Latches(newest.values(), kept.append, NOW)
    assert {(each.scope, each.code) for each in again.all()} == {
        (each.scope, each.code) for each in latches.all()
    }
    for id_ in (B1, B2):
        assert again.disabled(id_) == latches.disabled(id_)
        assert (again.released(id_) is None) == (latches.released(id_) is None)
        assert again.given(id_) == latches.given(id_)
        assert not (latches.disabled(id_) and latches.released(id_))
        assert latches.released(id_) or not latches.given(id_)
        assert len(again.trips(asset(id_))) == len(latches.trips(asset(id_)))


def test_a_release_is_kept_from_asked_to_given_and_no_reset_undoes_it() -> None:
    latches, kept = _empty()
    latches.give(B1, NOW, given=True)
    assert kept == [], "who was not released is not given"
    latches.release(B1, NOW, "ann")
    latches.release(B1, NOW, "bob")
    released = latches.released(B1)
    assert released is not None
    assert released.text == "by ann"
    assert latches.trips(asset(B1)) == ()
    latches.give(B1, NOW, given=True)
    latches.give(B1, NOW, given=True)
    assert latches.given(B1)
    latches.trip(B1, Code.EMERGENCY_STOP, "", NOW, "ann")
    latches.reset(B1, NOW, "ann")
    assert latches.released(B1) is not None
    latches.enable(B1, NOW, "bob")
    assert (latches.released(B1), latches.given(B1)) == (None, False)
    assert [(row.action, row.by) for row in kept if row.code == Code.RELEASED] == [
        ("release", "ann"),
        ("given", "vppd"),
        ("enable", "bob"),
    ]


def test_disable_and_release_take_each_others_place() -> None:
    latches, _ = _empty()
    latches.disable(B1, NOW, "ann")
    latches.release(B1, NOW, "ann")
    assert (latches.disabled(B1), latches.released(B1) is not None) == (False, True)
    latches.give(B1, NOW, given=True)
    latches.disable(B1, NOW, "ann")
    assert (latches.disabled(B1), latches.released(B1), latches.given(B1)) == (True, None, False)
