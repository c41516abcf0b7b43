"""What can be given for how long, with the reason of every bound."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rig import HEALTHY, asset, snapshot
from vppd.campus.capability import (
    CUT_KW,
    Able,
    Held,
    Source,
    capability,
    ramp_kw_per_s,
    sustained_kw,
)
from vppd.campus.dispatch import Member
from vppd.campus.losses import Curve
from vppd.core.alarms import Code
from vppd.core.asset import Asset
from vppd.core.model import Limit, Point, UnitId
from vppd.core.settings import SafetySettings
from vppd.field.interlocks import soc_high, soc_low
from vppd.field.rule import Look, reach

PLAIN = Member(UnitId("a"), 100.0, 100.0, 50.0, 10.0, 95.0, 250.0, 100)
RATING = Limit(-100.0, 100.0, Code.RATING)


@dataclass(frozen=True)
class Feeder:
    """A limit on some units."""

    units: tuple[UnitId, ...]
    limit: Limit


def unit(name: str = "a", fade_pct: float = 0.0, energy_kwh: float = 250.0) -> Asset:
    safety = SafetySettings(soc_fade_pct=fade_pct)
    return replace(asset(), id=UnitId(name), safety=safety, energy_kwh=energy_kwh, rated_kw=100.0)


def source(
    name: str = "a",
    soc_pct: float | None = 50.0,
    limits: Sequence[Limit] = (),
    fade_pct: float = 0.0,
) -> Source:
    every = (RATING, *limits)
    member = PLAIN._replace(
        id=UnitId(name),
        soc_pct=soc_pct,
        out_kw=min(each.high_kw for each in every),
        in_kw=-max(each.low_kw for each in every),
    )
    return Source(unit(name, fade_pct), member, every)


def powers(found: Sequence[Able]) -> list[float]:
    return [each.power_kw for each in found]


def test_a_half_full_unit_by_hand() -> None:
    up, down = capability([source()], [])
    # 40 % of 250 kWh is 100 kWh out, 45 % is 112.5 kWh in
    assert powers(up) == pytest.approx([100.0, 100.0, 100.0])
    assert powers(down) == pytest.approx([-100.0, -100.0, -100.0])
    assert {each.bound_by for each in up} == {Code.RATING}
    up, down = capability([source(soc_pct=20.0)], [])
    assert powers(up) == pytest.approx([100.0, 100.0, 25.0])
    assert [each.bound_by for each in up] == [Code.RATING, Code.RATING, Code.SOC_LOW]
    up, down = capability([source(soc_pct=90.0)], [])
    assert powers(down) == pytest.approx([-100.0, -50.0, -12.5])
    assert down[1].bound_by is Code.SOC_HIGH
    assert down[1].cuts[0].cut_kw == pytest.approx(50.0)


def test_the_fade_is_counted_to_the_end() -> None:
    # E = 2.5 kWh/%, inside 10 %, fade 3 %: P = 25 / (1 + 7.5 / 100)
    up, _ = capability([source(soc_pct=20.0, fade_pct=3.0)], [])
    assert up[2].power_kw == pytest.approx(25.0 / 1.075)


@given(
    st.floats(10.5, 94.5),
    st.floats(0.0, 10.0),
    st.sampled_from([1, -1]),
    st.sampled_from([900.0, 3600.0]),
)
def test_what_is_said_can_be_held_to_the_end(
    soc_pct: float, fade_pct: float, sign: int, horizon_s: float
) -> None:
    """Played against the interlock itself, at the last moment."""
    chosen = unit("b1", fade_pct)
    one = PLAIN._replace(soc_pct=soc_pct)
    held_kw = min(sustained_kw(sign, horizon_s, one, chosen) or 0.0, 100.0)
    end_pct = soc_pct - sign * held_kw * horizon_s / 3600.0 / chosen.energy_kwh * 100.0
    end_pct += sign * 1e-6
    now = snapshot(10.0, HEALTHY | {Point.SOC_PCT: end_pct})
    rule = soc_low if sign > 0 else soc_high
    verdict, _ = rule(Look(now, chosen), ())
    limit = verdict.limit if verdict is not None else reach(chosen, 1.0, 1.0, Code.RATING, "")
    assert limit is not None
    assert (limit.high_kw if sign > 0 else -limit.low_kw) >= held_kw - 1e-3


def test_losses_are_taken_off_going_out() -> None:
    lossy = source(soc_pct=20.0)
    lossy = replace(lossy, member=lossy.member._replace(curve=Curve(1.0, 0.02, 0.0)))
    up, down = capability([lossy], [])
    assert up[2].power_kw == pytest.approx(24.0 / 1.02)
    assert down[2].power_kw == pytest.approx(-100.0)


def test_every_bound_has_its_reason() -> None:
    hot = source("hot", limits=[Limit(-60.0, 60.0, Code.TEMPERATURE_HIGH, "51 C")])
    low = source("low", soc_pct=12.0)
    lost = source("lost", limits=[Limit(0.0, 0.0, Code.LINK_LOST)])
    tree = [
        Feeder((UnitId("hot"), UnitId("low")), Limit(-500.0, 120.0, Code.CONNECTION, "D1")),
        Feeder(tuple(map(UnitId, ("hot", "low", "lost"))), Limit(-50.0, 500.0, Code.CONNECTION)),
    ]
    up, down = capability([hot, low, lost], tree, Held(10.0, 5.0), 20.0)
    assert {cut.why: pytest.approx(cut.cut_kw) for cut in up[0].cuts} == {
        Code.LINK_LOST: 100.0,
        Code.TEMPERATURE_HIGH: 40.0,
        Code.CONNECTION: 40.0,
        Code.RESERVE: 24.0,
        Code.HEADROOM: 10.0,
    }
    assert up[0].power_kw == pytest.approx(86.0)
    assert [cut.units for cut in up[0].cuts if cut.why is Code.TEMPERATURE_HIGH] == [("hot",)]
    assert up[2].power_kw < up[1].power_kw < up[0].power_kw
    assert down[0].power_kw == pytest.approx(-(50.0 * 0.8 - 5.0))
    assert ramp_kw_per_s([hot, low, lost]) == 20.0


def test_an_unknown_state_of_charge_gives_nothing_for_long() -> None:
    up, down = capability([source(soc_pct=None)], [])
    assert powers(up) == powers([replace(each, power_kw=-each.power_kw) for each in down])
    assert powers(up) == [100.0, 0.0, 0.0]
    assert capability([], [])[0][0].power_kw == 0.0


@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.floats(0.0, 100.0)),
            st.floats(0.0, 100.0),
            st.floats(0.0, 100.0),
        ),
        max_size=5,
    ),
    st.floats(0.0, 500.0),
    st.floats(0.0, 90.0),
    st.floats(0.0, 200.0),
)
def test_cuts_add_up_and_longer_is_never_more(
    units: list[tuple[float | None, float, float]], most_kw: float, kept_pct: float, held_kw: float
) -> None:
    sources = [
        source(f"u{n}", soc, [Limit(-in_kw, out_kw, Code.TEMPERATURE_HIGH)], 3.0)
        for n, (soc, in_kw, out_kw) in enumerate(units)
    ]
    tree = [
        Feeder(tuple(each.asset.id for each in sources), Limit(-most_kw, most_kw, Code.CONNECTION))
    ]
    for way in capability(sources, tree, Held(held_kw, held_kw), kept_pct):
        for able in way:
            named_kw = sum(cut.cut_kw for cut in able.cuts)
            unnamed_kw = CUT_KW * (len(sources) + len(tree) + 2)  # too small to be told
            rest_kw = 100.0 * len(sources) - named_kw
            assert rest_kw - unnamed_kw - 1e-9 <= abs(able.power_kw) <= rest_kw + 1e-9
            assert abs(able.power_kw) <= most_kw + 1e-9
        sizes = [abs(able.power_kw) for able in way]
        assert sizes[0] >= sizes[1] - 1e-9
        assert sizes[1] >= sizes[2] - 1e-9


def test_what_the_buildings_take_never_reaches_the_grid() -> None:
    up, down = capability([source()], [], auxiliary_kw=12.0)
    assert powers(up) == pytest.approx([88.0, 88.0, 88.0])
    assert powers(down) == pytest.approx([-100.0, -100.0, -100.0])
    assert {(cut.why, cut.cut_kw) for cut in up[0].cuts} == {(Code.AUXILIARY, 12.0)}
    assert capability([source(soc_pct=5.0)], [], auxiliary_kw=12.0)[0][2].power_kw == 0.0


def test_a_margin_too_small_to_be_told_is_kept_all_the_same() -> None:
    """Or what is a little over it would leave less than what is a little under it."""
    kept = [
        capability([source(limits=[Limit(0.0, able_kw, Code.ROOM)])], [], margin_pct=90.0)[0][0]
        for able_kw in (1.2e-6, 1.1e-6)
    ]
    assert kept[0].power_kw > kept[1].power_kw == pytest.approx(1.1e-7)
