"""The curves that an inverter follows by itself: volt-var, volt-watt, frequency droop, watt-var.

They are settings of the device, kept by it and in force whether vppd runs or not; vppd reads them
on request and writes them at an operator's command only, never by itself.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from vppd.core.model import UnitId
from vppd.field.drivers.sunspec import SunSpecDevice
from vppd.field.sunspec.curves import Curve, CurveError, CurveKind
from vppd.northbound.ask import Answer, Ask
from vppd.northbound.problems import Problem
from vppd.northbound.views import View

ANSWER_S = 20.0  # longest for a device that takes its time to adopt a curve

Inverters = Mapping[UnitId, SunSpecDevice]


async def show(ask: Ask) -> Answer:
    """Every curve that the unit's inverter has. Raises Problem 404 where it has no inverter."""
    inverter = _inverter(ask)
    found: list[View] = []
    try:
        async with asyncio.timeout(ANSWER_S):
            for kind in CurveKind:
                with suppress(CurveError):
                    found.append(_view(await inverter.curve(kind)))
    except TimeoutError:
        raise Problem(504, "device-silent", f"no answer within {ANSWER_S:g} s") from None
    return Answer({"unit": ask.unit, "curves": found})


async def change(ask: Ask) -> Answer:
    """Write one curve and have the device adopt it. Raises Problem 404, 409 or 422."""
    inverter, body = _inverter(ask), ask.body
    kind = CurveKind(body.choice("kind", [each.value for each in CurveKind]))
    enabled = body.flag("enabled", default=True)
    points = body.pairs("points")
    units = body.texts("units") if body.has("units") else ()
    body.done()
    if len(units) not in (0, 2):
        raise Problem(422, "unusable-value", "units are those of x and of y", field="units")
    named = (units[0], units[1]) if units else ("", "")
    try:
        async with asyncio.timeout(ANSWER_S):
            shown = await inverter.set_curve(kind, Curve(kind, points, named, enabled))
    except ValueError as error:
        raise Problem(422, "unusable-value", str(error), field="points") from None
    except CurveError as error:
        raise Problem(409, "device-refuses", str(error)) from None
    except TimeoutError:
        text = f"no answer within {ANSWER_S:g} s; what it follows now is not known: look again"
        raise Problem(504, "device-silent", text) from None
    return Answer({"unit": ask.unit, "curves": [_view(shown)]})


def _inverter(ask: Ask) -> SunSpecDevice:
    asset = ask.asset()
    inverter = ask.site.inverters.get(asset.id)
    if inverter is None:
        raise Problem(404, "not-available", f"{asset.id} has no SunSpec inverter, so no curves")
    return inverter


def _view(curve: Curve) -> View:
    return {
        "kind": curve.kind.value,
        "enabled": curve.enabled,
        "units": list(curve.units),
        "points": [[round(x, 6), round(y, 6)] for x, y in curve.points],
    }
