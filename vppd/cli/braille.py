"""A plot made of the dots of braille signs: two dots wide and four high in each place. Pure."""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

BLANK = 0x2800
WIDE, HIGH = 2, 4
BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # by row from above, then column
STEPS = (1.0, 2.0, 5.0, 10.0)

Dots = set[tuple[int, int]]  # column from the left, row from above
Placed = tuple[int, float]  # column and value


def scale(values: Iterable[float], span: float) -> tuple[float, float]:
    """Round ends around all values and at least so far apart, so that they seldom change."""
    known = list(values) or [0.0]
    low, high = min(known), max(known)
    if high - low < span:
        low, high = (low + high - span) / 2, (low + high + span) / 2
    rough = (high - low) / 4
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * each for each in STEPS if size * each >= rough * (1 - 1e-9))
    return math.floor(low / step + 1e-6) * step, math.ceil(high / step - 1e-6) * step


def dots(samples: Iterable[Placed], columns: int, rows: int, ends: tuple[float, float]) -> Dots:
    """Samples as (column, value) on so many places; one outside the ends lies on the edge."""
    low, high = ends
    most = rows * HIGH - 1
    lit: Dots = set()
    for column, value in samples:
        if 0 <= column < columns * WIDE:
            row = round((high - value) / (high - low) * most)
            lit.add((column, min(max(row, 0), most)))
    return lit


def signs(lit: Dots, columns: int, rows: int) -> list[str]:
    """The lines of text that show these dots."""
    cells = [[BLANK] * columns for _ in range(rows)]
    for column, row in lit:
        cells[row // HIGH][column // WIDE] |= BITS[row % HIGH][column % WIDE]
    return ["".join(" " if cell == BLANK else chr(cell) for cell in line) for line in cells]


def joined(series: Sequence[Placed], gap: int) -> list[Placed]:
    """Samples with steps between neighbours filled in, so that a jump is a line; no further apart
    than `gap` columns."""
    found = list(series)
    for (left, before), (right, after) in pairwise(series):
        if 0 < right - left <= gap:
            slope = (after - before) / (right - left)
            between = range(left + 1, right)
            found.extend((column, before + slope * (column - left)) for column in between)
    return found
