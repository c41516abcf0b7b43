"""What one decision for 200 units costs, in CPU time of this process: `owe` as a whole, and the
share alone, by the strategy `losses`, with the connection only and with a tree of ten feeders.

The fleet is uneven (four kinds of inverter, ten buildings with wires and auxiliaries, any state of
charge); the orders move with every tick, so that nothing can be remembered; feeders bind in about
every second tick.
"""

import math
import random
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from tests.rig import HEALTHY, MAX_AGE_S, MODBUS, asset
from vppd.campus.dispatch import STRATEGIES, member
from vppd.campus.losses import loss_model
from vppd.campus.reserve import pulled
from vppd.campus.share import Ask, share
from vppd.core.alarms import Code
from vppd.core.asset import Asset
from vppd.core.model import (
    Limit,
    Plan,
    Point,
    Priority,
    Reading,
    Snapshot,
    Synchro,
    UnitId,
)
from vppd.core.settings import BandSettings, DroopSettings
from vppd.core.settings_campus import (
    AuxiliarySettings,
    BuildingLossSettings,
    CampusRulesSettings,
    InverterLossSettings,
    LossSettings,
    UnitLossSettings,
)
from vppd.duty import Duty, Memory, owe
from vppd.field.feeders import Feeder
from vppd.spine.watchdog import freeze

UNITS, BUILDINGS = 200, 10
RATED_KW = 100.0
FEEDER_KW = 0.55 * RATED_KW * UNITS / BUILDINGS
SITE_KW = 0.5 * RATED_KW * UNITS
TICK_S, START_S, WARM = 0.1, 1000.0, 20
NO_LOADS_PCT = (0.3, 0.5, 0.7, 1.1)
PMU = UnitId("pmu")
CALM_HZ, SWING_HZ = 50.0, 0.25


@dataclass(frozen=True)
class Costs:
    """CPU time of each decision, ms."""

    calm_ms: list[float]  # of the whole, at nominal frequency
    owe_ms: list[float]  # of the whole, under a frequency that moves with and against the order
    share_ms: list[float]


def run(ticks: int, *, feeders: bool) -> Costs:
    """So many ticks of the whole decision, and as many shares alone."""
    freeze()  # as the daemon does when it is up
    return Costs(
        _owed_ms(ticks, feeders=feeders, droop=False),
        _owed_ms(ticks, feeders=feeders, droop=True),
        _shared_ms(ticks, feeders=feeders),
    )


def _owed_ms(ticks: int, *, feeders: bool, droop: bool) -> list[float]:
    dice, memory, took_ms = random.Random(1), Memory(), []
    assets = _assets()
    tree = _tree(feeders=feeders)
    losses = _rules()
    duty = Duty(
        assets,
        (PMU,),
        BandSettings(),
        DroopSettings(),
        tree[-1].limit,
        "losses",
        rules=CampusRulesSettings(losses=losses),
        losses=loss_model(losses, assets),
    )
    rooms = {each.id: Limit(-RATED_KW, RATED_KW, Code.ROOM) for each in assets}
    reaches = {each.id: (RATED_KW, RATED_KW) for each in assets}
    socs = _socs()
    for number in range(WARM + ticks):
        now_s = START_S + TICK_S * number
        readings = {
            (id_, point): Reading(
                id_, point, soc_pct if point is Point.SOC_PCT else value, now_s, MAX_AGE_S
            )
            for id_, soc_pct in socs.items()
            for point, value in HEALTHY.items()
        }
        hz = CALM_HZ + (SWING_HZ * math.sin(number / 7.0) if droop else 0.0)
        now = Snapshot(
            now_s,
            datetime(2026, 1, 1, tzinfo=UTC),
            readings,
            {PMU: Synchro(PMU, hz, now_s, 0.5)},
        )
        asked_kw = _asked_kw(number, dice)
        plans = [
            Plan(UnitId("site"), asked_kw, now_s + 9.0, "agc", Priority.ORDER, now_s),
        ]
        begun_s = time.process_time()
        _, memory = owe(now, plans, rooms, duty, memory, reaches, tree)
        took_ms.append((time.process_time() - begun_s) * 1e3)
    return took_ms[WARM:]


def _shared_ms(ticks: int, *, feeders: bool) -> list[float]:
    dice, took_ms = random.Random(1), []
    rules, assets, tree = _rules(), _assets(), _tree(feeders=feeders)
    socs = _socs()
    readings = {
        (id_, Point.SOC_PCT): Reading(id_, Point.SOC_PCT, soc_pct, START_S, MAX_AGE_S)
        for id_, soc_pct in socs.items()
    }
    now = Snapshot(START_S, datetime(2026, 1, 1, tzinfo=UTC), readings)
    model = loss_model(rules, assets)
    room = Limit(-RATED_KW, RATED_KW, Code.ROOM)
    members = pulled(
        [member(now, each, room, losses=model) for each in assets],
        rules,
        CampusRulesSettings().imbalance,
    )
    for number in range(WARM + ticks):
        ask = Ask(_asked_kw(number, dice), {}, dice.uniform(-900.0, 900.0), {})
        begun_s = time.process_time()
        share(ask, members, STRATEGIES["losses"], tree)
        took_ms.append((time.process_time() - begun_s) * 1e3)
    return took_ms[WARM:]


def _asked_kw(number: int, dice: random.Random) -> float:
    """An order that moves with every tick, through every size and both directions."""
    return SITE_KW * math.sin(number / 25.0) + dice.uniform(-30.0, 30.0)


def _assets() -> tuple[Asset, ...]:
    return tuple(
        replace(
            asset(UnitId(f"u{number:03}"), ramp_max_kw_per_s=1000.0),
            building=f"D{number % BUILDINGS}",
            energy_kwh=200.0 + 50.0 * (number % 3),
            priority=number % 4,
            declared=MODBUS,
        )
        for number in range(UNITS)
    )


def _socs() -> dict[UnitId, float]:
    dice = random.Random(2)
    return {each.id: round(dice.uniform(25.0, 85.0), 1) for each in _assets()}


def _rules() -> LossSettings:
    return LossSettings(
        balance_weight=0.005,
        units=tuple(
            UnitLossSettings(
                id=f"u{number:03}",
                inverter=InverterLossSettings(no_load_pct=NO_LOADS_PCT[number % 4]),
            )
            for number in range(UNITS)
        ),
        buildings=tuple(
            BuildingLossSettings(
                id=f"D{number}",
                transformer_no_load_kw=3.0,
                transformer_load_kw=14.0 + number,
                transformer_rated_kva=2500.0,
                auxiliary=AuxiliarySettings(constant_kw=5.0 * number),
            )
            for number in range(BUILDINGS)
        ),
    )


def _tree(*, feeders: bool) -> tuple[Feeder, ...]:
    ids = [each.id for each in _assets()]
    made = [
        Feeder(
            tuple(ids[number::BUILDINGS]),
            Limit(-FEEDER_KW, FEEDER_KW * (0.7 + 0.05 * number), Code.CONNECTION, f"D{number}"),
        )
        for number in range(BUILDINGS)
    ]
    site = Feeder(tuple(ids), Limit(-SITE_KW, SITE_KW, Code.CONNECTION, "site"))
    return (*made, site) if feeders else (site,)
