"""How much the recorder keeps: the inputs of every tick, for `vppd replay`."""

from dataclasses import dataclass

from vppd.core.profile import key


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderSettings:
    """The inputs of every decision, in the folder `recorder` of the state directory."""

    enabled: bool = key("false: nothing is recorded, and nothing can be replayed", True)
    max_mb: float = key("the folder never grows beyond this; the oldest file goes", 256.0, ge=1)
    file_s: float = key("a new file after so long; replay begins at one", 600.0, ge=10, le=3600)
    flush_s: float = key("written so often: as much is lost when power fails", 5.0, ge=0.5, le=60)
