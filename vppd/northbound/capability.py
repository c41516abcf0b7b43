"""What the socket shows of what the site could give: capability, reserve and N-1."""

from dataclasses import asdict

from vppd.campus.capability import Able, Held, Source, capability, ramp_kw_per_s
from vppd.campus.losses import auxiliary_kw
from vppd.campus.reserve import compared_pct, imbalance_pct, reserve_low, spare
from vppd.core.model import UnitId
from vppd.northbound.limits import branches_of, holding, members_of
from vppd.northbound.site import Site
from vppd.northbound.views import View


def capable(site: Site) -> View:
    """Up and down, now and for a time, with the reason of each bound; spare capacity and N-1."""
    sources, branches = _sources(site), branches_of(site)
    rules = site.rules
    kept_pct = rules.reserve.margin_min_pct if rules.reserve.bounds_base else 0.0
    decision = site.decision()
    promise = decision.promise if decision is not None else None
    held = Held(promise.up_kw, promise.down_kw) if promise is not None else Held()
    now = site.bus.snapshot()
    own = [auxiliary_kw(each.auxiliary, now) for each in rules.losses.buildings]
    up, down = capability(sources, branches, held, kept_pct, auxiliary_kw=sum(own))
    return {
        "at": now.utc,
        "given_kw": sum(given_of(site).values()),
        "auxiliary_kw": sum(own),
        "ramp_kw_per_s": ramp_kw_per_s(sources),
        "up": [_able(each) for each in up],
        "down": [_able(each) for each in down],
        "reserve": reserve(site),
    }


def reserve(site: Site) -> View:
    """Spare capacity, the reserve margin, what the loss of the largest unit would leave, and how
    far apart the units are."""
    members, given_kw = members_of(site), given_of(site)
    found = spare(sum(given_kw.values()), members, branches_of(site))
    rated_kw = {asset.id: asset.rated_kw for asset in site.assets}
    rules = site.rules
    spread_pct = imbalance_pct(compared_pct(members, given_kw, rated_kw, rules.imbalance))
    return {
        **asdict(found),
        "margin_min_pct": rules.reserve.margin_min_pct,
        "low": reserve_low(found.margin_pct, rules.reserve, was=False),
        "imbalance_of": rules.imbalance.of,
        "imbalance_pct": spread_pct,
        "imbalance_max_pct": rules.imbalance.max_pct,
    }


def given_of(site: Site) -> dict[UnitId, float]:
    """What every unit is told now."""
    return {id_: each.cleared.power_kw for id_, each in site.gate.decisions.items()}


def _sources(site: Site) -> list[Source]:
    return [
        Source(asset, each, holding(site, asset))
        for asset, each in zip(site.assets, members_of(site), strict=True)
    ]


def _able(able: Able) -> View:
    return {
        "horizon_s": able.horizon_s,
        "power_kw": able.power_kw,
        "bound_by": able.bound_by,
        "cuts": [asdict(cut) for cut in able.cuts],
    }
