"""What an operator may do over the socket. Each act changes the site at once and says what it did;
`routes.py` writes it down before it is answered.

Plans of operators carry operator priority and expire. Releasing one is not asking for 0: with a
plan of 0 kW the site stands still, released it goes back to the schedule.
"""

from collections.abc import Iterable
from dataclasses import asdict
from uuid import uuid4

from vppd.campus.dispatch import STRATEGIES
from vppd.campus.hierarchy import Announced, building_ids
from vppd.core.alarms import Code
from vppd.core.asset import Asset
from vppd.core.envelope import kvar_at
from vppd.core.model import SITE, Plan, Priority, UnitId
from vppd.northbound.ask import Answer, Ask
from vppd.northbound.body import Body
from vppd.northbound.campus_views import ANNOUNCED_TEXT, node, tree
from vppd.northbound.limits import Outlook, outlook
from vppd.northbound.problems import Problem
from vppd.northbound.site import OPERATOR, Site
from vppd.northbound.views import View, clamp, latch, plan

DURATION_S = 900.0
DURATION_MAX_S = 86400.0
HUGE = 1e9
RETRIP_S = 0.3  # a cause that still stands has tripped again by then
CONTROLS = ("enable", "disable", "release", "emergency_stop", "reset")
SENSES = ("lagging", "leading")  # as generators count: given out, taken in
POWER_FACTOR_MIN = 0.01


async def dispatch(ask: Ask) -> Answer:
    """A base point for the site; `power_kw` null releases it."""
    if ask.body.is_null("power_kw"):
        ask.body.done()
        return _released(ask.site, SITE)
    site, body = ask.site, ask.body
    rated_kw = sum(asset.rated_kw for asset in site.assets)
    apparent_kva = sum(asset.apparent_kva for asset in site.assets)
    power_kw = _within(body, "power_kw", rated_kw, "the sum of the units' ratings")
    kvar = _within(body, "reactive_kvar", apparent_kva, "the units' apparent power", 0.0)
    strategy = _strategy(ask)
    return _planned(ask, SITE, power_kw, kvar, strategy=strategy)


async def release_dispatch(ask: Ask) -> Answer:
    """Take an operator's base point back."""
    return _released(ask.site, SITE)


async def power(ask: Ask) -> Answer:
    """A pinned share for one unit; `power_kw` null releases it. Reactive power as kvar, + out of
    the unit, or as a `power_factor` with its `sense`."""
    asset = ask.asset()
    if ask.body.is_null("power_kw"):
        ask.body.done()
        return _released(ask.site, asset.id)
    power_kw = _within(ask.body, "power_kw", asset.rated_kw, f"the rating of {asset.id}")
    kvar = _reactive_kvar(ask.body, asset, power_kw)
    droop = ask.body.flag("droop", False)
    return _planned(ask, asset.id, power_kw, kvar, droop=droop)


async def release_power(ask: Ask) -> Answer:
    """Take a pinned share back."""
    return _released(ask.site, ask.asset().id)


async def control(ask: Ask) -> Answer:
    """enable, disable, release: a unit. emergency_stop, reset: a unit, a building or `site`."""
    command = ask.body.choice("command", CONTROLS)
    ask.body.done()
    by = f"{ask.user} (uid {ask.peer.uid})"
    if command in {"enable", "disable", "release"}:
        asset, gate = ask.asset(), ask.site.gate
        if command == "release" and not gate.releasable(asset.id):
            raise Problem(422, "not-supported", _cannot_release(asset))
        {"enable": gate.enable, "disable": gate.disable, "release": gate.release}[command](
            asset.id, by
        )
        return Answer({"unit": asset.id, "command": command, **_held(ask.site, asset.id)})
    scope = _scope(ask)
    if command == "reset":
        gone = ask.site.gate.reset(scope, by)
        await ask.site.clock.sleep_until(ask.site.clock.now_s() + RETRIP_S)
        view: View = {"unit": scope, "command": command, "reset": [latch(each) for each in gone]}
        return Answer({**view, **_held(ask.site, scope)})
    ask.site.gate.trip(scope, Code.EMERGENCY_STOP, f"pressed by {ask.user}", by)
    # what an operator asked before must not come back by itself with the reset
    released = [plan_ for unit in _units_of(ask.site, scope) for plan_ in _withdraw(ask.site, unit)]
    if scope == SITE and ask.site.desk is not None:
        ask.site.desk.withdraw(ask.source)
    return Answer(
        {
            "unit": scope,
            "command": command,
            "released": [plan(ask.site, each) for each in released],
            **_held(ask.site, scope),
        }
    )


async def droop(ask: Ask) -> Answer:
    """Switch the answer to frequency on or off, until the next start or a reload that changes
    droop."""
    enabled = ask.body.flag("enabled")
    ask.body.done()
    ask.site.tick.duty = ask.site.tick.duty.switched(enabled, "operator")
    return Answer(
        {"enabled": enabled, "note": "until the next start, or a reload that changes droop"}
    )


async def reload(ask: Ask) -> Answer:
    """Read the configuration again; with `dry_run` only say what would change. Raises Problem 422
    with every error, changing nothing then."""
    dry_run = ask.body.flag("dry_run", False)
    ask.body.done()
    if ask.site.reload is None:
        raise Problem(422, "not-supported", "this daemon cannot reload: restart it")
    verdict = await ask.site.reload(ask.user, dry_run)
    changes = [asdict(each) for each in verdict.changes]
    view: View = {"changes": changes, "steps": list(verdict.steps)}
    if verdict.errors:
        text = f"refused, the old configuration stays: {'; '.join(verdict.errors)}"
        raise Problem(422, "wrong-configuration", text, errors=list(verdict.errors), **view)
    return Answer({"reloaded": not dry_run, **view})


async def announce(ask: Ask) -> Answer:
    """List a node that is not configured; it is never commanded."""
    body, site = ask.body, ask.site
    id_, building = UnitId(body.id("id")), body.id("building")
    announced = Announced(
        id_,
        building,
        body.number("rated_power_kw", low=0.001, high=HUGE),
        body.number("energy_kwh", low=0.001, high=HUGE),
        body.text("name", ""),
    )
    body.done()
    if site.asset(id_) is not None:
        raise Problem(409, "already-configured", f"{id_} is configured in field.yaml")
    buildings = building_ids(tree(site))
    if building not in buildings:
        text = f"there is no building {building}; there are {', '.join(buildings)}"
        raise Problem(422, "unusable-value", text, field="building", known=buildings)
    if not site.registry.announce(announced, ask.user):
        raise Problem(409, "too-many-nodes", "too many announced nodes: DELETE some first")
    return Answer({"node": node(site, id_), "note": ANNOUNCED_TEXT}, 201)


async def forget(ask: Ask) -> Answer:
    """Take an announced node off the list."""
    if ask.site.asset(ask.unit) is not None:
        text = f"{ask.unit} is configured: take it out of field.yaml"
        raise Problem(409, "already-configured", text)
    if not ask.site.registry.forget(ask.unit, ask.user):
        known = [each.id for each in ask.site.registry.announced()]
        text = f"no node {ask.unit} was announced; announced are: {', '.join(known) or 'none'}"
        raise Problem(404, "unknown-node", text, known=known)
    return Answer({"forgotten": ask.unit})


def _planned(
    ask: Ask,
    unit: UnitId,
    power_kw: float,
    reactive_kvar: float,
    *,
    strategy: str | None = None,
    droop: bool = False,
) -> Answer:
    """Put the plan on the board in place of every older one of an operator."""
    duration_s = ask.body.number("duration_s", DURATION_S, low=1.0, high=DURATION_MAX_S)
    ask.body.done()
    now_s = ask.site.clock.now_s()
    made = Plan(
        unit,
        power_kw,
        now_s + duration_s,
        ask.source,
        Priority.OPERATOR,
        now_s,
        reactive_kvar,
        strategy,
        droop=droop,
        id=str(uuid4()),
    )
    replaced = _withdraw(ask.site, unit)
    ask.site.bus.publish(made)
    view: View = {
        "plan": plan(ask.site, made),
        **_bound(outlook(ask.site, made)),
        "replaced": [plan(ask.site, each) for each in replaced],
        "shut_by": ask.site.gate.shut_by,
    }
    return Answer(view, 202)


def _bound(found: Outlook) -> View:
    """What would bind a plan now, ramps and droop aside."""
    return {
        "expected_kw": found.expected_kw,
        "bound_by": found.codes,
        "units": [
            {"id": id_, "expected_kw": given_kw, "clamps": [clamp(c) for c in found.clamps[id_]]}
            for id_, given_kw in found.given_kw.items()
        ],
    }


def _released(site: Site, unit: UnitId) -> Answer:
    gone = _withdraw(site, unit)
    return Answer({"unit": unit, "released": [plan(site, each) for each in gone]})


def _withdraw(site: Site, unit: UnitId) -> list[Plan]:
    """Every live plan of an operator for a unit or the site, whoever asked for it."""
    gone = [
        each for each in site.bus.plans() if each.unit == unit and each.source.startswith(OPERATOR)
    ]
    for each in gone:
        site.bus.withdraw(each.unit, each.source)
    return gone


def _within(
    body: Body, name: str, bound: float, whose: str, default: float | None = None
) -> float:  # the bound in the unit of the name, either way
    value = body.number(name, default, low=-HUGE, high=HUGE)
    if abs(value) > bound:
        text = f"{name} {value:g} is beyond {whose}: -{bound:g} to {bound:g}"
        raise Problem(422, "beyond-rating", text, field=name)
    return value


def _reactive_kvar(body: Body, asset: Asset, power_kw: float) -> float:
    """kvar as asked, or of the power factor asked at this power. Raises Problem 422."""
    if not body.has("power_factor"):
        if body.has("sense"):
            raise Problem(422, "unusable-value", "sense goes with power_factor", field="sense")
        return _within(body, "reactive_kvar", asset.apparent_kva, "its apparent power", 0.0)
    if body.has("reactive_kvar"):
        text = "give reactive_kvar or power_factor, not both"
        raise Problem(422, "unusable-value", text, field="power_factor")
    power_factor = body.number("power_factor", low=POWER_FACTOR_MIN, high=1.0)
    sense = body.choice("sense", SENSES) if body.has("sense") else SENSES[0]
    apparent_kva = abs(power_kw) / power_factor
    if apparent_kva > asset.apparent_kva:
        text = (
            f"{power_kw:g} kW at power_factor {power_factor:g} is {apparent_kva:g} kVA, beyond the "
            f"apparent power of {asset.id}: {asset.apparent_kva:g}"
        )
        raise Problem(422, "beyond-rating", text, field="power_factor")
    return kvar_at(power_kw, power_factor, lagging=sense == SENSES[0])


def _cannot_release(asset: Asset) -> str:
    """Why a unit's device cannot be given back, and what to do."""
    if asset.read_only:
        return f"{asset.id} is only read: its device is its own already"
    return (
        f"the profile of {asset.id} has no `release` steps: add what gives the device back to its "
        f"own control, or hold it at 0 with: vppctl disable {asset.id}"
    )


def _strategy(ask: Ask) -> str | None:
    """Raises Problem 422."""
    if not ask.body.has("strategy"):
        return None
    known = [name for name in STRATEGIES if name != "losses" or ask.site.region is None]
    return ask.body.choice("strategy", known)  # the losses inside a site are not known here


def _scope(ask: Ask) -> UnitId:
    """`site`, a building or a unit. Raises Problem 404."""
    scopes = _scopes(ask.site)
    if ask.unit not in scopes:
        text = f"there is no {ask.unit}; there are {', '.join(scopes)}"
        raise Problem(404, "unknown-unit", text, known=scopes)
    return ask.unit


def _scopes(site: Site) -> list[str]:
    buildings = dict.fromkeys(asset.building for asset in site.assets)
    return [SITE, *buildings, *(asset.id for asset in site.assets)]


def _units_of(site: Site, scope: str) -> Iterable[UnitId]:
    """What a scope stops, `site` itself among it when it is all."""
    if scope == SITE:
        yield SITE
    yield from (asset.id for asset in site.assets if _inside(asset, scope))


def _inside(asset: Asset, scope: str) -> bool:
    return scope in {SITE, asset.building, asset.id}


def _held(site: Site, scope: str) -> View:
    """What is still latched on any unit of the scope, so that nobody is surprised."""
    above = {SITE, scope}
    for asset in site.assets:
        if _inside(asset, scope):
            above |= {asset.building, asset.id}
    return {"latched": [latch(each) for each in site.gate.latches.all() if each.scope in above]}
