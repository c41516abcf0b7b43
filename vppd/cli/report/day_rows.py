"""What the report of a day reads of the journal: the day in slots, each with its least and its
most, so that a plot shows every excursion; and what happened in it. Read-only."""

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vppd.core.model import SEEN_KW

SLOTS = 480  # three minutes of a day, about two dots of a plot
ROWS_MAX = 300

_HELD = "min(coalesce(lead(at) OVER (ORDER BY at), :to_at) - at, 2000000) AS held"
_UNIT_HELD = """min(coalesce(lead(at) OVER (PARTITION BY unit ORDER BY at), :last_at) - at,
            61000000) AS held"""
_SITE = f"""WITH told AS (SELECT at, frequency_hz, owed_kw, cleared_kw, {_HELD}
    FROM site WHERE at >= :from_at AND at < :to_at)
    SELECT (at - :from_at) / :slot AS slot, min(frequency_hz), avg(frequency_hz),
        max(frequency_hz), total(owed_kw * held) / sum(held), total(cleared_kw * held) / sum(held),
        sum(held) / 1e6, count(*)
    FROM told GROUP BY slot"""  # noqa: S608 - our own words
_MEASURED = f"""WITH held AS (SELECT unit, at, measured_kw,
        {_UNIT_HELD}
    FROM setpoint WHERE at >= :from_at AND at < :to_at)
    SELECT slot, sum(kw), count(*) FROM (
        SELECT (at - :from_at) / :slot AS slot, sum(measured_kw * held) / sum(held) AS kw
        FROM held WHERE measured_kw IS NOT NULL AND held > 0 GROUP BY slot, unit) GROUP BY slot"""  # noqa: S608
_SOC = """SELECT unit, (at - :from_at) / :slot AS slot, avg(value) FROM reading
    WHERE at >= :from_at AND at < :to_at AND point IN ('soc_pct', 'bms_soc_pct')
        AND quality = 'good' GROUP BY unit, slot ORDER BY unit, slot"""
# A row may name a reason for several points. What was written last holds until the last row of all.
# Who cuts nothing of the site is none of its clamps; of a unit it names who holds its share down.
_CLAMPED = f""", clamped AS (SELECT unit, at, held, j.value ->> 0 AS code,
        max(abs((j.value ->> 1) - (j.value ->> 2))) AS cut_kw
    FROM held, json_each(clamps_json) AS j WHERE clamps_json <> '[]'
    GROUP BY unit, at, code HAVING unit <> 'site' OR cut_kw >= {SEEN_KW})
    SELECT code, unit, sum(held) / 1e6 AS lasted_s, min(at), max(at + held), max(cut_kw)
    FROM clamped GROUP BY code, unit ORDER BY lasted_s DESC"""  # noqa: S608
_CLAMPS = f"""WITH held AS (SELECT unit, at, clamps_json,
        {_UNIT_HELD}
    FROM setpoint WHERE at >= :from_at AND at < :to_at){_CLAMPED}"""  # noqa: S608
_SITE_CLAMPS = f"""WITH held AS (SELECT 'site' AS unit, at, clamps_json, {_HELD}
    FROM site WHERE at >= :from_at AND at < :to_at){_CLAMPED}"""  # noqa: S608
_EVENTS = """SELECT at, what, unit, text FROM (
        SELECT at, code AS what, unit, text FROM event
        WHERE at >= :from_at AND at < :to_at AND level >= 2
    UNION ALL SELECT at, code, unit, text FROM event
        WHERE at >= :from_at AND at < :to_at AND code IN ('started', 'stopped', 'reload')
            AND level < 2
    UNION ALL SELECT at, action || ' ' || code, scope, "by" || ': ' || text FROM trip
        WHERE at >= :from_at AND at < :to_at
    UNION ALL SELECT at, verb || ' ' || verdict, unit, user || ' ' || text FROM command
        WHERE at >= :from_at AND at < :to_at)
    ORDER BY at LIMIT :most"""
_TURNS = """SELECT code, unit, at, level > 0 FROM event
    WHERE (code IN (SELECT value FROM json_each(:codes)) OR code = 'started')
        AND at < :to_at AND at >= coalesce(
            (SELECT max(s.at) FROM event AS s WHERE s.code = 'started' AND s.at < :from_at), 0)
    ORDER BY at, id"""


_LAST = """SELECT max(:from_at,
    coalesce((SELECT max(at) FROM site WHERE at >= :from_at AND at < :to_at), 0),
    coalesce((SELECT max(at) FROM event WHERE at >= :from_at AND at < :to_at), 0))"""


@dataclass(frozen=True, slots=True)
class SiteSlot:
    """The site in one slot of the day; `hz` is least, mean, most; `known_s` is how long a row of it
    held, one at most 2 s."""

    slot: int
    hz: tuple[float | None, float | None, float | None]
    owed_kw: float
    cleared_kw: float
    known_s: float
    rows: int


@dataclass(frozen=True, slots=True)
class ClampLine:
    """How long a reason cut a unit, or the site, and by how much at most; a row holds until the
    next, at most 61 s (of the site 2 s)."""

    code: str
    unit: str
    lasted_s: float
    first_us: int
    last_us: int
    most_kw: float


@dataclass(frozen=True, slots=True)
class Happening:
    """One line of what happened."""

    at_us: int
    what: str
    unit: str
    text: str


@dataclass(frozen=True, slots=True)
class Outage:
    """How often and how long one link was lost, s; `ongoing`: at the end of the day too."""

    code: str
    unit: str
    times: int
    total_s: float
    longest_s: float
    ongoing: bool


@dataclass(frozen=True, slots=True)
class DayRows:
    """One day of one journal."""

    from_us: int
    to_us: int
    site: tuple[SiteSlot, ...]
    measured_kw: Mapping[int, float]
    soc_pct: Mapping[str, Sequence[tuple[int, float]]]
    clamps: tuple[ClampLine, ...]
    happenings: tuple[Happening, ...]
    outages: tuple[Outage, ...]
    last_us: int  # the last row: what was lost then is not counted longer

    @property
    def slot_us(self) -> int:
        """How long a slot is."""
        return (self.to_us - self.from_us) // SLOTS


def day_rows(
    journal: sqlite3.Connection,
    from_us: int,
    to_us: int,
    links: Sequence[str],
    tell: Callable[[str], None] = lambda _: None,
) -> DayRows:
    """Everything between two times. `links` are the codes that say that a link is lost; `tell` is
    told what is being read. Raises sqlite3.Error."""
    bounds: dict[str, Any] = {
        "from_at": from_us,
        "to_at": to_us,
        "slot": (to_us - from_us) // SLOTS,
        "most": ROWS_MAX,
        "codes": json.dumps(list(links)),
    }

    def rows(what: str, sql: str) -> list[tuple[Any, ...]]:
        tell(what)
        return journal.execute(sql, bounds).fetchall()

    (last_us,) = rows("the last row", _LAST)[0]
    bounds["last_at"] = last_us
    site = [
        SiteSlot(slot, (low, mean, high), owed, cleared, known_s, count)
        for slot, low, mean, high, owed, cleared, known_s, count in rows("the site", _SITE)
    ]
    units: list[tuple[Any, ...]] = rows("what was measured", _MEASURED)
    whole = max((count for _, _, count in units), default=0)
    socs: dict[str, list[tuple[int, float]]] = {}
    for unit, slot, value in rows("states of charge", _SOC):
        socs.setdefault(unit, []).append((slot, value))
    return DayRows(
        from_us,
        to_us,
        tuple(site),
        {slot: kw for slot, kw, count in units if count == whole},
        socs,
        tuple(
            ClampLine(*each)
            for each in [*rows("clamps", _SITE_CLAMPS), *rows("clamps of units", _CLAMPS)]
        ),
        tuple(Happening(*each) for each in rows("events", _EVENTS)),
        tuple(outages(rows("links", _TURNS), from_us, last_us)),
        last_us,
    )


def outages(
    turns: Iterable[tuple[str, str, int, int]], from_us: int, to_us: int
) -> Iterator[Outage]:
    """From (code, unit, microseconds, lost or not), in order: what lies between two times. A start
    of the daemon ends what stood before; what is still lost is told anew."""
    lost: dict[tuple[str, str], int] = {}
    found: dict[tuple[str, str], list[tuple[int, int]]] = {}

    def end(key: tuple[str, str], at_us: int) -> None:
        since_us, at_us = max(lost.pop(key), from_us), min(at_us, to_us)
        if at_us > since_us:
            found.setdefault(key, []).append((since_us, at_us))

    for code, unit, at_us, is_lost in turns:
        if code == "started":
            for key in tuple(lost):
                end(key, at_us)
        elif is_lost:
            lost.setdefault((code, unit), at_us)
        elif (code, unit) in lost:
            end((code, unit), at_us)
    ongoing = set(lost)
    for key in ongoing:
        end(key, to_us)
    for key in sorted(found):
        spans_s = [(end_us - since_us) / 1e6 for since_us, end_us in found[key]]
        yield Outage(*key, len(spans_s), sum(spans_s), max(spans_s), key in ongoing)
