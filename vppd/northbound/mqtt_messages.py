"""What goes out over MQTT: topics and payloads. Pure.

Every payload is one JSON object. Samples, gaps and events carry `epoch` and `seq`: in one epoch the
sequence of a topic counts up, and a receiver that drops what is not greater than its last sees
everything once and in order. A hole in it without a `gap` is a loss that `resend` mends. A new
epoch means a new journal: the sequence begins anew.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from urllib.parse import urlsplit

from vppd.campus.aggregate import Telemetry
from vppd.core.settings_mqtt import MqttSettings
from vppd.northbound.telemetry import record_of, unpacked, whole
from vppd.northbound.views import View
from vppd.spine.schema import from_micros

TOPIC_MAX = 256
PORTS = {"mqtt": 1883, "mqtts": 8883}
SENSORS = (  # Home Assistant: what, where in a sample, unit, device class
    ("power", "record.power_kw", "kW", "power"),
    ("soc", "record.soc_pct", "%", "battery"),
    ("stored", "record.stored_kwh", "kWh", "energy_storage"),
    ("frequency", "frequency_hz", "Hz", "frequency"),
)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message on its way."""

    topic: str
    payload: bytes
    retain: bool = False
    correlation: bytes | None = None
    respond: str | None = None  # where an answer is asked for
    void_s: int | None = None  # the broker throws it away when it waits longer


@dataclass(frozen=True, slots=True)
class Stored:
    """What is sent of one row of the journal. The first message decides whether it was heard."""

    seq: int
    messages: tuple[Outgoing, ...]
    missing: tuple[int, int] | None = None  # it tells of rows that are not there


@dataclass(frozen=True, slots=True)
class Place:
    """Where the broker is."""

    host: str
    port: int
    encrypted: bool


def broker(url: str) -> Place:
    """Of a URL that the configuration let through. Raises ValueError for a port beyond 65535."""
    parts = urlsplit(url)
    return Place(parts.hostname or "", parts.port or PORTS[parts.scheme], parts.scheme == "mqtts")


class Writer:
    """Makes the messages of one site."""

    def __init__(self, settings: MqttSettings, site_id: str, version: str) -> None:
        self._settings, self._site_id, self._version = settings, site_id, version

    def topic(self, pattern: str, node_id: str | None = None) -> str:
        """A topic of the site, or of one of its nodes."""
        node = self._site_id if node_id is None else node_id
        return pattern.replace("{node_id}", node).replace("{site_id}", self._site_id)

    def status(
        self, state: str, at: datetime | None, alarms: Sequence[View] = (), unsaid: int = 0
    ) -> Outgoing:
        """online or offline, with the standing alarms, but for so many `unsaid`; kept by the
        broker. The will has no time: it is written long before it is sent."""
        view: dict[str, object] = {"state": state, "version": self._version, "at": at}
        view |= {"alarms": list(alarms)} | ({"alarms_unsaid": unsaid} if unsaid else {})
        return self._made(self._settings.topics.status, view, retain=True)

    def registration(self, top: Telemetry, at: datetime) -> Outgoing:
        """Who the site is: capacity and the whole tree down to its nodes."""
        above, place = [], whole(top)
        each = top
        while each is not place:
            above.append({"level": each.level, "id": each.id})
            each = each.children[0]
        topics = self._settings.topics
        view = {
            "version": self._version,
            "at": at,
            "above": above,
            "record": record_of(place),
            "telemetry": self.topic(topics.telemetry),
            "telemetry_every_s": self._settings.telemetry_every_s,
            "commands": {"topic": self.topic(topics.commands), "known": self._settings.commands},
        }
        return self._made(topics.registration, view, retain=True)

    def sample(self, epoch: str, seq: int, at: int, text: str) -> Stored:
        """A row of `telemetry`: the site first, then its nodes."""
        sample = json.loads(text)
        head = {"epoch": epoch, "seq": seq, "at": from_micros(at)}
        topic, hz = self._settings.topics.telemetry, sample["frequency_hz"]
        view = {**head, "frequency_hz": hz, "record": unpacked(sample["site"])}
        messages = [self._made(topic, view)]
        for id_, record in sample["nodes"].items():
            messages.append(self._made(topic, {**head, "record": unpacked(record)}, node_id=id_))
        return Stored(seq, tuple(messages))

    def event(self, epoch: str, seq: int, at: int, row: Sequence[object]) -> Stored:
        """A row of `event`."""
        code, unit, level, text, data = row
        view = {
            "epoch": epoch,
            "seq": seq,
            "at": from_micros(at),
            "code": code,
            "unit": unit,
            "level": level,
            "text": text,
            "data": json.loads(str(data)),
        }
        return Stored(seq, (self._made(self._settings.topics.events, view),))

    def gap(self, pattern: str, epoch: str, first: int, last: int) -> Stored:
        """Rows that are not there any more."""
        view = {"epoch": epoch, "seq": last, "gap": {"from": first, "to": last}}
        return Stored(last, (self._made(pattern, view),), (first, last))

    def reply(
        self,
        topic: str | None,
        correlation: bytes | None,
        node_id: str,
        view: Mapping[str, object],
    ) -> Outgoing:
        """The answer to a command, where it asks for it if it may, else on our own topic."""
        asked = topic is not None and self._may_reply(topic)
        pattern = topic if asked and topic is not None else self._settings.topics.replies
        made = self._made(pattern, view, node_id=node_id, plain=asked)
        return replace(made, correlation=correlation)

    def _may_reply(self, topic: str) -> bool:
        """Nobody makes us write to a topic of commands or of another site's telemetry."""
        known = topic.startswith(self._settings.reply_prefix) and topic.isprintable()
        return known and len(topic) <= TOPIC_MAX and not {"#", "+"} & set(topic)

    def discovery(self, nodes: Sequence[str]) -> list[Outgoing]:
        """What Home Assistant wants to know of each sensor; kept by the broker."""
        return [
            self._sensor(node, each)
            for node in (self._site_id, *nodes)
            for each in SENSORS
            if node == self._site_id or each[1].startswith("record.")
        ]

    def _sensor(self, node: str, sensor: tuple[str, str, str, str]) -> Outgoing:
        what, where, unit, kind = sensor
        topics, name = self._settings.topics, f"{self._site_id}_{node}_{what}"
        view = {
            "name": what,
            "unique_id": name,
            "state_topic": self.topic(topics.telemetry, node),
            "value_template": f"{{{{ value_json.{where} }}}}",
            "unit_of_measurement": unit,
            "device_class": kind,
            "availability_topic": self.topic(topics.status),
            "availability_template": "{{ value_json.state }}",
            "device": {"identifiers": [f"{self._site_id}_{node}"], "name": node},
        }
        topic = f"{self._settings.home_assistant}/sensor/{name.replace('.', '_')}/config"
        return Outgoing(topic, _encoded(view), retain=True)

    def _made(
        self,
        pattern: str,
        view: Mapping[str, object],
        *,
        node_id: str | None = None,
        retain: bool = False,
        plain: bool = False,
    ) -> Outgoing:
        node = self._site_id if node_id is None else node_id
        topic = pattern if plain else self.topic(pattern, node)
        return Outgoing(topic, _encoded({"site": self._site_id, "node": node, **view}), retain)


def _encoded(view: Mapping[str, object]) -> bytes:
    return json.dumps(view, default=_said, separators=(",", ":"), allow_nan=False).encode()


def _said(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    raise TypeError(f"no message takes {type(value).__name__}")
