"""Headroom: what response can be promised for its whole time, and what that leaves of the base.

A unit's reach is the power it can hold for so long: within its room, with energy that ends where
nothing fades yet, no faster than its state of charge may move, and not so warm that power fades.

    reach = min(room, (SoC - floor) x energy x efficiency / time)        out; in likewise
    base <= sum of reaches - promise                                      each way

Pure. Reaches and promises are positive numbers, kW; the base is positive towards the grid.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from vppd.core.asset import Asset
from vppd.core.decision import Promise
from vppd.core.measured import hottest_c, shows_soc, shows_temperature, worst_socs_pct
from vppd.core.model import Limit, Point, Snapshot, UnitId
from vppd.core.settings import DroopSettings
from vppd.core.settings_response import HeadroomSettings
from vppd.grid.droop_fitness import Fitness

S_PER_H = 3600.0
MIN_PER_H = 60.0


@dataclass(frozen=True, slots=True)
class Reach:
    """What can be held for the promised time, out and in."""

    out_kw: float = 0.0
    in_kw: float = 0.0

    def __add__(self, other: "Reach") -> "Reach":
        return Reach(self.out_kw + other.out_kw, self.in_kw + other.in_kw)

    def beside(self, pin_kw: float) -> "Reach":
        """What is left of it by a fixed power."""
        return Reach(max(self.out_kw - pin_kw, 0.0), max(self.in_kw + pin_kw, 0.0))

    def less(self, base_kw: float) -> "Reach":
        """What is left of it by a base that may end at any time."""
        return Reach(
            max(self.out_kw - max(base_kw, 0.0), 0.0), max(self.in_kw + min(base_kw, 0.0), 0.0)
        )

    def within(self, room: Limit) -> "Reach":
        """No more than this room."""
        return Reach(min(self.out_kw, room.high_kw), min(self.in_kw, -room.low_kw))


@dataclass(frozen=True, slots=True)
class Times:
    """How much longer a response out and a response in must last, seconds."""

    out_s: float
    in_s: float


def times(headroom: HeadroomSettings, active: int, began_s: float, now_s: float) -> Times:
    """The whole sustain time, or what is left of it on the side that is answered now: what a
    response uses up of its reserve is not asked of the base again before it ends."""
    whole_s = headroom.sustain_s
    left_s = max(whole_s - max(now_s - began_s, 0.0), 0.0)
    return Times(left_s if active > 0 else whole_s, left_s if active < 0 else whole_s)


def wanted(headroom: HeadroomSettings, up_max_kw: float, down_max_kw: float) -> Reach:
    """The promise by the settings."""
    return Reach(headroom.up_pct / 100.0 * up_max_kw, headroom.down_pct / 100.0 * down_max_kw)


def reach(
    now: Snapshot,
    asset: Asset,
    room: Limit,
    droop: DroopSettings,
    headroom: HeadroomSettings,
    last: Times,
) -> Reach:
    """What one unit can hold. Charge that may not be believed, or that nobody shows, counts as
    none; the energy below where anything fades is not counted."""
    socs_pct = worst_socs_pct(now, asset) if shows_soc(asset) else None
    if socs_pct is None or not _stays_cool(now, asset, droop, headroom):
        return Reach()
    safety, share = asset.safety, headroom.efficiency_pct / 100.0
    fade_pct = safety.soc_fade_pct
    if droop.soc_adaptive:
        fade_pct = max(fade_pct, droop.soc_adaptive_span_pct)
    margin_pct = fade_pct + asset.soc_resolution_pct
    above_pct = max(socs_pct[0] - safety.soc_min_pct - margin_pct, 0.0)
    below_pct = max(safety.soc_max_pct - margin_pct - socs_pct[1], 0.0)
    kwh_per_pct = asset.energy_kwh / 100.0
    rate_kw = math.inf
    if Point.SOC_PCT in asset.declared:  # a charge that moves faster halves the power
        rate_kw = safety.soc_rate_max_pct_per_min * MIN_PER_H * kwh_per_pct
    out_kw = _held_kw(above_pct * kwh_per_pct * share, last.out_s)
    in_kw = _held_kw(below_pct * kwh_per_pct, last.in_s)
    return Reach(min(out_kw, rate_kw * share), min(in_kw, rate_kw)).within(room)


@dataclass(frozen=True, slots=True)
class Spare:
    """What each unit that answers can hold, what all can within the connection, and the wish."""

    units: Mapping[UnitId, Reach]
    site: Reach
    wish: Reach

    @property
    def base_room_kw(self) -> tuple[float, float]:
        """The least and the most that the base may be so that the promise holds; 0 is always
        let."""
        low_kw = -max(self.site.in_kw - self.wish.in_kw, 0.0)
        return low_kw, max(self.site.out_kw - self.wish.out_kw, 0.0)


@dataclass(frozen=True, slots=True)
class Stand:
    """The room of the base before the response that lasts now began, and when that was."""

    began_s: float | None = None  # None: nothing is answered
    room_kw: tuple[float, float] | None = None


NOTHING_STANDS = Stand()


def standing(
    spare: Spare | None, before: Stand, active: int, began_s: float, *, lasts: bool
) -> Stand:
    """The room of the base stands still while a promised response lasts, so that what the response
    uses and the rounding of a state of charge do not move the base below it."""
    if spare is None:
        return Stand()
    if active == 0:
        return Stand(None, spare.base_room_kw)
    if lasts and before.began_s in {began_s, None} and before.room_kw is not None:
        return Stand(began_s, before.room_kw)
    return Stand(began_s, spare.base_room_kw)


def kept(
    target_kw: float,
    pinned_kw: float,
    spare: Spare | None,
    before_kw: float = 0.0,
    active: int = 0,
    stand: Stand = NOTHING_STANDS,
) -> float:
    """The site's base as far as the promise lets it go; what is pinned is not touched. `before_kw`
    is the last tick's: the base is not cut further while a response on that side uses its
    reserve. `stand` is the room where it stands still."""
    if spare is None:
        return target_kw
    rest_kw = target_kw - pinned_kw
    rest_kw = max(rest_kw, 0.0) if target_kw >= 0.0 else min(rest_kw, 0.0)
    low_kw, high_kw = stand.room_kw or spare.base_room_kw
    if active > 0:
        high_kw = max(high_kw, before_kw - pinned_kw)
    elif active < 0:
        low_kw = min(low_kw, before_kw - pinned_kw)
    within_kw = min(max(rest_kw, low_kw), high_kw)
    return target_kw if within_kw == rest_kw else target_kw + within_kw - rest_kw


def promised(spare: Spare, bases_kw: Mapping[UnitId, float]) -> Promise:
    """What the site and each unit can promise beside its base, and what that is short of the wish.
    A base that runs the other way adds nothing: it may end before the response does."""
    wish, left = spare.wish, spare.site.less(sum(bases_kw.values()))
    up_kw, down_kw = min(left.out_kw, wish.out_kw), min(left.in_kw, wish.in_kw)
    units_kw: dict[UnitId, tuple[float, float]] = {}
    for id_, each in spare.units.items():
        left = each.less(bases_kw.get(id_, 0.0))
        units_kw[id_] = (left.out_kw, left.in_kw)
    return Promise(up_kw, down_kw, wish.out_kw - up_kw, wish.in_kw - down_kw, units_kw)


def weights(
    fits: Mapping[UnitId, Fitness], spare: Spare | None, asked_kw: float
) -> dict[UnitId, float]:
    """By what droop is shared over room: fitness; where a response is promised, what each unit can
    hold of it."""
    if spare is None:
        return {id_: fit.share(asked_kw) for id_, fit in fits.items()}
    held = {id_: each.out_kw if asked_kw > 0.0 else each.in_kw for id_, each in spare.units.items()}
    return {id_: min(held.get(id_, 0.0) / fit.rated_kw, 1.0) for id_, fit in fits.items()}


def _held_kw(energy_kwh: float, for_s: float) -> float:
    """The power that so much energy lasts for; without a time it is not bounded."""
    return energy_kwh * S_PER_H / for_s if for_s > 0.0 else math.inf


def _stays_cool(
    now: Snapshot, asset: Asset, droop: DroopSettings, headroom: HeadroomSettings
) -> bool:
    """Whether nothing fades by heat before the response ends."""
    if not shows_temperature(asset):
        return True
    hot_c, fade_c = hottest_c(now, asset), asset.safety.temperature_fade_c
    if droop.temperature_adaptive:
        fade_c = max(fade_c, droop.temperature_adaptive_span_c)
    ends_c = asset.safety.temperature_max_c - fade_c
    return hot_c is not None and hot_c + headroom.temperature_rise_c <= ends_c
