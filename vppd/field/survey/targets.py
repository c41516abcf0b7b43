"""What `vppd discover` is asked to look at: hosts and unit ids from words. Pure."""

import ipaddress
from collections.abc import Sequence

USUAL_IDS = (*range(1, 11), 126, 247, 255)
ALL_IDS = (*range(1, 248), 255)
MOST_HOSTS = 1024
MOST_PORT = 65535


def hosts_of(target: str, port: int) -> list[tuple[str, int]]:
    """`HOST`, `HOST:PORT`, `192.168.1.0/28`, `192.168.1.10-20` or `192.168.1.10-192.168.1.20`, as
    hosts and ports. Raises ValueError with what is wrong."""
    name, colon, digits = target.rpartition(":")
    if colon and ":" not in name:
        if not digits.isdecimal() or not 1 <= int(digits) <= MOST_PORT:
            raise ValueError(f"{target}: {digits} is no port")
        target, port = name, int(digits)
    if "/" in target:
        hosts = _network(target)
    elif "-" in target and target.partition("-")[0].count(".") == 3 and _is_ip(target):  # noqa: PLR2004
        hosts = _range(target)
    else:
        hosts = [target]
    if not target.strip() or not hosts:
        raise ValueError(f"{target!r}: no host")
    return [(host, port) for host in hosts]


def _is_ip(target: str) -> bool:
    """Whether what stands before the dash is an address (a name may hold dashes as well)."""
    try:
        ipaddress.IPv4Address(target.partition("-")[0])
    except ValueError:
        return False
    return True


def _network(target: str) -> list[str]:
    try:
        network = ipaddress.IPv4Network(target, strict=False)
    except ValueError as error:
        raise ValueError(f"{target}: {error}") from error
    _few(target, network.num_addresses)
    return [str(host) for host in network.hosts()]


def _range(target: str) -> list[str]:
    first_text, _, last_text = target.partition("-")
    try:
        first = ipaddress.IPv4Address(first_text)
        if last_text.isdecimal():
            last_text = f"{first_text.rpartition('.')[0]}.{int(last_text)}"
        last = ipaddress.IPv4Address(last_text)
    except ValueError as error:
        raise ValueError(f"{target}: {error}") from error
    if last < first:
        raise ValueError(f"{target}: ends before it begins")
    _few(target, int(last) - int(first) + 1)
    return [str(ipaddress.IPv4Address(number)) for number in range(int(first), int(last) + 1)]


def _few(target: str, count: int) -> None:
    if count > MOST_HOSTS:
        raise ValueError(f"{target}: {count} addresses, at most {MOST_HOSTS} at once")


def can_of(words: str) -> tuple[str, str]:
    """`IFACE:CHANNEL` in two. Raises ValueError."""
    interface, colon, channel = words.partition(":")
    if not colon or not interface or not channel:
        raise ValueError(f"{words}: wanted INTERFACE:CHANNEL, such as socketcan:can0")
    return interface, channel


def spread(ids: Sequence[int]) -> str:
    """Unit ids for a person: 1-10, 126."""
    runs: list[list[int]] = []
    for number in sorted(set(ids)):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
