"""The rules that only a BMS can feed: its faults and warnings, its own limits, what it forbids, and
whether it agrees with the controller."""

import math

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
DISAGREES_S = 5.0  # volts and amperes move with power, and the two are read apart
PAIRS = (
    (SOC, SOC_DISAGREE_PCT, 0.0),
    (PACK, VOLTAGE_DISAGREE_V, DISAGREES_S),
    (CURRENT, CURRENT_DISAGREE_A, DISAGREES_S),
)
NOT_APART = -1.0
WIDENS_S = 2.0  # two frames of the slowest known: a limit that flickers must not shake the unit
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
    """A direction that the BMS does not allow, or of which it says nothing, stops; it opens again
    when that was allowed for `WIDENS_S`. Notes: when either was not allowed last."""
    stopped: dict[str, str | Blind] = {}
    last_s: Notes = ()
    for word, point, closed_s in zip(
        ("discharge", "charge"),
        (Point.BMS_DISCHARGE_ALLOWED, Point.BMS_CHARGE_ALLOWED),
        notes or (-math.inf, -math.inf),
        strict=True,
    ):
        why = _forbidden(look, point)
        at_s = look.now.now_s if isinstance(why, str) else closed_s
        last_s = (*last_s, at_s)
        if why is not None:
            stopped[word] = why
        elif look.now.now_s - at_s < WIDENS_S:
            stopped[word] = "the BMS did not allow it a moment ago"
    if not stopped:
        return None, ()
    text = ", ".join(f"no {word}: {why}" for word, why in stopped.items())
    out_share, in_share = (float(word not in stopped) for word in ("discharge", "charge"))
    limit = reach(look.asset, out_share, in_share, Code.BMS_FORBIDS, text)
    unseen = [why for why in stopped.values() if isinstance(why, Blind)]
    blind_to = unseen[0] if len(unseen) == len(stopped) else None
    verdict = Verdict(
        Code.BMS_FORBIDS, Level.WARNING, Action.STOP, text, 0.0, 1.0, limit, blind=blind_to
    )
    return verdict, last_s


def _forbidden(look: Look, point: Point) -> str | Blind | None:
    found = look.values((point,))
    if isinstance(found, tuple):
        return Blind(look.asset.device_of(point), *found)
    return "the BMS does not allow it" if 0.0 in found else None


def bms_limit(look: Look, notes: Notes) -> Ruling:
    """What the BMS allows, A of one module each way, as kW at the pack's voltage. Less counts at
    once, more after `WIDENS_S`: power does not follow a limit that flickers.

    Where nobody measures that voltage, at the lowest one the unit may have: rather too little.
    Notes: what counts and since when it may widen, each way.
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
    before = notes or (rated_kw, -math.inf) * 2
    out_kw, out_s = _widened(min(out_kw, rated_kw), before[:2], look.now.now_s)
    in_kw, in_s = _widened(min(in_kw, rated_kw), before[2:], look.now.now_s)
    notes, held = (out_kw, out_s, in_kw, in_s), look.now.now_s > min(out_s, in_s)
    if out_kw >= rated_kw and in_kw >= rated_kw:
        return None, ()
    told = [*(f"{a:g} A out" for a in out_a), *(f"{a:g} A in" for a in in_a)]
    text = f"BMS allows {', '.join(told)}" + (", less a moment ago" if held else "")
    limit = Limit(-in_kw, out_kw, Code.BMS_LIMIT, text)
    value_a = min([*out_a, *in_a])
    return Verdict(Code.BMS_LIMIT, Level.INFO, Action.REDUCE, text, value_a, None, limit), notes


def _widened(said_kw: float, before: Notes, now_s: float) -> tuple[float, float]:
    """What counts of what is said now, and when less than that was said last."""
    counts_kw, at_s = before
    if said_kw > counts_kw and now_s - at_s < WIDENS_S:
        return counts_kw, at_s
    return said_kw, now_s


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
    """BMS and Modbus far apart: an alarm; every rule takes the worse of the two already. What moves
    with power has to be so for long. Notes: since when each pair is (NOT_APART: it is not)."""
    now_s, told = look.now.now_s, None
    kept: Notes = ()
    for (points, tolerance, lasts_s), since_s in zip(
        PAIRS, notes or (NOT_APART,) * len(PAIRS), strict=True
    ):
        found = look.values(points)
        both = found if isinstance(found, list) and len(found) == len(points) else [0.0]
        apart = max(both) - min(both)
        begun_s = NOT_APART if apart <= tolerance else now_s if since_s < 0.0 else since_s
        kept = (*kept, begun_s)
        if told is None and apart > tolerance and now_s - begun_s >= lasts_s:
            text = f"{points[0]} {both[0]:g} and {points[1]} {both[1]:g}"
            rule, level = Code.BMS_DISAGREES, Level.WARNING
            told = Verdict(rule, level, Action.LOG, text, apart, tolerance)
    return told, kept
