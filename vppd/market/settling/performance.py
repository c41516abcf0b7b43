"""How well secondary reserve was followed, by 5-minute blocks, as far as money asks. Pure.

The energies come as plain numbers from whoever integrates the signal; all are MWh.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal

from vppd.market.blocks import Block, block_at
from vppd.market.settling.ancillary_rules import PerformanceRule

ZERO = Decimal(0)
FULL_PCT = Decimal(100)


@dataclass(frozen=True, slots=True)
class Followed:
    """One short block, from `start` (UTC): what was ordered up and down, what of it was given, all
    at least 0. `rows` are the journal rows of these numbers."""

    start: datetime
    up_mwh: Decimal
    down_mwh: Decimal
    given_up_mwh: Decimal
    given_down_mwh: Decimal
    rows: tuple[str, ...] = ()

    @property
    def ordered_mwh(self) -> Decimal:
        """Both directions."""
        return self.up_mwh + self.down_mwh

    @property
    def given_mwh(self) -> Decimal:
        """Both directions, each at most what was ordered in it."""
        return min(self.given_up_mwh, self.up_mwh) + min(self.given_down_mwh, self.down_mwh)

    @property
    def net_mwh(self) -> Decimal:
        """What it moved the schedule: positive is up."""
        return self.given_up_mwh - self.given_down_mwh


def performance_pct(of: Iterable[Followed]) -> Decimal | None:
    """What was given of what was ordered, 0 to 100; None where nothing was ordered."""
    known = list(of)
    ordered_mwh = sum((each.ordered_mwh for each in known), ZERO)
    if not ordered_mwh:
        return None
    return FULL_PCT * sum((each.given_mwh for each in known), ZERO) / ordered_mwh


def days_pct(of: Iterable[Followed]) -> dict[date, Decimal | None]:
    """The performance of each IST day."""
    days: dict[date, list[Followed]] = {}
    for each in of:
        days.setdefault(block_at(each.start).day, []).append(each)
    return {day: performance_pct(days[day]) for day in sorted(days)}


def by_block(of: Iterable[Followed]) -> dict[Block, list[Followed]]:
    """The short blocks of each quarter of an hour, both in the order of time."""
    blocks: dict[Block, list[Followed]] = {}
    for each in sorted(of, key=lambda each: each.start):
        blocks.setdefault(block_at(each.start), []).append(each)
    return blocks


def net_mwh(of: Iterable[Followed]) -> dict[Block, Decimal]:
    """By quarter of an hour: the energy that is no deviation, because the reserve was called."""
    return {
        block: sum((each.net_mwh for each in parts), ZERO) for block, parts in by_block(of).items()
    }


def slab_p_per_kwh(reached_pct: Decimal | None, rule: PerformanceRule) -> Decimal:
    """The incentive earned by a performance; an edge belongs to the slab below."""
    if reached_pct is None:
        return ZERO
    earned = (each for each in rule.slabs if reached_pct > each.above_pct)
    return next((each.incentive_p_per_kwh for each in earned), ZERO)


def barred(days: Mapping[date, Decimal | None], rule: PerformanceRule) -> frozenset[date]:
    """The days on which a provider may earn nothing. A day on which nothing was ordered neither
    counts nor breaks a run; what a barred day performs does not count."""
    found: set[date] = set()
    run = 0
    for day in sorted(days):
        reached_pct = days[day]
        if reached_pct is None or day in found:
            continue
        run = run + 1 if reached_pct < rule.barred_below_pct else 0
        if run >= rule.barred_after_days:
            found |= {day + timedelta(days=n + 1) for n in range(rule.barred_for_days)}
            run = 0
    return frozenset(found)
