"""The response at the devices, the whole site on virtual time: what was promised is what is given,
begun within half a second, whole within one, sustained five minutes; and when nothing may be."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.site_rig import NAMES, PLAIN_DROOP, SiteRig, site_settings
from tests.virtual_time import virtual
from vppd.core.alarms import Code
from vppd.core.settings_response import (
    FfrSettings,
    HeadroomSettings,
    RideThroughRow,
    RideThroughSettings,
)
from vppd.duty import Duty

PROMISED = HeadroomSettings(up_pct=40.0, down_pct=40.0)
ADAPTIVE = replace(PLAIN_DROOP, soc_adaptive=True, temperature_adaptive=True)
ALL_RESOLUTIONS_KW = 0.1 * len(NAMES)


def adopt(rig: SiteRig, change: Callable[[Duty], Duty]) -> None:
    rig.house.tick.duty = change(rig.house.tick.duty)


def given_kw(rig: SiteRig) -> float:
    """What all the devices really give now."""
    return sum(rig.gives_kw(name) for name in rig.names)


def curve_kw(rig: SiteRig) -> float:
    decision = rig.house.decision
    assert decision is not None
    return decision.droop_curve_kw


async def answered(rig: SiteRig, hz: float, from_kw: float) -> None:
    """A step of frequency: begun in 0.5 s, whole in 1 s, exact within 5 % of the plain curve."""
    rig.step(hz)
    owed_kw = -160.0 * (hz - 50.0)
    began_s = await rig.until(lambda: abs(given_kw(rig) - from_kw) > 0.02 * abs(owed_kw), 0.5)
    assert began_s <= 0.5
    await rig.until(lambda: abs(given_kw(rig) - from_kw - owed_kw) <= 0.05 * abs(owed_kw), 1.0)
    await rig.run(1.0)
    assert curve_kw(rig) == pytest.approx(owed_kw, abs=0.2)
    assert given_kw(rig) - from_kw == pytest.approx(owed_kw, abs=0.05 * abs(owed_kw))


@virtual
async def test_steps_are_answered_in_half_a_second_and_whole_in_one() -> None:
    async with SiteRig(site_settings(droop=ADAPTIVE)) as rig:
        adopt(rig, lambda duty: replace(duty, headroom=PROMISED))
        for hz in (49.7, 49.55, 50.3, 49.88, 50.45):
            await answered(rig, hz, 0.0)
            rig.step(50.0)
            await rig.run(2.5)
            assert given_kw(rig) == pytest.approx(0.0, abs=ALL_RESOLUTIONS_KW)


@virtual
async def test_on_top_of_a_base_that_headroom_cut() -> None:
    async with SiteRig(site_settings(droop=ADAPTIVE)) as rig:
        adopt(rig, lambda duty: replace(duty, headroom=PROMISED))
        rig.plan(390.0)
        await rig.run(12.0)
        assert given_kw(rig) == pytest.approx(240.0, abs=1.0)
        decision = rig.house.decision
        assert decision is not None
        assert Code.HEADROOM in [each.why for each in decision.clamps]
        assert decision.promise is not None
        assert decision.promise.up_kw == pytest.approx(160.0, abs=0.5)
        await answered(rig, 49.55, 240.0)
        rig.step(50.0)
        await rig.run(3.0)
        await answered(rig, 50.45, 240.0)


@virtual
async def test_ramps_and_noise_are_followed() -> None:
    async with SiteRig(site_settings(droop=ADAPTIVE)) as rig:
        adopt(rig, lambda duty: replace(duty, headroom=PROMISED))
        hz, errors = 49.8, []
        for step in range(120):
            hz = 49.8 - 0.005 * step + 0.004 * math.sin(1.7 * step)
            rig.step(hz)
            await rig.run(0.1)
            if step > 20:
                errors.append(abs(given_kw(rig) - curve_kw(rig)) / abs(curve_kw(rig)))
        lag_s = 0.4  # a frame, a tick, a write and the inverter's own lag, at 8 kW/s of 32 to 128
        assert max(errors) <= 8.0 * lag_s / 46.0 + 0.05
        await rig.run(1.5)
        assert given_kw(rig) == pytest.approx(curve_kw(rig), rel=0.05)


@pytest.mark.parametrize(("soc_pct", "hz"), [(22.0, 49.0), (83.5, 51.0)])
def test_from_a_charge_that_is_just_admitted_it_lasts_five_minutes(
    soc_pct: float, hz: float
) -> None:
    @virtual
    async def run() -> None:
        async with SiteRig(site_settings(("A",), droop=ADAPTIVE)) as rig:
            adopt(rig, lambda duty: replace(duty, headroom=PROMISED))
            for name in rig.names:
                rig.plant.unit(name).battery.soc_pct = soc_pct
            await rig.run(12.0)
            decision = rig.house.decision
            assert decision is not None
            assert decision.promise is not None
            promise = decision.promise
            assert (promise.short_up_kw if hz < 50.0 else promise.short_down_kw) == 0.0
            rig.step(hz)
            await rig.run(1.0)
            for _ in range(60):
                assert given_kw(rig) == pytest.approx(-40.0 * (hz - 50.0), rel=0.05)
                await rig.run(5.0 - 1.0 / 60.0)

    run()


@virtual
async def test_a_shortfall_alarms_before_any_event() -> None:
    async with SiteRig(site_settings(droop=ADAPTIVE)) as rig:
        adopt(rig, lambda duty: replace(duty, headroom=PROMISED))
        await rig.run(8.0)
        assert not rig.alarmed(Code.HEADROOM_SHORT)
        for name in NAMES:
            rig.plant.unit(name).battery.soc_pct = 20.5
        await rig.until(lambda: rig.alarmed(Code.HEADROOM_SHORT), 20.0)
        for name in NAMES:
            rig.plant.unit(name).battery.soc_pct = 50.0
        await rig.until(lambda: not rig.alarmed(Code.HEADROOM_SHORT), 20.0)


@virtual
async def test_fast_response_is_whole_within_a_second_whatever_the_droop_ramp() -> None:
    slow = replace(PLAIN_DROOP, ramp_kw_per_s=5.0)
    ffr = FfrSettings(
        enabled=True, trigger_low_hz=49.6, power_kw=200.0, duration_s=5.0, recovery_s=5.0
    )
    async with SiteRig(site_settings(droop=slow)) as rig:
        adopt(rig, lambda duty: replace(duty, ffr=ffr))
        rig.step(49.55)
        await rig.until(lambda: given_kw(rig) >= 0.95 * 200.0, 1.0)
        assert rig.alarmed(Code.FFR)
        await rig.run(4.0)
        assert given_kw(rig) == pytest.approx(200.0, abs=1.0)
        decision = rig.house.decision
        assert decision is not None
        assert decision.ffr_kw == decision.droop_owed_kw == 200.0
        assert decision.droop_curve_kw == pytest.approx(72.0, abs=0.2)
        await rig.run(60.0)
        assert given_kw(rig) == pytest.approx(72.0, abs=1.0)
        assert not rig.alarmed(Code.FFR)


@virtual
async def test_outside_its_window_a_distribution_site_ceases_and_comes_back_by_the_ramp() -> None:
    rows = (RideThroughRow(when="frequency_above", bound=50.4, within_s=0.2),)
    rules = RideThroughSettings(profile="distribution", rows=rows, stable_s=10.0)
    async with SiteRig() as rig:
        adopt(rig, lambda duty: replace(duty, ride_through=rules))
        rig.plan(100.0)
        await rig.run(5.0)
        rig.step(50.45)
        await rig.until(lambda: rig.sum_kw() == 0.0, 0.5)
        assert rig.alarmed(Code.RIDE_THROUGH)
        assert curve_kw(rig) == pytest.approx(-72.0, abs=0.2)
        await rig.always(lambda: rig.sum_kw() == 0.0, for_s=5.0)
        rig.step(50.0)
        await rig.run(1.0)
        await rig.always(lambda: rig.sum_kw() == 0.0, for_s=8.0)
        await rig.run(2.0)
        assert 0.0 < rig.sum_kw() < 90.0
        assert not rig.alarmed(Code.RIDE_THROUGH)
        await rig.run(3.0)
        assert rig.sum_kw() == pytest.approx(100.0, abs=ALL_RESOLUTIONS_KW)


@virtual
async def test_orders_and_operators_switch_droop() -> None:
    async with SiteRig() as rig:
        adopt(rig, lambda duty: duty.switched(False, "order"))
        rig.step(49.7)
        await rig.run(2.0)
        assert rig.sum_kw() == 0.0
        assert rig.alarmed(Code.DROOP_OFF)
        adopt(rig, lambda duty: duty.switched(True, "order"))
        await rig.run(2.0)
        assert rig.sum_kw() == pytest.approx(48.0, abs=ALL_RESOLUTIONS_KW)
