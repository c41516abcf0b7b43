"""How well what was seen fits a device model that vppd knows. Pure.

A score is the share of a profile's points that the device has and that read believably. A value
that is 0, and one whose range nobody declared, says little and weighs little: an empty device would
fit everything.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from vppd.core.bms import BmsProfile
from vppd.core.model import Point
from vppd.core.profile import DeviceProfile, PointSpec
from vppd.field.bms import Frame, FrameId
from vppd.field.decode import decoder, register_count
from vppd.field.drivers.can import Heard
from vppd.field.survey.can import SLOWER, TWICE, shifts_of
from vppd.field.survey.values import ANYWHERE, FREQUENCIES, Expected, believable, values_of
from vppd.field.survey.wire import Shown

LITTLE = 0.3  # the weight of a value that says little
MUCH = 4.0  # so much weight of telling values makes a match sure
SURE, LIKELY, PERHAPS = 0.95, 0.8, 0.5
LENGTH_PART, PERIOD_PART = 0.5, 0.2  # of a frame's score; its identifier is the rest


@dataclass(frozen=True, slots=True)
class Match:
    """How well one model fits: `share` 0 to 1, how many of its parts, and what speaks against."""

    name: str
    share: float
    fitting: int
    parts: int
    doubt: str = ""

    @property
    def words(self) -> str:
        """`vpp-bess-v2: sure (100%, 20 of 20 fit)`."""
        doubt = f"; {self.doubt}" if self.doubt else ""
        fits = f"{self.fitting} of {self.parts} fit"
        return f"{self.name}: {sureness(self.share)} ({self.share:.0%}, {fits}){doubt}"


def sureness(share: float) -> str:
    """A word for it."""
    for least, word in ((SURE, "sure"), (LIKELY, "likely"), (PERHAPS, "perhaps")):
        if share >= least:
            return word
    return "unlikely"


def profile_match(profile: DeviceProfile, shown: Shown, expected: Expected) -> Match:
    """How well a register map fits what the device showed."""
    weight = good = telling = 0.0
    fitting = 0
    for point, spec in profile.points.items():
        registers = shown.registers.get(point)
        if registers is None:
            weight += 1.0
            continue
        value = decoder(spec)(registers)
        tells = value != 0.0 and _ranged(point, spec)
        share = 1.0 if tells else LITTLE
        weight += share
        if value is not None and believable(point, spec, value, expected):
            good += share
            fitting += 1
            telling += register_count(spec) * tells  # a wide value hits a range by no chance
    total = good / weight if weight else 0.0
    doubt = ""
    if telling < MUCH:
        total *= max(telling / MUCH, 0.1)
        doubt = "few values that would tell"
    elif shown.refused:
        doubt = f"the device lacks {', '.join(shown.refused)}"
    return Match(profile.name, total, fitting, len(profile.points), doubt)


def nameplate_of(profile: DeviceProfile, shown: Shown) -> dict[Point, float]:
    """The values that a draft takes over."""
    values = values_of(profile, shown, Expected())
    return {
        point: values[point]
        for point in (Point.RATED_POWER_KW, Point.ENERGY_CAPACITY_KWH)
        if values.get(point, 0.0) > 0.0
    }


def best_first(matches: list[Match]) -> list[Match]:
    """Those with a chance; of equal ones the one that explains more."""
    ranked = sorted(matches, key=lambda each: (-round(each.share, 3), -each.fitting))
    return [each for each in ranked if each.share >= PERHAPS]


def bms_matches(
    profile: BmsProfile, frames: Mapping[FrameId, Frame], traffic: Mapping[FrameId, Heard]
) -> list[tuple[Match, int]]:
    """How well a BMS model fits a bus, at each id_offset at which it does."""
    shifts = shifts_of(set(frames), traffic) or [0]
    return [(_bms_match(profile, frames, traffic, shift), shift) for shift in shifts]


def _bms_match(
    profile: BmsProfile,
    frames: Mapping[FrameId, Frame],
    traffic: Mapping[FrameId, Heard],
    offset: int,
) -> Match:
    score, fitting = 0.0, 0
    wrong_length: list[str] = []
    for (number, extended), frame in frames.items():
        heard = traffic.get((number + offset, extended))
        if heard is None:
            continue
        fitting += 1
        score += 1.0 - LENGTH_PART - PERIOD_PART
        if heard.length in frame.lengths:
            score += LENGTH_PART
        else:
            wrong_length.append(frame.name)
        period_s = profile.frames[frame.name].period_s
        score += PERIOD_PART * (TWICE * period_s <= heard.period_s <= SLOWER * period_s)
    doubts = [f"{len(frames) - fitting} of its frames are not heard"] * (fitting < len(frames))
    doubts += [f"other lengths: {', '.join(wrong_length)}"] * bool(wrong_length)
    return Match(profile.name, score / len(frames), fitting, len(frames), "; ".join(doubts))


def _ranged(point: Point, spec: PointSpec) -> bool:
    declared = spec.low is not None and spec.high is not None
    return declared or point in ANYWHERE or point in FREQUENCIES
