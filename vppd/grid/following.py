"""How well the secondary-control signal was followed, in blocks as the SRAS rules count. Pure.

Each sample holds until the next one. In a block the ordered and the delivered energy are integrals
of those steps; what counts as delivered is what went the ordered way, at most what was ordered.
Delivered power is what the site gave beside its schedule; + is up, towards the grid.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

KWH_PER_MWH = 1000
STATED_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Slab:
    """Above this performance, so much is paid for each kWh of both directions."""

    above_pct: float
    incentive_rs_per_kwh: float


@dataclass(frozen=True, slots=True)
class FollowingRules:
    """One edition of the rules, with its source. `verified` False: not read in the original."""

    effective_from: date
    source: str
    verified: bool
    signal_s: float
    block_s: float
    slabs: tuple[Slab, ...]  # best first
    disqualified_below_pct: float
    disqualified_days: int


RULES: tuple[FollowingRules, ...] = (
    FollowingRules(
        effective_from=date(2022, 12, 5),
        source="CERC (Ancillary Services) Regulations 2022, secondary reserve; slabs from accounts "
        "of others, 5-minute energy from settlement columns",
        verified=False,
        signal_s=4.0,
        block_s=300.0,
        slabs=(Slab(95.0, 0.50), Slab(75.0, 0.40), Slab(60.0, 0.30)),
        disqualified_below_pct=20.0,
        disqualified_days=2,
    ),
)


@dataclass(frozen=True, slots=True)
class Sample:
    """What was ordered and what was given from `utc` on. None: not known."""

    utc: datetime
    ordered_kw: float
    delivered_kw: float | None


@dataclass(frozen=True, slots=True)
class Block:
    """One block: energies of what was ordered and given up and down, all as positive numbers but
    `delivered_mwh`, which is the net of all that was given."""

    start: datetime
    up_mwh: float
    down_mwh: float
    followed_up_mwh: float
    followed_down_mwh: float
    delivered_mwh: float
    known_s: float
    length_s: float

    @property
    def ordered_mwh(self) -> float:
        """Both directions added."""
        return self.up_mwh + self.down_mwh

    @property
    def performance_pct(self) -> float | None:
        """0 to 100; None where nothing was ordered."""
        return performance_pct([self])

    @property
    def known_pct(self) -> float:
        """For how much of the block both numbers were known."""
        return 100 * self.known_s / self.length_s


def rules_of(day: date, rules: Sequence[FollowingRules] = RULES) -> FollowingRules | None:
    """The edition in force on a day; None before the first."""
    alive = [each for each in rules if each.effective_from <= day]
    return max(alive, key=lambda each: each.effective_from, default=None)


def blocks(samples: Iterable[Sample], until: datetime, rules: FollowingRules) -> list[Block]:
    """The blocks from the first sample to `until`, samples in order of time. A sample holds until
    the next; an unknown delivery counts as nothing given. Raises ValueError for a wrong order."""
    ordered = list(samples)
    sums: dict[datetime, list[float]] = {}
    ends = [each.utc for each in ordered[1:]] + [until]
    for sample, end in zip(ordered, ends, strict=True):
        if end < sample.utc:
            raise ValueError(f"{end} comes after {sample.utc}, yet is earlier")
        for start, seconds in _pieces(sample.utc, end, rules.block_s):
            _add(sums.setdefault(start, [0.0] * 6), sample, seconds)
    return [_block(start, sums[start], rules) for start in sorted(sums)]


def performance_pct(of: Iterable[Block]) -> float | None:
    """What was followed of what was ordered, both directions, by energy; None: nothing ordered."""
    known = list(of)
    ordered_mwh = sum(each.ordered_mwh for each in known)
    followed_mwh = sum(each.followed_up_mwh + each.followed_down_mwh for each in known)
    return 100 * min(followed_mwh / ordered_mwh, 1.0) if ordered_mwh > 0.0 else None


def incentive_rs(of: Sequence[Block], rules: FollowingRules) -> float:
    """What the slabs pay for the energy followed in both directions."""
    reached_pct = performance_pct(of)
    if reached_pct is None:
        return 0.0
    stated_pct = round(reached_pct, STATED_DIGITS)  # a slab's edge is no matter of float dust
    rate = next((each for each in rules.slabs if stated_pct > each.above_pct), None)
    energy_mwh = sum(each.followed_up_mwh + each.followed_down_mwh for each in of)
    return energy_mwh * KWH_PER_MWH * rate.incentive_rs_per_kwh if rate is not None else 0.0


def disqualified(days_pct: Mapping[date, float | None], rules: FollowingRules) -> date | None:
    """The day on which performance had been below the floor for so many days running. A day on
    which nothing was ordered neither counts nor breaks the run."""
    run = 0
    for day in sorted(days_pct):
        reached_pct = days_pct[day]
        if reached_pct is None:
            continue
        run = run + 1 if reached_pct < rules.disqualified_below_pct else 0
        if run >= rules.disqualified_days:
            return day
    return None


def _pieces(start: datetime, end: datetime, block_s: float) -> Iterable[tuple[datetime, float]]:
    """The span cut at the edges of blocks, which are counted from midnight UTC: those of IST too,
    for it is a whole number of 5-minute blocks ahead."""
    at = start.astimezone(UTC)
    end = end.astimezone(UTC)
    while at < end:
        midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
        number = (at - midnight).total_seconds() // block_s
        block = midnight + timedelta(seconds=number * block_s)
        edge = min(end, block + timedelta(seconds=block_s))
        yield block, (edge - at).total_seconds()
        at = edge


def _add(values: list[float], sample: Sample, length_s: float) -> None:
    mwh_per_kw = length_s / 3600 / KWH_PER_MWH
    ordered_kw = sample.ordered_kw
    given_kw = sample.delivered_kw if sample.delivered_kw is not None else 0.0
    way = 0 if ordered_kw >= 0.0 else 1
    values[way] += abs(ordered_kw) * mwh_per_kw
    along_kw = given_kw if ordered_kw >= 0.0 else -given_kw
    values[2 + way] += min(max(along_kw, 0.0), abs(ordered_kw)) * mwh_per_kw
    values[4] += given_kw * mwh_per_kw
    values[5] += length_s if sample.delivered_kw is not None else 0.0


def _block(start: datetime, values: list[float], rules: FollowingRules) -> Block:
    up, down, followed_up, followed_down, delivered, known_s = values
    return Block(start, up, down, followed_up, followed_down, delivered, known_s, rules.block_s)
