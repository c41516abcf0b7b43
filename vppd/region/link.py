"""The region's link to its broker: hears the sites that are ours, finds out which those are, sends
what is due. While it is down nothing is ordered, and what was ordered ends at the sites."""

import asyncio
import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import aiomqtt
import structlog

from vppd.core.alarms import Code
from vppd.core.model import Plan, UnitId
from vppd.core.ports import Clock
from vppd.core.settings_aggregator import AggregatorSettings
from vppd.core.settings_mqtt import MqttSettings
from vppd.northbound.mqtt_client import WINDOW, BrokerError, Connection, Traffic
from vppd.northbound.mqtt_messages import broker
from vppd.region.fleet import Fleet
from vppd.region.flood import SHUT_S, Floods
from vppd.region.messages import MEMBERS_MAX, Kind, Topics, announced, nodes, read_member
from vppd.region.tenure import Council, heard, met, next_term, winner
from vppd.spine.alarms import AlarmBoard
from vppd.spine.supervise import described

REGION = UnitId("region")
FIRST_PAUSE_S = 1.0
HEALTHY_S = 30.0
BEAT_S = 0.5
SUBSCRIBED_AT_ONCE = 100
WINDOWS = 4 * WINDOW  # orders on their way
# A site that was cut off sends its past; of a thousand at once all of it may come.
REGIONAL = Traffic(packets_max=20_000, packets_per_s=5_000.0, incoming_max=10_000)
MESSAGE_MAX_BYTES = 65_536

log = structlog.get_logger()


class RegionLink:
    """One link of one aggregator, for ever. `plans`: those that live now."""

    def __init__(
        self,
        fleet: Fleet,
        settings: AggregatorSettings,
        mqtt: MqttSettings,
        me: str,
        clock: Clock,
        alarms: AlarmBoard,
        plans: Callable[[], Iterable[Plan]],
        trusted: Callable[[], bool],
    ) -> None:
        """Raises ValueError for a URL whose port cannot be."""
        self._fleet, self._settings, self._clock, self._alarms = fleet, settings, clock, alarms
        self._plans, self._trusted = plans, trusted
        url = settings.url or mqtt.url
        self._mqtt = replace(mqtt, url=url, session_expiry_s=0, command_max_bytes=MESSAGE_MAX_BYTES)
        self._place, self._url = broker(url), url
        self._topics = Topics(settings, me)
        self._client_id = f"{mqtt.client_id or me}-region"
        self.council = Council(me, {}, frozenset(), 0)
        self.up = False
        self._mine: frozenset[str] = frozenset()  # sites that are to be ours
        self._listening: frozenset[str] = frozenset()
        self._floods = Floods()
        self._recalled = False
        self._free_s = 0.0

    def status(self) -> Mapping[str, object]:
        """For /v1/status and /v1/region."""
        fleet, council = self._fleet, self.council
        return {
            "up": self.up,
            "abstains": not self._trusted(),
            "broker": self._url,
            "group": self._settings.group,
            "members": sorted(council.acts_on),
            "term": council.term,
            "sites": len(fleet.sites),
            "ours": sum(site.ours for site in fleet.sites.values()),
            "samples": fleet.samples,
            "late": fleet.late,
            "lag_p50_s": round(fleet.lag_s(0.5), 3),
            "lag_p99_s": round(fleet.lag_s(0.99), 3),
            "orders": fleet.orders,
            "answers": fleet.answers,
            "refused_orders": fleet.refused_orders,
            "refused_messages": dict(fleet.refusals),
            "strangers": sorted(fleet.strangers),
        }

    async def run(self) -> None:
        """For ever."""
        clock, most_s = self._clock, self._mqtt.reconnect_max_s
        pause_s = first_s = min(FIRST_PAUSE_S, most_s)
        while True:
            began_s, why = clock.now_s(), "the link ended"
            try:
                await self._session()
            except* OSError as errors:
                why = described(errors).removeprefix("BrokerError: ")
            if clock.now_s() - began_s >= HEALTHY_S:
                pause_s = first_s
            self._alarms.set(Code.MQTT_LOST, REGION, True, why)
            await clock.sleep_until(clock.now_s() + pause_s * random.uniform(0.5, 1.5))  # noqa: S311
            pause_s = min(2.0 * pause_s, most_s)

    # --- one link ---

    async def _session(self) -> None:
        """From connecting until it is lost, with an OSError in a group."""
        await self._recall()
        will = announced(self._topics, "offline", None, None)
        self._mine = self._listening = frozenset()
        connection = Connection(
            self._mqtt, self._place, self._client_id, will, self._clock, REGIONAL
        )
        try:
            await connection.connect()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(connection.tend())
                tasks.create_task(self._live(tasks, connection))
        except* aiomqtt.MqttError as errors:
            raise BrokerError(connection.why or described(errors)) from errors
        finally:
            if self.up:
                log.warning("region_lost", broker=self._url)
            self.up = False
            self._fleet.own(None)
            await connection.leave()

    async def _live(self, tasks: asyncio.TaskGroup, connection: Connection) -> None:
        """Join: nobody is acted on before it was heard who else lives. Then the rounds."""
        me = self._topics.me
        self.council = Council(me, {}, frozenset(), self.council.term)
        tasks.create_task(self._hear(connection))
        await connection.hear(self._topics.of(Kind.REPLIES, me), *self._topics.shared())
        await connection.hear(self._topics.of(Kind.MEMBERS, "+"), as_published=False)
        if self._trusted():
            await self._announce(connection, self.council)
        self.up = True
        log.info("region_up", broker=self._url)
        self._alarms.set(Code.MQTT_LOST, REGION, False)
        await self._clock.sleep_until(self._clock.now_s() + self._settings.settle_s)
        told_s = -math.inf
        while True:
            now_s = self._clock.now_s()
            if self._trusted():
                told_s = await self._meet(connection, told_s)
                await self._round(connection)
            elif self.council.acts_on:
                await self._abstain(connection)
            await self._clock.sleep_until(now_s + BEAT_S)

    async def _recall(self) -> None:
        """A term is greater than those of the last run too, whatever clock this machine has now."""
        if not self._recalled:
            with suppress(OSError):  # a journal that cannot be read keeps nobody from commanding
                term = await self._fleet.last_term()
                self.council = replace(self.council, term=max(self.council.term, term))
                self._recalled = True

    async def _abstain(self, connection: Connection) -> None:
        """A site judges an order by its time, so who does not know the time orders nothing: the
        others of the group are to have our sites."""
        self.council = replace(self.council, acts_on=frozenset())
        self._fleet.own(None)
        log.warning("region_abstains", why="our clock is not synchronised")
        await connection.send(announced(self._topics, "offline", None, None))

    async def _meet(self, connection: Connection, told_s: float) -> float:
        """Act on who lives now, once the broker has that; say so again in time. When it was said
        last."""
        settings, now_s, now = self._settings, self._clock.now_s(), self._clock.utc()
        council = met(self.council, now_s, now, settings.member_stale_s)
        if self._fleet.worn:
            council = replace(council, term=next_term(council, now))
        changed = council.term != self.council.term
        if changed:
            self._fleet.own(None)  # until it is announced nobody is ours
        if changed or now_s - told_s >= settings.member_stale_s / 3.0:
            await self._announce(connection, council)
            told_s = now_s
            # what was announced is acted on; what was heard meanwhile is kept
            council = replace(self.council, acts_on=council.acts_on, term=council.term)
        self.council = council
        if changed:
            log.info("region_members", members=sorted(council.acts_on), term=council.term)
            self._fleet.keep_term(council.term)
            self._mine = frozenset(
                id_ for id_ in self._fleet.sites if winner(id_, council.acts_on) == council.me
            )
        await self._listen(connection)
        self._fleet.own(self.council)
        return told_s

    async def _announce(self, connection: Connection, council: Council) -> None:
        message = announced(self._topics, "online", council, self._clock.utc())
        await connection.send(message)

    async def _listen(self, connection: Connection) -> None:
        """Hear the sites that are to be ours, but for those that flood, and no others."""
        wanted = self._mine - self._floods.shut(self._clock.now_s())
        if wanted == self._listening:
            return
        for some in _chunks(nodes(self._topics, self._listening - wanted)):
            await connection.unsubscribe(list(some))
        for some in _chunks(nodes(self._topics, wanted - self._listening)):
            await connection.hear(*some)
        self._listening = wanted

    async def _round(self, connection: Connection) -> None:
        """Send the orders that are due, as long as it stands who commands what."""
        claims = _claims(self.council)
        due = self._fleet.round(self.council, self._plans())
        for start in range(0, len(due), WINDOWS):
            if _claims(self.council) != claims:
                return
            some = due[start : start + WINDOWS]
            await self._pace(len(some))
            async with asyncio.TaskGroup() as tasks:
                made = [(each, tasks.create_task(connection.send(each))) for each in some]
            for message, sent in made:
                site = (message.correlation or b"").decode()
                self._fleet.delivered(site, heard=sent.result())

    async def _pace(self, count: int) -> None:
        from_s = max(self._free_s, self._clock.now_s())
        self._free_s = from_s + count / self._settings.messages_max_per_s
        await self._clock.sleep_until(from_s)

    # --- what comes ---

    async def _hear(self, connection: Connection) -> None:
        """Everything, one after the other. Raises MqttError when the link is lost."""
        async for message in connection.messages:
            about = self._topics.about(str(message.topic))
            if about is not None and isinstance(message.payload, bytes):
                self._take(*about, message.payload, retained=message.retain)

    def _take(self, kind: Kind, node: str, payload: bytes, *, retained: bool) -> None:
        fleet, council = self._fleet, self.council
        if kind in {Kind.EVENTS, Kind.REGISTRATION} and node in {council.me, *council.others}:
            return  # a member's own, on the same topics
        if kind in {Kind.TELEMETRY, Kind.STATUS} and node in fleet.sites and self._floods_of(node):
            return
        match kind:
            case Kind.TELEMETRY:
                fleet.sample(node, payload, retained=retained)
            case Kind.STATUS:
                fleet.status(node, payload)
            case Kind.REPLIES:
                fleet.answer(payload)
            case Kind.EVENTS:
                fleet.event(node, payload)
            case Kind.REGISTRATION:
                if node not in fleet.sites:
                    fleet.stranger(node)
            case Kind.MEMBERS:
                self._member(node, payload, retained=retained)

    def _floods_of(self, site: str) -> bool:
        """Whether a site says so much that it is not listened to."""
        now_s = self._clock.now_s()
        if self._floods.begins(site, now_s):
            self._fleet.shut_out(site, f"it floods: not listened to for {SHUT_S:g} s")
        return site in self._floods.shut(now_s)

    def _member(self, name: str, payload: bytes, *, retained: bool) -> None:
        now_s, now = self._clock.now_s(), self._clock.utc()
        try:
            member = read_member(name, payload, now_s, now, retained=retained)
        except ValueError:
            self._fleet.refusals["member"] += 1
            return
        others = self.council.others
        if member is not None and name not in others and len(others) >= MEMBERS_MAX:
            self._fleet.refusals["member"] += 1
            return
        if name == self._topics.me and member is not None:  # of our own last run
            self.council = replace(self.council, term=max(self.council.term, member.term))
        self.council = heard(self.council, name, member)


def _claims(council: Council) -> object:
    """What decides who commands what."""
    return council.acts_on, council.term, {n: each.acts_on for n, each in council.others.items()}


def _chunks(topics: Sequence[str]) -> Iterable[Sequence[str]]:
    for start in range(0, len(topics), SUBSCRIBED_AT_ONCE):
        yield topics[start : start + SUBSCRIBED_AT_ONCE]
