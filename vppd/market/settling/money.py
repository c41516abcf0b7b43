"""Money as it is booked: whole paise, each line with the rule that made it. Pure.

Positive amounts are received, negative ones paid; energies are MWh at the connection, positive
sold. A line that rests on anything unverified says so, and so does every total it is part of.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from enum import StrEnum

from vppd.market.blocks import Block

PAISE = 100
KWH_PER_MWH = 1000
_WHOLE = Decimal(1)
_WH = Decimal("0.000001")


class Kind(StrEnum):
    """What a line is for."""

    DAM = "dam"
    RTM = "rtm"
    FEE = "fee"
    DSM = "dsm"
    SRAS = "sras"
    TRAS = "tras"
    REACTIVE = "reactive"


@dataclass(frozen=True, slots=True)
class Basis:
    """What a number rests on. `verified` False: not read in the original, nor checked on accounts;
    it may then be shown, never called settled."""

    rule: str
    effective_from: date
    source: str
    verified: bool


@dataclass(frozen=True, slots=True)
class MoneyLine:
    """One amount of one block. `rows` names the journal rows it was computed from, as table:id."""

    block: Block
    kind: Kind
    energy_mwh: Decimal
    rate_p_per_kwh: Decimal  # as applied, multiplier included
    amount_paise: int
    rule: str
    source: str
    verified: bool
    text: str = ""
    rows: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Total:
    """A sum, exact to the paisa. `unverified_paise` is the sum of the magnitudes of the lines that
    rest on something unverified, `unverified` counts them: one of 0 paise counts too."""

    amount_paise: int = 0
    lines: int = 0
    unverified: int = 0
    unverified_paise: int = 0

    @property
    def verified(self) -> bool:
        """Nothing unverified is in it."""
        return self.unverified == 0

    def __add__(self, other: "Total") -> "Total":
        return Total(
            self.amount_paise + other.amount_paise,
            self.lines + other.lines,
            self.unverified + other.unverified,
            self.unverified_paise + other.unverified_paise,
        )


def total(lines: Iterable[MoneyLine]) -> Total:
    """The lines added up, with the mark of any that is unverified."""
    found = Total()
    for line in lines:
        doubt = 0 if line.verified else 1
        found += Total(line.amount_paise, 1, doubt, doubt * abs(line.amount_paise))
    return found


def whole_paise(amount_paise: Decimal) -> int:
    """Rounded half away from zero, so that x and -x round alike."""
    return int(amount_paise.quantize(_WHOLE, ROUND_HALF_UP))


def paise_of(energy_mwh: Decimal, rate_p_per_kwh: Decimal) -> int:
    """What this energy is worth at this rate."""
    return whole_paise(energy_mwh * KWH_PER_MWH * rate_p_per_kwh)


def p_per_kwh(price_rs_per_mwh: Decimal) -> Decimal:
    """A price of the exchange as the accounts state rates: 1 Rs/MWh is 0.1 paise a kWh."""
    return price_rs_per_mwh * PAISE / KWH_PER_MWH


def rupees(amount_paise: int) -> str:
    """`1234.56`, exactly."""
    sign = "-" if amount_paise < 0 else ""
    whole, rest = divmod(abs(amount_paise), PAISE)
    return f"{sign}{whole}.{rest:02d}"


def energy(value_mwh: float | Decimal) -> Decimal:
    """To the watt-hour: as fine as accounts state it. Raises ValueError for what is no number."""
    exact = value_mwh if isinstance(value_mwh, Decimal) else Decimal(repr(float(value_mwh)))
    if not exact.is_finite():
        raise ValueError(f"{value_mwh} is no energy")
    return exact.quantize(_WH, ROUND_HALF_UP)
