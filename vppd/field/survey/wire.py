"""Asking a device without changing it: one connection, read functions only, every wait bounded.

A `Probe` owns one connection. It opens it again where the driver had to close it, and never begins
a request after its deadline. `gather` reads every point of a register map and learns its holes.
"""

import asyncio
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from vppd.core.model import Point
from vppd.core.ports import Clock
from vppd.core.profile import DeviceProfile, PointSpec, Table
from vppd.field.blocks import Block, Holes, learn, plan
from vppd.field.decode import register_count
from vppd.field.drivers.modbus import DeviceRefused, Endpoint, Line, LinkDown, ModbusError

NOT_THERE = {1, 2, 3}  # exceptions that say: not these registers, not so many
PATIENCE = 2  # requests a device may leave unanswered before it is given up
HEADER = struct.Struct(">HHHB")
READ_INPUT, READ_HOLDING = 4, 3


class TimeUpError(ModbusError):
    """The survey's own time is over."""


class Probe:
    """One read-only connection. One request at a time, none begun after `deadline_s`."""

    def __init__(
        self, endpoint: Endpoint, clock: Clock, deadline_s: float, pause_s: float = 0.0
    ) -> None:
        """`pause_s` is left between two requests."""
        self.endpoint, self.deadline_s, self._pause_s = endpoint, deadline_s, pause_s
        self.took_s = 0.0  # of the last request that was answered
        self._clock = clock
        self._line = Line(endpoint, clock, lambda: None)

    async def open(self, timeout_s: float) -> None:
        """Connect, if not connected. Raises LinkDown or TimeUpError."""
        self._in_time()
        if not self._line.connected:
            await self._line.connect(timeout_s)

    async def read(
        self, unit_id: int, block: Block, timeout_s: float, *, reopen: bool = True
    ) -> Sequence[int]:
        """Read one block of registers or bits; `reopen`: on a new connection, if there is none.
        Raises ModbusError."""
        if reopen:
            await self.open(timeout_s)
        if self._pause_s:
            await self._clock.sleep_until(self._clock.now_s() + self._pause_s)
        while (ready_s := self._line.ready_s()) > self._clock.now_s():
            self._in_time()
            await self._clock.sleep_until(min(ready_s, self.deadline_s))
        self._in_time()
        begun_s = self._clock.now_s()
        try:
            return await self._line.read(
                unit_id, block.table, block.address, block.count, timeout_s
            )
        finally:
            self.took_s = self._clock.now_s() - begun_s

    def close(self) -> None:
        """Free the connection."""
        self._line.close()

    def _in_time(self) -> None:
        if self._clock.now_s() >= self.deadline_s:
            raise TimeUpError("not asked any more: the time of this check is over")


@dataclass(slots=True)
class Shown:
    """What a device showed of its register map: the raw registers of each point's `place`, and
    what it refused."""

    registers: dict[Point, tuple[int, ...]] = field(default_factory=dict)
    refused: dict[Point, str] = field(default_factory=dict)
    holes: Holes = field(default_factory=Holes)
    unanswered: str = ""  # why the rest was not read


def place(spec: PointSpec) -> Block:
    """The registers that make one value: its own, and the scale factor's, in one read."""
    first, end = spec.address, spec.address + register_count(spec)
    if spec.scale_register is not None:
        first, end = min(first, spec.scale_register), max(end, spec.scale_register + 1)
    return Block(spec.table, first, end - first)


async def gather(
    probe: Probe,
    unit_id: int,
    profile: DeviceProfile,
    timeout_s: float,
    *,
    patience: int = PATIENCE,
    refusals_most: int = 10_000,
) -> Shown:
    """Read every point once, parting blocks that are refused; given up after `refusals_most`
    refusals with nothing read. Raises ModbusError only where the device answered nothing at all,
    ValueError where the map cannot be read as it says."""
    shown = Shown()
    pending = {place(spec) for spec in profile.points.values()}
    silent, refusals, answered = 0, 0, False
    while pending:
        block = plan(pending, profile.max_block, profile.max_gap, shown.holes)[0]
        try:
            registers = await probe.read(unit_id, block, timeout_s)
        except DeviceRefused as refusal:
            answered, refusals = True, refusals + 1
            if refusals > refusals_most and not shown.registers:
                shown.unanswered = str(refusal)
                return shown
            pending -= _refused(shown, profile, block, refusal, pending)
        except ModbusError as error:
            silent += 1
            if silent >= patience or isinstance(error, (LinkDown, TimeUpError)):
                if not answered:
                    raise
                shown.unanswered = str(error)
                return shown
        else:
            answered = True
            _keep(shown, profile, block, registers)
            pending -= {each for each in pending if block.holds(each)}
    return shown


async def cycle_s(
    probe: Probe, unit_id: int, specs: Iterable[PointSpec], profile: DeviceProfile, holes: Holes,
    timeout_s: float,
) -> float:  # fmt: skip
    """How long one poll of these points takes, s. Raises ModbusError."""
    total_s = 0.0
    wanted = [place(spec) for spec in specs]
    for block in plan(wanted, profile.max_block, profile.max_gap, holes):
        await probe.read(unit_id, block, timeout_s)
        total_s += probe.took_s
    return total_s


async def answering_as(
    endpoint: Endpoint, unit_id: int, block: Block, timeout_s: float
) -> int | None:
    """The unit id in the header of whatever a TCP server answers to one read; None: nothing came.

    The driver believes no answer of another unit, so this looks at the bare frame. Raises nothing.
    """
    function = READ_INPUT if block.table is Table.INPUT else READ_HOLDING
    pdu = struct.pack(">BHH", function, block.address, 1)
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
            writer.write(HEADER.pack(1, 0, len(pdu) + 1, unit_id) + pdu)
            transaction, protocol, _, seen = HEADER.unpack(await reader.readexactly(HEADER.size))
    except (OSError, EOFError, TimeoutError, UnicodeError):
        return None
    finally:
        if writer is not None:
            writer.close()
    return int(seen) if (transaction, protocol) == (1, 0) else None


def _refused(
    shown: Shown, profile: DeviceProfile, block: Block, refusal: DeviceRefused, pending: set[Block]
) -> set[Block]:
    """Learn from a refusal; the places that need not be asked again."""
    inside = {each for each in pending if block.holds(each)}
    if refusal.code in NOT_THERE:
        shown.holes = learn(block, inside, shown.holes)
        inside &= shown.holes.dead
    for point, spec in profile.points.items():
        if place(spec) in inside:
            shown.refused[point] = f"{spec.table} 0x{spec.address:04X} {refusal}"
    return inside


def _keep(shown: Shown, profile: DeviceProfile, block: Block, registers: Sequence[int]) -> None:
    for point, spec in profile.points.items():
        if not block.holds(place(spec)):
            continue
        start = place(spec).address - block.address
        shown.registers[point] = tuple(registers[start : start + place(spec).count])


def spans(addresses: Iterable[tuple[Table, int]]) -> str:
    """`input 0x1008-0x100F, 0x1013` of single registers."""
    tables: dict[Table, list[list[int]]] = {}
    for table, address in sorted(addresses):
        runs = tables.setdefault(table, [])
        if runs and runs[-1][1] == address - 1:
            runs[-1][1] = address
        else:
            runs.append([address, address])
    return "; ".join(
        f"{table} " + ", ".join(_span(first, last) for first, last in runs)
        for table, runs in tables.items()
    )


def _span(first: int, last: int) -> str:
    return f"0x{first:04X}" if first == last else f"0x{first:04X}-0x{last:04X}"
