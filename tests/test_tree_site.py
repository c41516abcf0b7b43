"""Every limit of the tree at the devices themselves: a whole site on virtual time, and what the
plant's own units give, looked at every 100 ms through minutes of plans, droop and faults.

What may be over a limit, and for how long, is said here and nowhere assumed away:

- a unit follows what it is told by its inverter's ramp and lag: while it moves (MOVES_S at most) a
  branch may be over its limit, and a unit against another;
- the connection is kept to with the other load as it is known, from a meter and units that are read
  one after the other, twice a second: it is over by no more than that load is wrong. A load that
  changed while units move is known once they rested for RESTED_S; from then on it is wrong by no
  more than LOAD_KW, however they move, while every unit hears and the load stays;
- a unit that cannot be told keeps what it was told last and may stand against the rest until its
  silence is over; limits hold meanwhile, its branch counts it with what it may be giving.
"""

import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest

from tests.site_rig import METER_AT, SiteRig, site_settings
from tests.test_tree import COUNTRY, FEEDERS_KW
from tests.virtual_time import virtual
from vppd.campus.dispatch import STRATEGIES
from vppd.core.model import SITE, Point, Priority, UnitId
from vppd.core.settings import ConnectionSettings, DispatchSettings, Settings
from vppd.sim.inverter import FULL_POWER_S, LAG_S

SEEDS, DAY_S = (1,), 120.0  # of one run of the suite
LOOK_S, ACT_EVERY_S = 0.1, 1.2
NAMES = ("A", "B", "C", "D", "E", "F")
BUILDINGS = {name: ("NORTH", "SOUTH")[at // 3] for at, name in enumerate(NAMES)}
SITE_KW = (160.0, 190.0)  # out, in: less than the feeders together
STILL_KW = 1.0
ROUND_KW = 0.3  # a setpoint register counts in tenths
MOVES_S = 2.0 * FULL_POWER_S + 3.0 * LAG_S  # from full power to full power the other way
HEARD_S = 3.5  # from the end of a silence until the unit is asked again
RAMP_KW_PER_S = 60.0
LOAD_KW = 0.1 * len(NAMES)  # registers of all units count in tenths
RESTED_S = 2.6  # three polls of the meter, one of a unit, and half a second for what shows late
REST_KW = 0.1  # less than this between two looks is rest
ONCE = {"soc", "drop", "device_reset"}  # happen, and are over
DEAF = {
    *("silence", "slow", "exception", "drop", "device_reset", "connection_refused"),
    *("wrong_unit_id", "refuse_writes"),
}
FAULTS: tuple[tuple[str, Mapping[str, object]], ...] = (
    *((name, {}) for name in sorted(DEAF)),
    *((name, {}) for name in ("fault_bits", "alarm_bits", "cell_drift")),
    *((name, {}) for name in ("over_temperature", "current_surge", "stuck_register")),
    ("soc", {"soc_pct": 9.5}),
    ("soc", {"soc_pct": 95.0}),
    ("soc", {"soc_pct": 55.0}),
)
ACTS = (
    *("plan", "plan", "plan", "plan", "agc", "delta", "pin", "hz", "hz", "calm", "load", "mend"),
    *("fault", "fault", "fault", "fault", "pmu", "disable", "enable"),
)
PMU_FAULTS = ("pmu_loss", "pmu_frozen", "pmu_garbage", "pmu_jump", "pmu_spikes", "pmu_delay")


def settings_of_site() -> Settings:
    """Six units in two buildings, each behind a feeder, with a meter at the connection."""
    made = site_settings(
        NAMES,
        country=COUNTRY,
        connection=ConnectionSettings(export_max_kw=SITE_KW[0], import_max_kw=SITE_KW[1]),
        safety={"ramp_max_kw_per_s": RAMP_KW_PER_S},
        meter=METER_AT,
        dispatch=DispatchSettings(strategy="losses"),
    )
    units = tuple(replace(each, building=BUILDINGS[each.id]) for each in made.units)
    return replace(made, units=units)


@dataclass
class Span:
    """One stretch of looks in which something was not as it should be."""

    what: str
    begun_s: float
    for_s: float = 0.0
    most_kw: float = 0.0


@dataclass
class Watch:
    """What the devices give, look by look."""

    rig: SiteRig
    looks: int = 0
    busy: int = 0
    wrong_kw: float = 0.0  # the most that a known load was wrong by
    known: int = 0  # looks at which it was known
    is_known: bool = False
    rested_s: float = 0.0  # since when the units rest and the load stays
    gave_kw: dict[str, float] = field(default_factory=dict)
    deaf_until_s: dict[str, float] = field(default_factory=dict)
    open: dict[str, Span] = field(default_factory=dict)
    spans: list[Span] = field(default_factory=list)
    wrongs_kw: deque[float] = field(default_factory=lambda: deque([0.0], round(MOVES_S / LOOK_S)))

    def look(self) -> None:
        """Each limit at its place, and nobody against the rest."""
        gives = {name: self.rig.gives_kw(name) for name in NAMES}
        self.looks += 1
        self.busy += any(abs(kw) > STILL_KW for kw in gives.values())
        if any(abs(kw - self.gave_kw.get(name, 0.0)) > REST_KW for name, kw in gives.items()):
            self.rested_s = self.rig.now_s
        self.gave_kw = gives
        for building, (out_kw, in_kw) in FEEDERS_KW.items():
            sum_kw = sum(kw for name, kw in gives.items() if BUILDINGS[name] == building)
            self._note(building, max(sum_kw - out_kw, -in_kw - sum_kw))
        load_kw = self.rig.plant.site_meter().load_kw
        through_kw = sum(gives.values()) - load_kw
        over_kw = max(through_kw - SITE_KW[0], -SITE_KW[1] - through_kw)
        self._note("site", over_kw - self._wrong_kw(load_kw))
        asked = self.rig.house.tick.memory.pins_kw.keys() | self._deaf()
        free = [kw for name, kw in gives.items() if name not in asked]
        self._note("against", min(max(free, default=0.0), -min(free, default=0.0)) - STILL_KW)

    def _wrong_kw(self, load_kw: float) -> float:
        """How wrong the house was about the other load of late, at most."""
        seen_kw = self.rig.house.bus.snapshot().fresh(SITE, Point.LOAD_KW)
        self.wrongs_kw.append(abs(seen_kw - load_kw) if seen_kw is not None else 0.0)
        if self._deaf():
            self.load_changes()
        self.is_known = self.is_known or self.rig.now_s - self.rested_s >= RESTED_S
        if self.is_known:
            self.known += 1
            self.wrong_kw = max(self.wrong_kw, self.wrongs_kw[-1])
        return max(self.wrongs_kw)

    def load_changes(self) -> None:
        """It is not known from now on, until the units have rested."""
        self.is_known, self.rested_s = False, self.rig.now_s

    def _deaf(self) -> set[str]:
        return {name for name, until_s in self.deaf_until_s.items() if until_s > self.rig.now_s}

    def _note(self, what: str, over_kw: float) -> None:
        if over_kw <= ROUND_KW:
            if what in self.open:
                self.spans.append(self.open.pop(what))
            return
        now_s = self.rig.now_s
        span = self.open.setdefault(what, Span(what, now_s))
        span.for_s, span.most_kw = now_s - span.begun_s + LOOK_S, max(span.most_kw, over_kw)


def act(watch: Watch, dice: random.Random) -> None:
    """One thing happens."""
    rig, unit = watch.rig, dice.choice(NAMES)
    match dice.choice(ACTS):
        case "plan":
            strategy = dice.choice([None, *STRATEGIES])
            rig.plan(dice.uniform(-450.0, 450.0), strategy=strategy, for_s=dice.uniform(3.0, 30.0))
        case "agc":
            rig.plan(dice.uniform(-450.0, 450.0), priority=Priority.ORDER, source="agc", for_s=20.0)
        case "delta":
            rig.plan(dice.uniform(-60.0, 60.0), adds=True, source="sras", for_s=8.0)
        case "pin":
            droop = dice.random() < 0.5
            rig.plan(dice.uniform(-100.0, 100.0), unit, for_s=6.0, droop=droop)
        case "hz":
            rig.step(dice.uniform(49.4, 50.6))
        case "calm":
            rig.step(50.0)
        case "load":
            rig.plant.inject("site_load", load_kw=dice.uniform(0.0, 60.0))
            watch.load_changes()
        case "mend":
            rig.reset("site")
        case "fault":
            name, how = dice.choice(FAULTS)
            for_s = None if name in ONCE else dice.uniform(0.5, 8.0)
            rig.plant.inject(name, unit, for_s=for_s, **how)
            if name in DEAF:
                until_s = rig.now_s + (for_s or 0.0) + HEARD_S
                watch.deaf_until_s[unit] = max(watch.deaf_until_s.get(unit, 0.0), until_s)
        case "pmu":
            rig.plant.inject(dice.choice(PMU_FAULTS), for_s=dice.uniform(0.3, 5.0))
        case "disable":
            rig.house.gate.disable(UnitId(unit), "tester")
        case _:
            for name in NAMES:
                rig.house.gate.enable(UnitId(name), "tester")


async def day(seed: int, for_s: float) -> Watch:
    """So long on one site, which shares by the strategy `losses` unless a plan says otherwise."""
    dice = random.Random(seed)
    async with SiteRig(settings_of_site(), seed=seed) as rig:
        watch = Watch(rig)
        next_s = end_s = rig.now_s
        end_s += for_s
        while rig.now_s < end_s:
            if rig.now_s >= next_s:
                act(watch, dice)
                next_s = rig.now_s + dice.uniform(0.2, 2.0 * ACT_EVERY_S)
            await rig.run(LOOK_S)
            watch.look()
        watch.spans += watch.open.values()
    return watch


@pytest.mark.parametrize("seed", SEEDS)
@virtual
async def test_every_limit_holds_at_the_devices(seed: int) -> None:
    watch = await day(seed, DAY_S)
    assert watch.looks >= DAY_S / LOOK_S - 1
    assert watch.busy > watch.looks / 2, "a day on which little was asked proves little"
    long = [each for each in watch.spans if each.for_s > MOVES_S]
    assert not long, long
    assert watch.known > watch.looks / 10, "a load that is rarely known proves little"
    assert watch.wrong_kw <= LOAD_KW
