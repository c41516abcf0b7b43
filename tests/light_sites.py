"""Sites as an aggregator meets them, and no more of them: real records in the real messages, orders
judged by the real rules, a last will. What a site gives is what it is ordered, else its own."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from vppd.campus.aggregate import Telemetry
from vppd.campus.hierarchy import Level
from vppd.core.settings_mqtt import MqttSettings
from vppd.core.settings_scada import OrderSettings
from vppd.grid import orders
from vppd.grid.orders import Book, Offer, Order, OrderKind
from vppd.northbound.mqtt_commands import Arrived, Command, RefusedCommand, read
from vppd.northbound.mqtt_messages import Outgoing, Writer
from vppd.northbound.telemetry import packed

LINGER_S = 0.05


@dataclass
class LightSite:
    """One site of `rated_kw`. `own_kw` is what it gives when nobody orders anything."""

    id: str
    settings: MqttSettings
    rated_kw: float = 100.0
    takes_kw: float = 100.0  # it refuses an order beyond
    own_kw: float = 1.0
    silent: bool = False  # it samples nothing any more
    obeyed: list[tuple[str, int, float]] = field(default_factory=list)  # order id, seq, kW
    refused: list[str] = field(default_factory=list)
    up: bool = False
    over: bool = False  # it is to end, also when a wait swallowed its cancel
    _book: Book = field(default_factory=Book)
    _last: dict[str, int] = field(default_factory=dict)
    _seq: int = 0
    _client: aiomqtt.Client | None = None

    def __post_init__(self) -> None:
        self._writer = Writer(self.settings, self.id, "test")
        self._epoch = f"{self.id}-{datetime.now(UTC).timestamp():.0f}"
        self._rules = OrderSettings(export_max_kw=self.takes_kw, on_link_loss="expire")

    @property
    def power_kw(self) -> float:
        """What it gives now."""
        now_s = asyncio.get_running_loop().time()
        self._book, _ = orders.advance(self._book, self._rules, self._offer(), now_s)
        ordered_kw = self._book.power_kw(OrderKind.ABSOLUTE)
        return self.own_kw if ordered_kw is None else ordered_kw

    @property
    def members(self) -> list[str]:
        """Whom it obeyed, each run of orders once."""
        names = [id_.partition(":")[0] for id_, _, _ in self.obeyed]
        return [name for at, name in enumerate(names) if at == 0 or names[at - 1] != name]

    def record(self) -> Telemetry:
        """Its sum, as a site makes it."""
        at_kw, all_kw = self.power_kw, self.rated_kw
        return Telemetry(
            Level.CAMPUS,
            self.id,
            power_kw=at_kw,
            reactive_kvar=0.0,
            setpoint_kw=at_kw,
            rated_kw=all_kw,
            energy_kwh=2.0 * all_kw,
            stored_kwh=all_kw,
            soc_pct=50.0,
            available_up_kw=all_kw - at_kw,
            available_down_kw=all_kw + at_kw,
            available_discharge_kw=all_kw,
            available_charge_kw=all_kw,
            available_discharge_kwh=0.8 * all_kw,
            available_charge_kwh=0.9 * all_kw,
            losses_kw=0.0,
            nodes=4,
            states={"running": 4},
        )

    def sample(self) -> Outgoing:
        """Its next sample."""
        self._seq += 1
        whole = {"frequency_hz": 50.0, "site": packed(self.record()), "nodes": {}}
        at = int(datetime.now(UTC).timestamp() * 1e6)
        return self._writer.sample(self._epoch, self._seq, at, json.dumps(whole)).messages[0]

    async def run(self, phase_s: float = 0.0, tls: ssl.SSLContext | None = None) -> None:
        """For ever; it comes back when the broker does."""
        await asyncio.sleep(phase_s)
        while not self.over:
            with contextlib.suppress(aiomqtt.MqttError):
                await self._session(tls)
            self.up = False
            await asyncio.sleep(LINGER_S)

    async def _session(self, tls: ssl.SSLContext | None) -> None:
        place = self.settings.url.partition("://")[2].partition(":")
        will = self._writer.status("offline", None)
        async with aiomqtt.Client(
            place[0],
            int(place[2]),
            identifier=self.id,
            protocol=aiomqtt.ProtocolVersion.V5,
            tls_context=tls,
            will=aiomqtt.Will(will.topic, will.payload, qos=1, retain=True),
        ) as client:
            self._client = client
            await client.subscribe(self._writer.topic(self.settings.topics.commands), qos=1)
            now = datetime.now(UTC)
            await self._send(self._writer.registration(self.record(), now))
            await self._send(self._writer.status("online", now))
            self.up = True
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._sample())
                async for message in client.messages:
                    await self._obey(message)

    async def _sample(self) -> None:
        while not self.over:
            if not self.silent:
                await self._send(self.sample())
            await asyncio.sleep(self.settings.telemetry_every_s)

    async def _obey(self, message: aiomqtt.Message) -> None:
        assert isinstance(message.payload, bytes)
        arrived = Arrived(self.id, message.payload, message.retain)
        try:
            command = read(
                arrived, self._last, datetime.now(UTC), self.settings, clock_trusted=True
            )
            view = self._ordered(command)
        except RefusedCommand as refused:
            command = refused.command
            self.refused.append(f"{refused.reason}: {refused.text}")
            view = {"verdict": "refused", "reason": str(refused.reason), "text": refused.text}
            view |= refused.more
        view = {"id": command.id, "seq": command.seq, "command": command.word, **view}
        topic = getattr(message.properties, "ResponseTopic", None)
        correlation = getattr(message.properties, "CorrelationData", None)
        await self._send(self._writer.reply(topic, correlation, self.id, view))

    def _ordered(self, command: Command) -> dict[str, object]:
        """By the rules of the order desk."""
        assert command.seq is not None
        self._last[command.sender] = command.seq
        body, now_s = command.body, asyncio.get_running_loop().time()
        power_kw = body.number("power_kw", low=-1e9, high=1e9)
        valid_s = body.number("valid_s", low=0.1, high=86_400.0)
        order = Order(OrderKind.ABSOLUTE, power_kw, "mqtt", now_s, valid_s, None, command.id)
        self._book, _ = orders.advance(self._book, self._rules, self._offer(), now_s)
        found = orders.refusal(self._book, order, self._rules, self._offer())
        if found is not None:
            low_kw, high_kw = orders.range_kw(order.kind, self._rules, self._offer())
            raise RefusedCommand(*found, command, {"low_kw": low_kw, "high_kw": high_kw})
        self._book = orders.accept(self._book, order, self._rules, self.own_kw)
        self.obeyed.append((command.id, command.seq, power_kw))
        return {"verdict": "accepted", "journaled": True}

    def _offer(self) -> Offer:
        return Offer(self.rated_kw, self.rated_kw, self.rated_kw, self.rated_kw)

    async def _send(self, message: Outgoing) -> None:
        assert self._client is not None
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        if message.correlation is not None:
            properties.CorrelationData = message.correlation
        await self._client.publish(message.topic, message.payload, 1, message.retain, properties)

    async def say(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Anything at all, in its name."""
        assert self._client is not None
        await self._client.publish(topic, payload, 1, retain)


@contextlib.asynccontextmanager
async def living(
    sites: Sequence[LightSite], tls: ssl.SSLContext | None = None, spread_s: float = 0.0
) -> AsyncIterator[None]:
    """All of them connected and sampling, begun over `spread_s`."""
    async with asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(site.run(spread_s * number / len(sites), tls))
            for number, site in enumerate(sites)
        ]
        try:
            while not all(site.up for site in sites):
                await asyncio.sleep(LINGER_S)
            yield
        finally:
            for site in sites:
                site.over = True
            left = set(running)
            while left:  # asyncio.wait_for of aiomqtt loses one that comes with an answer
                for task in left:
                    task.cancel()
                _, left = await asyncio.wait(left, timeout=1.0)


def settings_of(url: str, **rest: Any) -> MqttSettings:
    """Those of a light site."""
    return MqttSettings(url=url, detail="site", **rest)
