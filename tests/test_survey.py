"""`check --live`: what is wrong with real equipment is named, over real sockets and ptys, and not
one write function ever goes out."""

import asyncio
import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import can
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.modbus_device import FakeDevice, shipped
from tests.survey_site import (
    READS,
    Pty,
    Wire,
    battery,
    inverter_seat,
    seat,
    site,
    stopping,
    sunspec_inverter,
    unit,
)
from vppd.config import shipped_bms
from vppd.core.model import Point
from vppd.core.profile import DeviceProfile, Kind, PointSpec, Table
from vppd.core.settings import (
    BmsSettings,
    InputModbusSettings,
    InterlockInputSettings,
    MeterSettings,
    SafetySettings,
    Settings,
)
from vppd.field.bms import FrameId, frames_of
from vppd.field.drivers.can import Heard
from vppd.field.hear import read_dbc
from vppd.field.survey.can import Listener, judged, shift_of, survey_can
from vppd.field.survey.checks import at_the_meter, bms_limits, clock_skew, companions, line_time
from vppd.field.survey.remarks import Remark, Sheet, Verdict
from vppd.field.survey.values import Expected, doubts, power_of_ten, sign_and_size
from vppd.field.survey.whole import cross_checked, survey, within_s
from vppd.field.survey.wire import Shown, spans
from vppd.spine.clock import SystemClock

V2 = shipped()
EXPECTED = Expected(power_max_kw=300.0, rated_kw=100.0, energy_kwh=250.0, modules=23)


async def asked(settings: Settings, **how: Any) -> list[Sheet]:
    """The survey, which must keep the bound it states."""
    async with asyncio.timeout(within_s(settings) + 5.0):
        return await survey(settings, SystemClock(), **how)


async def one(device: FakeDevice | Wire, profile: DeviceProfile = V2, **at: Any) -> Sheet:
    """The sheet of one battery behind a real socket, asked as unit id 1; only reads went out."""
    wire = device if isinstance(device, Wire) else Wire({1: device})
    await wire.start()
    with stopping(wire):
        (sheet,) = await asked(site(unit(modbus=seat(wire.port, **at)), profiles={"p": profile}))
    assert set(wire.functions) <= READS
    return sheet


def verdicts(sheet: Sheet) -> dict[str, Verdict]:
    """Each subject with the worst said of it."""
    found: dict[str, Verdict] = {}
    for remark in sheet.remarks:
        if found.get(remark.about) is not Verdict.WRONG:
            found[remark.about] = remark.verdict
    return found


def said(remarks: Sequence[Remark], about: str) -> str:
    """All that is said of a subject, remedies too."""
    return "; ".join(f"{each.text} -> {each.remedy}" for each in remarks if each.about == about)


def not_fine(sheet: Sheet) -> list[Remark]:
    return [remark for remark in sheet.remarks if remark.verdict is not Verdict.OK]


# ---- Modbus devices over sockets -----------------------------------------------------------------


async def test_a_healthy_battery_is_ok_in_every_respect() -> None:
    sheet = await one(battery())
    assert not_fine(sheet) == []
    assert {"reachable", "values", "sign", "holes", "read-back", "revert", "clients"} <= {
        remark.about for remark in sheet.remarks
    }
    assert sheet.values[Point.POWER_KW] == 50.0
    assert sheet.values[Point.SOC_PCT] == 55.3


async def test_a_refused_connection_is_told_as_such() -> None:
    wire = await Wire({}).start()
    port = wire.port
    wire.stop()
    (sheet,) = await asked(site(unit(modbus=seat(port)), profiles={"p": V2}))
    assert "Connection refused" in said(sheet.remarks, "reachable")
    assert "stop vppd" in said(sheet.remarks, "reachable")


async def test_a_silent_device_is_told_with_the_unit_id_that_was_asked() -> None:
    sheet = await one(FakeDevice(silent=True))
    assert "no answer as unit id 1" in said(sheet.remarks, "reachable")
    assert sheet.verdict is Verdict.WRONG


async def test_another_unit_id_that_answers_is_named() -> None:
    sheet = await one(Wire({3: battery()}))
    assert "unit id 3 answers where 1 is configured" in said(sheet.remarks, "unit id")


async def test_a_device_that_answers_under_another_id_is_found_out() -> None:
    wire = Wire({1: battery()})
    wire.answers_as = 7
    assert "unit id 7 answers" in said((await one(wire)).remarks, "unit id")


async def test_a_configured_neighbour_is_not_taken_for_the_silent_one() -> None:
    wire = await Wire({2: battery()}).start()
    units = (unit("A", modbus=seat(wire.port)), unit("B", modbus=seat(wire.port, unit_id=2)))
    with stopping(wire):
        first, second = await asked(site(*units, profiles={"p": V2}))
    assert not said(first.remarks, "unit id")
    assert verdicts(second)["reachable"] is Verdict.OK


@pytest.mark.parametrize(
    ("word", "point"),
    [
        ({"soc": 5530}, "soc_pct"),
        ({"hertz": 49980}, "frequency_hz"),
        ({"power": 55536}, "power_kw"),
    ],
)
async def test_a_scale_times_ten_is_named(word: dict[str, int], point: str) -> None:
    sheet = await one(battery(**word))
    assert f"{point} reads" in said(sheet.remarks, "scale")
    assert "10 times too large" in said(sheet.remarks, "scale")


async def test_a_power_ten_times_too_large_shows_against_volts_and_amperes() -> None:
    sheet = await one(battery(power=0x10000 - 2500, amperes=0x10000 - 200))
    assert "power +250.0 kW, V x I x 23 modules +25.8 kW" in said(sheet.remarks, "scale")


async def test_a_nameplate_ten_times_off_is_a_scale() -> None:
    sheet = await one(battery(rated=10000))
    assert "1000 kW, field.yaml 100 kW" in said(sheet.remarks, "scale")


async def test_a_device_smaller_than_configured_is_wrong() -> None:
    sheet = await one(battery(rated=800))
    assert verdicts(sheet)["rated_power_kw"] is Verdict.WRONG


async def test_an_inverted_sign_shows_while_power_flows() -> None:
    sheet = await one(battery(power=500))
    assert verdicts(sheet)["sign"] is Verdict.WRONG
    assert "inverted" in said(sheet.remarks, "sign")


async def test_a_sign_is_not_judged_at_rest() -> None:
    sheet = await one(battery(power=0, amperes=0))
    assert verdicts(sheet)["sign"] is Verdict.OK
    assert "vppd commission" in said(sheet.remarks, "sign")


async def test_a_setpoint_of_the_other_sign_is_odd() -> None:
    device = battery()
    device.holding[0x2000] = 500  # 50 kW in, while 50 kW come out
    assert verdicts(await one(device))["sign"] is Verdict.ODD


async def test_holes_are_learned_and_listed() -> None:
    sheet = await one(battery())
    assert "input 0x1008-0x100F, 0x1013-0x101F" in said(sheet.remarks, "holes")


async def test_a_point_that_the_device_lacks_is_wrong() -> None:
    device = battery()
    del device.inputs[0x1007], device.holding[0x2000]
    sheet = await one(device)
    assert "frequency_hz: input 0x1007 refused with exception 2" in said(sheet.remarks, "holes")
    assert "power_kw" in said(sheet.remarks, "read-back")


async def test_a_declared_sentinel_is_told() -> None:
    spec = replace(V2.points[Point.SOH_PCT], not_available=(0xFFFF,))
    profile = replace(V2, points={**V2.points, Point.SOH_PCT: spec})
    device = battery()
    device.inputs[0x1001] = 0xFFFF
    assert "soh_pct: the device says" in said((await one(device, profile)).remarks, "sentinel")


async def test_a_sentinel_that_the_profile_does_not_know_is_told() -> None:
    device = battery()
    device.inputs[0x1004] = 0x8000
    assert "temperature_c: raw 0x8000" in said((await one(device)).remarks, "sentinel")


async def test_a_slow_device_is_too_slow_for_its_period() -> None:
    device = battery()
    device.delay_s = 0.12
    sheet = await one(device, poll_s=0.2, timeout_s=2.0)
    assert verdicts(sheet)["poll time"] is Verdict.WRONG


@pytest.mark.parametrize("how", ["refuse", "kick", "ignore"])
async def test_a_device_of_one_client_is_found_out(how: str) -> None:
    sheet = await one(Wire({1: battery()}, how))
    assert verdicts(sheet)["clients"] is Verdict.ODD
    assert "one_client: true" in said(sheet.remarks, "clients")


async def test_a_declared_single_client_is_not_tried_twice() -> None:
    wire = Wire({1: battery()}, "kick")
    sheet = await one(wire, replace(V2, one_client=True))
    assert len(wire.open) == 1
    assert verdicts(sheet)["clients"] is Verdict.OK


async def test_a_device_of_one_client_is_left_to_a_running_vppd() -> None:
    wire = await Wire({1: battery()}).start()
    settings = site(unit(modbus=seat(wire.port)), profiles={"p": replace(V2, one_client=True)})
    with stopping(wire):
        (sheet,) = await asked(settings, vppd_runs=True)
    assert wire.open == []
    assert "stop vppd" in said(sheet.remarks, "reachable")


async def test_a_revert_timer_that_is_no_such_time_is_odd() -> None:
    device = battery()
    device.holding[0x2005] = 50_000
    assert verdicts(await one(device))["revert"] is Verdict.ODD


WIDE = DeviceProfile(
    name="wide",
    maker="m",
    model="m",
    source="s",
    points={
        Point.POWER_KW: PointSpec(table=Table.INPUT, address=10, type=Kind.I32, scale=0.001),
        Point.SOC_PCT: PointSpec(table=Table.INPUT, address=12, type=Kind.F32),
        Point.FREQUENCY_HZ: PointSpec(table=Table.INPUT, address=14, type=Kind.F32),
    },
    read_only=True,
)


def wide_words(swapped: bool) -> dict[int, int]:
    """50 kW, 55.5 %, 50.01 Hz in pairs of registers."""
    octets = struct.pack(">i", 50_000) + struct.pack(">ff", 55.5, 50.01)
    words = list(struct.unpack(">6H", octets))
    if swapped:
        words = [words[n ^ 1] for n in range(6)]
    return {10 + n: word for n, word in enumerate(words)}


async def test_swapped_words_are_named_with_the_order_that_fits() -> None:
    sheet = await one(FakeDevice(inputs=wide_words(swapped=True)), WIDE)
    told = said(sheet.remarks, "word order")
    assert "power_kw, soc_pct, frequency_hz" in told
    assert "word_order: little" in told
    assert not_fine(await one(FakeDevice(inputs=wide_words(swapped=False)), WIDE)) == []


async def test_swapped_bytes_are_named() -> None:
    device = battery()
    device.inputs = {at: (w >> 8) | (w & 0xFF) << 8 for at, w in device.inputs.items()}
    assert "byte_order: little" in said((await one(device)).remarks, "byte order")


@given(st.binary(max_size=40))
async def test_garbage_ends_the_survey_with_words(junk: bytes) -> None:
    wire = Wire({1: battery()})
    wire.garbage = lambda request: request[:4] + junk
    sheet = await one(wire, timeout_s=0.01)
    assert sheet.verdict is Verdict.WRONG


async def test_interlock_inputs_and_the_meter_are_asked() -> None:
    wire = await Wire({1: battery(), 2: FakeDevice(wide_words(swapped=False))}).start()
    wire.devices[9] = FakeDevice(bits={3: 1, 4: 0})
    inputs = tuple(
        InterlockInputSettings(
            id=name,
            scope="site",
            modbus=InputModbusSettings(
                host="127.0.0.1", port=wire.port, unit_id=9, discrete_input=number
            ),
        )
        for name, number in (("fire", 3), ("door", 4))
    )
    meter = MeterSettings(profile="w", host="127.0.0.1", port=wire.port, unit_id=2)
    profiles = {"p": V2, "w": WIDE}
    settings = site(unit(modbus=seat(wire.port)), profiles=profiles, interlocks=inputs, meter=meter)
    with stopping(wire):
        sheets = await asked(settings)
    by_name = {sheet.device: sheet for sheet in cross_checked(sheets, settings)}
    assert list(by_name) == ["A", "meter", "input:fire", "input:door"]
    assert verdicts(by_name["input:fire"])["input"] is Verdict.OK
    assert verdicts(by_name["input:door"])["input"] is Verdict.ODD
    assert "other load behind the connection +0.0 kW" in said(
        by_name["meter"].remarks, "cross-check"
    )
    assert "4 devices share the line" in said(by_name["A"].remarks, "line")
    assert set(wire.functions) <= READS
    assert len(wire.open) == 2  # the one connection of the line, and the second client's trial


async def test_a_serial_line_is_asked_and_left_to_a_running_vppd() -> None:
    line = await Pty({1: battery()}).start()
    at = seat(0, host=None, serial=line.path, baudrate=115_200, timeout_s=1.0)
    settings = site(unit(modbus=at), profiles={"p": V2})
    with stopping(line):
        (sheet,) = await asked(settings, vppd_runs=True)
        assert line.functions == []
        assert "one master" in said(sheet.remarks, "reachable")
        (sheet,) = await asked(settings)
    assert not_fine(sheet) == []
    assert set(line.functions) <= READS


# ---- SunSpec -------------------------------------------------------------------------------------


async def sunspec(device: FakeDevice, **at: Any) -> Sheet:
    wire = await Wire({1: device}).start()
    with stopping(wire):
        (sheet,) = await asked(site(unit(inverter=inverter_seat(wire.port, **at)), profiles={}))
    assert set(wire.functions) <= READS
    return sheet


async def test_a_healthy_sunspec_inverter_is_ok() -> None:
    sheet = await sunspec(sunspec_inverter())
    assert not_fine(sheet) == []
    assert "Acme, Store 100, version 1.7, serial S123" in said(sheet.remarks, "identity")
    assert "base 40000, models 1, 103, 120, 121, 123, 124" in said(sheet.remarks, "sunspec")
    assert sheet.values[Point.POWER_KW] == 50.0
    assert sheet.values[Point.SOC_PCT] == 60.0
    assert sheet.values[Point.DISCHARGE_MAX_KW] == 100.0


async def test_missing_models_of_the_drive_are_named() -> None:
    sheet = await sunspec(sunspec_inverter(without_123=1))
    assert "needs the models 123" in said(sheet.remarks, "drive")
    assert "704" in said((await sunspec(sunspec_inverter(), drive="der")).remarks, "drive")


async def test_a_wrong_base_is_named() -> None:
    assert "base: 40000" in said((await sunspec(sunspec_inverter(), base=100)).remarks, "sunspec")


async def test_a_scale_factor_that_is_none_is_named() -> None:
    assert "103.W" in said((await sunspec(sunspec_inverter(power_sf=11))).remarks, "scale")


async def test_a_sunspec_power_ten_times_too_large_is_not_plausible() -> None:
    assert verdicts(await sunspec(sunspec_inverter(power_sf=2)))["value"] is Verdict.WRONG


async def test_no_sunspec_device_says_where_it_was_looked_for() -> None:
    assert "40000, 0, 50000" in said((await sunspec(battery())).remarks, "sunspec")


# ---- companions and limits, pure -----------------------------------------------------------------


def test_companions_that_disagree_are_named() -> None:
    at = unit()
    twins = {Point.INVERTER_KW: 50.0, Point.POWER_KW: 50.5, Point.BMS_SOC_PCT: 60.0}
    twins |= {Point.SOC_PCT: 61.0, Point.PACK_V: 56.0, Point.VOLTAGE_V: 56.1}
    assert {each.verdict for each in companions(twins, at)} == {Verdict.OK}
    for point, value, about in (
        (Point.INVERTER_KW, -50.0, "sign"),
        (Point.INVERTER_KW, 500.0, "cross-check"),
        (Point.BMS_SOC_PCT, 40.0, "cross-check"),
        (Point.PACK_V, 5.6, "cross-check"),
    ):
        bad = [each for each in companions(twins | {point: value}, at) if each.verdict != "ok"]
        assert [(each.about, each.verdict) for each in bad] == [(about, Verdict.WRONG)]


def test_an_inverter_alone_is_held_against_its_rating_and_its_bms() -> None:
    alone = replace(unit(), modbus=None, inverter=inverter_seat(502))
    flows = {Point.POWER_KW: 50.0, Point.PACK_V: 56.0, Point.PACK_A: 51_000.0 / 56.0 / 23.0}
    flows |= {Point.BMS_SOC_PCT: 50.0, Point.SOC_PCT: 51.0}
    good = list(companions(flows, alone))
    assert {each.verdict for each in good} == {Verdict.OK}
    assert [each.text for each in good if "SoC" in each.text] == [
        "BMS SoC, inverter SoC: 50 %, 51 %"
    ]
    scaled = list(companions(flows | {Point.POWER_KW: 500.0}, alone))
    assert [each.about for each in scaled if each.verdict is Verdict.WRONG] == [
        "scale",
        "cross-check",
    ]
    assert "a factor of 10 apart" in scaled[1].remedy
    turned = list(companions(flows | {Point.POWER_KW: -50.0}, alone))
    assert [each.about for each in turned if each.verdict is Verdict.WRONG] == ["sign"]
    rest = companions(flows | {Point.POWER_KW: 0.0, Point.PACK_A: 0.1}, alone)
    assert {each.verdict for each in rest} == {Verdict.OK}


def test_sheets_stand_unit_by_unit() -> None:
    two = [unit(name) for name in "AB"]
    settings = site(*two, profiles={})
    heard = ("meter", "B", "A", "pmu", "A/bms", "B/controller")
    sheets = [Sheet(name, "", "", ()) for name in heard]
    ordered = [sheet.device for sheet in cross_checked(sheets, settings)]
    assert ordered == ["A", "A/bms", "B", "B/controller", "meter", "pmu"]


def test_a_meter_in_watts_and_one_of_the_other_sign_are_told() -> None:
    assert at_the_meter(20.0, [50.0], 100.0).verdict is Verdict.OK
    assert at_the_meter(50_000.0, [50.0], 100.0).verdict is Verdict.WRONG
    assert at_the_meter(-50.0, [50.0], 100.0).verdict is Verdict.ODD


def test_limits_of_the_bms_against_safety() -> None:
    safety = SafetySettings()
    found = list(bms_limits({Point.BMS_CHARGE_MAX_V: 58.4, Point.BMS_CHARGE_MAX_A: 80.0}, safety))
    assert [each.verdict for each in found] == [Verdict.OK, Verdict.ODD]
    assert "pack_max_v: 58.4" in found[1].remedy
    assert [each.about for each in bms_limits({Point.BMS_CHARGE_MAX_A: 1000.0}, safety)] == [
        "scale"
    ]


def test_a_busy_line_and_a_wrong_clock() -> None:
    assert line_time({"A": (0.2, 0.5)}) is None
    busy = line_time({"A": (0.3, 0.5), "B": (0.3, 0.5)})
    assert busy is not None
    assert busy.verdict is Verdict.WRONG
    assert clock_skew(100.0, 100.5).verdict is Verdict.OK
    assert "+0.0 s" in clock_skew(100.0, 100.04).text, "no minus zero"
    assert clock_skew(100.0, 400.0).verdict is Verdict.ODD


@given(st.sampled_from([0.001, 0.01, 0.1, 10.0, 100.0, 1000.0]), st.floats(0.97, 1.03))
def test_powers_of_ten_are_known(factor: float, nearly: float) -> None:
    assert power_of_ten(factor * nearly, 0.05) == factor
    assert power_of_ten(nearly, 0.05) is None


@given(st.floats(-100, 100), st.floats(40, 67), st.floats(0.85, 1.15), st.sampled_from([1, -1]))
def test_a_sign_is_wrong_exactly_where_power_flows_against_the_current(
    dc_kw: float, volts: float, loss: float, sign: int
) -> None:
    amperes = dc_kw * 1000.0 / volts / 23
    values = {Point.POWER_KW: sign * dc_kw * loss, Point.VOLTAGE_V: volts}
    (remark,) = sign_and_size(values | {Point.CURRENT_A: amperes}, EXPECTED)
    flows = max(abs(dc_kw), abs(dc_kw * loss)) >= 5.0
    assert (remark.verdict is Verdict.WRONG) is (flows and sign < 0)


@given(st.integers(-290_000, 290_000))
def test_swapped_words_are_found_wherever_they_show(watts: int) -> None:
    """A power in W as i32: swapped, it is either still plausible or blamed on the order."""
    high, low = struct.unpack(">2H", struct.pack(">i", watts))
    profile = replace(WIDE, points={Point.POWER_KW: WIDE.points[Point.POWER_KW]})
    shown = Shown(registers={Point.POWER_KW: (low, high)})
    found = {each.about for each in doubts(profile, shown, EXPECTED)}
    swapped_kw = struct.unpack(">i", struct.pack(">2H", low, high))[0] / 1000.0
    if abs(swapped_kw) > 300.0 and (low, high) not in {(0x8000, 0), (0x7FFF, 0xFFFF)}:
        assert found == {"word order"}
    right = Shown(registers={Point.POWER_KW: (high, low)})
    if watts & 0xFFFF or not watts:
        assert {each.about for each in doubts(profile, right, EXPECTED)} == {"values"}


def test_registers_are_told_in_spans() -> None:
    some = {(Table.INPUT, at) for at in (5, 6, 7, 9)} | {(Table.HOLDING, 1)}
    assert spans(some) == "holding 0x0001; input 0x0005-0x0007, 0x0009"


# ---- CAN -----------------------------------------------------------------------------------------


def listener(name: str = "vpp-bms") -> Listener:
    model = shipped_bms()[name]
    at = BmsSettings(dbc=name, interface="virtual", channel="x")
    return Listener("A/bms", at, unit(bms=at), model, frames_of(model, read_dbc(model)))


def traffic_of(of: Listener) -> dict[FrameId, Heard]:
    """Every frame at its period and length; all zeros but the pack: 56 V, 0 A, 55 %, 100 A."""
    heard = {}
    for each, frame in of.frames.items():
        length = min(frame.lengths)
        data = bytes(length)
        if each[0] == 0x120:
            data = struct.pack(">HhBBB", 560, 0, 55, 100, 100).ljust(length, b"\0")
        elif 0x100 <= each[0] <= 0x103:
            data = struct.pack(">4H", 3500, 3500, 3500, 3500)
        elif 0x110 <= each[0] <= 0x111:
            data = struct.pack(">4h", 250, 250, 250, 250)
        elif each[0] == 0x122:
            data = struct.pack(">BH", 98, 100).ljust(length, b"\0")
        period_s = of.profile.frames[frame.name].period_s
        heard[each] = Heard(10, period_s, length, data)
    return heard


def test_a_bms_heard_as_its_dbc_says_is_ok() -> None:
    of = listener()
    sheet = judged(of, traffic_of(of), set())
    assert not_fine(sheet) == []
    assert sheet.values[Point.PACK_V] == 56.0
    assert sheet.values[Point.BMS_SOC_PCT] == 55.0


def test_ids_lengths_and_periods_against_the_dbc() -> None:
    of = listener()
    heard = traffic_of(of)
    pack = (0x120, False)
    gone = {each: what for each, what in heard.items() if each[0] != 0x122}
    assert "0x122" in said(judged(of, gone, set()).remarks, "ids")
    stranger = {**heard, (0x200, False): Heard(5, 0.1, 8, bytes(8))}
    assert verdicts(judged(of, stranger, set()))["ids"] is Verdict.ODD
    assert "ids" not in {r.about for r in not_fine(judged(of, stranger, {(0x200, False)}))}
    long = heard | {pack: Heard(10, 0.1, 5, bytes(5))}
    assert verdicts(judged(of, long, set()))["length"] is Verdict.WRONG
    twice = heard | {pack: replace(heard[pack], period_s=0.05)}
    assert "two BMSs" in said(judged(of, twice, set()).remarks, "period")
    slow = heard | {pack: replace(heard[pack], period_s=0.5)}
    assert verdicts(judged(of, slow, set()))["period"] is Verdict.ODD


@given(st.integers(1, 0x400))
def test_a_shifted_bms_is_told_its_offset(shift: int) -> None:
    wanted = {(number, False) for number in (0x100, 0x101, 0x120, 0x130)}
    heard = [(number + shift, False) for number, _ in wanted]
    assert shift_of(wanted, heard) == shift
    assert shift_of(wanted, heard[1:]) is None


def test_a_shifted_bms_is_wrong_with_its_remedy() -> None:
    of = listener()
    moved = {(number + 0x40, ext): heard for (number, ext), heard in traffic_of(of).items()}
    assert "id_offset: 64" in said(judged(of, moved, set()).remarks, "ids")
    assert "nothing at all" in said(judged(of, {}, set()).remarks, "reachable")


def message(number: int, extended: bool, data: bytes) -> can.Message:
    return can.Message(arbitration_id=number, is_extended_id=extended, data=data)


async def test_a_real_bus_is_overheard_and_nothing_is_sent() -> None:
    of = listener()
    bms = BmsSettings(dbc="vpp-bms", interface="virtual", channel="survey")
    settings = replace(
        site(unit(modbus=seat(1), bms=bms), profiles={"p": V2}),
        bms_profiles={"vpp-bms": of.profile},
    )
    bus = can.Bus(interface="virtual", channel="survey", ignore_config=True)
    over = asyncio.Event()
    due_s = dict.fromkeys(of.frames, 0.0)

    async def play() -> None:
        clock = SystemClock()
        while not over.is_set():
            now_s = clock.now_s()
            for (number, ext), heard in traffic_of(of).items():
                if now_s >= due_s[number, ext]:
                    due_s[number, ext] = max(due_s[number, ext], now_s - 0.1) + heard.period_s
                    bus.send(message(number, ext, heard.data))
            await clock.sleep_until(now_s + 0.01)

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(play())
            (sheet,) = await survey_can(settings, SystemClock())
            over.set()
        assert bus.recv(0.0) is None
    finally:
        bus.shutdown()
    assert sheet.device == "A/bms"
    assert verdicts(sheet)["reachable"] is Verdict.OK
    assert sheet.values[Point.PACK_V] == 56.0


async def test_a_bus_that_is_not_there_is_told() -> None:
    bms = BmsSettings(dbc="vpp-bms", interface="slcan", channel="/nonexistent/tty")
    settings = replace(
        site(unit(modbus=seat(1), bms=bms), profiles={"p": V2}),
        bms_profiles={"vpp-bms": shipped_bms()["vpp-bms"]},
    )
    (sheet,) = await survey_can(settings, SystemClock())
    assert verdicts(sheet) == {"reachable": Verdict.WRONG}
    (sheet,) = await survey_can(settings, SystemClock(), vppd_runs=True)
    assert verdicts(sheet) == {"reachable": Verdict.ODD}
