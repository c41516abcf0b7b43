"""When the site ticks: at every frequency, else each tenth of a second, and never to catch up."""

import asyncio
from collections.abc import Callable, Iterable
from itertools import pairwise

import pytest

from tests.rig import B1, HandClock, MemoryJournal, about
from tests.virtual_time import VirtualClock, VirtualLoop, virtual
from vppd.core.alarms import MEANINGS, Code, Level
from vppd.core.model import SITE, Plan, Point, Priority, Reading, Synchro, UnitId
from vppd.spine.alarms import AlarmBoard
from vppd.spine.bus import Bus, Message
from vppd.spine.heartbeat import APART_S, GRACE_S, KEPT, PERIOD_S, Heartbeat, Lag

PMU = UnitId("pmu")


def _stall(for_s: float) -> None:
    """The whole process stands still: time passes, nothing runs."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop._now_s += for_s


async def _beats(
    for_s: float, frames_s: Iterable[float], stall: tuple[float, float] | None = None
) -> tuple[list[float], Heartbeat]:
    """The beats of so many seconds, as seconds since the start; frames come at `frames_s`."""
    clock = VirtualClock()
    bus = Bus(clock)
    heart = Heartbeat(bus, clock)
    start_s = clock.now_s()
    beats: list[float] = []

    async def frames() -> None:
        for at_s in frames_s:
            await clock.sleep_until(start_s + at_s)
            bus.publish(Synchro(PMU, 50.0, clock.now_s(), 0.5))

    async def stalls(at_s: float, for_s: float) -> None:
        await clock.sleep_until(start_s + at_s)
        _stall(for_s)

    async def listen() -> None:
        async for at_s in heart.beats():
            beats.append(at_s - start_s)  # noqa: PERF401  it never ends

    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(listen()), tasks.create_task(frames())]
        if stall is not None:
            running.append(tasks.create_task(stalls(*stall)))
        await clock.sleep_until(start_s + for_s)
        for task in running:
            task.cancel()
    return beats, heart


@virtual
async def test_without_frames_it_beats_ten_times_a_second() -> None:
    beats, heart = await _beats(1.05, [])
    assert beats == about([0.1 * n for n in range(11)])
    assert heart.lag() == Lag(11, 0, about(0.0), about(0.0), about(0.0))


@virtual
async def test_every_frame_is_a_beat_and_the_timer_keeps_out_of_the_way() -> None:
    frames = [0.13 + 0.1 * n for n in range(10)]
    beats, _ = await _beats(1.1, frames)
    assert [beat for beat in beats if beat > 0.12] == about(frames)


@virtual
async def test_frames_that_come_a_little_late_are_waited_for() -> None:
    frames = [0.13 + 0.1 * n + (0.009 if n % 2 else 0.0) for n in range(8)]
    beats, _ = await _beats(0.9, frames)
    assert [beat for beat in beats if 0.12 < beat < 0.85] == about(frames)


@virtual
async def test_fast_frames_are_taken_together() -> None:
    frames = [0.1 + 0.01 * n for n in range(50)]
    beats, _ = await _beats(0.6, frames)
    steps = [later - sooner for sooner, later in pairwise(beats)]
    assert min(steps[2:]) >= APART_S - 1e-9
    assert len(beats) <= 2 + int(0.5 / APART_S) + 2


@virtual
async def test_after_the_frames_stop_the_timer_goes_on() -> None:
    beats, _ = await _beats(1.5, [0.15, 0.25, 0.35])
    after = [beat for beat in beats if beat >= 0.35 - 1e-9]
    steps = [later - sooner for sooner, later in pairwise(after)]
    assert max(steps) <= PERIOD_S + GRACE_S + 1e-9
    assert steps[-3:] == about([PERIOD_S] * 3)


@virtual
async def test_a_missed_beat_is_counted_late_and_never_made_up_for() -> None:
    beats, heart = await _beats(2.0, [], stall=(0.55, 0.70))
    late = [beat for beat in beats if beat > 0.55]
    assert late[0] == about(1.25)
    assert late[1] == about(1.35)
    lag = heart.lag()
    assert (lag.count, lag.late) == (len(beats), 1)
    assert lag.lag_max_ms == about(650.0)


@virtual
async def test_a_stall_among_frames_is_late_too() -> None:
    frames = [0.1 * n + 0.03 for n in range(1, 20)]
    beats, heart = await _beats(2.0, frames, stall=(0.55, 0.70))
    after = [beat for beat in beats if beat > 0.55]
    assert after[0] == about(1.25)
    assert after[2] - after[1] >= APART_S - 1e-9
    assert heart.lag().late == 1
    assert heart.lag().lag_max_ms > 600.0


@virtual
async def test_a_frame_that_waited_through_a_long_tick_is_one_beat_and_late() -> None:
    clock = VirtualClock()
    bus = Bus(clock)
    heart = Heartbeat(bus, clock)
    beats: list[float] = []
    async for at_s in heart.beats():
        beats.append(at_s)
        if len(beats) == 3:
            bus.publish(Synchro(PMU, 50.0, clock.now_s(), 0.5))
            _stall(0.7)
        if len(beats) == 5:
            break
    steps = [later - sooner for sooner, later in pairwise(beats)]
    assert steps == about([0.1, 0.1, 0.7, PERIOD_S + GRACE_S])
    assert heart.lag().late == 1
    assert heart.lag().lag_max_ms == about(600.0)


def test_lag_keeps_the_last_minute_and_counts_all() -> None:
    clock = HandClock()
    heart = Heartbeat(Bus(clock), clock)
    assert heart.lag() == Lag(0, 0, 0.0, 0.0, 0.0)
    heart._note(9.0)
    for n in range(KEPT):
        heart._note(0.001 if n % 100 else 0.020)
    lag = heart.lag()
    assert (lag.count, lag.late) == (KEPT + 1, 1)
    assert (lag.lag_p50_ms, lag.lag_max_ms) == (about(1.0), about(20.0))
    heart._note(0.05)
    heart._note(-1.0)
    assert heart.lag().late == 1, "50 ms is not yet late"
    heart._note(0.051)
    assert heart.lag().late == 2


# ---- the board it stands on --------------------------------------------------


@virtual
async def test_the_bus_wakes_once_for_all_that_came() -> None:
    clock = VirtualClock()
    bus = Bus(clock)
    for _ in range(5):
        bus.publish(Synchro(PMU, 50.0, clock.now_s(), 0.5))
    await bus.frequency()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.0):
            await bus.frequency()
    bus.publish(Reading(B1, Point.SOC_PCT, 50.0, 0.0, 1.0))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.0):
            await bus.frequency()


def test_a_snapshot_does_not_change() -> None:
    clock = HandClock()
    bus = Bus(clock)
    seen: list[Message] = []
    bus.tap(seen.append)
    first = Reading(B1, Point.SOC_PCT, 50.0, clock.t_s, 1.0)
    bus.publish(first)
    now = bus.snapshot()
    bus.publish(Reading(B1, Point.SOC_PCT, 60.0, clock.t_s, 1.0))
    bus.publish(Synchro(PMU, 50.0, clock.t_s, 0.5))
    assert now.fresh(B1, Point.SOC_PCT) == 50.0
    assert now.synchros == {}
    assert bus.snapshot().fresh(B1, Point.SOC_PCT) == 60.0
    assert len(seen) == 3
    assert seen[0] is first


def test_plans_are_replaced_by_source_and_expire() -> None:
    clock = HandClock()
    bus = Bus(clock)

    def put(power_kw: float, unit: UnitId, until_s: float) -> None:
        bus.publish(Plan(unit, power_kw, until_s, "ann", Priority.OPERATOR, clock.t_s))

    put(1.0, SITE, clock.t_s + 5.0)
    put(2.0, SITE, clock.t_s + 10.0)
    put(3.0, B1, clock.t_s + 5.0)
    assert [each.power_kw for each in bus.plans()] == [2.0, 3.0]
    clock.t_s += 5.0
    assert [each.power_kw for each in bus.plans()] == [2.0]
    clock.wall = clock.wall.replace(year=2030)
    assert len(bus.plans()) == 1, "wall time expires nothing"
    clock.t_s += 5.0
    assert bus.plans() == ()


# ---- alarms ------------------------------------------------------------------


def _board() -> tuple[AlarmBoard, MemoryJournal, HandClock, Callable[..., None]]:
    clock, journal = HandClock(), MemoryJournal()
    board = AlarmBoard(clock, journal)
    return board, journal, clock, board.set


def test_an_alarm_is_written_when_it_comes_and_when_it_goes() -> None:
    board, journal, clock, put = _board()
    begun = clock.utc()
    for _ in range(3):
        put(Code.LINK_LOST, B1, True, "cable")
        clock.t_s += 1.0
    (alarm,) = board.standing()
    assert (alarm.code, alarm.unit, alarm.since, alarm.text) == (Code.LINK_LOST, B1, begun, "cable")
    assert alarm.level is MEANINGS[Code.LINK_LOST].level
    put(Code.LINK_LOST, B1, False)
    put(Code.LINK_LOST, B1, False)
    assert board.standing() == ()
    assert [(row.level, row.text) for row in journal.events(Code.LINK_LOST)] == [
        (Level.CRITICAL, "cable"),
        (Level.NORMAL, "over: cable"),
    ]


def test_an_alarm_may_rise_and_the_worst_stand_first() -> None:
    board, journal, clock, put = _board()
    put(Code.SOC_LOW, B1, True, "low", Level.INFO)
    begun = clock.utc()
    clock.t_s += 1.0
    put(Code.LINK_LOST, SITE, True)
    put(Code.SOC_LOW, B1, True, "lower", Level.EMERGENCY)
    first, second = board.standing()
    assert (first.code, first.text, first.since) == (Code.SOC_LOW, "lower", begun)
    assert second.text == MEANINGS[Code.LINK_LOST].text
    put(Code.SOC_LOW, B1, True, "again", Level.WARNING)
    assert board.standing()[0].text == "lower"
    assert len(journal.events(Code.SOC_LOW)) == 2
