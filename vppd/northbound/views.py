"""What the socket shows of the daemon and its units. Plain sums over what is known: an absent
value is None, never a guess.

The site's `state` is one word, the first of these that is true:

* `starting`  no tick yet, or no unit has been read yet
* `shut`      the gate gives nothing anywhere (`shut_by` says why)
* `degraded`  a unit is lost, tripped or stopped, or an alarm is critical or worse
* `running`   power is owed or given
* `idle`      all is well and nothing is asked
"""

from collections.abc import Iterable
from dataclasses import asdict
from datetime import timedelta

from vppd.core.alarms import MEANINGS, Code, Level
from vppd.core.asset import Asset
from vppd.core.decision import Decision
from vppd.core.measured import power_kw, read_at_s, soc_pct
from vppd.core.model import SITE, Clamp, Plan, Point, Snapshot, UnitId, UnitState
from vppd.core.records import ViolationRow
from vppd.field.gate import UnitDecision
from vppd.field.latches import Latch
from vppd.northbound import devices
from vppd.northbound.alarm_views import alarms
from vppd.northbound.causes import causes
from vppd.northbound.limits import holding
from vppd.northbound.sentence import sentence
from vppd.northbound.site import Site

CALM_KW = 0.05
FRESH_TICK_S = 1.0
DETAILS_SHOWN = 3
TROUBLED = frozenset({UnitState.LOST, UnitState.TRIPPED, UnitState.STOPPED})
TELEMETRY = (
    *(Point.SOC_PCT, Point.SOH_PCT, Point.VOLTAGE_V, Point.CURRENT_A, Point.TEMPERATURE_C),
    *(Point.POWER_KW, Point.REACTIVE_KVAR, Point.FREQUENCY_HZ),
)

View = dict[str, object]


def status(site: Site) -> View:
    """The whole site on one page."""
    now, decision, lag = site.bus.snapshot(), site.decision(), site.heartbeat.lag()
    units = [unit_line(site, now, asset) for asset in site.assets]
    return {
        "site": site.settings.site.id,
        "name": site.settings.site.name,
        "timezone": site.settings.site.timezone,
        "at": now.utc,
        "mode": site.settings.mode,
        "state": state(site, decision),
        "shut_by": site.gate.shut_by,
        "sentence": sentence(
            decision,
            site.gate.decisions,
            site.gate.shut_by,
            site.alarms.units(Code.LINK_LOST),
        ),
        **decided(decision),
        "measured_kw": measured_kw(site, now),
        "frequency_source": decision.frequency_source or None if decision else None,
        "frequency_age_s": decision.frequency_age_s if decision else None,
        "band": site.watch.band,
        "units": units,
        "meter": devices.meter(site),
        **alarms(site),
        "orders": orders(site),
        "plans": [plan(site, each) for each in site.bus.plans()],
        "uptime_s": site.clock.now_s() - site.started_s,
        "ticks": asdict(lag),
        "version": site.version,
        "diagnostics": site.diagnostics(),
    }


def orders(site: Site) -> View | None:
    """Whether orders from the grid are taken, by whose word and since when; None: by nobody."""
    if site.desk is None:
        return None
    book, since = site.desk.book, site.desk.switched_at
    return {"enabled": book.enabled, "by": book.switched_by or None, "since": since}


def measured_kw(site: Site, now: Snapshot) -> float | None:
    """What the units measure together; None when one of them is not known."""
    return _sum(power_kw(now, asset) for asset in site.assets)


def decided(decision: Decision | None) -> View:
    """The powers of the last tick, kW."""
    return {
        "base_kw": decision.base_kw if decision else None,
        "base_source": decision.base_source if decision else None,
        "base_target_kw": decision.base_target_kw if decision else None,
        "droop_kw": decision.droop_kw if decision else None,
        "droop_owed_kw": decision.droop_owed_kw if decision else None,
        "owed_kw": decision.owed_kw if decision else None,
        "cleared_kw": decision.cleared_kw if decision else None,
        "frequency_hz": decision.frequency_hz if decision else None,
        "rocof_hz_per_s": decision.rocof_hz_per_s if decision and decision.frequency_hz else None,
        "clamps": clamps(decision.clamps) if decision else [],
    }


def state(site: Site, decision: Decision | None) -> str:
    """The site in one word; see the top of this file."""
    if decision is None or site.gate.shut_by == Code.STARTING:
        return "starting"
    if site.gate.shut_by is not None:
        return "shut"
    troubled = any(each.state in TROUBLED for each in site.gate.decisions.values())
    if troubled or any(each.level >= Level.CRITICAL for each in site.alarms.standing()):
        return "degraded"
    moving = max(abs(decision.owed_kw), abs(decision.cleared_kw)) > CALM_KW
    return "running" if moving else "idle"


def tick_age_s(site: Site) -> float | None:
    """Seconds since the last tick."""
    decision = site.decision()
    return site.clock.now_s() - decision.now_s if decision is not None else None


def violations(site: Site) -> View:
    """Standing ones first, then those that ended, newest first."""
    return {"violations": [violation(row) for row in site.audit.rows()]}


def violation(row: ViolationRow) -> View:
    """One rule broken by one unit."""
    return {
        "at": row.at,
        "unit": row.unit,
        "rule": row.rule,
        "level": row.level,
        "action": row.action,
        "value": row.value,
        "limit": row.limit_value,
        "cleared_at": row.cleared_at,
        "text": row.text,
    }


def units(site: Site) -> View:
    """Every unit in one line."""
    now = site.bus.snapshot()
    return {"units": [unit_line(site, now, asset) for asset in site.assets]}


def unit_line(site: Site, now: Snapshot, asset: Asset) -> View:
    """One unit: what it is told, what it measures, what binds it. `read_at` is when its power was
    read last; while it is lost that is old, however long it may still be believed."""
    decision = site.gate.decisions.get(asset.id)
    read_s = read_at_s(now, asset)
    age_s = now.now_s - read_s if read_s is not None else None
    return {
        "id": asset.id,
        "state": decision.state if decision else UnitState.STARTING,
        "power_kw": power_kw(now, asset),
        "setpoint_kw": decision.cleared.power_kw if decision else None,
        "soc_pct": soc_pct(now, asset),
        "bound_by": bound_by(site, asset),
        "asked_kw": decision.cleared.asked_kw if decision else None,
        "read_back_kw": now.fresh(asset.id, Point.SETPOINT_KW),
        "room": room(decision),
        "building": asset.building,
        "read_age_s": age_s,
        "read_at": now.utc - timedelta(seconds=age_s) if age_s is not None else None,
    }


def bound_by(site: Site, asset: Asset) -> list[str]:
    """Who cut what was asked; when the unit may do nothing at all, also who says so."""
    decision = site.gate.decisions.get(asset.id)
    if decision is None:
        return [Code.STARTING]
    codes = list(decision.cleared.bound_by)
    if decision.room.low_kw == 0.0 and decision.room.high_kw == 0.0:
        limits = holding(site, asset)
        codes += [each.why for each in limits if each.low_kw == 0.0 and each.high_kw == 0.0]
    return [*causes(codes, decision, site.alarms.units(Code.LINK_LOST))]


def unit(site: Site, asset: Asset) -> View:
    """Everything about one unit."""
    now = site.bus.snapshot()
    standing = site.gate.standing(asset.id)
    decision = site.gate.decisions.get(asset.id)
    configured = next(each for each in site.settings.units if each.unit == asset.id)
    return {
        **unit_line(site, now, asset),
        "telemetry": telemetry(now, asset),
        "bms": devices.bms(now, asset),
        "inverter": devices.inverter(now, asset),
        "devices": devices.devices(site, asset),
        "limits": [
            {
                "code": each.why,
                "low_kw": each.low_kw,
                "high_kw": each.high_kw,
                "detail": each.detail,
            }
            for each in holding(site, asset)
        ],
        "latched": latched(site, asset),
        "plan": next((plan(site, each) for each in pins(site, asset.id)), None),
        "link": {"up": standing.up},
        "setpoint_kvar": decision.cleared.reactive_kvar if decision else None,
        "asked_kvar": decision.cleared.asked_kvar if decision else None,
        "read_back_kvar": now.fresh(asset.id, Point.SETPOINT_KVAR),
        "outcome": {
            "word": standing.outcome,
            "age_s": _age_s(now, standing.outcome_s),
            "failed": standing.counts.failed,
            **asdict(standing.counts),
        },
        "rival_won": standing.yields,
        "released": standing.released,
        **wear(site, asset),
        "read_back": read_back(site, now, asset.id),
        "registered_at": site.registry.registered_at(asset.id),
        "mismatches": site.registry.mismatches(asset.id),
        "settings": asdict(configured),
    }


def wear(site: Site, asset: Asset) -> View:
    """Writes to non-volatile memory of the device that takes the setpoints, and how many of the
    day's are left; None: it has none, or is not known."""
    known = site.devices().get(asset.id)
    counted = known.counters if known is not None else {}
    return {name: counted.get(name) for name in ("nvm_writes", "nvm_budget_left")}


def whole_telemetry(now: Snapshot, asset: Asset) -> View:
    """What the unit measures, and all that its BMS and its inverter say."""
    sections = {"bms": devices.bms(now, asset), "inverter": devices.inverter(now, asset)}
    return {**telemetry(now, asset), **sections}


def telemetry(now: Snapshot, asset: Asset) -> View:
    """What the unit measures; a value that may not be believed is None, `quality` says why for
    every point that one of its devices has."""
    points = (*TELEMETRY, *sorted(asset.declared - set(TELEMETRY)))
    readings = [now.readings[asset.id, each] for each in points if (asset.id, each) in now.readings]
    has = asset.declared | {reading.point for reading in readings}
    newest_s = max((reading.at_s for reading in readings), default=None)
    return {
        "unit": asset.id,
        "at": None if newest_s is None else now.utc - timedelta(seconds=now.now_s - newest_s),
        **{point: now.fresh(asset.id, point) for point in points},
        "quality": {point: now.quality(asset.id, point) for point in points if point in has},
        "ages_s": {reading.point: now.now_s - reading.at_s for reading in readings},
    }


def read_back(site: Site, now: Snapshot, unit: UnitId) -> View | None:
    """What the last read-back of the setpoint said."""
    last = site.gate.standing(unit).read_back
    if last is None:
        return None
    return {
        "verdict": last.verdict,
        "expected_kw": last.expected_kw,
        "seen_kw": last.seen_kw,
        "expected_kvar": last.expected_kvar,
        "seen_kvar": last.seen_kvar,
        "age_s": _age_s(now, last.at_s),
        "text": last.text,
    }


def latched(site: Site, asset: Asset) -> list[View]:
    """Every latch that holds a unit: its own, its building's, the site's, an operator's disable or
    release."""
    scopes = {SITE, asset.building, asset.id}
    return [latch(each) for each in site.gate.latches.all() if each.scope in scopes]


def latch(each: Latch) -> View:
    """One latched reason."""
    return asdict(each)


def pins(site: Site, unit: UnitId) -> list[Plan]:
    """The live plans of one unit, the ruling one first."""
    plans = [each for each in site.bus.plans() if each.unit == unit]
    return sorted(plans, key=lambda each: (each.priority, each.issued_s), reverse=True)


def plan(site: Site, each: Plan) -> View:
    """One live plan."""
    left_s = each.valid_until_s - site.clock.now_s()
    return {
        "id": each.id or None,
        "unit": each.unit,
        "power_kw": each.power_kw,
        "reactive_kvar": each.reactive_kvar,
        "strategy": each.strategy,
        "droop": each.droop,
        "adds": each.adds,
        "source": each.source,
        "priority": each.priority.name.lower(),
        "expires_in_s": left_s,
        "expires_at": site.clock.utc() + timedelta(seconds=left_s),
    }


def clamps(made: Iterable[Clamp]) -> list[View]:
    """Those that count."""
    return merged(clamp(each) for each in made if each.counts)


def merged(made: Iterable[View]) -> list[View]:
    """One of each reason that cut the same, with the details of all."""
    groups: dict[tuple[object, ...], list[View]] = {}
    for each in made:
        key = each["code"], each["before_kw"], each["after_kw"]
        groups.setdefault(key, []).append(each)
    return [{**group[0], "detail": _details(group)} for group in groups.values()]


def _details(group: list[View]) -> str:
    details = list(dict.fromkeys(str(each["detail"]) for each in group if each["detail"]))
    more = len(details) - DETAILS_SHOWN
    return "; ".join(details[:DETAILS_SHOWN]) + (f" and {more} more" if more > 0 else "")


def clamp(each: Clamp) -> View:
    """One cut, with its words."""
    return {
        "code": each.why,
        "before_kw": each.before_kw,
        "after_kw": each.after_kw,
        "detail": each.detail,
        "text": MEANINGS[each.why].text,
    }


def room(decision: UnitDecision | None) -> View | None:
    """What the limits leave a unit, kW."""
    if decision is None:
        return None
    return {"low_kw": decision.room.low_kw, "high_kw": decision.room.high_kw}


def _age_s(now: Snapshot, at_s: float | None) -> float | None:
    return now.now_s - at_s if at_s is not None else None


def _sum(values: Iterable[float | None]) -> float | None:
    """Of all, or None when one is unknown."""
    values = list(values)
    known = [each for each in values if each is not None]
    return sum(known) if len(known) == len(values) else None
