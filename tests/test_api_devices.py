"""What socket and vppctl show of a unit's BMS, inverter and devices; release; power factor."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.api_site import GOOD, UNITS, Rig, make_rig, serving, settings_of
from tests.virtual_time import virtual
from vppd.cli import tables
from vppd.core.alarms import Code
from vppd.core.model import (
    METER,
    Cells,
    DeviceNotice,
    Point,
    ReadBack,
    ReadBackResult,
    Reading,
    UnitId,
)
from vppd.field.presence import Known
from vppd.northbound import devices

B1, B2, *_ = UNITS
BMS: Mapping[Point, float] = {
    Point.BMS_SOC_PCT: 51.0,
    Point.PACK_V: 53.2,
    Point.PACK_A: -4.5,
    Point.CELL_MIN_V: 3.301,
    Point.CELL_MAX_V: 3.342,
    Point.BMS_DISCHARGE_MAX_A: 90.0,
    Point.BMS_DISCHARGE_ALLOWED: 1.0,
    Point.BMS_CHARGE_ALLOWED: 0.0,
    Point.BMS_FAULT_BITS: 5.0,
}
INVERTER: Mapping[Point, float] = {
    Point.INVERTER_KW: 40.0,
    Point.INVERTER_KVAR: -10.0,
    Point.INVERTER_STATE: 5.0,
    Point.INVERTER_FAULT_BITS: 0.0,
    Point.INVERTER_DC_KW: 41.5,
    Point.INVERTER_EFFICIENCY_PCT: 96.4,
    Point.DISCHARGE_MAX_KW: 80.0,
}


def known(**counters: object) -> Known:
    return Known(True, "answers", {"requests": 7, "replies": 7, "writes": 3, **counters})


def equip(rig: Rig, values: Mapping[Point, float]) -> None:
    """B1 has these too, and says them."""
    site = rig.site
    one, *rest = site.assets
    declared = one.declared | frozenset(values)
    site.assets = (replace(one, declared=declared), *rest)
    for point, value in values.items():
        site.bus.publish(Reading(B1, point, value, site.clock.now_s(), 60.0))


async def seen(rig: Rig) -> tuple[Any, str]:
    """The unit's view, and the screen made of it."""
    code, view = await rig.get("/v1/units/B1")
    assert code == 200
    return view, "\n".join(tables.unit(view))


@virtual
async def test_a_plain_unit_has_no_sections(tmp_path: Path) -> None:
    async with serving(make_rig(tmp_path / "d.sock")) as rig:
        view, screen = await seen(rig)
        told = (await rig.get("/v1/units/B1/telemetry"))[1]
    assert (view["bms"], view["inverter"], view["devices"]) == (None, None, [])
    assert (told["bms"], told["inverter"]) == (None, None)
    for word in ("bms", "inverter", "device", "released", "non-volatile"):
        assert f"\n{word}" not in screen


@virtual
async def test_a_bms_is_shown_with_every_cell(tmp_path: Path) -> None:
    async with serving(make_rig(tmp_path / "d.sock")) as rig:
        equip(rig, BMS)
        volts = (*[3.31] * 9, 3.301, None, 3.342)
        balancing = (*[False] * 11, True)
        now_s = rig.site.clock.now_s()
        rig.site.bus.publish(Cells(B1, now_s, volts, (24.0, None), balancing))
        view, screen = await seen(rig)
        told = (await rig.get("/v1/units/B1/telemetry"))[1]
    bms = view["bms"]
    assert bms == told["bms"]
    assert (bms["soc_pct"], bms["pack_v"], bms["pack_a"]) == (51.0, 53.2, -4.5)
    assert bms["cell_spread_v"] == pytest.approx(0.041)
    assert (bms["discharge_allowed"], bms["charge_allowed"]) == (True, False)
    assert (bms["soh_pct"], bms["force_charge"]) == (None, None)
    assert bms["cells_v"] == list(volts)
    assert bms["sensors_c"] == [24.0, None]
    assert "allows discharge 90.0 A" in screen
    assert "FORBIDS charge" in screen
    assert "spread 0.041 V" in screen
    assert "3.342*" in screen, "the balanced one"
    assert "   9-12 " in screen
    assert "fault bits 0x0005" in screen


@virtual
async def test_an_inverter_is_shown_in_words(tmp_path: Path) -> None:
    async with serving(make_rig(tmp_path / "d.sock")) as rig:
        equip(rig, INVERTER)
        view, screen = await seen(rig)
    inverter = view["inverter"]
    assert (inverter["state"], inverter["power_kw"]) == ("throttled", 40.0)
    assert inverter["reactive_kvar"] == -10.0
    assert view["power_kw"] == 40.0, "the inverter knows best"
    assert "throttled; +40.0 kW, -10.0 kvar" in screen
    assert "dc +41.5 kW, efficiency 96.4 %" in screen
    assert "allows discharge 80.0 kW" in screen


@virtual
async def test_an_inverter_alone_says_what_a_controller_would(tmp_path: Path) -> None:
    """Its power and its reactive power stand under the plain names then."""
    async with serving(make_rig(tmp_path / "d.sock")) as rig:
        equip(rig, {Point.INVERTER_STATE: 9.0})
        rig.values[B1, Point.POWER_KW] = 33.0
        rig.values[B1, Point.REACTIVE_KVAR] = 4.0
        rig.read()
        view, _ = await seen(rig)
    assert view["inverter"]["state"] == "state 9"
    assert (view["inverter"]["power_kw"], view["inverter"]["reactive_kvar"]) == (33.0, 4.0)


def test_every_state_of_the_document_has_its_word() -> None:
    words = ("off", "sleeping", "starting", "running", "throttled", "shutting down", "fault")
    assert dict(enumerate((*words, "standby"), start=1)) == devices.STATES


@virtual
async def test_each_device_and_its_counts_and_the_wear(tmp_path: Path) -> None:
    async with serving(make_rig(tmp_path / "d.sock")) as rig:
        all_ = {
            B1: known(nvm_writes=3, nvm_budget_left=45),
            UnitId("B1/bms"): Known(False, "silent", {"frames": 9}),
            UnitId("B10"): known(),
            METER: known(),
        }
        rig.site.devices = lambda: all_
        view, screen = await seen(rig)
        status = (await rig.get("/v1/status"))[1]
    assert [each["name"] for each in view["devices"]] == ["B1", "B1/bms"]
    assert [each["up"] for each in view["devices"]] == [True, False]
    assert view["devices"][1]["counters"] == {"frames": 9}
    assert (view["nvm_writes"], view["nvm_budget_left"]) == (3, 45)
    assert "writes to non-volatile memory 3, left today 45" in screen
    assert "B1/bms  down" in screen
    assert (status["meter"]["name"], status["meter"]["up"]) == ("meter", True)


@virtual
async def test_the_three_counters_and_what_someone_else_wrote(tmp_path: Path) -> None:
    async with serving(make_rig(tmp_path / "d.sock")) as rig:
        now_s = rig.site.clock.now_s()
        for verdict in (ReadBack.REVERTED, ReadBack.CHANGED, ReadBack.CHANGED):
            rig.site.gate.report(
                ReadBackResult(B1, verdict, 40.0, 50.0, now_s, "reads 50, not 40", 0.0, 7.0)
            )
        view, screen = await seen(rig)
    outcome = view["outcome"]
    assert (outcome["failed"], outcome["reverted"], outcome["changed"]) == (0, 1, 2)
    assert (view["read_back"]["seen_kw"], view["read_back"]["seen_kvar"]) == (50.0, 7.0)
    assert "reverted by the device 1, changed by someone else 2" in screen
    assert "someone else wrote: reads 50, not 40" in screen


# ---- release ----------------------------------------------------------------------------------


@virtual
async def test_release_where_the_profile_can_and_enable_takes_it_back(tmp_path: Path) -> None:
    async with serving(make_rig(tmp_path / "d.sock")) as rig:
        rig.actuators[B1].releases = True
        code, answer = await rig.post("/v1/units/B1/control", {"command": "release"})
        assert (code, answer["command"]) == (200, "release")
        assert [each["code"] for each in answer["latched"]] == ["released"]
        await rig.beat(2)
        assert rig.actuators[B1].given
        view, screen = await seen(rig)
        assert (view["state"], view["bound_by"], view["released"]) == (
            *("disabled", ["released"]),
            False,
        )
        now_s = rig.site.clock.now_s()
        rig.site.gate.report(DeviceNotice(B1, Code.RELEASED, True, now_s, "given back"))
        await rig.beat(1)
        view, screen = await seen(rig)
        assert view["released"]
        assert "released: its own control has it; vppctl enable B1 takes it" in screen
        alarms = (await rig.get("/v1/alarms"))[1]["alarms"]
        assert [each["remedy"] for each in alarms] == ["vppctl enable B1 takes it again"]
        assert (await rig.post("/v1/units/B1/control", {"command": "enable"}))[0] == 200
        await rig.beat(2)
        assert rig.actuators[B1].on
        view, _ = await seen(rig)
        assert (view["released"], view["latched"]) == (False, [])
    (row, _) = [each for each in rig.journal.commands() if each.unit == B1]
    assert row.verb == "release"


@virtual
async def test_release_without_steps_is_refused_with_the_remedy(tmp_path: Path) -> None:
    async with serving(make_rig(tmp_path / "d.sock")) as rig:
        code, answer = await rig.post("/v1/units/B1/control", {"command": "release"})
        assert (code, answer["type"]) == (422, "urn:vppd:problem:not-supported")
        assert "no `release` steps" in answer["detail"]
        assert "vppctl disable B1" in answer["detail"]
        assert not rig.site.gate.latches.all()


# ---- power factor -----------------------------------------------------------------------------


@virtual
@pytest.mark.parametrize(
    ("body", "kvar"),
    [
        ({"power_kw": 80, "power_factor": 0.8}, 60.0),
        ({"power_kw": 80, "power_factor": 0.8, "sense": "lagging"}, 60.0),
        ({"power_kw": 80, "power_factor": 0.8, "sense": "leading"}, -60.0),
        ({"power_kw": -80, "power_factor": 0.8, "sense": "lagging"}, 60.0),
        ({"power_kw": 80, "power_factor": 1}, 0.0),
    ],
)
async def test_a_power_factor_becomes_kvar_at_once(
    tmp_path: Path, body: dict[str, object], kvar: float
) -> None:
    async with serving(make_rig(tmp_path / "d.sock")) as rig:
        code, answer = await rig.post("/v1/units/B1/power", body)
        assert (code, answer["plan"]["reactive_kvar"]) == (202, pytest.approx(kvar))
        await rig.beat(3)
        told = rig.actuators[B1].told
        assert told is not None
        assert told.reactive_kvar == pytest.approx(kvar)


@virtual
@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"power_factor": 1.1}, "power_factor must be 0.01 to 1"),
        ({"power_factor": 0}, "power_factor must be 0.01 to 1"),
        ({"power_factor": -0.9}, "power_factor must be 0.01 to 1"),
        ({"power_factor": 0.5}, "is 160 kVA, beyond the apparent power of B1: 110"),
        ({"power_factor": 0.9, "reactive_kvar": 5}, "not both"),
        ({"power_factor": 0.9, "sense": "up"}, "one of lagging, leading"),
        ({"sense": "lagging"}, "sense goes with power_factor"),
    ],
)
async def test_what_no_power_factor_can_be_is_refused(
    tmp_path: Path, body: dict[str, object], words: str
) -> None:
    async with serving(make_rig(tmp_path / "d.sock")) as rig:
        code, answer = await rig.post("/v1/units/B1/power", {"power_kw": 80, **body})
        assert code == 422
        assert words in answer["detail"]
        assert not rig.site.bus.plans()


@virtual
async def test_reactive_first_cuts_active_power_and_the_answer_says_so(tmp_path: Path) -> None:
    for first, given_kw, kvar in ((True, 66.0, 88.0), (False, 100.0, 45.8)):
        units = tuple(replace(each, reactive_first=first) for each in settings_of().units)
        rig = make_rig(tmp_path / f"{first}.sock", units=units)
        async with serving(rig):
            answer = (await rig.post("/v1/units/B1/power", {"power_kw": 100, "reactive_kvar": 88}))[
                1
            ]
            await rig.beat(5)
            assert answer["expected_kw"] == pytest.approx(given_kw)
            assert ("apparent_power" in answer["bound_by"]) is first
            told = rig.actuators[B1].told
            assert told is not None
            assert told.power_kw == pytest.approx(given_kw, abs=0.1)
            assert told.reactive_kvar == pytest.approx(kvar, abs=0.1)
            assert "apparent_power" in (await seen(rig))[0]["bound_by"]


def test_the_rig_says_nothing_of_them_by_itself() -> None:
    assert frozenset(GOOD).isdisjoint(BMS)
    assert frozenset(GOOD).isdisjoint(INVERTER)
