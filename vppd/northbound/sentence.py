"""The decision as one sentence: for `vppctl status` and for systemd's STATUS=. Pure.

owe +96.0 kW (schedule +120.0, droop -24.0), give +80.0; B2 bound by soc_low
"""

from collections.abc import Collection, Mapping

from vppd.core.decision import Decision
from vppd.core.model import UnitId
from vppd.field.gate import UnitDecision
from vppd.northbound.causes import causes

SHOWN = 3
SHOWN_KW = 0.5
CALM_KW = 0.05
IDLE = "idle"  # the source of a base that nobody asks for


def sentence(
    decision: Decision | None,
    units: Mapping[UnitId, UnitDecision],
    shut_by: str | None,
    lost: Collection[UnitId] = (),
) -> str:
    """What is owed, from what, what is given, and who is bound. `lost` are the devices to which
    there is no link."""
    if decision is None:
        return "starting: no tick yet"
    base_kw = decision.owed_kw - decision.droop_owed_kw
    parts = [
        f"owe {decision.owed_kw:+.1f} kW ({_source(decision, base_kw)} {base_kw:+.1f}, "
        f"droop {decision.droop_owed_kw:+.1f}), give {decision.cleared_kw:+.1f}"
    ]
    if shut_by is not None:
        return f"{parts[0]}; shut by {shut_by}"
    cut = [each.why for each in decision.clamps if abs(each.before_kw - each.after_kw) > SHOWN_KW]
    if cut:
        parts.append(f"site cut by {', '.join(dict.fromkeys(cut))}")
    bound = [
        f"{id_} bound by {', '.join(causes(each.cleared.bound_by, each, lost))}"
        for id_, each in units.items()
        if each.cleared.bound_by
    ]
    parts += bound[:SHOWN]
    if len(bound) > SHOWN:
        parts.append(f"{len(bound) - SHOWN} more bound")
    return "; ".join(parts)


def _source(decision: Decision, base_kw: float) -> str:
    """Who asks for the base. Power that no plan of the site asks for, units' own plans or the end
    of a ramp, is not idle."""
    source = decision.base_source or IDLE
    return "base" if source == IDLE and abs(base_kw) > CALM_KW else source
