"""Sites whose units have a BMS on CAN and a SunSpec inverter, behind a meter: every fault of those
devices, and of the slow rows of the safety table, ends as the table says.

A fault happens at the device. What is promised: how soon it is found, what is left in each
direction, that nothing asked passes while it lasts, whether it ends by itself, and that the unit
returns. The BMS is heard by the real driver on python-can's `virtual` bus; TCP is in memory.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest

from tests.site_rig import (
    FULL,
    METER_AT,
    OLDER,
    PLAIN,
    POLL_S,
    RESOLUTION_KW,
    SOLE_INVERTER,
    TICK_S,
    TIMEOUT_S,
    TWO_POLLS_S,
    Gear,
    SiteRig,
    bms_profile,
    site_settings,
    with_safety,
)
from tests.virtual_time import virtual
from vppd.core.alarms import Code
from vppd.core.bms import max_age_s
from vppd.core.model import METER, SITE, Point, UnitId
from vppd.core.records import TripRow
from vppd.core.settings import ConnectionSettings, Settings
from vppd.sim.faults.registry import KINDS

HEARD_S = 0.06  # the bus is read and shown within
MAX_AGE_S = 2.5  # of every fast Modbus point
VALUE_S = TWO_POLLS_S + TICK_S
SILENCE_S = MAX_AGE_S + TICK_S
PACK_S = max_age_s(bms_profile("vpp-bms").frames["PACK"])
CELLS_S = max(TWO_POLLS_S, max_age_s(bms_profile("vpp-bms").frames["CELLS_1"])) + TICK_S
ALARMS_S = max(TWO_POLLS_S, max_age_s(bms_profile("vpp-bms").frames["ALARMS"])) + TICK_S
REVERT_S = 4  # of the inverters here
RETRY_MAX_S = 10.0
GOOD_READS_S = 3 * POLL_S + POLL_S
THREE_ACTS_S = 3 * 1.0 + TWO_POLLS_S + TICK_S
LINK_S = RETRY_MAX_S + GOOD_READS_S
FREE = 1.0e9

GEARS = {
    "full": replace(FULL, inverter={"revert_s": REVERT_S}),
    "older": replace(OLDER, inverter={"revert_s": REVERT_S}),
    "sole": replace(SOLE_INVERTER, inverter={"revert_s": REVERT_S}),
    "bms": Gear(None, "vpp-bms"),
    "plain": PLAIN,
}


def a_site(gear: str, **rest: Any) -> Settings:
    """One unit, A. A sensor that jumps is no battery that burns here: runaway is tried apart."""
    settings = site_settings(("A",), gear={"A": GEARS[gear]}, pmus=(), interlock_inputs=(), **rest)
    return with_safety(settings, "A", runaway_rate_max_c_per_min=1000.0)


@dataclass(frozen=True)
class Fault:
    """A fault at unit A while an operator asks `asked_kw`, and what is promised."""

    gear: str
    kind: str
    state: str
    code: Code
    within_s: float = VALUE_S
    how: Mapping[str, Any] = field(default_factory=dict)
    at: str = "A"
    asked_kw: float = 40.0
    out_kw: float = 0.0  # what may still be told each way
    in_kw: float = 0.0
    obeys: bool = True  # False: it hears no setpoint, its own timer must do it
    latches: bool = False
    returns_s: float = VALUE_S

    @property
    def name(self) -> str:
        how = "-".join(str(value) for value in self.how.values())
        return f"{self.gear}-{self.kind}-{how}-{self.at.partition('/')[2]}-{self.asked_kw:g}"


LOW_CELL: Mapping[str, Any] = {"cell": 3, "cell_v": 2.75}
HIGH_CELL: Mapping[str, Any] = {"cell": 16, "cell_v": 4.22}
INVERTER, CONTROLLER = "A/inverter", "A"
BMS_RULES = (
    Fault("full", "bms_cell", "stopped", Code.CELL_UNDER_VOLTAGE, CELLS_S, LOW_CELL, in_kw=50.0),
    Fault(
        "full",
        "bms_cell",
        "stopped",
        Code.CELL_OVER_VOLTAGE,
        CELLS_S,
        HIGH_CELL,
        asked_kw=-40.0,
        out_kw=50.0,
    ),
    Fault(  # the BMS itself takes it for an over-voltage
        "full", "bms_cell", "tripped", Code.BMS_FAULT, ALARMS_S, {"cell_v": 7.0}, latches=True
    ),
    Fault(
        "bms", "cell_drift", "limited", Code.CELL_SPREAD, CELLS_S, asked_kw=90, out_kw=50, in_kw=50
    ),
    Fault(
        "bms",
        "bms_temperature",
        "stopped",
        Code.TEMPERATURE_HIGH,
        CELLS_S,
        {"temperature_c": 57.0},
    ),
    Fault(
        "older",
        "over_temperature",
        "stopped",
        Code.TEMPERATURE_HIGH,
        VALUE_S,
        {"temperature_c": 57.0, "rate_c_per_s": 100.0},
    ),
    Fault(
        "bms",
        "bms_temperature",
        "stopped",
        Code.TEMPERATURE_LOW,
        CELLS_S,
        {"temperature_c": -11.0},
    ),
    Fault(
        "bms",
        "bms_temperature",
        "stopped",
        Code.CHARGE_COLD,
        CELLS_S,
        {"temperature_c": -1.0},
        asked_kw=-40.0,
        out_kw=FREE,
    ),
    Fault(
        "full",
        "bms_temperature",
        "tripped",
        Code.OVER_TEMPERATURE,
        CELLS_S,
        {"temperature_c": 61.0},
        latches=True,
    ),
    Fault(
        "full", "bms_fault_bits", "tripped", Code.BMS_FAULT, ALARMS_S, {"bits": 16}, latches=True
    ),
    Fault("older", "bms_fault_bits", "tripped", Code.BMS_FAULT, ALARMS_S, latches=True),
    Fault(  # 20 A of each of 23 modules at 59 V
        "full", "bms_limits", "limited", Code.BMS_LIMIT, VALUE_S, out_kw=27.6, in_kw=27.6
    ),
    Fault(
        "older",
        "bms_limits",
        "stopped",
        Code.BMS_LIMIT,
        ALARMS_S,
        {"discharge_max_a": 0.0},
        in_kw=28.5,
    ),
    Fault("full", "bms_soc", "stopped", Code.SOC_LOW, VALUE_S, {"soc_pct": 9.0}, in_kw=FREE),
    Fault(
        "full",
        "bms_soc",
        "stopped",
        Code.SOC_HIGH,
        VALUE_S,
        {"soc_pct": 96.0},
        asked_kw=-40.0,
        out_kw=FREE,
    ),
    Fault(
        "older", "bms_forbid", "stopped", Code.BMS_FORBIDS, ALARMS_S, {"charge": False}, in_kw=95
    ),
    Fault("older", "bms_forbid", "stopped", Code.BMS_FORBIDS, ALARMS_S, returns_s=ALARMS_S),
    Fault("full", "bms_silence", "stopped", Code.READING_STALE, PACK_S + VALUE_S),
    Fault("older", "bms_silence", "stopped", Code.READING_STALE, ALARMS_S, returns_s=ALARMS_S),
    Fault("full", "can_down", "stopped", Code.READING_STALE, PACK_S + VALUE_S, returns_s=3.0),
    Fault("full", "bms_short_frame", "stopped", Code.READING_STALE, PACK_S + VALUE_S),
)
INVERTER_RULES = (
    Fault("full", "inverter_fault", "tripped", Code.INVERTER_FAULT, latches=True),
    Fault(
        "full",
        "inverter_fault",
        "tripped",
        Code.INVERTER_FAULT,
        how={"latched": True},
        latches=True,
    ),
    Fault("older", "inverter_fault", "tripped", Code.INVERTER_FAULT, latches=True),
    Fault("sole", "inverter_fault", "tripped", Code.INVERTER_FAULT, latches=True),
    Fault("full", "inverter_hidden", "stopped", Code.READING_MISSING),
    *(
        Fault(
            gear,
            kind,
            "lost",
            Code.LINK_LOST,
            SILENCE_S,
            how,
            INVERTER,
            obeys=False,
            returns_s=LINK_S,
        )
        for gear in ("full", "sole")
        for kind, how in (
            ("silence", {}),
            ("connection_refused", {}),
            ("wrong_unit_id", {}),
            ("slow", {"delay_s": 1.5}),
        )
    ),
    Fault(
        "full",
        "refuse_writes",
        "tripped",
        Code.WRITE_REFUSED,
        THREE_ACTS_S,
        at=INVERTER,
        obeys=False,
        latches=True,
    ),
    Fault(
        "sole",
        "inverter_local",
        "tripped",
        Code.WRITE_REFUSED,
        THREE_ACTS_S,
        latches=True,
    ),
    # the battery's own controller, beside an inverter that still obeys
    Fault("full", "silence", "lost", Code.READING_STALE, SILENCE_S, returns_s=LINK_S),
    Fault("full", "connection_refused", "lost", Code.READING_STALE, SILENCE_S, returns_s=LINK_S),
    Fault("older", "fault_bits", "tripped", Code.DEVICE_FAULT, how={"bits": 4}, latches=True),
)
FAULTS = (*BMS_RULES, *INVERTER_RULES)


def said(rig: SiteRig, code: Code) -> bool:
    """Whether the code binds A, is latched, or stands in the audit."""
    return code in rig.bound_by("A") or ("A", code) in rig.latched() or rig.standing("A", code)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_of_a_device_ends_as_the_table_says(fault: Fault) -> None:
    @virtual
    async def happens() -> None:
        async with SiteRig(a_site(fault.gear)) as rig:
            rig.plan(fault.asked_kw, "A")
            await rig.until(lambda: rig.held_kw("A") == fault.asked_kw, within_s=12.0)
            await rig.run(1.0)
            rows = len(rig.memory.rows)
            rig.plant.inject(fault.kind, fault.at, **fault.how)

            def inside() -> bool:
                power_kw = rig.held_kw("A")
                return -fault.in_kw - RESOLUTION_KW <= power_kw <= fault.out_kw + RESOLUTION_KW

            await rig.until(
                lambda: rig.state("A") == fault.state and said(rig, fault.code),
                within_s=fault.within_s,
            )
            assert rig.journaled("A", fault.code, rows)
            await rig.until(inside, within_s=2 * TICK_S if fault.obeys else REVERT_S + TIMEOUT_S)

            for asked_kw in (95.0, -95.0):  # whatever is asked now: nothing of it arrives
                rig.plan(asked_kw, "A")
                await rig.always(inside, for_s=2.0)
            if max(fault.out_kw, fault.in_kw) > 20.0:  # but what is left may be had
                free_kw = 20.0 if fault.out_kw else -20.0
                rig.plan(free_kw, "A")
                await rig.until(lambda: rig.held_kw("A") == free_kw, within_s=8.0)

            rig.plan(fault.asked_kw / 2.0, "A")
            rig.plant.clear(fault.kind)
            if fault.latches:
                await rig.always(lambda: rig.held_kw("A") == 0.0, for_s=4.0)
                assert rig.state("A") == "tripped"
                rig.reset("A")
            within_s = fault.returns_s + 8.0  # and the ramp
            await rig.until(lambda: rig.held_kw("A") == fault.asked_kw / 2.0, within_s)

    happens()


# --- what is only told ---


@dataclass(frozen=True)
class Told:
    """A fault that alarms under this code and unit, and stops nothing."""

    gear: str
    kind: str
    code: Code
    within_s: float = VALUE_S
    how: Mapping[str, Any] = field(default_factory=dict)
    at: str = "A"
    about: str = "A"
    ends_s: float = VALUE_S + 1.0

    def __str__(self) -> str:
        return f"{self.gear}-{self.kind}-{self.code}"


TOLD = (
    Told("bms", "bms_warning_bits", Code.BMS_WARNING, ALARMS_S, ends_s=2.0),
    Told("full", "bms_soc", Code.BMS_DISAGREES, VALUE_S, {"soc_pct": 60.0}),
    Told(
        "older",
        "bms_forbid",
        Code.BMS_FORCE_CHARGE,
        ALARMS_S,
        {"charge": False, "discharge": False, "force_charge": True},
        about="A/bms",
        ends_s=ALARMS_S,
    ),
    Told("full", "inverter_alarm", Code.INVERTER_ALARM, how={"bits": 1 << 8}),
    Told("older", "inverter_alarm", Code.INVERTER_ALARM, how={"bits": 1 << 8}),
    Told("sole", "inverter_alarm", Code.INVERTER_ALARM, how={"bits": 1 << 8}),
    Told("full", "inverter_no_timer", Code.REVERT_NOT_SET, VALUE_S + 1.0, ends_s=30.0),
)


@pytest.mark.parametrize("told", TOLD, ids=str)
def test_what_stops_nothing_is_told_as_long_as_it_lasts(told: Told) -> None:
    @virtual
    async def happens() -> None:
        async with SiteRig(a_site(told.gear)) as rig:
            rig.plan(30.0, "A")
            await rig.run(6.0)
            rig.plant.inject(told.kind, told.at, **told.how)
            await rig.until(lambda: rig.alarmed(told.code, told.about), within_s=told.within_s)
            assert rig.journaled(told.about, told.code)
            await rig.always(lambda: rig.held_kw("A") == 30.0, for_s=1.0)
            rig.plant.clear()
            await rig.until(lambda: not rig.alarmed(told.code, told.about), told.ends_s)
            assert not rig.latched()

    happens()


@pytest.mark.parametrize("at", [INVERTER, CONTROLLER])
@pytest.mark.parametrize("kind", ["scale_ten", "inverted_sign"])
def test_two_measurements_of_one_power_that_differ_are_told(kind: str, at: str) -> None:
    """A wrong set-up is found when a site is commissioned; until then this is what shows it."""

    @virtual
    async def happens() -> None:
        async with SiteRig(a_site("full")) as rig:
            rig.plant.inject(kind, at)
            rig.plan(15.0, "A")
            await rig.until(
                lambda: rig.alarmed(Code.POWER_DISAGREES, "A"), within_s=2.0 + 5.0 + VALUE_S
            )
            assert rig.held_kw("A") <= 15.0

    happens()


@virtual
async def test_garbage_on_the_bus_and_a_lost_connection_stop_nothing() -> None:
    async with SiteRig(a_site("full")) as rig:
        rig.plan(30.0, "A")
        await rig.run(6.0)
        rig.plant.inject("bms_garbage", "A", frames_per_s=200.0)
        rig.plant.inject("drop", INVERTER)
        await rig.always(lambda: rig.held_kw("A") == 30.0, for_s=4.0)
        assert not rig.latched()
        (bus,) = rig.house.field.buses
        assert bus.counters.unknown > 100
        assert bus.members[0].counters.short > 100
        known = rig.house.field.known()
        assert known[UnitId("A")].counters["reconnects"] == 2


# --- the slow rows ---


@pytest.mark.parametrize("gear", ["plain", "sole"])
def test_a_state_of_charge_that_moves_too_fast_halves_the_power(gear: str) -> None:
    """One percent a minute is 150 kW of this battery: it is emptied behind the meter's back."""

    @virtual
    async def runs() -> None:
        async with SiteRig(a_site(gear)) as rig:
            rig.plan(90.0, "A")
            await rig.run(11.0)
            battery, leaking_s = rig.plant.unit("A").battery, 0.0
            while not rig.standing("A", Code.SOC_RATE):
                assert leaking_s <= 60.0 + 5.0 + VALUE_S, rig.account()
                battery.soc_pct -= 1.5 / 60.0
                leaking_s += 1.0
                await rig.run(1.0)
            assert leaking_s >= 30.0  # 0.6 %/min is its own power, and the rest is leaked
            await rig.run(2 * TICK_S)
            assert rig.held_kw("A") == pytest.approx(50.0, abs=RESOLUTION_KW)
            assert rig.state("A") == "limited"
            assert rig.alarmed(Code.SOC_RATE, "A")
            well_s = rig.now_s
            while rig.standing("A", Code.SOC_RATE):
                assert rig.now_s - well_s <= 65.0 + VALUE_S
                await rig.run(1.0)
            await rig.run(6.0)
            assert rig.held_kw("A") == 90.0

    runs()


@pytest.mark.parametrize("gear", ["bms", "plain"])
def test_a_battery_that_burns_is_shut_down_before_it_is_critical(gear: str) -> None:
    @virtual
    async def runs() -> None:
        settings = with_safety(a_site(gear), "A", runaway_rate_max_c_per_min=5.0)
        async with SiteRig(settings) as rig:
            rig.plan(30.0, "A")
            await rig.run(25.0)
            rig.plant.inject("over_temperature", "A", temperature_c=59.0, rate_c_per_s=1.0)
            await rig.run(24.0)
            assert rig.plant.unit("A").battery.hottest_c < 50.0
            await rig.until(lambda: rig.state("A") == "tripped", within_s=20.0 + VALUE_S)
            assert ("A", Code.THERMAL_RUNAWAY) in rig.latched()
            assert rig.plant.unit("A").battery.hottest_c < 60.0
            await rig.until(lambda: rig.held_kw("A") == 0.0, within_s=2 * TICK_S)
            rig.reset("A")  # while it still rises, or has only just ceased to
            await rig.always(lambda: rig.held_kw("A") == 0.0, for_s=2.0)
            rig.plant.clear()
            await rig.run(30.0)
            rig.reset("A")
            await rig.until(lambda: rig.held_kw("A") == 30.0, within_s=8.0)

    runs()


@virtual
async def test_power_that_moves_faster_than_its_ramp_is_told_about() -> None:
    """The device does as it likes: it is in local hands and jumps."""
    async with SiteRig(a_site("plain")) as rig:
        rig.plan(20.0, "A")
        await rig.run(5.0)
        assert not rig.alarmed(Code.POWER_RAMP, "A")
        rig.plant.unit("A").holding[0x2000] = -800 & 0xFFFF
        await rig.until(lambda: rig.alarmed(Code.POWER_RAMP, "A"), within_s=2.0 + VALUE_S)
        assert rig.standing("A", Code.POWER_RAMP)
        await rig.until(lambda: not rig.standing("A", Code.POWER_RAMP), within_s=6.0)
        assert not rig.latched()


@pytest.mark.parametrize("gear", ["bms", "older", "sole"])
def test_an_old_battery_is_only_told_about(gear: str) -> None:
    @virtual
    async def runs() -> None:
        async with SiteRig(a_site(gear)) as rig:
            rig.plan(30.0, "A")
            await rig.run(5.0)
            battery = rig.plant.unit("A").battery
            battery.soh_pct = 69.0
            await rig.until(lambda: rig.alarmed(Code.SOH_LOW, "A"), within_s=10.0 + VALUE_S)
            await rig.always(lambda: rig.held_kw("A") == 30.0, for_s=1.0)
            battery.soh_pct = 72.0
            await rig.until(lambda: not rig.alarmed(Code.SOH_LOW, "A"), within_s=10.0 + VALUE_S)

    runs()


# --- values that stand still ---

STILL_S = 5.0


@pytest.mark.parametrize(
    ("gear", "kind"),
    [
        ("full", "bms_frozen"),
        ("bms", "bms_frozen"),
        ("older", "bms_frozen"),
        ("full", "inverter_frozen"),
        ("older", "inverter_frozen"),
        ("sole", "inverter_frozen"),
    ],
)
def test_a_device_whose_values_stand_still_while_power_moves_stops_its_unit(
    gear: str, kind: str
) -> None:
    @virtual
    async def runs() -> None:
        async with SiteRig(a_site(gear)) as rig:
            rig.plan(20.0, "A")
            await rig.run(8.0)
            rig.plant.inject(kind, "A")
            await rig.always(lambda: rig.held_kw("A") == 20.0, for_s=STILL_S + 5.0)
            rig.plan(80.0, "A")  # only now something should move
            await rig.until(
                lambda: rig.state("A") == "stopped" and Code.READING_FROZEN in rig.bound_by("A"),
                within_s=1.0 + STILL_S + VALUE_S,  # a second of ramp is a tenth of the rating
            )
            assert rig.journaled("A", Code.READING_FROZEN)
            await rig.until(lambda: rig.held_kw("A") == 0.0, within_s=2 * TICK_S)
            rig.plan(-80.0, "A")
            await rig.always(lambda: rig.held_kw("A") == 0.0, for_s=12.0)
            rig.plant.clear()
            await rig.until(lambda: rig.held_kw("A") < -1.0, within_s=MAX_AGE_S + VALUE_S)
            assert not rig.latched()

    runs()


@virtual
async def test_an_idle_inverter_that_stands_still_is_not_frozen() -> None:
    """It follows no setpoint, at 0 as it always was: that is no frozen reading."""
    async with SiteRig(a_site("sole")) as rig:
        rig.plant.inject("inverter_local", "A")
        rig.plan(60.0, "A")
        await rig.run(10.0)
        assert not rig.journaled("A", Code.READING_FROZEN)


# --- setpoints that do not stay ---


@pytest.mark.parametrize(
    ("gear", "words"),
    [
        ("full", "50 kW, 10 kvar instead of "),
        ("sole", "50 kW, 10 kvar instead of "),
        ("older", "50 kW, 0 kvar instead of 0 kW, 0 kvar"),  # it took charging away and was stopped
    ],
)
@pytest.mark.parametrize("ramping", [False, True], ids=["steady", "ramping"])
def test_a_rival_at_an_inverter_is_found_within_three_writes(
    gear: str, words: str, ramping: bool
) -> None:
    """Three that stand until they are read: one may fall just before a renewal of ours, and of what
    is written while a setpoint moves with every tick the looks see only some until the first."""

    @virtual
    async def runs() -> None:
        async with SiteRig(a_site(gear)) as rig:
            rig.plan(20.0, "A", reactive_kvar=10.0)
            await rig.run(6.0)
            assert rig.held_kvar("A") == pytest.approx(10.0, abs=0.2)
            if ramping:
                rig.plan(70.0, "A", reactive_kvar=10.0)
                await rig.run(0.5)
            since_s, rows = rig.now_s, len(rig.memory.rows)
            rig.plant.inject("inverter_rival", "A", power_kw=50.0, period_s=1.0)
            within_s = 4 * 1.0 + VALUE_S + (5.0 if ramping else 0.0)
            await rig.until(lambda: ("A", Code.RIVAL) in rig.latched(), within_s)
            wrote_s = {each.at_s for each in rig.told("A", since_s) if each.source == "rival"}
            assert ramping or len(wrote_s) <= 4
            (trip,) = [row for row in rig.rows(rows) if isinstance(row, TripRow)]
            assert trip.code == Code.RIVAL
            assert "setpoint overwritten 3 times: " in trip.text
            assert words in trip.text
            assert rig.journaled("A", Code.READ_BACK_CHANGED, rows)
            assert rig.alarmed(Code.RIVAL, "A")
            await rig.run(2 * TICK_S)
            assert rig.state("A") == "tripped"
            # from now on nobody fights over the register
            fought_s = rig.now_s + 1.0
            await rig.run(5.0)
            assert {each.source for each in rig.told("A", fought_s)} <= {"rival", "timeout"}
            rig.plant.clear()
            await rig.run(6.0)
            rig.reset("A")
            rig.plan(20.0, "A")
            await rig.until(lambda: rig.held_kw("A") == 20.0, within_s=8.0)
            assert not rig.alarmed(Code.RIVAL, "A")

    runs()


@pytest.mark.parametrize("gear", ["full", "older", "sole"])
def test_an_inverter_that_answers_and_takes_nothing_is_told_and_returns(gear: str) -> None:
    """Its own timer brings it to 0, and nothing moves it while it is deaf."""

    @virtual
    async def runs() -> None:
        async with SiteRig(a_site(gear)) as rig:
            rig.plan(40.0, "A")
            await rig.run(8.0)
            rig.plant.inject("inverter_deaf", "A")
            rig.plan(60.0, "A")
            await rig.until(lambda: rig.alarmed(Code.READ_BACK_CHANGED, "A"), within_s=VALUE_S)
            await rig.until(lambda: rig.held_kw("A") == 0.0, within_s=REVERT_S + VALUE_S)
            await rig.always(lambda: rig.held_kw("A") == 0.0, for_s=5.0)
            rig.plant.clear()
            if rig.state("A") == "tripped":
                assert rig.latched() == {("A", Code.RIVAL)}
                rig.reset("A")
            await rig.until(lambda: rig.held_kw("A") == 60.0, within_s=12.0)
            await rig.until(lambda: not rig.house.alarms.standing(), within_s=6.0)

    runs()


@pytest.mark.parametrize("gear", ["full", "older", "sole"])
def test_an_inverter_that_restarts_is_programmed_again_and_ramps_from_zero(gear: str) -> None:
    @virtual
    async def runs() -> None:
        async with SiteRig(a_site(gear)) as rig:
            rig.plan(60.0, "A")
            await rig.run(9.0)
            since_s = rig.now_s
            rig.plant.inject("inverter_reset", "A")
            await rig.until(lambda: rig.held_kw("A") == 60.0, within_s=12.0)
            steps = [each for each in rig.told("A", since_s) if each.source == "sunspec"]
            assert max(b.power_kw - a.power_kw for a, b in pairwise(steps)) <= 10.0 * 2 * TICK_S
            assert rig.journaled("A", Code.DEVICE_RESET)
            await rig.until(lambda: not rig.house.alarms.standing(), within_s=6.0)

    runs()


@virtual
async def test_swapped_words_are_no_setpoint_and_never_a_power() -> None:
    """704 reads back in the wrong order: that is a rival by all that is seen, and it is stopped."""
    async with SiteRig(a_site("full")) as rig:
        rig.plan(40.0, "A")
        await rig.run(6.0)
        since_s = rig.now_s
        rig.plant.inject("swapped_words", INVERTER)
        await rig.until(lambda: rig.state("A") != "running", within_s=THREE_ACTS_S)
        await rig.run(REVERT_S + VALUE_S)
        assert max(abs(each.power_kw) for each in rig.told("A", since_s)) <= 40.0


# --- the meter ---

LOAD_S = 3 * POLL_S + VALUE_S  # a step of the load counts after three polls


def metered(gear: str = "plain", *, limit_kw: float = 60.0, **more: Any) -> Settings:
    meter = replace(METER_AT, **more)
    limits = ConnectionSettings(export_max_kw=limit_kw, import_max_kw=limit_kw)
    return a_site(gear, connection=limits, meter=meter)


@pytest.mark.parametrize("kind", ["meter_silence", "connection_refused", "swapped_words"])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_silent_required_meter_is_the_worst_case(kind: str, sign: float) -> None:
    @virtual
    async def runs() -> None:
        settings = metered(load_max_kw=20.0, generation_max_kw=15.0)
        async with SiteRig(settings) as rig:
            rig.plan(sign * 90.0)
            await rig.run(10.0)
            assert rig.held_kw("A") == pytest.approx(sign * 60.0, abs=1.0)
            rig.plant.inject(kind, "meter")
            left_kw = 45.0 if sign > 0.0 else -40.0
            await rig.until(lambda: rig.alarmed(Code.METER_SILENT, METER), within_s=SILENCE_S)
            await rig.run(2 * TICK_S)
            assert rig.held_kw("A") == pytest.approx(left_kw, abs=RESOLUTION_KW)
            assert rig.journaled(METER, Code.METER_SILENT)
            assert Code.CONNECTION in rig.bound_by("A")
            rig.plant.clear()
            await rig.until(lambda: abs(rig.held_kw("A")) > 59.0, within_s=LINK_S + 3.0)
            assert not rig.alarmed(Code.METER_SILENT, METER)

    runs()


@virtual
async def test_without_a_word_about_load_a_silent_meter_leaves_nothing() -> None:
    async with SiteRig(metered("sole")) as rig:
        rig.plan(50.0)
        await rig.run(8.0)
        rig.plant.inject("meter_silence", "meter")
        await rig.until(lambda: rig.held_kw("A") == 0.0, within_s=SILENCE_S + 2 * TICK_S)
        rig.plan(-50.0)
        await rig.always(lambda: rig.held_kw("A") == 0.0, for_s=3.0)


@virtual
async def test_other_load_and_generation_move_the_limits_and_what_exceeds_them_is_told() -> None:
    async with SiteRig(metered()) as rig:
        rig.plan(90.0)
        await rig.run(10.0)
        for load_kw, generation_kw, left_kw in ((25.0, 0.0, 85.0), (0.0, 40.0, 20.0)):
            rig.plant.inject("site_load", load_kw=load_kw, generation_kw=generation_kw)
            await rig.run(LOAD_S + 7.0)
            assert rig.held_kw("A") == pytest.approx(left_kw, abs=1.0)
            meter = rig.plant.site_meter()
            assert -meter.power_kw == pytest.approx(60.0, abs=1.0)
        rig.plant.inject("site_load", generation_kw=80.0)
        await rig.until(lambda: rig.alarmed(Code.CONNECTION_CLIPPED), within_s=LOAD_S)
        await rig.run(2 * TICK_S)
        assert rig.held_kw("A") == 0.0
        rig.plant.clear("site_load")
        await rig.until(lambda: not rig.alarmed(Code.CONNECTION_CLIPPED), within_s=LOAD_S)


@virtual
async def test_a_meter_that_stands_still_while_the_units_move_is_as_good_as_silent() -> None:
    """Else what the units give more would look like load, and twice the limit would flow."""
    async with SiteRig(metered(load_max_kw=0.0, generation_max_kw=30.0)) as rig:
        rig.plan(20.0)
        await rig.run(10.0)
        rig.plant.inject("meter_stuck")
        await rig.always(lambda: rig.held_kw("A") == 20.0, for_s=12.0)  # nothing moves: no harm
        assert not rig.alarmed(Code.METER_SILENT, METER)
        rig.plan(95.0)
        stuck_s = rig.now_s
        await rig.until(
            lambda: rig.alarmed(Code.METER_SILENT, METER), within_s=STILL_S + MAX_AGE_S + VALUE_S
        )
        await rig.run(2 * TICK_S)
        assert rig.held_kw("A") <= 30.0 + RESOLUTION_KW
        over_s = [each.at_s for each in rig.told("A", stuck_s) if each.power_kw > 60.0]
        assert not over_s or over_s[-1] - over_s[0] < STILL_S + MAX_AGE_S
        rig.plant.clear()
        await rig.until(lambda: not rig.alarmed(Code.METER_SILENT, METER), within_s=VALUE_S)
        await rig.until(lambda: rig.held_kw("A") > 55.0, within_s=LOAD_S + 6.0)


@virtual
async def test_a_meter_whose_transformer_is_reversed_never_widens_what_the_ratings_allow() -> None:
    """It is found when the site is commissioned; until then export looks like import."""
    async with SiteRig(metered(limit_kw=100.0)) as rig:
        rig.plant.inject("ct_reversed")
        rig.plan(90.0)
        await rig.run(15.0)
        assert rig.house.bus.snapshot().fresh(SITE, Point.LOAD_KW) == pytest.approx(180.0, abs=4.0)
        assert rig.held_kw("A") <= 100.0


@virtual
async def test_a_meter_with_ten_times_the_scale_holds_the_site_back() -> None:
    async with SiteRig(metered(limit_kw=100.0)) as rig:
        rig.plant.inject("scale_ten", "meter")
        rig.plan(90.0)
        await rig.run(15.0)
        assert rig.held_kw("A") < 20.0
        assert not rig.latched()


# --- a start and an end ---

DRIVES = ("full", "older", "sole")


@pytest.mark.parametrize("gear", DRIVES)
def test_a_killed_daemon_leaves_an_inverter_that_goes_to_zero_by_itself(gear: str) -> None:
    """And the next start reads before it writes, and ramps from what it finds."""

    @virtual
    async def runs() -> None:
        async with SiteRig(a_site(gear)) as rig:
            rig.plan(60.0, "A")
            await rig.run(9.0)
            await rig.kill()
            await rig.always(lambda: rig.held_kw("A") == 60.0, for_s=1.0)
            await rig.until(lambda: rig.held_kw("A") == 0.0, within_s=REVERT_S)
            assert rig.told("A")[-1].source == "timeout"
            # again, but back before the timer has run out
            await rig.start(rig.trips())
            rig.plan(60.0, "A")
            await rig.until(lambda: rig.held_kw("A") == 60.0, within_s=12.0)
            await rig.kill()
            await rig.run(1.0)
            since_s = rig.now_s
            await rig.start(rig.trips(), ready=False)
            rig.plan(60.0, "A")
            await rig.until(lambda: bool(rig.told("A", since_s)), within_s=REVERT_S + 1.0)
            await rig.until(lambda: rig.held_kw("A") == 60.0, within_s=12.0)
            steps = [each.power_kw for each in rig.told("A", since_s)]
            assert max(b - a for a, b in pairwise(steps)) <= 10.0 * 2 * TICK_S
            assert not rig.latched()

    runs()


@pytest.mark.parametrize("gear", DRIVES)
def test_a_stop_reads_back_zero_and_then_gives_the_inverter_its_own_mode(gear: str) -> None:
    @virtual
    async def runs() -> None:
        async with SiteRig(a_site(gear)) as rig:
            rig.plan(60.0, "A", reactive_kvar=10.0)
            await rig.run(9.0)
            inverter, since_s = rig.plant.inverters["A"], rig.now_s
            held_kw: list[float] = []
            plain = inverter.write_registers

            def watched(address: int, words: Sequence[int], source: str = "modbus") -> None:
                before = inverter.setpoint_kw
                plain(address, words, source)
                if inverter.released:
                    held_kw.append(before)

            inverter.write_registers = watched  # type: ignore[method-assign]
            await rig.stop()
            assert inverter.released
            assert held_kw[0] == 0.0
            assert rig.now_s - since_s <= 3.0
            assert (rig.held_kw("A"), rig.held_kvar("A")) == (0.0, 0.0)
            await rig.run(REVERT_S + 1.0)
            assert all(each.source != "timeout" for each in rig.told("A", since_s))

    runs()


@pytest.mark.parametrize("gear", DRIVES)
def test_an_inverter_that_was_given_back_stays_so_over_restarts_until_enabled(gear: str) -> None:
    @virtual
    async def runs() -> None:
        async with SiteRig(a_site(gear)) as rig:
            rig.plan(40.0, "A")
            await rig.run(7.0)
            inverter = rig.plant.inverters["A"]
            rig.house.gate.release(UnitId("A"), "ann")
            await rig.until(lambda: inverter.released, within_s=2.0)
            await rig.run(1.0)
            for end in (rig.stop, rig.kill):
                await end()
                since_s = rig.now_s
                await rig.start(rig.trips(), ready=False)
                rig.plan(50.0, "A")
                await rig.run(6.0)
                assert inverter.released
                assert not [each for each in rig.told("A", since_s) if each.source != "timeout"]
                assert rig.state("A") == "disabled"
                assert rig.alarmed(Code.RELEASED, "A")
            rig.house.gate.enable(UnitId("A"), "bob")
            await rig.until(lambda: rig.held_kw("A") == 50.0, within_s=10.0)
            await rig.kill()
            await rig.start(rig.trips())
            rig.plan(50.0, "A")
            await rig.until(lambda: rig.held_kw("A") == 50.0, within_s=10.0)
            assert not rig.alarmed(Code.RELEASED, "A")

    runs()


# --- all of them ---

TRIED = (
    {fault.kind for fault in FAULTS}
    | {told.kind for told in TOLD}
    | {"scale_ten", "inverted_sign", "swapped_words", "ct_reversed", "site_load"}
    | {"bms_garbage", "bms_frozen", "drop"}
    | {"inverter_frozen", "inverter_rival", "inverter_deaf", "inverter_reset"}
    | {"meter_silence", "meter_stuck"}
)


def test_every_fault_of_these_devices_is_tried_here() -> None:
    """A new kind of fault must say what the site does about it."""
    targets = {"bms", "inverter", "meter"}
    assert {name for name, kind in KINDS.items() if kind.target in targets} <= TRIED
    assert set(KINDS) >= TRIED
