"""Settings of the frequency sources: when one is believed, how they are compared, how the site goes
from one to another.

The windows were chosen on recordings: in 421 000 tenths of a second of a real 50 Hz grid the
longest run without a change was 4.0 s in steps of 1 mHz and 106 s in steps of 10 mHz, and 99.99 %
of the changes were below 0.09 Hz/s.
"""

from dataclasses import dataclass

from vppd.core.profile import key


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSettings:
    """Frequency sources: quality, agreement, change-over."""

    frozen_s: float = key(
        "a PMU's value unchanged for so long is frozen (in steps of 1 mHz; coarser: longer)",
        15.0,
        ge=1,
        le=3600,
    )
    jump_hz_per_s: float = key(
        "a faster change between two frames waits to be confirmed", 5.0, gt=0, le=100
    )
    jump_floor_hz: float = key("no smaller change is a jump", 0.02, ge=0, le=1)
    jump_frames: int = key("so many frames, or another source, confirm a jump", 3, ge=1, le=50)
    dead_bus_voltage_pu: float = key(
        "every voltage phasor below it: a dead bus, its frequency is nobody's", 0.5, ge=0, le=0.95
    )
    nominal_v: float | None = key(
        "normal magnitude of the PMUs' voltage phasors (null: learned from what they show)",
        None,
        gt=0,
    )
    agree_hz: float = key("sources further apart than this disagree", 0.03, gt=0, le=1)
    agree_hz_per_s: float = key(
        "and so much more for each second by which one is older", 0.2, ge=0, le=10
    )
    disagree_s: float = key(
        "so long before it is an alarm, and before a device counts against a PMU", 1.0, ge=0, le=60
    )
    devices_count: bool = key(
        "true: the meter and the devices may overrule a PMU (false: they only alarm)", False
    )
    return_s: float = key(
        "a more trusted source is gone back to once it was good for so long", 3.0, ge=0, le=600
    )
    switch_step_pct: float = key(
        "of P_max: droop moves no further in one tick after a change of source", 4.0, gt=0, le=100
    )
    switch_s: float = key("for so long, and longer the further apart they are", 1.0, ge=0, le=60)
    switch_release_hz: float = key(
        "the new source itself moved by more: the grid moves, no more easing", 0.05, gt=0, le=5
    )
    rocof_window_s: float = key("ROCOF is the slope over this window", 0.5, ge=0.1, le=5)
