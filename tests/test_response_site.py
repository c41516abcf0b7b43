"""The response at the devices, as properties: random fleets, settings and frequencies against the
whole site on virtual time.

More examples are run by hand, with EXAMPLES = 300.
"""

from dataclasses import replace

from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from tests.response_site import LOOK_S, Case, One, Part, judged, just_promised, played
from tests.virtual_time import run_virtual
from vppd.core.settings import DroopSettings
from vppd.core.settings_response import FfrSettings, HeadroomSettings

EXAMPLES = 10
LASTING = 1
LEAST_KW = 5.0  # less is lost in the resolution of the setpoints


def tenths(low: float, high: float, of: float = 0.1) -> st.SearchStrategy[float]:
    """Even numbers, so that a failing case can be read."""
    return st.integers(round(low / of), round(high / of)).map(lambda each: round(each * of, 6))


ones = st.builds(One, tenths(20.0, 250.0, 5.0), tenths(2.0, 6.0), tenths(14.0, 90.0))
fleets = st.lists(ones, min_size=1, max_size=4).map(tuple)
droops = st.builds(
    DroopSettings,
    droop_pct=tenths(1.0, 6.0),
    deadband_low_hz=tenths(49.8, 49.98, 0.01),
    deadband_high_hz=tenths(50.02, 50.2, 0.01),
    reference=st.sampled_from(["nominal", "deadband_edge"]),
    reversal_hold_s=st.sampled_from([0.0, 1.0]),
    over_droop_pct=st.none() | tenths(1.0, 6.0),
    sustain_s=st.none() | st.sampled_from([10.0, 20.0]),
    handback_s=st.sampled_from([5.0, 20.0]),
    rocof_gain_pu_per_hz_per_s=st.sampled_from([0.0, 0.0, 0.1]),
    soc_adaptive=st.booleans(),
    load_adaptive=st.booleans(),
)
promises = st.builds(
    HeadroomSettings, up_pct=tenths(20.0, 100.0, 10.0), down_pct=tenths(20.0, 100.0, 10.0)
)
blocks = st.just(FfrSettings()) | st.builds(
    FfrSettings,
    enabled=st.just(True),
    trigger_low_hz=tenths(49.5, 49.75, 0.05),
    trigger_high_hz=st.none() | tenths(50.25, 50.5, 0.05),
    duration_s=st.just(5.0),
    recovery_s=st.just(5.0),
    rearm_s=st.just(3.0),
    with_droop=st.sampled_from(["larger", "sum"]),
)
hertz = tenths(49.5, 50.5, 0.01)
steps = st.builds(Part, hertz, tenths(2.0, 8.0))
rests = st.builds(Part, st.just(50.0), tenths(2.5, 5.0))
ramps = st.builds(
    Part, hertz, tenths(1.0, 8.0), st.just(True), st.just(0.0) | tenths(0.002, 0.02, 0.002)
)
noises = st.builds(Part, hertz, tenths(2.0, 6.0), st.booleans(), tenths(0.002, 0.05, 0.002))
single = st.one_of(steps, steps, ramps, noises).map(lambda each: (each,))
events = st.tuples(steps, rests)
programs = st.lists(events | single, min_size=2, max_size=5).map(lambda each: sum(each, ()))


@st.composite
def sized(draw: st.DrawFn) -> Case:
    """A case whose powers are shares of its fleet."""
    fleet = draw(fleets)
    rated_kw = sum(one.rated_kw for one in fleet)
    share = st.none() | tenths(0.2, 1.0).map(lambda each: each * rated_kw)
    droop = replace(
        draw(droops),
        max_power_kw=draw(share),
        over_max_power_kw=draw(share),
        step_deviation_hz=draw(st.none() | tenths(0.1, 0.6, 0.05)),
        step_power_kw=draw(share),
    )
    ffr = replace(draw(blocks), power_kw=draw(share))
    program, base = draw(programs), draw(tenths(-1.0, 1.0))
    made = Case(fleet, droop, draw(promises), ffr, base, program)
    return replace(
        made, connection=draw(st.sampled_from([1.0, 1.0, 0.7])), seed=draw(st.integers(0, 99))
    )


cases = sized()


@given(cases)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_is_promised_is_given_begun_in_half_a_second_and_whole_in_one(case: Case) -> None:
    made = judged(case, run_virtual(played(case)))
    assert not made.faults, (len(made.faults), made.faults[:3])


lasting = st.builds(
    Case,
    st.lists(
        st.builds(One, tenths(50.0, 250.0, 5.0), tenths(2.0, 6.0), tenths(6.0, 94.0)),
        min_size=1,
        max_size=2,
    ).map(tuple),
    st.builds(
        DroopSettings,
        droop_pct=tenths(1.0, 6.0),
        reference=st.just("deadband_edge"),
        soc_adaptive=st.booleans(),
    ),
    promises,
    st.just(FfrSettings()),
    tenths(-1.0, 1.0),
    st.just(()),
)


@given(lasting, st.sampled_from([1, -1]))
@settings(max_examples=LASTING, deadline=None, suppress_health_check=list(HealthCheck))
@example(  # a thousandth of a hertz is two per cent of so little
    Case(
        (One(235.0, 3.6, 14.6), One(65.0, 2.5, 22.4)),
        DroopSettings(droop_pct=1.0, reference="deadband_edge", soc_adaptive=True),
        HeadroomSettings(up_pct=20.0, down_pct=20.0),
        FfrSettings(),
        0.0,
        (),
    ),
    1,
)
def test_from_every_charge_the_whole_promise_lasts_five_minutes(case: Case, side: int) -> None:
    case = run_virtual(just_promised(case, side))
    seen = run_virtual(played(case))
    promise_kw = seen[0].up_kw if side > 0 else seen[0].down_kw
    assume(promise_kw >= LEAST_KW)
    made = judged(case, seen)
    assert not made.faults, (len(made.faults), made.faults[:3])
    assert made.sustained_s >= case.headroom.sustain_s - 2.0 * LOOK_S
