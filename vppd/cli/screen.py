"""The one picture of `vppctl top`: what the site owes and does, who binds, what is wrong, what is
sold, for 80 by 24 signs and for more. Pure: answers of the daemon in, lines out.

Plots stand on slots of the daemon's own uptime, so that a value that stays moves no sign: over a
slow line only what changed is sent.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby

from rich.text import Text

from vppd.cli.braille import Dots, dots, joined, scale, signs
from vppd.cli.long_lines import laid, shortened
from vppd.cli.unit_table import measured_kw
from vppd.cli.wire import Json
from vppd.cli.words import UNKNOWN, localised, number, span

SPAN_S = 300.0
GUTTER, SIDE = 9, 23
PLOT_MIN, PLOT_MAX = 2, 7
FREQUENCY_LEAST_HZ, POWER_LEAST_KW = 0.02, 4.0
TEXT_ROWS = 7  # head, sentence, axis, market, head of the units, one alarm, ticks
CALM = frozenset({"ready", "running"})
COLOURS = {
    **dict.fromkeys(("running", "ready", "idle"), "green"),
    **dict.fromkeys(("limited", "stopped", "disabled", "starting"), "yellow"),
    **dict.fromkeys(("tripped", "lost", "shut", "degraded"), "bold red"),
}
LEVELS = {"warning": "yellow", "critical": "bold red", "emergency": "bold red"}


@dataclass(frozen=True, slots=True)
class Sample:
    """The site at one second of the daemon's uptime."""

    at_s: float
    frequency_hz: float | None
    owed_kw: float | None
    given_kw: float | None


def sample(view: Json) -> Sample:
    """What a status says of now."""
    at_s = float(view["uptime_s"])
    measured_kw = view["measured_kw"]
    given_kw = measured_kw if measured_kw is not None else view["cleared_kw"]
    return Sample(at_s, view["frequency_hz"], view["owed_kw"], given_kw)


def history(trail: Json, uptime_s: float) -> list[Sample]:
    """The daemon's memory of the last minutes."""
    return [
        Sample(uptime_s - age_s, hz, owed_kw, cleared_kw if measured_kw is None else measured_kw)
        for age_s, hz, owed_kw, cleared_kw, measured_kw in trail["lines"]
    ]


def picture(
    view: Json, zone: str, samples: Sequence[Sample], width: int, height: int
) -> list[Text]:
    """At most `height` lines of at most `width` signs."""
    alarms: list[Json] = view["alarms"]
    rest = height - TEXT_ROWS
    plot_rows = min(PLOT_MAX, max(PLOT_MIN, rest // 4))
    if rest < 2 * PLOT_MIN + 2:
        plot_rows = 0
    rest -= 2 * plot_rows
    most_alarms = max(1, min(len(alarms), 1 + max(0, rest) // 3))
    unit_rows = max(1, rest + 1 - most_alarms)
    head, sentence = _head(view, zone, width), Text(str(view["sentence"]))
    plots = _plots(view, samples, width, plot_rows) if plot_rows else []
    words = [_market_line(view), *_units(view["units"], unit_rows)]
    words += _alarms(alarms, most_alarms, width)
    free = height - len([head, sentence, *plots, *words]) - 1
    above = laid([sentence], width, free)
    below = laid(words, width, free + 1 - len(above))
    fixed = [shortened(line, width) for line in (head, *plots, _foot(view))]
    return [fixed[0], *above, *fixed[1:-1], *below, fixed[-1]][:height]


# ---- lines ----------------------------------------------------------------------------------


def _head(view: Json, zone: str, width: int) -> Text:
    name = f"{view['name']} ({view['site']})" if view.get("name") else str(view["site"])
    state = str(view["state"])
    line = Text.assemble((name, "bold"), ": ", (state, COLOURS.get(state, "")))
    line.append(f", {view['mode']}, up {span(view['uptime_s'])}")
    if view.get("shut_by"):
        line.append(f"  SHUT: {view['shut_by']}", "bold red")
    clock = _clock(view["at"], zone)
    room = width - line.cell_len - len(clock)
    if room > 0:
        line.append(" " * room + clock, "dim")
    return line


def _plots(view: Json, samples: Sequence[Sample], width: int, rows: int) -> list[Text]:
    columns = max(10, width - GUTTER - SIDE - 1)
    slot_s = _slot_s(columns)
    newest_s = samples[-1].at_s if samples else 0.0
    last = int(newest_s // slot_s)

    def placed(of: Callable[[Sample], float | None]) -> list[tuple[int, float]]:
        found = ((each, of(each)) for each in samples)
        return [
            (int(each.at_s // slot_s) - last + 2 * columns - 1, value)
            for each, value in found
            if value is not None
        ]

    hz = placed(lambda each: each.frequency_hz)
    owed = placed(lambda each: each.owed_kw)
    given = placed(lambda each: each.given_kw)
    hz_ends = scale((value for _, value in hz), FREQUENCY_LEAST_HZ)
    kw_ends = scale((value for _, value in [*owed, *given]), POWER_LEAST_KW)
    drawn_hz = dots(joined(hz, 4), columns, rows, hz_ends)
    drawn_owed = dots(joined(owed, 4), columns, rows, kw_ends)
    drawn_given = dots(joined(given, 4), columns, rows, kw_ends)
    return [
        *_framed(signs(drawn_hz, columns, rows), hz_ends, ".3f", _frequency_side(view), "cyan"),
        *_power(drawn_owed, drawn_given, columns, rows, kw_ends, _power_side(view)),
        _axis(columns),
    ]


def _slot_s(columns: int) -> float:  # of one column of dots
    return float(-(-SPAN_S // (2 * columns)))


def _framed(
    lines: Sequence[str],
    ends: tuple[float, float],
    form: str,
    side: Sequence[Text],
    colour: str,
) -> list[Text]:
    framed = []
    for row, line in enumerate(lines):
        made = _gutter(row, len(lines), ends, form)
        made.append(line, colour)
        framed.append(_beside(made, side, row))
    return framed


def _power(
    owed: Dots,
    given: Dots,
    columns: int,
    rows: int,
    ends: tuple[float, float],
    side: Sequence[Text],
) -> list[Text]:
    """Both lines in one field: yellow is owed alone, green where something is given."""
    both, green = signs(owed | given, columns, rows), signs(given, columns, rows)
    framed = []
    for row in range(rows):
        made = _gutter(row, rows, ends, ".4g")
        cells = zip(both[row], green[row], strict=True)
        for given_here, run in groupby(cells, key=lambda cell: cell[1] != " "):
            made.append("".join(sign for sign, _ in run), "green" if given_here else "yellow")
        framed.append(_beside(made, side, row))
    return framed


def _gutter(row: int, rows: int, ends: tuple[float, float], form: str) -> Text:
    words = {0: format(ends[1] + 0.0, form), rows - 1: format(ends[0] + 0.0, form)}
    return Text(words.get(row, "").rjust(GUTTER - 1) + "┤", "dim")


def _beside(line: Text, side: Sequence[Text], row: int) -> Text:
    if row < len(side):
        line.append(" ")
        line.append_text(side[row])
    return line


def _axis(columns: int) -> Text:
    left, right = f"-{SPAN_S / 60:.0f} min", "now"
    shown_s = _slot_s(columns) * 2 * columns
    place = round((1 - SPAN_S / shown_s) * columns)
    line = " " * (GUTTER + place) + left
    return Text(line.ljust(GUTTER + columns - len(right)) + right, "dim")


def _frequency_side(view: Json) -> list[Text]:
    source = view.get("frequency_source") or "no source"
    return [
        Text(f"{number(view['frequency_hz'], '.3f')} Hz", "bold"),
        Text(f"{view['band'] or 'unknown'}, {source}"),
        Text(f"rocof {number(view['rocof_hz_per_s'], '+.2f')} Hz/s"),
    ]


def _power_side(view: Json) -> list[Text]:
    source = str(view["base_source"] or "").partition(":")[0]  # who exactly: see the sentence
    return [
        Text(f"owed {number(view['owed_kw']):>11} kW", "yellow"),
        Text(f"measured {number(view['measured_kw']):>7} kW", "green"),
        Text(f"setpoints {number(view['cleared_kw']):>6} kW"),
        Text(f"base {number(view['base_kw'])} {source}"),
        Text(f"droop {number(view['droop_kw'])}, owed {number(view['droop_owed_kw'])}"),
    ]


def _market_line(view: Json) -> Text:
    """What is traded, and that orders are not taken."""
    line = _trade(view)
    orders = view.get("orders")
    if orders and not orders["enabled"]:
        line.append(f"; orders off by {orders['by'] or 'configuration'}", "yellow")
    return line


def _trade(view: Json) -> Text:
    market = view.get("market")
    if not market or not market.get("enabled"):
        return Text(f"market: not traded; the base is of {view['base_source'] or 'nobody'}", "dim")
    now = market.get("now", {})
    block = str(now.get("block")).rpartition(":")[2]
    line = Text(
        f"market: block {block} {number(now.get('position_mw'), '+.3f')} MW,"
        f" next {number(now.get('next_position_mw'), '+.3f')}"
    )
    if market.get("next_gate"):
        left_s = (_at(market["next_gate_closes_at"]) - _at(view["at"])) / timedelta(seconds=1)
        line.append(f"; {market['next_gate']} closes in {span(max(0.0, left_s))}")
    if market.get("stopped"):
        line.append(f"  STOPPED: {market['stopped']}", "bold red")
    elif market.get("dry_run"):
        line.append("  dry run", "yellow")
    return line


def _units(units: Sequence[Json], rows: int) -> list[Text]:
    """Those with something to tell first; the rest is counted."""
    wide = min(16, max([4, *(len(str(each["id"])) for each in units)]))
    head = f"{'unit':{wide}} {'state':9} {'kW':>7} {'setpt':>7} {'may take..give':>15} {'SoC':>6}  "
    order = sorted(units, key=lambda each: each["state"] in CALM and not each["bound_by"])
    shown = order if len(order) <= rows else order[: rows - 1]
    lines = [Text(head + "bound by", "dim"), *(_unit(each, wide) for each in shown)]
    if len(shown) < len(order):
        hidden = order[len(shown) :]
        states: dict[str, int] = {}
        for each in hidden:
            states[each["state"]] = states.get(each["state"], 0) + 1
        words = ", ".join(f"{count} {state}" for state, count in states.items())
        lines.append(Text(f"and {len(hidden)} more: {words}", "dim"))
    return lines


def _unit(each: Json, wide: int) -> Text:
    state = str(each["state"])
    room = each.get("room")
    may = f"{room['low_kw']:+.0f}..{room['high_kw']:+.0f}" if room else UNKNOWN
    line = Text(f"{str(each['id'])[:wide]:{wide}} ")
    line.append(f"{state:9}", COLOURS.get(state, ""))
    power_kw, unread = measured_kw(each), ""
    if power_kw is None and each.get("read_age_s") is not None:
        unread = f" (read {span(each['read_age_s'])} ago)"
    line.append(
        f" {number(power_kw):>7} {number(each['setpoint_kw']):>7} {may:>15}"
        f" {number(each['soc_pct'], '.1f'):>6}  {' '.join(each['bound_by']) or '-'}{unread}"
    )
    return line


def _alarms(alarms: Sequence[Json], rows: int, width: int) -> list[Text]:
    if not alarms:
        return [Text("no alarms", "green")]
    shown = alarms if len(alarms) <= rows else alarms[: max(1, rows)]
    lines = [
        Text.assemble(
            (f"{each['level']} {each['code']}", LEVELS.get(str(each["level"]), "")),
            f" {each['unit']}{_said(each)}",
        )
        for each in shown
    ]
    if len(shown) < len(alarms):
        more = Text(f"  (and {len(alarms) - len(shown)} more)", "bold")
        lines[-1] = shortened(lines[-1], max(1, width - more.cell_len)) + more
    return lines


def _said(alarm: Json) -> str:
    """What it says now, where that is known, else what it said when it was raised."""
    age = span(alarm["age_s"])
    now = alarm.get("now")
    return f" {age} ago: {alarm['text']}" if now is None else f" {age}: {now}"


def _foot(view: Json) -> Text:
    ticks = view["ticks"]
    journal = view.get("diagnostics", {}).get("journal") or {}
    words = ""
    if journal:
        failed = journal.get("failed")
        words = f"JOURNAL {failed}" if failed else f"journal {journal.get('queued_rows')} waiting"
    return Text(
        f"ticks {ticks['count']}, late {ticks['late']}, p99 {number(ticks['lag_p99_ms'], '.1f')}"
        f" ms; {words}; vppd {view['version']}; Ctrl-C ends",
        "dim",
    )


# ---- times ----------------------------------------------------------------------------------


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _clock(text: str, zone: str) -> str:
    return str(localised(text, zone))[11:]


def kept(samples: Iterable[Sample], newest_s: float) -> list[Sample]:
    """Those that a plot can still show."""
    return [each for each in samples if newest_s - each.at_s <= SPAN_S + 60.0]
