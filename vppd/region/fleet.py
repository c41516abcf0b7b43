"""The sites of one aggregator: takes what they say, gives what they are to be told.

It knows no broker: bytes come in with the site they are about, messages go out. What is believed
goes on the bus, where the tick and everybody else find it.
"""

import json
import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from vppd.core.alarms import Code, Level
from vppd.core.model import SITE, Plan, Point, Quality, Reading, UnitId
from vppd.core.ports import Board, Clock, Journal, Report
from vppd.core.records import EventRow
from vppd.core.settings import UnitSettings
from vppd.core.settings_aggregator import AggregatorSettings
from vppd.northbound.mqtt_messages import Outgoing
from vppd.region.delivered import Tally, begun, counted
from vppd.region.roster import (
    Answer,
    Heard,
    Reason,
    RefusedMessage,
    Sample,
    believed,
    capped,
    read_answer,
    read_event,
    read_online,
    read_sample,
)
from vppd.region.rounds import Cap, Fate, Ordered, cap_of, due
from vppd.region.tenure import COUNT_MAX, Council, ours, sequence
from vppd.region.unit import SiteActuator

OWNED_LASTS_S = 5.0  # who commands a site is said again before; a link that hangs says nothing
STRANGERS_MAX = 32
LAGS = 1000
FENCED = "replayed"  # a newer term than ours has ordered the site


@dataclass(slots=True)
class SiteState:
    """One site as it was heard and ordered."""

    id: UnitId
    rated_kw: float
    actuator: SiteActuator
    tally: Tally
    heard: Heard = field(default_factory=Heard)
    values: Mapping[str, float] = field(default_factory=dict)
    sample_s: float = -math.inf  # when its newest sample was taken, by our clock
    online: bool | None = None
    ours: bool = False
    ours_s: float = -math.inf
    cap: Cap | None = None
    last: Ordered | None = None
    cleared_s: float = 0.0
    fenced_s: float = -math.inf
    refused: str = ""
    count: int = 0
    term: int = 0


class Fleet:
    """Every site that is a unit here."""

    def __init__(
        self,
        units: Sequence[UnitSettings],
        settings: AggregatorSettings,
        me: str,
        board: Board,
        clock: Clock,
        journal: Journal,
        report: Report,
    ) -> None:
        self._settings, self._me = settings, me
        self._board, self._clock, self._journal = board, clock, journal
        now_s = clock.now_s()
        self.sites = {
            unit.id: SiteState(
                unit.unit,
                unit.rated_power_kw,
                SiteActuator(unit.unit, clock, report),
                begun(now_s),
            )
            for unit in units
        }
        self.refusals: Counter[str] = Counter()  # of messages, by reason
        self.samples = self.late = self.orders = self.answers = self.refused_orders = 0
        self.strangers: dict[str, datetime] = {}
        self._lags_s: deque[float] = deque(maxlen=LAGS)
        self._tallied_s = now_s

    def actuators(self) -> dict[UnitId, SiteActuator]:
        """What the gate holds."""
        return {site.id: site.actuator for site in self.sites.values()}

    # --- what is heard ---

    def sample(self, id_: str, payload: bytes, *, retained: bool) -> None:
        """A message on the telemetry topic of a site."""
        with _Counted(self.refusals):
            site = self._known(id_)
            now, now_s = self._clock.utc(), self._clock.now_s()
            sample = read_sample(id_, payload, retained=retained)
            if sample is None:
                return
            site.heard = believed(site.heard, sample, now)
            self.samples += 1
            age_s = sample.age_s(now)
            if age_s > self._settings.stale_s:
                self.late += 1
                return
            self._lags_s.append(age_s)
            site.values, site.sample_s, site.online = sample.values, now_s - age_s, True
            self._show(site, sample)

    def status(self, id_: str, payload: bytes) -> None:
        """A message on the status topic of a site: its last will counts at once."""
        with _Counted(self.refusals):
            site = self._known(id_)
            site.online = read_online(id_, payload)
            if not site.online:
                self._publish(site, Point.SITE_ONLINE, 0.0, self._clock.now_s())

    def answer(self, payload: bytes) -> None:
        """A message on our topic of replies."""
        with _Counted(self.refusals):
            answer = read_answer(payload)
            site, now_s = self._known(answer.site), self._clock.now_s()
            last = site.last
            if last is None or last.id != answer.id:
                raise RefusedMessage(Reason.LATE, "it answers no order of ours that stands")
            self.answers += 1
            if answer.accepted:
                site.last = replace(last, fate=Fate.ACCEPTED)
                site.actuator.answered(last.power_kw, site.cleared_s, now_s)
                if site.refused:
                    site.refused = ""
                    site.actuator.trouble("", now_s)
            else:
                self._refused(site, last, answer, now_s)

    def event(self, id_: str, payload: bytes) -> None:
        """A message on the event topic of a site goes to the journal as it is."""
        with _Counted(self.refusals):
            site, event = self._known(id_), read_event(id_, payload)
            if event is None:
                return
            told = {"of": event.unit, "epoch": event.epoch, "seq": event.seq}
            data = json.dumps(told | {"at": event.at.isoformat()})
            row = EventRow(self._clock.utc(), event.code, site.id, event.level, event.text, data)
            self._journal.append(row)

    def stranger(self, id_: str) -> None:
        """Somebody registers who is no unit of ours: told, never commanded."""
        self.refusals[Reason.STRANGER] += 1
        if id_ not in self.strangers and len(self.strangers) < STRANGERS_MAX:
            self.strangers[id_] = self._clock.utc()

    def _refused(self, site: SiteState, last: Ordered, answer: Answer, now_s: float) -> None:
        """What a site does not do the others are asked for in the next round."""
        self.refused_orders += 1
        site.last = replace(last, fate=Fate.REFUSED)
        site.tally = replace(site.tally, refused=site.tally.refused + 1)
        if answer.reason == FENCED:
            site.fenced_s = now_s
        cap = cap_of(answer, last, now_s, self._settings)
        if cap is not None:
            site.cap = cap
            self._capability(site, now_s)
        text = f"{last.power_kw:+.1f} kW: {answer.reason}: {answer.text}"
        if text != site.refused:
            site.refused = text
            site.actuator.trouble(text, now_s)
            at = self._clock.utc()
            self._journal.append(
                EventRow(at, Code.ORDER, site.id, Level.WARNING, f"refused {text}")
            )

    def _known(self, id_: str) -> SiteState:
        site = self.sites.get(id_)
        if site is None:
            self.stranger(id_)
            raise RefusedMessage(Reason.STRANGER, id_)
        return site

    # --- what the tick sees ---

    def _show(self, site: SiteState, sample: Sample) -> None:
        known = self._capped(site, self._clock.now_s())
        for point, value in known.items():
            self._publish(site, point, value, site.sample_s)
        self._publish(site, Point.SITE_ONLINE, 1.0, site.sample_s)
        if "power_kw" not in sample.values:  # it does not know itself: the old one must not stay
            reading = Reading(site.id, Point.POWER_KW, 0.0, site.sample_s, 0.0, Quality.MISSING)
            self._board.publish(reading)

    def _capability(self, site: SiteState, now_s: float) -> None:
        known = self._capped(site, now_s)
        for point in (Point.DISCHARGE_MAX_KW, Point.CHARGE_MAX_KW):
            self._publish(site, point, known[point], site.sample_s)

    def _capped(self, site: SiteState, now_s: float) -> dict[Point, float]:
        if site.cap is not None and now_s >= site.cap.until_s:
            site.cap = None
        if site.cap is None:
            return capped(site.values)
        return capped(site.values, site.cap.out_kw, site.cap.in_kw)

    def _publish(self, site: SiteState, point: Point, value: float, at_s: float) -> None:
        reading = Reading(site.id, point, value, at_s, self._settings.stale_s)
        self._board.publish(reading)

    def own(self, council: Council | None) -> None:
        """Say which sites are ours; None: no link, so none is."""
        now_s = self._clock.now_s()
        for site in self.sites.values():
            mine = council is not None and ours(council, site.id)
            if mine is not site.ours or now_s - site.ours_s >= OWNED_LASTS_S / 2.0:
                site.ours, site.ours_s = mine, now_s
                reading = Reading(site.id, Point.SITE_OURS, float(mine), now_s, OWNED_LASTS_S)
                self._board.publish(reading)

    # --- what is told ---

    def round(self, council: Council, plans: Iterable[Plan]) -> list[Outgoing]:
        """The orders that are due now. A site in which no live plan has a part is ordered
        nothing."""
        since_s = _since_s(plans)
        now_s = self._clock.now_s()
        made = [
            order
            for site in self.sites.values()
            if site.ours and (order := self._order(site, council, now_s, since_s))
        ]
        self._count(now_s)
        return made

    def _order(
        self, site: SiteState, council: Council, now_s: float, since_s: Mapping[UnitId, float]
    ) -> Outgoing | None:
        settings = self._settings
        cleared = site.actuator.wanted(since_s.get(site.id, since_s.get(SITE)))
        stale = now_s - site.sample_s > settings.stale_s or site.online is False
        fenced = now_s - site.fenced_s < settings.refused_s and site.term == council.term
        if cleared is None or stale or fenced:
            return None
        if not due(cleared.power_kw, site.last, now_s, site.rated_kw, settings):
            return None
        if site.term != council.term:
            site.term, site.count = council.term, 0
        if site.count >= COUNT_MAX:
            return None  # a new term begins before: see RegionLink
        site.count += 1
        seq = sequence(council.term, self._me, site.count)
        id_ = f"{self._me}:{seq}"
        site.last = Ordered(id_, cleared.power_kw, now_s, now_s + settings.order_valid_s)
        site.cleared_s = cleared.at_s
        site.tally = replace(site.tally, orders=site.tally.orders + 1)
        self.orders += 1
        return self._message(site, id_, seq, cleared.power_kw)

    def _message(self, site: SiteState, id_: str, seq: int, power_kw: float) -> Outgoing:
        settings, now = self._settings, self._clock.utc()
        void_s = min(settings.period_s * 2.0, settings.order_valid_s)
        order = {
            "id": id_,
            "seq": seq,
            "sender": settings.group,
            "issued_at": now.isoformat(),
            "expires_at": (now + timedelta(seconds=void_s)).isoformat(),
            "command": "order",
            "kind": "absolute",
            "power_kw": round(power_kw, 3),
            "valid_s": settings.order_valid_s,
        }
        return Outgoing(
            settings.topics.commands.replace("{node_id}", site.id),
            json.dumps(order, separators=(",", ":")).encode(),
            correlation=site.id.encode(),
            respond=settings.topics.replies.replace("{node_id}", self._me),
            void_s=math.ceil(void_s),
        )

    @property
    def worn(self) -> bool:
        """Whether the count of a term is nearly used up: a new term is needed."""
        return any(site.count > COUNT_MAX // 2 for site in self.sites.values())

    # --- what is written down ---

    def _count(self, now_s: float) -> None:
        """What was ordered against what is measured, for all; every so often to the journal."""
        for site in self.sites.values():
            last = site.last
            live = last is not None and last.fate is Fate.ACCEPTED and now_s < last.ends_s
            fresh = now_s - site.sample_s <= self._settings.stale_s
            delivered_kw = site.values.get("power_kw") if fresh else None
            ordered_kw = last.power_kw if live and last is not None else None
            site.tally = counted(site.tally, now_s, ordered_kw, delivered_kw)
        if now_s - self._tallied_s >= self._settings.delivered_every_s:
            self._tallied_s = now_s
            for site in self.sites.values():
                self._tell_delivered(site)
                site.tally = begun(now_s)

    def _tell_delivered(self, site: SiteState) -> None:
        tally = site.tally
        if tally.orders == 0 and tally.ordered_s == 0.0:
            return
        text = (
            f"ordered {tally.ordered_kwh:+.2f} kWh, delivered {tally.delivered_kwh:+.2f} kWh"
            f" in {tally.ordered_s:.0f} s, {tally.orders} orders, {tally.refused} refused"
        )
        data = json.dumps(
            {
                "ordered_kwh": round(tally.ordered_kwh, 4),
                "delivered_kwh": round(tally.delivered_kwh, 4),
                "ordered_s": round(tally.ordered_s, 1),
                "unknown_s": round(tally.unknown_s, 1),
                "orders": tally.orders,
                "refused": tally.refused,
            }
        )
        row = EventRow(self._clock.utc(), Code.DELIVERED, site.id, Level.INFO, text, data)
        self._journal.append(row)

    def lag_s(self, share: float) -> float:
        """How old the last samples were when they came: this share of them was not older."""
        lags_s = sorted(self._lags_s) or [0.0]
        return lags_s[min(int(share * len(lags_s)), len(lags_s) - 1)]

    def view(self) -> list[dict[str, object]]:
        """Every site in one line."""
        now_s = self._clock.now_s()
        return [_line(site, now_s) for site in self.sites.values()]


class _Counted:
    """Counts what is refused inside, by its reason."""

    def __init__(self, refusals: Counter[str]) -> None:
        self._refusals = refusals

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, RefusedMessage):
            self._refusals[error.reason] += error.reason is not Reason.STRANGER
            return True
        return False


def _since_s(plans: Iterable[Plan]) -> dict[UnitId, float]:
    """Since when there is a live plan, of the whole and of single sites."""
    since_s: dict[UnitId, float] = {}
    for plan in plans:
        since_s[plan.unit] = min(since_s.get(plan.unit, math.inf), plan.issued_s)
    return since_s


def _line(site: SiteState, now_s: float) -> dict[str, object]:
    last = site.last if site.last is not None and now_s < site.last.ends_s else None
    values = site.values
    return {
        "id": site.id,
        "ours": site.ours,
        "online": site.online,
        "age_s": now_s - site.sample_s if math.isfinite(site.sample_s) else None,
        "rated_kw": site.rated_kw,
        "power_kw": values.get("power_kw"),
        "soc_pct": values.get("soc_pct"),
        "discharge_max_kw": values.get("available_discharge_kw"),
        "charge_max_kw": values.get("available_charge_kw"),
        "ordered_kw": last.power_kw if last is not None else None,
        "order": last.fate if last is not None else None,
        "order_left_s": last.ends_s - now_s if last is not None else None,
        "refused": site.refused or (site.cap.text if site.cap is not None else None),
    }
