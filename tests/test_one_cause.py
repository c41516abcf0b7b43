"""What the operator on shift reads: one alarm for one cause, and none for what vppd did itself."""

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.rig import B1, HEALTHY_BMS, MAX_AGE_S, TICK_S, Rig, asset_with_bms
from tests.site_rig import FULL, PLAIN_DROOP, SOLE_INVERTER, Gear, SiteRig, site_settings
from tests.virtual_time import virtual
from vppd.core.alarms import Action, Code, Level
from vppd.core.model import METER, LinkChange, Outcome, Point, Quality, UnitId
from vppd.core.records import EventRow
from vppd.core.settings import ConnectionSettings, MeterSettings
from vppd.field.audit import RETURN_S, folded
from vppd.field.drivers.sunspec import KNOWN_WITHIN_S, SunSpecActuator
from vppd.field.presence import Presence
from vppd.field.rule import Blind, Verdict
from vppd.northbound.alarm_views import remedy
from vppd.northbound.causes import causes

BMS = UnitId(f"{B1}/bms")
OF_BMS = (("bms", frozenset(HEALTHY_BMS)),)


def bms_rig() -> Rig:
    return Rig(asset_with_bms(beside=OF_BMS)).open()


def alarms(rig: Rig) -> list[tuple[Code, str]]:
    return [(each.code, each.unit) for each in rig.alarms.standing()]


def pass_time(rig: Rig, for_s: float, *, bms: bool = False, **values: float) -> None:
    """Ticks in which the controller answers, and the BMS or not."""
    for _ in range(round(for_s / TICK_S)):
        rig.clock.t_s += TICK_S
        heard = dict(rig.bus.snapshot().readings)
        rig.tell(**values)
        if not bms:
            for (unit, point), reading in heard.items():
                if point in HEALTHY_BMS:
                    rig.say(unit, point, reading.value, rig.clock.t_s - reading.at_s)
        rig.submit()


# ---- a silent BMS ---------------------------------------------------------------------------


def test_a_bms_without_values_is_one_alarm_and_one_violation() -> None:
    rig = bms_rig()
    pass_time(rig, MAX_AGE_S + 2 * TICK_S)
    room = rig.gate.decisions[B1].room
    assert (room.low_kw, room.high_kw) == (0.0, 0.0), "and stopped as ever"
    assert len(rig.gate.decisions[B1].verdicts) > 8
    assert alarms(rig) == [(Code.READING_STALE, BMS)]
    (row,) = rig.audit.rows()
    assert (row.unit, row.rule, row.level, row.action) == (BMS, "reading_stale", "critical", "stop")
    (alarm,) = rig.alarms.standing()
    assert alarm.text.endswith("more stale")
    pass_time(rig, TICK_S, bms=True)
    assert (alarms(rig), rig.audit.rows()[0].cleared_at) == ([], rig.clock.utc())


def test_a_lost_link_is_the_alarm_until_its_values_had_time_to_come() -> None:
    rig = bms_rig()
    pass_time(rig, MAX_AGE_S + 2 * TICK_S)
    rig.audit.alarm(Code.LINK_LOST, BMS, True, "silent for 3.1 s")
    pass_time(rig, 20.0)
    assert alarms(rig) == [(Code.LINK_LOST, BMS)]
    assert [row.rule for row in rig.audit.rows()] == [Code.READING_STALE], "it stopped the unit"
    rig.audit.alarm(Code.LINK_LOST, BMS, False, "answers")
    pass_time(rig, RETURN_S - TICK_S)
    assert alarms(rig) == []
    pass_time(rig, 3 * TICK_S)
    assert alarms(rig) == [(Code.READING_STALE, BMS)], "it answers, and not with these values"
    pass_time(rig, TICK_S, bms=True)
    assert alarms(rig) == []
    told = [row.code for row in rig.journal.rows if isinstance(row, EventRow)]
    assert len(told) == 6, "each alarm came and went, and nothing else was said"


def test_what_tripped_on_values_stays_visible_beside_a_lost_link() -> None:
    rig = bms_rig()
    rig.audit.alarm(Code.LINK_LOST, BMS, True, "silent for 3.1 s")
    pass_time(rig, MAX_AGE_S + 2 * TICK_S, soh_pct=60.0, temperature_c=61.0)
    seen = set(alarms(rig))
    assert {(Code.SOH_LOW, B1), (Code.OVER_TEMPERATURE, B1), (Code.LINK_LOST, BMS)} == seen


def test_a_value_that_is_not_believed_is_one_alarm_of_its_device() -> None:
    rig = bms_rig()
    pass_time(rig, TICK_S, bms=True)
    rig.say(B1, Point.SOC_PCT, 50.0, quality=Quality.IMPLAUSIBLE)
    rig.say(B1, Point.CELL_MIN_V, 3.3, quality=Quality.MISSING)
    rig.submit()
    both = {(Code.READING_IMPLAUSIBLE, B1), (Code.READING_MISSING, BMS)}
    assert set(alarms(rig)) == both
    assert {each.text for each in rig.alarms.standing()} == {
        "soc_pct implausible",
        "cell_min_v missing",
    }


def test_the_reasons_of_a_tick_name_the_lost_link() -> None:
    rig = bms_rig()
    pass_time(rig, MAX_AGE_S + 2 * TICK_S)
    made = rig.gate.decisions[B1]
    codes = [Code.READING_STALE, Code.DISABLED]
    assert causes(codes, made, ()) == codes
    assert causes([*codes, Code.LINK_LOST], made, [BMS]) == [Code.LINK_LOST, Code.DISABLED]
    rig.clock.t_s += 2.0 * MAX_AGE_S
    rig.submit()  # the controller is silent too, and its link not lost
    assert causes(codes, rig.gate.decisions[B1], [BMS]) == codes


WHYS = (Code.READING_STALE, Code.READING_MISSING, Code.READING_FROZEN, Code.READING_IMPLAUSIBLE)
VERDICTS = st.builds(
    lambda rule, level, blind: Verdict(rule, level, Action.STOP, "said", blind=blind),
    st.sampled_from([Code.SOC_LOW, Code.SOC_HIGH, Code.LINK_LOST, Code.OVER_CURRENT]),
    st.sampled_from(Level),
    st.none()
    | st.builds(
        Blind, st.sampled_from([B1, BMS]), st.sampled_from(WHYS), st.sampled_from(list(Point))
    ),
)


@given(st.lists(VERDICTS, max_size=12))
@settings(deadline=None)
def test_folding_loses_no_cause_and_no_level(verdicts: Sequence[Verdict]) -> None:
    made = folded(verdicts)
    seeing = [each for each in verdicts if each.blind is None or each.rule is Code.LINK_LOST]
    assert [each for each in made if each in seeing] == seeing
    told = {(each.rule, each.blind.device): each for each in made if each.blind is not None}
    for each in verdicts:
        if each.blind is not None and each.rule is not Code.LINK_LOST:
            assert told[each.blind.why, each.blind.device].level >= each.level
    assert len(made) <= len(seeing) + len(WHYS) * 2


# ---- a whole site ---------------------------------------------------------------------------


@virtual
async def test_a_cut_can_bus_is_one_alarm_and_returns_as_one() -> None:
    site = site_settings(("A",), gear={"A": FULL}, pmus=(), interlock_inputs=())
    async with SiteRig(site) as rig:
        rig.plan(40.0, "A")
        await rig.run(8.0)
        since = len(rig.rows())
        rig.plant.inject("bms_silence", "A")
        most = 0
        for _ in range(80):
            await rig.run(0.1)
            most = max(most, len(rig.house.alarms.standing()))
        assert (most, rig.held_kw("A")) == (1, 0.0), rig.account()
        assert rig.alarmed(Code.LINK_LOST, "A/bms")
        rig.plant.clear()
        await rig.until(lambda: rig.held_kw("A") == 40.0, within_s=12.0)
        await rig.run(RETURN_S)
        raised = [
            (row.code, row.unit)
            for row in rig.rows(since)
            if isinstance(row, EventRow) and row.level >= Level.WARNING
        ]
        assert raised == [(Code.READING_STALE, "A/bms"), (Code.LINK_LOST, "A/bms")]
        assert not rig.house.alarms.standing()


@virtual
async def test_a_lost_controller_is_one_alarm() -> None:
    async with SiteRig(site_settings(("A",))) as rig:
        rig.plan(40.0, "A")
        await rig.run(5.0)
        rig.plant.inject("silence", "A")
        await rig.until(lambda: rig.state("A") == "lost", within_s=5.0)
        await rig.run(1.0)
        await rig.always(
            lambda: [each.code for each in rig.house.alarms.standing()] == [Code.LINK_LOST],
            for_s=5.0,
        )


@virtual
async def test_a_start_is_no_failed_write() -> None:
    gear = {"A": SOLE_INVERTER, "B": FULL}
    site = site_settings(("A", "B"), gear=gear, pmus=(), interlock_inputs=())
    rig = SiteRig(site)
    async with rig:
        assert not rig.journaled("A", Code.WRITE_FAILED)
        assert not rig.journaled("B", Code.WRITE_FAILED)
        rig.plan(40.0, "A")
        await rig.until(lambda: rig.held_kw("A") == 40.0, within_s=10.0)


def test_models_that_are_never_known_are_an_alarm_after_a_while() -> None:
    rig = Rig().open()
    presence = Presence(B1, rig.report)
    inverter = SunSpecActuator(B1, rig.clock, rig.report, presence)

    def offered(after_s: float) -> Outcome | None:
        rig.clock.t_s += after_s
        inverter.offer(rig.wires[B1].last)
        return rig.gate.standing(B1).outcome

    assert offered(0.0) is Outcome.WAITING
    assert offered(2.0 * KNOWN_WITHIN_S) is Outcome.WAITING, "it has not answered at all yet"
    presence.answered(rig.clock.t_s)
    assert offered(KNOWN_WITHIN_S) is Outcome.WAITING
    assert rig.gate.proven(rig.clock.t_s)
    assert alarms(rig) == []
    assert offered(0.1) is Outcome.LOST
    (alarm,) = rig.alarms.standing()
    assert (alarm.code, alarm.text) == (Code.WRITE_FAILED, "its SunSpec models are not known yet")


def test_an_unknown_outcome_waits_and_a_lost_one_alarms_unless_the_link_says_so() -> None:
    rig = Rig().open()
    rig.submit()
    rig.answer(Outcome.WAITING)
    assert alarms(rig) == []
    rig.answer(Outcome.LOST)
    assert alarms(rig) == [(Code.WRITE_FAILED, B1)]
    rig.report(LinkChange(B1, False, rig.clock.t_s, "cable"))
    assert alarms(rig) == [(Code.LINK_LOST, B1)], "one cause"
    rig.answer(Outcome.LOST)
    assert alarms(rig) == [(Code.LINK_LOST, B1)]
    rig.report(LinkChange(B1, True, rig.clock.t_s, "answers"))
    rig.answer(Outcome.LOST)
    assert alarms(rig) == [(Code.WRITE_FAILED, B1)]


# ---- ramps of vppd's own --------------------------------------------------------------------


@virtual
async def test_a_stop_of_ours_and_droop_are_no_ramps_of_the_device() -> None:
    steep = replace(PLAIN_DROOP, droop_pct=1.0)
    async with SiteRig(site_settings(("A",), droop=steep, interlock_inputs=())) as rig:
        rig.step(49.5)
        await rig.until(lambda: rig.gives_kw("A") > 70.0, within_s=5.0)
        await rig.run(2.0)
        rig.step(50.0)
        await rig.until(lambda: abs(rig.gives_kw("A")) < 1.0, within_s=5.0)
        assert not rig.journaled("A", Code.POWER_RAMP)
        rig.plan(60.0, "A")
        await rig.run(9.0)
        rig.house.gate.disable(UnitId("A"), "ann")  # from 60 kW to 0 at once
        await rig.until(lambda: abs(rig.gives_kw("A")) < 1.0, within_s=5.0)
        await rig.run(4.0)
        rig.house.gate.enable(UnitId("A"), "ann")
        rig.plan(0.0, "A")
        await rig.run(9.0)
        assert not rig.journaled("A", Code.POWER_RAMP)


# ---- remedies -------------------------------------------------------------------------------


def test_the_remedy_fits_the_link() -> None:
    site = site_settings(
        ("A", "B"),
        gear={"A": FULL, "B": Gear(None, "pylontech")},
        meter=MeterSettings(profile="eastron-sdm630", serial="/dev/ttyUSB0", parity="E"),
        connection=ConnectionSettings(),
    )

    def told(device: str, code: Code = Code.LINK_LOST) -> str:
        return str(remedy(code, UnitId(device), site))

    for word in ("termination", "bitrate", "can-1"):
        assert word in told("A/bms")
    assert "unit id" not in told("A/bms")
    assert "10.0.2.1:502, unit id 1" in told("A"), "the inverter takes the setpoints"
    assert "10.0.1.1:502, unit id 1" in told("A/controller")
    assert "10.0.1.2:502, unit id 2" in told("B")
    for code in (Code.LINK_LOST, Code.METER_SILENT):
        assert "/dev/ttyUSB0 at 9600 E1" in told(METER, code)
    assert told("gone/bms") == "look at its power and its link"
    assert told("A", Code.RIVAL) == "remove it, then reset"
    assert told("A", Code.RELEASED) == "vppctl enable A takes it again"
    assert told("A", Code.SOC_LOW) == "None"
