"""Where everything stands: country > state > city > campus > building > node, and how much each
can do. Pure.

Without buildings in campus.yaml the tree is implied: the buildings that the units name, in one
campus named after the site; its state and city are then unknown, not invented. A node takes its
location from its building, a building from its campus.

Capacities add upwards. A sum with an unknown part is unknown (None) and names the parts; power is
also cut by the feeder of a building and by the site's connection, which every level stands behind.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from vppd.core.asset import Asset
from vppd.core.measured import worst_socs_pct
from vppd.core.model import Limit, Point, Snapshot, UnitId, UnitState
from vppd.core.settings import (
    BuildingSettings,
    CampusSettings,
    CountrySettings,
    LocationSettings,
    Settings,
)


class Level(StrEnum):
    """The rungs, from the top."""

    COUNTRY = "country"
    STATE = "state"
    CITY = "city"
    CAMPUS = "campus"
    BUILDING = "building"
    NODE = "node"


class Status(StrEnum):
    """What is known of a node."""

    CONFIGURED = "configured"  # in field.yaml; its device has not answered yet
    REGISTERED = "registered"  # its device answered
    LOST = "lost"  # it did, and no longer does
    TRIPPED = "tripped"
    DISABLED = "disabled"
    ANNOUNCED = "announced"  # told over the socket; never commanded until it is in field.yaml


@dataclass(frozen=True, slots=True)
class Place:
    """One rung of the tree and all below it. `nodes` stand in buildings only."""

    level: Level
    id: str
    name: str
    location: LocationSettings | None = None
    export_max_kw: float | None = None
    import_max_kw: float | None = None
    children: tuple["Place", ...] = ()
    nodes: tuple[UnitId, ...] = ()


@dataclass(frozen=True, slots=True)
class Address:
    """The ids above one node; None where the tree does not say."""

    building: str
    campus: str | None = None
    city: str | None = None
    state: str | None = None
    country: str | None = None
    location: LocationSettings | None = None


@dataclass(frozen=True, slots=True)
class Announced:
    """A node that was told of, not configured."""

    id: UnitId
    building: str
    rated_power_kw: float
    energy_kwh: float
    name: str = ""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a node or a place can do. Rated is nameplate; power is what may flow now; energy is
    what is left between SoC and its limits. None: unknown, because of the nodes in `unknown`."""

    rated_power_kw: float = 0.0
    energy_kwh: float = 0.0
    available_discharge_kw: float | None = 0.0
    available_charge_kw: float | None = 0.0
    available_discharge_kwh: float | None = 0.0
    available_charge_kwh: float | None = 0.0
    unknown: tuple[UnitId, ...] = field(default=())


def tree_of(settings: Settings, announced: Iterable[Announced] = ()) -> Place:
    """The whole tree with its nodes."""
    country = settings.country
    listed = any(
        campus.buildings
        for state in country.states
        for city in state.cities
        for campus in city.campuses
    )
    if not listed:
        country = replace(country, states=())
    nodes: dict[str, list[UnitId]] = {}
    for unit in settings.units:
        nodes.setdefault(unit.building, []).append(unit.unit)
    for each in announced:
        nodes.setdefault(each.building, []).append(each.id)
    if listed:
        children = _states(country, nodes)
    else:
        buildings = tuple(BuildingSettings(id=id_) for id_ in nodes)
        named = settings.site.name or settings.site.id
        implied = CampusSettings(id=settings.site.id, name=named, buildings=buildings)
        children = (_campus(implied, nodes),)
    return Place(Level.COUNTRY, country.id, country.name, children=children)


def addresses(top: Place) -> dict[UnitId, Address]:
    """Where each node stands."""
    found: dict[UnitId, Address] = {}
    for path in _paths((top,)):
        ids = {place.level: place.id for place in path}
        location = next((each.location for each in reversed(path) if each.location), None)
        address = Address(
            ids[path[-1].level],
            ids.get(Level.CAMPUS),
            ids.get(Level.CITY),
            ids.get(Level.STATE),
            ids.get(Level.COUNTRY),
            location,
        )
        found.update(dict.fromkeys(path[-1].nodes, address))
    return found


def building_ids(top: Place) -> tuple[str, ...]:
    """Every building of the tree."""
    return tuple(path[-1].id for path in _paths((top,)))


def status_of(state: UnitState | None, *, answered: bool, up: bool | None) -> Status:
    """The word for a configured node."""
    if state is UnitState.TRIPPED:
        return Status.TRIPPED
    if state is UnitState.DISABLED:
        return Status.DISABLED
    if not answered:
        return Status.CONFIGURED
    if up is False or state is UnitState.LOST:
        return Status.LOST
    return Status.REGISTERED


def node_capacity(now: Snapshot, asset: Asset, room: Limit | None) -> Capacity:
    """What one configured node can do now. `room` None: not judged yet, so nothing may flow."""
    socs_pct, safety = worst_socs_pct(now, asset), asset.safety
    out_kwh = in_kwh = None
    if Point.AVAILABLE_DISCHARGE_KWH in asset.declared:  # a site, which knows its own limits
        out_kwh = now.fresh(asset.id, Point.AVAILABLE_DISCHARGE_KWH)
        in_kwh = now.fresh(asset.id, Point.AVAILABLE_CHARGE_KWH)
    elif socs_pct is not None:
        low_pct, high_pct = socs_pct
        out_kwh = max(low_pct - safety.soc_min_pct, 0.0) / 100.0 * asset.energy_kwh
        in_kwh = max(safety.soc_max_pct - high_pct, 0.0) / 100.0 * asset.energy_kwh
    return Capacity(
        asset.rated_kw,
        asset.energy_kwh,
        room.high_kw if room is not None else 0.0,
        -room.low_kw if room is not None else 0.0,
        out_kwh,
        in_kwh,
        (asset.id,) if out_kwh is None else (),
    )


def announced_capacity(node: Announced) -> Capacity:
    """Nothing of it is available: it is not commanded; its state of charge is not read."""
    return Capacity(node.rated_power_kw, node.energy_kwh, 0.0, 0.0, None, None, unknown=(node.id,))


def total(parts: Sequence[Capacity]) -> Capacity:
    """The sum of the parts."""
    return Capacity(
        sum(part.rated_power_kw for part in parts),
        sum(part.energy_kwh for part in parts),
        _sum([part.available_discharge_kw for part in parts]),
        _sum([part.available_charge_kw for part in parts]),
        _sum([part.available_discharge_kwh for part in parts]),
        _sum([part.available_charge_kwh for part in parts]),
        tuple(id_ for part in parts for id_ in part.unknown),
    )


def within(capacity: Capacity, export_kw: float | None, import_kw: float | None) -> Capacity:
    """Power cut to what a feeder or the connection lets through; None: no such limit."""
    return replace(
        capacity,
        available_discharge_kw=_least(capacity.available_discharge_kw, export_kw),
        available_charge_kw=_least(capacity.available_charge_kw, import_kw),
    )


def capacities(
    top: Place, nodes: Mapping[UnitId, Capacity], connection: Limit
) -> dict[tuple[Level, str], Capacity]:
    """What every place of the tree can do, by level and id. Nodes that are not in `nodes`
    (announced ones) count nothing."""
    found: dict[tuple[Level, str], Capacity] = {}
    _climb(top, nodes, connection, found)
    return found


def _climb(
    place: Place,
    nodes: Mapping[UnitId, Capacity],
    connection: Limit,
    found: dict[tuple[Level, str], Capacity],
) -> Capacity:
    parts = [_climb(child, nodes, connection, found) for child in place.children]
    parts += [nodes[id_] for id_ in place.nodes if id_ in nodes]
    capacity = within(total(parts), place.export_max_kw, place.import_max_kw)
    capacity = within(capacity, connection.high_kw, -connection.low_kw)
    found[place.level, place.id] = capacity
    return capacity


def _states(country: CountrySettings, nodes: Mapping[str, Sequence[UnitId]]) -> tuple[Place, ...]:
    return tuple(
        Place(
            Level.STATE,
            state.id,
            state.name,
            children=tuple(
                Place(
                    Level.CITY,
                    city.id,
                    city.name,
                    children=tuple(_campus(campus, nodes) for campus in city.campuses),
                )
                for city in state.cities
            ),
        )
        for state in country.states
    )


def _campus(campus: CampusSettings, nodes: Mapping[str, Sequence[UnitId]]) -> Place:
    buildings = tuple(
        Place(
            Level.BUILDING,
            building.id,
            building.name,
            building.location or campus.location,
            building.export_max_kw,
            building.import_max_kw,
            nodes=tuple(nodes.get(building.id, ())),
        )
        for building in campus.buildings
    )
    return Place(Level.CAMPUS, campus.id, campus.name, campus.location, children=buildings)


def _paths(path: tuple[Place, ...]) -> Iterator[tuple[Place, ...]]:
    """Every path from the top to a building."""
    if path[-1].level is Level.BUILDING:
        yield path
    for child in path[-1].children:
        yield from _paths((*path, child))


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _least(value: float | None, limit_kw: float | None) -> float | None:
    return value if value is None or limit_kw is None else min(value, limit_kw)
