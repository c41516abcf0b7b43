"""`vppd report audit`: all bids, results, dispatches and settlements as lines of JSON in a chain.

Each line has `hash`: SHA-256 over the previous line's hash and this line's own canonical JSON (keys
sorted, no spaces) without `hash`. The first follows 64 zeros. Who changes, drops or moves a line
breaks every hash after it; the last hash, kept elsewhere, proves the whole file.
"""

import json
import sqlite3
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from vppd.cli.report.market_rows import market_journal
from vppd.market.blocks import Block
from vppd.spine.chain import START, ChainBroken, canonical, link
from vppd.spine.schema import micros

TABLES = {  # everything ever written, not only what rules now; in the order of writing
    "market_bid": "block_at",
    "market_result": "block_at",
    "market_block": "block_at",
    "settlement_line": "block_at",
    "command": "at",
}


def audit_text(state: Path, first: date, last: date) -> str:
    """The file for the blocks of these IST days and the commands of that time. Raises OSError."""
    end = Block(last + timedelta(days=1), 1)
    with market_journal(state) as journal:
        return "".join(f"{line}\n" for line in chained(_rows(journal, Block(first, 1), end)))


def chained(rows: Iterator[dict[str, Any]]) -> Iterator[str]:
    """Each row with its place and its hash, as one line of JSON without its end."""
    before = START
    for place, row in enumerate(rows, start=1):
        body = {"seq": place, **row}
        before = link(before, canonical(body))
        yield canonical({**body, "hash": before})


def verified(text: str) -> tuple[int, str]:
    """How many lines hold, and the last hash. Raises ChainBroken."""
    before, count = START, 0
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            body = json.loads(line)
            told = body.pop("hash")
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ChainBroken(f"line {number}: no line of an audit file") from error
        before = link(before, canonical(body))
        if told != before:
            raise ChainBroken(f"line {number}: it does not follow from the lines before")
        count = number
    return count, before


def _rows(journal: sqlite3.Connection, begin: Block, end: Block) -> Iterator[dict[str, Any]]:
    """Every row in the order in which it was written."""
    parts = []
    bounds = micros(begin.start), micros(end.start)
    for rank, (table, column) in enumerate(TABLES.items()):
        names = [
            str(name)
            for _, name, *_ in journal.execute(f"PRAGMA table_info({table})")  # plain columns alone
        ]
        sql = (
            f"SELECT {', '.join(names)} FROM {table} "  # noqa: S608 - our own names
            f"WHERE {column} >= ? AND {column} < ? ORDER BY at, id"
        )
        for values in journal.execute(sql, bounds):
            row = dict(zip(names, values, strict=True))
            parts.append(((row["at"], rank, row["id"]), {"table": table, **row}))
    yield from (row for _, row in sorted(parts, key=lambda each: each[0]))
