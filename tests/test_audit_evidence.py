"""What an auditor gets besides the chain itself: anchors, when they are told, and what is shown of
rows that are gone."""

import contextlib
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.journal_site import running, trip
from tests.test_audit_chain import alter, broken, rows, verify, walked, written
from vppd.spine.audit_watch import AuditWatch
from vppd.spine.chain_walk import Anchor
from vppd.spine.clock import SystemClock
from vppd.spine.schema import TABLES, bind
from vppd.spine.store import connect


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


def test_anchors_of_before_the_walk_begins_are_looked_for_too(path: Path) -> None:
    written(path, [trip(n) for n in range(8)])
    early = walked(path).head
    with contextlib.closing(connect(path, "rw")) as connection:
        for n in range(8, 12):
            connection.execute(TABLES[type(trip(n))].insert, bind(trip(n)))
    held = walked(path).head
    assert walked(path, held, (early, held)).head == held
    other = Anchor(early.seq, "0" * 64)
    assert "is not what was anchored" in broken(path, held, (other,))
    assert verify(path, "--after", str(held), "--anchor", str(other)).exit_code == 1


def test_a_row_let_go_before_its_turn_is_shown(path: Path) -> None:
    """Whoever knows the chain writes a `forgotten` that follows; its order gives it away."""
    written(path, [row for row in rows(200) if TABLES[type(row)].name == "command"])
    whole = walked(path)
    assert whole.entries["command"] > 9
    assert not whole.odd
    with contextlib.closing(connect(path, "rw")) as connection:
        for ids, gone in (("1-2", "1, 2"), ("7", "7")):
            connection.execute(f"DELETE FROM command WHERE id IN ({gone})")  # noqa: S608
            connection.execute(
                "INSERT INTO forgotten (at, kind, ids) VALUES (1, 'command', ?)", (ids,)
            )
    assert (walked(path).forgotten, walked(path).odd) == (3, ("command 7",))
    shown = verify(path)
    assert shown.exit_code == 0
    assert "NOTE: command 7 went though older ones are still there" in shown.output
    assert str(walked(path).head) == shown.output.splitlines()[-1]


def test_a_journal_that_begins_to_be_written_is_not_called_broken(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(path, [trip(n) for n in range(8)])
    alter(path, "UPDATE trip SET text = 'never' WHERE id = 3")
    for unmoved, exit_words in ((True, "BROKEN"), (False, "once more")):
        monkeypatch.setattr("vppd.cli.last_rows.unmoved_since_now", lambda _, u=unmoved: lambda: u)
        assert exit_words in verify(path).stderr


class HandClock(SystemClock):
    """Its time is what it was set to."""

    at_s = 1000.0

    def now_s(self) -> float:
        return self.at_s


async def test_the_anchor_is_told_when_there_are_new_rows_and_each_hour(path: Path) -> None:
    clock = HandClock()
    async with running(path) as site:
        watch = AuditWatch(path, clock, lambda: site.journal.status().anchor, lambda _: None)
        anchors = []
        for after_s, row in ((0.0, 1), (300.0, 2), (300.0, None), (3300.0, None), (300.0, None)):
            clock.at_s += after_s
            if row is not None:
                assert await site.journal.commit(trip(row))
            with capture_logs() as told:
                await watch.look()
            anchors.append([each["text"].partition(":")[0] for each in told])
    assert anchors == [["1"], ["2"], [], ["2"], []]
