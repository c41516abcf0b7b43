"""Ancillary services as products: what they ask, how they are judged, what they pay. Dated tables,
each with its source; the most of it is from memory and says so. Data alone. Pure.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import TypeVar

from vppd.market.settling.money import Basis

D = Decimal


@dataclass(frozen=True, slots=True)
class CapacityRule:
    """What a provider must be able to do, in MW and seconds after the signal."""

    basis: Basis
    least_mw: Decimal
    begin_s: int
    full_s: int
    sustain_s: int


@dataclass(frozen=True, slots=True)
class Slab:
    """Above this performance, so much for each kWh of both directions."""

    above_pct: Decimal
    incentive_p_per_kwh: Decimal


@dataclass(frozen=True, slots=True)
class PerformanceRule:
    """How following is judged. Below `barred_below_pct` for `barred_after_days` running, nothing is
    paid for the `barred_for_days` after them."""

    basis: Basis
    block_min: int
    slabs: tuple[Slab, ...]  # best first
    barred_below_pct: Decimal
    barred_after_days: int
    barred_for_days: int


@dataclass(frozen=True, slots=True)
class EnergyRule:
    """Energy dispatched at its rate; what was cleared and not dispatched at a share of it, at most
    the cap (both 0 where nothing is paid for standing by)."""

    basis: Basis
    standby_share: Decimal
    standby_most_p_per_kwh: Decimal


@dataclass(frozen=True, slots=True)
class ReactiveRule:
    """Beyond a window of voltage, what helps it is paid for and what hurts it is charged."""

    basis: Basis
    rate_p_per_kvarh: Decimal
    rise_p_per_kvarh_a_year: Decimal
    low_pct: Decimal
    high_pct: Decimal

    def rate_of(self, day: date) -> Decimal:
        """Paise a kvarh on a day: it rises each year on the day of the first."""
        first = self.basis.effective_from
        years = day.year - first.year - ((day.month, day.day) < (first.month, first.day))
        return self.rate_p_per_kvarh + years * self.rise_p_per_kvarh_a_year


@dataclass(frozen=True, slots=True)
class Product:
    """One service, with its tables in the order of their dates."""

    name: str
    capacity: tuple[CapacityRule, ...] = ()
    performance: tuple[PerformanceRule, ...] = ()
    payment: tuple[EnergyRule | ReactiveRule, ...] = ()

    def bases(self) -> Iterator[Basis]:
        """Of every table."""
        for each in (*self.capacity, *self.performance, *self.payment):
            yield each.basis


_Rule = TypeVar("_Rule", CapacityRule, PerformanceRule, EnergyRule, ReactiveRule)


def in_force(rules: Sequence[_Rule], day: date) -> _Rule:
    """The table of a day. Raises LookupError before the first."""
    alive = [each for each in rules if each.basis.effective_from <= day]
    if not alive:
        name = rules[0].basis.rule if rules else "such a rule"
        raise LookupError(f"no table of {name} for {day}")
    return max(alive, key=lambda each: each.basis.effective_from)


_REGULATIONS = "CERC (Ancillary Services) Regulations 2022"
_FROM_MEMORY = f"{_REGULATIONS}, from memory"
_SRAS_FROM = date(2022, 12, 5)
_TRAS_FROM = date(2023, 5, 1)
_IEGC_FROM = date(2023, 10, 1)

SRAS_CAPACITY = (
    CapacityRule(
        Basis("sras capacity", _SRAS_FROM, f"{_REGULATIONS}, as the trade press tells it", True),
        least_mw=D(1),
        begin_s=30,
        full_s=900,
        sustain_s=1800,
    ),
)
SRAS_PERFORMANCE = (
    PerformanceRule(
        Basis("sras performance", _SRAS_FROM, _FROM_MEMORY, verified=False),
        block_min=5,
        slabs=(Slab(D(95), D(50)), Slab(D(75), D(40)), Slab(D(60), D(30))),
        barred_below_pct=D(20),
        barred_after_days=2,
        barred_for_days=7,
    ),
)
SRAS_PAYMENT = (
    EnergyRule(
        Basis(
            "sras payment",
            _SRAS_FROM,
            "net energy at the declared charge, as settlement columns name it; no account checked",
            verified=False,
        ),
        standby_share=D(0),
        standby_most_p_per_kwh=D(0),
    ),
)
TRAS_CAPACITY = (
    CapacityRule(
        Basis("tras capacity", _TRAS_FROM, _FROM_MEMORY, verified=False),
        least_mw=D(1),
        begin_s=0,
        full_s=900,
        sustain_s=3600,
    ),
)
TRAS_PERFORMANCE = (
    PerformanceRule(
        Basis("tras performance", _TRAS_FROM, "none found: no slab, nobody barred", verified=False),
        block_min=15,
        slabs=(),
        barred_below_pct=D(0),
        barred_after_days=1,
        barred_for_days=0,
    ),
)
TRAS_PAYMENT = (
    EnergyRule(
        Basis("tras payment", _TRAS_FROM, _FROM_MEMORY, verified=False),
        standby_share=D("0.1"),
        standby_most_p_per_kwh=D(20),
    ),
)
REACTIVE_PAYMENT = (
    ReactiveRule(
        Basis("reactive payment", _IEGC_FROM, "IEGC 2023, annexure, from memory", verified=False),
        rate_p_per_kvarh=D(5),
        rise_p_per_kvarh_a_year=D("0.25"),
        low_pct=D(97),
        high_pct=D(103),
    ),
)

PRODUCTS: tuple[Product, ...] = (
    Product("sras", SRAS_CAPACITY, SRAS_PERFORMANCE, SRAS_PAYMENT),
    Product("tras", TRAS_CAPACITY, TRAS_PERFORMANCE, TRAS_PAYMENT),
    Product("reactive", payment=REACTIVE_PAYMENT),
)
