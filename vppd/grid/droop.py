"""What the frequency asks of the site: the droop curve, its damping, and everything that adapts it.

    owed  = the curve, and the fast response's block beside it
    asked = owed, held back after a reversal, handed back after its sustain time, damped by ROCOF,
            adapted, then ramped

`curve_kw` is the plain curve, `owed_kw` the same with the block, neither adapted; each difference
between owed and asked is a named clamp. Power is kW, positive towards the grid: a low frequency
asks for discharge. Pure; what it remembers goes in and comes out.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from vppd.core.alarms import Code
from vppd.core.envelope import slew
from vppd.core.model import Clamp, Limit
from vppd.core.settings import DroopSettings
from vppd.core.settings_response import FfrSettings
from vppd.grid.droop_curve import curve_kw, max_of, ramp_of, side_of, stepped_now
from vppd.grid.droop_ffr import FfrMemory, combined, respond
from vppd.grid.droop_fitness import CUT_KW, Fitness, adapted, cut
from vppd.grid.droop_sustain import Sustained, sustained
from vppd.grid.frequency import Frequency

DT_MAX_S = 0.2  # no memory counts more elapsed time than this in one tick
ROCOF_GAP_S = 1.0  # no rate of change over a longer gap
NO_FFR = FfrSettings()


@dataclass(frozen=True, slots=True)
class DroopMemory:
    """What droop remembers between ticks."""

    now_s: float = 0.0
    active: int = 0  # the side answered: +1 discharge, -1 charge, 0 inside the deadband
    began_s: float = -math.inf  # since when that side is answered
    last_side: int = 0  # the side answered last, and when that ended
    left_s: float = -math.inf
    stepped: int = 0  # the side on which the step is given
    source: str = ""  # of the frequency seen last
    seen_hz: float = 0.0
    seen_s: float = 0.0
    rocof_hz_per_s: float = 0.0
    lost_s: float | None = None  # since when no frequency is believed
    held_kw: float = 0.0  # what was asked when it was lost
    asked_kw: float = 0.0
    arrived: bool = False  # the ramp was at what it went for
    sustained: Sustained = field(default_factory=Sustained)
    ffr: FfrMemory = field(default_factory=FfrMemory)


@dataclass(frozen=True, slots=True)
class DroopAnswer:
    """What the grid is owed now, and what is asked of the units for it."""

    owed_kw: float
    asked_kw: float
    clamps: tuple[Clamp, ...]
    rocof_hz_per_s: float
    memory: DroopMemory
    curve_kw: float = 0.0  # the plain curve
    ffr_kw: float = 0.0  # the block of fast response


def answer(
    frequency: Frequency | None,
    droop: DroopSettings,
    max_kw: float,
    fits: Callable[[], Sequence[Fitness]],
    room: Limit,
    now_s: float,
    memory: DroopMemory,
    ffr: FfrSettings = NO_FFR,
) -> DroopAnswer:
    """One tick of droop. `max_kw` is P_max, `room` what the connection leaves beside the base. How
    fit the units are is asked only where there is something to adapt."""
    dt_s = min(max(now_s - memory.now_s, 0.0), DT_MAX_S)
    step_kw = ramp_of(droop, max_kw) * dt_s
    memory = replace(memory, now_s=now_s)
    if frequency is None:
        return _without(droop, room, step_kw, now_s, memory)
    memory = _filtered(frequency, droop, memory)
    seen_hz, rocof_hz_per_s = frequency.frequency_hz, memory.rocof_hz_per_s
    side = side_of(seen_hz, droop, memory.active)
    most_kw = max_of(side, droop, max_kw)
    stepped = stepped_now(seen_hz, side, droop, memory.stepped)
    plain_kw = curve_kw(seen_hz, side, droop, max_kw, stepped=stepped != 0)
    block_kw, fast = respond(seen_hz, side, rocof_hz_per_s, ffr, most_kw, now_s, memory.ffr)
    memory = replace(memory, stepped=stepped, ffr=fast)
    owed_kw = combined(plain_kw, block_kw, ffr)
    clamps: list[Clamp] = []
    if side != 0 and abs(plain_kw) >= most_kw:
        clamps.append(Clamp(Code.DROOP_SATURATED, owed_kw, owed_kw))
    if block_kw != 0.0:
        clamps.append(Clamp(Code.FFR, owed_kw, owed_kw, f"a block of {block_kw:+.1f} kW"))

    def part(why: Code, before_kw: float, after_kw: float) -> float:
        """Cut droop, and name what that cuts of both."""
        both_kw = combined(before_kw, block_kw, ffr), combined(after_kw, block_kw, ffr)
        cut(clamps, why, *both_kw)
        return after_kw

    asked_kw = plain_kw
    memory, held = _sided(side, droop, now_s, memory)
    if held:
        asked_kw = part(Code.DROOP_DEADBAND_HOLD, asked_kw, 0.0)
    if not droop.enabled:
        asked_kw = part(Code.DROOP_OFF, asked_kw, 0.0)
    lasting = sustained(
        seen_hz, memory.active, droop, dt_s, memory.sustained, arrived=memory.arrived
    )
    asked_kw = part(Code.DROOP_HANDBACK, asked_kw, asked_kw * lasting.kept_share)
    damped_kw = _damped(asked_kw, rocof_hz_per_s, droop, most_kw)
    asked_kw = part(Code.DROOP_DAMPING, asked_kw, damped_kw)
    asked_kw = combined(asked_kw, block_kw, ffr)
    if asked_kw != 0.0:
        asked_kw = adapted(asked_kw, fits(), clamps)
    within_kw = min(max(asked_kw, room.low_kw), room.high_kw)
    asked_kw = cut(clamps, Code.DROOP_LOAD, asked_kw, within_kw)
    step_kw += abs(block_kw) / ffr.full_s * dt_s
    ramped_kw = slew(memory.asked_kw, asked_kw, step_kw)
    arrived = abs(asked_kw - ramped_kw) <= CUT_KW
    asked_kw = cut(clamps, Code.DROOP_RAMP, asked_kw, ramped_kw)
    memory = replace(
        memory, asked_kw=asked_kw, held_kw=asked_kw, arrived=arrived, sustained=lasting
    )
    made = tuple(clamps)
    return DroopAnswer(owed_kw, asked_kw, made, rocof_hz_per_s, memory, plain_kw, block_kw)


def silenced(
    frequency: Frequency | None,
    droop: DroopSettings,
    max_kw: float,
    now_s: float,
    memory: DroopMemory,
    why: Code,
    text: str = "",
    step_kw: float = math.inf,
) -> DroopAnswer:
    """Nothing is asked and nothing is held: the bus is dead, or the site has to cease. What was
    asked goes to 0 by `step_kw` a tick. With a believed frequency the curve is still owed."""
    plain_kw = 0.0
    if frequency is not None:
        side = side_of(frequency.frequency_hz, droop, memory.active)
        stepped = stepped_now(frequency.frequency_hz, side, droop, memory.stepped)
        plain_kw = curve_kw(frequency.frequency_hz, side, droop, max_kw, stepped=stepped != 0)
    before_kw = plain_kw if frequency is not None else memory.asked_kw
    asked_kw = slew(memory.asked_kw, 0.0, step_kw)
    clamps = (Clamp(why, before_kw, asked_kw, text),)
    after = DroopMemory(now_s, asked_kw=asked_kw)
    return DroopAnswer(plain_kw, asked_kw, clamps, 0.0, after, plain_kw)


def _sided(
    side: int, droop: DroopSettings, now_s: float, memory: DroopMemory
) -> tuple[DroopMemory, bool]:
    """Note the side that is answered now, and whether it is held back: no answer the other way so
    soon."""
    if memory.active not in {side, 0}:
        memory = replace(memory, last_side=memory.active, left_s=now_s)
    held = now_s - memory.left_s < droop.reversal_hold_s and side == -memory.last_side
    active = 0 if held else side
    if active != memory.active:
        memory = replace(memory, active=active, began_s=now_s)
    return replace(memory, lost_s=None), held and side != 0


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
