"""What `vppctl status` and `top` say to the operator on shift: what is old is said to be old."""

import math
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.evidence_site import journal_on_disk
from vppd.cli.alarm_lines import alarm_lines, orders_line
from vppd.cli.report.day_rows import day_rows
from vppd.cli.screen import picture
from vppd.cli.story import tell
from vppd.cli.tables import planned, units, why
from vppd.core.alarms import Code
from vppd.core.model import Clamp
from vppd.core.records import SetpointRow, SiteRow
from vppd.northbound.views import clamps
from vppd.record import clamps_json

AT = "2026-11-23 10:03:12 IST"
LONG_AGO = "2026-11-21 10:03:12 IST"


def alarm(**more: Any) -> dict[str, Any]:
    plain = {"code": "soc_low", "unit": "A", "level": "warning", "text": "soc 10.0 %"}
    return {**plain, "since": AT, "age_s": 300.0, "remedy": None, "now": None, **more}


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({}, "WARNING soc_low A at 10:03:12 IST (5 min ago): soc 10.0 %"),
        (
            {"now": "soc 9.1 %"},
            "WARNING soc_low A now: soc 9.1 %; at 10:03:12 IST (5 min ago): soc 10.0 %",
        ),
        (
            {"now": "soc 10.0 %"},
            "WARNING soc_low A now: soc 10.0 %; since 10:03:12 IST (5 min ago)",
        ),
        (
            {"since": LONG_AGO, "age_s": 172800.0},
            f"WARNING soc_low A at {LONG_AGO} (2 d ago): soc 10.0 %",
        ),
    ],
)
def test_a_value_of_an_alarm_is_of_now_or_said_to_be_of_then(
    more: dict[str, Any], line: str
) -> None:
    assert alarm_lines([alarm(**more)]) == [line]


def test_a_remedy_has_a_line_of_its_own_and_calm_says_so() -> None:
    assert alarm_lines([alarm(remedy="charge it")])[1] == "    charge it"
    assert alarm_lines([]) == ["no alarms"]


def unit(**more: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "id": "A",
        "state": "running",
        "asked_kw": 5.0,
        "setpoint_kw": 5.0,
        "power_kw": 5.0,
    }
    read: dict[str, Any] = {
        "soc_pct": 50.0,
        "bound_by": [],
        "room": None,
        "read_at": AT,
        "read_age_s": 0.2,
    }
    return {**plain, **read, **more}


def shown(**more: Any) -> list[str]:
    return units({"units": [unit(**more)]})[1:]


def test_a_lost_unit_shows_no_power_as_if_it_were_of_now() -> None:
    assert shown()[0].split()[4] == "+5.0"
    assert len(shown()) == 1
    row, note = shown(state="lost", read_age_s=8.0)
    assert row.split()[4] == "?"
    assert note == "A: no reading since 10:03:12 IST (8.0 s ago)"
    assert len(shown(state="lost")) == 1, "another device of it measures"
    row, note = shown(state="lost", power_kw=None, read_age_s=None, read_at=None)
    assert (row.split()[4], note) == ("?", "A: no reading yet")


def planning(priority: str) -> str:
    plan: dict[str, Any] = {"unit": "site", "power_kw": 12.0, "source": "who", "priority": priority}
    plan |= {"expires_in_s": 13.0, "expires_at": "2026-11-23 10:15:00 IST"}
    return planned({"plan": plan, "expected_kw": 1.0, "bound_by": [], "units": [], "replaced": []})[
        0
    ]


def test_a_plan_says_what_its_time_means() -> None:
    end = "ends in 13 s (at 10:15:00 IST)"
    assert planning("operator") == f"plan site +12.0 kW by who, {end}"
    assert planning("schedule") == f"plan site +12.0 kW by who, unless renewed {end}"


def test_orders_that_are_off_are_told_and_those_that_are_on_are_not() -> None:
    off = {"enabled": False, "by": "operator:ann", "since": AT}
    line = f"orders: off since {AT}, by operator:ann; vppctl order on"
    assert orders_line({"orders": off}) == [line]
    assert orders_line({"orders": {**off, "enabled": True}}) == []
    assert orders_line({}) == orders_line({"orders": None}) == []


def test_top_tells_of_orders_that_are_off_and_of_old_power() -> None:
    view: dict[str, Any] = {
        "site": "lab",
        "state": "running",
        "mode": "hardware",
        "at": "2026-11-22T06:00:00.000Z",
        "uptime_s": 600.0,
        "sentence": "owe +40.0 kW",
        "base_source": "schedule",
        **dict.fromkeys(("frequency_hz", "rocof_hz_per_s", "frequency_source", "band")),
        **dict.fromkeys(("owed_kw", "cleared_kw", "measured_kw", "base_kw", "droop_kw")),
        **dict.fromkeys(("droop_owed_kw", "market")),
        "orders": {"enabled": False, "by": "ann", "since": AT},
        "units": [unit(state="lost", power_kw=0.0, read_age_s=8.0, bound_by=["link_lost"])],
        "alarms": [alarm(), alarm(now="soc 9.1 %")],
        "ticks": {"count": 6000, "late": 0, "lag_p99_ms": 1.0},
        "version": "0.0.test",
    }
    lines = [line.plain for line in picture(view, "Asia/Kolkata", [], 100, 24)]
    assert any("orders off by ann" in line for line in lines)
    (row,) = [line for line in lines if line.startswith("A ")]
    assert row.split()[2] == "?"
    assert row.endswith("link_lost (read 8.0 s ago)")
    assert "warning soc_low A 5 min ago: soc 10.0 %" in lines
    assert "warning soc_low A 5 min: soc 9.1 %" in lines


# ---- clamps ---------------------------------------------------------------------------------

DAMPED = Clamp(Code.DROOP_DAMPING, 35.21, 35.19)
NAMED = Clamp(Code.READING_STALE, 0.0, 0.0, "pack_v stale")
CUT = Clamp(Code.ROOM, 50.0, 40.0)


def test_what_was_asked_and_is_no_number_is_told() -> None:
    assert Clamp(Code.ROOM, math.nan, 0.0).counts
    assert Clamp(Code.ROOM, math.inf, 40.0).counts
    assert not DAMPED.counts


def test_a_clamp_that_cuts_nothing_that_is_seen_is_not_told() -> None:
    made = [DAMPED, CUT, NAMED, *(Clamp(NAMED.why, 0.0, 0.0, f"{n}") for n in range(9))]
    assert "droop_damping" not in clamps_json(made)
    first, second = clamps(made)
    assert (first["code"], first["after_kw"]) == ("room", 40.0)
    assert second["detail"] == "pack_v stale; 0; 1 and 7 more", "and one reason is one line"


def test_why_says_who_cut_and_who_only_holds() -> None:
    site: dict[str, Any] = dict.fromkeys(
        ("owed_kw", "base_kw", "droop_owed_kw", "frequency_hz"), 1.0
    )
    live: dict[str, Any] = {"from": "live", "unit": "A", "state": "stopped", "at": AT, "site": site}
    live |= {"asked_kw": 0.0, "base_kw": 0.0, "frequency_kw": 0.0, "asked_kvar": 0.0}
    live |= {"got_kw": 0.0, "got_kvar": 0.0, "outcome": "held", "read_back_kw": 0.0}
    lines = why({**live, "measured_kw": 0.0, "clamps": clamps([CUT, NAMED])})
    assert any(line.startswith("  cut        room +50.0 -> +40.0 kW") for line in lines)
    assert any(line.startswith("  held       reading_stale at +0.0 kW") for line in lines)


def test_reports_count_only_what_a_site_clamp_cut(tmp_path: Path) -> None:
    begin = datetime(2026, 11, 22, tzinfo=UTC)
    rows: list[Any] = []
    for second in range(60):
        at = begin.replace(minute=second // 60, second=second % 60)
        text = '[["droop_damping",35.2,35.2,""],["room",50.0,40.0,""]]'
        rows.append(SiteRow(at, 50.0, 0.0, "pmu", 1.0, 0.0, 0.0, 1.0, 1.0, text))
        bound = '[["link_lost",0.0,0.0,""]]'
        rows.append(
            SetpointRow(at, "A", "lost", 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, bound, "", None, None)
        )
    path = tmp_path / "journal.db"
    journal_on_disk(path, rows)
    story = tell(path, {})
    assert "droop_damping" not in story
    assert "room" in story
    assert "link_lost" in story, "a unit is bound by who makes its share smaller before"

    from_us = int(begin.timestamp() * 1e6)
    with sqlite3.connect(path) as journal:
        seen = day_rows(journal, from_us, from_us + 60_000_000, ())
    assert {each.code for each in seen.clamps} == {"room", "link_lost"}
