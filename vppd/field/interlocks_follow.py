"""The rules for a device that shows the setpoint it was told and gives something else: its sign or
scale is another since an update, it is in local hands, its inverter does not start.

A unit that gives less than it was told is told about; so is one that gives more, which counts at
the connection. One that goes the other way is shut down: every limit of one direction, an empty
battery's above all, relies on it that the device goes the way it is told. A device that comes
nearer, however slowly, follows.
"""

from vppd.core.alarms import Action, Code, Level
from vppd.core.model import Point
from vppd.field.interlocks_ramp import TOLD_SIZE, told_of_late
from vppd.field.rule import Look, Notes, Ruling, Verdict, shutdown

FOLLOWS_S = 10.0  # after what it was told of late; polls and a device's own sluggishness
WRONG_S = 30.0  # a value that stands still is found frozen before that, and shuts nothing down
APART_SHARE, APART_LEAST_KW = 0.1, 1.0  # of the rating; a small inverter takes some for itself
NEARER_SHARE = 0.01  # of the rating: so much nearer in FOLLOWS_S is following


def not_following(look: Look, notes: Notes) -> Ruling:
    """Power outside all that it was told of late, for long: critical where it is more.

    Notes: the least and the most it was told, as of `power_ramp`; while it is outside, since when
    it comes no nearer, how near it came, and on which side it is (1: below).
    """
    inverter = Point.INVERTER_KW in look.asset.declared
    power_kw = look.value(Point.INVERTER_KW if inverter else Point.POWER_KW)
    shown_kw = look.value(Point.SETPOINT_KW)
    if power_kw is None or shown_kw is None or not look.commanded:
        return None, ()
    told, watch = told_of_late(look, notes[:TOLD_SIZE]), notes[TOLD_SIZE:]
    low_kw, high_kw = min(told[0], told[3], shown_kw), max(told[1], told[4], shown_kw)
    if max(low_kw - power_kw, power_kw - high_kw) <= _tolerance_kw(look):
        return None, told
    side = 1.0 if power_kw < low_kw else -1.0
    now_s, nearer_kw = look.now.now_s, NEARER_SHARE * look.asset.rated_kw
    if not watch or watch[2] != side or side * (power_kw - watch[1]) >= nearer_kw:
        watch = now_s, power_kw, side
    if now_s - watch[0] < FOLLOWS_S:
        return None, (*told, *watch)
    nearest_kw = low_kw if side > 0.0 else high_kw
    return _verdict(look, power_kw, nearest_kw, now_s - watch[0]), (*told, *watch)


def _verdict(look: Look, power_kw: float, told_kw: float, for_s: float) -> Verdict:
    """`told_kw` is what is nearest to its power of all that it was told."""
    text = f"gives {power_kw:.1f} kW though its device holds {told_kw:.1f} kW"
    against = power_kw * told_kw < 0.0 and min(abs(power_kw), abs(told_kw)) > _tolerance_kw(look)
    if against and for_s >= WRONG_S:
        return shutdown(look, Code.WRONG_WAY, text, power_kw, told_kw)
    level = Level.CRITICAL if abs(power_kw) > abs(told_kw) else Level.WARNING
    return Verdict(Code.NOT_FOLLOWING, level, Action.LOG, text, power_kw, told_kw)


def _tolerance_kw(look: Look) -> float:
    return max(APART_SHARE * look.asset.rated_kw, APART_LEAST_KW)
