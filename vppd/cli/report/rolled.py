"""What reports say of a time whose rows of a second are gone, and only roll-ups are left."""

import sqlite3
from datetime import datetime
from zoneinfo import ZoneInfo

from vppd.cli.report.document import Sentence
from vppd.spine.chain import FIRST_SCHEMA
from vppd.spine.rollup import QUARTER
from vppd.spine.schema import from_micros, micros

_FIRST = "SELECT min(at) FROM site_row WHERE at >= ? AND at < ?"
_ROLLED = """SELECT min(at), min(low), sum(mean * known_s) / sum(known_s), max(high)
    FROM quarter WHERE at >= ? AND at < ? AND unit = 'site' AND point = 'site.frequency_hz'"""


def only_rolled(
    journal: sqlite3.Connection, begin: datetime, end: datetime, zone: ZoneInfo
) -> list[Sentence]:
    """One sentence when some of this time has only roll-ups. Raises sqlite3.Error."""
    (version,) = journal.execute("PRAGMA user_version").fetchone()
    if version < FIRST_SCHEMA:
        return []
    span = micros(begin), micros(end)
    (first,) = journal.execute(_FIRST, span).fetchone()
    until = micros(end) if first is None else int(first)
    since, low_hz, mean_hz, high_hz = journal.execute(_ROLLED, (span[0], until)).fetchone()
    if mean_hz is None or since + QUARTER > until:  # or vppd began to run in it
        return []
    before = f"{from_micros(until).astimezone(zone):%Y-%m-%d %H:%M}"
    text = (
        f"Before {before} only roll-ups are left: {low_hz:.4f} to {high_hz:.4f} Hz, mean "
        f"{mean_hz:.4f} Hz. How long it was in the band then is not known, and counts as not "
        "available below."
    )
    return [Sentence(text)]
