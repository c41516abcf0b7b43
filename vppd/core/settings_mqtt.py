"""Settings of the link to the fleet: an MQTT 5 broker."""

from dataclasses import dataclass
from typing import Literal

from vppd.core.profile import key

URL = r"^mqtts?://(\[[0-9A-Fa-f:.]+\]|[^\s/:@\[\]]+)(:[0-9]{1,5})?$"
TOPIC = r"^[^\s#+$\x00]([^\s#+\x00]{0,254})$"
WORDS = r"^[A-Za-z0-9_.-]{1,64}$"

CommandWord = Literal["order", "withdraw", "resend", "droop", "enable", "disable", "emergency_stop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttTopicSettings:
    """Where messages go; `{node_id}` is the site's id or a unit's, `{site_id}` the site's."""

    telemetry: str = key("samples and gaps", "vpp/telemetry/{node_id}", pattern=TOPIC)
    commands: str = key("commands and orders are heard here", "vpp/commands/{node_id}")
    status: str = key("online, offline and alarms, retained", "vpp/status/{node_id}", pattern=TOPIC)
    events: str = key("what happened, from the journal", "vpp/events/{node_id}", pattern=TOPIC)
    registration: str = key(
        "capacity and hierarchy, retained", "vpp/registration/{node_id}", pattern=TOPIC
    )
    replies: str = key(
        "replies that name no response topic of their own", "vpp/replies/{node_id}", pattern=TOPIC
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttTlsSettings:
    """PEM files: a path, or the name of a systemd credential."""

    ca: str | None = key("authority of the broker (null: those of the system)", None)
    certificate: str | None = key("our certificate with its chain (null: none)", None)
    key: str | None = key("its private key (null: in the certificate's file)", None)


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttSettings:
    """The link to the fleet."""

    url: str = key("mqtts://host:port; mqtt:// is not encrypted", pattern=URL)
    client_id: str | None = key("null: the site's id", None, pattern=WORDS)
    username: str | None = key("null: none", None)
    password: str | None = key("!credential NAME (null: none)", None)
    tls: MqttTlsSettings = key("certificates", MqttTlsSettings)
    topics: MqttTopicSettings = key("topics", MqttTopicSettings)
    keepalive_s: int = key("a silent broker is given up after 1.5 times this", 30, ge=5, le=600)
    reconnect_max_s: float = key(
        "the pause before the next try doubles up to this", 60.0, ge=0.1, le=3600
    )
    session_expiry_s: int = key(
        "the broker keeps what is meant for us while we are away", 3600, ge=0, le=604_800
    )
    telemetry_every_s: float = key("one sample in so many seconds", 10.0, ge=0.1, le=3600)
    detail: Literal["site", "nodes"] = key(
        "site: one message a sample; nodes: one more for each unit", "nodes"
    )
    backlog_max_rows: int = key(
        "older samples are skipped, with a gap told; the journal's own bounds come first",
        100_000,
        ge=10,
    )
    messages_max_per_s: float = key("no faster, also when catching up", 200.0, gt=0, le=5000)
    repeat_s: float = key(
        "after a break, what was acknowledged in so many seconds before is sent again: a broker "
        "that crashed may have lost it; the far side drops the sequences it has",
        60.0,
        ge=0,
        le=86_400,
    )
    hold_unheard: bool = key(
        "true: while the broker says that nobody subscribes, samples wait in the journal", True
    )
    commands: tuple[CommandWord, ...] = key(
        "what may be commanded: order, withdraw, resend, droop, enable, disable, emergency_stop",
        ("order", "withdraw", "resend"),
    )
    command_expiry_s: float = key(
        "a command that names no expiry is void so long after its issue", 30.0, gt=0, le=3600
    )
    command_max_bytes: int = key("a larger one is refused", 4096, ge=256, le=65_536)
    reply_prefix: str = key(
        "a response topic asked for must begin with it", "vpp/replies/", min_length=1
    )
    home_assistant: str | None = key(
        "discovery prefix, usually homeassistant (null: no discovery)", None, pattern=WORDS
    )
