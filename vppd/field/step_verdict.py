"""The judgement of a bump test: each check with its numbers, and what probably is the cause.

A bump is asked each way. The first measurement is that of the device that takes the setpoints; the
others measure the same power at another place. Where they agree with each other but not with what
was asked, the setpoint is wrong; where one is alone, that one is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from vppd.field.step_response import (
    LAST,
    Response,
    Shape,
    Step,
    Trace,
    between,
    respond,
    spread,
    typical,
    value_at,
)

SHOWS_ELSEWHERE = 0.5  # of the step: so much at another unit, unasked, is that unit's answer
UNTOUCHED = 0.2  # of the step, kvar
KNOWN = frozenset(Shape) - {Shape.UNKNOWN}
DECISIVE = frozenset({Shape.RIGHT, Shape.REVERSED, Shape.SCALED})  # even of a broken-off step


class Verdict(StrEnum):
    """The outcome of one check, and of the test."""

    PASS = "pass"  # noqa: S105  a verdict, not a secret
    FAIL = "fail"
    NOT_MEASURABLE = "not measurable"


@dataclass(frozen=True, slots=True)
class Allowed:
    """What passes."""

    dead_s: float = 2.0
    settling_s: float = 10.0
    overshoot_pct: float = 20.0


@dataclass(frozen=True, slots=True)
class Measurement:
    """One way to see the unit's power, kW positive towards the grid, and what it saw.

    `independent`: made by another device than the one that takes the setpoints.
    """

    name: str
    text: str
    independent: bool
    resolution_kw: float
    tolerance_ratio: float
    trace: Trace


@dataclass(frozen=True, slots=True)
class Recording:
    """Everything a bump test saw. `elsewhere` is, of each other unit, its power less what it was
    told; `bound_by` the codes that cut the setpoint. The first measurement is the device's own."""

    steps: Sequence[Step]
    told: Trace
    measurements: Sequence[Measurement]
    read_back: Trace
    kvar: Trace
    soc: Trace
    elsewhere: Mapping[str, Trace]
    energy_kwh: float
    soc_resolution_pct: float
    bound_by: Sequence[str] = ()
    broken_off: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report."""

    what: str
    verdict: Verdict
    found: str
    wanted: str


@dataclass(frozen=True, slots=True)
class StepResult:
    """One step: what each measurement showed of it, and the checks."""

    step: Step
    responses: Mapping[str, Response]
    checks: Sequence[Check]


@dataclass(frozen=True, slots=True)
class Judgement:
    """The whole test."""

    verdict: Verdict
    results: Sequence[StepResult]
    causes: Sequence[str]


def judge(recording: Recording, allowed: Allowed) -> Judgement:
    """Every step judged, then the whole."""
    results = [_step(recording, step, allowed) for step in recording.steps]
    causes = probable_causes(recording, results)
    return Judgement(_overall(recording, results), results, causes)


def _overall(recording: Recording, results: Sequence[StepResult]) -> Verdict:
    """Fail beats all; without every bump right on the first and on one more it is not proven."""
    verdicts = {check.verdict for result in results for check in result.checks}
    if recording.broken_off or Verdict.FAIL in verdicts:
        return Verdict.FAIL
    bumps = [result for result in results if result.step.asked_kw]
    proven = {
        each.name
        for each in recording.measurements
        if len(bumps) > 1 and all(r.responses[each.name].shape is Shape.RIGHT for r in bumps)
    }
    first = recording.measurements[0].name
    return Verdict.PASS if first in proven and len(proven) > 1 else Verdict.NOT_MEASURABLE


def _step(recording: Recording, step: Step, allowed: Allowed) -> StepResult:
    responses = {
        each.name: respond(
            each.trace, recording.told, step, each.resolution_kw, each.tolerance_ratio
        )
        for each in recording.measurements
    }
    first, *others = recording.measurements
    checks: list[Check] = []
    if step.cut or abs(responses[first.name].expected_kw) > first.resolution_kw:
        checks += _follows(first, responses[first.name])
        checks += _times(responses[first.name], allowed)
        for other in others:
            checks += _follows(other, responses[other.name])
    if not step.cut:
        checks += [_read_back(recording, step), _reactive(recording, step)]
        checks += [_soc(recording, step)] if step.asked_kw else []
    if step.asked_kw:
        checks.append(_nowhere_else(recording, step))
    return StepResult(step, responses, checks)


# ---- the checks -----------------------------------------------------------------------------


def _follows(each: Measurement, seen: Response) -> list[Check]:
    """Sign and scale of one measurement."""
    wanted = f"{seen.expected_kw:+.2f} kW within {each.tolerance_ratio * 100.0:.0f} %"
    if not seen.known:
        return [Check(f"{each.name}: sign and scale", Verdict.NOT_MEASURABLE, seen.text, wanted)]
    moved_kw = (seen.final_kw or 0.0) - (seen.rest_kw or 0.0)
    found = f"{moved_kw:+.2f} kW" + (f" ({seen.text})" if seen.text else "")
    gain_ratio = seen.gain_ratio or 0.0
    sign = Verdict.FAIL if seen.shape is Shape.NOTHING or gain_ratio < 0.0 else Verdict.PASS
    right = seen.factor is not None and abs(seen.factor) == 1.0
    words = {Shape.NOTHING: "nothing to be seen", Shape.SLOW: f"{found}, still moving at the end"}
    return [
        Check(f"{each.name}: sign", sign, words.get(seen.shape, found), wanted),
        Check(
            f"{each.name}: scale",
            Verdict.PASS if right else Verdict.FAIL,
            _scale_words(seen),
            "times 1",
        ),
    ]


def _scale_words(seen: Response) -> str:
    if seen.factor is not None and abs(seen.factor) != 1.0:
        return f"times {abs(seen.gain_ratio or 0.0):.3g}: the factor {abs(seen.factor):g}"
    return f"times {abs(seen.gain_ratio or 0.0):.3f}"


def _times(seen: Response, allowed: Allowed) -> list[Check]:
    if seen.shape in {Shape.UNKNOWN, Shape.NOTHING} or seen.dead_s is None:
        return []
    period_s = seen.period_s or 0.0
    settling = Check(
        "settling time",
        Verdict.FAIL
        if seen.settling_s is None or seen.settling_s > allowed.settling_s + period_s
        else Verdict.PASS,
        "not settled" if seen.settling_s is None else f"{seen.settling_s:.2f} s",
        f"within {allowed.settling_s:g} s, to 2 % or one step of the reading",
    )
    overshoot_pct = seen.overshoot_pct or 0.0
    return [
        Check(
            "dead time",
            Verdict.PASS if seen.dead_s <= allowed.dead_s + period_s else Verdict.FAIL,
            f"{seen.dead_s:.2f} s",
            f"within {allowed.dead_s:g} s and one reading ({period_s:.2f} s)",
        ),
        settling,
        Check(
            "overshoot",
            Verdict.PASS if overshoot_pct <= allowed.overshoot_pct else Verdict.FAIL,
            f"{overshoot_pct:.1f} %",
            f"within {allowed.overshoot_pct:g} % of the step",
        ),
    ]


def _read_back(recording: Recording, step: Step) -> Check:
    told_kw = typical(between(recording.told, step.last_s, step.ended_s))
    seen_kw = typical(between(recording.read_back, step.last_s, step.ended_s))
    if told_kw is None or seen_kw is None:
        return Check("read-back", Verdict.NOT_MEASURABLE, "the device does not show it", "the same")
    resolution_kw = recording.measurements[0].resolution_kw
    verdict = Verdict.PASS if abs(seen_kw - told_kw) <= resolution_kw else Verdict.FAIL
    if abs(told_kw - step.asked_kw) > resolution_kw:
        bound = f" (cut by {', '.join(recording.bound_by)})" if recording.bound_by else ""
        return Check(
            "setpoint", Verdict.FAIL, f"{told_kw:+.2f} kW{bound}", f"{step.asked_kw:+g} kW"
        )
    return Check("read-back", verdict, f"{seen_kw:+.2f} kW", f"{told_kw:+.2f} kW")


def _reactive(recording: Recording, step: Step) -> Check:
    rest = between(recording.kvar, step.begun_s - step.rest_s * LAST, step.begun_s)
    last = between(recording.kvar, step.last_s, step.ended_s)
    before_kvar, after_kvar = typical(rest), typical(last)
    bump_kw = max(abs(each.asked_kw) for each in recording.steps)
    if before_kvar is None or after_kvar is None:
        return Check("reactive power", Verdict.NOT_MEASURABLE, "not measured", "unchanged")
    moved_kvar, allowed_kvar = after_kvar - before_kvar, UNTOUCHED * bump_kw + 3.0 * spread(rest)
    verdict = Verdict.PASS if abs(moved_kvar) <= allowed_kvar else Verdict.FAIL
    return Check(
        "reactive power", verdict, f"{moved_kvar:+.2f} kvar", f"within {allowed_kvar:.2f} kvar"
    )


def _soc(recording: Recording, step: Step) -> Check:
    """Whether charge moved the right way, where the energy suffices to see it."""
    held_s = step.ended_s - step.begun_s
    due_pct = -step.asked_kw * held_s / 3600.0 / recording.energy_kwh * 100.0
    before_pct = value_at(recording.soc, step.begun_s)
    after_pct = value_at(recording.soc, step.ended_s)
    wanted = f"{due_pct:+.3f} %"
    seen = before_pct is not None and after_pct is not None
    if not seen or abs(due_pct) < 2.0 * recording.soc_resolution_pct:
        text = f"steps of {recording.soc_resolution_pct:g} % are too coarse" if seen else "no SoC"
        return Check("state of charge", Verdict.NOT_MEASURABLE, text, wanted)
    moved_pct = (after_pct or 0.0) - (before_pct or 0.0)
    verdict = Verdict.PASS if moved_pct * due_pct > 0.0 else Verdict.FAIL
    return Check("state of charge", verdict, f"{moved_pct:+.3f} %", wanted)


def _nowhere_else(recording: Recording, step: Step) -> Check:
    found = moved_elsewhere(recording, step)
    if not recording.elsewhere:
        return Check("other units", Verdict.NOT_MEASURABLE, "there are none", "unmoved")
    words = ", ".join(f"{unit} {kw:+.1f} kW" for unit, kw in found.items()) or "unmoved"
    return Check("other units", Verdict.FAIL if found else Verdict.PASS, words, "unmoved")


def moved_elsewhere(recording: Recording, step: Step) -> dict[str, float]:
    """Units that moved by half the bump or more though nobody told them to, and by how many kW."""
    found: dict[str, float] = {}
    for unit, trace in recording.elsewhere.items():
        rest = between(trace, step.begun_s - step.rest_s / 2.0, step.begun_s)
        held = between(trace, step.begun_s if step.cut else step.last_s, step.ended_s)
        before_kw = typical(rest)
        if before_kw is None or not held:
            continue
        moves_kw = [each.value - before_kw for each in held]
        moved_kw = max(moves_kw, key=abs) if step.cut else (typical(held) or 0.0) - before_kw
        if abs(moved_kw) >= SHOWS_ELSEWHERE * abs(step.asked_kw) + 3.0 * spread(rest):
            found[unit] = moved_kw
    return found


# ---- the cause ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Seen:
    """What one measurement made of all bumps together."""

    name: str
    shape: Shape
    factor: float | None = None

    @property
    def agrees(self) -> tuple[Shape, float | None]:
        """Equal for measurements that say the same."""
        return self.shape, self.factor


def probable_causes(recording: Recording, results: Sequence[StepResult]) -> list[str]:
    """What is probably wrong, as sentences for the engineer; none where nothing is."""
    bumps = [result for result in results if result.step.asked_kw]
    if not bumps:
        return []
    seen = [_together(each.name, bumps) for each in recording.measurements]
    first, others = seen[0], [each for each in seen[1:] if each.shape is not Shape.UNKNOWN]
    elsewhere = {unit for result in bumps for unit in moved_elsewhere(recording, result.step)}
    absent = first.shape is Shape.NOTHING or any(each.shape is Shape.NOTHING for each in others)
    if elsewhere and absent:
        units = ", ".join(sorted(elsewhere))
        return [
            f"wrong unit: the power appears at {units}. Look at address, port and unit id of both,"
            " and at the labels of the cables"
        ]
    causes = [f"beside it {unit} moved, though not told to" for unit in sorted(elsewhere)]
    if first.shape is Shape.UNKNOWN:
        return [*causes, *(_alone(each) for each in others if each.shape is not Shape.RIGHT)]
    if first.shape is Shape.RIGHT:
        reversed_ = [each for each in others if each.shape is Shape.REVERSED]
        if len(reversed_) > 1 and len(reversed_) == len(others):
            names = " and ".join(each.name for each in reversed_)
            text = f"{names} both say the opposite: setpoint and {first.name} are both inverted"
            return [*causes, f"{text} in the profile"]
        return [*causes, *(_alone(each) for each in others if each.shape is not Shape.RIGHT)]
    if any(each.agrees == first.agrees for each in others):
        return [*causes, _of_setpoint(first)]
    if any(each.shape is Shape.RIGHT for each in others):
        return [*causes, _of_reading(first, [e.name for e in others if e.shape is Shape.RIGHT])]
    return [*causes, f"{_of_setpoint(first)}; or {_of_reading(first, [])}"]


def _together(name: str, bumps: Sequence[StepResult]) -> Seen:
    """One word for both directions: the wrong one where only one is wrong."""
    known = [
        seen
        for result in bumps
        if (seen := result.responses[name]).shape in (DECISIVE if result.step.cut else KNOWN)
    ]
    if not known:
        return Seen(name, Shape.UNKNOWN)
    wrong = [each for each in known if each.shape is not Shape.RIGHT]
    chosen = (wrong or known)[0]
    return Seen(name, chosen.shape, chosen.factor)


def _times_words(factor: float | None) -> str:
    reversed_ = " and its sign inverted" if factor is not None and factor < 0.0 else ""
    return f"times {abs(factor or 0.0):g} too much{reversed_}"


def _of_setpoint(seen: Seen) -> str:
    match seen.shape:
        case Shape.REVERSED:
            return (
                "the sign of the setpoint is inverted in the profile (writes.power_kw.sign): told"
                " to discharge, the device charges"
            )
        case Shape.SCALED:
            text = "the scale of the setpoint in the profile (writes.power_kw.scale) is"
            return f"{text} {_times_words(seen.factor)}"
        case Shape.NOTHING:
            return (
                "the device takes the setpoint and does nothing: local mode, contactor or breaker"
                " open, not enabled, or the wrong register"
            )
        case Shape.SLOW:
            return "the device is slow: it was still moving at the end of the hold"
        case _:
            return "the device gives another power than asked: a limit of its own, or a wrong scale"


def _of_reading(seen: Seen, right: Sequence[str]) -> str:
    beside = f"; {' and '.join(right)} moved as asked" if right else ""
    match seen.shape:
        case Shape.REVERSED:
            return f"the sign of {seen.name} is inverted in the profile, or its CT reversed{beside}"
        case Shape.SCALED:
            return f"the scale of {seen.name} in the profile is {_times_words(seen.factor)}{beside}"
        case Shape.NOTHING:
            return f"{seen.name} does not move: a wrong register, or another device{beside}"
        case Shape.SLOW:
            return f"{seen.name} follows slowly, a filter in the device{beside}"
        case _:
            return f"{seen.name} is off{beside}"


def _alone(seen: Seen) -> str:
    """One further measurement is wrong, the device's own is right."""
    match seen.shape:
        case Shape.REVERSED:
            return f"{seen.name}: CT reversed, or its sign inverted in its profile"
        case Shape.SCALED:
            return f"{seen.name}: its scale or CT ratio is {_times_words(seen.factor)}"
        case Shape.NOTHING:
            return f"{seen.name} does not see this unit: another circuit, or another unit's device"
        case Shape.SLOW:
            return f"{seen.name} was still moving at the end of the hold"
        case _:
            return f"{seen.name} is off: CT ratio, losses, or other load that moved meanwhile"
