"""What one tick decided, for those who show it, write it down or replay it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from vppd.core.model import Clamp, Cleared, Request, UnitId


@dataclass(frozen=True, slots=True)
class Promise:
    """The response that can be given now for its whole time, kW, both as positive numbers; and what
    is missing of what the settings promise."""

    up_kw: float = 0.0
    down_kw: float = 0.0
    short_up_kw: float = 0.0
    short_down_kw: float = 0.0
    units_kw: Mapping[UnitId, tuple[float, float]] = field(default_factory=dict)  # up, down


@dataclass(frozen=True, slots=True)
class Riding:
    """How the site rides through what voltage and frequency do. Words say why, "" where it is
    not so."""

    ceased: str = ""  # gives nothing
    staying: str = ""  # outside a window, connected by its rule
    dead: bool = False  # the bus has no voltage
    blind: bool = False  # the voltage is watched and no PMU shows it


RIDING = Riding()


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
    droop_curve_kw: float = 0.0  # what the plain curve owes, before anything adapts it
    ffr_kw: float = 0.0  # the block of fast frequency response
    promise: Promise | None = None  # what response can be promised now; None: nothing kept free
    riding: Riding = RIDING
