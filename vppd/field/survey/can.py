"""A CAN bus as it is overheard, against what the configured BMSs should say. Nothing is sent."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from vppd.core.bms import BmsProfile
from vppd.core.model import Point, Quality
from vppd.core.ports import Clock
from vppd.core.settings import BmsSettings, Settings, UnitSettings
from vppd.field.bms import Frame, FrameId, Picture, frames_of
from vppd.field.drivers.can import Heard, overhear
from vppd.field.drivers.can_port import ON_A_LINE, CanDownError, CanHeldError
from vppd.field.drivers.hold import IN_USE
from vppd.field.hear import read_dbc
from vppd.field.survey.checks import bms_limits
from vppd.field.survey.remarks import ASK_OR_STOP, Remark, Sheet, fine, odd, wrong

LISTEN_LEAST_S = 3.0
LISTEN_PERIODS = 2.5
OPEN_WITHIN_S = 10.0
TWICE, SLOWER = 0.65, 1.6  # of its period: two senders, or a slow one
FEW = 3  # frames of one identifier are too few to tell a period

Traffic = Mapping[FrameId, Heard]


@dataclass(frozen=True, slots=True)
class Listener:
    """One configured BMS: its frames by the identifiers they have on this bus."""

    name: str
    at: BmsSettings
    unit: UnitSettings
    profile: BmsProfile
    frames: Mapping[FrameId, Frame]

    @property
    def keep_alive_id(self) -> FrameId | None:
        keep_alive = self.profile.keep_alive
        if keep_alive is None:
            return None
        return keep_alive.id + self.at.id_offset, keep_alive.extended

    @property
    def period_s(self) -> float:
        """Of its rarest frame."""
        return max((frame.period_s for frame in self.profile.frames.values()), default=1.0)


Bus = tuple[str, str]


def buses_of(settings: Settings) -> dict[Bus, list[tuple[UnitSettings, BmsSettings, BmsProfile]]]:
    """The configured BMSs by interface and channel."""
    buses: dict[Bus, list[tuple[UnitSettings, BmsSettings, BmsProfile]]] = {}
    for unit in settings.units:
        profile = settings.bms_of(unit)
        if unit.bms is not None and profile is not None:
            bus = (unit.bms.interface, unit.bms.channel)
            buses.setdefault(bus, []).append((unit, unit.bms, profile))
    return buses


def listen_s(profiles: Sequence[BmsProfile]) -> float:
    """How long a bus is listened to, s."""
    longest_s = max((f.period_s for p in profiles for f in p.frames.values()), default=1.0)
    return max(LISTEN_LEAST_S, LISTEN_PERIODS * longest_s)


def can_within_s(settings: Settings) -> float:
    """The survey of the CAN buses ends within this, s."""
    times_s = [
        listen_s([profile for _, _, profile in each]) for each in buses_of(settings).values()
    ]
    return max(times_s, default=-OPEN_WITHIN_S) + OPEN_WITHIN_S


async def survey_can(settings: Settings, clock: Clock, *, vppd_runs: bool = False) -> list[Sheet]:
    """Listen to every bus at once and judge every BMS. Raises nothing a bus can cause."""
    sheets: list[Sheet] = []

    async def hear(members: Sequence[tuple[UnitSettings, BmsSettings, BmsProfile]]) -> None:
        sheets.extend(await _bus(members, clock, vppd_runs))

    async with asyncio.TaskGroup() as group:
        for members in buses_of(settings).values():
            group.create_task(hear(members))
    order = [f"{unit.id}/bms" for unit in settings.units]
    return sorted(sheets, key=lambda sheet: order.index(sheet.device))


def judged(listener: Listener, traffic: Traffic, others: set[FrameId]) -> Sheet:
    """One BMS by what was heard. `others`: identifiers that somebody else on this bus may send."""
    missing = {each: frame for each, frame in listener.frames.items() if each not in traffic}
    known = set(listener.frames) | others
    unknown = [each for each in traffic if each not in known and each != listener.keep_alive_id]
    remarks: list[Remark] = []
    values: dict[Point, float] = {}
    if len(missing) == len(listener.frames):
        remarks.append(_silent(listener, traffic, unknown))
    else:
        remarks += [_heard(listener, traffic), *_missing(missing)]
        remarks += _timing(listener, traffic)
        found, doubted = _values(listener, traffic)
        values = found
        remarks += [*doubted, *bms_limits(values, listener.unit.safety)]
        if unknown:
            text = f"heard and in no DBC of this bus: {_ids(unknown)}"
            remarks.append(odd("ids", text, "another device, or a newer firmware of the BMS?"))
    at = listener.at
    what = f"BMS {listener.profile.name}"
    return Sheet(listener.name, what, f"{at.interface} {at.channel}", tuple(remarks), values)


def shifts_of(wanted: set[FrameId], heard: Iterable[FrameId]) -> list[int]:
    """Every offset at which all wanted identifiers were heard."""
    present = set(heard)
    first, extended = min(wanted, default=(0, False))
    shifts = {number - first for number, is_long in present if is_long == extended}
    return sorted(
        shift
        for shift in shifts
        if all((number + shift, is_long) in present for number, is_long in wanted)
    )


def shift_of(wanted: set[FrameId], heard: Iterable[FrameId]) -> int | None:
    """The one such offset, if there is one."""
    fitting = shifts_of(wanted, heard)
    return fitting[0] if len(fitting) == 1 else None


# ---- inside ----------------------------------------------------------------------------------


async def _bus(
    members: Sequence[tuple[UnitSettings, BmsSettings, BmsProfile]], clock: Clock, vppd_runs: bool
) -> list[Sheet]:
    at, profile = members[0][1], members[0][2]
    where = f"{at.interface} {at.channel}"

    def alike(remark: Remark) -> list[Sheet]:
        return [
            Sheet(f"{unit.id}/bms", f"BMS {its.name}", where, (remark,)) for unit, _, its in members
        ]

    if vppd_runs and at.interface in ON_A_LINE:
        text = "not listened to: its serial line has one owner, and vppd runs"
        return alike(odd("reachable", text, "stop vppd first (systemctl stop vppd)"))
    try:
        listeners = [_listener(*member) for member in members]
        seconds = listen_s([each.profile for each in listeners])
        bitrate = at.bitrate or profile.bitrate
        traffic = await overhear(
            at.interface, at.channel, bitrate, at.serial_baudrate, seconds, clock
        )
    except CanHeldError:
        return alike(wrong("reachable", f"{where}: {IN_USE}", ASK_OR_STOP))
    except CanDownError as down:
        return alike(
            wrong("reachable", str(down), "interface up? its name, its bitrate, its plug?")
        )
    except ValueError as error:
        return alike(wrong("profile", str(error), "correct the BMS model"))
    ids = [set(each.frames) | {each.keep_alive_id or (-1, False)} for each in listeners]
    return [
        judged(each, traffic, set().union(*ids[:at_], *ids[at_ + 1 :]))
        for at_, each in enumerate(listeners)
    ]


def _listener(unit: UnitSettings, at: BmsSettings, profile: BmsProfile) -> Listener:
    frames = {
        (number + at.id_offset, extended): frame
        for (number, extended), frame in frames_of(profile, read_dbc(profile)).items()
    }
    return Listener(f"{unit.id}/bms", at, unit, profile, frames)


def _silent(listener: Listener, traffic: Traffic, unknown: Sequence[FrameId]) -> Remark:
    if not traffic:
        remedy = "bitrate, termination, plug, power?"
        if listener.keep_alive_id is not None:
            remedy += " this BMS may only speak to an inverter that sends its keep-alive"
        return wrong("reachable", "nothing at all is heard on the bus", remedy)
    text = f"none of its identifiers is heard, but {_ids(unknown or list(traffic))}"
    shift = shift_of(set(listener.frames), traffic)
    if shift is not None:
        return wrong("ids", text, f"id_offset: {listener.at.id_offset + shift}")
    return wrong("ids", text, "another BMS model (`vppd discover --can`), or another id_offset?")


def _heard(listener: Listener, traffic: Traffic) -> Remark:
    present = [each for each in listener.frames if each in traffic]
    count = sum(traffic[each].count for each in present)
    text = f"{count} frames of {len(present)} of its {len(listener.frames)} identifiers"
    return fine("reachable", text)


def _missing(missing: Mapping[FrameId, Frame]) -> Iterator[Remark]:
    if missing:
        names = ", ".join(f"{frame.name} (0x{number:X})" for (number, _), frame in missing.items())
        remedy = "is it this model and firmware? else a model in devices/ without these frames"
        yield wrong("ids", f"not heard: {names}", remedy)


def _timing(listener: Listener, traffic: Traffic) -> Iterator[Remark]:
    """Lengths and periods; both senders of an identifier halve its period."""
    bad = False
    for each, frame in listener.frames.items():
        heard = traffic.get(each)
        if heard is None:
            continue
        named = f"{frame.name} (0x{each[0]:X})"
        wanted_s = listener.profile.frames[frame.name].period_s
        if heard.length not in frame.lengths:
            bad = True
            text = f"{named} has {heard.length} bytes, not {_either(frame.lengths)}"
            yield wrong("length", text, "another model or firmware of the BMS?")
        if heard.count < FEW:
            continue
        if heard.period_s < TWICE * wanted_s:
            bad = True
            text = f"{named} comes every {heard.period_s:.3f} s, not {wanted_s:g} s"
            yield odd("period", text, "do two BMSs send this identifier? then set id_offset")
        elif heard.period_s > SLOWER * wanted_s:
            bad = True
            text = f"{named} comes every {heard.period_s:.3f} s, not {wanted_s:g} s"
            yield odd("period", text, "a bad bus loses frames; else period_s in an own model")
    if not bad:
        yield fine("ids", "every frame heard has its length and period")


def _values(listener: Listener, traffic: Traffic) -> tuple[dict[Point, float], list[Remark]]:
    picture = Picture(listener.profile, listener.frames, listener.unit.modules_parallel)
    for each, frame in listener.frames.items():
        if each in traffic:
            picture.take(frame, traffic[each].data, 0.0)
    good: dict[Point, float] = {}
    remarks: list[Remark] = []
    for value in picture.values(0.0):
        if value.quality is Quality.GOOD:
            good[value.point] = value.value
        elif value.quality is Quality.IMPLAUSIBLE:
            text = f"{value.point} reads {value.value:g}, which its model calls implausible"
            remarks.append(wrong("value", text, "another BMS model, or its scale in the DBC?"))
        elif value.quality is Quality.MISSING and picture.counters.bad == 0:
            text = f"{value.point}: the BMS says `not available`, or a part of it is missing"
            remarks.append(odd("sentinel", text))
    if good and not remarks:
        remarks.append(fine("values", f"{len(good)} values, all plausible"))
    return good, remarks


def _ids(ids: Sequence[FrameId]) -> str:
    return ", ".join(f"0x{number:X}" for number, _ in sorted(ids))


def _either(lengths: frozenset[int]) -> str:
    return " or ".join(map(str, sorted(lengths)))
