"""Which frequency events are kept as evidence, and how much of each."""

from dataclasses import dataclass

from vppd.core.profile import key


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceSettings:
    """The rule that finds a frequency event, and how much is kept around it.

    An event begins at the first sample of an unbroken run beyond an edge that lasts `duration_s`,
    or of one at least as steep as `rocof_hz_per_s` that lasts `rocof_duration_s`. It ends at the
    first sample of a run of `merge_s` inside both; so what follows sooner is the same event.
    """

    low_hz: float = key("an event below it", 49.90, gt=0)
    high_hz: float = key("an event above it", 50.10, gt=0)
    hysteresis_hz: float = key("over only this far inside the edges", 0.02, ge=0, le=0.5)
    duration_s: float = key("beyond an edge for so long", 1.0, ge=0, le=600)
    rocof_hz_per_s: float | None = key("an event from this steepness on (null: none)", 0.2, gt=0)
    rocof_duration_s: float = key("so steep for so long", 0.5, ge=0, le=60)
    merge_s: float = key("over when inside for so long; sooner is the same event", 10.0, gt=0)
    longest_s: float = key(
        "cut then; the next begins only after a return inside the edges", 1800.0, ge=60, le=86_400
    )
    gap_s: float = key("no frequency for so long ends an event", 2.0, ge=0.5, le=60)
    before_s: float = key("rows of 100 ms are kept from so long before", 60.0, ge=5, le=300)
    obligation_kw_per_hz: float | None = key(
        "frequency response obligation (FRO) of the site (null: what the droop curve owes)",
        None,
        gt=0,
    )
