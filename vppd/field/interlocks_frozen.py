"""The rule for a device whose every value stands still while another device shows power moving.

The profiles of Modbus devices judge their own points; a BMS whose frames repeat and an inverter
whose measurements hang answer in time and look well, so they are judged here, across devices. Where
an inverter is the only one that measures power, its setpoint's read-back is what moves; then 0 is
not judged, for that is also what an inverter shows that does not follow.
"""

import math
from collections.abc import Iterator

from vppd.core.alarms import Code
from vppd.core.asset import Asset
from vppd.core.model import Point
from vppd.field.rule import Look, Notes, Ruling, blind

LAG_S = 2.0
# Unchanged so long after power moved: longer than polls, frames and the device's own sluggishness.
STILL_S = 5.0
MOVED_SHARE = 0.1  # of the rating: many steps of any ammeter's resolution
IDLE_SHARE = 0.01
REST_S = 300.0  # after so long without movement it is tried again: a resting battery stands still
BMS_SHOWS = (Point.PACK_A, Point.PACK_V, Point.CELL_MIN_V)
INVERTER_SHOWS = (Point.INVERTER_KW, Point.INVERTER_HZ, Point.INVERTER_DC_V)
SOLE_SHOWS = (Point.POWER_KW, Point.FREQUENCY_HZ, Point.INVERTER_DC_V)
# Notes of one device: 3 values, since when, the band of power since, since when that band is too
# wide (NOT_MOVED: it is not), whether frozen.
SIZE = 8
NOT_MOVED = -1.0


def reading_frozen(look: Look, notes: Notes) -> Ruling:
    """Nothing while what a BMS or an inverter measures is frozen; it ends when it changes."""
    kept: Notes = ()
    found: Point | None = None
    for number, (points, moves_with) in enumerate(_watched(look.asset)):
        watch = _judged(look, points, moves_with, notes[number * SIZE : (number + 1) * SIZE])
        kept = (*kept, *watch)
        if watch[-1] > 0.0 and found is None:
            found = points[0]
    if found is None:
        return None, kept
    return blind(look, Code.READING_FROZEN, (Code.READING_FROZEN, found), 0.0, 0.0), kept


def _watched(asset: Asset) -> Iterator[tuple[tuple[Point, ...], Point]]:
    """What each device shows, its own power or current first, and the power it moves with."""
    if Point.PACK_A in asset.declared and Point.POWER_KW in asset.declared:
        yield BMS_SHOWS, Point.POWER_KW
    if Point.INVERTER_KW in asset.declared:
        yield INVERTER_SHOWS, Point.POWER_KW
    elif Point.INVERTER_STATE in asset.declared:
        yield SOLE_SHOWS, Point.SETPOINT_KW


def _judged(look: Look, points: tuple[Point, ...], moves_with: Point, notes: Notes) -> Notes:
    """The new notes of one device. What may not be believed is left to the rules that need it, and
    a device that was silent is judged anew."""
    now_s, power_kw = look.now.now_s, look.value(moves_with)
    seen = tuple(look.value(point) or 0.0 for point in points)
    if look.value(points[0]) is None:
        return (*seen, now_s, math.inf, -math.inf, NOT_MOVED, 0.0)
    if power_kw is None:
        return notes or (*seen, now_s, math.inf, -math.inf, NOT_MOVED, 0.0)
    if not notes or notes[:3] != seen:
        return (*seen, now_s, power_kw, power_kw, NOT_MOVED, 0.0)
    since_s, low_kw, high_kw, moved_s, frozen = notes[3:]
    if frozen:
        moved = not low_kw - 1.0 <= power_kw <= high_kw + 1.0
        if moved:
            return (*seen, now_s, min(low_kw, power_kw), max(high_kw, power_kw), moved_s, 1.0)
        if now_s - since_s >= REST_S:
            return (*seen, now_s, power_kw, power_kw, NOT_MOVED, 0.0)
        return notes
    if now_s - since_s < LAG_S:  # the two are polled apart: one step is seen twice
        return (*seen, since_s, power_kw, power_kw, NOT_MOVED, 0.0)
    low_kw, high_kw = min(low_kw, power_kw), max(high_kw, power_kw)
    idle = moves_with is Point.SETPOINT_KW and abs(seen[0]) < IDLE_SHARE * look.asset.rated_kw
    if idle or high_kw - low_kw < MOVED_SHARE * look.asset.rated_kw:
        return (*seen, since_s, low_kw, high_kw, NOT_MOVED, 0.0)
    moved_s = now_s if moved_s < 0.0 else moved_s
    if now_s - moved_s >= STILL_S:
        return (*seen, now_s, power_kw, power_kw, moved_s, 1.0)
    return (*seen, since_s, low_kw, high_kw, moved_s, 0.0)
