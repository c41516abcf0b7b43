"""The station under attack: numbers as they come over the wire, clocks that were never set, floods,
slow readers, full buffers. Real sockets; the pure parts beside them."""

import asyncio
import contextlib
import struct
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.scada_rig import (
    ACT,
    ACT_CON,
    OTHER_HOST,
    asdu,
    is_,
    master,
    serving,
    setpoint,
    wire,
)
from tests.virtual_time import VirtualClock, virtual
from vppd.core.settings_scada import StationPointSettings
from vppd.grid.orders import Verb
from vppd.grid.scada_codec import Shown, clock, stated
from vppd.grid.scada_events import Event, EventBuffer
from vppd.grid.scada_pace import FRAMES_MAX, FRAMES_PER_S, LINKS_MAX, Pace

TEST_FRAME = bytes((0x68, 4, 0x43, 0, 0, 0))
NEVER_SET = datetime(1970, 1, 1, 0, 1, tzinfo=UTC)


# ---- numbers ------------------------------------------------------------------------------------


@given(st.integers(-9_999_999, 9_999_999), st.sampled_from([1.0, 1e-3, 1e-6, -1e-3]))
def test_a_short_float_is_the_number_that_was_meant(tenths: int, scale: float) -> None:
    meant = tenths / 10.0
    (wire_value,) = struct.unpack("<f", struct.pack("<f", meant * scale))
    assert stated(wire_value / scale) == pytest.approx(meant, rel=1e-6)
    if abs(tenths) < 1_000_000:
        assert stated(wire_value / scale) == meant


@pytest.mark.parametrize("kw", [400.0, 100.0, 300.0, 12.3, 700.1])
async def test_an_order_exactly_at_the_limit_is_taken(kw: float) -> None:
    """0.4 MW comes as 0.4000000059."""
    async with serving() as site, master(site) as it:
        site.offer = type(site.offer)(kw, kw, 0.0, 0.0)
        for sign in (1.0, -1.0):
            assert await it.command(setpoint(sign * kw / 1000.0))
            assert site.accepted()[-1] == sign * kw
            beyond_mw = sign * (kw + 0.1) / 1000.0
            assert not await it.command(setpoint(beyond_mw))


# ---- clocks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("year", [1970, 1999, 2000, 2026, 2127, 2128])
def test_every_wall_clock_has_a_time_tag(year: int) -> None:
    tag = clock(datetime(year, 3, 4, tzinfo=UTC), ZoneInfo("Asia/Kolkata"), sure=False)
    assert len(tag) == 7
    assert tag[6] == (year - 2000) % 128
    assert tag[2] & 0x80  # and says that it is not sure


async def test_a_clock_that_was_never_set_ends_no_link() -> None:
    async with serving() as site, master(site) as it, master(site, OTHER_HOST) as other:
        site.clock.off_s = (NEVER_SET - site.clock.utc()) / timedelta(seconds=1)
        told = clock(datetime(2026, 1, 1, tzinfo=UTC), ZoneInfo("Asia/Kolkata"), sure=True)
        await other.send(asdu(103, ACT, 0, told))
        await other.until(is_(103, ACT_CON))
        site.values["alarm"] = 1.0
        await other.until(is_(30, 3, 1101))
        await other.connection.async_close()
        await site.until(lambda: Verb.LINK_DOWN in site.verbs())
        assert await it.command(setpoint(0.1))


# ---- floods -------------------------------------------------------------------------------------


@virtual
async def test_the_pace_lets_a_burst_through_and_then_so_many_a_second() -> None:
    clock_ = VirtualClock()
    pace = Pace(clock_, 20.0, 60)
    begun_s = clock_.now_s()
    for _ in range(60):
        await pace.wait()
    assert clock_.now_s() == begun_s
    for _ in range(100):
        await pace.wait()
    assert clock_.now_s() - begun_s == pytest.approx(5.0)
    assert not pace.allows()
    await clock_.sleep_until(clock_.now_s() + 1e6)
    assert sum(pace.allows() for _ in range(100)) == 60


async def test_a_flood_of_frames_leaves_the_loop_to_others() -> None:
    """300 000 test frames: no more are answered than the pace lets through, and another master is
    heard meanwhile."""
    async with serving() as site, master(site, OTHER_HOST) as it, wire(site) as flooder:
        begun_s, answers = site.clock.now_s(), 0
        flooder.send(TEST_FRAME * 300_000)
        await flooder.frame()
        assert await it.command(setpoint(0.1))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                while True:
                    await flooder.frame()
                    answers += 1
        passed_s = site.clock.now_s() - begun_s
        assert answers <= FRAMES_MAX + FRAMES_PER_S * passed_s


async def test_a_host_that_connects_again_and_again_fills_no_journal() -> None:
    async with serving() as site, master(site, OTHER_HOST) as it:
        begun_s = site.clock.now_s()
        for _ in range(4 * LINKS_MAX):
            async with wire(site) as one:
                one.writer.transport.abort()
        await site.until(lambda: Verb.LINK_REFUSED in site.verbs())
        passed_s = site.clock.now_s() - begun_s
        assert site.verbs().count(Verb.LINK_UP) <= LINKS_MAX + passed_s + 3
        assert site.verbs().count(Verb.LINK_REFUSED) <= 3
        assert await it.command(setpoint(0.1))


# ---- buffers ------------------------------------------------------------------------------------


def test_a_full_buffer_is_not_searched_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """At its largest it holds 100 000 events; the site's loop waits for every one that is put."""
    measured = StationPointSettings(address=1, kind="measured", value="power_kw")
    state = StationPointSettings(address=2, kind="single", value="alarm")
    buffer, compared, plain = EventBuffer(1000), 0, Event.__lt__

    def counted(one: Event, other: Event) -> bool:
        nonlocal compared
        compared += 1
        return plain(one, other)

    monkeypatch.setattr(Event, "__lt__", counted)
    for number in range(3000):
        buffer.put(Shown(state if number % 3 == 0 else measured, float(number)))
    assert compared < 3000 * 30
    assert (len(buffer), buffer.lost) == (1000, 2000)
    left = [event for event in (buffer.take() for _ in range(1000)) if event is not None]
    assert [each.number for each in left] == sorted(each.number for each in left)
    # no state went while an older measurement waited
    assert sum(each.shown.point is state for each in left) == 999
