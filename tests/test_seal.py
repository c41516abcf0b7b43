"""Seals of frequency events: in years it shows whether a row of one was touched."""

import contextlib
import sqlite3
import subprocess
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.evidence_site import AT, evidence, journal_on_disk
from tests.journal_site import event, running
from tests.test_audit_chain import verify
from tests.test_compliance import step_event
from vppd.cli.vppd import main
from vppd.core.records import CommandRow, Row
from vppd.core.settings_evidence import EvidenceSettings
from vppd.grid.evidence import EvidenceKeeper
from vppd.spine.clock import SystemClock
from vppd.spine.schema import micros
from vppd.spine.seal import Seal, Sealer, seal_of
from vppd.spine.store import connect

ID = "F20261122T060000Z"
BEGIN = micros(AT)


class LaterClock(SystemClock):
    """Its wall clock stands where it was put."""

    wall = AT + timedelta(hours=1)

    def utc(self) -> datetime:
        return self.wall


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal with one event of 330 s."""
    keeper = EvidenceKeeper(EvidenceSettings())
    lived = [*step_event(), *(evidence(330 + n / 10) for n in range(1, 120))]
    rows: list[Row] = [row for each in lived for row in keeper.take(each)]
    path = tmp_path / "journal.db"
    journal_on_disk(path, rows)
    return path


async def looked(path: Path, clock: SystemClock, times: int = 1) -> list[tuple[object, ...]]:
    async with running(path) as site:
        sealer = Sealer(site.journal, path, clock)
        for _ in range(times):
            await sealer.look()
        return await site.journal.select("SELECT user, verb, unit, verdict, text FROM command")


def told(path: Path) -> str:
    words = ["report", "event", ID, "--state", str(path.parent)]
    shown = CliRunner().invoke(main, words)
    assert shown.exit_code == 0, shown.output
    return shown.output


def touched(path: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement)


async def test_an_event_is_sealed_once_and_its_seal_is_chained(path: Path) -> None:
    assert "It has no seal" in told(path)
    (row,) = await looked(path, LaterClock(), times=2)
    assert row[:4] == ("vppd", "seal", "site", "accepted")
    assert len(await looked(path, LaterClock())) == 1  # nor after a restart
    with contextlib.closing(connect(path, "ro")) as journal:
        sealed = seal_of(journal, ID, BEGIN)
        (count,) = journal.execute("SELECT count(*) FROM evidence_row").fetchone()
    assert sealed is not None
    assert (sealed.holds, sealed.seal.rows, sealed.rows_now) == (True, count, count)
    assert f"its {count} rows are the same now" in told(path)
    assert verify(path).exit_code == 0


async def test_an_event_is_sealed_when_its_rows_have_come(path: Path) -> None:
    clock = LaterClock()
    clock.wall = AT + timedelta(seconds=400)
    assert await looked(path, clock) == []


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE evidence_row SET measured_kw = measured_kw + 1 WHERE at = {at}", "that differ"),
        ("UPDATE evidence_row SET frequency_hz = NULL WHERE at = {at}", "that differ"),
        ("DELETE FROM evidence_row WHERE at = {at}", "that differ"),
        (
            "INSERT INTO evidence_row SELECT at + 7, 0, 0, 0, 0, 0, 0, 0, 0, 0 FROM evidence_row "
            "WHERE at = {at}",
            "that differ",
        ),
        ("DELETE FROM evidence_row", "went for their age, or were deleted"),
    ],
)
async def test_a_row_that_was_touched_shows(path: Path, statement: str, words: str) -> None:
    await looked(path, LaterClock())
    touched(path, statement.format(at=BEGIN + 5_000_000))
    shown = told(path)
    assert "NOT AS SEALED" in shown
    assert words in shown


async def test_a_seal_that_was_touched_breaks_the_chain(path: Path) -> None:
    await looked(path, LaterClock())
    touched(path, "UPDATE command SET body_json = replace(body_json, '\"rows\":', '\"rows\":1')")
    assert "NOT AS SEALED" in told(path)
    assert "command 1 was changed" in verify(path).stderr


async def test_what_is_no_seal_is_taken_for_none(path: Path) -> None:
    at = AT + timedelta(minutes=20)
    async with running(path) as site:
        for body in ("{}", "no json", '{"event": 3}', "[]"):
            row = CommandRow(at, 0, "asha", "seal", "site", body, "refused")
            assert await site.journal.commit(row)
        assert await site.journal.commit(event(1))
    assert "It has no seal" in told(path)
    assert len(await looked(path, LaterClock())) == 5


async def test_anybody_can_recompute_it_with_the_tools_of_a_shell(path: Path) -> None:
    await looked(path, LaterClock())
    with contextlib.closing(connect(path, "ro")) as journal:
        sealed = seal_of(journal, ID, BEGIN)
        assert sealed is not None
        seal: Seal = sealed.seal
        rows = journal.execute(
            f"SELECT * FROM evidence_row WHERE at BETWEEN {seal.from_at} AND {seal.to_at}"  # noqa: S608
        ).fetchall()
    lines = "".join(",".join("" if x is None else str(x) for x in row) + "\n" for row in rows)
    sums = subprocess.run(["sha256sum"], input=lines, capture_output=True, text=True, check=True)
    assert sums.stdout.split()[0] == seal.sha256


def test_a_row_that_vppd_did_not_write_stops_no_report_without_a_word(path: Path) -> None:
    touched(path, f"INSERT INTO evidence_row (at) VALUES ({BEGIN} + 7)")  # noqa: S608
    words = ["report", "event", ID, "--state", str(path.parent)]
    shown = CliRunner().invoke(main, words)
    assert shown.exit_code == 1
    assert "lacks a value that vppd always writes" in shown.stderr
