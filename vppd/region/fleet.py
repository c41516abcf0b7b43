"""The sites of one aggregator: takes what they say, gives what they are to be told.

It knows no broker: bytes come in with the site they are about, messages go out. What is believed
goes on the bus, where the tick and everybody else find it.
"""

import json
import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from secrets import token_hex

from vppd.core.alarms import Code, Level
from vppd.core.model import Plan, Point, Quality, Reading, UnitId
from vppd.core.ports import Board, Clock, Journal, Report
from vppd.core.records import EventRow, KeptRow
from vppd.core.settings import UnitSettings
from vppd.core.settings_aggregator import AggregatorSettings
from vppd.northbound.mqtt_messages import Outgoing
from vppd.region.delivered import begun, counted, row_of
from vppd.region.messages import ordering
from vppd.region.roster import (
    Answer,
    Reason,
    RefusedMessage,
    Sample,
    believed,
    capped,
    plain,
    plausible,
    read_answer,
    read_event,
    read_online,
    read_sample,
)
from vppd.region.rounds import (
    FENCED,
    Fate,
    Ordered,
    Spell,
    cap_of,
    due,
    spell_of,
    spells,
    unanswered_s,
)
from vppd.region.site import DEAF, SiteState
from vppd.region.tenure import COUNT_MAX, Council, ours, sequence
from vppd.region.unit import SiteActuator

OWNED_LASTS_S = 5.0  # who commands a site is said again before; a link that hangs says nothing
STRANGERS_MAX, STRANGER_MAX = 32, 64
LAGS = 1000
LATE_SHARE = 1.0 / 3.0  # of `stale_s`: a site so late is stale before it speaks again
LEAST_S = 0.5  # an order that would end sooner is not worth its way
NAMEPLATE_S = 60.0
NAMEPLATE = frozenset({Point.RATED_POWER_KW, Point.ENERGY_CAPACITY_KWH})
AT_SITE, FLOODS = "site:", "site_floods"
TERM_KEY = "region term"
TOKEN_BYTES = 8  # an answer proves that it comes from where the order went


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
                unit.energy_kwh,
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
        with _Counted(self.refusals, self.sites.get(UnitId(id_))):
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
                site.doubt = f"told {age_s:.0f} s late: it catches up, or its clock is behind"
                return
            self._lags_s.append(age_s)
            values, odd = plausible(sample.values, site.rated_kw, site.energy_kwh)
            slow = f"told {age_s:.0f} s late: its clock is behind, or the way is slow"
            late = slow if age_s > self._settings.stale_s * LATE_SHARE else ""
            site.believed(f"cannot be: {odd}" if odd else late)
            site.values, site.sample_s, site.online = values, now_s - age_s, True
            self._show(site, replace(sample, values=values))

    def status(self, id_: str, payload: bytes) -> None:
        """A message on the status topic of a site: its last will counts at once."""
        with _Counted(self.refusals, self.sites.get(UnitId(id_))):
            site = self._known(id_)
            site.online = read_online(id_, payload)
            if not site.online:
                self._publish(site, Point.SITE_ONLINE, 0.0, self._clock.now_s())

    def answer(self, payload: bytes) -> None:
        """A message on our topic of replies."""
        with _Counted(self.refusals):
            answer = read_answer(payload)
            site, now_s = self._known(answer.site), self._clock.now_s()
            order = site.answered(answer.id)
            if order is None:
                raise RefusedMessage(Reason.LATE, "it answers no order of ours that stands")
            if answer.reason == FENCED and (site.last is None or order.id != site.last.id):
                raise RefusedMessage(Reason.LATE, "the site has our next order already")
            self.answers += 1
            if answer.accepted:
                site.accepted(order, self._step_kw(site), now_s)
                site.actuator.answered(order.power_kw, order.cleared_s, now_s)
                if site.refused:
                    site.refused = site.reason = ""
                    site.actuator.trouble("", now_s)
            else:
                self._refused(site, order, answer, now_s)

    def event(self, id_: str, payload: bytes) -> None:
        """A message on the event topic of a site goes to the journal as it is."""
        with _Counted(self.refusals):
            site, event = self._known(id_), read_event(id_, payload)
            if event is None:
                return
            if site.told(event):
                raise RefusedMessage(Reason.REPLAYED, f"event {event.seq} came already")
            if not site.notes.take(self._clock.now_s()):
                raise RefusedMessage(Reason.TOO_MANY, "events of one site")
            told = {"of": event.unit, "epoch": event.epoch, "seq": event.seq}
            data = json.dumps(told | {"at": event.at.isoformat()})
            # its words for what happens there, which are not ours for what happens here
            code = f"{AT_SITE}{event.code}"
            row = EventRow(self._clock.utc(), code, site.id, event.level, event.text, data)
            self._journal.append(row)

    def stranger(self, id_: str) -> None:
        """Somebody registers who is no unit of ours: told, never commanded."""
        self.refusals[Reason.STRANGER] += 1
        id_ = plain(id_)[:STRANGER_MAX]
        if id_ not in self.strangers and len(self.strangers) < STRANGERS_MAX:
            self.strangers[id_] = self._clock.utc()

    def shut_out(self, id_: str, text: str) -> None:
        """What a site says is not taken for a while."""
        site = self._known(id_)
        site.doubt = text
        if site.notes.take(self._clock.now_s()):
            at = self._clock.utc()
            self._journal.append(EventRow(at, FLOODS, site.id, Level.WARNING, text))

    def _refused(self, site: SiteState, order: Ordered, answer: Answer, now_s: float) -> None:
        """What a site does not do the others are asked for in the next round."""
        self.refused_orders += 1
        site.refused_in_a_row += 1
        site.unanswered = 0
        site.judged(order, Fate.REFUSED)
        site.tally = replace(site.tally, refused=site.tally.refused + 1)
        if answer.reason == FENCED:
            site.fenced_s = now_s
        cap = cap_of(answer, order, now_s, self._settings, site.refused_in_a_row)
        if cap is not None:
            site.cap = cap
            self._capability(site, now_s)
        site.refused = f"{order.power_kw:+.1f} kW: {answer.reason}: {answer.text}"
        if answer.reason != site.reason:  # what it says of it may differ each time
            site.reason = answer.reason
            site.actuator.trouble(site.refused, now_s)
            if site.notes.take(now_s):
                text, at = f"refused {site.refused}", self._clock.utc()
                self._journal.append(EventRow(at, Code.ORDER, site.id, Level.WARNING, text))

    def _step_kw(self, site: SiteState) -> float:
        return site.rated_kw * self._settings.step_pct / 100.0

    def _known(self, id_: str) -> SiteState:
        site = self.sites.get(id_)
        if site is None:
            self.stranger(id_)
            raise RefusedMessage(Reason.STRANGER, id_)
        return site

    # --- what the tick sees ---

    def _show(self, site: SiteState, sample: Sample) -> None:
        known = self._capped(site, self._clock.now_s())
        plate = site.sample_s - site.nameplate_s >= NAMEPLATE_S
        site.nameplate_s = site.sample_s if plate else site.nameplate_s
        for point, value in known.items():
            if plate or point not in NAMEPLATE:
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
            if mine and not site.ours:
                site.since_s = now_s
            elif site.ours and not mine and council is not None:
                site.left(now_s)
            if mine is not site.ours or now_s - site.ours_s >= OWNED_LASTS_S / 2.0:
                site.ours, site.ours_s = mine, now_s
                reading = Reading(site.id, Point.SITE_OURS, float(mine), now_s, OWNED_LASTS_S)
                self._board.publish(reading)

    # --- the term of our orders ---

    async def last_term(self) -> int:
        """The greatest that this aggregator had before its restart. Raises OSError."""
        found = await self._journal.select("SELECT value_json FROM kept WHERE name = ?", [TERM_KEY])
        return int(json.loads(str(found[0][0]))) if found else 0

    def keep_term(self, term: int) -> None:
        """Remember it over restarts."""
        self._journal.append(KeptRow(self._clock.utc(), TERM_KEY, json.dumps(term)))

    # --- what is told ---

    def round(self, council: Council, plans: Iterable[Plan]) -> list[Outgoing]:
        """The orders that are due now. A site in which no live plan has a part is ordered
        nothing."""
        planned = spells(plans)
        now_s = self._clock.now_s()
        for site in self.sites.values():
            self._follow(site, now_s)
        made = [
            order
            for site in self.sites.values()
            if site.ours and (order := self._order(site, council, now_s, planned))
        ]
        self._count(now_s)
        return made

    def _follow(self, site: SiteState, now_s: float) -> None:
        """Tell the gate who ceased to speak and what was not answered: what such a site was ordered
        it may still give, until that ends."""
        settings = self._settings
        silent = site.silent(now_s, settings.stale_s)
        if not silent and site.up is not True:
            site.up = True
            site.actuator.heard(now_s, "", up=True)
        known = site.ours and now_s - site.since_s > settings.stale_s
        if silent and site.up is not False and (known or (site.up and site.online is False)):
            site.up = False
            text = site.doubt or "nothing is heard of the site"
            site.actuator.heard(now_s, text, up=False)
        after_s = unanswered_s(settings)
        for order in site.overdue(now_s, settings, all_=site.up is False):
            site.unanswered += 1
            text = f"{order.power_kw:+.1f} kW: no answer in {after_s:g} s"
            text += f": {DEAF}" if site.deaf else ""
            site.actuator.unanswered(order.power_kw, order.cleared_s, now_s, text)

    def _order(
        self, site: SiteState, council: Council, now_s: float, planned: Mapping[UnitId, Spell]
    ) -> Outgoing | None:
        settings = self._settings
        spell = spell_of(site.id, planned)
        cleared = site.actuator.wanted(spell.since_s if spell is not None else None)
        stale = site.silent(now_s, settings.stale_s)
        fenced = now_s - site.fenced_s < settings.refused_s and site.term == council.term
        if cleared is None or stale or fenced:
            return None
        ends_s = now_s + settings.order_valid_s
        ends_s = min(ends_s, spell.until_s) if spell is not None else ends_s
        is_due = due(cleared.power_kw, site.last, now_s, site.rated_kw, settings, ends_s)
        if not is_due or ends_s - now_s < LEAST_S:
            return None
        if site.term != council.term:
            site.term, site.count = council.term, 0
        if site.count >= COUNT_MAX:
            return None  # a new term begins before: see RegionLink
        site.count += 1
        seq = sequence(council.term, self._me, site.count)
        id_ = f"{self._me}:{seq}:{token_hex(TOKEN_BYTES)}"
        site.sent(Ordered(id_, cleared.power_kw, now_s, ends_s, cleared_s=cleared.at_s))
        site.tally = replace(site.tally, orders=site.tally.orders + 1)
        self.orders += 1
        words = ordering(id_, seq, cleared.power_kw, ends_s - now_s, self._clock.utc(), settings)
        return Outgoing(
            settings.topics.commands.replace("{node_id}", site.id),
            words,
            correlation=site.id.encode(),
            respond=settings.topics.replies.replace("{node_id}", self._me),
            void_s=math.ceil(settings.void_s),
        )

    def delivered(self, id_: str, *, heard: bool) -> None:
        """What the broker said of an order for a site: whether anybody is there to hear it."""
        if id_ in self.sites:
            self.sites[UnitId(id_)].deaf = not heard

    @property
    def worn(self) -> bool:
        """Whether the count of a term is nearly used up: a new term is needed."""
        return any(site.count > COUNT_MAX // 2 for site in self.sites.values())

    # --- what is written down ---

    def _count(self, now_s: float) -> None:
        """What was ordered against what is measured, for all; every so often to the journal."""
        for site in self.sites.values():
            order = site.in_force(now_s)
            fresh = now_s - site.sample_s <= self._settings.stale_s
            delivered_kw = site.values.get("power_kw") if fresh else None
            ordered_kw = order.power_kw if order is not None else None
            site.tally = counted(site.tally, now_s, ordered_kw, delivered_kw)
        if now_s - self._tallied_s >= self._settings.delivered_every_s:
            self._tallied_s = now_s
            for site in self.sites.values():
                row = row_of(site.tally, site.id, self._clock.utc())
                if row is not None:
                    self._journal.append(row)
                site.tally = begun(now_s)

    def lag_s(self, share: float) -> float:
        """How old the last samples were when they came: this share of them was not older."""
        lags_s = sorted(self._lags_s) or [0.0]
        return lags_s[min(int(share * len(lags_s)), len(lags_s) - 1)]

    def view(self) -> list[dict[str, object]]:
        """Every site in one line."""
        now_s = self._clock.now_s()
        return [site.line(now_s, self._settings.stale_s) for site in self.sites.values()]


class _Counted:
    """Counts what is refused inside, by its reason; the site that it is of has it too."""

    def __init__(self, refusals: Counter[str], site: SiteState | None = None) -> None:
        self._refusals, self._site = refusals, site

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, RefusedMessage):
            self._refusals[error.reason] += error.reason is not Reason.STRANGER
            if self._site is not None:
                self._site.doubted(error)
            return True
        return False
