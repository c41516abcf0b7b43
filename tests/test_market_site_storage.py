"""The site as one battery: what counts, what is kept, and never more than its units can give."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rig import B1, B2, asset
from vppd.core.alarms import Code
from vppd.core.model import Limit, Point, Reading, Snapshot, UnitId
from vppd.core.settings_market import BatterySettings
from vppd.market.site_storage import stock_of

PAIR = asset(B1), asset(B2, energy_kwh=500.0)
WIDE = Limit(-1000.0, 1000.0, Code.CONNECTION)
PLAIN = BatterySettings(soc_min_pct=0.0, soc_max_pct=100.0)
BOTH = frozenset({B1, B2})


def shown(**soc_pct: float) -> Snapshot:
    readings = {}
    for number, pct in soc_pct.items():
        unit: UnitId = {"one": B1, "two": B2}[number]
        readings[unit, Point.SOC_PCT] = Reading(unit, Point.SOC_PCT, pct, 99.0, 10.0)
    return Snapshot(100.0, datetime(2026, 3, 1, tzinfo=UTC), readings)


def test_energies_add_up_inside_the_safety_windows() -> None:
    stock = stock_of(shown(one=50.0, two=20.0), PAIR, BOTH, WIDE, PLAIN)
    safety = PAIR[0].safety
    assert stock.low_mwh == stock.high_mwh == pytest.approx(0.125 + 0.1)
    assert stock.storage.low_mwh == pytest.approx(0.75 * safety.soc_min_pct / 100)
    assert stock.storage.high_mwh == pytest.approx(0.75 * safety.soc_max_pct / 100)
    assert (stock.storage.charge_mw, stock.storage.discharge_mw) == (0.2, 0.2)
    assert stock.soc_pct == pytest.approx(30.0)
    assert stock.age_s == 1.0


@pytest.mark.parametrize("able", [frozenset({B1}), BOTH])
def test_a_unit_that_cannot_work_or_shows_nothing_counts_for_nothing(
    able: frozenset[UnitId],
) -> None:
    stock = stock_of(shown(one=50.0), PAIR, able, WIDE, PLAIN)
    assert stock.able == {B1}
    assert stock.high_mwh == pytest.approx(0.125)
    assert stock.storage.discharge_mw == 0.1


def test_without_any_unit_there_is_nothing_to_sell() -> None:
    stock = stock_of(shown(), PAIR, frozenset(), WIDE, PLAIN)
    assert stock.soc_pct is None
    assert stock.storage.discharge_mw == stock.storage.charge_mw == 0.0
    assert stock.storage.usable_mwh == 0.0


def test_reserve_and_auxiliary_load_come_off_first() -> None:
    battery = replace(
        PLAIN, reserve_up_kw=40.0, reserve_down_kw=20.0, reserve_s=1800.0, auxiliary_kw=5.0
    )
    plain = stock_of(shown(one=50.0, two=50.0), PAIR, BOTH, WIDE, PLAIN).storage
    kept = stock_of(shown(one=50.0, two=50.0), PAIR, BOTH, WIDE, battery).storage
    assert kept.discharge_mw == pytest.approx(0.2 - 0.005 - 0.04)
    assert kept.charge_mw == pytest.approx(0.2 + 0.005 - 0.02)
    assert kept.low_mwh - plain.low_mwh == pytest.approx(0.04 * 0.5 / 0.922)
    assert plain.high_mwh - kept.high_mwh == pytest.approx(0.02 * 0.5 * 0.922)


@given(
    st.floats(0.0, 100.0),
    st.floats(0.0, 100.0),
    st.floats(0.0, 400.0),
    st.floats(0.0, 400.0),
    st.floats(0.0, 7200.0),
    st.floats(0.0, 300.0),
    st.floats(0.0, 300.0),
    st.floats(0.0, 20.0),
)
def test_no_setting_makes_more_of_it_than_the_units_are(
    one: float,
    two: float,
    up_kw: float,
    down_kw: float,
    reserve_s: float,
    export_kw: float,
    import_kw: float,
    error_pct: float,
) -> None:
    battery = replace(PLAIN, reserve_up_kw=up_kw, reserve_down_kw=down_kw, reserve_s=reserve_s)
    limit = Limit(-import_kw, export_kw, Code.CONNECTION)
    stock = stock_of(shown(one=one, two=two), PAIR, BOTH, limit, battery, error_pct)
    storage = stock.storage
    assert 0.0 <= storage.discharge_mw <= min(0.2, export_kw / 1000)
    assert 0.0 <= storage.charge_mw <= min(0.2, import_kw / 1000)
    assert 0.0 <= storage.usable_mwh <= 0.75
    assert stock.low_mwh <= 0.25 * one / 100 + 0.5 * two / 100 + 1e-9
    assert stock.high_mwh >= 0.25 * one / 100 + 0.5 * two / 100 - 1e-9
