"""The writer of one unit by itself: what it sends next, what it reports, and what it never does."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.modbus_device import shipped
from tests.virtual_time import virtual
from vppd.core.alarms import Code
from vppd.core.model import (
    Cleared,
    DeviceNotice,
    DeviceReport,
    Outcome,
    Point,
    ReadBack,
    ReadBackResult,
    UnitId,
    WriteResult,
)
from vppd.core.profile import DeviceProfile, Step, Writable
from vppd.field.drivers.actuator import ModbusActuator
from vppd.field.drivers.setpoint import Frame, Purpose
from vppd.field.presence import Presence

U1 = UnitId("U1")
V2 = shipped("vpp-bess-v2")
V1 = shipped("vpp-bess")


class HandClock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.s = 1000.0

    def now_s(self) -> float:
        return self.s

    def utc(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    async def sleep_until(self, deadline_s: float) -> None:
        raise AssertionError("nobody sleeps here")


class Bench:
    """An actuator whose device is on and was read."""

    def __init__(self, profile: DeviceProfile = V2) -> None:
        self.clock = HandClock()
        self.reports: list[DeviceReport] = []
        self.presence = Presence(U1, lambda _: None)
        self.presence.answered(self.clock.s)
        report = self.reports.append
        self.actuator = ModbusActuator(U1, profile, self.clock, report, self.presence)
        self.actuator.reopened()

    def offer(self, power_kw: float, kvar: float = 0.0, lasts_s: float = 1.0) -> Cleared:
        now_s = self.clock.s
        cleared = Cleared(U1, power_kw, kvar, power_kw, kvar, (), now_s, now_s + lasts_s)
        self.actuator.offer(cleared)
        return cleared

    def next(self) -> Frame | None:
        """What the link would send now."""
        if self.actuator.due_s() > self.clock.s:
            return None
        return self.actuator.next_frame(self.clock.s)

    def answer(self, after_s: float = 0.01) -> Frame:
        """Send what is due; the device takes it."""
        frame = self.next()
        assert frame is not None
        self.clock.s += after_s
        self.actuator.written(frame, self.clock.s)
        return frame

    def settle(self) -> list[Frame]:
        """Send all that is due."""
        frames = []
        while self.next() is not None:
            frames.append(self.answer())
            assert len(frames) < 20
        return frames

    def show(self, begun_s: float | None = None, **values: float) -> None:
        """A poll that begins now."""
        self.clock.s += 0.01
        begun_s = self.clock.s if begun_s is None else begun_s
        self.actuator.observe({Point(name): value for name, value in values.items()}, begun_s)

    def of(self, kind: Any) -> list[Any]:
        return [each for each in self.reports if isinstance(each, kind)]

    @property
    def outcomes(self) -> list[Outcome]:
        return [each.outcome for each in self.of(WriteResult)]

    def notices(self) -> list[tuple[Code, bool]]:
        return [(each.code, each.active) for each in self.of(DeviceNotice)]


def purposes(frames: list[Frame]) -> list[Purpose]:
    return [frame.purpose for frame in frames]


SHOWN: Mapping[str, float] = {
    "setpoint_kvar": 0.0,
    "mode": 3.0,
    "enabled": 1.0,
    "command_timeout_s": 5.0,
}


def started(power_kw: float = 20.0, profile: DeviceProfile = V2) -> Bench:
    bench = Bench(profile)
    bench.actuator.enable(on=True)
    bench.offer(power_kw)
    bench.settle()
    bench.reports.clear()
    return bench


def test_the_order_at_start() -> None:
    bench = Bench()
    bench.actuator.enable(on=True)
    bench.offer(20.0)
    frames = bench.settle()
    assert purposes(frames) == [
        Purpose.TIMER,
        Purpose.STEP,
        Purpose.STEP,
        Purpose.HEARTBEAT,
        Purpose.SETPOINT,
    ]
    assert [(frame.address, frame.registers) for frame in frames] == [
        (0x2005, (5,)),
        (0x2002, (3,)),
        (0x2003, (1,)),
        (0x2006, (1,)),
        (0x2000, (0xFF38, 0)),  # -20.0 kW is 20 kW out; kvar in the same frame
    ]


def test_power_and_reactive_in_one_frame_or_power_first() -> None:
    bench = Bench(V1)
    bench.offer(1.0, 2.0)
    assert [frame.registers for frame in bench.settle()] == [(0xFFF6, 0xFFEC)]
    writes = dict(V1.writes)
    apart = replace(
        V1,
        writes={
            **writes,
            Writable.REACTIVE_KVAR: replace(writes[Writable.REACTIVE_KVAR], address=0x2010),
        },
    )
    bench = Bench(apart)
    bench.offer(1.0, 2.0)
    frames = bench.settle()
    assert [(frame.address, frame.registers) for frame in frames] == [
        (0x2000, (0xFFF6,)),
        (0x2010, (0xFFEC,)),
    ]
    assert bench.outcomes == [Outcome.WRITTEN]
    assert (bench.reports[-1].power_kw, bench.reports[-1].reactive_kvar) == (1.0, 2.0)  # type: ignore[union-attr]
    bench.offer(1.0, 3.0)
    assert [frame.address for frame in bench.settle()] == [0x2010]


def test_what_is_reported() -> None:
    bench = started()
    first = bench.offer(20.04)
    assert bench.next() is None, "the same count"
    held = bench.of(WriteResult)[-1]
    assert (held.outcome, held.power_kw, held.cleared_at_s) == (Outcome.HELD, 20.0, first.at_s)
    second = bench.offer(20.16, 1.0)
    bench.answer()
    result = bench.of(WriteResult)[-1]
    assert result.outcome is Outcome.WRITTEN
    assert (result.power_kw, result.reactive_kvar) == (20.1, 1.0)
    assert result.cleared_at_s == second.at_s
    bench.offer(30.0)
    frame = bench.next()
    assert frame is not None
    bench.actuator.unanswered(frame, "no answer within 1 s", bench.clock.s)
    lost = bench.of(WriteResult)[-1]
    assert (lost.outcome, lost.power_kw, lost.cleared_at_s) == (Outcome.LOST, 30.0, bench.clock.s)
    assert bench.next() is None, "what to do next is for the gate to say"
    bench.offer(30.0)
    assert bench.next() is not None


def test_only_a_setpoint_that_was_lost_carries_power() -> None:
    bench = Bench()
    bench.offer(20.0)
    frame = bench.next()
    assert frame is not None
    assert frame.purpose is Purpose.TIMER
    bench.actuator.unanswered(frame, "no answer within 1 s", bench.clock.s)
    lost = bench.of(WriteResult)[-1]
    assert (lost.outcome, lost.power_kw, lost.reactive_kvar) == (Outcome.LOST, None, None)


def test_nothing_is_held_while_something_else_is_on_its_way() -> None:
    bench = started()
    bench.offer(80.0)
    frame = bench.next()
    assert frame is not None
    bench.actuator.sending(frame)
    before = len(bench.reports)
    bench.clock.s += 0.1
    bench.offer(20.0)
    assert bench.reports[before:] == [], "it was answered to hold 20 kW, and may have heard 80 kW"
    bench.actuator.written(frame, bench.clock.s)
    assert bench.of(WriteResult)[-1].power_kw == 80.0
    bench.offer(20.0)
    bench.answer()
    assert bench.of(WriteResult)[-1].power_kw == 20.0
    bench.offer(20.0)
    assert bench.of(WriteResult)[-1].outcome is Outcome.HELD


def test_renewal_repeats_the_same_value() -> None:
    bench = started()
    sent = 0
    for _ in range(100):
        bench.clock.s += 0.1
        bench.offer(20.0)
        sent += [frame.purpose for frame in bench.settle()].count(Purpose.SETPOINT)
    assert 3 <= sent <= 4


def test_nothing_older_than_its_lease_is_sent() -> None:
    bench = Bench(V1)
    bench.offer(20.0, lasts_s=1.0)
    bench.clock.s += 0.999
    assert bench.next() is not None
    bench.clock.s += 0.001
    assert bench.actuator.next_frame(bench.clock.s) is None
    assert bench.actuator.due_s() > bench.clock.s, "and the link is not kept busy with it"


def test_no_faster_than_the_profile_allows() -> None:
    slow = replace(V1.writes[Writable.POWER_KW], period_s=0.5)
    bench = Bench(replace(V1, writes={**V1.writes, Writable.POWER_KW: slow}))
    sent_s = []
    for n in range(50):
        bench.offer(float(n + 1))
        sent_s += [bench.clock.s for _ in bench.settle()]
        bench.clock.s += 0.1
    gaps = [b - a for a, b in pairwise(sent_s)]
    assert min(gaps) >= 0.5
    assert len(sent_s) > 7


def test_a_refused_setpoint_is_not_hammered_and_another_goes_at_once() -> None:
    bench = started()
    bench.offer(30.0)
    frame = bench.next()
    assert frame is not None
    bench.actuator.refused(frame, "refused with exception 3 (illegal value)", bench.clock.s)
    assert bench.outcomes == [Outcome.REFUSED]
    assert "illegal value" in bench.of(WriteResult)[-1].text
    tried = 0
    for _ in range(30):
        bench.clock.s += 0.1
        bench.offer(30.0)
        while (frame := bench.next()) is not None:
            if frame.purpose is Purpose.SETPOINT:
                tried += 1
                bench.actuator.refused(frame, "refused", bench.clock.s)
            else:
                bench.actuator.written(frame, bench.clock.s)
    assert 2 <= tried <= 3
    assert bench.outcomes.count(Outcome.REFUSED) == 1 + tried
    bench.offer(31.0)
    frame = bench.next()
    assert frame is not None
    assert frame.registers == (0x10000 - 310, 0)


def test_a_refused_revert_timer_holds_back_all_but_zero() -> None:
    bench = Bench()
    bench.offer(20.0)
    frame = bench.next()
    assert frame is not None
    assert frame.purpose is Purpose.TIMER
    bench.actuator.refused(frame, "refused with exception 2 (illegal address)", bench.clock.s)
    assert (Code.REVERT_NOT_SET, True) in bench.notices()
    assert bench.outcomes == [Outcome.REFUSED]
    refused_s = [bench.clock.s]
    for _ in range(600):
        bench.clock.s += 0.1
        bench.offer(20.0)
        while (frame := bench.next()) is not None:
            assert frame.purpose in (Purpose.HEARTBEAT, Purpose.TIMER)
            if frame.purpose is Purpose.TIMER:
                refused_s.append(bench.clock.s)
                bench.actuator.refused(frame, "refused", bench.clock.s)
            else:
                bench.actuator.written(frame, bench.clock.s)
    gaps = [round(b - a) for a, b in pairwise(refused_s)]
    assert gaps == [2, 4, 8, 16], "tried again, ever more rarely"
    assert bench.outcomes == [Outcome.REFUSED] * 5
    bench.offer(0.0)
    assert bench.answer().registers == (0, 0)
    bench.clock.s += 60.0
    bench.offer(20.0)
    bench.settle()
    bench.show(command_timeout_s=5.0)
    assert bench.notices()[-1] == (Code.REVERT_NOT_SET, False)


def test_a_refused_heartbeat_is_one_alarm_until_it_is_taken() -> None:
    bench = started()
    for _ in range(50):
        bench.clock.s += 0.1
        bench.offer(20.0)
        while (frame := bench.next()) is not None:
            if frame.purpose is Purpose.HEARTBEAT:
                bench.actuator.refused(frame, "refused", bench.clock.s)
            else:
                bench.actuator.written(frame, bench.clock.s)
        bench.show(**SHOWN, setpoint_kw=20.0)
    assert bench.notices() == [(Code.REVERT_NOT_SET, True)]
    bench.clock.s += 1.1
    bench.offer(20.0)
    bench.settle()
    bench.show(**SHOWN, setpoint_kw=20.0)
    assert bench.notices() == [(Code.REVERT_NOT_SET, True), (Code.REVERT_NOT_SET, False)]


def test_a_sequence_that_is_refused_ends() -> None:
    bench = Bench(V1)
    bench.actuator.enable(on=True)
    tried = 0
    for _ in range(1000):
        bench.clock.s += 0.1
        bench.offer(20.0)
        while (frame := bench.next()) is not None:
            if frame.purpose is Purpose.STEP:
                tried += 1
                bench.actuator.refused(frame, "refused", bench.clock.s)
            else:
                assert tried == 3, "no power before the sequence came to an end"
                bench.answer(0.0)
    assert tried == 3
    assert bench.outcomes.count(Outcome.REFUSED) == 3


def test_disable_and_enable() -> None:
    bench = started()
    bench.actuator.enable(on=False)
    bench.offer(0.0)
    frames = bench.settle()
    assert [(frame.address, frame.registers) for frame in frames[:3]] == [
        (0x2000, (0, 0)),
        (0x2000, (0,)),
        (0x2003, (0,)),
    ]
    bench.clock.s += 0.1
    bench.offer(0.0)
    bench.settle()
    bench.actuator.enable(on=True)
    bench.offer(0.0)
    assert [frame.address for frame in bench.settle()][:2] == [0x2002, 0x2003]
    bench.actuator.reset_alarms()
    assert [(frame.address, frame.registers) for frame in bench.settle()] == [(0x2004, (1,))]


def test_alarms_are_reset_only_where_the_profile_can() -> None:
    writes = dict(V1.writes)
    del writes[Writable.RESET_ALARMS]
    bench = Bench(replace(V1, writes=writes))
    bench.actuator.reset_alarms()
    assert bench.next() is None


def test_non_volatile_memory_is_written_on_change_only_and_counted() -> None:
    worn = {
        key: replace(spec, volatile=False)
        if key in (Writable.MODE, Writable.ENABLED, Writable.POWER_KW)
        else spec
        for key, spec in V1.writes.items()
    }
    bench = Bench(replace(V1, writes=worn))
    bench.show(mode=3.0, enabled=0.0, setpoint_kw=0.0)
    bench.actuator.enable(on=True)
    assert [frame.address for frame in bench.settle()] == [0x2003]
    for _ in range(100):
        bench.clock.s += 0.1
        bench.offer(20.0)
        bench.settle()
    counters = bench.presence.counters
    assert (counters.writes, counters.nvm_writes) == (2, 2), "one step, one setpoint, no renewal"


def test_read_backs() -> None:
    bench = started()
    bench.show(**SHOWN, setpoint_kw=20.0, heartbeat=1.0)
    assert [each.verdict for each in bench.of(ReadBackResult)] == [ReadBack.SAME]
    bench.offer(25.0)
    frame = bench.next()
    assert frame is not None
    begun_s = bench.clock.s
    bench.answer()
    bench.show(begun_s, **SHOWN, setpoint_kw=20.0)
    assert len(bench.of(ReadBackResult)) == 1, "a poll begun before the answer proves nothing"
    bench.show(**SHOWN, setpoint_kw=0.0)
    assert bench.of(ReadBackResult)[-1].verdict is ReadBack.REVERTED
    bench.show(**SHOWN, setpoint_kw=0.0)
    assert len(bench.of(ReadBackResult)) == 2, "told once a write"
    assert bench.next() is None
    bench.offer(25.0)
    assert bench.answer().registers == (0x10000 - 250, 0)
    bench.show(**SHOWN, setpoint_kw=25.1)
    result = bench.of(ReadBackResult)[-1]
    assert (result.verdict, result.expected_kw, result.seen_kw) == (ReadBack.CHANGED, 25.0, 25.1)
    bench.offer(25.0)
    bench.answer()
    bench.show(**{**SHOWN, "setpoint_kvar": 3.0}, setpoint_kw=25.0)
    result = bench.of(ReadBackResult)[-1]
    assert result.verdict is ReadBack.CHANGED
    assert "setpoint_kvar reads 3, not 0" in result.text


def test_a_zero_that_reads_zero_is_the_same_and_no_fall_back() -> None:
    bench = started(0.0)
    bench.show(**SHOWN, setpoint_kw=0.0)
    assert [each.verdict for each in bench.of(ReadBackResult)] == [ReadBack.SAME]


def test_an_unknown_setpoint_is_not_judged() -> None:
    bench = started()
    bench.offer(25.0)
    frame = bench.next()
    assert frame is not None
    bench.actuator.unanswered(frame, "no answer", bench.clock.s)
    bench.show(**SHOWN, setpoint_kw=20.0)
    assert bench.of(ReadBackResult) == []


def test_a_lost_revert_timer_is_told_and_programmed_again() -> None:
    bench = started()
    bench.show(**SHOWN, setpoint_kw=20.0)
    bench.show(**{**SHOWN, "command_timeout_s": 0.0}, setpoint_kw=20.0)
    assert bench.notices() == [(Code.REVERT_NOT_SET, True)]
    assert "command_timeout_s reads 0, not 5" in bench.of(DeviceNotice)[-1].text
    bench.offer(20.0)
    assert (bench.answer().address, bench.next()) == (0x2005, None)
    bench.show(**SHOWN, setpoint_kw=20.0)
    assert bench.notices() == [(Code.REVERT_NOT_SET, True), (Code.REVERT_NOT_SET, False)]


def test_the_heartbeat_counts_on_past_its_end_and_never_shows_zero() -> None:
    bench = Bench()
    bench.show(heartbeat=65533.0)
    seen = []
    for _ in range(60):
        bench.offer(0.0)
        seen += [f.registers[0] for f in bench.settle() if f.purpose is Purpose.HEARTBEAT]
        bench.clock.s += 0.1
    assert seen[:4] == [65534, 65535, 1, 2]


def test_a_heartbeat_that_fell_is_a_restart() -> None:
    bench = started()
    bench.show(**SHOWN, setpoint_kw=20.0, heartbeat=1.0)
    bench.show(
        setpoint_kw=0.0,
        setpoint_kvar=0.0,
        mode=0.0,
        enabled=0.0,
        command_timeout_s=0.0,
        heartbeat=0.0,
    )
    assert bench.notices() == [(Code.DEVICE_RESET, True)]
    assert [each.verdict for each in bench.of(ReadBackResult)] == [ReadBack.SAME]
    bench.offer(20.0)
    frames = bench.settle()
    assert [frame.address for frame in frames if frame.purpose is not Purpose.HEARTBEAT] == [
        0x2005,
        0x2002,
        0x2003,
        0x2000,
    ]
    assert bench.notices() == [(Code.DEVICE_RESET, True), (Code.DEVICE_RESET, False)]


def test_a_device_that_somebody_disabled_is_told_and_left_alone() -> None:
    bench = started(profile=V1)
    bench.show(mode=3.0, enabled=0.0, setpoint_kw=20.0, setpoint_kvar=0.0)
    assert bench.notices() == [(Code.DEVICE_DISABLED, True)]
    assert bench.next() is None
    bench.show(mode=3.0, enabled=1.0, setpoint_kw=20.0, setpoint_kvar=0.0)
    assert bench.notices()[-1] == (Code.DEVICE_DISABLED, False)


def test_a_device_that_falls_twice_is_left_alone() -> None:
    bench = started(profile=V1)
    off = {"mode": 0.0, "enabled": 0.0, "setpoint_kw": 0.0, "setpoint_kvar": 0.0}
    bench.show(**off)
    assert bench.notices() == [(Code.DEVICE_RESET, True)]
    assert [frame.address for frame in bench.settle()] == [0x2002, 0x2003]
    bench.show(**off)
    assert bench.notices()[-1] == (Code.DEVICE_DISABLED, True)
    assert bench.next() is None


def test_a_profile_that_writes_no_power_refuses_in_words() -> None:
    bench = Bench(replace(V1, writes={}, enable=(), disable=()))
    bench.offer(0.0)
    assert bench.outcomes == [Outcome.REFUSED]


def test_a_fractional_timeout_is_compared_as_the_register_holds_it() -> None:
    bench = Bench(replace(V2, revert=replace(V2.revert, timeout_s=5.5)))
    bench.offer(0.0)
    bench.settle()
    bench.show(command_timeout_s=5.0)
    assert bench.notices() == []


class AnyOrder(RuleBasedStateMachine):
    """Whatever the gate, the device and time do, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench()
        self.newest: Cleared | None = None
        self.timer_set = False
        self.on_wire: Frame | None = None

    @rule(power_kw=st.floats(-4000, 4000), kvar=st.floats(-50, 50), lasts_s=st.floats(0.0, 3.0))
    def offers(self, power_kw: float, kvar: float, lasts_s: float) -> None:
        before = len(self.bench.of(WriteResult))
        self.newest = self.bench.offer(power_kw, kvar, lasts_s)
        if self.on_wire is not None and self.on_wire.purpose is Purpose.SETPOINT:
            outcomes = [each.outcome for each in self.bench.of(WriteResult)[before:]]
            assert Outcome.HELD not in outcomes, "another setpoint is on its way"

    @rule()
    def offers_zero(self) -> None:
        self.offers(0.0, 0.0, 1.0)

    @rule(on=st.booleans())
    def enables(self, on: bool) -> None:
        self.bench.actuator.enable(on=on)

    @rule(seconds=st.sampled_from([0.0, 0.05, 0.3, 1.1, 6.0]))
    def time_passes(self, seconds: float) -> None:
        self.bench.clock.s += seconds

    @precondition(lambda self: self.on_wire is None)
    @rule()
    def link_sends(self) -> None:
        now_s = self.bench.clock.s
        frame = self.bench.next()
        if frame is None:
            return
        self.on_wire = frame
        self.bench.actuator.sending(frame)
        if frame.purpose in (Purpose.SETPOINT, Purpose.HEARTBEAT, Purpose.TIMER):
            assert self.newest is not None
            assert now_s < self.newest.valid_until_s
        if frame.purpose is Purpose.SETPOINT:
            assert self.newest is not None
            raw = frame.registers[0] - 0x10000 * (frame.registers[0] >> 15)
            assert abs(raw) <= abs(self.newest.power_kw) * 10 + 1e-6
            assert raw * self.newest.power_kw <= 0
            assert self.timer_set or not any(frame.registers), "no power without a revert timer"
            assert frame.cleared_at_s == self.newest.at_s

    @precondition(lambda self: self.on_wire is not None)
    @rule(answer=st.sampled_from(["written", "written", "refused", "lost"]))
    def device_answers(self, answer: str) -> None:
        frame, self.on_wire = self.on_wire, None
        assert frame is not None
        actuator, now_s = self.bench.actuator, self.bench.clock.s
        before = len(self.bench.of(WriteResult))
        if answer == "written":
            actuator.written(frame, now_s)
            self.timer_set |= frame.purpose is Purpose.TIMER
            expected = 1 if frame.purpose is Purpose.SETPOINT else 0
        else:
            tell = actuator.refused if answer == "refused" else actuator.unanswered
            tell(frame, answer, now_s)
            expected = 1
        assert len(self.bench.of(WriteResult)) == before + expected

    @precondition(lambda self: self.on_wire is None)
    @rule(
        setpoint_kw=st.sampled_from([0.0, 5.0, 20.0]),
        timeout_s=st.sampled_from([0.0, 5.0]),
        heartbeat=st.integers(0, 3),
        on=st.booleans(),
    )
    def poll(self, setpoint_kw: float, timeout_s: float, heartbeat: int, on: bool) -> None:
        before = self.bench.notices()
        self.bench.show(
            setpoint_kw=setpoint_kw,
            setpoint_kvar=0.0,
            command_timeout_s=timeout_s,
            heartbeat=float(heartbeat),
            mode=3.0 * on,
            enabled=float(on),
        )
        told = self.bench.notices()[len(before) :]
        if (Code.REVERT_NOT_SET, True) in told or (Code.DEVICE_RESET, True) in told:
            self.timer_set = False

    @precondition(lambda self: self.on_wire is None)
    @rule()
    def reconnects(self) -> None:
        self.bench.actuator.reopened()
        self.timer_set = False

    @invariant()
    def never_spins(self) -> None:
        """What is due has a frame, or is due no more once asked for."""
        actuator, now_s = self.bench.actuator, self.bench.clock.s
        if actuator.due_s() <= now_s and actuator.next_frame(now_s) is None:
            assert actuator.due_s() > now_s


AnyOrder.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestAnyOrder = AnyOrder.TestCase


@given(st.lists(st.floats(-200, 200), min_size=1, max_size=40))
def test_the_last_offer_is_what_the_device_ends_with(offers: list[float]) -> None:
    bench = started(0.0)
    for power_kw in offers:
        bench.clock.s += 0.05
        bench.offer(power_kw)
    bench.settle()
    held = bench.of(WriteResult)[-1]
    assert held.outcome in (Outcome.WRITTEN, Outcome.HELD)
    assert held.power_kw == pytest.approx(offers[-1], abs=0.1)
    assert abs(held.power_kw) <= abs(offers[-1]) + 1e-6


def test_steps_may_write_any_register() -> None:
    park = (Step(write=Writable.POWER_KW, value=5.0), Step(write=Writable.MODE, value=0.0))
    bench = started(profile=replace(V1, disable=park))
    bench.actuator.enable(on=False)
    assert [(f.address, f.registers) for f in bench.settle()] == [
        (0x2000, (0x10000 - 50,)),
        (0x2002, (0,)),
    ]
    bench.offer(20.0)
    assert bench.answer().registers == (0x10000 - 200, 0), "what a step overwrote is sent again"


# ---- one sequence in the place of another ------------------------------------------------------

OFF_AT_ONCE = replace(V2, disable=(Step(write=Writable.ENABLED, value=0.0),))
GIVEN_BACK = replace(V2, release=(Step(write=Writable.MODE, value=0.0),))


def until_step(bench: Bench, write: Writable) -> Frame:
    """Answer all that is due until the step that writes this; it was sent and is not answered."""
    while (frame := bench.next()) is not None:
        if frame.purpose is Purpose.STEP and frame.writes == (write,):
            bench.actuator.sending(frame)
            return frame
        bench.answer()
    raise AssertionError(f"{write} was not written")


@pytest.mark.parametrize("answer", ["written", "refused"])
def test_an_emergency_stop_while_enable_is_under_way_switches_off(answer: str) -> None:
    """The answer to a step of the sequence before is no answer to the first of the next."""
    bench = Bench(OFF_AT_ONCE)
    bench.actuator.enable(on=True)
    bench.offer(0.0)
    frame = until_step(bench, Writable.ENABLED)
    bench.actuator.enable(on=False)
    if answer == "written":
        bench.actuator.written(frame, bench.clock.s)
    else:
        bench.actuator.refused(frame, "refused", bench.clock.s)
    assert [each.registers for each in bench.settle() if each.writes == (Writable.ENABLED,)] == [
        (0,)
    ]


def test_enable_while_disable_is_under_way_is_whole() -> None:
    bench = started(profile=OFF_AT_ONCE)
    bench.actuator.enable(on=False)
    bench.offer(0.0)
    frame = until_step(bench, Writable.ENABLED)
    bench.actuator.enable(on=True)
    bench.actuator.written(frame, bench.clock.s)
    steps = [each.writes for each in bench.settle() if each.purpose is Purpose.STEP]
    assert steps == [(Writable.MODE,), (Writable.ENABLED,)]


def test_a_release_while_enable_is_under_way() -> None:
    bench = Bench(GIVEN_BACK)
    bench.actuator.enable(on=True)
    bench.offer(0.0)
    frame = until_step(bench, Writable.ENABLED)
    bench.actuator.release()
    bench.actuator.written(frame, bench.clock.s)
    bench.settle()
    bench.show(**SHOWN, setpoint_kw=0.0)
    assert [each.writes for each in bench.settle()] == [(Writable.MODE,)]
    assert (Code.RELEASED, True) in bench.notices()


@virtual
async def test_a_stop_while_the_device_is_given_back_ends_with_that() -> None:
    bench = started(0.0, profile=GIVEN_BACK)
    bench.actuator.release()
    bench.show(**SHOWN, setpoint_kw=0.0)
    frame = until_step(bench, Writable.MODE)
    async with asyncio.timeout(60.0), asyncio.TaskGroup() as tasks:
        finishing = tasks.create_task(bench.actuator.finish())
        await asyncio.sleep(0)
        bench.actuator.written(frame, bench.clock.s)
    assert finishing.result(), "nothing of ours is in it"


def test_a_reset_is_not_lost_to_the_enable_that_follows_it() -> None:
    """The line was busy; a device that refuses the reset is enabled all the same."""
    bench = started()
    bench.actuator.reset_alarms()
    bench.actuator.enable(on=True)
    bench.offer(0.0)
    steps = [each.writes for each in bench.settle() if each.purpose is Purpose.STEP]
    assert steps == [(Writable.RESET_ALARMS,), (Writable.MODE,), (Writable.ENABLED,)]
    bench.actuator.reset_alarms()
    bench.actuator.enable(on=True)
    written: list[tuple[Writable, ...]] = []
    for _ in range(100):
        bench.clock.s += 0.1
        bench.offer(0.0)
        while (frame := bench.next()) is not None:
            if frame.writes == (Writable.RESET_ALARMS,):
                bench.actuator.refused(frame, "refused", bench.clock.s)
            else:
                written.append(frame.writes)
                bench.actuator.written(frame, bench.clock.s)
    assert (Writable.ENABLED,) in written


def test_a_device_that_refused_to_be_enabled_is_asked_again() -> None:
    """It waits for the grid, say, and shows that it is off; one that shows nothing is left."""
    bench = Bench()
    bench.actuator.enable(on=True)
    begun_s, ready_s, tried_s = bench.clock.s, bench.clock.s + 300.0, []
    on = 0.0
    for tick in range(9000):
        bench.clock.s += 0.1
        bench.offer(0.0)
        while (frame := bench.next()) is not None:
            ready = bench.clock.s >= ready_s
            if frame.writes == (Writable.ENABLED,) and not ready:
                tried_s.append(bench.clock.s - begun_s)
                bench.actuator.refused(frame, "refused with exception 6 (busy)", bench.clock.s)
            else:
                on = 1.0 if frame.writes == (Writable.ENABLED,) else on
                bench.actuator.written(frame, bench.clock.s)
        if tick % 5 == 0:
            bench.show(**{**SHOWN, "enabled": on}, setpoint_kw=0.0)
    bench.clock.s += 1000.0
    for tick in range(1200):  # somebody switches it off at its own panel
        bench.clock.s += 0.1
        bench.offer(0.0)
        assert not [each for each in bench.settle() if each.purpose is Purpose.STEP]
        if tick % 5 == 0:
            bench.show(**{**SHOWN, "enabled": 0.0}, setpoint_kw=0.0)
    assert bench.notices()[-1] == (Code.DEVICE_DISABLED, True)
    assert on == 1.0
    assert len(tried_s) < 15, "less and less often"
    assert bench.notices()[-2] == (Code.DEVICE_DISABLED, False)
