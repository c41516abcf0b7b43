"""Finding the answer to one Modbus request among the bytes that came. Pure.

An answer is believed only with the right transaction (TCP) or checksum (RTU), the right unit,
function, count and echo. Anything else is named as one of the failures below.
"""

from dataclasses import dataclass

from pymodbus.framer.rtu import FramerRTU

ILLEGAL_ADDRESS = 2
GATEWAY_CODES = {10, 11}  # the gateway answers for a device that does not
EXCEPTIONS = {
    1: "illegal function",
    2: "illegal address",
    3: "illegal value",
    4: "device failure",
    5: "acknowledged, still working",
    6: "busy",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target did not answer",
}
EXCEPTION_SIZE = 2  # function and code
CHECKSUM_SIZE = 2
RTU_LEAST = 5  # unit, exception, checksum
TCP_LEAST = 8  # header, unit, function
TCP_HEADER = 6  # transaction, protocol, length
TCP_LENGTHS = range(3, 255)


class ModbusError(Exception):
    """A request that was not answered with what it asked for."""


class DeviceRefused(ModbusError):  # noqa: N818  an answer, not an error
    """The device answered, and the answer is no."""

    def __init__(self, code: int) -> None:
        super().__init__(f"refused with exception {code} ({EXCEPTIONS.get(code, 'unknown')})")
        self.code = code


class NoReply(ModbusError):  # noqa: N818
    """Nothing came in time."""


class BadReply(ModbusError):  # noqa: N818
    """Something came that does not answer the request."""


class LinkDown(ModbusError):  # noqa: N818
    """There is no connection, or it was lost while waiting."""


class LineHeld(LinkDown):
    """The serial line is another program's; nothing was written on it."""


@dataclass(frozen=True, slots=True)
class Expected:
    """The reply to one request: its unit, what its PDU begins with, and how long that is."""

    unit: int
    prefix: bytes
    length: int

    @property
    def function(self) -> int:
        return self.prefix[0]

    def verdict(self, pdu: bytes) -> ModbusError | None:
        """None for the right answer, else what is wrong with it."""
        if len(pdu) == self.length and pdu.startswith(self.prefix):
            return None
        if len(pdu) == EXCEPTION_SIZE and pdu[0] == self.function | 0x80:
            if pdu[1] in GATEWAY_CODES:
                return NoReply(EXCEPTIONS[pdu[1]])
            return DeviceRefused(pdu[1])
        if pdu == bytes((self.function, 0)):  # how some servers say illegal address
            return DeviceRefused(ILLEGAL_ADDRESS)
        if pdu[0] != self.function:
            return BadReply(f"answered function {pdu[0]}, not {self.function}")
        return BadReply(f"answered {pdu[:8].hex()}, not {self.prefix.hex()} in {self.length} bytes")

    def may_begin(self, pdu: bytes) -> bool:
        """Whether these bytes are the answer, an exception to it, or the empty reply."""
        exception = len(pdu) == EXCEPTION_SIZE and pdu[0] & 0x7F == self.function
        return pdu.startswith(self.prefix) or exception


Answer = bytes | ModbusError | None


def tcp_answer(expected: Expected, sent: bytes, data: bytes) -> Answer:
    """The whole frame of the answer to `sent`, or what is wrong, or None while it has not come.

    Frames of other transactions are late or foreign and prove nothing about this one.
    """
    while len(data) >= TCP_LEAST:
        length = int.from_bytes(data[4:6])
        if data[2:4] != b"\0\0" or length not in TCP_LENGTHS:
            return BadReply(f"not Modbus: {data[:TCP_LEAST].hex()}")
        frame, data = data[: TCP_HEADER + length], data[TCP_HEADER + length :]
        if len(frame) < TCP_HEADER + length:
            return None
        if frame[:2] == sent[:2] and frame[TCP_HEADER] == expected.unit:
            return expected.verdict(frame[TCP_HEADER + 1 :]) or frame
    return None


def rtu_answer(expected: Expected, sent: bytes, data: bytes) -> Answer:
    """The same for a serial line, where noise, other units' frames and the adapter's echo of what
    was sent may stand before it."""
    for start, unit in enumerate(data[: 1 - RTU_LEAST]):
        if unit != expected.unit:
            continue
        for size in (expected.length, EXCEPTION_SIZE):
            frame = data[start : start + 1 + size + CHECKSUM_SIZE]
            pdu = frame[1 : 1 + size]
            if len(frame) == 1 + size + CHECKSUM_SIZE and expected.may_begin(pdu) and sound(frame):
                return expected.verdict(pdu) or frame
    if len(data) >= RTU_LEAST and data[0] == expected.unit and data != sent and sound(data):
        return expected.verdict(data[1:-CHECKSUM_SIZE]) or BadReply("no answer")
    return None


def sound(frame: bytes) -> bool:
    """Whether the last two bytes are the checksum of the others."""
    return FramerRTU.check_CRC(frame[:-CHECKSUM_SIZE], int.from_bytes(frame[-CHECKSUM_SIZE:]))
