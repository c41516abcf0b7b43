"""Which of several plans of equal priority goes first: a declared order, with preemption. Pure.

A source that stands earlier in the order preempts every one that stands later, at once, whatever
was asked when; what it preempted waits, and goes on when the other ends, as long as its own plan
lives. Sources that are not in the order come after all that are. In one place of the order the
newest rules. Priority stands above all of it: an operator outranks any order.
"""

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass

from vppd.core.model import Plan


@dataclass(frozen=True, slots=True)
class Queued:
    """One plan in line."""

    plan: Plan
    place: int  # in the declared order; its length for a source that is not in it
    runs: bool


def place_of(source: str, order: Sequence[str]) -> int:
    """Where a source stands; `*` in the order stands for any letters."""
    for place, pattern in enumerate(order):
        if fnmatch.fnmatchcase(source, pattern):
            return place
    return len(order)


def rank(plan: Plan, order: Sequence[str] = ()) -> tuple[int, int, float, str]:
    """The greatest rules."""
    return plan.priority, -place_of(plan.source, order), plan.issued_s, plan.source


def line(plans: Sequence[Plan], order: Sequence[str] = ()) -> tuple[Queued, ...]:
    """The plans of one thing in the order in which they would run; the first of them does."""
    found = sorted(plans, key=lambda plan: rank(plan, order), reverse=True)
    return tuple(
        Queued(plan, place_of(plan.source, order), at == 0) for at, plan in enumerate(found)
    )
