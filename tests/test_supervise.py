"""Who is fatal, who restarts, and that the end always comes."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vppd.core.alarms import Code
from vppd.spine.clock import SystemClock
from vppd.spine.supervise import (
    WRITER_RESTARTS_MAX,
    Backoff,
    ExitReason,
    Supervisor,
    TaskState,
    described,
)

AT_ONCE = Backoff(first_s=0.0, max_s=0.0, healthy_s=60.0)


class Troubles(list[tuple[bool, str]]):
    def __call__(self, code: Code, active: bool, text: str) -> None:
        assert code is Code.TASK_RESTARTED
        self.append((active, text))


@pytest.fixture
def troubles() -> Troubles:
    return Troubles()


@pytest.fixture
def supervisor(troubles: Troubles) -> Supervisor:
    return Supervisor(SystemClock(), troubles, cancel_s=0.05)


async def ended(supervisor: Supervisor) -> ExitReason:
    async with asyncio.timeout(20):
        return await supervisor.run()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.005)


async def forever() -> None:
    await asyncio.Event().wait()


async def fails() -> None:
    raise ValueError("broken")


async def returns() -> None:
    return


async def stray_cancel() -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("life", "text"),
    [
        (fails, "tick: ValueError: broken"),
        (returns, "tick: returned, which it should not"),
        (stray_cancel, "tick: cancelled from inside"),
    ],
)
async def test_a_fatal_task_ends_the_daemon_and_the_others(
    supervisor: Supervisor, life: Callable[[], object], text: str
) -> None:
    supervisor.fatal("poll", forever)
    supervisor.fatal("tick", life)  # type: ignore[arg-type]
    reason = await ended(supervisor)
    assert (reason.text, reason.task, reason.clean) == (text, "tick", False)
    states = {status.name: status.state for status in supervisor.status()}
    assert states == {"poll": TaskState.ENDED, "tick": TaskState.DIED}


async def test_stop_is_a_clean_end(supervisor: Supervisor) -> None:
    supervisor.fatal("tick", forever)
    supervisor.restarting("mqtt", forever)
    supervisor.stop("SIGTERM")
    supervisor.stop("again")
    assert await ended(supervisor) == ExitReason("SIGTERM")
    assert {status.state for status in supervisor.status()} <= {TaskState.ENDED, TaskState.WAITING}


async def test_before_the_end_the_others_still_run(troubles: Troubles) -> None:
    seen: list[tuple[ExitReason, TaskState]] = []

    async def zero(reason: ExitReason) -> None:
        await asyncio.sleep(0)
        seen.append((reason, site.status()[0].state))
        raise RuntimeError("a unit did not answer")  # the exit goes on

    site = Supervisor(SystemClock(), troubles, zero)
    site.fatal("writer", forever)
    site.fatal("tick", fails)
    reason = await ended(site)
    assert [(each.task, state) for each, state in seen] == [("tick", TaskState.RUNNING)]
    assert not reason.clean


async def test_the_last_act_is_bounded(troubles: Troubles) -> None:
    async def hangs(reason: ExitReason) -> None:
        await forever()

    supervisor = Supervisor(SystemClock(), troubles, hangs, exit_s=0.05)
    supervisor.stop()
    assert (await ended(supervisor)).clean


async def test_a_restarting_task_begins_again_with_an_alarm_until_it_is_healthy(
    supervisor: Supervisor, troubles: Troubles
) -> None:
    starts = 0

    async def flaky() -> None:
        nonlocal starts
        starts += 1
        if starts <= 3:
            raise OSError(f"refused {starts}")
        await forever()

    supervisor.restarting("pmu", flaky, Backoff(0.0, 0.0, healthy_s=0.05))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ended(supervisor))
        await until(lambda: bool(troubles) and troubles[-1] == (False, ""))
        (status,) = supervisor.status()
        assert (status.state, status.restarts) == (TaskState.RUNNING, 3)
        assert status.last_error == "OSError: refused 3"
        assert troubles[:-1] == [(True, f"pmu: OSError: refused {n}") for n in (1, 2, 3)]
        supervisor.stop()


async def test_two_failing_tasks_share_the_alarm(
    supervisor: Supervisor, troubles: Troubles
) -> None:
    for name in ("pmu", "mqtt"):
        supervisor.restarting(name, fails, Backoff(60.0))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ended(supervisor))
        both = "pmu: ValueError: broken; mqtt: ValueError: broken"
        await until(lambda: (True, both) in troubles)
        assert {status.state for status in supervisor.status()} == {TaskState.WAITING}
        await supervisor.end("pmu")
        assert troubles[-1] == (True, "mqtt: ValueError: broken")
        await supervisor.end("mqtt")
        assert troubles[-1] == (False, "")
        supervisor.stop()


async def test_what_writes_is_not_restarted_for_ever(supervisor: Supervisor) -> None:
    starts = 0

    async def writer() -> None:
        nonlocal starts
        starts += 1
        raise OSError("port gone")

    supervisor.restarting("modbus", writer, AT_ONCE, writes=True)
    reason = await ended(supervisor)
    assert starts == WRITER_RESTARTS_MAX + 1
    assert (reason.task, reason.clean) == ("modbus", False)


async def test_a_writer_that_was_healthy_between_failures_goes_on(supervisor: Supervisor) -> None:
    starts = 0

    async def writer() -> None:
        nonlocal starts
        starts += 1
        await asyncio.sleep(0.02)
        raise OSError("port gone")

    supervisor.restarting("modbus", writer, Backoff(0.0, 0.0, healthy_s=0.001), writes=True)
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(ended(supervisor))
        await until(lambda: starts > 3 * WRITER_RESTARTS_MAX)
        supervisor.stop()
    assert run.result().clean


async def test_a_cancel_that_is_swallowed_is_repeated(supervisor: Supervisor) -> None:
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        while True:
            try:
                await forever()
            except asyncio.CancelledError:
                swallowed += 1
                if swallowed == 3:
                    raise

    supervisor.fatal("modbus", stubborn)
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(ended(supervisor))
        await until(lambda: supervisor.status()[0].state is TaskState.RUNNING)
        supervisor.stop()
    assert run.result().stuck == ()
    assert swallowed == 3


async def test_a_task_that_never_ends_is_named(supervisor: Supervisor) -> None:
    release = asyncio.Event()

    async def deaf() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    supervisor.fatal("deaf", deaf)
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(ended(supervisor))
        await until(lambda: supervisor.status()[0].state is TaskState.RUNNING)
        supervisor.stop()
    assert run.result().stuck == ("deaf",)
    release.set()
    await asyncio.sleep(0)


async def test_tasks_may_be_added_while_it_runs(supervisor: Supervisor) -> None:
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(ended(supervisor))
        await asyncio.sleep(0)
        supervisor.fatal("late", fails)
    assert run.result().task == "late"
    with pytest.raises(ValueError, match="late"):
        supervisor.fatal("late", forever)


async def test_cancelling_the_run_ends_the_tasks(supervisor: Supervisor) -> None:
    supervisor.fatal("tick", forever)
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(supervisor.run())
        await until(lambda: supervisor.status()[0].state is TaskState.RUNNING)
        run.cancel()
    assert supervisor.status()[0].state is TaskState.ENDED


@given(
    st.floats(min_value=0.01, max_value=10.0),
    st.floats(min_value=10.0, max_value=1000.0),
    st.integers(min_value=1, max_value=10_000),
)
def test_pauses_double_up_to_their_bound(first_s: float, max_s: float, failures: int) -> None:
    backoff = Backoff(first_s, max_s)
    pause_s = backoff.pause_s(failures)
    assert first_s <= pause_s <= max_s
    assert backoff.pause_s(1) == first_s
    assert backoff.pause_s(failures + 1) == pytest.approx(min(2 * pause_s, max_s))


def test_errors_are_told_in_one_line() -> None:
    assert described(OSError("cut")) == "OSError: cut"
    assert described(TimeoutError()) == "TimeoutError"
    group = ExceptionGroup("many", [OSError("cut"), ExceptionGroup("in", [ValueError("x")])])
    assert described(group) == "OSError: cut; ValueError: x"
