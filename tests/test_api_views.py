"""What the socket shows: a real server on a real Unix socket, asked like a client would."""

import asyncio
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.api_site import PMU, UNITS, Rig, make_rig, serving
from tests.virtual_time import VirtualClock, virtual
from vppd.core.alarms import Code
from vppd.core.model import (
    SITE,
    LinkChange,
    Phasor,
    Plan,
    Point,
    Priority,
    ReadBack,
    ReadBackResult,
    Synchro,
    UnitId,
)
from vppd.core.settings import BuildingSettings
from vppd.core.settings_market import MarketSettings
from vppd.northbound.problems import Problem, encode, plain
from vppd.northbound.reasons import moment
from vppd.record import DecisionLog
from vppd.spine.journal import SqliteJournal

B1, B2, B3, B4 = UNITS
IST = "Asia/Kolkata"


def schedule(rig: Rig, power_kw: float, unit: UnitId = SITE) -> None:
    now_s = rig.site.clock.now_s()
    rig.site.bus.publish(Plan(unit, power_kw, now_s + 60.0, "schedule", Priority.SCHEDULE, now_s))


async def told(rig: Rig, log: DecisionLog, beats: int) -> None:
    """Tick, and write the decisions down as the daemon does."""
    for _ in range(beats):
        await rig.site.clock.sleep_until(rig.site.clock.now_s() + 0.1)
        rig.read()
        decision, frequency, now = rig.site.tick.once()
        rig.tell(decision, frequency, now)
        log.note(decision, now)


def keys(*words: str) -> set[str]:
    return set(" ".join(words).split())


@virtual
async def test_status_has_the_shape_others_read(tmp_path: Path) -> None:
    async with serving(make_rig(tmp_path / "v.sock")) as rig:
        rig.frequency_hz = 49.7
        await rig.beat(2)
        schedule(rig, 100.0)
        await rig.beat(20)
        code, status = await rig.get("/v1/status")
    assert code == 200
    assert status.keys() >= keys(
        "site mode state shut_by base_kw droop_kw owed_kw cleared_kw frequency_hz units alarms",
        "uptime_s ticks droop_owed_kw base_source sentence version diagnostics",
    )
    assert (status["site"], status["mode"], status["state"]) == ("lab", "hardware", "running")
    assert status["shut_by"] is None
    assert status["droop_owed_kw"] == pytest.approx(48.0)
    assert status["frequency_hz"] == 49.7
    assert status["base_source"] == "schedule"
    assert status["owed_kw"] == pytest.approx(status["base_kw"] + 48.0)
    assert status["cleared_kw"] == pytest.approx(
        sum(each["setpoint_kw"] for each in status["units"])
    )
    assert status["sentence"].startswith("owe +")
    assert [each["id"] for each in status["units"]] == ["B1", "B2", "B3", "B4"]
    assert status["units"][0].keys() >= keys("id state power_kw setpoint_kw soc_pct bound_by")
    assert status["ticks"].keys() >= keys("count late lag_p99_ms")
    [alarm] = status["alarms"]
    assert alarm.keys() >= keys("code unit since text")
    assert (alarm["code"], alarm["unit"]) == ("frequency_low", "site")
    assert status["diagnostics"] == {"tasks": {"tick": "running"}}


@virtual
async def test_an_absent_value_is_null_never_a_guess(tmp_path: Path) -> None:
    async with serving(make_rig(tmp_path / "v.sock")) as rig:
        rig.lose(B2, Point.SOC_PCT)
        rig.lose(B3, Point.POWER_KW)
        await rig.beat(2)
        status = (await rig.get("/v1/status"))[1]
        telemetry = (await rig.get("/v1/units/B2/telemetry"))[1]
        campus = (await rig.get("/v1/campus/telemetry"))[1]
        capacity = (await rig.get("/v1/capacity"))[1]
    assert status["units"][1]["soc_pct"] is None
    assert status["units"][2]["power_kw"] is None
    assert status["measured_kw"] is None, "a sum with an unknown part is unknown"
    assert telemetry["soc_pct"] is None
    assert telemetry["quality"]["soc_pct"] == "missing"
    assert campus["soc_pct"] is None
    assert campus["known"]["soc_units"] == 3
    assert campus["power_kw"] is None
    assert capacity["available_discharge_kwh"] is None
    assert capacity["unknown"] == ["B2"]
    assert capacity["rated_power_kw"] == 400.0


@virtual
async def test_telemetry_has_the_shape_others_read(tmp_path: Path) -> None:
    async with serving(make_rig(tmp_path / "v.sock")) as rig:
        code, told = await rig.get("/v1/units/B1/telemetry")
        age = rig.site.clock.utc() - datetime.fromisoformat(told["at"])
    assert code == 200
    assert told.keys() >= keys(
        "unit at soc_pct soh_pct voltage_v current_a temperature_c power_kw reactive_kvar",
        "frequency_hz quality",
    )
    assert (told["unit"], told["soc_pct"], told["temperature_c"]) == ("B1", 50.0, 25.0)
    assert told["quality"]["power_kw"] == "good"
    assert told["at"].endswith("Z")
    assert timedelta(seconds=-0.01) < age < timedelta(seconds=10)


@virtual
async def test_the_site_in_one_word(tmp_path: Path) -> None:
    rig = make_rig(tmp_path / "v.sock")
    words = []
    async with serving(rig, beats=0):

        async def note() -> None:
            words.append((await rig.get("/v1/status"))[1]["state"])

        await note()
        await rig.beat(5)
        await note()
        schedule(rig, 40.0)
        await rig.beat(30)
        await note()
        rig.values[B1, Point.SOC_PCT] = 10.0
        await rig.beat(30)
        await note()
        rig.values[B1, Point.SOC_PCT] = 50.0
        rig.site.gate.trip(SITE, Code.EMERGENCY_STOP, "test", "me")
        await rig.beat(2)
        await note()
        rig.site.gate.reset(SITE, "me")
        rig.site.gate.trip(B4, Code.RIVAL, "test", "me")
        await rig.beat(2)
        await note()
    # an empty battery gives nothing: the others carry its share, and the site is not whole
    assert words == ["starting", "idle", "running", "degraded", "shut", "degraded"]


@virtual
async def test_a_unit_that_may_do_nothing_says_who_holds_it(tmp_path: Path) -> None:
    async with serving(make_rig(tmp_path / "v.sock")) as rig:
        rig.site.gate.disable(B1, "me")
        rig.site.gate.trip(B2, Code.OVER_TEMPERATURE, "61.0 °C", "vppd")
        rig.lose(B3, Point.POWER_KW)
        await rig.beat(2)
        lines = {each["id"]: each for each in (await rig.get("/v1/units"))[1]["units"]}
        detail = (await rig.get("/v1/units/B2"))[1]
    assert (lines["B1"]["state"], lines["B1"]["bound_by"]) == ("disabled", ["disabled"])
    assert (lines["B2"]["state"], lines["B2"]["bound_by"]) == ("tripped", ["over_temperature"])
    assert "reading_missing" in lines["B3"]["bound_by"]
    assert lines["B4"]["bound_by"] == []
    assert [each["code"] for each in detail["limits"]] == ["rating", "over_temperature"]
    assert detail["latched"][0]["text"] == "61.0 °C"
    assert detail["settings"]["rated_power_kw"] == 100.0
    assert detail["link"] == {"up": True}


@virtual
async def test_health_is_about_control_not_about_power(tmp_path: Path) -> None:
    rig = make_rig(tmp_path / "v.sock")
    async with serving(rig, beats=0):
        assert (await rig.get("/v1/health"))[0] == 503
        await rig.beat(5)
        rig.site.gate.trip(SITE, Code.EMERGENCY_STOP, "test", "me")
        await rig.beat()
        assert (await rig.get("/v1/health"))[0] == 200, "shut, but in control"
        decided_s = rig.decisions[0].now_s
        await rig.site.clock.sleep_until(decided_s + 1.0)
        code, problem = await rig.get("/v1/health")
    assert code == 503
    assert problem["type"] == "urn:vppd:problem:not-controlling"
    assert problem["tick_age_s"] >= 1.0


@virtual
async def test_frequency_has_the_shape_others_read(tmp_path: Path) -> None:
    async with serving(make_rig(tmp_path / "v.sock")) as rig:
        rig.frequency_hz = 49.45
        await rig.beat(5)
        now_s = rig.site.clock.now_s() + 0.1
        await rig.site.clock.sleep_until(now_s)
        phasors = (Phasor("VA", 7967.4, -12.5, "V"), Phasor("IA", 101.0, 12.0, "A"))
        rig.site.bus.publish(
            Synchro(
                PMU, 49.45, now_s, 0.5, rocof_hz_per_s=-0.3, time_quality_s=1e-6, phasors=phasors
            )
        )
        rig.tell(*rig.site.tick.once())
        code, told = await rig.get("/v1/frequency?history=300")
        plain_view = (await rig.get("/v1/frequency"))[1]
    assert code == 200
    assert told.keys() >= keys(
        "at frequency_hz rocof_hz_per_s age_s source quality band alarm phasors statistics"
    )
    assert (told["frequency_hz"], told["rocof_hz_per_s"], told["source"]) == (49.45, -0.3, "pmu")
    assert (told["band"], told["alarm"]) == ("critical_low", "critical_low")
    assert told["phasors"][0] == {
        "name": "VA",
        "magnitude": 7967.4,
        "angle_deg": -12.5,
        "unit": "V",
    }
    assert told["statistics"].keys() == keys("mean_hz min_hz max_hz std_hz")
    assert told["statistics"]["min_hz"] == 49.45
    assert told["sources"][0]["time_quality_s"] == 1e-6
    assert 0.0 <= told["age_s"] < 5.0
    age_s, hz = told["history"][-1]
    assert hz == 49.45
    assert age_s >= 0.0
    assert "history" not in plain_view


@virtual
async def test_without_a_frequency_nothing_is_invented(tmp_path: Path) -> None:
    rig = make_rig(tmp_path / "v.sock")
    rig.frequency_hz = None
    for unit in UNITS:
        rig.values[unit, Point.FREQUENCY_HZ] = None
    async with serving(rig, beats=60):
        told = (await rig.get("/v1/frequency"))[1]
        status = (await rig.get("/v1/status"))[1]
    for name in ("at", "frequency_hz", "rocof_hz_per_s", "age_s", "source", "quality", "band"):
        assert told[name] is None
    assert told["alarm"] == "lost"
    assert told["statistics"] == dict.fromkeys(("mean_hz", "min_hz", "max_hz", "std_hz"))
    assert status["frequency_hz"] is None
    assert status["state"] == "degraded", "no frequency is critical"


@virtual
async def test_droop_shows_settings_and_state(tmp_path: Path) -> None:
    async with serving(make_rig(tmp_path / "v.sock")) as rig:
        rig.frequency_hz = 49.7
        await rig.beat(20)
        told = (await rig.get("/v1/droop"))[1]
    assert (told["enabled"], told["droop_pct"], told["max_kw"]) == (True, 5.0, 400.0)
    assert told["owed_kw"] == pytest.approx(48.0)
    assert told["asked_kw"] <= 48.0


@virtual
async def test_violations_and_alarms(tmp_path: Path) -> None:
    async with serving(make_rig(tmp_path / "v.sock")) as rig:
        rig.values[B1, Point.SOC_PCT] = 9.0
        await rig.beat(2)
        standing = (await rig.get("/v1/safety/violations"))[1]["violations"]
        alarms = (await rig.get("/v1/alarms"))[1]["alarms"]
        rig.values[B1, Point.SOC_PCT] = 50.0
        await rig.beat(2)
        ended = (await rig.get("/v1/safety/violations"))[1]["violations"]
    [row] = [each for each in standing if each["rule"] == "soc_low"]
    assert row.keys() >= keys("at unit rule level action value limit cleared_at")
    assert (row["unit"], row["value"], row["limit"], row["cleared_at"]) == ("B1", 9.0, 10.0, None)
    assert alarms[0]["meaning"]
    [row] = [each for each in ended if each["rule"] == "soc_low"]
    assert row["cleared_at"] is not None


@virtual
async def test_the_campus_with_its_nodes_and_capacity(tmp_path: Path) -> None:
    async with serving(make_rig(tmp_path / "v.sock")) as rig:
        rig.site.gate.disable(B4, "me")
        rig.site.gate.report(LinkChange(B3, False, rig.site.clock.now_s(), "cable"))
        await rig.beat(2)
        nodes = (await rig.get("/v1/nodes"))[1]["nodes"]
        one = (await rig.get("/v1/nodes/B1"))[1]
        tree = (await rig.get("/v1/campus"))[1]["campus"]
        code, problem = await rig.get("/v1/nodes/NOPE")
    assert [each["status"] for each in nodes] == ["registered", "registered", "lost", "disabled"]
    assert one.keys() >= keys("id building campus city state country status capacity")
    assert one["capacity"].keys() >= keys(
        "rated_power_kw energy_kwh available_discharge_kw available_charge_kw",
        "available_discharge_kwh available_charge_kwh",
    )
    assert one["capacity"]["available_discharge_kwh"] == pytest.approx(80.0)
    campus = tree["children"][0]
    assert (tree["level"], campus["level"]) == ("country", "campus")
    assert [each["id"] for each in campus["children"]] == ["D1", "D2"]
    assert campus["children"][0]["capacity"]["available_charge_kw"] == 200.0
    assert campus["children"][1]["capacity"]["available_charge_kw"] == 0.0, "lost, disabled"
    assert (code, problem["type"]) == (404, "urn:vppd:problem:unknown-node")


@virtual
async def test_why_shows_every_cut_from_owed_to_measured(tmp_path: Path) -> None:
    async with serving(make_rig(tmp_path / "v.sock")) as rig:
        rig.values[B1, Point.SOC_PCT] = 11.5
        now_s = rig.site.clock.now_s()
        rig.site.bus.publish(Plan(B1, 90.0, now_s + 60.0, "x", Priority.OPERATOR, now_s))
        await rig.beat(40)
        report = ReadBackResult(B1, ReadBack.CHANGED, 50.0, 20.0, now_s, "20 kW seen")
        rig.site.gate.report(report)
        code, why = await rig.get("/v1/units/B1/why")
    assert code == 200
    assert why["from"] == "live"
    assert why["asked_kw"] == why["base_kw"] + why["frequency_kw"]
    assert why["clamps"][0]["before_kw"] == why["asked_kw"]
    assert why["clamps"][-1]["after_kw"] == why["got_kw"]
    assert "soc_low" in why["bound_by"]
    assert all(each["text"] for each in why["clamps"])
    assert why["outcome"] == "written"
    assert why["read_back"]["verdict"] == "changed"
    assert why["measured_kw"] == pytest.approx(why["got_kw"])
    assert [each["rule"] for each in why["verdicts"]] == ["soc_low"]
    assert why["plan"]["source"] == "x"
    assert why["site"]["owed_kw"] == rig.decisions[0].owed_kw


@virtual
async def test_why_at_an_earlier_time_comes_from_the_journal(tmp_path: Path) -> None:
    clock = VirtualClock()
    clock.now_s()  # its loop is this one, whatever thread asks next
    journal = SqliteJournal(tmp_path / "journal.db", clock, lambda *_: None)
    await journal.open()
    rig = make_rig(tmp_path / "v.sock", journal, clock=clock)
    log = DecisionLog(journal, rig.site.gate, rig.site.assets)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(journal.run())
        async with serving(rig, beats=3):
            before = clock.utc()
            rig.values[B1, Point.SOC_PCT] = 11.5
            now_s = clock.now_s()
            rig.site.bus.publish(Plan(B1, 90.0, now_s + 60.0, "x", Priority.OPERATOR, now_s))
            await told(rig, log, 40)
            middle = clock.utc()
            rig.values[B1, Point.SOC_PCT] = 50.0
            now_s = clock.now_s()
            rig.site.bus.publish(Plan(B1, 30.0, now_s + 60.0, "y", Priority.OPERATOR, now_s))
            await told(rig, log, 40)
            after = clock.utc()
            await rig.post("/v1/droop", {"enabled": True})  # a commit: all before it is on disk
            code, why = await rig.get(f"/v1/units/B1/why?at={middle.isoformat()}")
            late = (await rig.get(f"/v1/units/B1/why?at={after.isoformat()}"))[1]
            early, problem = await rig.get(
                "/v1/units/B1/why", params={"at": before.astimezone().isoformat()}
            )
            recent = (await rig.get("/v1/events/recent?last=30"))[1]["events"]
            wrong = await rig.get("/v1/units/B1/why?at=yesterday")
        await journal.close()
    assert code == 200, why
    assert why["from"] == "journal"
    assert "soc_low" in why["bound_by"]
    assert why["clamps"][-1]["text"]
    assert (why["asked_kw"], why["got_kw"]) == (90.0, pytest.approx(50.0))
    assert why["site"]["owed_kw"] == pytest.approx(90.0, abs=1.0)
    assert (late["got_kw"], late["bound_by"], late["violations"]) == (30.0, [], [])
    assert late["site"]["owed_kw"] == pytest.approx(30.0)
    assert [each["rule"] for each in why["violations"]] == ["soc_low"]
    assert (early, problem["type"]) == (404, "urn:vppd:problem:not-in-journal")
    assert {"command", "violation", "event"} <= {each["kind"] for each in recent}
    assert recent[-1]["code"] == "droop"
    assert wrong[0] == 422


@virtual
async def test_a_journal_that_cannot_be_read_is_said_so(tmp_path: Path) -> None:
    async with serving(make_rig(tmp_path / "v.sock")) as rig:
        for path in ("/v1/units/B1/why?at=10:00", "/v1/events/recent"):
            code, problem = await rig.get(path)
            assert (code, problem["type"]) == (503, "urn:vppd:problem:journal-unreadable")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-01T05:30:00+05:30", "2026-01-01T00:00:00+00:00"),
        ("2026-01-01T05:30:00 05:30", "2026-01-01T00:00:00+00:00"),  # + lost in a query string
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00+00:00"),
        ("2026-01-01T05:30:00", "2026-01-01T00:00:00+00:00"),
        ("05:30", "2026-01-01T00:00:00+00:00"),
        ("05:30:01", "2025-12-31T00:00:01+00:00"),  # not yet today: it was yesterday
    ],
)
def test_times_as_people_type_them(text: str, expected: str) -> None:
    now = VirtualClock()._start
    assert moment(text, now, IST) == datetime.fromisoformat(expected)


@pytest.mark.parametrize("text", ["", "25:00", "noon", "2026-13-01T00:00:00Z", "9" * 400, "05:3"])
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(Problem, match="ISO 8601"):
        moment(text, VirtualClock()._start, IST)


@virtual
async def test_the_market_is_honestly_not_there(tmp_path: Path) -> None:
    rig = make_rig(tmp_path / "v.sock", market=MarketSettings(schedule="schedule.csv"))
    async with serving(rig):
        for path in ("prices", "bids", "portfolio"):
            code, problem = await rig.get(f"/v1/market/{path}")
            assert (code, problem["type"]) == (404, "urn:vppd:problem:not-available")
        assert "schedule.csv" in problem["detail"]
        code, problem = await rig.get("/v1/compliance/report")  # of the journal, which is not read
        assert (code, problem["type"]) == (503, "urn:vppd:problem:journal-unreadable")


def test_json_is_strict() -> None:
    value: Any = {
        "nan": float("nan"),
        "far": float("-inf"),
        "zero": -0.0,
        "code": Code.SOC_LOW,
        "set": [frozenset({1})],
        "place": BuildingSettings(id="D1").location,
    }
    assert encode(value) == (
        b'{"nan":null,"far":null,"zero":0.0,"code":"soc_low","set":[[1]],"place":null}'
    )
    with pytest.raises(TypeError):
        plain(object())
