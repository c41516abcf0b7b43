"""Sites for units, without a broker: which samples are believed, who commands which site, which
order is due, what is obeyed at the site's end."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import combinations, groupby, pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.config_site import loaded, settings_of
from vppd.core.alarms import Code
from vppd.core.model import Point
from vppd.core.settings_aggregator import AggregatorSettings
from vppd.core.settings_mqtt import MqttSettings
from vppd.field.interlocks import RULES
from vppd.northbound.mqtt_commands import Arrived, RefusedCommand, read
from vppd.region.delivered import begun, counted
from vppd.region.messages import Kind, Topics, announced, read_member
from vppd.region.roster import (
    Answer,
    Heard,
    Reason,
    RefusedMessage,
    believed,
    capped,
    read_answer,
    read_event,
    read_online,
    read_sample,
)
from vppd.region.rounds import Fate, Ordered, cap_of, due
from vppd.region.tenure import (
    COUNT_MAX,
    TERM_MAX,
    Council,
    Member,
    heard,
    met,
    ours,
    sequence,
    winner,
)
from vppd.rerun import assets_of

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
RULE = AggregatorSettings()
NAMES = ("north", "south", "west")
SITES = tuple(f"site-{number:03}" for number in range(60))


def payload(site: str = "s1", /, **changes: Any) -> bytes:
    view: dict[str, Any] = {
        "site": site,
        "node": site,
        "epoch": "e1",
        "seq": 7,
        "at": NOW.isoformat(),
        "frequency_hz": 50.0,
        "record": {"power_kw": 12.5, "soc_pct": 50.0, "rated_kw": 100.0},
    }
    return json.dumps(view | changes).encode()


def reason_of(raw: bytes, *, retained: bool = False, last: Heard | None = None) -> Reason | None:
    """Why a sample is refused; None: it is believed."""
    try:
        sample = read_sample("s1", raw, retained=retained)
        if sample is not None:
            believed(last or Heard(), sample, NOW)
    except RefusedMessage as refused:
        return refused.reason
    return None


# --- what is believed ---


def test_a_sample_gives_its_numbers_and_nothing_else() -> None:
    odd = {"power_kw": 1.5, "soc_pct": None, "setpoint_kw": "9", "rated_kw": True, "x": 1}
    sample = read_sample("s1", payload(record=odd), retained=False)
    assert sample is not None
    assert sample.values == {"power_kw": 1.5}
    assert (sample.epoch, sample.seq, sample.at) == ("e1", 7, NOW)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (payload("s2"), Reason.FOREIGN),
        (payload(node="B1"), Reason.FOREIGN),
        (b"[1", Reason.MALFORMED),
        (b"[1]", Reason.MALFORMED),
        (b"[" * 60_000, Reason.MALFORMED),
        (payload(seq=-1), Reason.MALFORMED),
        (payload(seq=True), Reason.MALFORMED),
        (payload(record=None), Reason.MALFORMED),
        (payload(at="2026-11-22T12:00:00"), Reason.MALFORMED),
        (payload(at=None), Reason.MALFORMED),
        (payload(pad="x" * 70_000), Reason.OVERSIZED),
        (payload(at=(NOW + timedelta(seconds=6)).isoformat()), Reason.AHEAD),
        (payload(at=(NOW + timedelta(seconds=4)).isoformat()), None),
        (payload(gap={"from": 1, "to": 6}), None),
        (payload(), None),
    ],
)
def test_what_is_no_sample_of_this_site_is_refused(raw: bytes, reason: Reason | None) -> None:
    assert reason_of(raw) == reason


def test_a_retained_sample_is_refused() -> None:
    assert reason_of(payload(), retained=True) is Reason.RETAINED


@given(st.binary(max_size=200))
def test_noise_is_refused_and_never_more(noise: bytes) -> None:
    for read_it in (
        lambda: read_sample("s1", noise, retained=False),
        lambda: read_online("s1", noise),
        lambda: read_answer(noise),
        lambda: read_event("s1", noise),
    ):
        with pytest.raises(RefusedMessage):
            read_it()


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.integers(0, 100)), max_size=40)
)
def test_nothing_is_believed_twice_whatever_comes_again(
    messages: list[tuple[str, int, int]],
) -> None:
    known, taken = Heard(), []
    for epoch, seq, before_s in messages:
        raw = payload(epoch=epoch, seq=seq, at=(NOW - timedelta(seconds=before_s)).isoformat())
        if reason_of(raw, last=known) is None:
            sample = read_sample("s1", raw, retained=False)
            assert sample is not None
            known = believed(known, sample, NOW)
            taken.append((epoch, seq))
    assert len(taken) == len(set(taken))
    epochs = [epoch for epoch, _ in groupby(taken, key=lambda each: each[0])]
    assert len(epochs) == len(set(epochs))  # none comes back
    for epoch in epochs:
        seqs = [seq for name, seq in taken if name == epoch]
        assert seqs == sorted(seqs)


number_kw = st.floats(-1e4, 1e4, allow_nan=False)


@given(
    st.dictionaries(
        st.sampled_from(("available_discharge_kw", "available_charge_kw", "rated_kw", "power_kw")),
        number_kw,
    ),
    st.floats(0, 1e4),
    st.floats(0, 1e4),
)
def test_a_site_can_do_no_more_than_it_says_is_rated_and_takes_orders_for(
    values: dict[str, float], out_kw: float, in_kw: float
) -> None:
    known = capped(values, out_kw, in_kw)
    ways = ((Point.DISCHARGE_MAX_KW, "discharge", out_kw), (Point.CHARGE_MAX_KW, "charge", in_kw))
    for point, way, most_kw in ways:
        assert 0.0 <= known[point] <= most_kw
        assert known[point] <= max(values.get("rated_kw", math.inf), 0.0)
        assert known[point] <= max(values.get(f"available_{way}_kw", 0.0), 0.0)
    assert known.get(Point.POWER_KW) == values.get("power_kw")


# --- who commands which site ---


@dataclass
class Group:
    """Some members, what each has heard, and messages on their way, delivered in any order between
    two members but in the order of sending from each. The sites obey by the rule of a real site."""

    clock_s: float = 1000.0
    councils: dict[str, Council] = field(default_factory=dict)
    announced: dict[str, Member] = field(default_factory=dict)  # as the broker retains it
    waiting: dict[tuple[str, str], list[Member | None]] = field(default_factory=dict)
    counts: dict[tuple[str, int], int] = field(default_factory=dict)
    obeyed: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    last: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.clock_s)

    def join(self, name: str) -> None:
        self.leave(name)
        others = {each: member for each, member in self.announced.items() if each != name}
        self.councils[name] = Council(name, others, frozenset(), 0)
        self.say(name)

    def leave(self, name: str) -> None:
        """Its link breaks; the broker sends its will."""
        if self.councils.pop(name, None) is not None:
            self.announced.pop(name, None)
            for key in [key for key in self.waiting if key[1] == name]:
                del self.waiting[key]
            self.send(name, None)

    def say(self, name: str) -> None:
        council = self.councils[name]
        member = Member(council.acts_on, council.term, self.clock_s)
        self.announced[name] = member
        self.send(name, member)

    def send(self, name: str, member: Member | None) -> None:
        for other in self.councils:
            if other != name:
                self.waiting.setdefault((name, other), []).append(member)

    def deliver(self, name: str, to: str) -> None:
        if (queue := self.waiting.get((name, to))) and to in self.councils:
            self.councils[to] = heard(self.councils[to], name, queue.pop(0))

    def deliver_all(self) -> None:
        for (name, to), queue in list(self.waiting.items()):
            while queue and to in self.councils:
                self.deliver(name, to)

    def beat(self, name: str) -> None:
        if name in self.councils:
            before = self.councils[name]
            self.councils[name] = met(before, self.clock_s, self.now, 1e9)
            if self.councils[name].acts_on != before.acts_on:
                self.say(name)

    def order(self, name: str, site: str) -> bool:
        """Order a site if it is ours; whether it obeyed."""
        council = self.councils.get(name)
        if council is None or not ours(council, site):
            return False
        key = name, council.term
        self.counts[key] = self.counts.get(key, 0) + 1
        seq = sequence(council.term, name, self.counts[key])
        order = {
            "id": f"{name}:{seq}",
            "seq": seq,
            "sender": "region",
            "issued_at": self.now.isoformat(),
            "command": "order",
            "kind": "absolute",
            "power_kw": 1.0,
        }
        arrived = Arrived(site, json.dumps(order).encode())
        last = self.last.setdefault(site, {})
        mqtt = MqttSettings(url="mqtt://127.0.0.1")
        try:
            read(arrived, last, self.now, mqtt, clock_trusted=True)
        except RefusedCommand:
            return False
        last["region"] = seq
        self.obeyed.setdefault(site, []).append((council.term, name))
        return True


def owners(group: Group, site: str) -> list[str]:
    return [name for name, council in group.councils.items() if ours(council, site)]


member_names = st.sampled_from(NAMES)
acts = st.one_of(
    st.tuples(st.just("join"), member_names),
    st.tuples(st.just("leave"), member_names),
    st.tuples(st.just("beat"), member_names),
    st.tuples(st.just("deliver"), member_names, member_names),
    st.tuples(st.just("order"), member_names, st.sampled_from(SITES[:6])),
    st.tuples(st.just("order"), member_names, st.sampled_from(SITES[:6])),
)


@given(st.lists(acts, min_size=20, max_size=80))
@settings(deadline=None)
def test_no_site_obeys_an_owner_that_is_over_however_messages_are_late(
    steps: Sequence[tuple[str, ...]],
) -> None:
    group = Group()
    for step in steps:
        group.clock_s += 0.25
        getattr(group, step[0])(*step[1:])
    for obeyed in group.obeyed.values():
        tenures = [tenure for tenure, _ in groupby(obeyed)]
        assert len(tenures) == len(set(tenures))  # none that was over comes back
    # and once the messages have come, each site has one owner
    for _ in range(6):
        group.clock_s += 1.0
        for name in NAMES:
            group.beat(name)
        group.deliver_all()
    for site in SITES:
        assert len(owners(group, site)) == (1 if group.councils else 0)


@given(st.lists(acts, min_size=20, max_size=60))
@settings(deadline=None)
def test_two_members_that_have_heard_one_another_never_both_claim_a_site(
    steps: Sequence[tuple[str, ...]],
) -> None:
    group = Group()
    for step in steps:
        group.clock_s += 0.25
        getattr(group, step[0])(*step[1:])
        group.deliver_all()
        for one, other in combinations(group.councils, 2):
            assert not any({one, other} <= set(owners(group, site)) for site in SITES[:12])


@pytest.mark.parametrize(("one", "other"), [("north", "south"), ("south", "north")])
def test_a_site_refuses_an_owner_that_does_not_know_that_it_is_over(one: str, other: str) -> None:
    group = Group()
    group.join(one)
    group.beat(one)
    assert all(group.order(one, site) for site in SITES)
    group.clock_s += 3.0
    group.join(other)
    group.beat(other)
    assert not any(group.order(other, site) for site in SITES)  # the first has not let go
    group.councils[other] = heard(group.councils[other], one, None)  # its will, wrongly
    group.beat(other)
    assert all(group.order(other, site) for site in SITES)
    assert all(ours(group.councils[one], site) for site in SITES)
    assert not any(group.order(one, site) for site in SITES)
    assert all(group.order(other, site) for site in SITES)


def test_a_member_that_goes_moves_its_own_sites_alone_and_all_are_spread() -> None:
    before = {site: winner(site, NAMES) for site in SITES}
    after = {site: winner(site, NAMES[:2]) for site in SITES}
    assert all(after[site] == owner for site, owner in before.items() if owner != NAMES[2])
    counts = [list(before.values()).count(name) for name in NAMES]
    assert min(counts) >= 10
    assert winner("s1", ()) is None


def test_a_silent_member_is_gone_and_one_that_acts_on_another_set_keeps_its_sites() -> None:
    alone = Council("north", {}, frozenset(("north",)), 5)
    ahead = 10**8  # its clock is years ahead
    late = Member(frozenset(("south",)), ahead, heard_s=100.0)
    seen = met(heard(alone, "south", late), 101.0, NOW, 30.0)
    assert seen.acts_on == {"north", "south"}
    assert seen.term > ahead
    assert not any(ours(seen, site) for site in SITES)  # south says that it has all
    agreed = heard(seen, "south", Member(seen.acts_on, ahead, 101.0))
    assert {ours(agreed, site) for site in SITES} == {True, False}
    left = met(agreed, 132.0, NOW, 30.0)
    assert all(ours(left, site) for site in SITES)
    assert left.term > agreed.term


@given(
    st.integers(0, TERM_MAX - 1), st.integers(1, COUNT_MAX), st.integers(1, COUNT_MAX), member_names
)
def test_a_later_term_outranks_every_count_of_the_one_before(
    term: int, count: int, other: int, name: str
) -> None:
    assert sequence(term, name, count) < sequence(term + 1, NAMES[0], other) <= 2**53
    if count < other:
        assert sequence(term, name, count) < sequence(term, name, other)
    ranks = {sequence(term, each, 1) for each in NAMES}
    assert len(ranks) == len(NAMES)


def test_what_a_member_says_is_read_again_by_another() -> None:
    topics = Topics(RULE, "north")
    council = Council("north", {}, frozenset(("north", "south")), 12)
    made = announced(topics, "online", council, NOW)
    assert made.retain
    assert topics.about(made.topic) == (Kind.MEMBERS, "north")
    live = read_member("north", made.payload, 50.0, NOW + timedelta(seconds=9), retained=False)
    kept = read_member("north", made.payload, 50.0, NOW + timedelta(seconds=9), retained=True)
    assert live == Member(council.acts_on, 12, 50.0)
    assert kept == replace(live, heard_s=41.0)
    will = announced(topics, "offline", None, None)
    assert read_member("north", will.payload, 50.0, NOW, retained=True) is None
    bad = (b"{", b"1", b"{}", made.payload.replace(b"12", b"-1"), made.payload + b" " * 9000)
    for each in bad:
        with pytest.raises(ValueError):  # noqa: PT011  whatever is wrong with it
            read_member("north", each, 0.0, NOW, retained=False)


@given(st.sampled_from(list(Kind)), st.text("abc-_.09/+", min_size=1, max_size=8))
def test_a_topic_is_of_the_node_that_stands_in_it(kind: Kind, node: str) -> None:
    topics = Topics(RULE, "north")
    found = topics.about(topics.of(kind, node))
    assert found == (None if "/" in node else (kind, node))


# --- which order is due ---


def ordered(power_kw: float, at_s: float, fate: Fate = Fate.ACCEPTED) -> Ordered:
    return Ordered("a:1", power_kw, at_s, at_s + RULE.order_valid_s, fate)


def walked(fates: Sequence[Fate]) -> Iterator[tuple[float, float]]:
    """When a site that is wanted at 50 kW is ordered, and what."""
    last: Ordered | None = None
    for step in range(2400):
        now_s = step * 0.5
        if due(50.0, last, now_s, 100.0, RULE):
            fate = fates[int(now_s) % len(fates)]
            last = ordered(50.0, now_s, fate)
            yield now_s, 50.0


@given(st.lists(st.sampled_from(list(Fate)), min_size=1, max_size=5))
def test_orders_are_renewed_before_they_end_and_no_oftener_than_the_period(
    fates: list[Fate],
) -> None:
    at_s = [when_s for when_s, _ in walked(fates)]
    apart_s = [after - before for before, after in pairwise(at_s)]
    assert min(apart_s) >= RULE.period_s
    assert max(apart_s) < RULE.order_valid_s


@pytest.mark.parametrize(
    ("wanted_kw", "last", "now_s", "is_due"),
    [
        (None, None, 0.0, False),  # nobody wants anything
        (None, ordered(40.0, 0.0), 29.0, False),  # and what was ordered ends by itself
        (0.0, None, 0.0, True),  # 0 kW is wanted: that is an order
        (40.0, ordered(40.0, 0.0), 4.0, False),
        (60.0, ordered(40.0, 0.0), 4.0, False),  # no oftener than the period
        (60.0, ordered(40.0, 0.0), 5.0, True),
        (40.4, ordered(40.0, 0.0), 6.0, False),  # a small change waits
        (40.4, ordered(40.0, 0.0), 15.0, True),
        (0.0, ordered(0.4, 0.0), 6.0, True),  # but nothing is nothing
        (40.0, ordered(40.0, 0.0, Fate.SENT), 5.0, True),  # nobody answered
        (40.0, ordered(40.0, 0.0, Fate.REFUSED), 5.0, True),
        (40.0, ordered(40.0, 0.0), 30.0, True),
    ],
)
def test_an_order_is_due(
    wanted_kw: float | None, last: Ordered | None, now_s: float, is_due: bool
) -> None:
    assert due(wanted_kw, last, now_s, 100.0, RULE) is is_due


def test_what_a_site_refuses_is_not_asked_of_it_again_for_a_while() -> None:
    order = ordered(80.0, 0.0)
    said = Answer("s1", "a:1", False, "out_of_range", "too much", -30.0, 60.0)
    cap = cap_of(said, order, 10.0, RULE)
    assert cap is not None
    assert (cap.out_kw, cap.in_kw, cap.until_s) == (60.0, 30.0, 70.0)
    unsaid = cap_of(replace(said, low_kw=None), order, 10.0, RULE)
    assert unsaid is not None
    assert (unsaid.out_kw, unsaid.in_kw) == (0.0, math.inf)
    inward = cap_of(replace(said, high_kw=None), replace(order, power_kw=-80.0), 10.0, RULE)
    assert inward is not None
    assert (inward.out_kw, inward.in_kw) == (math.inf, 0.0)
    assert cap_of(replace(said, reason="expired"), order, 10.0, RULE) is None


# --- what was delivered ---


@given(
    st.lists(
        st.tuples(st.floats(0.0, 100.0), st.none() | number_kw, st.none() | number_kw), max_size=20
    )
)
def test_energies_add_up_over_the_time_that_is_known(
    spans: list[tuple[float, float | None, float | None]],
) -> None:
    tally, now_s, ordered_kws, delivered_kws = begun(0.0), 0.0, 0.0, 0.0
    for took_s, ordered_kw, delivered_kw in spans:
        now_s += took_s
        tally = counted(tally, now_s, ordered_kw, delivered_kw)
        if ordered_kw is not None and delivered_kw is not None:
            ordered_kws += ordered_kw * took_s
            delivered_kws += delivered_kw * took_s
    assert tally.ordered_kwh * 3600.0 == pytest.approx(ordered_kws, abs=1e-3)
    assert tally.delivered_kwh * 3600.0 == pytest.approx(delivered_kws, abs=1e-3)
    assert tally.unknown_s <= tally.ordered_s + 1e-9 <= now_s + 2e-9


# --- the configuration ---

AGGREGATOR = {
    "vppd.yaml": """\
site: {id: west}
mode: hardware
role: aggregator
mqtt: {url: "mqtts://broker", detail: site}
""",
    "field.yaml": "units: [{id: s1, building: PUNE, rated_power_kw: 9, energy_kwh: 9}]\n",
    "grid.yaml": "droop: {enabled: false}\n",
}


def complaints(file: str, old: str, new: str) -> list[str]:
    """What is wrong with an aggregator when this text is replaced."""
    assert old in AGGREGATOR[file]
    found = loaded(AGGREGATOR | {file: AGGREGATOR[file].replace(old, new)})
    return [f"{each.key}: {each.text}" for each in found.errors]


def test_an_aggregator_has_sites_for_units_and_its_assets_are_judged_as_such() -> None:
    settings_ = settings_of(loaded(AGGREGATOR))
    (unit,) = assets_of(settings_)
    assert Point.SITE_ONLINE in unit.declared
    assert {rule.code for rule in RULES if rule.applies(unit)} == {
        *(Code.LINK_LOST, Code.NOT_OURS, Code.DEVICE_LIMIT)
    }


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        ("vppd.yaml", "mode: hardware", "mode: hil", "mode: hil: sites are never simulated"),
        ("vppd.yaml", ", detail: site", "", "sites tell of themselves"),
        ("vppd.yaml", "mqtt:", "#mqtt:", "role: an aggregator reaches its sites over a broker"),
        ("vppd.yaml", "id: west", "id: s1", "units[0].id: s1 is this aggregator itself"),
        ("vppd.yaml", "mode:", "aggregator: {order_valid_s: 9}\nmode:", "order_valid_s: 9 s is"),
        (
            "vppd.yaml",
            "mode:",
            "aggregator: {topics: {telemetry: all}}\nmode:",
            "aggregator.topics.telemetry: {node_id} must stand in it",
        ),
        ("grid.yaml", "false", "true", "droop.enabled: sites answer frequency themselves"),
        (
            "field.yaml",
            "id: s1,",
            "id: s1, inverter: {host: h},",
            "a unit of an aggregator is a site",
        ),
        ("vppd.yaml", "role: aggregator", "role: site", "give modbus"),
    ],
)
def test_what_an_aggregator_cannot_be(file: str, old: str, new: str, says: str) -> None:
    assert any(says in each for each in complaints(file, old, new)), complaints(file, old, new)


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("campus.yaml", "dispatch: {strategy: losses}\n", "losses inside a site are not known"),
        ("market.yaml", "enabled: true\n", "sites trade"),
    ],
)
def test_what_is_refused_with_its_reason(file: str, text: str, says: str) -> None:
    errors = [each.text for each in loaded(AGGREGATOR | {file: text}).errors]
    assert any(says in each for each in errors), errors
