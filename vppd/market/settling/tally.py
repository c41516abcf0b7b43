"""What a site did in one block, summed up tick by tick, and why it was not what was sold. Pure.

Power is cut into parts that add up: what was scheduled, what the base plan asked beside it and for
whom, what ramps and limits kept back, what droop gave. All are kW at the connection while they come
in, MWh when they go out; positive is towards the grid.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from vppd.core.alarms import Code
from vppd.core.decision import Decision
from vppd.core.model import UnitState
from vppd.market.blocks import Block
from vppd.market.settling.ledger import Cause

SOURCE = "market"  # what the plans of cleared blocks are signed with
KWS_PER_MWH = 3_600_000.0
BLOCK_S = 900.0
WHOLE_SHARE = 0.98  # of a block must have been seen for its meter to count
FEW_KW = 0.05

AWAY = frozenset({UnitState.LOST, UnitState.TRIPPED, UnitState.DISABLED, UnitState.STARTING})
_CHARGE = frozenset({Code.SOC_LOW, Code.SOC_HIGH, Code.CELL_UNDER_VOLTAGE, Code.CELL_OVER_VOLTAGE})
_RAMPS = frozenset({Code.RAMP, Code.DEVICE_RAMP})
_KEPT_BACK = frozenset({Code.HEADROOM, Code.RESERVE})

Why = Callable[[], Cause]


def parts_kw(
    decision: Decision, scheduled_kw: float, delta_kw: float, short_of: Why
) -> dict[Cause, float]:
    """What was cleared beside the schedule, by cause, droop and regulation included. `delta_kw` is
    what regulation orders add; `short_of` says why units gave less than was asked of them. While
    the market rules, its plan differs from the schedule only to ramp over an edge."""
    base_kw = decision.base_target_kw - delta_kw
    parts = {Cause.DROOP: sum(each.frequency_kw for each in decision.requests.values())}
    if delta_kw:
        parts[Cause.ORDER] = delta_kw
    if decision.base_source == SOURCE:
        parts[Cause.RAMP] = base_kw - scheduled_kw
    else:
        ruler = _ruler(decision.base_source)
        parts[ruler] = parts.get(ruler, 0.0) + base_kw - scheduled_kw
    ramped_kw = decision.owed_kw - decision.droop_owed_kw
    kept_back = decision.riding.ceased or any(c.why in _KEPT_BACK for c in decision.clamps)
    held = Cause.LIMITS if kept_back else Cause.RAMP
    parts[held] = parts.get(held, 0.0) + ramped_kw - decision.base_target_kw
    short_kw = decision.cleared_kw - ramped_kw - parts[Cause.DROOP]
    if abs(short_kw) > FEW_KW:
        cause = short_of()
        parts[cause] = parts.get(cause, 0.0) + short_kw
    return parts


def short_cause(decision: Decision, states: Iterable[UnitState], bounds: Iterable[Code]) -> Cause:
    """Why units gave less than was asked: one that is away, the charge, a ramp, another limit.
    `bounds` are who bounds each unit's room now."""
    if not AWAY.isdisjoint(states):
        return Cause.UNIT_LOST
    cuts = {clamp.why for each in decision.cleared.values() for clamp in each.clamps}
    if not _CHARGE.isdisjoint(cuts) or not _CHARGE.isdisjoint(bounds):
        return Cause.SOC
    said = cuts | {clamp.why for clamp in decision.clamps}
    return Cause.RAMP if not _RAMPS.isdisjoint(said) else Cause.LIMITS


def _ruler(source: str) -> Cause:
    """Whose word was above the market's; nobody's: what was sold was not asked for at all."""
    if source.startswith("operator"):
        return Cause.OPERATOR
    return Cause.SHORTFALL if source == "idle" else Cause.ORDER


@dataclass(slots=True)
class Tally:
    """The sums of one block, kW times seconds."""

    block: Block
    parts_kws: dict[Cause, float] = field(default_factory=dict)
    scheduled_kws: float = 0.0
    delta_kws: float = 0.0
    cleared_kws: float = 0.0
    given_kws: float = 0.0
    metered_kws: float = 0.0
    discharged_kws: float = 0.0
    seen_s: float = 0.0
    metered_s: float = 0.0
    recovered_s: float = 0.0
    frequency_hz_s: float = 0.0
    frequency_s: float = 0.0
    begin_mwh: float | None = None  # stored at its first look
    end_mwh: float | None = None

    def add(
        self,
        decision: Decision,
        cut_kw: dict[Cause, float],
        scheduled_kw: float,
        delta_kw: float,
        s: float,
    ) -> None:
        """One decision, in force for `s` seconds."""
        for cause, power_kw in cut_kw.items():
            self.parts_kws[cause] = self.parts_kws.get(cause, 0.0) + power_kw * s
        self.scheduled_kws += scheduled_kw * s
        self.delta_kws += delta_kw * s
        self.cleared_kws += decision.cleared_kw * s
        self.seen_s += s
        if decision.frequency_hz is not None:
            self.frequency_hz_s += decision.frequency_hz * s
            self.frequency_s += s

    def measure(self, power_kw: float | None, units_kw: float | None, s: float) -> None:
        """What was measured for `s` seconds: at the connection, and the sum of the units."""
        if power_kw is not None:
            self.metered_kws += power_kw * s
            self.metered_s += s
        if units_kw is not None:
            self.given_kws += units_kw * s
            self.discharged_kws += max(units_kw, 0.0) * s

    def recover(
        self,
        cleared_kw: float,
        droop_kw: float,
        frequency_hz: float | None,
        owed_kw: float,
        s: float,
    ) -> None:
        """A stretch before a restart, from a journal row of the site: what was cleared counts as
        metered, and what is neither schedule nor droop stays unexplained."""
        parts = self.parts_kws
        parts[Cause.DROOP] = parts.get(Cause.DROOP, 0.0) + droop_kw * s
        other_kw = cleared_kw - droop_kw - owed_kw
        parts[Cause.UNEXPLAINED] = parts.get(Cause.UNEXPLAINED, 0.0) + other_kw * s
        self.scheduled_kws += owed_kw * s
        self.cleared_kws += cleared_kw * s
        self.recovered_s += s
        self.seen_s += s
        if frequency_hz is not None:
            self.frequency_hz_s += frequency_hz * s
            self.frequency_s += s
        self.measure(cleared_kw, cleared_kw, s)

    @property
    def metered_mwh(self) -> float | None:
        """None unless nearly the whole block was measured."""
        if self.metered_s < WHOLE_SHARE * BLOCK_S:
            return None
        return self.metered_kws / KWS_PER_MWH

    @property
    def frequency_hz(self) -> float | None:
        """The mean of what was believed."""
        return self.frequency_hz_s / self.frequency_s if self.frequency_s > 0.0 else None

    def mwh(self, cause: Cause) -> float:
        """The energy of one cause."""
        return self.parts_kws.get(cause, 0.0) / KWS_PER_MWH
