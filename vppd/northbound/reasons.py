"""Why a unit does what it does: owed, asked, every clamp, got, read back, measured.

The live answer comes from the last tick, an earlier one from the journal, in the same words.
"""

import json
from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from vppd.core.alarms import MEANINGS, Code
from vppd.core.asset import Asset
from vppd.core.decision import Decision
from vppd.core.model import Point, UnitId
from vppd.core.records import SetpointRow, SiteRow, ViolationRow
from vppd.field.audit import folded
from vppd.field.rule import Verdict
from vppd.northbound.causes import causes
from vppd.northbound.problems import Problem, iso
from vppd.northbound.rolled_up import rolled_up
from vppd.northbound.site import Site
from vppd.northbound.views import (
    View,
    bound_by,
    clamps,
    latched,
    merged,
    pins,
    plan,
    read_back,
    room,
)
from vppd.spine.schema import from_micros, micros

LOOK_BACK = timedelta(days=1)  # a unit has a row a second while the daemon runs
VIOLATIONS_MAX = 50


def why_now(site: Site, asset: Asset) -> View:
    """The last tick's decision on a unit and what became of it. Raises Problem 503 before the
    first."""
    decision, unit = site.decision(), site.gate.decisions.get(asset.id)
    if decision is None or unit is None:
        raise Problem(503, "not-started", "no tick has decided on anything yet; ask again")
    now = site.bus.snapshot()
    standing, cleared = site.gate.standing(asset.id), unit.cleared
    lost = site.alarms.units(Code.LINK_LOST)
    return {
        "unit": asset.id,
        "at": decision.utc,
        "from": "live",
        "state": unit.state,
        "bound_by": bound_by(site, asset),
        "site": _site(decision),
        "base_kw": unit.request.base_kw,
        "frequency_kw": unit.request.frequency_kw,
        "asked_kw": cleared.asked_kw,
        "asked_kvar": cleared.asked_kvar,
        "clamps": clamps(
            replace(each, why=causes([each.why], unit, lost)[0]) for each in cleared.clamps
        ),
        "got_kw": cleared.power_kw,
        "got_kvar": cleared.reactive_kvar,
        "outcome": standing.outcome,
        "outcome_age_s": now.now_s - standing.outcome_s if standing.outcome_s is not None else None,
        "read_back_kw": now.fresh(asset.id, Point.SETPOINT_KW),
        "read_back": read_back(site, now, asset.id),
        "measured_kw": now.fresh(asset.id, Point.POWER_KW),
        "measured_quality": now.quality(asset.id, Point.POWER_KW),
        "verdicts": [_verdict(each) for each in folded(unit.verdicts)],
        "latched": latched(site, asset),
        "plan": next((plan(site, each) for each in pins(site, asset.id)), None),
        "room": room(unit),
    }


async def why_at(site: Site, unit: UnitId, at: datetime) -> View:
    """What the journal knows of a unit at a time: its newest rows at or before it.

    Raises Problem 404 when it knows nothing, 503 when it cannot be read.
    """
    until, since = micros(at), micros(at - LOOK_BACK)
    try:
        setpoint = await _newest(
            site, SetpointRow, "setpoint", "unit = ? AND at BETWEEN ? AND ?", (unit, since, until)
        )
        owed = await _newest(site, SiteRow, "site", "at BETWEEN ? AND ?", (since, until))
        broken = await _violations(site, unit, until)
        left = await rolled_up(site, unit, at) if setpoint is None else None
    except OSError as error:
        raise Problem(503, "journal-unreadable", f"the journal cannot be read: {error}") from None
    if setpoint is None:
        text = f"the journal has no row of {unit} in the day before {iso(at)}"
        text = f"{text}: {left}" if left else text
        raise Problem(404, "not-in-journal", text)
    return {
        **setpoint,
        "from": "journal",
        "asked_for_at": at,
        "bound_by": _codes(setpoint["clamps"]),
        "site": owed,
        "violations": broken,
    }


def moment(text: str, now: datetime, timezone: str) -> datetime:
    """A time as people type it: ISO 8601, or HH:MM[:SS] of the last 24 hours. Without a zone it is
    of the site's. Raises Problem 422."""
    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        zone = ZoneInfo("UTC")
    text = text.strip().replace(" ", "+") if "T" in text else text.strip()
    try:
        if len(text) <= len("HH:MM:SS"):
            at = datetime.combine(now.astimezone(zone).date(), time.fromisoformat(text), zone)
            return at if at <= now else at - timedelta(days=1)
        at = datetime.fromisoformat(text)
    except ValueError:
        raise Problem(
            422,
            "unusable-value",
            f"at must be ISO 8601 like 2026-11-22T18:30:00+05:30, or HH:MM; is {text[:64]}",
            field="at",
        ) from None
    return at if at.tzinfo is not None else at.replace(tzinfo=zone)


def _site(decision: Decision) -> View:
    return {
        "at": decision.utc,
        "frequency_hz": decision.frequency_hz,
        "rocof_hz_per_s": decision.rocof_hz_per_s,
        "source": decision.frequency_source,
        "base_source": decision.base_source,
        "base_target_kw": decision.base_target_kw,
        "base_kw": decision.base_kw,
        "droop_owed_kw": decision.droop_owed_kw,
        "droop_kw": decision.droop_kw,
        "owed_kw": decision.owed_kw,
        "cleared_kw": decision.cleared_kw,
        "clamps": clamps(decision.clamps),
    }


def _verdict(each: Verdict) -> View:
    return {
        "rule": each.rule,
        "level": each.level.name.lower(),
        "action": each.action.name.lower(),
        "text": each.text,
        "device": each.blind.device if each.blind is not None else None,
        "value": each.value,
        "limit": each.bound,
        "trips": each.trips,
    }


async def _newest(
    site: Site, kind: type, table: str, where: str, parameters: Sequence[object]
) -> View | None:
    """The newest row of a table. Raises OSError."""
    names = [each.name for each in fields(kind)]
    sql = f"SELECT {', '.join(names)} FROM {table} WHERE {where} ORDER BY at DESC LIMIT 1"  # noqa: S608
    rows = await site.journal.select(sql, parameters)
    if not rows:
        return None
    view: View = dict(zip(names, rows[0], strict=True))
    view["at"] = from_micros(int(str(view["at"])))
    view["clamps"] = _said(view.pop("clamps_json"))
    return view


async def _violations(site: Site, unit: UnitId, until: int) -> list[View]:
    """The violations of a unit that stood at that time. Raises OSError."""
    names = [each.name for each in fields(ViolationRow)]
    sql = (
        f"SELECT {', '.join(names)} FROM violation "  # noqa: S608
        "WHERE (unit = ? OR unit GLOB ? || '/*') AND at <= ? "
        "AND (cleared_at IS NULL OR cleared_at > ?) ORDER BY at DESC LIMIT ?"
    )
    rows = await site.journal.select(sql, (unit, unit, until, until, VIOLATIONS_MAX))
    views: list[View] = [dict(zip(names, row, strict=True)) for row in rows]
    for view in views:
        view["limit"] = view.pop("limit_value")
        for name in ("at", "cleared_at"):
            if view[name] is not None:
                view[name] = from_micros(int(str(view[name])))
    return views


def _said(text: object) -> list[View]:
    """Clamps of a journal row, [[code, before_kw, after_kw, detail], ...], with their words."""
    try:
        rows = [tuple(row) for row in json.loads(str(text))]
        return merged(_clamp(*row) for row in rows)
    except (ValueError, TypeError):
        return []  # another version wrote it


def _clamp(code: str, before_kw: float, after_kw: float, detail: str = "") -> View:
    meaning = MEANINGS[Code(code)].text if code in set(Code) else ""
    return {
        "code": code,
        "before_kw": before_kw,
        "after_kw": after_kw,
        "detail": detail,
        "text": meaning,
    }


def _codes(clamps: object) -> list[object]:
    codes = [each.get("code") for each in clamps] if isinstance(clamps, list) else []
    return list(dict.fromkeys(codes))
