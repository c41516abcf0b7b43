"""The SunSpec driver on its link before devices made by pysunspec2: found, driven, taken back."""

import asyncio
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from tests.modbus_device import FakeDevice, until
from tests.sunspec_device import (
    DER,
    M701,
    M702,
    M704,
    STORAGE,
    U1,
    Inverter,
    SunSpecRig,
    chain_words,
    driven,
    sample_words,
    unit_of,
)
from tests.virtual_time import VirtualClock, virtual
from vppd.core.alarms import Code
from vppd.core.model import (
    DeviceNotice,
    LinkChange,
    Outcome,
    Point,
    ReadBack,
    ReadBackResult,
    WriteResult,
)
from vppd.field.drivers.sunspec import SunSpecDevice
from vppd.field.presence import Presence
from vppd.spine.bus import Bus
from vppd.spine.clock import SystemClock

DER_WORDS = chain_words(list(DER.items()))
STORAGE_WORDS = chain_words(list(STORAGE.items()))


def verdicts(rig: SunSpecRig) -> list[ReadBack]:
    return [each.verdict for each in rig.of(ReadBackResult)]


def notices(rig: SunSpecRig, code: Code) -> list[bool]:
    return [each.active for each in rig.of(DeviceNotice) if each.code is code]


def der(**changes: Any) -> dict[int, Any]:
    """The models of the 704 device with other values of 704."""
    return {**DER, 704: {**M704, **changes}}


async def running(rig: SunSpecRig, power_kw: float = 0.0) -> None:
    """Found, enabled, and holding this power."""
    rig.device.actuator.enable(on=True)
    for _ in range(100):
        await rig.tick(0.1, power_kw)
        if rig.of(ReadBackResult) and rig.of(ReadBackResult)[-1].expected_kw == power_kw:
            return
    raise AssertionError("it never held its setpoint")


# ---- what is read -----------------------------------------------------------------------------


@virtual
async def test_the_readings_of_a_704_inverter() -> None:
    clock = VirtualClock()
    async with (
        asyncio.TaskGroup() as group,
        driven(clock, group, Inverter(words=DER_WORDS)) as (rig, _),
    ):
        await rig.tick(2.0, 0.0)
        seen = {
            Point.INVERTER_KW: 48.0,
            Point.INVERTER_KVAR: -5.0,
            Point.INVERTER_KVA: 48.26,
            Point.INVERTER_POWER_FACTOR: 0.995,
            Point.INVERTER_HZ: 50.01,
            Point.INVERTER_C: 41.5,
            Point.INVERTER_DC_KW: 50.0,
            Point.INVERTER_DC_V: 714.3,
            Point.INVERTER_DC_A: 70.0,
            Point.INVERTER_STATE: 4.0,
            Point.INVERTER_SOC_PCT: 55.3,
            Point.INVERTER_FAULT_BITS: 0.0,
            Point.INVERTER_ALARM_BITS: 0.0,
            Point.INVERTER_HEARTBEAT: 77.0,
            Point.INVERTER_EFFICIENCY_PCT: 96.0,
            Point.DISCHARGE_MAX_KW: 98.0,
            Point.CHARGE_MAX_KW: 90.0,
            Point.APPARENT_MAX_KVA: 105.0,
        }
        assert {point: rig.value(point) for point in seen} == pytest.approx(seen)


@virtual
async def test_the_readings_of_a_124_inverter() -> None:
    clock = VirtualClock()
    async with (
        asyncio.TaskGroup() as group,
        driven(clock, group, Inverter(words=STORAGE_WORDS)) as (rig, _),
    ):
        await rig.tick(2.0, 0.0)
        seen = {
            Point.INVERTER_KW: 48.0,
            Point.INVERTER_KVAR: -5.0,
            Point.INVERTER_POWER_FACTOR: 0.995,
            Point.INVERTER_HZ: 50.01,
            Point.INVERTER_DC_KW: 50.0,
            Point.INVERTER_DC_V: 714.3,
            Point.INVERTER_STATE: 4.0,
            Point.INVERTER_SOC_PCT: 55.3,
            Point.INVERTER_FAULT_BITS: 0.0,
            Point.INVERTER_EFFICIENCY_PCT: 96.0,
            Point.DISCHARGE_MAX_KW: 98.0,
            Point.CHARGE_MAX_KW: 95.0,
            Point.APPARENT_MAX_KVA: 105.0,
        }
        assert {point: rig.value(point) for point in seen} == pytest.approx(seen)


@virtual
async def test_the_only_device_of_a_unit_has_the_plain_points() -> None:
    clock = VirtualClock()
    async with (
        asyncio.TaskGroup() as group,
        driven(clock, group, Inverter(words=DER_WORDS), modbus=None) as (rig, _),
    ):
        await rig.tick(2.0, 0.0)
        assert rig.value(Point.POWER_KW) == 48.0
        assert rig.value(Point.SOC_PCT) == 55.3
        assert rig.value(Point.SOH_PCT) == 99.0
        assert rig.value(Point.INVERTER_KW) is None
        assert rig.value(Point.INVERTER_EFFICIENCY_PCT) == pytest.approx(96.0)


@virtual
async def test_faults_alarms_and_states() -> None:
    clock, inverter = VirtualClock(), Inverter(words=DER_WORDS)
    async with asyncio.TaskGroup() as group, driven(clock, group, inverter) as (rig, _):
        await rig.tick(2.0, 0.0)
        inverter.put(701, "Alrm", 0x0001, 0x0081)  # MANUFACTURER_ALRM, OVER_TEMP, GROUND_FAULT
        inverter.put(701, "InvSt", 6)
        await rig.tick(1.0, 0.0)
        assert rig.value(Point.INVERTER_FAULT_BITS) == 0x81
        assert rig.value(Point.INVERTER_ALARM_BITS) == 0x10000
        assert rig.value(Point.INVERTER_STATE) == 7.0
        inverter.put(701, "Alrm", 0xFFFF, 0xFFFF)
        inverter.put(701, "InvSt", 0xFFFF)  # what is left is St: on
        await rig.tick(1.0, 0.0)
        assert rig.value(Point.INVERTER_FAULT_BITS) == 0.0
        assert rig.value(Point.INVERTER_STATE) == 4.0
        inverter.put(701, "St", 0xFFFF)  # neither events nor a state
        await rig.tick(1.0, 0.0)
        assert rig.value(Point.INVERTER_FAULT_BITS) is None
        assert rig.value(Point.INVERTER_STATE) is None


@virtual
async def test_a_setting_that_is_narrowed_is_seen() -> None:
    clock, inverter = VirtualClock(), Inverter(words=DER_WORDS)
    async with asyncio.TaskGroup() as group, driven(clock, group, inverter) as (rig, _):
        await rig.tick(2.0, 0.0)
        inverter.put(702, "WMax", 3000)
        inverter.put(702, "WChaRteMax", 0)
        await rig.tick(11.0, 0.0)
        assert rig.value(Point.DISCHARGE_MAX_KW) == 30.0
        assert rig.value(Point.CHARGE_MAX_KW) == 0.0


@virtual
async def test_value_and_exponent_change_together() -> None:
    """Every reading is of one read: no instant shows the new count by the old exponent."""
    clock, inverter = VirtualClock(), Inverter(words=DER_WORDS)
    async with asyncio.TaskGroup() as group, driven(clock, group, inverter) as (rig, _):
        await rig.tick(2.0, 0.0)
        for count, tens in ((480, 2), (4800, 1), (48, 3), (480, 2)):
            inverter.put(701, "W", count)
            inverter.put(701, "W_SF", tens)
            await rig.tick(0.7, 0.0)
        seen = {each.value for each in rig.readings if each.point is Point.INVERTER_KW}
        assert seen == {48.0}


# ---- drive 704 --------------------------------------------------------------------------------


@virtual
async def test_704_is_enabled_set_and_read_back() -> None:
    clock, inverter = VirtualClock(), Inverter(words=DER_WORDS)
    async with asyncio.TaskGroup() as group, driven(clock, group, inverter) as (rig, _):
        await running(rig)
        await rig.tick(2.0, 50.0)
        assert inverter.word(704, "WSetEna") == 1
        assert inverter.word(704, "WSetMod") == 1
        assert inverter.long(704, "WSet") == 5000
        assert inverter.word(704, "WSetEnaRvrt") == 1
        assert inverter.long(704, "WSetRvrtTms") == 10
        assert inverter.long(715, "ControllerHb") > 1
        assert rig.value(Point.SETPOINT_KW) == 50.0
        assert set(verdicts(rig)) == {ReadBack.SAME}
        # nothing of reactive power, curtailment or power factor was touched
        assert inverter.word(704, "VarSetEna") == 0
        first = inverter.places[704]
        touched = {frame.address + n - first for frame in inverter.frames(704) for n in range(20)}
        assert min(touched) >= 22
        spans = [(frame.address - first, frame.size) for frame in inverter.frames(704)]
        assert set(spans) <= {(22, 6), (22, 1), (23, 1), (30, 3)}


@virtual
async def test_0_kw_is_the_first_thing_written() -> None:
    clock, inverter = VirtualClock(), Inverter(words=chain_words(list(der(WSet=8000).items())))
    async with asyncio.TaskGroup() as group, driven(clock, group, inverter) as (rig, _):
        await running(rig)
        first = inverter.writes()[0]
        assert (first.address, first.words) == (inverter.at(704, "WSetEna"), (1, 1, 0, 0, 0, 0))


@virtual
async def test_704_is_renewed_and_charges() -> None:
    clock, inverter = VirtualClock(), Inverter(words=DER_WORDS)
    async with asyncio.TaskGroup() as group, driven(clock, group, inverter, revert_s=4) as (rig, _):
        await running(rig)
        await rig.tick(10.0, -33.337)
        assert inverter.long(704, "WSet") == -3333  # never more than cleared
        frames = [each for each in inverter.frames(704) if each.words[:2] == (1, 1)]
        times_s = [each.at_s for each in frames if each.words[3] == (-3333) & 0xFFFF]
        assert all(b - a <= 2.2 for a, b in pairwise(times_s))
        assert len(times_s) >= 5


@virtual
async def test_704_by_percent_where_it_has_no_watts() -> None:
    models = der(WSet=None, WSetRvrt=None)
    inverter, clock = Inverter(words=chain_words(list(models.items()))), VirtualClock()
    async with asyncio.TaskGroup() as group, driven(clock, group, inverter) as (rig, _):
        await running(rig)
        await rig.tick(2.0, 49.0)
        assert inverter.word(704, "WSetMod") == 0
        assert inverter.word(704, "WSetPct") == 500  # 50.0 % of WMax, 98 kW
        assert inverter.holding[inverter.at(704, "WSet")] == 0x8000  # as not implemented
        assert rig.value(Point.SETPOINT_KW) == pytest.approx(49.0)
        assert set(verdicts(rig)) == {ReadBack.SAME}


@virtual
async def test_a_percentage_follows_what_it_is_a_percentage_of() -> None:
    models = der(WSet=None, WSetRvrt=None)
    inverter, clock = Inverter(words=chain_words(list(models.items()))), VirtualClock()
    async with asyncio.TaskGroup() as group, driven(clock, group, inverter) as (rig, _):
        await running(rig)
        await rig.tick(2.0, 49.0)
        inverter.put(702, "WMax", 19600)  # 196 kW: what was 50 % is 25 % now
        await rig.tick(15.0, 49.0)
        assert inverter.word(704, "WSetPct") == 250
        assert rig.value(Point.SETPOINT_KW) == pytest.approx(49.0)
        assert rig.value(Point.DISCHARGE_MAX_KW) == 99.0


@virtual
async def test_reactive_power_is_left_alone_until_it_is_asked_for() -> None:
    clock, inverter = VirtualClock(), Inverter(words=DER_WORDS)
    async with asyncio.TaskGroup() as group, driven(clock, group, inverter) as (rig, _):
        await running(rig, 20.0)
        quadrants = [(20.0, 10.0), (-20.0, 10.0), (-20.0, -10.0), (20.0, -10.0)]
        for power_kw, kvar in quadrants:
            await rig.tick(1.5, power_kw, kvar)
            assert inverter.long(704, "WSet") == power_kw * 100
            assert inverter.long(704, "VarSet") == kvar * 100  # + is injected
        assert inverter.word(704, "VarSetEna") == 1
        assert inverter.word(704, "VarSetMod") == 4
        assert inverter.word(704, "VarSetPri") == 0
        assert inverter.word(704, "VarSetPct") == 7
        assert inverter.word(704, "VarSetPctRvrt") == 8
        assert inverter.long(704, "VarSetRvrtTms") == 10
        await rig.tick(1.5, 20.0, 0.0)
        assert inverter.long(704, "VarSet") == 0
        assert set(verdicts(rig)) == {ReadBack.SAME}


@virtual
async def test_reactive_first_is_told_to_the_device() -> None:
    clock, inverter = VirtualClock(), Inverter(words=DER_WORDS)
    async with (
        asyncio.TaskGroup() as group,
        driven(clock, group, inverter, reactive_first=True) as (rig, _),
    ):
        await running(rig, 20.0)
        await rig.tick(1.5, 20.0, 5.0)
        assert inverter.word(704, "VarSetPri") == 1


# ---- ownership --------------------------------------------------------------------------------


@virtual
async def test_a_revert_a_rival_and_a_lost_timer_are_three_things() -> None:
    clock, inverter = VirtualClock(), Inverter(words=DER_WORDS)
    async with asyncio.TaskGroup() as group, driven(clock, group, inverter) as (rig, _):
        await running(rig, 40.0)
        rig.reports.clear()
        inverter.put(704, "WSet", 0, 0)
        await rig.tick(1.0, 40.0)
        assert verdicts(rig)[0] is ReadBack.REVERTED
        assert inverter.long(704, "WSet") == 4000
        rig.reports.clear()
        inverter.put(704, "WSet", 0, 1234)
        await rig.tick(1.0, 40.0)
        assert verdicts(rig)[0] is ReadBack.CHANGED
        assert rig.of(ReadBackResult)[0].seen_kw == 12.34
        assert inverter.long(704, "WSet") == 4000
        rig.reports.clear()
        inverter.put(704, "WSetRvrtTms", 0, 0)
        await rig.tick(1.0, 40.0)
        assert notices(rig, Code.REVERT_NOT_SET) == [True, False]
        assert inverter.long(704, "WSetRvrtTms") == 10
        assert set(verdicts(rig)) == {ReadBack.SAME}


@virtual
async def test_somebody_who_switches_it_off_is_a_rival() -> None:
    clock, inverter = VirtualClock(), Inverter(words=DER_WORDS)
    async with asyncio.TaskGroup() as group, driven(clock, group, inverter) as (rig, _):
        await running(rig, 40.0)
        rig.reports.clear()
        inverter.put(704, "WSetEna", 0)
        await rig.tick(1.0, 40.0)
        assert verdicts(rig)[0] is ReadBack.CHANGED
        assert "enabled" in rig.of(ReadBackResult)[0].text


@pytest.mark.parametrize("words", [DER_WORDS, STORAGE_WORDS], ids=["704", "124"])
@virtual
async def test_a_restart_is_noticed_and_all_is_told_again(words: list[int]) -> None:
    clock, inverter = VirtualClock(), Inverter(words=words)
    async with asyncio.TaskGroup() as group, driven(clock, group, inverter) as (rig, _):
        await running(rig, 40.0)
        rig.reports.clear()
        inverter.restart()
        await rig.tick(3.0, 40.0)
        assert notices(rig, Code.DEVICE_RESET) == [True, False]
        assert rig.value(Point.SETPOINT_KW) == 40.0
        assert rig.value(Point.COMMAND_TIMEOUT_S) == 10.0
        assert rig.value(Point.ENABLED) == (1.0 if words is DER_WORDS else 3.0)
        assert rig.device.ready


@virtual
async def test_a_device_without_a_working_timer_is_refused_until_accepted() -> None:
    words = chain_words(list(der(WSetRvrtTms=None).items()))
    for accepted in (False, True):
        clock, inverter = VirtualClock(), Inverter(words=words)
        async with (
            asyncio.TaskGroup() as group,
            driven(clock, group, inverter, accept_no_revert=accepted) as (rig, _),
        ):
            rig.device.actuator.enable(on=True)
            await rig.tick(3.0, 10.0)
            last = rig.of(WriteResult)[-1]
            assert rig.value(Point.INVERTER_KW) == 48.0
            if accepted:
                assert last.outcome is Outcome.HELD
                assert inverter.long(704, "WSet") == 1000
            else:
                assert last.outcome is Outcome.REFUSED
                assert "accept_no_revert: true" in last.text
                assert not inverter.writes()


@virtual
async def test_a_timer_that_falls_back_to_no_setpoint_is_none() -> None:
    words = chain_words(list(der(WSetRvrt=None).items()))
    clock, inverter = VirtualClock(), Inverter(words=words)
    async with asyncio.TaskGroup() as group, driven(clock, group, inverter) as (rig, _):
        rig.device.actuator.enable(on=True)
        await rig.tick(3.0, 10.0)
        last = rig.of(WriteResult)[-1]
        assert last.outcome is Outcome.REFUSED
        assert "704 WSetRvrt" in last.text
        assert not inverter.writes()


@virtual
async def test_outcomes_are_honest_before_anything_is_known() -> None:
    clock = VirtualClock()
    plain = FakeDevice(holding=dict.fromkeys(range(50), 0))
    async with asyncio.TaskGroup() as group, driven(clock, group, plain) as (rig, _):
        rig.offer(10.0)
        await rig.tick(2.0, 10.0)
        results = rig.of(WriteResult)
        known = list(dict.fromkeys(each.outcome for each in results))
        assert known == [Outcome.WAITING, Outcome.LOST], "starting, then a failure"
        assert "not known" in results[0].text
        assert "no SunSpec marker at 40000, 0, 50000" in results[-1].text
        assert not plain.writes()
        assert notices(rig, Code.READING_MISSING) == [True]


@virtual
async def test_a_graceful_stop_reads_0_back_and_gives_the_device_back() -> None:
    for on_stop, left in (("release", 0), ("stay", 1)):
        clock, inverter = VirtualClock(), Inverter(words=DER_WORDS)
        async with (
            asyncio.TaskGroup() as group,
            driven(clock, group, inverter, on_stop=on_stop) as (rig, _),
        ):
            await running(rig, 40.0)
            await rig.tick(1.0, 40.0, 5.0)
            rig.offer(0.0)
            await rig.device.actuator.finish()
            assert inverter.long(704, "WSet") == 0
            assert inverter.word(704, "WSetEna") == left
            assert inverter.word(704, "VarSetEna") == left
            assert inverter.word(704, "WMaxLimPct") == 1000
            assert inverter.word(704, "WMaxLimPctEna") == 0


# ---- drive 124 --------------------------------------------------------------------------------


@virtual
async def test_124_is_driven_by_both_percentages() -> None:
    clock, inverter = VirtualClock(), Inverter(words=STORAGE_WORDS)
    async with asyncio.TaskGroup() as group, driven(clock, group, inverter) as (rig, _):
        await running(rig)
        await rig.tick(2.0, 42.0)
        assert inverter.word(124, "StorCtl_Mod") == 3
        assert inverter.word(124, "OutWRte") == 4200
        assert inverter.word(124, "InWRte") == (-4200) & 0xFFFF
        assert inverter.word(124, "InOutWRte_RvrtTms") == 10
        assert rig.value(Point.SETPOINT_KW) == 42.0
        await rig.tick(2.0, -30.0, 9.8)
        assert inverter.word(124, "OutWRte") == (-3000) & 0xFFFF
        assert inverter.word(124, "InWRte") == 3000
        assert inverter.word(123, "VArWMaxPct") == 100  # 10 % of 98 kW
        assert [inverter.word(123, f"VArPct_{name}") for name in ("Mod", "Ena")] == [1, 1]
        assert [inverter.word(123, f"VArPct_{name}") for name in ("WinTms", "RmpTms")] == [5, 6]
        assert inverter.word(123, "VArPct_RvrtTms") == 10
        assert [inverter.word(123, name) for name in ("Conn", "WMaxLimPct")] == [1, 100]
        assert set(verdicts(rig)) == {ReadBack.SAME}
        inverter.put(124, "OutWRte", 5000)
        await rig.tick(1.0, -30.0, 9.8)
        assert ReadBack.CHANGED in verdicts(rig)


@virtual
async def test_124_lets_go_by_itself_and_is_taken_again() -> None:
    """Its timer ends its control: percentages back at 100, StorCtl_Mod 0."""
    clock, inverter = VirtualClock(), Inverter(words=STORAGE_WORDS)

    def let_go() -> None:
        inverter.put(124, "StorCtl_Mod", 0)
        inverter.put(124, "OutWRte", 10000)
        inverter.put(124, "InWRte", 10000)
        inverter.put(123, "VArWMaxPct", 0)

    async with asyncio.TaskGroup() as group, driven(clock, group, inverter) as (rig, _):
        await running(rig, 40.0)
        await rig.tick(1.0, 40.0, 9.8)
        rig.reports.clear()
        let_go()
        await rig.tick(1.0, 40.0, 9.8)
        assert verdicts(rig)[0] is ReadBack.REVERTED
        assert notices(rig, Code.DEVICE_DISABLED) == [True]
        inverter.put(124, "StorCtl_Mod", 3)
        await rig.tick(1.0, 40.0)
        await clock.sleep_until(clock.now_s() + 12.0)  # nobody offers: the device's timer runs out
        let_go()
        await rig.tick(3.0, 40.0)
        assert inverter.word(124, "StorCtl_Mod") == 3
        assert rig.value(Point.SETPOINT_KW) == 40.0
        assert notices(rig, Code.DEVICE_DISABLED)[-1] is False
        inverter.restart()  # soon after, and still a restart
        await rig.tick(3.0, 40.0)
        assert inverter.word(124, "StorCtl_Mod") == 3
        assert rig.value(Point.SETPOINT_KW) == 40.0


@virtual
async def test_auto_takes_704_where_there_are_both_and_drive_chooses() -> None:
    words = chain_words([*DER.items(), *STORAGE.items()])
    for drive, expected in (("auto", "der"), ("storage", "storage"), ("der", "der")):
        clock, inverter = VirtualClock(), Inverter(words=words)
        async with (
            asyncio.TaskGroup() as group,
            driven(clock, group, inverter, drive=drive) as (rig, _),
        ):
            await running(rig)
            assert rig.device.rendering is not None
            assert rig.device.rendering.drive == expected


@virtual
async def test_an_inverter_that_cannot_be_driven_is_still_read() -> None:
    clock, inverter = VirtualClock(), Inverter(words=chain_words([(701, M701), (702, M702)]))
    async with asyncio.TaskGroup() as group, driven(clock, group, inverter) as (rig, _):
        await rig.tick(2.0, 1.0)
        assert rig.value(Point.INVERTER_KW) == 48.0
        last = rig.of(WriteResult)[-1]
        assert last.outcome is Outcome.REFUSED
        assert "no model 704" in last.text


# ---- looked at again --------------------------------------------------------------------------


@virtual
async def test_another_exponent_of_a_setpoint_is_learned_before_the_next_write() -> None:
    clock, inverter = VirtualClock(), Inverter(words=DER_WORDS)
    async with asyncio.TaskGroup() as group, driven(clock, group, inverter) as (rig, _):
        await running(rig, 40.0)
        changed_s = clock.now_s()
        inverter.put(704, "WSet_SF", 2)
        await rig.tick(4.0, 40.0)
        assert inverter.long(704, "WSet") == 400
        assert rig.value(Point.SETPOINT_KW) == 40.0
        late = [
            each
            for each in inverter.frames(704)
            if each.at_s > changed_s + 0.6 and each.words[:2] == (1, 1)
        ]
        assert {each.words[3] for each in late} <= {400, 0}
        assert True in notices(rig, Code.DEVICE_RESET)


@virtual
async def test_a_new_connection_is_a_cheap_look_at_the_same_device() -> None:
    clock, inverter = VirtualClock(), Inverter(words=DER_WORDS)
    async with asyncio.TaskGroup() as group, driven(clock, group, inverter) as (rig, server):
        await running(rig, 40.0)
        before, rendering = len(inverter.reads()), rig.device.rendering
        for transport in list(server.open):
            transport.abort()
        await rig.tick(0.3, 40.0)
        await until(lambda: rig.device.ready, clock)
        assert rig.device.rendering is rendering
        assert len(inverter.reads()) - before < 20
        await rig.tick(2.0, 40.0)
        assert rig.value(Point.SETPOINT_KW) == 40.0


@virtual
async def test_an_exponent_that_changed_while_the_line_was_cut_is_learned_first() -> None:
    clock, inverter = VirtualClock(), Inverter(words=DER_WORDS)
    async with asyncio.TaskGroup() as group, driven(clock, group, inverter) as (rig, server):
        await running(rig, 40.0)
        for _ in range(2):  # the second time while it is looked at thoroughly
            inverter.put(704, "WSet_SF", 2)
            inverter.put(704, "WSet", 0, 400)
            for transport in list(server.open):
                transport.abort()
            cut_s = clock.now_s()
            await rig.tick(0.3, 40.0)
        await rig.tick(4.0, 40.0)
        told = [each for each in inverter.frames(704) if each.at_s > cut_s]
        setpoints = {each.words[3] for each in told if each.words[:2] == (1, 1)}
        assert setpoints == {400}
        assert rig.value(Point.SETPOINT_KW) == 40.0


@virtual
async def test_another_device_behind_the_same_address_is_found_out() -> None:
    clock, inverter = VirtualClock(), Inverter(words=DER_WORDS)
    async with asyncio.TaskGroup() as group, driven(clock, group, inverter) as (rig, server):
        await running(rig, 40.0)
        inverter.load(STORAGE_WORDS)
        for transport in list(server.open):
            transport.abort()
        await rig.tick(4.0, 20.0)
        assert rig.device.rendering is not None
        assert rig.device.rendering.drive == "storage"
        assert rig.value(Point.SETPOINT_KW) == 20.0
        assert inverter.word(124, "OutWRte") == 2000


@pytest.mark.parametrize("base", [0, 40000, 50000])
@virtual
async def test_each_base_is_found(base: int) -> None:
    clock, inverter = VirtualClock(), Inverter(words=DER_WORDS, base=base)
    async with asyncio.TaskGroup() as group, driven(clock, group, inverter) as (rig, _):
        await running(rig, 10.0)
        assert rig.device.found.base == base
        assert inverter.long(704, "WSet") == 1000


@virtual
async def test_a_base_of_ones_own() -> None:
    clock, inverter = VirtualClock(), Inverter(words=DER_WORDS, base=1000)
    async with asyncio.TaskGroup() as group, driven(clock, group, inverter, base=1000) as (rig, _):
        await running(rig, 10.0)
        assert rig.device.found.base == 1000


@virtual
async def test_a_silent_device_is_lost_and_found_when_it_speaks() -> None:
    clock, inverter = VirtualClock(), Inverter(words=DER_WORDS, silent=True)
    async with asyncio.TaskGroup() as group, driven(clock, group, inverter) as (rig, _):
        await rig.tick(10.0, 5.0)
        assert [each.up for each in rig.of(LinkChange)] == [False]
        inverter.silent = False
        await rig.tick(15.0, 5.0)
        assert [each.up for each in rig.of(LinkChange)] == [False, True]
        assert rig.device.ready


@virtual
async def test_a_released_device_stays_released_when_it_is_looked_at_again() -> None:
    clock, inverter = VirtualClock(), Inverter(words=DER_WORDS)
    async with asyncio.TaskGroup() as group, driven(clock, group, inverter) as (rig, _):
        await running(rig, 40.0)
        rig.device.actuator.release()
        await rig.tick(2.0, 0.0)
        assert notices(rig, Code.RELEASED) == [True]
        assert inverter.word(704, "WSetEna") == 0
        inverter.put(704, "WSet_SF", 2)
        written = len(inverter.writes())
        await rig.tick(3.0, 0.0)
        assert rig.device.ready
        assert len(inverter.writes()) == written


# ---- pysunspec2's own devices, over real sockets ----------------------------------------------


async def test_pysunspec2s_sample_is_read_over_a_real_socket() -> None:
    clock = SystemClock()
    inverter = Inverter(words=sample_words("device_1547.json"))
    async with (
        asyncio.TaskGroup() as group,
        driven(clock, group, inverter, poll_s=0.05, base=40000) as (rig, _),
    ):
        await until(lambda: rig.value(Point.INVERTER_KW) is not None, clock)
        assert rig.value(Point.INVERTER_KW) == 9.8
        assert rig.value(Point.INVERTER_KVAR) == 0.2
        assert rig.value(Point.INVERTER_HZ) == 60.01
        assert rig.value(Point.INVERTER_C) == 55.0
        assert rig.value(Point.INVERTER_FAULT_BITS) == 0.0
        numbers = [701, 702, 703, 704, *range(705, 714)]
        assert [each.id for each in rig.device.found.headings] == [1, *numbers]


async def test_the_704_drive_over_a_real_socket() -> None:
    clock, inverter = SystemClock(), Inverter(words=DER_WORDS)
    async with (
        asyncio.TaskGroup() as group,
        driven(clock, group, inverter, poll_s=0.05) as (rig, _),
    ):
        rig.device.actuator.enable(on=True)
        await until(lambda: rig.device.ready, clock)
        rig.offer(0.0)
        await until(lambda: inverter.word(704, "WSetEna") == 1, clock)
        await until(lambda: inverter.long(704, "WSetRvrtTms") == 10, clock)

        def holds() -> bool:
            rig.offer(25.0)
            return rig.value(Point.SETPOINT_KW) == 25.0

        await until(holds, clock)
        assert inverter.long(704, "WSet") == 2500


def test_a_unit_without_an_inverter_is_refused() -> None:
    clock, presence = VirtualClock(), Presence(U1, lambda _: None)
    unit = replace(unit_of(1), inverter=None)
    with pytest.raises(ValueError, match="no inverter"):
        SunSpecDevice(unit, Bus(clock), clock, lambda _: None, presence, 0.0)
