"""Each fault of a PMU against the whole site, as real C37.118 frames on virtual time: what is
declared about it happens, and the power that the devices give, looked at every 100 ms, never moves
further than it may. A base plan of 20 kW stands the whole time; the grid stands still, once inside
the deadband and once at 49.7 Hz.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tests.site_rig import PLAIN_DROOP, PMU, TICK_S, V2, SiteRig, profile, site_settings
from tests.virtual_time import START_S, virtual
from vppd.core.alarms import Code
from vppd.core.model import SITE, Point
from vppd.core.settings import PmuSettings, Settings
from vppd.core.settings_response import RideThroughRow, RideThroughSettings
from vppd.core.settings_sources import SourceSettings
from vppd.sim.faults.registry import KINDS
from vppd.sim.pmu_server import PHASE_V

SECOND = PmuSettings(id="pmu2", host="10.0.0.6", port=4712, idcode=8)
SOURCES = SourceSettings(frozen_s=3.0, return_s=1.0)
LOOK_S = 0.1
BASE_KW, OWED_KW = 20.0, 24.0  # owed at 49.7 Hz by two units of 100 kW
P_MAX_KW = 200.0
ROUNDING_KW = 0.3  # two units, each rounded to its register
STEP_KW = P_MAX_KW * SOURCES.switch_step_pct / 100.0 + ROUNDING_KW
RAMP_KW_PER_S = P_MAX_KW  # of droop, as configured here; full power in 0.4 s is the default
RAMP_KW = RAMP_KW_PER_S * LOOK_S + ROUNDING_KW
JUMP_HZ = SOURCES.jump_hz_per_s * 0.1  # of less, between two frames, any grid is capable
OLD_S = PMU.max_age_s + 2 * TICK_S
BACK_S = 8.0 + SOURCES.return_s + 1.0  # a lost one is tried again after 8 s at most
PMU_CODES = (Code.PMU_LOST, Code.PMU_TIME, Code.PMU_FROZEN, Code.DEAD_BUS)
SITE_CODES = (
    *(Code.FREQUENCY_SOURCE, Code.FREQUENCY_DISAGREES, Code.FREQUENCY_JUMP),
    *(Code.FREQUENCY_LOST, Code.FREQUENCY_IMPLAUSIBLE),
)


@dataclass(frozen=True)
class Declared:
    """One fault of the first PMU. `passed_over`: it is not listened to meanwhile; `code` is told of
    the PMU, or of the site where it is one of `SITE_CODES`; `moves`: alone, it is believed."""

    kind: str
    how: Mapping[str, Any] = field(default_factory=dict)
    code: Code | None = None
    passed_over: bool = False
    within_s: float = OLD_S
    moves: bool = False

    @property
    def name(self) -> str:
        return "-".join([self.kind, *(str(value) for value in self.how.values())])

    @property
    def told_of(self) -> str:
        return SITE if self.code in SITE_CODES and self.code in SITE_ALONE else PMU.id


SITE_ALONE = (Code.FREQUENCY_DISAGREES, Code.FREQUENCY_JUMP)
UNHEARD_S = 2.0 + 2 * TICK_S  # no frame for so long is a loss
FAULTS = (
    Declared("pmu_wrong_time", {"ahead_s": 3600.0}, Code.PMU_TIME, within_s=1.5),
    Declared("pmu_wrong_time", {"ahead_s": -3600.0}, Code.PMU_TIME, within_s=1.5),
    Declared("pmu_time_quality", {}, Code.PMU_TIME, True, within_s=1.5),
    Declared("pmu_frozen", {}, Code.PMU_FROZEN, True, within_s=SOURCES.frozen_s + 0.5),
    Declared("pmu_jump", {"offset_hz": -1.0}, Code.FREQUENCY_DISAGREES, within_s=2, moves=True),
    Declared("pmu_jump", {"offset_hz": 1.0}, Code.FREQUENCY_DISAGREES, within_s=2, moves=True),
    Declared("pmu_jump", {"offset_hz": -0.15}, Code.FREQUENCY_DISAGREES, within_s=2, moves=True),
    Declared("pmu_spikes", {"offset_hz": -1.0, "every": 5}, Code.FREQUENCY_JUMP, within_s=1.0),
    Declared("pmu_spikes", {"offset_hz": 4.9, "every": 2}, Code.FREQUENCY_JUMP, within_s=1.0),
    Declared("pmu_sixty_hertz", {}, Code.FREQUENCY_IMPLAUSIBLE, True),
    Declared("pmu_garbage", {"count": 200}),
    Declared("pmu_garbage", {"count": 4096}),
    Declared("pmu_corrupt", {}, Code.PMU_LOST, True, within_s=UNHEARD_S),
    Declared("pmu_cut", {"count": 9}, Code.PMU_LOST, True, within_s=UNHEARD_S),
    Declared("pmu_double"),
    Declared("pmu_late", {"frames": 1}),
    Declared("pmu_late", {"frames": 8}),
    Declared("pmu_delay", {"delay_s": 0.3}),
    Declared("pmu_delay", {"delay_s": 1.0}, passed_over=True, within_s=1.5),
    Declared("pmu_data_error", {"code": 1}, passed_over=True),
    Declared("pmu_data_error", {"code": 2}, passed_over=True),
    Declared("pmu_data_error", {"code": 3}, passed_over=True),
    Declared("pmu_no_frequency", passed_over=True),
    Declared("pmu_loss", {"close": False}, Code.PMU_LOST, True, within_s=UNHEARD_S),
    Declared("pmu_loss", {"close": True}, Code.PMU_LOST, True),
    Declared("pmu_dead_bus", {"decay_s": 0.3, "fall_hz_per_s": 0.5}, Code.DEAD_BUS, True),
    Declared("pmu_dead_bus", {"decay_s": 0.01, "fall_hz_per_s": 0.0}, Code.DEAD_BUS, True),
)
ALONE = [  # of the others one of each kind
    each
    for at, each in enumerate(FAULTS)
    if each.kind in {"pmu_jump", "pmu_delay", "pmu_dead_bus"}
    or each.kind not in {before.kind for before in FAULTS[:at]}
]


class Look:
    """The devices' power every 100 ms, and its largest change from one look to the next."""

    def __init__(self, rig: SiteRig) -> None:
        self.rig = rig
        self.low_kw = self.high_kw = self._before_kw = self.power_kw()
        self.worst_kw = 0.0

    def power_kw(self) -> float:
        return sum(self.rig.gives_kw(name) for name in self.rig.names)

    @property
    def source(self) -> str:
        made = self.rig.house.decision
        return made.frequency_source if made is not None else "none"

    async def once(self) -> None:
        await self.rig.run(LOOK_S)
        seen_kw = self.power_kw()
        self.worst_kw = max(self.worst_kw, abs(seen_kw - self._before_kw))
        self.low_kw, self.high_kw = min(self.low_kw, seen_kw), max(self.high_kw, seen_kw)
        self._before_kw = seen_kw

    async def watch(self, for_s: float) -> None:
        end_s = self.rig.now_s + for_s
        while self.rig.now_s < end_s:
            await self.once()

    async def until_source(self, source: str, within_s: float) -> None:
        end_s = self.rig.now_s + within_s
        while self.source != source:
            assert self.rig.now_s < end_s, f"{self.source}, not {source}: {self.rig.account()}"
            await self.once()


def _site(*pmus: PmuSettings, **rest: Any) -> Settings:
    """Two units that measure no frequency of their own."""
    v2 = profile(V2)
    points = dict(v2.points)
    del points[Point.FREQUENCY_HZ]
    droop = replace(PLAIN_DROOP, ramp_kw_per_s=RAMP_KW_PER_S)
    made = site_settings(("A", "B"), pmus=pmus, sources=SOURCES, droop=droop, **rest)
    return replace(made, profiles={V2: replace(v2, points=points)})


async def _settled(rig: SiteRig, frequency_hz: float) -> float:
    """Base and droop as they shall be; their sum."""
    rig.step(frequency_hz)
    await rig.run(0.5)
    wanted_kw = BASE_KW + (OWED_KW if frequency_hz < 49.9 else 0.0)
    await rig.until(lambda: abs(rig.sum_kw() - wanted_kw) < ROUNDING_KW, within_s=5.0)
    await rig.run(0.3)
    assert not _source_alarms(rig), rig.account()
    return wanted_kw


def _source_alarms(rig: SiteRig) -> set[Code]:
    standing = {each.code for each in rig.house.alarms.standing()}
    return standing & {*PMU_CODES, *SITE_CODES}


async def _through(rig: SiteRig, fault: Declared, source: str) -> Look:
    """The fault comes, is declared, stays a while and goes; `source` is listened to meanwhile."""
    look, rows = Look(rig), len(rig.memory.rows)
    rig.plant.inject(fault.kind, PMU.id, **fault.how)
    begun_s = rig.now_s
    await look.until_source(source, fault.within_s)
    while fault.code is not None and not rig.journaled(fault.told_of, fault.code, rows):
        assert rig.now_s - begun_s < fault.within_s, rig.account()
        await look.once()
    if fault.passed_over:
        await look.watch(1.1)
        named = Code.FREQUENCY_SOURCE if source else Code.FREQUENCY_LOST
        assert rig.alarmed(named), rig.account()
    await look.watch(0.5)
    assert look.source == source
    if fault.code is not None and fault.kind != "pmu_spikes":
        assert rig.alarmed(fault.code, fault.told_of)
    rig.plant.clear(fault.kind)
    await look.until_source(PMU.id, BACK_S)
    await look.watch(1.2)
    assert not _source_alarms(rig), rig.account()
    return look


@pytest.mark.parametrize("fault", FAULTS, ids=lambda each: each.name)
def test_with_a_second_pmu_the_power_stays_where_it_was(fault: Declared) -> None:
    """The second one takes over, or both are heard; inside the deadband nothing moves at all."""

    @virtual
    async def goes() -> None:
        async with SiteRig(_site(PMU, SECOND)) as rig:
            rig.plan(BASE_KW)
            source = SECOND.id if fault.passed_over else PMU.id
            for frequency_hz in (50.0, 49.7):
                wanted_kw = await _settled(rig, frequency_hz)
                look = await _through(rig, fault, source)
                assert look.worst_kw <= STEP_KW
                assert look.high_kw <= wanted_kw + ROUNDING_KW
                assert look.low_kw >= BASE_KW - ROUNDING_KW
                assert look.power_kw() == pytest.approx(wanted_kw, abs=ROUNDING_KW)
            assert rig.house.heartbeat.lag().late == 0

    goes()


@pytest.mark.parametrize("fault", ALONE, ids=lambda each: each.name)
def test_with_one_pmu_alone_droop_fades_or_follows_by_its_ramp(fault: Declared) -> None:
    """Nobody else is there: what is not believed is held and faded, and a jump that is repeated is
    the grid as far as can be known. No look sees more than one look of the configured ramp."""

    @virtual
    async def goes() -> None:
        async with SiteRig(_site(PMU)) as rig:
            rig.plan(BASE_KW)
            for frequency_hz in (50.0, 49.7):
                wanted_kw = await _settled(rig, frequency_hz)
                look = await _alone(rig, fault)
                if not fault.moves:
                    assert look.worst_kw <= STEP_KW
                    assert look.high_kw <= wanted_kw + ROUNDING_KW
                    assert look.low_kw >= BASE_KW - ROUNDING_KW
                assert look.worst_kw <= RAMP_KW
                assert look.power_kw() == pytest.approx(wanted_kw, abs=ROUNDING_KW)
            assert rig.house.heartbeat.lag().late == 0

    goes()


async def _alone(rig: SiteRig, fault: Declared) -> Look:
    if not fault.moves:
        return await _through(rig, fault, "" if fault.passed_over else PMU.id)
    look, rows = Look(rig), len(rig.memory.rows)
    rig.plant.inject(fault.kind, PMU.id, **fault.how)
    await look.watch(2.0)
    waited = rig.journaled(SITE, Code.FREQUENCY_JUMP, rows)
    assert waited == (abs(fault.how["offset_hz"]) > JUMP_HZ), "a jump waits to be confirmed"
    rig.plant.clear(fault.kind)
    await look.watch(3.0)
    assert not _source_alarms(rig)
    return look


def test_every_kind_of_fault_of_a_pmu_is_declared_here() -> None:
    assert {each.kind for each in FAULTS} == {name for name in KINDS if name.startswith("pmu_")}


@virtual
async def test_the_order_of_trust_is_kept_down_and_up() -> None:
    """Two PMUs, then the devices; each is left at once, and gone back to after its rest."""
    settings = site_settings(("A", "B"), pmus=(PMU, SECOND), sources=SOURCES)
    async with SiteRig(settings) as rig:
        rig.plan(BASE_KW)
        wanted_kw = await _settled(rig, 49.7)
        look = Look(rig)
        for target, source in ((PMU.id, SECOND.id), (SECOND.id, "A")):
            rig.plant.inject("pmu_time_quality", target)
            await look.until_source(source, OLD_S)
            await look.watch(1.0)
        text = _alarm_text(rig, Code.FREQUENCY_SOURCE)
        assert text.startswith("A in use; pmu: clock failure; pmu2: clock failure")
        for target in (SECOND.id, PMU.id):
            rig.plant.clear("pmu_time_quality", target)
            await look.watch(SOURCES.return_s - 0.4)
            assert look.source != target, "not rested yet"
            await look.until_source(target, 1.0)
            await look.watch(1.0)
        assert look.worst_kw <= STEP_KW
        assert wanted_kw - STEP_KW <= look.low_kw
        assert look.high_kw <= wanted_kw + STEP_KW
        assert not _source_alarms(rig)


def _alarm_text(rig: SiteRig, code: Code) -> str:
    return next(each.text for each in rig.house.alarms.standing() if each.code is code)


RIDES = RideThroughSettings(
    nominal_v=PHASE_V,
    stable_s=3.0,
    rows=(RideThroughRow(when="voltage_below", bound=0.8, within_s=10.0),),
)


@pytest.mark.parametrize("rides", ["distribution", "transmission", "none"])
def test_on_a_dead_bus_a_distribution_site_ceases_and_others_keep_their_base(rides: Any) -> None:
    """Ceasing is at once, for that is the rule; else droop alone goes, step by step."""

    @virtual
    async def goes() -> None:
        rules = replace(RIDES, profile=rides)
        async with SiteRig(_site(PMU, ride_through=rules)) as rig:
            rig.plan(BASE_KW)
            wanted_kw = await _settled(rig, 49.7)
            look = Look(rig)
            rig.plant.inject("pmu_dead_bus", decay_s=0.05, fall_hz_per_s=1.0)
            await look.watch(1.5)
            assert rig.alarmed(Code.DEAD_BUS, PMU.id)
            ceases = rides == "distribution"
            left_kw = 0.0 if ceases else BASE_KW
            assert look.power_kw() == pytest.approx(left_kw, abs=ROUNDING_KW)
            if not ceases:
                assert look.worst_kw <= STEP_KW
            back = Look(rig)
            rig.plant.clear("pmu_dead_bus")
            await back.watch(RIDES.stable_s if ceases else 0.2)
            assert back.worst_kw <= STEP_KW
            await back.watch(8.0)
            assert back.worst_kw <= (RAMP_KW if ceases else STEP_KW)
            assert back.high_kw <= wanted_kw + ROUNDING_KW
            assert back.power_kw() == pytest.approx(wanted_kw, abs=ROUNDING_KW)

    goes()


@virtual
async def test_a_base_of_nothing_does_not_move_on_a_dead_bus_inside_the_deadband() -> None:
    async with SiteRig(_site(PMU)) as rig:
        look = Look(rig)
        rig.plant.inject("pmu_dead_bus", decay_s=0.3, fall_hz_per_s=2.0)
        await look.watch(4.0)
        rig.plant.clear("pmu_dead_bus")
        await look.watch(4.0)
        assert (look.low_kw, look.high_kw) == (0.0, 0.0)


@pytest.mark.parametrize("before_s", [0.15, 0.65])
def test_waiting_for_a_silent_pmu_ends(before_s: float) -> None:
    """Where the clock's numbers get coarser, at 1024 s here, `heard + 2 s - heard` may fall short
    of 2 s: a wait of no time that nothing ends would hold the loop for ever."""

    @virtual
    async def goes() -> None:
        async with SiteRig(_site(PMU)) as rig:
            await rig.clock.sleep_until(START_S + 22.0 + before_s)
            rows = len(rig.memory.rows)
            rig.plant.inject("pmu_loss", for_s=2.5)
            await rig.run(4.5)
            assert rig.journaled(PMU.id, Code.PMU_LOST, rows)
            assert not rig.alarmed(Code.PMU_LOST, PMU.id)
            assert rig.house.pmus[0].counters().reconnects == 1

    goes()
