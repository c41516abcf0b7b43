"""An auditor's own script: every figure of `vppd report` computed again from `journal.db`.

    python recompute_report.py journal.db event.md ...     (as `vppd report event ID` wrote them)
    python recompute_report.py journal.db 2026-11.md --zone Asia/Kolkata

Plain SQLite and whole numbers (tenths of a millihertz, tenths of a watt, microseconds), exact to
the last digit, sharing no code with what it checks. It reads the views `frequency_event`,
`evidence` and `site` as the journal publishes them, and of the report only what is claimed there:
the id, the numbers of the rule table, and the figures. Prints every difference; none: exit code 0.
"""

import json
import re
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

Number = Fraction | int | None
SECOND = 1_000_000
UNIT = 10_000  # the journal keeps kW and Hz as whole ten-thousandths
HOLD_EVENT, HOLD_DAY = 1 * SECOND, 2 * SECOND


class Sample(NamedTuple):
    """One 100 ms row; t in microseconds since the event began, the rest in ten-thousandths."""

    t: int
    f: int | None
    base: int
    owed: int
    asked: int
    given: int
    lacking: bool


def opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True)


def whole(value: float) -> int:
    return round(value * UNIT)


def sign(value: int) -> int:
    return (value > 0) - (value < 0)


def mean(values: Sequence[int | None]) -> Fraction | None:
    known = [each for each in values if each is not None]
    return Fraction(sum(known), len(known)) if known else None


def per(value: Number, divisor: int) -> Fraction | None:
    return None if value is None else Fraction(value) / divisor


# ---- one event ---------------------------------------------------------------------------------


def event_of(journal: sqlite3.Connection, name: str) -> dict[str, Any]:
    """The newest event of this id; without an end it ends with its last row."""
    begin, end, trigger, ending, rule = journal.execute(
        'SELECT begin_at, end_at, "trigger", ending, rule_json FROM frequency_event'
        " WHERE id = ? ORDER BY begin_at",
        (name,),
    ).fetchall()[-1]
    made = {"id": name, "begin": begin, "trigger": trigger, "ending": ending}
    made["rule"] = json.loads(rule)
    return {**made, "end": _last(journal, begin, made["rule"]) if end is None else end}


def _last(journal: sqlite3.Connection, begin: int, rule: dict[str, Any]) -> int:
    """The last row before a gap."""
    last = begin
    for (at,) in journal.execute(
        "SELECT at FROM evidence WHERE at >= ? AND at <= ? ORDER BY at",
        (begin, begin + round(rule["longest_s"] * SECOND)),
    ):
        if at - last > rule["gap_s"] * SECOND:
            break
        last = at
    return last


def samples_of(journal: sqlite3.Connection, event: dict[str, Any]) -> list[Sample]:
    begin = event["begin"]
    return [
        Sample(
            at - begin,
            None if hz is None else whole(hz),
            whole(base),
            whole(curve) + whole(block),
            whole(asked),
            0 if measured is None else whole(measured) - whole(base),
            measured is None or unmeasured > 0,
        )
        for at, hz, base, curve, block, asked, measured, unmeasured in journal.execute(
            "SELECT at, frequency_hz, base_kw, droop_curve_kw, ffr_kw, droop_kw, measured_kw,"
            " unmeasured FROM evidence WHERE at >= ? AND at <= ? ORDER BY at",
            (begin - round(event["rule"]["before_s"] * SECOND), event["end"]),
        )
    ]


def figures(
    journal: sqlite3.Connection, event: dict[str, Any], rule: dict[str, Fraction]
) -> dict[str, Number]:
    """Every figure by its name: Hz, kW, kWh, s, %."""
    rows, end = samples_of(journal, event), event["end"] - event["begin"]
    inside = [row for row in rows if row.t >= 0]

    def window(low: Fraction, high: Fraction) -> list[Sample]:
        return [row for row in rows if low * SECOND <= row.t <= high * SECOND]

    before = window(-rule["pre_from"], -rule["pre_to"])
    last = min(rule["settled_to"], Fraction(end, SECOND) - rule["settled_margin"])
    settled = [row for row in window(rule["settled_from"], last) if row.t >= 0]
    f_a, f_b = mean([row.f for row in before]), mean([row.f for row in settled])
    r_a, r_b = mean([row.given for row in before]), mean([row.given for row in settled])
    o_a, o_b = mean([row.owed for row in before]), mean([row.owed for row in settled])
    known = [row for row in inside if row.f is not None]
    lowest = min(known, key=lambda row: (row.f, row.t), default=None)
    highest = min(known, key=lambda row: (-(row.f or 0), row.t), default=None)
    out: dict[str, Number] = {
        "duration_s": Fraction(end, SECOND),
        "rows": len(inside),
        "uncovered_s": Fraction(end - sum(held_by(inside, end)), SECOND),
        "unmeasured_pct": Fraction(100 * sum(row.lacking for row in inside), len(inside) or 1),
        "pre_hz": per(f_a, UNIT),
        "pre_power_kw": per(mean([row.base + row.given for row in before]), UNIT),
        "pre_beside_kw": per(mean([row.given - row.owed for row in before]), UNIT),
        "nadir_hz": per(lowest.f, UNIT) if lowest else None,
        "nadir_s": per(lowest.t, SECOND) if lowest else None,
        "zenith_hz": per(highest.f, UNIT) if highest else None,
        "zenith_s": per(highest.t, SECOND) if highest else None,
        "settled_hz": per(f_b, UNIT),
        "settling_s": per(settling(known, settled, f_b, rule), SECOND),
        **response(rows, inside, end, rule),
        **energy(inside, end),
        **accuracy(inside, rule),
        **dict.fromkeys(("frc_kw_per_hz", "fro_kw_per_hz", "frp_ratio", "beta_ratio")),
    }
    if f_a is not None and f_b is not None and abs(f_b - f_a) >= rule["change_min"] * UNIT:
        out["frc_kw_per_hz"] = -((r_b or 0) - (r_a or 0)) / (f_b - f_a)
        out["fro_kw_per_hz"] = -((o_b or 0) - (o_a or 0)) / (f_b - f_a)
    if (obligation := event["rule"]["obligation_kw_per_hz"]) is not None:
        out["fro_kw_per_hz"] = Fraction(str(obligation))
    frc, fro = out["frc_kw_per_hz"], out["fro_kw_per_hz"]
    if frc is not None and fro:
        out["frp_ratio"] = Fraction(frc) / Fraction(fro)
    if r_b is not None and o_b:
        out["beta_ratio"] = min(max(r_b / o_b, Fraction(0)), Fraction(1))
    return out


def settling(
    known: list[Sample], settled: list[Sample], f_b: Fraction | None, rule: dict[str, Fraction]
) -> int | None:
    """The first t after the last one outside the settling band, up to the end of point B."""
    if f_b is None:
        return None
    until = [row for row in known if row.t <= settled[-1].t]
    band = rule["settling_band"] * UNIT
    outside = [place for place, row in enumerate(until) if abs((row.f or 0) - f_b) > band]
    after = until[outside[-1] + 1 :] if outside else until
    return after[0].t if after else None


def response(
    rows: list[Sample], inside: list[Sample], end: int, rule: dict[str, Fraction]
) -> dict[str, Number]:
    """Side, greatest powers, start, full, sustained."""
    most = max((abs(row.owed) for row in inside), default=0)
    peak = next((row for row in inside if abs(row.owed) == most), None)
    side = sign(peak.owed) if peak else 0
    enough, within = rule["start_share"] / 100 * most, 1 - rule["droop_tolerance"] / 100
    out: dict[str, Number] = {
        "side": side,
        "owed_max_kw": Fraction(most, UNIT),
        "delivered_max_kw": Fraction(max((side * row.given for row in inside), default=0), UNIT),
        **dict.fromkeys(("start_s", "full_s", "sustained_s", "sustain_due_s")),
    }
    if peak is None or not side:
        return out
    less = [row.t for row in rows if row.t < peak.t and side * row.owed < enough]
    later = [row for row in rows if not less or row.t > less[-1]]
    zero = later[0].t
    starts = [row.t for row in later if side * row.given >= enough]
    fulls = [
        row.t
        for row in later
        if side * row.owed >= enough and side * row.given >= within * side * row.owed
    ]
    out["start_s"] = Fraction(starts[0] - zero, SECOND) if starts else None
    if not fulls:
        out["sustained_s"] = Fraction(0)
        out["sustain_due_s"] = min(rule["sustain"], Fraction(end, SECOND))
        return out
    since = max(fulls[0], 0)
    out["full_s"] = Fraction(fulls[0] - zero, SECOND)
    out["sustain_due_s"] = min(rule["sustain"], Fraction(end - since, SECOND))
    held, run = end, list[int]()
    for row in (row for row in inside if row.t >= since):
        short = side * row.owed >= enough and side * row.given < within * side * row.owed
        run = [*run[:1], row.t] if short else []
        if run and run[-1] - run[0] > rule["break_max"] * SECOND:
            held = run[0]
            break
    out["sustained_s"] = Fraction(held - since, SECOND)
    return out


def held_by(inside: list[Sample], end: int) -> list[int]:
    """How long each row holds: until the next, at most a second."""
    until = [row.t for row in inside[1:]] + [end]
    return [min(next_ - row.t, HOLD_EVENT) for row, next_ in zip(inside, until, strict=False)]


def energy(inside: list[Sample], end: int) -> dict[str, Number]:
    """kWh; a row holds until the next, at most a second."""
    owed = short = over = unasked = 0
    for row, held in zip(inside, held_by(inside, end), strict=True):
        side = sign(row.owed)
        owed += abs(row.owed) * held
        short += max(abs(row.owed) - side * row.given, 0) * held
        over += max(side * row.given - abs(row.owed), 0) * held
        unasked += max(abs(row.owed) - side * row.asked, 0) * held
    hour = UNIT * SECOND * 3600
    return {
        "owed_kwh": Fraction(owed, hour),
        "delivered_kwh": Fraction(owed - short + over, hour),
        "shortfall_kwh": Fraction(short, hour),
        "excess_kwh": Fraction(over, hour),
        "adaptation_kwh": Fraction(unasked, hour),
    }


def accuracy(inside: list[Sample], rule: dict[str, Fraction]) -> dict[str, Number]:
    """Droop error where what is owed stood still."""
    steady, first = list[Sample](), 0
    for place, row in enumerate(inside):
        while inside[first].t < row.t - rule["steady"] * SECOND:
            first += 1
        room = rule["steady_band"] / 100 * abs(row.owed)
        recent = inside[first : place + 1]
        still = all(abs(each.owed - row.owed) <= room for each in recent)
        if row.owed and row.t >= rule["steady"] * SECOND and still:
            steady.append(row)
    miss, owed = ([abs(row.given - row.owed) for row in steady], [abs(row.owed) for row in steady])
    worst = max((Fraction(m, o) for m, o in zip(miss, owed, strict=True)), default=None)
    return {
        "settled_points": len(steady),
        "droop_error_pct": Fraction(100 * sum(miss), sum(owed)) if steady else None,
        "droop_worst_pct": None if worst is None else 100 * worst,
    }


# ---- which events there are --------------------------------------------------------------------

Seen = tuple[int, int | None, int | None]


def frequencies(journal: sqlite3.Connection) -> list[Seen]:
    """Every 100 ms row: microseconds, frequency, rate of change."""
    return [
        (at, None if hz is None else whole(hz), None if rate is None else whole(rate))
        for at, hz, rate in journal.execute(
            "SELECT at, frequency_hz, rocof_hz_per_s FROM evidence ORDER BY at"
        )
    ]


def runs(seen: list[Seen], holds: Callable[[Seen], bool], last_s: float) -> list[tuple[int, int]]:
    """(from, when it was known) of every unbroken run that lasts so long."""
    found, since, told = list[tuple[int, int]](), None, False
    for each in seen:
        if not holds(each):
            since, told = None, False
            continue
        since = each[0] if since is None else since
        if not told and each[0] - since >= round(last_s * SECOND):
            found.append((since, each[0]))
            told = True
    return found


def events_in(seen: list[Seen], rule: dict[str, Any]) -> list[tuple[int, int, str, str]]:
    """(begin, end, trigger, ending) of every event, from the whole record by definition: begun by
    the run that is known first, ended by the first run of `merge_s` inside after that."""
    known = [each for each in seen if each[1] is not None]
    found: list[tuple[int, int, str, str]] = []
    for piece in pieces(known, round(rule["gap_s"] * SECOND)):
        found += _events_of(piece, rule, whole_record=piece[-1] == known[-1])
    return found


def pieces(seen: list[Seen], gap: int) -> Iterator[list[Seen]]:
    """Cut where nothing was known for longer, or time went back."""
    first = 0
    for place in range(1, len(seen) + 1):
        if place == len(seen) or not 0 <= seen[place][0] - seen[place - 1][0] <= gap:
            if place > first:
                yield seen[first:place]
            first = place


def _events_of(
    piece: list[Seen], rule: dict[str, Any], *, whole_record: bool
) -> Iterator[tuple[int, int, str, str]]:
    low, high, inset = (whole(rule[name]) for name in ("low_hz", "high_hz", "hysteresis_hz"))
    steepness = rule["rocof_hz_per_s"]

    def steep(each: Seen) -> bool:
        return steepness is not None and abs(each[2] or 0) >= whole(steepness)

    def calm(each: Seen) -> bool:
        return not steep(each) and low + inset <= (each[1] or 0) <= high - inset

    after, end = -(2**62), 0
    while True:
        rest = [each for each in piece if each[0] > after]
        triggers = [
            (told, since, word)
            for word, holds, last_s in (
                ("low", lambda each: (each[1] or 0) < low, rule["duration_s"]),
                ("high", lambda each: (each[1] or 0) > high, rule["duration_s"]),
                ("rocof", steep, rule["rocof_duration_s"]),
            )
            for since, told in runs(rest, holds, last_s)[:1]
        ]
        if not triggers:
            return
        told, begin, trigger = min(triggers)
        over = [each for each in runs(rest, calm, rule["merge_s"]) if each[1] > told]
        longest = round(rule["longest_s"] * SECOND)
        beyond = (each[0] for each in rest if each[0] >= begin + longest and each[0] > told)
        cut = next(beyond, None)
        if over and (cut is None or over[0][1] <= cut):
            end, after = over[0]
            yield begin, end, trigger, "inside"
        elif cut is not None:
            yield begin, cut, trigger, "longest"
            if not over:
                return
            after = over[0][1]
        else:
            yield begin, piece[-1][0], trigger, "last" if whole_record else "gap"
            return


def journaled(journal: sqlite3.Connection) -> list[tuple[int, Any, str, str]]:
    """The events the journal tells, those of operators aside; one that goes on has no end."""
    return journal.execute(
        'SELECT begin_at, end_at, "trigger", ending FROM frequency_event'
        " WHERE \"trigger\" <> 'named' ORDER BY begin_at"
    ).fetchall()


def missed(journal: sqlite3.Connection, rule: dict[str, Any]) -> list[int]:
    """Every run of the rows of a second that is beyond an edge for clearly longer than the rule
    asks and belongs to no event of the journal. Close to an edge such a run may bridge what came
    back inside between two of its rows: look before you call it missed."""
    low, high = whole(rule["low_hz"]), whole(rule["high_hz"])
    seen: list[Seen] = [
        (at, None if hz is None else whole(hz), None)
        for at, hz in journal.execute("SELECT at, frequency_hz FROM site ORDER BY at")
    ]
    told = journaled(journal)
    beyond = [
        runs(seen, lambda each: each[1] is not None and each[1] < low, rule["duration_s"] + 2.2),
        runs(seen, lambda each: each[1] is not None and each[1] > high, rule["duration_s"] + 2.2),
    ]
    reach = round((rule["merge_s"] + rule["duration_s"]) * SECOND)
    return [
        since
        for since, known in (each for side in beyond for each in side)
        if not any(
            begin - 2 * SECOND <= since and (end is None or since <= end + reach)
            for begin, end, _, _ in told
        )
        and known > since
    ]


# ---- days --------------------------------------------------------------------------------------


def day_of(
    journal: sqlite3.Connection, begin: int, end: int, low: Fraction, high: Fraction
) -> dict[str, Number]:
    """Time in, below and above the band, from every row with a frequency. Of two rows of one
    instant the 100 ms row counts. A row holds until the next, at most two seconds."""
    rows = journal.execute(
        "SELECT at, frequency_hz, 1 AS fine FROM evidence WHERE at > :from AND at < :to UNION ALL"
        " SELECT at, frequency_hz, 0 FROM site WHERE at > :from AND at < :to ORDER BY at, fine",
        {"from": begin - HOLD_DAY, "to": end},
    ).fetchall()
    total = {-1: 0, 0: 0, 1: 0}
    weighted, longest, longest_from = Fraction(0), 0, None
    run_side, run_from, run_to = 0, 0, 0
    seen: list[float] = []
    for place, (at, hz, _) in enumerate(rows):
        until = min(rows[place + 1][0] if place + 1 < len(rows) else end, at + HOLD_DAY)
        since = max(at, begin)
        if until <= since:
            continue
        if hz is None:
            run_side = 0
            continue
        side = (Fraction(hz) > Fraction(float(high))) - (Fraction(hz) < Fraction(float(low)))
        total[side] += until - since
        weighted += Fraction(hz) * (until - since)
        seen.append(hz)
        if side != run_side or since != run_to:
            run_side, run_from = side, since
        run_to = until
        if side and run_to - run_from > longest:
            longest, longest_from = run_to - run_from, run_from
    known = sum(total.values())
    return {
        "inside_s": Fraction(total[0], SECOND),
        "below_s": Fraction(total[-1], SECOND),
        "above_s": Fraction(total[1], SECOND),
        "longest_s": Fraction(longest, SECOND),
        "longest_from_us": longest_from,
        "min_hz": Fraction(min(seen)) if seen else None,
        "max_hz": Fraction(max(seen)) if seen else None,
        "mean_hz": weighted / known if known else None,
        "available_pct": Fraction(100 * known, end - begin),
    }


def midnight(day: date, zone: ZoneInfo) -> int:
    at = datetime.combine(day, time(), zone).astimezone(UTC)
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


# ---- what the report claims --------------------------------------------------------------------


def tables(text: str) -> list[list[list[str]]]:
    """The tables of a Markdown text as rows of cells, their heads first."""
    found: list[list[list[str]]] = [[]]
    for line in text.splitlines():
        if not line.startswith("|"):
            found.append([])
        elif not re.fullmatch(r"\|[-:|]+\|", line):
            found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
    return [each for each in found if each]


def agrees(cell: str, exact: Number) -> bool:
    """Whether the first number of a cell is this one, rounded to the digits that it shows."""
    if exact is None:
        return cell == "-" or cell.startswith("- ")
    told = re.match(r"-?\d+(\.\d+)?", cell)
    if told is None:
        return False
    shown = Decimal(told[0])
    half = Fraction(Decimal(1).scaleb(int(shown.as_tuple().exponent))) / 2
    return abs(Fraction(shown) - exact) <= half + Fraction(1, 10**9)


EVENT_CELLS = {
    "duration": "duration_s",
    "frequency before (A)": "pre_hz",
    "power before": "pre_power_kw",
    "of it beside base point and owed": "pre_beside_kw",
    "settled (B)": "settled_hz",
    "settling time": "settling_s",
    "greatest power owed": "owed_max_kw",
    "greatest power delivered": "delivered_max_kw",
    "response starts after": "start_s",
    "full after": "full_s",
    "sustained": "sustained_s",
    "energy owed": "owed_kwh",
    "energy delivered": "delivered_kwh",
    "shortfall": "shortfall_kwh",
    "of it not asked of the units (adaptations)": "adaptation_kwh",
    "beyond what was owed": "excess_kwh",
    "droop error at settled points": "droop_error_pct",
    "worst of them": "droop_worst_pct",
    "settled points": "settled_points",
    "FRC": "frc_kw_per_hz",
    "FRO": "fro_kw_per_hz",
    "FRP": "frp_ratio",
    "beta": "beta_ratio",
}
MONTH_CELLS = (
    *("duration_s", "nadir_hz", "zenith_hz", "frp_ratio", "beta_ratio", "shortfall_kwh"),
)
DAY_CELLS = (
    *("inside_s", "below_s", "above_s", "longest_s", "longest_from_us"),
    *("min_hz", "max_hz", "mean_hz", "available_pct"),
)


def table_headed(text: str, *head: str) -> list[list[str]]:
    """The rows of the table with this head; none when it is not there."""
    return next((each[1:] for each in tables(text) if each[0][: len(head)] == [*head]), [])


def rule_in(text: str) -> dict[str, Fraction]:
    """The numbers of the rule table, as the report shows them."""
    rows = table_headed(text, "number", "value", "source")
    return {name: Fraction(value.split()[0]) for name, value, *_ in rows if name != "grades"}


def event_differences(journal: sqlite3.Connection, text: str) -> list[str]:
    """What an event's report says otherwise than its rows."""
    name = text.splitlines()[0].removeprefix("# Frequency event ")
    rule = rule_in(text)
    event = event_of(journal, name)
    exact = figures(journal, event, rule)
    wrong: list[str] = []
    shown = dict(each[:2] for each in table_headed(text, "figure", "value"))
    pairs = [(label, shown.pop(label, "missing"), exact[key]) for label, key in EVENT_CELLS.items()]
    for label in ("nadir", "zenith"):
        hz, _, at = shown.pop(label, "missing").partition(" at ")
        pairs += [(label, hz, exact[f"{label}_hz"])]
        pairs += [(f"{label} at", at, exact[f"{label}_s"])] if at else []
    wrong += [f"{name}: {key} is not checked" for key in shown]
    verdict_rows = table_headed(text, "requirement", "value", "limit")
    for row, passed in zip(verdict_rows, verdicts(exact, rule), strict=True):
        label, value, limit, word = row[:4]
        pairs += [(label, value, passed[0]), (f"limit: {label}", limit, passed[1])]
        if {True: "pass", False: "FAIL", None: "not told"}[passed[2]] != word.split(":")[0]:
            wrong.append(f"{name}: {label}: {word}, should be {passed[2]}")
    return wrong + [
        f"{name}: {label}: {cell}, recomputed {None if value is None else float(value)}"
        for label, cell, value in pairs
        if not agrees(cell, value)
    ]


def verdicts(
    seen: dict[str, Number], rule: dict[str, Fraction]
) -> list[tuple[Number, Number, bool | None]]:
    """(value, limit, passed) of each requirement; None: the event does not tell."""
    if not seen["side"]:
        return []
    out: list[tuple[Number, Number, bool | None]] = []
    for key, limit in (("start_s", rule["start_max"]), ("full_s", rule["full_max"])):
        took = seen[key]
        never = None if (seen["duration_s"] or 0) < limit else False
        out.append((took, limit, never if took is None else took <= limit))
    held, due, full = seen["sustained_s"], seen["sustain_due_s"], seen["full_s"]
    out.append((held, due, full is not None and (held or 0) >= (due or 0)))
    error, limit = seen["droop_error_pct"], rule["droop_tolerance"]
    out.append((error, limit, None if error is None else error <= limit))
    return out


def month_differences(journal: sqlite3.Connection, text: str, zone: ZoneInfo) -> list[str]:
    """What a month's report says otherwise than the rows."""
    rule, wrong = rule_in(text), list[str]()
    for day, *cells in table_headed(text, "day", "in s"):
        at = date.fromisoformat(day)
        bounds = midnight(at, zone), midnight(at + timedelta(days=1), zone)
        exact = day_of(journal, *bounds, rule["band_low"], rule["band_high"])
        for key, cell in zip(DAY_CELLS, cells, strict=True):
            if key == "longest_from_us":
                us = exact[key]
                made = "-" if us is None else _clock(int(us), zone)
                wrong += [f"{day}: longest from {cell}, recomputed {made}"] * (cell != made)
            elif not agrees(cell, exact[key]):
                wrong.append(f"{day}: {key}: {cell}, recomputed {exact[key]}")
    betas: list[Fraction] = []
    for name, _, *cells in table_headed(text, "id", "begun"):
        exact = figures(journal, event_of(journal, name), rule)
        betas += [Fraction(exact["beta_ratio"])] if exact["beta_ratio"] is not None else []
        for key, cell in zip(MONTH_CELLS, cells, strict=True):
            if not agrees(cell, exact[key]):
                wrong.append(f"{name}: {key}: {cell}, recomputed {exact[key]}")
    told = re.search(r"Mean beta of (\d+) events?: ([\d.]+\d)", text)
    if betas and (told is None or int(told[1]) != len(betas)):
        wrong.append(f"mean beta of {len(betas)} events is not told")
    elif told is not None and not agrees(told[2], sum(betas, Fraction(0)) / len(betas)):
        wrong.append(f"mean beta {told[2]}, recomputed {float(sum(betas) / len(betas))}")
    return wrong


def _clock(us: int, zone: ZoneInfo) -> str:
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
    return f"{at.astimezone(zone):%H:%M:%S}"


def main(words: Sequence[str]) -> int:
    zone = ZoneInfo(words[words.index("--zone") + 1] if "--zone" in words else "Asia/Kolkata")
    path, *reports = (Path(each) for each in words if each.endswith((".db", ".md")))
    journal = opened(path)
    wrong: list[str] = []
    for report in reports:
        text = report.read_text(encoding="utf-8")
        if text.startswith("# Frequency event "):
            wrong += event_differences(journal, text)
        else:
            wrong += month_differences(journal, text, zone)
    for line in wrong:
        print(line)
    print(f"{len(reports)} reports, {len(wrong)} differences")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
