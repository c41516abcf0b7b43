"""A PMU that floods: what it may take of the loop is bounded by the second, whatever it sends."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.test_pmu import (
    CFG3,
    QUICK,
    Origin,
    ScriptedPmu,
    Seen,
    Told,
    answering,
    data_frame,
    settings_for,
)
from vppd.core.alarms import Code
from vppd.grid.c37118 import Frame, FrameType, Stamp, write_frame
from vppd.grid.c37118_config import write_config
from vppd.grid.pmu_link import DATAGRAMS_MAX, READ_BYTES, UdpLink, open_link
from vppd.grid.pmu_load import BURST_S, CALM_S, FRAME_BYTES, LOAD_BYTES_PER_S, Load
from vppd.spine.clock import SystemClock

CHUNK_BYTES = 65_536
FLOODS = 3


class Ahead(SystemClock):
    """A clock that the test puts forward."""

    ahead_s = 0.0

    def now_s(self) -> float:
        return super().now_s() + self.ahead_s

    async def sleep_until(self, deadline_s: float) -> None:
        await super().sleep_until(deadline_s - self.ahead_s)


class FloodingPmu(ScriptedPmu):
    """Answers as it must, and pours beside it as much as is taken."""

    def __init__(self, told: Told, pours: Callable[[int], bytes]) -> None:
        super().__init__(told, answering(CFG3))
        self.pours, self.pouring, self.poured = pours, True, 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.TaskGroup() as tasks:
            pouring = tasks.create_task(self._pour(writer))
            try:
                await super()._serve(reader, writer)
            finally:
                pouring.cancel()

    async def _pour(self, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while self.pouring:
                data = self.pours(self.poured)
                writer.write(data)
                self.poured += len(data)
                await writer.drain()
                await asyncio.sleep(0)

    @asynccontextmanager
    async def behaving(self) -> AsyncIterator[None]:
        """Send as a PMU does, frames newer than all that were poured."""

        async def send() -> None:
            for number in itertools.count():
                with suppress(IndexError):
                    self.send(data_frame(49.95, 3600.0 + 0.1 * number, config=CFG3))
                await asyncio.sleep(0.01)

        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(send())
            try:
                yield
            finally:
                sending.cancel()


def foreign(_: int) -> bytes:
    """Whole frames of a stream that is not ours."""
    frame = write_frame(Frame(FrameType.DATA, 61, Stamp(0, 0), b""))
    return frame * (CHUNK_BYTES // len(frame))


def starts(_: int) -> bytes:
    """Nothing but beginnings of frames."""
    return b"\xaa\x01\x00\x40" * (CHUNK_BYTES // 4)


def noise(at: int) -> bytes:
    return random.Random(at).randbytes(CHUNK_BYTES)


def configurations(_: int) -> bytes:
    frame = write_config(CFG3)
    return frame * (CHUNK_BYTES // len(frame))


def published(at: int) -> bytes:
    """Frames of our own, each newer than the one before: everything of them is believed."""
    first = at // 30
    return b"".join(data_frame(49.95, 1e-4 * (first + n), config=CFG3) for n in range(300))


@pytest.fixture
async def told() -> Told:
    Origin.at = SystemClock().utc()
    return Told()


@asynccontextmanager
async def flooded(
    told: Told, pours: Callable[[int], bytes], clock: Ahead
) -> AsyncIterator[tuple[Seen, FloodingPmu]]:
    pmu = FloodingPmu(told, pours)
    async with pmu.serving() as port:
        seen = Seen(told, settings_for(port), replace(QUICK, idle_s=2.0), clock)
        async with seen.running():
            yield seen, pmu


@pytest.mark.parametrize("pours", [foreign, starts, noise, configurations, published])
async def test_what_is_read_of_a_flood_is_bounded_by_the_second(
    told: Told, pours: Callable[[int], bytes]
) -> None:
    """By count: all that was weighed is no more than the measure for the time that went by."""
    clock = Ahead()
    begun_s = clock.now_s()
    async with flooded(told, pours, clock) as (seen, pmu):
        await told.until(lambda: seen.client.counters().floods >= FLOODS)
        counters = seen.client.counters()
        passed_s = clock.now_s() - begun_s
        read_bytes = counters.bad_bytes + FRAME_BYTES * counters.frames
        most_bytes = (BURST_S + passed_s) * LOAD_BYTES_PER_S
        assert read_bytes <= most_bytes + counters.floods * READ_BYTES * FRAME_BYTES // 16
        assert counters.reconnects >= counters.floods - 1
        floods = [(active, text) for code, active, text in seen.events if code is Code.PMU_FLOOD]
        assert [active for active, _ in floods] == [True], "alarmed once"
        assert "400 kB a second" in floods[0][1]
        assert seen.lost()[-1:] == [True]
        pmu.pouring = False
        clock.ahead_s = CALM_S
        async with pmu.behaving():
            await told.until(lambda: seen.lost()[-1:] == [False])
            told_of = [active for code, active, _ in seen.events if code is Code.PMU_FLOOD]
            assert told_of == [True, False], "over when it has long been quiet"


async def test_datagrams_thrown_away_count_too(told: Told) -> None:
    """A flood that comes faster than it is read is seen by what falls out of the inbox."""
    host = "127.0.0.1"
    link = await open_link(settings_for(1, transport="udp"))
    assert isinstance(link, UdpLink)
    loop = asyncio.get_running_loop()
    sender, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, (host, 0))
    to = (host, link.port)
    try:
        for _ in range(DATAGRAMS_MAX):
            sender.sendto(b"x", to)
        while link.waiting < DATAGRAMS_MAX:
            await asyncio.sleep(0)
        assert link.unread == 0
        sender.sendto(b"x", to)
        while not link.unread:
            await asyncio.sleep(0)
        assert (link.unread, link.waiting) == (1, DATAGRAMS_MAX)
    finally:
        sender.close()
        link.close()


@given(st.lists(st.tuples(st.integers(0, 300_000), st.integers(0, 500), st.floats(0.0, 2.0))))
def test_no_more_than_the_measure_is_ever_let_through(reads: list[tuple[int, int, float]]) -> None:
    load, now_s, let_bytes = Load(), 1000.0, 0.0
    for read_bytes, frames, after_s in reads:
        now_s += after_s
        if not load.fits(read_bytes, frames, now_s):
            continue
        let_bytes += read_bytes + FRAME_BYTES * frames
        assert let_bytes <= load.burst_bytes + LOAD_BYTES_PER_S * (now_s - 1000.0) + 1e-6
    assert load.flooding is bool(load.floods)


def test_a_pmu_as_they_are_built_is_never_a_flood() -> None:
    """A concentrator of forty PMUs at 100 frames a second; a network that stalls for a second."""
    load, now_s = Load(), 0.0
    for frame in range(3000):
        now_s += 0.01 if frame % 200 else 1.0
        stalled = 1 if frame % 200 else 100
        assert load.fits(3000 * stalled, stalled, now_s)
    assert not load.calmed(now_s)


def test_a_flood_is_over_after_its_calm_once() -> None:
    load = Load(calm_s=30.0)
    assert not load.fits(10_000_000, 0, 0.0)
    assert (load.floods, load.flooding) == (1, True)
    assert not load.calmed(29.9)
    assert load.calmed(30.0)
    assert not load.calmed(31.0)
    assert not load.flooding
