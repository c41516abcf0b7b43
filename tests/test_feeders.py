"""The tree of connection limits: as configured, shifted by load, narrowed by silent units."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rig import B1, B2, B3, about, asset, snapshot
from vppd.core.alarms import Code
from vppd.core.model import SITE, Limit, Point, UnitId
from vppd.core.settings import (
    BuildingSettings,
    CampusSettings,
    CitySettings,
    ConnectionSettings,
    CountrySettings,
    ModbusSettings,
    Settings,
    SiteSettings,
    StateSettings,
    UnitSettings,
)
from vppd.field.feeders import Feeder, Feeders, feeders_of, fit_active, fit_reactive

TRIO = asset(B1), asset(B2), asset(B3, building="south", rated_kw=50.0)


def _settings(connection: ConnectionSettings, *buildings: BuildingSettings) -> Settings:
    campus = CampusSettings(id="c", buildings=buildings)
    city = CitySettings(id="m", campuses=(campus,))
    country = CountrySettings(states=(StateSettings(id="s", cities=(city,)),))
    unit = UnitSettings(
        id=B1,
        building="north",
        rated_power_kw=100.0,
        energy_kwh=1.0,
        modbus=ModbusSettings(profile="p"),
    )
    return Settings(
        site=SiteSettings(id="x"),
        mode="simulation",
        units=(unit,),
        country=country,
        connection=connection,
        profiles={},
    )


def _ranges(feeders: Feeders) -> list[tuple[tuple[UnitId, ...], float, float, float]]:
    return [
        (each.units, each.limit.low_kw, each.limit.high_kw, each.limit.apparent_kva)
        for each in feeders.tree
    ]


def test_an_absent_limit_is_the_sum_of_ratings() -> None:
    made = feeders_of(_settings(ConnectionSettings()), TRIO)
    assert _ranges(made) == [((B1, B2, B3), -250.0, 250.0, math.inf)]
    made = feeders_of(_settings(ConnectionSettings(export_max_kw=0.0, import_max_kw=90.0)), TRIO)
    assert _ranges(made) == [((B1, B2, B3), -90.0, 0.0, math.inf)]
    assert "90 kW in" in made.tree[0].limit.detail


def test_the_circle_of_the_connection_bounds_active_power_too() -> None:
    made = feeders_of(_settings(ConnectionSettings(apparent_max_kva=120.0)), TRIO)
    assert _ranges(made) == [((B1, B2, B3), -120.0, 120.0, 120.0)]
    both = ConnectionSettings(apparent_max_kva=120.0, export_max_kw=60.0)
    assert _ranges(feeders_of(_settings(both), TRIO)) == [((B1, B2, B3), -120.0, 60.0, 120.0)]


def test_buildings_with_limits_come_before_the_site() -> None:
    buildings = (
        BuildingSettings(id="north", export_max_kw=70.0),
        BuildingSettings(id="south", import_max_kw=20.0),
        BuildingSettings(id="free"),
        BuildingSettings(id="empty", export_max_kw=5.0),
    )
    made = feeders_of(_settings(ConnectionSettings(), *buildings), TRIO)
    assert _ranges(made) == [
        ((B1, B2), -200.0, 70.0, math.inf),
        ((B3,), -20.0, 50.0, math.inf),
        ((B1, B2, B3), -250.0, 250.0, math.inf),
    ]
    assert made.tree[0].limit.detail.startswith("north")
    bare = feeders_of(_settings(ConnectionSettings(), BuildingSettings(id="south")), TRIO)
    assert len(bare.tree) == 1
    assert all(each.limit.why is Code.CONNECTION for each in made.tree)


LEAF = Feeder((B1, B2), Limit(-70.0, 60.0, Code.CONNECTION, "north"))
ROOT = Feeder((B1, B2, B3), Limit(-100.0, 90.0, Code.CONNECTION, "site", 95.0))
TREE = Feeders((LEAF, ROOT))


def _now(
    load_kw: float | None, ghosts_kw: dict[UnitId, tuple[float, float]], age_s: float = 0.0
) -> tuple[list[tuple[float, float]], list[tuple[bool, str]]]:
    values = {} if load_kw is None else {Point.LOAD_KW: load_kw}
    told: list[tuple[bool, str]] = []

    def tell(code: Code, unit: UnitId, active: bool, text: str) -> None:
        assert (code, unit) == (Code.CONNECTION_CLIPPED, SITE)
        told.append((active, text))

    made = list(TREE.limits(snapshot(10.0, values, SITE, age_s), ghosts_kw, tell))
    assert [each.units for each in made] == [LEAF.units, ROOT.units]
    assert all(each.limit.why is Code.CONNECTION for each in made)
    return [(each.limit.low_kw, each.limit.high_kw) for each in made], told


def test_load_shifts_the_root_and_silent_units_narrow_their_branch() -> None:
    limits, told = _now(None, {})
    assert limits == [(-70.0, 60.0), (-100.0, 90.0)]
    assert [active for active, _ in told] == [False]
    assert _now(30.0, {})[0] == [(-70.0, 60.0), (-70.0, 120.0)]
    assert _now(-30.0, {})[0] == [(-70.0, 60.0), (-130.0, 60.0)]
    assert _now(None, {B1: (10.0, 20.0)})[0] == [(-70.0, 40.0), (-100.0, 70.0)]
    assert _now(None, {B1: (-10.0, 20.0)})[0] == [(-60.0, 40.0), (-90.0, 70.0)]
    assert _now(None, {B3: (-50.0, -40.0)})[0] == [(-70.0, 60.0), (-50.0, 90.0)]
    assert _now(None, {B1: (30.0, 30.0), B3: (-30.0, -30.0)})[0] == [(-70.0, 30.0), (-70.0, 60.0)]
    assert _now(5.0, {B3: (0.0, 50.0)})[0] == [(-70.0, 60.0), (-95.0, 45.0)]


def test_export_keeps_to_the_least_load_and_import_to_the_most() -> None:
    def root(**values_kw: float) -> tuple[float, float]:
        values = {Point(name): value for name, value in values_kw.items()}
        *_, made = TREE.limits(snapshot(10.0, values, SITE), {})
        return made.limit.low_kw, made.limit.high_kw

    assert root(load_kw=30.0, load_low_kw=20.0, load_high_kw=45.0) == (-55.0, 110.0)
    assert root(load_kw=30.0, load_low_kw=20.0) == (-70.0, 110.0)
    assert root(load_kw=30.0, load_high_kw=45.0) == (-55.0, 120.0)
    assert root(load_kw=30.0, load_low_kw=40.0, load_high_kw=10.0) == (-70.0, 120.0)
    assert root(load_low_kw=20.0, load_high_kw=45.0) == (-100.0, 90.0), "nobody measures it"


def test_past_zero_it_is_clipped_with_an_alarm() -> None:
    limits, told = _now(-91.0, {})
    assert limits[1] == (-191.0, 0.0)
    assert told == [(True, "other load -91.0 kW and silent units exceed the connection")]
    assert _now(-90.0, {})[1][0][0] is False
    assert _now(101.0, {})[0][1] == (0.0, 191.0)
    assert _now(101.0, {})[1][0][0] is True
    assert _now(100.0, {})[1][0][0] is False
    assert _now(None, {B1: (0.0, 61.0), B2: (0.0, 40.0)})[0] == [(-70.0, 0.0), (-100.0, 0.0)]


@pytest.mark.parametrize("age_s", [9.0, -1.0])
def test_a_silent_meter_leaves_nothing_at_the_root(age_s: float) -> None:
    limits, told = _now(5.0, {}, age_s)
    assert limits == [(-70.0, 60.0), (0.0, 0.0)]
    text = "the meter is silent: whatever load and sources may be there"
    assert told == [(True, f"{text} and silent units exceed the connection")]
    assert _now(math.nan, {})[0][1] == (0.0, 0.0)


def test_who_only_looks_need_not_listen() -> None:
    (_, root) = TREE.limits(snapshot(10.0, {Point.LOAD_KW: 5.0}, SITE), {})
    assert (root.limit.low_kw, root.limit.high_kw, root.limit.apparent_kva) == (-95.0, 95.0, 95.0)


powers = st.floats(-200.0, 200.0)


@given(powers, powers, powers, st.floats(-150.0, 0.0), st.floats(0.0, 150.0))
def test_every_feeder_holds_and_every_cut_is_named(
    one_kw: float, two_kw: float, three_kw: float, low_kw: float, high_kw: float
) -> None:
    asked_kw = {B1: one_kw, B2: two_kw, B3: three_kw}
    root = Feeder((B1, B2, B3), Limit(low_kw, high_kw, Code.CONNECTION, "site"))
    got_kw = dict(asked_kw)
    cuts = fit_active([LEAF, root], got_kw)
    assert -70.0 - 1e-6 <= got_kw[B1] + got_kw[B2] <= 60.0 + 1e-6
    assert low_kw - 1e-6 <= sum(got_kw.values()) <= high_kw + 1e-6
    at_kw = dict(asked_kw)
    for unit, cut in cuts:
        assert cut.before_kw == at_kw[unit]
        at_kw[unit] = cut.after_kw
    assert at_kw == got_kw
    for unit, power_kw in got_kw.items():
        assert abs(power_kw) <= abs(asked_kw[unit])
        assert power_kw * asked_kw[unit] >= 0.0


def test_nothing_is_cut_that_fits() -> None:
    got_kw = {B1: 40.0, B2: 20.0, B3: 30.0}
    assert fit_active([LEAF, ROOT], got_kw) == []
    assert got_kw == {B1: 40.0, B2: 20.0, B3: 30.0}
    got_kw[B3] = 40.0
    cuts = fit_active([LEAF, ROOT], got_kw)
    assert got_kw == about({B1: 36.0, B2: 18.0, B3: 36.0})
    assert [(unit, cut.why, cut.detail) for unit, cut in cuts] == [
        (unit, Code.CONNECTION, "site") for unit in (B1, B2, B3)
    ]


@given(st.tuples(powers, powers, powers), st.floats(-90.0, 90.0))
def test_reactive_power_shrinks_into_the_circle(asked: tuple[float, ...], power_kw: float) -> None:
    powers_kw = {B1: power_kw, B2: 0.0, B3: 0.0}
    kvar = dict(zip((B1, B2, B3), asked, strict=True))
    before = dict(kvar)
    cuts = fit_reactive([LEAF, ROOT], powers_kw, kvar)
    assert math.hypot(power_kw, sum(kvar.values())) <= max(95.0, abs(power_kw)) + 1e-6
    for unit, left in kvar.items():
        assert abs(left) <= abs(before[unit]) + 1e-9
        assert left * before[unit] >= 0.0
    assert bool(cuts) == (kvar != before)
    for _, cut in cuts:
        assert cut.before_kw == cut.after_kw
        assert "kvar" in cut.detail


def test_reactive_power_by_hand() -> None:
    powers_kw, kvar = {B1: 57.0, B2: 0.0, B3: 0.0}, {B1: 100.0, B2: 50.0, B3: -55.0}
    assert len(fit_reactive([ROOT], powers_kw, kvar)) == 3  # 95 asked, 76 left: 4 in 5
    assert kvar == about({B1: 80.0, B2: 40.0, B3: -44.0})
    assert fit_reactive([LEAF], powers_kw, {B1: 1e6, B2: 0.0, B3: 0.0}) == []
