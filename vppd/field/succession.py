"""A unit at the gate: how it begins, and how another configuration of it goes on where it is."""

from collections.abc import Sequence
from dataclasses import replace

from vppd.core.alarms import Code
from vppd.core.asset import Asset
from vppd.core.model import Limit, Point, Snapshot
from vppd.core.ports import Actuator
from vppd.field.interlocks import needs
from vppd.field.memory import remembered, remind
from vppd.field.rule import Rule, applying
from vppd.field.standing import Standing, Tell, Trip
from vppd.field.ward import Ward


def ward_of(
    asset: Asset,
    actuator: Actuator | None,
    rules: Sequence[Rule],
    tell: Tell,
    trip: Trip,
    now_s: float,
) -> Ward:
    """A unit of which nothing is known yet."""
    applicable = applying(rules, asset)
    beside = Point.INVERTER_KW in asset.declared
    power = Point.INVERTER_KW if beside else Point.POWER_KW
    rating = Limit(-asset.rated_kw, asset.rated_kw, Code.RATING, "", asset.apparent_kva)
    return Ward(
        asset,
        None if asset.read_only else actuator,
        applicable,
        rating,
        Standing(asset.id, tell, trip, now_s, power),
        set(needs(asset, applicable)),
    )


def succeed(new: Ward, old: Ward, rules: Sequence[Rule]) -> None:
    """The same device under other limits: all that was remembered holds on. What rules need that
    no rule needed before has to be read first."""
    waits = old.missing | (new.missing - set(needs(old.asset, old.rules)))
    remind(new, remembered(old))
    new.standing, new.missing = old.standing, waits
    new.rules = applying(rules, new.asset)


def learn(unit: Ward, now: Snapshot, rules: Sequence[Rule]) -> None:
    """What an inverter turned out to know of its battery is judged from now on."""
    asset = unit.asset
    shown = {point for point in asset.may_show if (asset.id, point) in now.readings}
    if shown:
        known = asset.declared | shown
        unit.asset = replace(asset, declared=known, may_show=asset.may_show - shown)
        unit.rules = applying(rules, unit.asset)
