"""What the site could give, as text: now, for 15 minutes, for an hour, and why not more."""

from collections.abc import Iterator

from vppd.cli.wire import Json
from vppd.cli.words import number, span, table


def capability_lines(view: Json) -> list[str]:
    """Capability with its reasons, then reserve and N-1."""
    head = ("could give", "for", "kW", "because")
    return [*table(head, list(_rows(view)), "llrl"), "", *_reserve(view["reserve"])]


def _rows(view: Json) -> Iterator[tuple[str, ...]]:
    for word, way in (("out", "up"), ("in", "down")):
        for able in view[way]:
            because = "; ".join(_cut(cut) for cut in able["cuts"])
            horizon = span(able["horizon_s"]) if able["horizon_s"] else "now"
            yield word, horizon, number(able["power_kw"]), because or "rating"


def _cut(cut: Json) -> str:
    detail = f" ({cut['detail']})" if cut["detail"] else ""
    return f"{cut['why']} -{number(cut['cut_kw'], '.1f')}{detail}"


def _reserve(view: Json) -> list[str]:
    margin, up, down = (number(view[key], ".1f") for key in ("margin_pct", "up_kw", "down_kw"))
    least = f"at least {view['margin_min_pct']:g} %" + (", LOW" if view["low"] else "")
    lines = [f"spare: up {up} kW, down {down} kW, margin {margin} % ({least})"]
    if view["largest"]:
        short_kw = view["short_kw"]
        said = f"{number(short_kw)} kW would not be given" if short_kw else "all is still given"
        lines.append(f"without {view['largest']}: {said}, {number(view['without_kw'])} kW possible")
    lines.append(
        f"{view['imbalance_of']} of the units {number(view['imbalance_pct'], '.1f')} % apart "
        f"(at most {view['imbalance_max_pct']:g} %)"
    )
    return lines
