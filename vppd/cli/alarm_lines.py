"""Standing alarms as lines for people: a value is never shown as if it were of now when it is of
the instant at which the alarm was raised."""

from vppd.cli.wire import Json
from vppd.cli.words import span, time_of


def alarm_lines(alarms: list[Json]) -> list[str]:
    """Each with what to do about it."""
    lines: list[str] = []
    for each in alarms:
        lines.append(f"{str(each['level']).upper()} {each['code']} {each['unit']} {said(each)}")
        if each.get("remedy"):
            lines.append(f"    {each['remedy']}")
    return lines or ["no alarms"]


def said(alarm: Json) -> str:
    """What it says now, where that is known, and what it said when it was raised."""
    raised = f"at {time_of(alarm['since'], alarm['age_s'])} ({span(alarm['age_s'])} ago)"
    now, text = alarm.get("now"), alarm["text"]
    if now is None:
        return f"{raised}: {text}"
    return f"now: {now}; since {raised[3:]}" if now == text else f"now: {now}; {raised}: {text}"


def orders_line(view: Json) -> list[str]:
    """Orders from the grid, while they are switched off."""
    orders = view.get("orders")
    if not orders or orders["enabled"]:
        return []
    since = f" since {orders['since']}" if orders.get("since") else ""
    return [f"orders: off{since}, by {orders['by'] or 'configuration'}; vppctl order on"]
