"""Commands by MQTT: which are refused before anything is done, and why. Pure.

A command is one flat JSON object:

    {"id": "a-17", "seq": 17, "issued_at": "2026-11-22T10:00:00Z", "command": "order",
     "kind": "absolute", "power_kw": 40, "valid_s": 60, "ramp_kw_per_s": 5}

`sender` names who counts `seq` (default: one for all), `expires_at` when the command is void. A
sequence must be greater than the sender's last. Retained commands are never obeyed: they would come
again with every new link.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from vppd.core.settings_mqtt import MqttSettings
from vppd.northbound.body import Body, parse
from vppd.northbound.problems import Problem

SENDERS_MAX = 64
SEQUENCE_MAX = 2**53
AHEAD_S = 5.0  # a sender's clock may be so much ahead of ours
EXPIRY_MAX_S = 86_400.0


class Reason(StrEnum):
    """Why a command is not obeyed, besides what an order is refused for."""

    RETAINED = "retained"
    OVERSIZED = "oversized"
    MALFORMED = "malformed"
    EXPIRED = "expired"
    NOT_YET = "not_yet"  # issued in the future
    REPLAYED = "replayed"
    UNKNOWN = "unknown"
    NOT_ALLOWED = "not_allowed"
    CLOCK = "clock_not_synchronised"  # its age cannot be judged
    TOO_MANY_SENDERS = "too_many_senders"


@dataclass(frozen=True, slots=True)
class Command:
    """What came, as far as it could be read. `body` holds the members of its own kind."""

    node: str
    word: str = ""
    id: str = ""
    seq: int | None = None
    sender: str = ""
    body: Body = field(default_factory=lambda: Body({}))


class RefusedCommand(Exception):  # noqa: N818  an answer, not an error of ours
    """Why not, with as much of the command as could be read, and what else the answer says."""

    def __init__(
        self, reason: str, text: str, command: Command, more: Mapping[str, object] | None = None
    ) -> None:
        super().__init__(text)
        self.reason, self.text, self.command = reason, text, command
        self.more = more or {}


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message on a command topic."""

    node: str
    payload: bytes
    retained: bool = False


def read(
    arrived: Arrived,
    last: Mapping[str, int],
    now: datetime,
    settings: MqttSettings,
    *,
    clock_trusted: bool,
) -> Command:
    """The command, when it is whole, in time, new and allowed. `last` are the sequences of the
    senders. Raises RefusedCommand."""
    plain = Command(arrived.node)
    if len(arrived.payload) > settings.command_max_bytes:
        text = f"{len(arrived.payload)} bytes, at most {settings.command_max_bytes}"
        raise RefusedCommand(Reason.OVERSIZED, text, plain)
    try:
        body = parse(arrived.payload)
        command = _named(arrived.node, body)
    except Problem as problem:
        raise RefusedCommand(Reason.MALFORMED, problem.detail, plain) from None
    if arrived.retained:
        raise RefusedCommand(Reason.RETAINED, "a command must not be retained", command)
    try:
        issued, expires = _times(body, settings)
    except Problem as problem:
        raise RefusedCommand(Reason.MALFORMED, problem.detail, command) from None
    if not clock_trusted:
        raise RefusedCommand(Reason.CLOCK, "our clock is not synchronised", command)
    if now >= expires:
        raise RefusedCommand(Reason.EXPIRED, f"void since {expires.isoformat()}", command)
    if issued > now + timedelta(seconds=AHEAD_S):
        raise RefusedCommand(Reason.NOT_YET, f"issued at {issued.isoformat()}", command)
    _check_sequence(command, last)
    if command.word not in settings.commands:
        allowed = ", ".join(settings.commands) or "nothing"
        known = command.word in WORDS
        reason = Reason.NOT_ALLOWED if known else Reason.UNKNOWN
        raise RefusedCommand(reason, f"{command.word}: mqtt.commands allows {allowed}", command)
    return command


WORDS = frozenset({"order", "withdraw", "resend", "droop", "enable", "disable", "emergency_stop"})


def _named(node: str, body: Body) -> Command:
    """Raises Problem."""
    sequence = body.number("seq", low=0, high=SEQUENCE_MAX)
    if not sequence.is_integer():
        raise Problem(422, "unusable-value", "seq must be a whole number")
    sender = body.id("sender") if body.has("sender") else ""
    word = body.text("command")
    id_ = body.text("id")
    if not id_:
        raise Problem(422, "unusable-value", "id is empty")
    return Command(node, word, id_, int(sequence), sender, body)


def _times(body: Body, settings: MqttSettings) -> tuple[datetime, datetime]:
    """When it was issued and when it is void. Raises Problem."""
    issued = _moment(body, "issued_at")
    if not body.has("expires_at"):
        return issued, issued + timedelta(seconds=settings.command_expiry_s)
    expires = _moment(body, "expires_at")
    if not timedelta(0) < expires - issued <= timedelta(seconds=EXPIRY_MAX_S):
        raise Problem(422, "unusable-value", "expires_at must be within a day after issued_at")
    return issued, expires


def _moment(body: Body, name: str) -> datetime:
    text = body.text(name)
    with suppress(ValueError, OverflowError):
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    raise Problem(422, "unusable-value", f"{name} must be a time with its zone, is {text[:64]}")


def _check_sequence(command: Command, last: Mapping[str, int]) -> None:
    known = last.get(command.sender)
    if known is None and len(last) >= SENDERS_MAX:
        text = f"{SENDERS_MAX} senders are known already"
        raise RefusedCommand(Reason.TOO_MANY_SENDERS, text, command)
    if known is not None and command.seq is not None and command.seq <= known:
        text = f"seq {command.seq} is not greater than {known}"
        raise RefusedCommand(Reason.REPLAYED, text, command)
