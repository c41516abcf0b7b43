"""A region as it meets bad networks, wrong clocks, dead sites and sites that lie: without a broker,
with the real tick and the real gate."""

import json
import math
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.region_rig import ALONE, ME, Village, obeys
from vppd.cli.region_lines import region
from vppd.core.alarms import Code, Level
from vppd.core.model import Point, Reading, UnitId
from vppd.core.records import EventRow
from vppd.core.settings_aggregator import AggregatorSettings
from vppd.region.delivered import begun
from vppd.region.fleet import NAMEPLATE_S
from vppd.region.flood import MESSAGES_MAX, MESSAGES_PER_S, SHUT_S, Floods
from vppd.region.house import BEAT_S
from vppd.region.messages import Kind, read_member
from vppd.region.roster import Reason, RefusedMessage, read_online
from vppd.region.rounds import ANSWER_MAX_S, Fate, Ordered
from vppd.region.site import AMISS_S, NOTES_MAX, NOTES_PER_S, SiteState
from vppd.region.tenure import Council, Member, met, ours
from vppd.spine.bus import Message

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
RULE = AggregatorSettings()
LIMIT = "connection: {export_max_kw: 100, import_max_kw: 100}"


def refuses(reason: str) -> Any:
    """A site that refuses whatever it is ordered, in other words each time."""

    def answer(village: Village, _: str, order: Mapping[str, Any]) -> Mapping[str, object]:
        text = f"{order['power_kw']} at {village.clock.now_s()}"
        return {"verdict": "refused", "reason": reason, "text": text}

    return answer


def mute(*_: object) -> None:
    """A site that says nothing to an order."""


def rows(village: Village, unit: str) -> list[EventRow]:
    return [
        each for each in village.journal.rows if isinstance(each, EventRow) and each.unit == unit
    ]


def ordered(village: Village, **more: Any) -> Village:
    """100 kW of two sites, for half a minute."""
    village.run(4.0)
    village.plan(more.get("power_kw", 100.0))
    village.run(30.0)
    return village


VILLAGE = ordered(Village())  # for tests that need any


# --- orders and their answers ---


@pytest.mark.parametrize("late_s", [0.0, 3.0, 6.0, 14.0])
def test_an_answer_counts_however_slow_the_network_is(late_s: float) -> None:
    """One that comes when the next order is on its way is of the one before, and no other."""
    village = ordered(Village(late_s={"s1": late_s}))
    village.run(60.0)
    assert village.line("s1")["order"] is Fate.ACCEPTED
    assert village.fleet.refusals == {}
    assert village.gives_kw == {"s1": 50.0, "s2": 50.0}
    assert village.state("s1").tally.ordered_kwh == pytest.approx(
        village.state("s2").tally.ordered_kwh, abs=50.0 * 2.0 * (late_s + 1.0) / 3600.0
    )
    assert not village.house.alarms.stands(Code.WRITE_FAILED, UnitId("s1"))


def test_a_site_that_never_answers_is_told_and_is_not_said_to_obey() -> None:
    village = ordered(Village(answers={"s1": mute}))
    assert village.house.alarms.stands(Code.WRITE_FAILED, UnitId("s1"))
    assert village.line("s1")["order"] is Fate.SENT
    assert village.line("s1")["unanswered"] > 0
    assert any("orders unanswered" in each for each in region(village.region.view()))
    assert village.state("s1").tally.ordered_s == 0.0
    del village.answers["s1"]
    village.run(10.0)
    assert not village.house.alarms.stands(Code.WRITE_FAILED, UnitId("s1"))
    assert village.line("s1")["unanswered"] == 0


@given(st.lists(st.one_of(st.just("send"), st.integers(0, 8), st.floats(0.1, 30.0)), max_size=60))
def test_an_order_has_one_end_and_none_waits_for_ever(acts: list[str | int | float]) -> None:
    """Answered, passed over for a later one that was, or lost: each once."""
    known = VILLAGE.state("s1")
    state = SiteState(known.id, 100.0, 200.0, known.actuator, begun(0.0))
    now_s, sent, ends = 0.0, 0, Counter[str]()
    for act in acts:
        if act == "send":
            sent += 1
            state.sent(Ordered(f"{sent}", 1.0, now_s, now_s + 30.0))
        elif isinstance(act, int) and act < len(state.waiting):
            before = [each.id for each in state.waiting]
            found = state.answered(before[act])
            assert found is not None
            assert found.id == before[act]
            assert state.answered(found.id) is None
            ends.update(before[: act + 1])
        elif isinstance(act, float):
            now_s += act
            ends.update(each.id for each in state.overdue(now_s, RULE, all_=False))
            assert all(now_s - each.at_s < ANSWER_MAX_S for each in state.waiting)
    ends.update(each.id for each in state.waiting)
    assert ends == Counter(f"{number}" for number in range(1, sent + 1))


def test_nobody_answers_for_another_site() -> None:
    """The id of an order cannot be guessed by who has not seen it."""
    village = Village(answers={"s1": mute})
    ordered(village)
    sent = [order for _, site, order in village.orders if site == "s1"]
    for order in sent:
        for id_ in (f"{ME}:{order['seq']}", f"{ME}:{order['seq']}:", f"{ME}:{order['seq']}:00"):
            forged = {"site": "s1", "id": id_, "verdict": "refused", "reason": "out_of_range"}
            village.fleet.answer(json.dumps(forged | {"low_kw": 0, "high_kw": 0}).encode())
    assert village.state("s1").cap is None
    assert village.fleet.refusals["late_answer"] == 3 * len(sent)
    assert len({order["id"].rpartition(":")[2] for order in sent}) == len(sent)


@pytest.mark.parametrize("reason", ["switched_off", "not_allowed", "expired"])
def test_what_a_site_keeps_refusing_the_others_are_asked_for(reason: str) -> None:
    village = ordered(Village(answers={"s1": refuses(reason)}))
    assert village.gives_kw == {"s2": 100.0}
    assert reason in village.line("s1")["refused"]
    village.run(120.0)
    told = [each for each in rows(village, "s1") if each.code == Code.ORDER]
    assert len(told) == 1  # however the words differ
    del village.answers["s1"]
    village.run(90.0)
    assert village.gives_kw == {"s1": 50.0, "s2": 50.0}
    assert village.line("s1")["refused"] is None


def test_one_order_that_came_too_late_takes_nothing_from_a_site() -> None:
    village = ordered(Village())
    village.answers["s1"] = refuses("expired")
    village.plan(120.0)
    while village.line("s1")["order"] is not Fate.REFUSED:
        village.step()
    del village.answers["s1"]
    village.run(10.0)
    assert village.gives_kw == {"s1": 60.0, "s2": 60.0}


def test_a_site_that_takes_orders_and_does_nothing_is_named() -> None:
    village = Village(answers={"s1": lambda *_: {"verdict": "accepted"}})
    ordered(village)
    assert village.line("s1")["amiss_kw"] is None  # it may still be on its way
    village.run(AMISS_S)
    assert village.line("s1")["amiss_kw"] == -50.0
    assert village.line("s2")["amiss_kw"] is None
    (line,) = [each for each in region(village.region.view()) if each.startswith("s1")]
    assert "gives -50.0 kW beside it" in line


# --- the limit of the region at the sites' own devices ---


class Ending(Village):
    """Sites that do as a real one: an order ends by itself, whoever is still there."""

    def __init__(self, **more: Any) -> None:
        self.ends_s: dict[str, float] = {}
        self.most_kw = 0.0
        super().__init__(**more)

    def step(self) -> None:
        super().step()
        now_s = self.clock.now_s()
        for site, ends_s in self.ends_s.items():
            if now_s >= ends_s:
                self.gives_kw[site] = 0.0
        self.most_kw = max(self.most_kw, sum(self.gives_kw.values()))

    def obey(self, site: str, order: Mapping[str, Any]) -> Mapping[str, object]:
        self.gives_kw[site] = order["power_kw"]
        self.ends_s[site] = self.clock.now_s() + order["valid_s"]
        return {"verdict": "accepted"}


def ending(**more: Any) -> Ending:
    village = Ending(**more)
    for site in village.names:
        village.answers[site] = lambda _, site, order: village.obey(site, order)
    return village


@pytest.mark.parametrize("valid_s", [30.0, 300.0])
def test_a_lost_site_gives_way_to_the_others_when_its_order_has_ended_and_no_sooner(
    valid_s: float,
) -> None:
    aggregator = f"{{order_valid_s: {valid_s:g}}}"
    village = ending(grid=LIMIT, aggregator=aggregator)
    ordered(village)
    assert village.gives_kw == {"s1": 50.0, "s2": 50.0}
    village.silent.add("s1")  # it obeys still, until its order ends
    village.answers["s1"] = mute
    rule = AggregatorSettings(order_valid_s=valid_s)
    village.run(rule.stale_s + max(rule.in_force_s, 60.0) + 30.0)
    assert village.gives_kw == {"s1": 0.0, "s2": 100.0}
    assert village.most_kw <= 100.0 + 1e-6


def test_an_order_whose_answer_was_lost_with_the_site_counts_at_the_limit() -> None:
    """It obeyed, and nobody heard that: the others must not take its place before that ends."""
    village = ending(grid=LIMIT, aggregator="{order_valid_s: 120}")
    village.run(4.0)
    village.plan(0.0)
    village.run(10.0)

    def deaf(_: Village, site: str, order: Mapping[str, Any]) -> None:
        village.obey(site, order)

    village.answers["s1"] = deaf
    village.plan(100.0)
    village.run(3.0)
    village.silent.add("s1")
    village.answers["s1"] = mute
    village.run(200.0)
    assert village.gives_kw["s2"] == 100.0
    assert village.most_kw <= 100.0 + 1e-6


# --- clocks ---


def test_a_site_whose_clock_is_wrong_is_told_with_the_reason() -> None:
    village = Village(names=("s1", "s2", "s3"), behind_s={"s1": 600.0, "s2": -600.0})
    ordered(village)
    assert village.gives_kw == {"s3": 100.0}
    assert "600 s late" in village.line("s1")["doubt"]
    assert "600 s ahead" in village.line("s2")["doubt"]
    village.run(10.0)
    alarms = {each.unit: each.text for each in village.house.alarms.standing()}
    assert "600 s late" in alarms[UnitId("s1")]
    assert "600 s ahead" in alarms[UnitId("s2")]
    village.behind_s.clear()
    village.run(30.0)
    assert not village.house.alarms.standing()
    assert village.line("s1")["doubt"] is None
    assert set(village.gives_kw) == {"s1", "s2", "s3"}


def test_a_site_that_is_a_little_late_is_told_before_it_flaps() -> None:
    village = Village(behind_s={"s1": 12.0})
    ordered(village)
    assert village.gives_kw == {"s1": 50.0, "s2": 50.0}
    assert "told 12 s late" in village.line("s1")["doubt"]
    assert village.line("s2")["doubt"] is None


def test_a_site_that_never_speaks_is_an_alarm() -> None:
    village = Village(silent={"s1"})
    village.run(60.0)
    (alarm,) = village.house.alarms.standing()
    assert (alarm.code, alarm.unit) == (Code.LINK_LOST, "s1")


def test_a_site_that_another_aggregator_has_now_is_no_alarm_here() -> None:
    village = ordered(Village())
    members = frozenset((ME, *(f"m{number}" for number in range(40))))
    village.council = Council(ME, {}, members, 9)
    village.silent.update(village.names)  # nobody listens to them here
    village.run(120.0)
    assert not any(village.line(site)["ours"] for site in village.names)
    assert not village.house.alarms.standing()
    assert {village.cleared_kw(site) for site in village.names} == {0.0}
    village.council = ALONE
    village.silent.clear()
    village.run(30.0)
    assert village.gives_kw == {"s1": 50.0, "s2": 50.0}


# --- sites that lie, or say too much ---


@pytest.mark.parametrize(
    ("odd", "names"),
    [
        ({"power_kw": 1e308}, "power_kw"),
        ({"power_kw": -1e9}, "power_kw"),
        ({"soc_pct": 200.0}, "soc_pct"),
        ({"soc_pct": -5.0}, "soc_pct"),
        ({"available_discharge_kwh": 1e308}, "available_discharge_kwh"),
        ({"available_charge_kwh": -1.0}, "available_charge_kwh"),
        ({"available_discharge_kw": 1e30}, "available_discharge_kw"),
        ({"available_charge_kw": -5.0}, "available_charge_kw"),
        ({"energy_kwh": 1e30}, "energy_kwh"),
    ],
)
def test_a_number_that_cannot_be_is_not_known_and_told(odd: dict[str, float], names: str) -> None:
    village = Village(records={"s1": odd, "s2": odd})
    village.run(6.0)
    assert village.line("s1")["doubt"].startswith(f"cannot be: {names}")
    now = village.house.bus.snapshot()
    known = [
        value for (unit, _), each in now.readings.items() if unit == "s1" for value in [each.value]
    ]
    assert all(abs(value) <= 1e4 for value in known)
    assert math.isfinite(sum(known))
    village.plan(100.0)
    village.run(20.0)
    most_kw = 0.0 if names == "available_discharge_kw" else 50.0
    assert village.cleared_kw("s1") == most_kw


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf, None, "9", True])
def test_what_is_no_number_is_nothing(odd: object) -> None:
    village = Village(records={"s1": {"available_discharge_kw": odd, "power_kw": odd}})
    ordered(village)
    assert village.gives_kw["s2"] == 100.0
    assert village.cleared_kw("s1") == 0.0
    assert village.house.bus.snapshot().fresh(UnitId("s1"), Point.POWER_KW) is None


def event(seq: int, **more: Any) -> bytes:
    view = {
        "site": "s1",
        "epoch": "e",
        "seq": seq,
        "at": NOW.isoformat(),
        "code": "soc_low",
        "unit": "B1",
        "level": 2,
        "text": "low",
    }
    return json.dumps(view | more).encode()


def test_what_happens_at_a_site_is_not_taken_for_what_happens_here() -> None:
    village = Village()
    village.fleet.event(
        "s1", event(1, code="started", level=99, text="a\x1b[2J\nb\ud800", unit="x" * 999)
    )
    (row,) = rows(village, "s1")
    assert row.code == "site:started"
    assert row.level == max(Level)
    assert row.text == "a [2J b "
    assert len(json.loads(row.data_json)["of"]) <= 256
    row.text.encode()


def test_an_event_that_comes_again_is_written_down_once() -> None:
    village = Village()
    for seq in (1, 2, 1, 3, 2):
        village.fleet.event("s1", event(seq))
    village.fleet.event("s1", event(1, epoch="another"))
    assert len(rows(village, "s1")) == 4
    assert village.fleet.refusals["replayed"] == 2


def test_a_site_cannot_fill_the_journal() -> None:
    village = Village(names=("s1",))
    for seq in range(3 * NOTES_MAX):
        village.fleet.event("s1", event(seq))
    assert len(rows(village, "s1")) == NOTES_MAX
    assert village.fleet.refusals["too_many"] == 2 * NOTES_MAX
    village.clock.t_s += 100.0
    for seq in range(10_000, 11_000):
        village.fleet.event("s1", event(seq))
    assert len(rows(village, "s1")) == NOTES_MAX + 100.0 * NOTES_PER_S


def test_a_nameplate_is_told_once_a_minute_however_often_it_changes() -> None:
    """Each that differs from field.yaml is a row of the journal."""
    village, plates = Village(names=("s1",)), list[Message]()
    village.house.bus.tap(
        lambda each: (
            plates.append(each)
            if isinstance(each, Reading) and each.point is Point.RATED_POWER_KW
            else None
        )
    )
    for step in range(300):
        village.records["s1"] = {"rated_kw": 50.0 + step / 10.0}
        village.step()
    assert len(plates) == math.ceil(300 * BEAT_S / NAMEPLATE_S)


@given(st.text(min_size=1, max_size=400))
def test_whoever_registers_is_shown_as_a_person_can_read_it(name: str) -> None:
    fleet = VILLAGE.fleet
    fleet.strangers.clear()
    fleet.stranger(name)
    raw = json.dumps({"site": name * 100, "id": "x", "verdict": "accepted"})
    fleet.answer(raw.encode())
    assert fleet.strangers
    for each in fleet.strangers:
        assert each.isprintable()
        assert len(each) <= 64


def test_a_flood_shuts_its_own_site_out_and_no_other() -> None:
    floods, now_s, began = Floods(), 0.0, 0
    for _ in range(20_000):
        now_s += 1.0 / 5000.0
        began += floods.begins("s1", now_s)
        floods.begins("s2", now_s) if _ % 20 == 0 else None  # as fast as a site may catch up
    assert began == 1
    assert floods.shut(now_s) == {"s1"}
    assert floods.shut(now_s + SHUT_S) == frozenset()
    assert not floods.begins("s1", now_s + SHUT_S)
    assert 5000.0 / 20 <= MESSAGES_PER_S < MESSAGES_MAX


# --- what another aggregator says ---


def member(**more: Any) -> bytes:
    view = {"member": "x", "state": "online", "at": NOW.isoformat(), "acts_on": ["x"], "term": 5}
    return json.dumps(view | more).encode()


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        ("x", b"[" * 8000),
        ("x", b'{"a":' * 1600),
        ("x", member(at="0001-01-01T00:00:00+23:59")),
        ("x", member(at="2026-11-22T12:00:00")),
        ("x", member(acts_on=["\ud800"])),
        ("x", member(acts_on=[["x"]])),
        ("x", member(acts_on=["x\n"])),
        ("x y", member(member="x y")),
        ("x", member(term=1.5)),
        ("x", b'{"member": "x", "acts_on": [], "term": ' + b"9" * 5000 + b"}"),
    ],
)
def test_no_word_of_a_member_ends_the_link(name: str, payload: bytes) -> None:
    """It is retained: it would come again with every new one."""
    with pytest.raises(ValueError):  # noqa: PT011  whatever is wrong with it
        read_member(name, payload, 50.0, NOW + timedelta(seconds=1), retained=True)


def test_a_word_that_is_right_is_still_read() -> None:
    assert read_member("x", member(), 50.0, NOW, retained=True) == Member(frozenset("x"), 5, 50.0)


def test_a_term_is_remembered_over_a_restart_whatever_the_clock_says_then() -> None:
    village = Village()
    village.fleet.keep_term(77)
    (row,) = [each for each in village.journal.rows if getattr(each, "name", "") == "region term"]
    assert json.loads(row.value_json) == 77  # type: ignore[union-attr]


def test_a_site_that_obeys_is_the_rule() -> None:
    village = ordered(Village())
    assert village.gives_kw == {"s1": 50.0, "s2": 50.0}
    assert village.answers == {}
    assert obeys(village, "s1", {"power_kw": 1.0}) == {"verdict": "accepted"}


# --- when orders end, and what comes again ---


def test_no_order_outlasts_what_was_planned() -> None:
    """A region that was ordered for 40 s gives nothing after it, and does not cease before."""
    village = ending()
    village.run(4.0)
    begun_s = village.clock.now_s()
    village.plan(100.0, for_s=40.0)
    village.run(38.0)
    assert village.gives_kw == {"s1": 50.0, "s2": 50.0}
    village.run(3.0)
    assert village.gives_kw == {"s1": 0.0, "s2": 0.0}
    assert all(
        at_s + order["valid_s"] <= begun_s + 40.0 + 1e-3 for at_s, _, order in village.orders
    )


def test_a_plan_that_is_renewed_in_time_leaves_no_hole_and_costs_no_more_orders() -> None:
    village = ending()
    village.run(4.0)
    least_kw = []
    for _ in range(20):  # as an aggregator above renews its order
        village.plan(100.0, for_s=30.0)
        for _ in range(38):
            village.step()
            least_kw.append(sum(village.gives_kw.values()))
    assert min(least_kw[10:]) == 100.0
    took_s = 20 * 38 * BEAT_S
    assert len(village.orders) <= 2 * (took_s / 15.0 * 1.35 + 2)


def test_a_stop_waits_for_no_period() -> None:
    village = ordered(Village(aggregator="{period_s: 15}"))
    village.plan(120.0)
    while village.gives_kw["s1"] != 60.0:
        village.step()
    village.step()
    village.plan(0.0)
    village.run(2.0 * BEAT_S)
    assert village.gives_kw == {"s1": 0.0, "s2": 0.0}


def test_an_order_that_was_delivered_again_after_a_later_one_fences_nobody() -> None:
    """The site's link broke before both were acknowledged: it refuses the first, which it did."""
    village = Village(names=("s1",), answers={"s1": mute})
    village.run(4.0)
    village.plan(50.0)
    while len(village.state("s1").waiting) < 2:
        village.step()
    first, second = village.state("s1").waiting
    for order, said in (
        (first, {"verdict": "refused", "reason": "replayed", "text": "seq 1"}),
        (second, {"verdict": "accepted"}),
    ):
        village.fleet.answer(json.dumps({"site": "s1", "id": order.id, **said}).encode())
    assert village.line("s1")["order"] is Fate.ACCEPTED
    assert village.line("s1")["refused"] is None
    assert village.state("s1").fenced_s == -math.inf


def test_two_that_speak_under_one_name_are_told() -> None:
    village = Village(names=("s1",))
    village.run(6.0)
    for _ in range(5):
        village.fleet.sample("s1", village.sample("s1", epoch="other"), retained=False)
        village.run(2.0)
    assert village.fleet.refusals["twice"] >= 4
    assert "two speak under this name" in village.line("s1")["doubt"]
    again = village.sample("s1", epoch="other")
    before = village.fleet.refusals["twice"]
    for _ in range(3):
        village.fleet.sample("s1", again, retained=False)
        village.fleet.sample("s1", again, retained=False)
    assert village.fleet.refusals["twice"] == before
    assert village.fleet.refusals["replayed"] >= 5


def test_what_was_amiss_with_a_site_is_not_told_by_who_has_it_no_more() -> None:
    village = ordered(Village(answers={"s1": refuses("switched_off"), "s2": mute}))
    village.silent.add("s2")
    village.run(40.0)
    assert len(village.house.alarms.standing()) == 2
    members = frozenset((ME, *(f"m{number}" for number in range(40))))
    village.council = Council(ME, {}, members, 9)
    village.silent.add("s1")
    village.run(60.0)
    assert not village.house.alarms.standing()


# --- whatever comes ---

AT = VILLAGE.clock.utc().isoformat()
RIGHT: dict[Kind, dict[str, Any]] = {
    Kind.TELEMETRY: json.loads(VILLAGE.sample("s1")),
    Kind.STATUS: {"site": "s1", "state": "online", "at": AT, "alarms": []},
    Kind.REGISTRATION: {"site": "s1"},
    Kind.EVENTS: json.loads(event(1)),
    Kind.REPLIES: {"site": "s1", "id": "x", "verdict": "refused", "reason": "r", "low_kw": -1.0},
    Kind.MEMBERS: {"member": "m1", "state": "online", "at": AT, "acts_on": ["m1"], "term": 3},
}
SURROGATE = "\ud800"
ODD = st.one_of(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    st.sampled_from((10**400, 1e308, SURROGATE, "\x00\x1b[2J", "x" * 5000, [], {}, [[]], [{}])),
    st.sampled_from(("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "s1", ME)),
)


@given(
    st.sampled_from(list(Kind)),
    st.dictionaries(
        st.sampled_from(sorted({k for v in RIGHT.values() for k in v})), ODD, max_size=3
    ),
    st.dictionaries(st.sampled_from(sorted(RIGHT[Kind.TELEMETRY]["record"])), ODD, max_size=2),
    st.sampled_from(("s1", "m1", ME, "nobody", "\x1b[2J" * 99)),
    st.booleans(),
)
@settings(deadline=None)
def test_no_message_of_any_kind_ends_the_link_or_spoils_what_is_shown(
    kind: Kind, odd: dict[str, Any], record: dict[str, Any], node: str, retained: bool
) -> None:
    view = RIGHT[kind] | odd
    if isinstance(view.get("record"), dict):
        view["record"] = view["record"] | record
    link = VILLAGE.region.link
    link._take(kind, node, json.dumps(view).encode(), retained=retained)
    VILLAGE.step()
    council = met(link.council, VILLAGE.clock.now_s(), VILLAGE.clock.utc(), RULE.member_stale_s)
    assert isinstance(ours(council, "s1"), bool)
    shown = json.dumps(VILLAGE.region.view(), allow_nan=False)
    assert len(shown) < 20_000
    assert all(each.isprintable() for each in region(json.loads(shown)))
    for row in rows(VILLAGE, "s1"):
        assert row.text.isprintable()
        assert row.code.isprintable()


@pytest.mark.parametrize("state", [[], {}, None, 1, "x"])
def test_a_status_that_is_none_is_refused(state: object) -> None:
    """It is retained, so what raised here would come again with every link."""
    raw = json.dumps({"site": "s1", "state": state}).encode()
    with pytest.raises(RefusedMessage) as refused:
        read_online("s1", raw)
    assert refused.value.reason is Reason.MALFORMED


# --- what is shown ---


def test_a_limit_that_holds_for_a_part_of_the_group_is_said_to() -> None:
    said = "hold for our sites alone"
    village = Village(grid=LIMIT)
    village.region.link.council = ALONE
    assert not any(said in each for each in region(village.region.view()))
    village.region.link.council = Council(ME, {}, frozenset((ME, "east")), 9)
    assert any(said in each for each in region(village.region.view()))
    village = Village()
    village.region.link.council = Council(ME, {}, frozenset((ME, "east")), 9)
    assert not any(said in each for each in region(village.region.view()))


@pytest.mark.parametrize(
    ("up", "words"), [(True, "of another aggregator"), (False, "not commanded")]
)
def test_a_site_is_only_said_to_be_of_another_while_others_are_heard(up: bool, words: str) -> None:
    village = Village()
    village.region.link.up = up
    (line,) = [each for each in region(village.region.view()) if each.startswith("s1")]
    assert line.endswith(words)
