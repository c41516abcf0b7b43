"""From base, pins and droop to one request a unit."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.rig import about
from vppd.campus.dispatch import STRATEGIES, Member
from vppd.campus.share import Ask, Shares, rest_kw, share, with_reactive
from vppd.core.model import Request, UnitId

PLAIN = Member(UnitId("a"), 100.0, 100.0, 50.0, 10.0, 95.0, 250.0, 100)
A, B, C = UnitId("a"), UnitId("b"), UnitId("c")
PAIR = [PLAIN, PLAIN._replace(id=B)]
TRIO = [*PAIR, PLAIN._replace(id=C)]
kw = st.floats(-400.0, 400.0)
room = st.one_of(st.just(0.0), st.floats(0.0, 200.0))


def _share(ask: Ask, fleet: list[Member], strategy: str = "proportional") -> Shares:
    return share(ask, fleet, STRATEGIES[strategy])


def _by_unit(made: Shares) -> dict[str, tuple[float, float]]:
    return {
        each.unit: (
            about(each.base_kw, abs=1e-6),
            about(each.frequency_kw, abs=1e-6),
        )
        for each in made.requests
    }


def test_base_then_droop_over_what_is_left() -> None:
    made = _share(Ask(120.0, {}, 48.0, {}), PAIR)
    assert _by_unit(made) == {"a": (60.0, 24.0), "b": (60.0, 24.0)}
    assert (made.short_base_kw, made.short_droop_kw) == (0.0, 0.0)


def test_droop_goes_where_fitness_is_then_where_room_is() -> None:
    ask = Ask(0.0, {}, 90.0, {A: 1.0, B: 0.5})
    assert _by_unit(_share(ask, PAIR)) == {"a": (0.0, 60.0), "b": (0.0, 30.0)}
    ask = Ask(0.0, {}, 90.0, {A: 1.0, B: 0.0})
    assert _by_unit(_share(ask, PAIR)) == {"a": (0.0, 90.0), "b": (0.0, 0.0)}
    ask = Ask(0.0, {}, 150.0, {A: 1.0, B: 0.0})
    assert _by_unit(_share(ask, PAIR)) == {"a": (0.0, 100.0), "b": (0.0, 50.0)}


def test_a_share_that_one_cannot_give_moves_to_the_other() -> None:
    fleet = [PLAIN._replace(out_kw=0.0), PLAIN._replace(id=B)]
    made = _share(Ask(50.0, {}, 48.0, {}), fleet)
    assert _by_unit(made) == {"a": (0.0, 0.0), "b": (50.0, 48.0)}
    made = _share(Ask(80.0, {}, 48.0, {}), fleet)
    assert _by_unit(made)["b"] == (80.0, 20.0)
    assert (made.short_base_kw, made.short_droop_kw) == (0.0, about(28.0))
    made = _share(Ask(130.0, {}, 48.0, {}), fleet)
    assert (made.short_base_kw, made.short_droop_kw) == (about(30.0), about(48.0))


def test_opposed_parts_are_shared_as_one_sum() -> None:
    made = _share(Ask(-100.0, {}, 60.0, {}), PAIR)
    assert _by_unit(made) == {"a": (-50.0, 30.0), "b": (-50.0, 30.0)}
    made = _share(Ask(-60.0, {}, 100.0, {}), PAIR, "priority")
    assert _by_unit(made) == {"a": (-60.0, 100.0), "b": (0.0, 0.0)}
    made = _share(Ask(-50.0, {}, 50.0, {}), PAIR)
    assert all(each.base_kw + each.frequency_kw == about(0.0) for each in made.requests)
    # full batteries cannot charge, but they can stop discharging
    full = [each._replace(in_kw=0.0) for each in PAIR]
    made = _share(Ask(50.0, {}, -80.0, {}), full)
    assert all(each.base_kw + each.frequency_kw == 0.0 for each in made.requests)
    made = _share(Ask(50.0, {}, -20.0, {}), full)
    assert sum(each.base_kw + each.frequency_kw for each in made.requests) == about(30.0)


def test_a_ramp_bounds_base_and_never_droop() -> None:
    fleet = [PLAIN._replace(reach_out_kw=5.0, reach_in_kw=0.0), PLAIN._replace(id=B)]
    made = _share(Ask(60.0, {}, 40.0, {}), fleet)
    assert _by_unit(made)["a"][0] == 5.0
    assert sum(each.frequency_kw for each in made.requests) == about(40.0)
    made = _share(Ask(60.0, {}, 40.0, {}), fleet[:1])
    assert _by_unit(made) == {"a": (5.0, 40.0)}
    assert (made.short_base_kw, made.short_droop_kw) == (about(55.0), about(0.0))
    made = _share(Ask(60.0, {}, -90.0, {}), fleet[:1])
    assert (made.requests[0].base_kw, made.requests[0].frequency_kw) == about((5.0, -90.0))


def test_a_pinned_unit_leaves_the_rest_to_the_others() -> None:
    made = _share(Ask(120.0, {A: 30.0}, 48.0, {}), TRIO)
    assert _by_unit(made) == {"a": (30.0, 0.0), "b": (45.0, 24.0), "c": (45.0, 24.0)}
    made = _share(Ask(120.0, {A: 30.0}, 60.0, {}, frozenset({A})), TRIO)
    got = _by_unit(made)
    assert got["a"][0] == 30.0
    assert sum(each.frequency_kw for each in made.requests) == about(60.0)
    assert made.requests[0].frequency_kw > 0.0
    made = _share(Ask(-50.0, {A: 30.0}, 60.0, {}, frozenset({A})), TRIO)
    assert made.requests[0].base_kw == 30.0


def test_the_rest_never_turns_against_the_site() -> None:
    assert rest_kw(Ask(100.0, {A: 150.0}, 0.0, {})) == 0.0
    assert rest_kw(Ask(100.0, {A: -50.0}, 0.0, {})) == 150.0
    assert rest_kw(Ask(-100.0, {A: -150.0}, 0.0, {})) == 0.0
    assert rest_kw(Ask(-100.0, {A: -30.0}, 0.0, {})) == -70.0
    assert rest_kw(Ask(0.0, {A: 30.0}, 0.0, {})) == 0.0
    assert rest_kw(Ask(50.0, {A: 30.0}, 0.0, {}, planned=False)) == 0.0


fleets = st.lists(
    st.tuples(room, room, st.one_of(st.none(), st.floats(0.0, 100.0)), st.integers(0, 3)),
    min_size=1,
    max_size=6,
).map(
    lambda found: [
        PLAIN._replace(id=UnitId(f"u{n}"), out_kw=out, in_kw=in_, soc_pct=soc, priority=priority)
        for n, (out, in_, soc, priority) in enumerate(found)
    ]
)


@given(
    kw,
    kw,
    fleets,
    st.sampled_from(sorted(STRATEGIES)),
    st.lists(st.floats(0.0, 1.0), min_size=6, max_size=6),
)
@settings(max_examples=300)
def test_shares_keep_rooms_sums_and_directions(
    base_kw: float, droop_kw: float, fleet: list[Member], name: str, fits: list[float]
) -> None:
    fitness = {each.id: fits[n] for n, each in enumerate(fleet)}
    made = _share(Ask(base_kw, {}, droop_kw, fitness), fleet, name)
    assert [each.unit for each in made.requests] == [each.id for each in fleet]
    totals = {each.unit: each.base_kw + each.frequency_kw for each in made.requests}
    for each in fleet:
        assert -each.in_kw - 1e-6 <= totals[each.id] <= each.out_kw + 1e-6
    signs = {total > 0.0 for total in totals.values() if abs(total) > 1e-6}
    assert len(signs) <= 1, "no unit charges while another discharges"
    want_kw = base_kw + droop_kw
    if base_kw * droop_kw < 0.0:  # droop moves what is given, not what base only wants
        most_kw = sum(each.room_kw(base_kw) for each in fleet)
        want_kw = min(max(base_kw, -most_kw), most_kw) + droop_kw
    can_kw = sum(each.room_kw(want_kw) for each in fleet)
    got_kw = sum(totals.values())
    assert got_kw == about(min(max(want_kw, -can_kw), can_kw), abs=1e-5)
    said_kw = made.short_base_kw + made.short_droop_kw
    assert said_kw == about(base_kw + droop_kw - got_kw, abs=1e-5)


@given(kw, kw, kw, fleets, st.booleans())
@settings(max_examples=200)
def test_a_pin_is_asked_as_it_is_and_takes_droop_only_if_it_says_so(
    base_kw: float, droop_kw: float, pin_kw: float, fleet: list[Member], takes: bool
) -> None:
    pinned = fleet[0].id
    ask = Ask(base_kw, {pinned: pin_kw}, droop_kw, {}, frozenset({pinned} if takes else ()))
    made = {each.unit: each for each in _share(ask, fleet).requests}
    assert made[pinned].base_kw == pin_kw
    if not takes:
        assert made[pinned].frequency_kw == 0.0
    for each in fleet[1:]:
        total_kw = made[each.id].base_kw + made[each.id].frequency_kw
        assert -each.in_kw - 1e-6 <= total_kw <= each.out_kw + 1e-6


@given(kw)
def test_reactive_power_goes_by_apparent_rating(site_kvar: float) -> None:
    asks = [Request(id_, 1.0, 2.0) for id_ in (A, B, C)]
    made = with_reactive(asks, site_kvar, {C: 7.0}, {A: 100.0, B: 300.0, C: 50.0})
    assert [each.reactive_kvar for each in made] == [
        about(site_kvar / 4.0),
        about(site_kvar * 3.0 / 4.0),
        7.0,
    ]
    assert [(each.base_kw, each.frequency_kw) for each in made] == [(1.0, 2.0)] * 3
    (only,) = with_reactive(asks[:1], site_kvar, {A: 0.0}, {A: 100.0})
    assert only.reactive_kvar == 0.0
