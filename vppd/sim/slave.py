"""What answers under one Modbus unit id: a BESS unit, interlock inputs, or both, and how it
misbehaves when told to."""

from collections.abc import Sequence
from dataclasses import dataclass

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
from vppd.sim.unit import SimUnit


@dataclass(slots=True)
class Behaviour:
    """How the wire behaves; the default is well."""

    silent: bool = False
    delay_s: float = 0.0
    exception_code: int = 0  # 0: none
    exception_function: int = 0  # 0: every function
    refuse_writes_code: int = 0
    unit_id_offset: int = 0


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
        self.unit: SimUnit | None = None
        self.inputs: list[SimInput] = []
        self.behaviour = Behaviour()

    def reply(self, request: bytes) -> Reply | None:
        """Obey one request. None: silence."""
        how, function = self.behaviour, request[0]
        if how.silent:
            return None
        if self.unit is not None:
            self.unit.advance(self._clock.now_s())
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
        """The unit's registers. Raises RefusedError."""
        if self.unit is None:
            raise RefusedError(ILLEGAL_FUNCTION)
        return self.unit.read_registers(function, address, count)

    def write_registers(self, address: int, words: Sequence[int]) -> None:
        """The unit's registers. Raises RefusedError."""
        if self.unit is None:
            raise RefusedError(ILLEGAL_FUNCTION)
        self.unit.write_registers(address, words)
