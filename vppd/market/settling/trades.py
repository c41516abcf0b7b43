"""What an exchange's clearing is worth: energy, price, fee and losses of one block. Pure.

An exchange clears at the regional periphery; the connection gives more than was sold there and gets
less than was bought, by the losses in force.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from vppd.market.blocks import Block
from vppd.market.settling.money import Kind, MoneyLine, energy, p_per_kwh, paise_of
from vppd.market.settling.trade_rules import FEES, LOSSES, FeeRule, LossRule, fee_rule, loss_rule

PRICE_RULE = "uniform clearing price"


@dataclass(frozen=True, slots=True)
class Trade:
    """What one auction cleared in a block: positive sold, negative bought, at the periphery.
    `final` False: the result is provisional, and what is computed from it is not settled."""

    block: Block
    kind: Kind  # DAM or RTM
    exchange: str
    cleared_mwh: Decimal
    price_rs_per_mwh: Decimal
    final: bool = True
    rows: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Settled:
    """A trade's lines, and what it makes the schedule at the connection."""

    lines: tuple[MoneyLine, ...]
    connection_mwh: Decimal


def settle_trade(
    trade: Trade, fees: Sequence[FeeRule] = FEES, losses: Sequence[LossRule] = LOSSES
) -> Settled:
    """The energy line and the fee line. Raises LookupError where no table is in force."""
    loss = loss_rule(trade.block.day, tuple(losses))
    return Settled(
        (
            _energy_line(trade),
            _fee_line(trade, fee_rule(trade.exchange, trade.block.day, tuple(fees))),
        ),
        at_connection(trade.cleared_mwh, loss),
    )


def at_connection(cleared_mwh: Decimal, loss: LossRule) -> Decimal:
    """What the connection gives for a sale, or gets of a purchase. Raises ValueError for losses of
    100 % or more."""
    pct = loss.injection_pct if cleared_mwh >= 0 else loss.drawal_pct
    left = 1 - pct / 100
    if not 0 < left <= 1:
        raise ValueError(f"losses of {pct} %")
    return energy(cleared_mwh / left if cleared_mwh >= 0 else cleared_mwh * left)


def _energy_line(trade: Trade) -> MoneyLine:
    rate = p_per_kwh(trade.price_rs_per_mwh)
    return MoneyLine(
        block=trade.block,
        kind=trade.kind,
        energy_mwh=trade.cleared_mwh,
        rate_p_per_kwh=rate,
        amount_paise=paise_of(trade.cleared_mwh, rate),
        rule=PRICE_RULE,
        source=f"result of {trade.exchange}, {'final' if trade.final else 'provisional'}",
        verified=trade.final,
        rows=trade.rows,
    )


def _fee_line(trade: Trade, fee: FeeRule) -> MoneyLine:
    rate = p_per_kwh(fee.fee_rs_per_mwh)
    return MoneyLine(
        block=trade.block,
        kind=Kind.FEE,
        energy_mwh=trade.cleared_mwh,
        rate_p_per_kwh=rate,
        amount_paise=-paise_of(abs(trade.cleared_mwh), rate),
        rule=fee.basis.rule,
        source=fee.basis.source,
        verified=fee.basis.verified and trade.final,
        text=f"for {trade.kind} at {trade.exchange}",
        rows=trade.rows,
    )
