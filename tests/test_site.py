"""The whole site on virtual time: the house against the plant, judged at the plant's devices."""

import math
import random
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from tests.site_rig import (
    NAMES,
    PLAIN_DROOP,
    POLL_S,
    RESOLUTION_KW,
    TICK_S,
    TWO_POLLS_S,
    SiteRig,
    site_settings,
    with_safety,
)
from tests.virtual_time import virtual
from vppd.core.alarms import Code
from vppd.core.model import SITE, Priority, UnitId
from vppd.core.settings import ConnectionSettings, DroopSettings
from vppd.core.settings_market import MarketSettings
from vppd.sim.unit import AUTO, ENABLE, HEARTBEAT, MODE, TIMEOUT
from vppd.spine.journal import SqliteJournal

ALL_RESOLUTIONS_KW = len(NAMES) * RESOLUTION_KW + 1e-3  # a PMU sends a 32-bit float
OTHERS = ("A", "C", "D")
RETRY_MAX_S = 10.0  # a dead device is asked again at least so often
LOST_WITHIN_S = 2.5 + TICK_S  # the greatest age of a believed reading


# --- frequency ---


@virtual
async def test_a_step_of_frequency_is_answered_within_a_second() -> None:
    async with SiteRig() as rig:
        rig.step(49.70)
        await rig.run(1.0)
        assert rig.house.decision is not None
        assert rig.house.decision.droop_kw == pytest.approx(48.0, abs=0.01)
        assert rig.sum_kw() == pytest.approx(48.0, abs=ALL_RESOLUTIONS_KW)
        assert all(rig.state(name) == "running" for name in NAMES)
        await rig.run(1.0)
        assert sum(map(rig.gives_kw, NAMES)) == pytest.approx(48.0, abs=ALL_RESOLUTIONS_KW)


@virtual
async def test_a_bystander_that_fails_is_told_and_control_goes_on() -> None:
    class Broken:
        fails = True

        def due(self, now_s: float) -> bool:
            return now_s > 0.0

        def look(self, *_: object) -> None:
            if self.fails:
                raise ArithmeticError("of nothing")

    async with SiteRig() as rig:
        broken = rig.house.campus = Broken()  # type: ignore[assignment]
        rig.plan(20.0)
        await rig.run(2.0)
        assert rig.alarmed(Code.BYSTANDER_FAILED)
        assert rig.sum_kw() == pytest.approx(20.0, abs=ALL_RESOLUTIONS_KW)
        broken.fails = False
        await rig.run(1.0)
        assert not rig.alarmed(Code.BYSTANDER_FAILED)


@virtual
async def test_a_high_frequency_charges() -> None:
    async with SiteRig() as rig:
        rig.step(50.20)
        await rig.run(1.0)
        assert rig.sum_kw() == pytest.approx(-32.0, abs=ALL_RESOLUTIONS_KW)
        assert rig.alarmed(Code.FREQUENCY_HIGH)
        rig.step(50.0)
        await rig.run(1.0)
        assert rig.sum_kw() == 0.0
        assert not rig.alarmed(Code.FREQUENCY_HIGH)


@virtual
async def test_droop_goes_on_top_of_the_base() -> None:
    async with SiteRig() as rig:
        rig.plan(120.0)
        await rig.run(5.0)
        assert rig.sum_kw() == pytest.approx(120.0, abs=ALL_RESOLUTIONS_KW)
        rig.step(49.70)
        await rig.run(1.0)
        assert rig.sum_kw() == pytest.approx(168.0, abs=ALL_RESOLUTIONS_KW)
        rig.step(50.50)  # -80 against +120: nobody charges while another discharges
        await rig.run(1.5)
        assert rig.sum_kw() == pytest.approx(40.0, abs=ALL_RESOLUTIONS_KW)
        assert all(rig.held_kw(name) >= 0.0 for name in NAMES)


# --- the base point ---


@virtual
async def test_the_base_ramps_both_ways() -> None:
    async with SiteRig() as rig:
        rig.plan(200.0)
        await rig.run(2.0)
        assert rig.sum_kw() == pytest.approx(80.0, abs=5.0)  # 10 kW/s each
        await rig.run(3.5)
        assert rig.sum_kw() == pytest.approx(200.0, abs=ALL_RESOLUTIONS_KW)
        rig.plan(0.0)
        await rig.run(2.0)
        assert rig.sum_kw() == pytest.approx(120.0, abs=5.0)
        for name in NAMES:
            steps = [each.power_kw for each in rig.told(name)]
            jumps_kw = [abs(b - a) for a, b in pairwise(steps)]
            assert max(jumps_kw) <= 1.2, name  # a tick's worth of 10 kW/s, and a resolution


@virtual
async def test_an_order_expires_by_itself() -> None:
    async with SiteRig() as rig:
        rig.plan(40.0, for_s=10.0)
        await rig.run(9.0)
        assert rig.sum_kw() == pytest.approx(40.0, abs=ALL_RESOLUTIONS_KW)
        await rig.run(3.0)
        assert rig.sum_kw() == 0.0
        assert all(rig.state(name) == "ready" for name in NAMES)


@virtual
async def test_an_operator_outranks_the_schedule_and_expires() -> None:
    async with SiteRig() as rig:
        rig.plan(80.0, priority=Priority.SCHEDULE, source="schedule")
        await rig.run(4.0)
        rig.plan(-40.0, for_s=12.0)
        await rig.run(6.0)
        assert rig.sum_kw() == pytest.approx(-40.0, abs=ALL_RESOLUTIONS_KW)
        rig.plan(100.0, priority=Priority.SCHEDULE, source="schedule")  # newer, but lower
        await rig.always(lambda: rig.sum_kw() < -39.0, for_s=3.0)
        await rig.run(10.0)
        assert rig.sum_kw() == pytest.approx(100.0, abs=ALL_RESOLUTIONS_KW)


@virtual
async def test_a_pinned_unit_keeps_its_share_and_takes_no_droop() -> None:
    async with SiteRig() as rig:
        rig.plan(160.0)
        rig.plan(-10.0, "B")
        await rig.run(8.0)
        assert rig.held_kw("B") == -10.0
        assert rig.sum_kw() == pytest.approx(160.0, abs=ALL_RESOLUTIONS_KW)
        rig.step(49.70)
        await rig.run(1.0)
        assert rig.held_kw("B") == -10.0
        assert rig.sum_kw(*OTHERS) == pytest.approx(218.0, abs=ALL_RESOLUTIONS_KW)


@virtual
async def test_reactive_power_goes_by_rating_and_stays_in_the_circle() -> None:
    async with SiteRig() as rig:
        rig.plan(40.0, reactive_kvar=80.0)
        await rig.run(3.0)
        assert [rig.held_kvar(name) for name in NAMES] == [20.0] * 4
        rig.plan(400.0, reactive_kvar=400.0)
        await rig.run(12.0)
        for name in NAMES:
            assert rig.held_kw(name) == 100.0
            assert rig.held_kvar(name) == pytest.approx(math.sqrt(110**2 - 100**2), abs=0.1)
            assert rig.state(name) == "limited"


def _market(directory: Path, *rows: str) -> MarketSettings:
    text = "date,block,power_kw\n" + "".join(f"{row}\n" for row in rows)
    (directory / "schedule.csv").write_text(text)
    return MarketSettings(schedule="schedule.csv", horizon_s=20.0)


@virtual
async def _schedule(directory: Path) -> None:
    # 05:30 IST is 00:00 UTC: block 23; ten seconds before its end
    market = _market(directory, "2026-01-01,23,80", "2026-01-01,24,-40")
    settings = site_settings(market=market, config_dir=str(directory))
    async with SiteRig(settings, start=datetime(2026, 1, 1, 0, 14, 50, tzinfo=UTC)) as rig:
        await rig.until(lambda: abs(rig.sum_kw() - 80.0) < ALL_RESOLUTIONS_KW, within_s=4.0)
        assert rig.house.decision is not None
        assert rig.house.decision.base_source == "schedule"
        await rig.run(10.0)
        assert rig.sum_kw() == pytest.approx(-40.0, abs=ALL_RESOLUTIONS_KW)
        await rig.end("schedule")
        await rig.always(lambda: rig.sum_kw() < -39.0, for_s=10.0)
        await rig.until(lambda: rig.sum_kw() == 0.0, within_s=12.0)
        assert rig.house.decision.base_source == "idle"


def test_a_schedule_is_delivered_and_fades_out_when_its_task_dies(tmp_path: Path) -> None:
    _schedule(tmp_path)


def _schedule_alarm(rig: SiteRig) -> str:
    standing = rig.house.alarms.standing()
    return next((each.text for each in standing if each.code is Code.SCHEDULE_FAILED), "")


@virtual
async def _broken_schedule(directory: Path) -> None:
    file = directory / "schedule.csv"
    market = _market(directory, "2026-01-01,23,80", "2026-01-01,24,80")
    aside = file.rename(directory / "aside.csv")
    settings = site_settings(market=market, config_dir=str(directory))
    async with SiteRig(settings, start=datetime(2026, 1, 1, 0, 1, tzinfo=UTC)) as rig:
        await rig.until(lambda: bool(_schedule_alarm(rig)), within_s=4.0)
        assert _schedule_alarm(rig).endswith(
            "schedule.csv: no such file or directory; nothing is scheduled: 0 kW but for orders,"
            " operators and droop"
        )
        aside.rename(file)
        await rig.until(lambda: abs(rig.sum_kw() - 80.0) < ALL_RESOLUTIONS_KW, within_s=12.0)
        assert not _schedule_alarm(rig)
        good = file.read_text()
        file.write_text("nonsense\n")
        await rig.until(lambda: bool(_schedule_alarm(rig)), within_s=4.0)
        assert _schedule_alarm(rig).startswith("schedule.csv:1: header 'nonsense'")
        assert _schedule_alarm(rig).endswith("; the schedule read before stays in force")
        await rig.always(lambda: rig.sum_kw() > 79.0, for_s=30.0)
        file.write_text(good)
        await rig.until(lambda: not _schedule_alarm(rig), within_s=4.0)
        file.rename(aside)
        await rig.until(lambda: bool(_schedule_alarm(rig)), within_s=4.0)
        aside.rename(file)
        await rig.until(lambda: not _schedule_alarm(rig), within_s=4.0)


def test_a_broken_schedule_says_what_applies_and_one_that_comes_back_is_read(
    tmp_path: Path,
) -> None:
    _broken_schedule(tmp_path)


# --- limits ---


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_wish_takes_a_device_beyond_its_limits(seed: int) -> None:
    @virtual
    async def wild() -> None:
        draw = random.Random(seed)
        connection = ConnectionSettings(export_max_kw=250.0, import_max_kw=120.0)
        droop = DroopSettings(max_power_kw=400.0)
        async with SiteRig(site_settings(connection=connection, droop=droop), seed=seed) as rig:
            for _ in range(25):
                who = draw.choice([SITE, *NAMES])
                kvar = draw.choice([0.0, draw.uniform(-600, 600)])
                rig.plan(
                    draw.choice([draw.uniform(-900, 900), 1e6, -1e6]),
                    who,
                    priority=draw.choice(list(Priority)),
                    for_s=draw.uniform(1.0, 20.0),
                    source=draw.choice(["operator", "schedule", "agc"]),
                    reactive_kvar=kvar,
                    droop=draw.random() < 0.5,
                    adds=who == SITE and draw.random() < 0.2,
                )
                rig.step(draw.choice([50.0, draw.uniform(49.0, 51.0), draw.uniform(46.0, 54.0)]))
                await rig.run(draw.uniform(0.05, 4.0))
                for name in NAMES:
                    kva = math.hypot(rig.held_kw(name), rig.held_kvar(name))
                    assert kva <= 110.0 + 1e-6, rig.account()
            told_kw = [each.power_kw for name in NAMES for each in rig.told(name)]
            assert max(told_kw) > 50.0
            assert min(told_kw) < -20.0
            assert all(abs(power_kw) <= 100.0 for power_kw in told_kw)
            low_kw, high_kw = rig.worst_sum_kw()
            assert low_kw >= -120.0 - 1e-6
            assert high_kw <= 250.0 + 1e-6

    wild()


@pytest.mark.parametrize(("base_kw", "droop_hz"), [(80.0, 49.0), (-30.0, 51.0)])
def test_the_connection_holds_at_the_devices(base_kw: float, droop_hz: float) -> None:
    @virtual
    async def held() -> None:
        connection = ConnectionSettings(export_max_kw=100.0, import_max_kw=50.0)
        async with SiteRig(site_settings(connection=connection)) as rig:
            rig.plan(base_kw)
            await rig.run(4.0)
            rig.step(droop_hz)
            await rig.run(2.0)
            bound_kw = 100.0 if base_kw > 0.0 else -50.0
            assert rig.sum_kw() == pytest.approx(bound_kw, abs=ALL_RESOLUTIONS_KW)
            assert all(rig.state(name) == "limited" for name in NAMES)
            assert all(Code.CONNECTION in rig.bound_by(name) for name in NAMES)
            low_kw, high_kw = rig.worst_sum_kw()
            assert low_kw >= -50.0 - 1e-6
            assert high_kw <= 100.0 + 1e-6

    held()


@virtual
async def test_what_a_lost_unit_may_still_give_counts_at_the_connection() -> None:
    connection = ConnectionSettings(export_max_kw=160.0)
    async with SiteRig(site_settings(connection=connection)) as rig:
        rig.plan(160.0)
        await rig.run(6.0)
        rig.plant.inject("silence", "B")
        await rig.always(lambda: rig.sum_kw() <= 160.0 + 1e-6, for_s=4.0)
        assert rig.state("B") == "lost"
        assert rig.held_kw("B") == 40.0  # its own timer has not run out yet
        await rig.run(6.0)
        assert rig.held_kw("B") == 0.0
        assert rig.sum_kw() == pytest.approx(160.0, abs=ALL_RESOLUTIONS_KW)


@virtual
async def test_an_empty_unit_is_covered_by_the_others_and_may_still_charge() -> None:
    async with SiteRig() as rig:
        rig.plant.inject("soc", "B", soc_pct=9.0)
        await rig.run(TWO_POLLS_S)
        rig.plan(160.0)
        await rig.run(8.0)
        assert rig.held_kw("B") == 0.0
        assert (rig.state("B"), rig.bound_by("B")) == ("stopped", (Code.SOC_LOW,))
        assert rig.sum_kw(*OTHERS) == pytest.approx(160.0, abs=ALL_RESOLUTIONS_KW)
        rig.step(49.70)
        await rig.run(1.0)
        assert rig.sum_kw(*OTHERS) == pytest.approx(208.0, abs=ALL_RESOLUTIONS_KW)
        rig.step(50.0)
        rig.plan(-160.0)
        await rig.run(13.0)
        assert rig.held_kw("B") == pytest.approx(-40.0, abs=RESOLUTION_KW)
        assert rig.state("B") == "running"


# --- a unit that is lost, and returns ---


@virtual
async def test_a_silent_unit_is_lost_and_the_others_take_over() -> None:
    async with SiteRig() as rig:
        rig.plan(120.0)
        rig.step(49.70)
        await rig.run(6.0)
        assert rig.sum_kw() == pytest.approx(168.0, abs=ALL_RESOLUTIONS_KW)
        rig.plant.inject("silence", "B")
        await rig.until(lambda: rig.state("B") == "lost", within_s=LOST_WITHIN_S)
        assert rig.decision("B").cleared.power_kw == 0.0
        await rig.run(2 * TICK_S)  # its droop share moves at once, its base at the ramp
        assert rig.sum_kw(*OTHERS) >= 90.0 + 48.0 - ALL_RESOLUTIONS_KW
        await rig.run(2.0)
        assert rig.sum_kw(*OTHERS) == pytest.approx(168.0, abs=ALL_RESOLUTIONS_KW)
        for name in OTHERS:
            steps = [each.power_kw for each in rig.told(name, rig.now_s - 2.0)]
            jumps_kw = [b - a for a, b in pairwise(steps)]
            assert max(jumps_kw) <= 1.2, name
        await rig.until(lambda: rig.held_kw("B") == 0.0, within_s=5.0)


@virtual
async def test_a_unit_that_returns_ramps_up_while_the_others_carry_the_rest() -> None:
    async with SiteRig() as rig:
        rig.plan(160.0)
        await rig.run(5.0)
        rig.plant.inject("silence", "B", for_s=8.0)
        await rig.run(8.0)
        since_s = rig.now_s
        await rig.until(lambda: rig.state("B") == "starting", within_s=RETRY_MAX_S)
        waited_s = await rig.until(lambda: rig.state("B") == "running", within_s=3 * POLL_S)
        assert waited_s >= 1.9 * POLL_S  # three good read-backs
        assert rig.held_kw("B") <= 2.0
        await rig.always(lambda: abs(rig.sum_kw() - 160.0) <= 3.0, for_s=8.0)
        assert [rig.held_kw(name) for name in NAMES] == [pytest.approx(40.0, abs=0.1)] * 4
        steps = [each.power_kw for each in rig.told("B", since_s)]
        assert max(b - a for a, b in pairwise(steps)) <= 1.2


@virtual
async def test_a_device_reset_is_programmed_enabled_and_ramped_again() -> None:
    async with SiteRig() as rig:
        rig.plan(160.0)
        await rig.run(6.0)
        rows, since_s = len(rig.memory.rows), rig.now_s
        rig.plant.inject("device_reset", "B")
        holding = rig.plant.unit("B").holding
        assert (holding[MODE], holding[ENABLE], holding[TIMEOUT], holding[HEARTBEAT]) == (0,) * 4
        await rig.until(
            lambda: (holding[MODE], holding[ENABLE], holding[TIMEOUT]) == (AUTO, 1, 5),
            within_s=TWO_POLLS_S + TICK_S,
        )
        assert rig.journaled("B", Code.DEVICE_RESET, rows)
        assert rig.held_kw("B") <= 3.0
        await rig.run(6.0)
        assert rig.held_kw("B") == pytest.approx(40.0, abs=RESOLUTION_KW)
        assert holding[HEARTBEAT] > 0
        assert not rig.alarmed(Code.DEVICE_RESET, "B")
        steps = [each.power_kw for each in rig.told("B", since_s)]
        assert max(b - a for a, b in pairwise(steps)) <= 1.2


@virtual
async def test_a_connection_dropped_in_between_costs_nothing() -> None:
    async with SiteRig() as rig:
        rig.plan(160.0)
        await rig.run(6.0)
        rig.plant.inject("drop", "B")
        await rig.always(lambda: rig.held_kw("B") >= 39.0, for_s=10.0)
        assert rig.state("B") == "running"


@virtual
async def test_a_slow_unit_slows_nobody() -> None:
    async with SiteRig() as rig:
        rig.plant.inject("slow", "B", delay_s=0.3)
        await rig.run(2.0)
        since_s = rig.now_s
        rig.plan(400.0)
        await rig.run(8.0)
        for name in OTHERS:  # a ramp changes by its resolution at every tick: ten writes a second
            times_s = [each.at_s for each in rig.told(name, since_s + 0.2)]
            gaps_s = [b - a for a, b in pairwise(times_s)]
            assert max(gaps_s) <= 0.1 + 0.011, name
        assert rig.state("B") == "running"
        assert rig.held_kw("B") > 15.0  # its own ramp counts only what it acknowledged
        assert rig.house.heartbeat.lag().late == 0


# --- the operator ---


@virtual
async def test_emergency_stop_is_at_once_and_stays() -> None:
    async with SiteRig() as rig:
        rig.plan(200.0, reactive_kvar=40.0)
        rig.step(49.70)
        await rig.run(6.0)
        rig.house.gate.trip(SITE, Code.EMERGENCY_STOP, "pressed", "tester")
        await rig.until(lambda: rig.sum_kw() == 0.0, within_s=TICK_S)
        rig.plan(400.0, reactive_kvar=40.0)
        await rig.always(lambda: all(rig.held_kw(name) == 0.0 for name in NAMES), for_s=5.0)
        assert all(rig.held_kvar(name) == 0.0 for name in NAMES)
        assert all(rig.plant.unit(name).holding[ENABLE] == 0 for name in NAMES)
        assert {rig.state(name) for name in NAMES} == {"tripped"}
        assert all(rig.bound_by(name) == (Code.EMERGENCY_STOP,) for name in NAMES)
        assert rig.journaled(SITE, Code.EMERGENCY_STOP)
        rig.reset(SITE)
        await rig.run(12.0)
        assert rig.sum_kw() == pytest.approx(400.0, abs=ALL_RESOLUTIONS_KW)


@virtual
async def test_a_site_that_is_freed_never_moves_the_way_of_an_older_order() -> None:
    async with SiteRig() as rig:
        rig.house.gate.trip(SITE, Code.EMERGENCY_STOP, "pressed", "tester")
        rig.plan(300.0)
        await rig.run(9.0)
        rig.plan(-100.0)
        await rig.run(0.5)
        rig.reset(SITE)
        await rig.run(5.0)
        assert rig.sum_kw() == pytest.approx(-100.0, abs=ALL_RESOLUTIONS_KW)
        assert all(each.power_kw <= 0.0 for name in NAMES for each in rig.told(name))


@virtual
async def test_a_disabled_unit_gives_nothing_until_enabled() -> None:
    async with SiteRig() as rig:
        rig.plan(160.0)
        await rig.run(6.0)
        rig.house.gate.disable(UnitId("B"), "tester")
        await rig.until(lambda: rig.held_kw("B") == 0.0, within_s=2 * TICK_S)
        rig.plan(90.0, "B")
        await rig.always(lambda: rig.held_kw("B") == 0.0, for_s=5.0)
        assert (rig.state("B"), rig.plant.unit("B").holding[ENABLE]) == ("disabled", 0)
        assert Code.DISABLED in rig.bound_by("B")
        rig.house.gate.enable(UnitId("B"), "tester")
        await rig.until(lambda: rig.held_kw("B") == pytest.approx(90.0), within_s=10.0)
        assert rig.plant.unit("B").holding[ENABLE] == 1


# --- latches over restarts ---


@virtual
async def _restarted(path: Path) -> None:
    settings = site_settings()
    rig = SiteRig(settings)

    def trouble(code: Code, active: bool, text: str) -> None:
        raise AssertionError(f"{code} {active} {text}")

    rig.clock.now_s()  # the journal asks it from a thread
    first = SqliteJournal(path, rig.clock, trouble)
    rig.journal = first
    opened = await first.open()
    assert opened.trips == ()
    async with rig:
        rig.employ("journal", first.run)
        rig.plan(160.0)
        await rig.run(6.0)
        rig.plant.inject("fault_bits", "B", bits=4)
        await rig.until(lambda: rig.state("B") == "tripped", within_s=TWO_POLLS_S + TICK_S)
        rig.house.gate.disable(UnitId("C"), "tester")
        await rig.run(1.0)
        rig.plant.clear()
        await rig.kill()
        await first.close()

        second = SqliteJournal(path, rig.clock, trouble)
        rig.journal = second
        opened = await second.open()
        assert opened.trips is not None
        await rig.start(opened.trips, ready=False)
        rig.employ("journal", second.run)
        rig.step(50.0)
        rig.plan(160.0)
        await rig.run(10.0)
        assert (rig.state("B"), rig.state("C")) == ("tripped", "disabled")
        assert (rig.held_kw("B"), rig.held_kw("C")) == (0.0, 0.0)
        assert rig.bound_by("B") == (Code.DEVICE_FAULT,)
        assert rig.sum_kw("A", "D") == pytest.approx(160.0, abs=ALL_RESOLUTIONS_KW)
        rig.reset("B")
        await rig.run(8.0)
        assert rig.state("B") == "running"
        await rig.stop()
        await second.close()

    third = SqliteJournal(path, rig.clock, trouble)
    opened = await third.open()
    assert opened.trips is not None
    assert [(row.scope, row.code) for row in opened.trips if row.action == "disable"] == [
        ("C", Code.DISABLED)
    ]
    assert [row.scope for row in opened.trips if row.action == "trip"] == []
    await third.close()


def test_a_trip_and_a_disable_outlive_the_daemon(tmp_path: Path) -> None:
    _restarted(tmp_path / "journal.db")


@virtual
async def test_trips_that_cannot_be_read_shut_the_site() -> None:
    async with SiteRig() as rig:
        await rig.kill()
        await rig.start(None, ready=False)
        rig.plan(160.0)
        await rig.run(5.0)
        assert {rig.state(name) for name in NAMES} == {"tripped"}
        assert (rig.house.gate.shut_by or "").startswith(Code.TRIP_STATE_UNREADABLE)
        assert rig.sum_kw() == 0.0
        rig.reset(SITE)
        await rig.run(6.0)
        assert rig.sum_kw() == pytest.approx(160.0, abs=ALL_RESOLUTIONS_KW)


@virtual
async def test_operator_orders_are_not_resumed_after_a_restart() -> None:
    async with SiteRig() as rig:
        rig.plan(160.0)
        await rig.run(6.0)
        await rig.stop()
        await rig.start()
        await rig.always(lambda: rig.sum_kw() == 0.0, for_s=5.0)


# --- when vppd itself stops ---


@virtual
async def test_sigterm_tells_every_unit_zero_before_exit() -> None:
    async with SiteRig() as rig:
        rig.plan(200.0, reactive_kvar=80.0)
        rig.step(49.70)
        await rig.run(6.0)
        assert rig.sum_kw() > 240.0
        since_s = rig.now_s
        await rig.stop()
        assert rig.now_s - since_s <= 0.5
        for name in NAMES:
            assert (rig.held_kw(name), rig.held_kvar(name)) == (0.0, 0.0)
            assert [each.source for each in rig.told(name, since_s)] == ["modbus"]
        assert rig.reason is not None
        assert rig.reason.text == "SIGTERM"
        assert not rig.reason.stuck


@virtual
async def test_sigterm_does_not_wait_long_for_a_unit_that_is_gone() -> None:
    async with SiteRig() as rig:
        rig.plan(200.0)
        await rig.run(6.0)
        rig.plant.inject("silence", "B")
        since_s = rig.now_s
        await rig.stop()
        assert rig.now_s - since_s <= 3.5
        assert all(rig.told(name, since_s)[0].at_s - since_s <= 0.5 for name in OTHERS)
        assert rig.sum_kw(*OTHERS) == 0.0
        await rig.until(lambda: rig.held_kw("B") == 0.0, within_s=5.0)


@virtual
async def test_after_kill_9_the_devices_stop_by_themselves() -> None:
    async with SiteRig() as rig:
        rig.plan(200.0)
        rig.step(49.70)
        await rig.run(6.0)
        since_s = rig.now_s
        await rig.kill()
        assert rig.sum_kw() > 240.0
        await rig.until(lambda: rig.sum_kw() == 0.0, within_s=5.0)
        for name in NAMES:
            assert [each.source for each in rig.told(name, since_s)] == ["timeout"]
        await rig.run(1.0)
        assert all(abs(rig.gives_kw(name)) < 0.1 for name in NAMES)


@virtual
async def test_the_dead_man_asks_zero_when_the_tick_stops() -> None:
    async with SiteRig() as rig:
        rig.plan(200.0)
        await rig.run(6.0)
        await rig.end("tick")
        took_s = await rig.until(lambda: rig.sum_kw() == 0.0, within_s=0.5 + 0.2)
        assert took_s > 0.3
        assert rig.alarmed(Code.DEAD_MAN)
        assert rig.house.gate.shut_by == Code.DEAD_MAN
        assert rig.journaled(SITE, Code.DEAD_MAN)
        proofs = len(rig.proofs_s)
        await rig.always(lambda: rig.sum_kw() == 0.0, for_s=10.0)
        assert len(rig.proofs_s) == proofs  # the watchdog starves, systemd restarts


@virtual
async def test_a_dead_switch_does_not_starve_the_watchdog() -> None:
    async with SiteRig() as rig:
        rig.plan(200.0)
        await rig.run(6.0)
        for name in NAMES:
            rig.plant.inject("silence", name)
        await rig.run(30.0)
        assert {rig.state(name) for name in NAMES} == {"lost"}
        gaps_s = [b - a for a, b in pairwise(rig.proofs_s)]
        assert max(gaps_s) <= 0.2
        assert rig.now_s - rig.proofs_s[-1] <= 0.2


# --- a start ---


@virtual
async def test_a_start_reads_before_it_writes_and_never_jumps() -> None:
    """A unit found running at 60 kW by another's hand is not jumped to 100."""
    async with SiteRig(site_settings(("A",))) as rig:
        rig.plan(60.0)
        await rig.run(8.0)
        await rig.kill()
        await rig.run(1.0)
        since_s = rig.now_s
        await rig.start(ready=False)
        rig.plan(100.0)
        await rig.run(12.0)
        told_kw = [each.power_kw for each in rig.told("A", since_s)]
        assert told_kw[-1] == 100.0
        rises_kw = [b - a for a, b in pairwise(told_kw)]
        assert max(rises_kw) <= 1.2


@virtual
async def test_a_start_without_one_device_opens_the_others() -> None:
    async with SiteRig() as rig:
        await rig.stop()
        rig.plant.inject("connection_refused", "B")
        await rig.start(ready=False)
        rig.plan(150.0)
        await rig.run(8.0)
        assert rig.state("B") == "lost"
        assert rig.sum_kw(*OTHERS) == pytest.approx(150.0, abs=ALL_RESOLUTIONS_KW)
        rig.plant.clear()
        await rig.until(lambda: rig.state("B") == "running", within_s=RETRY_MAX_S + 3.0)


@virtual
async def test_another_units_narrow_ramp_is_its_own() -> None:
    async with SiteRig(with_safety(site_settings(), "B", ramp_max_kw_per_s=1.0)) as rig:
        rig.plan(160.0)
        await rig.run(6.0)
        assert rig.sum_kw() == pytest.approx(160.0, abs=2.0)
        assert rig.held_kw("B") <= 6.2


@virtual
async def test_adaptive_droop_moves_to_the_unit_that_can() -> None:
    droop = replace(PLAIN_DROOP, soc_adaptive=True)
    async with SiteRig(site_settings(droop=droop)) as rig:
        rig.plant.inject("soc", "B", soc_pct=14.0)  # 4 of 10 percent above the minimum
        await rig.run(TWO_POLLS_S)
        rig.step(49.70)
        await rig.run(1.0)
        assert rig.sum_kw() == pytest.approx(48.0, abs=ALL_RESOLUTIONS_KW)
        assert rig.held_kw("B") < 0.5 * rig.held_kw("A")
