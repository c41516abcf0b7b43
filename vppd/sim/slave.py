"""What answers under one Modbus unit id: a device, interlock inputs, or both, and how it
misbehaves when told to."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from vppd.core.ports import Clock
from vppd.core.settings import InterlockInputSettings
from vppd.sim.modbus_pdu import (
    ILLEGAL_ADDRESS,
    ILLEGAL_FUNCTION,
    READ_COILS,
    WRITES,
    RefusedError,
    answer,
    exception,
)

MISSING_I16 = -0x8000
PAIR = struct.Struct(">HH")


class Device(Protocol):
    """What has registers: a BESS controller, an inverter, a meter."""

    def advance(self, now_s: float) -> None:
        """Live until now."""

    def read_registers(self, function: int, address: int, count: int) -> Sequence[int]:
        """Function 3 or 4. Raises RefusedError."""

    def write_registers(self, address: int, words: Sequence[int]) -> None:
        """Functions 6 and 16. Raises RefusedError."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a device keeps what a mistake in its set-up would garble: first registers in the table
    that `function` reads, i16 power unless `floats`."""

    function: int = 0
    powers: frozenset[int] = frozenset()
    floats: bool = False
    pairs: frozenset[int] = frozenset()  # of values of two registers


@dataclass(slots=True)
class Behaviour:
    """How the wire behaves; the default is well."""

    silent: bool = False
    delay_s: float = 0.0
    exception_code: int = 0  # 0: none
    exception_function: int = 0  # 0: every function
    refuse_writes_code: int = 0
    unit_id_offset: int = 0
    swaps_words: bool = False
    inverts_power: bool = False
    power_factor: float = 1.0

    def garble(self, layout: Layout, address: int, words: Sequence[int]) -> Sequence[int]:
        """Registers read from that address on, as they go out."""
        factor = self.power_factor * (-1.0 if self.inverts_power else 1.0)
        garbled = list(words)
        for at, _ in enumerate(words):
            if factor != 1.0 and address + at in layout.powers:
                _scale(garbled, at, factor, floats=layout.floats)
        for at, _ in enumerate(words[:-1]):
            if self.swaps_words and address + at in layout.pairs:
                garbled[at], garbled[at + 1] = garbled[at + 1], garbled[at]
        return garbled


def _scale(words: list[int], at: int, factor: float, *, floats: bool) -> None:
    """Multiply one power in place; i16 stays inside its type, and "not implemented" as it is."""
    if not floats:
        value = (words[at] ^ 0x8000) - 0x8000
        if value != MISSING_I16:
            words[at] = round(min(max(value * factor, -0x7FFF), 0x7FFF)) & 0xFFFF
    elif at + 1 < len(words):
        (value,) = struct.unpack(">f", PAIR.pack(words[at], words[at + 1]))
        words[at], words[at + 1] = PAIR.unpack(struct.pack(">f", value * factor))


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer on its way: the PDU, how late, and from which unit id."""

    pdu: bytes
    delay_s: float
    unit_id: int


class SimInput:
    """One hardware interlock input."""

    def __init__(self, settings: InterlockInputSettings) -> None:
        self.settings, self.id = settings, settings.id
        self.is_coil = settings.modbus.coil is not None
        self.address = (
            settings.modbus.coil
            if settings.modbus.coil is not None
            else settings.modbus.discrete_input or 0
        )
        self.healthy = True
        self.silent = False

    @property
    def state(self) -> int:
        """The bit on the wire."""
        return self.settings.healthy if self.healthy else 1 - self.settings.healthy


class _SilentError(Exception):
    """No answer at all."""


class Slave:
    """One unit id on one line."""

    def __init__(self, unit_id: int, clock: Clock) -> None:
        self.unit_id, self._clock = unit_id, clock
        self.device: Device | None = None
        self.layout = Layout()
        self.inputs: list[SimInput] = []
        self.behaviour = Behaviour()

    def reply(self, request: bytes) -> Reply | None:
        """Obey one request. None: silence."""
        how, function = self.behaviour, request[0]
        if how.silent:
            return None
        if self.device is not None:
            self.device.advance(self._clock.now_s())
        if how.exception_code and how.exception_function in (0, function):
            pdu = exception(function, how.exception_code)
        elif how.refuse_writes_code and function in WRITES:
            pdu = exception(function, how.refuse_writes_code)
        else:
            try:
                pdu = answer(self, request)
            except _SilentError:
                return None
        return Reply(pdu, how.delay_s, (self.unit_id + how.unit_id_offset) & 0xFF)

    def read_bits(self, function: int, address: int, count: int) -> Sequence[int]:
        """Interlock inputs by their table. Raises RefusedError."""
        is_coil = function == READ_COILS
        mine = {entry.address: entry for entry in self.inputs if entry.is_coil is is_coil}
        return [self._input(mine, at).state for at in range(address, address + count)]

    @staticmethod
    def _input(mine: dict[int, SimInput], address: int) -> SimInput:
        if address not in mine:
            raise RefusedError(ILLEGAL_ADDRESS)
        if mine[address].silent:
            raise _SilentError
        return mine[address]

    def write_bits(self, address: int, bits: Sequence[int]) -> None:
        """Force interlock coils, as a commissioning tool would. Raises RefusedError."""
        coils = {entry.address: entry for entry in self.inputs if entry.is_coil}
        forced = [(self._input(coils, at), bit) for at, bit in enumerate(bits, start=address)]
        for entry, bit in forced:
            entry.healthy = bit == entry.settings.healthy

    def read_registers(self, function: int, address: int, count: int) -> Sequence[int]:
        """The device's registers. Raises RefusedError."""
        if self.device is None:
            raise RefusedError(ILLEGAL_FUNCTION)
        words = self.device.read_registers(function, address, count)
        if function != self.layout.function:
            return words
        return self.behaviour.garble(self.layout, address, words)

    def write_registers(self, address: int, words: Sequence[int]) -> None:
        """The device's registers. Raises RefusedError."""
        if self.device is None:
            raise RefusedError(ILLEGAL_FUNCTION)
        self.device.write_registers(address, words)
