"""Which readings become journal rows."""

import math
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from vppd.core.model import Point, Quality, Reading, UnitId
from vppd.core.records import ReadingRow
from vppd.spine.thinner import DEADBANDS, ReadingThinner

UNIT = UnitId("B1")
UTC0 = datetime(2026, 11, 22, tzinfo=UTC)
POWER_DEADBAND_KW = 0.5


def reading(at_s: float, value: float, quality: Quality = Quality.GOOD) -> Reading:
    return Reading(UNIT, Point.POWER_KW, value, at_s, 2.0, quality)


def offered(thinner: ReadingThinner, given_: Reading) -> ReadingRow | None:
    return thinner.offer(given_, UTC0 + timedelta(seconds=given_.at_s))


STREAM = st.lists(
    st.tuples(
        st.floats(min_value=0.001, max_value=90.0),
        st.floats(min_value=-200.0, max_value=200.0) | st.just(math.nan),
        st.sampled_from(Quality),
    ),
    max_size=60,
)


@given(STREAM)
def test_what_is_kept_tells_the_rest(steps: list[tuple[float, float, Quality]]) -> None:
    thinner = ReadingThinner(row_s=1.0, alive_s=60.0)
    at_s = 0.0
    kept: Reading | None = None
    for step_s, value, quality in steps:
        at_s += step_s
        now = reading(at_s, value, quality)
        row = offered(thinner, now)
        if kept is None:
            assert row is not None
        elif at_s - kept.at_s < 1.0:
            assert row is None
        elif at_s - kept.at_s >= 60.0 or quality is not kept.quality:
            assert row is not None
        elif math.isnan(value) and math.isnan(kept.value):
            assert row is None
        elif math.isnan(value) or math.isnan(kept.value):
            assert row is not None
        else:
            assert (row is not None) == (abs(value - kept.value) > POWER_DEADBAND_KW)
        if row is not None:
            assert (row.unit, row.point, row.quality) == (UNIT, "power_kw", quality)
            assert row.value == value or math.isnan(value)
            kept = now


def test_a_change_inside_the_second_is_kept_with_the_next_reading() -> None:
    thinner = ReadingThinner()
    rows = [offered(thinner, reading(t, v)) for t, v in [(0, 0), (0.5, 50), (1.0, 50), (1.5, 50)]]
    assert [row.value if row else None for row in rows] == [0, None, 50, None]


def test_slow_drift_is_followed() -> None:
    """Judged against the last kept value, not against the last seen."""
    thinner = ReadingThinner()
    rows = [offered(thinner, reading(float(n), 0.2 * n)) for n in range(50)]
    values = [row.value for row in rows if row]
    assert len(values) > 15
    assert all(abs(b - a) <= POWER_DEADBAND_KW + 0.2 for a, b in pairwise(values))


def test_units_and_points_do_not_mix() -> None:
    thinner = ReadingThinner()
    first = Reading(UNIT, Point.POWER_KW, 1.0, 0.0, 2.0)
    other_unit = Reading(UnitId("B2"), Point.POWER_KW, 1.0, 0.0, 2.0)
    other_point = Reading(UNIT, Point.SOC_PCT, 1.0, 0.0, 2.0)
    assert all(offered(thinner, each) for each in (first, other_unit, other_point))


def test_bits_have_no_deadband_and_heartbeats_no_row() -> None:
    thinner = ReadingThinner()
    bits = [Reading(UNIT, Point.FAULT_BITS, float(n), float(n), 2.0) for n in (0, 1)]
    assert [offered(thinner, each) is not None for each in bits] == [True, True]
    assert offered(thinner, Reading(UNIT, Point.HEARTBEAT, 1.0, 0.0, 2.0)) is None


def test_every_deadband_is_a_positive_number() -> None:
    assert all(deadband > 0 for deadband in DEADBANDS.values())
