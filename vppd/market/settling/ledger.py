"""The account of a block, from bid to meter to money, and why the meter differs. Pure.

Energies are MWh at the connection, positive sold. Every block names the journal rows it was made
from, every line of money those it was computed from; a total carries the mark of any line that is
unverified.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from vppd.core.records_market import MarketBlockRow, SettlementLineRow
from vppd.market.blocks import Block
from vppd.market.settling.money import Kind, MoneyLine, Total, energy, total
from vppd.market.settling.performance import Followed, net_mwh
from vppd.market.settling.settlement import Metered, Profile
from vppd.market.settling.trade_rules import FEES, LOSSES, FeeRule, LossRule, loss_rule
from vppd.market.settling.trades import Trade, at_connection, settle_trade

ZERO = Decimal(0)


class Cause(StrEnum):
    """Why a block's meter differs from its schedule. `UNEXPLAINED` is what the others leave."""

    DROOP = "droop"
    ORDER = "order"
    OPERATOR = "operator"
    RAMP = "ramp"
    LIMITS = "limits"
    UNIT_LOST = "unit_lost"
    SOC = "soc"
    SHORTFALL = "shortfall"
    RESULT = "result"  # the schedule itself was changed by a result that came later
    SITE_LOAD = "site_load"
    UNEXPLAINED = "unexplained"


@dataclass(frozen=True, slots=True)
class Account:
    """The energies of one block.

    `bid_sell_mwh` and `bid_buy_mwh` (both at least 0) are the most that was offered; `dam_mwh` and
    `rtm_mwh` what cleared, `scheduled_mwh` what is owed for it at the connection. `droop_mwh` and
    `order_mwh` were given beside the schedule; `sras_mwh` is the part of orders that the accounts
    take out of the deviation. `explained` has what else is known of the difference, by cause.
    `metered_mwh` None: not known yet, and nothing can be said of a deviation.
    """

    block: Block
    scheduled_mwh: Decimal
    bid_sell_mwh: Decimal = ZERO
    bid_buy_mwh: Decimal = ZERO
    dam_mwh: Decimal = ZERO
    rtm_mwh: Decimal = ZERO
    droop_mwh: Decimal = ZERO
    order_mwh: Decimal = ZERO
    sras_mwh: Decimal = ZERO
    metered_mwh: Decimal | None = None
    explained: Mapping[Cause, Decimal] | None = None
    rows: tuple[str, ...] = ()
    schedule_verified: bool = True  # False: it rests on losses or results that are not final

    @property
    def deviation_mwh(self) -> Decimal | None:
        """What the accounts settle: positive is given too much."""
        if self.metered_mwh is None:
            return None
        return self.metered_mwh - (self.scheduled_mwh + self.sras_mwh)

    def causes(self) -> dict[Cause, Decimal]:
        """The deviation cut by cause; the parts add up to it exactly. Empty when it is unknown."""
        deviation_mwh = self.deviation_mwh
        if deviation_mwh is None:
            return {}
        parts = {
            Cause.DROOP: self.droop_mwh,
            Cause.ORDER: self.order_mwh - self.sras_mwh,
            **(self.explained or {}),
        }
        parts.pop(Cause.UNEXPLAINED, None)
        parts[Cause.UNEXPLAINED] = deviation_mwh - sum(parts.values(), ZERO)
        return {cause: mwh for cause, mwh in parts.items() if mwh != ZERO}


@dataclass(frozen=True, slots=True)
class BlockLedger:
    """One block with its money."""

    account: Account
    lines: tuple[MoneyLine, ...]

    def totals(self) -> dict[Kind, Total]:
        """By kind, in the order of their first lines."""
        return totals(self.lines)

    @property
    def total(self) -> Total:
        """All of it, with the mark of any line that is unverified."""
        return total(self.lines)

    def rows(self) -> tuple[str, ...]:
        """Every journal row that a figure of this block rests on, each once."""
        named = (*self.account.rows, *(row for line in self.lines for row in line.rows))
        return tuple(dict.fromkeys(named))


@dataclass(frozen=True, slots=True)
class Rules:
    """What a site settles by. `profile` is its deviation rule: of the centre or of its state."""

    profile: Profile
    fees: Sequence[FeeRule] = FEES
    losses: Sequence[LossRule] = LOSSES


@dataclass(frozen=True, slots=True)
class Rated:
    """What the deviation of a block is priced with; `verified` False while the published rate is
    not known and another stands in for it."""

    frequency_hz: Decimal
    reference_rate_p_per_kwh: Decimal
    verified: bool
    rows: tuple[str, ...] = ()


def account_of(
    block: Block,
    trades: Iterable[Trade],
    followed: Sequence[Followed] = (),
    losses: Sequence[LossRule] = LOSSES,
) -> Account:
    """The account as far as trades and orders make it: what was cleared, what that owes at the
    connection, what secondary reserve moved. Bids, droop, meter and causes are the caller's. Raises
    LookupError where no table of losses is in force."""
    known = list(trades)
    rule = loss_rule(block.day, tuple(losses))
    owed = [at_connection(each.cleared_mwh, rule) for each in known]
    sras_mwh = net_mwh(followed).get(block, ZERO)
    rows = [*(each.rows for each in known), *(each.rows for each in followed)]
    sure = rule.basis.verified
    return Account(
        block=block,
        scheduled_mwh=sum(owed, ZERO),
        schedule_verified=not known or (sure and all(each.final for each in known)),
        dam_mwh=sum((each.cleared_mwh for each in known if each.kind is Kind.DAM), ZERO),
        rtm_mwh=sum((each.cleared_mwh for each in known if each.kind is Kind.RTM), ZERO),
        order_mwh=sras_mwh,
        sras_mwh=sras_mwh,
        rows=tuple(dict.fromkeys(row for each in rows for row in each)),
    )


def settle(
    account: Account,
    trades: Iterable[Trade],
    rated: Rated | None,
    rules: Rules,
    services: Iterable[MoneyLine] = (),
) -> BlockLedger:
    """The whole block: trades and their fees, the deviation once it is metered and rated, and the
    lines of services as they come. Raises LookupError where no table is in force, ValueError when
    something is of another block."""
    lines = [
        *_trade_lines(trades, rules),
        *_deviation_lines(account, rated, rules),
        *services,
    ]
    for line in lines:
        if line.block != account.block:
            raise ValueError(f"a line of {line.block} in the account of {account.block}")
    return BlockLedger(account, tuple(lines))


def totals(lines: Iterable[MoneyLine]) -> dict[Kind, Total]:
    """By kind, in the order of their first lines."""
    found: dict[Kind, Total] = {}
    for line in lines:
        found[line.kind] = found.get(line.kind, Total()) + total([line])
    return found


def block_row(
    account: Account,
    at: datetime,
    *,
    frequency_hz: float | None = None,
    soc_plan_pct: float | None = None,
    soc_pct: float | None = None,
    discharged_mwh: float = 0.0,
    usable_mwh: float = 0.0,
    wear_rs: float = 0.0,
    metered_by: str = "",
) -> MarketBlockRow:
    """The account as the journal keeps it, written at `at`, with what the battery did."""
    metered, deviation = account.metered_mwh, account.deviation_mwh
    return MarketBlockRow(
        at=at,
        block_at=account.block.start,
        bid_sell_mwh=float(account.bid_sell_mwh),
        bid_buy_mwh=float(account.bid_buy_mwh),
        dam_mwh=float(account.dam_mwh),
        rtm_mwh=float(account.rtm_mwh),
        scheduled_mwh=float(account.scheduled_mwh),
        droop_mwh=float(account.droop_mwh),
        order_mwh=float(account.order_mwh),
        sras_mwh=float(account.sras_mwh),
        metered_mwh=None if metered is None else float(metered),
        deviation_mwh=None if deviation is None else float(deviation),
        causes_json=json.dumps({cause: float(mwh) for cause, mwh in account.causes().items()}),
        frequency_hz=frequency_hz,
        soc_plan_pct=soc_plan_pct,
        soc_pct=soc_pct,
        discharged_mwh=discharged_mwh,
        usable_mwh=usable_mwh,
        wear_rs=wear_rs,
        rows_json=json.dumps(account.rows),
        metered_by=metered_by,
    )


def line_rows(ledger: BlockLedger, at: datetime) -> list[SettlementLineRow]:
    """The money of a block as the journal keeps it. All lines bear one `at`: the newest rule."""
    return [
        SettlementLineRow(
            at=at,
            block_at=line.block.start,
            kind=line.kind,
            energy_mwh=float(line.energy_mwh),
            rate_p_per_kwh=float(line.rate_p_per_kwh),
            amount_paise=line.amount_paise,
            rule=line.rule,
            source=line.source,
            verified=line.verified,
            text=line.text,
            rows_json=json.dumps(line.rows),
        )
        for line in ledger.lines
    ]


def _trade_lines(trades: Iterable[Trade], rules: Rules) -> Iterator[MoneyLine]:
    for trade in trades:
        yield from settle_trade(trade, rules.fees, rules.losses).lines


def _deviation_lines(account: Account, rated: Rated | None, rules: Rules) -> Sequence[MoneyLine]:
    if account.metered_mwh is None or rated is None:
        return ()
    return rules.profile.lines(
        Metered(
            block=account.block,
            frequency_hz=rated.frequency_hz,
            actual_mwh=energy(account.metered_mwh),
            schedule_mwh=energy(account.scheduled_mwh),
            reference_rate_p_per_kwh=rated.reference_rate_p_per_kwh,
            sras_mwh=energy(account.sras_mwh),
            rows=(*account.rows, *rated.rows),
            rate_verified=rated.verified and account.schedule_verified,
        )
    )
