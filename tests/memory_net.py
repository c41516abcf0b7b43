"""TCP and UDP in memory, for tests/virtual_time.py: the bytes of real protocols without sockets.

Order is kept, nothing is lost unless the cable is cut, a delivery is one pass of the loop. A
closed end gives the other EOF, an aborted one ConnectionResetError, a port nobody listens on
ConnectionRefusedError.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

Address = tuple[str, int]
ANY = ""
HERE = "127.0.0.1"
HIGH_WATER = 65536


def _host(host: Any) -> str:
    if isinstance(host, (list, tuple)):
        host = host[0]
    if host in (None, "", "0.0.0.0", "::"):  # noqa: S104  (nothing is bound for real)
        return ANY
    return HERE if host == "localhost" else str(host)


class MemoryTransport(asyncio.Transport):
    """One end of a connection."""

    peer: "MemoryTransport"

    def __init__(self, net: "MemoryNet", own: Address, far: Address, listener: Address) -> None:
        super().__init__({"sockname": own, "peername": far})
        self._net, self._listener = net, listener
        self._protocol: Any = None
        self._inbox: deque[bytes | None] = deque()  # None is EOF
        self._inbox_bytes = 0
        self._paused = self._closing = self._lost = self._eof_sent = False
        self._writer_paused = False
        self._pump_due = False

    def attach(self, protocol: Any) -> None:
        self._protocol = protocol
        protocol.connection_made(self)
        self._schedule()

    # reading side
    def receive(self, item: bytes | None) -> None:
        """From the peer: bytes, or None for EOF."""
        if self._lost or (self._closing and item is not None):
            return
        self._inbox.append(item)
        self._inbox_bytes += len(item or b"")
        if self._inbox_bytes > HIGH_WATER:
            self.peer.pause_writer()
        self._schedule()

    def _schedule(self) -> None:
        if not self._pump_due and not self._paused and self._inbox and self._protocol is not None:
            self._pump_due = True
            self._net.loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._pump_due = False
        if self._paused or self._lost or not self._inbox:
            return
        item = self._inbox.popleft()
        if item is None:
            if self._closing or not self._protocol.eof_received():
                self.close()
        else:
            self._inbox_bytes -= len(item)
            if not self._closing:
                self._protocol.data_received(item)
        if self._inbox_bytes <= HIGH_WATER // 4:
            self.peer.resume_writer()
        self._schedule()

    def pause_writer(self) -> None:
        if not self._writer_paused and self._protocol is not None and not self._lost:
            self._writer_paused = True
            self._protocol.pause_writing()

    def resume_writer(self) -> None:
        if self._writer_paused and not self._lost:
            self._writer_paused = False
            self._protocol.resume_writing()

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        self._schedule()

    def is_reading(self) -> bool:
        return not self._paused and not self._closing

    # writing side
    def write(self, data: Any) -> None:
        if self._eof_sent:
            raise RuntimeError("write after write_eof")
        if data and not self._closing and not self._net.is_cut(self._listener):
            self.peer.receive(bytes(data))

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not self._eof_sent:
            self._eof_sent = True
            self._tell_peer(None)

    def get_write_buffer_size(self) -> int:
        return self.peer._inbox_bytes if self._writer_paused else 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """One size fits all."""

    def get_protocol(self) -> Any:
        return self._protocol

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            if not self._eof_sent:
                self._eof_sent = True
                self._tell_peer(None)
            self._net.loop.call_soon(self._lose, None)

    def abort(self) -> None:
        if not self._lost:
            self._closing = True
            self._net.loop.call_soon(self._lose, None)
            if not self._net.is_cut(self._listener):
                self._net.loop.call_soon(self.peer.reset)

    def reset(self) -> None:
        """The peer aborted."""
        self._closing = True
        self._lose(ConnectionResetError("connection reset by peer"))

    def _tell_peer(self, item: bytes | None) -> None:
        if not self._net.is_cut(self._listener):
            self.peer.receive(item)

    def _lose(self, error: Exception | None) -> None:
        if not self._lost:
            self._lost = True
            if self._protocol is not None:
                self._protocol.connection_lost(error)


class _Bound:
    """What `Server.sockets` shows."""

    def __init__(self, address: Address) -> None:
        self._address = address

    def getsockname(self) -> Address:
        return self._address


class MemoryServer(asyncio.AbstractServer):
    """One listener."""

    def __init__(self, net: "MemoryNet", factory: Callable[[], Any], address: Address) -> None:
        self._net, self._address, self.factory = net, address, factory
        self._closed = asyncio.Event()
        self.sockets: tuple[_Bound, ...] = (_Bound((address[0] or HERE, address[1])),)

    def close(self) -> None:
        self._net.listeners.pop(self._address, None)
        self.sockets = ()
        self._closed.set()

    def is_serving(self) -> bool:
        return not self._closed.is_set()

    async def start_serving(self) -> None:
        return

    async def serve_forever(self) -> None:
        try:
            await self._closed.wait()
        finally:
            self.close()

    async def wait_closed(self) -> None:
        await self._closed.wait()

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._net.loop


class MemoryDatagram(asyncio.DatagramTransport):
    """One UDP socket."""

    def __init__(self, net: "MemoryNet", protocol: Any, own: Address, far: Address | None) -> None:
        self.shown = (own[0] or HERE, own[1])
        super().__init__({"sockname": self.shown, "peername": far})
        self._net, self._protocol, self._own, self._far = net, protocol, own, far
        self._closing = False

    def sendto(self, data: Any, addr: Any = None) -> None:
        target = addr or self._far
        if target is None:
            raise ValueError("no address to send to")
        if self._closing:
            return
        address = (_host(target[0]) or HERE, int(target[1]))
        if self._net.is_cut(address) or self._net.is_cut(self.shown):
            return
        self._net.loop.call_soon(self._net.deliver, address, bytes(data), self)

    def receive(self, data: bytes, source: Address) -> None:
        if not self._closing and (self._far is None or source == self._far):
            self._protocol.datagram_received(data, source)

    def refused(self) -> None:
        """Nobody listens there; only a connected socket is told."""
        if self._far is not None and not self._closing:
            self._protocol.error_received(ConnectionRefusedError("connection refused"))

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._net.datagrams.pop(self._own, None)
            self._net.loop.call_soon(self._protocol.connection_lost, None)

    abort = close


class MemoryNet:
    """All listeners, connections and datagram sockets of one loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.listeners: dict[Address, MemoryServer] = {}
        self.datagrams: dict[Address, MemoryDatagram] = {}
        self.cut: set[Address] = set()
        self._next_port = 40000

    def is_cut(self, address: Address) -> bool:
        return address in self.cut

    def _port(self, port: Any) -> int:
        if port:
            return int(port)
        self._next_port += 1
        return self._next_port

    def listen(self, factory: Callable[[], Any], host: Any, port: Any) -> MemoryServer:
        address = (_host(host), self._port(port))
        if address in self.listeners:
            raise OSError(98, f"address already in use: {address}")
        server = self.listeners[address] = MemoryServer(self, factory, address)
        return server

    async def connect(self, factory: Callable[[], Any], host: Any, port: Any) -> tuple[Any, Any]:
        address = (_host(host) or HERE, int(port))
        await asyncio.sleep(0)
        if self.is_cut(address):
            await self.loop.create_future()  # as long as the caller has patience
        server = self.listeners.get(address) or self.listeners.get((ANY, address[1]))
        if server is None:
            raise ConnectionRefusedError(111, f"connect call failed {address}")
        own = (HERE, self._port(0))
        near = MemoryTransport(self, own, address, address)
        far = MemoryTransport(self, address, own, address)
        near.peer, far.peer = far, near
        protocol = factory()
        near.attach(protocol)
        self.loop.call_soon(self._accept, server, far)
        await asyncio.sleep(0)
        return near, protocol

    @staticmethod
    def _accept(server: MemoryServer, far: MemoryTransport) -> None:
        if server.is_serving():
            far.attach(server.factory())
        else:
            far.abort()

    def datagram(self, factory: Callable[[], Any], local: Any, remote: Any) -> tuple[Any, Any]:
        own = (_host(local[0]), self._port(local[1])) if local else (ANY, self._port(0))
        if own in self.datagrams:
            raise OSError(98, f"address already in use: {own}")
        far = (_host(remote[0]) or HERE, int(remote[1])) if remote else None
        protocol = factory()
        transport = self.datagrams[own] = MemoryDatagram(self, protocol, own, far)
        protocol.connection_made(transport)
        return transport, protocol

    def deliver(self, address: Address, data: bytes, sender: MemoryDatagram) -> None:
        """One datagram arrives, or nobody is there."""
        target = self.datagrams.get(address) or self.datagrams.get((ANY, address[1]))
        if target is None:
            sender.refused()
        else:
            target.receive(data, sender.shown)
