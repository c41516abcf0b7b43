"""The book of a real-time session: two blocks, on top of all that is held. Pure.

What is bid for is worth its own prices now against what the stored energy can still do afterwards
(`recourse`). A trade must promise the hurdle beside fees; days whose day-ahead auction is still to
come, or has no result yet, are free of it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

from vppd.market.blocks import BLOCK_H, Block, blocks_of
from vppd.market.fitting import Setting
from vppd.market.prices import PriceHistory
from vppd.market.solving.bidding import Answer, Scenarios, Worth, book_of
from vppd.market.solving.forecast.ladder import DAYS, Forecast
from vppd.market.solving.forecast.real_time import RealTime
from vppd.market.solving.lp import TIME_LIMIT_S
from vppd.market.solving.recourse import Ahead, slope_at, value_at, worth_ahead

SESSION_BLOCKS = 2
REPAIR_HURDLE = 2.0  # caps: nothing promises so much, so that only what falls short is bought
SHORT_CAPS = 8.0  # caps, for a MWh sold and not delivered: any price is better, with any hurdle


@dataclass(frozen=True, slots=True)
class Session:
    """What a session's book is made from: day-ahead prices known or foreseen (Rs/MWh), which of
    them are known, real time beside them, and what a trade must promise."""

    setting: Setting
    price_rs_per_mwh: Mapping[Block, float]
    known: frozenset[Block]
    real_time: RealTime
    hurdle_rs_per_mwh: float

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Those that are bid for."""
        return self.setting.blocks[:SESSION_BLOCKS]


@dataclass(frozen=True, slots=True)
class Dealt:
    """The book, the lines of what energy is worth behind it, and the energy expected there."""

    answer: Answer
    lines: tuple[tuple[float, float], ...]
    end_mwh: float

    @property
    def energy_rs_per_mwh(self) -> float:
        """The marginal worth of stored energy after the session."""
        return slope_at(self.lines, self.end_mwh)


def prices_ahead(
    known: PriceHistory, forecast: Forecast | None
) -> tuple[dict[Block, float], frozenset[Block]]:
    """Day-ahead prices by block: what cleared, and behind it what is foreseen; and which cleared.
    Without a forecast only what cleared."""
    found: dict[Block, float] = {}
    if forecast is not None:
        days = [forecast.day + timedelta(days=ahead) for ahead in range(DAYS)]
        blocks = [block for day in days for block in blocks_of(day)]
        found = dict(zip(blocks, forecast.price_rs_per_mwh, strict=False))
    cleared = {
        block: price
        for day, prices in known.days.items()
        for block, price in zip(blocks_of(day), prices, strict=True)
        if math.isfinite(price)
    }
    return found | cleared, frozenset(cleared)


def session_book(session: Session, *, time_limit_s: float = TIME_LIMIT_S) -> Dealt:
    """The book of the session. Raises ValueError when a block of it has no price."""
    setting = session.setting
    missing = [block for block in session.blocks if block not in session.price_rs_per_mwh]
    if missing:
        raise ValueError(f"no price is foreseen for {missing[0]}")
    storage, terms = setting.storage, setting.terms
    ahead = _ahead(session)
    lines = worth_ahead(storage, terms, ahead)
    paths = session.real_time.paths(session.blocks, session.price_rs_per_mwh)
    answer = book_of(
        setting,
        Scenarios(paths),
        Worth(lines, storage.low_mwh, ahead.short_rs_per_mwh / storage.charge_efficiency),
        hurdle_rs_per_mwh=session.hurdle_rs_per_mwh,
        time_limit_s=time_limit_s,
    )
    end_mwh = 0.5 * (setting.start.low_mwh + setting.start.high_mwh)
    end_mwh += sum(storage.stored_mwh(setting.held_mw.get(block, 0.0)) for block in session.blocks)
    end_mwh = min(max(end_mwh, storage.low_mwh), storage.high_mwh)
    gain_rs = answer.expected_rs - value_at(lines, end_mwh)
    return Dealt(replace(answer, expected_rs=gain_rs), lines, end_mwh)


def repair_hurdle(cap_rs_per_mwh: float) -> float:
    """The hurdle that leaves only repairs."""
    return REPAIR_HURDLE * cap_rs_per_mwh


def _ahead(session: Session) -> Ahead:
    """The horizon behind the session: as far as prices go without a hole."""
    setting = session.setting
    blocks: list[Block] = []
    block = session.blocks[-1].after(1)
    while block in session.price_rs_per_mwh:
        blocks.append(block)
        block = block.after(1)
    auctioned = {session.blocks[0].day}
    auctioned |= {each.day for each in (*session.known, *setting.held_mw)}
    free = [each.day not in auctioned or each in setting.open_mw for each in blocks]
    return Ahead(
        blocks,
        [
            session.price_rs_per_mwh[each] + (0.0 if is_free else session.real_time.bias(each))
            for each, is_free in zip(blocks, free, strict=True)
        ],
        [_expected_mw(setting, each) for each in blocks],
        [0.0 if is_free else session.hurdle_rs_per_mwh for is_free in free],
        _discharged_mwh(setting, session.blocks),
        SHORT_CAPS * setting.terms.cap_rs_per_mwh,
    )


def _expected_mw(setting: Setting, block: Block) -> float:
    least_mw, most_mw = setting.open_mw.get(block, (0.0, 0.0))
    return setting.held_mw.get(block, 0.0) + 0.5 * (least_mw + most_mw)


def _discharged_mwh(setting: Setting, blocks: Sequence[Block]) -> dict[date, float]:
    """By day, before the horizon: what was discharged, and what these blocks hold."""
    total_mwh = dict(setting.start.discharged_mwh)
    for block in blocks:
        sold_mwh = max(_expected_mw(setting, block), 0.0) * BLOCK_H
        total_mwh[block.day] = total_mwh.get(block.day, 0.0) + sold_mwh
    return total_mwh
