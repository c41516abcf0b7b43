"""What the frequency asks of the site: the droop curve, its damping, and everything that adapts it.

    owed  = -(P_max / droop) x (df / f_nominal), 0 inside the deadband, never beyond P_max
    asked = owed, held back after a reversal, damped by ROCOF, adapted, then ramped

`owed` is the unadapted curve; each difference between owed and asked is a named clamp. Power is kW,
positive towards the grid: a low frequency asks for discharge. Pure; what it remembers goes in and
comes out. Source of the formula: IEGC droop as the design page gives it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from vppd.core.alarms import Code
from vppd.core.asset import Asset
from vppd.core.envelope import slew
from vppd.core.measured import hottest_c, shows_soc, shows_temperature, worst_socs_pct
from vppd.core.model import Clamp, Limit, Snapshot
from vppd.core.settings import DroopSettings
from vppd.grid.frequency import Frequency

DT_MAX_S = 0.2  # no memory counts more elapsed time than this in one tick
ROCOF_GAP_S = 1.0  # no rate of change over a longer gap
CUT_KW = 1e-6


@dataclass(frozen=True, slots=True)
class DroopMemory:
    """What droop remembers between ticks."""

    now_s: float = 0.0
    active: int = 0  # the side answered: +1 discharge, -1 charge, 0 inside the deadband
    last_side: int = 0  # the side answered last, and when that ended
    left_s: float = -math.inf
    source: str = ""  # of the frequency seen last
    seen_hz: float = 0.0
    seen_s: float = 0.0
    rocof_hz_per_s: float = 0.0
    lost_s: float | None = None  # since when no frequency is believed
    held_kw: float = 0.0  # what was asked when it was lost
    asked_kw: float = 0.0


@dataclass(frozen=True, slots=True)
class DroopAnswer:
    """What the grid is owed now, and what is asked of the units for it."""

    owed_kw: float
    asked_kw: float
    clamps: tuple[Clamp, ...]
    rocof_hz_per_s: float
    memory: DroopMemory


def curve_kw(frequency_hz: float, side: int, droop: DroopSettings, max_kw: float) -> float:
    """The curve on the side answered (+1 low frequency, -1 high, 0 none), unsaturated sums cut at
    P_max. Counted from nominal it steps at the edge of the deadband, from the edge it does not."""
    if side == 0:
        return 0.0
    if droop.reference == "nominal":
        from_hz = droop.nominal_hz
    else:
        from_hz = droop.deadband_low_hz if side > 0 else droop.deadband_high_hz
    power_kw = -max_kw / (droop.droop_pct / 100.0) * (frequency_hz - from_hz) / droop.nominal_hz
    return min(max(power_kw, 0.0), max_kw) if side > 0 else max(min(power_kw, 0.0), -max_kw)


def side_of(frequency_hz: float, droop: DroopSettings, active: int) -> int:
    """Which side is answered. A side once answered is left only the re-entry hysteresis inside the
    deadband, so that a curve that steps at its edge does not chatter."""
    inside_hz = droop.reentry_hysteresis_hz if droop.reference == "nominal" else 0.0
    if frequency_hz < droop.deadband_low_hz + (inside_hz if active > 0 else 0.0):
        return 1
    if frequency_hz > droop.deadband_high_hz - (inside_hz if active < 0 else 0.0):
        return -1
    return 0


def answer(
    frequency: Frequency | None,
    droop: DroopSettings,
    max_kw: float,
    fits: Sequence["Fitness"],
    room: Limit,
    now_s: float,
    memory: DroopMemory,
) -> DroopAnswer:
    """One tick of droop. `max_kw` is P_max, `room` what the connection leaves beside the base."""
    dt_s = min(max(now_s - memory.now_s, 0.0), DT_MAX_S)
    step_kw = (droop.ramp_kw_per_s or max_kw) * dt_s
    memory = replace(memory, now_s=now_s)
    if frequency is None:
        return _without(droop, room, step_kw, now_s, memory)
    memory = _filtered(frequency, droop, memory)
    side = side_of(frequency.frequency_hz, droop, memory.active)
    owed_kw = curve_kw(frequency.frequency_hz, side, droop, max_kw)
    clamps: list[Clamp] = []
    asked_kw = owed_kw
    if abs(owed_kw) >= max_kw:
        clamps.append(Clamp(Code.DROOP_SATURATED, owed_kw, owed_kw))
    if memory.active not in {side, 0}:
        memory = replace(memory, last_side=memory.active, left_s=now_s)
    held = now_s - memory.left_s < droop.reversal_hold_s and side == -memory.last_side
    if held and side != 0:
        asked_kw = _cut(clamps, Code.DROOP_DEADBAND_HOLD, asked_kw, 0.0)
    memory = replace(memory, active=0 if held else side, lost_s=None)
    if not droop.enabled:
        asked_kw = _cut(clamps, Code.DROOP_OFF, asked_kw, 0.0)
    damped_kw = _damped(asked_kw, memory.rocof_hz_per_s, droop, max_kw)
    asked_kw = _cut(clamps, Code.DROOP_DAMPING, asked_kw, damped_kw)
    asked_kw = adapted(asked_kw, fits, clamps)
    within_kw = min(max(asked_kw, room.low_kw), room.high_kw)
    asked_kw = _cut(clamps, Code.DROOP_LOAD, asked_kw, within_kw)
    ramped_kw = slew(memory.asked_kw, asked_kw, step_kw)
    asked_kw = _cut(clamps, Code.DROOP_RAMP, asked_kw, ramped_kw)
    memory = replace(memory, asked_kw=asked_kw, held_kw=asked_kw)
    return DroopAnswer(owed_kw, asked_kw, tuple(clamps), memory.rocof_hz_per_s, memory)


def _damped(asked_kw: float, rocof_hz_per_s: float, droop: DroopSettings, max_kw: float) -> float:
    """Damping by ROCOF: nothing inside the deadband, never the other way, never beyond P_max."""
    damped_kw = asked_kw - droop.rocof_gain_pu_per_hz_per_s * max_kw * rocof_hz_per_s
    if asked_kw > 0.0:
        return min(max(damped_kw, 0.0), max_kw)
    return max(min(damped_kw, 0.0), -max_kw) if asked_kw < 0.0 else 0.0


def _without(
    droop: DroopSettings, room: Limit, step_kw: float, now_s: float, memory: DroopMemory
) -> DroopAnswer:
    """No believed frequency: hold what was asked, then fade it to nothing. Nothing is owed."""
    lost_s = memory.lost_s if memory.lost_s is not None else now_s
    fading_s = now_s - lost_s - droop.hold_s
    share = 1.0 if fading_s <= 0.0 else max(1.0 - fading_s / droop.fade_s, 0.0)
    target_kw = memory.held_kw * share if droop.enabled else 0.0
    target_kw = min(max(target_kw, room.low_kw), room.high_kw)
    asked_kw = slew(memory.asked_kw, target_kw, step_kw)
    clamps = (Clamp(Code.FREQUENCY_LOST, memory.held_kw, asked_kw),) if memory.held_kw else ()
    active = memory.active if share > 0.0 else 0
    memory = replace(
        memory, lost_s=lost_s, asked_kw=asked_kw, active=active, source="", rocof_hz_per_s=0.0
    )
    return DroopAnswer(0.0, asked_kw, clamps, 0.0, memory)


def _filtered(frequency: Frequency, droop: DroopSettings, memory: DroopMemory) -> DroopMemory:
    """First-order filter of df/dt between readings of the site clock; a new source starts anew."""
    dt_s = frequency.at_s - memory.seen_s
    seen = replace(
        memory,
        source=frequency.source,
        seen_hz=frequency.frequency_hz,
        seen_s=frequency.at_s,
        rocof_hz_per_s=0.0,
    )
    if memory.source != frequency.source or dt_s > ROCOF_GAP_S:
        return seen
    if dt_s <= 0.0:
        return memory
    raw = (frequency.frequency_hz - memory.seen_hz) / dt_s
    weight = 1.0 - math.exp(-dt_s / droop.rocof_filter_s)
    rocof = memory.rocof_hz_per_s + weight * (raw - memory.rocof_hz_per_s)
    return replace(seen, rocof_hz_per_s=rocof)


def _cut(clamps: list[Clamp], why: Code, before_kw: float, after_kw: float) -> float:
    if abs(before_kw - after_kw) > CUT_KW:
        clamps.append(Clamp(why, before_kw, after_kw))
    return after_kw


@dataclass(frozen=True, slots=True)
class Fitness:
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
    return min(max(inside / span, 0.0), 1.0)


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
    out = asked_kw > 0.0
    socs = [fit.soc_out_share if out else fit.soc_in_share for fit in fits]
    fit_kw = sum(fit.rated_kw * soc for fit, soc in zip(fits, socs, strict=True))
    left_kw = math.copysign(min(abs(asked_kw) * max(socs), fit_kw), asked_kw)
    asked_kw = _cut(clamps, Code.DROOP_SOC, asked_kw, left_kw)
    fit_kw = sum(fit.rated_kw * fit.share(asked_kw) for fit in fits)
    warm = max(fit.temperature_share for fit in fits)
    left_kw = math.copysign(min(abs(asked_kw) * warm, fit_kw), asked_kw)
    return _cut(clamps, Code.DROOP_TEMPERATURE, asked_kw, left_kw)
