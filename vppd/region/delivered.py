"""What a site was ordered and what it delivered, over some time. Pure."""

import json
from dataclasses import dataclass, replace
from datetime import datetime

from vppd.core.alarms import Code, Level
from vppd.core.records import EventRow

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


def row_of(tally: Tally, site: str, at: datetime) -> EventRow | None:
    """It for the journal; None: nothing was ordered."""
    if tally.orders == 0 and tally.ordered_s == 0.0:
        return None
    text = (
        f"ordered {tally.ordered_kwh:+.2f} kWh, delivered {tally.delivered_kwh:+.2f} kWh"
        f" in {tally.ordered_s:.0f} s, {tally.orders} orders, {tally.refused} refused"
    )
    data = {
        "ordered_kwh": round(tally.ordered_kwh, 4),
        "delivered_kwh": round(tally.delivered_kwh, 4),
        "ordered_s": round(tally.ordered_s, 1),
        "unknown_s": round(tally.unknown_s, 1),
        "orders": tally.orders,
        "refused": tally.refused,
    }
    return EventRow(at, Code.DELIVERED, site, Level.INFO, text, json.dumps(data))
