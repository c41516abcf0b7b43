"""What a book may become, drawn from its curves as an exchange reads them, and whether a battery
can do it: by sums of their own, not by the code that made the book."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from numpy.typing import NDArray

from vppd.market.blocks import BLOCK_H, Block, blocks_of
from vppd.market.book import Bid, Book, Pair
from vppd.market.corridor import State
from vppd.market.fitting import Setting
from vppd.market.storage import Storage, Terms

DAY = date(2026, 3, 2)
BLOCKS = blocks_of(DAY)
TERMS = Terms()
SLACK = 2e-6  # MWh; a watt-hour or two
Numbers = NDArray[np.float64]


def prices(random: np.random.Generator, scenarios: int = 12) -> Numbers:
    """Days with a low noon and a high evening, some at the floor or the cap."""
    hours = np.arange(96) / 4
    shape = (
        4000 - 2500 * np.exp(-(((hours - 13) / 3) ** 2)) + 4500 * np.exp(-(((hours - 20) / 2) ** 2))
    )
    level = random.uniform(0.3, 1.6, (scenarios, 1))
    noise = random.normal(0, random.choice([50, 600, 2500]), (scenarios, 96))
    return np.asarray(np.clip(shape * level + noise, 0.0, 10_000.0))


def levels(bid: Bid, terms: Terms) -> list[float]:
    """The net power on every side of every limit, from the floor to the cap, MW."""
    limits = {pair.price_rs_per_mwh for pair in (*bid.sells, *bid.buys)}
    ends = {terms.floor_rs_per_mwh, terms.cap_rs_per_mwh}
    points = sorted(limits | ends)
    between = [0.5 * (low + high) for low, high in itertools.pairwise(points)]
    return [bid.cleared_mw(price) for price in sorted([*points, *between])]


def outcomes(
    book: Book, blocks: Sequence[Block], count: int, random: np.random.Generator
) -> Numbers:
    """Cleared power of many clearings, MW: a price for each block by itself, or all low, or all
    high; at a tie any part of the step."""
    table = [levels(book.bids.get(block, Bid()), TERMS) for block in blocks]
    rows = []
    style = random.integers(0, 4, count)
    for steps in table:
        each = np.array(steps)
        index = random.integers(0, len(each), count)
        index[style == 1] = 0
        index[style == 2] = len(each) - 1
        coin = random.integers(0, 2, count) * (len(each) - 1)
        index = np.where(style == 3, coin, index)
        beside = np.clip(index + random.integers(-1, 2, count), 0, len(each) - 1)
        share = np.where(random.random(count) < 0.3, random.random(count), 0.0)
        rows.append(each[index] * (1 - share) + each[beside] * share)
    return np.array(rows).T


def stored(net_mw: Numbers, storage: Storage) -> Numbers:
    """Stored energy after each block relative to the start, MWh: the battery's own sum."""
    out = np.maximum(net_mw, 0.0) / storage.discharge_efficiency
    into = np.maximum(-net_mw, 0.0) * storage.charge_efficiency
    return np.asarray(np.cumsum((into - out) * BLOCK_H, axis=1))


def broken(net_mw: Numbers, setting: Setting) -> str:
    """The first limit that an outcome breaks, or nothing."""
    storage = setting.storage
    change = stored(net_mw, storage)
    if (setting.start.high_mwh + change).max() > storage.high_mwh + SLACK:
        return "energy above the window"
    if (setting.start.low_mwh + change).min() < storage.low_mwh - SLACK:
        return "energy below the window"
    if net_mw.max() > storage.discharge_mw + 1e-9 or net_mw.min() < -storage.charge_mw - 1e-9:
        return "power"
    for column, block in enumerate(setting.blocks):
        least_mw, most_mw = storage.room_mw.get(block, (-np.inf, np.inf))
        if net_mw[:, column].max() > most_mw + 1e-9 or net_mw[:, column].min() < least_mw - 1e-9:
            return "connection"
    sold_mwh = np.maximum(net_mw, 0.0).sum(axis=1).max() * BLOCK_H
    spent_mwh = setting.start.discharged_mwh.get(DAY, 0.0)
    if sold_mwh + spent_mwh > storage.day_discharge_mwh + SLACK:
        return "cycles"
    return ""


def well_formed(book: Book, terms: Terms) -> None:
    """As the exchange takes it: grid, minimum, order, count, no crossing, nothing simultaneous."""
    for _, bid in book:
        assert 0 < len(bid.sells) + len(bid.buys) <= terms.max_pairs
        for pair in (*bid.sells, *bid.buys):
            assert terms.floor_rs_per_mwh <= pair.price_rs_per_mwh <= terms.cap_rs_per_mwh
            assert pair.price_rs_per_mwh % terms.tick_rs_per_mwh == pytest.approx(0.0, abs=1e-6)
            steps = pair.power_mw / terms.step_mw
            assert steps == pytest.approx(round(steps), abs=1e-6)
            assert pair.power_mw >= terms.min_mw - 1e-9
        for curve, sign in ((bid.sells, 1), (bid.buys, -1)):
            limits = [sign * pair.price_rs_per_mwh for pair in curve]
            powers = [pair.power_mw for pair in curve]
            assert limits == sorted(set(limits))
            assert powers == sorted(set(powers))
        if bid.sells and bid.buys:
            assert bid.buys[0].price_rs_per_mwh < bid.sells[0].price_rs_per_mwh


def a_setting(random: np.random.Generator, **more: object) -> Setting:
    """A storage of any size, somewhere in its window, known exactly or not."""
    usable_mwh = float(random.uniform(0.4, 8.0))
    low_mwh = float(random.uniform(0.0, 1.0))
    storage = Storage(
        low_mwh,
        low_mwh + usable_mwh,
        float(random.uniform(0.15, 3.0)),
        float(random.uniform(0.15, 3.0)),
        float(random.uniform(0.8, 1.0)),
        float(random.uniform(0.8, 1.0)),
        float(random.uniform(0.3, 3.0)),
        float(random.uniform(0.0, 2000.0)),
        _room(random.spawn(1)[0]),
    )
    ends = np.sort(random.uniform(low_mwh, low_mwh + usable_mwh, 2))
    if random.random() < 0.5:
        ends[1] = ends[0]
    state = State(float(ends[0]), float(ends[1]), {DAY: float(random.uniform(0.0, 0.2))})
    return replace(Setting(storage, TERMS, state, BLOCKS, {}), **more)  # type: ignore[arg-type]


def _room(random: np.random.Generator) -> dict[Block, tuple[float, float]]:
    """Of every second storage: what other load leaves of the connection, sometimes nothing."""
    if random.random() < 0.5:
        return {}
    return {
        block: (-max(random.uniform(-0.2, 3.0), 0.0), max(random.uniform(-0.2, 3.0), 0.0))
        for block in BLOCKS
        if random.random() < 0.6
    }


def wild_book(random: np.random.Generator, setting: Setting) -> Book:
    """A wish nobody thought about: any curves, far beyond the storage, off every grid."""
    bids = {}
    for block in BLOCKS:
        if random.random() < 0.4:
            continue
        limits = np.sort(random.uniform(-500, 11_000, 6))
        if random.random() < 0.3:
            limits[0], limits[-1] = 0.0, 10_000.0
        powers = np.sort(random.uniform(0.0, 2 * setting.storage.discharge_mw, 3))
        kind = random.integers(0, 3)
        sells = tuple(Pair(float(p), float(q)) for p, q in zip(limits[3:], powers, strict=True))
        buys = tuple(Pair(float(p), float(q)) for p, q in zip(limits[2::-1], powers, strict=True))
        if kind == 1:
            sells = tuple(Pair(float(p), float(q)) for p, q in zip(limits[:3], powers, strict=True))
        elif kind == 2:
            buys = tuple(
                Pair(float(p), float(q)) for p, q in zip(limits[:2:-1], powers, strict=True)
            )
        bids[block] = Bid(sells if kind != 2 else (), buys if kind != 1 else ())
    return Book(bids)
