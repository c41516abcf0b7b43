"""The gate: the only code that may command a device.

It holds every Actuator, makes every Cleared, and runs every interlock on every unit at every tick.
Everything that narrows a setpoint is a Limit, and every Limit contains 0: whatever is asked, the
gate only moves it towards zero. No boolean opens it. A rule that raises trips the unit. A unit
nobody asks for is asked 0. When nobody asks at all, it asks 0 for everybody.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from vppd.core.alarms import Code
from vppd.core.asset import Asset
from vppd.core.envelope import circle, clamp, intersect
from vppd.core.model import (
    METER,
    SITE,
    Clamp,
    Cleared,
    DeviceNotice,
    DeviceReport,
    Limit,
    Point,
    Request,
    Snapshot,
    UnitId,
    UnitState,
)
from vppd.core.ports import Actuator, Clock
from vppd.field.audit import Audit, told
from vppd.field.bounds import shutter, spared
from vppd.field.closing import Closing
from vppd.field.feeders import Feeder, Feeders, fit_active, fit_reactive, quiet
from vppd.field.in_turn import in_turn
from vppd.field.interlocks import RULES
from vppd.field.latches import HELD, Latch, Latches
from vppd.field.memory import GateMemory, remembered, remind
from vppd.field.ramps import ramped_kw, ramps, reach_kw
from vppd.field.rule import Look, Rule, Verdict, applying
from vppd.field.standing import Standing, parts_of
from vppd.field.succession import learn, succeed, ward_of
from vppd.field.ward import Want, Ward, ghost_kw, holds_kw, limits_of, state_of, want
from vppd.spine.recorder import UNRECORDED, Unrecorded
from vppd.spine.tape import Act

LEASE_S = 1.0  # a device may hold a setpoint so long without hearing from the tick
DEADMAN_S = 0.5
START_GRACE_S = 3.0


@dataclass(frozen=True, slots=True)
class UnitDecision:
    """What the gate made of one unit in one tick."""

    request: Request
    cleared: Cleared
    room: Limit
    state: UnitState
    verdicts: tuple[Verdict, ...]
    limits: tuple[Limit, ...]  # all that held at that instant, ramps aside


class Gate:
    """One gate for the whole site."""

    def __init__(
        self,
        assets: Sequence[Asset],
        actuators: Mapping[UnitId, Actuator],
        inputs: Mapping[UnitId, str],
        feeders: Feeders,
        latches: Latches,
        audit: Audit,
        clock: Clock,
        rules: Sequence[Rule] = RULES,
        tape: Unrecorded = UNRECORDED,
    ) -> None:
        """`inputs` maps each hardware interlock to its scope; `tape` is told of every call."""
        self._clock, self._latches, self._audit, self._feeders = clock, latches, audit, feeders
        self._tape, self._rules, self._inputs = tape, rules, dict(inputs)
        self._closings: dict[UnitId, Closing] = {}
        self._judged: Snapshot | None = None
        self._stopping = False
        self._dead = False
        self._started_s = self._asked_s = clock.now_s()
        self._silent: dict[str, list[Limit]] = {}
        self._units = {asset.id: self._ward(asset, actuators.get(asset.id)) for asset in assets}
        for latch in latches.all():
            if latch.code not in HELD:
                audit.resume(latch.code, UnitId(latch.scope), latch.text, latch.since)
        self.decisions: Mapping[UnitId, UnitDecision] = {}

    # ---- what the operator may do -------------------------------------------------------------

    def trip(self, scope: str, code: Code, text: str, by: str) -> None:
        """Latch a shutdown of a scope; an operator's emergency stop is one."""
        self._note("trip", scope, code, text, by)
        self._trip(scope, code, text, by)

    def _trip(self, scope: str, code: Code, text: str, by: str) -> None:
        if self._latches.trip(scope, code, text, self._clock.utc(), by):
            self._judged = None  # whatever was judged at this instant is judged again
            self._audit.alarm(code, UnitId(scope), True, text)

    def reset(self, scope: str, by: str) -> tuple[Latch, ...]:
        """Undo the trips of a scope. A cause that is still there trips again: at the next
        tick, or for a fault that the device itself latches, when it was told to reset it too."""
        now_s = self._note("reset", scope, by)
        gone = self._latches.reset(scope, self._clock.utc(), by)
        for latch in gone:
            self._audit.alarm(latch.code, UnitId(scope), False, f"reset by {by}")
        for unit in self._units.values():
            if scope in (SITE, unit.asset.building, unit.asset.id):
                unit.standing.pardon()
                unit.pardoned_s = now_s
                if unit.actuator is not None:
                    unit.actuator.reset_alarms()
        return gone

    def disable(self, unit: UnitId, by: str) -> None:
        """Hold one unit at 0 until enabled, over restarts."""
        self._note("disable", unit, by)
        self._judged = None
        self._latches.disable(unit, self._clock.utc(), by)

    def release(self, unit: UnitId, by: str) -> None:
        """Bring one unit to 0, then give it back to its own control and write to it no more until
        enabled, over restarts. Ask `releasable` first. An emergency stop or any other trip takes
        it back and stops it."""
        self._note("release", unit, by)
        self._judged = None
        self._latches.release(unit, self._clock.utc(), by)

    def releasable(self, unit: UnitId) -> bool:
        """Whether its device can be given back."""
        actuator = self._units[unit].actuator
        return actuator is not None and actuator.releases

    def enable(self, unit: UnitId, by: str) -> None:
        """Let a disabled unit work again, or take a released one back."""
        self._note("enable", unit, by)
        self._judged = None
        self._latches.enable(unit, self._clock.utc(), by)

    # ---- what others may know -----------------------------------------------------------------

    @property
    def shut_by(self) -> str | None:
        """Why the whole site gives nothing, or None when the gate is open."""
        if self._stopping:
            return Code.STOPPING
        if self._dead:
            return Code.DEAD_MAN
        for latch in self._latches.all():
            if latch.scope == SITE:
                return f"{latch.code}: {latch.text}"
        for limit in self._silent.get(SITE, ()):
            return f"{limit.why}: {limit.detail}"
        if self._units and all(unit.missing for unit in self._units.values()):
            return Code.STARTING
        return None

    @property
    def latches(self) -> Latches:
        """Everything latched."""
        return self._latches

    def standing(self, unit: UnitId) -> Standing:
        """What the writer of a unit reported."""
        return self._units[unit].standing

    def report(self, report: DeviceReport) -> None:
        """Where every writer reports what became of its setpoints."""
        unit = self._units.get(report.unit)
        if unit is not None:
            self._tape.report(report)
            unit.standing.report(report)
            if isinstance(report, DeviceNotice) and report.code is Code.RELEASED and report.active:
                self._latches.give(report.unit, self._clock.utc(), given=True)

    def proven(self, now_s: float) -> bool:
        """Whether every unit had an outcome by its deadline: what the watchdog is fed from."""
        return all(
            unit.standing.proven(now_s)
            for unit in self._units.values()
            if unit.actuator is not None
        )

    def ghosts(self, now: Snapshot) -> Mapping[UnitId, tuple[float, float]]:
        """The least and the most that units may be giving that do not do as they are told, kW."""
        spans = {id_: ghost_kw(unit, now, self._latches) for id_, unit in self._units.items()}
        return {id_: span for id_, span in spans.items() if span is not None}

    def tree(self, now: Snapshot) -> Sequence[Feeder]:
        """The limits on several units at this instant, leaves first: what a share keeps to."""
        return tuple(self._feeders.limits(now, self.ghosts(now)))

    # ---- the tick -----------------------------------------------------------------------------

    def begin(self) -> None:
        """The tick and the writers start now: from here on silence means something."""
        self._started_s = self._asked_s = self._clock.now_s()
        for unit in self._units.values():
            unit.standing.started_s = self._started_s

    def room(self, now: Snapshot) -> Mapping[UnitId, Limit]:
        """What each unit may do at this instant; judged once a snapshot."""
        if now is not self._judged:
            self._tape.look(now)
        return self._room(now)

    def _room(self, now: Snapshot) -> Mapping[UnitId, Limit]:
        if now is not self._judged:
            self._judged = now
            self._look_at_inputs(now)
            for unit in self._units.values():
                self._judge(unit, now)
        return {id_: unit.room for id_, unit in self._units.items()}

    def reaches(self, now: Snapshot) -> Mapping[UnitId, tuple[float, float]]:
        """How far each unit's ramp can take its base now, kW in and out, from what was
        acknowledged."""
        self.room(now)
        return {id_: reach_kw(now, unit) for id_, unit in self._units.items()}

    def submit(self, now: Snapshot, requests: Iterable[Request]) -> Sequence[Cleared]:
        """Decide on the whole site at one instant, hand the answers to the writers, audit them."""
        self._dead = False
        self._asked_s = now.now_s
        return self._decide(now, {request.unit: request for request in requests})

    def watch(self, snapshot: Callable[[], Snapshot]) -> None:
        """The dead man: called apart from the tick; when that has gone quiet, asks 0 for all."""
        self._dead = self._clock.now_s() - self._asked_s > DEADMAN_S
        self._audit.alarm(Code.DEAD_MAN, SITE, self._dead, "")
        if self._dead:
            now = snapshot()
            self._note("watch", now=now)
            self._decide(now, {})

    def stop(self, now: Snapshot) -> Mapping[UnitId, Actuator]:
        """0 kW and 0 kvar for all from now on; gives the actuators to wait for."""
        self._note("stop", now=now)
        self._stopping = True
        self._judged = None
        self._decide(now, {})
        return {
            id_: unit.actuator
            for id_, unit in self._units.items()
            if unit.actuator is not None and not unit.standing.released
        }

    # ---- another configuration ----------------------------------------------------------------

    def close_in(self, closings: Sequence[Closing]) -> None:
        """From now on these, and no others from before, narrow their units beside all that holds;
        until another configuration is adopted."""
        self._note("close_in", *closings)
        self._judged = None
        self._closings = {each.unit: each for each in closings}

    def adopt(
        self,
        assets: Sequence[Asset],
        actuators: Mapping[UnitId, Actuator],
        inputs: Mapping[UnitId, str],
        feeders: Feeders,
    ) -> None:
        """Judge another site from now on. A unit that keeps its actuator goes on where it is, with
        all that is remembered of it; another begins as at a start, and may do nothing before all
        that its rules need was read. One that is gone is commanded no more: bring it to 0 first."""
        self._judged, self._closings = None, {}
        self._feeders, self._inputs, before = feeders, dict(inputs), self._units
        self._units = {asset.id: self._ward(asset, actuators.get(asset.id)) for asset in assets}
        for id_, old in before.items():
            new = self._units.get(id_)
            if new is not None and new.actuator is old.actuator:
                succeed(new, old, self._rules)
            else:
                self._audit.violations(id_, ())
        self.decisions = {id_: each for id_, each in self.decisions.items() if id_ in self._units}

    # ---- what a recording needs ---------------------------------------------------------------

    def memory(self) -> GateMemory:
        """All it remembers from call to call."""
        units = {id_: remembered(unit) for id_, unit in self._units.items()}
        own = self._started_s, self._asked_s, self._stopping, self._dead
        held = self._latches.all(), self._latches.all_given()
        return GateMemory(*own, *held, units, tuple(self._closings.values()))

    def remember(self, memory: GateMemory) -> None:
        """Go on where another gate of the same units was."""
        self._started_s, self._asked_s = memory.started_s, memory.asked_s
        self._stopping, self._dead, self._judged = memory.stopping, memory.dead, None
        self._latches.remember(memory.latches, memory.given)
        self._closings = {each.unit: each for each in memory.closings}
        for id_, known in memory.units.items():
            if (unit := self._units.get(id_)) is not None:
                remind(unit, known)
                unit.rules = applying(self._rules, unit.asset)

    def _note(self, act: str, *words: str | Closing, now: Snapshot | None = None) -> float:
        """Tell the recorder what is done; when that was."""
        now_s = self._clock.now_s()
        self._tape.act(Act(now_s, self._clock.utc(), act, words, now))
        return now_s

    # ---- inside -------------------------------------------------------------------------------

    def _ward(self, asset: Asset, actuator: Actuator | None) -> Ward:
        if not asset.reverts:
            self._audit.alarm(Code.NO_REVERT, asset.id, True, "")
        now_s = self._clock.now_s()
        return ward_of(asset, actuator, self._rules, self._audit.alarm, self._trip_unit, now_s)

    def _trip_unit(self, unit: UnitId, code: Code, text: str) -> None:
        self._trip(unit, code, text, "vppd")

    def _look_at_inputs(self, now: Snapshot) -> None:
        self._silent = {}
        for id_, scope in self._inputs.items():
            name = id_.removeprefix("input:")
            value = now.fresh(id_, Point.HEALTHY)
            begun = (
                now.now_s - self._started_s > START_GRACE_S or (id_, Point.HEALTHY) in now.readings
            )
            silent = value is None and begun
            self._audit.alarm(Code.INTERLOCK_SILENT, id_, silent, f"{name} does not answer")
            if value is None:
                limit = Limit(0.0, 0.0, Code.INTERLOCK_SILENT, f"{name} does not answer")
                self._silent.setdefault(scope, []).append(limit)
            elif value != 1.0:
                self._trip(scope, Code.INTERLOCK_INPUT, f"{name} is not healthy", "vppd")

    def _judge(self, unit: Ward, now: Snapshot) -> None:
        if unit.asset.may_show:
            learn(unit, now, self._rules)
        commanded, remembered = not self._left_alone(unit), unit.notes
        look = Look(now, unit.asset, unit.told_kw, commanded)
        verdicts: list[Verdict] = []
        for rule in unit.rules:
            try:
                verdict, notes = rule.judge(look, remembered.get(rule.code, ()))
            except Exception as error:  # noqa: BLE001  a limiter that raises must trip, not be skipped
                text = f"rule {rule.code} failed: {error!r}"
                self._trip_unit(unit.asset.id, Code.RULE_ERROR, text)
                continue
            remembered[rule.code] = notes
            if verdict is not None:
                verdicts.append(verdict)
                if verdict.trips and not unit.mending(verdict, now):
                    self._trip_unit(unit.asset.id, verdict.rule, verdict.text)
        unit.verdicts = tuple(verdicts)
        self._see(unit, now)
        limits = limits_of(unit, self._latches, self._silent, stopping=self._stopping)
        closing = self._closings.get(unit.asset.id)
        limits = (*limits, closing.limit(now.now_s)) if closing is not None else tuple(limits)
        if limits != unit.limits:
            unit.limits, unit.room = limits, intersect(limits)
        self._audit.violations(unit.asset.id, told(verdicts, starting=bool(unit.missing)))

    def _see(self, unit: Ward, now: Snapshot) -> None:
        if unit.missing:
            unit.missing = {p for p in unit.missing if now.fresh(unit.asset.id, p) is None}
        wanted = want(unit, self._latches)
        if unit.actuator is not None and wanted is not unit.want:
            self._turn(unit, unit.actuator, wanted, now)
        unit.standing.resumed(now)

    def _turn(self, unit: Ward, actuator: Actuator, wanted: Want, now: Snapshot) -> None:
        """Have the device on, off or given back. What was given back before this start is so
        still, and is not written to."""
        id_, first = unit.asset.id, unit.want is None
        unit.want = wanted
        if wanted is not Want.RELEASED:
            self._latches.give(id_, now.utc, given=False)
            if unit.standing.released:
                unit.standing.take_back(now.now_s)
                self._audit.alarm(Code.RELEASED, id_, False, "taken back")
            actuator.enable(on=wanted is Want.ON)
        elif first and self._latches.given(id_):
            unit.standing.give()
            self._audit.alarm(Code.RELEASED, id_, True, "given back to its own control")
        else:
            actuator.release()

    def _decide(self, now: Snapshot, requests: Mapping[UnitId, Request]) -> Sequence[Cleared]:
        self._room(now)
        asked_kw = [each.base_kw + each.frequency_kw for each in requests.values()]
        site_kw = sum(each_kw for each_kw in asked_kw if math.isfinite(each_kw))
        drafts = [
            self._draft(now, unit, requests.get(id_), site_kw) for id_, unit in self._units.items()
        ]
        fitted = self._fit(now, drafts)
        decisions: dict[UnitId, UnitDecision] = {}
        broken: list[Exception] = []
        for unit, request, cleared in fitted:
            unit.told_kw = cleared.power_kw
            base_kw = ramped_kw(now, unit, request)
            try:
                if unit.actuator is not None and not self._left_alone(unit):
                    unit.standing.offered(parts_of(request, base_kw, cleared))
                    unit.actuator.offer(cleared)
            except Exception as error:  # noqa: BLE001  raised below, when all others are told
                broken.append(error)
            state = state_of(unit, cleared, self._latches)
            decisions[unit.asset.id] = UnitDecision(
                request, cleared, unit.room, state, unit.verdicts, self._held(unit)
            )
        self.decisions = decisions
        if broken:
            raise ExceptionGroup("actuators failed", broken)
        return [each.cleared for each in decisions.values()]

    def _left_alone(self, unit: Ward) -> bool:
        """It was given back; or a rival won this unit: it is not competed with, but for a stop, a
        release, or any other trip."""
        if unit.standing.released or unit.asset.read_only:
            return True
        if self._stopping or not unit.standing.yields or unit.want is Want.RELEASED:
            return False
        return all(latch.code is Code.RIVAL for latch in self._latches.trips(unit.asset))

    def _draft(
        self, now: Snapshot, unit: Ward, request: Request | None, site_kw: float
    ) -> tuple[Ward, Request, Cleared]:
        request = request or Request(unit.asset.id, 0.0, 0.0)
        asked_kw = request.base_kw + request.frequency_kw
        held = self._held(unit)
        limits = [*held, *ramps(now, unit, request)]
        power_kw, clamps = clamp(asked_kw, limits)
        clamps = clamps or tuple(spared(asked_kw, asked_kw or site_kw, held))
        clamps += tuple(Clamp(one.why, power_kw, power_kw, one.detail) for one in request.held_by)
        tightest = min(limits, key=lambda limit: limit.apparent_kva)
        shut = self._dead or (unit.room.low_kw == 0.0 and unit.room.high_kw == 0.0)
        asked_kvar = 0.0 if shut else request.reactive_kvar
        kept_kw, kvar = circle(
            power_kw, asked_kvar, tightest.apparent_kva, reactive_first=unit.asset.reactive_first
        )
        if kept_kw != power_kw:
            cut = Clamp(Code.APPARENT_POWER, power_kw, kept_kw, tightest.detail)
            power_kw, clamps = kept_kw, (*clamps, cut)
        if kvar != request.reactive_kvar:
            detail = f"reactive {request.reactive_kvar:g} to {kvar:.1f} kvar"
            why = shutter(limits) if shut else Code.APPARENT_POWER
            clamps = (*clamps, Clamp(why, power_kw, power_kw, detail))
        return (
            unit,
            request,
            Cleared(
                unit.asset.id,
                power_kw,
                kvar,
                asked_kw,
                request.reactive_kvar,
                clamps,
                now.now_s,
                now.now_s + LEASE_S,
            ),
        )

    def _held(self, unit: Ward) -> tuple[Limit, ...]:
        """What limits a unit, and the dead man, who does not wait for the next judgement."""
        return (*unit.limits, Limit(0.0, 0.0, Code.DEAD_MAN)) if self._dead else unit.limits

    def _fit(
        self, now: Snapshot, drafts: Sequence[tuple[Ward, Request, Cleared]]
    ) -> Sequence[tuple[Ward, Request, Cleared]]:
        heard = self._feeders.meter is None or (METER, Point.POWER_KW) in now.readings
        begun = heard or now.now_s - self._started_s > START_GRACE_S
        tell = self._audit.alarm if begun else quiet
        ghosts_kw = self.ghosts(now)
        feeders = list(self._feeders.limits(now, ghosts_kw, tell))
        powers_kw = {unit.asset.id: each.power_kw for unit, _, each in drafts}
        kvars = {unit.asset.id: each.reactive_kvar for unit, _, each in drafts}
        holding = {id_: holds_kw(unit, ghosts_kw.get(id_)) for id_, unit in self._units.items()}
        cuts = fit_active(feeders, powers_kw)
        if waits := in_turn(feeders, powers_kw, holding):
            cuts += waits + fit_active(feeders, powers_kw)
        cuts += fit_reactive(feeders, powers_kw, kvars)
        if not cuts:
            return drafts
        named: dict[UnitId, tuple[Clamp, ...]] = {}
        for id_, cut in cuts:
            named[id_] = (*named.get(id_, ()), cut)
        return [
            (
                unit,
                request,
                replace(
                    each,
                    power_kw=powers_kw[unit.asset.id],
                    reactive_kvar=kvars[unit.asset.id],
                    clamps=(*each.clamps, *named.get(unit.asset.id, ())),
                ),
            )
            for unit, request, each in drafts
        ]
