"""The droop curve: which side is answered, and with how much, before anything adapts it. Pure.

    owed = -(P_max / droop) x (df / f_nominal), 0 inside the deadband, never beyond P_max,
           never less than the step once the deviation is large

Each side may have its own droop and P_max. Power is kW, positive towards the grid: a low frequency
asks for discharge. Source of the formula: IEGC droop as the design page gives it.
"""

from vppd.core.settings import DroopSettings

FULL_S = 0.4  # full power in so long, where no ramp is configured


def max_of(side: int, droop: DroopSettings, max_kw: float) -> float:
    """P_max of a side (+1 low frequency, -1 high), where `max_kw` is the low side's."""
    return droop.over_max_power_kw or max_kw if side < 0 else max_kw


def ramp_of(droop: DroopSettings, max_kw: float) -> float:
    """How fast droop moves, kW/s: as configured, else so that with a frame, a write and the
    inverter's own time the whole answer is there within a second."""
    whole_kw = max(max_kw, droop.over_max_power_kw or 0.0)
    return droop.ramp_kw_per_s or whole_kw / FULL_S


def curve_kw(
    frequency_hz: float, side: int, droop: DroopSettings, max_kw: float, *, stepped: bool = False
) -> float:
    """The curve on the side answered (+1 low frequency, -1 high, 0 none), unsaturated sums cut at
    P_max. Counted from nominal it steps at the edge of the deadband, from the edge it does not.
    `stepped` says whether the step is given. `max_kw` is P_max at low frequency."""
    if side == 0:
        return 0.0
    if droop.reference == "nominal":
        from_hz = droop.nominal_hz
    else:
        from_hz = droop.deadband_low_hz if side > 0 else droop.deadband_high_hz
    max_kw = max_of(side, droop, max_kw)
    droop_pct = droop.over_droop_pct or droop.droop_pct if side < 0 else droop.droop_pct
    power_kw = -max_kw / (droop_pct / 100.0) * (frequency_hz - from_hz) / droop.nominal_hz
    least_kw = min(droop.step_power_kw or 0.0, max_kw) if stepped else 0.0
    if side > 0:
        return min(max(power_kw, least_kw), max_kw)
    return max(min(power_kw, -least_kw), -max_kw)


def side_of(frequency_hz: float, droop: DroopSettings, active: int) -> int:
    """Which side is answered. A side once answered is left only the re-entry hysteresis inside the
    deadband, so that a curve that steps at its edge does not chatter; but never beyond nominal."""
    if frequency_hz < droop.deadband_low_hz:
        return 1
    if frequency_hz > droop.deadband_high_hz:
        return -1
    inside_hz = droop.reentry_hysteresis_hz if droop.reference == "nominal" else 0.0
    if active > 0:
        return int(frequency_hz < min(droop.deadband_low_hz + inside_hz, droop.nominal_hz))
    if active < 0:
        return -int(frequency_hz > max(droop.deadband_high_hz - inside_hz, droop.nominal_hz))
    return 0


def stepped_now(frequency_hz: float, side: int, droop: DroopSettings, before: int) -> int:
    """The side on which the step is given, 0 where it is not: from its deviation on, until the
    deviation is the re-entry hysteresis smaller again."""
    if droop.step_deviation_hz is None or side == 0:
        return 0
    inside_hz = droop.reentry_hysteresis_hz if before == side else 0.0
    deviation_hz = side * (droop.nominal_hz - frequency_hz)
    return side if deviation_hz > droop.step_deviation_hz - inside_hz else 0
