"""Random faults at random devices, under random dispatch and frequency, on virtual time: nothing is
told to a device that it, its BMS, its rating or the connection does not allow, no unit moves while
tripped, and when all is mended everything returns."""

import random
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.site_rig import (
    FULL,
    METER_AT,
    OLDER,
    RESOLUTION_KW,
    SOLE_INVERTER,
    SiteRig,
    site_settings,
)
from tests.virtual_time import virtual
from vppd.core.settings import ConnectionSettings, Settings

NAMES = ("A", "B", "C")
REVERT_S = 4
PLAYED_S = 60.0
LOOK_S = 0.1
EXPORT_KW, IMPORT_KW, RATED_KW = 160.0, 140.0, 100.0
FOUND_S = 3.2  # the oldest frame or poll that is still believed, and a tick
SILENT_S = FOUND_S + REVERT_S + 1.0  # and what was told last is held until the device's own timer
POLLS_KW = 4.0  # while all units ramp, meter and units are polled at different moments
WATT_KW = 1.5  # of a limit made of volts that move

Fault = tuple[str, str, Mapping[str, Any]]
BMS: tuple[Fault, ...] = tuple(
    (kind, unit, how)
    for unit in ("A", "B")
    for kind, how in (
        ("bms_silence", {}),
        ("bms_frozen", {}),
        ("bms_cell", {"cell_v": 2.75}),
        ("bms_cell", {"cell_v": 4.21}),
        ("bms_temperature", {"temperature_c": 52.0}),
        ("bms_temperature", {"temperature_c": 63.0}),
        ("bms_temperature", {"temperature_c": 2.0}),
        ("bms_fault_bits", {"bits": 2}),
        ("bms_warning_bits", {"bits": 2}),
        ("bms_limits", {"charge_max_a": 15.0, "discharge_max_a": 30.0}),
        ("bms_limits", {"charge_max_a": 0.0, "discharge_max_a": 0.0}),
        ("bms_short_frame", {}),
        ("bms_garbage", {}),
        ("bms_soc", {"soc_pct": 11.0}),
        ("can_down", {}),
        ("silence", {}),
        ("fault_bits", {"bits": 1}),
        ("slow", {"delay_s": 0.7}),
        ("cell_drift", {}),
    )
)
INVERTERS: tuple[Fault, ...] = tuple(
    (kind, at, how)
    for name in NAMES
    for kind, at, how in (
        ("inverter_fault", name, {}),
        ("inverter_alarm", name, {"bits": 1 << 8}),
        ("inverter_frozen", name, {}),
        ("inverter_deaf", name, {}),
        ("inverter_local", name, {}),
        ("inverter_reset", name, {}),
        ("silence", f"{name}/inverter", {}),
        ("slow", f"{name}/inverter", {"delay_s": 1.4}),
        ("exception", f"{name}/inverter", {"code": 6, "function": 0}),
        ("connection_refused", f"{name}/inverter", {}),
        ("drop", f"{name}/inverter", {}),
    )
)
SITE: tuple[Fault, ...] = (
    ("bms_forbid", "B", {}),
    ("meter_silence", "meter", {}),
    ("meter_stuck", "", {}),
    ("interlock_silent", "fire", {}),
    ("pmu_loss", "pmu", {}),
    ("pmu_sixty_hertz", "pmu", {}),
)
FAULTS = (*BMS, *INVERTERS, *SITE, *SITE)


def campaign_site() -> Settings:
    revert = {"revert_s": REVERT_S}
    gear = {"A": FULL, "B": OLDER, "C": SOLE_INVERTER}
    return site_settings(
        NAMES,
        gear={name: replace(each, inverter=revert) for name, each in gear.items()},
        meter=replace(METER_AT, load_max_kw=30.0, generation_max_kw=30.0),
        connection=ConnectionSettings(export_max_kw=EXPORT_KW, import_max_kw=IMPORT_KW),
    )


@dataclass(frozen=True)
class Room:
    """What may flow at one instant, kW in (negative) and out."""

    at_s: float
    low_kw: float
    high_kw: float


class Bounds:
    """What was allowed of late: a device may still hold what was allowed when it last heard."""

    def __init__(self, remembered_s: float) -> None:
        self._rooms: deque[Room] = deque()
        self._remembered_s = remembered_s

    def note(self, room: Room) -> None:
        self._rooms.append(room)
        while self._rooms[0].at_s < room.at_s - self._remembered_s:
            self._rooms.popleft()

    def hold(self, power_kw: float, slack_kw: float) -> bool:
        low_kw = min(room.low_kw for room in self._rooms)
        high_kw = max(room.high_kw for room in self._rooms)
        return low_kw - slack_kw <= power_kw <= high_kw + slack_kw


class Watch:
    """Looks at the devices at every instant of a campaign."""

    def __init__(self, rig: SiteRig) -> None:
        self._rig = rig
        self._own = {name: Bounds(SILENT_S) for name in NAMES}
        self._connection = Bounds(SILENT_S)
        self._tripped_s: dict[str, float] = {}

    def look(self) -> None:
        for name in NAMES:
            self._unit(name)
        rig, meter = self._rig, self._rig.plant.site_meter()
        other_kw = meter.load_kw - meter.generation_kw
        room = Room(rig.now_s, other_kw - IMPORT_KW, other_kw + EXPORT_KW)
        self._connection.note(room)
        slack_kw = POLLS_KW + len(NAMES) * RESOLUTION_KW
        assert self._connection.hold(rig.sum_kw(), slack_kw), rig.account()

    def _unit(self, name: str) -> None:
        rig = self._rig
        self._own[name].note(Room(rig.now_s, *self._allowed_kw(name)))
        held_kw = rig.held_kw(name)
        assert self._own[name].hold(held_kw, WATT_KW), (name, rig.account())
        if rig.state(name) != "tripped":
            self._tripped_s.pop(name, None)
            return
        since_s = self._tripped_s.setdefault(name, rig.now_s)
        if rig.now_s - since_s > REVERT_S + 2.0:
            assert held_kw == 0.0, (name, rig.account())
            assert abs(rig.gives_kw(name)) < 1.0, (name, rig.account())

    def _allowed_kw(self, name: str) -> tuple[float, float]:
        if name not in self._rig.plant.bmss:
            return -RATED_KW, RATED_KW
        view = self._rig.plant.bmss[name].view(self._rig.now_s)
        kw_per_a = view.pack_v * view.modules_parallel / 1000.0
        in_a = view.charge_max_a if view.may_charge else 0.0
        out_a = view.discharge_max_a if view.may_discharge else 0.0
        return -min(in_a * kw_per_a, RATED_KW), min(out_a * kw_per_a, RATED_KW)


def acts(rig: SiteRig, dice: random.Random) -> Iterator[None]:
    """One random act after another, each call one."""
    while True:
        roll = dice.random()
        if roll < 0.45:
            kind, at, how = dice.choice(FAULTS)
            rig.plant.inject(kind, at, **how)
        elif roll < 0.65 and rig.plant.active:
            rig.plant.clear(dice.choice(rig.plant.active).name)
        elif roll < 0.75:
            rig.step(50.0 + dice.choice((-0.4, -0.2, 0.0, 0.0, 0.15, 0.35)))
        elif roll < 0.8:
            rig.plant.inject("site_load", load_kw=dice.uniform(0.0, 30.0))
        elif roll < 0.85:
            rig.reset(dice.choice(NAMES))
        elif roll < 0.93:
            rig.plan(dice.uniform(-120.0, 120.0), dice.choice(NAMES), for_s=dice.uniform(3.0, 20.0))
        else:
            rig.plan(dice.uniform(-300.0, 300.0), reactive_kvar=dice.uniform(-40.0, 40.0))
        yield


@pytest.mark.parametrize("seed", [0, 10])
def test_whatever_fails_the_limits_hold_and_everything_returns(seed: int) -> None:
    @virtual
    async def plays() -> None:
        dice = random.Random(seed)
        async with SiteRig(campaign_site(), seed=seed) as rig:
            watch, deeds = Watch(rig), acts(rig, dice)
            rig.plan(dice.uniform(-150.0, 150.0))
            act_s, end_s = rig.now_s + 5.0, rig.now_s + PLAYED_S
            while rig.now_s < end_s:
                if rig.now_s >= act_s:
                    next(deeds)
                    act_s = rig.now_s + dice.uniform(0.2, 2.5)
                watch.look()
                await rig.run(LOOK_S)
            rig.plant.clear()
            rig.step(50.0)
            for name in NAMES:
                rig.plan(0.0, name, for_s=0.01)
            rig.plan(0.0)
            await rig.run(25.0)
            rig.reset("site")
            for name in NAMES:
                rig.reset(name)
            rig.plan(90.0)
            await rig.run(15.0)
            assert not rig.latched(), rig.account()
            assert rig.sum_kw() == pytest.approx(90.0, abs=0.5), rig.account()
            standing = {(each.code, each.unit) for each in rig.house.alarms.standing()}
            assert not standing, rig.account()

    plays()
