"""Limits as sums: intersect, clamp, ramp, fit, circle. Every limit holds 0, so no intersection is
empty, and every step only shrinks magnitude."""

import math
from collections.abc import Iterable, Sequence

from vppd.core.alarms import Code
from vppd.core.model import Clamp, Limit


def intersect(limits: Iterable[Limit], why: Code = Code.ROOM) -> Limit:
    """The range all limits leave; none given leaves nothing."""
    limits = tuple(limits)
    if not limits:
        return Limit(0.0, 0.0, why)
    return Limit(
        max(limit.low_kw for limit in limits),
        min(limit.high_kw for limit in limits),
        why,
        "",
        min(limit.apparent_kva for limit in limits),
    )


def clamp(power_kw: float, limits: Iterable[Limit]) -> tuple[float, tuple[Clamp, ...]]:
    """Bring power into every limit; name each limit that cut what was asked, the tightest last.

    The clamps are a chain: the first starts at what was asked, the last ends at what is left.
    Not a number counts as 0 kW and says so; no limit at all leaves nothing.
    """
    if not math.isfinite(power_kw):
        return 0.0, (Clamp(Code.NOT_FINITE, 0.0, 0.0, f"asked {power_kw}"),)
    cuts: list[tuple[float, Limit]] = []
    limit = None
    for limit in limits:
        if power_kw > limit.high_kw:
            cuts.append((limit.high_kw, limit))
        elif power_kw < limit.low_kw:
            cuts.append((limit.low_kw, limit))
    if limit is None:
        return 0.0, (Clamp(Code.ROOM, power_kw, 0.0, "no limit given"),)
    cuts.sort(key=lambda cut: -abs(cut[0]))
    clamps: list[Clamp] = []
    at_kw = power_kw
    for bound_kw, limit in cuts:
        clamps.append(Clamp(limit.why, at_kw, bound_kw, limit.detail))
        at_kw = bound_kw
    return at_kw, tuple(clamps)


def ramp(previous_kw: float, target_kw: float, step_kw: float) -> float:
    """Move towards the target: away from zero at most one step, back to zero at once."""
    if previous_kw * target_kw < 0.0:
        previous_kw = 0.0
    if abs(target_kw) <= abs(previous_kw):
        return target_kw
    return min(max(target_kw, previous_kw - step_kw), previous_kw + step_kw)


def slew(previous_kw: float, target_kw: float, step_kw: float) -> float:
    """Move towards the target by at most one step, up and down alike."""
    return min(max(target_kw, previous_kw - step_kw), previous_kw + step_kw)


def fit(powers_kw: Sequence[float], site: Limit) -> list[float]:
    """Shrink the units that push the sum out of the range, all by the same share."""
    out_kw = sum(power_kw for power_kw in powers_kw if power_kw > 0.0)
    in_kw = -sum(power_kw for power_kw in powers_kw if power_kw < 0.0)
    out_share = (site.high_kw + in_kw) / out_kw if out_kw - in_kw > site.high_kw else 1.0
    in_share = (out_kw - site.low_kw) / in_kw if out_kw - in_kw < site.low_kw else 1.0
    return [power_kw * (out_share if power_kw > 0.0 else in_share) for power_kw in powers_kw]


def fit_each_way(powers_kw: Sequence[float], site: Limit) -> list[float]:
    """Shrink so far that neither way needs the other to stay in the range."""
    out_kw = fit([max(power_kw, 0.0) for power_kw in powers_kw], site)
    in_kw = fit([min(power_kw, 0.0) for power_kw in powers_kw], site)
    return [one + other for one, other in zip(out_kw, in_kw, strict=True)]


def within_circle(power_kw: float, reactive_kvar: float, apparent_kva: float) -> float:
    """The reactive power that the apparent-power circle leaves beside this active power, kvar; or
    with the two exchanged, kW. Not a number counts as 0.
    """
    if not math.isfinite(reactive_kvar):
        return 0.0
    room_kvar = math.sqrt(max(apparent_kva * apparent_kva - power_kw * power_kw, 0.0))
    return min(max(reactive_kvar, -room_kvar), room_kvar)


def circle(
    power_kw: float, reactive_kvar: float, apparent_kva: float, *, reactive_first: bool
) -> tuple[float, float]:
    """Both powers brought into the apparent-power circle, kW and kvar: the first keeps what the
    circle holds of it, the other what is left beside it."""
    first, second = (reactive_kvar, power_kw) if reactive_first else (power_kw, reactive_kvar)
    first = within_circle(0.0, first, apparent_kva)
    second = within_circle(first, second, apparent_kva)
    return (second, first) if reactive_first else (first, second)


def kvar_at(power_kw: float, power_factor: float, *, lagging: bool) -> float:
    """The reactive power of a power factor (0 to 1, not 0) beside this active power, kvar.

    Lagging, as generators count it: it is given out, +; leading: taken in, -; whichever way the
    active power flows. |Q| = |P| x sqrt(1 - PF^2) / PF.
    """
    kvar = abs(power_kw) * math.sqrt(1.0 - power_factor * power_factor) / power_factor
    return kvar if lagging else -kvar
