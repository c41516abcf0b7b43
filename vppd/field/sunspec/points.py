"""What is read of a SunSpec inverter: which point of ours is which point of its models. Pure.

Sign: SunSpec counts W, VA and var of an inverter positive out of it (701 W: generation; 701 Var and
VarMaxInj: injected, over-excited), which is ours. DC power is positive from the battery to the
inverter.

Events. What the device must not come back from by itself is a fault, and trips; what comes and goes
with the grid or the weather is an alarm. Bits of 701 Alrm and of 101-103, 111-113 Evt1:

| bit | name | is | | bit | name | is |
|---|---|---|---|---|---|---|
| 0 | GROUND_FAULT | fault | | 8 | OVER_FREQUENCY | alarm |
| 1 | DC_OVER_VOLT | fault | | 9 | UNDER_FREQUENCY | alarm |
| 2 | AC_DISCONNECT | alarm | | 10 | AC_OVER_VOLT | alarm |
| 3 | DC_DISCONNECT | alarm | | 11 | AC_UNDER_VOLT | alarm |
| 4 | GRID_DISCONNECT | alarm | | 12 | BLOWN_STRING_FUSE | fault |
| 5 | CABINET_OPEN | alarm | | 13 | UNDER_TEMP | alarm |
| 6 | MANUAL_SHUTDOWN | fault | | 14 | MEMORY_LOSS | fault |
| 7 | OVER_TEMP | fault | | 15 | HW_TEST_FAILURE | fault |
| | | | | 16 | MANUFACTURER_ALRM (701) | alarm |

A device without events but with a state has none: both words read 0.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from vppd.core.model import Point
from vppd.core.profile import Group, Kind, PointSpec, Table
from vppd.field.blocks import Block, Source, source
from vppd.field.sunspec.models import Model, Models

NAMEPLATE, SETTINGS, STORAGE, MPPT, CAPACITY = 120, 121, 124, 160, 702
AC_MODELS = (701, 103, 102, 101, 113, 112, 111)
FAULTS = sum(1 << bit for bit in (0, 1, 6, 7, 12, 14, 15))
ALARMS = sum(1 << bit for bit in (2, 3, 4, 5, 8, 9, 10, 11, 13, 16))
NO_EVENTS = 0xFFFFFFFF
NO_STATE = 0xFFFF
KILO = 0.001
PERCENT = 0.01
SLOW_AGE_S = 25.0  # the slow group is read every 10 s
OFF, RUNNING = 1.0, 4.0  # of model 103 St, for a 701 that tells only on and off
_ON_OFF = {0: OFF, 1: RUNNING}

Choice = tuple[int, str, str]  # model, point, group


@dataclass(slots=True)
class Readable:
    """Points to be read, and those made of more registers than their spec names."""

    points: dict[Point, PointSpec] = field(default_factory=dict)
    sources: dict[Point, Source] = field(default_factory=dict)

    def take(self, point: Point, spec: PointSpec | None, made: Source | None = None) -> None:
        """Add a point, where the device has it."""
        if spec is not None:
            self.points[point] = spec
            if made is not None:
                self.sources[point] = made


def measured(models: Models, max_age_s: float) -> Readable:
    """What the device measures and says of itself."""
    readable = Readable()
    found = next((number for number in AC_MODELS if number in models), None)
    if found is not None:
        ac = models[found]
        part = PERCENT if found != AC_MODELS[0] else 1.0  # 701 gives cos phi, the others percent
        named: Mapping[Point, tuple[str, float]] = {
            Point.INVERTER_KW: ("W", KILO),
            Point.INVERTER_KVAR: ("Var" if found == AC_MODELS[0] else "VAr", KILO),
            Point.INVERTER_KVA: ("VA", KILO),
            Point.INVERTER_POWER_FACTOR: ("PF", part),
            Point.INVERTER_HZ: ("Hz", 1.0),
        }
        for point, (name, scale) in named.items():
            readable.take(point, ac.spec(name, scale, max_age_s=max_age_s))
        _events(readable, ac, max_age_s)
    for point, choices, scale in _elsewhere(models, found or 0):
        chosen = _first(models, choices)
        if chosen is not None:
            number, name, group = chosen
            spec = models[number].spec(name, scale, group, max_age_s=max_age_s)
            readable.take(point, spec)
    charge = readable.points.get(Point.INVERTER_SOC_PCT)
    if charge is not None:
        readable.points[Point.INVERTER_SOC_PCT] = replace(charge, low=0.0, high=100.0)
    return readable


def _elsewhere(models: Models, ac: int) -> Iterable[tuple[Point, tuple[Choice, ...], float]]:
    """Points that one of several models has: the first that implements it."""
    heat = tuple((ac, name, "") for name in ("TmpCab", "TmpSnk", "TmpTrns", "TmpOt", "TmpAmb"))
    one_input = MPPT in models and models[MPPT].value("N") == 1.0
    module = "module" if one_input else "none"  # the power of one of several is not the device's
    yield Point.INVERTER_C, heat, 1.0
    dc_kw: tuple[Choice, ...] = ((714, "DCW", ""), (ac, "DCW", ""), (160, "DCW", module))
    yield Point.INVERTER_DC_KW, dc_kw, KILO
    dc_a: tuple[Choice, ...] = ((714, "DCA", ""), (ac, "DCA", ""), (160, "DCA", module))
    yield Point.INVERTER_DC_A, dc_a, 1.0
    dc_v: tuple[Choice, ...] = ((ac, "DCV", ""), (714, "DCV", "Prt"), (160, "DCV", "module"))
    yield Point.INVERTER_DC_V, (*dc_v, (802, "V", "")), 1.0
    soc: tuple[Choice, ...] = ((713, "SoC", ""), (802, "SoC", ""), (124, "ChaState", ""))
    yield Point.INVERTER_SOC_PCT, (*soc, (804, "SoC", ""), (805, "SoC", "")), 1.0
    yield Point.INVERTER_HEARTBEAT, ((715, "DERHb", ""), (802, "Hb", "")), 1.0


def battery(models: Models, max_age_s: float) -> Readable:
    """What an inverter knows of its battery, for a unit that has no other to tell it."""
    readable = Readable()
    named: Mapping[Point, tuple[Choice, ...]] = {
        Point.SOH_PCT: tuple((number, "SoH", "") for number in (713, 802, 804, 805)),
        Point.CYCLES: tuple((number, "NCyc", "") for number in (802, 804, 805)),
        Point.CELL_MAX_V: tuple((number, "CellVMax", "") for number in (802, 804, 805)),
        Point.CELL_MIN_V: tuple((number, "CellVMin", "") for number in (802, 804, 805)),
        Point.CELL_MAX_C: ((803, "ModTmpMax", ""), (804, "ModTmpMax", ""), (805, "CellTmpMax", "")),
        Point.CELL_MIN_C: ((803, "ModTmpMin", ""), (804, "ModTmpMin", ""), (805, "CellTmpMin", "")),
    }
    for point, choices in named.items():
        chosen = _first(models, choices)
        if chosen is not None and models[chosen[0]].has(chosen[1]):
            spec = models[chosen[0]].spec(chosen[1], max_age_s=max_age_s)
            readable.take(point, spec)
    return readable


def _first(models: Models, choices: Iterable[Choice]) -> Choice | None:
    """The first that the device implements, else the first that its models have."""
    there = [each for each in choices if each[0] in models and _knows(models[each[0]], each)]
    here = (each for each in there if models[each[0]].has(each[1], each[2]))
    return next(here, there[0] if there else None)


def _knows(model: Model, choice: Choice) -> bool:
    return model.spec(choice[1], group=choice[2]) is not None


# ---- state and events -------------------------------------------------------------------------


def _events(readable: Readable, ac: Model, max_age_s: float) -> None:
    """State, faults and alarms, all from one read of what stands between state and events."""
    first, word = ("St", "Alrm") if ac.id == AC_MODELS[0] else ("St", "Evt1")
    start = ac.at(first)
    block = Block(Table.HOLDING, start, ac.at(word) + 2 - start)
    state = _der_state if ac.id == AC_MODELS[0] else _state
    plain = PointSpec(
        table=Table.HOLDING, address=start, type=Kind.U16, low=1.0, high=8.0, max_age_s=max_age_s
    )
    bits = replace(plain, low=None, high=None, address=ac.at(word), type=Kind.U32)
    readable.take(Point.INVERTER_STATE, plain, Source(block, state))
    for point, mask in ((Point.INVERTER_FAULT_BITS, FAULTS), (Point.INVERTER_ALARM_BITS, ALARMS)):
        readable.take(point, bits, Source(block, _masked(mask, state)))


def _state(registers: Sequence[int]) -> float | None:
    """Of 101-103 and 111-113, St as it is."""
    return None if registers[0] == NO_STATE else float(registers[0])


def _der_state(registers: Sequence[int]) -> float | None:
    """Of 701, InvSt counted from 1; without it, what St tells: off or on."""
    on, state = registers[0], registers[1]
    return float(state + 1) if state != NO_STATE else _ON_OFF.get(on)


def _masked(
    mask: int, state: Callable[[Sequence[int]], float | None]
) -> Callable[[Sequence[int]], float | None]:
    def decode(registers: Sequence[int]) -> float | None:
        word = registers[-2] << 16 | registers[-1]
        if word == NO_EVENTS:
            return None if state(registers) is None else 0.0
        return float(word & mask)

    return decode


# ---- what the device allows -------------------------------------------------------------------


def limits(models: Models) -> Readable:
    """The tightest of ratings and settings, each way and of apparent power."""
    readable = Readable()
    if CAPACITY in models:
        named = {
            Point.DISCHARGE_MAX_KW: ("WDisChaRteMax", "WDisChaRteMaxRtg", "WMax", "WMaxRtg"),
            Point.CHARGE_MAX_KW: ("WChaRteMax", "WChaRteMaxRtg"),
            Point.APPARENT_MAX_KVA: ("VAMax", "VAMaxRtg"),
        }
        for point, names in named.items():
            _tightest(readable, point, models[CAPACITY], names)
        if Point.CHARGE_MAX_KW not in readable.points:
            _tightest(readable, Point.CHARGE_MAX_KW, models[CAPACITY], ("WMax", "WMaxRtg"))
        return readable
    rated = models.get(NAMEPLATE)
    rated_kw = _kilo(rated, "WRtg")
    out_kw, in_kw = min(rated_kw, _kilo(rated, "MaxDisChaRte")), _kilo(rated, "MaxChaRte")
    if SETTINGS in models:
        _tightest(readable, Point.DISCHARGE_MAX_KW, models[SETTINGS], ("WMax",), out_kw)
        rated_kva = _kilo(rated, "VARtg")
        _tightest(readable, Point.APPARENT_MAX_KVA, models[SETTINGS], ("VAMax",), rated_kva)
    if STORAGE in models:
        _tightest(readable, Point.CHARGE_MAX_KW, models[STORAGE], ("WChaMax",), in_kw)
    if rated is not None:
        for point, names in (
            (Point.DISCHARGE_MAX_KW, ("MaxDisChaRte", "WRtg")),
            (Point.CHARGE_MAX_KW, ("MaxChaRte",) if in_kw < math.inf else ("WRtg",)),
            (Point.APPARENT_MAX_KVA, ("VARtg",)),
        ):
            if point not in readable.points:
                _tightest(readable, point, rated, names)
    return readable


def _kilo(model: Model | None, name: str) -> float:
    value = model.value(name) if model is not None else None
    return math.inf if value is None else value * KILO


def _tightest(
    readable: Readable,
    point: Point,
    model: Model,
    names: Sequence[str],
    ceiling_kw: float = math.inf,
) -> None:
    """The least of several points of one model, in kilo, and of a ceiling."""
    specs = [
        spec
        for name in names
        if model.has(name)
        and (spec := model.spec(name, KILO, group="", max_age_s=SLOW_AGE_S)) is not None
    ]
    if not specs:
        return
    parts = [source(spec) for spec in specs]
    block = joined(part.block for part in parts)

    def decode(registers: Sequence[int]) -> float | None:
        values = [part.decode(_inside(registers, block, part.block)) for part in parts]
        told = [value for value in values if value is not None]
        return min(*told, ceiling_kw) if told else None

    spec = replace(specs[0], group=Group.SLOW)
    readable.take(point, spec, Source(block, decode))


def joined(blocks: Iterable[Block]) -> Block:
    """The block that holds all of these, of one table."""
    blocks = tuple(blocks)
    first = min(block.address for block in blocks)
    return Block(blocks[0].table, first, max(block.end for block in blocks) - first)


def _inside(registers: Sequence[int], whole: Block, part: Block) -> Sequence[int]:
    start = part.address - whole.address
    return registers[start : start + part.count]


def watched(own: Source, words: Mapping[int, int], changed: Callable[[], None]) -> Source:
    """A point read with registers that writes rely on: `words` by address, as they were. Where
    one differs `changed` is called and the point has no value."""
    block = joined((own.block, *(Block(own.block.table, address, 1) for address in words)))
    relied = tuple((address - block.address, word) for address, word in words.items())

    def decode(registers: Sequence[int]) -> float | None:
        if any(registers[at] != word for at, word in relied):
            changed()
            return None
        return own.decode(_inside(registers, block, own.block))

    return Source(block, decode)
