"""Lines that are longer than the screen is wide: they end after a word with `…`, or go on in the
rows below while there are free ones. Pure.
"""

from collections.abc import Iterable
from itertools import accumulate, takewhile

from rich.cells import cell_len
from rich.text import Text

MORE = "…"
INDENT = 4  # of what goes on
LONG_WORD = 16  # signs: to leave out more than that, a word is cut


def shortened(line: Text, width: int) -> Text:
    """The line, or as many of its words as fit, and that there are more."""
    if line.cell_len <= width:
        return line
    end = _end(line, width - 1)
    short = line[:end]
    short.rstrip()
    short.append(MORE)
    return short


def laid(lines: Iterable[Text], width: int, free: int) -> list[Text]:
    """All lines, those above first with as many of the free rows as they need."""
    rows = []
    for line in lines:
        rest = line
        while rest.cell_len > width > 2 * INDENT and free > 0:
            end = _end(rest, width)
            rows.append(rest[:end])
            rows[-1].rstrip()
            rest = Text(" " * INDENT) + _without_head(rest[end:])
            free -= 1
        rows.append(shortened(rest, width))
    return rows


def _end(line: Text, width: int) -> int:
    """After which sign a line that is too long ends."""
    cells = accumulate(map(cell_len, line.plain))
    end = sum(1 for _ in takewhile(lambda cell: cell <= width, cells))
    word = end if line.plain[end : end + 1] == " " else line.plain.rfind(" ", 0, end)
    in_reach = word > 0 and end - word <= LONG_WORD and line.plain[:word].strip()
    return word if in_reach else end


def _without_head(line: Text) -> Text:
    return line[len(line.plain) - len(line.plain.lstrip()) :]
