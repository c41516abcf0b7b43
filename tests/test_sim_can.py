"""The simulated BMS on CAN: bytes typed from the documents, read by other people's clients."""

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import can
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sim_site import site, unit
from tests.virtual_time import VirtualClock, virtual
from vppd.core.settings import BmsSettings, UnitSettings
from vppd.sim.battery import Battery
from vppd.sim.can.lawicel import Adapter
from vppd.sim.can.view import BmsFaults, look
from vppd.sim.faults.registry import UnknownFaultError
from vppd.sim.plant import Plant
from vppd.sim.unit import SimUnit
from vppd.spine.clock import SystemClock

Interface = Literal["socketcan", "slcan", "udp_multicast", "virtual", "serial", "pcan", "kvaser"]
CHANNEL = "bus"
GROUP = "239.74.163.77"


def with_bms(
    name: str = "B1",
    *,
    dbc: str = "vpp-bms",
    interface: Interface = "virtual",
    channel: str | Path = CHANNEL,
    id_offset: int = 0,
    unit_id: int = 1,
) -> UnitSettings:
    bms = BmsSettings(dbc=dbc, interface=interface, channel=str(channel), id_offset=id_offset)
    made = unit(name, unit_id=unit_id, port=0, host="127.0.0.1")
    return UnitSettings(
        id=made.id,
        building=made.building,
        rated_power_kw=made.rated_power_kw,
        energy_kwh=made.energy_kwh,
        modules_parallel=made.modules_parallel,
        modbus=made.modbus,
        bms=bms,
    )


def known(subject: SimUnit) -> None:
    """3.72 V a cell, 25 C, SoC 50 %, 32.5 A into each module: positive on the wire."""
    battery = subject.battery
    battery._cell_offset_v = [0.0] * 16
    battery._sensor_offset_c = [0.0] * 8
    battery.temperature_c = 25.0
    battery.soc_pct = 50.0
    battery.surge_a = -32.5


VPP_BMS = {
    0x100: "0e88 0e88 0e88 0e88",
    0x101: "0e88 0e88 0e88 0e88",
    0x102: "0e88 0e88 0e88 0e88",
    0x103: "0e88 0e88 0e88 0e88",
    0x110: "00fa 00fa 00fa 00fa",
    0x111: "00fa 00fa 00fa 00fa",
    # 59.5 V, +32.5 A, 50 %, 100 A, 100 A
    0x120: "0253 0145 32 64 64",
    # 98 %, 120 cycles
    0x122: "62 0078",
    0x130: "00 00 00",
}
PYLONTECH = {
    # 67.2 V, 23 x 100 A, 23 x 100 A, 44.8 V
    0x351: "a002 d859 d859 c001",
    # 50 %, 98 %, 50.00 %
    0x355: "3200 6200 8813",
    # 59.52 V, 23 x 32.5 A = 747.5 A, 25.0 C
    0x356: "4017 331d fa00",
    0x359: "00 00 00 00 17 504e",
    0x35C: "c0 00",
    0x35E: "50594c4f4e202020",
}
GOLDEN = {"vpp-bms": VPP_BMS, "pylontech": PYLONTECH}


def golden(dbc: str) -> dict[int, bytes]:
    return {identifier: bytes.fromhex(text) for identifier, text in GOLDEN[dbc].items()}


class Bus:
    """A plant on virtual time and what goes out on its bus."""

    def __init__(self, plant: Plant) -> None:
        self.plant = plant
        self.frames: list[tuple[float, int, bool, bytes]] = []
        plant.can[CHANNEL].tap(self._take)

    def _take(self, identifier: int, extended: bool, data: bytes) -> None:
        self.frames.append((self.plant.clock.now_s(), identifier, extended, data))

    async def after(self, seconds: float = 1.05) -> dict[int, bytes]:
        """The last of each identifier in so long."""
        self.frames.clear()
        await asyncio.sleep(seconds)
        return {identifier: data for _, identifier, _, data in self.frames}


@asynccontextmanager
async def on_bus(*units: UnitSettings) -> AsyncIterator[Bus]:
    async with Plant(site(*(units or (with_bms(),))), VirtualClock(), seed=1) as plant:
        for each in plant.units.values():
            known(each)
        yield Bus(plant)


@pytest.mark.parametrize("dbc", ["vpp-bms", "pylontech"])
def test_golden_frames_of_a_known_battery(dbc: str) -> None:
    @virtual
    async def main() -> None:
        async with on_bus(with_bms(dbc=dbc)) as bus:
            assert await bus.after() == golden(dbc)
            assert not any(extended for _, _, extended, _ in bus.frames)

    main()


@virtual
async def test_frames_come_at_their_periods() -> None:
    async with on_bus() as bus:
        await bus.after(10.0)
        counts: dict[int, int] = {}
        for _, identifier, _, _ in bus.frames:
            counts[identifier] = counts.get(identifier, 0) + 1
        assert counts[0x120] == pytest.approx(100, abs=1)
        for identifier in (0x100, 0x101, 0x102, 0x103, 0x110, 0x111):
            assert counts[identifier] == pytest.approx(20, abs=1)
        assert counts[0x122] == pytest.approx(10, abs=1)
        assert counts[0x130] == pytest.approx(10, abs=1)


@virtual
async def test_limits_fall_and_bits_rise_with_the_battery() -> None:
    async with on_bus() as bus:
        battery = bus.plant.units["B1"].battery
        battery.surge_a = None
        battery.soc_pct = 100.0
        frames = await bus.after()
        assert list(frames[0x120][4:]) == [100, 0, 100]
        battery.soc_pct = 0.0
        frames = await bus.after()
        assert list(frames[0x120][4:]) == [0, 100, 0]
        battery.soc_pct, battery.temperature_c = 50.0, 0.0
        assert list((await bus.after())[0x120][4:]) == [50, 0, 100]
        battery.ambient_c = battery.temperature_c = 50.0
        frames = await bus.after()
        assert list(frames[0x120][4:]) == [50, 50, 50]
        assert frames[0x130] == bytes([0, 0b1000, 0])
        battery.ambient_c = battery.temperature_c = 61.0
        assert (await bus.after())[0x130] == bytes([0b1000, 0b1000, 0])
        battery.ambient_c = battery.temperature_c = 25.0
        battery.cell_drift_v[4] = -0.06
        assert (await bus.after())[0x130] == bytes([0, 0, 1])
        battery.cell_drift_v[4] = -0.12
        assert (await bus.after())[0x130] == bytes([0, 0b10000, 1])
        battery.cell_drift_v[4] = 0.0
        battery.forced_pack_v = 16 * 4.26
        assert (await bus.after())[0x130] == bytes([1, 1, 0])
        battery.forced_pack_v = 16 * 2.69
        assert (await bus.after())[0x130] == bytes([2, 2, 0])
        battery.forced_pack_v, battery.surge_a = None, 160.0
        frames = await bus.after()
        assert frames[0x130] == bytes([4, 4, 0])
        assert frames[0x120][2:4] == (-1600 & 0xFFFF).to_bytes(2, "big")
        battery.surge_a = 301.0
        assert (await bus.after())[0x130][0] == 0b10100


@virtual
async def test_pylontech_says_faults_in_its_own_bits() -> None:
    async with on_bus(with_bms(dbc="pylontech")) as bus:
        battery = bus.plant.units["B1"].battery
        battery.surge_a, battery.forced_pack_v = None, 16 * 4.26
        frames = await bus.after()
        assert frames[0x359] == bytes.fromhex("02 00 02 00 17 50 4e")
        assert frames[0x35C] == bytes([0, 0])
        battery.forced_pack_v, battery.surge_a = None, 160.0  # discharging
        assert (await bus.after())[0x359][:4] == bytes.fromhex("80 00 80 00")
        battery.surge_a = -160.0
        assert (await bus.after())[0x359][:4] == bytes.fromhex("00 01 00 01")
        battery.surge_a = None
        battery.ambient_c = battery.temperature_c = -12.0
        frames = await bus.after()
        assert frames[0x359][:4] == bytes.fromhex("10 00 10 00")
        assert frames[0x356][4:] == (-120 & 0xFFFF).to_bytes(2, "little")


soc_or_so = st.floats(-1.0, 101.0)


@given(soc_or_so, st.floats(-30.0, 80.0))
def test_limits_stay_inside_and_close_at_the_ends(soc_pct: float, temperature_c: float) -> None:
    battery = Battery(100.0, 250.0, 23, soc_pct=soc_pct, ambient_c=temperature_c)
    view = look(battery, BmsFaults())
    assert 0.0 <= view.charge_max_a <= 100.0
    assert 0.0 <= view.discharge_max_a <= 100.0
    assert 0.0 <= view.soc_pct <= 100.0
    coldest_c, hottest_c = min(view.sensors_c), max(view.sensors_c)
    if soc_pct >= 100.0 or coldest_c <= 0.0 or hottest_c >= 55.0:
        assert view.charge_max_a == 0.0
        assert not view.may_charge
    if soc_pct <= 0.0 or coldest_c <= -10.0 or hottest_c >= 55.0:
        assert view.discharge_max_a == 0.0
        assert not view.may_discharge
    if 5.0 < soc_pct < 95.0 and coldest_c > 5.0 and hottest_c < 45.0:
        assert view.charge_max_a == view.discharge_max_a == 100.0


# several, and what is refused


@virtual
async def test_several_share_a_bus_by_offset() -> None:
    units = with_bms(), with_bms("B2", id_offset=0x200, unit_id=2)
    async with on_bus(*units) as bus:
        bus.plant.units["B2"].battery.soc_pct = 70.0
        frames = await bus.after()
        assert frames[0x120][4] == 50
        assert frames[0x320][4] == 70
        assert len(frames) == 2 * len(VPP_BMS)
        bus.plant.can[CHANNEL].hear(0x505, False, b"")
        assert bus.plant.state("B2")["bms"]["keep_alives"] == 1
        assert bus.plant.state("B1")["bms"]["keep_alives"] == 0


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (with_bms("B2", unit_id=2), "B1 has its CAN ids; set id_offset"),
        (with_bms("B2", unit_id=2, id_offset=0x700), "beyond the 11-bit"),
        (with_bms("B2", unit_id=2, dbc="byd"), "knows the BMSs vpp-bms, pylontech, not byd"),
        (
            with_bms("B2", unit_id=2, interface="socketcan", channel="can0"),
            "plays CAN on slcan, udp_multicast, virtual, not on socketcan",
        ),
        (
            with_bms("B2", unit_id=2, interface="slcan", id_offset=0x200),
            "bus is already virtual",
        ),
    ],
)
@virtual
async def test_what_the_plant_cannot_be_is_said(second: UnitSettings, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Plant(site(with_bms(), second), VirtualClock())


@virtual
async def test_hil_plays_only_what_is_marked() -> None:
    async with Plant(site(with_bms(), mode="hil"), VirtualClock()) as plant:
        assert not plant.can
        assert not plant.bmss
        with pytest.raises(UnknownFaultError, match="there are: none"):
            plant.inject("bms_silence", "B1")


# faults


@virtual
async def test_silence_and_freezing() -> None:
    async with on_bus() as bus:
        bus.plant.inject("bms_silence", for_s=2.0)
        assert await bus.after() == {}
        await asyncio.sleep(1.0)
        assert set(await bus.after()) == set(VPP_BMS)
        bus.plant.inject("bms_frozen")
        bus.plant.units["B1"].battery.soc_pct = 20.0
        assert await bus.after() == golden("vpp-bms")
        bus.plant.clear()
        assert (await bus.after())[0x120][4] == 20


@virtual
async def test_one_cell_and_one_sensor() -> None:
    async with on_bus() as bus:
        bus.plant.inject("bms_cell", cell=6, cell_v=4.185)
        frames = await bus.after()
        assert frames[0x101] == bytes.fromhex("0e88 1059 0e88 0e88")  # 4185 mV
        assert frames[0x120][5] in {49, 50}  # half way from 4.17 to 4.20 V
        bus.plant.inject("bms_temperature", sensor=8, temperature_c=-3.5)
        frames = await bus.after()
        assert frames[0x111] == bytes.fromhex("00fa 00fa 00fa ffdd")  # -35
        assert frames[0x120][5] == 0
        with pytest.raises(ValueError, match="1 to 16"):
            bus.plant.inject("bms_cell", cell=17)
        with pytest.raises(ValueError, match="1 to 8"):
            bus.plant.inject("bms_temperature", sensor=0)
        bus.plant.clear()
        assert await bus.after() == golden("vpp-bms")


@virtual
async def test_bits_limits_and_soc_are_forced() -> None:
    async with on_bus() as bus:
        bus.plant.inject("bms_fault_bits", bits=0b10001)
        bus.plant.inject("bms_warning_bits", bits=0b100)
        frames = await bus.after()
        assert frames[0x130] == bytes([0b10001, 0b100, 0])
        assert list(frames[0x120][5:]) == [0, 0]  # its contactors are open
        bus.plant.clear()
        bus.plant.inject("bms_limits", charge_max_a=12, discharge_max_a=34.9)
        bus.plant.inject("bms_soc", soc_pct=81.0)
        assert list((await bus.after())[0x120][4:]) == [81, 12, 34]
        bus.plant.clear()
        assert await bus.after() == golden("vpp-bms")


@virtual
async def test_short_frames() -> None:
    async with on_bus() as bus:
        bus.plant.inject("bms_short_frame", missing_bytes=3)
        frames = await bus.after()
        assert frames[0x120] == bytes.fromhex("0253 0145")
        assert frames[0x122] == b""
        bus.plant.clear()
        assert await bus.after() == golden("vpp-bms")


@virtual
async def test_garbage_comes_at_its_rate_and_is_never_a_wrong_value() -> None:
    async with on_bus() as bus:
        await bus.after()
        bus.plant.inject("bms_garbage", frames_per_s=200.0)
        await bus.after(10.0)
        own = golden("vpp-bms")
        unknown = [each for each in bus.frames if each[1] not in own]
        odd = [each for each in bus.frames if each[1] in own and each[3] != own[each[1]]]
        assert len(unknown) + len(odd) == pytest.approx(2000, rel=0.2)
        assert all(extended for _, _, extended, _ in unknown)
        short = [each for each in odd if len(each[3]) < len(own[each[1]])]
        long = [each for each in odd if len(each[3]) > len(own[each[1]])]
        assert len(short) > 400
        assert len(long) > 400
        assert len(short) + len(long) == len(odd)
        assert all(own[each[1]].startswith(each[3]) for each in short)
        assert all(each[3].startswith(own[each[1]]) for each in long)
        bus.plant.clear()
        await bus.after()
        assert len(bus.frames) < 40


@virtual
async def test_pylontech_forbids_and_asks() -> None:
    async with on_bus(with_bms(dbc="pylontech")) as bus:
        bus.plant.inject("bms_forbid", charge=True, discharge=False)
        assert (await bus.after())[0x35C] == bytes([0x40, 0])
        bus.plant.inject("bms_forbid", charge=False, discharge=True, force_charge=True)
        assert (await bus.after())[0x35C] == bytes([0xA0, 0])
        bus.plant.clear()
        assert (await bus.after())[0x35C] == bytes([0xC0, 0])
    async with on_bus() as bus:
        with pytest.raises(ValueError, match="vpp-bms has no request"):
            bus.plant.inject("bms_forbid")


@virtual
async def test_a_shared_bus_is_down_until_nobody_holds_it_down() -> None:
    async with on_bus(with_bms(), with_bms("B2", id_offset=0x200, unit_id=2)) as bus:
        bus.plant.inject("can_down", "B1")
        bus.plant.inject("can_down", "B2", for_s=3.0)
        assert await bus.after() == {}
        bus.plant.clear("can_down", "B1")
        assert await bus.after() == {}
        await asyncio.sleep(1.5)
        assert len(await bus.after()) == 2 * len(VPP_BMS)


@virtual
async def test_the_state_shows_what_went_out() -> None:
    async with on_bus() as bus:
        await bus.after()
        state = bus.plant.state("B1")["bms"]
        assert state["frames"]["0x120"] == "02 53 01 45 32 64 64"
        assert state["model"] == "vpp-bms"
        assert state["channel"] == CHANNEL
        assert not state["down"]


# over real interfaces


async def until(what: Callable[[], Any], within_s: float = 5.0) -> None:
    async with asyncio.timeout(within_s):
        while not what():
            await asyncio.sleep(0.01)


async def heard(bus: can.BusABC, wanted: dict[int, bytes]) -> dict[int, bytes]:
    """What another client reads, until each identifier has said what is wanted of it."""

    def read() -> dict[int, bytes]:
        seen: dict[int, bytes] = {}
        for _ in range(500):
            message = bus.recv(2.0)
            assert message is not None, f"nothing more comes; so far {seen}"
            assert not message.is_extended_id
            seen[message.arbitration_id] = bytes(message.data)
            if all(seen.get(identifier) == data for identifier, data in wanted.items()):
                break
        return seen

    return await asyncio.to_thread(read)


@asynccontextmanager
async def on_pty(tmp_path: Path, dbc: str = "vpp-bms") -> AsyncIterator[tuple[Plant, Path]]:
    path = tmp_path / "ttyCAN0"
    settings = site(with_bms(dbc=dbc, interface="slcan", channel=path))
    async with Plant(settings, SystemClock(), seed=1) as plant:
        known(plant.units["B1"])
        yield plant, path


def slcan(path: Path) -> can.BusABC:
    return can.Bus(interface="slcan", channel=str(path), bitrate=500_000, sleep_after_open=0)


@pytest.mark.parametrize("dbc", ["vpp-bms", "pylontech"])
async def test_python_can_reads_the_bms_over_slcan(tmp_path: Path, dbc: str) -> None:
    async with on_pty(tmp_path, dbc) as (_, path):
        with await asyncio.to_thread(slcan, path) as bus:
            assert await heard(bus, golden(dbc)) == golden(dbc)


async def test_the_keep_alive_arrives_over_slcan(tmp_path: Path) -> None:
    async with on_pty(tmp_path, "pylontech") as (plant, path):
        with await asyncio.to_thread(slcan, path) as bus:
            for identifier in (0x305, 0x304, 0x305):
                message = can.Message(
                    arbitration_id=identifier, data=bytes(8), is_extended_id=False
                )
                await asyncio.to_thread(bus.send, message)
            await until(lambda: plant.bms("B1").keep_alives == 2)
            assert plant.bms("B1").heard_s <= plant.clock.now_s()


async def test_a_bus_that_vanishes_comes_back(tmp_path: Path) -> None:
    async with on_pty(tmp_path) as (plant, path):
        bus = await asyncio.to_thread(slcan, path)
        await heard(bus, golden("vpp-bms"))
        plant.inject("can_down", "B1")
        assert not path.is_symlink()
        assert plant.state("B1")["bms"]["down"]

        def read_on() -> None:
            for _ in range(50):
                bus.recv(0.1)

        with pytest.raises(can.CanError):
            await asyncio.to_thread(read_on)
        with pytest.raises(can.CanError):
            bus.shutdown()
        plant.clear("can_down")
        assert path.is_symlink()
        with await asyncio.to_thread(slcan, path) as again:
            await heard(again, golden("vpp-bms"))


async def test_the_link_is_private_replaces_a_stale_one_and_goes(tmp_path: Path) -> None:
    path = tmp_path / "ttyCAN0"
    path.symlink_to("/dev/pts/99999")
    async with on_pty(tmp_path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert str(path.readlink()) != "/dev/pts/99999"
    assert not path.is_symlink()
    path.symlink_to("/dev/null")  # as a udev rule names a real device
    with pytest.raises(FileExistsError):
        async with on_pty(tmp_path):
            pass
    path.unlink()
    path.touch()
    with pytest.raises(FileExistsError):
        async with on_pty(tmp_path):
            pass


async def test_a_reader_gets_no_old_frames_and_a_missing_one_stops_nothing(tmp_path: Path) -> None:
    async with on_pty(tmp_path) as (plant, path):
        bus = plant.can[str(path)]
        killed = os.open(path, os.O_RDWR | os.O_NOCTTY)
        os.write(killed, b"O\r")
        # the adapter stays open, what it sends fills the line, then is lost
        plant.inject("bms_garbage", frames_per_s=5000.0)
        await until(lambda: bus.lost > 100 and bus.sent > 100)
        plant.clear("bms_garbage")
        plant.units["B1"].battery.soc_pct = 33.0
        os.write(killed, b"O\r")
        os.close(killed)
        sent = bus.sent
        await until(lambda: bus.sent > sent + 20)
        end = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        lines = os.read(end, 4096).split(b"\r")
        os.close(end)
        packs = [line for line in lines if line.startswith(b"t1207")]
        assert packs
        assert all(line.endswith(b"21" + b"6464") for line in packs), packs  # 33 %


async def test_the_adapter_answers_by_its_manual(tmp_path: Path) -> None:
    async with on_pty(tmp_path) as (plant, path):
        plant.inject("bms_silence")
        end = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)

        async def ask(command: bytes) -> bytes:
            os.write(end, command)
            answer = b""
            async with asyncio.timeout(5.0):
                while not answer.endswith((b"\r", b"\a")):
                    try:
                        answer += os.read(end, 256)
                    except BlockingIOError:
                        await asyncio.sleep(0.005)
            return answer

        assert await ask(b"C\r") == b"\a"
        assert await ask(b"V\r") == b"V1013\r"
        assert await ask(b"N\r") == b"NVPPD\r"
        assert await ask(b"F\r") == b"\a"
        assert await ask(b"t3050\r") == b"\a"
        assert await ask(b"S6\r") == b"\r"
        assert await ask(b"S9\r") == b"\a"
        assert await ask(b"O\r") == b"\r"
        assert await ask(b"S6\r") == b"\a"
        assert await ask(b"O\r") == b"\a"
        assert await ask(b"F\r") == b"F00\r"
        assert await ask(b"t30521122\r") == b"z\r"
        assert await ask(b"T0000030521122\r") == b"Z\r"
        assert await ask(b"t305211\r") == b"\a"
        assert await ask(b"r1238\r") == b"z\r"
        assert await ask(b"what?\r") == b"\a"
        assert plant.bms("B1").keep_alives == 2
        assert await ask(b"C\r") == b"\r"
        assert await ask(b"L\r") == b"\r"
        assert await ask(b"t3050\r") == b"\a"
        os.close(end)


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_the_adapter_survives_any_bytes(pieces: list[bytes]) -> None:
    adapter = Adapter(lambda *_: None)
    answers = b"".join(adapter.obey(piece) for piece in pieces)
    commands = b"".join(pieces).count(b"\r")
    assert answers.count(b"\r") + answers.count(b"\a") == commands


async def test_udp_multicast_reaches_another_client() -> None:
    try:
        bus = can.Bus(interface="udp_multicast", channel=GROUP, hop_limit=0, fd=False)
        probe = can.Bus(interface="udp_multicast", channel=GROUP, hop_limit=0, fd=False)
        probe.send(can.Message(arbitration_id=1, is_extended_id=False))
        echo = bus.recv(1.0)
        probe.shutdown()
    except can.CanError as error:
        pytest.skip(f"no multicast on this machine: {error}")
    if echo is None:
        bus.shutdown()
        pytest.skip("multicast does not arrive on this machine")
    settings = site(with_bms(interface="udp_multicast", channel=GROUP))
    async with Plant(settings, SystemClock(), seed=1) as plant:
        known(plant.units["B1"])
        assert await heard(bus, golden("vpp-bms")) == golden("vpp-bms")
        keep_alive = can.Message(arbitration_id=0x305, data=bytes(8), is_extended_id=False)
        await asyncio.to_thread(bus.send, keep_alive)
        await until(lambda: plant.bms("B1").keep_alives == 1)
        with can.Bus(interface="udp_multicast", channel=GROUP, hop_limit=0, fd=False) as rude:
            getattr(rude, "_multicast").send(b"not msgpack at all")  # noqa: B009
            rude.send(keep_alive)
        await until(lambda: plant.bms("B1").keep_alives == 2)
        plant.inject("can_down")

        def waiting() -> int:
            count = 0
            with suppress(can.CanError):
                while bus.recv(0.3) is not None:
                    count += 1
            return count

        await asyncio.to_thread(waiting)  # up to the noise
        await asyncio.to_thread(waiting)  # and behind it
        assert await asyncio.to_thread(waiting) == 0
        plant.clear()
        await heard(bus, golden("vpp-bms"))
        assert plant.can[GROUP].lost == 0
    bus.shutdown()


async def test_virtual_reaches_this_process() -> None:
    settings = site(with_bms(interface="virtual", channel="here"))
    with can.Bus(interface="virtual", channel="here") as bus:
        async with Plant(settings, SystemClock(), seed=1) as plant:
            known(plant.units["B1"])
            await heard(bus, golden("vpp-bms"))
            bus.send(can.Message(arbitration_id=0x305, is_extended_id=False))
            await until(lambda: plant.bms("B1").keep_alives == 1)
