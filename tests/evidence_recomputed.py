"""An auditor's own sums: the figures of a frequency event from the raw rows of `journal.db`.

Plain Python over SQLite, written from the definitions in the report, sharing no code with it.
"""

import json
import sqlite3
from collections.abc import Sequence
from math import fsum
from pathlib import Path
from typing import Any

Number = float | int | None


def recomputed(path: Path, name: str, rule: dict[str, float]) -> dict[str, Number]:
    """Every figure by its name. `rule` holds the numbers of the rule table."""
    journal = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    found = [
        json.loads(text)
        for (text,) in journal.execute(
            "SELECT data_json FROM event WHERE code = 'frequency_event' ORDER BY id"
        )
    ]
    event = [each for each in found if each["id"] == name][-1]
    raw = journal.execute(
        "SELECT at, frequency_hz, base_kw, droop_curve_kw, ffr_kw, droop_kw, measured_kw,"
        " unmeasured FROM evidence_row WHERE at BETWEEN ? AND ? ORDER BY at",
        (event["begin_at"] - event["rule"]["before_s"] * 1_000_000, event["end_at"]),
    ).fetchall()
    journal.close()
    end = (event["end_at"] - event["begin_at"]) / 1_000_000
    t: list[float] = []
    f: list[float | None] = []
    b: list[float] = []
    o: list[float] = []
    a: list[float] = []
    r: list[float] = []
    lacking: list[bool] = []
    for at, hz, base, curve, block, asked, measured, unmeasured in raw:
        t.append((at - event["begin_at"]) / 1_000_000)
        f.append(None if hz is None else hz / 10_000)
        b.append(base / 10_000)
        o.append(curve / 10_000 + block / 10_000)
        a.append(asked / 10_000)
        r.append(0.0 if measured is None else measured / 10_000 - base / 10_000)
        lacking.append(measured is None or unmeasured != 0)
    event_rows = [i for i in range(len(t)) if t[i] >= 0]
    point_a = [i for i in range(len(t)) if -rule["pre_from"] <= t[i] <= -rule["pre_to"]]
    until = min(rule["settled_to"], end - rule["settled_margin"])
    point_b = [i for i in event_rows if rule["settled_from"] <= t[i] <= until]

    def mean(values: Sequence[float | None], at: list[int]) -> Any:
        known = [v for i in at if (v := values[i]) is not None]
        return fsum(known) / len(known) if known else None

    out: dict[str, Number] = {"duration_s": end, "rows": len(event_rows)}
    out["unmeasured_pct"] = 100 * len([i for i in event_rows if lacking[i]]) / len(event_rows)
    fa, fb = mean(f, point_a), mean(f, point_b)
    out["pre_hz"], out["settled_hz"] = fa, fb
    out["pre_power_kw"] = mean([x + y for x, y in zip(b, r, strict=True)], point_a)
    hz = sorted((f[i], t[i]) for i in event_rows if f[i] is not None)
    out["nadir_hz"], out["nadir_s"] = hz[0]
    out["zenith_hz"] = hz[-1][0]
    out["zenith_s"] = min(at for value, at in hz if value == hz[-1][0])
    outside = [
        i
        for i in event_rows
        if fb is not None
        and t[i] <= t[point_b[-1]]
        and f[i] is not None
        and abs(f[i] - fb) > rule["settling_band"]
    ]
    last_outside = outside[-1] if outside else event_rows[0] - 1
    calm = [i for i in event_rows if i > last_outside and f[i] is not None]
    settled = fb is not None and calm and t[calm[0]] <= t[point_b[-1]]
    out["settling_s"] = t[calm[0]] if settled else None

    most = max(abs(o[i]) for i in event_rows)
    peak = next(i for i in event_rows if abs(o[i]) == most)
    s = 1 if o[peak] > 0 else -1 if o[peak] < 0 else 0
    enough, within = rule["start_share"] / 100 * most, 1 - rule["droop_tolerance"] / 100
    out["side"], out["owed_max_kw"] = s, most
    out["delivered_max_kw"] = max(s * r[i] for i in event_rows)
    start = full = None
    if s:
        less = [i for i in range(peak) if s * o[i] < enough]
        zero = less[-1] + 1 if less else 0
        later = range(zero, len(t))
        starts = [t[i] for i in later if s * r[i] >= enough]
        fulls = [t[i] for i in later if s * o[i] >= enough and s * r[i] >= within * s * o[i]]
        start = starts[0] - t[zero] if starts else None
        full = fulls[0] - t[zero] if fulls else None
    out["start_s"], out["full_s"] = start, full
    if not s:
        out["sustained_s"] = out["sustain_due_s"] = None
    elif full is None:
        out["sustained_s"], out["sustain_due_s"] = 0.0, min(rule["sustain"], end)
    else:
        since = max(fulls[0], 0.0)
        out["sustain_due_s"] = min(rule["sustain"], end - since)
        out["sustained_s"] = end - since
        short = [
            s * o[i] >= enough and s * r[i] < within * s * o[i] and t[i] >= since
            for i in event_rows
        ]
        for place, i in enumerate(event_rows):
            if short[place] and (place == 0 or not short[place - 1]):
                stop = place
                while stop + 1 < len(short) and short[stop + 1]:
                    stop += 1
                if t[event_rows[stop]] - t[i] > rule["break_max"]:
                    out["sustained_s"] = t[i] - since
                    break

    held = [min((t[i + 1] if i + 1 < len(t) else end) - t[i], 1.0) for i in event_rows]
    sign = [(o[i] > 0) - (o[i] < 0) for i in event_rows]
    watt = list(zip(event_rows, sign, held, strict=True))
    out["owed_kwh"] = fsum(abs(o[i]) * h for i, g, h in watt) / 3600
    out["shortfall_kwh"] = fsum(max(abs(o[i]) - g * r[i], 0) * h for i, g, h in watt) / 3600
    out["excess_kwh"] = fsum(max(g * r[i] - abs(o[i]), 0) * h for i, g, h in watt) / 3600
    out["adaptation_kwh"] = fsum(max(abs(o[i]) - g * a[i], 0) * h for i, g, h in watt) / 3600
    out["delivered_kwh"] = fsum(g * r[i] * h for i, g, h in watt) / 3600

    steady = [
        i
        for i in event_rows
        if o[i] != 0
        and t[i] >= rule["steady"]
        and all(
            abs(o[j] - o[i]) <= rule["steady_band"] / 100 * abs(o[i])
            for j in event_rows
            if 0 <= raw[i][0] - raw[j][0] <= rule["steady"] * 1_000_000
        )
    ]
    out["settled_points"] = len(steady)
    out["droop_error_pct"] = out["droop_worst_pct"] = None
    if steady:
        miss = [abs(r[i] - o[i]) for i in steady]
        out["droop_error_pct"] = 100 * fsum(miss) / fsum(abs(o[i]) for i in steady)
        out["droop_worst_pct"] = 100 * max(m / abs(o[i]) for m, i in zip(miss, steady, strict=True))

    out["frc_kw_per_hz"] = out["fro_kw_per_hz"] = out["frp_ratio"] = out["beta_ratio"] = None
    ra, rb, oa, ob = mean(r, point_a), mean(r, point_b), mean(o, point_a), mean(o, point_b)
    if fa is not None and fb is not None and abs(fb - fa) >= rule["change_min"]:
        out["frc_kw_per_hz"] = -(rb - ra) / (fb - fa)
        out["fro_kw_per_hz"] = -(ob - oa) / (fb - fa)
    if event["rule"]["obligation_kw_per_hz"] is not None:
        out["fro_kw_per_hz"] = event["rule"]["obligation_kw_per_hz"]
    if out["frc_kw_per_hz"] is not None and out["fro_kw_per_hz"]:
        out["frp_ratio"] = out["frc_kw_per_hz"] / out["fro_kw_per_hz"]
    if rb is not None and ob:
        out["beta_ratio"] = min(max(rb / ob, 0.0), 1.0)
    return out
