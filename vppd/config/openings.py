"""What a configuration needs opened in the hardened unit: addresses, serial lines, CAN, secrets.

The unit opens nothing by itself. `vppd dropins` makes systemd's drop-ins of what stands here; who
loads the configuration of the service is warned of what they do not let through yet.
"""

import ipaddress
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from vppd.config.reference import FILES
from vppd.core.settings import Settings

SERVICE_CONFIG = Path("/etc/vppd")
DROP_INS = Path("/etc/systemd/system/vppd.service.d")
_SERIAL_BMS = {"slcan", "serial"}
_OWN_DRIVER = {"pcan", "kvaser"}


@dataclass(frozen=True, slots=True)
class Host:
    """Who is spoken with, and the key that says so."""

    key: str
    name: str

    @property
    def address(self) -> str | None:
        """Its address where it is given as one, else None: it is a name."""
        try:
            return str(ipaddress.ip_address(self.name.split("%", maxsplit=1)[0]))
        except ValueError:
            return None

    @property
    def loopback(self) -> bool:
        address = self.address
        return address is not None and ipaddress.ip_address(address).is_loopback


@dataclass(frozen=True, slots=True)
class Openings:
    """All that one configuration needs. `credentials` are names, never what they say."""

    hosts: tuple[Host, ...]
    serials: tuple[str, ...]
    can: bool
    credentials: tuple[str, ...]
    people: bool  # somebody beside root and vppd itself may use the socket
    by_hand: tuple[str, ...]  # what cannot be derived: a sentence each


def openings_of(settings: Settings, secrets: tuple[str, ...] = ()) -> Openings:
    """What these settings need; `secrets` are the names of their !credential tags."""
    buses = [(unit.id, unit.bms) for unit in settings.units if unit.bms is not None]
    serials = [*_serials(settings), *(b.channel for _, b in buses if b.interface in _SERIAL_BMS)]
    tls = settings.mqtt.tls if settings.mqtt is not None else None
    files = (tls.ca, tls.certificate, tls.key) if tls is not None else ()
    named = [name for name in files if name is not None and "/" not in name]
    return Openings(
        tuple(_hosts(settings)),
        tuple(sorted({path for path in serials if path.startswith("/dev/")})),
        any(bus.interface == "socketcan" for _, bus in buses),
        tuple(sorted({*secrets, *named})),
        settings.api.viewers is not None or settings.api.operators is not None,
        tuple(
            f"units.{unit}.bms: the device file of a {bus.interface} adapter is its driver's; "
            "give it a DeviceAllow= in a drop-in of your own"
            for unit, bus in buses
            if bus.interface in _OWN_DRIVER
        )
        + tuple(
            f"units.{unit}.bms: who sends to the group {bus.channel} is not known; "
            "give them an IPAddressAllow= in a drop-in of your own"
            for unit, bus in buses
            if bus.interface == "udp_multicast"
        ),
    )


def credential_names(directory: Path) -> tuple[str, ...]:
    """Names of all `!credential NAME` in the files; nothing is read but the files."""
    names: set[str] = set()
    for file in FILES:
        try:
            text = (directory / file).read_text(encoding="utf-8-sig")
            events = list(yaml.parse(text, Loader=yaml.SafeLoader))
        except (OSError, ValueError, yaml.YAMLError):
            continue  # the loader says what is wrong with it
        scalars = (event for event in events if isinstance(event, yaml.ScalarEvent))
        names |= {event.value for event in scalars if event.tag == "!credential"}
    return tuple(sorted(names))


def shut_out(hosts: Iterable[Host], drop_ins: str) -> tuple[Host, ...]:
    """Hosts given by an address that the text of drop-ins does not let through.

    Only addresses and networks are read; names are for `vppd dropins --check`.
    """
    if not re.search(r"^IPAddressDeny=any$", drop_ins, re.MULTILINE):
        return ()
    words = " ".join(re.findall(r"^IPAddressAllow=(.*)$", drop_ins, re.MULTILINE)).split()
    networks = [network for word in words if (network := _network(word)) is not None]
    return tuple(
        host
        for host in hosts
        if host.address is not None and not host.loopback and not _within(host.address, networks)
    )


def shut_out_here(
    directory: Path, settings: Settings, folder: Path = DROP_INS
) -> Iterator[tuple[str, int, str, str]]:
    """File, line, key and text of a warning for each host of the service's own configuration that
    its allow-list leaves out: it would look switched off."""
    if directory != SERVICE_CONFIG:
        return
    try:
        text = "\n".join(path.read_text("utf-8") for path in sorted(folder.glob("*.conf")))
    except (OSError, ValueError):
        return  # systemd says what is wrong with them
    remedy = "sudo vppd dropins --write; systemctl daemon-reload"
    for host in shut_out(_hosts(settings), text):
        told = f"{host.name} is not let through by the service's allow-list: {remedy}"
        yield str(folder), 0, host.key, told


def _within(address: str, networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    return any(ipaddress.ip_address(address) in network for network in networks)


def _network(word: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network("0.0.0.0/0" if word == "any" else word, strict=False)
    except ValueError:
        return None  # a word such as localhost


def _hosts(settings: Settings) -> Iterator[Host]:
    yield from _devices(settings)
    for source in settings.pmu:
        yield Host(f"pmu.{source.id}.host", source.host)
    if settings.scada.enabled:
        for master in settings.scada.masters:
            yield Host("scada.masters.host", master.host)
    market = settings.market
    urls = {
        "mqtt.url": settings.mqtt.url if settings.mqtt is not None else None,
        "aggregator.url": settings.aggregator.url if settings.role == "aggregator" else None,
        "exchange.url": market.exchange.url if market.enabled else None,
    }
    for key, url in urls.items():
        name = urlsplit(url).hostname if url is not None else None
        if name is not None:
            yield Host(key, name)


def _devices(settings: Settings) -> Iterator[Host]:
    for unit in settings.units:
        for part, link in (("modbus", unit.modbus), ("inverter", unit.inverter)):
            if link is not None and link.host is not None:
                yield Host(f"units.{unit.id}.{part}.host", link.host)
        if unit.bms is not None and unit.bms.interface == "udp_multicast":
            yield Host(f"units.{unit.id}.bms.channel", unit.bms.channel)
    if settings.meter is not None and settings.meter.host is not None:
        yield Host("meter.host", settings.meter.host)
    for given in settings.interlock_inputs:
        if given.modbus.host is not None:
            yield Host(f"interlock_inputs.{given.id}.modbus.host", given.modbus.host)


def _serials(settings: Settings) -> Iterator[str]:
    links = [link for unit in settings.units for link in (unit.modbus, unit.inverter)]
    inputs = [given.modbus for given in settings.interlock_inputs]
    for link in (*links, settings.meter, *inputs):
        if link is not None and link.serial is not None:
            yield link.serial
