"""The response as one sum of plans, rooms and charges: whatever the settings and the frequency,
what is promised is asked, whole within a second, and no unit works against another.

More examples are run by hand, with EXAMPLES = 3000.
"""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.test_duty import plan
from tests.test_headroom import HALF, RATED_KW, settle, site
from tests.test_response_site import droops, tenths
from vppd.core.settings import DroopSettings

EXAMPLES = 30
TICKS = 12  # 0.1 s each
SETTLED = 8
frequencies = st.lists(tenths(49.3, 50.7, 0.01), min_size=1, max_size=6)


@given(
    st.lists(st.floats(5.0, 95.0), min_size=1, max_size=4),
    droops,
    st.floats(5.0, 100.0),
    st.floats(-1.0, 1.0),
    frequencies,
)
@settings(max_examples=EXAMPLES, deadline=None)
def test_what_is_promised_is_asked_whatever_the_frequency_does(
    socs_pct: list[float], droop: DroopSettings, pct: float, base: float, hertz: list[float]
) -> None:
    droop = replace(droop, sustain_s=None, reversal_hold_s=0.0)
    plant = site(socs_pct, replace(HALF, up_pct=pct, down_pct=pct), droop)
    scheduled = plan(base * RATED_KW * len(socs_pct))
    made = settle(plant, scheduled)
    for hz in hertz:
        promise, before_side = made.promise, plant.memory.droop.active
        assert promise is not None
        plant.hz = hz
        for tick in range(TICKS):
            made = plant.tick(scheduled, after_s=0.1)
            owed_kw = made.droop.curve_kw
            answer_kw = sum(each.frequency_kw for each in made.requests)
            promised_kw = promise.up_kw if owed_kw > 0.0 else promise.down_kw
            whole = abs(owed_kw) <= promised_kw and before_side * owed_kw >= 0.0
            if tick >= SETTLED and whole and abs(made.droop.rocof_hz_per_s) < 1e-3:
                assert abs(answer_kw - owed_kw) <= 0.05 * abs(owed_kw) + 1e-6, made.clamps
            each_kw = [each.base_kw + each.frequency_kw for each in made.requests]
            assert min(each_kw) >= -1e-6 or max(each_kw) <= 1e-6
