"""Which order is due for a site, and what a site that refuses is asked. Pure."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from vppd.core.model import SITE, Plan, UnitId
from vppd.core.settings_aggregator import AggregatorSettings
from vppd.region.roster import Answer

FENCED = "replayed"  # a newer term than ours has ordered the site
# Of a site that refuses for another reason than the power, which may be over at once, so many.
REFUSED_IN_A_ROW = 3
# An answer may take so long, beyond it the order is taken for lost. The gate knows for 25 s what it
# cleared.
ANSWER_MAX_S = 20.0
RENEW_SHARE = 0.5  # of an order's time
ANYTHING_KW = 1e-6
LONGER_S = 1.0  # for less an order is not renewed


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
    cleared_s: float = 0.0  # when the gate cleared it


@dataclass(frozen=True, slots=True)
class Cap:
    """What a site takes orders for, kW either way, until a moment: it refused more."""

    out_kw: float
    in_kw: float
    until_s: float
    text: str


@dataclass(frozen=True, slots=True)
class Spell:
    """Since when something is planned without a break, and until when it is."""

    since_s: float
    until_s: float


def spells(plans: Iterable[Plan]) -> dict[UnitId, Spell]:
    """Of the plans that live, those of the whole and those of single sites."""
    found: dict[UnitId, Spell] = {}
    for plan in plans:
        before = found.get(plan.unit, Spell(math.inf, -math.inf))
        since_s = min(before.since_s, plan.issued_s)
        found[plan.unit] = Spell(since_s, max(before.until_s, plan.valid_until_s))
    return found


def spell_of(site: UnitId, found: Mapping[UnitId, Spell]) -> Spell | None:
    """In which this site has a part."""
    own, whole = found.get(site), found.get(SITE)
    if own is None or whole is None:
        return own or whole
    return Spell(own.since_s, max(own.until_s, whole.until_s))


def due(
    wanted_kw: float | None,
    last: Ordered | None,
    now_s: float,
    rated_kw: float,
    settings: AggregatorSettings,
    until_s: float = math.inf,
) -> bool:
    """Whether a site is to be ordered now. `wanted_kw` None: nobody wants anything of it, and what
    it was ordered ends by itself. `until_s`: when an order of now would end."""
    if wanted_kw is None:
        return False
    if last is None or now_s >= last.ends_s:
        return True
    moved_kw = abs(wanted_kw - last.power_kw)
    if wanted_kw == 0.0 and moved_kw > ANYTHING_KW:
        return True  # a stop waits for no period
    if now_s - last.at_s < settings.period_s:
        return False
    if last.fate is not Fate.ACCEPTED:
        return True
    if moved_kw > rated_kw * settings.step_pct / 100.0:
        return True
    left_s = last.ends_s - now_s
    return left_s <= RENEW_SHARE * settings.order_valid_s and until_s - last.ends_s > LONGER_S


def unanswered_s(settings: AggregatorSettings) -> float:
    """After how long without an answer an order is taken for lost."""
    return min(settings.order_valid_s, ANSWER_MAX_S)


def cap_of(
    answer: Answer, order: Ordered, now_s: float, settings: AggregatorSettings, in_a_row: int = 1
) -> Cap | None:
    """What a refusal leaves: the range the site names; where it names none, nothing that way; and
    nothing at all of a site that refused so many orders in a row for another reason. None: it may
    take the next, or it is another's."""
    if answer.accepted or answer.reason == FENCED:
        return None
    out_kw = in_kw = math.inf
    if answer.reason != "out_of_range":
        if in_a_row < REFUSED_IN_A_ROW:
            return None
        out_kw = in_kw = 0.0
    elif answer.high_kw is not None and answer.low_kw is not None:
        out_kw, in_kw = max(answer.high_kw, 0.0), max(-answer.low_kw, 0.0)
    elif order.power_kw >= 0.0:
        out_kw = 0.0
    else:
        in_kw = 0.0
    return Cap(out_kw, in_kw, now_s + settings.refused_s, answer.text)
