"""Metrics: what is exported is what the site knows, in base units, bounded, and what the dashboard
asks for is there."""

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.api_site import PMU, UNITS, Rig, make_rig, serving, until
from tests.virtual_time import VirtualClock, virtual
from vppd.core.alarms import Code
from vppd.core.model import Point
from vppd.field.presence import Counters, Known
from vppd.northbound import metrics
from vppd.northbound.ask import Ask
from vppd.northbound.once import Once
from vppd.northbound.peers import Peer, Role
from vppd.northbound.routes import METRICS
from vppd.northbound.window import Window
from vppd.spine.clock import SystemClock
from vppd.spine.journal import SqliteJournal

DASHBOARD = Path(__file__).parents[1] / "etc" / "grafana" / "vppd.json"
BASE_UNITS = ("_watts", "_hertz", "_seconds", "_bytes", "_ratio", "_celsius", "_joules", "_total")
BARE = {  # counts, and what is 0 or 1
    *("vppd_info", "vppd_site_state", "vppd_gate_shut", "vppd_unit_state", "vppd_unit_bound"),
    *("vppd_alarms", "vppd_alarm", "vppd_latches", "vppd_device_up", "vppd_pmu_up"),
    *("vppd_journal_failed", "vppd_journal_backlog_rows", "vppd_mqtt_up", "vppd_mqtt_heard"),
    *("vppd_mqtt_sent_sequence", "vppd_event_readers", "vppd_market_ready"),
    *("vppd_market_stopped", "vppd_market_dry_run", "vppd_rocof_hertz_per_second"),
}
MARKET = {
    "ready": True,
    "stopped": "",
    "dry_run": False,
    "next_gate_closes_at": "2026-11-22T06:30:00+00:00",
    "now": {
        "position_mw": 0.25,
        "next_position_mw": -0.5,
        "planned_kw": 250.0,
        "scheduled_mwh": 0.05,
        "cleared_mwh": None,
        "metered_mwh": 0.04,
    },
}


def full(rig: Rig) -> Rig:
    """Everything that a daemon adds to a site."""
    site = rig.site
    site.devices = lambda: {u: Known(True, "answers", asdict(Counters(7, 6))) for u in UNITS}
    journal = SqliteJournal(rig.path.with_name("journal.db"), site.clock, lambda *_: None)
    told: Mapping[str, Any] = {
        "journal": {**asdict(journal.status()), "queued_rows": 3, "file_mb": 1.5},
        "mqtt": {"up": True, "heard": False, "sent": {"telemetry": 41, "events": None}},
        "pmus": {"pmu": {"connected": True, "lost": False, "frames": 12, "config": None}},
        "tasks": [{"name": "tick", "restarts": 0}, {"name": "mqtt", "restarts": 2}],
    }
    site.diagnostics = lambda: dict(told)
    return rig


async def scraped(rig: Rig) -> dict[str, Metric]:
    """The families of one scrape, by name as Prometheus stores them."""
    return parsed((await metrics.exposition(rig.site)).decode())


def parsed(text: str) -> dict[str, Metric]:
    found = {}
    for family in text_string_to_metric_families(text):
        name = family.name + ("_total" if family.type == "counter" else "")
        assert name not in found, f"{name} is told twice"
        found[name] = family
    return found


def value(found: Mapping[str, Metric], name: str, **labels: str) -> float:
    (sample,) = [each for each in found[name].samples if each.labels == labels]
    return float(sample.value)


def market() -> dict[str, Metric]:
    return {
        each.name: each
        for each in metrics.of_market(MARKET)  # shaped as market_views.state gives it
    }


@virtual
async def test_what_is_exported_is_what_the_site_knows(tmp_path: Path) -> None:
    rig = full(make_rig(tmp_path / "x.sock"))
    rig.frequency_hz = 49.8
    rig.values[UNITS[0], Point.SOC_PCT] = 62.5
    rig.values[UNITS[1], Point.SOC_PCT] = 9.0
    await rig.beat(5)
    rig.site.alarms.set(Code.PMU_LOST, PMU, True)
    found, decision = await scraped(rig), rig.decisions[0]
    assert value(found, "vppd_frequency_hertz") == 49.8
    assert value(found, "vppd_site_owed_watts") == decision.owed_kw * 1e3 > 0.0
    assert value(found, "vppd_site_cleared_watts") == decision.cleared_kw * 1e3
    assert value(found, "vppd_unit_soc_ratio", unit="B1") == 0.625
    given_kw = decision.cleared[UNITS[0]].power_kw
    assert value(found, "vppd_unit_setpoint_watts", unit="B1") == given_kw * 1e3
    assert value(found, "vppd_unit_bound", unit="B2", code="soc_low") == 1.0
    assert value(found, "vppd_unit_discharge_limit_watts", unit="B2") == 0.0
    assert value(found, "vppd_unit_charge_limit_watts", unit="B2") == -100e3
    assert value(found, "vppd_alarms", level="critical") >= 1.0
    assert value(found, "vppd_alarm", code="pmu_lost", unit="pmu", level="critical") == 1.0
    assert value(found, "vppd_device_events_total", device="B3", event="replies") == 6.0
    assert value(found, "vppd_pmu_up", pmu="pmu") == 1.0
    assert value(found, "vppd_pmu_events_total", pmu="pmu", event="frames") == 12.0
    assert value(found, "vppd_journal_backlog_rows") == 3.0
    assert value(found, "vppd_journal_file_bytes") == 1.5 * 2**20
    assert value(found, "vppd_mqtt_sent_sequence", stream="telemetry") == 41.0
    assert value(found, "vppd_task_restarts_total", task="mqtt") == 2.0
    assert value(found, "vppd_info", site="lab", mode="hardware", version="0.0.test") == 1.0
    states = {each.labels["state"]: each.value for each in found["vppd_site_state"].samples}
    assert sum(states.values()) == 1.0
    assert "process_resident_memory_bytes" in found
    assert found["vppd_meter_export_watts"].samples == [], "unknown has no line"


def test_the_market_is_in_base_units() -> None:
    found = market()
    assert value(found, "vppd_market_position_watts", block="now") == 250e3
    assert value(found, "vppd_market_position_watts", block="next") == -500e3
    assert value(found, "vppd_market_block_joules", what="metered") == 0.04 * 3.6e9
    assert [e.labels for e in found["vppd_market_block_joules"].samples] == [
        {"what": "scheduled"},
        {"what": "metered"},
    ]
    assert value(found, "vppd_market_gate_closes_timestamp_seconds") == 1795329000.0


@virtual
async def test_a_site_that_has_not_ticked_is_shown_too(tmp_path: Path) -> None:
    found = await scraped(make_rig(tmp_path / "x.sock"))
    assert value(found, "vppd_site_state", state="starting") == 1.0
    assert "vppd_site_owed_watts" not in found


@virtual
async def test_names_are_in_base_units_with_help(tmp_path: Path) -> None:
    rig = full(make_rig(tmp_path / "x.sock"))
    await rig.beat(3)
    found = {**await scraped(rig), **market()}
    for name, family in found.items():
        assert family.documentation.endswith((".", "seconds.", "bytes.")), name
        if name.startswith("vppd_"):
            assert name in BARE or name.endswith(BASE_UNITS), name
    assert set(found) > BARE


@virtual
async def test_the_number_of_lines_depends_on_the_site_alone(tmp_path: Path) -> None:
    rig = full(make_rig(tmp_path / "x.sock"))
    await rig.beat(3)

    async def lines() -> set[tuple[str, str]]:
        return {
            (name, json.dumps(each.labels, sort_keys=True))
            for name, family in (await scraped(rig)).items()
            for each in family.samples
        }

    before = await lines()
    for number in range(200):
        rig.frequency_hz = 50.0 + number % 40 / 1000
        rig.values[UNITS[0], Point.POWER_KW] = number / 21  # not so far off that it is told
        await rig.beat()
    assert await lines() == before
    for number in range(2 * metrics.ALARMS_MAX):
        rig.site.alarms.set(Code.LINK_LOST, type(PMU)(f"made-up-{number}"), True)
    assert len(await lines()) <= len(before) + metrics.ALARMS_MAX


@virtual
async def test_it_is_made_at_most_once_a_second() -> None:
    clock, made = VirtualClock(), []

    async def make() -> bytes:
        made.append(clock.now_s())
        return str(len(made)).encode()

    once = Once(clock, 1.0)
    begun_s = clock.now_s()
    for step in range(31):
        await clock.sleep_until(begun_s + step * 0.1)
        await once.given(make)
    assert len(made) in {3, 4}
    assert all(later - earlier >= 1.0 for earlier, later in pairwise(made))


async def test_it_is_served_on_the_socket_and_on_the_port(tmp_path: Path) -> None:
    rig = full(make_rig(tmp_path / "m.sock", clock=SystemClock()))
    window = Window(rig.site, "metrics", 0, [METRICS])
    async with serving(rig), asyncio.TaskGroup() as tasks:
        task = tasks.create_task(window.run())
        await until(lambda: window.port)
        async with aiohttp.ClientSession() as port:
            async with port.get(f"http://127.0.0.1:{window.port}/metrics") as answer:
                assert answer.status == 200
                assert answer.headers["Content-Type"].startswith("text/plain; version=")
                text = await answer.text()
            async with port.get(f"http://127.0.0.1:{window.port}/v1/status") as answer:
                assert answer.status == 404, "metrics and nothing else"
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(rig.path))) as socket,
            socket.get("http://vppd/metrics") as answer,
        ):
            assert await answer.text() == text, "made less than a second ago"
        assert "vppd_unit_power_watts" in parsed(text)
        task.cancel()


# ---- the dashboard --------------------------------------------------------------------------


def queries() -> Iterator[tuple[str, str]]:
    dashboard = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"]["query"]


def names_in(expression: str) -> set[str]:
    bare = re.sub(r'"[^"]*"|\[[^\]]*\]', "", expression)
    return set(re.findall(r"\b(?:vppd|process)_\w+", bare))


@virtual
async def test_every_query_of_the_dashboard_asks_for_what_is_exported(tmp_path: Path) -> None:
    rig = full(make_rig(tmp_path / "x.sock"))
    await rig.beat(3)
    found = {**await scraped(rig), **market()}
    asked: set[str] = set()
    for title, expression in queries():
        names = names_in(expression)
        assert names, f"{title}: asks for nothing of ours"
        assert names <= set(found), f"{title}: {names - set(found)}"
        for name in names:
            family = found[name]
            labels = {label for each in family.samples for label in each.labels} | {"instance"}
            wanted = set(re.findall(r"(\w+)=[~\"]", expression)) | set(
                re.findall(r"(\w+)!=", expression)
            )
            assert not family.samples or wanted <= labels, f"{title}: {wanted - labels}"
        asked |= names
    assert len(asked) > 30


async def test_a_viewer_is_who_may_ask(tmp_path: Path) -> None:
    assert METRICS.role is Role.VIEWER
    rig = make_rig(tmp_path / "x.sock")
    ask = Ask(rig.site, Peer(1, 1, frozenset()), Role.VIEWER, "somebody")
    assert (await metrics.scrape(ask)).content_type.startswith("text/plain")
