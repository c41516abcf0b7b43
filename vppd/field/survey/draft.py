"""A draft of `field.yaml` from what was discovered. Pure text.

It loads with `vppd check` but for the keys that it cannot know: those stand in it as comments that
begin with `#FILL IN`, and are returned one by one.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from vppd.core.model import Point
from vppd.core.profile import DeviceProfile
from vppd.field.survey.match import LIKELY, Match
from vppd.field.survey.scan import BmsSeen, Device
from vppd.field.survey.sunspec import STORAGE, identity, ids_of

BUILDING = "BUILDING_01"
NOTES_AT = 31  # column of the comments
# Words that YAML takes as text; anything else is quoted, and so are its own words.
PLAIN = re.compile(r"\d+\.\d+\.\d+\.\d+|/[A-Za-z0-9_./-]+|[A-Za-z][A-Za-z0-9_.-]*")
ITS_OWN = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}


@dataclass(frozen=True, slots=True)
class BusSeen:
    """One CAN bus and the BMS models that fit it."""

    interface: str
    channel: str
    models: Sequence[BmsSeen]


@dataclass(slots=True)
class Draft:
    """The text of a field.yaml, and what a person must fill in before it loads."""

    lines: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    units: int = 0

    @property
    def text(self) -> str:
        return "\n".join(self.lines) + "\n"


def draft(
    devices: Sequence[Device], buses: Sequence[BusSeen], profiles: Mapping[str, DeviceProfile]
) -> Draft:
    """A field.yaml with every device that is likely enough."""
    page = Draft()
    page.lines += [
        "# Drafted by `vppd discover`. Nothing here was proven: compare with the plates on the",
        "# devices, decide what the comments ask, then `vppd check` and `vppd check --live`.",
        "# A battery with a controller, a BMS and an inverter is one unit: put its parts together.",
        "units:",
    ]
    units = [device for device in devices if _is_unit(device, profiles)]
    alone = units[0] if len(units) == 1 else None
    for device in units:
        page.units += 1
        bus = buses[0] if len(buses) == 1 and device is alone else None
        page.lines += _unit(page, device, profiles, bus)
    if not units:
        page.lines[-1] = "units: []                  # no battery was recognised"
        page.gaps.append("units: at least one battery with its controller or inverter")
    placed = alone is not None and len(buses) == 1
    for bus in buses:
        if not placed:
            page.lines += _bus_comment(bus)
    page.lines += _meters(devices, profiles)
    for device in devices:
        if not _is_unit(device, profiles) and not _is_meter(device, profiles):
            page.lines += ["", *(f"# {line}" for line in _seen_lines(device))]
    return page


def best(device: Device) -> Match | None:
    """The best register map, where it is likely enough."""
    return next((match for match in device.matches if match.share >= LIKELY), None)


# ---- inside ----------------------------------------------------------------------------------


def _is_battery_inverter(device: Device) -> bool:
    if device.sunspec is None:
        return False
    return any(model in STORAGE for model in ids_of(device.sunspec))


def _is_unit(device: Device, profiles: Mapping[str, DeviceProfile]) -> bool:
    match = best(device)
    mapped = match is not None and profiles[match.name].device != "meter"
    return mapped or _is_battery_inverter(device)


def _is_meter(device: Device, profiles: Mapping[str, DeviceProfile]) -> bool:
    match = best(device)
    return match is not None and profiles[match.name].device == "meter"


def _unit(
    page: Draft, device: Device, profiles: Mapping[str, DeviceProfile], bus: BusSeen | None
) -> Iterator[str]:
    name = f"UNIT_{page.units:02d}"
    yield ""
    yield from (f"  # {line}" for line in _seen_lines(device))
    yield _noted(f"  - id: {name}", "its name: decide")
    yield _noted(f"    building: {BUILDING}", "where it stands: decide; one of campus.yaml")
    yield _known(page, name, "rated_power_kw", device.values.get(Point.RATED_POWER_KW))
    yield _known(page, name, "energy_kwh", device.values.get(Point.ENERGY_CAPACITY_KWH))
    yield _noted("    #modules_parallel: 1", "16-cell modules sharing the current: decide")
    if _is_battery_inverter(device):
        yield from _inverter(device)
    else:
        match = best(device)
        if match is not None:
            yield from _modbus(page, name, device, profiles[match.name], match)
    if bus is not None:
        yield from _bms(bus, "    ")
    yield _noted("    #safety: {}", "its limits: the cell maker's data sheet decides")


def _known(page: Draft, name: str, key: str, value: float | None) -> str:
    if value is not None and value > 0.0:
        return _noted(f"    {key}: {value:g}", "as the device says")
    page.gaps.append(f"{name}: {key}: the device does not say it")
    return _noted(f"    #FILL IN {key}:", "the device does not say it")


def _noted(line: str, note: str) -> str:
    """A line with its comment, comments in one column."""
    return f"{line.ljust(NOTES_AT)}# {note}"


def _inverter(device: Device) -> Iterator[str]:
    base = device.sunspec.base if device.sunspec is not None else None
    yield "    inverter:"
    yield from _seat(device, "      ")
    yield _noted(f"      #base: {base}", "where it was found; null looks for it each time")


def _modbus(
    page: Draft, name: str, device: Device, profile: DeviceProfile, match: Match
) -> Iterator[str]:
    yield "    modbus:"
    yield f"      profile: {match.name}"
    yield from _seat(device, "      ")
    if profile.read_only:
        yield "    # this profile is read_only: the unit is measured and never commanded"
    elif profile.revert.kind == "none":
        page.gaps.append(f"{name}: accept_no_revert: it keeps its last setpoint when vppd dies")
        yield "    #FILL IN accept_no_revert: true   # it keeps its last setpoint when vppd dies"


def _seat(device: Device, indent: str) -> Iterator[str]:
    at = device.endpoint
    if at.serial is not None:
        yield f"{indent}serial: {_quoted(at.serial)}"
        yield f"{indent}baudrate: {at.baudrate}"
        yield f"{indent}parity: {_quoted(at.parity)}"
        yield f"{indent}stopbits: {at.stopbits}"
    else:
        yield f"{indent}host: {_quoted(at.host or '')}"
        yield f"{indent}port: {at.port}"
    yield f"{indent}unit_id: {device.unit_id}"


def _bms(bus: BusSeen, indent: str) -> Iterator[str]:
    """The one BMS of a bus; where there are more, each as a comment."""
    if not bus.models:
        yield f"{indent}# on {bus.interface} {bus.channel} no known BMS was recognised"
    sure = [seen for seen in bus.models if seen.match.share >= LIKELY]
    for seen in bus.models:
        mark = "" if [seen] == sure else "#"
        yield f"{indent}# {bus.interface} {bus.channel}: {seen.match.words}"
        yield f"{indent}{mark}bms:"
        yield f"{indent}{mark}  dbc: {seen.match.name}"
        yield f"{indent}{mark}  interface: {bus.interface}"
        yield f"{indent}{mark}  channel: {_quoted(bus.channel)}"
        if seen.id_offset:
            yield f"{indent}{mark}  id_offset: {seen.id_offset}"


def _bus_comment(bus: BusSeen) -> Iterator[str]:
    yield ""
    yield "# Heard on CAN; which unit's BMS it is, a person must say:"
    yield from (f"# {line}" for line in _bms(bus, "    "))


def _meters(devices: Sequence[Device], profiles: Mapping[str, DeviceProfile]) -> Iterator[str]:
    meters = [device for device in devices if _is_meter(device, profiles)]
    for number, device in enumerate(meters):
        match = best(device)
        mark = "# " if number else ""  # there is one point of connection
        yield ""
        yield from (f"# {line}" for line in _seen_lines(device))
        yield "# Does it measure the point of connection? decide; else delete it."
        yield f"{mark}meter:"
        yield f"{mark}  profile: {match.name if match is not None else ''}"
        yield from _seat(device, f"{mark}  ")


def _seen_lines(device: Device) -> Iterator[str]:
    """What was seen, and how sure that is."""
    yield f"{device.endpoint} unit id {device.unit_id}"
    if device.also:
        many = ", ".join(map(str, device.also))
        yield f"answers alike as {many}: it looks at no unit id, and counts once"
    if device.sunspec is not None:
        models = ", ".join(map(str, ids_of(device.sunspec)))
        yield f"SunSpec at {device.sunspec.base}: {identity(device.sunspec)}; models {models}"
        yield from device.sunspec.notes
    yield from (match.words for match in device.matches[:3])
    if device.sunspec is None and not device.matches:
        yield "answers, but fits nothing that vppd knows" + f" ({device.trouble})" * bool(
            device.trouble
        )


def seen_lines(device: Device) -> list[str]:
    """The same for the terminal."""
    return list(_seen_lines(device))


def _quoted(text: str) -> str:
    """Plain words as they are, anything else in quotes."""
    plain = PLAIN.fullmatch(text) is not None and text.lower() not in ITS_OWN
    return text if plain else json.dumps(text, ensure_ascii=False)
