"""What happened lately, from the journal: events, commands, violations and trips in one list."""

from typing import Final

from vppd.core.alarms import Level
from vppd.northbound.problems import Problem
from vppd.northbound.site import Site
from vppd.northbound.views import View
from vppd.spine.schema import from_micros

LAST_MAX = 1000

SELECTS: Final = {
    "event": "SELECT at, unit, code, level, text FROM event",
    "command": "SELECT at, unit, verb, user, rtrim(verdict || ': ' || text, ': ') FROM command",
    "violation": "SELECT at, unit, rule, level, text FROM violation",
    "trip": """SELECT at, scope, code, action, CASE WHEN instr(text, 'by ' || "by") THEN text
        ELSE ltrim(text || '; by ' || "by", '; ') END FROM trip""",
}


async def recent(site: Site, last: int) -> View:
    """The newest rows of all four, newest last. Raises Problem 503."""
    found: list[tuple[int, View]] = []
    try:
        for kind, sql in SELECTS.items():
            rows = await site.journal.select(f"{sql} ORDER BY at DESC LIMIT ?", (last,))
            found += [_line(kind, row) for row in rows]
    except OSError as error:
        raise Problem(503, "journal-unreadable", f"the journal cannot be read: {error}") from None
    found.sort(key=lambda each: each[0])
    return {"events": [view for _, view in found[-last:]]}


def _line(kind: str, row: tuple[object, ...]) -> tuple[int, View]:
    at, unit, code, level, text = row
    word = {"command": "by", "trip": "action"}.get(kind, "level")
    return int(str(at)), {
        "at": from_micros(int(str(at))),
        "kind": kind,
        "unit": unit,
        "code": code,
        word: _level(level) if kind == "event" else level,
        "text": text,
    }


def _level(number: object) -> str:
    try:
        return Level(int(str(number))).name.lower()
    except ValueError:
        return str(number)
