"""What a bump test of a unit needs of the daemon: what there is to measure it by, raw readings as
they come, and a row in the journal that says how it went and what the report hashes to.

The test itself is a client's (`vppd commission`): it asks for power like any operator.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict

from vppd.core.alarms import Code, Level
from vppd.core.asset import Asset
from vppd.core.model import METER, Point, Snapshot, UnitId
from vppd.core.records import EventRow
from vppd.northbound.alarm_views import alarm
from vppd.northbound.ask import Answer, Ask
from vppd.northbound.peers import Role
from vppd.northbound.problems import Problem, plain
from vppd.northbound.site import Site
from vppd.northbound.views import View, bound_by, latched, pins, plan, read_back, room

VERDICTS = ("pass", "fail", "aborted", "not_measurable")
SHA256 = r"[0-9a-f]{64}"
RESOLUTION_KW = 0.1  # assumed where a device does not say how fine it counts
NEIGHBOURS = (Point.POWER_KW, Point.INVERTER_KW, Point.SETPOINT_KW)
KW_PER_W = 0.001


def basis(ask: Ask) -> View:
    """What stands still during a test: who asks, what is configured, what measures the unit."""
    site, asset = ask.site, ask.asset()
    configured = next(each for each in site.settings.units if each.unit == asset.id)
    beside = [each for each in site.assets if each.id != asset.id]
    return {
        "unit": asset.id,
        "operator": {"uid": ask.peer.uid, "user": ask.user},
        "may_command": ask.role >= Role.OPERATOR,
        "site": site.settings.site.id,
        "site_name": site.settings.site.name,
        "mode": site.settings.mode,
        "version": site.version,
        "settings_sha256": fingerprint(site),
        "profiles": {
            "modbus": configured.modbus.profile if configured.modbus is not None else None,
            "bms": configured.bms.dbc if configured.bms is not None else None,
            "inverter": configured.inverter.protocol if configured.inverter is not None else None,
            "meter": site.settings.meter.profile if site.settings.meter is not None else None,
        },
        "rated_power_kw": asset.rated_kw,
        "energy_kwh": asset.energy_kwh,
        "ramp_max_kw_per_s": asset.safety.ramp_max_kw_per_s,
        "soc_min_pct": asset.safety.soc_min_pct,
        "soc_max_pct": asset.safety.soc_max_pct,
        "soc_resolution_pct": asset.soc_resolution_pct,
        "safety": asdict(asset.safety),
        "measurements": list(_measurements(site, asset)),
        "soc_point": _own(asset, Point.SOC_PCT, Point.BMS_SOC_PCT),
        "reactive_point": reactive_point(asset),
        "others": [
            {"id": each.id, "point": _own(each, Point.INVERTER_KW, Point.POWER_KW)}
            for each in beside
        ],
    }


def samples(ask: Ask) -> View:
    """Raw readings of the unit, of what measures it, and the power of its neighbours, now."""
    site, asset = ask.site, ask.asset()
    now, decision = site.bus.snapshot(), site.gate.decisions.get(asset.id)
    pin = next(iter(pins(site, asset.id)), None)
    utc = site.clock.utc()
    return {
        "unit": asset.id,
        "now_s": now.now_s,
        "at": now.utc,
        "state": decision.state if decision else "starting",
        "asked_kw": decision.cleared.asked_kw if decision else None,
        "setpoint_kw": decision.cleared.power_kw if decision else None,
        "bound_by": bound_by(site, asset),
        "room": room(decision),
        "plan": plan(site, pin) if pin is not None else None,
        "read_back": read_back(site, now, asset.id),
        "shut_by": site.gate.shut_by,
        "latched": latched(site, asset),
        "alarms": [alarm(site, each, utc) for each in site.alarms.standing()],
        "setpoints_kw": {id_: each.cleared.power_kw for id_, each in site.gate.decisions.items()},
        "readings": dict(_readings(site, now, asset)),
    }


async def commissioned(ask: Ask) -> Answer:
    """Write down how a bump test went and the SHA-256 of its report. Raises Problem 422."""
    asset, body = ask.asset(), ask.body
    verdict = body.choice("verdict", VERDICTS)
    sha256, report = body.text("sha256"), body.text("report")
    text = body.text("text", "") if body.has("text") else ""
    body.done()
    if not re.fullmatch(SHA256, sha256):
        said = "sha256 must be 64 hexadecimal digits in lower case"
        raise Problem(422, "unusable-value", said, field="sha256")
    told = f"bump test: {verdict}; {report} sha256 {sha256}" + (f"; {text}" if text else "")
    data = {"verdict": verdict, "report": report, "sha256": sha256, "uid": ask.peer.uid}
    level = Level.INFO if verdict == "pass" else Level.WARNING
    row = EventRow(ask.site.clock.utc(), Code.COMMISSIONED, asset.id, level, told, json.dumps(data))
    kept = await ask.site.journal.commit(row)
    return Answer({"unit": asset.id, "verdict": verdict, "sha256": sha256, "kept": kept})


def fingerprint(site: Site) -> str:
    """SHA-256 of all settings in force, profiles included: equal settings, equal hash."""
    settings = json.dumps(plain(_worded(asdict(site.settings))), sort_keys=True)
    return hashlib.sha256(settings.encode()).hexdigest()


def _worded(value: object) -> object:
    """What JSON does not know, as its words."""
    if isinstance(value, dict):
        return {str(key): _worded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_worded(each) for each in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _own(asset: Asset, *points: Point) -> Point | None:
    """The first of these that a configured device declares."""
    return next((point for point in points if point in asset.declared), None)


def reactive_point(asset: Asset) -> Point | None:
    """Where reactive power is read: an inverter's is not declared, for not every one has it."""
    if Point.INVERTER_STATE not in asset.declared:
        return _own(asset, Point.REACTIVE_KVAR)
    beside = Point.INVERTER_KW in asset.declared
    return Point.INVERTER_KVAR if beside else Point.REACTIVE_KVAR


def _measurements(site: Site, asset: Asset) -> Iterator[View]:
    """The device that takes the setpoints first, then whatever else sees the same power."""
    settings = next(each for each in site.settings.units if each.unit == asset.id)
    profile = site.settings.profile_of(settings)
    controller = profile.points.get(Point.POWER_KW) if profile is not None else None
    fine_kw = abs(controller.scale) if controller is not None else RESOLUTION_KW
    if Point.INVERTER_KW in asset.declared:
        yield _measured(
            "inverter",
            "active power of the inverter, which takes the setpoints",
            asset.id,
            (Point.INVERTER_KW,),
            RESOLUTION_KW,
            0.05,
        )
    if Point.POWER_KW in asset.declared:
        beside = Point.INVERTER_KW in asset.declared
        takes = "" if beside else ", which takes the setpoints"
        whose = "controller" if profile is not None else "inverter"
        yield _measured(
            whose,
            f"active power of the {whose}{takes}",
            asset.id,
            (Point.POWER_KW,),
            fine_kw,
            0.05,
            independent=beside,
        )
    meter = site.settings.meter
    if meter is not None:
        spec = site.settings.profiles[meter.profile].points.get(Point.POWER_KW)
        fine_kw = abs(spec.scale) * meter.ratio if spec is not None else RESOLUTION_KW
        yield _measured(
            "meter",
            "the site meter less what the other units gave",
            METER,
            (Point.POWER_KW,),
            max(fine_kw, 0.001),
            0.1,
            independent=True,
        )
    kw_per_va = asset.modules * KW_PER_W
    fine_kw = kw_per_va * asset.safety.pack_max_v * 0.1
    if {Point.PACK_V, Point.PACK_A} <= asset.declared:
        yield _measured(
            "bms",
            "volts x amperes x modules by the BMS",
            asset.id,
            (Point.PACK_V, Point.PACK_A),
            fine_kw,
            0.15,
            kw_per_va,
            independent=True,
        )
    if {Point.VOLTAGE_V, Point.CURRENT_A} <= asset.declared:
        beside = Point.INVERTER_KW in asset.declared
        text = "volts x amperes x modules on the DC side, by the controller"
        yield _measured(
            "dc",
            text,
            asset.id,
            (Point.VOLTAGE_V, Point.CURRENT_A),
            fine_kw,
            0.15,
            kw_per_va,
            independent=beside,
        )


def _measured(
    name: str,
    text: str,
    unit: UnitId,
    points: tuple[Point, ...],
    resolution_kw: float,
    tolerance_ratio: float,
    factor: float = 1.0,
    *,
    independent: bool = False,
) -> View:
    """One measurement: the product of these points times the factor, kW positive to the grid."""
    return {
        "name": name,
        "text": text,
        "unit": unit,
        "points": points,
        "factor": factor,
        "resolution_kw": resolution_kw,
        "tolerance_ratio": tolerance_ratio,
        "independent": independent,
    }


def _readings(site: Site, now: Snapshot, asset: Asset) -> Iterator[tuple[str, View]]:
    """Every reading of the unit; of the meter and the other units their powers."""
    of_unit = {point for unit, point in now.readings if unit == asset.id}
    yield asset.id, _raw(now, asset.id, sorted(of_unit))
    yield METER, _raw(now, METER, [Point.POWER_KW, Point.REACTIVE_KVAR])
    for each in site.assets:
        if each.id != asset.id:
            yield each.id, _raw(now, each.id, NEIGHBOURS)


def _raw(now: Snapshot, unit: UnitId, points: list[Point] | tuple[Point, ...]) -> View:
    """Values that may be believed, how old they are, and why not where there is none."""
    return {
        point: {
            "value": now.fresh(unit, point),
            "age_s": now.now_s - now.readings[unit, point].at_s,
            "quality": now.quality(unit, point),
        }
        for point in points
        if (unit, point) in now.readings
    }
