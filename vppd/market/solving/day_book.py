"""The book of a day-ahead auction from a forecast. Pure; the backtest walks history with the same.

Curves are drawn for paths that lie nearer to the mean than past errors did; energy left at the end
of the day is worth what the two days behind it can earn with it.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import numpy as np

from vppd.market.blocks import BLOCKS_A_DAY, Block, blocks_of
from vppd.market.fitting import Setting
from vppd.market.solving.bidding import Answer, Scenarios, Worth, book_of
from vppd.market.solving.forecast.ladder import Forecast, drawn_in
from vppd.market.solving.lp import TIME_LIMIT_S
from vppd.market.solving.plan import Plan, Task, plan_of, worth_of_energy
from vppd.market.solving.recourse import value_at


def day_book(
    setting: Setting,
    forecast: Forecast,
    spread_ratio: float,
    *,
    hurdle_rs_per_mwh: float = 0.0,
    time_limit_s: float = TIME_LIMIT_S,
) -> Answer:
    """The book for the forecast's day, whose blocks are the first of the setting; expected is what
    it earns beside keeping what is stored.

    Raises ValueError for a forecast without prices.
    """
    if not forecast.price_rs_per_mwh:
        raise ValueError(f"no prices are foreseen: {forecast.why}")
    prices = np.array(forecast.price_rs_per_mwh)
    later = (*_blocks(forecast, 1), *_blocks(forecast, 2))
    after = np.concatenate([prices[BLOCKS_A_DAY:], prices[BLOCKS_A_DAY:]])
    task = Task(setting.storage, setting.terms, later, after, _middle_mwh(setting))
    lines = worth_of_energy(task)
    answer = book_of(
        setting,
        Scenarios(drawn_in(forecast, spread_ratio)),
        Worth(lines),
        hurdle_rs_per_mwh=hurdle_rs_per_mwh,
        time_limit_s=time_limit_s,
    )
    return replace(answer, expected_rs=answer.expected_rs - value_at(lines, _middle_mwh(setting)))


def day_plan(setting: Setting, forecast: Forecast) -> Plan:
    """What would be done at the expected prices, over the day and the next: why the book is so."""
    blocks: Sequence[Block] = (*_blocks(forecast, 0), *_blocks(forecast, 1))
    task = Task(
        setting.storage,
        setting.terms,
        blocks,
        forecast.price_rs_per_mwh,
        _middle_mwh(setting),
        setting.start.discharged_mwh,
        {block: power for block, power in setting.held_mw.items() if block in set(blocks)},
    )
    return plan_of(task)


def _blocks(forecast: Forecast, ahead: int) -> tuple[Block, ...]:
    return blocks_of(forecast.day + timedelta(days=ahead))


def _middle_mwh(setting: Setting) -> float:
    return 0.5 * (setting.start.low_mwh + setting.start.high_mwh)
