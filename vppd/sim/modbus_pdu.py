"""Modbus requests and answers without their framing, the serving side.

Typed from "MODBUS Application Protocol Specification V1.1b3", sections 6 and 7: functions 1, 2, 3,
4, 5, 6, 15, 16, all numbers big-endian, bits packed from the lowest.
"""

import struct
from collections.abc import Sequence
from typing import Protocol

ILLEGAL_FUNCTION = 1
ILLEGAL_ADDRESS = 2
ILLEGAL_VALUE = 3
DEVICE_FAILURE = 4
GATEWAY_TARGET_SILENT = 11

READ_COILS, READ_DISCRETE_INPUTS, READ_HOLDING, READ_INPUT = 1, 2, 3, 4
WRITE_COIL, WRITE_REGISTER, WRITE_COILS, WRITE_REGISTERS = 5, 6, 15, 16
WRITES = (WRITE_COIL, WRITE_REGISTER, WRITE_COILS, WRITE_REGISTERS)

MAX_READ_REGISTERS, MAX_WRITE_REGISTERS = 125, 123
ADDRESSES = 0x10000
MAX_READ_BITS, MAX_WRITE_BITS = 2000, 1968


class RefusedError(Exception):
    """The device answers with this exception code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Tables(Protocol):
    """What a device holds. Each method raises RefusedError."""

    def read_bits(self, function: int, address: int, count: int) -> Sequence[int]:
        """Function 1 or 2."""

    def read_registers(self, function: int, address: int, count: int) -> Sequence[int]:
        """Function 3 or 4; raw 16-bit words."""

    def write_bits(self, address: int, bits: Sequence[int]) -> None:
        """Functions 5 and 15."""

    def write_registers(self, address: int, words: Sequence[int]) -> None:
        """Functions 6 and 16."""


def exception(function: int, code: int) -> bytes:
    """The exception answer to a function."""
    return bytes([function | 0x80, code])


def answer(tables: Tables, request: bytes) -> bytes:
    """The answer to one request of at least one byte; malformed ones get exception 3."""
    function, body = request[0], request[1:]
    try:
        if function in (READ_COILS, READ_DISCRETE_INPUTS):
            return _read_bits(tables, function, body)
        if function in (READ_HOLDING, READ_INPUT):
            return _read_registers(tables, function, body)
        if function == WRITE_COIL:
            return _write_coil(tables, request)
        if function == WRITE_REGISTER:
            return _write_register(tables, request)
        if function == WRITE_COILS:
            return _write_coils(tables, request)
        if function == WRITE_REGISTERS:
            return _write_registers(tables, request)
        return exception(function, ILLEGAL_FUNCTION)
    except RefusedError as refused:
        return exception(function, refused.code)
    except struct.error:
        return exception(function, ILLEGAL_VALUE)


def _span(address: int, count: int, most: int) -> None:
    if not 1 <= count <= most:
        raise RefusedError(ILLEGAL_VALUE)
    if address + count > ADDRESSES:
        raise RefusedError(ILLEGAL_ADDRESS)


def _read_bits(tables: Tables, function: int, body: bytes) -> bytes:
    address, count = struct.unpack(">HH", body)
    _span(address, count, MAX_READ_BITS)
    packed = bytearray((count + 7) // 8)
    for index, bit in enumerate(tables.read_bits(function, address, count)):
        packed[index // 8] |= (1 if bit else 0) << (index % 8)
    return bytes([function, len(packed)]) + packed


def _read_registers(tables: Tables, function: int, body: bytes) -> bytes:
    address, count = struct.unpack(">HH", body)
    _span(address, count, MAX_READ_REGISTERS)
    words = tables.read_registers(function, address, count)
    return struct.pack(f">BB{count}H", function, 2 * count, *words)


def _write_coil(tables: Tables, request: bytes) -> bytes:
    address, value = struct.unpack(">HH", request[1:])
    if value not in (0x0000, 0xFF00):
        raise RefusedError(ILLEGAL_VALUE)
    tables.write_bits(address, [1 if value else 0])
    return request


def _write_register(tables: Tables, request: bytes) -> bytes:
    address, word = struct.unpack(">HH", request[1:])
    tables.write_registers(address, [word])
    return request


def _write_coils(tables: Tables, request: bytes) -> bytes:
    address, count, size = struct.unpack(">HHB", request[1:6])
    _span(address, count, MAX_WRITE_BITS)
    packed = request[6:]
    if size != (count + 7) // 8 or len(packed) != size:
        raise RefusedError(ILLEGAL_VALUE)
    tables.write_bits(address, [packed[i // 8] >> (i % 8) & 1 for i in range(count)])
    return request[:5]


def _write_registers(tables: Tables, request: bytes) -> bytes:
    address, count, size = struct.unpack(">HHB", request[1:6])
    _span(address, count, MAX_WRITE_REGISTERS)
    if size != 2 * count or len(request) != 6 + size:
        raise RefusedError(ILLEGAL_VALUE)
    tables.write_registers(address, struct.unpack(f">{count}H", request[6:]))
    return request[:5]
