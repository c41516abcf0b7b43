"""An event's figures held against a rule table. Pure."""

from dataclasses import dataclass

from vppd.core.response_rules import ResponseRules, RuleNumber
from vppd.grid.compliance import Figures


@dataclass(frozen=True, slots=True)
class Verdict:
    """One requirement. `passed` None: this event does not tell, `why` says so."""

    what: str
    value: float | None
    limit_value: float
    rule: RuleNumber
    passed: bool | None
    why: str = ""


def verdicts(seen: Figures, rules: ResponseRules) -> tuple[Verdict, ...]:
    """Every requirement of the table; nothing passes for want of data."""
    if not seen.side:
        return ()
    return (
        _at_most("response starts within", seen.start_s, rules.start_max, seen),
        _at_most("full response within", seen.full_s, rules.full_max, seen),
        _sustained(seen, rules),
        _accurate(seen, rules),
    )


def grade(frp_ratio: float | None, rules: ResponseRules) -> str:
    """The word for a frequency response performance; empty when there is none."""
    if frp_ratio is None:
        return ""
    lowest = rules.grades[-1]
    return next((each for each in rules.grades if frp_ratio >= each.least_ratio), lowest).word


def _at_most(what: str, took_s: float | None, rule: RuleNumber, seen: Figures) -> Verdict:
    """Never within the event is a failure once the event has lasted that long."""
    if took_s is not None:
        return Verdict(what, took_s, rule.value, rule, took_s <= rule.value)
    if seen.duration_s < rule.value:
        return Verdict(what, None, rule.value, rule, None, "never, in an event shorter than that")
    return Verdict(what, None, rule.value, rule, False, "never")


def _sustained(seen: Figures, rules: ResponseRules) -> Verdict:
    what, rule = "sustained for", rules.sustain
    held_s, due_s = seen.sustained_s, seen.sustain_due_s
    if held_s is None or due_s is None:
        return Verdict(what, None, rule.value, rule, None, "nothing was owed")
    if seen.full_s is None:
        return Verdict(what, held_s, due_s, rule, False, "never full")
    short = "" if due_s >= rule.value else "the event was shorter than the rule's time"
    return Verdict(what, held_s, due_s, rule, held_s >= due_s, short)


def _accurate(seen: Figures, rules: ResponseRules) -> Verdict:
    what, rule = "droop accuracy at settled points", rules.droop_tolerance
    error_pct = seen.droop_error_pct
    if error_pct is None:
        return Verdict(what, None, rule.value, rule, None, "what was owed never stood still")
    return Verdict(what, error_pct, rule.value, rule, error_pct <= rule.value)
