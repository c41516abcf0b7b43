"""Does anything grow? Memory, descriptors, tasks, database, lateness, over days and hours.

    scripts/soak --days 14 --hours 1 [--beat 0.4] [--units 2]

Days are lived on virtual time by a whole site that trades, in this process; hours in real time by
the daemon, with the plant and the exchange as processes of their own. What counts as flat is the
rule in `tests/soak_trend.py`. Exit code 1 when a figure is not. A simulated day takes a core about
half an hour, ten minutes with `--beat 0.4 --units 2`.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests import soak_lived, soak_virtual
from tests.site_rig import NAMES
from tests.soak_trend import Rule, Sample, judged, table

EVERY_S = 10.0  # in real time
SHARED_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # a quick disk
SAMPLES_LEAST = 60  # a shorter run is looked at more often


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--days", type=float, default=14.0, help="simulated, on virtual time")
    parser.add_argument("--hours", type=float, default=1.0, help="in real time")
    parser.add_argument(
        "--beat", type=float, default=0.1, help="seconds between ticks on virtual time, to 0.4"
    )
    parser.add_argument("--units", type=int, default=len(NAMES), help="on virtual time")
    parser.add_argument(
        "--wall", type=float, default=48.0, help="hours after which simulated days are judged as is"
    )
    return parser.parse_args(words)


def told(title: str, rules: Sequence[Rule], samples: Sequence[tuple[float, Sample]]) -> bool:
    """Print the table; whether all is flat."""
    verdicts = [judged(rule, samples) for rule in rules]
    print(f"\n{title}, {len(samples)} samples, the second half is judged:")
    print("\n".join(table(verdicts)), flush=True)
    return all(each.flat for each in verdicts)


def main(words: Sequence[str] | None = None) -> int:
    """The exit code."""
    how, fine = _options(words), True
    if how.days > 0.0:
        with tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as directory:
            begun_s = time.monotonic()
            seconds_s = how.days * 86400.0
            wall_s = how.wall * 3600.0
            samples = soak_virtual.lived(Path(directory), seconds_s, how.beat, wall_s, how.units)
            hours = samples[-1][0] / 3600.0
            rate = hours / (time.monotonic() - begun_s)
            title = (
                f"{hours / 24.0:.3g} simulated days of {how.units} units, {rate:.3g} hours a second"
            )
            fine &= told(title, soak_virtual.RULES, samples)
            bids = samples[-1][1]["bids"]
            print(f"{bids:.0f} bids")
            fine &= bids > 0.0  # else it did not do what it is looked at for
    if how.hours > 0.0:
        with tempfile.TemporaryDirectory() as directory:
            seconds_s = how.hours * 3600.0
            every_s = min(EVERY_S, seconds_s / SAMPLES_LEAST)
            samples = soak_lived.lived(Path(directory), seconds_s, every_s)
            fine &= told(f"{how.hours:g} hours in real time", soak_lived.RULES, samples)
    print("flat" if fine else "NOT FLAT")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
