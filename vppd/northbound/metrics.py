"""Metrics for Prometheus, computed when they are asked for from what the site knows at that moment.

Quantities are in base units (watts, hertz, seconds, bytes, joules, celsius, shares of 1), power is
positive towards the grid. Labels are ids of the configuration and words of fixed sets, so their
number is bounded by the site, not by its history. A value that is not known has no line.

The text is made at most once a second, however many ask.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from vppd.core.alarms import Level
from vppd.core.asset import Asset
from vppd.core.measured import hottest_c, power_kw, soc_pct
from vppd.core.model import METER, SITE, Point, Snapshot, UnitState
from vppd.northbound import market_views, views
from vppd.northbound.ask import Ask, Text
from vppd.northbound.site import Site

ALARMS_MAX = 256
W_PER_KW = 1e3
W_PER_MW = 1e6
J_PER_MWH = 3.6e9
BYTES_PER_MB = 1024.0 * 1024.0
STATES = ("starting", "shut", "degraded", "running", "idle")
LEVELS = tuple(level for level in Level if level > Level.NORMAL)
OUTCOMES = ("written", "refused", "lost", "reverted", "changed")
PROCESS = ProcessCollector(registry=None)
BLOCK = {
    "scheduled": "scheduled_mwh",
    "cleared": "cleared_mwh",
    "metered": "metered_mwh",
}


async def scrape(ask: Ask) -> Text:
    """All of it as text."""
    body = await ask.site.scraped.given(lambda: exposition(ask.site))
    return Text(body, CONTENT_TYPE_LATEST)


async def exposition(site: Site) -> bytes:
    """The text format. All values are of one instant; to write them as text takes longer, and the
    loop gets its turn after each family."""
    written = []
    for family in [*families(site), *PROCESS.collect()]:
        written.append(generate_latest(_Alone(family)))
        await asyncio.sleep(0)
    return b"".join(written)


def families(site: Site) -> Iterator[Metric]:
    """Every family of a site once."""
    now, told = site.bus.snapshot(), site.diagnostics()
    yield from _identity(site)
    yield from _state(site)
    yield from _grid(site, now)
    yield from _units(site, now)
    yield from _alarms(site)
    yield from _ticks(site)
    yield from _devices(site)
    yield from _pmus(_mapping(told.get("pmus")))
    yield from _journal(_mapping(told.get("journal")))
    yield from _fleet(told.get("mqtt"))
    yield from _tasks(told.get("tasks"))
    yield from _readers(site)
    if site.trading is not None:
        yield from of_market(market_views.state(site))


class _Alone(Collector):
    """One family as if it were all."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterator[Metric]:
        yield self._family


def _identity(site: Site) -> Iterator[Metric]:
    yield _labelled(
        "vppd_info",
        "Who this is; always 1.",
        ("site", "mode", "version"),
        [((site.settings.site.id, site.settings.mode, site.version), 1.0)],
    )
    yield _gauge("vppd_uptime_seconds", "Since the start.", site.clock.now_s() - site.started_s)


def _state(site: Site) -> Iterator[Metric]:
    decision = site.decision()
    state = views.state(site, decision)
    yield _labelled(
        "vppd_site_state",
        "1 for the state the site is in, as vppctl status says it.",
        ("state",),
        [((each,), float(each == state)) for each in STATES],
    )
    shut = float(site.gate.shut_by is not None)
    yield _gauge("vppd_gate_shut", "1 while the gate gives nothing anywhere.", shut)
    if decision is None:
        return
    for name, help_, value_kw in (
        ("base", "Base point asked of the units, after its ramp.", decision.base_kw),
        ("base_target", "Base point that the ruling plan asks.", decision.base_target_kw),
        ("droop", "Answer to frequency asked of the units.", decision.droop_kw),
        ("droop_owed", "Answer to frequency owed.", decision.droop_owed_kw),
        ("owed", "Owed in all.", decision.owed_kw),
        ("cleared", "Setpoints of all units, as the gate let them through.", decision.cleared_kw),
    ):
        yield _gauge(f"vppd_site_{name}_watts", help_, value_kw, W_PER_KW)


def _grid(site: Site, now: Snapshot) -> Iterator[Metric]:
    decision = site.decision()
    measured_kw = views.measured_kw(site, now)
    yield _gauge("vppd_site_measured_watts", "Measured by all units together.", measured_kw, 1e3)
    export_kw = now.fresh(METER, Point.POWER_KW)
    yield _gauge("vppd_meter_export_watts", "At the point of connection.", export_kw, W_PER_KW)
    load_kw = now.fresh(SITE, Point.LOAD_KW)
    yield _gauge("vppd_other_load_watts", "Load of others behind the meter.", load_kw, W_PER_KW)
    if decision is None:
        return
    yield _gauge("vppd_frequency_hertz", "Frequency that is answered.", decision.frequency_hz)
    age_s = decision.frequency_age_s
    yield _gauge("vppd_frequency_age_seconds", "How old it was at the last tick.", age_s)
    if decision.frequency_hz is not None:
        rocof = decision.rocof_hz_per_s
        yield _gauge("vppd_rocof_hertz_per_second", "Its rate of change, filtered.", rocof)


def _units(site: Site, now: Snapshot) -> Iterator[Metric]:
    known = [(asset, site.gate.decisions.get(asset.id)) for asset in site.assets]
    decided = [(asset, decision) for asset, decision in known if decision is not None]

    def family(
        name: str, help_: str, values: Iterable[tuple[Asset, float | None]], factor: float = 1.0
    ) -> Metric:
        rows = [((str(asset.id),), value) for asset, value in values]
        return _labelled(f"vppd_unit_{name}", help_, ("unit",), rows, factor)

    yield _labelled(
        "vppd_unit_state",
        "1 for the state the unit is in.",
        ("unit", "state"),
        [
            ((str(asset.id), decision.state if decision else UnitState.STARTING), 1.0)
            for asset, decision in known
        ],
    )
    measured = ((asset, power_kw(now, asset)) for asset in site.assets)
    yield family("power_watts", "Measured at its terminals.", measured, W_PER_KW)
    given = ((asset, each.cleared.power_kw) for asset, each in decided)
    yield family("setpoint_watts", "Setpoint, as the gate let it through.", given, W_PER_KW)
    asked = ((asset, each.cleared.asked_kw) for asset, each in decided)
    yield family("asked_watts", "What was asked of it.", asked, W_PER_KW)
    high = ((asset, each.room.high_kw) for asset, each in decided)
    yield family("discharge_limit_watts", "Most it may give now.", high, W_PER_KW)
    low = ((asset, each.room.low_kw) for asset, each in decided)
    yield family("charge_limit_watts", "Most it may take now, negative.", low, W_PER_KW)
    socs = ((asset, soc_pct(now, asset)) for asset in site.assets)
    yield family("soc_ratio", "State of charge, 0 to 1.", socs, 0.01)
    hot = ((asset, hottest_c(now, asset)) for asset in site.assets)
    yield family("temperature_celsius", "The hottest of what it measures.", hot)
    yield _labelled(
        "vppd_unit_bound",
        "1 for each reason code that binds it now.",
        ("unit", "code"),
        [
            ((str(asset.id), str(code)), 1.0)
            for asset in site.assets
            for code in views.bound_by(site, asset)
        ],
    )
    yield _labelled(
        "vppd_unit_writes_total",
        "Setpoints by what became of them at the device.",
        ("unit", "outcome"),
        [
            ((str(asset.id), outcome), float(getattr(site.gate.standing(asset.id).counts, outcome)))
            for asset in site.assets
            for outcome in OUTCOMES
        ],
    )


def _alarms(site: Site) -> Iterator[Metric]:
    standing = site.alarms.standing()
    yield _labelled(
        "vppd_alarms",
        "Alarms that stand, by level.",
        ("level",),
        [((_word(each),), float(sum(a.level == each for a in standing))) for each in LEVELS],
    )
    yield _labelled(
        "vppd_alarm",
        f"1 for each alarm that stands, the worst {ALARMS_MAX}.",
        ("code", "unit", "level"),
        [((each.code, str(each.unit), _word(each.level)), 1.0) for each in standing[:ALARMS_MAX]],
    )
    latched = float(len(site.gate.latches.all()))
    yield _gauge("vppd_latches", "Trips, stops and disables that hold until undone.", latched)


def _ticks(site: Site) -> Iterator[Metric]:
    lag = site.heartbeat.lag()
    yield _counter("vppd_ticks_total", "Ticks since the start.", float(lag.count))
    yield _counter("vppd_ticks_late_total", "Ticks more than 50 ms late.", float(lag.late))
    yield _labelled(
        "vppd_tick_lateness_seconds",
        "How late ticks came in the last minute, by quantile; 1 is the worst.",
        ("quantile",),
        [
            (("0.5",), lag.lag_p50_ms),
            (("0.99",), lag.lag_p99_ms),
            (("1",), lag.lag_max_ms),
        ],
        1e-3,
    )
    yield _gauge("vppd_tick_age_seconds", "Since the last tick.", views.tick_age_s(site))


def _devices(site: Site) -> Iterator[Metric]:
    known = site.devices()
    yield _labelled(
        "vppd_device_up",
        "1 while the device answers; a device not tried yet has no line.",
        ("device",),
        [((str(name),), float(each.up)) for name, each in known.items() if each.up is not None],
    )
    counts = [
        ((str(name), event), float(count))
        for name, each in known.items()
        for event, count in each.counters.items()
        if isinstance(count, int) and event != "nvm_budget_left"
    ]
    help_ = "What became of the requests to a device, and of a BMS's frames."
    yield _labelled("vppd_device_events_total", help_, ("device", "event"), counts)


def _pmus(told: Mapping[str, Any]) -> Iterator[Metric]:
    pmus = {name: _mapping(each) for name, each in told.items()}
    yield _labelled(
        "vppd_pmu_up",
        "1 while frames come from the PMU.",
        ("pmu",),
        [
            ((name,), float(bool(each.get("connected")) and not each.get("lost")))
            for name, each in pmus.items()
        ],
    )
    counts = [
        ((name, event), float(count))
        for name, each in pmus.items()
        for event, count in each.items()
        if isinstance(count, int) and not isinstance(count, bool)
    ]
    help_ = "Frames of a PMU and what was wrong with them."
    yield _labelled("vppd_pmu_events_total", help_, ("pmu", "event"), counts)


def _journal(told: Mapping[str, Any]) -> Iterator[Metric]:
    if not told:
        return
    failed = float(told.get("failed") is not None)
    yield _gauge("vppd_journal_failed", "1 while it cannot be written.", failed)
    yield _gauge("vppd_journal_backlog_rows", "Rows not on disk yet.", told.get("queued_rows"))
    waiting = told.get("queued_bytes")
    yield _gauge("vppd_journal_backlog_bytes", "The memory these take.", waiting)
    size = told.get("file_mb")
    yield _gauge("vppd_journal_file_bytes", "Size of the file.", size, BYTES_PER_MB)
    written, dropped = told.get("written_rows"), told.get("dropped_rows")
    yield _counter("vppd_journal_rows_total", "Rows written since the start.", written)
    yield _counter("vppd_journal_rows_dropped_total", "Rows lost since the start.", dropped)


def _fleet(told: object) -> Iterator[Metric]:
    if not isinstance(told, Mapping):
        return
    yield _gauge("vppd_mqtt_up", "1 while the broker is there.", float(bool(told.get("up"))))
    heard = float(bool(told.get("heard")))
    yield _gauge("vppd_mqtt_heard", "1 while somebody subscribes.", heard)
    yield _labelled(
        "vppd_mqtt_sent_sequence",
        "Last sequence that the broker acknowledged.",
        ("stream",),
        [((str(name),), _number(seq)) for name, seq in _mapping(told.get("sent")).items()],
    )


def _tasks(told: object) -> Iterator[Metric]:
    if not isinstance(told, list):
        return
    yield _labelled(
        "vppd_task_restarts_total",
        "Restarts of each task since the start.",
        ("task",),
        [((str(each["name"]),), float(each["restarts"])) for each in told],
    )


def _readers(site: Site) -> Iterator[Metric]:
    readers = float(len(site.feed.readers))
    yield _gauge("vppd_event_readers", "Readers of /v1/events now.", readers)
    cuts = float(site.feed.cuts)
    yield _counter("vppd_event_readers_cut_total", "Readers cut off for being slow.", cuts)


def of_market(told: Mapping[str, Any]) -> Iterator[Metric]:
    """Those of the market, from what `market_views.state` says."""
    ready, stopped = float(bool(told["ready"])), float(bool(told["stopped"]))
    yield _gauge("vppd_market_ready", "1 once the books of before are known.", ready)
    yield _gauge("vppd_market_stopped", "1 while nothing may be sent.", stopped)
    yield _gauge("vppd_market_dry_run", "1 where nothing is sent.", float(bool(told["dry_run"])))
    closes_at = told["next_gate_closes_at"]
    if isinstance(closes_at, str):
        at_s = datetime.fromisoformat(closes_at).timestamp()
        yield _gauge("vppd_market_gate_closes_timestamp_seconds", "The next gate closes.", at_s)
    now = _mapping(told["now"])
    yield _labelled(
        "vppd_market_position_watts",
        "Traded for this block and the next, positive is sold.",
        ("block",),
        [(("now",), now.get("position_mw")), (("next",), now.get("next_position_mw"))],
        W_PER_MW,
    )
    planned_kw = now.get("planned_kw")
    yield _gauge("vppd_market_planned_watts", "Asked by the market now.", planned_kw, W_PER_KW)
    yield _labelled(
        "vppd_market_block_joules",
        "Energy of this block so far, positive is delivered.",
        ("what",),
        [((word,), now.get(name)) for word, name in BLOCK.items()],
        J_PER_MWH,
    )


# ---- families -------------------------------------------------------------------------------


def _gauge(name: str, help_: str, value: object, factor: float = 1.0) -> Metric:
    return _labelled(name, help_, (), [((), value)], factor)


def _counter(name: str, help_: str, value: object) -> Metric:
    return _labelled(name, help_, (), [((), value)])


def _labelled(
    name: str,
    help_: str,
    labels: tuple[str, ...],
    rows: Iterable[tuple[tuple[str, ...], Any]],
    factor: float = 1.0,
) -> Metric:
    """A counter by the ending `_total` of its name, else a gauge; unknown values have no line."""
    counts = name.endswith("_total")
    kind = CounterMetricFamily if counts else GaugeMetricFamily
    family = kind(name.removesuffix("_total"), help_, labels=labels)
    for words, given in rows:
        value = _number(given)
        if value is not None:
            family.add_metric(words, value * factor)
    return family


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _word(level: Level) -> str:
    return level.name.lower()
