"""`vppd discover`: who answers on a host, a serial line or a CAN bus, and what it is. Read-only.

Hosts are looked at a few at a time; on each there is one connection, one request at a time, with a
pause after each.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from vppd.core.bms import BmsProfile
from vppd.core.model import Point
from vppd.core.ports import Clock
from vppd.core.profile import DeviceProfile, Table
from vppd.field.blocks import Block
from vppd.field.bms import FrameId, frames_of
from vppd.field.drivers.can import Heard, overhear
from vppd.field.drivers.hold import IN_USE
from vppd.field.drivers.modbus import (
    DeviceRefused,
    Endpoint,
    LineHeld,
    LinkDown,
    ModbusError,
    quiet_pymodbus,
)
from vppd.field.hear import read_dbc
from vppd.field.sunspec.models import BASES, Found
from vppd.field.survey.can import listen_s
from vppd.field.survey.match import Match, best_first, bms_matches, nameplate_of, profile_match
from vppd.field.survey.remarks import ASK_BY_CTL_OR_STOP
from vppd.field.survey.sunspec import find_models, values_told
from vppd.field.survey.values import Expected
from vppd.field.survey.wire import Probe, TimeUpError, gather

AT_ONCE = 16  # hosts
PAUSE_S = 0.01
HOST_MOST_S = 900.0
REFUSALS_MOST = 6  # without anything read: another map
ALIKE = 3  # unit ids that show the same are one device that looks at none
# What a device is asked to find out whether it is there: any answer will do.
THERE = (Block(Table.HOLDING, 40000, 2), Block(Table.INPUT, 0, 1), Block(Table.HOLDING, 0, 1))


@dataclass(frozen=True, slots=True)
class Device:
    """One unit id that answered: its SunSpec models, the maps that fit, and its nameplate."""

    endpoint: Endpoint
    unit_id: int
    sunspec: Found | None = None
    matches: tuple[Match, ...] = ()
    values: Mapping[Point, float] = field(default_factory=dict)
    also: tuple[int, ...] = ()  # other unit ids at which the same was seen
    trouble: str = ""
    mark: tuple[object, ...] = ()  # what tells it from another


@dataclass(frozen=True, slots=True)
class BmsSeen:
    """One BMS model that fits a bus, with the id_offset at which it does."""

    match: Match
    id_offset: int


async def scan_hosts(
    hosts: Sequence[tuple[str, int]],
    ids: Sequence[int],
    profiles: Mapping[str, DeviceProfile],
    timeout_s: float,
    clock: Clock,
    tell: Callable[[str], None],
) -> list[Device]:
    """Every device behind these hosts. Raises nothing a device can cause."""
    quiet_pymodbus()
    found: dict[int, list[Device]] = {}
    turns = asyncio.Semaphore(AT_ONCE)

    async def look(index: int, host: str, port: int) -> None:
        async with turns:
            endpoint = Endpoint(host, port)
            found[index] = await scan_line(
                endpoint, ids, profiles, timeout_s, clock, tell, alone=len(hosts) == 1
            )

    async with asyncio.TaskGroup() as group:
        for index, (host, port) in enumerate(hosts):
            group.create_task(look(index, host, port))
    return [device for index in sorted(found) for device in found[index]]


async def scan_line(
    endpoint: Endpoint,
    ids: Sequence[int],
    profiles: Mapping[str, DeviceProfile],
    timeout_s: float,
    clock: Clock,
    tell: Callable[[str], None],
    *,
    alone: bool = True,
) -> list[Device]:
    """Every unit id that answers on one connection. `alone`: it was asked for by name, so that it
    is told why nothing can be reached there; of many places most are empty."""
    quiet_pymodbus()
    probe = Probe(endpoint, clock, clock.now_s() + HOST_MOST_S, PAUSE_S)
    devices: list[Device] = []
    try:
        await probe.open(timeout_s)
        for unit_id in ids:
            if await _is_there(probe, unit_id, timeout_s):
                tell(f"{endpoint} unit id {unit_id} answers")
                devices.append(await _identify(probe, unit_id, profiles, timeout_s))
    except LineHeld:
        tell(f"{endpoint}: {IN_USE}: {ASK_BY_CTL_OR_STOP}")
    except (LinkDown, TimeUpError) as error:
        if alone or devices or not isinstance(error, LinkDown):
            tell(f"{endpoint}: {str(error).removeprefix(f'{endpoint}: ')}")
    finally:
        probe.close()
    return merged(devices)


async def scan_can(
    interface: str,
    channel: str,
    models: Mapping[str, BmsProfile],
    bitrate: int,
    serial_baudrate: int,
    clock: Clock,
) -> tuple[Mapping[FrameId, Heard], list[BmsSeen]]:
    """What is heard on a bus, and which BMS models fit. Raises CanDownError."""
    seconds = listen_s(list(models.values()))
    traffic = await overhear(interface, channel, bitrate, serial_baudrate, seconds, clock)
    seen: list[BmsSeen] = []
    for model in models.values():
        try:
            frames = frames_of(model, read_dbc(model))
        except ValueError:  # a model that does not fit its DBC is no model of anything
            continue
        seen += [BmsSeen(*each) for each in bms_matches(model, frames, traffic)]
    ranked = best_first([each.match for each in seen])
    return traffic, [each for match in ranked for each in seen if each.match is match]


def merged(devices: Sequence[Device]) -> list[Device]:
    """A device that looks at no unit id answers as every one: it is told once."""
    alike: dict[tuple[object, ...], list[Device]] = {}
    for device in devices:
        alike.setdefault(device.mark, []).append(device)
    one: list[Device] = []
    for mark, group in alike.items():
        first = group[0]
        if len(group) >= ALIKE and mark:
            one.append(replace(first, also=tuple(each.unit_id for each in group[1:])))
        else:
            one.extend(group)
    return sorted(one, key=lambda device: device.unit_id)


# ---- inside ----------------------------------------------------------------------------------


async def _is_there(probe: Probe, unit_id: int, timeout_s: float) -> bool:
    for block in THERE:
        try:
            await probe.read(unit_id, block, timeout_s)
        except DeviceRefused:
            return True
        except TimeUpError:
            raise
        except ModbusError:  # silence, or hung up on an id that it does not have
            continue
        else:
            return True
    return False


async def _identify(
    probe: Probe, unit_id: int, profiles: Mapping[str, DeviceProfile], timeout_s: float
) -> Device:
    device = Device(probe.endpoint, unit_id)
    marks: list[object] = []
    try:
        found = await find_models(probe, unit_id, BASES, timeout_s)
    except TimeUpError:
        raise
    except ModbusError as error:
        device = replace(device, trouble=str(error))
    else:
        if found.base is not None:
            device = replace(device, sunspec=found, values=values_told(found))
            marks += [found.base, found.identity, found.headings]
    matches: list[Match] = []
    plates: dict[str, dict[Point, float]] = {}
    for name, profile in profiles.items():
        try:
            shown = await gather(
                probe, unit_id, profile, timeout_s, patience=1, refusals_most=REFUSALS_MOST
            )
        except TimeUpError:
            raise
        except (ModbusError, ValueError):  # some devices hang up when asked for what they lack
            continue
        matches.append(replace(profile_match(profile, shown, Expected()), name=name))
        plates[name] = nameplate_of(profile, shown)
    ranked = best_first(matches)
    if ranked:
        marks += [ranked[0].name, *sorted(plates[ranked[0].name].items())]
        values = device.values or plates[ranked[0].name]
        device = replace(device, matches=tuple(ranked), values=values)
    return replace(device, mark=tuple(marks))
