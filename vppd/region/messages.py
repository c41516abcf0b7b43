"""Topics of a region, and what its aggregators tell one another. Pure.

What one site says is subscribed by the member that owns it alone, with what is retained of it. What
any one member may take (registrations, events) is a shared subscription of the group: the broker
gives each message to one of them. A shared subscription would split the samples of one site over
the members, and brings nothing retained; so nobody could dispatch by it.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from vppd.core.settings import ID
from vppd.core.settings_aggregator import AggregatorSettings
from vppd.northbound.mqtt_messages import Outgoing
from vppd.region.tenure import TERM_MAX, Council, Member

MEMBERS_MAX = 64
MEMBER_MAX_BYTES = 8192


class Kind(StrEnum):
    """What a message is about."""

    TELEMETRY = "telemetry"
    STATUS = "status"
    REGISTRATION = "registration"
    EVENTS = "events"
    REPLIES = "replies"
    MEMBERS = "members"


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one group, as one of its members uses them."""

    settings: AggregatorSettings
    me: str

    def of(self, kind: Kind, node: str) -> str:
        """The topic of a site or of a member; `+` of all."""
        pattern: str = getattr(self.settings.topics, kind)
        return pattern.replace("{group}", self.settings.group).replace("{node_id}", node)

    def site(self, id_: str) -> tuple[str, str]:
        """What the owner of a site hears of it."""
        return self.of(Kind.STATUS, id_), self.of(Kind.TELEMETRY, id_)

    def shared(self) -> tuple[str, ...]:
        """What the members hear together, each message one of them."""
        kinds = (Kind.REGISTRATION, Kind.EVENTS)[: 2 if self.settings.keep_events else 1]
        return tuple(f"$share/{self.settings.group}/{self.of(kind, '+')}" for kind in kinds)

    def about(self, topic: str) -> tuple[Kind, str] | None:
        """Which kind of message comes on a topic, and of whom; None: of none that is known."""
        for kind in Kind:
            head, _, tail = self.of(kind, "\0").partition("\0")
            node = topic[len(head) : len(topic) - len(tail)]
            fits = topic.startswith(head) and topic.endswith(tail) and "/" not in node
            if fits and node and len(head) + len(tail) < len(topic):
                return kind, node
        return None


def announced(topics: Topics, state: str, council: Council | None, at: datetime | None) -> Outgoing:
    """What a member says of itself, kept by the broker; as its last will it is offline."""
    view = {
        "member": topics.me,
        "state": state,
        "at": at.isoformat() if at is not None else None,
        "acts_on": sorted(council.acts_on) if council is not None else [],
        "term": council.term if council is not None else 0,
    }
    payload = json.dumps(view, separators=(",", ":")).encode()
    return Outgoing(topics.of(Kind.MEMBERS, topics.me), payload, retain=True)


def read_member(
    name: str, payload: bytes, now_s: float, now: datetime, *, retained: bool
) -> Member | None:
    """What another member announced; None: it is gone. Raises ValueError."""
    if len(payload) > MEMBER_MAX_BYTES:
        raise ValueError("too large")
    try:
        view = json.loads(payload) if payload else {"member": name, "state": "offline"}
    except RecursionError:  # what is retained comes again with every link: it must not end one
        raise ValueError("nested too deep") from None
    if not isinstance(view, dict) or view.get("member") != name:
        raise ValueError("it is not of this member")
    if view.get("state") == "offline":
        return None
    acts_on, term = view.get("acts_on"), view.get("term")
    if not isinstance(acts_on, list) or len(acts_on) > MEMBERS_MAX or not _is_term(term):
        raise ValueError("it has no acts_on or term")
    if not all(isinstance(each, str) and re.fullmatch(ID, each) for each in (name, *acts_on)):
        raise ValueError("a member has another name than a site may have")
    # what is retained may be of one that died with the broker: it counts from when it was said
    age_s = (now - _moment(view.get("at"))).total_seconds() if retained else 0.0
    return Member(frozenset(acts_on), int(str(term)), now_s - max(age_s, 0.0))


def ordering(
    id_: str, seq: int, power_kw: float, valid_s: float, now: datetime, settings: AggregatorSettings
) -> bytes:
    """The words of an order: void when it is too long on its way, and over after `valid_s`."""
    order = {
        "id": id_,
        "seq": seq,
        "sender": settings.group,
        "issued_at": now.isoformat(),
        "expires_at": (now + timedelta(seconds=settings.void_s)).isoformat(),
        "command": "order",
        "kind": "absolute",
        "power_kw": round(power_kw, 3),
        "valid_s": round(valid_s, 3),
    }
    return json.dumps(order, separators=(",", ":")).encode()


def nodes(topics: Topics, ids: Iterable[str]) -> list[str]:
    """The topics of these sites."""
    return [topic for id_ in sorted(ids) for topic in topics.site(id_)]


def _is_term(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= TERM_MAX


def _moment(value: object) -> datetime:
    moment = datetime.fromisoformat(str(value))
    if moment.tzinfo is None:
        raise ValueError("a time without its zone")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("a time that no clock shows") from None
