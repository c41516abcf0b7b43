"""The wires that simulated CAN frames go out by; none of them ever blocks the loop."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import can

from vppd.core.settings import BmsSettings
from vppd.sim.can.lawicel import Adapter, line_of
from vppd.sim.pty_link import PtyLink

Heard = Callable[[int, bool, bytes], None]  # identifier, whether 29-bit, bytes

SLCAN, UDP_MULTICAST, VIRTUAL = "slcan", "udp_multicast", "virtual"
MOST_AT_ONCE = 256
OPTIONS: dict[str, dict[str, Any]] = {
    UDP_MULTICAST: {"hop_limit": 0, "fd": False},  # what is simulated stays on this machine
    VIRTUAL: {},
}


class Wire(Protocol):
    """One bus, as its BMSs reach it."""

    def open(self) -> None:
        """Raises OSError."""

    def close(self) -> None:
        """The interface is gone for whoever uses it."""

    def send(self, identifier: int, data: bytes, *, extended: bool) -> bool:
        """Put a frame on the bus; whether it went."""

    def listen(self) -> None:
        """Take what waits, where it does not come by itself."""


def wire_of(settings: BmsSettings, heard: Heard) -> Wire:
    """The wire of these settings. Raises ValueError for an interface the plant cannot be."""
    if settings.interface == SLCAN:
        return SlcanWire(Path(settings.channel), heard)
    if settings.interface in OPTIONS:
        return BusWire(settings.interface, settings.channel, heard)
    known = ", ".join((SLCAN, *OPTIONS))
    raise ValueError(f"the plant plays CAN on {known}, not on {settings.interface}")


class SlcanWire:
    """A pty with the adapter on it."""

    def __init__(self, path: Path, heard: Heard) -> None:
        self._pty = PtyLink(path, self._received)
        self._adapter = Adapter(heard)
        self._unsent = b""  # of a frame that went in part

    def open(self) -> None:
        """Make the pty and link it. Raises OSError when the path is taken by something else."""
        self._adapter.reset()
        self._unsent = b""
        self._pty.open()

    def close(self) -> None:
        """Unplug it."""
        self._pty.close()

    def send(self, identifier: int, data: bytes, *, extended: bool) -> bool:
        """False while the host has it closed, or does not read."""
        if not self._adapter.is_open:
            return False
        self._unsent = self._unsent[self._pty.write(self._unsent) :] if self._unsent else b""
        if self._unsent:
            return False
        line = line_of(identifier, data, extended=extended)
        went = self._pty.write(line)
        self._unsent = line[went:] if went else b""
        return went > 0

    def listen(self) -> None:
        """The pty tells by itself."""

    def _received(self, data: bytes) -> None:
        openings = self._adapter.openings
        answer = self._adapter.obey(data)
        if self._adapter.openings != openings:
            self._unsent = b""
            self._pty.forget()  # a host that opens hears what is sent from now on
        self._pty.write(answer)


class BusWire:
    """A bus of python-can; `virtual` only reaches this process, `udp_multicast` this machine."""

    def __init__(self, interface: str, channel: str, heard: Heard) -> None:
        self._interface, self._channel, self._heard = interface, channel, heard
        self._bus: can.BusABC | None = None

    def open(self) -> None:
        """Raises OSError."""
        try:
            self._bus = can.Bus(
                channel=self._channel, interface=self._interface, **OPTIONS[self._interface]
            )
        except can.CanError as error:
            raise OSError(f"{self._interface} {self._channel}: {error}") from error

    def close(self) -> None:
        """Leave the bus."""
        if self._bus is not None:
            self._bus.shutdown()
            self._bus = None

    def send(self, identifier: int, data: bytes, *, extended: bool) -> bool:
        """False when the network cannot take it now."""
        if self._bus is None:
            return False
        message = can.Message(arbitration_id=identifier, is_extended_id=extended, data=data)
        try:
            self._bus.send(message, timeout=0)
        except can.CanError:
            return False
        return True

    def listen(self) -> None:
        """Take what others sent; own frames come back too on udp_multicast, and mean nothing."""
        for _ in range(MOST_AT_ONCE):
            try:
                message = self._bus.recv(0) if self._bus is not None else None
            except (can.CanError, OSError):  # noise that is no frame
                continue
            if message is None:
                return
            self._heard(message.arbitration_id, message.is_extended_id, bytes(message.data))
