"""Where tasks are born, and what becomes of the process when one dies.

A *fatal* task (poll, tick, gate, journal) ends the daemon: its death is a programming error, and
systemd starts a clean one. A *restarting* task (PMU, MQTT, market) is I/O: it begins again after a
pause that doubles, with an alarm. One that writes to devices is not restarted for ever.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import structlog

from vppd.core.alarms import Code
from vppd.core.ports import Clock

log = structlog.get_logger(source="tasks")

Factory = Callable[[], Coroutine[object, object, None]]
OnTrouble = Callable[[Code, bool, str], None]


class TaskState(StrEnum):
    """What a task is doing."""

    RUNNING = "running"
    WAITING = "waiting"  # for its next start
    ENDED = "ended"  # cancelled by us
    DIED = "died"


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """One task, for status."""

    name: str
    state: TaskState
    restarts: int
    last_error: str
    since: datetime


@dataclass(frozen=True, slots=True)
class ExitReason:
    """Why `run` returned. `task` is None when `stop` was called; `stuck` are tasks that did not
    end when they were cancelled."""

    text: str
    task: str | None = None
    error: BaseException | None = None
    stuck: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        """Whether the exit code is 0."""
        return self.task is None


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses before a restart: `first_s`, doubling to `max_s`, from the start again after
    `healthy_s` without a failure."""

    first_s: float = 1.0
    max_s: float = 60.0
    healthy_s: float = 60.0

    def pause_s(self, failures: int) -> float:
        """Before the next start, after this many failures in a row (1 or more)."""
        return min(self.first_s * 2.0 ** min(failures - 1, 62), self.max_s)


DEFAULT_BACKOFF = Backoff()
WRITER_RESTARTS_MAX = 3


_Life = Callable[["_Task"], Coroutine[object, object, None]]


class _Task:
    """One supervised task."""

    def __init__(self, name: str, life: _Life, since: datetime) -> None:
        self.name = name
        self.life = life
        self.task: asyncio.Task[None] | None = None
        self.state = TaskState.WAITING
        self.restarts = 0
        self.failures = 0  # in a row
        self.last_error = ""
        self.since = since

    def status(self) -> TaskStatus:
        return TaskStatus(self.name, self.state, self.restarts, self.last_error, self.since)


class Supervisor:
    """Starts tasks, watches them, ends them."""

    def __init__(
        self,
        clock: Clock,
        on_trouble: OnTrouble,
        on_exit: Callable[[ExitReason], Awaitable[None]] | None = None,
        *,
        exit_s: float = 10.0,
        cancel_s: float = 1.0,
    ) -> None:
        """`on_trouble(TASK_RESTARTED, active, text)` tells which tasks are failing.

        `on_exit(reason)` is awaited, at most `exit_s`, while the other tasks still run: the place
        to bring every unit to 0. Then all tasks are cancelled, and again after each `cancel_s`.
        """
        self._clock = clock
        self._on_trouble = on_trouble
        self._on_exit = on_exit
        self._exit_s = exit_s
        self._cancel_s = cancel_s
        self._tasks: dict[str, _Task] = {}
        self._running = False
        self._ending = asyncio.Event()
        self._reason: ExitReason | None = None
        self._told = ""

    def fatal(self, name: str, factory: Factory) -> None:
        """A task whose end, by error or by return, ends the daemon."""
        self._add(name, lambda task: self._live_once(task, factory))

    def restarting(
        self,
        name: str,
        factory: Factory,
        backoff: Backoff = DEFAULT_BACKOFF,
        *,
        writes: bool = False,
    ) -> None:
        """A task that begins again when it ends. One that `writes` to devices may fail only
        WRITER_RESTARTS_MAX times in a row; then it ends the daemon."""
        self._add(name, lambda task: self._live_again(task, factory, backoff, writes=writes))

    def stop(self, text: str = "asked to stop") -> None:
        """Let `run` return. The first reason is the one that counts."""
        self._end(ExitReason(text))

    def status(self) -> tuple[TaskStatus, ...]:
        """All tasks, in the order in which they were added."""
        return tuple(task.status() for task in self._tasks.values())

    async def end(self, name: str) -> None:
        """End one task and forget it. Raises KeyError for a name that was never added."""
        task = self._tasks.pop(name)
        if task.task is not None:
            await self._cancel([task])
        self._tell()

    async def run(self) -> ExitReason:
        """Run all tasks until `stop` is called or a fatal one dies; then end them and say why."""
        self._running = True
        for task in [*self._tasks.values()]:
            self._start(task)
        try:
            await self._ending.wait()
            reason = self._reason or ExitReason("ended")
            await self._before_exit(reason)
        finally:
            self._running = False
            self._ending.set()
            stuck = await self._cancel(self._tasks.values())
        return ExitReason(reason.text, reason.task, reason.error, stuck)

    # --- one task -----------------------------------------------------------------------------

    def _add(self, name: str, life: _Life) -> None:
        if name in self._tasks:
            raise ValueError(f"a task called {name} is there already")
        task = self._tasks[name] = _Task(name, life, self._clock.utc())
        if self._running:
            self._start(task)

    def _start(self, task: _Task) -> None:
        task.task = asyncio.create_task(task.life(task), name=task.name)  # noqa: TID251  (the one place)

    async def _live_once(self, task: _Task, factory: Factory) -> None:
        error = await self._live(task, factory)
        self._die(task, error)

    async def _live_again(
        self, task: _Task, factory: Factory, backoff: Backoff, *, writes: bool
    ) -> None:
        while True:
            healthy = asyncio.get_running_loop().call_later(
                backoff.healthy_s, self._recovered, task
            )
            try:
                error = await self._live(task, factory)
            finally:
                healthy.cancel()
            task.failures += 1
            if writes and task.failures > WRITER_RESTARTS_MAX:
                self._die(task, error)
                return
            task.restarts += 1
            pause_s = backoff.pause_s(task.failures)
            self._set(task, TaskState.WAITING)
            log.warning("task_restarts", task=task.name, text=task.last_error, pause_s=pause_s)
            self._tell()
            await self._clock.sleep_until(self._clock.now_s() + pause_s)

    async def _live(self, task: _Task, factory: Factory) -> BaseException | None:
        """Run it to its end; None when it returned. A cancel of ours goes through."""
        self._set(task, TaskState.RUNNING)
        try:
            await factory()
        except asyncio.CancelledError as cancelled:
            own = asyncio.current_task()
            if own is None or own.cancelling():
                self._set(task, TaskState.ENDED)
                raise
            task.last_error = "cancelled from inside"  # a library's cancel that leaked
            return cancelled
        except Exception as error:
            task.last_error = described(error)
            log.exception("task_failed", task=task.name, text=task.last_error)
            return error
        task.last_error = "returned, which it should not"
        return None

    def _recovered(self, task: _Task) -> None:
        if task.failures:
            log.info("task_recovered", task=task.name)
        task.failures = 0
        self._tell()

    def _die(self, task: _Task, error: BaseException | None) -> None:
        self._set(task, TaskState.DIED)
        self._end(ExitReason(f"{task.name}: {task.last_error}", task.name, error))

    def _set(self, task: _Task, state: TaskState) -> None:
        task.state = state
        task.since = self._clock.utc()

    # --- the end ------------------------------------------------------------------------------

    def _end(self, reason: ExitReason) -> None:
        if self._reason is None:
            self._reason = reason
            self._ending.set()

    async def _before_exit(self, reason: ExitReason) -> None:
        if self._on_exit is None:
            return
        try:
            async with asyncio.timeout(self._exit_s):
                await self._on_exit(reason)
        except TimeoutError:
            log.critical("exit_late", text=f"not done in {self._exit_s} s", reason=reason.text)
        except Exception as error:
            log.exception("exit_failed", text=described(error))

    async def _cancel(self, tasks: Iterable[_Task]) -> tuple[str, ...]:
        """Cancel, and again: on Python 3.11 a cancel can be swallowed. The names that stayed."""
        pending = {task.task for task in tasks if task.task is not None and not task.task.done()}
        for _ in range(5):
            if not pending:
                break
            for task in pending:
                task.cancel()
            _, pending = await asyncio.wait(pending, timeout=self._cancel_s)
        return tuple(sorted(task.get_name() for task in pending))

    def _tell(self) -> None:
        text = "; ".join(
            f"{task.name}: {task.last_error}" for task in self._tasks.values() if task.failures
        )
        if text != self._told:
            self._told = text
            self._on_trouble(Code.TASK_RESTARTED, bool(text), text)


def described(error: BaseException) -> str:
    """An error in one line; of a group, each of its own."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(described(each) for each in error.exceptions)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
