"""Orders in force as lines for people."""

from vppd.cli.wire import Json
from vppd.cli.words import number


def orders(view: Json) -> list[str]:
    """What is ordered, how long, by whom; what a delta may ask for; what was taken back."""
    lines = [f"withdrawn: {_line(each)}" for each in view.get("withdrawn", [])]
    lines += [_line(each) for each in view["orders"]]
    if not view["orders"]:
        lines.append("no order in force")
    if not view["enabled"]:
        lines.append(f"orders are switched off by {view['switched_by']}: vppctl order on")
    if (note := view.get("note")) and view["enabled"]:
        lines.append(f"orders are taken, {note}")
    up_kw, down_kw = number(view["regulation_up_kw"]), number(view["regulation_down_kw"])
    return [*lines, f"regulation offered: up {up_kw} kW, down {down_kw} kW"]


def _line(order: Json) -> str:
    left_s = order["ends_in_s"]
    until = f"for {left_s:.0f} s" if left_s is not None else "while its link lives"
    lost = ", its link is lost" if order["link_lost"] else ""
    return (
        f"{order['kind']} {number(order['power_kw'])} kW from {order['source']} {until},"
        f" now at {number(order['at_kw'])} kW{lost}"
    )
