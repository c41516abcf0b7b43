"""A unit as the rules and the shares see it: settings and profile boiled down to what they need."""

from dataclasses import dataclass

from vppd.core.model import Point, UnitId
from vppd.core.profile import ALL_BITS, DeviceProfile
from vppd.core.settings import SafetySettings, UnitSettings


@dataclass(frozen=True, slots=True)
class Asset:
    """One unit: its ratings, its limits, and which points a configured source declares."""

    id: UnitId
    building: str
    rated_kw: float
    apparent_kva: float
    energy_kwh: float
    modules: int
    priority: int
    safety: SafetySettings
    declared: frozenset[Point]
    soc_resolution_pct: float = 0.1
    fault_mask: int = ALL_BITS
    alarm_mask: int = ALL_BITS
    read_only: bool = False
    reverts: bool = True
    revert_s: float = 5.0  # after so long without a word, if it reverts


def asset_of(unit: UnitSettings, profile: DeviceProfile) -> Asset:
    """What the rules need of a configured unit."""
    soc = profile.points.get(Point.SOC_PCT)
    return Asset(
        id=unit.unit,
        building=unit.building,
        rated_kw=unit.rated_power_kw,
        apparent_kva=unit.rated_apparent_kva or unit.rated_power_kw,
        energy_kwh=unit.energy_kwh,
        modules=unit.modules_parallel,
        priority=unit.priority,
        safety=unit.safety,
        declared=frozenset(profile.points),
        soc_resolution_pct=abs(soc.scale) if soc is not None else 0.1,
        fault_mask=profile.fault_mask,
        alarm_mask=profile.alarm_mask,
        read_only=profile.read_only,
        reverts=profile.revert.kind != "none",
        revert_s=profile.revert.timeout_s,
    )
