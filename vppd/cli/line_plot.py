"""Lines over time as SVG: axes with units, a band, a legend. Nothing but text is made. Pure."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from vppd.field.step_response import Sample

WIDTH, HEIGHT = 900, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 60, 50
TICKS = 8
STEPS = (1.0, 2.0, 5.0, 10.0)
COLOURS = ("#1b6ca8", "#c2571a", "#2c8a4b", "#7a3fa0", "#8a6d00", "#a83279")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a plot; `held` where a value stands until the next."""

    name: str
    samples: Sequence[Sample]
    held: bool = False
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Frame:
    """Where values come to lie on the paper."""

    from_s: float
    to_s: float
    low: float
    high: float

    def x(self, at_s: float) -> float:  # on paper
        share = (at_s - self.from_s) / (self.to_s - self.from_s)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:  # on paper
        share = (value - self.low) / (self.high - self.low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def plot(
    title: str,
    lines: Sequence[Line],
    band: tuple[str, Sequence[Sample], Sequence[Sample]] = ("", (), ()),
    *,
    from_s: float,
    to_s: float,
    unit: str,
    signed: bool = True,
    along: str = "time, s",
) -> str:
    """One picture. `band` is a name with its lower and upper edge, held like a setpoint; `signed`
    puts a plus before positive values of the axis; `along` is what the time axis is called."""
    seen = [
        each.value
        for samples in (*(line.samples for line in lines), band[1], band[2])
        for each in samples
        if from_s <= each.at_s <= to_s
    ]
    low, high = min(seen, default=0.0), max(seen, default=1.0)
    margin = 0.08 * (high - low) or 1.0
    frame = Frame(from_s, to_s, low - margin, high + margin)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="12">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="15">{escape(title)}</text>',
        *_axes(frame, unit, along, signed=signed),
        _band(frame, band[1], band[2]),
    ]
    for place, line in enumerate(lines):
        parts.append(_line(frame, line, COLOURS[place % len(COLOURS)]))
    parts += _legend([*(line.name for line in lines)], band[0])
    return "\n".join([*parts, "</svg>\n"])


def ticks(low: float, high: float) -> list[float]:
    """Round values between two ends, at most about eight."""
    rough = (high - low) / TICKS
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * each for each in STEPS if size * each >= rough)
    first = math.ceil(low / step)
    return [step * at for at in range(first, math.floor(high / step) + 1)]


def _axes(frame: Frame, unit: str, along: str, *, signed: bool) -> Iterator[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    sign = "+" if signed else ""
    for value in ticks(frame.low, frame.high):
        y = frame.y(value)
        colour = "#888888" if abs(value) < 1e-12 else "#e4e4e4"  # noqa: PLR2004
        yield f'<path d="M{LEFT} {y:.1f}H{right}" stroke="{colour}"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:{sign}g}</text>'
    for at_s in ticks(frame.from_s, frame.to_s):
        x = frame.x(at_s)
        yield f'<path d="M{x:.1f} {TOP}V{bottom}" stroke="#f0f0f0"/>'
        yield f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{at_s:g}</text>'
    yield f'<rect x="{LEFT}" y="{TOP}" width="{right - LEFT}" height="{bottom - TOP}"'
    yield ' fill="none" stroke="#444444"/>'
    yield f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 10}" text-anchor="middle">'
    yield f"{escape(along)}</text>"
    middle = (TOP + bottom) / 2
    yield f'<text transform="translate(18 {middle}) rotate(-90)" text-anchor="middle">'
    yield f"{escape(unit)}</text>"


def _points(frame: Frame, samples: Sequence[Sample], *, held: bool) -> list[tuple[float, float]]:
    """On paper, cut to the frame; a held value reaches the next and the end."""
    inside = [each for each in samples if frame.from_s <= each.at_s <= frame.to_s]
    before = [each for each in samples if each.at_s < frame.from_s]
    if held and before:
        inside = [Sample(frame.from_s, before[-1].value), *inside]
    points: list[tuple[float, float]] = []
    for each in inside:
        if held and points:
            points.append((frame.x(each.at_s), points[-1][1]))
        points.append((frame.x(each.at_s), frame.y(each.value)))
    if held and points:
        points.append((frame.x(frame.to_s), points[-1][1]))
    return points


def _words(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _line(frame: Frame, line: Line, colour: str) -> str:
    points = _points(frame, line.samples, held=line.held)
    dash = ' stroke-dasharray="6 4"' if line.dashed else ""
    drawn = f'<polyline points="{_words(points)}" fill="none" stroke="{colour}"'
    return f'{drawn} stroke-width="1.8"{dash}/>'


def _band(frame: Frame, low: Sequence[Sample], high: Sequence[Sample]) -> str:
    edge = [*_points(frame, low, held=True), *reversed(_points(frame, high, held=True))]
    return f'<polygon points="{_words(edge)}" fill="#1b6ca8" fill-opacity="0.12"/>'


def _legend(names: Sequence[str], band: str) -> Iterator[str]:
    x = float(LEFT)
    for place, name in enumerate(names):
        colour = COLOURS[place % len(COLOURS)]
        yield f'<rect x="{x}" y="34" width="18" height="4" fill="{colour}"/>'
        yield f'<text x="{x + 24}" y="41">{escape(name)}</text>'
        x += 40.0 + 7.0 * len(name)
    if not band:
        return
    yield f'<rect x="{x}" y="30" width="18" height="12" fill="#1b6ca8" fill-opacity="0.12"/>'
    yield f'<text x="{x + 24}" y="41">{escape(band)}</text>'
