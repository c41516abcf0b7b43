"""The deviation settlement's rule tables: dated, each number with its source. Data alone. Pure.

A charge is deviation x reference rate x multiplier. A table cuts the deviation into slices, outward
from the schedule; in each slice a multiplier is found by the block's frequency, apart for what was
given too much (over, positive is received) and too little (under, positive is paid).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from types import MappingProxyType

D = Decimal
_NONE = D(0)


@dataclass(frozen=True, slots=True)
class Bin:
    """From this frequency on, until the next bin: `multiplier`, and per 0.01 Hz that the frequency
    is below `anchor_hz` so much more. The first bin of a column has no lower end."""

    from_hz: Decimal | None
    multiplier: Decimal
    verified: bool
    per_step: Decimal = _NONE
    anchor_hz: Decimal = _NONE


@dataclass(frozen=True, slots=True)
class Slice:
    """Deviation up to the limit: of `limit_pct` of the base and `limit_mwh` the smaller. The last
    slice has neither. `source` is where its multipliers are from."""

    name: str
    limit_pct: Decimal | None
    limit_mwh: Decimal | None
    under: tuple[Bin, ...]
    over: tuple[Bin, ...]
    source: str


@dataclass(frozen=True, slots=True)
class Edition:
    """One dated table. Percentages are of a base: `available_pct` of the available capacity and the
    rest of the schedule. Frequency and deviation are rounded to their steps before anything else.
    `normal_hz` bounds what can be a grid's frequency at all."""

    effective_from: date
    source: str
    verified: bool
    slices: tuple[Slice, ...]
    step_hz: Decimal
    step_mwh: Decimal
    normal_hz: tuple[Decimal, Decimal]
    available_pct: Decimal = _NONE


@dataclass(frozen=True, slots=True)
class RateRule:
    """How a rate is defined, in words, and how sure that is; the sum is in `settlement`."""

    name: str
    effective_from: date
    text: str
    source: str
    verified: bool


_ACCOUNT = (
    "CERC DSM Regulations 2024, Reg. 8; every multiplier called verified reproduces blocks of a "
    "WRPC weekly DSM account (Aug 2025), whose deviations reach 5.1 % of schedule"
)
_BEYOND = (
    "CERC DSM Regulations 2024, Reg. 8, beyond the limit; from memory, no account seen reached it"
)
_RENEWABLE = "CERC DSM Regulations 2024, Reg. 8(4), as one secondary source tells it"

_SEEN, _INFERRED = True, False
_LOWEST = None
_FLAT = D("49.97")
_STEEP_UNDER, _STEEP_OVER = D("0.0715"), D("0.0215")

_GENERAL_UNDER = (
    Bin(_LOWEST, D("1.50"), _SEEN),
    Bin(D("49.91"), D(1), _SEEN, _STEEP_UNDER, _FLAT),
    Bin(_FLAT, D(1), _SEEN),
    Bin(D("50.04"), D("0.925"), _SEEN),
    Bin(D("50.05"), D("0.85"), _SEEN),
    Bin(D("50.09"), D("0.85"), _INFERRED),
)
_GENERAL_OVER = (
    Bin(_LOWEST, D("1.15"), _SEEN),
    Bin(D("49.91"), D(1), _INFERRED, _STEEP_OVER, _FLAT),
    Bin(D("49.92"), D(1), _SEEN, _STEEP_OVER, _FLAT),
    Bin(_FLAT, D(1), _INFERRED),
    Bin(D("49.98"), D(1), _SEEN),
    Bin(D("50.02"), D(1), _INFERRED),
    Bin(D("50.04"), D("0.925"), _INFERRED),
    Bin(D("50.05"), D("0.85"), _INFERRED),
    Bin(D("50.06"), D(0), _INFERRED),
    Bin(D("50.10"), D("-0.10"), _SEEN),
)
_BEYOND_UNDER = (
    Bin(_LOWEST, D(2), _INFERRED),
    Bin(D("49.90"), D("1.50"), _INFERRED),
    Bin(D("50.00"), D(1), _INFERRED),
)
_BEYOND_OVER = (Bin(_LOWEST, D(0), _INFERRED), Bin(D("50.10"), D("-0.10"), _INFERRED))

_STEP_HZ = D("0.01")
_STEP_MWH = D("0.0001")  # found by the account: with it every block seen is right to the paisa
_NORMAL_HZ = (D(45), D(55))
_IN_FORCE = date(2024, 9, 16)

_GENERAL_SELLER = Edition(
    effective_from=_IN_FORCE,
    source=_ACCOUNT,
    verified=True,
    slices=(
        Slice("within 10 % or 100 MW", D(10), D(25), _GENERAL_UNDER, _GENERAL_OVER, _ACCOUNT),
        Slice("beyond 10 % or 100 MW", None, None, _BEYOND_UNDER, _BEYOND_OVER, _BEYOND),
    ),
    step_hz=_STEP_HZ,
    step_mwh=_STEP_MWH,
    normal_hz=_NORMAL_HZ,
)


def _always(multiplier: str) -> tuple[Bin, ...]:
    return (Bin(_LOWEST, D(multiplier), _INFERRED),)


def _renewable(
    effective_from: date, first_pct: int, second_pct: int, available_pct: int
) -> Edition:
    """Over 1.00, 0.90, 0; under 1.00, 1.10, 2.00 in the slices up to two limits and beyond."""
    return Edition(
        effective_from=effective_from,
        source=_RENEWABLE,
        verified=False,
        slices=(
            Slice("first", D(first_pct), None, _always("1"), _always("1"), _RENEWABLE),
            Slice("second", D(second_pct), None, _always("1.1"), _always("0.9"), _RENEWABLE),
            Slice("beyond", None, None, _always("2"), _always("0"), _RENEWABLE),
        ),
        step_hz=_STEP_HZ,
        step_mwh=_STEP_MWH,
        normal_hz=_NORMAL_HZ,
        available_pct=D(available_pct),
    )


# (from, share of available capacity in the base: solar and hybrid, wind)
_SHARES = (
    (date(2026, 4, 1), 100, 100),
    (date(2027, 4, 1), 90, 95),
    (date(2028, 4, 1), 75, 85),
    (date(2029, 4, 1), 55, 65),
    (date(2030, 4, 1), 30, 35),
    (date(2031, 4, 1), 0, 0),
)

DEVIATION_EDITIONS: Mapping[str, tuple[Edition, ...]] = MappingProxyType(
    {
        "dsm-2024": (_GENERAL_SELLER,),
        "dsm-2024-solar": (
            _renewable(_IN_FORCE, 10, 15, 100),
            *(_renewable(day, 5, 10, solar) for day, solar, _ in _SHARES),
        ),
        "dsm-2024-wind": (
            _renewable(_IN_FORCE, 15, 20, 100),
            *(_renewable(day, 10, 15, wind) for day, _, wind in _SHARES),
        ),
    }
)
"""By the name of the profile, each in the order of dates. `dsm-2024` is the general seller, which a
standalone storage is too."""

NORMAL_RATE = RateRule(
    "normal rate",
    _IN_FORCE,
    "of a block: the highest of the weighted average price of the day-ahead market, that of the "
    "real-time market, and a third of both and of the cost of ancillary services added",
    "CERC DSM Regulations 2024, Reg. 7(1), as two secondary texts quote it",
    verified=True,
)
REFERENCE_RATE = RateRule(
    "reference rate",
    _IN_FORCE,
    "of a day: the weighted average day-ahead price of all exchanges, for a seller without a "
    "regulated energy charge",
    "CERC DSM Regulations 2024, definitions; from memory",
    verified=False,
)
MIXED_REFERENCE_RATE = RateRule(
    "mixed reference rate",
    _IN_FORCE,
    "of a block: the rates of its contracts, weighted by scheduled energy",
    "WRPC weekly DSM account (Aug 2025), column of the weighted average hybrid rate",
    verified=True,
)
RATES = (NORMAL_RATE, REFERENCE_RATE, MIXED_REFERENCE_RATE)
