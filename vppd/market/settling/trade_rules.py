"""What an exchange charges and what is lost on the way, as dated tables. Data alone. Pure."""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import TypeVar

from vppd.market.settling.money import Basis


@dataclass(frozen=True, slots=True)
class FeeRule:
    """What an exchange takes for each MWh cleared, from the buyer and from the seller."""

    exchange: str
    basis: Basis
    fee_rs_per_mwh: Decimal


@dataclass(frozen=True, slots=True)
class LossRule:
    """How much of the energy between connection and regional periphery is lost; set each week. The
    seller gives so much more than he sold, the buyer gets so much less than he bought."""

    basis: Basis
    injection_pct: Decimal
    drawal_pct: Decimal


_Rule = TypeVar("_Rule", FeeRule, LossRule)

_SOURCE = "IEX public data feed, field Transaction_Fees, October 2022"

FEES: tuple[FeeRule, ...] = (
    FeeRule("iex", Basis("fee iex", date(2022, 10, 1), _SOURCE, verified=True), Decimal(20)),
    FeeRule(
        "iex",
        Basis("fee iex", date(2022, 11, 1), f"{_SOURCE}; not seen since, cuts discussed", False),
        Decimal(20),
    ),
    FeeRule(
        "pxil",
        Basis("fee pxil", date(2022, 11, 1), "assumed as at IEX; no source", verified=False),
        Decimal(20),
    ),
)
LOSSES: tuple[LossRule, ...] = (
    LossRule(
        Basis("losses", date(2022, 10, 1), "none configured; each week's are published", False),
        Decimal(0),
        Decimal(0),
    ),
)
TRADE_RULES: tuple[FeeRule | LossRule, ...] = (*FEES, *LOSSES)


def fee_rule(exchange: str, day: date, rules: tuple[FeeRule, ...] = FEES) -> FeeRule:
    """The fee in force. Raises LookupError with the exchanges that have one."""
    own = [each for each in rules if each.exchange == exchange]
    if not own:
        known = ", ".join(sorted({each.exchange for each in rules}))
        raise LookupError(f"no fee is known of exchange {exchange!r}; there are {known}")
    return _newest(own, day, f"fee of {exchange}")


def loss_rule(day: date, rules: tuple[LossRule, ...] = LOSSES) -> LossRule:
    """The losses in force. Raises LookupError before the first."""
    return _newest(list(rules), day, "losses")


def _newest(rules: list[_Rule], day: date, name: str) -> _Rule:
    in_force = [each for each in rules if each.basis.effective_from <= day]
    if not in_force:
        raise LookupError(f"{name}: no table for {day}")
    return max(in_force, key=lambda each: each.basis.effective_from)
