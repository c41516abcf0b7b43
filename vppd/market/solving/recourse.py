"""What stored energy is worth once much is sold already. Pure.

After a real-time session the rest of the horizon is held: sold and bought before. Energy is worth
what it saves there (a sale that cannot be delivered costs a penalty) and what trades on top of it
may still earn, each at its own cost. One linear program, solved along the stored energy; its value
is concave, so a few lines describe it. It always has a solution: what cannot be delivered is short.

Units: MW at the connection, positive is sold; MWh stored, inside the battery; Rs/MWh.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from vppd.market.blocks import BLOCK_H, Block
from vppd.market.solving.lp import FREE, Program
from vppd.market.storage import Storage, Terms

LEVELS = 9
SPILL_RS_PER_MWH = 1.0  # bought energy that is not taken: paid for already, of no use
LEAST_WINDOW_MWH = 1e-6


@dataclass(frozen=True, slots=True)
class Ahead:
    """The rest of the horizon: blocks in order, expected prices, what is held (MW), what a trade
    must bring beside fees (Rs/MWh by block), what each day has discharged (MWh), and what a MWh
    sold and not delivered costs."""

    blocks: Sequence[Block]
    price_rs_per_mwh: Sequence[float]
    held_mw: Sequence[float]
    hurdle_rs_per_mwh: Sequence[float]
    discharged_mwh: Mapping[date, float]
    short_rs_per_mwh: float


def worth_ahead(storage: Storage, terms: Terms, ahead: Ahead) -> tuple[tuple[float, float], ...]:
    """Lines (Rs at no energy, Rs per MWh stored); the worth is the lowest of them. None for an
    empty horizon or window. Raises NotSolved only when time ran out."""
    if not ahead.blocks or storage.usable_mwh <= LEAST_WINDOW_MWH:
        return ()
    levels_mwh = np.linspace(storage.low_mwh, storage.high_mwh, LEVELS)
    program, row = _program(storage, terms, ahead)
    worth_rs = program.objectives_along(row, levels_mwh.tolist())
    slopes = np.diff(worth_rs) / np.diff(levels_mwh)
    lines = [
        (float(rs - slope * mwh), float(slope))
        for rs, slope, mwh in zip(worth_rs, slopes, levels_mwh, strict=False)
    ]
    return (*lines, (float(worth_rs[-1]), 0.0))  # more than fits is worth no more


def value_at(lines: Sequence[tuple[float, float]], stored_mwh: float) -> float:
    """Rs that this energy is worth; 0 without lines."""
    return min((level + slope * stored_mwh for level, slope in lines), default=0.0)


def slope_at(lines: Sequence[tuple[float, float]], stored_mwh: float) -> float:
    """Rs per MWh stored at this energy; 0 without lines."""
    if not lines:
        return 0.0
    return min(lines, key=lambda line: (line[0] + line[1] * stored_mwh, line[1]))[1]


def _program(storage: Storage, terms: Terms, ahead: Ahead) -> tuple[Program, int]:
    """The program, and the row that holds the energy at the start."""
    count = len(ahead.blocks)
    prices = np.asarray(ahead.price_rs_per_mwh, float)
    hurdle = np.asarray(ahead.hurdle_rs_per_mwh, float) + terms.fee_rs_per_mwh
    held_mw = np.asarray(ahead.held_mw, float)
    loss = 1.0 - terms.loss_pct / 100
    program = Program()
    most_mw = [storage.discharge_at_mw(block) for block in ahead.blocks]
    out = program.columns(count, -storage.wear_rs_per_mwh * BLOCK_H, 0.0, most_mw)
    into = program.columns(count, 0.0, 0.0, [storage.charge_at_mw(each) for each in ahead.blocks])
    sold = program.columns(count, (prices * loss - hurdle) * BLOCK_H)
    bought = program.columns(count, -(prices / loss + hurdle) * BLOCK_H)
    short = program.columns(count, -ahead.short_rs_per_mwh * BLOCK_H)
    spill = program.columns(count, -SPILL_RS_PER_MWH * BLOCK_H)
    stored = program.columns(count, 0.0, storage.low_mwh, storage.high_mwh)
    program.rows(
        held_mw,
        held_mw,
        [(out, 1.0), (into, -1.0), (sold, -1.0), (bought, 1.0), (short, 1.0), (spill, -1.0)],
    )
    first_mwh = np.zeros(count)
    first_mwh[0] = storage.low_mwh
    balance = program.rows(
        first_mwh,
        first_mwh,
        [
            (stored, 1.0),
            (into, -BLOCK_H * storage.charge_efficiency),
            (out, BLOCK_H / storage.discharge_efficiency),
        ],
    )
    program.entries(balance[1:], stored[:-1], -1.0)
    for day in sorted({block.day for block in ahead.blocks}):
        places = [index for index, block in enumerate(ahead.blocks) if block.day == day]
        left_mwh = storage.day_discharge_mwh - ahead.discharged_mwh.get(day, 0.0)
        program.total(-FREE, max(left_mwh, 0.0), [(out[places], BLOCK_H)])
    return program, int(balance[0])
