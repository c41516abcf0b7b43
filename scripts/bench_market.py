"""A site that trades, for the bench: 16 units on the daemon's own plant and its own exchange, with
every gate of the next day open at once, so that books and forecasts are made back to back.

Two months of day-ahead and real-time prices are in its journal before it starts, and as many
quarters of an hour of a canteen's load, which is foreseen again each minute.
"""

import asyncio
import math
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from vppd.cli.scene import write_site
from vppd.core.records import Row
from vppd.core.records_market import MarketPriceRow
from vppd.core.records_years import QuarterRow
from vppd.market.blocks import BLOCKS_A_DAY, Block, block_at
from vppd.spine.clock import SystemClock
from vppd.spine.journal import SqliteJournal

DAYS = 60
AT_ONCE, TRIES = 500, 20
AREA = "S1"
UNITS = tuple(f"NORTH_{number:03}" for number in range(1, 17))
SITE = "site: {id: bench}\nmode: simulation\nclock: {sync: assume}\n"
TRADING = f"""enabled: true
dry_run: false
products: [dam, rtm]
exchange: {{area: {AREA}, portfolio: {AREA}-BENCH, requests_per_s: 50}}
gates: {{dam_open: "00:00", dam_close: "23:59", rtm_open_min: 1440, rtm_close_min: 31}}
forecast: {{load: {{renew_min: 1}}}}
"""
IDLE = "enabled: false\n"


def write(etc: Path, *, trades: bool) -> None:
    """The configuration of such a site."""
    etc.mkdir()
    write_site(etc, datetime.now(UTC), UNITS)
    (etc / "vppd.yaml").write_text(SITE)
    (etc / "market.yaml").write_text(TRADING if trades else IDLE)


def seed(state: Path) -> None:
    """Its journal, with what forecasts learn from."""
    state.mkdir()
    asyncio.run(_written(state / "journal.db"))


def tickets(state: Path) -> int:
    """Books that were made so far, sent or not."""
    with closing(sqlite3.connect(f"file:{state / 'journal.db'}?mode=ro", uri=True)) as journal:
        sql = """SELECT count(*) FROM kept WHERE name LIKE 'ticket/%'
            AND value_json ->> '$.story.rung' IN ('fresh', 'mean', 'yesterday')"""
        return int(journal.execute(sql).fetchone()[0])


def foreseen(state: Path) -> bool:
    """Whether the load was foreseen."""
    with closing(sqlite3.connect(f"file:{state / 'journal.db'}?mode=ro", uri=True)) as journal:
        sql = "SELECT count(*) FROM kept WHERE name = 'load forecast'"
        return bool(journal.execute(sql).fetchone()[0])


async def _written(path: Path) -> None:
    journal = SqliteJournal(path, SystemClock(), lambda *_: None)
    await journal.open()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(journal.run())
        for number, row in enumerate(_rows(block_at(datetime.now(UTC)).day), 1):
            if number % AT_ONCE:
                journal.append(row)
                continue
            for _ in range(TRIES):  # a busy machine may take longer than a commit waits
                if await journal.commit(row):
                    break
            else:
                raise OSError(f"{path}: it is not written")
        await journal.close()


def _rows(today: date) -> Iterator[Row]:
    """Prices and loads of the days before today, each day a little different."""
    dice, now = random.Random(1), datetime.now(UTC)
    for back in range(DAYS, 0, -1):
        level = dice.uniform(0.8, 1.2)
        for number in range(1, BLOCKS_A_DAY + 1):
            at = Block(today - timedelta(days=back), number).start
            evening = math.exp(-(((number - 78) / 9) ** 2))
            price = round(level * (3500 + 4000 * evening) + dice.gauss(0.0, 150.0), 2)
            yield MarketPriceRow(now, at, "dam", AREA, "imported", price, "bench")
            strayed = round(price + dice.gauss(-200.0, 250.0), 2)
            yield MarketPriceRow(now, at, "rtm", AREA, "imported", strayed, "bench")
            load_kw = 100.0 + 80.0 * math.exp(-(((number - 52) / 8) ** 2)) + dice.gauss(0.0, 5.0)
            load = (load_kw - 5.0, load_kw, load_kw + 5.0, load_kw)
            yield QuarterRow(at, "site", "load_kw", *load, 900)
