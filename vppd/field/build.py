"""From settings to what talks to devices: links, buses, and who writes which unit."""

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace

from vppd.core.asset import read_backs
from vppd.core.model import METER, Point, UnitId
from vppd.core.ports import Actuator, Board, Clock, Report
from vppd.core.profile import DeviceProfile
from vppd.core.settings import InputModbusSettings, MeterSettings, Settings, UnitSettings
from vppd.field.bms import CanCounters
from vppd.field.drivers.actuator import ModbusActuator
from vppd.field.drivers.can import CanBus
from vppd.field.drivers.link import Link, Member
from vppd.field.drivers.modbus import Endpoint, quiet_pymodbus
from vppd.field.drivers.sunspec import SunSpecDevice
from vppd.field.hear import Bms
from vppd.field.poll import Device, InterlockInput, Seat
from vppd.field.presence import Counters, Known, Presence

MULTIPLIED = frozenset(
    {Point.POWER_KW, Point.REACTIVE_KVAR, Point.ENERGY_EXPORT_KWH, Point.ENERGY_IMPORT_KWH}
)
GOLDEN_SHARE = 0.6180339887498949  # multiples of it, modulo 1, are spread evenly for any count


@dataclass(frozen=True, slots=True)
class Berth:
    """One device on its connection; `owner` is its unit, the meter, or input:ID."""

    owner: UnitId
    line: Link | CanBus
    member: Member | Bms
    presence: Presence

    def join(self) -> None:
        """Take its place: its connection asks it from now on."""
        self.line.join(self.member)  # type: ignore[arg-type]

    def leave(self) -> None:
        """Give its place up: it is asked no more."""
        self.line.leave(self.member)  # type: ignore[arg-type]


@dataclass(slots=True)
class Field:
    """All that talks to devices: every link and bus has one owner, its `run`."""

    links: list[Link] = field(default_factory=list)
    buses: list[CanBus] = field(default_factory=list)
    actuators: dict[UnitId, Actuator] = field(default_factory=dict)
    inverters: dict[UnitId, SunSpecDevice] = field(default_factory=dict)
    presences: list[Presence] = field(default_factory=list)
    berths: list[Berth] = field(default_factory=list)

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
    builder = Builder(settings, board, clock, report)
    builder.build(lambda _: True)
    for berth in builder.made.berths:
        berth.join()
    return builder.made


class Builder:
    """Makes devices; none of them has its place on its connection yet."""

    def __init__(self, settings: Settings, board: Board, clock: Clock, report: Report) -> None:
        self.made = Field()
        self.phases = (index * GOLDEN_SHARE % 1.0 for index in itertools.count())
        self._settings, self._board, self._clock, self._report = settings, board, clock, report
        self._links: dict[str, Link] = {}
        self._spare: list[Link] = []
        self._buses: dict[tuple[str, str], tuple[CanBus, tuple[int, int]]] = {}

    def told_to(self, board: Board, report: Report) -> None:
        """Devices that are made from now on are heard there."""
        self._board, self._report = board, report

    def build(self, wanted: Callable[[UnitId], bool]) -> None:
        """The devices of these owners. Raises ValueError as `build` does."""
        for unit in self._settings.units:
            if wanted(unit.unit):
                self.controller(unit)
                self.inverter(unit)
                self.bms(unit)
        if self._settings.meter is not None and wanted(METER):
            self.meter(self._settings.meter)
        for interlock in self._settings.interlock_inputs:
            if wanted(owner := UnitId(f"input:{interlock.id}")):
                member = InterlockInput(
                    interlock, self._board, self._clock, self._report, next(self.phases)
                )
                self.made.presences.append(member.presence)
                self._put(owner, self.link(interlock.modbus), member, member.presence)

    def share(self, lines: Iterable[Link | CanBus], spare: Iterable[Link | CanBus] = ()) -> None:
        """Connections that are there already; `spare` ones may be used as they are, or not."""
        self._spare = [each for each in spare if isinstance(each, Link)]
        for line in lines:
            if isinstance(line, Link):
                self._links[str(line.endpoint)] = line
            else:
                speed = line.bitrate, line.serial_baudrate
                self._buses[line.interface, line.channel] = line, speed

    def _put(
        self, owner: UnitId, line: Link | CanBus, member: Member | Bms, presence: Presence
    ) -> None:
        self.made.berths.append(Berth(owner, line, member, presence))

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
        self._put(unit.unit, link, device, presence)

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
        self._put(unit.unit, link, device, presence)
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
        member = Bms(unit, model, self._board, self._clock, self._report, presence)
        self._put(unit.unit, bus, member, presence)

    def meter(self, at: MeterSettings) -> None:
        """The meter at the point of connection."""
        profile = multiplied(self._settings.profiles[at.profile], at.ratio)
        presence = self._presence(METER)
        device = Device(
            METER,
            at,
            profile,
            self._board,
            self._clock,
            self._report,
            presence,
            None,
            next(self.phases),
        )
        self._put(METER, self.link(at), device, presence)

    def link(self, at: Seat | InputModbusSettings) -> Link:
        """The connection that a device is reached by, shared with others there."""
        endpoint = Endpoint(at.host, at.port, None, 9600, "N", 1)
        if at.serial is not None:
            endpoint = Endpoint(None, 0, at.serial, at.baudrate, at.parity, at.stopbits)
        link = self._links.get(str(endpoint))
        if link is None:
            spare = (each for each in self._spare if each.endpoint == endpoint)
            link = self._links[str(endpoint)] = next(spare, None) or Link(endpoint, self._clock)
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
