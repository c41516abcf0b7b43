"""A PMU that plays a capture of a real one over TCP, again and again, with fresh time stamps.

It knows the bytes of the protocol by itself: what it sends is what the real device sent, but for
SOC, FRACSEC, the check word and, when a test sets one, FREQ.
"""

import binascii
import select
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

CAPTURES = Path(__file__).parent / "data" / "pmu"
DATA, CFG2 = 0x01, 0x31  # the second byte of a frame
OFF, ON, SEND_CFG2 = 1, 2, 5
COMMAND_BYTES = 18
FORMAT_AT, PHASORS_AT = 38, 40  # of the first PMU in a configuration frame
STAT_END = 16  # in a data frame; phasors follow, then FREQ


def word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big")


class ReplayedPmu(socketserver.ThreadingTCPServer):
    """One stream. Frame 3 is not answered: the captured devices know frame 2 only."""

    daemon_threads = True

    def __init__(self, name: str) -> None:
        super().__init__(("127.0.0.1", 0), _Conversation)
        frames = [bytes.fromhex(line) for line in (CAPTURES / f"{name}.hex").read_text().split()]
        self.config = next(frame for frame in frames if frame[1] == CFG2)
        self.idcode = word(self.config, 4)
        self.port = int(self.server_address[1])
        self.period_s = 1.0 / word(self.config, len(self.config) - 4)
        self.frequency_hz: float | None = None  # None: as captured
        self.silent = False
        self._nominal_hz = 50.0 if word(self.config, len(self.config) - 8) & 1 else 60.0
        self._time_base = int.from_bytes(self.config[14:18], "big") & 0xFFFFFF
        float_phasors = word(self.config, FORMAT_AT) & 2
        self._integer_hertz = not word(self.config, FORMAT_AT) & 8
        self._freq_at = STAT_END + word(self.config, PHASORS_AT) * (8 if float_phasors else 4)
        self._data = [frame for frame in frames if frame[1] == DATA]

    def captured(self, *places: int) -> list[tuple[float, ...]]:
        """The float words at these bytes of every captured data frame."""
        return [
            tuple(struct.unpack_from(">f", frame, at)[0] for at in places) for frame in self._data
        ]

    def frames(self) -> Iterator[bytes]:
        """The captured data frames for ever, each as if measured when it is taken."""
        for captured in cycle(self._data):
            frame = bytearray(captured)
            now_s = time.time()
            count = int(now_s % 1.0 * self._time_base)
            frame[6:14] = struct.pack(">II", int(now_s), frame[10] << 24 | count)
            if self.frequency_hz is not None:
                assert self._integer_hertz, "this capture's frequency is not an integer"
                millihertz = round((self.frequency_hz - self._nominal_hz) * 1000.0)
                struct.pack_into(">h", frame, self._freq_at, millihertz)
            frame[-2:] = struct.pack(">H", binascii.crc_hqx(frame[:-2], 0xFFFF))
            yield bytes(frame)

    def handle_error(self, request: object, client_address: object) -> None:
        """The other end went away, which ends the conversation."""


class _Conversation(socketserver.BaseRequestHandler):
    """One connection: commands in, frames out."""

    request: socket.socket
    server: ReplayedPmu

    def handle(self) -> None:
        pmu, asked, sending = self.server, b"", False
        frames, due_s = pmu.frames(), time.monotonic()
        while True:
            left_s = max(due_s - time.monotonic(), 0.0) if sending else None
            if select.select([self.request], [], [], left_s)[0]:
                if not (heard := self.request.recv(4096)):
                    return
                asked += heard
            while len(asked) >= COMMAND_BYTES:
                command, asked = word(asked, 14), asked[COMMAND_BYTES:]
                sending = command == ON or (sending and command != OFF)
                if command == SEND_CFG2:
                    self.request.sendall(pmu.config)
            if sending and time.monotonic() >= due_s:
                due_s = max(due_s + pmu.period_s, time.monotonic())
                if not pmu.silent:
                    self.request.sendall(next(frames))


@contextmanager
def replayed(name: str) -> Iterator[ReplayedPmu]:
    """The PMU of a capture, answering on a free port."""
    with ReplayedPmu(name) as pmu:
        thread = threading.Thread(target=pmu.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield pmu
        finally:
            pmu.shutdown()
            thread.join()
