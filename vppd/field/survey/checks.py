"""What a device must have besides believable values: its registers, its timers, its time, and
agreement with its companions and with field.yaml. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from vppd.core.model import Point
from vppd.core.profile import DeviceProfile
from vppd.core.settings import SafetySettings, UnitSettings
from vppd.field.survey.remarks import Remark, fine, odd, wrong
from vppd.field.survey.values import SHARE, SIMILAR, Values, power_of_ten
from vppd.field.survey.wire import Shown, spans

BUSY_SHARE = 0.7  # of its period: a line this busy has no room for writes and retries
SOC_APART_PCT = 5.0
VOLTS_APART_SHARE = 0.03
VOLTS_ROUNDED_V = 0.05  # of a BMS that counts tenths
OVERLOAD = 1.3  # times its rating: more is no power of an inverter, but a scale
POWER_APART_SHARE = 0.1  # of rated power, or of the larger of two
CLOCK_APART_S = 5.0
REVERT_LONGEST_S = 600.0


def registers(profile: DeviceProfile, shown: Shown) -> Iterator[Remark]:
    """Holes learned, points the device does not have, and read-backs of what is written."""
    gaps, dead = shown.holes.gaps, shown.refused
    if gaps:
        text = f"exception in {spans(gaps)}: learned, the rest is read around it"
        yield fine("holes", text)
    if dead:
        text = "; ".join(f"{point}: {why}" for point, why in dead.items())
        remedy = "another profile or firmware? or an own profile in devices/ without these points"
        yield wrong("holes", text, remedy)
    if shown.unanswered:
        yield wrong("registers", f"only a part could be read: {shown.unanswered}")
    if profile.read_only:
        yield fine("read-back", "only read: vppd writes nothing to it")
        return
    unread = [
        name for name, spec in profile.writes.items() if spec.read_back not in shown.registers
    ]
    if unread:
        text = f"what is written to {', '.join(unread)} cannot be read back"
        yield wrong("read-back", text, "vppd could not tell whether its setpoint was taken")
    elif profile.writes:
        yield fine("read-back", f"{len(profile.writes)} writable registers can be read back")


def revert(profile: DeviceProfile, values: Values) -> Iterator[Remark]:
    """The device's own command time-out."""
    timeout_s = values.get(Point.COMMAND_TIMEOUT_S)
    if profile.revert.kind == "none" or profile.read_only:
        return
    ours = f"vppd programs {profile.revert.timeout_s:g} s"
    if timeout_s is None:
        if Point.COMMAND_TIMEOUT_S in profile.points:
            remedy = "is it the profile of this firmware? without it the device does not revert"
            yield wrong("revert", "the command time-out cannot be read", remedy)
    elif timeout_s > REVERT_LONGEST_S or timeout_s < 0.0:
        text = f"command time-out {timeout_s:g} s is set; {ours}"
        yield odd("revert", text, "is its scale right, and who has set it?")
    elif timeout_s == 0.0:
        yield fine("revert", f"command time-out is 0 (never) now; {ours} when it runs")
    else:
        yield fine("revert", f"command time-out is {timeout_s:g} s; {ours} when it runs")


def poll_time(took_s: float, poll_s: float) -> Remark:
    """One poll of the fast points, as measured, against its period."""
    text = f"the fast points take {took_s:.3f} s, poll_s is {poll_s:g} s"
    if took_s > poll_s:
        return wrong("poll time", text, f"poll_s: {_rounded(2.0 * took_s):g} or more")
    if took_s > BUSY_SHARE * poll_s:
        return odd("poll time", text, f"poll_s: {_rounded(2.0 * took_s):g}, or a faster line")
    return fine("poll time", text)


def line_time(cycles: Mapping[str, tuple[float, float]]) -> Remark | None:
    """All devices of one line together; (took, period) in s of each by name."""
    if len(cycles) < 2:  # noqa: PLR2004  one alone is judged by `poll_time`
        return None
    share = sum(took_s / poll_s for took_s, poll_s in cycles.values())
    text = f"{len(cycles)} devices share the line; polling all takes {100.0 * share:.0f} % of it"
    if share > 1.0:
        return wrong("line", text, "longer poll_s, a higher baudrate, or another line")
    if share > BUSY_SHARE:
        return odd("line", text, "little room is left for writes; longer poll_s helps")
    return fine("line", text)


def clock_skew(device_s: float, ours_s: float) -> Remark:
    """The device's clock against ours, both in s since the same epoch."""
    apart_s = device_s - ours_s
    text = f"the device's clock is {round(apart_s, 1) + 0.0:+.1f} s from this computer's"
    if abs(apart_s) > CLOCK_APART_S:
        return odd("clock", text, "set both by NTP; vppd itself does not use the device's clock")
    return fine("clock", text)


def device_limits(values: Values, unit: UnitSettings) -> Iterator[Remark]:
    """What the device allows, against what field.yaml wants of it."""
    kva = unit.rated_apparent_kva or unit.rated_power_kw
    for point, wanted, key in (
        (Point.DISCHARGE_MAX_KW, unit.rated_power_kw, "rated_power_kw"),
        (Point.CHARGE_MAX_KW, unit.rated_power_kw, "rated_power_kw"),
        (Point.APPARENT_MAX_KVA, kva, "rated_apparent_kva"),
    ):
        told = values.get(point)
        if told is None:
            continue
        text = f"{point} of the device is {told:g}, {key} {wanted:g}"
        if told <= 0.0:
            yield odd("limits", text, "the device allows nothing now: is it ready, full or empty?")
        elif power_of_ten(told / wanted, SHARE) is not None:
            yield wrong("scale", text, f"the scale of {point}, or {key}")
        elif told < wanted * (1.0 - SHARE):
            yield odd("limits", text, f"the smaller rules; set {key} to what the device can do")
        else:
            yield fine("limits", text)


def bms_limits(values: Values, safety: SafetySettings) -> Iterator[Remark]:
    """The BMS's own limits against `safety`; the smaller of both rules."""
    for point, wanted, key in (
        (Point.BMS_CHARGE_MAX_A, safety.charge_max_a, "charge_max_a"),
        (Point.BMS_DISCHARGE_MAX_A, safety.discharge_max_a, "discharge_max_a"),
    ):
        told = values.get(point)
        if told is None:
            continue
        text = f"the BMS allows {told:g} A now, safety.{key} is {wanted:g} A: the smaller rules"
        if told <= 0.0:
            yield odd("limits", text, "the BMS allows nothing this way: full, empty, cold or ill?")
        elif told != wanted and power_of_ten(told / wanted, 0.01) is not None:
            yield odd("scale", text, "is it of one module or of the unit (pack_total)?")
        else:
            yield fine("limits", text)
    highest_v, lowest_v = values.get(Point.BMS_CHARGE_MAX_V), values.get(Point.BMS_DISCHARGE_MIN_V)
    if highest_v is not None and highest_v < safety.pack_max_v - VOLTS_ROUNDED_V:
        text = f"the BMS charges to {highest_v:g} V, safety.pack_max_v is {safety.pack_max_v:g} V"
        yield odd("limits", text, f"the BMS opens first; pack_max_v: {highest_v:g} or less")
    if lowest_v is not None and lowest_v > safety.pack_min_v + VOLTS_ROUNDED_V:
        text = f"the BMS ends at {lowest_v:g} V, safety.pack_min_v is {safety.pack_min_v:g} V"
        yield odd("limits", text, f"the BMS opens first; pack_min_v: {lowest_v:g} or more")


def companions(values: Values, unit: UnitSettings) -> Iterator[Remark]:
    """The devices of one unit against one another, by all their values together."""
    yield from _powers(values, unit)
    yield from _overload(values, unit)
    yield from _dc_side(values, unit)
    # the values of an inverter that is alone have the names of a controller's
    driven = "controller" if unit.modbus is not None else "inverter"
    for first, second, names in (
        (Point.BMS_SOC_PCT, Point.SOC_PCT, f"BMS SoC, {driven} SoC"),
        (Point.INVERTER_SOC_PCT, Point.SOC_PCT, f"inverter SoC, {driven} SoC"),
        (Point.INVERTER_SOC_PCT, Point.BMS_SOC_PCT, "inverter SoC, BMS SoC"),
    ):
        if (one := values.get(first)) is None or (other := values.get(second)) is None:
            continue
        text = f"{names}: {one:g} %, {other:g} %"
        if abs(one - other) > SOC_APART_PCT:
            yield wrong("cross-check", text, "is it the same battery? scales? is one uncalibrated?")
        else:
            yield fine("cross-check", text)
    pack_v, volts = values.get(Point.PACK_V), values.get(Point.VOLTAGE_V)
    if pack_v is not None and volts:
        text = f"BMS pack voltage {pack_v:g} V, controller {volts:g} V"
        if abs(pack_v / volts - 1.0) <= VOLTS_APART_SHARE:
            yield fine("cross-check", text)
        else:
            remedy = "is it the same battery? both must be of one module"
            yield wrong("cross-check", text, _factor(pack_v / volts) or remedy)


def at_the_meter(meter_kw: float, units_kw: Sequence[float], expected_kw: float) -> Remark:
    """The meter against the sum of the units; the rest is other load. `expected_kw`: the site."""
    total_kw = sum(units_kw)
    load_kw = total_kw - meter_kw
    told = f"meter {meter_kw:+.1f} kW, units together {total_kw:+.1f} kW"
    if abs(meter_kw) > 20.0 * expected_kw:
        return wrong("cross-check", told, "is the meter's value in W? look at its scale")
    least_kw = max(SHARE * expected_kw, 1.0)
    if abs(total_kw) > least_kw and abs(meter_kw + total_kw) < POWER_APART_SHARE * abs(total_kw):
        remedy = "equal but for the sign: are its transformers turned? `vppd commission` will tell"
        return odd("cross-check", told, remedy)
    return fine("cross-check", f"{told}: other load behind the connection {load_kw:+.1f} kW")


# ---- inside ----------------------------------------------------------------------------------


def _powers(values: Values, unit: UnitSettings) -> Iterator[Remark]:
    inverter_kw, power_kw = values.get(Point.INVERTER_KW), values.get(Point.POWER_KW)
    if inverter_kw is None or power_kw is None:
        return
    text = f"inverter {inverter_kw:+.1f} kW, controller {power_kw:+.1f} kW"
    least_kw = SHARE * unit.rated_power_kw
    apart_kw = abs(inverter_kw - power_kw)
    largest_kw = max(abs(inverter_kw), abs(power_kw))
    allowed_kw = POWER_APART_SHARE * max(unit.rated_power_kw, largest_kw)
    if min(abs(inverter_kw), abs(power_kw)) < least_kw or apart_kw <= allowed_kw:
        good = apart_kw <= allowed_kw
        yield fine("cross-check", text) if good else odd("cross-check", text, "look at both")
    elif inverter_kw * power_kw < 0.0:
        yield wrong("sign", text, "the sign of one of the two is inverted")
    else:
        remedy = _factor(inverter_kw / power_kw) or "is it the same battery? look at both"
        yield wrong("cross-check", text, remedy)


def _ac_kw(values: Values) -> float | None:
    """The unit's own power: its inverter's, where it has one."""
    return values.get(Point.INVERTER_KW, values.get(Point.POWER_KW))


def _overload(values: Values, unit: UnitSettings) -> Iterator[Remark]:
    """An inverter that seems to give more than it can."""
    power_kw, most_kw = _ac_kw(values), unit.rated_apparent_kva or unit.rated_power_kw
    if unit.inverter is None or power_kw is None or abs(power_kw) <= OVERLOAD * most_kw:
        return
    text = f"inverter {power_kw:+.1f} kW, but the unit is rated {most_kw:g} kVA"
    yield wrong("scale", text, "its scale factor is wrong, or rated_power_kw is")


def _dc_side(values: Values, unit: UnitSettings) -> Iterator[Remark]:
    """Power against the volts and amperes of the BMS, where enough flows."""
    power_kw = _ac_kw(values)
    volts, amperes = values.get(Point.PACK_V), values.get(Point.PACK_A)
    if power_kw is None or volts is None or amperes is None:
        return
    dc_kw = volts * amperes * unit.modules_parallel / 1000.0 + 0.0
    text = f"power {power_kw:+.1f} kW, V x I x {unit.modules_parallel} modules of the BMS"
    text = f"{text} {dc_kw:+.1f} kW"
    if min(abs(power_kw), abs(dc_kw)) < SHARE * unit.rated_power_kw:
        yield fine("cross-check", text)
    elif power_kw * dc_kw < 0.0:
        yield wrong("sign", text, "the sign of one of the two is inverted")
    elif SIMILAR[0] <= power_kw / dc_kw <= SIMILAR[1]:
        yield fine("cross-check", text)
    else:
        remedy = "modules_parallel, or is the BMS's current of the whole unit (pack_total)?"
        yield wrong("cross-check", text, _factor(power_kw / dc_kw) or remedy)


def _factor(ratio: float) -> str:
    factor = power_of_ten(ratio, 0.2)
    return f"a factor of {factor:g} apart: look at both scales" if factor is not None else ""


def _rounded(took_s: float) -> float:
    """Up to a tenth."""
    return -(-took_s * 10.0 // 1) / 10.0
