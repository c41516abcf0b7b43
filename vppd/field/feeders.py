"""The connection limits as a tree: each building's feeder first, the point of connection last.

A limit on a feeder bounds the sum of its units. Other measured load shifts it; a shift past zero is
clipped, so that the limit still contains 0, and alarmed. What a unit that went silent may still be
giving counts against the others. What a building takes for itself leaves less to charge with behind
its feeder, and behind a connection that nobody measures; it leaves more to discharge with only
while it is measured.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from vppd.core.alarms import Code
from vppd.core.asset import Asset
from vppd.core.envelope import fit, fit_each_way, within_circle
from vppd.core.model import METER, SITE, Clamp, Limit, Point, Snapshot, UnitId
from vppd.core.settings import MeterSettings, Settings
from vppd.core.settings_campus import AuxiliarySettings

FIT_PASSES = 4
CUT_KW = 1e-9

Tell = Callable[[Code, UnitId, bool, str], None]


def quiet(_code: Code, _unit: UnitId, _active: bool, _text: str) -> None:
    """For those who only look."""


@dataclass(frozen=True, slots=True)
class Feeder:
    """The units behind one limit, and what its buildings take for themselves."""

    units: tuple[UnitId, ...]
    limit: Limit
    auxiliaries: tuple[AuxiliarySettings, ...] = ()

    def own_kw(self, now: Snapshot) -> tuple[float, float]:
        """The most and the least that its buildings take: as measured; else the constant, which
        they need not take."""
        most_kw = least_kw = 0.0
        for each in self.auxiliaries:
            seen_kw = now.fresh(UnitId(each.unit), each.point) if each.unit is not None else None
            most_kw += each.constant_kw if seen_kw is None else max(seen_kw, 0.0)
            least_kw += 0.0 if seen_kw is None else max(seen_kw, 0.0)
        return most_kw, least_kw


@dataclass(frozen=True, slots=True)
class Feeders:
    """All limits of a site, from the leaves to the root; the last one is the site's."""

    tree: tuple[Feeder, ...]
    meter: MeterSettings | None = None

    def limits(
        self, now: Snapshot, ghosts_kw: Mapping[UnitId, tuple[float, float]], tell: Tell = quiet
    ) -> Iterable[Feeder]:
        """The limits at this instant, with load and silent units taken off. While a required meter
        is silent the worst is assumed. `ghosts_kw` is the least and the most a silent unit may
        give."""
        load_kw = self._load_kw(now, tell)
        for feeder in self.tree:
            site, limit = feeder is self.tree[-1], feeder.limit
            spans_kw = [ghosts_kw[unit] for unit in feeder.units if unit in ghosts_kw]
            most_kw, least_kw = load_kw if site and load_kw is not None else feeder.own_kw(now)
            up_kw, down_kw = least_kw, most_kw
            high_kw = limit.high_kw + up_kw - sum(max(high, 0.0) for _, high in spans_kw)
            low_kw = limit.low_kw + down_kw - sum(min(low, 0.0) for low, _ in spans_kw)
            if site:
                clipped = high_kw < 0.0 or low_kw > 0.0
                text = _load_text(most_kw, least_kw, measured=load_kw is not None)
                text += " and silent units exceed the connection"
                tell(Code.CONNECTION_CLIPPED, SITE, clipped, text)
            low_kw, high_kw = min(low_kw, 0.0), max(high_kw, 0.0)
            narrow = Limit(low_kw, high_kw, limit.why, limit.detail, limit.apparent_kva)
            yield Feeder(feeder.units, narrow)

    def _load_kw(self, now: Snapshot, tell: Tell) -> tuple[float, float] | None:
        """The most and the least that other load takes, less what other sources give; None: nobody
        measures it."""
        load_kw = now.fresh(SITE, Point.LOAD_KW)
        meter = self.meter
        if meter is not None:
            worst = "the worst is assumed" if meter.required else "no other load is assumed"
            tell(Code.METER_SILENT, METER, load_kw is None, worst)
        if load_kw is not None:
            high_kw, low_kw = (
                now.fresh(SITE, Point.LOAD_HIGH_KW),
                now.fresh(SITE, Point.LOAD_LOW_KW),
            )
            return (
                load_kw if high_kw is None else max(high_kw, load_kw),
                load_kw if low_kw is None else min(low_kw, load_kw),
            )
        metered = (SITE, Point.LOAD_KW) in now.readings
        if not (metered if meter is None else meter.required):
            return None
        load_max_kw = meter.load_max_kw if meter is not None else None
        given_max_kw = meter.generation_max_kw if meter is not None else None
        most_kw = math.inf if load_max_kw is None else load_max_kw
        return most_kw, -math.inf if given_max_kw is None else -given_max_kw


def _load_text(most_kw: float, least_kw: float, *, measured: bool) -> str:
    if most_kw == least_kw:
        return f"other load {most_kw:.1f} kW"
    if not measured:
        return f"what the buildings take, up to {most_kw:.1f} kW,"
    return "the meter is silent: whatever load and sources may be there"


def fit_active(
    feeders: Sequence[Feeder], powers_kw: dict[UnitId, float]
) -> list[tuple[UnitId, Clamp]]:
    """Shrink active power, in place, until it fits every feeder; the cuts by unit.

    Less power one way behind a leaf may be too much the other way behind the root, so it is done
    until nothing is cut, and at last each way by itself.
    """
    cuts: list[tuple[UnitId, Clamp]] = []
    for shrink in (*[fit] * FIT_PASSES, fit_each_way):
        before = len(cuts)
        for feeder in feeders:
            limit = feeder.limit
            fitted = shrink([powers_kw[unit] for unit in feeder.units], limit)
            for unit, power_kw in zip(feeder.units, fitted, strict=True):
                if abs(power_kw - powers_kw[unit]) > CUT_KW:
                    cut = Clamp(limit.why, powers_kw[unit], power_kw, limit.detail)
                    cuts.append((unit, cut))
                    powers_kw[unit] = power_kw
        if len(cuts) == before:
            break
    return cuts


def fit_reactive(
    feeders: Sequence[Feeder], powers_kw: Mapping[UnitId, float], reactive_kvar: dict[UnitId, float]
) -> list[tuple[UnitId, Clamp]]:
    """Shrink reactive power, in place, all by the same share, into each feeder's circle; the cuts
    by unit."""
    cuts: list[tuple[UnitId, Clamp]] = []
    for feeder in feeders:
        limit = feeder.limit
        if math.isinf(limit.apparent_kva):
            continue
        total_kvar = sum(reactive_kvar[unit] for unit in feeder.units)
        total_kw = sum(powers_kw[unit] for unit in feeder.units)
        left_kvar = within_circle(total_kw, total_kvar, limit.apparent_kva)
        if abs(total_kvar - left_kvar) <= CUT_KW:
            continue
        for unit in feeder.units:
            kvar = reactive_kvar[unit] * left_kvar / total_kvar
            detail = f"reactive {reactive_kvar[unit]:.1f} to {kvar:.1f} kvar"
            cuts.append((unit, Clamp(limit.why, powers_kw[unit], powers_kw[unit], detail)))
            reactive_kvar[unit] = kvar
    return cuts


def feeders_of(settings: Settings, assets: Sequence[Asset]) -> Feeders:
    """The configured limits; an absent one is the sum of the ratings behind it."""
    tree: list[Feeder] = []
    own = {each.id: each.auxiliary for each in settings.rules.losses.buildings}
    for state in settings.country.states:
        for city in state.cities:
            for campus in city.campuses:
                for building in campus.buildings:
                    members = [asset for asset in assets if asset.building == building.id]
                    limited = building.export_max_kw, building.import_max_kw
                    if members and limited != (None, None):
                        feeder = _feeder(members, *limited, building.id)
                        auxiliary = own.get(building.id)
                        tree.append(replace(feeder, auxiliaries=(auxiliary,) if auxiliary else ()))
    connection = settings.connection
    limited = connection.export_max_kw, connection.import_max_kw
    root = _feeder(assets, *limited, "site", connection.apparent_max_kva or math.inf)
    tree.append(replace(root, auxiliaries=tuple(own.values())))
    return Feeders(tuple(tree), settings.meter)


def _feeder(
    assets: Sequence[Asset],
    export_kw: float | None,
    import_kw: float | None,
    name: str,
    apparent_kva: float = math.inf,
) -> Feeder:
    rated_kw = sum(asset.rated_kw for asset in assets)
    high_kw = min(rated_kw if export_kw is None else export_kw, apparent_kva)
    low_kw = min(rated_kw if import_kw is None else import_kw, apparent_kva)
    text = f"{name}: {high_kw:g} kW out, {low_kw:g} kW in"
    units = tuple(asset.id for asset in assets)
    return Feeder(units, Limit(-low_kw, high_kw, Code.CONNECTION, text, apparent_kva))
