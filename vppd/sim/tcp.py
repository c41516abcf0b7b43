"""What the simulated servers share of TCP: a reset, and a listener that can be taken away."""

import asyncio
import socket
import struct
from collections.abc import Callable

LINGER_0 = struct.pack("ii", 1, 0)


def reset(transport: asyncio.Transport) -> None:
    """End a connection with RST, as a device that restarts does."""
    end = transport.get_extra_info("socket")
    if end is not None:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
    transport.abort()


class Listener:
    """A TCP port that may refuse for a while. Port 0 becomes the port that was free."""

    def __init__(self, host: str, port: int, protocol: Callable[[], asyncio.Protocol]) -> None:
        self.host, self.port = host, port
        self.refusing = False
        self._protocol = protocol
        self._server: asyncio.Server | None = None
        self._changed = asyncio.Event()

    async def open(self) -> None:
        """Listen. Raises OSError."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._protocol, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        """Stop listening; connections are the owner's."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def refuse(self, *, on: bool) -> None:
        """Stop listening at once, or let `tend` listen again."""
        self.refusing = on
        if on:
            self.close()
        self._changed.set()

    async def tend(self) -> None:
        """Listen again after each refusal; runs until cancelled. Raises OSError."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if not self.refusing and self._server is None:
                await self.open()
