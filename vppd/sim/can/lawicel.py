"""An adapter between a CAN bus and a serial line, the ASCII protocol of LAWICEL ("slcan"). Pure.

Typed from the manual of the CANUSB adapter: a command is a letter, its arguments in hexadecimal and
CR; the answer ends with CR, or is BELL for what cannot be done now.

    Sn, sxxyy   speed, while closed         O, L   open, or open to listen only     C   close
    tiiildd..   11-bit frame: identifier (3), length (1), bytes; answered z
    Tiiiiiiiildd.. 29-bit frame: identifier (8); answered Z           r, R   remote frames
    V, N, F     versions, serial number, status flags; the flags only while open

Frames of the bus come unasked, in the same form as they are sent.
"""

import re
from collections.abc import Callable

OK, BELL = b"\r", b"\a"
VERSION, SERIAL_NUMBER, FLAGS = b"V1013\r", b"NVPPD\r", b"F00\r"
LONGEST_COMMAND = 64
SPEED = re.compile(r"S[0-8]|s[0-9A-Fa-f]{4}")
ACCEPTANCE = re.compile(r"[Mm][0-9A-Fa-f]{8}|Z0")
DATA = re.compile(r"(?:t([0-7][0-9A-Fa-f]{2})|T([01][0-9A-Fa-f]{7}))([0-8])((?:[0-9A-Fa-f]{2})*)")
REMOTE = re.compile(r"r[0-7][0-9A-Fa-f]{2}[0-8]|R[01][0-9A-Fa-f]{7}[0-8]")


def line_of(identifier: int, data: bytes, *, extended: bool) -> bytes:
    """A frame as the adapter tells it."""
    head = f"T{identifier:08X}" if extended else f"t{identifier:03X}"
    return f"{head}{len(data)}{data.hex().upper()}\r".encode()


class Adapter:
    """`heard` gets each frame that the host sends: identifier, whether 29-bit, bytes."""

    def __init__(self, heard: Callable[[int, bool, bytes], None]) -> None:
        self._heard = heard
        self._buffer = bytearray()
        self.is_open = self.is_deaf = False
        self.openings = 0  # how often it was asked to open

    def reset(self) -> None:
        """Power-up: closed."""
        self._buffer.clear()
        self.is_open = self.is_deaf = False

    def obey(self, data: bytes) -> bytes:
        """Take what the host wrote, in any pieces; what to answer."""
        self._buffer += data
        *lines, rest = bytes(self._buffer).split(b"\r")
        self._buffer = bytearray(rest if len(rest) <= LONGEST_COMMAND else b"")
        return b"".join(self._answer(line.decode("latin-1")) for line in lines)

    def _answer(self, line: str) -> bytes:
        if not line:
            return OK
        if line in {"O", "L"}:
            return self._open(deaf=line == "L")
        if line == "C":
            was_open, self.is_open = self.is_open, False
            return OK if was_open else BELL
        if line in {"V", "N"}:
            return VERSION if line == "V" else SERIAL_NUMBER
        if SPEED.fullmatch(line) or ACCEPTANCE.fullmatch(line):
            return BELL if self.is_open else OK
        if not self.is_open:
            return BELL
        return FLAGS if line == "F" else self._send(line)

    def _open(self, *, deaf: bool) -> bytes:
        self.openings += 1
        if self.is_open:
            return BELL
        self.is_open, self.is_deaf = True, deaf
        return OK

    def _send(self, line: str) -> bytes:
        if self.is_deaf:
            return BELL
        done = b"z\r" if line[0].islower() else b"Z\r"
        if REMOTE.fullmatch(line):
            return done
        frame = DATA.fullmatch(line)
        if frame is None or len(frame[4]) != 2 * int(frame[3]):
            return BELL
        self._heard(int(frame[1] or frame[2], 16), frame[2] is not None, bytes.fromhex(frame[4]))
        return done
