"""Whose setpoints a device holds: ours, its own, somebody else's, or nobody's that we know. The
whole site on virtual time, over the real protocol."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.rig import B1, B2, Rig, asset, connection
from tests.site_rig import V2, SiteRig, profile, site_settings
from tests.virtual_time import virtual
from vppd.core.alarms import Code
from vppd.core.model import (
    SITE,
    DeviceNotice,
    Outcome,
    Point,
    ReadBack,
    ReadBackResult,
    Request,
    UnitId,
)
from vppd.core.profile import Step, Writable
from vppd.core.records import EventRow, TripRow
from vppd.core.settings import ConnectionSettings, Settings
from vppd.sim.modbus_pdu import ILLEGAL_VALUE, RefusedError

KW, KVAR, MODE, ENABLE, TIMEOUT, HEARTBEAT = 0x2000, 0x2001, 0x2002, 0x2003, 0x2005, 0x2006
# as a device that has a mode of its own is given back: timer off, mode "charge" here
RELEASE = (
    Step(write=Writable.COMMAND_TIMEOUT_S, value=0.0),
    Step(write=Writable.MODE, value=1.0),
)


def releasing(names: Sequence[str] = ("A", "B"), **rest: object) -> Settings:
    """A site whose devices can be given back, and go to a mode of their own at a stop."""
    settings = site_settings(names)
    on_stop = (Step(write=Writable.MODE, value=2.0),)
    changed = replace(profile(V2), release=RELEASE, on_stop=on_stop)
    return replace(settings, profiles={V2: changed}, **rest)  # type: ignore[arg-type]


def counts(rig: SiteRig, name: str) -> tuple[int, int, int]:
    """Failed, reverted, changed."""
    found = rig.house.gate.standing(UnitId(name)).counts
    return found.failed, found.reverted, found.changed


def alarms(rig: SiteRig, name: str) -> set[Code]:
    three = (Code.WRITE_FAILED, Code.READ_BACK_REVERTED, Code.READ_BACK_CHANGED)
    return {code for code in three if rig.alarmed(code, name)}


def watch_mode(rig: SiteRig, name: str) -> list[tuple[float, int]]:
    """Every mode written to a device from now on, with the setpoint it held then."""
    seen: list[tuple[float, int]] = []
    device = rig.plant.unit(name)

    class Watched(dict[int, int]):
        def __setitem__(self, address: int, raw: int) -> None:
            if address == MODE:
                seen.append((rig.held_kw(name), raw))
            super().__setitem__(address, raw)

    device.holding = Watched(device.holding)
    return seen


# ---- failed, reverted, changed --------------------------------------------------------------


@virtual
@pytest.mark.parametrize(
    ("address", "raw", "told"),
    [
        (KW, 0xFE0C, Code.READ_BACK_CHANGED),  # 50 kW, where + is charging on the wire
        (KW, 0, Code.READ_BACK_REVERTED),
        (KVAR, 0xFF38, Code.READ_BACK_CHANGED),  # 20 kvar
        (KVAR, 0, Code.READ_BACK_REVERTED),
    ],
)
async def test_each_register_has_its_own_alarm_and_counter(
    address: int, raw: int, told: Code
) -> None:
    async with SiteRig(site_settings(("A", "B"))) as rig:
        rig.plan(40.0, "B", reactive_kvar=10.0)
        await rig.run(5.3)
        assert (rig.held_kw("B"), rig.held_kvar("B")) == (40.0, 10.0)
        rig.plant.unit("B").holding[address] = raw
        await rig.until(lambda: bool(alarms(rig, "B")), within_s=1.0)
        assert alarms(rig, "B") == {told}
        reverted = told is Code.READ_BACK_REVERTED
        assert counts(rig, "B") == (0, int(reverted), int(not reverted))
        await rig.until(lambda: not alarms(rig, "B"), within_s=6.0)
        await rig.until(
            lambda: (rig.held_kw("B"), rig.held_kvar("B")) == (40.0, 10.0), within_s=6.0
        )
        assert counts(rig, "A") == (0, 0, 0)
        assert not rig.latched()


def test_a_refused_and_an_unanswered_setpoint_are_failed_ones() -> None:
    for outcome in (Outcome.REFUSED, Outcome.LOST):
        rig = Rig().open()
        rig.ask(20.0)
        rig.answer(outcome)
        found = rig.gate.standing(B1).counts
        assert (found.failed, found.reverted, found.changed) == (1, 0, 0)
        assert rig.alarmed(Code.WRITE_FAILED, B1)
        rig.ask(20.0)
        rig.answer()
        assert not rig.alarmed(Code.WRITE_FAILED, B1)


# ---- rivals -----------------------------------------------------------------------------------


@virtual
@pytest.mark.parametrize(
    ("power_kw", "kvar", "words"),
    [
        (50.0, 0.0, "50 kW, 0 kvar instead of 40 kW, 10 kvar"),
        (40.0, -30.0, "40 kW, -30 kvar instead of 40 kW, 10 kvar"),
        (0.0, 0.0, "0 kW, 0 kvar instead of"),
    ],
)
async def test_a_rival_is_found_in_three_writes_and_the_journal_says_what_it_wrote(
    power_kw: float, kvar: float, words: str
) -> None:
    """Also one that writes just what the device falls back to by itself."""
    async with SiteRig(site_settings(("A", "B"))) as rig:
        rig.plan(40.0, "B", reactive_kvar=10.0)
        await rig.run(5.3)
        device, writes = rig.plant.unit("B"), 0
        while ("B", Code.RIVAL) not in rig.latched():
            assert writes < 3, rig.account()
            device.holding[KW] = round(-power_kw / 0.1) & 0xFFFF
            device.holding[KVAR] = round(-kvar / 0.1) & 0xFFFF
            writes += 1
            await rig.run(1.0)
        assert writes == 3
        (row,) = [r for r in rig.rows() if isinstance(r, TripRow) and r.code == Code.RIVAL]
        assert words in row.text
        assert rig.state("B") == "tripped"
        assert rig.alarmed(Code.RIVAL, "B")


@virtual
async def test_a_rival_that_writes_what_we_wrote_needs_nothing() -> None:
    async with SiteRig(site_settings(("A", "B"))) as rig:
        rig.plan(40.0, "B")
        await rig.run(5.3)
        for _ in range(10):
            rig.plant.unit("B").holding[KW] = -400 & 0xFFFF
            await rig.run(0.7)
        assert counts(rig, "B") == (0, 0, 0)
        assert rig.held_kw("B") == 40.0


@virtual
@pytest.mark.parametrize(("address", "raw"), [(ENABLE, 0), (MODE, 1)])
async def test_a_rival_that_switches_the_device_off_is_noticed(address: int, raw: int) -> None:
    async with SiteRig(site_settings(("A", "B"))) as rig:
        rig.plan(40.0, "B")
        await rig.run(5.3)
        rig.plant.unit("B").holding[address] = raw
        await rig.until(lambda: rig.alarmed(Code.DEVICE_DISABLED, "B"), within_s=1.0)
        await rig.run(0.3)
        assert rig.state("B") == "stopped"
        assert Code.DEVICE_DISABLED in rig.bound_by("B")
        assert rig.plant.unit("B").holding[address] == raw, "it is told, not fought over"


@virtual
async def test_what_a_rival_gives_counts_at_the_connection() -> None:
    settings = site_settings(("A", "B"), connection=ConnectionSettings(export_max_kw=100.0))
    async with SiteRig(settings) as rig:
        rig.plan(40.0, "B")
        rig.plan(95.0, "A")
        await rig.run(5.0)
        device = rig.plant.unit("B")
        for _ in range(12):  # it keeps the device alive and on, too
            beat = device.holding[HEARTBEAT] % 60000 + 1
            for address, raw in ((HEARTBEAT, beat), (KW, -800 & 0xFFFF), (MODE, 3), (ENABLE, 1)):
                device.write_registers(address, [raw], "rival")
            await rig.run(1.0)
        assert ("B", Code.RIVAL) in rig.latched()
        assert rig.gives_kw("B") == pytest.approx(80.0, abs=1.0)
        assert rig.held_kw("A") == pytest.approx(20.0, abs=1.0)
        assert Code.CONNECTION in rig.bound_by("A")


def _won(rig: Rig) -> None:
    """A rival won B1."""
    for _ in range(3):
        now_s = rig.clock.t_s
        rig.report(ReadBackResult(B1, ReadBack.CHANGED, 10.0, 20.0, now_s, "seen", 0.0, 5.0))
    rig.submit()
    rig.answer()


@pytest.mark.parametrize(
    ("values", "left_kw"),
    [
        ({Point.POWER_KW: 60.0}, 90.0),
        ({Point.POWER_KW: -60.0}, 100.0),  # what it takes is no room for the others to give
        ({Point.POWER_KW: None, Point.SETPOINT_KW: 70.0}, 80.0),
        ({Point.POWER_KW: None, Point.SETPOINT_KW: None}, 50.0),  # its rating
    ],
)
def test_a_rivals_power_measured_else_set_else_rated(
    values: dict[Point, float | None], left_kw: float
) -> None:
    units = asset(B1), asset(B2)
    rig = Rig(*units, feeders=connection(*units, high_kw=150.0)).open()
    _won(rig)
    assert rig.gate.standing(B1).yields
    rig.clock.t_s += 5.0  # everything is old now
    rig.tell(B2)
    for point, value in values.items():
        if value is not None:
            rig.say(B1, point, value)
    got = rig.submit(Request(B2, 0.0, 100.0))[B2]
    assert got.power_kw == pytest.approx(left_kw)


def test_a_device_that_is_only_read_counts_too() -> None:
    units = asset(B1, read_only=True), asset(B2)
    rig = Rig(*units, feeders=connection(*units, high_kw=150.0)).open()
    rig.say(B1, Point.POWER_KW, 90.0)
    assert rig.submit(Request(B2, 0.0, 100.0))[B2].power_kw == pytest.approx(60.0)


# ---- release ----------------------------------------------------------------------------------


@virtual
async def test_a_released_device_is_brought_to_zero_given_back_and_left_alone() -> None:
    async with SiteRig(releasing()) as rig:
        rig.plan(40.0, "B")
        await rig.run(5.3)
        device = rig.plant.unit("B")
        seen = watch_mode(rig, "B")
        rig.house.gate.release(UnitId("B"), "ann")
        await rig.until(lambda: device.holding[MODE] == 1, within_s=1.5)
        assert seen == [(0.0, 1)], "first 0, then the rest"
        await rig.run(1.0)
        assert rig.state("B") == "disabled"
        assert rig.bound_by("B")[-1] is Code.RELEASED
        assert ("B", Code.RELEASED) in rig.latched()
        assert rig.house.gate.latches.given(UnitId("B"))
        # from now on it is its own: nothing is renewed, watched or mended
        before, since_s = dict(device.holding), rig.now_s
        rig.plan(90.0, "B")
        await rig.run(20.0)
        assert device.holding == before
        assert not rig.told("B", since_s)
        device.holding |= {KW: -300 & 0xFFFF, MODE: 3, ENABLE: 1}
        await rig.run(10.0)
        assert device.holding == before | {KW: -300 & 0xFFFF, MODE: 3, ENABLE: 1}
        assert counts(rig, "B") == (0, 0, 0)
        assert {code for _, code in rig.latched()} == {Code.RELEASED}
        assert rig.proofs_s[-1] >= rig.now_s - 0.3, "leaving it alone is an outcome"
        assert rig.gives_kw("B") == pytest.approx(30.0, abs=0.5)
        # and taken again from what it does, not from 0
        least_kw = [99.0]
        rig.house.gate.enable(UnitId("B"), "bob")

        def whole() -> bool:
            least_kw[0] = min(least_kw[0], rig.gives_kw("B"))
            return rig.held_kw("B") == 90.0

        await rig.until(whole, within_s=12.0)
        assert least_kw[0] >= 29.0
        assert device.holding[TIMEOUT] == 5
        assert not rig.latched()
        assert not rig.alarmed(Code.RELEASED, "B")


@virtual
async def test_what_a_released_device_gives_counts_at_the_connection() -> None:
    settings = replace(releasing(), connection=ConnectionSettings(export_max_kw=100.0))
    async with SiteRig(settings) as rig:
        rig.plan(90.0, "A")
        rig.house.gate.release(UnitId("B"), "ann")
        await rig.run(10.0)
        assert rig.held_kw("A") == pytest.approx(90.0, abs=0.2)
        rig.plant.unit("B").holding |= {KW: -500 & 0xFFFF, MODE: 3, ENABLE: 1}
        await rig.run(5.0)
        assert rig.held_kw("A") == pytest.approx(50.0, abs=1.0)


@virtual
async def test_a_release_outlives_the_daemon_and_a_stop_leaves_it_alone() -> None:
    async with SiteRig(releasing()) as rig:
        rig.house.gate.release(UnitId("B"), "ann")
        device = rig.plant.unit("B")
        await rig.until(lambda: device.holding[MODE] == 1, within_s=3.0)
        await rig.run(1.0)
        before = dict(device.holding)
        await rig.stop()
        assert device.holding == before
        assert rig.plant.unit("A").holding[MODE] == 2, "on_stop of the one that was commanded"
        since_s, trips = rig.now_s, rig.trips()
        assert ("B", Code.RELEASED, "given") in {(t.scope, t.code, t.action) for t in trips}
        await rig.start(trips, ready=False)
        rig.plan(50.0, "B")
        await rig.run(10.0)
        assert device.holding == before
        assert not rig.told("B", since_s)
        assert rig.state("B") == "disabled"
        assert rig.alarmed(Code.RELEASED, "B")
        rig.house.gate.enable(UnitId("B"), "bob")
        await rig.until(lambda: rig.held_kw("B") == 50.0, within_s=12.0)


@virtual
async def test_a_release_that_was_cut_short_goes_on_at_the_next_start() -> None:
    async with SiteRig(releasing()) as rig:
        device = rig.plant.unit("B")
        rig.house.gate.release(UnitId("B"), "ann")
        await rig.kill()
        await rig.start(rig.trips(), ready=False)
        await rig.until(lambda: device.holding[MODE] == 1, within_s=5.0)


@virtual
async def test_an_emergency_stop_takes_a_released_device_back_until_reset() -> None:
    async with SiteRig(releasing()) as rig:
        device = rig.plant.unit("B")
        rig.house.gate.release(UnitId("B"), "ann")
        await rig.until(lambda: device.holding[MODE] == 1, within_s=3.0)
        await rig.run(0.5)
        device.holding |= {KW: -300 & 0xFFFF, MODE: 3, ENABLE: 1}
        await rig.run(1.0)
        rig.house.gate.trip(SITE, Code.EMERGENCY_STOP, "pressed", "ann")
        await rig.until(lambda: rig.held_kw("B") == 0.0, within_s=0.5)
        await rig.until(lambda: device.holding[ENABLE] == 0, within_s=1.0)
        assert rig.state("B") == "tripped"
        rig.reset(SITE)
        await rig.until(lambda: device.holding[MODE] == 1, within_s=3.0)
        await rig.run(0.5)
        assert rig.state("B") == "disabled"
        assert rig.house.gate.latches.given(UnitId("B"))


@virtual
async def test_a_stop_writes_on_stop_only_after_zero_was_read_back() -> None:
    async with SiteRig(releasing()) as rig:
        rig.plan(40.0, "B")
        await rig.run(5.3)
        seen = watch_mode(rig, "B")
        await rig.stop()
        assert seen == [(0.0, 2)]


def test_a_release_that_the_device_refuses_is_told_and_held_at_zero() -> None:
    rig = Rig().open()
    rig.gate.release(B1, "ann")
    rig.submit()
    assert rig.wires[B1].acts[-1] == "release"
    rig.report(DeviceNotice(B1, Code.WRITE_REFUSED, True, rig.clock.t_s, "refuses"))
    count = len(rig.wires[B1].offers)
    rig.submit()
    assert rig.alarmed(Code.WRITE_REFUSED, B1)
    assert len(rig.wires[B1].offers) == count + 1
    assert rig.wires[B1].last.power_kw == 0.0


def test_the_last_word_of_the_operator_rules() -> None:
    rig = Rig().open()
    for act, word in (
        (rig.gate.release, "release"),
        (rig.gate.disable, "disable"),
        (rig.gate.release, "release"),
        (rig.gate.enable, "enable"),
    ):
        act(B1, "ann")
        rig.submit()
        assert rig.wires[B1].acts[-1] == word
    assert not rig.latches.all()


@virtual
async def test_a_refused_value_is_not_retried_for_ever() -> None:
    async with SiteRig(site_settings(("A", "B"))) as rig:
        await rig.run(1.0)
        device = rig.plant.unit("B")
        tried: list[int] = []
        plain = device.write_registers

        def refusing(address: int, words: Sequence[int], source: str = "modbus") -> None:
            if address == KW and any(words):
                tried.append(words[0])
                raise RefusedError(ILLEGAL_VALUE)
            plain(address, words, source)

        device.write_registers = refusing  # type: ignore[method-assign]
        rig.plan(40.0, "B")
        await rig.until(lambda: ("B", Code.WRITE_REFUSED) in rig.latched(), within_s=5.0)
        count = len(tried)
        await rig.run(30.0)
        assert len(tried) == count <= 4
        assert any(isinstance(r, EventRow) and r.code == Code.WRITE_FAILED for r in rig.rows())
