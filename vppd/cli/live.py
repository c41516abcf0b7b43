"""`vppctl top`: the status and the frequency of the last minute, drawn anew each second."""

import threading
from collections.abc import Sequence

from vppd.cli import tables
from vppd.cli.wire import DaemonAbsent, ask
from vppd.cli.words import localised

PERIOD_S = 1.0
MINUTE_S = 60
BARS = "▁▂▃▄▅▆▇█"


def top(path: str) -> int:
    """Until Ctrl-C. Raises DaemonAbsent when there is no daemon at the start."""
    from rich.console import Console  # noqa: PLC0415  drawn on a terminal only
    from rich.live import Live  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console()
    lines = frame(path)
    if not console.is_terminal:
        print("\n".join(lines))
        return 0
    wake = threading.Event()
    try:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                height, width = console.size.height, console.size.width
                text = "\n".join(line[: width - 1] for line in lines[: height - 1])
                live.update(Text(text, no_wrap=True), refresh=True)
                wake.wait(PERIOD_S)
                try:
                    lines = frame(path)
                except DaemonAbsent as error:
                    lines = [str(error), "", *lines[2:]]
    except KeyboardInterrupt:
        return 0


def frame(path: str) -> list[str]:
    """One picture. Raises DaemonAbsent."""
    status = ask(path, "GET", "/v1/status")
    history = ask(path, "GET", f"/v1/frequency?history={MINUTE_S}")
    if not status.fine or not history.fine:
        return tables.problem(status.body if not status.fine else history.body)
    view = localised(status.body, status.zone)
    lines = tables.status(view)
    lines.insert(3, spark(history.body["history"]))
    return [f"vppctl top, {view['at']}, Ctrl-C ends", *lines]


def spark(age_s_hz: Sequence[Sequence[float]], width: int = MINUTE_S) -> str:
    """Frequency of the last minute, a sign a second, oldest left, between its own extremes."""
    by_second: dict[int, float] = {int(age_s): hz for age_s, hz in age_s_hz}
    values = [by_second.get(second) for second in range(width - 1, -1, -1)]
    known = [hz for hz in values if hz is not None]
    if not known:
        return "no frequency in the last minute"
    low_hz, high_hz = min(known), max(known)
    step_hz = (high_hz - low_hz) / (len(BARS) - 1) or 1.0
    signs = "".join(
        BARS[round((hz - low_hz) / step_hz)] if hz is not None else " " for hz in values
    )
    return f"{signs} {low_hz:.3f} to {high_hz:.3f} Hz"
