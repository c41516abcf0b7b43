"""How the site rides through voltages and frequencies outside its windows. Pure.

The rule table is configuration: each row names an edge, a time, and whether the site ceases or
stays. A bus without voltage is dead: its frequency is no frequency. What cannot be seen neither
makes the site cease nor lets it come back.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vppd.core.decision import Riding
from vppd.core.model import Snapshot, Synchro, UnitId
from vppd.core.settings_response import RideThroughRow, RideThroughSettings

INSIDE_S = math.inf
CEASES = {"distribution": "cease", "transmission": "stay"}
DATA_ERROR_SHIFT = 14  # C37.118: the two upper bits of STAT say whether the data are valid


@dataclass(frozen=True, slots=True)
class Voltage:
    """The least and the largest of the watched voltages, per unit of nominal."""

    low_pu: float
    high_pu: float


@dataclass(frozen=True, slots=True)
class RideMemory:
    """What riding through remembers between ticks."""

    outside_s: tuple[float, ...] = ()  # of each row, since when it is outside; inf: it is not
    dead: bool = False
    ceased: str = ""
    inside_s: float | None = None  # since when all is seen inside again


def voltage_of(now: Snapshot, pmus: Sequence[UnitId], rules: RideThroughSettings) -> Voltage | None:
    """The voltages of the most trusted PMU that shows any now, None when none does. A frequency
    that may not be believed does not spoil them."""
    if rules.nominal_v is None:
        return None
    for source in pmus:
        synchro = now.synchros.get(source)
        if synchro is not None and _valid(synchro, now.now_s):
            seen_pu = [
                each.magnitude / rules.nominal_v
                for each in synchro.phasors
                if each.unit == "V" and rules.phasor in {None, each.name}
            ]
            if seen_pu and math.isfinite(sum(seen_pu)):
                return Voltage(min(seen_pu), max(seen_pu))
    return None


def ride(
    voltage: Voltage | None,
    frequency_hz: float | None,
    rules: RideThroughSettings,
    now_s: float,
    memory: RideMemory,
) -> tuple[Riding, RideMemory]:
    """One tick. A dead bus makes a distribution site cease at once."""
    dead = _dead(voltage, rules, memory.dead)
    if dead:
        frequency_hz = None
    rows = _rows(rules)
    before_s = memory.outside_s
    if len(before_s) != len(rows):
        before_s = (INSIDE_S,) * len(rows)
    seen = [_outside(row, voltage, frequency_hz) for row in rows]
    outside_s = tuple(
        _since_s(here, at_s, now_s) for here, at_s in zip(seen, before_s, strict=True)
    )
    ceasing, staying = _broken(rows, outside_s, rules, now_s)
    if dead and rules.profile == "distribution":
        ceasing = ceasing or "the bus is dead"
    ceased, inside_s = memory.ceased, None
    if ceasing:
        ceased = ceased or ceasing
    elif ceased and not dead and all(here is False for here in _ceasing(rows, seen, rules)):
        inside_s = memory.inside_s if memory.inside_s is not None else now_s
        if now_s - inside_s >= rules.stable_s:
            ceased, inside_s = "", None
    blind = rules.nominal_v is not None and voltage is None
    return Riding(ceased, staying, dead, blind), RideMemory(outside_s, dead, ceased, inside_s)


def _valid(synchro: Synchro, now_s: float) -> bool:
    return (
        synchro.stat_bits >> DATA_ERROR_SHIFT == 0
        and 0.0 <= synchro.age_s(now_s) <= synchro.max_age_s
    )


def _dead(voltage: Voltage | None, rules: RideThroughSettings, before: bool) -> bool:
    """Below the one edge it is dead, above the other alive; between, and unseen, as before."""
    if rules.nominal_v is None:
        return False
    if voltage is None:
        return before
    return voltage.high_pu < (max(rules.live_pu, rules.dead_pu) if before else rules.dead_pu)


def _rows(rules: RideThroughSettings) -> tuple[RideThroughRow, ...]:
    """The rows that count: none without a profile, those of voltage only where it is watched."""
    if rules.profile == "none":
        return ()
    watched = rules.nominal_v is not None
    return tuple(row for row in rules.rows if watched or row.when.startswith("frequency"))


def _outside(
    row: RideThroughRow, voltage: Voltage | None, frequency_hz: float | None
) -> bool | None:
    """Whether a row's window is left; None: it cannot be seen."""
    if row.when.startswith("frequency"):
        if frequency_hz is None:
            return None
        below = row.when == "frequency_below"
        return frequency_hz < row.bound if below else frequency_hz > row.bound
    if voltage is None:
        return None
    below = row.when == "voltage_below"
    return voltage.low_pu < row.bound if below else voltage.high_pu > row.bound


def _since_s(outside: bool | None, before_s: float, now_s: float) -> float:
    if outside is None:
        return before_s
    return min(before_s, now_s) if outside else INSIDE_S


def _ceases(row: RideThroughRow, rules: RideThroughSettings) -> bool:
    return (row.then or CEASES[rules.profile]) == "cease"


def _ceasing(
    rows: Sequence[RideThroughRow], seen: Sequence[bool | None], rules: RideThroughSettings
) -> list[bool | None]:
    """What is seen of the rows that make the site cease."""
    return [here for row, here in zip(rows, seen, strict=True) if _ceases(row, rules)]


def _broken(
    rows: Sequence[RideThroughRow],
    outside_s: Sequence[float],
    rules: RideThroughSettings,
    now_s: float,
) -> tuple[str, str]:
    """The words of the first row that makes the site cease now, and of the first it stays for."""
    ceasing = staying = ""
    for row, at_s in zip(rows, outside_s, strict=True):
        if at_s == INSIDE_S:
            continue
        if not _ceases(row, rules):
            staying = staying or words_of(row)
        elif now_s - at_s >= max(row.within_s - rules.early_s, 0.0):
            ceasing = ceasing or words_of(row)
    return ceasing, staying


def words_of(row: RideThroughRow) -> str:
    """A row for a person, with how sure its rule is."""
    measure = "Hz" if row.when.startswith("frequency") else "pu"
    sure = "" if row.verified else ", rule not verified"
    return f"{row.when.replace('_', ' ')} {row.bound:g} {measure} for {row.within_s:g} s{sure}"
