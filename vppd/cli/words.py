"""How vppctl writes single values and tables."""

import functools
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any

UNKNOWN = "?"
_ISO = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")


def told(error: Exception) -> str:
    """What went wrong, without an error's number: `nope.csv: no such file or directory`."""
    if isinstance(error, OSError) and error.strerror:
        reason = error.strerror[0].lower() + error.strerror[1:]
        return f"{error.filename}: {reason}" if error.filename else reason
    return str(error.args[0]) if isinstance(error, LookupError) and error.args else str(error)


def number(value: object, form: str = "+.1f") -> str:
    """A number, or ? when it is unknown."""
    return format(value, form) if isinstance(value, int | float) else UNKNOWN


def span(seconds: object) -> str:
    """A time span in its two largest parts: 2 d 3 h, 15 min, 4 s."""
    if not isinstance(seconds, int | float):
        return UNKNOWN
    if seconds < 10:  # noqa: PLR2004
        return f"{seconds:.1f} s"
    left, parts = round(seconds), []
    for word, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if left >= size:
            parts.append(f"{left // size} {word}")
            left %= size
    return " ".join(parts[:2])


def time_of(text: object, age_s: object) -> str:
    """A time as `localised` gives it; what is younger than most of a day needs no date."""
    today = isinstance(age_s, int | float) and age_s < 72000.0  # noqa: PLR2004  20 h
    return str(text).partition(" ")[2] if today and " " in str(text) else str(text)


def localised(value: Any, zone: str) -> Any:
    """An answer with every time in it as a person of this zone reads it."""
    if isinstance(value, dict):
        return {key: localised(each, zone) for key, each in value.items()}
    if isinstance(value, list):
        return [localised(each, zone) for each in value]
    if isinstance(value, str) and _ISO.match(value):
        at = datetime.fromisoformat(value).astimezone(_zone(zone))
        return at.strftime("%Y-%m-%d %H:%M:%S %Z")
    return value


@functools.cache
def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # noqa: PLC0415  not every zone needs it

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC


def codes(bound_by: object) -> str:
    """Reason codes, or - when nothing binds."""
    return ", ".join(map(str, bound_by)) if isinstance(bound_by, list) and bound_by else "-"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], right: str = "") -> list[str]:
    """Aligned columns; those whose letter in `right` is r are aligned to the right."""
    lines = [tuple(head), *(tuple(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    sides = right.ljust(len(head), "l")
    return [
        "  ".join(
            word.rjust(width) if side == "r" else word.ljust(width)
            for word, width, side in zip(line, widths, sides, strict=True)
        ).rstrip()
        for line in lines
    ]
