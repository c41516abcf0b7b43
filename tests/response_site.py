"""A site in a random program of frequency, and what its devices gave, judged by the owed power that
this file reckons itself from the settings.

    case = draw a Case                                # fleet, droop, promise, program
    trace = run_virtual(played(case))                 # what the devices gave, every 50 ms
    assert not judged(case, trace).faults

What is owed at an instant is a range: at the edges of the deadband and of the step the hysteresis
leaves both answers open. What was given must lie in the range of the last second, which is the
whole promise at once: begun, whole within one second, exact when the frequency stands, gone again
within a second.
"""

import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tests.site_rig import SiteRig, site_settings
from vppd.core.settings import ConnectionSettings, DroopSettings, Settings
from vppd.core.settings_response import FfrSettings, HeadroomSettings

LOOK_S = 0.05
WHOLE_S = 1.0  # from the frequency to the whole answer
BEGUN_S = 0.5
TOLERANCE = 0.05
SEEN_HZ = 0.0007  # a frame's noise and the resolution of its number
RESOLUTION_KW = 0.1  # of one unit's setpoint, and as much again before it is written anew
SETTLE_S = 14.0  # the base's own ramp, and what was cut of it
EASY = {"ramp_max_kw_per_s": 60.0, "runaway_rate_max_c_per_min": 1000.0}


@dataclass(frozen=True)
class One:
    """A unit: how strong, for how many hours, how full."""

    rated_kw: float
    hours: float
    soc_pct: float


@dataclass(frozen=True)
class Part:
    """A part of the program: to a frequency at once or along a line, then noise around it."""

    hz: float
    for_s: float
    ramp: bool = False
    noise_hz: float = 0.0


@dataclass(frozen=True)
class Case:
    """One run."""

    fleet: tuple[One, ...]
    droop: DroopSettings
    headroom: HeadroomSettings
    ffr: FfrSettings
    base: float  # of the sum of the ratings
    program: tuple[Part, ...]
    connection: float = 1.0  # of the sum of the ratings, either way
    seed: int = 1

    @property
    def rated_kw(self) -> float:
        return sum(one.rated_kw for one in self.fleet)

    @property
    def loose_kw(self) -> float:
        """What the resolution of all setpoints leaves open."""
        return 2.0 * RESOLUTION_KW * len(self.fleet)

    def settings(self) -> Settings:
        made = site_settings(
            "ABCD"[: len(self.fleet)],
            droop=self.droop,
            safety=EASY,
            headroom=self.headroom,
            ffr=self.ffr,
            connection=ConnectionSettings(
                export_max_kw=self.connection * self.rated_kw,
                import_max_kw=self.connection * self.rated_kw,
            ),
        )
        units = tuple(
            replace(
                unit,
                rated_power_kw=one.rated_kw,
                rated_apparent_kva=1.1 * one.rated_kw,
                energy_kwh=one.rated_kw * one.hours,
                modules_parallel=math.ceil(0.25 * one.rated_kw),
            )
            for unit, one in zip(made.units, self.fleet, strict=True)
        )
        return replace(made, units=units)

    def frequencies(self) -> list[float]:
        """The frequency at every look."""
        dice, at_hz, made = random.Random(self.seed), 50.0, []
        for part in self.program:
            count = round(part.for_s / LOOK_S)
            for step in range(1, count + 1):
                hz = at_hz + (part.hz - at_hz) * step / count if part.ramp else part.hz
                made.append(hz + dice.uniform(-part.noise_hz, part.noise_hz))
            at_hz = part.hz
        return made


@dataclass(frozen=True)
class Seen:
    """One look: the frequency since the last, and what stands at its end."""

    hz: float
    given_kw: float  # at the devices
    base_kw: float
    ffr_kw: float
    up_kw: float  # promised, none: nothing is
    down_kw: float


class FleetRig(SiteRig):
    """Its batteries are as full as they shall be before the house is there."""

    def __init__(self, case: Case) -> None:
        super().__init__(case.settings())
        self._case = case

    async def start(self, trips: object = (), *, ready: bool = True) -> None:
        for name, one in zip(self.names, self._case.fleet, strict=True):
            self.plant.unit(name).battery.soc_pct = one.soc_pct
        await super().start((), ready=ready)

    def look(self, hz: float) -> Seen:
        decision = self.house.decision
        assert decision is not None
        promise = decision.promise
        return Seen(
            hz,
            sum(self.gives_kw(name) for name in self.names),
            decision.base_kw,
            decision.ffr_kw,
            promise.up_kw if promise is not None else 0.0,
            promise.down_kw if promise is not None else 0.0,
        )


async def played(case: Case) -> list[Seen]:
    """Play the program; the looks of all of it."""
    async with FleetRig(case) as rig:
        if case.base:
            rig.plan(case.base * case.rated_kw, for_s=1e6)
        await rig.run(SETTLE_S)
        begun_s, made = rig.now_s, [rig.look(50.0)]
        for number, hz in enumerate(case.frequencies(), start=1):
            rig.step(hz)
            await rig.clock.sleep_until(begun_s + number * LOOK_S)
            made.append(rig.look(hz))
    return made


async def just_promised(case: Case, side: int) -> Case:
    """The case with one step of 5 minutes to what the site promises, as it says before."""
    (seen,) = await played(replace(case, program=()))
    promise_kw = seen.up_kw if side > 0 else seen.down_kw
    low, high = (45.0, 50.0) if side > 0 else (50.0, 55.0)
    for _ in range(40):  # the curve has no steps but its edge, so halving finds its place
        hz = (low + high) / 2.0
        inside = abs(on_side(hz, side, case, stepped=False)) <= 0.985 * promise_kw
        low, high = (low, hz) if inside == (side > 0) else (hz, high)
    hz = high if side > 0 else low
    return replace(case, program=(Part(hz, case.headroom.sustain_s),))


# ---- what is owed, reckoned anew ----------------------------------------------------------------


@dataclass(frozen=True)
class Span:
    """The least and the most."""

    low_kw: float
    high_kw: float


def on_side(hz: float, side: int, case: Case, *, stepped: bool) -> float:
    """The curve of one side, by its definition."""
    droop = case.droop
    most_kw = droop.max_power_kw or case.rated_kw
    share = droop.droop_pct
    if side < 0:
        most_kw, share = droop.over_max_power_kw or most_kw, droop.over_droop_pct or share
    edge_hz = droop.deadband_low_hz if side > 0 else droop.deadband_high_hz
    from_hz = 50.0 if droop.reference == "nominal" else edge_hz
    power_kw = most_kw * max(side * (from_hz - hz), 0.0) / (50.0 * share / 100.0)
    if stepped:
        power_kw = max(power_kw, droop.step_power_kw or 0.0)
    return side * min(power_kw, most_kw)


def owed(hz: float, case: Case) -> Span:
    """Everything that may be owed at this frequency, whatever was before."""
    droop, answers = case.droop, []
    inside_hz = droop.reentry_hysteresis_hz if droop.reference == "nominal" else 0.0
    idle = True
    for side, edge_hz in ((1, droop.deadband_low_hz), (-1, droop.deadband_high_hz)):
        beyond_hz = side * (edge_hz - hz)
        if beyond_hz < -inside_hz - SEEN_HZ:
            continue
        idle = idle and beyond_hz < SEEN_HZ
        for at_hz in (hz - SEEN_HZ, hz + SEEN_HZ):
            answers.append(on_side(at_hz, side, case, stepped=False))
            if droop.step_deviation_hz is not None:
                deviation_hz = side * (50.0 - at_hz)
                if deviation_hz > droop.step_deviation_hz - droop.reentry_hysteresis_hz:
                    answers.append(on_side(at_hz, side, case, stepped=True))
                if deviation_hz > droop.step_deviation_hz + SEEN_HZ:
                    answers.remove(on_side(at_hz, side, case, stepped=False))
    if idle:
        answers.append(0.0)
    return Span(min(answers), max(answers))


def with_block(span: Span, ffr_kw: float, ffr: FfrSettings) -> Span:
    """And the block of fast response beside it."""
    if ffr_kw == 0.0:
        return span
    if ffr.with_droop == "sum":
        return Span(span.low_kw + ffr_kw, span.high_kw + ffr_kw)
    better = max if ffr_kw > 0.0 else min
    return Span(better(span.low_kw, ffr_kw), better(span.high_kw, ffr_kw))


@dataclass
class Verdict:
    """What came of a run."""

    faults: list[str] = field(default_factory=list)
    looks: int = 0  # of them under a promise
    worst: float = 0.0  # error at steady state, of what is owed, resolution taken off
    begun_s: list[float] = field(default_factory=list)
    whole_s: list[float] = field(default_factory=list)
    sustained_s: float = 0.0


def damping_kw(case: Case, recent: Sequence[float]) -> float:
    """No more than this is added or taken by ROCOF."""
    moves = [abs(b - a) for a, b in itertools.pairwise(recent)]
    per_s = max(moves, default=0.0) / (2 * LOOK_S) + 2.0 * SEEN_HZ / 0.1
    span = sum(sorted(moves)[-4:]) / 0.1
    most_kw = max(case.droop.max_power_kw or case.rated_kw, case.droop.over_max_power_kw or 0.0)
    return case.droop.rocof_gain_pu_per_hz_per_s * most_kw * max(per_s, span)


def judged(case: Case, seen: Sequence[Seen]) -> Verdict:
    """Every look of a run against what was owed in the last second."""
    made = Verdict()
    spans = [with_block(owed(each.hz, case), each.ffr_kw, case.ffr) for each in seen]
    held_s = WHOLE_S + case.droop.reversal_hold_s
    side, began, promise_kw = 0, 0, 0.0
    for at, each in enumerate(seen):
        now = spans[at]
        wanted = 1 if now.high_kw > 0.0 else -1 if now.low_kw < 0.0 else 0
        if wanted not in (side, 0) or (wanted == 0 and _quiet(spans, at)):
            if wanted:
                began, before = at, seen[max(at - 1, 0)]
                promise_kw = before.up_kw if wanted > 0 else before.down_kw
            side = wanted
        if at < WHOLE_S / LOOK_S:
            continue
        back = round((held_s if _turned(spans, at, held_s) else WHOLE_S) / LOOK_S)
        window = spans[max(at - back, 0) : at + 1]
        low_kw = min(span.low_kw for span in window)
        high_kw = max(span.high_kw for span in window)
        extra_kw = damping_kw(case, [one.hz for one in seen[max(at - 60, 0) : at + 1]])
        bases = [one.base_kw for one in seen[max(at - 12, 0) : at + 1]]
        answer_kw = each.given_kw - each.base_kw
        slack_kw = case.loose_kw + max(bases) - min(bases)
        most_kw = max(abs(low_kw), abs(high_kw))
        for_s = (at - began) * LOOK_S
        due = side == 0 or (most_kw <= promise_kw + 1e-6 and for_s < case.headroom.sustain_s)
        due = due and not _handed_back(case, for_s)
        if not due:
            low_kw, high_kw = min(low_kw, 0.0), max(high_kw, 0.0)
        made.looks += due and side != 0
        off_kw = max(low_kw - answer_kw, answer_kw - high_kw, 0.0) - slack_kw
        recent = spans[max(at - round(2.5 * WHOLE_S / LOOK_S), 0) : at + 1]
        step_kw = max(max(abs(span.low_kw), abs(span.high_kw)) for span in recent)
        steady = extra_kw < 0.01 * most_kw and high_kw - low_kw < 0.02 * most_kw
        if due and steady and most_kw > 0.0:
            made.worst = max(made.worst, off_kw / most_kw)
        if due and most_kw > 0.0 and off_kw <= TOLERANCE * most_kw:
            made.sustained_s = max(made.sustained_s, for_s)
        if off_kw > TOLERANCE * step_kw + extra_kw:
            text = f"{at * LOOK_S:.2f} s: gave {answer_kw:.2f} beside {each.base_kw:.2f} kW, owed "
            text += f"{low_kw:.2f} to {high_kw:.2f} promised {promise_kw:.2f} for {for_s:.1f} s"
            made.faults.append(text)
    _starts(case, seen, spans, made)
    return made


def _starts(case: Case, seen: Sequence[Seen], spans: Sequence[Span], made: Verdict) -> None:
    """How soon each step out of the quiet was begun and whole."""
    at = 1
    for part in case.program:
        count = round(part.for_s / LOOK_S)
        span = spans[min(at + 1, len(spans) - 1)]
        target_kw = span.high_kw if span.high_kw > 0.0 else span.low_kw
        before = seen[at - 1]
        promised_kw = before.up_kw if target_kw > 0.0 else before.down_kw
        quiet = at > 40 and all(s.low_kw == s.high_kw == 0.0 for s in spans[at - 40 : at])
        quiet = quiet or at == 1
        step = not part.ramp and part.noise_hz == 0.0 and part.for_s >= 2.0
        sure = span.low_kw * span.high_kw > 0.0
        if step and quiet and sure and case.loose_kw * 2 < abs(target_kw) <= promised_kw:
            part_of = [one.given_kw - one.base_kw for one in seen[at : at + count]]
            sign = math.copysign(1.0, target_kw)
            begun_kw = case.loose_kw + 0.02 * abs(target_kw)
            whole_kw = (1.0 - TOLERANCE) * abs(target_kw) - case.loose_kw
            begun = [i for i, kw in enumerate(part_of) if sign * kw > begun_kw]
            whole = [i for i, kw in enumerate(part_of) if sign * kw >= whole_kw]
            begun_s = (begun[0] + 1) * LOOK_S if begun else math.inf
            whole_s = (whole[0] + 1) * LOOK_S if whole else math.inf
            made.begun_s.append(begun_s)
            made.whole_s.append(whole_s)
            if begun_s > BEGUN_S or whole_s > WHOLE_S:
                text = f"{at * LOOK_S:.2f} s: a step to {part.hz:g} Hz ({target_kw:.1f} kW of "
                made.faults.append(
                    text + f"{promised_kw:.1f}): begun {begun_s:.2f}, whole {whole_s:.2f} s"
                )
        at += count


def _quiet(spans: Sequence[Span], at: int) -> bool:
    """Surely inside the deadband for a moment, so that the response is over."""
    back = spans[max(at - 2, 0) : at + 1]
    return all(span.low_kw == span.high_kw == 0.0 for span in back)


def _turned(spans: Sequence[Span], at: int, within_s: float) -> bool:
    """Whether the other side may have been answered a moment ago."""
    back = spans[max(at - round(2 * within_s / LOOK_S), 0) : at + 1]
    return min(each.low_kw for each in back) < 0.0 < max(each.high_kw for each in back)


def _handed_back(case: Case, for_s: float) -> bool:
    """Whether the sustain time may be over."""
    return case.droop.sustain_s is not None and for_s >= case.droop.sustain_s
