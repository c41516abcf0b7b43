"""From settings to links: which devices share a connection, and who writes which unit."""

from collections.abc import Mapping

from vppd.core.model import UnitId
from vppd.core.ports import Actuator, Board, Clock, Report
from vppd.core.settings import InputModbusSettings, ModbusSettings, Settings
from vppd.field.drivers.actuator import ModbusActuator
from vppd.field.drivers.link import Link
from vppd.field.drivers.modbus import Endpoint, quiet_pymodbus
from vppd.field.poll import Device, InterlockInput
from vppd.field.presence import Counters, Presence

GOLDEN_SHARE = 0.6180339887498949  # multiples of it, modulo 1, are spread evenly for any count


def build(
    settings: Settings, board: Board, clock: Clock, report: Report
) -> tuple[list[Link], dict[UnitId, Actuator]]:
    """One link for each connection, and the actuator of every unit that may be written.

    Raises ValueError where devices on one serial line are given different line settings, or a
    profile cannot be read or written as it says.
    """
    quiet_pymodbus()
    links: dict[str, Link] = {}
    actuators: dict[UnitId, Actuator] = {}
    for index, unit in enumerate(settings.units):
        profile = settings.profiles[unit.modbus.profile]
        presence = Presence(unit.unit, report)
        actuator = None
        link = _link(links, unit.modbus, clock)
        if not profile.read_only:
            actuator = ModbusActuator(unit.unit, profile, clock, report, presence)
            actuator.wake = link.wake
            actuators[unit.unit] = actuator
        phase_share = index * GOLDEN_SHARE % 1.0
        device = Device(unit, profile, board, clock, report, presence, actuator, phase_share)
        link.members.append(device)
    for index, interlock in enumerate(settings.interlock_inputs, start=len(settings.units)):
        phase_share = index * GOLDEN_SHARE % 1.0
        member = InterlockInput(interlock, board, clock, report, phase_share)
        _link(links, interlock.modbus, clock).members.append(member)
    return list(links.values()), actuators


def counters(links: list[Link]) -> Mapping[UnitId, Counters]:
    """What became of the requests to each device, for status."""
    return {
        member.unit: member.presence.counters
        for link in links
        for member in link.members
        if isinstance(member, Device | InterlockInput)
    }


def _link(links: dict[str, Link], at: ModbusSettings | InputModbusSettings, clock: Clock) -> Link:
    endpoint = Endpoint(at.host, at.port, None, 9600, "N", 1)
    if at.serial is not None:
        endpoint = Endpoint(None, 0, at.serial, at.baudrate, at.parity, at.stopbits)
    link = links.setdefault(str(endpoint), Link(endpoint, clock))
    if link.endpoint != endpoint:
        raise ValueError(f"{endpoint}: one serial line, but different line settings")
    return link
