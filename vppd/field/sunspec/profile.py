"""From the models of a SunSpec inverter to an ordinary device profile. Pure.

Two ways to drive it. `der`: model 704 in watts (WSet) or, where it has no WSet, in percent of WMax
(WSetPct), with its reversion timer and the heartbeat of 715. Every setpoint is one frame from
WSetEna to the reversion value: enabled, mode, setpoint, 0 to fall back to; a device that restarts
its timer at WSetEna only is renewed as well. `storage`: model 124, OutWRte and InWRte in percent of
WChaMax with opposite signs, so that both bounds meet in the one power; reactive power by VArWMaxPct
of 123. Its connection switch and WMaxLimPct stay as they are.

Reactive power is not written before some is asked for: until then the device regulates its voltage
as it was commissioned to. Sign: + is injected (over-excited), in both generations.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from vppd.core.asset import SOLE
from vppd.core.model import Point
from vppd.core.profile import (
    DeviceProfile,
    Kind,
    PointSpec,
    Revert,
    Step,
    Writable,
    WriteSpec,
)
from vppd.core.settings import InverterSettings, UnitSettings
from vppd.field.blocks import Source, source
from vppd.field.sunspec.models import COMMON, READ_MAX, Found, Model, Models
from vppd.field.sunspec.points import KILO, Readable, battery, limits, measured, watched

WATTS, VARS, W_MAX_PCT = 1, 4, 0  # of 704 WSetMod and VarSetMod
CHARGE_AND_DISCHARGE = 3  # both bits of 124 StorCtl_Mod
VAR_OF_W_MAX = 1  # of 123 VArPct_Mod
_LARGEST = {Kind.I16: 0x7FFF, Kind.I32: 0x7FFFFFFF}  # their least means "not implemented"
BEAT_S = 1.0  # 715: counted up every second
NO_VALUE_U16 = 0xFFFF
DRIVES = ("der", "storage")


@dataclass(frozen=True, slots=True)
class Rendering:
    """A device as the house knows it. `refusal`: why it takes no setpoints, with the remedy."""

    profile: DeviceProfile
    sources: Mapping[Point, Source]
    drive: str = ""
    refusal: str = ""
    relied: Mapping[int, int] = field(default_factory=dict)  # registers that the writes rely on


@dataclass(slots=True)
class Drive:
    """How one device is driven."""

    name: str
    writes: dict[Writable, WriteSpec] = field(default_factory=dict)
    points: dict[Point, PointSpec] = field(default_factory=dict)
    relied: dict[Point, dict[int, int]] = field(default_factory=dict)
    enable: tuple[Step, ...] = ()
    release: tuple[Step, ...] = ()
    reverts: bool = False
    lacks: str = ""  # what the device does not implement
    timer: str = ""  # the name of its reversion timer

    def word(self, write: Writable, model: Model, name: str, point: Point, **more: object) -> None:
        """A register that is written as a plain number and read back."""
        kind = Kind.U32 if len(model.raw(name)) > 1 else Kind.U16
        high = {Kind.U16: 0xFFFE, Kind.U32: 0xFFFFFFFE}[kind]
        spec = WriteSpec(
            address=model.at(name), type=kind, low=0.0, high=float(high), read_back=point
        )
        self.writes[write] = replace(spec, **more)  # type: ignore[arg-type]
        if (shown := model.spec(name)) is not None:
            self.points[point] = shown

    def rely(self, point: Point, model: Model, *names: str) -> None:
        """The writes rely on these registers of a model, which are read with a point."""
        words = self.relied.setdefault(point, {})
        for name in names:
            words.update(enumerate(model.raw(name), model.at(name)))

    def setpoint(
        self, write: Writable, model: Model, name: str, most_kw: float, scale: float, **more: object
    ) -> None:
        """A setpoint in steps of `scale` x 10^n, n as it is now in the device."""
        point = Point.SETPOINT_KW if write is Writable.POWER_KW else Point.SETPOINT_KVAR
        shown = model.spec(name, scale)
        tens = model.tens(name)
        if shown is None or tens is None:
            return
        step = _power(scale, tens)
        most = min(most_kw, step * _LARGEST[shown.type])
        spec = WriteSpec(
            address=shown.address,
            type=shown.type,
            scale=step,
            low=-most,
            high=most,
            read_back=point,
        )
        self.writes[write] = replace(spec, **more)  # type: ignore[arg-type]
        self.points[point] = shown
        if shown.scale_register is not None:
            at = shown.scale_register
            self.relied.setdefault(point, {})[at] = model.registers[at - model.address]


def render(found: Found, unit: UnitSettings, changed: Callable[[], None]) -> Rendering:
    """The profile of what was found. `changed` is called when a poll shows that a register which
    the writes rely on, an exponent say, is another than it was."""
    settings = unit.inverter if unit.inverter is not None else InverterSettings()
    models = found.models
    max_age_s = max(2.5, 2.0 * settings.poll_s + settings.timeout_s)
    read = measured(models, max_age_s)
    _add(read, limits(models))
    if unit.modbus is None and unit.bms is None:
        _add(read, battery(models, max_age_s))
    drive, refusal = _driven(models, unit, settings)
    for point, spec in drive.points.items():
        read.take(point, replace(spec, max_age_s=max_age_s))
    for point, words in drive.relied.items():
        if (shown := read.points.get(point)) is not None:
            made = watched(read.sources.get(point) or source(shown), words, changed)
            if made.block.count <= READ_MAX:  # else a new connection alone looks at them
                read.sources[point] = made
    common = models.get(COMMON)
    released = drive.release if settings.on_stop == "release" else ()
    names = SOLE if unit.modbus is None else {}
    kind = "timeout" if drive.reverts else "none"
    profile = DeviceProfile(
        name="sunspec",
        maker=common.text("Mn") if common is not None else "",
        model=common.text("Md") if common is not None else "",
        firmware=(common.text("Vr"),) if common is not None else (),
        source="SunSpec Information Models, as shipped by pysunspec2 1.3",
        device="inverter",
        read_only=bool(refusal),
        points={names.get(point, point): spec for point, spec in read.points.items()},
        writes={} if refusal else drive.writes,
        enable=drive.enable,
        on_stop=released,
        release=drive.release,
        revert=Revert(
            kind="timeout" if kind == "timeout" else "none",
            timeout_s=float(settings.revert_s),
            heartbeat_s=BEAT_S,
        ),
    )
    sources = {names.get(point, point): made for point, made in read.sources.items()}
    relied = {at: word for words in drive.relied.values() for at, word in words.items()}
    return Rendering(profile, sources, drive.name, refusal, relied)


def _add(readable: Readable, more: Readable) -> None:
    readable.points.update(more.points)
    readable.sources.update(more.sources)


def _power(scale: float, tens: int) -> float:
    """scale x 10^tens as the decimal that it is."""
    return float(f"{scale:.12g}e{tens}") if "e" not in f"{scale:.12g}" else scale * 10.0**tens


def _driven(models: Models, unit: UnitSettings, settings: InverterSettings) -> tuple[Drive, str]:
    """The drive that is asked for, or the better of both; and why it cannot be used."""
    names = DRIVES if settings.drive == "auto" else (settings.drive,)
    tried = [
        der(models, unit, settings) if name == "der" else storage(models, settings)
        for name in names
    ]
    drive = next((each for each in tried if not each.lacks), None)
    if drive is None:
        return Drive(""), "cannot be driven: " + "; ".join(each.lacks for each in tried)
    if not drive.reverts and not unit.accept_no_revert:
        text = f"its reversion timer ({drive.timer}) is not implemented: it would keep its last"
        return drive, f"{text} setpoint for ever; accept_no_revert: true in the unit accepts that"
    return drive, ""


def _most(models: Models, name: str, other: str, rated_kw: float) -> float:
    """The larger of what a device says it can do and what the unit is rated for, in kilo."""
    found = [
        value * KILO
        for number, each in ((702, name), (120, other))
        if number in models and each and (value := models[number].value(each)) is not None
    ]
    return max(rated_kw, *found) if found else rated_kw


# ---- 704 and 715 ------------------------------------------------------------------------------


def der(models: Models, unit: UnitSettings, settings: InverterSettings) -> Drive:
    """Models 704 and 715."""
    drive = Drive("der", timer="704 WSetRvrtTms")
    control = models.get(704)
    if control is None:
        drive.lacks = "no model 704"
        return drive
    most_kw = _most(models, "WMaxRtg", "WRtg", unit.rated_power_kw)
    power = Writable.POWER_KW
    if control.has("WSet"):
        mode = WATTS
        zero = (0, 0) if control.has("WSetRvrt") else ()
        drive.setpoint(power, control, "WSet", most_kw, KILO, before=(1, mode), after=zero)
    elif control.has("WSetPct") and (w_max := _of(models, 702, "WMax", "WMaxRtg")):
        mode, w_max_kw = W_MAX_PCT, w_max * KILO
        skipped = control.raw("WSet") + control.raw("WSetRvrt")
        zero_pct = (0,) if control.has("WSetPctRvrt") else ()
        scale = w_max_kw / 100.0
        drive.rely(Point.DISCHARGE_MAX_KW, models[702], "WMax", "WMaxRtg", "W_SF")
        drive.setpoint(
            power, control, "WSetPct", w_max_kw, scale, before=(1, mode, *skipped), after=zero_pct
        )
    else:
        drive.lacks = "model 704 implements neither WSet nor WSetPct with WMax of 702"
        return drive
    drive.word(Writable.MODE, control, "WSetMod", Point.MODE)
    drive.word(Writable.ENABLED, control, "WSetEna", Point.ENABLED)
    drive.enable = (Step(write=Writable.MODE, value=mode), Step(write=Writable.ENABLED, value=1))
    drive.release = (Step(write=Writable.ENABLED, value=0),)
    home = "WSetRvrt" if mode == WATTS else "WSetPctRvrt"
    if not control.has(home):
        drive.timer = f"704 {home}"  # a timer that ends in no setpoint of ours is none
    elif control.has("WSetRvrtTms"):
        drive.reverts = True
        to = (1,) if control.has("WSetEnaRvrt") else ()
        point = Point.COMMAND_TIMEOUT_S
        drive.word(Writable.COMMAND_TIMEOUT_S, control, "WSetRvrtTms", point, before=to)
    _der_reactive(drive, control, models, unit, settings)
    _der_control(drive, models.get(715))
    return drive


def _of(models: Models, number: int, *names: str) -> float:
    """The first of these that is implemented and not 0, else 0."""
    model = models.get(number)
    values = (model.value(name) for name in names) if model is not None else ()
    return next((value for value in values if value), 0.0)


def _der_reactive(
    drive: Drive, control: Model, models: Models, unit: UnitSettings, settings: InverterSettings
) -> None:
    """VarSet in one frame from VarSetEna to its reversion time; what of it is not ours is written
    as it was read."""
    if not control.has("VarSet"):
        return
    priority = int(unit.reactive_first) if control.has("VarSetPri") else NO_VALUE_U16
    back = (0, 0) if control.has("VarSetRvrt") else control.raw("VarSetRvrt")
    on = (1,) if control.has("VarSetEnaRvrt") else control.raw("VarSetEnaRvrt")
    timed = control.has("VarSetRvrtTms") and drive.reverts
    timer = (0, settings.revert_s) if timed else control.raw("VarSetRvrtTms")
    kept = control.raw("VarSetPct") + control.raw("VarSetPctRvrt")
    most_kvar = _most(models, "VarMaxInjRtg", "", unit.rated_apparent_kva or unit.rated_power_kw)
    drive.setpoint(
        Writable.REACTIVE_KVAR,
        control,
        "VarSet",
        most_kvar,
        KILO,
        before=(1, VARS, priority),
        after=(*back, *kept, *on, *timer),
        when_asked=True,
    )
    drive.word(Writable.REACTIVE_ENABLED, control, "VarSetEna", Point.REACTIVE_ENABLED)
    drive.release += (Step(write=Writable.REACTIVE_ENABLED, value=0),)


def _der_control(drive: Drive, control: Model | None) -> None:
    if control is None:
        return
    if control.has("ControllerHb"):
        drive.word(Writable.HEARTBEAT, control, "ControllerHb", Point.HEARTBEAT)
    if control.has("AlarmReset"):
        shown = Point.INVERTER_ALARM_BITS
        spec = WriteSpec(
            address=control.at("AlarmReset"), type=Kind.U16, low=0.0, high=1.0, read_back=shown
        )
        drive.writes[Writable.RESET_ALARMS] = spec


# ---- 124 and 123 ------------------------------------------------------------------------------


def storage(models: Models, settings: InverterSettings) -> Drive:
    """Models 124 and 123."""
    drive = Drive("storage", timer="124 InOutWRte_RvrtTms")
    store = models.get(124)
    most_kw = _of(models, 124, "WChaMax") * KILO
    if store is None or not most_kw or not (store.has("OutWRte") and store.has("InWRte")):
        drive.lacks = "no model 124 with WChaMax, OutWRte and InWRte"
        return drive
    power = Writable.POWER_KW
    drive.setpoint(power, store, "OutWRte", most_kw, most_kw / 100.0, mirror=True)
    drive.rely(Point.SETPOINT_KW, store, "WChaMax", "WChaMax_SF")
    drive.word(Writable.ENABLED, store, "StorCtl_Mod", Point.ENABLED)
    drive.enable = (Step(write=Writable.ENABLED, value=CHARGE_AND_DISCHARGE),)
    drive.release = (Step(write=Writable.ENABLED, value=0),)
    if store.has("InOutWRte_RvrtTms"):
        drive.reverts = True
        point = Point.COMMAND_TIMEOUT_S
        drive.word(Writable.COMMAND_TIMEOUT_S, store, "InOutWRte_RvrtTms", point)
    _storage_reactive(drive, models, settings)
    return drive


def _storage_reactive(drive: Drive, models: Models, settings: InverterSettings) -> None:
    """VArWMaxPct in one frame to VArPct_Ena; what of it is not ours is written as it was read."""
    control = models.get(123)
    w_max_kw = (_of(models, 121, "WMax") or _of(models, 120, "WRtg")) * KILO
    if control is None or not w_max_kw or not control.has("VArWMaxPct"):
        return
    if (ratings := models.get(121)) is not None:
        drive.rely(Point.DISCHARGE_MAX_KW, ratings, "WMax", "WMax_SF")
    timed = control.has("VArPct_RvrtTms") and drive.reverts
    timer = (settings.revert_s,) if timed else control.raw("VArPct_RvrtTms")
    kept = control.raw("VArMaxPct") + control.raw("VArAvalPct") + control.raw("VArPct_WinTms")
    mode = VAR_OF_W_MAX if control.has("VArPct_Mod") else NO_VALUE_U16
    drive.setpoint(
        Writable.REACTIVE_KVAR,
        control,
        "VArWMaxPct",
        w_max_kw,
        w_max_kw / 100.0,
        after=(*kept, *timer, *control.raw("VArPct_RmpTms"), mode, 1),
        when_asked=True,
    )
    drive.word(Writable.REACTIVE_ENABLED, control, "VArPct_Ena", Point.REACTIVE_ENABLED)
    drive.release += (Step(write=Writable.REACTIVE_ENABLED, value=0),)
