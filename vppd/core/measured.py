"""What a unit measures, whichever of its devices says it. Pure.

A unit may have a controller, a BMS and an inverter, and some quantities come from two of them.
"""

from vppd.core.asset import SOCS, Asset
from vppd.core.model import Point, Snapshot

_POWER_KW, _INVERTER_KW = Point.POWER_KW, Point.INVERTER_KW  # members of an enum are slow to find


def power_kw(now: Snapshot, asset: Asset) -> float | None:
    """What a unit gives at its terminals, kW, + out: its inverter knows best. None: not known."""
    if _INVERTER_KW in asset.declared:
        inverter_kw = now.fresh(asset.id, _INVERTER_KW)
        if inverter_kw is not None:
            return inverter_kw
    return now.fresh(asset.id, _POWER_KW)


def read_at_s(now: Snapshot, asset: Asset) -> float | None:
    """When the power of a unit was read last, monotonic s. None: never."""
    points = (_INVERTER_KW, _POWER_KW)
    found = [now.readings[asset.id, each] for each in points if (asset.id, each) in now.readings]
    return max((each.at_s for each in found), default=None)


def soc_pct(now: Snapshot, asset: Asset) -> float | None:
    """State of charge, %: of the controller, else of the BMS. None: not known."""
    for point in SOCS:
        if (value_pct := now.fresh(asset.id, point)) is not None:
            return value_pct
    return None


def worst_socs_pct(now: Snapshot, asset: Asset) -> tuple[float, float] | None:
    """The lowest and the highest state of charge that a declared source says, %. None: there is
    such a source and it may not be believed, as at the gate."""
    return _spread(now, asset, asset.socs)


def hottest_c(now: Snapshot, asset: Asset) -> float | None:
    """The highest temperature that a declared source says, C. None: one may not be believed."""
    found = _spread(now, asset, asset.hottest)
    return found[1] if found is not None else None


def _spread(now: Snapshot, asset: Asset, points: tuple[Point, ...]) -> tuple[float, float] | None:
    found: tuple[float, float] | None = None
    for point in points:
        value = now.fresh(asset.id, point)
        if value is None:
            return None
        found = (min(found[0], value), max(found[1], value)) if found else (value, value)
    return found


def shows_soc(asset: Asset) -> bool:
    """Whether any source declares a state of charge."""
    return bool(asset.socs)


def shows_temperature(asset: Asset) -> bool:
    """Whether any source declares a temperature of the battery."""
    return bool(asset.hottest)
