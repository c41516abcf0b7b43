"""A simulated SunSpec battery inverter: the power part of one `SimUnit` behind SunSpec registers.

Two kinds, by `inverter.drive`: `storage` is an older device (103, 120 to 124, 160), anything else
a DER of IEEE 1547-2018 (701 to 706, 711 to 715). In both stands a maker's own model, 64900, that a
reader must skip by its length. Holding registers only: function 3 reads, 6 and 16 write. A block is
taken whole or not at all.

    exception 1   another function
    exception 2   no such register, one that is only read, a part of a point of several registers
    exception 3   an unknown enumeration, a percentage out of range, a point it does not implement
    exception 4   a control, while the switch on the device stands at local

What the drives make of the registers, and when reversion timers start, is told in `sunspec_der` and
`sunspec_storage`. Its own normal mode, `released`, is to idle. Power-up: nothing enabled.

Faults are plain attributes: set them, the next look or step shows them.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from vppd.core.settings import UnitSettings
from vppd.sim.modbus_pdu import DEVICE_FAILURE, ILLEGAL_FUNCTION, READ_HOLDING, RefusedError
from vppd.sim.sunspec import der as sunspec_der
from vppd.sim.sunspec import storage as sunspec_storage
from vppd.sim.sunspec.image import Image, Model, Written
from vppd.sim.sunspec.models_1xx import M1
from vppd.sim.sunspec.power import IDLE, Target
from vppd.sim.sunspec.readings import BUSY_KW, Look, Meter, State
from vppd.sim.sunspec.table import Point
from vppd.sim.unit import SimUnit

USUAL_BASE = 40000
MAKER, VERSION = "VPP sim", "1.0"
MAKERS_MODEL = 64900
NOMINAL_HZ = 50.0


class Drive(Protocol):
    """What one generation of models makes of a unit."""

    @property
    def is_connected(self) -> bool:
        """At the grid."""

    @property
    def may_run(self) -> bool:
        """Connected and not told to stand by."""

    @property
    def released(self) -> bool:
        """No setpoint acts."""

    def power_up(self) -> None:
        """Registers and timers as after power-up."""

    def advance(self, now_s: float) -> bool:
        """Let timers run out; whether a setpoint has reverted."""

    def written(self, points: list[Written], now_s: float) -> bool:
        """Start timers; whether alarms are to be reset."""

    def lose_timers(self) -> None:
        """Stop and clear every timer."""

    def target(self) -> Target:
        """kW and kvar that the registers ask for."""


class SimSunSpec:
    """One inverter. It moves when it is looked at: call `advance` first. It governs its unit, so
    advancing the unit alone keeps its timers going too.

    `base` is where "SunS" stands (default: the setting's, else 40000); `order` the model ids in
    the order they shall stand in behind model 1; `exponents` scale factors by (model, name);
    `curves` the slots of each curve. Raises ValueError for an order that is not of its models.
    """

    def __init__(
        self,
        settings: UnitSettings,
        unit: SimUnit,
        *,
        base: int | None = None,
        order: Sequence[int] | None = None,
        exponents: Mapping[tuple[int, str], int] | None = None,
        curves: int = 3,
        nominal_hz: float = NOMINAL_HZ,
    ) -> None:
        inverter = settings.inverter
        self.settings, self.id, self.unit = settings, settings.id, unit
        is_storage = inverter is not None and inverter.drive == "storage"
        models = sunspec_storage.models() if is_storage else sunspec_der.models(curves)
        usual = (sunspec_storage if is_storage else sunspec_der).exponents(unit)
        if base is None:
            base = inverter.base if inverter is not None else None
        self.image = Image(
            USUAL_BASE if base is None else base,
            (Model(M1.model, M1.layout()), *_ordered(_with_makers(models), order)),
            usual | dict(exponents or {}),
        )
        self.meter = Meter(unit)
        drive: sunspec_storage.StorageDrive | sunspec_der.DerDrive
        if is_storage:
            drive = sunspec_storage.StorageDrive(self.image, unit, self.meter, nominal_hz)
        else:
            drive = sunspec_der.DerDrive(self.image, unit, self.meter, curves, nominal_hz)
        self._drive: Drive = drive
        self._shows, self._controls = drive.shows, drive.controls
        self._target = IDLE
        self._now_s: float | None = None
        # where faults act
        self.fault_bits = 0  # bits of 701 Alrm and 103 Evt1 that also stop it
        self.alarm_bits = 0  # bits that are only told
        self.latched_bits = 0  # like fault_bits, until alarms are reset
        self.dc_alarm_bits = 0  # 714 DCAlrm, 160 Evt
        self.forced_state: State | None = None
        self.is_frozen = False  # what it measures stands still
        self.ignores_writes = False  # answers, and takes nothing
        self.refuses_code = 0  # the exception that every write gets; 0: none
        self.is_local = False  # the switch on the device: controls refused, idle
        self.timer_broken = False  # reversion cannot be enabled and reads 0
        self.hidden: set[tuple[int, str]] = set()  # points that read as not implemented
        self._identify(is_storage)
        self._drive.power_up()
        unit.governor = self._govern

    def _identify(self, is_storage: bool) -> None:
        kind = "storage inverter" if is_storage else "DER inverter"
        inverter = self.settings.inverter
        self.image.show(1, {"Mn": MAKER, "Md": kind, "Vr": VERSION, "SN": self.id})
        self.image.show(1, {"DA": inverter.unit_id if inverter is not None else 1})
        values = {f"Own{index}": 1000 + index for index in range(1, 7)}
        self.image.show(MAKERS_MODEL, dict(values))

    # life
    def advance(self, now_s: float) -> None:
        """Live until now."""
        self.unit.advance(now_s)
        self._govern(now_s)

    def _govern(self, now_s: float) -> None:
        if self._now_s is not None and now_s > self._now_s:
            self.meter.count(now_s - self._now_s)
        self._now_s = now_s if self._now_s is None else max(self._now_s, now_s)
        if self.timer_broken:
            self._drive.lose_timers()
        reverted = self._drive.advance(now_s)
        target = self._wanted()
        if reverted or target != self._target:
            self._command(target, "timeout" if reverted else "sunspec")

    def _wanted(self) -> Target:
        """What it does now; a fault, a stop and the local switch make it idle."""
        if self._has_fault or self.is_local or not self._drive.may_run:
            return IDLE
        return self._drive.target()

    def _command(self, target: Target, source: str) -> None:
        self._target = target
        self.unit.command(target.power_kw, target.reactive_kvar, source)

    def reset(self) -> None:
        """Power-up: nothing enabled, the output off at once."""
        self.latched_bits = 0
        self._drive.power_up()
        self._command(IDLE, "reset")
        self.unit.inverter.power_kw = self.unit.inverter.reactive_kvar = 0.0

    def rescale(self, model: int, scale: str, exponent: int) -> None:
        """Another exponent at run time, as a changed firmware would; values stay."""
        self.image.rescale(model, scale, exponent)

    # how it is
    @property
    def power_kw(self) -> float:
        """AC power, positive = discharge."""
        return self.unit.power_kw

    @property
    def setpoint_kw(self) -> float:
        """What it drives its unit to, positive = discharge."""
        return self._target.power_kw

    @property
    def setpoint_kvar(self) -> float:
        """What it drives its unit to, positive = out."""
        return self._target.reactive_kvar

    @property
    def released(self) -> bool:
        """Whether it is left to its own normal mode: no active power setpoint acts."""
        return self._drive.released

    @property
    def _has_fault(self) -> bool:
        return bool(self.fault_bits | self.latched_bits) or self.unit.faulted

    @property
    def state(self) -> State:
        """Its operating state."""
        if self.forced_state is not None:
            return self.forced_state
        if self._has_fault:
            return State.FAULT
        if not self._drive.is_connected:
            return State.OFF
        if self._target.is_limited:
            return State.THROTTLED
        return State.RUNNING if abs(self.power_kw) > BUSY_KW else State.STANDBY

    def _look(self) -> Look:
        return Look(
            now_s=self._now_s or 0.0,
            state=self.state,
            alarm_bits=self.fault_bits | self.alarm_bits | self.latched_bits,
            battery_faulted=self.unit.faulted,
            dc_alarm_bits=self.dc_alarm_bits,
            is_local=self.is_local,
            is_limited=self._target.is_limited,
            is_connected=self._drive.is_connected,
        )

    # the wire
    def read_registers(self, function: int, address: int, count: int) -> Sequence[int]:
        """Function 3. Raises RefusedError."""
        if function != READ_HOLDING:
            raise RefusedError(ILLEGAL_FUNCTION)
        touched = self.image.models(address, count)
        if not self.is_frozen:
            look = self._look()
            for model in touched & self._shows.keys():
                self._shows[model](look)
        return self.image.read(address, count, self.hidden)

    def write_registers(self, address: int, words: Sequence[int], source: str = "modbus") -> None:
        """Functions 6 and 16: all or nothing. Raises RefusedError."""
        if self.refuses_code:
            raise RefusedError(self.refuses_code)
        touched = self.image.models(address, len(words))
        if self.is_local and touched & self._controls:
            raise RefusedError(DEVICE_FAILURE)
        if self.ignores_writes:
            return
        points = self.image.write(address, words)
        if self._drive.written(points, self._now_s or 0.0):
            self._reset_alarms()
        if self.timer_broken:
            self._drive.lose_timers()
        # a renewal is worth remembering, so it is commanded though it changes nothing
        self._command(self._wanted(), "sunspec" if source == "modbus" else source)

    def _reset_alarms(self) -> None:
        self.latched_bits = 0
        self.unit.latched_fault_bits = self.unit.latched_alarm_bits = 0


def _with_makers(models: Sequence[Model]) -> tuple[Model, ...]:
    """A model no reader knows, in the middle of the chain."""
    head = (Point(0, "ID", "uint16"), Point(1, "L", "uint16"))
    own = (Point(index + 1, f"Own{index}", "uint16") for index in range(1, 7))
    half = len(models) // 2
    return (*models[:half], Model(MAKERS_MODEL, (*head, *own)), *models[half:])


def _ordered(models: Sequence[Model], order: Sequence[int] | None) -> Sequence[Model]:
    if order is None:
        return models
    by_id = {model.id: model for model in models}
    if sorted(order) != sorted(by_id):
        raise ValueError(f"an order of {sorted(by_id)} is needed, not {list(order)}")
    return [by_id[model] for model in order]
