"""The chain of hashes: what was written stays provable, and whatever was touched is named."""

import contextlib
import dataclasses
import random
import sqlite3
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.journal_site import (
    AT,
    ONE_OF_EACH,
    QUICK,
    event,
    rows_of,
    running,
    trip,
    until,
    writing,
)
from tests.test_journal_faults import fill, small_disk
from vppd.cli.vppd import main
from vppd.core.records import Row
from vppd.core.records_market import MarketBidRow
from vppd.core.settings import JournalSettings
from vppd.core.settings_journal import KeepSettings
from vppd.spine.audit_watch import AuditWatch
from vppd.spine.chain import CHAINED, ChainBroken, teach
from vppd.spine.chain_walk import ORIGIN, Anchor, Walked, anchors_in, walk
from vppd.spine.clock import SystemClock
from vppd.spine.retention import ranges, spans
from vppd.spine.schema import STEPS, TABLES, bind
from vppd.spine.store import connect, prepare

__all__ = ["small_disk"]  # a fixture
ROWS = 40
KILLS = 4


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


def rows(count: int, seed: int = 1) -> list[Row]:
    """Chained rows of every kind, mixed, and some that are not."""
    chance = random.Random(seed)
    kinds = [row for row in ONE_OF_EACH if TABLES[type(row)].name in CHAINED]
    made: list[Row] = []
    for n in range(count):
        row = chance.choice(kinds) if n else kinds[0]
        code = chance.choice(["order", "configuration", "link_lost"])
        change = {"code": code} if TABLES[type(row)].name == "event" else {}
        made.append(dataclasses.replace(row, at=AT + timedelta(seconds=n), **change))  # type: ignore[arg-type]
    return made


def written(path: Path, some: list[Row]) -> None:
    prepare(path, AT, time.monotonic, 60.0, may_move_aside=True)
    with contextlib.closing(connect(path, "rw")) as connection:
        connection.execute("BEGIN")
        for row in some:
            connection.execute(TABLES[type(row)].insert, bind(row))
        connection.execute("COMMIT")


def walked(path: Path, after: Anchor = ORIGIN, anchors: tuple[Anchor, ...] = ()) -> Walked:
    with contextlib.closing(connect(path, "ro")) as connection:
        *_, last = walk(connection, after, anchors, some=7)
    return last


def broken(path: Path, after: Anchor = ORIGIN, anchors: tuple[Anchor, ...] = ()) -> str:
    with pytest.raises(ChainBroken) as found:
        walked(path, after, anchors)
    return str(found.value)


def verify(path: Path, *words: str) -> Result:
    return CliRunner().invoke(main, ["audit", "verify", "--state", str(path.parent), *words])


# --- what holds -----------------------------------------------------------------------------------


def test_a_chained_table_is_hashed_with_every_column_it_has() -> None:
    for kind in set(CHAINED) - {"forgotten"}:
        table = next(each for each in TABLES.values() if each.name == kind)
        assert set(CHAINED[kind].columns) == {"id", *table.columns}


async def test_rows_are_chained_as_the_journal_writes_them(path: Path) -> None:
    async with running(path) as site:
        assert site.journal.status().anchor is None
        for row in rows(ROWS):
            site.journal.append(row)
        assert await site.journal.commit(trip(1))
        anchor = site.journal.status().anchor
        last = walked(path)
        assert str(last.head) == anchor
        plain = sum(1 for row in rows(ROWS) if getattr(row, "code", "") == "link_lost")
        assert sum(last.entries.values()) == ROWS + 1 - plain
        assert not last.forgotten
    async with running(path) as site:
        assert site.journal.status().anchor == anchor
    assert verify(path).output.endswith(f"{anchor}\n")


@settings(deadline=None, max_examples=60)
@given(
    price=st.floats(allow_nan=True, allow_infinity=True),
    power=st.one_of(st.floats(-1e12, 1e12), st.integers(-100, 100)),
    text=st.text(),
)
def test_whatever_a_row_holds_it_verifies(price: float, power: float, text: str) -> None:
    bid = MarketBidRow(AT, AT, "iex", "dam", "d", "sell", "single", price, power, text, "sent")
    connection = sqlite3.connect(":memory:", isolation_level=None)
    teach(connection)
    for statement in (statement for step in STEPS for statement in step):
        connection.execute(statement)
    connection.execute(TABLES[MarketBidRow].insert, bind(bid))
    *_, last = walk(connection)
    assert last.entries == {"market_bid": 1}
    connection.close()


def test_rows_of_before_there_was_a_chain_are_taken_in(path: Path) -> None:
    prepare(path, AT, time.monotonic, 60.0, may_move_aside=True, steps=STEPS[:4])
    with contextlib.closing(connect(path, "rw")) as connection:
        for row in rows(ROWS):
            connection.execute(TABLES[type(row)].insert, bind(row))
    opened = prepare(path, AT, time.monotonic, 60.0, may_move_aside=True)
    assert "became" in (opened.migrated or "")
    with contextlib.closing(connect(path, "rw")) as connection:
        connection.execute(TABLES[type(trip(1))].insert, bind(trip(1)))
    last = walked(path)
    assert sum(last.entries.values()) == 1 + sum(
        getattr(row, "code", "") != "link_lost" for row in rows(ROWS)
    )


# --- what does not --------------------------------------------------------------------------------


def alter(path: Path, *statements: str) -> None:
    """As somebody would who has the file and SQLite's own shell."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


DROP = "DROP TRIGGER chain_trip_insert"
TRIP = "INSERT INTO trip (at, scope, code) VALUES (1, 'B1', 'soc_low')"
SWAP = (
    "UPDATE trip SET id = -1 WHERE id = 2",
    "UPDATE trip SET id = 2 WHERE id = 3",
    "UPDATE trip SET id = 3 WHERE id = -1",
)
ATTACKS: dict[str, tuple[tuple[str, ...], str]] = {
    "changed": (("UPDATE trip SET text = 'never' WHERE id = 3",), "trip 3 was changed"),
    "deleted": (("DELETE FROM trip WHERE id = 3",), "trip 3 was deleted"),
    "inserted": ((DROP, TRIP), "trip 9 was inserted"),
    "inserted between": (
        (DROP, "DELETE FROM trip WHERE id = 3", "UPDATE trip SET id = 3 WHERE id = 8"),
        "trip 3 was changed",
    ),
    "moved": (SWAP, "trip 2 was changed"),
    "hidden": (
        ("DELETE FROM trip WHERE id = 3", "DELETE FROM chain WHERE kind = 'trip' AND row = 3"),
        "entry 3 was deleted",
    ),
    "entries moved": (
        (
            "UPDATE chain SET seq = -1 WHERE seq = 4",
            "UPDATE chain SET seq = 4 WHERE seq = 5",
            "UPDATE chain SET seq = 5 WHERE seq = -1",
        ),
        "entry 4 (trip 5) does not follow",
    ),
    "entry changed": (("UPDATE chain SET digest = x'00' WHERE seq = 5",), "entry 5 (trip 5)"),
    "said to be forgotten": (
        (
            "DELETE FROM trip WHERE id = 3",
            "DROP TRIGGER chain_forgotten_insert",
            "INSERT INTO forgotten (at, kind, ids) VALUES (1, 'trip', '3')",
        ),
        "forgotten 1 was inserted",
    ),
    "end cut": (
        (
            "DELETE FROM trip WHERE id > 6",
            "DELETE FROM event",
            "DELETE FROM chain WHERE seq > 6",
        ),
        "the end was cut off: the chain ends with entry 6",
    ),
    "inserted where nobody looks": (
        (DROP, "INSERT INTO trip (id, at, scope, code) VALUES (-5, 1, 'B1', 'soc_low')"),
        "trip -5 was inserted",
    ),
    "no text": (("UPDATE trip SET text = x'00ff' WHERE id = 3",), "trip 3 was changed"),
    "no words": (
        ("UPDATE trip SET text = CAST(x'ff' AS TEXT) WHERE id = 3",),
        "trip 3 was changed",
    ),
    "no hash": (("UPDATE chain SET hash = 'none' WHERE seq = 5",), "entry 5 was changed"),
    "no id": (("UPDATE chain SET \"row\" = 'none' WHERE seq = 5",), "entry 5 was changed"),
    "an event disguised": (("UPDATE event SET code = 'x' WHERE code = 'order'",), "event 1 was"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_first_broken_row_is_named(path: Path, attack: str) -> None:
    order = dataclasses.replace(event(1), code="order")
    written(path, [*(trip(n) for n in range(8)), order])
    before = walked(path).head
    assert before.seq == 9
    statements, words = ATTACKS[attack]
    alter(path, *statements)
    assert words in broken(path)
    result = verify(path)
    assert result.exit_code == 1
    assert words in result.stderr


def test_who_has_no_functions_of_ours_cannot_even_insert(path: Path) -> None:
    written(path, rows(3))
    with pytest.raises(sqlite3.OperationalError, match="chain_"):
        alter(path, TRIP)


def test_a_chain_that_ends_early_or_was_made_anew_is_found_by_an_anchor(path: Path) -> None:
    written(path, [trip(n) for n in range(8)])
    anchor = walked(path).head
    cut = ("DELETE FROM trip WHERE id > 6", "DELETE FROM chain WHERE seq > 6")
    alter(path, *cut, "UPDATE sqlite_sequence SET seq = 6 WHERE name = 'chain'")
    assert walked(path).head.seq == 6  # whoever knows SQLite well leaves no trace inside
    assert "the end was cut off" in broken(path, anchors=(anchor,))
    with contextlib.closing(connect(path, "rw")) as connection:
        for n in (106, 107):
            connection.execute(TABLES[type(trip(n))].insert, bind(trip(n)))
    assert walked(path).head.seq == 8
    assert "made anew" in broken(path, anchors=(anchor,))
    log = f"Nov 22 vppd[1]: audit_anchor: {anchor}\nNov 22 vppd[1]: ready"
    assert anchors_in(log) == [anchor]
    (path.parent / "log").write_text(log)
    assert verify(path).exit_code == 0
    for words in (["--anchor", str(anchor)], ["--anchors", str(path.parent / "log")]):
        assert "made anew" in verify(path, *words).stderr
    assert verify(path, "--anchor", "7").exit_code == 2


def test_only_what_is_new_is_looked_at_after_what_held(path: Path) -> None:
    written(path, rows(20))
    held = walked(path).head
    with contextlib.closing(connect(path, "rw")) as connection:
        for row in rows(20, seed=2):
            connection.execute(TABLES[type(row)].insert, bind(row))
    new = walked(path, held)
    assert new.head == walked(path).head
    assert sum(new.entries.values()) == new.head.seq - held.seq
    alter(path, f"DELETE FROM chain WHERE seq = {held.seq + 1}")  # noqa: S608
    assert f"entry {held.seq + 1} was deleted" in broken(path, held)
    assert "is not what it was" in broken(path, Anchor(held.seq, "0" * 64))
    assert verify(path, "--after", str(held)).exit_code == 1


# --- years ----------------------------------------------------------------------------------------


async def test_rows_that_went_for_their_age_are_no_breach(path: Path) -> None:
    bounds = dataclasses.replace(QUICK, keep_house_s=0.0, trim_rows=4)
    keep = KeepSettings(records_days=1)
    old = [dataclasses.replace(row, at=AT - timedelta(days=3000)) for row in rows(30)]
    async with running(path, bounds, keep=keep) as site:
        for row in old:
            site.journal.append(row)
        newest = datetime.now(UTC)
        for n in range(30):  # each write is followed by a step of retention
            assert await site.journal.commit(dataclasses.replace(trip(n), at=newest))
        last = walked(path)
    gone = rows_of(path, "SELECT kind, ids FROM forgotten")
    count = sum(b - a + 1 for _, ids in gone for a, b in ranges(str(ids)))
    assert last.forgotten == count > 10
    assert rows_of(path, "SELECT count(*) FROM market_bid")[0][0] == 1  # the newest stays
    alter(path, "UPDATE forgotten SET ids = '900' WHERE id = 1")
    assert "was deleted" in broken(path)


async def test_rows_that_went_for_room_are_no_breach(path: Path) -> None:
    bounds = dataclasses.replace(QUICK, keep_house_s=0.0, trim_rows=300)
    async with running(path, bounds, JournalSettings(max_mb=16)) as site:
        for n in range(900):
            site.journal.append(dataclasses.replace(event(n, "x" * 20_000), code="order"))
            if n % 50 == 0:
                await until(lambda: not site.journal.status().queued_rows)
        await until(lambda: not site.journal.status().queued_rows)
        last = walked(path)
    assert last.entries["event"] == 900
    assert last.forgotten > 100


@given(st.sets(st.integers(1, 300), min_size=1))
def test_spans_name_exactly_their_ids(ids: set[int]) -> None:
    named = {id_ for a, b in ranges(spans(sorted(ids))) for id_ in range(a, b + 1)}
    assert named == ids


# --- faults ---------------------------------------------------------------------------------------


def test_kill_9_leaves_a_whole_chain_with_every_acknowledged_row(path: Path) -> None:
    acknowledged: set[int] = set()
    chance = random.Random(7)
    for round_ in range(KILLS):
        with writing(path, 100_000 * round_) as process:
            assert process.stdout is not None
            for _ in range(chance.randrange(5, 60)):
                acknowledged.add(int(process.stdout.readline()))
            process.kill()
            acknowledged |= {int(line) for line in process.stdout if line.endswith("\n")}
        last = walked(path)
        stored = {int(str(text)) for (text,) in rows_of(path, "SELECT text FROM trip")}
        assert acknowledged <= stored
        assert last.entries["trip"] == len(stored)


async def test_a_disk_that_fills_up_breaks_no_link(small_disk: Path) -> None:
    path = small_disk / "journal.db"
    bounds = dataclasses.replace(QUICK, commit_s=60.0)
    async with running(path, bounds) as site:
        for round_ in range(3):
            filler = fill(small_disk)
            verdicts = [await site.journal.commit(trip(100 * round_ + n)) for n in range(40)]
            assert not verdicts[-1]
            filler.unlink()
            await until(lambda: not site.troubles.standing())
        await until(lambda: not site.journal.status().queued_rows)
        last = walked(path)
    assert last.entries == {"trip": 120}
    assert str(last.head) == site.journal.status().anchor


async def test_a_transaction_that_fails_leaves_no_entry(path: Path) -> None:
    keyless = dataclasses.replace(trip(5), at="never")  # type: ignore[arg-type]
    async with running(path) as site:
        site.journal.append(keyless)
        wrong = dataclasses.replace(ONE_OF_EACH[4], unit=None)  # type: ignore[arg-type]
        site.journal.append(wrong)  # refused by the database: the batch is tried again in halves
        for n in range(20):
            site.journal.append(trip(n))
        assert await site.journal.commit(trip(99))
        assert walked(path).entries["trip"] >= 21


async def test_the_daemon_tells_a_breach_and_that_it_ended(path: Path) -> None:
    told: list[str] = []
    async with running(path) as site:
        assert await site.journal.commit(trip(1))
        watch = AuditWatch(path, SystemClock(), lambda: site.journal.status().anchor, told.append)
        for n in range(2, 5):
            assert await site.journal.commit(trip(n))
        await watch.look()
        assert await site.journal.commit(trip(5))
        alter(path, "UPDATE trip SET text = 'x' WHERE id = 5")
        await watch.look()
        alter(path, "UPDATE trip SET text = '5' WHERE id = 5")
        await watch.look()
    assert told == ["", "trip 5 was changed (entry 5)", ""]


def test_a_journal_without_a_chain_says_what_to_do(path: Path) -> None:
    prepare(path, AT, time.monotonic, 60.0, may_move_aside=True, steps=STEPS[:4])
    result = verify(path)
    assert result.exit_code == 1
    assert "start this vppd once" in result.stderr
