"""Every limit of the tree holds in every tick of a day that Hypothesis makes up: any fleet, any
tree, site plans, pins, deltas, droop, other load, states of charge, units that trip, vanish and
return. The decision and the gate are the real ones; the devices do as they are told."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.rig import HEALTHY, MAX_AGE_S, MODBUS, TICK_S, Rig, asset
from vppd.campus.dispatch import STRATEGIES
from vppd.core.alarms import Code
from vppd.core.asset import Asset
from vppd.core.model import (
    SITE,
    Limit,
    Outcome,
    Plan,
    Point,
    Priority,
    Reading,
    Snapshot,
    Synchro,
    UnitId,
)
from vppd.core.settings import BandSettings, DroopSettings
from vppd.core.settings_campus import CampusRulesSettings, ReserveSettings
from vppd.core.settings_response import HeadroomSettings
from vppd.duty import Duty, Memory, owe
from vppd.field.feeders import Feeder, Feeders
from vppd.field.in_turn import WAITS

DAYS, ACTS_MAX = 15, 25  # of one run of the suite; by hand 150 of at most 40 acts: 11,236 ticks
SLACK_KW, STILL_KW = 1e-6, 1e-3
PMU = UnitId("pmu")
SHOWN = frozenset({Point.POWER_KW, Point.SETPOINT_KW, Point.SOC_PCT})

Act = tuple[str, int, float, float]


@dataclass(frozen=True)
class Made:
    """One site: its units by building, and its limits, out and in."""

    buildings: tuple[int, ...]
    feeders_kw: tuple[tuple[float, float] | None, ...]
    site_kw: tuple[float, float]
    strategy: str
    ramp_kw_per_s: float
    headroom_pct: float
    reserve_bounds: bool

    @property
    def assets(self) -> tuple[Asset, ...]:
        return tuple(
            replace(
                asset(
                    UnitId(f"d{building}u{number}"),
                    ramp_max_kw_per_s=self.ramp_kw_per_s,
                    soc_rate_max_pct_per_min=100.0,
                ),
                building=f"D{building}",
                priority=number % 3,
                energy_kwh=100.0 * (1 + number % 3),
                declared=MODBUS,
            )
            for number, building in enumerate(self.buildings)
        )

    @property
    def tree(self) -> tuple[Feeder, ...]:
        made = []
        for number, limited in enumerate(self.feeders_kw):
            ids = tuple(each.id for each in self.assets if each.building == f"D{number}")
            if limited is not None and ids:
                made.append(Feeder(ids, _limit(*limited, f"D{number}")))
        every = tuple(each.id for each in self.assets)
        return (*made, Feeder(every, _limit(*self.site_kw, "site")))


def _limit(out_kw: float, in_kw: float, name: str) -> Limit:
    return Limit(-in_kw, out_kw, Code.CONNECTION, name)


@dataclass
class Day:
    """The site from tick to tick, and what was broken."""

    made: Made
    plans: dict[str, Plan] = field(default_factory=dict)
    hz: float = 50.0
    load_kw: float | None = None
    ticks: int = 0
    busy: int = 0
    broken: list[str] = field(default_factory=list)
    readings: dict[tuple[UnitId, Point], Reading] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rig = Rig(*self.made.assets, feeders=Feeders(self.made.tree))
        self.memory = Memory()
        self.given_kw: dict[UnitId, float] = {}
        self.socs_pct = dict.fromkeys(self.rig.wires, 50.0)
        self.dark: set[UnitId] = set()
        pct = self.made.headroom_pct
        self.duty = Duty(
            self.made.assets,
            (PMU,),
            BandSettings(),
            DroopSettings(),
            self.made.tree[-1].limit,
            self.made.strategy,
            headroom=HeadroomSettings(up_pct=pct, down_pct=pct),
            rules=CampusRulesSettings(
                reserve=ReserveSettings(bounds_base=self.made.reserve_bounds)
            ),
        )

    def tick(self) -> None:
        """Devices show, the site decides, devices obey."""
        rig = self.rig
        rig.clock.t_s += TICK_S
        for id_, soc_pct in self.socs_pct.items():
            if id_ not in self.dark:
                at_kw = self.given_kw.get(id_, 0.0)
                self.show(id_, Point.SOC_PCT, round(soc_pct, 1))
                self.show(id_, Point.POWER_KW, at_kw)
                self.show(id_, Point.SETPOINT_KW, at_kw)
                for point in MODBUS - SHOWN:
                    self.show(id_, point, HEALTHY[point])
        if self.load_kw is not None:
            self.show(SITE, Point.LOAD_KW, self.load_kw)
        now = Snapshot(
            rig.clock.t_s,
            rig.clock.utc(),
            dict(self.readings),
            {PMU: Synchro(PMU, self.hz, rig.clock.t_s, 0.5)},
        )
        rooms, reaches = rig.gate.room(now), rig.gate.reaches(now)
        plans = [each for each in self.plans.values() if each.valid_until_s > now.now_s]
        tree = rig.gate.tree(now)
        owed, self.memory = owe(now, plans, rooms, self.duty, self.memory, reaches, tree)
        told = {each.unit: each.power_kw for each in rig.gate.submit(now, owed.requests)}
        self.look(now, told, rooms)
        self.given_kw = told
        for id_, wire in rig.wires.items():
            if id_ not in self.dark:
                wire.answer(Outcome.WRITTEN, rig.clock.t_s)
                self.socs_pct[id_] -= told[id_] * TICK_S / 36.0 / self.energy_kwh(id_)

    def show(self, id_: UnitId, point: Point, value: float) -> None:
        """A good reading of this instant."""
        at_s = self.rig.clock.t_s
        self.readings[id_, point] = Reading(id_, point, value, at_s, MAX_AGE_S)

    def energy_kwh(self, id_: UnitId) -> float:
        return next(each.energy_kwh for each in self.made.assets if each.id == id_)

    def look(
        self, now: Snapshot, told: Mapping[UnitId, float], rooms: Mapping[UnitId, Limit]
    ) -> None:
        """Each limit at its place, by the plainest sums from what was configured."""
        self.ticks += 1
        self.busy += any(abs(each_kw) > 1.0 for each_kw in told.values())
        load_kw = now.fresh(SITE, Point.LOAD_KW) or 0.0
        for branch in self.made.tree:
            beside_kw = load_kw if branch.limit.detail == "site" else 0.0
            most_kw = max(branch.limit.high_kw + beside_kw, 0.0)
            least_kw = min(branch.limit.low_kw + beside_kw, 0.0)
            sum_kw = sum(told[id_] for id_ in branch.units)
            if not least_kw - SLACK_KW <= sum_kw <= most_kw + SLACK_KW:
                self.says(f"{branch.limit.detail} {sum_kw} of {least_kw}..{most_kw}")
        for id_, room in rooms.items():
            if not room.low_kw - SLACK_KW <= told[id_] <= room.high_kw + SLACK_KW:
                self.says(f"{id_} {told[id_]} of {room.low_kw}..{room.high_kw}")
        pinned = self.memory.pins_kw
        free = [each_kw for id_, each_kw in told.items() if id_ not in pinned]
        if min(free, default=0.0) < -STILL_KW and max(free, default=0.0) > STILL_KW:
            self.says(f"one against another {told}")
        if not pinned:
            for id_, made in self.rig.gate.decisions.items():
                for cut in made.cleared.clamps:
                    waits = cut.detail.endswith(WAITS)  # for an answer, not for want of room
                    by_kw = 0.0 if waits else abs(cut.before_kw - cut.after_kw)
                    if cut.why is Code.CONNECTION and by_kw > SLACK_KW:
                        self.says(f"the share left the gate to cut {id_}: {cut}")

    def says(self, text: str) -> None:
        self.broken.append(f"tick {self.ticks}: {text}")

    def act(self, what: str, number: int, value: float, for_s: float) -> None:
        """One thing happens."""
        rig, now_s = self.rig, self.rig.clock.t_s
        id_ = list(rig.wires)[number % len(rig.wires)]
        total_kw = 100.0 * len(rig.wires)
        until_s = now_s + for_s
        match what:
            case "plan":
                name = ("market", "agc")[number % 2]
                strategy = sorted(STRATEGIES)[number % len(STRATEGIES)] if number % 3 else None
                self.plans[name] = _plan(SITE, value * total_kw, until_s, name, now_s, strategy)
            case "delta":
                made = _plan(SITE, value * 50.0, until_s, "sras", now_s, None)
                self.plans["sras"] = replace(made, adds=True)
            case "pin":
                made = _plan(id_, value * 120.0, until_s, f"pin {id_}", now_s, None)
                self.plans[made.source] = replace(made, droop=number % 2 == 0)
            case "hz":
                self.hz = 50.0 + 0.6 * value
            case "calm":
                self.hz, self.load_kw = 50.0, None if self.load_kw is None else 0.0
            case "load":
                self.load_kw = value * total_kw
            case "soc":
                self.socs_pct[id_] = 52.0 + 44.0 * value
            case "link":
                rig.link(number % 2 == 0, id_)
            case "dark":
                self.dark ^= {id_}
            case "disable":
                rig.gate.disable(id_, "tester")
            case "enable":
                rig.gate.enable(id_, "tester")
            case "trip":
                rig.gate.trip(id_, Code.EMERGENCY_STOP, "tried", "tester")
            case _:
                rig.gate.reset(SITE, "tester")
                self.dark.clear()
                for each in rig.wires:
                    rig.gate.enable(each, "tester")
                    rig.link(True, each)
        for _ in range(max(int(for_s / TICK_S / 4), 1)):
            self.tick()


def _plan(
    unit: UnitId, power_kw: float, until_s: float, source: str, now_s: float, strategy: str | None
) -> Plan:
    rank = Priority.ORDER if source == "agc" else Priority.SCHEDULE
    return Plan(unit, power_kw, until_s, source, rank, now_s, strategy=strategy)


WHAT = (
    *("plan", "plan", "plan", "plan", "delta", "pin", "hz", "hz", "calm", "load", "soc"),
    *("link", "dark", "disable", "enable", "trip", "mend"),
)
limit_kw = st.one_of(st.just(0.0), st.floats(10.0, 400.0))
limits_kw = st.tuples(limit_kw, limit_kw)
acts = st.lists(
    st.tuples(
        st.sampled_from(WHAT), st.integers(0, 11), st.floats(-1.0, 1.0), st.floats(0.2, 12.0)
    ),
    min_size=3,
    max_size=ACTS_MAX,
)
sites = st.builds(
    Made,
    buildings=st.lists(st.integers(0, 2), min_size=1, max_size=6).map(tuple),
    feeders_kw=st.tuples(*[st.one_of(st.none(), limits_kw)] * 3),
    site_kw=limits_kw,
    strategy=st.sampled_from(sorted(STRATEGIES)),
    ramp_kw_per_s=st.sampled_from([5.0, 50.0, 1000.0]),
    headroom_pct=st.sampled_from([0.0, 0.0, 30.0]),
    reserve_bounds=st.booleans(),
)


@given(sites, acts)
@settings(max_examples=DAYS, deadline=None)
def test_every_limit_holds_in_every_tick_whatever_happens(made: Made, happens: list[Act]) -> None:
    day = Day(made)
    for _ in range(4):
        day.tick()
    for each in happens:
        day.act(*each)
    assert not day.broken, "\n".join(day.broken[:5])
