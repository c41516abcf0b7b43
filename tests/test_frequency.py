"""Which frequency is believed, and what its bands, alarms and statistics make of it."""

import math
import statistics
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rig import B1, B2, snapshot
from vppd.core.alarms import MEANINGS, Level
from vppd.core.model import Point, Quality, Snapshot, Synchro, UnitId
from vppd.core.settings import BandSettings
from vppd.grid.bands import ALARMS, Band, History, alarmed, band_of
from vppd.grid.frequency import Frequency, believable, choose

PMU, PMU2 = UnitId("pmu"), UnitId("pmu2")
BANDS = BandSettings()
GOOD = Synchro(PMU, 49.95, 100.0, 0.5, rocof_hz_per_s=-0.1)


def _choose(*synchros: Synchro, now_s: float = 100.1, device_hz: float = 49.90) -> Frequency | None:
    base = snapshot(now_s, {Point.FREQUENCY_HZ: device_hz}, B2)
    now = Snapshot(now_s, base.utc, base.readings, {each.source: each for each in synchros})
    return choose(now, (PMU, PMU2), (B1, B2), BANDS)


def test_the_first_source_in_the_order_of_trust_is_believed() -> None:
    second = replace(GOOD, source=PMU2, frequency_hz=49.93)
    chosen = _choose(second, replace(GOOD, delay_s=0.02))
    assert chosen is not None
    assert (chosen.source, chosen.frequency_hz) == (PMU, 49.95)
    assert chosen.at_s == pytest.approx(99.98)
    assert (chosen.rocof_hz_per_s, chosen.quality_text) == (-0.1, "good")
    chosen = _choose(replace(GOOD, quality=Quality.MISSING), second)
    assert chosen is not None
    assert chosen.source == PMU2
    chosen = _choose()
    assert chosen is not None
    assert (chosen.source, chosen.frequency_hz, chosen.at_s) == (B2, 49.90, 100.1)


@pytest.mark.parametrize(
    "bad",
    [
        replace(GOOD, quality=quality)
        for quality in Quality
        if quality not in (Quality.GOOD, Quality.DEAD_BUS)  # on which the devices hang too
    ]
    + [
        replace(GOOD, at_s=99.59),
        replace(GOOD, delay_s=0.41),
        replace(GOOD, at_s=100.11),
        replace(GOOD, frequency_hz=math.nan),
        replace(GOOD, frequency_hz=60.0),
        replace(GOOD, frequency_hz=44.99),
        replace(GOOD, frequency_hz=55.01),
        replace(GOOD, frequency_hz=math.inf),
        replace(GOOD, at_s=math.nan),
    ],
)
def test_what_is_bad_old_or_not_of_this_grid_is_no_command(bad: Synchro) -> None:
    chosen = _choose(bad)
    assert chosen is not None
    assert chosen.source == B2
    assert _choose(bad, device_hz=60.0) is None


@given(st.floats(-10.0, 10.0), st.floats(0.0, 1.0), st.floats(0.05, 5.0))
def test_age_counts_the_delay(off_s: float, delay_s: float, max_age_s: float) -> None:
    synchro = Synchro(PMU, 50.0, 100.0, max_age_s, delay_s=delay_s)
    age_s = (100.0 + off_s) - 100.0 + delay_s
    assert believable(synchro, 100.0 + off_s) == (0.0 <= age_s <= max_age_s)


def test_a_stale_device_frequency_is_not_believed() -> None:
    now = snapshot(100.0, {Point.FREQUENCY_HZ: 50.0}, B1, age_s=60.0)
    assert choose(now, (), (B1,), BANDS) is None
    assert choose(snapshot(100.0, {}), (PMU,), (B1,), BANDS) is None


# ---- bands -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hz", "band"),
    [
        (49.49, Band.CRITICAL_LOW),
        (49.50, Band.LOW),
        (49.89, Band.LOW),
        (49.90, Band.NORMAL),
        (50.05, Band.NORMAL),
        (50.06, Band.HIGH),
        (50.50, Band.HIGH),
        (50.51, Band.CRITICAL_HIGH),
    ],
)
def test_bands(hz: float, band: Band) -> None:
    assert band_of(hz, BANDS) is band


@pytest.mark.parametrize(
    ("seen", "bands"),
    [
        ([49.89, 49.915, 49.921], ["low", "low", "normal"]),
        (
            [49.49, 49.515, 49.521, 49.915, 49.93],
            ["critical_low", "critical_low", "low", "low", "normal"],
        ),
        ([49.49, 49.93], ["critical_low", "normal"]),
        ([50.06, 50.035, 50.029], ["high", "high", "normal"]),
        (
            [50.51, 50.485, 50.479, 50.035, 50.0],
            ["critical_high", "critical_high", "high", "high", "normal"],
        ),
        ([49.89, 50.06, 49.4], ["low", "high", "critical_low"]),
        ([49.91, 49.90, 49.899], ["normal", "normal", "low"]),
    ],
)
def test_an_alarm_worsens_at_once_and_eases_with_hysteresis(
    seen: list[float], bands: list[str]
) -> None:
    band, got = Band.NORMAL, []
    for hz in seen:
        band = alarmed(hz, BANDS, band)
        got.append(band.value)
    assert got == bands


@given(st.floats(48.0, 52.0), st.sampled_from(list(Band)))
def test_an_alarm_is_never_milder_than_its_band(hz: float, before: Band) -> None:
    order = list(Band)
    now, said = order.index(band_of(hz, BANDS)), order.index(alarmed(hz, BANDS, before))
    normal = order.index(Band.NORMAL)
    assert abs(said - normal) >= abs(now - normal)
    assert (said - normal) * (now - normal) >= 0 or now == normal
    if before is Band.NORMAL:
        assert said == now


def test_critical_bands_alarm_louder() -> None:
    assert set(ALARMS) == set(Band) - {Band.NORMAL}
    for band, code in ALARMS.items():
        critical = band in (Band.CRITICAL_LOW, Band.CRITICAL_HIGH)
        assert (MEANINGS[code].level >= Level.CRITICAL) == critical


# ---- history -----------------------------------------------------------------


@given(st.lists(st.floats(49.0, 51.0), min_size=1, max_size=60))
def test_statistics_are_those_of_the_last_minute(seen: list[float]) -> None:
    history = History()
    for at, hz in enumerate(seen):
        history.add(float(at * 2), hz)
    now_s = 2.0 * (len(seen) - 1)
    inside = [hz for at, hz in enumerate(seen) if at * 2 >= now_s - 60.0]
    made = history.statistics(now_s)
    assert made is not None
    assert made.mean_hz == pytest.approx(statistics.fmean(inside))
    assert made.std_hz == pytest.approx(statistics.pstdev(inside), abs=1e-9)
    assert (made.min_hz, made.max_hz) == (min(inside), max(inside))
    assert history.statistics(now_s + 61.0) is None


def test_the_ring_keeps_the_newest_at_ten_a_second() -> None:
    history = History(length=10)
    assert history.statistics(0.0) is None
    for step in range(35):
        history.add(step * 0.05, float(step))
    kept = history.since(-1.0)
    assert [hz for _, hz in kept] == [float(step) for step in range(16, 36, 2)]
    assert [at_s for at_s, _ in kept] == sorted(at_s for at_s, _ in kept)
    assert history.since(1.6) == kept[-2:]
