"""What can be given now, for 15 minutes, for an hour, up and down, and why not more. Pure.

Up is the most that can flow out, down the most that can flow in (as a negative power): kW at the
units' terminals, positive towards the grid, ramps aside. A power for a time is one that can be held
constant to the end of it from the present state of charge, the fade near the SoC limits counted:
where power fades to 0 over the last `soc_fade_pct`, P kW can be held for h hours if

    P h <= E (inside - fade P / rated)      so      P = E inside / (h + E fade / rated)

with E the energy per percent, and the inverter's losses taken off going out. Going in they are
left aside, on the safe side. What the buildings take for themselves is taken off going out, where
it never reaches the grid; going in it narrows the limits of the tree instead. Every cut has its
reason; rated power less all cuts is what is left.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from vppd.campus.losses import LOSSLESS, Curve
from vppd.campus.member import Branch, Member
from vppd.core.alarms import Code
from vppd.core.asset import Asset
from vppd.core.model import Limit, UnitId

HORIZONS_S = (0.0, 900.0, 3600.0)  # now, one block, one hour
CUT_KW = 1e-6


@dataclass(frozen=True, slots=True)
class Cut:
    """So much is not available, of these units, because of this."""

    why: Code
    cut_kw: float  # a magnitude
    units: tuple[UnitId, ...]
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Able:
    """What can be given for so long in one direction, and what was cut off the rating for it."""

    horizon_s: float
    power_kw: float  # positive out, negative in
    cuts: tuple[Cut, ...]

    @property
    def bound_by(self) -> Code:
        """The reason that took most, or the rating where nothing did."""
        return max(self.cuts, key=lambda cut: cut.cut_kw).why if self.cuts else Code.RATING


@dataclass(frozen=True, slots=True)
class Held:
    """What is promised to others and not to be given twice, at the site: kW, each not negative."""

    up_kw: float = 0.0
    down_kw: float = 0.0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """One unit: what it is, all that limits it at this instant, and its SoC where known."""

    asset: Asset
    member: Member
    limits: tuple[Limit, ...]


NOTHING_HELD = Held()


@dataclass(frozen=True, slots=True)
class _Kept:
    """What is kept back of the sum, one way: kW but for the margin."""

    margin_share: float
    promised_kw: float
    auxiliary_kw: float
    promise: str

    def of(self, total_kw: float) -> tuple[tuple[Code, float, str], ...]:
        """Each with its reason and its words, in the order in which they are taken."""
        margin = f"reserve margin {100.0 * self.margin_share:g} %"
        return (
            (Code.RESERVE, total_kw * self.margin_share, margin),
            (Code.HEADROOM, self.promised_kw, self.promise or "promised to the grid"),
            (Code.AUXILIARY, self.auxiliary_kw, "taken by the buildings"),
        )


def capability(
    sources: Sequence[Source],
    branches: Sequence[Branch],
    held: Held = NOTHING_HELD,
    margin_pct: float = 0.0,
    horizons_s: Sequence[float] = HORIZONS_S,
    auxiliary_kw: float = 0.0,
) -> tuple[tuple[Able, ...], tuple[Able, ...]]:
    """Up and down, for each horizon. `branches` are the limits of the tree, leaves first;
    `margin_pct` is the reserve margin that the base never takes of, 0 where it may;
    `auxiliary_kw` is what the buildings take for themselves."""
    margin = margin_pct / 100.0
    kept_up = _Kept(margin, held.up_kw, max(auxiliary_kw, 0.0), held.detail)
    kept_down = _Kept(margin, held.down_kw, 0.0, held.detail)
    up = tuple(_able(1, horizon_s, sources, branches, kept_up) for horizon_s in horizons_s)
    down = tuple(_able(-1, horizon_s, sources, branches, kept_down) for horizon_s in horizons_s)
    return up, down


def sustained_kw(
    sign: int, horizon_s: float, member: Member, asset: Asset, curve: Curve = LOSSLESS
) -> float | None:
    """The power that a unit's energy holds for so long, as a magnitude; None: SoC not known."""
    if member.soc_pct is None:
        return None
    inside_pct = (
        member.soc_pct - member.soc_min_pct if sign > 0 else member.soc_max_pct - member.soc_pct
    )
    kwh_per_pct = asset.energy_kwh / 100.0
    fade_h = kwh_per_pct * asset.safety.soc_fade_pct / asset.rated_kw
    hours_h = horizon_s / 3600.0 + fade_h
    if hours_h <= 0.0:
        return asset.rated_kw if inside_pct > 0.0 else 0.0
    held_kw = kwh_per_pct * max(inside_pct, 0.0) / hours_h
    return curve.out_kw(held_kw) if sign > 0 and horizon_s > 0.0 else held_kw


def _able(
    sign: int,
    horizon_s: float,
    sources: Sequence[Source],
    branches: Sequence[Branch],
    kept: _Kept,
) -> Able:
    cuts: list[Cut] = []
    left_kw: dict[UnitId, float] = {}
    for source in sources:
        left_kw[source.asset.id], cut = _of_unit(sign, horizon_s, source)
        if cut is not None:
            cuts.append(cut)
    for branch in branches:
        limit_kw = branch.limit.high_kw if sign > 0 else -branch.limit.low_kw
        behind = [id_ for id_ in branch.units if id_ in left_kw]
        sum_kw = sum(left_kw[id_] for id_ in behind)
        if sum_kw > limit_kw:
            units = tuple(id_ for id_ in behind if left_kw[id_] > 0.0)
            cut_kw = sum_kw - limit_kw
            if cut_kw > CUT_KW:
                cuts.append(Cut(branch.limit.why, cut_kw, units, branch.limit.detail))
            for id_ in behind:
                left_kw[id_] *= limit_kw / sum_kw
    total_kw = sum(left_kw.values())
    every = tuple(left_kw)
    for why, kept_kw, detail in kept.of(total_kw):
        taken_kw = min(max(kept_kw, 0.0), total_kw)
        total_kw -= taken_kw  # also what is too small to be named, or longer could be more
        if taken_kw > CUT_KW:
            cuts.append(Cut(why, taken_kw, every, detail))
    return Able(horizon_s, sign * total_kw, tuple(_together(cuts)))


def _of_unit(sign: int, horizon_s: float, source: Source) -> tuple[float, Cut | None]:
    """What one unit can hold, and the tightest reason why not its rating."""
    asset = source.asset
    least_kw, why, detail = asset.rated_kw, Code.RATING, ""
    for limit in source.limits:
        limit_kw = limit.high_kw if sign > 0 else -limit.low_kw
        if limit_kw < least_kw:
            least_kw, why, detail = limit_kw, limit.why, limit.detail
    room_kw = source.member.room_kw(sign)
    if room_kw < least_kw:
        least_kw, why, detail = room_kw, Code.ROOM, ""
    sustained = sustained_kw(sign, horizon_s, source.member, asset, source.member.curve)
    if sustained is None and horizon_s > 0.0:
        sustained, unknown = 0.0, "state of charge not known"
    else:
        unknown = f"{source.member.soc_pct} % for {horizon_s / 60.0:g} min"
    if sustained is not None and horizon_s > 0.0 and sustained < least_kw:
        least_kw, detail = sustained, unknown
        why = Code.SOC_LOW if sign > 0 else Code.SOC_HIGH
    cut_kw = asset.rated_kw - least_kw
    return least_kw, Cut(why, cut_kw, (asset.id,), detail) if cut_kw > CUT_KW else None


def _together(cuts: Sequence[Cut]) -> list[Cut]:
    """One line a reason and place: units that are cut by the same rule stand together."""
    found: dict[tuple[Code, str], Cut] = {}
    for cut in cuts:
        key = (cut.why, cut.detail if cut.why is Code.CONNECTION else "")
        before = found.get(key)
        if before is None:
            found[key] = cut
        else:
            detail = before.detail if before.detail == cut.detail else ""
            units = tuple(dict.fromkeys((*before.units, *cut.units)))
            found[key] = Cut(cut.why, before.cut_kw + cut.cut_kw, units, detail)
    return sorted(found.values(), key=lambda cut: -cut.cut_kw)


def ramp_kw_per_s(sources: Sequence[Source]) -> float:
    """How fast the base of all units that may work moves."""
    return sum(
        source.asset.safety.ramp_max_kw_per_s
        for source in sources
        if source.member.out_kw > 0.0 or source.member.in_kw > 0.0
    )
