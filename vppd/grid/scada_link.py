"""One connection of a master: hears its ASDUs, answers them, delivers events until acknowledged."""

import asyncio
from collections.abc import Callable
from zoneinfo import ZoneInfo

from hat.drivers.iec60870 import apci

from vppd.grid.scada_codec import Asked, MalformedError, read
from vppd.grid.scada_events import Event, EventBuffer


class Link:
    """`respond` gives the answers to an ASDU, `encode` an event as one; `ruling` says whether this
    is the link that gets data."""

    def __init__(
        self,
        name: str,
        host: str,
        connection: apci.Connection,
        window: int,
        buffer: EventBuffer,
        zone: ZoneInfo,
    ) -> None:
        self.name, self.host = name, host
        self.malformed = 0
        self._connection, self._window = connection, window
        self._buffer, self._zone = buffer, zone
        self._flying = 0
        self._wake = asyncio.Event()
        self._posted: list[bytes] = []

    @property
    def started(self) -> bool:
        """Between STARTDT and STOPDT."""
        return bool(self._connection.is_enabled and self._connection.is_open)

    def wake(self) -> None:
        """There may be something to deliver."""
        self._wake.set()

    def post(self, asdu: bytes) -> None:
        """Send it before the events that wait, without waiting for it here."""
        self._posted.append(asdu)
        self.wake()

    async def send(self, asdu: bytes) -> None:
        """Give one ASDU to the network. Raises ConnectionError when the link is gone."""
        await self._connection.send(asdu)

    async def run(
        self,
        respond: Callable[["Link", Asked], list[bytes]],
        malformed: Callable[["Link", str], None],
        encode: Callable[[Event], bytes],
        ruling: Callable[["Link"], bool],
    ) -> None:
        """Until the link is gone. What was not acknowledged waits in the buffer again."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._deliver(tasks, encode, ruling))
                await self._hear(respond, malformed)
        except* ConnectionError:
            pass  # how every link ends
        finally:
            await self._connection.async_close()

    async def _hear(
        self,
        respond: Callable[["Link", Asked], list[bytes]],
        malformed: Callable[["Link", str], None],
    ) -> None:
        while True:
            raw = bytes(await self._connection.receive())
            if not self._connection.is_enabled:
                malformed(self, "data on a link that is not started")
                continue
            try:
                asked = read(raw, self._zone)
            except MalformedError as error:
                self.malformed += 1
                malformed(self, str(error))
                continue
            for reply in respond(self, asked):
                await self.send(reply)

    async def _deliver(
        self,
        tasks: asyncio.TaskGroup,
        encode: Callable[[Event], bytes],
        ruling: Callable[["Link"], bool],
    ) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._posted:
                await self.send(self._posted.pop(0))
            while self._flying < self._window and ruling(self):
                if (event := self._buffer.take()) is None:
                    break
                self._flying += 1
                tasks.create_task(self._deliver_one(event, encode(event)))

    async def _deliver_one(self, event: Event, asdu: bytes) -> None:
        try:
            await self._connection.send(asdu, wait_ack=True)
            self._buffer.confirm(event)
        except apci.ConnectionDisabledError:
            pass  # stopped meanwhile; the link itself goes on
        finally:
            self._buffer.give_back(event)
            self._flying -= 1
            self._wake.set()
