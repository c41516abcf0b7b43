"""A double-sided closed auction: one price for all who trade, two where a corridor is full. Pure.

Whole numbers throughout, so that what is sold is exactly what is bought: quantities in lots of
0.01 MW, prices in paise per MWh (0.01 Rs/MWh). Steps are taken in full inside the price; at the
price itself, where one side wants more than the other, all at that limit share what is left.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

BOTH_SIDES = 2


@dataclass(frozen=True, slots=True)
class Step:
    """One owner's wish to buy or sell so many lots in an area, at this price or a better one."""

    owner: str
    area: str
    sells: bool
    limit_paise: int
    lots: int


@dataclass(frozen=True, slots=True)
class Corridor:
    """Between these areas and all others no more flows than this, either way."""

    areas: frozenset[str]
    most_lots: int


@dataclass(frozen=True, slots=True)
class Hammer:
    """How an auction ended: the price of every area, and what each step got, in the order given."""

    price_paise: dict[str, int]
    taken_lots: tuple[int, ...]


@dataclass(slots=True)
class _Side:
    """Steps that are cleared together; the last may be the corridor's own, outside any limit."""

    places: list[int]
    steps: list[Step] = field(default_factory=list)
    price_paise: int = 0
    taken_lots: list[int] = field(default_factory=list)

    def cross(self, floor_paise: int, cap_paise: int, near_paise: int | None = None) -> None:
        self.price_paise, self.taken_lots = crossing(self.steps, floor_paise, cap_paise, near_paise)

    def imported_lots(self, areas: frozenset[str]) -> int:
        """Bought less sold in these areas."""
        return sum(
            -lots if step.sells else lots
            for step, lots in zip(self.steps, self.taken_lots, strict=True)
            if step.area in areas
        )


def clear(
    steps: Sequence[Step], floor_paise: int, cap_paise: int, corridor: Corridor | None = None
) -> Hammer:
    """Clear as one market; when the corridor cannot carry that, as two that trade its capacity."""
    areas = frozenset(step.area for step in steps)
    whole = _Side(list(range(len(steps))), list(steps))
    whole.cross(floor_paise, cap_paise)
    sides = [(areas, whole)]
    if corridor is not None:
        flow_lots = whole.imported_lots(corridor.areas)
        if abs(flow_lots) > corridor.most_lots:
            bounds = floor_paise, cap_paise, whole.price_paise
            sides = _split(steps, areas, corridor, flow_lots > 0, bounds)
    taken = [0] * len(steps)
    for _, side in sides:
        for place, lots in zip(side.places, side.taken_lots, strict=False):
            taken[place] = lots
    prices = {area: side.price_paise for members, side in sides for area in members}
    return Hammer(prices, tuple(taken))


def _split(
    steps: Sequence[Step],
    areas: frozenset[str],
    corridor: Corridor,
    inwards: bool,
    bounds: tuple[int, int, int],
) -> list[tuple[frozenset[str], _Side]]:
    """Two markets: the corridor sells its capacity in one and buys it in the other, before all.
    Their prices part from the common one no further than they must: imports go to the dearer."""
    floor_paise, cap_paise, common_paise = bounds
    made = []
    for members, sells in (
        (areas & corridor.areas, inwards),
        (areas - corridor.areas, not inwards),
    ):
        places = [at for at, step in enumerate(steps) if step.area in members]
        first = floor_paise - 1 if sells else cap_paise + 1
        link = Step("corridor", "", sells, first, corridor.most_lots)
        side = _Side(places, [*(steps[at] for at in places), link])
        side.cross(floor_paise, cap_paise, common_paise)
        made.append((members, side))
    return made


def crossing(
    steps: Sequence[Step], floor_paise: int, cap_paise: int, near_paise: int | None = None
) -> tuple[int, list[int]]:
    """The price at which most changes hands, and each step's part. Where several prices do it is
    the one nearest to `near_paise`, or the middle."""
    limits = {step.limit_paise for step in steps} | {floor_paise, cap_paise}
    prices = sorted(price for price in limits if floor_paise <= price <= cap_paise)
    sold, bought = _Ladder(steps, sells=True), _Ladder(steps, sells=False)
    low = next(
        (at for at in prices if bought.total - bought.below(at + 1) <= sold.below(at + 1)),
        cap_paise,
    )
    high = next(
        (at for at in reversed(prices) if sold.below(at) <= bought.total - bought.below(at)),
        floor_paise,
    )
    price = (low + high) // BOTH_SIDES if near_paise is None else min(max(near_paise, low), high)
    traded = min(bought.total - bought.below(price), sold.below(price + 1))
    taken = [0] * len(steps)
    for sells in (True, False):
        own = [at for at, step in enumerate(steps) if step.sells == sells]
        equal = [at for at in own if steps[at].limit_paise == price]
        left = traded
        for at in own:
            if _inside(steps[at], price):
                taken[at] = steps[at].lots
                left -= steps[at].lots
        for at, lots in zip(equal, shared(left, [steps[at].lots for at in equal]), strict=True):
            taken[at] = lots
    return price, taken


class _Ladder:
    """One side's lots by limit, summed up."""

    def __init__(self, steps: Sequence[Step], *, sells: bool) -> None:
        rungs = sorted((step.limit_paise, step.lots) for step in steps if step.sells == sells)
        self._limits = [limit for limit, _ in rungs]
        self._sums = [0, *accumulate(lots for _, lots in rungs)]
        self.total = self._sums[-1]

    def below(self, price: int) -> int:
        """Lots whose limit is below this price."""
        return self._sums[bisect_left(self._limits, price)]


def shared(lots: int, wishes: Sequence[int]) -> list[int]:
    """So many lots among these wishes in proportion, none above its wish; whole lots."""
    total = sum(wishes)
    if total <= lots:
        return list(wishes)
    parts = [lots * wish // total for wish in wishes]
    order = sorted(range(len(wishes)), key=lambda at: (-(lots * wishes[at] % total), at))
    for at in order[: lots - sum(parts)]:
        parts[at] += 1
    return parts


def _inside(step: Step, price: int) -> bool:
    """Whether the price is strictly better than the step's limit."""
    return step.limit_paise < price if step.sells else step.limit_paise > price
