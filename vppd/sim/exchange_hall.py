"""The trading hall of the simulated exchange: who may bid when, what was taken, how it cleared.

Everything by the injected clock. What was taken is kept in one plain dict that outlives the hall,
and in a file where one is given, so that an exchange that is started again knows its books.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta, timezone
from pathlib import Path
from typing import Any

from vppd.core.ports import Clock
from vppd.core.settings_market import GateSettings, TermsSettings
from vppd.sim.exchange_auction import Corridor, Hammer, Step, clear
from vppd.sim.exchange_crowd import LOTS_A_MW, PAISE_A_RUPEE, Crowd

INDIA = timezone(timedelta(hours=5, minutes=30))
QUARTER = timedelta(minutes=15)
DAY_BLOCKS = 96
DAY_SESSIONS = 48
FIRST_ORDER = 100_000


class Turned(Exception):  # noqa: N818 - turned away at the door
    """The exchange does not take this bid; the text says why."""


@dataclass(frozen=True, slots=True)
class Sitting:
    """One auction: a delivery day's day-ahead (number 0), or one of its 48 in real time."""

    product: str
    day: date
    number: int

    @property
    def blocks(self) -> range:
        """Numbers of the blocks that are delivered."""
        if self.product == "dam":
            return range(1, DAY_BLOCKS + 1)
        return range(2 * self.number - 1, 2 * self.number + 1)

    @property
    def starts_at(self) -> datetime:
        """When delivery begins."""
        return datetime.combine(self.day, time(), INDIA) + (self.blocks[0] - 1) * QUARTER


@dataclass(frozen=True, slots=True)
class Curve:
    """One side of one block: limits in paise per MWh with cumulated lots of 0.01 MW."""

    block: int
    sells: bool
    pairs: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Whole:
    """So many lots in every block from `first` to `last`, all or none, at a mean price."""

    first: int
    last: int
    sells: bool
    limit_paise: int
    lots: int


@dataclass(frozen=True, slots=True)
class Placed:
    """A bid that was taken. `rejected` says why it was struck out afterwards."""

    order: str
    ticket: str
    portfolio: str
    sitting: Sitting
    curves: tuple[Curve, ...]
    at: str
    rejected: str = ""
    wholes: tuple[Whole, ...] = ()


@dataclass(frozen=True, slots=True)
class Rules:
    """What the exchange goes by: gates, terms of both products, the network, its own pace.

    Published so many minutes after a gate closed.
    """

    gates: GateSettings = field(default_factory=GateSettings)
    dam: TermsSettings = field(default_factory=TermsSettings)
    rtm: TermsSettings = field(default_factory=TermsSettings)
    corridor: Corridor | None = None
    dam_provisional_min: float = 45.0
    dam_final_min: float = 90.0
    rtm_final_min: float = 10.0
    kept: timedelta = timedelta(days=30)  # after delivery what was bid is forgotten

    def opens_at(self, sitting: Sitting) -> datetime:
        """From then on bids are taken."""
        if sitting.product == "dam":
            return _eve(sitting.day, self.gates.dam_open)
        return sitting.starts_at - timedelta(minutes=self.gates.rtm_open_min)

    def closes_at(self, sitting: Sitting) -> datetime:
        """From then on none is."""
        if sitting.product == "dam":
            return _eve(sitting.day, self.gates.dam_close)
        return sitting.starts_at - timedelta(minutes=self.gates.rtm_close_min)

    def terms(self, sitting: Sitting) -> TermsSettings:
        """What the product allows."""
        return self.dam if sitting.product == "dam" else self.rtm


class Hall:
    """Takes bids and clears them. `state` is filled and read; `file` is written at every bid."""

    def __init__(
        self,
        clock: Clock,
        rules: Rules,
        crowd: Crowd,
        state: dict[str, Any] | None = None,
        file: Path | None = None,
    ) -> None:
        self.clock, self.rules, self.crowd = clock, rules, crowd
        self._file = file
        self._hammers: dict[tuple[Sitting, int], Hammer] = {}
        self._accepted: dict[Sitting, tuple[tuple[str, Whole], ...]] = {}
        self.state = {} if state is None else state
        if file is not None and file.exists():
            self.state.update(json.loads(file.read_text("utf-8")))
        self.placed = [_placed(row) for row in self.state.setdefault("placed", [])]

    # taking
    def place(
        self,
        ticket: str,
        portfolio: str,
        sitting: Sitting,
        curves: Iterable[Curve],
        wholes: Iterable[Whole] = (),
    ) -> Placed:
        """Take a bid. Raises Turned. A ticket that comes again is another bid: this exchange does
        not know that it was meant once."""
        now = self.clock.utc()
        if not self.rules.opens_at(sitting) <= now:
            raise Turned("Market is not open for the delivery period")
        if not now < self.rules.closes_at(sitting):
            raise Turned("Bid submission time is over")
        kept, whole = tuple(curves), tuple(wholes)
        _check(kept, whole, sitting, self.rules.terms(sitting))
        order = f"{self._next_order()}"
        made = Placed(order, ticket, portfolio, sitting, kept, now.isoformat(), wholes=whole)
        self._keep([*self.placed, made])
        return made

    def strike(self, order: str, why: str) -> None:
        """Reject a bid that was taken; it is not cleared."""
        self._keep(
            [replace(each, rejected=why) if each.order == order else each for each in self.placed]
        )

    def held(self, portfolio: str, day: date, product: str) -> list[Placed]:
        """A portfolio's bids for a delivery day."""
        return [
            each
            for each in self.placed
            if (each.portfolio, each.sitting.day, each.sitting.product) == (portfolio, day, product)
        ]

    def of_ticket(self, ticket: str) -> list[Placed]:
        """Every bid that was taken under this id: one, where all went well."""
        return [each for each in self.placed if each.ticket == ticket]

    def _next_order(self) -> int:
        return max((int(each.order) for each in self.placed), default=FIRST_ORDER) + 1

    def _keep(self, placed: list[Placed]) -> None:
        oldest = (self.clock.utc() - self.rules.kept).date()
        self.placed = [each for each in placed if each.sitting.day >= oldest]
        self._hammers = {key: each for key, each in self._hammers.items() if key[0].day >= oldest}
        self._accepted = {key: each for key, each in self._accepted.items() if key.day >= oldest}
        self.state["placed"] = [_row(each) for each in self.placed]
        if self._file is not None:
            whole = self._file.with_suffix(".new")
            whole.write_text(json.dumps(self.state), "utf-8")
            os.replace(whole, self._file)  # noqa: PTH105 - atomic, whatever was there

    # clearing
    def traded_lots(self, portfolio: str, sitting: Sitting) -> dict[int, int]:
        """What this portfolio really got in every block, positive sold; 0 without a bid."""
        found: dict[int, int] = {}
        for block in sitting.blocks:
            taken = self._hammer(sitting, block).taken_lots
            orders = self._orders(sitting, block, self._accepted[sitting])
            mine = [
                lots if step.sells else -lots
                for step, lots in zip(orders, taken, strict=False)
                if step.owner == portfolio
            ]
            found[block] = sum(mine)
        return found

    def price_paise(self, area: str, sitting: Sitting, block: int) -> int:
        """The area's price. KeyError for an area the exchange has not got."""
        return self._hammer(sitting, block).price_paise[area]

    def _hammer(self, sitting: Sitting, block: int) -> Hammer:
        """Clear once the gate is closed; before, nobody may ask. Always the same for one book."""
        if self.clock.utc() < self.rules.closes_at(sitting):
            raise Turned("The auction has not been held")
        if sitting not in self._accepted:
            self._accepted[sitting] = self._settled(sitting)
        if (sitting, block) not in self._hammers:
            self._hammers[sitting, block] = self._cleared(sitting, block, self._accepted[sitting])
        return self._hammers[sitting, block]

    def _cleared(
        self, sitting: Sitting, block: int, accepted: Sequence[tuple[str, Whole]]
    ) -> Hammer:
        floor, cap = self._ends(sitting)
        others = self.crowd.steps(sitting.product, sitting.day, block, floor, cap)
        own = self._orders(sitting, block, accepted)
        return clear([*own, *others], floor, cap, self.rules.corridor)

    def _settled(self, sitting: Sitting) -> tuple[tuple[str, Whole], ...]:
        """The whole bids that are taken: all at first, then without the one that the mean price of
        its blocks speaks most against, until none is left that it speaks against, or that would not
        be taken in full."""
        left = [
            (each.portfolio, whole)
            for each in self.placed
            if each.sitting == sitting and not each.rejected
            for whole in each.wholes
        ]
        while left:
            spanned = sorted({n for _, each in left for n in range(each.first, each.last + 1)})
            hammers = {block: self._cleared(sitting, block, left) for block in spanned}
            ends = self._ends(sitting)
            against = [_against(who, whole, hammers, ends) for who, whole in left]
            worst = max(range(len(left)), key=against.__getitem__)
            if against[worst] <= 0.0:
                break
            del left[worst]
        return tuple(left)

    def _ends(self, sitting: Sitting) -> tuple[int, int]:
        """Floor and cap, paise."""
        terms = self.rules.terms(sitting)
        floor = round(terms.floor_rs_per_mwh * PAISE_A_RUPEE)
        return floor, round(terms.cap_rs_per_mwh * PAISE_A_RUPEE)

    def _orders(
        self, sitting: Sitting, block: int, accepted: Sequence[tuple[str, Whole]]
    ) -> list[Step]:
        """Steps of the curves, and of whole bids that are taken: these at any price."""
        floor_paise, cap_paise = self._ends(sitting)
        made = [
            Step(who, who[:2], whole.sells, floor_paise if whole.sells else cap_paise, whole.lots)
            for who, whole in accepted
            if whole.first <= block <= whole.last
        ]
        for each in self.placed:
            if each.sitting != sitting or each.rejected:
                continue
            for curve in each.curves:
                if curve.block == block:
                    made += _steps(each.portfolio, curve)
        return made


def _steps(portfolio: str, curve: Curve) -> list[Step]:
    """The rises of a cumulated curve; the area is the first two characters of the portfolio."""
    held, made = 0, []
    for limit, lots in curve.pairs:
        made.append(Step(portfolio, portfolio[:2], curve.sells, limit, lots - held))
        held = lots
    return made


def _against(
    owner: str, whole: Whole, hammers: Mapping[int, Hammer], ends: tuple[int, int]
) -> float:
    """By how much the mean price of its blocks is worse than its limit, paise; above 0: left out.
    Where a price is at the very end, not all of it may have been taken: left out as well."""
    blocks = range(whole.first, whole.last + 1)
    prices = [hammers[block].price_paise[owner[:2]] for block in blocks]
    if ends[0 if whole.sells else 1] in prices:
        return math.inf
    mean = sum(prices) / len(prices)
    return whole.limit_paise - mean if whole.sells else mean - whole.limit_paise


def _check(
    curves: Iterable[Curve], wholes: Sequence[Whole], sitting: Sitting, terms: TermsSettings
) -> None:
    seen: set[tuple[int, bool]] = set()
    if len(wholes) > terms.block_bids:
        raise Turned(f"Number of block bids must be 0 to {terms.block_bids}")
    for whole in wholes:
        count = whole.last - whole.first + 1
        if not {whole.first, whole.last} <= set(sitting.blocks) or count < 1:
            raise Turned(f"Period {whole.first} is not in this session")
        if not terms.block_bid_min_blocks <= count <= terms.block_bid_max_blocks:
            raise Turned("Number of periods of a block bid")
        _check_pairs(Curve(whole.first, whole.sells, ((whole.limit_paise, whole.lots),)), terms)
    for curve in curves:
        if curve.block not in sitting.blocks:
            raise Turned(f"Period {curve.block} is not in this session")
        if (curve.block, curve.sells) in seen:
            raise Turned(f"Period {curve.block} given twice")
        seen.add((curve.block, curve.sells))
        if not 0 < len(curve.pairs) <= terms.max_pairs:
            raise Turned(f"Number of price steps must be 1 to {terms.max_pairs}")
        _check_pairs(curve, terms)
    if not seen and not wholes:
        raise Turned("No bid in the request")


def _check_pairs(curve: Curve, terms: TermsSettings) -> None:
    prices = [limit for limit, _ in curve.pairs]
    amounts = [lots for _, lots in curve.pairs]
    if sorted(prices, reverse=not curve.sells) != prices or len(set(prices)) != len(prices):
        raise Turned("Prices are not in order")
    if sorted(set(amounts)) != amounts:
        raise Turned("Quantities are not in order")
    if any(lots % round(terms.step_mw * LOTS_A_MW) for lots in amounts):
        raise Turned("Quantity is not a multiple of the step")
    if amounts[0] < round(terms.min_mw * LOTS_A_MW):
        raise Turned("Quantity is below the minimum")
    if any(limit % round(terms.tick_rs_per_mwh * PAISE_A_RUPEE) for limit in prices):
        raise Turned("Price is not a multiple of the tick")
    floor = terms.floor_rs_per_mwh * PAISE_A_RUPEE
    if not (floor <= min(prices) and max(prices) <= terms.cap_rs_per_mwh * PAISE_A_RUPEE):
        raise Turned("Price is outside the price range")


def _eve(day: date, hhmm: str) -> datetime:
    hour, minute = (int(part) for part in hhmm.split(":"))
    local = datetime.combine(day - timedelta(days=1), time(hour, minute), INDIA)
    return local.astimezone(UTC)


def _row(placed: Placed) -> dict[str, Any]:
    return asdict(placed) | {
        "sitting": [placed.sitting.product, placed.sitting.day.isoformat(), placed.sitting.number]
    }


def _placed(row: Mapping[str, Any]) -> Placed:
    product, day, number = row["sitting"]
    curves = tuple(
        Curve(each["block"], each["sells"], tuple((limit, lots) for limit, lots in each["pairs"]))
        for each in row["curves"]
    )
    return Placed(
        row["order"],
        row["ticket"],
        row["portfolio"],
        Sitting(product, date.fromisoformat(day), number),
        curves,
        row["at"],
        row["rejected"],
        tuple(Whole(**each) for each in row.get("wholes", ())),
    )
