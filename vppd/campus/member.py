"""A unit, and a limit on several of them, as a share sees them. Pure."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from vppd.campus.losses import LOSSLESS, NO_WIRES, Curve, LossModel, Wires
from vppd.core.asset import Asset
from vppd.core.measured import soc_pct
from vppd.core.model import Limit, Snapshot, UnitId

NO_LOSSES = LossModel()
UNBOUND = (math.inf, math.inf)  # the reach of a unit that no ramp bounds


class Branch(Protocol):
    """A limit on the sum of some units, as the field keeps them: leaves first, the site last."""

    @property
    def units(self) -> tuple[UnitId, ...]: ...

    @property
    def limit(self) -> Limit: ...


@dataclass(frozen=True, slots=True)
class Bound:
    """The most that some units together may give more, in the direction that is shared."""

    units: Collection[UnitId]
    most_kw: float


class Member(NamedTuple):
    """One unit as a share sees it: its room each way, and how full it is. A tuple, for one is made
    of every unit in every tick."""

    id: UnitId
    out_kw: float  # what it can give, not negative
    in_kw: float  # what it can take, not negative
    soc_pct: float | None
    soc_min_pct: float
    soc_max_pct: float
    energy_kwh: float
    priority: int
    reach_out_kw: float = math.inf  # what its ramp can reach now; the others carry the rest
    reach_in_kw: float = math.inf
    curve: Curve = LOSSLESS
    wires: Wires = NO_WIRES
    pull_share: float = 0.0  # second aim of `losses`: + spares its discharge, kW a kW

    def room_kw(self, power_kw: float) -> float:
        """Its room in the direction of this power."""
        return self.out_kw if power_kw >= 0.0 else self.in_kw

    def reach_kw(self, power_kw: float) -> float:
        """What it can be at now in the direction of this power: in its room, within its ramp."""
        reach_kw = self.reach_out_kw if power_kw >= 0.0 else self.reach_in_kw
        return min(reach_kw, self.room_kw(power_kw))

    def unramped(self) -> "Member":
        """The same without a ramp; itself where the ramp reaches all of its room."""
        if self.reach_out_kw >= self.out_kw and self.reach_in_kw >= self.in_kw:
            return self
        return self._replace(reach_out_kw=math.inf, reach_in_kw=math.inf)


def member(
    now: Snapshot,
    asset: Asset,
    room: Limit,
    reach_kw: tuple[float, float] = UNBOUND,
    losses: LossModel = NO_LOSSES,
) -> Member:
    """A unit with the room the gate leaves it now, and what its ramp can reach in and out."""
    return member_at(soc_pct(now, asset), asset, room, reach_kw, losses)


def member_at(
    soc_pct: float | None,
    asset: Asset,
    room: Limit,
    reach_kw: tuple[float, float],
    losses: LossModel,
    pull_share: float = 0.0,
) -> Member:
    """The same at this state of charge."""
    safety = asset.safety
    return Member(
        asset.id,
        room.high_kw,
        -room.low_kw,
        soc_pct,
        safety.soc_min_pct,
        safety.soc_max_pct,
        asset.energy_kwh,
        asset.priority,
        reach_kw[1],
        reach_kw[0],
        losses.curve(asset.id),
        losses.behind(asset.building),
        pull_share,
    )


def bounds_of(
    branches: Sequence[Branch], power_kw: float, used_kw: Mapping[UnitId, float]
) -> tuple[Bound, ...]:
    """What every branch leaves in the direction of this power beside what is used of it."""
    found: list[Bound] = []
    for branch in branches:
        used = sum([used_kw.get(unit, 0.0) for unit in branch.units]) if used_kw else 0.0
        limit = branch.limit
        most_kw = limit.high_kw - used if power_kw >= 0.0 else used - limit.low_kw
        found.append(Bound(branch.units, max(most_kw, 0.0)))
    return tuple(found)
