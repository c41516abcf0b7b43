"""A unit as the rules and the shares see it: settings and models boiled down to what they need."""

from dataclasses import dataclass, field, replace

from vppd.core.bms import BmsProfile
from vppd.core.model import Point, UnitId
from vppd.core.profile import ALL_BITS, DeviceProfile
from vppd.core.settings import SafetySettings, UnitSettings

# What every SunSpec inverter has to show; the rest of its points count where it has them.
INVERTER_POINTS = frozenset({Point.INVERTER_KW, Point.INVERTER_STATE, Point.INVERTER_FAULT_BITS})
DEVICE_LIMITS = frozenset({Point.DISCHARGE_MAX_KW, Point.CHARGE_MAX_KW, Point.APPARENT_MAX_KVA})
# What an inverter may know of its battery; whether it does is known when it is found.
# What is judged of a site that is a unit of an aggregator: the rest is the site's own affair.
SITE_POINTS = DEVICE_LIMITS | {
    *(Point.SITE_ONLINE, Point.SITE_OURS),
    *(Point.AVAILABLE_DISCHARGE_KWH, Point.AVAILABLE_CHARGE_KWH),
}
SITE_RAMP_KW_PER_S = 1e6  # none of ours: a site has its own
SITE_REVERT_S = 60.0  # a lost one may still do what it was ordered so long
BATTERY_POINTS = frozenset(
    {
        Point.SOH_PCT,
        Point.CELL_MIN_V,
        Point.CELL_MAX_V,
        Point.CELL_MIN_C,
        Point.CELL_MAX_C,
    }
)
# The names of an inverter's points where it is the only device of its unit.
SOLE = {
    Point.INVERTER_KW: Point.POWER_KW,
    Point.INVERTER_KVAR: Point.REACTIVE_KVAR,
    Point.INVERTER_HZ: Point.FREQUENCY_HZ,
    Point.INVERTER_SOC_PCT: Point.SOC_PCT,
}


# What two devices of a unit may both say of its battery.
SOCS = (Point.SOC_PCT, Point.BMS_SOC_PCT)
HOTTEST = (Point.TEMPERATURE_C, Point.CELL_MAX_C)


@dataclass(frozen=True, slots=True)
class Asset:
    """One unit: its ratings, its limits, and which points a configured source declares. Those that
    `may_show` count like them from their first reading on."""

    id: UnitId
    building: str
    rated_kw: float
    apparent_kva: float
    energy_kwh: float
    modules: int
    priority: int
    safety: SafetySettings
    declared: frozenset[Point]
    may_show: frozenset[Point] = frozenset()
    soc_resolution_pct: float = 0.1
    fault_mask: int = ALL_BITS
    alarm_mask: int = ALL_BITS
    bms_fault_mask: int = ALL_BITS
    bms_warning_mask: int = ALL_BITS
    read_only: bool = False
    reactive_first: bool = False  # in the apparent-power circle
    reverts: bool = True
    revert_s: float = 5.0  # after so long without a word, if it reverts
    # what devices beside the one that takes the setpoints show, by their names
    beside: tuple[tuple[str, frozenset[Point]], ...] = ()
    # those of SOCS and of HOTTEST that it declares
    socs: tuple[Point, ...] = field(init=False, compare=False, repr=False)
    hottest: tuple[Point, ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        for name, points in (("socs", SOCS), ("hottest", HOTTEST)):
            object.__setattr__(self, name, tuple(each for each in points if each in self.declared))

    def device_of(self, point: Point) -> UnitId:
        """The device that shows a point, as alarms name it: the unit's own, or UNIT/NAME."""
        names = (name for name, points in self.beside if point in points)
        name = next(names, None)
        return self.id if name is None else UnitId(f"{self.id}/{name}")


def asset_of(
    unit: UnitSettings, profile: DeviceProfile | None, bms: BmsProfile | None = None
) -> Asset:
    """What the rules need of a configured unit, its controller's map and its BMS's model. A unit
    without any device is a site, as an aggregator has them."""
    if unit.modbus is None and unit.inverter is None and profile is None and bms is None:
        return _site(unit)
    inverter = unit.inverter
    return Asset(
        id=unit.unit,
        building=unit.building,
        rated_kw=unit.rated_power_kw,
        apparent_kva=unit.rated_apparent_kva or unit.rated_power_kw,
        energy_kwh=unit.energy_kwh,
        modules=unit.modules_parallel,
        priority=unit.priority,
        safety=unit.safety,
        declared=_declared(unit, profile, bms),
        may_show=BATTERY_POINTS if profile is None and bms is None else frozenset(),
        soc_resolution_pct=_soc_resolution_pct(profile),
        fault_mask=profile.fault_mask if profile is not None else ALL_BITS,
        alarm_mask=profile.alarm_mask if profile is not None else ALL_BITS,
        bms_fault_mask=bms.fault_mask if bms is not None else ALL_BITS,
        bms_warning_mask=bms.warning_mask if bms is not None else ALL_BITS,
        read_only=inverter is None and (profile is None or profile.read_only),
        reactive_first=unit.reactive_first,
        reverts=inverter is not None or (profile is not None and profile.revert.kind != "none"),
        revert_s=_revert_s(unit, profile),
        beside=_beside(unit, profile, bms),
    )


def _site(unit: UnitSettings) -> Asset:
    return Asset(
        id=unit.unit,
        building=unit.building,
        rated_kw=unit.rated_power_kw,
        apparent_kva=unit.rated_apparent_kva or unit.rated_power_kw,
        energy_kwh=unit.energy_kwh,
        modules=1,
        priority=unit.priority,
        safety=replace(unit.safety, ramp_max_kw_per_s=SITE_RAMP_KW_PER_S),
        declared=SITE_POINTS,
        revert_s=SITE_REVERT_S,
    )


def read_backs(profile: DeviceProfile) -> frozenset[Point]:
    """The points that show what was written to a device."""
    measured = {Point.ALARM_BITS, Point.FAULT_BITS, Point.STATUS_BITS, Point.POWER_KW}
    return frozenset({spec.read_back for spec in profile.writes.values()} - measured)


def _declared(
    unit: UnitSettings, profile: DeviceProfile | None, bms: BmsProfile | None
) -> frozenset[Point]:
    declared: set[Point] = set()
    if profile is not None:
        unread = read_backs(profile) if unit.inverter is not None else frozenset()
        declared |= profile.points.keys() - unread
    if bms is not None:
        declared |= bms.points.keys()
    if unit.inverter is not None:
        declared |= INVERTER_POINTS | DEVICE_LIMITS
        declared |= {Point.SETPOINT_KW, Point.INVERTER_ALARM_BITS}
        if profile is None:
            declared = {SOLE.get(point, point) for point in declared}
            if Point.BMS_SOC_PCT not in declared:
                declared.add(Point.SOC_PCT)
            if bms is None:
                declared.add(Point.SOH_PCT)
    return frozenset(declared)


def _beside(
    unit: UnitSettings, profile: DeviceProfile | None, bms: BmsProfile | None
) -> tuple[tuple[str, frozenset[Point]], ...]:
    found: list[tuple[str, frozenset[Point]]] = []
    if bms is not None:
        found.append(("bms", frozenset(bms.points)))
    if profile is not None and unit.inverter is not None:
        found.append(("controller", frozenset(profile.points) - read_backs(profile)))
    return tuple(found)


def _soc_resolution_pct(profile: DeviceProfile | None) -> float:
    if profile is not None and (spec := profile.points.get(Point.SOC_PCT)) is not None:
        return abs(spec.scale)
    return 1.0  # a BMS or an inverter: as coarse as any that is known


def _revert_s(unit: UnitSettings, profile: DeviceProfile | None) -> float:
    if unit.inverter is not None:
        return float(unit.inverter.revert_s)
    return profile.revert.timeout_s if profile is not None else 0.0
