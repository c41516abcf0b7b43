"""Fast frequency response: a block of power at a trigger, held, ramped back, then armed anew.

Pure; what it remembers goes in and comes out. kW, positive towards the grid.
"""

import math
from dataclasses import dataclass, replace

from vppd.core.settings_response import FfrSettings


@dataclass(frozen=True, slots=True)
class FfrMemory:
    """The side that triggered last (+1 low frequency, -1 high, 0 armed on both), and when."""

    side: int = 0
    began_s: float = -math.inf  # -inf: over, and not armed again yet
    inside_s: float | None = None  # since when the frequency is back in the deadband


def respond(
    frequency_hz: float,
    side: int,
    rocof_hz_per_s: float,
    ffr: FfrSettings,
    max_kw: float,
    now_s: float,
    memory: FfrMemory,
) -> tuple[float, FfrMemory]:
    """What the product owes now, kW. `side` is the one that droop sees, `max_kw` the block where
    none is configured."""
    if not ffr.enabled:
        return 0.0, FfrMemory()
    trigger = triggered(frequency_hz, side, rocof_hz_per_s, ffr)
    if trigger not in {0, memory.side}:
        memory = FfrMemory(trigger, now_s)
    if memory.side != 0 and side == -memory.side and trigger != memory.side:
        memory = replace(memory, began_s=-math.inf)  # the need is now the other way
    power_kw = memory.side * (ffr.power_kw or max_kw) * _share(now_s - memory.began_s, ffr)
    inside_s = None
    if side == 0 and trigger == 0:
        inside_s = memory.inside_s if memory.inside_s is not None else now_s
    memory = replace(memory, inside_s=inside_s)
    if power_kw == 0.0 and inside_s is not None and now_s - inside_s >= ffr.rearm_s:
        memory = FfrMemory()
    return power_kw, memory


def triggered(frequency_hz: float, side: int, rocof_hz_per_s: float, ffr: FfrSettings) -> int:
    """The side whose trigger stands now: by frequency, or by how fast it leaves the deadband."""
    if ffr.trigger_low_hz is not None and frequency_hz <= ffr.trigger_low_hz:
        return 1
    if ffr.trigger_high_hz is not None and frequency_hz >= ffr.trigger_high_hz:
        return -1
    fast = ffr.trigger_rocof_hz_per_s
    if fast is not None and side != 0 and -side * rocof_hz_per_s >= fast:
        return side
    return 0


def combined(droop_kw: float, ffr_kw: float, ffr: FfrSettings) -> float:
    """Both as configured: the larger in the direction of the block, or their sum."""
    if ffr_kw == 0.0:
        return droop_kw
    if ffr.with_droop == "sum":
        return droop_kw + ffr_kw
    return max(droop_kw, ffr_kw) if ffr_kw > 0.0 else min(droop_kw, ffr_kw)


def _share(for_s: float, ffr: FfrSettings) -> float:
    """Of the block, so long after the trigger: whole, then a straight line to nothing."""
    over_s = for_s - ffr.duration_s
    if over_s < 0.0:
        return 1.0
    return max(1.0 - over_s / ffr.recovery_s, 0.0) if ffr.recovery_s > 0.0 else 0.0
