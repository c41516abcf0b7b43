"""The whole plant: every configured unit, interlock input and PMU, served at its own address.

    async with Plant(settings, clock, seed=1) as plant:      # in a test, also on virtual time
        plant.inject("frequency_step", frequency_hz=49.7)
        plant.units["B1"].setpoints[-1].power_kw

`serve` is the same for a process: it adds the fault socket and runs until cancelled. In mode `hil`
only units marked `simulate: true` are served; interlock inputs and PMUs are real there.
"""

import asyncio
import zlib
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from vppd.core.ports import Clock
from vppd.core.settings import (
    InputModbusSettings,
    LocationSettings,
    ModbusSettings,
    PmuSettings,
    Settings,
)
from vppd.sim.c37118_frames import Layout
from vppd.sim.fault_socket import FaultSocket
from vppd.sim.faults import KINDS, Undo, UnknownFaultError, fits, parameters_of
from vppd.sim.grid import Grid, StochasticGrid, read_trace
from vppd.sim.modbus_server import Line, TcpLine
from vppd.sim.pmu_server import Pmu
from vppd.sim.rtu_server import SerialLine
from vppd.sim.slave import SimInput, Slave
from vppd.sim.unit import SimUnit

Address = tuple[str, int] | str  # host and port, or a serial path
GRID = "grid"
T = TypeVar("T")


@dataclass(slots=True)
class Injected:
    """One fault that is active."""

    name: str
    target: str
    parameters: dict[str, Any]
    undo: Undo
    ends: asyncio.TimerHandle | None = None


class Plant:
    """See the module.

    `fps` and `floats` are of every PMU. Raises ValueError for a malformed trace or a profile whose
    register map it does not know; entering raises OSError when an address cannot be had.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        *,
        trace: Path | None = None,
        seed: int = 0,
        fps: int = 10,
        floats: bool = True,
    ) -> None:
        self.settings, self.clock = settings, clock
        source = StochasticGrid(seed) if trace is None else read_trace(trace)
        self.grid = Grid(source, clock.now_s())
        self.units: dict[str, SimUnit] = {}
        self.inputs: dict[str, SimInput] = {}
        self.pmus: dict[str, Pmu] = {}
        self.lines: dict[Address, Line] = {}
        self.active: list[Injected] = []
        self._slaves: dict[str, Slave] = {}
        self._line_of: dict[str, Line] = {}
        self._timers: set[asyncio.TimerHandle] = set()
        self._group = asyncio.TaskGroup()
        self._add_units(seed)
        if settings.mode != "hil":
            self._add_inputs()
            for pmu in settings.pmu:
                self._add_pmu(pmu, seed, fps=fps, floats=floats)

    # made of
    def _add_units(self, seed: int) -> None:
        for unit in self.settings.units:
            if self.settings.mode == "hil" and not unit.simulate:
                continue
            own_seed = zlib.crc32(f"{seed}/{unit.id}".encode())
            made = SimUnit(unit, self.clock.now_s(), self.frequency_hz, own_seed)
            slave = self._slave_at(unit.id, unit.modbus)
            if slave.unit is not None:
                raise ValueError(f"{unit.id}: {slave.unit.id} already has its Modbus address")
            slave.unit = self.units[unit.id] = made

    def _add_inputs(self) -> None:
        for entry in self.settings.interlock_inputs:
            made = self.inputs[entry.id] = SimInput(entry)
            self._slave_at(entry.id, entry.modbus).inputs.append(made)

    def _slave_at(self, name: str, modbus: ModbusSettings | InputModbusSettings) -> Slave:
        line = self._line(modbus)
        slave = line.slaves.setdefault(modbus.unit_id, Slave(modbus.unit_id, self.clock))
        self._slaves[name], self._line_of[name] = slave, line
        return slave

    def _line(self, modbus: ModbusSettings | InputModbusSettings) -> Line:
        if modbus.serial is not None:
            return self.lines.setdefault(
                modbus.serial, SerialLine(Path(modbus.serial), modbus.baudrate)
            )
        host, port = modbus.host or "127.0.0.1", modbus.port
        return self.lines.setdefault((host, port), TcpLine(host, port))

    def _add_pmu(self, pmu: PmuSettings, seed: int, *, fps: int, floats: bool) -> None:
        layout = Layout(pmu.idcode, pmu.pmu_idcode or pmu.idcode, fps=fps, floats=floats)
        self.pmus[pmu.id] = Pmu(
            pmu,
            self.grid,
            self.site_power,
            self.clock,
            layout=layout,
            location=_location(self.settings),
            seed=seed,
        )

    # life
    async def __aenter__(self) -> Self:
        opened = AsyncExitStack()
        async with opened:
            for line in self.lines.values():
                await line.start()
                opened.callback(line.close)
            for pmu in self.pmus.values():
                await pmu.start()
                opened.callback(pmu.close)
            group = await self._group.__aenter__()
            self._tasks = [group.create_task(line.tend()) for line in self.lines.values()]
            for pmu in self.pmus.values():
                self._tasks += [group.create_task(pmu.run()), group.create_task(pmu.tend())]
            self._opened = opened.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for injected in self.active:
            if injected.ends is not None:
                injected.ends.cancel()
        for timer in self._timers:
            timer.cancel()
        for task in self._tasks:
            task.cancel()
        await self._opened.aclose()
        if kind is asyncio.CancelledError:
            await self._group.__aexit__(kind, error, trace)
        else:  # an error of the body stays itself, not a member of a group
            await self._group.__aexit__(None, None, None)

    # looked at
    def frequency_hz(self) -> float:
        """Of the grid, now."""
        return self.grid.frequency_hz(self.clock.now_s())

    def site_power(self) -> tuple[float, float]:
        """Sum of the units now, kW and kvar, positive = out."""
        now_s, units = self.clock.now_s(), self.units.values()
        for unit in units:
            unit.advance(now_s)
        return sum(unit.power_kw for unit in units), sum(unit.reactive_kvar for unit in units)

    def unit(self, name: str) -> SimUnit:
        """A unit as it is now. Raises UnknownFaultError."""
        unit = _among(self.units, name, "unit")
        unit.advance(self.clock.now_s())
        return unit

    def slave(self, name: str) -> Slave:
        """What answers for a unit or an input. Raises UnknownFaultError."""
        return _among(self._slaves, name, "unit or input")

    def line(self, name: str) -> Line:
        """The line of a unit or an input. Raises UnknownFaultError."""
        return _among(self._line_of, name, "unit or input")

    def input(self, name: str) -> SimInput:
        """An interlock input. Raises UnknownFaultError."""
        return _among(self.inputs, name, "input")

    def pmu(self, name: str) -> Pmu:
        """A PMU. Raises UnknownFaultError."""
        return _among(self.pmus, name, "pmu")

    def state(self, name: str) -> dict[str, Any]:
        """A unit in plain values, BMS-like ones too. Raises UnknownFaultError."""
        unit = self.unit(name)
        battery = unit.battery
        return {
            "unit": unit.id,
            "power_kw": unit.power_kw,
            "reactive_kvar": unit.reactive_kvar,
            "setpoint_kw": unit.setpoint_kw,
            "timed_out": unit.timed_out,
            "soc_pct": battery.soc_pct,
            "voltage_v": battery.voltage_v,
            "current_a": battery.measured_a,
            "temperature_c": battery.hottest_c,
            "cells_v": battery.cells_v(),
            "sensors_c": battery.sensors_c(),
            "holding": {f"{at:#06x}": raw for at, raw in unit.holding.items()},
            "inputs": {f"{at:#06x}": raw for at, raw in unit.inputs().items()},
            "setpoints": [
                {"at_s": write.at_s, "power_kw": write.power_kw, "source": write.source}
                for write in list(unit.setpoints)[-20:]
            ],
        }

    # faults
    def inject(
        self, name: str, target: str = "", *, for_s: float | None = None, **parameters: Any
    ) -> None:
        """Begin a fault, for ever or for so long. The same fault there before ends first.

        Raises UnknownFaultError (a ValueError) that lists what there is.
        """
        how = parameters_of(name, parameters)
        if for_s is not None and not (fits(for_s, 0.0) and for_s >= 0.0):
            raise ValueError(f"for_s is seconds, not {for_s!r}")
        kind = KINDS[name]
        if kind.target == GRID:
            target = GRID
        elif not target:
            target = self._only(kind.target)
        self.clear(name, target)
        undo = kind.apply(self, target, how)
        if undo is None:
            return
        injected = Injected(name, target, how, undo)
        self.active.append(injected)
        if for_s is not None:
            loop = asyncio.get_running_loop()
            injected.ends = loop.call_later(for_s, self._end, injected)

    def _only(self, kind: str) -> str:
        """The one target there is, when none was named."""
        known: dict[str, Iterable[str]] = {"pmu": self.pmus, "input": self.inputs}
        names = list(known.get(kind, self.units))
        if len(names) != 1:
            raise UnknownFaultError(f"name a {kind}; there are: {', '.join(names) or 'none'}")
        return names[0]

    def clear(self, name: str = "all", target: str = "") -> int:
        """End this fault, or all, of this target, or of every one. How many ended."""
        ending = [
            injected
            for injected in self.active
            if name in ("all", injected.name) and target in ("", injected.target)
        ]
        for injected in ending:
            self._end(injected)
        return len(ending)

    def _end(self, injected: Injected) -> None:
        if injected in self.active:
            self.active.remove(injected)
            injected.undo()
        if injected.ends is not None:
            injected.ends.cancel()

    def repeat(self, act: Callable[[], None], every_s: float) -> Undo:
        """Do this now and every so long until undone."""
        loop = asyncio.get_running_loop()
        timer: asyncio.TimerHandle | None = None

        def again() -> None:
            nonlocal timer
            act()
            if timer is not None:
                self._timers.discard(timer)
            timer = loop.call_later(every_s, again)
            self._timers.add(timer)

        def undo() -> None:
            if timer is not None:
                timer.cancel()
                self._timers.discard(timer)

        again()
        return undo


def _among(known: dict[str, T], name: str, kind: str) -> T:
    if name not in known:
        raise UnknownFaultError(f"no {kind} {name!r}; there are: {', '.join(known) or 'none'}")
    return known[name]


def _location(settings: Settings) -> LocationSettings | None:
    """The first campus's or building's location, for the PMU's configuration frame."""
    for state in settings.country.states:
        for city in state.cities:
            for campus in city.campuses:
                for building in campus.buildings:
                    if building.location or campus.location:
                        return building.location or campus.location
    return None


async def serve(
    settings: Settings,
    *,
    trace: Path | None,
    seed: int,
    clock: Clock,
    faults_socket: Path | None,
    ready: Callable[[], None] | None,
    fps: int = 10,
    floats: bool = True,
) -> None:
    """Serve the plant until cancelled; `ready` is called when every address is open.

    Raises ValueError and OSError as Plant does.
    """
    async with AsyncExitStack() as stack:
        plant = Plant(settings, clock, trace=trace, seed=seed, fps=fps, floats=floats)
        await stack.enter_async_context(plant)
        if faults_socket is not None:
            await stack.enter_async_context(FaultSocket(faults_socket, plant))
        if ready is not None:
            ready()
        await asyncio.get_running_loop().create_future()
