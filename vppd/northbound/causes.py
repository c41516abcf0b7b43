"""Why a unit is bound, each cause once: while the link to a device is lost, that is why, and not
that values it alone shows are old. Pure."""

from collections.abc import Collection, Iterable

from vppd.core.alarms import Code
from vppd.core.model import UnitId
from vppd.field.gate import UnitDecision


def causes(codes: Iterable[Code], made: UnitDecision, lost: Collection[UnitId]) -> list[Code]:
    """The codes of a decision on a unit, where the links to these devices are lost."""
    old = {
        each.blind.device
        for each in made.verdicts
        if each.blind is not None and each.blind.why is Code.READING_STALE
    }
    told = Code.LINK_LOST if old and old <= set(lost) else Code.READING_STALE
    return list(dict.fromkeys(told if each is Code.READING_STALE else each for each in codes))
