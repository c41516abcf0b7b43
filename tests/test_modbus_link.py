"""Links and polls in virtual time over the real frames: who is asked what, and when."""

import asyncio
import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from tests.modbus_device import FakeDevice, Rig, Server, shipped, unit_settings, until
from tests.virtual_time import VirtualClock, virtual
from vppd.core.alarms import Code
from vppd.core.model import (
    DeviceNotice,
    LinkChange,
    Outcome,
    Point,
    Quality,
    ReadBack,
    ReadBackResult,
    UnitId,
    WriteResult,
)
from vppd.core.profile import Writable
from vppd.core.settings import InputModbusSettings, InterlockInputSettings

U1, U2 = UnitId("U1"), UnitId("U2")
TIMER, HEARTBEAT, MODE, ENABLED, SETPOINT = 0x2005, 0x2006, 0x2002, 0x2003, 0x2000


async def site(
    count: int = 1, profile: Any = None, one_server: bool = False, **modbus: Any
) -> tuple[Rig, list[FakeDevice], list[Server]]:
    """Units U1.. each on its own server, or all behind one."""
    clock = VirtualClock()
    devices = [FakeDevice() for _ in range(count)]
    servers: list[Server] = []
    units = []
    behind = dict(enumerate(devices, start=1))
    for n, device in enumerate(devices, start=1):
        if not servers or not one_server:
            servers.append(Server(clock, behind if one_server else {1: device}))
            await servers[-1].start()
        at = servers[-1]
        unit_id = n if one_server else 1
        units.append(unit_settings(f"U{n}", at.host, at.port, unit_id=unit_id, **modbus))
    return Rig(clock, units, profile or shipped()), devices, servers


@virtual
async def test_everything_is_read_and_means_what_the_document_says() -> None:
    rig, _, _ = await site()
    async with rig.running():
        await until(lambda: rig.value(Point.CYCLES) is not None, rig.clock)
        expected = {
            Point.SOC_PCT: 55.3,
            Point.VOLTAGE_V: 56.0,
            Point.CURRENT_A: 10.0,
            Point.TEMPERATURE_C: 25.1,
            Point.POWER_KW: 50.0,
            Point.REACTIVE_KVAR: -1.0,
            Point.FREQUENCY_HZ: 49.98,
            Point.STATUS_BITS: 1.0,
            Point.ENERGY_CAPACITY_KWH: 250.0,
            Point.RATED_POWER_KW: 100.0,
            Point.CYCLES: 17.0,
            Point.COMMAND_TIMEOUT_S: 0.0,
        }
        assert {point: rig.value(point) for point in expected} == expected
        assert rig.of(LinkChange) == [LinkChange(U1, True, rig.of(LinkChange)[0].at_s, "answers")]


@virtual
async def test_current_of_the_whole_unit_is_shown_of_one_module() -> None:
    rig, (device,), _ = await site(profile=shipped(dc_total=True))
    device.inputs[0x1003] = 0x10000 - 2300
    async with rig.running():
        await until(lambda: rig.value(Point.CURRENT_A) is not None, rig.clock)
        assert rig.value(Point.CURRENT_A) == pytest.approx(10.0)


@virtual
async def test_a_reading_is_as_old_as_its_request() -> None:
    rig, (device,), _ = await site()
    device.delay_s = 0.3
    async with rig.running():
        await until(lambda: rig.readings, rig.clock)
        assert rig.readings[0].at_s == pytest.approx(device.log[0].at_s, abs=0.01)
        assert rig.clock.now_s() - rig.readings[0].at_s >= 0.3


@virtual
async def test_groups_are_polled_each_at_its_period() -> None:
    rig, (device,), _ = await site(poll_s=0.5)
    async with rig.running():
        await rig.tick(61.0)
        fast = [asked for asked in device.reads() if asked.address == 0x1000]
        slow = [asked for asked in device.reads() if asked.address == 0x1020]
        assert 121 <= len(fast) <= 124
        assert 6 <= len(slow) <= 8
        gaps = [b.at_s - a.at_s for a, b in pairwise(fast[2:])]
        assert all(gap == pytest.approx(0.5, abs=0.01) for gap in gaps)


@virtual
async def test_polls_of_a_site_are_spread_over_the_period() -> None:
    rig, devices, _ = await site(count=10, poll_s=0.5)
    async with rig.running():
        await rig.tick(5.0)
        begun = sorted(
            max(asked.at_s for asked in device.reads() if asked.address == 0x1000) % 0.5
            for device in devices
        )
        gaps = [b - a for a, b in zip(begun, [*begun[1:], begun[0] + 0.5], strict=True)]
        assert max(gaps) < 0.1
        assert min(gaps) > 0.01


@virtual
async def test_a_device_is_read_before_it_is_written() -> None:
    rig, (device,), _ = await site()
    device.delay_s = 0.05
    rig.actuators[U1].enable(on=True)
    async with rig.running():
        await rig.tick(1.0, 20.0)
    functions = [asked.function for asked in device.log]
    assert functions[0] in (3, 4)
    told = [asked.address for asked in device.writes()]
    assert told[:5] == [TIMER, MODE, ENABLED, HEARTBEAT, SETPOINT], "in this order"
    assert device.holding[SETPOINT] == 0x10000 - 200
    assert (device.holding[TIMER], device.holding[MODE], device.holding[ENABLED]) == (5, 3, 1)


@virtual
async def test_zero_waits_for_nothing() -> None:
    rig, (device,), _ = await site()
    rig.actuators[U1].enable(on=True)
    async with rig.running():
        await rig.tick(0.5, 0.0)
    assert [asked.address for asked in device.writes()][:2] == [SETPOINT, TIMER]


@virtual
async def test_a_write_goes_ahead_of_queued_reads() -> None:
    rig, devices, _ = await site(count=4, one_server=True)
    for device in devices:
        device.delay_s = 0.05
    async with rig.running():
        await rig.tick(3.0, 0.0)
        for _ in range(20):
            await rig.clock.sleep_until(rig.clock.now_s() + 0.137)
            offered_s = rig.offer(float(rig.clock.now_s() * 1000 % 90)).at_s
            await rig.clock.sleep_until(offered_s + 0.12)
            write = devices[0].writes(SETPOINT)[-1]
            assert 0.0 <= write.at_s - offered_s <= 0.051, "at most the one read under way"


@virtual
async def test_a_busy_slow_line_is_still_read() -> None:
    """Every tick brings a new setpoint and each request takes longer than a tick."""
    rig, (device,), _ = await site()
    device.delay_s = 0.15
    rig.actuators[U1].enable(on=True)
    async with rig.running():
        for n in range(300):
            rig.offer(10.0 + n % 7)
            await rig.clock.sleep_until(rig.clock.now_s() + 0.1)
        fast = [asked.at_s for asked in device.reads() if asked.address == 0x1000]
        assert max(b - a for a, b in pairwise(fast)) < 2.5
        assert len(device.writes(SETPOINT)) > 60
        assert len(device.writes(HEARTBEAT)) > 15


@virtual
async def test_a_dead_device_does_not_slow_its_neighbour() -> None:
    rig, (alive, dead), (server,) = await site(count=2, one_server=True, timeout_s=0.3)
    async with rig.running():
        await rig.tick(5.0, 0.0)
        dead.silent = True
        del dead.log[:]
        went_s = rig.clock.now_s()
        await rig.tick(120.0, 5.0)
        tried = [asked.at_s for asked in dead.log]
        assert len(tried) < 20
        gaps = [b - a for a, b in pairwise(tried)]
        assert max(gaps) <= 10.0 + 0.3 + 0.6
        assert gaps[-1] >= 9.9
        assert gaps[2:6] == sorted(gaps[2:6])
        fast = [asked.at_s for asked in alive.reads() if asked.address == 0x1000]
        assert max(b - a for a, b in pairwise(fast)) < 0.5 + 0.3 + 0.1
        assert [each.up for each in rig.of(LinkChange, "U2")] == [True, False]
        assert rig.of(LinkChange, "U2")[1].at_s - went_s < 0.5 + 2 * 0.3 + 0.1
        assert "no answer within 0.3 s" in rig.of(LinkChange, "U2")[1].text
        assert [each.up for each in rig.of(LinkChange)] == [True]
        wanted = [each for each in alive.writes() if each.address in (TIMER, MODE)]
        assert len(wanted) == 1, "a connection that we closed ourselves resets no neighbour"
        assert server.opened > 5
        dead.silent = False
        back_s = rig.clock.now_s()
        await until(lambda: rig.of(LinkChange, "U2")[-1].up, rig.clock, 11.0)
        assert rig.clock.now_s() - back_s < 10.5
        assert rig.value(Point.SOC_PCT, "U2") == 55.3


@virtual
async def test_one_lost_frame_is_no_loss() -> None:
    rig, (device,), _ = await site(timeout_s=0.2)
    async with rig.running():
        await rig.tick(2.0, 0.0)
        device.silent = True
        asked = len(device.log)
        await until(lambda: len(device.log) > asked, rig.clock)
        device.silent = False
        await rig.tick(3.0, 0.0)
        assert [each.up for each in rig.of(LinkChange)] == [True]
        assert rig.counters()[U1].no_reply == 1


@virtual
async def test_a_host_that_goes_and_comes_back() -> None:
    rig, (device,), (server,) = await site()
    rig.actuators[U1].enable(on=True)
    async with rig.running():
        await rig.tick(2.0, 20.0)
        server.stop()
        stopped_s = rig.clock.now_s()
        await until(lambda: not rig.of(LinkChange)[-1].up, rig.clock)
        assert rig.clock.now_s() - stopped_s < 0.1
        assert "refused" in rig.of(LinkChange)[-1].text
        asked = len(rig.of(WriteResult))
        await rig.tick(60.0, 20.0)
        assert [each.up for each in rig.of(LinkChange)] == [True, False], "told once"
        assert len(rig.of(WriteResult)) - asked <= 1
        device.restart()
        del device.log[:]
        await server.start()
        await until(lambda: rig.of(LinkChange)[-1].up, rig.clock, 10.5)
        await rig.tick(3.0, 20.0)
        assert device.log[0].function in (3, 4)
        told = [asked.address for asked in device.writes()]
        assert told.index(TIMER) < told.index(SETPOINT)
        assert device.holding[SETPOINT] == 0x10000 - 200
        assert (device.holding[MODE], device.holding[ENABLED], device.holding[TIMER]) == (3, 1, 5)
        notices = [each for each in rig.of(DeviceNotice) if each.code is Code.DEVICE_RESET]
        assert [each.active for each in notices] == [True, False]


@virtual
async def test_a_host_that_accepts_and_hangs_up_is_not_stormed() -> None:
    rig, (device,), (server,) = await site()
    device.silent = True

    def hang_up() -> None:
        for transport in list(server.open):
            transport.abort()

    async with rig.running():
        for _ in range(600):
            hang_up()
            await rig.clock.sleep_until(rig.clock.now_s() + 0.05)
        assert server.opened < 15
        assert [each.up for each in rig.of(LinkChange)] == [False]


@virtual
async def test_a_cable_that_is_cut_and_mended() -> None:
    rig, (device,), (server,) = await site(timeout_s=0.5)
    loop: Any = asyncio.get_running_loop()
    async with rig.running():
        await rig.tick(2.0, 7.0)
        loop.cut(server.host, server.port)
        await rig.tick(30.0, 7.0)
        assert [each.up for each in rig.of(LinkChange)] == [True, False]
        assert rig.value(Point.SOC_PCT) is None
        loop.mend(server.host, server.port)
        await until(lambda: rig.of(LinkChange)[-1].up, rig.clock, 11.0)
        await rig.tick(1.0, 7.0)
        assert device.holding[SETPOINT] == 0x10000 - 70


@virtual
async def test_a_hole_is_learned_and_the_rest_is_polled() -> None:
    rig, (device,), _ = await site()
    async with rig.running():
        await rig.tick(3.0)
        assert rig.value(Point.SOC_PCT) == 55.3
        assert rig.value(Point.FAULT_BITS) == 0.0
        assert rig.counters()[U1].holes == 1
        refused = rig.counters()[U1].refused
        await rig.tick(30.0)
        assert rig.counters()[U1].refused == refused == 1
        asked = [(each.address, each.size) for each in device.reads() if each.function == 4][-6:]
        assert {(0x1000, 8), (0x1010, 3)} <= set(asked)
        assert rig.of(DeviceNotice) == []


@virtual
async def test_a_device_that_answers_zeros_in_a_hole_is_read_in_one_block() -> None:
    rig, (device,), _ = await site()
    device.zeros = True
    async with rig.running():
        await rig.tick(3.0)
        assert {(each.address, each.size) for each in device.reads() if each.function == 4} == {
            (0x1000, 19),
            (0x1020, 3),
        }
        assert rig.counters()[U1].holes == 0
        assert set(rig.bus.snapshot().readings) == {(U1, point) for point in shipped().points}


@virtual
async def test_a_point_the_device_lacks_is_missing_and_tried_again_rarely() -> None:
    rig, (device,), _ = await site()
    del device.inputs[0x1004]
    async with rig.running():
        await rig.tick(3.0)
        snapshot = rig.bus.snapshot()
        assert snapshot.quality(U1, Point.TEMPERATURE_C) is Quality.MISSING
        for point in shipped().points:
            if point is not Point.TEMPERATURE_C:
                assert snapshot.quality(U1, point) is Quality.GOOD, point
        (notice,) = rig.of(DeviceNotice)
        assert (notice.code, notice.active) == (Code.READING_MISSING, True)
        assert "temperature_c" in notice.text
        refused = rig.counters()[U1].refused
        await rig.tick(100.0)
        assert rig.counters()[U1].refused - refused == 2, "after 30 s, after 60 more"
        device.inputs[0x1004] = 300
        await rig.tick(120.0)
        assert rig.value(Point.TEMPERATURE_C) == 30.0
        assert [each.active for each in rig.of(DeviceNotice)] == [True, False]


@virtual
async def test_a_device_that_fails_its_reads_teaches_no_hole() -> None:
    rig, (device,), _ = await site()
    device.zeros = True
    async with rig.running():
        await rig.tick(2.0)
        device.fails = 4
        await rig.tick(5.0)
        assert rig.bus.snapshot().quality(U1, Point.SOC_PCT) is Quality.STALE
        assert "exception 4 (device failure)" in rig.of(DeviceNotice)[-1].text
        device.fails = 0
        await rig.tick(11.0)
        assert rig.counters()[U1].holes == 0
        assert rig.value(Point.SOC_PCT) == 55.3
        assert not rig.of(DeviceNotice)[-1].active
        assert [each.up for each in rig.of(LinkChange)] == [True]


@virtual
async def test_what_was_written_is_read_back() -> None:
    rig, (device,), _ = await site()
    async with rig.running():
        await rig.tick(3.0, 20.0)
        assert {each.verdict for each in rig.of(ReadBackResult)} == {ReadBack.SAME}
        assert len(rig.of(ReadBackResult)) >= 4
        device.holding[SETPOINT] = 77  # somebody else
        await rig.tick(1.0, 20.0)
        changed = [each for each in rig.of(ReadBackResult) if each.verdict is ReadBack.CHANGED]
        assert [(each.expected_kw, each.seen_kw) for each in changed] == [(20.0, -7.7)]
        assert device.holding[SETPOINT] == 0x10000 - 200, "sent again at the next offer"
        device.holding[SETPOINT] = 0
        await rig.tick(1.0, 20.0)
        assert [each.verdict for each in rig.of(ReadBackResult)].count(ReadBack.REVERTED) == 1
        assert rig.of(ReadBackResult)[-1].verdict is ReadBack.SAME
        assert device.holding[SETPOINT] == 0x10000 - 200


@virtual
async def test_a_tick_that_stops_ends_the_heartbeat_and_the_renewals() -> None:
    rig, (device,), _ = await site()
    async with rig.running():
        await rig.tick(10.0, 20.0)
        beats = [asked.at_s for asked in device.writes(HEARTBEAT)]
        gaps = [b - a for a, b in pairwise(beats)]
        assert all(0.99 <= gap <= 1.2 for gap in gaps)
        renewed = [asked.at_s for asked in device.writes(SETPOINT)]
        gaps = [b - a for a, b in pairwise(renewed)]
        assert all(2.4 <= gap <= 2.7 for gap in gaps)
        assert len(gaps) >= 3
        del device.log[:]
        await rig.tick(20.0)
        assert device.writes() == []


@virtual
async def test_a_device_that_restarts_without_a_word_is_told_everything_again() -> None:
    for name in ("vpp-bess-v2", "vpp-bess"):
        rig, (device,), _ = await site(profile=shipped(name))
        rig.actuators[U1].enable(on=True)
        async with rig.running():
            await rig.tick(5.0, 20.0)
            device.restart()
            await rig.tick(2.0, 20.0)
            assert device.holding[SETPOINT] == 0x10000 - 200
            assert (device.holding[MODE], device.holding[ENABLED]) == (3, 1)
            codes = [(each.code, each.active) for each in rig.of(DeviceNotice)]
            assert codes.count((Code.DEVICE_RESET, True)) == 1, name
            assert codes.count((Code.DEVICE_RESET, False)) == 1, name


@virtual
async def test_stopping_writes_zero_reads_it_back_and_leaves() -> None:
    on_stop = shipped().disable[1:]
    rig, (device,), _ = await site(profile=shipped(on_stop=on_stop), poll_s=5.0)
    rig.actuators[U1].enable(on=True)
    async with rig.running():
        await rig.tick(11.0, 20.0)
        rig.offer(0.0)
        begun_s = rig.clock.now_s()
        async with asyncio.timeout(2.0):
            await rig.actuators[U1].finish()
        assert rig.clock.now_s() - begun_s < 0.1, "the read-back is asked for at once"
        last = [(asked.function, asked.address) for asked in device.log][-4:]
        assert last.index((16, SETPOINT)) < last.index((3, 0x2000)) < last.index((16, ENABLED))
        assert (device.holding[SETPOINT], device.holding[ENABLED]) == (0, 0)


@virtual
async def test_stopping_waits_for_a_zero_that_the_profile_delays() -> None:
    profile = shipped()
    slow = {
        **profile.writes,
        Writable.POWER_KW: replace(profile.writes[Writable.POWER_KW], period_s=0.3),
    }
    rig, (device,), _ = await site(profile=shipped(writes=slow), poll_s=5.0)
    async with rig.running():
        await rig.tick(11.0, 20.0)
        rig.offer(30.0)
        await rig.clock.sleep_until(rig.clock.now_s() + 0.05)
        rig.offer(0.0)
        begun_s = rig.clock.now_s()
        async with asyncio.timeout(2.0):
            await rig.actuators[U1].finish()
        assert 0.2 < rig.clock.now_s() - begun_s < 0.4
        assert device.holding[SETPOINT] == 0


@virtual
async def test_stopping_a_device_that_does_not_hear_is_tried_again_and_given_up() -> None:
    rig, (device,), _ = await site(timeout_s=0.2)
    async with rig.running():
        await rig.tick(3.0, 20.0)
        device.silent = True
        rig.offer(0.0)
        async with asyncio.timeout(3.0):
            await rig.actuators[U1].finish()
        assert rig.of(WriteResult)[-1].outcome is Outcome.LOST
        assert device.holding[SETPOINT] != 0
    rig, (device,), _ = await site(timeout_s=0.2)
    async with rig.running():
        await rig.tick(3.0, 20.0)
        device.silent = True
        rig.offer(0.0)
        asyncio.get_running_loop().call_later(0.15, setattr, device, "silent", False)
        async with asyncio.timeout(3.0):
            await rig.actuators[U1].finish()
        assert device.holding[SETPOINT] == 0


@virtual
async def test_interlock_inputs_share_a_link_and_are_judged_by_their_healthy_state() -> None:
    clock = VirtualClock()
    fire = FakeDevice(bits={3: 1, 7: 1})
    server = Server(clock, {1: FakeDevice(), 9: fire})
    await server.start()
    at: dict[str, Any] = {"host": server.host, "port": server.port, "unit_id": 9, "timeout_s": 0.2}
    inputs = [
        InterlockInputSettings(
            id="fire", scope="site", modbus=InputModbusSettings(discrete_input=3, **at)
        ),
        InterlockInputSettings(
            id="door", scope="site", healthy=0, modbus=InputModbusSettings(coil=7, **at)
        ),
    ]
    rig = Rig(clock, [unit_settings("U1", server.host, server.port)], shipped(), inputs)
    assert len(rig.links) == 1
    async with rig.running():
        await rig.tick(2.0)
        assert rig.value(Point.HEALTHY, "input:fire") == 1.0
        assert rig.value(Point.HEALTHY, "input:door") == 0.0
        fire.bits = {3: 0, 7: 0}
        await rig.tick(1.0)
        assert rig.value(Point.HEALTHY, "input:fire") == 0.0
        assert rig.value(Point.HEALTHY, "input:door") == 1.0
        assert {asked.function for asked in fire.log} == {1, 2}
        (reading,) = [each for each in rig.readings if each.unit == "input:fire"][-1:]
        assert reading.max_age_s == pytest.approx(2 * 0.5 + 0.2)
        fire.silent = True
        await rig.tick(3.0)
        assert rig.value(Point.HEALTHY, "input:fire") is None
        assert [each.up for each in rig.of(LinkChange, "input:fire")] == [True, False]
        assert rig.value(Point.SOC_PCT) == 55.3


@virtual
async def test_an_interlock_that_is_refused_is_silent_and_says_why() -> None:
    clock = VirtualClock()
    server = Server(clock, {9: FakeDevice()})
    await server.start()
    at = InputModbusSettings(host=server.host, port=server.port, unit_id=9, discrete_input=3)
    rig = Rig(clock, [], shipped(), [InterlockInputSettings(id="fire", scope="site", modbus=at)])
    async with rig.running():
        await rig.tick(2.0)
        assert rig.value(Point.HEALTHY, "input:fire") is None
        assert "illegal address" in rig.of(DeviceNotice, "input:fire")[0].text


@virtual
async def test_a_read_only_profile_has_no_actuator() -> None:
    rig, (device,), _ = await site(profile=shipped(read_only=True))
    assert rig.actuators == {}
    async with rig.running():
        await rig.tick(2.0)
        assert rig.value(Point.SOC_PCT) == 55.3
        assert device.writes() == []


@virtual
async def test_stop_lets_the_request_under_way_end_and_a_cancel_does_not_hang() -> None:
    rig, (device,), _ = await site()
    device.delay_s = 0.4
    (link,) = rig.links
    async with asyncio.TaskGroup() as group:
        task = group.create_task(link.run())
        await until(lambda: device.log, rig.clock)
        link.stop()
        await task
    assert len(rig.readings) > 0, "the reply was still taken"
    asked = len(device.log)
    rig, (device,), _ = await site()
    (link,) = rig.links
    for after_s in (0.0, 0.001, 0.01, 0.5, 0.7501):
        async with asyncio.TaskGroup() as group:
            task = group.create_task(link.run())
            await rig.clock.sleep_until(rig.clock.now_s() + after_s)
            task.cancel()
        assert task.cancelled()
    assert asked == 1


def test_two_units_on_one_serial_line_share_a_link() -> None:
    async def main() -> None:
        clock = VirtualClock()
        tty = "/dev/ttyX"
        units = [unit_settings(f"U{n}", None, 502, unit_id=n, serial=tty) for n in (1, 2)]
        assert len(Rig(clock, units, shipped()).links) == 1
        units.append(unit_settings("U3", None, 502, unit_id=3, serial=tty, baudrate=4800))
        with pytest.raises(ValueError, match="different line settings"):
            Rig(clock, units, shipped())

    asyncio.run(main())


def test_nan_is_what_a_missing_reading_holds() -> None:
    """What says MISSING must not look like a number to whoever forgets to ask."""

    @virtual
    async def main() -> None:
        rig, (device,), _ = await site()
        del device.inputs[0x1001]
        async with rig.running():
            await rig.tick(2.0)
            assert math.isnan(rig.bus.snapshot().readings[U1, Point.SOH_PCT].value)

    main()
