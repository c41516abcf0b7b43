"""Deviation settlement of a block: rule tables in, lines of money out, exact to the paisa. Pure.

Deviation is actual - (schedule + SRAS), MWh, positive is given too much. What a state settles
otherwise is another profile under another name: whatever keeps the protocol `Profile`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from itertools import groupby, pairwise, zip_longest
from typing import Protocol

from vppd.market.blocks import Block
from vppd.market.settling.money import Basis, Kind, MoneyLine, paise_of
from vppd.market.settling.settlement_rules import (
    DEVIATION_EDITIONS,
    MIXED_REFERENCE_RATE,
    NORMAL_RATE,
    REFERENCE_RATE,
    Bin,
    Edition,
    RateRule,
    Slice,
)

ZERO = Decimal(0)
ZERO_SCHEDULE = "zero schedule: no percentage of it, the MW limit alone was applied"
CHARGING = "negative schedule: percentages taken of its magnitude"
SRAS_APART = "SRAS energy taken out of the deviation"


class UnknownProfile(LookupError):  # noqa: N818 - named for what was asked
    """No settlement profile of that name; the message says which exist."""


class NoEdition(LookupError):  # noqa: N818
    """The profile has no table for that day."""


@dataclass(frozen=True, slots=True)
class Metered:
    """What the accounts state of one block. `available_mwh` is what the plant could have given,
    for rules that ask for it; `rows` are the journal rows of these numbers."""

    block: Block
    frequency_hz: Decimal
    actual_mwh: Decimal
    schedule_mwh: Decimal
    reference_rate_p_per_kwh: Decimal
    sras_mwh: Decimal = ZERO
    available_mwh: Decimal | None = None
    rows: tuple[str, ...] = ()
    rate_verified: bool = True  # False when the rate itself is not known for sure

    @property
    def deviation_mwh(self) -> Decimal:
        """Positive: more was given than was owed."""
        return self.actual_mwh - (self.schedule_mwh + self.sras_mwh)


class Profile(Protocol):
    """A deviation settlement, of the centre or of a state."""

    @property
    def name(self) -> str:
        """As users name it."""

    @property
    def needs_available(self) -> bool:
        """Whether `available_mwh` must be given."""

    def bases(self) -> Sequence[Basis]:
        """Its dated tables."""

    def frequency_bounds_hz(self, day: date) -> tuple[Decimal, Decimal]:
        """Frequencies that can be true on that day. Raises NoEdition."""

    def lines(self, metered: Metered) -> Sequence[MoneyLine]:
        """The block settled; at least one line. Raises NoEdition, ValueError."""


@dataclass(frozen=True, slots=True)
class SliceProfile:
    """A profile made of dated slice tables."""

    name: str
    editions: tuple[Edition, ...]

    @property
    def needs_available(self) -> bool:
        """Whether `available_mwh` must be given."""
        return any(edition.available_pct for edition in self.editions)

    def bases(self) -> tuple[Basis, ...]:
        """Its dated tables, by slice and direction, and by frequency where only a part of a column
        is verified."""
        return tuple(
            Basis(f"{self.name}, {each.name}, {words}", edition.effective_from, each.source, sure)
            for edition in self.editions
            for each in edition.slices
            for side, column in (("under", each.under), ("over", each.over))
            for words, sure in _spans(side, column, edition)
        )

    def frequency_bounds_hz(self, day: date) -> tuple[Decimal, Decimal]:
        """Frequencies that can be true on that day. Raises NoEdition."""
        return self.edition(day).normal_hz

    def edition(self, day: date) -> Edition:
        """The table in force. Raises NoEdition."""
        in_force = [each for each in self.editions if each.effective_from <= day]
        if not in_force:
            first = min(each.effective_from for each in self.editions)
            raise NoEdition(f"{self.name} has no table for {day}: its first is of {first}")
        return max(in_force, key=lambda each: each.effective_from)

    def lines(self, metered: Metered) -> tuple[MoneyLine, ...]:
        """A line for each slice the deviation reaches. Raises NoEdition, ValueError."""
        edition = self.edition(metered.block.day)
        doubts = tuple(_doubts(metered))
        sure = edition.verified and metered.rate_verified and not doubts
        deviation_mwh = rounded(metered.deviation_mwh, edition.step_mwh)
        base_mwh = _base_mwh(metered, edition)
        found: list[MoneyLine] = []
        for each, reached_mwh in _cut(abs(deviation_mwh), base_mwh, edition.slices):
            share_mwh = reached_mwh if deviation_mwh >= ZERO else -reached_mwh
            bin_ = bin_at(each.over if share_mwh >= ZERO else each.under, metered, edition)
            rate = metered.reference_rate_p_per_kwh * multiplier(bin_, metered, edition)
            found.append(
                MoneyLine(
                    block=metered.block,
                    kind=Kind.DSM,
                    energy_mwh=share_mwh,
                    rate_p_per_kwh=rate,
                    amount_paise=paise_of(share_mwh, rate),
                    rule=f"{self.name} of {edition.effective_from}",
                    source=each.source,
                    verified=sure and bin_.verified,
                    text="; ".join((each.name, *doubts)),
                    rows=metered.rows,
                )
            )
        return tuple(found)


PROFILES: Mapping[str, Profile] = {
    name: SliceProfile(name, editions) for name, editions in DEVIATION_EDITIONS.items()
}


def profile_named(name: str, profiles: Mapping[str, Profile] = PROFILES) -> Profile:
    """Raises UnknownProfile with the names that exist: no state's rule is guessed by another's."""
    if name not in profiles:
        raise UnknownProfile(
            f"no settlement rule {name!r}; there are {', '.join(sorted(profiles))}"
        )
    return profiles[name]


def _spans(side: str, column: Sequence[Bin], edition: Edition) -> Iterator[tuple[str, bool]]:
    """Runs of bins that are verified alike: `over from 49.92 to 49.96 Hz`."""
    runs = [[*run] for _, run in groupby(column, key=lambda each: each.verified)]
    for run, following in zip_longest(runs, runs[1:]):
        begin, end = run[0].from_hz, following[0].from_hz if following else None
        low = f" from {begin}" if begin is not None else ""
        high = f" to {end - edition.step_hz}" if end is not None else ""
        words = f"{side}{low}{high}" + (" Hz" if low or high else "")
        yield words, edition.verified and run[0].verified


def bin_at(column: Sequence[Bin], metered: Metered, edition: Edition) -> Bin:
    """The bin of the block's frequency, as rounded by the accounts."""
    frequency_hz = rounded(metered.frequency_hz, edition.step_hz)
    reached = [each for each in column if each.from_hz is None or each.from_hz <= frequency_hz]
    return reached[-1]


def rounded(value: Decimal, step: Decimal) -> Decimal:
    """To whole steps, halves away from zero."""
    return (value / step).quantize(Decimal(1), ROUND_HALF_UP) * step


def multiplier(bin_: Bin, metered: Metered, edition: Edition) -> Decimal:
    """What the reference rate is multiplied by."""
    below_hz = bin_.anchor_hz - rounded(metered.frequency_hz, edition.step_hz)
    return bin_.multiplier + bin_.per_step * below_hz / edition.step_hz


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate with the rule that defines it."""

    p_per_kwh: Decimal
    rule: RateRule


def normal_rate(dam: Decimal, rtm: Decimal, ancillary: Decimal) -> Rate:
    """Of one block, all in paise a kWh, unrounded."""
    return Rate(max(dam, rtm, (dam + rtm + ancillary) / len((dam, rtm, ancillary))), NORMAL_RATE)


def reference_rate(cleared: Iterable[tuple[Decimal, Decimal]]) -> Rate:
    """Of a day, from (MWh cleared, price p/kWh) of every block and exchange. Raises ValueError when
    nothing cleared."""
    return Rate(_weighted(cleared), REFERENCE_RATE)


def mixed_reference_rate(contracts: Iterable[tuple[Decimal, Decimal]]) -> Rate:
    """Of a block, from (MWh scheduled, rate p/kWh) of each contract. Raises ValueError when nothing
    is scheduled."""
    return Rate(_weighted(contracts), MIXED_REFERENCE_RATE)


def _weighted(parts: Iterable[tuple[Decimal, Decimal]]) -> Decimal:
    known = list(parts)
    weight_mwh = sum((abs(mwh) for mwh, _ in known), ZERO)
    if not weight_mwh:
        raise ValueError("no energy to weight the rates with")
    return sum((abs(mwh) * rate for mwh, rate in known), ZERO) / weight_mwh


def _base_mwh(metered: Metered, edition: Edition) -> Decimal:
    """What percentages are of, at least 0."""
    schedule_mwh = abs(metered.schedule_mwh)
    if not edition.available_pct:
        return schedule_mwh
    if metered.available_mwh is None:
        raise ValueError("available_mwh is needed by this rule")
    share = edition.available_pct / 100
    return share * abs(metered.available_mwh) + (1 - share) * schedule_mwh


def _doubts(metered: Metered) -> Iterator[str]:
    """What no account seen has decided, whatever the table says."""
    if metered.schedule_mwh == ZERO:
        yield ZERO_SCHEDULE
    if metered.schedule_mwh < ZERO:
        yield CHARGING
    if metered.sras_mwh != ZERO:
        yield SRAS_APART


def _cut(
    deviation_mwh: Decimal, base_mwh: Decimal, slices: Sequence[Slice]
) -> Iterator[tuple[Slice, Decimal]]:
    """How much of a deviation (at least 0) lies in each slice; the first always, even of 0."""
    edges = [ZERO, *(_limit_mwh(each, base_mwh) for each in slices)]
    for each, (begin, end) in zip(slices, pairwise(edges), strict=True):
        reached_mwh = (deviation_mwh if end is None else min(deviation_mwh, end)) - (begin or ZERO)
        if reached_mwh > ZERO or (deviation_mwh == ZERO and each is slices[0]):
            yield each, reached_mwh


def _limit_mwh(each: Slice, base_mwh: Decimal) -> Decimal | None:
    """Where a slice ends. A base of 0 has no percentage: the limit in MWh stands alone there."""
    limits = [each.limit_mwh] if each.limit_mwh is not None else []
    if each.limit_pct is not None and (base_mwh or not limits):
        limits.append(each.limit_pct * base_mwh / 100)
    return min(limits, default=None)
