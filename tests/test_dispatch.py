"""Sharing over random fleets: nobody beyond its room, the sum is right, nobody against the rest."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.rig import B1, HEALTHY, about, asset, snapshot
from vppd.campus.dispatch import STRATEGIES, Member, Strategy, fill, member
from vppd.core.alarms import Code
from vppd.core.model import Limit, Point, UnitId

PLAIN = Member(UnitId("a"), 100.0, 100.0, 50.0, 10.0, 95.0, 250.0, 100)
rooms = st.one_of(st.just(0.0), st.floats(0.0, 500.0), st.sampled_from([1e-300, 1e-12]))
socs = st.one_of(st.none(), st.floats(0.0, 100.0))
members = st.tuples(
    st.just(UnitId("?")),
    rooms,
    rooms,
    socs,
    st.just(10.0),
    st.just(95.0),
    st.floats(1.0, 1000.0),
    st.integers(0, 5),
    st.one_of(st.just(math.inf), rooms),
    st.one_of(st.just(math.inf), rooms),
).map(lambda figures: Member(*figures))
fleets = st.lists(members, max_size=8).map(
    lambda found: [each._replace(id=UnitId(f"u{n}")) for n, each in enumerate(found)]
)
targets = st.one_of(st.floats(-2000.0, 2000.0), st.just(0.0), st.sampled_from([1e-300, -1e-300]))
strategies = st.sampled_from(sorted(STRATEGIES))


def _can_kw(fleet: list[Member], power_kw: float) -> float:
    return sum(each.reach_kw(power_kw) for each in fleet)


@given(targets, fleets, strategies)
@settings(max_examples=300)
def test_invariants(target_kw: float, fleet: list[Member], name: str) -> None:
    shares = STRATEGIES[name](target_kw, fleet)
    assert set(shares) == {each.id for each in fleet}
    for each in fleet:
        assert abs(shares[each.id]) <= each.room_kw(target_kw) + 1e-9
        assert abs(shares[each.id]) <= each.reach_kw(target_kw) + 1e-9
        assert shares[each.id] * target_kw >= 0.0, "no unit against the others"
    want_kw = min(abs(target_kw), _can_kw(fleet, target_kw))
    assert abs(sum(shares.values())) == pytest.approx(want_kw, abs=1e-6)
    assert STRATEGIES[name](target_kw, fleet) == shares
    turned = STRATEGIES[name](target_kw, fleet[::-1])
    assert all(turned[id_] == pytest.approx(kw, abs=1e-6) for id_, kw in shares.items())


@given(fleets, strategies, st.floats(0.0, 2000.0), st.floats(0.0, 500.0), st.sampled_from([1, -1]))
@settings(max_examples=200)
def test_who_is_asked_for_more_gives_no_less(
    fleet: list[Member], name: str, target_kw: float, more_kw: float, sign: int
) -> None:
    one = STRATEGIES[name](sign * target_kw, fleet)
    other = STRATEGIES[name](sign * (target_kw + more_kw), fleet)
    for id_ in one:
        assert abs(other[id_]) >= abs(one[id_]) - 1e-6


def test_proportional_by_hand() -> None:
    fleet = [PLAIN._replace(id=UnitId("a")), PLAIN._replace(id=UnitId("b"), out_kw=50.0)]
    assert STRATEGIES["proportional"](60.0, fleet) == pytest.approx({"a": 40.0, "b": 20.0})
    assert STRATEGIES["proportional"](-60.0, fleet) == pytest.approx({"a": -30.0, "b": -30.0})
    assert STRATEGIES["proportional"](500.0, fleet) == {"a": 100.0, "b": 50.0}
    assert STRATEGIES["proportional"](5.0, []) == {}


def test_balanced_by_hand() -> None:
    full = PLAIN._replace(id=UnitId("full"), soc_pct=90.0)
    half = PLAIN._replace(id=UnitId("half"), soc_pct=30.0)
    fleet = [full, half]
    # 80 and 20 points above the minimum; 5 and 65 below the maximum
    assert STRATEGIES["balanced"](50.0, fleet) == pytest.approx({"full": 40.0, "half": 10.0})
    got = STRATEGIES["balanced"](-70.0, fleet)
    assert got == pytest.approx({"full": -5.0, "half": -65.0})
    # what one cannot take moves on
    assert STRATEGIES["balanced"](150.0, fleet) == pytest.approx({"full": 100.0, "half": 50.0})
    # a bigger battery at the same state carries more
    big = half._replace(id=UnitId("big"), energy_kwh=750.0)
    assert STRATEGIES["balanced"](40.0, [half, big]) == pytest.approx({"half": 10.0, "big": 30.0})
    # unknown comes last, empty too
    blind, empty = PLAIN._replace(id=UnitId("blind"), soc_pct=None), half._replace(soc_pct=10.0)
    assert STRATEGIES["balanced"](90.0, [blind, half]) == pytest.approx(
        {"half": 90.0, "blind": 0.0}
    )
    assert STRATEGIES["balanced"](120.0, [blind, half]) == pytest.approx(
        {"half": 100.0, "blind": 20.0}
    )
    assert STRATEGIES["balanced"](50.0, [full, empty]) == pytest.approx({"full": 50.0, "half": 0.0})


@given(
    st.lists(st.tuples(st.floats(11.0, 94.0), st.floats(50.0, 500.0)), min_size=2, max_size=5),
    st.sampled_from([1.0, -1.0]),
)
@settings(max_examples=50)
def test_balanced_brings_states_of_charge_together(
    units: list[tuple[float, float]], sign: float
) -> None:
    fleet = [
        PLAIN._replace(id=UnitId(f"u{n}"), soc_pct=soc, energy_kwh=kwh, out_kw=1e6, in_kw=1e6)
        for n, (soc, kwh) in enumerate(units)
    ]

    def apart(fleet: list[Member]) -> float:
        known = [each.soc_pct for each in fleet if each.soc_pct is not None]
        return max(known) - min(known)

    begin = before = apart(fleet)
    inside = sum(
        ((each.soc_pct or 0.0) - 10.0 if sign > 0 else 95.0 - (each.soc_pct or 0.0))
        / 100.0
        * each.energy_kwh
        for each in fleet
    )
    for _ in range(10):  # a tenth of all the energy at a time
        shares = STRATEGIES["balanced"](sign * inside * 0.09, fleet)
        fleet = [
            each._replace(soc_pct=(each.soc_pct or 0.0) - 100.0 * shares[each.id] / each.energy_kwh)
            for each in fleet
        ]
        assert apart(fleet) <= before + 1e-6
        before = apart(fleet)
    assert before <= 0.2 * begin + 1e-6


def test_what_a_ramp_cannot_reach_yet_the_others_carry() -> None:
    fleet = [PLAIN._replace(id=UnitId("a"), reach_out_kw=5.0), PLAIN._replace(id=UnitId("b"))]
    for name in STRATEGIES:
        assert STRATEGIES[name](60.0, fleet) == about({"a": 5.0, "b": 55.0})
        assert sum(STRATEGIES[name](-60.0, fleet).values()) == about(-60.0)


def test_priority_fills_the_first_first() -> None:
    fleet = [
        PLAIN._replace(id=UnitId("late"), priority=9),
        PLAIN._replace(id=UnitId("b"), priority=1, out_kw=30.0),
        PLAIN._replace(id=UnitId("a"), priority=1, out_kw=20.0),
    ]
    got = STRATEGIES["priority"](40.0, fleet)
    assert got == {"a": 20.0, "b": 20.0, "late": 0.0}
    assert STRATEGIES["priority"](60.0, fleet) == {"a": 20.0, "b": 30.0, "late": 10.0}
    assert STRATEGIES["priority"](-150.0, fleet) == {"a": -100.0, "b": -50.0, "late": 0.0}


ids = st.sampled_from([UnitId(f"u{n}") for n in range(6)])


@given(
    targets,
    st.dictionaries(
        ids, st.tuples(st.one_of(st.just(0.0), st.floats(0.0, 1e6)), rooms), max_size=6
    ),
)
@settings(max_examples=200)
def test_fill(power_kw: float, units: dict[UnitId, tuple[float, float]]) -> None:
    weights = {id_: weight for id_, (weight, _) in units.items()}
    caps_kw = {id_: cap for id_, (_, cap) in units.items()}
    got = fill(power_kw, weights, caps_kw)
    total_kw = min(abs(power_kw), sum(caps_kw.values()))
    assert abs(sum(got.values())) == pytest.approx(total_kw, abs=1e-6)
    for id_, kw in got.items():
        assert abs(kw) <= caps_kw[id_] + 1e-9
    weighted_kw = sum(cap for id_, cap in caps_kw.items() if weights[id_] > 0.0)
    if total_kw < weighted_kw - 1e-6:  # those without weight wait
        assert all(abs(kw) <= 1e-6 for id_, kw in got.items() if weights[id_] == 0.0)


@pytest.mark.parametrize("strategy", STRATEGIES.values())
@pytest.mark.parametrize("power_kw", [math.nan, math.inf, -math.inf])
def test_no_number_never_leaves_a_room(strategy: Strategy, power_kw: float) -> None:
    for kw in strategy(power_kw, [PLAIN]).values():
        assert not abs(kw) > 100.0


def test_a_member_has_the_room_the_gate_leaves_it() -> None:
    unit = asset(priority=7, soc_min_pct=20.0, soc_max_pct=80.0)
    made = member(snapshot(10.0, HEALTHY), unit, Limit(-40.0, 30.0, Code.ROOM))
    assert made == Member(B1, 30.0, 40.0, 50.0, 20.0, 80.0, 250.0, 7)
    assert (made.room_kw(1.0), made.room_kw(-1.0)) == (30.0, 40.0)
    assert (made.reach_kw(1.0), made.reach_kw(-1.0)) == (30.0, 40.0)
    reaching = member(snapshot(10.0, HEALTHY), unit, Limit(-40.0, 30.0, Code.ROOM), (5.0, 6.0))
    assert (reaching.reach_kw(1.0), reaching.reach_kw(-1.0)) == (6.0, 5.0)
    assert (reaching.room_kw(1.0), reaching.room_kw(-1.0)) == (30.0, 40.0)
    blind = member(snapshot(10.0, {Point.POWER_KW: 0.0}), unit, Limit(0.0, 0.0, Code.ROOM))
    assert blind.soc_pct is None
