"""The PMU client over real sockets against a PMU that does as it is told, and the sums of
sequence, delay and quality."""

import asyncio
import itertools
import math
import random
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.virtual_time import VirtualClock, virtual
from vppd.core.alarms import Code
from vppd.core.model import Phasor, Quality, Synchro
from vppd.core.ports import Clock
from vppd.core.settings import BandSettings, PmuSettings
from vppd.grid.c37118 import (
    CommandWord,
    Deframer,
    FrameType,
    Stamp,
    read_command,
    read_frame,
    write_frame,
)
from vppd.grid.c37118_config import (
    Config,
    Format,
    PhasorChannel,
    Place,
    Station,
    read_config,
    write_config,
)
from vppd.grid.c37118_data import Data, DataLayout, PmuData, stat_of
from vppd.grid.pmu import PmuClient
from vppd.grid.pmu_status import Timing
from vppd.grid.synchro import Sequence, clock_fault, judge
from vppd.spine.bus import Bus, Message
from vppd.spine.clock import SystemClock

CAPTURES = Path(__file__).parent / "data" / "pmu"
BOUND_S = 10.0
PATIENT = Timing(answer_s=30.0, idle_s=30.0)  # whatever happens, happens without waiting
QUICK = Timing(idle_s=0.3, answer_s=0.15, pause_first_s=0.02, pause_max_s=0.05)
BANDS = BandSettings()


# a PMU that does as it is told


class Told:
    """Wakes whoever awaits something when anything happens."""

    def __init__(self) -> None:
        self._happened = asyncio.Event()

    def __call__(self, *_: object) -> None:
        self._happened.set()

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(BOUND_S):
            while not condition():
                await self._happened.wait()
                self._happened.clear()


class ScriptedPmu:
    """Answers command words with the bytes in `answers`; sends what the test tells it to."""

    def __init__(self, told: Told, answers: dict[int, bytes] | None = None) -> None:
        self.answers = answers or {}
        self.words: list[int] = []
        self.connections = 0
        self.hang_up_on: int | None = None
        self.greeting = b""
        self._told = told
        self._writers: list[asyncio.StreamWriter] = []

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        writer.write(self.greeting)
        deframer = Deframer()
        try:
            while data := await reader.read(4096):
                for each in deframer.feed(data):
                    self._obey(read_command(read_frame(each)).word, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass  # the test is over
        finally:
            writer.close()

    def _obey(self, word: int, writer: asyncio.StreamWriter) -> None:
        self.words.append(word)
        if word == self.hang_up_on:
            writer.close()
        elif word in self.answers:
            writer.write(self.answers[word])
        self._told()

    @asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            self.drop()

    def send(self, data: bytes) -> None:
        self._writers[-1].write(data)

    async def send_in_pieces(self, data: bytes, size: int) -> None:
        for at in range(0, len(data), size):
            self.send(data[at : at + size])
            await self._writers[-1].drain()

    def drop(self) -> None:
        for writer in self._writers:
            writer.close()


class Seen:
    """A client with all that it publishes and tells."""

    def __init__(
        self,
        told: Told,
        settings: PmuSettings,
        timing: Timing = PATIENT,
        clock: Clock | None = None,
    ) -> None:
        self.synchros: list[Synchro] = []
        self.events: list[tuple[Code, bool, str]] = []
        self._told = told
        clock = clock or SystemClock()
        bus = Bus(clock)
        bus.tap(self._keep)
        self.client = PmuClient(settings, BANDS, bus, clock, self._hear, timing)

    def _keep(self, message: Message) -> None:
        if isinstance(message, Synchro):
            self.synchros.append(message)
            self._told()

    def _hear(self, code: Code, active: bool, text: str) -> None:
        self.events.append((code, active, text))
        self._told()

    def losses(self) -> list[tuple[bool, str]]:
        return [(active, text) for code, active, text in self.events if code is Code.PMU_LOST]

    def lost(self) -> list[bool]:
        return [active for active, _ in self.losses()]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[PmuClient]:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.client.run())
            try:
                yield self.client
            finally:
                task.cancel()


def settings_for(port: int, **more: Any) -> PmuSettings:
    usual = PmuSettings(host="127.0.0.1", port=port, idcode=60, id="grid")
    return replace(usual, **more)


# frames made here: one integer PMU, 50 Hz, ten frames a second

STATION = Station(
    "North",
    7,
    Format(True, False, False, False),
    (PhasorChannel("VA", "V", 10.0), PhasorChannel("IA", "A", 0.1)),
    nominal_hz=50.0,
)
CFG2 = Config(FrameType.CFG2, 60, Stamp(0, 0), 1_000_000, (STATION,), 10)
CFG3 = replace(CFG2, kind=FrameType.CFG3, stations=(replace(STATION, place=Place()),))


class Origin:
    """When the test began; the frames made here count from it."""

    at = datetime.now(UTC)


@pytest.fixture(autouse=True)
def origin() -> None:
    Origin.at = datetime.now(UTC)


def stamp_at(at: datetime, time_base: int = 1_000_000, flags: int = 0) -> Stamp:
    seconds = (at - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
    return Stamp(int(seconds), int(seconds % 1.0 * time_base), flags)


def data_frame(
    frequency_hz: float = 49.95,
    at_s: float = 0.0,
    stat_bits: int = 0,
    flags: int = 0,
    config: Config = CFG2,
) -> bytes:
    """`at_s` after the start of the test."""
    pmus = tuple(
        PmuData(
            stat_of(stat_bits),
            frequency_hz,
            -0.5,
            tuple(Phasor(each.name, 1000.0, 30.0, each.unit) for each in station.phasors),
        )
        for station in config.stations
    )
    stamp = stamp_at(Origin.at + timedelta(seconds=at_s), flags=flags)
    return DataLayout(config).write(Data(config.idcode, stamp, pmus))


def answering(*configs: Config) -> dict[int, bytes]:
    words = {
        FrameType.CFG2: CommandWord.SEND_CFG2,
        FrameType.CFG3: CommandWord.SEND_CFG3,
    }
    return {words[config.kind]: write_config(config) for config in configs}


OFF, ON, ASK2, ASK3 = (
    CommandWord.OFF,
    CommandWord.ON,
    CommandWord.SEND_CFG2,
    CommandWord.SEND_CFG3,
)


@pytest.fixture
async def told() -> Told:
    return Told()


# conversation


async def test_asks_frame_3_starts_the_data_and_publishes_all_of_it(told: Told) -> None:
    pmu = ScriptedPmu(told, answering(CFG2, CFG3))
    async with pmu.serving() as port:
        seen = Seen(told, settings_for(port))
        async with seen.running() as client:
            await told.until(lambda: ON in pmu.words)
            pmu.send(data_frame(49.95))
            await told.until(lambda: seen.synchros)
            counters = client.counters()
        await told.until(lambda: pmu.words[-1] == OFF and len(pmu.words) > 3)
    assert pmu.words == [OFF, ASK3, ON, OFF]
    (synchro,) = seen.synchros
    assert (synchro.source, synchro.frequency_hz, synchro.rocof_hz_per_s) == ("grid", 49.95, -0.5)
    assert (synchro.quality, synchro.quality_text) == (Quality.GOOD, "")
    assert synchro.utc is not None
    assert abs(synchro.utc - Origin.at) < timedelta(microseconds=2)
    assert (synchro.delay_s, synchro.max_age_s, synchro.time_quality_s) == (0.0, 0.5, 0.0)
    voltage, current = synchro.phasors
    assert (voltage.name, voltage.unit, voltage.magnitude) == ("VA", "V", 1000.0)
    assert voltage.angle_deg == pytest.approx(30.0, abs=0.01)
    assert (current.name, current.unit) == ("IA", "A")
    assert current.magnitude == pytest.approx(1000.0)
    assert seen.losses() == []
    assert counters.config is not None
    assert (counters.config.kind, counters.config.station) == ("CFG-3", "North")
    assert (counters.config.stream_idcode, counters.config.pmu_idcode) == (60, 7)
    assert (counters.config.nominal_hz, counters.config.data_rate) == (50.0, 10)
    assert (counters.connected, counters.lost, counters.published) == (True, False, 1)
    assert not seen.client.counters().connected


async def test_frame_3_not_answered_falls_back(told: Told) -> None:
    pmu = ScriptedPmu(told, answering(CFG2))
    async with pmu.serving() as port:
        seen = Seen(told, settings_for(port), Timing(answer_s=0.1))
        async with seen.running() as client:
            await told.until(lambda: ON in pmu.words)
            pmu.send(data_frame())
            await told.until(lambda: seen.synchros)
            summary = client.counters().config
    assert pmu.words[:4] == [OFF, ASK3, ASK2, ON]
    assert summary is not None
    assert summary.kind == "CFG-2"


async def test_frame_3_garbled_falls_back_at_once(told: Told) -> None:
    cut = read_frame(write_config(CFG3))
    garbled = write_frame(replace(cut, payload=cut.payload[:-5]))
    pmu = ScriptedPmu(told, answering(CFG2) | {ASK3: garbled})
    async with pmu.serving() as port:
        seen = Seen(told, settings_for(port))
        async with seen.running():
            await told.until(lambda: ON in pmu.words)
    assert pmu.words[:4] == [OFF, ASK3, ASK2, ON]


async def test_pmu_that_hangs_up_when_asked_for_frame_3(told: Told) -> None:
    pmu = ScriptedPmu(told, answering(CFG2))
    pmu.hang_up_on = ASK3
    async with pmu.serving() as port:
        seen = Seen(told, settings_for(port), replace(PATIENT, pause_first_s=0.01))
        async with seen.running():
            await told.until(lambda: ON in pmu.words)
            pmu.send(data_frame())
            await told.until(lambda: seen.synchros)
    assert pmu.words[: pmu.words.index(ON)].count(ASK3) == 1
    assert seen.lost() == [True, False]


def cfg3_in_fragments() -> list[bytes]:
    whole = read_frame(write_config(CFG3))
    body = whole.payload[2:]
    parts = [(1, body[:40]), (2, body[40:41]), (0xFFFF, body[41:])]
    return [
        write_frame(replace(whole, payload=struct.pack(">H", index) + part))
        for index, part in parts
    ]


async def test_frame_3_in_fragments(told: Told) -> None:
    pmu = ScriptedPmu(told, {ASK3: b"".join(cfg3_in_fragments())})
    async with pmu.serving() as port:
        seen = Seen(told, settings_for(port))
        async with seen.running():
            await told.until(lambda: ON in pmu.words)
            pmu.send(data_frame())
            await told.until(lambda: seen.synchros)
    assert pmu.words[:3] == [OFF, ASK3, ON]


async def test_spontaneous_stream_needs_no_answers(told: Told) -> None:
    pmu = ScriptedPmu(told)
    pmu.greeting = data_frame(at_s=0.0) + write_config(CFG2) + data_frame(at_s=0.1)
    async with pmu.serving() as port:
        seen = Seen(told, settings_for(port))
        async with seen.running() as client:
            await told.until(lambda: seen.synchros)
            pmu.send(write_config(CFG2) + data_frame(at_s=0.2))
            await told.until(lambda: len(seen.synchros) == 2)
            assert client.counters().undecoded == 1


async def test_data_without_configuration_is_asked_about_and_told(told: Told) -> None:
    pmu = ScriptedPmu(told)
    async with pmu.serving() as port:
        seen = Seen(told, settings_for(port), QUICK)
        async with seen.running():
            await told.until(lambda: pmu.words)
            number = 0
            while not (seen.lost() and pmu.words.count(ASK3) > 1 and pmu.words.count(ASK2) > 1):
                async with asyncio.timeout(BOUND_S):
                    pmu.send(data_frame(at_s=number / 10))
                    number += 1
                    await asyncio.sleep(0.01)
            assert pmu.connections == 1
    assert seen.losses()[0] == (True, "data frames, but no configuration")
    assert seen.lost() == [True]


async def test_another_stream_is_not_ours(told: Told) -> None:
    pmu = ScriptedPmu(told, answering(CFG3))
    async with pmu.serving() as port:
        seen = Seen(told, settings_for(port))
        async with seen.running() as client:
            await told.until(lambda: ON in pmu.words)
            foreign = replace(CFG2, idcode=61)
            pmu.send(data_frame(50.0, 0.1, config=foreign) + data_frame(49.9, 0.2))
            await told.until(lambda: seen.synchros)
            assert client.counters().undecoded == 1
    assert [each.frequency_hz for each in seen.synchros] == [49.9]


async def test_the_configuration_of_another_stream_is_not_ours(told: Told) -> None:
    foreign = replace(CFG2, idcode=61, stations=(replace(STATION, name="Elsewhere"),))
    pmu = ScriptedPmu(told, {ASK3: write_config(foreign) + write_config(CFG3)})
    async with pmu.serving() as port:
        seen = Seen(told, settings_for(port))
        async with seen.running() as client:
            await told.until(lambda: ON in pmu.words)
            summary, undecoded = client.counters().config, client.counters().undecoded
    assert summary is not None
    assert (summary.station, undecoded) == ("North", 1)


async def test_frame_2_sent_by_itself_does_not_replace_frame_3(told: Told) -> None:
    pmu = ScriptedPmu(told, answering(CFG3))
    async with pmu.serving() as port:
        seen = Seen(told, settings_for(port))
        async with seen.running() as client:
            await told.until(lambda: ON in pmu.words)
            pmu.send(write_config(CFG2) + data_frame())
            await told.until(lambda: seen.synchros)
            summary = client.counters().config
    assert summary is not None
    assert summary.kind == "CFG-3"


# bytes


@pytest.mark.parametrize("size", [1, 7, 54, 4096])
async def test_split_and_merged(told: Told, size: int) -> None:
    pmu = ScriptedPmu(told, answering(CFG3))
    async with pmu.serving() as port:
        seen = Seen(told, settings_for(port))
        async with seen.running() as client:
            await told.until(lambda: ON in pmu.words)
            frames = [data_frame(49.0 + each / 100, each / 10) for each in range(20)]
            await pmu.send_in_pieces(b"".join(frames), size)
            await told.until(lambda: len(seen.synchros) == 20)
            counters = client.counters()
    assert [each.frequency_hz for each in seen.synchros] == [49.0 + n / 100 for n in range(20)]
    assert (counters.bad_bytes, counters.bad_frames, counters.sequence.gaps) == (0, 0, 0)


async def test_garbage_and_a_corrupt_frame_cost_themselves_only(told: Told) -> None:
    pmu = ScriptedPmu(told, answering(CFG3))
    async with pmu.serving() as port:
        seen = Seen(told, settings_for(port))
        async with seen.running() as client:
            await told.until(lambda: ON in pmu.words)
            corrupt = bytearray(data_frame(49.2, 0.1))
            corrupt[18] ^= 1
            pmu.send(b"\xaa\x01\xff\xff noise" + data_frame(49.1, 0.0) + corrupt)
            pmu.send(data_frame(49.3, 0.2))
            await told.until(lambda: len(seen.synchros) == 2)
            counters = client.counters()
    assert [each.frequency_hz for each in seen.synchros] == [49.1, 49.3]
    assert counters.bad_bytes == 10 + len(corrupt)
    assert (counters.resyncs, counters.bad_frames) == (2, 2)
    assert counters.sequence.gaps == 1


async def test_ten_thousand_strings_of_noise(told: Told) -> None:
    chance = random.Random(5)
    pmu = ScriptedPmu(told, answering(CFG3))
    async with pmu.serving() as port:
        seen = Seen(told, settings_for(port), replace(PATIENT, load_bytes_per_s=1e9))
        async with seen.running() as client:
            await told.until(lambda: ON in pmu.words)
            sources = [data_frame(), write_config(CFG2), write_config(CFG3)]
            for number in range(10_000):
                noise = chance.randbytes(chance.randrange(60))
                if number % 2:
                    frame = read_frame(chance.choice(sources))
                    payload = bytearray(frame.payload)
                    payload[chance.randrange(len(payload))] = chance.randrange(256)
                    noise = write_frame(replace(frame, payload=bytes(payload)))
                pmu.send(noise)
            await pmu.send_in_pieces(bytes(70_000), 4096)  # ends whatever seemed to begin
            pmu.send(write_config(CFG3) + data_frame(49.87, 3600.0))
            await told.until(lambda: seen.synchros and seen.synchros[-1].frequency_hz == 49.87)
            counters = client.counters()
            assert len(client._deframer._buffer) < 0x10000
    assert counters.reconnects == 0
    assert counters.frames > 4900


# configuration changes


async def test_configuration_change_is_asked_again_before_more_is_published(told: Told) -> None:
    pmu = ScriptedPmu(told, answering(CFG3))
    async with pmu.serving() as port:
        seen = Seen(told, settings_for(port), replace(PATIENT, answer_s=0.05))
        async with seen.running() as client:
            await told.until(lambda: ON in pmu.words)
            pmu.send(data_frame(49.9, 0.0))
            await told.until(lambda: seen.synchros)
            renamed = replace(STATION, name="South", nominal_hz=60.0, place=Place())
            changed = replace(CFG3, stations=(renamed,))
            pmu.answers = answering(changed)
            # by the old configuration this would be 50.1 Hz
            late = data_frame(60.1, 0.1, 0x0400, config=changed)
            pmu.send(late)
            await told.until(lambda: pmu.words.count(ON) == 2)
            pmu.send(data_frame(60.1, 0.2, 0x0400, config=changed))
            await told.until(lambda: len(seen.synchros) == 2)
            summary = client.counters().config
            pmu.send(data_frame(60.1, 0.3, 0, config=changed))  # in effect: asked once more
            await told.until(lambda: pmu.words.count(ON) == 3)
    assert [each.frequency_hz for each in seen.synchros] == [49.9, 60.1]
    assert summary is not None
    assert (summary.station, summary.nominal_hz) == ("South", 60.0)


async def test_nothing_is_published_while_the_configuration_is_unknown(told: Told) -> None:
    pmu = ScriptedPmu(told, answering(CFG3))
    async with pmu.serving() as port:
        seen = Seen(told, settings_for(port), replace(PATIENT, answer_s=0.05))
        async with seen.running():
            await told.until(lambda: ON in pmu.words)
            pmu.answers = {}
            pmu.send(data_frame(49.9, 0.0))
            await told.until(lambda: seen.synchros)
            for number in range(1, 5):
                pmu.send(data_frame(49.8, number / 10, 0x0400))
            await told.until(lambda: pmu.words.count(ASK3) >= 2)
            pmu.send(data_frame(49.7, 0.5, 0x0400) + write_config(CFG2))
            await told.until(lambda: pmu.words.count(ON) == 2)
            pmu.send(data_frame(49.6, 0.6, 0x0400))
            await told.until(lambda: len(seen.synchros) == 2)
    assert [each.frequency_hz for each in seen.synchros] == [49.9, 49.6]


async def test_frame_of_another_size_asks_again(told: Told) -> None:
    pmu = ScriptedPmu(told, answering(CFG3))
    async with pmu.serving() as port:
        seen = Seen(told, settings_for(port), replace(PATIENT, answer_s=0.05))
        async with seen.running() as client:
            await told.until(lambda: ON in pmu.words)
            pmu.send(data_frame(49.9, 0.0))
            await told.until(lambda: seen.synchros)
            wider = replace(CFG3, stations=(replace(STATION, phasors=STATION.phasors * 2),))
            pmu.answers = answering(wider)
            pmu.send(data_frame(49.8, 0.1, config=wider))
            await told.until(lambda: pmu.words.count(ON) == 2)
            pmu.send(data_frame(49.7, 0.2, config=wider))
            await told.until(lambda: len(seen.synchros) == 2)
            assert client.counters().undecoded == 1
    assert [len(each.phasors) for each in seen.synchros] == [2, 4]
    assert pmu.words[:5] == [OFF, ASK3, ON, ASK3, ON]


async def test_frame_3_that_never_fits_gives_way_to_frame_2(told: Told) -> None:
    wrong = replace(CFG3, stations=(replace(STATION, phasors=()),))
    pmu = ScriptedPmu(told, answering(wrong, CFG2))
    async with pmu.serving() as port:
        seen = Seen(told, settings_for(port), replace(PATIENT, answer_s=0.05))
        async with seen.running():
            await told.until(lambda: ON in pmu.words)
            pmu.send(data_frame(49.8, 0.1))
            await told.until(lambda: ASK2 in pmu.words)
            pmu.send(data_frame(49.7, 0.2))
            await told.until(lambda: seen.synchros)
    assert pmu.words[:5] == [OFF, ASK3, ON, ASK2, ON]


# loss and return


async def test_dropped_connection_is_told_once_and_taken_up_again(told: Told) -> None:
    pmu = ScriptedPmu(told, answering(CFG3))
    async with pmu.serving() as port:
        seen = Seen(told, settings_for(port), replace(PATIENT, pause_first_s=0.02))
        async with seen.running() as client:
            await told.until(lambda: ON in pmu.words)
            pmu.send(data_frame(49.9, 0.0))
            await told.until(lambda: seen.synchros)
            pmu.drop()
            await told.until(lambda: pmu.words.count(ON) == 2)
            assert seen.lost() == [True]
            pmu.send(data_frame(49.8, 0.1))
            await told.until(lambda: len(seen.lost()) == 2)
            assert client.counters().reconnects == 1
    assert seen.losses() == [
        (True, "the PMU closed the connection"),
        (False, "data from North"),
    ]


async def test_halves_do_not_join_over_connections(told: Told) -> None:
    first, *rest = cfg3_in_fragments()
    pmu = ScriptedPmu(told, answering(CFG3, CFG2))
    async with pmu.serving() as port:
        seen = Seen(told, settings_for(port), replace(PATIENT, pause_first_s=0.02))
        async with seen.running() as client:
            await told.until(lambda: ON in pmu.words)
            pmu.send(first + data_frame()[:20])
            pmu.answers[ASK3] = b"".join(rest)
            pmu.drop()
            await told.until(lambda: pmu.words.count(ON) == 2)
            counters = client.counters()
    assert pmu.words.count(ASK3) == 2
    assert counters.bad_bytes == 0
    assert counters.config is not None
    assert counters.config.kind == "CFG-2"


async def test_silence_reconnects(told: Told) -> None:
    pmu = ScriptedPmu(told, answering(CFG3))
    async with pmu.serving() as port:
        seen = Seen(told, settings_for(port), QUICK)
        async with seen.running():
            await told.until(lambda: ON in pmu.words)
            pmu.send(data_frame())
            await told.until(lambda: pmu.connections == 3)
    assert seen.losses()[0] == (True, "no frame for 0.3 s")
    assert seen.lost() == [True]


async def test_noise_alone_is_silence(told: Told) -> None:
    pmu = ScriptedPmu(told)
    async with pmu.serving() as port:
        seen = Seen(told, settings_for(port), QUICK)
        async with seen.running():
            await told.until(lambda: pmu.words)
            async with asyncio.timeout(BOUND_S):
                while pmu.connections < 2:
                    pmu.send(b"no frame at all, but plenty of it")
                    await asyncio.sleep(0.005)


async def test_a_pmu_that_comes_up_later(told: Told) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    seen = Seen(told, settings_for(port), QUICK)
    async with seen.running():
        await told.until(seen.lost)
        pmu = ScriptedPmu(told, answering(CFG3))
        async with pmu.serving(port):
            await told.until(lambda: ON in pmu.words)
            pmu.send(data_frame())
            await told.until(lambda: len(seen.lost()) == 2)
    assert seen.losses()[0][1].startswith("no connection: ")


@virtual
async def test_pauses_double_to_eight_seconds() -> None:
    clock = VirtualClock()
    tried_s: list[float] = []

    async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tried_s.append(clock.now_s())
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 4712)
    seen = Seen(Told(), settings_for(4712), Timing(), clock)
    began_s = clock.now_s()
    async with server, seen.running():
        await clock.sleep_until(began_s + 33.0)
    waits = [after - before for before, after in itertools.pairwise(tried_s)]
    assert waits == pytest.approx([0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0], abs=0.01)
    assert seen.lost() == [True]


@virtual
async def test_slow_streams_are_given_their_period() -> None:
    clock = VirtualClock()
    told = Told()
    slow = replace(CFG3, data_rate=-3)
    pmu = ScriptedPmu(told, answering(slow))
    async with pmu.serving(4712) as port:
        seen = Seen(told, settings_for(port), Timing(), clock)
        async with seen.running():
            await told.until(lambda: ON in pmu.words)
            for number in range(5):
                pmu.send(data_frame(at_s=3.0 * number, config=slow))
                await clock.sleep_until(clock.now_s() + 3.0)
            assert (len(seen.synchros), pmu.connections, seen.lost()) == (5, 1, [])
            await clock.sleep_until(clock.now_s() + 6.0)
            assert seen.lost() == [True]


# UDP


class UdpPmu(asyncio.DatagramProtocol):
    """Answers from its command port, to the sender or to a port of its own choice."""

    def __init__(self, told: Told, answers: dict[int, bytes]) -> None:
        self.told, self.answers = told, answers
        self.words: list[int] = []
        self.client: tuple[str, int] | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.client = self.client or addr
        word = read_command(read_frame(data)).word
        self.words.append(word)
        if word in self.answers:
            self.send(self.answers[word])
        self.told()

    def send(self, data: bytes) -> None:
        self.transport.sendto(data, self.client)


@asynccontextmanager
async def udp_pmu(told: Told, answers: dict[int, bytes]) -> AsyncIterator[tuple[UdpPmu, int]]:
    transport, pmu = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: UdpPmu(told, answers), local_addr=("127.0.0.1", 0)
    )
    try:
        yield pmu, transport.get_extra_info("sockname")[1]
    finally:
        transport.close()


async def test_udp_same_socket(told: Told) -> None:
    async with udp_pmu(told, answering(CFG3)) as (pmu, port):
        seen = Seen(told, settings_for(port, transport="udp"))
        async with seen.running() as client:
            await told.until(lambda: ON in pmu.words)
            pmu.send(data_frame(49.9, 0.0) + data_frame(49.8, 0.1))
            pmu.send(data_frame(49.7, 0.2)[:-4])
            pmu.send(data_frame(49.7, 0.2)[-4:])  # a frame does not go on in the next datagram
            pmu.send(data_frame(49.6, 0.3))
            await told.until(lambda: len(seen.synchros) == 3)
            assert client.counters().resyncs == 1
        await told.until(lambda: pmu.words[-1] == OFF)
    assert [each.frequency_hz for each in seen.synchros] == [49.9, 49.8, 49.6]
    assert pmu.words == [OFF, ASK3, ON, OFF]


async def test_udp_data_to_a_fixed_port_from_another_socket(told: Told) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        data_port = taken.getsockname()[1]
    async with udp_pmu(told, answering(CFG2)) as (pmu, port):
        settings = settings_for(port, transport="udp", udp_port=data_port)
        seen = Seen(told, settings, Timing(answer_s=0.1, idle_s=30.0))
        async with seen.running():
            await told.until(lambda: ON in pmu.words)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                other.bind(("127.0.0.2", 0))  # not the PMU
                other.sendto(data_frame(51.0, 0.0), ("127.0.0.1", data_port))
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
                own.bind(("127.0.0.1", 0))
                own.sendto(data_frame(49.9, 0.1), ("127.0.0.1", data_port))
            await told.until(lambda: seen.synchros)
    assert [each.frequency_hz for each in seen.synchros] == [49.9]


async def test_udp_silence_asks_from_the_start(told: Told) -> None:
    async with udp_pmu(told, {}) as (pmu, port):
        seen = Seen(told, settings_for(port, transport="udp"), QUICK)
        async with seen.running():
            await told.until(lambda: pmu.words.count(OFF) >= 4)
    assert pmu.words[1:3] == [ASK3, ASK2]
    assert seen.lost() == [True]


# absent values


async def test_absent_values_are_none_and_not_published_as_phasors(told: Told) -> None:
    pmu = ScriptedPmu(told, answering(CFG3))
    absent = PmuData(
        stat_of(0x8000),
        math.nan,
        math.nan,
        (Phasor("VA", 1000.0, 0.0, "V"), Phasor("IA", math.nan, math.nan, "A")),
    )
    async with pmu.serving() as port:
        seen = Seen(told, settings_for(port))
        async with seen.running():
            await told.until(lambda: ON in pmu.words)
            pmu.send(DataLayout(CFG3).write(Data(60, stamp_at(Origin.at), (absent,))))
            await told.until(lambda: seen.synchros)
    (synchro,) = seen.synchros
    assert synchro.quality is Quality.MISSING
    assert synchro.quality_text == "PMU in test mode or data absent"
    assert synchro.rocof_hz_per_s is None
    assert math.isnan(synchro.frequency_hz)
    assert [each.name for each in synchro.phasors] == ["VA"]


# several PMUs


SEVERAL = replace(
    CFG3,
    stations=(
        replace(STATION, idcode=11, name="First", place=Place()),
        replace(STATION, idcode=12, name="Second", phasors=(), place=Place()),
    ),
)


def two_pmus(first_hz: float, second_hz: float) -> bytes:
    frame = DataLayout(SEVERAL).read(read_frame(data_frame(config=SEVERAL)))
    first, second = frame.pmus
    pmus = (replace(first, frequency_hz=first_hz), replace(second, frequency_hz=second_hz))
    return DataLayout(SEVERAL).write(replace(frame, pmus=pmus))


@pytest.mark.parametrize(
    ("chosen", "frequency_hz", "station"),
    [(None, 49.91, "First"), (11, 49.91, "First"), (12, 49.92, "Second")],
)
async def test_several_pmus_in_a_stream(
    told: Told, chosen: int | None, frequency_hz: float, station: str
) -> None:
    pmu = ScriptedPmu(told, answering(SEVERAL))
    async with pmu.serving() as port:
        seen = Seen(told, settings_for(port, pmu_idcode=chosen))
        async with seen.running() as client:
            await told.until(lambda: ON in pmu.words)
            pmu.send(two_pmus(49.91, 49.92))
            await told.until(lambda: seen.synchros)
            summary = client.counters().config
    assert seen.synchros[0].frequency_hz == frequency_hz
    assert summary is not None
    assert summary.station == station


async def test_a_pmu_that_is_not_in_the_stream(told: Told) -> None:
    pmu = ScriptedPmu(told, answering(SEVERAL))
    async with pmu.serving() as port:
        seen = Seen(told, settings_for(port, pmu_idcode=99), QUICK)
        async with seen.running():
            await told.until(seen.lost)
    assert seen.losses() == [(True, "no PMU 99 in the stream, only [11, 12]")]


# real streams, replayed with fresh time stamps


def replayed(name: str) -> tuple[dict[int, bytes], list[bytes], Config]:
    """What the PMU answers, and its data frames as if sent now."""
    frames = [
        read_frame(bytes.fromhex(line)) for line in (CAPTURES / f"{name}.hex").read_text().split()
    ]
    config = next(read_config(each) for each in frames if each.type is FrameType.CFG2)
    answers = {
        int(ASK2): b"".join(write_frame(each) for each in frames if each.type is FrameType.CFG2)
    }
    data = [each for each in frames if each.type is FrameType.DATA]
    now = datetime.now(UTC)
    fresh = []
    for number, frame in enumerate(data):
        at = now + timedelta(seconds=number / config.data_rate)
        stamp = stamp_at(at, config.time_base, frame.stamp.flags)
        fresh.append(write_frame(replace(frame, stamp=stamp)))
    return answers, fresh, config


@pytest.mark.parametrize(
    ("name", "hertz", "quality", "why", "clock"),
    [
        ("sel_tcp", 50.0, Quality.GOOD, "", []),
        ("ge_udp", 50.0, Quality.GOOD, "", []),
        (
            "vizimax_tcp",
            60.028,
            Quality.IMPLAUSIBLE,
            "frequency outside 45 to 55 Hz; clock failure",
            ["clock failure"],
        ),
    ],
)
async def test_real_streams(
    told: Told, name: str, hertz: float, quality: Quality, why: str, clock: list[str]
) -> None:
    answers, frames, config = replayed(name)
    pmu = ScriptedPmu(told, answers)
    async with pmu.serving() as port:
        settings = settings_for(port, idcode=config.idcode)
        seen = Seen(told, settings, Timing(answer_s=0.05, idle_s=30.0))
        async with seen.running() as client:
            await told.until(lambda: ON in pmu.words)
            await pmu.send_in_pieces(b"".join(frames), 100)
            await told.until(lambda: len(seen.synchros) == len(frames))
            counters = client.counters()
    first = seen.synchros[0]
    assert first.frequency_hz == pytest.approx(hertz, abs=1e-3)
    assert {(each.quality, each.quality_text) for each in seen.synchros} == {(quality, why)}
    assert len(first.phasors) == len(config.stations[0].phasors)
    assert first.utc is not None
    assert abs(datetime.now(UTC) - first.utc) < timedelta(seconds=5)
    assert [text for code, _, text in seen.events if code is Code.PMU_TIME] == clock
    assert (counters.bad_bytes, counters.undecoded, counters.sequence.gaps) == (0, 0, 0)


async def test_sixty_hertz_is_never_good_on_a_fifty_hertz_site(told: Told) -> None:
    american = replace(CFG3, stations=(replace(STATION, nominal_hz=60.0, place=Place()),))
    pmu = ScriptedPmu(told, answering(american))
    async with pmu.serving() as port:
        seen = Seen(told, settings_for(port))
        async with seen.running():
            await told.until(lambda: ON in pmu.words)
            pmu.send(data_frame(59.97, 0.0, config=american))
            await told.until(lambda: seen.synchros)
    (synchro,) = seen.synchros
    assert (synchro.frequency_hz, synchro.quality) == (59.97, Quality.IMPLAUSIBLE)
    assert synchro.quality_text == "frequency outside 45 to 55 Hz"


# order and time in a stream


async def test_duplicates_and_late_frames_are_counted_not_published(told: Told) -> None:
    pmu = ScriptedPmu(told, answering(CFG3))
    async with pmu.serving() as port:
        seen = Seen(told, settings_for(port))
        async with seen.running() as client:
            await told.until(lambda: ON in pmu.words)
            for frequency_hz, at_s in (
                (49.90, 0.0),
                (49.91, 0.1),
                (49.91, 0.1),
                (49.80, 0.0),
                (49.92, 0.2),
                (49.95, 0.5),
            ):
                pmu.send(data_frame(frequency_hz, at_s))
            await told.until(lambda: len(seen.synchros) == 4)
            counts = client.counters().sequence
    assert [each.frequency_hz for each in seen.synchros] == [49.90, 49.91, 49.92, 49.95]
    assert (counts.duplicates, counts.late, counts.gaps, counts.clock_steps) == (1, 1, 1, 0)


async def test_a_clock_days_off_only_alarms(told: Told) -> None:
    pmu = ScriptedPmu(told, answering(CFG3))
    async with pmu.serving() as port:
        seen = Seen(told, settings_for(port))
        async with seen.running():
            await told.until(lambda: ON in pmu.words)
            pmu.send(data_frame(at_s=-5 * 86400.0))
            await told.until(lambda: seen.synchros)
    (synchro,) = seen.synchros
    assert (synchro.quality, synchro.delay_s) == (Quality.GOOD, 0.0)
    ((code, active, text),) = seen.events
    assert (code, active) == (Code.PMU_TIME, True)
    assert "behind the site's clock" in text


@virtual
async def test_a_late_frame_is_no_wrong_clock() -> None:
    clock = VirtualClock(Origin.at)
    told = Told()
    pmu = ScriptedPmu(told, answering(CFG3))
    async with pmu.serving(4712) as port:
        seen = Seen(told, settings_for(port), PATIENT, clock)
        async with seen.running():
            await told.until(lambda: ON in pmu.words)
            pmu.send(data_frame(at_s=0.0))
            await clock.sleep_until(clock.now_s() + 4.0)
            pmu.send(data_frame(at_s=0.1))
            await told.until(lambda: len(seen.synchros) == 2)
    assert seen.synchros[1].delay_s == pytest.approx(3.9, abs=0.02)
    assert seen.events == []


@virtual
async def test_clock_alarm_comes_and_goes() -> None:
    clock = VirtualClock(Origin.at)
    told = Told()
    pmu = ScriptedPmu(told, answering(CFG3))
    async with pmu.serving(4712) as port:
        seen = Seen(told, settings_for(port), Timing(), clock)
        async with seen.running():
            await told.until(lambda: ON in pmu.words)
            for number in range(60):
                at_s = number / 10
                offset_s = -5.0 if at_s < 2.0 else -1.5 if at_s < 3.5 else 0.0
                bits = 0x2000 if at_s >= 5.0 else 0
                pmu.send(data_frame(at_s=at_s + offset_s, stat_bits=bits))
                await clock.sleep_until(clock.now_s() + 0.1)
                if at_s == 3.4:  # less wrong than what raises it is still wrong
                    assert [active for _, active, _ in seen.events] == [True]
    assert [(active, text) for code, active, text in seen.events if code is Code.PMU_TIME] == [
        (True, "5.0 s behind the site's clock"),
        (False, "time agrees with the site's clock"),
        (True, "clock not synchronised"),
    ]
    assert len(seen.synchros) == 60


@virtual
async def test_a_burst_after_a_stall_is_old() -> None:
    clock = VirtualClock(Origin.at)
    told = Told()
    pmu = ScriptedPmu(told, answering(CFG3))
    async with pmu.serving(4712) as port:
        seen = Seen(told, settings_for(port), Timing(), clock)
        async with seen.running():
            await told.until(lambda: ON in pmu.words)
            pmu.send(data_frame(at_s=0.0))
            await clock.sleep_until(clock.now_s() + 1.0)
            for number in range(1, 11):
                pmu.send(data_frame(at_s=number / 10))
            await told.until(lambda: len(seen.synchros) == 11)
            now_s = clock.now_s()
    ages = [each.age_s(now_s) for each in seen.synchros]
    assert ages == pytest.approx([1.0 - number / 10 for number in range(11)], abs=0.02)


# quality, by itself


@pytest.mark.parametrize(
    ("frequency_hz", "bits", "flags", "quality", "why"),
    [
        (50.0, 0, 0, Quality.GOOD, ""),
        (45.0, 0, 0, Quality.GOOD, ""),
        (55.0, 0x1F0F & ~0x0100, 0, Quality.GOOD, ""),
        (50.0, 0x4000, 0, Quality.MISSING, "PMU error, no data"),
        (50.0, 0x8000, 0, Quality.MISSING, "PMU in test mode or data absent"),
        (50.0, 0xC000, 0, Quality.MISSING, "PMU error"),
        (50.0, 0x2000, 0, Quality.IMPLAUSIBLE, "clock not synchronised"),
        (50.0, 0, 0x0F, Quality.IMPLAUSIBLE, "clock failure"),
        (50.0, 0, 0x08, Quality.GOOD, ""),
        (50.0, 0, 0x09, Quality.IMPLAUSIBLE, "stated time error above 0.01 s"),
        (50.0, 0, 0x0C, Quality.IMPLAUSIBLE, "stated time error above 0.01 s"),
        (50.0, 0x0180, 0, Quality.GOOD, ""),
        (50.0, 0x01C0, 0, Quality.IMPLAUSIBLE, "PMU time error above 0.01 s"),
        (50.0, 0, 0x70, Quality.GOOD, ""),
        (44.999, 0, 0, Quality.IMPLAUSIBLE, "frequency outside 45 to 55 Hz"),
        (65.536, 0, 0, Quality.IMPLAUSIBLE, "frequency outside 45 to 55 Hz"),
        (math.nan, 0, 0, Quality.MISSING, "no frequency in the frame"),
        (math.inf, 0, 0, Quality.MISSING, "no frequency in the frame"),
    ],
)
def test_quality(frequency_hz: float, bits: int, flags: int, quality: Quality, why: str) -> None:
    stat = stat_of(bits)
    fault = clock_fault(stat, Stamp(0, 0, flags), 0.01)
    assert judge(frequency_hz, stat, fault, BANDS) == (quality, why)


@given(st.floats(), st.integers(0, 0xFFFF), st.integers(0, 0xFF))
def test_good_means_good_throughout(frequency_hz: float, bits: int, flags: int) -> None:
    stat = stat_of(bits)
    quality, why = judge(frequency_hz, stat, clock_fault(stat, Stamp(0, 0, flags), 0.01), BANDS)
    assert (quality is Quality.GOOD) == (why == "")
    if quality is Quality.GOOD:
        assert 45.0 <= frequency_hz <= 55.0
        assert bits & 0xE000 == 0
        assert flags & 0x0F <= 8
    assert math.isfinite(frequency_hz) or quality is Quality.MISSING


# sequence and delay, by themselves


@given(st.lists(st.floats(0.0, 0.3), min_size=1, max_size=300), st.floats(-1e6, 4e9))
def test_delay_is_what_a_frame_is_later_than_the_fastest(
    lags: list[float], clock_offset_s: float
) -> None:
    sequence = Sequence()
    fastest = math.inf
    for number, lag in enumerate(lags):
        fastest = min(fastest, lag)
        at_s = 100.0 + number / 10
        delay_s = sequence.place(at_s + clock_offset_s, at_s + lag, 0.1)
        assert delay_s == pytest.approx(lag - fastest, abs=2e-6)
    counts = sequence.counts
    assert (counts.duplicates, counts.late, counts.gaps, counts.clock_steps) == (0, 0, 0, 0)


@given(
    st.lists(st.tuples(st.integers(0, 60), st.floats(0.0, 0.5)), max_size=200),
)
def test_order_never_goes_back_but_by_a_counted_step(steps: list[tuple[int, float]]) -> None:
    sequence = Sequence()
    newest = -math.inf
    now_s, back, placed = 0.0, 0, 0
    for stamp, wait_s in steps:
        now_s += wait_s
        delay_s = sequence.place(float(stamp), now_s, 0.1)
        if delay_s is None:
            assert stamp <= newest
            continue
        assert delay_s >= 0.0
        back += stamp < newest
        newest, placed = stamp, placed + 1
    counts = sequence.counts
    assert counts.clock_steps == back
    assert placed + counts.duplicates + counts.late == len(steps)


def placed(sequence: Sequence, stamps: list[float], first_s: float) -> list[float | None]:
    return [
        sequence.place(stamp, first_s + number / 10, 0.1) for number, stamp in enumerate(stamps)
    ]


def test_a_clock_that_steps_back_is_followed_after_two_frames() -> None:
    sequence = Sequence()
    placed(sequence, [each / 10 for each in range(10)], 0.0)
    after = placed(sequence, [each / 10 - 3600.0 for each in range(10)], 1.0)
    assert after[:2] == [None, None]
    assert [each is not None and each < 1e-6 for each in after[2:]] == [True] * 8
    assert sequence.counts.clock_steps == 1


def test_late_frames_now_and_then_are_no_step() -> None:
    sequence = Sequence()
    stamps = [0.0, 0.2, 0.1, 0.4, 0.3, 0.6, 0.5, 0.8, 0.7]
    assert [each is None for each in placed(sequence, stamps, 0.0)] == [
        stamp < max(stamps[: place + 1]) for place, stamp in enumerate(stamps)
    ]
    assert (sequence.counts.late, sequence.counts.clock_steps) == (4, 0)


def test_a_clock_that_steps_forward_is_followed_at_once() -> None:
    sequence = Sequence()
    placed(sequence, [each / 10 for each in range(10)], 0.0)
    after = placed(sequence, [each / 10 + 3600.0 for each in range(10)], 1.0)
    assert [each is not None and each < 1e-6 for each in after] == [True] * 10
    assert sequence.counts.gaps == 1


def test_an_inserted_leap_second_costs_two_frames() -> None:
    """23:59:60 has the SOC of the second after it: one second's stamps come twice."""
    sequence = Sequence()
    placed(sequence, [each / 10 for each in range(20)], 0.0)
    after = placed(sequence, [1.0 + each / 10 for each in range(20)], 2.0)
    assert [each is None for each in after].count(True) == 2
    assert [each for each in after[2:] if each is None or each > 1e-6] == []


def test_a_small_step_back_is_forgotten_within_a_minute() -> None:
    sequence = Sequence()
    placed(sequence, [each / 10 for each in range(100)], 0.0)
    after = placed(sequence, [10.0 + each / 10 for each in range(700)], 10.05)
    assert after[0] == pytest.approx(0.05)
    assert after[540] == pytest.approx(0.05)
    assert max(each for each in after[600:] if each is not None) < 1e-6


def test_a_drifting_clock_does_not_age_frames() -> None:
    sequence = Sequence()
    drift = 100e-6
    delays = [sequence.place(n / 10 * (1.0 - drift), n / 10, 0.1) for n in range(36_000)]
    assert max(each for each in delays if each is not None) <= 60.1 * drift


def test_a_silence_forgets_the_old_minimum() -> None:
    sequence = Sequence()
    assert sequence.place(0.0, 0.0, 0.1) == 0.0
    assert sequence.place(0.1, 1.1, 0.1) == pytest.approx(1.0)
    assert sequence.place(200.0, 203.0, 0.1) == 0.0


def test_one_glitch_into_the_future_is_over_in_two_frames() -> None:
    sequence = Sequence()
    stamps = [0.0, 0.1, 999.0, 0.3, 0.4, 0.5, 0.6]
    delays = placed(sequence, stamps, 0.0)
    assert [each is None for each in delays] == [False, False, False, True, True, False, False]
    assert delays[-1] == pytest.approx(0.0, abs=1e-9)
