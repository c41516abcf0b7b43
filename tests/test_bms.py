"""What a BMS's frames become: golden frames typed from the documents, cantools as the other side,
and everything that may be wrong with a frame."""

import dataclasses
import math
import struct

import cantools
import pytest
from cantools.database.can import Database
from hypothesis import given
from hypothesis import strategies as st

from tests.bms_rig import STRANGE_DBC, Ear, shipped
from tests.rig import B1
from vppd.core.bms import BmsProfile, FrameSpec, SignalSpec, Take
from vppd.core.model import Plan, Point, Priority, Quality
from vppd.field.hear import read_dbc

VPP, PYLON = shipped("vpp-bms"), shipped("pylontech")
STRANGE = BmsProfile(
    name="strange",
    maker="nobody",
    model="multiplexed, extended, both byte orders, with an alive counter and a float",
    source="this test",
    frames={
        "MODULES": FrameSpec(period_s=0.2, max_age_s=1.0),
        "STATE": FrameSpec(period_s=0.1, max_age_s=0.5, counter="ALIVE"),
    },
    points={
        Point.CELL_MIN_V: SignalSpec(
            signals=("VOLT_A", "VOLT_B", "VOLT_C", "VOLT_D"), take=Take.MIN, low=0.5, high=6.0
        ),
        Point.CELL_MAX_V: SignalSpec(
            signals=("VOLT_A", "VOLT_B", "VOLT_C", "VOLT_D"), take=Take.MAX, low=0.5, high=6.0
        ),
        Point.CELL_MAX_C: SignalSpec(signals=("TEMP_A",), not_available=(-20.25,)),
        Point.BMS_FAULT_BITS: SignalSpec(signals=("FLAGS",)),
        Point.BMS_SOC_PCT: SignalSpec(signals=("STATE.LEVEL",), low=0.0, high=100.0),
        Point.PACK_A: SignalSpec(signals=("FLOW",), sign=-1),
        Point.PACK_V: SignalSpec(signals=("TOTAL",), low=0.0, high=1000.0),
    },
    cells=("VOLT_A", "VOLT_B", "VOLT_C", "VOLT_D"),
    dbc_path=str(STRANGE_DBC),
)
MODULES_ID = 0x18FEF17E  # of 29 bits
SAME_ID = 0x120  # as vpp-bms has, for another message

# ---- golden frames, typed from the documents -----------------------------------------------------

VPP_FRAMES = {  # big-endian
    0x100: "0CE4 0CE5 0CE6 0CE7",  # 3.300 3.301 3.302 3.303 V
    0x101: "0CE8 0CE9 0CEA 0CEB",
    0x102: "0CEC 0CED 0CEE 0CEF",
    0x103: "0CF0 0CF1 0CF2 0CC8",  # ... 3.314 and the lowest, 3.272 V
    0x110: "00FA 00FB 00FC 00FD",  # 25.0 to 25.3 C
    0x111: "FFCE 0100 0101 0102",  # -5.0 C, then 25.6 to 25.8 C
    0x120: "0212 00C8 32 64 50",  # 53.0 V, 20.0 A charging, 50 %, charge 100 A, discharge 80 A
    0x122: "62 01F4",  # SoH 98 %, 500 cycles
    0x130: "05 10 01",  # over-voltage and over-current, cell imbalance, balancing
}
VPP_VALUES = {
    Point.CELL_MIN_V: 3.272,
    Point.CELL_MAX_V: 3.314,
    Point.CELL_MIN_C: -5.0,
    Point.CELL_MAX_C: 25.8,
    Point.PACK_V: 53.0,
    Point.PACK_A: -20.0,  # ours is positive for discharge
    Point.BMS_SOC_PCT: 50.0,
    Point.BMS_CHARGE_MAX_A: 100.0,
    Point.BMS_DISCHARGE_MAX_A: 80.0,
    Point.BMS_SOH_PCT: 98.0,
    Point.BMS_CYCLES: 500.0,
    Point.BMS_FAULT_BITS: 5.0,
    Point.BMS_WARNING_BITS: 16.0,
    Point.BALANCING: 1.0,
}
PYLON_FRAMES = {  # little-endian; 0x351, 0x355, 0x356 as published of a US5000, then typed
    0x351: "1402 C012 C012 C201",  # 53.2 V, 480.0 A, 480.0 A, 45.0 V
    0x355: "5800 5E00",  # 88 %, 94 %
    0x356: "7A13 F2FE 6B01",  # 49.86 V, -27.0 A (discharging), 36.3 C
    0x359: "80 08 02 01 06 50 4E",  # discharge over-current, system error; two alarms
    0x35C: "C0 00",  # charge and discharge enabled
    0x35E: "5059 4C4F 4E20 2020",
}
PYLON_VALUES = {
    Point.BMS_CHARGE_MAX_V: 53.2,
    Point.BMS_DISCHARGE_MIN_V: 45.0,
    Point.BMS_CHARGE_MAX_A: 120.0,  # of one of four modules
    Point.BMS_DISCHARGE_MAX_A: 120.0,
    Point.BMS_SOC_PCT: 88.0,
    Point.BMS_SOH_PCT: 94.0,
    Point.PACK_V: 49.86,
    Point.PACK_A: 6.75,
    Point.CELL_MIN_C: 36.3,
    Point.CELL_MAX_C: 36.3,
    Point.BMS_FAULT_BITS: 0b1010000,
    Point.BMS_WARNING_BITS: 0b0100001,
    Point.BMS_CHARGE_ALLOWED: 1.0,
    Point.BMS_DISCHARGE_ALLOWED: 1.0,
    Point.BMS_FORCE_CHARGE: 0.0,
}


@pytest.mark.parametrize(
    ("profile", "modules", "frames", "values"),
    [(VPP, 23, VPP_FRAMES, VPP_VALUES), (PYLON, 4, PYLON_FRAMES, PYLON_VALUES)],
)
def test_golden_frames(
    profile: BmsProfile, modules: int, frames: dict[int, str], values: dict[Point, float]
) -> None:
    ear = Ear(profile, modules=modules)
    for number, data in frames.items():
        ear.hear(number, data)
    ear.after()
    assert ear.values() == pytest.approx(values)
    assert set(profile.points) == set(values)
    assert ear.links == [("b1/bms", True)]
    assert ear.bms.counters.frames == len(frames)


def test_cells_are_shown_in_order() -> None:
    ear = Ear(VPP)
    for number, data in VPP_FRAMES.items():
        ear.hear(number, data)
    cells = ear.after().cells
    volts = [3.300 + 0.001 * k for k in range(15)]
    assert cells.cells_v == pytest.approx((*volts, 3.272))
    assert cells.sensors_c == pytest.approx((25.0, 25.1, 25.2, 25.3, -5.0, 25.6, 25.7, 25.8))
    ear.after(5.0).hear(0x103, VPP_FRAMES[0x103])
    assert ear.after().cells.cells_v[:12] == (None,) * 12
    assert ear.cells.cells_v[15] == pytest.approx(3.272)


@pytest.mark.parametrize("padded", ["355", "356", "359", "35C"])
def test_lengths_that_are_sent_in_the_field_are_taken(padded: str) -> None:
    ear = Ear(PYLON)
    for number, data in PYLON_FRAMES.items():
        raw = bytes.fromhex(data)
        ear.hear(number, raw.ljust(8, b"\0") if number == int(padded, 16) else raw)
    ear.after()
    assert len(ear.values()) == len(PYLON.points)


# ---- cantools is the other side ------------------------------------------------------------------


@st.composite
def raw_values(draw: st.DrawFn, dbc: Database, name: str) -> dict[str, float]:
    """Any value that the bits of each signal can carry, as cantools wants it."""
    message = dbc.get_message_by_name(name)
    values: dict[str, float] = {}
    for signal in message.signals:
        if signal.is_float:
            values[signal.name] = draw(st.floats(width=32, allow_nan=False, allow_infinity=False))
            continue
        low, high = (-(2 ** (signal.length - 1)), 2 ** (signal.length - 1) - 1)
        if not signal.is_signed:
            low, high = 0, 2**signal.length - 1
        if signal.is_multiplexer:
            high = 3
        raw = draw(st.integers(low, high))
        values[signal.name] = raw * float(signal.scale) + float(signal.offset)
    return values


@pytest.mark.parametrize("profile", [VPP, PYLON, STRANGE], ids=lambda each: each.name)
@given(data=st.data())
def test_what_cantools_encodes_is_what_is_published(
    profile: BmsProfile, data: st.DataObject
) -> None:
    dbc = read_dbc(profile)
    ear = Ear(profile)
    sent: dict[str, float] = {}
    for name in profile.frames:
        message = dbc.get_message_by_name(name)
        values = data.draw(raw_values(dbc, name))
        pages = range(4) if message.is_multiplexed() else [None]
        for page in pages:
            chosen = values if page is None else values | {"PAGE": float(page)}
            raw = message.encode(chosen, strict=False)
            ear.hear(message.frame_id, raw, extended=message.is_extended_frame)
        sent |= values
    ear.after()
    assert ear.bms.counters.bad == ear.bms.counters.short == ear.bms.counters.long == 0
    for point, spec in profile.points.items():
        parts = [sent[name.rpartition(".")[2]] for name in spec.signals]
        if any(math.isclose(part, none) for part in parts for none in spec.not_available):
            assert ear.quality(point) is Quality.MISSING
            continue
        takes = {Take.ONE: max, Take.MIN: min, Take.MAX: max}
        if spec.take is Take.BITS:
            value = float(sum(1 << k for k, part in enumerate(parts) if part))
        else:
            value = spec.sign * takes[spec.take](parts)
        bounds = parts if spec.take in (Take.MIN, Take.MAX) else [value]
        low = -math.inf if spec.low is None else spec.low
        high = math.inf if spec.high is None else spec.high
        if any(abs(each - edge) < 1e-6 for each in bounds for edge in (low, high)):
            continue  # rounding decides
        if all(low <= each <= high for each in bounds):
            assert ear.value(point) == pytest.approx(value, rel=1e-6, abs=1e-6), point
        else:
            assert ear.quality(point) is Quality.IMPLAUSIBLE


# ---- what is wrong with a frame ------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(
            st.sampled_from([*VPP_FRAMES, *PYLON_FRAMES, MODULES_ID, SAME_ID, 0x305, 0x7FF]),
            st.booleans(),
            st.binary(max_size=64),
            st.sampled_from([0.0, 0.01, 0.3, 2.0]),
        ),
        max_size=30,
    )
)
def test_garbage_never_raises_and_never_looks_good(
    frames: list[tuple[int, bool, bytes, float]],
) -> None:
    for profile in (VPP, PYLON, STRANGE):
        ear = Ear(profile)
        for number, extended, data, wait_s in frames:
            ear.hear(number, data, extended=extended).after(wait_s)
            for point, value in ear.values().items():
                spec = profile.points[point]
                assert math.isfinite(value)
                assert spec.low is None or value >= spec.low
                assert spec.high is None or value <= spec.high


def counted(ear: Ear) -> dict[str, int]:
    return {name: count for name, count in dataclasses.asdict(ear.bms.counters).items() if count}


@pytest.mark.parametrize(
    ("number", "extended", "data", "as_"),
    [
        (0x120, False, "0212 00C8 32 64", "short"),
        (0x120, False, "", "short"),
        (0x100, False, "0CE4 0CE5 0CE6 0CE7 00", "long"),  # which cantools itself would take
        (0x122, False, "62 01F4 00", "long"),
    ],
)
def test_a_frame_of_the_wrong_length_says_nothing(
    number: int, extended: bool, data: str, as_: str
) -> None:
    ear = Ear(VPP).hear(number, data, extended=extended).after()
    assert ear.values() == {}
    assert counted(ear) == {"frames": 1, as_: 1}
    assert ear.links == []


@pytest.mark.parametrize(("number", "extended"), [(0x7FF, False), (0x120, True), (0x220, False)])
def test_an_unknown_identifier_is_counted(number: int, extended: bool) -> None:
    ear = Ear(VPP).hear(number, VPP_FRAMES[0x120], extended=extended).after()
    assert (ear.values(), counted(ear)) == ({}, {"unknown": 1})


def test_a_standard_identifier_is_not_the_extended_one_of_the_same_number() -> None:
    page = "00 E40C E50C 000000"
    assert Ear(STRANGE).hear(MODULES_ID, page).bms.counters.unknown == 1
    assert Ear(STRANGE).hear(MODULES_ID, page, extended=True).bms.counters.unknown == 0


def test_an_unknown_page_of_a_multiplexed_frame_is_counted() -> None:
    ear = Ear(STRANGE).hear(MODULES_ID, "09 E40C E50C 000000", extended=True).after()
    assert counted(ear) == {"frames": 1, "bad": 1}


def test_pages_age_by_themselves() -> None:
    """Page 0 goes on coming; page 1, with the other two cells, does not."""
    ear = Ear(STRANGE)
    ear.hear(MODULES_ID, "00 E40C E50C 000000", extended=True)
    assert ear.after().quality(Point.CELL_MIN_V) is Quality.MISSING
    ear.hear(MODULES_ID, "01 E60C E70C 000000", extended=True).after()
    assert ear.value(Point.CELL_MIN_V) == pytest.approx(3.300)
    assert ear.value(Point.CELL_MAX_V) == pytest.approx(3.303)
    for _ in range(11):
        ear.hear(MODULES_ID, "00 E40C E50C 000000", extended=True).after()
    assert ear.quality(Point.CELL_MIN_V) is Quality.STALE
    volts = ear.cells.cells_v
    assert volts[:2] == pytest.approx((3.300, 3.301))
    assert volts[2:] == (None, None)


def test_the_lowest_cell_is_not_known_while_one_frame_is_silent() -> None:
    ear = Ear(VPP)
    for number in (0x100, 0x101, 0x102):
        ear.hear(number, VPP_FRAMES[number])
    assert ear.after().quality(Point.CELL_MIN_V) is Quality.MISSING
    ear.hear(0x103, VPP_FRAMES[0x103])
    assert ear.after().value(Point.CELL_MIN_V) == pytest.approx(3.272)
    for _ in range(3):
        for number in (0x100, 0x101, 0x102):
            ear.hear(number, VPP_FRAMES[number])
        ear.after(0.5)
    assert ear.value(Point.CELL_MIN_V) == pytest.approx(3.272)  # 1.5 s of 1.6 s
    ear.hear(0x100, VPP_FRAMES[0x100]).after(0.2)
    assert ear.value(Point.CELL_MIN_V) is None
    assert ear.quality(Point.CELL_MAX_V) is Quality.STALE


def test_a_value_is_good_to_the_age_its_frame_may_have() -> None:
    ear = Ear(VPP).hear(0x122, VPP_FRAMES[0x122]).after()
    assert ear.after(2.95).value(Point.BMS_SOH_PCT) == 98.0
    assert ear.after(0.1).quality(Point.BMS_SOH_PCT) is Quality.STALE  # three periods and 0.1 s


def state(count: int, level: int = 500) -> bytes:
    """STATE: counter, LEVEL in 0.1 %, no current, 400 V as a float."""
    return struct.pack("<HH", count | level << 4, 0) + struct.pack("<f", 400.0)


def test_an_alive_counter_that_stands_still_is_not_alive() -> None:
    ear = Ear(STRANGE)
    for count in (12, 13, 14, 0, 1):  # wraps where the DBC says
        ear.hear(SAME_ID, state(count)).after()
    assert counted(ear) == {"frames": 5}
    for _ in range(3):
        ear.hear(SAME_ID, state(1, level=900)).after()
    assert (ear.value(Point.BMS_SOC_PCT), ear.notices) == (50.0, [])
    for _ in range(4):
        ear.hear(SAME_ID, state(1, level=900)).after()
    assert ear.quality(Point.BMS_SOC_PCT) is Quality.STALE
    assert counted(ear) == {"frames": 12, "frozen": 7}
    ear.after(1.0)
    assert ear.links == [("b1/bms", True), ("b1/bms", False)]
    assert ear.notices == [("reading_frozen", True)]
    ear.hear(SAME_ID, state(4, level=900)).after()
    assert ear.value(Point.BMS_SOC_PCT) == 90.0
    assert counted(ear) == {"frames": 13, "frozen": 7, "counter_jumps": 1}
    assert ear.notices[-1] == ("reading_frozen", False)


def test_a_float_that_is_no_number_is_not_believed() -> None:
    ear = Ear(STRANGE).hear(SAME_ID, state(1)[:4] + struct.pack("<f", math.nan)).after()
    assert ear.quality(Point.PACK_V) is Quality.IMPLAUSIBLE
    assert ear.value(Point.BMS_SOC_PCT) == 50.0


def test_not_available_is_missing() -> None:
    ear = Ear(STRANGE).hear(MODULES_ID, "02 FF F0 0000000000", extended=True).after()
    assert ear.quality(Point.CELL_MAX_C) is Quality.MISSING


def test_one_cell_outside_its_range_spoils_both_ends() -> None:
    ear = Ear(VPP)
    for number, data in VPP_FRAMES.items():
        ear.hear(number, "0CE4 FFFF 0CE6 0CE7" if number == 0x100 else data)
    ear.after()
    assert ear.quality(Point.CELL_MIN_V) is ear.quality(Point.CELL_MAX_V) is Quality.IMPLAUSIBLE


# ---- what is told of it --------------------------------------------------------------------------


def test_silence_is_told_once_and_so_is_the_return() -> None:
    ear = Ear(VPP)
    for _ in range(50):
        ear.after()
    assert ear.links == [("b1/bms", False)]
    ear.hear(0x122, VPP_FRAMES[0x122]).after().hear(0x122, VPP_FRAMES[0x122]).after()
    assert ear.links == [("b1/bms", False), ("b1/bms", True)]
    for _ in range(40):
        ear.after()
    assert [up for _, up in ear.links] == [False, True, False]


def test_a_fault_bit_that_comes_and_goes_between_two_looks_is_seen() -> None:
    ear = Ear(VPP).hear(0x130, "00 00 00").after()
    ear.hear(0x130, "08 00 00").hear(0x130, "00 00 00").after(0.06)
    assert ear.value(Point.BMS_FAULT_BITS) == 8.0
    ear.hear(0x130, "01 00 00").after(0.3)
    assert ear.value(Point.BMS_FAULT_BITS) == 9.0
    ear.after(1.0).hear(0x130, "00 00 00").after()
    assert ear.value(Point.BMS_FAULT_BITS) == 0.0


@given(st.lists(st.tuples(st.integers(0, 255), st.sampled_from([0.0, 0.01, 0.03])), min_size=1))
def test_every_fault_bit_is_shown(frames: list[tuple[int, float]]) -> None:
    ear = Ear(VPP)
    for bits, wait_s in frames:
        ear.hear(0x130, bytes([bits, 0, 0])).after(wait_s)
    ear.after()
    shown = 0
    for each in ear.published:
        if getattr(each, "point", None) is Point.BMS_FAULT_BITS:
            shown |= int(getattr(each, "value", 0))
    wanted = 0
    for bits, _ in frames:
        wanted |= bits
    assert shown == wanted


def test_frames_come_often_and_are_shown_now_and_then() -> None:
    ear = Ear(VPP)
    for _ in range(1000):
        ear.hear(0x120, VPP_FRAMES[0x120]).after(0.001)
    shown = [each for each in ear.published if getattr(each, "point", None) is Point.PACK_V]
    assert len(shown) <= 21


def test_a_wish_to_be_charged_is_a_plan_and_an_alarm_while_it_lasts() -> None:
    ear = Ear(PYLON, force_charge_kw=15.0)
    for _ in range(30):
        ear.hear(0x35C, "E0 00").after()
    plans = [each for each in ear.published if isinstance(each, Plan)]
    assert 2 <= len(plans) <= 4
    plan = plans[-1]
    assert (plan.unit, plan.power_kw, plan.priority, plan.source, plan.strategy) == (
        B1,
        -15.0,
        Priority.SCHEDULE,
        "bms",
        None,
    )
    assert {each.issued_s for each in plans} == {plans[0].issued_s}
    assert ear.bus.plans() == (plan,)
    assert ear.notices == [("bms_force_charge", True)]
    for _ in range(40):
        ear.hear(0x35C, "C0 00").after()
    assert ear.notices == [("bms_force_charge", True), ("bms_force_charge", False)]
    assert ear.bus.plans() == ()
    assert len([each for each in ear.published if isinstance(each, Plan)]) == len(plans)


def test_a_wish_of_a_bms_that_fell_silent_ends() -> None:
    ear = Ear(PYLON, force_charge_kw=15.0).hear(0x35C, "E0 00")
    for _ in range(70):
        ear.after()
    assert (ear.notices[-1], ear.bus.plans()) == (("bms_force_charge", False), ())


def test_without_a_power_a_wish_is_an_alarm_only() -> None:
    ear = Ear(PYLON).hear(0x35C, "E0 00").after().after(1.0)
    assert ear.notices == [("bms_force_charge", True)]
    assert ear.bus.plans() == ()


# ---- several on one bus --------------------------------------------------------------------------


def test_an_offset_moves_every_identifier() -> None:
    ear = Ear(PYLON, id_offset=0x20)
    ear.hear(0x355, PYLON_FRAMES[0x355])
    assert ear.after().values() == {}
    ear.hear(0x375, PYLON_FRAMES[0x355])
    assert ear.after().value(Point.BMS_SOC_PCT) == 88.0
    keep_alive = ear.bms.due(ear.clock.now_s())
    assert keep_alive is not None
    assert (keep_alive.id, keep_alive.data) == (0x325, "00" * 8)


def test_a_model_that_does_not_fit_its_dbc_is_refused() -> None:
    wrong = dataclasses.replace(VPP, frames={"NOBODY": FrameSpec(period_s=1.0)})
    with pytest.raises(ValueError, match="NOBODY"):
        Ear(wrong)
    with pytest.raises(ValueError, match="CELL_17"):
        Ear(dataclasses.replace(VPP, cells=("CELL_17",)))
    with pytest.raises(ValueError, match="nowhere"):
        Ear(dataclasses.replace(VPP, dbc_path="nowhere.dbc"))


def test_cantools_is_what_reads_the_dbc() -> None:
    """The shipped files are read by any other reader of such files too."""
    for profile in (VPP, PYLON, STRANGE):
        assert isinstance(cantools.database.load_file(profile.dbc_path), Database)
