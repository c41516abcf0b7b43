"""An event loop whose clock jumps to the next timer when nothing is ready, with a network of
in-memory bytes, so that real protocol code runs for hours in seconds and always the same way.

    def test_something() -> None:
        async def main() -> None:
            clock = VirtualClock()
            ...
        run_virtual(main())

or `@virtual` on an `async def test_...`. TCP (`create_server`, `create_connection`, and so asyncio
streams and pymodbus) and UDP (`create_datagram_endpoint`) go through memory, for any host name or
address, port 0 included; nothing is bound for real. Unix sockets stay real: their bytes arrive in
the same call, so time does not run past them. Ptys do not: keep serial lines on real time.

Time stands still while a worker is outstanding: `run_in_executor` and `asyncio.to_thread` are
counted, aiosqlite's threads too, and anything else through `loop.busy` (callables that are true
while a foreign thread works). When nothing can ever happen again, the loop raises DeadlockError.

`loop.cut(host, port)` pulls the cable of a listener (connects hang, bytes vanish), `loop.mend` puts
it back.
"""

import asyncio
import functools
import math
import selectors
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, ParamSpec, TypeVar

import aiosqlite

from tests.memory_net import MemoryNet

T = TypeVar("T")
P = ParamSpec("P")

START_S = 1000.0  # not 0: a forgotten time stamp shall look old
DEADLOCK_AFTER_S = 5.0  # real seconds


class DeadlockError(RuntimeError):
    """Every task waits and no timer, worker or socket is left to wake one."""


class _JumpingSelector(selectors.DefaultSelector):
    """Never waits for a timer; moves the loop's time there instead."""

    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0.0)
        if ready or (timeout is not None and timeout <= 0.0):
            return ready
        if self.loop.is_busy():
            while not ready and self.loop.is_busy():
                ready = super().select(0.02)
            if ready := ready or super().select(0.0):  # what the last worker left in the self-pipe
                return ready
        if timeout is not None:
            self.loop.jump(timeout)
            return ready
        ready = super().select(DEADLOCK_AFTER_S)
        if not ready:
            raise DeadlockError("every task waits and nothing is left to wake one")
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """See the module."""

    def __init__(self) -> None:
        selector = _JumpingSelector()
        selector.loop = self
        self._now_s = START_S
        self._workers = 0
        self.busy: list[Callable[[], bool]] = []
        super().__init__(selector)
        self._clock_resolution = 1e-9
        self.net = MemoryNet(self)

    def time(self) -> float:
        return self._now_s

    def jump(self, timeout_s: float) -> None:
        """Go to the next timer exactly: a sum of differences would fall short by a bit."""
        scheduled = getattr(self, "_scheduled")  # noqa: B009  (asyncio's own heap of timers)
        next_s = scheduled[0].when() if scheduled else self._now_s + timeout_s
        self._now_s = max(self._now_s, min(next_s, self._now_s + timeout_s * 1.000001))

    def is_busy(self) -> bool:
        """Whether a thread works for this loop, so that time must stand still."""
        return self._workers > 0 or any(busy() for busy in self.busy)

    @contextmanager
    def working(self) -> Iterator[None]:
        """Time stands still inside."""
        self._workers += 1
        try:
            yield
        finally:
            self._workers -= 1

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Any, *args: Any
    ) -> Any:
        future = super().run_in_executor(executor, func, *args)
        self._workers += 1
        future.add_done_callback(self._worker_done)
        return future

    def _worker_done(self, _: object) -> None:
        self._workers -= 1

    async def create_server(
        self, protocol_factory: Any, host: Any = None, port: Any = None, **options: Any
    ) -> Any:
        if options.get("sock") is not None:
            return await super().create_server(protocol_factory, host, port, **options)
        return self.net.listen(protocol_factory, host, port)

    async def create_connection(
        self, protocol_factory: Any, host: Any = None, port: Any = None, **options: Any
    ) -> Any:
        if options.get("sock") is not None or options.get("ssl"):
            return await super().create_connection(protocol_factory, host, port, **options)
        return await self.net.connect(protocol_factory, host, port)

    async def create_datagram_endpoint(
        self, protocol_factory: Any, local_addr: Any = None, remote_addr: Any = None, **options: Any
    ) -> Any:
        if options.get("sock") is not None:
            return await super().create_datagram_endpoint(protocol_factory, **options)
        return self.net.datagram(protocol_factory, local_addr, remote_addr)

    def cut(self, host: str, port: int) -> None:
        """Pull the cable: nothing is refused, nothing arrives."""
        self.net.cut.add((host, port))

    def mend(self, host: str, port: int) -> None:
        """Put the cable back; bytes sent meanwhile are lost."""
        self.net.cut.discard((host, port))


class VirtualClock:
    """core.ports.Clock on a VirtualLoop. `step_utc` makes the wall clock jump, as NTP would."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._start = start
        self._loop: asyncio.AbstractEventLoop | None = None

    def now_s(self) -> float:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop.time()

    def utc(self) -> datetime:
        return self._start + timedelta(seconds=self.now_s() - START_S)

    def step_utc(self, seconds: float) -> None:
        """Move wall time; monotonic time does not notice."""
        self._start += timedelta(seconds=seconds)

    async def sleep_until(self, deadline_s: float) -> None:
        loop = asyncio.get_running_loop()
        while self.now_s() < deadline_s:
            woken: asyncio.Future[None] = loop.create_future()
            timer = loop.call_at(deadline_s, _wake, woken)
            try:
                await woken
            finally:
                timer.cancel()


def _wake(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


@contextmanager
def _counted_aiosqlite(loop: VirtualLoop) -> Iterator[None]:
    """aiosqlite answers from its own thread: count each call as an outstanding worker."""
    connection: Any = aiosqlite.Connection
    originals = {name: getattr(connection, name) for name in ("_connect", "_execute", "close")}

    def counted(original: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
        @functools.wraps(original)
        async def call(*args: Any, **kwargs: Any) -> Any:
            with loop.working():
                return await original(*args, **kwargs)

        return call

    for name, original in originals.items():
        setattr(connection, name, counted(original))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(connection, name, original)


def run_virtual(main: Coroutine[Any, Any, T], limit_s: float = math.inf) -> T:
    """Run on a fresh virtual loop. Raises TimeoutError after `limit_s` virtual seconds."""

    async def bounded() -> T:
        if math.isinf(limit_s):
            return await main
        async with asyncio.timeout(limit_s):
            return await main

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        with _counted_aiosqlite(loop):
            return runner.run(bounded())


def virtual(test: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Make an `async def` test run on virtual time."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        return run_virtual(test(*args, **kwargs))

    return run
