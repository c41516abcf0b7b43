"""What is safe for a unit, one rule each.

A rule looks at one unit at one instant and says nothing, or a verdict: a limit (which always
contains 0), a level, an action, and whether it latches. What a rule must remember from tick to tick
are its notes: plain numbers, so that a recording can hold them and replay gets the same verdicts.

A value that may not be believed tightens the limit that needs it, in the directions that need it.
Rules only need points that a configured source declares. The numbers are those of the unit's
`safety` settings; volts and amperes are of one module.
"""

from vppd.core.alarms import Action, Code, Level
from vppd.core.asset import DEVICE_LIMITS, Asset
from vppd.core.model import Point, Quality
from vppd.field.interlocks_bms import (
    bms_disagrees,
    bms_fault,
    bms_forbids,
    bms_limit,
    bms_warning,
    charge_ends_v,
    discharge_ends_v,
)
from vppd.field.interlocks_follow import not_following
from vppd.field.interlocks_frozen import reading_frozen
from vppd.field.interlocks_inverter import (
    device_limit,
    inverter_alarm,
    inverter_fault,
    power_disagrees,
)
from vppd.field.interlocks_ramp import power_ramp
from vppd.field.interlocks_site import site_heard, site_ours
from vppd.field.rule import (
    BLIND,
    COLD,
    CURRENT,
    HOT,
    PACK,
    SOC,
    Look,
    Notes,
    Rule,
    Ruling,
    Verdict,
    blind,
    faults,
    floor,
    reach,
    sampled,
    shutdown,
)

POWERS = (Point.POWER_KW, Point.INVERTER_KW)
GOOD_READS_TO_RETURN = 3
RELEASE_PER_S = 0.01  # over-current gives back one percent of the rating a second
OVER_CURRENT_AIM = 0.95
TICK_MAX_S = 0.2  # no memory counts more elapsed time than this in one tick
SOC_RATE_SPAN_S, SOC_RATE_EVERY_S = 60.0, 5.0
RUNAWAY_SPAN_S, RUNAWAY_EVERY_S = 20.0, 5.0
HALF = 0.5
RATE_CLEARS_AT = 0.8
SPREAD_CLEARS_AT = 0.8


def link(look: Look, notes: Notes) -> Ruling:
    """No believable power reading: nothing. Back again: nothing until N good read-backs.

    Where an inverter stands beside the battery's controller, both must show their power.
    """
    point = next((each for each in POWERS if _unseen(look, each)), POWERS[0])
    if point not in look.asset.declared:
        point = POWERS[1]
    reading = look.now.readings.get((look.asset.id, point))
    quality = look.now.quality(look.asset.id, point)
    if reading is None or quality is not Quality.GOOD:
        verdict = blind(look, Code.LINK_LOST, (BLIND[quality], point), 0.0, 0.0)
        return verdict, (0.0, reading.at_s if reading is not None else -1.0)
    if not notes:
        return None, ()
    good, last_s = notes
    if reading.at_s > last_s:
        good += 1.0
    if good >= GOOD_READS_TO_RETURN:
        return None, ()
    text = f"{good:.0f} of {GOOD_READS_TO_RETURN} good read-backs"
    limit = reach(look.asset, 0.0, 0.0, Code.RETURNING, text)
    verdict = Verdict(Code.RETURNING, Level.INFO, Action.STOP, text, good, None, limit)
    return verdict, (good, reading.at_s)


def _unseen(look: Look, point: Point) -> bool:
    return point in look.asset.declared and look.value(point) is None


def soc_low(look: Look, notes: Notes) -> Ruling:
    """No discharge at or below the minimum; fades over the last percent. Charge stays allowed."""
    found = look.values(SOC)
    if isinstance(found, tuple):
        return blind(look, Code.SOC_LOW, found, 0.0, 1.0), notes
    soc_pct, safety = min(found), look.asset.safety
    minimum_pct = safety.soc_min_pct
    stopped = floor(soc_pct, minimum_pct, safety.soc_hysteresis_pct, notes)
    above_pct = soc_pct - minimum_pct
    return _soc_verdict(look, Code.SOC_LOW, soc_pct, minimum_pct, above_pct, stopped)


def soc_high(look: Look, notes: Notes) -> Ruling:
    """No charge at or above the maximum; fades over the last percent. Discharge stays allowed."""
    found = look.values(SOC)
    if isinstance(found, tuple):
        return blind(look, Code.SOC_HIGH, found, 1.0, 0.0), notes
    soc_pct, safety = max(found), look.asset.safety
    maximum_pct = safety.soc_max_pct
    stopped = floor(-soc_pct, -maximum_pct, safety.soc_hysteresis_pct, notes)
    below_pct = maximum_pct - soc_pct
    return _soc_verdict(look, Code.SOC_HIGH, soc_pct, maximum_pct, below_pct, stopped)


def _soc_verdict(
    look: Look, rule: Code, soc_pct: float, bound_pct: float, inside_pct: float, stopped: bool
) -> Ruling:
    fade_pct = look.asset.safety.soc_fade_pct
    if not stopped and inside_pct >= fade_pct:
        return None, ()
    share = 0.0 if stopped else inside_pct / fade_pct
    text = f"soc {soc_pct:.1f} %"
    discharge, charge = (share, 1.0) if rule is Code.SOC_LOW else (1.0, share)
    limit = reach(look.asset, discharge, charge, rule, text)
    level, action = (Level.WARNING, Action.STOP) if stopped else (Level.INFO, Action.REDUCE)
    verdict = Verdict(rule, level, action, text, soc_pct, bound_pct, limit)
    return verdict, (1.0,) if stopped else ()


def soc_rate(look: Look, notes: Notes) -> Ruling:
    """SoC that moves too fast over at least 60 s and two steps: half power until slower again.

    Notes: whether it holds, then samples (at_s, soc_pct, ...).
    """
    point = next(each for each in SOC if each in look.asset.declared)
    reading = look.reading(point)
    if reading is None:
        return None, notes
    holds, samples = bool(notes and notes[0]), notes[1:]
    samples = sampled(samples, reading.at_s, reading.value, SOC_RATE_EVERY_S, SOC_RATE_SPAN_S)
    span_s, moved_pct = reading.at_s - samples[0], abs(reading.value - samples[1])
    rate = moved_pct / span_s * 60.0 if span_s > 0.0 else 0.0
    maximum = look.asset.safety.soc_rate_max_pct_per_min
    if span_s >= SOC_RATE_SPAN_S:
        steps = moved_pct >= 2.0 * look.asset.soc_resolution_pct - 1e-9
        holds = (rate > maximum and steps) or (holds and rate > maximum * RATE_CLEARS_AT)
    notes = (1.0 if holds else 0.0, *samples)
    if not holds:
        return None, notes
    text = f"soc moves {rate:.2f} %/min"
    limit = reach(look.asset, HALF, HALF, Code.SOC_RATE, text)
    verdict = Verdict(Code.SOC_RATE, Level.WARNING, Action.REDUCE, text, rate, maximum, limit)
    return verdict, notes


def _under(
    look: Look,
    notes: Notes,
    rule: Code,
    points: tuple[Point, ...],
    low_v: float | tuple[Code, Point],
    hysteresis_v: float,
) -> Ruling:
    found = look.values(points)
    if isinstance(found, tuple):
        return blind(look, rule, found, 0.0, 1.0), notes
    if isinstance(low_v, tuple):
        return blind(look, rule, low_v, 0.0, 1.0), notes
    if not found:
        return None, ()
    value_v = min(found)
    if not floor(value_v, low_v, hysteresis_v, notes):
        return None, ()
    text = f"{value_v:.3f} V at or below {low_v:g} V"
    limit = reach(look.asset, 0.0, 1.0, rule, text)
    return Verdict(rule, Level.CRITICAL, Action.STOP, text, value_v, low_v, limit), (1.0,)


def _over(
    look: Look,
    notes: Notes,
    rule: Code,
    points: tuple[Point, ...],
    high_v: float | tuple[Code, Point],
    hysteresis_v: float,
) -> Ruling:
    found = look.values(points)
    if isinstance(found, tuple):
        return blind(look, rule, found, 1.0, 0.0), notes
    if isinstance(high_v, tuple):
        return blind(look, rule, high_v, 1.0, 0.0), notes
    if not found:
        return None, ()
    value_v = max(found)
    if not floor(-value_v, -high_v, hysteresis_v, notes):
        return None, ()
    text = f"{value_v:.3f} V at or above {high_v:g} V"
    limit = reach(look.asset, 1.0, 0.0, rule, text)
    return Verdict(rule, Level.CRITICAL, Action.STOP, text, value_v, high_v, limit), (1.0,)


def cell_under_voltage(look: Look, notes: Notes) -> Ruling:
    """Lowest cell at or below its minimum: no discharge."""
    safety = look.asset.safety
    points = (Point.CELL_MIN_V,)
    rule = Code.CELL_UNDER_VOLTAGE
    return _under(look, notes, rule, points, safety.cell_min_v, safety.cell_hysteresis_v)


def cell_over_voltage(look: Look, notes: Notes) -> Ruling:
    """Highest cell at or above its maximum: no charge."""
    safety = look.asset.safety
    points = (Point.CELL_MAX_V,)
    rule = Code.CELL_OVER_VOLTAGE
    return _over(look, notes, rule, points, safety.cell_max_v, safety.cell_hysteresis_v)


def pack_under_voltage(look: Look, notes: Notes) -> Ruling:
    """Pack at or below its minimum, or the BMS's own: no discharge."""
    hysteresis_v = look.asset.safety.pack_hysteresis_v
    rule = Code.PACK_UNDER_VOLTAGE
    return _under(look, notes, rule, PACK, discharge_ends_v(look), hysteresis_v)


def pack_over_voltage(look: Look, notes: Notes) -> Ruling:
    """Pack at or above its maximum, or the BMS's own: no charge."""
    hysteresis_v = look.asset.safety.pack_hysteresis_v
    rule = Code.PACK_OVER_VOLTAGE
    return _over(look, notes, rule, PACK, charge_ends_v(look), hysteresis_v)


def over_current(look: Look, notes: Notes) -> Ruling:
    """Over the limit: power at once to 0.95 x limit / measured of what was measured, given back at
    1 %/s; over it for `over_current_stop_s`: nothing, given back the same way.

    Notes: the cap each way as share of the rating, since when it is over each way (-1: not), now.
    """
    found = look.values(CURRENT)
    if isinstance(found, tuple):
        return blind(look, Code.OVER_CURRENT, found, 0.0, 0.0), notes
    now_s, asset, safety = look.now.now_s, look.asset, look.asset.safety
    out_cap, in_cap, out_since_s, in_since_s, last_s = notes or (1.0, 1.0, -1.0, -1.0, now_s)
    dt_s = min(max(now_s - last_s, 0.0), TICK_MAX_S)
    power_kw = look.value(Point.POWER_KW)
    out_share = 1.0 if power_kw is None else min(max(power_kw / asset.rated_kw, 0.0), 1.0)
    in_share = 1.0 if power_kw is None else min(max(-power_kw / asset.rated_kw, 0.0), 1.0)
    out_a, in_a = max(found), -min(found)
    stop_s = safety.over_current_stop_s
    out_cap, out_since_s = _current_cap(
        out_a / safety.discharge_max_a, out_share, out_cap, out_since_s, now_s, dt_s, stop_s
    )
    in_cap, in_since_s = _current_cap(
        in_a / safety.charge_max_a, in_share, in_cap, in_since_s, now_s, dt_s, stop_s
    )
    if out_cap >= 1.0 and in_cap >= 1.0:
        return None, ()
    notes = (out_cap, in_cap, out_since_s, in_since_s, now_s)
    out_rules = out_cap <= in_cap
    value_a, bound_a = (
        (out_a, safety.discharge_max_a) if out_rules else (-in_a, -safety.charge_max_a)
    )
    text = f"{value_a:.1f} A of {bound_a:g} A"
    limit = reach(asset, out_cap, in_cap, Code.OVER_CURRENT, text)
    action = Action.STOP if min(out_cap, in_cap) <= 0.0 else Action.REDUCE
    verdict = Verdict(Code.OVER_CURRENT, Level.CRITICAL, action, text, value_a, bound_a, limit)
    return verdict, notes


def _current_cap(
    ratio: float,
    power_share: float,
    cap_share: float,
    since_s: float,
    now_s: float,
    dt_s: float,
    stop_s: float,
) -> tuple[float, float]:
    """The cap of one direction and since when it is over; `ratio` is measured over limit."""
    if ratio <= 1.0:
        return min(cap_share + RELEASE_PER_S * dt_s, 1.0), -1.0
    if since_s < 0.0:
        since_s = now_s
    if now_s - since_s >= stop_s:
        return 0.0, since_s
    return min(cap_share, power_share * OVER_CURRENT_AIM / ratio), since_s


def temperature_high(look: Look, notes: Notes) -> Ruling:
    """Power fades to nothing towards the maximum."""
    found = look.values(HOT)
    if isinstance(found, tuple):
        return blind(look, Code.TEMPERATURE_HIGH, found, 0.0, 0.0), notes
    hot_c, safety = max(found), look.asset.safety
    maximum_c = safety.temperature_max_c
    stopped = floor(-hot_c, -maximum_c, safety.temperature_hysteresis_c, notes)
    below_c = maximum_c - hot_c
    if not stopped and below_c >= safety.temperature_fade_c:
        return None, ()
    share = 0.0 if stopped else below_c / safety.temperature_fade_c
    text = f"{hot_c:.1f} C"
    limit = reach(look.asset, share, share, Code.TEMPERATURE_HIGH, text)
    level, action = (Level.CRITICAL, Action.STOP) if stopped else (Level.WARNING, Action.REDUCE)
    verdict = Verdict(Code.TEMPERATURE_HIGH, level, action, text, hot_c, maximum_c, limit)
    return verdict, (1.0,) if stopped else ()


def temperature_low(look: Look, notes: Notes) -> Ruling:
    """Nothing below the minimum."""
    found = look.values(COLD)
    if isinstance(found, tuple):
        return blind(look, Code.TEMPERATURE_LOW, found, 0.0, 0.0), notes
    cold_c, safety = min(found), look.asset.safety
    minimum_c = safety.temperature_min_c
    back_c = minimum_c + safety.temperature_hysteresis_c
    if cold_c >= minimum_c and not (notes and cold_c < back_c):
        return None, ()
    text = f"{cold_c:.1f} C"
    limit = reach(look.asset, 0.0, 0.0, Code.TEMPERATURE_LOW, text)
    verdict = Verdict(
        Code.TEMPERATURE_LOW, Level.CRITICAL, Action.STOP, text, cold_c, minimum_c, limit
    )
    return verdict, (1.0,)


def charge_cold(look: Look, notes: Notes) -> Ruling:
    """Charging fades to nothing towards its own minimum temperature."""
    found = look.values(COLD)
    if isinstance(found, tuple):
        return blind(look, Code.CHARGE_COLD, found, 1.0, 0.0), notes
    cold_c, safety = min(found), look.asset.safety
    minimum_c = safety.charge_temperature_min_c
    stopped = floor(cold_c, minimum_c, safety.temperature_hysteresis_c, notes)
    above_c = cold_c - minimum_c
    if not stopped and above_c >= safety.charge_temperature_fade_c:
        return None, ()
    share = 0.0 if stopped else above_c / safety.charge_temperature_fade_c
    text = f"{cold_c:.1f} C"
    limit = reach(look.asset, 1.0, share, Code.CHARGE_COLD, text)
    level, action = (Level.WARNING, Action.STOP) if stopped else (Level.INFO, Action.REDUCE)
    verdict = Verdict(Code.CHARGE_COLD, level, action, text, cold_c, minimum_c, limit)
    return verdict, (1.0,) if stopped else ()


def over_temperature(look: Look, notes: Notes) -> Ruling:
    """Any believed temperature at or above the critical one: shutdown, latched."""
    seen = [value for point in HOT if (value := look.value(point)) is not None]
    critical_c = look.asset.safety.temperature_critical_c
    if not seen or max(seen) < critical_c:
        return None, notes
    return shutdown(look, Code.OVER_TEMPERATURE, f"{max(seen):.1f} C", max(seen), critical_c), notes


def thermal_runaway(look: Look, notes: Notes) -> Ruling:
    """Hot and rising fast over at least 20 s by one sensor: shutdown, latched. Each is judged by
    itself: one that falls silent while hotter than the other is not a rise when it is back.

    Notes: how many of them are the first sensor's, then samples (at_s, c, ...) of each.
    """
    if len(notes) % 2 == 0:  # none, or as another version of this rule left them
        notes = (0.0,)
    safety, first = look.asset.safety, 1 + int(notes[0])
    kept: list[Notes] = []
    told: Verdict | None = None
    for point, before in zip(HOT, (notes[1:first], notes[first:]), strict=True):
        reading = look.reading(point)
        if reading is None:
            kept.append(before)
            continue
        at_s, hot_c = reading.at_s, reading.value
        samples = sampled(before, at_s, hot_c, RUNAWAY_EVERY_S, RUNAWAY_SPAN_S)
        kept.append(samples)
        span_s = at_s - samples[0]
        if hot_c < safety.runaway_temperature_c or span_s < RUNAWAY_SPAN_S:
            continue
        rate, bound = (hot_c - samples[1]) / span_s * 60.0, safety.runaway_rate_max_c_per_min
        if rate > bound:
            text = f"{hot_c:.1f} C rising {rate:.1f} C/min"
            told = shutdown(look, Code.THERMAL_RUNAWAY, text, rate, bound)
    return told, (float(len(kept[0])), *kept[0], *kept[1])


def cell_spread(look: Look, notes: Notes) -> Ruling:
    """Cells too far apart: half power until back inside."""
    found = look.values((Point.CELL_MAX_V, Point.CELL_MIN_V))
    if isinstance(found, tuple):
        return None, notes  # cell voltage rules stop both directions already
    spread_v, maximum_v = found[0] - found[1], look.asset.safety.cell_delta_max_v
    if spread_v <= maximum_v and not (notes and spread_v > maximum_v * SPREAD_CLEARS_AT):
        return None, ()
    text = f"cells {spread_v * 1000.0:.0f} mV apart"
    limit = reach(look.asset, HALF, HALF, Code.CELL_SPREAD, text)
    verdict = Verdict(
        Code.CELL_SPREAD, Level.WARNING, Action.REDUCE, text, spread_v, maximum_v, limit
    )
    return verdict, (1.0,)


def soh_low(look: Look, notes: Notes) -> Ruling:
    """An old battery is only told about."""
    found = [look.value(point) for point in (Point.SOH_PCT, Point.BMS_SOH_PCT)]
    value_pct = min((value for value in found if value is not None), default=None)
    bound_pct = look.asset.safety.soh_min_pct
    if value_pct is None or value_pct >= bound_pct + (1.0 if notes else 0.0):
        return None, ()
    text = f"soh {value_pct:.1f} %"
    return Verdict(Code.SOH_LOW, Level.WARNING, Action.LOG, text, value_pct, bound_pct), (1.0,)


def device_fault(look: Look, notes: Notes) -> Ruling:
    """Any fault bit of the device that the profile counts: shutdown, latched."""
    return faults(look, Code.DEVICE_FAULT, Point.FAULT_BITS, look.asset.fault_mask), notes


def device_alarm(look: Look, notes: Notes) -> Ruling:
    """An alarm bit of the device is told about."""
    value = look.value(Point.ALARM_BITS)
    bits = 0 if value is None else int(value) & look.asset.alarm_mask
    if not bits:
        return None, notes
    text = f"alarm_bits 0x{bits:04x}"
    return Verdict(Code.DEVICE_ALARM, Level.WARNING, Action.LOG, text, float(bits)), notes


RULES: tuple[Rule, ...] = (
    Rule(Code.LINK_LOST, POWERS, link),
    Rule(Code.CELL_UNDER_VOLTAGE, (Point.CELL_MIN_V,), cell_under_voltage),
    Rule(Code.PACK_UNDER_VOLTAGE, (*PACK, Point.BMS_DISCHARGE_MIN_V), pack_under_voltage),
    Rule(Code.CELL_OVER_VOLTAGE, (Point.CELL_MAX_V,), cell_over_voltage),
    Rule(Code.PACK_OVER_VOLTAGE, (*PACK, Point.BMS_CHARGE_MAX_V), pack_over_voltage),
    Rule(Code.OVER_CURRENT, CURRENT, over_current),
    Rule(Code.TEMPERATURE_HIGH, HOT, temperature_high),
    Rule(Code.TEMPERATURE_LOW, COLD, temperature_low),
    Rule(Code.CHARGE_COLD, COLD, charge_cold),
    Rule(Code.OVER_TEMPERATURE, HOT, over_temperature),
    Rule(Code.THERMAL_RUNAWAY, HOT, thermal_runaway),
    Rule(Code.SOC_LOW, SOC, soc_low),
    Rule(Code.SOC_HIGH, SOC, soc_high),
    Rule(Code.SOC_RATE, SOC, soc_rate),
    Rule(Code.CELL_SPREAD, (Point.CELL_MAX_V, Point.CELL_MIN_V), cell_spread, every=True),
    Rule(Code.POWER_RAMP, (Point.POWER_KW,), power_ramp),
    Rule(Code.SOH_LOW, (Point.SOH_PCT, Point.BMS_SOH_PCT), soh_low),
    Rule(Code.DEVICE_FAULT, (Point.FAULT_BITS,), device_fault),
    Rule(Code.DEVICE_ALARM, (Point.ALARM_BITS,), device_alarm),
    Rule(Code.BMS_FAULT, (Point.BMS_FAULT_BITS,), bms_fault),
    Rule(Code.BMS_WARNING, (Point.BMS_WARNING_BITS,), bms_warning),
    Rule(Code.BMS_FORBIDS, (Point.BMS_CHARGE_ALLOWED, Point.BMS_DISCHARGE_ALLOWED), bms_forbids),
    Rule(Code.BMS_LIMIT, (Point.BMS_DISCHARGE_MAX_A, Point.BMS_CHARGE_MAX_A), bms_limit),
    Rule(Code.INVERTER_FAULT, (Point.INVERTER_FAULT_BITS, Point.INVERTER_STATE), inverter_fault),
    Rule(Code.INVERTER_ALARM, (Point.INVERTER_ALARM_BITS,), inverter_alarm),
    Rule(
        Code.DEVICE_LIMIT,
        (Point.DISCHARGE_MAX_KW, Point.CHARGE_MAX_KW, Point.APPARENT_MAX_KVA),
        device_limit,
    ),
    Rule(Code.POWER_DISAGREES, (Point.INVERTER_KW, Point.POWER_KW), power_disagrees, every=True),
    Rule(Code.NOT_FOLLOWING, POWERS, not_following),
    Rule(Code.READING_FROZEN, (Point.PACK_A, Point.INVERTER_STATE), reading_frozen),
    Rule(Code.LINK_LOST, (Point.SITE_ONLINE,), site_heard),
    Rule(Code.NOT_OURS, (Point.SITE_OURS,), site_ours),
    Rule(Code.BMS_DISAGREES, (Point.BMS_SOC_PCT, Point.PACK_V, Point.PACK_A), bms_disagrees),
)
ALARM_ONLY = (
    frozenset(
        {
            Point.SOH_PCT,
            Point.BMS_SOH_PCT,
            Point.ALARM_BITS,
            Point.BMS_WARNING_BITS,
            Point.INVERTER_ALARM_BITS,
        }
    )
    | DEVICE_LIMITS
)


def needs(asset: Asset, rules: tuple[Rule, ...] = RULES) -> frozenset[Point]:
    """The declared points that must have been read good once before the unit may move."""
    wanted = {point for rule in rules if rule.applies(asset) for point in rule.points}
    return frozenset(wanted & asset.declared) - ALARM_ONLY
