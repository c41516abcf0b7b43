"""What happened in the demo, told from the journal alone: events, response, energy, clamps."""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vppd.core.alarms import MEANINGS, Code
from vppd.core.model import SEEN_KW

FULL = 0.9  # of what is owed counts as answered
US_PER_S = 1e6
GAP_MAX_S = 61.0  # a steady value has a row a minute


def tell(journal: Path, status: dict[str, Any]) -> str:
    """The story as lines of text. Raises OSError when the journal cannot be read."""
    try:
        with sqlite3.connect(f"file:{journal}?mode=ro", uri=True) as rows:
            parts = [_events(rows), _response(rows), _energy(rows), _clamps(rows), _ticks(status)]
    except sqlite3.Error as error:
        raise OSError(f"{journal}: {error}") from error
    return "\n\n".join(["What happened, from the journal:", *parts])


def _events(rows: sqlite3.Connection) -> str:
    """Alarms and the daemon's own words, seconds from the start."""
    found = rows.execute("SELECT at, code, unit, text FROM event ORDER BY at, id").fetchall()
    if not found:
        return "events: none"
    start = found[0][0]
    lines = [
        f"  {(at - start) / US_PER_S:7.1f} s  {code:<24} {unit:<14} {text}"
        for at, code, unit, text in found
    ]
    return "\n".join([f"events: {len(found)}", *lines])


def _response(rows: sqlite3.Connection) -> str:
    """From the first owed droop to the first setpoint with it and to 90 % of it measured."""
    owed = rows.execute(
        "SELECT at, droop_owed_kw, frequency_hz, base_kw FROM site WHERE abs(droop_owed_kw) > 0.5"
        " ORDER BY at LIMIT 1"
    ).fetchone()
    if owed is None:
        return "response: the frequency never left the deadband"
    begun, first_kw, frequency_hz, base_kw = owed
    asked = rows.execute(
        "SELECT min(at) FROM setpoint WHERE at >= ? AND abs(frequency_kw) > 0.05", (begun,)
    ).fetchone()[0]
    peak_at, peak_kw = _peak(rows, begun)
    lines = [
        f"response: {frequency_hz:.3f} Hz owed {first_kw:+.1f} kW;"
        f" at most {peak_kw:+.1f} kW {(peak_at - begun) / US_PER_S:.1f} s later"
    ]
    if asked is not None:
        lines.append(f"  first setpoint with it decided after {(asked - begun) / 1e3:.0f} ms")
    full = _reached(rows, begun, base_kw + FULL * first_kw, first_kw > 0.0)
    if full is not None:
        after_s = (full - begun) / US_PER_S
        lines.append(f"  {FULL:.0%} of it measured on top of the base after {after_s:.1f} s")
    return "\n".join(lines)


def _peak(rows: sqlite3.Connection, begun: int) -> tuple[int, float]:
    """When most was owed in that excursion, and how much."""
    at, droop_kw = rows.execute(
        "SELECT at, droop_owed_kw FROM site WHERE at >= ?"
        " ORDER BY abs(droop_owed_kw) DESC, at LIMIT 1",
        (begun,),
    ).fetchone()
    return at, droop_kw


def _reached(rows: sqlite3.Connection, since: int, goal_kw: float, rising: bool) -> int | None:
    """When the sum of what the units measure first passed the goal."""
    power_kw: dict[str, float] = {}
    for at, unit, value_kw in rows.execute(
        "SELECT at, unit, value FROM reading WHERE point = 'power_kw' ORDER BY at"
    ):
        power_kw[unit] = value_kw or 0.0
        total_kw = sum(power_kw.values())
        if at >= since and (total_kw >= goal_kw if rising else total_kw <= goal_kw):
            return int(at)
    return None


def _energy(rows: sqlite3.Connection) -> str:
    """What each unit gave and took, from its own measurement."""
    out_kwh: dict[str, float] = defaultdict(float)
    in_kwh: dict[str, float] = defaultdict(float)
    for unit, power_kw, lasted_s in _spans(rows):
        kwh = power_kw * lasted_s / 3600.0
        (out_kwh if kwh > 0.0 else in_kwh)[unit] += abs(kwh)
    lines = [
        f"  {unit:<14} out {out_kwh[unit]:7.3f} kWh  in {in_kwh[unit]:7.3f} kWh"
        for unit in sorted({*out_kwh, *in_kwh})
    ]
    total = f"out {sum(out_kwh.values()):.3f} kWh, in {sum(in_kwh.values()):.3f} kWh"
    return "\n".join([f"energy: {total}", *lines])


def _spans(rows: sqlite3.Connection) -> Iterator[tuple[str, float, float]]:
    last: dict[str, tuple[int, float]] = {}
    for at, unit, value_kw in rows.execute(
        "SELECT at, unit, value FROM reading WHERE point = 'power_kw' ORDER BY at"
    ):
        if unit in last:
            before, power_kw = last[unit]
            yield unit, power_kw, min((at - before) / US_PER_S, GAP_MAX_S)
        last[unit] = at, value_kw or 0.0


def _clamps(rows: sqlite3.Connection) -> str:
    """For how long each cause cut something, over units and site."""
    lasted_s: dict[str, float] = defaultdict(float)
    for source in (
        # a unit may be bound by who cut nothing: its share was made smaller before
        "SELECT at, unit, clamps_json FROM setpoint",
        f"""SELECT at, '', (SELECT json_group_array(json(j.value)) FROM json_each(clamps_json) AS j
            WHERE abs((j.value ->> 1) - (j.value ->> 2)) >= {SEEN_KW}) FROM site""",  # noqa: S608
    ):
        last: dict[str, tuple[int, list[str]]] = {}
        for at, unit, text in rows.execute(source + " ORDER BY at"):
            if unit in last:
                before, codes = last[unit]
                for code in codes:
                    lasted_s[code] += (at - before) / US_PER_S
            last[unit] = at, sorted({each[0] for each in json.loads(text or "[]")})
    if not lasted_s:
        return "clamps: none"
    lines = [
        f"  {code:<20} {seconds:7.1f} s  {MEANINGS[Code(code)].text}"
        for code, seconds in sorted(lasted_s.items(), key=lambda each: -each[1])
    ]
    return "\n".join(["clamps by cause (unit-seconds):", *lines])


def _ticks(status: dict[str, Any]) -> str:
    ticks = status.get("ticks", {})
    return (
        f"ticks: {ticks.get('count')} in all, {ticks.get('late')} late by over 50 ms,"
        f" lag p99 {ticks.get('lag_p99_ms', 0.0):.1f} ms"
    )
