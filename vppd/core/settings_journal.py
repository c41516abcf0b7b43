"""How long each kind of journal row is kept, and how often the disk is written."""

from dataclasses import dataclass

from vppd.core.profile import key


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepSettings:
    """Days by kind of row. What is not named here (events, violations, evidence, prices) is kept
    for `journal.retain_days`; `journal.max_mb` bounds all together, the finest rows go first."""

    readings_days: int = key(
        "rows of a second of readings; then roll-ups alone are left", 60, ge=1, le=3660
    )
    setpoints_days: int = key(
        "rows of a second of units and site; then roll-ups", 90, ge=1, le=3660
    )
    telemetry_days: int = key("samples for the fleet, sent or not", 60, ge=1, le=3660)
    minutes_days: int = key("roll-ups of a minute", 180, ge=1, le=36_600)
    quarters_days: int = key("roll-ups of a quarter of an hour", 3660, ge=1, le=36_600)
    records_days: int = key(
        "commands, trips, orders, bids, results, block accounts, settlements", 3660, ge=1, le=36_600
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskSettings:
    """How the disk is spared, as an SD card has few writes."""

    write_every_s: float = key(
        "rows wait so long for the disk; commands, trips, bids and what else is acknowledged never",
        1.0,
        ge=0.1,
        le=60,
    )
    budget_mb_per_day: int = key(
        "status says when more than this is written to disk a day", 8192, ge=16
    )
