"""An event that an operator names: over the socket, by vppctl, and as far as its report."""

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.api_site import Rig, make_rig, serving
from tests.evidence_site import ZONE, journal_on_disk
from tests.virtual_time import virtual
from vppd.cli.event_lines import named
from vppd.cli.report.command import event_report
from vppd.cli.vppctl import _parser
from vppd.core.alarms import Code
from vppd.core.decision import Decision
from vppd.core.model import Snapshot
from vppd.core.records import EventRow, EvidenceRow
from vppd.grid.frequency import Frequency
from vppd.northbound import named_events, routes
from vppd.northbound.peers import Role
from vppd.record import DecisionLog


@dataclass
class Recorded(Rig):
    """A site whose decisions are written down."""

    log: DecisionLog = field(init=False)

    def __post_init__(self) -> None:
        site = self.site
        self.log = DecisionLog(site.journal, site.gate, site.assets, site.settings.evidence)
        site.name_event = self.log.name_event

    def tell(self, decision: Decision, frequency: Frequency | None, now: Snapshot) -> None:
        super().tell(decision, frequency, now)
        self.log.note(decision, now)


def recorded(path: Path) -> Recorded:
    made = make_rig(path)
    return Recorded(made.site, made.path, made.journal, made.actuators, made.decisions)


def notes(rig: Rig, code: Code) -> list[dict[str, Any]]:
    rows = (row for row in rig.journal.rows if isinstance(row, EventRow) and row.code == code)
    return [json.loads(row.data_json) for row in rows]


def evidence(rig: Rig) -> list[EvidenceRow]:
    return [row for row in rig.journal.rows if isinstance(row, EvidenceRow)]


@virtual
async def test_an_event_that_begins_now_is_kept_with_the_minute_before(tmp_path: Path) -> None:
    rig = recorded(tmp_path / "a.sock")
    async with serving(rig, beats=700):
        now = rig.site.clock.utc()
        code, told = await rig.post("/v1/events", {"name": "step-1", "duration_s": 20})
        assert (code, told["event"], told["journaled"]) == (202, "step-1", True)
        assert "note" not in told
        assert datetime.fromisoformat(told["rows_from"]) == now - timedelta(seconds=60)
        rig.frequency_hz = 49.8
        await rig.beat(220)
        (begun,), (ended,) = (
            [each for each in notes(rig, code) if each["id"] == "step-1"]
            for code in (Code.FREQUENCY_EVENT_BEGUN, Code.FREQUENCY_EVENT)
        )
        assert (begun["trigger"], ended["ending"]) == ("named", "named")
        assert ended["end_at"] - ended["begin_at"] == 20_000_000
        rows = [row.at for row in evidence(rig)]
        assert rows == sorted(set(rows))
        assert abs(rows[0] - (now - timedelta(seconds=60))) < timedelta(seconds=0.15)
        (command,) = rig.journal.commands()
        assert (command.verb, command.verdict) == ("event", "accepted")
        journal_on_disk(tmp_path / "journal.db", rig.journal.rows)
    shown = event_report(tmp_path, "step-1", ZONE, "md")
    assert "| found by | named by an operator |" in shown
    assert "| duration | 20.0 s |" in shown
    assert "100 ms rows" not in shown


@virtual
async def test_what_memory_does_not_hold_is_said(tmp_path: Path) -> None:
    rig = recorded(tmp_path / "a.sock")
    async with serving(rig, beats=1500):
        now = rig.site.clock.utc()
        for ago_s, lasts_s, says in (
            (60, 30, None),
            (100, 90, "there are 21 s of them before the event"),
            (140, 60, "the first 19 s of the event lack them"),
            (3600, 60, "the whole event lacks them"),
        ):
            at = (now - timedelta(seconds=ago_s)).isoformat()
            body = {"name": f"ago-{ago_s}", "at": at, "duration_s": lasts_s}
            code, told = await rig.post("/v1/events", body)
            assert code == 202, told
            assert (says in told["note"]) if says else ("note" not in told), told
        await rig.beat(3)
        assert len(notes(rig, Code.FREQUENCY_EVENT)) == 4, "they are over already"
        journal_on_disk(tmp_path / "journal.db", rig.journal.rows)
    assert "no 100 ms rows of this event" in event_report(tmp_path, "ago-3600", ZONE, "md")
    assert "s of this event have no 100 ms rows" in event_report(tmp_path, "ago-140", ZONE, "md")
    assert "have no 100 ms rows" not in event_report(tmp_path, "ago-60", ZONE, "md")


@virtual
async def test_what_cannot_be_kept_is_refused_and_written_down(tmp_path: Path) -> None:
    async with serving(recorded(tmp_path / "a.sock")) as rig:
        assert (await rig.post("/v1/events", {"name": "taken"}))[0] == 202
        for body, says in (
            ({}, "name is missing"),
            ({"name": "two words"}, "letters"),
            ({"name": "F20261122T060000Z"}, "by rule"),
            ({"name": "taken"}, "already"),
            ({"name": "a", "duration_s": 4000}, "lasts up to 1800 s"),
            ({"name": "a", "duration_s": 0}, "must be 1 to"),
            ({"name": "a", "at": "yesterday"}, "ISO 8601"),
            ({"name": "a", "at": "2199-01-01T00:00:00Z"}, "within a day"),
            ({"name": "a", "power_kw": 1}, "is not known here"),
        ):
            code, told = await rig.post("/v1/events", body)
            assert (code, says in told["detail"]) == (422, True), told
        assert len(notes(rig, Code.FREQUENCY_EVENT_BEGUN)) == 1
        assert {row.verdict for row in rig.journal.commands()} == {"accepted", "refused"}


@virtual
async def test_a_name_that_the_journal_knows_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def select(sql: str, given: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        assert sql == named_events.TAKEN
        return [(1,)] if given == ("old",) else []

    rig = recorded(tmp_path / "a.sock")
    monkeypatch.setattr(rig.journal, "select", select)
    async with serving(rig):
        code, told = await rig.post("/v1/events", {"name": "old"})
        assert (code, told["type"]) == (409, "urn:vppd:problem:already-named")
        assert (await rig.post("/v1/events", {"name": "new"}))[0] == 202


@virtual
async def test_it_takes_an_operator_and_a_log(tmp_path: Path) -> None:
    route, _ = routes.find("POST", "/v1/events")
    assert (route.role, route.verb, route.stream) == (Role.OPERATOR, "event", False)
    async with serving(make_rig(tmp_path / "a.sock")) as rig:  # nothing is written down there
        code, told = await rig.post("/v1/events", {"name": "a"})
        assert (code, told["type"]) == (422, "urn:vppd:problem:not-supported")


def test_vppctl_knows_the_word() -> None:
    words = _parser().parse_args(["event", "step-1", "--at", "18:30", "--for", "2m"])
    assert (words.name, words.at, words.duration_s) == ("step-1", "18:30", 120.0)
    view = {"event": "e", "begin": "B", "end": "E", "rows_from": "R", "note": "N"}
    assert named(view) == [
        "event e: B to E",
        "rows of 100 ms from R",
        "N",
        "when it is over: vppd report event e",
    ]
