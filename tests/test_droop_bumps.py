"""Power at the devices never moves faster than the configured ramps let it, whatever becomes of
droop while a base stands behind it: the frequency returns in one tick, droop is switched off and on
by an operator or by order, the PMU is lost or measures a dead bus, a pin ends, a unit goes and
comes back, a battery is full or empty meanwhile.

Towards zero limits act at once, as they must; away from it nothing does.
"""

from dataclasses import dataclass, replace

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.site_rig import PLAIN_DROOP, PMU, V2, SiteRig, profile, site_settings
from tests.virtual_time import run_virtual
from vppd.core.model import Point, UnitId

EXAMPLES = 10  # of one run of the suite; by hand a few hundred
LOOK_S = 0.05
LATE_S = 0.2  # of a tick that was late no more is counted
AFTER_S = 3.0
ROUNDING_KW = 0.3  # of one unit's setpoint
FREE = {"runaway_rate_max_c_per_min": 1e3, "soc_rate_max_pct_per_min": 1e6}

Act = tuple[str, float | bool | str]


@dataclass(frozen=True)
class Case:
    """A site of equal units, and what happens to it: an act, and how long it is left alone."""

    units: int
    droop_kw_per_s: float
    base_kw_per_s: float
    acts: tuple[tuple[Act, float], ...]

    @property
    def kw_per_s(self) -> float:
        """How fast the sum may move."""
        return self.droop_kw_per_s + self.base_kw_per_s * self.units

    @property
    def limited(self) -> bool:
        """Whether a limit may act, which takes power back at once."""
        return any(act[0] in {"soc", "unit"} for act, _ in self.acts)


def one(word: str, values: st.SearchStrategy[float | bool | str]) -> st.SearchStrategy[Act]:
    return st.tuples(st.just(word), values)


acts = st.one_of(
    one("hz", st.sampled_from([49.0, 49.4, 49.7, 50.0, 50.0, 50.0, 50.3, 50.6, 51.0])),
    one("base", st.sampled_from([-100.0, -60.0, -30.0, 0.0, 30.0, 60.0, 100.0])),
    one("operator", st.booleans()),
    one("order", st.booleans()),
    one("pmu", st.sampled_from(["pmu_loss", "pmu_data_error", "pmu_dead_bus", "mended"])),
    one("pin", st.sampled_from([-100.0, -40.0, 0.0, 40.0, 100.0])),
    one("soc", st.sampled_from([9.0, 50.0, 96.0])),
    one("unit", st.booleans()),
)
cases = st.builds(
    Case,
    st.integers(1, 2),
    st.sampled_from([20.0, 40.0, 100.0]),
    st.sampled_from([5.0, 20.0]),
    st.lists(st.tuples(acts, st.sampled_from([0.1, 0.3, 1.0, 3.0])), min_size=2, max_size=8).map(
        tuple
    ),
)


async def played(case: Case) -> list[float]:
    """The sum of what the devices were told, at every look."""
    droop = replace(
        PLAIN_DROOP,
        ramp_kw_per_s=case.droop_kw_per_s,
        droop_pct=1.0,
        hold_s=1.0,
        fade_s=2.0,
    )
    points = dict(profile(V2).points)
    del points[Point.FREQUENCY_HZ]  # the PMU is the only one that measures it
    made = site_settings(
        "AB"[: case.units],
        droop=droop,
        safety={"ramp_max_kw_per_s": case.base_kw_per_s, **FREE},
    )
    made = replace(made, profiles={V2: replace(profile(V2), points=points)})
    seen: list[float] = []
    async with SiteRig(made) as rig:
        await rig.run(1.0)
        for (word, value), for_s in (*case.acts, (("", ""), AFTER_S)):
            happens(rig, word, value)
            for _ in range(round(for_s / LOOK_S)):
                await rig.run(LOOK_S)
                seen.append(rig.sum_kw())
    return seen


def happens(rig: SiteRig, word: str, value: float | bool | str) -> None:
    house, unit = rig.house, UnitId("A")
    if word == "hz":
        rig.step(float(value))
    elif word == "base":
        rig.plan(float(value) * len(rig.names), for_s=1e6)
    elif word == "pin":
        rig.plan(float(value), unit=unit, for_s=2.0, droop=True)
    elif word == "operator":
        house.tick.duty = house.tick.duty.switched(bool(value), "operator")
    elif word == "order":
        house.tick.duty = house.tick.duty.switched(bool(value), "order")
    elif word == "soc":
        rig.plant.unit(unit).battery.soc_pct = float(value)
    elif word == "unit":
        (house.gate.enable if value else house.gate.disable)(unit, "tester")
    elif word == "pmu":
        for kind in ("pmu_loss", "pmu_data_error", "pmu_dead_bus"):
            rig.plant.clear(kind, PMU.id)
        if value != "mended":
            how = {"code": 1} if value == "pmu_data_error" else {}
            rig.plant.inject(str(value), PMU.id, **how)


def bumps(case: Case, seen: list[float]) -> list[str]:
    """Every stretch in which the sum moved further than it may."""
    found: list[str] = []
    for looks in (3, 10):
        most_kw = case.kw_per_s * (looks * LOOK_S + LATE_S) + ROUNDING_KW * case.units
        for at in range(looks, len(seen)):
            before_kw, now_kw = seen[at - looks], seen[at]
            away_kw = abs(now_kw) - (abs(before_kw) if before_kw * now_kw > 0.0 else 0.0)
            moved_kw = away_kw if case.limited else abs(now_kw - before_kw)
            if moved_kw > most_kw:
                text = f"{at * LOOK_S:.2f} s: {before_kw:+.1f} to {now_kw:+.1f} kW in"
                found.append(f"{text} {looks * LOOK_S:.2f} s, at most {most_kw:.1f} kW")
    return found


def case_of(*happened: tuple[Act, float], units: int = 1, droop_kw_per_s: float = 20.0) -> Case:
    return Case(units, droop_kw_per_s, 5.0, happened)


ENDS = [
    (("hz", 50.0),),
    (("operator", False),),
    (("order", False),),
    (("pmu", "pmu_loss"),),
    (("pmu", "pmu_dead_bus"),),
    (("operator", False), ("hz", 50.0), ("operator", True)),
]


@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("ends", ENDS, ids=lambda each: "-".join(str(act[1]) for act in each))
def test_a_base_behind_an_opposing_droop_comes_out_by_the_ramps(
    ends: tuple[Act, ...], side: int
) -> None:
    case = case_of(
        (("base", 60.0 * side), 3.0),
        (("hz", 50.0 + 1.0 * side), 15.0),
        *((each, 0.1) for each in ends),
        (("", ""), 8.0),
    )
    seen = run_virtual(played(case))
    assert not bumps(case, seen)
    assert min(side * kw for kw in seen) < -20.0, "it was hidden"
    assert side * seen[-1] > 50.0, "it came out"


@given(cases)
@example(case_of((("hz", 49.0), 0.1), (("pin", -100.0), 0.1)))  # a pin ramps out and joins
@example(case_of((("unit", False), 1.0), (("hz", 49.0), 3.0), (("unit", True), 1.0)))
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_power_moves_by_the_ramps_whatever_becomes_of_droop(case: Case) -> None:
    found = bumps(case, run_virtual(played(case)))
    assert not found, (len(found), found[:3])
