"""The bytes to and from a PMU over TCP or UDP, one interface for both."""

import asyncio
import socket
from typing import Protocol

from vppd.core.settings import PmuSettings

READ_BYTES = 4096  # one turn of the loop decodes no more
UNREAD_MAX_BYTES = 4096
DATAGRAMS_MAX = 64
ANY_IPV4, ANY_IPV6 = "0.0.0.0", "::"  # noqa: S104  (a PMU may answer to any of our addresses)


class Link(Protocol):
    """One conversation with a PMU."""

    datagrams: bool  # what `read` gives is whole: no frame goes on in the next

    @property
    def unread(self) -> int:
        """Datagrams that came and were thrown away."""

    async def read(self) -> bytes:
        """The next bytes. Raises OSError when the conversation is over."""

    def send(self, data: bytes) -> None:
        """Give bytes to the network. Raises OSError when the PMU does not take them."""

    def close(self) -> None:
        """Free the socket; never raises."""


async def open_link(settings: PmuSettings) -> Link:
    """Connect, or for UDP resolve and bind. Raises OSError. Bounded by the caller."""
    try:
        if settings.transport == "tcp":
            return TcpLink(*await asyncio.open_connection(settings.host, settings.port))
        return await _open_datagrams(settings)
    except UnicodeError as error:
        raise OSError(f"{settings.host} is no host name") from error


class TcpLink:
    """A stream: frames split and merged anywhere."""

    datagrams = False
    unread = 0

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def read(self) -> bytes:
        if not (data := await self._reader.read(READ_BYTES)):
            raise ConnectionError("the PMU closed the connection")
        return data

    def send(self, data: bytes) -> None:
        if self._writer.is_closing():
            raise ConnectionError("the connection is closed")
        if self._writer.transport.get_write_buffer_size() > UNREAD_MAX_BYTES:
            raise ConnectionError("the PMU does not read what it is sent")
        self._writer.write(data)

    def close(self) -> None:
        self._writer.close()


class _Inbox(asyncio.DatagramProtocol):
    """Keeps the newest datagrams of one address; the PMU's alone are listened to."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._items: asyncio.Queue[bytes | Exception] = asyncio.Queue(DATAGRAMS_MAX)
        self.unread = 0

    def datagram_received(self, data: bytes, addr: tuple[str | object, int]) -> None:
        if addr[0] == self._host:
            self._put(data)
        else:
            self.unread += 1

    def error_received(self, exc: Exception) -> None:
        self._put(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        self._put(exc or ConnectionError("socket closed"))

    @property
    def waiting(self) -> int:
        return self._items.qsize()

    async def take(self) -> bytes:
        item = await self._items.get()
        if isinstance(item, Exception):
            raise OSError(str(item)) from item
        return item

    def _put(self, item: bytes | Exception) -> None:
        if self._items.full():
            self._items.get_nowait()
            self.unread += 1
        self._items.put_nowait(item)


class UdpLink:
    """One socket for commands and data, so that a PMU that answers to the sender's port and one
    that sends to a configured port are both heard."""

    datagrams = True

    def __init__(
        self, transport: asyncio.DatagramTransport, inbox: _Inbox, address: tuple[str, int]
    ) -> None:
        self._transport, self._inbox, self._address = transport, inbox, address

    @property
    def unread(self) -> int:
        return self._inbox.unread

    @property
    def waiting(self) -> int:
        """Datagrams that can be read at once."""
        return self._inbox.waiting

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._transport.get_extra_info("sockname")[1])

    async def read(self) -> bytes:
        return await self._inbox.take()

    def send(self, data: bytes) -> None:
        if self._transport.is_closing():
            raise ConnectionError("the socket is closed")
        self._transport.sendto(data, self._address)

    def close(self) -> None:
        self._transport.close()


async def _open_datagrams(settings: PmuSettings) -> UdpLink:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(settings.host, settings.port, type=socket.SOCK_DGRAM)
    family, _, _, _, address = found[0]
    host = str(address[0])
    transport, inbox = await loop.create_datagram_endpoint(
        lambda: _Inbox(host),
        local_addr=(ANY_IPV6 if family == socket.AF_INET6 else ANY_IPV4, settings.udp_port or 0),
    )
    return UdpLink(transport, inbox, (host, settings.port))
