"""Whether a device answers, when it may be asked again, and the counts of its requests.

One failure alone is noise; the device is asked again at once. Two in a row and it is lost, told
once, and asked less and less often until it answers. A lost connection counts like any other
failure; one that cannot be opened makes all its devices lost at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from vppd.core.model import LinkChange, UnitId
from vppd.core.ports import Report

LOST_AFTER = 2
RETRY_S = 0.5
RETRY_MAX_S = 10.0


@dataclass(slots=True)
class Counters:
    """What became of the requests to one device since the start."""

    requests: int = 0
    replies: int = 0
    refused: int = 0
    no_reply: int = 0
    bad_reply: int = 0
    link_down: int = 0
    reconnects: int = 0
    writes: int = 0
    nvm_writes: int = 0  # to non-volatile memory, which wears
    nvm_budget_left: int | None = None  # such writes left of the day's; None: it has no such memory
    holes: int = 0


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one device: whether it answers (None: not tried yet), in words, and its
    counts by name."""

    up: bool | None
    text: str
    counters: Mapping[str, object]


class Presence:
    """One device on its link. `up` is None until it was tried. `fellows` is how many devices are
    commanded here: what is asked of each beside its polls gets less as they get more."""

    def __init__(self, unit: UnitId, report: Report, fellows: int = 1) -> None:
        self.unit, self.fellows = unit, fellows
        self.up: bool | None = None
        self.text = "not tried yet"
        self.retry_s = 0.0
        self.counters = Counters()
        self._report = report
        self._failures = 0

    def answered(self, at_s: float) -> None:
        """It said something, be it no."""
        self.counters.replies += 1
        self._failures, self.retry_s = 0, 0.0
        self._turn(True, at_s, "answers")

    def failed(self, at_s: float, text: str) -> None:
        """A request was not answered."""
        self._failures += 1
        if self._failures >= LOST_AFTER:
            wait_s = min(RETRY_S * 2.0 ** min(self._failures - LOST_AFTER, 16), RETRY_MAX_S)
            self.retry_s = at_s + wait_s
            self._turn(False, at_s, text)

    def lost(self, at_s: float, text: str) -> None:
        """Its connection cannot be opened. The link itself says when to try again."""
        self._failures, self.retry_s = LOST_AFTER, 0.0
        self._turn(False, at_s, text)

    def _turn(self, up: bool, at_s: float, text: str) -> None:
        if self.up is not up:
            self.up, self.text = up, text
            self._report(LinkChange(self.unit, up, at_s, text))
