"""`vppd discover`: the shell around the scan; prints what was seen and a draft of field.yaml."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click

from vppd import config as configuration
from vppd.config import ConfigError
from vppd.core.bms import BmsProfile
from vppd.core.profile import DeviceProfile
from vppd.field.drivers.can_port import CanDownError, CanHeldError
from vppd.field.drivers.hold import IN_USE
from vppd.field.drivers.modbus import Endpoint
from vppd.field.survey.draft import BusSeen, Draft, draft, seen_lines
from vppd.field.survey.remarks import ASK_BY_CTL_OR_STOP
from vppd.field.survey.scan import Device, scan_can, scan_hosts, scan_line
from vppd.field.survey.targets import ALL_IDS, USUAL_IDS, can_of, hosts_of, spread
from vppd.spine.clock import SystemClock

Tell = Callable[[str], None]


@dataclass(slots=True)
class Library:
    """Every model that is known, own ones before shipped ones; `refused` says what is wrong."""

    profiles: dict[str, DeviceProfile] = field(default_factory=dict)
    bms: dict[str, BmsProfile] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Where to look, and how."""

    hosts: Sequence[tuple[str, int]] = ()
    serial: Endpoint | None = None
    can: tuple[str, str] | None = None
    ids: Sequence[int] = ()
    timeout_s: float = 0.5
    bitrate: int = 500_000
    serial_baudrate: int = 115_200


def library(config_dir: Path) -> Library:
    """Shipped models and those of the configuration's `devices/`."""
    known = Library(configuration.shipped_profiles(), configuration.shipped_bms())
    for path in sorted(config_dir.glob("devices/*.yaml")):
        try:
            if path.with_suffix(".dbc").exists():
                known.bms[path.stem] = configuration.load_bms(path)
            else:
                known.profiles[path.stem] = configuration.load_profile(path)
        except ConfigError as error:
            known.refused.append(f"{path}: not used: {error}")
    return known


def look(wanted: Wanted, known: Library, tell: Tell) -> tuple[Draft, list[Device], list[BusSeen]]:
    """Scan, read-only, and draft. Raises CanDownError where a CAN interface cannot be used."""
    return asyncio.run(_look(wanted, known, tell))


async def _look(
    wanted: Wanted, known: Library, tell: Tell
) -> tuple[Draft, list[Device], list[BusSeen]]:
    clock = SystemClock()
    devices: list[Device] = []
    buses: list[BusSeen] = []
    ids, profiles, timeout_s = wanted.ids, known.profiles, wanted.timeout_s
    if wanted.hosts:
        devices += await scan_hosts(wanted.hosts, ids, profiles, timeout_s, clock, tell)
    if wanted.serial is not None:
        devices += await scan_line(wanted.serial, ids, profiles, timeout_s, clock, tell)
    if wanted.can is not None:
        interface, channel = wanted.can
        traffic, models = await scan_can(
            interface, channel, known.bms, wanted.bitrate, wanted.serial_baudrate, clock
        )
        many = ", ".join(f"0x{number:X}" for number, _ in sorted(traffic)) or "nothing"
        tell(f"{interface} {channel}: heard {many}")
        buses.append(BusSeen(interface, channel, models))
    return draft(devices, buses, profiles), devices, buses


def told(devices: Sequence[Device], buses: Sequence[BusSeen]) -> list[str]:
    """What was seen and how sure that is, a paragraph each."""
    lines: list[str] = []
    for device in devices:
        first, *rest = seen_lines(device)
        lines += [first, *(f"  {line}" for line in rest), ""]
    for bus in buses:
        lines.append(f"{bus.interface} {bus.channel}")
        lines += [
            f"  {seen.match.words}" + f"; id_offset {seen.id_offset}" * bool(seen.id_offset)
            for seen in bus.models
        ] or ["  no known BMS"]
        lines.append("")
    return lines or ["nothing answered"]


def discovered(
    target: str | None,
    serial: str | None,
    output: Path | None,
    *,
    can: str | None,
    baudrate: int,
    parity: str,
    stopbits: int,
    bitrate: int,
    port: int,
    all_ids: bool,
    timeout_s: float,
    config_dir: Path,
) -> int:
    """The whole command; 0 when something was recognised, else 1. Raises ValueError for words that
    make no sense, OSError where the draft cannot be written."""
    if target is None and serial is None and can is None:
        raise ValueError("say where to look: a host, --serial PORT or --can INTERFACE:CHANNEL")
    if output is not None and output.exists():
        raise FileExistsError(f"{output}: exists; a draft never overwrites a file")
    line = Endpoint(None, 0, serial, baudrate, parity, stopbits) if serial is not None else None
    wanted = Wanted(
        hosts=hosts_of(target, port) if target is not None else (),
        serial=line,
        can=can_of(can) if can is not None else None,
        ids=ALL_IDS if all_ids else USUAL_IDS,
        timeout_s=timeout_s,
        bitrate=bitrate,
    )
    known = library(config_dir)
    for text in known.refused:
        _tell(text)
    if wanted.hosts or line is not None:
        places = len(wanted.hosts) + (line is not None)
        many = f"{places} place{'' if places == 1 else 's'}"
        _tell(f"looking, read-only, at {many} for unit ids {spread(wanted.ids)}")
    try:
        page, devices, buses = look(wanted, known, _tell)
    except CanHeldError as held:
        raise OSError(f"{can}: {IN_USE}: {ASK_BY_CTL_OR_STOP}") from held
    except CanDownError as down:
        raise OSError(f"{can}: {down}") from down
    for text in ["", *told(devices, buses)]:
        _tell(text)
    if not devices and not any(bus.models for bus in buses):
        return 1
    _write(page, output)
    for gap in page.gaps:
        _tell(f"to be filled in: {gap}")
    return 0


def _write(page: Draft, output: Path | None) -> None:
    if output is None:
        click.echo(page.text, nl=False)
        return
    with output.open("x", encoding="utf-8") as file:
        file.write(page.text)
    _tell(f"{output}: written")


def _tell(text: str) -> None:
    click.echo(text, err=True)
