"""How fast a base and a pin come: within the ratings, by their ramps, from what was given. Pure."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from vppd.campus.member import UNBOUND, Branch, bounds_of
from vppd.campus.tree import through_kw
from vppd.core.asset import Asset
from vppd.core.envelope import slew
from vppd.core.model import Limit, Plan, UnitId


def within(power_kw: float, rated_kw: float) -> float:
    """No target is beyond the ratings: a ramp that ran ahead of them would be long in returning."""
    return min(max(power_kw, -rated_kw), rated_kw)


def begun_kw(
    from_kw: float,
    target_kw: float,
    rooms: Mapping[UnitId, Limit],
    reaches_kw: Mapping[UnitId, tuple[float, float]],
    branches: Sequence[Branch],
) -> float:
    """Where the ramp of the base starts; see `_unwound`."""

    def given_kw(sign: int) -> float:
        most_kw = {
            id_: _most_kw(sign, room, reaches_kw.get(id_, UNBOUND)) for id_, room in rooms.items()
        }
        return through_kw(most_kw, bounds_of(branches, sign, {}))

    return _unwound(from_kw, target_kw, given_kw)


def pinned(
    from_kw: Mapping[UnitId, float],
    was_kw: Mapping[UnitId, float],
    pins: Mapping[UnitId, Plan],
    assets: Sequence[Asset],
    dt_s: float,
    rooms: Mapping[UnitId, Limit],
    reaches_kw: Mapping[UnitId, tuple[float, float]],
) -> dict[UnitId, float]:
    """Each pin ramped from what its unit gave; one whose plan is gone (`was_kw`) ramps out and then
    joins the others again."""
    found: dict[UnitId, float] = {}
    if not pins and not was_kw:
        return found
    for asset in assets:
        id_ = asset.id
        if id_ in pins or id_ in was_kw:
            target_kw = within(pins[id_].power_kw, asset.rated_kw) if id_ in pins else 0.0
            given = partial(_most_kw, room=rooms[id_], reach_kw=reaches_kw.get(id_, UNBOUND))
            begins_kw = _unwound(from_kw.get(id_, 0.0), target_kw, given)
            at_kw = slew(begins_kw, target_kw, asset.safety.ramp_max_kw_per_s * dt_s)
            if id_ in pins or at_kw != 0.0:
                found[id_] = at_kw
    return found


def _most_kw(sign: int, room: Limit, reach_kw: tuple[float, float]) -> float:
    """The most that a unit can be giving now this way, as a magnitude: in its room and its ramp."""
    return min(room.high_kw, reach_kw[1]) if sign > 0 else min(-room.low_kw, reach_kw[0])


def _unwound(from_kw: float, target_kw: float, given_kw: Callable[[int], float]) -> float:
    """Where a ramp starts that ran ahead of what could be given (`given_kw`, by direction): on its
    way back it does not unwind what nobody gave, or a unit that is freed meanwhile would move the
    wrong way."""
    if target_kw < from_kw and from_kw > 0.0:
        return min(from_kw, max(given_kw(1), target_kw))
    if target_kw > from_kw and from_kw < 0.0:
        return max(from_kw, min(-given_kw(-1), target_kw))
    return from_kw
