"""Standing alarms as the socket shows them: what was said when each was raised, what its rule says
now, and what to do about it."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from vppd.core.alarms import MEANINGS, Code
from vppd.core.model import METER, UnitId
from vppd.core.settings import (
    BmsSettings,
    InputModbusSettings,
    InverterSettings,
    MeterSettings,
    ModbusSettings,
    Settings,
)
from vppd.field.audit import folded, told_of
from vppd.northbound.site import Site
from vppd.spine.alarms import Alarm

View = dict[str, object]
At = ModbusSettings | InverterSettings | MeterSettings | InputModbusSettings | BmsSettings
SILENCES = frozenset({Code.LINK_LOST, Code.METER_SILENT, Code.INTERLOCK_SILENT})
INPUT = "input:"


def alarms(site: Site) -> View:
    """All standing alarms, worst first."""
    utc, said = site.clock.utc(), _said_now(site)
    return {
        "alarms": [
            {**alarm(site, each, utc), "now": said.get((each.code, each.unit))}
            for each in site.alarms.standing()
        ]
    }


def alarm(site: Site, each: Alarm, utc: datetime) -> View:
    """One standing alarm: `text` is what was said when it was raised, at `since`."""
    return {
        "code": each.code,
        "unit": each.unit,
        "since": each.since,
        "age_s": (utc - each.since) / timedelta(seconds=1),
        "level": each.level.name.lower(),
        "text": each.text,
        "meaning": MEANINGS[each.code].text,
        "remedy": remedy(each.code, each.unit, site.settings),
    }


def remedy(code: Code, device: UnitId, settings: Settings) -> str | None:
    """What to do about it; of a device that is not heard by what it is reached by."""
    at = _at(device, settings) if code in SILENCES else None
    if at is None:
        return MEANINGS[code].remedy.replace("UNIT", device) or None
    if isinstance(at, BmsSettings):
        bus = f"{at.interface} {at.channel}"
        return f"look at the BMS's power, CAN wiring, termination, bitrate of {bus}"
    if at.serial is not None:
        line = f"{at.baudrate} {at.parity}{at.stopbits}"
        return f"look at its power, wiring, {at.serial} at {line}, unit id {at.unit_id}"
    return f"look at its power, cable, address {at.host}:{at.port}, unit id {at.unit_id}"


def _at(device: UnitId, settings: Settings) -> At | None:
    """How a device is reached, by the name its alarms have; None: not by a line of its own."""
    if device == METER:
        return settings.meter
    if device.startswith(INPUT):
        inputs = settings.interlock_inputs
        return next((each.modbus for each in inputs if f"{INPUT}{each.id}" == device), None)
    id_, _, part = device.partition("/")
    unit = next((each for each in settings.units if each.id == id_), None)
    if unit is None:
        return None
    return {"": unit.inverter or unit.modbus, "controller": unit.modbus, "bms": unit.bms}.get(part)


def _said_now(site: Site) -> Mapping[tuple[Code, UnitId], str]:
    """What every rule said at the last tick, by the code and the device it is told as."""
    return {
        (verdict.rule, told_of(id_, verdict)): verdict.text
        for id_, decision in site.gate.decisions.items()
        for verdict in folded(decision.verdicts)
        if verdict.rule is not Code.LINK_LOST
    }
