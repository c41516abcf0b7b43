"""`./scripts/demo [--seconds N]`: the real daemon on the embedded plant.

Four batteries run a schedule; frequency falls and comes back; a unit goes silent and returns. On a
terminal the screen is live, elsewhere it is a line every few seconds; at the end stands what
happened, told from the journal. Nothing outside a temporary directory is touched.
"""

import argparse
import asyncio
import contextlib
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.live import Live
from rich.text import Text

from vppd.cli.scene import FAILING, timing, write_site, write_trace
from vppd.cli.story import tell
from vppd.cli.tables import status as status_lines
from vppd.cli.wire import DaemonAbsent, Json, fetch
from vppd.cli.words import localised
from vppd.sim.faults.door import request
from vppd.spine.clock import SystemClock

DEFAULT_S = 120.0
LINE_S = 5.0
START_S = 20.0
LOOK_S = 0.5
CLOCK = SystemClock()
PAUSE = threading.Event()  # never set: a pause that a signal ends


def main() -> None:
    """Run the scene to its end or until interrupted, then tell what happened."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--seconds", type=float, default=DEFAULT_S, help=f"length of the scene ({DEFAULT_S:g})"
    )
    parser.add_argument(
        "--keep", type=Path, help="use and keep this directory: configuration, journal, log"
    )
    arguments = parser.parse_args()
    if arguments.seconds < 20.0:  # noqa: PLR2004
        parser.error("--seconds: the scene needs at least 20")
    for each in (signal.SIGINT, signal.SIGTERM):  # also where a script started it
        signal.signal(each, signal.default_int_handler)
    with contextlib.ExitStack() as stack, contextlib.suppress(KeyboardInterrupt):
        directory = arguments.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        code = play(directory := directory.resolve(), arguments.seconds)
        if arguments.keep:
            report = f"{_command('vppd')} report day --state {directory / 'state'}"
            print(f"\nkept in {directory}: {report} > day.html")
        sys.exit(code)


def play(directory: Path, length_s: float) -> int:
    """One run of the scene in a directory; the exit code."""
    config, state = directory / "etc", directory / "state"
    for each in (config, state):
        each.mkdir(parents=True, exist_ok=True)
    when = timing(length_s)
    write_site(config, CLOCK.utc())  # the schedule must hold now
    write_trace(config / "trace.csv", when)
    socket = directory / "vppd.sock"
    log = directory / "vppd.log"
    last: Json = {}
    with log.open("w") as errors:
        daemon = subprocess.Popen(  # noqa: S603  our own interpreter
            [
                *(sys.executable, "-P", "-m", "vppd", "run", "--config", str(config)),
                *("--state", str(state), "--socket", str(socket)),
            ],
            stderr=errors,
        )
        try:
            if not _started(daemon, socket):
                print(f"the daemon did not start; its last words:\n{log.read_text()[-2000:]}")
                return 1
            look = f"{_command('vppctl')} --socket {socket} top"
            with contextlib.suppress(KeyboardInterrupt):
                print(f"vppd runs; look at it with: {look}", flush=True)
                last = _watch(daemon, socket, when.silent_s, when.back_s, length_s, look)
        finally:
            daemon.send_signal(signal.SIGTERM)
            code = daemon.wait(timeout=30)
    print(tell(state / "journal.db", last))
    if code:
        print(f"the daemon ended with {code}:\n{log.read_text()[-2000:]}")
    return code


def _started(daemon: "subprocess.Popen[bytes]", socket: Path) -> bool:
    end_s = CLOCK.now_s() + START_S
    while CLOCK.now_s() < end_s and daemon.poll() is None:
        status = _status(socket)
        if status is not None and status["state"] not in {"starting", "shut"}:
            return True
        PAUSE.wait(0.1)
    return False


def _status(socket: Path) -> Json | None:
    try:
        return fetch(str(socket), "/v1/status")
    except DaemonAbsent:
        return None


def _command(name: str) -> Path:
    """A command that can be pasted into any terminal; those of a checkout are on no PATH."""
    return Path(sys.executable).absolute().with_name(name)


def _watch(
    daemon: "subprocess.Popen[bytes]",
    socket: Path,
    silent_s: float,
    back_s: float,
    length_s: float,
    look: str,
) -> Json:
    """Show the site while the scene plays, and how to look closer; the last status seen."""
    started_s = CLOCK.now_s()
    faults = socket.with_name("plant.sock")
    done: set[str] = set()
    last: Json = {}
    with contextlib.suppress(KeyboardInterrupt), _screen(look) as show:
        while daemon.poll() is None:
            at_s = CLOCK.now_s() - started_s
            if at_s >= length_s:
                break
            for name, due_s, order in (
                ("silence", silent_s, {"inject": "silence", "unit": FAILING}),
                ("back", back_s, {"clear": "silence", "unit": FAILING}),
            ):
                if at_s >= due_s and name not in done:
                    done.add(name)
                    _order(faults, order)
            status = _status(socket)
            if status is not None:
                last = status
                show(at_s, status)
            PAUSE.wait(LOOK_S)
    return last


def _order(plant: Path, payload: Json) -> None:
    """A fault in the plant; the scene says it aloud."""
    answer = asyncio.run(request(plant, payload))
    if "error" in answer:
        raise RuntimeError(answer["error"])


@contextlib.contextmanager
def _screen(look: str) -> Iterator[Callable[[float, Json], None]]:
    """A live screen on a terminal, else a line every few seconds."""
    if not sys.stdout.isatty():
        yield _Lines().show
        return
    with Live(auto_refresh=False, screen=True) as live:
        foot = ["", f"look closer from another terminal: {look}", "Ctrl-C ends the scene"]
        yield lambda _, status: live.update(
            Text("\n".join([*_picture(status), *foot])), refresh=True
        )


def _picture(status: Json) -> list[str]:
    return status_lines(localised(status, str(status["timezone"])))


class _Lines:
    """One plain line every few seconds."""

    def __init__(self) -> None:
        self._next_s = 0.0

    def show(self, at_s: float, status: Json) -> None:
        if at_s < self._next_s:
            return
        self._next_s += LINE_S
        frequency_hz = status["frequency_hz"]
        hertz = "   ?   " if frequency_hz is None else f"{frequency_hz:7.3f}"
        units = " ".join(f"{each['id']}:{each['state']}" for each in status["units"])
        print(f"{at_s:6.1f} s {hertz} Hz  {status['sentence']}  [{units}]", flush=True)


if __name__ == "__main__":
    main()
