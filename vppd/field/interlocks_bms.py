"""The rules that only a BMS can feed: its faults, its own limits, and whether it agrees."""

from vppd.core.alarms import Action, Code, Level
from vppd.core.model import Limit, Point
from vppd.field.rule import CURRENT, PACK, SOC, Look, Notes, Ruling, Verdict, blind, faults

SOC_DISAGREE_PCT, VOLTAGE_DISAGREE_V, CURRENT_DISAGREE_A = 5.0, 1.0, 10.0


def bms_fault(look: Look, notes: Notes) -> Ruling:
    """Any fault bit of the BMS: shutdown, latched."""
    return faults(look, Code.BMS_FAULT, Point.BMS_FAULT_BITS, -1), notes


def bms_limit(look: Look, notes: Notes) -> Ruling:
    """What the BMS allows now, A of one module, as kW at the pack's voltage."""
    found = look.values((Point.BMS_DISCHARGE_MAX_A, Point.BMS_CHARGE_MAX_A))
    if isinstance(found, tuple):
        return blind(look, Code.BMS_LIMIT, found, 0.0, 0.0), notes
    volts = look.values(PACK)
    if isinstance(volts, tuple):
        return None, notes  # the pack voltage rules stop both directions already
    kw_per_a = max(min(volts, default=0.0), 0.0) * look.asset.modules / 1000.0
    out_kw, in_kw = (max(value_a, 0.0) * kw_per_a for value_a in found)
    rated_kw = look.asset.rated_kw
    if out_kw >= rated_kw and in_kw >= rated_kw:
        return None, notes
    text = f"BMS allows {found[0]:g} A out, {found[1]:g} A in"
    limit = Limit(-min(in_kw, rated_kw), min(out_kw, rated_kw), Code.BMS_LIMIT, text)
    value_a = min(found)
    return Verdict(Code.BMS_LIMIT, Level.INFO, Action.REDUCE, text, value_a, None, limit), notes


def bms_disagrees(look: Look, notes: Notes) -> Ruling:
    """BMS and Modbus far apart: an alarm; every rule takes the worse of the two already."""
    for points, tolerance in (
        (SOC, SOC_DISAGREE_PCT),
        (PACK, VOLTAGE_DISAGREE_V),
        (CURRENT, CURRENT_DISAGREE_A),
    ):
        found = look.values(points)
        if isinstance(found, list) and len(found) == len(points):
            apart = max(found) - min(found)
            if apart > tolerance:
                text = f"{points[0]} {found[0]:g} and {points[1]} {found[1]:g}"
                verdict = Verdict(
                    Code.BMS_DISAGREES, Level.WARNING, Action.LOG, text, apart, tolerance
                )
                return verdict, notes
    return None, notes
