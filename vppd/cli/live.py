"""`vppctl top`: the site on one screen, drawn anew once a second; only what changed is written, so
that it can be used over a slow line."""

import threading
from collections.abc import Sequence

from rich.console import Console
from rich.control import Control
from rich.segment import ControlType
from rich.text import Text

from vppd.cli import tables
from vppd.cli.screen import Sample, history, kept, picture, sample
from vppd.cli.wire import DaemonAbsent, Json, Reply, ask

PERIOD_S = 1.0
WIDTH, HEIGHT = 80, 24
ROOM = 22  # lines of a picture that are neither units nor alarms


class Watch:
    """Asks the daemon, and remembers what a plot needs."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._samples: list[Sample] = []
        self._last: tuple[Json, str] | None = None

    def look(self) -> list[str]:
        """Ask; what is wrong with the answer, nothing when it is fine. Raises DaemonAbsent."""
        status = ask(self._path, "GET", "/v1/status")
        if not status.fine:
            return tables.problem(status.body)
        now = sample(status.body)
        if not self._samples or now.at_s < self._samples[-1].at_s:  # the first, or a new daemon
            self._samples = self._remembered(now.at_s)
        self._samples = [*kept(self._samples, now.at_s), now]
        self._last = status.body, status.zone
        return []

    def lines(self, width: int, height: int | None = None) -> list[Text]:
        """The picture of what was seen last; without a height it is as long as it needs to be."""
        if self._last is None:
            return []
        view, zone = self._last
        if height is None:
            height = max(HEIGHT, ROOM + len(view["units"]) + 2 * len(view["alarms"]))
        return picture(view, zone, self._samples, width, height)

    def _remembered(self, uptime_s: float) -> list[Sample]:
        trail: Reply = ask(self._path, "GET", "/v1/trail")
        return history(trail.body, uptime_s) if trail.fine else []


class Screen:
    """A terminal that knows what stands on it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._drawn: list[Text] = []
        self._size = console.size

    def draw(self, lines: Sequence[Text]) -> None:
        """Write what is not there yet."""
        if self._console.size != self._size:
            self._size, self._drawn = self._console.size, []
        console, whole = self._console, not self._drawn
        with console.capture() as written:
            if whole:
                console.control(Control.clear())
            for row in range(max(len(lines), len(self._drawn))):
                new = lines[row] if row < len(lines) else Text("")
                old = self._drawn[row] if row < len(self._drawn) else Text("")
                if new != old or new.spans != old.spans:
                    self._write(row, old, new)
        self._drawn = list(lines)
        console.file.write(written.get())
        console.file.flush()

    def _write(self, row: int, old: Text, new: Text) -> None:
        """The part of a line between what is the same on the left and on the right."""
        begin, end = changed(old, new)
        self._console.control(Control.move_to(begin, row))
        self._console.print(new[begin:end], end="", no_wrap=True, crop=False, overflow="ignore")
        if len(new) < len(old):
            self._console.control(Control((ControlType.ERASE_IN_LINE, 0)))


def changed(old: Text, new: Text) -> tuple[int, int]:
    """Where the new line differs, as begin and end; all of it where signs are not of one width."""
    if any(each.cell_len != len(each) for each in (old, new)):
        return 0, len(new)
    ours, theirs = _cells(new), _cells(old)
    begin = 0
    while begin < min(len(ours), len(theirs)) and ours[begin] == theirs[begin]:
        begin += 1
    end = len(ours)
    if len(ours) == len(theirs):
        while end > begin and ours[end - 1] == theirs[end - 1]:
            end -= 1
    return begin, end


def _cells(line: Text) -> list[tuple[str, tuple[str, ...]]]:
    styles: list[list[str]] = [[str(line.style)] for _ in line.plain]
    for start, end, style in line.spans:
        for place in range(start, min(end, len(styles))):
            styles[place].append(str(style))
    return [(sign, tuple(style)) for sign, style in zip(line.plain, styles, strict=True)]


def top(path: str, *, once: bool = False) -> int:
    """Until Ctrl-C; one picture `once`, or where there is no terminal. Raises DaemonAbsent when
    there is no daemon at the start."""
    console, watch = Console(highlight=False, markup=False, emoji=False), Watch(path)
    wrong = watch.look()
    if once or not console.is_terminal:
        width = console.width if console.is_terminal else WIDTH
        for line in watch.lines(width):
            console.print(line, no_wrap=True, crop=False, overflow="ignore")
        for text in wrong:
            print(text)
        return int(bool(wrong))
    wake = threading.Event()  # never set: a pause that Ctrl-C ends
    try:
        with console.screen(hide_cursor=True):
            screen = Screen(console)
            while True:
                lines = watch.lines(console.width - 1, console.height)
                if wrong:
                    lines[:1] = [Text(wrong[0][: console.width - 1], "bold red")]
                screen.draw(lines)
                wake.wait(PERIOD_S)
                try:
                    wrong = watch.look()
                except DaemonAbsent as error:
                    wrong = [str(error)]
    except KeyboardInterrupt:
        return 0
