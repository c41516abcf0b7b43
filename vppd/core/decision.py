"""What one tick decided, for those who show it, write it down or replay it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from vppd.core.model import Clamp, Cleared, Request, UnitId


@dataclass(frozen=True, slots=True)
class Decision:
    """The site at one instant. `owed_kw` is the base point plus the unadapted droop curve."""

    now_s: float
    utc: datetime
    base_source: str
    base_target_kw: float  # what the ruling plan asks
    base_kw: float  # that, ramped, as asked of the units
    droop_owed_kw: float
    droop_kw: float  # asked, after every adaptation
    owed_kw: float
    cleared_kw: float
    frequency_hz: float | None
    frequency_age_s: float | None
    frequency_source: str
    rocof_hz_per_s: float
    clamps: tuple[Clamp, ...]  # of the site: what cut the droop, and what no unit had room for
    requests: Mapping[UnitId, Request]
    cleared: Mapping[UnitId, Cleared]
