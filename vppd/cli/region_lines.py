"""The sites of an aggregator as vppctl shows them."""

from vppd.cli.wire import Json
from vppd.cli.words import number, span, table

HEADS = ("site", "heard", "soc %", "power kW", "can out", "can in", "ordered", "left", "")


def region(view: Json) -> list[str]:
    """The link, and every site in one line."""
    up = "up" if view["up"] else "DOWN"
    lines = [
        f"{view['group']}: link {up} to {view['broker']}, members {_all(view['members'])},"
        f" {view['ours']} of {view['sites']} sites ours",
        f"samples {view['samples']} ({view['late']} of the past), lag {span(view['lag_p99_s'])};"
        f" orders {view['orders']}, answers {view['answers']},"
        f" refused {view['refused_orders']}",
    ]
    if view.get("abstains"):
        lines.append("ABSTAINS: our clock is not synchronised, so the sites are left to others")
    if view.get("limits_alone"):
        lines.append("the limits of grid.yaml hold for our sites alone, not for those of others")
    if view["refused_messages"]:
        counts = (f"{name} {count}" for name, count in view["refused_messages"].items())
        lines.append(f"messages not believed: {', '.join(counts)}")
    if view["strangers"]:
        lines.append(f"registered, but not in field.yaml: {_all(view['strangers'])}")
    return [
        *lines,
        "",
        *table(HEADS, [_row(each, up=view["up"]) for each in view["lines"]], "lrrrrrrrl"),
    ]


def _row(each: Json, *, up: bool) -> tuple[str, ...]:
    return (
        str(each["id"]),
        span(each["age_s"]),
        number(each["soc_pct"], ".1f"),
        number(each["power_kw"]),
        number(each["discharge_max_kw"], ".1f"),
        number(each["charge_max_kw"], ".1f"),
        "-" if each["ordered_kw"] is None else number(each["ordered_kw"]),
        "-" if each["order_left_s"] is None else span(each["order_left_s"]),
        _words(each, up=up),
    )


def _words(each: Json, *, up: bool) -> str:
    """What is to be said of a site besides its numbers."""
    words = [] if each["ours"] else ["of another aggregator" if up else "not commanded"]
    words += ["OFFLINE"] if each["online"] is False else []
    words += [str(each["order"])] if each["order"] not in {None, "accepted"} else []
    words += [f"{each['unanswered']} orders unanswered"] if each.get("unanswered") else []
    words += [str(each["deaf"])] if each.get("deaf") else []
    words += [f"gives {each['amiss_kw']:+.1f} kW beside it"] if each.get("amiss_kw") else []
    words += [f"refused {each['refused']}"] if each["refused"] else []
    words += [str(each["doubt"])] if each.get("doubt") else []
    return "; ".join(words)


def _all(names: list[str]) -> str:
    return ", ".join(names) or "none"
