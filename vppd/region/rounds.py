"""Which order is due for a site, and what a site that refuses is asked. Pure."""

import math
from dataclasses import dataclass
from enum import StrEnum

from vppd.core.settings_aggregator import AggregatorSettings
from vppd.region.roster import Answer

RENEW_SHARE = 0.5  # of an order's time
ANYTHING_KW = 1e-6


class Fate(StrEnum):
    """What became of an order."""

    SENT = "sent"  # and not answered
    ACCEPTED = "accepted"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Ordered:
    """The newest order of a site."""

    id: str
    power_kw: float
    at_s: float
    ends_s: float
    fate: Fate = Fate.SENT


@dataclass(frozen=True, slots=True)
class Cap:
    """What a site takes orders for, kW either way, until a moment: it refused more."""

    out_kw: float
    in_kw: float
    until_s: float
    text: str


def due(
    wanted_kw: float | None,
    last: Ordered | None,
    now_s: float,
    rated_kw: float,
    settings: AggregatorSettings,
) -> bool:
    """Whether a site is to be ordered now. `wanted_kw` None: nobody wants anything of it, and what
    it was ordered ends by itself."""
    if wanted_kw is None:
        return False
    if last is None or now_s >= last.ends_s:
        return True
    if now_s - last.at_s < settings.period_s:
        return False
    if last.fate is not Fate.ACCEPTED:
        return True
    moved_kw = abs(wanted_kw - last.power_kw)
    stops = wanted_kw == 0.0 and moved_kw > ANYTHING_KW
    if stops or moved_kw > rated_kw * settings.step_pct / 100.0:
        return True
    return now_s - last.at_s >= RENEW_SHARE * settings.order_valid_s


def cap_of(
    answer: Answer, order: Ordered, now_s: float, settings: AggregatorSettings
) -> Cap | None:
    """What a refusal leaves: the range the site names; where it names none, nothing that way.
    None: it was refused for another reason than its power."""
    if answer.accepted or answer.reason != "out_of_range":
        return None
    out_kw = in_kw = math.inf
    if answer.high_kw is not None and answer.low_kw is not None:
        out_kw, in_kw = max(answer.high_kw, 0.0), max(-answer.low_kw, 0.0)
    elif order.power_kw >= 0.0:
        out_kw = 0.0
    else:
        in_kw = 0.0
    return Cap(out_kw, in_kw, now_s + settings.refused_s, answer.text)
