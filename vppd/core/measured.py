"""What a unit measures, whichever of its devices says it. Pure.

A unit may have a controller, a BMS and an inverter, and some quantities come from two of them.
"""

import math

from vppd.core.asset import Asset
from vppd.core.model import Point, Snapshot

SOCS = (Point.SOC_PCT, Point.BMS_SOC_PCT)
HOTTEST = (Point.TEMPERATURE_C, Point.CELL_MAX_C)


def power_kw(now: Snapshot, asset: Asset) -> float | None:
    """What a unit gives at its terminals, kW, + out: its inverter knows best. None: not known."""
    if Point.INVERTER_KW in asset.declared:
        inverter_kw = now.fresh(asset.id, Point.INVERTER_KW)
        if inverter_kw is not None:
            return inverter_kw
    return now.fresh(asset.id, Point.POWER_KW)


def soc_pct(now: Snapshot, asset: Asset) -> float | None:
    """State of charge, %: of the controller, else of the BMS. None: not known."""
    for point in SOCS:
        if (value_pct := now.fresh(asset.id, point)) is not None:
            return value_pct
    return None


def worst_socs_pct(now: Snapshot, asset: Asset) -> tuple[float, float] | None:
    """The lowest and the highest state of charge that a declared source says, %. None: there is
    such a source and it may not be believed, as at the gate."""
    return _spread(now, asset, SOCS)


def hottest_c(now: Snapshot, asset: Asset) -> float | None:
    """The highest temperature that a declared source says, C. None: one may not be believed."""
    found = _spread(now, asset, HOTTEST)
    return found[1] if found is not None else None


def _spread(now: Snapshot, asset: Asset, points: tuple[Point, ...]) -> tuple[float, float] | None:
    low, high = math.inf, -math.inf
    for point in points:
        if point in asset.declared:
            value = now.fresh(asset.id, point)
            if value is None:
                return None
            low = min(low, value)
            high = max(high, value)
    return (low, high) if low <= high else None


def shows_soc(asset: Asset) -> bool:
    """Whether any source declares a state of charge."""
    return not asset.declared.isdisjoint(SOCS)


def shows_temperature(asset: Asset) -> bool:
    """Whether any source declares a temperature of the battery."""
    return not asset.declared.isdisjoint(HOTTEST)
