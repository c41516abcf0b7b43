"""Settings of an aggregator: a daemon whose units are sites, reached over a broker."""

from dataclasses import dataclass

from vppd.core.profile import key
from vppd.core.settings_mqtt import TOPIC, URL, WORDS

CLOCKS_APART_S = 5.0  # of a site and its aggregator


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteTopicSettings:
    """Where sites speak and are spoken to; `{node_id}` is the id of a site, as in its own file."""

    telemetry: str = key("samples of a site", "vpp/telemetry/{node_id}", pattern=TOPIC)
    commands: str = key("orders for a site", "vpp/commands/{node_id}", pattern=TOPIC)
    status: str = key("whether a site is online", "vpp/status/{node_id}", pattern=TOPIC)
    registration: str = key("who a site is", "vpp/registration/{node_id}", pattern=TOPIC)
    events: str = key("what happened at a site", "vpp/events/{node_id}", pattern=TOPIC)
    replies: str = key(
        "answers to our orders; {node_id} is ours. Sites take it as their reply_prefix lets",
        "vpp/replies/{node_id}",
        pattern=TOPIC,
    )
    members: str = key(
        "which aggregators of {group} live; {node_id} is theirs, retained",
        "vpp/region/{group}/{node_id}",
        pattern=TOPIC,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AggregatorSettings:
    """How sites are heard and ordered. The units of field.yaml are the sites: nobody else is."""

    url: str | None = key(
        "broker of the sites (null: mqtt.url); user and certificates are those of mqtt",
        None,
        pattern=URL,
    )
    topics: SiteTopicSettings = key("topics", SiteTopicSettings)
    group: str = key(
        "aggregators of one group share the sites, each site one of them; `sender` of all their "
        "orders, so that a site obeys the newest term alone",
        "region",
        pattern=WORDS,
    )
    stale_s: float = key(
        "a site whose newest sample is older counts for nothing and is ordered nothing",
        30.0,
        ge=1,
        le=3600,
    )
    period_s: float = key("a site gets a changed order at most so often", 5.0, ge=0.2, le=300)
    order_valid_s: float = key(
        "an order ends by itself after so long; it is renewed at half of it", 30.0, ge=1, le=3600
    )
    step_pct: float = key("a change smaller than this, of the rating, waits", 0.5, ge=0, le=20)
    refused_s: float = key(
        "what a site refused is not asked of it again for so long", 60.0, ge=1, le=3600
    )
    member_stale_s: float = key(
        "another aggregator of the group that says nothing for so long is gone", 30.0, ge=1, le=600
    )
    settle_s: float = key(
        "after a link came up nothing is ordered for so long: who else lives is heard first",
        2.0,
        ge=0.1,
        le=60,
    )
    messages_max_per_s: float = key("orders go no faster", 500.0, gt=0, le=20_000)
    delivered_every_s: float = key(
        "what each site was ordered and delivered is written down so often", 900.0, ge=1, le=86_400
    )
    keep_events: bool = key(
        "what happens at sites goes to the journal, of one aggregator of the group each", True
    )

    @property
    def void_s(self) -> float:
        """How long an order may be on its way; the site does not take it later."""
        return min(2.0 * self.period_s, self.order_valid_s)

    @property
    def in_force_s(self) -> float:
        """How long after it was sent a site may still do as it was ordered."""
        return self.void_s + self.order_valid_s + CLOCKS_APART_S
