"""What must hold between keys: the inequalities and references that one key alone cannot show.

Pure: settings in, breaches out. Only what is listed here is an error; what is merely odd is a
warning and stands in `vppd/config_oddities.py`.
"""

import ipaddress
import zoneinfo
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from vppd.config.document import Document, KeyPath, dotted
from vppd.core.model import SITE, Point
from vppd.core.profile import DeviceProfile, Group
from vppd.core.settings import (
    BuildingSettings,
    CampusSettings,
    InputModbusSettings,
    InverterSettings,
    MeterSettings,
    ModbusSettings,
    SafetySettings,
    Settings,
)

Link = ModbusSettings | InverterSettings | MeterSettings | InputModbusSettings
SIMULATED_BUSES = ("slcan", "udp_multicast")


@dataclass(frozen=True, slots=True)
class Breach:
    """A rule that does not hold: why, and the keys it was judged on, the one to change first."""

    level: Literal["error", "warning"]
    text: str
    reads: tuple[KeyPath, ...]


def broken(path: KeyPath, text: str, *reads: KeyPath) -> Breach:
    """An error: the start is refused."""
    return Breach("error", text, (path, *reads))


def judge(documents: Mapping[str, Document], breaches: Iterable[Breach]) -> None:
    """Note every breach in the document of its section, unless a key it was judged on is wrong.

    It stands at the first of its keys that the file gives.
    """
    for breach in breaches:
        reads = [(documents[str(path[0])], path) for path in breach.reads]
        places = [(document, document.origin(path)) for document, path in reads]
        if any(document.doubts(path) for document, path in places):
            continue
        given = (place for place in places if place[1] in place[0].lines)
        document, path = next(given, places[0])
        document.note(path, breach.text, level=breach.level)


def ascending(base: KeyPath, block: Any, *names: str) -> Iterator[Breach]:
    """These keys of one block must rise, one after another."""
    for low, high in pairwise(names):
        below, above = getattr(block, low), getattr(block, high)
        if not below < above:
            text = f"{low} {below:g} must be below {high} {above:g}"
            yield broken((*base, low), text, (*base, high))


# --- units ---


def _windows(settings: Settings) -> Iterator[Breach]:
    for index, unit in enumerate(settings.units):
        base = ("units", index, "safety")
        safety = unit.safety
        yield from ascending(base, safety, "soc_min_pct", "soc_max_pct")
        yield from ascending(base, safety, "cell_min_v", "cell_max_v")
        yield from ascending(base, safety, "pack_min_v", "pack_max_v")
        temperatures = ("temperature_min_c", "temperature_max_c", "temperature_critical_c")
        yield from ascending(base, safety, *temperatures)
        yield from _charging_inside(base, safety)


def _charging_inside(base: KeyPath, safety: SafetySettings) -> Iterator[Breach]:
    low_c, high_c = safety.temperature_min_c, safety.temperature_max_c
    if low_c < high_c and not low_c <= safety.charge_temperature_min_c < high_c:
        yield broken(
            (*base, "charge_temperature_min_c"),
            f"charge_temperature_min_c {safety.charge_temperature_min_c:g} must lie inside the"
            f" temperature window {low_c:g} to {high_c:g}",
            (*base, "temperature_min_c"),
            (*base, "temperature_max_c"),
        )


def _polled_in_time(settings: Settings) -> Iterator[Breach]:
    for index, unit in enumerate(settings.units):
        if unit.modbus is not None:
            path = ("units", index, "modbus", "poll_s")
            yield from _in_time(path, unit.modbus.poll_s, settings.profile_of(unit))
    if settings.meter is not None:
        profile = settings.profiles.get(settings.meter.profile)
        yield from _in_time(("meter", "poll_s"), settings.meter.poll_s, profile)


def _in_time(path: KeyPath, poll_s: float, profile: DeviceProfile | None) -> Iterator[Breach]:
    specs = profile.points.items() if profile is not None else ()
    ages_s = {
        point: spec.max_age_s
        for point, spec in specs
        if spec.group is Group.FAST and 2.0 * poll_s > spec.max_age_s
    }
    if profile is not None and ages_s:
        yield broken(
            path,
            f"2 x {poll_s:g} s is longer than max_age_s of {', '.join(ages_s)}"
            f" in {profile.name}: at most {min(ages_s.values()) / 2.0:g}",
        )


def _somebody_obeys(settings: Settings) -> Iterator[Breach]:
    """A unit needs a device that measures it and takes its setpoints; a site has its own."""
    for index, unit in enumerate(settings.units if settings.role == "site" else ()):
        if unit.modbus is None and unit.inverter is None:
            text = "give modbus (the battery's controller), inverter (SunSpec), or both"
            yield broken(("units", index, "modbus"), text, ("units", index, "inverter"))


def _right_sort(settings: Settings) -> Iterator[Breach]:
    for index, unit in enumerate(settings.units):
        profile = settings.profile_of(unit)
        if profile is not None and profile.device == "meter":
            path = ("units", index, "modbus", "profile")
            yield broken(
                path, f"{profile.name} is a meter; it can stand under meter, not in a unit"
            )
    profile = settings.profiles.get(settings.meter.profile) if settings.meter else None
    if profile is not None and Point.POWER_KW not in profile.points:
        yield broken(("meter", "profile"), f"{profile.name} measures no power_kw")


def _revert_accepted(settings: Settings) -> Iterator[Breach]:
    for index, unit in enumerate(settings.units):
        profile = settings.profile_of(unit)
        if profile is None or profile.read_only or profile.revert.kind != "none":
            continue
        if unit.inverter is not None:
            continue  # which takes the setpoints, and has a timer of its own
        if not unit.accept_no_revert:
            yield broken(
                ("units", index, "modbus", "profile"),
                f"{profile.name} keeps its last setpoint when vppd dies (revert: none);"
                " take a device that reverts, or write accept_no_revert: true in the unit",
                ("units", index, "accept_no_revert"),
            )


# --- places on the wire ---


def links(settings: Settings) -> Iterator[tuple[KeyPath, str, Link]]:
    """Every Modbus link: its path, whose it is, and where it leads."""
    for index, unit in enumerate(settings.units):
        if unit.modbus is not None:
            yield ("units", index, "modbus"), unit.id, unit.modbus
        if unit.inverter is not None:
            yield ("units", index, "inverter"), f"the inverter of {unit.id}", unit.inverter
    if settings.meter is not None:
        yield ("meter",), "the meter", settings.meter
    for index, each in enumerate(settings.interlock_inputs):
        yield ("interlock_inputs", index, "modbus"), each.id, each.modbus


def line_of(link: Link) -> str:
    """The connection a link shares with others: `host:port`, or the serial device."""
    return link.serial or f"{(link.host or '').lower()}:{link.port}"


def _one_way_to_each_device(settings: Settings) -> Iterator[Breach]:
    for path, _, link in links(settings):
        if (link.host is None) == (link.serial is None):
            text = "give exactly one of host (TCP) and serial (RTU)"
            yield broken((*path, "host"), text, (*path, "serial"))


def _one_bit_to_each_input(settings: Settings) -> Iterator[Breach]:
    for index, each in enumerate(settings.interlock_inputs):
        if (each.modbus.discrete_input is None) == (each.modbus.coil is None):
            path = ("interlock_inputs", index, "modbus")
            text = "give exactly one of discrete_input and coil"
            yield broken((*path, "discrete_input"), text, (*path, "coil"))


def _one_unit_to_each_device(settings: Settings) -> Iterator[Breach]:
    seen: dict[tuple[str, int], str] = {}
    for path, id_, link in links(settings):
        if isinstance(link, InputModbusSettings) or (link.host is None and link.serial is None):
            continue
        first = seen.setdefault((line_of(link), link.unit_id), id_)
        if first != id_:
            yield broken(
                (*path, "unit_id"),
                f"{line_of(link)} unit id {link.unit_id} is already {first}:"
                " two units cannot be one device",
                *((*path, name) for name in ("host", "port", "serial")),
            )


def _one_bms_to_each_unit(settings: Settings) -> Iterator[Breach]:
    """Two BMSs on one bus are told apart by their identifiers alone."""
    seen: dict[tuple[str, str, str, int], str] = {}
    for index, unit in enumerate(settings.units):
        if unit.bms is None:
            continue
        bms = unit.bms
        first = seen.setdefault((bms.interface, bms.channel, bms.dbc, bms.id_offset), unit.id)
        if first != unit.id:
            base = ("units", index, "bms")
            yield broken(
                (*base, "id_offset"),
                f"{bms.channel}: the BMS of {first} sends the same identifiers;"
                " give each BMS on one bus an id_offset of its own",
                *((*base, name) for name in ("interface", "channel", "dbc")),
            )


def _one_speed_to_each_line(settings: Settings) -> Iterator[Breach]:
    """A serial line, and a CAN bus, is opened once, with one set of line settings."""
    names = ("baudrate", "parity", "stopbits")
    seen: dict[str, tuple[str, tuple[object, ...]]] = {}
    for path, id_, link in links(settings):
        if link.serial is None:
            continue
        mine = (link.baudrate, link.parity, link.stopbits)
        first, theirs = seen.setdefault(link.serial, (id_, mine))
        for name, own, other in zip(names, mine, theirs, strict=True):
            if own != other:
                text = f"{name} {own}, but {first} on {link.serial} has {other}: give both the same"
                yield broken((*path, name), text, (*path, "serial"))


def _one_speed_to_each_bus(settings: Settings) -> Iterator[Breach]:
    seen: dict[tuple[str, str], tuple[str, tuple[int, int]]] = {}
    serial = {link.serial: id_ for _, id_, link in links(settings) if link.serial is not None}
    for index, unit in enumerate(settings.units):
        bms, model = unit.bms, settings.bms_of(unit)
        if bms is None or model is None:
            continue
        base = ("units", index, "bms")
        if bms.channel in serial:
            text = f"{bms.channel} is the Modbus line of {serial[bms.channel]}: give each its own"
            yield broken((*base, "channel"), text)
        mine = (bms.bitrate or model.bitrate, bms.serial_baudrate)
        first, theirs = seen.setdefault((bms.interface, bms.channel), (unit.id, mine))
        for name, own, other in zip(("bitrate", "serial_baudrate"), mine, theirs, strict=True):
            if own != other:
                text = f"{name} {own}, but {first} on {bms.channel} has {other}: give both the same"
                yield broken((*base, name), text, (*base, "channel"), (*base, "dbc"))


def is_loopback(host: str) -> bool:
    """Whether a host is this machine and cannot be a real device."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _simulated_stays_here(settings: Settings) -> Iterator[Breach]:
    """A simulated device is served at its own address, so that must not be a real one's."""
    yield from _simulated_buses(settings)
    for path, host, serial in _simulated(settings):
        if serial is not None and serial.startswith("/dev/"):
            text = (
                f"{serial} may be a real line, but its device is simulated;"
                " give a path outside /dev, where a pseudo-terminal is put, or another mode"
            )
            yield broken((*path, "serial"), text, ("mode",))
        if host is not None and not is_loopback(host):
            text = (
                f"{host} may be a real device, but it is simulated;"
                " use an address in 127.0.0.0/8, ::1 or localhost, or another mode"
            )
            yield broken((*path, "host"), text, ("mode",))


def _simulated_buses(settings: Settings) -> Iterator[Breach]:
    for index, unit in enumerate(settings.units):
        simulated = settings.mode == "simulation" or (settings.mode == "hil" and unit.simulate)
        if not simulated or unit.bms is None:
            continue
        base, bms = ("units", index, "bms"), unit.bms
        if bms.interface not in SIMULATED_BUSES:
            yield broken(
                (*base, "interface"),
                f"{bms.interface} may be a real bus, but its BMS is simulated;"
                f" use {' or '.join(SIMULATED_BUSES)}, or another mode",
                (*base, "channel"),
                ("mode",),
            )
        elif bms.channel.startswith("/dev/"):
            yield broken(
                (*base, "channel"),
                f"{bms.channel} may be a real line, but its BMS is simulated;"
                " give a path outside /dev, where a pseudo-terminal is put, or another mode",
                ("mode",),
            )


def _simulated(settings: Settings) -> Iterator[tuple[KeyPath, str | None, str | None]]:
    """Path, host and serial line of all that is simulated in this mode."""
    everything = settings.mode == "simulation"
    for index, unit in enumerate(settings.units):
        if everything or (settings.mode == "hil" and unit.simulate):
            if unit.modbus is not None:
                yield ("units", index, "modbus"), unit.modbus.host, unit.modbus.serial
            if unit.inverter is not None:
                yield ("units", index, "inverter"), unit.inverter.host, unit.inverter.serial
    meter = settings.meter
    if meter is not None and (everything or (settings.mode == "hil" and meter.simulate)):
        yield ("meter",), meter.host, meter.serial
    if everything:
        for index, each in enumerate(settings.interlock_inputs):
            yield ("interlock_inputs", index, "modbus"), each.modbus.host, each.modbus.serial
        for index, pmu in enumerate(settings.pmu):
            yield ("pmu", index), pmu.host, None


# --- names ---


def campuses(settings: Settings) -> Iterator[tuple[KeyPath, CampusSettings]]:
    """Every campus of the hierarchy, with its path."""
    for s, state in enumerate(settings.country.states):
        for c, city in enumerate(state.cities):
            for k, campus in enumerate(city.campuses):
                yield ("country", "states", s, "cities", c, "campuses", k), campus


def buildings(settings: Settings) -> Iterator[tuple[KeyPath, BuildingSettings]]:
    """Every building of the hierarchy, with its path."""
    for path, campus in campuses(settings):
        for index, building in enumerate(campus.buildings):
            yield (*path, "buildings", index), building


def _unique_ids(settings: Settings) -> Iterator[Breach]:
    yield from _twice(_devices(settings), {SITE: "the site itself"})
    states = [
        (("country", "states", index), each.id)
        for index, each in enumerate(settings.country.states)
    ]
    cities = [
        ((*path, "cities", index), city.id)
        for (path, _), state in zip(states, settings.country.states, strict=True)
        for index, city in enumerate(state.cities)
    ]
    yield from _twice(states)
    yield from _twice(cities)
    yield from _twice((path, campus.id) for path, campus in campuses(settings))
    reserved = {unit.id: f"unit {unit.id}" for unit in settings.units}
    places = [(path, building.id) for path, building in buildings(settings)]
    yield from _twice(places, {SITE: "the site itself", **reserved})


def _devices(settings: Settings) -> Iterator[tuple[KeyPath, str]]:
    sections = (("units", settings.units), ("interlock_inputs", settings.interlock_inputs))
    for section, members in (*sections, ("pmu", settings.pmu)):
        for index, member in enumerate(members):
            yield (section, index), _id_of(member)


def _id_of(member: Any) -> str:
    return str(member.id)


def _twice(
    entries: Iterable[tuple[KeyPath, str]], reserved: dict[str, str] | None = None
) -> Iterator[Breach]:
    seen: dict[str, str] = dict(reserved or {})
    for path, id_ in entries:
        if id_ in seen:
            yield broken((*path, "id"), f"{id_} is already the id of {seen[id_]}; ids are unique")
        seen.setdefault(id_, dotted(path))


def _buildings_exist(settings: Settings) -> Iterator[Breach]:
    known = {building.id for _, building in buildings(settings)}
    for index, unit in enumerate(settings.units):
        if known and unit.building not in known:
            yield broken(
                ("units", index, "building"),
                f"{unit.building} is not a building of campus.yaml: {', '.join(sorted(known))}",
                ("country",),
            )


def _scopes_exist(settings: Settings) -> Iterator[Breach]:
    known = {SITE, *(building.id for _, building in buildings(settings))}
    known |= {each for unit in settings.units for each in (unit.id, unit.building)}
    names = [
        ("units", index, key) for index in range(len(settings.units)) for key in ("id", "building")
    ]
    for index, each in enumerate(settings.interlock_inputs):
        if each.scope not in known:
            yield broken(
                ("interlock_inputs", index, "scope"),
                f"{each.scope} is neither site nor a building nor a unit",
                ("country",),
                *names,
            )


def _zone_exists(settings: Settings) -> Iterator[Breach]:
    zone = settings.site.timezone
    try:
        zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        known = bool(zoneinfo.available_timezones())
        remedy = "" if known else " (this machine has no zones at all: install tzdata)"
        text = f"no time zone {zone}; a name like Asia/Kolkata{remedy}"
        yield broken(("site", "timezone"), text)


# --- frequency ---


def _deadband(settings: Settings) -> Iterator[Breach]:
    names = ("deadband_low_hz", "nominal_hz", "deadband_high_hz")
    yield from ascending(("droop",), settings.droop, *names)


RULES: tuple[Callable[[Settings], Iterator[Breach]], ...] = (
    _zone_exists,
    _windows,
    _one_way_to_each_device,
    _somebody_obeys,
    _right_sort,
    _one_unit_to_each_device,
    _one_bms_to_each_unit,
    _one_speed_to_each_line,
    _one_speed_to_each_bus,
    _one_bit_to_each_input,
    _simulated_stays_here,
    _polled_in_time,
    _revert_accepted,
    _unique_ids,
    _buildings_exist,
    _scopes_exist,
    _deadband,
)
