"""Every limit of the tree at the devices themselves: a whole site on virtual time, and what the
plant's own units give, looked at every 100 ms through minutes of plans, droop and faults.

What may be over a limit, and for how long, is said here and nowhere assumed away:

- a unit follows what it is told by its inverter's ramp and lag: while it moves (MOVES_S at most) a
  branch may be over its limit, and a unit against another;
- the connection is over by no more than the other load moved within SEEN_S (a poll of the meter, a
  tick, what both take to be answered, the lag of a unit): a step is seen no sooner, and a ramp is
  followed so far behind. It is so whatever the units do and whoever is silent; nothing is forgiven
  for a load that is believed wrongly, for a reading beyond the limit needs no estimate;
- while the meter is silent the load is the one that it showed last, within BLIND_KW (what units
  that come to rest still moved then), for BELIEVED_S; after that the worst is assumed, or no other
  load where it is not required. One that stands still is found out STILL_S after the units moved;
- the believed load itself is late: what changed while units move is known once they rested for
  RESTED_S; from then on it is wrong by no more than LOAD_KW, however they move, while every unit
  hears and the load stays. Nothing rests on that but how much is given;
- a unit that cannot be told keeps what it was told last and may stand against the rest until its
  silence is over; limits hold meanwhile, its branch counts it with what it may be giving.
"""

import math
import random
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest

from tests.site_rig import METER_AT, POLL_S, TICK_S, SiteRig, site_settings
from tests.test_tree import COUNTRY, FEEDERS_KW
from tests.virtual_time import virtual
from vppd.campus.dispatch import STRATEGIES
from vppd.core.envelope import slew
from vppd.core.model import METER, SITE, Point, Priority, UnitId
from vppd.core.records import SetpointRow, SiteRow
from vppd.core.settings import ConnectionSettings, DispatchSettings, MeterSettings, Settings
from vppd.field.meter import LAG_S as METER_LAG_S
from vppd.field.meter import STILL_S
from vppd.sim.inverter import FULL_POWER_S, LAG_S

SEEDS, DAY_S = (1,), 120.0  # of one run of the suite
LOOK_S, ACT_EVERY_S = 0.1, 1.2
NAMES = ("A", "B", "C", "D", "E", "F")
BUILDINGS = {name: ("NORTH", "SOUTH")[at // 3] for at, name in enumerate(NAMES)}
SITE_KW = (160.0, 190.0)  # out, in: less than the feeders together
STILL_KW = 1.0
ROUND_KW = 0.3  # a setpoint register counts in tenths
MOVES_S = 2.0 * FULL_POWER_S + 3.0 * LAG_S  # from full power to full power the other way
OVER_KW = ROUND_KW  # at the connection
ANSWER_S = 0.1  # of a poll, and of a write
SEEN_S = POLL_S + TICK_S + ANSWER_S + 3.0 * LAG_S  # from a move of the load until units answer it
BLIND_KW = 1.0
BELIEVED_S = 2.5  # a reading of the meter
STUCK_S = METER_LAG_S + STILL_S + BELIEVED_S  # from when the units moved under a stuck meter
HEARD_S = 3.5  # from the end of a silence until the unit is asked again
RAMP_KW_PER_S = 60.0
LOAD_KW = 0.1 * len(NAMES)  # registers of all units count in tenths
RESTED_S = 2.6  # three polls of the meter, one of a unit, and half a second for what shows late
KEPT_S = 30.0
KEPT_KW = 2.0  # given up on average while the connection binds
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
    *("plan", "plan", "plan", "plan", "agc", "delta", "pin", "hz", "hz", "hz", "calm", "mend"),
    *("load", "load", "load_ramp", "load_ramp", "meter_silence", "meter_stuck"),
    *("fault", "fault", "fault", "fault", "pmu", "disable", "enable"),
)
MOVING = ("plan", "plan", "delta", "hz", "hz", "hz", "calm")  # and nothing fails
OF_LOAD = frozenset({"load", "load_ramp", "meter_silence", "meter_stuck"})
LOADS_KW = (-50.0, 60.0)  # less than 0: another source
LOAD_RAMPS_KW_PER_S = (3.0, 40.0)
PMU_FAULTS = ("pmu_loss", "pmu_frozen", "pmu_garbage", "pmu_jump", "pmu_spikes", "pmu_delay")


def settings_of_site(
    meter: MeterSettings | None = METER_AT, site_kw: tuple[float, float] = SITE_KW
) -> Settings:
    """Six units in two buildings, each behind a feeder, with a meter at the connection."""
    made = site_settings(
        NAMES,
        country=COUNTRY,
        connection=ConnectionSettings(export_max_kw=site_kw[0], import_max_kw=site_kw[1]),
        safety={"ramp_max_kw_per_s": RAMP_KW_PER_S},
        meter=meter,
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
class Others:
    """The other load and sources behind the meter: steps and ramps."""

    rig: SiteRig
    kw: float = 0.0
    to_kw: float = 0.0
    kw_per_s: float = math.inf

    def go(self, to_kw: float, kw_per_s: float = math.inf) -> None:
        """From now on, so fast."""
        self.to_kw, self.kw_per_s = to_kw, kw_per_s
        self.move(0.0 if math.isfinite(kw_per_s) else LOOK_S)

    def move(self, for_s: float) -> bool:
        """Let so much time pass; whether it moved."""
        if self.kw == self.to_kw:
            return False
        self.kw = slew(self.kw, self.to_kw, self.kw_per_s * for_s)
        self.rig.plant.inject(
            "site_load", load_kw=max(self.kw, 0.0), generation_kw=max(-self.kw, 0.0)
        )
        return True


@dataclass
class Watch:
    """What the devices give, look by look."""

    rig: SiteRig
    site_kw: tuple[float, float] = SITE_KW  # out, in
    required: bool = True  # while the meter is silent the worst is assumed
    stuck_s: float = 0.0  # until when the meter stands still
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
    loads_kw: deque[tuple[float, float]] = field(default_factory=deque)  # when, what it was
    blind_s: tuple[float, float] = (0.0, 0.0)  # since and until when the meter was not read
    kept_kws: float = 0.0  # given up at the connection though it had room
    bound: int = 0  # looks at which it bound

    def __post_init__(self) -> None:
        self.others = Others(self.rig)

    def look(self) -> None:
        """Each limit at its place, and nobody against the rest."""
        if self.others.move(LOOK_S):
            self.load_changes()
        gives = {name: self.rig.gives_kw(name) for name in NAMES}
        self.looks += 1
        self.busy += any(abs(kw) > STILL_KW for kw in gives.values())
        if any(abs(kw - self.gave_kw.get(name, 0.0)) > REST_KW for name, kw in gives.items()):
            self.rested_s = self.rig.now_s
        self.gave_kw = gives
        for building, (out_kw, in_kw) in FEEDERS_KW.items():
            sum_kw = sum(kw for name, kw in gives.items() if BUILDINGS[name] == building)
            self._note(building, max(sum_kw - out_kw, -in_kw - sum_kw))
        self._connection(sum(gives.values()))
        asked = self.rig.house.tick.memory.pins_kw.keys() | self._deaf()
        free = [kw for name, kw in gives.items() if name not in asked]
        self._note("against", min(max(free, default=0.0), -min(free, default=0.0)) - STILL_KW)

    def _connection(self, units_kw: float) -> None:
        """It gets what the units give beside the load, as it is or was since it could be seen."""
        now_s, load_kw, (out_kw, in_kw) = self.rig.now_s, self.others.kw, self.site_kw
        blind = self._blind()
        since_s = min(self.blind_s[0], now_s - SEEN_S) if blind else now_s - SEEN_S
        self.loads_kw.append((now_s, load_kw))
        while self.loads_kw[0][0] < now_s - KEPT_S:
            self.loads_kw.popleft()
        loads_kw = [kw for at_s, kw in self.loads_kw if at_s >= since_s - LOOK_S]
        over_kw = max(units_kw - max(loads_kw) - out_kw, min(loads_kw) - units_kw - in_kw)
        if now_s > self.stuck_s and (self.required or not blind):
            still_kw = BLIND_KW if blind else 0.0
            self._note("site", over_kw - OVER_KW - still_kw + ROUND_KW)
        self._know(load_kw)
        self._give_up(load_kw)

    def _blind(self) -> bool:
        """Whether the meter was not read of late, or is read again for no longer than SEEN_S."""
        now_s = self.rig.now_s
        read = self.rig.house.bus.snapshot().readings.get((METER, Point.POWER_KW))
        if read is not None and now_s - read.at_s > SEEN_S:
            since_s = self.blind_s[0] if now_s <= self.blind_s[1] else read.at_s
            self.blind_s = since_s, now_s + SEEN_S
        return now_s <= self.blind_s[1]

    def _know(self, load_kw: float) -> None:
        """How wrong the house is about the other load, once it can know."""
        seen_kw = self.rig.house.bus.snapshot().fresh(SITE, Point.LOAD_KW)
        if self._deaf() or max(self.blind_s[1], self.stuck_s) > self.rig.now_s:
            self.load_changes()
        self.is_known = self.is_known or self.rig.now_s - self.rested_s >= RESTED_S
        if self.is_known and seen_kw is not None:
            self.known += 1
            self.wrong_kw = max(self.wrong_kw, abs(seen_kw - load_kw))

    def _give_up(self, load_kw: float) -> None:
        """The room that the connection has where it binds: what a careful bound costs."""
        *_, root = self.rig.house.gate.tree(self.rig.house.bus.snapshot())
        told_kw = sum(each.cleared.power_kw for each in self.rig.house.gate.decisions.values())
        out_kw, in_kw = self.site_kw
        if told_kw > root.limit.high_kw - STILL_KW:
            self.bound += 1
            self.kept_kws += LOOK_S * max(out_kw + load_kw - told_kw, 0.0)
        if told_kw < root.limit.low_kw + STILL_KW:
            self.bound += 1
            self.kept_kws += LOOK_S * max(told_kw - load_kw + in_kw, 0.0)

    def fails(self, what: str, for_s: float) -> None:
        """The meter shows nothing of what happens for so long; a stuck one is believed."""
        self.rig.plant.inject(what, for_s=for_s)
        if what == "meter_stuck":
            self.stuck_s = self.rig.now_s + for_s + SEEN_S

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


def act(watch: Watch, dice: random.Random, what: str) -> None:
    """One thing happens."""
    rig, unit = watch.rig, dice.choice(NAMES)
    match what:
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
            watch.others.go(dice.uniform(*LOADS_KW))
            watch.load_changes()
        case "load_ramp":
            watch.others.go(dice.uniform(*LOADS_KW), dice.uniform(*LOAD_RAMPS_KW_PER_S))
        case "meter_silence" | "meter_stuck":
            watch.fails(what, dice.uniform(0.5, 10.0))
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


async def day(
    seed: int,
    for_s: float,
    acts: Sequence[str] = ACTS,
    meter: MeterSettings | None = METER_AT,
    site_kw: tuple[float, float] = SITE_KW,
) -> Watch:
    """So long on one site, which shares by the strategy `losses` unless a plan says otherwise."""
    dice = random.Random(seed)
    async with SiteRig(settings_of_site(meter, site_kw), seed=seed) as rig:
        watch = Watch(rig, site_kw, required=meter is not None and meter.required)
        next_s = end_s = rig.now_s
        end_s += for_s
        while rig.now_s < end_s:
            if rig.now_s >= next_s:
                act(watch, dice, dice.choice(acts))
                next_s = rig.now_s + dice.uniform(0.2, 2.0 * ACT_EVERY_S)
            await rig.run(LOOK_S)
            watch.look()
        watch.spans += watch.open.values()
    return watch


def too_long(watch: Watch) -> list[Span]:
    """What lasted longer than units move."""
    return [each for each in watch.spans if each.for_s > MOVES_S]


@pytest.mark.parametrize("seed", SEEDS)
@virtual
async def test_every_limit_holds_at_the_devices(seed: int) -> None:
    watch = await day(seed, DAY_S)
    assert watch.looks >= DAY_S / LOOK_S - 1
    assert watch.busy > watch.looks / 2, "a day on which little was asked proves little"
    assert not too_long(watch), too_long(watch)
    assert watch.known > watch.looks / 20, "a load that is rarely known proves little"
    assert watch.wrong_kw <= LOAD_KW


@virtual
async def test_the_connection_holds_while_load_and_fleet_move_at_once() -> None:
    """Restless grid, plans, and a load that steps and ramps meanwhile."""
    watch = await day(5, DAY_S / 2.0, (*MOVING, "load", "load", "load_ramp"))
    assert watch.bound > watch.looks / 6, "a connection that never binds proves little"
    assert not too_long(watch), too_long(watch)


@virtual
async def test_care_at_the_connection_costs_little_while_the_load_stays() -> None:
    watch = await day(7, DAY_S / 3.0, MOVING)
    assert watch.bound > watch.looks / 6
    assert watch.kept_kws <= KEPT_KW * watch.bound * LOOK_S
    assert not too_long(watch), too_long(watch)


@virtual
async def test_a_connection_with_room_cuts_nothing_whatever_load_and_fleet_do() -> None:
    rated_kw = 100.0 * len(NAMES)
    far_kw = rated_kw - LOADS_KW[0] + 10.0, rated_kw + LOADS_KW[1] + 10.0
    watch = await day(3, DAY_S / 6.0, (*MOVING, "load", "load_ramp"), site_kw=far_kw)
    assert watch.bound == 0
    assert watch.busy > watch.looks / 2
    root = f"site: {far_kw[0]:g}"
    assert not any(
        root in row.clamps_json
        for row in watch.rig.rows()
        if isinstance(row, SetpointRow | SiteRow)
    )


@pytest.mark.parametrize("meter", [None, replace(METER_AT, required=False)])
@virtual
async def test_limits_hold_without_a_meter_and_with_one_that_is_not_required(
    meter: MeterSettings | None,
) -> None:
    acts = [each for each in ACTS if meter is not None or each not in OF_LOAD]
    watch = await day(2, DAY_S / 4.0, acts, meter)
    assert watch.busy > watch.looks / 3
    assert not too_long(watch), too_long(watch)


@virtual
async def test_a_meter_that_stands_still_stops_the_site_soon_after_the_units_moved() -> None:
    async with SiteRig(settings_of_site()) as rig:
        rig.plan(40.0)
        await rig.run(3.0)
        rig.plant.inject("meter_stuck")
        rig.plan(-300.0)
        await rig.until(lambda: abs(rig.sum_kw()) <= ROUND_KW, within_s=STUCK_S + 2.0)
        await rig.always(lambda: abs(rig.sum_kw()) <= ROUND_KW, for_s=10.0)
