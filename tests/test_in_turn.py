"""The sum of what devices may hold never leaves a limit while shares move between them: the rule by
itself, the gate over devices that answer in any order or not at all, and a whole site at its
connection with devices that answer late, judged by what arrives at them."""

import random
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.rig import B1, B2, B3, TICK_S, Rig, about, asset, chained
from tests.site_rig import SiteRig, site_settings
from tests.test_tree import BUILDINGS, COUNTRY, FEEDERS_KW
from tests.virtual_time import run_virtual, virtual
from vppd.cli.replay import Difference, Ears, Span, recorded_in, replay
from vppd.core.alarms import Code
from vppd.core.model import (
    Cleared,
    Limit,
    Outcome,
    ReadBack,
    ReadBackResult,
    Request,
    UnitId,
    WriteResult,
)
from vppd.core.settings import ConnectionSettings, Settings
from vppd.core.settings_recorder import RecorderSettings
from vppd.field.feeders import Feeder, Feeders
from vppd.field.in_turn import WAITS, in_turn

B4 = UnitId("b4")
UNITS = (B1, B2, B3, B4)
NEAR_KW = 1e-6


def feeder(low_kw: float, high_kw: float, *units: UnitId) -> Feeder:
    return Feeder(units or UNITS, Limit(low_kw, high_kw, Code.CONNECTION, "site"))


# ---- the rule ----------------------------------------------------------------------------------


def test_a_raise_gets_the_room_that_is_there_and_waits_for_the_rest() -> None:
    powers_kw = {B1: 20.0, B2: 80.0}
    holds_kw = {B1: (60.0, 60.0), B2: (30.0, 30.0)}
    cuts = in_turn([feeder(-100.0, 100.0, B1, B2)], powers_kw, holds_kw)
    assert powers_kw == {B1: 20.0, B2: about(40.0)}
    assert [(id_, cut.before_kw, cut.after_kw) for id_, cut in cuts] == [(B2, 80.0, about(40.0))]
    assert WAITS in cuts[0][1].detail
    holds_kw[B1] = 20.0, 20.0
    powers_kw[B2] = 80.0
    assert in_turn([feeder(-100.0, 100.0, B1, B2)], powers_kw, holds_kw) == []


def test_all_raises_shrink_by_the_same_share() -> None:
    powers_kw = {B1: -10.0, B2: -60.0, B3: -40.0}
    holds_kw = {B1: (-50.0, -40.0), B2: (-20.0, 5.0), B3: (-10.0, -10.0)}
    in_turn([feeder(-115.0, 0.0, B1, B2, B3)], powers_kw, holds_kw)
    assert powers_kw == {B1: -10.0, B2: about(-40.0), B3: about(-25.0)}


def test_a_move_towards_zero_never_waits_and_beyond_it_does() -> None:
    powers_kw = {B1: 100.0, B2: 20.0}
    holds_kw = {B1: (100.0, 100.0), B2: (-50.0, -50.0)}
    in_turn([feeder(-100.0, 60.0, B1, B2)], powers_kw, holds_kw)
    assert powers_kw == {B1: 100.0, B2: 0.0}, "what B1 held needed the other to charge"


def test_over_a_limit_that_fell_nothing_is_raised() -> None:
    powers_kw = {B1: 10.0, B2: 20.0}
    holds_kw = {B1: (60.0, 60.0), B2: (0.0, 5.0)}
    in_turn([feeder(-100.0, 30.0, B1, B2)], powers_kw, holds_kw)
    assert powers_kw == {B1: 10.0, B2: 5.0}


kws = st.floats(-100.0, 100.0)
spans = st.tuples(kws, kws).map(lambda each: (min(each), max(each)))
limits = st.tuples(st.floats(-250.0, 0.0), st.floats(0.0, 250.0))


@given(
    *(st.tuples(*[each] * size) for each, size in ((kws, 4), (spans, 4), (limits, 3))),
)
@settings(deadline=None)
def test_no_sum_is_over_a_limit_but_by_what_was_held_or_went_back(
    asked: tuple[float, ...],
    held: tuple[tuple[float, float], ...],
    tree: tuple[tuple[float, float], ...],
) -> None:
    first, second, root = tree
    feeders = [feeder(*first, B1, B2), feeder(*second, B3, B4), feeder(*root)]
    holds_kw, powers_kw = dict(zip(UNITS, held, strict=True)), dict(zip(UNITS, asked, strict=True))
    cuts = in_turn(feeders, powers_kw, holds_kw)
    for each in feeders:
        low_kw, high_kw = each.limit.low_kw, each.limit.high_kw
        most_kw = [max(powers_kw[id_], holds_kw[id_][1]) for id_ in each.units]
        least_kw = [min(powers_kw[id_], holds_kw[id_][0]) for id_ in each.units]
        back_kw = [max(min(powers_kw[id_], 0.0), holds_kw[id_][1]) for id_ in each.units]
        forth_kw = [min(max(powers_kw[id_], 0.0), holds_kw[id_][0]) for id_ in each.units]
        assert sum(most_kw) <= max(high_kw, sum(back_kw)) + NEAR_KW
        assert sum(least_kw) >= min(low_kw, sum(forth_kw)) - NEAR_KW
    for id_, before_kw in zip(UNITS, asked, strict=True):
        assert powers_kw[id_] * before_kw >= 0.0
        assert abs(powers_kw[id_]) <= abs(before_kw)
        low_kw, high_kw = holds_kw[id_]
        if low_kw <= before_kw <= high_kw:
            assert powers_kw[id_] == before_kw, "no raise"
    for id_, cut in cuts:
        assert abs(cut.before_kw - cut.after_kw) > 0.0
        assert powers_kw[id_] != asked[UNITS.index(id_)]


@given(*(st.tuples(*[each] * 4) for each in (kws, spans)))
def test_nothing_waits_where_there_is_room(
    asked: tuple[float, ...], held: tuple[tuple[float, float], ...]
) -> None:
    powers_kw = dict(zip(UNITS, asked, strict=True))
    most_kw = sum(max(at_kw, high) for at_kw, (_, high) in zip(asked, held, strict=True))
    least_kw = sum(min(at_kw, low) for at_kw, (low, _) in zip(asked, held, strict=True))
    room = feeder(min(least_kw, 0.0), max(most_kw, 0.0))
    assert in_turn([room], powers_kw, dict(zip(UNITS, held, strict=True))) == []


# ---- the gate, over devices that answer in any order, late or not at all -----------------------


@dataclass
class Writer:
    """One writer and its device: one write on the wire, and the newest offer after it."""

    rig: Rig
    unit: UnitId
    register_kw: float = 0.0
    known_kw: float | None = 0.0  # as answered; None: nobody knows
    offers: int = 0
    wire: Cleared | None = None
    heard: bool = False

    def newest(self) -> Cleared | None:
        """What was offered since it was looked at last; told as held where nothing changes."""
        offers = self.rig.wires[self.unit].offers
        new, self.offers = len(offers) > self.offers, len(offers)
        if new and self.wire is None and offers[-1].power_kw == self.known_kw:
            self._tell(Outcome.HELD, offers[-1])
        return offers[-1] if offers else None

    def act(self, what: str) -> None:
        """What the line or the device does next."""
        newest, wire = self.newest(), self.wire
        if wire is None:
            if what == "send" and newest is not None and newest.power_kw != self.known_kw:
                self.wire, self.heard = newest, False
            return
        if what == "hear":
            self.register_kw, self.heard = wire.power_kw, True
        elif what == "answer" and self.heard:
            self.wire, self.known_kw = None, wire.power_kw
            self._tell(Outcome.WRITTEN, wire)
        elif what == "lose":
            self.wire, self.known_kw = None, None
            self._tell(Outcome.LOST, wire)
        elif what == "refuse" and not self.heard:
            self.wire, self.known_kw = None, None
            self._tell(Outcome.REFUSED, wire)

    def _tell(self, outcome: Outcome, of: Cleared) -> None:
        power_kw = None if outcome is Outcome.REFUSED else of.power_kw
        at_s = self.rig.clock.t_s
        self.rig.report(WriteResult(self.unit, outcome, power_kw, 0.0, at_s, "", of.at_s))


TREE = (feeder(-80.0, 90.0, B1, B2), feeder(-250.0, 250.0, B3, B4), feeder(-150.0, 120.0))
asked_kw = st.tuples(*[st.sampled_from([0.0, 5.0, 60.0, 99.0])] * 4)
ticks = st.tuples(st.just("tick"), st.sampled_from([1.0, -1.0]), asked_kw)
alone = st.sampled_from(["send", "hear", "hear", "answer", "lose", "refuse"])
happenings = st.lists(
    st.one_of(
        ticks,
        st.tuples(st.sampled_from(["all", "heard and lost"]), st.integers(0, 3)),
        st.tuples(alone, st.integers(0, 3)),
    ),
    min_size=15,
    max_size=40,
)
WHOLE = {"all": ("send", "hear", "answer"), "heard and lost": ("send", "hear", "lose")}


@given(happenings)
@settings(max_examples=80, deadline=None)
def test_devices_together_never_hold_more_than_a_limit_whatever_becomes_of_writes(
    happened: list[tuple[object, ...]],
) -> None:
    """Asked all one way at a time, for what went back to 0 by itself cannot be held."""
    assets = [asset(id_, ramp_max_kw_per_s=1e4) for id_ in UNITS]
    rig = Rig(*assets, feeders=Feeders(TREE)).open()
    writers = [Writer(rig, id_, offers=len(rig.wires[id_].offers)) for id_ in UNITS]
    for what, *how in happened:
        if what == "tick":
            sign, asked = how
            assert isinstance(sign, float)
            assert isinstance(asked, tuple)
            rig.clock.t_s += TICK_S
            rig.tell()
            got = rig.submit(
                *[Request(id_, 0.0, sign * kw) for id_, kw in zip(UNITS, asked, strict=True)]
            )
            assert all(chained(each) for each in got.values())
            for writer in writers:
                writer.newest()
        else:
            (at,) = how
            assert isinstance(at, int)
            for act in WHOLE.get(str(what), (str(what),)):
                writers[at].act(act)
        for limited in TREE:
            sum_kw = sum(each.register_kw for each in writers if each.unit in limited.units)
            assert limited.limit.low_kw - NEAR_KW <= sum_kw <= limited.limit.high_kw + NEAR_KW


def test_a_share_that_moves_waits_one_answer_and_comes_whole() -> None:
    rig = Rig(asset(B1), asset(B2), feeders=Feeders((feeder(-100.0, 100.0, B1, B2),))).open()

    def asks(one_kw: float, other_kw: float) -> tuple[float, float]:
        rig.clock.t_s += TICK_S
        rig.tell()
        got = rig.submit(Request(B1, 0.0, one_kw), Request(B2, 0.0, other_kw))
        return got[B1].power_kw, got[B2].power_kw

    assert asks(90.0, 10.0) == (90.0, 10.0)
    rig.answer()
    assert asks(10.0, 90.0) == (10.0, about(10.0))
    rig.wires[B2].answer(Outcome.WRITTEN, rig.clock.t_s)
    assert asks(10.0, 90.0) == (10.0, about(10.0)), "B1 was not heard yet"
    assert rig.gate.decisions[B2].cleared.bound_by == (Code.CONNECTION,)
    rig.wires[B1].answer(Outcome.LOST, rig.clock.t_s)
    assert asks(10.0, 90.0) == (10.0, about(10.0)), "it may hold 90 kW still"
    rig.wires[B1].answer(Outcome.WRITTEN, rig.clock.t_s)
    assert asks(10.0, 90.0) == (10.0, 90.0)
    rig.answer()
    assert asks(-60.0, -40.0) == (-60.0, -40.0), "the other way there is room"


def test_a_device_that_somebody_else_wrote_to_may_hold_that() -> None:
    rig = Rig(asset(B1), asset(B2), feeders=Feeders((feeder(-100.0, 100.0, B1, B2),))).open()
    rig.submit(Request(B1, 0.0, 10.0), Request(B2, 0.0, 10.0))
    rig.answer()
    at_s = rig.clock.t_s = rig.clock.t_s + TICK_S
    rig.report(ReadBackResult(B1, ReadBack.CHANGED, 10.0, 80.0, at_s, "seen"))
    rig.tell()
    got = rig.submit(Request(B1, 0.0, 10.0), Request(B2, 0.0, 90.0))
    assert got[B2].power_kw == about(20.0)
    rig.answer()
    rig.clock.t_s += TICK_S
    rig.tell()
    got = rig.submit(Request(B1, 0.0, 10.0), Request(B2, 0.0, 90.0))
    assert got[B2].power_kw == 90.0


# ---- a whole site ------------------------------------------------------------------------------

SLOW_S = (0.0, 0.05, 0.2, 0.4)  # how late the devices answer, one of these each
SITE_KW = 150.0
ROUND_KW = NEAR_KW  # registers count in tenths, and never beyond what was cleared
ACTS_S, DAY_S = (0.05, 0.9), 20.0
SEEDS = (1, 2)  # of one run of the suite
REPLAYED_S = 7.0


@dataclass
class Sums:
    """The sums of the setpoints in the registers of the devices, write by write."""

    rig: SiteRig
    over: list[str] = field(default_factory=list)
    most_kw: dict[str, float] = field(default_factory=dict)
    seen: int = 0

    def judge(self, since_s: float) -> None:
        """All writes from then on."""
        told = [(name, each) for name in BUILDINGS for each in self.rig.told(name)]
        told.sort(key=lambda write: write[1].at_s)
        held = dict.fromkeys(BUILDINGS, 0.0)
        for name, write in told:
            at_s, held[name] = write.at_s, write.power_kw
            if at_s < since_s:
                continue
            self.seen += 1
            for building, (out_kw, in_kw) in FEEDERS_KW.items():
                sum_kw = sum(kw for id_, kw in held.items() if BUILDINGS[id_] == building)
                self._hold(at_s, building, sum_kw, out_kw, in_kw)
            self._hold(at_s, "site", sum(held.values()), SITE_KW, SITE_KW)

    def _hold(self, at_s: float, what: str, sum_kw: float, out_kw: float, in_kw: float) -> None:
        over_kw = max(sum_kw - out_kw, -in_kw - sum_kw)
        self.most_kw[what] = max(self.most_kw.get(what, -in_kw), over_kw)
        if over_kw > ROUND_KW:
            self.over.append(f"{what} {sum_kw:.1f} kW at {at_s:.3f} s")


def site_at_its_limit() -> Settings:
    made = site_settings(
        tuple(BUILDINGS),
        country=COUNTRY,
        connection=ConnectionSettings(export_max_kw=SITE_KW, import_max_kw=SITE_KW),
        safety={"ramp_max_kw_per_s": 400.0},
    )
    units = tuple(replace(each, building=BUILDINGS[each.id]) for each in made.units)
    return replace(made, units=units, recorder=RecorderSettings(file_s=4.0))


async def shares_that_move(seed: int, state: Path | None = None, for_s: float = DAY_S) -> Sums:
    """Plans, pins and frequency that throw power from unit to unit at the limits, all one way at a
    time; every unit answers late by its own while and now and then another."""
    dice = random.Random(seed)
    rig = SiteRig(site_at_its_limit())
    rig.state_dir = state
    async with rig:
        end_s, begun_s, way = rig.now_s + for_s, rig.now_s, 1.0
        slow: dict[str, float] = {}
        while rig.now_s < end_s:
            unit = dice.choice(tuple(BUILDINGS))
            match dice.choice(["plan", "plan", "pin", "pin", "pin", "turn", "hz", "slow"]):
                case "plan":
                    strategy = dice.choice([None, "losses", "priority"])
                    rig.plan(way * dice.uniform(60.0, 300.0), strategy=strategy, for_s=5.0)
                case "pin":
                    rig.plan(way * dice.uniform(0.0, 100.0), unit, for_s=dice.uniform(0.3, 2.0))
                case "turn":
                    way = -way
                    rig.step(50.0)
                    for each in ("site", *BUILDINGS):
                        rig.plan(way * 50.0, each, for_s=0.3)
                case "hz":
                    rig.step(50.0 - way * dice.uniform(0.0, 0.4))
                case _:
                    slow[unit] = dice.choice(SLOW_S)
                    rig.plant.inject("slow", unit, delay_s=slow[unit])
            await rig.run(dice.uniform(*ACTS_S))
        sums = Sums(rig)
        sums.judge(begun_s)
        await rig.house.rest()
    return sums


@pytest.mark.parametrize("seed", SEEDS)
@virtual
async def test_no_limit_is_broken_at_the_devices_while_shares_move(seed: int) -> None:
    sums = await shares_that_move(seed)
    assert sums.seen > 100
    assert max(sums.most_kw.values()) > -ROUND_KW, "a limit that never binds proves little"
    assert sums.over == []


def test_who_waited_for_whom_is_decided_again_from_what_was_recorded(tmp_path: Path) -> None:
    run_virtual(shares_that_move(SEEDS[0], tmp_path, REPLAYED_S))
    different: list[Difference] = []
    with recorded_in(tmp_path) as files:
        played = replay(files, Span(), (), Ears(different.append, lambda _: None, lambda *_: None))
    assert played.files > 1
    assert played.ticks > REPLAYED_S / 0.2
    assert (different, played.damaged) == ([], 0)


@pytest.mark.parametrize("delay_s", [0.0, 0.2])
@virtual
async def test_a_response_waits_for_nobody_where_there_is_room(delay_s: float) -> None:
    """Begun within half a second and full within one, and what the devices take to answer: away
    from 0, up to the limit and back from it."""
    settings = site_at_its_limit()
    full_kw = 0.3 / 50.0 / 0.05 * 100.0 * len(BUILDINGS)  # 0.3 Hz at 5 %
    async with SiteRig(settings) as rig:
        for name in BUILDINGS:
            rig.plant.inject("slow", name, delay_s=delay_s)
        for base_kw, grid_hz, owed_kw in (
            (0.0, 49.7, full_kw),
            (SITE_KW - 40.0, 49.7, SITE_KW),
            (SITE_KW, 50.3, SITE_KW - full_kw),
            (40.0 - SITE_KW, 50.3, -SITE_KW),
        ):
            rig.step(50.0)
            rig.plan(base_kw)
            await rig.until(partial(near, rig, base_kw), within_s=6.0)
            await rig.run(1.0)
            before_kw, begun_s = rig.sum_kw(), rig.now_s
            rig.step(grid_hz)
            await rig.until(lambda at=before_kw: abs(rig.sum_kw() - at) > 1.0, 0.5 + delay_s)  # type: ignore[misc]
            await rig.until(partial(near, rig, owed_kw), begun_s + 1.0 + delay_s - rig.now_s)


def near(rig: SiteRig, power_kw: float) -> bool:
    """Whether the setpoints together are this."""
    return abs(rig.sum_kw() - power_kw) <= 1.0


# ---- what the account of one device knows ------------------------------------------------------


def pair_under(limit_kw: float) -> Rig:
    return Rig(asset(B1), asset(B2), feeders=Feeders((feeder(-limit_kw, limit_kw, B1, B2),)))


def gets_kw(rig: Rig, one_kw: float, other_kw: float) -> float:
    """What the second unit gets in one tick."""
    rig.clock.t_s += TICK_S
    return rig.submit(Request(B1, 0.0, one_kw), Request(B2, 0.0, other_kw))[B2].power_kw


def test_a_write_that_waited_long_for_its_answer_may_have_been_heard_at_its_end() -> None:
    """Its own timer counts from then, and not from when the setpoint was made."""
    rig = pair_under(100.0).open()
    rig.submit(Request(B1, 0.0, 70.0))
    rig.clock.t_s += 3.0  # as long as its timeout is
    rig.link(up=False, unit=B1)
    rig.wires[B1].answer(Outcome.LOST, rig.clock.t_s)
    rig.clock.t_s += rig.assets[0].revert_s + 0.5
    rig.tell(B2)
    assert gets_kw(rig, 0.0, 90.0) == about(30.0)
    rig.clock.t_s += 1.0
    rig.tell(B2)
    assert gets_kw(rig, 0.0, 90.0) == 90.0


def test_a_device_that_was_never_told_may_be_on_its_way_to_the_setpoint_that_it_shows() -> None:
    """After a crash it holds what the process before told it, and its inverter follows slowly."""
    rig = pair_under(100.0)
    for _ in range(4):
        rig.clock.t_s += TICK_S
        rig.tell(B1, setpoint_kw=60.0, power_kw=20.0)
        rig.tell(B2)
        rig.submit()
        rig.wires[B2].answer(Outcome.WRITTEN, rig.clock.t_s)
    assert gets_kw(rig, 0.0, 90.0) == about(40.0)
    rig.answer()
    rig.tell()
    assert gets_kw(rig, 0.0, 90.0) == 90.0


def test_an_answer_without_power_says_nothing_of_power() -> None:
    """Of two registers one was refused, and the other written: the power stands as it was."""
    rig = pair_under(100.0).open()
    gets_kw(rig, 80.0, 20.0)
    rig.answer()
    rig.tell()
    assert gets_kw(rig, 10.0, 90.0) == about(20.0)
    at_s = rig.clock.t_s
    rig.report(WriteResult(B1, Outcome.WRITTEN, None, 5.0, at_s, "", at_s))
    rig.wires[B2].answer(Outcome.WRITTEN, at_s)
    assert gets_kw(rig, 10.0, 90.0) == about(20.0)
    rig.answer()
    assert gets_kw(rig, 10.0, 90.0) == 90.0
