"""The limits of the tree (feeders, connection) as a share sees them: what gets through, what fixed
powers leave of it, and who is held back. Pure; kW, positive towards the grid."""

from collections.abc import Mapping, Sequence

from vppd.campus.member import Bound, Branch, Member
from vppd.core.envelope import fit
from vppd.core.model import Limit, UnitId

AT_KW = 1e-6  # so near to a limit is at it


def through_kw(able_kw: Mapping[UnitId, float], bounds: Sequence[Bound]) -> float:
    """What gets through a tree, leaves first: each bound passes on the least of its units' sum and
    its own; what is behind it then counts as one. `able_kw` is of magnitudes."""
    left_kw = dict(able_kw)
    for bound in bounds:
        behind = [id_ for id_ in bound.units if id_ in left_kw]
        if behind:
            sum_kw = sum([left_kw.pop(id_) for id_ in behind])
            left_kw[behind[0]] = min(sum_kw, bound.most_kw)
    return sum(left_kw.values())


def fitted(powers_kw: Mapping[UnitId, float], branches: Sequence[Branch]) -> dict[UnitId, float]:
    """Fixed powers cut to every limit, from the leaves to the root, as the gate will cut them."""
    left_kw = dict(powers_kw)
    for branch in branches:
        behind = [id_ for id_ in branch.units if id_ in left_kw]
        cut_kw = fit([left_kw[id_] for id_ in behind], branch.limit)
        left_kw.update(zip(behind, cut_kw, strict=True))
    return left_kw


def held_back(
    powers_kw: Mapping[UnitId, float],
    free: Sequence[Member],
    branches: Sequence[Branch],
    wanted_kw: float,
    short_kw: float,
) -> dict[UnitId, tuple[Limit, ...]]:
    """The limits that hold the share of a unit, though the share already keeps to them: the branch
    is at its limit in the direction that was wanted, and the unit has room for more. A branch that
    all free units stand behind holds nobody as long as nothing is short. A unit that gives nothing
    is held where nothing is left for it, else it is idle by choice."""
    held: dict[UnitId, tuple[Limit, ...]] = {}
    sign = 1 if wanted_kw >= 0.0 else -1
    if abs(wanted_kw) <= AT_KW:
        return held
    at_limit = [branch for branch in branches if _is_full(branch, powers_kw, sign)]
    if not at_limit:
        return held
    rooms_kw = {each.id: each.room_kw(sign) for each in free}
    for branch in at_limit:
        behind = [id_ for id_ in branch.units if id_ in rooms_kw]
        if len(behind) == len(free) and abs(short_kw) <= AT_KW:
            continue
        given_kw = [sign * powers_kw.get(id_, 0.0) for id_ in behind]
        shut = sum(given_kw) <= AT_KW
        for id_, each_kw in zip(behind, given_kw, strict=True):
            if rooms_kw[id_] - each_kw > AT_KW and (shut or each_kw > AT_KW):
                held[id_] = (*held.get(id_, ()), branch.limit)
    return held


def _is_full(branch: Branch, powers_kw: Mapping[UnitId, float], sign: int) -> bool:
    """Whether nothing more gets through in this direction."""
    most_kw = branch.limit.high_kw if sign > 0 else -branch.limit.low_kw
    return most_kw - sign * sum([powers_kw.get(id_, 0.0) for id_ in branch.units]) <= AT_KW
