"""Riding through: the windows, their times, and coming back; a dead bus drives nothing."""

import math
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vppd.core.decision import Riding
from vppd.core.model import Phasor, Quality, Snapshot, Synchro, UnitId
from vppd.core.settings_response import RideThroughRow, RideThroughSettings
from vppd.grid.ride_through import RideMemory, Voltage, ride, voltage_of, words_of

PMU, PMU2 = UnitId("pmu"), UnitId("pmu2")
CEASE = RideThroughSettings(
    profile="distribution",
    nominal_v=1000.0,
    stable_s=60.0,
    rows=(
        RideThroughRow(when="voltage_above", bound=1.10, within_s=2.0),
        RideThroughRow(when="voltage_below", bound=0.80, within_s=2.0),
        RideThroughRow(when="frequency_above", bound=50.5, within_s=0.2, source="a rule"),
        RideThroughRow(when="frequency_below", bound=47.5, within_s=0.2, verified=True),
    ),
)
STAY = replace(CEASE, profile="transmission")
FINE = Voltage(1.0, 1.0)


class Bus:
    """One bus from tick to tick."""

    def __init__(self, rules: RideThroughSettings = CEASE) -> None:
        self.rules, self.memory, self.now_s = rules, RideMemory(), 1000.0

    def tick(
        self, hz: float | None = 50.0, voltage: Voltage | None = FINE, for_s: float = 0.1
    ) -> Riding:
        made = Riding()
        for _ in range(round(for_s / 0.1)):
            self.now_s += 0.1
            made, self.memory = ride(voltage, hz, self.rules, self.now_s, self.memory)
        return made


@pytest.mark.parametrize(
    ("hz", "voltage", "word"),
    [
        (50.0, Voltage(1.11, 1.11), "voltage above 1.1 pu"),
        (50.0, Voltage(1.0, 1.11), "voltage above 1.1 pu"),
        (50.0, Voltage(0.79, 1.0), "voltage below 0.8 pu"),
    ],
)
def test_a_distribution_site_ceases_before_the_time_is_out(
    hz: float, voltage: Voltage, word: str
) -> None:
    bus = Bus()
    assert bus.tick(hz, voltage, for_s=1.5).ceased == ""
    assert bus.tick(hz, voltage, for_s=0.2).ceased.startswith(word)


@pytest.mark.parametrize("hz", [50.51, 47.49])
def test_a_time_shorter_than_the_way_to_the_inverter_is_no_time(hz: float) -> None:
    assert "frequency" in Bus().tick(hz).ceased
    assert Bus().tick(50.5).ceased == Bus().tick(47.5).ceased == ""


def test_a_dip_that_ends_in_time_is_ridden_through() -> None:
    bus = Bus()
    for _ in range(5):
        assert bus.tick(50.0, Voltage(0.5, 0.5), for_s=1.4).ceased == ""
        assert bus.tick().ceased == ""


def test_it_comes_back_after_the_stable_time_only() -> None:
    bus = Bus()
    bus.tick(50.6)
    assert bus.tick(50.0, for_s=59.9).ceased
    bus.tick(50.6)
    assert bus.tick(50.0, for_s=60.0).ceased
    assert bus.tick(50.0, for_s=0.2).ceased == ""


def test_what_is_not_seen_neither_stops_it_nor_brings_it_back() -> None:
    bus = Bus()
    assert bus.tick(None, None, for_s=10.0) == Riding(blind=True)
    bus.tick(50.6)
    assert bus.tick(None, FINE, for_s=100.0).ceased
    assert bus.tick(50.0, None, for_s=100.0).ceased
    assert bus.tick(50.0, for_s=61.0).ceased == ""
    # a dip goes on while it is not seen
    bus.tick(50.0, Voltage(0.5, 0.5), for_s=1.0)
    assert bus.tick(50.0, None, for_s=1.0).ceased


def test_a_transmission_site_stays_and_says_so() -> None:
    bus = Bus(STAY)
    made = bus.tick(50.6, Voltage(0.5, 1.2), for_s=30.0)
    assert made.ceased == ""
    assert made.staying.startswith("voltage above")
    assert bus.tick().staying == ""


def test_a_row_may_say_otherwise_than_its_profile() -> None:
    rows = (
        RideThroughRow(when="voltage_above", bound=1.3, within_s=0.0, then="cease"),
        RideThroughRow(when="voltage_below", bound=0.85, within_s=3.0),
    )
    bus = Bus(replace(STAY, rows=rows))
    assert bus.tick(50.0, Voltage(0.5, 0.5), for_s=20.0).ceased == ""
    assert bus.tick(50.0, Voltage(1.31, 1.31)).ceased
    assert bus.tick(50.0, Voltage(0.5, 0.5), for_s=59.0).ceased
    assert bus.tick(50.0, Voltage(0.5, 0.5), for_s=2.0).ceased == "", "a row to stay for is no bar"


def test_without_a_profile_only_a_dead_bus_counts() -> None:
    bus = Bus(replace(CEASE, profile="none"))
    assert bus.tick(53.0, Voltage(2.0, 2.0), for_s=10.0) == Riding()
    assert bus.tick(50.0, Voltage(0.0, 0.1)) == Riding(dead=True)
    assert bus.tick(50.0, Voltage(0.4, 0.4)).dead, "not alive yet"
    assert bus.tick(50.0, None).dead
    assert not bus.tick(50.0, Voltage(0.6, 0.6)).dead
    assert not bus.tick(50.0, Voltage(0.4, 0.4)).dead


def test_a_dead_bus_makes_a_distribution_site_cease_at_once() -> None:
    bus = Bus()
    made = bus.tick(50.0, Voltage(0.0, 0.0))
    assert made.ceased == "the bus is dead"
    assert made.dead
    assert bus.tick(50.0, for_s=59.0).ceased
    assert bus.tick(50.0, for_s=2.0) == Riding()
    assert not Bus(STAY).tick(50.0, Voltage(0.0, 0.0)).ceased


def test_voltage_that_is_not_watched_is_no_row() -> None:
    bus = Bus(replace(CEASE, nominal_v=None))
    assert bus.tick(50.0, None, for_s=10.0) == Riding()
    assert bus.tick(50.6, None).ceased
    assert bus.tick(50.0, None, for_s=60.2).ceased == ""


def test_a_rule_that_was_not_verified_says_so() -> None:
    assert words_of(CEASE.rows[2]).endswith("for 0.2 s, rule not verified")
    assert words_of(CEASE.rows[3]) == "frequency below 47.5 Hz for 0.2 s"


# ---- voltage -----------------------------------------------------------------


def synchro(source: UnitId, *volts: float, **more: object) -> Synchro:
    phasors = tuple(Phasor(f"V{n}", each, 0.0, "V") for n, each in enumerate(volts))
    current = Phasor("I", 5000.0, 0.0, "A")
    made = Synchro(source, 50.0, 10.0, 0.5, phasors=(*phasors, current))
    return replace(made, **more)  # type: ignore[arg-type]


def seen(*synchros: Synchro) -> Snapshot:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return Snapshot(10.2, at, {}, {each.source: each for each in synchros})


def test_voltage_is_of_the_first_pmu_that_shows_any() -> None:
    one, two = synchro(PMU, 900.0, 1000.0, 1100.0), synchro(PMU2, 500.0)
    assert voltage_of(seen(one, two), (PMU, PMU2), CEASE) == Voltage(0.9, 1.1)
    named = replace(CEASE, phasor="V1")
    assert voltage_of(seen(one, two), (PMU,), named) == Voltage(1.0, 1.0)
    for blind in (
        replace(one, at_s=1.0),
        replace(one, stat_bits=0x4000),
        replace(one, stat_bits=0x8000),
        synchro(PMU),
        synchro(PMU, math.nan),
    ):
        assert voltage_of(seen(blind, two), (PMU, PMU2), CEASE) == Voltage(0.5, 0.5)
    assert voltage_of(seen(), (PMU,), CEASE) is None
    assert voltage_of(seen(one), (PMU,), replace(CEASE, nominal_v=None)) is None


@pytest.mark.parametrize("quality", list(Quality))
def test_a_frequency_nobody_believes_leaves_the_voltage(quality: Quality) -> None:
    one = synchro(PMU, 10.0, frequency_hz=math.nan, quality=quality)
    assert voltage_of(seen(one), (PMU,), CEASE) == Voltage(0.01, 0.01)


# ---- always ------------------------------------------------------------------

volts = st.none() | st.floats(0.0, 1.5).map(lambda pu: Voltage(pu, pu))


@given(st.lists(st.tuples(st.none() | st.floats(46.0, 53.0), volts), max_size=200))
@settings(max_examples=60)
def test_never_outside_for_its_time_and_still_connected(
    path: list[tuple[float | None, Voltage | None]],
) -> None:
    bus, since_s = Bus(replace(CEASE, stable_s=1.0)), dict.fromkeys(CEASE.rows, math.inf)
    for hz, voltage in path:
        made = bus.tick(hz, voltage)
        for row in CEASE.rows:
            value = hz
            if row.when.startswith("voltage"):
                value = None if voltage is None else voltage.low_pu
            elif made.dead:
                value = None
            if value is not None:
                out = value < row.bound if row.when.endswith("below") else value > row.bound
                since_s[row] = min(since_s[row], bus.now_s) if out else math.inf
            if bus.now_s - since_s[row] >= row.within_s:
                assert made.ceased
        assert not made.dead or made.ceased
