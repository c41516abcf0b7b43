"""`vppd discover`: what answers is recognised, the draft loads, and nothing is ever written."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.config_site import loaded
from tests.modbus_device import FakeDevice
from tests.survey_site import READS, Pty, Threaded, Wire, battery, stopping, sunspec_inverter
from tests.test_survey import listener, traffic_of
from vppd import config
from vppd.cli.vppd import main
from vppd.core.model import Point
from vppd.field.bms import frames_of
from vppd.field.drivers.modbus import Endpoint
from vppd.field.hear import read_dbc
from vppd.field.survey.draft import BusSeen, draft
from vppd.field.survey.match import SURE, Match, bms_matches, profile_match
from vppd.field.survey.scan import BmsSeen, Device, merged, scan_hosts, scan_line
from vppd.field.survey.targets import ALL_IDS, USUAL_IDS, can_of, hosts_of, spread
from vppd.field.survey.values import Expected
from vppd.field.survey.wire import Shown
from vppd.spine.clock import SystemClock

PROFILES = config.shipped_profiles()
BATTERIES = {name: PROFILES[name] for name in ("vpp-bess", "vpp-bess-v2")}


@pytest.fixture
def plant() -> Iterator[Threaded]:
    with Threaded() as threaded:
        yield threaded


def discover(*words: str) -> Result:
    return CliRunner().invoke(main, ("discover", *words), catch_exceptions=False)


def checked(directory: Path, field: str) -> config.Loaded:
    """The draft in a configuration of its own."""
    (directory / "vppd.yaml").write_text("site: {id: here}\nmode: hardware\n", encoding="utf-8")
    (directory / "field.yaml").write_text(field, encoding="utf-8")
    return config.load(directory)


# ---- where to look -------------------------------------------------------------------------------


def test_targets() -> None:
    assert hosts_of("plc.local", 502) == [("plc.local", 502)]
    assert hosts_of("bess-12", 502) == [("bess-12", 502)]
    assert hosts_of("10.0.0.1:1502", 502) == [("10.0.0.1", 1502)]
    assert hosts_of("10.0.0.8-10", 502) == [(f"10.0.0.{n}", 502) for n in (8, 9, 10)]
    assert hosts_of("10.0.0.255-10.0.1.0", 502) == [("10.0.0.255", 502), ("10.0.1.0", 502)]
    assert [host for host, _ in hosts_of("192.168.1.0/30", 502)] == ["192.168.1.1", "192.168.1.2"]
    assert len(hosts_of("192.168.1.0/28", 502)) == 14


@pytest.mark.parametrize(
    "target",
    ["", "10.0.0.0/8", "10.0.0.9-8", "10.0.0.1-300", "10.0.0.1:0", "10.0.0.1:x", "1.2.3/4/5"],
)
def test_targets_that_make_no_sense(target: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        hosts_of(target, 502)


def test_ids_and_buses() -> None:
    assert USUAL_IDS == (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 126, 247, 255)
    assert spread(USUAL_IDS) == "1-10, 126, 247, 255"
    assert spread(ALL_IDS) == "1-247, 255"
    assert can_of("socketcan:can0") == ("socketcan", "can0")
    assert can_of("slcan:/dev/ttyACM0") == ("slcan", "/dev/ttyACM0")
    with pytest.raises(ValueError, match="INTERFACE:CHANNEL"):
        can_of("can0")


# ---- what it may be ------------------------------------------------------------------------------


async def found(wire: Wire, ids: tuple[int, ...] = (1, 2, 3)) -> list[Device]:
    await wire.start()
    with stopping(wire):
        devices = await scan_hosts(
            [("127.0.0.1", wire.port)], ids, PROFILES, 0.2, SystemClock(), lambda _: None
        )
    assert set(wire.functions) <= READS
    return devices


async def test_a_battery_is_recognised_among_all_profiles() -> None:
    (device,) = await found(Wire({2: battery()}))
    assert device.unit_id == 2
    assert device.matches[0].name == "vpp-bess-v2"
    assert device.matches[0].share >= SURE
    assert device.values == {Point.RATED_POWER_KW: 100.0, Point.ENERGY_CAPACITY_KWH: 250.0}


async def test_the_first_version_is_not_taken_for_the_second() -> None:
    device = battery()
    del device.holding[0x2005], device.holding[0x2006]
    (seen,) = await found(Wire({1: device}))
    assert seen.matches[0].name == "vpp-bess"


async def test_a_sunspec_inverter_is_read_out() -> None:
    (device,) = await found(Wire({1: sunspec_inverter()}))
    assert device.sunspec is not None
    assert device.sunspec.base == 40000
    assert device.values[Point.RATED_POWER_KW] == 100.0
    assert device.values[Point.ENERGY_CAPACITY_KWH] == 250.0


async def test_a_device_that_looks_at_no_unit_id_counts_once() -> None:
    wire = Wire({1: battery()})
    wire.deaf_to_ids = True
    (device,) = await found(wire, (1, 2, 3, 126))
    assert device.also == (2, 3, 126)


async def test_an_empty_device_fits_nothing() -> None:
    zeros = FakeDevice(inputs={}, holding={}, zeros=True)
    (device,) = await found(Wire({1: zeros}), (1,))
    assert device.matches == ()


@given(st.binary(max_size=60))
@settings(max_examples=15, deadline=None)
async def test_garbage_is_nothing_and_ends(junk: bytes) -> None:
    wire = await Wire({}).start()
    wire.garbage = lambda request: request[:4] + junk
    with stopping(wire):
        devices = await scan_hosts(
            [("127.0.0.1", wire.port)], (1, 2), BATTERIES, 0.02, SystemClock(), lambda _: None
        )
    assert not any(device.matches or device.sunspec for device in devices)


@given(st.lists(st.integers(0, 0xFFFF), min_size=40, max_size=40))
def test_random_registers_are_no_battery(words: list[int]) -> None:
    profile = PROFILES["vpp-bess-v2"]
    registers: dict[Point, tuple[int, ...]] = {
        point: (words[n],) for n, point in enumerate(profile.points)
    }
    match = profile_match(profile, Shown(registers=registers), Expected())
    everywhere = all(0 < word <= 1000 for word in words)
    assert match.share < SURE or everywhere or max(words) < 10_000


async def test_a_serial_line_is_scanned() -> None:
    line = await Pty({3: battery()}).start()
    endpoint = Endpoint(None, 0, line.path, 115_200, "N", 1)
    with stopping(line):
        devices = await scan_line(endpoint, (3,), BATTERIES, 1.0, SystemClock(), lambda _: None)
    assert [device.matches[0].name for device in devices] == ["vpp-bess-v2"]
    assert set(line.functions) <= READS


def test_two_of_a_kind_stay_two() -> None:
    pair = [Device(Endpoint("h"), n, mark=("same",)) for n in (1, 2)]
    assert merged(pair) == pair


def test_a_bms_is_recognised_shifted_and_not_confused() -> None:
    of = listener()
    moved = {(number + 0x40, ext): heard for (number, ext), heard in traffic_of(of).items()}
    ((match, offset),) = bms_matches(of.profile, of.frames, moved)
    assert (offset, match.fitting) == (0x40, len(of.frames))
    assert match.share == pytest.approx(1.0)
    other = config.shipped_bms()["pylontech"]
    ((match, _),) = bms_matches(other, frames_of(other, read_dbc(other)), traffic_of(of))
    assert match.share < 0.3
    two = bms_matches(of.profile, of.frames, traffic_of(of) | moved)
    assert [(each.fitting, shift) for each, shift in two] == [(9, 0), (9, 0x40)]


# ---- the draft -----------------------------------------------------------------------------------


def test_the_draft_of_a_battery_and_an_inverter_loads(tmp_path: Path, plant: Threaded) -> None:
    wire: Wire = plant.add(Wire({1: battery(), 2: sunspec_inverter()}))
    output = tmp_path / "draft.yaml"
    result = discover(
        f"127.0.0.1:{wire.port}", "--timeout", "0.1", "--output", str(output),
        "--config", str(tmp_path),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "vpp-bess-v2: sure" in result.stderr
    assert "Acme, Store 100, version 1.7, serial S123" in result.stderr
    site = checked(tmp_path, output.read_text(encoding="utf-8"))
    assert site.settings is not None, "\n".join(map(str, site.findings))
    first, second = site.settings.units
    assert (first.rated_power_kw, first.energy_kwh) == (100.0, 250.0)
    assert first.modbus is not None
    assert (first.modbus.profile, first.modbus.unit_id) == ("vpp-bess-v2", 1)
    assert second.inverter is not None
    assert (second.inverter.port, second.inverter.unit_id) == (wire.port, 2)
    assert set(wire.functions) <= READS
    notes = [line.index("#") for line in output.read_text().splitlines() if "as the device" in line]
    assert set(notes) == {31}


def test_what_is_not_known_is_marked_and_told(tmp_path: Path, plant: Threaded) -> None:
    device = battery(rated=0)
    del device.holding[0x2005], device.holding[0x2006]
    wire = plant.add(Wire({1: device}))
    result = discover(f"127.0.0.1:{wire.port}", "--timeout", "0.1", "--config", str(tmp_path))
    assert "to be filled in: UNIT_01: rated_power_kw" in result.stderr
    assert "to be filled in: UNIT_01: accept_no_revert" in result.stderr
    site = checked(tmp_path, result.stdout)
    assert {error.key.rpartition(".")[2] for error in site.errors} == {"rated_power_kw", "profile"}
    decided = result.stdout.replace("#FILL IN rated_power_kw:", "rated_power_kw: 100")
    decided = decided.replace("#FILL IN accept_no_revert", "accept_no_revert")
    assert checked(tmp_path, decided).settings is not None


def test_own_profiles_are_tried_too(tmp_path: Path, plant: Threaded) -> None:
    text = (Path(config.__file__).parents[1] / "field/profiles/vpp-bess-v2.yaml").read_text()
    (tmp_path / "devices").mkdir()
    own = text.replace("name: vpp-bess-v2", "name: own").replace("0x1000", "0x1100")
    (tmp_path / "devices" / "own.yaml").write_text(own, encoding="utf-8")
    (tmp_path / "devices" / "bad.yaml").write_text("name: 1\n", encoding="utf-8")
    device = battery()
    device.inputs[0x1100] = device.inputs.pop(0x1000)
    wire = plant.add(Wire({1: device}))
    result = discover(f"127.0.0.1:{wire.port}", "--timeout", "0.1", "--config", str(tmp_path))
    assert "profile: own" in result.stdout
    assert "bad.yaml: not used" in result.stderr


def test_a_file_is_never_overwritten(tmp_path: Path) -> None:
    output = tmp_path / "field.yaml"
    output.write_text("mine", encoding="utf-8")
    result = discover("127.0.0.1:1", "--output", str(output), "--config", str(tmp_path))
    assert result.exit_code == 1
    assert "never overwrites" in result.stderr
    assert output.read_text(encoding="utf-8") == "mine"


def test_nobody_there_and_words_without_sense(tmp_path: Path) -> None:
    assert discover("--config", str(tmp_path)).exit_code == 2
    assert discover("10.0.0.0/8", "--config", str(tmp_path)).exit_code == 2
    assert discover("--can", "slcan:/nonexistent", "--config", str(tmp_path)).exit_code == 1
    result = discover("127.0.0.1:1", "--timeout", "0.1", "--config", str(tmp_path))
    assert result.exit_code == 1
    assert "nothing answered" in result.stderr
    assert "127.0.0.1:1: Connection refused" in result.stderr, "why, of a place asked for by name"
    assert result.stderr.count("127.0.0.1:1") == 1
    many = discover("127.0.0.1-2", "--port", "1", "--timeout", "0.1", "--config", str(tmp_path))
    assert "refused" not in many.stderr, "of many places most are empty"


def test_one_bms_goes_to_the_one_unit_and_else_a_person_decides(tmp_path: Path) -> None:
    match = Match("vpp-bess-v2", 1.0, 20, 20)
    values = {Point.RATED_POWER_KW: 100.0, Point.ENERGY_CAPACITY_KWH: 250.0}
    device = Device(Endpoint("127.0.0.1", 502), 1, matches=(match,), values=values)
    bus = BusSeen("socketcan", "can0", [BmsSeen(Match("vpp-bms", 1.0, 9, 9), 0)])
    site = checked(tmp_path, draft([device], [bus], PROFILES).text)
    assert site.settings is not None, "\n".join(map(str, site.findings))
    assert site.settings.units[0].bms is not None
    site = checked(tmp_path, draft([device, device], [bus], PROFILES).text)
    assert site.settings is None or site.settings.units[0].bms is None
    assert "which unit's BMS" in draft([device, device], [bus], PROFILES).text


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=12))
@settings(max_examples=30, deadline=None)
def test_a_place_of_any_letters_is_read_back_as_it_was(name: str) -> None:
    known = {Point.RATED_POWER_KW: 100.0, Point.ENERGY_CAPACITY_KWH: 250.0}
    match = Match("vpp-bess-v2", 1.0, 20, 20)
    devices = [
        Device(Endpoint(None, 0, name, 9600, "N", 1), 1, matches=(match,), values=known),
        Device(Endpoint(name, 502), 2, matches=(match,), values=known),
    ]
    files = {"vppd.yaml": "site: {id: here}\nmode: hardware\n"}
    result = loaded(files | {"field.yaml": draft(devices, [], PROFILES).text})
    assert result.settings is not None, "\n".join(map(str, result.findings))
    first, second = (unit.modbus for unit in result.settings.units)
    assert first is not None
    assert second is not None
    assert (first.serial, second.host) == (name, name)
