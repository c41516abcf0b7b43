"""Settings of what the grid may ask of a site beside plain droop: fast response, headroom, and how
it rides through voltage and frequency outside their windows."""

from dataclasses import dataclass
from typing import Literal

from vppd.core.profile import key


@dataclass(frozen=True, slots=True, kw_only=True)
class FfrSettings:
    """Fast frequency response: a block of power at a trigger, held, then handed back."""

    enabled: bool = key("false: no such product", False)
    trigger_low_hz: float | None = key("discharge at or below (null: never)", None, gt=0)
    trigger_high_hz: float | None = key("charge at or above (null: never)", None, gt=0)
    trigger_rocof_hz_per_s: float | None = key(
        "also when frequency leaves the droop deadband this fast (null: never)", None, gt=0
    )
    power_kw: float | None = key("the block (null: P_max of droop)", None, gt=0)
    full_s: float = key(
        "the block is asked in full so soon; the inverter's own time comes on top", 0.2, gt=0, le=1
    )
    duration_s: float = key("the block is held so long", 30.0, gt=0, le=3600)
    recovery_s: float = key("then ramps to 0 over this time", 30.0, ge=0, le=3600)
    rearm_s: float = key("triggers again after so long inside the deadband", 60.0, ge=0, le=3600)
    with_droop: Literal["larger", "sum"] = key(
        "beside droop: the larger of both counts, or their sum", "larger"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadroomSettings:
    """Power and energy kept free for the response; schedules and dispatch see only the rest."""

    up_pct: float = key("of P_max kept free to discharge; 0: none", 0.0, ge=0, le=100)
    down_pct: float = key("of P_max kept free to charge; 0: none", 0.0, ge=0, le=100)
    sustain_s: float = key("the response must last so long", 300.0, gt=0, le=7200)
    efficiency_pct: float = key(
        "one way, between the battery's stored energy and AC, at its worst", 90.0, gt=0, le=100
    )
    temperature_rise_c: float = key("by so much full power warms in that time", 3.0, ge=0, le=30)

    @property
    def enabled(self) -> bool:
        """Whether anything is kept free."""
        return self.up_pct > 0.0 or self.down_pct > 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RideThroughRow:
    """One row of the rule table: outside one bound for so long, then what."""

    when: Literal["voltage_below", "voltage_above", "frequency_below", "frequency_above"] = key(
        "which window is left, and on which side"
    )
    bound: float = key("its edge: per unit of nominal_v, or Hz", gt=0)
    within_s: float = key("the rule's time, counted from leaving the window", ge=0, le=3600)
    then: Literal["cease", "stay"] | None = key(
        "cease: 0 kW within that time; stay: connected (null: as the profile)", None
    )
    source: str = key("where the rule stands", "")
    verified: bool = key("whether its text was read in the primary source", False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RideThroughSettings:
    """What the site does outside its voltage and frequency windows."""

    profile: Literal["none", "distribution", "transmission"] = key(
        "distribution: must cease; transmission: must stay; none: the rows do not count", "none"
    )
    effective_from: str = key("date from which the rows are the rule, ISO 8601", "")
    rows: tuple[RideThroughRow, ...] = key("the rule table", ())
    early_s: float = key(
        "ceases so much before a row's time: the way to the inverter takes time", 0.5, ge=0, le=10
    )
    stable_s: float = key("back after so long inside every window, by the ramps", 60.0, ge=0)
    nominal_v: float | None = key(
        "magnitude of the PMU's voltage phasors at 1 pu (null: voltage is not watched)", None, gt=0
    )
    phasor: str | None = key("name of the phasor to watch (null: every voltage phasor)", None)
    dead_pu: float = key("below: the bus is dead and its frequency means nothing", 0.2, ge=0, le=1)
    live_pu: float = key("above: it is alive again", 0.5, ge=0, le=1)
