"""What vppctl shows to people: answers of the daemon as aligned lines of plain text. Unknown is
`?`, power is positive towards the grid, times are the site's."""

import textwrap
from collections.abc import Callable, Iterable

from vppd.cli.alarm_lines import alarm_lines, orders_line
from vppd.cli.capability_lines import capability_lines
from vppd.cli.journal_words import journal_lines, journal_words
from vppd.cli.unit_table import (
    measured_kw,
    owner_lines,
    reactive_line,
    unit_sections,
    unread,
)
from vppd.cli.wire import Json
from vppd.cli.words import UNKNOWN, codes, number, span, table, time_of

_CAPACITY = (
    *("rated_power_kw", "energy_kwh", "available_discharge_kw", "available_charge_kw"),
    *("available_discharge_kwh", "available_charge_kwh"),
)
CALM = frozenset({"ready", "running"})
HELD = frozenset({"disabled", "released"})  # by an operator
UNITS_MAX = 20
CALM_KW = 0.05
WIDTH = 79


# ---- whole answers --------------------------------------------------------------------------


def status(view: Json) -> list[str]:
    """The site on one screen."""
    name = f"{view['name']} ({view['site']})" if view.get("name") else str(view["site"])
    lines = [
        f"{name}: {view['state']}, mode {view['mode']}, up {span(view['uptime_s'])},"
        f" vppd {view['version']}"
    ]
    if view.get("shut_by"):
        lines.append(f"SHUT: {view['shut_by']}")
    lines += textwrap.wrap(str(view["sentence"]), WIDTH, subsequent_indent="    ")
    lines += [_frequency_line(view), *orders_line(view), ""]
    lines += _unit_table(view["units"], crowd=True)
    lines += [*meter_line(view.get("meter")), "", *alarm_lines(view["alarms"])]
    lines += [_plan_line(each) for each in view.get("plans", [])]
    ticks = view["ticks"]
    lines.append(
        f"ticks {ticks['count']}, late {ticks['late']}, "
        f"lag p99 {number(ticks['lag_p99_ms'], '.1f')} ms; "
        f"{journal_words(view.get('diagnostics', {}))}"
    )
    lines += journal_lines(view.get("diagnostics", {}))
    return lines


def units(view: Json) -> list[str]:
    """Every unit."""
    return _unit_table(view["units"], crowd=False)


def unit(view: Json) -> list[str]:
    """One unit with everything known of it."""
    told = view["telemetry"]
    link = {True: "up", False: "down"}.get(view["link"]["up"], "not tried yet")
    outcome = view["outcome"]
    lines = [
        f"{view['id']} in {view['building']}: {view['state']}, link {link}",
        f"  asked {number(view['asked_kw'])} kW, setpoint {number(view['setpoint_kw'])}, "
        f"read back {number(view['read_back_kw'])}, measured {number(view['power_kw'])}",
        *reactive_line(view),
        f"  bound by {codes(view['bound_by'])}",
        f"  last write {outcome['word'] or 'none'} {span(outcome['age_s'])} ago; "
        f"written {outcome['written']}",
        f"  failed {outcome['failed']} (refused {outcome['refused']}, lost {outcome['lost']}), "
        f"reverted by the device {outcome['reverted']}, "
        f"changed by someone else {outcome['changed']}",
        *owner_lines(view),
        "",
        *unit_sections(view),
    ]
    rows = [
        (point, number(told[point], ".6g"), quality, span(told["ages_s"].get(point)))
        for point, quality in told["quality"].items()
    ]
    lines += table(("point", "value", "quality", "age"), rows, "lrlr")
    lines += ["", *_limit_lines(view["limits"])]
    lines += [_held_line(each, "latched") for each in view["latched"]]
    lines += [f"differs: {text}" for text in view["mismatches"]]
    if view.get("plan"):
        lines.append(_plan_line(view["plan"]))
    return lines


def campus(view: Json) -> list[str]:
    """The tree, each level with what it can do now."""
    rows = list(_place_rows(view["campus"], 0))
    head = ("place", "status", "rated kW", "kWh", "out kW", "in kW", "out kWh", "in kWh")
    lines = table(head, rows, "llrrrrrr")
    return lines + (["", *capability_lines(view["capability"])] if "capability" in view else [])


def frequency(view: Json) -> list[str]:
    """The frequency, its last minute and its sources."""
    minute = view["statistics"]
    lines = [
        f"{number(view['frequency_hz'], '.4f')} Hz, {view['band'] or 'no frequency'}"
        + (f", ALARM {view['alarm']}" if view["alarm"] else ""),
        f"  rocof {number(view['rocof_hz_per_s'], '+.3f')} Hz/s, from {view['source'] or UNKNOWN}, "
        f"{span(view['age_s'])} old, {view['quality'] or UNKNOWN}",
        f"  last minute: mean {number(minute['mean_hz'], '.4f')}, "
        f"min {number(minute['min_hz'], '.4f')}, max {number(minute['max_hz'], '.4f')}, "
        f"std {number(minute['std_hz'], '.4f')} Hz",
    ]
    if (droop := view.get("droop")) is not None:
        lines.append(f"  droop is {'on' if droop['enabled'] else 'OFF'}, by {droop['by']}")
    rows = [
        (
            str(each["id"]),
            number(each["frequency_hz"], ".4f"),
            "yes" if each["believed"] else "no",
            " ".join(filter(None, (each["quality"], each["text"]))),
            span(each["age_s"]),
            str(each["utc"] or UNKNOWN),
        )
        for each in view["sources"]
    ]
    if rows:
        lines += [
            "",
            *table(("source", "Hz", "believed", "quality", "age", "its time"), rows, "lr"),
        ]
    phasors = [
        (each["name"], number(each["magnitude"], ".1f"), each["unit"], number(each["angle_deg"]))
        for each in view["phasors"]
    ]
    if phasors:
        lines += ["", *table(("phasor", "magnitude", "unit", "deg"), phasors, "lrlr")]
    return lines


def alarms(view: Json) -> list[str]:
    """Standing alarms with what to do."""
    return alarm_lines(view["alarms"])


def violations(view: Json) -> list[str]:
    """Standing first, then the ended ones."""
    rows = [
        (
            each["at"],
            str(each["unit"]),
            str(each["rule"]),
            str(each["level"]),
            str(each["action"]),
            number(each["value"], ".4g"),
            number(each["limit"], ".4g"),
            each["cleared_at"] or "standing",
        )
        for each in view["violations"]
    ]
    head = ("at", "unit", "rule", "level", "action", "value", "limit", "cleared")
    return table(head, rows, "lllllrr") if rows else ["no violations"]


def recent(view: Json) -> list[str]:
    """The newest rows of the journal, newest last."""
    rows = [
        (
            each["at"],
            str(each["kind"]),
            str(each["unit"]),
            str(each["code"]),
            str(each.get("level") or each.get("by") or each.get("action") or ""),
            str(each["text"]),
        )
        for each in view["events"]
    ]
    return table(("at", "kind", "unit", "code", "", "text"), rows) if rows else ["no events"]


def event(name: str, data: Json) -> str:
    """One line for one event of the stream."""
    if name == "alarm":
        word = "raised" if data["active"] else "over"
        return f"alarm {word}: {data['code']} {data['unit']} ({data['level']}) {data['text']}"
    if name == "violation":
        word = "over" if data["cleared_at"] else data["action"]
        return f"violation {word}: {data['rule']} {data['unit']} ({data['level']}) {data['text']}"
    if name == "command":
        return (
            f"command {data['verdict']}: {data['verb']} {data['unit']} by {data['user']}"
            f" {data['text']}"
        )
    state, owed, given = data.get("state"), data.get("owed_kw"), data.get("cleared_kw")
    hz = number(data.get("frequency_hz"), ".3f")
    return f"{name}: {state}, owe {number(owed)} kW, give {number(given)} kW, {hz} Hz"


def why(view: Json) -> list[str]:
    """Owed, asked, every cut, got, read back, measured."""
    live = view["from"] == "live"
    site: Json = view["site"] or {}
    source = _source_words(site)
    rows: list[tuple[str, str]] = [
        (
            "owed",
            f"{number(site.get('owed_kw'))} kW by the site: "
            f"base {number(site.get('base_kw'))}{source}, "
            f"droop {number(site.get('droop_owed_kw'))} at "
            f"{number(site.get('frequency_hz'), '.3f')} Hz ({site.get('source') or 'no source'})",
        ),
        *((_cut_word(each, "site "), _cut_words(each)) for each in site.get("clamps") or []),
        (
            "asked",
            f"{number(view['asked_kw'])} kW of {view['unit']}: base {number(view['base_kw'])}, "
            f"frequency {number(view['frequency_kw'])}; {number(view['asked_kvar'])} kvar",
        ),
        *((_cut_word(each), _cut_words(each)) for each in view["clamps"]),
        ("got", f"{number(view['got_kw'])} kW, {number(view['got_kvar'])} kvar"),
        ("write", _outcome_words(view)),
        ("read back", f"{number(view['read_back_kw'])} kW{_verdict_words(view.get('read_back'))}"),
        ("measured", f"{number(view['measured_kw'])} kW"),
        *(("rule", _rule_words(each)) for each in view.get("verdicts") or []),
        *(("violation", _rule_words(each)) for each in view.get("violations") or []),
        *(("latched", _latch_words(each)) for each in view.get("latched") or []),
    ]
    head = f"{view['unit']}: {view['state']} at {view['at']}"
    head += "" if live else f" (newest row of the journal before {view['asked_for_at']})"
    return [head, *(f"  {word.ljust(9)}  {text}" for word, text in rows)]


def planned(view: Json) -> list[str]:
    """A plan that was taken, and what would bind it."""
    lines = [
        _plan_line(view["plan"]),
        f"expected {number(view['expected_kw'])} kW, bound by {codes(view['bound_by'])}",
    ]
    if view.get("shut_by"):
        lines.append(f"but the site is SHUT: {view['shut_by']}")
    for each in view["units"]:
        lines += [f"  {each['id']}: {_cut_words(cut)}" for cut in each["clamps"]]
    return lines + [f"replaced: {_plan_line(each)}" for each in view["replaced"]]


def reloaded(view: Json) -> list[str]:
    """What a reload changed, or would."""
    lines = [f"{each['key']}: {each['old']} -> {each['new']}" for each in view["changes"]]
    lines += [f"  {step}" for step in view["steps"]]
    if view["reloaded"]:
        return [*lines, "reloaded" if lines else "reloaded: nothing changed"]
    return [*lines, "it can be reloaded" if lines else "nothing would change"]


def acted(view: Json) -> list[str]:
    """What else a command did."""
    lines: list[str] = []
    if "command" in view:
        lines.append(f"{view['command']} {view['unit']}: done")
    if "enabled" in view:
        lines.append(f"droop is {'on' if view['enabled'] else 'off'}")
    if "released" in view:
        lines += [f"released: {_plan_line(each)}" for each in view["released"]]
        if not view["released"] and "command" not in view:
            lines.append(f"no operator's plan for {view['unit']}: nothing to release")
    lines += [f"reset: {_latch_words(each)}" for each in view.get("reset", [])]
    if view.get("command") == "reset" and not view["reset"]:
        lines = [f"nothing was latched on {view['unit']}"]
    held = "still latched" if view.get("command") in {"reset", "enable"} else "latched"
    lines += [_held_line(each, held) for each in view.get("latched", [])]
    if "note" in view:
        lines.append(str(view["note"]))
    return lines


def problem(view: Json) -> list[str]:
    """Why it was refused."""
    detail = str(view.get("detail") or view.get("title") or "refused")
    errors = view.get("errors", [])
    listed = "; ".join(errors)  # as a detail ends that tells them all
    if listed and detail.endswith(listed):
        if len(errors) == 1:
            return [detail]
        detail = detail.removesuffix(listed).rstrip()
    return [detail, *(f"  {error}" for error in errors)]


# ---- parts ----------------------------------------------------------------------------------


def _frequency_line(view: Json) -> str:
    if view["frequency_hz"] is None:
        return "no believable frequency"
    return (
        f"{view['frequency_hz']:.3f} Hz, {view['band']}, {view['frequency_source']}, "
        f"{span(view['frequency_age_s'])} old"
    )


def _unit_table(lines: list[Json], *, crowd: bool) -> list[str]:
    """All units; of a crowd first those that need a look."""
    shown = lines
    if crowd and len(lines) > UNITS_MAX:
        shown = [each for each in lines if each["state"] not in CALM][:UNITS_MAX]
    rows = [
        (
            str(each["id"]),
            str(each["state"]),
            number(each.get("asked_kw")),
            number(each["setpoint_kw"]),
            number(measured_kw(each)),
            number(each["soc_pct"], ".1f"),
            codes(each["bound_by"]),
        )
        for each in shown
    ]
    head = ("unit", "state", "asked kW", "setpoint", "measured", "soc %", "bound by")
    text = table(head, rows, "llrrrrl") if rows else []
    text += [f"{each['id']}: {unread(each)}" for each in shown if unread(each)]
    if len(shown) < len(lines):
        text.append(f"{len(lines) - len(shown)} more units: vppctl units")
    return text


def meter_line(meter: Json | None) -> list[str]:
    """The point of connection, where it is measured."""
    if not meter:
        return []
    if not meter["up"]:
        return [f"meter silent: {meter['text'] or 'not tried yet'}"]
    return [
        f"meter {number(meter['export_kw'])} kW to the grid,"
        f" other load {number(meter['other_load_kw'])} kW"
    ]


def _source_words(site: Json) -> str:
    """Who asks for the base; nobody of the site does where units have plans of their own."""
    source = site.get("base_source")
    if not source or (source == "idle" and abs(site.get("base_kw") or 0.0) > CALM_KW):
        return ""
    return f" ({source})"


def _plan_line(each: Json) -> str:
    how = f", {each['strategy']}" if each.get("strategy") else ""
    kvar = f", {number(each['reactive_kvar'])} kvar" if each.get("reactive_kvar") else ""
    left_s = each["expires_in_s"]
    # an operator's plan has an end; the others are leases, renewed while who asks is there
    ends = "ends in" if each["priority"] == "operator" else "unless renewed ends in"
    return (
        f"plan {each['unit']} {number(each['power_kw'])} kW{kvar}{how} by {each['source']}, {ends} "
        f"{span(left_s)} (at {time_of(each['expires_at'], left_s)})"
    )


def _limit_lines(limits: list[Json]) -> list[str]:
    rows = [
        (each["code"], number(each["low_kw"]), number(each["high_kw"]), each["detail"])
        for each in limits
    ]
    return table(("limit", "from kW", "to kW", ""), rows, "lrrl")


def _place_rows(place: Json, depth: int) -> Iterable[tuple[str, ...]]:
    named = f" {place['name']}" if place.get("name") else ""
    yield (f"{'  ' * depth}{place['id']}{named}", place["level"], *_capacity(place["capacity"]))
    for child in place["children"]:
        yield from _place_rows(child, depth + 1)
    for node in place["nodes"]:
        yield (f"{'  ' * (depth + 1)}{node['id']}", node["status"], *_capacity(node["capacity"]))


def _capacity(capacity: Json) -> tuple[str, ...]:
    return tuple(number(capacity[name], ".1f") for name in _CAPACITY)


def _cut_word(each: Json, whose: str = "") -> str:
    return f"{whose}cut" if each["before_kw"] != each["after_kw"] else f"{whose}held"


def _cut_words(each: Json) -> str:
    words = ": ".join(filter(None, (str(each.get("text") or ""), str(each.get("detail") or ""))))
    if each["before_kw"] == each["after_kw"]:
        return f"{each['code']} at {number(each['after_kw'])} kW  {words}"
    return f"{each['code']} {number(each['before_kw'])} -> {number(each['after_kw'])} kW  {words}"


def _rule_words(each: Json) -> str:
    device = f"{each['device']} " if each.get("device") else ""
    said = f"{each['rule']} {each['level']} {each['action']}: {device}{each['text']}"
    if each["value"] is None:
        return said
    return f"{said} ({number(each['value'], '.4g')}, {number(each['limit'], '.4g')})"


def _latch_words(each: Json) -> str:
    return f"{each['scope']}: {each['code']} {each['text']} since {each['since']}"


def _held_line(each: Json, word: str) -> str:
    """A trip, or what an operator did to a unit, which no reset undoes."""
    if each["code"] not in HELD:
        return f"{word}: {_latch_words(each)}"
    until = f"over restarts too, until `vppctl enable {each['scope']}`"
    return f"{each['code']}: {each['scope']} {each['text']} since {each['since']}, {until}"


def _outcome_words(view: Json) -> str:
    age = f" {span(view['outcome_age_s'])} ago" if view.get("outcome_age_s") is not None else ""
    return f"{view['outcome'] or 'none yet'}{age}"


def _verdict_words(last: Json | None) -> str:
    if not last:
        return ""
    return f", {last['verdict']} {span(last['age_s'])} ago {last['text']}".rstrip()


Show = Callable[[Json], list[str]]
