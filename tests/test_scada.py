"""The IEC 60870-5-104 station over real sockets, commanded by hat-drivers' client and by bytes."""

import asyncio
import math
import random
import struct
from datetime import UTC, datetime
from typing import Literal

import pytest

from tests.scada_rig import (
    ACT,
    ACT_TERM,
    CA,
    DEACT,
    DEACT_CON,
    INTERROGATED,
    NEGATIVE,
    OTHER_HOST,
    POINTS,
    SPONTANEOUS,
    STOPDT,
    STOPPED,
    Site,
    asdu,
    interrogation,
    is_,
    master,
    objects,
    serving,
    setpoint,
    settings,
    switch,
    wire,
)
from vppd.core.model import Priority
from vppd.core.settings_scada import MasterSettings, OrderSettings, StationPointSettings
from vppd.grid import points as point_list
from vppd.grid.orders import OrderKind, Verb
from vppd.grid.scada_codec import Shown
from vppd.grid.scada_events import Changes, EventBuffer


async def test_an_interrogation_gets_every_point_between_its_confirmation_and_its_end() -> None:
    async with serving() as site, master(site) as it:
        site.values["soc_pct"] = None
        for address in (CA, 0xFFFF):
            await it.send(interrogation(address))
            await it.until(is_(100, 7), is_(100, ACT_TERM))
            answers = it.heard[[n for n, got in enumerate(it.heard) if is_(100, 7)(got)][-1] :]
            assert all(int.from_bytes(got[4:6], "little") == CA for got in answers)
            shown: dict[int, bytes] = {}
            for got in answers:
                if got[2] & 0x3F == INTERROGATED:
                    shown |= objects(got)
            assert set(shown) == {
                p.address for p in POINTS if p.kind in {"measured", "single", "double"}
            }
            power_mw, quality = struct.unpack("<fB", shown[1001])
            assert (power_mw, quality) == (pytest.approx(0.12), 0)
            assert shown[1002][4] & 0x80  # not known: invalid
            assert (shown[1101], shown[1102], shown[1109]) == (b"\x00", b"\x01", b"\x02")
        assert not await it.command(interrogation(qualifier=21))


async def test_a_direct_order_becomes_a_plan_and_is_told() -> None:
    async with serving() as site, master(site) as it:
        await it.send(setpoint(0.25))
        await it.until(is_(50, 7, 3001), is_(50, ACT_TERM, 3001), is_(36, SPONTANEOUS, 1003))
        plan = site.in_force()
        assert plan is not None
        assert plan.power_kw == pytest.approx(250.0)
        assert (plan.adds, plan.priority) == (False, Priority.ORDER)
        assert await it.command(setpoint(-0.05, 3002))
        delta = site.in_force(OrderKind.DELTA)
        assert delta is not None
        assert delta.power_kw == pytest.approx(-50.0)
        assert delta.adds
        assert site.accepted() == [pytest.approx(250.0), pytest.approx(-50.0)]


@pytest.mark.parametrize("value_mw", [math.nan, math.inf, -math.inf, 1.2, -0.9, 3e38])
@pytest.mark.parametrize("select", [False, True])
async def test_what_is_no_power_of_this_site_is_refused(value_mw: float, select: bool) -> None:
    async with serving() as site, master(site) as it:
        assert await it.command(setpoint(0.1))
        assert not await it.command(setpoint(value_mw, select=select))
        plan = site.in_force()
        assert plan is not None
        assert plan.power_kw == pytest.approx(100.0)
        assert len(site.refusals()) == 1


async def test_select_then_execute() -> None:
    async with serving() as site, master(site) as it:
        assert not await it.command(setpoint(0.2, 3003))  # this point wants a select
        assert await it.command(setpoint(0.2, 3003, select=True))
        assert site.in_force() is None
        assert await it.command(setpoint(0.2, 3003))
        assert site.accepted() == [pytest.approx(200.0)]
        assert not await it.command(setpoint(0.2, 3003))  # one select, one execute


async def test_an_execute_of_something_else_is_refused_and_uses_up_the_select() -> None:
    async with serving() as site, master(site) as it:
        assert await it.command(setpoint(0.2, 3003, select=True))
        assert not await it.command(setpoint(0.3, 3003))
        assert not await it.command(setpoint(0.2, 3003))
        assert site.accepted() == []


async def test_a_select_can_be_cancelled_and_times_out() -> None:
    async with serving() as site, master(site) as it:
        assert not await it.command(setpoint(0.2, 3003, DEACT))  # nothing to cancel
        assert await it.command(setpoint(0.2, 3003, select=True))
        await it.send(setpoint(0.2, 3003, DEACT))
        (answer,) = await it.until(is_(50, DEACT_CON, 3003))
        assert not answer[2] & NEGATIVE
        assert not await it.command(setpoint(0.2, 3003))
        assert await it.command(setpoint(0.2, 3003, select=True))
        site.clock.ahead_s += site.settings.select_timeout_s
        assert not await it.command(setpoint(0.2, 3003))
        assert site.accepted() == []


async def test_a_select_belongs_to_the_link_it_came_by() -> None:
    async with serving() as site, master(site) as first:
        assert await first.command(setpoint(0.2, 3003, select=True))
        async with master(site) as second:  # now it is the one that is started
            assert not await second.command(setpoint(0.2, 3003))
            assert not await second.command(setpoint(0.2, 3003, select=True))
            assert not await second.command(setpoint(0.2, 3003, DEACT))
            await first.connection.async_close()
            await site.until(lambda: Verb.LINK_DOWN in site.verbs())
            assert await second.command(setpoint(0.2, 3003, select=True))
            assert await second.command(setpoint(0.2, 3003))
        assert site.accepted() == [pytest.approx(200.0)]


async def test_only_the_link_started_last_commands_and_gets_data() -> None:
    async with serving() as site, master(site) as first:
        await first.until(is_(70, 4))
        async with master(site, OTHER_HOST) as second:
            assert not await first.command(setpoint(0.1))
            assert not await first.command(interrogation())
            assert await second.command(setpoint(0.3))
            site.values["alarm"] = 1.0
            await second.until(is_(30, SPONTANEOUS, 1101))
            assert not any(is_(30, SPONTANEOUS)(got) for got in first.heard)
        await site.until(lambda: Verb.LINK_DOWN in site.verbs())
        assert await first.command(setpoint(0.1))  # it takes over by itself: it is still started
        assert site.accepted() == [pytest.approx(300.0), pytest.approx(100.0)]


async def test_no_event_is_lost_in_a_switch_over() -> None:
    """The first master never acknowledges what it is sent; the second gets all of it, in order."""
    async with serving({"t1_s": 60.0, "k": 4}) as site:
        async with wire(site) as first:
            await first.start()
            for number in range(10):
                site.values["soc_pct"] = 60.0 + number
                await until_events(site.station.buffer, 2 * (number + 1))
            assert (await first.frame())[6] == 70
            assert [(await first.frame())[6] for _ in range(3)] == [36, 13, 36]
        async with master(site, OTHER_HOST, receive_window_size=2) as second:
            got = [await second.until(is_(36, SPONTANEOUS, 1002)) for _ in range(10)]
        values = [struct.unpack("<f", each[0][9:13])[0] for each in got]
        assert values == [60.0 + number for number in range(10)]
        assert site.station.buffer.lost == 0


async def until_events(buffer: EventBuffer, count: int) -> None:
    async with asyncio.timeout(5.0):
        while len(buffer) < count:
            await asyncio.sleep(0.005)


async def test_a_second_master_from_one_address_and_a_stranger_are_refused() -> None:
    allowed = (MasterSettings(host="127.0.0.1"),)
    async with serving({"masters": allowed}) as site, master(site) as it:
        async with wire(site) as second, wire(site, OTHER_HOST) as stranger:
            assert await second.closed()
            assert await stranger.closed()
        assert await it.command(setpoint(0.1))
        refused = [event.text for event in site.told if event.verb is Verb.LINK_REFUSED]
        assert len(refused) == 2
        assert len(site.station.links) == 1


async def test_a_link_that_is_not_started_commands_nothing() -> None:
    async with serving() as site, wire(site) as it:
        it.asdu(setpoint(0.1))
        await site.until(lambda: Verb.BAD_FRAME in site.verbs())
        await it.start()
        it.asdu(setpoint(0.2))
        await site.until(lambda: Verb.ACCEPTED in site.verbs())
        assert site.accepted() == [pytest.approx(200.0)]


async def test_stopdt_is_the_loss_of_the_link_for_orders() -> None:
    orders = OrderSettings(on_link_loss="schedule")
    async with serving(orders=orders) as site, wire(site) as it:
        await it.start()
        it.asdu(setpoint(0.1))
        await site.until(lambda: site.in_force() is not None)
        it.send(STOPDT)
        while await it.frame() != STOPPED:
            pass
        await site.until(lambda: site.in_force() is None)
        assert site.told[-1].reason == "link_lost"


@pytest.mark.parametrize(("policy", "kept"), [("hold", True), ("schedule", False)])
async def test_link_loss_is_answered_as_configured(
    policy: Literal["hold", "schedule"], kept: bool
) -> None:
    orders = OrderSettings(on_link_loss=policy, hold_s=100.0, expiry_s=20.0)
    async with serving(orders=orders) as site:
        async with master(site) as it:
            assert await it.command(setpoint(0.1))
        await site.until(lambda: Verb.LINK_DOWN in site.verbs())
        site.clock.ahead_s += 50.0
        site.desk.renew()
        assert (site.in_force() is not None) is kept
        site.clock.ahead_s += 60.0
        site.desk.renew()
        assert site.in_force() is None


@pytest.mark.parametrize(
    ("asked", "cause"),
    [
        (asdu(51, ACT, 3001, bytes(5)), 44),  # C_BO_NA_1
        (asdu(101, ACT, 0, b"\x05"), 44),  # counter interrogation
        (asdu(200, ACT, 0, b"\x01\x02"), 44),
        (setpoint(0.1, common_address=9), 46),
        (setpoint(0.1, common_address=0xFFFF), 46),
        (setpoint(0.1, cause=3), 45),
        (setpoint(0.1, 4000), 47),
        (setpoint(0.1, 1001), 47),
        (setpoint(0.1, 3101), 47),
        (asdu(102, 5, 3001, b""), 47),
    ],
)
async def test_what_the_station_does_not_know_is_answered_so(asked: bytes, cause: int) -> None:
    async with serving() as site, master(site) as it:
        await it.send(asked)
        (answer,) = await it.until(lambda got: got[0] == asked[0] and got[2] != asked[2])
        assert answer == asked[:2] + bytes((cause | NEGATIVE,)) + asked[3:]
        assert site.accepted() == []
        assert await it.command(setpoint(0.1))


async def test_the_clock_is_measured_and_never_set() -> None:
    async with serving() as site, master(site) as it:
        tag = struct.pack("<HBBBBB", 5678, 4, 3, 2, 1, 30)  # 03:04:05.678 IST
        before = site.clock.utc()
        await it.send(asdu(103, ACT, 0, tag, 0xFFFF))
        (answer,) = await it.until(is_(103, 7))
        assert int.from_bytes(answer[4:6], "little") == CA
        offset_s = site.station.values()["clock_offset_s"]
        assert offset_s is not None
        expected = datetime(2030, 1, 1, 21, 34, 5, 678_000, UTC) - before
        assert offset_s == pytest.approx(expected.total_seconds(), abs=5.0)
        assert abs((site.clock.utc() - before).total_seconds()) < 5.0
        assert Verb.CLOCK in site.verbs()
        own = struct.unpack("<HBBBBB", answer[9:16])
        assert own[5] == before.year - 2000  # the answer carries the station's time
        assert not await it.command(asdu(103, ACT, 0, tag[:5] + bytes((13, 30))))  # month 13


async def test_timed_commands_must_be_fresh() -> None:
    async with serving() as site, master(site) as it:

        def timed(minutes_late: int) -> bytes:
            at = site.clock.utc().timestamp() + 19_800 - 60 * minutes_late
            local = datetime.fromtimestamp(at, UTC)
            tag = struct.pack(
                "<HBBBBB",
                local.second * 1000,
                local.minute,
                local.hour,
                local.day,
                local.month,
                local.year - 2000,
            )
            return asdu(63, ACT, 3001, struct.pack("<fB", 0.1, 0) + tag)

        assert await it.command(timed(0))
        assert not await it.command(timed(2))
        assert not await it.command(timed(-2))


async def test_a_switch_turns_orders_off_and_on_and_others_by_name() -> None:
    async with serving() as site, master(site) as it:
        assert await it.command(setpoint(0.1))
        assert await it.command(switch(False))
        assert site.in_force() is None
        assert not await it.command(setpoint(0.1))
        assert await it.command(switch(True))
        assert await it.command(setpoint(0.1))
        assert not await it.command(switch(False, 3102))
        assert await it.command(switch(False, 3102, select=True))
        assert await it.command(switch(False, 3102))
        assert site.droop == [False]


async def test_a_test_command_moves_nothing() -> None:
    async with serving() as site, master(site) as it:
        marked = bytearray(setpoint(0.1))
        marked[2] |= 0x80
        assert await it.command(bytes(marked))
        assert site.accepted() == []


async def test_cyclic_values_have_no_time_tag() -> None:
    async with serving({"cyclic_s": 0.1}) as site, master(site) as it:
        await it.until(is_(13, 1, 1001), is_(13, 1, 1001))


async def test_events_carry_the_time_of_the_change_in_the_zone_of_the_station() -> None:
    async with serving() as site, master(site) as it:
        await it.command(interrogation())
        site.values["breaker_closed"] = 0.0
        (got,) = await it.until(is_(31, SPONTANEOUS, 1109))
        now = datetime.fromtimestamp(site.clock.utc().timestamp() + 19_800, UTC)
        millis, minute, hour, day, month, year = struct.unpack("<HBBBBB", got[10:17])
        told = datetime(
            2000 + year, month, day & 31, hour & 31, minute & 63, millis // 1000, tzinfo=UTC
        )
        assert got[9] == 1  # open
        assert abs((now - told).total_seconds()) < 5.0
        assert day >> 5 == told.isoweekday()


async def test_no_bytes_end_the_station() -> None:
    """Garbage ends a connection at worst; broken ASDUs in good frames not even that."""
    chance = random.Random(104)
    async with serving() as site, master(site, OTHER_HOST) as it:
        for _ in range(20):
            async with wire(site) as broken:
                await broken.start()
                for _ in range(chance.randrange(1, 8)):
                    broken.send(chance.randbytes(chance.randrange(1, 60)))
        async with wire(site) as broken:
            await broken.start()
            for size in range(1, 40):
                junk = bytearray(chance.randbytes(size))
                junk[0] = chance.choice((45, 50, 58, 63, 100, 102, 103, 107, junk[0]))
                broken.asdu(bytes(junk))
            broken.asdu(setpoint(0.1)[:-1])
            broken.asdu(setpoint(0.1) + b"\x00")
            broken.asdu(setpoint(0.15))
            await site.until(lambda: Verb.ACCEPTED in site.verbs())
        assert site.accepted() == [pytest.approx(150.0)]
        await site.until(lambda: len(site.station.links) == 1)
        assert await it.command(setpoint(0.2))


def test_a_dead_band_is_counted_from_what_was_told_last() -> None:
    point = StationPointSettings(address=1, kind="measured", value="power_kw", moves_by=5.0)
    changes, now = Changes((point,)), datetime(2026, 1, 1, tzinfo=UTC)
    told = [
        [shown.value for shown in changes.since({"power_kw": value}, now)]
        for value in (0.0, 3.0, 4.9, 5.0, 9.0, 0.5, 0.0, None, None, 0.0)
    ]
    assert told == [[], [], [], [5.0], [], [], [0.0], [None], [], [0.0]]


def test_a_full_buffer_gives_up_the_oldest_measurement_first() -> None:
    measured = StationPointSettings(address=1, kind="measured", value="power_kw")
    state = StationPointSettings(address=2, kind="single", value="alarm")
    buffer = EventBuffer(3)
    kept = [
        buffer.put(Shown(point, value))
        for point, value in ((state, 1.0), (measured, 1.0), (measured, 2.0), (state, 0.0))
    ]
    assert kept == [True, True, True, False]
    first = buffer.take()
    assert first is not None
    buffer.give_back(first)
    left = []
    while (event := buffer.take()) is not None:
        left.append((event.shown.point.address, event.shown.value))
    assert (left, buffer.lost) == ([(2, 1.0), (1, 2.0), (2, 0.0)], 1)


def test_the_shipped_list_is_usable_and_a_wrong_one_is_told() -> None:
    assert list(point_list.wrong(point_list.DEFAULT)) == []
    twice = StationPointSettings(address=1, kind="setpoint", value="power_kw", scale=0.0)
    assert len(list(point_list.wrong((twice, twice)))) == 5
    with pytest.raises(ValueError, match="address 1"):
        Site(settings(points=(twice, twice)))
