"""A Modbus RTU line of simulated devices over a pseudo-terminal.

The slave side is linked at the configured serial path. Framing typed from "MODBUS over Serial Line
V1.02": address, PDU, CRC-16 (polynomial 0xA001 reflected, start 0xFFFF) low byte first. A request
is known complete by its function's length; a pause of `GAP_S` drops what is incomplete or unknown.
An answer takes the time that request and answer need on a wire of the configured speed.
"""

import asyncio
from pathlib import Path

from vppd.sim.modbus_pdu import READ_COILS, WRITE_COILS, WRITE_REGISTER, WRITE_REGISTERS
from vppd.sim.pty_link import PtyLink
from vppd.sim.slave import Slave

GAP_S = 0.05
BITS_PER_BYTE = 11
BROADCAST = 0
SHORTEST, MAX_FRAME = 4, 256
SHORT_REQUEST = 8  # functions 1 to 6: address, function, two words, CRC
LONG_HEAD = 7  # functions 15 and 16: address, function, two words, byte count


def crc16(data: bytes) -> int:
    """The CRC of a serial frame."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0xA001 if crc & 1 else crc >> 1
    return crc


def seal(unit_id: int, pdu: bytes) -> bytes:
    """A serial frame."""
    body = bytes([unit_id]) + pdu
    return body + crc16(body).to_bytes(2, "little")


def request_length(frame: bytes | bytearray) -> int | None:
    """How long the request at the start of these bytes is, when that can be told."""
    function = frame[1] if len(frame) > 1 else 0
    if READ_COILS <= function <= WRITE_REGISTER:
        return SHORT_REQUEST
    if function in (WRITE_COILS, WRITE_REGISTERS) and len(frame) >= LONG_HEAD:
        return LONG_HEAD + frame[6] + 2
    return None


class SerialLine:
    """One pseudo-terminal; several unit ids may share it."""

    def __init__(self, path: Path, baudrate: int) -> None:
        self.slaves: dict[int, Slave] = {}
        self.refusing = False
        self._byte_s = BITS_PER_BYTE / baudrate
        self._buffer = bytearray()
        self._gap: asyncio.TimerHandle | None = None
        self._pty = PtyLink(path, self._received)

    async def start(self) -> None:
        """Make the pty and link it. Raises OSError when the path is taken by something else."""
        self._pty.open()

    async def tend(self) -> None:
        """Nothing to open again."""

    def close(self) -> None:
        """Take the link and the pty away."""
        if self._gap is not None:
            self._gap.cancel()
        self._pty.close()

    def drop(self) -> None:
        """A serial line has no connection: what is half received is lost."""
        self._buffer.clear()

    def refuse(self, *, on: bool) -> None:
        """On: the line is dead."""
        self.refusing = on
        self.drop()

    def _received(self, data: bytes) -> None:
        self._buffer += data
        if self._gap is not None:
            self._gap.cancel()
        if self.refusing:
            self._buffer.clear()
        while (length := request_length(self._buffer)) and len(self._buffer) >= length:
            frame = bytes(self._buffer[:length])
            if crc16(frame[:-2]) != int.from_bytes(frame[-2:], "little"):
                self._buffer.clear()
                return
            del self._buffer[:length]
            self._obey(frame[0], frame[1:-2])
        if len(self._buffer) > MAX_FRAME:
            self._buffer.clear()
        if self._buffer:
            self._gap = asyncio.get_running_loop().call_later(GAP_S, self._silence)

    def _silence(self) -> None:
        """Nobody completes this frame: a whole one of an unknown function, or noise."""
        frame = bytes(self._buffer)
        self._buffer.clear()
        if len(frame) >= SHORTEST and crc16(frame[:-2]) == int.from_bytes(frame[-2:], "little"):
            self._obey(frame[0], frame[1:-2])

    def _obey(self, unit_id: int, request: bytes) -> None:
        if unit_id == BROADCAST:
            for slave in self.slaves.values():
                slave.reply(request)
            return
        asked = self.slaves.get(unit_id)
        reply = asked.reply(request) if asked is not None else None
        if reply is not None:
            frame = seal(reply.unit_id, reply.pdu)
            wire_s = (len(request) + 3 + len(frame)) * self._byte_s
            asyncio.get_running_loop().call_later(wire_s + reply.delay_s, self._write, frame)

    def _write(self, frame: bytes) -> None:
        if not self.refusing:  # what nobody reads, a wire forgets
            self._pty.write(frame)
