"""Limits as the gate words them: how far a ramp reached, who bounds without cutting, who shuts."""

import math
from collections.abc import Iterable

from vppd.core.alarms import Code
from vppd.core.model import Clamp, Limit
from vppd.field.feeders import CUT_KW


def up_to(reached_kw: float, asked_kw: float, why: Code) -> Limit:
    """A limit that ends at what a ramp reached, in the direction asked, and never past zero."""
    if asked_kw >= 0.0:
        return Limit(-math.inf, max(min(reached_kw, asked_kw), 0.0), why)
    return Limit(min(max(reached_kw, asked_kw), 0.0), math.inf, why)


def spared(asked_kw: float, towards_kw: float, limits: Iterable[Limit]) -> Iterable[Clamp]:
    """Who bounds a unit that was asked for no more than its room, because that was known and the
    others took the rest of its share. Nothing is cut here, so power stays as it is."""
    for limit in limits:
        bound_kw = limit.high_kw if towards_kw > 0.0 else limit.low_kw
        at_bound = towards_kw != 0.0 and abs(bound_kw) - abs(asked_kw) <= CUT_KW
        if (at_bound or limit.low_kw == limit.high_kw) and limit.why is not Code.RATING:
            yield Clamp(limit.why, asked_kw, asked_kw, limit.detail)


def shutter(limits: Iterable[Limit]) -> Code:
    """Who leaves nothing: one limit alone, else the first that leaves nothing one way."""
    shutting = [limit for limit in limits if 0.0 in (limit.low_kw, limit.high_kw)]
    return max(shutting, key=lambda limit: limit.low_kw == limit.high_kw).why
