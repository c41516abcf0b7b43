"""Cables between the daemon and everything around it, each of which can be hurt alone.

They run in a thread of their own. Bytes that a fault holds back come late when it ends, as TCP
would bring them.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

GRAIN_S = 0.02


@dataclass
class Cable:
    """One listener that carries bytes to one port; `up` is away from the daemon."""

    to_port: int
    port: int = 0
    dark: bool = False  # connects, and nothing ever comes back
    closing: bool = False  # closes every connection at once
    holds: frozenset[str] = frozenset()  # "up", "down"
    delay_s: float = 0.0  # of what comes down
    twice: bool = False  # what comes down comes again
    _ends: set[asyncio.StreamWriter] = field(default_factory=set)
    _far: set[asyncio.StreamWriter] = field(default_factory=set)
    _server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen; the port stays the same over refusals."""
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Nobody listens, and what was connected is reset."""
        if self._server is not None:
            self._server.close()
            self._server = None
        await self.cut()

    async def cut(self) -> None:
        """Reset both ends of every connection."""
        for end in self._ends | self._far:
            end.transport.abort()

    async def half(self) -> None:
        """The far ends are gone and the near ones do not know."""
        self.dark = True
        for end in self._far:
            end.transport.abort()

    async def heal(self) -> None:
        """As new."""
        was_dark, self.dark, self.closing, self.twice = self.dark, False, False, False
        self.holds, self.delay_s = frozenset(), 0.0
        if was_dark:
            await self.cut()  # what was connected leads nowhere
        if self._server is None:
            await self.open()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._ends.add(writer)
        far: asyncio.StreamWriter | None = None
        try:
            if self.closing:
                return
            if not self.dark:
                far_reader, far = await asyncio.open_connection("127.0.0.1", self.to_port)
                self._far.add(far)
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._pour(reader, far, "up"))
                    tasks.create_task(self._pour(far_reader, writer, "down"))
            while await reader.read(65536):
                pass
        except (OSError, ExceptionGroup):
            pass
        finally:
            self._ends.discard(writer)
            self._far.discard(far or writer)
            for end in (writer, far):
                if end is not None:
                    end.transport.abort()

    async def _pour(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str
    ) -> None:
        while data := await reader.read(65536):
            if way == "down" and self.delay_s:
                await asyncio.sleep(self.delay_s)
            while way in self.holds:
                await asyncio.sleep(GRAIN_S)
            if self.dark:
                continue
            writer.write(data * 2 if self.twice and way == "down" else data)
            await writer.drain()
        if not self.dark:
            writer.transport.abort()


class Cables:
    """All of them, in their thread; every call waits until it is done."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._all: list[Cable] = []

    def lay(self, to_port: int) -> Cable:
        """A new one, open."""
        cable = Cable(to_port)
        self.do(cable.open)
        self._all.append(cable)
        return cable

    def do(self, act: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run one act of a cable."""
        asyncio.run_coroutine_threadsafe(act(), self._loop).result(10.0)

    def heal(self) -> None:
        for cable in self._all:
            self.do(cable.heal)

    def close(self) -> None:
        with suppress(TimeoutError):
            for cable in self._all:
                self.do(cable.refuse)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5.0)
