"""What a SunSpec device shows: its chain of models, and for an inverter whether it fits its place.

SunSpec counts W positive out of the device, as we do.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from vppd.core.asset import SOLE
from vppd.core.model import Point
from vppd.core.profile import Table
from vppd.core.settings import InverterSettings, UnitSettings
from vppd.field.blocks import Block, plan
from vppd.field.drivers.modbus import DeviceRefused, LinkDown, ModbusError
from vppd.field.sunspec.models import BASES, COMMON, Found, Model, Read, discover
from vppd.field.survey.checks import clock_skew, device_limits, poll_time
from vppd.field.survey.remarks import Remark, fine, odd, wrong
from vppd.field.survey.values import ANYWHERE, Expected, nameplate
from vppd.field.survey.wire import Probe, TimeUpError

SILENCES_MOST = 3  # in a row, and it is given up
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
AC_701, CONTROL_715, STATUS_122 = 701, 715, 122
INVERTERS = (101, 102, 103, 111, 112, 113)
METERS = (201, 202, 203, 204, 211, 212, 213, 214)
STORAGE = (124, 713, 802, 803, 804, 805)
DER_NEEDS, DER_WANTS = (704,), (701, 702, 713, 715)
STORAGE_NEEDS, STORAGE_WANTS = (123, 124), (120, 121)

Place = tuple[int, str]  # a model and the name of a point in it
RATINGS: Mapping[Point, tuple[Place, ...]] = {
    Point.RATED_POWER_KW: ((702, "WMaxRtg"), (120, "WRtg"), (121, "WMax")),
    Point.DISCHARGE_MAX_KW: (
        *((702, "WDisChaRteMax"), (702, "WDisChaRteMaxRtg")),
        *((120, "MaxDisChaRte"), (121, "WMax")),
    ),
    Point.CHARGE_MAX_KW: (
        *((702, "WChaRteMax"), (702, "WChaRteMaxRtg")),
        *((124, "WChaMax"), (120, "MaxChaRte")),
    ),
    Point.APPARENT_MAX_KVA: ((702, "VAMax"), (702, "VAMaxRtg"), (121, "VAMax"), (120, "VARtg")),
    Point.ENERGY_CAPACITY_KWH: ((713, "WHRtg"), (802, "WHRtg"), (120, "WHRtg")),
}
MEASURED: Mapping[Point, tuple[Place, ...]] = {
    Point.INVERTER_KW: ((701, "W"), *((model, "W") for model in INVERTERS)),
    Point.INVERTER_KVAR: ((701, "Var"), *((model, "VAr") for model in INVERTERS)),
    Point.INVERTER_HZ: ((701, "Hz"), *((model, "Hz") for model in INVERTERS)),
    Point.INVERTER_SOC_PCT: ((713, "SoC"), (802, "SoC"), (124, "ChaState")),
}
PLAIN = {Point.INVERTER_HZ, Point.INVERTER_SOC_PCT}  # the others come in W, var, VA and Wh


async def find_models(probe: Probe, unit_id: int, bases: Sequence[int], timeout_s: float) -> Found:
    """The chain of a device, found and read. Raises ModbusError where it answers nothing at all,
    or nothing any more."""
    search = discover(bases)
    silences, answered = 0, False
    reply: Sequence[int] | None = None
    try:
        asked = next(search)
        while True:
            if not isinstance(asked, Read):
                raise TypeError(f"a search reads, and nothing else: {asked}")
            try:
                block = Block(Table.HOLDING, asked.address, asked.count)
                reply = await probe.read(unit_id, block, timeout_s)
                silences, answered = 0, True
            except DeviceRefused:
                reply, silences, answered = None, 0, True
            except (LinkDown, TimeUpError):
                raise
            except ModbusError:
                silences += 1
                if silences >= SILENCES_MOST or (silences >= len(bases) and not answered):
                    raise
                reply = None
            asked = search.send(reply)
    except StopIteration as over:
        found: Found = over.value
        return found


def told(found: Found, places: Sequence[Place]) -> float | None:
    """The first of these points that the device implements, in its own unit."""
    for model, name in places:
        if model in found.models and (value := found.models[model].value(name)) is not None:
            return value
    return None


def values_told(found: Found) -> dict[Point, float]:
    """Ratings and measurements, in our points and units; both limits as positive numbers."""
    values: dict[Point, float] = {}
    for point, places in {**RATINGS, **MEASURED}.items():
        if (value := told(found, places)) is not None:
            values[point] = value if point in PLAIN else value / 1000.0
    return values


def identity(found: Found) -> str:
    """Maker, model, version and serial number, as far as told."""
    common = found.models.get(COMMON)
    if common is None:
        return "no common model"
    names = {"Mn": "", "Md": "", "Vr": "version ", "SN": "serial "}
    words = [before + text for name, before in names.items() if (text := common.text(name).strip())]
    return ", ".join(words) or "no identity"


def ids_of(found: Found) -> tuple[int, ...]:
    """The models of the chain, in its order."""
    return tuple(heading.id for heading in found.headings)


async def ask_inverter(
    probe: Probe, at: InverterSettings, unit: UnitSettings, expected: Expected, now: datetime
) -> tuple[list[Remark], Mapping[Point, float], float | None]:
    """Ask and judge one configured inverter: remarks, values, and how long one poll takes in s.

    Raises ModbusError where it does not answer.
    """
    bases = BASES if at.base is None else (at.base, *(b for b in BASES if b != at.base))
    found = await find_models(probe, at.unit_id, bases, at.timeout_s)
    reached = fine("reachable", f"answers in {1000.0 * probe.took_s:.0f} ms")
    if found.base is None:
        remedy = "is SunSpec switched on in the device? another unit id? another port?"
        return [reached, wrong("sunspec", "; ".join(found.notes), remedy)], {}, None
    drive = _drive(at, found)
    took_s = await _poll_s(probe, at, found, drive)
    values = values_told(found)
    remarks = [reached, fine("identity", identity(found)), *_chain_remarks(at, found)]
    remarks += [*_drive_remarks(drive, found), *_scale_remarks(found)]
    remarks += [*_value_remarks(values, expected), *_state_remarks(found, now)]
    remarks += [poll_time(took_s, at.poll_s), *nameplate(values, expected)]
    remarks += device_limits(values, unit)
    if unit.modbus is None:
        values = {SOLE.get(point, point): value for point, value in values.items()}
    return remarks, values, took_s


# ---- inside ----------------------------------------------------------------------------------


async def _poll_s(probe: Probe, at: InverterSettings, found: Found, drive: str) -> float:
    """How long the models that are polled fast take to read, s; the better of two tries."""
    fast = {701, 713, 704, 715} if drive == "der" else {123, 124, *INVERTERS}
    blocks = [
        Block(Table.HOLDING, model.address + start, min(120, len(model.registers) - start))
        for model in found.models.values()
        if model.id in fast
        for start in range(0, len(model.registers), 120)
    ]
    tries_s = []
    for _ in range(2):
        total_s = 0.0
        for block in plan(blocks, 120, 0):
            await probe.read(at.unit_id, block, at.timeout_s)
            total_s += probe.took_s
        tries_s.append(total_s)
    return min(tries_s)


def _drive(at: InverterSettings, found: Found) -> str:
    if at.drive != "auto":
        return at.drive
    return "der" if DER_NEEDS[0] in ids_of(found) else "storage"


def _chain_remarks(at: InverterSettings, found: Found) -> Iterator[Remark]:
    text = f"base {found.base}, models {', '.join(map(str, ids_of(found)))}"
    if at.base is not None and found.base != at.base:
        yield wrong("sunspec", f"{text}; base {at.base} is configured", f"base: {found.base}")
    elif found.notes:
        yield odd("sunspec", f"{text}; {'; '.join(found.notes)}", "ask the maker")
    else:
        yield fine("sunspec", text)


def _drive_remarks(drive: str, found: Found) -> Iterator[Remark]:
    der, models = drive == "der", ids_of(found)
    needs, wants = (DER_NEEDS, DER_WANTS) if der else (STORAGE_NEEDS, STORAGE_WANTS)
    lacking = [model for model in needs if model not in models]
    lesser = [model for model in wants if model not in models]
    if not der and not any(model in models for model in INVERTERS):
        lacking.append(103)
    if lacking:
        other = "storage" if der else "der"
        text = f"drive {drive} needs the models {', '.join(map(str, lacking))}, which are missing"
        yield wrong("drive", text, f"drive: {other}, if it has those models; else it is not driven")
    elif lesser:
        text = f"drive {drive}; without the models {', '.join(map(str, lesser))}"
        yield odd("drive", text, "what they would tell or limit is not known")
    else:
        yield fine("drive", f"drive {drive}: all its models are there")


def _scale_remarks(found: Found) -> Iterator[Remark]:
    bad = [
        f"{model}.{name}"
        for places in (*RATINGS.values(), *MEASURED.values())
        for model, name in places
        if model in found.models and _is_unscaled(found.models[model], name)
    ]
    if bad:
        text = f"scale factor missing or not -10 to 10: {', '.join(dict.fromkeys(bad))}"
        yield odd("scale", text, "these values count as not there; ask the maker")


def _is_unscaled(model: Model, name: str) -> bool:
    """Whether the device implements the point, but not the exponent it needs."""
    return model.tens(name) is None and model.raw(name)[:1] not in {(0xFFFF,), (0x8000,)}


def _value_remarks(values: Mapping[Point, float], expected: Expected) -> Iterator[Remark]:
    ranges = {
        Point.INVERTER_KW: (-expected.power_max_kw, expected.power_max_kw),
        Point.INVERTER_HZ: (expected.low_hz, expected.high_hz),
        Point.INVERTER_SOC_PCT: ANYWHERE[Point.INVERTER_SOC_PCT],
    }
    bad = False
    for point, (low, high) in ranges.items():
        if point in values and not low <= values[point] <= high:
            bad = True
            text = f"{point} reads {values[point]:g}, plausible is {low:g} to {high:g}"
            yield wrong(
                "value", text, "a wrong scale factor, swapped words in the device, another device?"
            )
    if Point.INVERTER_KW not in values:
        yield wrong("value", "it shows no AC power", "not a model vppd can drive it by")
    elif not bad:
        told = ", ".join(f"{point} {values[point]:g}" for point in ranges if point in values)
        yield fine("values", told)


def _state_remarks(found: Found, now: datetime) -> Iterator[Remark]:
    local = told(found, ((CONTROL_715, "LocRemCtl"),))
    if local == 1.0:
        text = "the device is under local control: it will not obey"
        yield wrong("control", text, "switch it to remote at the device")
    elif local is not None:
        yield fine("control", "the device is under remote control")
    if seconds := told(found, ((STATUS_122, "Tms"),)):
        yield clock_skew(seconds, (now - EPOCH).total_seconds())
