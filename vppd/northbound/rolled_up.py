"""What is left of a time whose rows of a second are gone: one sentence for `why`."""

from datetime import datetime, timedelta

from vppd.core.model import UnitId
from vppd.northbound.problems import iso
from vppd.northbound.site import Site
from vppd.spine.schema import from_micros, micros

_SPANS = (("minute", timedelta(minutes=1)), ("quarter", timedelta(minutes=15)))
_POINTS = {"setpoint.asked_kw": "asked", "setpoint.got_kw": "got", "power_kw": "measured"}


async def rolled_up(site: Site, unit: UnitId, at: datetime) -> str | None:
    """What the finest roll-up around that time says; None: there is none. Raises OSError."""
    marks = ", ".join("?" * len(_POINTS))
    for view, span in _SPANS:
        sql = (
            f"SELECT point, at, low, mean, high FROM {view} WHERE at > ? AND at <= ? "  # noqa: S608
            f"AND unit = ? AND point IN ({marks}) ORDER BY at"
        )
        bounds = (micros(at - span), micros(at), unit, *_POINTS)
        if rows := await site.journal.select(sql, bounds):
            found = {str(point): figures for point, *figures in rows}
            words = [
                f"{word} {mean:.1f} kW ({low:.1f} to {high:.1f})"
                for point, word in _POINTS.items()
                if point in found
                for low, mean, high in [[float(str(each)) for each in found[point][1:]]]
            ]
            begin = from_micros(int(str(rows[0][1])))
            return f"only roll-ups are left; the {view} from {iso(begin)}: {', '.join(words)}"
    return None
