"""Modbus over TCP and RTU: pymodbus behind a strict guard.

pymodbus carries the bytes; the guard looks at every byte before pymodbus does, and hands it nothing
but the one frame that answers the one request. Everything else ends in exactly one of four
failures, at once where it can be known at once:

`DeviceRefused`  the device answered with an exception, or with no registers at all
`NoReply`        nothing came in time: what became of a write is unknown
`BadReply`       something came that is no answer to this request: unknown as well
`LinkDown`       no connection, or lost while waiting

A request is one frame, sent once. After a time-out or a bad reply nothing late may answer the next
request: a TCP connection is closed, a serial line is left alone until the latest reply is past.
"""

import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException
from pymodbus.pdu import ModbusPDU

from vppd.core.ports import Clock
from vppd.core.profile import Table
from vppd.field.drivers.frames import (
    BadReply,
    DeviceRefused,
    Expected,
    LineHeld,
    LinkDown,
    ModbusError,
    NoReply,
    rtu_answer,
    tcp_answer,
)
from vppd.field.drivers.hold import HELD, IN_USE, STOP_IT

__all__ = [
    "BadReply",
    "DeviceRefused",
    "Endpoint",
    "Line",
    "LineHeld",
    "LinkDown",
    "ModbusError",
    "NoReply",
]

LONGEST_FRAME = 256  # bytes on a serial line
SHORTEST_PAUSE_S = 0.00175  # between frames on a serial line, or 3.5 characters
CONNECT_MAX_S = 5.0
WRITE_ONE = 6
WRITE_SEVERAL = 16
_READS = {
    Table.COIL: (1, "read_coils"),
    Table.DISCRETE_INPUT: (2, "read_discrete_inputs"),
    Table.HOLDING: (3, "read_holding_registers"),
    Table.INPUT: (4, "read_input_registers"),
}
_BITS = {Table.COIL, Table.DISCRETE_INPUT}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where one connection goes: `host` for TCP, `serial` for RTU."""

    host: str | None = None
    port: int = 502
    serial: str | None = None
    baudrate: int = 9600
    parity: str = "N"
    stopbits: int = 1

    def __str__(self) -> str:
        return self.serial or f"{self.host}:{self.port}"

    @property
    def character_s(self) -> float:
        """How long one byte takes on a serial line."""
        return (9 + (self.parity != "N") + self.stopbits) / self.baudrate


def quiet_pymodbus() -> None:
    """Keep pymodbus from logging: every failure is told by its exception, with its own link."""
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL + 1)


class Line:
    """One connection. Its one owner calls one method at a time, never before `ready_s`."""

    def __init__(self, endpoint: Endpoint, clock: Clock, on_lost: Callable[[], None]) -> None:
        self.endpoint = endpoint
        self.closed_by_us = False  # after a reply that could not be trusted; the device lives on
        self._clock = clock
        self._on_lost = on_lost
        self._client: Any = None
        self._expected: Expected | None = None
        self._sent = b""
        self._heard_s = self._quiet_until_s = clock.now_s()
        self._came = 0  # bytes that came since the request
        self._reason = ""
        self._held = False  # by another program, when it was last tried

    @property
    def connected(self) -> bool:
        """Whether a request may be sent. pymodbus takes a connection for open until it is told
        otherwise, and for ever when it ended while it was being opened."""
        client = self._client
        return client is not None and client.connected and not client.ctx.transport.is_closing()

    def ready_s(self) -> float:
        """From when on the line may be used; moves on while somebody still talks on it."""
        if self.endpoint.serial is None:
            return 0.0
        pause_s = max(3.5 * self.endpoint.character_s, SHORTEST_PAUSE_S)
        return max(self._quiet_until_s, self._heard_s + pause_s)

    async def connect(self, timeout_s: float) -> None:
        """Open a new connection; pymodbus locks a serial line before it uses it. Raises LinkDown
        with the reason, LineHeld where another program has the line."""
        self.close()
        self._reason, self._held = "no answer", False
        try:
            client = self._new_client(min(timeout_s, CONNECT_MAX_S))
            _keep_reason(client, self._not_connected)
            connected = await client.connect()
        except (ModbusException, OSError, ValueError) as error:
            raise LinkDown(f"{self.endpoint}: {error}") from error
        if not connected:
            client.close()
            if self._held:
                raise LineHeld(f"{self.endpoint}: {IN_USE}: {STOP_IT}")
            raise LinkDown(f"{self.endpoint}: {self._reason}")
        self._client, self.closed_by_us = client, False
        if not self.connected:
            self.close()
            raise LinkDown(f"{self.endpoint}: closed as soon as it was opened")

    def close(self) -> None:
        """Close the connection, if any."""
        if self._client is not None:
            self._client.close()
            self._client = None

    async def read(
        self, unit: int, table: Table, address: int, count: int, timeout_s: float
    ) -> Sequence[int]:
        """Read registers, or bits as 0 and 1. Raises the four failures."""
        function, name = _READS[table]
        size = (count + 7) // 8 if table in _BITS else 2 * count
        expected = Expected(unit, bytes((function, size)), 2 + size)
        request = getattr(self._open_client(), name)
        reply = await self._ask(
            expected, lambda: request(address, count=count, device_id=unit), timeout_s
        )
        if table in _BITS:
            return [int(bit) for bit in reply.bits[:count]]
        return reply.registers

    async def write(
        self, unit: int, address: int, registers: Sequence[int], function: int, timeout_s: float
    ) -> None:
        """Write registers by function 6 (one register) or 16. Raises the four failures."""
        client = self._open_client()
        one = function == WRITE_ONE and len(registers) == 1
        last = registers[0] if one else len(registers)
        code = WRITE_ONE if one else WRITE_SEVERAL
        echo = bytes((code, address >> 8, address & 0xFF, last >> 8, last & 0xFF))

        def request() -> Any:
            if one:
                return client.write_register(address, last, device_id=unit)
            return client.write_registers(address, list(registers), device_id=unit)

        await self._ask(Expected(unit, echo, len(echo)), request, timeout_s)

    # ---- one request --------------------------------------------------------------------------

    def _open_client(self) -> Any:
        if not self.connected:
            raise LinkDown(f"{self.endpoint}: not connected")
        return self._client

    async def _ask(
        self, expected: Expected, request: Callable[[], Awaitable[ModbusPDU]], timeout_s: float
    ) -> ModbusPDU:
        self._client.ctx.comm_params.timeout_connect = timeout_s  # pymodbus's reply time-out
        self._expected, self._came = expected, 0
        trusted = False
        try:
            reply = await request()
            trusted = True
        except (DeviceRefused, LinkDown, NoReply):  # NoReply here is a gateway's own answer
            trusted = True
            raise
        except ModbusException as error:
            if not self.connected:
                raise LinkDown(f"{self.endpoint}: {error}") from error
            if self._came:
                raise BadReply(f"{self._came} bytes came, but no answer") from error
            raise NoReply(f"no answer within {timeout_s:g} s") from error
        except RuntimeError as error:  # uvloop's word for a connection that ended under the request
            if self.connected:
                raise
            raise LinkDown(f"{self.endpoint}: {error}") from error
        finally:
            self._expected = None
            if not trusted:
                self._distrust(timeout_s)
        return reply

    def _distrust(self, timeout_s: float) -> None:
        """Make sure that what may still come answers nothing."""
        if self.endpoint.serial is None:
            self.closed_by_us = self.connected
            self.close()
        else:
            longest_s = LONGEST_FRAME * self.endpoint.character_s
            self._quiet_until_s = self._clock.now_s() + timeout_s + longest_s

    def _fail(self, error: ModbusError) -> None:
        """End the pending request now; pymodbus would let it wait for its time-out."""
        if self._expected is None:
            return
        pending = self._client.ctx.response_future
        if not pending.done():
            pending.set_exception(error)

    # ---- what pymodbus calls ------------------------------------------------------------------

    def _connection(self, up: bool) -> None:
        if not up and self._client is not None:
            self._fail(LinkDown(f"{self.endpoint}: connection lost"))
            self._on_lost()

    def _packet(self, sending: bool, data: bytes) -> bytes:
        """See every frame sent; of what came, pass on only the answer to the pending request."""
        if sending:
            self._sent = data
            return data
        self._heard_s = self._clock.now_s()
        if self._expected is None:
            return b""
        self._came = len(data)
        find = tcp_answer if self.endpoint.serial is None else rtu_answer
        answer = find(self._expected, self._sent, data)
        if isinstance(answer, ModbusError):
            self._fail(answer)
            return b""
        return answer or b""

    # ---- the connection -----------------------------------------------------------------------

    def _new_client(self, timeout_s: float) -> Any:
        """A fresh client each time: a used one would take its old connection's end for its own."""
        at = self.endpoint
        guard: dict[str, Any] = {
            "timeout": timeout_s,
            "retries": 0,
            "reconnect_delay": 0,
            "trace_packet": self._packet,
            "trace_connect": self._connection,
        }
        if at.serial is not None:
            client: Any = AsyncModbusSerialClient(
                at.serial, baudrate=at.baudrate, parity=at.parity, stopbits=at.stopbits, **guard
            )
        else:
            client = AsyncModbusTcpClient(at.host or "", port=at.port, **guard)
        client.set_max_no_responses(1 << 30)  # who is dead is decided here, not there
        return client

    def _not_connected(self, error: OSError) -> None:
        number = error.errno or 0
        self._held = self.endpoint.serial is not None and number in HELD
        self._reason = os.strerror(number) if number > 0 else error.strerror or str(error)


def _keep_reason(client: Any, tell: Callable[[OSError], None]) -> None:
    """pymodbus says only that it could not connect; keep why."""
    create = client.ctx.call_create

    async def telling() -> Any:
        try:
            return await create()
        except OSError as error:
            tell(error)
            raise

    client.ctx.call_create = telling
