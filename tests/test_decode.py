"""Registers to values and back: golden tables typed from the device document, and properties."""

import math
import random
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vppd.config import load_profile
from vppd.core.model import Point, Quality
from vppd.core.profile import DeviceProfile, Kind, PointSpec, Table, Writable, WriteSpec
from vppd.field.decode import check_writable, decoder, encode, register_count, written
from vppd.field.quality import Judge

PROFILES = Path(__file__).parents[1] / "vppd" / "field" / "profiles"

# From the register map document: address, register as the device sends it, and what that means in
# our sign (the device counts power and current positive when charging, vppd when discharging).
INPUTS = [
    (Point.SOC_PCT, 0x1000, 0x0229, 55.3),
    (Point.SOH_PCT, 0x1001, 0x03DE, 99.0),
    (Point.VOLTAGE_V, 0x1002, 0x0231, 56.1),
    (Point.CURRENT_A, 0x1003, 0x0064, -10.0),
    (Point.CURRENT_A, 0x1003, 0xFF9C, 10.0),
    (Point.TEMPERATURE_C, 0x1004, 0x00FB, 25.1),
    (Point.TEMPERATURE_C, 0x1004, 0xFFCE, -5.0),
    (Point.POWER_KW, 0x1005, 0x01F4, -50.0),
    (Point.POWER_KW, 0x1005, 0xFE0C, 50.0),
    (Point.POWER_KW, 0x1005, 0x0000, 0.0),
    (Point.REACTIVE_KVAR, 0x1006, 0xFF38, 20.0),
    (Point.FREQUENCY_HZ, 0x1007, 0x137E, 49.9),
    (Point.STATUS_BITS, 0x1010, 0x8001, 32769.0),
    (Point.ALARM_BITS, 0x1011, 0x0002, 2.0),
    (Point.FAULT_BITS, 0x1012, 0x0010, 16.0),
    (Point.ENERGY_CAPACITY_KWH, 0x1020, 0x09C4, 250.0),
    (Point.RATED_POWER_KW, 0x1021, 0x03E8, 100.0),
    (Point.CYCLES, 0x1022, 0x0D05, 3333.0),
]
HOLDINGS = [
    (Point.SETPOINT_KW, 0x2000, 0xFF85, 12.3),
    (Point.SETPOINT_KVAR, 0x2001, 0x0032, -5.0),
    (Point.MODE, 0x2002, 3, 3.0),
    (Point.ENABLED, 0x2003, 1, 1.0),
]
HOLDINGS_V2 = [(Point.COMMAND_TIMEOUT_S, 0x2005, 5, 5.0), (Point.HEARTBEAT, 0x2006, 513, 513.0)]
WRITES = [
    (Writable.POWER_KW, 0x2000, 12.3, 0xFF85),
    (Writable.POWER_KW, 0x2000, -50.0, 0x01F4),
    (Writable.POWER_KW, 0x2000, 0.0, 0x0000),
    (Writable.POWER_KW, 0x2000, 12.39, 0xFF85),  # never more than cleared
    (Writable.POWER_KW, 0x2000, -12.39, 0x007B),
    (Writable.POWER_KW, 0x2000, 1e9, 0x8001),  # -3276.7, the end of the register's even range
    (Writable.REACTIVE_KVAR, 0x2001, -5.0, 0x0032),
    (Writable.MODE, 0x2002, 3.0, 3),
    (Writable.ENABLED, 0x2003, 1.0, 1),
    (Writable.RESET_ALARMS, 0x2004, 1.0, 1),
]
WRITES_V2 = [
    (Writable.COMMAND_TIMEOUT_S, 0x2005, 5.0, 5),
    (Writable.HEARTBEAT, 0x2006, 65535.0, 0xFFFF),
]


def profile(name: str) -> DeviceProfile:
    return load_profile(PROFILES / f"{name}.yaml")


def point(**keys: Any) -> PointSpec:
    return PointSpec(**{"table": Table.INPUT, "address": 0, "type": Kind.U16, **keys})


def write(**keys: Any) -> WriteSpec:
    given = {"address": 0, "type": Kind.I16, "low": -1e30, "high": 1e30}
    return WriteSpec(**{**given, "read_back": Point.SETPOINT_KW, **keys})


@pytest.mark.parametrize("name", ["vpp-bess", "vpp-bess-v2"])
def test_shipped_profiles_read_what_the_document_says(name: str) -> None:
    shipped = profile(name)
    rows = [(Table.INPUT, *row) for row in INPUTS]
    rows += [(Table.HOLDING, *row) for row in HOLDINGS]
    rows += [(Table.HOLDING, *row) for row in (HOLDINGS_V2 if name == "vpp-bess-v2" else [])]
    for table, which, address, register, value in rows:
        spec = shipped.points[which]
        assert (spec.table, spec.address, register_count(spec)) == (table, address, 1), which
        assert decoder(spec)([register]) == value, which
    assert set(shipped.points) == {row[1] for row in rows}


@pytest.mark.parametrize("name", ["vpp-bess", "vpp-bess-v2"])
def test_shipped_profiles_write_what_the_document_says(name: str) -> None:
    shipped = profile(name)
    rows = WRITES + (WRITES_V2 if name == "vpp-bess-v2" else [])
    for which, address, value, register in rows:
        spec = shipped.writes[which]
        assert spec.address == address, which
        assert encode(spec, value) == (register,), (which, value)
    assert set(shipped.writes) == {row[0] for row in rows}


def test_the_first_profile_never_reverts_and_the_second_does() -> None:
    assert profile("vpp-bess").revert.kind == "none"
    revert = profile("vpp-bess-v2").revert
    assert (revert.kind, revert.timeout_s, revert.power_kw) == ("timeout", 5.0, 0.0)
    assert revert.heartbeat_s <= 2.0


def test_every_fast_value_is_young_and_the_rest_may_be_older() -> None:
    for name in ("vpp-bess", "vpp-bess-v2"):
        for which, spec in profile(name).points.items():
            assert spec.max_age_s == (2.5 if spec.group == "fast" else 30.0), which


ORDERS = [
    # type, word order, byte order, registers, value
    (Kind.U32, "big", "big", [0x0001, 0x86A0], 100000.0),
    (Kind.U32, "little", "big", [0x86A0, 0x0001], 100000.0),
    (Kind.U32, "big", "little", [0x0100, 0xA086], 100000.0),
    (Kind.U32, "little", "little", [0xA086, 0x0100], 100000.0),
    (Kind.I32, "big", "big", [0xFFFE, 0x7960], -100000.0),
    (Kind.F32, "big", "big", [0x4049, 0x0FDB], 3.1415927410125732),
    (Kind.F32, "little", "big", [0x0FDB, 0x4049], 3.1415927410125732),
    (Kind.U64, "big", "big", [0, 0, 1, 0], 65536.0),
    (Kind.I64, "little", "big", [0xFFFE, 0xFFFF, 0xFFFF, 0xFFFF], -2.0),
    (Kind.U16, "big", "little", [0x3412], 4660.0),
    (Kind.I16, "big", "little", [0xFEFF], -2.0),
    (Kind.BITS, "big", "big", [0xA5A5], 42405.0),
]


@pytest.mark.parametrize(("kind", "words", "octets", "registers", "value"), ORDERS)
def test_word_and_byte_orders(
    kind: Kind, words: Any, octets: Any, registers: list[int], value: float
) -> None:
    spec = point(type=kind, word_order=words, byte_order=octets)
    assert register_count(spec) == len(registers)
    assert decoder(spec)(registers) == value


def test_scale_is_the_decimal_it_was_typed_as() -> None:
    tenth, thousandth = decoder(point(scale=0.1)), decoder(point(scale=0.001))
    assert [tenth([raw]) for raw in (672, 3, 550, 448)] == [67.2, 0.3, 55.0, 44.8]
    assert [thousandth([raw]) for raw in (2800, 4200, 50001)] == [2.8, 4.2, 50.001]


def test_offset_comes_before_the_sign() -> None:
    assert decoder(point(scale=0.5, offset=-40.0, sign=-1))([10]) == 35.0


def test_no_minus_zero() -> None:
    value = decoder(point(sign=-1))([0])
    assert value is not None
    assert math.copysign(1.0, value) == 1.0


@pytest.mark.parametrize(
    ("kind", "missing", "registers"),
    [
        (Kind.I16, 0x8000, [0x8000]),
        (Kind.I16, -0x8000, [0x8000]),
        (Kind.U16, 0xFFFF, [0xFFFF]),
        (Kind.I32, 0x80000000, [0x8000, 0]),
        (Kind.F32, 0x7FC00000, [0x7FC0, 0]),
        (Kind.U64, 0xFFFFFFFFFFFFFFFF, [0xFFFF] * 4),
    ],
)
def test_not_available_is_no_value(kind: Kind, missing: int, registers: list[int]) -> None:
    assert decoder(point(type=kind, not_available=(missing,)))(registers) is None
    assert decoder(point(type=kind))(registers) is not None


def test_a_string_counts_as_the_number_it_spells() -> None:
    spec = point(type=Kind.STRING, length=3, scale=0.1)
    assert register_count(spec) == 3
    assert decoder(spec)([0x3132, 0x2E35, 0]) == pytest.approx(1.25)
    nonsense = decoder(spec)([0xFFFE, 0x0041, 0])
    assert nonsense is not None
    assert math.isnan(nonsense)


def test_only_numbers_can_be_written() -> None:
    check_writable(write(type=Kind.F32))
    with pytest.raises(ValueError, match="cannot be written"):
        check_writable(write(type=Kind.STRING))


WRITABLE = st.sampled_from([Kind.U16, Kind.I16, Kind.U32, Kind.I32, Kind.F32])
SCALES = st.sampled_from([1.0, 0.1, 0.01, 0.001, 0.5, 2.0, 10.0, 0.25])


@given(
    WRITABLE,
    SCALES,
    st.sampled_from([1, -1]),
    st.sampled_from(["big", "little"]),
    st.sampled_from(["big", "little"]),
    st.floats(-4e9, 4e9),
)
@example(Kind.I16, 0.1, 1, "big", "big", 0.3)
@example(Kind.I16, 0.1, -1, "big", "big", 67.2)
def test_what_is_written_reads_back_and_is_never_more(
    kind: Kind, scale: float, sign: Any, words: Any, octets: Any, value: float
) -> None:
    orders = {"word_order": words, "byte_order": octets, "scale": scale, "sign": sign}
    spec = write(type=kind, **orders)
    registers = encode(spec, value)
    assert all(0 <= register <= 0xFFFF for register in registers)
    told = written(spec, registers)
    assert decoder(point(type=kind, **orders))(registers) == told
    assert abs(told) <= abs(value) * (1.0 + 1e-8) + 1e-12
    assert told * value >= 0.0
    least, most = {
        Kind.U16: (0, 0xFFFF),
        Kind.I16: (-0x8000, 0x7FFF),
        Kind.U32: (0, 0xFFFFFFFF),
        Kind.I32: (-0x80000000, 0x7FFFFFFF),
        Kind.F32: (-1e38, 1e38),
    }[kind]
    if least * scale <= sign * value <= most * scale:
        step = scale if kind is not Kind.F32 else abs(value) * 2.0**-23
        assert abs(told - value) <= step * (1.0 + 1e-6) + 1e-30


@given(WRITABLE, st.floats(allow_nan=True, allow_infinity=True), st.floats(0, 100))
def test_encoding_never_fails_and_stays_in_range(kind: Kind, value: float, most: float) -> None:
    spec = write(type=kind, low=-most, high=most)
    told = written(spec, encode(spec, value))
    assert abs(told) <= most * (1.0 + 1e-8)
    if not math.isfinite(value):
        assert told == 0.0


def test_ten_thousand_random_replies_raise_nothing() -> None:
    dice = random.Random(4711)
    kinds = list(Kind)
    shipped = profile("vpp-bess-v2")
    judge = Judge(shipped.points, 250.0)
    counts = dict.fromkeys(Quality, 0)
    for turn in range(10_000):
        kind = dice.choice(kinds)
        spec = point(
            type=kind,
            length=dice.randint(1, 8),
            word_order=dice.choice(["big", "little"]),
            byte_order=dice.choice(["big", "little"]),
            scale=dice.choice([1.0, 0.1, 1e-5, 1e30]),
            offset=dice.choice([0.0, -40.0]),
            not_available=(dice.randint(-(2**63), 2**64),),
        )
        size = 2 * register_count(spec)
        raw = dice.randbytes(size)
        decoder(spec)(struct.unpack(f">{size // 2}H", raw))
        values = {
            which: decoder(each)([dice.randrange(0x10000)])
            for which, each in shipped.points.items()
        }
        for value, quality in judge.judge(values, turn * 0.5).values():
            counts[quality] += 1
            assert quality is not Quality.GOOD or math.isfinite(value)
    assert counts[Quality.GOOD] > 0
    assert counts[Quality.IMPLAUSIBLE] > 0
