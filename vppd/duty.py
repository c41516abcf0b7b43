"""One tick as a sum: what is owed, who does how much. Pure; `tick.py` gives it time and the gate.

plans -> base point (off the headroom, ramped) --+
                                                 +--> shares over the units' room -> requests
frequency -> droop and fast response ------------+
voltage and frequency -> outside the site's windows: nothing at all
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from types import MappingProxyType

from vppd.campus.dispatch import STRATEGIES, Strategy
from vppd.campus.losses import LossModel, with_auxiliaries
from vppd.campus.member import NO_LOSSES, UNBOUND, Branch, Member, bounds_of, member_at
from vppd.campus.pace import begun_kw, pinned, within
from vppd.campus.plans import Base, base_of, pins_of
from vppd.campus.reserve import able_kw, pulls, within_reserve
from vppd.campus.share import Ask, Shares, rest_kw, share, with_reactive
from vppd.campus.tree import through_kw
from vppd.core.alarms import Code
from vppd.core.asset import Asset
from vppd.core.decision import RIDING, Promise, Riding
from vppd.core.envelope import slew
from vppd.core.measured import soc_pct
from vppd.core.model import SITE, Clamp, Limit, Plan, Point, Quality, Request, Snapshot, UnitId
from vppd.core.settings import BandSettings, DroopSettings
from vppd.core.settings_campus import CampusRulesSettings
from vppd.core.settings_response import FfrSettings, HeadroomSettings, RideThroughSettings
from vppd.core.settings_sources import SourceSettings
from vppd.grid.droop import DroopAnswer, DroopMemory, answer, silenced
from vppd.grid.droop_curve import max_of, ramp_of
from vppd.grid.droop_fitness import Fitness, fitness
from vppd.grid.droop_switch import Party, Switch
from vppd.grid.frequency import Frequency, Heard, Trust, eased, select, withdrawn_kw
from vppd.grid.headroom import (
    Reach,
    Spare,
    Stand,
    kept,
    promised,
    reach,
    standing,
    times,
    wanted,
    weights,
)
from vppd.grid.ride_through import RideMemory, ride, voltage_of

TICK_MAX_S = 0.2  # no ramp counts more elapsed time than this in one tick
SHORT_KW = 0.05


@dataclass(frozen=True, slots=True)
class Duty:
    """The settings of a tick."""

    assets: tuple[Asset, ...]
    pmus: tuple[UnitId, ...]
    bands: BandSettings
    droop: DroopSettings
    connection: Limit
    strategy: str
    ffr: FfrSettings = field(default_factory=FfrSettings)
    headroom: HeadroomSettings = field(default_factory=HeadroomSettings)
    ride_through: RideThroughSettings = field(default_factory=RideThroughSettings)
    sources: SourceSettings = field(default_factory=SourceSettings)
    rules: CampusRulesSettings = field(default_factory=CampusRulesSettings)
    losses: LossModel = NO_LOSSES
    switch: Switch | None = None  # who switched droop since the configuration was read
    # what follows from the settings, so that no tick adds it up again
    rated_kw: float = field(init=False, compare=False)
    ramps_kw_per_s: Mapping[UnitId, float] = field(init=False, compare=False, repr=False)
    apparent_kva: Mapping[UnitId, float] = field(init=False, compare=False, repr=False)
    trust: Trust = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        ids = tuple(asset.id for asset in self.assets)
        ramps_kw_per_s = {each.id: each.safety.ramp_max_kw_per_s for each in self.assets}
        apparent_kva = {asset.id: asset.apparent_kva for asset in self.assets}
        made = Trust(self.pmus, ids, self.bands, self.droop, self.sources)
        object.__setattr__(self, "rated_kw", sum(asset.rated_kw for asset in self.assets))
        object.__setattr__(self, "ramps_kw_per_s", ramps_kw_per_s)
        object.__setattr__(self, "apparent_kva", apparent_kva)
        object.__setattr__(self, "trust", made)

    def switched(self, enabled: bool, by: Party) -> "Duty":
        """With one more word on whether droop answers; `droop.enabled` is what rules."""
        switch = (self.switch or Switch(self.droop.enabled)).said(enabled, by)
        return replace(self, droop=replace(self.droop, enabled=switch.enabled), switch=switch)

    @property
    def droop_max_kw(self) -> float:
        """P_max: as configured, else the sum of the ratings."""
        return self.droop.max_power_kw or self.rated_kw


@dataclass(frozen=True, slots=True)
class Memory:
    """What one tick hands to the next."""

    now_s: float = 0.0
    base_kw: float = 0.0
    pins_kw: Mapping[UnitId, float] = field(default_factory=dict)
    bases_kw: Mapping[UnitId, float] = field(default_factory=dict)  # base part of each unit
    droop: DroopMemory = field(default_factory=DroopMemory)
    ride: RideMemory = field(default_factory=RideMemory)
    heard: Heard = field(default_factory=Heard)
    stand: Stand = field(default_factory=Stand)
    droop_pins: frozenset[UnitId] = frozenset()  # pinned units that answer frequency all the same
    given_kw: float = 0.0  # of droop: what units were asked for


@dataclass(frozen=True, slots=True)
class Owed:
    """What is owed at this instant and how it is shared."""

    base: Base
    base_kw: float
    frequency: Frequency | None
    droop: DroopAnswer
    requests: tuple[Request, ...]
    clamps: tuple[Clamp, ...]
    promise: Promise | None = None
    riding: Riding = RIDING


def owe(
    now: Snapshot,
    plans: Sequence[Plan],
    rooms: Mapping[UnitId, Limit],
    duty: Duty,
    memory: Memory,
    reaches_kw: Mapping[UnitId, tuple[float, float]] = MappingProxyType({}),
    branches: Sequence[Branch] = (),
) -> tuple[Owed, Memory]:
    """Base point plus droop, shared over the room each unit has now.

    `reaches_kw` is how far each unit's ramp can take its base now, in and out; a unit without one
    is not bounded by a ramp. `branches` are the limits of the tree now, leaves first.
    """
    dt_s = min(max(now.now_s - memory.now_s, 0.0), TICK_MAX_S)
    base, pins = base_of(plans, duty.rules.queue), pins_of(plans, duty.rules.queue)
    frequency, heard = select(now, duty.trust, memory.heard)
    believed, (frequency, riding, rode) = frequency, _ridden(now, duty, frequency, memory)
    if riding.dead and believed is not None:
        # what was measured on a dying bus is not what comes after it, which begins with easing
        heard = Heard(frequency_hz=duty.droop.nominal_hz)
    if riding.ceased:
        owed, after = _ceased(now, base, duty, frequency, riding, memory, rode)
        return owed, replace(after, heard=heard)
    target_kw = within(base.power_kw, duty.rated_kw)
    able = [id_ for id_, room in rooms.items() if room.low_kw < 0.0 or room.high_kw > 0.0]
    strategy = STRATEGIES.get(base.strategy or "", STRATEGIES[duty.strategy])
    members = _members(now, duty, rooms, reaches_kw, strategy)
    pins_kw = pinned(memory.bases_kw, memory.pins_kw, pins, duty.assets, dt_s, rooms, reaches_kw)
    on_pins = frozenset(id_ for id_, plan in pins.items() if plan.droop)
    on_pins |= memory.droop_pins & (pins_kw.keys() - pins.keys())  # while their pin ramps out
    spare = _spare(now, duty, rooms, pins_kw, on_pins, memory.droop, branches)
    lasts = now.now_s - memory.droop.began_s < duty.headroom.sustain_s
    stand = standing(spare, memory.stand, memory.droop.active, memory.droop.began_s, lasts=lasts)
    promised_kw = kept(
        target_kw, sum(pins_kw.values()), spare, memory.base_kw, memory.droop.active, stand
    )
    kept_kw = _reserved(promised_kw, duty, members, branches)
    from_kw = begun_kw(memory.base_kw, kept_kw, rooms, reaches_kw, branches)
    ramp_kw_per_s = sum([duty.ramps_kw_per_s[id_] for id_ in able or duty.ramps_kw_per_s])
    base_kw = slew(from_kw, kept_kw, ramp_kw_per_s * dt_s)
    fits = cache(lambda: {each.id: fitness(now, each, duty.droop) for each in duty.assets})
    droop = _answered(
        now, duty, frequency, riding, lambda: [fits()[id_] for id_ in able], base_kw, memory
    )
    ask = Ask(
        base_kw,
        pins_kw,
        droop.asked_kw,
        weights(fits(), spare, droop.asked_kw) if droop.asked_kw != 0.0 else {},
        on_pins,
        base.planned or base_kw != 0.0,
    )
    shares = share(ask, members, strategy, branches)
    given_kw = _returning(ask.droop_kw - shares.short_droop_kw, droop, duty, memory, dt_s)
    if given_kw is not None:
        shares = share(replace(ask, droop_kw=given_kw), members, strategy, branches)
    requests = with_reactive(
        shares.requests,
        base.reactive_kvar,
        {id_: pins[id_].reactive_kvar if id_ in pins else 0.0 for id_ in pins_kw},
        duty.apparent_kva,
    )
    clamps = [*droop.clamps, *_short(ask, shares, members)]
    if given_kw is not None:
        clamps.append(Clamp(Code.DROOP_RAMP, droop.asked_kw, given_kw, "units come back to it"))
    if target_kw != base.power_kw:
        clamps.append(Clamp(Code.ROOM, base.power_kw, target_kw, "the sum of the ratings"))
    if promised_kw != target_kw:
        clamps.append(Clamp(Code.HEADROOM, target_kw, promised_kw))
    if kept_kw != promised_kw:
        text = f"{duty.rules.reserve.margin_min_pct:g} % of what could be given is kept back"
        clamps.append(Clamp(Code.RESERVE, promised_kw, kept_kw, text))
    planned_kw = rest_kw(ask) + sum(pins_kw.values())
    bases_kw = {request.unit: request.base_kw for request in requests}
    promise = _promise(spare, bases_kw, pins_kw)
    owed = Owed(base, planned_kw, frequency, droop, requests, tuple(clamps), promise, riding)
    # with nobody to give it, a response does not use up its sustain time
    kept_droop = replace(droop.memory, arrived=droop.memory.arrived and bool(able))
    after = Memory(now.now_s, base_kw, pins_kw, bases_kw, kept_droop, rode, heard, stand)
    gave_kw = sum(request.frequency_kw for request in requests)
    return owed, replace(after, droop_pins=on_pins, given_kw=gave_kw)


def _answered(
    now: Snapshot,
    duty: Duty,
    frequency: Frequency | None,
    riding: Riding,
    fits: Callable[[], Sequence[Fitness]],
    base_kw: float,
    memory: Memory,
) -> DroopAnswer:
    """What frequency asks of the units beside this base; on a dead bus it goes to nothing."""
    most_kw, step_pct = duty.droop_max_kw, duty.sources.switch_step_pct
    if riding.dead:
        dt_s = min(max(now.now_s - memory.now_s, 0.0), TICK_MAX_S)
        by_ramp_kw = ramp_of(duty.droop, most_kw) * dt_s
        step_kw = min(withdrawn_kw(most_kw, step_pct, dt_s), by_ramp_kw)
        return silenced(
            None, duty.droop, most_kw, now.now_s, memory.droop, Code.DEAD_BUS, step_kw=step_kw
        )
    return answer(
        frequency,
        eased(duty.droop, frequency, most_kw, step_pct),
        most_kw,
        fits,
        _beside(duty, base_kw, now.fresh(SITE, Point.LOAD_KW) or 0.0),
        now.now_s,
        memory.droop,
        duty.ffr,
    )


def _returning(
    given_kw: float, droop: DroopAnswer, duty: Duty, memory: Memory, dt_s: float
) -> float | None:
    """Droop that nobody could give a moment ago comes by its ramp, however long it has been owed:
    how far it is now, None where no more is given than that."""
    moved_kw = abs(droop.asked_kw - memory.droop.asked_kw)
    step_kw = max(ramp_of(duty.droop, duty.droop_max_kw) * dt_s, moved_kw)
    before_kw = max(math.copysign(1.0, given_kw) * memory.given_kw, 0.0)
    if abs(given_kw) <= before_kw + step_kw + SHORT_KW:
        return None
    return math.copysign(before_kw + step_kw, given_kw)


def _promise(
    spare: Spare | None, bases_kw: Mapping[UnitId, float], pins_kw: Mapping[UnitId, float]
) -> Promise | None:
    """What can be promised beside the bases of the units that are not pinned."""
    if spare is None:
        return None
    return promised(spare, {id_: kw for id_, kw in bases_kw.items() if id_ not in pins_kw})


def _members(
    now: Snapshot,
    duty: Duty,
    rooms: Mapping[UnitId, Limit],
    reaches_kw: Mapping[UnitId, tuple[float, float]],
    strategy: Strategy,
) -> list[Member]:
    """Every unit as this strategy's share sees it; the buildings' own loads are what they measure
    now."""
    losses = with_auxiliaries(duty.losses, duty.rules.losses, now)
    socs_pct = [soc_pct(now, asset) for asset in duty.assets]
    pull_shares = [0.0] * len(duty.assets)
    if strategy is STRATEGIES["losses"]:
        socs = [(asset.energy_kwh, pct) for asset, pct in zip(duty.assets, socs_pct, strict=True)]
        pull_shares = pulls(socs, duty.rules.losses, duty.rules.imbalance)
    return [
        member_at(pct, asset, rooms[asset.id], reaches_kw.get(asset.id, UNBOUND), losses, pull)
        for pct, asset, pull in zip(socs_pct, duty.assets, pull_shares, strict=True)
    ]


def _reserved(
    base_kw: float, duty: Duty, members: Sequence[Member], branches: Sequence[Branch]
) -> float:
    """The base kept off the reserve margin, where the settings say so."""
    reserve = duty.rules.reserve
    if not reserve.bounds_base:
        return base_kw
    out_kw, in_kw = able_kw(1.0, members, branches), able_kw(-1.0, members, branches)
    return within_reserve(base_kw, out_kw, in_kw, reserve.margin_min_pct)


def _short(ask: Ask, shares: Shares, members: Sequence[Member]) -> list[Clamp]:
    """What could not be shared, and whether units, their ramps or the tree are too narrow."""
    room_kw = sum(each.room_kw(ask.base_kw) for each in members)
    short = Code.RAMP if room_kw >= abs(ask.base_kw) else Code.ROOM
    return [
        Clamp(Code.CONNECTION if shares.held else why, asked_kw, asked_kw - short_kw)
        for why, short_kw, asked_kw in (
            (Code.ROOM, shares.short_droop_kw, ask.droop_kw),
            (short, shares.short_base_kw, ask.base_kw),
        )
        if abs(short_kw) > SHORT_KW
    ]


def _ridden(
    now: Snapshot, duty: Duty, frequency: Frequency | None, memory: Memory
) -> tuple[Frequency | None, Riding, RideMemory]:
    """The believed frequency, and what voltage and frequency let the site do. The frequency of a
    dead bus is none."""
    seen_hz = frequency.frequency_hz if frequency is not None else None
    voltage = voltage_of(now, duty.pmus, duty.ride_through)
    riding, rode = ride(voltage, seen_hz, duty.ride_through, now.now_s, memory.ride)
    if frequency is None and any(_dead_there(now, source) for source in duty.pmus):
        riding = replace(riding, dead=True)
    return None if riding.dead else frequency, riding, rode


def _dead_there(now: Snapshot, source: UnitId) -> bool:
    """Whether a source that is heard says that it measures a dead bus."""
    synchro = now.synchros.get(source)
    return (
        synchro is not None
        and synchro.quality is Quality.DEAD_BUS
        and 0.0 <= synchro.age_s(now.now_s) <= synchro.max_age_s
    )


def _ceased(
    now: Snapshot,
    base: Base,
    duty: Duty,
    frequency: Frequency | None,
    riding: Riding,
    memory: Memory,
    rode: RideMemory,
) -> tuple[Owed, Memory]:
    """0 from every unit at once; what is owed meanwhile stays the curve. Back by the ramps."""
    why = Code.DEAD_BUS if riding.dead else Code.RIDE_THROUGH
    droop = silenced(
        frequency, duty.droop, duty.droop_max_kw, now.now_s, memory.droop, why, riding.ceased
    )
    requests = tuple(Request(asset.id, 0.0, 0.0) for asset in duty.assets)
    clamps = (*droop.clamps, Clamp(why, base.power_kw, 0.0, riding.ceased))
    owed = Owed(base, 0.0, frequency, droop, requests, clamps, None, riding)
    return owed, Memory(now.now_s, droop=droop.memory, ride=rode)


def _spare(
    now: Snapshot,
    duty: Duty,
    rooms: Mapping[UnitId, Limit],
    pins_kw: Mapping[UnitId, float],
    on_pins: frozenset[UnitId],
    droop: DroopMemory,
    branches: Sequence[Branch],
) -> Spare | None:
    """What units can hold for the response beside their pins; None where nothing is promised."""
    if not duty.headroom.enabled:
        return None
    last = times(duty.headroom, droop.active, droop.began_s, now.now_s)
    units: dict[UnitId, Reach] = {}
    for asset in duty.assets:
        if asset.id not in pins_kw or asset.id in on_pins:
            one = reach(now, asset, rooms[asset.id], duty.droop, duty.headroom, last)
            units[asset.id] = one.beside(pins_kw.get(asset.id, 0.0))
    beside = _beside(duty, sum(pins_kw.values()), now.fresh(SITE, Point.LOAD_KW) or 0.0)
    up_kw = duty.droop_max_kw
    wish = wanted(duty.headroom, up_kw, max_of(-1, duty.droop, up_kw))
    able = Reach(
        through_kw(
            {id_: one.out_kw for id_, one in units.items()}, bounds_of(branches, 1, pins_kw)
        ),
        through_kw(
            {id_: one.in_kw for id_, one in units.items()}, bounds_of(branches, -1, pins_kw)
        ),
    )
    return Spare(units, able.within(beside), wish)


def _beside(duty: Duty, base_kw: float, load_kw: float) -> Limit:
    """What the connection leaves for droop beside the base and the other measured load."""
    if not duty.droop.load_adaptive:
        return Limit(-float("inf"), float("inf"), Code.DROOP_LOAD)
    left_kw = load_kw - base_kw
    low_kw, high_kw = duty.connection.low_kw + left_kw, duty.connection.high_kw + left_kw
    return Limit(min(low_kw, 0.0), max(high_kw, 0.0), Code.DROOP_LOAD)
