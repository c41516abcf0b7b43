"""Which plan rules: of the live plans the highest priority, of equals the first in the declared
order (vppd/campus/queue.py), of those the newest. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from vppd.campus.queue import rank
from vppd.core.model import SITE, Plan, Priority, UnitId


@dataclass(frozen=True, slots=True)
class Base:
    """The site's base point and who set it; `planned` False: nobody did, idle."""

    power_kw: float = 0.0
    reactive_kvar: float = 0.0
    source: str = "idle"
    priority: Priority = Priority.IDLE
    strategy: str | None = None
    planned: bool = False


def base_of(plans: Sequence[Plan], order: Sequence[str] = ()) -> Base:
    """The base point of the site, with every regulation delta on top. `order` is of sources.
    Reactive power that is ordered beside it counts, unless a higher priority than orders rules."""
    absolute = [plan for plan in plans if plan.unit == SITE and not plan.adds]
    adding = [plan for plan in plans if plan.unit == SITE and plan.adds]
    delta_kw = sum(plan.power_kw for plan in adding)
    ordered_kvar = sum(plan.reactive_kvar for plan in adding)
    if not absolute:
        return Base(delta_kw, ordered_kvar, planned=delta_kw != 0.0)
    first = max(absolute, key=lambda plan: rank(plan, order))
    own = first.priority > Priority.ORDER or ordered_kvar == 0.0
    return Base(
        first.power_kw + delta_kw,
        first.reactive_kvar if own else ordered_kvar,
        first.source,
        first.priority,
        first.strategy,
        True,
    )


def pins_of(plans: Sequence[Plan], order: Sequence[str] = ()) -> dict[UnitId, Plan]:
    """The ruling plan of each pinned unit."""
    pins: dict[UnitId, Plan] = {}
    for plan in plans:
        if plan.unit == SITE:
            continue
        if plan.unit not in pins or rank(plan, order) > rank(pins[plan.unit], order):
            pins[plan.unit] = plan
    return pins
