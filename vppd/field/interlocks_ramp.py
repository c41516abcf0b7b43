"""The rule for power that moves faster than its ramp: what a unit does by itself, apart from all
that it was told meanwhile."""

from vppd.core.alarms import Action, Code, Level
from vppd.core.model import Point
from vppd.field.rule import Look, Notes, Ruling, Verdict, sampled

RAMP_SPAN_S, RAMP_EVERY_S = 2.0, 0.5
SLACK_SHARE = 0.05  # of the rating
TOLD_S = 3.0  # a device and its polls follow within so long
TOLD_SIZE = 5


def power_ramp(look: Look, notes: Notes) -> Ruling:
    """Measured power that moves faster than the ramp limit without being told to: a warning. Where
    droop, a limit or a stop of ours moved it, it only followed.

    Notes: the least and the most it was told of late and since when, those before, then samples
    (at_s, kW, ...).
    """
    reading = look.reading(Point.POWER_KW)
    if reading is None or not look.commanded:
        return None, ()
    if len(notes) % 2 == 0:  # none, or as another version of this rule left them
        notes = ()
    told = told_of_late(look, notes[:TOLD_SIZE])
    samples = sampled(notes[TOLD_SIZE:], reading.at_s, reading.value, RAMP_EVERY_S, RAMP_SPAN_S)
    notes, span_s = (*told, *samples), reading.at_s - samples[0]
    if span_s < RAMP_SPAN_S:
        return None, notes
    low_kw, high_kw, _, before_low_kw, before_high_kw = told
    asset, maximum = look.asset, look.asset.safety.ramp_max_kw_per_s
    moved_kw = max(
        min(reading.value - samples[1], reading.value - max(high_kw, before_high_kw)),
        min(samples[1] - reading.value, min(low_kw, before_low_kw) - reading.value),
    )
    if moved_kw <= maximum * span_s + SLACK_SHARE * asset.rated_kw:
        return None, notes
    text = f"power moved {moved_kw:.1f} kW in {span_s:.1f} s without being told to"
    verdict = Verdict(Code.POWER_RAMP, Level.WARNING, Action.LOG, text, moved_kw / span_s, maximum)
    return verdict, notes


def told_of_late(look: Look, notes: Notes) -> Notes:
    """The first notes of `power_ramp`, which reach `TOLD_S` to twice that back."""
    now_s, told_kw = look.now.now_s, look.told_kw
    if not notes:
        return told_kw, told_kw, now_s, told_kw, told_kw
    low_kw, high_kw, since_s, *before = notes
    if now_s - since_s >= TOLD_S:
        return told_kw, told_kw, now_s, low_kw, high_kw
    return min(low_kw, told_kw), max(high_kw, told_kw), since_s, *before
