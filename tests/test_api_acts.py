"""What an operator may do over the socket, what it changes, and what is written down."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
import structlog

from tests.api_site import UNITS, Rig, make_rig, serving
from tests.virtual_time import virtual
from vppd.core.alarms import Code
from vppd.core.difference import Difference
from vppd.core.model import SITE, Plan, Point, Priority, UnitId
from vppd.core.reloading import Verdict
from vppd.core.settings import ConnectionSettings
from vppd.northbound import routes
from vppd.northbound.peers import Role, user_name

B1, B2, B3, B4 = UNITS
ME = user_name(os.getuid())


def operator_plans(rig: Rig) -> list[tuple[str, float]]:
    return [
        (plan.unit, plan.power_kw)
        for plan in rig.site.bus.plans()
        if plan.priority is Priority.OPERATOR
    ]


def problem(answer: tuple[int, Any], code: int, word: str) -> str:
    """The detail of a refusal of this kind."""
    assert answer[0] == code, answer
    assert answer[1]["type"] == f"urn:vppd:problem:{word}"
    assert answer[1]["status"] == code
    assert answer[1]["title"]
    return str(answer[1]["detail"])


# ---- dispatch -------------------------------------------------------------------------------


@virtual
async def test_dispatch_makes_a_plan_that_rules_and_expires(tmp_path: Path) -> None:
    async with serving(make_rig(tmp_path / "a.sock")) as rig:
        code, answer = await rig.post(
            "/v1/dispatch", {"power_kw": -120, "strategy": "priority", "duration_s": 60}
        )
        await rig.beat(20)
        status = (await rig.get("/v1/status"))[1]
        await rig.beat(700)
        after = (await rig.get("/v1/status"))[1]
    assert code == 202
    assert answer["plan"]["power_kw"] == -120.0
    assert answer["plan"]["priority"] == "operator"
    assert answer["plan"]["source"] == f"operator:{ME}"
    assert len(answer["plan"]["id"]) == 36
    assert 59.0 < answer["plan"]["expires_in_s"] <= 60.0
    assert (answer["expected_kw"], answer["bound_by"], answer["journaled"]) == (-120.0, [], True)
    assert status["base_source"] == f"operator:{ME}"
    assert [each["setpoint_kw"] for each in status["units"]] == [-100.0, -20.0, 0.0, 0.0]
    assert after["base_source"] == "idle"
    assert after["cleared_kw"] == 0.0


@virtual
async def test_what_would_bind_a_dispatch_is_said_at_once(tmp_path: Path) -> None:
    async with serving(make_rig(tmp_path / "a.sock")) as rig:
        rig.values[B2, Point.SOC_PCT] = 10.5
        rig.site.gate.disable(B3, "me")
        await rig.beat(3)
        answer = (await rig.post("/v1/dispatch", {"power_kw": 400}))[1]
        await rig.beat(20)
        given_kw = (await rig.get("/v1/status"))[1]["cleared_kw"]
    assert answer["bound_by"] == ["room", "soc_low", "disabled"]
    assert answer["expected_kw"] == pytest.approx(200.0 + 100.0 * 0.5 / 3.0)
    assert answer["expected_kw"] == pytest.approx(given_kw), "and that is what comes of it"


@virtual
async def test_the_connection_binds_too(tmp_path: Path) -> None:
    rig = make_rig(tmp_path / "a.sock", connection=ConnectionSettings(export_max_kw=150.0))
    async with serving(rig):
        answer = (await rig.post("/v1/dispatch", {"power_kw": 200}))[1]
        one = (await rig.post("/v1/units/B1/power", {"power_kw": 90}))[1]
        charge = (await rig.post("/v1/dispatch", {"power_kw": -200}))[1]
        capacity = (await rig.get("/v1/capacity"))[1]
    assert answer["expected_kw"] == pytest.approx(150.0)
    assert answer["bound_by"] == ["connection"]
    assert (one["expected_kw"], one["bound_by"]) == (90.0, [])
    assert charge["expected_kw"] == pytest.approx(-200.0)
    assert (capacity["available_discharge_kw"], capacity["available_charge_kw"]) == (150.0, 400.0)


@virtual
async def test_a_new_dispatch_replaces_any_operators_and_release_is_not_zero(
    tmp_path: Path,
) -> None:
    async with serving(make_rig(tmp_path / "a.sock")) as rig:
        now_s = rig.site.clock.now_s()
        for source, priority in (
            ("operator:bob", Priority.OPERATOR),
            ("schedule", Priority.SCHEDULE),
        ):
            plan = Plan(SITE, 77.0, now_s + 900.0, source, priority, now_s)
            rig.site.bus.publish(plan)
        answer = (await rig.post("/v1/dispatch", {"power_kw": 0}))[1]
        assert [each["source"] for each in answer["replaced"]] == ["operator:bob"]
        assert operator_plans(rig) == [("site", 0.0)]
        await rig.beat(5)
        assert rig.decisions[0].base_target_kw == 0.0
        code, released = await rig.post("/v1/dispatch", {"power_kw": None})
        assert (code, len(released["released"])) == (200, 1)
        await rig.beat(5)
        assert rig.decisions[0].base_source == "schedule"
        assert rig.decisions[0].base_target_kw == 77.0
        assert (await rig.call("DELETE", "/v1/dispatch"))[1]["released"] == []


# ---- one unit -------------------------------------------------------------------------------


@virtual
async def test_power_pins_one_unit(tmp_path: Path) -> None:
    async with serving(make_rig(tmp_path / "a.sock")) as rig:
        code, answer = await rig.post(
            "/v1/units/B1/power", {"power_kw": 40, "reactive_kvar": -10, "duration_s": 900}
        )
        await rig.post("/v1/dispatch", {"power_kw": 100})
        rig.frequency_hz = 49.7
        await rig.beat(40)
        told = rig.actuators[B1].told
        others = [rig.actuators[unit].told for unit in (B2, B3, B4)]
        pinned = (await rig.get("/v1/units/B1"))[1]["plan"]
        gone = (await rig.call("DELETE", "/v1/units/B1/power"))[1]
    assert (code, answer["expected_kw"], answer["plan"]["unit"]) == (202, 40.0, "B1")
    assert told is not None
    assert (told.power_kw, told.reactive_kvar) == (40.0, -10.0), "no droop on a pinned unit"
    assert sum(each.power_kw for each in others if each) == pytest.approx(60.0 + 48.0)
    assert pinned["reactive_kvar"] == -10.0
    assert len(gone["released"]) == 1
    assert ("B1", 40.0) not in operator_plans(rig)


@virtual
async def test_a_pin_may_answer_frequency_when_it_says_so(tmp_path: Path) -> None:
    async with serving(make_rig(tmp_path / "a.sock")) as rig:
        await rig.post("/v1/units/B1/power", {"power_kw": 40, "droop": True})
        rig.frequency_hz = 49.7
        await rig.beat(40)
        told = rig.actuators[B1].told
    assert told is not None
    assert told.power_kw > 40.0


@virtual
async def test_enable_and_disable(tmp_path: Path) -> None:
    async with serving(make_rig(tmp_path / "a.sock")) as rig:
        code, answer = await rig.post("/v1/units/B1/control", {"command": "disable"})
        await rig.beat(2)
        assert code == 200
        assert answer["latched"][0]["code"] == "disabled"
        assert rig.actuators[B1].on is False
        assert (await rig.get("/v1/units/B1"))[1]["state"] == "disabled"
        answer = (await rig.post("/v1/units/B1/control", {"command": "enable"}))[1]
        await rig.beat(2)
        assert answer["latched"] == []
        assert rig.actuators[B1].on is True
        for scope in ("site", "D1"):
            refused = await rig.post(f"/v1/units/{scope}/control", {"command": "disable"})
            problem(refused, 404, "unknown-unit")


@virtual
async def test_an_emergency_stop_stops_latches_and_takes_the_plans_with_it(tmp_path: Path) -> None:
    async with serving(make_rig(tmp_path / "a.sock")) as rig:
        await rig.post("/v1/dispatch", {"power_kw": 100})
        await rig.post("/v1/units/B4/power", {"power_kw": 50})
        await rig.beat(20)
        code, answer = await rig.post("/v1/units/site/control", {"command": "emergency_stop"})
        await rig.beat()
        told = [each.told.power_kw for each in rig.actuators.values() if each.told]
        assert code == 200
        assert {each["unit"] for each in answer["released"]} == {"site", "B4"}
        assert told == [0.0, 0.0, 0.0, 0.0]
        assert (await rig.get("/v1/status"))[1]["shut_by"].startswith("emergency_stop")
        # nothing asked afterwards passes, and the answer says so
        answer = (await rig.post("/v1/dispatch", {"power_kw": 100}))[1]
        await rig.beat(5)
        assert answer["expected_kw"] == 0.0
        assert "emergency_stop" in answer["bound_by"]
        assert answer["shut_by"].startswith("emergency_stop")
        assert rig.decisions[0].cleared_kw == 0.0
        await rig.call("DELETE", "/v1/dispatch")
        answer = (await rig.post("/v1/units/site/control", {"command": "reset"}))[1]
        await rig.beat(20)
        assert [each["code"] for each in answer["reset"]] == ["emergency_stop"]
        assert answer["latched"] == []
        assert rig.decisions[0].cleared_kw == 0.0, "nothing comes back by itself"
        assert (await rig.get("/v1/status"))[1]["state"] == "idle"


@virtual
async def test_a_reset_undoes_its_own_scope_and_names_what_is_left(tmp_path: Path) -> None:
    async with serving(make_rig(tmp_path / "a.sock")) as rig:
        rig.site.gate.trip(B3, Code.RIVAL, "overwritten", "vppd")
        await rig.post("/v1/units/D2/control", {"command": "emergency_stop"})
        await rig.beat(2)
        states = {each["id"]: each["state"] for each in (await rig.get("/v1/units"))[1]["units"]}
        assert states == {"B1": "ready", "B2": "ready", "B3": "tripped", "B4": "tripped"}
        answer = (await rig.post("/v1/units/B3/control", {"command": "reset"}))[1]
        assert [each["code"] for each in answer["reset"]] == ["rival"]
        assert [(each["scope"], each["code"]) for each in answer["latched"]] == [
            ("D2", "emergency_stop")
        ]
        answer = (await rig.post("/v1/units/D2/control", {"command": "reset"}))[1]
        assert answer["latched"] == []
        assert rig.actuators[B3].resets == 2, "the device's own alarms are reset with it"


@virtual
async def test_a_cause_that_is_still_there_trips_again(tmp_path: Path) -> None:
    async with serving(make_rig(tmp_path / "a.sock")) as rig:
        rig.values[B1, Point.TEMPERATURE_C] = 61.0
        await rig.beat(30)
        assert (await rig.get("/v1/units/B1"))[1]["state"] == "tripped"
        (_, answer), _ = await asyncio.gather(
            rig.post("/v1/units/B1/control", {"command": "reset"}), rig.beat(30)
        )
        assert [each["code"] for each in answer["reset"]] == ["over_temperature"]
        assert [each["code"] for each in answer["latched"]] == ["over_temperature"], "told at once"
        assert (await rig.get("/v1/units/B1"))[1]["state"] == "tripped"


# ---- droop, reload, nodes -------------------------------------------------------------------


@virtual
async def test_droop_off_and_on(tmp_path: Path) -> None:
    async with serving(make_rig(tmp_path / "a.sock")) as rig:
        rig.frequency_hz = 49.7
        await rig.beat(20)
        assert rig.decisions[0].cleared_kw == pytest.approx(48.0)
        assert (await rig.post("/v1/droop", {"enabled": False}))[0] == 200
        await rig.beat(20)
        assert rig.decisions[0].cleared_kw == 0.0
        assert rig.decisions[0].droop_owed_kw == pytest.approx(48.0), "still owed, and said"
        told = (await rig.get("/v1/droop"))[1]
        assert (told["enabled"], told["asked_kw"]) == (False, 0.0)
        assert [each["code"] for each in told["clamps"]] == ["droop_off"]
        await rig.post("/v1/droop", {"enabled": True})
        await rig.beat(20)
        assert rig.decisions[0].cleared_kw == pytest.approx(48.0)


@virtual
async def test_reload(tmp_path: Path) -> None:
    errors: list[str] = []

    async def reload(by: str, dry_run: bool) -> Verdict:
        return Verdict(tuple(errors), (Difference("droop.droop_pct", "5.0", "4.0"),), (), dry_run)

    async with serving(make_rig(tmp_path / "a.sock", reload=reload)) as rig:
        assert (await rig.post("/v1/reload", {}))[1]["reloaded"] is True
        would = (await rig.post("/v1/reload", {"dry_run": True}))[1]
        assert would["reloaded"] is False
        assert would["changes"] == [{"key": "droop.droop_pct", "old": "5.0", "new": "4.0"}]
        errors.append("field.yaml:3: units.0.id: is missing")
        answer = await rig.post("/v1/reload", {})
        assert "field.yaml:3" in problem(answer, 422, "wrong-configuration")
        assert answer[1]["errors"] == errors
    async with serving(make_rig(tmp_path / "b.sock")) as rig:
        problem(await rig.post("/v1/reload", {}), 422, "not-supported")


@virtual
async def test_an_announced_node_is_listed_and_never_commanded(tmp_path: Path) -> None:
    node = {"id": "NEW_01", "building": "D2", "rated_power_kw": 50, "energy_kwh": 80}
    async with serving(make_rig(tmp_path / "a.sock")) as rig:
        code, made = await rig.post("/v1/nodes", node)
        nodes = (await rig.get("/v1/nodes"))[1]["nodes"]
        capacity = (await rig.get("/v1/capacity"))[1]
        tree = (await rig.get("/v1/campus"))[1]["campus"]
        problem(await rig.post("/v1/units/NEW_01/power", {"power_kw": 1}), 404, "unknown-unit")
        problem(await rig.post("/v1/nodes", {**node, "id": "B1"}), 409, "already-configured")
        text = problem(
            await rig.post("/v1/nodes", {**node, "building": "D9"}), 422, "unusable-value"
        )
        assert "D1, D2" in text
        problem(await rig.call("DELETE", "/v1/nodes/B1"), 409, "already-configured")
        assert (await rig.call("DELETE", "/v1/nodes/NEW_01"))[0] == 200
        problem(await rig.call("DELETE", "/v1/nodes/NEW_01"), 404, "unknown-node")
        assert len((await rig.get("/v1/nodes"))[1]["nodes"]) == 4
    assert code == 201
    assert "never commanded" in made["note"]
    assert (nodes[-1]["id"], nodes[-1]["status"]) == ("NEW_01", "announced")
    assert nodes[-1]["capacity"]["available_discharge_kw"] == 0.0
    assert capacity["rated_power_kw"] == 400.0
    assert tree["children"][0]["children"][1]["nodes"][-1]["id"] == "NEW_01"
    codes = [getattr(row, "code", "") for row in rig.journal.rows]
    assert {Code.NODE_ANNOUNCED, Code.NODE_FORGOTTEN} <= set(codes)


# ---- what is refused ------------------------------------------------------------------------

REFUSALS: list[tuple[str, dict[str, object], int, str, str]] = [
    ("/v1/dispatch", {"power_kw": 401}, 422, "beyond-rating", "-400 to 400"),
    ("/v1/dispatch", {"power_kw": -400.5}, 422, "beyond-rating", "power_kw"),
    ("/v1/dispatch", {}, 422, "unusable-value", "power_kw is missing"),
    ("/v1/dispatch", {"power_kw": "40"}, 422, "unusable-value", "must be a number"),
    ("/v1/dispatch", {"power_kw": True}, 422, "unusable-value", "must be a number"),
    ("/v1/dispatch", {"power_kw": [1]}, 422, "unusable-value", "a list"),
    ("/v1/dispatch", {"power_kw": 10**400}, 422, "unusable-value", "power_kw"),
    ("/v1/dispatch", {"power_kw": 1, "duration_s": 0}, 422, "unusable-value", "1 to 86400"),
    ("/v1/dispatch", {"power_kw": 1, "duration_s": 86401}, 422, "unusable-value", "duration_s"),
    ("/v1/dispatch", {"power_kw": 1, "strategy": "least"}, 422, "unusable-value", "must be one of"),
    ("/v1/dispatch", {"power_kw": 1, "strategy": "luck"}, 422, "unusable-value", "balanced"),
    ("/v1/dispatch", {"power_kw": 1, "strategy": None}, 422, "unusable-value", "strategy"),
    ("/v1/dispatch", {"power_kw": 1, "powr": 2}, 422, "unusable-value", "powr is not known"),
    ("/v1/dispatch", {"power_kw": None, "strategy": "balanced"}, 422, "unusable-value", "strategy"),
    ("/v1/dispatch", {"power_kw": 1, "reactive_kvar": 441}, 422, "beyond-rating", "reactive_kvar"),
    ("/v1/units/B1/power", {"power_kw": 100.1}, 422, "beyond-rating", "-100 to 100"),
    ("/v1/units/B1/power", {"power_kw": 1, "reactive_kvar": 111}, 422, "beyond-rating", "kvar"),
    ("/v1/units/B1/power", {"power_kw": 1, "droop": 1}, 422, "unusable-value", "true or false"),
    ("/v1/units/B1/power", {"power_kw": 1, "strategy": "balanced"}, 422, "unusable-value", "strat"),
    ("/v1/units/B9/power", {"power_kw": 1}, 404, "unknown-unit", "B1, B2, B3, B4"),
    ("/v1/units/site/power", {"power_kw": 1}, 404, "unknown-unit", "B1"),
    ("/v1/units/B1/control", {}, 422, "unusable-value", "command is missing"),
    ("/v1/units/B1/control", {"command": "explode"}, 422, "unusable-value", "emergency_stop"),
    ("/v1/units/B1/control", {"command": "reset", "x": 1}, 422, "unusable-value", "x is not known"),
    ("/v1/units/B9/control", {"command": "reset"}, 404, "unknown-unit", "site, D1, D2, B1"),
    ("/v1/droop", {"enabled": "yes"}, 422, "unusable-value", "true or false"),
    ("/v1/droop", {"enabled": None}, 422, "unusable-value", "true or false"),
    ("/v1/nodes", {"id": "../x"}, 422, "unusable-value", "id must be"),
    (
        "/v1/nodes",
        {"id": "N1", "building": "D1"},
        422,
        "unusable-value",
        "rated_power_kw is missing",
    ),
    ("/v1/market/bids", {}, 404, "not-available", "market layer not configured"),
    ("/v1/nope", {}, 404, "unknown-path", "/v1/nope"),
    ("/v1/status", {}, 405, "method-not-allowed", "GET"),
]


@virtual
async def test_refusals_name_the_field_and_change_nothing(tmp_path: Path) -> None:
    async with serving(make_rig(tmp_path / "a.sock")) as rig:
        duty, memory = rig.site.tick.duty, len(rig.site.registry.announced())
        for path, body, code, word, words in REFUSALS:
            detail = problem(await rig.post(path, body), code, word)
            assert words in detail, (path, body, detail)
            await rig.beat(11)  # a second: every refusal is journaled once more
        assert operator_plans(rig) == []
        assert rig.site.gate.latches.all() == ()
        assert (rig.site.tick.duty, len(rig.site.registry.announced())) == (duty, memory)
        rows = rig.journal.commands()
    assert len(rows) == len(REFUSALS)
    assert {row.verdict for row in rows} == {"refused"}


@virtual
async def test_every_change_is_one_log_line_and_one_row_before_the_answer(tmp_path: Path) -> None:
    async with serving(make_rig(tmp_path / "a.sock")) as rig:
        with structlog.testing.capture_logs() as lines:
            await rig.post("/v1/dispatch", {"power_kw": 40})
            [row] = rig.journal.commands()
            await rig.post("/v1/units/B1/control", {"command": "disable"})
            await rig.get("/v1/status")
    assert (row.uid, row.user, row.verb, row.unit) == (os.getuid(), ME, "dispatch", "site")
    assert (row.verdict, row.body_json) == ("accepted", '{"power_kw": 40}')
    assert row.text == "expected 40.0 kW"
    said = [line for line in lines if line["event"] == "command"]
    assert [(line["verb"], line["unit"], line["verdict"], line["uid"]) for line in said] == [
        ("dispatch", "site", "accepted", os.getuid()),
        ("disable", "B1", "accepted", os.getuid()),
    ]


@virtual
async def test_an_act_that_could_not_be_written_down_is_done_and_says_so(tmp_path: Path) -> None:
    async with serving(make_rig(tmp_path / "a.sock")) as rig:
        rig.journal.broken = True
        code, answer = await rig.post("/v1/units/site/control", {"command": "emergency_stop"})
    assert (code, answer["journaled"]) == (200, False)
    assert rig.site.gate.shut_by is not None


@virtual
async def test_a_fault_of_ours_is_a_500_without_a_trace(tmp_path: Path) -> None:
    async def reload(by: str, dry_run: bool) -> Verdict:
        raise ZeroDivisionError("boom")

    async with serving(make_rig(tmp_path / "a.sock", reload=reload)) as rig:
        with structlog.testing.capture_logs() as lines:
            text = problem(await rig.post("/v1/reload", {}), 500, "internal-error")
        assert "boom" not in text
        assert [line["event"] for line in lines] == ["request_failed", "command"]
        assert (await rig.get("/v1/health"))[0] == 200


# ---- the table ------------------------------------------------------------------------------


def test_who_may_what_stands_in_the_table_and_looking_never_commands() -> None:
    for route in routes.ROUTES:
        assert route.role is not Role.NOBODY
        assert (route.method == "GET") == (route.verb == ""), route.path
        if route.verb:
            assert route.role >= Role.OPERATOR, route.path
    assert len({(route.method, route.path) for route in routes.ROUTES}) == len(routes.ROUTES)
    contract = """GET /v1/health /v1/status /v1/alarms /v1/events /v1/units /v1/units/{id}
        /v1/units/{id}/telemetry /v1/units/{id}/why /v1/safety/violations /v1/campus
        /v1/campus/telemetry /v1/nodes /v1/nodes/{id} /v1/capacity /v1/frequency /v1/droop
        /v1/market/prices /v1/market/bids /v1/market/portfolio /v1/compliance/report
        POST /v1/units/{id}/power /v1/units/{id}/control /v1/dispatch /v1/droop /v1/market/bids"""
    there = {(route.method, route.path) for route in routes.ROUTES}
    method = ""
    for word in contract.split():
        method = word if word.isalpha() else method
        assert word.isalpha() or (method, word) in there


def test_paths_match_whole_words() -> None:
    assert routes.find("GET", "/v1/units/B1/why")[1] == {"id": UnitId("B1")}
    for path in ("/v1/units/", "/v1/units/B1/", "/v1/units//why", "/v1", "", "/v1/statuss"):
        with pytest.raises(Exception, match="there is no"):
            routes.find("GET", path)
