"""What a site was ordered and what it delivered, over some time. Pure."""

from dataclasses import dataclass, replace

HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Tally:
    """Energies while an order was in force, kWh, + towards the grid. `unknown_s` of `ordered_s`
    nobody knows what was delivered."""

    since_s: float
    at_s: float
    ordered_kwh: float = 0.0
    delivered_kwh: float = 0.0
    ordered_s: float = 0.0
    unknown_s: float = 0.0
    orders: int = 0
    refused: int = 0


def begun(now_s: float) -> Tally:
    """Nothing yet."""
    return Tally(now_s, now_s)


def counted(
    tally: Tally, now_s: float, ordered_kw: float | None, delivered_kw: float | None
) -> Tally:
    """With the time until now, in which this was ordered (None: nothing) and measured."""
    took_s = max(now_s - tally.at_s, 0.0)
    tally = replace(tally, at_s=now_s)
    if ordered_kw is None:
        return tally
    known = delivered_kw is not None
    return replace(
        tally,
        ordered_s=tally.ordered_s + took_s,
        unknown_s=tally.unknown_s + (0.0 if known else took_s),
        ordered_kwh=tally.ordered_kwh + (ordered_kw * took_s / HOUR_S if known else 0.0),
        delivered_kwh=tally.delivered_kwh + (delivered_kw or 0.0) * took_s / HOUR_S,
    )
