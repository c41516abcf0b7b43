"""Which values may be believed: missing, implausible, frozen."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vppd.core.model import Point, Quality
from vppd.core.profile import Kind, PointSpec, Table
from vppd.field.quality import REST_S, Judge

GOOD, FROZEN = Quality.GOOD, Quality.FROZEN


def spec(**keys: Any) -> PointSpec:
    return PointSpec(table=Table.INPUT, address=0, type=Kind.I16, **keys)


POINTS = {
    Point.SOC_PCT: spec(
        low=0.0, high=100.0, frozen_s=60.0, moves_with=Point.POWER_KW, moves_by=1.0
    ),
    Point.VOLTAGE_V: spec(frozen_s=30.0, moves_with=Point.CURRENT_A, moves_by=40.0),
    Point.CURRENT_A: spec(),
    Point.POWER_KW: spec(frozen_s=5.0, moves_with=Point.CURRENT_A, moves_by=5.0),
    Point.TEMPERATURE_C: spec(low=-40.0, high=120.0),
}


class Told:
    """Feeds a judge every half second."""

    def __init__(self) -> None:
        self.judge = Judge(POINTS, 100.0)
        self.now_s = 100.0

    def say(self, **values: float | None) -> dict[str, Quality]:
        self.now_s += 0.5
        given = {Point(name): value for name, value in values.items()}
        judged = self.judge.judge(given, self.now_s)
        return {str(point): quality for point, (_, quality) in judged.items()}

    def hold(self, seconds: float, **values: float) -> dict[str, Quality]:
        for _ in range(round(seconds / 0.5)):
            last = self.say(**values)
        return last


def test_missing_and_implausible() -> None:
    told = Told()
    assert told.say(temperature_c=None) == {"temperature_c": Quality.MISSING}
    for value in (math.nan, math.inf, -40.1, 120.1):
        assert told.say(temperature_c=value) == {"temperature_c": Quality.IMPLAUSIBLE}
    for value in (-40.0, 120.0):
        assert told.say(temperature_c=value) == {"temperature_c": GOOD}


def test_the_value_comes_back_with_its_quality() -> None:
    judged = Judge(POINTS, 1.0).judge({Point.TEMPERATURE_C: 130.0}, 1.0)
    assert judged == {Point.TEMPERATURE_C: (130.0, Quality.IMPLAUSIBLE)}


def test_a_steady_value_is_not_frozen_while_nothing_moves() -> None:
    told = Told()
    assert told.hold(600.0, voltage_v=56.0, current_a=50.0)["voltage_v"] is GOOD


def test_frozen_when_what_it_moves_with_has_moved() -> None:
    told = Told()
    told.hold(20.0, voltage_v=56.0, current_a=0.0)
    assert told.hold(9.0, voltage_v=56.0, current_a=50.0)["voltage_v"] is GOOD
    assert told.hold(3.0, voltage_v=56.0, current_a=50.0)["voltage_v"] is FROZEN
    assert told.say(voltage_v=55.9, current_a=50.0)["voltage_v"] is GOOD


def test_a_step_that_both_made_together_is_no_movement_afterwards() -> None:
    told = Told()
    told.hold(5.0, voltage_v=56.0, current_a=0.0)
    assert told.hold(120.0, voltage_v=54.0, current_a=60.0)["voltage_v"] is GOOD


def test_noise_around_one_place_is_no_movement() -> None:
    told = Told()
    for _ in range(1000):
        told.say(voltage_v=56.0, current_a=10.0)
        assert told.say(voltage_v=56.0, current_a=-10.0)["voltage_v"] is GOOD


def test_power_that_stands_while_current_moves_is_frozen_within_its_window() -> None:
    told = Told()
    told.hold(30.0, power_kw=0.0, current_a=0.0)
    last = told.hold(5.0, power_kw=0.0, current_a=9.0)
    assert last["power_kw"] is FROZEN


def test_a_slow_drift_is_no_movement() -> None:
    """Constant power out of a falling voltage: the current drifts, the power rightly does not."""
    told = Told()
    for turn in range(7200):
        last = told.say(power_kw=100.0, current_a=80.0 + turn * 0.002)
        assert last["power_kw"] is GOOD


def test_soc_is_judged_by_the_energy_that_passed() -> None:
    told = Told()  # 100 kWh: 60 kW moves one percent a minute
    assert told.hold(59.0, soc_pct=50.0, power_kw=60.0, current_a=0.0)["soc_pct"] is GOOD
    assert told.hold(4.0, soc_pct=50.0, power_kw=60.0, current_a=0.0)["soc_pct"] is FROZEN
    assert told.hold(3600.0, soc_pct=50.0, power_kw=0.0, current_a=0.0)["soc_pct"] is FROZEN
    assert told.say(soc_pct=48.9, power_kw=0.0, current_a=0.0)["soc_pct"] is GOOD


def test_energy_out_and_back_in_moves_no_soc() -> None:
    told = Told()
    for _ in range(200):
        told.hold(10.0, soc_pct=50.0, power_kw=60.0, current_a=1.0)
        last = told.hold(10.0, soc_pct=50.0, power_kw=-60.0, current_a=1.0)
        assert last["soc_pct"] is GOOD


def test_power_is_not_carried_over_a_silence() -> None:
    told = Told()
    told.hold(2.0, soc_pct=50.0, power_kw=100.0)
    told.now_s += 600.0
    assert told.hold(2.0, soc_pct=50.0, power_kw=100.0)["soc_pct"] is GOOD


def test_what_stands_for_an_unknown_reason_is_tried_again_later_and_later() -> None:
    told = Told()
    released_s = []
    told.hold(6.0, power_kw=0.0, current_a=0.0)
    for _ in range(2):
        assert told.hold(6.0, power_kw=0.0, current_a=9.0)["power_kw"] is FROZEN
        told.hold(6.0, power_kw=0.0, current_a=0.0)
        begun_s = told.now_s
        while told.say(power_kw=0.0, current_a=0.0)["power_kw"] is FROZEN:
            assert told.now_s - begun_s < 3.0 * REST_S
        released_s.append(told.now_s - begun_s)
        told.hold(6.0, power_kw=0.0, current_a=0.0)
    assert released_s == [pytest.approx(REST_S, abs=11.0), pytest.approx(2.0 * REST_S, abs=11.0)]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-300, 300)), max_size=200))
def test_only_a_value_that_stands_is_ever_frozen(steps: list[tuple[int, int]]) -> None:
    told = Told()
    before: float | None = None
    for volts, amperes in steps:
        quality = told.say(voltage_v=float(volts), current_a=float(amperes))["voltage_v"]
        if before != volts:
            assert quality is GOOD
        before = volts
