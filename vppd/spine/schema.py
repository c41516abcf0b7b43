"""The journal's tables: SQL in, bound values out. Pure: no file, no clock.

How to read `journal.db` from outside (SQLite 3.38 or later, `file:journal.db?mode=ro`):

* `PRAGMA application_id` is 0x76707064 ("vppd"), `PRAGMA user_version` the schema version.
* Query `event`, `command`, `trip`, `violation` (tables) and `reading`, `setpoint`, `site`,
  `evidence` (views). Each has the fields of its class in `vppd.core.records` as columns, under the
  same names.
* Every time (`at`, `cleared_at`) is an integer: microseconds since 1970-01-01 UTC. `at_utc` is `at`
  as ISO 8601 text with Z, to the millisecond, for people; filter and sort by `at`.
* A float that was not a number is NULL. JSON columns end in `_json`.
* `trip.id` counts up: the row with the highest `id` of a (scope, code) rules, whatever the wall
  clock did meanwhile.
* `telemetry` has what is sent to the fleet, one row a sample; its `id` counts up without holes and
  is the sequence of the messages. `kept` has what the daemon itself remembers over restarts, such
  as how far it has sent; the newest value under each `name`.
* `frequency_event` (view) has a row for each frequency event: `id`, `begin_at`, `end_at` (NULL
  while it goes on, or when vppd was killed in it), `trigger`, `ending` and the rule that found it,
  `rule_json`. Its 100 ms rows are those of `evidence` from `rule.before_s` before it until its end
  and a little on. `vppd report --sql` prints the query that computes its figures from them.
* What the market left behind is described in `vppd.spine.schema_market`, roll-ups of a minute and a
  quarter of an hour in `vppd.spine.schema_years`, the chain of hashes in `vppd.spine.chain`.
* The frequent kinds are stored with the words of a small set (unit, point, quality, state) as
  numbers (`word`) and clustered by time, so that one second of a site dirties one page a table:
  filter them by a range of `at` first, then by unit. Their kW, kvar and values (of `evidence` its
  Hz and Hz/s too) are stored as whole ten-thousandths, so they are exact to 0.0001 of their unit;
  the views give them as floats.

Readings take about 26 bytes, setpoints 75, site rows 65, evidence 40, roll-ups 35; a chained row 95
more for its entry in the chain.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from operator import attrgetter

from vppd.core.records import (
    CommandRow,
    EventRow,
    EvidenceRow,
    KeptRow,
    ReadingRow,
    Row,
    SetpointRow,
    SiteRow,
    TelemetryRow,
    TripRow,
    ViolationRow,
)
from vppd.core.records_market import (
    MarketBidRow,
    MarketBlockRow,
    MarketPriceRow,
    MarketResultRow,
    SettlementLineRow,
)
from vppd.core.records_years import MinuteRow, QuarterRow
from vppd.spine.chain import CHAINED
from vppd.spine.schema_market import market_step
from vppd.spine.schema_years import years_step

APPLICATION_ID = 0x76707064
Value = str | int | float | None
Values = tuple[Value, ...]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_INTEGER_MAX = 2**63 - 1
_TEXT_MAX = 128 * 1024
_UTC_TEXT = "strftime('%Y-%m-%dT%H:%M:%fZ', {at} / 1e6, 'unixepoch')"
_AT_UTC = f"at_utc TEXT AS ({_UTC_TEXT.format(at='at')}) VIRTUAL"

_SCALE = 10_000  # an integer of three or four bytes instead of a float of eight
_SCALED_ENDINGS = ("_kw", "_kvar", "value")
_EVIDENCE_ENDINGS = ("_kw", "_hz", "_hz_per_s")
_ROLLED_ENDINGS = ("low", "mean", "high", "last")


def _scaled(*columns: str) -> str:
    return ", ".join(f"{column} / {_SCALE}.0 AS {column}" for column in columns)


_VERSION_1 = (
    "CREATE TABLE word (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE)",
    "INSERT INTO word VALUES (0, 'good'), (1, 'site')",  # 0 and 1 take no byte in a row
    """CREATE TABLE reading_row (
        at INTEGER, unit INTEGER, point INTEGER, value INTEGER, quality INTEGER,
        PRIMARY KEY (at, unit, point)) WITHOUT ROWID""",
    f"""CREATE VIEW reading AS
        SELECT at, u.text AS unit, p.text AS point, {_scaled("value")}, q.text AS quality,
            {_UTC_TEXT.format(at="at")} AS at_utc
        FROM reading_row AS r LEFT JOIN word AS u ON u.id = r.unit
            LEFT JOIN word AS p ON p.id = r.point LEFT JOIN word AS q ON q.id = r.quality""",  # noqa: S608
    """CREATE TABLE setpoint_row (
        at INTEGER, unit INTEGER, state INTEGER, base_kw INTEGER, frequency_kw INTEGER,
        asked_kw INTEGER, got_kw INTEGER, asked_kvar INTEGER, got_kvar INTEGER, clamps_json TEXT,
        outcome TEXT, read_back_kw INTEGER, measured_kw INTEGER,
        PRIMARY KEY (at, unit)) WITHOUT ROWID""",
    f"""CREATE VIEW setpoint AS
        SELECT at, u.text AS unit, s.text AS state,
            {_scaled("base_kw", "frequency_kw", "asked_kw", "got_kw", "asked_kvar", "got_kvar")},
            clamps_json, outcome, {_scaled("read_back_kw", "measured_kw")},
            {_UTC_TEXT.format(at="at")} AS at_utc
        FROM setpoint_row AS r LEFT JOIN word AS u ON u.id = r.unit
            LEFT JOIN word AS s ON s.id = r.state""",  # noqa: S608
    """CREATE TABLE site_row (
        at INTEGER PRIMARY KEY, frequency_hz REAL, rocof_hz_per_s REAL, source TEXT,
        base_kw INTEGER, droop_owed_kw INTEGER, droop_kw INTEGER, owed_kw INTEGER,
        cleared_kw INTEGER, clamps_json TEXT)""",
    f"""CREATE VIEW site AS
        SELECT at, frequency_hz, rocof_hz_per_s, source,
            {_scaled("base_kw", "droop_owed_kw", "droop_kw", "owed_kw", "cleared_kw")},
            clamps_json, {_UTC_TEXT.format(at="at")} AS at_utc
        FROM site_row""",  # noqa: S608
    f"""CREATE TABLE event (id INTEGER PRIMARY KEY,
        at INTEGER, code TEXT, unit TEXT, level INTEGER, text TEXT, data_json TEXT, {_AT_UTC})""",
    "CREATE INDEX event_at ON event (at)",
    "CREATE INDEX event_unit_at ON event (unit, at)",
    f"""CREATE TABLE violation (
        at INTEGER, unit TEXT, rule TEXT, level TEXT, action TEXT, value REAL, limit_value REAL,
        text TEXT, cleared_at INTEGER, {_AT_UTC}, PRIMARY KEY (at, unit, rule)) WITHOUT ROWID""",
    "CREATE INDEX violation_unit_at ON violation (unit, at)",
    "CREATE INDEX violation_open ON violation (at) WHERE cleared_at IS NULL",
    f"""CREATE TABLE command (id INTEGER PRIMARY KEY,
        at INTEGER, uid INTEGER, user TEXT, verb TEXT, unit TEXT, body_json TEXT, verdict TEXT,
        text TEXT, {_AT_UTC})""",
    "CREATE INDEX command_at ON command (at)",
    "CREATE INDEX command_unit_at ON command (unit, at)",
    f"""CREATE TABLE trip (id INTEGER PRIMARY KEY,
        at INTEGER, scope TEXT, code TEXT, action TEXT, "by" TEXT, text TEXT, {_AT_UTC})""",
    "CREATE INDEX trip_at ON trip (at)",
    "CREATE INDEX trip_scope_code ON trip (scope, code)",
)

_VERSION_2 = (
    """CREATE TABLE evidence_row (
        at INTEGER PRIMARY KEY, frequency_hz INTEGER, rocof_hz_per_s INTEGER, base_kw INTEGER,
        droop_curve_kw INTEGER, ffr_kw INTEGER, droop_kw INTEGER, cleared_kw INTEGER,
        measured_kw INTEGER, unmeasured INTEGER)""",
    f"""CREATE VIEW evidence AS
        SELECT at, {_scaled("frequency_hz", "rocof_hz_per_s", "base_kw", "droop_curve_kw")},
            {_scaled("ffr_kw", "droop_kw", "cleared_kw", "measured_kw")}, unmeasured,
            {_UTC_TEXT.format(at="at")} AS at_utc
        FROM evidence_row""",  # noqa: S608
    "CREATE INDEX event_code_at ON event (code, at)",
    """CREATE VIEW frequency_event AS
        SELECT b.data_json ->> 'id' AS id, b.data_json ->> 'trigger' AS "trigger",
            b.data_json ->> 'begin_at' AS begin_at, e.data_json ->> 'end_at' AS end_at,
            e.data_json ->> 'ending' AS ending, b.data_json -> 'rule' AS rule_json,
            b.at_utc AS begin_utc, e.at_utc AS end_utc
        FROM event AS b LEFT JOIN event AS e ON e.code = 'frequency_event'
            AND e.data_json ->> 'id' = b.data_json ->> 'id'
            AND e.data_json ->> 'begin_at' = b.data_json ->> 'begin_at'
        WHERE b.code = 'frequency_event_begun'""",
)

_VERSION_3 = (
    f"""CREATE TABLE telemetry (id INTEGER PRIMARY KEY AUTOINCREMENT,
        at INTEGER, data_json TEXT, {_AT_UTC})""",
    "CREATE INDEX telemetry_at ON telemetry (at)",
    f"""CREATE TABLE kept (
        at INTEGER, name TEXT PRIMARY KEY, value_json TEXT, {_AT_UTC}) WITHOUT ROWID""",
)

Step = tuple[str, ...]
STEPS: tuple[Step, ...] = (
    _VERSION_1,
    _VERSION_2,
    _VERSION_3,
    market_step(_AT_UTC),
    years_step(_AT_UTC, _UTC_TEXT.format(at="at")),
)
"""Step i brings a file from version i to i + 1. A released step is never changed."""


@dataclass(frozen=True, slots=True)
class Table:
    """Where the rows of one class go. `name` is what a reader queries, `stored_in` what is
    written; `words` are the positions of the columns kept as numbers, `scaled` of those kept as
    whole ten-thousandths."""

    name: str
    stored_in: str
    columns: tuple[str, ...]
    words: tuple[int, ...]
    scaled: frozenset[int]
    insert: str
    get: Callable[[Row], tuple[object, ...]]


def _table(
    row: type[Row],
    *,
    stored_in: str = "",
    words: Sequence[str] = (),
    endings: tuple[str, ...] = _SCALED_ENDINGS,
) -> Table:
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", row.__name__.removesuffix("Row")).lower()
    columns = tuple(field.name for field in fields(row))
    names = ", ".join(f'"{column}"' for column in columns)
    marks = ", ".join("?" * len(columns))
    into = stored_in or name
    scaled = [column for column in columns if stored_in and column.endswith(endings)]
    return Table(
        name,
        into,
        columns,
        tuple(columns.index(word) for word in words),
        frozenset(columns.index(column) for column in scaled),
        # REPLACE: a violation is written again when it clears, with the same key
        f"INSERT OR REPLACE INTO {into} ({names}) VALUES ({marks})",  # noqa: S608  (our own names)
        attrgetter(*columns),
    )


TABLES: Mapping[type[Row], Table] = {
    ReadingRow: _table(ReadingRow, stored_in="reading_row", words=("unit", "point", "quality")),
    SetpointRow: _table(SetpointRow, stored_in="setpoint_row", words=("unit", "state")),
    SiteRow: _table(SiteRow, stored_in="site_row"),
    MinuteRow: _table(
        MinuteRow, stored_in="minute_row", words=("unit", "point"), endings=_ROLLED_ENDINGS
    ),
    TelemetryRow: _table(TelemetryRow),
    EvidenceRow: _table(EvidenceRow, stored_in="evidence_row", endings=_EVIDENCE_ENDINGS),
    QuarterRow: _table(
        QuarterRow, stored_in="quarter_row", words=("unit", "point"), endings=_ROLLED_ENDINGS
    ),
    MarketPriceRow: _table(MarketPriceRow),
    EventRow: _table(EventRow),
    ViolationRow: _table(ViolationRow),
    CommandRow: _table(CommandRow),
    MarketBidRow: _table(MarketBidRow),
    MarketResultRow: _table(MarketResultRow),
    MarketBlockRow: _table(MarketBlockRow),
    SettlementLineRow: _table(SettlementLineRow),
    TripRow: _table(TripRow),
    KeptRow: _table(KeptRow),
}
"""In the order in which they are given up when there is no room, most dispensable first."""

TRIM_GROUPS: tuple[tuple[Table, ...], ...] = (
    (TABLES[ReadingRow],),
    (TABLES[SetpointRow], TABLES[SiteRow], TABLES[TelemetryRow]),
    (TABLES[MinuteRow],),
    (TABLES[EvidenceRow],),
    (TABLES[QuarterRow],),
    (
        *(TABLES[EventRow], TABLES[ViolationRow], TABLES[CommandRow], TABLES[TripRow]),
        *(TABLES[MarketPriceRow], TABLES[MarketBidRow], TABLES[MarketResultRow]),
        *(TABLES[MarketBlockRow], TABLES[SettlementLineRow]),
    ),
)
"""A later group loses rows only when the earlier are empty; inside one the oldest go first."""

NEWEST_TRIPS = "SELECT max(id) FROM trip GROUP BY scope, code"


def micros(at: datetime) -> int:
    """Microseconds since 1970 UTC, exactly. Raises ValueError for a time without zone."""
    if at.tzinfo is None:
        raise ValueError(f"a journal time needs a zone: {at}")
    return (at - _EPOCH) // _MICROSECOND


def from_micros(at: int) -> datetime:
    """The aware UTC time of a journal column."""
    return _EPOCH + at * _MICROSECOND


def bind(row: Row) -> Values:
    """What SQLite stores of a row, word columns still as text.

    Raises ValueError or TypeError for a value that no column can take, so that a wrong row is
    refused here and never poisons a batch.
    """
    table = TABLES[type(row)]
    return tuple(
        _whole(value) if position in table.scaled else _bound(value)
        for position, value in enumerate(table.get(row))
    )


def _whole(value: object) -> Value:
    """In ten-thousandths; what is too large for that (or infinite) stays a float."""
    if not isinstance(value, float | int):
        return _bound(value)
    scaled = value * _SCALE
    return round(scaled) if abs(scaled) <= _INTEGER_MAX else _bound(float(scaled))


def _bound(value: object) -> Value:
    if value is None:
        return None
    if isinstance(value, float):
        return None if math.isnan(value) else float(value)
    if isinstance(value, str):
        if len(value) > _TEXT_MAX:
            raise ValueError(f"too long for a journal column: {len(value)} characters")
        return _utf8(str(value))
    if isinstance(value, int):
        if not -_INTEGER_MAX <= value <= _INTEGER_MAX:
            raise ValueError(f"too large for a journal column: {value}")
        return int(value)
    if isinstance(value, datetime):
        return micros(value)
    raise TypeError(f"no journal column takes {type(value).__name__}")


def _utf8(text: str) -> str:
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def weight(values: Values) -> int:
    """About how many bytes of memory a queued row takes."""
    return 160 + sum(len(value) if isinstance(value, str) else 32 for value in values)


def number_words(
    table: Table, rows: Iterable[Values], words: dict[str, int], fresh: dict[str, int]
) -> list[Values]:
    """Rows with their words as numbers. Unseen words get the next free number, in `fresh` too."""
    if not table.words:
        return list(rows)
    return [_numbered(values, table.words, words, fresh) for values in rows]


def _numbered(
    values: Values, positions: tuple[int, ...], words: dict[str, int], fresh: dict[str, int]
) -> Values:
    numbered = list(values)
    for position in positions:
        text = str(values[position])
        number = words.get(text)
        if number is None:
            number = words[text] = fresh[text] = len(words)
        numbered[position] = number
    return tuple(numbered)


def delete_oldest(table: Table, only: str = "") -> str:
    """SQL that deletes at most `:rows` of the oldest rows before `:before`, in microseconds, that
    meet the condition `only`.

    The newest row of a (scope, code) of the trips rules still, however old: it stays. So does the
    newest row of a chained table, or its id could be given twice.
    """
    kept = f" AND {only}" if only else ""
    source = table.stored_in
    if (chained := CHAINED.get(table.name)) is not None:
        kept += f" AND id IS NOT (SELECT max(id) FROM {source} WHERE {chained.where})"  # noqa: S608
    if table.name == "trip":
        kept += f" AND id NOT IN ({NEWEST_TRIPS})"
    return (
        f"DELETE FROM {source} WHERE at < :before{kept} AND at <= (SELECT max(at) FROM "  # noqa: S608
        f"(SELECT at FROM {source} WHERE at < :before{kept} ORDER BY at LIMIT :rows))"
    )
