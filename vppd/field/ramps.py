"""Ramps of one unit at the gate: limits too, from what its device acknowledged."""

import math
from collections.abc import Iterable

from vppd.core.alarms import Code
from vppd.core.envelope import ramp
from vppd.core.model import Limit, Request, Snapshot
from vppd.field.bounds import up_to
from vppd.field.standing import since_s
from vppd.field.ward import Ward


def ramps(now: Snapshot, unit: Ward, request: Request) -> Iterable[Limit]:
    """Away from 0 at most a step beyond what was acknowledged."""
    asked_kw = request.base_kw + request.frequency_kw
    if not math.isfinite(asked_kw):
        return
    base_kw = ramped_kw(now, unit, request)
    if base_kw != request.base_kw:
        yield up_to(base_kw + request.frequency_kw, asked_kw, Code.RAMP)
    device_ramp, acked = unit.asset.safety.device_ramp_kw_per_s, unit.standing.acked
    if device_ramp is not None:
        from_kw = acked.base_kw + acked.frequency_kw
        step_kw = device_ramp * since_s(now, acked)
        yield up_to(ramp(from_kw, asked_kw, step_kw), asked_kw, Code.DEVICE_RAMP)


def ramped_kw(now: Snapshot, unit: Ward, request: Request) -> float:
    """How much of the base asked the safety ramp has reached."""
    return ramp(unit.standing.acked.base_kw, request.base_kw, _step_kw(now, unit))


def reach_kw(now: Snapshot, unit: Ward) -> tuple[float, float]:
    """How far its ramp can take its base now, kW in and out."""
    base_kw, step_kw = unit.standing.acked.base_kw, _step_kw(now, unit)
    return max(-base_kw, 0.0) + step_kw, max(base_kw, 0.0) + step_kw


def _step_kw(now: Snapshot, unit: Ward) -> float:
    return unit.asset.safety.ramp_max_kw_per_s * since_s(now, unit.standing.acked)
