"""The market's sums in a short-lived process: `python -m vppd.market.solving.worker`.

One JSON request on standard input, one JSON answer on standard output, the same bytes for the same
request (see `vppd.market.solving.answers`). numpy and HiGHS are loaded here alone. What
cannot be made is answered as `{"error": why}`. It gives way to the daemon, for processor and for
memory, and ends itself `alarm_s` after it has read, should nobody be left to kill it.
"""

import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

NICE = 10
KILLED_FIRST = "1000"  # of all processes, when memory runs out


def give_way() -> None:
    """As far as a hardened service lets it."""
    with suppress(OSError):
        os.nice(NICE)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(KILLED_FIRST, encoding="ascii")


def main() -> None:
    """Give way, read, answer."""
    give_way()
    from vppd.market.solving.answers import answer  # noqa: PLC0415 - it loads numpy: not before

    try:
        request = json.loads(sys.stdin.buffer.read())
        signal.setitimer(signal.ITIMER_REAL, float(request["alarm_s"]))
        said = answer(request)
    except (ValueError, KeyError, TypeError) as error:
        said = {"error": f"not a request: {type(error).__name__}: {error}"}
    text = json.dumps(said, sort_keys=True, separators=(",", ":"), allow_nan=False)
    sys.stdout.buffer.write(text.encode() + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
