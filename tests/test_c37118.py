"""The C37.118.2 codec against real frames, frames typed by hand, Wireshark, and noise."""

import gc
import itertools
import math
import random
import re
import shutil
import struct
import subprocess
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vppd.core.model import Phasor
from vppd.grid.c37118 import (
    Command,
    CommandWord,
    Deframer,
    Frame,
    FrameError,
    FrameType,
    Stamp,
    crc_ccitt,
    read_command,
    read_frame,
    read_header,
    text,
    write_command,
    write_frame,
    write_header,
)
from vppd.grid.c37118_config import (
    AnalogChannel,
    Config,
    DigitalWord,
    Format,
    Fragments,
    PhasorChannel,
    Place,
    Station,
    read_config,
    write_config,
)
from vppd.grid.c37118_data import Data, DataLayout, PmuData, stat_of

CAPTURES = Path(__file__).parent / "data" / "pmu"


def capture(name: str) -> list[bytes]:
    return [bytes.fromhex(line) for line in (CAPTURES / f"{name}.hex").read_text().split()]


def of_type(name: str, kind: FrameType) -> list[Frame]:
    return [frame for each in capture(name) if (frame := read_frame(each)).type is kind]


def layout_of(name: str) -> DataLayout:
    return DataLayout(read_config(of_type(name, FrameType.CFG2)[0]))


def sealed(body: bytes) -> bytes:
    """With the right FRAMESIZE and check word, by a CRC of our own."""
    body = body[:2] + struct.pack(">H", len(body) + 2) + body[4:]
    crc = 0xFFFF
    for byte in body:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ (0x1021 if crc & 0x8000 else 0)) & 0xFFFF
    return body + struct.pack(">H", crc)


# real devices


def test_crc_check_value() -> None:
    assert crc_ccitt(b"123456789") == 0x29B1


# the first data frames of the capture as Zeek decoded them: (real, imaginary) of four phasors
ZEEK = [
    (
        (123.279572, -100044.273438),
        (129.534348, -100038.390625),
        (-86700.921875, 49918.292969),
        (86585.726562, 50129.265625),
    ),
    (
        (122.823082, -100044.554688),
        (129.089859, -100038.710938),
        (-86700.914062, 49919.523438),
        (86585.585938, 50129.351562),
    ),
    (
        (122.269951, -100042.742188),
        (129.847198, -100035.851562),
        (-86702.046875, 49919.570312),
        (86583.929688, 50124.996094),
    ),
]


def test_sel_as_zeek_decodes_it() -> None:
    config = read_config(of_type("sel_tcp", FrameType.CFG2)[0])
    assert (config.idcode, config.time_base, config.data_rate) == (241, 16_777_215, 50)
    (station,) = config.stations
    assert (station.name, station.idcode, station.nominal_hz) == ("Blue PMU", 241, 50.0)
    assert station.change_count == 89
    assert station.format == Format(False, True, True, False)
    assert [each.name for each in station.phasors] == ["V1LPM", "VALPM", "VBLPM", "VCLPM"]
    assert {each.unit for each in station.phasors} == {"V"}
    layout = DataLayout(config)
    frames = of_type("sel_tcp", FrameType.DATA)
    for frame, expected in zip(frames, ZEEK, strict=False):
        (pmu,) = layout.read(frame).pmus
        assert (pmu.frequency_hz, pmu.rocof_hz_per_s) == (50.0, 0.0)
        assert (pmu.stat.trigger, pmu.stat.trigger_reason, pmu.stat.sync_lost) == (True, 0, False)
        assert (pmu.analogs, pmu.digitals) == ((), ())
        for phasor, (real, imaginary) in zip(pmu.phasors, expected, strict=True):
            angle = math.radians(phasor.angle_deg)
            assert phasor.magnitude * math.cos(angle) == pytest.approx(real, abs=1e-3)
            assert phasor.magnitude * math.sin(angle) == pytest.approx(imaginary, abs=1e-3)


def test_sel_time_is_a_fraction_of_24_bits() -> None:
    stamps = [frame.stamp for frame in of_type("sel_tcp", FrameType.DATA)]
    assert stamps[0].count == 0x1EB852  # 0.12 of 16777215
    assert stamps[0].utc(16_777_215) == datetime(2008, 8, 1, 16, 5, 30, 120_000, tzinfo=UTC)
    seconds = [stamp.seconds(16_777_215) for stamp in stamps]
    for before, after in itertools.pairwise(seconds):
        assert after - before == pytest.approx(0.02, abs=1e-6)


def test_ge_stream_is_not_its_pmu() -> None:
    config = read_config(of_type("ge_udp", FrameType.CFG2)[0])
    (station,) = config.stations
    assert (config.idcode, station.idcode, station.name) == (60, 61, "PMU1")
    assert station.digitals[0].names[15] == "Dig Channel 16"
    assert station.phasors[0].scale == pytest.approx(0.0122)
    (frame,) = of_type("ge_udp", FrameType.DATA)
    (pmu,) = DataLayout(config).read(frame).pmus
    assert frame.stamp.utc(config.time_base).isoformat() == "2008-08-01T16:18:11.580000+00:00"
    assert pmu.frequency_hz == 50.0
    assert pmu.digitals == (0,)
    magnitudes = [each.magnitude for each in pmu.phasors]
    angles = [each.angle_deg for each in pmu.phasors]
    assert magnitudes == pytest.approx([100.078, 99.946, 100.010], abs=1e-3)
    assert angles == pytest.approx([-89.802, 150.112, 30.157], abs=1e-3)


def test_vizimax_says_clock_failure_and_float_hertz() -> None:
    assert read_header(of_type("vizimax_tcp", FrameType.HEADER)[0]) == ""
    config = read_config(of_type("vizimax_tcp", FrameType.CFG2)[0])
    (station,) = config.stations
    assert (station.name, station.nominal_hz, config.data_rate) == ("Reporting1", 60.0, 60)
    assert station.format == Format(True, True, True, True)
    assert [word.valid for word in station.digitals] == [0x03FF, 0x003F, 0x000F]
    assert [each.unit for each in station.phasors] == ["A"] * 5 + ["V"] * 5
    frame = of_type("vizimax_tcp", FrameType.DATA)[0]
    (pmu,) = DataLayout(config).read(frame).pmus
    assert pmu.frequency_hz == pytest.approx(60.0283, abs=1e-4)
    assert pmu.rocof_hz_per_s == pytest.approx(5.90425, abs=1e-5)
    assert pmu.digitals == (0, 0, 0x000D)
    assert pmu.phasors[0].magnitude == pytest.approx(332.568, abs=1e-3)
    assert pmu.phasors[0].angle_deg == pytest.approx(-56.781, abs=1e-3)
    assert pmu.phasors[6].magnitude == pytest.approx(95269.320, abs=1e-3)
    assert pmu.phasors[1].angle_deg == pytest.approx(-176.922, abs=1e-3)
    assert frame.stamp.clock_failed
    assert frame.stamp.error_s is None
    stat = pmu.stat
    assert (stat.data_error, stat.sync_lost, stat.unlocked) == (0, True, 3)
    assert stat.time_error_s == math.inf


@pytest.mark.parametrize(
    ("sent", "word", "idcode", "stamp"),
    [
        # what the captures' clients sent
        ("aa41001200f100000000000000000005d7d0", CommandWord.SEND_CFG2, 241, Stamp(0, 0)),
        ("aa41001200f100000000000000000002a737", CommandWord.ON, 241, Stamp(0, 0)),
        (
            "aa410012003c489990a100bc1f0c0001c50c",
            CommandWord.OFF,
            60,
            Stamp(0x489990A1, 0xBC1F0C),
        ),
        (
            "aa41001200015975894f000dc48d00034812",
            CommandWord.SEND_HEADER,
            1,
            Stamp(0x5975894F, 0x0DC48D),
        ),
    ],
)
def test_commands_of_the_captures(sent: str, word: CommandWord, idcode: int, stamp: Stamp) -> None:
    command = read_command(read_frame(bytes.fromhex(sent)))
    assert command == Command(idcode, stamp, word)
    assert write_command(command).hex() == sent


@pytest.mark.parametrize("word", [*CommandWord, 0x100, 0xFFF])
def test_every_command_word(word: int) -> None:
    command = Command(7, Stamp(1, 2, 0x0F), word, b"\x12\x34" if word == 8 else b"")
    frame = read_frame(write_command(command))
    assert read_command(frame) == command
    assert frame.version == (2 if word == CommandWord.SEND_CFG3 else 1)


# frames typed by hand from the tables of the standard

CFG3_BY_HAND = sealed(
    b"\xaa\x52\0\0\x00\x3c\x65\x53\xf1\x00\x00\x07\xa1\x20"  # stream 60, 2023-11-14 22:13:20.5
    b"\x00\x00\x00\x0f\x42\x40\x00\x01"  # CONT_IDX 0, TIME_BASE 1000000, one PMU
    b"\x08St\xc3\xa4tion\x00\x07" + b"0123456789abcdef"  # name, IDCODE 7, G_PMU_ID
    b"\x00\x01\x00\x02\x00\x01\x00\x01"  # polar, all integer; 2 phasors, 1 analog, 1 word
    b"\x02VA\x02IA\x01P" + b"\x01d" * 16 + b"\x00\x00\x04\x0a\x41\x48\x00\x00\x3f\x00\x00\x00"
    b"\x00\x40\x0d\x00\x3d\xcc\xcc\xcd\x00\x00\x00\x00"  # above 12.5 V, 0.5 rad; here 0.1 A
    b"\x40\x00\x00\x00\xc0\x40\x00\x00"  # analog 2 x count - 3
    b"\x00\x01\xff\xff"  # normal 1, all valid
    b"\x41\x98\xcc\xcd\x42\x91\x99\x9a\x41\x60\x00\x00P"  # 19.1, 72.8, 14 m, class P
    b"\x00\x00\x4e\x20\x00\x00\x03\xe8"  # window 20000 us, group delay 1000 us
    b"\x00\x01\x00\x03\x00\x32"  # 50 Hz, CFGCNT 3, 50 frames a second
)
INTEGERS_BY_HAND = sealed(
    b"\xaa\x01\0\0\x00\x3c\x65\x53\xf1\x00\x00\x07\xa1\x20\x20\x00"  # STAT: sync lost
    b"\x13\xd8\x1a\x59"  # 5080, 6745: 63500 V at 0.6745 rad less 0.5
    b"\x03\xe8\xae\x30"  # 1000, -20944: 100 A at -120 degrees
    b"\xfe\xd4\xff\xe7"  # -300 mHz, -0.25 Hz/s
    b"\x00\x07\x00\x05"  # analog 7, word 5
)


def test_configuration_3_by_hand() -> None:
    config = read_config(read_frame(CFG3_BY_HAND))
    (station,) = config.stations
    assert (config.kind, config.idcode, config.data_rate) == (FrameType.CFG3, 60, 50)
    assert (station.name, station.idcode, station.nominal_hz) == ("Stätion", 7, 50.0)
    assert station.phasors == (
        PhasorChannel("VA", "V", 12.5, 0.5, 4, 0, 10),
        PhasorChannel("IA", "A", struct.unpack(">f", b"\x3d\xcc\xcc\xcd")[0], 0.0, 5, 0x40, 0),
    )
    assert station.analogs == (AnalogChannel("P", 2.0, -3.0),)
    assert station.digitals == (DigitalWord(("d",) * 16, 1, 0xFFFF),)
    place = station.place
    assert place is not None
    assert place.global_id == b"0123456789abcdef"
    assert [place.latitude, place.longitude] == pytest.approx([19.1, 72.8])
    assert (place.elevation_m, place.service_class) == (14.0, "P")
    assert (place.window_us, place.group_delay_us) == (20000, 1000)
    assert write_config(config) == CFG3_BY_HAND


def test_integer_polar_by_hand() -> None:
    layout = DataLayout(read_config(read_frame(CFG3_BY_HAND)))
    data = layout.read(read_frame(INTEGERS_BY_HAND))
    (pmu,) = data.pmus
    assert (pmu.frequency_hz, pmu.rocof_hz_per_s) == (49.7, -0.25)
    voltage, current = pmu.phasors
    assert (voltage.name, voltage.unit, voltage.magnitude) == ("VA", "V", 63500.0)
    assert voltage.angle_deg == pytest.approx(9.998, abs=1e-3)
    assert current.unit == "A"
    assert current.magnitude == pytest.approx(100.0)
    assert current.angle_deg == pytest.approx(-120.0, abs=1e-3)
    assert (pmu.analogs, pmu.digitals) == ((11.0,), (5,))
    assert pmu.stat.sync_lost
    assert layout.write(data) == INTEGERS_BY_HAND


def test_integer_magnitudes_have_no_sign() -> None:
    sent = INTEGERS_BY_HAND[:16] + b"\xff\xfe" + INTEGERS_BY_HAND[18:-2]
    (pmu,) = DataLayout(read_config(read_frame(CFG3_BY_HAND))).read(read_frame(sealed(sent))).pmus
    assert pmu.phasors[0].magnitude == 65534 * 12.5


def test_top_byte_of_the_time_base_is_reserved() -> None:
    sent = sealed(CFG3_BY_HAND[:16] + b"\xff" + CFG3_BY_HAND[17:-2])
    assert read_config(read_frame(sent)).time_base == 1_000_000


def test_configuration_1_and_integer_rectangular_by_hand() -> None:
    sent = sealed(
        b"\xaa\x21\0\0\x00\x3c\x65\x53\xf1\x00\x00\x00\x00\x00\x00\x0f\x42\x40\x00\x01"
        + b"North".ljust(16)
        + b"\x00\x07\x00\x00\x00\x01\x00\x01\x00\x00"  # all integer, rectangular
        + b"VA".ljust(16)
        + b"P".ljust(16)
        + b"\x00\x0d\xf8\x47"  # 915527: 9.15527 V a count
        + b"\x46\xff\xff\xfe"  # a type outside the standard, -2
        + b"\x00\x00\x00\x09\xff\xfb"  # 60 Hz, CFGCNT 9, one frame in 5 s
    )
    config = read_config(read_frame(sent))
    (station,) = config.stations
    assert (config.kind, config.period_s, station.nominal_hz) == (FrameType.CFG1, 5.0, 60.0)
    assert station.phasors[0].scale == pytest.approx(9.15527)
    assert station.analogs == (AnalogChannel("P", -2.0, 0.0, 0x46),)
    assert write_config(config) == sent
    data = sealed(
        b"\xaa\x01\0\0\x00\x3c\x65\x53\xf1\x00\x00\x00\x00\x00\x00\x00"
        b"\x0b\xb8\xf0\x60"  # 3000, -4000
        b"\x00\x64\x00\x0a\x00\x0f"
    )
    (pmu,) = DataLayout(config).read(read_frame(data)).pmus
    assert pmu.frequency_hz == 60.1
    assert pmu.rocof_hz_per_s == 0.1
    assert pmu.phasors[0].magnitude == pytest.approx(5000 * 9.15527)
    assert pmu.phasors[0].angle_deg == pytest.approx(-53.1301, abs=1e-4)
    assert pmu.analogs == (-30.0,)


@pytest.mark.parametrize("polar", [True, False])
def test_absent_integers_are_no_numbers(polar: bool) -> None:
    station = Station(
        "S", 1, Format(polar, False, False, False), (PhasorChannel("VA", "V"),), nominal_hz=50.0
    )
    layout = DataLayout(Config(FrameType.CFG2, 1, Stamp(0, 0), 1000, (station,), 10))
    words = b"\x80\x00" * 5
    (pmu,) = layout.read(read_frame(sealed(b"\xaa\x01\0\0\0\x01" + bytes(8) + words))).pmus
    assert math.isnan(pmu.frequency_hz)
    assert math.isnan(pmu.rocof_hz_per_s)
    assert math.isnan(pmu.phasors[0].magnitude)
    assert pmu.stat.data_error == 2


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        (0x4000, {"data_error": 1}),
        (0x8000, {"data_error": 2}),
        (0xC000, {"data_error": 3}),
        (0x2000, {"sync_lost": True}),
        (0x1000, {"by_arrival": True}),
        (0x0800, {"trigger": True}),
        (0x0400, {"config_change": True}),
        (0x0200, {"modified": True}),
        (0x0040, {"time_error_s": 1e-7}),
        (0x0140, {"time_error_s": 1e-3}),
        (0x0180, {"time_error_s": 1e-2}),
        (0x01C0, {"time_error_s": math.inf}),
        (0x0030, {"unlocked": 3}),
        (0x0007, {"trigger_reason": 7}),
    ],
)
def test_stat_bits(bits: int, expected: dict[str, object]) -> None:
    good = {
        "data_error": 0,
        "sync_lost": False,
        "by_arrival": False,
        "trigger": False,
        "config_change": False,
        "modified": False,
        "time_error_s": None,
        "unlocked": 0,
        "trigger_reason": 0,
    }
    stat = stat_of(bits)
    assert {name: getattr(stat, name) for name in good} == good | expected
    assert stat.bits == bits


def test_time_quality() -> None:
    stated = [Stamp(0, 0, code).error_s for code in range(16)]
    assert stated[:3] == [0.0, 1e-9, 1e-8]
    assert stated[8:12] == [0.01, 0.1, 1.0, 10.0]
    assert stated[12:] == [None] * 4
    assert [Stamp(0, 0, code).clock_failed for code in (0, 14, 15)] == [False, False, True]
    leap = Stamp(0, 0, 0x10)
    assert (leap.leap_pending, leap.leap_occurred, leap.leap_deletes) == (True, False, False)
    leap = Stamp(0, 0, 0x60)
    assert (leap.leap_pending, leap.leap_occurred, leap.leap_deletes) == (False, True, True)


def test_any_time_stamp_is_some_time() -> None:
    latest = Stamp(0xFFFFFFFF, 0xFFFFFF, 0xFF)
    assert latest.utc(1).year == 2106
    assert Stamp(0, 0).utc(1) == datetime(1970, 1, 1, tzinfo=UTC)
    assert Stamp(1_483_228_799, 999_999).utc(1_000_000).isoformat() == (
        "2016-12-31T23:59:59.999999+00:00"
    )


def test_names_cannot_steer_a_terminal() -> None:
    assert text(b"PMU\x1b[2J\n\0\0 ") == "PMU?[2J?"
    assert text(b"\xff\xfe") == "\N{REPLACEMENT CHARACTER}" * 2


def test_header_words() -> None:
    frame = read_frame(write_header(5, Stamp(1, 2), "substation North"))
    assert read_header(frame) == "substation North"


# refusals


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        bytes(15),
        bytes(70000),
        sealed(b"\xab\x01\0\0" + bytes(12)),
        sealed(b"\xaa\x81\0\0" + bytes(12)),
        sealed(b"\xaa\x61\0\0" + bytes(12)),
        CFG3_BY_HAND[:-1],
        CFG3_BY_HAND + b"\0",
        CFG3_BY_HAND[:-1] + bytes([CFG3_BY_HAND[-1] ^ 1]),
    ],
)
def test_what_is_no_frame(bad: bytes) -> None:
    with pytest.raises(FrameError):
        read_frame(bad)


def test_every_shortened_configuration_is_refused() -> None:
    for whole in (CFG3_BY_HAND, capture("ge_udp")[0]):
        for cut in range(14, len(whole) - 3):
            with pytest.raises(FrameError):
                read_config(read_frame(sealed(whole[:cut])))
        with pytest.raises(FrameError):
            read_config(read_frame(sealed(whole[:-2] + b"\0")))


def test_no_time_base_and_no_pmu_are_refused() -> None:
    for at, count in ((16, 4), (20, 2)):
        with pytest.raises(FrameError):
            read_config(
                read_frame(sealed(CFG3_BY_HAND[:at] + bytes(count) + CFG3_BY_HAND[at + count : -2]))
            )


def test_values_that_do_not_fit_are_refused() -> None:
    station = Station("S", 1, Format(False, False, False, False), (PhasorChannel("VA", "V"),))
    config = Config(FrameType.CFG2, 1, Stamp(0, 0), 1000, (station,), 10)
    layout = DataLayout(config)

    def data(magnitude: float, frequency_hz: float = 50.0) -> Data:
        pmu = PmuData(stat_of(0), frequency_hz, 0.0, (Phasor("VA", magnitude, 0.0, "V"),))
        return Data(1, Stamp(0, 0), (pmu,))

    layout.write(data(32767.0))
    for wrong in (data(32768.0), data(0.0, 90.0), data(1e308), Data(1, Stamp(0, 0), ())):
        with pytest.raises(FrameError):
            layout.write(wrong)
    with pytest.raises(FrameError):
        write_command(Command(70000, Stamp(0, 0), 1))
    with pytest.raises(FrameError):
        write_command(Command(1, Stamp(0, 1 << 24), 1))
    with pytest.raises(FrameError):
        layout.read(read_frame(capture("ge_udp")[1]))


# several PMUs, and all formats there and back

finite = st.floats(-3e4, 3e4)
names = st.text(st.characters(codec="ascii", exclude_categories=("C", "Z")), max_size=16)


@st.composite
def stations(draw: st.DrawFn) -> tuple[Station, PmuData]:
    form = draw(st.builds(Format, *[st.booleans()] * 4))
    phasors = draw(
        st.lists(st.tuples(names, st.sampled_from("VA"), st.integers(100, 0xFFFFFF)), max_size=4)
    )
    analogs = draw(st.lists(st.tuples(names, st.integers(1, 0x7FFFFF)), max_size=3))
    words = draw(st.lists(st.tuples(*[st.integers(0, 0xFFFF)] * 3), max_size=2))
    nominal_hz = draw(st.sampled_from([50.0, 60.0]))
    station = Station(
        draw(names),
        draw(st.integers(0, 0xFFFF)),
        form,
        tuple(PhasorChannel(name, unit, count * 1e-5) for name, unit, count in phasors),
        tuple(AnalogChannel(name, float(factor)) for name, factor in analogs),
        tuple(DigitalWord(("bit",) * 16, normal, valid) for normal, valid, _ in words),
        nominal_hz,
        draw(st.integers(0, 0xFFFF)),
    )
    data = PmuData(
        stat_of(draw(st.integers(0, 0xFFFF))),
        nominal_hz + draw(st.integers(-9999, 9999)) / 1000,
        draw(st.integers(-9999, 9999)) / 100,
        tuple(
            Phasor(name, draw(st.integers(100, 20000)) * count * 1e-5, draw(finite) % 180.0, unit)
            for name, unit, count in phasors
        ),
        tuple(draw(st.integers(-9999, 9999)) * float(factor) for _, factor in analogs),
        tuple(value for _, _, value in words),
    )
    return station, data


@given(
    st.lists(stations(), min_size=1, max_size=3),
    st.sampled_from([FrameType.CFG1, FrameType.CFG2, FrameType.CFG3]),
    st.builds(Stamp, st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFFFF), st.integers(0, 0xFF)),
)
def test_there_and_back(
    parts: list[tuple[Station, PmuData]], kind: FrameType, stamp: Stamp
) -> None:
    config = Config(kind, 60, stamp, 1_000_000, tuple(station for station, _ in parts), 25)
    seen = read_config(read_frame(write_config(config)))
    assert (seen.kind, seen.idcode, seen.stamp, seen.time_base) == (kind, 60, stamp, 1_000_000)
    for station, (sent, _) in zip(seen.stations, parts, strict=True):
        assert (station.name, station.idcode, station.format) == (
            sent.name,
            sent.idcode,
            sent.format,
        )
        assert (station.nominal_hz, station.digitals) == (sent.nominal_hz, sent.digitals)
        assert [each.name for each in station.analogs] == [each.name for each in sent.analogs]
        assert [each.scale for each in station.phasors] == pytest.approx(
            [each.scale for each in sent.phasors], rel=1e-6
        )
    layout = DataLayout(seen)
    frame = layout.write(Data(60, stamp, tuple(data for _, data in parts)))
    assert len(frame) == layout.frame_bytes
    back = layout.read(read_frame(frame))
    for pmu, (station, sent_pmu) in zip(back.pmus, parts, strict=True):
        assert pmu.stat == sent_pmu.stat
        assert pmu.digitals == sent_pmu.digitals
        assert pmu.frequency_hz == pytest.approx(sent_pmu.frequency_hz, abs=1e-5)
        assert pmu.rocof_hz_per_s == pytest.approx(sent_pmu.rocof_hz_per_s, abs=1e-4)
        assert pmu.analogs == pytest.approx(sent_pmu.analogs, rel=1e-6)
        for phasor, sent_phasor, channel in zip(
            pmu.phasors, sent_pmu.phasors, station.phasors, strict=True
        ):
            slack = channel.scale + 1e-4 * sent_phasor.magnitude
            assert (phasor.name, phasor.unit) == (sent_phasor.name, sent_phasor.unit)
            assert phasor.magnitude == pytest.approx(sent_phasor.magnitude, abs=slack)
            turned = math.remainder(phasor.angle_deg - sent_phasor.angle_deg, 360.0)
            assert abs(turned) < 0.7


def test_config_change_of_any_pmu_is_seen() -> None:
    station = Station("S", 1, Format(True, True, True, True), (PhasorChannel("VA", "V"),))
    layout = DataLayout(Config(FrameType.CFG2, 9, Stamp(0, 0), 1000, (station, station), 10))

    def frame(first: int, second: int) -> Frame:
        pmus = tuple(
            PmuData(stat_of(bits), 50.0, 0.0, (Phasor("VA", 1.0, 0.0, "V"),))
            for bits in (first, second)
        )
        return read_frame(layout.write(Data(9, Stamp(0, 0), pmus)))

    assert not layout.config_change(frame(0xFBFF, 0))
    assert layout.config_change(frame(0, 0x0400))
    assert layout.config_change(frame(0x0400, 0))


# CFG-3 in fragments


def fragments_of(whole: bytes, count: int) -> list[Frame]:
    frame = read_frame(whole)
    body = frame.payload[2:]
    step = -(-len(body) // count)
    parts = []
    for number in range(count):
        index = 0xFFFF if number == count - 1 else number + 1
        payload = struct.pack(">H", index) + body[number * step : (number + 1) * step]
        parts.append(Frame(frame.type, frame.idcode, frame.stamp, payload, 2))
    return parts


@pytest.mark.parametrize("count", [2, 3, 7])
def test_fragments_make_a_whole(count: int) -> None:
    collected = Fragments()
    seen = [collected.add(part) for part in fragments_of(CFG3_BY_HAND, count)]
    assert seen[:-1] == [None] * (count - 1)
    assert seen[-1] is not None
    assert write_frame(seen[-1]) == CFG3_BY_HAND


def test_a_missing_fragment_is_refused_and_the_next_start_works() -> None:
    parts = fragments_of(CFG3_BY_HAND, 3)
    collected = Fragments()
    assert collected.add(parts[0]) is None
    assert collected.add(parts[1]) is None
    with pytest.raises(FrameError):
        collected.add(parts[1])
    with pytest.raises(FrameError):
        collected.add(parts[1])
    with pytest.raises(FrameError):
        collected.add(parts[2])
    assert [collected.add(part) is None for part in parts] == [True, True, False]


def test_fragments_do_not_grow_for_ever() -> None:
    collected = Fragments()
    taken = 0
    for index in range(1, 100):
        payload = struct.pack(">H", index) + bytes(60000)
        try:
            collected.add(Frame(FrameType.CFG3, 1, Stamp(0, 0), payload))
        except FrameError:
            break
        taken += len(payload)
    assert 900_000 < taken < 1 << 20


# bytes in, frames out

STREAM = capture("sel_tcp") + capture("ge_udp") + [CFG3_BY_HAND, INTEGERS_BY_HAND]


@given(st.data())
def test_frames_split_and_merged_anywhere(data: st.DataObject) -> None:
    stream = b"".join(STREAM)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=60)))
    deframer = Deframer()
    seen: list[bytes] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        seen += deframer.feed(stream[start:end])
    assert seen == STREAM
    assert (deframer.bad_bytes, deframer.bad_frames, deframer.resyncs) == (0, 0, 0)


def test_byte_by_byte() -> None:
    deframer = Deframer()
    assert [each for byte in b"".join(STREAM) for each in deframer.feed(bytes([byte]))] == STREAM


@given(st.lists(st.binary(max_size=40), min_size=len(STREAM), max_size=len(STREAM)))
def test_garbage_between_frames_hides_none(garbage: list[bytes]) -> None:
    deframer = Deframer()
    seen: list[bytes] = []
    for noise, frame in zip(garbage, STREAM, strict=True):
        seen += deframer.feed(noise + frame)
    assert seen == STREAM
    assert deframer.bad_bytes == sum(map(len, garbage))
    assert deframer.resyncs == sum(1 for noise in garbage if noise)


def test_a_false_start_does_not_hide_what_follows() -> None:
    deframer = Deframer()
    assert deframer.feed(b"\xaa\x01\xff\xff") == []
    assert deframer.feed(STREAM[0]) == [STREAM[0]]
    assert (deframer.bad_bytes, deframer.bad_frames, deframer.resyncs) == (4, 1, 1)


def test_a_corrupt_frame_costs_itself_only() -> None:
    broken = bytearray(STREAM[1])
    broken[20] ^= 0x10
    deframer = Deframer()
    assert deframer.feed(STREAM[0] + broken + STREAM[2]) == [STREAM[0], STREAM[2]]
    assert (deframer.bad_bytes, deframer.bad_frames) == (len(broken), 1)


def test_a_frame_around_a_sync_byte_is_whole() -> None:
    inner = write_header(5, Stamp(0, 0), "x")
    outer = write_frame(Frame(FrameType.HEADER, 5, Stamp(0, 0), b"\xaa\x01\x00\x10" + bytes(20)))
    assert Deframer().feed(outer + inner) == [outer, inner]


def test_end_of_a_datagram_leaves_nothing() -> None:
    deframer = Deframer()
    assert deframer.feed(STREAM[0][:50]) == []
    deframer.end()
    assert deframer.bad_bytes == 50
    assert deframer.feed(STREAM[1]) == [STREAM[1]]
    deframer.feed(STREAM[0][:50])
    deframer.reset()
    assert deframer.feed(STREAM[1]) == [STREAM[1]]
    assert deframer.bad_bytes == 50


def test_false_starts_keep_no_more_than_a_frame() -> None:
    deframer = Deframer()
    for _ in range(200):
        deframer.feed(b"\xaa\x01" * 4096)
        assert len(deframer._buffer) <= 0xFFFF + 8192
    assert deframer.frames == 0
    deframer.feed(bytes(0x10000))
    assert len(deframer._buffer) == 0
    assert deframer.feed(STREAM[0]) == [STREAM[0]]


# noise: 10,000 strings, and no exception but FrameError, no growth


def decode_all(data: bytes, layouts: list[DataLayout]) -> None:
    frame = read_frame(data)
    fragments = Fragments()
    for read in (read_command, read_header, read_config, fragments.add):
        try:
            seen = read(frame)
        except FrameError:
            continue
        if isinstance(seen, Config):
            write_config(seen)
            layout = DataLayout(seen)
            layout.read(
                Frame(
                    FrameType.DATA,
                    seen.idcode,
                    seen.stamp,
                    random.Random(1).randbytes(layout.frame_bytes - 16),
                )
            )
    frame.stamp.utc(1_000_000)
    for layout in layouts:
        try:
            layout.read(frame)
        except FrameError:
            continue


def noise(count: int, seed: int) -> list[bytes]:
    """Half random bytes, half valid frames with a few bytes changed and the CRC put right."""
    chance = random.Random(seed)
    sources = [*STREAM, *capture("vizimax_tcp"), write_command(Command(1, Stamp(0, 0), 1))]
    out = []
    for number in range(count):
        if number % 2:
            out.append(chance.randbytes(chance.randrange(80)))
            continue
        frame = bytearray(chance.choice(sources)[:-2])
        for _ in range(chance.randrange(1, 6)):
            frame[chance.randrange(1, len(frame))] = chance.choice([0, 1, 2, 0xFF, 0x7F, 0x80])
        if chance.random() < 0.2:
            del frame[chance.randrange(14, len(frame) + 1) :]
        frame[1] = frame[1] & 0x7F if frame[1] >> 4 & 7 < 6 else 0x31
        frame[0] = 0xAA
        frame[2:4] = struct.pack(">H", len(frame) + 2)
        out.append(bytes(frame) + struct.pack(">H", crc_ccitt(frame)))
    return out


def test_noise_raises_frame_errors_only_and_keeps_nothing() -> None:
    layouts = [layout_of(name) for name in ("sel_tcp", "ge_udp", "vizimax_tcp")]
    layouts.append(DataLayout(read_config(read_frame(CFG3_BY_HAND))))
    deframer = Deframer()
    decoded = refused = 0

    def run(strings: list[bytes]) -> None:
        nonlocal decoded, refused
        for data in strings:
            for found in [data, *deframer.feed(data)]:
                try:
                    decode_all(found, layouts)
                    decoded += 1
                except FrameError:
                    refused += 1
        deframer.reset()

    run(noise(1000, 1))  # caches fill
    tracemalloc.start()
    try:
        strings = noise(10_000, 2)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        run(strings)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 100_000
    assert decoded > 4000
    assert refused > 4000


@settings(max_examples=300)
@given(st.binary(max_size=300), st.integers(0, 5))
def test_any_payload_of_any_type(payload: bytes, kind: int) -> None:
    data = write_frame(Frame(FrameType(kind), 1, Stamp(1, 2, 3), payload))
    decode_all(data, [])


# another program judges what we write


PHASOR_LINE = re.compile(r'Phasor #[12]: "[VI]A *", *([\d.]+)[VA] ∠ *(-?[\d.]+)°')


def wireshark(frames: list[bytes], folder: Path) -> str:
    dump = "".join(
        f"{at:06x} {frame[at : at + 16].hex(' ')}\n" + ("\n" if at + 16 >= len(frame) else "")
        for frame in frames
        for at in range(0, len(frame), 16)
    )
    (folder / "frames.txt").write_text(dump)
    subprocess.run(
        ["text2pcap", "-q", "-u", "4713,4713", "frames.txt", "frames.pcap"],
        cwd=folder,
        check=True,
        capture_output=True,
        timeout=60,
    )
    return subprocess.run(
        ["tshark", "-r", "frames.pcap", "-O", "synphasor"],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout


@pytest.mark.skipif(
    shutil.which("tshark") is None or shutil.which("text2pcap") is None,
    reason="tshark is not installed",
)
@pytest.mark.parametrize("kind", [FrameType.CFG1, FrameType.CFG2, FrameType.CFG3])
def test_wireshark_reads_what_we_write(kind: FrameType, tmp_path: Path) -> None:
    stamp = Stamp(1_700_000_000, 500_000)
    offset = 0.5 if kind is FrameType.CFG3 else 0.0
    phasors = (PhasorChannel("VA", "V", 9.15527, offset), PhasorChannel("IA", "A", 0.04578))
    labels = DigitalWord(tuple(f"bit{place}" for place in range(16)), 1, 0xFFFF)
    stations = tuple(
        Station(
            name,
            idcode,
            Format(polar, False, False, False),
            phasors,
            (AnalogChannel("P", 2.0),),
            (labels,),
            60.0,
            3,
            Place() if kind is FrameType.CFG3 else None,
        )
        for name, idcode, polar in (("North", 7, True), ("South", 8, False))
    )
    config = Config(kind, 60, stamp, 1_000_000, stations, 25)
    pmu = PmuData(
        stat_of(0x2010),
        59.7,
        -0.25,
        (Phasor("VA", 134000.0, 10.0, "V"), Phasor("IA", 500.0, -120.0, "A")),
        (14.0,),
        (5,),
    )
    # Wireshark reads no data by CFG-1, so there CFG-2 says it again
    said = [config] if kind is not FrameType.CFG1 else [config, _as_cfg2(config)]
    data = DataLayout(config).write(Data(60, stamp, (pmu, pmu)))
    words = wireshark([*map(write_config, said), data], tmp_path)
    assert "Malformed" not in words
    assert "[incorrect" not in words
    assert words.count("Checksum Status: Good") == len(said) + 1
    assert f"Configuration Frame {kind.name[-1]}" in words
    assert "25 frame(s) per second" in words
    seen = [float(each) for pair in PHASOR_LINE.findall(words) for each in pair]
    assert seen == pytest.approx([134000, 10, 500, -120] * 2, rel=1e-3)
    assert words.count("actual frequency: 59.700Hz") == 2
    assert words.count("Rate of change of frequency: -0.250Hz/s") == 2
    assert words.count("Digital status word #1: 0x0005") == 2
    assert words.count("Synchronization lost") == 2
    if kind is FrameType.CFG3:
        assert words.count("Phasor angle offset: 0.5") == 2
        assert words.count('Analog value #1: "P", 14') == 2


def _as_cfg2(config: Config) -> Config:
    return Config(
        FrameType.CFG2,
        config.idcode,
        config.stamp,
        config.time_base,
        config.stations,
        config.data_rate,
    )
