"""The plan: when one storage buys and sells over the next day or two at expected prices. Pure.

A linear program: stored energy block by block, both one-way efficiencies, power, discharge per IST
day, wear, a fee on each side, headroom for reserve, power already held, and what energy is worth
at the end. It needs no whole numbers while no price is below about minus the wear and fees (cutting
both sides of a block that buys and sells keeps the energy and saves them); that is checked after
every solve, and a mixed program solves the rest.

There is always a plan. When the limits contradict each other the soft ones are bent at a price, in
the order of `SOFT`, cheapest first, and the plan says which and by how much. Power limits never
bend. Units: MW at the connection, positive is sold; MWh stored, inside the battery.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np

from vppd.market.blocks import BLOCK_H, Block
from vppd.market.solving.lp import FREE, TIME_LIMIT_S, NotSolved, Numbers, Places, Program
from vppd.market.storage import Storage, Terms

IDLE_MW = 1e-6
TOLERANCE = 1e-6
SOFT_RS_PER_MWH = {
    "end": 100_000.0,  # energy wanted at the end
    "cycles": 200_000.0,  # discharge per day
    "reserve": 400_000.0,  # energy kept behind sold reserve
    "held": 800_000.0,  # power sold or bought before
    "window": 1_600_000.0,  # stored energy; bends only where it is already outside
}


@dataclass(frozen=True, slots=True)
class Reserve:
    """Power kept free in every block, and for how long it must last, on top of what `Storage`
    has already set aside."""

    up_mw: float = 0.0
    down_mw: float = 0.0
    sustain_h: float = 0.0


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be planned: blocks in the order of time, their expected prices (Rs/MWh), energy
    stored at the start (MWh), what each day has already discharged (MWh at the connection), net
    power already held (MW), and what stored energy is worth and wanted at the end."""

    storage: Storage
    terms: Terms
    blocks: Sequence[Block]
    price_rs_per_mwh: Sequence[float] | Numbers
    start_mwh: float
    discharged_mwh: Mapping[date, float] = field(default_factory=dict)
    held_mw: Mapping[Block, float] = field(default_factory=dict)
    reserve: Reserve = Reserve()
    end_rs_per_mwh: float = 0.0
    end_mwh: float = 0.0  # no less is wanted at the end


@dataclass(frozen=True, slots=True)
class Bent:
    """A soft limit the plan could not keep: which, by how much in all (MWh, each block's excess
    added up), and the price of it."""

    limit: str
    excess_mwh: float
    price_rs_per_mwh: float


@dataclass(frozen=True, slots=True)
class Plan:
    """Net power of each block (MW), energy stored at its end (MWh), and the marginal worth of that
    energy (Rs per MWh stored)."""

    power_mw: tuple[float, ...]
    stored_mwh: tuple[float, ...]
    energy_rs_per_mwh: tuple[float, ...]
    gain_rs: float  # after wear and fees, with what is left at the end
    bent: tuple[Bent, ...]
    mixed: bool  # needed whole numbers
    solve_s: float


def plan_of(task: Task, *, time_limit_s: float = TIME_LIMIT_S) -> Plan:
    """The best plan. Raises ValueError for unusable input, NotSolved only when time ran out."""
    _check(task)
    try:
        return _without_both(task, soft=False, time_limit_s=time_limit_s)
    except NotSolved:
        return _without_both(task, soft=True, time_limit_s=time_limit_s)


def worth_of_energy(task: Task, points: int = 9) -> tuple[tuple[float, float], ...]:
    """What energy stored at the start of a task can earn, as lines (Rs at no energy, Rs per MWh
    stored); its worth is the lowest of them. Concave, as every such program's is."""
    low_mwh, high_mwh = task.storage.low_mwh, task.storage.high_mwh
    if high_mwh - low_mwh <= TOLERANCE:
        return ()
    levels_mwh = np.linspace(low_mwh, high_mwh, points)
    worth_rs = _Storage(task, soft=True, whole=False).objectives_from(levels_mwh.tolist())
    slopes = np.diff(worth_rs) / np.diff(levels_mwh)
    return tuple(
        (float(rs - slope * mwh), float(slope))
        for rs, slope, mwh in zip(worth_rs, slopes, levels_mwh, strict=False)
    )


def _check(task: Task) -> None:
    prices = np.asarray(task.price_rs_per_mwh, float)
    if len(prices) != len(task.blocks) or not len(prices):
        raise ValueError(f"{len(prices)} prices for {len(task.blocks)} blocks")
    if not np.isfinite(prices).all():
        raise ValueError("a price is not a number")
    if not math.isfinite(task.start_mwh):
        raise ValueError("the stored energy is not a number")


def _without_both(task: Task, *, soft: bool, time_limit_s: float) -> Plan:
    """Solved without whole numbers; with them when a block would buy and sell at once."""
    plan, both_mw = _Storage(task, soft=soft, whole=False).plan(time_limit_s)
    if both_mw > IDLE_MW:
        plan, _ = _Storage(task, soft=soft, whole=True).plan(time_limit_s)
    return plan


class _Storage:
    """The program of one task; `soft` lets limits bend, `whole` forbids both sides of a block."""

    def __init__(self, task: Task, *, soft: bool, whole: bool) -> None:
        self._task, self._soft, self._whole = task, soft, whole
        self._slack: dict[str, list[Places]] = {}
        storage, terms, count = task.storage, task.terms, len(task.blocks)
        prices = np.asarray(task.price_rs_per_mwh, float)
        loss = 1.0 - terms.loss_pct / 100
        fee = terms.fee_rs_per_mwh
        sold_rs = (prices * loss - fee - storage.wear_rs_per_mwh) * BLOCK_H
        bought_rs = -(prices / loss + fee) * BLOCK_H
        self.program = Program()
        self._most_mw = np.array([storage.discharge_at_mw(block) for block in task.blocks])
        self._into_mw = np.array([storage.charge_at_mw(block) for block in task.blocks])
        self._out = self.program.columns(count, sold_rs, 0.0, self._most_mw)
        self._in = self.program.columns(count, bought_rs, 0.0, self._into_mw)
        end_rs = np.zeros(count)
        end_rs[-1] = task.end_rs_per_mwh
        self._stored = self.program.columns(count, end_rs, -FREE, FREE)
        self._balance = self._energy_balance()
        self._window()
        self._powers()
        self._days()
        if task.end_mwh > 0.0:
            self._at_least(self._stored[-1:], task.end_mwh, "end")

    def _energy_balance(self) -> Places:
        storage, program = self._task.storage, self.program
        first_mwh = np.zeros(len(self._stored))
        first_mwh[0] = self._task.start_mwh
        terms: list[tuple[Places, Any]] = [
            (self._stored, 1.0),
            (self._in, -BLOCK_H * storage.charge_efficiency),
            (self._out, BLOCK_H / storage.discharge_efficiency),
        ]
        rows = program.rows(first_mwh, first_mwh, terms)
        program.entries(rows[1:], self._stored[:-1], -1.0)
        return rows

    def _window(self) -> None:
        """Stored energy inside its ends, and inside what reserve leaves of them."""
        storage, reserve = self._task.storage, self._task.reserve
        self._at_least(self._stored, storage.low_mwh, "window")
        self._at_most(self._stored, storage.high_mwh, "window")
        up_mwh = reserve.up_mw * reserve.sustain_h / storage.discharge_efficiency
        down_mwh = reserve.down_mw * reserve.sustain_h * storage.charge_efficiency
        if up_mwh > 0.0:
            self._at_least(self._stored, storage.low_mwh + up_mwh, "reserve")
        if down_mwh > 0.0:
            self._at_most(self._stored, storage.high_mwh - down_mwh, "reserve")

    def _powers(self) -> None:
        """Room for reserve, what is held before, and one side at a time."""
        task, program = self._task, self.program
        reserve = task.reserve
        net = [(self._out, 1.0), (self._in, -1.0)]
        if reserve.up_mw > 0.0 or reserve.down_mw > 0.0:
            # idle is always allowed: reserve beyond the power cannot make a plan impossible
            most_mw = np.maximum(self._most_mw - reserve.up_mw, 0.0)
            least_mw = np.minimum(reserve.down_mw - self._into_mw, 0.0)
            program.rows(least_mw, most_mw, net)
        for index, block in enumerate(task.blocks):
            if block in task.held_mw:
                held_mw = task.held_mw[block]
                place = [(self._out[index : index + 1], 1.0), (self._in[index : index + 1], -1.0)]
                slack = self._bending("held", 1, BLOCK_H), self._bending("held", 1, BLOCK_H)
                sides = [(columns, sign) for columns, sign in zip(slack, (1.0, -1.0), strict=True)]
                program.rows(held_mw, held_mw, [*place, *[s for s in sides if len(s[0])]])
        if self._whole:
            selling = program.columns(len(self._out), 0.0, 0.0, 1.0, binary=True)
            program.rows(-FREE, 0.0, [(self._out, 1.0), (selling, -self._most_mw)])
            program.rows(-FREE, self._into_mw, [(self._in, 1.0), (selling, self._into_mw)])

    def _days(self) -> None:
        """No more discharged in a day than the wear allows."""
        task = self._task
        for day in sorted({block.day for block in task.blocks}):
            places = [index for index, block in enumerate(task.blocks) if block.day == day]
            left_mwh = task.storage.day_discharge_mwh - task.discharged_mwh.get(day, 0.0)
            over = self._bending("cycles", 1)
            terms = [(self._out[places], BLOCK_H), *([(over, -1.0)] if len(over) else [])]
            self.program.total(-FREE, max(left_mwh, 0.0), terms)

    def _at_least(self, columns: Places, least_mwh: float, limit: str) -> None:
        short = self._bending(limit, len(columns))
        self.program.rows(
            least_mwh, FREE, [(columns, 1.0), *([(short, 1.0)] if len(short) else [])]
        )

    def _at_most(self, columns: Places, most_mwh: float, limit: str) -> None:
        over = self._bending(limit, len(columns))
        self.program.rows(-FREE, most_mwh, [(columns, 1.0), *([(over, -1.0)] if len(over) else [])])

    def _bending(self, limit: str, count: int, energy_h: float = 1.0) -> Places:
        """Columns by which a limit may bend; none while the limits are hard."""
        if not self._soft:
            return np.empty(0, np.int64)
        columns = self.program.columns(count, -SOFT_RS_PER_MWH[limit] * energy_h)
        self._slack.setdefault(limit, []).append(columns)
        return columns

    def objectives_from(self, levels_mwh: Sequence[float]) -> list[float]:
        """What each level of energy at the start earns, Rs. Raises NotSolved."""
        return self.program.objectives_along(int(self._balance[0]), levels_mwh)

    def plan(self, time_limit_s: float) -> tuple[Plan, float]:
        """The plan, and the most that is bought and sold in one block, MW. Raises NotSolved."""
        found = self.program.solved(time_limit_s)
        out_mw, in_mw = found.values[self._out], found.values[self._in]
        bent = []
        gain_rs = found.objective_rs
        for limit, columns in self._slack.items():
            size = BLOCK_H if limit == "held" else 1.0
            excess_mwh = size * float(found.values[np.concatenate(columns)].sum())
            gain_rs += excess_mwh * SOFT_RS_PER_MWH[limit]
            if excess_mwh > TOLERANCE:
                bent.append(Bent(limit, excess_mwh, SOFT_RS_PER_MWH[limit]))
        plan = Plan(
            tuple((out_mw - in_mw).tolist()),
            tuple(found.values[self._stored].tolist()),
            tuple(found.duals[self._balance].tolist()),
            gain_rs,
            tuple(bent),
            self._whole,
            found.solve_s,
        )
        return plan, float(np.minimum(out_mw, in_mw).max())
