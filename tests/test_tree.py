"""Every limit of the tree holds in every tick of a randomised day, and nobody works against the
rest unless asked; the day is played in minutes of virtual time, with faults."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.site_rig import NAMES, SiteRig, site_settings
from tests.virtual_time import virtual
from vppd.campus.dispatch import STRATEGIES, Member
from vppd.campus.losses import Curve, Wires
from vppd.campus.share import Ask, share
from vppd.core.alarms import Code
from vppd.core.decision import Decision
from vppd.core.model import Limit, Priority, Snapshot, UnitId
from vppd.core.settings import (
    BuildingSettings,
    CampusSettings,
    CitySettings,
    ConnectionSettings,
    CountrySettings,
    StateSettings,
)
from vppd.field.feeders import Feeder, fit_active
from vppd.grid.frequency import Frequency

FEEDERS_KW = {"NORTH": (120.0, 90.0), "SOUTH": (80.0, 150.0)}  # out, in
SITE_KW = (160.0, 170.0)
BUILDINGS = {"A": "NORTH", "B": "NORTH", "C": "SOUTH", "D": "SOUTH"}
STILL_KW = 0.05
SLACK_KW = 1e-6
DAY_S, ACT_EVERY_S = 50.0, 1.5

COUNTRY = CountrySettings(
    states=(
        StateSettings(
            id="MH",
            cities=(
                CitySettings(
                    id="MUM",
                    campuses=(
                        CampusSettings(
                            id="LAB",
                            buildings=tuple(
                                BuildingSettings(id=id_, export_max_kw=out, import_max_kw=in_)
                                for id_, (out, in_) in FEEDERS_KW.items()
                            ),
                        ),
                    ),
                ),
            ),
        ),
    )
)


@dataclass
class Look:
    """What was seen in every tick."""

    rig: SiteRig
    ticks: int = 0
    busy: int = 0
    broken: list[str] = field(default_factory=list)

    def tick(self) -> None:
        """Every limit at its place, and all one way."""
        told = {id_: each.cleared.power_kw for id_, each in self.rig.house.gate.decisions.items()}
        self.ticks += 1
        self.busy += any(abs(kw) > STILL_KW for kw in told.values())
        for building, (out_kw, in_kw) in FEEDERS_KW.items():
            sum_kw = sum(kw for id_, kw in told.items() if BUILDINGS[id_] == building)
            self._hold(building, sum_kw, out_kw, in_kw)
        self._hold("site", sum(told.values()), *SITE_KW)
        for id_, each in self.rig.house.gate.decisions.items():
            self._hold(id_, told[id_], each.room.high_kw, -each.room.low_kw)
        pinned = self.rig.house.tick.memory.pins_kw
        ways = {kw > 0.0 for id_, kw in told.items() if abs(kw) > STILL_KW and id_ not in pinned}
        if len(ways) > 1:
            self.broken.append(f"{self.rig.now_s:.2f}: one against another: {told}")

    def _hold(self, what: str, sum_kw: float, out_kw: float, in_kw: float) -> None:
        if not -in_kw - SLACK_KW <= sum_kw <= out_kw + SLACK_KW:
            self.broken.append(f"{self.rig.now_s:.2f}: {what} {sum_kw:.3f} of {-in_kw}..{out_kw}")


def acts(rig: SiteRig, dice: random.Random) -> list[Callable[[], object]]:
    """What may happen next."""
    unit = dice.choice(NAMES)
    inject = rig.plant.inject
    strategy = dice.choice([None, *STRATEGIES])
    power_kw = dice.uniform(-420.0, 420.0)
    return [
        lambda: rig.plan(power_kw, strategy=strategy, for_s=dice.uniform(3.0, 30.0)),
        lambda: rig.plan(power_kw, strategy=strategy, for_s=dice.uniform(3.0, 30.0)),
        lambda: rig.plan(power_kw, priority=Priority.ORDER, source="agc", for_s=20.0),
        lambda: rig.plan(dice.uniform(-60.0, 60.0), adds=True, source="sras", for_s=8.0),
        lambda: rig.plan(dice.uniform(-100.0, 100.0), unit, for_s=6.0, droop=dice.random() < 0.5),
        lambda: rig.step(dice.uniform(49.4, 50.6)),
        lambda: rig.step(dice.uniform(49.4, 50.6)),
        lambda: rig.step(50.0),
        lambda: inject("soc", unit, soc_pct=dice.uniform(9.0, 96.0)),
        lambda: inject("silence", unit, for_s=dice.uniform(1.0, 8.0)),
        lambda: inject("fault_bits", unit, bits=1, for_s=2.0),
        lambda: inject("pmu_frozen", for_s=dice.uniform(0.3, 5.0)),
        lambda: rig.reset(dice.choice([unit, "site"])),
        lambda: rig.house.gate.disable(UnitId(unit), "tester"),
        lambda: rig.house.gate.enable(UnitId(unit), "tester"),
    ]


@pytest.mark.parametrize("seed", [1, 2])
@virtual
async def test_every_limit_holds_in_every_tick_of_a_day_with_faults(seed: int) -> None:
    dice = random.Random(seed)
    connection = ConnectionSettings(export_max_kw=SITE_KW[0], import_max_kw=SITE_KW[1])
    chosen = site_settings(
        connection=connection, country=COUNTRY, safety={"ramp_max_kw_per_s": 40.0}
    )
    async with SiteRig(chosen, seed=seed) as rig:
        look = Look(rig)
        decided = rig.house.decided

        def seen(decision: Decision, frequency: Frequency | None, now: Snapshot) -> None:
            look.tick()
            decided(decision, frequency, now)

        rig.house.decided = seen  # type: ignore[method-assign]
        end_s = rig.now_s + DAY_S
        while rig.now_s < end_s:
            dice.choice(acts(rig, dice))()
            await rig.run(dice.uniform(0.2, 2.0 * ACT_EVERY_S))
        assert not look.broken, f"{len(look.broken)} of {look.ticks}\n" + "\n".join(look.broken[:9])
        assert look.ticks > DAY_S * 8
        assert look.busy > look.ticks / 3, "a day on which little was asked proves little"


@virtual
async def test_a_lost_unit_is_dispatched_anew_in_the_same_tick() -> None:
    async with SiteRig(site_settings()) as rig:
        rig.step(49.7)
        await rig.run(3.0)

        def answered() -> dict[str, float]:
            decisions = rig.house.gate.decisions
            return {str(id_): each.request.frequency_kw for id_, each in decisions.items()}

        before = answered()
        assert before["A"] > 1.0
        rig.house.gate.disable(UnitId("A"), "tester")
        decision, *_ = rig.house.tick.once()
        after = answered()
        assert after["A"] == 0.0
        assert sum(after.values()) == pytest.approx(sum(before.values()), abs=0.5)
        assert decision.cleared_kw == pytest.approx(sum(after.values()), abs=0.5)


@virtual
async def test_the_house_tells_when_little_is_left() -> None:
    async with SiteRig(site_settings(safety={"ramp_max_kw_per_s": 40.0})) as rig:
        rig.plan(360.0)
        await rig.run(5.0)
        standing = {each.code for each in rig.house.alarms.standing()}
        assert {Code.RESERVE_LOW, Code.N_MINUS_ONE} <= standing
        rig.plan(200.0)
        await rig.run(5.0)
        standing = {each.code for each in rig.house.alarms.standing()}
        assert not {Code.RESERVE_LOW, Code.N_MINUS_ONE} & standing


# ---- the share itself: it leaves the gate nothing to cut -------------------------------------

room = st.one_of(st.just(0.0), st.floats(0.0, 200.0))
limit_kw = st.one_of(st.just(0.0), st.floats(0.0, 400.0))
PLAIN = Member(UnitId("a"), 100.0, 100.0, 50.0, 10.0, 95.0, 250.0, 100)


@st.composite
def trees(draw: st.DrawFn) -> tuple[list[Member], list[Feeder]]:
    """Units in buildings behind feeders, on floors behind the building now and then."""
    fleet: list[Member] = []
    tree: list[Feeder] = []
    for number in range(draw(st.integers(1, 3))):
        behind = [
            PLAIN._replace(
                id=UnitId(f"d{number}u{n}"),
                out_kw=draw(room),
                in_kw=draw(room),
                soc_pct=draw(st.floats(5.0, 98.0)),
                curve=Curve(draw(st.sampled_from([0.0, 0.5])), 0.005, 1e-4),
                wires=Wires(f"D{number}", 0.0, draw(st.sampled_from([0.0, 1e-5]))),
            )
            for n in range(draw(st.integers(1, 4)))
        ]
        fleet += behind
        ids = tuple(each.id for each in behind)
        if len(ids) > 2 and draw(st.booleans()):
            tree.append(feeder(draw, ids[:2]))
        if draw(st.booleans()):
            tree.append(feeder(draw, ids))
    return fleet, [*tree, feeder(draw, tuple(each.id for each in fleet))]


def feeder(draw: st.DrawFn, ids: tuple[UnitId, ...]) -> Feeder:
    return Feeder(ids, Limit(-draw(limit_kw), draw(limit_kw), Code.CONNECTION))


def able_kw(fleet: list[Member], tree: list[Feeder], sign: float) -> float:
    """The most that gets through the tree."""
    sums = {frozenset({each.id}): each.room_kw(sign) for each in fleet}
    for each in tree:
        most_kw = each.limit.high_kw if sign > 0.0 else -each.limit.low_kw
        inside = [key for key in sums if key <= set(each.units)]
        sum_kw = sum(sums.pop(key) for key in inside)
        sums[frozenset(each.units)] = min(sum_kw, most_kw)
    return sum(sums.values())


kw = st.floats(-500.0, 500.0)


@given(trees(), kw, kw, st.sampled_from(sorted(STRATEGIES)))
@settings(max_examples=150, deadline=None)
def test_a_share_leaves_the_gate_nothing_to_cut(
    site: tuple[list[Member], list[Feeder]], base_kw: float, droop_kw: float, name: str
) -> None:
    fleet, tree = site
    made = share(Ask(base_kw, {}, droop_kw, {}), fleet, STRATEGIES[name], tree)
    powers = {each.unit: each.base_kw + each.frequency_kw for each in made.requests}
    cuts = fit_active(tree, dict(powers))
    assert all(abs(cut.before_kw - cut.after_kw) < 1e-6 for _, cut in cuts)
    for each in fleet:
        assert -each.in_kw - 1e-6 <= powers[each.id] <= each.out_kw + 1e-6
    want_kw = base_kw + droop_kw
    if base_kw * droop_kw < 0.0:  # droop moves what is given, not what base only wants
        most_kw = able_kw(fleet, tree, base_kw)
        want_kw = min(max(base_kw, -most_kw), most_kw) + droop_kw
    can_kw = able_kw(fleet, tree, want_kw)
    got_kw = sum(powers.values())
    assert got_kw == pytest.approx(min(max(want_kw, -can_kw), can_kw), abs=1e-5)
    assert len({power > 0.0 for power in powers.values() if abs(power) > 1e-6}) <= 1


@given(trees(), kw, st.floats(-150.0, 150.0), st.sampled_from(sorted(STRATEGIES)))
@settings(max_examples=80, deadline=None)
def test_what_is_pinned_counts_against_the_limits(
    site: tuple[list[Member], list[Feeder]], base_kw: float, pin_kw: float, name: str
) -> None:
    fleet, tree = site
    pinned = fleet[0]
    pin_kw = min(max(pin_kw, -pinned.in_kw), pinned.out_kw)
    made = share(Ask(base_kw, {pinned.id: pin_kw}, 0.0, {}), fleet, STRATEGIES[name], tree)
    powers = {each.unit: each.base_kw for each in made.requests}
    assert powers[pinned.id] == pin_kw, "a pin is asked as it is; the gate cuts it, and says so"
    powers[pinned.id] = gets_kw(fleet, tree, {pinned.id: pin_kw})[pinned.id]
    for branch in tree:
        sum_kw = sum(powers[id_] for id_ in branch.units)
        assert branch.limit.low_kw - 1e-6 <= sum_kw <= branch.limit.high_kw + 1e-6


def gets_kw(
    fleet: list[Member], tree: list[Feeder], asked_kw: dict[UnitId, float]
) -> dict[UnitId, float]:
    """What the gate lets through of these powers alone."""
    left_kw = {each.id: asked_kw.get(each.id, 0.0) for each in fleet}
    fit_active(tree, left_kw)
    return left_kw
