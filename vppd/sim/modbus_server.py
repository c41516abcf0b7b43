"""A Modbus TCP server of simulated devices: pipelined requests are answered in order.

Framing typed from "MODBUS Messaging on TCP/IP Implementation Guide V1.0b": transaction id, protocol
id 0, length of what follows, unit id.
"""

import asyncio
import struct
from collections import deque
from typing import Protocol

from vppd.sim.modbus_pdu import GATEWAY_TARGET_SILENT, exception
from vppd.sim.slave import Reply, Slave
from vppd.sim.tcp import Listener, reset

HEADER = struct.Struct(">HHHB")
MIN_LENGTH, MAX_LENGTH = 2, 254  # unit id and PDU


class Line(Protocol):
    """A listener or a serial line with slaves on it."""

    slaves: dict[int, Slave]

    async def start(self) -> None:
        """Open. Raises OSError."""

    async def tend(self) -> None:
        """Open again after `refuse` ends; runs until cancelled."""

    def close(self) -> None:
        """Close, and every connection with it."""

    def drop(self) -> None:
        """Reset every connection."""

    def refuse(self, *, on: bool) -> None:
        """Stop listening and reset every connection, or listen again."""


class TcpLine:
    """One address and port; several unit ids may share it."""

    def __init__(self, host: str, port: int) -> None:
        self.slaves: dict[int, Slave] = {}
        self.connections: dict[_Connection, None] = {}
        self._listener = Listener(host, port, lambda: _Connection(self))

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._listener.port

    async def start(self) -> None:
        """Listen. Raises OSError."""
        await self._listener.open()

    async def tend(self) -> None:
        """Listen again after `refuse` ends; runs until cancelled."""
        await self._listener.tend()

    def close(self) -> None:
        """Stop listening and reset every connection."""
        self._listener.close()
        self.drop()

    def drop(self) -> None:
        """Reset every connection."""
        for connection in tuple(self.connections):
            connection.abort()

    def refuse(self, *, on: bool) -> None:
        """On: refuse connections and reset those there are."""
        self._listener.refuse(on=on)
        if on:
            self.drop()


class _Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, line: TcpLine) -> None:
        self._line = line
        self._buffer = bytearray()
        self._late: deque[bytes] = deque()  # answers behind a slow one, in order
        self._free_s = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._line.connections[self] = None

    def connection_lost(self, _: Exception | None) -> None:
        self._line.connections.pop(self, None)

    def abort(self) -> None:
        """Reset."""
        self._line.connections.pop(self, None)
        reset(self._transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= HEADER.size:
            transaction, protocol, length, unit_id = HEADER.unpack_from(self._buffer)
            if protocol != 0 or not MIN_LENGTH <= length <= MAX_LENGTH:
                self.abort()
                return
            if len(self._buffer) < 6 + length:
                return
            request = bytes(self._buffer[HEADER.size : 6 + length])
            del self._buffer[: 6 + length]
            self._obey(transaction, unit_id, request)

    def _obey(self, transaction: int, unit_id: int, request: bytes) -> None:
        slave = self._line.slaves.get(unit_id)
        if slave is None:
            reply: Reply | None = Reply(exception(request[0], GATEWAY_TARGET_SILENT), 0.0, unit_id)
        else:
            reply = slave.reply(request)
        if reply is not None:
            header = HEADER.pack(transaction, 0, len(reply.pdu) + 1, reply.unit_id)
            self._send(header + reply.pdu, reply.delay_s)

    def _send(self, frame: bytes, delay_s: float) -> None:
        loop = asyncio.get_running_loop()
        if delay_s <= 0.0 and not self._late:
            self._transport.write(frame)
            return
        self._free_s = max(self._free_s, loop.time()) + delay_s
        self._late.append(frame)
        loop.call_at(self._free_s, self._send_late)

    def _send_late(self) -> None:
        frame = self._late.popleft()
        if not self._transport.is_closing():
            self._transport.write(frame)
