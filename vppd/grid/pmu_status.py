"""What a PMU client waits for, and what it tells about itself."""

from dataclasses import dataclass

from vppd.grid.pmu_load import CALM_S, LOAD_BYTES_PER_S
from vppd.grid.synchro import SequenceCounts


@dataclass(frozen=True, slots=True)
class Timing:
    """How long the client waits for what. Until it is configured, a PMU is given `answer_s` more
    than `idle_s`; one that sends less often is given 2.5 of its own periods, 30 s at most."""

    connect_s: float = 2.0
    idle_s: float = 2.0
    answer_s: float = 1.0
    pause_first_s: float = 0.5
    pause_max_s: float = 8.0
    calm_s: float = CALM_S
    load_bytes_per_s: float = LOAD_BYTES_PER_S


@dataclass(frozen=True, slots=True)
class ConfigSummary:
    """The configuration in use, for people."""

    kind: str
    stream_idcode: int
    pmu_idcode: int
    station: str
    nominal_hz: float
    data_rate: int  # > 0 frames a second, < 0 seconds a frame
    format: str


@dataclass(frozen=True, slots=True)
class PmuCounters:
    """What happened since the start, for status."""

    connected: bool
    lost: bool
    published: int
    frames: int  # whole, with the right check word
    bad_frames: int  # check word wrong
    bad_bytes: int
    resyncs: int
    undecoded: int  # whole, but of another stream, another size, or not to be read
    reconnects: int
    floods: int  # times it sent more than may be read, and was left
    sequence: SequenceCounts
    config: ConfigSummary | None
