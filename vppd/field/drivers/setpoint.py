"""The setpoint registers of a unit and the frames that write them. Pure."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from vppd.core.model import Cleared
from vppd.core.profile import DeviceProfile, Writable, WriteSpec
from vppd.field.decode import encode, framed, framed_value, register_count, written
from vppd.field.drivers.modbus import WRITE_SEVERAL

SETPOINTS = (Writable.POWER_KW, Writable.REACTIVE_KVAR)


class Purpose(Enum):
    """What a write is for."""

    SETPOINT = "setpoint"
    TIMER = "revert timer"
    STEP = "sequence"
    HEARTBEAT = "heartbeat"


@dataclass(frozen=True, slots=True)
class Frame:
    """One write request."""

    purpose: Purpose
    address: int
    registers: tuple[int, ...]
    function: int
    writes: tuple[Writable, ...]
    cleared_at_s: float = 0.0


@dataclass(slots=True)
class Setpoint:
    """Setpoint registers that one frame writes."""

    writes: tuple[Writable, ...]
    specs: tuple[WriteSpec, ...]
    target: tuple[int, ...] = ()
    aimed: tuple[float, float] | None = None  # kW and kvar that the target was made of
    zero: bool = True  # the target is 0
    asked: bool = False  # something else than 0 was asked for once
    sent: tuple[int, ...] | None = None  # as last answered; None: what it holds is unknown
    values: Mapping[Writable, float] = field(default_factory=dict)  # the same in our units
    flies: bool = False  # a write of it was sent and is not answered yet
    sent_s: float = -math.inf
    tried_s: float = -math.inf
    waits_s: float = math.inf  # since when the target waits to be sent
    refused: tuple[int, ...] | None = None
    refused_s: float = -math.inf

    @property
    def due_s(self) -> float:
        return max(self.waits_s, self.tried_s + max(spec.period_s for spec in self.specs))

    @property
    def address(self) -> int:
        """Where its frame begins."""
        return self.specs[0].address - len(self.specs[0].before)

    @property
    def stands(self) -> bool:
        """Whether the device holds the target, and nothing else is on its way there."""
        return self.target == self.sent and self.waits_s == math.inf and not self.flies

    @property
    def wanted(self) -> bool:
        """Whether it is written at all."""
        return self.asked or not all(spec.when_asked for spec in self.specs)

    @property
    def holds_zero(self) -> bool:
        """Whether the device answered to hold 0."""
        return self.sent is not None and not any(self.values.values())

    def aim(self, cleared: Cleared) -> None:
        """Encode what was cleared."""
        wanted = (cleared.power_kw, cleared.reactive_kvar)
        if wanted == self.aimed:
            return
        self.aimed = wanted
        asked = dict(zip(SETPOINTS, wanted, strict=True))
        if len(self.specs) == 1:
            self.target = framed(self.specs[0], asked[self.writes[0]])[1]
        else:
            parts = (
                encode(spec, asked[write])
                for write, spec in zip(self.writes, self.specs, strict=True)
            )
            self.target = tuple(register for part in parts for register in part)
        self.zero = not any(self.values_of(self.target).values())
        self.asked = self.asked or not self.zero

    def hold(self, registers: tuple[int, ...]) -> None:
        """The device answered to hold these."""
        self.sent, self.refused, self.flies = registers, None, False
        self.values = self.values_of(registers)

    def forget(self) -> None:
        """What the device holds is not known."""
        self.sent, self.values, self.flies = None, {}, False

    def frame(self, cleared_at_s: float) -> Frame:
        """The write of its target, that is of what was cleared then."""
        writes, function = self.writes, self.specs[0].function
        return Frame(Purpose.SETPOINT, self.address, self.target, function, writes, cleared_at_s)

    def values_of(self, registers: tuple[int, ...]) -> dict[Writable, float]:
        """What registers of it mean, in our units."""
        if len(self.specs) == 1:
            return {self.writes[0]: framed_value(self.specs[0], registers)}
        size = len(registers) // len(self.specs)
        return {
            write: written(spec, registers[at * size : (at + 1) * size])
            for at, (write, spec) in enumerate(zip(self.writes, self.specs, strict=True))
        }


def held_by(setpoints: Iterable[Setpoint]) -> Mapping[Writable, float]:
    """What a device answered to hold, in kW and kvar."""
    return {write: value for each in setpoints for write, value in each.values.items()}


def is_volatile(specs: Iterable[WriteSpec]) -> bool:
    """Whether none of these wears with every write."""
    return all(spec.volatile for spec in specs)


def setpoints(profile: DeviceProfile) -> tuple[Setpoint, ...]:
    """Power and reactive power in one frame where they are neighbours, else power first."""
    given = [
        (write, profile.writes[write])
        for write in SETPOINTS
        if write in profile.writes and not profile.read_only
    ]
    if len(given) > 1:
        (first, power), (second, reactive) = given
        size = register_count(power)
        if (
            power.function == reactive.function == WRITE_SEVERAL
            and power.address + size == reactive.address
            and size == register_count(reactive)
            and not any(_more(spec) for spec in (power, reactive))
        ):
            return (Setpoint((first, second), (power, reactive)),)
    return tuple(Setpoint((write,), (spec,)) for write, spec in given)


def _more(spec: WriteSpec) -> bool:
    """Whether its frame holds more than the value, or it is not always written."""
    return bool(spec.mirror or spec.before or spec.after or spec.when_asked)
