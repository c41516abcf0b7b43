"""What the site does when a frequency source goes wrong: each fault of a PMU against the whole site
on virtual time. While the grid stands still at 49.7 Hz, nothing that a source does may move the
site's power by more than the configured step.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tests.site_rig import PMU, TICK_S, V2, SiteRig, profile, site_settings
from tests.virtual_time import virtual
from vppd.core.alarms import Code
from vppd.core.decision import Decision
from vppd.core.model import SITE, Point
from vppd.core.settings import PmuSettings, Settings
from vppd.core.settings_sources import SourceSettings

SOURCES = SourceSettings(devices_count=True)
SECOND = PmuSettings(id="pmu2", host="10.0.0.6", port=4712, idcode=8)
THIRD = PmuSettings(id="pmu3", host="10.0.0.7", port=4712, idcode=9)
P_MAX_KW = 400.0
STEP_KW = P_MAX_KW * SOURCES.switch_step_pct / 100.0
ROUNDING_KW = 4 * 0.1  # four units, each rounded to its register
OWED_KW = 48.0  # at 49.7 Hz
FROZEN_S = SOURCES.frozen_s + 0.5


@dataclass(frozen=True)
class Trouble:
    """One fault of the first PMU, and what is declared about it."""

    kind: str
    how: Mapping[str, Any] = field(default_factory=dict)
    source: str = "pmu2"  # who is listened to meanwhile
    code: Code | None = None
    told_of: str = "pmu"
    within_s: float = PMU.max_age_s + TICK_S

    @property
    def name(self) -> str:
        return "-".join([self.kind, *(str(value) for value in self.how.values())])


TROUBLES = (
    Trouble("pmu_loss", {"close": False}, code=Code.PMU_LOST, within_s=2.5),
    Trouble("pmu_loss", {"close": True}, code=Code.PMU_LOST),
    Trouble("pmu_wrong_time", {"ahead_s": 3600.0}, source="pmu", code=Code.PMU_TIME, within_s=1.2),
    Trouble("pmu_wrong_time", {"ahead_s": -3600.0}, source="pmu", code=Code.PMU_TIME, within_s=1.5),
    Trouble("pmu_time_quality", code=Code.PMU_TIME, within_s=1.2),
    Trouble("pmu_frozen", code=Code.PMU_FROZEN, within_s=FROZEN_S),
    Trouble("pmu_sixty_hertz", code=Code.FREQUENCY_IMPLAUSIBLE),
    Trouble(
        "pmu_jump", {"offset_hz": 1.0}, code=Code.FREQUENCY_DISAGREES, told_of=SITE, within_s=2
    ),
    Trouble(
        "pmu_jump", {"offset_hz": -1.0}, code=Code.FREQUENCY_DISAGREES, told_of=SITE, within_s=2
    ),
    Trouble(
        "pmu_jump", {"offset_hz": -0.2}, code=Code.FREQUENCY_DISAGREES, told_of=SITE, within_s=2
    ),
    Trouble("pmu_garbage", {"count": 200}, source="pmu"),
    Trouble("pmu_double", source="pmu"),
    Trouble("pmu_late", {"frames": 1}, source="pmu"),
    Trouble("pmu_late", {"frames": 8}, source="pmu"),
    Trouble("pmu_dead_bus", {"decay_s": 0.3, "fall_hz_per_s": 0.5}, code=Code.DEAD_BUS),
    Trouble("pmu_dead_bus", {"decay_s": 0.01, "fall_hz_per_s": 0.0}, code=Code.DEAD_BUS),
)


class Steps:
    """The largest change of power between two ticks, and the largest away from 0."""

    def __init__(self, rig: SiteRig) -> None:
        self.worst_kw = self.worst_told_kw = self.worst_rise_kw = 0.0
        self.low_kw, self.high_kw = rig.sum_kw(), rig.sum_kw()
        self._rig, self._seen, self._told_kw = rig, rig.house.decision, rig.sum_kw()

    def look(self) -> bool:
        made = self._rig.house.decision
        if made is not None and made is not self._seen:
            before_kw = self._seen.droop_kw if self._seen is not None else 0.0
            self.worst_kw = max(self.worst_kw, abs(made.droop_kw - before_kw))
            rise_kw = abs(made.droop_kw) - abs(before_kw)
            self.worst_rise_kw = max(self.worst_rise_kw, rise_kw)
            told_kw = self._rig.sum_kw()
            self.worst_told_kw = max(self.worst_told_kw, abs(told_kw - self._told_kw))
            self._seen, self._told_kw = made, told_kw
            self.low_kw, self.high_kw = min(self.low_kw, told_kw), max(self.high_kw, told_kw)
        return True


def _decision(rig: SiteRig) -> Decision:
    assert rig.house.decision is not None
    return rig.house.decision


def _without_devices(pmus: tuple[PmuSettings, ...]) -> Settings:
    """Units that measure no frequency of their own."""
    v2 = profile(V2)
    points = dict(v2.points)
    del points[Point.FREQUENCY_HZ]
    return replace(
        site_settings(sources=SOURCES, pmus=pmus), profiles={V2: replace(v2, points=points)}
    )


async def _through(rig: SiteRig, trouble: Trouble, source: str) -> Steps:
    """Settle at 49.7 Hz, let it go wrong, wait, and let it heal; the steps of power meanwhile."""
    rig.step(49.7)
    await rig.run(2.0)
    assert rig.sum_kw() == pytest.approx(OWED_KW, abs=ROUNDING_KW)
    steps, rows = Steps(rig), len(rig.memory.rows)
    rig.plant.inject(trouble.kind, "pmu", **trouble.how)

    def declared() -> bool:
        steps.look()
        told = trouble.code is None or rig.journaled(trouble.told_of, trouble.code, rows)
        return told and _decision(rig).frequency_source == source

    await rig.until(declared, within_s=trouble.within_s)
    await rig.always(steps.look, for_s=3.0)
    assert _decision(rig).frequency_source == source
    rig.plant.clear(trouble.kind)
    await rig.until(
        lambda: steps.look() and _decision(rig).frequency_source == "pmu",
        within_s=8.0 + SOURCES.return_s + 1.0,  # a lost one is tried again after 8 s at most
    )
    await rig.always(steps.look, for_s=3.0)
    assert rig.sum_kw() == pytest.approx(OWED_KW, abs=ROUNDING_KW)
    assert not [each for each in rig.house.alarms.standing() if each.code in SOURCE_CODES]
    return steps


SOURCE_CODES = {
    *(Code.PMU_LOST, Code.PMU_TIME, Code.PMU_FROZEN, Code.DEAD_BUS, Code.FREQUENCY_SOURCE),
    *(Code.FREQUENCY_DISAGREES, Code.FREQUENCY_JUMP, Code.FREQUENCY_LOST),
    Code.FREQUENCY_IMPLAUSIBLE,
}


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda each: each.name)
def test_of_three_sources_one_goes_wrong_without_a_bump(trouble: Trouble) -> None:
    """Two PMUs and the devices' own: a majority stands."""

    @virtual
    async def goes() -> None:
        async with SiteRig(site_settings(sources=SOURCES, pmus=(PMU, SECOND))) as rig:
            steps = await _through(rig, trouble, trouble.source)
            assert steps.worst_kw <= STEP_KW
            assert steps.worst_told_kw <= STEP_KW + ROUNDING_KW

    goes()


@pytest.mark.parametrize(
    "trouble", [each for each in TROUBLES if each.kind != "pmu_jump"], ids=lambda each: each.name
)
def test_beside_the_devices_alone_there_is_no_bump_either(trouble: Trouble) -> None:
    """One PMU: on a dead bus nothing is believed, for the devices hang on it too; then power may
    go to 0 as fast as it likes, and nowhere else."""
    dead = trouble.code is Code.DEAD_BUS

    @virtual
    async def goes() -> None:
        async with SiteRig(site_settings(sources=SOURCES)) as rig:
            fallback = "" if dead else "A"
            source = fallback if trouble.source == "pmu2" else trouble.source
            steps = await _through(rig, trouble, source)
            assert (steps.worst_rise_kw if dead else steps.worst_kw) <= STEP_KW
            assert steps.high_kw <= OWED_KW + STEP_KW

    goes()


@pytest.mark.parametrize("offset_hz", [1.0, -1.0])
def test_a_jump_of_the_only_pmu_waits_for_the_devices(offset_hz: float) -> None:
    """The PMU stays the chosen one, and drives no more than the devices would."""

    @virtual
    async def goes() -> None:
        async with SiteRig(site_settings(sources=SOURCES)) as rig:
            how = {"offset_hz": offset_hz}
            trouble = Trouble("pmu_jump", how, "pmu", Code.FREQUENCY_DISAGREES, SITE, 2.0)
            steps = await _through(rig, trouble, "pmu")
            assert steps.worst_kw <= STEP_KW
            assert steps.high_kw <= OWED_KW + ROUNDING_KW
            assert steps.low_kw >= -ROUNDING_KW

    goes()


@pytest.mark.parametrize("offset_hz", [1.0, -1.0, 0.2, -0.2])
def test_of_two_that_disagree_the_one_that_asks_for_less_rules(offset_hz: float) -> None:
    @virtual
    async def goes() -> None:
        async with SiteRig(_without_devices((PMU, SECOND))) as rig:
            how = {"offset_hz": offset_hz}
            trouble = Trouble("pmu_jump", how, "pmu", Code.FREQUENCY_DISAGREES, SITE, 2.0)
            steps = await _through(rig, trouble, "pmu")
            assert steps.worst_kw <= STEP_KW
            assert steps.high_kw <= OWED_KW + ROUNDING_KW
            assert steps.low_kw >= -ROUNDING_KW

    goes()


@virtual
async def test_two_dead_buses_drive_nothing_and_the_third_source_everything() -> None:
    async with SiteRig(site_settings(sources=SOURCES, pmus=(PMU, SECOND, THIRD))) as rig:
        rig.step(49.7)
        await rig.run(2.0)
        for name in ("pmu", "pmu2"):
            rig.plant.inject("pmu_dead_bus", name)
        await rig.always(lambda: abs(rig.sum_kw() - OWED_KW) <= STEP_KW, for_s=3.0)
        assert _decision(rig).frequency_source == "pmu3"
        assert rig.sum_kw() == pytest.approx(OWED_KW, abs=ROUNDING_KW)
        rig.plant.inject("pmu_dead_bus", "pmu3")
        await rig.run(1.0)
        assert _decision(rig).frequency_source == ""
        await rig.run(6.0)
        assert rig.sum_kw() == 0.0


@virtual
async def test_a_real_step_is_answered_at_once_by_two_that_see_it() -> None:
    """Beyond what is plausible for one frame: the second source confirms it."""
    async with SiteRig(_without_devices((PMU, SECOND))) as rig:
        rig.step(49.0)
        await rig.until(lambda: rig.sum_kw() > 40.0, within_s=0.5)
        await rig.until(lambda: abs(rig.sum_kw() - 160.0) <= ROUNDING_KW, within_s=0.6)
        assert not rig.alarmed(Code.FREQUENCY_DISAGREES)


@virtual
async def test_a_real_step_is_answered_by_one_that_repeats_it() -> None:
    async with SiteRig(_without_devices((PMU,))) as rig:
        rig.step(49.0)
        rows = len(rig.memory.rows)
        await rig.run(0.25)
        assert rig.sum_kw() == 0.0
        await rig.until(lambda: rig.sum_kw() > 20.0, within_s=0.3)
        assert rig.journaled(SITE, Code.FREQUENCY_JUMP, rows - 5)


@virtual
async def test_a_source_that_flaps_does_not_take_the_site_with_it() -> None:
    """Good for less than `return_s` each time: nobody goes back to it."""
    async with SiteRig(site_settings(sources=SOURCES, pmus=(PMU, SECOND))) as rig:
        rig.step(49.7)
        await rig.run(2.0)
        changes, before = 0, "pmu"
        for _ in range(5):
            for act in (
                lambda: rig.plant.inject("pmu_time_quality", "pmu"),
                lambda: rig.plant.clear("pmu_time_quality"),
            ):
                act()
                end_s = rig.now_s + 1.0
                while rig.now_s < end_s:
                    await rig.run(0.05)
                    source = _decision(rig).frequency_source
                    changes += source != before
                    before = source
        assert (changes, before) == (1, "pmu2")
        assert rig.house.watch.last is not None
        assert rig.house.watch.last.why.startswith("pmu: good again")
        assert rig.alarmed(Code.FREQUENCY_SOURCE)
        await rig.run(SOURCES.return_s + 0.5)
        assert _decision(rig).frequency_source == "pmu"
        assert not rig.alarmed(Code.FREQUENCY_SOURCE)


@pytest.mark.parametrize(("kind", "count"), [("pmu_double", "duplicates"), ("pmu_late", "late")])
def test_double_and_late_frames_are_counted_and_dropped(kind: str, count: str) -> None:
    @virtual
    async def goes() -> None:
        async with SiteRig(site_settings(sources=SOURCES)) as rig:
            rig.plant.inject(kind)
            await rig.run(3.0)
            assert getattr(rig.house.pmus[0].counters().sequence, count) >= 25
            assert rig.house.heartbeat.lag().late == 0
            assert rig.house.pmus[0].counters().published <= 45

    goes()
