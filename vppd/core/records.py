"""What the journal keeps: one frozen class a table, one field a column.

Wall times are aware UTC; every quantity carries its unit; JSON text ends in `_json`.
"""

from dataclasses import dataclass
from datetime import datetime

from vppd.core.records_market import MarketRow
from vppd.core.records_years import RollupRow


@dataclass(frozen=True, slots=True)
class EventRow:
    """Something happened: an alarm came or went, a link was lost, the daemon started."""

    at: datetime
    code: str
    unit: str
    level: int
    text: str
    data_json: str = "{}"


@dataclass(frozen=True, slots=True)
class CommandRow:
    """An operator's or the grid's act, and what became of it. On disk before it is answered."""

    at: datetime
    uid: int
    user: str
    verb: str
    unit: str
    body_json: str
    verdict: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class TripRow:
    """A latch set or reset, or an operator's enable or disable. The newest row of a
    (scope, code) rules: `action` is trip, reset, disable or enable. `scope` is site, a building
    id or a unit id."""

    at: datetime
    scope: str
    code: str
    action: str
    by: str
    text: str


@dataclass(frozen=True, slots=True)
class ViolationRow:
    """One rule broken by one unit, from `at` until `cleared_at`; written again when it clears,
    with the same (at, unit, rule)."""

    at: datetime
    unit: str
    rule: str
    level: str
    action: str
    value: float | None
    limit_value: float | None
    text: str
    cleared_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class SetpointRow:
    """What a unit was asked, what it got, and who cut: enough to answer `why` from the journal."""

    at: datetime
    unit: str
    state: str
    base_kw: float
    frequency_kw: float
    asked_kw: float
    got_kw: float
    asked_kvar: float
    got_kvar: float
    clamps_json: str
    outcome: str
    read_back_kw: float | None
    measured_kw: float | None


@dataclass(frozen=True, slots=True)
class SiteRow:
    """The site once a second, and at once when something about it changes."""

    at: datetime
    frequency_hz: float | None
    rocof_hz_per_s: float | None
    source: str
    base_kw: float
    droop_owed_kw: float
    droop_kw: float
    owed_kw: float
    cleared_kw: float
    clamps_json: str


@dataclass(frozen=True, slots=True)
class ReadingRow:
    """One value of one point, thinned."""

    at: datetime
    unit: str
    point: str
    value: float
    quality: str


@dataclass(frozen=True, slots=True)
class EvidenceRow:
    """The site every 100 ms, from a minute before a frequency event until its end.

    `droop_curve_kw` is what the unadapted curve owes, `ffr_kw` what fast frequency response owes
    beside it, `droop_kw` what was asked for both after every adaptation. `measured_kw` is the sum
    of the units' own measurements, without those of `unmeasured` units; None when no unit has one.
    """

    at: datetime
    frequency_hz: float | None
    rocof_hz_per_s: float | None
    base_kw: float
    droop_curve_kw: float
    ffr_kw: float
    droop_kw: float
    cleared_kw: float
    measured_kw: float | None
    unmeasured: int


@dataclass(frozen=True, slots=True)
class TelemetryRow:
    """One sample of the site and its nodes for the fleet, as `vppd.northbound.telemetry` packs
    it."""

    at: datetime
    data_json: str


@dataclass(frozen=True, slots=True)
class KeptRow:
    """What the daemon remembers over restarts; a newer row takes the place of the one before."""

    at: datetime
    name: str
    value_json: str


Row = (
    EventRow
    | CommandRow
    | TripRow
    | ViolationRow
    | SetpointRow
    | SiteRow
    | ReadingRow
    | EvidenceRow
    | TelemetryRow
    | KeptRow
    | MarketRow
    | RollupRow
)
