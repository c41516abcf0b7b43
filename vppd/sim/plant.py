"""The whole plant: every configured unit, interlock input and PMU, served at its own address.

    async with Plant(settings, clock, seed=1) as plant:      # in a test, also on virtual time
        plant.inject("frequency_step", frequency_hz=49.7)
        plant.units["B1"].setpoints[-1].power_kw
        plant.can["/run/can0"].tap(lambda identifier, extended, data: ...)

`serve` is the same for a process: it adds the fault socket and runs until cancelled. In mode `hil`
only what is marked `simulate: true` is served, a unit with its controller, BMS and inverter, and
the meter; interlock inputs and PMUs are real there. What answers on Modbus is named like its unit,
"UNIT/inverter", "meter", or like its interlock input.
"""

import asyncio
import zlib
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from vppd.core.ports import Clock
from vppd.core.settings import BmsSettings, LocationSettings, PmuSettings, Settings
from vppd.sim.c37118_frames import Layout as PmuLayout
from vppd.sim.can.bms import SimBms
from vppd.sim.can.bus import CanBus
from vppd.sim.exchange import SimulatedExchange
from vppd.sim.faults.door import FaultSocket
from vppd.sim.faults.injector import Injected, Injector
from vppd.sim.faults.registry import Undo, UnknownFaultError
from vppd.sim.grid import Grid, StochasticGrid, read_trace
from vppd.sim.meter import LAYOUT as METER_LAYOUT
from vppd.sim.meter import SimMeter, SitePower
from vppd.sim.modbus_pdu import READ_HOLDING
from vppd.sim.modbus_server import Line, TcpLine
from vppd.sim.pmu_server import Pmu
from vppd.sim.rtu_server import SerialLine
from vppd.sim.slave import Device, Layout, SimInput, Slave
from vppd.sim.sunspec.device import SimSunSpec
from vppd.sim.unit import LAYOUT as UNIT_LAYOUT
from vppd.sim.unit import SimUnit

Address = tuple[str, int] | str  # host and port, or a serial path
METER = "meter"
EXCHANGE = "exchange"
INVERTER = "/inverter"  # behind the unit's name
POWER_POINTS = ((103, "W"), (701, "W"), (701, "WL1"), (701, "WL2"), (701, "WL3"))
T = TypeVar("T")


class Where(Protocol):
    """Where something answers on Modbus: the same words in every part of the settings."""

    @property
    def host(self) -> str | None:
        """TCP: address or name."""

    @property
    def port(self) -> int:
        """TCP port."""

    @property
    def serial(self) -> str | None:
        """RTU: device path."""

    @property
    def baudrate(self) -> int:
        """RTU."""

    @property
    def unit_id(self) -> int:
        """Modbus unit id."""


class Plant:
    """See the module.

    `fps` and `floats` are of every PMU. Raises ValueError for a malformed trace, a model that it
    does not know or an address given twice; entering raises OSError when an address cannot be had.
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
        self.can: dict[str, CanBus] = {}
        self.bmss: dict[str, SimBms] = {}
        self.inverters: dict[str, SimSunSpec] = {}
        self.meter: SimMeter | None = None
        self.exchange: SimulatedExchange | None = None  # served apart; here for its faults
        self._slaves: dict[str, Slave] = {}
        self._line_of: dict[str, Line] = {}
        self._group = asyncio.TaskGroup()
        self._add_units(seed)
        self._add_meter()
        if settings.mode != "hil":
            self._add_inputs()
            for pmu in settings.pmu:
                self._add_pmu(pmu, seed, fps=fps, floats=floats)
        self._injector = Injector(
            self,
            {
                "unit": self.units,
                "bms": self.bmss,
                "inverter": self.inverters,
                "input": self.inputs,
                "pmu": self.pmus,
            },
        )
        self.inject, self.clear = self._injector.inject, self._injector.clear
        self.repeat: Callable[[Callable[[], None], float], Undo] = self._injector.repeat

    @property
    def active(self) -> list[Injected]:
        """The faults that act now."""
        return self._injector.active

    # made of
    def _add_units(self, seed: int) -> None:
        for unit in self.settings.units:
            if self.settings.mode == "hil" and not unit.simulate:
                continue
            own_seed = zlib.crc32(f"{seed}/{unit.id}".encode())
            made = SimUnit(unit, self.clock.now_s(), self.frequency_hz, own_seed)
            self.units[unit.id] = made
            if unit.modbus is not None:
                self._serve(unit.id, unit.modbus, made, UNIT_LAYOUT)
            if unit.inverter is not None:
                inverter = self.inverters[unit.id] = SimSunSpec(unit, made)
                layout = _inverter_layout(inverter)
                self._serve(unit.id + INVERTER, unit.inverter, inverter, layout)
            if unit.bms is not None:
                self._add_bms(unit.bms, made, own_seed)

    def _add_bms(self, bms: BmsSettings, unit: SimUnit, seed: int) -> None:
        made = self.bmss[unit.id] = SimBms(bms, unit, self.clock.now_s(), seed)
        if bms.channel not in self.can:
            self.can[bms.channel] = CanBus(bms, self.clock)
        self.can[bms.channel].add(made)

    def _add_meter(self) -> None:
        meter = self.settings.meter
        if meter is None or (self.settings.mode == "hil" and not meter.simulate):
            return
        now_s = self.clock.now_s()
        self.meter = SimMeter(meter, self._units_power, self.frequency_hz, now_s)
        self._serve(METER, meter, self.meter, METER_LAYOUT)

    def _add_inputs(self) -> None:
        for entry in self.settings.interlock_inputs:
            made = self.inputs[entry.id] = SimInput(entry)
            self._slave_at(entry.id, entry.modbus).inputs.append(made)

    def _serve(self, name: str, where: Where, device: Device, layout: Layout) -> None:
        slave = self._slave_at(name, where)
        if slave.device is not None:
            holders = (held for held, known in self._slaves.items() if known is slave)
            raise ValueError(f"{name}: {next(holders)} already has its Modbus address")
        slave.device, slave.layout = device, layout

    def _slave_at(self, name: str, where: Where) -> Slave:
        line = self._line(where)
        slave = line.slaves.setdefault(where.unit_id, Slave(where.unit_id, self.clock))
        self._slaves[name], self._line_of[name] = slave, line
        return slave

    def _line(self, where: Where) -> Line:
        if where.serial is not None:
            return self.lines.setdefault(
                where.serial, SerialLine(Path(where.serial), where.baudrate)
            )
        host, port = where.host or "127.0.0.1", where.port
        return self.lines.setdefault((host, port), TcpLine(host, port))

    def _add_pmu(self, pmu: PmuSettings, seed: int, *, fps: int, floats: bool) -> None:
        layout = PmuLayout(pmu.idcode, pmu.pmu_idcode or pmu.idcode, fps=fps, floats=floats)
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
            ends: tuple[Line | CanBus, ...] = (*self.lines.values(), *self.can.values())
            for served in ends:
                await served.start()
                opened.callback(served.close)
            for pmu in self.pmus.values():
                await pmu.start()
                opened.callback(pmu.close)
            group = await self._group.__aenter__()
            self._tasks = [group.create_task(served.tend()) for served in ends]
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
        self._injector.stop()
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

    def _units_power(self) -> SitePower:
        power_kw, reactive_kvar = self.site_power()
        exported_kwh = sum(unit.exported_kwh for unit in self.units.values())
        return SitePower(power_kw, reactive_kvar, exported_kwh)

    def site_meter(self) -> SimMeter:
        """The meter as it is now. Raises UnknownFaultError when the plant has none."""
        if self.meter is None:
            raise UnknownFaultError("the plant has no meter")
        self.meter.advance(self.clock.now_s())
        return self.meter

    def site_exchange(self) -> SimulatedExchange:
        """The power exchange. Raises UnknownFaultError when none is served."""
        if self.exchange is None:
            raise UnknownFaultError("no exchange is served")
        return self.exchange

    def bms(self, name: str) -> SimBms:
        """The BMS of a unit. Raises UnknownFaultError."""
        return _among(self.bmss, name, "unit with a BMS")

    def inverter(self, name: str) -> SimSunSpec:
        """The inverter of a unit as it is now. Raises UnknownFaultError."""
        inverter = _among(self.inverters, name.removesuffix(INVERTER), "unit with an inverter")
        inverter.advance(self.clock.now_s())
        return inverter

    def bus(self, name: str) -> CanBus:
        """The CAN bus of a unit's BMS. Raises UnknownFaultError."""
        return self.can[self.bms(name).settings.channel]

    def unit(self, name: str) -> SimUnit:
        """A unit as it is now. Raises UnknownFaultError."""
        unit = _among(self.units, name, "unit")
        unit.advance(self.clock.now_s())
        return unit

    def slave(self, name: str) -> Slave:
        """What answers on Modbus under a name. Raises UnknownFaultError."""
        return _among(self._slaves, name, "Modbus device")

    def line(self, name: str) -> Line:
        """The line of what answers on Modbus. Raises UnknownFaultError."""
        return _among(self._line_of, name, "Modbus device")

    def input(self, name: str) -> SimInput:
        """An interlock input. Raises UnknownFaultError."""
        return _among(self.inputs, name, "input")

    def pmu(self, name: str) -> Pmu:
        """A PMU. Raises UnknownFaultError."""
        return _among(self.pmus, name, "pmu")

    def state(self, name: str) -> dict[str, Any]:
        """A unit in plain values with what its BMS said last, the meter, or what the exchange
        took. Raises UnknownFaultError."""
        if name == METER:
            return self.site_meter().state()
        if name == EXCHANGE:
            return self.site_exchange().state()
        unit = self.unit(name)
        battery = unit.battery
        bms = self.bmss.get(name)
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
            **({"bms": bms.state() | self.bus(name).state()} if bms is not None else {}),
        }


def _among(known: dict[str, T], name: str, kind: str) -> T:
    if name not in known:
        raise UnknownFaultError(f"no {kind} {name!r}; there are: {', '.join(known) or 'none'}")
    return known[name]


def _inverter_layout(inverter: SimSunSpec) -> Layout:
    image = inverter.image
    powers = (image.address(*at) for at in POWER_POINTS if at[1] in image.names(*at))
    return Layout(function=READ_HOLDING, powers=frozenset(powers), pairs=image.places(2))


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
    exchange: SimulatedExchange | None = None,
) -> None:
    """Serve the plant until cancelled; `ready` is called when every address is open. Faults reach
    an exchange that is served beside it.

    Raises ValueError and OSError as Plant does.
    """
    async with AsyncExitStack() as stack:
        plant = Plant(settings, clock, trace=trace, seed=seed, fps=fps, floats=floats)
        plant.exchange = exchange
        await stack.enter_async_context(plant)
        if faults_socket is not None:
            await stack.enter_async_context(FaultSocket(faults_socket, plant))
        if ready is not None:
            ready()
        await asyncio.get_running_loop().create_future()
