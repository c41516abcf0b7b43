"""When the daemon is not there: what its journal said last, read-only, and how old that is."""

import contextlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

from vppd.cli.wire import Json
from vppd.cli.words import number, span, table

WAIT_S = 1.0
ROWS = 5
LOOK_BACK_S = 86400
WHERE_ELSE = "`--state DIR` says where vppd keeps its journal"

_NOW = "CAST((julianday('now') - 2440587.5) * 86400 AS REAL)"
_AGE = f"{_NOW} - at / 1e6"
_NOW_US = f"CAST({_NOW} * 1e6 AS INTEGER)"
# Rows of a time to come, which a clock that ran ahead once has left, are not the last; unless there
# are no others.
_UNTIL = f"""SELECT iif(EXISTS (SELECT 1 FROM site_row WHERE at <= {_NOW_US}), {_NOW_US},
    {2**62})"""  # noqa: S608
_SITE = f"""SELECT at_utc, {_AGE}, owed_kw, cleared_kw, frequency_hz
    FROM site WHERE at <= :until ORDER BY at DESC LIMIT 1"""  # noqa: S608
_UNITS = f"""SELECT unit, state, asked_kw, got_kw, measured_kw, clamps_json, max(at), {_AGE}
    FROM setpoint WHERE at <= :until
        AND at > (SELECT max(at) FROM setpoint_row WHERE at <= :until) - :back_s * 1000000
    GROUP BY unit ORDER BY unit"""  # noqa: S608
_EVENTS = f"""SELECT at, at_utc, {_AGE}, kind, unit, code, text FROM (
    SELECT at, at_utc, 'event' AS kind, unit, code, text FROM event WHERE at <= :until
    UNION ALL SELECT at, at_utc, 'command', unit, verb, verdict || ' ' || text FROM command
        WHERE at <= :until
    UNION ALL SELECT at, at_utc, 'trip', scope, code, action || ' ' || text FROM trip
        WHERE at <= :until)
    ORDER BY at DESC LIMIT :most"""  # noqa: S608


def last_rows(state: Path) -> Json:
    """The newest rows of the journal in this state directory. Raises OSError."""
    path = state / "journal.db"
    try:
        with contextlib.closing(open_read_only(path)) as journal:
            (until,) = journal.execute(_UNTIL).fetchone()
            values = {"until": until, "back_s": LOOK_BACK_S, "most": ROWS}
            site = journal.execute(_SITE, values).fetchone()
            units = journal.execute(_UNITS, values).fetchall()
            events = journal.execute(_EVENTS, values).fetchall()
    except sqlite3.Error as error:
        raise OSError(f"{path}: {error}") from error
    return {
        "from": "journal",
        "path": str(path),
        "site": dict(
            zip(("at", "age_s", "owed_kw", "cleared_kw", "frequency_hz"), site, strict=True)
        )
        if site
        else None,
        "units": [_unit(row) for row in units],
        "events": [
            dict(zip(("at", "age_s", "kind", "unit", "code", "text"), row[1:], strict=True))
            for row in reversed(events)
        ],
    }


def shown(view: Json) -> list[str]:
    """As lines for people."""
    site = view["site"]
    if site is None:
        return [f"{view['path']} has no rows yet"]
    lines = [
        f"the last rows of {view['path']}, {span(site['age_s'])} old ({site['at']}); "
        "what the devices do now is not known",
        f"owed {number(site['owed_kw'])} kW, gave {number(site['cleared_kw'])} kW, "
        f"{number(site['frequency_hz'], '.3f')} Hz",
        "",
    ]
    rows = [
        (
            each["id"],
            each["state"],
            number(each["asked_kw"]),
            number(each["setpoint_kw"]),
            number(each["power_kw"]),
            ", ".join(each["bound_by"]) or "-",
            span(each["age_s"]),
        )
        for each in view["units"]
    ]
    head = ("unit", "was", "asked kW", "setpoint", "measured", "bound by", "age")
    lines += table(head, rows, "llrrrlr")
    lines.append("")
    return lines + [
        f"{each['at']}  {each['kind']} {each['code']} {each['unit']}: {each['text']}"
        for each in view["events"]
    ]


def open_read_only(path: Path) -> sqlite3.Connection:
    """Read-only, and without a trace: a journal that was closed well has no -wal file and does not
    change, and SQLite would leave files beside it if it were not told so. Raises sqlite3.Error."""
    if not path.exists():
        raise OSError(f"there is no {path}: {WHERE_ELSE}")
    closed_well = not path.with_name(path.name + "-wal").exists()
    how = "&immutable=1" if closed_well else ""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro{how}", uri=True, timeout=WAIT_S)


def unmoved_since_now(path: Path) -> Callable[[], bool]:
    """Asked later: whether what was read of this journal is of one instant. Call it before
    `open_read_only`, which reads a file that was closed well without locks, as nobody writes it; it
    may be begun to be written meanwhile, and its pages then change under the reader."""
    wal = path.with_name(path.name + "-wal")

    def seen() -> tuple[object, ...]:
        try:
            found = path.stat()
        except OSError:
            return ()
        return found.st_ino, found.st_size, found.st_mtime_ns, wal.exists()

    before, closed_well = seen(), not wal.exists()
    return lambda: not closed_well or seen() == before


def _unit(row: tuple[object, ...]) -> Json:
    unit, state, asked_kw, got_kw, measured_kw, clamps, _, age_s = row
    try:
        codes = [str(each[0]) for each in json.loads(str(clamps))]
    except (ValueError, TypeError, LookupError):
        codes = []
    return {
        "id": unit,
        "state": state,
        "asked_kw": asked_kw,
        "setpoint_kw": got_kw,
        "power_kw": measured_kw,
        "bound_by": list(dict.fromkeys(codes)),
        "age_s": age_s,
    }
