"""The chain of hashes over what must never be changed: sums and SQL. Pure: no file, no clock.

Every row of a chained table gets an entry in `chain`, made by a trigger in the transaction that
writes the row, so that neither can be on disk without the other:

* `digest` is the SHA-256 of the row's canonical JSON: `[kind, {column: value, ...}]`, keys sorted.
* `hash` is the SHA-256 of the hash of the entry before (64 zeros before the first) and the digest,
  both as hexadecimal text. Who changes, drops, adds or moves a row breaks it from there on.

Rows whose time has come are deleted with their ids written into `forgotten`, which is chained too;
the entries of deleted rows stay, so that the links still hold. The newest entry's `seq:hash`, kept
elsewhere (an *anchor*), proves that the end was not cut off and that all was not made anew.

Chained are commands, trips, bids, results, block accounts, settlements, and of the events those
that say what was ordered, submitted, commissioned or configured. `vppd audit verify` walks it.
"""

import hashlib
import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

FIRST_SCHEMA = 5
"""The first with a chain."""

START = "0" * 64
"""What the first link follows."""

EVENT_CODES = (
    *("order", "market_submission", "commissioned"),
    *("configuration", "reload", "started", "stopped"),
)
_EVENT_WHERE = f"code IN ({', '.join(repr(code) for code in EVENT_CODES)})"


class ChainBroken(ValueError):  # noqa: N818 - named for what was found
    """Something that does not follow from what was before; the message says what."""


@dataclass(frozen=True, slots=True)
class Chained:
    """A table whose rows are chained: the columns that are hashed, and which rows (all: 1)."""

    kind: str
    columns: tuple[str, ...]
    where: str = "1"

    @property
    def select(self) -> str:
        """SQL of its chained rows from the id after `?`, as the columns in order, id first."""
        return (
            f"SELECT {_names(self.columns)} FROM {self.kind} "  # noqa: S608 - our own names
            f"WHERE id > ? AND {self.where} ORDER BY id"
        )


def _chained(kind: str, columns: str, where: str = "1") -> Chained:
    return Chained(kind, ("id", "at", *columns.split()), where)


_ALL = (
    _chained("command", "uid user verb unit body_json verdict text"),
    _chained("trip", "scope code action by text"),
    _chained("event", "code unit level text data_json", _EVENT_WHERE),
    _chained(
        "market_bid",
        "block_at exchange product session side kind price_rs_per_mwh power_mw book state text",
    ),
    _chained(
        "market_result",
        "block_at exchange product session cleared_mw price_rs_per_mwh state book text",
    ),
    _chained(
        "market_block",
        "block_at bid_sell_mwh bid_buy_mwh dam_mwh rtm_mwh scheduled_mwh droop_mwh order_mwh "
        "sras_mwh metered_mwh deviation_mwh causes_json frequency_hz soc_plan_pct soc_pct "
        "discharged_mwh usable_mwh wear_rs rows_json metered_by",
    ),
    _chained(
        "settlement_line",
        "block_at kind energy_mwh rate_p_per_kwh amount_paise rule source verified text rows_json",
    ),
    _chained("forgotten", "kind ids"),
)
CHAINED: Mapping[str, Chained] = {each.kind: each for each in _ALL}
"""By table. A released entry is never changed: old rows were hashed by these very columns."""

HEAD = "SELECT seq, lower(hex(hash)) FROM chain ORDER BY seq DESC LIMIT 1"
"""The newest entry, none in a journal without chained rows."""


def canonical(body: object) -> str:
    """One text for equal contents: keys sorted, no spaces, ASCII."""
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def link(before: str, words: str) -> str:
    """The hash that `words` get after the hash `before`, both hexadecimal or text."""
    return hashlib.sha256((before + words).encode()).hexdigest()


def digest(kind: str, columns: Sequence[str], values: Sequence[object]) -> str:
    """The digest of one row."""
    body = dict(zip(columns, values, strict=True))
    return hashlib.sha256(canonical([kind, body]).encode()).hexdigest()


def teach(connection: sqlite3.Connection) -> None:
    """Give a connection the two functions of the triggers. Without them it cannot write a chained
    row at all. Raises sqlite3.Error."""
    connection.create_function("chain_digest", -1, _sql_digest, deterministic=True)
    connection.create_function("chain_link", 2, _sql_link, deterministic=True)
    connection.execute("PRAGMA trusted_schema = ON")  # or triggers may not call functions of ours


def _sql_digest(kind: str, *values: object) -> bytes:
    return bytes.fromhex(digest(kind, CHAINED[kind].columns, values))


def _sql_link(before: bytes | None, row_digest: bytes) -> bytes:
    return bytes.fromhex(link(before.hex() if before else START, row_digest.hex()))


def chain_step(at_utc: str) -> tuple[str, ...]:
    """The statements that begin the chain and take in the rows that are already there; `at_utc` is
    the column that shows `at` as text."""
    return (
        """CREATE TABLE chain (seq INTEGER PRIMARY KEY AUTOINCREMENT,
            kind TEXT NOT NULL, row INTEGER NOT NULL, digest BLOB NOT NULL, hash BLOB NOT NULL)""",
        f"""CREATE TABLE forgotten (id INTEGER PRIMARY KEY AUTOINCREMENT,
            at INTEGER NOT NULL, kind TEXT NOT NULL, ids TEXT NOT NULL, {at_utc})""",
        *(_trigger(each, "INSERT") for each in _ALL),
        *(line for each in _ALL for line in _take_in(each)),
    )


def _take_in(each: Chained) -> tuple[str, ...]:
    """Chain the rows that were written before there was a chain, in the order of their ids."""
    return (
        _trigger(each, "UPDATE"),
        f"UPDATE {each.kind} SET id = id",  # noqa: S608 - our own name
        f"DROP TRIGGER chain_{each.kind}_update",
    )


def _trigger(each: Chained, act: str) -> str:
    values = ", ".join(f'NEW."{column}"' for column in each.columns)
    where = each.where.replace("code IN", "NEW.code IN")
    return f"""CREATE TRIGGER chain_{each.kind}_{act.lower()} AFTER {act} ON {each.kind}
        WHEN {where} BEGIN
        INSERT INTO chain (kind, row, digest, hash) SELECT '{each.kind}', NEW.id, d.digest,
            chain_link((SELECT hash FROM chain ORDER BY seq DESC LIMIT 1), d.digest)
        FROM (SELECT chain_digest('{each.kind}', {values}) AS digest) AS d;
        END"""  # noqa: S608 - our own names


def _names(columns: Sequence[str]) -> str:
    return ", ".join(f'"{column}"' for column in columns)
