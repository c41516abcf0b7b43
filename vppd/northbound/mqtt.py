"""The link to the fleet by MQTT 5: says who the site is, sends what the journal holds, takes
commands. Nothing here can hold up the site: every wait and every queue is bounded, what is not sent
stays in the journal, and a broker that misbehaves is left alone for a while."""

import asyncio
import random
from collections.abc import Mapping, Sequence

import aiomqtt

from vppd.core.alarms import Code, Level
from vppd.core.model import SITE
from vppd.core.ports import Clock
from vppd.core.records import EventRow
from vppd.core.settings_mqtt import MqttSettings
from vppd.northbound.campus_views import hierarchy
from vppd.northbound.mqtt_acts import SOURCE, Clerk
from vppd.northbound.mqtt_backlog import Make, Stream
from vppd.northbound.mqtt_client import WINDOW, BrokerError, Connection
from vppd.northbound.mqtt_commands import Arrived
from vppd.northbound.mqtt_messages import Outgoing, Stored, Writer, broker
from vppd.northbound.site import Site
from vppd.northbound.telemetry import places
from vppd.northbound.views import View
from vppd.spine.supervise import described

FIRST_PAUSE_S = 1.0
HEALTHY_S = 30.0  # a link that lived so long is tried again at once
LOOK_S = 0.5  # for new rows and alarms
UNHEARD_S = 1.0  # nobody subscribes: looked at again after
WAITING_MAX = 16  # commands that wait for the disk or for their answer to be taken

Answers = asyncio.Queue[tuple[aiomqtt.Message, str | None, asyncio.Task[View] | None]]


class Pace:
    """Lets so many a second through, the streams together."""

    def __init__(self, clock: Clock, per_s: float) -> None:
        self._clock, self._per_s, self._free_s = clock, per_s, 0.0

    async def wait(self, count: int) -> None:
        """Return when `count` more may go."""
        from_s = max(self._free_s, self._clock.now_s())
        self._free_s = from_s + count / self._per_s
        await self._clock.sleep_until(from_s)


class FleetLink:
    """One link of one site, for ever."""

    def __init__(self, site: Site, settings: MqttSettings) -> None:
        """Raises ValueError for a URL whose port cannot be."""
        self._site, self._settings = site, settings
        self._writer = Writer(settings, site.settings.site.id, site.version)
        self._place = broker(settings.url)
        self._pace = Pace(site.clock, settings.messages_max_per_s)
        topics, writer = settings.topics, self._writer
        self.streams = {
            "telemetry": self._stream(
                "telemetry",
                "data_json",
                lambda epoch, seq, at, row: writer.sample(epoch, seq, at, str(row[0])),
                topics.telemetry,
                from_now=False,
            ),
            "events": self._stream(
                "event", "code, unit, level, text, data_json", writer.event, topics.events
            ),
        }
        self._clerk = Clerk(site, settings, self.streams)
        units = () if site.settings.role == "aggregator" else site.assets  # sites hear themselves
        nodes = (site.settings.site.id, *(asset.id for asset in units))
        self._nodes = {writer.topic(topics.commands, node): node for node in nodes}
        self.up = False
        self.heard = True  # somebody subscribes

    def _stream(
        self, name: str, columns: str, make: Make, topic: str, *, from_now: bool = True
    ) -> Stream:
        def gap(epoch: str, first: int, last: int) -> Stored:
            return self._writer.gap(topic, epoch, first, last)

        return Stream(
            name,
            columns,
            self._site.journal,
            self._site.clock,
            make,
            gap,
            repeat_s=self._settings.repeat_s,
            most_rows=self._settings.backlog_max_rows,
            from_now=from_now,
        )

    def status(self) -> Mapping[str, object]:
        """For /v1/status."""
        sent = {name: stream.sent for name, stream in self.streams.items()}
        return {"up": self.up, "heard": self.heard, "broker": self._settings.url, "sent": sent}

    async def run(self) -> None:
        """For ever. Raises OSError while the journal cannot be read."""
        clock, alarms = self._site.clock, self._site.alarms
        for stream in self.streams.values():
            await stream.recall()
        await self._clerk.recall()
        most_s = self._settings.reconnect_max_s
        pause_s = first_s = min(FIRST_PAUSE_S, most_s)
        while True:
            began_s, why = clock.now_s(), "the link ended"
            try:
                await self._session()
            except* OSError as errors:
                why = described(errors).removeprefix("BrokerError: ")
            if clock.now_s() - began_s >= HEALTHY_S:
                pause_s = first_s
            alarms.set(Code.MQTT_LOST, SITE, True, why)
            # many sites must not come back to a restarted broker all at once
            wait_s = pause_s * random.uniform(0.5, 1.5)  # noqa: S311
            await clock.sleep_until(clock.now_s() + wait_s)
            pause_s = min(2.0 * pause_s, most_s)

    # --- one link ---

    async def _session(self) -> None:
        """From connecting until it is lost, with a BrokerError in a group that says why."""
        client_id = self._settings.client_id or self._site.settings.site.id
        will = self._writer.status("offline", None)
        connection = Connection(
            self._settings, self._place, client_id, will, self._site.clock, by_hand=True
        )
        try:
            await connection.connect()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(connection.tend())
                tasks.create_task(self._live(tasks, connection))
        except* (aiomqtt.MqttError, OSError) as errors:
            raise BrokerError(_because(connection, errors)) from errors
        finally:
            if self.up:
                self.up = False
                self._desk_link(up=False)
            self._clerk.write_down()
            await connection.leave()

    async def _live(self, tasks: asyncio.TaskGroup, connection: Connection) -> None:
        """Greet, then everything at once."""
        for topic in self._nodes:
            await connection.hear(topic)
        for message in self._greeting():
            if connection.takes(message):
                await connection.send(message)
        self.up = True
        self._site.alarms.set(Code.MQTT_LOST, SITE, False)
        self._desk_link(up=True)
        answers: Answers = asyncio.Queue(WAITING_MAX)
        tasks.create_task(self._hear(tasks, connection, answers))
        tasks.create_task(self._answer(connection, answers))
        tasks.create_task(self._tell_alarms(connection))
        for stream in self.streams.values():
            tasks.create_task(self._forward(connection, stream))

    def _greeting(self) -> list[Outgoing]:
        site, writer = self._site, self._writer
        top = hierarchy(site)
        if site.settings.role == "aggregator":
            top = places(top)  # sites register themselves
        greeting = [writer.registration(top, site.clock.utc())]
        if self._settings.home_assistant is not None:
            detailed = self._settings.detail == "nodes"
            greeting += writer.discovery([asset.id for asset in site.assets if detailed])
        return greeting

    def _desk_link(self, *, up: bool) -> None:
        if self._site.desk is not None:
            self._site.desk.link(SOURCE, up=up)

    async def _tell_alarms(self, connection: Connection) -> None:
        """Online, with what stands; again as soon as that changes."""
        told: list[View] | None = None
        while True:
            standing: list[View] = [
                {
                    "code": each.code,
                    "unit": each.unit,
                    "level": each.level,
                    "since": each.since,
                    "text": each.text,
                }
                for each in self._site.alarms.standing()
            ]
            if standing != told:
                await connection.send(self._online(connection, standing))
                told = standing
            await self._site.clock.sleep_until(self._site.clock.now_s() + LOOK_S)

    def _online(self, connection: Connection, standing: Sequence[View]) -> Outgoing:
        """With as much of what stands, the worst first, as the broker takes in one packet: a bad
        day must not end the link."""
        now, said = self._site.clock.utc(), len(standing)
        while True:
            unsaid = len(standing) - said
            message = self._writer.status("online", now, standing[:said], unsaid)
            if said == 0 or connection.takes(message):
                return message
            said //= 2

    async def _hear(
        self, tasks: asyncio.TaskGroup, connection: Connection, answers: Answers
    ) -> None:
        """Commands, each done as it comes. Raises MqttError when the link is lost."""
        async for message in connection.messages:
            node, done = self._nodes.get(str(message.topic)), None
            if node is not None and isinstance(message.payload, bytes):  # else not asked for
                done = self._clerk.take(Arrived(node, message.payload, message.retain))
            answer = tasks.create_task(self._clerk.answer(done)) if done is not None else None
            await answers.put((message, node, answer))

    async def _answer(self, connection: Connection, answers: Answers) -> None:
        """Each as soon as the disk has it, in the order they came. Only then the broker may forget
        the command: one that was lost with us is delivered again."""
        while True:
            message, node, answer = await answers.get()
            view = await answer if answer is not None else None
            connection.done(message)
            if node is not None and view is not None:
                topic = getattr(message.properties, "ResponseTopic", None)
                correlation = getattr(message.properties, "CorrelationData", None)
                await connection.send(self._writer.reply(topic, correlation, node, view))

    async def _forward(self, connection: Connection, stream: Stream) -> None:
        """What the journal holds, in order, each after the acknowledgment of those before."""
        clock = self._site.clock
        stream.begin()
        while True:
            after = stream.sent
            rows = [
                row if all(map(connection.takes, row.messages)) else stream.instead(row)
                for row in await stream.next(WINDOW)
            ]
            heard = await self._sent(connection, rows)
            self.heard = all(heard)
            for row, known in zip(rows, heard, strict=True):
                if not known and self._settings.hold_unheard:
                    await clock.sleep_until(clock.now_s() + UNHEARD_S)
                    break
                stream.taken(row, after)
                after = row.seq
                if row.missing is not None:
                    self._journal_gap(stream, *row.missing)
            if not rows:
                await clock.sleep_until(clock.now_s() + LOOK_S)

    def _journal_gap(self, stream: Stream, first: int, last: int) -> None:
        text = f"{stream.name} {first} to {last} could not be sent: deleted, or too large"
        row = EventRow(self._site.clock.utc(), Code.TELEMETRY_GAP, SITE, Level.WARNING, text)
        self._site.journal.append(row)

    async def _sent(self, connection: Connection, rows: Sequence[Stored]) -> list[bool]:
        """Whether the first message of each row was heard, when all are acknowledged."""
        numbered = [(index, each) for index, row in enumerate(rows) for each in row.messages]
        heard: dict[int, bool] = {}
        for start in range(0, len(numbered), WINDOW):
            some = numbered[start : start + WINDOW]
            await self._pace.wait(len(some))
            async with asyncio.TaskGroup() as tasks:
                made = [tasks.create_task(connection.send(message)) for _, message in some]
            for (index, _), task in zip(some, made, strict=True):
                heard.setdefault(index, task.result())
        return [heard[index] for index in range(len(rows))]


def _because(connection: Connection, errors: BaseException) -> str:
    """Why a link ended: the first cause, not all that came of it."""
    while isinstance(errors, BaseExceptionGroup):
        errors = errors.exceptions[0]
    return connection.why or described(errors)
