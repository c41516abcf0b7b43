"""Whether wall time may be trusted for schedules.

Asked in ways that also work inside the hardened service, where adjtimex() is refused: the flag of
systemd-timesyncd, then chrony's own answer on its command port, then the kernel where it may be
asked. Wall time that jumps against the monotonic clock is not trusted until it is confirmed again.
"""

import ctypes
import errno
import socket
import struct
from datetime import datetime
from pathlib import Path
from typing import Literal

from vppd.core.alarms import Code
from vppd.core.model import SITE
from vppd.core.ports import Clock
from vppd.spine.alarms import AlarmBoard

TIMESYNCD_FLAG = Path("/run/systemd/timesync/synchronized")
CHRONY_PORT = 323
CHRONY_TIMEOUT_S = 0.2
CHRONY_HEADER = 28
LOOK_S = 10.0
JUMP_S = 2.0
TIME_ERROR = 5
LEAP_UNSYNCHRONISED = 3


def timesyncd() -> bool:
    """systemd-timesyncd says so by a file."""
    return TIMESYNCD_FLAG.exists()


def chrony(port: int = CHRONY_PORT) -> bool:
    """Ask chronyd for its tracking report (command protocol 6, request 33, reply 5) on loopback.

    Source: chrony's candm.h; header 28 bytes, then reference id, address, stratum, leap status.
    """
    request = struct.pack("!BBBBHHIII", 6, 1, 0, 0, 33, 0, 1, 0, 0).ljust(104, b"\0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.settimeout(CHRONY_TIMEOUT_S)
        try:
            udp.connect(("127.0.0.1", port))
            udp.send(request)
            reply = udp.recv(512)
        except OSError:
            return False
    if len(reply) < CHRONY_HEADER + 28:
        return False
    version, kind, _, _, command, answer, status = struct.unpack_from("!BBBBHHH", reply)
    stratum, leap = struct.unpack_from("!HH", reply, CHRONY_HEADER + 24)
    answered = (version, kind, command, answer, status) == (6, 2, 33, 5, 0)
    return answered and 0 < stratum < 16 and leap < LEAP_UNSYNCHRONISED  # noqa: PLR2004


def kernel() -> bool:
    """The kernel's own word, where it may be asked; a refusal is no word."""
    libc = ctypes.CDLL(None, use_errno=True)
    timex = ctypes.create_string_buffer(512)  # modes 0: only read
    state = libc.adjtimex(timex)
    return state not in (-1, TIME_ERROR) and ctypes.get_errno() != errno.EPERM


def synchronised() -> bool:
    """Whether anything on this machine says that wall time is synchronised. Blocks up to 0.2 s."""
    return timesyncd() or chrony() or kernel()


class TimeWatch:
    """Looks every ten seconds, off the loop; alarms when not synchronised and when time jumped."""

    def __init__(self, mode: Literal["auto", "assume"], clock: Clock, alarms: AlarmBoard) -> None:
        self._mode, self._clock, self._alarms = mode, clock, alarms
        self._trusted = mode == "assume"
        self._offset_s: float | None = None

    def adopt(self, mode: Literal["auto", "assume"]) -> None:
        """Look after it, or trust it, from now on."""
        self._mode = mode
        self._trusted = self._trusted or mode == "assume"

    def trusted(self) -> bool:
        """Whether schedules may act on wall time now. Also notices a jump at once."""
        self._notice(self._clock.utc(), self._clock.now_s())
        return self._trusted

    def heard(self, in_step: bool) -> None:
        """What the machine said; `assume` trusts whatever it said."""
        self._trusted = in_step or self._mode == "assume"
        self._alarms.set(Code.CLOCK_NOT_SYNCHRONISED, SITE, not self._trusted)
        if self._trusted:
            self._alarms.set(Code.CLOCK_JUMPED, SITE, False)

    def _notice(self, utc: datetime, now_s: float) -> None:
        offset_s = utc.timestamp() - now_s
        jump_s = 0.0 if self._offset_s is None else offset_s - self._offset_s
        self._offset_s = offset_s
        if abs(jump_s) > JUMP_S:
            self._alarms.set(Code.CLOCK_JUMPED, SITE, True, f"wall time jumped {jump_s:+.1f} s")
            self._trusted = self._mode == "assume"
