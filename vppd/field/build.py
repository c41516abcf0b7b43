"""From settings to what talks to devices: links, buses, and who writes which unit."""

import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

from vppd.core.asset import read_backs
from vppd.core.model import METER, Point, UnitId
from vppd.core.ports import Actuator, Board, Clock, Report
from vppd.core.profile import DeviceProfile
from vppd.core.settings import InputModbusSettings, MeterSettings, Settings, UnitSettings
from vppd.field.bms import CanCounters
from vppd.field.drivers.actuator import ModbusActuator
from vppd.field.drivers.can import CanBus
from vppd.field.drivers.link import Link
from vppd.field.drivers.modbus import Endpoint, quiet_pymodbus
from vppd.field.drivers.sunspec import SunSpecDevice
from vppd.field.hear import Bms
from vppd.field.poll import Device, InterlockInput, Seat
from vppd.field.presence import Counters, Known, Presence

MULTIPLIED = frozenset(
    {Point.POWER_KW, Point.REACTIVE_KVAR, Point.ENERGY_EXPORT_KWH, Point.ENERGY_IMPORT_KWH}
)
GOLDEN_SHARE = 0.6180339887498949  # multiples of it, modulo 1, are spread evenly for any count


@dataclass(slots=True)
class Field:
    """All that talks to devices: every link and bus has one owner, its `run`."""

    links: list[Link] = field(default_factory=list)
    buses: list[CanBus] = field(default_factory=list)
    actuators: dict[UnitId, Actuator] = field(default_factory=dict)
    inverters: dict[UnitId, SunSpecDevice] = field(default_factory=dict)
    presences: list[Presence] = field(default_factory=list)

    def counters(self) -> Mapping[UnitId, Counters | CanCounters]:
        """What became of the requests to each device, and of each BMS's frames, for status."""
        modbus = {each.unit: each.counters for each in self.presences}
        can = {bms.presence.unit: bms.counters for bus in self.buses for bms in bus.members}
        return {**modbus, **can}

    def known(self) -> Mapping[UnitId, Known]:
        """Every device by its name: whether it answers, and its counts."""
        presences = [*self.presences, *(bms.presence for bus in self.buses for bms in bus.members)]
        counted = {unit: asdict(each) for unit, each in self.counters().items()}
        return {
            each.unit: Known(each.up, each.text, counted.get(each.unit, {})) for each in presences
        }


def build(settings: Settings, board: Board, clock: Clock, report: Report) -> Field:
    """One link or bus for each connection, and the actuator of every unit that may be written.

    Raises ValueError where devices on one line or bus are given different line settings, or a
    profile cannot be read or written as it says.
    """
    quiet_pymodbus()
    builder = _Builder(settings, board, clock, report)
    for unit in settings.units:
        builder.controller(unit)
        builder.inverter(unit)
        builder.bms(unit)
    if settings.meter is not None:
        builder.meter(settings.meter)
    for interlock in settings.interlock_inputs:
        member = InterlockInput(interlock, board, clock, report, next(builder.phases))
        builder.link(interlock.modbus).members.append(member)
        builder.made.presences.append(member.presence)
    return builder.made


class _Builder:
    def __init__(self, settings: Settings, board: Board, clock: Clock, report: Report) -> None:
        self.made = Field()
        self.phases = (index * GOLDEN_SHARE % 1.0 for index in itertools.count())
        self._settings, self._board, self._clock, self._report = settings, board, clock, report
        self._links: dict[str, Link] = {}
        self._buses: dict[tuple[str, str], tuple[CanBus, tuple[int, int]]] = {}

    def controller(self, unit: UnitSettings) -> None:
        """Its own Modbus controller; beside an inverter, which takes the setpoints, only read."""
        profile = self._settings.profile_of(unit)
        if unit.modbus is None or profile is None:
            return
        link = self.link(unit.modbus)
        name, actuator = unit.unit, None
        if unit.inverter is not None:
            name, profile = UnitId(f"{unit.id}/controller"), only_measured(profile)
        presence = self._presence(name)
        if unit.inverter is None and not profile.read_only:
            actuator = ModbusActuator(unit.unit, profile, self._clock, self._report, presence)
            actuator.wake = link.wake
            self.made.actuators[unit.unit] = actuator
        device = Device(
            unit.unit,
            unit.modbus,
            profile,
            self._board,
            self._clock,
            self._report,
            presence,
            actuator,
            next(self.phases),
            energy_kwh=unit.energy_kwh,
            modules=unit.modules_parallel,
        )
        link.members.append(device)

    def inverter(self, unit: UnitSettings) -> None:
        """Its SunSpec inverter, which takes the setpoints."""
        if unit.inverter is None:
            return
        link = self.link(unit.inverter)
        presence = self._presence(unit.unit)
        device = SunSpecDevice(
            unit, self._board, self._clock, self._report, presence, next(self.phases)
        )
        device.actuator.wake = link.wake
        link.members.append(device)
        self.made.inverters[unit.unit] = device
        self.made.actuators[unit.unit] = device.actuator

    def bms(self, unit: UnitSettings) -> None:
        """Its BMS, on a bus that several may share."""
        at, model = unit.bms, self._settings.bms_of(unit)
        if at is None or model is None:
            return
        speed = at.bitrate or model.bitrate, at.serial_baudrate
        place = at.interface, at.channel
        if place not in self._buses:
            made = CanBus(at.interface, at.channel, *speed, self._clock)
            self._buses[place] = made, speed
            self.made.buses.append(made)
        bus, bus_speed = self._buses[place]
        if bus_speed != speed:
            raise ValueError(f"{at.channel}: one CAN bus, but different bitrates")
        presence = Presence(UnitId(f"{unit.id}/bms"), self._report)
        bus.members.append(Bms(unit, model, self._board, self._clock, self._report, presence))

    def meter(self, at: MeterSettings) -> None:
        """The meter at the point of connection."""
        profile = multiplied(self._settings.profiles[at.profile], at.ratio)
        device = Device(
            METER,
            at,
            profile,
            self._board,
            self._clock,
            self._report,
            self._presence(METER),
            None,
            next(self.phases),
        )
        self.link(at).members.append(device)

    def link(self, at: Seat | InputModbusSettings) -> Link:
        """The connection that a device is reached by, shared with others there."""
        endpoint = Endpoint(at.host, at.port, None, 9600, "N", 1)
        if at.serial is not None:
            endpoint = Endpoint(None, 0, at.serial, at.baudrate, at.parity, at.stopbits)
        link = self._links.get(str(endpoint))
        if link is None:
            link = self._links[str(endpoint)] = Link(endpoint, self._clock)
            self.made.links.append(link)
        if link.endpoint != endpoint:
            raise ValueError(f"{endpoint}: one serial line, but different line settings")
        return link

    def _presence(self, name: UnitId) -> Presence:
        presence = Presence(name, self._report, len(self._settings.units))
        self.made.presences.append(presence)
        return presence


def only_measured(profile: DeviceProfile) -> DeviceProfile:
    """A register map without all that is written and shown of it."""
    unread = read_backs(profile)
    points = {point: spec for point, spec in profile.points.items() if point not in unread}
    return replace(profile, points=points, writes={}, read_only=True)


def multiplied(profile: DeviceProfile, ratio: float) -> DeviceProfile:
    """A meter's map behind transformers it does not know: powers, energies and their ranges."""
    points = {
        point: replace(
            spec,
            scale=spec.scale * ratio,
            offset=spec.offset * ratio,
            low=spec.low if spec.low is None else spec.low * ratio,
            high=spec.high if spec.high is None else spec.high * ratio,
        )
        if point in MULTIPLIED
        else spec
        for point, spec in profile.points.items()
    }
    return replace(profile, points=points, writes={}, read_only=True)
