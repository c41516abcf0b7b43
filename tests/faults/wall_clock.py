"""The daemon's wall clock in the campaign's hand, by `wall_clock.c`, which is built for it."""

import os
import shutil
import struct
import subprocess
import time
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")
WORDS = struct.Struct("ddd")  # offset, drift, since


class WallClock:
    """A library and the file it looks at, in a directory that the daemon can read too."""

    def __init__(self, directory: Path, seen_as: Path) -> None:
        """`seen_as` is how the daemon calls that directory."""
        self._file = directory / "wall_clock"
        library = directory / "wall_clock.so"
        build = ["gcc", "-shared", "-fPIC", "-O2", "-o", str(library), str(SOURCE)]
        subprocess.run(build, check=True, capture_output=True, timeout=60.0)
        self._file.write_bytes(WORDS.pack(0.0, 0.0, 0.0))
        self.preload = {
            "LD_PRELOAD": str(seen_as / library.name),
            "VPPD_WALL_CLOCK": str(seen_as / self._file.name),
        }

    def set(self, offset_s: float = 0.0, drift_s_per_s: float = 0.0) -> None:
        """From now on it is so much off, and gains so much."""
        descriptor = os.open(self._file, os.O_WRONLY)
        try:
            os.pwrite(descriptor, WORDS.pack(offset_s, drift_s_per_s, time.monotonic()), 0)
        finally:
            os.close(descriptor)


def can_move() -> str:
    """Empty, or why the clock cannot be moved here."""
    return "" if shutil.which("gcc") else "needs gcc"
