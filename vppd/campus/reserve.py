"""What is kept back, what is left when the largest unit is lost, and how far apart units are. Pure.

Power is kW, positive towards the grid. `up` is more out or less in, `down` the other way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vppd.campus.member import Branch, Member, bounds_of
from vppd.campus.tree import through_kw
from vppd.core.model import UnitId
from vppd.core.settings_campus import ImbalanceSettings, LossSettings, ReserveSettings


@dataclass(frozen=True, slots=True)
class Spare:
    """How much is left, and what the loss of the largest unit would leave owed."""

    able_out_kw: float  # what the units could give, with every limit of the tree
    able_in_kw: float
    up_kw: float  # from what is given now
    down_kw: float
    margin_pct: float | None  # of what could be given in the direction of now; None: nothing can
    largest: UnitId | None  # whose loss leaves most owed; None: there is no unit
    without_kw: float  # what the others could still give in that direction, as a magnitude
    short_kw: float  # of what is given now, as a magnitude; 0: its loss is carried


def able_kw(power_kw: float, members: Sequence[Member], branches: Sequence[Branch]) -> float:
    """The most that units can give together in the direction of this power, as a magnitude."""
    left_kw = {each.id: each.room_kw(power_kw) for each in members}
    return through_kw(left_kw, bounds_of(branches, power_kw, {}))


def spare(given_kw: float, members: Sequence[Member], branches: Sequence[Branch] = ()) -> Spare:
    """The spare capacity beside what is given now, and N-1: without each unit in turn."""
    out_kw, in_kw = able_kw(1.0, members, branches), able_kw(-1.0, members, branches)
    able, owed_kw = (out_kw, given_kw) if given_kw >= 0.0 else (in_kw, -given_kw)
    largest, without_kw = None, able
    for lost in _candidates(given_kw, members, branches):
        rest = [each for each in members if each.id != lost.id]
        left_kw = able_kw(given_kw, rest, branches)
        if largest is None or left_kw < without_kw:
            largest, without_kw = lost.id, left_kw
    return Spare(
        out_kw,
        in_kw,
        max(out_kw - given_kw, 0.0),
        max(in_kw + given_kw, 0.0),
        100.0 * max(able - owed_kw, 0.0) / able if able > 0.0 else None,
        largest,
        without_kw,
        max(owed_kw - without_kw, 0.0),
    )


def reserve_low(margin_pct: float | None, settings: ReserveSettings, *, was: bool) -> bool:
    """Whether the margin is under its minimum, with hysteresis; nothing to give is no margin."""
    end_pct = settings.margin_min_pct + (settings.hysteresis_pct if was else 0.0)
    return (0.0 if margin_pct is None else margin_pct) < end_pct - 1e-9


def within_reserve(base_kw: float, able_out_kw: float, able_in_kw: float, kept_pct: float) -> float:
    """The base cut to what the reserve margin leaves of what could be given."""
    share = 1.0 - kept_pct / 100.0
    return min(max(base_kw, -share * able_in_kw), share * able_out_kw)


def imbalance_pct(values_pct: Sequence[float]) -> float:
    """Highest less lowest."""
    return max(values_pct) - min(values_pct) if values_pct else 0.0


def compared_pct(
    members: Sequence[Member],
    loads_kw: Mapping[UnitId, float],
    rated_kw: Mapping[UnitId, float],
    settings: ImbalanceSettings,
) -> list[float]:
    """What is compared of each unit that has any room: its SoC where known, or its loading."""
    able = [each for each in members if each.out_kw > 0.0 or each.in_kw > 0.0]
    if settings.of == "soc":
        return [each.soc_pct for each in able if each.soc_pct is not None]
    return [
        100.0 * abs(loads_kw[each.id]) / rated_kw[each.id] for each in able if each.id in loads_kw
    ]


def imbalanced(spread_pct: float, settings: ImbalanceSettings, *, was: bool) -> bool:
    """Whether units are too far apart, with hysteresis."""
    return spread_pct > settings.max_pct - (settings.hysteresis_pct if was else 0.0)


def pulled(
    members: Sequence[Member], losses: LossSettings, imbalance: ImbalanceSettings
) -> list[Member]:
    """Each unit with the pull of its SoC, for the strategy `losses`: a unit above the mean is
    cheaper to discharge by balance_weight for each 100 %, and by the imbalance weight for what it
    is beyond half of what is allowed, so that nothing steps when the alarm comes."""
    socs = [(each.energy_kwh, each.soc_pct) for each in members]
    return [
        each._replace(pull_share=pull_share) if pull_share else each
        for each, pull_share in zip(members, pulls(socs, losses, imbalance), strict=True)
    ]


def pulls(
    socs: Sequence[tuple[float, float | None]], losses: LossSettings, imbalance: ImbalanceSettings
) -> list[float]:
    """The pull of each unit's SoC, kW a kW, from energy in kWh and SoC in % (None: not known)."""
    known = [(kwh, soc_pct) for kwh, soc_pct in socs if soc_pct is not None]
    energy_kwh = sum([kwh for kwh, _ in known])
    if energy_kwh <= 0.0 or (losses.balance_weight == 0.0 and imbalance.weight == 0.0):
        return [0.0] * len(socs)
    mean_pct = sum([kwh * soc_pct for kwh, soc_pct in known]) / energy_kwh
    weight = imbalance.weight if imbalance.of == "soc" else 0.0
    level_pct, balance = imbalance.max_pct / 2.0, losses.balance_weight
    found: list[float] = []
    for _, soc_pct in socs:
        away_pct = 0.0 if soc_pct is None else soc_pct - mean_pct
        beyond_pct = 0.0
        if away_pct > level_pct:
            beyond_pct = away_pct - level_pct
        elif away_pct < -level_pct:
            beyond_pct = away_pct + level_pct
        found.append(-(balance * away_pct + weight * beyond_pct) / 100.0)
    return found


def _candidates(
    given_kw: float, members: Sequence[Member], branches: Sequence[Branch]
) -> list[Member]:
    """Of the units that stand behind the same limits the one with most room: no other's loss
    takes more."""
    units = [frozenset(branch.units) for branch in branches]
    largest: dict[tuple[bool, ...], Member] = {}
    for each in sorted(members, key=lambda one: one.id):
        behind = tuple(each.id in chosen for chosen in units)
        before = largest.get(behind)
        if before is None or each.room_kw(given_kw) > before.room_kw(given_kw):
            largest[behind] = each
    return list(largest.values())
