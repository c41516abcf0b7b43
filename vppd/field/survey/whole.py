"""`vppd check --live`: every configured device is asked, read-only, and judged.

Lines are asked in parallel, the devices of one line one after another over one connection. Every
device has a bounded time, so the whole survey has: `within_s`.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace

from vppd.core.model import METER, Point
from vppd.core.ports import Clock
from vppd.core.settings import (
    Settings,
    UnitSettings,
)
from vppd.field.build import only_measured
from vppd.field.drivers.modbus import (
    Endpoint,
    quiet_pymodbus,
)
from vppd.field.survey.checks import (
    at_the_meter,
    companions,
    line_time,
)
from vppd.field.survey.remarks import Sheet, odd
from vppd.field.survey.values import Expected
from vppd.field.survey.visit import STOP_FIRST, Stop, Visit, endpoint_of
from vppd.field.survey.wire import Probe

METER_TIMES = 20.0  # a meter may show so many times the site's own power


def lines_of(settings: Settings) -> dict[Endpoint, list[Stop]]:
    """Every Modbus device of a site by its line, in the order of field.yaml."""
    lines: dict[Endpoint, list[Stop]] = {}
    for stop in _stops(settings):
        lines.setdefault(endpoint_of(stop.at), []).append(stop)
    return lines


def within_s(settings: Settings) -> float:
    """The survey of the Modbus lines ends within this."""
    lines = lines_of(settings).values()
    return max((sum(stop.within_s for stop in stops) for stops in lines), default=0.0)


async def survey(settings: Settings, clock: Clock, *, vppd_runs: bool = False) -> list[Sheet]:
    """Ask every Modbus device of the site. `vppd_runs`: devices that serve one client are left to
    it. Raises nothing that a device can cause."""
    quiet_pymodbus()
    sheets: list[Sheet] = []

    async def ride(endpoint: Endpoint, stops: Sequence[Stop]) -> None:
        sheets.extend(await _line(endpoint, stops, clock, vppd_runs))

    async with asyncio.TaskGroup() as group:
        for endpoint, stops in lines_of(settings).items():
            group.create_task(ride(endpoint, stops))
    order = {stop.name: at for at, stop in enumerate(_stops(settings))}
    return sorted(sheets, key=lambda sheet: order[sheet.device])


def cross_checked(sheets: Sequence[Sheet], settings: Settings) -> list[Sheet]:
    """The sheets, unit by unit, with what their devices say of one another added at each unit's
    first."""
    by_name = {sheet.device: sheet for sheet in sheets}
    units_kw: list[float] = []
    for unit in settings.units:
        own = [by_name[name] for name in _names(unit) if name in by_name]
        values = {point: value for sheet in own for point, value in sheet.values.items()}
        power_kw = values.get(Point.INVERTER_KW, values.get(Point.POWER_KW))
        units_kw += [power_kw] if power_kw is not None else []
        if remarks := tuple(companions(values, unit)):
            first = own[0]
            by_name[first.device] = replace(first, remarks=(*first.remarks, *remarks))
    meter = by_name.get(METER)
    meter_kw = meter.values.get(Point.POWER_KW) if meter is not None else None
    if meter is not None and meter_kw is not None and len(units_kw) == len(settings.units):
        remark = at_the_meter(meter_kw, units_kw, _site_kw(settings))
        by_name[METER] = replace(meter, remarks=(*meter.remarks, remark))
    order = [name for unit in settings.units for name in _names(unit)]
    places = {name: place for place, name in enumerate(order)}
    ours = sorted(by_name, key=lambda name: places.get(name, len(places)))
    return [by_name[name] for name in ours]


# ---- what there is ---------------------------------------------------------------------------


def _names(unit: UnitSettings) -> tuple[str, ...]:
    return (unit.id, f"{unit.id}/controller", f"{unit.id}/bms")


def _stops(settings: Settings) -> Iterator[Stop]:
    bands = settings.bands
    hertz = Expected(low_hz=bands.plausible_low_hz, high_hz=bands.plausible_high_hz)
    for unit in settings.units:
        expected = replace(
            hertz,
            power_max_kw=3.0 * unit.rated_power_kw,
            rated_kw=unit.rated_power_kw,
            energy_kwh=unit.energy_kwh,
            modules=unit.modules_parallel,
        )
        if unit.inverter is not None:
            yield Stop(unit.id, "SunSpec inverter", unit.inverter, None, unit, None, expected)
        profile = settings.profile_of(unit)
        if unit.modbus is not None and profile is not None:
            beside = unit.inverter is not None
            name = f"{unit.id}/controller" if beside else unit.id
            used = only_measured(profile) if beside else profile
            yield Stop(name, f"profile {profile.name}", unit.modbus, used, unit, None, expected)
    meter = settings.meter
    if meter is not None and (profile := settings.profiles.get(meter.profile)) is not None:
        power_max_kw = METER_TIMES * _site_kw(settings)
        expected = replace(hertz, ratio=meter.ratio, power_max_kw=power_max_kw)
        used = only_measured(profile)
        yield Stop(METER, f"meter {profile.name}", meter, used, None, None, expected)
    for interlock in settings.interlock_inputs:
        name = f"input:{interlock.id}"
        yield Stop(name, "interlock input", interlock.modbus, None, None, interlock, hertz)


def _site_kw(settings: Settings) -> float:
    connection = settings.connection
    limits = (connection.export_max_kw or 0.0, connection.import_max_kw or 0.0)
    return max(*limits, sum(unit.rated_power_kw for unit in settings.units))


# ---- one line --------------------------------------------------------------------------------


async def _line(
    endpoint: Endpoint, stops: Sequence[Stop], clock: Clock, vppd_runs: bool
) -> list[Sheet]:
    if vppd_runs and (left := _left_to_vppd(endpoint, stops)):
        return left
    probe = Probe(endpoint, clock, 0.0)
    sheets: list[Sheet] = []
    cycles: dict[str, tuple[float, float]] = {}
    try:
        for stop in stops:
            probe.deadline_s = clock.now_s() + stop.within_s
            ids = {each.at.unit_id for each in stops}
            visit = Visit(stop, probe, clock, ids, alone=not cycles)
            await visit.make()
            sheets.append(
                Sheet(stop.name, stop.what, stop.where, tuple(visit.remarks), visit.values)
            )
            if visit.cycle_s is not None:
                cycles[stop.name] = (visit.cycle_s, stop.at.poll_s)
    finally:
        probe.close()
    if (remark := line_time(cycles)) is not None:
        sheets[0] = replace(sheets[0], remarks=(*sheets[0].remarks, remark))
    return sheets


def _left_to_vppd(endpoint: Endpoint, stops: Sequence[Stop]) -> list[Sheet]:
    """What only one may talk to is not taken from the daemon."""
    text = "not asked: it serves one client only, and vppd runs"
    if endpoint.serial is not None:
        text = "not asked: a serial line has one master, and vppd runs"
    elif not any(stop.profile is not None and stop.profile.one_client for stop in stops):
        return []
    remark = odd("reachable", text, STOP_FIRST)
    return [Sheet(stop.name, stop.what, stop.where, (remark,)) for stop in stops]
