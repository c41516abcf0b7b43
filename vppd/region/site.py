"""One site as its aggregator knows it: what it said last, what it was ordered, what it answered."""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from vppd.core.model import UnitId
from vppd.core.settings_aggregator import AggregatorSettings
from vppd.region.delivered import Tally
from vppd.region.flood import Allowance
from vppd.region.roster import Happened, Heard, Reason, RefusedMessage
from vppd.region.rounds import ANYTHING_KW, Cap, Fate, Ordered, unanswered_s
from vppd.region.unit import SiteActuator

NOTES_MAX, NOTES_PER_S = 1000, 0.2  # rows of the journal that a site may make us write
EVENTS_KEPT = 128  # what was lost with a broker comes again: known by epoch and sequence
TWICE_SAMPLES = 6
DEAF = "the broker knows nobody who hears its topic of commands"
AMISS_S = 60.0  # a site may take so long to do as it is ordered
AMISS_SHARE = 0.05  # of its rating: less beside its order is droop, or a gauge


@dataclass(slots=True)
class SiteState:
    """One site as it was heard and ordered."""

    id: UnitId
    rated_kw: float
    energy_kwh: float
    actuator: SiteActuator
    tally: Tally
    heard: Heard = field(default_factory=Heard)
    values: Mapping[str, float] = field(default_factory=dict)
    sample_s: float = -math.inf  # when its newest sample was taken, by our clock
    nameplate_s: float = -math.inf  # when its ratings were told last
    online: bool | None = None
    up: bool | None = None  # as the gate was told; None: nothing yet
    doubt: str = ""  # why what it says is not believed
    doubts: int = 0  # for so many good samples that is said still
    deaf: bool = False  # nobody hears its topic of commands
    ours: bool = False
    ours_s: float = -math.inf  # when that was said last
    since_s: float = -math.inf  # ours since
    cap: Cap | None = None
    last: Ordered | None = None  # the newest it was sent
    took: Ordered | None = None  # the newest it took
    took_since_s: float = 0.0  # since when it is to give about that
    waiting: deque[Ordered] = field(default_factory=deque)  # not answered, oldest first
    unanswered: int = 0  # in a row
    fenced_s: float = -math.inf
    refused: str = ""  # why it refuses
    reason: str = ""
    refused_in_a_row: int = 0
    count: int = 0
    term: int = 0
    notes: Allowance = field(default_factory=lambda: Allowance(NOTES_MAX, NOTES_PER_S))
    events: deque[tuple[str, int]] = field(default_factory=lambda: deque(maxlen=EVENTS_KEPT))

    def silent(self, now_s: float, stale_s: float) -> bool:
        """Whether nothing is known of it now."""
        return now_s - self.sample_s > stale_s or self.online is False

    def believed(self, doubt: str) -> None:
        """Its newest sample counts, but for this."""
        self.doubts = max(self.doubts - 1, 0)
        if doubt or not self.doubts:
            self.doubt = doubt

    def doubted(self, why: RefusedMessage) -> None:
        """What it said is not believed. What comes again after a break is no wonder."""
        if why.reason is not Reason.REPLAYED:
            self.doubt = f"{why.reason}: {why.text}"
        if why.reason is Reason.TWICE:  # the other one is believed in between
            self.doubts = TWICE_SAMPLES

    def told(self, event: Happened) -> bool:
        """Whether this event came already."""
        key = event.epoch, event.seq
        if key in self.events:
            return True
        self.events.append(key)
        return False

    def sent(self, order: Ordered) -> None:
        """An order is on its way."""
        self.last = order
        self.waiting.append(order)

    def answered(self, id_: str) -> Ordered | None:
        """The order of that id, if it waits for its answer: a site on a slow network answers one
        when the next is on its way already. Those before it are not waited for any more."""
        found = next((each for each in self.waiting if each.id == id_), None)
        while found is not None and self.waiting.popleft() is not found:
            pass
        return found

    def accepted(self, order: Ordered, step_kw: float, now_s: float) -> None:
        """It took that order."""
        before, self.took = self.took, order
        if before is None or now_s >= before.ends_s or _apart_kw(before, order) > step_kw:
            self.took_since_s = now_s
        self.unanswered = self.refused_in_a_row = 0
        self.fenced_s = -math.inf
        self.judged(order, Fate.ACCEPTED)

    def left(self, now_s: float) -> None:
        """Another aggregator commands it now: what is amiss with it is told there."""
        self.waiting.clear()
        self.took, self.cap, self.refused, self.reason, self.doubt = None, None, "", "", ""
        self.unanswered = self.refused_in_a_row = 0
        self.actuator.trouble("", now_s)
        if self.up is False:
            self.up = None
            self.actuator.heard(now_s, "another aggregator commands it", up=True)

    def judged(self, order: Ordered, fate: Fate) -> None:
        """What became of an order."""
        if self.last is not None and self.last.id == order.id:
            self.last = replace(self.last, fate=fate)

    def overdue(self, now_s: float, settings: AggregatorSettings, *, all_: bool) -> list[Ordered]:
        """Orders that are not answered any more, with `all_` every one that waits."""
        lost: list[Ordered] = []
        while self.waiting and (all_ or now_s - self.waiting[0].at_s >= unanswered_s(settings)):
            lost.append(self.waiting.popleft())
        return lost

    def in_force(self, now_s: float) -> Ordered | None:
        """The order it took and that has not ended."""
        return self.took if self.took is not None and now_s < self.took.ends_s else None

    def line(self, now_s: float, stale_s: float) -> dict[str, object]:
        """It in one line."""
        last = self.last if self.last is not None and now_s < self.last.ends_s else None
        fresh = not self.silent(now_s, stale_s)
        values = self.values
        return {
            "id": self.id,
            "ours": self.ours,
            "online": self.online,
            "age_s": now_s - self.sample_s if math.isfinite(self.sample_s) else None,
            "doubt": self.doubt or None,
            "rated_kw": self.rated_kw,
            "power_kw": values.get("power_kw"),
            "soc_pct": values.get("soc_pct"),
            "discharge_max_kw": values.get("available_discharge_kw"),
            "charge_max_kw": values.get("available_charge_kw"),
            "ordered_kw": last.power_kw if last is not None else None,
            "order": self._fate(now_s) if last is not None else None,
            "order_left_s": last.ends_s - now_s if last is not None else None,
            "unanswered": self.unanswered,
            "deaf": DEAF if self.deaf and last is not None else None,
            "amiss_kw": self.amiss_kw(now_s) if fresh else None,
            "refused": self.refused or (self.cap.text if self.cap is not None else None),
        }

    def _fate(self, now_s: float) -> Fate | None:
        """Of the newest order; one on its way that says what was taken already changes nothing."""
        last, took = self.last, self.in_force(now_s)
        if last is None or last.fate is not Fate.SENT or took is None:
            return last.fate if last is not None else None
        return Fate.ACCEPTED if _apart_kw(last, took) <= ANYTHING_KW else Fate.SENT

    def amiss_kw(self, now_s: float) -> float | None:
        """What it gives beside the order it took, kW, + too much towards the grid; None: it does as
        it was ordered, or may not have had the time."""
        order, power_kw = self.in_force(now_s), self.values.get("power_kw")
        if order is None or power_kw is None or self.sample_s - self.took_since_s < AMISS_S:
            return None
        beside_kw = power_kw - order.power_kw
        return beside_kw if abs(beside_kw) > AMISS_SHARE * self.rated_kw else None


def _apart_kw(one: Ordered, other: Ordered) -> float:
    return abs(one.power_kw - other.power_kw)
