"""One unit at the gate: all that is remembered of it, and what follows from that. Decides nothing.

A device that the gate does not command gives what it likes: one that is only read, one that an
operator released, one that a rival won. What it measures counts at the connection.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from vppd.core.alarms import Code, Level
from vppd.core.asset import Asset
from vppd.core.model import SITE, Cleared, Limit, Outcome, Point, Snapshot, UnitState
from vppd.core.ports import Actuator
from vppd.field.audit import is_silence
from vppd.field.latches import Latches
from vppd.field.rule import Notes, Rule, Verdict
from vppd.field.standing import CUT_KW, Standing

MENDED = {  # the faults that a device latches by itself, and what shows them
    Code.DEVICE_FAULT: (Point.FAULT_BITS,),
    Code.INVERTER_FAULT: (Point.INVERTER_FAULT_BITS, Point.INVERTER_STATE),
}
MEND_S = 1.0  # a device that was told to reset its own faults shows it only so long after
REVERT_GRACE_S = 1.0  # beyond its own timer a lost unit may still do what it was told so long
POWERS = (Point.POWER_KW, Point.INVERTER_KW)
RAMPS = frozenset({Code.RAMP, Code.DEVICE_RAMP})


class Want(Enum):
    """What a device is to be, setpoints aside."""

    ON = "on"
    OFF = "off"
    RELEASED = "released"  # its own, and not written to


@dataclass(slots=True)
class Ward:
    """One unit at the gate, with all it remembers."""

    asset: Asset
    actuator: Actuator | None
    rules: tuple[Rule, ...]
    rating: Limit
    standing: Standing
    missing: set[Point]
    notes: dict[Code, Notes] = field(default_factory=dict)
    verdicts: tuple[Verdict, ...] = ()
    limits: tuple[Limit, ...] = ()
    room: Limit = field(default_factory=lambda: Limit(0.0, 0.0, Code.STARTING))
    told_kw: float = 0.0  # last
    want: Want | None = None  # None: its writer was not told yet
    pardoned_s: float = -math.inf  # when an operator reset it last

    def mending(self, verdict: Verdict, now: Snapshot) -> bool:
        """Whether what was read of a device's faults is older than its own reset: it holds the
        unit at 0, but it does not latch again what an operator has just reset."""
        read = (now.readings.get((self.asset.id, p)) for p in MENDED.get(verdict.rule, ()))
        read_s = [reading.at_s for reading in read if reading is not None]
        return bool(read_s) and max(read_s) < self.pardoned_s + MEND_S


def want(ward: Ward, latches: Latches) -> Want:
    """What a unit is to be now. A released one stays so but for a trip, which stops everything; a
    rival is no reason to take it back."""
    latched = latches.trips(ward.asset)
    tripping = any(verdict.trips for verdict in ward.verdicts)
    if latches.released(ward.asset.id) is not None:
        tripped = tripping or any(latch.code is not Code.RIVAL for latch in latched)
        return Want.OFF if tripped else Want.RELEASED
    held = tripping or latched or latches.disabled(ward.asset.id)
    return Want.OFF if held else Want.ON


def limits_of(
    ward: Ward, latches: Latches, silent: Mapping[str, Sequence[Limit]], *, stopping: bool
) -> Iterable[Limit]:
    """All that limits a unit now, ramps aside. `silent` are hardware interlocks that do not answer,
    by scope."""
    asset, standing = ward.asset, ward.standing
    yield ward.rating
    for verdict in ward.verdicts:
        if verdict.limit is not None:
            yield verdict.limit
    if ward.missing:
        yield Limit(0.0, 0.0, Code.STARTING, "waits for " + ", ".join(sorted(ward.missing)))
    yield from _latched(asset, latches)
    if asset.read_only:
        yield Limit(0.0, 0.0, Code.READ_ONLY)
    if standing.up is False:
        yield Limit(0.0, 0.0, Code.LINK_LOST, "does not answer")
    if standing.off:
        yield Limit(0.0, 0.0, Code.DEVICE_DISABLED, standing.off)
    if silent:
        for scope in (SITE, asset.building, asset.id):
            yield from silent.get(scope, ())
    if stopping:
        yield Limit(0.0, 0.0, Code.STOPPING)


def _latched(asset: Asset, latches: Latches) -> Iterable[Limit]:
    for latch in latches.trips(asset):
        yield Limit(0.0, 0.0, latch.code, latch.text)
    if latches.disabled(asset.id):
        yield Limit(0.0, 0.0, Code.DISABLED)
    if (released := latches.released(asset.id)) is not None:
        yield Limit(0.0, 0.0, Code.RELEASED, released.text)


def ghost_kw(ward: Ward, now: Snapshot, latches: Latches) -> tuple[float, float] | None:
    """The least and the most that a unit may give beyond what it is told, kW: one that is not
    commanded, or has gone silent. None: it does as it is told."""
    standing = ward.standing
    rival = any(latch.code is Code.RIVAL for latch in latches.trips(ward.asset))
    if ward.asset.read_only or standing.released or standing.yields or rival:
        return _own_kw(ward, now, rival=rival or standing.yields)
    known_kw, told = _measured_kw(ward, now), standing.held_s > -math.inf
    if told and standing.up is not False and known_kw and _strays(ward):
        beyond_kw = [power_kw - ward.told_kw for power_kw in known_kw]
        return min(0.0, *beyond_kw), max(0.0, *beyond_kw)
    refuses = standing.outcome is Outcome.REFUSED and bool(latches.trips(ward.asset))
    if told and standing.up is not False and known_kw and not refuses:
        return None
    # lost, never yet told anything, or tripped and refusing the 0:
    # what another device of the unit measures is given
    if not told and (set_kw := now.fresh(ward.asset.id, Point.SETPOINT_KW)) is not None:
        known_kw.append(set_kw)  # what somebody told it before: it may be on its way there
    heard_s = max(standing.held_s, standing.down_s)  # what was lost it may have heard at its end
    reverted_s = heard_s + ward.asset.revert_s + REVERT_GRACE_S
    if not ward.asset.reverts or now.now_s < reverted_s:
        known_kw += standing.held_kw
    return min([0.0, *known_kw]), max([0.0, *known_kw])


def _strays(ward: Ward) -> bool:
    """Whether it gives more than its device holds, though it answers."""
    return any(
        verdict.rule is Code.NOT_FOLLOWING and verdict.level is Level.CRITICAL
        for verdict in ward.verdicts
    )


def holds_kw(ward: Ward, ghost: tuple[float, float] | None) -> tuple[float, float]:
    """The least and the most that its setpoint may be, kW, as far as `ghost`, what it may be giving
    beyond what it is told, does not count it already."""
    if ghost is None:
        return ward.standing.may_kw
    low_kw, high_kw = ward.standing.offered_kw
    return low_kw - ghost[0], high_kw - ghost[1]


def state_of(ward: Ward, cleared: Cleared, latches: Latches) -> UnitState:
    """A unit in one word."""
    if latches.trips(ward.asset):
        return UnitState.TRIPPED
    if latches.disabled(ward.asset.id) or latches.released(ward.asset.id) is not None:
        return UnitState.DISABLED
    if ward.standing.up is False:
        return UnitState.LOST
    if ward.missing:
        return UnitState.STARTING
    if any(is_silence(verdict) for verdict in ward.verdicts):
        return UnitState.LOST
    if any(verdict.rule is Code.RETURNING for verdict in ward.verdicts):
        return UnitState.STARTING
    got_kw, cut = abs(cleared.power_kw), not set(cleared.bound_by) <= RAMPS
    if (ward.room.low_kw == 0.0 and ward.room.high_kw == 0.0) or (cut and got_kw <= CUT_KW):
        return UnitState.STOPPED
    if cut:
        return UnitState.LIMITED
    return UnitState.RUNNING if got_kw > CUT_KW else UnitState.READY


def _own_kw(ward: Ward, now: Snapshot, *, rival: bool) -> tuple[float, float]:
    """What a device that is not commanded gives: measured, else what the rival set, else all."""
    known_kw = _measured_kw(ward, now)
    if not known_kw and rival:
        set_kw = now.fresh(ward.asset.id, Point.SETPOINT_KW)
        known_kw = [] if set_kw is None else [set_kw]
    rated_kw = ward.asset.rated_kw
    known_kw = known_kw or [-rated_kw, rated_kw]
    return min(0.0, *known_kw), max(0.0, *known_kw)


def _measured_kw(ward: Ward, now: Snapshot) -> list[float]:
    """Its power as every device of it measures it."""
    values = (now.fresh(ward.asset.id, point) for point in POWERS)
    return [value for value in values if value is not None]
