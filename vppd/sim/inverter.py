"""A battery inverter: limits, ramp and lag between a command and AC power. Pure sums.

Sign: positive is out towards the grid.
"""

import math

EFFICIENCY = 0.975  # AC over DC out, DC over AC in
LAG_S = 0.12
ARRIVED_KW = 1e-9
FULL_POWER_S = 0.4  # its own ramp: rated power in so many seconds


def follow(
    start_kw: float, target_kw: float, lag_s: float, ramp_kw_per_s: float, duration_s: float
) -> tuple[float, float]:
    """First-order lag with a slope limit, solved exactly: power at the end and its mean."""
    if duration_s <= 0.0 or start_kw == target_kw:
        return start_kw, start_kw
    direction = math.copysign(1.0, target_kw - start_kw)
    ramping_s = max(abs(target_kw - start_kw) / ramp_kw_per_s - lag_s, 0.0)
    if duration_s <= ramping_s:
        end_kw = start_kw + direction * ramp_kw_per_s * duration_s
        return end_kw, (start_kw + end_kw) / 2.0
    knee_kw = start_kw + direction * ramp_kw_per_s * ramping_s
    rest_s = duration_s - ramping_s
    gap_kw = target_kw - knee_kw
    decay = math.exp(-rest_s / lag_s)
    end_kw = target_kw - gap_kw * decay
    area = (start_kw + knee_kw) / 2.0 * ramping_s
    area += target_kw * rest_s - gap_kw * lag_s * (1.0 - decay)
    if abs(end_kw - target_kw) < ARRIVED_KW:
        end_kw = target_kw
    return end_kw, area / duration_s


def dc_kw(ac_kw: float) -> float:
    """DC power that goes with this AC power."""
    return ac_kw / EFFICIENCY if ac_kw > 0.0 else ac_kw * EFFICIENCY


class Inverter:
    """Follows a command inside its rating and its kVA circle; active power goes first."""

    def __init__(self, rated_power_kw: float, rated_apparent_kva: float) -> None:
        self.rated_power_kw, self.rated_apparent_kva = rated_power_kw, rated_apparent_kva
        self.power_kw = self.reactive_kvar = self.mean_kw = 0.0

    def advance(self, command_kw: float, command_kvar: float, duration_s: float) -> None:
        """Follow these commands for so long; `mean_kw` is the mean over it."""
        most_kw = min(self.rated_power_kw, self.rated_apparent_kva)
        target_kw = min(max(command_kw, -most_kw), most_kw)
        ramp_kw_per_s = self.rated_power_kw / FULL_POWER_S
        self.power_kw, self.mean_kw = follow(
            self.power_kw, target_kw, LAG_S, ramp_kw_per_s, duration_s
        )
        circle_kvar = math.sqrt(max(self.rated_apparent_kva**2 - self.power_kw**2, 0.0))
        reactive_kvar, _ = follow(
            self.reactive_kvar, command_kvar, LAG_S, ramp_kw_per_s, duration_s
        )
        self.reactive_kvar = min(max(reactive_kvar, -circle_kvar), circle_kvar)

    @property
    def dc_kw(self) -> float:
        """DC power now."""
        return dc_kw(self.power_kw)
