"""One stop of a survey: one configured device is asked, read-only, and judged."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from vppd.core.model import Point
from vppd.core.ports import Clock
from vppd.core.profile import DeviceProfile, Group, Table
from vppd.core.settings import (
    InputModbusSettings,
    InterlockInputSettings,
    InverterSettings,
    UnitSettings,
)
from vppd.field.blocks import Block
from vppd.field.drivers.hold import IN_USE
from vppd.field.drivers.modbus import (
    DeviceRefused,
    Endpoint,
    LineHeld,
    LinkDown,
    ModbusError,
)
from vppd.field.poll import Seat
from vppd.field.survey.checks import (
    device_limits,
    poll_time,
    registers,
    revert,
)
from vppd.field.survey.remarks import ASK_OR_STOP, Remark, fine, odd, wrong
from vppd.field.survey.sunspec import ask_inverter
from vppd.field.survey.values import Expected, doubts, nameplate, sign_and_size, values_of
from vppd.field.survey.wire import Probe, Shown, answering_as, cycle_s, gather, place

NEIGHBOURS = (0, 1, 2, 3, 4, 255)  # unit ids tried where the configured one is silent
DEVICE_REQUESTS = 30  # a device may use up so many time-outs
DEVICE_LEAST_S = 10.0
STOP_FIRST = "stop vppd and every other client first (systemctl stop vppd), then check again"


@dataclass(frozen=True, slots=True)
class Stop:
    """One configured device on its line."""

    name: str
    what: str
    at: Seat | InputModbusSettings
    profile: DeviceProfile | None = None
    unit: UnitSettings | None = None
    interlock: InterlockInputSettings | None = None
    expected: Expected = field(default_factory=Expected)

    @property
    def where(self) -> str:
        return f"{endpoint_of(self.at)} unit id {self.at.unit_id}"

    @property
    def within_s(self) -> float:
        """The survey spends no more on it."""
        return max(DEVICE_LEAST_S, DEVICE_REQUESTS * self.at.timeout_s)


def endpoint_of(at: Seat | InputModbusSettings) -> Endpoint:
    """Where the connection of a configured device goes."""
    if at.serial is not None:
        return Endpoint(None, 0, at.serial, at.baudrate, at.parity, at.stopbits)
    return Endpoint(at.host, at.port)


class Visit:
    """One device, asked and judged."""

    def __init__(
        self, stop: Stop, probe: Probe, clock: Clock, ids: set[int], *, alone: bool
    ) -> None:
        self.remarks: list[Remark] = []
        self.values: Mapping[Point, float] = {}
        self.cycle_s: float | None = None
        self._stop, self._probe, self._clock, self._ids = stop, probe, clock, ids
        self._alone = alone  # the first of its line that answers: a second client is tried

    async def make(self) -> None:
        """Ask everything; what fails is a remark."""
        stop = self._stop
        try:
            if stop.interlock is not None:
                await self._input(stop.interlock)
            elif stop.profile is not None:
                await self._mapped(stop.profile)
            elif isinstance(stop.at, InverterSettings) and stop.unit is not None:
                asked = ask_inverter(
                    self._probe, stop.at, stop.unit, stop.expected, self._clock.utc()
                )
                remarks, self.values, self.cycle_s = await asked
                self.remarks += remarks
                await self._second_client(Block(Table.HOLDING, stop.at.base or 40000, 2))
        except ModbusError as error:
            await self._unreachable(error)
        except ValueError as error:
            self.remarks.append(wrong("profile", str(error), "correct the profile"))

    async def _input(self, interlock: InterlockInputSettings) -> None:
        at = interlock.modbus
        table = Table.DISCRETE_INPUT if at.discrete_input is not None else Table.COIL
        address = at.discrete_input if at.discrete_input is not None else at.coil
        block = Block(table, address or 0, 1)
        try:
            bit = (await self._probe.read(at.unit_id, block, at.timeout_s))[0]
        except DeviceRefused as refusal:
            self.remarks.append(wrong("input", f"{table} {address}: {refusal}", "another address?"))
            return
        self.cycle_s = self._probe.took_s
        self.remarks += [_reached(self._probe.took_s), poll_time(self.cycle_s, at.poll_s)]
        healthy = bit == interlock.healthy
        text = f"{table} {address} is {bit}, healthy is {interlock.healthy}"
        remedy = "its scope will be shut down: the cause, the wiring, or `healthy`"
        self.remarks.append(fine("input", text) if healthy else odd("input", text, remedy))

    async def _mapped(self, profile: DeviceProfile) -> None:
        stop, at = self._stop, self._stop.at
        shown = await gather(self._probe, at.unit_id, profile, at.timeout_s)
        self.remarks.append(_reached(self._probe.took_s))
        await self._measure(profile, shown)
        self.values = values_of(profile, shown, stop.expected)
        self.remarks += registers(profile, shown)
        self.remarks += doubts(profile, shown, stop.expected)
        self.remarks += sign_and_size(self.values, stop.expected)
        self.remarks += nameplate(self.values, stop.expected)
        self.remarks += revert(profile, self.values)
        if stop.unit is not None:
            self.remarks += device_limits(self.values, stop.unit)
        alive = [place(profile.points[point]) for point in shown.registers]
        if alive:
            await self._second_client(alive[0])

    async def _measure(self, profile: DeviceProfile, shown: Shown) -> None:
        """The better of two polls: the first of a line may wait for others."""
        fast = [profile.points[p] for p in shown.registers if profile.points[p].group is Group.FAST]
        at = self._stop.at
        for _ in range(2):
            try:
                took_s = await cycle_s(
                    self._probe, at.unit_id, fast, profile, shown.holes, at.timeout_s
                )
            except ModbusError as error:
                text = f"it answered, then did not: {error}"
                self.remarks.append(odd("poll time", text, "other clients? a bad line?"))
                return
            self.cycle_s = took_s if self.cycle_s is None else min(self.cycle_s, took_s)
        if self.cycle_s is not None:
            self.remarks.append(poll_time(self.cycle_s, at.poll_s))

    async def _second_client(self, block: Block) -> None:
        """Whether the device serves a second connection, and the first then still."""
        stop, at = self._stop, self._stop.at
        if at.serial is not None or not self._alone:
            return
        if stop.profile is not None and stop.profile.one_client:
            self.remarks.append(fine("clients", "one client only, as the profile says"))
            return
        second = Probe(self._probe.endpoint, self._clock, self._probe.deadline_s)
        served = await _serves(second, at.unit_id, block, at.timeout_s)
        kept = await _serves(self._probe, at.unit_id, block, at.timeout_s, reopen=False)
        second.close()
        self.remarks.append(_clients(served, kept))

    async def _unreachable(self, error: ModbusError) -> None:
        """Nothing was answered: the exact failure, and whether another unit id answers."""
        stop = self._stop
        if isinstance(error, LineHeld):
            text = f"{stop.at.serial}: {IN_USE}"
            self.remarks.append(wrong("reachable", text, ASK_OR_STOP))
            return
        if isinstance(error, LinkDown):
            remedy = "address, port, cable, power? if the device serves one client only, "
            self.remarks.append(wrong("reachable", str(error), remedy + STOP_FIRST))
            return
        text = f"no answer as unit id {stop.at.unit_id}: {error}"
        found = await self._neighbours()
        remedy = "unit id, power, wiring; if the device serves one client only, " + STOP_FIRST
        self.remarks.append(wrong("reachable", text, "" if found else remedy))
        if found:
            many = " and ".join(map(str, found))
            text = f"unit id {many} answers where {stop.at.unit_id} is configured"
            self.remarks.append(wrong("unit id", text, f"unit_id: {found[0]}, or set it there"))

    async def _neighbours(self) -> list[int]:
        stop, at = self._stop, self._stop.at
        block = _first_block(stop)
        if at.serial is None:
            seen = await answering_as(endpoint_of(at), at.unit_id, block, at.timeout_s)
            if seen is not None and seen != at.unit_id:
                return [seen]
        found: list[int] = []
        for unit_id in NEIGHBOURS:
            broadcast = unit_id == 0 and at.serial is not None
            if unit_id in self._ids or broadcast:
                continue
            if await _serves(self._probe, unit_id, block, at.timeout_s):
                found.append(unit_id)
        return found


async def _serves(
    probe: Probe, unit_id: int, block: Block, timeout_s: float, *, reopen: bool = True
) -> bool:
    """Whether a read is answered, be it with a refusal."""
    try:
        await probe.read(unit_id, block, timeout_s, reopen=reopen)
    except DeviceRefused:
        return True
    except ModbusError:
        return False
    return True


def _first_block(stop: Stop) -> Block:
    if stop.profile is not None and stop.profile.points:
        spec = next(iter(stop.profile.points.values()))
        return Block(spec.table, spec.address, 1)
    return Block(Table.HOLDING, 40000, 1)


def _reached(took_s: float) -> Remark:
    return fine("reachable", f"answers in {1000.0 * took_s:.0f} ms")


def _clients(served: bool, kept: bool) -> Remark:
    if served and kept:
        return fine("clients", "a second connection is served beside the first")
    if served:
        text = "a second connection throws the first out"
    else:
        text = "a second connection is not served"
    remedy = "one_client: true in an own profile; nothing else may connect while vppd runs"
    return odd("clients", f"{text}: the device serves one client only", remedy)
