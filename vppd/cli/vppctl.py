"""vppctl: ask the running vppd and command it, over its Unix socket.

Exit codes: 0 fine, 1 asked for and refused, 2 wrong words, 3 the daemon is not there (then the last
rows of its journal are shown).
"""

import argparse
import functools
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

from vppd.cli import (
    event_lines,
    market_lines,
    market_words,
    order_lines,
    region_lines,
    tables,
    unit_table,
)
from vppd.cli.parser import Parser
from vppd.cli.values import (
    SWITCHES,
    curve_points,
    duration_s,
    power_factor,
    power_kw,
    power_or_release,
    power_or_switch,
)
from vppd.cli.wire import DaemonAbsent, Json, Reply, ask, fetch, follow
from vppd.cli.words import localised, told

SOCKET = "/run/vppd/vppd.sock"
STATE = "/var/lib/vppd"
CONFIG = "/etc/vppd"
DAY_S = 86_400.0
FINE, REFUSED, WRONG, ABSENT = 0, 1, 2, 3
# of an inverter, as field.sunspec_curves.CurveKind
KINDS = ("volt_var", "volt_watt", "frequency_droop", "watt_var")

SHOW = object()  # no power was given

Words = argparse.Namespace
Call = tuple[str, str, Json | None]

__all__ = ["DaemonAbsent", "fetch", "main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; ends the process."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `vppctl units | head` is no error
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a script started it
    given = Words(
        socket=os.environ.get("VPPD_SOCKET", SOCKET),
        state=os.environ.get("VPPD_STATE", STATE),
        json=False,
    )
    words = _parser().parse_args(arguments, given)
    try:
        code = words.run(words)
    except DaemonAbsent as error:
        code = _absent(words, error)
    except KeyboardInterrupt:
        code = FINE
    sys.exit(code)


# ---- the words ------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    common = Parser(add_help=False)
    keep = argparse.SUPPRESS  # so that the options work before and after the verb
    common.add_argument("--socket", default=keep, help=f"the daemon's socket (default {SOCKET})")
    common.add_argument("--state", default=keep, help=f"its state directory (default {STATE})")
    common.add_argument(
        "--json", action="store_true", default=keep, help="print the answer as JSON"
    )
    parser = Parser("vppctl", description="Ask the running vppd and command it.", parents=[common])
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)

    def verb(name: str, does: str, run: Callable[[Words], int]) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, help=does, description=does, parents=[common])
        made.set_defaults(run=run)
        return made

    verb("status", "the site on one screen", _shows("/v1/status", market_lines.status))
    verb("units", "every unit in one line", _shows("/v1/units", tables.units))
    unit = verb("unit", "everything about one unit", _unit)
    unit.add_argument("unit", metavar="UNIT")
    verb("campus", "the hierarchy and what it can do now", _shows("/v1/campus", tables.campus))
    verb("region", "the sites of an aggregator", _shows("/v1/region", region_lines.region))
    verb("frequency", "the frequency and its sources", _shows("/v1/frequency", tables.frequency))
    market_words.add(verb("market", "what is sold, why, or stop it", _market))
    verb("alarms", "standing alarms and what to do", _shows("/v1/alarms", tables.alarms))
    verb("violations", "broken safety rules", _shows("/v1/safety/violations", tables.violations))
    events = verb("events", "what happened lately", _events)
    events.add_argument("--follow", "-f", action="store_true", help="and what happens from now on")
    events.add_argument("--last", type=int, default=20, help="how many (default 20)")
    _named(verb("event", "name a frequency event: its rows are kept as evidence", _event))
    why = verb("why", "why a unit does what it does", _why)
    why.add_argument("unit", metavar="UNIT")
    why.add_argument("--at", help="then: 2026-11-22T18:30:00+05:30, or 18:30 in the site's zone")
    _commands(verb)
    return parser


def _commands(verb: Callable[..., argparse.ArgumentParser]) -> None:
    """The verbs that change something."""
    dispatch = verb("dispatch", "give the site a base point, or release it", _dispatch)
    dispatch.add_argument("power_kw", metavar="KW", type=power_or_release, help="or `release`")
    dispatch.add_argument("--strategy", help="proportional, balanced or priority")
    _for(dispatch)
    _ordering(verb("order", "order the site as the grid would, release it, or see it", _order))
    power = verb("power", "give one unit a share of its own, or release it", _power)
    power.add_argument("unit", metavar="UNIT")
    power.add_argument("power_kw", metavar="KW", type=power_or_release, help="or `release`")
    _reactive(power)
    power.add_argument("--droop", action="store_true", help="answer frequency all the same")
    _for(power)
    for name, command, does in (
        ("enable", "enable", "let a disabled unit work again, take a released one back"),
        ("disable", "disable", "hold a unit at 0 until enabled, over restarts"),
        (
            "release",
            "release",
            "bring a unit to 0, then give it back to its own control until enabled, over restarts",
        ),
    ):
        one = verb(name, does, _control)
        one.add_argument("unit", metavar="UNIT")
        one.set_defaults(command=command)
    for name, command, does in (
        ("estop", "emergency_stop", "shut down now and latch"),
        ("reset", "reset", "undo the trips of a unit, a building or the site"),
    ):
        scoped = verb(name, does, _control)
        scoped.add_argument(
            "unit", metavar="SCOPE", nargs="?", default="site", help="default: site"
        )
        scoped.set_defaults(command=command)
    curve = verb("curve", "the curves an inverter follows by itself, or a new one", _curve)
    curve.add_argument("unit", metavar="UNIT")
    curve.add_argument("kind", metavar="KIND", nargs="?", choices=KINDS, help=", ".join(KINDS))
    curve.add_argument(
        "--set", dest="points", type=curve_points, metavar="X:Y,...", help="its new points"
    )
    curve.add_argument("--off", action="store_true", help="with --set: not in force")
    droop = verb("droop", "switch the answer to frequency", _droop)
    droop.add_argument("switch", choices=("on", "off"))
    again = verb("reload", "read the configuration again and take it over, whole", _reload)
    again.add_argument("--dry-run", action="store_true", help="only say what would change")
    pack = verb("bundle", "one file for a bug report, without credentials", _bundle)
    pack.add_argument("file", metavar="FILE", type=Path, help="vppd-report.tar.gz; a new file")
    pack.add_argument("--config", type=Path, default=Path(CONFIG), help=f"(default {CONFIG})")
    pack.add_argument(
        "--last", dest="last_s", type=duration_s, default=DAY_S, metavar="TIME", help="24h, 2d"
    )
    top = verb("top", "the site on one screen, live", _top)
    top.add_argument("--once", action="store_true", help="one picture, then end")


def _named(event: argparse.ArgumentParser) -> None:
    event.add_argument("name", metavar="NAME")
    event.add_argument("--at", help="its beginning (default now), written as for `why`")
    event.add_argument(
        "--for", dest="duration_s", type=duration_s, metavar="TIME", help="5m (default), 90s"
    )


def _ordering(order: argparse.ArgumentParser) -> None:
    order.add_argument(
        "power_kw",
        metavar="KW",
        nargs="?",
        default=SHOW,
        type=power_or_switch,
        help="or `release`; `on`, `off`: take orders, whoever switched them off, or take none;"
        " nothing: show",
    )
    order.add_argument("--delta", action="store_true", help="on top of the base; plus is up")
    order.add_argument("--ramp", type=power_kw, metavar="KW_PER_S", help="move no faster")
    _for(order, "the site's orders.expiry_s")


def _reactive(power: argparse.ArgumentParser) -> None:
    reactive = power.add_mutually_exclusive_group()
    reactive.add_argument("--kvar", type=power_kw, help="reactive power, plus is out of the unit")
    reactive.add_argument(
        "--pf", dest="power_factor", type=power_factor, help="power factor, above 0 to 1"
    )
    sense = power.add_mutually_exclusive_group()
    sense.add_argument(
        "--lagging",
        dest="sense",
        action="store_const",
        const="lagging",
        help="with --pf: the unit supplies reactive power, plus kvar, as a generator's lagging"
        " power factor does (default)",
    )
    sense.add_argument(
        "--leading",
        dest="sense",
        action="store_const",
        const="leading",
        help="with --pf: the unit absorbs reactive power, minus kvar",
    )


def _for(parser: argparse.ArgumentParser, default: str = "15m") -> None:
    parser.add_argument(
        "--for", dest="duration_s", type=duration_s, metavar="TIME", help=f"90s, 2h ({default})"
    )


# ---- the verbs ------------------------------------------------------------------------------


def _shows(target: str, show: tables.Show) -> Callable[[Words], int]:
    return lambda words: _do(words, ("GET", target, None), show)


def _acts(method: str, target: str) -> Callable[[Words], int]:
    return lambda words: _do(words, (method, target, {}), tables.acted)


def _reload(words: Words) -> int:
    body = {"dry_run": True} if words.dry_run else {}
    return _do(words, ("POST", "/v1/reload", body), tables.reloaded)


def _unit(words: Words) -> int:
    return _do(words, ("GET", f"/v1/units/{quote(words.unit, '')}", None), tables.unit)


def _why(words: Words) -> int:
    at = f"?at={quote(words.at, '')}" if words.at else ""
    return _do(words, ("GET", f"/v1/units/{quote(words.unit, '')}/why{at}", None), tables.why)


def _bundle(words: Words) -> int:
    from vppd.cli import bundle  # noqa: PLC0415  sqlite is slow to import

    places = bundle.places_of(words.config, Path(words.state), words.socket)
    try:
        recordings = bundle.bundle(words.file, places, words.last_s, _progress)
    except OSError as error:
        print(f"vppctl: {told(error)}", file=sys.stderr)
        return REFUSED
    if recordings:
        print(f"{words.file}: written; `vppd replay {words.file}` computes its decisions again")
    else:
        where = f"{words.state} has none; `--state DIR` says where else"
        print(f"{words.file}: written, without recorded decisions: {where}")
    return FINE


def _progress(text: str) -> None:
    print(text, file=sys.stderr)


def _market(words: Words) -> int:
    return _do(words, *market_words.call(words))


def _event(words: Words) -> int:
    body = {"name": words.name, "at": words.at, "duration_s": words.duration_s}
    given = {key: value for key, value in body.items() if value is not None}
    return _do(words, ("POST", "/v1/events", given), event_lines.named)


def _dispatch(words: Words) -> int:
    return _plan(words, "/v1/dispatch", {"strategy": words.strategy})


def _order(words: Words) -> int:
    if words.power_kw is SHOW:
        return _do(words, ("GET", "/v1/orders", None), order_lines.orders)
    if words.power_kw is None:
        return _do(words, ("DELETE", "/v1/orders", None), order_lines.orders)
    if words.power_kw in SWITCHES:
        on = {"enabled": words.power_kw == "on"}
        return _do(words, ("POST", "/v1/orders/switch", on), order_lines.orders)
    body = {
        "kind": "delta" if words.delta else "absolute",
        "power_kw": words.power_kw,
        "duration_s": words.duration_s,
        "ramp_kw_per_s": words.ramp,
    }
    given = {key: value for key, value in body.items() if value is not None}
    return _do(words, ("POST", "/v1/orders", given), order_lines.orders)


def _power(words: Words) -> int:
    more = {
        "reactive_kvar": words.kvar,
        "power_factor": words.power_factor,
        "sense": words.sense,
        "droop": words.droop or None,
    }
    return _plan(words, f"/v1/units/{quote(words.unit, '')}/power", more)


def _plan(words: Words, target: str, more: Json) -> int:
    if words.power_kw is None:
        return _do(words, ("DELETE", target, None), tables.acted)
    body = {"power_kw": words.power_kw, "duration_s": words.duration_s, **more}
    given = {key: value for key, value in body.items() if value is not None}
    return _do(words, ("POST", target, given), tables.planned)


def _control(words: Words) -> int:
    target = f"/v1/units/{quote(words.unit, '')}/control"
    return _do(words, ("POST", target, {"command": words.command}), tables.acted)


def _curve(words: Words) -> int:
    target = f"/v1/units/{quote(words.unit, '')}/curves"
    if words.points is None:
        if words.off:
            return _wrong("--off goes with --set: the points stay those that are given")
        return _do(words, ("GET", target, None), functools.partial(unit_table.curves, words.kind))
    if words.kind is None:
        return _wrong(
            f"which curve? Say {words.unit} KIND --set ...; KIND is one of {', '.join(KINDS)}"
        )
    body = {"kind": words.kind, "points": words.points, "enabled": not words.off}
    given = {key: value for key, value in body.items() if value is not None}
    return _do(words, ("POST", target, given), functools.partial(unit_table.curves, None))


def _wrong(text: str) -> int:
    print(f"vppctl curve: {text}", file=sys.stderr)
    return WRONG


def _droop(words: Words) -> int:
    return _do(words, ("POST", "/v1/droop", {"enabled": words.switch == "on"}), tables.acted)


def _events(words: Words) -> int:
    code = _do(words, ("GET", f"/v1/events/recent?last={words.last}", None), tables.recent)
    if not words.follow or (code != FINE and not words.json):
        return code
    for name, data in follow(words.socket, "/v1/events"):
        if name == "problem":
            return _refused(words, data)
        if words.json:
            print(json.dumps({"event": name, **data}), flush=True)
        elif name != "decision":
            print(tables.event(name, data), flush=True)
    return FINE


def _top(words: Words) -> int:
    from vppd.cli.live import top  # noqa: PLC0415  rich is slow to import

    return top(words.socket, once=words.once)


# ---- asking ---------------------------------------------------------------------------------


def _do(words: Words, call: Call, show: tables.Show) -> int:
    """One request, shown; the exit code."""
    reply = ask(words.socket, *call)
    if not reply.fine:
        return _refused(words, reply.body)
    if words.json:
        print(json.dumps(reply.body, indent=2))
    else:
        print("\n".join(_lines(reply, show)))
    return FINE


def _lines(reply: Reply, show: tables.Show) -> list[str]:
    lines = show(localised(reply.body, reply.zone))
    if reply.body.get("journaled") is False:
        lines.append("done, but NOT journaled: look at the journal's alarm")
    return lines


def _refused(words: Words, body: Json) -> int:
    if words.json:
        print(json.dumps(body, indent=2))
    else:
        print("\n".join(f"vppctl: {line}" for line in tables.problem(body)), file=sys.stderr)
    return REFUSED


def _absent(words: Words, error: DaemonAbsent) -> int:
    """Nobody there: say so, then what was last known."""
    from vppd.cli.last_rows import last_rows, shown  # noqa: PLC0415  sqlite is slow to import

    print(f"vppctl: {error}", file=sys.stderr)
    if error.barred:
        return REFUSED
    try:
        rows = last_rows(Path(words.state))
    except OSError as missing:
        print(f"vppctl: and its journal cannot be read: {missing}", file=sys.stderr)
        return ABSENT
    print(json.dumps(rows, indent=2) if words.json else "\n".join(shown(rows)))
    return ABSENT


if __name__ == "__main__":
    main()
