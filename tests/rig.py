"""The gate with everything it stands on, and devices that answer as a test wants. Ports only: a
hand-held clock, a journal in memory, and a wire where the device would be."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from vppd.core.alarms import Code
from vppd.core.asset import Asset
from vppd.core.model import (
    SITE,
    Clamp,
    Cleared,
    DeviceReport,
    Limit,
    LinkChange,
    Outcome,
    Point,
    Quality,
    ReadBack,
    ReadBackResult,
    Reading,
    Request,
    Snapshot,
    UnitId,
    WriteResult,
)
from vppd.core.ports import Report
from vppd.core.records import EventRow, Row, TripRow, ViolationRow
from vppd.core.settings import SafetySettings
from vppd.field.audit import Audit
from vppd.field.feeders import Feeder, Feeders
from vppd.field.gate import Gate
from vppd.field.interlocks import RULES
from vppd.field.latches import Latches
from vppd.field.rule import Rule
from vppd.spine.alarms import AlarmBoard
from vppd.spine.bus import Bus

B1, B2, B3 = UnitId("b1"), UnitId("b2"), UnitId("b3")
START_S = 1000.0
MAX_AGE_S = 2.5
TICK_S = 0.1

HEALTHY: dict[Point, float] = {
    Point.POWER_KW: 0.0,
    Point.REACTIVE_KVAR: 0.0,
    Point.SETPOINT_KW: 0.0,
    Point.SOC_PCT: 50.0,
    Point.SOH_PCT: 98.0,
    Point.VOLTAGE_V: 53.0,
    Point.CURRENT_A: 0.0,
    Point.TEMPERATURE_C: 25.0,
    Point.STATUS_BITS: 0.0,
    Point.ALARM_BITS: 0.0,
    Point.FAULT_BITS: 0.0,
}
HEALTHY_BMS: dict[Point, float] = {
    Point.CELL_MIN_V: 3.30,
    Point.CELL_MAX_V: 3.32,
    Point.CELL_MIN_C: 24.0,
    Point.CELL_MAX_C: 26.0,
    Point.PACK_V: 53.0,
    Point.PACK_A: 0.0,
    Point.BMS_SOC_PCT: 50.0,
    Point.BMS_FAULT_BITS: 0.0,
    Point.BMS_CHARGE_MAX_A: 100.0,
    Point.BMS_DISCHARGE_MAX_A: 100.0,
}
MODBUS, WITH_BMS = frozenset(HEALTHY), frozenset(HEALTHY) | frozenset(HEALTHY_BMS)


class HandClock:
    """Time that a test moves."""

    def __init__(self, now_s: float = START_S) -> None:
        self.t_s = now_s
        self.wall = datetime(2026, 1, 1, tzinfo=UTC)

    def now_s(self) -> float:
        return self.t_s

    def utc(self) -> datetime:
        return self.wall + timedelta(seconds=self.t_s - START_S)

    async def sleep_until(self, deadline_s: float) -> None:
        self.t_s = max(self.t_s, deadline_s)


class MemoryJournal:
    """core.ports.Journal that keeps its rows."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def append(self, row: Row) -> None:
        self.rows.append(row)

    async def commit(self, row: Row) -> bool:
        self.rows.append(row)
        return True

    async def select(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        return []

    def events(self, code: Code) -> list[EventRow]:
        return [row for row in self.rows if isinstance(row, EventRow) and row.code == code]

    def violations(self, rule: Code) -> list[ViolationRow]:
        return [row for row in self.rows if isinstance(row, ViolationRow) and row.rule == rule]


class Wire:
    """core.ports.Actuator: keeps every offer; answers when told to, and only the newest."""

    def __init__(self, unit: UnitId, report: Report) -> None:
        self.unit = unit
        self.offers: list[Cleared] = []
        self.acts: list[str] = []
        self.breaks = False
        self.releases = True
        self._report = report

    def offer(self, cleared: Cleared) -> None:
        if self.breaks:
            raise RuntimeError(f"the wire of {self.unit} broke")
        self.offers.append(cleared)

    def enable(self, *, on: bool) -> None:
        self.acts.append("enable" if on else "disable")

    def release(self) -> None:
        self.acts.append("release")

    def reset_alarms(self) -> None:
        self.acts.append("reset_alarms")

    async def finish(self) -> bool:
        return True

    @property
    def last(self) -> Cleared:
        return self.offers[-1]

    def answer(self, outcome: Outcome, at_s: float) -> None:
        sent = self.last
        lost = outcome in (Outcome.LOST, Outcome.REFUSED)
        self._report(
            WriteResult(
                self.unit,
                outcome,
                None if lost else sent.power_kw,
                None if lost else sent.reactive_kvar,
                at_s,
                "as the test wants",
                sent.at_s,
            )
        )


def asset(id_: UnitId = B1, **changes: Any) -> Asset:
    """A 100 kW unit with every Modbus point; `safety` changes by its own fields' names."""
    limits = {key: changes.pop(key) for key in list(changes) if key in SafetySettings.__slots__}
    plain = Asset(
        id=id_,
        building="north",
        rated_kw=100.0,
        apparent_kva=110.0,
        energy_kwh=250.0,
        modules=23,
        priority=100,
        safety=SafetySettings(**limits),
        declared=MODBUS,
    )
    return replace(plain, **changes)


def asset_with_bms(id_: UnitId = B1, **changes: Any) -> Asset:
    return asset(id_, declared=WITH_BMS, **changes)


def snapshot(
    now_s: float, values: Mapping[Point, float], unit: UnitId = B1, age_s: float = 0.0
) -> Snapshot:
    """These values of one unit, all good and of the same age."""
    readings = {
        (unit, point): Reading(unit, point, value, now_s - age_s, MAX_AGE_S)
        for point, value in values.items()
    }
    return Snapshot(now_s, datetime(2026, 1, 1, tzinfo=UTC), readings)


def connection(*assets: Asset, low_kw: float = -1e6, high_kw: float = 1e6) -> Feeders:
    """One limit for all."""
    limit = Limit(low_kw, high_kw, Code.CONNECTION, "site")
    return Feeders((Feeder(tuple(each.id for each in assets), limit),))


class Rig:
    """One gate over some units on wires."""

    def __init__(
        self,
        *assets: Asset,
        feeders: Feeders | None = None,
        inputs: Mapping[UnitId, str] | None = None,
        rows: Iterable[TripRow] | None = (),
        rules: Sequence[Rule] = RULES,
        wired: bool = True,
    ) -> None:
        self.assets = assets or (asset(),)
        self.clock, self.journal = HandClock(), MemoryJournal()
        self.bus = Bus(self.clock)
        self.alarms = AlarmBoard(self.clock, self.journal)
        self.audit = Audit(self.clock, self.journal, self.alarms)
        self.kept: list[TripRow] = []
        self.latches = Latches(rows, self.kept.append, self.clock.utc())
        self.wires = {each.id: Wire(each.id, self.report) for each in self.assets}
        self.gate = Gate(
            self.assets,
            self.wires if wired else {},
            inputs or {},
            feeders or connection(*self.assets),
            self.latches,
            self.audit,
            self.clock,
            rules,
        )

    def report(self, report: DeviceReport) -> None:
        self.gate.report(report)

    def say(
        self,
        unit: UnitId,
        point: Point,
        value: float,
        age_s: float = 0.0,
        quality: Quality = Quality.GOOD,
    ) -> None:
        at_s = self.clock.t_s - age_s
        self.bus.publish(Reading(unit, point, value, at_s, MAX_AGE_S, quality))

    def tell(self, unit: UnitId | None = None, /, **values: float) -> None:
        """Healthy values of one unit, or of all, but for those given by name."""
        for each in self.assets:
            if unit in (None, each.id):
                for point, value in (HEALTHY | HEALTHY_BMS).items():
                    if point in each.declared:
                        self.say(each.id, point, values.get(point, value))

    def submit(self, *asks: Request) -> dict[UnitId, Cleared]:
        return {each.unit: each for each in self.gate.submit(self.bus.snapshot(), asks)}

    def ask(self, power_kw: float, kvar: float = 0.0, unit: UnitId = B1) -> Cleared:
        """What a unit gets now of this, asked as droop, so that no ramp is in the way."""
        return self.submit(Request(unit, 0.0, power_kw, kvar))[unit]

    def answer(self, outcome: Outcome = Outcome.WRITTEN) -> None:
        """Every device answers its newest offer."""
        for wire in self.wires.values():
            if wire.offers:
                wire.answer(outcome, self.clock.t_s)

    def open(self, ticks: int = 3, /, **values: float) -> "Rig":
        """Healthy readings and acknowledged zeros until nothing waits any more."""
        for _ in range(ticks):
            self.tell(**values)
            self.submit()
            self.answer()
            self.clock.t_s += TICK_S
        self.tell(**values)
        return self

    def link(self, up: bool, unit: UnitId = B1) -> None:
        self.report(LinkChange(unit, up, self.clock.t_s, "cable"))

    def read_back(self, verdict: ReadBack, unit: UnitId = B1) -> None:
        self.report(ReadBackResult(unit, verdict, 10.0, 20.0, self.clock.t_s, "seen"))

    def alarmed(self, code: Code, unit: UnitId = SITE) -> bool:
        return any(each.code is code and each.unit == unit for each in self.alarms.standing())

    def state(self, unit: UnitId = B1) -> str:
        return str(self.gate.decisions[unit].state)

    def shut_by(self) -> str | None:
        return self.gate.shut_by

    def input(self, name: str, value: float = 1.0, age_s: float = 0.0) -> None:
        self.say(UnitId(f"input:{name}"), Point.HEALTHY, value, age_s)


def about(value: Any, **within: Any) -> Any:
    """`pytest.approx` inside tuples and lists, where its type would not compare."""
    return pytest.approx(value, **within)


def chained(cleared: Cleared) -> bool:
    """Whether what was got follows from what was asked by the named clamps alone."""
    at_kw = cleared.asked_kw
    for clamp in cleared.clamps:
        if clamp is cleared.clamps[0] and clamp.why is Code.NOT_FINITE:
            at_kw = 0.0
        if not _near(clamp.before_kw, at_kw):
            return False
        at_kw = clamp.after_kw
    return _near(cleared.power_kw, at_kw)


def _near(one_kw: float, other_kw: float) -> bool:
    return abs(one_kw - other_kw) <= 1e-9 * max(1.0, abs(one_kw))


def words(clamps: Sequence[Clamp]) -> list[Code]:
    return [clamp.why for clamp in clamps]
