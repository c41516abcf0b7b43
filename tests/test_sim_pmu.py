"""The simulated PMU: bytes typed from the wire facts, other people's dissector, and its faults."""

import asyncio
import itertools
import math
import shutil
import struct
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.sim_site import pmu, site, unit
from tests.virtual_time import VirtualClock, virtual
from vppd.sim import c37118_frames as wire
from vppd.sim.plant import Plant
from vppd.spine.clock import SystemClock

AT_US = 1_767_225_600_100_000  # 2026-01-01T00:00:00.1Z
FLAT = [(100.0, 0.0)] * 3 + [(10.0, 0.5)] * 3


def crc(data: bytes) -> int:
    """CRC-CCITT bit by bit, apart from the table of the code under test."""
    value = 0xFFFF
    for byte in data:
        for bit in range(7, -1, -1):
            top = value >> 15 ^ byte >> bit & 1
            value = value << 1 & 0xFFFF ^ (0x1021 if top else 0)
    return value


def command(word: int, idcode: int = 241) -> bytes:
    body = struct.pack(">HHHLLH", 0xAA42, 18, idcode, 0, 0, word)
    return body + struct.pack(">H", crc(body))


def test_the_crc_has_its_check_value() -> None:
    assert wire.crc_ccitt(b"123456789") == crc(b"123456789") == 0x29B1


def test_a_golden_float_data_frame() -> None:
    layout = wire.Layout(stream_id=241, pmu_id=241)
    made = wire.data_frame(layout, AT_US, wire.Measurement(49.75, -0.5, FLAT))
    typed = bytes.fromhex(
        "aa02 004a 00f1 6955b900 000186a0"  # DATA 2011, 74 bytes, id 241, SOC, 100000/1000000
        "0040"  # STAT: good, error below 100 ns
        "42c80000 00000000 42c80000 00000000 42c80000 00000000"  # 100 V at 0 rad
        "41200000 3f000000 41200000 3f000000 41200000 3f000000"  # 10 A at 0.5 rad
        "42470000 bf000000"  # 49.75 Hz, -0.5 Hz/s
    )
    assert made[:-2] == typed
    assert made[-2:] == struct.pack(">H", crc(typed))


def test_a_golden_integer_data_frame() -> None:
    layout = wire.Layout(stream_id=60, pmu_id=61, floats=False)
    made = wire.data_frame(layout, AT_US, wire.Measurement(49.75, -0.5, FLAT), 0xF)
    typed = bytes.fromhex(
        "aa02 002e 003c 6955b900 0f0186a0"  # 46 bytes, id 60, clock failure
        "0040"
        "00c80000 00c80000 00c80000"  # 200 x 0.5 V
        "00641388 00641388 00641388"  # 100 x 0.1 A at 5000e-4 rad
        "ff06 ffce"  # -250 mHz, -50 x 0.01 Hz/s
    )
    assert made[:-2] == typed


def test_a_golden_configuration_2() -> None:
    made = wire.cfg2_frame(wire.Layout(stream_id=60, pmu_id=61, fps=25, polar=False), AT_US)
    typed = bytes.fromhex("aa32 00ae 003c 6955b900 000186a0 000f4240 0001")
    typed += b"VPPD SIM        " + bytes.fromhex("003d 000e 0006 0000 0000")
    typed += b"".join(name.ljust(16) for name in (b"VA", b"VB", b"VC", b"IA", b"IB", b"IC"))
    typed += bytes.fromhex("0000c350" * 3 + "01002710" * 3 + "0001 0001 0019")
    assert made[:-2] == typed
    assert len(made) == 0xAE


def test_a_golden_configuration_3() -> None:
    layout = wire.Layout(stream_id=60, pmu_id=61)
    made = wire.cfg3_frame(layout, AT_US, 19.0, 72.5)
    typed = bytes.fromhex("aa52 00b6 003c 6955b900 000186a0 0000 000f4240 0001")
    typed += b"\x08VPPD SIM" + bytes.fromhex("003d" + "00" * 15 + "3d" + "000f 0006 0000 0000")
    typed += b"".join(b"\x02" + name for name in (b"VA", b"VB", b"VC", b"IA", b"IB", b"IC"))
    for kind in ("04", "05", "06"):
        typed += bytes.fromhex(f"0000 {kind} 00 3f000000 00000000")
    for kind in ("0c", "0d", "0e"):
        typed += bytes.fromhex(f"0000 {kind} 00 3dcccccd 00000000")
    typed += bytes.fromhex("41980000 42910000 7f800000") + b"M" + bytes(8)
    typed += bytes.fromhex("0001 0001 000a")
    assert made[4:-2] == typed[4:]
    assert made[2:4] == struct.pack(">H", len(typed) + 2)


def test_commands_are_found_in_noise() -> None:
    buffer = bytearray(b"\xaa\x00noise" + command(2, 7) + command(5)[:-1] + b"\x00" + command(5))
    assert wire.take_command(buffer, 241) == 5
    assert wire.take_command(buffer, 241) is None
    assert not buffer


class Stream:
    """Frames of a TCP stream, split by their stated size."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, word: int) -> None:
        self.writer.write(command(word))

    async def frame(self) -> bytes:
        async with asyncio.timeout(10.0):
            head = await self.reader.readexactly(4)
            rest = await self.reader.readexactly(int.from_bytes(head[2:], "big") - 4)
        whole = head + rest
        assert int.from_bytes(whole[-2:], "big") == crc(whole[:-2])
        return whole


def stamp_us(frame: bytes) -> int:
    soc, fraction = struct.unpack(">LL", frame[6:14])
    return int(soc * 1_000_000 + (fraction & 0xFFFFFF))


def frequency_hz(frame: bytes) -> float:
    return float(struct.unpack(">f", frame[-10:-6])[0])


@asynccontextmanager
async def served(**how: Any) -> AsyncIterator[tuple[Plant, Stream, VirtualClock]]:
    clock = VirtualClock(datetime(2026, 1, 1, 12, 0, 0, 42_123, tzinfo=UTC))
    async with Plant(site(unit(), pmu=(pmu(),)), clock, **how) as plant:
        stream = Stream(*await asyncio.open_connection("192.168.10.100", 4712))
        yield plant, stream, clock
        stream.writer.close()


@virtual
async def test_it_answers_and_starts_and_stops() -> None:
    async with served() as (_, stream, clock):
        stream.send(5)
        assert (await stream.frame())[:2] == b"\xaa\x32"
        stream.send(6)
        assert (await stream.frame())[:2] == b"\xaa\x52"
        stream.send(3)
        assert (await stream.frame())[:2] == b"\xaa\x12"
        stream.send(2)
        assert (await stream.frame())[:2] == b"\xaa\x02"
        stream.send(1)
        before_s = clock.now_s()
        with pytest.raises(TimeoutError):
            await stream.frame()
        assert clock.now_s() - before_s == pytest.approx(10.0, abs=0.2)


@pytest.mark.parametrize("fps", [10, 25, 50])
def test_frames_are_locked_to_utc(fps: int) -> None:
    @virtual
    async def main() -> None:
        async with served(fps=fps) as (_, stream, clock):
            stream.send(2)
            stamps = []
            for _ in range(3 * fps):
                stamps.append(stamp_us(await stream.frame()))
                late_us = clock.utc().timestamp() * 1e6 - stamps[-1]
                assert 0.0 <= late_us + 1.0 < 10.0
        assert all(stamp % (1_000_000 // fps) == 0 for stamp in stamps)
        steps = {after - before for before, after in itertools.pairwise(stamps)}
        assert steps == {1_000_000 // fps}

    main()


@virtual
async def test_a_wall_clock_set_back_starts_over() -> None:
    async with served() as (_, stream, clock):
        stream.send(2)
        first_us = stamp_us(await stream.frame())
        clock.step_utc(-3600.0)
        await stream.frame()  # was asleep already
        assert first_us - 3600_000_000 < stamp_us(await stream.frame()) < first_us


@virtual
async def test_frequency_and_phasors_follow_the_site() -> None:
    async with served() as (plant, stream, _):
        plant.inject("frequency_step", frequency_hz=49.7)
        plant.units["B1"].holding.update({0x2000: -660 & 0xFFFF, 0x2002: 3, 0x2003: 1})
        await asyncio.sleep(3.0)
        stream.send(2)
        first, second = await stream.frame(), await stream.frame()
        assert frequency_hz(second) == pytest.approx(49.7, abs=1e-4)
        values = struct.unpack(">12f", second[16:64])
        volts, amps = values[0], values[6]
        assert volts == pytest.approx(11_000 / math.sqrt(3), rel=1e-6)
        assert 3 * volts * amps == pytest.approx(66_000.0, rel=1e-4)
        turn = math.remainder(values[1] - struct.unpack(">12f", first[16:64])[1], 2 * math.pi)
        assert turn == pytest.approx(2 * math.pi * -0.3 * 0.1, abs=1e-3)


@virtual
async def test_current_lags_where_reactive_power_goes_out() -> None:
    async with served() as (plant, stream, _):
        plant.units["B1"].holding.update({0x2000: -400 & 0xFFFF, 0x2001: -400 & 0xFFFF})
        plant.units["B1"].holding.update({0x2002: 3, 0x2003: 1})
        await asyncio.sleep(3.0)
        stream.send(2)
        values = struct.unpack(">12f", (await stream.frame())[16:64])
        assert math.remainder(values[1] - values[7], 2 * math.pi) == pytest.approx(math.pi / 4)


@virtual
async def test_a_slot_is_never_sent_twice() -> None:
    async with served() as (plant, _, _):
        slots = [plant.pmus["pmu"]._next_slot_us() for _ in range(5)]
        assert {after - before for before, after in itertools.pairwise(slots)} == {100_000}


@virtual
async def test_charging_turns_the_current_round() -> None:
    async with served() as (plant, stream, _):
        plant.units["B1"].holding.update({0x2000: 500, 0x2002: 3, 0x2003: 1})
        await asyncio.sleep(3.0)
        stream.send(2)
        values = struct.unpack(">12f", (await stream.frame())[16:64])
        assert abs(math.remainder(values[7] - values[1], 2 * math.pi)) == pytest.approx(math.pi)


@virtual
async def test_time_quality_loss_shows_in_every_bit() -> None:
    async with served() as (plant, stream, _):
        plant.inject("pmu_time_quality", for_s=0.95)
        stream.send(2)
        bad = await stream.frame()
        assert bad[10] == 0x0F
        assert int.from_bytes(bad[14:16], "big") == 0x2000 | 7 << 6 | 3 << 4
        await asyncio.sleep(1.0)
        while (good := await stream.frame())[10]:
            pass
        assert int.from_bytes(good[14:16], "big") == 0x0040


@virtual
async def test_loss_is_silence_or_a_closed_port() -> None:
    async with served() as (plant, stream, _):
        stream.send(2)
        await stream.frame()
        plant.inject("pmu_loss", for_s=20.0)
        with pytest.raises(TimeoutError):
            await stream.frame()
        await asyncio.sleep(11.0)
        await stream.frame()
        plant.inject("pmu_loss", "pmu", close=True)
        with pytest.raises(ConnectionResetError):
            await stream.reader.read()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("192.168.10.100", 4712)
        plant.clear("pmu_loss")
        await asyncio.sleep(0.1)
        again = Stream(*await asyncio.open_connection("192.168.10.100", 4712))
        again.send(2)
        await again.frame()
        again.writer.close()


@virtual
async def test_a_frozen_pmu_repeats_itself_under_new_stamps() -> None:
    async with served() as (plant, stream, _):
        plant.inject("pmu_frozen")
        stream.send(2)
        frames = [await stream.frame() for _ in range(5)]
        assert len({frame[14:-2] for frame in frames}) == 1
        assert len({stamp_us(frame) for frame in frames}) == 5
        plant.clear()
        await stream.frame()
        assert (await stream.frame())[14:-2] != frames[0][14:-2]


@virtual
async def test_sixty_hertz() -> None:
    async with served() as (plant, stream, _):
        plant.inject("pmu_sixty_hertz")
        stream.send(2)
        assert frequency_hz(await stream.frame()) == 60.0


@virtual
async def test_garbage_comes_between_frames() -> None:
    async with served() as (plant, stream, _):
        plant.inject("pmu_garbage", count=11)
        stream.send(2)
        garbage = await stream.reader.readexactly(11)
        assert (await stream.frame())[:2] == b"\xaa\x02"
        assert await stream.reader.readexactly(11) != garbage


class Ear(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.frames: asyncio.Queue[bytes] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.frames.put_nowait(data)


@pytest.mark.parametrize("data_port", [None, 4713])
def test_udp_goes_back_or_to_the_data_port(data_port: int | None) -> None:
    @virtual
    async def main() -> None:
        loop = asyncio.get_running_loop()
        settings = pmu(transport="udp", host="127.0.0.1", udp_port=data_port)
        async with Plant(site(unit(), pmu=(settings,)), VirtualClock()):
            asking_end, asking = await loop.create_datagram_endpoint(
                Ear, remote_addr=("127.0.0.1", 4712)
            )
            ear = asking
            if data_port is not None:
                _, ear = await loop.create_datagram_endpoint(Ear, local_addr=("", data_port))
            asking_end.sendto(command(5))
            async with asyncio.timeout(5.0):
                assert (await ear.frames.get())[:2] == b"\xaa\x32"
                asking_end.sendto(command(2))
                assert [len(await ear.frames.get()) for _ in range(3)] == [74] * 3
            asking_end.sendto(command(1))
            await asyncio.sleep(0.3)
            count = ear.frames.qsize()
            await asyncio.sleep(1.0)
            assert ear.frames.qsize() == count

    main()


async def test_it_streams_over_real_sockets() -> None:
    settings = pmu(host="127.0.0.1", port=0)
    async with Plant(site(unit(host="127.0.0.1", port=0), pmu=(settings,)), SystemClock()) as plant:
        stream = Stream(*await asyncio.open_connection("127.0.0.1", plant.pmus["pmu"].port))
        stream.send(2)
        stamps = [stamp_us(await stream.frame()) for _ in range(4)]
        assert all(stamp % 100_000 == 0 for stamp in stamps)
        stream.writer.close()


def pcap(frames: list[bytes]) -> bytes:
    """Each frame as one UDP datagram to port 4713, so that a dissector may judge it."""
    out = struct.pack("<LHHlLLL", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101)
    for frame in frames:
        udp = struct.pack(">HHHH", 4713, 4713, 8 + len(frame), 0) + frame
        address = bytes([127, 0, 0, 1])
        ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0) + address * 2 + udp
        out += struct.pack("<LLLL", 0, 0, len(ip), len(ip)) + ip
    return out


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
@pytest.mark.parametrize("config", [2, 3])
@pytest.mark.parametrize("floats", [True, False])
def test_tshark_reads_what_was_meant(tmp_path: Path, config: int, floats: bool) -> None:
    layout = wire.Layout(stream_id=60, pmu_id=61, floats=floats)
    seen = wire.Measurement(49.75, -0.5, FLAT)
    made = wire.cfg2_frame(layout, AT_US)
    if config == 3:
        made = wire.cfg3_frame(layout, AT_US, 19.0, 72.5)
    capture = tmp_path / "c.pcap"
    capture.write_bytes(pcap([made, wire.data_frame(layout, AT_US, seen)]))
    words = [
        "tshark",
        "-r",
        str(capture),
        "-V",
        "-d",
        "udp.port==4713,synphasor",
        "-O",
        "synphasor",
    ]
    ran = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    text = ran.stdout
    assert "Malformed" not in text
    assert "incorrect" not in text
    assert text.count("[Checksum Status: Good]") == 2
    assert "VPPD SIM" in text
    measured = "value: 49.75" if floats else "(actual frequency: 49.750Hz)"
    assert measured in text
    assert f"Rate of change of frequency: -0.5{'' if floats else '00Hz/s'}\n" in text
    assert "10 frame(s) per second" in text
    assert text.count("VA") >= 2
    assert "100.00" in text
    if config == 3:
        assert "PMU Latitude: 19" in text
        assert "PMU Longitude: 72.5" in text


@virtual
async def test_a_jump_a_wrong_clock_and_frames_that_come_twice_or_late() -> None:
    async with served() as (plant, stream, _):
        plant.inject("frequency_step", frequency_hz=50.0)
        plant.inject("pmu_jump", offset_hz=-1.5)
        stream.send(2)
        assert frequency_hz(await stream.frame()) == pytest.approx(48.5, abs=1e-3)
        plant.clear()
        plant.inject("pmu_double")
        frames = [await stream.frame() for _ in range(9)]
        assert len({stamp_us(frame) for frame in frames}) in (5, 6)
        plant.clear()
        plant.inject("pmu_late", frames=2)
        stamps = [stamp_us(await stream.frame()) for _ in range(12)]
        assert any(after < before for before, after in itertools.pairwise(stamps))
        plant.clear()
        plant.inject("pmu_wrong_time", ahead_s=3600.0)
        await asyncio.sleep(0.3)
        first = [stamp_us(await stream.frame()) for _ in range(8)]
        assert first[-1] - stamps[0] > 3600_000_000


@virtual
async def test_on_a_dead_bus_voltage_and_frequency_run_down() -> None:
    async with served() as (plant, stream, _):
        plant.inject("frequency_step", frequency_hz=50.0)
        plant.inject("pmu_dead_bus", decay_s=1.0, fall_hz_per_s=2.0)
        stream.send(2)
        frames = [await stream.frame() for _ in range(11)]
        volts = [float(struct.unpack(">f", frame[16:20])[0]) for frame in frames]
        assert volts[10] / volts[0] == pytest.approx(math.exp(-1.0), abs=0.02)
        fallen_hz = frequency_hz(frames[0]) - frequency_hz(frames[10])
        assert fallen_hz == pytest.approx(2.0, abs=0.01)
