"""Which limits hold a unit now, and what would bind a plan if it were asked now.

Both look at the gate's last judgement; neither judges anew, so that showing changes nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vppd.campus.dispatch import STRATEGIES
from vppd.campus.losses import loss_model
from vppd.campus.member import Branch, Member, member
from vppd.campus.plans import pins_of
from vppd.campus.reserve import pulled
from vppd.campus.share import Ask, Shares, share
from vppd.core.alarms import Code
from vppd.core.asset import Asset
from vppd.core.envelope import circle, clamp, fit
from vppd.core.model import SITE, Clamp, Limit, Plan, Snapshot, UnitId
from vppd.northbound.site import Site

CUT_KW = 1e-6
NOTHING = Limit(0.0, 0.0, Code.STARTING)


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a plan would give now, after its ramp, and who would cut it."""

    given_kw: Mapping[UnitId, float]
    clamps: Mapping[UnitId, tuple[Clamp, ...]]
    short_kw: float  # of a site's plan: what no unit has room for, the tree aside

    @property
    def expected_kw(self) -> float:
        """All units together."""
        return sum(self.given_kw.values())

    @property
    def codes(self) -> list[Code]:
        """Every reason once."""
        codes = [Code.ROOM] if abs(self.short_kw) > CUT_KW else []
        codes += [clamp.why for clamps in self.clamps.values() for clamp in clamps]
        return list(dict.fromkeys(codes))


def holding(site: Site, asset: Asset) -> tuple[Limit, ...]:
    """Every limit on one unit at the last tick, the rating first."""
    decision = site.gate.decisions.get(asset.id)
    return decision.limits if decision is not None else (NOTHING,)


def outlook(site: Site, plan: Plan) -> Outlook:
    """What would come of a plan now, ramps aside and droop aside."""
    now = site.bus.snapshot()
    held: Mapping[UnitId, tuple[Limit, ...]] = {}
    short_kw = 0.0
    if plan.unit != SITE:
        asked_kw = {plan.unit: plan.power_kw}
    else:
        shares = _shared(site, plan)
        asked_kw = {each.unit: each.base_kw for each in shares.requests}
        held = {each.unit: each.held_by for each in shares.requests}
        short_kw = 0.0 if shares.held else shares.short_base_kw
    given_kw: dict[UnitId, float] = {}
    clamps: dict[UnitId, tuple[Clamp, ...]] = {}
    for asset in site.assets:
        if asset.id in asked_kw:
            limits = holding(site, asset)
            given_kw[asset.id], cuts = clamp(asked_kw[asset.id], limits)
            if abs(short_kw) > CUT_KW and not held.get(
                asset.id
            ):  # the shares stop at each room: say what makes it so small
                cuts = clamp(math.copysign(asset.rated_kw, plan.power_kw), limits)[1]
            cuts += _naming(held.get(asset.id, ()), given_kw[asset.id])
            clamps[asset.id] = tuple({each.why: each for each in cuts}.values())
            if plan.unit == asset.id:
                _round(asset, plan.reactive_kvar, limits, given_kw, clamps)
    _fit(site, now, given_kw, clamps)
    return Outlook(given_kw, clamps, short_kw)


def members_of(site: Site) -> list[Member]:
    """Every unit with the room the gate left it at its last judgement, ramps aside."""
    now, decisions = site.bus.snapshot(), site.gate.decisions
    losses = loss_model(site.rules.losses, site.assets, now)
    return [
        member(
            now,
            asset,
            decisions[asset.id].room if asset.id in decisions else NOTHING,
            losses=losses,
        )
        for asset in site.assets
    ]


def branches_of(site: Site) -> list[Branch]:
    """The limits of the tree now, as the gate applies them."""
    now = site.bus.snapshot()
    return list(site.feeders().limits(now, site.gate.ghosts(now)))


def _shared(site: Site, plan: Plan) -> Shares:
    """A plan of the site shared as the tick would share it, with what is pinned now."""
    rules, members = site.rules, members_of(site)
    strategy = STRATEGIES[plan.strategy or site.tick.duty.strategy]
    if strategy is STRATEGIES["losses"]:
        members = pulled(members, rules.losses, rules.imbalance)
    pins = pins_of(site.bus.plans(), rules.queue)
    pins_kw = {id_: each.power_kw for id_, each in pins.items()}
    return share(Ask(plan.power_kw, pins_kw, 0.0, {}), members, strategy, branches_of(site))


def _naming(limits: Sequence[Limit], given_kw: float) -> tuple[Clamp, ...]:
    return tuple(Clamp(each.why, given_kw, given_kw, each.detail) for each in limits)


def _round(
    asset: Asset,
    reactive_kvar: float,
    limits: tuple[Limit, ...],
    given_kw: dict[UnitId, float],
    clamps: dict[UnitId, tuple[Clamp, ...]],
) -> None:
    """Cut to the circle: reactive power that goes first leaves less active power."""
    tightest = min(limits, key=lambda limit: limit.apparent_kva)
    asked_kw = given_kw[asset.id]
    power_kw, _ = circle(
        asked_kw, reactive_kvar, tightest.apparent_kva, reactive_first=asset.reactive_first
    )
    if power_kw != asked_kw:
        cut = Clamp(Code.APPARENT_POWER, asked_kw, power_kw, tightest.detail)
        given_kw[asset.id], clamps[asset.id] = power_kw, (*clamps[asset.id], cut)


def _fit(
    site: Site,
    now: Snapshot,
    given_kw: dict[UnitId, float],
    clamps: dict[UnitId, tuple[Clamp, ...]],
) -> None:
    """Cut to the feeders; units that were not asked count as they are told now."""
    told_kw = {id_: each.cleared.power_kw for id_, each in site.gate.decisions.items()} | given_kw
    for feeder in site.feeders().limits(now, site.gate.ghosts(now)):
        members = [id_ for id_ in feeder.units if id_ in told_kw]
        fitted = fit([told_kw[id_] for id_ in members], feeder.limit)
        for id_, power_kw in zip(members, fitted, strict=True):
            if id_ in given_kw and abs(power_kw - told_kw[id_]) > CUT_KW:
                cut = Clamp(Code.CONNECTION, told_kw[id_], power_kw, feeder.limit.detail)
                clamps[id_] = (*clamps[id_], cut)
                given_kw[id_] = power_kw
            told_kw[id_] = power_kw
