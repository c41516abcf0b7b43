"""Modelled losses, and the strategy that keeps them least, against a slow reference by hand."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.rig import asset, snapshot
from vppd.campus.dispatch import STRATEGIES, Bound, Member, losses
from vppd.campus.losses import (
    Curve,
    LossModel,
    Wires,
    auxiliary_kw,
    fitted,
    inverter_curve,
    loss_model,
    wires_of,
    with_auxiliaries,
)
from vppd.campus.reserve import pulled
from vppd.core.model import Point, UnitId
from vppd.core.settings_campus import (
    AuxiliarySettings,
    BuildingLossSettings,
    CurvePointSettings,
    ImbalanceSettings,
    InverterLossSettings,
    LossSettings,
    UnitLossSettings,
)

Grid = np.ndarray[tuple[int], np.dtype[np.float64]]
PLAIN = Member(UnitId("a"), 100.0, 100.0, 50.0, 10.0, 95.0, 250.0, 100)
STEPS = 160  # of the reference's grid
CURVE = Curve(0.7, 0.005, 0.013 / 100.0, 0.1)


def modelled_kw(shares: dict[UnitId, float], fleet: Sequence[Member]) -> float:
    """All losses of a fleet at these shares, from the model's own sums."""
    model = LossModel(
        {each.id: each.curve for each in fleet}, {each.wires.id: each.wires for each in fleet}
    )
    return model.losses_kw(shares, {each.id: each.wires.id for each in fleet})


def pulled_kw(shares: dict[UnitId, float], fleet: Sequence[Member]) -> float:
    """The second aim at these shares: what the pull of each unit's SoC adds."""
    return sum(each.pull_share * shares[each.id] for each in fleet)


def reference_kw(
    power_kw: float, fleet: Sequence[Member], feeder_kw: dict[str, float], steps: int = STEPS
) -> float:
    """The least losses and second aim on a grid, by dynamic programming over units, then
    buildings. Written from the formulas, apart from the strategy."""
    sign = math.copysign(1.0, power_kw)
    grid_kw = abs(power_kw) / steps
    sizes_kw = grid_kw * np.arange(steps + 1)
    site = nothing(steps)
    for name in sorted({each.wires.id for each in fleet}):
        behind = [each for each in fleet if each.wires.id == name]
        wires = behind[0].wires
        building = nothing(steps)
        for each in behind:
            c, most = each.curve, int(each.room_kw(power_kw) / grid_kw + 1e-9)
            own = c.no_load_kw + c.linear_share * sizes_kw + c.quadratic_per_kw * sizes_kw**2
            own += each.pull_share * sign * sizes_kw
            own[0] = c.standby_kw
            building = convolved(building, own[: most + 1])
        if name in feeder_kw:
            building = building[: int(feeder_kw[name] / grid_kw + 1e-9) + 1]
        through_kw = sign * sizes_kw[: len(building)] - wires.auxiliary_kw
        site = convolved(site, building + wires.iron_kw + wires.quadratic_per_kw * through_kw**2)
    return float(site[steps])


def nothing(steps: int) -> Grid:
    """Nobody gives anything, at no cost."""
    return np.array([0.0, *[math.inf] * steps])


def convolved(one: Grid, other: Grid) -> Grid:
    """The least sum for every total."""
    found = np.full(len(one), math.inf)
    for size, cost_kw in enumerate(other[: len(one)]):
        found[size:] = np.minimum(found[size:], one[: len(one) - size] + cost_kw)
    return found


curves = st.builds(
    lambda rated, fixed, linear, quadratic: (
        rated,
        Curve(fixed * rated, linear, quadratic / rated, 0.1 * fixed * rated),
    ),
    st.sampled_from([50.0, 100.0, 250.0]),
    st.sampled_from([0.0, 0.003, 0.007, 0.02]),
    st.floats(0.0, 0.02),
    st.one_of(st.just(0.0), st.floats(0.001, 0.04)),
)
wires = st.tuples(st.floats(0.0, 2.0), st.floats(0.0, 5e-5), st.floats(0.0, 30.0))


@st.composite
def fleets(draw: st.DrawFn, most: int = 6) -> list[Member]:
    buildings = [Wires(f"D{n}", *draw(wires)) for n in range(draw(st.integers(1, 3)))]
    kinds = draw(st.lists(curves, min_size=1, max_size=3))
    fleet = []
    for n in range(draw(st.integers(1, most))):
        rated_kw, curve = draw(st.sampled_from(kinds))
        fleet.append(
            PLAIN._replace(
                id=UnitId(f"u{n}"),
                out_kw=rated_kw * draw(st.sampled_from([1.0, 1.0, 0.5, 0.0])),
                in_kw=rated_kw,
                soc_pct=draw(st.floats(10.0, 95.0)),
                priority=draw(st.integers(0, 3)),
                curve=curve,
                wires=draw(st.sampled_from(buildings)),
            )
        )
    return fleet


@given(fleets(12), st.floats(0.0, 1.1), st.sampled_from([1.0, -1.0]))
@settings(max_examples=150, deadline=None)
def test_no_other_strategy_loses_less(fleet: list[Member], part: float, sign: float) -> None:
    power_kw = sign * part * sum(each.room_kw(sign) for each in fleet)
    least_kw = modelled_kw(losses(power_kw, fleet), fleet)
    for name, strategy in STRATEGIES.items():
        other_kw = modelled_kw(strategy(power_kw, fleet), fleet)
        assert least_kw <= other_kw + 1e-6, name


@st.composite
def trees(draw: st.DrawFn) -> tuple[list[Member], dict[str, float], float]:
    """A fleet with everything at once: auxiliaries, SoC pulls as the settings make them, some
    feeders narrow; and a power that gets through, in either direction."""
    fleet = draw(fleets())
    sign = draw(st.sampled_from([1.0, -1.0]))
    aims = LossSettings(balance_weight=draw(st.sampled_from([0.0, 0.002, 0.02])))
    fleet = pulled(fleet, aims, ImbalanceSettings(weight=draw(st.sampled_from([0.0, 0.05]))))
    names = sorted({each.wires.id for each in fleet})
    feeder_kw: dict[str, float] = {}
    can_kw = 0.0
    for name in names:
        behind_kw = sum(each.room_kw(sign) for each in fleet if each.wires.id == name)
        if draw(st.booleans()):
            feeder_kw[name] = behind_kw = behind_kw * draw(st.floats(0.05, 1.0))
        can_kw += behind_kw
    assume(can_kw > 1.0)
    return fleet, feeder_kw, sign * can_kw * draw(st.floats(0.03, 1.0))


@given(trees())
@settings(max_examples=40, deadline=None)
def test_within_a_thousandth_of_the_reference(
    made: tuple[list[Member], dict[str, float], float],
) -> None:
    fleet, feeder_kw, power_kw = made
    bounds = [
        Bound(frozenset(each.id for each in fleet if each.wires.id == name), most_kw)
        for name, most_kw in feeder_kw.items()
    ]
    bounds.append(Bound(frozenset(each.id for each in fleet), abs(power_kw)))  # the connection
    shares = losses(1.2 * power_kw, fleet, bounds)
    assert sum(shares.values()) == pytest.approx(power_kw)
    for bound in bounds:
        assert abs(sum(shares[id_] for id_ in bound.units)) <= bound.most_kw + 1e-6
    lost_kw = modelled_kw(shares, fleet)
    found_kw = lost_kw + pulled_kw(shares, fleet)
    assert found_kw <= reference_kw(power_kw, fleet, feeder_kw) + 0.001 * lost_kw + 1e-9


def test_units_that_are_not_needed_stay_idle() -> None:
    fleet = [PLAIN._replace(id=UnitId(f"u{n}"), curve=CURVE) for n in range(4)]
    # one unit is best near sqrt(0.6 / 0.00013) = 67.9 kW
    shares = losses(68.0, fleet)
    assert sorted(shares.values()) == pytest.approx([0.0, 0.0, 0.0, 68.0])
    shares = losses(-140.0, fleet)
    assert sorted(shares.values()) == pytest.approx([-70.0, -70.0, 0.0, 0.0])
    assert all(kw == pytest.approx(95.0) for kw in losses(380.0, fleet).values())


def test_marginal_losses_are_equal_where_nothing_binds() -> None:
    near, far = Wires("near"), Wires("far", 0.0, 2e-4)
    flat = Curve(0.0, 0.01, 1e-4)
    fleet = [
        PLAIN._replace(id=UnitId("n"), curve=flat, wires=near),
        PLAIN._replace(id=UnitId("f"), curve=flat, wires=far),
    ]
    shares = losses(80.0, fleet)
    # 2e-4 n = 2e-4 f + 4e-4 f
    assert shares == pytest.approx({"n": 60.0, "f": 20.0})
    # a load in the far building makes it cheaper to give there: 2e-4 n = 2e-4 f + 4e-4 (f - 40)
    fleet[1] = fleet[1]._replace(wires=replace(far, auxiliary_kw=40.0))
    assert losses(80.0, fleet) == pytest.approx({"n": 40.0, "f": 40.0})
    # and dearer to take: 2e-4 n = 2e-4 f + 4e-4 (f + 40); f would be 0 up to n = 80
    assert losses(-80.0, fleet) == pytest.approx({"n": -80.0, "f": 0.0})
    assert losses(-88.0, fleet) == pytest.approx({"n": -86.0, "f": -2.0})


def test_soc_pulls_as_hard_as_its_weight() -> None:
    flat = Curve(0.0, 0.01, 1e-4)
    full = PLAIN._replace(id=UnitId("full"), curve=flat, pull_share=-0.004)
    empty = PLAIN._replace(id=UnitId("empty"), curve=flat, pull_share=0.004)
    # 2e-4 full - 0.004 = 2e-4 empty + 0.004
    assert losses(80.0, [full, empty]) == pytest.approx({"full": 60.0, "empty": 20.0})
    assert losses(-80.0, [full, empty]) == pytest.approx({"full": -20.0, "empty": -60.0})


@pytest.mark.parametrize("weight", [0.0, 0.005])
@pytest.mark.parametrize("power_kw", [90.0, 450.0, -1000.0, 2500.0])
def test_two_hundred_units_are_within_a_thousandth_of_the_reference(
    power_kw: float, weight: float
) -> None:
    """Four kinds of inverter in ten buildings with narrow feeders: many units are alike, and at
    most powers every building has one that may as well run as not."""
    fleet = [
        PLAIN._replace(
            id=UnitId(f"u{n:03}"),
            soc_pct=25.0 + 60.0 * (n * 37 % 101) / 101.0,
            curve=Curve((0.3, 0.5, 0.7, 1.1)[n % 4], 0.005, 1.3e-4, 0.1),
            wires=Wires(f"D{n % 10}", 3.0, 2.2e-6 + 1.6e-7 * (n % 10), 5.0 * (n % 10)),
        )
        for n in range(200)
    ]
    fleet = pulled(fleet, LossSettings(balance_weight=weight), ImbalanceSettings())
    feeder_kw = {f"D{n}": 300.0 + 40.0 * n for n in range(10)}
    bounds = [
        Bound([each.id for each in fleet if each.wires.id == name], most_kw)
        for name, most_kw in feeder_kw.items()
    ]
    shares = losses(power_kw, fleet, bounds)
    lost_kw = modelled_kw(shares, fleet)
    found_kw = lost_kw + pulled_kw(shares, fleet)
    assert found_kw <= reference_kw(power_kw, fleet, feeder_kw, 500) + 0.001 * lost_kw


@pytest.mark.parametrize("size", [200])
def test_a_large_fleet_is_near_what_no_decision_could_beat(size: int) -> None:
    """The relaxed problem (every curve by its lower envelope) bounds any answer from below: the
    best average loss of each unit."""
    fleet = [
        PLAIN._replace(
            id=UnitId(f"u{n:03}"),
            curve=Curve(0.5 + 0.002 * n, 0.004 + 2e-5 * n, 1e-4 + 5e-7 * n),
        )
        for n in range(size)
    ]
    power_kw = 6000.0
    found_kw = modelled_kw(losses(power_kw, fleet), fleet)
    low, high = 0.0, 1.0
    for _ in range(60):  # the marginal price of the relaxed problem, by bisection
        price = (low + high) / 2.0
        low, high = (price, high) if supplied(price, fleet)[0] < power_kw else (low, price)
    given_kw, cost_kw = supplied(high, fleet)
    floor_kw = cost_kw - high * (given_kw - power_kw)
    assert floor_kw <= found_kw + 1e-9
    assert found_kw <= floor_kw * 1.001


def supplied(price: float, fleet: Sequence[Member]) -> tuple[float, float]:
    """What units give, and lose, that each by itself earn most at this price."""
    given_kw = cost_kw = 0.0
    for each in fleet:
        c = each.curve
        best_kw = min(max((price - c.linear_share) / (2.0 * c.quadratic_per_kw), 0.0), each.out_kw)
        loss_kw = c.loss_kw(best_kw) if best_kw else 0.0
        if price * best_kw > loss_kw:
            given_kw, cost_kw = given_kw + best_kw, cost_kw + loss_kw
    return given_kw, cost_kw


def test_a_curve_by_hand() -> None:
    curve = inverter_curve(InverterLossSettings(), 100.0)
    assert (curve.no_load_kw, curve.linear_share) == pytest.approx((0.7, 0.005))
    assert curve.loss_kw(0.0) == pytest.approx(0.1)
    assert curve.loss_kw(100.0) == curve.loss_kw(-100.0) == pytest.approx(2.5)


@given(st.floats(0.0, 2.0), st.floats(0.0, 0.05), st.floats(0.0, 1e-3), st.floats(0.0, 300.0))
def test_what_comes_out_of_a_dc_power(
    fixed_kw: float, linear: float, quadratic: float, dc_kw: float
) -> None:
    curve = Curve(fixed_kw, linear, quadratic)
    out_kw = curve.out_kw(dc_kw)
    assert 0.0 <= out_kw <= dc_kw
    if out_kw > 0.0:
        assert out_kw + curve.loss_kw(out_kw) == pytest.approx(dc_kw, rel=1e-9, abs=1e-9)


@given(st.floats(0.001, 0.02), st.floats(0.0, 0.02), st.floats(0.001, 0.03))
def test_points_of_a_curve_give_its_figures_back(
    no_load: float, linear: float, quad: float
) -> None:
    points = []
    for load in (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0):
        loss = no_load + linear * load + quad * load * load
        points.append(
            CurvePointSettings(load_pct=100.0 * load, efficiency_pct=100.0 * load / (load + loss))
        )
    assert fitted(points) == pytest.approx((no_load, linear, quad), abs=1e-9)


def test_a_curve_that_no_sum_of_losses_makes_has_no_negative_part() -> None:
    points = [
        CurvePointSettings(load_pct=load, efficiency_pct=eta)
        for load, eta in ((10.0, 99.0), (50.0, 95.0), (100.0, 97.0))
    ]
    assert min(fitted(points)) >= 0.0
    curve = inverter_curve(InverterLossSettings(points=tuple(points)), 100.0)
    assert curve.loss_kw(100.0) > 0.0


def test_transformer_and_feeder_by_hand() -> None:
    made = wires_of(
        BuildingLossSettings(
            id="D1",
            transformer_no_load_kw=1.5,
            transformer_load_kw=10.0,
            transformer_rated_kva=1000.0,
            feeder_ohm=0.1,
            feeder_v=400.0,
        ),
        None,
    )
    # 200 kW at 400 V: I = 288.7 A, 3 I^2 R = 25 kW; copper 10 x 0.2^2 = 0.4 kW
    assert made.loss_kw(200.0) == pytest.approx(1.5 + 0.4 + 25.0)


def test_auxiliary_load_is_measured_or_the_constant() -> None:
    stated = AuxiliarySettings(constant_kw=5.0, unit="b1", point=Point.POWER_KW)
    measured = snapshot(10.0, {Point.POWER_KW: 12.0})
    assert auxiliary_kw(stated, measured) == 12.0
    assert auxiliary_kw(stated, snapshot(10.0, {})) == 5.0
    assert auxiliary_kw(AuxiliarySettings(constant_kw=5.0), measured) == 5.0
    rules = LossSettings(
        units=(UnitLossSettings(id="b1", inverter=InverterLossSettings(no_load_pct=2.0)),),
        buildings=(BuildingLossSettings(id="D1", auxiliary=stated),),
    )
    model = loss_model(rules, [asset()])
    assert model.curve(UnitId("b1")).no_load_kw == pytest.approx(2.0)
    assert model.behind("D1").auxiliary_kw == 5.0
    assert with_auxiliaries(model, rules, measured).behind("D1").auxiliary_kw == 12.0
    assert with_auxiliaries(model, LossSettings(), measured) is model
