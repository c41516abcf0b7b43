"""The rules that only an inverter can feed: its faults, its own limits, whether it agrees with the
battery's controller, and what any device says it can do."""

import math

from vppd.core.alarms import Action, Code, Level
from vppd.core.model import Limit, Point
from vppd.field.rule import Look, Notes, Ruling, Verdict, blind, faults, shutdown

LIMITS = (Point.DISCHARGE_MAX_KW, Point.CHARGE_MAX_KW, Point.APPARENT_MAX_KVA)
INVERTER_FAULT_STATE = 7  # SunSpec model 103 St
POWER_DISAGREES_SHARE = 0.05  # of the rating
POWER_DISAGREES_S = 5.0  # both are polled, and power moves


def inverter_fault(look: Look, notes: Notes) -> Ruling:
    """Any fault event of the inverter, or its state "fault": shutdown, latched. One of them unknown
    and the other well: nothing."""
    declared = Point.INVERTER_FAULT_BITS in look.asset.declared
    told = faults(look, Code.INVERTER_FAULT, Point.INVERTER_FAULT_BITS, -1) if declared else None
    if told is not None and told.trips:
        return told, notes
    found = look.values((Point.INVERTER_STATE,))
    if isinstance(found, tuple):
        return blind(look, Code.INVERTER_FAULT, found, 0.0, 0.0), notes
    if INVERTER_FAULT_STATE not in found:
        return told, notes
    state = float(INVERTER_FAULT_STATE)
    return shutdown(look, Code.INVERTER_FAULT, "its state is fault", state, None), notes


def inverter_alarm(look: Look, notes: Notes) -> Ruling:
    """An alarm event of the inverter is told about."""
    value = look.value(Point.INVERTER_ALARM_BITS)
    if not value:
        return None, notes
    text = f"inverter_alarm_bits 0x{int(value):08x}"
    return Verdict(Code.INVERTER_ALARM, Level.WARNING, Action.LOG, text, value), notes


def device_limit(look: Look, notes: Notes) -> Ruling:
    """What the device that takes the setpoints says it can do now. What it never said is no limit;
    what it said before and may not be believed now leaves nothing. Notes: which it has said."""
    rated_kw, said = look.asset.rated_kw, notes or (0.0, 0.0, 0.0)
    allowed = [
        _allowed(look.value(point), said=bool(before))
        for point, before in zip(LIMITS, said, strict=True)
    ]
    notes = tuple(
        float(before or look.value(point) is not None)
        for point, before in zip(LIMITS, said, strict=True)
    )
    out_kw, in_kw, circle_kva = allowed
    if min(out_kw, in_kw) >= rated_kw and circle_kva >= look.asset.apparent_kva:
        return None, notes
    text = f"device allows {out_kw:g} kW out, {in_kw:g} kW in, {circle_kva:g} kVA"
    limit = Limit(-min(in_kw, rated_kw), min(out_kw, rated_kw), Code.DEVICE_LIMIT, text, circle_kva)
    value = min(out_kw, in_kw, circle_kva)
    return Verdict(
        Code.DEVICE_LIMIT, Level.INFO, Action.REDUCE, text, value, rated_kw, limit
    ), notes


def _allowed(value: float | None, *, said: bool) -> float:
    if value is None:
        return 0.0 if said else math.inf
    return max(value, 0.0)


def power_disagrees(look: Look, notes: Notes) -> Ruling:
    """Inverter and controller measure different powers for long: an alarm. Notes: since when."""
    now_s, rated_kw = look.now.now_s, look.asset.rated_kw
    inverter_kw, battery_kw = look.value(Point.INVERTER_KW), look.value(Point.POWER_KW)
    if inverter_kw is None or battery_kw is None:
        return None, ()
    apart_kw, most_kw = abs(inverter_kw - battery_kw), POWER_DISAGREES_SHARE * rated_kw
    if apart_kw <= most_kw:
        return None, ()
    since_s = notes[0] if notes else now_s
    if now_s - since_s < POWER_DISAGREES_S:
        return None, (since_s,)
    text = f"inverter {inverter_kw:g} kW, controller {battery_kw:g} kW"
    verdict = Verdict(Code.POWER_DISAGREES, Level.WARNING, Action.LOG, text, apart_kw, most_kw)
    return verdict, (since_s,)
