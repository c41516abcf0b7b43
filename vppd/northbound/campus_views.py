"""What the socket shows of the campus: the tree, its nodes, and how much they can do."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace

from vppd.campus import aggregate
from vppd.campus.hierarchy import (
    Address,
    Announced,
    Capacity,
    Level,
    Place,
    Status,
    addresses,
    announced_capacity,
    capacities,
    node_capacity,
    status_of,
    total,
    tree_of,
    within,
)
from vppd.campus.losses import loss_model
from vppd.campus.member import NO_LOSSES
from vppd.core.asset import Asset
from vppd.core.measured import power_kw, soc_pct
from vppd.core.model import SITE, Limit, Point, Snapshot, UnitId, UnitState
from vppd.northbound.capability import capable
from vppd.northbound.problems import Problem
from vppd.northbound.site import Site
from vppd.northbound.views import View

ANNOUNCED_TEXT = "announced only: never commanded until it is configured in field.yaml"


def tree(site: Site) -> Place:
    """The hierarchy with every node, announced ones too."""
    return tree_of(site.settings, site.registry.announced())


def campus(site: Site) -> View:
    """The whole tree with what each level can do, and what the site could give for how long."""
    top, each = tree(site), _node_capacities(site)
    found = capacities(top, each, connection(site))
    lines = {line["id"]: line for line in _lines(site, top, each)}
    return {"campus": _place(top, found, lines), "capability": capable(site)}


def nodes(site: Site) -> View:
    """Every node in one line."""
    return {"nodes": _lines(site, tree(site), _node_capacities(site))}


def node(site: Site, id_: UnitId) -> View:
    """One node. Raises Problem 404."""
    lines = _lines(site, tree(site), _node_capacities(site))
    for line in lines:
        if line["id"] == id_:
            return line
    known = [line["id"] for line in lines]
    raise Problem(404, "unknown-node", f"there is no node {id_}; there are {known}", known=known)


def capacity(site: Site) -> View:
    """What the site can do: all configured nodes behind its connection."""
    limit = connection(site)
    all_ = within(total(list(_node_capacities(site).values())), limit.high_kw, -limit.low_kw)
    return asdict(all_)


def telemetry(site: Site) -> View:
    """The site's sums; None as soon as one unit is unknown. `known` sums the known ones."""
    now = site.bus.snapshot()
    decision = site.decision()
    return {
        "at": now.utc,
        **_sums(now, site.assets),
        "setpoint_kw": decision.cleared_kw if decision else None,
        "load_kw": now.fresh(SITE, Point.LOAD_KW),
        "frequency_hz": decision.frequency_hz if decision else None,
        "units": len(site.assets),
        "capacity": capacity(site),
        "hierarchy": asdict(hierarchy(site)),
    }


def hierarchy(site: Site) -> aggregate.Telemetry:
    """The same record for the country, each state, city, campus, building and node."""
    now, top, each, behind = (
        site.bus.snapshot(),
        tree(site),
        _node_capacities(site),
        connection(site),
    )
    alarms = _alarms_by_scope(site)
    if site.settings.role == "aggregator":
        return aggregate.telemetry(top, _region(site, now, top, behind, alarms))
    facts = {asset.id: _facts(site, now, asset, each[asset.id]) for asset in site.assets}
    losses = loss_model(site.rules.losses, site.assets, now)
    world = aggregate.World(facts, losses, capacities(top, each, behind), behind, alarms)
    return aggregate.telemetry(top, world)


def _region(
    site: Site,
    now: Snapshot,
    top: Place,
    behind: Limit,
    alarms: Callable[[str], Sequence[aggregate.Worst]],
) -> aggregate.World:
    """The sites that this aggregator commands and hears; those it does not hear are named and left
    out. Those of another aggregator are in the sum of that one."""
    ours = [asset for asset in site.assets if now.fresh(asset.id, Point.SITE_OURS)]
    heard = [asset for asset in ours if now.fresh(asset.id, Point.SITE_ONLINE)]
    each = _node_capacities(site)
    can = {asset.id: _none_for_unknown(each[asset.id]) for asset in heard}
    return aggregate.World(
        {asset.id: _facts(site, now, asset, can[asset.id]) for asset in heard},
        NO_LOSSES,  # of sites they are not known here
        capacities(top, can, behind),
        behind,
        alarms,
        partial=True,
        left_out=frozenset(asset.id for asset in ours) - can.keys(),
    )


def _none_for_unknown(can: Capacity) -> Capacity:
    return replace(
        can,
        available_discharge_kwh=can.available_discharge_kwh or 0.0,
        available_charge_kwh=can.available_charge_kwh or 0.0,
    )


def connection(site: Site) -> Limit:
    """What the point of connection lets through now, other measured load counted."""
    now = site.bus.snapshot()
    *_, last = site.feeders().limits(now, site.gate.ghosts(now))
    return last.limit


def _sums(now: Snapshot, assets: Sequence[Asset]) -> View:
    """Power added up, SoC weighted by energy; None as soon as one unit is unknown."""
    socs = [(asset.energy_kwh, soc_pct(now, asset)) for asset in assets]
    powers = [power_kw(now, asset) for asset in assets]
    kvars = [now.fresh(asset.id, Point.REACTIVE_KVAR) for asset in assets]
    energy = [(kwh, known_pct) for kwh, known_pct in socs if known_pct is not None]
    energy_kwh = sum(kwh for kwh, _ in energy)
    mean_pct = sum(kwh * each for kwh, each in energy) / energy_kwh if energy_kwh else None
    known_kw = [each for each in powers if each is not None]
    return {
        "power_kw": _all(powers),
        "reactive_kvar": _all(kvars),
        "soc_pct": mean_pct if len(energy) == len(assets) else None,
        "known": {
            "power_kw": sum(known_kw) if known_kw else None,
            "power_units": len(known_kw),
            "soc_pct": mean_pct,
            "soc_units": len(energy),
        },
    }


def _facts(site: Site, now: Snapshot, asset: Asset, can: Capacity) -> aggregate.NodeFacts:
    made = site.gate.decisions.get(asset.id)
    return aggregate.NodeFacts(
        power_kw(now, asset),
        now.fresh(asset.id, Point.REACTIVE_KVAR),
        made.cleared.power_kw if made is not None else None,
        soc_pct(now, asset),
        made.state.value if made is not None else UnitState.STARTING.value,
        can,
    )


def _alarms_by_scope(site: Site) -> Callable[[str], Sequence[aggregate.Worst]]:
    found: dict[str, list[aggregate.Worst]] = {}
    for each in site.alarms.standing():
        found.setdefault(each.unit, []).append(aggregate.Worst(each.level, each.code, each.unit))
    return lambda scope: found.get(scope, [])


def _all(values: Sequence[float | None]) -> float | None:
    known = [each for each in values if each is not None]
    return sum(known) if len(known) == len(values) else None


def _node_capacities(site: Site) -> dict[UnitId, Capacity]:
    now, decisions = site.bus.snapshot(), site.gate.decisions
    return {
        asset.id: node_capacity(
            now, asset, decisions[asset.id].room if asset.id in decisions else None
        )
        for asset in site.assets
    }


def _lines(site: Site, top: Place, each: Mapping[UnitId, Capacity]) -> list[View]:
    where = addresses(top)
    lines = [_configured(site, asset, where[asset.id], each[asset.id]) for asset in site.assets]
    return lines + [_announced(node, where[node.id]) for node in site.registry.announced()]


def _configured(site: Site, asset: Asset, where: Address, capacity_: Capacity) -> View:
    decision = site.gate.decisions.get(asset.id)
    registered_at = site.registry.registered_at(asset.id)
    word = status_of(
        decision.state if decision else None,
        answered=registered_at is not None,
        up=site.gate.standing(asset.id).up,
    )
    return {
        "id": asset.id,
        **asdict(where),
        "status": word,
        "capacity": asdict(capacity_),
        "registered_at": registered_at,
        "mismatches": site.registry.mismatches(asset.id),
    }


def _announced(node_: Announced, where: Address) -> View:
    return {
        "id": node_.id,
        **asdict(where),
        "name": node_.name or None,
        "status": Status.ANNOUNCED,
        "capacity": asdict(announced_capacity(node_)),
        "note": ANNOUNCED_TEXT,
    }


def _place(
    place: Place, found: Mapping[tuple[Level, str], Capacity], lines: Mapping[object, View]
) -> View:
    return {
        "level": place.level,
        "id": place.id,
        "name": place.name or None,
        "location": asdict(place.location) if place.location else None,
        "capacity": asdict(found[place.level, place.id]),
        "children": [_place(child, found, lines) for child in place.children],
        "nodes": [lines[id_] for id_ in place.nodes],
    }
