"""Efficiency from an inverter's own two powers."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vppd.core.model import Point, Quality, Reading, UnitId
from vppd.field.sunspec.efficiency import MOST_PCT, EfficiencyBoard, efficiency_pct

U1 = UnitId("U1")


@pytest.mark.parametrize(
    ("ac_kw", "dc_kw", "expected"),
    [(48.0, 50.0, 96.0), (-50.0, -48.0, 96.0), (10.0, -10.0, None), (0.0, 1.0, None)],
)
def test_ac_over_dc_out_and_dc_over_ac_in(ac_kw: float, dc_kw: float, expected: Any) -> None:
    assert efficiency_pct(ac_kw, dc_kw) == expected


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_it_is_a_share_or_nothing(ac_kw: float, dc_kw: float) -> None:
    found = efficiency_pct(ac_kw, dc_kw)
    assert found is None or 0.0 <= found <= MOST_PCT


class Told:
    """A board that keeps what it is given."""

    def __init__(self) -> None:
        self.seen: list[Reading] = []

    def publish(self, message: Any) -> None:
        self.seen.append(message)


def shares(*readings: tuple[Point, float, float]) -> list[float]:
    """The efficiencies after these points, powers and instants, on a rating of 100 kW."""
    told = Told()
    board = EfficiencyBoard(told, U1, 100.0, Point.INVERTER_KW)
    for point, power_kw, at_s in readings:
        board.publish(Reading(U1, point, power_kw, at_s, 2.5))
    assert len(told.seen) >= len(readings)
    return [each.value for each in told.seen if each.point is Point.INVERTER_EFFICIENCY_PCT]


AC, DC = Point.INVERTER_KW, Point.INVERTER_DC_KW


def test_of_one_read_in_either_order() -> None:
    assert shares((AC, 48.0, 1.0), (DC, 50.0, 1.0)) == [96.0]
    assert shares((DC, 50.0, 1.0), (AC, 48.0, 1.0)) == []  # the first AC power is not known yet
    assert shares((AC, 9.0, 0.0), (DC, 50.0, 1.0), (AC, 48.0, 1.0)) == [96.0]


def test_of_two_reads_only_while_power_stands_still() -> None:
    assert shares((AC, 48.0, 1.0), (DC, 50.0, 1.1), (AC, 48.0, 1.5)) == [96.0]
    assert shares((AC, 20.0, 1.0), (DC, 50.0, 1.1), (AC, 48.0, 1.5)) == []


def test_nothing_below_5_percent_of_the_rating_nor_of_bad_values() -> None:
    assert shares((AC, 4.9, 1.0), (DC, 5.2, 1.0)) == []
    told = Told()
    board = EfficiencyBoard(told, U1, 100.0, AC)
    board.publish(Reading(U1, AC, 48.0, 1.0, 2.5, Quality.IMPLAUSIBLE))
    board.publish(Reading(U1, DC, 50.0, 1.0, 2.5))
    assert [each.point for each in told.seen] == [AC, DC]


def test_the_point_of_a_sole_device() -> None:
    told = Told()
    board = EfficiencyBoard(told, U1, 100.0, Point.POWER_KW)
    board.publish(Reading(U1, Point.POWER_KW, -50.0, 1.0, 2.5))
    board.publish(Reading(U1, DC, -48.0, 1.0, 2.5))
    assert told.seen[-1].value == 96.0
