"""What a rule sees, what it may say, and the sums that rules share."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from vppd.core.alarms import Action, Code, Level
from vppd.core.asset import Asset
from vppd.core.model import Limit, Point, Quality, Reading, Snapshot, UnitId

Notes = tuple[float, ...]

BLIND = {
    Quality.MISSING: Code.READING_MISSING,
    Quality.STALE: Code.READING_STALE,
    Quality.FROZEN: Code.READING_FROZEN,
    Quality.IMPLAUSIBLE: Code.READING_IMPLAUSIBLE,
}
SOC = (Point.SOC_PCT, Point.BMS_SOC_PCT)
PACK = (Point.VOLTAGE_V, Point.PACK_V)
CURRENT = (Point.CURRENT_A, Point.PACK_A)
HOT = (Point.TEMPERATURE_C, Point.CELL_MAX_C)
COLD = (Point.TEMPERATURE_C, Point.CELL_MIN_C)


@dataclass(frozen=True, slots=True)
class Look:
    """One unit at one instant. `told_kw` is what the gate told it last; `commanded` False: it is
    left to itself, by a release or to a rival."""

    now: Snapshot
    asset: Asset
    told_kw: float = 0.0
    commanded: bool = True

    def value(self, point: Point) -> float | None:
        """The value if it may be believed now."""
        return self.now.fresh(self.asset.id, point)

    def reading(self, point: Point) -> Reading | None:
        """The reading, with its time, if it may be believed now."""
        if self.now.fresh(self.asset.id, point) is None:
            return None
        return self.now.readings[self.asset.id, point]

    def values(self, points: tuple[Point, ...]) -> list[float] | tuple[Code, Point]:
        """All declared ones of these points, or which one is blind and why."""
        found: list[float] = []
        now, unit, declared = self.now, self.asset.id, self.asset.declared
        for point in points:
            if point in declared:
                value = now.fresh(unit, point)
                if value is None:
                    return BLIND[now.quality(unit, point)], point
                found.append(value)
        return found


class Blind(NamedTuple):
    """A value that a rule needs and may not believe, why, and whose it is."""

    device: UnitId
    why: Code
    point: Point

    def __str__(self) -> str:
        return f"{self.point} {self.why.removeprefix('reading_')}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one rule has to say. `limit` None: it does not narrow anything (alarm only)."""

    rule: Code
    level: Level
    action: Action
    text: str
    value: float | None = None
    bound: float | None = None
    limit: Limit | None = None
    trips: bool = False
    blind: Blind | None = None  # it judged no value: this one may not be believed


Ruling = tuple[Verdict | None, Notes]
Judge = Callable[[Look, Notes], Ruling]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule applies to a unit when a source declares one of its points (`every`: all of them)."""

    code: Code
    points: tuple[Point, ...]
    judge: Judge
    every: bool = False

    def applies(self, asset: Asset) -> bool:
        """Whether this unit has what the rule looks at."""
        count = sum(point in asset.declared for point in self.points)
        return count == len(self.points) if self.every else count > 0


def applying(rules: Iterable[Rule], asset: Asset) -> tuple[Rule, ...]:
    """Those that apply to a unit."""
    return tuple(rule for rule in rules if rule.applies(asset))


def reach(asset: Asset, out_share: float, in_share: float, why: Code, text: str) -> Limit:
    """A limit as shares of the rating, each direction by itself."""
    return Limit(-asset.rated_kw * in_share, asset.rated_kw * out_share, why, text)


def blind(
    look: Look, rule: Code, found: tuple[Code, Point], out_share: float, in_share: float
) -> Verdict:
    """A value the rule needs may not be believed: only these shares of the rating are left."""
    why, point = found
    unseen = Blind(look.asset.device_of(point), why, point)
    limit = reach(look.asset, out_share, in_share, why, str(unseen))
    return Verdict(rule, Level.CRITICAL, Action.STOP, str(unseen), limit=limit, blind=unseen)


def floor(value: float, minimum: float, hysteresis: float, notes: Notes) -> bool:
    """At or below the minimum, or not yet back above it by the hysteresis."""
    return value <= minimum or (bool(notes) and value < minimum + hysteresis)


def sampled(samples: Notes, at_s: float, value: float, every_s: float, span_s: float) -> Notes:
    """Samples (at, value, ...) `every_s` apart; the first is the newest that is `span_s` old."""
    if samples and at_s < samples[-2]:
        return (at_s, value)
    if not samples or at_s >= samples[-2] + every_s:
        samples = (*samples, at_s, value)
    while len(samples) >= 4 and at_s - samples[2] >= span_s:  # noqa: PLR2004  two pairs
        samples = samples[2:]
    return samples


def shutdown(look: Look, rule: Code, text: str, value: float, bound: float | None) -> Verdict:
    """Nothing is left, latched until an operator resets."""
    limit = reach(look.asset, 0.0, 0.0, rule, text)
    return Verdict(rule, Level.EMERGENCY, Action.SHUTDOWN, text, value, bound, limit, trips=True)


def faults(look: Look, rule: Code, point: Point, mask: int) -> Verdict | None:
    """Any set bit that the mask counts shuts down; unreadable bits leave nothing."""
    found = look.values((point,))
    if isinstance(found, tuple):
        return blind(look, rule, found, 0.0, 0.0)
    bits = int(found[0]) & mask
    if not bits:
        return None
    return shutdown(look, rule, f"{point} 0x{bits:04x}", float(bits), None)
