"""The rules that a BMS feeds: what it forbids, limits and warns of, for any values at all; and what
`vppd check` refuses of a BMS model, its DBC and its place on a bus."""

import dataclasses
import math
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bms_rig import STRANGE_DBC
from tests.config_site import FIELD, FINE, loaded
from tests.rig import B1, MAX_AGE_S, asset
from vppd.config.devices import SHIPPED_PROFILES, load_bms, shipped_bms
from vppd.config.document import ConfigError
from vppd.core.alarms import Action, Code, Level
from vppd.core.asset import Asset
from vppd.core.envelope import intersect
from vppd.core.model import Limit, Point, Quality, Reading, Snapshot
from vppd.field.interlocks import RULES, needs
from vppd.field.rule import Look, Notes, Rule, Verdict

BMS_RULES = {
    Code.BMS_FAULT,
    Code.BMS_WARNING,
    Code.BMS_FORBIDS,
    Code.BMS_LIMIT,
    Code.PACK_OVER_VOLTAGE,
    Code.PACK_UNDER_VOLTAGE,
}
ALLOWED = (Point.BMS_CHARGE_ALLOWED, Point.BMS_DISCHARGE_ALLOWED)
AMPERES = (Point.BMS_CHARGE_MAX_A, Point.BMS_DISCHARGE_MAX_A)
VOLTAGES = (Point.PACK_V, Point.BMS_CHARGE_MAX_V, Point.BMS_DISCHARGE_MIN_V)
OPEN = (-100.0, 100.0)


def judged(
    unit: Asset, values: Mapping[Point, float | None], notes: Notes = ()
) -> dict[Code, Verdict]:
    """What the BMS's rules say; None is a value that is stale."""
    now_s = 1000.0
    readings = {
        (unit.id, point): Reading(
            unit.id,
            point,
            math.nan if value is None else value,
            now_s,
            MAX_AGE_S,
            Quality.STALE if value is None else Quality.GOOD,
        )
        for point, value in values.items()
    }
    look = Look(Snapshot(now_s, datetime(2026, 1, 1, tzinfo=UTC), readings), unit)
    said = {}
    for rule in RULES:
        if rule.code in BMS_RULES and rule.applies(unit):
            verdict, _ = rule.judge(look, notes)
            if verdict is not None:
                said[verdict.rule] = verdict
    return said


def room(unit: Asset, said: Mapping[Code, Verdict]) -> tuple[float, float]:
    rating = Limit(-unit.rated_kw, unit.rated_kw, Code.RATING)
    both = intersect([rating, *(each.limit for each in said.values() if each.limit is not None)])
    return both.low_kw, both.high_kw


def of(*points: Point) -> Asset:
    return asset(declared=frozenset(points))


maybe = st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False, width=32))


@given(charge=st.sampled_from([0.0, 1.0, None]), discharge=st.sampled_from([0.0, 1.0, None]))
def test_what_the_bms_does_not_allow_stops(charge: float | None, discharge: float | None) -> None:
    unit = of(*ALLOWED)
    said = judged(unit, {ALLOWED[0]: charge, ALLOWED[1]: discharge})
    low_kw, high_kw = room(unit, said)
    assert low_kw == (-100.0 if charge == 1.0 else 0.0)
    assert high_kw == (100.0 if discharge == 1.0 else 0.0)
    assert (Code.BMS_FORBIDS in said) == ((charge, discharge) != (1.0, 1.0))
    if said:
        verdict = said[Code.BMS_FORBIDS]
        assert (verdict.action, verdict.trips) == (Action.STOP, False)


def test_a_bms_that_tells_of_one_direction_binds_that_one() -> None:
    unit = of(Point.BMS_CHARGE_ALLOWED)
    assert room(unit, judged(unit, {Point.BMS_CHARGE_ALLOWED: 0.0})) == (0.0, 100.0)
    unit = of(Point.BMS_DISCHARGE_MAX_A, Point.PACK_V)
    values = {Point.BMS_DISCHARGE_MAX_A: 10.0, Point.PACK_V: 50.0}
    assert room(unit, judged(unit, values)) == pytest.approx((-100.0, 11.5))


@given(charge_a=maybe, discharge_a=maybe, pack_v=maybe, voltage_v=maybe)
def test_the_limits_of_the_bms_are_kept_whatever_the_voltage(
    charge_a: float | None,
    discharge_a: float | None,
    pack_v: float | None,
    voltage_v: float | None,
) -> None:
    unit = of(*AMPERES, Point.PACK_V, Point.VOLTAGE_V)
    values = {
        AMPERES[0]: charge_a,
        AMPERES[1]: discharge_a,
        Point.PACK_V: pack_v,
        Point.VOLTAGE_V: voltage_v,
    }
    low_kw, high_kw = room(unit, judged(unit, values))
    if charge_a is None or discharge_a is None or pack_v is None or voltage_v is None:
        assert (low_kw, high_kw) == (0.0, 0.0)
        return
    kw_per_a = max(min(pack_v, voltage_v), 0.0) * 23 / 1000.0
    assert 0.0 <= -low_kw <= max(charge_a, 0.0) * kw_per_a + 1e-9
    assert 0.0 <= high_kw <= max(discharge_a, 0.0) * kw_per_a + 1e-9


@given(charge_a=st.floats(0, 300), discharge_a=st.floats(0, 300))
def test_without_a_voltage_the_lowest_is_assumed(charge_a: float, discharge_a: float) -> None:
    unit = of(*AMPERES)
    low_kw, high_kw = room(unit, judged(unit, {AMPERES[0]: charge_a, AMPERES[1]: discharge_a}))
    assert -low_kw == pytest.approx(min(charge_a * 44.8 * 23 / 1000.0, 100.0))
    assert high_kw == pytest.approx(min(discharge_a * 44.8 * 23 / 1000.0, 100.0))


@given(pack_v=st.floats(0, 100), charge_v=maybe, discharge_v=maybe, held=st.booleans())
def test_the_voltages_of_the_bms_end_charge_and_discharge(
    pack_v: float, charge_v: float | None, discharge_v: float | None, held: bool
) -> None:
    unit = of(*VOLTAGES)
    values = {VOLTAGES[0]: pack_v, VOLTAGES[1]: charge_v, VOLTAGES[2]: discharge_v}
    low_kw, high_kw = room(unit, judged(unit, values, (1.0,) if held else ()))
    back_v = unit.safety.pack_hysteresis_v if held else 0.0
    no_charge = charge_v is None or pack_v >= min(charge_v, 67.2) or pack_v > 67.2
    if no_charge:
        assert low_kw == 0.0
    elif charge_v is not None and pack_v < min(charge_v, 67.2) - back_v - 1e-9:
        assert low_kw == -100.0
    no_discharge = discharge_v is None or pack_v <= max(discharge_v, 44.8)
    if no_discharge:
        assert high_kw == 0.0
    elif discharge_v is not None and pack_v > max(discharge_v, 44.8) + back_v + 1e-9:
        assert high_kw == 100.0


def test_a_limit_without_a_voltage_to_hold_it_against_binds_nothing() -> None:
    unit = of(Point.BMS_CHARGE_MAX_V, Point.BMS_DISCHARGE_MIN_V)
    values = {Point.BMS_CHARGE_MAX_V: 53.2, Point.BMS_DISCHARGE_MIN_V: 45.0}
    assert room(unit, judged(unit, values)) == OPEN
    assert room(unit, judged(unit, dict.fromkeys(values))) == (0.0, 0.0)


@given(bits=st.integers(0, 2**32 - 1), mask=st.integers(0, 2**32 - 1))
def test_a_fault_that_the_model_counts_trips(bits: int, mask: int) -> None:
    unit = dataclasses.replace(of(Point.BMS_FAULT_BITS), bms_fault_mask=mask)
    said = judged(unit, {Point.BMS_FAULT_BITS: float(bits)})
    assert (Code.BMS_FAULT in said) == bool(bits & mask)
    if said:
        verdict = said[Code.BMS_FAULT]
        assert (verdict.trips, verdict.action, verdict.value) == (
            True,
            Action.SHUTDOWN,
            float(bits & mask),
        )
        assert room(unit, said) == (0.0, 0.0)


def test_faults_that_cannot_be_read_leave_nothing() -> None:
    unit = of(Point.BMS_FAULT_BITS)
    said = judged(unit, {Point.BMS_FAULT_BITS: None})
    assert room(unit, said) == (0.0, 0.0)
    assert not said[Code.BMS_FAULT].trips


@given(bits=st.integers(0, 2**16 - 1), mask=st.integers(0, 2**16 - 1))
def test_a_warning_is_told_and_binds_nothing(bits: int, mask: int) -> None:
    unit = dataclasses.replace(of(Point.BMS_WARNING_BITS), bms_warning_mask=mask)
    said = judged(unit, {Point.BMS_WARNING_BITS: float(bits)})
    assert (Code.BMS_WARNING in said) == bool(bits & mask)
    assert room(unit, said) == OPEN
    if said:
        verdict = said[Code.BMS_WARNING]
        assert (verdict.level, verdict.action) == (Level.WARNING, Action.LOG)
    assert judged(unit, {Point.BMS_WARNING_BITS: None}) == {}
    assert needs(unit) == frozenset()


def test_the_older_of_two_healths_is_told() -> None:
    rule: Rule = next(each for each in RULES if each.code is Code.SOH_LOW)
    unit = of(Point.SOH_PCT, Point.BMS_SOH_PCT)
    both = {Point.SOH_PCT: 90.0, Point.BMS_SOH_PCT: 60.0}
    readings = {(B1, point): Reading(B1, point, v, 1000.0, MAX_AGE_S) for point, v in both.items()}
    look = Look(Snapshot(1000.0, datetime(2026, 1, 1, tzinfo=UTC), readings), unit)
    verdict, _ = rule.judge(look, ())
    assert verdict is not None
    assert verdict.value == 60.0


# ---- models and their DBC ------------------------------------------------------------------------

PLAIN = """\
name: own
maker: nobody
model: a test
source: this test
frames:
  STATE: {period_s: 0.1}
points:
  bms_soc_pct: {signals: [LEVEL]}
"""


def refused(directory: Path, yaml: str) -> str:
    shutil.copy(STRANGE_DBC, directory / "own.dbc")
    path = directory / "own.yaml"
    path.write_text(yaml)
    try:
        load_bms(path)
    except ConfigError as error:
        return str(error)
    return ""


def test_a_model_that_fits_is_taken(tmp_path: Path) -> None:
    assert refused(tmp_path, PLAIN) == ""
    assert set(shipped_bms()) >= {"vpp-bms", "pylontech"}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("STATE:", "NOBODY:", "no message NOBODY"),
        ("[LEVEL]", "[LEVELS]", "no signal LEVELS in the frames it sends"),
        ("[LEVEL]", "[MODULES.VOLT_A]", "no signal MODULES.VOLT_A"),  # a frame it does not send
        ("period_s: 0.1", "period_s: 0.1, counter: ALIVES", "STATE has no signal ALIVES"),
        ("period_s: 0.1", "period_s: 0.1, max_age_s: 0.1", "two periods"),
        ("bms_soc_pct", "soc_pct", "not what a BMS on CAN may tell"),
        ("points:", "cells: [CELL]\npoints:", "no signal CELL"),
        ("[LEVEL]", "[LEVEL, FLOW]", "say how they make one value"),
        ("frames:", "keep_alive: {id: 0x120}\nframes:", "0x120 is what the BMS itself sends"),
        ("frames:", "keep_alive: {id: 0x800}\nframes:", "no 11-bit identifier"),
    ],
)
def test_a_model_that_does_not_fit_its_dbc_is_refused(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    assert PLAIN.count(old) == 1
    found = refused(tmp_path, PLAIN.replace(old, new))
    assert said in found
    assert "own.yaml:" in found


def test_a_dbc_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own.dbc").write_text("this is no DBC")
    (tmp_path / "own.yaml").write_text(PLAIN)
    with pytest.raises(ConfigError, match="its DBC cannot be read"):
        load_bms(tmp_path / "own.yaml")


def test_every_shipped_dbc_has_its_yaml() -> None:
    names = {path.stem for path in SHIPPED_PROFILES.glob("*.dbc")}
    assert names == set(shipped_bms())
    for bms in shipped_bms().values():
        assert len(bms.source) > 20


BATTERY = "bms: {dbc: vpp-bms, interface: slcan, channel: /tmp/no-adapter"


@pytest.mark.parametrize(
    ("offset", "said"),
    [
        ("id_offset: 0x200", ""),
        ("id_offset: 1", "identifier 0x101 is of the BMS of A too"),
        ("id_offset: 0x700", "identifier 0x800 does not exist"),
    ],
)
def test_batteries_on_one_bus_share_no_identifier(offset: str, said: str) -> None:
    first = FIELD.replace("    safety:", f"    {BATTERY}}}\n    safety:")
    second = (
        "  - {id: B, building: B1, rated_power_kw: 5, energy_kwh: 20,"
        " safety: {soc_rate_max_pct_per_min: 1}, modbus: {profile: toy, host: 127.0.0.9},"
        f" {BATTERY}, {offset}}}}}\n"
    )
    errors = [str(each) for each in loaded(FINE | {"field.yaml": first + second}).errors]
    assert len(errors) == bool(said), errors
    assert said in "".join(errors)
