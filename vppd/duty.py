"""One tick as a sum: what is owed, who does how much. Pure; `tick.py` gives it time and the gate.

plans -> base point (off the headroom, ramped) --+
                                                 +--> shares over the units' room -> requests
frequency -> droop and fast response ------------+
voltage and frequency -> outside the site's windows: nothing at all
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from vppd.campus.dispatch import STRATEGIES, Strategy, member
from vppd.campus.losses import LossModel, with_auxiliaries
from vppd.campus.member import NO_LOSSES, Branch, Member, bounds_of
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
from vppd.grid.droop_curve import max_of
from vppd.grid.droop_fitness import fitness
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
UNBOUND = (math.inf, math.inf)


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

    def switched(self, enabled: bool, by: Party) -> "Duty":
        """With one more word on whether droop answers; `droop.enabled` is what rules."""
        switch = (self.switch or Switch(self.droop.enabled)).said(enabled, by)
        return replace(self, droop=replace(self.droop, enabled=switch.enabled), switch=switch)

    @property
    def droop_max_kw(self) -> float:
        """P_max: as configured, else the sum of the ratings."""
        return self.droop.max_power_kw or sum(asset.rated_kw for asset in self.assets)


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
    trust = Trust(
        duty.pmus, tuple(asset.id for asset in duty.assets), duty.bands, duty.droop, duty.sources
    )
    frequency, heard = select(now, trust, memory.heard)
    believed, (frequency, riding, rode) = frequency, _ridden(now, duty, frequency, memory)
    if riding.dead and believed is not None:
        # what was measured on a dying bus is not what comes after it, which begins with easing
        heard = Heard(frequency_hz=duty.droop.nominal_hz)
    if riding.ceased:
        owed, after = _ceased(now, base, duty, frequency, riding, memory, rode)
        return owed, replace(after, heard=heard)
    steps_kw = {asset.id: asset.safety.ramp_max_kw_per_s * dt_s for asset in duty.assets}
    target_kw = _within(base.power_kw, sum(asset.rated_kw for asset in duty.assets))
    able = [id_ for id_, room in rooms.items() if room.low_kw < 0.0 or room.high_kw > 0.0]
    strategy = STRATEGIES.get(base.strategy or "", STRATEGIES[duty.strategy])
    members = _members(now, duty, rooms, reaches_kw, strategy)
    given = {id_: _given(room, reaches_kw.get(id_, UNBOUND)) for id_, room in rooms.items()}
    pins_kw = _pinned(memory, pins, duty.assets, steps_kw, given)
    on_pins = frozenset(id_ for id_, plan in pins.items() if plan.droop)
    spare = _spare(now, duty, rooms, pins_kw, on_pins, memory.droop, branches)
    lasts = now.now_s - memory.droop.began_s < duty.headroom.sustain_s
    stand = standing(spare, memory.stand, memory.droop.active, memory.droop.began_s, lasts=lasts)
    promised_kw = kept(
        target_kw, sum(pins_kw.values()), spare, memory.base_kw, memory.droop.active, stand
    )
    kept_kw = _reserved(promised_kw, duty, members, branches)
    from_kw = _unwound(memory.base_kw, kept_kw, _through(given, branches))
    base_kw = slew(from_kw, kept_kw, sum(steps_kw[id_] for id_ in able or steps_kw))
    fits = {asset.id: fitness(now, asset, duty.droop) for asset in duty.assets}
    if riding.dead:
        why, most_kw = Code.DEAD_BUS, duty.droop_max_kw
        step_kw = withdrawn_kw(most_kw, duty.sources.switch_step_pct, dt_s)
        droop = silenced(None, duty.droop, most_kw, now.now_s, memory.droop, why, step_kw=step_kw)
    else:
        droop = answer(
            frequency,
            eased(duty.droop, frequency, duty.droop_max_kw, duty.sources.switch_step_pct),
            duty.droop_max_kw,
            [fits[id_] for id_ in able],
            _beside(duty, base_kw, now.fresh(SITE, Point.LOAD_KW) or 0.0),
            now.now_s,
            memory.droop,
            duty.ffr,
        )
    ask = Ask(
        base_kw,
        pins_kw,
        droop.asked_kw,
        weights(fits, spare, droop.asked_kw),
        on_pins,
        base.planned or base_kw != 0.0,
    )
    shares = share(ask, members, strategy, branches)
    requests = with_reactive(
        shares.requests,
        base.reactive_kvar,
        {id_: pins[id_].reactive_kvar if id_ in pins else 0.0 for id_ in pins_kw},
        {asset.id: asset.apparent_kva for asset in duty.assets},
    )
    clamps = [*droop.clamps, *_short(ask, shares, members)]
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
    return owed, Memory(now.now_s, base_kw, pins_kw, bases_kw, kept_droop, rode, heard, stand)


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
    pull_shares = [0.0] * len(duty.assets)
    if strategy is STRATEGIES["losses"]:
        socs = [(asset.energy_kwh, soc_pct(now, asset)) for asset in duty.assets]
        pull_shares = pulls(socs, duty.rules.losses, duty.rules.imbalance)
    return [
        member(now, asset, rooms[asset.id], reaches_kw.get(asset.id, UNBOUND), losses, pull_share)
        for asset, pull_share in zip(duty.assets, pull_shares, strict=True)
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


def _within(power_kw: float, rated_kw: float) -> float:
    """No target is beyond the ratings: a ramp that ran ahead of them would be long in returning."""
    return min(max(power_kw, -rated_kw), rated_kw)


def _given(room: Limit, reach_kw: tuple[float, float]) -> tuple[float, float]:
    """The most that a unit can be giving now each way, kW: within its room and its ramp."""
    return max(room.low_kw, -reach_kw[0]), min(room.high_kw, reach_kw[1])


def _through(
    given: Mapping[UnitId, tuple[float, float]], branches: Sequence[Branch]
) -> tuple[float, float]:
    """The most that all units together can be giving now each way, kW: as far as the tree lets."""
    in_kw = through_kw({id_: -low for id_, (low, _) in given.items()}, bounds_of(branches, -1, {}))
    out_kw = through_kw({id_: high for id_, (_, high) in given.items()}, bounds_of(branches, 1, {}))
    return -in_kw, out_kw


def _unwound(from_kw: float, target_kw: float, given: tuple[float, float]) -> float:
    """Where a ramp starts that ran ahead of what could be given: on its way back it does not unwind
    what nobody gave, or a unit that is freed meanwhile would move the wrong way."""
    low_kw, high_kw = given
    if target_kw < from_kw:
        return min(from_kw, max(high_kw, target_kw))
    return max(from_kw, min(low_kw, target_kw))


def _pinned(
    memory: Memory,
    pins: Mapping[UnitId, Plan],
    assets: Sequence[Asset],
    steps_kw: Mapping[UnitId, float],
    given: Mapping[UnitId, tuple[float, float]],
) -> dict[UnitId, float]:
    """Each pin ramped from what its unit gave; one whose plan is gone ramps out and then joins the
    others again."""
    pinned: dict[UnitId, float] = {}
    for asset in assets:
        id_ = asset.id
        if id_ in pins or id_ in memory.pins_kw:
            target_kw = _within(pins[id_].power_kw, asset.rated_kw) if id_ in pins else 0.0
            from_kw = _unwound(memory.bases_kw.get(id_, 0.0), target_kw, given[id_])
            at_kw = slew(from_kw, target_kw, steps_kw[id_])
            if id_ in pins or at_kw != 0.0:
                pinned[id_] = at_kw
    return pinned


def _beside(duty: Duty, base_kw: float, load_kw: float) -> Limit:
    """What the connection leaves for droop beside the base and the other measured load."""
    if not duty.droop.load_adaptive:
        return Limit(-float("inf"), float("inf"), Code.DROOP_LOAD)
    left_kw = load_kw - base_kw
    low_kw, high_kw = duty.connection.low_kw + left_kw, duty.connection.high_kw + left_kw
    return Limit(min(low_kw, 0.0), max(high_kw, 0.0), Code.DROOP_LOAD)
