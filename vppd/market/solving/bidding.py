"""From price scenarios to a bid book that earns most on average and that no clearing can break.

One linear program. In each block the scenarios are sorted by price; net power may only rise from
the cheapest to the dearest, so the optimum is a pair of curves. Energy is not followed scenario by
scenario but by the two extreme paths of `corridor`, as hard rows: the highest takes every block at
its cheapest, the lowest at its dearest. Any clearing runs between them. What is left at the end of
the book is worth what the blocks after it can earn with it (`Worth`, concave).

Units: MW and MWh at the connection, Rs/MWh; stored energy in MWh inside the battery.
"""

from dataclasses import dataclass

import numpy as np

from vppd.market.blocks import BLOCK_H
from vppd.market.book import Bid, Book, Pair
from vppd.market.corridor import Range
from vppd.market.fitting import Fitted, Setting, fitted
from vppd.market.solving.lp import FREE, TIME_LIMIT_S, NotSolved, Numbers, Places, Program

MARGIN_MWH = 1e-6  # the program stays so far inside the window: floats and rounding
IDLE_MW = 1e-6


@dataclass(frozen=True, slots=True)
class Worth:
    """What stored energy is worth at the end of the book: the lowest of these lines, Rs.

    Each line is (Rs at no energy, Rs per MWh stored). Without lines energy is worth nothing.
    """

    lines: tuple[tuple[float, float], ...] = ()
    least_mwh: float = 0.0  # no outcome should end below; missing energy costs `short_rs_per_mwh`
    short_rs_per_mwh: float = 0.0


@dataclass(frozen=True, slots=True)
class Scenarios:
    """Prices that may come: one row a scenario, one column a block, Rs/MWh, equally likely.

    Columns are the first blocks of the setting: only these are bid for. The blocks behind them
    only have to stay possible with what is already held there.
    """

    price_rs_per_mwh: Numbers


@dataclass(frozen=True, slots=True)
class Answer:
    """The book, what was cut from it, what it should earn on average, and how it came about."""

    fitted: Fitted
    expected_rs: float
    how: str  # curves | self-scheduled | empty: why

    @property
    def book(self) -> Book:
        """What to send."""
        return self.fitted.book


def book_of(
    setting: Setting,
    scenarios: Scenarios,
    worth: Worth,
    *,
    hurdle_rs_per_mwh: float = 0.0,
    time_limit_s: float = TIME_LIMIT_S,
) -> Answer:
    """The best book for these scenarios. `hurdle_rs_per_mwh` is asked of every MWh traded on top
    of fees and wear. Never raises for want of a solution: then the book is empty and says why."""
    program = _Curves(setting, scenarios, worth, hurdle_rs_per_mwh)
    try:
        net_mw, expected_rs = program.solved(time_limit_s)
    except NotSolved as error:
        return Answer(Fitted(Book({}), ()), 0.0, f"empty: {error.reason}")
    wish = {}
    for column, block in enumerate(setting.blocks[: net_mw.shape[1]]):
        bid = _bid(program.sorted_prices[:, column], net_mw[:, column], setting)
        if bid.sells or bid.buys:
            wish[block] = bid
    return Answer(fitted(Book(wish), setting), expected_rs, "curves")


def _bid(prices_rs_per_mwh: Numbers, net_mw: Numbers, setting: Setting) -> Bid:
    """Two curves from net power by rank of price. A change between two ranks has its limit midway;
    what is taken at every price has its limit at the very end, where it counts as sure."""
    terms, last = setting.terms, len(net_mw) - 1
    between = 0.5 * (prices_rs_per_mwh[:-1] + prices_rs_per_mwh[1:])
    first_rs, last_rs = prices_rs_per_mwh[0], prices_rs_per_mwh[-1]
    if setting.firm:
        first_rs, last_rs = terms.floor_rs_per_mwh, terms.cap_rs_per_mwh
    sell_limits = np.concatenate([[first_rs], between])
    buy_limits = np.concatenate([between, [last_rs]])
    sells: list[Pair] = []
    buys: list[Pair] = []
    for rank in range(last + 1):
        held_mw = sells[-1].power_mw if sells else 0.0
        if net_mw[rank] > held_mw + IDLE_MW:
            sells.append(Pair(float(sell_limits[rank]), float(net_mw[rank])))
    for rank in range(last, -1, -1):
        held_mw = buys[-1].power_mw if buys else 0.0
        if -net_mw[rank] > held_mw + IDLE_MW:
            buys.append(Pair(float(buy_limits[rank]), float(-net_mw[rank])))
    return Bid(tuple(sells), tuple(buys))


def committed_mw(setting: Setting) -> list[Range]:
    """Net power of every block without this book, MW: what is held, and the least and the most
    that bids without a result may still add."""
    found = []
    for block in setting.blocks:
        held_mw = setting.held_mw.get(block, 0.0)
        least_mw, most_mw = setting.open_mw.get(block, (0.0, 0.0))
        found.append((held_mw + least_mw, held_mw + most_mw))
    return found


class _Curves:
    """The program: net power by block and by rank of price, as increments that are never negative.

    Sold at rank k = firm sale + increments up to k; bought at rank k = increments from k on.
    """

    def __init__(
        self, setting: Setting, scenarios: Scenarios, worth: Worth, hurdle_rs_per_mwh: float
    ) -> None:
        self._setting, self._worth = setting, worth
        prices = np.asarray(scenarios.price_rs_per_mwh, float)
        prices = np.clip(prices, setting.terms.floor_rs_per_mwh, setting.terms.cap_rs_per_mwh)
        self._order = np.argsort(prices, axis=0, kind="stable")
        self.sorted_prices = np.take_along_axis(prices, self._order, axis=0)
        self._count, self._blocks = prices.shape
        self._cost = setting.terms.fee_rs_per_mwh + hurdle_rs_per_mwh
        self._loss = 1.0 - setting.terms.loss_pct / 100
        self._program = Program()
        self._sell, self._buy = self._columns()
        self._envelope()
        self._cycles()
        self._end()

    def _columns(self) -> tuple[Places, Places]:
        """Increments, worth what they bring in the scenarios in which they clear."""
        storage, prices = self._setting.storage, self.sorted_prices
        share_h = BLOCK_H / self._count
        gain = (prices * self._loss - self._cost - storage.wear_rs_per_mwh) * share_h
        sell_rs = np.cumsum(gain[::-1], axis=0)[::-1]  # taken at its own rank and all dearer
        cost = (-prices / self._loss - self._cost) * share_h
        buy_rs = np.cumsum(cost, axis=0)  # taken at its own rank and all cheaper
        size = prices.size
        sell = self._program.columns(size, sell_rs.ravel())
        buy = self._program.columns(size, buy_rs.ravel())
        return sell.reshape(prices.shape), buy.reshape(prices.shape)

    def _envelope(self) -> None:
        """Power at both ends of every block, and the two extreme paths inside the window."""
        setting, program = self._setting, self._program
        storage, start = setting.storage, setting.start
        sure_mw = committed_mw(setting)
        fallen_mwh = [storage.stored_mwh(most_mw) for _, most_mw in sure_mw]
        risen_mwh = [storage.stored_mwh(least_mw) for least_mw, _ in sure_mw]
        alone_low_mwh = start.low_mwh + np.cumsum(fallen_mwh)
        alone_high_mwh = start.high_mwh + np.cumsum(risen_mwh)
        # Where what is held leads out by itself, the book may not lead further out.
        low_mwh = np.minimum(storage.low_mwh + MARGIN_MWH, alone_low_mwh)
        high_mwh = np.maximum(storage.high_mwh - MARGIN_MWH, alone_high_mwh)
        out, into = BLOCK_H / storage.discharge_efficiency, BLOCK_H * storage.charge_efficiency
        count = len(setting.blocks)
        lowest = program.columns(count, 0.0, low_mwh, FREE)
        highest = program.columns(count, 0.0, -FREE, high_mwh)
        for column in range(count):
            drawn: list[tuple[Places, float]] = []
            filled: list[tuple[Places, float]] = []
            if column < self._blocks:
                sells, buys = self._sell[:, column], self._buy[:, column]
                least_mw, most_mw = sure_mw[column]
                block = setting.blocks[column]
                left_mw = storage.discharge_at_mw(block) - most_mw
                free_mw = storage.charge_at_mw(block) + least_mw
                program.total(-FREE, max(left_mw, 0.0), [(sells, 1)])
                program.total(-FREE, max(free_mw, 0.0), [(buys, 1)])
                drawn, filled = [(sells, out)], [(buys, -into)]
                if setting.firm:  # what is taken at every price counts on the other path too
                    drawn, filled = [*drawn, (buys[-1:], -into)], [*filled, (sells[:1], out)]
            for line, first_mwh, change_mwh, terms in (
                (lowest, start.low_mwh, fallen_mwh, drawn),
                (highest, start.high_mwh, risen_mwh, filled),
            ):
                step_mwh = change_mwh[column] + (first_mwh if column == 0 else 0.0)
                before = [] if column == 0 else [(line[column - 1 : column], -1.0)]
                here = (line[column : column + 1], 1.0)
                program.total(step_mwh, step_mwh, [here, *before, *terms])

    def _cycles(self) -> None:
        """No more sold in a day than the wear allows, whatever clears."""
        setting = self._setting
        for day in sorted({block.day for block in setting.blocks}):
            held_mw = sum(
                max(most_mw, 0.0)
                for block, (_, most_mw) in zip(setting.blocks, committed_mw(setting), strict=True)
                if block.day == day
            )
            left_mwh = (
                setting.storage.day_discharge_mwh
                - setting.start.discharged_mwh.get(day, 0.0)
                - held_mw * BLOCK_H
            )
            columns = [
                column
                for column, block in enumerate(setting.blocks[: self._blocks])
                if block.day == day
            ]
            if columns:
                sells = self._sell[:, columns].ravel()
                self._program.total(-FREE, max(left_mwh, 0.0), [(sells, BLOCK_H)])

    def _end(self) -> None:
        """What is stored after the last bid, scenario by scenario, is worth the lowest line."""
        program, worth, setting = self._program, self._worth, self._setting
        if not worth.lines and not worth.short_rs_per_mwh:
            return
        storage, count = setting.storage, self._count
        held_mwh = sum(
            storage.stored_mwh(setting.held_mw.get(block, 0.0))
            for block in setting.blocks[: self._blocks]
        )
        start_mwh = 0.5 * (setting.start.low_mwh + setting.start.high_mwh) + held_mwh
        out, into = BLOCK_H / storage.discharge_efficiency, BLOCK_H * storage.charge_efficiency
        rank = np.empty_like(self._order)
        np.put_along_axis(rank, self._order, np.arange(count)[:, None], axis=0)
        end = program.columns(count, 0.0, -FREE)
        value = program.columns(count, 1.0 / count, -FREE)
        short = program.columns(count, -worth.short_rs_per_mwh / count)
        for scenario in range(count):
            at_most = np.arange(count)[:, None] <= rank[scenario]
            sold = self._sell[at_most]
            bought = self._buy[np.arange(count)[:, None] >= rank[scenario]]
            program.total(
                start_mwh,
                start_mwh,
                [(end[scenario : scenario + 1], 1.0), (sold, out), (bought, -into)],
            )
        program.rows(worth.least_mwh, FREE, [(end, 1.0), (short, 1.0)])
        for level_rs, slope_rs_per_mwh in worth.lines or ((0.0, 0.0),):
            program.rows(-FREE, level_rs, [(value, 1.0), (end, -slope_rs_per_mwh)])

    def solved(self, time_limit_s: float) -> tuple[Numbers, float]:
        """Net power by rank and block, MW, and the expected gain, Rs. Raises NotSolved."""
        found = self._program.solved(time_limit_s)
        sold_mw = np.cumsum(found.values[self._sell], axis=0)
        bought_mw = np.cumsum(found.values[self._buy][::-1], axis=0)[::-1]
        return sold_mw - bought_mw, found.objective_rs
