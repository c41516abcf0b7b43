"""What several frequency sources say together. Pure.

Two sources disagree when they are further apart than a tolerance that grows with the difference of
their ages. The declared rule: with three or more, those whom a majority agrees with stay, the
others are outvoted. Where there is no majority the order of trust chooses, and of two that
disagree the one that asks for less power is the input: nearer to nominal on the same side, nominal
itself on opposite sides. So a suspicious value never drives more power than the other one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from vppd.core.model import UnitId
from vppd.core.settings_sources import SourceSettings

NOMINAL = UnitId("nominal")
EASE_SHARE = 0.5  # of the tolerance: what disagreed must come so near to agree again


@dataclass(frozen=True, slots=True)
class Voice:
    """What one source says, and when that was true."""

    source: UnitId
    frequency_hz: float
    at_s: float


def apart(one: Voice, other: Voice, sources: SourceSettings, *, before: bool = False) -> bool:
    """Whether two disagree; `before`: they did, and must come nearer to agree again."""
    tolerance_hz = sources.agree_hz * (EASE_SHARE if before else 1.0)
    tolerance_hz += sources.agree_hz_per_s * abs(one.at_s - other.at_s)
    return abs(one.frequency_hz - other.frequency_hz) > tolerance_hz


def majority(voices: Sequence[Voice], sources: SourceSettings) -> tuple[Voice, ...]:
    """Those whom more than half of all (themselves counted) agree with; all where there are fewer
    than three or no such majority."""
    if len(voices) < 3:  # noqa: PLR2004  two have no majority
        return tuple(voices)
    kept = tuple(
        each
        for each in voices
        if 2 * sum(not apart(each, other, sources) for other in voices) > len(voices)
    )
    return kept or tuple(voices)


def cautious(chosen: Voice, other: Voice, nominal_hz: float) -> Voice:
    """Of two that disagree, the one that asks for less power; nominal when they ask opposite
    ways."""
    off_hz, other_off_hz = chosen.frequency_hz - nominal_hz, other.frequency_hz - nominal_hz
    if off_hz * other_off_hz < 0.0:
        return Voice(NOMINAL, nominal_hz, min(chosen.at_s, other.at_s))
    return chosen if abs(off_hz) <= abs(other_off_hz) else other


def against(
    chosen: Voice, voices: Sequence[Voice], sources: SourceSettings, *, before: bool
) -> Voice | None:
    """The most trusted voice that disagrees with the chosen one."""
    for each in voices:
        if each.source != chosen.source and apart(chosen, each, sources, before=before):
            return each
    return None
