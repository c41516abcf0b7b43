"""Every fault of the plant: the state it ends in, how soon, that nothing asked passes while it
lasts, that the journal says why, and how it ends."""

import asyncio
import random
import tracemalloc
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tests.site_rig import (
    NAMES,
    PMU,
    RESOLUTION_KW,
    TICK_S,
    TWO_POLLS_S,
    V2,
    SiteRig,
    fire_input,
    profile,
    site_settings,
)
from tests.test_site_devices import TRIED
from tests.virtual_time import virtual
from vppd.core.alarms import Code
from vppd.core.model import SITE, Point, Priority
from vppd.core.settings import PmuSettings, Settings
from vppd.sim.faults.registry import KINDS

OTHERS = ("A", "C", "D")
MAX_AGE_S = 2.5  # of every fast point: how long a link may be silent
REVERT_S = 5.0  # the device's own command timeout
RETRY_MAX_S = 10.0  # a dead device is asked again at least so often
GOOD_READS_S = 3 * 0.5 + 0.5
VALUE_S = TWO_POLLS_S + TICK_S  # a value that a rule judges at once
SILENCE_S = MAX_AGE_S + TICK_S
THREE_ACTS_S = 3 * 1.0 + TWO_POLLS_S + TICK_S  # refused or overwritten three times, one a second


@dataclass(frozen=True)
class Fault:
    """A fault of unit B while an operator asks `asked_kw` of it, and what is promised."""

    kind: str
    state: str
    code: Code  # who binds, latches or stands in the audit
    within_s: float
    how: Mapping[str, Any] = field(default_factory=dict)
    asked_kw: float = 40.0
    left_kw: float = 0.0  # what may still be told to the device
    obeys: bool = True  # False: it hears no setpoint, its own timer must do it
    latches: bool = False
    returns_s: float = VALUE_S
    other_way: bool = False  # the other direction stays open
    cure: Mapping[str, Any] | None = None  # a fault without end: inject this instead

    @property
    def name(self) -> str:
        how = "-".join(str(value) for value in self.how.values())
        return f"{self.kind}-{how}-{self.asked_kw:g}" if how else self.kind


FAULTS = (
    # what a device measures
    Fault("voltage", "stopped", Code.PACK_UNDER_VOLTAGE, VALUE_S, {"pack_v": 44.0}, other_way=True),
    Fault(
        "voltage",
        "stopped",
        Code.PACK_OVER_VOLTAGE,
        VALUE_S,
        {"pack_v": 68.0},
        asked_kw=-40.0,
        other_way=True,
    ),
    Fault("voltage", "stopped", Code.READING_IMPLAUSIBLE, VALUE_S, {"pack_v": 5.0}),
    Fault(
        "soc",
        "stopped",
        Code.SOC_LOW,
        VALUE_S,
        {"soc_pct": 9.9},
        other_way=True,
        cure={"soc_pct": 50.0},
    ),
    Fault(
        "soc",
        "limited",
        Code.SOC_LOW,
        VALUE_S,
        {"soc_pct": 10.5},
        left_kw=100.0 * 0.5 / 3.0,
        cure={"soc_pct": 50.0},
    ),
    Fault(
        "soc",
        "stopped",
        Code.SOC_HIGH,
        VALUE_S,
        {"soc_pct": 95.1},
        asked_kw=-40.0,
        other_way=True,
        cure={"soc_pct": 50.0},
    ),
    Fault(
        "soc",
        "limited",
        Code.SOC_HIGH,
        VALUE_S,
        {"soc_pct": 94.5},
        asked_kw=-40.0,
        left_kw=100.0 * 0.5 / 3.0 + 1.0,
        cure={"soc_pct": 50.0},
    ),
    Fault("current_surge", "stopped", Code.OVER_CURRENT, 2.0 + VALUE_S, {"current_a": 130.0}),
    Fault(
        "current_surge",
        "stopped",
        Code.OVER_CURRENT,
        2.0 + VALUE_S,
        {"current_a": -130.0},
        asked_kw=-40.0,
    ),
    Fault("current_surge", "stopped", Code.READING_IMPLAUSIBLE, VALUE_S, {"current_a": 600.0}),
    Fault(
        "over_temperature",
        "tripped",
        Code.OVER_TEMPERATURE,
        VALUE_S,
        {"temperature_c": 75.0, "rate_c_per_s": 100.0},
        latches=True,
    ),
    Fault("fault_bits", "tripped", Code.DEVICE_FAULT, VALUE_S, {"bits": 8}, latches=True),
    Fault(
        "fault_bits",
        "tripped",
        Code.DEVICE_FAULT,
        VALUE_S,
        {"bits": 8, "latched": True},
        latches=True,
    ),
    # the link
    Fault(
        "silence",
        "lost",
        Code.LINK_LOST,
        SILENCE_S,
        obeys=False,
        returns_s=RETRY_MAX_S + GOOD_READS_S,
    ),
    Fault(
        "wrong_unit_id",
        "lost",
        Code.LINK_LOST,
        SILENCE_S,
        returns_s=RETRY_MAX_S + GOOD_READS_S,
        obeys=False,
    ),
    Fault(
        "connection_refused",
        "lost",
        Code.LINK_LOST,
        VALUE_S,
        obeys=False,
        returns_s=RETRY_MAX_S + GOOD_READS_S,
    ),
    Fault(
        "slow",
        "lost",
        Code.LINK_LOST,
        SILENCE_S,
        {"delay_s": 1.5},
        obeys=False,
        returns_s=RETRY_MAX_S + GOOD_READS_S,
    ),
    Fault(
        "exception",
        "lost",
        Code.LINK_LOST,
        SILENCE_S,
        {"code": 4, "function": 4},
        returns_s=GOOD_READS_S,
    ),
    Fault(
        "exception",
        "stopped",
        Code.READING_MISSING,
        VALUE_S,
        {"code": 2, "function": 4},
        returns_s=60.0 + GOOD_READS_S,
    ),
    Fault(
        "exception",
        "tripped",
        Code.WRITE_REFUSED,
        THREE_ACTS_S,
        {"code": 4, "function": 16},
        obeys=False,
        latches=True,
    ),
    Fault(
        "exception",
        "tripped",
        Code.WRITE_REFUSED,
        THREE_ACTS_S,
        {"code": 6, "function": 0},
        obeys=False,
        latches=True,
        returns_s=GOOD_READS_S,
    ),
    Fault("refuse_writes", "tripped", Code.WRITE_REFUSED, THREE_ACTS_S, obeys=False, latches=True),
)


def _said(rig: SiteRig, code: Code) -> bool:
    """Whether the code binds B, is latched, or stands in the audit."""
    return code in rig.bound_by("B") or ("B", code) in rig.latched() or rig.standing("B", code)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_of_a_unit_ends_as_the_table_says(fault: Fault) -> None:
    @virtual
    async def happens() -> None:
        sign = 1.0 if fault.asked_kw > 0.0 else -1.0
        async with SiteRig() as rig:
            rig.plan(sign * 120.0)
            rig.plan(fault.asked_kw, "B")
            await rig.run(6.0)
            assert rig.held_kw("B") == pytest.approx(fault.asked_kw, abs=RESOLUTION_KW)
            rows = len(rig.memory.rows)
            rig.plant.inject(fault.kind, "B", **fault.how)

            await rig.until(
                lambda: rig.state("B") == fault.state and _said(rig, fault.code),
                within_s=fault.within_s,
            )
            found_s = rig.now_s
            most_kw = fault.left_kw + RESOLUTION_KW
            assert abs(rig.decision("B").cleared.power_kw) <= most_kw
            assert rig.journaled("B", fault.code, rows)
            if fault.obeys:
                await rig.until(lambda: abs(rig.held_kw("B")) <= most_kw, within_s=2 * TICK_S)
            else:
                await rig.until(lambda: rig.held_kw("B") == 0.0, within_s=REVERT_S)

            # whatever is asked now: nothing of it arrives
            rig.plan(sign * 95.0, "B")
            rig.plan(sign * 380.0)
            rig.plan(sign * 390.0, priority=Priority.SCHEDULE, source="schedule")
            rig.step(49.0 if sign > 0.0 else 51.0)
            await rig.always(lambda: abs(rig.held_kw("B")) <= most_kw, for_s=5.0)
            passed_kw = [each.power_kw for each in rig.told("B", found_s + 2 * TICK_S)]
            assert all(abs(power_kw) <= most_kw for power_kw in passed_kw)
            if fault.other_way:
                rig.plan(-sign * 30.0, "B")
                await rig.until(lambda: rig.held_kw("B") == -sign * 30.0, within_s=4.0)
                back_kw = [each.power_kw for each in rig.told("B", found_s + 2 * TICK_S)]
                assert max(sign * power_kw for power_kw in back_kw) <= most_kw
                rig.plan(0.0, "B")
                await rig.until(lambda: rig.held_kw("B") == 0.0, within_s=4.0)

            await _ends(rig, fault, sign)

    happens()


async def _ends(rig: SiteRig, fault: Fault, sign: float) -> None:
    """The cause goes away: by itself, or only after an operator's reset."""
    rig.step(50.0)
    rig.plan(sign * 60.0, "B")
    if fault.cure is not None:
        rig.plant.inject(fault.kind, "B", **fault.cure)
    else:
        rig.plant.clear(fault.kind)
    if fault.latches:
        await rig.always(lambda: rig.held_kw("B") == 0.0, for_s=8.0)
        assert rig.state("B") == "tripped"
        rig.reset("B")
    await rig.until(
        lambda: sign * rig.held_kw("B") > 1.0 and rig.state("B") in ("running", "limited"),
        within_s=fault.returns_s + 1.0,
    )
    assert abs(rig.held_kw("B")) <= fault.left_kw + 3.0  # it ramps, it does not jump


@virtual
async def test_what_is_latched_by_a_cause_that_lasts_trips_again() -> None:
    async with SiteRig() as rig:
        rig.plan(160.0)
        await rig.run(5.0)
        rig.plant.inject("fault_bits", "B", bits=1)
        await rig.until(lambda: rig.state("B") == "tripped", within_s=VALUE_S)
        await rig.run(3.0)
        rig.reset("B")
        await rig.always(lambda: rig.held_kw("B") == 0.0, for_s=3.0)
        assert rig.state("B") == "tripped"


@virtual
async def test_heat_fades_then_stops_then_trips() -> None:
    async with SiteRig() as rig:
        rig.plan(100.0, "B")
        await rig.run(12.0)
        assert rig.held_kw("B") == 100.0
        rows = len(rig.memory.rows)
        rig.plant.inject("over_temperature", "B", temperature_c=65.0, rate_c_per_s=1.0)
        hot_c: list[float] = []

        def within() -> bool:
            """Never more than what the temperature of two polls ago allows."""
            hot_c.append(rig.plant.unit("B").battery.hottest_c)
            then_c = hot_c[max(len(hot_c) - 1 - round((TWO_POLLS_S + TICK_S) * 100), 0)]
            left_kw = 100.0 * min(max((55.0 - then_c) / 10.0, 0.0), 1.0)
            return rig.held_kw("B") <= left_kw + RESOLUTION_KW

        await rig.always(within, for_s=22.0)
        assert 45.0 < hot_c[-1] < 55.0
        assert rig.state("B") == "limited"
        assert Code.TEMPERATURE_HIGH in rig.bound_by("B")
        await rig.always(within, for_s=20.0)
        assert rig.state("B") == "tripped"
        assert ("B", Code.OVER_TEMPERATURE) in rig.latched()
        assert rig.journaled("B", Code.TEMPERATURE_HIGH, rows)
        assert rig.journaled("B", Code.OVER_TEMPERATURE, rows)
        rig.plant.clear()
        await rig.run(40.0)
        assert rig.state("B") == "tripped"
        assert rig.held_kw("B") == 0.0


@virtual
async def test_over_current_is_scaled_at_once_and_released_slowly() -> None:
    async with SiteRig() as rig:
        rig.plan(90.0, "B")
        await rig.run(10.0)
        rig.plant.inject("current_surge", "B", current_a=130.0, for_s=1.5)
        await rig.until(lambda: rig.state("B") == "limited", within_s=VALUE_S)
        await rig.run(TICK_S)
        assert 0.0 < rig.held_kw("B") <= 90.0 * 0.95 * 100.0 / 130.0 + RESOLUTION_KW
        await rig.run(3.0)
        low_kw = rig.held_kw("B")
        await rig.run(10.0)
        assert rig.held_kw("B") == pytest.approx(low_kw + 10.0, abs=0.5)  # one percent a second


# --- values that stand still ---


@pytest.mark.parametrize("point", [Point.POWER_KW, Point.CURRENT_A, Point.VOLTAGE_V])
def test_a_register_that_does_not_move_while_others_do_stops_the_unit(point: Point) -> None:
    window_s = profile(V2).points[point].frozen_s
    assert window_s is not None

    @virtual
    async def sticks() -> None:
        async with SiteRig() as rig:
            rig.plan(10.0, "B")
            await rig.run(5.0)
            rows = len(rig.memory.rows)
            rig.plant.inject("stuck_register", "B", point=str(point))
            turn_s = rig.now_s
            rig.plan(100.0, "B")  # now everything else moves, once in each window

            def stopped() -> bool:
                nonlocal turn_s
                if rig.now_s - turn_s > 12.0:
                    turn_s = rig.now_s
                    rig.plan(100.0 if rig.held_kw("B") < 50.0 else 10.0, "B")
                return rig.state("B") in ("stopped", "lost")

            await rig.until(stopped, within_s=2.0 * window_s + VALUE_S)
            assert Code.READING_FROZEN in rig.bound_by("B")
            assert rig.journaled("B", Code.READING_FROZEN, rows)
            await rig.until(lambda: rig.held_kw("B") == 0.0, within_s=2 * TICK_S)
            rig.plan(95.0, "B")
            await rig.always(lambda: rig.held_kw("B") == 0.0, for_s=4.0)
            rig.plant.clear()
            await rig.until(lambda: rig.held_kw("B") > 1.0, within_s=3 * 0.5 + VALUE_S)

    sticks()


@virtual
async def test_a_state_of_charge_that_stands_still_stops_both_directions() -> None:
    async with SiteRig() as rig:
        rig.plan(100.0, "B")
        await rig.run(12.0)
        rig.plant.inject("stuck_register", "B", point="soc_pct")
        # one percent of 250 kWh passes in 90 s at 100 kW, a little less at its terminals
        await rig.until(lambda: rig.state("B") == "stopped", within_s=95.0)
        assert Code.READING_FROZEN in rig.bound_by("B")
        await rig.run(TICK_S)
        rig.plan(-50.0, "B")
        await rig.always(lambda: rig.held_kw("B") == 0.0, for_s=3.0)
        freed_s = rig.now_s
        rig.plant.clear()
        await rig.until(lambda: rig.held_kw("B") < -1.0, within_s=VALUE_S + 1.0)
        assert all(each.power_kw <= 0.0 for each in rig.told("B", freed_s))


# --- setpoints that do not stay ---


@virtual
async def test_a_rival_is_found_within_three_writes_and_left_alone() -> None:
    async with SiteRig() as rig:
        rig.plan(40.0, "B")
        await rig.run(5.0)
        rows, since_s = len(rig.memory.rows), rig.now_s
        rig.plant.inject("rival", "B", power_kw=50.0, period_s=1.0)
        await rig.until(lambda: ("B", Code.RIVAL) in rig.latched(), within_s=THREE_ACTS_S)
        rivals = [each for each in rig.told("B", since_s) if each.source == "rival"]
        assert len(rivals) == 3
        assert rig.journaled("B", Code.RIVAL, rows)
        assert rig.journaled("B", Code.READ_BACK_CHANGED, rows)
        await rig.run(2 * TICK_S)
        assert rig.state("B") == "tripped"
        assert rig.held_kw("B") == 0.0
        assert rig.plant.unit("B").holding[0x2003] == 0
        # from now on nobody fights over the register, and the device's own timer runs out
        alone_s = rig.now_s
        rig.plan(95.0, "B")
        await rig.run(8.0)
        ours = [each for each in rig.told("B", alone_s) if each.source == "modbus"]
        assert not ours
        assert rig.plant.unit("B").timed_out
        assert rig.gives_kw("B") == pytest.approx(0.0, abs=0.1)
        assert rig.proofs_s[-1] >= rig.now_s - 2 * TICK_S  # leaving it alone is an outcome
        rig.plant.clear()
        await rig.run(5.0)
        assert rig.state("B") == "tripped"
        rig.reset("B")
        await rig.until(lambda: rig.held_kw("B") == 95.0, within_s=14.0)


@virtual
async def test_a_setpoint_that_fell_back_is_alarmed_and_sent_again() -> None:
    async with SiteRig() as rig:
        rig.plan(40.0, "B")
        await rig.run(5.3)
        rows, unit = len(rig.memory.rows), rig.plant.unit("B")
        unit.set_setpoint(0, "by itself")
        await rig.until(lambda: rig.alarmed(Code.READ_BACK_REVERTED, "B"), within_s=TWO_POLLS_S)
        await rig.until(lambda: rig.held_kw("B") > 0.0, within_s=2 * TICK_S)
        await rig.until(lambda: rig.held_kw("B") == 40.0, within_s=5.0)
        assert rig.journaled("B", Code.READ_BACK_REVERTED, rows)
        await rig.run(TWO_POLLS_S)
        assert not rig.alarmed(Code.READ_BACK_REVERTED, "B")
        assert not rig.latched()


@virtual
async def test_a_revert_timer_that_was_switched_off_is_set_again() -> None:
    async with SiteRig() as rig:
        rig.plan(40.0, "B")
        await rig.run(5.3)
        rows, holding = len(rig.memory.rows), rig.plant.unit("B").holding
        holding[0x2005] = 0
        await rig.until(lambda: holding[0x2005] == 5, within_s=VALUE_S)
        assert rig.journaled("B", Code.REVERT_NOT_SET, rows)
        await rig.run(TWO_POLLS_S)
        assert not rig.alarmed(Code.REVERT_NOT_SET, "B")
        assert rig.held_kw("B") == 40.0


@virtual
async def test_alarm_bits_are_told_and_nothing_else() -> None:
    async with SiteRig() as rig:
        rig.plan(160.0)
        await rig.run(5.0)
        rows = len(rig.memory.rows)
        rig.plant.inject("alarm_bits", "B", bits=2)
        await rig.until(lambda: rig.alarmed(Code.DEVICE_ALARM, "B"), within_s=VALUE_S)
        assert rig.journaled("B", Code.DEVICE_ALARM, rows)
        await rig.always(lambda: rig.held_kw("B") >= 39.0, for_s=3.0)
        rig.plant.clear()
        await rig.until(lambda: not rig.alarmed(Code.DEVICE_ALARM, "B"), within_s=VALUE_S)


@virtual
async def test_read_backs_that_cannot_be_read_are_told() -> None:
    async with SiteRig() as rig:
        rig.plan(160.0)
        await rig.run(5.0)
        rig.plant.inject("exception", "B", code=4, function=3)
        await rig.until(lambda: rig.alarmed(Code.READING_MISSING, "B"), within_s=VALUE_S)
        rig.plant.clear()
        await rig.until(lambda: not rig.alarmed(Code.READING_MISSING, "B"), within_s=VALUE_S)


@virtual
async def test_the_alarm_of_a_latch_stands_as_long_as_the_latch() -> None:
    async with SiteRig() as rig:
        rig.plant.inject("exception", "B", code=2, function=4)
        await rig.until(lambda: rig.alarmed(Code.READING_MISSING, "B"), within_s=VALUE_S)
        rig.plant.inject("fault_bits", "B", bits=1)
        await rig.run(3.0)
        assert not rig.alarmed(Code.DEVICE_FAULT, "B"), "nothing was read"
        rig.plant.clear("exception")
        await rig.until(lambda: rig.state("B") == "tripped", within_s=60.0)
        await rig.always(lambda: rig.alarmed(Code.DEVICE_FAULT, "B"), for_s=2.0)
        rig.plant.clear()
        rig.reset("B")
        await rig.until(lambda: rig.state("B") == "ready", within_s=3.0)
        assert not rig.house.alarms.standing()


@virtual
async def test_no_alarm_outlives_its_fault() -> None:
    async with SiteRig() as rig:
        rig.plan(160.0)
        for kind, how in (
            ("slow", {"delay_s": 0.8}),
            ("silence", {}),
            ("exception", {"code": 4, "function": 4}),
            ("voltage", {"pack_v": 5.0}),
            ("current_surge", {"current_a": 600.0}),
            ("pmu_loss", {}),
            ("pmu_sixty_hertz", {}),
            ("interlock_silent", {}),
        ):
            target = "B" if KINDS[kind].target in ("unit", "slave") else ""
            rig.plant.inject(kind, target, **how)
            await rig.run(6.0)
            assert rig.house.alarms.standing(), kind
            rig.plant.clear(kind)
            await rig.until(lambda: not rig.house.alarms.standing(), within_s=22.0)


# --- interlock inputs ---


@pytest.mark.parametrize("scope", ["site", "NORTH", "B"])
def test_an_interlock_that_opens_trips_its_scope(scope: str) -> None:
    held = {"site": NAMES, "NORTH": ("A", "B"), "B": ("B",)}[scope]

    @virtual
    async def opens() -> None:
        async with SiteRig(site_settings(interlock_inputs=(fire_input(scope),))) as rig:
            rig.plan(120.0)
            rig.step(49.7)
            await rig.run(5.0)
            rows = len(rig.memory.rows)
            rig.plant.inject("interlock")
            await rig.until(
                lambda: all(rig.state(name) == "tripped" for name in held), within_s=VALUE_S
            )
            await rig.run(TICK_S)
            assert rig.sum_kw(*held) == 0.0
            assert all(Code.INTERLOCK_INPUT in rig.bound_by(name) for name in held)
            assert rig.journaled(scope, Code.INTERLOCK_INPUT, rows)
            await rig.run(3.0)
            others = [name for name in NAMES if name not in held]
            assert not others or rig.sum_kw(*others) == pytest.approx(168.0, abs=0.5)
            rig.plant.clear("interlock")
            rig.plan(380.0)
            await rig.always(lambda: all(rig.held_kw(name) == 0.0 for name in held), for_s=5.0)
            rig.reset(scope)
            await rig.until(lambda: rig.sum_kw(*held) > 1.0, within_s=VALUE_S)

    opens()


@virtual
async def test_an_open_interlock_holds_over_a_restart() -> None:
    async with SiteRig() as rig:
        rig.plan(120.0)
        await rig.run(3.0)
        rig.plant.inject("interlock")
        await rig.until(lambda: rig.house.gate.shut_by is not None, within_s=VALUE_S)
        await rig.run(0.1)
        await rig.kill()
        await rig.start(rig.trips(), ready=False)
        rig.plant.clear("interlock")
        rig.plan(120.0)
        await rig.always(lambda: rig.sum_kw() == 0.0, for_s=6.0)
        assert (rig.house.gate.shut_by or "").startswith(Code.INTERLOCK_INPUT)


@pytest.mark.parametrize("kind", ["interlock_silent", "silence", "connection_refused"])
def test_a_silent_interlock_stops_and_returns_by_itself(kind: str) -> None:
    @virtual
    async def falls_silent() -> None:
        async with SiteRig() as rig:
            rig.plan(120.0)
            await rig.run(5.0)
            rows = len(rig.memory.rows)
            rig.plant.inject(kind, "fire")
            await rig.until(
                lambda: all(rig.state(name) == "stopped" for name in NAMES),
                within_s=2.0 + TICK_S,  # its value's own age
            )
            await rig.run(TICK_S)
            assert rig.sum_kw() == 0.0
            assert not rig.latched()
            assert all(Code.INTERLOCK_SILENT in rig.bound_by(name) for name in NAMES)
            assert rig.journaled("input:fire", Code.INTERLOCK_SILENT, rows)
            rig.plan(380.0)
            await rig.always(lambda: rig.sum_kw() == 0.0, for_s=4.0)
            rig.plant.clear(kind)
            await rig.until(lambda: rig.sum_kw() > 1.0, within_s=RETRY_MAX_S + VALUE_S)

    falls_silent()


# --- frequency ---


def _without_device_frequency() -> Settings:
    """Units that measure no frequency of their own: nothing is left when the PMU goes."""
    settings, v2 = site_settings(), profile(V2)
    points = dict(v2.points)
    del points[Point.FREQUENCY_HZ]
    return replace(settings, profiles={V2: replace(v2, points=points)})


PMU_FAULTS: tuple[tuple[str, dict[str, Any], Code, float], ...] = (
    ("pmu_loss", {"close": False}, Code.PMU_LOST, 2.0),  # no frame for so long
    ("pmu_loss", {"close": True}, Code.PMU_LOST, 2.0),
    ("pmu_sixty_hertz", {}, Code.FREQUENCY_IMPLAUSIBLE, TICK_S),
    ("pmu_time_quality", {}, Code.PMU_TIME, 1.0 + TICK_S),
)


@pytest.mark.parametrize(("kind", "how", "code", "told_s"), PMU_FAULTS)
def test_the_next_source_answers_when_the_pmu_cannot(
    kind: str, how: dict[str, Any], code: Code, told_s: float
) -> None:
    @virtual
    async def goes() -> None:
        async with SiteRig() as rig:
            rig.step(49.7)
            await rig.run(3.0)
            rows = len(rig.memory.rows)
            rig.plant.inject(kind, **how)
            await rig.until(lambda: _source(rig) == "A", within_s=PMU.max_age_s + TICK_S)
            await rig.always(lambda: abs(rig.sum_kw() - 48.0) <= 0.5, for_s=told_s + 0.1)
            assert rig.alarmed(code, "pmu")
            assert rig.journaled("pmu", code, rows)
            rig.step(49.8)  # the device's own frequency is acted on
            await rig.run(VALUE_S + 0.5)
            assert rig.sum_kw() == pytest.approx(32.0, abs=0.5)
            rig.plant.clear(kind)
            await rig.until(lambda: _source(rig) == "pmu", within_s=8.0 + 1.0)
            await rig.run(1.2)
            assert not rig.alarmed(code, "pmu")

    goes()


@pytest.mark.parametrize(("kind", "how", "code", "told_s"), PMU_FAULTS)
def test_without_any_source_droop_is_held_then_faded(
    kind: str, how: dict[str, Any], code: Code, told_s: float
) -> None:
    @virtual
    async def goes() -> None:
        async with SiteRig(_without_device_frequency()) as rig:
            rig.plan(80.0)
            rig.step(49.7)
            await rig.run(5.0)
            rig.plant.inject(kind, **how)
            await rig.until(lambda: _source(rig) == "", within_s=PMU.max_age_s + TICK_S)
            gone_s = rig.now_s

            def follows() -> bool:
                fading_s = rig.now_s - gone_s - 0.5
                late_kw = 48.0 * min(max(1.0 - fading_s / 5.0, 0.0), 1.0)
                early_kw = 48.0 * min(max(1.0 - (fading_s + 2 * TICK_S) / 5.0, 0.0), 1.0)
                droop_kw = rig.sum_kw() - 80.0
                return early_kw - 0.5 <= droop_kw <= late_kw + 48.0 / 5.0 * TICK_S + 0.5

            await rig.always(follows, for_s=6.5)
            assert rig.sum_kw() == pytest.approx(80.0, abs=0.5)  # the base goes on
            assert rig.alarmed(Code.FREQUENCY_LOST)
            assert rig.journaled(SITE, Code.FREQUENCY_LOST)
            rig.plant.clear(kind)
            await rig.until(lambda: _source(rig) == "pmu", within_s=8.0 + 1.0)
            await rig.run(1.0)
            assert rig.sum_kw() == pytest.approx(128.0, abs=0.5)
            assert not rig.alarmed(Code.FREQUENCY_LOST)

    goes()


@virtual
async def test_sixty_hertz_is_never_a_command() -> None:
    async with SiteRig(_without_device_frequency()) as rig:
        rig.plant.inject("pmu_sixty_hertz")
        await rig.always(lambda: rig.sum_kw() == 0.0, for_s=10.0)
        assert rig.house.decision is not None
        assert rig.house.decision.droop_owed_kw == 0.0


@virtual
async def test_garbage_between_frames_costs_no_answer() -> None:
    async with SiteRig() as rig:
        rig.plant.inject("pmu_garbage", count=137)
        await rig.run(2.0)
        rig.step(49.7)
        await rig.until(lambda: abs(rig.sum_kw() - 48.0) <= 0.5, within_s=0.4)
        assert _source(rig) == "pmu"
        assert rig.house.pmus[0].counters().bad_bytes > 1000
        assert rig.house.heartbeat.lag().late == 0


@virtual
async def test_the_second_pmu_takes_over_from_the_first() -> None:
    second = PmuSettings(id="pmu2", host="10.0.0.6", port=4712, idcode=8)
    async with SiteRig(site_settings(pmus=(PMU, second))) as rig:
        rig.step(49.7)
        await rig.run(2.0)
        rig.plant.inject("pmu_loss", "pmu")
        await rig.until(lambda: _source(rig) == "pmu2", within_s=PMU.max_age_s + TICK_S)
        rig.step(49.6)
        await rig.until(lambda: abs(rig.sum_kw() - 64.0) <= 0.5, within_s=0.5)
        rig.plant.clear("pmu_loss")
        await rig.until(lambda: _source(rig) == "pmu", within_s=9.0)


# --- those who talk nonsense ---


class Babbler(asyncio.Protocol):
    """Answers whatever it is sent with random bytes, some of them almost right."""

    def __init__(self, dice: random.Random, said: list[int]) -> None:
        self._dice, self._said = dice, said

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.say(data[: self._dice.randrange(9)])

    def say(self, start: bytes) -> None:
        """One random string."""
        if not self.transport.is_closing():
            self.transport.write(start + self._dice.randbytes(self._dice.randrange(120)))
            self._said.append(1)


@virtual
async def test_ten_thousand_random_strings_disturb_nobody() -> None:
    """A second PMU and the device of unit D say nothing but nonsense; the rest is controlled."""
    second = PmuSettings(id="pmu2", host="10.0.0.6", port=4712, idcode=8)
    async with SiteRig(site_settings(pmus=(PMU, second))) as rig:
        rig.plan(90.0)
        rig.plant.inject("connection_refused", "D")
        rig.plant.inject("pmu_loss", "pmu2", close=True)
        await rig.until(lambda: rig.state("D") == "lost", within_s=VALUE_S)
        dice, said = random.Random(3), [0]
        babblers: list[Babbler] = []

        def listen() -> Babbler:
            babblers.append(Babbler(dice, said))
            return babblers[-1]

        loop = asyncio.get_running_loop()
        at = rig.settings.units[3].modbus
        assert at is not None
        servers = [
            await loop.create_server(listen, second.host, second.port),
            await loop.create_server(listen, at.host, at.port),
        ]
        await rig.run(12.0)
        tracemalloc.start()
        before = _held_bytes()
        starts = [b"", b"\xaa\x01", b"\xaa\x31\x00\x30\x00\x08"]
        while len(said) < 10_000:
            for babbler in babblers:
                for _ in range(150):
                    babbler.say(dice.choice(starts))
            await rig.run(0.1)
        assert _held_bytes() - before < 300_000
        tracemalloc.stop()
        rig.step(49.7)
        await rig.run(1.0)
        assert rig.sum_kw(*OTHERS[:2], "B") == pytest.approx(138.0, abs=0.5)
        assert _source(rig) == "pmu"
        assert rig.house.pmus[1].counters().bad_bytes > 50_000
        assert rig.state("D") in ("lost", "starting", "stopped")
        assert not rig.told("D", rig.now_s - 10.0) or rig.held_kw("D") == 0.0
        assert rig.house.heartbeat.lag().late == 0
        assert not rig.alarmed(Code.TASK_RESTARTED)
        for server in servers:
            server.close()


def _held_bytes() -> int:
    """What the client and the drivers hold."""
    mine = [tracemalloc.Filter(True, f"*/vppd/{part}/*") for part in ("grid", "field")]
    found = tracemalloc.take_snapshot().filter_traces(mine).statistics("filename")
    return sum(each.size for each in found)


def _source(rig: SiteRig) -> str:
    decision = rig.house.decision
    return decision.frequency_source if decision is not None else "none"


def test_every_fault_of_the_plant_is_tried_here() -> None:
    """A new kind of fault must say what the site does about it."""
    tried = {fault.kind for fault in FAULTS} | {kind for kind, *_ in PMU_FAULTS}
    tried |= {"alarm_bits", "rival", "stuck_register", "interlock", "interlock_silent"}
    tried |= {"pmu_garbage", "frequency_step"}  # here, by name
    tried |= {"device_reset", "drop"}  # tests/test_site.py
    tried |= {name for name in KINDS if name.startswith("pmu_")}  # tests/test_pmu_faults.py
    tried |= {name for name in KINDS if name.startswith("exchange_")}  # tests/test_exchange_http.py
    untried = {
        "frequency_ramp",  # a step is harder
    }
    tried |= TRIED  # tests/test_site_devices.py, whose sites have a BMS, an inverter and a meter
    assert not untried & tried
    assert tried | untried == set(KINDS)
