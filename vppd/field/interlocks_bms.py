"""The rules that only a BMS can feed: its faults and warnings, its own limits, what it forbids, and
whether it agrees with the controller."""

from vppd.core.alarms import Action, Code, Level
from vppd.core.model import Limit, Point
from vppd.field.rule import (
    CURRENT,
    PACK,
    SOC,
    Blind,
    Look,
    Notes,
    Ruling,
    Verdict,
    blind,
    faults,
    reach,
)

SOC_DISAGREE_PCT, VOLTAGE_DISAGREE_V, CURRENT_DISAGREE_A = 5.0, 1.0, 10.0
Blindness = tuple[Code, Point]


def bms_fault(look: Look, notes: Notes) -> Ruling:
    """Any fault bit of the BMS that its model counts: shutdown, latched."""
    mask = look.asset.bms_fault_mask
    return faults(look, Code.BMS_FAULT, Point.BMS_FAULT_BITS, mask), notes


def bms_warning(look: Look, notes: Notes) -> Ruling:
    """A warning bit of the BMS is told about."""
    value = look.value(Point.BMS_WARNING_BITS)
    bits = 0 if value is None else int(value) & look.asset.bms_warning_mask
    if not bits:
        return None, notes
    text = f"bms_warning_bits 0x{bits:04x}"
    return Verdict(Code.BMS_WARNING, Level.WARNING, Action.LOG, text, float(bits)), notes


def bms_forbids(look: Look, notes: Notes) -> Ruling:
    """A direction that the BMS does not allow, or of which it says nothing, stops."""
    stopped = {
        word: why
        for word, point in (
            ("discharge", Point.BMS_DISCHARGE_ALLOWED),
            ("charge", Point.BMS_CHARGE_ALLOWED),
        )
        if (why := _forbidden(look, point)) is not None
    }
    if not stopped:
        return None, notes
    text = ", ".join(f"no {word}: {why}" for word, why in stopped.items())
    out_share, in_share = (float(word not in stopped) for word in ("discharge", "charge"))
    limit = reach(look.asset, out_share, in_share, Code.BMS_FORBIDS, text)
    unseen = [why for why in stopped.values() if isinstance(why, Blind)]
    blind_to = unseen[0] if len(unseen) == len(stopped) else None
    verdict = Verdict(
        Code.BMS_FORBIDS, Level.WARNING, Action.STOP, text, 0.0, 1.0, limit, blind=blind_to
    )
    return verdict, notes


def _forbidden(look: Look, point: Point) -> str | Blind | None:
    found = look.values((point,))
    if isinstance(found, tuple):
        return Blind(look.asset.device_of(point), *found)
    return "the BMS does not allow it" if 0.0 in found else None


def bms_limit(look: Look, notes: Notes) -> Ruling:
    """What the BMS allows now, A of one module each way, as kW at the pack's voltage.

    Where nobody measures that voltage, at the lowest one the unit may have: rather too little.
    """
    out_a = look.values((Point.BMS_DISCHARGE_MAX_A,))
    in_a = look.values((Point.BMS_CHARGE_MAX_A,))
    if isinstance(out_a, tuple):
        return blind(look, Code.BMS_LIMIT, out_a, 0.0, 0.0), notes
    if isinstance(in_a, tuple):
        return blind(look, Code.BMS_LIMIT, in_a, 0.0, 0.0), notes
    volts = look.values(PACK)
    if isinstance(volts, tuple):
        return None, notes  # the pack voltage rules stop both directions already
    pack_v = max(min(volts, default=look.asset.safety.pack_min_v), 0.0)
    kw_per_a, rated_kw = pack_v * look.asset.modules / 1000.0, look.asset.rated_kw
    out_kw, in_kw = (max(each[0], 0.0) * kw_per_a if each else rated_kw for each in (out_a, in_a))
    if out_kw >= rated_kw and in_kw >= rated_kw:
        return None, notes
    told = [*(f"{a:g} A out" for a in out_a), *(f"{a:g} A in" for a in in_a)]
    text = f"BMS allows {', '.join(told)}"
    limit = Limit(-min(in_kw, rated_kw), min(out_kw, rated_kw), Code.BMS_LIMIT, text)
    value_a = min([*out_a, *in_a])
    return Verdict(Code.BMS_LIMIT, Level.INFO, Action.REDUCE, text, value_a, None, limit), notes


def charge_ends_v(look: Look) -> float | Blindness:
    """The pack voltage that ends charging: the unit's, or the BMS's own where that is lower."""
    found = look.values((Point.BMS_CHARGE_MAX_V,))
    if isinstance(found, tuple):
        return found
    return min([look.asset.safety.pack_max_v, *found])


def discharge_ends_v(look: Look) -> float | Blindness:
    """The pack voltage that ends discharging: the unit's, or the BMS's own where that is higher."""
    found = look.values((Point.BMS_DISCHARGE_MIN_V,))
    if isinstance(found, tuple):
        return found
    return max([look.asset.safety.pack_min_v, *found])


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
