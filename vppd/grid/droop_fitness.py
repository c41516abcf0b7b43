"""What of droop the units can give: faded near the limits of charge and temperature. Pure."""

import math
from collections.abc import Sequence
from operator import mul
from typing import NamedTuple

from vppd.core.alarms import Code
from vppd.core.asset import Asset
from vppd.core.measured import hottest_c, shows_soc, shows_temperature, worst_socs_pct
from vppd.core.model import Clamp, Snapshot
from vppd.core.settings import DroopSettings

CUT_KW = 1e-6


def cut(clamps: list[Clamp], why: Code, before_kw: float, after_kw: float) -> float:
    """What is left, its cut named where there is one."""
    if abs(before_kw - after_kw) > CUT_KW:
        clamps.append(Clamp(why, before_kw, after_kw))
    return after_kw


class Fitness(NamedTuple):
    """How much of one unit droop may use, 0 to 1: by state of charge each way, by temperature."""

    rated_kw: float
    soc_out_share: float = 1.0
    soc_in_share: float = 1.0
    temperature_share: float = 1.0

    def share(self, power_kw: float) -> float:
        """Of the unit's rating, for power in this direction."""
        return (
            self.soc_out_share if power_kw > 0.0 else self.soc_in_share
        ) * self.temperature_share


def fade(inside: float, span: float) -> float:
    """1 while a value is at least the span inside its limit, then a straight line to 0 at it."""
    return 1.0 if inside >= span else max(inside / span, 0.0)


def fitness(now: Snapshot, asset: Asset, droop: DroopSettings) -> Fitness:
    """One unit's fitness now; a value that may not be believed counts as none (the unit gives
    nothing at the gate either)."""
    safety = asset.safety
    soc_out_share = soc_in_share = warm_share = 1.0
    if droop.soc_adaptive and shows_soc(asset):
        low_pct, high_pct = worst_socs_pct(now, asset) or (-math.inf, math.inf)
        span_pct = droop.soc_adaptive_span_pct
        soc_out_share = fade(low_pct - safety.soc_min_pct, span_pct)
        soc_in_share = fade(safety.soc_max_pct - high_pct, span_pct)
    if droop.temperature_adaptive and shows_temperature(asset):
        hot_c = hottest_c(now, asset)
        span_c = droop.temperature_adaptive_span_c
        warm_share = 0.0 if hot_c is None else fade(safety.temperature_max_c - hot_c, span_c)
    return Fitness(asset.rated_kw, soc_out_share, soc_in_share, warm_share)


def adapted(asked_kw: float, fits: Sequence[Fitness], clamps: list[Clamp]) -> float:
    """Droop that the units' fitness leaves. A fit unit takes over from an unfit one: the fittest
    sets the share, and all together give no more than their fit ratings."""
    if not fits or asked_kw == 0.0:
        return asked_kw
    rated_kw, socs_out, socs_in, warms = zip(*fits, strict=True)
    socs_kw = list(map(mul, rated_kw, socs := socs_out if asked_kw > 0.0 else socs_in))
    left_kw = math.copysign(min(abs(asked_kw) * max(socs), sum(socs_kw)), asked_kw)
    asked_kw = cut(clamps, Code.DROOP_SOC, asked_kw, left_kw)
    fit_kw, warm = sum(map(mul, socs_kw, warms)), max(warms)
    left_kw = math.copysign(min(abs(asked_kw) * warm, fit_kw), asked_kw)
    return cut(clamps, Code.DROOP_TEMPERATURE, asked_kw, left_kw)
