"""Who goes up waits until whoever makes room for it is known to have gone down. Pure.

Setpoints reach their devices one by one, late, or not at all. Until a device has answered it may
hold what it answered last, or anything that it was offered since. Shares that move from one unit to
another at a limit would be over it meanwhile. So a raise, which is a move away from 0, gets what
the limit leaves beside the most that all devices behind it may hold; where there is room, nothing
waits. Moves towards 0 never wait, they are what safety asks for: a unit that charges may cease to,
and what others gave because of it is over the limit until they are told.
"""

from collections.abc import Mapping, Sequence

from vppd.core.model import Clamp, UnitId
from vppd.field.feeders import CUT_KW, Feeder

WAITS = "waits until others went down"


def in_turn(
    feeders: Sequence[Feeder],
    powers_kw: dict[UnitId, float],
    holds_kw: Mapping[UnitId, tuple[float, float]],
) -> list[tuple[UnitId, Clamp]]:
    """Shrink raises, in place, until no sum of what devices may hold or are told now is over a
    limit that it was within, or further over one; the cuts by unit. `holds_kw` is the least and the
    most that each device may hold already."""
    cuts: list[tuple[UnitId, Clamp]] = []
    most_kw = {id_: max(each_kw, holds_kw[id_][1]) for id_, each_kw in powers_kw.items()}
    least_kw = {id_: min(each_kw, holds_kw[id_][0]) for id_, each_kw in powers_kw.items()}
    for feeder in feeders:
        limit = feeder.limit
        over_kw = sum(map(most_kw.__getitem__, feeder.units)) - limit.high_kw
        under_kw = limit.low_kw - sum(map(least_kw.__getitem__, feeder.units))
        for sign, beyond_kw in ((1, over_kw), (-1, under_kw)):
            if beyond_kw > CUT_KW:
                for unit, power_kw in _left_kw(feeder, sign, powers_kw, holds_kw).items():
                    text = f"{limit.detail}: {WAITS}"
                    cuts.append((unit, Clamp(limit.why, powers_kw[unit], power_kw, text)))
                    powers_kw[unit] = power_kw
                    most_kw[unit] = max(power_kw, holds_kw[unit][1])
                    least_kw[unit] = min(power_kw, holds_kw[unit][0])
    return cuts


def _left_kw(
    feeder: Feeder,
    sign: int,
    powers_kw: Mapping[UnitId, float],
    holds_kw: Mapping[UnitId, tuple[float, float]],
) -> dict[UnitId, float]:
    """What is left of each raise in this direction, all shrunk by the same share."""
    left_kw = feeder.limit.high_kw if sign > 0 else -feeder.limit.low_kw
    raises: dict[UnitId, tuple[float, float]] = {}
    for unit in feeder.units:
        to_kw = sign * powers_kw[unit]
        most_kw = holds_kw[unit][1] if sign > 0 else -holds_kw[unit][0]
        from_kw = max(most_kw, min(to_kw, 0.0))
        left_kw -= from_kw
        if to_kw - from_kw > CUT_KW:
            raises[unit] = from_kw, to_kw - from_kw
    by_kw = sum(raise_kw for _, raise_kw in raises.values())
    share = min(max(left_kw, 0.0) / by_kw, 1.0) if by_kw > 0.0 else 1.0
    return {unit: sign * (at_kw + share * raise_kw) for unit, (at_kw, raise_kw) in raises.items()}
