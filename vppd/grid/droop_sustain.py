"""How long a response is sustained, and how it is handed back after that. Pure."""

from dataclasses import dataclass, replace

from vppd.core.settings import DroopSettings


@dataclass(frozen=True, slots=True)
class Sustained:
    """How long one response has been full, and what of it is still given."""

    side: int = 0
    full_s: float = 0.0
    kept_share: float = 1.0


def sustained(
    frequency_hz: float,
    side: int,
    droop: DroopSettings,
    dt_s: float,
    before: Sustained,
    *,
    arrived: bool,
) -> Sustained:
    """One tick of a response. `arrived`: the last tick's ramp was at what it went for, so this time
    counts. A deviation beyond `handback_within_hz` still demands, and begins a new response."""
    if droop.sustain_s is None or side == 0 or side != before.side:
        return Sustained(side)
    within_hz = droop.handback_within_hz
    if within_hz is not None and abs(frequency_hz - droop.nominal_hz) > within_hz:
        return Sustained(side)
    if before.full_s < droop.sustain_s:
        return replace(before, full_s=before.full_s + dt_s) if arrived else before
    kept_share = max(before.kept_share - dt_s / droop.handback_s, 0.0)
    return replace(before, kept_share=kept_share)
