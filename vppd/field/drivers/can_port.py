"""A CAN interface by python-can: opened, read dry, closed. Opening and closing may block.

What hangs on a serial line is opened only by who holds that line: python-can would write on it
while it is another program's.
"""

import os
import select
import socket
import struct
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

import can

from vppd.core.alarms import Code
from vppd.field.bms import CanCounters
from vppd.field.drivers.hold import IN_USE, STOP_IT, HeldError, hold
from vppd.field.drivers.slcan import ReadAhead

GATHER_S = 0.01  # frames are gathered so long
TAKE_MOST = 64
ERRORS_MOST = 32  # in a row, without a frame between them: the interface is gone
IP_MULTICAST_ALL, IPV6_MULTICAST_ALL = 49, 29  # linux/in.h, linux/in6.h
UDP_PORT = 43113  # python-can's own
SLCAN = "slcan"
ON_A_LINE = frozenset({SLCAN, "serial"})  # whose channel is a serial line

UNREADABLE = (ValueError, LookupError, TypeError, struct.error)  # of one frame, by its parser
NOT_OPENED = (can.CanError, OSError, *UNREADABLE, ImportError, NameError, AttributeError)


class CanDownError(Exception):
    """The interface cannot be used, and which alarm that is."""

    def __init__(self, text: str, code: Code = Code.CAN_LOST) -> None:
        super().__init__(text)
        self.code = code


class CanHeldError(CanDownError):
    """Its serial line is another program's; nothing was written on it."""


@dataclass(slots=True)
class Opened:
    """An open interface. `waiting` says whether a frame may be had; None: read until none comes."""

    bus: can.BusABC
    file: int | None
    waiting: Callable[[], bool] | None = None
    errors: int = 0  # in a row
    ends: ExitStack = field(default_factory=ExitStack)  # what closing it takes


def arguments(
    interface: str, channel: str, bitrate: int, serial_baudrate: int, *, listen_only: bool = False
) -> dict[str, Any]:
    """What python-can wants to know to open an interface of this kind.

    The channel of udp_multicast is a group, or GROUP:PORT ([GROUP]:PORT for IPv6). Raises
    ValueError for a channel that the interface cannot have.
    """
    wanted: dict[str, Any] = {"interface": interface, "channel": channel, "ignore_config": True}
    if interface == SLCAN:
        wanted |= {"bitrate": bitrate, "tty_baudrate": serial_baudrate, "listen_only": listen_only}
        wanted |= {"sleep_after_open": 0.0}
    elif interface == "serial":
        wanted |= {"baudrate": serial_baudrate, "timeout": GATHER_S}
    elif interface == "udp_multicast":
        group, port = channel, ""
        if channel.startswith("[") or channel.count(":") == 1:
            group, _, port = channel.rpartition(":")
        wanted |= {"channel": group.strip("[]"), "port": int(port or UDP_PORT), "fd": False}
    elif interface == "kvaser":
        wanted |= {"channel": int(channel), "bitrate": bitrate}
    elif interface == "pcan":
        wanted |= {"bitrate": bitrate}
    return wanted  # socketcan: `ip link` sets the bitrate; virtual has none


def open_interface(wanted: Mapping[str, Any]) -> Opened:
    """Open it; may block. Raises CanDownError."""
    interface, channel = str(wanted["interface"]), str(wanted["channel"])
    try:
        with ExitStack() as ends:
            if (line := _line_of(interface, channel)) is not None:
                ends.callback(os.close, hold(line))
            bus = can.Bus(**wanted)
            ends.callback(_shut, bus)
            opened = _opened(bus, interface)
            opened.ends = ends.pop_all()
            return opened
    except HeldError as error:
        raise CanHeldError(f"{interface} {channel}: {IN_USE}: {STOP_IT}") from error
    except NOT_OPENED as error:
        raise CanDownError(f"{interface} {channel}: {error}") from error


def _line_of(interface: str, channel: str) -> str | None:
    """The serial line it hangs on; one that pyserial reaches elsewhere (a URL) is not held."""
    if interface not in ON_A_LINE or "://" in channel:
        return None
    return channel.partition("@")[0] if interface == SLCAN else channel  # PATH@BAUDRATE


def _opened(bus: can.BusABC, interface: str) -> Opened:
    file = None
    with suppress(NotImplementedError):
        file = bus.fileno()
    if file is None or file < 0:
        return Opened(bus, None)
    if interface == SLCAN and hasattr(bus, "serialPortOrig"):
        ahead = bus.serialPortOrig = ReadAhead(bus.serialPortOrig)
        return Opened(bus, file, lambda: ahead.in_waiting > 0)
    if interface == "serial":  # it waits for a byte in spite of any time-out given
        return Opened(bus, file, lambda: bool(select.select([file], [], [], 0.0)[0]))
    if interface == "udp_multicast":
        _hear_own_group(file)
    return Opened(bus, file)


def _hear_own_group(file: int) -> None:
    """Linux gives a socket the frames of every group that anyone on the machine has joined."""
    with socket.socket(fileno=os.dup(file)) as own:
        if own.family == socket.AF_INET6:
            own.setsockopt(socket.IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0)
        else:
            own.setsockopt(socket.IPPROTO_IP, IP_MULTICAST_ALL, 0)


def close_interface(opened: Opened) -> None:
    """Close it, then let its line go; may block."""
    opened.ends.close()


def _shut(bus: can.BusABC) -> None:
    """What goes wrong is of no use to anyone: it is given up anyway."""
    with suppress(can.CanError, OSError, *UNREADABLE):
        bus.shutdown()
    ahead = getattr(bus, "serialPortOrig", None)
    if isinstance(ahead, ReadAhead):  # slcan keeps its file when saying goodbye fails
        with suppress(OSError):
            ahead.close()


def drain(opened: Opened, counters: CanCounters) -> tuple[list[can.Message], bool]:
    """The frames that wait, at most `TAKE_MOST`, and whether there may be more.

    A frame that its parser cannot read is counted. Raises CanDownError.
    """
    messages: list[can.Message] = []
    bus, waiting = opened.bus, opened.waiting
    for _ in range(TAKE_MOST):
        try:
            if waiting is not None and not waiting():
                return messages, False
            message = bus.recv(0.0)
        except OSError as error:
            raise CanDownError(str(error)) from error
        except can.CanError as error:
            if error.error_code is not None or isinstance(error.__cause__, OSError):
                raise CanDownError(str(error)) from error
            _unreadable(opened, counters, error)
            continue
        except UNREADABLE as error:
            _unreadable(opened, counters, error)
            continue
        if message is not None:
            opened.errors = 0
            messages.append(message)
        elif waiting is None:
            return messages, False
    return messages, True


def _unreadable(opened: Opened, counters: CanCounters, error: Exception) -> None:
    counters.bad += 1
    opened.errors += 1
    if opened.errors >= ERRORS_MOST:
        raise CanDownError(f"{opened.errors} errors in a row: {error}") from error
