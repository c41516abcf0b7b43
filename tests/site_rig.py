"""A whole site on virtual time: the house of vppd/app.py against the embedded plant, over in-memory
bytes that carry the real protocols.

    async with SiteRig(site_settings()) as rig:        # every unit ready, grid at 50 Hz
        rig.step(49.7)
        await rig.run(1.0)
        assert rig.sum_kw() == pytest.approx(48.0, abs=0.4)

The rig watches what arrives at the devices the whole time: `worst_kw` is the largest setpoint a
device was told, `worst_sum_kw` the largest sum. What it says of a unit is what the plant's device
holds, never what the house believes.
"""

import asyncio
import functools
import itertools
import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from tests.config_site import FINE, loaded, settings_of
from tests.rig import MemoryJournal
from tests.virtual_time import VirtualClock
from vppd.app import House, build
from vppd.config.devices import SHIPPED_PROFILES, load_bms, load_profile
from vppd.core.alarms import Code
from vppd.core.bms import BmsProfile
from vppd.core.model import SITE, Plan, Priority, UnitId
from vppd.core.ports import Journal
from vppd.core.profile import DeviceProfile
from vppd.core.records import EventRow, Row, SetpointRow, SiteRow, TripRow, ViolationRow
from vppd.core.settings import (
    BmsSettings,
    ClockSettings,
    ConnectionSettings,
    DroopSettings,
    InputModbusSettings,
    InterlockInputSettings,
    InverterSettings,
    MeterSettings,
    ModbusSettings,
    PmuSettings,
    SafetySettings,
    Settings,
    SiteSettings,
    UnitSettings,
)
from vppd.field.gate import UnitDecision
from vppd.sim.plant import Plant
from vppd.sim.unit import ENABLE, SETPOINT_KVAR, SetpointWrite, signed
from vppd.spine.heartbeat import PERIOD_S
from vppd.spine.supervise import ExitReason, Supervisor, TaskStatus
from vppd.trading import Means

V2 = "vpp-bess-v2"
NAMES = ("A", "B", "C", "D")
POLL_S, TIMEOUT_S, TICK_S = 0.5, 1.0, 0.11  # a tick waits a hair longer than a PMU's period
TWO_POLLS_S = 2 * POLL_S
RESOLUTION_KW = 0.1  # of the setpoint register
LOOK_S = 0.01  # how often a condition is looked at
PMU = PmuSettings(host="10.0.0.5", port=4712, idcode=7)
PLAIN_DROOP = DroopSettings(
    rocof_gain_pu_per_hz_per_s=0.0,
    soc_adaptive=False,
    temperature_adaptive=False,
    load_adaptive=False,
)


@functools.cache
def profile(name: str) -> DeviceProfile:
    """A shipped profile as the configuration loader reads it."""
    field = FINE["field.yaml"].replace("profile: toy", f"profile: {name}")
    field = field.replace("    safety:", "    accept_no_revert: true\n    safety:")
    return settings_of(loaded(FINE | {"field.yaml": field})).profiles[name]


@functools.cache
def meter_profile(name: str) -> DeviceProfile:
    """A shipped meter as the configuration loader reads it."""
    return load_profile(SHIPPED_PROFILES / f"{name}.yaml")


@functools.cache
def bms_profile(name: str) -> BmsProfile:
    """A shipped BMS model as the configuration loader reads it."""
    return load_bms(SHIPPED_PROFILES / f"{name}.yaml")


@dataclass(frozen=True, slots=True)
class Gear:
    """What a unit has besides its controller, or in its place."""

    drive: Literal["der", "storage"] | None = None  # of its inverter; None: it has none
    bms: str | None = None  # a shipped BMS model
    controller: bool = True
    inverter: Mapping[str, Any] = field(default_factory=dict)  # other settings of it


PLAIN = Gear()
FULL = Gear("der", "vpp-bms")
OLDER = Gear("storage", "pylontech")
SOLE_INVERTER = Gear("der", controller=False)
METER_AT = MeterSettings(profile="eastron-sdm630", host="10.0.3.1", poll_s=POLL_S)
FULL_WITHIN_S = 12.0  # a SunSpec device is searched for, and some of it is read every 10 s only


def unit_settings(
    name: str,
    number: int,
    model: str = V2,
    safety: Mapping[str, Any] | None = None,
    gear: Gear = PLAIN,
) -> UnitSettings:
    """A 100 kW unit on an address of its own; odd numbers show holes as zeros, even refuse them."""
    inverter = InverterSettings(
        host=f"10.0.2.{number}",
        drive=gear.drive or "auto",
        poll_s=POLL_S,
        timeout_s=TIMEOUT_S,
        **gear.inverter,
    )
    bms = BmsSettings(dbc=gear.bms or "", interface="virtual", channel=f"can-{number}")
    controller = ModbusSettings(
        profile=model,
        host=f"10.0.1.{number}",
        unit_id=number,
        poll_s=POLL_S,
        timeout_s=TIMEOUT_S,
    )
    return UnitSettings(
        id=name,
        building="NORTH" if number <= 2 else "SOUTH",
        rated_power_kw=100.0,
        rated_apparent_kva=110.0,
        energy_kwh=250.0,
        modules_parallel=23,
        accept_no_revert=profile(model).revert.kind == "none",
        modbus=controller if gear.controller else None,
        bms=bms if gear.bms is not None else None,
        inverter=inverter if gear.drive is not None else None,
        safety=SafetySettings(**(safety or {})),
    )


def fire_input(scope: str = "site") -> InterlockInputSettings:
    """A hardware interlock on an address of its own."""
    at = InputModbusSettings(host="10.0.1.99", unit_id=9, discrete_input=3)
    return InterlockInputSettings(id="fire", scope=scope, modbus=at)


def site_settings(
    names: Sequence[str] = NAMES,
    *,
    droop: DroopSettings = PLAIN_DROOP,
    pmus: tuple[PmuSettings, ...] = (PMU,),
    safety: Mapping[str, Any] | None = None,
    model: str = V2,
    connection: ConnectionSettings | None = None,
    gear: Mapping[str, Gear] | None = None,
    **rest: Any,
) -> Settings:
    """A site of equal units with one PMU and one interlock input; `gear` says which unit has what
    else."""
    made = gear or {}
    units = (
        unit_settings(name, at, model, safety, made.get(name, PLAIN))
        for at, name in enumerate(names, start=1)
    )
    profiles = {model: profile(model)}
    if (meter := rest.get("meter")) is not None:
        profiles[meter.profile] = meter_profile(meter.profile)
    return Settings(
        site=SiteSettings(id="lab"),
        mode="hardware",
        clock=ClockSettings(sync="assume"),
        units=tuple(units),
        interlock_inputs=rest.pop("interlock_inputs", (fire_input(),)),
        pmu=pmus,
        droop=droop,
        connection=connection or ConnectionSettings(),
        profiles=profiles,
        bms_profiles={each.bms: bms_profile(each.bms) for each in made.values() if each.bms},
        **rest,
    )


class SiteRig:
    """One site, its plant, and what its devices were told."""

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        journal: Journal | None = None,
        seed: int = 1,
        grid_hz: float | None = 50.0,
        trace: Path | None = None,
        start: datetime = datetime(2026, 1, 1, tzinfo=UTC),
    ) -> None:
        """`grid_hz` None leaves the grid to itself, or to the trace; `start` is wall time."""
        self.settings = settings or site_settings()
        self.names = tuple(unit.id for unit in self.settings.units)
        self.clock = VirtualClock(start)
        self.memory = MemoryJournal()
        self.journal: Journal = journal or self.memory
        self.house: House
        self.plant: Plant
        self.proofs_s: list[float] = []
        self.reason: ExitReason | None = None
        self.means: Means | None = None  # what it trades with
        self.state_dir: Path | None = None  # where decisions are recorded
        self.beat_s = PERIOD_S
        self._supervisor: Supervisor
        self._life: asyncio.Task[None] | None = None
        self._seed, self._grid_hz, self._trace = seed, grid_hz, trace

    # ---- life ---------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self.plant = Plant(self.settings, self.clock, seed=self._seed, trace=self._trace)
        await self.plant.__aenter__()
        self._group = await asyncio.TaskGroup().__aenter__()
        if self._grid_hz is not None:
            self.plant.inject("frequency_step", frequency_hz=self._grid_hz)
        try:
            await self.start()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.kill()
        await self._group.__aexit__(None, None, None)
        await self.plant.__aexit__(None, None, None)
        if kind is None and self.reason is not None:
            assert self.reason.clean, self.reason

    async def start(self, trips: Sequence[TripRow] | None = (), *, ready: bool = True) -> None:
        """Build a house over these trips and employ it; wait until every unit may work."""
        self.house = build(
            self.settings,
            self.clock,
            self.journal,
            trips,
            proved=self.proofs_s.append,
            means=self.means,
            state_dir=self.state_dir,
            beat_s=self.beat_s,
        )
        self._supervisor = Supervisor(self.clock, self._troubled, self._rest)
        self.house.employ(self._supervisor)
        self.reason = None
        self._life = self._group.create_task(self._live())
        if ready:
            slow = self.plant.inverters or self.plant.bmss
            await self.until(
                lambda: all(
                    self.state(name) not in ("starting", "none") and self._is_on(name)
                    for name in self.names
                ),
                within_s=FULL_WITHIN_S if slow else 3.0,
            )

    def _is_on(self, name: str) -> bool:
        """Whether the device that takes the setpoints was switched on; a controller beside an
        inverter is only read."""
        if (inverter := self.plant.inverters.get(name)) is not None:
            return not inverter.released
        return self.plant.unit(name).holding[ENABLE] == 1

    async def _live(self) -> None:
        self.reason = await self._supervisor.run()

    def _troubled(self, code: Code, active: bool, text: str) -> None:
        self.house.alarms.set(code, SITE, active, text)

    async def _rest(self, _: ExitReason) -> None:
        """As the daemon does before it exits."""
        await self._supervisor.end("tick")
        await self.house.rest()

    async def stop(self) -> None:
        """SIGTERM."""
        self._supervisor.stop("SIGTERM")
        assert self._life is not None
        await asyncio.wait([self._life])

    async def kill(self) -> None:
        """kill -9: every task dies where it stands, nothing is said to a device."""
        if self._life is not None:
            self._life.cancel()
            await asyncio.wait([self._life])
            self._life = None

    def tasks(self) -> tuple[TaskStatus, ...]:
        """All that runs."""
        return self._supervisor.status()

    def employ(self, name: str, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """One more task of this house."""
        self._supervisor.fatal(name, run)

    async def end(self, task: str) -> None:
        """Cancel one task of the house."""
        await self._supervisor.end(task)

    # ---- time ---------------------------------------------------------------------------------

    @property
    def now_s(self) -> float:
        return self.clock.now_s()

    async def run(self, seconds_s: float) -> None:
        """Let so much virtual time pass."""
        await self.clock.sleep_until(self.now_s + seconds_s)

    async def until(self, condition: Callable[[], bool], within_s: float) -> float:
        """Wait for a condition; the seconds it took. Fails when it does not come in time."""
        begun_s = self.now_s
        while not condition():
            took_s = self.now_s - begun_s
            assert took_s <= within_s, f"not within {within_s:g} s: {self.account()}"
            await self.run(LOOK_S)
        return self.now_s - begun_s

    async def always(self, condition: Callable[[], bool], for_s: float) -> None:
        """A condition holds at every look for so long."""
        end_s = self.now_s + for_s
        while self.now_s < end_s:
            assert condition(), self.account()
            await self.run(LOOK_S)

    # ---- acts ---------------------------------------------------------------------------------

    def plan(
        self,
        power_kw: float,
        unit: str = SITE,
        *,
        priority: Priority = Priority.OPERATOR,
        for_s: float = 900.0,
        source: str = "operator",
        **more: Any,
    ) -> None:
        """Ask for power as an operator does, or as another source."""
        plan = Plan(
            UnitId(unit), power_kw, self.now_s + for_s, source, priority, self.now_s, **more
        )
        self.house.bus.publish(plan)

    def step(self, frequency_hz: float) -> None:
        """The grid's frequency from now on."""
        self.plant.inject("frequency_step", frequency_hz=frequency_hz)

    def reset(self, scope: str) -> None:
        """An operator's reset."""
        self.house.gate.reset(scope, "tester")

    # ---- what the devices hold ----------------------------------------------------------------

    def held_kw(self, name: str) -> float:
        """The setpoint register of a device now."""
        return self.plant.unit(name).setpoint_kw

    def gives_kw(self, name: str) -> float:
        """What a device really gives now."""
        return self.plant.unit(name).power_kw

    def sum_kw(self, *names: str) -> float:
        """The sum of the setpoints at these devices, or at all."""
        return sum(self.held_kw(name) for name in names or self.names)

    def held_kvar(self, name: str) -> float:
        """The reactive setpoint register of a device now."""
        if name in self.plant.inverters:
            return self.plant.inverter(name).setpoint_kvar
        return -0.1 * signed(self.plant.unit(name).holding[SETPOINT_KVAR])

    def told(self, name: str, since_s: float = 0.0) -> list[SetpointWrite]:
        """Every setpoint that arrived at a device since then."""
        return [each for each in self.plant.units[name].setpoints if each.at_s >= since_s]

    def worst_sum_kw(self, since_s: float = 0.0) -> tuple[float, float]:
        """The least and the largest sum of all devices' setpoints since then; writes of one instant
        count together."""
        writes = sorted(
            ((each.at_s, name, each.power_kw) for name in self.names for each in self.told(name)),
            key=lambda write: write[0],
        )
        held, low_kw, high_kw = dict.fromkeys(self.names, 0.0), 0.0, 0.0
        for at_s, together in itertools.groupby(writes, key=lambda write: write[0]):
            held.update({name: power_kw for _, name, power_kw in together})
            if at_s >= since_s:
                low_kw = min(low_kw, sum(held.values()))
                high_kw = max(high_kw, sum(held.values()))
        return low_kw, high_kw

    # ---- what the house says ------------------------------------------------------------------

    def decision(self, name: str) -> UnitDecision:
        return self.house.gate.decisions[UnitId(name)]

    def state(self, name: str) -> str:
        """The state word, or "none" before the first tick."""
        made = self.house.gate.decisions.get(UnitId(name))
        return str(made.state) if made is not None else "none"

    def bound_by(self, name: str) -> tuple[Code, ...]:
        return self.decision(name).cleared.bound_by

    def latched(self) -> set[tuple[str, Code]]:
        return {(latch.scope, latch.code) for latch in self.house.gate.latches.all()}

    def standing(self, unit: str, code: Code) -> bool:
        """Whether a violation stands in the audit."""
        return any(
            row.unit == unit and row.rule == code and row.cleared_at is None
            for row in self.house.audit.rows()
        )

    def alarmed(self, code: Code, unit: str = SITE) -> bool:
        return any(
            alarm.code is code and alarm.unit == unit for alarm in self.house.alarms.standing()
        )

    def rows(self, since: int = 0) -> list[Row]:
        """Rows of the journal in memory, from the `since`th on."""
        return self.memory.rows[since:]

    def trips(self) -> tuple[TripRow, ...]:
        """The newest row of each latch, as a journal on disk would give them back."""
        newest = {(row.scope, row.code): row for row in self.rows() if isinstance(row, TripRow)}
        return tuple(newest.values())

    def journaled(self, unit: str, code: Code, since: int = 0) -> bool:
        """Whether any row of the journal names this reason for this unit or scope."""
        return any(_names(row, unit, code) for row in self.rows(since))

    def account(self) -> str:
        """What everyone thinks, for a failed assertion."""
        parts = [f"t={self.now_s:.2f} shut_by={self.house.gate.shut_by}"]
        for name in self.names:
            made = self.house.gate.decisions.get(UnitId(name))
            if made is not None:
                cleared = made.cleared
                parts.append(
                    f"{name}: {made.state} asked {cleared.asked_kw:.2f} got {cleared.power_kw:.2f}"
                    f" held {self.held_kw(name):.1f} gives {self.gives_kw(name):.1f}"
                    f" by {[str(code) for code in cleared.bound_by]}"
                )
        alarms = [f"{each.code}@{each.unit}" for each in self.house.alarms.standing()]
        return "\n".join([*parts, f"alarms {alarms}"])


def _names(row: Row, unit: str, code: Code) -> bool:
    match row:
        case EventRow():
            return (row.unit, row.code) == (unit, code)
        case ViolationRow():
            return (row.unit, row.rule) == (unit, code)
        case TripRow():
            return (row.scope, row.code) == (unit, code)
        case SiteRow():
            return unit == SITE and any(cut[0] == code for cut in json.loads(row.clamps_json))
        case SetpointRow():
            return row.unit == unit and any(cut[0] == code for cut in json.loads(row.clamps_json))
        case _:
            return False


def with_safety(settings: Settings, name: str, **limits: Any) -> Settings:
    """The same site with other limits of one unit."""
    units = tuple(
        replace(unit, safety=replace(unit.safety, **limits)) if unit.id == name else unit
        for unit in settings.units
    )
    return replace(settings, units=units)
