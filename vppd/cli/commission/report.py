"""The report of a bump test: Markdown, with its plots as SVG and its samples as CSV beside it.

The Markdown carries the SHA-256 of the files beside it, so that its own hash, which the journal
keeps, stands for all of them. Every file is written whole or not at all.
"""

import csv
import hashlib
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from vppd.cli.commission.preflight import Bump
from vppd.cli.line_plot import Line, plot
from vppd.cli.wire import Json
from vppd.field.step_response import Response, Sample, Step
from vppd.field.step_verdict import Judgement, StepResult

ZOOM_S = 8.0  # of each bump, from a little before it
BEFORE_S = 1.0
POWERS = ("inverter", "controller", "meter", "bms", "dc")
NAMES = {"told": "setpoint", "read_back": "read-back"}


@dataclass(frozen=True, slots=True)
class Told:
    """Everything the report tells besides the judgement."""

    begun: datetime
    zone: str
    bump: Bump
    basis: Json
    unit: Json
    status: Json
    steps: Sequence[Step]
    broken_off: str
    traces: Mapping[str, Sequence[Sample]]
    after: str


def prove_writable(directory: Path) -> None:
    """Before anything moves: the report can be written there. Raises OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    probe = directory / f".commission-{os.getpid()}"
    probe.write_bytes(b"")
    probe.unlink()


def write_report(directory: Path, told: Told, judgement: Judgement) -> tuple[Path, str]:
    """The report's path and its SHA-256. Raises OSError."""
    stamp = told.begun.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    stem = f"commission-{told.bump.unit}-{stamp}"
    beside = {f"{stem}.csv": _csv(told)}
    beside |= {f"{stem}-{name}.svg": picture for name, picture in _plots(told)}
    hashes = {name: write_whole(directory / name, text) for name, text in beside.items()}
    path = directory / f"{stem}.md"
    return path, write_whole(path, "\n".join(_report(told, judgement, hashes)) + "\n")


def write_whole(path: Path, text: str) -> str:
    """Atomically; the SHA-256 of what is on disk then. Raises OSError."""
    data = text.encode()
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        with suppress(FileNotFoundError):
            beside.unlink()
    return hashlib.sha256(data).hexdigest()


# ---- the text -------------------------------------------------------------------------------


def _report(told: Told, judgement: Judgement, hashes: Mapping[str, str]) -> Iterator[str]:
    basis, bump = told.basis, told.bump
    word = "ABORTED" if told.broken_off else str(judgement.verdict).upper()
    yield f"# Bump test of {bump.unit}: {word}"
    yield ""
    if told.broken_off:
        yield f"**Broken off:** {told.broken_off}."
        yield ""
    for cause in judgement.causes:
        yield f"**Probable cause:** {cause}."
        yield ""
    yield from _table(("what", "value"), _facts(told), "ll")
    yield f"After the test: {told.after}."
    yield ""
    yield "Powers are positive out of the unit towards the grid (discharge)."
    yield ""
    for name in hashes:
        if name.endswith(".svg"):
            yield f"![{name}]({name})"
            yield ""
    yield "## Judged by"
    yield ""
    yield from _table(
        ("measurement", "what", "independent", "step, kW", "tolerance"),
        [
            (
                each["name"],
                each["text"],
                "yes" if each["independent"] else "no",
                f"{each['resolution_kw']:.3g}",
                f"{each['tolerance_ratio'] * 100.0:.0f} %",
            )
            for each in basis["measurements"]
        ],
        "lllrr",
    )
    for result in judgement.results:
        yield from _step(result)
    yield from _grid_code(told, judgement)
    yield "## Limits in force at the start"
    yield ""
    yield from _table(
        ("limit", "low, kW", "high, kW", "detail"),
        [
            (each["code"], f"{each['low_kw']:+.1f}", f"{each['high_kw']:+.1f}", each["detail"])
            for each in told.unit["limits"]
        ],
        "lrrl",
    )
    safety = ", ".join(f"{key} {value}" for key, value in basis["safety"].items())
    yield f"Safety settings: {safety}."
    yield ""
    yield "## Files beside this one"
    yield ""
    yield from _table(("file", "sha256"), list(hashes.items()), "ll")


def _facts(told: Told) -> list[tuple[str, str]]:
    basis, bump = told.basis, told.bump
    operator = basis["operator"]
    profiles = [f"{key}: {name}" for key, name in basis["profiles"].items() if name]
    return [
        ("site", f"{basis['site_name'] or basis['site']} ({basis['site']}), mode {basis['mode']}"),
        ("unit", f"{bump.unit}, {basis['rated_power_kw']:g} kW, {basis['energy_kwh']:g} kWh"),
        ("begun", f"{_utc(told.begun)}; {_local(told.begun, told.zone)}"),
        ("operator", f"{operator['user']} (uid {operator['uid']})"),
        ("bump", f"{bump.power_kw:g} kW each way, {bump.hold_s:g} s each"),
        ("profiles", ", ".join(profiles)),
        ("version", f"vppd {basis['version']}"),
        ("settings sha256", f"`{basis['settings_sha256']}`"),
        ("other units", _others(told)),
        ("standing alarms", _alarms(told)),
    ]


def _others(told: Told) -> str:
    words = [
        f"{each['id']} {each['state']} {each['power_kw']:+.1f} kW"
        for each in told.status["units"]
        if each["id"] != told.bump.unit and each["power_kw"] is not None
    ]
    return ", ".join(words) or "none"


def _alarms(told: Told) -> str:
    return (
        ", ".join(f"{each['code']} of {each['unit']}" for each in told.status["alarms"]) or "none"
    )


def _utc(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _local(at: datetime, zone: str) -> str:
    try:
        return at.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M:%S %Z")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return f"{zone} is not known here"


def _step(result: StepResult) -> Iterator[str]:
    step = result.step
    cut = ", broken off" if step.cut else ""
    yield f"## {step.name}: {step.asked_kw:+g} kW{cut}"
    yield ""
    yield from _table(
        ("check", "verdict", "found", "wanted"),
        [(each.what, f"**{each.verdict}**", each.found, each.wanted) for each in result.checks],
        "llll",
    )
    if all(seen.rest_kw is None for seen in result.responses.values()):
        return
    yield from _table(
        (
            *("measurement", "rest, kW", "noise, kW", "final, kW", "error, kW", "times"),
            *("dead, s", "rise 10-90 %, s", "ramp, kW/s", "settled, s", "over, %", "read every, s"),
        ),
        [_numbers(name, seen) for name, seen in result.responses.items()],
        "lrrrrrrrrrrr",
    )


def _numbers(name: str, seen: Response) -> tuple[str, ...]:
    finer = seen.rise_s is not None and seen.period_s is not None and seen.rise_s < seen.period_s
    rise = f"< {seen.period_s:.2f}" if finer else _said(seen.rise_s)
    ramp = f"> {seen.ramp_kw_per_s:.1f}" if finer and seen.ramp_kw_per_s else None
    return (
        name,
        _said(seen.rest_kw),
        _said(seen.noise_kw),
        _said(seen.final_kw),
        _said(seen.error_kw),
        _said(seen.gain_ratio, 3),
        _said(seen.dead_s),
        rise,
        ramp or _said(seen.ramp_kw_per_s),
        _said(seen.settling_s),
        _said(seen.overshoot_pct, 1),
        _said(seen.period_s),
    )


def _said(value: float | None, places: int = 2) -> str:
    return "-" if value is None else f"{value:.{places}f}"


def _grid_code(told: Told, judgement: Judgement) -> Iterator[str]:
    """Response times that Indian rules name, beside what was measured. Numbers, no verdict."""
    name = told.basis["measurements"][0]["name"] if told.basis["measurements"] else ""
    seen = [result.responses[name] for result in judgement.results if result.step.asked_kw]
    dead = ", ".join(_said(each.dead_s) for each in seen) or "-"
    settled = ", ".join(_said(each.settling_s) for each in seen) or "-"
    yield "## Beside the rules"
    yield ""
    yield (
        "Numbers only: what binds this site stands in its connection agreement. The base point is"
        f" ramped by vppd at {told.basis['ramp_max_kw_per_s']:g} kW/s; the answer to frequency is"
        " not, so it is faster than the settling time here."
    )
    yield ""
    yield from _table(
        ("rule", "asks", "measured"),
        [
            ("CEA connectivity, B2(4)", "10 % of power within 1 s", f"dead time {dead} s"),
            ("IEGC 2023, primary", "in full within 45 s", f"settled {settled} s"),
            ("IEGC 2023, secondary", "begins within 30 s", f"dead time {dead} s"),
        ],
        "lll",
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], sides: str) -> Iterator[str]:
    """A Markdown table; `sides` is l or r for each column."""
    yield f"| {' | '.join(head)} |"
    yield f"|{'|'.join('---:' if side == 'r' else '---' for side in sides)}|"
    for row in rows:
        yield f"| {' | '.join(_cell(each) for each in row)} |"
    yield ""


def _cell(text: str) -> str:
    return str(text).replace("|", "/").replace("\n", " ")


# ---- plots and samples ----------------------------------------------------------------------


def _plots(told: Told) -> Iterator[tuple[str, str]]:
    """The whole test, then the beginning of each bump."""
    if not told.steps or not told.traces["told"]:
        return
    zero_s = told.steps[0].begun_s
    traces = {
        name: [Sample(each.at_s - zero_s, each.value) for each in samples]
        for name, samples in told.traces.items()
    }
    end_s = max(told.steps[-1].ended_s - zero_s, 1.0)
    title = f"{told.bump.unit}, {_utc(told.begun)}"
    yield "whole", _plot(f"{title}: the whole test", told, traces, (0.0, end_s))
    for step in told.steps:
        if step.asked_kw:
            from_s = step.begun_s - zero_s - BEFORE_S
            to_s = min(step.ended_s - zero_s, from_s + BEFORE_S + ZOOM_S)
            name = f"{title}: {step.name}"
            yield step.name, _plot(name, told, traces, (from_s, max(to_s, from_s + 1.0)))


def _plot(
    title: str, told: Told, traces: Mapping[str, list[Sample]], window_s: tuple[float, float]
) -> str:
    lines = [Line("setpoint", traces["told"], held=True, dashed=True)]
    lines += [Line(name, traces[name]) for name in traces if name in POWERS]
    first = told.basis["measurements"][0]
    shares = first["tolerance_ratio"]
    wide_kw = max(shares * told.bump.power_kw, first["resolution_kw"])
    low = [Sample(each.at_s, each.value - wide_kw) for each in traces["told"]]
    high = [Sample(each.at_s, each.value + wide_kw) for each in traces["told"]]
    band = (f"setpoint ± {wide_kw:.2g} kW", low, high)
    from_s, to_s = window_s
    return plot(title, lines, band, from_s=from_s, to_s=to_s, unit="power, kW, + discharge")


def _csv(told: Told) -> str:
    """Every sample of every trace: seconds from the start, the trace, its value."""
    zero_s = told.steps[0].begun_s if told.steps else 0.0
    rows = [
        (each.at_s - zero_s, name, each.value)
        for name, samples in told.traces.items()
        for each in samples
    ]
    file = io.StringIO()
    out = csv.writer(file, lineterminator="\n")
    out.writerow(("at_s", "trace", "value"))
    out.writerows((f"{at_s:.3f}", name, f"{value:.4f}") for at_s, name, value in sorted(rows))
    return file.getvalue()
