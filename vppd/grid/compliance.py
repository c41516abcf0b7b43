"""The figures of a frequency event, each by a stated sum over its 100 ms rows. Pure.

t      seconds since the event began; the rows reach from `before_s` before it to its end
f(t)   frequency, Hz
o(t)   power owed, kW (positive towards the grid): the unadapted droop curve, and the block of
       fast frequency response where that is switched on
a(t)   droop power asked after every adaptation, kW
r(t)   response = measured power - base point, kW; a row without a measurement counts as 0: what
       nobody measured was not delivered
s      the side of the event: the sign of o where |o| is greatest within it (the first such row)
O      that greatest |o|
<x>A   mean over the rows with -pre_from <= t <= -pre_to (point A, before the event)
<x>B   mean over the rows with settled_from <= t <= min(settled_to, end - settled_margin) (point B,
       settled, and clear of the recovery)

A row holds until the next, at most 1 s; the last of the event until its end. The numbers (windows,
tolerances, limits) are those of a dated table, `vppd.core.response_rules`.

Rows are whole microseconds, tenths of a watt and of a millihertz, and every comparison is made as
exactly: what sums of binary fractions are off by never decides who reached what, or when.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from vppd.core.records import EvidenceRow
from vppd.core.response_rules import ResponseRules, RuleNumber

HOLD_MAX_S = 1.0
_MICROS = 1000 * 1000
_MICROSECOND = timedelta(microseconds=1)
_EXACT = 1e-9  # kW and Hz: finer than any row, coarser than what a float is off by


@dataclass(frozen=True, slots=True)
class Moment:
    """One row, as the sums need it."""

    at_us: int  # since the event began
    frequency_hz: float | None
    base_kw: float
    owed_kw: float
    asked_kw: float
    response_kw: float
    measured: bool  # every unit was

    @property
    def at_s(self) -> float:
        """Since the event began."""
        return self.at_us / _MICROS


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One event. None where it cannot be said: too short, nothing owed, no rows.

    Frequency (Hz, s since the beginning): `pre_hz` = <f>A; `nadir_hz`, `zenith_hz` least and
    greatest f of 0 <= t <= end and when; `settled_hz` = <f>B; `settling_s` the first t from which
    f stays within `settling_band` of it until point B ends.

    Before it: `pre_power_kw` = <base + r>A; `pre_beside_kw` = <r - o>A, what r holds that nothing
    asked for, as of a unit that does not follow its base point.

    Response: `start_s` and `full_s` see `_start_and_full`; `sustained_s` see `_sustained_s`.

    Energy over the event, kWh: `owed_kwh` = sum |o| dt; `shortfall_kwh` = sum max(|o| - sgn(o) r,
    0) dt; `excess_kwh` = sum max(sgn(o) r - |o|, 0) dt where o is not 0; `delivered_kwh` =
    owed - shortfall + excess = sum sgn(o) r dt; `adaptation_kwh` = sum max(|o| - sgn(o) a, 0) dt,
    the part of the shortfall that was not even asked of the units.

    `droop_error_pct` and `droop_worst_pct` see `_accuracy`.

    FRC = -(<r>B - <r>A) / (<f>B - <f>A), kW/Hz, positive when the response helps; not said under
    a change of `change_min`. FRO is what is configured, else the same of o. FRP = FRC / FRO.
    beta = <r>B / <o>B, within 0 and 1. Sources: IEGC 2023 Annexure 2 as the rule table says.
    """

    duration_s: float
    rows: int
    uncovered_s: float  # of the event, what no row holds for
    unmeasured_pct: float  # of the event's rows, those that lack a unit's measurement
    pre_hz: float | None
    pre_power_kw: float | None  # base and response together
    pre_beside_kw: float | None
    nadir_hz: float | None
    nadir_s: float | None
    zenith_hz: float | None
    zenith_s: float | None
    settled_hz: float | None
    settling_s: float | None
    side: int  # +1 discharge owed, -1 charge, 0 nothing
    owed_max_kw: float
    delivered_max_kw: float  # greatest s r
    start_s: float | None
    full_s: float | None
    sustained_s: float | None
    sustain_due_s: float | None  # how long it could be asked for: the event may be shorter
    owed_kwh: float
    delivered_kwh: float
    shortfall_kwh: float
    excess_kwh: float
    adaptation_kwh: float
    settled_points: int
    droop_error_pct: float | None
    droop_worst_pct: float | None
    frc_kw_per_hz: float | None
    fro_kw_per_hz: float | None
    frp_ratio: float | None
    beta_ratio: float | None


def figures(
    rows: Sequence[EvidenceRow],
    begin: datetime,
    end: datetime,
    rules: ResponseRules,
    obligation_kw_per_hz: float | None = None,
) -> Figures:
    """The figures of the event from `begin` to `end`; `rows` ascend in time and reach back before
    it. `obligation_kw_per_hz` is a configured FRO."""
    moments = [_moment(row, begin) for row in rows if row.at <= end]
    end_us = (end - begin) // _MICROSECOND
    inside = [each for each in moments if each.at_us >= 0]
    before = _between(moments, -_us(rules.pre_from), -_us(rules.pre_to))
    settled_to_us = min(_us(rules.settled_to), end_us - _us(rules.settled_margin))
    settled = _between(inside, _us(rules.settled_from), settled_to_us)
    peak = max(inside, key=lambda each: abs(each.owed_kw), default=None)
    side = _sign(peak.owed_kw) if peak is not None else 0
    owed_max_kw = abs(peak.owed_kw) if peak is not None else 0.0
    start_s, full_s, full_at_us = _start_and_full(moments, peak, rules)
    nadir, zenith = _extremes(inside)
    settled_hz = _mean(settled, _frequency)
    sustained_s, due_s = _sustained_s(inside, side, owed_max_kw, full_at_us, end_us, rules)
    points, error_pct, worst_pct = _accuracy(inside, rules)
    owed_kwh, shortfall_kwh, excess_kwh, adaptation_kwh = _energies(inside, end_us)
    frc, fro = _characteristic(before, settled, rules)
    fro = obligation_kw_per_hz if obligation_kw_per_hz is not None else fro
    lacking = sum(not each.measured for each in inside)
    return Figures(
        duration_s=end_us / _MICROS,
        rows=len(inside),
        uncovered_s=_uncovered_s(inside, end_us),
        unmeasured_pct=100 * lacking / len(inside) if inside else 100.0,
        pre_hz=_mean(before, _frequency),
        pre_power_kw=_mean(before, lambda each: each.base_kw + each.response_kw),
        pre_beside_kw=_mean(before, lambda each: each.response_kw - each.owed_kw),
        nadir_hz=nadir.frequency_hz if nadir is not None else None,
        nadir_s=nadir.at_s if nadir is not None else None,
        zenith_hz=zenith.frequency_hz if zenith is not None else None,
        zenith_s=zenith.at_s if zenith is not None else None,
        settled_hz=settled_hz,
        settling_s=_settling_s(inside, settled, settled_hz, rules),
        side=side,
        owed_max_kw=owed_max_kw,
        delivered_max_kw=max((side * each.response_kw for each in inside), default=0.0),
        start_s=start_s,
        full_s=full_s,
        sustained_s=sustained_s,
        sustain_due_s=due_s,
        owed_kwh=owed_kwh,
        delivered_kwh=owed_kwh - shortfall_kwh + excess_kwh,
        shortfall_kwh=shortfall_kwh,
        excess_kwh=excess_kwh,
        adaptation_kwh=adaptation_kwh,
        settled_points=points,
        droop_error_pct=error_pct,
        droop_worst_pct=worst_pct,
        frc_kw_per_hz=frc,
        fro_kw_per_hz=fro,
        frp_ratio=frc / fro if frc is not None and fro else None,
        beta_ratio=_beta(settled),
    )


def _moment(row: EvidenceRow, begin: datetime) -> Moment:
    known = row.measured_kw is not None
    return Moment(
        (row.at - begin) // _MICROSECOND,
        row.frequency_hz,
        row.base_kw,
        row.droop_curve_kw + row.ffr_kw,
        row.droop_kw,
        row.measured_kw - row.base_kw if row.measured_kw is not None else 0.0,
        known and row.unmeasured == 0,
    )


def _us(rule: RuleNumber) -> int:  # of a number in seconds
    return round(rule.value * _MICROS)


def _at_least(value: float, bound: float) -> bool:
    return value >= bound - _EXACT


def _between(moments: Sequence[Moment], from_us: int, to_us: int) -> list[Moment]:
    return [each for each in moments if from_us <= each.at_us <= to_us]


def _frequency(moment: Moment) -> float | None:  # Hz
    return moment.frequency_hz


def _mean(
    moments: Sequence[Moment], value: Callable[[Moment], float | None]
) -> float | None:  # of the value's unit
    known = [seen for each in moments if (seen := value(each)) is not None]
    return math.fsum(known) / len(known) if known else None


def _sign(power_kw: float) -> int:
    return (power_kw > 0) - (power_kw < 0)


def _extremes(inside: Sequence[Moment]) -> tuple[Moment | None, Moment | None]:
    """The rows of the least and of the greatest frequency, the first of equals."""
    known = [(each.frequency_hz, each) for each in inside if each.frequency_hz is not None]
    if not known:
        return None, None
    return (
        min(known, key=lambda pair: pair[0])[1],
        max(known, key=lambda pair: pair[0])[1],
    )


def _settling_s(
    inside: Sequence[Moment],
    settled: Sequence[Moment],
    settled_hz: float | None,
    rules: ResponseRules,
) -> float | None:  # s
    """The first t from which f stays within the band until the end of point B."""
    if settled_hz is None:
        return None
    since_s: float | None = None
    for each in _between(inside, 0, settled[-1].at_us):
        if each.frequency_hz is None:
            continue
        if not _at_least(rules.settling_band.value, abs(each.frequency_hz - settled_hz)):
            since_s = None
        elif since_s is None:
            since_s = each.at_s
    return since_s


def _start_and_full(
    moments: Sequence[Moment], peak: Moment | None, rules: ResponseRules
) -> tuple[float | None, float | None, int | None]:
    """(start s, full s, t of full in microseconds). The count begins at t0: the first row of the
    unbroken run of rows with s o >= `start_share` of O that holds the greatest owed power. start =
    first t >= t0 with s r >= `start_share` of O, less t0. full = first t >= t0 at which r is within
    `droop_tolerance` of what is owed at that moment, s r >= (1 - tolerance) s o, less t0."""
    if peak is None or peak.owed_kw == 0:
        return None, None, None
    side = _sign(peak.owed_kw)
    enough_kw = rules.start_share.value / 100 * abs(peak.owed_kw)
    within = 1 - rules.droop_tolerance.value / 100
    first = moments.index(peak)
    while first > 0 and _at_least(side * moments[first - 1].owed_kw, enough_kw):
        first -= 1
    after = moments[first:]
    begun_us = moments[first].at_us
    starts_us = (each.at_us for each in after if _at_least(side * each.response_kw, enough_kw))
    fulls_us = (
        each.at_us
        for each in after
        if _at_least(side * each.owed_kw, enough_kw)
        and _at_least(side * each.response_kw, within * side * each.owed_kw)
    )
    start_us, full_us = next(starts_us, None), next(fulls_us, None)
    return (
        (start_us - begun_us) / _MICROS if start_us is not None else None,
        (full_us - begun_us) / _MICROS if full_us is not None else None,
        full_us,
    )


def _sustained_s(
    inside: Sequence[Moment],
    side: int,
    owed_max_kw: float,
    full_at_us: int | None,
    end_us: int,
    rules: ResponseRules,
) -> tuple[float | None, float | None]:  # s
    """(sustained, due). From full on a row falls short when s o >= `start_share` of O and
    s r < (1 - tolerance) s o. Sustained ends where a run of such rows begins that lasts longer
    than `break_max`, else with the event. Due = `sustain`, or the rest of the event if shorter."""
    if full_at_us is None:
        return (None, None) if not side else (0.0, min(rules.sustain.value, end_us / _MICROS))
    from_us = max(full_at_us, 0)
    due_s = min(rules.sustain.value, (end_us - from_us) / _MICROS)
    enough_kw = rules.start_share.value / 100 * owed_max_kw
    within = 1 - rules.droop_tolerance.value / 100
    short_us: int | None = None
    for each in inside:
        owed_kw = side * each.owed_kw
        short = _at_least(owed_kw, enough_kw) and not _at_least(
            side * each.response_kw, within * owed_kw
        )
        if each.at_us < from_us or not short:
            short_us = None
        elif short_us is None:
            short_us = each.at_us
        elif each.at_us - short_us > _us(rules.break_max):
            return (short_us - from_us) / _MICROS, due_s
    return (end_us - from_us) / _MICROS, due_s


def _accuracy(
    inside: Sequence[Moment], rules: ResponseRules
) -> tuple[int, float | None, float | None]:
    """(settled points, error %, worst %). A point is settled when o is not 0 and over the last
    `steady` seconds, all inside the event, neither changed sign nor moved by more than
    `steady_band` of itself. error = 100 sum|r - o| / sum|o| over these points; worst = the
    greatest 100 |r - o| / |o|."""
    misses_kw: list[float] = []
    owed_kw: list[float] = []
    first = 0
    for place, each in enumerate(inside):
        while inside[first].at_us < each.at_us - _us(rules.steady):
            first += 1
        if each.owed_kw == 0 or each.at_us < _us(rules.steady):
            continue
        room_kw = rules.steady_band.value / 100 * abs(each.owed_kw)
        recent = inside[first : place + 1]
        if all(_at_least(room_kw, abs(one.owed_kw - each.owed_kw)) for one in recent):
            misses_kw.append(abs(each.response_kw - each.owed_kw))
            owed_kw.append(abs(each.owed_kw))
    if not owed_kw:
        return 0, None, None
    worst = max(miss / owed for miss, owed in zip(misses_kw, owed_kw, strict=True))
    return len(owed_kw), 100 * math.fsum(misses_kw) / math.fsum(owed_kw), 100 * worst


def _held_s(inside: Sequence[Moment], end_us: int) -> list[float]:  # of each row
    ends_us = [following.at_us for _, following in pairwise(inside)] + [end_us]
    times_us = (end - each.at_us for each, end in zip(inside, ends_us, strict=True))
    return [min(time_us / _MICROS, HOLD_MAX_S) for time_us in times_us]


def _uncovered_s(inside: Sequence[Moment], end_us: int) -> float:
    covered_us = sum(round(held_s * _MICROS) for held_s in _held_s(inside, end_us)) if inside else 0
    return (end_us - covered_us) / _MICROS


def _energies(inside: Sequence[Moment], end_us: int) -> tuple[float, float, float, float]:  # kWh
    """(owed, shortfall, excess, adaptation)."""
    if not inside:
        return 0.0, 0.0, 0.0, 0.0
    parts: list[tuple[float, float, float, float]] = []
    for each, held_s in zip(inside, _held_s(inside, end_us), strict=True):
        side, owed_kw = _sign(each.owed_kw), abs(each.owed_kw)
        short_kw = owed_kw - side * each.response_kw
        unasked_kw = owed_kw - side * each.asked_kw
        parts.append(
            (
                owed_kw * held_s,
                max(short_kw, 0.0) * held_s,
                max(-short_kw, 0.0) * held_s,
                max(unasked_kw, 0.0) * held_s,
            )
        )
    owed, short, excess, unasked = (math.fsum(each) / 3600 for each in zip(*parts, strict=True))
    return owed, short, excess, unasked


def _characteristic(
    before: Sequence[Moment], settled: Sequence[Moment], rules: ResponseRules
) -> tuple[float | None, float | None]:  # kW/Hz
    """(FRC, the same of what the curve owes)."""
    from_hz, to_hz = _mean(before, _frequency), _mean(settled, _frequency)
    if from_hz is None or to_hz is None:
        return None, None
    if not _at_least(abs(to_hz - from_hz), rules.change_min.value):
        return None, None

    def slope(value: Callable[[Moment], float | None]) -> float | None:  # kW/Hz
        then_kw, now_kw = _mean(before, value), _mean(settled, value)
        if then_kw is None or now_kw is None:
            return None
        return -(now_kw - then_kw) / (to_hz - from_hz)

    return slope(lambda each: each.response_kw), slope(lambda each: each.owed_kw)


def _beta(settled: Sequence[Moment]) -> float | None:  # ratio
    given_kw = _mean(settled, lambda each: each.response_kw)
    owed_kw = _mean(settled, lambda each: each.owed_kw)
    if given_kw is None or not owed_kw:
        return None
    return min(max(given_kw / owed_kw, 0.0), 1.0)
