"""What secondary and tertiary reserve and reactive energy are paid. Tables in, lines out. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from vppd.market.blocks import Block
from vppd.market.settling.ancillary_rules import (
    REACTIVE_PAYMENT,
    SRAS_PAYMENT,
    SRAS_PERFORMANCE,
    TRAS_PAYMENT,
    EnergyRule,
    PerformanceRule,
    ReactiveRule,
    in_force,
)
from vppd.market.settling.money import PAISE, Basis, Kind, MoneyLine, paise_of, whole_paise
from vppd.market.settling.performance import (
    ZERO,
    Followed,
    barred,
    by_block,
    days_pct,
    slab_p_per_kwh,
)


@dataclass(frozen=True, slots=True)
class TertiaryBlock:
    """Tertiary reserve of one block: cleared and dispatched, positive up, and the cleared price."""

    block: Block
    cleared_mwh: Decimal
    dispatched_mwh: Decimal
    price_rs_per_mwh: Decimal
    rows: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReactiveBlock:
    """Reactive energy of one block, positive given to the grid, at a mean voltage."""

    block: Block
    given_kvarh: Decimal
    voltage_pct: Decimal
    rows: tuple[str, ...] = ()


def settle_sras(
    followed: Iterable[Followed],
    charge_p_per_kwh: Decimal,
    payment: Sequence[EnergyRule] = SRAS_PAYMENT,
    performance: Sequence[PerformanceRule] = SRAS_PERFORMANCE,
) -> list[MoneyLine]:
    """Each block's net energy at the declared charge (down is paid back), and the incentive for
    both directions by the performance of its day. Raises LookupError before the first table."""
    known = list(followed)
    days = days_pct(known)
    lines: list[MoneyLine] = []
    for block, parts in by_block(known).items():
        judged = in_force(performance, block.day)
        excluded = block.day in barred(days, judged)
        rate = ZERO if excluded else slab_p_per_kwh(days[block.day], judged)
        rows = tuple(row for each in parts for row in each.rows)
        net_mwh = sum((each.net_mwh for each in parts), ZERO)
        both_mwh = sum((each.given_mwh for each in parts), ZERO)
        why = "incentive: barred" if excluded else f"incentive: day at {_pct(days[block.day])}"
        paid = in_force(payment, block.day).basis
        lines.append(_line(block, Kind.SRAS, net_mwh, charge_p_per_kwh, paid, "net energy", rows))
        lines.append(_line(block, Kind.SRAS, both_mwh, rate, judged.basis, why, rows))
    return lines


def settle_tras(
    reserve: TertiaryBlock, payment: Sequence[EnergyRule] = TRAS_PAYMENT
) -> list[MoneyLine]:
    """What was dispatched at the price; what stood by upwards at its share of it. Raises
    LookupError before the first table."""
    rule = in_force(payment, reserve.block.day)
    price = reserve.price_rs_per_mwh * PAISE / 1000
    standby_mwh = max(reserve.cleared_mwh - max(reserve.dispatched_mwh, ZERO), ZERO)
    standby = min(rule.standby_share * price, rule.standby_most_p_per_kwh)
    block, rows = reserve.block, reserve.rows
    return [
        _line(block, Kind.TRAS, reserve.dispatched_mwh, price, rule.basis, "energy", rows),
        _line(block, Kind.TRAS, standby_mwh, standby, rule.basis, "standing by", rows),
    ]


def settle_reactive(
    reactive: ReactiveBlock, payment: Sequence[ReactiveRule] = REACTIVE_PAYMENT
) -> MoneyLine:
    """Below the window giving is paid for, above it taking; inside nothing. Raises LookupError
    before the first table."""
    rule = in_force(payment, reactive.block.day)
    helps = (reactive.voltage_pct < rule.low_pct) - (reactive.voltage_pct > rule.high_pct)
    rate = helps * rule.rate_of(reactive.block.day)
    return MoneyLine(
        block=reactive.block,
        kind=Kind.REACTIVE,
        energy_mwh=ZERO,
        rate_p_per_kwh=rate,
        amount_paise=whole_paise(reactive.given_kvarh * rate),
        rule=rule.basis.rule,
        source=rule.basis.source,
        verified=rule.basis.verified,
        text=f"{reactive.given_kvarh} kvarh at {reactive.voltage_pct} %, rate per kvarh",
        rows=reactive.rows,
    )


def _line(
    block: Block,
    kind: Kind,
    energy_mwh: Decimal,
    rate_p_per_kwh: Decimal,
    basis: Basis,
    text: str,
    rows: tuple[str, ...],
) -> MoneyLine:
    return MoneyLine(
        block=block,
        kind=kind,
        energy_mwh=energy_mwh,
        rate_p_per_kwh=rate_p_per_kwh,
        amount_paise=paise_of(energy_mwh, rate_p_per_kwh),
        rule=basis.rule,
        source=basis.source,
        verified=basis.verified,
        text=text,
        rows=rows,
    )


def _pct(value: Decimal | None) -> str:
    return "no order" if value is None else f"{value:.1f} %"
